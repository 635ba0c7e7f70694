//! The devices of the benchmark (tests/model) take as long as docs/benchmarks.md says: never shorter,
//! whatever the machine is busy with; how much longer is measured and told.

use std::fs;

use anyhow::{ensure, Context, Result};
use xtask::lab::checkout;

use crate::support::{code, shell, Bench, Test};

/// The tests.
pub const TESTS: &[Test] = &[code("models::take_their_time", 90, false, run)];

fn run(cx: &Bench) -> Result<()> {
    let module = cx.module(&checkout().join("tests/model"), "blk-model.ko")?;
    let guest = cx.guest()?.mem(3072).timeout(cx.patience(300));
    fs::copy(module, cx.share().join("blk-model.ko"))?;
    let outcome = cx.run(guest, shell!("models/take_their_time"))?;
    let mut n = 0;
    for line in outcome.output.lines().filter_map(|line| line.strip_prefix("TIME ")) {
        let mut words = line.splitn(3, ' ');
        let mut number = || words.next()?.parse::<f64>().ok();
        let (want, is) = number().zip(number()).context("no times")?;
        let what = words.next().context("no name")?;
        cx.report(&format!("{what}: {is} us, {:.2} of what it is by its specification", is / want));
        // What is random has an average that is not exactly that.
        ensure!(is >= want * 0.9, "{what}: {is} us is less than {want}");
        n += 1;
    }
    ensure!(n == 17, "{n} times were measured");
    Ok(())
}
