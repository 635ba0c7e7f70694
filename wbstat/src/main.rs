// SPDX-License-Identifier: GPL-2.0-only

//! Shows volumes live. Everything is in the library; this parses arguments.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    wbstat::cli::run(&wbstat::cli::Args::parse())
}
