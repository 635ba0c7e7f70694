// SPDX-License-Identifier: GPL-2.0-only

//! Hostile bytes: nothing that is read from a device or that stands in a table line is trusted, and here is
//! what must hold whatever it is. The fuzz targets in `fuzz_targets/` call these functions with bytes that
//! cargo-fuzz makes up; `tests/corpus.rs` calls them with the inputs in `corpus/`, without any fuzzer, in
//! each run of the tests.
//!
//! A function that returns is content; one that panics has found something.

pub mod arguments;
pub mod bytes;
pub mod device;
pub mod headers;
pub mod image;
pub mod mutate;
pub mod replay;
#[path = "../../kmod/tests/sim/rng.rs"]
#[allow(missing_docs, clippy::should_implement_trait)]
pub mod rng;
pub mod superblock;
pub mod volume;

/// A fuzz target: its name, which is also that of its directory in `corpus/`, and what it does with an input.
pub type Target = (&'static str, fn(&[u8]));

/// All fuzz targets.
pub const TARGETS: [Target; 4] = [
    ("superblock", superblock::run),
    ("headers", headers::run),
    ("replay", |input| {
        replay::run(input);
    }),
    ("arguments", arguments::run),
];

/// CRC-32C over `b` with the four bytes at `at` taken as zero, written there: as in every structure of the
/// format.
pub fn fix_checksum(b: &mut [u8], at: usize) {
    b[at..at + 4].fill(0);
    let crc = writeboost::host::crc32c(0, b);
    b[at..at + 4].copy_from_slice(&crc.to_le_bytes());
}
