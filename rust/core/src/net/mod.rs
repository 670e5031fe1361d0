//! One socket to one broker: connecting, and pipelined requests with their answers.
//!
//! [`Connection`] is all the rooms above need. Its parts: `resolve` finds a socket, `handshake` learns which
//! versions the broker speaks and tells what is there when it is not Kafka, `frames` moves bytes, `gather` lets them
//! come in larger pieces, `spares` keeps the buffers of large answers, `connection` matches answers to requests and renews
//! sessions, `stream` is the socket in the clear or with `tls` around it, `sasl` says who we are. [`BackOff`] is how everything
//! here waits before it tries again.

mod backoff;
mod connection;
mod error;
mod frames;
mod gather;
mod handshake;
mod resolve;
mod sasl;
mod security;
mod spares;
mod stream;
mod tls;

pub(crate) use backoff::random;
pub(crate) use error::Span;

pub use backoff::BackOff;
pub use connection::{Connection, ConnectionOptions, Pending};
pub use error::{CallError, CloseReason, ConnectError};
#[doc(hidden)]
pub use frames::frames_of;
pub use security::Security;
