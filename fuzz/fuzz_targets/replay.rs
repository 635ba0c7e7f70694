// SPDX-License-Identifier: GPL-2.0-only

//! See [`writeboost_fuzz::replay`].

#![no_main]

use writeboost_fuzz::{image::Image, mutate, rng::Rng};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    writeboost_fuzz::replay::run(data);
});

// The fuzzer's own changes are blind: most of them give a log that ends sooner. Half of the changes know what
// is what.
libfuzzer_sys::fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut rng = Rng::new(seed.into());
    if rng.one_in(2) {
        return libfuzzer_sys::fuzzer_mutate(data, size, max_size);
    }
    let mut image = Image::read(&data[..size]);
    mutate::image(&mut rng, &mut image);
    let bytes = image.write();
    let n = bytes.len().min(max_size);
    data[..n].copy_from_slice(&bytes[..n]);
    n
});
