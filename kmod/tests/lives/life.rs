// SPDX-License-Identifier: GPL-2.0-only

//! A life of a volume. The volume is opened; several threads write to it, while an administrator sends
//! commands and things go wrong with the disks; then the life ends. The next life begins with the disks as
//! this one, or a power cut in the middle of it, has left them.

use crate::disk::Disk as Simulated;
use crate::history::{History, Shown};
use crate::rng::Rng;
use crate::world::{Half, Image, Trouble, World, BACKING, CACHE, SECTOR};
use crate::Plan;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use writeboost::format::{Checkpoint, Superblock, BLOCK_SECTORS};
use writeboost::host::plain::{
    drowse, limit_memory, now_ms, rest, restored, sleep, spawn, stay, take_us, turns, wake, who_waits, Disk,
    Error, Mapped, Request, StatusKind, EBUSY, ENOMEM,
};
use writeboost::target::Writeboost;

/// Sectors of each writer's own part.
const PART: u64 = 48 * BLOCK_SECTORS;
/// How long a trouble with a disk may have effects after its end, in milliseconds: the longest pause before a
/// retry, and the operations that wait for the retry.
const AFTERMATH_MS: u64 = 150_000;
/// The longest time that an operation may wait beyond the longest trouble, in milliseconds.
const PATIENCE_MS: u64 = 600_000;

/// The longest time of an operation while nothing is wrong, in milliseconds.
const PROMPT_MS: u64 = 9000;
/// Most turns of all tasks in a second. With more, two of them wake each other again and again, because the
/// disks take hundreds of microseconds for one I/O.
const MOST_TURNS: u64 = 200_000;

type Volume = Mapped<Writeboost>;

/// The parts of a volume.
struct Machine {
    world: Arc<Mutex<World>>,
    sizes: [u64; 2],
    /// Size in sectors of the backing disk's blocks, which are written whole.
    block: u64,
}

impl Machine {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    fn try_open(&self, options: &str) -> Result<Volume, (String, Error)> {
        let half = |number: usize| -> Arc<dyn Disk> {
            let logical_block = if number == BACKING { self.block as u32 * SECTOR as u32 } else { 512 };
            Arc::new(Half { world: self.world.clone(), number, sectors: self.sizes[number], logical_block })
        };
        let disks = [("/dev/backing", half(BACKING)), ("/dev/cache", half(CACHE))];
        let volume = Mapped::create(&disks, &format!("/dev/backing /dev/cache {options}"))?;
        volume.resume();
        Ok(volume)
    }

    /// The machine with its disks as in `image`.
    fn with(&self, image: &Image, seed: u64) -> Self {
        let world = World::new(image.disks.clone(), image.histories.clone(), u64::MAX, seed);
        Self { world: Arc::new(Mutex::new(world)), ..*self }
    }
}

/// Sectors with the version in each of their words.
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

/// A life while it goes on.
struct Life {
    machine: Machine,
    volume: Volume,
    /// The number of sectors that will rot.
    rot: u64,
    /// Writers that are not done.
    writers: Mutex<usize>,
    over: AtomicBool,
}

impl Life {
    fn ended(&self) -> Vec<usize> {
        self.machine.world().histories.iter().map(History::ended).collect()
    }

    /// All writes that had ended by then are durable.
    fn promise(&self, ended: &[usize]) {
        let mut world = self.machine.world();
        world.histories.iter_mut().zip(ended).for_each(|(history, &ended)| history.promise(ended));
    }

    /// Fails unless some trouble with a disk may explain an error of an operation that began at `began_ms`.
    fn excuse(&self, what: &str, error: Error, began_ms: u64) {
        let world = self.machine.world();
        assert!(
            world.may_have_failed()
                || world.rotten != 0
                || world.was_wrong_since(began_ms.saturating_sub(AFTERMATH_MS)),
            "{what} fails ({}) though nothing is wrong with a disk",
            error.to_errno()
        );
    }

    /// An operation that began at `began_ms` is over now. Unless something was wrong with a disk, it took no
    /// longer than a suspend does, and less than ten seconds. After ten seconds a thread looks by itself, as
    /// if its wake-up had been lost.
    fn was_prompt(&self, what: &str, began_ms: u64) {
        let took_ms = now_ms() - began_ms;
        if took_ms > PROMPT_MS {
            let world = self.machine.world();
            let wrong = world.rotten != 0 || world.was_wrong_since(began_ms.saturating_sub(AFTERMATH_MS));
            assert!(wrong, "{what} takes {took_ms} ms though nothing is wrong with a disk");
        }
    }

    /// One writer performs so many operations.
    fn write_for_a_while(&self, who: usize, ops: u64, seed: u64) {
        let rng = &mut Rng::new(seed);
        for _ in 0..ops {
            if rng.one_in(20) {
                take_us(rng.pick(&[100, 10_000, 1_500_000, 4_000_000]));
            }
            match rng.below(12) {
                0 => self.flush(),
                1 => self.read(who),
                _ => self.write(who, rng),
            }
            self.audit();
        }
        *self.writers.lock().unwrap() -= 1;
    }

    fn audit(&self) {
        assert_eq!(self.volume.target().audit(), Ok(()));
    }

    fn flush(&self) {
        let (ended, began_ms) = (self.ended(), now_ms());
        let result = self.volume.flush();
        self.was_prompt("a flush", began_ms);
        match result {
            Ok(()) => self.promise(&ended),
            Err(error) => self.excuse("a flush", error, began_ms),
        }
    }

    fn read(&self, who: usize) {
        let began_ms = now_ms();
        if self.machine.world().rotten != 0 {
            return self.read_by_block(who);
        }
        let result = self.volume.read(who as u64 * PART, PART);
        self.was_prompt("a read", began_ms);
        match result {
            Ok(bytes) => {
                let found = versions(&bytes);
                let world = self.machine.world();
                let history = &world.histories[who];
                let shown = Shown(&found);
                assert!(history.is_now(&found), "writer {who} reads{shown}, and has {history}");
            }
            Err(error) => {
                // A read is tried again at once, if at all. But data that the cache disk has forgotten are
                // gone.
                let world = self.machine.world();
                assert!(
                    world.is_damaged() || world.was_wrong_since(began_ms),
                    "a read fails ({}) though no I/O of a disk has",
                    error.to_errno()
                );
            }
        }
    }

    /// Rotten sectors cannot be read, and everything else is as it was written.
    fn read_by_block(&self, who: usize) {
        let mut unreadable = 0;
        for first in (0..PART).step_by(BLOCK_SECTORS as usize) {
            match self.volume.read(who as u64 * PART + first, BLOCK_SECTORS) {
                Ok(bytes) => {
                    let found = versions(&bytes);
                    let world = self.machine.world();
                    let history = &world.histories[who];
                    let shown = Shown(&found);
                    assert!(
                        history.is_now_from(first, &found),
                        "writer {who} reads{shown} at {first}, and has {history}"
                    );
                }
                Err(_) => unreadable += 1,
            }
        }
        let world = self.machine.world();
        let is_clear = !world.may_have_failed() && !world.was_wrong_since(0);
        assert!(!is_clear || unreadable <= world.rotten, "{unreadable} blocks, {} are rotten", world.rotten);
    }

    fn write(&self, who: usize, rng: &mut Rng) {
        let unit = if rng.one_in(2) { BLOCK_SECTORS } else { self.machine.block };
        // A larger write may bypass the cache, and then is no part of the log.
        let most = if rng.one_in(6) { 15 * BLOCK_SECTORS } else { 16 };
        let n = rng.range(1, most / unit) * unit;
        // Most of the part is overwritten again and again, and some is not, so that relocation is worth it.
        let part = if rng.one_in(6) { PART } else { PART / 2 };
        let first = rng.below((part - n) / unit + 1) * unit;
        let (fua, preflush) = (rng.one_in(8), rng.one_in(10));
        let ended = if preflush { self.ended() } else { vec![] };
        let version = self.machine.world().histories[who].begin(first, n);
        let began_ms = now_ms();
        let mut request = Request::write(who as u64 * PART + first, &contents(version, n));
        if fua {
            request = request.fua();
        }
        if preflush {
            request = request.preflush();
        }
        let result = self.volume.submit(request).wait();
        self.was_prompt("a write", began_ms);
        self.machine.world().histories[who].end(result.is_err(), fua);
        match result {
            Ok(_) => self.promise(&ended),
            Err(error) => self.excuse("a write", error, began_ms),
        }
    }

    /// The administrator, until the writers are done.
    fn administer(&self, mut ops: u64, seed: u64) {
        let rng = &mut Rng::new(seed);
        while ops > 0 && *self.writers.lock().unwrap() > 0 {
            ops -= 1;
            take_us(rng.pick(&[10, 1000, 30_000, 2_000_000, 20_000_000]));
            self.audit();
            let began_ms = now_ms();
            let message = |message: &str| {
                if let Err(error) = self.volume.message(message) {
                    self.excuse(message, error, began_ms);
                }
            };
            match rng.below(11) {
                0 | 1 => message("drop_caches"),
                10 => self.hibernate(rng),
                2 | 3 => {
                    self.volume.suspend();
                    take_us(rng.pick(&[0, 1000, 5_000_000]));
                    self.volume.resume();
                }
                // Rotten blocks should be given up soon: that takes minutes otherwise.
                2..=5 if self.rot != 0 && rng.one_in(2) => message("give_up"),
                4 => message(rng.pick(&["give_up", "clear_stat", "report"])),
                5 => {
                    self.volume.status(StatusKind::Info);
                    self.volume.status(StatusKind::Table);
                }
                _ => message(rng.pick(&[
                    "writeback_threshold 0",
                    "writeback_threshold 50",
                    "writeback_threshold 100",
                    "nr_max_batched_writeback 1",
                    "nr_max_batched_writeback 32",
                    "writeback_rate_limit 200",
                    "writeback_rate_limit 0",
                    "steering_timeout 3",
                    "steering_timeout 0",
                    "sync_data_interval 1",
                    "sync_data_interval 0",
                ])),
            }
        }
    }

    /// The machine hibernates, as far as it gets. Nothing is written from the snapshot until tasks run again,
    /// even if a task asks for it.
    fn hibernate(&self, rng: &mut Rng) {
        let pause = |rng: &mut Rng| take_us(rng.pick(&[0, 100, 3000, 1_500_000]));
        drowse();
        pause(rng);
        if rest() && {
            pause(rng);
            sleep()
        } {
            let written = self.machine.world().next;
            pause(rng);
            if rng.one_in(2) {
                stay();
            } else {
                self.machine.world().restored = true;
                restored();
            }
            pause(rng);
            assert_eq!(self.machine.world().next, written, "something is written while the machine sleeps");
        }
        wake();
    }

    /// Troubles with the disks.
    fn trouble(&self, troubles: u64, seed: u64) {
        let rng = &mut Rng::new(seed);
        for _ in 0..troubles + self.rot {
            // Sectors rot early in the life, so that their data are still needed.
            let longest = if self.rot == 0 { 5 } else { 3 };
            take_us([10, 1000, 30_000, 1_000_000, 5_000_000][rng.index(longest)]);
            if *self.writers.lock().unwrap() == 0 {
                break;
            }
            let ms = rng.pick(&[1, 10, 300, 2000, 9000, 30_000, 100_000]);
            let disk = rng.index(2);
            if rng.below(troubles + self.rot) < self.rot {
                self.machine.world().rot(rng);
                continue;
            }
            let trouble = Trouble::any(rng, disk, self.machine.sizes[disk], ms);
            self.machine.world().begin(trouble);
        }
    }

    /// Nothing is wrong with the disks any more. So after a while everything works, unless the log has
    /// failed, and drained data are on the backing disk.
    fn convalesce(&self) {
        self.machine.world().troubles.clear();
        take_us(AFTERMATH_MS * 1000);
        let log_may_fail = self.machine.world().may_have_failed();
        let is_rotten = self.machine.world().rotten != 0;
        let flush = self.volume.flush();
        let drain = self.volume.message("drop_caches").map(|_| ());
        match flush.and(drain) {
            Ok(()) => self.promise(&self.ended()),
            Err(_) => {
                let status = self.volume.status(StatusKind::Info);
                assert!(
                    log_may_fail || is_rotten,
                    "the disks are well; flush {flush:?}, drain {drain:?}: {status}"
                );
                return;
            }
        }
        let writers = self.machine.world().histories.len();
        if is_rotten {
            // A block that was given up is not on the backing disk.
            return (0..writers).for_each(|who| self.read(who));
        }
        (0..writers).for_each(|who| self.read(who));
        let world = self.machine.world();
        for (who, history) in world.histories.iter().enumerate() {
            let found = versions(&world.disks[BACKING].read(who as u64 * PART, PART));
            assert!(
                history.is_now(&found),
                "writer {who} finds{} behind a drain, and has {history}",
                Shown(&found)
            );
        }
    }

    /// Fails when the life is not over within a time that is longer than any trouble, and lists the tasks
    /// that wait.
    fn watch(&self) {
        let mut idle_ms = 0;
        let mut seen = self.ended();
        while !self.over.load(Ordering::SeqCst) {
            let before = turns();
            take_us(1_000_000);
            let busy = turns() - before;
            assert!(busy < MOST_TURNS, "{busy} turns in a second, as if somebody spins: {}", who_waits());
            let ended = self.ended();
            let troubles = !self.machine.world().troubles.iter().all(|t| t.is_over());
            idle_ms = if ended == seen && !troubles { idle_ms + 1000 } else { 0 };
            seen = ended;
            assert!(idle_ms < PATIENCE_MS, "nothing goes on: {}", who_waits());
        }
    }
}

/// Several lives by `plan`. Returns the number of images at which the power was cut.
pub fn live(plan: &Plan) -> u64 {
    let rng = &mut Rng::new(plan.seed);
    let segment_blocks = rng.pick(&[16, 32]);
    let nr_segments = rng.pick(&[16, 24, 48]);
    let cache = (256 + nr_segments * u64::from(segment_blocks)) * BLOCK_SECTORS;
    let backing = plan.writers as u64 * PART;
    let mut uuid = [0; 16];
    uuid[..8].copy_from_slice(&plan.seed.to_le_bytes());
    uuid[15] = 1;
    let sb = Superblock::new(cache, backing, segment_blocks, uuid, plan.seed | 1 << 63).unwrap();
    let mut disk = Simulated::new(cache);
    let first = Checkpoint::first(sb.nonce);
    disk.poke(0, &sb.encode());
    disk.poke(first.block() * BLOCK_SECTORS, &first.encode());
    let block = rng.pick(&[1, 1, 1, BLOCK_SECTORS]);
    let mut disks = [Simulated::new(backing), disk];
    let mut histories = vec![History::new(PART); plan.writers];
    let mut found = vec![vec![0; PART as usize]; plan.writers];
    let mut cuts = 0;
    for _ in 0..plan.lives {
        let world = World::new(disks, histories, rng.pick(&[8, 30, 100]), rng.next());
        let machine = Machine { world: Arc::new(Mutex::new(world)), sizes: [backing, cache], block };
        let (left, images) = live_once(machine, found, plan, rng);
        cuts += images;
        let Some(left) = left else { break };
        Left { disks, histories, found } = left;
    }
    cuts
}

const OPTIONS: &[&str] =
    &["2 writeback_threshold 0", "", "2 writeback_threshold 100", "2 sync_data_interval 1"];

/// The state that a life leaves to the next one.
struct Left {
    disks: [Simulated; 2],
    histories: Vec<History>,
    /// The contents that each writer finds there.
    found: Vec<Vec<u64>>,
}

/// One life, in which each writer has to find `found`. Returns the state that it leaves, and the number of
/// its images.
fn live_once(machine: Machine, found: Vec<Vec<u64>>, plan: &Plan, rng: &mut Rng) -> (Option<Left>, u64) {
    let writers = plan.writers;
    if rng.one_in(4) {
        // Opening takes some hundred pieces. An attempt that failed for want of memory has no effect.
        limit_memory(Some(rng.below(400)));
        match machine.try_open("") {
            Ok(volume) => volume.kill(),
            Err((why, error)) => assert!(error == ENOMEM, "refused: {why} ({})", error.to_errno()),
        }
        limit_memory(None);
    }
    let volume = machine.try_open(rng.pick(OPTIONS));
    let volume = volume.unwrap_or_else(|(why, e)| panic!("refused: {why} ({})", e.to_errno()));
    // Only now the writers learn the contents: until here another crash could have left less of the data that
    // were not promised.
    machine.world().histories.iter_mut().zip(found).for_each(|(history, found)| history.begin_anew(found));
    let life = Arc::new(Life {
        machine,
        volume,
        rot: plan.rot,
        writers: Mutex::new(writers),
        over: AtomicBool::new(false),
    });
    let go = |name: &str, f: Box<dyn FnOnce(&Life) + Send>| {
        let life = life.clone();
        spawn(name, move || f(&life)).unwrap()
    };
    let mut all = Vec::new();
    for who in 0..writers {
        // Rotten blocks are given up when their room is needed, and not before.
        let most = if plan.rot == 0 { plan.ops } else { plan.ops * 3 };
        let (ops, seed) = (rng.range(most / 6, most), rng.next());
        all.push(go("writer", Box::new(move |life| life.write_for_a_while(who, ops, seed))));
    }
    let (admin, seed) = (if plan.rot == 0 { plan.admin } else { plan.admin + 12 }, rng.next());
    all.push(go("admin", Box::new(move |life| life.administer(admin, seed))));
    let (troubles, seed) = (if rng.one_in(3) { 0 } else { plan.troubles }, rng.next());
    all.push(go("trouble", Box::new(move |life| life.trouble(troubles, seed))));
    let watch = go("watch", Box::new(Life::watch));
    all.into_iter().for_each(|thread| thread.join());
    if rng.one_in(2) {
        life.convalesce();
    }
    life.machine.world().troubles.clear();
    life.over.store(true, Ordering::SeqCst);
    watch.join();
    let Life { machine, volume, .. } = Arc::into_inner(life).unwrap();
    let is_removed = rng.one_in(3);
    if is_removed {
        let log_may_fail = machine.world().may_have_failed();
        volume.remove();
        if !log_may_fail {
            let mut world = machine.world();
            world.histories.iter_mut().for_each(|history| history.promise(history.ended()));
        }
    } else {
        volume.kill();
    }
    if machine.world().rotten != 0 {
        // The next life might need the rotten data.
        return (None, 0);
    }
    let images = std::mem::take(&mut machine.world().images);
    let cuts = images.len() as u64;
    // The next life begins from one of these images, or from the present state.
    let next = rng.index(images.len() + 1);
    let mut left = None;
    for (i, mut image) in images.into_iter().enumerate() {
        image.end(rng);
        let found = look(&machine, &image, plan, rng);
        if i == next {
            left = Some(Left { disks: image.disks, histories: image.histories, found });
        }
    }
    let left = left.unwrap_or_else(|| {
        let (disks, histories) = {
            let world = machine.world();
            (world.disks.clone(), world.histories.clone())
        };
        let image = Image::of(disks, histories);
        let found = look(&machine, &image, plan, rng);
        Left { disks: image.disks, histories: image.histories, found }
    });
    (Some(left), cuts)
}

/// Opens the volume as in `image`, and checks that everything promised is there. Returns the contents that
/// each writer finds.
fn look(machine: &Machine, image: &Image, plan: &Plan, rng: &mut Rng) -> Vec<Vec<u64>> {
    let machine = machine.with(image, rng.next());
    let drains = rng.one_in(4);
    let read = || {
        let volume = machine.try_open("2 writeback_threshold 0");
        let volume = volume.unwrap_or_else(|(why, e)| panic!("refused: {why} ({})", e.to_errno()));
        let read = |who: u64| versions(&volume.read(who * PART, PART).unwrap());
        let found: Vec<_> = (0..plan.writers as u64).map(read).collect();
        if drains {
            match volume.message("drop_caches") {
                Ok(_) => (),
                Err(EBUSY) => panic!("a drain is refused"),
                Err(error) => panic!("a drain fails ({})", error.to_errno()),
            }
            let world = machine.world();
            for (who, found) in (0..).zip(&found) {
                let drained = versions(&world.disks[BACKING].read(who * PART, PART));
                assert_eq!(&drained, found, "writer {who}: a drain leaves something else");
            }
        }
        volume.kill();
        found
    };
    let found = read();
    for (who, (history, found)) in image.histories.iter().zip(&found).enumerate() {
        let shown = Shown(found);
        assert!(history.allows(found), "writer {who} finds what is no prefix:{shown} of {history}");
    }
    if rng.one_in(8) {
        assert_eq!(read(), found, "what was there after a crash is not there after the next one");
    }
    found
}
