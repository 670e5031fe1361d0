//! FindCoordinator: which broker keeps a group's offsets.

use super::prelude::*;

message! {
    /// Asks who coordinates a group (key type 0); transactions (1) and share partitions (2) are not asked about here.
    pub struct FindCoordinatorRequest {
        pub key: Str = "".into() => 0..,
        pub key_type: i8 => 1..,
    }

    /// The broker; its id is -1 while there is none.
    pub struct FindCoordinatorResponse {
        pub throttle_time_ms: i32 => 1..,
        pub error_code: i16 => 0..,
        pub error_message: Option<Str> => 1..,
        pub node_id: i32 => 0..,
        pub host: Str = "".into() => 0..,
        pub port: i32 => 0..,
    }
}
// Version 4 asks about several groups at once (KIP-699); one consumer has one group.
api!(FindCoordinatorRequest => FindCoordinatorResponse, FindCoordinator, 1..=3, flexible 3);
