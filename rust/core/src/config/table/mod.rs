//! The table of settings: names, what each does, how its text is read and written; one file a group. The defaults are those
//! of [`Config::default`].

mod connection;
mod consumer;
mod forms;
mod group;
mod producer;
mod security;

use super::{Config, ConfigError};

/// One setting: its names, what it is for, and how it is read and written.
#[derive(Clone, Copy)]
pub struct Setting {
    /// The name the documentation uses; the first in error texts.
    pub name: &'static str,
    /// Further names, those of kafka-clients among them.
    pub aliases: &'static [&'static str],
    /// What it does, in one line.
    pub doc: &'static str,
    pub(super) set: fn(&mut Config, &'static str, &str) -> Result<(), ConfigError>,
    pub(super) get: fn(&Config) -> String,
}

/// Every setting that has a meaning.
pub static SETTINGS: &[Setting] = &joined::<{ count() }>();

/// `client-id` is in the first, `sasl.username` in the second, then `batch.size`, `max-bytes`, and `lease-ms` in the last.
const GROUPS: [&[Setting]; 5] =
    [connection::CONNECTION, security::SECURITY, producer::PRODUCER, consumer::CONSUMER, group::GROUP];

const fn count() -> usize {
    let (mut count, mut group) = (0, 0);
    while group < GROUPS.len() {
        count += GROUPS[group].len();
        group += 1;
    }
    count
}

const fn joined<const N: usize>() -> [Setting; N] {
    let mut all = [GROUPS[0][0]; N];
    let (mut at, mut group) = (0, 0);
    while group < GROUPS.len() {
        let mut index = 0;
        while index < GROUPS[group].len() {
            all[at] = GROUPS[group][index];
            (at, index) = (at + 1, index + 1);
        }
        group += 1;
    }
    all
}

/// Names of kafka-clients that have no meaning here: accepted, one warning each.
///
/// A name is here when a program that set it for kafka-clients works as well without it. One that decides what is written, read or
/// trusted (`transactional.id`, `ssl.engine.factory.class`) is not: to go on without it would be worse than the error.
const IGNORED: &[&str] = &[
    "key.serializer",
    "value.serializer",
    "key.deserializer",
    "value.deserializer",
    "partitioner.class",
    "interceptor.classes",
    "metric.reporters",
    "metrics.num.samples",
    "metrics.recording.level",
    "metrics.sample.window.ms",
    "max.poll.records",
    "max.poll.interval.ms",
    "session.timeout.ms",
    "enable.auto.commit",
    "group.instance.id",
    "partition.assignment.strategy",
    "group.protocol",
    "receive.buffer.bytes",
    "send.buffer.bytes",
    "check.crcs",
    "max.in.flight.requests.per.connection",
    "enable.metrics.push",
    "auto.include.jmx.reporter",
    "retries",
    // Of consumers: topics are named, and never created by being read; what a fetch brings is bounded in all.
    "allow.auto.create.topics",
    "exclude.internal.topics",
    "group.remote.assignor",
    "max.partition.fetch.bytes",
    // Of producers: records with a key go where the key says; where the others go is nobody's affair.
    "partitioner.ignore.keys",
    "partitioner.adaptive.partitioning.enable",
    "partitioner.availability.timeout.ms",
    "partitioner.rack.aware",
    "buffer.memory.allocation.strategy",
    // Of transactions, which begin with a transactional.id.
    "transaction.timeout.ms",
    // All addresses of a name are tried, brokers that fail are left alone for 50 ms to 1 s, those of the settings are asked again
    // when no other answers; and every wait has a bound of its own.
    "default.api.timeout.ms",
    "client.dns.lookup",
    "bootstrap.resolve.timeout.ms",
    "reconnect.backoff.ms",
    "reconnect.backoff.max.ms",
    "retry.backoff.max.ms",
    "socket.connection.setup.timeout.max.ms",
    "metadata.max.age.ms",
    "metadata.max.idle.ms",
    "metadata.cluster.check.enable",
    "metadata.recovery.strategy",
    "metadata.recovery.rebootstrap.trigger.ms",
    // Of Kerberos and OAuth, which sasl.mechanism refuses; templates have them for any mechanism.
    "sasl.kerberos.kinit.cmd",
    "sasl.kerberos.min.time.before.relogin",
    "sasl.kerberos.service.name",
    "sasl.kerberos.ticket.renew.jitter",
    "sasl.kerberos.ticket.renew.window.factor",
    "sasl.login.connect.timeout.ms",
    "sasl.login.read.timeout.ms",
    "sasl.login.refresh.buffer.seconds",
    "sasl.login.refresh.min.period.seconds",
    "sasl.login.refresh.window.factor",
    "sasl.login.refresh.window.jitter",
    "sasl.login.retry.backoff.max.ms",
    "sasl.login.retry.backoff.ms",
    // Both TLS 1.2 and 1.3 are spoken, with the ciphers that are good.
    "ssl.protocol",
    "ssl.enabled.protocols",
    "ssl.cipher.suites",
    "ssl.provider",
    "ssl.keymanager.algorithm",
    "ssl.trustmanager.algorithm",
    "ssl.secure.random.implementation",
    "kafka-version",
    // Always on where acks allow it.
    "enable.idempotence",
    // Named where the group lives.
    "group.id",
    "redis-conf",
    // Of the direct producer, which is to come.
    "send-cache-max-entries",
    "send-cache-expire-after-write",
    "send-cache-expire-after-access",
];

/// Finds a setting by any of its names.
pub(super) fn find(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|s| s.name == name || s.aliases.contains(&name))
}

/// Sets one setting; see [`Config::set`].
pub(super) fn set(config: &mut Config, name: &str, value: &str) -> Result<(), ConfigError> {
    let Some(setting) = find(name) else {
        if IGNORED.contains(&name) {
            config.ignored.push(name.to_owned());
            return Ok(());
        }
        return Err(ConfigError::Unknown { name: name.to_owned(), nearest: nearest(name) });
    };
    // The error names the setting as the caller wrote it.
    let written = if setting.name == name {
        setting.name
    } else {
        setting.aliases.iter().find(|alias| **alias == name).copied().unwrap_or(setting.name)
    };
    let verbatim = security::VERBATIM.contains(&setting.name);
    (setting.set)(config, written, if verbatim { value } else { value.trim() })
}

/// The known name closest to `name`, if it is within a third of its length.
fn nearest(name: &str) -> Option<&'static str> {
    let plain = |s: &str| s.to_ascii_lowercase().replace(['.', '_', '-'], "");
    let given = plain(name);
    let names = SETTINGS.iter().flat_map(|s| std::iter::once(s.name).chain(s.aliases.iter().copied()));
    names
        .map(|known| (distance(&given, &plain(known)), known))
        .min_by_key(|(d, _)| *d)
        .filter(|(d, known)| *d * 3 <= known.len())
        .map(|(_, known)| known)
}

/// Levenshtein distance, in bytes.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, cb) in b.bytes().enumerate() {
            let next = (diagonal + usize::from(ca != cb)).min(row[j] + 1).min(row[j + 1] + 1);
            diagonal = std::mem::replace(&mut row[j + 1], next);
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::super::{BrokerAddress, Codec};
    use super::*;

    #[test]
    fn every_name_is_unique_and_every_default_reads_back() {
        let mut names: Vec<&str> =
            SETTINGS.iter().flat_map(|s| std::iter::once(s.name).chain(s.aliases.iter().copied())).collect();
        names.extend(IGNORED);
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(count, names.len());
        let defaults = Config::default();
        for setting in SETTINGS.iter().filter(|s| s.name != "queue-buffering-max-ms") {
            let mut c = Config::default();
            c.set(setting.name, &(setting.get)(&defaults)).unwrap();
            assert_eq!((setting.get)(&c), (setting.get)(&defaults), "{}", setting.name);
        }
    }

    #[test]
    fn mistakes_are_explained() {
        let mut c = Config::default();
        let text = |r: Result<&mut Config, ConfigError>| r.unwrap_err().to_string();
        assert_eq!(
            text(c.set("batch.num.messages", "1")),
            "Unknown setting \"batch.num.messages\"; did you mean batch-num-messages?"
        );
        assert_eq!(text(c.set("acks", "2")), "acks must be 0, 1 or all, got 2");
        assert_eq!(text(c.set("linger.ms", "5s")), "linger.ms: \"5s\" is not a number of milliseconds");
        assert_eq!(
            text(c.set("connections.max.idle.ms", "soon")),
            "connections.max.idle.ms: \"soon\" is not a number of milliseconds, or -1 for never"
        );
        assert_eq!(text(c.set("zzz", "1")), "Unknown setting \"zzz\"");
        c.set("key.serializer", "x").unwrap();
        assert_eq!(c.ignored, ["key.serializer"]);
    }

    #[test]
    fn settings_of_kafka_clients_are_taken_where_nothing_depends_on_them() {
        let mut c = Config::default();
        let mut names = Vec::new();
        for line in include_str!("kafka_clients.properties").lines().filter(|line| !line.starts_with('#')) {
            let (name, value) = line.split_once('=').unwrap();
            c.set(name, value).unwrap();
            names.push(name);
        }
        assert_eq!(names.len(), 106);
        // What was not taken is said.
        let silent = |name: &&str| find(name).is_none() && !c.ignored.iter().any(|ignored| ignored == name);
        assert_eq!(names.into_iter().find(silent), None);
        assert!(c.ignored.iter().any(|name| name == "metadata.max.age.ms"));
        assert_eq!(c.get("connections.max.idle.ms").unwrap(), "540000");
    }

    #[test]
    fn settings_that_somebody_relies_on_are_not_passed_over() {
        for name in [
            "transactional.id",
            "transaction.two.phase.commit.enable",
            "share.acknowledgement.mode",
            "config.providers",
            "security.providers",
            "ssl.engine.factory.class",
            "sasl.client.callback.handler.class",
            "sasl.login.callback.handler.class",
            "sasl.login.class",
            "sasl.oauthbearer.token.endpoint.url",
            "sasl.oauthbearer.client.credentials.client.secret",
        ] {
            let error = Config::default().set(name, "x").unwrap_err();
            assert!(matches!(error, ConfigError::Unknown { .. }), "{error}");
        }
    }

    #[test]
    fn codecs_are_set_by_name_or_number() {
        let codecs = [Codec::None, Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
        for (number, codec) in codecs.into_iter().enumerate().filter(|(_, codec)| codec.is_built_in()) {
            for text in [codec.name().to_owned(), codec.name().to_uppercase(), number.to_string()] {
                let mut c = Config::default();
                c.set("compression.type", &text).unwrap();
                assert_eq!((c.codec, c.get("codec").unwrap().as_str()), (codec, codec.name()));
                assert_eq!(c.compression(), codec.into(), "the default level");
            }
        }
        let error = Config::default().set("codec", "brotli").unwrap_err().to_string();
        assert_eq!(error, "codec: \"brotli\" is not a codec (none, gzip, snappy, lz4, zstd)");
    }

    #[test]
    fn levels_have_the_ranges_of_kafka_clients() {
        for (codec, good, bad, range) in [
            (
                Codec::Gzip,
                &["-1", "1", "9"][..],
                &["0", "10", "-2", "fast"],
                "(1 to 9, or -1 for its default)",
            ),
            (Codec::Lz4, &["1", "9", "17"], &["0", "18", "-1", ""], "(1 to 17)"),
            (Codec::Zstd, &["-131072", "0", "22"], &["-131073", "23", "3.5", "+-1"], "(-131072 to 22)"),
        ] {
            let name = format!("compression.{}.level", codec.name());
            let mut c = Config { codec, ..Config::default() };
            for value in good {
                c.set(&name, value).unwrap();
                assert_eq!(
                    (c.get(&name).unwrap(), c.compression().level.to_string()),
                    (value.to_string(), value.to_string())
                );
            }
            for value in bad {
                let error = c.set(&name, value).unwrap_err().to_string();
                let wanted = format!("{name}: \"{value}\" is not a level of {} {range}", codec.name());
                assert_eq!(error, wanted);
            }
        }
    }

    #[test]
    fn a_level_of_lz4_that_changes_nothing_is_said_so() {
        let mut c = Config::default();
        c.set("compression.lz4.level", "9").unwrap();
        assert!(c.ignored.is_empty(), "the default means the same here");
        for level in ["17", "1"] {
            c.set("compression.lz4.level", level).unwrap();
            assert_eq!(c.ignored, ["compression.lz4.level"]);
        }
        c.set("compression.lz4.level", "9").unwrap();
        assert!(c.ignored.is_empty());
    }

    #[test]
    #[cfg(not(feature = "zstd"))]
    fn a_codec_that_is_not_built_in_is_refused() {
        let mut c = Config::default();
        let error = c.set("codec", "zstd").unwrap_err().to_string();
        assert!(error.contains("cargo feature zstd"), "{error}");
        c.codec = Codec::Zstd;
        assert!(c.check().unwrap_err().to_string().contains("cargo feature zstd"));
    }

    #[test]
    fn addresses() {
        let mut c = Config::default();
        c.set("bootstrap.servers", " a:1, [::1]:2,b").unwrap();
        assert_eq!(c.get("bootstrap-brokers").unwrap(), "a:1,[::1]:2,b:9092");
        assert_eq!(BrokerAddress::new("", 5).to_string(), "localhost:5");
        assert!(c.set("bootstrap.servers", "a:b").is_err());
    }
}
