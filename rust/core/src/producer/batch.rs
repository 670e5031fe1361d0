//! A sealed batch on its way, and the receipt that settles it exactly once.

use std::sync::Arc;

use bytes::Bytes;

use super::delivery::{BatchDelivery, Outcome};
use super::error::DeliveryError;
use super::gate::Pass;
use super::memory::Lease;
use super::partition_queue::Stamp;
use super::stats::Counters;
use crate::wire::BatchBuilder;

/// A batch that takes no more records.
pub(super) struct Batch {
    pub(super) body: Body,
    /// Bytes before compression; what a split halves.
    pub(super) plain_bytes: usize,
    /// When its first record was appended, in microseconds of the producer's life.
    pub(super) born_us: u64,
    /// How often a broker refused it for what may be its own fault.
    pub(super) refusals: u32,
    pub(super) receipt: Receipt,
    /// The memory of `body`; given back with the batch.
    pub(super) lease: Lease,
}

/// The records, plain until a sender compresses them outside every lock.
pub(super) enum Body {
    Plain(BatchBuilder),
    /// As they go over the wire, with the stamp that is in the header.
    Finished(Bytes, Option<Stamp>),
    /// Out for compression; the request that has it puts it back or drops the batch.
    Taken,
}

impl Batch {
    pub(super) fn count(&self) -> u32 {
        self.receipt.count
    }

    /// Bytes it will have in a request, as far as is known.
    pub(super) fn bytes(&self) -> usize {
        match &self.body {
            Body::Finished(bytes, _) => bytes.len(),
            Body::Plain(_) | Body::Taken => self.plain_bytes,
        }
    }
}

/// Who has to hear how a batch ended. Dropped without an end it says "closed": the producer was torn down.
pub(super) struct Receipt {
    topic: Arc<str>,
    partition: i32,
    count: u32,
    /// Index of the first record in the batch as it was sealed; not 0 after a split.
    first: u32,
    delivery: Option<Arc<BatchDelivery>>,
    /// Held until the end: flush waits for it.
    pass: Pass,
    counters: Arc<Counters>,
    possibly_written: bool,
    settled: bool,
}

impl Receipt {
    pub(super) fn new(
        topic: Arc<str>,
        partition: i32,
        count: u32,
        delivery: Option<Arc<BatchDelivery>>,
        pass: Pass,
        counters: Arc<Counters>,
    ) -> Self {
        let settled = false;
        let possibly_written = false;
        Self { topic, partition, count, first: 0, delivery, pass, counters, possibly_written, settled }
    }

    /// Notes whether the records may be in the log. A flight sets it and takes it back only when it is certain that
    /// this very attempt left nothing.
    pub(super) fn set_possibly_written(&mut self, possibly: bool) {
        self.possibly_written = possibly;
    }

    pub(super) fn possibly_written(&self) -> bool {
        self.possibly_written
    }

    pub(super) fn delivered(mut self, base_offset: i64, log_append_time: Option<i64>) {
        self.counters.records_delivered.add(self.count.into());
        self.settle(Outcome::Written { base_offset, log_append_time });
    }

    pub(super) fn failed(mut self, error: DeliveryError) {
        self.counters.records_failed.add(self.count.into());
        self.settle(Outcome::Failed(error));
    }

    /// The receipt of the first `count` records; this one keeps the rest.
    pub(super) fn split_off_first(&mut self, count: u32) -> Self {
        debug_assert!(count < self.count);
        let first = Self {
            topic: Arc::clone(&self.topic),
            partition: self.partition,
            count,
            first: self.first,
            delivery: self.delivery.clone(),
            pass: self.pass.clone(),
            counters: Arc::clone(&self.counters),
            possibly_written: self.possibly_written,
            settled: false,
        };
        self.first += count;
        self.count -= count;
        first
    }

    fn settle(&mut self, outcome: Outcome) {
        self.settled = true;
        if let Some(delivery) = &self.delivery {
            delivery.settle(self.first..self.first + self.count, outcome);
        }
    }
}

impl Drop for Receipt {
    fn drop(&mut self) {
        if self.settled {
            return;
        }
        let counters = &self.counters;
        let counter = if self.possibly_written {
            &counters.abandoned_possibly_written
        } else {
            &counters.abandoned_not_sent
        };
        counter.add(self.count.into());
        let (topic, partition) = (Arc::clone(&self.topic), self.partition);
        let possibly_written = self.possibly_written;
        self.settle(Outcome::Failed(DeliveryError::Closed { topic, partition, possibly_written }));
    }
}
