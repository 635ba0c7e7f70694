//! What must be refused: with a reason that says what is wrong, and with both devices unchanged byte for
//! byte.

use crate::support::{from_file, script, Test};

/// The tests.
pub const TESTS: &[Test] = &[
    from_file!(script(refuse::arguments, 40, false, "refuse")),
    from_file!(script(refuse::sizes, 10, true, "refuse")),
    from_file!(script(refuse::devices_in_use, 10, true, "refuse")),
    from_file!(script(refuse::what_is_on_the_cache_device, 20, true, "refuse")),
    from_file!(script(refuse::not_blank, 20, true, "refuse")),
    from_file!(script(refuse::the_same_volume_twice, 20, true, "refuse")),
    from_file!(script(refuse::devices_that_do_not_fit, 20, true, "refuse")),
    from_file!(script(refuse::exchanged, 10, true, "refuse")),
    from_file!(script(refuse::damage, 30, false, "refuse")),
    from_file!(script(refuse::damaged_data, 10, true, "refuse")),
];
