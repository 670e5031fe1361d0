//! The hot path: from a record to the bytes of its partition's open batch.
//!
//! A short lock, the encoding, and nothing else: no allocation but the buffer's growth, no clock read for most
//! records ([`clock`](super::clock)), no wake-up but at a batch's first record and at its seal.
//!
//! Lock order: slot, then queue or linger list. Nothing foreign (waker, callback) runs under a lock.

use std::sync::Arc;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use parking_lot::MutexGuard;

use super::batch::{Batch, Body, Receipt};
use super::delivery::{BatchDelivery, Delivery};
use super::error::AppendError;
use super::memory::Lease;
use super::partition_queue::PartitionQueue;
use super::partitioner;
use super::shared::Shared;
use super::topic::{Open, Partition, Slot, Topic, pack};
use crate::wire::{BatchBuilder, Record};

/// Bytes of a batch's header, reserved at the front of its buffer.
const HEADER_BYTES: usize = 61;
/// First step of a buffer that has nothing to go by.
const FIRST_STEP_BYTES: usize = 4096;
/// Least step of a buffer that grows while memory is short: a step a record would copy the batch once a record.
const STEP_BYTES_MIN: usize = 16 << 10;

/// One record and how it is to be appended.
pub(super) struct Append<'a> {
    pub(super) timestamp_ms: Option<i64>,
    pub(super) record: &'a Record<'a>,
}

/// Who wants to hear of the record: nobody (`()`), or an `Option<Delivery>` to be filled. A type parameter, because a
/// delivery that is passed up through every call costs a quarter of a small append.
pub(super) trait Track {
    fn track(&mut self, delivery: impl FnOnce() -> Delivery);
}

impl Track for () {
    #[inline]
    fn track(&mut self, _: impl FnOnce() -> Delivery) {}
}

impl Track for Option<Delivery> {
    #[inline]
    fn track(&mut self, delivery: impl FnOnce() -> Delivery) {
        *self = Some(delivery());
    }
}

/// Boxed, so that the result of an append that went well is one register.
pub(super) type Refused = Box<AppendError>;

/// What has to be done once the slot is unlocked.
#[derive(Default)]
struct After {
    /// The partition goes onto its leader's list.
    place: bool,
    /// A batch was opened: the linger task may want to look.
    opened: bool,
    /// There was no memory: what is open must go, full or not.
    full: bool,
}

impl Shared {
    /// Appends to the partition that explicit number, key, or stripe say.
    #[inline]
    pub(super) fn append(
        self: &Arc<Self>,
        topic: &Topic,
        partition: Option<i32>,
        append: &Append<'_>,
        track: &mut impl Track,
    ) -> Result<(), Refused> {
        let record = append.record;
        let mut bytes = record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        if !record.headers.is_empty() {
            bytes +=
                record.headers.iter().map(|h| h.key.len() + h.value.map_or(0, <[u8]>::len)).sum::<usize>();
        }
        if bytes >= self.settings.batch_byte_limit {
            return Err(self.too_large(topic, bytes));
        }
        let partitions = topic.count.load(Acquire);
        match (partition, record.key) {
            (Some(index), _) => self.append_at(topic, index, append, track),
            (None, Some(key)) if partitions > 0 => {
                self.append_at(topic, partitioner::of_key(key, partitions) as i32, append, track)
            }
            _ if partitions <= 1 => self.append_at(topic, 0, append, track),
            _ => self.append_sticky(topic, partitions, append, track),
        }
    }

    #[inline]
    fn append_at(
        self: &Arc<Self>,
        topic: &Topic,
        index: i32,
        append: &Append<'_>,
        track: &mut impl Track,
    ) -> Result<(), Refused> {
        let there = u32::try_from(index).ok().filter(|index| *index < topic.count.load(Acquire));
        let found = there.and_then(|index| topic.partitions.get(index));
        let Some(partition) = found else {
            return Err(no_such_partition(topic, index));
        };
        self.append_to(topic, partition, partition.slot.lock(), append, track)
    }

    /// Appends where the thread's stripe points, and lets it point elsewhere when that batch has been sealed.
    #[inline]
    fn append_sticky(
        self: &Arc<Self>,
        topic: &Topic,
        partitions: u32,
        append: &Append<'_>,
        track: &mut impl Track,
    ) -> Result<(), Refused> {
        let me = topic.stripe(partitions);
        let mark = topic.stripes[me].0.load(Relaxed);
        let index = (mark >> 32) as u32;
        // A partition that is gone may still have an open batch.
        if index < partitions
            && let Some(partition) = topic.partitions.get(index)
        {
            let slot = partition.slot.lock();
            if partition.generation.load(Relaxed) == mark as u32 {
                return self.append_to(topic, partition, slot, append, track);
            }
        }
        self.append_elsewhere(topic, me, partitions, append, track)
    }

    #[cold]
    fn append_elsewhere(
        self: &Arc<Self>,
        topic: &Topic,
        me: usize,
        partitions: u32,
        append: &Append<'_>,
        track: &mut impl Track,
    ) -> Result<(), Refused> {
        let index = self.next_sticky(topic, me, partitions);
        let Some(partition) = topic.partitions.get(index) else {
            return Err(no_such_partition(topic, index as i32));
        };
        let slot = partition.slot.lock();
        topic.stripes[me].0.store(pack(index, partition.generation.load(Relaxed)), Relaxed);
        self.append_to(topic, partition, slot, append, track)
    }

    /// Appends to the partition whose slot is locked, and unlocks it.
    #[inline(always)] // In the two places where nearly all records come by, without a call.
    fn append_to(
        self: &Arc<Self>,
        topic: &Topic,
        partition: &Arc<Partition>,
        mut slot: MutexGuard<'_, Slot>,
        append: &Append<'_>,
        track: &mut impl Track,
    ) -> Result<(), Refused> {
        let mut after = After::default();
        let result = self.append_locked(topic, partition, &mut slot, append, track, &mut after);
        drop(slot);
        self.follow_up(partition, &after);
        result
    }

    #[cold]
    fn too_large(&self, topic: &Topic, bytes: usize) -> Refused {
        let limit = self.settings.batch_byte_limit;
        Box::new(AppendError::TooLarge { bytes, limit, topic: Arc::clone(&topic.name) })
    }

    #[cold]
    fn next_sticky(&self, topic: &Topic, me: usize, partitions: u32) -> u32 {
        let turn = topic.turn.fetch_add(1, Relaxed);
        let at = |index: u32| topic.partitions.get(index);
        let queued = |index: u32| at(index).map_or(0, |p| p.queued_bytes.load(Relaxed));
        let alive = |index: u32| at(index).is_some_and(|p| self.answers(p.node.load(Relaxed)));
        let all_taken_or_dead = !(0..partitions).any(|index| alive(index) && !topic.is_taken(me, index));
        let usable = |index: u32| alive(index) && (all_taken_or_dead || !topic.is_taken(me, index));
        partitioner::next_sticky(partitions, turn, super::noise(), usable, queued)
    }

    #[inline(always)]
    fn append_locked(
        self: &Arc<Self>,
        topic: &Topic,
        partition: &Arc<Partition>,
        slot: &mut Slot,
        append: &Append<'_>,
        track: &mut impl Track,
        after: &mut After,
    ) -> Result<(), Refused> {
        let bound = BatchBuilder::encoded_bound(append.record);
        let fits = slot.open.as_ref().is_some_and(|open| open.builder.len() + bound <= open.limit);
        if !fits || slot.closed {
            self.make_room(topic, partition, slot, bound, after)?;
        }
        let open = slot.open.as_mut().expect("invariant: make_room leaves an open batch");
        let timestamp =
            append.timestamp_ms.unwrap_or_else(|| slot.clock.now_ms(self.linger.tick.load(Relaxed)));
        let index = open.builder.append(timestamp, append.record);
        track.track(|| {
            let new = || BatchDelivery::new(Arc::clone(&partition.topic), partition.index);
            Delivery::new(Arc::clone(open.delivery.get_or_insert_with(new)), index, timestamp)
        });
        if open.builder.len() >= topic.batch_bytes.load(Relaxed)
            || open.builder.count() >= self.settings.batch_num_messages
        {
            after.place |= self.seal(partition, slot);
        }
        Ok(())
    }

    /// Sees to it that the open batch takes `bound` more bytes: opens one, grows its buffer, or seals it first.
    #[cold]
    fn make_room(
        self: &Arc<Self>,
        topic: &Topic,
        partition: &Arc<Partition>,
        slot: &mut Slot,
        bound: usize,
        after: &mut After,
    ) -> Result<(), Refused> {
        if slot.closed {
            return Err(Box::new(AppendError::Closed(self.closed_by())));
        }
        let batch_bytes = topic.batch_bytes.load(Relaxed);
        if slot.open.as_ref().is_some_and(|open| open.builder.len() + bound > batch_bytes) {
            // A record that is larger than a batch gets one of its own; others start the next.
            after.place |= self.seal(partition, slot);
        }
        let result = match &mut slot.open {
            Some(open) => self.grow(open, bound, batch_bytes),
            None => self.open(partition, slot, bound, batch_bytes, after),
        };
        after.full |= result.is_err();
        result
    }

    fn open(
        self: &Arc<Self>,
        partition: &Arc<Partition>,
        slot: &mut Slot,
        bound: usize,
        batch_bytes: usize,
        after: &mut After,
    ) -> Result<(), Refused> {
        let least = HEADER_BYTES + bound;
        // As much as last time, so that the buffer need not move; half of what is free, so that others get some, too.
        let free = self.memory.total() - self.memory.used();
        let expected = (slot.last_bytes + slot.last_bytes / 8).min(free / 2);
        let wanted = expected.min(batch_bytes).max(FIRST_STEP_BYTES).max(least);
        let (lease, buffer) = self.buffer(wanted, least).ok_or_else(|| full(least))?;
        let builder = BatchBuilder::from_buffer(buffer);
        let limit = builder.capacity().min(batch_bytes.max(least));
        slot.open = Some(Open { builder, limit, lease, pass: self.gates.pass(), delivery: None });
        slot.clock.reset();
        partition.opened_us.store(self.time.us().max(1), Relaxed);
        if !slot.listed {
            slot.listed = true;
            // Under the slot's lock: a flush that follows any append of this batch must find it on the list.
            self.linger.add(Arc::clone(partition));
        }
        after.opened = true;
        Ok(())
    }

    /// A buffer of about `wanted` bytes, of `least` when memory is short, with the lease that pays for it.
    fn buffer(&self, wanted: usize, least: usize) -> Option<(Lease, Vec<u8>)> {
        if let Some(buffer) = self.memory.idle_buffer(wanted, wanted * 2) {
            if let Some(lease) = self.memory.try_take(buffer.capacity()) {
                return Some((lease, buffer));
            }
            self.memory.recycle(buffer, 0);
        }
        // A record near the limit may need a few bytes more than all memory, for its framing: it gets them.
        let take = |bytes: usize| Some((self.memory.try_take(bytes.min(self.memory.total()))?, bytes));
        let (lease, bytes) = take(wanted).or_else(|| take(least))?;
        self.memory.trim_pool();
        Some((lease, Vec::with_capacity(bytes)))
    }

    fn grow(&self, open: &mut Open, bound: usize, batch_bytes: usize) -> Result<(), Refused> {
        let least = open.builder.len() + bound;
        let at_least = |capacity: usize| capacity.min(batch_bytes).max(least);
        let doubled = at_least(open.builder.capacity() * 2);
        let step = at_least(open.builder.capacity() + STEP_BYTES_MIN);
        if !open.lease.grow_to(doubled) && !open.lease.grow_to(step) {
            return Err(full(step - open.lease.bytes()));
        }
        self.memory.trim_pool();
        open.builder.grow_to(open.lease.bytes());
        open.limit = open.builder.capacity().min(batch_bytes.max(least));
        Ok(())
    }

    /// Ends the open batch and queues it. True: the caller must place the partition once the slot is unlocked.
    ///
    /// The queue is entered under the slot's lock, or a later batch of the partition could overtake this one.
    pub(super) fn seal(self: &Arc<Self>, partition: &Arc<Partition>, slot: &mut Slot) -> bool {
        let Some(open) = slot.open.take() else { return false };
        let Open { builder, lease, pass, delivery, .. } = open;
        let (bytes, count) = (builder.len(), builder.count());
        slot.last_bytes = bytes;
        let born_us = partition.opened_us.load(Relaxed);
        partition.generation.store(partition.generation.load(Relaxed).wrapping_add(1), Relaxed);
        partition.opened_us.store(0, Relaxed);
        if count == 0 {
            return false;
        }
        self.counters.records.add(count.into());
        self.counters.bytes.add(bytes as u64);
        self.counters.batches.add(1);
        partition.queued_bytes.fetch_add(bytes, Relaxed);
        let topic = Arc::clone(&partition.topic);
        let counters = Arc::clone(&self.counters);
        let receipt = Receipt::new(topic, partition.index, count, delivery, pass, counters);
        let body = Body::Plain(builder);
        let batch = Batch { body, plain_bytes: bytes, born_us, refusals: 0, receipt, lease };
        partition.with_queue(|queue| queue.push(batch, count))
    }

    #[inline]
    fn follow_up(self: &Arc<Self>, partition: &Arc<Partition>, after: &After) {
        if after.place || after.opened || after.full {
            self.follow_up_cold(partition, after);
        }
    }

    #[cold]
    fn follow_up_cold(self: &Arc<Self>, partition: &Arc<Partition>, after: &After) {
        if after.place {
            self.place(Arc::clone(partition));
        }
        if after.opened {
            self.linger_look(partition);
        }
        if after.full {
            self.linger.press();
        }
    }

    /// Seals the open batch of a partition, if there is one; for the linger task, flush and close.
    pub(super) fn seal_now(self: &Arc<Self>, partition: &Arc<Partition>, close: bool) -> bool {
        let mut slot = partition.slot.lock();
        slot.closed |= close;
        slot.listed = false;
        self.seal(partition, &mut slot)
    }
}

#[cold]
fn no_such_partition(topic: &Topic, partition: i32) -> Refused {
    let partitions = topic.count.load(Acquire) as usize;
    Box::new(AppendError::NoSuchPartition { topic: Arc::clone(&topic.name), partition, partitions })
}

#[cold]
fn full(needed: usize) -> Refused {
    Box::new(AppendError::Full { needed })
}

impl Partition {
    /// Works on the queue and notes afterwards whether a newly sealed batch would have to wait.
    pub(super) fn with_queue<T>(&self, work: impl FnOnce(&mut PartitionQueue<Batch>) -> T) -> T {
        let mut queue = self.queue.lock();
        let result = work(&mut queue);
        self.note_busy(&queue);
        result
    }

    pub(super) fn note_busy(&self, queue: &PartitionQueue<Batch>) {
        self.busy.store(queue.is_busy(), Release);
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Acquire)
    }
}
