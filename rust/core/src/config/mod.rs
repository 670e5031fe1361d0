//! Every setting there is, its default, and how it is set by name.
//!
//! One [`Config`] serves producers, consumers and every language: Java's `KafkaConf` hands its names and values to
//! [`Config::set`], so a name is understood, a value is checked and a mistake is explained here and nowhere else.
//! The names of the documentation (`batch-num-messages`) and the standard ones of kafka-clients
//! (`bootstrap.servers`, `linger.ms`) are both accepted; [`SETTINGS`] is the table.

mod jaas;
mod redis;
mod security;
mod table;

use std::fmt;
use std::time::Duration;

use crate::error::ErrorKind;

pub use redis::RedisConf;
pub(crate) use security::foreign_store;
pub use security::{SaslConf, SaslMechanism, SecurityProtocol, TlsConf};
pub use table::{SETTINGS, Setting};

/// Where a broker listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BrokerAddress {
    /// Host name or address; an IPv6 address stands without brackets.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

impl BrokerAddress {
    /// An address; an empty host means `localhost`, as the documentation writes it.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        let host = host.into();
        Self { host: if host.is_empty() { "localhost".to_owned() } else { host }, port }
    }

    /// Reads `host:port`, `[v6]:port`, `host` or `[v6]` (both port 9092). An IPv6 address without brackets is an error: what of it is
    /// the port cannot be told.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let text = text.trim();
        let bad =
            |expected| ConfigError::BadValue { name: "bootstrap.servers", value: text.to_owned(), expected };
        let plain = || bad("host:port, e.g. localhost:9092");
        let v6 = || bad("host:port with an IPv6 address in brackets; write e.g. [::1]:9092");
        if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c == '/') {
            return Err(plain());
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').filter(|(host, _)| is_v6(host)).ok_or_else(v6)?;
                let port = if rest.is_empty() { None } else { Some(rest.strip_prefix(':').ok_or_else(v6)?) };
                (host, port)
            }
            None => match text.split_once(':') {
                Some((_, port)) if port.contains(':') => return Err(v6()),
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        match port.map_or(Ok(9092), str::parse) {
            Ok(port) if port > 0 => Ok(Self::new(host, port)),
            _ => Err(plain()),
        }
    }
}

/// Whether it is an IPv6 address, with or without the interface it is meant on (`fe80::1%eth0`, RFC 4007).
fn is_v6(host: &str) -> bool {
    let address = host.split_once('%').map_or(host, |(address, _)| address);
    address.parse::<std::net::Ipv6Addr>().is_ok()
}

impl fmt::Display for BrokerAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// How many replicas must have a batch before the broker answers (`acks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Acks {
    /// The broker does not answer; a lost batch is not noticed.
    None,
    /// The partition leader has it.
    Leader,
    /// All in-sync replicas have it.
    All,
}

impl Acks {
    /// The number of the wire: 0, 1 or -1.
    pub const fn wire(self) -> i16 {
        match self {
            Self::None => 0,
            Self::Leader => 1,
            Self::All => -1,
        }
    }
}

/// How batches are compressed (`codec`, `compression.type`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Codec {
    /// As they are.
    None,
    /// gzip.
    Gzip,
    /// snappy, one raw block a batch.
    Snappy,
    /// lz4, one frame a batch.
    Lz4,
    /// zstd, one frame a batch. Needs the cargo feature `zstd`, which is on by default: [`Config::check`] refuses it without,
    /// and [`BatchBuilder::seal`](crate::wire::BatchBuilder::seal) leaves records plain.
    Zstd,
}

impl Codec {
    /// Its name, as settings and other clients have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Snappy => "snappy",
            Self::Lz4 => "lz4",
            Self::Zstd => "zstd",
        }
    }

    /// Whether this build has it.
    pub const fn is_built_in(self) -> bool {
        !matches!(self, Self::Zstd) || cfg!(feature = "zstd")
    }
}

/// A codec and how hard it tries. From a [`Codec`] alone: at the default level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Compression {
    /// The codec.
    pub codec: Codec,
    /// The level, in the numbers of the codec's settings ([`SETTINGS`]). Means nothing to codecs that have one only: none,
    /// snappy and lz4.
    pub level: i32,
}

impl From<Codec> for Compression {
    fn from(codec: Codec) -> Self {
        let level = match codec {
            Codec::None | Codec::Snappy => 0,
            Codec::Gzip => GZIP_LEVEL,
            Codec::Lz4 => LZ4_LEVEL,
            Codec::Zstd => ZSTD_LEVEL,
        };
        Self { codec, level }
    }
}

// The defaults of kafka-clients (KIP-390).
const GZIP_LEVEL: i32 = -1;
const LZ4_LEVEL: i32 = 9;
const ZSTD_LEVEL: i32 = 3;

/// Which records of transactions consumers see (`isolation.level`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Isolation {
    /// All, also those of transactions that are open or were aborted. The default, as in kafka-clients.
    #[default]
    ReadUncommitted,
    /// Those of committed transactions, and those outside of any. Nothing is read beyond the last stable offset, where the
    /// oldest open transaction begins; that offset is the high watermark everywhere: for lag, and as the end of a topic.
    ReadCommitted,
}

impl Isolation {
    /// What Fetch and ListOffsets call it.
    pub(crate) const fn wire(self) -> i8 {
        self as i8
    }
}

/// Whether units of one partition may be worked on at the same time (`ordering`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ordering {
    /// They may: order holds inside a unit only.
    None,
    /// One unit of a partition at a time: order holds across the partition.
    Partition,
}

/// All settings of producers and consumers. [`Config::default`] gives the defaults of [`SETTINGS`].
#[derive(Debug, Clone)]
pub struct Config {
    /// The brokers asked first; the others are learned from them.
    pub brokers: Vec<BrokerAddress>,
    /// Sent with every request; brokers use it in logs and quotas.
    pub client_id: String,
    /// Replicas that must have a batch.
    pub acks: Acks,
    /// Compression of produced batches.
    pub codec: Codec,
    /// How hard gzip tries, 1 to 9; -1 is its default, 6.
    pub gzip_level: i32,
    /// kafka-clients' level of lz4, 1 to 17. Without effect: there is only the fast one, which kafka-clients takes at 9.
    pub lz4_level: i32,
    /// How hard zstd tries, -131072 to 22.
    pub zstd_level: i32,
    /// Longest wait for more records before a batch goes. `None`: adaptive, at most 5 ms.
    pub linger: Option<Duration>,
    /// Records after which a batch goes.
    pub batch_num_messages: u32,
    /// Bytes after which a partition's batch goes.
    pub batch_bytes: usize,
    /// A message of this size or more is refused; also bounds a produce request.
    pub batch_byte_limit: usize,
    /// Whether a message over the limit is an error (`true`) or logged and dropped.
    pub fail_over_limit: bool,
    /// Memory for records that are not acknowledged yet.
    pub buffer_memory: usize,
    /// Longest wait of a send for room or metadata.
    pub max_block: Duration,
    /// Longest time a record may stay undelivered; then it fails. `None`: it waits for its brokers as long as it takes.
    pub delivery_timeout: Option<Duration>,
    /// Longest wait for the answer to a request.
    pub request_timeout: Duration,
    /// Longest wait for a TCP connection to a broker.
    pub connect_timeout: Duration,
    /// A connection on which no request went for this long is closed, and the next one goes over a new one. `None`: it may be idle as
    /// long as it likes.
    ///
    /// It is looked at when a connection is wanted next, not while it is idle: a load balancer that drops silent connections
    /// after a longer time never meets a request. Should be longer than `max_wait`, or every fetch that finds nothing costs a
    /// connection.
    pub max_idle: Option<Duration>,
    /// Longest wait for metadata; also bounds `connect`.
    pub metadata_timeout: Duration,
    /// Longest wait for the answer to a fetch.
    pub fetch_timeout: Duration,
    /// How long a broker may gather data for a fetch.
    pub max_wait: Duration,
    /// Bytes a broker gathers before it answers a fetch early.
    pub min_bytes: i32,
    /// Most bytes of one fetch answer.
    pub max_bytes: i32,
    /// Start of a partition without a committed offset: its earliest record, else its end.
    pub use_earliest: bool,
    /// Most records of a work unit.
    pub consume_step: u32,
    /// How often handled offsets are committed.
    pub offset_commit_freq: Duration,
    /// Bytes a consumer may hold fetched and not yet handled.
    pub prefetch_bytes: usize,
    /// Most bytes a batch may decompress to.
    pub decompress_limit: usize,
    /// How long a unit belongs to its consumer without a heartbeat.
    pub lease: Duration,
    /// How often a consumer reports what it has handled.
    pub heartbeat: Duration,
    /// Longest time one record may stay in user code before its unit is given to another reader.
    pub max_processing: Duration,
    /// Deliveries of a unit before it is parked.
    pub max_attempts: u32,
    /// Wait before a unit is delivered again; doubles up to 60 s.
    pub retry_backoff: Duration,
    /// Handling time a unit aims at.
    pub unit_target: Duration,
    /// Bytes a unit aims at.
    pub unit_bytes: usize,
    /// Whether units of one partition run side by side.
    pub ordering: Ordering,
    /// Where this client is, as brokers name it in `broker.rack`; empty: nowhere. Records are then fetched from a replica that is
    /// in sync and near, if the brokers choose one (`replica.selector.class`, KIP-392; Kafka 2.4). One consumer of a group goes on
    /// asking the leaders for what is new.
    pub client_rack: String,
    /// Which records of transactions are read. All members of a group should have the same.
    pub isolation: Isolation,
    /// How brokers are spoken to.
    pub security: SecurityProtocol,
    /// The user, when `security` is one of SASL.
    pub sasl: SaslConf,
    /// Certificates, when `security` is one of TLS.
    pub tls: TlsConf,
    /// Whether `connect` returns without having reached a broker.
    pub lazy_connect: bool,
    /// Names that were accepted and mean nothing here; each is one warning at connect.
    pub ignored: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            brokers: Vec::new(),
            client_id: "kafka-fast".to_owned(),
            acks: Acks::Leader,
            codec: Codec::None,
            gzip_level: GZIP_LEVEL,
            lz4_level: LZ4_LEVEL,
            zstd_level: ZSTD_LEVEL,
            linger: None,
            batch_num_messages: 100_000,
            batch_bytes: 1_000_000,
            batch_byte_limit: 10_485_760,
            fail_over_limit: true,
            buffer_memory: 64 << 20,
            max_block: Duration::from_secs(60),
            delivery_timeout: None,
            request_timeout: Duration::from_secs(30),
            connect_timeout: Duration::from_secs(10),
            // Brokers close connections idle for 10 minutes.
            max_idle: Some(Duration::from_secs(540)),
            metadata_timeout: Duration::from_secs(10),
            fetch_timeout: Duration::from_secs(30),
            max_wait: Duration::from_secs(1),
            min_bytes: 1,
            max_bytes: 104_857_600,
            use_earliest: false,
            consume_step: 100_000,
            offset_commit_freq: Duration::from_secs(5),
            prefetch_bytes: 16 << 20,
            decompress_limit: 256 << 20,
            lease: Duration::from_secs(30),
            heartbeat: Duration::from_secs(3),
            max_processing: Duration::from_secs(300),
            max_attempts: 5,
            retry_backoff: Duration::from_secs(1),
            unit_target: Duration::from_millis(250),
            unit_bytes: 4 << 20,
            ordering: Ordering::None,
            client_rack: String::new(),
            isolation: Isolation::ReadUncommitted,
            security: SecurityProtocol::Plaintext,
            sasl: SaslConf::default(),
            tls: TlsConf::default(),
            lazy_connect: false,
            ignored: Vec::new(),
        }
    }
}

/// A setting that cannot be taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// No setting has this name.
    #[error("Unknown setting \"{name}\"{}", .nearest.map_or(String::new(), |n| format!("; did you mean {n}?")))]
    Unknown {
        /// The name given.
        name: String,
        /// The known name most like it, when one is near.
        nearest: Option<&'static str>,
    },
    /// The value has the wrong form.
    #[error("{name}: \"{value}\" is not {expected}")]
    BadValue {
        /// The setting.
        name: &'static str,
        /// The value given.
        value: String,
        /// What it should have been.
        expected: &'static str,
    },
    /// `acks` has a number no broker knows.
    #[error("acks must be 0, 1 or all, got {0}")]
    BadAcks(String),
    /// The codec is one this build does not have.
    #[error(
        "{name}: {codec} is not in this build of kafka-fast; build it with the cargo feature {codec}, or use none, gzip, \
         snappy or lz4"
    )]
    UnsupportedCodec {
        /// The setting as written.
        name: &'static str,
        /// The codec asked for.
        codec: &'static str,
    },
    /// As [`BadValue`](Self::BadValue), of a setting whose value nobody is to see.
    #[error("{name}: the value is not {expected}")]
    BadSecret {
        /// The setting.
        name: &'static str,
        /// What it should have been.
        expected: &'static str,
    },
    /// A file of certificates or a key that cannot be used.
    #[error("{name}: {reason}")]
    Certificates {
        /// The setting.
        name: &'static str,
        /// What is wrong, and with which file.
        reason: String,
    },
    /// Two settings contradict each other.
    #[error("{0}")]
    Contradiction(String),
}

impl ConfigError {
    /// Always [`ErrorKind::Config`].
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Config
    }
}

impl Config {
    /// The defaults, with `bootstrap` as `host:port[,host:port...]`.
    pub fn with_bootstrap(bootstrap: &str) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        config.set("bootstrap.servers", bootstrap)?;
        Ok(config)
    }

    /// Sets one setting by any of its names. Names of kafka-clients without meaning here are kept in `ignored`.
    pub fn set(&mut self, name: &str, value: &str) -> Result<&mut Self, ConfigError> {
        table::set(self, name, value)?;
        Ok(self)
    }

    /// The value of one setting as text, by any of its names; `None` for a name that is not known.
    pub fn get(&self, name: &str) -> Option<String> {
        table::find(name).map(|setting| (setting.get)(self))
    }

    /// The codec and its level.
    pub fn compression(&self) -> Compression {
        let level = match self.codec {
            Codec::None | Codec::Snappy => Compression::from(self.codec).level,
            Codec::Gzip => self.gzip_level,
            Codec::Lz4 => self.lz4_level,
            Codec::Zstd => self.zstd_level,
        };
        Compression { codec: self.codec, level }
    }

    /// Checks what only shows when all settings are known. `connect` calls it.
    pub fn check(&self) -> Result<(), ConfigError> {
        if !self.codec.is_built_in() {
            return Err(ConfigError::UnsupportedCodec { name: "codec", codec: self.codec.name() });
        }
        if self.security.is_sasl() {
            self.sasl.check(self.security)?;
        }
        if self.security.is_tls() {
            self.tls.check()?;
        }
        let contradiction = |text: &str| Err(ConfigError::Contradiction(text.to_owned()));
        if self.heartbeat * 2 > self.lease {
            return contradiction(
                "heartbeat-ms must be at most half of lease-ms, or a unit expires while it is worked on",
            );
        }
        if self.batch_bytes > self.batch_byte_limit {
            return contradiction("batch.size must not be larger than batch-byte-limit");
        }
        if self.batch_byte_limit > self.buffer_memory {
            return contradiction(
                "batch-byte-limit must not be larger than buffer.memory: such a message could never be sent",
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_stands_in_brackets() {
        for (text, host, port) in [
            ("[::1]:19092", "::1", 19092),
            ("[::1]", "::1", 9092),
            ("[2001:db8::7]:9093", "2001:db8::7", 9093),
            ("[fe80::1%eth0]:9092", "fe80::1%eth0", 9092),
            ("[::ffff:10.0.0.1]:9092", "::ffff:10.0.0.1", 9092),
        ] {
            let read = BrokerAddress::parse(text).unwrap();
            assert_eq!(read, BrokerAddress::new(host, port));
            assert_eq!(BrokerAddress::parse(&read.to_string()).unwrap(), read, "what is shown can be read");
        }
        for text in [
            "::1",
            "fe80::1",
            "2001:db8::7:9092",
            "::1:9092",
            "[::1]9092",
            "[::1",
            "[]:9092",
            "[h]:9092",
            "[",
        ] {
            let error = BrokerAddress::parse(text).unwrap_err().to_string();
            let wanted = "host:port with an IPv6 address in brackets; write e.g. [::1]:9092";
            assert_eq!(error, format!("bootstrap.servers: \"{text}\" is not {wanted}"));
        }
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            " ",
            "h:",
            "h:0",
            "h:65536",
            "h:p",
            "[::1]:",
            "[::1]:0",
            "[::1]:p",
            "a b:1",
            "PLAINTEXT://h:9092",
        ] {
            let error = BrokerAddress::parse(text).unwrap_err().to_string();
            let wanted = "host:port, e.g. localhost:9092";
            assert_eq!(error, format!("bootstrap.servers: \"{}\" is not {wanted}", text.trim()));
        }
        assert_eq!(BrokerAddress::parse(" h ").unwrap(), BrokerAddress::new("h", 9092));
        assert_eq!(BrokerAddress::parse(":5").unwrap(), BrokerAddress::new("localhost", 5));
    }
}
