//! Producer and consumer as a Rust program has them, beside a broker in other threads.

use std::hint::black_box;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use kafka_fast::config::Config;
use kafka_fast::consumer::{ChunkSink, Consumer, Filled, GroupConf, Put, Reader, UnitInfo};
use kafka_fast::producer::{Producer, TopicId};
use kafka_fast::wire::{Record, RecordRef};
use tokio::runtime::{Builder, Runtime};

use crate::broker;
use crate::count::Meter;

/// Settings under which nothing happens because time passes: under valgrind it passes fifty times as fast.
pub(crate) const CALM: [(&str, &str); 8] = [
    ("linger.ms", "3600000"),
    ("batch.size", "65536"),
    ("use-earliest", "true"),
    ("lease-ms", "3600000"),
    ("heartbeat-ms", "600000"),
    ("unit-target-ms", "3600000"),
    ("request.timeout.ms", "600000"),
    ("fetch-timeout", "600000"),
];

fn conf(port: u16) -> Config {
    let mut conf = Config::with_bootstrap(&format!("127.0.0.1:{port}")).expect("an address");
    for (name, value) in CALM {
        conf.set(name, value).expect("the settings exist");
    }
    conf
}

/// The name of the topic with records of so many bytes.
pub(crate) fn topic(bytes: usize) -> &'static str {
    broker::TOPICS.iter().find(|topic| topic.1 == bytes).expect("there is a topic of each size").0
}

/// Records of a case: so few that all memory they need is in the producer's pool after the first round.
pub(crate) const fn records(bytes: usize) -> u32 {
    if bytes > 500 { 4_000 } else { 20_000 }
}

struct Sender {
    /// Of this thread: while records are appended nobody sends, so every count is the same.
    runtime: Runtime,
    producer: Producer,
    topic: TopicId,
}

impl Sender {
    fn new(port: u16, bytes: usize) -> Self {
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let (producer, topic) = runtime.block_on(async {
            let producer = Producer::connect(conf(port)).await.expect("the broker answers");
            let topic = producer.topic(topic(bytes)).await.expect("the topic exists");
            // The first batch waits for the producer's identity.
            producer.try_append(topic, None, None, &Record::value(b"first")).expect("there is room");
            producer.flush().await.expect("it is open");
            (producer, topic)
        });
        Self { runtime, producer, topic }
    }

    fn flush(&self) {
        self.runtime.block_on(self.producer.flush()).expect("it is open");
    }

    fn end(self) {
        self.runtime.block_on(self.producer.close(Duration::from_secs(600))).expect("everything was sent");
    }
}

/// How records are appended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum How {
    Plain,
    Keyed,
    Delivery,
}

/// Appends, the seals of full batches included.
pub(crate) fn append(meter: &mut Meter, port: u16, bytes: usize, how: How) -> u64 {
    let sender = Sender::new(port, bytes);
    let (producer, topic) = (&sender.producer, sender.topic);
    let value = broker::payload(bytes, 1);
    let run = || {
        for i in 0..records(bytes) {
            let key = i.to_be_bytes();
            let record =
                Record { key: (how == How::Keyed).then_some(&key), value: Some(&value), headers: &[] };
            let record = black_box(&record);
            if how == How::Delivery {
                drop(black_box(
                    producer.try_append_tracked(topic, None, None, record).expect("there is room"),
                ));
            } else {
                producer.try_append(topic, None, None, record).expect("there is room");
            }
        }
    };
    run();
    sender.flush();
    meter.measure(run);
    sender.flush();
    sender.end();
    records(bytes).into()
}

/// A request on its way: `count` records were appended; a flush sends them in one batch and waits for the answer.
pub(crate) fn request(meter: &mut Meter, port: u16, count: u32) -> u64 {
    const ROUNDS: u32 = 50;
    let bytes = 100;
    let sender = Sender::new(port, bytes);
    let value = broker::payload(bytes, 1);
    let append = || {
        for _ in 0..count {
            let record = Record::value(&value);
            sender.producer.try_append(sender.topic, Some(0), None, &record).expect("there is room");
        }
    };
    for _ in 0..5 {
        append();
        sender.flush();
    }
    let before = sender.producer.stats().requests;
    for _ in 0..ROUNDS {
        append();
        meter.measure(|| sender.flush());
    }
    let sent = sender.producer.stats().requests - before;
    assert_eq!(sent, u64::from(ROUNDS), "each round is one request");
    sender.end();
    sent
}

/// A fetch, its answer of one batch, and all that reads it: everything happens in this thread. How often a larger answer is
/// read depends on how the kernel cuts it.
pub(crate) fn fetch(meter: &mut Meter, port: u16) -> u64 {
    let bytes = 100;
    let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut conf = conf(port);
    conf.max_bytes = broker::BATCH_BYTES as i32;
    let group = GroupConf::embedded("fetch");
    let consumer =
        runtime.block_on(Consumer::connect(conf, group, &[topic(bytes)])).expect("the broker answers");
    let mut reader = consumer.reader();
    let mut read = async |records: u32| {
        let mut n = 0;
        while n < records {
            let mut batch = reader.next_batch().await.expect("nothing fails").expect("it is open");
            while let Some(record) = batch.next() {
                black_box(record.value.map_or(0, <[u8]>::len));
                n += 1;
            }
        }
    };
    runtime.block_on(read(records(bytes) * 2));
    let before = consumer.stats().fetches;
    meter.measure(|| runtime.block_on(read(records(bytes) * 2)));
    let fetches = consumer.stats().fetches - before;
    drop(reader);
    runtime.block_on(consumer.close(Duration::from_secs(600))).expect("the group is here");
    fetches
}

/// Takes values as a chunk does, without a place for what else belongs to a record.
struct Copied(Vec<u8>);

impl ChunkSink for Copied {
    fn put(&mut self, record: &RecordRef<'_>, _: &UnitInfo) -> Put {
        let value = record.value.unwrap_or_default();
        if self.0.len() + value.len() > broker::BATCH_BYTES {
            return Put::Full;
        }
        self.0.extend_from_slice(value);
        Put::Taken
    }
}

/// How records are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Read {
    Message,
    Batch,
    Chunk,
}

/// One counted stretch: a batch, a chunk, or as many messages as a batch has. 0: nothing was there.
fn stretch(reader: &mut Reader, read: Read, cx: &mut Context<'_>, chunk: &mut Copied) -> u64 {
    let mut n = 0;
    match read {
        Read::Message => {
            while n < 600
                && let Poll::Ready(message) = reader.poll_next(cx)
            {
                black_box(message.expect("nothing fails").expect("it is open"));
                n += 1;
            }
        }
        Read::Batch => {
            if let Poll::Ready(batch) = pin!(reader.next_batch()).poll(cx) {
                let mut batch = batch.expect("nothing fails").expect("it is open");
                while let Some(record) = batch.next() {
                    black_box(record.value.map_or(0, <[u8]>::len));
                    n += 1;
                }
            }
        }
        Read::Chunk => {
            chunk.0.clear();
            if let Poll::Ready(filled) = reader.poll_fill(cx, chunk, 10_000) {
                let Ok(Filled::Records(filled)) = filled else { panic!("nothing fails") };
                n += u64::from(filled);
            }
        }
    }
    n
}

/// Reading, the CRC of the batches included.
pub(crate) fn read(meter: &mut Meter, port: u16, bytes: usize, read: Read) -> u64 {
    let runtime = Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime");
    let _entered = runtime.enter();
    let group = GroupConf::embedded(format!("read-{bytes}-{}", read as u8));
    let consumer =
        runtime.block_on(Consumer::connect(conf(port), group, &[topic(bytes)])).expect("the broker answers");
    let mut reader = consumer.reader();
    let mut chunk = Copied(Vec::with_capacity(broker::BATCH_BYTES));
    // Units begin small: counting begins when they have grown.
    let warm = u64::from(records(bytes)) * 2;
    let (mut done, mut counted) = (0, 0);
    while counted < u64::from(records(bytes)) {
        let mut cx = Context::from_waker(Waker::noop());
        let n = if done < warm {
            stretch(&mut reader, read, &mut cx, &mut chunk)
        } else {
            let n = meter.measure(|| stretch(&mut reader, read, &mut cx, &mut chunk));
            counted += n;
            n
        };
        done += n;
        if n == 0 {
            // Until there is a record; it is not taken, and comes with the next stretch.
            runtime.block_on(reader.next_batch()).expect("nothing fails").expect("it is open");
        }
    }
    drop(reader);
    runtime.block_on(consumer.close(Duration::from_secs(600))).expect("the group is here");
    counted
}
