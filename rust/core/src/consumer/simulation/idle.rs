//! Readers that stop asking.

use super::*;

/// A thread that asked, got nothing for the moment, and went to do something else.
#[test]
fn a_reader_that_asks_no_more_holds_up_nobody() {
    let alone = |world: &World| world.consumers.len() == 1 && world.consumers[0].readers.len() > 1;
    let mut world = (4000..).map(|seed| World::new(seed, false)).find(alone).unwrap();
    let batch = |n: i64| Batch { topic: 0, base: n * 20, next: n * 20 + 20, bytes: 30_000, _charge: None };
    world.logs.insert(0, (0..40).map(batch).collect());
    let mut left = None;
    for round in 0.. {
        let behind = |p: &crate::group::PartitionView| p.low_watermark < world.end(p.partition);
        let views = world.group.partitions(&["t".into()]);
        if !views.iter().any(behind) {
            break;
        }
        assert!(round < 20_000, "it does not drain: {views:?}");
        world.now += Duration::from_millis(5);
        world.publish(0);
        world.exchange(0);
        if left.is_none() {
            // Faster than data comes.
            (0..200).for_each(|_| world.step(0, 0));
            let Consumer { state, readers, .. } = &mut world.consumers[0];
            let waits = |key: UnitKey| state.units.get(&key).is_some_and(|held| held.starving.is_some());
            if readers[0].current.as_ref().is_some_and(|current| waits(current.key)) {
                left = Some(readers.remove(0));
                state.stop_asking(left.as_ref().unwrap().slot.id);
            }
        } else {
            (0..world.consumers[0].readers.len()).for_each(|r| world.step(0, r));
        }
        world.plan(0);
        world.answer(0);
    }
    assert!(left.is_some(), "no reader was met in the middle of its unit");
}
