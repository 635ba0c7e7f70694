//! The program itself: for scripts, and on a terminal with keys typed.

mod fixture;

use portable_pty::{native_pty_system, Child, CommandBuilder, MasterPty, PtySize};
use std::{
    fs::File,
    io::{Read, Write},
    path::Path,
    process::{Command, Output},
    sync::mpsc::{self, Receiver},
    thread,
    time::{Duration, Instant},
};
use wbstat::sample::{begin_recording, record};

fn recording(dir: &Path) -> String {
    let path = dir.join("recording");
    let mut out = File::create(&path).unwrap();
    begin_recording(&mut out).unwrap();
    fixture::samples().iter().for_each(|s| record(&mut out, s).unwrap());
    path.to_str().unwrap().to_owned()
}

fn wbstat(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_wbstat")).args(args).output().unwrap()
}

#[test]
fn for_scripts() {
    let dir = tempfile::tempdir().unwrap();
    let file = recording(dir.path());
    let out = |args: &[&str]| {
        let output = wbstat(&[&["--replay", &file], args].concat());
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let once = out(&["--once"]);
    assert!(once.contains("perflv: ok, ") && once.contains("fault backing_write; errors:"), "{once}");
    let csv = out(&["--csv"]);
    assert_eq!(csv.lines().count(), 1 + 39 * 3);
    assert!(csv.starts_with("time_ms,volume,state,"), "{csv}");
    let json = out(&["--json"]);
    assert_eq!(json.lines().count(), 39);
    for line in json.lines() {
        let sample: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!(sample["volumes"].as_array().unwrap().len(), 3);
    }
    assert_eq!(out(&["--json", "--once"]).lines().count(), 1);
}

#[test]
fn refusals() {
    let dir = tempfile::tempdir().unwrap();
    let file = recording(dir.path());
    let fails = |args: &[&str], code: i32, words: &str| {
        let output = wbstat(args);
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains(words), "{args:?}: {text}");
    };
    fails(&["--replay", &file], 1, "stdout is no terminal");
    fails(&["--replay", "/nonexistent", "--once"], 1, "cannot open /nonexistent");
    fails(&["--replay", "/dev/null", "--once"], 1, "it is empty");
    fails(&["--interval", "0", "--once"], 2, "from 0.1 to 3600");
    let broken = dir.path().join("broken");
    std::fs::write(&broken, "{\"wbstat_recording\":1}\nnonsense\n").unwrap();
    fails(&["--replay", broken.to_str().unwrap(), "--once"], 1, "line 2: ");
}

/// A terminal with the program in it.
struct Terminal {
    master: Box<dyn MasterPty + Send>,
    keys: Box<dyn Write + Send>,
    output: Receiver<Vec<u8>>,
    screen: vt100::Parser,
    child: Box<dyn Child + Send + Sync>,
}

impl Terminal {
    fn new(args: &[&str], columns: u16, rows: u16, term: &str) -> Self {
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_wbstat"));
        command.args(args);
        command.env("TERM", term);
        Self::with(command, columns, rows)
    }

    fn with(mut command: CommandBuilder, columns: u16, rows: u16) -> Self {
        let size = PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 };
        let pair = native_pty_system().openpty(size).unwrap();
        command.env("LC_ALL", "C.UTF-8");
        command.env_remove("NO_COLOR");
        let child = pair.slave.spawn_command(command).unwrap();
        drop(pair.slave);
        let mut reader = pair.master.try_clone_reader().unwrap();
        let (send, output) = mpsc::channel();
        thread::spawn(move || {
            let mut buffer = [0; 65536];
            // Ends with an error when the program has ended.
            while let Ok(n @ 1..) = reader.read(&mut buffer) {
                if send.send(buffer[..n].to_vec()).is_err() {
                    break;
                }
            }
        });
        let keys = pair.master.take_writer().unwrap();
        Self { master: pair.master, keys, output, screen: vt100::Parser::new(rows, columns, 0), child }
    }

    fn take(&mut self, wait: Duration) {
        if let Ok(bytes) = self.output.recv_timeout(wait) {
            self.screen.process(&bytes);
        }
    }

    fn text(&self) -> String {
        self.screen.screen().contents()
    }

    /// Waits until the screen has these words.
    fn shows(&mut self, words: &str) {
        let until = Instant::now() + Duration::from_secs(20);
        while !self.text().contains(words) {
            assert!(Instant::now() < until, "{words:?} is not on the screen:\n{}", self.text());
            self.take(Duration::from_millis(50));
        }
    }

    fn types(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    fn resize(&mut self, columns: u16, rows: u16) {
        let size = PtySize { rows, cols: columns, pixel_width: 0, pixel_height: 0 };
        self.screen.screen_mut().set_size(rows, columns);
        self.master.resize(size).unwrap();
    }

    /// Waits until the program has ended; returns whether it succeeded.
    fn ends(&mut self) -> bool {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            self.take(Duration::from_millis(50));
            if let Some(status) = self.child.try_wait().unwrap() {
                while let Ok(bytes) = self.output.recv_timeout(Duration::from_millis(200)) {
                    self.screen.process(&bytes);
                }
                return status.success();
            }
            assert!(Instant::now() < until, "it does not end:\n{}", self.text());
        }
    }

    /// The terminal is restored: the earlier screen, with a cursor, and lines are edited again.
    fn is_restored(&self) {
        let screen = self.screen.screen();
        assert!(!screen.alternate_screen(), "it is still on the other screen");
        assert!(!screen.hide_cursor(), "the cursor is hidden");
        if let Some(settings) = self.master.get_termios() {
            let flags = format!("{:?}", settings.local_flags);
            assert!(flags.contains("ICANON") && flags.contains("ECHO"), "{flags}");
        }
    }
}

/// A recording, played in a terminal; the file is deleted with the directory.
fn replaying(columns: u16, rows: u16, term: &str) -> (tempfile::TempDir, Terminal) {
    let dir = tempfile::tempdir().unwrap();
    let file = recording(dir.path());
    let t = Terminal::new(&["--replay", &file], columns, rows, term);
    (dir, t)
}

#[test]
fn on_a_terminal() {
    let (_dir, mut t) = replaying(80, 24, "xterm-256color");
    t.shows("REPLAY");
    t.shows("backup");
    assert!(t.screen.screen().alternate_screen());
    t.types("j");
    t.shows("> perflv");
    t.types("\r");
    t.shows("/dev/nvme0n1p3");
    t.types("\r");
    t.shows("NAME");
    t.types("?");
    t.shows("Help: any key");
    t.types("x");
    t.types("s");
    t.shows("> perflv");
    t.types("t");
    t.shows("This is a recording");
    t.types("xp");
    t.shows("PAUSED");
    t.resize(150, 45);
    t.shows("by state");
    t.resize(30, 8);
    t.shows("too small");
    t.resize(80, 24);
    t.shows("perflv");
    t.types("q");
    assert!(t.ends());
    t.is_restored();
}

#[test]
fn in_a_serial_console() {
    let (_dir, mut t) = replaying(80, 24, "vt100");
    t.shows("perflv");
    t.types("j");
    t.shows("> perflv");
    let text = t.text();
    assert!(text.is_ascii(), "{text}");
    let screen = t.screen.screen();
    for row in 0..24 {
        for column in 0..80 {
            let cell = screen.cell(row, column).unwrap();
            assert_eq!((cell.fgcolor(), cell.bgcolor()), Default::default(), "a colour at {row},{column}");
        }
    }
    // As when the line is cut.
    t.types("\x03");
    assert!(t.ends());
    t.is_restored();
}

#[test]
fn told_to_end() {
    for signal in ["TERM", "HUP"] {
        let (_dir, mut t) = replaying(80, 24, "xterm");
        t.shows("perflv");
        let pid = t.child.process_id().unwrap().to_string();
        assert!(Command::new("kill").args(["-s", signal, &pid]).status().unwrap().success());
        assert!(t.ends());
        t.is_restored();
    }
}

#[test]
fn the_terminal_goes_away() {
    let (_dir, mut t) = replaying(80, 24, "xterm");
    t.shows("perflv");
    let Terminal { master, keys, output, mut child, .. } = t;
    drop((master, keys));
    // The reader thread has the last end of it.
    while output.recv_timeout(Duration::from_millis(100)).is_ok() {}
    drop(output);
    let until = Instant::now() + Duration::from_secs(20);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            child.kill().unwrap();
            panic!("it goes on without a terminal");
        }
        thread::sleep(Duration::from_millis(50));
    }
}

/// Not a test by itself: [`in_a_panic`] runs this on a terminal.
#[test]
fn panics() {
    if std::env::var_os("WBSTAT_TEST_PANICS").is_some() {
        let _ = wbstat::cli::on_terminal::<()>(|terminal| {
            terminal.draw(|frame| frame.render_widget("on the other screen", frame.area()))?;
            panic!("as a bug would");
        });
    }
}

#[test]
fn in_a_panic() {
    let mut command = CommandBuilder::new(std::env::current_exe().unwrap());
    command.args(["--exact", "panics", "--nocapture"]);
    command.env("WBSTAT_TEST_PANICS", "1");
    command.env("RUST_BACKTRACE", "0");
    command.env("TERM", "xterm");
    let mut t = Terminal::with(command, 80, 24);
    assert!(!t.ends(), "it did not panic: {}", t.text());
    assert!(t.text().contains("as a bug would"), "{}", t.text());
    t.is_restored();
}
