// SPDX-License-Identifier: GPL-2.0-only

//! The options of an active volume: reading them and changing them while the volume is in use.

use crate::{dm::Dm, host::Host, volume::Volume, Error};
use serde::Serialize;
use writeboost::interface::{
    message::{Message, Who},
    table::{Known, Options, DEFAULT},
};

/// An option of a volume; serialised, this is printed by `--json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Setting {
    /// Its name.
    pub name: String,
    /// Its value; null when it was not given, and the built-in policy decides.
    pub value: Option<u64>,
    /// Lowest value.
    pub min: u32,
    /// Highest value.
    pub max: u32,
    /// The unit of its value.
    pub unit: &'static str,
    /// Its purpose.
    pub summary: &'static str,
}

impl Setting {
    /// The word for [`set`] that restores this value.
    pub fn word(&self) -> String {
        self.value.map_or_else(|| DEFAULT.to_owned(), |value| value.to_string())
    }
}

/// The options of `volume` that this program knows, in the target's order. Options that the target does not
/// have are left out.
pub fn settings(volume: &Volume) -> Vec<Setting> {
    let of = |known: &Known| {
        let value = volume.status.options.get(known.name)?.as_u64();
        let given = volume.given.iter().any(|name| name == known.name);
        Some(Setting {
            name: known.name.to_owned(),
            value: value.filter(|_| given),
            min: known.min,
            max: known.max,
            unit: known.unit,
            summary: known.summary,
        })
    };
    Options::known().iter().filter_map(of).collect()
}

/// The options of the volume `name`, or only the option `key`.
///
/// # Errors
/// [`Error::Usage`] when there is no such option, [`Error::NoVolume`], [`Error::Kernel`].
pub fn get(host: &Host, name: &str, key: Option<&str>) -> Result<Vec<Setting>, Error> {
    if let Some(key) = key {
        // Only checks that the option exists.
        check(key, DEFAULT)?;
    }
    let mut settings = settings(&Volume::new(host, Dm::open(false)?.find(name)?)?);
    settings.retain(|s| key.is_none_or(|key| s.name == key));
    match key {
        Some(key) if settings.is_empty() => Err(Error::Kernel(format!(
            "{name} has no option {key}; the kernel module is older than wbctl: `modinfo dm-writeboost` says \
             which it is"
        ))),
        _ => Ok(settings),
    }
}

/// Sets the option `key` of the volume `name`, which stays in use, to `value`: a number, or `default` to
/// reset it.
///
/// # Errors
/// [`Error::Usage`] when there is no such option or its value is out of range, [`Error::NoVolume`],
/// [`Error::Kernel`].
pub fn set(host: &Host, name: &str, key: &str, value: &str) -> Result<Setting, Error> {
    check(key, value)?;
    let dm = Dm::open(false)?;
    dm.find(name)?;
    dm.message(name, &Message::Set { key, value, by: Who::Hand }.to_string())?;
    let settings = settings(&Volume::new(host, dm.find(name)?)?);
    let setting = settings.into_iter().find(|s| s.name == key);
    setting.ok_or_else(|| Error::Kernel(format!("{name} does not show the option {key}")))
}

fn check(key: &str, value: &str) -> Result<(), Error> {
    // The target's own check, without the target.
    Options::check(key, value).map_err(|e| Error::Usage(format!("{key} {value}: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{dm::Mapped, host::DevNo, status::example};

    #[test]
    fn what_was_given_and_what_not() {
        let mapped = Mapped {
            name: "v".into(),
            device: DevNo { major: 253, minor: 0 },
            sectors: 8,
            open_count: 0,
            suspended: false,
            table: "9999:16 9999:3 2 writeback_threshold 70".into(),
            status: example([0, 1, 1, 1, 1, 0, 0], 0, "writeback_threshold 70 nr_max_batched_writeback 32"),
            uuid: None,
        };
        let volume = Volume::new(&Host::default(), mapped).unwrap();
        let found: Vec<_> = settings(&volume).iter().map(|s| (s.name.clone(), s.word())).collect();
        let pair = |name: &str, word: &str| (name.to_owned(), word.to_owned());
        assert_eq!(found, [pair("writeback_threshold", "70"), pair("nr_max_batched_writeback", "default")]);
    }

    #[test]
    fn refused_before_the_kernel_is_asked() {
        for (key, value, words) in [
            ("writeback_threshold", "101", "from 0 to 100, or default"),
            ("writeback_threshold", "", "from 0 to 100"),
            ("threshold", "1", "there are writeback_threshold, "),
        ] {
            let error = check(key, value).unwrap_err();
            assert_eq!(error.exit_code(), 2);
            assert!(error.to_string().contains(words), "{error}");
        }
        assert!(check("writeback_rate_limit", DEFAULT).is_ok());
    }
}
