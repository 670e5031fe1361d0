//! Brokers of another cluster behind the addresses that are used.

use std::time::{Duration, Instant};

use kafka_fast::cluster::{Cluster, Purpose};
use kafka_fast::config::{Codec, Config};
use kafka_fast::consumer::{Consumer, ConsumerError, GroupConf, ReadError};
use kafka_fast::error::ErrorKind;
use kafka_fast::wire::{BatchBuilder, Record};
use kafka_fast::{Producer, net};
use kafka_fast_testkit::fake::{Api, FakeKafka};
use kafka_fast_testkit::unique;

const TOPIC: &str = "t";
const SOON: Duration = Duration::from_secs(15);

fn conf(fake: &FakeKafka) -> Config {
    let mut conf = Config::with_bootstrap(&fake.address()).unwrap();
    conf.use_earliest = true;
    conf
}

/// A topic with ten records `{name}-{offset}`.
fn fill(fake: &FakeKafka, name: &str) {
    fake.create_topic(TOPIC, 1);
    let mut batch = BatchBuilder::with_capacity(1 << 10);
    for offset in 0..10 {
        batch.append(1, &Record::value(&format!("{name}-{offset}")));
    }
    fake.append(TOPIC, 0, &batch.seal(Codec::None).finish());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_stops_before_it_reads_or_tells_anything_of_another_cluster() {
    let fake = FakeKafka::start(2).await;
    fill(&fake, "old");
    let before = fake.cluster_id();
    let group = GroupConf::embedded(unique("group"));
    let consumer = Consumer::connect(conf(&fake), group.clone(), &[TOPIC]).await.unwrap();
    let mut reader = consumer.reader();
    for offset in 0..5 {
        let message = tokio::time::timeout(SOON, reader.next()).await.unwrap().unwrap().unwrap();
        assert_eq!(message.value.unwrap(), format!("old-{offset}").as_bytes());
    }
    fake.replace_cluster("rebuilt");
    fill(&fake, "new");
    let asked = fake.asked().len();
    // The record in hand is handled; what was fetched before may still come.
    let error = loop {
        match tokio::time::timeout(SOON, reader.next()).await.expect("it stops") {
            Ok(Some(message)) => {
                let value = String::from_utf8(message.value.unwrap().to_vec()).unwrap();
                assert!(value.starts_with("old-"), "{value} is of another cluster");
            }
            Ok(None) => panic!("it ended without a word"),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, ReadError::OtherCluster { .. }) && error.kind() == ErrorKind::Group, "{error}");
    let text = error.to_string();
    assert!(
        text.contains(&format!(
            "is of Kafka cluster rebuilt, and this consumer reads Kafka cluster {before}"
        )) && text.contains(group.group())
            && text.contains("Consumer.deleteGroup"),
        "{text}"
    );
    consumer.close(SOON).await.unwrap();
    let asked = fake.asked().split_off(asked);
    let told = |api| asked.iter().any(|asked| asked.api == api);
    assert!(!told(Api::Fetch) && !told(Api::ListOffsets) && !told(Api::OffsetCommit), "{asked:?}");
    // Of an embedded group there is one for each cluster, and of the new one nothing was read.
    let consumer = Consumer::connect(conf(&fake), group, &[TOPIC]).await.unwrap();
    let message = tokio::time::timeout(SOON, consumer.reader().next()).await.unwrap().unwrap().unwrap();
    assert_eq!(message.value.unwrap(), "new-0".as_bytes());
    consumer.close(SOON).await.unwrap();
}

/// Without looking at metadata first.
#[tokio::test]
async fn a_connection_to_another_cluster_carries_nothing() {
    let fake = FakeKafka::start(2).await;
    let cluster = Cluster::connect_to_one(&conf(&fake)).await.unwrap();
    cluster.connection(2, Purpose::Fetch).await.unwrap();
    assert!(!cluster.has_met_another());
    let (before, address) = (fake.cluster_id(), fake.address_of(2));
    fake.replace_cluster("rebuilt");
    let deadline = Instant::now() + SOON;
    let error = loop {
        // The old connection may not have heard yet that it is over, and then it is left alone for a moment.
        match cluster.connection(2, Purpose::Fetch).await {
            Err(error) if cluster.has_met_another() => break error.to_string(),
            _ => assert!(Instant::now() < deadline, "a broker of another cluster is spoken with"),
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let expected =
        format!("{address} is of Kafka cluster rebuilt, and this consumer reads Kafka cluster {before}");
    assert!(error.contains(&expected), "{error}");
    let met = tokio::time::timeout(SOON, cluster.until_another()).await.unwrap();
    assert!(matches!(*met, net::ConnectError::OtherCluster { .. }), "{met}");
    assert_eq!(cluster.cluster_id().as_deref(), Some(&*before));
}

/// As kafka-clients: its records are for whoever is behind the addresses.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_goes_on_with_another_cluster() {
    let fake = FakeKafka::start(2).await;
    fake.create_topic(TOPIC, 1);
    let producer = Producer::connect(conf(&fake)).await.unwrap();
    producer.send(TOPIC, Record::value("old")).await.unwrap().await.unwrap();
    fake.replace_cluster("rebuilt");
    fake.create_topic(TOPIC, 1);
    let delivery = producer.send(TOPIC, Record::value("new")).await.unwrap();
    assert_eq!(tokio::time::timeout(SOON, delivery).await.unwrap().unwrap().offset, 0);
    producer.close(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedded_group_can_be_deleted_by_its_name() {
    let fake = FakeKafka::start(1).await;
    fill(&fake, "old");
    let group = GroupConf::embedded(unique("group"));
    Consumer::delete_group(&group).await.unwrap();
    let consumer = Consumer::connect(conf(&fake), group.clone(), &[TOPIC]).await.unwrap();
    let mut reader = consumer.reader();
    reader.next().await.unwrap().unwrap();
    Consumer::delete_group(&group).await.unwrap();
    let error = loop {
        match tokio::time::timeout(SOON, reader.next()).await.expect("it is told") {
            Ok(message) => _ = message.expect("it is not closed"),
            Err(error) => break error,
        }
    };
    assert!(error.to_string().contains("the group was deleted"), "{error}");
    drop(reader);
    let again = Consumer::connect(conf(&fake), group, &[TOPIC]).await.unwrap();
    let message = again.reader().next().await.unwrap().unwrap();
    assert_eq!(message.offset, 0);
    let closed: Result<(), ConsumerError> = again.add_topics(&["other"]).await;
    closed.unwrap();
    again.close(SOON).await.unwrap();
}
