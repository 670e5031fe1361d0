//! Which topics and starts the group knows, and which of what it says is of a topic that is gone. No I/O; further methods of [`State`].
//!
//! A topic may be created again, and Redis may lose the group. From when a consumer sees that until the group knows what is there
//! now, the group hands out units of what is gone: their records are none of the new topic, and their leader epoch may be higher
//! than any that is to come. So the topic is forgotten: its units go back, no more are asked for, and what was asked for before is
//! not believed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cache::Extent;
use super::state::{Held, State, Tp};
use crate::group::{PartitionView, Unit};
use crate::wire::Uuid;

/// What is known of the topics that this consumer reads.
#[derive(Debug, Default)]
pub(super) struct Known {
    /// Partitions whose starts this consumer has fixed, or found fixed. To have a feed does not say it: a unit or an answer that
    /// comes late, of a topic or a group that is gone, makes one, and its partition would be read by nobody.
    started: HashSet<Tp>,
    /// The ids of the topics whose partitions were met: a topic deleted and created again has another.
    ids: HashMap<Arc<str>, Uuid>,
    /// Topics of which the group knew what is gone, and since when it knows what is there: `None`, it does not yet. As many rows as
    /// topics were created again, or all when the group was lost.
    forgotten: HashMap<Arc<str>, Option<Instant>>,
    /// Topics of which the group handed out units with another id than is known. As many rows as topics.
    foreign: HashMap<Arc<str>, Foreign>,
}

/// The group speaks of another topic of a name than this consumer. Either is behind by a re-creation.
#[derive(Debug)]
struct Foreign {
    /// The id that this consumer knows.
    known: Uuid,
    /// How often in a row that was met.
    times: u32,
    /// Until when no units of it are asked for: who is right is to be found out, not claimed and released again and again.
    until: Instant,
    /// Whether the brokers are still to be asked.
    is_open: bool,
}

/// How long no units of such a topic are asked for, doubling.
const FOREIGN_FIRST: Duration = Duration::from_millis(100);
const FOREIGN_MOST: Duration = Duration::from_secs(5);
/// As many answers in a row that name the id that is known are no broker that is behind: it is the group that is.
const CONFIRMED: u32 = 3;

/// Whether two ids are of different topics. Brokers before 2.8 have none, and while a cluster is upgraded some do.
pub(super) fn differ(one: Uuid, other: Uuid) -> bool {
    one != other && !one.is_zero() && !other.is_zero()
}

impl Known {
    /// Whether the start of a partition is fixed.
    pub(super) fn has_started(&self, tp: &Tp) -> bool {
        self.started.contains(tp)
    }

    /// The id of a topic whose partitions were met.
    pub(super) fn id(&self, topic: &str) -> Option<Uuid> {
        self.ids.get(topic).copied()
    }

    /// Whether what the group says of a partition is about the topic that is known.
    pub(super) fn is_of(&self, view: &PartitionView) -> bool {
        self.id(&view.topic).is_some_and(|id| !differ(id, view.topic_id))
    }

    /// A topic was met, and nothing of it could be started yet.
    pub(super) fn meet(&mut self, topic: &Arc<str>, id: Uuid) {
        self.ids.entry(Arc::clone(topic)).or_insert(id);
    }

    /// The brokers name the topic's id. Whether it is another topic; one that had no id is the same.
    pub(super) fn is_another(&mut self, topic: &str, id: Uuid) -> bool {
        let Some(known) = self.ids.get_mut(topic) else { return false };
        if known.is_zero() {
            *known = id;
        }
        differ(*known, id)
    }

    /// Nobody reads the topic any more: its starts are fixed anew when somebody does, for the group may have forgotten them by then.
    pub(super) fn leave(&mut self, topic: &str) {
        self.ids.remove(topic);
        self.started.retain(|tp| *tp.topic != *topic);
    }

    /// Whether something is of another topic of that name than the one that is known.
    pub(super) fn is_foreign(&self, topic: &str, id: Uuid) -> bool {
        self.id(topic).is_some_and(|known| differ(known, id))
    }

    /// Until when no units of a topic are asked for because the group means another one.
    pub(super) fn foreign_until(&self, topic: &str) -> Option<Instant> {
        self.foreign.get(topic).map(|foreign| foreign.until)
    }

    /// Topics that the brokers are to be asked for, because the group means others.
    pub(super) fn disputed(&mut self) -> Vec<Arc<str>> {
        let ask = |(topic, foreign): (&Arc<str>, &mut Foreign)| {
            std::mem::take(&mut foreign.is_open).then(|| Arc::clone(topic))
        };
        self.foreign.iter_mut().filter_map(ask).collect()
    }

    /// Whether brokers have named the id that is known so often in a row that it is the group that is behind: its store lost its latest
    /// writes.
    pub(super) fn is_confirmed(&self, topic: &str) -> bool {
        self.foreign.get(topic).is_some_and(|foreign| foreign.times >= CONFIRMED)
    }

    /// Whether what the group said of a topic when it was asked at `sent` is of another topic of that name.
    pub(super) fn is_gone(&self, topic: &str, sent: Instant) -> bool {
        self.forgotten.get(topic).is_some_and(|known| known.is_none_or(|known| sent < known))
    }
}

impl<B: Extent> State<B> {
    /// A topic was created again, or the group was lost: nothing known of its partitions holds, until [`started`](Self::started).
    pub(super) fn forget_topic(&mut self, topic: &Arc<str>) {
        self.known.leave(topic);
        self.known.forgotten.insert(Arc::clone(topic), None);
        self.feeds.retain(|tp, _| tp.topic != *topic);
        let of = |held: &Held<B>| held.tp.topic == *topic;
        let keys = self.units.iter().filter(|(_, held)| of(held)).map(|(key, _)| *key).collect();
        // Should they be of the new topic already, others must not wait for their lease.
        self.return_units(keys);
    }

    /// Units that the group handed out for another topic of a name than this consumer knows, or before it knew what is there now or was
    /// sought: their records are none of what would be fetched, or is in the cache. They go back, which is no attempt. The others are returned.
    pub(super) fn turn_away(&mut self, units: Vec<Unit>, sent: Instant, now: Instant) -> Vec<Unit> {
        let is_ours = |state: &Self, unit: &Unit| {
            !state.known.is_gone(&unit.topic, sent)
                && !state.known.is_foreign(&unit.topic, unit.topic_id)
                && !state.is_from_before_a_seek(&unit.topic, unit.partition, sent)
        };
        let (ours, others): (Vec<_>, Vec<_>) = units.into_iter().partition(|unit| is_ours(self, unit));
        ours.iter().for_each(|unit| _ = self.known.foreign.remove(&unit.topic));
        let foreign = others.iter().filter(|unit| self.known.is_foreign(&unit.topic, unit.topic_id));
        let foreign: HashSet<Arc<str>> = foreign.map(|unit| Arc::clone(&unit.topic)).collect();
        for topic in foreign {
            let known = self.known.id(&topic).unwrap_or_default();
            let before = self.known.foreign.get(&topic).filter(|before| before.known == known);
            let times = before.map_or(0, |before| before.times);
            let until = now + super::jitter(FOREIGN_MOST.min(FOREIGN_FIRST * 2u32.pow(times.min(10))));
            let met = Foreign { known, times: times.saturating_add(1), until, is_open: true };
            self.known.foreign.insert(topic, met);
            self.effects.look = true;
        }
        for unit in others {
            let from = unit.start;
            self.return_unit(Held::new(unit, now, now), from, None);
        }
        ours
    }

    /// The group knows where these partitions start.
    #[cfg(test)]
    pub(super) fn starts(&mut self, starts: &[crate::group::Init], now: Instant) {
        for start in starts {
            let tp = Tp { topic: Arc::clone(&start.topic), partition: start.partition };
            self.started(&tp, start.topic_id, now);
        }
    }

    /// The group knows where this partition starts, of the topic with this id.
    pub(super) fn started(&mut self, tp: &Tp, id: Uuid, now: Instant) {
        self.known.ids.insert(Arc::clone(&tp.topic), id);
        if self.known.foreign.get(&tp.topic).is_some_and(|met| met.known != id) {
            self.known.foreign.remove(&tp.topic);
        }
        if let Some(since) = self.known.forgotten.get_mut(&tp.topic) {
            *since = since.or(Some(now));
        }
        // A feed of before may have the epoch of another topic.
        self.feeds.remove(tp);
        self.known.started.insert(tp.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_is_another_by_its_id_and_left_with_all_that_was_fixed() {
        let (mut known, id) = (Known::default(), |n| Uuid([n; 16]));
        let tp = Tp { topic: "t".into(), partition: 0 };
        known.started.insert(tp.clone());
        known.ids.insert("t".into(), Uuid::default());
        // Brokers that are upgraded one by one: an id comes, and others do not name it yet.
        assert!(!known.is_another("t", id(1)) && known.id("t") == Some(id(1)));
        assert!(!known.is_another("t", Uuid::default()) && known.id("t") == Some(id(1)));
        assert!(known.is_another("t", id(2)) && !known.is_another("u", id(2)));
        // Or whoever subscribes again finds nothing to fix in a group that has forgotten it.
        known.leave("t");
        assert!(!known.has_started(&tp) && known.id("t").is_none());
    }
}
