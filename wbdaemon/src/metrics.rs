// SPDX-License-Identifier: GPL-2.0-only

//! What Prometheus can scrape: `/metrics` in the OpenMetrics text format, on a loopback address or a socket.
//!
//! Names follow Prometheus' conventions: base units, `_total` for what only grows, one label for each thing that differs.

use crate::{
    config::Listen,
    volumes::{Steered, Steering},
};
use log::{info, warn};
use prometheus_client::{
    encoding::{text::encode, EncodeLabelSet},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Metric, Registry, Unit},
};
use std::{
    fs, io,
    net::TcpListener,
    os::unix::{fs::FileTypeExt, net::UnixListener},
    path::Path,
    sync::{atomic::AtomicU64, Arc, Mutex, PoisonError},
    thread::{self, JoinHandle},
};
use tiny_http::{Header, Method, Response, Server};
use wbctl::status::State;
use writeboost::engine::format::BLOCK;

/// What the answer is.
const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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

/// The page for what is known of volumes now.
pub fn page<'a>(volumes: impl Iterator<Item = (&'a String, &'a Steered)>) -> String {
    let mut page = Page::new();
    for (name, steered) in volumes {
        page.add(name, steered);
    }
    page.encode()
}

/// The families, as they are filled.
struct Page {
    registry: Registry,
    info: Family<About, Gauge>,
    state: Family<InState, Gauge>,
    gauges: Vec<Family<OfVolume, Value>>,
    counters: Vec<Family<OfVolume, Counter>>,
    requests: Family<Request, Counter>,
    failures: Family<Failure, Counter>,
}

/// What [`Page::add`] fills the families of gauges with, in this order.
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

/// Registers families with these names, explanations and units, and answers with them.
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
        Self { registry, info, state, gauges, counters, requests, failures }
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

    fn encode(&self) -> String {
        let mut text = String::new();
        // A string takes everything.
        let _ = encode(&mut text, &self.registry);
        text
    }
}

/// The page, for whoever asks next.
pub type Shared = Arc<Mutex<String>>;

/// Serves the page until it is dropped.
pub struct Exporter {
    listen: Listen,
    server: Arc<Server>,
    thread: Option<JoinHandle<()>>,
}

impl Exporter {
    /// Listens.
    ///
    /// # Errors
    /// Why it cannot.
    pub fn new(listen: Listen, page: Shared) -> io::Result<Self> {
        let server = match &listen {
            Listen::Tcp(address) => Server::from_listener(TcpListener::bind(address)?, None),
            Listen::Unix(path) => {
                remove_socket(path)?;
                Server::from_listener(UnixListener::bind(path)?, None)
            }
        };
        let server = Arc::new(server.map_err(io::Error::other)?);
        let thread = thread::Builder::new().name("metrics".to_owned()).spawn({
            let server = server.clone();
            move || serve(&server, &page)
        })?;
        match &listen {
            Listen::Tcp(address) => info!("metrics are at http://{address}/metrics"),
            Listen::Unix(path) => info!("metrics are at /metrics of the socket {}", path.display()),
        }
        Ok(Self { listen, server, thread: Some(thread) })
    }

    /// Where it listens.
    pub fn listen(&self) -> &Listen {
        &self.listen
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        self.server.unblock();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
        if let Listen::Unix(path) = &self.listen {
            let _ = remove_socket(path);
        }
    }
}

/// Removes a socket that is left over; nothing else.
fn remove_socket(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.file_type().is_socket() => fs::remove_file(path),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::AlreadyExists,
            format!("{} is there and is no socket", path.display()),
        )),
        Err(_) => Ok(()),
    }
}

fn serve(server: &Server, page: &Shared) {
    for request in server.incoming_requests() {
        let path = request.url().split('?').next().unwrap_or_default();
        let (status, text) = match (request.method(), path) {
            (Method::Get | Method::Head, "/metrics") => {
                (200, page.lock().unwrap_or_else(PoisonError::into_inner).clone())
            }
            (Method::Get | Method::Head, _) => (404, "There is only /metrics.\n".to_owned()),
            _ => (405, "Only GET and HEAD.\n".to_owned()),
        };
        let content_type = if status == 200 { CONTENT_TYPE } else { "text/plain; charset=utf-8" };
        let mut response = Response::from_string(text).with_status_code(status);
        if let Ok(header) = Header::from_bytes("Content-Type", content_type) {
            response = response.with_header(header);
        }
        if let Err(e) = request.respond(response) {
            warn!("cannot answer who asks for metrics: {e}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    #[test]
    fn an_empty_page_is_one() {
        let page = page([].into_iter());
        assert!(page.contains("writeboost_build_info{version="), "{page}");
        assert!(page.ends_with("# EOF\n"), "{page}");
    }

    #[test]
    fn a_volume() {
        let page = page([(&"v".to_owned(), &Steered::example())].into_iter());
        for line in [
            "# TYPE writeboost_dirty_bytes gauge",
            "# UNIT writeboost_written_back_bytes bytes",
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

    #[test]
    fn over_a_socket() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("s");
        // What a killed one has left behind.
        drop(UnixListener::bind(&path).unwrap());
        let shared = Shared::default();
        *shared.lock().unwrap() = "the page\n".to_owned();
        let exporter = Exporter::new(Listen::Unix(path.clone()), shared).unwrap();
        let ask = |what: &str| {
            let mut stream = UnixStream::connect(&path).unwrap();
            write!(stream, "{what} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            answer
        };
        let answer = ask("GET /metrics");
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("the page\n"), "{answer}");
        assert!(answer.contains("Content-Type: application/openmetrics-text"), "{answer}");
        assert!(ask("GET /x").starts_with("HTTP/1.1 404 "));
        assert!(ask("POST /metrics").starts_with("HTTP/1.1 405 "));
        drop(exporter);
        assert!(!path.exists());
        fs::write(&path, "not a socket").unwrap();
        let error = Exporter::new(Listen::Unix(path.clone()), Shared::default()).err().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::AlreadyExists);
        assert!(path.exists(), "nothing of somebody else's is removed");
    }
}
