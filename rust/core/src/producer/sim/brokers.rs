//! The other side: partitions' logs, which check a producer's numbers as Kafka's ProducerStateManager does.

use std::collections::{BTreeSet, VecDeque};

use bytes::Bytes;

use crate::wire::{Batches, ErrorCode};

/// Batches of a producer that a broker recognizes.
const RECOGNIZED: usize = 5;

/// xorshift: the same seed, the same schedule, on every machine.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        (0..8).for_each(|_| _ = dice.next());
        dice
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    pub(super) fn roll(&mut self, n: u64) -> u64 {
        (self.next() >> 8) % n
    }

    pub(super) fn between(&mut self, from: u64, to: u64) -> u64 {
        from + self.roll(to - from)
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }

    pub(super) fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.roll(of.len() as u64) as usize]
    }
}

/// One batch in a log.
struct Entry {
    offset: usize,
    count: usize,
    id: i64,
    epoch: i16,
    sequence: i32,
}

/// What a leader knows of the one producer there is.
struct Known {
    epoch: i16,
    /// Last sequence written.
    last: i32,
    /// First sequence, records and offset of the last batches.
    recent: VecDeque<(i32, usize, usize)>,
}

/// One partition.
pub(super) struct Log {
    /// -1: nobody.
    pub(super) leader: i32,
    pub(super) epoch: i32,
    /// The number of the record at each offset.
    pub(super) records: Vec<u64>,
    entries: Vec<Entry>,
    known: Option<Known>,
    /// Entries before this one are not remembered.
    remembered_from: usize,
    /// The end of what was acknowledged: a new leader has at least that.
    pub(super) acknowledged: usize,
    /// The leader lost the producer's state at least once: what was in doubt then may stand twice.
    pub(super) forgot: bool,
    /// Numbers (epoch, sequence) that were refused for a gap.
    refused: BTreeSet<(i16, i32)>,
    /// A request of an ended connection was carried out after the same numbers had been refused for a gap: whoever
    /// believed the refusal sent them under new ones.
    pub(super) haunted: bool,
    /// The user may not write here now.
    pub(super) denied: bool,
}

/// A batch in a few words.
pub(super) fn describe(batch: &Bytes) -> String {
    let batch = Batches::new(batch.clone()).next().expect("a batch").expect("a sound batch");
    let (epoch, sequence, count) = (batch.producer_epoch(), batch.base_sequence(), batch.record_count());
    let open = batch.open(1 << 20).expect("a batch that opens");
    let first = open.records().next().expect("it is not empty").expect("a sound record");
    let number = first.value.and_then(<[u8]>::first_chunk).map(|n| u64::from_be_bytes(*n));
    format!("{count} records from {number:?}, epoch {epoch}, sequence {sequence}")
}

/// A batch that was taken, or had been before.
#[derive(Debug, Clone, Copy)]
pub(super) struct Written {
    pub(super) offset: usize,
    pub(super) count: usize,
    pub(super) again: bool,
}

impl Log {
    pub(super) fn new(leader: i32) -> Self {
        Self {
            leader,
            epoch: 0,
            records: Vec::new(),
            entries: Vec::new(),
            known: None,
            remembered_from: 0,
            acknowledged: 0,
            forgot: false,
            refused: BTreeSet::new(),
            haunted: false,
            denied: false,
        }
    }

    /// Appends as a leader does. `old`: as leaders before 2.4, which refuse a producer they do not know. `late`: nobody
    /// waits for the answer any more.
    pub(super) fn append(&mut self, batch: &Bytes, old: bool, late: bool) -> Result<Written, ErrorCode> {
        let batch = Batches::new(batch.clone()).next().expect("a batch").expect("a sound batch");
        let (id, epoch, sequence) = (batch.producer_id(), batch.producer_epoch(), batch.base_sequence());
        let count = batch.record_count() as usize;
        let offset = self.records.len();
        if id >= 0 {
            if let Some(before) = self.recognize(epoch, sequence, count) {
                return Ok(Written { offset: before, count, again: true });
            }
            let checked = self.check(epoch, sequence, old);
            match checked {
                Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER) => _ = self.refused.insert((epoch, sequence)),
                _ => self.haunted |= late && self.refused.contains(&(epoch, sequence)),
            }
            checked?;
        }
        let open = batch.open(1 << 20).expect("a batch that opens");
        for record in open.records() {
            let value = record.expect("a sound record").value.expect("every record has a value");
            let number = value.first_chunk().expect("a number comes first");
            self.records.push(u64::from_be_bytes(*number));
        }
        assert_eq!(self.records.len(), offset + count, "a header that counts wrong");
        let entry = Entry { offset, count, id, epoch, sequence };
        Self::remember(&mut self.known, &entry);
        self.entries.push(entry);
        Ok(Written { offset, count, again: false })
    }

    fn recognize(&self, epoch: i16, sequence: i32, count: usize) -> Option<usize> {
        let known = self.known.as_ref().filter(|known| known.epoch == epoch)?;
        let same = |batch: &&(i32, usize, usize)| batch.0 == sequence && batch.1 == count;
        known.recent.iter().find(same).map(|batch| batch.2)
    }

    fn check(&self, epoch: i16, sequence: i32, old: bool) -> Result<(), ErrorCode> {
        match &self.known {
            None if old && sequence != 0 => Err(ErrorCode::UNKNOWN_PRODUCER_ID),
            None => Ok(()),
            Some(known) if epoch < known.epoch => Err(ErrorCode::INVALID_PRODUCER_EPOCH),
            Some(known) if epoch > known.epoch && sequence != 0 => {
                Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER)
            }
            Some(known) if epoch == known.epoch && sequence != known.last.wrapping_add(1) => {
                Err(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER)
            }
            Some(_) => Ok(()),
        }
    }

    fn remember(known: &mut Option<Known>, entry: &Entry) {
        if entry.id < 0 {
            return;
        }
        if known.as_ref().is_none_or(|known| known.epoch != entry.epoch) {
            *known = Some(Known { epoch: entry.epoch, last: -1, recent: VecDeque::new() });
        }
        let known = known.as_mut().expect("set above");
        known.last = entry.sequence + entry.count as i32 - 1;
        known.recent.push_back((entry.sequence, entry.count, entry.offset));
        if known.recent.len() > RECOGNIZED {
            known.recent.pop_front();
        }
    }

    /// Another broker leads; it lacks what stood at `end` and behind.
    pub(super) fn fail_over(&mut self, leader: i32, end: usize) {
        self.leader = leader;
        self.epoch += 1;
        self.entries.retain(|entry| entry.offset + entry.count <= end);
        self.records.truncate(self.entries.last().map_or(0, |last| last.offset + last.count));
        self.known = None;
        let remembered = self.entries.iter().skip(self.remembered_from);
        remembered.for_each(|entry| Self::remember(&mut self.known, entry));
    }

    /// The leader loses what it knows of the producer: it expired, or its records were deleted.
    pub(super) fn forget(&mut self) {
        self.forgot |= self.known.take().is_some();
        self.remembered_from = self.entries.len();
    }

    /// Whether the last batch began a new epoch.
    pub(super) fn raised_epoch(&self) -> bool {
        self.entries.last().is_some_and(|last| last.epoch > 0 && last.sequence == 0)
    }

    /// Ends of the batches that a new leader may lack or not.
    pub(super) fn ends(&self) -> Vec<usize> {
        let ends = self.entries.iter().map(|entry| entry.offset + entry.count);
        std::iter::once(self.acknowledged).chain(ends.filter(|end| *end > self.acknowledged)).collect()
    }
}
