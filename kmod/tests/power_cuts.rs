// SPDX-License-Identifier: GPL-2.0-only

//! The real volume, with all its threads, on disks with a volatile cache, and the power cut at random moments of its life.
//!
//! Several threads write, flush and read, each its own part of the volume and one thing after the other. Now and then, in the middle of
//! some I/O, both disks are copied as they are at that moment, with what is in flight: an *image*. The life goes on and ends. Then the
//! power is cut on each image: what was not stable on a disk is there in part. The volume is opened from what is left, and each
//! part must be some prefix of what its thread has written, as long as flushes have promised by then, with nothing but a part of one
//! more write.
//!
//! What the model of the engine (`crash.rs`) does a thousand times faster, this does with the code of `volume/` that the kernel runs:
//! who sends what, in which order, and whom it tells.
#![cfg(not(any(feature = "loom", feature = "shuttle")))]

#[path = "sim/disk.rs"]
#[allow(dead_code)]
mod disk;
#[path = "sim/rng.rs"]
#[allow(dead_code)]
mod rng;

use disk::Disk as Simulated;
use rng::Rng;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Instant;
use writeboost::format::{Checkpoint, Superblock, BLOCK_SECTORS};
use writeboost::host::plain::{Disk, Error, Mapped, MemoryDisk, Request, Result};
use writeboost::policy::limits::{Limits, Shape};
use writeboost::target::Writeboost;

const SECTOR: usize = 512;
/// Threads that write, and sectors that each has for itself.
const WRITERS: usize = 3;
const PART: u64 = 48 * BLOCK_SECTORS;
const BACKING: u64 = WRITERS as u64 * PART;
/// Images of a life at most, and one I/O in how many has one.
const IMAGES: usize = 24;

/// What is known of one writer's part.
#[derive(Clone, Default)]
struct History {
    /// Sectors of each write: first one and how many, from the start of the part. The first write has version 1.
    writes: Vec<(u64, u64)>,
    /// So many of them have ended.
    ended: usize,
    /// So many are durable, by a flush or a write with FUA that has ended.
    promised: usize,
}

impl History {
    /// What each sector holds after so many writes.
    fn after(&self, writes: usize) -> Vec<u64> {
        let mut versions = vec![0; PART as usize];
        for (version, &(first, n)) in (1..).zip(&self.writes[..writes]) {
            versions[first as usize..(first + n) as usize].fill(version);
        }
        versions
    }

    /// Whether these may be the versions that are left after a power cut.
    fn allows(&self, found: &[u64]) -> bool {
        (self.promised..=self.writes.len()).any(|n| {
            let (before, partly) = (self.after(n), self.after((n + 1).min(self.writes.len())));
            found.iter().zip(before.iter().zip(&partly)).all(|(f, (a, b))| f == a || f == b)
        })
    }
}

/// Both disks as they were in one moment, and what was promised by then.
struct Image {
    disks: [Simulated; 2],
    in_flight: [Vec<(u64, Vec<u8>)>; 2],
    histories: Vec<History>,
}

/// All that happens at one moment happens with this locked.
struct World {
    disks: [Simulated; 2],
    /// Writes that have begun and not ended, by number.
    in_flight: [Vec<(u64, u64, Vec<u8>)>; 2],
    next: u64,
    histories: Vec<History>,
    images: Vec<Image>,
    /// One I/O in so many makes an image.
    every: u64,
    rng: Rng,
}

impl World {
    /// In the middle of some I/O.
    fn moment(&mut self) {
        if self.images.len() < IMAGES && self.rng.one_in(self.every) {
            let in_flight = self
                .in_flight
                .each_ref()
                .map(|writes| writes.iter().map(|(_, sector, data)| (*sector, data.clone())).collect());
            self.images.push(Image {
                disks: self.disks.clone(),
                in_flight,
                histories: self.histories.clone(),
            });
        }
    }
}

/// One of the two: the backing disk is number 0, the cache disk number 1.
struct Half {
    world: Arc<Mutex<World>>,
    number: usize,
    sectors: u64,
}

impl Half {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }
}

impl Disk for Half {
    fn shape(&self) -> Shape {
        Shape { sectors: self.sectors, logical_block: SECTOR as u32, zoned: false, read_only: false }
    }

    fn limits(&self) -> Limits {
        MemoryDisk::new(1).limits()
    }

    fn read(&self, sector: u64, to: &mut [u8]) -> Result {
        let world = self.world();
        let read = world.disks[self.number].try_read(sector, (to.len() / SECTOR) as u64);
        to.copy_from_slice(&read.map_err(|errno| Error::from_errno(-errno))?);
        Ok(())
    }

    fn write(&self, sector: u64, from: &[u8], fua: bool) -> Result {
        let id = {
            let mut world = self.world();
            world.next += 1;
            let id = world.next;
            world.in_flight[self.number].push((id, sector, from.to_vec()));
            world.moment();
            id
        };
        // Others may end before.
        std::thread::yield_now();
        let mut world = self.world();
        world.in_flight[self.number].retain(|write| write.0 != id);
        world.disks[self.number].write(sector, from, fua);
        world.moment();
        Ok(())
    }

    fn flush(&self) -> Result {
        let mark = self.world().disks[self.number].mark();
        std::thread::yield_now();
        let mut world = self.world();
        world.moment();
        world.disks[self.number].flush(mark);
        world.moment();
        Ok(())
    }
}

/// What a volume consists of.
struct Machine {
    world: Arc<Mutex<World>>,
    sizes: [u64; 2],
}

impl Machine {
    fn new(disks: [Simulated; 2], sizes: [u64; 2], histories: Vec<History>, every: u64, seed: u64) -> Self {
        let world = World {
            disks,
            in_flight: Default::default(),
            next: 0,
            histories,
            images: Vec::new(),
            every,
            rng: Rng::new(seed),
        };
        Self { world: Arc::new(Mutex::new(world)), sizes }
    }

    fn open(&self, options: &str) -> Mapped<Writeboost> {
        let half = |number: usize| -> Arc<dyn Disk> {
            Arc::new(Half { world: self.world.clone(), number, sectors: self.sizes[number] })
        };
        let disks = [("/dev/backing", half(0)), ("/dev/cache", half(1))];
        let volume = Mapped::create(&disks, &format!("/dev/backing /dev/cache {options}"));
        let volume = volume.unwrap_or_else(|(why, e)| panic!("refused: {why} ({})", e.to_errno()));
        volume.resume();
        volume
    }
}

/// Sectors that all have their version in each of their words.
fn contents(version: u64, sectors: u64) -> Vec<u8> {
    version.to_le_bytes().repeat(sectors as usize * SECTOR / 8)
}

/// The versions of a part, from its bytes.
fn versions(bytes: &[u8]) -> Vec<u64> {
    let version = |sector: &[u8]| {
        let word = sector.first_chunk::<8>().unwrap();
        assert!(sector.chunks_exact(8).all(|other| other == word), "a sector of several versions");
        u64::from_le_bytes(*word)
    };
    bytes.chunks_exact(SECTOR).map(version).collect()
}

/// One writer does so many things.
fn write_for_a_while(volume: &Mapped<Writeboost>, world: &Mutex<World>, who: usize, ops: u64, seed: u64) {
    let rng = &mut Rng::new(seed);
    let start = who as u64 * PART;
    // All that ends until then is durable.
    let promise = |ended: &[usize]| {
        let mut world = world.lock().unwrap();
        for (history, &ended) in world.histories.iter_mut().zip(ended) {
            history.promised = history.promised.max(ended);
        }
    };
    for _ in 0..ops {
        match rng.below(12) {
            0 => {
                let ended = all_ended(&world.lock().unwrap());
                volume.flush().unwrap();
                promise(&ended);
            }
            1 => {
                let found = versions(&volume.read(start, PART).unwrap());
                let history = world.lock().unwrap().histories[who].clone();
                assert_eq!(found, history.after(history.writes.len()), "writer {who} reads something else");
            }
            _ => {
                let blocks = rng.one_in(2);
                let unit = if blocks { BLOCK_SECTORS } else { 1 };
                // What is larger may go around the cache, and then is no part of the log.
                let most = if rng.one_in(6) { 15 * BLOCK_SECTORS } else { 16 };
                let n = rng.range(1, most / unit) * unit;
                let first = rng.below((PART - n) / unit + 1) * unit;
                let (fua, preflush) = (rng.one_in(8), rng.one_in(10));
                let (version, ended) = {
                    let mut world = world.lock().unwrap();
                    world.histories[who].writes.push((first, n));
                    (world.histories[who].writes.len(), if preflush { all_ended(&world) } else { vec![] })
                };
                let mut request = Request::write(start + first, &contents(version as u64, n));
                if fua {
                    request = request.fua();
                }
                if preflush {
                    request = request.preflush();
                }
                volume.submit(request).wait().unwrap();
                let mut world = world.lock().unwrap();
                let history = &mut world.histories[who];
                history.ended = version;
                if fua {
                    // The log is a prefix: what this writer has written before is durable, too.
                    history.promised = version;
                }
                drop(world);
                promise(&ended);
            }
        }
    }
}

fn all_ended(world: &World) -> Vec<usize> {
    world.histories.iter().map(|history| history.ended).collect()
}

/// A life, and a power cut at each of its images. Says how many there were.
fn live(seed: u64) -> usize {
    let rng = &mut Rng::new(seed);
    let segment_blocks = rng.pick(&[16, 32]);
    let nr_segments = rng.pick(&[16, 24, 48]);
    let cache = (256 + nr_segments * u64::from(segment_blocks)) * BLOCK_SECTORS;
    let sizes = [BACKING, cache];
    let mut uuid = [0; 16];
    uuid[..8].copy_from_slice(&seed.to_le_bytes());
    uuid[15] = 1;
    let sb = Superblock::new(cache, BACKING, segment_blocks, uuid, seed | 1 << 63).unwrap();
    let mut disk = Simulated::new(cache);
    let first = Checkpoint::first(sb.nonce);
    disk.poke(0, &sb.encode());
    disk.poke(first.block() * BLOCK_SECTORS, &first.encode());
    let histories = vec![History::default(); WRITERS];
    let every = rng.pick(&[8, 30, 100]);
    let machine = Machine::new([Simulated::new(BACKING), disk], sizes, histories, every, rng.next());
    let options =
        rng.pick(&["2 writeback_threshold 0", "", "2 writeback_threshold 100", "2 sync_data_interval 1"]);
    {
        let volume = machine.open(options);
        let ops = rng.range(20, 120);
        let seeds: Vec<u64> = (0..WRITERS).map(|_| rng.next()).collect();
        std::thread::scope(|scope| {
            for (who, seed) in seeds.iter().enumerate() {
                let (volume, world) = (&volume, &machine.world);
                scope.spawn(move || write_for_a_while(volume, world, who, ops, *seed));
            }
            match rng.below(4) {
                0 => drop(volume.message("drop_caches")),
                1 => {
                    volume.suspend();
                    volume.resume();
                }
                _ => (),
            }
        });
        if rng.one_in(3) {
            volume.remove();
        } else {
            volume.kill();
        }
    }
    let images = std::mem::take(&mut machine.world.lock().unwrap().images);
    let n = images.len();
    for (i, image) in images.into_iter().enumerate() {
        let Image { mut disks, in_flight, histories } = image;
        for (disk, in_flight) in disks.iter_mut().zip(&in_flight) {
            if rng.one_in(4) {
                disk.orphan(rng, in_flight);
            } else {
                disk.cut(rng, in_flight);
            }
        }
        // What a backing disk does not give back that was being written is in the log, but what is beside that in the same block is not.
        disks[0] = disks[0].clone().healed();
        let machine = Machine::new(disks, sizes, vec![], u64::MAX, rng.next());
        let volume = machine.open("2 writeback_threshold 0");
        for (who, history) in histories.iter().enumerate() {
            let found = versions(&volume.read(who as u64 * PART, PART).unwrap());
            assert!(
                history.allows(&found),
                "seed {seed}, image {i}: writer {who} finds what is no prefix of {} writes, of which {} were promised: {found:?}",
                history.writes.len(),
                history.promised
            );
        }
        volume.kill();
    }
    n
}

#[test]
fn the_volume_survives_power_cuts() {
    let setting = |name: &str, default: u64| std::env::var(name).map_or(default, |s| s.parse().unwrap());
    let first = setting("WRITEBOOST_SEED", 1);
    let wanted = setting("WRITEBOOST_IMAGES", 1500) as usize;
    let started = Instant::now();
    let (mut images, mut lives) = (0, 0);
    while images < wanted {
        images += live(first + lives);
        lives += 1;
    }
    let rate = images as f64 / started.elapsed().as_secs_f64();
    println!("{images} power cuts of {lives} lives from seed {first}, {rate:.0} per second");
}
