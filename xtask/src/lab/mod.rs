//! The lab: kernels built or fetched, a root filesystem for them, and guests that run a script in it.
//!
//! [`Lab::setup`] makes everything ready, from the cache when it is there, and [`Lab::guest`] describes a
//! guest:
//!
//! ```no_run
//! use xtask::lab::{Kernel, Lab};
//! use xtask::progress::Progress;
//!
//! let lab = Lab::setup(Kernel::UML, Progress::new())?;
//! let outcome = lab.guest().param("brd.rd_nr=2").run("modprobe brd && ls /dev/ram*")?;
//! assert_eq!(outcome.status, 0, "{}", outcome.output);
//! assert!(outcome.kernel_trouble().is_empty());
//! # anyhow::Ok(())
//! ```
//!
//! A guest has a whole Debian around it, with systemd-udevd running as on a real machine, so that
//! `/dev/mapper` is as scripts expect it. The module is installed for `modprobe dm-writeboost`, and the tools
//! are in PATH. Whatever a guest writes to its root is gone when it ends; `/mnt/share` and disks stay.

mod cache;
mod debian;
mod fuzzer;
mod guest;
mod host;
mod kernel;
mod log;
mod module;
mod peer;
mod root;
mod stack;
mod uml;

use std::fs;
use std::path::PathBuf;

use anyhow::{bail, Context, Result};
use serde::{Deserialize, Serialize};

pub use fuzzer::Fuzzer;
pub use guest::{quote, with, Guest, NeverBooted, Outcome, Running};
pub use kernel::{Flavour, Kernel, Series, Version, SUPPORTED};
pub use log::trouble;
pub use module::{checkout, HostKernel, MODULE};
pub use peer::CWriteboost;

use crate::progress::Progress;
use cache::Cache;
use root::Root;

/// The first program of every guest.
const INIT: &str = include_str!("scripts/init.sh");
/// Process 1 once the guest's root is complete.
const GUEST_INIT: &str = include_str!("scripts/guest-init.sh");

/// Functions for the scripts of guests: devices of every speed.
pub const DEVICES: &str = include_str!("scripts/devices.sh");

/// A kernel that is ready. Paths are inside the root unless they say otherwise.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Built {
    /// The name of its directory, which says what it was built from.
    id: String,
    version: Version,
    /// What `uname -r` says.
    release: String,
    /// Where modules are built against it.
    kdir: String,
    /// What make needs to be told for that.
    make: Vec<String>,
    image: String,
    /// Only for a kernel that needs one to reach its root.
    initramfs: Option<String>,
    /// Its `lib/modules/RELEASE`.
    modules: String,
}

/// A lab that is set up: everything a guest needs is there.
#[derive(Debug, Clone)]
pub struct Lab {
    root: Root,
    kernel: Built,
    /// The directory, inside the root, with the module and the tools.
    layer: String,
    /// The module, on the host.
    module: PathBuf,
}

impl Lab {
    /// Makes everything ready that guests with `kernel` need: the root, the kernel, the module and the tools.
    ///
    /// Slow only when something is missing from the cache. Fails when the module does not build.
    pub fn setup(kernel: Kernel, progress: Progress) -> Result<Self> {
        let cache = Cache::open()?;
        let root = Root::setup(&cache, progress)?;
        let built = ready_kernel(&root, kernel)?;
        let module = module::build(&root, &built, &checkout().join("kmod"), MODULE)?;
        let tools = module::tools(&root)?;
        let layer = module::layer(&root, &built, &module, &tools)?;
        Ok(Self { root, kernel: built, layer, module })
    }

    /// A guest with one CPU, 2 GiB of memory and nothing else, to be described further.
    pub fn guest(&self) -> Guest<'_> {
        Guest::new(self)
    }

    /// What `uname -r` says in a guest.
    pub fn release(&self) -> &str {
        &self.kernel.release
    }

    /// The version of the kernel.
    pub fn version(&self) -> &Version {
        &self.kernel.version
    }

    /// The module as it was built, a path on the host.
    pub fn module(&self) -> &std::path::Path {
        &self.module
    }

    /// Builds the module `name` (a file name) of the sources `dir` for the guests' kernel, for tests that
    /// need one besides ours. Answers with its path on the host; no guest has it by itself.
    pub fn build_module(&self, dir: &std::path::Path, name: &str) -> Result<PathBuf> {
        module::build(&self.root, &self.kernel, dir, name)
    }

    /// Whether guests are User Mode Linux processes, which run at native speed, and not emulated machines.
    pub fn is_uml(&self) -> bool {
        self.kernel.initramfs.is_none()
    }
}

/// Builds the module for `kernel` and answers with the kernel's release and the path of the result, which
/// lies in `target/` of the checkout.
pub fn build_module(kernel: Kernel, progress: Progress) -> Result<(String, PathBuf)> {
    let kmod = checkout().join("kmod");
    let cache = Cache::open()?;
    let (release, built) = match kernel {
        Kernel::Host => {
            let host = HostKernel::find()?;
            (host.release().to_owned(), module::build_for_host(&host, &kmod, &cache, &progress)?)
        }
        _ => {
            let root = Root::setup(&cache, progress)?;
            let built = ready_kernel(&root, kernel)?;
            let module = module::build(&root, &built, &kmod, MODULE)?;
            (built.release, module)
        }
    };
    let result = checkout().join("target/kmod").join(&release).join(MODULE);
    cache::write(&result, fs::read(&built)?)?;
    Ok((release, result))
}

/// What clippy has against the module's Rust, built for `kernel`, which is not the host's, or what of it
/// takes too much of the kernel's stack: nothing, when there is nothing that the crate denies.
///
/// # Errors
/// When the lab cannot be set up.
pub fn clippy_module(kernel: Kernel, progress: Progress) -> Result<Option<String>> {
    let root = Root::setup(&Cache::open()?, progress)?;
    let (kernel, kmod) = (ready_kernel(&root, kernel)?, checkout().join("kmod"));
    match module::clippy(&root, &kernel, &kmod)? {
        None => module::stack(&root, &kernel, &kmod),
        found => Ok(found),
    }
}

/// Makes sure that this machine has shellcheck.
///
/// # Errors
/// When it has none and cannot be given it.
pub fn install_shellcheck(progress: Progress) -> Result<()> {
    if host::find_program("shellcheck").is_some() {
        return Ok(());
    }
    host::install(host::FOR_SHELL, &Cache::open()?, &progress).context(
        "there is no shellcheck in PATH: install it by hand, 0.9 or newer \
         (the package has that name; ShellCheck on Fedora)",
    )
}

/// The kernel from the cache, or built.
fn ready_kernel(root: &Root, kernel: Kernel) -> Result<Built> {
    let (Kernel::Uml(_, series) | Kernel::Debian(series)) = kernel else {
        bail!("guests cannot be booted with the host's kernel: take uml or debian");
    };
    let choose = |offers: &[Version]| {
        kernel::choose(offers, series).cloned().context("the archive has no such kernel")
    };
    let chosen = choose(&root.offers(false)?)?;
    let error = match get(root, kernel, &chosen) {
        Ok(built) => return Ok(built),
        Err(error) => error,
    };
    // The answer of last week may name a version that the archive has replaced since.
    let newer = root.offers(true).and_then(|offers| choose(&offers));
    if let Some(newer) = newer.ok().filter(|newer| *newer != chosen) {
        return get(root, kernel, &newer);
    }
    // Better an older kernel than none, when the network is down.
    let Some(older) = cached(root, kernel, series) else { return Err(error) };
    root.progress().note(format!("{error:#}\nusing {} from the cache instead", older.version.package));
    Ok(older)
}

/// Exactly this kernel, from the cache or built.
fn get(root: &Root, kernel: Kernel, version: &Version) -> Result<Built> {
    let id = match kernel {
        Kernel::Uml(flavour, _) => uml::id(root, flavour, version),
        _ => debian::id(root, version),
    };
    let stamp = stamp(root, &id);
    let complete = || fs::read(&stamp).ok().and_then(|json| serde_json::from_slice(&json).ok());
    if let Some(built) = complete() {
        return Ok(built);
    }
    // One at a time: a kernel takes every CPU there is.
    let _lock = root.cache().lock("kernel", root.progress())?;
    if let Some(built) = complete() {
        return Ok(built);
    }
    let built = match kernel {
        Kernel::Uml(flavour, _) => uml::build(root, flavour, version)?,
        _ => debian::build(root, version)?,
    };
    cache::write(&stamp, serde_json::to_vec_pretty(&built)?)?;
    Ok(built)
}

/// The newest complete kernel in the cache that could stand in for `kernel`.
fn cached(root: &Root, kernel: Kernel, series: Option<Series>) -> Option<Built> {
    let prefix = match kernel {
        Kernel::Uml(flavour, _) => format!("uml-{}-", flavour.name()),
        _ => "debian-".to_owned(),
    };
    let mut built = complete(root);
    built.retain(|built| built.id.starts_with(&prefix));
    let versions = kernel::newest_first(built.iter().map(|built| built.version.clone()).collect());
    let version = kernel::choose(&versions, series)?;
    built.iter().find(|built| built.version == *version).cloned()
}

/// The kernels in the cache that are complete.
fn complete(root: &Root) -> Vec<Built> {
    let Ok(entries) = fs::read_dir(root.on_host("/build")) else { return Vec::new() };
    entries
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|extension| extension == "json"))
        .filter_map(|entry| serde_json::from_slice(&fs::read(entry.path()).ok()?).ok())
        .collect()
}

/// Marks a kernel as complete.
fn stamp(root: &Root, id: &str) -> PathBuf {
    root.on_host(format!("/build/{id}.json"))
}
