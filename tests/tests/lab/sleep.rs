//! Hibernation, on Debian's own kernels, which write an image of their memory to a disk and come back out of it at once
//! (`test_resume`).
//!
//! What counts is what the cache device holds afterwards: memory is that of the snapshot again, and if anything was written
//! since, what is acknowledged from then on is lost by the next power cut.

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
use xtask::lab::{Guest, Running, Series, SUPPORTED};

use crate::support::{Bench, Body, Level, Test};

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

/// Puts what follows into a room of its own in RAM, with the few programs that it needs: virtio's driver for 9p cannot hibernate,
/// so that the guest's root is gone afterwards. The host reads what is printed, and cuts the power at last.
const ROOM: &str = r#"
    modprobe -a dm-writeboost dm-delay
    if [ -e /mnt/share/dm-fault.ko ]; then insmod /mnt/share/dm-fault.ko; fi
    room=/tmp/room
    mkdir -p $room/dev $room/proc $room/sys $room/tmp $room/bin
    for dir in dev proc sys; do mount --rbind /$dir $room/$dir; done
    for program in dmsetup wbtest busybox mkswap swapon; do
        path=$(type -P $program)
        cp -L --parents $path $(ldd $path 2>/dev/null | grep -o '/[^ ]*' || true) $room
    done
    for applet in sh echo cat dd sleep grep; do
        printf '#!/usr/bin/busybox sh\nexec /usr/bin/busybox %s "$@"\n' $applet >$room/bin/$applet
        chmod 755 $room/bin/$applet
    done
    # From here on nobody answers it.
    udevadm control --exit
    export DM_DISABLE_UDEV=1 SEED
    cat >$room/script <<'END'
set -eu
die() { echo "FAILED: $*"; sleep 1000; }
# The host is not told of its end, which would be a file of 9p.
trap 'die "the script has ended with $?"' EXIT
# Which of them it is does not matter: there is one.
backing=$(echo /dev/lab/disk0) cache=/dev/lab/disk1 swap=/dev/lab/disk2
sectors() { cat /sys/class/block/$(busybox basename $(busybox readlink $1))/size; }
size=$(sectors $backing)
volume() { dmsetup create --noudevsync v --table "0 $size writeboost $backing $cache"; }
is_ok() {
    case "$(dmsetup status v)" in
    *' state 0 '*) ;;
    *) die "status $(dmsetup status v)" ;;
    esac
}
# Makes all durable that was written to a device: of a history, by itself, only what its seed says.
durable() { dd if=/dev/null of=$1 conv=notrunc,fsync 2>/dev/null; }
echo test_resume >/sys/power/disk
"#;

/// A place for the image, on the third disk.
const SWAP: &str = r#"
mkswap $swap >/dev/null
swapon $swap
"#;

const GO: &str = r#"
END
    exec chroot $room /usr/bin/busybox sh /script
"#;

/// Runs `script` in the room of `guest`.
fn sleeper(cx: &Bench, guest: Guest<'_>, disks: &[PathBuf], script: &str) -> Result<Running> {
    let mut guest = guest.cpus(2).mem(512).timeout(PATIENCE * 2).param("no_console_suspend");
    for disk in disks {
        guest = guest.disk(disk);
    }
    cx.spawn(guest, &format!("{ROOM}{script}{GO}"))
}

/// The same, with a backing device, a cache device, and a disk for the image. The script makes the volume.
fn hibernator(cx: &Bench, guest: Guest<'_>, script: &str) -> Result<([PathBuf; 3], Running)> {
    let disks = [cx.disk("backing", 48)?, cx.disk("cache", 24)?, cx.disk("swap", 512)?];
    let running = sleeper(cx, guest, &disks, &format!("{SWAP}{script}"))?;
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

/// Nothing is written to either device from the snapshot until the memory in it comes back; then writing goes on, and all that is made
/// durable is there after a power cut.
fn hibernation(cx: &Bench) -> Result<()> {
    let script = r#"
volume
wbtest history-write /dev/mapper/v --seed $SEED --last 400 --every 5 >/dev/null
# User space is frozen for seconds: for the volume, nobody is there, and it has time. At this pace it would take all of that.
dmsetup message v 0 writeback_rate_limit 100
echo disk >/sys/power/state || die 'it does not hibernate'
echo "AFTER $(dmsetup status v)"
wbtest history-write /dev/mapper/v --seed $SEED --from 401 --last 600 --every 5
echo DONE
sleep 1000
"#;
    let ([backing, cache, _], running) = hibernator(cx, cx.guest()?, script)?;
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
    cx.run(
        guest,
        &format!(
            r#"
            modprobe dm-writeboost
            volume v /dev/lab/disk0 /dev/lab/disk1
            say "$(wbtest history-check /dev/mapper/v --seed $SEED --durable {durable} --reads 200)"
            finish v /dev/lab/disk0 /dev/lab/disk1
            "#
        ),
    )?;
    Ok(())
}

/// While the image is being written somebody else opens the volume: another kernel, which resumes it and writes its checkpoint. The
/// memory that comes back must not go on with a log that is not where it was.
fn somebody_else(cx: &Bench) -> Result<()> {
    let script = r#"
volume
wbtest history-write /dev/mapper/v --seed $SEED --last 300 --every 5
durable /dev/mapper/v
echo disk >/sys/power/state || die 'it does not hibernate'
status=$(dmsetup status v)
case "$status" in
# Failed, and changed.
*' state 2 fault 8 '*) ;;
*) die "status $status" ;;
esac
for io in if of; do
    case $io in if) other='of=/dev/null iflag=direct' ;; of) other='if=/dev/zero oflag=direct' ;; esac
    if busybox dd $io=/dev/mapper/v $other bs=4096 count=1 2>/dev/null; then die "dd $io works"; fi
done
if dmsetup message v 0 drop_caches; then die 'it drains'; fi
busybox dmesg | grep 'has changed since the machine hibernated'
dmsetup remove --noudevsync v
volume
wbtest history-check /dev/mapper/v --seed $SEED --durable 300
echo DONE
sleep 1000
"#;
    let ([_, cache, _], running) = hibernator(cx, cx.guest()?, script)?;
    logs(&running, SAVING)?;
    resume_elsewhere(&cache)?;
    says(&running, "DONE")?;
    cx.cut(running)?;
    Ok(())
}

/// After the restore the cache device answers only when a task does something that was frozen, as one whose daemon is one;
/// and the medium has lost a checkpoint meanwhile. Nothing is served before that, and all is afterwards.
fn cache_that_waits_for_a_task(cx: &Bench) -> Result<()> {
    let script = r#"
dmsetup create --noudevsync cache --table "0 $(sectors $cache) fault $cache 0"
cache=/dev/mapper/cache
volume
dmsetup message v 0 writeback_threshold 0
history="/dev/mapper/v --seed $SEED --sectors 16384"
wbtest history-write $history --last 300 --every 5 >/dev/null
durable /dev/mapper/v
dmsetup message cache 0 fail medium read 8 1
# Whoever has begun something has ended it by then.
sleep 2
dmsetup suspend --noflush cache
echo disk >/sys/power/state || die 'it does not hibernate'
echo AWAKE
(busybox dd if=/dev/mapper/v of=/dev/null iflag=direct bs=4096 count=1 && echo >/tmp/done-read) 2>/dev/null &
(busybox dd if=/dev/zero of=/dev/mapper/v oflag=direct bs=4096 count=1 seek=4000 && echo >/tmp/done-write) 2>/dev/null &
(durable /dev/mapper/v && echo >/tmp/done-flush) &
sleep 3
[ "$(echo /tmp/done-*)" = '/tmp/done-*' ] || die "nobody has compared, and there is $(echo /tmp/done-*)"
dmsetup resume --noudevsync cache
wait
for what in read write flush; do [ -e /tmp/done-$what ] || die "no $what"; done
is_ok
wbtest history-check $history --durable 300
echo DONE
sleep 1000
"#;
    let (_, running) = hibernator(cx, cx.failing_guest()?, script)?;
    says(&running, "DONE")?;
    cx.cut(running)?;
    Ok(())
}

/// A disk that came after the module sleeps before the volume does: what takes long is over by then. Whoever waits for it does so
/// after the hibernation, too.
fn disk_that_sleeps_before(cx: &Bench) -> Result<()> {
    let script = r#"
disk=$(busybox readlink -f $backing)
name=${disk##*/}
pci=$(busybox dirname $(busybox readlink -f /sys/class/block/$name/device))
echo 1 >$pci/remove
echo 1 >/sys/bus/pci/rescan
until [ -b $disk ]; do sleep 1; done
dmsetup create --noudevsync slow --table "0 $size delay $disk 0 0 $disk 0 6000 $disk 0 0"
backing=/dev/mapper/slow
volume
history="/dev/mapper/v --seed $SEED --sectors 16384"
wbtest history-write $history --last 100 --every 5 >/dev/null
durable /dev/mapper/v
dmsetup message v 0 drop_caches &
drain=$!
sleep 1
echo disk >/sys/power/state || die 'it does not hibernate'
wait $drain || die 'the drain was given up'
is_ok
wbtest history-check $history --durable 100
echo DONE
sleep 1000
"#;
    let (_, running) = hibernator(cx, cx.guest()?, script)?;
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
    let script = r#"
volume
dmsetup create --noudevsync upper --table "0 1048576 linear /dev/mapper/v 0"
dmsetup create --noudevsync lower --table "0 98304 linear /dev/mapper/v 1048576"
mkswap /dev/mapper/upper >/dev/null
swapon /dev/mapper/upper
wbtest history-write /dev/mapper/lower --seed $SEED --last 300 --every 5
for try in 1 2; do
    if echo disk >/sys/power/state; then die 'it hibernates'; fi
    is_ok
done
wbtest history-write /dev/mapper/lower --seed $SEED --from 301 --last 400 --every 5
durable /dev/mapper/lower
echo DONE
sleep 1000
"#;
    let running = sleeper(cx, cx.guest()?, &disks, script)?;
    says(&running, "DONE")?;
    cx.cut(running)?;
    let guest = cx.guest()?.cpus(2).mem(512).disk(backing).disk(cache);
    cx.run(
        guest,
        r#"
        modprobe dm-writeboost
        volume v /dev/lab/disk0 /dev/lab/disk1
        dmsetup create lower --table "0 98304 linear /dev/mapper/v 1048576"
        say "$(wbtest history-check /dev/mapper/lower --seed $SEED --durable 400)"
        healthy v
        "#,
    )?;
    Ok(())
}
