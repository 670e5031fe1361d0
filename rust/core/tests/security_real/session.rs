//! Sessions that end every three seconds while records flow (KIP-368).

use std::time::{Duration, Instant};

use kafka_fast::consumer::{Consumer, GroupConf};
use kafka_fast::producer::Producer;
use kafka_fast::wire::Record;
use kafka_fast_testkit::{Proxy, unique};

use crate::support::*;

/// Several lifetimes of a session.
const RUN: Duration = Duration::from_secs(11);

/// Sends numbers for as long as a run is.
async fn send(producer: Producer, topic: String) -> u64 {
    let begin = Instant::now();
    let mut count = 0_u64;
    while begin.elapsed() < RUN {
        for _ in 0..20 {
            drop(producer.send(&topic, Record::value(&count.to_be_bytes())).await.unwrap());
            count += 1;
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    producer.flush().await.unwrap();
    assert_eq!(producer.stats().records_failed, 0);
    producer.close(WAIT).await.unwrap();
    count
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_renewed_under_load_and_nothing_is_lost_or_twice() {
    let broker = broker().await;
    let proxy = Proxy::start_on(broker.session, &broker.kafka.listener("SESSION")).await;
    let of = |mechanism, acks| {
        let secured = [("security.protocol", "SASL_SSL"), broker.trust(), ("acks", acks)];
        broker.config(&proxy.address(), &[&secured[..], &user(mechanism)].concat())
    };
    let (one, all) = (of("SCRAM-SHA-512", "1"), of("PLAIN", "all"));
    let topics = [new_topic(&one).await, new_topic(&all).await];
    let consumer =
        Consumer::connect(all.clone(), GroupConf::embedded(unique("group")), &[&topics[1]]).await.unwrap();
    let mut reader = consumer.reader();
    let reading = tokio::spawn(async move {
        let mut next = 0_u64;
        while let Some(message) = reader.next().await.unwrap() {
            assert_eq!(message.value.unwrap()[..], next.to_be_bytes(), "in order, each once");
            next += 1;
        }
        next
    });
    let producers =
        [Producer::connect(one.clone()).await.unwrap(), Producer::connect(all.clone()).await.unwrap()];
    let [first, second] = producers;
    let sent = [tokio::spawn(send(first, topics[0].clone())), tokio::spawn(send(second, topics[1].clone()))];
    // By now every connection there is to be has been made.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let connections = proxy.connections();
    let [one_sent, all_sent] = sent;
    let (one_sent, all_sent) = (one_sent.await.unwrap(), all_sent.await.unwrap());
    // Each of them has outlived three sessions at least. A request that a machine under load holds up for as long as the last
    // twentieth of such a short session is refused; that is rare.
    let replaced = proxy.connections() - connections;
    assert!(
        replaced * 3 <= connections,
        "{replaced} of {connections} connections were replaced, not renewed"
    );
    assert!(one_sent > 1000 && all_sent > 1000, "{one_sent} {all_sent}");
    tokio::time::sleep(Duration::from_millis(500)).await;
    consumer.close(WAIT).await.unwrap();
    let read = reading.await.unwrap();
    assert!(read <= all_sent);
    read_numbers(&one, &topics[0], one_sent).await;
    read_numbers(&all, &topics[1], all_sent).await;
}
