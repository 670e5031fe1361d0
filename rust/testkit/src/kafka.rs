//! Apache Kafka as a child process: one node, plaintext and further listeners on demand, of the newest version or of an
//! older one.

mod version;
mod zookeeper;

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
    listeners: Vec<Listener>,
    users: Vec<String>,
    joins: Option<(u16, u32)>,
    cluster_id: String,
}

/// A listener beside the plaintext one.
#[derive(Debug, Clone)]
struct Listener {
    name: String,
    protocol: String,
    advertised: Option<u16>,
    properties: Vec<(String, String)>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            version: Version::under_test(),
            small: false,
            properties: Vec::new(),
            advertised: None,
            listeners: Vec::new(),
            users: Vec::new(),
            joins: None,
            cluster_id: "AAAAAAAAAAAAAAAAAAAAAQ".to_owned(),
        }
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

    /// The cluster's id, 16 bytes in base64 for names. All clusters have the same one else. (With ZooKeeper each has one of its own.)
    #[must_use]
    pub fn cluster_id(mut self, id: &str) -> Self {
        id.clone_into(&mut self.cluster_id);
        self
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

    /// A further listener on a port of its own ([`RealKafka::listener`]): its name, its `security.protocol`, and properties of
    /// it alone (`ssl.client.auth`).
    #[must_use]
    pub fn listener(mut self, name: &str, protocol: &str, properties: &[(String, String)]) -> Self {
        let (name, protocol, properties) = (name.to_owned(), protocol.to_owned(), properties.to_vec());
        self.listeners.push(Listener { name, protocol, advertised: None, properties });
        self
    }

    /// The port clients of the last further listener are told to come to: that of a proxy, say.
    #[must_use]
    pub fn advertise_listener(mut self, port: u16) -> Self {
        self.listeners.last_mut().expect("there is a further listener").advertised = Some(port);
        self
    }

    /// A user the cluster knows from its first moment, with a mechanism of SCRAM (`SCRAM-SHA-256`). Of KRaft, from 3.5 on.
    #[must_use]
    pub fn scram_user(mut self, mechanism: &str, name: &str, password: &str) -> Self {
        self.users.push(format!("{mechanism}=[name={name},password={password}]"));
        self
    }

    /// The second broker of the cluster that `first` has begun. Of KRaft.
    #[must_use]
    pub fn joins(self, first: &RealKafka) -> Self {
        self.joins_as(first, 2)
    }

    /// A further broker of the cluster that `first` has begun, with an id of its own. Of KRaft.
    #[must_use]
    pub fn joins_as(mut self, first: &RealKafka, node: u32) -> Self {
        self.joins = Some((first.controller, node));
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
    /// After the broker, so that it ends after it.
    zookeeper: Option<ZooKeeper>,
    port: u16,
    /// Where the cluster's controller listens.
    controller: u16,
    version: Version,
    small: bool,
    listeners: Vec<(String, u16)>,
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
        let listeners = options.listeners.iter().map(|l| (l.name.clone(), free_port())).collect();
        let server = Server::new("the broker");
        let controller = options.joins.map_or_else(free_port, |(controller, _)| controller);
        let mut kafka = Self { server, zookeeper, port: free_port(), controller, version, small, listeners };
        std::fs::write(kafka.properties(), kafka.settings(options))
            .expect("the temporary folder can be written");
        if kafka.zookeeper.is_none() {
            kafka.format(options)?;
        }
        kafka.try_start_again()?;
        Ok(kafka)
    }

    /// The text of its `server.properties`.
    fn settings(&self, options: &Options) -> String {
        let port = self.port;
        let advertised = options.advertised.unwrap_or(port);
        let (mut listen, mut advertise, mut protocols, mut own) =
            (String::new(), String::new(), String::new(), String::new());
        for (listener, (name, port)) in options.listeners.iter().zip(&self.listeners) {
            listen += &format!(",{name}://127.0.0.1:{port}");
            advertise += &format!(",{name}://127.0.0.1:{}", listener.advertised.unwrap_or(*port));
            protocols += &format!(",{name}:{}", listener.protocol);
            for (property, value) in &listener.properties {
                own += &property_line(&format!("listener.name.{}.{property}", name.to_lowercase()), value);
            }
        }
        let mut text = format!(
            "advertised.listeners=PLAINTEXT://127.0.0.1:{advertised}{advertise}\nlog.dirs={}\n\
             offsets.topic.replication.factor=1\ntransaction.state.log.replication.factor=1\n\
             transaction.state.log.min.isr=1\ngroup.initial.rebalance.delay.ms=0\n",
            self.data().display()
        );
        if let Some(zookeeper) = &self.zookeeper {
            text += &format!(
                "listeners=PLAINTEXT://127.0.0.1:{port}{listen}\n\
                 listener.security.protocol.map=PLAINTEXT:PLAINTEXT{protocols}\n"
            );
            zookeeper.properties(&mut text);
        } else {
            let controller = self.controller;
            text += &match options.joins {
                None => format!(
                    "process.roles=broker,controller\nnode.id=1\n\
                     listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}{listen}\n"
                ),
                Some((_, node)) => {
                    format!(
                        "process.roles=broker\nnode.id={node}\nlisteners=PLAINTEXT://127.0.0.1:{port}{listen}\n"
                    )
                }
            };
            text += &format!(
                "controller.quorum.voters=1@127.0.0.1:{controller}\ncontroller.listener.names=CONTROLLER\n\
                 listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT{protocols}\n"
            );
        }
        for (name, value) in &options.properties {
            text += &property_line(name, value);
        }
        text + &own
    }

    /// Prepares the folder for KRaft, which a broker does not do by itself.
    fn format(&self, options: &Options) -> Result<(), String> {
        let format = self
            .java("kafka.tools.StorageTool", "format.log")
            .args(["format", "-t", &options.cluster_id, "-c"])
            .arg(self.properties())
            .args(options.users.iter().flat_map(|user| ["--add-scram", user.as_str()]))
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

    /// Stops it where it stands (SIGSTOP): its sockets stay open, and nothing is answered. Returns when it does.
    pub fn pause(&self) {
        self.server.pause();
    }

    /// It goes on where it was (SIGCONT).
    pub fn resume(&self) {
        self.server.resume();
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        loopback(self.port).to_string()
    }

    /// The port it listens on, also after a restart.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// `127.0.0.1:port` of a further listener.
    pub fn listener(&self, name: &str) -> String {
        let found = self.listeners.iter().find(|(known, _)| known == name);
        loopback(found.expect("the listener was asked for").1).to_string()
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

/// One property; a value may have several lines, as PEM has.
fn property_line(name: &str, value: &str) -> String {
    format!("{name}={}\n", value.trim_end().replace('\n', "\\n"))
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
