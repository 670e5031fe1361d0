//! What the brokers know, and which records were handled: the oracle.

use std::sync::Arc;

use crate::wire::Uuid;

/// The topics there are.
pub(super) const TOPICS: [&str; 2] = ["a", "b"];

pub(super) fn topic(number: usize) -> Arc<str> {
    TOPICS[number].into()
}

pub(super) fn number(topic: &str) -> usize {
    TOPICS.iter().position(|t| *t == topic).unwrap()
}

/// xorshift: the same seed, the same schedule, on every machine.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) fn new(seed: u64) -> Self {
        let mut dice = Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        (0..8).for_each(|_| _ = dice.next());
        dice
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    /// A generation: below 2^53, as the product's are.
    pub(super) fn nonce(&mut self) -> u64 {
        self.next() >> 11
    }

    pub(super) fn roll(&mut self, n: u64) -> u64 {
        (self.next() >> 8) % n
    }

    pub(super) fn below(&mut self, n: usize) -> usize {
        self.roll(n as u64) as usize
    }

    pub(super) fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }
}

/// A record as the oracle sees it.
#[derive(Clone, Copy, Default)]
struct Record {
    /// When it was written.
    at: u64,
    /// Handled, reported lost, given up by an operator, or before the start.
    done: bool,
    /// Was done until an operator sought back.
    was_done: bool,
    /// Fails or kills whenever it is handled.
    poison: bool,
    /// Has been parked: those behind it do not wait for it, even when order counts.
    parked: bool,
}

/// A partition's log.
pub(super) struct Log {
    pub(super) id: Uuid,
    pub(super) start: i64,
    records: Vec<Record>,
    /// `(epoch, first offset)`, ascending.
    epochs: Vec<(i32, i64)>,
    /// Everything below is done.
    verified: usize,
    /// Whether an operator moved it; then the order of first deliveries says nothing.
    pub(super) moved: bool,
}

/// What a reader finds at an offset.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Found {
    Record,
    Poison,
    /// Deleted.
    BelowStart,
    /// Not there (yet).
    End,
}

impl Log {
    pub(super) fn new(id: u8) -> Self {
        let (records, epochs) = (Vec::new(), vec![(0, 0)]);
        Self { id: Uuid([id; 16]), start: 0, records, epochs, verified: 0, moved: false }
    }

    pub(super) fn end(&self) -> i64 {
        self.records.len() as i64
    }

    pub(super) fn epoch(&self) -> i32 {
        self.epochs.last().unwrap().0
    }

    /// Where an epoch ends, as a leader answers OffsetForLeaderEpoch.
    pub(super) fn end_of(&self, epoch: i32) -> i64 {
        self.epochs.iter().find(|(e, _)| *e > epoch).map_or(self.end(), |(_, start)| *start)
    }

    pub(super) fn append(&mut self, at: u64, poison: bool) {
        self.records.push(Record { at, poison, ..Record::default() });
    }

    /// The first offset of a record that is at least so young, as a leader answers ListOffsets.
    pub(super) fn first_since(&self, at: u64) -> i64 {
        self.records.iter().position(|record| record.at >= at).map_or(self.end(), |offset| offset as i64)
    }

    /// A new leader whose log is shorter.
    pub(super) fn truncate(&mut self, by: i64) {
        let cut = (self.end() - by).max(self.start);
        let epoch = self.epoch() + 1;
        self.records.truncate(cut as usize);
        self.verified = self.verified.min(cut as usize);
        self.epochs.retain(|(e, start)| *start < cut || *e == 0);
        self.epochs.push((epoch, cut));
    }

    /// These are handled, or nobody will ask for them.
    pub(super) fn is_done(&mut self, from: i64, to: i64) {
        let to = to.min(self.end());
        (from.min(to)..to).for_each(|offset| self.records[offset as usize].done = true);
    }

    pub(super) fn is_out_of_order(&mut self, from: i64, to: i64) {
        let to = to.min(self.end());
        (from.min(to)..to).for_each(|offset| self.records[offset as usize].parked = true);
    }

    pub(super) fn find(&self, offset: i64) -> Found {
        match self.records.get(offset as usize) {
            None => Found::End,
            Some(_) if offset < self.start => Found::BelowStart,
            Some(record) if record.poison => Found::Poison,
            Some(_) => Found::Record,
        }
    }

    /// The application has handled a record. Says whether it had before.
    pub(super) fn handle(&mut self, offset: i64) -> bool {
        let record = &mut self.records[offset as usize];
        std::mem::replace(&mut record.done, true) || record.was_done
    }

    /// A record before `offset` that should have been handled before it.
    pub(super) fn overtaken(&self, offset: i64) -> Option<usize> {
        let before = &self.records[self.start.min(offset) as usize..offset as usize];
        let at = before.iter().position(|record| !record.done && !record.parked)?;
        Some(at + self.start.min(offset) as usize)
    }

    /// An operator wants to go on at `to`: what lies behind is to be handled again, what he skips is not.
    pub(super) fn sought(&mut self, to: i64) {
        self.is_done(0, to);
        for record in &mut self.records[to as usize..] {
            record.was_done |= record.done;
            record.done = false;
        }
        self.verified = self.verified.min(to as usize);
        self.moved = true;
    }

    pub(super) fn unseek(&mut self) {
        self.records.iter_mut().for_each(|record| record.done |= record.was_done);
    }

    /// Nothing fails any more.
    pub(super) fn heal(&mut self) {
        self.records.iter_mut().for_each(|record| record.poison = false);
    }

    /// The first offset below `cursor` that no open unit covers and that is not done.
    pub(super) fn skipped(&mut self, cursor: i64, open: &[(i64, i64)]) -> Option<i64> {
        let end = cursor.min(self.end()) as usize;
        while self.verified < end && self.records[self.verified].done {
            self.verified += 1;
        }
        let mut open = open.iter().peekable();
        (self.verified as i64..end as i64).find(|offset| {
            while open.peek().is_some_and(|(_, to)| *to <= *offset) {
                open.next();
            }
            let covered = open.peek().is_some_and(|(from, _)| *from <= *offset);
            !covered && !self.records[*offset as usize].done
        })
    }
}
