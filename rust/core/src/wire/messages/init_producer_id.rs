//! InitProducerId: the identity by which a broker recognises a batch sent twice (KIP-98, KIP-360).

use super::prelude::*;

message! {
    /// Asks for a producer id, or (since version 3) for the next epoch of the one given.
    pub struct InitProducerIdRequest {
        pub transactional_id: Option<Str> => 0..,
        pub transaction_timeout_ms: i32 => 0..,
        pub producer_id: i64 = -1 => 3..,
        pub producer_epoch: i16 = -1 => 3..,
    }

    /// The identity.
    pub struct InitProducerIdResponse {
        pub throttle_time_ms: i32 => 0..,
        pub error_code: i16 => 0..,
        pub producer_id: i64 = -1 => 0..,
        pub producer_epoch: i16 => 0..,
    }
}
api!(InitProducerIdRequest => InitProducerIdResponse, InitProducerId, 0..=5, flexible 2);
