// SPDX-License-Identifier: GPL-2.0-only

//! Atomics at which a task of a simulation sometimes lets others go first: at each such moment another
//! processor could have done something. They are sequentially consistent, whatever order is requested. The
//! effects of weaker orders are for loom.

use super::simulation::may_give_way;
use core::sync::atomic;
pub use core::sync::atomic::{fence, Ordering};

macro_rules! atomic {
    ($name:ident, $value:ty) => {
        /// Like the atomic of the same name in `core`.
        #[derive(Debug, Default)]
        pub struct $name(atomic::$name);

        #[allow(missing_docs)]
        impl $name {
            pub const fn new(value: $value) -> Self {
                Self(atomic::$name::new(value))
            }

            pub fn load(&self, _: Ordering) -> $value {
                may_give_way();
                self.0.load(Ordering::SeqCst)
            }

            pub fn store(&self, value: $value, _: Ordering) {
                may_give_way();
                self.0.store(value, Ordering::SeqCst);
            }

            pub fn swap(&self, value: $value, _: Ordering) -> $value {
                may_give_way();
                self.0.swap(value, Ordering::SeqCst)
            }

            pub fn compare_exchange(
                &self,
                current: $value,
                new: $value,
                _: Ordering,
                _: Ordering,
            ) -> Result<$value, $value> {
                may_give_way();
                self.0.compare_exchange(current, new, Ordering::SeqCst, Ordering::SeqCst)
            }

            pub fn fetch_or(&self, value: $value, _: Ordering) -> $value {
                may_give_way();
                self.0.fetch_or(value, Ordering::SeqCst)
            }

            pub fn fetch_and(&self, value: $value, _: Ordering) -> $value {
                may_give_way();
                self.0.fetch_and(value, Ordering::SeqCst)
            }
        }
    };
}

macro_rules! number {
    ($name:ident, $value:ty) => {
        atomic!($name, $value);

        #[allow(missing_docs)]
        impl $name {
            pub fn fetch_add(&self, value: $value, _: Ordering) -> $value {
                may_give_way();
                self.0.fetch_add(value, Ordering::SeqCst)
            }

            pub fn fetch_sub(&self, value: $value, _: Ordering) -> $value {
                may_give_way();
                self.0.fetch_sub(value, Ordering::SeqCst)
            }

            pub fn fetch_max(&self, value: $value, _: Ordering) -> $value {
                may_give_way();
                self.0.fetch_max(value, Ordering::SeqCst)
            }

            pub fn fetch_update(
                &self,
                _: Ordering,
                _: Ordering,
                f: impl FnMut($value) -> Option<$value>,
            ) -> Result<$value, $value> {
                may_give_way();
                self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, f)
            }
        }
    };
}

atomic!(AtomicBool, bool);
number!(AtomicI32, i32);
number!(AtomicU32, u32);
number!(AtomicU64, u64);
