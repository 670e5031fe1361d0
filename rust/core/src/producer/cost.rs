//! What an append costs, with the batches thrown away: `cargo test --release -p kafka-fast --lib producer::cost --
//! --ignored --nocapture --test-threads 1`. Prints; judges nothing, because machines differ.

use std::sync::Arc;
use std::time::Instant;

use super::TopicId;
use super::append::Append;
use super::shared::Shared;
use super::topic::Topic;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::wire::Record;

const RECORDS: u32 = 1_000_000;

/// Throws sealed batches away as a sender would settle them: the buffer goes back to the pool.
fn throw_away(shared: &Shared, topic: &Topic) {
    for partition in topic.partitions.iter() {
        let sealed = partition.queue.lock().drain();
        for batch in sealed {
            if let super::batch::Body::Plain(builder) = batch.body {
                shared.memory.recycle(builder.into_buffer(), 0);
            }
        }
    }
}

fn measure(
    shared: &Arc<Shared>,
    topic: &Topic,
    bytes: usize,
    key: bool,
    tracked: bool,
    threads: usize,
) -> f64 {
    let count = RECORDS / if bytes > 500 { 4 } else { 1 };
    let value = vec![b'x'; bytes];
    let start = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut left = 0_u32;
                for i in 0..count {
                    let number = i.to_be_bytes();
                    let record =
                        Record { key: key.then_some(&number[..]), value: Some(&value), headers: &[] };
                    let append = Append { timestamp_ms: None, record: &record };
                    if tracked {
                        let mut delivery = None;
                        shared.append(topic, None, &append, &mut delivery).unwrap();
                    } else {
                        shared.append(topic, None, &append, &mut ()).unwrap();
                    }
                    left += bytes as u32;
                    if left > 900_000 {
                        left = 0;
                        throw_away(shared, topic);
                    }
                }
            });
        }
    });
    start.elapsed().as_nanos() as f64 / f64::from(count) / threads as f64
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "a measurement, not a test"]
async fn of_an_append() {
    let mut conf = Config::with_bootstrap("localhost:1").unwrap();
    conf.lazy_connect = true;
    conf.buffer_memory = 256 << 20;
    let shared = Shared::new(&conf, Cluster::connect(&conf).await.unwrap());
    let topic = Topic::new("data".into(), TopicId(0), conf.batch_bytes);
    shared.update_partitions(&topic, &super::tests::meta("data", 4));
    for (bytes, key, tracked, threads) in [
        (100, false, false, 1),
        (1000, false, false, 1),
        (100, true, false, 1),
        (100, false, true, 1),
        (100, false, false, 2),
        (1000, false, false, 2),
    ] {
        // The best of several: the machine is shared.
        let ns =
            (0..9).map(|_| measure(&shared, &topic, bytes, key, tracked, threads)).fold(f64::MAX, f64::min);
        println!(
            "{bytes} B key={key} tracked={tracked} threads={threads}: {ns:.1} ns a record (wall x 1/threads)"
        );
    }
}

#[test]
#[ignore = "a measurement, not a test"]
fn of_the_encoding_alone() {
    for bytes in [100, 1000] {
        let value = vec![b'x'; bytes];
        let record = Record::value(&value);
        let mut builder = crate::wire::BatchBuilder::with_capacity(1_000_000);
        let start = Instant::now();
        for _ in 0..RECORDS {
            if builder.len() + crate::wire::BatchBuilder::encoded_bound(&record) > 1_000_000 {
                builder = crate::wire::BatchBuilder::from_buffer(builder.into_buffer());
            }
            std::hint::black_box(builder.append(1_700_000_000_000, std::hint::black_box(&record)));
        }
        println!("{bytes} B: {:.1} ns a record", start.elapsed().as_nanos() as f64 / f64::from(RECORDS));
    }
}
