//! IncrementalAlterConfigs: changes the settings named and leaves the others (KIP-339). Kafka 2.3 is the first that has it.

use super::prelude::*;

message! {
    /// What is done to one setting: 0 sets it, 1 takes it away, 2 appends to its list, 3 takes from its list. The value may
    /// be a password.
    pub struct AlterableConfig {
        pub name: Str => 0..,
        pub config_operation: i8 => 0..,
        pub value: Secret<Option<Str>> => 0..,
    }

    /// A topic (type 2) or a broker (4), and the changes.
    pub struct AlterConfigsResource {
        pub resource_type: i8 => 0..,
        pub resource_name: Str => 0..,
        pub configs: Vec<AlterableConfig> => 0..,
    }

    /// Changes settings, or only checks whether they could be changed.
    pub struct IncrementalAlterConfigsRequest {
        pub resources: Vec<AlterConfigsResource> => 0..,
        pub validate_only: bool => 0..,
    }

    /// What became of one topic or broker: all its changes were made, or none.
    pub struct AlterConfigsResourceResponse {
        pub error_code: i16 => 0..,
        pub error_message: Option<Str> => 0..,
        pub resource_type: i8 => 0..,
        pub resource_name: Str => 0..,
    }

    /// What became of each.
    pub struct IncrementalAlterConfigsResponse {
        pub throttle_time_ms: i32 => 0..,
        pub responses: Vec<AlterConfigsResourceResponse> => 0..,
    }
}
api!(
    IncrementalAlterConfigsRequest => IncrementalAlterConfigsResponse, IncrementalAlterConfigs, 0..=1, flexible 1
);
