//! Which kernels there are: the supported series, what differs between them, and which versions the archive
//! offers.
//!
//! This is the one place on the build side that knows a kernel version. The module has its own,
//! `kmod/src/host/kernel/`.

use std::fmt;
use std::str::FromStr;

use anyhow::{bail, Context, Result};
use serde::{Deserialize, Serialize};

/// A kernel series, such as 7.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Series {
    /// The 7 of 7.3.
    pub major: u32,
    /// The 3 of 7.3.
    pub minor: u32,
}

/// The series that the module supports, oldest first. A new one is added here, and then tested with
/// `cargo xtask test --kernel debian:X.Y`.
pub const SUPPORTED: &[Series] = &[Series { major: 7, minor: 2 }, Series { major: 7, minor: 3 }];

impl Series {
    /// The Debian packages that hold the bootable image, the modules and the lists of them, of kernel release
    /// `release`.
    ///
    /// From 7.1 on `linux-image-*` is only a shell around these; no older series is supported.
    pub fn image_packages(self, release: &str) -> [String; 3] {
        ["binary", "base", "modules"].map(|part| format!("linux-{part}-{release}"))
    }

    /// The C compiler that Debian builds this series with in trixie-backports.
    pub fn debian_cc(self) -> &'static str {
        "x86_64-linux-gnu-gcc-14"
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl FromStr for Series {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (major, minor) =
            text.split_once('.').with_context(|| format!("{text:?} is not a series like 7.3"))?;
        let series = Self {
            major: major.parse().with_context(|| format!("{text:?} is not a series like 7.3"))?,
            minor: minor.parse().with_context(|| format!("{text:?} is not a series like 7.3"))?,
        };
        if !SUPPORTED.contains(&series) {
            let list: Vec<String> = SUPPORTED.iter().map(ToString::to_string).collect();
            bail!("kernel {series} is not supported; supported are {}", list.join(" and "));
        }
        Ok(series)
    }
}

/// How a User Mode Linux kernel is configured. Each flavour is built when it is first wanted, and cached on
/// its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Flavour {
    /// One CPU: the fastest, for every day and for benchmarks.
    #[default]
    Up,
    /// Several CPUs: half the speed, for races.
    Smp,
    /// Several CPUs with lockdep, KASAN and other checks: slow, for everything that must not go wrong.
    Debug,
}

impl Flavour {
    /// The name that appears in paths and messages.
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Smp => "smp",
            Self::Debug => "debug",
        }
    }
}

/// Which kernel to build for or to boot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// User Mode Linux, built here from Debian's kernel source: the newest supported series or the one named.
    Uml(Flavour, Option<Series>),
    /// Debian's own kernel under QEMU: the newest supported series or the one named.
    Debian(Option<Series>),
    /// The kernel that runs on this machine. Modules can be built for it, guests cannot be booted with it.
    Host,
}

impl Kernel {
    /// UML with one CPU and the newest supported series: what most callers want.
    pub const UML: Self = Self::Uml(Flavour::Up, None);

    /// The same kernel, able to run `cpus` CPUs.
    pub fn with_cpus(self, cpus: u32) -> Self {
        match self {
            Self::Uml(Flavour::Up, series) if cpus > 1 => Self::Uml(Flavour::Smp, series),
            other => other,
        }
    }
}

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, series) = match self {
            Self::Uml(Flavour::Up, series) => ("uml", series),
            Self::Uml(Flavour::Smp, series) => ("uml-smp", series),
            Self::Uml(Flavour::Debug, series) => ("uml-debug", series),
            Self::Debian(series) => ("debian", series),
            Self::Host => ("host", &None),
        };
        match series {
            Some(series) => write!(f, "{name}:{series}"),
            None => f.write_str(name),
        }
    }
}

impl FromStr for Kernel {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        let (name, series) = match text.split_once(':') {
            Some((name, series)) => (name, Some(series.parse()?)),
            None => (text, None),
        };
        match (name, series) {
            ("uml", series) => Ok(Self::Uml(Flavour::Up, series)),
            ("uml-smp", series) => Ok(Self::Uml(Flavour::Smp, series)),
            ("uml-debug", series) => Ok(Self::Uml(Flavour::Debug, series)),
            ("debian", series) => Ok(Self::Debian(series)),
            ("host", None) => Ok(Self::Host),
            _ => bail!(
                "no kernel {text:?}: uml, uml-smp, uml-debug, debian, each with :X.Y for a series, or host"
            ),
        }
    }
}

/// One kernel that the archive offers, by its package version and release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    /// The series it belongs to.
    pub series: Series,
    /// What `uname -r` says in a Debian kernel, such as `7.3.4+deb13-amd64`.
    pub release: String,
    /// The Debian package version, such as `7.3.4-1~bpo13+1`.
    pub package: String,
}

impl Version {
    /// The package with this kernel's source.
    pub fn source_package(&self) -> String {
        format!("linux-source-{}", self.series)
    }

    /// The package version as part of a file name.
    pub fn file_name(&self) -> String {
        self.package
            .chars()
            .map(|c| if c.is_ascii_alphanumeric() || ".-".contains(c) { c } else { '_' })
            .collect()
    }
}

/// The kernels in the output of `apt-cache madison` that are supported and complete (image, headers and
/// source of one package version), newest first.
pub fn versions(madison: &str) -> Vec<Version> {
    let offers: Vec<(&str, &str)> = madison
        .lines()
        .filter_map(|line| {
            let mut fields = line.split('|').map(str::trim);
            Some((fields.next()?, fields.next()?))
        })
        .collect();
    let offered = |package: &str, version: &str| offers.iter().any(|&(p, v)| p == package && v == version);
    let mut found: Vec<Version> = Vec::new();
    for &(package, version) in &offers {
        let Some(release) = package.strip_prefix("linux-headers-") else { continue };
        let Some(&series) = SUPPORTED.iter().find(|series| release.starts_with(&format!("{series}."))) else {
            continue;
        };
        let candidate = Version { series, release: release.to_owned(), package: version.to_owned() };
        // Debian's cloud and real-time kernels are configured differently; the plain one is what users have.
        let plain = release.split('-').count() == 2 && release.ends_with("-amd64");
        let complete = series.image_packages(release).iter().all(|image| offered(image, version))
            && offered(&candidate.source_package(), version);
        if plain && complete && !found.contains(&candidate) {
            found.push(candidate);
        }
    }
    newest_first(found)
}

/// Sorts kernels by the numbers in their package versions.
pub fn newest_first(mut versions: Vec<Version>) -> Vec<Version> {
    versions.sort_by_key(|version| std::cmp::Reverse(numbers(&version.package)));
    versions
}

/// The newest of `versions` in `series`, or the newest of all.
pub fn choose(versions: &[Version], series: Option<Series>) -> Option<&Version> {
    versions.iter().find(|version| series.is_none_or(|series| version.series == series))
}

/// The numbers in a version, in order: enough to compare versions of one source package.
fn numbers(version: &str) -> Vec<u64> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The lines that one kernel has in `apt-cache madison`.
    fn offer(release: &str, package: &str) -> String {
        let series = &release[..3];
        [
            format!("linux-headers-{release}"),
            format!("linux-base-{release}"),
            format!("linux-binary-{release}"),
            format!("linux-modules-{release}"),
            format!("linux-source-{series}"),
        ]
        .map(|name| {
            format!(
                "{name} | {package} | http://deb.debian.org/debian trixie-backports/main amd64 Packages\n"
            )
        })
        .concat()
    }

    #[test]
    fn newest_is_compared_by_number() {
        let text =
            offer("7.2.9+deb13-amd64", "7.2.9-1~bpo13+1") + &offer("7.2.12+deb13-amd64", "7.2.12-1~bpo13+1");
        let found = versions(&text);
        assert_eq!(choose(&found, None).map(|v| v.release.as_str()), Some("7.2.12+deb13-amd64"));
        assert_eq!(found.len(), 2);
    }

    #[test]
    fn series_is_kept() {
        let text =
            offer("7.2.9+deb13-amd64", "7.2.9-1~bpo13+1") + &offer("7.3.4+deb13-amd64", "7.3.4-1~bpo13+1");
        let found = versions(&text);
        assert_eq!(choose(&found, None).map(|v| v.series.minor), Some(3));
        assert_eq!(choose(&found, Some(SUPPORTED[0])).map(|v| v.series.minor), Some(2));
    }

    #[test]
    fn other_builds_and_incomplete_ones_are_left() {
        let mut text = offer("7.3.4+deb13-cloud-amd64", "7.3.4-1~bpo13+1");
        text += &offer("6.12.117+deb13-amd64", "6.12.117-1");
        text +=
            "linux-headers-7.3.5+deb13-amd64 | 7.3.5-1~bpo13+1 | http://deb.debian.org/debian x Packages\n";
        assert_eq!(versions(&text), []);
    }

    #[test]
    fn names_round_trip() {
        for name in ["uml", "uml:7.2", "uml-smp", "uml-debug:7.3", "debian", "debian:7.2", "host"] {
            assert_eq!(name.parse::<Kernel>().expect(name).to_string(), name);
        }
        for name in ["debian:6.12", "host:7.3", "xen", "uml:7"] {
            assert!(name.parse::<Kernel>().is_err(), "{name}");
        }
    }

    #[test]
    fn file_names_are_tame() {
        let version =
            Version { series: SUPPORTED[1], release: String::new(), package: "7.3.4-1~bpo13+1".to_owned() };
        assert_eq!(version.file_name(), "7.3.4-1_bpo13_1");
    }
}
