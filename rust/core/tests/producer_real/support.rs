//! Topics, producers, and reading back.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_fast::cluster::{Cluster, Isolation, OffsetAt, OffsetQuery, Purpose};
use kafka_fast::config::Config;
use kafka_fast::producer::{AppendError, Producer, TopicId};
use kafka_fast::wire::messages::{FetchPartition, FetchRequest, FetchTopic};
use kafka_fast::wire::{Batches, Record};
use kafka_fast_testkit::unique;

pub(crate) const WAIT: Duration = Duration::from_secs(60);

/// A record as it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) offset: i64,
    pub(crate) timestamp: i64,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Stored {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(self.value.as_deref().unwrap_or_default()).unwrap()
    }
}

pub(crate) fn config(broker: &str, settings: &[(&str, &str)]) -> Config {
    let mut conf = Config::with_bootstrap(broker).unwrap();
    for (name, value) in settings {
        conf.set(name, value).unwrap();
    }
    conf
}

pub(crate) async fn new_topic(broker: &str, partitions: i32) -> String {
    let name = unique("producer");
    let cluster = Cluster::connect(&config(broker, &[])).await.unwrap();
    cluster.create_topic(&name, partitions, 1, WAIT).await.unwrap();
    cluster.topic(&name, WAIT).await.unwrap();
    cluster.close();
    name
}

/// A producer and the id of a new topic of `partitions`.
pub(crate) async fn producer(
    broker: &str,
    partitions: i32,
    settings: &[(&str, &str)],
) -> (Producer, String, TopicId) {
    let topic = new_topic(broker, partitions).await;
    let producer = Producer::connect(config(broker, settings)).await.unwrap();
    let id = producer.topic(&topic).await.unwrap();
    assert_eq!(producer.cached_topic(&topic), Some(id));
    (producer, topic, id)
}

/// Appends, waiting for room as long as it takes.
pub(crate) async fn append(producer: &Producer, topic: TopicId, partition: Option<i32>, record: Record<'_>) {
    loop {
        match producer.try_append(topic, partition, None, &record) {
            Ok(()) => return,
            Err(AppendError::Full { needed }) => {
                tokio::time::timeout(WAIT, producer.room(needed)).await.expect("room within a minute");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Everything in a topic, by partition.
pub(crate) async fn read_all(broker: &str, topic: &str) -> Vec<Vec<Stored>> {
    let cluster = Cluster::connect(&config(broker, &[])).await.unwrap();
    let meta = cluster.topic(topic, WAIT).await.unwrap();
    let mut all = Vec::new();
    for partition in &meta.partitions {
        let query = OffsetQuery { topic: Arc::from(topic), partition: partition.index, at: OffsetAt::Latest };
        let ends = cluster.list_offsets(&[query], Isolation::ReadUncommitted, WAIT).await.unwrap();
        let mut records = Vec::new();
        let mut next = 0;
        while next < ends[0].offset {
            let request = FetchRequest {
                max_wait_ms: 100,
                min_bytes: 1,
                max_bytes: 8 << 20,
                topics: vec![FetchTopic {
                    topic: Arc::from(topic),
                    topic_id: meta.id,
                    partitions: vec![FetchPartition {
                        partition: partition.index,
                        fetch_offset: next,
                        partition_max_bytes: 8 << 20,
                        ..FetchPartition::default()
                    }],
                }],
                ..FetchRequest::default()
            };
            let node = partition.leader.unwrap().node;
            let answer = cluster.call(node, Purpose::Fetch, &request, WAIT).await.unwrap();
            let data = &answer.responses[0].partitions[0];
            assert_eq!(data.error_code, 0);
            for batch in Batches::new(data.records.clone().unwrap()) {
                let batch = batch.unwrap();
                let after = batch.next_offset();
                for record in batch.open(256 << 20).unwrap().records() {
                    let r = record.unwrap();
                    if r.offset < next {
                        continue;
                    }
                    records.push(Stored {
                        offset: r.offset,
                        timestamp: r.timestamp,
                        key: r.key.map(<[u8]>::to_vec),
                        value: r.value.map(<[u8]>::to_vec),
                        headers: r
                            .headers
                            .map(|(k, v)| (String::from_utf8(k.to_vec()).unwrap(), v.map(<[u8]>::to_vec)))
                            .collect(),
                    });
                }
                next = after;
            }
        }
        all.push(records);
    }
    cluster.close();
    all
}

/// Values are `thread:number`. Checks that each of `threads` x `count` is there exactly once, and that the numbers of
/// a thread rise within each partition.
pub(crate) fn check_complete_and_ordered(partitions: &[Vec<Stored>], threads: usize, count: usize) {
    let mut seen = vec![vec![0_u32; count]; threads];
    for (index, partition) in partitions.iter().enumerate() {
        let mut last: HashMap<usize, usize> = HashMap::new();
        for record in partition {
            let (thread, number) = record.text().split_once(':').unwrap();
            let (thread, number): (usize, usize) =
                (thread.parse().unwrap(), number.trim_end_matches('.').parse().unwrap());
            seen[thread][number] += 1;
            let before = last.insert(thread, number);
            assert!(
                before.is_none_or(|before| before < number),
                "partition {index}: {thread}:{number} stands after {before:?}"
            );
        }
    }
    for (thread, numbers) in seen.iter().enumerate() {
        let wrong: Vec<_> = numbers.iter().enumerate().filter(|(_, n)| **n != 1).take(5).collect();
        assert!(wrong.is_empty(), "thread {thread}: not exactly once: {wrong:?}");
    }
}
