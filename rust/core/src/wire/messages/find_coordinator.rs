//! FindCoordinator: which broker keeps a group's offsets.

use super::prelude::*;

message! {
    /// Asks who coordinates a group (key type 0), a transaction (1) or a share partition (2). Since version 4 it may ask about
    /// several at once (KIP-699).
    pub struct FindCoordinatorRequest {
        pub key: Str => 0..=3,
        pub key_type: i8 => 1..,
        pub coordinator_keys: Vec<Str> => 4..,
    }

    /// The broker for one key; its id is -1 while there is none.
    pub struct Coordinator {
        pub key: Str => 4..,
        pub node_id: i32 => 4..,
        pub host: Str => 4..,
        pub port: i32 => 4..,
        pub error_code: i16 => 4..,
        pub error_message: Option<Str> => 4..,
    }

    /// The broker, or since version 4 one for each key; its id is -1 while there is none.
    pub struct FindCoordinatorResponse {
        pub throttle_time_ms: i32 => 1..,
        pub error_code: i16 => 0..=3,
        pub error_message: Option<Str> => 1..=3,
        pub node_id: i32 => 0..=3,
        pub host: Str => 0..=3,
        pub port: i32 => 0..=3,
        pub coordinators: Vec<Coordinator> => 4..,
    }
}
api!(
    FindCoordinatorRequest => FindCoordinatorResponse, FindCoordinator, 1..=6, flexible 3,
    up_to |request| if request.coordinator_keys.is_empty() { 3 } else { 6 }
);
