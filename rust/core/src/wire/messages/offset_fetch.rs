//! OffsetFetch: offsets of a group, as they were committed.

use super::prelude::*;

message! {
    /// The partitions of one topic.
    pub struct OffsetFetchRequestTopic {
        pub name: Str => 0..=9,
        pub topic_id: Uuid => 10..,
        pub partition_indexes: Vec<i32> => 0..,
    }

    /// One group of several; `None` means all topics it has. Who is no member says `None` and epoch -1 (KIP-848).
    pub struct OffsetFetchRequestGroup {
        pub group_id: Str => 8..,
        pub member_id: Option<Str> => 9..,
        pub member_epoch: i32 = -1 => 9..,
        pub topics: Option<Vec<OffsetFetchRequestTopic>> => 8..,
    }

    /// Asks for offsets; `None` means all the group has. Since version 8 it may ask for several groups at once (KIP-709). With
    /// `require_stable` a partition that an open transaction has committed is answered with UNSTABLE_OFFSET_COMMIT (KIP-447).
    pub struct OffsetFetchRequest {
        pub group_id: Str => 0..=7,
        pub topics: Option<Vec<OffsetFetchRequestTopic>> => 0..=7,
        pub groups: Vec<OffsetFetchRequestGroup> => 8..,
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
        pub name: Str => 0..=9,
        pub topic_id: Uuid => 10..,
        pub partitions: Vec<OffsetFetchResponsePartition> => 0..,
    }

    /// The offsets of one group of several.
    pub struct OffsetFetchResponseGroup {
        pub group_id: Str => 8..,
        pub topics: Vec<OffsetFetchResponseTopic> => 8..,
        pub error_code: i16 => 8..,
    }

    /// The offsets, since version 8 of each group.
    pub struct OffsetFetchResponse {
        pub throttle_time_ms: i32 => 3..,
        pub topics: Vec<OffsetFetchResponseTopic> => 0..=7,
        pub error_code: i16 => 2..=7,
        pub groups: Vec<OffsetFetchResponseGroup> => 8..,
    }
}
// From version 5, which has leader epochs (KIP-320; Kafka 2.1).
api!(
    OffsetFetchRequest => OffsetFetchResponse, OffsetFetch, 5..=10, flexible 6,
    up_to |request| {
        let without_id = |topic: &OffsetFetchRequestTopic| topic.topic_id.is_zero();
        match &request.groups[..] {
            [] => 7,
            groups if groups.iter().flat_map(|group| group.topics.iter().flatten()).any(without_id) => 9,
            _ => 10,
        }
    }
);
