//! DescribeConfigs: the settings of topics (resource type 2) and brokers (4), and where each comes from (KIP-133, KIP-226).
//! What is about one broker is asked of that broker.

use super::prelude::*;

message! {
    /// A topic or a broker, and the settings asked for; `None` means all.
    pub struct DescribeConfigsResource {
        pub resource_type: i8 => 0..,
        pub resource_name: Str => 0..,
        pub configuration_keys: Option<Vec<Str>> => 0..,
    }

    /// Asks for settings, with what they would fall back to and with what they mean on demand.
    pub struct DescribeConfigsRequest {
        pub resources: Vec<DescribeConfigsResource> => 0..,
        pub include_synonyms: bool => 1..,
        pub include_documentation: bool => 3..,
    }

    /// Another place the setting could come from, in the order they are looked at.
    pub struct DescribeConfigsSynonym {
        pub name: Str => 1..,
        pub value: Option<Str> => 1..,
        pub source: i8 => 1..,
    }

    /// A setting. The source is 1 for the topic's own, 2 for this broker's, 3 for all brokers', 4 for the broker's file, 5
    /// for Kafka's default. A sensitive one comes without its value.
    pub struct DescribeConfigsResourceResult {
        pub name: Str => 0..,
        pub value: Option<Str> => 0..,
        pub read_only: bool => 0..,
        pub config_source: i8 = -1 => 1..,
        pub is_sensitive: bool => 0..,
        pub synonyms: Vec<DescribeConfigsSynonym> => 1..,
        pub config_type: i8 => 3..,
        pub documentation: Option<Str> => 3..,
    }

    /// The settings of one topic or broker.
    pub struct DescribeConfigsResult {
        pub error_code: i16 => 0..,
        pub error_message: Option<Str> => 0..,
        pub resource_type: i8 => 0..,
        pub resource_name: Str => 0..,
        pub configs: Vec<DescribeConfigsResourceResult> => 0..,
    }

    /// The settings.
    pub struct DescribeConfigsResponse {
        pub throttle_time_ms: i32 => 0..,
        pub results: Vec<DescribeConfigsResult> => 0..,
    }
}
api!(DescribeConfigsRequest => DescribeConfigsResponse, DescribeConfigs, 1..=4, flexible 4);
