//! Settings of producers: what a batch is, when it goes, and when it has arrived.

use std::time::Duration;

use super::Setting;
use super::forms::{flag, millis, number, read_level, read_millis};
use crate::config::{Acks, Codec, Config, ConfigError};

/// Acknowledgement, compression, batches, memory and time.
pub(super) const PRODUCER: &[Setting] = &[
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
            c.gzip_level = read_level(name, v, |n| n == -1 || (1..=9).contains(&n), expected)?;
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
            c.lz4_level = read_level(name, v, |n| (1..=17).contains(&n), "a level of lz4 (1 to 17)")?;
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
            c.zstd_level = read_level(name, v, |n| (-131_072..=22).contains(&n), expected)?;
            Ok(())
        },
        get: |c| c.zstd_level.to_string(),
    },
    Setting {
        name: "queue-buffering-max-ms",
        aliases: &["linger.ms"],
        doc: "Longest wait for more records before a batch goes; unset: adaptive, at most 5 ms.",
        set: |c, name, v| {
            c.linger = Some(read_millis(name, v)?);
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
];
