//! What the tests share: a cluster of their own for topics and producing, and a tally of what was read.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use kafka_fast::cluster::{Cluster, Purpose};
use kafka_fast::config::{Codec, Config};
use kafka_fast::consumer::{Consumer, GroupConf, Message, Reader};
use kafka_fast::wire::messages::{PartitionProduceData, ProduceRequest, TopicProduceData};
use kafka_fast::wire::{BatchBuilder, Record};
use kafka_fast_testkit::{RealKafka, unique};

pub(crate) const SOON: Duration = Duration::from_secs(20);

/// A topic of a broker, and the means to write to it.
pub(crate) struct Bench {
    pub(crate) conf: Config,
    pub(crate) cluster: Cluster,
    pub(crate) topic: String,
    pub(crate) group: String,
    /// Of the records produced; 0 is now.
    pub(crate) timestamp: i64,
}

impl Bench {
    /// A fresh topic of the shared broker and the name of a fresh group.
    pub(crate) async fn new(partitions: i32) -> Self {
        Self::at(RealKafka::shared(), partitions).await
    }

    /// As [`Self::new`], at a broker of the test's own; no topic is created for 0 partitions.
    pub(crate) async fn at(address: &str, partitions: i32) -> Self {
        let mut conf = Config::with_bootstrap(address).unwrap();
        conf.use_earliest = true;
        let cluster = Cluster::connect(&conf).await.unwrap();
        let topic = unique("topic");
        if partitions > 0 {
            cluster.create_topic(&topic, partitions, 1, SOON).await.unwrap();
            cluster.topic(&topic, SOON).await.unwrap();
        }
        Self { conf, cluster, topic, group: unique("group"), timestamp: 0 }
    }

    pub(crate) async fn consumer(&self) -> Consumer {
        self.consumer_with(self.conf.clone()).await
    }

    pub(crate) async fn consumer_with(&self, conf: Config) -> Consumer {
        Consumer::connect(conf, GroupConf::embedded(&*self.group), &[&self.topic]).await.unwrap()
    }

    /// Writes records with the numbers `from..from + count` to one partition, in batches of `per_batch`.
    pub(crate) async fn produce(&self, partition: i32, from: u64, count: u64, per_batch: u64) {
        self.produce_as(partition, from, count, per_batch, 16, Codec::None).await;
    }

    /// As [`Self::produce`], with keys that repeat every ten numbers.
    pub(crate) async fn produce_keyed(&self, partition: i32, from: u64, count: u64, per_batch: u64) {
        let key = |number: u64| format!("key-{}", number % 10);
        self.write(partition, from, count, per_batch, |batch, at, number| {
            batch.append(at, &Record::keyed(&key(number), &number.to_be_bytes()));
            Codec::None
        })
        .await;
    }

    pub(crate) async fn produce_as(
        &self,
        partition: i32,
        from: u64,
        count: u64,
        per_batch: u64,
        size: usize,
        codec: Codec,
    ) {
        let mut value = vec![b'.'; size.max(8)];
        self.write(partition, from, count, per_batch, |batch, at, number| {
            value[..8].copy_from_slice(&number.to_be_bytes());
            batch.append(at, &Record::value(&value));
            codec
        })
        .await;
    }

    async fn write(
        &self,
        partition: i32,
        from: u64,
        count: u64,
        per_batch: u64,
        mut append: impl FnMut(&mut BatchBuilder, i64, u64) -> Codec,
    ) {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
        let timestamp = if self.timestamp > 0 { self.timestamp } else { now.as_millis() as i64 };
        let mut at = from;
        while at < from + count {
            let until = (at + per_batch).min(from + count);
            let mut batch = BatchBuilder::with_capacity(1 << 16);
            let mut codec = Codec::None;
            for number in at..until {
                codec = append(&mut batch, timestamp, number);
            }
            let mut sealed = batch.seal(codec);
            sealed.stamp(None);
            self.send(partition, sealed.finish()).await;
            at = until;
        }
    }

    async fn send(&self, partition: i32, records: bytes::Bytes) {
        let deadline = Instant::now() + SOON;
        loop {
            let meta = self.cluster.topic(&self.topic, SOON).await.unwrap();
            let leader = meta.partitions[partition as usize].leader;
            let request = ProduceRequest {
                acks: -1,
                timeout_ms: 10_000,
                topic_data: vec![TopicProduceData {
                    name: Arc::clone(&meta.name),
                    topic_id: meta.id,
                    partition_data: vec![PartitionProduceData {
                        index: partition,
                        records: Some(records.clone()),
                    }],
                }],
                ..Default::default()
            };
            let node = leader.map_or(-1, |l| l.node);
            let problem = match self.cluster.call(node, Purpose::Produce, &request, SOON).await {
                Ok(answer) => match answer.responses[0].partition_responses[0].error_code {
                    0 => return,
                    code => code.to_string(),
                },
                Err(error) => error.to_string(),
            };
            assert!(Instant::now() < deadline, "produce: {problem}");
            let _ = self.cluster.refresh(&[Arc::from(&*self.topic)], SOON).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

pub(crate) fn number(message: &Message) -> u64 {
    u64::from_be_bytes(message.value.as_ref().unwrap()[..8].try_into().unwrap())
}

/// Counts how often each number was read.
#[derive(Default, Clone)]
pub(crate) struct Tally(Arc<Mutex<HashMap<u64, u32>>>);

impl Tally {
    pub(crate) fn add(&self, number: u64) {
        *self.0.lock().unwrap().entry(number).or_default() += 1;
    }

    pub(crate) fn len(&self) -> usize {
        self.0.lock().unwrap().len()
    }

    /// Waits until `count` different numbers were read.
    pub(crate) async fn reach(&self, count: usize, within: Duration) {
        let deadline = Instant::now() + within;
        while self.len() < count {
            assert!(Instant::now() < deadline, "{} of {count} records after {within:?}", self.len());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Every number of `0..count` exactly once.
    pub(crate) fn assert_once(&self, count: u64) {
        let seen = self.0.lock().unwrap();
        let missing: Vec<_> = (0..count).filter(|n| !seen.contains_key(n)).take(5).collect();
        assert!(missing.is_empty(), "missing {missing:?} ... of {count}, {} seen", seen.len());
        let twice: Vec<_> = seen.iter().filter(|(_, n)| **n > 1).take(5).collect();
        assert!(twice.is_empty(), "more than once: {twice:?}");
        assert_eq!(seen.len() as u64, count);
    }
}

/// Reads into `tally` until the consumer closes, with `work` per record.
pub(crate) fn read_all(mut reader: Reader, tally: Tally, work: Duration) -> tokio::task::JoinHandle<u64> {
    tokio::spawn(async move {
        let mut count = 0;
        while let Some(message) = reader.next().await.unwrap() {
            if !work.is_zero() {
                tokio::time::sleep(work).await;
            }
            tally.add(number(&message));
            count += 1;
        }
        count
    })
}

pub(crate) async fn next(reader: &mut Reader) -> Message {
    tokio::time::timeout(SOON, reader.next()).await.expect("a record in time").unwrap().expect("not closed")
}
