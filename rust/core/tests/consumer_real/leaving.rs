//! User code that fails acknowledges nothing: in every style of reading, however the consumer ends, whenever that is.

use std::collections::BTreeSet;
use std::time::Duration;

use kafka_fast::config::RedisConf;
use kafka_fast::consumer::{ChunkSink, Consumer, Filled, GroupConf, Put, Reader, UnitInfo};
use kafka_fast::wire::RecordRef;
use kafka_fast_testkit::{RealRedis, RedisOptions};
use tokio::sync::oneshot;

use crate::support::{Bench, SOON, next, number};

const RECORDS: u64 = 6;

#[derive(Debug, Clone, Copy)]
enum Style {
    Next,
    Batch,
    Chunk,
}

/// How the consumer ends.
#[derive(Debug, Clone, Copy)]
enum End {
    Close,
    CloseAndWait,
    /// Nobody closes it: its last handle is dropped.
    Dropped,
}

/// What becomes of the reader when user code fails.
#[derive(Debug, Clone, Copy)]
enum Failure {
    /// It is dropped, as an error that leaves the function does.
    Error,
    Panic,
    /// Somebody keeps it and asks no more.
    Kept,
}

/// User code: fails on one record, when it is told to.
struct Body {
    fails_on: u64,
    in_hand: Option<oneshot::Sender<()>>,
    go: Option<oneshot::Receiver<()>>,
    returned: BTreeSet<u64>,
}

impl Body {
    async fn handle(&mut self, number: u64) -> Result<(), ()> {
        if number != self.fails_on {
            return Ok(());
        }
        self.in_hand.take().expect("once").send(()).expect("the test waits");
        self.go.take().expect("once").await.expect("the test says so");
        Err(())
    }
}

/// Takes records and remembers their numbers.
#[derive(Default)]
struct Numbers(Vec<u64>);

impl ChunkSink for Numbers {
    fn put(&mut self, record: &RecordRef<'_>, _: &UnitInfo) -> Put {
        self.0.push(value(record));
        Put::Taken
    }
}

fn value(record: &RecordRef<'_>) -> u64 {
    u64::from_be_bytes(record.value.unwrap()[..8].try_into().unwrap())
}

/// Reads until the body fails. What it returned from, and more was asked for after, is in `returned`.
async fn read(style: Style, reader: &mut Reader, body: &mut Body) -> Result<(), ()> {
    loop {
        match style {
            Style::Next => {
                let number = number(&next(reader).await);
                body.handle(number).await?;
                body.returned.insert(number);
            }
            Style::Batch => {
                let mut batch = reader.next_batch().await.unwrap().expect("not closed");
                while let Some(number) = batch.next().map(|record| value(&record)) {
                    body.handle(number).await?;
                    body.returned.insert(number);
                }
            }
            Style::Chunk => {
                let mut numbers = Numbers::default();
                let filled = std::future::poll_fn(|cx| reader.poll_fill(cx, &mut numbers, 2)).await.unwrap();
                assert!(matches!(filled, Filled::Records(_)));
                for (at, number) in numbers.0.into_iter().enumerate() {
                    reader.set_taken(at as u32 + 1);
                    body.handle(number).await?;
                    body.returned.insert(number);
                }
            }
        }
    }
}

/// One consumer whose user code fails on a record while the consumer ends; what comes to the next one.
async fn round(bench: &Bench, style: Style, end: End, failure: Failure, base: u64, late: bool) {
    let name = format!("{style:?}, {end:?}, {failure:?}, late: {late}");
    bench.produce(0, base, RECORDS, RECORDS).await;
    let consumer = bench.consumer().await;
    let (in_hand, is_in_hand) = oneshot::channel();
    let (go, told) = oneshot::channel();
    // Any of them, one after the other.
    let fails_on = base + base / RECORDS % RECORDS;
    let mut body = Body { fails_on, in_hand: Some(in_hand), go: Some(told), returned: BTreeSet::new() };
    let mut reader = consumer.reader();
    let (returned, mut is_returned) = tokio::sync::mpsc::channel(1);
    let task = tokio::spawn(async move {
        let read = read(style, &mut reader, &mut body).await;
        returned.send(body.returned).await.unwrap();
        assert!(read.is_ok() || !matches!(failure, Failure::Panic), "user code panics");
        matches!(failure, Failure::Kept).then_some(reader)
    });
    is_in_hand.await.unwrap();
    let ending = tokio::spawn(async move {
        match end {
            End::Close => consumer.close(Duration::ZERO).await.unwrap(),
            End::CloseAndWait => consumer.close(Duration::from_millis(100)).await.unwrap(),
            End::Dropped => drop(consumer),
        }
    });
    if late {
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    go.send(()).unwrap();
    let returned = is_returned.recv().await.unwrap();
    ending.await.unwrap();
    let kept = task.await;
    // A reader that is kept keeps a consumer that nobody closed.
    if matches!(end, End::Dropped) {
        drop(kept);
    }
    let expected: Vec<_> = (base..base + RECORDS).filter(|number| !returned.contains(number)).collect();
    assert!(expected.contains(&fails_on));
    assert_eq!(
        rest(bench.consumer().await, expected.len(), &name).await,
        expected,
        "{name}: all but {returned:?}"
    );
}

/// The next `count` records, sorted, and no more.
async fn rest(consumer: Consumer, count: usize, name: &str) -> Vec<u64> {
    let mut reader = consumer.reader();
    let mut got = BTreeSet::new();
    while got.len() < count {
        let message = tokio::time::timeout(SOON, reader.next()).await;
        let message = message.unwrap_or_else(|_| panic!("{name}: only {got:?} came of {count}"));
        got.insert(number(&message.unwrap().unwrap()));
    }
    if let Ok(more) = tokio::time::timeout(Duration::from_millis(20), reader.next()).await {
        panic!("{name}: {} was acknowledged and comes again", number(&more.unwrap().unwrap()));
    }
    drop(reader);
    consumer.close(SOON).await.unwrap();
    got.into_iter().collect()
}

async fn rounds(style: Style) {
    let bench = Bench::new(1).await;
    let mut base = 0;
    for end in [End::Close, End::CloseAndWait, End::Dropped] {
        for failure in [Failure::Error, Failure::Panic, Failure::Kept] {
            for late in [false, true] {
                round(&bench, style, end, failure, base, late).await;
                base += RECORDS;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_record_is_lost_by_a_reader_that_takes_one_after_the_other() {
    rounds(Style::Next).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_record_is_lost_by_a_reader_that_borrows_batches() {
    rounds(Style::Batch).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_record_is_lost_by_a_reader_that_fills_chunks() {
    rounds(Style::Chunk).await;
}

/// The group refuses the consumer for good while user code works; what that fails on comes again when its lease is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_record_is_lost_when_the_group_refuses_its_consumer() {
    let redis = RealRedis::start(&RedisOptions::new());
    for style in [Style::Next, Style::Batch, Style::Chunk] {
        let mut bench = Bench::new(1).await;
        (bench.conf.lease, bench.conf.heartbeat) = (Duration::from_secs(2), Duration::from_millis(100));
        bench.produce(0, 0, RECORDS, RECORDS).await;
        let group = || GroupConf::redis(RedisConf::new("127.0.0.1", redis.port(), bench.group.as_str()));
        let consumer = Consumer::connect(bench.conf.clone(), group(), &[&bench.topic]).await.unwrap();
        let (in_hand, is_in_hand) = oneshot::channel();
        let (go, told) = oneshot::channel();
        let mut body =
            Body { fails_on: 1, in_hand: Some(in_hand), go: Some(told), returned: BTreeSet::new() };
        let mut reader = consumer.reader();
        let task = tokio::spawn(async move {
            let read = read(style, &mut reader, &mut body).await;
            (read, reader, body.returned)
        });
        is_in_hand.await.unwrap();
        // A layout that this version does not know.
        let meta = format!("{{{}}}-kafka-meta", bench.group);
        let version = redis.command(&["HGET", &meta, "version"]);
        redis.command(&["HSET", &meta, "version", "999"]);
        let refused = tokio::time::timeout(SOON, async { while consumer.reader().next().await.is_ok() {} });
        refused.await.expect("readers are told that the group refuses");
        go.send(()).unwrap();
        let (read, mut reader, returned) = task.await.unwrap();
        assert!(read.is_err() && returned.len() <= 1);
        // Its user asks all the same, and is told.
        assert!(reader.next().await.is_err());
        let _ = consumer.close(Duration::ZERO).await;
        redis.command(&["HSET", &meta, "version", version.trim()]);
        let second = Consumer::connect(bench.conf.clone(), group(), &[&bench.topic]).await.unwrap();
        let mut reader = second.reader();
        let mut got = BTreeSet::new();
        while !(1..RECORDS).all(|number| got.contains(&number)) {
            got.insert(number(&next(&mut reader).await));
        }
    }
}
