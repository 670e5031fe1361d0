//! Every record once, whoever reads; what is handed back comes to the next.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_fast::config::Codec;
use kafka_fast::consumer::{Consumer, Event, GroupConf};
use kafka_fast::group::{Embedded, GroupSettings};

use crate::support::{Bench, SOON, Tally, next, number, read_all};

async fn all_once(partitions: i32, readers: usize, codec: Codec) {
    let bench = Bench::new(partitions).await;
    let each = 6_000;
    for partition in 0..partitions {
        bench.produce_as(partition, partition as u64 * each, each, 700, 100, codec).await;
    }
    let total = each * partitions as u64;
    let consumer = bench.consumer().await;
    let tally = Tally::default();
    let tasks: Vec<_> =
        (0..readers).map(|_| read_all(consumer.reader(), tally.clone(), Duration::ZERO)).collect();
    tally.reach(total as usize, SOON).await;
    consumer.close(SOON).await.unwrap();
    let mut read = 0;
    for task in tasks {
        read += task.await.unwrap();
    }
    assert_eq!(read, total);
    tally.assert_once(total);
    let stats = consumer.stats();
    assert_eq!((stats.units_held, stats.units_fenced, stats.prefetch_bytes), (0, 0, 0), "{stats:?}");
    assert_eq!(stats.records, total);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_reader_gets_every_record_once() {
    all_once(1, 1, Codec::None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_readers_share_three_partitions() {
    all_once(3, 2, Codec::Gzip).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixteen_readers_share_two_partitions() {
    all_once(2, 16, Codec::Snappy).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_of_one_reader_and_partition_come_in_order() {
    let bench = Bench::new(1).await;
    bench.produce(0, 0, 5_000, 123).await;
    let consumer = bench.consumer().await;
    let mut reader = consumer.reader();
    for expected in 0..5_000 {
        let message = next(&mut reader).await;
        assert_eq!((message.offset, number(&message), message.attempt), (expected as i64, expected, 1));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_released_comes_to_the_next_consumer() {
    let bench = Bench::new(1).await;
    bench.produce(0, 0, 10, 10).await;
    let first = bench.consumer().await;
    let mut reader = first.reader();
    for expected in 0..4 {
        assert_eq!(number(&next(&mut reader).await), expected);
    }
    // 3 is in hand and not handled.
    reader.release();
    drop(reader);
    first.close(SOON).await.unwrap();
    let second = bench.consumer().await;
    let mut reader = second.reader();
    let message = next(&mut reader).await;
    assert_eq!((number(&message), message.attempt), (3, 1), "a release is no attempt");
    let mut others = Vec::new();
    while others.len() < 6 {
        others.push(number(&next(&mut reader).await));
    }
    others.sort_unstable();
    assert_eq!(others, [4, 5, 6, 7, 8, 9]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_reader_hands_its_record_back_at_once() {
    let bench = Bench::new(1).await;
    bench.produce(0, 0, 3, 3).await;
    let consumer = bench.consumer().await;
    let (mut dies, mut lives) = (consumer.reader(), consumer.reader());
    assert_eq!(number(&next(&mut dies).await), 0);
    let began = std::time::Instant::now();
    drop(dies);
    let mut got = Vec::new();
    while got.len() < 3 {
        got.push(number(&next(&mut lives).await));
    }
    got.sort_unstable();
    assert_eq!(got, [0, 1, 2]);
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_consumer_of_the_group_goes_on_where_the_last_one_stopped() {
    let bench = Bench::new(2).await;
    bench.produce(0, 0, 1_000, 100).await;
    bench.produce(1, 1_000, 1_000, 100).await;
    let tally = Tally::default();
    for _ in 0..4 {
        let consumer = bench.consumer().await;
        let mut reader = consumer.reader();
        for _ in 0..300 {
            tally.add(number(&next(&mut reader).await));
        }
        // Taken and not handled: it comes again.
        next(&mut reader).await;
        drop(reader);
        consumer.close(SOON).await.unwrap();
    }
    let consumer = bench.consumer().await;
    let task = read_all(consumer.reader(), tally.clone(), Duration::ZERO);
    tally.reach(2_000, SOON).await;
    consumer.close(SOON).await.unwrap();
    task.await.unwrap();
    tally.assert_once(2_000);
}

/// An attempt counts when another record was handled since the last one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_retried_record_comes_again_with_the_next_attempt() {
    let bench = Bench::new(1).await;
    bench.produce(0, 0, 300, 10).await;
    let mut conf = bench.conf.clone();
    conf.consume_step = 1;
    let consumer = bench.consumer_with(conf).await;
    let mut reader = consumer.reader();
    let (mut attempt, mut works, mut failures) = (1, false, 0);
    loop {
        let message = next(&mut reader).await;
        if number(&message) > 0 {
            works = true;
            tokio::time::sleep(Duration::from_millis(5)).await;
            continue;
        }
        assert_eq!(message.attempt, attempt, "after {failures} failures");
        if attempt == 3 {
            break;
        }
        attempt += u32::from(std::mem::take(&mut works));
        failures += 1;
        assert!(failures < 300, "others are handled in between");
        reader.retry(Some(Duration::from_millis(20)));
    }
    let counted = std::iter::from_fn(|| consumer.try_event())
        .filter(|e| matches!(e, Event::Failed { counts: true, .. }));
    assert_eq!(counted.count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_group_starts_at_the_end_or_at_the_beginning() {
    let bench = Bench::new(1).await;
    bench.produce(0, 0, 100, 10).await;
    let mut conf = bench.conf.clone();
    conf.use_earliest = false;
    let latest = bench.consumer_with(conf).await;
    // What is produced once connect has returned is read, however late the reader comes.
    bench.produce(0, 100, 1, 1).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(number(&next(&mut latest.reader()).await), 100);
    let group = GroupConf::embedded(format!("{}-earliest", bench.group));
    let earliest = Consumer::connect(bench.conf.clone(), group, &[&bench.topic]).await.unwrap();
    assert_eq!(number(&next(&mut earliest.reader()).await), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_created_later_is_read_from_its_start() {
    let bench = Bench::at(kafka_fast_testkit::RealKafka::shared(), 0).await;
    let mut conf = bench.conf.clone();
    conf.use_earliest = false;
    let consumer = bench.consumer_with(conf).await;
    bench.cluster.create_topic(&bench.topic, 2, 1, SOON).await.unwrap();
    bench.produce(0, 0, 50, 10).await;
    bench.produce(1, 50, 50, 10).await;
    let tally = Tally::default();
    let task = read_all(consumer.reader(), tally.clone(), Duration::ZERO);
    tally.reach(100, SOON).await;
    consumer.close(SOON).await.unwrap();
    task.await.unwrap();
    tally.assert_once(100);
}

/// What was promised to the first consumer of a group holds whoever of the group meets the topic first.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_created_later_is_read_from_its_start_by_the_next_consumer_too() {
    let bench = Bench::at(kafka_fast_testkit::RealKafka::shared(), 0).await;
    let mut conf = bench.conf.clone();
    conf.use_earliest = false;
    bench.consumer_with(conf.clone()).await.close(SOON).await.unwrap();
    bench.cluster.create_topic(&bench.topic, 1, 1, SOON).await.unwrap();
    bench.produce(0, 0, 50, 10).await;
    let consumer = bench.consumer_with(conf).await;
    let tally = Tally::default();
    let task = read_all(consumer.reader(), tally.clone(), Duration::ZERO);
    tally.reach(50, SOON).await;
    consumer.close(SOON).await.unwrap();
    task.await.unwrap();
    tally.assert_once(50);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_are_added_and_removed() {
    let (one, two) = (Bench::new(1).await, Bench::new(1).await);
    one.produce(0, 0, 10, 10).await;
    two.produce(0, 100, 10, 10).await;
    let consumer = one.consumer().await;
    let mut reader = consumer.reader();
    for expected in 0..10 {
        assert_eq!(number(&next(&mut reader).await), expected);
    }
    consumer.add_topics(&[&two.topic]).await.unwrap();
    for expected in 100..110 {
        assert_eq!(number(&next(&mut reader).await), expected);
    }
    consumer.remove_topics(&[&one.topic]).await.unwrap();
    one.produce(0, 10, 1, 1).await;
    two.produce(0, 110, 1, 1).await;
    assert_eq!(number(&next(&mut reader).await), 110);
    assert!(tokio::time::timeout(Duration::from_millis(500), reader.next()).await.is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_organiser_watches_what_others_read() {
    let (one, mut two) = (Bench::new(1).await, Bench::new(1).await);
    two.group.clone_from(&one.group);
    let organiser = one.consumer().await;
    let _reader = organiser.reader();
    while !organiser.stats().organiser {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let other = two.consumer().await;
    let mut reader = other.reader();
    for expected in 0..3 {
        assert!(tokio::time::timeout(Duration::from_millis(200), reader.next()).await.is_err());
        two.produce(0, expected, 1, 1).await;
        assert_eq!(number(&next(&mut reader).await), expected);
    }
    assert!(organiser.stats().organiser && !other.stats().organiser);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_waits_for_the_record_in_hand_and_ends_every_reader() {
    let bench = Bench::new(1).await;
    bench.produce(0, 0, 2, 2).await;
    let consumer = bench.consumer().await;
    let (mut busy, mut idle) = (consumer.reader(), consumer.reader());
    assert_eq!(number(&next(&mut busy).await), 0);
    let working = tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(300)).await;
        busy.next().await.unwrap()
    });
    let waiting = tokio::spawn(async move {
        let mut seen = Vec::new();
        while let Some(message) = idle.next().await.unwrap() {
            seen.push(number(&message));
        }
        seen
    });
    tokio::time::sleep(Duration::from_millis(50)).await;
    let began = std::time::Instant::now();
    consumer.close(SOON).await.unwrap();
    assert!(began.elapsed() >= Duration::from_millis(200), "it waited for the record in hand");
    assert!(working.await.unwrap().is_none());
    let seen = waiting.await.unwrap();
    // Record 0 was handled: it does not come again.
    let second = bench.consumer().await;
    let mut reader = second.reader();
    if seen.is_empty() {
        assert_eq!(number(&next(&mut reader).await), 1);
    }
    assert!(tokio::time::timeout(Duration::from_millis(300), reader.next()).await.is_err());
    assert!(consumer.add_topics(&["x"]).await.is_err());
    assert!(consumer.reader().next().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_does_not_wait_longer_than_it_was_told() {
    let bench = Bench::new(1).await;
    bench.produce(0, 0, 2, 2).await;
    let consumer = bench.consumer().await;
    let mut reader = consumer.reader();
    assert_eq!(number(&next(&mut reader).await), 0);
    let began = std::time::Instant::now();
    consumer.close(Duration::from_millis(200)).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    // What was in hand was handed back.
    let second = bench.consumer().await;
    assert_eq!(number(&next(&mut second.reader()).await), 0);
    assert!(reader.next().await.unwrap().is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_everything_hands_everything_back() {
    let bench = Bench::new(1).await;
    bench.produce(0, 0, 5, 5).await;
    let consumer = bench.consumer().await;
    let mut reader = consumer.reader();
    assert_eq!(number(&next(&mut reader).await), 0);
    assert_eq!(number(&next(&mut reader).await), 1);
    drop(consumer);
    assert_eq!(number(&next(&mut reader).await), 2, "a reader keeps its consumer alive");
    drop(reader);
    let began = std::time::Instant::now();
    let second = bench.consumer().await;
    assert_eq!(number(&next(&mut second.reader()).await), 2);
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

/// A process keeps so many embedded groups; one that consumers are done with makes room for another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_ends_lets_go_of_its_group() {
    let bench = Bench::new(1).await;
    let consumer = bench.consumer().await;
    let tally = Tally::default();
    let reading = read_all(consumer.reader(), tally.clone(), Duration::ZERO);
    bench.produce(0, 0, 10, 10).await;
    tally.reach(10, SOON).await;
    let cluster = bench.cluster.cluster_id().unwrap();
    let group = Embedded::named(&bench.group, &cluster, GroupSettings::of(&bench.conf)).unwrap();
    assert!(Arc::strong_count(&group) > 2, "the consumer has it");
    consumer.close(SOON).await.unwrap();
    reading.await.unwrap();
    drop(consumer);
    let deadline = Instant::now() + SOON;
    while Arc::strong_count(&group) > 2 {
        assert!(
            Instant::now() < deadline,
            "besides the process and this test nobody: {}",
            Arc::strong_count(&group)
        );
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
