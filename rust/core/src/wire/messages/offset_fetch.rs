//! OffsetFetch: offsets of a group, as they were committed.

use super::prelude::*;

message! {
    /// The partitions of one topic.
    pub struct OffsetFetchRequestTopic {
        pub name: Str = "".into() => 0..,
        pub partition_indexes: Vec<i32> => 0..,
    }

    /// Asks for offsets; `None` means all the group has. With `require_stable` a partition that an open transaction has committed
    /// is answered with UNSTABLE_OFFSET_COMMIT (KIP-447).
    pub struct OffsetFetchRequest {
        pub group_id: Str = "".into() => 0..,
        pub topics: Option<Vec<OffsetFetchRequestTopic>> => 0..,
        pub require_stable: bool => 7..,
    }

    /// One partition's offset, -1 when none is committed.
    pub struct OffsetFetchResponsePartition {
        pub partition_index: i32 => 0..,
        pub committed_offset: i64 => 0..,
        pub committed_leader_epoch: i32 = -1 => 5..,
        pub metadata: Option<Str> => 0..,
        pub error_code: i16 => 0..,
    }

    /// The partitions of one topic.
    pub struct OffsetFetchResponseTopic {
        pub name: Str = "".into() => 0..,
        pub partitions: Vec<OffsetFetchResponsePartition> => 0..,
    }

    /// The offsets.
    pub struct OffsetFetchResponse {
        pub throttle_time_ms: i32 => 3..,
        pub topics: Vec<OffsetFetchResponseTopic> => 0..,
        pub error_code: i16 => 2..,
    }
}
// From version 5, which has leader epochs (KIP-320; Kafka 2.1). Version 8 asks for several groups at once (KIP-709).
api!(OffsetFetchRequest => OffsetFetchResponse, OffsetFetch, 5..=7, flexible 6);
