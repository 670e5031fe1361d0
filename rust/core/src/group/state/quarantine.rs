//! Units that failed too often: they are parked, and tried again, few at a time.
//!
//! Once a minute a partition's longest parked unit is given out as a *probe*. A success doubles how many are tried the next time,
//! a failure parks it again and sets that back to one. So whatever was wrong with a thousand records, they come back by
//! themselves when it is mended, and one that stays bad costs a delivery a minute at most.

use std::sync::Arc;
use std::time::Duration;

use super::exchange::LONGEST_BACKOFF;
use super::{GroupState, PARKED_PER_PARTITION, Tp};
use crate::group::types::{Event, Quarantined, UnitId, Unpark};
use crate::group::units::{Phase, Row};

/// How often parked units of a partition are tried again, ms.
const PROBE_EVERY: u64 = 60_000;
/// Partitions whose parked units are tried again in one tick; the rest waits for the next.
const PROBED_AT_ONCE: usize = 16;

impl GroupState {
    /// A unit is not delivered any more, until it is its turn to be tried again or somebody unparks it. A partition takes so many
    /// and no more: then its failing units are tried again and again, slowly.
    pub(super) fn park(&mut self, now: u64, id: &UnitId) {
        let tp = id.tp();
        let p = self.partition(&tp);
        if p.parked == PARKED_PER_PARTITION {
            self.units.update(id, |row| {
                row.request = 0;
                row.phase = Phase::Delayed(now + LONGEST_BACKOFF);
            });
            return;
        }
        if p.parked == 0 {
            (p.probe_at, p.probes) = (now + PROBE_EVERY, 1);
        }
        p.in_flight -= 1;
        p.parked += 1;
        let full = p.parked == PARKED_PER_PARTITION;
        self.units.update(id, |row| {
            row.phase = Phase::Parked(now);
            row.request = 0;
            row.probe = false;
        });
        let row = self.units.get(id).expect("invariant: it was updated above");
        let (from, to) = (row.progress, row.end);
        self.event(Event::Parked { unit: id.clone(), from, to });
        if full {
            self.event(Event::Blocked { topic: tp.0, partition: tp.1, parked: PARKED_PER_PARTITION });
        }
    }

    /// Gives out parked units of the partitions whose time has come, the longest parked first. Not while earlier ones are not
    /// over, or in an outage there would be one more every minute; nor of a paused partition.
    pub(super) fn probe(&mut self, now: u64) {
        let due = self.partitions.iter().filter(|(_, p)| p.parked > 0 && p.probe_at <= now);
        let mut due: Vec<(u64, String, Tp)> =
            due.map(|(tp, p)| (p.probe_at, format!("{}/{}", tp.0, tp.1), tp.clone())).collect();
        due.sort_unstable();
        for (_, _, tp) in due.into_iter().take(PROBED_AT_ONCE) {
            let p = self.partition(&tp);
            p.probe_at = now + PROBE_EVERY;
            let (paused, probes) = (p.paused, p.probes as usize);
            let open = self.units.of(&tp);
            let rows = || open.iter().filter_map(|id| Some((id, self.units.get(id)?)));
            if paused || rows().any(|(_, row)| row.probe) {
                continue;
            }
            let since = |(id, row): (&UnitId, &Row)| match row.phase {
                Phase::Parked(since) => Some((since, id.clone())),
                _ => None,
            };
            let mut parked: Vec<(u64, UnitId)> = rows().filter_map(since).collect();
            parked.sort_unstable();
            parked.truncate(probes);
            for (_, id) in &parked {
                let attempt = self.settings.max_attempts - 1;
                self.unparked(id, attempt, now);
                self.units.update(id, |row| row.probe = true);
            }
            self.settle(&tp);
        }
    }

    /// A unit waits for delivery again. The caller settles.
    fn unparked(&mut self, id: &UnitId, attempt: u32, now: u64) {
        self.units.update(id, |row| {
            row.attempt = attempt;
            row.phase = Phase::Delayed(now);
        });
        let p = self.partition(&id.tp());
        p.parked -= 1;
        p.in_flight += 1;
    }

    /// A probe was handled.
    pub(super) fn probe_succeeded(&mut self, tp: &Tp) {
        let p = self.partition(tp);
        p.probes = (p.probes * 2).min(PARKED_PER_PARTITION);
    }

    /// A probe was not.
    pub(super) fn probe_failed(&mut self, tp: &Tp) {
        self.partition(tp).probes = 1;
    }

    /// A clock that was set back leaves no probe too far in the future.
    pub(super) fn mend_probes(&mut self, now: u64) {
        let parked = self.partitions.values_mut().filter(|p| p.parked > 0);
        parked.for_each(|p| p.probe_at = p.probe_at.min(now + PROBE_EVERY));
    }

    /// The parked units of these topics, in order of topic, partition and offset. What is tried again at the moment is not parked.
    pub fn quarantined(&self, now: u64, topics: &[Arc<str>]) -> Vec<Quarantined> {
        let mut found = Vec::new();
        for tp in topics.iter().flat_map(|topic| self.partitions_of(topic)) {
            if self.partitions[&tp].parked == 0 {
                continue;
            }
            for id in self.units.of(&tp) {
                let Some(Row { phase: Phase::Parked(since), progress, end, .. }) = self.units.get(&id) else {
                    continue;
                };
                let (topic, partition) = (Arc::clone(&tp.0), tp.1);
                let age = Duration::from_millis(now.saturating_sub(*since));
                found.push(Quarantined { topic, partition, from: *progress, to: *end, age });
            }
        }
        found.sort_by(|a, b| (&a.topic, a.partition, a.from).cmp(&(&b.topic, b.partition, b.from)));
        found
    }

    /// Delivers the parked units of a partition again, with all attempts, or gives them up: all, or the one that holds `offset`.
    /// Returns how many there were.
    pub fn unpark(
        &mut self,
        now: u64,
        topic: &Arc<str>,
        partition: i32,
        offset: Option<i64>,
        what: Unpark,
    ) -> usize {
        let tp: Tp = (Arc::clone(topic), partition);
        if !self.partitions.contains_key(&tp) {
            return 0;
        }
        let named = |row: &Row| offset.is_none_or(|offset| (row.progress..row.end).contains(&offset));
        let parked = |id: &UnitId| self.units.get(id).is_some_and(|row| row.is_parked() && named(row));
        let ids: Vec<UnitId> = self.units.of(&tp).into_iter().filter(parked).collect();
        for id in &ids {
            match what {
                Unpark::Discard => self.forget(id),
                Unpark::Retry => self.unparked(id, 0, now),
            }
        }
        self.settle(&tp);
        ids.len()
    }
}
