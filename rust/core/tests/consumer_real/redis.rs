//! A group in a real Redis that goes away, loses what it had, or is older than it was.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_fast::cluster::CommittedOffset;
use kafka_fast::config::{Config, RedisConf};
use kafka_fast::consumer::{Consumer, GroupConf};
use kafka_fast_testkit::{RealRedis, RedisOptions};

use crate::logs;
use crate::support::{Bench, SOON, Tally, number, read_all};

/// A topic, and a group of it in a Redis of the test's own.
pub(crate) struct InRedis {
    pub(crate) bench: Bench,
    pub(crate) redis: RealRedis,
}

impl InRedis {
    pub(crate) async fn new(partitions: i32, options: &RedisOptions) -> Self {
        let mut bench = Bench::new(partitions).await;
        bench.conf.offset_commit_freq = Duration::from_millis(300);
        Self { bench, redis: RealRedis::start(options) }
    }

    pub(crate) fn group(&self) -> GroupConf {
        GroupConf::redis(RedisConf::new("127.0.0.1", self.redis.port(), self.bench.group.as_str()))
    }

    pub(crate) async fn consumer_with(&self, conf: Config) -> Consumer {
        Consumer::connect(conf, self.group(), &[&self.bench.topic]).await.unwrap()
    }

    pub(crate) async fn consumer(&self) -> Consumer {
        self.consumer_with(self.bench.conf.clone()).await
    }

    pub(crate) async fn committed(&self, partition: i32) -> Option<CommittedOffset> {
        let group: Arc<str> = self.bench.group.as_str().into();
        let asked = [(Arc::from(&*self.bench.topic), partition)];
        self.bench
            .cluster
            .committed_offsets(&group, &asked, SOON)
            .await
            .unwrap()
            .into_iter()
            .find(|commit| commit.offset >= 0)
    }

    /// Waits until Kafka knows that all below `offset` is handled.
    pub(crate) async fn committed_is(&self, partition: i32, offset: i64) {
        let deadline = Instant::now() + SOON;
        loop {
            let commit = self.committed(partition).await;
            if commit.as_ref().is_some_and(|commit| commit.offset == offset) {
                return;
            }
            assert!(Instant::now() < deadline, "{commit:?}, expected {offset}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_consumers_share_a_partition_and_kafka_knows_where_they_are() {
    let all = InRedis::new(1, &RedisOptions::new()).await;
    let (one, other) = (all.consumer().await, all.consumer().await);
    assert_eq!(all.committed(0).await.map(|commit| commit.offset), Some(0), "from the first moment");
    let tally = Tally::default();
    let work = Duration::from_micros(200);
    let tasks = [read_all(one.reader(), tally.clone(), work), read_all(other.reader(), tally.clone(), work)];
    all.bench.produce(0, 0, 5_000, 100).await;
    tally.reach(5_000, SOON).await;
    all.committed_is(0, 5_000).await;
    one.close(SOON).await.unwrap();
    other.close(SOON).await.unwrap();
    for task in tasks {
        assert!(task.await.unwrap() > 500, "both have work");
    }
    tally.assert_once(5_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn redis_away_for_20_seconds_loses_and_repeats_nothing() {
    let mut all = InRedis::new(2, &RedisOptions::new().append_only()).await;
    let (one, other) = (all.consumer().await, all.consumer().await);
    let tally = Tally::default();
    let work = Duration::from_micros(500);
    for consumer in [&one, &other] {
        read_all(consumer.reader(), tally.clone(), work);
        read_all(consumer.reader(), tally.clone(), work);
    }
    all.bench.produce(0, 0, 5_000, 100).await;
    all.bench.produce(1, 5_000, 5_000, 100).await;
    tally.reach(2_000, SOON).await;
    all.redis.stop();
    all.bench.produce(0, 10_000, 1_000, 100).await;
    tokio::time::sleep(Duration::from_secs(20)).await;
    let meanwhile = tally.len();
    all.redis.start_again();
    tally.reach(11_000, SOON).await;
    one.close(SOON).await.unwrap();
    other.close(SOON).await.unwrap();
    println!("{meanwhile} read when Redis came back");
    tally.assert_once(11_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_lost_everything_goes_on_from_the_commits() {
    let all = InRedis::new(2, &RedisOptions::new()).await;
    let consumer = all.consumer().await;
    let tally = Tally::default();
    read_all(consumer.reader(), tally.clone(), Duration::ZERO);
    all.bench.produce(0, 0, 1_000, 100).await;
    all.bench.produce(1, 1_000, 500, 100).await;
    tally.reach(1_500, SOON).await;
    all.committed_is(0, 1_000).await;
    all.committed_is(1, 500).await;
    all.redis.flush_all();
    all.bench.produce(0, 1_500, 100, 100).await;
    tally.reach(1_600, SOON).await;
    consumer.close(SOON).await.unwrap();
    // All was committed: nothing comes twice.
    tally.assert_once(1_600);
}

/// A group that reads what is new only, and that Redis lost: nothing is skipped, and nobody says so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_loss_it_is_said_that_positions_come_from_the_commits() {
    logs::keep();
    let all = InRedis::new(1, &RedisOptions::new()).await;
    let mut conf = all.bench.conf.clone();
    conf.use_earliest = false;
    let consumer = all.consumer_with(conf).await;
    let tally = Tally::default();
    read_all(consumer.reader(), tally.clone(), Duration::ZERO);
    all.bench.produce(0, 0, 300, 100).await;
    tally.reach(300, SOON).await;
    all.committed_is(0, 300).await;
    all.redis.flush_all();
    all.bench.produce(0, 300, 1, 1).await;
    tally.reach(301, SOON).await;
    consumer.close(SOON).await.unwrap();
    assert!(logs::with(&[&all.bench.topic, "at the END"]).is_empty());
    let said = logs::with(&[&all.bench.topic, "where it was committed to Kafka: 1 of 1 partitions"]);
    assert_eq!(said.len(), 1, "{said:?}");
}

/// Flushed while work is under way, by readers that begin at the end of what is there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushed_under_load_nothing_is_lost() {
    let all = InRedis::new(2, &RedisOptions::new()).await;
    let mut conf = all.bench.conf.clone();
    conf.use_earliest = false;
    conf.consume_step = 500;
    let consumers = [all.consumer_with(conf.clone()).await, all.consumer_with(conf).await];
    let tally = Tally::default();
    let mut tasks = Vec::new();
    for consumer in &consumers {
        for _ in 0..2 {
            tasks.push(read_all(consumer.reader(), tally.clone(), Duration::from_micros(300)));
        }
    }
    let mut produced = 0;
    for flushes in [1_500, 4_000, 8_000] {
        for _ in 0..10 {
            all.bench.produce(0, produced, 200, 50).await;
            all.bench.produce(1, produced + 200, 200, 50).await;
            produced += 400;
        }
        tally.reach(flushes, SOON).await;
        all.redis.flush_all();
    }
    tally.reach(produced as usize, SOON * 2).await;
    for consumer in &consumers {
        consumer.close(SOON).await.unwrap();
    }
    let mut handed_out = 0;
    for task in tasks {
        handed_out += task.await.unwrap();
    }
    println!("{produced} records, three flushes: {} handed out again", handed_out - produced);
    assert!(handed_out - produced < produced, "more than what was handled since the last commits");
}

/// What a failover may do: the server that goes on lacks the latest writes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_redis_is_brought_up_to_the_commits() {
    let mut all = InRedis::new(1, &RedisOptions::new()).await;
    let consumer = all.consumer().await;
    let tally = Tally::default();
    read_all(consumer.reader(), tally.clone(), Duration::ZERO);
    all.bench.produce(0, 0, 300, 100).await;
    tally.reach(300, SOON).await;
    all.committed_is(0, 300).await;
    all.redis.command(&["SAVE"]);
    all.bench.produce(0, 300, 700, 100).await;
    tally.reach(1_000, SOON).await;
    all.committed_is(0, 1_000).await;
    all.redis.kill();
    all.redis.start_again();
    all.bench.produce(0, 1_000, 100, 100).await;
    tally.reach(1_100, SOON).await;
    consumer.close(SOON).await.unwrap();
    tally.assert_once(1_100);
}

/// Handlers may say whatever they like; Redis keeps the newest 10,000 of what they said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_reason_of_a_failure_is_cut() {
    let all = InRedis::new(1, &RedisOptions::new()).await;
    let consumer = all.consumer().await;
    all.bench.produce(0, 0, 10, 10).await;
    let mut reader = consumer.reader();
    reader.next().await.unwrap().unwrap();
    reader.failed(&"ä".repeat(1 << 20));
    let deadline = Instant::now() + SOON;
    while consumer.stats().units_failed == 0 {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let events = format!("{{{}}}-kafka-events", all.bench.group);
    let told = all.redis.command(&["XREVRANGE", &events, "+", "-"]);
    assert!(told.contains("nacked") && told.contains("ää") && told.len() < 4096, "{} bytes", told.len());
    consumer.close(SOON).await.unwrap();
}

/// Without Redis, what Kafka knows is enough for the next group of the name.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_redis_goes_on_where_the_first_was() {
    let mut all = InRedis::new(1, &RedisOptions::new()).await;
    let consumer = all.consumer().await;
    let tally = Tally::default();
    read_all(consumer.reader(), tally.clone(), Duration::ZERO);
    all.bench.produce(0, 0, 500, 100).await;
    tally.reach(500, SOON).await;
    consumer.close(SOON).await.unwrap();
    assert_eq!(all.committed(0).await.map(|commit| commit.offset), Some(500), "by the time it is closed");
    all.redis = RealRedis::start(&RedisOptions::new());
    let consumer = all.consumer().await;
    read_all(consumer.reader(), tally.clone(), Duration::ZERO);
    all.bench.produce(0, 500, 10, 10).await;
    tally.reach(510, SOON).await;
    consumer.close(SOON).await.unwrap();
    tally.assert_once(510);
}

/// Nobody polls: the organiser's long poll finds the record, and the group wakes one that waits.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_on_an_idle_topic_wakes_a_member_at_once() {
    let all = InRedis::new(4, &RedisOptions::new()).await;
    let consumers = [all.consumer().await, all.consumer().await, all.consumer().await];
    let (read, mut reads) = tokio::sync::mpsc::unbounded_channel();
    for consumer in &consumers {
        let (mut reader, read) = (consumer.reader(), read.clone());
        tokio::spawn(async move {
            while let Some(message) = reader.next().await.unwrap() {
                read.send((number(&message), Instant::now())).unwrap();
            }
        });
    }
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let mut took = Vec::new();
    for n in 0..30 {
        let began = Instant::now();
        all.bench.produce((n % 4) as i32, n, 1, 1).await;
        let (got, at) = tokio::time::timeout(SOON, reads.recv()).await.unwrap().unwrap();
        assert_eq!(got, n);
        took.push(at.saturating_duration_since(began));
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    took.sort_unstable();
    println!("three idle members: median {:?}, worst {:?}", took[15], took[29]);
    assert!(took[15] < Duration::from_millis(100) && took[29] < Duration::from_millis(900), "{took:?}");
    for consumer in &consumers {
        consumer.close(SOON).await.unwrap();
    }
}
