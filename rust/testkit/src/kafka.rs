//! Apache Kafka as a child process: one node, KRaft, plaintext.
//!
//! A test may end in any way: it passes, panics, is interrupted, is killed. So each broker has a [`Guard`], a small process that
//! sees the end of this one by the end of its own input, and then kills the broker and removes its folder. That serves the
//! shared broker too, which nobody ever drops.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, OnceLock, mpsc};
use std::time::{Duration, Instant};

use crate::{free_port, loopback, unique};

/// What a broker says when it takes requests.
const STARTED: &str = "Kafka Server started";
const START_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(20);
/// Between choosing a port and listening on it somebody else may take it; then others are chosen, so many times in all.
const PORT_CHOICES: u32 = 5;
/// How the JVM says that it was so.
const PORT_TAKEN: &str = "Address already in use";

/// What a broker is started with.
#[derive(Debug, Clone, Default)]
pub struct Options {
    properties: Vec<(String, String)>,
    advertised: Option<u16>,
}

impl Options {
    /// The defaults: one partition a new topic, topics are created automatically.
    pub fn new() -> Self {
        Self::default()
    }

    /// A broker property, in the words of `server.properties`.
    #[must_use]
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }

    /// The port the broker tells clients to come to: that of a proxy, say.
    #[must_use]
    pub fn advertise(mut self, port: u16) -> Self {
        self.advertised = Some(port);
        self
    }
}

/// A running (or stopped) broker. Dropping it kills it and removes its data.
#[derive(Debug)]
pub struct RealKafka {
    dir: PathBuf,
    port: u16,
    child: Option<Child>,
    guard: Guard,
}

impl RealKafka {
    /// A broker of the caller's own; returns when it answers connections, and panics with the end of its log when it does not
    /// within 60 s.
    pub fn start(options: &Options) -> Self {
        for _ in 1..PORT_CHOICES {
            match Self::try_start(options) {
                Err(log) if log.contains(PORT_TAKEN) => {}
                Err(log) => panic!("{log}"),
                Ok(kafka) => return kafka,
            }
        }
        Self::try_start(options).unwrap_or_else(|log| panic!("{log}"))
    }

    fn try_start(options: &Options) -> Result<Self, String> {
        let dir = std::env::temp_dir().join(unique("kafka-fast-testkit"));
        fs::create_dir_all(&dir).expect("the temporary folder can be written");
        let (port, controller) = (free_port(), free_port());
        let guard = Guard::start(&dir);
        let mut kafka = Self { dir, port, child: None, guard };
        let advertised = options.advertised.unwrap_or(port);
        let data = kafka.dir.join("data");
        let mut text = format!(
            "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:{controller}\n\
             listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{advertised}\ncontroller.listener.names=CONTROLLER\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\nlog.dirs={}\n\
             offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\ngroup.initial.rebalance.delay.ms=0\n",
            data.display()
        );
        for (name, value) in &options.properties {
            text += &format!("{name}={value}\n");
        }
        fs::write(kafka.properties(), text).expect("the temporary folder can be written");
        let format = kafka
            .java("kafka.tools.StorageTool", "format.log")
            .args(["format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c"])
            .arg(kafka.properties())
            .status();
        if !format.is_ok_and(|s| s.success()) {
            return Err(format!("the storage could not be formatted:\n{}", kafka.tail("format.log")));
        }
        kafka.try_start_again()?;
        Ok(kafka)
    }

    /// The broker that `./dev test` started for everybody (`KAFKA_FAST_BROKER`), else one for this test process, which ends
    /// with it: `host:port`.
    pub fn shared() -> &'static str {
        static SHARED: OnceLock<(Option<RealKafka>, String)> = OnceLock::new();
        let (_, address) = SHARED.get_or_init(|| match std::env::var("KAFKA_FAST_BROKER") {
            Ok(address) if !address.is_empty() => (None, address),
            _ => {
                let kafka = Self::start(&Options::new());
                let address = kafka.address();
                (Some(kafka), address)
            }
        });
        address
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        loopback(self.port).to_string()
    }

    /// The port it listens on, also after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops it as an operator would (SIGTERM): it writes what it holds and leaves.
    pub fn stop(&mut self) {
        let Some(mut child) = self.child.take() else { return };
        self.guard.watch(None);
        let asked = Command::new("kill").arg(child.id().to_string()).status();
        let until = Instant::now() + STOP_WITHIN;
        while asked.as_ref().is_ok_and(std::process::ExitStatus::success) && Instant::now() < until {
            if !matches!(child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        self.child = Some(child);
        self.kill();
    }

    /// Stops it as a power cut would (SIGKILL).
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            self.guard.watch(None);
            // Both only fail when it has already ended.
            drop(child.kill());
            drop(child.wait());
        }
    }

    /// Starts it again with the data and the port it had; returns when it answers connections.
    pub fn start_again(&mut self) {
        self.try_start_again().unwrap_or_else(|log| panic!("{log}"));
    }

    fn try_start_again(&mut self) -> Result<(), String> {
        assert!(self.child.is_none(), "the broker is running");
        let mut command = self.java("kafka.Kafka", "broker.log");
        command.arg(self.properties());
        let child = self.child.insert(spawn(command).expect("java can be started"));
        self.guard.watch(Some(child.id()));
        let until = Instant::now() + START_WITHIN;
        // Its own word, not only the port: somebody else may have taken that meanwhile.
        while !self.log("broker.log").contains(STARTED)
            || TcpStream::connect_timeout(&loopback(self.port), Duration::from_secs(1)).is_err()
        {
            let ended = self.child.as_mut().is_some_and(|child| !matches!(child.try_wait(), Ok(None)));
            if ended || Instant::now() > until {
                return Err(format!("the broker did not start:\n{}", self.tail("broker.log")));
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }

    fn properties(&self) -> PathBuf {
        self.dir.join("server.properties")
    }

    /// `java CLASS`, its output in a file; it dies with this process even when that is killed.
    fn java(&self, class: &str, log: &str) -> Command {
        let java = std::env::var("KAFKA_FAST_JAVA").unwrap_or_else(|_| "java".to_owned());
        let has_setpriv = Path::new("/usr/bin/setpriv").exists();
        let mut command = if has_setpriv {
            let mut guard = Command::new("/usr/bin/setpriv");
            guard.args(["--pdeathsig", "TERM"]).arg(java);
            guard
        } else {
            Command::new(java)
        };
        let out = File::create(self.dir.join(log)).expect("the temporary folder can be written");
        let err = out.try_clone().expect("a file can be opened twice");
        command
            .args(["-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"])
            .args(["-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info", "-cp"])
            .arg(format!("{}/*", jars().display()))
            .arg(class)
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err);
        command
    }

    fn log(&self, name: &str) -> String {
        let mut text = Vec::new();
        if let Ok(mut file) = File::open(self.dir.join(name)) {
            // What cannot be read is not shown; the error says the rest.
            drop(file.read_to_end(&mut text));
        }
        String::from_utf8_lossy(&text).into_owned()
    }

    /// The last lines of a log, and before them the first that says a port was taken: a stack trace is longer than the tail.
    fn tail(&self, name: &str) -> String {
        let log = self.log(name);
        let lines: Vec<&str> = log.lines().collect();
        let taken = lines.iter().find(|line| line.contains(PORT_TAKEN)).copied();
        let last = &lines[lines.len().saturating_sub(30)..];
        taken.into_iter().chain(last.iter().copied()).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for RealKafka {
    fn drop(&mut self) {
        self.kill();
        drop(fs::remove_dir_all(&self.dir));
    }
}

/// A shell that reads the broker's process id from its input, an empty line when the broker was stopped. Its input ends when
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
            // A guard that was killed from outside guards nothing; the broker still has its death signal.
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

/// Where `./dev` keeps Kafka's jars.
fn jars() -> PathBuf {
    if let Ok(home) = std::env::var("KAFKA_FAST_KAFKA_HOME") {
        return home.into();
    }
    let cache = std::env::var("XDG_CACHE_HOME").ok().filter(|c| !c.is_empty()).map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var("HOME").ok().map(|home| Path::new(&home).join(".cache")));
    let dir = cache.expect("HOME is set").join("kafka-fast/kafka-4.4.0");
    assert!(
        dir.exists(),
        "Kafka is not in {}: run ./dev test or ./dev broker once, they fetch it",
        dir.display()
    );
    dir
}
