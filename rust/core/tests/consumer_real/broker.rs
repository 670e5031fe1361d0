//! A broker that goes away, big batches, small memory.

use std::time::Duration;

use kafka_fast::config::Codec;
use kafka_fast_testkit::{Options, RealKafka};

use crate::support::{Bench, SOON, Tally, next, read_all};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_may_restart_while_it_is_read() {
    let mut kafka = RealKafka::start(&Options::new());
    let bench = Bench::at(&kafka.address(), 2).await;
    bench.produce(0, 0, 2_000, 100).await;
    bench.produce(1, 2_000, 2_000, 100).await;
    let consumer = bench.consumer().await;
    let tally = Tally::default();
    let work = Duration::from_millis(1);
    let tasks: Vec<_> = (0..2).map(|_| read_all(consumer.reader(), tally.clone(), work)).collect();
    tally.reach(500, SOON).await;
    let kafka = tokio::task::spawn_blocking(move || {
        kafka.stop();
        kafka.start_again();
        kafka
    })
    .await
    .unwrap();
    tally.reach(4_000, Duration::from_secs(60)).await;
    bench.produce(0, 4_000, 100, 10).await;
    tally.reach(4_100, SOON).await;
    consumer.close(SOON).await.unwrap();
    for task in tasks {
        task.await.unwrap();
    }
    tally.assert_once(4_100);
    drop(kafka);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_prefetch_stays_within_its_bound() {
    let bench = Bench::new(2).await;
    // 20 MB in batches of 200 KB.
    for partition in 0..2 {
        bench.produce_as(partition, partition as u64 * 10_000, 10_000, 200, 1_000, Codec::None).await;
    }
    let mut conf = bench.conf.clone();
    conf.prefetch_bytes = 1 << 20;
    let consumer = bench.consumer_with(conf).await;
    let tally = Tally::default();
    let tasks: Vec<_> = (0..4).map(|_| read_all(consumer.reader(), tally.clone(), Duration::ZERO)).collect();
    tally.reach(20_000, SOON).await;
    consumer.close(SOON).await.unwrap();
    for task in tasks {
        task.await.unwrap();
    }
    tally.assert_once(20_000);
    let stats = consumer.stats();
    // The bound, and a batch for each of two starving readers at most.
    assert!(stats.prefetch_peak < (1 << 20) + 4 * 200_000, "{stats:?}");
    assert_eq!(stats.prefetch_bytes, 0, "{stats:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_larger_than_the_prefetch_is_read_all_the_same() {
    let bench = Bench::new(1).await;
    bench.produce_as(0, 0, 900, 900, 1_000, Codec::None).await;
    let mut conf = bench.conf.clone();
    conf.prefetch_bytes = 64 << 10;
    let consumer = bench.consumer_with(conf).await;
    let tally = Tally::default();
    let task = read_all(consumer.reader(), tally.clone(), Duration::ZERO);
    tally.reach(900, SOON).await;
    consumer.close(SOON).await.unwrap();
    task.await.unwrap();
    tally.assert_once(900);
}

/// A program that keeps its messages keeps their frames; the consumer's own memory is free all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_in_user_code_does_not_starve_the_others() {
    let bench = Bench::new(2).await;
    for partition in 0..2 {
        bench.produce_as(partition, partition as u64 * 3_000, 3_000, 100, 1_000, Codec::None).await;
    }
    let mut conf = bench.conf.clone();
    conf.prefetch_bytes = 256 << 10;
    let consumer = bench.consumer_with(conf).await;
    // Two readers take a record each and sit on it.
    let (mut a, mut b) = (consumer.reader(), consumer.reader());
    let _held = (next(&mut a).await, next(&mut b).await);
    let tally = Tally::default();
    let task = read_all(consumer.reader(), tally.clone(), Duration::ZERO);
    // All but what the two units of at most 64 records hold.
    tally.reach(6_000 - 2 * 64, SOON).await;
    drop((a, b));
    tally.reach(6_000, SOON).await;
    consumer.close(SOON).await.unwrap();
    task.await.unwrap();
    tally.assert_once(6_000);
}
