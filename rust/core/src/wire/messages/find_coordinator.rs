//! FindCoordinator: which broker keeps a group's offsets.

use super::prelude::*;

message! {
    /// Asks for the coordinator of a group (key type 0; transactional ids are 1).
    pub struct FindCoordinatorRequest {
        pub key: Str = "".into() => 0..,
        pub key_type: i8 => 1..,
    }

    /// The broker.
    pub struct FindCoordinatorResponse {
        pub throttle_time_ms: i32 => 1..,
        pub error_code: i16 => 0..,
        pub error_message: Option<Str> => 1..,
        pub node_id: i32 => 0..,
        pub host: Str = "".into() => 0..,
        pub port: i32 => 0..,
    }
}
// Version 4 asks for several at once (KIP-699), which is not needed here.
api!(FindCoordinatorRequest => FindCoordinatorResponse, FindCoordinator, 1..=3, flexible 3);
