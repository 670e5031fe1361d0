//! DeleteTopics: to the controller where there is ZooKeeper; a KRaft broker forwards it.

use super::prelude::*;

message! {
    /// A topic to delete, by name or by id; the other one stays empty.
    pub struct DeleteTopicState {
        pub name: Option<Str> => 6..,
        pub topic_id: Uuid => 6..,
    }

    /// Deletes topics: `topics` since version 6, `topic_names` before.
    pub struct DeleteTopicsRequest {
        pub topics: Vec<DeleteTopicState> => 6..,
        pub topic_names: Vec<Str> => 0..=5,
        pub timeout_ms: i32 => 0..,
    }

    /// What became of one topic. Its name is null when it was asked for by id and the asker may not know the name.
    pub struct DeletableTopicResult {
        pub name: Option<Str> => 0..,
        pub topic_id: Uuid => 6..,
        pub error_code: i16 => 0..,
        pub error_message: Option<Str> => 5..,
    }

    /// What became of every topic.
    pub struct DeleteTopicsResponse {
        pub throttle_time_ms: i32 => 1..,
        pub responses: Vec<DeletableTopicResult> => 0..,
    }
}
api!(
    DeleteTopicsRequest => DeleteTopicsResponse, DeleteTopics, 1..=6, flexible 4,
    up_to |request| if request.topics.is_empty() { 5 } else { 6 }
);
