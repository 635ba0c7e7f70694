//! The integration tests: each boots a guest of its own, and fails on whatever its script or the guest's kernel has to
//! complain about.
//!
//! `cargo xtask test NAME` or `cargo test -p writeboost-tests --test lab -- NAME` runs those that have NAME in their
//! names. From the environment: `WRITEBOOST_KERNEL` boots another kernel than `uml`, as `--kernel` of `cargo xtask vm`
//! names it; `WRITEBOOST_QUICK` leaves out what is slow; `WRITEBOOST_SEED` repeats a run with random content and moments.

mod admin;
mod cutoff;
mod debian;
mod errors;
mod fs;
mod io;
mod refuse;
mod support;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use support::{Setup, Test};

/// At most so many guests at a time, however many CPUs there are: each may fill its memory.
const AT_ONCE: usize = 8;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let cpus = std::thread::available_parallelism().map_or(2, usize::from);
    arguments.test_threads.get_or_insert(cpus.min(AT_ONCE));
    let setup = match Setup::new(!arguments.list) {
        Ok(setup) => &*Box::leak(Box::new(setup)),
        Err(error) => {
            eprintln!("error: the lab cannot be set up: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    // What takes long comes first, so that no CPU is idle at the end.
    let mut tests: Vec<Test> =
        [io::TESTS, fs::TESTS, cutoff::TESTS, admin::TESTS, refuse::TESTS, errors::TESTS].concat();
    tests.extend(debian::tests());
    tests.sort_by_key(|test| std::cmp::Reverse(test.seconds));
    let trials = tests
        .into_iter()
        .map(|test| {
            let slow = setup.quick && !test.quick;
            Trial::test(test.name.clone(), move || {
                setup.run(&test).map_err(|e| Failed::from(format!("{e:#}")))
            })
            .with_ignored_flag(slow)
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
