//! The state machine of a group: pure, deterministic, time passed in.
//!
//! Every method is one atomic step, as one script is in Redis. What must hold after each of them is in
//! [`GroupState::check`]. Units are kept by [`Units`]; here stand the partitions, the members, and the steps.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use super::types::{
    Ack, ConsumerId, Event, ExchangeReply, ExchangeRequest, GroupSettings, Init, Nack, Outcome,
    PartitionView, Publish, Published, Renew, Unit, UnitId,
};
use super::units::{Phase, Row, Units};
use crate::wire::Uuid;

/// Expired leases taken back in one exchange; the rest waits for the next.
const REAP_AT_ONCE: usize = 16;
/// Events kept.
const EVENTS: usize = 10_000;
/// Retired topic ids kept per topic.
const RETIRED: usize = 16;
/// A partition with so many parked units pauses: a parked unit holds the low watermark.
const PARKED_PER_PARTITION: u32 = 1024;
/// A member not heard of for so many leases is forgotten.
const FORGET_AFTER_LEASES: u64 = 4;
/// The longest back-off after a failed delivery, ms.
const LONGEST_BACKOFF: u64 = 60_000;

type Tp = (Arc<str>, i32);

#[derive(Debug)]
struct Partition {
    cursor: i64,
    high_watermark: i64,
    low_watermark: i64,
    log_start: i64,
    generation: u64,
    leader_epoch: i32,
    topic_id: Uuid,
    in_flight: u32,
    parked: u32,
    /// Average bytes of a record, 0 while unknown.
    record_bytes: f64,
    /// Its place in the ring, while it can be carved.
    place: Option<u64>,
}

#[derive(Debug)]
struct Member {
    request: u64,
    units: Vec<UnitId>,
    readers: u32,
    topics: Vec<Arc<str>>,
    seen: u64,
}

/// The whole state of one group.
#[derive(Debug)]
pub struct GroupState {
    settings: GroupSettings,
    partitions: BTreeMap<Tp, Partition>,
    /// Partitions that can be carved, by topic; the one served longest ago first.
    ring: BTreeMap<Arc<str>, BTreeSet<(u64, i32)>>,
    units: Units,
    members: BTreeMap<ConsumerId, Member>,
    organiser: Option<(ConsumerId, u64)>,
    retired: BTreeMap<Arc<str>, VecDeque<Uuid>>,
    events: VecDeque<Event>,
    lost: u64,
    last_activity: u64,
    /// Before this time no lease expires.
    grace_until: u64,
    turns: u64,
    generations: u64,
}

impl GroupState {
    /// A group without partitions and members.
    pub fn new(settings: GroupSettings, now: u64) -> Self {
        Self {
            settings,
            partitions: BTreeMap::new(),
            ring: BTreeMap::new(),
            units: Units::default(),
            members: BTreeMap::new(),
            organiser: None,
            retired: BTreeMap::new(),
            events: VecDeque::new(),
            lost: 0,
            last_activity: now,
            grace_until: 0,
            turns: 0,
            generations: 0,
        }
    }

    /// What the members agreed on.
    pub fn settings(&self) -> &GroupSettings {
        &self.settings
    }

    /// Other settings, when nobody is left who relies on the old ones.
    pub(super) fn change_settings(&mut self, settings: GroupSettings) {
        self.settings = settings;
        let tps: Vec<Tp> = self.partitions.keys().cloned().collect();
        tps.iter().for_each(|tp| self.settle(tp));
    }

    // --- steps ------------------------------------------------------------------------------------------------------

    /// One round of a member: acknowledgements, refusals, renewals, reaping, and the next claim.
    pub fn exchange(&mut self, now: u64, request: &ExchangeRequest) -> ExchangeReply {
        self.live(now, request);
        let acks = request.acks.iter().map(|ack| self.ack(&request.consumer, ack)).collect();
        let nacks = request.nacks.iter().map(|nack| self.nack(now, &request.consumer, nack)).collect();
        let renews = request.renews.iter().map(|renew| self.renew(now, &request.consumer, renew)).collect();
        self.reap(now);
        let units = if request.want > 0 { self.claim(now, request) } else { Vec::new() };
        let organiser = self.organise(now, request);
        ExchangeReply { now, acks, nacks, renews, units, organiser }
    }

    /// What is known of partitions' logs. Raises high watermarks; finds truncation and retention.
    pub fn publish(&mut self, facts: &[Publish]) -> Vec<Published> {
        facts.iter().map(|fact| self.publish_one(fact)).collect()
    }

    /// Fixes the start of partitions; the first writer wins. A topic id that is new for a known partition means that the
    /// topic was re-created: it starts anew, and the old id is retired. Returns how many partitions were started.
    pub fn init(&mut self, starts: &[Init]) -> usize {
        starts.iter().filter(|start| self.init_one(start)).count()
    }

    /// Moves a partition by force if its generation is still `generation`: its open units are dropped and fenced.
    pub fn seek(&mut self, topic: &Arc<str>, partition: i32, generation: u64, offset: i64) -> bool {
        let tp = (Arc::clone(topic), partition);
        if self.partitions.get(&tp).is_none_or(|p| p.generation != generation) {
            return false;
        }
        self.drop_units_from(&tp, i64::MIN);
        self.generations += 1;
        let next = self.generations;
        let p = self.partition(&tp);
        p.cursor = offset;
        p.low_watermark = offset;
        p.high_watermark = p.high_watermark.max(offset);
        p.generation = next;
        self.event(Event::Sought { topic: Arc::clone(topic), partition, to: offset });
        self.settle(&tp);
        true
    }

    /// Everything below `offset` was handled, says a commit of this generation (the mirror).
    pub fn advance(&mut self, topic: &Arc<str>, partition: i32, generation: u64, offset: i64) {
        let tp = (Arc::clone(topic), partition);
        let Some(p) = self.partitions.get_mut(&tp) else { return };
        if p.generation != generation || offset <= p.low_watermark {
            return;
        }
        p.cursor = p.cursor.max(offset);
        p.high_watermark = p.high_watermark.max(offset);
        for id in self.units.of(&tp) {
            let row = self.units.get(&id).expect("invariant: the index names units that are there");
            if row.end <= offset {
                self.forget(&id);
            } else if row.progress < offset {
                self.units.update(&id, |row| row.progress = offset);
            }
        }
        self.settle(&tp);
    }

    /// Once a second, by anybody: forgets dead members.
    pub fn tick(&mut self, now: u64) {
        self.reap(now);
        let forget = self.settings.lease * FORGET_AFTER_LEASES;
        self.members.retain(|_, member| member.seen + forget > now);
    }

    /// A member goes: what it holds is free at once, from where it was last reported.
    pub fn leave(&mut self, now: u64, consumer: &ConsumerId) {
        for id in self.units.held_by(consumer) {
            self.units.update(&id, |row| {
                row.attempt -= 1;
                row.request = 0;
                row.phase = Phase::Delayed(now);
            });
        }
        self.members.remove(consumer);
        if self.organiser.as_ref().is_some_and(|(who, _)| who == consumer) {
            self.organiser = None;
        }
    }

    // --- looking ----------------------------------------------------------------------------------------------------

    /// The partitions of these topics.
    pub fn partitions(&self, topics: &[Arc<str>]) -> Vec<PartitionView> {
        let named = self.partitions.iter().filter(|((topic, _), _)| topics.contains(topic));
        named.map(|(tp, p)| p.view(tp)).collect()
    }

    /// The open units of a partition, as `(first not handled, end)`.
    #[cfg(test)]
    pub(super) fn open_units(&self, topic: &Arc<str>, partition: i32) -> Vec<(i64, i64)> {
        let units = self.units.of(&(Arc::clone(topic), partition));
        units.iter().filter_map(|id| self.units.get(id)).map(|row| (row.progress, row.end)).collect()
    }

    /// How many units a member with these topics could be given now (at least; a partition counts once).
    pub fn claimable(&self, now: u64, topics: &[Arc<str>]) -> usize {
        let carve: usize = topics.iter().filter_map(|topic| self.ring.get(topic)).map(BTreeSet::len).sum();
        carve + self.units.due(now).filter(|id| topics.contains(&id.topic) && self.may_lease(id)).count()
    }

    /// When something happens by itself next: a unit becomes due or a lease ends.
    pub fn next_event(&self) -> Option<u64> {
        let lease = self.units.first_deadline().map(|t| t.max(self.grace_until));
        [self.units.first_due(), lease].into_iter().flatten().min()
    }

    /// Members heard of within a lease.
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

    // --- members ----------------------------------------------------------------------------------------------------

    fn live(&mut self, now: u64, request: &ExchangeRequest) {
        // The whole group was silent: it was the group's store that was away, not its members. Expire nobody for a lease.
        if now.saturating_sub(self.last_activity) > self.settings.lease / 2 {
            self.grace_until = now + self.settings.lease;
        }
        self.last_activity = now;
        let member = self.members.entry(Arc::clone(&request.consumer)).or_insert_with(|| Member {
            request: 0,
            units: Vec::new(),
            readers: 1,
            topics: Vec::new(),
            seen: now,
        });
        member.seen = now;
        member.readers = request.readers.max(1);
        member.topics.clone_from(&request.topics);
    }

    fn organise(&mut self, now: u64, request: &ExchangeRequest) -> bool {
        let mine = self.organiser.as_ref().is_some_and(|(who, _)| *who == request.consumer);
        let free = self.organiser.as_ref().is_none_or(|(_, until)| *until <= now);
        if request.organise && (mine || free) {
            self.organiser = Some((Arc::clone(&request.consumer), now + self.settings.lease));
            return true;
        }
        if mine {
            self.organiser = None;
        }
        false
    }

    // --- what members say of their units ------------------------------------------------------------------------------

    fn ack(&mut self, consumer: &ConsumerId, ack: &Ack) -> Outcome {
        match self.units.get(&ack.id) {
            None => return Outcome::Gone,
            // A late acknowledgement of an expired lease is still a true fact, as long as nobody else was given the unit.
            Some(row) if !row.belongs_to(consumer, ack.request, ack.end) => return Outcome::Fenced,
            Some(_) => {}
        }
        self.forget(&ack.id);
        let tp = ack.id.tp();
        let p = self.partition(&tp);
        if ack.leader_epoch == p.leader_epoch {
            p.high_watermark = p.high_watermark.max(ack.high_watermark);
        }
        if ack.records > 0 {
            let size = ack.bytes as f64 / f64::from(ack.records);
            p.record_bytes =
                if p.record_bytes == 0.0 { size } else { p.record_bytes.mul_add(0.8, size * 0.2) };
        }
        self.settle(&tp);
        Outcome::Done
    }

    fn nack(&mut self, now: u64, consumer: &ConsumerId, nack: &Nack) -> Outcome {
        match self.units.get(&nack.id) {
            None => return Outcome::Gone,
            Some(row) if !row.belongs_to(consumer, nack.request, nack.end) => return Outcome::Fenced,
            Some(row) if !matches!(row.phase, Phase::Leased(_)) => return Outcome::Fenced,
            Some(_) => {}
        }
        self.units.update(&nack.id, |row| {
            row.advance(nack.progress);
            // The holder gave it up: whatever it still says of it is void.
            row.request = 0;
            if nack.delay.is_none() {
                row.attempt -= 1;
            }
        });
        match nack.delay {
            None => self.units.update(&nack.id, |row| row.phase = Phase::Delayed(now)),
            Some(delay) => {
                let (unit, reason) = (nack.id.clone(), Arc::clone(&nack.reason));
                self.event(Event::Nacked { unit, consumer: Arc::clone(consumer), reason });
                self.requeue(now, &nack.id, delay.as_millis() as u64);
            }
        }
        self.settle(&nack.id.tp());
        Outcome::Done
    }

    fn renew(&mut self, now: u64, consumer: &ConsumerId, renew: &Renew) -> Outcome {
        match self.units.get(&renew.id) {
            None => return Outcome::Gone,
            Some(row) if !row.belongs_to(consumer, renew.request, renew.end) => return Outcome::Fenced,
            Some(row) if row.phase == Phase::Parked => return Outcome::Fenced,
            Some(_) => {}
        }
        let deadline = now + self.settings.lease;
        self.units.update(&renew.id, |row| {
            // Expired, but nobody took it: its holder has it back.
            row.phase = Phase::Leased(deadline);
            row.advance(renew.progress);
        });
        self.settle(&renew.id.tp());
        Outcome::Done
    }

    fn reap(&mut self, now: u64) {
        if now < self.grace_until {
            return;
        }
        for id in self.units.expired(now, REAP_AT_ONCE) {
            let row = self.units.get(&id).expect("invariant: the index names units that are there");
            let (attempt, consumer) = (row.attempt, Arc::clone(&row.holder));
            self.event(Event::Expired { unit: id.clone(), consumer });
            let delay = if attempt < 2 { 0 } else { self.backoff(attempt - 2) };
            self.requeue(now, &id, delay);
            self.settle(&id.tp());
        }
    }

    fn backoff(&self, doublings: u32) -> u64 {
        self.settings.retry_backoff.saturating_mul(1 << doublings.min(16)).min(LONGEST_BACKOFF)
    }

    /// A unit whose delivery failed waits for the next one. After too many it is split in halves, so that one bad record does
    /// not hold up its neighbours, and a unit of one record is parked.
    fn requeue(&mut self, now: u64, id: &UnitId, delay: u64) {
        let row = self.units.get(id).expect("invariant: callers name a unit that is there");
        let (progress, end, attempt) = (row.progress, row.end, row.attempt);
        let due = Phase::Delayed(now + delay);
        if attempt < self.settings.max_attempts {
            // Holder and request stay: a late acknowledgement is taken as long as nobody else has the unit.
            self.units.update(id, |row| row.phase = due);
            return;
        }
        let tp = id.tp();
        if end - progress > 1 {
            let middle = progress + (end - progress) / 2;
            let attempt = self.settings.max_attempts - 1;
            self.units.update(id, |row| {
                row.end = middle;
                row.attempt = attempt;
                row.request = 0;
                row.phase = due;
            });
            let ordered = self.settings.units_per_partition() == 1;
            let p = self.partition(&tp);
            if ordered && p.cursor == end {
                // The only unit of its partition: the rest goes back to the cursor, or order would be lost.
                p.cursor = middle;
            } else {
                p.in_flight += 1;
                let half = UnitId { carved_at: middle, ..id.clone() };
                self.units.insert(
                    half,
                    Row { progress: middle, end, attempt, holder: "".into(), request: 0, phase: due },
                );
            }
            self.event(Event::Split { unit: id.clone(), at: middle });
        } else {
            self.units.update(id, |row| {
                row.phase = Phase::Parked;
                row.request = 0;
            });
            let p = self.partition(&tp);
            p.in_flight -= 1;
            p.parked += 1;
            self.event(Event::Parked { unit: id.clone(), from: progress, to: end });
        }
    }

    // --- claiming ---------------------------------------------------------------------------------------------------

    fn claim(&mut self, now: u64, request: &ExchangeRequest) -> Vec<Unit> {
        let member = self.members.get(&request.consumer).expect("invariant: live() has entered it");
        if member.request == request.request {
            // The answer was lost: the same units again, those that are still this request's.
            let held = |row: &Row| row.request == request.request && row.holder == request.consumer;
            let same = member.units.iter().filter_map(|id| Some((id, self.units.get(id)?)));
            let same = same.filter(|(_, row)| held(row) && matches!(row.phase, Phase::Leased(_)));
            return same.map(|(id, row)| self.unit(id, row)).collect();
        }
        let mine = |id: &&UnitId| request.topics.contains(&id.topic) && self.may_lease(id);
        let due: Vec<UnitId> =
            self.units.due(now).filter(mine).take(request.want as usize).cloned().collect();
        let mut claimed = Vec::with_capacity(request.want as usize);
        let deadline = now + self.settings.lease;
        for id in due {
            self.units.update(&id, |row| {
                row.attempt += 1;
                row.holder = Arc::clone(&request.consumer);
                row.request = request.request;
                row.phase = Phase::Leased(deadline);
            });
            claimed.push(id);
        }
        while claimed.len() < request.want as usize {
            let Some(tp) = self.next_of_ring(&request.topics) else { break };
            claimed.push(self.carve(&tp, deadline, request));
        }
        let member = self.members.get_mut(&request.consumer).expect("invariant: live() has entered it");
        member.request = request.request;
        member.units.clone_from(&claimed);
        let rows = claimed.iter().filter_map(|id| Some((id, self.units.get(id)?)));
        rows.map(|(id, row)| self.unit(id, row)).collect()
    }

    /// In order means: only the first open unit of a partition. There can be a second, where retention moved the cursor
    /// between a unit's failures and its split.
    fn may_lease(&self, id: &UnitId) -> bool {
        self.settings.units_per_partition() > 1 || self.units.is_first(id)
    }

    fn unit(&self, id: &UnitId, row: &Row) -> Unit {
        let deadline = if let Phase::Leased(deadline) = row.phase { deadline } else { 0 };
        Unit {
            id: id.clone(),
            topic: Arc::clone(&id.topic),
            partition: id.partition,
            start: row.progress,
            end: row.end,
            attempt: row.attempt,
            request: row.request,
            leader_epoch: self.partitions.get(&id.tp()).map_or(-1, |p| p.leader_epoch),
            deadline,
        }
    }

    /// The partition of these topics that was served longest ago.
    fn next_of_ring(&self, topics: &[Arc<str>]) -> Option<Tp> {
        let firsts = topics.iter().filter_map(|topic| Some((self.ring.get(topic)?.first()?, topic)));
        firsts.min().map(|((_, partition), topic)| (Arc::clone(topic), *partition))
    }

    fn carve(&mut self, tp: &Tp, deadline: u64, request: &ExchangeRequest) -> UnitId {
        let size = self.unit_size(tp, request);
        let p = self.partition(tp);
        let start = p.cursor;
        let end = (start + size).min(p.high_watermark);
        p.cursor = end;
        p.in_flight += 1;
        let id = UnitId { topic: Arc::clone(&tp.0), partition: tp.1, carved_at: start };
        let row = Row {
            progress: start,
            end,
            attempt: 1,
            holder: Arc::clone(&request.consumer),
            request: request.request,
            phase: Phase::Leased(deadline),
        };
        self.units.insert(id.clone(), row);
        // Behind all others: the next claim is another partition's.
        self.unlist(tp);
        self.settle(tp);
        id
    }

    /// A slice of time: the smallest of the step, what the member's readers handle in the time a unit aims at, the bytes it aims
    /// at, and a fair share of what is left, so that nobody works on a long unit while others have nothing.
    fn unit_size(&self, tp: &Tp, request: &ExchangeRequest) -> i64 {
        let p = &self.partitions[tp];
        let mut size = i64::from(self.settings.consume_step.min(request.max_records));
        if p.record_bytes > 0.0 {
            size = size.min((request.target_bytes as f64 / p.record_bytes) as i64);
        }
        if self.settings.units_per_partition() > 1 {
            let readers: u32 =
                self.members.values().filter(|m| m.topics.contains(&tp.0)).map(|m| m.readers).sum();
            let share = (p.high_watermark - p.cursor) / (2 * i64::from(readers.max(1)));
            size = size.min(share.max(i64::from(request.least_records)));
        }
        size.max(1)
    }

    // --- logs -------------------------------------------------------------------------------------------------------

    fn publish_one(&mut self, fact: &Publish) -> Published {
        let tp = (Arc::clone(&fact.topic), fact.partition);
        let Some(p) = self.partitions.get_mut(&tp) else { return Published::Unknown };
        if p.topic_id != fact.topic_id && !p.topic_id.is_zero() && !fact.topic_id.is_zero() {
            return Published::WrongTopic;
        }
        if fact.leader_epoch < p.leader_epoch {
            return Published::Stale;
        }
        let mut result = Published::Done;
        if fact.leader_epoch > p.leader_epoch && p.leader_epoch >= 0 {
            let Some(cut) = fact.epoch_end else { return Published::AskEpoch(p.leader_epoch) };
            p.leader_epoch = fact.leader_epoch;
            if cut < p.cursor {
                result = Published::Truncated(cut);
                self.truncate(&tp, cut);
            }
            let p = self.partition(&tp);
            p.high_watermark = fact.high_watermark.max(p.cursor);
        } else {
            p.leader_epoch = fact.leader_epoch;
            p.high_watermark = p.high_watermark.max(fact.high_watermark);
        }
        let p = self.partition(&tp);
        p.log_start = p.log_start.max(fact.log_start);
        let (from, to) = (p.cursor, fact.log_start);
        if to > from {
            p.cursor = to;
            p.high_watermark = p.high_watermark.max(to);
            self.lost += (to - from) as u64;
            self.event(Event::Lost { topic: Arc::clone(&fact.topic), partition: fact.partition, from, to });
            result = Published::Lost { from, to };
        }
        self.settle(&tp);
        result
    }

    /// The log was cut at `cut`, below the cursor: what stood above it is another log now.
    fn truncate(&mut self, tp: &Tp, cut: i64) {
        self.drop_units_from(tp, cut);
        self.generations += 1;
        let generation = self.generations;
        let p = self.partition(tp);
        let from = std::mem::replace(&mut p.cursor, cut);
        p.generation = generation;
        p.low_watermark = p.low_watermark.min(cut);
        self.event(Event::Truncated { topic: Arc::clone(&tp.0), partition: tp.1, from, to: cut });
    }

    /// Drops the units from `cut` on; one that straddles it keeps the part below, and its holder is fenced.
    fn drop_units_from(&mut self, tp: &Tp, cut: i64) {
        for id in self.units.of(tp) {
            let row = self.units.get(&id).expect("invariant: the index names units that are there");
            if row.progress >= cut {
                self.forget(&id);
            } else if row.end > cut {
                let parked = row.phase == Phase::Parked;
                self.units.update(&id, |row| {
                    row.end = cut;
                    row.request = 0;
                    row.phase = Phase::Delayed(0);
                });
                if parked {
                    let p = self.partition(tp);
                    p.parked -= 1;
                    p.in_flight += 1;
                }
            }
        }
    }

    fn init_one(&mut self, start: &Init) -> bool {
        let tp = (Arc::clone(&start.topic), start.partition);
        if let Some(p) = self.partitions.get(&tp) {
            let known = p.topic_id;
            let retired = self.retired.get(&start.topic).is_some_and(|ids| ids.contains(&start.topic_id));
            if known == start.topic_id || known.is_zero() || start.topic_id.is_zero() || retired {
                return false;
            }
            self.drop_units_from(&tp, i64::MIN);
            self.unlist(&tp);
            let ids = self.retired.entry(Arc::clone(&start.topic)).or_default();
            if !ids.contains(&known) {
                ids.push_back(known);
                ids.truncate(RETIRED);
            }
            self.event(Event::Recreated { topic: Arc::clone(&start.topic), partition: start.partition });
        }
        self.generations += 1;
        let fresh = Partition {
            cursor: start.start,
            high_watermark: start.high_watermark.max(start.start),
            low_watermark: start.start,
            log_start: start.log_start,
            generation: self.generations,
            leader_epoch: start.leader_epoch,
            topic_id: start.topic_id,
            in_flight: 0,
            parked: 0,
            record_bytes: 0.0,
            place: None,
        };
        self.partitions.insert(tp.clone(), fresh);
        self.settle(&tp);
        true
    }

    // --- bookkeeping ------------------------------------------------------------------------------------------------

    fn partition(&mut self, tp: &Tp) -> &mut Partition {
        self.partitions.get_mut(tp).expect("invariant: a unit's partition is there")
    }

    fn forget(&mut self, id: &UnitId) {
        if let Some(row) = self.units.remove(id) {
            let p = self.partition(&id.tp());
            if row.phase == Phase::Parked { p.parked -= 1 } else { p.in_flight -= 1 }
        }
    }

    /// After a change: the low watermark, and whether the partition stands in the ring.
    fn settle(&mut self, tp: &Tp) {
        let limit = self.settings.units_per_partition();
        let first = self.units.first_of(tp);
        let turns = &mut self.turns;
        let p = self.partitions.get_mut(tp).expect("invariant: callers name a partition that is there");
        p.low_watermark = first.unwrap_or(p.cursor);
        let can = p.cursor < p.high_watermark && p.in_flight < limit && p.parked < PARKED_PER_PARTITION;
        // In order means: nothing is handed out past a record that is parked.
        let can = can && (limit > 1 || p.parked == 0);
        if can && p.place.is_none() {
            *turns += 1;
            p.place = Some(*turns);
            self.ring.entry(Arc::clone(&tp.0)).or_default().insert((*turns, tp.1));
        } else if !can {
            self.unlist(tp);
        }
    }

    fn unlist(&mut self, tp: &Tp) {
        if let Some(place) = self.partition(tp).place.take()
            && let Some(ring) = self.ring.get_mut(&tp.0)
        {
            ring.remove(&(place, tp.1));
            if ring.is_empty() {
                self.ring.remove(&tp.0);
            }
        }
    }

    fn event(&mut self, event: Event) {
        if self.events.len() == EVENTS {
            self.events.pop_front();
        }
        self.events.push_back(event);
    }

    /// The invariants of `docs/GROUPS.md` that can be seen from the state alone; the text names the one that is broken.
    pub fn check(&self) -> Result<(), String> {
        self.units.check()?;
        for (tp, p) in &self.partitions {
            let at = format!("{}/{}", tp.0, tp.1);
            let units = self.units.of(tp);
            let mut position = p.low_watermark;
            let (mut in_flight, mut parked, mut leased) = (0, 0, 0);
            for (i, id) in units.iter().enumerate() {
                let row = self.units.get(id).ok_or("an indexed unit is not there")?;
                if i == 0 && row.progress != p.low_watermark {
                    return Err(format!(
                        "2: {at}: low watermark {} is not its first unit's {}",
                        p.low_watermark, row.progress
                    ));
                }
                if row.progress < position || row.progress >= row.end || row.end > p.cursor {
                    return Err(format!(
                        "2: {at}: unit {id} [{}, {}) overlaps, is empty or beyond {}",
                        row.progress, row.end, p.cursor
                    ));
                }
                position = row.end;
                match row.phase {
                    Phase::Parked => parked += 1,
                    Phase::Delayed(_) => in_flight += 1,
                    Phase::Leased(_) => {
                        in_flight += 1;
                        leased += 1;
                    }
                }
            }
            if units.is_empty() && p.low_watermark != p.cursor {
                return Err(format!(
                    "2: {at}: no unit is open, yet the low watermark {} is not the cursor {}",
                    p.low_watermark, p.cursor
                ));
            }
            if (in_flight, parked) != (p.in_flight, p.parked) {
                return Err(format!(
                    "3: {at}: {in_flight} in flight and {parked} parked, counted {} and {}",
                    p.in_flight, p.parked
                ));
            }
            let limit = self.settings.units_per_partition();
            if limit == 1 && leased > 1 {
                return Err(format!("6: {at}: {leased} leases in an ordered group"));
            }
            let can = p.cursor < p.high_watermark
                && p.in_flight < limit
                && p.parked < PARKED_PER_PARTITION
                && (limit > 1 || p.parked == 0);
            let listed =
                p.place.is_some_and(|place| self.ring.get(&tp.0).is_some_and(|r| r.contains(&(place, tp.1))));
            if can != listed {
                return Err(format!("4: {at}: can be carved: {can}, stands in the ring: {listed}"));
            }
        }
        Ok(())
    }
}

impl Partition {
    fn view(&self, tp: &Tp) -> PartitionView {
        PartitionView {
            topic: Arc::clone(&tp.0),
            partition: tp.1,
            topic_id: self.topic_id,
            cursor: self.cursor,
            high_watermark: self.high_watermark,
            low_watermark: self.low_watermark,
            log_start: self.log_start,
            generation: self.generation,
            leader_epoch: self.leader_epoch,
            in_flight: self.in_flight,
        }
    }
}
