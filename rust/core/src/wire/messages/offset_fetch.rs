//! OffsetFetch: a group's offsets, as they were committed.

use super::prelude::*;

message! {
    /// The partitions of one topic.
    pub struct OffsetFetchTopic {
        pub name: Str = "".into() => 0..,
        pub partition_indexes: Vec<i32> => 0..,
    }

    /// Asks for offsets.
    pub struct OffsetFetchRequest {
        pub group_id: Str = "".into() => 0..,
        pub topics: Vec<OffsetFetchTopic> => 0..,
        pub require_stable: bool => 7..,
    }

    /// One partition's offset, -1 when none is committed.
    pub struct OffsetFetchPartitionResult {
        pub partition_index: i32 => 0..,
        pub committed_offset: i64 = -1 => 0..,
        pub committed_leader_epoch: i32 = -1 => 5..,
        pub metadata: Option<Str> => 0..,
        pub error_code: i16 => 0..,
    }

    /// The partitions of one topic.
    pub struct OffsetFetchTopicResult {
        pub name: Str = "".into() => 0..,
        pub partitions: Vec<OffsetFetchPartitionResult> => 0..,
    }

    /// The answers.
    pub struct OffsetFetchResponse {
        pub throttle_time_ms: i32 => 3..,
        pub topics: Vec<OffsetFetchTopicResult> => 0..,
        pub error_code: i16 => 2..,
    }
}
// Since version 5 with leader epochs; version 8 asks for several groups at once (KIP-709).
api!(OffsetFetchRequest => OffsetFetchResponse, OffsetFetch, 5..=7, flexible 6);
