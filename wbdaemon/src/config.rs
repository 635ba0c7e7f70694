// SPDX-License-Identifier: GPL-2.0-only

//! The configuration file: TOML, with every key optional. The whole file is checked before any of it takes
//! effect.

use crate::control::Tuning;
use serde::Deserialize;
use std::{
    collections::BTreeMap,
    fmt,
    fs::{self, File},
    io::{self, ErrorKind, Read},
    net::{IpAddr, SocketAddr},
    ops::Range,
    os::unix,
    path::{Path, PathBuf},
};
use toml::{
    de::{DeTable, DeValue},
    Spanned, Table,
};

/// The default path of the file.
pub const PATH: &str = "/etc/writeboost/wbdaemon.toml";

/// The longest file that is read, in bytes: thousands of volumes.
pub const MAX_LEN: u64 = 256 << 10;

/// The longest path of a socket, in bytes: `sun_path` of unix(7) has 108, the last of which is a NUL.
pub const MAX_SOCKET_PATH: usize = 107;

/// The contents of the file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// How often volumes are looked at and steered, in seconds.
    pub interval_s: f64,
    /// The seconds after which, without a message from this daemon, the kernel's built-in policy takes over.
    pub steering_timeout_s: u32,
    /// The parameters of the policy.
    pub steering: Tuning,
    /// The page of metrics.
    pub metrics: Metrics,
    /// Settings for single volumes, by name.
    pub volume: BTreeMap<String, VolumeConfig>,
}

/// Where the page of metrics is served.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Metrics {
    /// `ADDRESS:PORT` or `unix:/PATH`; nowhere if empty.
    pub listen: String,
    /// Listen on an address that other machines can reach, too: there is no encryption and no password.
    pub allow_remote: bool,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Listen {
    /// On an address.
    Tcp(SocketAddr),
    /// On a socket of this path.
    Unix(PathBuf),
}

/// The settings for one volume.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VolumeConfig {
    /// Whether it is steered at all.
    pub steer: bool,
    /// Parameters of the policy; missing keys have the values for all volumes.
    pub steering: Table,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            interval_s: 1.0,
            steering_timeout_s: 10,
            steering: Tuning::default(),
            metrics: Metrics::default(),
            volume: BTreeMap::new(),
        }
    }
}

impl Default for VolumeConfig {
    fn default() -> Self {
        Self { steer: true, steering: Table::new() }
    }
}

/// The fault of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The file.
    pub path: PathBuf,
    /// The line, counted from 1, if the fault has one.
    pub line: Option<usize>,
    /// The fault, and advice.
    pub what: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.path.display())?;
        if let Some(line) = self.line {
            write!(f, ":{line}")?;
        }
        write!(f, ": {}", self.what)
    }
}

impl std::error::Error for ConfigError {}

impl Config {
    /// Reads the file at `path`. A missing file is an error only if it `must` be there.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn read(path: &Path, must: bool) -> Result<Self, ConfigError> {
        let error = |what| ConfigError { path: path.to_owned(), line: None, what };
        match read_text(path) {
            Ok(text) => Self::parse(&text).map_err(|(line, what)| ConfigError { line, ..error(what) }),
            Err(e) if e.kind() == ErrorKind::NotFound && !must => Ok(Self::default()),
            Err(e) => Err(error(format!("cannot be read: {e}"))),
        }
    }

    /// Reads a text.
    fn parse(text: &str) -> Result<Self, (Option<usize>, String)> {
        let config: Self = toml::from_str(text).map_err(|e| explain(text, &e))?;
        config.check().map_err(|(key, what)| (line_of(text, &key), what))?;
        Ok(config)
    }

    /// Checks the values. An error names its key.
    fn check(&self) -> Result<(), (Vec<String>, String)> {
        let at = |keys: &[&str]| keys.iter().map(|&k| k.to_owned()).collect::<Vec<_>>();
        if !(0.1..=60.0).contains(&self.interval_s) {
            return Err((at(&["interval_s"]), "interval_s is from 0.1 to 60".to_owned()));
        }
        // The target's own range; and a single late look must not let the timeout expire.
        let least = (3.0 * self.interval_s).ceil() as u32;
        if !(least..=3600).contains(&self.steering_timeout_s) {
            let what = format!("steering_timeout_s is from {least} (three times interval_s) to 3600");
            return Err((at(&["steering_timeout_s"]), what));
        }
        self.steering.validate().map_err(|what| (at(&["steering"]), what))?;
        self.metrics.listen().map_err(|what| (at(&["metrics", "listen"]), what))?;
        for name in self.volume.keys() {
            let about =
                |key: &str, what| (at(&["volume", name, "steering", key]), format!("volume {name}: {what}"));
            let tuning = self.tuning_or_key(name).map_err(|(key, what)| about(&key, what))?;
            tuning.validate().map_err(|what| about("", what))?;
        }
        Ok(())
    }

    /// Whether the volume `name` is to be steered.
    pub fn steers(&self, name: &str) -> bool {
        self.volume.get(name).is_none_or(|v| v.steer)
    }

    /// The policy of the volume `name`.
    ///
    /// # Errors
    /// The fault of its own keys; impossible after the file was read without an error.
    pub fn tuning(&self, name: &str) -> Result<Tuning, String> {
        self.tuning_or_key(name).map_err(|(_, what)| what)
    }

    /// The same; an error names its key.
    fn tuning_or_key(&self, name: &str) -> Result<Tuning, (String, String)> {
        let Some(own) = self.volume.get(name) else { return Ok(self.steering.clone()) };
        let common = Table::try_from(&self.steering).map_err(|e| (String::new(), e.to_string()))?;
        let of = |table: Table| table.try_into::<Tuning>();
        // One by one, because an error does not name its key.
        for (key, value) in &own.steering {
            let mut table = common.clone();
            table.insert(key.clone(), value.clone());
            of(table).map_err(|e| (key.clone(), in_our_words(key, e.message())))?;
        }
        let mut table = common;
        table.extend(own.steering.clone());
        of(table).map_err(|e| (String::new(), e.message().to_owned()))
    }
}

/// The contents of the file at `path`, if it is a regular file: a device or a FIFO might never end, so it is
/// neither read nor opened.
fn read_text(path: &Path) -> io::Result<String> {
    let refused = |what: String| io::Error::new(ErrorKind::InvalidInput, what);
    let check = |metadata: fs::Metadata| match metadata.is_file() {
        true => Ok(()),
        false => Err(refused("it is no regular file".to_owned())),
    };
    check(fs::metadata(path)?)?;
    let file = File::open(path)?;
    check(file.metadata()?)?;
    let mut text = Vec::new();
    // The reported size is not relied on: the file may grow.
    file.take(MAX_LEN + 1).read_to_end(&mut text)?;
    if text.len() as u64 > MAX_LEN {
        return Err(refused(format!("it has more than {} KiB, and is no configuration", MAX_LEN >> 10)));
    }
    String::from_utf8(text).map_err(|e| refused(format!("it is not in UTF-8: {e}")))
}

impl Metrics {
    /// The place to listen; `None` for nowhere.
    ///
    /// # Errors
    /// The fault of the setting.
    pub fn listen(&self) -> Result<Option<Listen>, String> {
        if self.listen.is_empty() {
            return Ok(None);
        }
        if let Some(path) = self.listen.strip_prefix("unix:") {
            return check_socket(path).map(|()| Some(Listen::Unix(path.into())));
        }
        let address: SocketAddr = self.listen.parse().map_err(|_| {
            "listen is ADDRESS:PORT, such as 127.0.0.1:9837 or [::1]:9837, or unix:/PATH".to_owned()
        })?;
        let is_loopback = match address.ip() {
            IpAddr::V4(ip) => ip.is_loopback(),
            IpAddr::V6(ip) => ip.is_loopback(),
        };
        if !is_loopback && !self.allow_remote {
            return Err(format!(
                "listen is {address}, which other machines can reach, without encryption or a password; say \
                 allow_remote = true if that is meant"
            ));
        }
        Ok(Some(Listen::Tcp(address)))
    }
}

/// Whether a socket can be at `path`.
fn check_socket(path: &str) -> Result<(), String> {
    if !path.starts_with('/') {
        let example = "listen is unix: and a path from the root, such as unix:/run/wbdaemon/metrics.sock";
        return Err(example.to_owned());
    }
    if path.ends_with('/') {
        return Err(format!("listen is unix: and the path of a socket; {path} is that of a directory"));
    }
    if path.len() > MAX_SOCKET_PATH {
        return Err(format!(
            "listen has a path of {} bytes, and the path of a socket has {MAX_SOCKET_PATH} at most",
            path.len()
        ));
    }
    // The system decides in the end.
    unix::net::SocketAddr::from_pathname(path).map_err(|e| format!("listen has an impossible path: {e}"))?;
    Ok(())
}

/// Line and words of a parser's error.
fn explain(text: &str, error: &toml::de::Error) -> (Option<usize>, String) {
    let line = error.span().map(|span| text[..span.start.min(text.len())].matches('\n').count() + 1);
    let table = DeTable::parse(text).ok();
    let key = error.span().and_then(|span| key_at(table?.get_ref(), &span));
    (line, in_our_words(&key.unwrap_or_default(), error.message()))
}

/// The key whose value is at `span`, with the keys of the tables around it.
fn key_at(table: &DeTable<'_>, span: &Range<usize>) -> Option<String> {
    table.iter().find_map(|(key, value)| {
        let key = key.get_ref();
        if value.span() == *span {
            return Some(key.to_string());
        }
        let inner: &Spanned<DeValue<'_>> = value;
        key_at(inner.get_ref().as_table()?, span).map(|inner| format!("{key}.{inner}"))
    })
}

/// A parser's message about the value of `key`, in an administrator's terms: in TOML's words, and with the
/// key.
fn in_our_words(key: &str, message: &str) -> String {
    // serde's message is: invalid type: boolean `true`, expected f64.
    let rest = message.strip_prefix("invalid type: ").or_else(|| message.strip_prefix("invalid value: "));
    let Some((found, expected)) = rest.and_then(|rest| rest.rsplit_once(", expected ")) else {
        return with_nearest(message);
    };
    let expected = match expected {
        "f32" | "f64" => "a number".to_owned(),
        "u32" => format!("a whole number from 0 to {}", u32::MAX),
        "a string" => "text in quotes".to_owned(),
        "a boolean" => "true or false".to_owned(),
        "a map" => "a table".to_owned(),
        other if other.starts_with("struct ") => "a table".to_owned(),
        other => other.to_owned(),
    };
    let found = match found {
        "map" => "a table",
        "sequence" => "a list",
        // The value itself, where there is one: boolean `true`, string "x".
        found => found.find(['`', '"']).map_or(found, |at| found[at..].trim_matches('`')),
    };
    if key.is_empty() {
        return format!("there must be {expected}, not {found}");
    }
    format!("{key} must be {expected}, not {found}")
}

/// The message; for an unknown key, in our words and with the most similar known one.
fn with_nearest(message: &str) -> String {
    // serde's message is: unknown field `x`, expected one of `a`, `b`.
    let Some(rest) = message.strip_prefix("unknown field `") else { return message.to_owned() };
    let mut quoted = rest.split('`').step_by(2);
    let unknown = quoted.next().unwrap_or_default();
    let known: Vec<&str> = quoted.filter(|word| !word.is_empty()).collect();
    let nearest = known.iter().max_by(|a, b| {
        let like = |k: &str| strsim::jaro_winkler(k, unknown);
        like(a).total_cmp(&like(b))
    });
    match nearest {
        Some(nearest) => {
            format!("unknown key {unknown}; did you mean {nearest}? There are {}", known.join(", "))
        }
        None => format!("unknown key {unknown}"),
    }
}

/// The line of the innermost of `keys`, or of the next one around it that is in the text.
fn line_of(text: &str, keys: &[String]) -> Option<usize> {
    let is_key = |line: &str, key: &str| {
        let line = line.trim_start();
        let name = |s: &str| s.trim().trim_matches('"') == key;
        match line.strip_prefix('[') {
            Some(table) => table.split(']').next().is_some_and(|t| t.split('.').any(name)),
            None => line.split('=').next().is_some_and(|k| k.split('.').any(name)),
        }
    };
    let mut from = 0;
    let mut found = None;
    for key in keys {
        let Some(at) = text.lines().skip(from).position(|line| is_key(line, key)) else { break };
        from += at;
        found = Some(from + 1);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> (Option<usize>, String) {
        Config::parse(text).unwrap_err()
    }

    #[test]
    fn the_shipped_file_is_what_is_built_in() {
        let text = include_str!("../share/wbdaemon.toml");
        assert_eq!(Config::parse(text).unwrap(), Config::default());
        // The file has every key, commented out, with its default value.
        let all: String = text
            .lines()
            .take_while(|l| !l.contains("One volume"))
            .filter(|l| !l.starts_with("# "))
            .map(|l| format!("{}\n", l.strip_prefix('#').unwrap_or(l)))
            .collect();
        assert_eq!(Config::parse(&all).unwrap(), Config::default(), "{all}");
        for key in Table::try_from(Tuning::default()).unwrap().keys() {
            assert!(all.contains(&format!("\n{key} = ")), "{key} is not in the file");
        }
    }

    #[test]
    fn unknown_keys() {
        let (line, what) = error("# a comment\nintervall_s = 1\n");
        assert_eq!(line, Some(2));
        assert!(what.starts_with("unknown key intervall_s; did you mean interval_s? There are "), "{what}");
        let (line, what) = error("[metrics]\n\nlisen = \"\"\n");
        assert_eq!(line, Some(3));
        assert!(what.contains("did you mean listen?"), "{what}");
        let (line, what) = error("[volume.v]\nstear = false\n");
        assert_eq!(line, Some(2));
        assert!(what.contains("did you mean steer"), "{what}");
        let (line, what) = error("[volume.v.steering]\nno_such_key = 1\n");
        assert_eq!(line, Some(2), "{what}");
        assert!(what.starts_with("volume v: unknown key no_such_key; did you mean "), "{what}");
    }

    #[test]
    fn values() {
        for (text, line, words) in [
            ("interval_s = 0.01", 1, "from 0.1 to 60"),
            ("\n\nsteering_timeout_s = 2", 3, "from 3 (three times interval_s) to 3600"),
            ("interval_s = 10\nsteering_timeout_s = 20", 2, "from 30"),
            ("interval_s = true", 1, "interval_s must be a number, not true"),
            (
                "\nsteering_timeout_s = -1",
                2,
                "steering_timeout_s must be a whole number from 0 to 4294967295, not -1",
            ),
            (
                "steering_timeout_s = 1.5",
                1,
                "steering_timeout_s must be a whole number from 0 to 4294967295, not 1.5",
            ),
            ("[steering]\n\nlow_used = \"a\"", 3, "steering.low_used must be a number, not \"a\""),
            ("metrics = 5", 1, "metrics must be a table, not 5"),
            ("metrics = { listen = 5 }", 1, "metrics.listen must be text in quotes, not 5"),
            (
                "[metrics]\nallow_remote = \"true\"",
                2,
                "metrics.allow_remote must be true or false, not \"true\"",
            ),
            ("[metrics]\nlisten = [\n1, 2]", 2, "metrics.listen must be text in quotes, not a list"),
            ("[volume.v]\nsteer = {}", 2, "volume.v.steer must be true or false, not a table"),
            ("[volume.v]\nsteering = 1", 2, "volume.v.steering must be a table, not 1"),
            (
                "[volume.v.steering]\nlow_used = 0.2\nquiet_s = \"a\"",
                3,
                "volume v: quiet_s must be a number, not \"a\"",
            ),
            ("[metrics]\nlisten = \"x\"", 2, "ADDRESS:PORT"),
            ("[metrics]\nlisten = \"0.0.0.0:9837\"", 2, "allow_remote"),
            ("[metrics]\nlisten = \"unix:run\"", 2, "a path from the root"),
            ("[metrics]\nlisten = \"unix:\"", 2, "listen is unix: and a path from the root"),
            ("[metrics]\nlisten = \"unix:/\"", 2, "/ is that of a directory"),
            ("[metrics]\nlisten = \"unix:/run\\u0000\"", 2, "listen has an impossible path"),
            ("interval_s = ", 1, ""),
        ] {
            let (at, what) = error(text);
            assert_eq!(at, Some(line), "{text}: {what}");
            assert!(what.contains(words), "{text}: {what}");
        }
    }

    #[test]
    fn where_to_listen() {
        let metrics =
            |text: &str| Config::parse(&format!("[metrics]\n{text}")).unwrap().metrics.listen().unwrap();
        assert_eq!(metrics(""), None);
        assert_eq!(metrics("listen = \"[::1]:9837\""), Some(Listen::Tcp("[::1]:9837".parse().unwrap())));
        let remote = metrics("listen = \"0.0.0.0:9837\"\nallow_remote = true");
        assert_eq!(remote, Some(Listen::Tcp("0.0.0.0:9837".parse().unwrap())));
        assert_eq!(metrics("listen = \"unix:/run/x\""), Some(Listen::Unix("/run/x".into())));
    }

    /// The reported limit is the system's own.
    #[test]
    fn a_path_that_is_too_long() {
        let listen =
            |len: usize| Metrics { listen: format!("unix:/{:a<1$}", "", len - 1), allow_remote: false };
        assert!(listen(MAX_SOCKET_PATH).listen().is_ok());
        let what = listen(MAX_SOCKET_PATH + 1).listen().unwrap_err();
        assert_eq!(what, "listen has a path of 108 bytes, and the path of a socket has 107 at most");
        let longest = |len: usize| unix::net::SocketAddr::from_pathname("/".repeat(len)).is_ok();
        assert!(longest(MAX_SOCKET_PATH) && !longest(MAX_SOCKET_PATH + 1));
    }

    #[test]
    fn files_without_an_end() {
        let dir = tempfile::tempdir().unwrap();
        let refused = |path: &Path, words: &str| {
            let error = Config::read(path, true).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{}: cannot be read: ", path.display())), "{error}");
            assert!(error.ends_with(words), "{error}");
        };
        refused("/dev/zero".as_ref(), "it is no regular file");
        refused(dir.path(), "it is no regular file");
        let fifo = dir.path().join("fifo");
        assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        refused(&fifo, "it is no regular file");
        let huge = dir.path().join("huge");
        File::create(&huge).unwrap().set_len(1 << 40).unwrap();
        refused(&huge, "it has more than 256 KiB, and is no configuration");
        fs::write(&huge, "#".repeat(MAX_LEN as usize)).unwrap();
        assert_eq!(Config::read(&huge, true), Ok(Config::default()));
        fs::write(&huge, "#".repeat(MAX_LEN as usize + 1)).unwrap();
        refused(&huge, "it has more than 256 KiB, and is no configuration");
    }

    #[test]
    fn a_volume_of_its_own() {
        let config = Config::parse("[volume.a]\nsteer = false\n[volume.\"b-1\".steering]\n").unwrap();
        assert_eq!(["a", "b-1", "c"].map(|name| config.steers(name)), [false, true, true]);
        assert_eq!(config.tuning("b-1").unwrap(), config.steering);
    }

    #[test]
    fn a_file_that_is_not_there() {
        let none = Path::new("/nonexistent/wbdaemon.toml");
        assert_eq!(Config::read(none, false), Ok(Config::default()));
        let error = Config::read(none, true).unwrap_err().to_string();
        assert!(error.starts_with("/nonexistent/wbdaemon.toml: cannot be read: No such file"), "{error}");
    }
}
