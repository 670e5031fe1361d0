//! Members and topics that come and go, what operators do, the clock, and looking.

use std::sync::Arc;

use super::exchange::LONGEST_DELAY;
use super::{GroupState, Member, Partition, Tp};
use crate::group::types::{ConsumerId, Event, MemberView, PartitionView, StartAt};

/// A member not heard of for so many leases is forgotten: it no longer counts when the backlog is shared out.
const FORGET_AFTER_LEASES: u64 = 2;
/// A topic stays so long after its last subscriber, ms: as long as brokers keep offsets (a week).
const TOPIC_KEPT: u64 = 7 * 24 * 3_600_000;

impl GroupState {
    /// Says that somebody subscribes to a topic that exists or not, and where a partition of it starts that the group does not
    /// read yet. Call it before looking up offsets for [`Self::init`].
    pub fn subscribe(&mut self, topic: &Arc<str>, exists: bool) -> StartAt {
        let topic = self.topic(topic);
        // What does not exist now appears after the subscription: it is read from its first record (KIP-842).
        topic.settled |= !exists;
        if topic.settled { StartAt::Earliest } else { StartAt::Policy }
    }

    /// Once a second, by anybody: takes back leases, tries parked units again, forgets dead members and topics that nobody reads, and mends times that a
    /// clock which was set back left too far in the future.
    pub fn tick(&mut self, now: u64) {
        self.mend_clock(now);
        let topics: Vec<Arc<str>> = self.topics.keys().cloned().collect();
        self.reap(now, &topics);
        self.probe(now);
        let forget = self.settings.lease.saturating_mul(FORGET_AFTER_LEASES);
        let dead = self.members.iter().filter(|(_, member)| member.seen.saturating_add(forget) <= now);
        let dead: Vec<ConsumerId> = dead.map(|(id, _)| Arc::clone(id)).collect();
        for id in &dead {
            self.uncount(now, id);
        }
        for topic in self.topics.values_mut().filter(|topic| topic.readers == 0) {
            topic.unused_since.get_or_insert(now);
        }
        let unused = |since: Option<u64>| since.is_some_and(|since| since.saturating_add(TOPIC_KEPT) <= now);
        let topics = self.topics.iter().filter(|(_, topic)| unused(topic.unused_since));
        let topics: Vec<Arc<str>> = topics.map(|(name, _)| Arc::clone(name)).collect();
        for topic in &topics {
            for tp in self.partitions_of(topic) {
                self.remove_partition(&tp);
            }
            self.topics.remove(topic);
        }
    }

    fn mend_clock(&mut self, now: u64) {
        let latest = now + self.settings.lease;
        self.grace_until = self.grace_until.min(latest);
        self.last_activity = self.last_activity.min(now);
        if let Some((_, until)) = &mut self.organiser {
            *until = (*until).min(latest);
        }
        self.members.values_mut().for_each(|member| member.seen = member.seen.min(now));
        self.units.not_later(latest, now + LONGEST_DELAY);
        self.mend_probes(now);
    }

    /// A member goes: what it holds is free at once, from where it was last reported, and that was no attempt.
    pub fn leave(&mut self, now: u64, consumer: &ConsumerId) {
        // The last first, so that a tail of several units goes back to the cursor.
        for id in self.units.held_by(consumer).iter().rev() {
            self.release(now, id);
            self.settle(&id.tp());
        }
        self.uncount(now, consumer);
        if self.organiser.as_ref().is_some_and(|(who, _)| who == consumer) {
            self.organiser = None;
        }
    }

    /// Stops or resumes the delivery of a partition, or of all partitions of a topic. Units in hands are finished. Returns how
    /// many changed.
    pub fn pause(&mut self, topic: &Arc<str>, partition: Option<i32>, paused: bool) -> usize {
        let mut changed = self.partitions_of(topic);
        changed.retain(|tp| partition.is_none_or(|p| p == tp.1) && self.partitions[tp].paused != paused);
        for tp in &changed {
            self.partition(tp).paused = paused;
            if !paused {
                self.release_held(tp);
            }
            self.settle(tp);
        }
        changed.len()
    }

    /// All topics, in no order.
    pub fn topics(&self) -> Vec<Arc<str>> {
        self.topics.keys().cloned().collect()
    }

    /// The partitions of these topics.
    pub fn partitions(&self, topics: &[Arc<str>]) -> Vec<PartitionView> {
        let of = |topic| self.partitions_of(topic);
        let named = topics.iter().flat_map(of).filter_map(|tp| Some((self.partitions.get(&tp)?, tp)));
        named.map(|(p, tp)| self.view(p, &tp)).collect()
    }

    fn view(&self, p: &Partition, tp: &Tp) -> PartitionView {
        PartitionView {
            topic: Arc::clone(&tp.0),
            partition: tp.1,
            topic_id: self.topics[&tp.0].id,
            cursor: p.cursor,
            high_watermark: p.high_watermark,
            low_watermark: p.low_watermark,
            log_start: p.log_start,
            generation: p.generation,
            leader_epoch: p.leader_epoch,
            in_flight: p.in_flight,
            parked: p.parked,
            paused: p.paused,
            unchecked: p.unchecked,
        }
    }

    /// The open units of a partition, as `(first not handled, end)`, in order: what is not handled below the cursor.
    pub fn open_units(&self, topic: &Arc<str>, partition: i32) -> Vec<(i64, i64)> {
        let units = self.units.of(&(Arc::clone(topic), partition));
        units.iter().filter_map(|id| self.units.get(id)).map(|row| (row.progress, row.end)).collect()
    }

    /// How many units a member with these topics could be given now (at least; a partition counts once, however long).
    pub fn claimable(&self, now: u64, topics: &[Arc<str>]) -> usize {
        let carve = topics.iter().filter_map(|topic| self.topics.get(topic)).map(|topic| topic.ring.len());
        carve.sum::<usize>() + self.units.due_count(now, topics)
    }

    /// When time may bring work next to a member with these topics: a unit of theirs becomes due, or a lease ends, that of the
    /// organiser among them. At most a lease from now, and a lease taken later ends later, so only a unit that is refused makes it
    /// sooner.
    pub fn next_event(&self, now: u64, topics: &[Arc<str>]) -> u64 {
        let lease = self.units.first_deadline(topics).map(|t| t.max(self.grace_until));
        let organised = self.organiser.as_ref().map(|(_, until)| *until).filter(|until| *until > now);
        [self.units.first_due(topics), lease, organised]
            .into_iter()
            .flatten()
            .fold(now + self.settings.lease, u64::min)
    }

    /// Who is in the group and what they read, in the order of their ids. A member that died is among them until it is forgotten.
    pub fn who(&self, now: u64) -> Vec<MemberView> {
        let view = |(id, member): (&ConsumerId, &Member)| MemberView {
            consumer: Arc::clone(id),
            seen: member.seen,
            silent: now.saturating_sub(member.seen),
            topics: member.topics.clone(),
        };
        self.members.iter().map(view).collect()
    }

    /// Whether the organiser's lease is over: whoever speaks next watches.
    pub fn is_unwatched(&self, now: u64) -> bool {
        self.organiser.as_ref().is_some_and(|(_, until)| *until <= now)
    }

    /// Members heard of lately.
    pub fn members(&self) -> usize {
        self.members.len()
    }

    /// Records that retention deleted before anybody could read them.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Takes the events since the last call; the oldest of more than 10,000 are dropped.
    pub fn take_events(&mut self) -> Vec<Event> {
        self.events.drain(..).collect()
    }
}
