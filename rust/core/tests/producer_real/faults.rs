//! Brokers that go away, answers that get lost, batches that are too large.

use std::time::{Duration, Instant};

use kafka_fast::error::ErrorKind;
use kafka_fast::producer::{AppendError, DeliveryError};
use kafka_fast::wire::Record;
use kafka_fast_testkit::{Fault, Options, Proxy, RealKafka, free_port};

use crate::support::*;

/// The broker leaves for 10 s in the middle; acks=1. Nothing is lost, repeated or out of order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_restarts_costs_nothing() {
    let mut kafka = RealKafka::start(&Options::new());
    let broker = kafka.address();
    for acks in ["1", "all"] {
        let (producer, topic, id) = producer(&broker, 4, &[("acks", acks)]).await;
        let writer = {
            let producer = producer.clone();
            tokio::spawn(async move {
                for i in 0..60_000 {
                    append(&producer, id, None, Record::value(&format!("0:{i}"))).await;
                    if i % 20 == 0 {
                        // About 15 s in all: before, during and after the gap.
                        tokio::time::sleep(Duration::from_millis(4)).await;
                    }
                }
            })
        };
        tokio::time::sleep(Duration::from_secs(2)).await;
        let kafka_back = tokio::task::spawn_blocking(move || {
            kafka.stop();
            std::thread::sleep(Duration::from_secs(10));
            kafka.start_again();
            kafka
        });
        kafka = kafka_back.await.unwrap();
        writer.await.unwrap();
        tokio::time::timeout(WAIT, producer.flush())
            .await
            .expect("everything goes once the broker is back")
            .unwrap();
        let stats = producer.stats();
        assert!(stats.retries > 0, "the gap was seen: {stats:?}");
        assert_eq!(stats.records_delivered, 60_000);
        producer.close(WAIT).await.unwrap();
        check_complete_and_ordered(&read_all(&broker, &topic).await, 1, 60_000);
    }
}

/// Answers are lost again and again after the broker has written: sequences keep the batches from repeating.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_duplicates_nothing() {
    let port = free_port();
    let kafka = RealKafka::start(&Options::new().advertise(port));
    let proxy = Proxy::start_on(port, &kafka.address()).await;
    let broker = proxy.address();
    for acks in ["1", "all"] {
        let (producer, topic, id) = producer(&broker, 3, &[("acks", acks), ("batch.size", "4000")]).await;
        for i in 0..20_000 {
            append(&producer, id, None, Record::value(&format!("0:{i}"))).await;
            if i % 200 == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            match i % 5000 {
                1000 => proxy.set(Fault::CutAnswer),
                1400 => proxy.set(Fault::None),
                _ => {}
            }
        }
        tokio::time::timeout(WAIT, producer.flush()).await.expect("the proxy passes again").unwrap();
        let stats = producer.stats();
        assert!(stats.retries > 0, "answers were lost: {stats:?}");
        producer.close(WAIT).await.unwrap();
        check_complete_and_ordered(&read_all(&broker, &topic).await, 1, 20_000);
    }
}

/// `delivery.timeout.ms` passes while the broker answers nothing: the records fail and say so, and the next ones arrive.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_whose_time_is_over_fail_and_say_whether_they_may_be_in_the_log() {
    let port = free_port();
    let kafka = RealKafka::start(&Options::new().advertise(port));
    let proxy = Proxy::start_on(port, &kafka.address()).await;
    let settings = [("delivery.timeout.ms", "2000"), ("request.timeout.ms", "1000"), ("acks", "all")];
    let (producer, topic, id) = producer(&proxy.address(), 1, &settings).await;
    let send = |value: &str| producer.try_append_tracked(id, None, None, &Record::value(value)).unwrap();
    send("0:0").await.unwrap();
    proxy.set(Fault::CutAnswer);
    let start = Instant::now();
    let written = send("written, and nobody knows");
    tokio::time::sleep(Duration::from_millis(300)).await;
    let kept = send("behind it, and never sent");
    let error = written.await.unwrap_err();
    let after = start.elapsed();
    assert!(matches!(error, DeliveryError::TimedOut { possibly_written: true, .. }), "{error:?}");
    assert!(error.to_string().contains("delivery.timeout.ms=2000 (possibly written)"), "{error}");
    assert!(after > Duration::from_secs(2) && after < Duration::from_secs(5), "{after:?}");
    let error = kept.await.unwrap_err();
    assert!(matches!(error, DeliveryError::TimedOut { possibly_written: false, .. }), "{error:?}");
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert_eq!(producer.stats().records_failed, 2);
    proxy.set(Fault::None);
    send("0:1").await.unwrap();
    producer.close(WAIT).await.unwrap();
    let there = read_all(&proxy.address(), &topic).await;
    let texts: Vec<_> = there[0].iter().map(Stored::text).collect();
    assert_eq!(texts, ["0:0", "written, and nobody knows", "0:1"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_too_large_for_the_broker_is_split_and_a_record_too_large_is_named() {
    let kafka = RealKafka::start(&Options::new().property("message.max.bytes", "20000"));
    let broker = kafka.address();
    let (producer, topic, id) = producer(&broker, 1, &[("linger.ms", "200")]).await;
    let mut deliveries = Vec::new();
    for i in 0..2000 {
        let value = format!("0:{i}{}", ".".repeat(90));
        deliveries.push(producer.try_append_tracked(id, None, None, &Record::value(&value)).unwrap());
    }
    let large = vec![b'x'; 30_000];
    let too_large = producer.try_append_tracked(id, None, None, &Record::value(&large)).unwrap();
    for (i, delivery) in deliveries.into_iter().enumerate() {
        assert_eq!(delivery.await.unwrap().offset, i as i64);
    }
    let error = too_large.await.unwrap_err();
    assert!(matches!(error, DeliveryError::TooLarge { possibly_written: false, .. }), "{error:?}");
    assert!(error.to_string().contains("broker refuses "), "{error}");
    assert!(error.to_string().contains("raise max.message.bytes"), "{error}");
    let stats = producer.stats();
    assert!(stats.splits > 0 && stats.records_failed == 1, "{stats:?}");
    // What comes after is not held up, and is not split again.
    producer.try_append_tracked(id, None, None, &Record::value("0:2000")).unwrap().await.unwrap();
    producer.close(WAIT).await.unwrap();
    check_complete_and_ordered(&read_all(&broker, &topic).await, 1, 2001);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_over_the_limit_is_refused_or_dropped_as_set() {
    let broker = RealKafka::shared();
    let (producer, topic, id) = producer(broker, 1, &[]).await;
    let large = vec![0; 12_582_912];
    let error = producer.try_append(id, None, None, &Record::value(&large)).unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("Message of 12582912 bytes reaches batch-byte-limit 10485760 (topic {topic})")
    );
    producer.close(WAIT).await.unwrap();

    let (producer, _, id) = crate::support::producer(
        broker,
        1,
        &[("batch-fail-message-over-limit", "false"), ("batch-byte-limit", "1024"), ("batch.size", "1024")],
    )
    .await;
    producer.try_append(id, None, None, &Record::value(&[0; 1024])).unwrap();
    let error = producer.try_append_tracked(id, None, None, &Record::value(&[0; 1024])).err().unwrap();
    assert!(matches!(error, AppendError::TooLarge { bytes: 1024, limit: 1024, .. }));
    assert_eq!(producer.stats().records_dropped, 1);
    producer.close(WAIT).await.unwrap();
}
