//! Building `dm-writeboost.ko` and the userspace tools, and putting both into a layer that guests see over
//! their root.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{bail, Context, Result};
use serde::Deserialize;

use super::cache::{self, Cache};
use super::guest::with;
use super::host;
use super::root::Root;
use super::stack;
use super::{Built, GUEST_INIT, INIT};
use crate::cargo;
use crate::progress::Progress;

/// The module's file name.
pub const MODULE: &str = "dm-writeboost.ko";

/// Layers that were not used for so long are deleted.
const LAYER_LIFE: Duration = Duration::from_secs(2 * 24 * 3600);

/// The top of this checkout.
pub fn checkout() -> PathBuf {
    let manifest = Path::new(env!("CARGO_MANIFEST_DIR"));
    manifest.parent().unwrap_or(manifest).to_owned()
}

/// The module's source files by path relative to `kmod/`. What cargo made there is none of Kbuild's business.
fn sources(kmod: &Path) -> Result<Vec<PathBuf>> {
    if !kmod.join("Kbuild").is_file() {
        bail!("{} has no Kbuild", kmod.display());
    }
    // Files that Kbuild has made there, when it was called by hand, are of another kernel.
    let is_ours = |path: &PathBuf| !path.starts_with("target") && !path.ends_with("bindings_generated.rs");
    Ok(cache::files(kmod)?.into_iter().filter(is_ours).collect())
}

/// Builds the module `name`, a file name, of the sources `kmod` for `kernel`, and answers with its path on
/// the host.
pub fn build(root: &Root, kernel: &Built, kmod: &Path, name: &str) -> Result<PathBuf> {
    let place = cache::key([kmod.as_os_str().as_encoded_bytes()]);
    let inside = format!("/build/kmod/{}-{place}", kernel.id);
    let dir = root.on_host(&inside);
    let _lock = root.cache().lock(&format!("kmod-{place}"), root.progress())?;
    let files = sources(kmod)?;
    let mut parts = vec![kernel.id.clone().into_bytes(), root.compilers().as_bytes().to_vec()];
    for file in &files {
        parts.push(file.as_os_str().as_encoded_bytes().to_vec());
        parts.push(fs::read(kmod.join(file))?);
    }
    let key = cache::key(&parts);
    let (ko, stamp) = (dir.join(name), dir.join(".key"));
    if ko.is_file() && fs::read_to_string(&stamp).is_ok_and(|built| built == key) {
        return Ok(ko);
    }
    let _ = fs::remove_file(&stamp);
    mirror(kmod, &files, &dir)?;
    let step =
        root.progress().step(format!("building {name} for {}", kernel.release), Duration::from_secs(15));
    let script = with(
        &[("dir", &inside), ("kdir", &kernel.kdir), ("words", &kernel.make.join(" ")), ("jobs", &jobs())],
        include_str!("scripts/build-module.sh"),
    );
    let log = root.cache().log("kmod");
    let failed = step.run_collect(&mut root.chroot(&script)?, &log)?;
    if let Some(lines) = failed {
        bail!("{}{name} does not build for {}", readable(&lines, &inside, kmod), kernel.release);
    }
    step.done();
    if !ko.is_file() {
        bail!(
            "the build for {} succeeded but made no {name}; its output is in {}",
            kernel.release,
            log.display()
        );
    }
    cache::write(&stamp, &key)?;
    Ok(ko)
}

/// What clippy has against the Rust in `kmod`, most of which only Kbuild compiles: nothing, when there is
/// nothing that the crate denies.
pub fn clippy(root: &Root, kernel: &Built, kmod: &Path) -> Result<Option<String>> {
    let place = cache::key([kmod.as_os_str().as_encoded_bytes()]);
    // Beside the module itself, whose object files are not clippy's.
    let inside = format!("/build/kmod/clippy-{}-{place}", kernel.id);
    let dir = root.on_host(&inside);
    let _lock = root.cache().lock(&format!("clippy-{place}"), root.progress())?;
    mirror(kmod, &sources(kmod)?, &dir)?;
    let step = root
        .progress()
        .step(format!("checking the module's Rust for {}", kernel.release), Duration::from_secs(10));
    let script = with(
        &[("dir", &inside), ("kdir", &kernel.kdir), ("words", &kernel.make.join(" "))],
        include_str!("scripts/clippy-module.sh"),
    );
    let failed = step.run_collect(&mut root.chroot(&script)?, &root.cache().log("clippy"))?;
    step.done();
    Ok(failed.map(|lines| readable(&lines, &inside, kmod)))
}

/// The functions of the module that take too much of the kernel's stack; `None` if there are none.
pub fn stack(root: &Root, kernel: &Built, kmod: &Path) -> Result<Option<String>> {
    let module = build(root, kernel, kmod, MODULE)?;
    let inside = Path::new("/").join(module.strip_prefix(root.on_host("/")).unwrap_or(&module));
    let output = root.chroot(&stack::disassemble(&inside.display().to_string()))?.output()?;
    if !output.status.success() {
        bail!("cannot disassemble {MODULE}: {}", String::from_utf8_lossy(&output.stderr));
    }
    let lines = stack::check(&String::from_utf8_lossy(&output.stdout));
    Ok((!lines.is_empty()).then(|| lines.join("\n") + "\n"))
}

/// Builds the module for the kernel that runs on this machine, with this machine's compilers.
pub fn build_for_host(host: &HostKernel, kmod: &Path, cache: &Cache, progress: &Progress) -> Result<PathBuf> {
    let place = cache::key([kmod.as_os_str().as_encoded_bytes()]);
    let dir = cache.dir().join(format!("host/{}-{place}", host.release));
    mirror(kmod, &sources(kmod)?, &dir)?;
    let step = progress.step(format!("building {MODULE} for {}", host.release), Duration::from_secs(30));
    let mut make = Command::new("make");
    make.arg("-C")
        .arg(&host.build)
        .arg(format!("M={}", dir.display()))
        .arg(format!("-j{}", jobs()))
        .arg("modules");
    if host.clang {
        make.arg("LLVM=1");
    }
    if let Some(lines) = step.run_collect(&mut make, &cache.log("kmod-host"))? {
        bail!(
            "{}\n{MODULE} does not build for {}",
            readable(&lines, &dir.display().to_string(), kmod),
            host.release
        );
    }
    step.done();
    Ok(dir.join(MODULE))
}

fn jobs() -> usize {
    thread::available_parallelism().map_or(2, usize::from)
}

/// Compiler output with paths that an editor in the checkout can follow.
fn readable(lines: &[String], inside: &str, kmod: &Path) -> String {
    let shown = kmod.strip_prefix(checkout()).unwrap_or(kmod).display().to_string();
    let mut text = String::new();
    for line in lines {
        let line = line.replace(inside, &shown);
        // Kbuild's compilers run in the module's directory: theirs are relative to that.
        let relative = line.strip_prefix("src/").map(|rest| format!("{shown}/src/{rest}"));
        let line = relative.unwrap_or(line).replace("--> src/", &format!("--> {shown}/src/"));
        text += &line.replace("::: src/", &format!("::: {shown}/src/"));
        text.push('\n');
    }
    text
}

/// Makes `to` hold `files` of `from`, touching only what differs, so that make builds only what changed.
fn mirror(from: &Path, files: &[PathBuf], to: &Path) -> Result<()> {
    let list = to.join(".mirrored");
    if let Ok(before) = fs::read_to_string(&list) {
        for old in before.lines().filter(|old| !files.iter().any(|file| file == Path::new(old))) {
            let _ = fs::remove_file(to.join(old));
        }
    }
    let mut names = String::new();
    for file in files {
        names += &format!("{}\n", file.display());
        let (source, target) = (from.join(file), to.join(file));
        let content = fs::read(&source).with_context(|| format!("cannot read {}", source.display()))?;
        if fs::read(&target).is_ok_and(|have| have == content) {
            continue;
        }
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&target, content).with_context(|| format!("cannot write {}", target.display()))?;
        // Scripts stay executable.
        fs::set_permissions(&target, fs::metadata(&source)?.permissions())?;
    }
    cache::write(&list, names)
}

/// The kernel that runs on this machine, with everything that a Rust module needs.
#[derive(Debug)]
pub struct HostKernel {
    release: String,
    build: PathBuf,
    clang: bool,
}

impl HostKernel {
    /// What `uname -r` says.
    pub fn release(&self) -> &str {
        &self.release
    }

    /// Finds it, or says what is missing and what to do about that.
    pub fn find() -> Result<Self> {
        let release = fs::read_to_string("/proc/sys/kernel/osrelease")?.trim().to_owned();
        let build = PathBuf::from(format!("/lib/modules/{release}/build"));
        Self::check(release, build)
    }

    fn check(release: String, build: PathBuf) -> Result<Self> {
        const ELSE: &str = "or build for the lab's kernel: cargo xtask build-kmod --kernel uml";
        if !build.join("Makefile").is_file() {
            bail!(
                "no headers for the running kernel {release} in {}: install them (Debian, Ubuntu: \
                 linux-headers-{release}; Fedora: kernel-devel-{release}; Arch: linux-headers), {ELSE}",
                build.display()
            );
        }
        let config = fs::read_to_string(build.join("include/config/auto.conf"))
            .or_else(|_| fs::read_to_string(build.join(".config")));
        let config = config.with_context(|| format!("{} has no configuration", build.display()))?;
        let value = |name: &str| {
            config.lines().find_map(|line| {
                Some(line.strip_prefix(name)?.strip_prefix('=')?.trim_matches('"').to_owned())
            })
        };
        if value("CONFIG_RUST").is_none() {
            bail!(
                "the running kernel {release} was built without CONFIG_RUST=y and cannot load a Rust module: \
                 boot one that has it (Debian: linux-image-amd64 from trixie-backports or later; Fedora, \
                 Arch and Ubuntu have it), {ELSE}"
            );
        }
        if !build.join("rust/libkernel.rmeta").is_file() {
            bail!(
                "the headers of {release} come without the Rust metadata (rust/libkernel.rmeta), as Debian's \
                 do: build for the same Debian kernel in the lab instead, which makes them from its source: \
                 cargo xtask build-kmod --kernel debian, {ELSE}"
            );
        }
        if let Some(wanted) = value("CONFIG_RUSTC_VERSION_TEXT") {
            let have = Command::new("rustc").arg("--version").output();
            let have = have
                .map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned())
                .unwrap_or_default();
            // The metadata of one compiler cannot be read by another, not even by another build of the same
            // version.
            if have != wanted {
                bail!(
                    "kernel {release} was built with \"{wanted}\", and the rustc in PATH is \"{have}\": put \
                     that very compiler first in PATH (the distribution's own rustc package), {ELSE}"
                );
            }
        }
        for program in
            ["make", "bindgen", if value("CONFIG_CC_IS_CLANG").is_some() { "clang" } else { "gcc" }]
        {
            if host::find_program(program).is_none() {
                bail!("{program} is missing: install it with your package manager, {ELSE}");
            }
        }
        Ok(Self { clang: value("CONFIG_CC_IS_CLANG").is_some(), release, build })
    }
}

/// The part of `cargo metadata` that says which programs this workspace has.
#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    targets: Vec<Target>,
}

#[derive(Deserialize)]
struct Target {
    name: String,
    kind: Vec<String>,
}

/// Builds the userspace tools of this workspace and answers with their paths.
pub fn tools(root: &Root) -> Result<Vec<PathBuf>> {
    host::install(host::FOR_TOOLS, root.cache(), root.progress())?;
    let output = Command::new(cargo::program())
        .args(["metadata", "--no-deps", "--format-version", "1", "--manifest-path"])
        .arg(checkout().join("Cargo.toml"))
        .stderr(Stdio::inherit())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!("cargo metadata failed");
    }
    let metadata: Metadata = serde_json::from_slice(&output.stdout)?;
    let mut command = Command::new(cargo::program());
    command.args(["build", "--release", "--manifest-path"]).arg(checkout().join("Cargo.toml"));
    cargo::forget_ours(&mut command);
    let mut paths = Vec::new();
    for package in metadata
        .packages
        .iter()
        .filter(|package| !["xtask", "writeboost-tests", "writeboost-fuzz"].contains(&package.name.as_str()))
    {
        let programs: Vec<&Target> =
            package.targets.iter().filter(|t| t.kind.iter().any(|kind| kind == "bin")).collect();
        if !programs.is_empty() {
            command.args(["-p", &package.name]);
            paths.extend(
                programs.iter().map(|target| metadata.target_directory.join("release").join(&target.name)),
            );
        }
    }
    if paths.is_empty() {
        return Ok(paths);
    }
    // Once for all packages: cargo refuses it twice.
    command.arg("--bins");
    let log = root.cache().log("tools");
    if paths.iter().all(|path| path.is_file()) {
        // Most likely nothing to do, and then it is not worth a line.
        let step = Progress::silent().step("building the tools", Duration::from_secs(1));
        step.run(&mut command, &log)?;
    } else {
        let step = root.progress().step("building the tools", Duration::from_secs(90));
        step.run(&mut command, &log)?;
        step.done();
    }
    Ok(paths)
}

/// Makes the layer with `module` and `tools` for guests of `kernel`, and answers with its path inside the
/// root.
///
/// A layer never changes once it is complete, so that guests which use an older one are not disturbed.
pub fn layer(root: &Root, kernel: &Built, module: &Path, tools: &[PathBuf]) -> Result<String> {
    let mut parts = vec![kernel.id.clone().into_bytes(), INIT.into(), GUEST_INIT.into(), fs::read(module)?];
    for tool in tools {
        parts.push(tool.as_os_str().as_encoded_bytes().to_vec());
        parts.push(fs::read(tool).with_context(|| format!("cannot read {}", tool.display()))?);
    }
    let inside = format!("/build/layers/{}", cache::key(&parts));
    let _lock = root.cache().lock("layers", root.progress())?;
    let dir = root.on_host(&inside);
    let used = dir.join("used");
    if used.is_file() {
        fs::write(&used, "")?;
        return Ok(inside);
    }
    prune(root)?;
    let step = root.progress().step("installing the module and the tools for guests", Duration::from_secs(3));
    // Files of the checkout are staged by this process; the rest is done inside the root, by root.
    let staged = format!("{inside}.in");
    let host_staged = root.on_host(&staged);
    let modules = format!("fs/usr/lib/modules/{}", kernel.release);
    let updates = host_staged.join(&modules).join("updates");
    let programs = host_staged.join("fs/usr/local/sbin");
    for dir in [&updates, &programs] {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    }
    fs::copy(module, updates.join(MODULE))?;
    for tool in tools {
        fs::copy(tool, programs.join(tool.file_name().context("a tool has a name")?))?;
    }
    for (path, content) in [("init", INIT), ("fs/usr/lib/writeboost/guest-init", GUEST_INIT)] {
        let path = host_staged.join(path);
        cache::write(&path, content)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
    }
    let script = with(
        &[
            ("staged", &staged),
            ("layer", &inside),
            ("from", &kernel.modules),
            ("modules", &modules),
            ("release", &kernel.release),
        ],
        include_str!("scripts/make-layer.sh"),
    );
    step.run(&mut root.chroot(&script)?, &root.cache().log("layer"))?;
    step.done();
    Ok(inside)
}

/// Deletes layers that were not used for a while.
fn prune(root: &Root) -> Result<()> {
    let Ok(entries) = fs::read_dir(root.on_host("/build/layers")) else { return Ok(()) };
    let now = SystemTime::now();
    for entry in entries.flatten() {
        let used = fs::metadata(entry.path().join("used")).and_then(|used| used.modified()).unwrap_or(now);
        if now.duration_since(used).unwrap_or_default() > LAYER_LIFE {
            let mut command = host::privileged("rm", root.progress())?;
            command.arg("-rf").arg(entry.path()).status()?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn compiler_messages_point_into_the_checkout() {
        let lines = [
            " --> src/target.rs:3:9",
            "src/host/kernel/shim.c:12: error: x",
            "In file /build/kmod/a/src/host/kernel/shim.h:",
        ];
        let text = readable(&lines.map(String::from), "/build/kmod/a", &checkout().join("kmod"));
        assert_eq!(
            text,
            " --> kmod/src/target.rs:3:9\n\
             kmod/src/host/kernel/shim.c:12: error: x\n\
             In file kmod/src/host/kernel/shim.h:\n"
        );
    }
}
