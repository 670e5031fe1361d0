//! The producer against a real broker: what arrives, in which order, and what its user is told.
//!
//! Everything is read back by plain fetches, not by the consumer of this crate.

mod cost;
mod delivery;
mod faults;
mod life;
mod support;
