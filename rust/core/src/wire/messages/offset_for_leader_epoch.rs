//! OffsetForLeaderEpoch: where a leader epoch ends in the leader's log (KIP-101, KIP-320). What a partition held above
//! that offset under the old leader is gone.

use super::prelude::*;

message! {
    /// One partition asked about.
    pub struct OffsetForLeaderPartition {
        pub partition: i32 => 0..,
        pub current_leader_epoch: i32 = -1 => 2..,
        pub leader_epoch: i32 => 0..,
    }

    /// The partitions of one topic.
    pub struct OffsetForLeaderTopic {
        pub topic: Str => 0..,
        pub partitions: Vec<OffsetForLeaderPartition> => 0..,
    }

    /// Asks leaders where epochs end. Consumers leave the replica id at -1.
    pub struct OffsetForLeaderEpochRequest {
        pub replica_id: i32 = -1 => 3..,
        pub topics: Vec<OffsetForLeaderTopic> => 0..,
    }

    /// Where an epoch ends: the largest epoch not above the one asked about, and the offset behind its last record; -1
    /// for both when the leader knows of none.
    pub struct EpochEndOffsetAnswer {
        pub error_code: i16 => 0..,
        pub partition: i32 => 0..,
        pub leader_epoch: i32 = -1 => 1..,
        pub end_offset: i64 = -1 => 0..,
    }

    /// The partitions of one topic.
    pub struct OffsetForLeaderTopicResult {
        pub topic: Str => 0..,
        pub partitions: Vec<EpochEndOffsetAnswer> => 0..,
    }

    /// The answers.
    pub struct OffsetForLeaderEpochResponse {
        pub throttle_time_ms: i32 => 2..,
        pub topics: Vec<OffsetForLeaderTopicResult> => 0..,
    }
}
api!(OffsetForLeaderEpochRequest => OffsetForLeaderEpochResponse, OffsetForLeaderEpoch, 2..=4, flexible 4);
