//! Settings of every client: where the brokers are, and how long they are waited for.

use std::time::Duration;

use super::Setting;
use super::forms::{flag, millis, text};
use crate::config::{BrokerAddress, ConfigError};

/// In the order in which one meets them.
pub(super) const CONNECTION: &[Setting] = &[
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
    text!(
        "client-id",
        ["client.id"],
        client_id,
        "Sent with every request; brokers use it in logs and quotas."
    ),
    flag!("lazy-connect", [], lazy_connect, "Whether connect returns without having reached a broker."),
    millis!("socket.connection.setup.timeout.ms", [], connect_timeout, "Longest wait for a TCP connection."),
    Setting {
        name: "connections.max.idle.ms",
        aliases: &[],
        doc: "A connection idle for this long is not used again; looked at when one is wanted next. 0: always, -1: never.",
        // As in kafka-clients, whatever is below 0 means never.
        set: |c, name, v| {
            let expected = "a number of milliseconds, or -1 for never";
            let n: i64 =
                v.parse().map_err(|_| ConfigError::BadValue { name, value: v.to_owned(), expected })?;
            c.max_idle = n.try_into().ok().map(Duration::from_millis);
            Ok(())
        },
        get: |c| c.max_idle.map_or("-1".to_owned(), |t| t.as_millis().to_string()),
    },
    millis!("request.timeout.ms", [], request_timeout, "Longest wait for the answer to a request."),
    millis!(
        "metadata-timeout",
        [],
        metadata_timeout,
        "Milliseconds to wait for metadata; also bounds connect."
    ),
];
