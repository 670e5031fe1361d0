//! Log lines of the core on their way to Java's `System.Logger` (`kafkafast.{producer,consumer,group,net}`).

use std::fmt::Write;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::service;

/// Numbers of the levels at the boundary.
pub(crate) const ERROR: u8 = 0;
/// See [`ERROR`].
pub(crate) const WARN: u8 = 1;
/// See [`ERROR`].
pub(crate) const INFO: u8 = 2;

/// Numbers of the loggers at the boundary.
pub(crate) const PRODUCER: u8 = 0;
/// See [`PRODUCER`].
pub(crate) const CONSUMER: u8 = 1;
/// See [`PRODUCER`].
pub(crate) const GROUP: u8 = 2;
/// See [`PRODUCER`].
pub(crate) const NET: u8 = 3;

/// Sends events of this crate and the core to the service queue.
struct Bridge;

/// Makes the bridge the library's subscriber. The library has a copy of `tracing` of its own, so nobody else can have
/// set one; a second call changes nothing.
pub(crate) fn install() {
    let _ = tracing::subscriber::set_global_default(Bridge);
}

fn ours(target: &str) -> bool {
    target.starts_with("kafka_fast") || target.starts_with("kafkafast")
}

fn logger_of(target: &str) -> u8 {
    // Module paths (`kafka_fast::producer::sender`), and names given on purpose (`kafkafast.producer`).
    match target.split([':', '.']).filter(|part| !part.is_empty()).nth(1) {
        Some("producer") => PRODUCER,
        Some("consumer") => CONSUMER,
        Some("group") => GROUP,
        _ => NET,
    }
}

impl Subscriber for Bridge {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= Level::INFO && ours(metadata.target())
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::INFO)
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let level = match *event.metadata().level() {
            Level::ERROR => ERROR,
            Level::WARN => WARN,
            _ => INFO,
        };
        let mut line = Line(String::new());
        event.record(&mut line);
        let logger = logger_of(event.metadata().target());
        service::push(service::Event::Log { level, logger, text: line.0 });
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The text of an event: its message first, then its fields.
struct Line(String);

impl Visit for Line {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        // Writing to a String does not fail.
        let _ = if field.name() == "message" {
            let fields = std::mem::take(&mut self.0);
            write!(self.0, "{value:?}{fields}")
        } else {
            write!(self.0, " {}={value:?}", field.name())
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_have_loggers() {
        assert_eq!(logger_of("kafka_fast::producer::sender"), PRODUCER);
        assert_eq!(logger_of("kafka_fast::consumer"), CONSUMER);
        assert_eq!(logger_of("kafka_fast::group::state"), GROUP);
        assert_eq!(logger_of("kafka_fast::cluster"), NET);
        assert_eq!(logger_of("kafkafast.group"), GROUP);
        assert_eq!(logger_of("kafkafast"), NET);
    }
}
