// SPDX-License-Identifier: GPL-2.0-only

//! The verdict of `wbformat` and `wbctl` on a hostile cache device is the volume's verdict. The images are
//! those that the fuzzer has kept.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
};
use wbhost::{
    device::{Access, Device},
    host::Host,
    inspect::{self, Contents, Depth, Log},
    DeviceError,
};
use writeboost::format::{Superblock, BLOCK, SECTOR};
use writeboost_fuzz::{
    image::Image,
    volume::{open, Fate},
};

fn tools(image: &Image, path: &Path, depth: Depth) -> Result<Contents, DeviceError> {
    let device = image.build();
    let file = File::create(path).unwrap();
    file.set_len(device.sectors() * SECTOR as u64).unwrap();
    for block in device.written() {
        file.write_all_at(device.block(block), block * BLOCK as u64).unwrap();
    }
    inspect::contents(&Device::open(&Host::default(), path, Access::Read).unwrap(), depth)
}

#[test]
fn the_tools_say_what_the_volume_says() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus/replay");
    let tmp = tempfile::tempdir().unwrap();
    let mut seen = [0; 5];
    for entry in fs::read_dir(&corpus).unwrap() {
        let path = entry.unwrap().path();
        let image = Image::read(&fs::read(&path).unwrap());
        let said = tools(&image, &tmp.path().join("cache"), Depth::Count);
        let glance = tools(&image, &tmp.path().join("cache"), Depth::Glance);
        let kind = match (open(image.build()).map(|status| status.dirty_blocks), &said) {
            (Ok(0), Ok(Contents::Volume(v))) if v.log == Log::Clean => 0,
            (Ok(n), Ok(Contents::Volume(v))) if n > 0 && v.log == Log::Dirty(Some(n)) => 1,
            (Err(Fate::Damaged), Ok(Contents::Volume(v))) if matches!(v.log, Log::Damaged(_)) => 2,
            (Err(Fate::Refused), Ok(Contents::Volume(v))) if matches!(v.log, Log::NoCheckpoint(_)) => 3,
            (Err(Fate::Refused), Ok(c)) if !matches!(c, Contents::Volume(_) | Contents::Blank) => 3,
            (Err(Fate::Refused), Err(DeviceError::Size(_))) => 3,
            (Ok(0), Ok(Contents::Blank)) => 4,
            (volume, said) => panic!("{}: volume {volume:?}, tools {said:?}", path.display()),
        };
        seen[kind] += 1;
        // A glance may say less, but never that the log is empty when it is not.
        if let Ok(Contents::Volume(v)) = glance {
            assert!(matches!(v.log, Log::Clean | Log::Dirty(None) | Log::NoCheckpoint(_)), "{:?}", v.log);
            assert!(v.log != Log::Clean || kind == 0, "{}", path.display());
        }
    }
    assert!(seen.iter().all(|&n| n > 0), "clean, dirty, damaged, refused, blank: {seen:?}");
}

#[test]
fn a_superblock_that_would_command_the_terminal_is_refused() {
    let mut sb = Superblock::new(1 << 16, 4096, 128, [1; 16], 1).unwrap();
    sb.name[..4].copy_from_slice(b"\x1b[2J");
    let tmp = tempfile::tempdir().unwrap();
    let path = tmp.path().join("cache");
    let file = File::create(&path).unwrap();
    file.set_len(32 << 20).unwrap();
    file.write_all_at(&sb.encode(), 0).unwrap();
    let device = Device::open(&Host::default(), &path, Access::Read).unwrap();
    assert!(matches!(inspect::contents(&device, Depth::Glance), Ok(Contents::Unreadable(_))));
}
