//! SaslHandshake: which mechanism a connection will authenticate with. Before it only ApiVersions is answered.

use super::prelude::*;

message! {
    /// Names the mechanism, such as `SCRAM-SHA-256`. At version 0 the tokens that follow stand bare on the socket, at version
    /// 1 they are in SaslAuthenticate (KIP-152).
    pub struct SaslHandshakeRequest {
        pub mechanism: Str => 0..,
    }

    /// Whether the broker has that mechanism enabled, and which it has.
    pub struct SaslHandshakeResponse {
        pub error_code: i16 => 0..,
        pub mechanisms: Vec<Str> => 0..,
    }
}
// Flexible versions never came: old clients would take a wrong one (KAFKA-9577).
api!(SaslHandshakeRequest => SaslHandshakeResponse, SaslHandshake, 0..=1, flexible never);
