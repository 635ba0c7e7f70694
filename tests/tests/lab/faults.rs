//! Faults of devices and of memory, one kind after the other: what is lost and what is not, and what the
//! volume says. `docs/faults.md` has a line for each of these.

use anyhow::Result;

use crate::support::{code, failing, from_file, script, shell, test, Bench, Body, Level, Test};

/// The tests.
pub const TESTS: &[Test] = &[
    code("faults::swap_on_a_volume", 60, false, swap),
    code("faults::memory_in_pieces", 20, false, in_pieces),
    test("faults::no_memory_for_a_volume", 120, Level::Full, Body::Debug(no_memory)),
    from_file!(failing(faults::the_target_that_fails, 5, true, "faults")),
    from_file!(failing(faults::part_of_the_cache_device_is_away, 60, true, "faults")),
    from_file!(failing(faults::the_medium_has_lost_a_block, 60, true, "faults")),
    from_file!(failing(faults::a_lost_block_is_known_before_room_is_short, 30, true, "faults")),
    from_file!(failing(faults::one_unreadable_sector, 60, true, "faults")),
    from_file!(failing(faults::drain_whose_checkpoint_fails, 30, true, "faults")),
    from_file!(script(faults::events, 15, true, "faults")),
    from_file!(script(faults::silent_devices, 60, true, "faults")),
    from_file!(script(faults::memory_changes_while_it_is_read_to, 20, true, "faults")),
    from_file!(script(faults::cache_device_fails_for_a_moment, 25, true, "faults")),
    from_file!(script(faults::flush_fails_and_the_device_forgets, 10, true, "faults")),
    from_file!(script(faults::cache_device_fails_for_good, 30, false, "faults")),
    from_file!(script(faults::bits_flip_in_clean_blocks, 10, true, "faults")),
    from_file!(script(faults::bits_flip_in_dirty_blocks, 20, true, "faults")),
    from_file!(script(faults::bits_flip_in_the_metadata_of_a_live_volume, 10, true, "faults")),
    from_file!(script(faults::unreadable_behind_the_log, 15, true, "faults")),
    from_file!(script(faults::drain_of_a_bad_block_while_written, 20, true, "faults")),
    from_file!(script(faults::bad_blocks_on_the_backing_device, 30, true, "faults")),
    from_file!(script(faults::backing_device_forgets_with_an_error, 10, true, "faults")),
    from_file!(failing(faults::bypass_of_a_full_cache, 40, true, "faults")),
    from_file!(script(faults::parts_of_larger_blocks, 10, true, "faults")),
    from_file!(script(faults::a_stretch_of_bad_blocks, 15, true, "faults")),
    from_file!(script(faults::unreadable_blocks_on_the_backing_device, 10, true, "faults")),
    from_file!(script(faults::backing_device_is_away_for_a_while, 20, false, "faults")),
    from_file!(script(faults::devices_vanish, 30, false, "faults")),
    from_file!(script(faults::torn_superblock, 30, true, "faults")),
];

/// Memory runs short while what could make room for it has to go through the volume: swap on a file of a
/// filesystem there.
fn swap(cx: &Bench) -> Result<()> {
    let guest = cx.guest()?.mem(160).disk(cx.disk("backing", 400)?).disk(cx.disk("cache", 32)?);
    cx.run(guest, shell!("faults/swap_on_a_volume"))?;
    Ok(())
}

/// A volume for which there is memory enough, but none in one piece.
fn in_pieces(cx: &Bench) -> Result<()> {
    cx.run(cx.guest()?.mem(500), shell!("faults/memory_in_pieces"))?;
    Ok(())
}

/// Each allocation that the target's constructor makes fails once.
fn no_memory(cx: &Bench) -> Result<()> {
    cx.run_provoking(
        cx.guest()?,
        shell!("faults/no_memory_for_a_volume"),
        // The kernel shows where a slab or a vmalloc'ed area could not be made.
        &["Call Trace"],
    )?;
    Ok(())
}
