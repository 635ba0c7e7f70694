//! Building a User Mode Linux kernel from Debian's kernel source.

use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use super::cache;
use super::kernel::{Flavour, Version};
use super::root::Root;
use super::Built;

const COMMON: &str = include_str!("uml.config");

/// What make is always told.
const ARCH: &str = "ARCH=um";

/// Patches to the kernel source, by file name and content, that every flavour gets: the benchmark's crc32c goes here.
const PATCHES: &[(&str, &str)] = &[];

impl Flavour {
    /// The configuration on top of `ARCH=um defconfig`.
    fn config(self) -> String {
        let own = match self {
            Self::Up => "",
            Self::Smp => include_str!("uml-smp.config"),
            Self::Debug => include_str!("uml-debug.config"),
            Self::Kasan => concat!(include_str!("uml-smp.config"), include_str!("uml-kasan.config")),
        };
        format!("{COMMON}{own}")
    }

    /// What make is told. With Rust the kernel has KASAN only when its C is compiled with clang, too.
    fn make(self) -> &'static str {
        match self {
            Self::Up | Self::Smp | Self::Debug => ARCH,
            Self::Kasan => "ARCH=um LLVM=1",
        }
    }

    /// What its command line needs. The one that clang makes cannot run programs by seccomp: the first one jumps to
    /// address 0. It does by ptrace, and then it has one CPU only.
    fn params(self) -> &'static [&'static str] {
        match self {
            Self::Up | Self::Smp | Self::Debug => &[],
            Self::Kasan => &["seccomp=off"],
        }
    }

    /// The steps of the build.
    fn script(self) -> String {
        BUILD.replace(ARCH, self.make())
    }

    /// How long the build takes on two cores.
    fn typical(self) -> Duration {
        Duration::from_secs(match self {
            Self::Up | Self::Smp => 7 * 60,
            Self::Debug | Self::Kasan => 15 * 60,
        })
    }
}

/// The directory name of a build: what it was built from decides it.
pub fn id(root: &Root, flavour: Flavour, version: &Version) -> String {
    let (config, script) = (flavour.config(), flavour.script());
    let mut parts = vec![config.as_str(), root.compilers(), script.as_str()];
    parts.extend(PATCHES.iter().map(|(_, patch)| *patch));
    format!("uml-{}-{}-{}", flavour.name(), version.file_name(), cache::key(parts))
}

/// The steps of the build inside the root. Started again after an interruption it goes on where it was.
const BUILD: &str = "
if ! [ -e $out/.config ] && [ -n \"$seed\" ]; then
    cp -a $seed/. $out/
fi
mv $out/wanted.config.new $out/wanted.config
make -C $source O=$out ARCH=um defconfig
cd $out
ARCH=um $source/scripts/kconfig/merge_config.sh -m .config wanted.config
make ARCH=um olddefconfig
# Kconfig drops what it cannot have without a word. That would only be noticed much later.
missing=$(grep -E '^(CONFIG_|# CONFIG_.* is not set)' wanted.config | grep -vxFf .config || true)
while read -r line; do
    case $line in
    '# CONFIG_'*) name=${line#\\# }; if grep -q \"^${name%% *}=\" .config; then echo \"not obeyed: $line\"; fi ;;
    CONFIG_*) echo \"not obeyed: $line\"; exit 1 ;;
    esac
done <<< \"$missing\"
make ARCH=um -j$jobs linux modules
rm -rf install
make ARCH=um INSTALL_MOD_PATH=$out/install modules_install
";

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
    if !PATCHES.is_empty() {
        source = patched(root, &source, &step, &log)?;
    }
    let jobs = thread::available_parallelism().map_or(2, usize::from) + 1;
    // A build of the same kernel with another configuration is most of the work done.
    let mut older = super::complete(root);
    older.retain(|built| built.id.starts_with(&format!("uml-{}-{}-", flavour.name(), version.file_name())));
    let seed = older.first().map_or("", |built| built.kdir.as_str());
    let script = format!("source={source}; out={out}; jobs={jobs}; seed={seed}\n{}", flavour.script());
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
        params: flavour.params().iter().map(ToString::to_string).collect(),
        release,
        id,
    })
}

/// A copy of the source tree with the patches. Its files are links to the original's, which `patch` replaces and does
/// not write to.
fn patched(root: &Root, source: &str, step: &crate::progress::Step, log: &std::path::Path) -> Result<String> {
    let target = format!("{source}-{}", cache::key(PATCHES.iter().map(|(_, patch)| *patch)));
    if root.on_host(&target).is_dir() {
        return Ok(target);
    }
    let dir = root.on_host("/build/patches");
    for (name, patch) in PATCHES {
        cache::write(&dir.join(name), patch)?;
    }
    let names: Vec<String> = PATCHES.iter().map(|(name, _)| format!("/build/patches/{name}")).collect();
    let script = format!(
        "rm -rf {target}.new; cp -al {source} {target}.new; cd {target}.new\n\
         cat {} | patch -p1 --no-backup-if-mismatch\nmv {target}.new {target}",
        names.join(" ")
    );
    step.run(&mut root.chroot(&script)?, log)?;
    Ok(target)
}
