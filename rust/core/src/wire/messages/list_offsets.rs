//! ListOffsets: the offset that belongs to a time, the earliest (-2) or the latest (-1).

use super::prelude::*;

message! {
    /// One partition asked about.
    pub struct ListOffsetsPartition {
        pub partition_index: i32 => 0..,
        pub current_leader_epoch: i32 = -1 => 4..,
        pub timestamp: i64 => 0..,
    }

    /// The partitions of one topic.
    pub struct ListOffsetsTopic {
        pub name: Str => 0..,
        pub partitions: Vec<ListOffsetsPartition> => 0..,
    }

    /// Asks the leaders for offsets.
    pub struct ListOffsetsRequest {
        pub replica_id: i32 = -1 => 0..,
        pub isolation_level: i8 => 2..,
        pub topics: Vec<ListOffsetsTopic> => 0..,
        pub timeout_ms: i32 => 10..,
    }

    /// One partition's offset; -1 when no record is that young.
    pub struct ListOffsetsPartitionResponse {
        pub partition_index: i32 => 0..,
        pub error_code: i16 => 0..,
        pub timestamp: i64 = -1 => 1..,
        pub offset: i64 = -1 => 1..,
        pub leader_epoch: i32 = -1 => 4..,
    }

    /// The partitions of one topic.
    pub struct ListOffsetsTopicResponse {
        pub name: Str => 0..,
        pub partitions: Vec<ListOffsetsPartitionResponse> => 0..,
    }

    /// The offsets.
    pub struct ListOffsetsResponse {
        pub throttle_time_ms: i32 => 2..,
        pub topics: Vec<ListOffsetsTopicResponse> => 0..,
    }
}
api!(ListOffsetsRequest => ListOffsetsResponse, ListOffsets, 1..=11, flexible 6);
