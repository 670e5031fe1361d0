//! Apache Kafka as a child process: one node, plaintext, of the newest version or of an older one.

mod version;
mod zookeeper;

use std::fmt::Write;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

pub use version::Version;
use zookeeper::{STILL_REGISTERED, ZooKeeper};

use crate::server::{Server, on_a_free_port};
use crate::{free_port, loopback};

const LOG: &str = "broker.log";
/// What a broker says when it takes requests, and one that has a ZooKeeper.
const STARTED: [&str; 2] = ["Kafka Server started", "[KafkaServer id=1] started"];
/// A ZooKeeper forgets a broker that was killed within 8 s; a machine may be slow.
const FORGOTTEN_WITHIN: Duration = Duration::from_secs(60);

/// What a broker is started with.
#[derive(Debug, Clone)]
pub struct Options {
    version: Version,
    small: bool,
    properties: Vec<(String, String)>,
    advertised: Option<u16>,
}

impl Default for Options {
    fn default() -> Self {
        Self { version: Version::under_test(), small: false, properties: Vec::new(), advertised: None }
    }
}

impl Options {
    /// The defaults: the version under test, one partition a new topic, topics are created automatically.
    pub fn new() -> Self {
        Self::default()
    }

    /// Another version than the one under test.
    #[must_use]
    pub fn version(mut self, version: Version) -> Self {
        self.version = version;
        self
    }

    /// One that starts quickly, beside others, and has little to do: 256 MB, and quick code instead of fast code.
    #[must_use]
    pub fn small(mut self) -> Self {
        self.small = true;
        // The cleaner takes its 128 MB at the start.
        self.property("log.cleaner.dedupe.buffer.size", "4194304")
    }

    /// A broker property, in the words of `server.properties`.
    #[must_use]
    pub fn property(mut self, name: &str, value: &str) -> Self {
        self.properties.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Access is checked, by the authorizer that the version has; what has no list of rights is open to everybody.
    #[must_use]
    pub fn authorizer(self) -> Self {
        let class = match self.version {
            Version::V2_4 => "kafka.security.authorizer.AclAuthorizer",
            _ => "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        };
        self.property("authorizer.class.name", class).property("allow.everyone.if.no.acl.found", "true")
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
    server: Server,
    /// After the broker, so that it ends after it.
    zookeeper: Option<ZooKeeper>,
    port: u16,
    version: Version,
    small: bool,
}

impl RealKafka {
    /// A broker of the caller's own; returns when it answers connections, and panics with the end of its log when it does not
    /// within 60 s.
    pub fn start(options: &Options) -> Self {
        on_a_free_port(|| Self::try_start(options))
    }

    fn try_start(options: &Options) -> Result<Self, String> {
        let (version, small) = (options.version, options.small);
        let zookeeper = if version == Version::V2_4 { Some(ZooKeeper::try_start()?) } else { None };
        let mut kafka =
            Self { server: Server::new("the broker"), zookeeper, port: free_port(), version, small };
        std::fs::write(kafka.properties(), kafka.settings(options))
            .expect("the temporary folder can be written");
        if kafka.zookeeper.is_none() {
            kafka.format()?;
        }
        kafka.try_start_again()?;
        Ok(kafka)
    }

    /// The text of its `server.properties`.
    fn settings(&self, options: &Options) -> String {
        let port = self.port;
        let advertised = options.advertised.unwrap_or(port);
        let mut text = format!(
            "advertised.listeners=PLAINTEXT://127.0.0.1:{advertised}\nlog.dirs={}\n\
             offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\ngroup.initial.rebalance.delay.ms=0\n",
            self.data().display()
        );
        if let Some(zookeeper) = &self.zookeeper {
            text += &format!("listeners=PLAINTEXT://127.0.0.1:{port}\n");
            zookeeper.properties(&mut text);
        } else {
            let controller = free_port();
            text += &format!(
                "process.roles=broker,controller\nnode.id=1\n\
                 controller.quorum.voters=1@127.0.0.1:{controller}\ncontroller.listener.names=CONTROLLER\n\
                 listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}\n\
                 listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT\n"
            );
        }
        for (name, value) in &options.properties {
            writeln!(text, "{name}={value}").expect("a String takes all");
        }
        text
    }

    /// Prepares the folder for KRaft, which a broker does not do by itself.
    fn format(&self) -> Result<(), String> {
        let format = self
            .java("kafka.tools.StorageTool", "format.log")
            .args(["format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c"])
            .arg(self.properties())
            .status();
        if !format.is_ok_and(|s| s.success()) {
            return Err(format!("the storage could not be formatted:\n{}", self.server.tail("format.log")));
        }
        Ok(())
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
        self.server.stop();
    }

    /// Stops it as a power cut would (SIGKILL).
    pub fn kill(&mut self) {
        self.server.kill();
    }

    /// Starts it again with the data and the port it had; returns when it answers connections.
    pub fn start_again(&mut self) {
        self.try_start_again().unwrap_or_else(|log| panic!("{log}"));
    }

    fn try_start_again(&mut self) -> Result<(), String> {
        let started = STARTED[usize::from(self.zookeeper.is_some())];
        let until = Instant::now() + FORGOTTEN_WITHIN;
        loop {
            let mut command = self.java("kafka.Kafka", LOG);
            command.arg(self.properties());
            let result = self.server.start(command, LOG, started, self.port);
            if result.is_ok() || Instant::now() > until || !self.server.log(LOG).contains(STILL_REGISTERED) {
                return result;
            }
            // It has ended; this takes note of that.
            self.server.kill();
        }
    }

    /// Its version.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The segment files of a topic, by partition and age: files that the broker goes on writing.
    pub fn segments(&self, topic: &str) -> Vec<PathBuf> {
        let list = |dir: PathBuf| std::fs::read_dir(dir).expect("a broker's folder can be read").flatten();
        let is_of = |dir: &PathBuf| {
            let name = dir.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            name.rsplit_once('-').is_some_and(|(name, _)| name == topic)
        };
        let partitions = list(self.data()).map(|entry| entry.path()).filter(is_of);
        let mut files: Vec<_> = partitions.flat_map(list).map(|entry| entry.path()).collect();
        files.retain(|file| file.extension().is_some_and(|ext| ext == "log"));
        files.sort();
        files
    }

    fn data(&self) -> PathBuf {
        self.server.path("data")
    }

    fn properties(&self) -> PathBuf {
        self.server.path("server.properties")
    }

    /// `java CLASS`, its output in a file.
    fn java(&self, class: &str, log: &str) -> Command {
        let mut command = self.server.command(java(), log);
        let memory: &[&str] = if self.small {
            &["-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        } else {
            &["-Xmx512m"]
        };
        command
            .args(memory)
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .arg("-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info")
            .arg("-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaServer=info")
            .args(["-cp", &self.version.class_path()])
            .arg(class);
        command
    }
}

/// `java` that finds the classes of the newest Kafka, its clients among them; what it runs is the caller's to say.
pub fn java_with_kafka() -> Command {
    java_with(Version::V4_4)
}

/// `java` that finds the classes of a Kafka; what it runs is the caller's to say.
pub fn java_with(version: Version) -> Command {
    let mut command = Command::new(java());
    command.args([
        "-Xmx256m",
        "-Dorg.slf4j.simpleLogger.defaultLogLevel=error",
        "-cp",
        &version.class_path(),
    ]);
    command
}

fn java() -> String {
    std::env::var("KAFKA_FAST_JAVA").unwrap_or_else(|_| "java".to_owned())
}
