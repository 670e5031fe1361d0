//! The table against what Kafka's own client does, code by code. A change of a treatment is a change here.

use kafka_protocol::ResponseError;

use super::*;

/// Kafka's `InvalidMetadataException`s.
const STALE: [i16; 13] = [3, 5, 6, 9, 13, 56, 72, 74, 80, 83, 84, 100, 103];

/// Where we look at the metadata and Kafka's client does not: it gives up on a broker that is not available (8), knows by the
/// request that it wants the controller (41), waits until it knows the leader's epoch (75), and starts over (129).
const STALE_TO_US: [i16; 4] = [8, 41, 75, 129];

#[test]
fn the_metadata_is_asked_for_when_it_is_stale() {
    for code in codes() {
        let is_stale = STALE.contains(&code.0) || STALE_TO_US.contains(&code.0);
        assert_eq!(code.refresh_metadata(), is_stale, "{code}");
    }
}

/// Whether the same request may succeed later: Kafka's `RetriableException`s and the four that are at the broker's fault. Of
/// codes newer than kafka-protocol's the three we know do not pass.
fn may_pass(code: ErrorCode) -> bool {
    let at_the_brokers_fault = [-1, 8, 51, 129];
    match code.0 {
        134..=136 => false,
        9999 => true,
        number => {
            let theirs = ResponseError::try_from_code(number).expect("not success");
            theirs.is_retriable() || at_the_brokers_fault.contains(&number)
        }
    }
}

/// What an operation does about a code, if that is not what it does about all that pass, or do not.
fn special(operation: Operation, code: i16) -> Option<Treatment> {
    match (operation, code) {
        (Operation::Produce, -1 | 2) => Some(Treatment::RetryAWhile),
        (Operation::Produce, 10 | 18) => Some(Treatment::Split),
        (Operation::Produce, 45 | 47 | 49 | 59) => Some(Treatment::Renumber),
        (Operation::Produce, 46) => Some(Treatment::Done),
        (Operation::Fetch, 1) => Some(Treatment::Reset),
        (Operation::Metadata, 3 | 100) => Some(Treatment::Missing),
        (Operation::Metadata, 129) => Some(Treatment::Rebootstrap),
        (Operation::OffsetCommit, -1 | 28) => Some(Treatment::Split),
        (Operation::OffsetCommit, 3 | 12 | 29) => Some(Treatment::FailPartition),
        (Operation::OffsetFetch, 3) => Some(Treatment::Done),
        // While a coordinator loads it is the one.
        (Operation::OffsetCommit | Operation::OffsetFetch, 14) => Some(Treatment::Retry),
        (Operation::CreateTopics, 36) => Some(Treatment::DoneIfTried),
        _ => None,
    }
}

#[test]
fn each_operation_treats_each_code_as_it_should() {
    for operation in Operation::ALL {
        for code in codes() {
            let is_stale = STALE.contains(&code.0) || STALE_TO_US.contains(&code.0);
            let usual = match operation {
                Operation::Fetch => Treatment::Refresh,
                Operation::InitProducerId if !may_pass(code) => Treatment::GoWithout,
                _ if !may_pass(code) => Treatment::Fatal,
                Operation::OffsetCommit | Operation::OffsetFetch => Treatment::Rediscover,
                Operation::ListOffsets | Operation::CreateTopics => Treatment::Refresh,
                Operation::Produce if is_stale => Treatment::Refresh,
                _ => Treatment::Retry,
            };
            let expected = special(operation, code.0).unwrap_or(usual);
            assert_eq!(code.treatment(operation), expected, "{operation:?} {code}");
        }
    }
}
