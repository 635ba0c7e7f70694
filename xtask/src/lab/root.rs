//! The lab's root filesystem: a small Debian trixie that is the guests' userland and, at the same time, the
//! toolchain that kernels and modules are built with.
//!
//! Why not the host's compilers: the kernel's Rust needs `rust-src` of exactly the compiler's version, which
//! a rustup toolchain need not have, and trixie's pair is the one that Debian's own kernels were built with.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{bail, Context, Result};
use serde::{Deserialize, Serialize};

use super::cache::{self, Cache};
use super::guest::with;
use super::host;
use super::kernel::{self, Version};
use crate::progress::Progress;

/// The Debian release that the root is made from.
const SUITE: &str = "trixie";

/// To build kernels and modules.
const TOOLCHAIN: &[&str] = &[
    "rustc",
    "rust-src",
    "bindgen",
    "rustfmt",
    "rust-clippy",
    "clang",
    "lld",
    "llvm",
    "gcc",
    "make",
    "flex",
    "bison",
    "bc",
    "libelf-dev",
    "libssl-dev",
    "kmod",
    "cpio",
    "dwarves",
    "python3",
    "xz-utils",
    "patch",
    "ca-certificates",
];

/// To live in as a guest, and to test with. Adding one here installs it into the existing root.
const USERLAND: &[&str] = &[
    "fio",
    "dmsetup",
    "e2fsprogs",
    "xfsprogs",
    "udev",
    "systemd-sysv",
    "procps",
    "iproute2",
    "util-linux",
    "rsync",
    "busybox-static",
    "bcache-tools",
    "jq",
    "tmux",
    "prometheus",
    "curl",
];

/// How long an answer to "which kernels are there" is good for.
const ASK_AGAIN: Duration = Duration::from_secs(7 * 24 * 3600);

/// How long to go on with an old answer when the archive cannot be reached.
const TRY_AGAIN: Duration = Duration::from_secs(24 * 3600);

/// Enters the root `$0` and runs the rest of the arguments there.
const ENTER: &str = include_str!("scripts/enter-root.sh");

/// The steps of a script, without the comment at its head: a change of that is no reason to build anything
/// anew.
pub fn steps(script: &str) -> &str {
    script.find("\n\n").map_or(script, |head| &script[head + 1..])
}

/// The root filesystem, ready to be used.
#[derive(Debug, Clone)]
pub struct Root {
    dir: PathBuf,
    cache: Cache,
    progress: Progress,
    stamp: Stamp,
}

/// What is known of a complete root; written last.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Stamp {
    packages: Vec<String>,
    /// The compilers' versions: what is built with others is built again.
    compilers: String,
}

/// The archive's answer, and when it was given.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Offers {
    /// Seconds since the epoch.
    asked: u64,
    versions: Vec<Version>,
}

impl Root {
    /// The cached root, made or completed when needed.
    pub fn setup(cache: &Cache, progress: Progress) -> Result<Self> {
        let _lock = cache.lock("root", &progress)?;
        let dir = cache.dir().join(format!("root-{SUITE}"));
        let stamp_file = cache.dir().join(format!("root-{SUITE}.json"));
        let stamp = fs::read(&stamp_file).ok().and_then(|json| serde_json::from_slice(&json).ok());
        let wanted: Vec<&str> = TOOLCHAIN.iter().chain(USERLAND).copied().collect();
        let mut root = Self { dir, cache: cache.clone(), progress, stamp: stamp.unwrap_or_default() };
        let missing: Vec<&str> = wanted
            .iter()
            .copied()
            .filter(|package| !root.stamp.packages.iter().any(|have| have == package))
            .collect();
        if missing.is_empty() && root.dir.is_dir() {
            return Ok(root);
        }
        if root.stamp.packages.is_empty() || !root.dir.is_dir() {
            root.bootstrap(&wanted)?;
        } else {
            root.add(&missing)?;
        }
        let mut versions = root.chroot("rustc --version; gcc --version | head -n 1; bindgen --version")?;
        let output = versions.output().context("cannot run chroot")?;
        root.stamp.compilers = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() || root.stamp.compilers.is_empty() {
            bail!("the lab's root {} has no compilers; delete it and try again", root.dir.display());
        }
        root.stamp.packages = wanted.iter().map(ToString::to_string).collect();
        cache::write(&stamp_file, serde_json::to_vec_pretty(&root.stamp)?)?;
        Ok(root)
    }

    fn bootstrap(&self, packages: &[&str]) -> Result<()> {
        host::install(host::FOR_ROOT, &self.cache, &self.progress)?;
        let step =
            self.progress.step(format!("making the lab's root (Debian {SUITE})"), Duration::from_secs(65));
        let log = self.cache.log("root");
        let new = self.dir.with_extension("new");
        step.run(host::privileged("rm", &self.progress)?.arg("-rf").args([&new, &self.dir]), &log)?;
        let mirror = host::mirror();
        let mut command = host::privileged("env", &self.progress)?;
        command.args(host::proxies().iter().map(|(name, value)| format!("{name}={value}")));
        command
            .args(["mmdebstrap", "--variant=minbase", &format!("--include={}", packages.join(",")), SUITE])
            .arg(&new);
        command.arg(format!("deb {mirror} {SUITE} main"));
        command.arg(format!("deb {mirror} {SUITE}-backports main"));
        step.run(&mut command, &log)?;
        // Builds are owned by the user of the lab; the rest of the root belongs to root.
        let (uid, gid) = (nix::unistd::getuid(), nix::unistd::getgid());
        let mut command = host::privileged("install", &self.progress)?;
        command.args(["-d", "-o", &uid.to_string(), "-g", &gid.to_string()]).arg(new.join("build"));
        step.run(&mut command, &log)?;
        fs::rename(&new, &self.dir).with_context(|| format!("cannot rename {}", new.display()))?;
        step.done();
        Ok(())
    }

    fn add(&self, packages: &[&str]) -> Result<()> {
        let what = format!("adding {} to the lab's root", packages.join(", "));
        let step = self.progress.step(what, Duration::from_secs(20));
        self.share_resolver()?;
        let script = with(&[("packages", &packages.join(" "))], include_str!("scripts/add-packages.sh"));
        step.run(&mut self.chroot(&script)?, &self.cache.log("root"))?;
        step.done();
        Ok(())
    }

    /// The directory on the host.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// `path`, which is absolute inside the root, as a path on the host.
    pub fn on_host(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.dir.join(path.strip_prefix("/").unwrap_or(path))
    }

    /// The versions of the compilers, for the names of what they make.
    pub fn compilers(&self) -> &str {
        &self.stamp.compilers
    }

    /// The cache that the root is part of.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// Where progress is shown.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// A command that runs a bash script inside the root, as root, in an environment of its own.
    pub fn chroot(&self, script: &str) -> Result<Command> {
        let mut command = host::privileged("env", &self.progress)?;
        command.arg("-i");
        command.args(host::proxies().iter().map(|(name, value)| format!("{name}={value}")));
        command.args(["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root"]);
        command.args(["LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"]);
        // Builds must not differ from one machine to the next.
        command.args(["KBUILD_BUILD_USER=writeboost", "KBUILD_BUILD_HOST=lab"]);
        command.args(["sh", "-c", ENTER]).arg(&self.dir).args(["bash", "-euo", "pipefail", "-c", script]);
        Ok(command)
    }

    /// `script`, kept from running twice at once. Our own locks go when we are killed, what we started may
    /// live on for a while: it inherits this one.
    pub fn exclusive(name: &str, script: &str) -> String {
        format!("exec 9>/build/{name}.lock; flock 9\n{script}")
    }

    /// Lets programs inside the root resolve names as the host does.
    pub(super) fn share_resolver(&self) -> Result<()> {
        let mut command = host::privileged("cp", &self.progress)?;
        // A host without the file may still reach a proxy or a mirror by address.
        command
            .args(["-L", "--remove-destination", "/etc/resolv.conf"])
            .arg(self.dir.join("etc/resolv.conf"));
        let _ = command.stderr(std::process::Stdio::null()).status();
        Ok(())
    }

    /// The supported kernels that the archive offers, newest first. Asks apt at most once a week, or now with
    /// `fresh`.
    pub fn offers(&self, fresh: bool) -> Result<Vec<Version>> {
        let file = self.cache.dir().join("kernels.json");
        let known: Offers =
            fs::read(&file).ok().and_then(|json| serde_json::from_slice(&json).ok()).unwrap_or_default();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        if !fresh && !known.versions.is_empty() && now.saturating_sub(known.asked) < ASK_AGAIN.as_secs() {
            return Ok(known.versions);
        }
        let keep =
            |asked, versions| cache::write(&file, serde_json::to_vec_pretty(&Offers { asked, versions })?);
        match self.ask() {
            Ok(versions) => {
                keep(now, versions.clone())?;
                Ok(versions)
            }
            Err(_) if !known.versions.is_empty() => {
                // A machine that is offline shall not wait for the network at every run.
                keep(now.saturating_sub((ASK_AGAIN - TRY_AGAIN).as_secs()), known.versions.clone())?;
                self.progress.note("the archive cannot be reached; going on with the kernels known so far");
                Ok(known.versions)
            }
            Err(error) => Err(error),
        }
    }

    fn ask(&self) -> Result<Vec<Version>> {
        let _lock = self.cache.lock("root", &self.progress)?;
        let step = self.progress.step("asking the archive which kernels there are", Duration::from_secs(10));
        self.share_resolver()?;
        let log = self.cache.log("offers");
        step.run(
            &mut self.chroot("apt-get -o Acquire::Retries=1 -o APT::Update::Error-Mode=any update")?,
            &log,
        )?;
        let packages =
            "apt-cache pkgnames linux- | grep -E '^linux-(base|binary|headers|modules|source)-[0-9]'";
        let output = self.chroot(&format!("{packages} | xargs apt-cache madison"))?.output()?;
        if !output.status.success() {
            bail!("apt-cache failed: {}", String::from_utf8_lossy(&output.stderr).trim());
        }
        let versions = kernel::versions(&String::from_utf8_lossy(&output.stdout));
        if versions.is_empty() {
            bail!("{} {SUITE}-backports has no supported kernel", host::mirror());
        }
        step.done();
        Ok(versions)
    }

    /// Puts a kernel's source tree into the root, once. Answers with its path inside the root.
    pub fn source(&self, version: &Version) -> Result<String> {
        let dir = format!("/build/linux-{}", version.file_name());
        if self.on_host(&dir).is_dir() {
            return Ok(dir);
        }
        let package = version.source_package();
        let step =
            self.progress.step(format!("fetching {package} {}", version.package), Duration::from_secs(45));
        self.share_resolver()?;
        let script = with(
            &[("package", &package), ("version", &version.package), ("dir", &dir)],
            include_str!("scripts/fetch-source.sh"),
        );
        step.run(&mut self.chroot(&Self::exclusive(&package, &script))?, &self.cache.log("source"))?;
        step.done();
        Ok(dir)
    }
}
