//! Steering writeback: options that change while the volume is in use, the dead man's rule, the report and
//! events.

use crate::support::{from_file, script, Test};

/// The tests.
pub const TESTS: &[Test] = &[
    from_file!(script(steer::options, 10, true, "steer")),
    from_file!(script(steer::threshold, 30, true, "steer")),
    from_file!(script(steer::rate_limit, 45, true, "steer")),
    from_file!(script(steer::dead_man, 30, true, "steer")),
    from_file!(script(steer::report, 20, true, "steer")),
    from_file!(script(steer::events, 60, true, "steer")),
];
