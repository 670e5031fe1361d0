//! All that a consumer knows, without I/O: the units it holds, the readers that wait, what is to be told to the group.
//!
//! One lock guards one [`State`]; it is taken per unit and per fetched piece, never per record. `now` is passed in.
//! Methods leave what has to happen outside the lock in [`Effects`]: wakers to wake, tasks to kick, events.
//!
//! A unit's way: claimed (it enters the *pool*, its fetch begins) -> taken by a reader (in hands) -> finished, given
//! back, or revoked. The pool belongs to all readers of the consumer, so a unit claimed early never waits for one slow
//! reader. `talk.rs` speaks with the group, `plan.rs` decides what to fetch; both are further `impl`s of [`State`].

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::task::Waker;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::cache::Extent;
use super::chunk::UnitInfo;
use super::denied::Denied;
use super::error::ReadError;
use super::event::Event;
use super::failing::{Failing, Failure};
use super::feed::Feed;
use super::known::Known;
use super::pinned::{Lacking, Lent};
use super::sizing::Sizing;
use super::slot::{Slot, SlotId};
use super::stats::Counters;
use super::talk::Talk;
use crate::config::Config;
use crate::group::Unit;

/// Names a held unit within its consumer.
pub(super) type UnitKey = u64;

/// A partition of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Tp {
    pub(super) topic: Arc<str>,
    pub(super) partition: i32,
}

/// The settings the bookkeeping needs.
#[derive(Debug, Clone)]
pub(super) struct Limits {
    pub(super) lease: Duration,
    /// How long before its deadline a unit is no longer delivered.
    pub(super) margin: Duration,
    pub(super) heartbeat: Duration,
    pub(super) max_processing: Duration,
    pub(super) unit_target: Duration,
    pub(super) unit_bytes: usize,
    pub(super) consume_step: u32,
    pub(super) retry_backoff: Duration,
    /// Whether a record is handled only when those before it are.
    pub(super) ordered: bool,
    /// How long a unit may lie in the pool beyond what the readers are about to take.
    pub(super) patience: Duration,
}

impl Limits {
    pub(super) fn new(conf: &Config) -> Self {
        Self {
            lease: conf.lease,
            margin: conf.lease / 10,
            heartbeat: conf.heartbeat,
            max_processing: conf.max_processing,
            unit_target: conf.unit_target,
            unit_bytes: conf.unit_bytes,
            consume_step: conf.consume_step,
            retry_backoff: conf.retry_backoff,
            ordered: conf.ordering == crate::config::Ordering::Partition,
            patience: (conf.unit_target * 4).max(Duration::from_millis(200)),
        }
    }
}

/// A unit this consumer holds.
#[derive(Debug)]
pub(super) struct Held<B> {
    pub(super) unit: Unit,
    pub(super) tp: Tp,
    /// The first offset not handled, while nobody has it in hands.
    pub(super) from: i64,
    /// The next offset to fetch: the unit is complete when it reaches the end, whatever records were seen.
    pub(super) next: i64,
    /// Fetched and not yet taken by the reader.
    pub(super) queue: VecDeque<B>,
    /// Taken by the reader that has it in hands.
    pub(super) lent: Option<Lent<B>>,
    pub(super) holder: Option<SlotId>,
    /// The reader that waits in the middle of the unit.
    pub(super) starving: Option<Waker>,
    pub(super) claimed: Instant,
    /// When the lease ends, by our clock, and no later than the group's.
    pub(super) deadline: Instant,
}

impl<B: Extent> Held<B> {
    /// Nothing of it is fetched.
    pub(super) fn new(unit: Unit, now: Instant, deadline: Instant) -> Self {
        Self {
            from: unit.start,
            next: unit.start,
            tp: Tp { topic: Arc::clone(&unit.topic), partition: unit.partition },
            unit,
            queue: VecDeque::new(),
            lent: None,
            holder: None,
            starving: None,
            claimed: now,
            deadline,
        }
    }

    /// Whether all of it was fetched.
    pub(super) const fn complete(&self) -> bool {
        self.next >= self.unit.end
    }

    /// Whether a reader could begin or go on with it.
    pub(super) fn ready(&self) -> bool {
        self.complete() || !self.queue.is_empty()
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.iter().map(Extent::bytes).sum()
    }
}

/// A reader as the bookkeeping sees it.
#[derive(Debug)]
pub(super) struct Seat {
    pub(super) slot: Arc<Slot>,
    pub(super) holds: Option<UnitKey>,
    /// When it took what it holds.
    pub(super) since: Instant,
    /// Where the reader stood when a heartbeat last saw it move.
    pub(super) seen: (i64, Instant),
    /// Whether it waits for data in the middle of its unit: then no record sits in user code.
    pub(super) starving: bool,
    /// Since when there is data for it and it has not come.
    pub(super) woken: Option<Instant>,
    /// Whether nobody asks it now and no record is in anybody's hands.
    pub(super) idle: bool,
}

/// What has to happen once the lock is free.
#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) wake: Vec<Waker>,
    pub(super) events: Vec<Event>,
    pub(super) exchange: bool,
    pub(super) fetch: bool,
    pub(super) watch: bool,
    pub(super) look: bool,
}

/// Whether units are still taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// As usual.
    Open,
    /// No new units; what is held is finished or handed back.
    Closing,
    /// The group was told; the tasks end.
    Closed,
}

/// What a reader gets that asks for a unit.
#[derive(Debug)]
pub(super) enum Take<B> {
    /// This one.
    Unit(Taken<B>),
    /// None is ready; its waker will be woken.
    Wait,
    /// No more, ever.
    Closed,
    /// The group refused this consumer.
    Failed(ReadError),
}

/// A unit in a reader's hands.
#[derive(Debug)]
pub(super) struct Taken<B> {
    pub(super) key: UnitKey,
    pub(super) info: UnitInfo,
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) pieces: Lent<B>,
    pub(super) deadline: Instant,
}

/// What a reader gets that has delivered all it had of its unit.
#[derive(Debug)]
pub(super) enum More {
    /// Go on: there is more in what was lent.
    Pieces,
    /// Not here yet; its waker will be woken.
    Wait,
    /// That was all of the unit.
    Complete,
    /// The unit is not ours any more.
    Gone,
}

/// Everything behind the lock.
#[derive(Debug)]
pub(super) struct State<B> {
    pub(super) limits: Limits,
    pub(super) group: Arc<str>,
    pub(super) units: BTreeMap<UnitKey, Held<B>>,
    /// Units nobody has started, oldest first.
    pub(super) pool: VecDeque<UnitKey>,
    pub(super) feeds: HashMap<Tp, Feed<B>>,
    pub(super) readers: HashMap<SlotId, Seat>,
    /// Readers without a unit, longest waiting first.
    pub(super) waiting: VecDeque<(SlotId, Waker)>,
    pub(super) sizing: HashMap<Arc<str>, Sizing>,
    pub(super) talk: Talk,
    /// Who else waits for work.
    pub(super) lacking: Lacking,
    pub(super) phase: Phase,
    pub(super) failed: Option<ReadError>,
    closing_since: Option<Instant>,
    pub(super) effects: Effects,
    pub(super) counters: Arc<Counters>,
    /// Fetches under way per leader.
    pub(super) busy: HashMap<i32, usize>,
    pub(super) uses: u64,
    /// Topics that the brokers do not let us read.
    pub(super) denied: Denied,
    /// Partitions whose high watermark was seen and not told to the group.
    pub(super) unsaid: BTreeSet<Tp>,
    /// Partitions of topics that only other members read, with the high watermarks that the group knows. The organiser
    /// watches them too.
    pub(super) others: HashMap<Tp, i64>,
    /// Which topics and starts the group knows.
    pub(super) known: Known,
    /// Partitions that this consumer has moved by force, and when: as many rows as partitions were sought.
    pub(super) moved: HashMap<Tp, Instant>,
    /// What failed, and whether everything does.
    pub(super) failing: Failing,
    last_key: u64,
}

impl<B: Extent> State<B> {
    pub(super) fn new(limits: Limits, group: Arc<str>, talk: Talk, counters: Arc<Counters>) -> Self {
        let ordered = limits.ordered;
        Self {
            limits,
            group,
            units: BTreeMap::new(),
            pool: VecDeque::new(),
            feeds: HashMap::new(),
            readers: HashMap::new(),
            waiting: VecDeque::new(),
            sizing: HashMap::new(),
            talk,
            lacking: Lacking::default(),
            phase: Phase::Open,
            failed: None,
            closing_since: None,
            effects: Effects::default(),
            counters,
            busy: HashMap::new(),
            uses: 0,
            denied: Denied::default(),
            unsaid: BTreeSet::new(),
            others: HashMap::new(),
            known: Known::default(),
            moved: HashMap::new(),
            failing: Failing::new(ordered),
            last_key: 0,
        }
    }

    // --- readers -----------------------------------------------------------------------------------------------

    /// Adds a reader. It counts as one that wants units once it has asked.
    pub(super) fn add_reader(&mut self, now: Instant) -> Arc<Slot> {
        self.last_key += 1;
        let slot = Slot::new(self.last_key, now);
        let seat = Seat {
            slot: Arc::clone(&slot),
            holds: None,
            since: now,
            seen: (-1, now),
            starving: false,
            woken: None,
            idle: false,
        };
        self.readers.insert(slot.id, seat);
        slot
    }

    /// Forgets a reader; what it held was given back before.
    pub(super) fn remove_reader(&mut self, slot: SlotId) {
        self.stop_asking(slot);
        if let Some(seat) = self.readers.remove(&slot) {
            self.failing.retired += seat.slot.handled();
        }
        self.effects.exchange = true;
    }

    /// Gives the oldest ready unit of the pool to a reader, or lets it wait.
    pub(super) fn take(&mut self, slot: SlotId, waker: &Waker, now: Instant) -> Take<B> {
        if let Some(error) = &self.failed {
            return Take::Failed(error.clone());
        }
        if self.phase != Phase::Open {
            return Take::Closed;
        }
        self.waiting.retain(|(id, _)| *id != slot);
        let Some(at) = self.pool.iter().position(|key| self.units[key].ready()) else {
            self.waiting.push_back((slot, waker.clone()));
            self.effects.exchange |= self.wanted(now) > 0;
            return Take::Wait;
        };
        let key = self.pool.remove(at).expect("invariant: position() found it");
        let held = self.units.get_mut(&key).expect("invariant: every unit of the pool is held");
        held.holder = Some(slot);
        let pieces = Lent::new(Mutex::new(std::mem::take(&mut held.queue)));
        held.lent = Some(Lent::clone(&pieces));
        let info = UnitInfo {
            topic: Arc::clone(&held.tp.topic),
            partition: held.tp.partition,
            attempt: held.unit.attempt,
        };
        let taken = Taken {
            key,
            info,
            start: held.from,
            end: held.unit.end,
            pieces,
            deadline: held.deadline - self.limits.margin,
        };
        // The next piece is fetched while this one is handled.
        self.effects.fetch |= !held.complete();
        let seat = self.readers.get_mut(&slot).expect("invariant: a reader is added before it asks");
        seat.holds = Some(key);
        seat.since = now;
        seat.seen = (taken.start, now);
        seat.starving = false;
        seat.woken = None;
        seat.slot.ours_until(taken.deadline);
        seat.slot.begin(taken.start, taken.end);
        // The next unit is claimed while this one is handled.
        self.effects.exchange |= self.wanted(now) > 0;
        Take::Unit(taken)
    }

    /// The next pieces of a unit in hands.
    pub(super) fn more(&mut self, slot: SlotId, key: UnitKey, waker: &Waker, now: Instant) -> More {
        let Some(held) = self.units.get_mut(&key).filter(|held| held.holder == Some(slot)) else {
            return More::Gone;
        };
        if let Some(seat) = self.readers.get_mut(&slot) {
            seat.starving = false;
            seat.woken = None;
        }
        if !held.queue.is_empty() {
            self.effects.fetch |= !held.complete();
            if let Some(lent) = &held.lent {
                lent.lock().append(&mut held.queue);
            }
            return More::Pieces;
        }
        if held.complete() {
            return More::Complete;
        }
        held.starving = Some(waker.clone());
        if let Some(seat) = self.readers.get_mut(&slot) {
            seat.starving = true;
        }
        self.effects.fetch = true;
        // Of a topic that is left alone nothing comes: the unit is to go back now.
        self.effects.exchange |= self.denied.until(&held.tp.topic, now).is_some();
        More::Wait
    }

    /// Until when a unit may be delivered; `None` when it is not ours any more.
    pub(super) fn deadline(&self, slot: SlotId, key: UnitKey) -> Option<Instant> {
        let held = self.units.get(&key).filter(|held| held.holder == Some(slot));
        held.map(|held| held.deadline - self.limits.margin)
    }

    /// Nobody asks `slot` any more (its future was dropped, its time was over), and no record is in anybody's hands. If
    /// it had just been woken for a unit, somebody else is woken instead.
    pub(super) fn stop_asking(&mut self, slot: SlotId) {
        let before = self.waiting.len();
        self.waiting.retain(|(id, _)| *id != slot);
        let free = self.readers.get_mut(&slot).is_some_and(|seat| {
            seat.idle = true;
            seat.holds.is_none()
        });
        if free && self.waiting.len() == before && self.pool.iter().any(|key| self.units[key].ready()) {
            self.wake_one();
        }
        if self.phase != Phase::Open {
            self.hand_back_idle();
        }
    }

    /// Somebody asks `slot` again.
    pub(super) fn start_asking(&mut self, slot: SlotId) {
        if let Some(seat) = self.readers.get_mut(&slot) {
            seat.idle = false;
        }
    }

    /// Hands back what readers hold of which no record is in anybody's hands: a close need not wait for them.
    fn hand_back_idle(&mut self) {
        let idle = self.readers.values().filter(|seat| seat.idle);
        let held: Vec<_> = idle.filter_map(|s| Some((s.slot.id, s.holds?, s.slot.unhandled()))).collect();
        for (slot, key, from) in held {
            self.give_back(slot, key, from, None);
        }
    }

    /// Wakes one reader that waits for a unit: one per unit, never the herd.
    pub(super) fn wake_one(&mut self) {
        if let Some((_, waker)) = self.waiting.pop_front() {
            self.effects.wake.push(waker);
        }
    }

    /// All records of a unit are handled.
    pub(super) fn finish(&mut self, slot: SlotId, key: UnitKey, records: u64, busy: Duration) {
        let Some(held) = self.let_go(slot, key) else { return };
        let offsets = u64::try_from(held.unit.end - held.unit.start).unwrap_or(0);
        self.sizing(&held.tp.topic).learn(records, offsets, busy);
        self.say_done(&held, records);
    }

    /// A unit goes back to the group from `from` on. Without a failure it is only handed back, which is no attempt.
    pub(super) fn give_back(&mut self, slot: SlotId, key: UnitKey, from: i64, failure: Option<Failure>) {
        let Some(held) = self.let_go(slot, key) else { return };
        self.return_unit(held, from, failure);
    }

    pub(super) fn return_unit(&mut self, held: Held<B>, from: i64, failure: Option<Failure>) {
        let from = from.clamp(held.unit.start, held.unit.end);
        if from == held.unit.end {
            // Nothing of it is unhandled: that is an acknowledgement.
            self.say_done(&held, 0);
        } else {
            let verdict = failure.map(|failure| self.judge(&held, from, failure));
            self.say_back(&held, from, verdict);
        }
    }

    /// Takes units that did not fail from whoever has them, and hands them back from where he stands.
    pub(super) fn return_units(&mut self, keys: Vec<UnitKey>) {
        for key in keys {
            let from = self.progress(&self.units[&key]);
            if let Some(held) = self.revoke(key) {
                self.return_unit(held, from, None);
            }
        }
    }

    /// What is known of how long records of `topic` take.
    pub(super) fn sizing(&mut self, topic: &Arc<str>) -> &mut Sizing {
        let limits = &self.limits;
        self.sizing
            .entry(Arc::clone(topic))
            .or_insert_with(|| Sizing::new(limits.unit_target, limits.consume_step))
    }

    /// Takes a unit out of a reader's hands; `None` when it is not there any more.
    pub(super) fn let_go(&mut self, slot: SlotId, key: UnitKey) -> Option<Held<B>> {
        let seat = self.readers.get_mut(&slot).filter(|seat| seat.holds == Some(key))?;
        seat.holds = None;
        seat.starving = false;
        // A close waits for this.
        self.effects.exchange = true;
        self.units.remove(&key)
    }

    // --- units -------------------------------------------------------------------------------------------------

    /// Takes in a unit that the group gave us; its data may be known already.
    pub(super) fn claimed(&mut self, unit: Unit, now: Instant, deadline: Instant) {
        self.last_key += 1;
        let key = self.last_key;
        let mut held = Held::new(unit, now, deadline);
        self.uses += 1;
        let feed = self.feeds.entry(held.tp.clone()).or_default();
        feed.touched = self.uses;
        if feed.enters(held.unit.leader_epoch) {
            feed.high_watermark = held.unit.end;
        }
        held.next = feed.cache.read(held.next, held.unit.end, &mut held.queue);
        if held.complete() {
            Counters::add(&self.counters.units_from_cache, 1);
        } else {
            self.effects.fetch = true;
        }
        let ready = held.ready();
        self.units.insert(key, held);
        self.pool.push_back(key);
        if ready {
            self.wake_one();
        }
    }

    /// A unit is not ours any more, or must not be delivered further.
    pub(super) fn revoke(&mut self, key: UnitKey) -> Option<Held<B>> {
        let held = self.units.remove(&key)?;
        match held.holder {
            None => self.pool.retain(|k| *k != key),
            Some(slot) => {
                if let Some(seat) = self.readers.get_mut(&slot).filter(|seat| seat.holds == Some(key)) {
                    seat.slot.control.revoked.store(true, std::sync::atomic::Ordering::Release);
                    seat.holds = None;
                    seat.starving = false;
                }
            }
        }
        if let Some(lent) = &held.lent {
            // Its reader may not come for long; none of this is handed out any more.
            lent.lock().clear();
        }
        self.effects.wake.extend(held.starving.clone());
        self.effects.fetch = true;
        Some(held)
    }

    /// The group refuses this consumer: every reader is told.
    pub(super) fn fail(&mut self, error: ReadError) {
        self.failed = Some(error);
        let keys: Vec<_> = self.units.keys().copied().collect();
        keys.into_iter().for_each(|key| drop(self.revoke(key)));
        let waiting = std::mem::take(&mut self.waiting);
        self.effects.wake.extend(waiting.into_iter().map(|(_, waker)| waker));
    }

    /// Starts closing: nobody gets a new unit, the pool goes back, readers that wait learn it. Readers that hold a
    /// record keep their unit until they ask again; the rest of a chunk is not handed out.
    pub(super) fn begin_close(&mut self, now: Instant) {
        if self.phase != Phase::Open {
            return;
        }
        self.closing_since = Some(now);
        self.phase = Phase::Closing;
        self.return_pool();
        for seat in self.readers.values() {
            seat.slot.control.revoked.store(true, std::sync::atomic::Ordering::Release);
        }
        self.hand_back_idle();
        let waiting = std::mem::take(&mut self.waiting);
        self.effects.wake.extend(waiting.into_iter().map(|(_, waker)| waker));
        self.effects.wake.extend(self.units.values_mut().filter_map(|held| held.starving.take()));
        self.effects.exchange = true;
    }

    /// How long it has been closing.
    pub(super) fn closing_for(&self, now: Instant) -> Duration {
        self.closing_since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// Whether nothing is held any more and the group was told everything.
    pub(super) fn is_done(&self) -> bool {
        self.units.is_empty() && self.talk.is_silent()
    }

    /// Whether units are still taken.
    pub(super) fn is_open(&self) -> bool {
        self.phase == Phase::Open && self.failed.is_none()
    }

    /// The subscribed topics.
    pub(super) fn topics(&self) -> Vec<Arc<str>> {
        self.talk.topics().to_vec()
    }

    /// Hands back what readers still hold, from where they stand.
    pub(super) fn hand_back_all(&mut self) {
        let held: Vec<_> =
            self.readers.values().filter_map(|s| Some((s.slot.id, s.holds?, s.slot.unhandled()))).collect();
        for (slot, key, from) in held {
            self.give_back(slot, key, from, None);
        }
    }
}
