//! Flush, close, back-pressure, and the end of tasks.

use std::time::{Duration, Instant};

use kafka_fast::error::ErrorKind;
use kafka_fast::producer::{AppendError, Producer, ProducerError};
use kafka_fast::wire::Record;
use kafka_fast_testkit::{Options, RealKafka};

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flush_does_not_wait_for_the_linger_and_covers_what_was_before() {
    let broker = RealKafka::shared();
    let (producer, topic, id) = producer(broker, 4, &[("linger.ms", "600000")]).await;
    for round in 0..20 {
        for i in 0..50 {
            append(&producer, id, None, Record::value(&format!("0:{}", round * 50 + i))).await;
        }
        tokio::time::timeout(Duration::from_secs(20), producer.flush()).await.expect("no linger").unwrap();
        assert_eq!(producer.stats().records_delivered, (round + 1) * 50);
    }
    let delivery = producer.try_append_tracked(id, None, None, &Record::value("0:1000")).unwrap();
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(delivery.try_result().is_none(), "the linger holds it");
    producer.start_flush();
    tokio::time::timeout(Duration::from_secs(20), delivery).await.expect("flushed").unwrap();
    append(&producer, id, None, Record::value("0:1001")).await;
    producer.close(WAIT).await.unwrap();
    check_complete_and_ordered(&read_all(broker, &topic).await, 1, 1002);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_record_does_not_wait() {
    let broker = RealKafka::shared();
    let (producer, _, id) = producer(broker, 4, &[]).await;
    let send =
        async || producer.try_append_tracked(id, None, None, &Record::value("x")).unwrap().await.unwrap();
    send().await;
    let mut best = Duration::MAX;
    for _ in 0..20 {
        tokio::time::sleep(Duration::from_millis(20)).await;
        let start = Instant::now();
        send().await;
        best = best.min(start.elapsed());
    }
    assert!(best < Duration::from_millis(4), "{best:?}: less than the adaptive linger");
    producer.close(WAIT).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_closed_producer_says_so_and_closing_again_is_fine() {
    let broker = RealKafka::shared();
    let (producer, topic, id) = producer(broker, 2, &[("linger.ms", "600000")]).await;
    for i in 0..100 {
        append(&producer, id, None, Record::value(&format!("0:{i}"))).await;
    }
    let (first, second) = tokio::join!(producer.close(WAIT), producer.close(WAIT));
    first.unwrap();
    second.unwrap();
    let error = producer.try_append(id, None, None, &Record::value("x")).unwrap_err();
    assert!(error.to_string().starts_with("This Producer was closed at "), "{error}");
    assert_eq!(error.kind(), ErrorKind::Closed);
    assert!(matches!(producer.flush().await, Err(ProducerError::Append(AppendError::Closed(_)))));
    assert!(matches!(producer.topic("other").await, Err(ProducerError::Append(AppendError::Closed(_)))));
    assert!(producer.send(&topic, Record::value("x")).await.is_err());
    check_complete_and_ordered(&read_all(broker, &topic).await, 1, 100);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_broker_the_buffer_fills_up_and_close_says_what_is_left() {
    let mut kafka = RealKafka::start(&Options::new());
    let settings = [
        ("buffer.memory", "1048576"),
        ("batch-byte-limit", "500000"),
        ("batch.size", "100000"),
        ("max.block.ms", "1500"),
    ];
    let (producer, topic, id) = producer(&kafka.address(), 2, &settings).await;
    kafka.kill();
    let value = vec![b'x'; 10_000];
    let mut deliveries = Vec::new();
    let mut times_full = 0;
    while times_full < 2 {
        match producer.try_append_tracked(id, None, None, &Record::value(&value)) {
            Ok(delivery) => deliveries.push(delivery),
            Err(AppendError::Full { needed }) => {
                times_full += 1;
                let waited = tokio::time::timeout(Duration::from_millis(500), producer.room(needed)).await;
                assert!(waited.is_err(), "there is no room while nothing is delivered");
                // What a batch needed to grow is more than a new one needs for a record, and was sealed meanwhile: one more
                // may go in.
            }
            Err(error) => panic!("{error}"),
        }
    }
    let stats = producer.stats();
    assert!(stats.buffered_bytes <= 1 << 20 && deliveries.len() > 60, "{} {stats:?}", deliveries.len());
    let error = producer.send(&topic, Record::value(&value)).await.err().unwrap();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().starts_with("No room within max.block.ms=1500: "), "{error}");
    assert!(error.to_string().contains("broker 1, unreachable for "), "{error}");

    let blocked = {
        let producer = producer.clone();
        tokio::spawn(async move { producer.room(900_000).await })
    };
    let start = Instant::now();
    let error = producer.close(Duration::from_millis(700)).await.unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert_eq!((error.not_sent, error.possibly_written), (deliveries.len() as u64, 0), "{error}");
    assert!(error.to_string().contains("broker 1, unreachable"), "{error}");
    assert_eq!(producer.close(WAIT).await.unwrap_err(), error);
    for delivery in deliveries {
        assert_eq!(delivery.await.unwrap_err().kind(), ErrorKind::Closed);
    }
    tokio::time::timeout(WAIT, blocked).await.expect("close wakes those who wait").unwrap();
    assert_eq!(producer.stats().buffered_bytes, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_end_with_close_and_with_the_last_handle() {
    let broker = RealKafka::shared();
    let metrics = tokio::runtime::Handle::current().metrics();
    let before = metrics.num_alive_tasks();
    let ended = async || {
        for _ in 0..100 {
            if metrics.num_alive_tasks() <= before {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{} tasks are left of {before}", metrics.num_alive_tasks());
    };
    let (closed, _, id) = producer(broker, 2, &[]).await;
    append(&closed, id, None, Record::value("x")).await;
    closed.close(WAIT).await.unwrap();
    ended().await;

    let (dropped, _, id) = producer(broker, 2, &[("linger.ms", "600000")]).await;
    let delivery = dropped.try_append_tracked(id, None, None, &Record::value("x")).unwrap();
    assert!(metrics.num_alive_tasks() > before);
    let clone = dropped.clone();
    drop(dropped);
    append(&clone, id, None, Record::value("y")).await;
    drop(clone);
    assert_eq!(delivery.await.unwrap_err().kind(), ErrorKind::Closed);
    ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn mistakes_of_the_caller_are_named() {
    let broker = RealKafka::shared();
    let (producer, topic, id) = producer(broker, 2, &[]).await;
    for partition in [-1, 2] {
        let error = producer.try_append(id, Some(partition), None, &Record::value("x")).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!("Topic \"{topic}\" has no partition {partition}; it has 2, numbered from 0")
        );
    }
    let other = kafka_fast::producer::TopicId(99);
    assert!(matches!(
        producer.try_append(other, None, None, &Record::value("x")),
        Err(AppendError::UnknownTopicId(99))
    ));
    assert!(matches!(producer.topic("a b").await, Err(ProducerError::Topic(_))));
    producer.close(WAIT).await.unwrap();
    let mut conf = config(broker, &[]);
    conf.batch_bytes = conf.batch_byte_limit + 1;
    assert_eq!(Producer::connect(conf).await.err().unwrap().kind(), ErrorKind::Config);
}
