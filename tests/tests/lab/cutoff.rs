//! Power cuts: a guest is killed while it writes, and the next one finds on the same two disks what the first
//! was promised.
//!
//! The host's page cache keeps what the guest's disks were told, so these cuts lose what was in RAM and tear
//! what was under way. What a disk's own volatile cache could lose besides is found by recording all writes
//! to both devices, and making from the record states that a power cut could have left.

use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use anyhow::{ensure, Context, Result};
use writeboost_tests::random::Random;
use xtask::lab::with;

use crate::support::{code, from_file, script, shell, Bench, Test};

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
    from_file!(script(cutoff::volatile_caches, 50, false)),
];

/// MiB of the backing device.
const BACKING: u64 = 64;

/// What a guest prints last before it begins to write.
const READY: &str = "READY";

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
        let mut epochs = Vec::<u64>::new();
        let (mut durable, mut written) = (0, 0);
        for round in 0..=rounds {
            // The last round only checks.
            let last = round == rounds;
            let script = with(
                &[
                    ("SLOW", &self.slow),
                    ("LAST", &last),
                    ("ALIGN", &self.align),
                    ("EVERY", &self.every),
                    ("EPOCHS", &list(&epochs)),
                    ("DURABLE", &durable),
                ],
                shell!("cutoff/history"),
            );
            let guest = cx.guest_with(&disks)?;
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
            epochs.push(found + 1);
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

/// Numbers as `wbtest` takes them.
fn list(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(",")
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
        let last = round == rounds;
        let lists: Vec<String> = epochs.iter().map(|epochs| list(epochs)).collect();
        let numbers: Vec<String> = durable.iter().map(u64::to_string).collect();
        let script = with(
            &[
                ("WRITERS", &WRITERS),
                ("SECTORS", &sectors),
                ("LAST", &last),
                ("EPOCHS", &lists.join(" ").trim()),
                ("DURABLE", &numbers.join(" ")),
            ],
            shell!("cutoff/many_writers"),
        );
        let guest = cx.guest_with(&disks)?;
        if last {
            cx.run(guest, &script)?;
            break;
        }
        let running = cx.spawn(guest, &script)?;
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
        let last = round == rounds;
        let script = with(
            &[
                ("FIRST", &(round == 0)),
                ("LAST", &last),
                ("DURABLE", &durable),
                // Not more than there is room for, however fast the machine is.
                ("COUNT", &(5000 / rounds)),
            ],
            shell!("cutoff/ext4"),
        );
        let guest = cx.guest_with(&disks)?;
        if last {
            cx.run(guest, &script)?;
            break;
        }
        let output = cut(cx, cx.spawn(guest, &script)?, READY, 100 + random.below(2500))?;
        durable = number(&output, "durable").unwrap_or(durable);
        cx.note(&format!("round {round}: {durable} files durable at the cut"));
    }
    cx.report(&format!("{rounds} cuts, {durable} files survived"));
    ensure!(durable > 50, "only {durable} files: this tests nothing");
    Ok(())
}
