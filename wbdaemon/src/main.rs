// SPDX-License-Identifier: GPL-2.0-only

//! Steers writeback. Everything is in the library; this parses arguments.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    wbdaemon::cli::run(&wbdaemon::cli::Args::parse())
}
