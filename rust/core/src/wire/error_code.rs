//! Every error code of the protocol, in one table: its number, its name, how it is treated, and by which operations otherwise.
//!
//! `Retry`: the same request may succeed later. `Refresh`: what is known about the leaders is stale, ask for metadata
//! first. `Fatal`: no repetition mends it. The treatment follows the exceptions of Kafka's own client
//! (`RetriableException`, `InvalidMetadataException`) but for four codes it gives up on and we try again, since each says
//! that the broker, not the request, is at fault: `UNKNOWN_SERVER_ERROR`, `BROKER_NOT_AVAILABLE`,
//! `CONCURRENT_TRANSACTIONS` and `REBOOTSTRAP_REQUIRED` (KIP-1102: start over from the bootstrap list).
//!
//! Some operations differ. What one does about most codes is in [`Operation::usually`]; what it does about a single code
//! stands in that code's row. [`ErrorCode::treatment`] gives the two together, and is what the code asks: there is no other
//! list. The test `error_codes` walks the table against a broker that answers every code.

use std::fmt;

/// An error code of an answer; 0 is none.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct ErrorCode(pub i16);

/// What is done about an error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// It is a success: what was asked for is done, or there is nothing to do.
    Done,
    /// The operation fails with an error that names the code.
    Fatal,
    /// The same request again, after a pause, for as long as the operation has time.
    Retry,
    /// The metadata is asked for, then the same request goes to whoever leads now.
    Refresh,
    /// As `Retry`, but thirty times at most (half a minute), then as `Fatal`: it should pass, and may be the batch's own fault.
    RetryAWhile,
    /// The batch is sent again with new sequence numbers under a raised producer epoch (KIP-360).
    Renumber,
    /// In halves. What cannot be halved fails, as `Fatal`; an offset to commit as `FailPartition`, or, where the code may mean
    /// something else that passes, as `Rediscover`.
    Split,
    /// The log's ends are asked for, and the partition is read on from what they say. When another replica than the leader
    /// said it, the leader is asked instead (KIP-392).
    Reset,
    /// The group's coordinator is asked for, then the same request goes there.
    Rediscover,
    /// This partition fails; nothing is said of the others.
    FailPartition,
    /// There is no such topic. It may be being created, so it is asked for again for up to 5 s; then the operation fails.
    Missing,
    /// The brokers known are forgotten, and the bootstrap brokers are asked (KIP-1102).
    Rebootstrap,
    /// A success when an earlier try of the same operation may have done it: one that was not answered, or answered with
    /// `REQUEST_TIMED_OUT` or `UNKNOWN_SERVER_ERROR`. As `Fatal` otherwise.
    DoneIfTried,
    /// The producer goes on without an id.
    GoWithout,
}

/// Who sees an error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Operation {
    Produce,
    Fetch,
    ListOffsets,
    /// Of a topic, or of the whole answer.
    Metadata,
    InitProducerId,
    FindCoordinator,
    OffsetCommit,
    OffsetFetch,
    CreateTopics,
}

impl Operation {
    /// All there are.
    pub const ALL: [Self; 9] = [
        Self::Produce,
        Self::Fetch,
        Self::ListOffsets,
        Self::Metadata,
        Self::InitProducerId,
        Self::FindCoordinator,
        Self::OffsetCommit,
        Self::OffsetFetch,
        Self::CreateTopics,
    ];

    /// What this operation makes of the general treatment of a code, when the code's row says nothing of it.
    const fn usually(self, general: Treatment) -> Treatment {
        match (self, general) {
            // A unit is never given up because of what a broker says, it may be the wrong one that says it: readers wait,
            // and the log names code, topic and partition.
            (Self::Fetch, _) => Treatment::Refresh,
            // They look for the leader, or the controller, before every further try.
            (Self::ListOffsets | Self::CreateTopics, Treatment::Retry) => Treatment::Refresh,
            // To ask again is to refresh, or to rediscover; any broker answers an InitProducerId.
            (Self::Metadata | Self::InitProducerId | Self::FindCoordinator, Treatment::Refresh) => {
                Treatment::Retry
            }
            // For at most 20 s if it is retried.
            (Self::InitProducerId, Treatment::Fatal) => Treatment::GoWithout,
            // All that should pass may mean that another broker is the coordinator by now.
            (Self::OffsetCommit | Self::OffsetFetch, Treatment::Retry | Treatment::Refresh) => {
                Treatment::Rediscover
            }
            _ => general,
        }
    }
}

/// A row: number, name, general treatment, and what single operations do instead.
type Row = (i16, &'static str, Treatment, &'static [(Operation, Treatment)]);

macro_rules! codes {
    ($($number:literal $name:ident $treatment:ident $({ $($operation:ident: $instead:ident),* })?,)*) => {
        #[allow(missing_docs)]
        impl ErrorCode {
            $( pub const $name: Self = Self($number); )*
        }
        const TABLE: &[Row] = &[$((
            $number,
            stringify!($name),
            Treatment::$treatment,
            &[$($((Operation::$operation, Treatment::$instead)),*)?],
        ),)*];
    };
}

codes! {
    -1 UNKNOWN_SERVER_ERROR Retry { Produce: RetryAWhile, OffsetCommit: Split },
    0 NONE Fatal,
    1 OFFSET_OUT_OF_RANGE Fatal { Fetch: Reset },
    2 CORRUPT_MESSAGE Retry { Produce: RetryAWhile },
    3 UNKNOWN_TOPIC_OR_PARTITION Refresh { Metadata: Missing, OffsetCommit: FailPartition, OffsetFetch: Done },
    4 INVALID_FETCH_SIZE Fatal,
    5 LEADER_NOT_AVAILABLE Refresh,
    6 NOT_LEADER_OR_FOLLOWER Refresh,
    7 REQUEST_TIMED_OUT Retry,
    8 BROKER_NOT_AVAILABLE Refresh,
    9 REPLICA_NOT_AVAILABLE Refresh,
    10 MESSAGE_TOO_LARGE Fatal { Produce: Split },
    11 STALE_CONTROLLER_EPOCH Fatal,
    12 OFFSET_METADATA_TOO_LARGE Fatal { OffsetCommit: FailPartition },
    13 NETWORK_EXCEPTION Refresh,
    14 COORDINATOR_LOAD_IN_PROGRESS Retry { OffsetCommit: Retry, OffsetFetch: Retry },
    15 COORDINATOR_NOT_AVAILABLE Retry,
    16 NOT_COORDINATOR Retry,
    17 INVALID_TOPIC_EXCEPTION Fatal,
    18 RECORD_LIST_TOO_LARGE Fatal { Produce: Split },
    19 NOT_ENOUGH_REPLICAS Retry,
    20 NOT_ENOUGH_REPLICAS_AFTER_APPEND Retry,
    21 INVALID_REQUIRED_ACKS Fatal,
    22 ILLEGAL_GENERATION Fatal,
    23 INCONSISTENT_GROUP_PROTOCOL Fatal,
    24 INVALID_GROUP_ID Fatal,
    25 UNKNOWN_MEMBER_ID Fatal,
    26 INVALID_SESSION_TIMEOUT Fatal,
    27 REBALANCE_IN_PROGRESS Fatal,
    28 INVALID_COMMIT_OFFSET_SIZE Fatal { OffsetCommit: Split },
    29 TOPIC_AUTHORIZATION_FAILED Fatal { OffsetCommit: FailPartition },
    30 GROUP_AUTHORIZATION_FAILED Fatal,
    31 CLUSTER_AUTHORIZATION_FAILED Fatal,
    32 INVALID_TIMESTAMP Fatal,
    33 UNSUPPORTED_SASL_MECHANISM Fatal,
    34 ILLEGAL_SASL_STATE Fatal,
    35 UNSUPPORTED_VERSION Fatal,
    36 TOPIC_ALREADY_EXISTS Fatal { CreateTopics: DoneIfTried },
    37 INVALID_PARTITIONS Fatal,
    38 INVALID_REPLICATION_FACTOR Fatal,
    39 INVALID_REPLICA_ASSIGNMENT Fatal,
    40 INVALID_CONFIG Fatal,
    41 NOT_CONTROLLER Refresh,
    42 INVALID_REQUEST Fatal,
    43 UNSUPPORTED_FOR_MESSAGE_FORMAT Fatal,
    44 POLICY_VIOLATION Fatal,
    45 OUT_OF_ORDER_SEQUENCE_NUMBER Fatal { Produce: Renumber },
    46 DUPLICATE_SEQUENCE_NUMBER Fatal { Produce: Done },
    47 INVALID_PRODUCER_EPOCH Fatal { Produce: Renumber },
    48 INVALID_TXN_STATE Fatal,
    49 INVALID_PRODUCER_ID_MAPPING Fatal { Produce: Renumber },
    50 INVALID_TRANSACTION_TIMEOUT Fatal,
    51 CONCURRENT_TRANSACTIONS Retry,
    52 TRANSACTION_COORDINATOR_FENCED Fatal,
    53 TRANSACTIONAL_ID_AUTHORIZATION_FAILED Fatal,
    54 SECURITY_DISABLED Fatal,
    55 OPERATION_NOT_ATTEMPTED Fatal,
    56 KAFKA_STORAGE_ERROR Refresh,
    57 LOG_DIR_NOT_FOUND Fatal,
    58 SASL_AUTHENTICATION_FAILED Fatal,
    59 UNKNOWN_PRODUCER_ID Fatal { Produce: Renumber },
    60 REASSIGNMENT_IN_PROGRESS Fatal,
    61 DELEGATION_TOKEN_AUTH_DISABLED Fatal,
    62 DELEGATION_TOKEN_NOT_FOUND Fatal,
    63 DELEGATION_TOKEN_OWNER_MISMATCH Fatal,
    64 DELEGATION_TOKEN_REQUEST_NOT_ALLOWED Fatal,
    65 DELEGATION_TOKEN_AUTHORIZATION_FAILED Fatal,
    66 DELEGATION_TOKEN_EXPIRED Fatal,
    67 INVALID_PRINCIPAL_TYPE Fatal,
    68 NON_EMPTY_GROUP Fatal,
    69 GROUP_ID_NOT_FOUND Fatal,
    70 FETCH_SESSION_ID_NOT_FOUND Retry,
    71 INVALID_FETCH_SESSION_EPOCH Retry,
    72 LISTENER_NOT_FOUND Refresh,
    73 TOPIC_DELETION_DISABLED Fatal,
    74 FENCED_LEADER_EPOCH Refresh,
    75 UNKNOWN_LEADER_EPOCH Refresh,
    76 UNSUPPORTED_COMPRESSION_TYPE Fatal,
    77 STALE_BROKER_EPOCH Fatal,
    78 OFFSET_NOT_AVAILABLE Retry,
    79 MEMBER_ID_REQUIRED Fatal,
    80 PREFERRED_LEADER_NOT_AVAILABLE Refresh,
    81 GROUP_MAX_SIZE_REACHED Fatal,
    82 FENCED_INSTANCE_ID Fatal,
    83 ELIGIBLE_LEADERS_NOT_AVAILABLE Refresh,
    84 ELECTION_NOT_NEEDED Refresh,
    85 NO_REASSIGNMENT_IN_PROGRESS Fatal,
    86 GROUP_SUBSCRIBED_TO_TOPIC Fatal,
    87 INVALID_RECORD Fatal,
    88 UNSTABLE_OFFSET_COMMIT Retry,
    89 THROTTLING_QUOTA_EXCEEDED Retry,
    90 PRODUCER_FENCED Fatal,
    91 RESOURCE_NOT_FOUND Fatal,
    92 DUPLICATE_RESOURCE Fatal,
    93 UNACCEPTABLE_CREDENTIAL Fatal,
    94 INCONSISTENT_VOTER_SET Fatal,
    95 INVALID_UPDATE_VERSION Fatal,
    96 FEATURE_UPDATE_FAILED Fatal,
    97 PRINCIPAL_DESERIALIZATION_FAILURE Fatal,
    98 SNAPSHOT_NOT_FOUND Fatal,
    99 POSITION_OUT_OF_RANGE Fatal,
    100 UNKNOWN_TOPIC_ID Refresh { Metadata: Missing },
    101 DUPLICATE_BROKER_REGISTRATION Fatal,
    102 BROKER_ID_NOT_REGISTERED Fatal,
    103 INCONSISTENT_TOPIC_ID Refresh,
    104 INCONSISTENT_CLUSTER_ID Fatal,
    105 TRANSACTIONAL_ID_NOT_FOUND Fatal,
    106 FETCH_SESSION_TOPIC_ID_ERROR Retry,
    107 INELIGIBLE_REPLICA Fatal,
    108 NEW_LEADER_ELECTED Fatal,
    109 OFFSET_MOVED_TO_TIERED_STORAGE Fatal,
    110 FENCED_MEMBER_EPOCH Fatal,
    111 UNRELEASED_INSTANCE_ID Fatal,
    112 UNSUPPORTED_ASSIGNOR Fatal,
    113 STALE_MEMBER_EPOCH Fatal,
    114 MISMATCHED_ENDPOINT_TYPE Fatal,
    115 UNSUPPORTED_ENDPOINT_TYPE Fatal,
    116 UNKNOWN_CONTROLLER_ID Fatal,
    117 UNKNOWN_SUBSCRIPTION_ID Fatal,
    118 TELEMETRY_TOO_LARGE Fatal,
    119 INVALID_REGISTRATION Fatal,
    120 TRANSACTION_ABORTABLE Fatal,
    121 INVALID_RECORD_STATE Fatal,
    122 SHARE_SESSION_NOT_FOUND Retry,
    123 INVALID_SHARE_SESSION_EPOCH Retry,
    124 FENCED_STATE_EPOCH Fatal,
    125 INVALID_VOTER_KEY Fatal,
    126 DUPLICATE_VOTER Fatal,
    127 VOTER_NOT_FOUND Fatal,
    128 INVALID_REGULAR_EXPRESSION Fatal,
    129 REBOOTSTRAP_REQUIRED Refresh { Metadata: Rebootstrap },
    130 STREAMS_INVALID_TOPOLOGY Fatal,
    131 STREAMS_INVALID_TOPOLOGY_EPOCH Fatal,
    132 STREAMS_TOPOLOGY_FENCED Fatal,
    133 SHARE_SESSION_LIMIT_REACHED Retry,
    134 GROUP_DELETION_FAILED Fatal,
    135 STREAMS_TOPOLOGY_DESCRIPTION_UPDATE_FAILED Fatal,
    136 CONTROLLER_ID_NOT_REGISTERED Fatal,
}

impl ErrorCode {
    /// Whether there is no error.
    pub const fn is_ok(self) -> bool {
        self.0 == 0
    }

    /// `Ok` for code 0.
    pub const fn ok(self) -> Result<(), Self> {
        if self.is_ok() { Ok(()) } else { Err(self) }
    }

    /// Every code there is, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| Self(row.0))
    }

    fn entry(self) -> Option<&'static Row> {
        TABLE.iter().find(|(number, ..)| *number == self.0)
    }

    /// What `operation` does about it. A code newer than the table may pass.
    pub fn treatment(self, operation: Operation) -> Treatment {
        if self.is_ok() {
            return Treatment::Done;
        }
        let (general, instead) = self.entry().map_or((Treatment::Retry, &[][..]), |row| (row.2, row.3));
        let of_row = instead.iter().find(|(who, _)| *who == operation);
        of_row.map_or_else(|| operation.usually(general), |(_, treatment)| *treatment)
    }

    /// Kafka's name of it, `UNKNOWN` for a code newer than this table.
    pub fn name(self) -> &'static str {
        self.entry().map_or("UNKNOWN", |(_, name, ..)| name)
    }

    /// Whether the same request may succeed later, in general. A code newer than the table may.
    pub fn retriable(self) -> bool {
        !self.is_ok() && self.entry().is_none_or(|(_, _, t, _)| *t != Treatment::Fatal)
    }

    /// Whether the metadata is to be asked for again before the next try, in general.
    pub fn refresh_metadata(self) -> bool {
        self.entry().is_some_and(|(_, _, t, _)| *t == Treatment::Refresh)
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.entry() {
            Some((_, name, ..)) => f.write_str(name),
            None => write!(f, "error code {}", self.0),
        }
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl From<i16> for ErrorCode {
    fn from(code: i16) -> Self {
        Self(code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_has_each_number_once_and_a_newer_code_may_be_tried_again() {
        assert!(TABLE.windows(2).all(|pair| pair[0].0 + 1 == pair[1].0));
        assert!(
            ErrorCode::NOT_LEADER_OR_FOLLOWER.retriable()
                && ErrorCode::NOT_LEADER_OR_FOLLOWER.refresh_metadata()
        );
        assert!(!ErrorCode::TOPIC_AUTHORIZATION_FAILED.retriable());
        assert!(!ErrorCode::NONE.retriable());
        assert!(ErrorCode(9999).retriable());
        assert_eq!(ErrorCode(9999).to_string(), "error code 9999");
        for operation in Operation::ALL {
            assert_eq!(ErrorCode::NONE.treatment(operation), Treatment::Done);
            assert_ne!(ErrorCode(9999).treatment(operation), Treatment::Fatal);
        }
    }

    #[test]
    fn a_row_says_what_differs_and_the_operation_what_it_does_with_the_rest() {
        for (number, name, general, instead) in TABLE {
            assert!(
                matches!(general, Treatment::Fatal | Treatment::Retry | Treatment::Refresh),
                "{name}: the general treatment is one that every operation can give"
            );
            for (operation, treatment) in *instead {
                assert_ne!(
                    operation.usually(*general),
                    *treatment,
                    "{name} need not say it of {operation:?}"
                );
                assert_eq!(ErrorCode(*number).treatment(*operation), *treatment);
                assert_eq!(instead.iter().filter(|(who, _)| who == operation).count(), 1, "{name}");
            }
        }
        let of = |code: ErrorCode, operation| code.treatment(operation);
        assert_eq!(of(ErrorCode::NOT_LEADER_OR_FOLLOWER, Operation::Produce), Treatment::Refresh);
        assert_eq!(of(ErrorCode::NOT_LEADER_OR_FOLLOWER, Operation::OffsetFetch), Treatment::Rediscover);
        assert_eq!(of(ErrorCode::TOPIC_AUTHORIZATION_FAILED, Operation::Produce), Treatment::Fatal);
        assert_eq!(of(ErrorCode::TOPIC_AUTHORIZATION_FAILED, Operation::Fetch), Treatment::Refresh);
        assert_eq!(
            of(ErrorCode::CLUSTER_AUTHORIZATION_FAILED, Operation::InitProducerId),
            Treatment::GoWithout
        );
    }
}
