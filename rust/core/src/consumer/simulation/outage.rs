//! Handlers that fail, on one record or on all, for minutes of virtual time and with the default settings.

use super::super::event::Event;
use super::*;
use crate::config::Ordering;

const STEP: Duration = Duration::from_millis(20);

/// Which records fail, at which time since the start.
type Fails = fn(i32, i64, Duration) -> bool;

/// A consumer with so many readers, and the deliveries of each record that failed.
struct Play {
    world: World,
    fails: Fails,
    failed: BTreeMap<(i32, i64), u32>,
    /// In the order they failed.
    order: Vec<(i32, i64)>,
    events: Vec<Event>,
}

impl Play {
    fn new(conf: Config, readers: u64, fails: Fails) -> Self {
        let mut world = World::empty(1, false, conf, 0);
        world.join_with(readers);
        Self { world, fails, failed: BTreeMap::new(), order: Vec::new(), events: Vec::new() }
    }

    /// Appends batches of at most 500 offsets, and tells the group.
    fn produce(&mut self, partition: i32, offsets: i64) {
        let (mut base, end) = (self.world.end(partition), self.world.end(partition) + offsets);
        while base < end {
            let next = end.min(base + 500);
            let bytes = (next - base) as usize * 100;
            self.world.logs.get_mut(&partition).unwrap().push(Batch {
                topic: 0,
                base,
                next,
                bytes,
                _charge: None,
            });
            base = next;
        }
        self.world.say(id(0), partition, end);
    }

    fn since_start(&self) -> Duration {
        self.world.now - self.world.start
    }

    /// Plays until `until` since the start. A record takes one step.
    fn play(&mut self, until: Duration) {
        while self.since_start() < until {
            self.step();
        }
    }

    fn step(&mut self) {
        self.world.now += STEP;
        let (at, millis) = (self.since_start(), self.world.millis());
        if millis.is_multiple_of(1_000) {
            self.world.group.tick(millis);
        }
        for _ in 0..3 {
            self.world.exchange(0);
        }
        self.world.plan(0);
        while !self.world.consumers[0].fetches.is_empty() {
            self.world.answer(0);
        }
        for r in 0..self.world.consumers[0].readers.len() {
            let current = self.world.consumers[0].readers[r].current.as_ref();
            match current.and_then(|current| Some((current.tp.partition, current.hand?))) {
                Some((partition, offset)) if (self.fails)(partition, offset, at) => {
                    *self.failed.entry((partition, offset)).or_default() += 1;
                    self.order.push((partition, offset));
                    let failure = Failure { fault: Fault::Handler, delay: None, reason: "it throws".into() };
                    self.world.put_back(0, r, Some(failure));
                }
                _ => self.world.step(0, r),
            }
        }
        let effects = std::mem::take(&mut self.world.consumers[0].state.effects);
        self.events.extend(effects.events);
        if millis.is_multiple_of(500) {
            self.world.group.check().unwrap();
        }
    }

    /// Records that were not handled.
    fn left(&self) -> usize {
        let handled = |record: &_| self.world.delivered.get(record).is_some_and(|times| *times > 0);
        self.world.records().into_iter().filter(|record| !handled(record)).count()
    }

    fn parked(&self) -> u32 {
        self.world.group.partitions(&["t".into()]).iter().map(|view| view.parked).sum()
    }

    fn outages(&self) -> (usize, usize) {
        let count = |is: fn(&Event) -> bool| self.events.iter().filter(|event| is(event)).count();
        (
            count(|event| matches!(event, Event::HandlerFailing { .. })),
            count(|event| matches!(event, Event::HandlerRecovered { .. })),
        )
    }
}

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

fn throws_from_10_to_190(_: i32, _: i64, at: Duration) -> bool {
    at >= seconds(10) && at < seconds(190)
}

#[test]
fn what_the_handler_needs_is_away_for_three_minutes_and_nothing_is_put_aside() {
    let mut play = Play::new(Config::default(), 16, throws_from_10_to_190);
    play.produce(0, 20_000);
    play.play(seconds(100));
    assert!(play.left() > 5_000, "the outage begins in the middle: {}", play.left());
    assert!(play.world.consumers[0].state.failing.is_probing());
    let before = play.order.len();
    play.play(seconds(160));
    let probes = &play.order[before..];
    assert!((30..=90).contains(&probes.len()), "about one a second in a minute: {}", probes.len());
    assert!(probes.windows(2).all(|pair| pair[0] != pair[1]), "each is another record: {probes:?}");
    play.play(seconds(190));
    assert_eq!((play.parked(), play.outages()), (0, (1, 0)));
    play.produce(0, 1_000);
    play.play(seconds(280));
    assert_eq!((play.left(), play.parked(), play.outages()), (0, 0, (1, 1)));
    assert!(!play.world.consumers[0].state.failing.is_probing());
    // Nothing that was handled came again.
    assert!(play.world.delivered.values().all(|times| *times == 1));
}

#[test]
fn what_the_handler_needs_is_away_from_the_start() {
    let mut play = Play::new(Config::default(), 16, |_, _, at| at < seconds(180));
    (0..PARTITIONS).for_each(|partition| play.produce(partition, 3_000));
    play.play(seconds(180));
    assert_eq!((play.parked(), play.outages()), (0, (1, 0)));
    play.play(seconds(270));
    assert_eq!((play.left(), play.parked(), play.outages()), (0, 0, (1, 1)));
}

#[test]
fn a_record_that_fails_among_others_that_do_not_is_put_aside_after_its_attempts() {
    let poison = |partition, offset, _| partition == 0 && offset == 1_000;
    let mut play = Play::new(Config::default(), 4, poison);
    // Others come for long enough: an attempt counts when one of them was handled since the last.
    for second in 0..60 {
        play.produce(0, 100);
        play.play(seconds(second + 1));
    }
    play.play(seconds(75));
    assert_eq!((play.parked(), play.left(), play.outages()), (1, 1, (0, 0)));
    assert_eq!(play.failed[&(0, 1_000)], Config::default().max_attempts);
}

#[test]
fn a_record_that_fails_alone_is_tried_ever_more_rarely_and_not_put_aside() {
    let mut play = Play::new(Config::default(), 4, |_, _, _| true);
    play.produce(0, 1);
    play.play(seconds(1_800));
    assert_eq!((play.parked(), play.outages()), (0, (0, 0)));
    let times = play.failed[&(0, 0)];
    assert!((30..=40).contains(&times), "1 s, doubling to 60: {times} times in half an hour");
    play.fails = |_, offset, _| offset == 0;
    play.produce(0, 500);
    play.play(seconds(1_900));
    assert_eq!((play.parked(), play.left()), (0, 1), "others are handled meanwhile");
    // Now it is seen that the handler works.
    for minute in 0..8 {
        play.produce(0, 10);
        play.play(seconds(1_900 + 60 * (minute + 1)));
    }
    assert_eq!(play.parked(), 1);
}

#[test]
fn a_record_that_fails_does_not_stop_an_ordered_partition_for_ever() {
    let conf = Config { ordering: Ordering::Partition, ..Config::default() };
    let mut play = Play::new(conf, 4, |_, offset, _| offset == 20);
    play.produce(0, 200);
    play.play(seconds(500));
    assert_eq!(play.parked(), 0, "nothing tells that the handler works");
    play.play(seconds(1_200));
    assert_eq!((play.parked(), play.left()), (1, 1), "those behind it went on");
}
