//! What the producer counts: touched once a batch or request, never once a record.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// One snapshot of a producer's counters; all but the last three only grow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ProducerStats {
    /// Records in sealed batches (the open ones are not counted yet).
    pub records: u64,
    /// Bytes of sealed batches before compression.
    pub bytes: u64,
    /// Batches sealed.
    pub batches: u64,
    /// Records that brokers acknowledged (acks=0: that were written to a socket).
    pub records_delivered: u64,
    /// Records that failed for good.
    pub records_failed: u64,
    /// Records dropped for their size because `batch-fail-message-over-limit` is false.
    pub records_dropped: u64,
    /// Produce requests sent.
    pub requests: u64,
    /// Bytes of batches in those requests, after compression.
    pub bytes_sent: u64,
    /// Batches that went back to be sent again.
    pub retries: u64,
    /// Errors: failed requests, and partitions refused in an answer.
    pub errors: u64,
    /// Batches split because a broker found them too large.
    pub splits: u64,
    /// Bytes of the buffer in use now.
    pub buffered_bytes: u64,
    /// The buffer: `buffer.memory`.
    pub buffer_memory: u64,
    /// Callers waiting for room now.
    pub waiting: u64,
}

/// The live counters.
#[derive(Default)]
pub(super) struct Counters {
    pub(super) records: Counter,
    pub(super) bytes: Counter,
    pub(super) batches: Counter,
    pub(super) records_delivered: Counter,
    pub(super) records_failed: Counter,
    pub(super) records_dropped: Counter,
    pub(super) requests: Counter,
    pub(super) bytes_sent: Counter,
    pub(super) retries: Counter,
    pub(super) errors: Counter,
    pub(super) splits: Counter,
    /// Records that the end of the producer overtook, by what is known of them.
    pub(super) abandoned_not_sent: Counter,
    pub(super) abandoned_possibly_written: Counter,
}

/// A number that only grows.
#[derive(Default)]
pub(super) struct Counter(AtomicU64);

impl Counter {
    pub(super) fn add(&self, n: u64) {
        self.0.fetch_add(n, Relaxed);
    }

    pub(super) fn get(&self) -> u64 {
        self.0.load(Relaxed)
    }
}

impl Counters {
    pub(super) fn snapshot(
        &self,
        buffered_bytes: usize,
        buffer_memory: usize,
        waiting: usize,
    ) -> ProducerStats {
        ProducerStats {
            records: self.records.get(),
            bytes: self.bytes.get(),
            batches: self.batches.get(),
            records_delivered: self.records_delivered.get(),
            records_failed: self.records_failed.get(),
            records_dropped: self.records_dropped.get(),
            requests: self.requests.get(),
            bytes_sent: self.bytes_sent.get(),
            retries: self.retries.get(),
            errors: self.errors.get(),
            splits: self.splits.get(),
            buffered_bytes: buffered_bytes as u64,
            buffer_memory: buffer_memory as u64,
            waiting: waiting as u64,
        }
    }
}
