//! kafka-fast with its own defaults, unless batches are to be large.

use std::sync::Arc;
use std::time::Duration;

use kafka_fast::producer::{AppendError, TopicId};
use kafka_fast::{Config, Consumer, GroupConf, Producer, Record};
use tokio::runtime::Runtime;

use crate::Failure;
use crate::options::Options;

const PATIENCE: Duration = Duration::from_secs(30);

fn runtime() -> Result<Arc<Runtime>, Failure> {
    // What `#[tokio::main]` makes on two cores.
    Ok(Arc::new(tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?))
}

fn config(options: &Options) -> Result<Config, Failure> {
    Ok(Config::with_bootstrap(&format!("127.0.0.1:{}", options.port))?)
}

pub(crate) struct Sender {
    runtime: Arc<Runtime>,
    producer: Producer,
    topic: TopicId,
}

impl crate::Sender for Sender {
    fn connect(options: &Options) -> Result<Self, Failure> {
        let mut conf = config(options)?;
        conf.set("acks", if options.acks_all { "all" } else { "1" })?.set("codec", &options.codec)?;
        if options.tuned {
            conf.set("batch.size", "1000000")?.set("buffer.memory", "134217728")?;
        }
        if options.op == "latency" {
            conf.set("linger.ms", "0")?;
        }
        let runtime = runtime()?;
        let producer = runtime.block_on(Producer::connect(conf))?;
        let topic = runtime.block_on(producer.topic(&options.topic))?;
        Ok(Self { runtime, producer, topic })
    }

    fn another(&self) -> Option<Self> {
        Some(Self { runtime: Arc::clone(&self.runtime), producer: self.producer.clone(), topic: self.topic })
    }

    fn send(&mut self, value: &[u8]) -> Result<(), Failure> {
        let record = Record::value(value);
        loop {
            match self.producer.try_append(self.topic, None, None, &record) {
                Ok(()) => return Ok(()),
                Err(AppendError::Full { needed }) => self.runtime.block_on(self.producer.room(needed)),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn flush(&mut self, sent: u64) -> Result<(), Failure> {
        self.runtime.block_on(self.producer.flush())?;
        let stats = self.producer.stats();
        if stats.records_delivered != sent || stats.records_failed + stats.records_dropped > 0 {
            return Err(format!("of {sent} messages sent: {stats:?}").into());
        }
        Ok(())
    }
}

pub(crate) struct Reader {
    runtime: Arc<Runtime>,
    conf: Config,
    topic: String,
    open: Option<(Consumer, kafka_fast::Reader)>,
}

impl Reader {
    /// A window is a group of its own: connecting to it counts.
    fn open(&mut self, group: String, earliest: &str) -> Result<(), Failure> {
        if let Some((consumer, reader)) = self.open.take() {
            drop(reader);
            self.runtime.block_on(consumer.close(PATIENCE))?;
        }
        self.conf.set("use-earliest", earliest)?;
        let group = GroupConf::embedded(group);
        let consumer = self.runtime.block_on(Consumer::connect(self.conf.clone(), group, &[&self.topic]))?;
        let _inside = self.runtime.enter();
        let reader = consumer.reader();
        self.open = Some((consumer, reader));
        Ok(())
    }
}

impl crate::Reader for Reader {
    fn connect(options: &Options) -> Result<Self, Failure> {
        Ok(Self { runtime: runtime()?, conf: config(options)?, topic: options.topic.clone(), open: None })
    }

    fn from_beginning(&mut self, window: u32) -> Result<(), Failure> {
        self.open(format!("bench-{window}"), "true")
    }

    fn from_end(&mut self) -> Result<(), Failure> {
        self.open("bench".into(), "false")
    }

    fn read(&mut self, count: u64, mut each: impl FnMut(&[u8])) -> Result<(), Failure> {
        let (_, reader) = self.open.as_mut().ok_or("not connected")?;
        self.runtime.block_on(async {
            let mut read = 0;
            while read < count {
                let next = tokio::time::timeout(PATIENCE, reader.next_batch()).await;
                let batch = next.map_err(|_| format!("only {read} of {count} messages"))??;
                let mut batch = batch.ok_or("the consumer was closed")?;
                while read < count
                    && let Some(record) = batch.next()
                {
                    each(record.value.unwrap_or_default());
                    read += 1;
                }
            }
            Ok(())
        })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some((consumer, reader)) = self.open.take() {
            drop(reader);
            let _ = self.runtime.block_on(consumer.close(PATIENCE));
        }
    }
}
