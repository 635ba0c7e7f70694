// SPDX-License-Identifier: GPL-2.0-only

//! Limits how often something may happen, whichever thread wants it: a line in the kernel's log.

use crate::host::atomic::{AtomicU64, Ordering};

/// Lets one event through in so many milliseconds. In any context, and from several processors at once.
#[derive(Debug, Default)]
pub struct Seldom {
    /// When the last event was let through, in milliseconds since boot; 0 for never.
    last_ms: AtomicU64,
}

impl Seldom {
    /// Whether it may happen now, `now_ms` milliseconds since boot. The last time must be at least `every_ms`
    /// ago.
    ///
    /// Between the caller's look at the clock and this, another processor may have been let through at a
    /// later moment. That is not long ago.
    pub fn may(&self, now_ms: u64, every_ms: u64) -> bool {
        let last = self.last_ms.load(Ordering::Relaxed);
        (last == 0 || now_ms.saturating_sub(last) >= every_ms)
            && self
                .last_ms
                .compare_exchange(last, now_ms.max(1), Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
    }
}

#[cfg(test)]
#[cfg(not(feature = "loom"))]
mod tests {
    use super::*;

    #[test]
    fn once_in_a_while() {
        let seldom = Seldom::default();
        assert!(seldom.may(0, 1000));
        assert!(!seldom.may(1000, 1000));
        assert!(seldom.may(1001, 1000));
        assert!(!seldom.may(1001, 1000) && !seldom.may(2000, 1000));
        assert!(seldom.may(2001, 1000));
    }

    #[test]
    fn somebody_was_let_through_later_than_now() {
        let seldom = Seldom::default();
        assert!(seldom.may(5001, 1000));
        // This caller has looked at the clock earlier, and was held up since.
        assert!(!seldom.may(5000, 1000));
        assert!(seldom.may(6001, 1000));
    }
}
