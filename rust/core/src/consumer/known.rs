//! Which topics and starts the group knows, and which of what it says is of a topic that is gone. No I/O; further methods of [`State`].
//!
//! A topic may be created again, and Redis may lose the group. From when a consumer sees that until the group knows what is there
//! now, the group hands out units of what is gone: their records are none of the new topic, and their leader epoch may be higher
//! than any that is to come. So the topic is forgotten: its units go back, no more are asked for, and what was asked for before is
//! not believed.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use super::cache::Extent;
use super::state::{Held, State, Tp};
use crate::group::{Init, PartitionView};
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
}

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

    /// Whether what the group said of a topic when it was asked at `sent` is of another topic of that name.
    pub(super) fn is_gone(&self, topic: &str, sent: Instant) -> bool {
        self.forgotten.get(topic).is_some_and(|known| known.is_none_or(|known| sent < known))
    }
}

impl<B: Extent> State<B> {
    /// A topic was created again, or the group was lost: nothing known of its partitions holds, until [`starts`](Self::starts).
    pub(super) fn forget_topic(&mut self, topic: &Arc<str>) {
        self.known.leave(topic);
        self.known.forgotten.insert(Arc::clone(topic), None);
        self.feeds.retain(|tp, _| tp.topic != *topic);
        let of = |held: &Held<B>| held.tp.topic == *topic;
        let keys = self.units.iter().filter(|(_, held)| of(held)).map(|(key, _)| *key).collect();
        // Should they be of the new topic already, others must not wait for their lease.
        self.return_units(keys);
    }

    /// The group knows where these partitions start.
    pub(super) fn starts(&mut self, starts: &[Init], now: Instant) {
        for start in starts {
            self.known.ids.insert(Arc::clone(&start.topic), start.topic_id);
            if let Some(since) = self.known.forgotten.get_mut(&start.topic) {
                *since = since.or(Some(now));
            }
            let tp = Tp { topic: Arc::clone(&start.topic), partition: start.partition };
            // A feed of before may have the epoch of another topic.
            self.feeds.remove(&tp);
            self.known.started.insert(tp);
        }
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
