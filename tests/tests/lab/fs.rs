//! Filesystems.

use crate::support::{from_file, script, Test};

/// The tests.
pub const TESTS: &[Test] = &[
    from_file!(script(fs::ext4, 15, true, "fs")),
    from_file!(script(fs::xfs, 15, false, "fs")),
    from_file!(script(fs::full_and_suspended, 15, false)),
];
