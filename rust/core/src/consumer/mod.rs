//! The consumer: claims work units from its group, fetches them, delivers their records, and tells the group what was
//! handled.
//!
//! # How it works
//! Everything a consumer knows is one `state::State` behind one lock that is taken per unit and per fetched piece,
//! never per record. Four tasks work on it: `coordinate` exchanges with the group (acknowledgements, progress,
//! claims), `fetch` gets the units' batches from their leaders, `watch` finds new records when this consumer is the
//! group's organiser, `start` finds topics and partitions that appear. A [`Reader`] is what a thread or task of the
//! application reads with; it opens batches (CRC, decompression) and walks their records in its own thread.
//!
//! # The non-obvious
//! * A unit is complete when the *fetch position* reaches its end, not when a record of its last offset was seen:
//!   compaction and control batches leave gaps, and a unit may hold no record at all.
//! * The pool of claimed units belongs to all readers: a unit claimed early never waits behind one slow reader. A unit
//!   nobody is about to start goes back to the group after a while.
//! * Fetching is per partition, not per unit: one fetch under way, from the lowest position any unit lacks; what it
//!   brings beyond them stays in the partition's `cache` for the units to come.
//! * Bytes are charged to the prefetch budget per answer, not per batch: batches are slices of the answer's buffer.
//! * A reader that waits in the middle of its unit is always fetched for, over budget if need be: else readers stuck
//!   in user code could starve the others.

mod aborted;
mod another;
mod batch;
mod budget;
mod cache;
mod chunk;
mod claim;
mod client;
mod coordinate;
mod denied;
mod ends;
mod error;
mod event;
mod failing;
mod feed;
mod fetch;
mod foreign;
mod glance;
mod known;
mod message;
mod mirror;
mod outage;
mod piece;
mod pinned;
mod plan;
mod publish;
mod reader;
mod recover;
mod seek;
mod session;
mod shared;
mod sizing;
mod slot;
mod start;
mod state;
mod stats;
mod talk;
mod watch;

#[cfg(test)]
mod simulation;

use std::time::Duration;

pub use batch::UnitBatch;
pub use chunk::{ChunkSink, Filled, Put, SlotControl, UnitInfo};
pub use client::{Consumer, GroupConf};
pub use error::{CloseError, ConsumerError, ReadError, SeekError};
pub use event::Event;
pub use message::Message;
pub use reader::Reader;
pub use stats::ConsumerStats;

/// A name no other consumer has, in this process or another.
fn random_id() -> crate::group::ConsumerId {
    format!("{:x}-{:016x}{:016x}", std::process::id(), random(), random()).into()
}

fn random() -> u64 {
    use std::hash::{BuildHasher, Hasher};
    // Every `RandomState` has keys of its own.
    std::collections::hash_map::RandomState::new().build_hasher().finish()
}

/// `d` times something between 0.5 and 1.5, so that what waits together does not come back together.
fn jitter(d: Duration) -> Duration {
    d.mul_f64(0.5 + (random() >> 11) as f64 / (1u64 << 53) as f64)
}
