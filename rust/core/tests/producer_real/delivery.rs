//! What is sent is what stands in the log.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use kafka_fast::wire::{Header, Record};
use kafka_fast_testkit::RealKafka;

use crate::support::*;

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

/// 100,000 records of 4 threads over 4 partitions.
async fn everything_arrives(settings: &[(&str, &str)]) {
    let broker = RealKafka::shared();
    let (producer, topic, id) = producer(broker, 4, settings).await;
    let before = now_ms();
    let threads = (0..4).map(|thread| {
        let producer = producer.clone();
        let runtime = tokio::runtime::Handle::current();
        std::thread::spawn(move || {
            for i in 0..25_000 {
                let value = format!("{thread}:{i}{}", ".".repeat(i % 50));
                runtime.block_on(append(&producer, id, None, Record::value(&value)));
            }
        })
    });
    let threads: Vec<_> = threads.collect();
    tokio::task::spawn_blocking(|| threads.into_iter().for_each(|t| t.join().unwrap())).await.unwrap();
    producer.flush().await.unwrap();
    let stats = producer.stats();
    assert_eq!((stats.records, stats.records_failed, stats.buffered_bytes), (100_000, 0, 0));
    producer.close(WAIT).await.unwrap();
    let partitions = read_all(broker, &topic).await;
    check_complete_and_ordered(&partitions, 4, 25_000);
    let after = now_ms();
    for partition in &partitions {
        assert!(partition.len() > 1000, "{} records: the partitions share the load", partition.len());
        // The clock of a batch may be a tick old.
        assert!(partition.iter().all(|r| (before - 50..=after).contains(&r.timestamp)));
        assert!(partition.iter().enumerate().all(|(i, r)| r.offset == i as i64));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plain_records_of_many_threads_arrive_in_order() {
    everything_arrives(&[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gzip_records_arrive() {
    everything_arrives(&[("codec", "gzip")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snappy_records_arrive_with_acks_all() {
    everything_arrives(&[("codec", "snappy"), ("acks", "all"), ("batch.size", "20000")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_buffer_holds_appenders_back_and_loses_nothing() {
    everything_arrives(&[
        ("buffer.memory", "1048576"),
        ("batch-byte-limit", "600000"),
        ("batch.size", "100000"),
    ])
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_headers_timestamps_and_tombstones_are_kept() {
    let broker = RealKafka::shared();
    let (producer, topic, id) = producer(broker, 3, &[]).await;
    let headers = [
        Header { key: "a", value: Some(b"1") },
        Header { key: "a", value: None },
        Header { key: "", value: Some(b"") },
    ];
    let mut deliveries = Vec::new();
    for i in 0..1000_i64 {
        let key = format!("key {i}");
        let value = (i % 3 != 0).then_some(&b"value"[..]);
        let record = Record { key: Some(key.as_bytes()), value, headers: &headers[..i as usize % 4] };
        // Timestamps need not rise.
        let timestamp = Some(1_700_000_000_000 - i * 1000);
        deliveries.push(producer.try_append_tracked(id, Some((i % 3) as i32), timestamp, &record).unwrap());
    }
    producer.flush().await.unwrap();
    let partitions = read_all(broker, &topic).await;
    for (i, delivery) in deliveries.into_iter().enumerate() {
        let metadata = delivery.await.unwrap();
        assert_eq!((metadata.partition, &*metadata.topic), ((i % 3) as i32, &*topic));
        let record = &partitions[i % 3][metadata.offset as usize];
        assert_eq!(record.key.as_deref(), Some(format!("key {i}").as_bytes()));
        assert_eq!(record.value.as_deref(), (i % 3 != 0).then_some(&b"value"[..]));
        assert_eq!(record.timestamp, 1_700_000_000_000 - i as i64 * 1000);
        assert_eq!(metadata.timestamp, record.timestamp);
        assert_eq!(record.headers.len(), i % 4);
        for (stored, sent) in record.headers.iter().zip(&headers) {
            assert_eq!((&*stored.0, stored.1.as_deref()), (sent.key, sent.value));
        }
    }
    producer.close(WAIT).await.unwrap();
}

/// kafka-clients' murmur2 of these keys is in its own tests; the partitions follow from it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_goes_where_kafka_clients_would_put_it_in_order_across_threads() {
    let broker = RealKafka::shared();
    let (producer, topic, id) = producer(broker, 7, &[]).await;
    let hashes: [(&str, i32); 5] = [
        ("21", -973_932_308),
        ("foobar", -790_332_482),
        ("a-little-bit-long-string", -985_981_536),
        ("a-little-bit-longer-string", -1_486_304_829),
        ("abc", 479_470_107),
    ];
    // One number at a time, each from another thread: order per key must hold across them.
    let turn = Arc::new(AtomicUsize::new(0));
    let threads: Vec<_> = (0..4_usize)
        .map(|me| {
            let (producer, turn) = (producer.clone(), Arc::clone(&turn));
            std::thread::spawn(move || {
                for i in (me..4000).step_by(4) {
                    while turn.load(Ordering::Acquire) != i {
                        std::thread::yield_now();
                    }
                    for (key, _) in hashes {
                        let value = format!("{i}");
                        producer.try_append(id, None, None, &Record::keyed(key, &value)).unwrap();
                    }
                    turn.store(i + 1, Ordering::Release);
                }
            })
        })
        .collect();
    tokio::task::spawn_blocking(|| threads.into_iter().for_each(|t| t.join().unwrap())).await.unwrap();
    producer.close(WAIT).await.unwrap();
    let partitions = read_all(broker, &topic).await;
    for (key, hash) in hashes {
        let partition = &partitions[((hash & 0x7fff_ffff) % 7) as usize];
        let numbers: Vec<usize> = partition
            .iter()
            .filter(|r| r.key.as_deref() == Some(key.as_bytes()))
            .map(|r| r.text().parse().unwrap())
            .collect();
        assert_eq!(numbers, (0..4000).collect::<Vec<_>>(), "{key}");
    }
}

/// A task that moves between threads keeps its order although it names no key.
#[tokio::test(flavor = "multi_thread", worker_threads = 3)]
async fn records_without_a_key_keep_their_order_in_each_partition_whatever_the_thread() {
    let broker = RealKafka::shared();
    for partitions in [1, 4] {
        let (producer, topic, id) = producer(broker, partitions, &[("batch.size", "5000")]).await;
        let turn = Arc::new(AtomicUsize::new(0));
        let threads: Vec<_> = (0..4_usize)
            .map(|me| {
                let (producer, turn) = (producer.clone(), Arc::clone(&turn));
                std::thread::spawn(move || {
                    for i in (me..4000).step_by(4) {
                        while turn.load(Ordering::Acquire) != i {
                            std::thread::yield_now();
                        }
                        producer.try_append(id, None, None, &Record::value(&format!("0:{i}"))).unwrap();
                        turn.store(i + 1, Ordering::Release);
                    }
                })
            })
            .collect();
        tokio::task::spawn_blocking(|| threads.into_iter().for_each(|t| t.join().unwrap())).await.unwrap();
        producer.close(WAIT).await.unwrap();
        check_complete_and_ordered(&read_all(broker, &topic).await, 1, 4000);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn acks_0_delivers_without_offsets() {
    let broker = RealKafka::shared();
    let (producer, topic, id) = producer(broker, 2, &[("acks", "0")]).await;
    // Until a new partition's leader knows that it is one, it refuses what comes, and with acks=0 nobody hears of that.
    assert!(read_all(broker, &topic).await.iter().all(Vec::is_empty));
    let delivery = producer.try_append_tracked(id, Some(1), None, &Record::value("0:0")).unwrap();
    for i in 1..10_000 {
        append(&producer, id, Some(i % 2), Record::value(&format!("0:{i}"))).await;
    }
    assert_eq!(delivery.await.unwrap().offset, -1);
    // The broker ends the connection when it has carried out what came before its end.
    producer.close(WAIT).await.unwrap();
    check_complete_and_ordered(&read_all(broker, &topic).await, 1, 10_000);
}
