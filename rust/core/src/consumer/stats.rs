//! Counters of a consumer and their snapshot.

use std::sync::atomic::{AtomicU64, Ordering};

/// What a consumer has done so far. One consistent-enough look at counters that move on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ConsumerStats {
    /// Records handed to the application, each as often as it was. One that is read by `next` or `next_batch` counts when its
    /// unit is finished or goes back, one of a chunk when it is taken.
    pub records: u64,
    /// Work units of which every record was handled.
    pub units_done: u64,
    /// Of the units claimed, those whose data was here already.
    pub units_from_cache: u64,
    /// Units handed back unfinished, by choice.
    pub units_released: u64,
    /// Units that failed (handler, corrupt batch) and come again.
    pub units_failed: u64,
    /// Units that somebody else got because our lease ran out.
    pub units_fenced: u64,
    /// Units given up because a record stayed too long in user code.
    pub units_stuck: u64,
    /// Records the broker deleted before anyone read them.
    pub records_lost: u64,
    /// Units that were quarantined (see [`Event::Parked`](super::Event)), by whichever member, while this one was the organiser.
    pub units_quarantined: u64,
    /// How often so many were that a partition takes no new work, likewise (see [`Event::Blocked`](super::Event)).
    pub partitions_blocked: u64,
    /// Fetch requests answered, long polls not counted.
    pub fetches: u64,
    /// Those of them that a replica near by has answered (`client.rack`).
    pub fetches_near: u64,
    /// Long polls answered.
    pub long_polls: u64,
    /// Partitions that the requests of long polls named. With a fetch session (KIP-227) they name only what has changed.
    pub long_poll_partitions: u64,
    /// Bytes of batches fetched.
    pub bytes_fetched: u64,
    /// Calls to the group.
    pub exchanges: u64,
    /// Units held now.
    pub units_held: u64,
    /// Readers now.
    pub readers: u64,
    /// Bytes held now, fetched and not handled.
    pub prefetch_bytes: u64,
    /// The most such bytes at any time.
    pub prefetch_peak: u64,
    /// Topics that the user may not read: they could not be read when they were tried last.
    pub topics_denied: u64,
    /// Whether everything fails, so that about one record a second is tried (see [`Event::HandlerFailing`](super::Event)).
    pub handler_failing: bool,
    /// Partitions of the topics subscribed to that cannot be read yet because their leader, or the group's coordinator, does not
    /// answer. They follow by themselves.
    pub partitions_pending: u64,
    /// Events dropped because nobody read them.
    pub events_dropped: u64,
    /// Whether this consumer watches for new records for the whole group.
    pub organiser: bool,
}

/// The counters behind [`ConsumerStats`]; touched per unit or request, never per record.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub(super) records: AtomicU64,
    pub(super) units_done: AtomicU64,
    pub(super) units_from_cache: AtomicU64,
    pub(super) units_released: AtomicU64,
    pub(super) units_failed: AtomicU64,
    pub(super) units_fenced: AtomicU64,
    pub(super) units_stuck: AtomicU64,
    pub(super) records_lost: AtomicU64,
    pub(super) units_quarantined: AtomicU64,
    pub(super) partitions_blocked: AtomicU64,
    pub(super) fetches: AtomicU64,
    pub(super) fetches_near: AtomicU64,
    pub(super) long_polls: AtomicU64,
    pub(super) long_poll_partitions: AtomicU64,
    pub(super) bytes_fetched: AtomicU64,
    pub(super) exchanges: AtomicU64,
}

impl Counters {
    pub(super) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    pub(super) fn snapshot(&self) -> ConsumerStats {
        let get = |c: &AtomicU64| c.load(Ordering::Relaxed);
        ConsumerStats {
            records: get(&self.records),
            units_done: get(&self.units_done),
            units_from_cache: get(&self.units_from_cache),
            units_released: get(&self.units_released),
            units_failed: get(&self.units_failed),
            units_fenced: get(&self.units_fenced),
            units_stuck: get(&self.units_stuck),
            records_lost: get(&self.records_lost),
            units_quarantined: get(&self.units_quarantined),
            partitions_blocked: get(&self.partitions_blocked),
            fetches: get(&self.fetches),
            fetches_near: get(&self.fetches_near),
            long_polls: get(&self.long_polls),
            long_poll_partitions: get(&self.long_poll_partitions),
            bytes_fetched: get(&self.bytes_fetched),
            exchanges: get(&self.exchanges),
            ..ConsumerStats::default()
        }
    }
}
