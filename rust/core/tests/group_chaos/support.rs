//! What the tests share: the servers, a topic to send to, and what is to be seen of the group from outside.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_fast::cluster::{Cluster, OffsetCommit};
use kafka_fast::config::Config;
use kafka_fast::group::{GroupSettings, PartitionView, RedisGroup};
use kafka_fast::producer::Producer;
use kafka_fast::wire::Record;
use kafka_fast_testkit::{RealKafka, RealRedis, unique};
use tokio::sync::{Mutex, MutexGuard};

use crate::member::{By, Line, Member, Part, now};

pub(crate) const LEASE: Duration = Duration::from_millis(3000);
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(500);
/// All that takes longer has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// How often each test plays.
pub(crate) fn rounds() -> u32 {
    std::env::var("KAFKA_FAST_CHAOS_ROUNDS").map_or(1, |rounds| rounds.parse().expect("a number of rounds"))
}

/// A number of `0..below` that differs each time.
pub(crate) fn any(below: u64) -> u64 {
    use std::hash::{BuildHasher, Hasher};
    std::collections::hash_map::RandomState::new().build_hasher().finish() % below
}

/// One test at a time: they measure, and the processes of one are as much as a small machine takes.
async fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::const_new(());
    ALONE.lock().await
}

/// A group's name, its topic, the means to send, and the group as Redis has it.
pub(crate) struct Stage {
    pub(crate) part: Part,
    pub(crate) topic: Arc<str>,
    pub(crate) partitions: i32,
    producer: Producer,
    cluster: Cluster,
    sent: u64,
    _alone: MutexGuard<'static, ()>,
}

impl Stage {
    pub(crate) async fn new(partitions: i32) -> Self {
        let alone = alone().await;
        let broker = RealKafka::shared().to_owned();
        let redis =
            RealRedis::shared().rsplit_once(':').and_then(|(_, port)| port.parse().ok()).expect("a port");
        let conf = Config::with_bootstrap(&broker).unwrap();
        let cluster = Cluster::connect(&conf).await.unwrap();
        let setting = |name: &str, value: String| (name.to_owned(), value);
        let part = Part {
            broker,
            redis,
            group: unique("chaos"),
            topics: Vec::new(),
            readers: 2,
            work: Duration::from_millis(1),
            by: By::Record,
            notes_handled: false,
            settings: vec![
                setting("use-earliest", "true".to_owned()),
                setting("lease-ms", LEASE.as_millis().to_string()),
                setting("heartbeat-ms", HEARTBEAT.as_millis().to_string()),
            ],
        };
        let producer = Producer::connect(conf).await.unwrap();
        let mut stage =
            Self { part, topic: "".into(), partitions, producer, cluster, sent: 0, _alone: alone };
        let topic = stage.new_topic().await;
        stage.topic = topic.as_str().into();
        stage.part.topics.push(topic);
        stage
    }

    /// A further topic, with as many partitions as the first.
    pub(crate) async fn new_topic(&self) -> String {
        let topic = unique("chaos");
        self.cluster.create_topic(&topic, self.partitions, 1, PATIENCE).await.unwrap();
        self.cluster.topic(&topic, PATIENCE).await.unwrap();
        topic
    }

    /// Sends the next `count` numbers, partition by partition in turn; returns when the broker has them.
    pub(crate) async fn send(&mut self, count: u64) {
        let topic = self.topic.to_string();
        self.send_to(&topic, count).await;
    }

    pub(crate) async fn send_to(&mut self, topic: &str, count: u64) {
        let id = self.producer.topic(topic).await.unwrap();
        let mut deliveries = Vec::new();
        for number in self.sent..self.sent + count {
            let value = number.to_string();
            let partition = i32::try_from(number % self.partitions as u64).unwrap();
            let record = Record::value(value.as_bytes());
            deliveries.push(self.producer.try_append_tracked(id, Some(partition), None, &record).unwrap());
            if number % 10_000 == 0 {
                self.producer.flush().await.unwrap();
            }
        }
        self.producer.flush().await.unwrap();
        for delivery in deliveries {
            delivery.await.unwrap();
        }
        self.sent += count;
    }

    pub(crate) fn sent(&self) -> u64 {
        self.sent
    }

    /// Moves the group in partition 0 as Kafka's tools do.
    pub(crate) async fn reset(&self, offset: i64) {
        let (topic, metadata) = (Arc::clone(&self.topic), String::new());
        let commit = OffsetCommit { topic, partition: 0, offset, leader_epoch: -1, metadata };
        let outcomes = self.cluster.commit_offsets(&self.part.group, &[commit], PATIENCE).await.unwrap();
        assert_eq!(outcomes[0].2, Ok(()));
    }

    /// A look into the group; nobody that is counted as a member.
    pub(crate) async fn door(&self) -> Arc<RedisGroup> {
        let settings = GroupSettings::of(&self.part.conf());
        RedisGroup::join(&self.part.redis(), settings, unique("door").as_str().into(), "").await.unwrap()
    }

    /// Waits until the group has handled all that was sent.
    pub(crate) async fn drained(&self, door: &RedisGroup) -> u64 {
        let until = Instant::now() + PATIENCE;
        loop {
            let views = door.partitions(&[Arc::clone(&self.topic)]).await.unwrap();
            let done: i64 = views.iter().map(|view| view.low_watermark).sum();
            if u64::try_from(done) == Ok(self.sent) {
                assert!(
                    views.iter().all(|view: &PartitionView| view.in_flight + view.parked == 0),
                    "{views:?}"
                );
                return now();
            }
            assert!(Instant::now() < until, "{} were sent, the group stands at {views:?}", self.sent);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits until Kafka knows that the group has handled all that was sent.
    pub(crate) async fn committed(&self) {
        let group = Arc::from(&*self.part.group);
        let all: Vec<_> =
            (0..self.partitions).map(|partition| (Arc::clone(&self.topic), partition)).collect();
        let until = Instant::now() + PATIENCE;
        loop {
            let found = self.cluster.committed_offsets(&group, &all, PATIENCE).await.unwrap();
            let done: i64 = found.iter().map(|commit| commit.offset.max(0)).sum();
            if u64::try_from(done) == Ok(self.sent) {
                return;
            }
            assert!(Instant::now() < until, "{} were sent, committed are {found:?}", self.sent);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The open units, as `(partition, first offset not reported as handled, end)`.
    pub(crate) async fn open_units(&self, door: &RedisGroup) -> Vec<(i32, i64, i64)> {
        let partitions: Vec<i32> = (0..self.partitions).collect();
        let opened = door.open_units(&self.topic, &partitions).await.unwrap();
        let of = |(view, units): (PartitionView, Vec<(i64, i64)>)| {
            units.into_iter().map(move |(from, to)| (view.partition, from, to))
        };
        opened.into_iter().flat_map(of).collect()
    }
}

/// Waits until all members together were handed `count` records.
pub(crate) async fn until_handed(members: &[Member], count: u64) {
    let until = Instant::now() + PATIENCE;
    while members.iter().map(|member| member.lines().len()).sum::<usize>() < count as usize {
        assert!(Instant::now() < until, "not {count} after {PATIENCE:?}: {:?}", tails(members));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) fn tails(members: &[Member]) -> Vec<String> {
    members.iter().map(|member| member.process.tail()).collect()
}

/// How often each number was handed out.
pub(crate) fn tally<'a>(lines: impl IntoIterator<Item = &'a Line>) -> HashMap<u64, u32> {
    let mut tally = HashMap::new();
    lines.into_iter().for_each(|line| *tally.entry(line.value).or_default() += 1);
    tally
}

/// Fails when one of `0..sent` was handed to nobody.
pub(crate) fn assert_nothing_lost(tally: &HashMap<u64, u32>, sent: u64) {
    let lost: Vec<u64> = (0..sent).filter(|number| !tally.contains_key(number)).collect();
    assert!(
        lost.is_empty(),
        "{} of {sent} were handed to nobody: {:?} ...",
        lost.len(),
        &lost[..lost.len().min(10)]
    );
}

/// Whether a record lies in one of `units`, not reported as handled.
pub(crate) fn lies_in(line: &Line, units: &[(i32, i64, i64)]) -> bool {
    units
        .iter()
        .any(|(partition, from, to)| line.partition == *partition && (*from..*to).contains(&line.offset))
}
