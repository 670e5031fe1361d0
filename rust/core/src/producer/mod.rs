//! The producer. (being laid)
mod clock;
mod delivery;
mod error;
mod gate;
mod memory;
mod partition_queue;
mod partitioner;
