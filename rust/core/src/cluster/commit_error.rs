//! Why offsets of a group were not committed or read, in words that say what to do.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::ErrorKind;
use crate::net::{CallError, Span};
use crate::wire::ErrorCode;

/// Why offsets of a group were not committed or read. Brokers are named as host:port.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The user may not commit to the group, or not even see it.
    #[error(
        "This user may not commit offsets of consumer group \"{group}\" (GROUP_AUTHORIZATION_FAILED from {broker}): grant READ on \
         the group (kafka-acls.sh --add --operation Read --group {group} ...), or set mirror off"
    )]
    GroupNotAuthorized {
        /// The group.
        group: Arc<str>,
        /// The broker that said so.
        broker: Arc<str>,
    },
    /// The user may not commit offsets of a topic.
    #[error(
        "This user may not commit offsets of topic \"{topic}\" to group \"{group}\" (TOPIC_AUTHORIZATION_FAILED from {broker}): grant \
         READ on the topic (kafka-acls.sh --add --operation Read --topic {topic} ...)"
    )]
    TopicNotAuthorized {
        /// The group.
        group: Arc<str>,
        /// The topic.
        topic: Arc<str>,
        /// The broker that said so.
        broker: Arc<str>,
    },
    /// The group has members, and only those may commit: consumers under either protocol (KIP-848).
    #[error(
        "A Kafka consumer group named \"{group}\" is in use by other clients ({code} from {broker}): choose another name, or set \
         mirror off"
    )]
    InUse {
        /// The group.
        group: Arc<str>,
        /// The broker that said so.
        broker: Arc<str>,
        /// Its error.
        code: ErrorCode,
    },
    /// The broker knows no group of this name that keeps offsets. Kafka says so of a share group (KIP-932), with members or without; other
    /// brokers of any group without members.
    #[error(
        "{broker} takes no offsets of group \"{group}\" ({code}). Either it has a share group of that name: choose another name; or it takes \
         offsets from a group's members only: set mirror off"
    )]
    OtherKind {
        /// The group.
        group: Arc<str>,
        /// The broker that said so.
        broker: Arc<str>,
        /// Its error.
        code: ErrorCode,
    },
    /// The broker refuses for another reason.
    #[error("{broker} keeps no offsets of group \"{group}\": {code}{}. Look into its log, or set mirror off", Said(.at))]
    Refused {
        /// The group.
        group: Arc<str>,
        /// The broker that said so.
        broker: Arc<str>,
        /// Its error.
        code: ErrorCode,
        /// The first topic and partition it was said of; `None` when it was said of the whole request.
        at: Option<(Arc<str>, i32)>,
    },
    /// A broker that does not speak what this takes.
    #[error("No offsets of group \"{group}\" can be kept in Kafka: {error}")]
    Unsupported {
        /// The group.
        group: Arc<str>,
        /// What is missing.
        error: CallError,
    },
    /// The group's coordinator was not found, not ready, or did not answer in time.
    #[error("The offsets of group \"{group}\" could not be committed or read within {}: {error}", Span(*.within))]
    Timeout {
        /// The group.
        group: Arc<str>,
        /// How long was tried.
        within: Duration,
        /// What the last try failed with.
        error: Arc<str>,
    },
    /// The client was closed.
    #[error("The client was closed")]
    Closed,
}

/// Of which partition it was said, if of one.
struct Said<'a>(&'a Option<(Arc<str>, i32)>);

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_ref().map_or(Ok(()), |(topic, partition)| write!(f, ", said of {topic}/{partition}"))
    }
}

impl CommitError {
    /// What a code means that no repetition mends.
    pub(super) fn of(
        group: Arc<str>,
        broker: Arc<str>,
        code: ErrorCode,
        at: Option<(Arc<str>, i32)>,
    ) -> Self {
        match code {
            ErrorCode::GROUP_AUTHORIZATION_FAILED => Self::GroupNotAuthorized { group, broker },
            // All that a coordinator says to who is not, or no longer, the member it claims to be. UNSUPPORTED_VERSION:
            // members under KIP-848 commit with a newer version.
            ErrorCode::UNKNOWN_MEMBER_ID
            | ErrorCode::ILLEGAL_GENERATION
            | ErrorCode::REBALANCE_IN_PROGRESS
            | ErrorCode::FENCED_INSTANCE_ID
            | ErrorCode::FENCED_MEMBER_EPOCH
            | ErrorCode::STALE_MEMBER_EPOCH
            | ErrorCode::UNSUPPORTED_VERSION => Self::InUse { group, broker, code },
            ErrorCode::GROUP_ID_NOT_FOUND => Self::OtherKind { group, broker, code },
            code => Self::Refused { group, broker, code, at },
        }
    }

    /// What a code means that was said of one partition alone, by the group's coordinator.
    pub(crate) fn of_partition(group: Arc<str>, topic: Arc<str>, partition: i32, code: ErrorCode) -> Self {
        let broker: Arc<str> = "the group's coordinator".into();
        match code {
            ErrorCode::TOPIC_AUTHORIZATION_FAILED => Self::TopicNotAuthorized { group, topic, broker },
            code => Self::Refused { group, broker, code, at: Some((topic, partition)) },
        }
    }

    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::GroupNotAuthorized { .. }
            | Self::TopicNotAuthorized { .. }
            | Self::Refused {
                code: ErrorCode::TOPIC_AUTHORIZATION_FAILED | ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
                ..
            } => ErrorKind::Authorization,
            Self::InUse { .. } | Self::OtherKind { .. } | Self::Refused { .. } => ErrorKind::Group,
            Self::Unsupported { error, .. } => error.kind(),
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Closed => ErrorKind::Closed,
        }
    }
}
