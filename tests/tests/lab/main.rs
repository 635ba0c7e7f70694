//! The integration tests: each boots a guest of its own, and fails on whatever its script or the guest's
//! kernel has to complain about.
//!
//! `cargo xtask test NAME` or `cargo test -p writeboost-tests --test lab -- NAME` runs those that have NAME
//! in their names. From the environment: `WRITEBOOST_KERNEL` boots another kernel than `uml`, as `--kernel`
//! of `cargo xtask vm` names it; `WRITEBOOST_QUICK` leaves out what is slow, `WRITEBOOST_FULL` leaves out
//! nothing; `WRITEBOOST_SEED` repeats a run with random content and moments. With `WRITEBOOST_PLAN` nothing
//! is run: it says how much that would be.
//!
//! The script of the test `THEME::WHAT` is `scripts/THEME/WHAT.sh`, behind `scripts/prelude.sh` and the
//! functions of its theme in `scripts/helpers/`; its programs in Python are in `scripts/python/`.

mod admin;
mod cutoff;
mod daemon;
mod debian;
mod errors;
mod faults;
mod fs;
mod io;
mod limits;
mod models;
mod points;
mod refuse;
mod sleep;
mod steer;
mod support;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};
use support::{Setup, Test};

/// At most so many guests at a time, however many CPUs there are: each may fill its memory.
const AT_ONCE: usize = 8;

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let cpus = std::thread::available_parallelism().map_or(2, usize::from);
    let at_once = *arguments.test_threads.get_or_insert(cpus.min(AT_ONCE));
    let plan = std::env::var_os("WRITEBOOST_PLAN").is_some_and(|value| !value.is_empty());
    let setup = match Setup::new(!arguments.list && !plan) {
        Ok(setup) => &*Box::leak(Box::new(setup)),
        Err(error) => {
            eprintln!("error: the lab cannot be set up: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let mut tests: Vec<Test> = [
        io::TESTS,
        fs::TESTS,
        cutoff::TESTS,
        points::TESTS,
        admin::TESTS,
        refuse::TESTS,
        limits::TESTS,
        errors::TESTS,
        faults::TESTS,
        models::TESTS,
        steer::TESTS,
        daemon::TESTS,
    ]
    .concat();
    tests.extend(debian::tests());
    tests.extend(sleep::tests());
    tests.extend(daemon::on_debian());
    // What takes long comes first, so that no CPU is idle at the end.
    tests.sort_by_key(|test| std::cmp::Reverse(setup.seconds(test)));
    if plan {
        let seconds: Vec<u32> = tests
            .iter()
            .filter(|test| !setup.leaves_out(test) && wanted(&arguments, &test.name))
            .map(|test| setup.seconds(test))
            .collect();
        println!("plan: {} tests, about {} s", seconds.len(), together(&seconds, at_once));
        return ExitCode::SUCCESS;
    }
    let trials = tests
        .into_iter()
        .map(|test| {
            let left_out = setup.leaves_out(&test);
            Trial::test(test.name.clone(), move || {
                setup.run(&test).map_err(|e| Failed::from(format!("{e:#}")))
            })
            .with_ignored_flag(left_out)
        })
        .collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// Whether a test of this name is to be run, as libtest-mimic decides it.
fn wanted(arguments: &Arguments, name: &str) -> bool {
    let is = |filter: &String| if arguments.exact { name == filter } else { name.contains(filter.as_str()) };
    arguments.filter.as_ref().is_none_or(is) && !arguments.skip.iter().any(is)
}

/// How long tests take that need so many `seconds` each, the longest first, when `at_once` of them run at a
/// time.
fn together(seconds: &[u32], at_once: usize) -> u32 {
    let mut busy = vec![0; at_once.max(1)];
    for seconds in seconds {
        if let Some(first) = busy.iter_mut().min() {
            *first += seconds;
        }
    }
    busy.into_iter().max().unwrap_or(0)
}
