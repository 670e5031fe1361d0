//! One partition, slow work, many readers: the point of work units.

use std::time::{Duration, Instant};

use crate::support::{Bench, SOON, Tally, read_all};

/// Long enough that the other tests beside this one, on two cores, do not decide the result.
const WORK: Duration = Duration::from_millis(4);

/// Seconds that `readers` take for the records.
async fn run(readers: usize, records: u64) -> f64 {
    let bench = Bench::new(1).await;
    bench.produce(0, 0, records, 5_000).await;
    let consumer = bench.consumer().await;
    let tally = Tally::default();
    let began = Instant::now();
    let tasks: Vec<_> = (0..readers).map(|_| read_all(consumer.reader(), tally.clone(), WORK)).collect();
    tally.reach(records as usize, Duration::from_secs(60)).await;
    let took = began.elapsed().as_secs_f64();
    consumer.close(SOON).await.unwrap();
    for task in tasks {
        task.await.unwrap();
    }
    tally.assert_once(records);
    let stats = consumer.stats();
    println!(
        "{readers} readers: {records} records in {took:.2} s, {} units, {} fetches",
        stats.units_done, stats.fetches
    );
    // Units are far smaller than batches: they must not each fetch their batch again.
    assert!(stats.fetches < stats.units_done / 2 + 5, "{stats:?}");
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_readers_of_one_partition_are_sixteen_times_as_fast() {
    let one = run(1, 500).await;
    let four = run(4, 2_000).await;
    let sixteen = run(16, 8_000).await;
    println!("1: 1x, 4: {:.1}x, 16: {:.1}x", 4.0 * one / four, 16.0 * one / sixteen);
    // Alone on a machine it is 3.9 and 15; Java's ScalingTest, which runs alone, holds it closer to that.
    assert!(4.0 * one / four > 2.5, "4 readers: {:.1}x", 4.0 * one / four);
    assert!(16.0 * one / sixteen > 8.0, "16 readers: {:.1}x", 16.0 * one / sixteen);
}
