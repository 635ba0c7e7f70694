// SPDX-License-Identifier: GPL-2.0-only

//! The output: text for people, JSON for scripts.

use serde::Serialize;
use serde_json::Value;
use wbhost::{
    create::Created,
    drain::Drained,
    options::Setting,
    remove::Removed,
    size,
    status::{State, Status},
    volume::{Below, Volume},
};
use writeboost::format::{BLOCK, SECTOR};

/// A value as JSON in a form that people can read, too.
pub fn json(value: &impl Serialize) -> String {
    // Only maps whose keys are not strings fail, and there are none.
    format!("{}\n", serde_json::to_string_pretty(value).unwrap_or_default())
}

/// The same on a line of its own.
pub fn json_line(value: &impl Serialize) -> String {
    format!("{}\n", serde_json::to_string(value).unwrap_or_default())
}

fn blocks(n: u64) -> String {
    let s = if n == 1 { "" } else { "s" };
    format!("{n} block{s} ({})", size::human(n * BLOCK as u64))
}

/// The output of `wbctl create`.
pub fn created(c: &Created) -> String {
    let what = match (c.formatted, c.dirty_blocks) {
        (true, _) => "a new volume".to_owned(),
        (false, Some(0)) => "resumed, nothing is dirty".to_owned(),
        (false, Some(n)) => format!("resumed, {} dirty", blocks(n)),
        (false, None) => "resumed".to_owned(),
    };
    format!("{}: {}, {what}\n", c.device.display(), size::human(c.size_sectors * SECTOR as u64))
}

/// The output of `wbctl remove`.
pub fn removed(r: &Removed) -> String {
    match r.dirty_blocks {
        0 => format!("Removed {}: {} has all of its data\n", r.name, r.backing),
        n => format!(
            "Removed {}: {} of its data are only on {}; {} alone is out of date. To resume it:\n  {}\n",
            r.name,
            blocks(n),
            r.cache,
            r.backing,
            r.resume_command
        ),
    }
}

/// The output of `wbctl drain`.
pub fn drained(d: &Drained) -> String {
    let now = match d.dirty_blocks_after {
        0 => "nothing is dirty now".to_owned(),
        n => format!("{} were written meanwhile and are dirty now", blocks(n)),
    };
    format!("Drained {}: {} in {:.1} s, {now}\n", d.name, blocks(d.dirty_blocks_before), d.seconds)
}

/// The state in a word. When nothing else is wrong, a device that does not answer decides it.
fn state_word(s: &Status) -> &'static str {
    match s.state {
        State::Ok if s.silent().next().is_some() => "silent",
        state => state.word(),
    }
}

/// The output of `wbctl list`.
pub fn list(volumes: &[Volume]) -> String {
    let mut rows = vec![["NAME", "STATE", "SIZE", "DIRTY", "BACKING", "CACHE"].map(str::to_owned)];
    rows.extend(volumes.iter().map(|v| {
        [
            v.name.clone(),
            state_word(&v.status).to_owned(),
            size::human(v.size_bytes),
            size::human(v.dirty_bytes),
            v.backing.device.clone(),
            v.cache.device.clone(),
        ]
    }));
    let width = |i: usize| rows.iter().map(|r| r[i].len()).max().unwrap_or(0);
    let widths: Vec<_> = (0..6).map(width).collect();
    let line = |r: &[String; 6]| {
        let cells: Vec<_> = r.iter().zip(&widths).map(|(c, w)| format!("{c:w$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}

/// The output of `wbctl get`.
pub fn settings(settings: &[Setting]) -> String {
    let mut out = String::new();
    for s in settings {
        let unit = if s.unit.is_empty() { String::new() } else { format!(" {}", s.unit) };
        out.push_str(&format!("{:<26}{:<9}{} to {}{unit}: {}\n", s.name, s.word(), s.min, s.max, s.summary));
    }
    out
}

/// The output of `wbctl status`.
pub fn status(v: &Volume) -> String {
    let s = &v.status;
    let mut out = format!("{}: {}{}", v.name, s.state.word(), if v.suspended { ", suspended" } else { "" });
    for silent in s.silent() {
        out.push_str(&format!(", but {silent}"));
    }
    out.push('\n');
    for (key, value) in devices(v).into_iter().chain(cache(v)).chain(requests(v)) {
        out.push_str(&format!("  {key:<9}{value}\n"));
    }
    for advice in s.advice() {
        out.push_str(&format!("{advice}\n"));
    }
    out
}

type Lines = Vec<(&'static str, String)>;

fn count(n: Option<u64>) -> String {
    n.map_or("?".to_owned(), |n| n.to_string())
}

/// The devices of the volume.
fn devices(v: &Volume) -> Lines {
    let s = &v.status;
    let silence = |silent_s: Option<u64>| match silent_s {
        None | Some(0) => String::new(),
        Some(s) => format!(", no answer for {s} s"),
    };
    let size = size::human(v.size_bytes);
    let below = |b: &Below| format!("{} ({})", b.device, b.number);
    vec![
        ("device", format!("{} ({}), {size}, opened {} times", v.device.display(), v.number, v.open_count)),
        ("uuid", s.uuid.clone().unwrap_or("?".to_owned())),
        ("backing", below(&v.backing) + &silence(s.backing_silent_s)),
        (
            "cache",
            format!(
                "{}, {} segments, {}{}",
                below(&v.cache),
                s.segments,
                blocks(s.cache_blocks),
                silence(s.cache_silent_s)
            ),
        ),
    ]
}

/// The contents of the cache.
fn cache(v: &Volume) -> Lines {
    let s = &v.status;
    let mut lines = vec![
        ("dirty", format!("{}, {:.1} % of the cache", blocks(s.dirty_blocks), v.dirty_percent)),
        ("free", format!("{} of {} segments", count(s.free_segments), s.segments)),
    ];
    if s.full == Some(true) {
        lines.push(("full", "writes are as fast as the backing device".to_owned()));
    }
    let log = format!(
        "newest {}, on the cache device {}, written back {}, partial {}",
        s.current_id, s.last_flushed_id, s.last_writeback_id, s.partial_flushed
    );
    lines.push(("log", log));
    lines
}

/// The results of requests, and the settings that they depend on.
fn requests(v: &Volume) -> Lines {
    let s = &v.status;
    let hits = |n: u64, percent: Option<f64>| match percent {
        Some(p) => format!("{n}, {p:.1} % in the cache"),
        None => n.to_string(),
    };
    let errors = format!(
        "cache {} in reads, {} in writes; backing {} in reads, {} in writes",
        count(s.read_errors),
        count(s.cache_write_errors),
        count(s.backing_read_errors),
        count(s.writeback_errors)
    );
    let mut lines = vec![
        ("reads", hits(s.counters.reads(), v.read_hit_percent)),
        ("writes", hits(s.counters.writes(), v.write_hit_percent)),
        ("errors", errors),
    ];
    for (key, map) in [("options", &s.options), ("other", &s.other)] {
        if !map.is_empty() {
            let pair = |(k, v): (&String, &Value)| format!("{k} {}", v.to_string().trim_matches('"'));
            lines.push((key, map.iter().map(pair).collect::<Vec<_>>().join(", ")));
        }
    }
    if s.lost_blocks.is_some_and(|n| n > 0) {
        let lost = blocks(s.lost_blocks.unwrap_or(0));
        lines.push(("lost", format!("{lost}, until they are written again")));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;
    use wbhost::{
        dm::Mapped,
        host::{DevNo, Host},
        status::example,
    };

    fn volume() -> Volume {
        let mapped = Mapped {
            name: "perflv".into(),
            device: DevNo { major: 253, minor: 0 },
            sectors: 2 << 20,
            open_count: 1,
            suspended: false,
            table: "9999:16 9999:3 2 writeback_threshold 70".into(),
            status: example([0, 1024, 8, 1, 1, 0, 256], 1, "writeback_threshold 70 state 0 free_segments 6"),
            uuid: None,
        };
        Volume::new(&Host::default(), mapped).unwrap()
    }

    #[test]
    fn texts() {
        let v = volume();
        let text = status(&v);
        for words in [
            "perflv: ok",
            "9999:16",
            "256 blocks (1 MiB), 25.0 %",
            "6 of 8 segments",
            "writeback_threshold 70",
        ] {
            assert!(text.contains(words), "{words:?} is not in {text}");
        }
        let text = list(&[v]);
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains("1 GiB"), "{text}");
        let mut v = volume();
        (v.status.backing_silent_s, v.status.cache_silent_s) = (Some(3), Some(42));
        let text = status(&v);
        for words in [
            "perflv: ok, but the cache device has not answered for 42 s\n",
            "9999:16 (9999:16), no answer for 3 s\n",
            "no answer for 42 s\n",
            "neither data nor errors",
        ] {
            assert!(text.contains(words), "{words:?} is not in {text}");
        }
        assert!(list(&[v]).contains(" silent "));
    }

    #[test]
    fn json_has_all_fields() {
        let json = serde_json::to_value(volume()).unwrap();
        assert_eq!(json["dirty_bytes"], 1 << 20);
        assert_eq!(json["dirty_percent"], 25.0);
        assert_eq!(json["backing"]["number"], "9999:16");
        assert_eq!(json["counters"]["read_hit_device_full"], 1);
        assert_eq!(json["options"]["writeback_threshold"], 70);
        assert!(json["writeback_errors"].is_null());
    }
}
