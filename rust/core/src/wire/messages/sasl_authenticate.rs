//! SaslAuthenticate: one step of the exchange that SaslHandshake began (KIP-152).

use super::prelude::*;

message! {
    /// What the client has to say, in the form of the mechanism: with PLAIN it is the password.
    pub struct SaslAuthenticateRequest {
        pub auth_bytes: Secret<Bytes> => 0..,
    }

    /// What the broker has to say. The session's lifetime in ms is 0 for one without end; before it is over the client
    /// authenticates again on the same connection, or the broker closes it (KIP-368).
    pub struct SaslAuthenticateResponse {
        pub error_code: i16 => 0..,
        pub error_message: Option<Str> => 0..,
        pub auth_bytes: Secret<Bytes> => 0..,
        pub session_lifetime_ms: i64 => 1..,
    }
}
api!(SaslAuthenticateRequest => SaslAuthenticateResponse, SaslAuthenticate, 0..=2, flexible 2);
