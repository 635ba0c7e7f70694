//! The program itself, and what clients can do to it. It only looks (`--dry-run`), so it needs no volume and
//! disturbs none.

use std::{
    fs,
    io::{ErrorKind, Read, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

const WBDAEMON: &str = env!("CARGO_BIN_EXE_wbdaemon");

/// A time for things that take a moment, on a machine that is busy otherwise.
const PATIENCE: Duration = Duration::from_secs(30);

/// A running daemon.
struct Daemon {
    dir: tempfile::TempDir,
    child: Child,
}

impl Daemon {
    /// A daemon with at most so many file descriptors.
    fn new(descriptors: u32) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listen = dir.path().join("s");
        let config = dir.path().join("wbdaemon.toml");
        fs::write(&config, format!("[metrics]\nlisten = \"unix:{}\"\n", listen.display())).unwrap();
        let child = Command::new("sh")
            .args(["-c", "ulimit -n $1; exec \"$0\" --dry-run --config \"$2\"", WBDAEMON])
            .arg(descriptors.to_string())
            .arg(&config)
            .stderr(fs::File::create(dir.path().join("log")).unwrap())
            .spawn()
            .unwrap();
        let mut daemon = Self { dir, child };
        let began = Instant::now();
        while UnixStream::connect(&listen).is_err() {
            assert!(daemon.child.try_wait().unwrap().is_none(), "{}", daemon.log());
            assert!(began.elapsed() < PATIENCE, "{}", daemon.log());
            thread::sleep(Duration::from_millis(10));
        }
        daemon
    }

    fn log(&self) -> String {
        fs::read_to_string(self.dir.path().join("log")).unwrap()
    }

    fn listen(&self) -> PathBuf {
        self.dir.path().join("s")
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("wbdaemon.toml")
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.listen()).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends this and returns the answer.
    fn say(&self, what: &str) -> String {
        let mut stream = self.connect();
        // The daemon may close the connection before everything is sent.
        let _ = stream.write_all(what.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        String::from_utf8(answer).unwrap()
    }

    /// The daemon serves, is small, and looks at volumes as before.
    fn is_well(&mut self) {
        let page = self.say("GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("writeboost_build_info"), "{page:?}");
        assert!(self.child.try_wait().unwrap().is_none(), "{}", self.log());
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let of = |key: &str| -> u64 {
            let line = status.lines().find_map(|l| l.strip_prefix(key)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        assert!(of("VmHWM:") < 30_000, "{} KiB", of("VmHWM:"));
        assert!(of("Threads:") <= 3, "{} threads", of("Threads:"));
        // Its steering thread sleeps until the next tick, and does nothing else.
        let ticks = || {
            let line = fs::read_to_string(format!("/proc/{0}/task/{0}/status", self.child.id())).unwrap();
            let count = line.lines().find_map(|l| l.strip_prefix("voluntary_ctxt_switches:")).unwrap();
            count.trim().parse::<u64>().unwrap()
        };
        let (before, began) = (ticks(), Instant::now());
        while ticks() == before {
            assert!(began.elapsed() < PATIENCE, "it does not tick");
            thread::sleep(Duration::from_millis(100));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_body_of_any_length() {
    let mut daemon = Daemon::new(1024);
    for length in [
        "Content-Length: 99999999999",
        "Content-Length: 18446744073709551615",
        "Content-Length: 99999999999999999999999",
        "Transfer-Encoding: chunked",
    ] {
        for method in ["GET", "HEAD", "POST"] {
            let body = "FFFFFFFFFFFFFFF\r\nx";
            let answer =
                daemon.say(&format!("{method} /metrics HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n{body}"));
            assert!(answer.starts_with("HTTP/1.1 "), "{method} {length}: {answer:?}");
        }
    }
    // A body that really comes is not read.
    let mut stream = daemon.connect();
    let head = "POST /metrics HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n";
    assert!(floods(&mut stream, head.as_bytes(), &[b'x'; 65536]) < 64 << 20);
    daemon.is_well();
}

#[test]
fn headers_of_any_length() {
    let mut daemon = Daemon::new(1024);
    for line in ["x".repeat(65536), "X: x\r\n".repeat(10_000), "\r\n".repeat(30_000)] {
        let mut stream = daemon.connect();
        let sent = floods(&mut stream, b"GET /metrics HTTP/1.1\r\n", line.as_bytes());
        assert!(sent < 64 << 20, "{sent} bytes");
    }
    daemon.is_well();
}

/// Sends `first`, then `more` again and again until the other side closes, and returns the number of bytes
/// sent.
fn floods(stream: &mut UnixStream, first: &[u8], more: &[u8]) -> usize {
    let mut sent = 0;
    let mut part = first;
    while sent < 64 << 20 && stream.write_all(part).is_ok() {
        sent += part.len();
        part = more;
    }
    sent
}

/// Opens `count` connections that send `what` and no more. Returns those that the daemon did not close at
/// once.
fn idle(daemon: &Daemon, count: usize, what: &[u8]) -> Vec<UnixStream> {
    let connect = |_| {
        let mut stream = daemon.connect();
        let _ = stream.write_all(what);
        stream
    };
    (0..count).map(connect).collect()
}

#[test]
fn more_idle_ones_than_descriptors() {
    for descriptors in [32, 128] {
        floods_with_idle_ones(&mut Daemon::new(descriptors));
    }
}

/// Not even enough for the few connections that it has places for.
#[test]
fn no_descriptors_left() {
    let daemon = Daemon::new(1024);
    let count = || fs::read_dir(format!("/proc/{}/fd", daemon.child.id())).unwrap().count() as u32;
    // Without the descriptor of the connection that was there a moment ago.
    let moments = (0..50).map(|_| {
        thread::sleep(Duration::from_millis(20));
        count()
    });
    let of_its_own = moments.min().unwrap();
    drop(daemon);
    let mut daemon = Daemon::new(of_its_own + 1);
    floods_with_idle_ones(&mut daemon);
    assert!(daemon.log().contains("cannot take who asks for metrics"), "{}", daemon.log());
}

fn floods_with_idle_ones(daemon: &mut Daemon) {
    for what in ["", "GET /metrics HTTP/1.1\r\n", "POST /metrics HTTP/1.1\r\nContent-Length: 9\r\n\r\n"] {
        let connections = idle(daemon, 200, what.as_bytes());
        daemon.is_well();
        drop(connections);
        daemon.is_well();
    }
}

#[test]
fn a_silent_one_is_closed() {
    let mut daemon = Daemon::new(1024);
    for mut stream in idle(&daemon, 3, b"GET /metrics HTTP/1.1\r\nHost: x\r\n") {
        let end = stream.read(&mut [0; 1]);
        assert!(matches!(end, Ok(0)), "{end:?}");
    }
    daemon.is_well();
}

#[test]
fn one_byte_at_a_time() {
    let mut daemon = Daemon::new(1024);
    let mut slow = idle(&daemon, 40, b"G");
    let mut page = "ET /metrics HTTP/1.1\r\nHost: x\r\nX: ".bytes().chain(std::iter::repeat(b'x'));
    let began = Instant::now();
    // A client that sends a byte from time to time is no better off than a silent one.
    while !slow.is_empty() {
        assert!(began.elapsed() < 2 * PATIENCE, "{} are still there", slow.len());
        let byte = [page.next().unwrap()];
        slow.retain_mut(|stream| stream.write_all(&byte).is_ok());
        daemon.is_well();
        thread::sleep(Duration::from_millis(500));
    }
}

#[test]
fn who_does_not_read() {
    let mut daemon = Daemon::new(1024);
    let request = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
    let mut deaf: Vec<_> = (0..8).map(|_| daemon.connect()).collect();
    for stream in &mut deaf {
        stream.set_nonblocking(true).unwrap();
        // Until no more can be sent, though nothing is read.
        let (mut quiet_since, began) = (Instant::now(), Instant::now());
        while quiet_since.elapsed() < Duration::from_secs(1) && began.elapsed() < PATIENCE {
            match stream.write(&request) {
                Ok(_) => quiet_since = Instant::now(),
                Err(e) if e.kind() == ErrorKind::WouldBlock => thread::sleep(Duration::from_millis(10)),
                // The daemon has closed the connection.
                Err(_) => break,
            }
        }
    }
    daemon.is_well();
}

fn run(args: &[&str]) -> Output {
    // A program that reads without an end would never come back.
    Command::new("timeout").args(["30", WBDAEMON]).args(args).stdin(Stdio::null()).output().unwrap()
}

#[track_caller]
fn refused(code: i32, words: &str, args: &[&str]) {
    let output = run(args);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
    assert!(text.contains(words), "{args:?}: {text}");
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[test]
fn a_second_one_leaves_the_socket_alone() {
    let mut daemon = Daemon::new(1024);
    let config = daemon.config();
    let words = format!("another process (PID {}) listens there", daemon.child.id());
    refused(1, &words, &["--dry-run", "--config", text(&config)]);
    daemon.is_well();
    // Looking once needs no page.
    let once = run(&["--dry-run", "--once", "--config", text(&config)]);
    assert!(!String::from_utf8_lossy(&once.stderr).contains("listens"), "{once:?}");
    daemon.is_well();
    // The socket of a killed daemon is taken.
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
    assert!(daemon.listen().exists());
    daemon.child = Command::new(WBDAEMON).args(["--dry-run", "--config", text(&config)]).spawn().unwrap();
    let began = Instant::now();
    while UnixStream::connect(daemon.listen()).is_err() {
        assert!(began.elapsed() < PATIENCE);
        thread::sleep(Duration::from_millis(10));
    }
    daemon.is_well();
}

#[test]
fn configurations() {
    let dir = tempfile::tempdir().unwrap();
    let config = dir.path().join("c");
    for (listen, words) in [
        ("unix:", ":2: listen is unix: and a path from the root"),
        (
            &format!("unix:/{}", "x".repeat(107)),
            ":2: listen has a path of 108 bytes, and the path of a socket has 107",
        ),
    ] {
        fs::write(&config, format!("[metrics]\nlisten = \"{listen}\"\n")).unwrap();
        refused(2, words, &["--check-config", "--config", text(&config)]);
        refused(2, words, &["--dry-run", "--config", text(&config)]);
    }
    let fifo = dir.path().join("fifo");
    assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    let huge = dir.path().join("huge");
    fs::File::create(&huge).unwrap().set_len(1 << 40).unwrap();
    for (path, words) in [
        (Path::new("/dev/zero"), "it is no regular file"),
        (&fifo, "it is no regular file"),
        (&huge, "it has more than 256 KiB"),
    ] {
        refused(2, words, &["--check-config", "--config", text(path)]);
        refused(2, words, &["--dry-run", "--config", text(path)]);
    }
}
