//! The network cuts connections, and each new one is secured as the first was.

use std::time::Duration;

use kafka_fast::cluster::Cluster;
use kafka_fast::producer::Producer;
use kafka_fast::wire::Record;
use kafka_fast_testkit::{Fault, Proxy};

use crate::support::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_behind_a_proxy_that_closes_every_connection_at_first_is_found() {
    let broker = broker().await;
    let proxy = Proxy::start(&broker.kafka.listener("TLS")).await;
    proxy.set(Fault::Cut);
    let conf = broker.config(&proxy.address(), &[("security.protocol", "SSL"), broker.trust()]);
    let connecting = tokio::spawn(async move { Cluster::connect(&conf).await });
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert!(proxy.connections() >= 2, "it is tried again");
    proxy.set(Fault::None);
    connecting.await.unwrap().unwrap_or_else(|e| panic!("{e}")).close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_secured_connection_that_was_cut_is_made_again_and_one_that_stood_still_goes_on() {
    const ROUNDS: u64 = 6;
    const EACH: u64 = 500;
    const LARGE: u64 = 30;
    let broker = broker().await;
    let proxy = Proxy::start_on(broker.proxied, &broker.kafka.listener("PROXIED")).await;
    let secured = [&[("security.protocol", "SASL_SSL"), broker.trust()], &user("SCRAM-SHA-256")[..]].concat();
    let conf = broker.config(&proxy.address(), &[&secured[..], &[("acks", "all")]].concat());
    let topic = new_topic(&conf).await;
    let producer = Producer::connect(conf.clone()).await.unwrap();
    let before = proxy.connections();
    for round in 0..ROUNDS {
        for number in round * EACH..(round + 1) * EACH {
            drop(producer.send(&topic, Record::value(&number.to_be_bytes())).await.unwrap());
            if number % EACH == EACH / 2 {
                proxy.set(Fault::Cut);
                tokio::time::sleep(Duration::from_millis(50)).await;
                proxy.set(Fault::None);
            }
        }
        producer.flush().await.unwrap();
    }
    // The network stands still while far more is written than fits into it: nothing of it may be left behind.
    proxy.set(Fault::Stall);
    for number in ROUNDS * EACH..ROUNDS * EACH + LARGE {
        let mut value = vec![b'.'; 400_000];
        value[..8].copy_from_slice(&number.to_be_bytes());
        drop(producer.send(&topic, Record::value(&value)).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    proxy.set(Fault::None);
    producer.flush().await.unwrap();
    producer.close(WAIT).await.unwrap();
    assert!(proxy.connections() >= before + ROUNDS, "{} connections", proxy.connections());
    read_numbers(&conf, &topic, ROUNDS * EACH + LARGE).await;
}
