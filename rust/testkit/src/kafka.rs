//! Apache Kafka as a child process: one node, KRaft, plaintext.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::server::{Server, on_a_free_port};
use crate::{free_port, loopback};

/// What a broker says when it takes requests.
const STARTED: &str = "Kafka Server started";

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
    server: Server,
    port: u16,
}

impl RealKafka {
    /// A broker of the caller's own; returns when it answers connections, and panics with the end of its log when it does not
    /// within 60 s.
    pub fn start(options: &Options) -> Self {
        on_a_free_port(|| Self::try_start(options))
    }

    fn try_start(options: &Options) -> Result<Self, String> {
        let (port, controller) = (free_port(), free_port());
        let mut kafka = Self { server: Server::new("the broker"), port };
        let advertised = options.advertised.unwrap_or(port);
        let data = kafka.server.path("data");
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
        std::fs::write(kafka.properties(), text).expect("the temporary folder can be written");
        let format = kafka
            .java("kafka.tools.StorageTool", "format.log")
            .args(["format", "-t", "AAAAAAAAAAAAAAAAAAAAAQ", "-c"])
            .arg(kafka.properties())
            .status();
        if !format.is_ok_and(|s| s.success()) {
            return Err(format!("the storage could not be formatted:\n{}", kafka.server.tail("format.log")));
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
        let mut command = self.java("kafka.Kafka", "broker.log");
        command.arg(self.properties());
        self.server.start(command, "broker.log", STARTED, self.port)
    }

    fn properties(&self) -> PathBuf {
        self.server.path("server.properties")
    }

    /// `java CLASS`, its output in a file.
    fn java(&self, class: &str, log: &str) -> Command {
        let mut command = self.server.command(java(), log);
        command
            .args(["-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"])
            .args(["-Dorg.slf4j.simpleLogger.log.kafka.server.KafkaRaftServer=info", "-cp", &class_path()])
            .arg(class);
        command
    }
}

/// `java` that finds Kafka's own classes, its clients among them; what it runs is the caller's to say.
pub fn java_with_kafka() -> Command {
    let mut command = Command::new(java());
    command.args(["-Xmx256m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", &class_path()]);
    command
}

fn java() -> String {
    std::env::var("KAFKA_FAST_JAVA").unwrap_or_else(|_| "java".to_owned())
}

fn class_path() -> String {
    format!("{}/*", jars().display())
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
