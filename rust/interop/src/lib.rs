//! librdkafka, a stranger that must agree with kafka-fast on the bytes, by the crate rdkafka. The tests beside this are run by
//! `./dev interop`.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{BorrowedMessage, DeliveryResult, Header, Headers, Message, OwnedHeaders};
use rdkafka::producer::{BaseProducer, BaseRecord, NoCustomPartitioner, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

/// How long everything may take that waits for a broker.
const PATIENCE: Duration = Duration::from_secs(60);

/// A record and its place. Ordered by place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Stored {
    /// The partition it is sent to, or stands in.
    pub partition: i32,
    /// Its offset; -1 when it is to be sent.
    pub offset: i64,
    /// In milliseconds since the epoch; `None` is now. librdkafka takes 0 for that too.
    pub timestamp: Option<i64>,
    /// `None` is null.
    pub key: Option<Vec<u8>>,
    /// `None` is a tombstone.
    pub value: Option<Vec<u8>>,
    /// In their order, duplicates and null values kept.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
}

impl Stored {
    fn of(message: &BorrowedMessage<'_>) -> Self {
        let own = |header: Header<'_, &[u8]>| (header.key.to_owned(), header.value.map(<[u8]>::to_vec));
        Self {
            partition: message.partition(),
            offset: message.offset(),
            timestamp: message.timestamp().to_millis(),
            key: message.key().map(<[u8]>::to_vec),
            value: message.payload().map(<[u8]>::to_vec),
            headers: message.headers().map(|headers| headers.iter().map(own).collect()).unwrap_or_default(),
        }
    }
}

/// What became of the records by their number: place and time.
#[derive(Default)]
struct Reports(Mutex<Vec<(usize, i64, Option<i64>)>>);

impl ClientContext for Reports {}

impl ProducerContext<NoCustomPartitioner> for Reports {
    type DeliveryOpaque = Box<usize>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<usize>) {
        let message = result.as_ref().unwrap_or_else(|(error, _)| panic!("record {number}: {error}"));
        let mut reports = self.0.lock().expect("nobody panics with it");
        reports.push((*number, message.offset(), message.timestamp().to_millis()));
    }
}

fn config(broker: &str, settings: &[(&str, &str)]) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", broker);
    for (name, value) in settings {
        config.set(*name, *value);
    }
    config
}

/// Sends records, and returns them with the places and times that they got.
///
/// # Panics
/// When one could not be delivered within a minute.
pub fn send(broker: &str, settings: &[(&str, &str)], topic: &str, mut rows: Vec<Stored>) -> Vec<Stored> {
    let producer: BaseProducer<Reports> =
        config(broker, settings).create_with_context(Reports::default()).expect("the settings are known");
    for (number, row) in rows.iter().enumerate() {
        let mut headers = OwnedHeaders::new();
        for (key, value) in &row.headers {
            headers = headers.insert(Header { key, value: value.as_ref() });
        }
        let mut record =
            BaseRecord::with_opaque_to(topic, Box::new(number)).partition(row.partition).headers(headers);
        record.timestamp = row.timestamp;
        record.key = row.key.as_ref();
        record.payload = row.value.as_ref();
        producer.send(record).map_err(|(error, _)| error).expect("it fits into the queue");
    }
    producer.flush(PATIENCE).expect("everything is delivered in time");
    let mut reports = producer.context().0.lock().expect("nobody panics with it");
    reports.sort_unstable();
    assert_eq!(reports.len(), rows.len());
    for (number, offset, timestamp) in reports.drain(..) {
        (rows[number].offset, rows[number].timestamp) = (offset, timestamp);
    }
    rows
}

/// Reads `count` records of a topic of so many partitions from its beginning, by partition and offset; checksums are checked.
///
/// # Panics
/// When they do not come within a minute.
pub fn read(broker: &str, topic: &str, partitions: i32, count: usize) -> Vec<Stored> {
    let settings = [("group.id", "interop"), ("enable.auto.commit", "false"), ("check.crcs", "true")];
    let consumer: BaseConsumer = config(broker, &settings).create().expect("the settings are known");
    let mut list = TopicPartitionList::new();
    for partition in 0..partitions {
        list.add_partition_offset(topic, partition, Offset::Beginning).expect("an offset that is known");
    }
    consumer.assign(&list).expect("a list that is not empty");
    let mut rows = Vec::new();
    let until = Instant::now() + PATIENCE;
    while rows.len() < count {
        assert!(Instant::now() < until, "{} of {count} records of {topic}", rows.len());
        if let Some(message) = consumer.poll(Duration::from_millis(100)) {
            rows.push(Stored::of(&message.unwrap_or_else(|error| panic!("{topic}: {error}"))));
        }
    }
    rows.sort_unstable();
    rows
}
