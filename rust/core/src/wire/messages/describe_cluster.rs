//! DescribeCluster: the brokers, the controller and the cluster's id (KIP-700). Kafka 2.8 is the first that has it.

use super::prelude::*;

message! {
    /// Asks about the cluster: its brokers (endpoint type 1) or its controllers (2, KIP-919). Fenced brokers are those that the
    /// controller does not hear of.
    pub struct DescribeClusterRequest {
        pub include_cluster_authorized_operations: bool => 0..,
        pub endpoint_type: i8 = 1 => 1..,
        pub include_fenced_brokers: bool => 2..,
    }

    /// A broker and where it listens.
    pub struct DescribeClusterBroker {
        pub broker_id: i32 => 0..,
        pub host: Str => 0..,
        pub port: i32 => 0..,
        pub rack: Option<Str> => 0..,
        pub is_fenced: bool => 2..,
    }

    /// The cluster. The operations are a set of bits, `i32::MIN` when nobody asked; the controller is -1 while there is none.
    pub struct DescribeClusterResponse {
        pub throttle_time_ms: i32 => 0..,
        pub error_code: i16 => 0..,
        pub error_message: Option<Str> => 0..,
        pub endpoint_type: i8 = 1 => 1..,
        pub cluster_id: Str => 0..,
        pub controller_id: i32 = -1 => 0..,
        pub brokers: Vec<DescribeClusterBroker> => 0..,
        pub cluster_authorized_operations: i32 = i32::MIN => 0..,
    }
}
api!(DescribeClusterRequest => DescribeClusterResponse, DescribeCluster, 0..=2, flexible 0);
