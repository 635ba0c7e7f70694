//! What the lab needs of the machine it runs on: a few packages, and root for a few commands.

use std::ffi::OsStr;
use std::process::{Command, Stdio};
use std::sync::Once;
use std::time::Duration;

use anyhow::{bail, Context, Result};

use super::cache::Cache;
use crate::progress::Progress;

/// Something the host must have: a package on Debian, and the file that tells whether it is there elsewhere.
#[derive(Debug, Clone, Copy)]
pub struct Need {
    package: &'static str,
    /// A program in PATH, or part of a path as `pkg-config` module (`pc:NAME`).
    program: &'static str,
}

const fn need(package: &'static str, program: &'static str) -> Need {
    Need { package, program }
}

/// To make the lab's root filesystem. The keyring of an older Debian does not know trixie's keys, so it is
/// named too.
pub const FOR_ROOT: &[Need] = &[
    need("mmdebstrap", "mmdebstrap"),
    need("debian-archive-keyring", ""),
    need("util-linux", "setpriv"),
    need("xz-utils", "xz"),
];

/// To build the userspace tools: their crates generate bindings and link C libraries.
pub const FOR_TOOLS: &[Need] = &[
    need("gcc", "cc"),
    need("libc6-dev", ""),
    need("pkg-config", "pkg-config"),
    need("libclang-dev", ""),
    need("libblkid-dev", "pc:blkid"),
    need("libdevmapper-dev", "pc:devmapper"),
];

/// To build the fuzz targets: libFuzzer is C++.
pub const FOR_FUZZER: &[Need] = &[need("g++", "c++"), need("libc6-dev", "")];

/// To check shell scripts.
pub const FOR_SHELL: &[Need] = &[need("shellcheck", "shellcheck")];

/// To boot Debian's own kernel.
pub const FOR_QEMU: &[Need] = &[need("qemu-system-x86", "qemu-system-x86_64")];

/// Makes sure that the host has `needs`, installing what is missing with apt-get.
pub fn install(needs: &[Need], cache: &Cache, progress: &Progress) -> Result<()> {
    if find_program("apt-get").is_none() || find_program("dpkg-query").is_none() {
        return check_elsewhere(needs);
    }
    let missing: Vec<&str> =
        needs.iter().map(|need| need.package).filter(|package| !is_installed(package)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let log = cache.log("host-apt");
    let step =
        progress.step(format!("installing {} with apt-get", missing.join(", ")), Duration::from_secs(60));
    let script = include_str!("scripts/install.sh");
    let mut command = privileged("env", progress)?;
    command.args(["DEBIAN_FRONTEND=noninteractive", "sh", "-c", script, "sh"]).args(&missing);
    step.run(&mut command, &log).context("cannot install what the lab needs")?;
    step.done();
    Ok(())
}

/// On a machine without apt we do not guess package names of other distributions: we say what is missing.
fn check_elsewhere(needs: &[Need]) -> Result<()> {
    let missing: Vec<&str> = needs
        .iter()
        .filter(|need| match need.program.strip_prefix("pc:") {
            Some(module) => !quiet_success(Command::new("pkg-config").args(["--exists", module])),
            None => !need.program.is_empty() && find_program(need.program).is_none(),
        })
        .map(|need| need.package)
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    bail!(
        "this machine has no apt-get, so please install by hand what Debian calls: {}\n\
         (the lab runs on Debian 12 and 13; elsewhere it should work once these are there)",
        missing.join(", ")
    )
}

fn is_installed(package: &str) -> bool {
    let output =
        Command::new("dpkg-query").args(["-W", "-f", "${Status}", package]).stderr(Stdio::null()).output();
    output.is_ok_and(|output| output.stdout == b"install ok installed")
}

fn quiet_success(command: &mut Command) -> bool {
    command.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// The first `program` in PATH or in the directories of system programs, which an ordinary user's PATH may
/// lack.
pub fn find_program(program: &str) -> Option<std::path::PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(Into::into))
        .map(|dir| dir.join(program))
        .find(|candidate| candidate.is_file())
}

/// Whether this process may do everything.
pub fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

/// A command that runs as root: directly when we are, with sudo when we are not.
pub fn privileged(program: impl AsRef<OsStr>, progress: &Progress) -> Result<Command> {
    static SAID: Once = Once::new();
    if is_root() {
        return Ok(Command::new(program));
    }
    if find_program("sudo").is_none() {
        bail!(
            "setting up the lab needs root (for apt-get, mmdebstrap and chroot): run as root, or install sudo"
        );
    }
    SAID.call_once(|| progress.note("using sudo for apt-get, mmdebstrap and chroot"));
    // Asked here and not behind a spinner, where the prompt would not be seen.
    if !Command::new("sudo").arg("-v").status().is_ok_and(|status| status.success()) {
        bail!("sudo refused; the lab needs root for apt-get, mmdebstrap and chroot");
    }
    let mut command = Command::new("sudo");
    command.arg("--").arg(program);
    Ok(command)
}

/// The proxy settings of this machine, for commands that start from an empty environment.
pub fn proxies() -> Vec<(String, String)> {
    ["http_proxy", "https_proxy", "no_proxy"]
        .into_iter()
        .filter_map(|name| Some((name.to_owned(), std::env::var(name).ok()?)))
        .collect()
}

/// Where Debian packages come from. `WRITEBOOST_MIRROR` names another one.
pub fn mirror() -> String {
    std::env::var("WRITEBOOST_MIRROR").unwrap_or_else(|_| "http://deb.debian.org/debian".to_owned())
}
