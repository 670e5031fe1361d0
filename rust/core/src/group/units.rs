//! The open units of a group and the orders they are looked up in.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::types::{ConsumerId, UnitId};

/// Where a unit is; exactly one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Its holder's until this time, ms.
    Leased(u64),
    /// Nobody's; to be delivered from this time on, ms.
    Delayed(u64),
    /// Nobody's, and not delivered any more.
    Parked,
}

/// A unit.
#[derive(Debug, Clone)]
pub(super) struct Row {
    /// The first offset not handled.
    pub(super) progress: i64,
    pub(super) end: i64,
    pub(super) attempt: u32,
    /// Who was given it last.
    pub(super) holder: ConsumerId,
    /// By which request; 0 fences the holder.
    pub(super) request: u64,
    pub(super) phase: Phase,
}

impl Row {
    /// Whether it is the claim that a member speaks of.
    pub(super) fn belongs_to(&self, consumer: &ConsumerId, request: u64, end: i64) -> bool {
        self.request == request && self.end == end && self.holder == *consumer
    }

    /// Takes in how far its holder is. Never to the end: only an acknowledgement ends a unit.
    pub(super) fn advance(&mut self, progress: i64) {
        if progress > self.progress && progress < self.end {
            self.progress = progress;
        }
    }
}

impl UnitId {
    pub(super) fn tp(&self) -> (Arc<str>, i32) {
        (Arc::clone(&self.topic), self.partition)
    }
}

/// All open units.
#[derive(Debug, Default)]
pub(super) struct Units {
    rows: BTreeMap<UnitId, Row>,
    leased: BTreeSet<(u64, UnitId)>,
    delayed: BTreeSet<(u64, UnitId)>,
}

impl Units {
    pub(super) fn get(&self, id: &UnitId) -> Option<&Row> {
        self.rows.get(id)
    }

    pub(super) fn insert(&mut self, id: UnitId, row: Row) {
        self.list(&id, row.phase);
        self.rows.insert(id, row);
    }

    pub(super) fn remove(&mut self, id: &UnitId) -> Option<Row> {
        let row = self.rows.remove(id)?;
        self.unlist(id, row.phase);
        Some(row)
    }

    /// Changes a unit that is there, and the index with it.
    pub(super) fn update(&mut self, id: &UnitId, change: impl FnOnce(&mut Row)) {
        let row = self.rows.get_mut(id).expect("invariant: callers name a unit that is there");
        let before = row.phase;
        change(row);
        let after = row.phase;
        if before != after {
            self.unlist(id, before);
            self.list(id, after);
        }
    }

    fn list(&mut self, id: &UnitId, phase: Phase) {
        match phase {
            Phase::Leased(until) => self.leased.insert((until, id.clone())),
            Phase::Delayed(due) => self.delayed.insert((due, id.clone())),
            Phase::Parked => true,
        };
    }

    fn unlist(&mut self, id: &UnitId, phase: Phase) {
        match phase {
            Phase::Leased(until) => self.leased.remove(&(until, id.clone())),
            Phase::Delayed(due) => self.delayed.remove(&(due, id.clone())),
            Phase::Parked => true,
        };
    }

    /// The units of a partition, in order of offset.
    pub(super) fn of(&self, (topic, partition): &(Arc<str>, i32)) -> Vec<UnitId> {
        self.rows.range(Self::range(topic, *partition)).map(|(id, _)| id.clone()).collect()
    }

    /// Where the first unit of a partition stands.
    pub(super) fn first_of(&self, (topic, partition): &(Arc<str>, i32)) -> Option<i64> {
        self.rows.range(Self::range(topic, *partition)).next().map(|(_, row)| row.progress)
    }

    /// Whether no unit of its partition stands before it.
    pub(super) fn is_first(&self, id: &UnitId) -> bool {
        self.rows.range(Self::range(&id.topic, id.partition)).next().is_some_and(|(first, _)| first == id)
    }

    fn range(topic: &Arc<str>, partition: i32) -> std::ops::RangeInclusive<UnitId> {
        let id = |carved_at| UnitId { topic: Arc::clone(topic), partition, carved_at };
        id(i64::MIN)..=id(i64::MAX)
    }

    pub(super) fn held_by(&self, consumer: &ConsumerId) -> Vec<UnitId> {
        let held = self
            .rows
            .iter()
            .filter(|(_, row)| row.holder == *consumer && matches!(row.phase, Phase::Leased(_)));
        held.map(|(id, _)| id.clone()).collect()
    }

    /// Leases that ended, the oldest first, at most `most`.
    pub(super) fn expired(&self, now: u64, most: usize) -> Vec<UnitId> {
        self.leased
            .iter()
            .take_while(|(until, _)| *until <= now)
            .take(most)
            .map(|(_, id)| id.clone())
            .collect()
    }

    /// Units to be delivered again now.
    pub(super) fn due(&self, now: u64) -> impl Iterator<Item = &UnitId> {
        self.delayed.iter().take_while(move |(due, _)| *due <= now).map(|(_, id)| id)
    }

    pub(super) fn first_due(&self) -> Option<u64> {
        self.delayed.first().map(|(due, _)| *due)
    }

    pub(super) fn first_deadline(&self) -> Option<u64> {
        self.leased.first().map(|(until, _)| *until)
    }

    /// Invariant 3: each unit is in exactly one index, by its phase.
    pub(super) fn check(&self) -> Result<(), String> {
        let parked = self.rows.values().filter(|row| row.phase == Phase::Parked).count();
        if self.rows.len() != self.leased.len() + self.delayed.len() + parked {
            return Err("3: a unit is in no index or in two".to_owned());
        }
        for (id, row) in &self.rows {
            let listed = match row.phase {
                Phase::Leased(until) => self.leased.contains(&(until, id.clone())),
                Phase::Delayed(due) => self.delayed.contains(&(due, id.clone())),
                Phase::Parked => true,
            };
            if !listed {
                return Err(format!("3: {id} is not where its phase {:?} says", row.phase));
            }
        }
        Ok(())
    }
}
