//! The state machine under a hostile schedule, in virtual time: lost and repeated requests, crashes, clock steps, stale
//! organisers, truncation, retention, seeks, refusals, poison. After every step all invariants are checked against a model
//! of the log; in the end everything must drain. A failure names its seed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::*;
use crate::config::{Config, Ordering};
use crate::wire::Uuid;

/// xorshift: the same seed, the same schedule, on every machine.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

/// A partition's log: which offsets exist, what was handled, and under which epochs it was written.
#[derive(Default)]
struct Log {
    start: i64,
    end: i64,
    epoch: i32,
    /// Offsets of the present log that somebody handled, or that were reported lost or parked.
    done: BTreeSet<i64>,
    poison: BTreeSet<i64>,
    /// Where each older epoch ended in the log as it is now.
    epoch_ends: BTreeMap<i32, i64>,
}

struct Holding {
    unit: Unit,
    progress: i64,
}

#[derive(Default)]
struct Member {
    id: u64,
    request: u64,
    holding: Vec<Holding>,
}

struct Sim {
    seed: u64,
    dice: Dice,
    now: u64,
    state: GroupState,
    logs: Vec<Log>,
    members: Vec<Member>,
    next_member: u64,
    /// Requests that may arrive once more, long after.
    late: Vec<ExchangeRequest>,
    deliveries: u64,
    again: u64,
}

fn topic() -> Arc<str> {
    "t".into()
}

impl Sim {
    fn new(seed: u64) -> Self {
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let ordering = if dice.roll(3) == 0 { Ordering::Partition } else { Ordering::None };
        let settings =
            GroupSettings { lease: 3_000, max_attempts: 3, consume_step: 8, ordering, retry_backoff: 100 };
        let logs: Vec<Log> = (0..=dice.roll(3)).map(|_| Log::default()).collect();
        let mut state = GroupState::new(settings, 1_000);
        let starts: Vec<Init> = (0..logs.len() as i32)
            .map(|partition| Init {
                topic: topic(),
                partition,
                topic_id: Uuid::default(),
                leader_epoch: 0,
                start: 0,
                high_watermark: 0,
                log_start: 0,
            })
            .collect();
        assert_eq!(state.init(&starts, 5), logs.len());
        assert_eq!(state.init(&starts, 5), 0);
        let (members, late) = (Vec::new(), Vec::new());
        Self { seed, dice, now: 1_000, state, logs, members, next_member: 0, late, deliveries: 0, again: 0 }
    }

    fn fail(&self, what: &str) -> ! {
        panic!("seed {}: {what}\n{:#?}", self.seed, self.state)
    }

    /// Everything that must hold after every step.
    fn check(&self) {
        if let Err(broken) = self.state.check() {
            self.fail(&broken);
        }
        for view in self.state.partitions(&[topic()]) {
            let log = &self.logs[view.partition as usize];
            // 1: below the cursor, what no open unit covers was handled, parked or lost.
            let open = self.state.open_units(&view.topic, view.partition);
            for offset in log.start..view.cursor.min(log.end) {
                let covered = open.iter().any(|(from, to)| (*from..*to).contains(&offset));
                if !covered && !log.done.contains(&offset) {
                    self.fail(&format!("1: {}/{} was skipped: {open:?}", view.partition, offset));
                }
            }
        }
    }

    fn step(&mut self) {
        match self.dice.roll(100) {
            0..=19 => self.produce(),
            20..=39 => self.publish(),
            40..=79 => self.exchange(),
            80..=83 => self.stale_publish(),
            84..=86 => {
                // A crash: what it held is never spoken of again.
                if !self.members.is_empty() {
                    let at = self.dice.roll(self.members.len() as u64) as usize;
                    self.members.swap_remove(at);
                }
            }
            87..=88 => self.now += self.dice.roll(5_000),
            89 => self.now = self.now.saturating_sub(self.dice.roll(2_000)),
            90..=91 => self.truncate(),
            92..=93 => self.retain(),
            94 => self.seek(),
            95..=96 => self.late_request(),
            97 => self.state.tick(self.now),
            _ => {
                if let Some(member) = self.members.pop() {
                    self.state.leave(self.now, &Self::name(member.id));
                }
            }
        }
        self.now += self.dice.roll(300);
    }

    fn name(id: u64) -> ConsumerId {
        format!("c{id}").into()
    }

    fn produce(&mut self) {
        let poison = self.dice.roll(20) == 0;
        let (at, n) = (self.dice.roll(self.logs.len() as u64) as usize, self.dice.roll(12) as i64);
        let log = &mut self.logs[at];
        if poison && n > 0 {
            log.poison.insert(log.end);
        }
        log.end += n;
    }

    fn fact(&self, partition: usize, high_watermark: i64, epoch: i32) -> Publish {
        let log = &self.logs[partition];
        Publish {
            topic: topic(),
            partition: partition as i32,
            topic_id: Uuid::default(),
            leader_epoch: epoch,
            high_watermark,
            log_start: log.start,
            epoch_end: None,
        }
    }

    fn publish(&mut self) {
        let partition = self.dice.roll(self.logs.len() as u64) as usize;
        let mut fact = self.fact(partition, self.logs[partition].end, self.logs[partition].epoch);
        let before = self.cursor(partition);
        let mut answer = self.state.publish(std::slice::from_ref(&fact), 7)[0];
        if let Published::AskEpoch(epoch) = answer {
            let log = &self.logs[partition];
            // A leader answers with the end of the largest epoch up to the one asked for.
            fact.epoch_end = Some(log.epoch_ends.get(&epoch).copied().unwrap_or(log.end));
            answer = self.state.publish(&[fact], 7)[0];
        }
        if let Published::Lost { from, to } = answer {
            assert!(from >= before.min(from));
            self.logs[partition].done.extend(from..to);
        }
    }

    fn cursor(&self, partition: usize) -> i64 {
        self.state.partitions(&[topic()])[partition].cursor
    }

    /// Another organiser, with what it knew a while ago.
    fn stale_publish(&mut self) {
        let partition = self.dice.roll(self.logs.len() as u64) as usize;
        let log = &self.logs[partition];
        let end = log.start + self.dice.roll((log.end - log.start + 1) as u64) as i64;
        let mut fact = self.fact(partition, end, self.logs[partition].epoch);
        fact.log_start = 0;
        let view = &self.state.partitions(&[topic()])[partition];
        if fact.leader_epoch == view.leader_epoch {
            self.state.publish(&[fact], 7);
        } else {
            fact.leader_epoch = view.leader_epoch - 1;
            assert_eq!(self.state.publish(&[fact], 7), [Published::Stale]);
        }
    }

    /// A new leader whose log is shorter.
    fn truncate(&mut self) {
        let partition = self.dice.roll(self.logs.len() as u64) as usize;
        let by = self.dice.roll(6) as i64;
        let log = &mut self.logs[partition];
        let cut = (log.end - by).max(log.start);
        log.epoch_ends.values_mut().for_each(|end| *end = (*end).min(cut));
        log.epoch_ends.insert(log.epoch, cut);
        log.epoch += 1;
        log.end = cut;
        log.done = log.done.range(..cut).copied().collect();
        log.poison = log.poison.range(..cut).copied().collect();
        // The same offsets will be other records: what members hold of the old ones says nothing of the new. They find out
        // by the new epoch in their next fetch, before they handle more.
        for member in &mut self.members {
            member.holding.retain(|h| h.unit.partition != partition as i32 || h.unit.end <= cut);
        }
        // Whoever sees the new leader publishes it before anything new is read; so do we, with the end of the stored epoch.
        while self.state.partitions(&[topic()])[partition].leader_epoch < self.logs[partition].epoch {
            let stored = self.state.partitions(&[topic()])[partition].leader_epoch;
            let log = &self.logs[partition];
            let mut fact = self.fact(partition, log.end, log.epoch);
            fact.epoch_end = Some(log.epoch_ends.get(&stored).copied().unwrap_or(log.end));
            if let Published::Lost { from, to } = self.state.publish(&[fact], 7)[0] {
                self.logs[partition].done.extend(from..to);
            }
        }
    }

    fn retain(&mut self) {
        let partition = self.dice.roll(self.logs.len() as u64) as usize;
        let n = self.dice.roll(10) as i64;
        let log = &mut self.logs[partition];
        log.start = (log.start + n).min(log.end);
    }

    fn seek(&mut self) {
        let partition = self.dice.roll(self.logs.len() as u64) as usize;
        let view = self.state.partitions(&[topic()])[partition].clone();
        let (start, end) = (self.logs[partition].start, self.logs[partition].end);
        let to = start + self.dice.roll((end - start + 1) as u64) as i64;
        assert!(!self.state.seek(&topic(), partition as i32, view.generation + 1_000, to, 9));
        assert!(self.state.seek(&topic(), partition as i32, view.generation, to, self.now + 99));
        // What the operator skips counts as done; what he repeats does not.
        let log = &mut self.logs[partition];
        log.done.extend(start..to);
        log.done = log.done.range(..to).copied().collect();
    }

    /// One member's round. Its request may get lost, its reply may, and it may arrive again later.
    fn exchange(&mut self) {
        if self.members.is_empty() || (self.members.len() < 4 && self.dice.roll(10) == 0) {
            self.next_member += 1;
            self.members.push(Member { id: self.next_member, ..Member::default() });
        }
        let at = self.dice.roll(self.members.len() as u64) as usize;
        let mut member = self.members.swap_remove(at);
        let request = self.request(&mut member);
        let lost = self.dice.roll(10);
        if lost == 0 {
            self.late.push(request);
            self.members.push(member);
            return;
        }
        let reply = self.state.exchange(self.now, &request);
        let repeated = self.dice.roll(10) == 0 || lost == 1;
        let reply = if repeated { self.state.exchange(self.now, &request) } else { reply };
        if repeated && self.dice.roll(2) == 0 {
            self.late.push(request);
        }
        for (holding, outcome) in member.holding.iter().zip(&reply.renews) {
            if holding.unit.end < 0 {
                self.fail(&format!("a unit with a negative end was renewed: {outcome:?}"));
            }
        }
        let fenced: Vec<bool> = reply.renews.iter().map(|outcome| *outcome != Outcome::Done).collect();
        let mut index = 0;
        member.holding.retain(|_| {
            index += 1;
            fenced.get(index - 1) != Some(&true)
        });
        for unit in reply.units {
            let progress = unit.start;
            if unit.start >= unit.end || unit.end > self.logs[unit.partition as usize].end {
                self.fail(&format!("a unit outside the log: {unit:?}"));
            }
            member.holding.push(Holding { unit, progress });
        }
        self.members.push(member);
    }

    fn request(&mut self, member: &mut Member) -> ExchangeRequest {
        let mut request = ExchangeRequest::new(Self::name(member.id), member.request, vec![topic()]);
        request.organise = true;
        request.readers = 2;
        let mut kept = Vec::new();
        for mut holding in std::mem::take(&mut member.holding) {
            let log = &mut self.logs[holding.unit.partition as usize];
            // Below the log start there is nothing to read: reported lost.
            if holding.progress < log.start {
                let to = log.start.min(holding.unit.end);
                log.done.extend(holding.progress..to);
                holding.progress = to;
            }
            let n = self.dice.roll(8) as i64;
            let to = (holding.progress + n).min(holding.unit.end);
            let stop = log.poison.range(holding.progress..to).next().copied();
            for offset in holding.progress..stop.unwrap_or(to) {
                self.deliveries += 1;
                self.again += u64::from(!log.done.insert(offset));
            }
            holding.progress = stop.unwrap_or(to);
            let Unit { id, request: claimed_by, end, leader_epoch, .. } = holding.unit.clone();
            let progress = holding.progress;
            if stop.is_some() || self.dice.roll(20) == 0 {
                let delay = (stop.is_some() || self.dice.roll(2) == 0)
                    .then(|| Duration::from_millis(self.dice.roll(500)));
                if progress == end {
                    request.acks.push(Ack {
                        id,
                        request: claimed_by,
                        end,
                        high_watermark: -1,
                        leader_epoch,
                        records: 1,
                        bytes: 100,
                    });
                } else {
                    request.nacks.push(Nack {
                        id,
                        request: claimed_by,
                        end,
                        progress,
                        delay,
                        reason: "it throws".into(),
                    });
                }
            } else if progress == end {
                request.acks.push(Ack {
                    id,
                    request: claimed_by,
                    end,
                    high_watermark: -1,
                    leader_epoch,
                    records: 1,
                    bytes: 100,
                });
            } else {
                request.renews.push(Renew { id, request: claimed_by, end, progress });
                kept.push(holding);
            }
        }
        member.holding = kept;
        if self.dice.roll(4) > 0 {
            member.request += 1;
            request.request = member.request;
            request.want = 1 + self.dice.roll(3) as u32;
            request.max_records = 1 + self.dice.roll(12) as u32;
        }
        request
    }

    /// A request from the past arrives once more; its reply is thrown away.
    fn late_request(&mut self) {
        if !self.late.is_empty() {
            let at = self.dice.roll(self.late.len() as u64) as usize;
            let request = self.late.swap_remove(at);
            self.state.exchange(self.now, &request);
        }
    }

    /// No more faults: everything there is must be handled or parked within a bounded number of rounds.
    fn drain(&mut self) {
        self.late.clear();
        self.members.clear();
        self.next_member += 1;
        let mut member = Member { id: self.next_member, ..Member::default() };
        for _ in 0..20_000 {
            for partition in 0..self.logs.len() {
                let (end, epoch) = (self.logs[partition].end, self.logs[partition].epoch);
                let fact = self.fact(partition, end, epoch);
                if let Published::Lost { from, to } = self.state.publish(&[fact], 7)[0] {
                    self.logs[partition].done.extend(from..to);
                }
            }
            let request = self.request(&mut member);
            let reply = self.state.exchange(self.now, &request);
            member.holding.extend(reply.units.into_iter().map(|unit| Holding { progress: unit.start, unit }));
            self.check();
            self.now += 200;
            let views = self.state.partitions(&[topic()]);
            // A parked record holds an ordered partition: it is as drained as it can be.
            let drained =
                views.iter().all(|v| v.in_flight == 0 && v.cursor == self.logs[v.partition as usize].end);
            if drained && member.holding.is_empty() {
                return;
            }
        }
        self.fail("it did not drain");
    }
}

#[test]
fn nothing_is_skipped_whatever_happens() {
    let (mut deliveries, mut again) = (0, 0);
    for seed in 1..=400 {
        let mut sim = Sim::new(seed);
        for _ in 0..300 {
            sim.step();
            sim.check();
        }
        sim.drain();
        deliveries += sim.deliveries;
        again += sim.again;
    }
    // A schedule that delivers nothing would prove nothing.
    assert!(deliveries > 50_000 && again > 0, "{deliveries} deliveries, {again} again");
}

fn settings() -> GroupSettings {
    GroupSettings::of(&Config::default())
}

fn with_backlog(settings: GroupSettings, partitions: i32, records: i64) -> GroupState {
    let mut state = GroupState::new(settings, 0);
    let (topic_id, leader_epoch) = (Uuid::default(), 0);
    let start = |partition| Init {
        topic: topic(),
        partition,
        topic_id,
        leader_epoch,
        start: 0,
        high_watermark: records,
        log_start: 0,
    };
    state.init(&(0..partitions).map(start).collect::<Vec<_>>(), 5);
    state
}

fn claim(state: &mut GroupState, who: &str, number: u64, want: u32) -> Vec<Unit> {
    let mut request = ExchangeRequest::new(who.into(), number, vec![topic()]);
    request.want = want;
    state.exchange(0, &request).units
}

#[test]
fn a_fault_free_run_has_no_duplicate_and_shares_the_backlog() {
    let mut state = with_backlog(settings(), 1, 1_000);
    let mut seen = BTreeSet::new();
    let mut by_member = [0_i64; 2];
    let mut number = 0;
    loop {
        number += 1;
        let mut any = false;
        for (i, who) in ["a", "b"].into_iter().enumerate() {
            let units = claim(&mut state, who, number, 1);
            let mut request = ExchangeRequest::new(who.into(), 0, vec![topic()]);
            for unit in &units {
                any = true;
                by_member[i] += unit.end - unit.start;
                assert!((unit.start..unit.end).all(|offset| seen.insert(offset)));
                let Unit { id, request: claimed_by, end, .. } = unit.clone();
                request.acks.push(Ack {
                    id,
                    request: claimed_by,
                    end,
                    high_watermark: -1,
                    leader_epoch: -1,
                    records: 1,
                    bytes: 1,
                });
            }
            state.exchange(0, &request);
        }
        state.check().unwrap();
        if !any {
            break;
        }
    }
    assert_eq!(seen.len(), 1_000);
    assert!(by_member.iter().all(|n| *n > 200), "{by_member:?}");
}

#[test]
fn the_same_request_gets_the_same_units() {
    let mut state = with_backlog(settings(), 3, 100);
    let first = claim(&mut state, "a", 1, 2);
    assert_eq!(first.len(), 2);
    assert_eq!(claim(&mut state, "a", 1, 2), first);
    assert_ne!(claim(&mut state, "a", 2, 2), first);
}

#[test]
fn partitions_take_turns() {
    let mut state = with_backlog(GroupSettings { consume_step: 1, ..settings() }, 3, 100);
    let served: Vec<i32> =
        (1..=6).flat_map(|n| claim(&mut state, "a", n, 1)).map(|unit| unit.partition).collect();
    assert_eq!(served, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn who_has_not_subscribed_gets_nothing() {
    let mut state = with_backlog(settings(), 1, 100);
    let mut request = ExchangeRequest::new("a".into(), 1, vec!["other".into()]);
    request.want = 1;
    assert!(state.exchange(0, &request).units.is_empty());
}

#[test]
fn an_ordered_partition_has_one_unit_at_a_time() {
    let mut state =
        with_backlog(GroupSettings { ordering: Ordering::Partition, consume_step: 10, ..settings() }, 1, 100);
    assert_eq!(claim(&mut state, "a", 1, 4).len(), 1);
    assert!(claim(&mut state, "b", 1, 4).is_empty());
}

#[test]
fn an_expired_unit_goes_to_another_and_its_holder_is_fenced() {
    let mut state = with_backlog(settings(), 1, 1);
    let unit = claim(&mut state, "a", 1, 1).remove(0);
    let lease = state.settings().lease;
    // Somebody is alive all the time, or the group would believe its store was away.
    for now in (0..=lease).step_by(1_000) {
        state.exchange(now, &ExchangeRequest::new("b".into(), 0, vec![topic()]));
    }
    let mut request = ExchangeRequest::new("b".into(), 1, vec![topic()]);
    request.want = 1;
    let taken = state.exchange(lease + 1, &request).units;
    assert_eq!((taken[0].start, taken[0].attempt), (0, 2));
    let Unit { id, request: claimed_by, end, .. } = unit;
    let mut late = ExchangeRequest::new("a".into(), 0, vec![topic()]);
    late.renews.push(Renew { id, request: claimed_by, end, progress: 0 });
    assert_eq!(state.exchange(lease + 2, &late).renews, [Outcome::Fenced]);
}

#[test]
fn silence_of_everybody_expires_nobody() {
    let mut state = with_backlog(settings(), 1, 1);
    claim(&mut state, "a", 1, 1);
    let mut request = ExchangeRequest::new("b".into(), 1, vec![topic()]);
    request.want = 1;
    let away = state.settings().lease * 3;
    assert!(state.exchange(away, &request).units.is_empty());
}

#[test]
fn a_recreated_topic_starts_anew_and_its_old_id_does_not_come_back() {
    let mut state = GroupState::new(settings(), 0);
    let init = |id, start| Init {
        topic: topic(),
        partition: 0,
        topic_id: Uuid([id; 16]),
        leader_epoch: 0,
        start,
        high_watermark: 50,
        log_start: 0,
    };
    assert_eq!(state.init(&[init(1, 40)], 5), 1);
    claim(&mut state, "a", 1, 1);
    assert_eq!(state.init(&[init(2, 0)], 5), 1);
    assert_eq!(state.partitions(&[topic()])[0].cursor, 0);
    assert_eq!(state.init(&[init(1, 40)], 5), 0);
    state.check().unwrap();
}
