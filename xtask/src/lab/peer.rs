//! The C dm-writeboost, which no kernel has: built from Debian's package, for the benchmark to compare with.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};

use super::guest::with;
use super::module::{self, MODULE};
use super::root::Root;
use super::Lab;

const PACKAGE: &str = "dm-writeboost-dkms";

/// The C dm-writeboost for a guest's kernel.
#[derive(Debug)]
pub enum CWriteboost {
    /// Its version, and the module, on the host.
    Built(String, PathBuf),
    /// Its version, and why there is none.
    Fails(String, String),
}

impl Lab {
    /// Builds the C dm-writeboost of Debian for the guests' kernel. That it does not build is an answer, not
    /// an error.
    pub fn c_writeboost(&self) -> Result<CWriteboost> {
        let source = fetch(&self.root)?;
        let version = std::fs::read_to_string(source.join("VERSION"))?.trim().to_owned();
        Ok(match module::build(&self.root, &self.kernel, &source, MODULE) {
            Ok(module) => CWriteboost::Built(version, module),
            Err(error) => CWriteboost::Fails(version, reason(&format!("{error:#}"))),
        })
    }
}

/// The package's source, once, on the host.
fn fetch(root: &Root) -> Result<PathBuf> {
    let inside = "/build/c-writeboost";
    let dir = root.on_host(inside);
    if dir.is_dir() {
        return Ok(dir);
    }
    let step = root.progress().step(format!("fetching {PACKAGE}"), Duration::from_secs(5));
    root.share_resolver()?;
    let script =
        with(&[("package", &PACKAGE), ("dir", &inside)], include_str!("scripts/fetch-c-writeboost.sh"));
    step.run(&mut root.chroot(&Root::exclusive("c-writeboost", &script))?, &root.cache().log("peer"))
        .with_context(|| format!("cannot fetch {PACKAGE}"))?;
    step.done();
    Ok(dir)
}

/// The compiler's first error, or all that there is.
fn reason(text: &str) -> String {
    let error = text.lines().find_map(|line| line.split_once("error: "));
    error.map_or(text, |(_, what)| what).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::reason;

    #[test]
    fn the_reason_is_the_first_error() {
        let text =
            "warning: x\n/a/dm.c:1:2: error: too few arguments to function 'dm_io'\nerror: more\nit fails";
        assert_eq!(reason(text), "too few arguments to function 'dm_io'");
        assert_eq!(reason("no network\n"), "no network");
    }
}
