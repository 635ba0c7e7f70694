// SPDX-License-Identifier: GPL-2.0-only

//! The page of metrics for Prometheus, in either of its text formats.
//!
//! Names follow Prometheus' conventions: base units, `_total` for numbers that only grow, one label for each
//! distinction.

use crate::{
    accept::Format,
    volumes::{Steered, Steering},
};
use hyper::body::Bytes;
use prometheus_client::{
    encoding::{prometheus_text, text, EncodeLabelSet},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Metric, Registry, Unit},
};
use std::sync::{atomic::AtomicU64, OnceLock};
use wbhost::status::State;
use writeboost::format::BLOCK;

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct OfVolume {
    volume: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Request {
    volume: String,
    operation: &'static str,
    result: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Failure {
    volume: String,
    device: &'static str,
    operation: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct InState {
    volume: String,
    state: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct About {
    volume: String,
    uuid: String,
    backing: String,
    cache: String,
    steered: &'static str,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    version: &'static str,
}

type Value = Gauge<f64, AtomicU64>;

/// The state of all volumes at one moment. It does not change any more, and each format of it is written
/// once, when it is first asked for. More requests cannot cause more work than that.
pub struct Page {
    registry: Registry,
    texts: [OnceLock<Bytes>; Format::ALL.len()],
    info: Family<About, Gauge>,
    state: Family<InState, Gauge>,
    gauges: Vec<Family<OfVolume, Value>>,
    counters: Vec<Family<OfVolume, Counter>>,
    requests: Family<Request, Counter>,
    failures: Family<Failure, Counter>,
}

/// The families of gauges, in the order in which [`Page::add`] fills them.
const GAUGES: [(&str, &str, Option<&str>); 14] = [
    ("size", "Size of the volume", Some("bytes")),
    ("cache_size", "Size of the cache, headers included", Some("bytes")),
    ("dirty", "Data that only the cache device has", Some("bytes")),
    ("segments", "Segments of the cache", None),
    ("free_segments", "Segments that can be written at once", None),
    ("full", "1 while the cache is full and writes are as fast as the backing device", None),
    (
        "lost_blocks",
        "Dirty blocks of 4 KiB that were given up because the cache device could not be read",
        None,
    ),
    (
        "backing_silent",
        "For how long the backing device has not answered though somebody waits for it",
        Some("seconds"),
    ),
    (
        "cache_silent",
        "For how long the cache device has not answered though somebody waits for it",
        Some("seconds"),
    ),
    ("steering_expired", "1 when whoever steers is silent and the built-in policy has taken over", None),
    (
        "backing_utilization",
        "Part of the time in which the backing device had something to do",
        Some("ratio"),
    ),
    ("backing_queue_length", "Requests that the backing device had at a time, on average", None),
    (
        "writeback_threshold",
        "Utilization of the backing device below which writeback runs, as decided last",
        Some("ratio"),
    ),
    (
        "writeback_rate_limit",
        "Bytes a second that writeback may do, as decided last; 0 for no limit",
        Some("bytes_per_second"),
    ),
];

/// The same for counters.
const COUNTERS: [(&str, &str, Option<&str>); 3] = [
    ("flushes", "Flushes and FUA writes taken", None),
    ("written_back", "Data written to the backing device", Some("bytes")),
    ("read_again", "Reads from the cache device that went well when repeated", None),
];

/// Registers families with these names, explanations and units, and returns them.
fn families<M>(registry: &mut Registry, of: &[(&str, &str, Option<&str>)]) -> Vec<Family<OfVolume, M>>
where
    Family<OfVolume, M>: Metric + Default,
{
    let register = |&(name, help, unit): &(&str, &str, Option<&str>)| {
        let family = Family::default();
        match unit {
            Some(unit) => {
                registry.register_with_unit(name, help, Unit::Other(unit.to_owned()), family.clone())
            }
            None => registry.register(name, help, family.clone()),
        }
        family
    };
    of.iter().map(register).collect()
}

impl Page {
    /// The page of these volumes.
    pub fn of<'a>(volumes: impl Iterator<Item = (&'a String, &'a Steered)>) -> Self {
        let mut page = Self::new();
        for (name, steered) in volumes {
            page.add(name, steered);
        }
        page
    }

    /// The page in this format.
    pub fn text(&self, format: Format) -> Bytes {
        let write = || {
            let mut text = String::new();
            // Writing to a string cannot fail.
            let _ = match format {
                Format::Text => prometheus_text::encode(&mut text, &self.registry),
                Format::OpenMetrics => text::encode(&mut text, &self.registry),
            };
            Bytes::from(text)
        };
        self.texts[format as usize].get_or_init(write).clone()
    }

    fn new() -> Self {
        let mut registry = Registry::with_prefix("writeboost");
        let info = Family::default();
        registry.register("volume_info", "1 for each volume, with what it is made of", info.clone());
        let state = Family::default();
        registry.register("state", "1 for the state that the volume is in, 0 for the others", state.clone());
        let gauges = families(&mut registry, &GAUGES);
        let counters = families(&mut registry, &COUNTERS);
        let requests = Family::default();
        registry.register("requests", "Requests, and whether the cache had the block", requests.clone());
        let failures = Family::default();
        registry.register("device_errors", "Errors of the devices below", failures.clone());
        let build: Family<Build, Gauge> = Family::default();
        build.get_or_create(&Build { version: env!("CARGO_PKG_VERSION") }).set(1);
        registry.register("build_info", "1, with the version of wbdaemon", build);
        Self { registry, texts: Default::default(), info, state, gauges, counters, requests, failures }
    }

    fn add(&mut self, name: &str, steered: &Steered) {
        let (v, s) = (&steered.volume, &steered.volume.status);
        let volume = || name.to_owned();
        let about = About {
            volume: volume(),
            uuid: s.uuid.clone().unwrap_or_default(),
            backing: v.backing.device.clone(),
            cache: v.cache.device.clone(),
            steered: match steered.steering {
                Steering::Daemon => "wbdaemon",
                Steering::ByHand => "by_hand",
                Steering::Off => "built_in",
            },
        };
        self.info.get_or_create(&about).set(1);
        for state in [State::Ok, State::Degraded, State::Failed] {
            let label = InState { volume: volume(), state: state.word() };
            self.state.get_or_create(&label).set(i64::from(s.state == state));
        }
        let flag = |f: Option<bool>| f64::from(u8::from(f == Some(true)));
        let bytes = |blocks: u64| blocks as f64 * BLOCK as f64;
        let (seen, decision) = (steered.observation.as_ref(), steered.decision.as_ref());
        let values: [f64; GAUGES.len()] = [
            v.size_bytes as f64,
            bytes(s.cache_blocks),
            v.dirty_bytes as f64,
            s.segments as f64,
            s.free_segments.unwrap_or(0) as f64,
            flag(s.full),
            s.lost_blocks.unwrap_or(0) as f64,
            s.backing_silent_s.unwrap_or(0) as f64,
            s.cache_silent_s.unwrap_or(0) as f64,
            flag(s.steering_expired),
            seen.map_or(0.0, |o| o.utilisation),
            seen.map_or(0.0, |o| o.queue_length),
            decision.map_or(0.0, |d| f64::from(d.writeback_threshold) / 100.0),
            decision.map_or(0.0, |d| f64::from(d.writeback_rate_limit) * 1024.0),
        ];
        for (family, value) in self.gauges.iter().zip(values) {
            family.get_or_create(&OfVolume { volume: volume() }).set(value);
        }
        let counts: [u64; COUNTERS.len()] = [
            s.flushes.unwrap_or(0),
            s.written_back_blocks.unwrap_or(0) * BLOCK as u64,
            s.read_again.unwrap_or(0),
        ];
        for (family, count) in self.counters.iter().zip(counts) {
            family.get_or_create(&OfVolume { volume: volume() }).inc_by(count);
        }
        let c = &s.counters;
        for (operation, hits, all) in
            [("read", c.read_hits(), c.reads()), ("write", c.write_hits(), c.writes())]
        {
            for (result, count) in [("hit", hits), ("miss", all - hits)] {
                let label = Request { volume: volume(), operation, result };
                self.requests.get_or_create(&label).inc_by(count);
            }
        }
        for (device, operation, count) in [
            ("cache", "read", s.read_errors),
            ("cache", "write", s.cache_write_errors),
            ("backing", "read", s.backing_read_errors),
            ("backing", "write", s.writeback_errors),
        ] {
            let label = Failure { volume: volume(), device, operation };
            self.failures.get_or_create(&label).inc_by(count.unwrap_or(0));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(format: Format) -> String {
        let page = Page::of([(&"v".to_owned(), &Steered::example())].into_iter());
        String::from_utf8(page.text(format).to_vec()).unwrap()
    }

    #[test]
    fn an_empty_page_is_one() {
        let page = Page::of([].into_iter());
        for (format, end) in [(Format::Text, " 1\n"), (Format::OpenMetrics, " 1\n# EOF\n")] {
            let text = String::from_utf8(page.text(format).to_vec()).unwrap();
            assert!(text.contains("\nwriteboost_build_info{version=") && text.ends_with(end), "{text}");
            assert_eq!(text.lines().filter(|l| l.starts_with("# TYPE ")).count(), 1, "{text}");
        }
    }

    #[test]
    fn a_volume() {
        for format in Format::ALL {
            let page = text(format);
            for line in [
                "# TYPE writeboost_dirty_bytes gauge",
                "writeboost_dirty_bytes{volume=\"v\"} 1048576.0",
                "writeboost_written_back_bytes_total{volume=\"v\"} 8192",
                "writeboost_state{volume=\"v\",state=\"degraded\"} 1",
                "writeboost_state{volume=\"v\",state=\"ok\"} 0",
                "writeboost_requests_total{volume=\"v\",operation=\"write\",result=\"hit\"} 4",
                "writeboost_device_errors_total{volume=\"v\",device=\"backing\",operation=\"write\"} 3",
                "writeboost_backing_utilization_ratio{volume=\"v\"} 0.0",
            ] {
                assert!(page.lines().any(|l| l == line), "{line} is not in {page}");
            }
        }
    }

    /// The rules of each specification for names, types, units and the end.
    #[test]
    fn as_the_formats_are_specified() {
        let described = |page: &str, what: &str| -> Vec<(String, String)> {
            let lines = page.lines().filter_map(|l| l.strip_prefix(&format!("# {what} ")));
            lines.map(|l| l.split_once(' ').unwrap()).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
        };
        let open = text(Format::OpenMetrics);
        assert!(open.ends_with("\n# EOF\n") && open.matches("# EOF").count() == 1, "{open}");
        assert!(!open.contains("\n\n"), "{open}");
        let units = described(&open, "UNIT");
        assert!(units.contains(&("writeboost_written_back_bytes".into(), "bytes".into())), "{open}");
        for (name, unit) in units {
            assert!(name.ends_with(&format!("_{unit}")), "the unit {unit} is no suffix of {name}");
        }
        let plain = text(Format::Text);
        assert!(!plain.contains("# UNIT") && !plain.contains("# EOF"), "{plain}");
        // In OpenMetrics `_total` belongs to the sample, in the older format to the name.
        let types = described(&open, "TYPE");
        assert!(types.len() > 15 && types.len() == described(&plain, "TYPE").len());
        for (page, is_open) in [(&open, true), (&plain, false)] {
            let types = described(page, "TYPE");
            assert_eq!(types.len(), described(page, "HELP").len(), "{page}");
            for sample in page.lines().filter(|l| !l.starts_with('#')) {
                let name = sample.split(['{', ' ']).next().unwrap();
                let family = if is_open { name.strip_suffix("_total").unwrap_or(name) } else { name };
                let kind = types.iter().find(|(n, _)| n == family).map(|(_, kind)| kind.as_str());
                let expected = if name.ends_with("_total") { "counter" } else { "gauge" };
                assert_eq!(kind, Some(expected), "{sample}");
            }
        }
    }

    #[test]
    fn a_name_that_is_no_word() {
        let name = "a\"b\\c\nd".to_owned();
        let page = Page::of([(&name, &Steered::example())].into_iter());
        for format in Format::ALL {
            let text = String::from_utf8(page.text(format).to_vec()).unwrap();
            assert!(text.contains("\nwriteboost_dirty_bytes{volume=\"a\\\"b\\\\c\\nd\"} "), "{text}");
        }
    }
}
