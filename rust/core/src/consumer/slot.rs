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
use super::claim;

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

    /// The reader takes the unit `[start, end)`, of which it has claimed nothing.
    pub(super) fn begin(&self, start: i64, end: i64) {
        self.control.base.store(start, Ordering::Relaxed);
        self.control.claims.store(claim::whole(end - start), Ordering::Release);
        self.control.revoked.store(false, Ordering::Release);
        self.restart(start);
    }

    fn base(&self) -> i64 {
        self.control.base.load(Ordering::Relaxed)
    }

    /// Claims the record at `offset` for the reader, with what follows of the next `block` offsets. Answers where what is claimed ends;
    /// `None`: the record was taken back.
    pub(super) fn claim(&self, offset: i64, block: u32) -> Option<i64> {
        let base = self.base();
        let from_base = |offset: i64| u32::try_from(offset - base).unwrap_or(u32::MAX);
        let (least, most) = (from_base(offset + 1), from_base(offset + i64::from(block.max(1))));
        let claimed = claim::claim(&self.control.claims, least, most)?;
        Some(if claimed == u32::MAX { i64::MAX } else { base + i64::from(claimed) })
    }

    /// Claims the first `n` records of the chunk that is out; answers how many are the reader's.
    pub(super) fn claim_records(&self, n: u32) -> u32 {
        let chunk = self.chunk.lock();
        let n = n.min(chunk.runs.len());
        let Some(last) = n.checked_sub(1).and_then(|last| chunk.runs.offset(last)) else { return 0 };
        if self.claim(last, 1).is_some() {
            n
        } else {
            chunk.runs.below(self.end().unwrap_or(i64::MAX)).min(n)
        }
    }

    /// Whether the unit in hands has records that were not handed out, behind one that is in hand. Without one its reader is asking, though it may
    /// be slow to go on: the group may know that all is handled that was claimed, and there would be nothing for the reader to keep.
    pub(super) fn has_rest(&self) -> bool {
        claim::has_rest(&self.control.claims)
            && claim::claimed(&self.control.claims) > self.unhandled() - self.base()
    }

    /// Takes back what the reader has not claimed of its unit; answers where the unit ends for it from now on, `None` when there is
    /// nothing to take back.
    pub(super) fn take_back(&self) -> Option<i64> {
        Some(self.base() + i64::from(claim::take_back(&self.control.claims)?))
    }

    /// Where the unit ends for the reader; `None` when nothing of it can be taken back.
    pub(super) fn end(&self) -> Option<i64> {
        Some(self.base() + i64::from(claim::end(&self.control.claims)?))
    }

    /// Says that everything below `offset` of the unit is handled and no chunk is out.
    pub(super) fn restart(&self, offset: i64) {
        let mut chunk = self.chunk.lock();
        chunk.runs.clear();
        self.control.taken.store(0, Ordering::Relaxed);
        self.position.store(offset << 1, Ordering::Relaxed);
    }

    /// Says that of the chunk that is out `all` records are handled, or those that were taken, and everything below `offset`.
    pub(super) fn end_chunk(&self, offset: i64, all: bool) {
        let mut chunk = self.chunk.lock();
        let taken = self.control.taken.load(Ordering::Acquire);
        let records = if all { chunk.runs.len() } else { taken };
        chunk.handled += u64::from(records);
        chunk.runs.clear();
        self.control.taken.store(0, Ordering::Relaxed);
        self.position.store(offset << 1, Ordering::Relaxed);
    }

    /// The record in the application's hands, at `offset`, was not handled: it goes back, with what is left of its chunk.
    pub(super) fn put_back(&self, offset: i64) {
        let mut chunk = self.chunk.lock();
        if chunk.runs.len() > 0 {
            chunk.handled += u64::from(self.control.taken.load(Ordering::Acquire).saturating_sub(1));
            chunk.runs.clear();
        } else if self.position.load(Ordering::Relaxed) & 1 == 1 {
            self.handed.store(self.handed() - 1, Ordering::Relaxed);
        }
        self.control.taken.store(0, Ordering::Relaxed);
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
        self.control.taken.store(0, Ordering::Relaxed);
        std::mem::swap(&mut chunk.runs, runs);
        runs.clear();
    }

    /// The first offset that was not taken, and how many records were not: where a chunk goes on of which the rest was revoked or taken
    /// back, when its taken records are all handled. `None` when no chunk is out.
    pub(super) fn after_taken(&self) -> Option<(i64, u32)> {
        let chunk = self.chunk.lock();
        let taken = self.control.taken.load(Ordering::Acquire);
        let runs = &chunk.runs;
        let left = runs.len().saturating_sub(taken);
        Some((if left > 0 { runs.offset(taken)? } else { runs.offset(u32::MAX)? + 1 }, left))
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

    /// How many records have an offset below `end`.
    fn below(&self, end: i64) -> u32 {
        let run = self.starts.partition_point(|(_, offset)| *offset < end);
        let Some((first, offset)) = run.checked_sub(1).map(|run| self.starts[run]) else { return 0 };
        let next = self.starts.get(run).map_or(self.len, |(first, _)| *first);
        u32::try_from(end - offset).unwrap_or(u32::MAX).saturating_add(first).min(next)
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
                prop_assert_eq!(runs.below(*offset), index as u32);
                prop_assert_eq!(runs.below(*offset + 1), index as u32 + 1);
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
        assert_eq!(slot.after_taken(), Some((111, 0)));
        slot.control.set_taken(2);
        assert_eq!(slot.after_taken(), Some((110, 1)));
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
    fn what_is_not_claimed_is_taken_back_and_what_is_claimed_stays() {
        let slot = Slot::new(1, Instant::now());
        slot.begin(100, 200);
        assert!(!slot.has_rest() && slot.take_back().is_none(), "its reader is about to begin");
        assert_eq!(slot.claim(105, 1), Some(106));
        assert_eq!(slot.claim(106, 16), Some(122));
        assert!(slot.has_rest());
        slot.at(122);
        assert!(!slot.has_rest(), "all that was claimed is handled: its reader is asking");
        slot.at(121);
        assert!(slot.has_rest());
        assert_eq!((slot.take_back(), slot.end(), slot.has_rest()), (Some(122), Some(122), false));
        assert_eq!((slot.claim(121, 16), slot.claim(122, 1)), (Some(122), None));
        slot.begin(0, i64::MAX);
        assert_eq!((slot.claim(7, 1), slot.take_back(), slot.end()), (Some(i64::MAX), None, None));
    }
}
