//! librdkafka by the crate rdkafka: `BaseProducer` with delivery reports that are counted, and `BaseConsumer` without a group.
//! Batches of 64 KB and 5 ms, which suit it better than its defaults (a million bytes are the tuned case).

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{DeliveryResult, Message};
use rdkafka::producer::{BaseProducer, BaseRecord, NoCustomPartitioner, Producer, ProducerContext};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::Failure;
use crate::options::Options;

const PATIENCE: Duration = Duration::from_secs(30);
/// Reports are asked for once in so many messages.
const TURN: u64 = 1024;
/// A full queue is given this long: the crate's own `poll(1 ms)` spins when less than a millisecond is left.
const FULL: Duration = Duration::from_micros(500);

#[derive(Default)]
struct Counts {
    delivered: AtomicU64,
    failed: AtomicU64,
}

struct Reports(Arc<Counts>);

impl ClientContext for Reports {}

impl ProducerContext<NoCustomPartitioner> for Reports {
    type DeliveryOpaque = ();

    fn delivery(&self, result: &DeliveryResult<'_>, (): ()) {
        let count = if result.is_ok() { &self.0.delivered } else { &self.0.failed };
        count.fetch_add(1, Ordering::Relaxed);
    }
}

fn config(options: &Options) -> ClientConfig {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", format!("127.0.0.1:{}", options.port));
    config
}

pub(crate) struct Sender {
    producer: BaseProducer<Reports>,
    counts: Arc<Counts>,
    topic: String,
    sent: u64,
}

impl crate::Sender for Sender {
    fn connect(options: &Options) -> Result<Self, Failure> {
        let counts = Arc::new(Counts::default());
        let mut config = config(options);
        config
            .set("acks", if options.acks_all { "all" } else { "1" })
            .set("enable.idempotence", options.acks_all.to_string())
            .set("compression.codec", &options.codec)
            .set("linger.ms", if options.op == "latency" { "0" } else { "5" })
            .set("batch.size", if options.tuned { "1000000" } else { "65536" });
        if options.tuned {
            config.set("batch.num.messages", "100000").set("queue.buffering.max.messages", "1000000");
        }
        let producer = config.create_with_context(Reports(Arc::clone(&counts)))?;
        Ok(Self { producer, counts, topic: options.topic.clone(), sent: 0 })
    }

    fn another(&self) -> Option<Self> {
        None
    }

    fn send(&mut self, value: &[u8]) -> Result<(), Failure> {
        let mut record = BaseRecord::<(), [u8]>::to(&self.topic).payload(value);
        while let Err((error, refused)) = self.producer.send(record) {
            if !matches!(error, KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull)) {
                return Err(error.into());
            }
            record = refused;
            self.producer.poll(Duration::ZERO);
            std::thread::sleep(FULL);
        }
        self.sent += 1;
        if self.sent.is_multiple_of(TURN) {
            self.producer.poll(Duration::ZERO);
        }
        Ok(())
    }

    fn flush(&mut self, sent: u64) -> Result<(), Failure> {
        self.producer.flush(PATIENCE)?;
        let counts = [&self.counts.delivered, &self.counts.failed].map(|count| count.load(Ordering::Relaxed));
        if counts != [sent, 0] {
            return Err(format!(
                "of {sent} messages sent {} were acknowledged and {} failed",
                counts[0], counts[1]
            )
            .into());
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<(), Failure> {
        self.producer.poll(Duration::ZERO);
        Ok(())
    }
}

pub(crate) struct Reader {
    consumer: BaseConsumer,
    topic: String,
    partitions: Vec<i32>,
}

impl Reader {
    fn assign(&self, offset: impl Fn(i32) -> Result<Offset, Failure>) -> Result<(), Failure> {
        let mut list = TopicPartitionList::new();
        for &partition in &self.partitions {
            list.add_partition_offset(&self.topic, partition, offset(partition)?)?;
        }
        Ok(self.consumer.assign(&list)?)
    }
}

impl crate::Reader for Reader {
    fn connect(options: &Options) -> Result<Self, Failure> {
        // A fetch that waits at the end of the topic, where each window ends, would hold the next window up.
        let wait = if options.op == "consume" { "20" } else { "500" };
        let consumer: BaseConsumer = config(options)
            .set("group.id", "bench")
            .set("enable.auto.commit", "false")
            .set("fetch.wait.max.ms", wait)
            .create()?;
        let metadata = consumer.fetch_metadata(Some(&options.topic), PATIENCE)?;
        let partitions =
            metadata.topics().iter().flat_map(|topic| topic.partitions()).map(|p| p.id()).collect();
        Ok(Self { consumer, topic: options.topic.clone(), partitions })
    }

    fn from_beginning(&mut self, _window: u32) -> Result<(), Failure> {
        self.assign(|_| Ok(Offset::Beginning))
    }

    fn from_end(&mut self) -> Result<(), Failure> {
        self.assign(|partition| {
            let (_, end) = self.consumer.fetch_watermarks(&self.topic, partition, PATIENCE)?;
            Ok(Offset::Offset(end))
        })
    }

    fn read(&mut self, count: u64, mut each: impl FnMut(&[u8])) -> Result<(), Failure> {
        for read in 0..count {
            let message =
                self.consumer.poll(PATIENCE).ok_or_else(|| format!("only {read} of {count} messages"))??;
            each(message.payload().unwrap_or_default());
        }
        Ok(())
    }
}
