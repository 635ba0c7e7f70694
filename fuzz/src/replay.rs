// SPDX-License-Identifier: GPL-2.0-only

//! A whole cache device: what [`Image`] tells, opened, used, opened again.

use crate::image::Image;
use crate::volume::{self, Fate};

/// Most things that a script does.
const MOST: usize = 100;

/// The input is an image, and behind it what is done with the volume.
pub fn run(input: &[u8]) -> Fate {
    let image = Image::read(input);
    let again = image.write();
    assert_eq!(Image::read(&again), image, "the mutator must not lose anything");
    check(&image)
}

/// Opens the image and uses the volume.
pub fn check(image: &Image) -> Fate {
    volume::live(image.build(), &image.script, MOST)
}
