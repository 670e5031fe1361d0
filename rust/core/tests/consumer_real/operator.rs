//! An operator moves a group: by Kafka's tools, and by a seek.
//!
//! What a tool does is an OffsetCommit without a member and with an empty text; `brokers_real` and Java's `OperatorTest` let the real
//! ones do it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kafka_fast::cluster::OffsetCommit;
use kafka_fast::config::Config;
use kafka_fast::consumer::{Consumer, Event, Reader, SeekError};
use kafka_fast_testkit::RedisOptions;

use crate::logs;
use crate::redis::InRedis;
use crate::support::{SOON, Tally, next, read_all};

impl InRedis {
    /// As `kafka-consumer-groups --reset-offsets --to-offset`.
    async fn reset(&self, partition: i32, offset: i64) {
        self.commit(partition, offset, "").await;
    }

    async fn commit(&self, partition: i32, offset: i64, metadata: &str) {
        let topic: Arc<str> = self.bench.topic.as_str().into();
        let commit =
            OffsetCommit { topic, partition, offset, leader_epoch: -1, metadata: metadata.to_owned() };
        let outcomes = self.bench.cluster.commit_offsets(&self.bench.group, &[commit], SOON).await.unwrap();
        assert_eq!(outcomes[0].2, Ok(()));
    }

    /// A group that has handled 100 records of partition 0, whose members have all left.
    async fn stopped_at_100() -> Self {
        let all = Self::new(1, &RedisOptions::new()).await;
        all.bench.produce(0, 0, 100, 10).await;
        let consumer = all.consumer().await;
        let tally = Tally::default();
        read_all(consumer.reader(), tally.clone(), Duration::ZERO);
        tally.reach(100, SOON).await;
        consumer.close(SOON).await.unwrap();
        all.committed_is(0, 100).await;
        all
    }

    /// A configuration whose members are known to be dead after less than a second.
    fn brisk(&self) -> Config {
        let mut conf = self.bench.conf.clone();
        conf.heartbeat = Duration::from_millis(250);
        conf
    }
}

/// How often each offset of partition 0 was read.
#[derive(Clone, Default)]
struct Offsets(Arc<Mutex<BTreeMap<i64, u32>>>);

impl Offsets {
    fn read(&self, mut reader: Reader) {
        let seen = Arc::clone(&self.0);
        tokio::spawn(async move {
            while let Some(message) = reader.next().await.unwrap() {
                *seen.lock().unwrap().entry(message.offset).or_default() += 1;
            }
        });
    }

    /// Waits until every offset of `from..to` was read, and nothing else ever is.
    async fn are(&self, from: i64, to: i64) {
        let deadline = Instant::now() + SOON;
        let expected: BTreeMap<i64, u32> = (from..to).map(|offset| (offset, 1)).collect();
        while (self.0.lock().unwrap().len() as i64) < to - from {
            assert!(Instant::now() < deadline, "{:?}", self.0.lock().unwrap());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(*self.0.lock().unwrap(), expected);
        self.0.lock().unwrap().clear();
    }
}

/// Waits for a line with all of these words.
async fn logged(words: &[&str], within: Duration) {
    let deadline = Instant::now() + within;
    while logs::with(words).is_empty() {
        assert!(Instant::now() < deadline, "no line with {words:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn sought(consumer: &Consumer) -> (i64, i64) {
    let told = async {
        loop {
            if let Event::Sought { from, to, .. } = consumer.event().await.expect("it is open") {
                return (from, to);
            }
        }
    };
    tokio::time::timeout(SOON, told).await.expect("it is told in time")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_of_a_stopped_group_is_applied_once() {
    logs::keep();
    let all = InRedis::stopped_at_100().await;
    all.reset(0, 10).await;
    let consumer = all.consumer().await;
    let commit = all.committed(0).await.unwrap();
    assert!(
        commit.offset == 10 && commit.metadata.starts_with("kf"),
        "at once, as the group's own: {commit:?}"
    );
    let offsets = Offsets::default();
    offsets.read(consumer.reader());
    offsets.are(10, 100).await;
    assert_eq!(sought(&consumer).await, (100, 10));
    logged(&[&all.bench.group, "goes on at 10", "stood at 100"], SOON).await;
    consumer.close(SOON).await.unwrap();
    all.committed_is(0, 100).await;
    // Who comes next finds nothing that is foreign.
    let consumer = all.consumer().await;
    offsets.read(consumer.reader());
    all.bench.produce(0, 100, 1, 1).await;
    offsets.are(100, 101).await;
    consumer.close(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_that_start_at_once_apply_a_reset_once() {
    let all = InRedis::stopped_at_100().await;
    for (to, metadata) in [(10, String::new()), (40, all.committed(0).await.unwrap().metadata)] {
        // The second time the text is kept and the offset moved, as some tools do.
        all.commit(0, to, &metadata).await;
        let join = || all.consumer_with(all.brisk());
        let (one, two, three) = tokio::join!(join(), join(), join());
        let consumers = [one, two, three];
        let offsets = Offsets::default();
        consumers.iter().for_each(|consumer| offsets.read(consumer.reader()));
        offsets.are(to, 100).await;
        for consumer in &consumers {
            consumer.close(SOON).await.unwrap();
        }
        all.committed_is(0, 100).await;
    }
}

/// The log ends before: a fetch from there would be out of range.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_beyond_the_log_goes_to_its_end() {
    logs::keep();
    let all = InRedis::stopped_at_100().await;
    all.bench.produce(0, 100, 50, 10).await;
    all.reset(0, 1_000).await;
    let consumer = all.consumer().await;
    all.committed_is(0, 150).await;
    logged(&[&all.bench.group, "goes on at 150", "its log has no 1000"], SOON).await;
    let offsets = Offsets::default();
    offsets.read(consumer.reader());
    all.bench.produce(0, 150, 5, 1).await;
    offsets.are(150, 155).await;
    consumer.close(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_under_a_live_group_is_said_and_not_applied() {
    logs::keep();
    let all = InRedis::stopped_at_100().await;
    let consumer = all.consumer().await;
    let offsets = Offsets::default();
    offsets.read(consumer.reader());
    all.reset(0, 10).await;
    // Somebody who joins meanwhile applies it no more than those who are there.
    let other = all.consumer_with(all.brisk()).await;
    offsets.read(other.reader());
    logged(&[&all.bench.group, "to 10 (the group stands at 100)", "not applied"], SOON).await;
    all.bench.produce(0, 100, 10, 1).await;
    offsets.are(100, 110).await;
    all.committed_is(0, 110).await;
    // Again and again: half a minute has one line.
    let count = || logs::with(&[&all.bench.group, "not applied"]).len();
    let before = count();
    all.reset(0, 20).await;
    all.bench.produce(0, 110, 1, 1).await;
    all.committed_is(0, 111).await;
    all.reset(0, 30).await;
    all.bench.produce(0, 111, 1, 1).await;
    all.committed_is(0, 112).await;
    assert!(count() <= before + 1, "{:?}", logs::with(&[&all.bench.group, "not applied"]));
    consumer.close(SOON).await.unwrap();
    other.close(SOON).await.unwrap();
}

/// What the tool says of a topic that nobody reads now waits for who does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_of_a_topic_that_nobody_reads_waits_for_who_does() {
    let all = InRedis::stopped_at_100().await;
    let other = kafka_fast_testkit::unique("topic");
    all.bench.cluster.create_topic(&other, 1, 1, SOON).await.unwrap();
    all.bench.cluster.topic(&other, SOON).await.unwrap();
    let consumer = Consumer::connect(all.bench.conf.clone(), all.group(), &[&other]).await.unwrap();
    all.reset(0, 10).await;
    // It commits everything, changed or not, when it becomes the organiser, and when it ends.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(all.committed(0).await.unwrap().offset, 10, "nobody overwrites it");
    let late = Consumer::connect(all.bench.conf.clone(), all.group(), &[&other]).await.unwrap();
    late.close(SOON).await.unwrap();
    assert_eq!(all.committed(0).await.unwrap().offset, 10, "nor who ends");
    consumer.add_topics(&[&all.bench.topic]).await.unwrap();
    let offsets = Offsets::default();
    offsets.read(consumer.reader());
    offsets.are(10, 100).await;
    // Left and reset again in the same process.
    consumer.remove_topics(&[&all.bench.topic]).await.unwrap();
    all.committed_is(0, 100).await;
    all.reset(0, 70).await;
    consumer.add_topics(&[&all.bench.topic]).await.unwrap();
    offsets.are(70, 100).await;
    consumer.close(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_lost_goes_on_where_an_operator_said() {
    let all = InRedis::stopped_at_100().await;
    all.redis.flush_all();
    all.reset(0, 10).await;
    let join = || all.consumer_with(all.brisk());
    let (one, two) = tokio::join!(join(), join());
    let consumers = [one, two];
    let commit = all.committed(0).await.unwrap();
    assert!(commit.offset == 10 && commit.metadata.starts_with("kf"), "{commit:?}");
    let offsets = Offsets::default();
    consumers.iter().for_each(|consumer| offsets.read(consumer.reader()));
    offsets.are(10, 100).await;
    for consumer in &consumers {
        consumer.close(SOON).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seek_moves_a_live_group_and_is_not_lost_with_redis() {
    logs::keep();
    let all = InRedis::stopped_at_100().await;
    let (one, two) = (all.consumer_with(all.brisk()).await, all.consumer_with(all.brisk()).await);
    let offsets = Offsets::default();
    offsets.read(one.reader());
    offsets.read(two.reader());
    one.seek(&all.bench.topic, 0, 10).await.unwrap();
    let commit = all.committed(0).await.unwrap();
    assert!((10..=100).contains(&commit.offset) && commit.metadata.starts_with("kf"), "{commit:?}");
    offsets.are(10, 100).await;
    // Forward, and to the end.
    two.seek(&all.bench.topic, 0, 100).await.unwrap();
    all.committed_is(0, 100).await;
    for (partition, offset, text) in [
        (0, 101, "has no offset 101: its log begins at 0 and ends at 100"),
        (0, -1, "has no offset -1: its log begins at 0 and ends at 100"),
        (7, 0, "there is no partition 7"),
    ] {
        let error = one.seek(&all.bench.topic, partition, offset).await.unwrap_err();
        assert!(error.to_string().contains(text), "{error}");
    }
    let unknown = one.seek("no-such-topic", 0, 0).await.unwrap_err();
    assert!(matches!(unknown, SeekError::UnknownTopic { .. }), "{unknown}");
    // Nobody handles anything between the seek and the loss, so that all of it must come.
    one.close(SOON).await.unwrap();
    two.close(SOON).await.unwrap();
    let quiet = all.consumer_with(all.brisk()).await;
    quiet.seek(&all.bench.topic, 0, 60).await.unwrap();
    all.redis.flush_all();
    offsets.read(quiet.reader());
    offsets.are(60, 100).await;
    quiet.close(SOON).await.unwrap();
    assert!(logs::with(&[&all.bench.topic, "not this consumer's any more"]).is_empty());
    let closed = quiet.seek(&all.bench.topic, 0, 60).await.unwrap_err();
    assert!(matches!(closed, SeekError::Closed), "{closed}");
}

/// What a reader has in hands when its consumer seeks counts for nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_seek_drops_what_is_held_without_a_word() {
    logs::keep();
    let all = InRedis::new(1, &RedisOptions::new()).await;
    all.bench.produce(0, 0, 100, 10).await;
    let consumer = all.consumer_with(all.brisk()).await;
    let mut reader = consumer.reader();
    for offset in 0..30 {
        assert_eq!(next(&mut reader).await.offset, offset);
    }
    consumer.seek(&all.bench.topic, 0, 5).await.unwrap();
    let again = next(&mut reader).await;
    assert_eq!((again.offset, again.attempt), (5, 1));
    for offset in 6..100 {
        assert_eq!(next(&mut reader).await.offset, offset);
    }
    drop(reader);
    tokio::time::sleep(Duration::from_millis(600)).await;
    let stats = consumer.stats();
    assert_eq!(stats.units_fenced, 0, "{stats:?}");
    let mut events = std::iter::from_fn(|| consumer.try_event());
    assert!(!events.any(|event| matches!(event, Event::Fenced { .. })));
    consumer.close(SOON).await.unwrap();
    assert!(logs::with(&[&all.bench.topic, "not this consumer's any more"]).is_empty());
}
