//! Readers that take a record and ask for nothing: the others get the rest.

use super::*;

/// What is wrong in a world whose simulation must find it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mistake {
    /// Readers hand out what they have not claimed.
    NothingIsClaimed,
    /// The group does not hear that holds were shortened, and says that it did.
    TheGroupIsNotTold,
    /// The group says that nobody waits.
    NobodyWaits,
}

/// Consumers with two readers each, and a partition with so many records of 100 B.
fn quiet(consumers: usize, records: i64, conf: impl Fn(&mut Config)) -> World {
    let mut world = World::new(1, false);
    conf(&mut world.conf);
    world.slow = true;
    world.group = GroupState::new(GroupSettings::of(&world.conf), 0);
    world.group.init(&starts(world.topic), 1);
    world.consumers.clear();
    (0..consumers).for_each(|_| world.join());
    for consumer in &mut world.consumers {
        let now = world.now;
        while consumer.readers.len() < 2 {
            let slot = consumer.state.add_reader(now);
            consumer.readers.push(Reader { slot, current: None, away_until: now });
        }
        consumer.readers.truncate(2);
    }
    let batch = Batch { topic: 0, base: 0, next: records, bytes: records as usize * 100, _charge: None };
    world.logs.insert(0, vec![batch]);
    world
}

impl World {
    /// Everybody does what is to be done, but for the readers that are away; 5 ms pass.
    fn round(&mut self) {
        self.now += Duration::from_millis(5);
        for c in 0..self.consumers.len() {
            self.publish(c);
            self.exchange(c);
            self.plan(c);
            self.answer(c);
            (0..self.consumers[c].readers.len()).for_each(|r| self.step(c, r));
        }
        self.group.check().unwrap();
    }

    /// The record that a reader has in hand.
    fn hand(&self, c: usize, r: usize) -> i64 {
        let current = self.consumers[c].readers[r].current.as_ref();
        current.and_then(|current| current.hand).expect("it has one")
    }

    /// How many records were handed out, each once.
    fn handed_out(&self) -> usize {
        assert!(
            self.delivered.values().all(|n| *n <= 1),
            "a record was handed out twice: {:?}",
            self.delivered
        );
        self.delivered.len()
    }
}

/// One reader sits on its record; meanwhile all others are handled, within a few units' time, by its consumer's other reader or by
/// another consumer. Then it asks on, and gets no record again.
#[test]
fn who_asks_for_nothing_pins_its_record_only() {
    for (consumers, sitting) in [(1, 1), (2, 2), (2, 3)] {
        sit(consumers, sitting, None);
    }
}

#[test]
fn mistakes_about_what_a_reader_pins_are_found() {
    for mistake in [Mistake::NothingIsClaimed, Mistake::TheGroupIsNotTold, Mistake::NobodyWaits] {
        let play = || sit(2, 2, Some(mistake));
        assert!(std::panic::catch_unwind(play).is_err(), "{mistake:?}: nobody noticed");
    }
}

fn sit(consumers: usize, sitting: usize, mistake: Option<Mistake>) {
    let mut world = quiet(consumers, 400, |_| {});
    world.mistake = mistake;
    let records = world.records().len();
    // Those that sit have the first records.
    let mut sit = Vec::new();
    while sit.len() < sitting {
        world.round();
        for c in 0..consumers {
            for r in 0..2 {
                let has = world.consumers[c].readers[r].current.as_ref().is_some_and(|u| u.hand.is_some());
                if has && !sit.contains(&(c, r)) && sit.len() < sitting {
                    world.consumers[c].readers[r].away_until = world.now + Duration::from_secs(250);
                    sit.push((c, r));
                }
            }
        }
    }
    let began = world.now;
    while world.handed_out() < records {
        world.round();
        let waited = world.now - began;
        assert!(
            waited < Duration::from_secs(8),
            "{consumers}, {sitting}: {} of {records}",
            world.handed_out()
        );
    }
    // The records in hand are all that is left.
    let hands: Vec<i64> = sit.iter().map(|(c, r)| world.hand(*c, *r)).collect();
    let covers = |unit: &(i64, i64)| hands.iter().any(|hand| (unit.0..unit.1).contains(hand));
    while !world.group.open_units(&"t".into(), 0).iter().all(covers) {
        world.round();
        assert!(world.now - began < Duration::from_secs(12), "{:?}", world.group);
    }
    for (c, r) in sit {
        world.consumers[c].readers[r].away_until = world.now;
    }
    let drained = |world: &World| world.group.partitions(&["t".into()])[0].low_watermark >= 400;
    (0..100).for_each(|_| world.round());
    assert!(drained(&world) && world.handed_out() == records, "{:?}", world.group);
    let fenced: u64 = world.consumers.iter().map(|c| c.state.counters.units_fenced.load(Relaxed)).sum();
    assert_eq!(fenced, 0);
}

/// Nobody waits: a slow handler keeps its unit, and the group hears little of it.
#[test]
fn who_asks_for_nothing_keeps_its_unit_while_nobody_waits() {
    let mut world = quiet(1, 400, |_| {});
    world.consumers[0].readers.truncate(1);
    (0..20).for_each(|_| world.round());
    assert!(world.handed_out() > 0);
    world.consumers[0].readers[0].away_until = world.now + Duration::from_secs(100);
    // What was claimed ahead goes back.
    (0..1_000).for_each(|_| world.round());
    let (units, before) =
        (world.group.open_units(&"t".into(), 0), world.consumers[0].state.counters.exchanges.load(Relaxed));
    (0..4_000).for_each(|_| world.round());
    let held = |units: &[(i64, i64)]| units.iter().map(|unit| unit.1).collect::<Vec<_>>();
    assert_eq!(held(&units), held(&world.group.open_units(&"t".into(), 0)));
    let asked = world.consumers[0].state.counters.exchanges.load(Relaxed) - before;
    assert!(asked <= 20, "{asked} exchanges in 20 s, of which 7 are heartbeats");
}

#[test]
fn in_an_ordered_group_no_hold_is_shortened() {
    let mut world = quiet(2, 400, |conf| conf.ordering = crate::config::Ordering::Partition);
    let has =
        |world: &World| world.consumers.iter().position(|c| c.readers.iter().any(|r| r.current.is_some()));
    while has(&world).is_none() {
        world.round();
    }
    let c = has(&world).expect("it was just found");
    for reader in &mut world.consumers[c].readers {
        reader.away_until = world.now + Duration::from_secs(100);
    }
    let units = world.group.open_units(&"t".into(), 0);
    (0..2_000).for_each(|_| world.round());
    assert_eq!(world.group.open_units(&"t".into(), 0)[0].1, units[0].1);
}

/// A future that was woken for the next records of its unit and is not polled: it has no record in hands.
#[test]
fn who_was_woken_and_does_not_come_holds_up_nobody() {
    let mut world = quiet(1, 0, |_| {});
    let batch = |n: i64| Batch { topic: 0, base: n * 20, next: n * 20 + 20, bytes: 30_000, _charge: None };
    world.logs.insert(0, (0..40).map(batch).collect());
    let waits = |world: &World, r: usize| {
        let Consumer { state, readers, .. } = &world.consumers[0];
        readers[r]
            .current
            .as_ref()
            .is_some_and(|u| state.units.get(&u.key).is_some_and(|h| h.starving.is_some()))
    };
    let mut away = None;
    for round in 0.. {
        assert!(round < 5_000, "it does not drain: {:?}", world.group);
        world.round();
        // Faster than data comes.
        (0..200).for_each(|_| (0..2).for_each(|r| world.step(0, r)));
        if away.is_none() {
            away = (0..2).find(|r| waits(&world, *r));
            if let Some(r) = away {
                world.consumers[0].readers[r].away_until = world.now + Duration::from_secs(250);
            }
        }
        if world.group.partitions(&["t".into()])[0].low_watermark >= 800 {
            break;
        }
    }
    assert!(away.is_some(), "no reader was met in the middle of its unit");
    world.handed_out();
}
