//! The state machine of a group: pure, deterministic, time passed in.
//!
//! Every method is one atomic step, as one script is in Redis. What must hold after each of them is in
//! [`GroupState::check`]. Open units are kept by [`Units`]; here stand the topics and partitions, the members, and what every
//! step ends with ([`GroupState::settle`]); the steps themselves stand in the modules below:
//!
//! * `exchange` - a member's round: acknowledgements, refusals, shortenings, renewals, expired leases;
//! * `claim` - who gets which unit, and how large it is;
//! * `log` - what is learned of partitions' logs: start, high watermark, truncation, retention, seeks, commits;
//! * `quarantine` - units that failed too often, and how they are tried again;
//! * `admin` - members and topics that go, pause, clock sanity, views;
//! * `check` - the invariants.
//!
//! Memory is O(topics + partitions + members + units in flight). A step costs O(log n) per unit it touches; nothing scans
//! all partitions but `tick` and the views.

mod admin;
mod check;
mod claim;
#[cfg(test)]
mod dump;
mod exchange;
mod log;
mod quarantine;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::types::{ConsumerId, Event, GroupSettings, UnitId};
use super::units::{HELD, Phase, Units};
use crate::wire::Uuid;

/// Events kept.
const EVENTS: usize = 10_000;
/// Retired topic ids kept per topic.
const RETIRED: usize = 16;
/// A partition with so many parked units takes no new work: a parked unit holds the low watermark, and a topic that only
/// fails should stop instead of being parked record by record.
const PARKED_PER_PARTITION: u32 = 1024;

type Tp = (Arc<str>, i32);

#[derive(Debug, Clone)]
struct Partition {
    cursor: i64,
    high_watermark: i64,
    low_watermark: i64,
    log_start: i64,
    generation: u64,
    leader_epoch: i32,
    /// Units leased or delayed.
    in_flight: u32,
    parked: u32,
    paused: bool,
    /// Average bytes of an offset times 256, 0 while unknown. Whole numbers, so that every implementation rounds alike.
    weight: u64,
    /// The turn in which it was served last: its place in the ring. Who was served longest ago is next, so a partition with a
    /// record now and then does not queue behind those with a backlog.
    served: u64,
    /// What it adds to its topic's backlog: `high_watermark - cursor` while it stands in the ring, `None` while it does not.
    listed: Option<i64>,
    /// When parked units are tried again, while there are any, and how many then.
    probe_at: u64,
    probes: u32,
}

/// What is kept of a topic, whether it exists or not.
#[derive(Debug, Clone, Default)]
struct Topic {
    id: Uuid,
    /// Ids that metadata may still show and that must not come back, the newest last.
    retired: VecDeque<Uuid>,
    /// What existed when the group subscribed has its start: whatever appears from now on is read from its beginning.
    settled: bool,
    /// Partitions that can be carved: `(turn, partition)`.
    ring: BTreeSet<(u64, i32)>,
    /// Offsets that can be carved.
    backlog: i64,
    /// Readers of the members that subscribe to it.
    readers: u32,
    /// Those of them that wait for a unit.
    lacking: u32,
    /// Since when nobody subscribes to it.
    unused_since: Option<u64>,
}

#[derive(Debug, Clone)]
struct Member {
    /// Its last request that wanted units, and what it got.
    request: u64,
    units: Vec<UnitId>,
    readers: u32,
    /// Readers that wait for a unit since its last round.
    lacking: u32,
    topics: Vec<Arc<str>>,
    seen: u64,
}

/// The whole state of one group.
#[derive(Debug, Clone)]
pub struct GroupState {
    settings: GroupSettings,
    /// The id of the Kafka cluster that the positions are of; empty while no member has named one.
    cluster: String,
    topics: BTreeMap<Arc<str>, Topic>,
    partitions: BTreeMap<Tp, Partition>,
    units: Units,
    members: BTreeMap<ConsumerId, Member>,
    organiser: Option<(ConsumerId, u64)>,
    events: VecDeque<Event>,
    lost: u64,
    last_activity: u64,
    /// Before this time no lease expires.
    grace_until: u64,
    turns: u64,
}

impl GroupState {
    /// A group without partitions and members.
    pub fn new(settings: GroupSettings, now: u64) -> Self {
        Self {
            settings,
            cluster: String::new(),
            topics: BTreeMap::new(),
            partitions: BTreeMap::new(),
            units: Units::default(),
            members: BTreeMap::new(),
            organiser: None,
            events: VecDeque::new(),
            lost: 0,
            last_activity: now,
            grace_until: 0,
            turns: 0,
        }
    }

    /// A member comes that reads this Kafka cluster (its id; empty: its brokers name none). The first id that is named stays.
    ///
    /// # Errors
    /// The id of the group's cluster, when that is another one: what the group holds is about other records.
    pub fn enter(&mut self, cluster: &str) -> Result<(), String> {
        if self.cluster.is_empty() {
            cluster.clone_into(&mut self.cluster);
        }
        if cluster.is_empty() || self.cluster == cluster { Ok(()) } else { Err(self.cluster.clone()) }
    }

    /// What the members agreed on.
    pub fn settings(&self) -> &GroupSettings {
        &self.settings
    }

    /// Whether nobody relies on the settings as they are.
    pub(super) fn is_idle(&self) -> bool {
        self.members.is_empty() && !self.units.is_any_leased()
    }

    /// Other settings, when nobody is left who relies on the old ones ([`Self::is_idle`]).
    pub(super) fn change_settings(&mut self, settings: GroupSettings) {
        self.settings = settings;
        let tps: Vec<Tp> = self.partitions.keys().cloned().collect();
        for tp in &tps {
            self.release_held(tp);
            self.settle(tp);
        }
    }

    const fn ordered(&self) -> bool {
        self.settings.units_per_partition() == 1
    }

    fn partition(&mut self, tp: &Tp) -> &mut Partition {
        self.partitions.get_mut(tp).expect("invariant: a unit's partition is there")
    }

    fn topic(&mut self, name: &Arc<str>) -> &mut Topic {
        self.topics.entry(Arc::clone(name)).or_default()
    }

    /// Removes a unit and counts it out. The caller settles its partition.
    fn forget(&mut self, id: &UnitId) {
        if let Some(row) = self.units.remove(id) {
            let p = self.partition(&id.tp());
            if row.is_parked() { p.parked -= 1 } else { p.in_flight -= 1 }
        }
    }

    /// Whether a unit can be carved off the partition now.
    const fn can_carve(&self, p: &Partition) -> bool {
        !p.paused
            && p.cursor < p.high_watermark
            && p.in_flight < self.settings.units_per_partition()
            && p.parked < PARKED_PER_PARTITION
    }

    /// After a change of a partition or its units: the low watermark, its place in the ring, its part of the topic's
    /// backlog, and which of its waiting units may go.
    fn settle(&mut self, tp: &Tp) {
        self.hold_back(tp);
        let first = self.units.first_of(tp);
        let p = self.partitions.get(tp).expect("invariant: callers name a partition that is there");
        let listed = self.can_carve(p).then_some(p.high_watermark - p.cursor);
        let topic = self.topics.get_mut(&tp.0).expect("invariant: a partition's topic is there");
        let p = self.partitions.get_mut(tp).expect("invariant: it was there above");
        p.low_watermark = first.unwrap_or(p.cursor);
        match (p.listed.is_some(), listed.is_some()) {
            (false, true) => _ = topic.ring.insert((p.served, tp.1)),
            (true, false) => _ = topic.ring.remove(&(p.served, tp.1)),
            _ => {}
        }
        topic.backlog += listed.unwrap_or(0) - p.listed.unwrap_or(0);
        p.listed = listed;
    }

    /// Takes a partition out of the ring, before it is served or removed. `settle` puts it back.
    fn unlist(&mut self, tp: &Tp) {
        let Some(p) = self.partitions.get_mut(tp) else { return };
        if let Some(backlog) = p.listed.take() {
            let topic = self.topics.get_mut(&tp.0).expect("invariant: a partition's topic is there");
            topic.ring.remove(&(p.served, tp.1));
            topic.backlog -= backlog;
        }
    }

    /// Which waiting units of a partition may be delivered when they are due. All, but for two cases: a paused partition
    /// delivers nothing, and in an ordered one only the first unit that is not parked may go, and only while nothing is
    /// leased. What may not go is [`HELD`] instead of being looked at by every claim.
    fn hold_back(&mut self, tp: &Tp) {
        let paused = self.partition(tp).paused;
        if !paused && !self.ordered() {
            return;
        }
        let open = self.units.of(tp);
        let phase = |units: &Units, id| units.get(id).map(|row| row.phase);
        let leased = open.iter().any(|id| matches!(phase(&self.units, id), Some(Phase::Leased(_))));
        let mut first = !paused && !leased;
        for id in &open {
            let Some(Phase::Delayed(due)) = phase(&self.units, id) else { continue };
            let may_go = std::mem::take(&mut first);
            if may_go && due == HELD {
                self.units.update(id, |row| row.phase = Phase::Delayed(0));
            } else if !may_go && due != HELD {
                self.units.update(id, |row| row.phase = Phase::Delayed(HELD));
            }
        }
    }

    /// What was held may go at once, as far as [`Self::hold_back`] lets it: when a partition is resumed or the ordering
    /// changes.
    fn release_held(&mut self, tp: &Tp) {
        for id in self.units.of(tp) {
            self.units.update(&id, |row| {
                if row.phase == Phase::Delayed(HELD) {
                    row.phase = Phase::Delayed(0);
                }
            });
        }
    }

    fn event(&mut self, event: Event) {
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }
}
