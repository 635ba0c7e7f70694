// SPDX-License-Identifier: GPL-2.0-only

//! Nothing read from a device is trusted: images that a crash has left are changed at random, with the
//! checksums put right again. The result is an error or a volume that works. Never a panic, never an endless
//! loop.
//!
//! `WRITEBOOST_SEED` and `WRITEBOOST_RUNS` as in `crash.rs` of the engine. With `WRITEBOOST_SEEDS=DIR` each
//! unchanged image is also written to that directory, as an input from which the fuzzer may begin.

#[path = "../../kmod/tests/sim/mod.rs"]
mod sim;

use sim::volume::Sim;
use std::panic::{catch_unwind, AssertUnwindSafe};
use writeboost::format::Superblock;
use writeboost_fuzz::{
    device::Device,
    image::Image,
    mutate, replay,
    rng::Rng,
    volume::{open, Fate},
};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|v| v.parse().unwrap_or_else(|_| panic!("{name} is not a number: {v}")))
}

/// A volume whose life has ended in a crash, and the image of its cache device: told, and found to be told
/// rightly.
fn image(rng: &mut Rng, seed: u64) -> Image {
    let lives = rng.below(3);
    // Some volumes of the crash model have more segments than the fuzzer's device has room for.
    let fits = |(sb, _): &(Superblock, Vec<u8>)| sb.cache_sectors() <= Device::default().sectors();
    let some = (0..).map(|i| {
        let mut sim = Sim::new(seed + (i << 32));
        (0..lives).for_each(|_| drop(sim.image()));
        sim.image()
    });
    let (sb, bytes) = some.take(100).find(fits).expect("a volume that fits");
    let mut image = Image::of(&sb, &bytes);
    assert_eq!(open(image.build()), open(Device::of(&bytes)), "the image is not told rightly");
    image.script = (0..rng.below(60)).map(|_| rng.next() as u8).collect();
    assert_eq!(Image::read(&image.write()), image);
    image
}

#[test]
fn no_image_makes_it_panic() {
    let seeds = match number("WRITEBOOST_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("WRITEBOOST_RUNS").unwrap_or(60),
    };
    let keep = std::env::var_os("WRITEBOOST_SEEDS").map(std::path::PathBuf::from);
    let many = seeds.end - seeds.start > 1;
    let mut fates = Vec::new();
    for seed in seeds {
        let one = || {
            let mut rng = Rng::new(seed ^ 0xb0b0);
            let good = image(&mut rng, seed);
            if let Some(dir) = &keep {
                std::fs::write(dir.join(format!("seed-{seed}")), good.write()).unwrap();
            }
            assert_eq!(replay::check(&good), Fate::Works);
            let mut fates = Vec::new();
            for _ in 0..8 {
                let mut image = good.clone();
                for _ in 0..rng.range(1, 6) {
                    mutate::image(&mut rng, &mut image);
                }
                fates.push(replay::check(&image));
            }
            fates
        };
        match catch_unwind(AssertUnwindSafe(one)) {
            Ok(some) => fates.extend(some),
            Err(_) => panic!("seed {seed}: WRITEBOOST_SEED={seed} repeats it"),
        }
    }
    let count = |fate| fates.iter().filter(|&&f| f == fate).count();
    let counts = [Fate::Refused, Fate::Damaged, Fate::Works].map(count);
    println!("refused, damaged, works: {counts:?}");
    assert!(!many || counts.iter().all(|&n| n > 0));
}
