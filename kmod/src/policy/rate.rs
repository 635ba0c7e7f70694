// SPDX-License-Identifier: GPL-2.0-only

//! A limit for the rate of writeback: when the next blocks may be written back under it.
//!
//! # Invariant
//! Over any time it lets through at most the amount of the limit and of a tenth of a second more, apart from
//! the last chunk that was let through. The debt carries over when the limit changes, but is capped, so that
//! writeback under a higher limit does not wait for a debt made under a low one.

use crate::format::BLOCK;

/// Unused time is kept for so many nanoseconds, because a waiting thread is woken late.
const SAVED_NS: u64 = 100_000_000;

/// A chunk that is written back together takes so many nanoseconds of the limit, unless it is a single block.
const CHUNK_NS: u64 = 250_000_000;

/// A second and a millisecond.
const SECOND: u64 = 1_000_000_000;
const MS: u64 = 1_000_000;

/// The time when the next chunk is due, as if there had always been a limit.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rate {
    /// In nanoseconds since boot.
    due_ns: u64,
}

impl Rate {
    /// The milliseconds to wait until the next blocks may be written back; 0 for none.
    pub fn wait_ms(&self, now_ms: u64) -> u64 {
        self.due_ns.saturating_sub(now_ms * MS).div_ceil(MS)
    }

    /// So many blocks are written back, with a limit of so many KiB a second, at least 1.
    pub fn took(&mut self, blocks: usize, limit_kib: u32, now_ms: u64) {
        let cost_ns = ((blocks * (BLOCK >> 10)) as u64 * SECOND).div_ceil(u64::from(limit_kib.max(1)));
        self.due_ns = self.due_ns.max((now_ms * MS).saturating_sub(SAVED_NS)) + cost_ns;
    }

    /// There is another limit from now on.
    pub fn changed(&mut self, now_ms: u64) {
        self.due_ns = self.due_ns.min(now_ms * MS + CHUNK_NS);
    }

    /// The number of blocks to write back together, of at most `most`: a quarter of a second's worth.
    pub fn chunk(limit_kib: u32, most: usize) -> usize {
        (limit_kib as usize / (BLOCK >> 10) / (SECOND / CHUNK_NS) as usize).clamp(1, most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Blocks that are let through within `ms` milliseconds from 10 s after boot on, when all that may go is
    /// taken at once.
    fn blocks_in(ms: u64, limit_kib: u32, most: usize) -> u64 {
        let mut rate = Rate::default();
        let mut all = 0;
        for now in 10_000..10_000 + ms {
            while rate.wait_ms(now) == 0 {
                let n = Rate::chunk(limit_kib, most);
                rate.took(n, limit_kib, now);
                all += n as u64;
            }
        }
        all
    }

    #[test]
    fn the_limit_is_kept() {
        for (limit, ms) in [(4, 20_000), (100, 20_000), (4096, 10_000), (1 << 20, 4000)] {
            let due = ms * u64::from(limit) / 4 / 1000;
            let found = blocks_in(ms, limit, 256);
            let most = due + u64::from(limit) / 4 / 10 + Rate::chunk(limit, 256) as u64 + 1;
            assert!(
                (due - due / 1000..=most).contains(&found),
                "{found} blocks at {limit} KiB/s in {ms} ms, not {due}"
            );
        }
    }

    #[test]
    fn what_was_not_taken_is_not_saved_up() {
        let mut rate = Rate::default();
        rate.took(1, 4, 10_000);
        assert_eq!(rate.wait_ms(10_000), 900);
        assert_eq!(rate.wait_ms(10_901), 0);
        // After an hour without writeback.
        rate.took(100, 400, 3_600_000);
        assert_eq!(rate.wait_ms(3_600_000), 900);
        // Under a higher limit the debt of a low one is not waited for either.
        rate.changed(3_600_000);
        assert_eq!(rate.wait_ms(3_600_000), 250);
        rate.changed(3_600_200);
        assert_eq!(rate.wait_ms(3_600_200), 50);
    }

    #[test]
    fn it_is_due_when_it_says() {
        let mut rate = Rate::default();
        rate.took(10, 7, 5_000);
        let wait = rate.wait_ms(5_000);
        assert_eq!((rate.wait_ms(5_000 + wait - 1), rate.wait_ms(5_000 + wait)), (1, 0));
    }

    #[test]
    fn chunks() {
        assert_eq!([1, 16, 64, 4096, u32::MAX].map(|kib| Rate::chunk(kib, 256)), [1, 1, 4, 256, 256]);
    }
}
