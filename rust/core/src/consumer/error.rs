//! What can fail in a consumer, one enum per operation.

use std::sync::Arc;

use crate::cluster::{CommitError, ConnectError, OffsetsError, TopicError};
use crate::config::ConfigError;
use crate::error::ErrorKind;
use crate::group::GroupError;

/// Why a consumer could not connect, or could not change its topics.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConsumerError {
    /// A setting is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// No topic was named.
    #[error("Consumer.connect needs at least one topic")]
    NoTopics,
    /// The group has no name.
    #[error("a consumer group needs a name of at least one character")]
    NoGroup,
    /// No broker could be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// A topic name is illegal, or its metadata could not be had.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// No partition could be started: are their leaders up? Or this user may not ask where one begins.
    #[error("the start of a partition could not be resolved: {0}")]
    Start(#[from] OffsetsError),
    /// The group refused.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// Positions could not be committed to Kafka, or read from it.
    #[error(transparent)]
    Commit(#[from] CommitError),
    /// The consumer was closed.
    #[error("this consumer was closed")]
    Closed,
}

impl ConsumerError {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Config(e) => e.kind(),
            Self::NoTopics | Self::NoGroup => ErrorKind::InvalidArgument,
            Self::Connect(e) => e.kind(),
            Self::Topic(e) => e.kind(),
            Self::Start(e) => e.kind(),
            Self::Group(e) => e.kind(),
            Self::Commit(e) => e.kind(),
            Self::Closed => ErrorKind::Closed,
        }
    }
}

/// Why the group was not moved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SeekError {
    /// The topic does not exist.
    #[error("Topic \"{topic}\" does not exist: nothing to seek in")]
    UnknownTopic {
        /// The topic.
        topic: Arc<str>,
    },
    /// The topic has no such partition.
    #[error("Topic \"{topic}\" has {partitions} partitions, 0 to {}; there is no partition {partition}", partitions.saturating_sub(1))]
    UnknownPartition {
        /// The topic.
        topic: Arc<str>,
        /// What was asked for.
        partition: i32,
        /// How many there are.
        partitions: usize,
    },
    /// No member of the group ever read the partition, so it has no position to move; or others moved it all the time.
    #[error(
        "Group \"{group}\" does not read {topic}/{partition}, or others move it at the same time: read the topic first (addTopics)"
    )]
    NotRead {
        /// The group.
        group: Arc<str>,
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
    },
    /// The offset is outside the log.
    #[error(
        "{topic}/{partition} has no offset {offset}: its log begins at {earliest} and ends at {end}; seek to one of {earliest} to {end}"
    )]
    OutOfRange {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// What was asked for.
        offset: i64,
        /// The oldest offset there is.
        earliest: i64,
        /// The offset of the next record to be written, where one may seek to.
        end: i64,
    },
    /// The name is illegal, or the topic's metadata could not be had.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The leader did not say where the log begins and ends.
    #[error(transparent)]
    Offsets(#[from] OffsetsError),
    /// The group is away or gone. It may have been moved all the same when its answer was lost.
    #[error(transparent)]
    Group(#[from] GroupError),
    /// The group was moved and reads on from there; but Kafka does not know it yet.
    #[error(
        "The group goes on at {offset} in {topic}/{partition}, but that is not committed to Kafka yet: {error}. It is committed within \
         offset-commit-freq as soon as that works; until then a Redis that loses its data loses the seek"
    )]
    NotCommitted {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// Where the group stands.
        offset: i64,
        /// Why it is not committed.
        error: CommitError,
    },
    /// The consumer was closed.
    #[error("this consumer was closed")]
    Closed,
}

impl SeekError {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::UnknownTopic { .. } => ErrorKind::UnknownTopic,
            Self::UnknownPartition { .. } | Self::NotRead { .. } | Self::OutOfRange { .. } => {
                ErrorKind::InvalidArgument
            }
            Self::Topic(e) => e.kind(),
            Self::Offsets(e) => e.kind(),
            Self::Group(e) => e.kind(),
            Self::NotCommitted { error, .. } => error.kind(),
            Self::Closed => ErrorKind::Closed,
        }
    }
}

/// Why a reader has no next record and never will have: the group refuses this consumer for good.
///
/// What may pass (a broker or the coordinator away for a while) is no error: the reader waits.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The group is gone, or this consumer may not be part of it any more.
    #[error("the consumer group \"{group}\" refuses this consumer: {reason}. Connect again")]
    Group {
        /// The group.
        group: String,
        /// What the coordinator said.
        reason: String,
    },
    /// The brokers are of another Kafka cluster than when this consumer connected. What it had handled was told to its group, the rest
    /// was handed back, and nothing was committed since.
    #[error(
        "the consumer of group \"{group}\" has stopped: {error}. If Kafka was set up anew, delete the group (Consumer.deleteGroup) \
         and connect again; else mend the addresses"
    )]
    OtherCluster {
        /// The group.
        group: String,
        /// The broker that was met, and both clusters.
        error: Arc<crate::net::ConnectError>,
    },
}

impl ReadError {
    /// The class of the error.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Group { .. } | Self::OtherCluster { .. } => ErrorKind::Group,
        }
    }
}

/// Why a consumer did not close as it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseError {
    /// The group could not be told what was handled and what is handed back; it learns it when the leases expire.
    #[error(
        "the group was not reached within {millis} ms: {units} units come again when their lease expires, \
         although some of their records were handled"
    )]
    NotHandedBack {
        /// Units the group still counts as ours.
        units: usize,
        /// How long it was tried.
        millis: u128,
    },
}

impl CloseError {
    /// The class of the error.
    pub const fn kind(&self) -> ErrorKind {
        ErrorKind::Timeout
    }
}
