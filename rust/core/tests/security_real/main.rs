//! TLS and SASL against a real broker that has a listener for every way.

mod listeners;
mod mistakes;
mod reconnect;
mod secrets;
mod session;
mod support;
