//! The state machine under a hostile schedule, in virtual time.
//!
//! A model of the brokers' logs, of consumers and of two organisers plays against a [`GroupState`]. What may go wrong does:
//! requests and replies get lost, are repeated, arrive once more long after; consumers crash, stall beyond their lease,
//! change their topics; records kill or are refused; the clock jumps; facts come late and from an older leader; logs are
//! truncated, deleted from the front, created again; operators seek, pause, unpark; the group's store goes back to an
//! earlier state and is mended from a commit. After every step the state's own invariants are checked, and that nothing
//! below a cursor was skipped ([`model`]). In the end the faults stop and everything must be handled. A failure names its seed.
//!
//! `GROUP_SIM_SEEDS=from..to` runs other seeds, `GROUP_SIM_STEPS` more steps.

mod client;
mod directed;
mod model;
mod operator;
mod probes;
mod scripts;
mod twin;

use std::collections::BTreeMap;
use std::sync::Arc;

use super::*;
use crate::config::Ordering;
use client::{CLUSTERS, Client};
use model::{Dice, Log, TOPICS};
use twin::{Group, Redis, Snapshot};

type Tp = (usize, usize);

/// What a commit remembers of a partition.
#[derive(Clone)]
struct Commit {
    tp: Tp,
    view: PartitionView,
    /// What was handled above the low watermark.
    done: Vec<(i64, i64)>,
}

struct Sim {
    seed: u64,
    dice: Dice,
    faults: bool,
    now: u64,
    state: Group,
    /// By topic, by partition.
    logs: Vec<Vec<Log>>,
    clients: Vec<Client>,
    born: u64,
    next_topic_id: u8,
    /// Facts that will be published late.
    late_facts: Vec<Publish>,
    /// Requests that arrive once more.
    late_requests: Vec<ExchangeRequest>,
    late_inits: Vec<Init>,
    snapshots: Vec<Snapshot>,
    commits: Vec<Commit>,
    /// The last low watermark seen of a partition, by generation (invariant 5).
    marks: BTreeMap<Tp, (u64, i64)>,
    handled: u64,
    repeated: u64,
    /// How often each kind of thing happened: a schedule in which something never happens tests nothing of it.
    seen: BTreeMap<&'static str, u64>,
}

impl Sim {
    fn new(seed: u64, faults: bool, redis: Option<&Redis>) -> Self {
        let mut dice = Dice::new(seed);
        let ordering = if dice.one_in(3) { Ordering::Partition } else { Ordering::None };
        let settings = GroupSettings {
            // Without faults nobody is slow.
            lease: if faults { 3_000 } else { 60_000 },
            max_attempts: 1 + dice.roll(4) as u32,
            consume_step: 2 + dice.roll(12) as u32,
            ordering,
            retry_backoff: 100,
        };
        let cluster = CLUSTERS[dice.below(2)];
        let logs = (0..TOPICS.len()).map(|t| (0..=dice.roll(3)).map(|_| Log::new(t as u8 + 1)).collect());
        let mut sim = Self {
            seed,
            faults,
            now: 10_000,
            state: Group::new(settings, cluster, 10_000, redis),
            logs: logs.collect(),
            dice,
            clients: Vec::new(),
            born: 0,
            next_topic_id: 10,
            late_facts: Vec::new(),
            late_requests: Vec::new(),
            late_inits: Vec::new(),
            snapshots: Vec::new(),
            commits: Vec::new(),
            marks: BTreeMap::new(),
            handled: 0,
            repeated: 0,
            seen: BTreeMap::new(),
        };
        for topic in 0..TOPICS.len() {
            sim.init(topic);
        }
        sim
    }

    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn fail(&self, what: &str) -> ! {
        panic!("seed {} (faults {}): {what}\n{:#?}", self.seed, self.faults, self.state)
    }

    fn ordered(&self) -> bool {
        self.state.settings().ordering == Ordering::Partition
    }

    fn any_tp(&mut self) -> Tp {
        let topic = self.dice.below(self.logs.len());
        (topic, self.dice.below(self.logs[topic].len()))
    }

    fn log(&mut self, tp: Tp) -> &mut Log {
        &mut self.logs[tp.0][tp.1]
    }

    fn view(&self, tp: Tp) -> Option<PartitionView> {
        let views = self.state.partitions(&[model::topic(tp.0)]);
        views.into_iter().find(|view| view.partition == tp.1 as i32)
    }

    /// One thing happens.
    fn step(&mut self) {
        let f = self.faults;
        match self.dice.roll(1_000) {
            0..=119 => self.produce(),
            120..=219 => self.publish(),
            220..=259 if f => self.publish_late(),
            260..=759 => self.client_acts(),
            760..=819 => self.now += self.dice.roll(400),
            820..=829 if f => self.crash(),
            830..=839 => self.leave(),
            840..=846 if f => self.stall(),
            847..=852 if f => self.jump(),
            853..=857 if f => self.now += 3_000 + self.dice.roll(4_000),
            858..=872 => self.tick(),
            873..=887 if f => self.truncate(),
            888..=897 if f => self.retain(),
            898..=901 if f => self.recreate(),
            902..=904 if f => self.late_init(),
            905..=911 if f => self.seek(),
            912..=921 if f => self.request_again(),
            922..=926 if f => self.pause(),
            927..=941 if f => self.unpark(),
            942..=949 if f => self.snapshots.push(self.state.snapshot()),
            950..=954 if f => self.roll_back(),
            955..=969 => self.commit(),
            970..=979 => self.reconcile(),
            980..=981 if f => self.wipe(),
            982..=987 if f => self.reset(),
            988..=991 => self.visit(),
            992..=995 if f => self.wait_for_probes(),
            _ => {}
        }
        self.now += self.dice.roll(20);
    }

    /// Everything that must hold after every step.
    fn check(&mut self) {
        if let Err(broken) = self.state.check() {
            self.fail(&broken);
        }
        self.take_events();
        for topic in 0..self.logs.len() {
            for view in self.state.partitions(&[model::topic(topic)]) {
                let tp = (topic, view.partition as usize);
                let last = self.marks.insert(tp, (view.generation, view.low_watermark));
                if let Some((generation, mark)) = last
                    && generation == view.generation
                    && mark > view.low_watermark
                {
                    self.fail(&format!("5: {tp:?}: low watermark {mark} went back: {view:?}"));
                }
                let log = &mut self.logs[topic][tp.1];
                // A truncation or a new topic that nobody told the group of yet: there is nothing to compare.
                if view.topic_id != log.id || view.leader_epoch != log.epoch() {
                    continue;
                }
                let open = self.state.open_units(&view.topic, view.partition);
                if let Some(offset) = log.skipped(view.cursor, &open) {
                    self.fail(&format!("1: {tp:?}: offset {offset} was skipped: {view:?}, open {open:?}"));
                }
            }
        }
    }

    /// Events report what is lost and what is parked.
    fn take_events(&mut self) {
        for event in self.state.take_events() {
            match event {
                Event::Lost { topic, partition, from, to } => {
                    let log = &mut self.logs[model::number(&topic)][partition as usize];
                    // Only what the log has no more.
                    let too_much = to > log.start;
                    log.is_done(from, to);
                    self.count("lost");
                    if too_much {
                        self.fail(&format!("1: {topic}/{partition}: [{from}, {to}) is not lost"));
                    }
                }
                Event::Parked { unit, from, to } => {
                    let log = &mut self.logs[model::number(&unit.topic)][unit.partition as usize];
                    log.is_out_of_order(from, to);
                    self.count("parked");
                }
                Event::Expired { .. } => self.count("expired"),
                Event::Split { .. } => self.count("split"),
                Event::Truncated { .. } => self.count("truncated"),
                Event::Recreated { .. } => self.count("recreated"),
                Event::Nacked { .. } | Event::Sought { .. } | Event::Blocked { .. } => {}
            }
        }
    }

    fn produce(&mut self) {
        let (tp, n, poison) = (self.any_tp(), self.dice.roll(12), self.faults && self.dice.one_in(12));
        let which = self.dice.roll(n.max(1));
        (0..n).for_each(|i| self.log(tp).append(poison && i == which));
    }

    // --- organisers -------------------------------------------------------------------------------------------------

    fn fact(&self, tp: Tp, epoch_end: Option<EpochEnd>) -> Publish {
        let log = &self.logs[tp.0][tp.1];
        Publish {
            topic: model::topic(tp.0),
            partition: tp.1 as i32,
            topic_id: log.id,
            leader_epoch: log.epoch(),
            high_watermark: log.end(),
            log_start: log.start,
            epoch_end,
        }
    }

    /// An organiser learns of a partition, and tells the group now or late.
    fn publish(&mut self) {
        let tp = self.any_tp();
        let fact = self.fact(tp, None);
        if self.faults && self.dice.one_in(3) {
            self.late_facts.push(fact);
        } else {
            self.tell(tp, fact);
        }
    }

    fn publish_late(&mut self) {
        if !self.late_facts.is_empty() {
            let at = self.dice.below(self.late_facts.len());
            let fact = self.late_facts.swap_remove(at);
            let tp = (model::number(&fact.topic), fact.partition as usize);
            self.tell(tp, fact);
        }
    }

    fn tell(&mut self, tp: Tp, fact: Publish) {
        let nonce = self.dice.nonce();
        match self.state.publish(&[fact], nonce)[0] {
            Published::AskEpoch(epoch) => {
                let end = self.logs[tp.0][tp.1].end_of(epoch);
                let fact = self.fact(tp, Some(EpochEnd { epoch, end }));
                if self.faults && self.dice.one_in(4) {
                    self.late_facts.push(fact);
                } else {
                    self.tell_now(tp, fact);
                }
            }
            Published::WrongTopic | Published::Unknown => self.init(tp.0),
            Published::Stale => self.count("stale"),
            Published::Done | Published::Truncated(_) | Published::Lost { .. } => {}
        }
    }

    fn tell_now(&mut self, tp: Tp, fact: Publish) {
        let nonce = self.dice.nonce();
        if let Published::AskEpoch(epoch) = self.state.publish(&[fact], nonce)[0] {
            let end = self.logs[tp.0][tp.1].end_of(epoch);
            let fact = self.fact(tp, Some(EpochEnd { epoch, end }));
            self.state.publish(&[fact], nonce);
        }
    }

    /// Looks a topic up and fixes its starts.
    fn init(&mut self, topic: usize) {
        let first = self.state.subscribe(&model::topic(topic), true) == StartAt::Policy;
        let latest = first && self.dice.one_in(2);
        let starts: Vec<Init> = (0..self.logs[topic].len())
            .map(|partition| {
                let committed = self.committed((topic, partition));
                let log = &mut self.logs[topic][partition];
                let by_policy = if latest { log.end() } else { log.start };
                if committed.is_none() {
                    log.is_done(0, by_policy);
                }
                let (start, done) = committed.unwrap_or((by_policy, Vec::new()));
                let fact = self.fact((topic, partition), None);
                Init {
                    topic: fact.topic,
                    partition: fact.partition,
                    topic_id: fact.topic_id,
                    leader_epoch: fact.leader_epoch,
                    start,
                    high_watermark: fact.high_watermark,
                    log_start: fact.log_start,
                    done,
                }
            })
            .collect();
        let nonce = self.dice.nonce();
        self.state.init(&starts, nonce);
        let again = self.dice.nonce();
        assert_eq!(self.state.init(&starts, again), 0, "seed {}: the first writer wins", self.seed);
        if self.dice.one_in(2) {
            self.late_inits.extend(starts);
        }
    }

    /// Somebody with old metadata fixes starts.
    fn late_init(&mut self) {
        if !self.late_inits.is_empty() {
            let at = self.dice.below(self.late_inits.len());
            let start = self.late_inits.swap_remove(at);
            let log = &self.logs[model::number(&start.topic)][start.partition as usize];
            // A new partition that starts by a fact of the past would be a skip of ours, not of the group's.
            if start.topic_id != log.id {
                let nonce = self.dice.nonce();
                // After a roll-back the old id may be the one the group knows; then this changes nothing, either.
                assert_eq!(self.state.init(&[start], nonce), 0, "seed {}: an old id came back", self.seed);
                self.count("late init");
            }
        }
    }

    // --- what happens to logs and the store -------------------------------------------------------------------------

    fn truncate(&mut self) {
        let (tp, by, more) = (self.any_tp(), self.dice.roll(15), self.dice.roll(20));
        self.log(tp).truncate(by as i64);
        (0..more).for_each(|_| self.log(tp).append(false));
        self.marks.remove(&tp);
    }

    fn retain(&mut self) {
        let (tp, n) = (self.any_tp(), self.dice.roll(12) as i64);
        let log = self.log(tp);
        log.start = (log.start + n).min(log.end());
    }

    fn recreate(&mut self) {
        let topic = self.dice.below(self.logs.len());
        self.next_topic_id += 1;
        let partitions = 1 + self.dice.roll(3);
        // The number of partitions may shrink; then the old ones' units have no log at all.
        self.logs[topic] = (0..partitions).map(|_| Log::new(self.next_topic_id)).collect();
        self.marks.retain(|tp, _| tp.0 != topic);
        self.late_facts
            .retain(|fact| (fact.partition as u64) < partitions || model::number(&fact.topic) != topic);
        self.late_inits.retain(|i| (i.partition as u64) < partitions || model::number(&i.topic) != topic);
        self.commits.retain(|commit| commit.tp.0 != topic);
        // The store may not go back to a time when the topic had partitions that are gone: the model has none for them.
        self.snapshots.clear();
        self.init(topic);
    }

    fn seek(&mut self) {
        let tp = self.any_tp();
        let Some(view) = self.view(tp) else { return };
        let log = &self.logs[tp.0][tp.1];
        if view.topic_id != log.id || view.leader_epoch != log.epoch() {
            return;
        }
        let to = log.start + self.dice.roll((log.end() - log.start + 1) as u64) as i64;
        let (topic, partition, nonce) = (model::topic(tp.0), tp.1 as i32, self.dice.nonce());
        assert!(!self.state.seek(&topic, partition, view.generation ^ 1, to, nonce));
        assert!(self.state.seek(&topic, partition, view.generation, to, nonce));
        self.log(tp).sought(to);
        self.count("seek");
    }

    fn pause(&mut self) {
        let (tp, paused) = (self.any_tp(), self.dice.one_in(3));
        let partition = (!self.dice.one_in(3)).then_some(tp.1 as i32);
        self.state.pause(&model::topic(tp.0), partition, paused);
    }

    fn unpark(&mut self) {
        let (tp, retry) = (self.any_tp(), self.dice.one_in(4));
        let before = self.state.open_units(&model::topic(tp.0), tp.1 as i32);
        let what = if retry { Unpark::Retry } else { Unpark::Discard };
        if self.state.unpark(self.now, &model::topic(tp.0), tp.1 as i32, what) > 0 && !retry {
            let after = self.state.open_units(&model::topic(tp.0), tp.1 as i32);
            let given_up = before.iter().filter(|unit| !after.contains(unit));
            given_up.for_each(|(from, to)| self.logs[tp.0][tp.1].is_done(*from, *to));
            self.count("discarded");
        }
    }

    /// The store is another process now, which lacks the latest writes.
    fn roll_back(&mut self) {
        if self.snapshots.is_empty() {
            return;
        }
        let at = self.dice.below(self.snapshots.len());
        self.state.restore(&self.snapshots[at]);
        self.snapshots.truncate(at);
        self.marks.clear();
        // Seeks back that it does not know of did not happen: what they asked for need not be repeated.
        self.logs.iter_mut().flatten().for_each(Log::unseek);
        self.count("roll-back");
    }

    /// A commit: what the group holds for handled at this time.
    fn commit(&mut self) {
        let all = (0..self.logs.len()).flat_map(|t| (0..self.logs[t].len()).map(move |p| (t, p)));
        let all: Vec<Tp> = all.collect();
        let commits = all.into_iter().filter_map(|tp| {
            let view = self.view(tp)?;
            let (mut done, mut at) = (Vec::new(), view.low_watermark);
            for (from, to) in self.state.open_units(&view.topic, view.partition) {
                done.extend((at < from).then_some((at, from)));
                at = to;
            }
            done.extend((at < view.cursor).then_some((at, view.cursor)));
            Some(Commit { tp, view, done })
        });
        self.commits = commits.collect();
    }

    /// Where a commit says that a partition stands, as far as its log still holds what the commit is about (KIP-320).
    fn committed(&self, tp: Tp) -> Option<(i64, Vec<(i64, i64)>)> {
        let commit = self.commits.iter().find(|commit| commit.tp == tp)?;
        let log = &self.logs[tp.0][tp.1];
        let end = log.end_of(commit.view.leader_epoch);
        let holds = commit.view.topic_id == log.id;
        let done = commit.done.iter().filter(|(_, to)| *to <= end).copied().collect();
        holds.then(|| (commit.view.low_watermark.min(end), done))
    }

    /// The store lost everything. The group is made anew from the commits.
    fn wipe(&mut self) {
        self.state.wipe(self.now);
        self.marks.clear();
        // The retired ids are lost too: who looks up a topic now must not be behind by a re-creation.
        self.late_inits.clear();
        self.logs.iter_mut().flatten().for_each(Log::unseek);
        (0..self.logs.len()).for_each(|topic| self.init(topic));
        self.count("wipe");
    }

    /// What a commit says is told to the group, if the log still holds what it is about (KIP-320).
    fn reconcile(&mut self) {
        for Commit { tp, view, .. } in self.commits.clone() {
            let log = &self.logs[tp.0][tp.1];
            if view.topic_id == log.id && log.end_of(view.leader_epoch) >= view.low_watermark {
                self.state.advance(&view.topic, view.partition, view.generation, view.low_watermark);
            }
        }
    }

    fn jump(&mut self) {
        let by = self.dice.roll(6_000);
        self.now = (self.now + by).saturating_sub(3_000).max(1);
    }

    // --- the end ----------------------------------------------------------------------------------------------------

    /// No more faults: everything there is must be handled within a bounded number of rounds.
    fn drain(&mut self) {
        if std::mem::replace(&mut self.faults, false) {
            self.clients.clear();
        }
        self.late_facts.clear();
        self.late_requests.clear();
        for topic in 0..self.logs.len() {
            self.logs[topic].iter_mut().for_each(Log::heal);
            self.state.pause(&model::topic(topic), None, false);
        }
        for round in 0..20_000 {
            if round % 50 == 0 {
                for (topic, logs) in self.logs.iter().map(Vec::len).enumerate().collect::<Vec<_>>() {
                    for partition in 0..logs {
                        let fact = self.fact((topic, partition), None);
                        self.tell((topic, partition), fact);
                    }
                }
                self.tick();
                if self.is_drained() {
                    return;
                }
            }
            self.client_acts();
            self.now += self.dice.roll(100);
            if round % 300 == 299 && self.parked() > 0 {
                // What was parked comes back by itself.
                self.wait_for_probes();
            }
            self.check();
        }
        self.fail("8: it does not drain");
    }

    fn is_drained(&self) -> bool {
        let drained = |tp: Tp| {
            let log = &self.logs[tp.0][tp.1];
            self.view(tp).is_some_and(|view| view.low_watermark == log.end() && view.topic_id == log.id)
        };
        (0..self.logs.len()).all(|t| (0..self.logs[t].len()).all(|p| drained((t, p))))
    }
}

fn seeds(default: u64) -> std::ops::RangeInclusive<u64> {
    let seeds = std::env::var("GROUP_SIM_SEEDS").ok();
    let (from, to) = seeds.as_deref().and_then(|s| s.split_once("..")).unwrap_or(("1", ""));
    from.parse().unwrap()..=to.parse().unwrap_or(default)
}

fn run(seed: u64, steps: u64, faults: bool, redis: Option<&Redis>) -> Sim {
    let mut sim = Sim::new(seed, faults, redis);
    for _ in 0..steps {
        sim.step();
        sim.check();
    }
    sim.drain();
    sim
}

fn number_from(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn nothing_is_skipped_whatever_happens() {
    let steps = number_from("GROUP_SIM_STEPS").unwrap_or(400);
    let (mut seen, mut handled, mut repeated) = (BTreeMap::new(), 0, 0);
    for seed in seeds(300) {
        let sim = run(seed, steps, true, None);
        handled += sim.handled;
        repeated += sim.repeated;
        sim.seen.into_iter().for_each(|(what, n)| *seen.entry(what).or_insert(0) += n);
    }
    println!("{handled} handled, {repeated} of them again; {seen:?}");
    if std::env::var("GROUP_SIM_SEEDS").is_err() {
        for what in [
            "expired",
            "split",
            "parked",
            "probed",
            "discarded",
            "truncated",
            "lost",
            "recreated",
            "late init",
            "seek",
            "reset",
            "not reset",
            "stale",
            "roll-back",
            "wipe",
            "crash",
            "fenced",
            "gone",
            "repeat",
            "shortened",
            "late request",
            "other cluster",
        ] {
            assert!(seen.get(what).is_some_and(|n| *n > 10), "{what} hardly happens: {seen:?}");
        }
    }
}

#[test]
fn without_faults_nothing_is_repeated() {
    for seed in 1..=60 {
        let sim = run(seed, 400, false, None);
        assert_eq!(sim.repeated, 0, "7: seed {seed}");
        assert!(sim.handled > 100, "seed {seed}: {}", sim.handled);
    }
}

fn consumer(number: u64) -> ConsumerId {
    Arc::from(format!("c{number}"))
}
