//! What kind of thing went wrong, in one list for every room and every language.
//!
//! Each operation has an error enum of its own (`ConnectError`, `TopicError`, ...) whose text says what failed,
//! where, and what to do. [`ErrorKind`] is the coarse class a program may branch on; the Java exceptions are
//! chosen by it.

/// The class of an error: what a caller can sensibly do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A setting is unknown, malformed or contradicts another one. Mend the configuration.
    Config,
    /// No broker could be reached, or what answered is not Kafka. Mend the address or start the broker.
    Unreachable,
    /// Something did not happen in its time. It may work later.
    Timeout,
    /// The broker does not accept who we say we are.
    Authentication,
    /// The broker knows us and does not let us.
    Authorization,
    /// The topic does not exist and is not created automatically.
    UnknownTopic,
    /// A topic name that no broker accepts.
    InvalidTopic,
    /// A record larger than the client's or the broker's limit.
    RecordTooLarge,
    /// A record the broker refuses for another reason, or an argument that makes no sense.
    InvalidArgument,
    /// The producer or consumer was closed.
    Closed,
    /// The broker is too old, or its bytes make no sense.
    Protocol,
    /// The group refuses this member or has lost its state.
    Group,
    /// A defect of this library.
    Internal,
}

impl ErrorKind {
    /// A stable number for the JNI boundary; never reused.
    pub const fn code(self) -> i32 {
        match self {
            Self::Config => 1,
            Self::Unreachable => 2,
            Self::Timeout => 3,
            Self::Authentication => 4,
            Self::Authorization => 5,
            Self::UnknownTopic => 6,
            Self::InvalidTopic => 7,
            Self::RecordTooLarge => 8,
            Self::InvalidArgument => 9,
            Self::Closed => 10,
            Self::Protocol => 11,
            Self::Group => 12,
            Self::Internal => 13,
        }
    }
}
