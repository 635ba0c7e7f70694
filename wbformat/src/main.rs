// SPDX-License-Identifier: GPL-2.0-only

//! Formats a cache device for writeboost. Everything is in the library; this parses arguments and prints.

use clap::Parser;
use std::process::ExitCode;

fn main() -> ExitCode {
    wbformat::cli::run(&wbformat::cli::Args::parse())
}
