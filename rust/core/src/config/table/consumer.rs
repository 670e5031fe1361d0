//! Settings of consumers: what is fetched, and from where on.

use super::Setting;
use super::forms::{millis, number, read_flag, text};
use crate::config::{ConfigError, Isolation};

/// Fetching.
pub(super) const CONSUMER: &[Setting] = &[
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
                other => read_flag(name, other)?,
            };
            Ok(())
        },
        get: |c| c.use_earliest.to_string(),
    },
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
    text!(
        "client-rack",
        ["client.rack"],
        client_rack,
        "Where this client is, as in broker.rack: records come from a replica near by, if the brokers choose one."
    ),
    Setting {
        name: "isolation.level",
        aliases: &[],
        doc: "Which records of transactions are read: read_uncommitted (all) or read_committed. One value for all of a group.",
        set: |c, name, v| {
            c.isolation = match v.to_ascii_lowercase().as_str() {
                "read_uncommitted" => Isolation::ReadUncommitted,
                "read_committed" => Isolation::ReadCommitted,
                _ => {
                    let expected = "an isolation level (read_uncommitted, read_committed)";
                    return Err(ConfigError::BadValue { name, value: v.to_owned(), expected });
                }
            };
            Ok(())
        },
        get: |c| match c.isolation {
            Isolation::ReadUncommitted => "read_uncommitted".to_owned(),
            Isolation::ReadCommitted => "read_committed".to_owned(),
        },
    },
];
