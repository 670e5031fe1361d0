//! What can go wrong between this client and the cluster, in words that say what to do.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::name::TopicNameError;
use crate::config::{BrokerAddress, ConfigError};
use crate::error::ErrorKind;
use crate::net::{self, CallError, CloseReason, Span};
use crate::wire::ErrorCode;

/// Why [`Cluster::connect`](super::Cluster::connect) did not reach the cluster.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No broker was named.
    #[error("connect needs at least one broker, e.g. bootstrap.servers=localhost:9092")]
    NoBrokers,
    /// Settings contradict each other.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// None of the brokers could be used, and waiting would not have changed that.
    #[error("{}", Each(.0))]
    Unusable(Vec<Arc<net::ConnectError>>),
    /// None of the brokers answered in time.
    #[error("No broker answered within {}: {}", Span(*.within), Each(.errors))]
    NoAnswer {
        /// How long was waited.
        within: Duration,
        /// The last error of each broker, in the order they were named.
        errors: Vec<Arc<net::ConnectError>>,
    },
    /// A broker accepted the connection and then failed to say who is in the cluster.
    #[error("{broker} answered, but not with its metadata: {error}{}", hint(.error))]
    NoMetadata {
        /// The broker asked.
        broker: BrokerAddress,
        /// What happened to the request.
        error: CallError,
    },
    /// A broker answered, and named no broker of the cluster.
    #[error("{broker} answered, but named no brokers{}. {NOBODY_ADVICE}", because(*.code))]
    Nobody {
        /// The broker.
        broker: BrokerAddress,
        /// Its error; `NONE` of a broker that has not joined its cluster yet.
        code: ErrorCode,
    },
    /// The brokers the cluster names cannot be reached from here.
    #[error(
        "Bootstrap {bootstrap} answered, but the cluster advertises broker {node} as {advertised}, which this \
         machine cannot reach. Fix advertised.listeners ({error})"
    )]
    Advertised {
        /// The broker that answered.
        bootstrap: BrokerAddress,
        /// The id of the first broker the cluster named.
        node: i32,
        /// The address it advertises.
        advertised: BrokerAddress,
        /// Why it could not be reached.
        error: Arc<net::ConnectError>,
    },
}

impl ConnectError {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NoBrokers | Self::Config(_) => ErrorKind::Config,
            Self::Unusable(errors) => {
                let refusal = errors.iter().find(|e| e.is_refusal());
                refusal.or(errors.first()).map_or(ErrorKind::Unreachable, |e| e.kind())
            }
            Self::NoMetadata { error, .. } => error.kind(),
            Self::NoAnswer { .. } | Self::Advertised { .. } | Self::Nobody { .. } => ErrorKind::Unreachable,
        }
    }
}

const NOBODY_ADVICE: &str = "Is it still starting, or cut off from its cluster? Its log may say why";

fn because(code: ErrorCode) -> String {
    if code.is_ok() { String::new() } else { format!(": {code}") }
}

/// A listener of SASL tells its versions to everybody, and closes the connection at the next request of somebody unknown.
const fn hint(error: &CallError) -> &'static str {
    match error {
        CallError::NotSent { reason: CloseReason::Peer, .. }
        | CallError::PossiblyWritten { reason: CloseReason::Peer, .. } => {
            ". Does it ask for user and password (security.protocol=SASL_PLAINTEXT or SASL_SSL)?"
        }
        _ => "",
    }
}

/// Several errors in one line, each once.
struct Each<'a>(&'a [Arc<net::ConnectError>]);

impl fmt::Display for Each<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut said: Vec<String> = Vec::new();
        for error in self.0.iter().map(ToString::to_string) {
            if !said.contains(&error) {
                said.push(error);
            }
        }
        f.write_str(&said.join("; "))
    }
}

/// Why nothing can be said about a topic, or done with it.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum TopicError {
    /// A name no broker accepts.
    #[error(transparent)]
    IllegalName(#[from] TopicNameError),
    /// No such topic, and brokers do not create it.
    #[error(
        "Topic \"{topic}\" does not exist and auto-creation is off. kafka-topics.sh --create --topic {topic} ..., \
         or Admin.createTopic"
    )]
    Unknown {
        /// The topic.
        topic: Arc<str>,
    },
    /// The broker does not let us see it.
    #[error(
        "This user may not DESCRIBE topic \"{topic}\" (TOPIC_AUTHORIZATION_FAILED): grant it (kafka-acls.sh --add --operation \
         Describe --topic {topic} ...)"
    )]
    NotAuthorized {
        /// The topic.
        topic: Arc<str>,
    },
    /// The topic exists and no partition of it has a leader.
    #[error("Topic \"{topic}\" has no partition with a leader after {}: are its brokers down?", Span(*.within))]
    NoLeader {
        /// The topic.
        topic: Arc<str>,
        /// How long was waited.
        within: Duration,
    },
    /// No broker answered in time, or all that it said was a code that should pass.
    #[error("No metadata of topic \"{topic}\" within {}: {}", Span(*.within), .error.as_deref().unwrap_or("no broker answered"))]
    Timeout {
        /// The topic.
        topic: Arc<str>,
        /// How long was waited.
        within: Duration,
        /// What the last try failed with.
        error: Option<Arc<str>>,
    },
    /// It was not created in time, or nobody said so.
    #[error("Topic \"{topic}\" was not created within {}, as far as is known: {error}", Span(*.within))]
    NotCreated {
        /// The topic.
        topic: Arc<str>,
        /// How long was tried.
        within: Duration,
        /// What the last try failed with.
        error: Arc<str>,
    },
    /// The topic to create is there already.
    #[error("Topic \"{topic}\" exists already")]
    Exists {
        /// The topic.
        topic: Arc<str>,
    },
    /// The broker refused to create or describe it.
    #[error("Topic \"{topic}\": {code}{}", refusal(topic, *.code, .message.as_deref()))]
    Refused {
        /// The topic.
        topic: Arc<str>,
        /// The broker's error.
        code: ErrorCode,
        /// The broker's words, if any.
        message: Option<Arc<str>>,
    },
    /// The broker does not create topics for clients, or only by a version of the request that is not spoken here.
    #[error("Topic \"{topic}\" was not created: {error}. Create it with the broker's own kafka-topics.sh")]
    Unsupported {
        /// The topic.
        topic: Arc<str>,
        /// Which versions both sides speak.
        error: CallError,
    },
    /// The client was closed.
    #[error("The client was closed")]
    Closed,
}

/// The broker's words, and what to do.
fn refusal(topic: &str, code: ErrorCode, message: Option<&str>) -> String {
    let message = message.filter(|message| !message.is_empty());
    let words = message.map_or(String::new(), |message| format!(" ({message})"));
    if is_forbidden(code) {
        format!(
            "{words}: grant CREATE on the topic (kafka-acls.sh --add --operation Create --topic {topic} ...)"
        )
    } else if message.is_some() {
        // It says what is wrong.
        words
    } else {
        ". The log of the broker may say why".to_owned()
    }
}

/// Whether the code says that this user may not.
const fn is_forbidden(code: ErrorCode) -> bool {
    matches!(code, ErrorCode::TOPIC_AUTHORIZATION_FAILED | ErrorCode::CLUSTER_AUTHORIZATION_FAILED)
}

impl TopicError {
    /// The class of the error.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::IllegalName(_) => ErrorKind::InvalidTopic,
            Self::Unknown { .. } => ErrorKind::UnknownTopic,
            Self::NotAuthorized { .. } => ErrorKind::Authorization,
            Self::Refused { code, .. } if is_forbidden(*code) => ErrorKind::Authorization,
            Self::NoLeader { .. } | Self::Timeout { .. } | Self::NotCreated { .. } => ErrorKind::Timeout,
            Self::Exists { .. } | Self::Refused { .. } => ErrorKind::InvalidArgument,
            Self::Unsupported { .. } => ErrorKind::Protocol,
            Self::Closed => ErrorKind::Closed,
        }
    }
}

/// Why offsets could not be learned.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum OffsetsError {
    /// A partition's leader did not answer in time, or there was none.
    #[error("No offset of {topic}/{partition} within {}: {error}", Span(*.within))]
    Timeout {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// How long was waited.
        within: Duration,
        /// What the last try failed with.
        error: Arc<str>,
    },
    /// The leader refused.
    #[error("{broker} does not say where {topic}/{partition} begins and ends: {code}. {}", ends_advice(*.code, topic))]
    Refused {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// The leader, host:port.
        broker: Arc<str>,
        /// The broker's error.
        code: ErrorCode,
    },
    /// The leader cannot say this: it is too old.
    #[error(
        "This offset cannot be asked for: {error}. OffsetAt::MaxTimestamp needs Kafka 3.0, EarliestLocal 3.5"
    )]
    Unsupported {
        /// The versions of both.
        error: CallError,
    },
    /// The client was closed.
    #[error("The client was closed")]
    Closed,
}

fn ends_advice(code: ErrorCode, topic: &str) -> String {
    if is_forbidden(code) {
        format!("Grant DESCRIBE on the topic (kafka-acls.sh --add --operation Describe --topic {topic} ...)")
    } else {
        "The log of the broker may say why".to_owned()
    }
}

impl OffsetsError {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Refused { code, .. } if is_forbidden(*code) => ErrorKind::Authorization,
            Self::Refused { .. } | Self::Unsupported { .. } => ErrorKind::Protocol,
            Self::Closed => ErrorKind::Closed,
        }
    }
}
