//! CreatePartitions: more partitions for a topic (KIP-195). To the controller where there is ZooKeeper.

use super::prelude::*;

message! {
    /// The brokers that one new partition is placed on, the preferred leader first.
    pub struct CreatePartitionsAssignment {
        pub broker_ids: Vec<i32> => 0..,
    }

    /// How many partitions a topic shall have in all. `None` leaves to the broker where the new ones are placed, else there
    /// is one assignment each.
    pub struct CreatePartitionsTopic {
        pub name: Str => 0..,
        pub count: i32 => 0..,
        pub assignments: Option<Vec<CreatePartitionsAssignment>> => 0..,
    }

    /// Creates partitions, or only checks whether they could be created.
    pub struct CreatePartitionsRequest {
        pub topics: Vec<CreatePartitionsTopic> => 0..,
        pub timeout_ms: i32 => 0..,
        pub validate_only: bool => 0..,
    }

    /// What became of one topic.
    pub struct CreatePartitionsTopicResult {
        pub name: Str => 0..,
        pub error_code: i16 => 0..,
        pub error_message: Option<Str> => 0..,
    }

    /// What became of every topic.
    pub struct CreatePartitionsResponse {
        pub throttle_time_ms: i32 => 0..,
        pub results: Vec<CreatePartitionsTopicResult> => 0..,
    }
}
api!(CreatePartitionsRequest => CreatePartitionsResponse, CreatePartitions, 0..=3, flexible 2);
