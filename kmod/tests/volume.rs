// SPDX-License-Identifier: GPL-2.0-only

//! A whole volume with its threads, used as device-mapper uses it, over disks in memory: everything that the
//! kernel module does, without the kernel.
#![cfg(not(any(feature = "loom", feature = "races")))]

#[path = "sim/rng.rs"]
#[allow(dead_code)]
mod rng;

use rng::Rng;
use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use writeboost::host::plain::{
    now_ms, take_log, Disk, Error, FileDisk, Mapped, MemoryDisk, Request, Result, StatusKind, Ticket, EAGAIN,
    EBUSY, EEXIST, EINVAL, EIO, ENODEV, EROFS,
};
use writeboost::interface::message::Who;
use writeboost::interface::status::{count, Counters, Named, Status};
use writeboost::policy::limits::{Limits, Shape};
use writeboost::target::Writeboost;

const SECTOR: usize = 512;
const BLOCK_SECTORS: u64 = 8;
/// 8 MiB and 16 MiB.
const BACKING: usize = 8 << 11;
const CACHE: usize = 16 << 11;

/// Only urgent writeback.
const LAZY: &str = "2 writeback_threshold 0";

type Volume = Mapped<Writeboost>;

/// The two disks of a volume.
struct Disks {
    backing: Arc<MemoryDisk>,
    cache: Arc<MemoryDisk>,
}

impl Disks {
    fn new() -> Self {
        Self::with(vec![0; BACKING * SECTOR], CACHE)
    }

    /// A backing device with these bytes, and a cache device of so many sectors.
    fn with(bytes: Vec<u8>, cache: usize) -> Self {
        Self { backing: Arc::new(MemoryDisk::with(bytes)), cache: Arc::new(MemoryDisk::new(cache)) }
    }

    fn create(&self, options: &str) -> Volume {
        let volume = try_create(self.backing.clone(), self.cache.clone(), options).unwrap();
        volume.resume();
        volume
    }
}

fn try_create(
    backing: Arc<dyn Disk>,
    cache: Arc<dyn Disk>,
    options: &str,
) -> std::result::Result<Volume, (String, Error)> {
    Mapped::create(
        &[("/dev/backing", backing), ("/dev/cache", cache)],
        &format!("/dev/backing /dev/cache {options}"),
    )
}

fn random_bytes(rng: &mut Rng, sectors: u64) -> Vec<u8> {
    (0..sectors * SECTOR as u64 / 8).flat_map(|_| rng.next().to_le_bytes()).collect()
}

fn bytes(sector: u64, sectors: u64) -> std::ops::Range<usize> {
    sector as usize * SECTOR..(sector + sectors) as usize * SECTOR
}

/// A place for a read or a write: some sectors, or some blocks, within `sectors` sectors from `first` on.
fn place(rng: &mut Rng, first: u64, sectors: u64) -> (u64, u64) {
    let unit = rng.pick(&[1, 1, BLOCK_SECTORS]);
    let most = if rng.one_in(16) { 256 } else { 24 };
    let len = rng.range(1, most / unit) * unit;
    (first + rng.below((sectors - len) / unit + 1) * unit, len)
}

/// The status of a volume; all its words must be known.
fn status_of(volume: &Volume) -> Status {
    let line = volume.status(StatusKind::Info);
    let status = Status::parse(&line, |key, value| panic!("{key} {value} in {line}")).unwrap();
    assert!(Named::WORDS.iter().all(|word| status.named.clone().get_mut(word).unwrap().is_some()), "{line}");
    status
}

/// Waits until the thread that counts durable records knows all of them; a flush ends before that.
fn wait_durable(volume: &Volume) {
    let begun = now_ms();
    while status_of(volume).last_flushed_id != status_of(volume).current_id {
        assert!(now_ms() - begun < 10_000, "{:?}", status_of(volume));
        std::thread::yield_now();
    }
}

#[test]
fn what_is_written_is_read() {
    let rng = &mut Rng::new(1);
    let mut model = random_bytes(rng, BACKING as u64);
    let disks = Disks::with(model.clone(), CACHE);
    let volume = disks.create(LAZY);
    assert_eq!((volume.sectors(), volume.limits().physical_block), (BACKING as u64, 4096));
    assert_eq!(volume.status(StatusKind::Table), format!("0:0 0:1 {LAZY}"));
    for _ in 0..400 {
        let (sector, sectors) = place(rng, 0, BACKING as u64);
        let data = random_bytes(rng, sectors);
        volume.write(sector, &data).unwrap();
        model[bytes(sector, sectors)].copy_from_slice(&data);
        let (sector, sectors) = place(rng, 0, BACKING as u64);
        assert_eq!(volume.read(sector, sectors).unwrap(), model[bytes(sector, sectors)]);
    }
    volume.flush().unwrap();
    wait_durable(&volume);
    let status = status_of(&volume);
    let Named { flushes, state, fault, lost_blocks, .. } = status.named;
    assert!(status.dirty_blocks != 0 && status.counters.writes() >= 400, "{status:?}");
    assert_eq!([flushes, state, fault, lost_blocks], [Some(1), Some(0), Some(0), Some(0)], "{status:?}");

    volume.message("drop_caches").unwrap();
    let status = status_of(&volume);
    assert_eq!(status.dirty_blocks, 0, "{status:?}");
    assert!(disks.backing.bytes() == model, "all is on the backing device");
    assert!(volume.read(0, BACKING as u64).unwrap() == model);

    // More writes, each time with a suspend and a resume; then the next life of the volume.
    for life in 0..3 {
        for _ in 0..100 {
            let (sector, sectors) = place(rng, 0, BACKING as u64);
            let data = random_bytes(rng, sectors);
            volume.write(sector, &data).unwrap();
            model[bytes(sector, sectors)].copy_from_slice(&data);
        }
        volume.suspend();
        volume.suspend();
        let status = status_of(&volume);
        assert_eq!(status.last_flushed_id, status.current_id, "life {life}");
        volume.resume();
        volume.resume();
        assert!(volume.read(0, BACKING as u64).unwrap() == model);
    }
    let uuid = volume.message("uuid").unwrap();
    assert_eq!(uuid.as_ref().unwrap().len(), 36);
    volume.remove();
    assert!(disks.backing.bytes() != model, "some of it is in the cache only");

    let volume = disks.create("4 writeback_threshold 0 sync_data_interval 3");
    assert!(volume.read(0, BACKING as u64).unwrap() == model);
    assert_eq!(volume.status(StatusKind::Table), "0:0 0:1 4 writeback_threshold 0 sync_data_interval 3");
    let status = status_of(&volume);
    assert!(status.dirty_blocks != 0 && status.named.sync_data_interval == Some(3));
    assert_eq!(volume.message("uuid").unwrap(), uuid);
    assert_eq!(volume.message("health").unwrap().as_deref(), Some("ok none"));
    volume.message("drop_caches").unwrap();
    volume.remove();
    assert!(disks.backing.bytes() == model);
}

#[test]
fn what_was_flushed_is_there_after_a_removal_by_force() {
    for seed in 0..8 {
        let rng = &mut Rng::new(seed);
        let disks = Disks::new();
        let mut flushed = vec![0; BACKING * SECTOR];
        for life in 0..4 {
            let volume = disks.create("");
            assert!(volume.read(0, BACKING as u64).unwrap() == flushed, "seed {seed}, life {life}");
            let mut written = flushed.clone();
            for _ in 0..rng.range(0, 60) {
                let (sector, sectors) = place(rng, 0, BACKING as u64);
                let data = random_bytes(rng, sectors);
                let request = Request::write(sector, &data);
                written[bytes(sector, sectors)].copy_from_slice(&data);
                if rng.one_in(8) {
                    volume
                        .submit(if rng.one_in(2) { request.preflush() } else { request.fua() })
                        .wait()
                        .unwrap();
                    flushed[bytes(sector, sectors)].copy_from_slice(&data);
                } else {
                    volume.submit(request).wait().unwrap();
                }
            }
            volume.flush().unwrap();
            flushed.copy_from_slice(&written);
            // The other possible contents of each sector.
            let mut volatile: HashMap<usize, Vec<Vec<u8>>> = HashMap::new();
            for _ in 0..rng.range(0, 20) {
                let (sector, sectors) = place(rng, 0, BACKING as u64);
                let data = random_bytes(rng, sectors);
                written[bytes(sector, sectors)].copy_from_slice(&data);
                volume.write(sector, &data).unwrap();
                for (i, data) in (sector as usize..).zip(data.chunks(SECTOR)) {
                    volatile.entry(i).or_default().push(data.to_vec());
                }
                if rng.one_in(8) {
                    volume.flush().unwrap();
                    flushed.copy_from_slice(&written);
                    volatile.clear();
                }
            }
            if rng.one_in(2) {
                drop(volume);
            } else {
                volume.kill();
            }
            let volume = disks.create("");
            let found = volume.read(0, BACKING as u64).unwrap();
            volume.remove();
            for (i, (found, old)) in found.chunks(SECTOR).zip(flushed.chunks_mut(SECTOR)).enumerate() {
                let is_new = || volatile.get(&i).is_some_and(|all| all.iter().any(|new| new == found));
                assert!(found == old || is_new(), "seed {seed}, life {life}, sector {i}");
                old.copy_from_slice(found);
            }
        }
    }
}

#[test]
fn what_is_kept_back_by_a_suspend_goes_on_at_the_resume() {
    let disks = Disks::new();
    let volume = try_create(disks.backing.clone(), disks.cache.clone(), "").unwrap();
    // It is not resumed yet.
    let write = volume.submit(Request::write(8, &[7; 4096]));
    let flush = volume.submit(Request::write(16, &[8; 512]).preflush().fua());
    assert_eq!(volume.submit(Request::read(0, 1).nowait()).wait(), Err(EAGAIN));
    assert_eq!(volume.submit(Request::read(0, 1).ahead()).wait(), Err(EIO));
    assert_eq!(volume.message("drop_caches"), Err(EBUSY));
    assert!(!write.is_over() && !flush.is_over());
    volume.resume();
    assert_eq!((write.wait(), flush.wait()), (Ok(vec![]), Ok(vec![])));
    assert_eq!(volume.read(8, 9).unwrap(), [vec![7; 4096], vec![8; 512]].concat());
    assert_eq!(volume.read(BACKING as u64, 1), Err(EIO), "behind its end");
    assert_eq!(volume.submit(Request::other(0, 8)).wait(), Err(Error::from_errno(-95)));
    volume.suspend();
    let read = volume.submit(Request::read(8, 1));
    drop(volume);
    assert_eq!(read.wait(), Err(EIO), "nobody will ever answer it");
}

#[test]
fn messages() {
    let volume = Disks::new().create("");
    volume.write(0, &[1; 65536]).unwrap();
    volume.flush().unwrap();
    let report = volume.message("report 8").unwrap().unwrap();
    let words: Vec<&str> = report.split(' ').collect();
    assert!(words.len() == 10 && words[0] == "1" && words[2] == "0" && words[9].len() <= 8, "{report}");
    for wrong in ["", "nonsense", "report 0", "report 8 0 4000000000", "writeback_threshold 101", "a\0b"] {
        assert_eq!(volume.message(wrong), Err(EINVAL), "{wrong}");
    }
    volume.message("writeback_threshold 70").unwrap();
    assert_eq!(status_of(&volume).named.writeback_threshold, Some(70));
    assert_eq!(volume.status(StatusKind::Table), "0:0 0:1 2 writeback_threshold 70");
    volume.message("clear_stat").unwrap();
    let status = status_of(&volume);
    assert_eq!((status.counters, status.named.flushes), (Counters::default(), Some(0)));
    volume.message("give_up").unwrap();
}

/// A disk that is like another one except for its shape and for how many requests it takes at a time.
struct Altered<D> {
    disk: D,
    shape: Shape,
    at_a_time: usize,
}

impl<D: Disk> Altered<D> {
    /// A disk of another shape.
    fn shaped(disk: D, shape: Shape) -> Self {
        Self { shape, at_a_time: disk.at_a_time(), disk }
    }

    /// A disk that ends each request where it is sent.
    fn at_once(disk: D) -> Self {
        Self { shape: disk.shape(), at_a_time: 0, disk }
    }
}

impl<D: Disk> Disk for Altered<D> {
    fn shape(&self) -> Shape {
        self.shape
    }
    fn at_a_time(&self) -> usize {
        self.at_a_time
    }
    fn limits(&self) -> Limits {
        self.disk.limits()
    }
    fn read(&self, sector: u64, to: &mut [u8]) -> Result {
        self.disk.read(sector, to)
    }
    fn write(&self, sector: u64, from: &[u8], fua: bool) -> Result {
        self.disk.write(sector, from, fua)
    }
    fn flush(&self) -> Result {
        self.disk.flush()
    }
}

#[test]
fn disks_may_answer_at_once() {
    let rng = &mut Rng::new(3);
    let mut model = random_bytes(rng, BACKING as u64);
    let backing = Arc::new(Altered::at_once(MemoryDisk::with(model.clone())));
    let volume =
        try_create(backing.clone(), Arc::new(Altered::at_once(MemoryDisk::new(CACHE))), LAZY).unwrap();
    volume.resume();
    for _ in 0..400 {
        let (sector, sectors) = place(rng, 0, BACKING as u64);
        let data = random_bytes(rng, sectors);
        let request = Request::write(sector, &data);
        volume.submit(if rng.one_in(4) { request.fua() } else { request }).wait().unwrap();
        model[bytes(sector, sectors)].copy_from_slice(&data);
        if rng.one_in(4) {
            volume.flush().unwrap();
        }
        let (sector, sectors) = place(rng, 0, BACKING as u64);
        assert_eq!(volume.read(sector, sectors).unwrap(), model[bytes(sector, sectors)]);
    }
    volume.message("drop_caches").unwrap();
    assert!(backing.disk.bytes() == model);
    volume.remove();
}

/// Creates a volume that is refused, and returns the reason.
fn refusal(backing: Arc<dyn Disk>, cache: Arc<dyn Disk>, options: &str) -> (String, Error) {
    try_create(backing, cache, options).err().expect("it is refused")
}

#[test]
fn tables_that_are_refused() {
    let disk = |sectors| Arc::new(MemoryDisk::new(sectors)) as Arc<dyn Disk>;
    let is = |(said, error): (String, Error), why: &str, errno: Error| {
        assert!(said.starts_with(why) && error == errno, "{said}: {error:?}, and not {why}: {errno:?}");
    };
    let all: [(&str, Arc<dyn Disk>); 2] = [("backing", disk(BACKING)), ("cache", disk(CACHE))];
    for (table, why, e) in [
        ("", "Two devices are needed", EINVAL),
        ("backing", "Two devices are needed", EINVAL),
        ("nowhere cache", "Cannot open the backing device", ENODEV),
        ("backing nowhere", "Cannot open the cache device", ENODEV),
        ("backing backing", "The backing device and the cache device are the same", EINVAL),
        ("cache backing", "The volume must be as large as the backing device", EINVAL),
    ] {
        is(Volume::create(&all, table).err().unwrap(), why, e);
    }
    for (options, why) in [
        ("1", "The number of option words"),
        ("2 sync_data_interval", "The number of option words"),
        ("4 sync_data_interval 3", "The number of option words"),
        ("2 nonsense 3", "An option is unknown or out of range"),
        ("2 sync_data_interval 3601", "An option is unknown or out of range"),
    ] {
        is(refusal(disk(BACKING), disk(CACHE), options), why, EINVAL);
    }
    let fits = MemoryDisk::new(1).shape();
    let shaped = |sectors: usize, shape: Shape| {
        let shape = Shape { sectors: sectors as u64, ..shape };
        Arc::new(Altered::shaped(MemoryDisk::new(sectors), shape)) as Arc<dyn Disk>
    };
    for (shape, why, e) in [
        (Shape { read_only: true, ..fits }, "is read-only", EROFS),
        (Shape { zoned: true, ..fits }, "is zoned", EINVAL),
        (Shape { logical_block: 8192, ..fits }, "has logical blocks of more than 4096 bytes", EINVAL),
    ] {
        let why = |which| format!("The {which} device {why}");
        is(refusal(shaped(BACKING, shape), disk(CACHE), ""), &why("backing"), e);
        is(refusal(disk(BACKING), shaped(CACHE, shape), ""), &why("cache"), e);
    }
    is(refusal(disk(BACKING), disk(8 << 11), ""), "The cache device is too small", EINVAL);
    is(refusal(disk(0), disk(CACHE), ""), "The backing device is empty", EINVAL);
    let big = Arc::new(MemoryDisk::with(vec![7; CACHE * SECTOR]));
    is(refusal(disk(BACKING), big, ""), "The cache device is neither blank nor formatted", EINVAL);
}

#[test]
fn disks_of_others_are_refused() {
    let disks = Disks::new();
    let volume = disks.create(LAZY);
    volume.write(0, &[3; 8192]).unwrap();
    let in_use = try_create(disks.backing.clone(), Arc::new(MemoryDisk::new(CACHE)), "").err().unwrap();
    assert_eq!(in_use, ("A device is in use by another writeboost volume".into(), EBUSY));
    // A copy of the cache device, as if found by another path.
    volume.flush().unwrap();
    let copy = || Arc::new(MemoryDisk::with(disks.cache.bytes()));
    let other = || Arc::new(MemoryDisk::new(BACKING));
    let twice = try_create(other(), copy(), "").err().unwrap();
    assert_eq!((&twice.0[..40], twice.1), ("A volume with this UUID is active alread", EEXIST));
    volume.remove();
    let size = try_create(Arc::new(MemoryDisk::new(BACKING / 2)), copy(), "").err().unwrap();
    assert_eq!(size, ("The cache device belongs to a backing device of another size".into(), EINVAL));

    // The superblock is gone, and then the log is damaged.
    let mut blank = disks.cache.bytes();
    blank[..4096].fill(0);
    let gone = try_create(other(), Arc::new(MemoryDisk::with(blank.clone())), "").err().unwrap();
    assert_eq!((&gone.0[..43], gone.1), ("The superblock of the cache device is gone:", EINVAL));
    let mut spoilt = disks.cache.bytes();
    spoilt[100] ^= 1;
    let spoilt = try_create(other(), Arc::new(MemoryDisk::with(spoilt)), "").err().unwrap();
    assert_eq!((&spoilt.0[..46], spoilt.1), ("The superblock of the cache device is damaged:", EINVAL));
    assert!(take_log().iter().any(|line| line.contains("refusing the cache device")));
    // The intact copy can still be used.
    let volume = try_create(other(), copy(), "").unwrap();
    volume.resume();
    assert_eq!(volume.read(0, 16).unwrap(), [3; 8192]);
}

/// A request under way, its sectors, and the data that it should read.
type UnderWay = (Ticket, (u64, u64), Vec<u8>);

/// A thread that uses its part of the volume.
struct User<'a> {
    volume: &'a Volume,
    rng: Rng,
    first: u64,
    sectors: u64,
    model: Vec<u8>,
}

impl User<'_> {
    fn model(&self, sector: u64, sectors: u64) -> &[u8] {
        &self.model[bytes(sector - self.first, sectors)]
    }

    /// Submits a request that overlaps with none that is under way: overlapping ones may take effect in any
    /// order.
    fn begin(&mut self, under_way: &[UnderWay]) -> Option<UnderWay> {
        let rng = &mut self.rng;
        if rng.one_in(24) {
            return Some((self.volume.submit(Request::flush()), (0, 0), vec![]));
        }
        let (sector, sectors) = place(rng, self.first, self.sectors);
        if under_way.iter().any(|&(_, (s, n), _)| sector < s + n && s < sector + sectors) {
            return None;
        }
        let mut read = vec![];
        let request = if rng.one_in(2) {
            let request = Request::read(sector, sectors);
            let is_odd = rng.one_in(8);
            read = self.model(sector, sectors).to_vec();
            if is_odd {
                request.odd()
            } else {
                request
            }
        } else {
            let data = random_bytes(rng, sectors);
            let request = Request::write(sector, &data);
            self.model[bytes(sector - self.first, sectors)].copy_from_slice(&data);
            match rng.below(24) {
                0 => request.fua(),
                1 => request.preflush(),
                2 => request.preflush().fua(),
                _ => request,
            }
        };
        Some((self.volume.submit(request), (sector, sectors), read))
    }

    fn run(&mut self, steps: u32) {
        let (mut step, mut under_way) = (0, vec![]);
        while step < steps || !under_way.is_empty() {
            if step < steps && under_way.len() < 6 && !self.rng.one_in(3) {
                step += 1;
                under_way.extend(self.begin(&under_way));
            } else if !under_way.is_empty() {
                let (ticket, place, read) = under_way.swap_remove(self.rng.index(under_way.len()));
                let end = ticket.wait();
                assert!(end.as_ref() == Ok(&read), "step {step}: {place:?}, {:?}", end.err());
            }
        }
    }
}

/// Several threads with a part of the volume each, while another one sends messages and suspends it.
fn users(seed: u64, cache: usize, lives: u64, steps: u32) {
    const USERS: u64 = 4;
    let rng = &mut Rng::new(seed);
    let mut models = random_bytes(rng, BACKING as u64);
    let disks = Disks::with(models.clone(), cache);
    let part = BACKING as u64 / USERS;
    for life in 0..lives {
        let volume =
            disks.create(rng.pick(&["", LAZY, "2 writeback_threshold 100", "2 nr_max_batched_writeback 4"]));
        let ends = AtomicBool::new(false);
        let done: Vec<Vec<u8>> = std::thread::scope(|scope| {
            let users: Vec<_> = (0..USERS)
                .map(|i| {
                    let model = models[bytes(i * part, part)].to_vec();
                    let rng = Rng::new(seed << 16 | life << 8 | i);
                    let mut user = User { volume: &volume, rng, first: i * part, sectors: part, model };
                    scope.spawn(move || {
                        user.run(steps);
                        user.model
                    })
                })
                .collect();
            let (volume, ends, mut rng) = (&volume, &ends, Rng::new(rng.next()));
            let host = scope.spawn(move || {
                while !ends.load(Ordering::SeqCst) {
                    std::thread::sleep(std::time::Duration::from_millis(rng.range(1, 30)));
                    match rng.below(5) {
                        0 => {
                            let _ = volume.message("drop_caches");
                        }
                        1 => {
                            volume.suspend();
                            assert_eq!(status_of(volume).named.state, Some(0));
                            volume.resume();
                        }
                        2 => drop(volume.message("report").unwrap()),
                        _ => assert_eq!(status_of(volume).named.state, Some(0)),
                    }
                }
            });
            let models = users.into_iter().map(|user| user.join().unwrap()).collect();
            ends.store(true, Ordering::SeqCst);
            host.join().unwrap();
            models
        });
        models = done.concat();
        assert!(volume.read(0, BACKING as u64).unwrap() == models, "seed {seed}, life {life}");
        if rng.one_in(2) {
            volume.remove();
        } else {
            volume.flush().unwrap();
            drop(volume);
        }
    }
    let volume = disks.create("");
    assert!(volume.read(0, BACKING as u64).unwrap() == models, "seed {seed}");
    volume.message("drop_caches").unwrap();
    volume.remove();
    assert!(disks.backing.bytes() == models, "seed {seed}");
}

/// The seed; `WRITEBOOST_SEED` may set another one. A failure names it.
fn seed() -> u64 {
    std::env::var("WRITEBOOST_SEED").map_or(1, |seed| seed.parse().unwrap())
}

#[test]
fn several_users_at_once() {
    users(seed(), CACHE, 3, 700);
}

#[test]
fn several_users_of_a_cache_that_is_full() {
    // Room for little more than the writes of one life.
    users(seed(), 9 << 11, 3, 700);
}

#[test]
fn disks_that_are_files() {
    let path = |name| std::env::temp_dir().join(format!("writeboost-{}-{name}", std::process::id()));
    let paths = [path("backing"), path("cache")];
    for (path, sectors) in paths.iter().zip([BACKING, CACHE]) {
        std::fs::File::create(path).unwrap().set_len((sectors * SECTOR) as u64).unwrap();
    }
    let create = || {
        let [backing, cache] = [0, 1].map(|i| Arc::new(FileDisk::open(&paths[i]).unwrap()));
        let volume = try_create(backing, cache, LAZY).unwrap();
        volume.resume();
        volume
    };
    let data = random_bytes(&mut Rng::new(1), 999);
    let volume = create();
    volume.submit(Request::write(1, &data).fua()).wait().unwrap();
    assert_eq!(volume.read(0, 1).unwrap(), [0; SECTOR]);
    drop(volume);
    let volume = create();
    assert!(volume.read(1, 999).unwrap() == data);
    volume.message("drop_caches").unwrap();
    volume.remove();
    assert!(std::fs::read(&paths[0]).unwrap()[bytes(1, 999)] == data);
    paths.iter().for_each(|path| std::fs::remove_file(path).unwrap());
}

#[test]
fn a_removal_by_force_ends_writes_that_wait_for_room() {
    for seed in 0..20 {
        let rng = &mut Rng::new(seed);
        let disks = Disks::with(vec![0; 4 * BACKING * SECTOR], 9 << 11);
        let volume = disks.create("");
        let mut under_way = vec![];
        for _ in 0..100 {
            let data = vec![2; 1 << 20];
            under_way.push(volume.submit(Request::write(rng.below(BACKING as u64 >> 9) << 11, &data)));
            if under_way.len() > 40 {
                under_way.remove(0).wait().unwrap();
            }
        }
        drop(volume);
        assert!(under_way.iter().all(Ticket::is_over));
    }
}

/// The counters since they were last cleared; clears them again.
fn counted(volume: &Volume) -> Vec<(u32, u64)> {
    let counters = status_of(volume).counters.0;
    volume.message("clear_stat").unwrap();
    (0..).zip(counters).filter(|&(_, n)| n != 0).collect()
}

#[test]
fn each_block_is_counted_by_what_it_finds() {
    use count::{FULL, HIT, IN_RAM, WRITE};
    let disks = Disks::new();
    let mut volume = disks.create(LAZY);
    let write = |volume: &Volume, sector, sectors: usize| {
        volume.write(sector, &vec![1; sectors * SECTOR]).unwrap();
    };
    write(&volume, 0, 8);
    assert_eq!(counted(&volume), [(WRITE | FULL, 1)], "a full write that misses is the tenth");
    write(&volume, 0, 8);
    assert_eq!(counted(&volume), [(WRITE | HIT | IN_RAM | FULL, 1)]);
    write(&volume, 1, 1);
    assert_eq!(counted(&volume), [(WRITE | HIT | IN_RAM, 1)]);
    // Two half blocks, one of which is cached, and whole ones between them.
    write(&volume, 4, 32);
    let found = [(WRITE, 1), (WRITE | FULL, 3), (WRITE | HIT | IN_RAM, 1)];
    assert_eq!(counted(&volume), found);
    // Other sectors of a cached block.
    write(&volume, 36, 1);
    assert_eq!(counted(&volume), [(WRITE | HIT | IN_RAM, 1)]);
    volume.read(0, 32).unwrap();
    assert_eq!(counted(&volume), [(HIT | IN_RAM | FULL, 4)]);
    volume.read(804, 16).unwrap();
    assert_eq!(counted(&volume), [(0, 2), (FULL, 1)]);

    // RAM holds nothing of an earlier life.
    volume.remove();
    volume = disks.create(LAZY);
    volume.read(8, 16).unwrap();
    assert_eq!(counted(&volume), [(HIT | FULL, 2)]);
    write(&volume, 8, 8);
    write(&volume, 17, 1);
    assert_eq!(counted(&volume), [(WRITE | HIT, 1), (WRITE | HIT | FULL, 1)]);
}

#[test]
fn who_steers_is_in_the_status() {
    let disks = Disks::new();
    let volume = disks.create("2 steering_timeout 100");
    let is = |volume: &Volume, who: Option<Who>| {
        assert_eq!(status_of(volume).named.steered_by, Some(Who::number(who).into()));
    };
    is(&volume, None);
    volume.message("sync_data_interval 5").unwrap();
    is(&volume, None);
    volume.message("writeback_threshold 100 daemon").unwrap();
    volume.message("nr_max_batched_writeback 8 daemon").unwrap();
    is(&volume, Some(Who::Daemon));
    // A hand may change a value that a daemon has set; after that the daemon may not change it.
    volume.message("writeback_threshold 42").unwrap();
    is(&volume, Some(Who::Hand));
    assert_eq!(volume.message("writeback_threshold 100 daemon"), Err(EBUSY));
    assert_eq!(status_of(&volume).named.writeback_threshold, Some(42));
    volume.message("steering_timeout default daemon").unwrap();
    is(&volume, Some(Who::Hand));
    volume.message("writeback_threshold default").unwrap();
    is(&volume, Some(Who::Hand));
    volume.message("nr_max_batched_writeback default").unwrap();
    is(&volume, None);
    volume.message("writeback_rate_limit 64 daemon").unwrap();
    is(&volume, Some(Who::Daemon));
    for wrong in ["writeback_threshold 1 cron", "writeback_threshold 101 daemon", "daemon"] {
        assert_eq!(volume.message(wrong), Err(EINVAL), "{wrong}");
    }
    volume.remove();
    is(&disks.create(LAZY), Some(Who::Hand));
}
