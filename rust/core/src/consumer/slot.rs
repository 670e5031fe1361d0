//! A slot: what one reader shares with the heartbeat.
//!
//! The reader writes where it is; the heartbeat reads it and reports it as progress, so that a crash repeats only what
//! was handled since. One record at a time that is one relaxed store ([`Slot::at`]); by the chunk it is the caller's
//! `taken` index, mapped back to an offset by the runs of the current chunk.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use super::chunk::SlotControl;

/// Names a slot within its consumer.
pub(super) type SlotId = u64;

/// One reader's slot.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: SlotId,
    pub(super) control: Arc<SlotControl>,
    /// When it was made: the zero of [`SlotControl::until`].
    made: Instant,
    /// First offset not handled, when no chunk is out.
    position: AtomicI64,
    /// The chunk that is out: held only while a fill ends and while the heartbeat looks.
    chunk: Mutex<Runs>,
}

impl Slot {
    pub(super) fn new(id: SlotId, now: Instant) -> Arc<Self> {
        Arc::new(Self {
            id,
            made: now,
            control: Arc::new(SlotControl::default()),
            position: AtomicI64::new(-1),
            chunk: Mutex::new(Runs::default()),
        })
    }

    /// Says until when the reader's unit may be handed out.
    pub(super) fn ours_until(&self, deadline: Instant) {
        let nanos = deadline.saturating_duration_since(self.made).as_nanos();
        self.control.until.store(i64::try_from(nanos).unwrap_or(i64::MAX), Ordering::Release);
    }

    /// Says that everything below `offset` of the unit is handled and no chunk is out.
    pub(super) fn restart(&self, offset: i64) {
        let mut chunk = self.chunk.lock();
        chunk.clear();
        self.control.taken.store(0, Ordering::Relaxed);
        self.position.store(offset, Ordering::Relaxed);
    }

    /// Says that everything below `offset` is handled; the record at `offset` may be in the application's hands. No chunk
    /// is out.
    pub(super) fn at(&self, offset: i64) {
        // Relaxed: a heartbeat that sees an older value repeats a little more after a crash, and never skips.
        self.position.store(offset, Ordering::Relaxed);
    }

    /// Says that a chunk with the records of `runs` is out; gives the old runs back for reuse.
    pub(super) fn publish(&self, runs: &mut Runs) {
        let mut chunk = self.chunk.lock();
        // Under the lock, so that the heartbeat never reads the new chunk's records with the old chunk's index.
        self.control.taken.store(0, Ordering::Relaxed);
        std::mem::swap(&mut *chunk, runs);
        runs.clear();
    }

    /// The first offset that was not taken: where a revoked chunk goes on when its taken records are all handled.
    /// `None` when no chunk is out.
    pub(super) fn after_taken(&self) -> Option<i64> {
        let chunk = self.chunk.lock();
        let taken = self.control.taken.load(Ordering::Acquire);
        if taken < chunk.len() { chunk.offset(taken) } else { Some(chunk.offset(u32::MAX)? + 1) }
    }

    /// The first offset of the unit that is not handled.
    pub(super) fn unhandled(&self) -> i64 {
        let chunk = self.chunk.lock();
        let taken = self.control.taken.load(Ordering::Acquire);
        chunk.offset(taken.saturating_sub(1)).unwrap_or_else(|| self.position.load(Ordering::Relaxed))
    }
}

/// The offsets of a chunk's records, as runs without a gap: one pair for most chunks.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// Index of a run's first record, and its offset.
    starts: Vec<(u32, i64)>,
    len: u32,
    next: i64,
}

impl Runs {
    pub(super) fn clear(&mut self) {
        self.starts.clear();
        self.len = 0;
    }

    /// Adds the offset of the chunk's next record.
    #[inline]
    pub(super) fn push(&mut self, offset: i64) {
        if self.starts.is_empty() || offset != self.next {
            self.starts.push((self.len, offset));
        }
        self.len += 1;
        self.next = offset + 1;
    }

    /// How many records there are.
    pub(super) const fn len(&self) -> u32 {
        self.len
    }

    /// The offset of the record at `index` (of the last one when there are fewer); `None` when there are none.
    fn offset(&self, index: u32) -> Option<i64> {
        let index = index.min(self.len.checked_sub(1)?);
        let run = self.starts.partition_point(|(first, _)| *first <= index) - 1;
        let (first, offset) = self.starts[run];
        Some(offset + i64::from(index - first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn runs_know_every_offset(gaps in prop::collection::vec(prop_oneof![4 => Just(0i64), 1 => 1i64..50], 1..200)) {
            let mut runs = Runs::default();
            let mut offsets = Vec::new();
            let mut offset = 7;
            for gap in gaps {
                offset += gap;
                runs.push(offset);
                offsets.push(offset);
                offset += 1;
            }
            for (index, offset) in offsets.iter().enumerate() {
                prop_assert_eq!(runs.offset(index as u32), Some(*offset));
            }
            prop_assert_eq!(runs.offset(u32::MAX), offsets.last().copied());
        }
    }

    #[test]
    fn the_record_taken_last_is_in_hand_and_those_before_it_are_handled() {
        let slot = Slot::new(1, Instant::now());
        slot.restart(100);
        assert_eq!(slot.unhandled(), 100);
        let mut runs = Runs::default();
        [100, 101, 110].into_iter().for_each(|o| runs.push(o));
        slot.publish(&mut runs);
        assert_eq!(slot.unhandled(), 100);
        for (taken, offset) in [(1, 100), (2, 101), (3, 110)] {
            slot.control.set_taken(taken);
            assert_eq!(slot.unhandled(), offset);
        }
        assert_eq!(slot.after_taken(), Some(111));
        slot.control.set_taken(2);
        assert_eq!(slot.after_taken(), Some(110));
        slot.restart(111);
        assert_eq!(slot.unhandled(), 111);
        slot.at(112);
        assert_eq!(slot.unhandled(), 112);
    }
}
