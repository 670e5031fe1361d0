//! A slot: what one reader shares with the heartbeat.
//!
//! The reader writes where it is; the heartbeat reads it and reports it as progress, so that a crash repeats only what
//! was handled since. One record at a time that is a relaxed store of where it is and one of how many it handed out
//! ([`Slot::hand`]); by the chunk it is the caller's `taken` index, mapped back to an offset by the runs of the current chunk.
//! How many records were handled follows from the same ([`Slot::handled`]).

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};
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
    /// Twice the first offset not handled, when no chunk is out; one more when its record is in the application's hands.
    position: AtomicI64,
    /// Records handed out one at a time, less those that were put back.
    handed: AtomicU64,
    /// The chunk that is out: held only while a fill ends and while the heartbeat looks.
    chunk: Mutex<Chunk>,
}

#[derive(Debug, Default)]
struct Chunk {
    runs: Runs,
    /// Records of earlier chunks that were handled.
    handled: u64,
    /// Records of earlier chunks that were handed out, each as often as it was.
    given: u64,
}

impl Slot {
    pub(super) fn new(id: SlotId, now: Instant) -> Arc<Self> {
        Arc::new(Self {
            id,
            made: now,
            control: Arc::new(SlotControl::default()),
            position: AtomicI64::new(-2),
            handed: AtomicU64::new(0),
            chunk: Mutex::new(Chunk::default()),
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
        self.clear(&mut chunk);
        self.position.store(offset << 1, Ordering::Relaxed);
    }

    /// No chunk is out any more; what was handed out of it counts.
    fn clear(&self, chunk: &mut Chunk) {
        chunk.given += u64::from(self.given(&chunk.runs));
        chunk.runs.clear();
        self.control.taken.store(0, Ordering::Relaxed);
        self.control.handed.store(0, Ordering::Relaxed);
    }

    /// How many records of the chunk were handed out.
    fn given(&self, runs: &Runs) -> u32 {
        let taken = self.control.taken.load(Ordering::Acquire);
        taken.max(self.control.handed.load(Ordering::Acquire)).min(runs.len())
    }

    /// How many records were handed out by the chunk so far, each as often as it was. Only grows.
    pub(super) fn given_by_chunk(&self) -> u64 {
        let chunk = self.chunk.lock();
        chunk.given + u64::from(self.given(&chunk.runs))
    }

    /// How many records of the chunk that is out were not handed out.
    pub(super) fn unseen(&self) -> u32 {
        let chunk = self.chunk.lock();
        chunk.runs.len() - self.given(&chunk.runs)
    }

    /// Says that of the chunk that is out `all` records are handled, or those that were taken, and everything below `offset`.
    pub(super) fn end_chunk(&self, offset: i64, all: bool) {
        let mut chunk = self.chunk.lock();
        if all {
            // A caller that takes whole chunks need not say how far it is.
            self.control.set_taken(chunk.runs.len());
        }
        chunk.handled += u64::from(self.control.taken.load(Ordering::Acquire));
        self.clear(&mut chunk);
        self.position.store(offset << 1, Ordering::Relaxed);
    }

    /// The record in the application's hands, at `offset`, was not handled: it goes back, with what is left of its chunk.
    pub(super) fn put_back(&self, offset: i64) {
        let mut chunk = self.chunk.lock();
        if chunk.runs.len() > 0 {
            chunk.handled += u64::from(self.control.taken.load(Ordering::Acquire).saturating_sub(1));
        } else if self.position.load(Ordering::Relaxed) & 1 == 1 {
            self.handed.store(self.handed() - 1, Ordering::Relaxed);
        }
        self.clear(&mut chunk);
        self.position.store(offset << 1, Ordering::Relaxed);
    }

    /// Says that everything below `offset` is handled and nothing is in the application's hands. No chunk is out.
    pub(super) fn at(&self, offset: i64) {
        // Relaxed: a heartbeat that sees an older value repeats a little more after a crash, and never skips.
        self.position.store(offset << 1, Ordering::Relaxed);
    }

    /// Hands out the record at `offset`; the one before, if any, is handled. No chunk is out.
    #[inline]
    pub(super) fn hand(&self, offset: i64) {
        // Relaxed, as above. The position first: who looks in between counts one too few.
        self.position.store(offset << 1 | 1, Ordering::Relaxed);
        self.handed.store(self.handed() + 1, Ordering::Relaxed);
    }

    /// How many records were handed out one at a time, less those that were put back.
    #[inline]
    pub(super) fn handed(&self) -> u64 {
        self.handed.load(Ordering::Relaxed)
    }

    /// How many records were handled in all, gaps of compaction not counted.
    pub(super) fn handled(&self) -> u64 {
        let chunk = self.chunk.lock();
        let of_chunk = match chunk.runs.len() {
            0 => 0,
            _ => u64::from(self.control.taken.load(Ordering::Acquire).saturating_sub(1)),
        };
        let handed = self.handed();
        let in_hand = self.position.load(Ordering::Relaxed) & 1;
        chunk.handled + of_chunk + handed.saturating_sub(in_hand.unsigned_abs())
    }

    /// Says that a chunk with the records of `runs` is out; gives the old runs back for reuse.
    pub(super) fn publish(&self, runs: &mut Runs) {
        let mut chunk = self.chunk.lock();
        // Under the lock, so that the heartbeat never reads the new chunk's records with the old chunk's index.
        self.clear(&mut chunk);
        std::mem::swap(&mut chunk.runs, runs);
    }

    /// The first offset that was not taken: where a revoked chunk goes on when its taken records are all handled.
    /// `None` when no chunk is out.
    pub(super) fn after_taken(&self) -> Option<i64> {
        let chunk = self.chunk.lock();
        let taken = self.control.taken.load(Ordering::Acquire);
        let runs = &chunk.runs;
        if taken < runs.len() { runs.offset(taken) } else { Some(runs.offset(u32::MAX)? + 1) }
    }

    /// The first offset of the unit that is not handled.
    pub(super) fn unhandled(&self) -> i64 {
        let chunk = self.chunk.lock();
        let taken = self.control.taken.load(Ordering::Acquire);
        chunk
            .runs
            .offset(taken.saturating_sub(1))
            .unwrap_or_else(|| self.position.load(Ordering::Relaxed) >> 1)
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

    #[test]
    fn what_is_in_hand_or_put_back_is_not_counted_as_handled_nor_are_gaps() {
        let slot = Slot::new(1, Instant::now());
        slot.restart(100);
        assert_eq!(slot.handled(), 0);
        slot.hand(150);
        assert_eq!((slot.handled(), slot.unhandled()), (0, 150), "a gap was crossed");
        slot.hand(170);
        assert_eq!((slot.handled(), slot.handed()), (1, 2), "taking one says that the one before is handled");
        slot.at(171);
        assert_eq!(slot.handled(), 2);
        slot.hand(172);
        slot.put_back(172);
        assert_eq!((slot.handled(), slot.unhandled()), (2, 172));
        let chunk = |slot: &Slot| {
            let mut runs = Runs::default();
            [180, 181, 190, 191].into_iter().for_each(|o| runs.push(o));
            slot.publish(&mut runs);
        };
        chunk(&slot);
        assert_eq!(slot.handled(), 2);
        slot.control.set_taken(3);
        assert_eq!(slot.handled(), 4);
        slot.put_back(190);
        assert_eq!((slot.handled(), slot.unhandled()), (4, 190), "the third failed");
        chunk(&slot);
        slot.end_chunk(192, true);
        assert_eq!(slot.handled(), 8);
        chunk(&slot);
        slot.control.set_taken(2);
        slot.end_chunk(190, false);
        assert_eq!((slot.handled(), slot.unhandled()), (10, 190), "revoked when two were taken");
    }

    #[test]
    fn a_record_counts_once_a_hand_out() {
        let slot = Slot::new(1, Instant::now());
        let chunk = || {
            let mut runs = Runs::default();
            (0..10).for_each(|o| runs.push(o));
            slot.publish(&mut runs);
        };
        chunk();
        assert_eq!((slot.given_by_chunk(), slot.unseen()), (0, 10));
        slot.control.set_taken(4);
        assert_eq!((slot.given_by_chunk(), slot.unseen()), (4, 6));
        // It goes back from the fourth on, and comes again: the next chunk begins with nothing taken.
        slot.put_back(3);
        chunk();
        assert_eq!(slot.given_by_chunk(), 4);
        // Several at once, of which the first is the one that is named.
        slot.control.set_taken(1);
        slot.control.set_handed(3);
        assert_eq!((slot.given_by_chunk(), slot.unseen()), (7, 7));
        slot.control.set_taken(4);
        assert_eq!(slot.given_by_chunk(), 8);
        slot.end_chunk(10, true);
        assert_eq!(slot.given_by_chunk(), 14);
        // A caller may say that it has taken more than there is.
        chunk();
        slot.control.set_taken(99);
        assert_eq!(slot.given_by_chunk(), 24);
        slot.restart(10);
        assert_eq!((slot.given_by_chunk(), slot.unseen()), (24, 0));
    }
}
