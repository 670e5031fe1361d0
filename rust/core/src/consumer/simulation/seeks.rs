//! Seeks: what a consumer holds of the partition goes without a word, and everything from there on comes exactly once.

use super::*;
use crate::consumer::event::Event;

impl World {
    /// Moves a partition, perhaps while the answer to an exchange is under way that the group gave before.
    fn seek(&mut self, c: usize) {
        let partition = self.dice.roll(PARTITIONS as u64) as i32;
        let to = self.dice.roll(self.end(partition) as u64 + 1) as i64;
        let (sent, millis) = (self.now, self.millis());
        let on_its_way = match self.dice.one_in(2) {
            true => self.consumers[c].state.exchange(sent),
            false => None,
        };
        let before = on_its_way.map(|request| self.group.exchange(millis, &request));
        self.now += Duration::from_millis(1);
        let views = self.group.partitions(&["t".into()]);
        let view = views.iter().find(|view| view.partition == partition).expect("it is there");
        let nonce = u64::from(self.names) << 32 | self.dice.roll(1 << 32);
        assert!(self.group.seek(&"t".into(), partition, view.generation, to, nonce));
        let tp = Tp { topic: "t".into(), partition };
        let state = &mut self.consumers[c].state;
        state.sought(&tp, to, self.now);
        if let Some(reply) = before {
            state.answered(reply, sent, self.now);
        }
        // What is skipped is to come no more, what is repeated once more.
        self.delivered.retain(|(_, p, _), _| *p != partition);
        for reader in self.consumers.iter_mut().flat_map(|consumer| &mut consumer.readers) {
            // What is in hands was delivered before the seek.
            if let Some(current) = reader.current.as_mut().filter(|current| current.tp == tp) {
                current.hand = None;
            }
        }
        let topic = self.topic;
        let skipped = (0..to).map(|offset| ((topic, partition, offset), 1));
        self.delivered.extend(skipped.filter(|((.., offset), _)| is_record(*offset)));
    }

    /// Nothing came twice since the last seek of its partition, and nobody was fenced.
    fn check_once(&self, seed: u64) {
        let twice = self.delivered.iter().find(|(_, times)| **times > 1);
        assert!(twice.is_none(), "seed {seed}: {twice:?}");
        for consumer in &self.consumers {
            assert_eq!(consumer.state.counters.snapshot().units_fenced, 0, "seed {seed}");
            let fenced = |event: &Event| matches!(event, Event::Fenced { .. });
            assert!(!consumer.state.effects.events.iter().any(fenced), "seed {seed}");
        }
    }
}

#[test]
fn after_a_seek_everything_comes_once_and_nobody_is_fenced() {
    let mut seeks = 0;
    for seed in 5000..5004 {
        let mut world = World::new(seed, false);
        // Others learn of a seek at their next exchange; here all that comes twice is a mistake.
        world.consumers.truncate(1);
        for turn in 0..4_000 {
            world.turn(true);
            if turn % 97 == 0 {
                world.check_once(seed);
                world.seek(0);
                seeks += 1;
            }
        }
        world.drain();
        for record in world.records() {
            let times = world.delivered.get(&record).copied().unwrap_or(0);
            assert_eq!(times, 1, "seed {seed}: record {record:?} came {times} times after the last seek");
        }
        world.check_once(seed);
    }
    assert!(seeks > 150);
}

/// Other members read on until they hear of it: they are fenced then, and nothing is skipped.
#[test]
fn a_seek_under_other_members_skips_nothing() {
    for seed in 5100..5103 {
        let mut world = World::new(seed, true);
        for turn in 0..4_000 {
            world.turn(true);
            if turn % 97 == 0 {
                let c = world.dice.roll(world.consumers.len() as u64) as usize;
                world.seek(c);
            }
        }
        world.drain();
        for record in world.records() {
            let times = world.delivered.get(&record).copied().unwrap_or(0);
            assert!(times >= 1, "seed {seed}: record {record:?} was skipped");
        }
    }
}

/// The group gave a unit, then it was moved to that unit's start and gave another member the same; only then does its answer arrive.
#[test]
fn a_unit_that_was_on_its_way_when_we_sought_goes_back_without_a_word() {
    let two = |world: &World| world.consumers.len() == 2;
    let mut world = (6000..).map(|seed| World::new(seed, false)).find(two).unwrap();
    for partition in 0..PARTITIONS {
        world
            .logs
            .insert(partition, vec![Batch { topic: 0, base: 0, next: 50, bytes: 5_000, _charge: None }]);
        world.say(Uuid::default(), partition, 50);
    }
    let asks =
        |world: &mut World, c: usize| (0..world.consumers[c].readers.len()).for_each(|r| world.step(c, r));
    asks(&mut world, 0);
    let (sent, millis) = (world.now, world.millis());
    let request = world.consumers[0].state.exchange(sent).expect("a reader waits");
    let reply = world.group.exchange(millis, &request);
    let unit = reply.units.first().cloned().expect("there is work");
    let topic = Arc::clone(&unit.topic);
    let generation = world.group.partitions(&[Arc::clone(&topic)])[unit.partition as usize].generation;
    assert!(world.group.seek(&topic, unit.partition, generation, unit.start, 77));
    asks(&mut world, 1);
    world.now += Duration::from_millis(5);
    world.exchange(1);
    let same = |held: &super::super::state::Held<Batch>| held.unit.id == unit.id;
    assert!(world.consumers[1].state.units.values().any(same), "the other one has it");
    world.consumers[0].state.sought(&Tp { topic, partition: unit.partition }, unit.start, world.now);
    let now = world.now;
    world.consumers[0].state.answered(reply, sent, now);
    let held = world.consumers[0].state.units.values().filter(|held| held.tp.partition == unit.partition);
    assert_eq!(held.count(), 0, "what was dropped is not handed out");
    world.now += Duration::from_millis(5);
    world.exchange(0);
    assert_eq!(world.consumers[0].state.counters.snapshot().units_fenced, 0);
}
