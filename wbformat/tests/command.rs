// SPDX-License-Identifier: GPL-2.0-only

//! The real `wbformat` on image files: its writes and its refusals, and that a refusal changes no byte.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};
use tempfile::TempDir;
use writeboost::{
    format::{
        Block, Checkpoint, Entry, Held, RecordHeader, Seq, Superblock, BLOCK, CHECKPOINT_BLOCKS, FIRST_BLOCK,
        SECTOR,
    },
    host::crc32c,
};

/// Large enough for 16 segments of 512 KiB.
const CACHE_BYTES: u64 = 16 << 20;

struct Image {
    dir: TempDir,
}

impl Image {
    fn new() -> Self {
        Self::of_size(CACHE_BYTES)
    }

    fn of_size(bytes: u64) -> Self {
        let dir = tempfile::tempdir().unwrap();
        File::create(dir.path().join("cache")).unwrap().set_len(bytes).unwrap();
        Self { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("cache")
    }

    fn file(&self) -> File {
        File::options().read(true).write(true).open(self.path()).unwrap()
    }

    fn bytes(&self) -> Vec<u8> {
        fs::read(self.path()).unwrap()
    }

    fn sector(&self, block: usize) -> [u8; SECTOR] {
        self.bytes()[block * BLOCK..][..SECTOR].try_into().unwrap()
    }

    fn superblock(&self) -> Superblock {
        Superblock::decode(&self.sector(0)).unwrap()
    }

    /// Runs wbformat with a backing device of 2 MiB less a sector.
    fn format(&self, args: &[&str]) -> Output {
        wbformat(&[&["--backing-size", "4095"], args, &[self.path().to_str().unwrap()]].concat())
    }

    /// Runs wbformat, which must refuse with `code`, say `words` and change nothing.
    #[track_caller]
    fn refused(&self, args: &[&str], code: i32, words: &[&str]) {
        let before = self.bytes();
        let out = self.format(args);
        let err = String::from_utf8(out.stderr).unwrap();
        assert_eq!(out.status.code(), Some(code), "{err}");
        for word in words {
            assert!(err.contains(word), "{word:?} is not in {err:?}");
        }
        assert!(self.bytes() == before, "the image was changed");
    }

    /// Puts a record with one block of `data` at the start of the log. Its stored checksum is off by `wrong`.
    fn write_record(&self, data: u8, wrong: u32) {
        let sb = self.superblock();
        let block = [data; BLOCK];
        let (seq, durable, tail) = (Seq::FIRST, Seq::NONE, Seq::FIRST);
        let header = RecordHeader { nonce: sb.nonce, seq, epoch: 0, durable, tail, blocks: 1 };
        let mut b = [0; BLOCK];
        header.encode(&mut b, |_| Entry { addr: Block(7), mask: 0xff, crc: crc32c(0, &block) ^ wrong });
        let at = u64::from(FIRST_BLOCK) * BLOCK as u64;
        self.file().write_all_at(&b, at).unwrap();
        self.file().write_all_at(&block, at + BLOCK as u64).unwrap();
    }
}

fn wbformat(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wbformat")).args(args).output().unwrap()
}

#[track_caller]
fn ok(out: &Output) -> String {
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout.clone()).unwrap()
}

#[test]
fn round_trip() {
    let image = Image::new();
    let text = ok(&image.format(&["--name", "perflv", "--segment-size", "256KiB"]));
    assert!(text.contains("perflv"), "{text}");
    let sb = image.superblock();
    assert_eq!((sb.name(), sb.backing_id(), sb.backing_sectors), ("perflv", "", 4095));
    assert_eq!((sb.segment_blocks, sb.nr_segments), (64, 60));
    let slots = CHECKPOINT_BLOCKS.map(|block| Held::of(Some(&image.sector(block as usize)), &sb));
    let cp = Checkpoint::choose(&slots).unwrap();
    assert_eq!(cp, Checkpoint::first(sb.nonce).into());
    assert_eq!(image.sector(2), [0; SECTOR]);

    // A new format makes another volume: records of the first one are not replayed.
    ok(&image.format(&[]));
    let again = image.superblock();
    assert_ne!((again.uuid, again.nonce), (sb.uuid, sb.nonce));
}

#[test]
fn json() {
    let image = Image::new();
    let out: serde_json::Value =
        serde_json::from_str(&ok(&image.format(&["--name", "v", "--json"]))).unwrap();
    let sb = image.superblock();
    assert_eq!(out["name"], "v");
    assert_eq!(out["uuid"], uuid::Uuid::from_bytes(sb.uuid).to_string());
    assert_eq!(out["segment_bytes"], 512 << 10);
    assert_eq!(out["cache_sectors"], sb.cache_sectors());
    let out = image.format(&["--segment-size", "3MiB", "--json"]);
    let error: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(error["exit_code"], 6);
}

#[test]
fn backing_file_gives_size_and_identity() {
    let image = Image::new();
    let backing = image.dir.path().join("backing");
    File::create(&backing).unwrap().set_len(1 << 20).unwrap();
    let (backing, cache) = (backing.to_str().unwrap(), image.path());
    let out = wbformat(&["--backing", backing, cache.to_str().unwrap()]);
    assert!(ok(&out).contains("weak"));
    let sb = image.superblock();
    assert_eq!(sb.backing_sectors, 2048);
    assert_eq!(sb.backing_id(), format!("file:{}", fs::canonicalize(backing).unwrap().display()));
}

#[test]
fn cache_and_backing_are_the_same() {
    let image = Image::new();
    let before = image.bytes();
    let cache = image.path();
    let link = image.dir.path().join("link");
    fs::hard_link(&cache, &link).unwrap();
    let out = wbformat(&["--backing", link.to_str().unwrap(), cache.to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(2));
    assert!(image.bytes() == before);
}

#[test]
fn sizes() {
    Image::of_size(8 << 20).refused(&[], 6, &["too small", "9 MiB"]);
    Image::of_size(0).refused(&[], 6, &["too small"]);
    Image::new().refused(&["--segment-size", "100000"], 6, &["power of two", "64 KiB", "1 MiB"]);
    Image::new().refused(&["--segment-size", "2MiB"], 6, &["1 MiB"]);
    ok(&Image::of_size(9 << 20).format(&[]));
    let image = Image::new();
    let out = wbformat(&["--backing-size", "0", image.path().to_str().unwrap()]);
    assert_eq!(out.status.code(), Some(6));
}

#[test]
fn usage_and_devices() {
    let image = Image::new();
    assert_eq!(wbformat(&[image.path().to_str().unwrap()]).status.code(), Some(2));
    image.refused(&["--name", "a/b"], 2, &["a/b"]);
    image.refused(&["--name", &"x".repeat(128)], 2, &["127"]);
    ok(&image.format(&["--name", &"x".repeat(127)]));
    assert_eq!(wbformat(&["--backing-size", "8", "/dev/null"]).status.code(), Some(1));
    assert_eq!(wbformat(&["--backing-size", "8", "/no/such/device"]).status.code(), Some(1));
    assert_eq!(wbformat(&["--help"]).status.code(), Some(0));
}

#[test]
fn foreign_signature() {
    let image = Image::new();
    // The magic number of swap space, as mkswap puts it at the end of the first page.
    let mut page = [0; BLOCK];
    page[1024] = 1; // Version 1.
    page[1028..1032].copy_from_slice(&4095u32.to_le_bytes());
    page[BLOCK - 10..].copy_from_slice(b"SWAPSPACE2");
    image.file().write_all_at(&page, 0).unwrap();
    image.refused(&[], 4, &["swap", "--force"]);
    ok(&image.format(&["--force"]));
    // Nothing of the swap space is left that would be found again.
    ok(&image.format(&[]));
}

#[test]
fn foreign_partition_table() {
    let image = Image::new();
    let mut mbr = [0; SECTOR];
    mbr[440..444].copy_from_slice(b"abcd");
    mbr[446..462].copy_from_slice(&[0, 0, 2, 0, 0x83, 0, 0, 0, 0, 8, 0, 0, 0, 8, 0, 0]);
    mbr[510..].copy_from_slice(&[0x55, 0xaa]);
    image.file().write_all_at(&mbr, 0).unwrap();
    image.refused(&[], 4, &["dos partition table", "--force"]);
    ok(&image.format(&["-f"]));
}

#[test]
fn ext4() {
    let image = Image::new();
    let mkfs = |image: &Image| Command::new("mkfs.ext4").args(["-q", "-F"]).arg(image.path()).status();
    if !mkfs(&image).is_ok_and(|s| s.success()) {
        eprintln!("skipped: no mkfs.ext4");
        return;
    }
    image.refused(&[], 4, &["ext4"]);
    ok(&image.format(&["-f"]));
    ok(&image.format(&[]));
    // A file system made around our superblock; it leaves its first KiB to boot loaders.
    let sector = image.sector(0);
    assert!(mkfs(&image).unwrap().success());
    image.file().write_all_at(&sector, 0).unwrap();
    image.refused(&[], 4, &["ext4"]);
}

#[test]
fn what_nobody_knows_is_overwritten() {
    let image = Image::new();
    image.file().write_all_at(&[0x5a; 64 << 10], 0).unwrap();
    ok(&image.format(&[]));
}

#[test]
fn dirty_data() {
    let image = Image::new();
    ok(&image.format(&["--name", "perflv"]));
    image.write_record(0x5a, 0);
    image.refused(&[], 5, &["perflv", "1 dirty block", "wbctl drain", "--force --force"]);
    image.refused(&["--force"], 5, &["perflv"]);
    ok(&image.format(&["--force", "--force"]));
    // The record is still there, but belongs to an earlier format.
    ok(&image.format(&[]));
}

#[test]
fn a_torn_record_at_the_end_is_not_dirty() {
    let image = Image::new();
    ok(&image.format(&[]));
    image.write_record(0x5a, 1);
    ok(&image.format(&[]));
}

#[test]
fn a_log_that_misses_what_was_durable() {
    let image = Image::new();
    ok(&image.format(&[]));
    let sb = image.superblock();
    let cp = Checkpoint { generation: 1, durable: Seq(3), ..Checkpoint::first(sb.nonce) };
    image.file().write_all_at(&cp.encode(), cp.block() * BLOCK as u64).unwrap();
    image.refused(&["--force"], 5, &["record 1 is missing"]);
    ok(&image.format(&["-ff"]));
}

#[test]
fn damaged_volumes() {
    for (at, words) in [(100, "checksum"), (8, "version")] {
        let image = Image::new();
        ok(&image.format(&[]));
        image.file().write_all_at(&[0xff], at).unwrap();
        image.refused(&["--force"], 5, &["superblock", words]);
        ok(&image.format(&["-ff"]));
    }
    let image = Image::new();
    ok(&image.format(&[]));
    image.file().write_all_at(&[0; SECTOR], BLOCK as u64).unwrap();
    image.refused(&["--force"], 5, &["no valid checkpoint"]);
    ok(&image.format(&["-ff"]));
    let image = Image::new();
    ok(&image.format(&[]));
    image.file().set_len(10 << 20).unwrap();
    image.refused(&["--force"], 6, &["shrunk"]);
    ok(&image.format(&["-ff"]));
}

#[test]
fn a_superblock_that_is_gone() {
    // A format that was interrupted before its last write can be repeated without force.
    let image = Image::new();
    ok(&image.format(&[]));
    image.file().write_all_at(&[0; BLOCK], 0).unwrap();
    ok(&image.format(&[]));
    // So can the format of a volume that was in use since, while its log is empty: the kernel would format
    // it, too.
    let blank = |image: &Image, durable| {
        let cp = Checkpoint { generation: 1, durable, ..Checkpoint::first(image.superblock().nonce) };
        image.file().write_all_at(&cp.encode(), cp.block() * BLOCK as u64).unwrap();
        image.file().write_all_at(&[0; BLOCK], 0).unwrap();
    };
    blank(&image, Seq::NONE);
    ok(&image.format(&[]));
    // A log that is not empty is refused.
    blank(&image, Seq::FIRST);
    image.refused(&["--force"], 5, &["superblock is gone", "--force --force"]);
    ok(&image.format(&["-ff"]));
}

#[test]
fn a_file_behind_a_loop_device_is_in_use() {
    let image = Image::new();
    let losetup = |args: &[&str]| {
        let out = Command::new("losetup").args(args).output().ok()?;
        out.status.success().then(|| String::from_utf8_lossy(&out.stdout).trim().to_owned())
    };
    let cache = image.path();
    let Some(dev) = losetup(&["--find", "--show", cache.to_str().unwrap()]) else {
        eprintln!("skipped: no loop devices");
        return;
    };
    let of_file = image.format(&[]);
    // The same through the loop device itself: it is a block device like any other.
    let of_device = wbformat(&["--backing-size", "4096", &dev]);
    losetup(&["--detach", &dev]);
    assert_eq!(of_file.status.code(), Some(3), "{of_file:?}");
    ok(&of_device);
    assert!(Path::new(&cache).exists());
    assert_eq!(image.superblock().backing_sectors, 4096);
}
