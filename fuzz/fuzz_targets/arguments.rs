// SPDX-License-Identifier: GPL-2.0-only

//! See [`writeboost_fuzz::arguments`].

#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| writeboost_fuzz::arguments::run(data));
