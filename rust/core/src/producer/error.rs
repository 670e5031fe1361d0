//! What can go wrong with a record, and what the user is told.

use std::sync::Arc;

use crate::cluster::{ConnectError, TopicError};
use crate::config::ConfigError;
use crate::error::ErrorKind;

/// What an operation of the producer as a whole can end with.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProducerError {
    /// Settings contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The cluster was not reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// Nothing is known about the topic.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The record was not accepted.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// The buffer stayed full.
    #[error("No room within max.block.ms={max_block_ms}: {obstacle}")]
    NoRoom {
        /// The setting.
        max_block_ms: u64,
        /// What is in the way.
        obstacle: String,
    },
}

impl ProducerError {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(error) => error.kind(),
            Self::Connect(error) => error.kind(),
            Self::Topic(error) => error.kind(),
            Self::Append(error) => error.kind(),
            Self::NoRoom { .. } => ErrorKind::Timeout,
        }
    }
}

/// A record that was not accepted. None of these blocks or waits.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The buffer is full. Wait for room ([`Producer::room`](super::Producer::room)) and try again; open batches
    /// are on their way already.
    #[error("No room: {needed} more bytes are needed and buffer.memory is in use")]
    Full {
        /// Bytes that must be free for this record; what to pass to `room`.
        needed: usize,
    },
    /// The producer was closed.
    #[error("{0}")]
    Closed(Arc<ClosedBy>),
    /// Key, value and headers reach `batch-byte-limit`.
    #[error("Message of {bytes} bytes reaches batch-byte-limit {limit} (topic {topic})")]
    TooLarge {
        /// Bytes of key, value and headers.
        bytes: usize,
        /// The setting.
        limit: usize,
        /// The topic.
        topic: Arc<str>,
    },
    /// The topic has no such partition, as far as the metadata says.
    #[error("Topic \"{topic}\" has no partition {partition}; it has {partitions}, numbered from 0")]
    NoSuchPartition {
        /// The topic.
        topic: Arc<str>,
        /// The partition asked for.
        partition: i32,
        /// How many there are.
        partitions: usize,
    },
    /// The id does not come from this producer.
    #[error("Topic id {0} is not one of this producer; ids come from Producer.topic")]
    UnknownTopicId(u32),
}

impl AppendError {
    /// The class of the error. `Full` is a time-out waiting to happen: [`ErrorKind::Timeout`].
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Full { .. } => ErrorKind::Timeout,
            Self::Closed(_) => ErrorKind::Closed,
            Self::TooLarge { .. } => ErrorKind::RecordTooLarge,
            Self::NoSuchPartition { .. } | Self::UnknownTopicId(_) => ErrorKind::InvalidArgument,
        }
    }
}

/// Who closed a producer, and when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClosedBy {
    /// Seconds since 1970.
    pub at: u64,
    /// Name of the thread, `?` when it has none.
    pub thread: String,
}

impl std::fmt::Display for ClosedBy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (hours, minutes, seconds) = (self.at / 3600 % 24, self.at / 60 % 60, self.at % 60);
        let thread = &self.thread;
        write!(f, "This Producer was closed at {hours:02}:{minutes:02}:{seconds:02} UTC by thread {thread}")
    }
}

/// A record that was accepted and will not be delivered, or may not have been. One per batch, shared.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum DeliveryError {
    /// The user may not write there.
    #[error("This client may not WRITE topic \"{topic}\" ({code}): partition {partition}")]
    NotAuthorized {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// Kafka's name of the error.
        code: Arc<str>,
        /// Whether an earlier attempt may be in the log.
        possibly_written: bool,
    },
    /// One record is larger than the broker takes.
    #[error("Message of {bytes} bytes in a batch (topic {topic}, partition {partition}): \
        broker refuses {}: raise max.message.bytes", limit_text(*.limit))]
    TooLarge {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// Bytes of the batch that holds the one record, as sent.
        bytes: usize,
        /// The broker's limit, when it says so.
        limit: Option<usize>,
        /// Whether an earlier attempt may be in the log.
        possibly_written: bool,
    },
    /// The broker refuses the batch and would refuse it again.
    #[error("Broker {node} refuses records of topic \"{topic}\", partition {partition}: {code}{}",
        .message.as_ref().map_or(String::new(), |m| format!(": {m}")))]
    Refused {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// The broker.
        node: i32,
        /// Kafka's name of the error.
        code: Arc<str>,
        /// What the broker says about it.
        message: Option<Arc<str>>,
        /// Whether an earlier attempt may be in the log.
        possibly_written: bool,
    },
    /// `delivery.timeout.ms` passed first.
    #[error("The records of topic \"{topic}\", partition {partition} were not acknowledged within \
        delivery.timeout.ms={timeout_ms} ({}){obstacle}", certainty(*.possibly_written))]
    TimedOut {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// The setting.
        timeout_ms: u64,
        /// What was in the way, as a sentence that begins with `: `; empty when not known.
        obstacle: Arc<str>,
        /// Whether an attempt may be in the log.
        possibly_written: bool,
    },
    /// The producer ended first.
    #[error("The Producer was closed before the records of topic \"{topic}\", partition {partition} were \
        acknowledged ({})", certainty(*.possibly_written))]
    Closed {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// Whether the record may be in the log.
        possibly_written: bool,
    },
}

fn limit_text(limit: Option<usize>) -> String {
    limit.map_or("messages of this size".to_owned(), |limit| format!("> {limit}"))
}

const fn certainty(possibly_written: bool) -> &'static str {
    if possibly_written { "possibly written" } else { "not sent" }
}

impl DeliveryError {
    /// The class of the error.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::NotAuthorized { .. } => ErrorKind::Authorization,
            Self::TooLarge { .. } => ErrorKind::RecordTooLarge,
            Self::Refused { .. } => ErrorKind::InvalidArgument,
            Self::TimedOut { .. } => ErrorKind::Timeout,
            Self::Closed { .. } => ErrorKind::Closed,
        }
    }

    /// Whether the record may be in the log all the same (`PossiblyWritten`); false: it is not (`NotSent`).
    pub const fn possibly_written(&self) -> bool {
        match self {
            Self::NotAuthorized { possibly_written, .. }
            | Self::TooLarge { possibly_written, .. }
            | Self::Refused { possibly_written, .. }
            | Self::TimedOut { possibly_written, .. }
            | Self::Closed { possibly_written, .. } => *possibly_written,
        }
    }
}

/// `close` ended before everything was delivered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "Producer.close gave up after {waited_ms} ms: {not_sent} records were not sent, {possibly_written} were \
    sent and not acknowledged (possibly written){reason}"
)]
pub struct CloseError {
    /// Records that are certainly not in the log.
    pub not_sent: u64,
    /// Records that may be.
    pub possibly_written: u64,
    /// How long it waited.
    pub waited_ms: u64,
    /// What was in the way, as a sentence that begins with `: `; empty when not known.
    pub reason: String,
}

impl CloseError {
    /// Always [`ErrorKind::Timeout`].
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Timeout
    }
}
