//! `cargo xtask vm`.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{bail, Context, Result};
use xtask::lab::{quote, Lab};
use xtask::progress::Progress;

use super::Vm;

/// A person at a guest decides when it ends.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// What an interactive guest says first.
const WELCOME: &str = include_str!("lab/scripts/shell.sh");

/// Boots a guest, and answers with the status of the command in it.
pub fn run(args: Vm, progress: Progress) -> Result<ExitCode> {
    if args.command.is_empty() && !std::io::stdin().is_terminal() {
        bail!("a shell needs a terminal; give a command after --");
    }
    let lab = Lab::setup(args.kernel.with_cpus(args.cpus), progress)?;
    let mut guest = lab.guest().cpus(args.cpus).mem(args.mem).timeout(FOR_EVER);
    for disk in args.disk {
        guest = guest.disk(disk);
    }
    for param in args.param {
        guest = guest.param(param);
    }
    if let Some(share) = args.share {
        guest = guest.share(share);
    }
    if let Some(log) = args.log {
        guest = guest.log_to(log);
    }
    let outcome = match args.command.as_slice() {
        [] => guest.interactive(WELCOME)?,
        [script] => guest.pass_through(script)?,
        words => guest.pass_through(&words.iter().map(|word| quote(word)).collect::<Vec<_>>().join(" "))?,
    };
    let trouble = outcome.kernel_trouble();
    if !trouble.is_empty() {
        progress.note(format!("the guest's kernel reported trouble:\n{}", trouble.join("\n")));
    }
    Ok(ExitCode::from(u8::try_from(outcome.status).unwrap_or(1)))
}

/// Parses a size such as 512M or 4G into MiB.
pub fn mebibytes(text: &str) -> Result<u64> {
    let (number, factor) = match text.trim_end_matches(['B', 'b']).trim_end_matches('i') {
        text if text.ends_with(['G', 'g']) => (&text[..text.len() - 1], 1024),
        text if text.ends_with(['M', 'm']) => (&text[..text.len() - 1], 1),
        text => (text, 1),
    };
    let number: u64 = number.parse().with_context(|| format!("{text:?} is not a size like 512M or 4G"))?;
    Ok(number * factor)
}

#[cfg(test)]
mod tests {
    use super::mebibytes;

    #[test]
    fn sizes() {
        assert_eq!(mebibytes("512M").ok(), Some(512));
        assert_eq!(mebibytes("4G").ok(), Some(4096));
        assert_eq!(mebibytes("2GiB").ok(), Some(2048));
        assert_eq!(mebibytes("300").ok(), Some(300));
        assert!(mebibytes("lots").is_err());
    }
}
