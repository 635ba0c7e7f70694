//! Guests: describing one, booting it, following its output, cutting its power.

use std::fmt;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{bail, Context, Result};
use nix::fcntl::{Flock, FlockArg};
use nix::sched::CpuSet;
use nix::sys::signal::{kill, Signal};
use nix::sys::wait::{waitid, Id, WaitPidFlag};
use nix::unistd::Pid;

use super::root::Root;
use super::{log, Lab};

/// How long a guest may take unless [`Guest::timeout`] says otherwise.
const TIMEOUT: Duration = Duration::from_secs(300);

/// How long a guest that did not end in time may take to say what its tasks are at. User Mode Linux does that
/// at once and goes on; an emulated machine ends with the panic that it was driven into.
const LAST_WORDS_UML: Duration = Duration::from_secs(3);
const LAST_WORDS_QEMU: Duration = Duration::from_secs(60);
/// Lines of a kernel's log in an error message.
const MAX_LAST_WORDS: usize = 400;

/// The status of a guest whose power was cut, as a shell says it of a process.
const KILLED: i32 = 128 + 9;

/// Where a guest's output goes besides the outcome, as it comes.
type Sink = Box<dyn FnMut(&[u8]) + Send>;

/// A guest to be booted; made by [`Lab::guest`].
#[must_use = "a guest does nothing until it is run"]
pub struct Guest<'a> {
    lab: &'a Lab,
    cpus: u32,
    /// MiB.
    memory: u64,
    disks: Vec<PathBuf>,
    share: Option<PathBuf>,
    pin: Option<usize>,
    params: Vec<String>,
    timeout: Duration,
    sink: Option<Sink>,
    log: Option<PathBuf>,
}

impl fmt::Debug for Guest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guest").field("cpus", &self.cpus).field("disks", &self.disks).finish_non_exhaustive()
    }
}

impl<'a> Guest<'a> {
    pub(super) fn new(lab: &'a Lab) -> Self {
        Self {
            lab,
            cpus: 1,
            memory: 2048,
            disks: Vec::new(),
            share: None,
            pin: None,
            params: Vec::new(),
            timeout: TIMEOUT,
            sink: None,
            log: None,
        }
    }

    /// With `cpus` CPUs. A User Mode Linux kernel needs [`super::Flavour::Smp`] or [`super::Flavour::Debug`]
    /// for more than one.
    pub fn cpus(mut self, cpus: u32) -> Self {
        self.cpus = cpus;
        self
    }

    /// With `mib` MiB of memory; what the guest does not touch costs nothing.
    pub fn mem(mut self, mib: u64) -> Self {
        self.memory = mib;
        self
    }

    /// With `file` as a disk, raw. The guest finds its disks as `/dev/lab/disk0`, `/dev/lab/disk1`, ..., in
    /// the order they are added. What the guest wrote is in the file, also after [`Running::kill`].
    pub fn disk(mut self, file: impl Into<PathBuf>) -> Self {
        self.disks.push(file.into());
        self
    }

    /// With the host's directory `dir` at `/mnt/share`, writable. What the guest writes is sure to be on the
    /// host after it ended by itself or called `sync -f /mnt/share`.
    pub fn share(mut self, dir: impl Into<PathBuf>) -> Self {
        self.share = Some(dir.into());
        self
    }

    /// On the host's CPU number `cpu` only.
    ///
    /// A User Mode Linux guest with one CPU is pinned anyway, because that makes it several times faster (its
    /// system calls are switches between threads of the host): to a CPU that no other guest has, if there is
    /// one.
    pub fn pin(mut self, cpu: usize) -> Self {
        self.pin = Some(cpu);
        self
    }

    /// With `params` on the kernel's command line, such as `brd.rd_nr=2 brd.rd_size=1048576`.
    pub fn param(mut self, params: impl Into<String>) -> Self {
        self.params.push(params.into());
        self
    }

    /// With systemd as process 1, and the script as a service of it.
    pub fn systemd(self) -> Self {
        self.param("wb_manager=systemd")
    }

    /// To be killed after `timeout`, which is an error. Five minutes when not said.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Calls `show` with each line of the script's output as it comes, without its newline.
    pub fn on_line(self, mut show: impl FnMut(&str) + Send + 'static) -> Self {
        let mut rest = Vec::new();
        self.on_output(move |bytes| {
            rest.extend_from_slice(bytes);
            while let Some(end) = rest.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = rest.drain(..=end).collect();
                show(String::from_utf8_lossy(&line).trim_end_matches(['\n', '\r']));
            }
        })
    }

    /// Calls `take` with the script's output, byte for byte, as it comes.
    pub fn on_output(mut self, take: impl FnMut(&[u8]) + Send + 'static) -> Self {
        self.sink = Some(Box::new(take));
        self
    }

    /// Writes the kernel's log to `file` as it comes.
    pub fn log_to(mut self, file: impl Into<PathBuf>) -> Self {
        self.log = Some(file.into());
        self
    }

    /// Boots the guest, runs the bash script `script` in it as root, and waits for its end.
    pub fn run(self, script: &str) -> Result<Outcome> {
        self.spawn(script)?.wait()
    }

    /// Boots the guest with the bash script `script` and does not wait.
    pub fn spawn(mut self, script: &str) -> Result<Running> {
        let mut job = Job::new(script, &self, Mode::Merged)?;
        let sink = self.sink.take();
        let (out, writer) = pipe()?;
        let mut command = self.command(&mut job)?;
        command.stdin(Stdio::null()).stdout(writer);
        self.start(job, command, vec![(out, sink)])
    }

    /// Boots the guest with the script's stdout and stderr going to ours, apart from each other, and waits.
    pub fn pass_through(self, script: &str) -> Result<Outcome> {
        let mut job = Job::new(script, &self, Mode::Split)?;
        let ((out, out_writer), (err, err_writer)) = (pipe()?, pipe()?);
        let mut command = self.command(&mut job)?;
        // A child has three descriptors by safe means: with nothing to type, the first one is free for
        // output.
        command.stdin(err_writer).stdout(out_writer);
        let to_stdout: Sink = Box::new(|bytes| {
            let mut stdout = std::io::stdout();
            let _ = stdout.write_all(bytes).and_then(|()| stdout.flush());
        });
        let to_stderr: Sink = Box::new(|bytes| {
            let _ = std::io::stderr().write_all(bytes);
        });
        self.start(job, command, vec![(out, Some(to_stdout)), (err, Some(to_stderr))])?.wait()
    }

    /// Boots the guest with the script on our terminal, and waits.
    pub fn interactive(self, script: &str) -> Result<Outcome> {
        let mut job = Job::new(script, &self, Mode::Interactive)?;
        let mut command = self.command(&mut job)?;
        command.stdin(Stdio::inherit()).stdout(Stdio::inherit());
        // The guest's terminal is raw while it runs, and a guest that is killed leaves it so.
        let saved = nix::sys::termios::tcgetattr(std::io::stdin()).ok();
        let outcome = self.start(job, command, Vec::new()).and_then(Running::wait);
        if let Some(saved) = saved {
            let _ =
                nix::sys::termios::tcsetattr(std::io::stdin(), nix::sys::termios::SetArg::TCSADRAIN, &saved);
        }
        outcome
    }

    /// The process that is the guest, without its standard descriptors.
    ///
    /// Both kinds keep to one rule: descriptor 1 takes the script's output, 2 the kernel's log, and 0 is the
    /// keyboard or, when the script's streams are split, takes its stderr.
    fn command(&self, job: &mut Job) -> Result<Command> {
        // However this process ends, no guest may stay behind.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL"]);
        if self.pin.is_none() && self.lab.is_uml() && self.cpus == 1 {
            job.cpu = Some(claim_cpu(&self.lab.root)?);
        }
        if let Some(cpu) = self.pin.or(job.cpu.as_ref().map(|(cpu, _)| *cpu)) {
            command.args(["taskset", "-c", &cpu.to_string()]);
        }
        let disks = self.disks.iter().map(|disk| absolute(disk)).collect::<Result<Vec<_>>>()?;
        let common = format!(
            "init={layer}/init wb_layer={layer} console=ttyS0 ignore_loglevel printk.devkmsg=on panic=-1 \
             net.ifnames=0",
            layer = self.lab.layer
        );
        match &self.lab.kernel.initramfs {
            None => self.uml(&mut command, job, &disks, &common),
            Some(initramfs) => self.qemu(&mut command, job, &disks, &common, initramfs),
        }
        Ok(command)
    }

    fn uml(&self, command: &mut Command, job: &Job, disks: &[String], common: &str) {
        let root = &self.lab.root;
        command.arg(root.on_host(&self.lab.kernel.image));
        command.arg(format!("mem={}M", self.memory)).arg(format!("uml_dir={}/", job.path().display()));
        command.args([
            "rootfstype=hostfs",
            &format!("rootflags={}", root.dir().display()),
            "ro",
            "seccomp=auto",
        ]);
        if self.cpus > 1 {
            command.arg(format!("ncpus={}", self.cpus));
        }
        // Keep the kernel's own lines, ssl0, apart from the script's, con0 and con1. The pipes take no
        // input; but the null channel as input cannot be polled, about which the kernel complains in a way
        // that lockdep dislikes.
        let (con0, con1) = match job.mode {
            Mode::Interactive => ("con0=fd:0,fd:1", "con1=null"),
            Mode::Merged => ("con0=fd:1", "con1=null"),
            Mode::Split => ("con0=fd:1", "con1=fd:0"),
        };
        command.args(["con=null", con0, con1, "ssl=null", "ssl0=fd:2"]);
        command.args([
            "wb_host=hostfs",
            "wb_out=tty0",
            "wb_err=tty1",
            &format!("wb_job={}", job.path().display()),
            &format!("wb_root={}", root.dir().display()),
        ]);
        command.args(disks.iter().enumerate().map(|(n, disk)| format!("ubd{n}={disk}")));
        command.args(common.split_whitespace());
        command.args(self.params.iter().flat_map(|params| params.split_whitespace()));
    }

    fn qemu(&self, command: &mut Command, job: &Job, disks: &[String], common: &str, initramfs: &str) {
        let root = &self.lab.root;
        command.arg("qemu-system-x86_64");
        command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
        command.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", &self.cpus.to_string()]);
        command.args(["-m", &format!("{}M", self.memory)]);
        command.arg("-kernel").arg(root.on_host(&self.lab.kernel.image));
        command.arg("-initrd").arg(root.on_host(initramfs));
        let params = self.params.join(" ");
        // The processor's clock is the host's. While the machine is busy a kernel that compares it with
        // another one may take it for unstable, and then changes code that the other processors are running:
        // some emulators die of that.
        let clock = "tsc=reliable";
        // See `Running::last_words`.
        let on_nmi = "unknown_nmi_panic panic_print=0xc0";
        command.args([
            "-append",
            &format!("{common} {clock} {on_nmi} wb_host=9p wb_out=hvc0 wb_err=hvc1 {params}"),
        ]);
        command.args(["-monitor", &format!("unix:{}/monitor,server=on,wait=off", job.path().display())]);
        command.args(["-chardev", "file,id=log,path=/proc/self/fd/2", "-serial", "chardev:log"]);
        let out = match job.mode {
            Mode::Interactive => "stdio,id=out,signal=off",
            _ => "file,id=out,path=/proc/self/fd/1",
        };
        command.args(["-device", "virtio-serial-pci", "-chardev", out, "-device", "virtconsole,chardev=out"]);
        if job.mode == Mode::Split {
            command.args([
                "-chardev",
                "file,id=err,path=/proc/self/fd/0",
                "-device",
                "virtconsole,chardev=err",
            ]);
        }
        let mut share = |tag: &str, dir: &Path, extra: &str| {
            let dir = comma_safe(&dir.display().to_string());
            command.args([
                "-fsdev",
                &format!("local,id={tag},path={dir},security_model=none,multidevs=remap{extra}"),
            ]);
            command.args(["-device", &format!("virtio-9p-pci,fsdev={tag},mount_tag={tag}")]);
        };
        share("root", root.dir(), ",readonly=on");
        share("layer", &root.on_host(&self.lab.layer).join("fs"), ",readonly=on");
        share("job", &job.path().join("job"), "");
        if self.share.is_some() {
            share("share", &job.path().join("share"), "");
        }
        for (n, disk) in disks.iter().enumerate() {
            // The host's page cache stands for a disk whose cache survives a power cut; the guest still sends
            // flushes.
            let drive = format!("file={},if=none,id=disk{n},format=raw,cache=writeback", comma_safe(disk));
            command.args(["-drive", &drive, "-device", &format!("virtio-blk-pci,drive=disk{n}")]);
        }
    }

    fn start(self, job: Job, mut command: Command, outputs: Vec<(File, Option<Sink>)>) -> Result<Running> {
        let (kernel_log, writer) = pipe()?;
        command.stderr(writer);
        let log_sink: Option<Sink> = match &self.log {
            Some(path) => {
                let mut file =
                    File::create(path).with_context(|| format!("cannot create {}", path.display()))?;
                Some(Box::new(move |bytes| {
                    let _ = file.write_all(bytes);
                }))
            }
            None => None,
        };
        let shared = Arc::new(Shared::default());
        let (started, start) = std::sync::mpsc::channel();
        // The parent, for the death signal, is the thread that spawns: one that lives as long as the guest.
        let keeper = thread::spawn({
            let shared = Arc::clone(&shared);
            move || {
                let child = command.spawn();
                // The command holds the writing ends of the pipes.
                drop(command);
                let mut child = match child {
                    Ok(child) => child,
                    Err(error) => {
                        let _ = started.send(Err(error));
                        return;
                    }
                };
                let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
                let _ = started.send(Ok(pid));
                // Waits without reaping, so that the id cannot be another process's while someone may still
                // use it.
                while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT)
                    == Err(nix::errno::Errno::EINTR)
                {}
                let mut state = shared.state();
                state.exit = child.wait().ok();
                state.ended = true;
                shared.changed.notify_all();
            }
        });
        let pid = start.recv().context("the guest's thread is gone")?.context("cannot start the guest")?;
        let mut readers = vec![reader(&shared, kernel_log, log_sink, |state| &mut state.kernel_log)];
        for (file, sink) in outputs {
            readers.push(reader(&shared, file, sink, |state| &mut state.output));
        }
        Ok(Running {
            job,
            shared,
            pid,
            readers,
            keeper: Some(keeper),
            deadline: Instant::now() + self.timeout,
        })
    }
}

/// What the guest finds of its own on the host.
struct Job {
    dir: tempfile::TempDir,
    is_uml: bool,
    mode: Mode,
    /// The CPU that is this guest's own while it runs.
    cpu: Option<(usize, Option<Flock<File>>)>,
}

/// Where the script's output goes.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Mode {
    /// Both streams into one pipe, in order.
    Merged,
    /// Each stream into its own pipe.
    Split,
    /// To the terminal.
    Interactive,
}

impl Job {
    fn new(script: &str, guest: &Guest<'_>, mode: Mode) -> Result<Self> {
        let dir = tempfile::Builder::new().prefix("writeboost-guest-").tempdir()?;
        let job = dir.path().join("job");
        fs::create_dir(&job)?;
        fs::write(job.join("script"), script)?;
        if let Some(share) = &guest.share {
            std::os::unix::fs::symlink(absolute(share)?, dir.path().join("share"))?;
        }
        let letters = 'a'..='z';
        let prefix = if guest.lab.is_uml() { "ubd" } else { "vd" };
        let disks: Vec<String> =
            letters.take(guest.disks.len()).map(|letter| format!("{prefix}{letter}")).collect();
        let yes_no = |yes: bool| if yes { "yes" } else { "no" };
        let (rows, columns) = terminal_size();
        let settings = format!(
            "share={}\nsplit={}\ninteractive={}\ndisks=\"{}\"\nterm={}\nrows={rows}\ncolumns={columns}\n",
            yes_no(guest.share.is_some()),
            yes_no(mode == Mode::Split),
            yes_no(mode == Mode::Interactive),
            disks.join(" "),
            quote(&std::env::var("TERM").unwrap_or_else(|_| "linux".to_owned())),
        );
        fs::write(job.join("settings"), settings)?;
        Ok(Self { dir, is_uml: guest.lab.is_uml(), mode, cpu: None })
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    /// What the script ended with, once it did.
    fn status(&self) -> Option<i32> {
        fs::read_to_string(self.path().join("job/status")).ok()?.trim().parse().ok()
    }
}

/// What a guest's threads and its owner know of it together.
#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    output: Vec<u8>,
    kernel_log: Vec<u8>,
    /// The process has ended; its exit status is only unknown if the system would not tell.
    ended: bool,
    exit: Option<ExitStatus>,
}

impl Shared {
    /// The state is plain data that is whole between any two statements, so a panic elsewhere does not spoil
    /// it.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Reads `file` to its end into the part of the state that `part` names.
fn reader(
    shared: &Arc<Shared>,
    mut file: File,
    mut sink: Option<Sink>,
    part: impl Fn(&mut State) -> &mut Vec<u8> + Send + 'static,
) -> JoinHandle<()> {
    let shared = Arc::clone(shared);
    thread::spawn(move || {
        let mut buffer = vec![0; 1 << 16];
        loop {
            let count = match file.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(_) => break,
            };
            if let Some(sink) = &mut sink {
                sink(&buffer[..count]);
            }
            part(&mut shared.state()).extend_from_slice(&buffer[..count]);
            shared.changed.notify_all();
        }
    })
}

/// The guest's kernel has died before any program ran in it: nothing of ours, the module included, had a part
/// in that. Holds the end of the kernel's log.
#[derive(Debug)]
pub struct NeverBooted(String);

impl fmt::Display for NeverBooted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the guest's kernel died while it booted; its last words:\n{}", self.0)
    }
}

impl std::error::Error for NeverBooted {}

/// A guest that runs. Dropping it cuts its power.
#[must_use = "a guest that is dropped is killed"]
pub struct Running {
    job: Job,
    shared: Arc<Shared>,
    pid: Pid,
    readers: Vec<JoinHandle<()>>,
    keeper: Option<JoinHandle<()>>,
    deadline: Instant,
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running").field("pid", &self.pid).finish_non_exhaustive()
    }
}

impl Running {
    /// The script's output so far.
    pub fn output(&self) -> String {
        String::from_utf8_lossy(&self.shared.state().output).into_owned()
    }

    /// The kernel's log so far.
    pub fn kernel_log(&self) -> String {
        String::from_utf8_lossy(&self.shared.state().kernel_log).into_owned()
    }

    /// Whether the guest has ended, by itself or not.
    pub fn has_ended(&self) -> bool {
        self.shared.state().ended
    }

    /// Waits until the script's output contains `needle`. An error when the guest ends before, or after
    /// `timeout`.
    pub fn wait_for_output(&self, needle: &str, timeout: Duration) -> Result<()> {
        let until = Instant::now() + timeout;
        let mut state = self.shared.state();
        loop {
            let seen = String::from_utf8_lossy(&state.output);
            if seen.contains(needle) {
                return Ok(());
            }
            let left = until.saturating_duration_since(Instant::now());
            if state.ended || left.is_zero() {
                let why = if state.ended { "the guest ended" } else { "time is up" };
                bail!("{why}, and its output has no {needle:?}:\n{seen}\n{}", tail(&state.kernel_log));
            }
            let wait = self.shared.changed.wait_timeout(state, left.min(Duration::from_secs(1)));
            state = wait.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Cuts the guest's power: it is gone when this returns, with whatever it had not written to its disks.
    pub fn kill(mut self) -> Result<Outcome> {
        self.cut()?;
        self.join();
        Ok(self.outcome(self.job.status().unwrap_or(KILLED)))
    }

    /// Waits until the guest turns itself off. An error when it does not in time or dies without ending the
    /// script, as after a panic.
    pub fn wait(mut self) -> Result<Outcome> {
        loop {
            let state = self.shared.state();
            if state.ended {
                break;
            }
            let left = self.deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let known = state.kernel_log.len();
                drop(state);
                self.last_words();
                self.cut()?;
                self.join();
                let state = self.shared.state();
                let (before, after) = state.kernel_log.split_at(known);
                let after = String::from_utf8_lossy(after);
                bail!(
                    "the guest did not end in time; its output:\n{}\nits kernel's log:\n{}\n\
                     what its tasks were at:\n{}",
                    tail(&state.output),
                    tail(before),
                    after.lines().take(MAX_LAST_WORDS).collect::<Vec<_>>().join("\n")
                );
            }
            let wait = self.shared.changed.wait_timeout(state, left);
            drop(wait.unwrap_or_else(PoisonError::into_inner));
        }
        self.join();
        if let Some(status) = self.job.status() {
            return Ok(self.outcome(status));
        }
        let state = self.shared.state();
        if !log::has_booted(&String::from_utf8_lossy(&state.kernel_log)) {
            return Err(NeverBooted(tail(&state.kernel_log)).into());
        }
        let signal =
            state.exit.and_then(|exit| exit.signal()).map_or(String::new(), |n| format!(" (signal {n})"));
        bail!(
            "the guest died before its script ended{signal}; its output:\n{}\nits kernel's last words:\n{}",
            tail(&state.output),
            last_words(&state.kernel_log)
        )
    }

    /// Makes the kernel of a guest that hangs log what its tasks wait for, as far as it still can.
    fn last_words(&self) {
        let asked = if self.job.is_uml { self.ask_uml() } else { self.ask_qemu() };
        if asked.is_err() {
            return;
        }
        let most = if self.job.is_uml { LAST_WORDS_UML } else { LAST_WORDS_QEMU };
        let ended = self.shared.changed.wait_timeout_while(self.shared.state(), most, |state| !state.ended);
        drop(ended.unwrap_or_else(PoisonError::into_inner));
    }

    /// A request of the management console (`arch/um/drivers/mconsole.h`): magic number, version, length,
    /// text.
    fn ask_uml(&self) -> Result<()> {
        let mut request = Vec::new();
        let text = b"sysrq w";
        for word in [0xcafe_babe, 2, text.len() as u32] {
            request.extend_from_slice(&u32::to_ne_bytes(word));
        }
        request.extend_from_slice(text);
        request.resize(12 + 512, 0);
        for entry in fs::read_dir(self.job.path())? {
            let console = entry?.path().join("mconsole");
            if console.exists() {
                // The console answers, and wants to know where to.
                let socket = UnixDatagram::bind(self.job.path().join("answer"))?;
                socket.send_to(&request, console)?;
                return Ok(());
            }
        }
        bail!("the guest has no management console")
    }

    /// A non-maskable interrupt, at which the kernel panics, and logs what all processors and blocked tasks
    /// are at.
    fn ask_qemu(&self) -> Result<()> {
        let mut monitor = UnixStream::connect(self.job.path().join("monitor"))?;
        monitor.write_all(b"nmi\n")?;
        // Until it has been done; the prompt comes before and after.
        monitor.set_read_timeout(Some(Duration::from_secs(5)))?;
        let mut said = Vec::new();
        let mut buffer = [0; 1024];
        while said.windows(6).filter(|part| part == b"(qemu)").count() < 2 {
            match monitor.read(&mut buffer)? {
                0 => break,
                count => said.extend_from_slice(&buffer[..count]),
            }
        }
        Ok(())
    }

    /// Kills the guest's process. Its helpers die with it: User Mode Linux's are threads or ask for a death
    /// signal.
    fn cut(&self) -> Result<()> {
        let mut state = self.shared.state();
        if !state.ended {
            kill(self.pid, Signal::SIGKILL).context("cannot kill the guest")?;
        }
        while !state.ended {
            state = self.shared.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(())
    }

    /// Waits for the last bytes.
    fn join(&mut self) {
        for thread in self.readers.drain(..).chain(self.keeper.take()) {
            let _ = thread.join();
        }
    }

    fn outcome(&self, status: i32) -> Outcome {
        Outcome { status, output: self.output(), kernel_log: self.kernel_log() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.cut();
    }
}

/// How a guest ended.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// The script's exit status; 137 when the guest was killed before the script ended.
    pub status: i32,
    /// What the script wrote to stdout and stderr, in order.
    pub output: String,
    /// Everything the kernel logged.
    pub kernel_log: String,
}

impl Outcome {
    /// The lines of the kernel's log that report trouble: warnings, oopses, hung tasks, lockdep and KASAN
    /// reports, ...
    pub fn kernel_trouble(&self) -> Vec<&str> {
        log::trouble(&self.kernel_log)
    }

    /// An error, with everything one needs to see, unless the script ended with 0 and the kernel has no
    /// trouble.
    pub fn check(self) -> Result<Self> {
        let trouble = self.kernel_trouble();
        if !trouble.is_empty() {
            bail!("the guest's kernel is in trouble:\n{}\nits log:\n{}", trouble.join("\n"), self.kernel_log);
        }
        if self.status != 0 {
            bail!("the guest's script ended with {}; its output:\n{}", self.status, self.output);
        }
        Ok(self)
    }
}

/// A CPU for a guest alone, told to other guests by a lock on a file; one that is shared when there are more
/// guests.
fn claim_cpu(root: &Root) -> Result<(usize, Option<Flock<File>>)> {
    let allowed = nix::sched::sched_getaffinity(Pid::from_raw(0)).context("cannot tell the CPUs")?;
    let cpus: Vec<usize> = (0..CpuSet::count()).filter(|&cpu| allowed.is_set(cpu).unwrap_or(false)).collect();
    for &cpu in &cpus {
        let file = File::create(root.cache().dir().join(format!("cpu-{cpu}.lock")))?;
        if let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            return Ok((cpu, Some(lock)));
        }
    }
    Ok((cpus[std::process::id() as usize % cpus.len()], None))
}

fn pipe() -> Result<(File, OwnedFd)> {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).context("cannot make a pipe")?;
    Ok((File::from(reader), writer))
}

/// A path that both User Mode Linux and QEMU understand on their command lines.
fn absolute(path: &Path) -> Result<String> {
    let path = path.canonicalize().with_context(|| format!("cannot find {}", path.display()))?;
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    if text.contains([',', ':', ' ', '\n']) {
        bail!("{text:?}: the path of a disk or share must not have commas, colons or spaces");
    }
    Ok(text.to_owned())
}

/// QEMU's way to write a comma in an option.
fn comma_safe(text: &str) -> String {
    text.replace(',', ",,")
}

/// `text` as one word of a shell script.
pub fn quote(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// `script` behind assignments of these values, which only Rust knows.
pub fn with(values: &[(&str, &dyn fmt::Display)], script: &str) -> String {
    let assign =
        |(name, value): &(&str, &dyn fmt::Display)| format!("{name}={}\n", quote(&value.to_string()));
    values.iter().map(assign).collect::<String>() + script
}

/// What of a kernel's log says why the kernel died, for an error message: all since the first sign of
/// trouble, or the end.
fn last_words(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().collect();
    let end = lines.len().saturating_sub(40);
    let first = log::trouble(&text).first().and_then(|sign| lines.iter().position(|line| line == sign));
    let from = first.map_or(end, |first| first.saturating_sub(5));
    lines.iter().skip(from).take(MAX_LAST_WORDS).copied().collect::<Vec<_>>().join("\n")
}

/// The end of a stream, for an error message.
fn tail(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}

/// Rows and columns of our terminal.
fn terminal_size() -> (u16, u16) {
    let output = Command::new("stty").arg("size").stdin(Stdio::inherit()).stderr(Stdio::null()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let mut numbers = text.split_whitespace().filter_map(|word| word.parse().ok());
    match (numbers.next(), numbers.next()) {
        (Some(rows), Some(columns)) if rows > 0 && columns > 0 => (rows, columns),
        _ => (24, 80),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quoting_survives_a_shell() {
        for text in ["", "a b", "it's", "$x `y` \"z\" \\", "new\nline"] {
            let output =
                Command::new("sh").args(["-c", &format!("printf %s {}", quote(text))]).output().expect("sh");
            assert_eq!(output.stdout, text.as_bytes());
        }
    }
}
