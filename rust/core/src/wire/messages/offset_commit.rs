//! OffsetCommit: a group's offsets, kept by Kafka. A committer that is no member of the group says generation -1 and no
//! member id; the broker takes that as long as the group has no members.

use super::prelude::*;

message! {
    /// One partition's offset.
    pub struct OffsetCommitPartition {
        pub partition_index: i32 => 0..,
        pub committed_offset: i64 => 0..,
        pub committed_leader_epoch: i32 = -1 => 6..,
        pub committed_metadata: Option<Str> => 0..,
    }

    /// The partitions of one topic.
    pub struct OffsetCommitTopic {
        pub name: Str = "".into() => 0..,
        pub partitions: Vec<OffsetCommitPartition> => 0..,
    }

    /// Commits offsets.
    pub struct OffsetCommitRequest {
        pub group_id: Str = "".into() => 0..,
        pub generation_id_or_member_epoch: i32 = -1 => 1..,
        pub member_id: Str = "".into() => 1..,
        pub group_instance_id: Option<Str> => 7..,
        pub topics: Vec<OffsetCommitTopic> => 0..,
    }

    /// What became of one partition's.
    pub struct OffsetCommitPartitionResult {
        pub partition_index: i32 => 0..,
        pub error_code: i16 => 0..,
    }

    /// The partitions of one topic.
    pub struct OffsetCommitTopicResult {
        pub name: Str = "".into() => 0..,
        pub partitions: Vec<OffsetCommitPartitionResult> => 0..,
    }

    /// The answers.
    pub struct OffsetCommitResponse {
        pub throttle_time_ms: i32 => 3..,
        pub topics: Vec<OffsetCommitTopicResult> => 0..,
    }
}
// Since version 6 with leader epochs (KIP-320), which recovery needs; version 10 names topics by id.
api!(OffsetCommitRequest => OffsetCommitResponse, OffsetCommit, 6..=8, flexible 8);
