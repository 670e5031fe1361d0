//! The producer: any thread appends, batches go out in the background.
//!
//! # How a record travels
//! [`Producer::try_append`] encodes it at the end of its partition's open batch under a short lock
//! (`append`). The batch is sealed when it is full, has waited long enough (`linger`) or is flushed, and queued
//! at its partition (`partition_queue`: order, retries, sequences). The partition enters the ready list of its
//! leader (`shared`), whose one task (`sender`) takes a batch of each ready partition, compresses, sends one
//! request (`request`), and settles each batch by the answer (`settle`): delivered, sent again, split, or failed. A
//! partition that backs off or has no leader rests in `delay`.
//!
//! # What holds
//! * Records of one partition keep the order of their appends, whichever thread they came from.
//! * A batch is sent again, in its place and with the same bytes and numbers, until the broker has it, refuses it
//!   for good, `delivery.timeout.ms` is over (`expire`; without the setting it never is), or the producer is closed. (A
//!   spool on disk is still to come.)
//! * Memory is bounded by `buffer.memory`, taken as buffers grow (`memory`).
//! * Every tracked record's [`Delivery`] ends exactly once.
//! * After [`Producer::close`] nothing is accepted; when the last handle is gone, every task ends.

mod append;
mod batch;
mod clock;
#[cfg(test)]
mod cost;
mod delay;
mod delivery;
mod error;
mod expire;
mod gate;
mod handle;
mod identity;
mod linger;
mod memory;
mod partition_queue;
mod partitioner;
mod request;
mod sender;
mod settle;
mod shared;
#[cfg(test)]
mod sim;
mod split;
mod stats;
mod table;
#[cfg(test)]
mod tests;
mod time;
mod topic;

use std::cell::Cell;
use std::hash::{BuildHasher, RandomState};

pub use delivery::{Delivery, RecordMetadata};
pub use error::{AppendError, CloseError, ClosedBy, DeliveryError, ProducerError};
pub use handle::Producer;
pub use memory::Room;
pub use stats::ProducerStats;

/// A topic of one [`Producer`], cheap to copy; comes from [`Producer::topic`] and means nothing to another producer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicId(pub u32);

thread_local! {
    static NOISE: Cell<u64> = Cell::new(RandomState::new().hash_one(0) | 1);
}

/// A random number, for jitter and for choices that need not be fair.
fn noise() -> u32 {
    NOISE.with(|state| {
        // xorshift64*
        let mut x = state.get();
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        state.set(x);
        (x.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 32) as u32
    })
}
