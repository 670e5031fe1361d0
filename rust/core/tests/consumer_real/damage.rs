//! A foreign hand in the keys of a group: whatever is deleted, nothing is lost, and the group goes on within seconds.

use std::time::{Duration, Instant};

use kafka_fast::config::RedisConf;
use kafka_fast::consumer::{Consumer, GroupConf};
use kafka_fast_testkit::{RealRedis, RedisOptions};

use crate::logs;
use crate::support::{Bench, SOON, Tally, read_all};

/// A consumer that always has units in hands, at work, waiting and to be carved: two partitions, slow readers.
struct Busy {
    bench: Bench,
    redis: RealRedis,
    consumer: Consumer,
    tally: Tally,
    produced: u64,
}

impl Busy {
    async fn new() -> Self {
        logs::keep();
        let mut bench = Bench::new(2).await;
        bench.conf.offset_commit_freq = Duration::from_millis(200);
        bench.conf.heartbeat = Duration::from_millis(500);
        bench.conf.consume_step = 50;
        let redis = RealRedis::start(&RedisOptions::new());
        let consumer =
            Consumer::connect(bench.conf.clone(), group(&bench, &redis), &[&bench.topic]).await.unwrap();
        let tally = Tally::default();
        for _ in 0..2 {
            read_all(consumer.reader(), tally.clone(), Duration::from_micros(500));
        }
        Self { bench, redis, consumer, tally, produced: 0 }
    }

    async fn produce(&mut self, count: u64) {
        for partition in 0..2 {
            self.bench.produce(partition, self.produced, count / 2, 50).await;
            self.produced += count / 2;
        }
    }

    fn key(&self, name: &str) -> String {
        format!("{{{}}}-kafka-{}", self.bench.group, name.replace("/T", &format!("/{}", self.bench.topic)))
    }

    /// Waits until the key is there, so that to delete it is something.
    async fn there(&self, key: &str) -> bool {
        let deadline = Instant::now() + Duration::from_millis(500);
        while self.redis.command(&["EXISTS", key]) == "0" {
            if Instant::now() > deadline {
                return false;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        true
    }
}

fn group(bench: &Bench, redis: &RealRedis) -> GroupConf {
    GroupConf::redis(RedisConf::new("127.0.0.1", redis.port(), bench.group.as_str()))
}

/// All keys, but those whose loss is nothing: events, and who waits, who asks again within a second.
const KEYS: [&str; 11] = [
    "meta",
    "units",
    "open",
    "consumers",
    "topics",
    "error-queue",
    "probe-queue",
    "parts/T",
    "work-queue/T",
    "working-queue/T",
    "delay-queue/T",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_key_that_is_deleted_costs_repeats_at_most() {
    let mut busy = Busy::new().await;
    let mut deleted = 0;
    for key in KEYS.iter().chain(&["events", "idle/T"]) {
        let key = busy.key(key);
        busy.produce(600).await;
        if busy.there(&key).await {
            busy.redis.command(&["DEL", &key]);
            deleted += 1;
        }
        let began = Instant::now();
        busy.produce(100).await;
        busy.tally.reach(busy.produced as usize, SOON).await;
        println!("{key}: all there after {:?}", began.elapsed());
    }
    assert!(deleted >= 8, "{deleted}");
    busy.consumer.close(SOON).await.unwrap();
}

/// Idle, nothing fails and nothing is asked: only who looks finds out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_deleted_of_an_idle_group_is_missed_and_said() {
    let mut busy = Busy::new().await;
    for (key, is_missed) in
        [("parts/T", true), ("topics", true), ("consumers", true), ("meta", true), ("events", false)]
    {
        busy.produce(100).await;
        busy.tally.reach(busy.produced as usize, SOON).await;
        busy.redis.command(&["DEL", &busy.key(key)]);
        let missed = || {
            let group = busy.bench.group.as_str();
            let damaged = logs::with(&[group, "is damaged", key.trim_end_matches('T')]).len();
            damaged + usize::from(key == "meta") * logs::with(&[group, "is gone"]).len()
        };
        let deadline = Instant::now() + if is_missed { SOON } else { Duration::from_millis(1_500) };
        while missed() == 0 && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert_eq!(missed(), usize::from(is_missed), "{key}: {:#?}", logs::with(&[&busy.bench.group]));
    }
    busy.produce(100).await;
    busy.tally.reach(busy.produced as usize, SOON).await;
    busy.consumer.close(SOON).await.unwrap();
}

/// Another type under a key makes every script fail that reads it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_another_type_does_not_end_a_running_consumer() {
    let mut busy = Busy::new().await;
    for key in ["units", "parts/T", "meta", "events", "idle/T"] {
        busy.produce(400).await;
        let key = busy.key(key);
        busy.redis.command(&["SET", &key, "theirs"]);
        busy.tally.reach(busy.produced as usize, SOON).await;
    }
    busy.consumer.close(SOON).await.unwrap();
}

/// Without commits in Kafka there is nothing to go on from, and that is said.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_group_without_a_mirror_begins_as_a_new_one() {
    logs::keep();
    let mut bench = Bench::new(1).await;
    bench.conf.heartbeat = Duration::from_millis(500);
    let redis = RealRedis::start(&RedisOptions::new());
    let mut conf = RedisConf::new("127.0.0.1", redis.port(), bench.group.as_str());
    conf.mirror = false;
    let consumer =
        Consumer::connect(bench.conf.clone(), GroupConf::redis(conf), &[&bench.topic]).await.unwrap();
    let tally = Tally::default();
    read_all(consumer.reader(), tally.clone(), Duration::ZERO);
    bench.produce(0, 0, 100, 10).await;
    tally.reach(100, SOON).await;
    redis.command(&["DEL", &format!("{{{}}}-kafka-parts/{}", bench.group, bench.topic)]);
    bench.produce(0, 100, 100, 10).await;
    tally.reach(200, SOON).await;
    let said = logs::with(&[&bench.group, "is damaged", "it begins as a new group"]);
    assert_eq!(said.len(), 1, "{said:#?}");
    consumer.close(SOON).await.unwrap();
}

/// Nobody is there to miss anything: the next who connects does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_group_lets_the_next_member_in() {
    let mut busy = Busy::new().await;
    busy.produce(100).await;
    busy.tally.reach(100, SOON).await;
    busy.consumer.close(SOON).await.unwrap();
    for (command, key, field) in
        [("DEL", "parts/T", ""), ("DEL", "topics", ""), ("DEL", "meta", ""), ("HDEL", "meta", "settings")]
    {
        let key = busy.key(key);
        let words = [command, key.as_str(), field];
        busy.redis.command(if field.is_empty() { &words[..2] } else { &words });
        let group = group(&busy.bench, &busy.redis);
        let consumer = Consumer::connect(busy.bench.conf.clone(), group, &[&busy.bench.topic]).await.unwrap();
        read_all(consumer.reader(), busy.tally.clone(), Duration::ZERO);
        busy.produce(100).await;
        busy.tally.reach(busy.produced as usize, SOON).await;
        consumer.close(SOON).await.unwrap();
    }
    busy.tally.assert_once(busy.produced);
}
