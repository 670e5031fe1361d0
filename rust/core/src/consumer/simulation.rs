//! Consumers, readers, brokers and a group in virtual time: the bookkeeping against the group's own state machine.
//!
//! Every step is chosen by a seeded generator, so a failure names the seed that repeats it. What must hold: no record
//! is skipped, whatever happens; none is delivered twice when nothing fails; the group's invariants after every step;
//! and everything drains. `outage` plays handlers that fail.

mod fetching;
mod idle;
mod outage;
mod pinned;
mod recreated;
mod seeks;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Waker;
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use super::budget::{Budget, Charge};
use super::cache::Extent;
use super::failing::{Failure, Fault};
use super::pinned::Lent;
use super::plan::{NodeFetch, Want};
use super::slot::{Slot, SlotId};
use super::state::{Limits, More, State, Take, Tp, UnitKey};
use super::stats::Counters;
use super::talk::Talk;
use crate::config::Config;
use crate::group::{GroupSettings, GroupState, Init, Publish};
use crate::wire::Uuid;

const PARTITIONS: i32 = 3;

/// A small generator (xorshift64*): the same seed, the same run.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }
}

/// A batch of the fake log; not every offset in it is a record.
#[derive(Debug, Clone)]
struct Batch {
    /// The number of the topic it is of.
    topic: u8,
    base: i64,
    next: i64,
    bytes: usize,
    _charge: Option<Arc<Charge>>,
}

impl Extent for Batch {
    fn base(&self) -> i64 {
        self.base
    }
    fn next(&self) -> i64 {
        self.next
    }
    fn bytes(&self) -> usize {
        self.bytes
    }
}

/// Compaction took these.
fn is_record(offset: i64) -> bool {
    offset % 7 != 3
}

struct Reader {
    slot: Arc<Slot>,
    current: Option<Current>,
    /// Its thread does something else until then.
    away_until: Instant,
}

struct Current {
    key: UnitKey,
    topic_id: Uuid,
    tp: Tp,
    position: i64,
    end: i64,
    pieces: Lent<Batch>,
    /// What lies below is claimed.
    claimed: i64,
    /// The record in the application's hands.
    hand: Option<i64>,
    records: u64,
}

struct Consumer {
    state: State<Batch>,
    budget: Arc<Budget>,
    readers: Vec<Reader>,
    fetches: Vec<(NodeFetch, Charge)>,
    asleep_until: Instant,
    closing: bool,
    /// The topic that its metadata names.
    sees: u8,
}

struct World {
    mistake: Option<pinned::Mistake>,
    dice: Dice,
    conf: Config,
    start: Instant,
    now: Instant,
    group: GroupState,
    logs: BTreeMap<i32, Vec<Batch>>,
    consumers: Vec<Consumer>,
    delivered: BTreeMap<Record, u32>,
    names: u32,
    /// Whether things fail.
    faults: bool,
    /// Whether handlers are so slow that readers claim one record at a time.
    slow: bool,
    /// The partition whose leader is away.
    dead: Option<i32>,
    next_tick: u64,
    /// The topic of today, each has a number and, from 1 on, an id.
    topic: u8,
    /// Answers of topics before, still on their way to a consumer.
    late: Vec<(crate::group::ConsumerId, Want, Vec<Batch>)>,
}

/// Topic, partition and offset.
type Record = (u8, i32, i64);

fn id(topic: u8) -> Uuid {
    Uuid([topic; 16])
}

impl World {
    fn new(seed: u64, faults: bool) -> Self {
        Self::with_topic(seed, faults, 0)
    }

    fn with_topic(seed: u64, faults: bool, topic: u8) -> Self {
        let conf =
            Config { prefetch_bytes: 300_000, unit_bytes: 100_000, max_attempts: 1000, ..Config::default() };
        let mut world = Self::empty(seed, faults, conf, topic);
        let count = 1 + world.dice.roll(3);
        (0..count).for_each(|_| world.join());
        world
    }

    /// Without consumers.
    fn empty(seed: u64, faults: bool, conf: Config, topic: u8) -> Self {
        let start = Instant::now();
        let mut group = GroupState::new(GroupSettings::of(&conf), 0);
        group.init(&starts(topic), 1);
        let logs = (0..PARTITIONS).map(|p| (p, Vec::new())).collect();
        let dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
        Self {
            mistake: None,
            dice,
            conf,
            start,
            now: start,
            group,
            logs,
            consumers: Vec::new(),
            delivered: BTreeMap::new(),
            names: 0,
            faults,
            slow: false,
            dead: None,
            next_tick: 0,
            topic,
            late: Vec::new(),
        }
    }

    fn join(&mut self) {
        let readers = 1 + self.dice.roll(4);
        self.join_with(readers);
    }

    fn join_with(&mut self, readers: u64) {
        self.names += 1;
        let talk = Talk::new(format!("c{}", self.names).into(), self.now);
        let counters = Arc::new(Counters::default());
        let mut state = State::new(Limits::new(&self.conf), "g".into(), talk, counters);
        let sees = self.topic;
        state.talk.add_topic(&"t".into());
        self.group.init(&starts(sees), u64::from(sees));
        state.starts(&starts(sees), self.now);
        self.group.partitions(&["t".into()]).iter().for_each(|view| state.group_stands(view));
        let now = self.now;
        let reader = |_| Reader { slot: state.add_reader(now), current: None, away_until: now };
        let readers = (0..readers).map(reader).collect();
        let budget = Budget::new(self.conf.prefetch_bytes, Arc::new(Notify::new()));
        let (fetches, closing) = (Vec::new(), false);
        self.consumers.push(Consumer { state, budget, readers, fetches, asleep_until: now, closing, sees });
    }

    fn millis(&self) -> u64 {
        (self.now - self.start).as_millis() as u64
    }

    fn end(&self, partition: i32) -> i64 {
        self.logs[&partition].last().map_or(0, |batch| batch.next)
    }

    fn produce(&mut self) {
        let partition = self.dice.roll(PARTITIONS as u64) as i32;
        let base = self.end(partition) + if self.dice.one_in(5) { self.dice.roll(20) as i64 } else { 0 };
        let next = base + 1 + self.dice.roll(400) as i64;
        let (bytes, topic) = ((next - base) as usize * 100, self.topic);
        self.logs.get_mut(&partition).unwrap().push(Batch { topic, base, next, bytes, _charge: None });
    }

    /// What a watcher does: tells the group, and may keep the tail.
    fn publish(&mut self, c: usize) {
        if self.consumers[c].sees != self.topic {
            // Brokers know no such topic.
            return;
        }
        for partition in 0..PARTITIONS {
            let tp = Tp { topic: "t".into(), partition };
            let Some(position) = self.consumers[c].state.tail(&tp) else { continue };
            let end = self.end(partition);
            let pieces = self.read(c, partition, position, 50_000, false);
            self.consumers[c].state.polled(&tp, position, pieces, end, 0);
            self.say(id(self.topic), partition, end);
        }
    }

    fn say(&mut self, topic_id: Uuid, partition: i32, high_watermark: i64) {
        self.group.publish(
            &[Publish {
                topic: "t".into(),
                partition,
                topic_id,
                leader_epoch: 0,
                high_watermark,
                log_start: 0,
                epoch_end: None,
            }],
            1,
        );
    }

    /// As a broker: whole batches from the one that holds `position`, up to `bytes`, one at least if it is `first`.
    fn read(&self, c: usize, partition: i32, position: i64, bytes: usize, first: bool) -> Vec<Batch> {
        let charge = self.consumers[c].budget.take(0);
        let mut left = bytes;
        let mut out = Vec::new();
        for batch in self.logs[&partition].iter().filter(|batch| batch.next > position) {
            if batch.bytes > left && !(first && out.is_empty()) {
                break;
            }
            left = left.saturating_sub(batch.bytes);
            out.push(batch.clone());
        }
        let mut charge = charge;
        charge.set(out.iter().map(|batch| batch.bytes).sum());
        let charge = Arc::new(charge);
        out.iter_mut().for_each(|batch| batch._charge = Some(Arc::clone(&charge)));
        out
    }

    fn exchange(&mut self, c: usize) {
        let (now, millis) = (self.now, self.millis());
        let state = &mut self.consumers[c].state;
        state.tick(now);
        let unsaid = state.unsaid(now);
        let request = state.exchange(now);
        for seen in unsaid {
            self.say(seen.topic_id, seen.tp.partition, seen.high_watermark);
        }
        let Some(request) = request else { return };
        if self.faults && self.dice.one_in(10) {
            return; // It never got there.
        }
        let mut request = request;
        let shortens = request.shortens.len();
        if self.mistake == Some(pinned::Mistake::TheGroupIsNotTold) {
            request.shortens.clear();
        }
        let mut reply = self.group.exchange(millis, &request);
        reply.shortens.resize(shortens, crate::group::Outcome::Done);
        if self.mistake == Some(pinned::Mistake::NobodyWaits) {
            reply.lacking.fill(0);
        }
        if self.faults && self.dice.one_in(10) {
            return; // Its answer was lost.
        }
        self.consumers[c].state.answered(reply, now, now);
    }

    fn plan(&mut self, c: usize) {
        let consumer = &mut self.consumers[c];
        let topic = id(consumer.sees);
        let leader = |tp: &Tp| Some((tp.partition % 2, 0, topic));
        let plan = consumer.state.plan(&consumer.budget, self.now, leader);
        for fetch in plan.fetches {
            let charge = consumer.budget.take(fetch.wants.iter().map(|want| want.bytes).sum());
            consumer.fetches.push((fetch, charge));
        }
    }

    fn answer(&mut self, c: usize) {
        if self.consumers[c].fetches.is_empty() {
            return;
        }
        let at = self.dice.roll(self.consumers[c].fetches.len() as u64) as usize;
        let (fetch, charge) = self.consumers[c].fetches.remove(at);
        drop(charge);
        let now = self.now;
        let mut first = true;
        for want in &fetch.wants {
            let refused = want.topic_id != id(self.topic);
            if refused || self.dead == Some(want.tp.partition) || (self.faults && self.dice.one_in(8)) {
                self.consumers[c].state.fetch_failed(want, now);
                continue;
            }
            if self.faults && self.dice.one_in(12) {
                // Unreadable this time: units that have come as far as that go back, as failed attempts.
                let through = want.position + self.dice.roll(50) as i64;
                self.consumers[c].state.broken(want, Some(through), "test", now);
                continue;
            }
            let Want { tp, position, bytes, .. } = want;
            let pieces = self.read(c, tp.partition, *position, *bytes, first);
            first &= pieces.is_empty();
            let end = self.end(tp.partition);
            self.consumers[c].state.fetched(want, pieces, end, now);
        }
        self.consumers[c].state.fetch_over(fetch.node);
    }

    /// One step of a reader, as `Reader` does it: asking acknowledges, then comes the next record.
    fn step(&mut self, c: usize, r: usize) {
        let now = self.now;
        let unclaimed = self.mistake == Some(pinned::Mistake::NothingIsClaimed);
        let block = if !self.slow && self.dice.one_in(2) { 16 } else { 1 };
        let consumer = &mut self.consumers[c];
        let reader = &mut consumer.readers[r];
        if reader.away_until > now {
            return;
        }
        let state = &mut consumer.state;
        let slot: SlotId = reader.slot.id;
        if let Some(current) = &mut reader.current {
            current.hand = None;
            reader.slot.at(current.position);
            if reader.slot.control.is_revoked() || state.deadline(slot, current.key).is_none_or(|d| now >= d)
            {
                let (key, from) = (current.key, current.position);
                reader.current = None;
                state.give_back(slot, key, from, None);
            }
        }
        loop {
            let Some(current) = &mut reader.current else {
                match state.take(slot, Waker::noop(), now) {
                    Take::Unit(taken) => {
                        let tp = Tp { topic: taken.info.topic, partition: taken.info.partition };
                        let (key, position, end, pieces) = (taken.key, taken.start, taken.end, taken.pieces);
                        let topic_id = state.units[&key].unit.topic_id;
                        reader.current = Some(Current {
                            key,
                            topic_id,
                            tp,
                            position,
                            end,
                            pieces,
                            claimed: position,
                            hand: None,
                            records: 0,
                        });
                        continue;
                    }
                    _ => return,
                }
            };
            loop {
                let Some(piece) = current.pieces.lock().front().cloned() else { break };
                let from = current.position.max(piece.base);
                if let Some(offset) = (from..piece.next.min(current.end)).find(|o| is_record(*o)) {
                    if offset >= current.claimed && !(unclaimed && current.records > 0) {
                        let Some(to) = reader.slot.claim(offset, block) else {
                            current.end = reader.slot.end().expect("units here are short");
                            continue;
                        };
                        current.claimed = to;
                    }
                    current.position = offset + 1;
                    current.hand = Some(offset);
                    current.records += 1;
                    reader.slot.hand(offset);
                    assert_eq!(id(piece.topic), current.topic_id, "a record of another topic than its unit");
                    *self.delivered.entry((piece.topic, current.tp.partition, offset)).or_default() += 1;
                    return;
                }
                current.pieces.lock().pop_front();
            }
            match state.more(slot, current.key, Waker::noop(), now) {
                More::Pieces => {}
                More::Wait => return,
                More::Gone => reader.current = None,
                More::Complete => {
                    let (key, records) = (current.key, current.records);
                    reader.current = None;
                    state.finish(slot, key, records, Duration::from_millis(records));
                }
            }
        }
    }

    /// The record in hand goes back: it was not handled, so it does not count as delivered.
    fn hand_back(&mut self, c: usize, r: usize, failure: bool) {
        let delay = Some(Duration::from_millis(50));
        self.put_back(c, r, failure.then(|| Failure { fault: Fault::Handler, delay, reason: "test".into() }));
    }

    fn put_back(&mut self, c: usize, r: usize, failure: Option<Failure>) {
        let consumer = &mut self.consumers[c];
        let reader = &mut consumer.readers[r];
        let Some(current) = reader.current.take() else { return };
        if let Some(offset) = current.hand {
            let topic = current.topic_id.0[0];
            *self.delivered.get_mut(&(topic, current.tp.partition, offset)).unwrap() -= 1;
        }
        let from = reader.slot.unhandled();
        consumer.state.give_back(reader.slot.id, current.key, from, failure);
        reader.slot.put_back(from);
    }

    fn close(&mut self, c: usize) {
        self.consumers[c].closing = true;
        self.consumers[c].state.begin_close(self.now);
        for r in 0..self.consumers[c].readers.len() {
            self.hand_back(c, r, false);
        }
        self.consumers[c].state.hand_back_all();
    }

    /// A consumer whose group was told everything leaves.
    fn bury(&mut self) {
        let millis = self.millis();
        let mut c = 0;
        while c < self.consumers.len() {
            if self.consumers[c].closing && self.consumers[c].state.is_done() {
                let id = Arc::clone(&self.consumers[c].state.talk.consumer);
                self.group.leave(millis, &id);
                self.consumers.remove(c);
                self.join();
            } else {
                c += 1;
            }
        }
    }

    fn turn(&mut self, producing: bool) {
        self.now += Duration::from_millis(self.dice.roll(8));
        let c = self.dice.roll(self.consumers.len() as u64) as usize;
        let r = self.dice.roll(self.consumers[c].readers.len() as u64) as usize;
        if self.consumers[c].asleep_until > self.now {
            return;
        }
        match self.dice.roll(40) {
            0..=1 if producing => self.produce(),
            2 => self.publish(c),
            3..=9 => self.exchange(c),
            10..=13 => self.plan(c),
            14..=17 => self.answer(c),
            18 => self.hand_back(c, r, false),
            23 if self.dice.one_in(8) => {
                // With a record in hand, or in the middle of a wait.
                let away = Duration::from_millis(self.dice.roll(2_000));
                self.consumers[c].readers[r].away_until = self.now + away;
            }
            19 if self.faults => self.hand_back(c, r, true),
            20 if self.dice.one_in(10) => self.close(c),
            21 if self.faults && self.dice.one_in(30) => {
                let nap = Duration::from_secs(self.dice.roll(90));
                self.consumers[c].asleep_until = self.now + nap;
            }
            22 if self.faults && self.dice.one_in(40) => {
                // It dies; what it had in hand was not handled, and what it handled since the last heartbeat repeats.
                self.consumers.remove(c);
                self.join();
            }
            _ => self.step(c, r),
        }
        self.bury();
        if self.millis() >= self.next_tick {
            self.group.tick(self.millis());
            self.next_tick = self.millis() + 1_000;
        }
        self.group.check().unwrap();
    }

    /// Those of the topic of today.
    fn records(&self) -> Vec<Record> {
        let mut records = Vec::new();
        for (partition, log) in &self.logs {
            let offsets = log.iter().flat_map(|batch| batch.base..batch.next);
            records.extend(offsets.filter(|o| is_record(*o)).map(|offset| (self.topic, *partition, offset)));
        }
        records
    }

    /// No more faults: everything drains.
    fn drain(&mut self) {
        self.faults = false;
        for round in 0.. {
            assert!(round < 100_000, "it does not drain: {:?}", self.group.partitions(&["t".into()]));
            for _ in 0..40 {
                self.turn(false);
            }
            if round % 20 == 19 && self.group.partitions(&["t".into()]).iter().any(|p| p.parked > 0) {
                // What could not be read is tried again after a minute.
                self.now += Duration::from_secs(60);
            }
            let all = |p: crate::group::PartitionView| p.low_watermark >= self.end(p.partition);
            if self.group.partitions(&["t".into()]).into_iter().all(all) {
                return;
            }
        }
    }
}

/// Where the partitions of a topic start.
fn starts(topic: u8) -> Vec<Init> {
    let start = |partition| Init {
        topic: "t".into(),
        partition,
        topic_id: id(topic),
        leader_epoch: 0,
        start: 0,
        high_watermark: 0,
        log_start: 0,
        done: Vec::new(),
    };
    (0..PARTITIONS).map(start).collect()
}

fn run(seed: u64, faults: bool) -> World {
    let mut world = World::new(seed, faults);
    for _ in 0..4_000 {
        world.turn(true);
    }
    world.drain();
    world
}

#[test]
fn without_faults_every_record_is_handled_exactly_once() {
    for seed in 0..12 {
        let world = run(seed, false);
        for record in world.records() {
            let times = world.delivered.get(&record).copied().unwrap_or(0);
            assert_eq!(times, 1, "seed {seed}: record {record:?} was handled {times} times");
        }
        assert_eq!(
            world.delivered.values().filter(|n| **n > 0).count(),
            world.records().len(),
            "seed {seed}"
        );
    }
}

#[test]
fn whatever_fails_no_record_is_skipped() {
    for seed in 1000..1015 {
        let world = run(seed, true);
        for record in world.records() {
            let times = world.delivered.get(&record).copied().unwrap_or(0);
            assert!(times >= 1, "seed {seed}: record {record:?} was skipped");
        }
    }
}
