//! DeleteRecords: the leaders forget what is below an offset (KIP-107).

use super::prelude::*;

message! {
    /// Where one partition shall begin; -1 is its high watermark.
    pub struct DeleteRecordsPartition {
        pub partition_index: i32 => 0..,
        pub offset: i64 => 0..,
    }

    /// The partitions of one topic.
    pub struct DeleteRecordsTopic {
        pub name: Str => 0..,
        pub partitions: Vec<DeleteRecordsPartition> => 0..,
    }

    /// Deletes what is below offsets. The time-out is how long the leaders wait for their followers.
    pub struct DeleteRecordsRequest {
        pub topics: Vec<DeleteRecordsTopic> => 0..,
        pub timeout_ms: i32 => 0..,
    }

    /// Where one partition begins now.
    pub struct DeleteRecordsPartitionResult {
        pub partition_index: i32 => 0..,
        pub low_watermark: i64 => 0..,
        pub error_code: i16 => 0..,
    }

    /// The partitions of one topic.
    pub struct DeleteRecordsTopicResult {
        pub name: Str => 0..,
        pub partitions: Vec<DeleteRecordsPartitionResult> => 0..,
    }

    /// Where each begins now.
    pub struct DeleteRecordsResponse {
        pub throttle_time_ms: i32 => 0..,
        pub topics: Vec<DeleteRecordsTopicResult> => 0..,
    }
}
api!(DeleteRecordsRequest => DeleteRecordsResponse, DeleteRecords, 0..=2, flexible 2);
