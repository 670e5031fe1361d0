//! Settings of groups: how large a unit of work is, and whose it is for how long.

use super::Setting;
use super::forms::{millis, number};
use crate::config::{ConfigError, Ordering};

/// Units, leases, what is tried again, commits.
pub(super) const GROUP: &[Setting] = &[
    number!(
        "consume-step",
        [],
        consume_step,
        1,
        "a number of messages from 1",
        "Most messages of a work unit."
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
    millis!(
        "offset-commit-freq",
        ["auto.commit.interval.ms"],
        offset_commit_freq,
        "How often handled offsets are committed."
    ),
];
