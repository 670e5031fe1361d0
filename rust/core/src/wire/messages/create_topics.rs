//! CreateTopics: to the controller where there is ZooKeeper; a KRaft broker forwards it.

use super::prelude::*;

message! {
    /// A partition placed by hand.
    pub struct CreatableReplicaAssignment {
        pub partition_index: i32 => 0..,
        pub broker_ids: Vec<i32> => 0..,
    }

    /// A setting of the new topic.
    pub struct CreatableTopicConfig {
        pub name: Str => 0..,
        pub value: Option<Str> => 0..,
    }

    /// A topic to create; -1 partitions or replicas mean the broker's default.
    pub struct CreatableTopic {
        pub name: Str => 0..,
        pub num_partitions: i32 => 0..,
        pub replication_factor: i16 => 0..,
        pub assignments: Vec<CreatableReplicaAssignment> => 0..,
        pub configs: Vec<CreatableTopicConfig> => 0..,
    }

    /// Creates topics, or only checks whether they could be created.
    pub struct CreateTopicsRequest {
        pub topics: Vec<CreatableTopic> => 0..,
        pub timeout_ms: i32 = 60_000 => 0..,
        pub validate_only: bool => 1..,
    }

    /// A setting the topic got.
    pub struct CreatableTopicConfigs {
        pub name: Str => 5..,
        pub value: Option<Str> => 5..,
        pub read_only: bool => 5..,
        pub config_source: i8 = -1 => 5..,
        pub is_sensitive: bool => 5..,
    }

    /// What became of one topic.
    pub struct CreatableTopicResult {
        pub name: Str => 0..,
        pub topic_id: Uuid => 7..,
        pub error_code: i16 => 0..,
        pub error_message: Option<Str> => 1..,
        pub num_partitions: i32 = -1 => 5..,
        pub replication_factor: i16 = -1 => 5..,
        pub configs: Option<Vec<CreatableTopicConfigs>> = Some(Vec::new()) => 5..,
    } tagged {
        0: pub topic_config_error_code: i16 => 5..,
    }

    /// What became of every topic.
    pub struct CreateTopicsResponse {
        pub throttle_time_ms: i32 => 2..,
        pub topics: Vec<CreatableTopicResult> => 0..,
    }
}
api!(CreateTopicsRequest => CreateTopicsResponse, CreateTopics, 2..=7, flexible 5);
