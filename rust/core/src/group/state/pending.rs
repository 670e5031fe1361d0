//! Partitions that have to wait for their leader while the others go on: for their start, or to be compared with the commits.

use std::sync::Arc;

use super::{GroupState, Tp};
use crate::group::types::{LateStart, Overview, Pend, Pended};

impl LateStart {
    /// As a number, which rows have: -1 for the first record, else the time.
    pub(in crate::group) const fn code(self) -> i64 {
        match self {
            Self::Earliest => -1,
            Self::Since(ms) => ms,
        }
    }

    /// The other way round; `None` for what is no start.
    pub(in crate::group) const fn of_code(code: i64) -> Option<Self> {
        match code {
            -1 => Some(Self::Earliest),
            0.. => Some(Self::Since(code)),
            _ => None,
        }
    }
}

impl GroupState {
    /// Records partitions that cannot be started now, and where they are to start; the first writer wins. [`Self::init`] takes a
    /// start of such a partition only if it was found for that record. To be called before the topic's other partitions are
    /// started: what appears later starts at its first record, a pending partition does not.
    pub fn pend(&mut self, starts: &[Pend]) -> Vec<Pended> {
        starts.iter().map(|start| self.pend_one(start)).collect()
    }

    fn pend_one(&mut self, start: &Pend) -> Pended {
        let tp = (Arc::clone(&start.topic), start.partition);
        let is_known = self.partitions.contains_key(&tp);
        let topic = self.topic(&start.topic);
        let differs = topic.id != start.topic_id && !topic.id.is_zero() && !start.topic_id.is_zero();
        // Metadata alone may be behind: that the topic was created again only a leader says.
        if differs || topic.retired.contains(&start.topic_id) {
            return Pended::WrongTopic;
        }
        if is_known {
            return Pended::Started;
        }
        Pended::Recorded(*topic.pending.entry(start.partition).or_insert(start.start))
    }

    /// What the store holds of these partitions cannot be compared with the commits in Kafka now, and may lack the latest writes:
    /// nothing of them is handed out until [`Self::advance`] says that it was, or [`Self::seek`] moves them.
    pub fn suspend(&mut self, partitions: &[(Arc<str>, i32)]) {
        for tp in partitions {
            if let Some(p) = self.partitions.get_mut(tp) {
                p.unchecked = true;
                self.settle(tp);
            }
        }
    }

    /// The partition goes on, if it was suspended. The caller settles it.
    pub(super) fn resume(&mut self, tp: &Tp) -> bool {
        let was = std::mem::take(&mut self.partition(tp).unchecked);
        if was {
            self.release_held(tp);
        }
        was
    }

    /// The partitions of these topics, and those whose start is pending.
    pub fn overview(&self, topics: &[Arc<str>]) -> Overview {
        let of = |name| self.topics.get_key_value(name);
        let pending = topics.iter().filter_map(of).flat_map(|(name, topic)| {
            topic.pending.iter().map(|(partition, start)| (Arc::clone(name), *partition, *start))
        });
        Overview { partitions: self.partitions(topics), pending: pending.collect() }
    }
}
