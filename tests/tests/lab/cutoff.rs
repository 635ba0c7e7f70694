//! Power cuts: a guest is killed while it writes, and the next one finds on the same two disks what the first was
//! promised.
//!
//! The host's page cache keeps what the guest's disks were told, so these cuts lose what was in RAM and tear what was
//! under way. What a disk's own volatile cache could lose besides is found by recording all writes to both devices, and
//! making from the record states that a power cut could have left.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use writeboost_tests::random::Random;

use crate::support::{code, script, Bench, Test};

/// The tests.
pub const TESTS: &[Test] = &[
    code("cutoff::durable", 35, false, |cx| {
        // A log that goes round all the time.
        Cuts { rounds: 6, cache: 12, every: 4, align: 1, longest: 2500, slow: false }.run(cx)
    })
    .full_takes(140),
    code("cutoff::durable_quick", 12, true, |cx| {
        Cuts { rounds: 2, cache: 24, every: 8, align: 1, longest: 1000, slow: true }.run(cx)
    })
    .full_takes(24),
    code("cutoff::durable_on_a_slow_cache", 25, false, |cx| {
        Cuts { rounds: 5, cache: 24, every: 6, align: 1, longest: 1500, slow: true }.run(cx)
    })
    .full_takes(100),
    code("cutoff::prefix", 35, false, |cx| {
        // Nothing is ever flushed: how much is lost is open, but not that it is the end.
        Cuts { rounds: 6, cache: 24, every: 0, align: 1, longest: 2500, slow: false }.run(cx)
    })
    .full_takes(140),
    code("cutoff::prefix_of_whole_blocks", 30, false, |cx| {
        Cuts { rounds: 5, cache: 12, every: 500, align: 8, longest: 2500, slow: false }.run(cx)
    })
    .full_takes(120),
    code("cutoff::many_writers", 30, false, many_writers).full_takes(120),
    code("cutoff::ext4", 30, false, ext4).full_takes(120),
    script("cutoff::volatile_caches", 50, false, VOLATILE),
];

/// Both devices are parts of one, so that one record tells the order of all writes to them.
const VOLATILE: &str = r#"
    ram 1 44
    # Slow enough for a mark to be in the log before what it marks, should that be said to be durable too early.
    null slow 44 irqmode 2 completion_nsec 20000000 hw_queue_depth 128 submit_queues 1
    null log 1000
    modprobe dm-log-writes
    halves() { # DISK PREFIX: the first 32 MiB are the backing device, the rest is the cache device.
        dmsetup create $2b --table "0 65536 linear $1 0"
        dmsetup create $2c --table "0 24576 linear $1 65536"
    }
    dmsetup create recorded --table "0 $(sectors /dev/slow) log-writes /dev/slow /dev/log"
    halves /dev/mapper/recorded first_
    volume v /dev/mapper/first_b /dev/mapper/first_c
    wbtest history-write /dev/mapper/v --seed $SEED --last 2500 --every 12 --mark recorded
    remove v
    remove first_b
    remove first_c
    remove recorded
    modprobe -r dm-log-writes
    halves /dev/ram0 second_
    cuts=0
    while [ $cuts -lt 30 ]; do
        wbtest replay /dev/log /dev/ram0 --seed $((SEED * 1000 + cuts)) >/tmp/n 2>/tmp/moment
        read -r _ durable </tmp/n
        blockdev --flushbufs /dev/ram0
        volume w /dev/mapper/second_b /dev/mapper/second_c
        wbtest history-check /dev/mapper/w --seed $SEED --durable $durable >/tmp/n
        echo "write $durable durable, $(cat /tmp/n) found: $(cat /tmp/moment)"
        read -r _ found </tmp/n
        if [ $((cuts % 4)) = 0 ]; then
            drain w
            same 'last write on the backing device alone' \
                "$(wbtest history-check /dev/mapper/second_b --seed $SEED --durable $durable)" "prefix $found"
        fi
        healthy w
        remove w
        cuts=$((cuts + 1))
    done
"#;

/// MiB of the backing device.
const BACKING: u64 = 64;

/// What a guest prints last before it begins to write.
const READY: &str = "READY";

/// A volume whose cache device takes its time with writes. Shorter delays would keep the guest's CPU busy.
const SLOW: &str = r#"
    modprobe dm-delay
    dmsetup create slow --table "0 $(sectors /dev/lab/disk1) delay /dev/lab/disk1 0 0 /dev/lab/disk1 0 60"
    wbctl create v /dev/lab/disk0 /dev/mapper/slow
"#;

/// How long a guest may take to get there.
const PATIENCE: Duration = Duration::from_secs(500);

/// How many cuts there are where a short run has `rounds`.
fn rounds(cx: &Bench, rounds: u32) -> u32 {
    if cx.full {
        rounds * 4
    } else {
        cx.repeats(rounds)
    }
}

/// Rounds of writing, cutting the power and checking, on the same two disks.
struct Cuts {
    /// In a short run.
    rounds: u32,
    /// MiB of the cache device.
    cache: u64,
    /// One write in so many is made durable; 0 for none.
    every: u64,
    /// Sectors that addresses and lengths are multiples of.
    align: u64,
    /// Milliseconds of writing, at most.
    longest: u64,
    /// Whether writes to the cache device take 60 ms: then much is under way when the power is cut.
    slow: bool,
}

impl Cuts {
    fn run(&self, cx: &Bench) -> Result<()> {
        let disks = [cx.disk("backing", BACKING)?, cx.disk("cache", self.cache)?];
        let mut random = Random::new(&[cx.seed]);
        let rounds = rounds(cx, self.rounds);
        let (mut epochs, mut durable, mut written) = (String::new(), 0, 0);
        for round in 0..=rounds {
            // The last round only checks.
            let last = round == rounds;
            let Self { every, align, .. } = self;
            let history = format!("/dev/mapper/v --seed {} --align {align}", cx.seed);
            let check = if epochs.is_empty() {
                "n=0".to_owned()
            } else {
                format!("wbtest history-check {history} --epochs {epochs} --durable {durable} >/tmp/n; cat /tmp/n; read -r _ n </tmp/n")
            };
            let then = if last {
                format!(
                    "finish v /dev/lab/disk0 {}",
                    if self.slow { "/dev/mapper/slow" } else { "/dev/lab/disk1" }
                )
            } else {
                let comma = if epochs.is_empty() { "" } else { "," };
                format!(
                    "echo {READY}\nexec wbtest history-write {history} --epochs {epochs}{comma}$((n + 1)) --every {every}"
                )
            };
            let create = if self.slow { SLOW } else { "wbctl create v /dev/lab/disk0 /dev/lab/disk1" };
            let script = format!("{create}\n{check}\nhealthy v\n{then}\n");
            let guest = disks.iter().fold(cx.guest()?, |guest, disk| guest.disk(disk));
            if last {
                let output = cx.run(guest, &script)?.output;
                written = number(&output, "prefix").context("the guest found no prefix")?;
                break;
            }
            let running = cx.spawn(guest, &script)?;
            // A cut before anything was promised shows nothing.
            let sign = if self.every > 0 { "\ndurable " } else { READY };
            let output = cut(cx, running, sign, 30 + random.below(self.longest))?;
            let found = if round == 0 {
                0
            } else {
                number(&output, "prefix").context("the guest found no prefix")?
            };
            let comma = if epochs.is_empty() { "" } else { "," };
            epochs = format!("{epochs}{comma}{}", found + 1);
            durable = number(&output, "durable").unwrap_or(found);
            cx.note(&format!("round {round}: found {found}, {durable} durable at the cut"));
        }
        cx.report(&format!("{rounds} cuts, {written} writes survived"));
        // Of a slow cache each cut is sure of one write more, the one that was promised.
        let rounds = u64::from(rounds);
        let enough = if self.slow { written >= rounds } else { written > rounds * 10 };
        ensure!(enough, "only {written} writes: this tests nothing");
        Ok(())
    }
}

/// Cuts the guest's power so many milliseconds after its output has `sign`, and answers with the output.
fn cut(cx: &Bench, running: xtask::lab::Running, sign: &str, after: u64) -> Result<String> {
    if let Err(error) = running.wait_for_output(sign, PATIENCE) {
        // The whole output and the kernel's log are better than what little the error has.
        let ended = if running.has_ended() { running.wait() } else { running.kill() };
        cx.finish(ended)?;
        return Err(error);
    }
    thread::sleep(Duration::from_millis(after));
    ensure!(!running.has_ended(), "the guest ended by itself:\n{}", running.output());
    Ok(cx.cut(running)?.output)
}

/// The number in the last whole line `WORD NUMBER`: what came through before the cut may end within a line.
fn number(output: &str, word: &str) -> Option<u64> {
    let whole = &output[..output.rfind('\n')?];
    whole.lines().rev().find_map(|line| line.strip_prefix(word)?.trim().parse().ok())
}

/// Four writers at once, each with a quarter of the volume and a history of its own.
fn many_writers(cx: &Bench) -> Result<()> {
    const WRITERS: u64 = 4;
    let disks = [cx.disk("backing", BACKING)?, cx.disk("cache", 16)?];
    let sectors = BACKING * 2048 / WRITERS;
    let mut random = Random::new(&[cx.seed, 1]);
    let mut epochs = vec![Vec::<u64>::new(); WRITERS as usize];
    let mut durable = vec![0; WRITERS as usize];
    let rounds = rounds(cx, 5);
    for round in 0..=rounds {
        let mut script = "wbctl create v /dev/lab/disk0 /dev/lab/disk1\n".to_owned();
        let mut write = String::new();
        for (i, (epochs, durable)) in epochs.iter().zip(&durable).enumerate() {
            let list: Vec<String> = epochs.iter().map(u64::to_string).collect();
            let history = format!(
                "/dev/mapper/v --seed {} --first {} --sectors {sectors}",
                cx.seed + i as u64,
                i as u64 * sectors
            );
            if round == 0 {
                script += &format!("n{i}=0\n");
            } else {
                script += &format!(
                    "wbtest history-check {history} --epochs {} --durable {durable} >/tmp/n; read -r _ n{i} </tmp/n\n\
                     echo \"prefix{i} $n{i}\"\n",
                    list.join(",")
                );
            }
            let comma = if list.is_empty() { "" } else { "," };
            write += &format!(
                "wbtest history-write {history} --epochs {}{comma}$((n{i} + 1)) --every 6 | sed -u 's/durable/durable{i}/' &\n",
                list.join(",")
            );
        }
        let guest = disks.iter().fold(cx.guest()?, |guest, disk| guest.disk(disk));
        if round == rounds {
            cx.run(guest, &format!("{script}finish v /dev/lab/disk0 /dev/lab/disk1\n"))?;
            break;
        }
        let running = cx.spawn(guest, &format!("{script}healthy v\necho {READY}\n{write}wait\n"))?;
        let output = cut(cx, running, READY, 50 + random.below(2500))?;
        for (i, (epochs, durable)) in epochs.iter_mut().zip(&mut durable).enumerate() {
            let found =
                if round == 0 { 0 } else { number(&output, &format!("prefix{i}")).context("no prefix")? };
            epochs.push(found + 1);
            *durable = number(&output, &format!("durable{i}")).unwrap_or(found);
        }
        cx.note(&format!("round {round}: {durable:?} durable at the cut"));
    }
    cx.report(&format!("{rounds} cuts, {durable:?} writes survived"));
    ensure!(durable.iter().all(|&n| n > 200), "only {durable:?} writes: this tests nothing");
    Ok(())
}

/// A filesystem: whatever was fsync'd is there, and fsck finds nothing to repair.
fn ext4(cx: &Bench) -> Result<()> {
    let rounds = rounds(cx, 5);
    let disks: [PathBuf; 2] = [cx.disk("backing", 384)?, cx.disk("cache", 24)?];
    let mut random = Random::new(&[cx.seed, 2]);
    let mut durable = 0;
    for round in 0..=rounds {
        let create = "wbctl create v /dev/lab/disk0 /dev/lab/disk1";
        let check = match round {
            0 => "mkfs.ext4 -q /dev/mapper/v\nmount /dev/mapper/v $m".to_owned(),
            // The journal is replayed first, as after any power cut; then there must be nothing to do.
            _ => format!(
                "e2fsck -p /dev/mapper/v || [ $? = 1 ]\ne2fsck -fn /dev/mapper/v\nmount /dev/mapper/v $m\n\
                 wbtest files-check $m --seed {} --last {durable}",
                cx.seed
            ),
        };
        let guest = disks.iter().fold(cx.guest()?, |guest, disk| guest.disk(disk));
        if round == rounds {
            let end = "umount $m\nfinish v /dev/lab/disk0 /dev/lab/disk1\ne2fsck -fn /dev/lab/disk0";
            cx.run(guest, &format!("{create}\n{check}\n{end}\n"))?;
            break;
        }
        // Beside the files that count there is a load that nobody waits for.
        let load = "(while :; do cp -r /usr/include/linux $m/load; rm -r $m/load; done) 2>/dev/null &";
        // Not more than there is room for, however fast the machine is.
        let write = format!(
            "wbtest files-write $m --seed {} --from {} --count {}\nsleep infinity",
            cx.seed,
            durable + 1,
            5000 / rounds
        );
        let script = format!("{create}\n{check}\nrm -rf $m/load\necho {READY}\n{load}\n{write}\n");
        let output = cut(cx, cx.spawn(guest, &script)?, READY, 100 + random.below(2500))?;
        durable = number(&output, "durable").unwrap_or(durable);
        cx.note(&format!("round {round}: {durable} files durable at the cut"));
    }
    cx.report(&format!("{rounds} cuts, {durable} files survived"));
    ensure!(durable > 50, "only {durable} files: this tests nothing");
    Ok(())
}
