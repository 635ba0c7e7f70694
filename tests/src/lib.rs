//! What the integration tests do inside guests: histories of writes, and what a volume must look like after
//! them.
//!
//! The program `wbtest` runs this in guests; the tests themselves, on the host, are in `tests/lab`.

pub mod device;
pub mod files;
pub mod history;
pub mod log_writes;
pub mod memory;
pub mod random;
pub mod record;
pub mod tree;
