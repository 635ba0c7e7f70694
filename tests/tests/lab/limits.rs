//! The limits that a volume tells the layers above it: sizes of sectors, alignment, read-ahead, and the
//! like. Nothing of the cache device may show.

use crate::support::{from_file, script, Test};

/// The tests.
pub const TESTS: &[Test] = &[
    from_file!(script(limits::of_the_backing_device, 15, true, "limits")),
    from_file!(script(limits::memory_that_the_cache_device_does_not_take, 15, true, "limits")),
    from_file!(script(limits::sectors_of_512_bytes_on_a_cache_of_4096, 25, true, "limits")),
];
