//! OffsetCommit: offsets of a group, kept by its coordinator. Who is no member of the group says epoch -1 and an empty member
//! id; the coordinator takes that as long as the group has no members.

use super::prelude::*;

message! {
    /// One partition's offset. The metadata is any text, as a rule at most 4096 characters (`offset.metadata.max.bytes`).
    pub struct OffsetCommitRequestPartition {
        pub partition_index: i32 => 0..,
        pub committed_offset: i64 => 0..,
        pub committed_leader_epoch: i32 = -1 => 6..,
        pub committed_metadata: Option<Str> => 0..,
    }

    /// The partitions of one topic.
    pub struct OffsetCommitRequestTopic {
        pub name: Str => 0..=9,
        pub topic_id: Uuid => 10..,
        pub partitions: Vec<OffsetCommitRequestPartition> => 0..,
    }

    /// Commits offsets.
    pub struct OffsetCommitRequest {
        pub group_id: Str => 0..,
        pub generation_id_or_member_epoch: i32 = -1 => 1..,
        pub member_id: Str => 1..,
        pub group_instance_id: Option<Str> => 7..,
        pub topics: Vec<OffsetCommitRequestTopic> => 0..,
    }

    /// What became of one partition's.
    pub struct OffsetCommitResponsePartition {
        pub partition_index: i32 => 0..,
        pub error_code: i16 => 0..,
    }

    /// The partitions of one topic.
    pub struct OffsetCommitResponseTopic {
        pub name: Str => 0..=9,
        pub topic_id: Uuid => 10..,
        pub partitions: Vec<OffsetCommitResponsePartition> => 0..,
    }

    /// What became of each. There is no error code for the whole: what concerns the group stands at every partition.
    pub struct OffsetCommitResponse {
        pub throttle_time_ms: i32 => 3..,
        pub topics: Vec<OffsetCommitResponseTopic> => 0..,
    }
}
// From version 6, which has leader epochs (KIP-320; Kafka 2.1). Version 9 differs for members under KIP-848 only, and 10 names
// topics by id.
api!(
    OffsetCommitRequest => OffsetCommitResponse, OffsetCommit, 6..=10, flexible 8,
    up_to |request| if request.topics.iter().any(|topic| topic.topic_id.is_zero()) { 9 } else { 10 }
);
