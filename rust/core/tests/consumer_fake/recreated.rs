//! Topics that are deleted and created again while they are read and written: the new one has another id, an empty log, and
//! leader epochs from 0.

use std::time::{Duration, Instant};

use kafka_fast::config::{Codec, Config};
use kafka_fast::producer::AppendError;
use kafka_fast::wire::{BatchBuilder, Batches, RecordRef};
use kafka_fast::{Consumer, GroupConf, Producer, Reader, Record};
use kafka_fast_testkit::fake::{Api, Asked, FakeKafka};
use kafka_fast_testkit::unique;

const TOPIC: &str = "t";
/// A consumer looks every 2 s whether its topics were created again.
const SOON: Duration = Duration::from_secs(15);

/// Brokers that have topics in Produce and Fetch by name, or by id, of which an old one is refused.
async fn cluster(by_id: bool) -> FakeKafka {
    let fake = FakeKafka::start(2).await;
    if by_id {
        fake.speak_topic_ids();
    }
    fake
}

/// Where a record lies, and its value.
type Found = ((i32, i64), String);

/// Records `{name}-{offset}` from the start of a partition, in one batch.
fn fill(fake: &FakeKafka, name: &str, partition: i32, count: i64) -> Vec<Found> {
    let mut batch = BatchBuilder::with_capacity(1 << 10);
    let value = |offset: i64| format!("{name}-{partition}-{offset}");
    for offset in 0..count {
        batch.append(1, &Record::value(&value(offset)));
    }
    fake.append(TOPIC, partition as usize, &batch.seal(Codec::None).finish());
    (0..count).map(|offset| ((partition, offset), value(offset))).collect()
}

async fn consumer(fake: &FakeKafka) -> (Consumer, Reader) {
    let mut conf = Config::with_bootstrap(&fake.address()).unwrap();
    conf.use_earliest = true;
    let consumer = Consumer::connect(conf, GroupConf::embedded(unique("group")), &[TOPIC]).await.unwrap();
    let reader = consumer.reader();
    (consumer, reader)
}

/// Reads until each of `expected` was there, each once and nothing else.
async fn reads(reader: &mut Reader, mut expected: Vec<Found>) {
    let mut found = Vec::new();
    while found.len() < expected.len() {
        let next = tokio::time::timeout(SOON, reader.next()).await;
        let next = next.unwrap_or_else(|_| panic!("of {expected:?} only {found:?} came"));
        let message = next.unwrap().expect("it is not closed");
        let value = String::from_utf8(message.value.expect("it has a value").to_vec()).unwrap();
        found.push(((message.partition, message.offset), value));
    }
    found.sort();
    expected.sort();
    assert_eq!(found, expected);
}

/// Nothing comes any more.
async fn is_quiet(reader: &mut Reader) {
    let next = tokio::time::timeout(Duration::from_millis(500), reader.next()).await;
    assert!(next.is_err(), "{next:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_created_again_is_read_from_its_start() {
    is_read_from_its_start(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_with_another_id_is_read_from_its_start() {
    is_read_from_its_start(true).await;
}

async fn is_read_from_its_start(by_id: bool) {
    let fake = cluster(by_id).await;
    fake.create_topic(TOPIC, 1);
    // The topic created again has another leader, in an older epoch.
    fake.create_topic("other", 1);
    fake.move_leader(TOPIC, 0, 2);
    fake.move_leader(TOPIC, 0, 1);
    let (consumer, mut reader) = consumer(&fake).await;
    let old = fill(&fake, "old", 0, 10);
    reads(&mut reader, old).await;
    is_quiet(&mut reader).await;
    fake.recreate_topic(TOPIC, 1);
    let new = fill(&fake, "new", 0, 10);
    reads(&mut reader, new).await;
    is_quiet(&mut reader).await;
    drop(reader);
    consumer.close(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_with_other_partitions_than_before_is_read_whole() {
    is_read_whole(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_with_another_id_and_other_partitions_is_read_whole() {
    is_read_whole(true).await;
}

async fn is_read_whole(by_id: bool) {
    let fake = cluster(by_id).await;
    fake.create_topic(TOPIC, 3);
    let (consumer, mut reader) = consumer(&fake).await;
    let all = |name: &str, partitions: i32| -> Vec<Found> {
        (0..partitions).flat_map(|partition| fill(&fake, name, partition, 4)).collect()
    };
    reads(&mut reader, all("three", 3)).await;
    for (name, partitions) in [("one", 1), ("five", 5), ("two", 2)] {
        is_quiet(&mut reader).await;
        fake.recreate_topic(TOPIC, partitions as usize);
        reads(&mut reader, all(name, partitions)).await;
    }
    is_quiet(&mut reader).await;
    drop(reader);
    consumer.close(SOON).await.unwrap();
}

/// It claims units of the new topic, as the other member has told the group of that, and has their offsets of the old one in its cache.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_member_that_has_read_ahead_hands_out_nothing_of_the_old_topic() {
    let fake = cluster(true).await;
    fake.create_topic(TOPIC, 1);
    let mut conf = Config::with_bootstrap(&fake.address()).unwrap();
    (conf.use_earliest, conf.consume_step) = (true, 10);
    let group = GroupConf::embedded(unique("group"));
    let connect = || Consumer::connect(conf.clone(), group.clone(), &[TOPIC]);
    let next = async |reader: &mut Reader| {
        let next = tokio::time::timeout(SOON, reader.next()).await.expect("there is more");
        let message = next.unwrap().expect("it is not closed");
        (message.offset, String::from_utf8(message.value.unwrap().to_vec()).unwrap())
    };
    let old = connect().await.unwrap();
    let mut reads_ahead = old.reader();
    fill(&fake, "old", 0, 1_000);
    for offset in 0..5 {
        assert_eq!(next(&mut reads_ahead).await, (offset, format!("old-0-{offset}")));
    }
    fake.recreate_topic(TOPIC, 1);
    fill(&fake, "new", 0, 1_000);
    let new = connect().await.unwrap();
    let mut reads = new.reader();
    let mut found = std::collections::BTreeSet::new();
    while found.len() < 100 {
        let (offset, value) = next(&mut reads).await;
        assert_eq!(value, format!("new-0-{offset}"));
        found.insert(offset);
    }
    for _ in 0..300 {
        let (offset, value) = next(&mut reads_ahead).await;
        // It may still have units of the old one, which begins at 0. Of the new one it is given none of these.
        if offset >= 100 || !value.starts_with("old") {
            assert_eq!(value, format!("new-0-{offset}"), "handed out for a unit of the new topic");
            found.insert(offset);
        }
    }
    drop(reads);
    new.close(SOON).await.unwrap();
    while found.len() < 1_000 {
        let (offset, value) = next(&mut reads_ahead).await;
        assert_eq!(value, format!("new-0-{offset}"));
        found.insert(offset);
    }
    drop(reads_ahead);
    old.close(SOON).await.unwrap();
}

/// All values of the topic's log.
fn values(fake: &FakeKafka, partitions: usize) -> Vec<String> {
    let stored = (0..partitions).flat_map(|partition| fake.log(TOPIC, partition));
    let mut values = Vec::new();
    for batch in stored.flat_map(|stored| Batches::new(stored.bytes)) {
        let open = batch.unwrap().open(1 << 20).unwrap();
        let value = |record: RecordRef<'_>| String::from_utf8(record.value.unwrap().to_vec()).unwrap();
        values.extend(open.records().map(|record| value(record.unwrap())));
    }
    values.sort();
    values
}

/// Sends so many records, each when the one before is acknowledged.
async fn send(producer: &Producer, name: &str, count: usize) -> Vec<String> {
    let values: Vec<_> = (0..count).map(|i| format!("{name}-{i:03}")).collect();
    for value in &values {
        let delivery = producer.send(TOPIC, Record::value(value)).await.unwrap();
        let end = tokio::time::timeout(SOON, delivery).await;
        end.unwrap_or_else(|_| panic!("{value} was not acknowledged")).unwrap();
    }
    values
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_goes_on_with_the_topic_created_again() {
    goes_on(false).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_goes_on_with_the_topics_other_id() {
    goes_on(true).await;
}

async fn goes_on(by_id: bool) {
    let fake = cluster(by_id).await;
    fake.create_topic(TOPIC, 2);
    // The topic created again has other leaders, in an older epoch.
    fake.create_topic("other", 1);
    for partition in 0..2 {
        fake.move_leader(TOPIC, partition, 2);
        fake.move_leader(TOPIC, partition, 1);
    }
    let producer = Producer::connect(Config::with_bootstrap(&fake.address()).unwrap()).await.unwrap();
    let old = send(&producer, "old", 20).await;
    assert_eq!(values(&fake, 2), old);
    // As many partitions, and more.
    for (name, partitions) in [("two", 2), ("four", 4)] {
        fake.recreate_topic(TOPIC, partitions);
        let new = send(&producer, name, 60).await;
        assert_eq!(values(&fake, partitions), new);
    }
    let is_of_old_id = |asked: &Asked| asked.api == Api::Produce && asked.topic.is_empty();
    assert_eq!(fake.asked().iter().any(is_of_old_id), by_id);
    producer.close(SOON).await.unwrap();
}

/// Records that are on their way to partitions that are gone wait for them, as long as records do; new ones go elsewhere.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_appends_nothing_to_partitions_that_are_gone() {
    let fake = FakeKafka::start(2).await;
    fake.create_topic(TOPIC, 4);
    let mut conf = Config::with_bootstrap(&fake.address()).unwrap();
    conf.set("delivery.timeout.ms", "3000").unwrap();
    let producer = Producer::connect(conf).await.unwrap();
    send(&producer, "old", 20).await;
    fake.recreate_topic(TOPIC, 1);
    let topic = producer.topic(TOPIC).await.unwrap();
    // What comes to where nothing is any more lets the producer know, and is not delivered.
    let lost = producer.try_append_tracked(topic, Some(3), None, &Record::value("lost")).unwrap();
    let deadline = Instant::now() + SOON;
    while producer.try_append(topic, Some(3), None, &Record::value("lost")).is_ok() {
        assert!(Instant::now() < deadline, "partition 3 is there for ever");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let mut new = send(&producer, "new", 20).await;
    for i in 0..20 {
        let (key, value) = (format!("key-{i}"), format!("with-key-{i:03}"));
        producer.send(TOPIC, Record::keyed(&key, &value)).await.unwrap().await.unwrap();
        new.push(value);
    }
    assert_eq!(values(&fake, 1), new);
    let told = producer.try_append(topic, Some(1), None, &Record::value("nowhere")).unwrap_err();
    assert!(matches!(told, AppendError::NoSuchPartition { partition: 1, partitions: 1, .. }), "{told}");
    lost.await.unwrap_err();
    // And to those that are there again.
    fake.recreate_topic(TOPIC, 4);
    new = send(&producer, "four", 60).await;
    assert_eq!(values(&fake, 4), new);
    producer.close(SOON).await.unwrap();
}
