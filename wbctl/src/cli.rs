// SPDX-License-Identifier: GPL-2.0-only

//! The arguments of `wbctl`, and the functions that carry them out.

use crate::{
    progress::{on_signals, Bar, Waiting},
    text::{self, json, json_line},
};
use clap::{Parser, Subcommand};
use serde::Serialize;
use std::{io::Write, path::PathBuf, process::ExitCode, sync::Arc};
use wbhost::{
    create::{self, Create},
    dm::Dm,
    drain,
    events::Events,
    host::Host,
    options, remove,
    volume::Volume,
    Error,
};

const EXIT_CODES: &str = "\
Exit codes:
    0  done
    1  failed: a device cannot be opened, read or written, or you are not root
    2  wrong usage, or the two devices are the same or overlap
    3  refused: a device or the volume is mounted or otherwise in use
    4  refused: the cache device holds something that is not ours
    5  refused: the cache device holds a volume that is damaged
    6  refused: too small, not of the size that the volume has, or a device that cannot be used:
       read-only, zoned
    7  refused: the cache device belongs to another backing device
    8  there is no such volume
    9  a device of this name, or this volume, is active already
   10  the kernel module is not there
   11  the kernel refused; its reason is in the message
  130  interrupted

Whenever it refuses, nothing is changed.";

/// Creates, inspects, drains and removes writeboost volumes.
#[derive(Debug, Parser)]
#[command(name = "wbctl", version, after_help = EXIT_CODES)]
pub struct Args {
    /// Print the result, or the error, as JSON
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make /dev/mapper/NAME of a backing and a cache device
    ///
    /// A blank cache device is formatted; one that holds a volume of this backing device is resumed with all
    /// that it holds; anything else is refused.
    #[command(after_help = EXIT_CODES)]
    Create {
        /// Name of the volume
        name: String,
        /// The large, slow device, with its data
        backing: PathBuf,
        /// The small, fast device
        cache: PathBuf,
        /// An option of the target; can be repeated
        #[arg(long = "opt", short = 'o', value_name = "KEY=VALUE", value_parser = create::parse_option)]
        options: Vec<(String, String)>,
        /// Once: resume though it cannot be told whether BACKING is the right one. Twice: though it is
        /// another one
        #[arg(long, short, action = clap::ArgAction::Count)]
        force: u8,
    },
    /// Take a volume down
    ///
    /// What is dirty stays on the cache device; `wbctl create` with the same devices resumes it.
    #[command(after_help = EXIT_CODES)]
    Remove {
        /// Name of the volume
        name: String,
        /// Write everything back first, so that the backing device has all of it
        #[arg(long)]
        drain: bool,
    },
    /// List the active volumes
    #[command(after_help = EXIT_CODES)]
    List,
    /// Show how a volume is doing
    #[command(after_help = EXIT_CODES)]
    Status {
        /// Name of the volume
        name: String,
    },
    /// Change an option of a volume while it is in use
    ///
    /// It stays so until the volume is removed. `wbctl get NAME` shows what there is, and within which
    /// ranges.
    #[command(after_help = EXIT_CODES)]
    Set {
        /// Name of the volume
        name: String,
        /// Name of the option
        key: String,
        /// A number, or `default` to let the built-in policy decide
        value: String,
    },
    /// Show the options of a volume, or the value of one
    #[command(after_help = EXIT_CODES)]
    Get {
        /// Name of the volume
        name: String,
        /// Name of the option; its value alone is printed
        key: Option<String>,
    },
    /// Show which volumes there are and, with --follow, what happens to them
    ///
    /// A line for each: a device fails, the cache runs full, either recovers, whoever steers writeback falls
    /// silent.
    #[command(after_help = EXIT_CODES)]
    Events {
        /// Name of a volume; all if none
        name: Option<String>,
        /// Go on until interrupted
        #[arg(long, short)]
        follow: bool,
    },
    /// Write everything back; the volume stays in use
    ///
    /// What is written meanwhile may be dirty afterwards.
    ///
    /// Ctrl-C stops it at any moment without harm.
    #[command(after_help = EXIT_CODES)]
    Drain {
        /// Name of the volume
        name: String,
    },
}

/// Runs the command.
pub fn run(args: &Args) -> ExitCode {
    match execute(&Host::default(), args) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("wbctl: {error}");
            if args.json {
                let error = serde_json::json!({"error": error.to_string(), "exit_code": error.exit_code()});
                print!("{}", json(&error));
            }
            ExitCode::from(error.exit_code())
        }
    }
}

/// A result as it is printed.
fn show<T: Serialize>(as_json: bool, value: &T, text: impl Fn(&T) -> String) -> String {
    if as_json {
        json(value)
    } else {
        text(value)
    }
}

/// Carries out the command; returns the text to print.
fn execute(host: &Host, args: &Args) -> Result<String, Error> {
    let as_json = args.json;
    match &args.command {
        Command::Create { name, backing, cache, options, force } => {
            let wanted = Create {
                name: name.clone(),
                backing: backing.clone(),
                cache: cache.clone(),
                options: options.clone(),
                force: *force,
            };
            create(host, &wanted, as_json)
        }
        Command::Remove { name, drain } => remove(host, name, *drain, as_json),
        Command::List => list(host, as_json),
        Command::Status { name } => {
            let volume = Volume::new(host, Dm::open(false)?.find(name)?)?;
            Ok(show(as_json, &volume, text::status))
        }
        Command::Set { name, key, value } => {
            let setting = options::set(host, name, key, value)?;
            Ok(show(as_json, &setting, |s| format!("{name}: {} {}\n", s.name, s.word())))
        }
        Command::Get { name, key } => {
            let settings = options::get(host, name, key.as_deref())?;
            Ok(match (key, settings.as_slice()) {
                (Some(_), [one]) => show(as_json, one, |s| format!("{}\n", s.word())),
                _ => show(as_json, &settings, |s| text::settings(s)),
            })
        }
        Command::Events { name, follow } => events(host, name.as_deref(), *follow, as_json),
        Command::Drain { name } => {
            let stop = on_signals()?;
            let mut bar = Bar::new(as_json);
            let drained = drain::drain(host, name, &stop, &mut |status| bar.show(name, status));
            bar.clear();
            Ok(show(as_json, &drained?, text::drained))
        }
    }
}

fn create(host: &Host, wanted: &Create, as_json: bool) -> Result<String, Error> {
    let waiting = Waiting::new(&wanted.name);
    let created = create::create(host, wanted, &|step| waiting.step(step))?;
    drop(waiting);
    for note in &created.notes {
        eprintln!("wbctl: note: {note}");
    }
    Ok(show(as_json, &created, text::created))
}

fn remove(host: &Host, name: &str, drain: bool, as_json: bool) -> Result<String, Error> {
    let stop = if drain { on_signals()? } else { Arc::default() };
    let mut bar = Bar::new(as_json);
    let waiting = Waiting::new(name);
    if !drain {
        let step = "the kernel, which ends what is under way (dmesg says whether a device is silent)";
        waiting.step(step.to_owned());
    }
    let removed = remove::remove(host, name, drain, &stop, &mut |status| bar.show(name, status));
    bar.clear();
    Ok(show(as_json, &removed?, text::removed))
}

fn list(host: &Host, as_json: bool) -> Result<String, Error> {
    let active = match Dm::open(false) {
        Ok(dm) => dm.list()?,
        // Without device-mapper there are no volumes: this is an answer, not a failure.
        Err(Error::NoModule(_)) => Vec::new(),
        Err(e) => return Err(e),
    };
    let volumes: Result<Vec<_>, _> = active.into_iter().map(|mapped| Volume::new(host, mapped)).collect();
    Ok(show(as_json, &volumes?, |v| text::list(v)))
}

fn events(host: &Host, name: Option<&str>, follow: bool, as_json: bool) -> Result<String, Error> {
    let mut events = Events::new(host, name)?;
    loop {
        let mut text = String::new();
        for event in events.look()? {
            text.push_str(&if as_json {
                json_line(&event)
            } else {
                format!("{} {}: {}\n", event.time, event.volume, event.what)
            });
        }
        if !follow {
            return Ok(text);
        }
        let mut out = std::io::stdout();
        if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
            // The reader of the output is gone.
            return Ok(String::new());
        }
        events.wait()?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn arguments() {
        Args::command().debug_assert();
        let parse = |line: &str| Args::try_parse_from(line.split(' '));
        let args = parse("wbctl create v /dev/a /dev/b --opt x=1 -o y=2 --force --json").unwrap();
        assert!(args.json);
        let Command::Create { options, force, .. } = args.command else { panic!() };
        assert_eq!((options.len(), force), (2, 1));
        assert!(parse("wbctl create v /dev/a").is_err());
        assert!(parse("wbctl create v /dev/a /dev/b --opt x").is_err());
        assert!(parse("wbctl remove v --drain").is_ok());
        assert!(parse("wbctl set v writeback_threshold").is_err());
        assert!(parse("wbctl set v writeback_threshold default").is_ok());
        assert!(parse("wbctl get v").is_ok() && parse("wbctl events --follow").is_ok());
        assert!(parse("wbctl --json list").is_ok());
    }
}
