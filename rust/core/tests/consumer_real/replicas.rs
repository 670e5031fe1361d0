//! Records from a replica near by (KIP-392).

use std::time::Duration;

use kafka_fast_testkit::{Options, RealKafka, Version};

use crate::support::{Bench, SOON, Tally, read_all};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_come_from_the_replica_of_the_same_rack_and_from_the_leader_when_it_is_gone() {
    // Where there is a ZooKeeper a second broker starts in another way.
    if Version::under_test() == Version::V2_4 {
        return;
    }
    let selector = "org.apache.kafka.common.replica.RackAwareReplicaSelector";
    let options = |rack| {
        let options = Options::new().small().property("broker.rack", rack);
        options.property("replica.selector.class", selector).property("broker.session.timeout.ms", "3000")
    };
    let first = RealKafka::start(&options("a"));
    let second = RealKafka::start(&options("b").joins(&first));
    // The first broker is the controller too, so it is the second that goes away: the first one must lead.
    let bench = async {
        loop {
            let bench = Bench::at(&first.address(), 0).await;
            bench.cluster.create_topic(&bench.topic, 1, 2, SOON).await.unwrap();
            let meta = bench.cluster.topic(&bench.topic, SOON).await.unwrap();
            if meta.partitions[0].leader.is_some_and(|leader| leader.node == 1) {
                return bench;
            }
        }
    };
    let mut bench = tokio::time::timeout(SOON, bench).await.expect("brokers take turns to lead");
    bench.produce(0, 0, 2_000, 100).await;
    bench.conf.client_rack = "b".to_owned();
    let consumer = bench.consumer().await;
    let tally = Tally::default();
    let task = read_all(consumer.reader(), tally.clone(), Duration::ZERO);
    tally.reach(2_000, SOON).await;
    let stats = consumer.stats();
    assert!(
        stats.fetches_near > 0 && stats.fetches_near < stats.fetches,
        "the leader sends us there: {stats:?}"
    );

    tokio::task::spawn_blocking(move || drop(second)).await.unwrap();
    // With acks=all: until the cluster has noticed.
    bench.produce(0, 2_000, 2_000, 100).await;
    tally.reach(4_000, Duration::from_secs(60)).await;
    consumer.close(SOON).await.unwrap();
    task.await.unwrap();
    tally.assert_once(4_000);
}
