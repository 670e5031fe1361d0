//! The table of settings: names, defaults, what each does, how its text is read and written.

use std::time::Duration;

use super::{Acks, BrokerAddress, Codec, Config, ConfigError, Ordering, SecurityProtocol};

/// One setting: its names, what it is for, and how it is read and written.
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

/// A setting that is a number of milliseconds.
macro_rules! millis {
    ($name:literal, [$($alias:literal),*], $field:ident, $doc:literal) => {
        Setting { name: $name, aliases: &[$($alias),*], doc: $doc,
            set: |c, name, v| { c.$field = millis(name, v)?; Ok(()) },
            get: |c| c.$field.as_millis().to_string() }
    };
}

/// A setting that is a whole number within bounds.
macro_rules! number {
    ($name:literal, [$($alias:literal),*], $field:ident, $least:expr, $expected:literal, $doc:literal) => {
        Setting { name: $name, aliases: &[$($alias),*], doc: $doc,
            set: |c, name, v| {
                let bad = || ConfigError::BadValue { name, value: v.to_owned(), expected: $expected };
                let n: i64 = v.parse().map_err(|_| bad())?;
                if n < $least { return Err(bad()); }
                c.$field = n.try_into().map_err(|_| bad())?;
                Ok(())
            },
            get: |c| c.$field.to_string() }
    };
}

/// A setting that is true or false.
macro_rules! flag {
    ($name:literal, [$($alias:literal),*], $field:ident, $doc:literal) => {
        Setting { name: $name, aliases: &[$($alias),*], doc: $doc,
            set: |c, name, v| { c.$field = flag(name, v)?; Ok(()) },
            get: |c| c.$field.to_string() }
    };
}

/// Every setting that has a meaning.
pub static SETTINGS: &[Setting] = &[
    Setting {
        name: "bootstrap.servers",
        aliases: &["bootstrap-brokers"],
        doc: "Brokers asked first, as host:port[,host:port...].",
        set: |c, _, v| {
            let listed = v.split(',').filter(|part| !part.trim().is_empty());
            c.brokers = listed.map(BrokerAddress::parse).collect::<Result<_, _>>()?;
            Ok(())
        },
        get: |c| c.brokers.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
    },
    Setting {
        name: "client-id",
        aliases: &["client.id"],
        doc: "Sent with every request; brokers use it in logs and quotas.",
        set: |c, _, v| {
            v.clone_into(&mut c.client_id);
            Ok(())
        },
        get: |c| c.client_id.clone(),
    },
    Setting {
        name: "acks",
        aliases: &[],
        doc: "Replicas that must have a batch before the broker answers: 0, 1 or all.",
        set: |c, _, v| {
            c.acks = match v {
                "0" => Acks::None,
                "1" => Acks::Leader,
                "all" | "-1" => Acks::All,
                other => return Err(ConfigError::BadAcks(other.to_owned())),
            };
            Ok(())
        },
        get: |c| match c.acks {
            Acks::None => "0".to_owned(),
            Acks::Leader => "1".to_owned(),
            Acks::All => "all".to_owned(),
        },
    },
    Setting {
        name: "codec",
        aliases: &["compression.type"],
        doc: "Compression of produced batches: none (0), gzip (1), snappy (2), lz4 (3), zstd (4).",
        set: |c, name, v| {
            let codec = match v.to_ascii_lowercase().as_str() {
                "none" | "0" => Codec::None,
                "gzip" | "1" => Codec::Gzip,
                "snappy" | "2" => Codec::Snappy,
                "lz4" | "3" => Codec::Lz4,
                "zstd" | "4" => Codec::Zstd,
                _ => {
                    let expected = "a codec (none, gzip, snappy, lz4, zstd)";
                    return Err(ConfigError::BadValue { name, value: v.to_owned(), expected });
                }
            };
            if !codec.is_built_in() {
                return Err(ConfigError::UnsupportedCodec { name, codec: codec.name() });
            }
            c.codec = codec;
            Ok(())
        },
        get: |c| c.codec.name().to_owned(),
    },
    Setting {
        name: "compression.gzip.level",
        aliases: &[],
        doc: "How hard gzip tries: 1 (fast) to 9 (small), or -1, its default, which is 6.",
        set: |c, name, v| {
            let expected = "a level of gzip (1 to 9, or -1 for its default)";
            c.gzip_level = level(name, v, |n| n == -1 || (1..=9).contains(&n), expected)?;
            Ok(())
        },
        get: |c| c.gzip_level.to_string(),
    },
    Setting {
        name: "compression.lz4.level",
        aliases: &[],
        // kafka-clients has the slow ones too. To refuse them would stop programs that would only send more bytes: they are
        // accepted, and a warning at connect says that it makes no difference.
        doc: "1 to 17, without effect: there is only the fast level, which kafka-clients takes at its default, 9.",
        set: |c, name, v| {
            c.lz4_level = level(name, v, |n| (1..=17).contains(&n), "a level of lz4 (1 to 17)")?;
            c.ignored.retain(|ignored| ignored != name);
            if c.lz4_level != Config::default().lz4_level {
                c.ignored.push(name.to_owned());
            }
            Ok(())
        },
        get: |c| c.lz4_level.to_string(),
    },
    Setting {
        name: "compression.zstd.level",
        aliases: &[],
        doc: "How hard zstd tries: -131072 (fast) to 22 (small). From 19 on with tens of MB of memory a batch at work.",
        set: |c, name, v| {
            let expected = "a level of zstd (-131072 to 22)";
            c.zstd_level = level(name, v, |n| (-131_072..=22).contains(&n), expected)?;
            Ok(())
        },
        get: |c| c.zstd_level.to_string(),
    },
    Setting {
        name: "queue-buffering-max-ms",
        aliases: &["linger.ms"],
        doc: "Longest wait for more records before a batch goes; unset: adaptive, at most 5 ms.",
        set: |c, name, v| {
            c.linger = Some(millis(name, v)?);
            Ok(())
        },
        get: |c| c.linger.map_or("adaptive".to_owned(), |l| l.as_millis().to_string()),
    },
    number!(
        "batch-num-messages",
        [],
        batch_num_messages,
        1,
        "a number of messages from 1",
        "Messages after which a batch goes."
    ),
    number!(
        "batch.size",
        [],
        batch_bytes,
        1,
        "a number of bytes",
        "Bytes after which a partition's batch goes."
    ),
    number!(
        "batch-byte-limit",
        ["max.request.size"],
        batch_byte_limit,
        1024,
        "a number of bytes from 1024",
        "A message of this size or more is refused; also bounds a produce request."
    ),
    flag!(
        "batch-fail-message-over-limit",
        [],
        fail_over_limit,
        "Whether a message over the limit is an error; false: log it and drop it."
    ),
    number!(
        "buffer.memory",
        [],
        buffer_memory,
        1 << 20,
        "a number of bytes from 1048576",
        "Memory for records not yet acknowledged."
    ),
    millis!("max.block.ms", [], max_block, "Longest wait of a send for room or metadata."),
    Setting {
        name: "delivery.timeout.ms",
        aliases: &[],
        doc: "Longest time a record may stay undelivered before it fails; none: as long as it takes.",
        set: |c, name, v| {
            let expected = "a number of milliseconds from 1, or none";
            let bad = || ConfigError::BadValue { name, value: v.to_owned(), expected };
            c.delivery_timeout = match v {
                "none" => None,
                v => {
                    let n: u32 = v.parse().ok().filter(|n| *n > 0).ok_or_else(bad)?;
                    Some(Duration::from_millis(n.into()))
                }
            };
            Ok(())
        },
        get: |c| c.delivery_timeout.map_or("none".to_owned(), |t| t.as_millis().to_string()),
    },
    millis!("request.timeout.ms", [], request_timeout, "Longest wait for the answer to a request."),
    millis!("socket.connection.setup.timeout.ms", [], connect_timeout, "Longest wait for a TCP connection."),
    millis!(
        "metadata-timeout",
        [],
        metadata_timeout,
        "Milliseconds to wait for metadata; also bounds connect."
    ),
    millis!("fetch-timeout", [], fetch_timeout, "Milliseconds to wait for the answer to a fetch."),
    millis!(
        "max-wait-time",
        ["fetch.max.wait.ms"],
        max_wait,
        "How long a broker may gather data for a fetch."
    ),
    number!(
        "min-bytes",
        ["fetch.min.bytes"],
        min_bytes,
        0,
        "a number of bytes",
        "Bytes a broker gathers before it answers a fetch early."
    ),
    number!(
        "max-bytes",
        ["fetch.max.bytes"],
        max_bytes,
        1024,
        "a number of bytes from 1024",
        "Most bytes of one fetch answer."
    ),
    Setting {
        name: "use-earliest",
        aliases: &["auto.offset.reset"],
        doc: "Start of a partition without a committed offset: true (earliest) or false (latest).",
        set: |c, name, v| {
            c.use_earliest = match v {
                "earliest" => true,
                "latest" => false,
                other => flag(name, other)?,
            };
            Ok(())
        },
        get: |c| c.use_earliest.to_string(),
    },
    number!(
        "consume-step",
        [],
        consume_step,
        1,
        "a number of messages from 1",
        "Most messages of a work unit."
    ),
    millis!(
        "offset-commit-freq",
        ["auto.commit.interval.ms"],
        offset_commit_freq,
        "How often handled offsets are committed."
    ),
    number!(
        "prefetch-bytes",
        ["queued.max.bytes"],
        prefetch_bytes,
        65536,
        "a number of bytes from 65536",
        "Bytes a consumer may hold fetched and not yet handled."
    ),
    number!(
        "decompress-limit",
        [],
        decompress_limit,
        1 << 20,
        "a number of bytes from 1048576",
        "Most bytes a batch may decompress to."
    ),
    millis!("lease-ms", [], lease, "How long a unit belongs to its consumer without a heartbeat."),
    millis!(
        "heartbeat-ms",
        ["heartbeat.interval.ms"],
        heartbeat,
        "How often a consumer reports what it has handled."
    ),
    millis!("max-processing-ms", [], max_processing, "Longest time one record may stay in user code."),
    number!(
        "max-attempts",
        [],
        max_attempts,
        1,
        "a number from 1",
        "Deliveries of a unit before it is parked."
    ),
    millis!(
        "retry-backoff-ms",
        ["retry.backoff.ms"],
        retry_backoff,
        "Wait before a unit is delivered again; doubles up to 60 s."
    ),
    millis!("unit-target-ms", [], unit_target, "Handling time a work unit aims at."),
    number!("unit-bytes", [], unit_bytes, 1024, "a number of bytes from 1024", "Bytes a work unit aims at."),
    Setting {
        name: "ordering",
        aliases: &[],
        doc: "none: units of a partition run side by side; partition: one at a time.",
        set: |c, name, v| {
            c.ordering = match v {
                "none" => Ordering::None,
                "partition" => Ordering::Partition,
                _ => {
                    let expected = "an ordering (none, partition)";
                    return Err(ConfigError::BadValue { name, value: v.to_owned(), expected });
                }
            };
            Ok(())
        },
        get: |c| format!("{:?}", c.ordering).to_ascii_lowercase(),
    },
    Setting {
        name: "security.protocol",
        aliases: &[],
        doc: "How brokers are spoken to: PLAINTEXT; SSL and SASL are to come.",
        set: |c, name, v| {
            c.security = match v.to_ascii_uppercase().as_str() {
                "PLAINTEXT" => SecurityProtocol::Plaintext,
                "SSL" => SecurityProtocol::Ssl,
                other @ ("SASL_PLAINTEXT" | "SASL_SSL") => {
                    return Err(ConfigError::UnsupportedSecurity(other.to_owned()));
                }
                _ => {
                    let expected = "a security protocol (PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL)";
                    return Err(ConfigError::BadValue { name, value: v.to_owned(), expected });
                }
            };
            Ok(())
        },
        get: |c| format!("{:?}", c.security).to_ascii_uppercase(),
    },
    Setting {
        name: "isolation.level",
        aliases: &[],
        doc: "Which records of transactions are read: read_uncommitted; read_committed is to come.",
        set: |_, name, v| match v {
            "read_uncommitted" => Ok(()),
            _ => {
                let expected = "supported yet; only read_uncommitted is";
                Err(ConfigError::BadValue { name, value: v.to_owned(), expected })
            }
        },
        get: |_| "read_uncommitted".to_owned(),
    },
    flag!("lazy-connect", [], lazy_connect, "Whether connect returns without having reached a broker."),
];

/// Names of kafka-clients that have no meaning here: accepted, one warning each.
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
    "retries",
    "kafka-version",
    // Always on where acks allow it.
    "enable.idempotence",
    // Named where the group lives.
    "group.id",
    "redis-conf",
    "client.rack",
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
    (setting.set)(config, written, value.trim())
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

fn millis(name: &'static str, value: &str) -> Result<Duration, ConfigError> {
    let expected = "a number of milliseconds";
    let n: u64 =
        value.parse().map_err(|_| ConfigError::BadValue { name, value: value.to_owned(), expected })?;
    Ok(Duration::from_millis(n))
}

fn level(
    name: &'static str,
    value: &str,
    is_known: fn(i32) -> bool,
    expected: &'static str,
) -> Result<i32, ConfigError> {
    let known = value.parse().ok().filter(|n| is_known(*n));
    known.ok_or_else(|| ConfigError::BadValue { name, value: value.to_owned(), expected })
}

fn flag(name: &'static str, value: &str) -> Result<bool, ConfigError> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(ConfigError::BadValue { name, value: value.to_owned(), expected: "true or false" }),
    }
}

#[cfg(test)]
mod tests {
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
        assert_eq!(text(c.set("zzz", "1")), "Unknown setting \"zzz\"");
        c.set("key.serializer", "x").unwrap();
        assert_eq!(c.ignored, ["key.serializer"]);
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
