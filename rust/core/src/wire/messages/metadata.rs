//! Metadata: the brokers, and the topics with their partitions and leaders.

use super::prelude::*;

message! {
    /// A topic asked for, by name or (since version 10) by id.
    pub struct MetadataRequestTopic {
        pub topic_id: Uuid => 10..,
        pub name: Option<Str> => 0..,
    }

    /// Asks for topics; `None` means all, an empty list none (only the brokers).
    pub struct MetadataRequest {
        pub topics: Option<Vec<MetadataRequestTopic>> => 0..,
        pub allow_auto_topic_creation: bool = true => 4..,
        pub include_cluster_authorized_operations: bool => 8..=10,
        pub include_topic_authorized_operations: bool => 8..,
    }

    /// A broker and where it listens.
    pub struct MetadataResponseBroker {
        pub node_id: i32 => 0..,
        pub host: Str => 0..,
        pub port: i32 => 0..,
        pub rack: Option<Str> => 1..,
    }

    /// A partition and its leader; the leader is -1 while there is none.
    pub struct MetadataResponsePartition {
        pub error_code: i16 => 0..,
        pub partition_index: i32 => 0..,
        pub leader_id: i32 => 0..,
        pub leader_epoch: i32 = -1 => 7..,
        pub replica_nodes: Vec<i32> => 0..,
        pub isr_nodes: Vec<i32> => 0..,
        pub offline_replicas: Vec<i32> => 5..,
    }

    /// A topic.
    pub struct MetadataResponseTopic {
        pub error_code: i16 => 0..,
        pub name: Option<Str> => 0..,
        pub topic_id: Uuid => 10..,
        pub is_internal: bool => 1..,
        pub partitions: Vec<MetadataResponsePartition> => 0..,
        pub topic_authorized_operations: i32 = i32::MIN => 8..,
    }

    /// The brokers and the topics asked for.
    pub struct MetadataResponse {
        pub throttle_time_ms: i32 => 3..,
        pub brokers: Vec<MetadataResponseBroker> => 0..,
        pub cluster_id: Option<Str> => 2..,
        pub controller_id: i32 = -1 => 1..,
        pub topics: Vec<MetadataResponseTopic> => 0..,
        pub cluster_authorized_operations: i32 = i32::MIN => 8..=10,
        pub error_code: i16 => 13..,
    }
}
api!(MetadataRequest => MetadataResponse, Metadata, 4..=13, flexible 9);
