//! A group over Redis whose members are real processes: they are killed with -9, stopped and woken, and join in the middle.
//!
//! Each test prints what it saw. `KAFKA_FAST_CHAOS_ROUNDS` plays it so many times, with other moments; `./dev chaos` does that.

mod agree;
mod deaths;
mod joins;
mod member;
mod stops;
mod support;
mod topics;
