// SPDX-License-Identifier: GPL-2.0-only

//! Creates, inspects, drains and removes volumes. Everything is in the library; this parses arguments.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    wbctl::cli::run(&wbctl::cli::Args::parse())
}
