//! Hibernation, on Debian's own kernels, which write an image of their memory to a disk and come back out of
//! it at once (`test_resume`).
//!
//! What counts is what the cache device holds afterwards: memory is that of the snapshot again, and if
//! anything was written since, what is acknowledged from then on is lost by the next power cut.

use std::borrow::Cow;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context, Result};
use writeboost::engine::places::Opening;
use writeboost::engine::replay::{Replay, Want};
use writeboost::format::{Checkpoint, Held, Superblock, BLOCK, BLOCK_SECTORS, CHECKPOINT_BLOCKS, SECTOR};
use xtask::lab::{with, Guest, Running, Series, SUPPORTED};

use crate::support::{shell, Bench, Body, Level, Test};

/// The tests, on each supported series when there is time, else on the newest, and not all.
pub fn tests() -> Vec<Test> {
    let test = |series: Series, what: &str, seconds, level, body| Test {
        name: Cow::Owned(format!("sleep::{what}_{}_{}", series.major, series.minor)),
        seconds,
        full_seconds: seconds,
        level: if Some(&series) == SUPPORTED.last() { level } else { Level::Full },
        body: Body::Debian(series, body),
    };
    SUPPORTED
        .iter()
        .flat_map(|&series| {
            [
                test(series, "hibernation", 120, Level::Normal, hibernation),
                test(series, "somebody_else", 60, Level::Normal, somebody_else),
                test(series, "cache_that_waits_for_a_task", 70, Level::Normal, cache_that_waits_for_a_task),
                test(series, "disk_that_sleeps_before", 145, Level::Full, disk_that_sleeps_before),
                test(series, "image_on_the_volume", 70, Level::Full, image_on_the_volume),
            ]
        })
        .collect()
}

/// How long a guest may take for one thing.
const PATIENCE: Duration = Duration::from_secs(500);

/// Runs `script` in the room of `guest`, behind its functions.
fn sleeper(cx: &Bench, guest: Guest<'_>, disks: &[PathBuf], script: &str) -> Result<Running> {
    let mut guest = guest.cpus(2).mem(512).timeout(PATIENCE * 2).param("no_console_suspend");
    for disk in disks {
        guest = guest.disk(disk);
    }
    fs::write(cx.share().join("asleep.sh"), shell!("helpers/room").to_owned() + script)?;
    cx.spawn(guest, shell!("sleep/room"))
}

/// The same, with a backing device, a cache device, and a disk for the image. The script makes the volume.
fn hibernator(cx: &Bench, guest: Guest<'_>, script: &str) -> Result<([PathBuf; 3], Running)> {
    let disks = [cx.disk("backing", 48)?, cx.disk("cache", 24)?, cx.disk("swap", 512)?];
    let running = sleeper(cx, guest, &disks, script)?;
    Ok((disks, running))
}

/// Waits until `is_there` is true of the guest, or the script says that something has failed.
fn wait(running: &Running, what: &str, is_there: impl Fn() -> bool) -> Result<()> {
    let until = Instant::now() + PATIENCE;
    while !is_there() {
        let output = running.output();
        let is_late = running.has_ended() || Instant::now() > until || output.contains("FAILED");
        ensure!(!is_late, "no {what:?}; the script says:\n{output}\n{}", running.kernel_log());
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Waits until the script says `word`.
fn says(running: &Running, word: &str) -> Result<()> {
    wait(running, word, || running.output().contains(word))
}

/// Waits until the kernel says `words`.
fn logs(running: &Running, words: &str) -> Result<()> {
    wait(running, words, || running.kernel_log().contains(words))
}

/// What the kernel says when the snapshot is made, and when it has read half of the image again.
const SAVING: &str = "saving image data";
const HALF_LOADED: &str = "Image loading progress:  50%";

/// Nothing is written to either device from the snapshot until the memory in it comes back; then writing goes
/// on, and all that is made durable is there after a power cut.
fn hibernation(cx: &Bench) -> Result<()> {
    let ([backing, cache, _], running) = hibernator(cx, cx.guest()?, shell!("sleep/hibernation"))?;
    logs(&running, SAVING)?;
    let content = || -> Result<_> { Ok([fs::read(&backing)?, fs::read(&cache)?]) };
    let at_first = content()?;
    logs(&running, HALF_LOADED)?;
    ensure!(content()? == at_first, "something was written after the snapshot");
    says(&running, "DONE")?;
    let outcome = cx.cut(running)?;
    let hibernations = outcome.kernel_log.matches("hibernation exit").count();
    ensure!(hibernations == 1, "it has hibernated {hibernations} times");
    let after = outcome.output.lines().find_map(|line| line.strip_prefix("AFTER ")).context("no status")?;
    ensure!(after.contains(" state 0 "), "{after}");
    // Behind start, length and name of the target.
    let dirty: u64 = after.split_whitespace().nth(9).context("no dirty blocks")?.parse()?;
    ensure!(dirty > 0, "there was nothing to write back all the time: {after}");
    let durable = outcome.output.lines().filter_map(|line| line.strip_prefix("durable ")).next_back();
    let durable: u64 = durable.context("nothing was durable")?.parse()?;
    cx.report(&format!("write {durable} is durable after the hibernation"));
    let guest = cx.guest()?.cpus(2).mem(512).disk(backing).disk(cache);
    cx.run(guest, &with(&[("DURABLE", &durable)], shell!("sleep/after_hibernation")))?;
    Ok(())
}

/// While the image is being written another kernel opens the volume: it resumes the volume and writes its
/// checkpoint. The memory that comes back must not go on with a log that is not where it was.
fn somebody_else(cx: &Bench) -> Result<()> {
    let ([_, cache, _], running) = hibernator(cx, cx.guest()?, shell!("sleep/somebody_else"))?;
    logs(&running, SAVING)?;
    resume_elsewhere(&cache)?;
    says(&running, "DONE")?;
    cx.cut(running)?;
    Ok(())
}

/// After the restore the cache device answers only when a task does something that was frozen, as one whose
/// daemon is one; and the medium has lost a checkpoint meanwhile. Nothing is served before that, and all is
/// afterwards.
fn cache_that_waits_for_a_task(cx: &Bench) -> Result<()> {
    let (_, running) = hibernator(cx, cx.failing_guest()?, shell!("sleep/cache_that_waits_for_a_task"))?;
    says(&running, "DONE")?;
    cx.cut(running)?;
    Ok(())
}

/// A disk that came after the module sleeps before the volume does: what takes long is over by then. A drain
/// that waits for it goes on waiting after the hibernation.
fn disk_that_sleeps_before(cx: &Bench) -> Result<()> {
    let (_, running) = hibernator(cx, cx.guest()?, shell!("sleep/disk_that_sleeps_before"))?;
    says(&running, "DONE")?;
    let outcome = cx.cut(running)?;
    let hibernations = outcome.kernel_log.matches("hibernation exit").count();
    ensure!(hibernations == 1, "it has hibernated {hibernations} times");
    Ok(())
}

/// What a kernel does that resumes the volume: it replays the log and writes checkpoints.
fn resume_elsewhere(cache: &Path) -> Result<()> {
    let file = File::options().read(true).write(true).open(cache)?;
    let sector = |block: u64| -> Result<[u8; SECTOR]> {
        let mut bytes = [0; SECTOR];
        file.read_exact_at(&mut bytes, block * BLOCK as u64)?;
        Ok(bytes)
    };
    let Ok(sb) = Superblock::decode(&sector(0)?) else { bail!("no superblock") };
    let mut slots = [Held::Blank; CHECKPOINT_BLOCKS.len()];
    for (slot, block) in slots.iter_mut().zip(CHECKPOINT_BLOCKS) {
        *slot = Held::of(Some(&sector(block)?), &sb);
    }
    let Ok(chosen) = Checkpoint::choose(&slots) else { bail!("no checkpoint") };
    let mut replay = Replay::new(&sb, chosen, 4).ok().context("no memory")?;
    while let Want::Read { slot, blocks } = replay.want() {
        let mut bytes = vec![0; blocks as usize * BLOCK];
        file.read_exact_at(&mut bytes, sb.slot_sector(slot) / BLOCK_SECTORS * BLOCK as u64)?;
        ensure!(replay.feed(&bytes).is_ok(), "the log is damaged");
    }
    let (mut engine, checkpoint) = replay.finish();
    let mut opening = Opening::new(checkpoint);
    while let Some((block, checkpoint)) = opening.want(&engine) {
        let sector = checkpoint.map_or([0; SECTOR], |checkpoint| checkpoint.encode());
        file.write_all_at(&sector, block * BLOCK as u64)?;
        opening.written(&mut engine, true).ok().context("no checkpoint can be written")?;
    }
    Ok(())
}

/// The image would go to the volume itself: then there is no hibernation, and the system goes on.
fn image_on_the_volume(cx: &Bench) -> Result<()> {
    let disks = [cx.disk("backing", 600)?, cx.disk("cache", 24)?];
    let [backing, cache] = &disks;
    let running = sleeper(cx, cx.guest()?, &disks, shell!("sleep/image_on_the_volume"))?;
    says(&running, "DONE")?;
    cx.cut(running)?;
    let guest = cx.guest()?.cpus(2).mem(512).disk(backing).disk(cache);
    cx.run(guest, shell!("sleep/after_no_hibernation"))?;
    Ok(())
}
