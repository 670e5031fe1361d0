//! ListOffsets: the offset that belongs to a time, the earliest (-2) or the latest (-1), that of the largest timestamp (-3, KIP-734), or
//! the earliest on the leader's own disk (-4, KIP-405). A broker that does not know the last two would look for a time.

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
api!(
    ListOffsetsRequest => ListOffsetsResponse, ListOffsets, 1..=11, flexible 6,
    from |request| {
        let times = request.topics.iter().flat_map(|topic| &topic.partitions).map(|p| p.timestamp);
        times.map(|time| match time { -4 => 8, -3 => 7, _ => 1 }).max().unwrap_or(1)
    }
);
