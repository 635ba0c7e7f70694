// SPDX-License-Identifier: GPL-2.0-only

//! The arguments of `wbdaemon`, and its log.

use crate::{
    config,
    service::{self, Run},
};
use clap::Parser;
use log::LevelFilter;
use std::{path::PathBuf, process::ExitCode};

/// Exit code: the configuration is wrong, or the arguments.
const EXIT_USAGE: u8 = 2;

const AFTER_HELP: &str = "\
Signals: SIGHUP reads the configuration again, SIGTERM and SIGINT end it; volumes go back to the kernel's
built-in policy.

Exit codes:
    0  told to end, or all done
    1  failed: it may not, or cannot listen for metrics
    2  the configuration or the arguments are wrong
    3  another wbdaemon steers on this machine";

/// Steers the writeback of writeboost volumes: in idle time, and before the cache runs full.
#[derive(Debug, Parser)]
#[command(name = "wbdaemon", version, after_help = AFTER_HELP)]
pub struct Args {
    /// The configuration; without it, /etc/writeboost/wbdaemon.toml if there is one
    #[arg(long, short, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Only check the configuration
    #[arg(long)]
    pub check_config: bool,
    /// Look, decide, say so and end; what was set ends by itself after steering_timeout_s
    #[arg(long)]
    pub once: bool,
    /// Log what would be set, and set nothing
    #[arg(long)]
    pub dry_run: bool,
    /// Log more
    #[arg(long, short)]
    pub verbose: bool,
}

/// Runs the command.
pub fn run(args: &Args) -> ExitCode {
    let run = Run { config: args.config.clone(), once: args.once, dry_run: args.dry_run };
    let config = match run.read_config(args.check_config) {
        Ok(config) => config,
        Err(e) => {
            eprintln!("wbdaemon: {e}");
            return ExitCode::from(EXIT_USAGE);
        }
    };
    if args.check_config {
        println!("{}: ok", args.config.as_deref().unwrap_or(config::PATH.as_ref()).display());
        return ExitCode::SUCCESS;
    }
    start_log(args.verbose);
    service::run(&run, config)
}

/// Logs to the journal with its fields, or to stderr if that is something else.
fn start_log(verbose: bool) {
    let level = if verbose { LevelFilter::Debug } else { LevelFilter::Info };
    if systemd_journal_logger::connected_to_journal() {
        if let Ok(logger) = systemd_journal_logger::JournalLog::new() {
            if logger.with_syslog_identifier("wbdaemon".to_owned()).install().is_ok() {
                log::set_max_level(level);
                return;
            }
        }
    }
    env_logger::Builder::new().filter_level(LevelFilter::Warn).filter_module("wbdaemon", level).init();
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn arguments() {
        Args::command().debug_assert();
        assert!(Args::try_parse_from(["wbdaemon", "--once", "--dry-run", "-c", "/x"]).is_ok());
        assert!(Args::try_parse_from(["wbdaemon", "--twice"]).is_err());
    }
}
