//! The fuzzer: cargo-fuzz, which is installed into the cache, and the fuzz targets that it builds.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{bail, Context, Result};

use super::cache::Cache;
use super::{checkout, host};
use crate::cargo;
use crate::progress::Progress;

/// The version of cargo-fuzz.
const CARGO_FUZZ: &str = "0.13.2";

/// Fuzz targets that are built, and where they keep what they find.
#[derive(Debug)]
pub struct Fuzzer {
    cache: Cache,
    built: PathBuf,
}

impl Fuzzer {
    /// Installs what is missing and builds all targets.
    pub fn setup(progress: Progress) -> Result<Self> {
        let cache = Cache::open()?;
        host::install(host::FOR_FUZZER, &cache, &progress)?;
        let tool = cache.dir().join(format!("tools/cargo-fuzz-{CARGO_FUZZ}"));
        let _lock = cache.lock("fuzzer", &progress)?;
        if !tool.join("bin/cargo-fuzz").is_file() {
            let step = progress.step(format!("installing cargo-fuzz {CARGO_FUZZ}"), Duration::from_secs(60));
            let mut install = Command::new(cargo::program());
            install.args(["install", "cargo-fuzz", "--locked", "--version", CARGO_FUZZ, "--root"]).arg(&tool);
            step.run(&mut install, &cache.log("cargo-fuzz"))?;
            step.done();
        }
        let rustc = |args: &[&str]| -> Result<String> {
            let output = Command::new("rustc").args(args).output().context("cannot run rustc")?;
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        };
        let version = rustc(&["-vV"])?;
        let triple =
            version.lines().find_map(|l| l.strip_prefix("host: ")).context("rustc -vV has no host")?;
        let libraries = format!("{}/lib/rustlib/{triple}/lib", rustc(&["--print", "sysroot"])?);
        let has_sanitizer = fs::read_dir(&libraries).is_ok_and(|mut entries| {
            entries.any(|e| e.is_ok_and(|e| e.file_name().to_string_lossy().ends_with("_rt.asan.a")))
        });
        if !has_sanitizer {
            progress.note("this Rust comes without the address sanitizer: fuzzing without it");
        }
        let target = cache.dir().join("fuzz/target");
        let step = progress.step("building the fuzz targets", Duration::from_secs(60));
        let mut build = Command::new(tool.join("bin/cargo-fuzz"));
        build
            .args(["build", "--fuzz-dir", "fuzz", "--target", triple])
            .args(["--features", if has_sanitizer { "libfuzzer,sanitizer" } else { "libfuzzer" }])
            // A run is four times as fast without, and the inputs get behind the checksums by themselves.
            .arg("--no-trace-compares")
            .args(["--sanitizer", if has_sanitizer { "address" } else { "none" }])
            .arg("--target-dir")
            .arg(&target)
            .current_dir(checkout())
            // The fuzzer's instrumentation is an unstable option of any rustc.
            .env("RUSTC_BOOTSTRAP", "1");
        cargo::forget_ours(&mut build);
        step.run(&mut build, &cache.log("fuzz-build"))?;
        step.done();
        let built = target.join(triple).join("release");
        if !built.is_dir() {
            bail!("cargo-fuzz has built nothing in {}", built.display());
        }
        Ok(Self { cache, built })
    }

    /// The program of a target.
    pub fn program(&self, target: &str) -> PathBuf {
        self.built.join(target)
    }

    /// The inputs of a target that are in the repository.
    pub fn committed(target: &str) -> PathBuf {
        checkout().join("fuzz/corpus").join(target)
    }

    /// Where a target keeps inputs that reach something new, for the next run.
    pub fn corpus(&self, target: &str) -> PathBuf {
        self.cache.dir().join("fuzz/corpus").join(target)
    }

    /// Where a target puts inputs that show a fault.
    pub fn found(&self, target: &str) -> PathBuf {
        self.cache.dir().join("fuzz/found").join(target)
    }

    /// The log of a target.
    pub fn log(&self, target: &str) -> PathBuf {
        self.cache.log(&format!("fuzz-{target}"))
    }
}
