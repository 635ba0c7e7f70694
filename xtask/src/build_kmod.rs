//! `cargo xtask build-kmod`.

use std::process::ExitCode;

use anyhow::Result;
use xtask::lab::{self, HostKernel, Kernel};
use xtask::progress::Progress;

/// Builds the module for `kernel`, or for the one that is most useful here.
pub fn run(kernel: Option<Kernel>, progress: Progress) -> Result<ExitCode> {
    let kernel = kernel.unwrap_or_else(|| match HostKernel::find() {
        Ok(host) => {
            progress.note(format!("building for the running kernel, {}", host.release()));
            Kernel::Host
        }
        Err(reason) => {
            progress.note(format!("building for the lab's User Mode Linux, because: {reason:#}"));
            Kernel::UML
        }
    });
    let (release, module) = lab::build_module(kernel, progress)?;
    progress.note(format!("built for {release}:"));
    println!("{}", module.display());
    Ok(ExitCode::SUCCESS)
}

/// Says what clippy has against it.
pub fn clippy(kernel: Option<Kernel>, progress: Progress) -> Result<ExitCode> {
    let found = lab::clippy_module(kernel.unwrap_or(Kernel::UML), progress)?;
    print!("{}", found.as_deref().unwrap_or_default());
    Ok(if found.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
