//! A broker of each version, records of every kind, and what is read back.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use kafka_fast::cluster::{Cluster, Isolation, OffsetAt, OffsetQuery, Purpose};
use kafka_fast::config::Config;
use kafka_fast::consumer::{Consumer, GroupConf, Message};
use kafka_fast::producer::{AppendError, Delivery, Producer};
use kafka_fast::wire::messages::{CreatableTopic, CreatableTopicConfig, CreateTopicsRequest};
use kafka_fast::wire::{Header, Record};
use kafka_fast_testkit::{Options, RealKafka, Version, unique};

/// Three brokers start at once on two cores, beside other tests.
pub(crate) const WAIT: Duration = Duration::from_secs(60);
pub(crate) const CODECS: [&str; 5] = ["none", "gzip", "snappy", "lz4", "zstd"];

/// Tests `name(&RealKafka)`, one a version.
macro_rules! on_every_version {
    ($($name:ident),+ $(,)?) => {
        on_every_version!(kafka_2_4_1 V2_4 $($name)+);
        on_every_version!(kafka_3_9_1 V3_9 $($name)+);
        on_every_version!(kafka_4_4_0 V4_4 $($name)+);
    };
    ($module:ident $version:ident $($name:ident)+) => {
        mod $module {
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    if let Some(broker) = crate::support::broker(kafka_fast_testkit::Version::$version).await {
                        super::$name(broker).await;
                    }
                }
            )+
        }
    };
}
pub(crate) use on_every_version;

/// The broker of a version; `None` where a test is to be skipped.
pub(crate) async fn broker(version: Version) -> Option<&'static RealKafka> {
    static BROKERS: [OnceLock<RealKafka>; 3] = [const { OnceLock::new() }; 3];
    if !version.is_here() {
        println!("skipped: Kafka {} is not here", version.number());
        return None;
    }
    let start = move || {
        // Some records are very old, and all are to stay.
        let options = Options::new()
            .version(version)
            .small()
            .property("auto.create.topics.enable", "false")
            .property("log.retention.ms", "-1")
            .property("offsets.topic.num.partitions", "2");
        BROKERS[version as usize].get_or_init(|| RealKafka::start(&options))
    };
    Some(tokio::task::spawn_blocking(start).await.unwrap())
}

pub(crate) fn config(broker: &RealKafka, settings: &[(&str, &str)]) -> Config {
    let mut conf = Config::with_bootstrap(&broker.address()).unwrap();
    conf.use_earliest = true;
    for (name, value) in settings {
        conf.set(name, value).unwrap();
    }
    conf
}

pub(crate) async fn connect(broker: &RealKafka) -> Cluster {
    Cluster::connect(&config(broker, &[])).await.unwrap()
}

/// A new topic whose leaders know that they are.
pub(crate) async fn topic(cluster: &Cluster, partitions: i32, settings: &[(&str, &str)]) -> Arc<str> {
    let name: Arc<str> = unique("brokers").into();
    let configs = settings
        .iter()
        .map(|&(name, value)| CreatableTopicConfig { name: name.into(), value: Some(value.into()) });
    let topic = CreatableTopic {
        name: name.clone(),
        num_partitions: partitions,
        replication_factor: 1,
        configs: configs.collect(),
        ..Default::default()
    };
    let request = CreateTopicsRequest { topics: vec![topic], ..Default::default() };
    let answer = cluster.call_any(Purpose::Control, &request, WAIT).await.unwrap();
    assert_eq!(answer.topics[0].error_code, 0, "{:?}", answer.topics[0].error_message);
    cluster.topic(&name, WAIT).await.unwrap();
    // What is sent with acks=0 to a leader that does not know it yet is lost.
    ends(cluster, &name, partitions).await;
    name
}

/// The sum of the ends of a topic's partitions.
pub(crate) async fn ends(cluster: &Cluster, topic: &Arc<str>, partitions: i32) -> i64 {
    let query = |partition| OffsetQuery { topic: topic.clone(), partition, at: OffsetAt::Latest };
    let queries: Vec<_> = (0..partitions).map(query).collect();
    let ends = cluster.list_offsets(&queries, Isolation::ReadUncommitted, WAIT).await.unwrap();
    ends.iter().map(|end| end.offset).sum()
}

/// A record and its place. Ordered by place.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Row {
    pub(crate) partition: i32,
    pub(crate) offset: i64,
    /// In milliseconds; `None` is now.
    pub(crate) timestamp: Option<i64>,
    pub(crate) key: Option<Vec<u8>>,
    pub(crate) value: Option<Vec<u8>>,
    pub(crate) headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Row {
    pub(crate) fn value(partition: i32, timestamp: i64, value: &str) -> Self {
        let value = Some(value.into());
        Self { partition, offset: -1, timestamp: Some(timestamp), key: None, value, headers: Vec::new() }
    }

    fn of(message: &Message) -> Self {
        let text = |name: &[u8]| String::from_utf8(name.to_vec()).unwrap();
        Self {
            partition: message.partition,
            offset: message.offset,
            timestamp: Some(message.timestamp),
            key: message.key.as_ref().map(|key| key.to_vec()),
            value: message.value.as_ref().map(|value| value.to_vec()),
            headers: message.headers().map(|(name, value)| (text(name), value.map(<[u8]>::to_vec))).collect(),
        }
    }
}

impl std::fmt::Debug for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let short = |bytes: &Option<Vec<u8>>| {
            bytes.as_ref().map(|b| format!("{} B {}", b.len(), b[..b.len().min(16)].escape_ascii()))
        };
        let headers: Vec<_> = self.headers.iter().map(|(name, value)| (name, short(value))).collect();
        let (key, value) = (short(&self.key), short(&self.value));
        write!(f, "{}@{} at {:?}: ", self.partition, self.offset, self.timestamp)?;
        write!(f, "{key:?} -> {value:?} {headers:?}")
    }
}

/// Every kind of key with every kind of value, with headers and a time of its own or without, by turns in `partitions`; more than a
/// batch of 16 KB takes.
pub(crate) fn varieties(partitions: i32) -> Vec<Row> {
    let long: Vec<u8> = (0..10_000_u32).map(|i| (i % 1000 / 7) as u8).collect();
    let keys: [Option<&[u8]>; 4] = [None, Some(b""), Some("schlüssel".as_bytes()), Some(&[0, 0xff, 0x80])];
    let values: [Option<&[u8]>; 5] =
        [None, Some(b""), Some(&[7]), Some("grüß dich 😀".as_bytes()), Some(&long)];
    let some: [(&str, Option<&[u8]>); 6] = [
        ("a", Some(b"1")),
        ("a", None),
        ("b", Some(b"")),
        ("a", Some(b"2")),
        ("ü€😀", Some(&[0; 300])),
        ("", Some(&[255])),
    ];
    let times = [None, Some(0), Some(1_234), Some(1_700_000_000_000)];
    let mut rows = Vec::new();
    for key in keys {
        for value in values {
            for (i, timestamp) in times.into_iter().enumerate() {
                let headers = if i % 2 == 0 { &some[..] } else { &[] };
                rows.push(Row {
                    partition: rows.len() as i32 % partitions,
                    offset: -1,
                    timestamp,
                    key: key.map(<[u8]>::to_vec),
                    value: value.map(<[u8]>::to_vec),
                    headers: headers.iter().map(|(n, v)| ((*n).to_owned(), v.map(<[u8]>::to_vec))).collect(),
                });
            }
        }
    }
    rows
}

/// Sends rows and returns them with the places and times that the broker told; -1 with acks=0.
pub(crate) async fn send(
    broker: &RealKafka,
    settings: &[(&str, &str)],
    topic: &str,
    rows: Vec<Row>,
) -> Vec<Row> {
    let producer = Producer::connect(config(broker, settings)).await.unwrap();
    let id = producer.topic(topic).await.unwrap();
    let mut deliveries: Vec<Delivery> = Vec::new();
    for row in &rows {
        let headers: Vec<_> =
            row.headers.iter().map(|(key, value)| Header { key, value: value.as_deref() }).collect();
        let record =
            Record { key: row.key.as_deref(), value: row.value.as_deref(), headers: headers.as_slice() };
        deliveries.push(loop {
            match producer.try_append_tracked(id, Some(row.partition), row.timestamp, &record) {
                Ok(delivery) => break delivery,
                Err(AppendError::Full { needed }) => producer.room(needed).await,
                Err(error) => panic!("{error}"),
            }
        });
    }
    tokio::time::timeout(WAIT, producer.flush()).await.expect("the broker answers").unwrap();
    let mut sent = Vec::new();
    for (row, delivery) in rows.into_iter().zip(deliveries) {
        let at = delivery.await.unwrap();
        assert_eq!((at.partition, &*at.topic), (row.partition, topic));
        sent.push(Row { offset: at.offset, timestamp: Some(at.timestamp), ..row });
    }
    producer.close(WAIT).await.unwrap();
    sent
}

/// The first `count` records that a new consumer of `group` is given, each once, sorted by place.
pub(crate) async fn read(conf: Config, group: GroupConf, topic: &str, count: usize) -> Vec<Row> {
    let consumer = Consumer::connect(conf, group, &[topic]).await.unwrap();
    let mut reader = consumer.reader();
    let mut rows = BTreeSet::new();
    let deadline = Instant::now() + WAIT;
    while rows.len() < count {
        let message = tokio::time::timeout_at(deadline.into(), reader.next()).await;
        let message = message.unwrap_or_else(|_| panic!("{} of {count}: {:?}", rows.len(), consumer.stats()));
        let row = Row::of(&message.unwrap().expect("nobody closed it"));
        assert!(rows.insert(row.clone()), "twice: {row:?}");
    }
    drop(reader);
    consumer.close(WAIT).await.unwrap();
    rows.into_iter().collect()
}

/// All records of a topic.
pub(crate) async fn read_all(broker: &RealKafka, topic: &str, count: usize) -> Vec<Row> {
    read(config(broker, &[]), GroupConf::embedded(unique("group")), topic, count).await
}
