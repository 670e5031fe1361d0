//! The invariants of `docs/GROUPS.md` that can be seen from the state alone.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{GroupState, PARKED_PER_PARTITION, Partition, Tp};
use crate::group::units::{HELD, Phase};

impl GroupState {
    /// Checks everything, O(all); the text begins with the number of the invariant that is broken.
    pub fn check(&self) -> Result<(), String> {
        self.units.check()?;
        let mut count = 0;
        for (tp, p) in &self.partitions {
            self.check_partition(tp, p).map_err(|what| {
                let (number, text) = what.split_once(' ').unwrap_or(("?", &what));
                format!("{number}: {}/{}: {text}", tp.0, tp.1)
            })?;
            count += self.units.of(tp).len();
        }
        if count != self.units.len() {
            return Err("3: a unit belongs to no partition".to_owned());
        }
        self.check_topics()
    }

    fn check_partition(&self, tp: &Tp, p: &Partition) -> Result<(), String> {
        let mut position = p.low_watermark;
        let (mut in_flight, mut parked, mut leased) = (0, 0, 0);
        let mut may_go = Vec::new();
        for (i, id) in self.units.of(tp).iter().enumerate() {
            let row = self.units.get(id).ok_or("3 an indexed unit is not there")?;
            if i == 0 && row.progress != p.low_watermark {
                let (low, first) = (p.low_watermark, row.progress);
                return Err(format!("2 low watermark {low} is not its first unit's {first}"));
            }
            if row.progress < position || row.progress >= row.end || row.end > p.cursor {
                let (from, to, cursor) = (row.progress, row.end, p.cursor);
                return Err(format!("2 unit {id} [{from}, {to}) overlaps, is empty or beyond {cursor}"));
            }
            if row.progress < id.carved_at {
                return Err(format!("2 unit {id} stands before where it was carved: {}", row.progress));
            }
            position = row.end;
            match row.phase {
                Phase::Parked(_) => parked += 1,
                Phase::Delayed(due) => {
                    in_flight += 1;
                    may_go.push(due != HELD);
                }
                Phase::Leased(_) => {
                    in_flight += 1;
                    leased += 1;
                }
            }
        }
        if in_flight + parked == 0 && p.low_watermark != p.cursor {
            let (low, cursor) = (p.low_watermark, p.cursor);
            return Err(format!("2 no unit is open, yet the low watermark {low} is not the cursor {cursor}"));
        }
        if (in_flight, parked) != (p.in_flight, p.parked) {
            let (a, b) = (p.in_flight, p.parked);
            return Err(format!("3 {in_flight} in flight and {parked} parked, counted {a} and {b}"));
        }
        if self.ordered() && leased > 1 {
            return Err(format!("6 {leased} leases in an ordered group"));
        }
        let expected = |i: usize| !p.paused && (!self.ordered() || (i == 0 && leased == 0));
        if may_go.iter().enumerate().any(|(i, go)| *go != expected(i)) {
            return Err(format!("6 waiting units that may go: {may_go:?}, {leased} leased"));
        }
        let can = !p.paused
            && p.cursor < p.high_watermark
            && p.in_flight < self.settings.units_per_partition()
            && p.parked < PARKED_PER_PARTITION;
        let in_ring = self.topics.get(&tp.0).is_some_and(|t| t.ring.contains(&(p.served, tp.1)));
        let backlog = can.then_some(p.high_watermark - p.cursor);
        if can != in_ring || p.listed != backlog {
            return Err(format!("4 can be carved: {can}, stands in the ring: {in_ring}, as {:?}", p.listed));
        }
        Ok(())
    }

    /// The sums that claims rely on.
    fn check_topics(&self) -> Result<(), String> {
        let mut sums: BTreeMap<&Arc<str>, (usize, i64, u32, u32)> = BTreeMap::new();
        for (tp, p) in &self.partitions {
            let sum = sums.entry(&tp.0).or_default();
            sum.0 += usize::from(p.listed.is_some());
            sum.1 += p.listed.unwrap_or(0);
        }
        for member in self.members.values() {
            for topic in &member.topics {
                let sum = sums.entry(topic).or_default();
                sum.2 += member.readers;
                sum.3 += member.lacking;
            }
        }
        for (name, topic) in &self.topics {
            let counted = (topic.ring.len(), topic.backlog, topic.readers, topic.lacking);
            let is = sums.remove(name).unwrap_or_default();
            if counted != is {
                return Err(format!(
                    "4: {name}: (ring, backlog, readers, lacking) is {is:?}, counted {counted:?}"
                ));
            }
        }
        match sums.keys().next() {
            None => Ok(()),
            Some(name) => Err(format!("4: {name}: has partitions or readers, and is not known")),
        }
    }
}
