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
    /// Nobody's, and quarantined since this time, ms.
    Parked(u64),
}

/// Due never: a waiting unit that may not be delivered as things are (its partition is paused, or another unit of an ordered
/// partition goes first). Below 2^53, so that it is a whole number everywhere.
pub(super) const HELD: u64 = 1 << 52;

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
    /// Whether it was parked and is tried again: see `state/quarantine`.
    pub(super) probe: bool,
    pub(super) phase: Phase,
}

impl Row {
    /// Whether it is the claim that a member speaks of.
    pub(super) fn belongs_to(&self, consumer: &ConsumerId, request: u64, end: i64) -> bool {
        self.request == request && self.end == end && self.holder == *consumer
    }

    /// Whether a member has it by this request, and not only had it.
    pub(super) fn is_leased_by(&self, consumer: &ConsumerId, request: u64) -> bool {
        self.request == request && self.holder == *consumer && matches!(self.phase, Phase::Leased(_))
    }

    /// Whether it is quarantined.
    pub(super) const fn is_parked(&self) -> bool {
        matches!(self.phase, Phase::Parked(_))
    }

    /// Takes in how far its holder is. Never to the end: only an acknowledgement ends a unit.
    ///
    /// Attempts are those of the record it stands at. Else five records of a unit that fail once each, and are handled the
    /// second time, would add up to a unit that failed five times.
    pub(super) fn advance(&mut self, progress: i64) {
        if progress > self.progress && progress < self.end {
            self.progress = progress;
            self.attempt = self.attempt.min(1);
        }
    }
}

impl UnitId {
    pub(super) fn tp(&self) -> (Arc<str>, i32) {
        (Arc::clone(&self.topic), self.partition)
    }
}

/// All open units.
#[derive(Debug, Clone, Default)]
pub(super) struct Units {
    rows: BTreeMap<UnitId, Row>,
    leased: ByTopic,
    delayed: ByTopic,
}

/// Units by time. By topic, so that a member's round never looks at units that it may not have.
#[derive(Debug, Clone, Default)]
struct ByTopic(BTreeMap<Arc<str>, BTreeSet<(u64, UnitId)>>);

impl ByTopic {
    fn insert(&mut self, at: u64, id: &UnitId) {
        self.0.entry(Arc::clone(&id.topic)).or_default().insert((at, id.clone()));
    }

    fn remove(&mut self, at: u64, id: &UnitId) {
        let Some(units) = self.0.get_mut(&id.topic) else { return };
        units.remove(&(at, id.clone()));
        if units.is_empty() {
            self.0.remove(&id.topic);
        }
    }

    fn contains(&self, at: u64, id: &UnitId) -> bool {
        self.0.get(&id.topic).is_some_and(|units| units.contains(&(at, id.clone())))
    }

    fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    /// Those of some topics.
    fn of<'a>(&'a self, topics: &'a [Arc<str>]) -> impl Iterator<Item = &'a BTreeSet<(u64, UnitId)>> {
        topics.iter().filter_map(|topic| self.0.get(topic))
    }

    fn iter(&self) -> impl Iterator<Item = &(u64, UnitId)> {
        self.0.values().flatten()
    }
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
            Phase::Leased(until) => self.leased.insert(until, id),
            Phase::Delayed(due) => self.delayed.insert(due, id),
            Phase::Parked(_) => {}
        }
    }

    fn unlist(&mut self, id: &UnitId, phase: Phase) {
        match phase {
            Phase::Leased(until) => self.leased.remove(until, id),
            Phase::Delayed(due) => self.delayed.remove(due, id),
            Phase::Parked(_) => {}
        }
    }

    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The units of a partition, in order of offset.
    pub(super) fn of(&self, (topic, partition): &(Arc<str>, i32)) -> Vec<UnitId> {
        self.rows.range(Self::range(topic, *partition)).map(|(id, _)| id.clone()).collect()
    }

    /// Where the first unit of a partition stands.
    pub(super) fn first_of(&self, (topic, partition): &(Arc<str>, i32)) -> Option<i64> {
        self.rows.range(Self::range(topic, *partition)).next().map(|(_, row)| row.progress)
    }

    /// The last unit of a partition.
    pub(super) fn last_of(&self, (topic, partition): &(Arc<str>, i32)) -> Option<(UnitId, &Row)> {
        self.rows.range(Self::range(topic, *partition)).next_back().map(|(id, row)| (id.clone(), row))
    }

    fn range(topic: &Arc<str>, partition: i32) -> std::ops::RangeInclusive<UnitId> {
        let id = |carved_at| UnitId { topic: Arc::clone(topic), partition, carved_at };
        id(i64::MIN)..=id(i64::MAX)
    }

    /// What a member has leased, in order of partition and offset. Looks at all leases.
    pub(super) fn held_by(&self, consumer: &ConsumerId) -> Vec<UnitId> {
        let held = |(_, id): &&(u64, UnitId)| self.rows.get(id).is_some_and(|row| row.holder == *consumer);
        let mut ids: Vec<UnitId> = self.leased.iter().filter(held).map(|(_, id)| id.clone()).collect();
        ids.sort_unstable();
        ids
    }

    /// Leases of these topics that ended, the oldest first, at most `most`.
    pub(super) fn expired(&self, now: u64, topics: &[Arc<str>], most: usize) -> Vec<UnitId> {
        let ended = |units: &BTreeSet<(u64, UnitId)>| {
            units.iter().take_while(|(until, _)| *until <= now).take(most).cloned().collect::<Vec<_>>()
        };
        let mut ended: Vec<_> = self.leased.of(topics).flat_map(ended).collect();
        ended.sort_unstable();
        ended.into_iter().take(most).map(|(_, id)| id).collect()
    }

    /// The unit of these topics that is due for longest.
    pub(super) fn next_due(&self, now: u64, topics: &[Arc<str>]) -> Option<UnitId> {
        let firsts = self.delayed.of(topics).filter_map(BTreeSet::first);
        firsts.min().filter(|(due, _)| *due <= now).map(|(_, id)| id.clone())
    }

    /// How many units of these topics are due.
    pub(super) fn due_count(&self, now: u64, topics: &[Arc<str>]) -> usize {
        self.delayed.of(topics).map(|delayed| delayed.iter().take_while(|(due, _)| *due <= now).count()).sum()
    }

    /// When the first unit of these topics is due.
    pub(super) fn first_due(&self, topics: &[Arc<str>]) -> Option<u64> {
        let firsts = self.delayed.of(topics).filter_map(BTreeSet::first);
        firsts.map(|(due, _)| *due).filter(|due| *due != HELD).min()
    }

    /// When the first lease of these topics ends.
    pub(super) fn first_deadline(&self, topics: &[Arc<str>]) -> Option<u64> {
        self.leased.of(topics).filter_map(BTreeSet::first).map(|(until, _)| *until).min()
    }

    /// Whether somebody has a unit.
    pub(super) fn is_any_leased(&self) -> bool {
        self.leased.len() > 0
    }

    /// Moves times that are too far in the future: leases to `lease`, waits to `wait`. (Those that are held stay so.)
    pub(super) fn not_later(&mut self, lease: u64, wait: u64) {
        let leased = self.leased.iter().filter(|(until, _)| *until > lease);
        let delayed = self.delayed.iter().filter(|(due, _)| *due > wait && *due != HELD);
        let late: Vec<UnitId> = leased.chain(delayed).map(|(_, id)| id.clone()).collect();
        for id in &late {
            self.update(id, |row| {
                row.phase = match row.phase {
                    Phase::Leased(_) => Phase::Leased(lease),
                    Phase::Delayed(_) => Phase::Delayed(wait),
                    Phase::Parked(since) => Phase::Parked(since),
                };
            });
        }
    }

    /// Invariant 3: each unit is in exactly one index, by its phase.
    pub(super) fn check(&self) -> Result<(), String> {
        let parked = self.rows.values().filter(|row| row.is_parked()).count();
        if self.rows.len() != self.leased.len() + self.delayed.len() + parked {
            return Err("3: a unit is in no index or in two".to_owned());
        }
        for (id, row) in &self.rows {
            let listed = match row.phase {
                Phase::Leased(until) => self.leased.contains(until, id),
                Phase::Delayed(due) => self.delayed.contains(due, id),
                Phase::Parked(_) => true,
            };
            if !listed {
                return Err(format!("3: {id} is not where its phase {:?} says", row.phase));
            }
        }
        Ok(())
    }
}
