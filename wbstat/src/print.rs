// SPDX-License-Identifier: GPL-2.0-only

//! Samples for scripts: text, JSON, CSV.

use crate::{
    rates::{activity, Rates},
    sample::{human, Sample, VolumeSample},
};
use serde::Serialize;
use std::fmt::Write;

/// How samples are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people: some lines for each volume.
    Text,
    /// An object for each sample, on a line of its own.
    Json,
    /// A line for each volume and sample, below a line with the names of the columns.
    Csv,
}

/// Names of the columns of CSV.
pub const COLUMNS: &str = "time_ms,volume,state,fault,full,used_percent,dirty_percent,dirty_blocks,\
free_segments,reads_per_s,writes_per_s,flushes_per_s,read_hit_percent,write_hit_percent,read_bytes_per_s,\
write_bytes_per_s,written_back_bytes_per_s,read_ms,write_ms,flush_ms,backing_busy_percent,\
cache_busy_percent,new_errors,lost_blocks";

#[derive(Serialize)]
struct Line<'a> {
    time_ms: u64,
    volumes: Vec<JsonVolume<'a>>,
}

#[derive(Serialize)]
struct JsonVolume<'a> {
    #[serde(flatten)]
    volume: &'a VolumeSample,
    used_percent: f64,
    dirty_percent: f64,
    now: &'static str,
    steered_by: &'static str,
    rates: Rates,
}

/// The output for `now`, which came after `before`.
pub fn sample(format: Format, before: &Sample, now: &Sample) -> String {
    let seconds = now.at_ms.saturating_sub(before.at_ms) as f64 / 1000.0;
    let rates = |v: &VolumeSample| {
        let old = before.volumes.iter().find(|b| b.name == v.name && b.uuid == v.uuid);
        old.map_or_else(Rates::default, |old| Rates::between(old, v, seconds))
    };
    match format {
        Format::Text => now.volumes.iter().map(|v| text(v, &rates(v))).collect(),
        Format::Csv => now.volumes.iter().map(|v| csv(now.at_ms, v, &rates(v))).collect(),
        Format::Json => {
            let volumes = now
                .volumes
                .iter()
                .map(|volume| {
                    let rates = rates(volume);
                    JsonVolume {
                        volume,
                        used_percent: volume.used() * 100.0,
                        dirty_percent: volume.dirty() * 100.0,
                        now: activity(volume, &rates),
                        steered_by: volume.steered_by(),
                        rates,
                    }
                })
                .collect();
            // Only maps whose keys are not strings fail, and there are none.
            format!("{}\n", serde_json::to_string(&Line { time_ms: now.at_ms, volumes }).unwrap_or_default())
        }
    }
}

fn text(v: &VolumeSample, r: &Rates) -> String {
    let ms = |ms: Option<f64>| ms.map_or_else(|| "-".to_owned(), |ms| format!("{ms:.1}"));
    let percent = |p: Option<f64>| p.map_or_else(|| "-".to_owned(), |p| format!("{p:.0} %"));
    let mut out = format!("{}: {}, {}\n", v.name, v.state, activity(v, r));
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "  log {:.0} % in use, cache {:.0} % dirty ({}), {} of {} segments free",
        v.used() * 100.0,
        v.dirty() * 100.0,
        human(v.dirty_blocks * 4096),
        v.free_segments,
        v.segments
    );
    let _ = writeln!(
        out,
        "  {:.0} reads/s in {} ms, {} hits; {:.0} writes/s in {} ms; {:.0} flushes/s; {}/s written back",
        r.reads,
        ms(r.read_ms),
        percent(r.read_hit_percent),
        r.writes,
        ms(r.write_ms),
        r.flushes,
        human(r.written_back_bytes as u64)
    );
    let _ = writeln!(out, "  writeback {}, decided by: {}", v.throttle(), v.steered_by());
    if v.fault != "none" || v.errors.iter().any(|n| *n > 0) || v.lost_blocks > 0 {
        let [a, b, c, d] = v.errors;
        let _ = writeln!(
            out,
            "  fault {}; errors: cache {a} in reads, {b} in writes; backing {c} in reads, {d} in writes; \
             {} blocks lost",
            v.fault, v.lost_blocks
        );
    }
    for silent in v.silent() {
        let _ = writeln!(out, "  {silent}");
    }
    for advice in &v.advice {
        let _ = writeln!(out, "  {advice}");
    }
    out
}

fn csv(at_ms: u64, v: &VolumeSample, r: &Rates) -> String {
    let some = |x: Option<f64>| x.map_or_else(String::new, |x| format!("{x:.3}"));
    // Names have no commas, but faults do: they are in quotes.
    format!(
        "{at_ms},{},{},\"{}\",{},{:.2},{:.2},{},{},{:.2},{:.2},{:.2},{},{},{:.0},{:.0},{:.0},{},{},{},{:.2},{:.2},{},{}\n",
        v.name,
        v.state,
        v.fault,
        u8::from(v.full),
        v.used() * 100.0,
        v.dirty() * 100.0,
        v.dirty_blocks,
        v.free_segments,
        r.reads,
        r.writes,
        r.flushes,
        some(r.read_hit_percent),
        some(r.write_hit_percent),
        r.read_bytes,
        r.write_bytes,
        r.written_back_bytes,
        some(r.read_ms),
        some(r.write_ms),
        some(r.flush_ms),
        r.backing.busy_percent,
        r.cache.busy_percent,
        r.errors,
        v.lost_blocks
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn samples() -> (Sample, Sample) {
        let volume = |reads| VolumeSample {
            name: "v".into(),
            state: "ok".into(),
            fault: "cache_read,backing_write".into(),
            segments: 10,
            free_segments: 5,
            reads,
            ..VolumeSample::default()
        };
        let at = |at_ms, reads| Sample { at_ms, volumes: vec![volume(reads)] };
        (at(1000, 0), at(2000, 7))
    }

    #[test]
    fn as_csv() {
        let (a, b) = samples();
        let line = sample(Format::Csv, &a, &b);
        assert!(line.starts_with("2000,v,ok,\"cache_read,backing_write\",0,50.00,0.00,0,5,7.00,"), "{line}");
        // The fault has a comma of its own.
        assert_eq!(line.split(',').count() - 1, COLUMNS.split(',').count());
    }

    #[test]
    fn as_json_and_text() {
        let (a, b) = samples();
        let json: serde_json::Value = serde_json::from_str(&sample(Format::Json, &a, &b)).unwrap();
        let v = &json["volumes"][0];
        assert_eq!(
            (&v["name"], &v["rates"]["reads"], &v["now"]),
            (&"v".into(), &7.0.into(), &"in use".into())
        );
        assert_eq!((v["used_percent"].as_f64(), v["reads"].as_u64()), (Some(50.0), Some(7)));
        assert!(sample(Format::Text, &a, &b).starts_with("v: ok, in use\n  log 50 % in use"));
        // The first sample has no earlier one to compare with.
        assert!(sample(Format::Text, &Sample::default(), &b).contains("v: ok, idle"));
    }
}
