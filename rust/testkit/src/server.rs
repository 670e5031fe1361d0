//! A server as a child process: what Kafka and Redis have alike.
//!
//! A test may end in any way: it passes, panics, is interrupted, is killed. So each server has a [`Guard`], a small process that
//! sees the end of this one by the end of its own input, and then kills the server and removes its folder. That serves the
//! shared servers too, which nobody ever drops.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use crate::{loopback, unique};

const START_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(20);
const PAUSE_WITHIN: Duration = Duration::from_secs(5);
/// Between choosing a port and listening on it somebody else may take it; then others are chosen, so many times in all.
const PORT_CHOICES: u32 = 5;
/// How servers say that it was so: the JVM, and what prints `strerror`.
const PORT_TAKEN: &str = "Address already in use";

/// Starts a server on a port chosen by `start`, again when somebody else took that meanwhile.
///
/// # Panics
/// With what the server said when it does not start for another reason.
pub(crate) fn on_a_free_port<T>(start: impl Fn() -> Result<T, String>) -> T {
    for _ in 1..PORT_CHOICES {
        match start() {
            Err(log) if log.contains(PORT_TAKEN) => {}
            Err(log) => panic!("{log}"),
            Ok(server) => return server,
        }
    }
    start().unwrap_or_else(|log| panic!("{log}"))
}

/// A process, when it runs, and the folder it has. Dropping it kills the process and removes the folder.
#[derive(Debug)]
pub(crate) struct Server {
    /// What errors call it: "the broker".
    name: &'static str,
    dir: PathBuf,
    child: Option<Child>,
    guard: Guard,
}

impl Server {
    /// An empty folder, and nothing that runs.
    pub(crate) fn new(name: &'static str) -> Self {
        let dir = std::env::temp_dir().join(unique("kafka-fast-testkit"));
        fs::create_dir_all(&dir).expect("the temporary folder can be written");
        let guard = Guard::start(&dir);
        Self { name, dir, child: None, guard }
    }

    /// A path in its folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// A program whose output goes to a new file in the folder, and that dies with this process even when that is killed.
    pub(crate) fn command(&self, program: impl AsRef<OsStr>, log: &str) -> Command {
        let setpriv = Path::new("/usr/bin/setpriv");
        let mut command = if setpriv.exists() {
            let mut signalled = Command::new(setpriv);
            signalled.args(["--pdeathsig", "KILL"]).arg(program);
            signalled
        } else {
            Command::new(program)
        };
        let out = File::create(self.path(log)).expect("the temporary folder can be written");
        let err = out.try_clone().expect("a file can be opened twice");
        command.stdin(Stdio::null()).stdout(out).stderr(err);
        command
    }

    /// Starts `command`, made by [`command`](Self::command) with the same `log`; returns when its log says `started` and its
    /// port takes connections.
    ///
    /// # Errors
    /// The end of its log when it ended, or is not there within 60 s.
    pub(crate) fn start(
        &mut self,
        command: Command,
        log: &str,
        started: &str,
        port: u16,
    ) -> Result<(), String> {
        self.launch(command);
        let until = Instant::now() + START_WITHIN;
        // Its own word, not only the port: somebody else may have taken that meanwhile.
        while !self.log(log).contains(started)
            || TcpStream::connect_timeout(&loopback(port), Duration::from_secs(1)).is_err()
        {
            if !self.runs() || Instant::now() > until {
                return Err(format!("{} did not start:\n{}", self.name, self.tail(log)));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Starts `command`, made by [`command`](Self::command), and waits for nothing.
    pub(crate) fn launch(&mut self, command: Command) {
        assert!(self.child.is_none(), "{} is running", self.name);
        let child = self.child.insert(spawn(command).expect("a process can be started"));
        self.guard.watch(Some(child.id()));
    }

    /// Whether it was started and has not ended.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.as_mut().is_some_and(|child| matches!(child.try_wait(), Ok(None)))
    }

    /// SIGTERM, and SIGKILL when it has not ended within 20 s. Nothing to do when it does not run.
    pub(crate) fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        self.guard.watch(None);
        let asked = signal(&child, "TERM");
        // A paused one would not hear it.
        signal(&child, "CONT");
        let until = Instant::now() + STOP_WITHIN;
        while asked && Instant::now() < until {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child = Some(child);
        self.kill();
    }

    /// SIGKILL. Nothing to do when it does not run.
    pub(crate) fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            self.guard.watch(None);
            // Both only fail when it has already ended.
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// SIGSTOP; returns when it stands still.
    pub(crate) fn pause(&self) {
        let child = self.running();
        assert!(signal(child, "STOP"), "{} has ended", self.name);
        let until = Instant::now() + PAUSE_WITHIN;
        // Where there is no /proc it will have stopped soon enough.
        while state(child.id()).is_some_and(|state| state != 'T') {
            assert!(Instant::now() < until, "{} could not be paused", self.name);
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// SIGCONT.
    pub(crate) fn resume(&self) {
        assert!(signal(self.running(), "CONT"), "{} has ended", self.name);
    }

    fn running(&self) -> &Child {
        self.child.as_ref().unwrap_or_else(|| panic!("{} is not running", self.name))
    }

    /// What it has said so far.
    pub(crate) fn log(&self, name: &str) -> String {
        let mut text = Vec::new();
        if let Ok(mut file) = File::open(self.path(name)) {
            // What cannot be read is not shown; the error says the rest.
            drop(file.read_to_end(&mut text));
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The last lines of a log, and before them the first that says a port was taken: a stack trace is longer than the tail.
    pub(crate) fn tail(&self, name: &str) -> String {
        let log = self.log(name);
        let lines: Vec<&str> = log.lines().collect();
        let taken = lines.iter().find(|line| line.contains(PORT_TAKEN)).copied();
        let last = &lines[lines.len().saturating_sub(30)..];
        taken.into_iter().chain(last.iter().copied()).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        drop(fs::remove_dir_all(&self.dir));
    }
}

/// Sends a signal, and whether there was somebody to get it.
fn signal(child: &Child, name: &str) -> bool {
    let sent =
        Command::new("kill").args(["-s", name]).arg(child.id().to_string()).stderr(Stdio::null()).status();
    sent.as_ref().is_ok_and(ExitStatus::success)
}

/// A process's state in the letters of proc(5), where there is a /proc.
fn state(pid: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before it stands in parentheses and may hold anything.
    stat.rsplit_once(") ")?.1.chars().next()
}

/// A shell that reads the server's process id from its input, an empty line when the server was stopped. Its input ends when
/// this process ends, however that happens (the pipe's other end is closed on exec, so no child of ours holds it open).
#[derive(Debug)]
struct Guard {
    shell: Child,
}

impl Guard {
    /// `$1` is the folder. Ctrl-C goes to the whole process group, so the shell must not die of it.
    const SCRIPT: &str = "trap '' INT TERM HUP; pid=; while read -r line; do pid=$line; done; \
        [ -z \"$pid\" ] || { kill -9 \"$pid\" 2>/dev/null; sleep 0.2; }; rm -rf \"$1\"";

    fn start(dir: &Path) -> Self {
        let mut command = Command::new("sh");
        command.args(["-c", Self::SCRIPT, "guard"]).arg(dir);
        command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        Self { shell: command.spawn().expect("sh can be started") }
    }

    /// Which process is to be killed in the end; none when it has ended.
    fn watch(&mut self, pid: Option<u32>) {
        let line = pid.map_or_else(String::new, |pid| pid.to_string());
        if let Some(input) = self.shell.stdin.as_mut() {
            // A guard that was killed from outside guards nothing; the server still has its death signal.
            drop(writeln!(input, "{line}"));
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        drop(self.shell.wait());
    }
}

/// Starts a child from a thread that lives as long as this process: the death signal of a child comes when the *thread* that
/// started it ends, and a test's thread ends with its test.
fn spawn(command: Command) -> io::Result<Child> {
    type Job = (Command, mpsc::Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<Mutex<mpsc::Sender<Job>>> = OnceLock::new();
    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, todo) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, answer) in todo {
                // Nobody waits for the answer any more when the test has panicked meanwhile.
                drop(answer.send(command.spawn()));
            }
        });
        Mutex::new(jobs)
    });
    let (answer, started) = mpsc::channel();
    let gone = || io::Error::other("the spawning thread is gone");
    spawner.lock().map_err(|_| gone())?.send((command, answer)).map_err(|_| gone())?;
    started.recv().map_err(|_| gone())?
}
