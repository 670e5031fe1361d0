//! What fetches bring, and when: leaders that are away, and the bound of what is held.

use super::*;

#[test]
fn a_leader_that_is_away_holds_up_its_own_partitions_only() {
    for seed in 3000..3010 {
        let mut world = World::new(seed, false);
        (0..200).for_each(|_| world.turn(true));
        world.dead = Some(0);
        for _ in 0..60 {
            world.produce();
        }
        let done = |world: &World, first: i32| {
            let views = world.group.partitions(&["t".into()]);
            views.into_iter().all(|p| p.partition < first || p.low_watermark >= world.end(p.partition))
        };
        for round in 0.. {
            assert!(round < 200_000, "seed {seed}: {:?}", world.group.partitions(&["t".into()]));
            world.turn(false);
            if done(&world, 1) {
                break;
            }
        }
        assert!(!done(&world, 0), "seed {seed}: partition 0 had something to read");
        world.dead = None;
        world.drain();
        for record in world.records() {
            assert_eq!(world.delivered.get(&record), Some(&1), "seed {seed}: {record:?}");
        }
    }
}

#[test]
fn the_prefetch_bound_holds() {
    for seed in 2000..2008 {
        let world = run(seed, false);
        for consumer in &world.consumers {
            // The bound, a piece for each reader that may starve, and what a broker adds: one batch an answer.
            let most = world.conf.prefetch_bytes
                + (consumer.readers.len() + 2) * 2 * crate::consumer::plan::PIECE_LEAST;
            assert!(consumer.budget.peak() <= most, "seed {seed}: {} > {most}", consumer.budget.peak());
        }
    }
}
