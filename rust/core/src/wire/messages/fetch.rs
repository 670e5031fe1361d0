//! Fetch: record batches from the leaders of their partitions. From version 13 a topic is named by its id.

use super::prelude::*;
use super::{LeaderIdAndEpoch, NodeEndpoint};

message! {
    /// One partition to read. A request cannot carry the same partition twice.
    pub struct FetchPartition {
        pub partition: i32 => 0..,
        pub current_leader_epoch: i32 = -1 => 9..,
        pub fetch_offset: i64 => 0..,
        pub last_fetched_epoch: i32 = -1 => 12..,
        pub log_start_offset: i64 = -1 => 5..,
        pub partition_max_bytes: i32 => 0..,
    } tagged {
        0: pub replica_directory_id: Uuid => 17..,
        1: pub high_watermark: i64 = i64::MAX => 18..,
    }

    /// The partitions of one topic.
    pub struct FetchTopic {
        pub topic: Str => 0..=12,
        pub topic_id: Uuid => 13..,
        pub partitions: Vec<FetchPartition> => 0..,
    }

    /// Partitions to take out of a fetch session (KIP-227).
    pub struct ForgottenTopic {
        pub topic: Str => 7..=12,
        pub topic_id: Uuid => 13..,
        pub partitions: Vec<i32> => 7..,
    }

    /// Who a follower is; consumers leave it at its default.
    pub struct ReplicaState {
        pub replica_id: i32 = -1 => 15..,
        pub replica_epoch: i64 = -1 => 15..,
    }

    /// Reads partitions. Session id 0 and epoch -1 mean: no session (KIP-227).
    pub struct FetchRequest {
        pub replica_id: i32 = -1 => 0..=14,
        pub max_wait_ms: i32 => 0..,
        pub min_bytes: i32 => 0..,
        pub max_bytes: i32 = i32::MAX => 3..,
        pub isolation_level: i8 => 4..,
        pub session_id: i32 => 7..,
        pub session_epoch: i32 = -1 => 7..,
        pub topics: Vec<FetchTopic> => 0..,
        pub forgotten_topics_data: Vec<ForgottenTopic> => 7..,
        pub rack_id: Str => 11..,
    } tagged {
        0: pub cluster_id: Option<Str> => 12..,
        1: pub replica_state: ReplicaState => 15..,
    }

    /// A transaction that was aborted.
    pub struct AbortedTransaction {
        pub producer_id: i64 => 4..,
        pub first_offset: i64 => 4..,
    }

    /// Where logs diverge.
    pub struct EpochEndOffset {
        pub epoch: i32 = -1 => 12..,
        pub end_offset: i64 = -1 => 12..,
    }

    /// A snapshot a follower should load.
    pub struct SnapshotId {
        pub end_offset: i64 = -1 => 0..,
        pub epoch: i32 = -1 => 0..,
    }

    /// One partition's batches; the last one may be cut off.
    pub struct PartitionData {
        pub partition_index: i32 => 0..,
        pub error_code: i16 => 0..,
        pub high_watermark: i64 => 0..,
        pub last_stable_offset: i64 = -1 => 4..,
        pub log_start_offset: i64 = -1 => 5..,
        pub aborted_transactions: Option<Vec<AbortedTransaction>> => 4..,
        pub preferred_read_replica: i32 = -1 => 11..,
        pub records: Option<Bytes> => 0..,
    } tagged {
        0: pub diverging_epoch: EpochEndOffset => 12..,
        1: pub current_leader: LeaderIdAndEpoch => 12..,
        2: pub snapshot_id: SnapshotId => 12..,
    }

    /// The partitions of one topic.
    pub struct FetchableTopicResponse {
        pub topic: Str => 0..=12,
        pub topic_id: Uuid => 13..,
        pub partitions: Vec<PartitionData> => 0..,
    }

    /// What was read.
    pub struct FetchResponse {
        pub throttle_time_ms: i32 => 1..,
        pub error_code: i16 => 7..,
        pub session_id: i32 => 7..,
        pub responses: Vec<FetchableTopicResponse> => 0..,
    } tagged {
        0: pub node_endpoints: Vec<NodeEndpoint> => 16..,
    }
}
// A cluster that was upgraded from before 2.8 and still runs its old protocol has brokers of these versions and no ids.
api!(
    FetchRequest => FetchResponse, Fetch, 4..=18, flexible 12,
    up_to |request| {
        let without_id = request.topics.iter().any(|topic| topic.topic_id.is_zero())
            || request.forgotten_topics_data.iter().any(|topic| topic.topic_id.is_zero());
        if without_id { 12 } else { 18 }
    }
);
