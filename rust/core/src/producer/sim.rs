//! The whole sender under a hostile schedule, in virtual time.
//!
//! What runs is the product: appends, sealing, the ready lists, the requests with their bytes, the verdicts, splits, numbers
//! and epochs, back-off, linger, memory, deliveries. Only the shells that wait are replaced: the simulation moves the clock,
//! polls what a task would be woken for (and only that, so a lost wake-up shows), carries requests, and plays the brokers
//! ([`brokers`]). What may go wrong does: requests and answers get lost, connections break in the middle of a pipeline and
//! what was on its way arrives long after, answers are slow or refuse although the batch was written, leaders move and
//! lack what nobody was told of, brokers go away, forget the producer, deny, find batches too large; metadata is stale; the
//! producer is closed in the middle of it all. Then [`check`] says whether everybody was told the truth. A failure names
//! its seed.
//!
//! `PRODUCER_SIM_SEEDS=from..to` runs other seeds; with `PRODUCER_SIM_STORY=1` too the story is printed.

mod brokers;
mod check;
mod faults;
mod wire;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::append::Append;
use super::delay::Held;
use super::error::{AppendError, CloseError, DeliveryError};
use super::gate::Gate;
use super::identity::Standing;
use super::partition_queue::Identity;
use super::shared::Shared;
use super::time::Time;
use super::{Delivery, NOISE, RecordMetadata, TopicId, expire, handle, linger};
use crate::cluster::Cluster;
use crate::config::{Acks, Codec, Config};
use crate::wire::Record;
use brokers::{Dice, Log};
use wire::{Line, Request};

const MS: u64 = 1_000;
const SECOND: u64 = 1_000 * MS;
/// The brokers' numbers are 1 to this.
const NODES: i32 = 3;
const TOPIC: &str = "data";
/// Longest wait of a request for its answer.
const REQUEST_TIMEOUT: u64 = 5 * SECOND;
/// Virtual time in which everything must end once nothing fails any more.
const PATIENCE: u64 = 120 * SECOND;

/// What a record's delivery said.
type Told = Result<RecordMetadata, DeliveryError>;

/// Something that happens at its time.
#[derive(Debug, Clone, Copy)]
enum Event {
    Append,
    Fault,
    Refresh,
    Identity,
    Arrive(u64),
    Answer(u64),
    TimeOut(u64),
    /// There was no connection.
    Unreachable(u64),
    Lead(usize),
    Allow(usize),
    Up(i32),
    Cut(i32),
    /// A look at what waited too long.
    Expire,
}

/// How a seed's world is.
struct Plan {
    faults: bool,
    acks: Acks,
    identity: bool,
    partitions: usize,
    /// Leaders are older than 2.4.
    old: bool,
    /// Most bytes of a batch that brokers take.
    limit: usize,
    /// A partition of a request is refused for a moment one time in so many.
    refusals: u64,
    /// A connection breaks soon after a request one time in so many.
    cuts: u64,
    appends: u64,
    pause_us: u64,
    /// Longest time of a record.
    timeout: Option<std::time::Duration>,
    /// Closes in the middle, this long after the last append, and waits so long.
    close: Option<(u64, u64)>,
}

struct Sim {
    seed: u64,
    dice: Dice,
    plan: Plan,
    now: u64,
    shared: Arc<Shared>,
    topic: TopicId,
    updates: watch::Receiver<u64>,
    held: Held,
    open: Vec<Arc<super::topic::Partition>>,
    linger_at: Option<u64>,
    identity: Option<Option<Identity>>,
    events: BTreeMap<(u64, u64), Event>,
    next: u64,
    logs: Vec<Log>,
    down: BTreeSet<i32>,
    lines: BTreeMap<i32, Line>,
    requests: BTreeMap<u64, Request>,
    /// Senders that have something to look at.
    stirred: BTreeSet<i32>,
    /// By record number: tracked or not.
    records: Vec<bool>,
    /// By record number: when it was appended.
    born: Vec<u64>,
    told: Arc<Mutex<Vec<(u64, Told)>>>,
    ends: BTreeMap<u64, Told>,
    flushes: Vec<(Vec<Arc<Gate>>, u64)>,
    /// How often each kind of thing happened: a schedule in which something never happens tests nothing of it.
    seen: BTreeMap<&'static str, u64>,
    /// One seed was asked for: its story is printed.
    tells: bool,
    /// Tasks of the product are spawned there and never polled.
    _runtime: tokio::runtime::Runtime,
}

impl Plan {
    fn new(dice: &mut Dice, faults: bool) -> Self {
        let acks =
            if dice.one_in(12) { Acks::None } else { dice.pick(&[Acks::Leader, Acks::All, Acks::All]) };
        Self {
            faults,
            acks,
            identity: acks != Acks::None && !dice.one_in(6),
            partitions: dice.between(1, 4) as usize,
            old: dice.one_in(3),
            limit: dice.pick(&[700, 2_000, 1 << 20]),
            refusals: dice.pick(&[3, 8, 30]),
            cuts: dice.pick(&[5, 20, 100]),
            appends: dice.between(10, 60),
            pause_us: dice.pick(&[MS, 10 * MS, 200 * MS]),
            timeout: (faults && dice.one_in(3))
                .then(|| std::time::Duration::from_micros(dice.pick(&[100 * MS, SECOND, 8 * SECOND]))),
            close: (faults && dice.one_in(3)).then(|| (dice.roll(2 * SECOND), dice.roll(3 * SECOND))),
        }
    }

    fn config(&self, dice: &mut Dice) -> Config {
        let mut conf = Config::with_bootstrap("localhost:1").unwrap();
        conf.lazy_connect = true;
        conf.acks = self.acks;
        conf.codec = dice.pick(&[Codec::None, Codec::None, Codec::Snappy]);
        conf.linger = dice.pick(&[None, Some(0), Some(20)]).map(std::time::Duration::from_millis);
        conf.batch_bytes = dice.pick(&[300, 1_500, 6_000]);
        conf.batch_byte_limit = 8_000;
        conf.delivery_timeout = self.timeout;
        conf.buffer_memory = dice.pick(&[20_000, 200_000, 200_000]);
        conf
    }
}

impl Sim {
    fn new(seed: u64, faults: bool) -> Self {
        let mut dice = Dice::new(seed);
        NOISE.set(dice.next() | 1);
        let plan = Plan::new(&mut dice, faults);
        let conf = plan.config(&mut dice);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let entered = runtime.enter();
        let cluster = poll_once(Cluster::connect(&conf)).expect("a lazy connect waits for nothing").unwrap();
        let mut shared = Shared::new(&conf, cluster);
        Arc::get_mut(&mut shared).expect("nobody else has it yet").time = Time::by_hand();
        drop(entered);
        let logs: Vec<Log> = (0..plan.partitions).map(|i| Log::new(1 + i as i32 % NODES)).collect();
        let updates = shared.cluster.updates();
        let mut sim = Self {
            seed,
            dice,
            plan,
            now: 0,
            topic: TopicId(0),
            updates,
            held: Held::default(),
            open: Vec::new(),
            linger_at: Some(0),
            identity: None,
            events: BTreeMap::new(),
            next: 0,
            logs,
            down: BTreeSet::new(),
            lines: (1..=NODES).map(|node| (node, Line::default())).collect(),
            requests: BTreeMap::new(),
            stirred: BTreeSet::new(),
            records: Vec::new(),
            born: Vec::new(),
            told: Arc::default(),
            ends: BTreeMap::new(),
            flushes: Vec::new(),
            seen: BTreeMap::new(),
            shared,
            tells: std::env::var("PRODUCER_SIM_STORY").is_ok(),
            _runtime: runtime,
        };
        sim.refresh(false);
        let meta = sim.shared.cluster.cached_topic(TOPIC).expect("metadata was taken in");
        sim.topic = sim.shared.register(&meta);
        sim
    }

    fn count(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
    }

    fn fail(&self, what: &str) -> ! {
        panic!("seed {} (faults {}), {} us: {what}", self.seed, self.plan.faults, self.now)
    }

    /// A line of the story, for whoever looks into one seed.
    fn say(&self, line: impl FnOnce() -> String) {
        if self.tells {
            println!("{:>9} us  {}", self.now, line());
        }
    }

    fn at(&mut self, us: u64, event: Event) {
        self.next += 1;
        self.events.insert((us, self.next), event);
    }

    fn after(&mut self, us: u64, event: Event) {
        self.at(self.now + us, event);
    }

    // --- time -------------------------------------------------------------------------------------------------------

    /// Lets things happen until `until`; true: nothing happens any more.
    fn run(&mut self, until: u64, enough: impl Fn(&Self) -> bool) -> bool {
        self.tasks();
        loop {
            if enough(self) {
                return false;
            }
            let held = self.held.next(&self.shared).map(|at| self.micros(at));
            let event = self.events.first_key_value().map(|(at, _)| at.0);
            let Some(next) = [held, event, self.linger_at].into_iter().flatten().min() else { return true };
            if next > until {
                self.advance(until);
                return false;
            }
            self.advance(next);
            if event == Some(next) {
                let (_, event) = self.events.pop_first().expect("it was looked at");
                self.say(|| format!("{event:?}"));
                self.happens(event);
            }
            self.tasks();
            self.listen();
        }
    }

    fn advance(&mut self, to: u64) {
        self.now = self.now.max(to);
        self.shared.time.set_us(self.now);
    }

    fn micros(&self, at: std::time::Instant) -> u64 {
        at.saturating_duration_since(self.shared.time.instant(0)).as_micros() as u64
    }

    /// Runs the bodies of those tasks that were woken or whose timers are due, until none is.
    fn tasks(&mut self) {
        for _ in 0..10_000 {
            if !(self.run_linger() | self.run_delay() | self.run_senders()) {
                return;
            }
        }
        self.fail("the tasks keep each other busy");
    }

    fn run_linger(&mut self) -> bool {
        let woken = is_woken(&self.shared.linger.wake);
        let due = woken || self.linger_at.is_some_and(|at| at <= self.now);
        if due {
            self.shared.linger.asleep.store(false, SeqCst);
            self.linger_at = linger::pass(&self.shared, &mut self.open);
        }
        due
    }

    fn run_delay(&mut self) -> bool {
        let woken = is_woken(&self.shared.delay.wake);
        let changed = self.updates.has_changed().is_ok_and(|changed| changed);
        let due = self.held.next(&self.shared).is_some_and(|at| at <= self.shared.time.now());
        if changed || due {
            self.updates.borrow_and_update();
            self.held.bring_back(&self.shared, changed);
        }
        woken || changed || due
    }

    fn run_senders(&mut self) -> bool {
        let Some(identity) = self.identity else { return false };
        let mut ran = false;
        for node in 1..=NODES {
            let Some(broker) = self.shared.known_broker(node) else { continue };
            let first = !std::mem::replace(&mut self.line(node).sending, true);
            if !(self.stirred.remove(&node) | is_woken(&broker.wake) | first) {
                continue;
            }
            ran = true;
            while self.line(node).on_the_way < super::sender::REQUESTS_MAX {
                let Some(flights) = super::sender::next_request(&self.shared, &broker, identity) else {
                    break;
                };
                self.launch(node, flights);
            }
        }
        ran
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Append => self.append_some(),
            Event::Fault => self.fault(),
            Event::Refresh => {
                let stale = self.plan.faults && self.dice.one_in(4);
                self.refresh(stale);
                let pause = self.dice.between(50, 400) * MS;
                self.after(pause, Event::Refresh);
            }
            Event::Identity => {
                let identity = self.plan.identity.then_some(Identity { id: 77, epoch: 0 });
                self.shared.identity.send_replace(identity.map_or(Standing::Without, Standing::With));
                self.identity = Some(identity);
                self.stirred.extend(1..=NODES);
            }
            Event::Arrive(id) => self.arrive(id),
            Event::Answer(id) => self.answer(id),
            Event::TimeOut(id) => self.time_out(id),
            Event::Unreachable(id) => self.unreachable(id),
            Event::Lead(partition) => {
                let leader = 1 + self.dice.roll(NODES as u64) as i32;
                self.fail_over(partition, leader);
            }
            Event::Allow(partition) => self.logs[partition].denied = false,
            Event::Up(node) => _ = self.down.remove(&node),
            Event::Cut(node) => self.cut(node, None),
            Event::Expire => {
                expire::pass(&self.shared);
                let step = expire::step(self.plan.timeout.unwrap_or_default());
                self.after(step.as_micros() as u64, Event::Expire);
            }
        }
    }

    // --- the application --------------------------------------------------------------------------------------------

    fn append_some(&mut self) {
        for _ in 0..self.dice.between(1, 12) {
            self.append_one();
        }
        if self.dice.one_in(15) {
            let gates = self.shared.gates.close_current();
            self.shared.linger.press();
            self.flushes.push((gates, self.records.len() as u64));
            self.count("flush");
        }
        self.plan.appends -= 1;
        if self.plan.appends > 0 {
            let pause = self.dice.roll(self.plan.pause_us);
            self.after(pause, Event::Append);
        }
    }

    fn append_one(&mut self) {
        let number = self.records.len() as u64;
        let mut value = number.to_be_bytes().to_vec();
        let longest = if self.dice.one_in(40) { 1_200 } else { 150 };
        value.resize(8 + self.dice.roll(longest) as usize, b'.');
        let key = self.dice.one_in(4).then(|| [self.dice.roll(9) as u8]);
        let record = Record { key: key.as_ref().map(|k| &k[..]), value: Some(&value), headers: &[] };
        let partition = self.dice.one_in(2).then(|| self.dice.roll(self.plan.partitions as u64) as i32);
        let append = Append { timestamp_ms: Some(1), record: &record };
        let topic = Arc::clone(self.shared.topics.get(self.topic.0).expect("it was registered"));
        let tracked = !self.dice.one_in(5);
        let mut delivery: Option<Delivery> = None;
        let result = match tracked {
            true => self.shared.append(&topic, partition, &append, &mut delivery),
            false => self.shared.append(&topic, partition, &append, &mut ()),
        };
        match result.map_err(|error| *error) {
            Ok(()) => {
                self.records.push(tracked);
                self.born.push(self.now);
            }
            Err(AppendError::Full { .. }) => return self.count("full"),
            Err(error) => self.fail(&format!("an append failed: {error}")),
        }
        if let Some(delivery) = delivery {
            let told = Arc::clone(&self.told);
            delivery.on_complete(move |end| told.lock().push((number, end)));
        }
    }

    // --- the end ----------------------------------------------------------------------------------------------------

    /// A whole life of a producer.
    fn live(mut self) -> Self {
        self.at(0, Event::Append);
        self.at(0, Event::Refresh);
        let late = if self.plan.faults { self.dice.roll(50) * MS } else { 0 };
        self.at(late, Event::Identity);
        if self.plan.faults {
            self.after(0, Event::Fault);
        }
        if self.plan.timeout.is_some() {
            self.after(0, Event::Expire);
        }
        self.run(u64::MAX, |sim| sim.plan.appends == 0);
        if let Some((after, wait)) = self.plan.close {
            self.run(self.now + after, |_| false);
            self.close(wait);
        } else {
            self.heal();
            // By itself, or because it is closed.
            if self.dice.one_in(2) {
                self.run(self.now + PATIENCE, |sim| sim.is_drained());
            } else {
                self.close(PATIENCE);
            }
            if !self.is_drained() {
                self.fail(&format!("it does not drain: {}", self.what_is_left()));
            }
            self.close(PATIENCE);
        }
        self.check_the_end();
        self
    }

    fn is_drained(&self) -> bool {
        let stats = &self.shared.counters;
        stats.records_delivered.get() + stats.records_failed.get() == self.records.len() as u64
    }

    fn what_is_left(&self) -> String {
        let topic = self.shared.topics.get(self.topic.0).expect("it was registered");
        let left = topic.partitions.iter().map(|partition| {
            let opened = partition.opened_us.load(SeqCst);
            format!("{}: open since {opened}, {}", partition.index, partition.queue.lock().story())
        });
        left.collect::<Vec<_>>().join("\n")
    }

    /// What `Producer::close` does, with the clock in the simulation's hands.
    fn close(&mut self, wait: u64) {
        self.shared.mark_closed();
        self.shared.seal_all_and_close();
        let before = self.shared.gates.close_current();
        let delivered = move |_: &Self| before.iter().all(|gate| gate.is_empty());
        self.run(self.now + wait, delivered);
        // The tasks end, and with them what they have in hand; what has left may arrive all the same.
        self.requests.values_mut().for_each(|request| drop(request.flights.take()));
        let closed: Result<(), CloseError> = handle::last_things(&self.shared, 0, String::new());
        self.listen();
        self.check_close(closed);
        self.events.retain(|_, event| matches!(event, Event::Arrive(_)));
        self.plan.faults = false;
        self.run(u64::MAX, |sim| sim.events.is_empty());
    }
}

/// What a future has at once; `None`: it would have to wait.
fn poll_once<F: Future>(future: F) -> Option<F::Output> {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(output) => Some(output),
        Poll::Pending => None,
    }
}

/// Whether a task that waits there would run now.
fn is_woken(notify: &Notify) -> bool {
    poll_once(notify.notified()).is_some()
}

fn seeds(default: u64) -> std::ops::RangeInclusive<u64> {
    let seeds = std::env::var("PRODUCER_SIM_SEEDS").ok();
    let (from, to) = seeds.as_deref().and_then(|s| s.split_once("..")).unwrap_or(("1", ""));
    from.parse().unwrap()..=to.parse().unwrap_or(default)
}

#[test]
fn everybody_is_told_the_truth_whatever_happens() {
    let (mut seen, mut records) = (BTreeMap::new(), 0);
    for seed in seeds(1_500) {
        let sim = Sim::new(seed, true).live();
        records += sim.records.len();
        sim.seen.into_iter().for_each(|(what, n)| *seen.entry(what).or_insert(0) += n);
    }
    println!("{records} records; {seen:?}");
    if std::env::var("PRODUCER_SIM_SEEDS").is_err() {
        for what in check::MUST_HAPPEN {
            assert!(seen.get(what).is_some_and(|n| *n > 10), "{what} hardly happens: {seen:?}");
        }
    }
}

#[test]
fn without_faults_nothing_is_sent_twice() {
    for seed in 1..=200 {
        let sim = Sim::new(seed, false).live();
        let (retries, splits) = (sim.shared.counters.retries.get(), sim.shared.counters.splits.get());
        // What flies behind a batch that is too large is refused for the gap.
        let too_large = splits + sim.shared.counters.records_failed.get() > 0;
        assert!(retries == 0 || too_large, "seed {seed}: {retries} retries");
    }
}
