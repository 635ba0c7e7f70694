//! Building a User Mode Linux kernel from Debian's kernel source.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::cache;
use super::guest::with;
use super::kernel::{Flavour, Version};
use super::root::{steps, Root};
use super::Built;
use crate::progress::Step;

const COMMON: &str = include_str!("uml.config");

/// What make is always told.
const ARCH: &str = "ARCH=um";

/// What the benchmark needs: checksums that cost what they cost on real machines.
const BENCH: &[Patch] = &[("uml-crc32c.patch", include_str!("patches/uml-crc32c.patch"))];

/// What a kernel needs that is compiled with clang, has several CPUs and looks for bugs.
const DEBUG: &[Patch] = &[
    ("uml-clang-restorer.patch", include_str!("patches/uml-clang-restorer.patch")),
    ("uml-clang-lbss.patch", include_str!("patches/uml-clang-lbss.patch")),
    ("uml-smp-ipi.patch", include_str!("patches/uml-smp-ipi.patch")),
    ("uml-stacktrace.patch", include_str!("patches/uml-stacktrace.patch")),
];

/// A patch to the kernel source: its file name and its content.
type Patch = (&'static str, &'static str);

impl Flavour {
    /// The configuration on top of `ARCH=um defconfig`.
    fn config(self) -> String {
        let own = match self {
            Self::Up => "",
            Self::Smp => include_str!("uml-smp.config"),
            Self::Debug => concat!(include_str!("uml-smp.config"), include_str!("uml-debug.config")),
        };
        format!("{COMMON}{own}")
    }

    /// What make is told. With Rust the kernel has KASAN only when its C is compiled with clang, too.
    fn make(self) -> &'static str {
        match self {
            Self::Up | Self::Smp => ARCH,
            Self::Debug => "ARCH=um LLVM=1",
        }
    }

    /// What is changed in the kernel source.
    fn patches(self) -> &'static [Patch] {
        match self {
            Self::Up => BENCH,
            Self::Smp => &[],
            Self::Debug => DEBUG,
        }
    }

    /// The steps of the build.
    fn script(self) -> String {
        steps(BUILD).replace(ARCH, self.make())
    }

    /// How long the build takes on two cores.
    fn typical(self) -> Duration {
        Duration::from_secs(match self {
            Self::Up | Self::Smp => 7 * 60,
            Self::Debug => 15 * 60,
        })
    }
}

/// The directory name of a build: what it was built from decides it.
pub fn id(root: &Root, flavour: Flavour, version: &Version) -> String {
    let (config, script) = (flavour.config(), flavour.script());
    let mut parts = vec![config.as_str(), root.compilers(), script.as_str()];
    parts.extend(flavour.patches().iter().map(|(_, patch)| *patch));
    format!("uml-{}-{}-{}", flavour.name(), version.file_name(), cache::key(parts))
}

/// The steps of the build inside the root.
const BUILD: &str = include_str!("scripts/build-uml.sh");

/// Builds the kernel unless that was done before.
pub fn build(root: &Root, flavour: Flavour, version: &Version) -> Result<Built> {
    let id = id(root, flavour, version);
    let mut source = root.source(version)?;
    let out = format!("/build/{id}");
    let host_out = root.on_host(&out);
    fs::create_dir_all(&host_out).with_context(|| format!("cannot create {}", host_out.display()))?;
    cache::write(&host_out.join("wanted.config.new"), flavour.config())?;
    let log = root.cache().log(&id);
    let what = format!("building the {} kernel {} for User Mode Linux", flavour.name(), version.package);
    let step = root.progress().step(what, flavour.typical());
    if !flavour.patches().is_empty() {
        source = patched(root, &source, flavour, &step, &log)?;
    }
    let jobs = thread::available_parallelism().map_or(2, usize::from) + 1;
    // A build of the same kernel with another configuration is most of the work done.
    let mut older = super::complete(root);
    older.retain(|built| built.id.starts_with(&format!("uml-{}-{}-", flavour.name(), version.file_name())));
    let seeds: Vec<&str> = older.iter().map(|built| built.kdir.as_str()).collect();
    let script = with(
        &[("source", &source), ("out", &out), ("jobs", &jobs), ("seeds", &seeds.join(" "))],
        &flavour.script(),
    );
    step.run(&mut root.chroot(&Root::exclusive(&id, &script))?, &log)?;
    step.done();
    let release = fs::read_to_string(host_out.join("include/config/kernel.release"))?.trim().to_owned();
    Ok(Built {
        version: version.clone(),
        modules: format!("{out}/install/lib/modules/{release}"),
        image: format!("{out}/linux"),
        initramfs: None,
        kdir: out,
        make: flavour.make().split(' ').map(str::to_owned).collect(),
        release,
        id,
    })
}

/// A copy of the source tree with the patches, one for each flavour: with another name all of it would be
/// compiled anew when a patch changes.
fn patched(root: &Root, source: &str, flavour: Flavour, step: &Step, log: &Path) -> Result<String> {
    let patches = flavour.patches();
    let (target, key) =
        (format!("{source}-{}", flavour.name()), cache::key(patches.iter().map(|(_, patch)| *patch)));
    let stamp = root.on_host(format!("{target}/.patches"));
    if fs::read_to_string(&stamp).is_ok_and(|have| have == key) {
        return Ok(target);
    }
    let dir = root.on_host("/build/patches");
    for (name, patch) in patches {
        cache::write(&dir.join(name), patch)?;
    }
    let names: Vec<String> = patches.iter().map(|(name, _)| format!("/build/patches/{name}")).collect();
    let script = with(
        &[("source", &source), ("target", &target), ("patches", &names.join(" "))],
        include_str!("scripts/patch-source.sh"),
    );
    step.run(&mut root.chroot(&script)?, log)?;
    cache::write(&stamp, key)?;
    Ok(target)
}
