//! Reads and writes of all kinds, with everything that was written read back and compared.

use crate::support::{from_file, script, Test};

/// The tests.
pub const TESTS: &[Test] = &[
    from_file!(script(io::random_sizes, 15, true)),
    from_file!(script(io::nowait, 10, false)),
    from_file!(script(io::slow_devices, 25, false)),
    from_file!(script(io::cache_smaller_than_working_set, 40, false)),
    from_file!(script(io::pace_of_a_full_cache, 30, true)),
    from_file!(script(io::drain_while_written, 30, true)),
    from_file!(script(io::hot_blocks_in_a_small_cache, 20, true)),
    from_file!(script(io::flush_and_fua, 20, true)),
    from_file!(script(io::large, 15, false)),
    from_file!(script(io::reads_from_everywhere, 20, true)),
    from_file!(script(io::a_slow_read_holds_up_no_write, 20, true)),
    from_file!(script(io::cached_parts_beside_a_silent_backing_device, 15, true)),
    from_file!(script(io::read_ahead_while_a_device_is_suspended, 15, true)),
    from_file!(script(io::suspend_during_a_drain, 25, true)),
    from_file!(script(io::suspend_under_load, 20, true)),
    from_file!(script(io::two_volumes, 15, false)),
    from_file!(script(io::blocks_of_4096_bytes, 15, false)),
    from_file!(script(io::odd_size, 10, true)),
    from_file!(script(io::one_of_several_targets, 10, true)),
    from_file!(script(io::acceptance, 75, false)),
];
