//! `delivery.timeout.ms`: records that were not acknowledged in time fail.
//!
//! A task looks at all partitions now and then ([`step`]), so a record fails up to an eighth of the time late. Only what
//! waits can fail: a batch in the air is left to its request, which ends within `request.timeout.ms`, and fails then if that
//! comes to nothing (`settle`). The time of a batch counts from its first record. Without the setting there is no such task,
//! and records wait for their brokers as long as it takes.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::batch::Batch;
use super::error::DeliveryError;
use super::settle;
use super::shared::{Shared, stopped};
use super::topic::Partition;
use crate::log_rate;

/// Time between two looks.
pub(super) fn step(timeout: Duration) -> Duration {
    (timeout / 8).clamp(Duration::from_millis(5), Duration::from_secs(1))
}

/// The task; ends with the producer.
pub(super) async fn run(shared: Arc<Shared>, timeout: Duration) {
    let mut stop = shared.stop.subscribe();
    loop {
        tokio::select! {
            () = stopped(&mut stop) => return,
            () = tokio::time::sleep(step(timeout)) => pass(&shared),
        }
    }
}

/// Fails what is over.
pub(super) fn pass(shared: &Arc<Shared>) {
    let Some(latest) = latest(shared) else { return };
    let mut obstacle: Option<Arc<str>> = None;
    for partition in shared.topics.iter().flat_map(|topic| topic.partitions.iter()) {
        let (expired, listed) = take(shared, partition, latest);
        if !expired.is_empty() {
            let obstacle = obstacle.get_or_insert_with(|| in_the_way(shared));
            fail(shared, partition, expired, obstacle);
        }
        // Also when nothing is left: it counts as listed, and whoever takes it off its list finds that out.
        if listed {
            shared.place(Arc::clone(partition));
        }
    }
    if obstacle.is_some() {
        // A partition may be free again for what is open.
        shared.linger.broker_freed();
    }
}

/// Batches born then or before are over; `None`: none is.
fn latest(shared: &Shared) -> Option<u64> {
    shared.time.us().checked_sub(shared.settings.delivery_timeout?.as_micros() as u64)
}

/// Whether the time of a batch is over.
pub(super) fn is_over(shared: &Shared, batch: &Batch) -> bool {
    latest(shared).is_some_and(|latest| batch.born_us <= latest)
}

fn in_the_way(shared: &Shared) -> Arc<str> {
    shared.obstacle().map_or(String::new(), |obstacle| format!(": {obstacle}")).into()
}

/// The end of a batch whose time is over.
pub(super) fn error(shared: &Shared, partition: &Partition, batch: &Batch) -> DeliveryError {
    error_because(shared, partition, batch, in_the_way(shared))
}

fn error_because(shared: &Shared, partition: &Partition, batch: &Batch, obstacle: Arc<str>) -> DeliveryError {
    DeliveryError::TimedOut {
        topic: Arc::clone(&partition.topic),
        partition: partition.index,
        timeout_ms: shared.settings.delivery_timeout.unwrap_or_default().as_millis() as u64,
        obstacle,
        possibly_written: batch.receipt.possibly_written(),
    }
}

/// What waits in the partition since `latest` or longer, and whether the caller must place the partition.
fn take(shared: &Arc<Shared>, partition: &Arc<Partition>, latest: u64) -> (Vec<Batch>, bool) {
    let opened_us = partition.opened_us.load(Relaxed);
    // The linger list keeps its entry: it sees by itself that the batch is gone.
    let listed = opened_us != 0 && opened_us <= latest && shared.seal(partition, &mut partition.slot.lock());
    let over = |batch: &Batch| batch.born_us <= latest;
    let expired = partition.with_queue(|queue| queue.expire(over, |batch| batch.receipt.possibly_written()));
    (expired, listed)
}

fn fail(shared: &Shared, partition: &Partition, expired: Vec<Batch>, obstacle: &Arc<str>) {
    let count: u32 = expired.iter().map(Batch::count).sum();
    let (topic, index) = (&partition.topic, partition.index);
    if let Some(more) = log_rate::due(format_args!("expired {topic}/{index}")) {
        tracing::error!(target: "kafkafast.producer",
            "{count} records of {topic}/{index} failed: not acknowledged within delivery.timeout.ms{obstacle}{more}");
    }
    for batch in expired {
        let error = error_because(shared, partition, &batch, Arc::clone(obstacle));
        settle::fail(partition, batch, error);
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::World;
    use super::super::{request, sender};
    use super::*;
    use crate::net::CallError;

    /// A producer with `delivery.timeout.ms=800`.
    async fn world(leader_id: i32) -> World {
        World::new(leader_id, 1, &[("delivery.timeout.ms", "800")]).await
    }

    fn failed_at(world: &World, us: u64) -> u64 {
        world.shared.time.set_us(us);
        pass(&world.shared);
        world.shared.counters.records_failed.get()
    }

    #[tokio::test]
    async fn a_record_fails_when_its_time_is_over_and_not_before() {
        let world = world(-1).await;
        let first = world.append(1_000, 0, b"x");
        world.shared.seal_now(world.partition(0), false);
        // This one stays open.
        let mut second = world.append(200_000, 0, b"x");
        assert_eq!(failed_at(&world, 800_999), 0);
        assert_eq!(failed_at(&world, 801_000), 1);
        let text = "The records of topic \"data\", partition 0 were not acknowledged within delivery.timeout.ms=800 \
                    (not sent): 69 bytes wait for partitions without a leader";
        assert_eq!(first.await.unwrap_err().to_string(), text);
        let waits = tokio::time::timeout(Duration::ZERO, &mut second).await;
        assert!(waits.is_err(), "{waits:?}");
        assert_eq!(failed_at(&world, 1_000_000), 2);
        assert!(!second.await.unwrap_err().possibly_written());
        assert_eq!(world.shared.memory.used(), 0, "what has failed holds no memory");
    }

    #[tokio::test]
    async fn what_is_in_the_air_fails_when_it_comes_back_too_late() {
        let world = world(1).await;
        let shared = &world.shared;
        let delivery = world.append(1_000, 0, b"x");
        shared.seal_now(world.partition(0), false);
        shared.place(Arc::clone(world.partition(0)));
        let broker = shared.known_broker(1).expect("placing it made its leader known");
        let mut flights = sender::next_request(shared, &broker, None).expect("there is a batch");
        request::leaves(&mut flights);
        assert_eq!(failed_at(&world, 900_000), 0, "it is in the air");
        let (api, broker_name) = (crate::wire::ApiKey::Produce, Arc::from("localhost:1"));
        let after = Duration::from_millis(899);
        let error = CallError::Timeout { api, broker: broker_name, after, possibly_written: true };
        settle::settle(shared, &broker, flights, Err(error));
        let error = delivery.await.unwrap_err();
        assert!(matches!(error, DeliveryError::TimedOut { possibly_written: true, .. }), "{error:?}");
    }
}
