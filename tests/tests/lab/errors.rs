//! Devices that fail: what is dirty and readable stays so, and tasks that wait are told.

use crate::support::{from_file, script, Test};

/// The tests.
pub const TESTS: &[Test] = &[
    from_file!(script(errors::a_resume_forgets_old_verdicts, 30, true, "faults", "errors")),
    from_file!(script(errors::backing_device_fails_and_comes_back, 15, true, "faults", "errors")),
    from_file!(script(errors::cache_device_cannot_be_written, 15, true, "faults", "errors")),
    from_file!(script(errors::cache_device_cannot_be_read, 15, true, "faults", "errors")),
    from_file!(script(errors::full_cache_that_cannot_be_read, 75, true, "faults", "errors")),
    from_file!(script(errors::full_cache_that_can_be_read_again, 75, true, "faults", "errors")),
    from_file!(script(errors::no_pace_for_a_dead_device, 20, true, "faults", "errors")),
    from_file!(script(errors::a_drain_in_vain, 20, true, "faults", "errors")),
    from_file!(script(errors::a_dirty_block_is_lost_slowly, 90, true, "faults", "errors")),
    from_file!(script(errors::under_load, 20, false, "faults", "errors")),
    from_file!(script(errors::a_dirty_block_is_lost, 30, true, "faults", "errors")),
];
