//! A topic that is created again under members of which each sees it at a time of its own, while they hold units, have read ahead, and
//! wait for answers. What must hold beside the rest: no record is handed out for a unit of another topic of that name, members that
//! differ do not take units from each other for ever, and the new topic is read whole.

use super::*;

impl World {
    /// The topic is deleted, and another of the same name is there. Some answers of the old one are still on their way.
    fn recreate(&mut self) {
        for c in 0..self.consumers.len() {
            let mut answered = Vec::new();
            for (fetch, _) in &self.consumers[c].fetches {
                answered.extend(fetch.wants.iter().filter(|want| want.topic_id == id(self.topic)).cloned());
            }
            for want in answered {
                let pieces = self.read(c, want.tp.partition, want.position, want.bytes, true);
                self.late.push((Arc::clone(&self.consumers[c].state.talk.consumer), want, pieces));
            }
        }
        self.topic += 1;
        self.logs.values_mut().for_each(Vec::clear);
    }

    /// An answer comes late, when the consumer may have asked again.
    fn answer_late(&mut self) {
        if self.late.is_empty() {
            return;
        }
        let at = self.dice.roll(self.late.len() as u64) as usize;
        let (consumer, want, pieces) = self.late.swap_remove(at);
        let (now, end) = (self.now, pieces.last().map_or(want.position, Batch::next));
        let of = |c: &&mut Consumer| c.state.talk.consumer == consumer;
        if let Some(consumer) = self.consumers.iter_mut().find(of) {
            consumer.state.fetched(&want, pieces, end, now);
        }
    }

    /// A consumer learns of the topic of today, or, when brokers are behind, of no news: as `start::look`.
    fn look(&mut self, c: usize) {
        let (now, today) = (self.now, self.topic);
        let behind = self.dice.one_in(2);
        let consumer = &mut self.consumers[c];
        let disputed = !consumer.state.known.disputed().is_empty();
        if !behind {
            consumer.sees = today;
        }
        let (topic, sees) = (Arc::from("t"), id(consumer.sees));
        let state = &mut consumer.state;
        if state.known.is_another(&topic, sees) || (disputed && state.known.is_confirmed(&topic)) {
            state.forget_topic(&topic);
            let starts = starts(consumer.sees);
            self.group.init(&starts, u64::from(today));
            state.starts(&starts, now);
            let views = self.group.partitions(&[topic]);
            for view in &views {
                if state.known.is_of(view) {
                    state.group_stands(view);
                }
            }
        }
    }
}

#[test]
fn no_record_is_handed_out_for_a_unit_of_another_topic_of_that_name() {
    let mut turned_away = 0;
    for seed in 5000..5020 {
        let mut world = World::with_topic(seed, true, 1);
        for _ in 0..4 {
            for _ in 0..1_000 {
                world.turn(true);
                let c = world.dice.roll(world.consumers.len() as u64) as usize;
                match world.dice.roll(100) {
                    0..=3 => world.look(c),
                    4..=9 => world.answer_late(),
                    _ => {}
                }
                let disputes = |c: &Consumer| c.state.known.foreign_until("t").is_some();
                turned_away += u32::from(world.consumers.iter().any(disputes));
            }
            world.recreate();
        }
        for round in 0.. {
            assert!(round < 2_000, "seed {seed}: nobody tells the group of the new topic");
            world.turn(true);
            let c = world.dice.roll(world.consumers.len() as u64) as usize;
            world.look(c);
            if world.consumers.iter().all(|c| c.sees == world.topic) {
                break;
            }
        }
        world.drain();
        for record in world.records() {
            let times = world.delivered.get(&record).copied().unwrap_or(0);
            assert!(times >= 1, "seed {seed}: record {record:?} was skipped");
        }
    }
    assert!(turned_away > 100, "no unit of another topic was met: {turned_away}");
}
