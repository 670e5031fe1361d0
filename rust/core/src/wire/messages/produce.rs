//! Produce: record batches to the leaders of their partitions. From version 13 a topic is named by its id.

use super::prelude::*;

message! {
    /// The batches of one partition.
    pub struct PartitionProduceData {
        pub index: i32 => 0..,
        pub records: Option<Bytes> => 0..,
    }

    /// The partitions of one topic.
    pub struct TopicProduceData {
        pub name: Str => 0..=12,
        pub topic_id: Uuid => 13..,
        pub partition_data: Vec<PartitionProduceData> => 0..,
    }

    /// Writes batches; `acks` is 0, 1 or -1 (all).
    pub struct ProduceRequest {
        pub transactional_id: Option<Str> => 3..,
        pub acks: i16 => 0..,
        pub timeout_ms: i32 => 0..,
        pub topic_data: Vec<TopicProduceData> => 0..,
    }

    /// Why one record of a batch was refused.
    pub struct BatchIndexAndErrorMessage {
        pub batch_index: i32 => 8..,
        pub batch_index_error_message: Option<Str> => 8..,
    }

    /// Who leads a partition now (KIP-951).
    pub struct LeaderIdAndEpoch {
        pub leader_id: i32 = -1 => 0..,
        pub leader_epoch: i32 = -1 => 0..,
    }

    /// Where a broker named by a leader hint listens (KIP-951).
    pub struct NodeEndpoint {
        pub node_id: i32 => 0..,
        pub host: Str => 0..,
        pub port: i32 => 0..,
        pub rack: Option<Str> => 0..,
    }

    /// What became of one partition's batches.
    pub struct PartitionProduceResponse {
        pub index: i32 => 0..,
        pub error_code: i16 => 0..,
        pub base_offset: i64 => 0..,
        pub log_append_time_ms: i64 = -1 => 2..,
        pub log_start_offset: i64 = -1 => 5..,
        pub record_errors: Vec<BatchIndexAndErrorMessage> => 8..,
        pub error_message: Option<Str> => 8..,
    } tagged {
        0: pub current_leader: LeaderIdAndEpoch => 10..,
    }

    /// What became of one topic's batches.
    pub struct TopicProduceResponse {
        pub name: Str => 0..=12,
        pub topic_id: Uuid => 13..,
        pub partition_responses: Vec<PartitionProduceResponse> => 0..,
    }

    /// What became of every batch.
    pub struct ProduceResponse {
        pub responses: Vec<TopicProduceResponse> => 0..,
        pub throttle_time_ms: i32 => 1..,
    } tagged {
        0: pub node_endpoints: Vec<NodeEndpoint> => 10..,
    }
}
// Brokers of 4.x list versions 0-2 in ApiVersions and refuse them: batches of magic 2 begin at version 3.
// A topic whose id is not known is named.
api!(
    ProduceRequest => ProduceResponse, Produce, 3..=13, flexible 9,
    up_to |request| if request.topic_data.iter().any(|topic| topic.topic_id.is_zero()) { 12 } else { 13 }
);
