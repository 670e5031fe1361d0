//! ApiVersions: which APIs and versions a broker speaks. The first request of every connection.

use super::prelude::*;

message! {
    /// Asks for the versions; since version 3 it names the client's software (KIP-511), since version 5 whom it takes the broker
    /// for: one that is another, because an address was given to somebody else, refuses (KIP-1242). `None` and -1 mean any.
    pub struct ApiVersionsRequest {
        pub client_software_name: Str => 3..,
        pub client_software_version: Str => 3..,
        pub cluster_id: Option<Str> => 5..,
        pub node_id: i32 = -1 => 5..,
    }

    /// The versions of one API.
    pub struct ApiVersion {
        pub api_key: i16 => 0..,
        pub min_version: i16 => 0..,
        pub max_version: i16 => 0..,
    }

    /// A feature the broker could use.
    pub struct SupportedFeatureKey {
        pub name: Str => 3..,
        pub min_version: i16 => 3..,
        pub max_version: i16 => 3..,
    }

    /// A feature the cluster has agreed on.
    pub struct FinalizedFeatureKey {
        pub name: Str => 3..,
        pub max_version_level: i16 => 3..,
        pub min_version_level: i16 => 3..,
    }

    /// The versions of every API of the broker.
    pub struct ApiVersionsResponse {
        pub error_code: i16 => 0..,
        pub api_keys: Vec<ApiVersion> => 0..,
        pub throttle_time_ms: i32 => 1..,
    } tagged {
        0: pub supported_features: Vec<SupportedFeatureKey> => 3..,
        1: pub finalized_features_epoch: i64 = -1 => 3..,
        2: pub finalized_features: Vec<FinalizedFeatureKey> => 3..,
        3: pub zk_migration_ready: bool => 3..,
    }
}
api!(ApiVersionsRequest => ApiVersionsResponse, ApiVersions, 0..=5, flexible 3);
