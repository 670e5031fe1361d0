//! A reader that takes a record and asks for nothing more: its record stays with it, others get the rest.

use std::time::{Duration, Instant};

use kafka_fast::config::RedisConf;
use kafka_fast::consumer::{Consumer, Filled, GroupConf, Reader};
use kafka_fast_testkit::{RealRedis, RedisOptions};

use crate::chunks::fill;
use crate::support::{Bench, SOON, Tally, next, number, read_all};

/// How a reader asks.
#[derive(Clone, Copy)]
enum Style {
    Next,
    Batch,
    Chunk,
}

const RECORDS: u64 = 100;

impl Style {
    /// Takes one record; as a whole future it has an end only when there is one.
    async fn take(self, reader: &mut Reader) -> u64 {
        match self {
            Self::Next => number(&next(reader).await),
            Self::Batch => {
                let mut batch = reader.next_batch().await.unwrap().expect("not closed");
                let record = batch.next().expect("the first of a batch is there");
                u64::from_be_bytes(record.value.unwrap()[..8].try_into().unwrap())
            }
            Self::Chunk => {
                let (filled, numbers) = fill(reader, 1 << 16, 1000).await;
                assert!(matches!(filled, Filled::Records(n) if n > 1), "{filled:?}");
                assert_eq!(reader.claim(1), 1);
                reader.set_taken(1);
                numbers[0]
            }
        }
    }
}

/// `sits` takes one record and asks for nothing; `other` reads on.
async fn others_get_the_rest(bench: &Bench, sits: Consumer, other: Consumer, style: Style) {
    bench.produce(0, 0, RECORDS, RECORDS).await;
    let mut reader = sits.reader();
    let mine = style.take(&mut reader).await;
    let (tally, began) = (Tally::default(), Instant::now());
    let reading = read_all(other.reader(), tally.clone(), Duration::ZERO);
    tally.reach(RECORDS as usize - 1, SOON).await;
    println!("the rest was read after {:?}", began.elapsed());
    if let Style::Chunk = style {
        assert_eq!(reader.claim(1000), 1, "the rest of the chunk was taken back");
    }
    // It asks on: that acknowledges its record, and there is no other.
    let more = tokio::time::timeout(Duration::from_millis(300), style.take(&mut reader)).await;
    assert!(more.is_err(), "it got {more:?}");
    tally.add(mine);
    tally.assert_once(RECORDS);
    sits.close(SOON).await.unwrap();
    other.close(SOON).await.unwrap();
    reading.await.unwrap();
    tally.assert_once(RECORDS);
    for consumer in [&sits, &other] {
        assert_eq!(consumer.stats().units_fenced, 0);
    }
}

/// Nothing is left for whoever comes next.
async fn assert_drained(consumer: Consumer) {
    let mut reader = consumer.reader();
    let more = tokio::time::timeout(Duration::from_millis(300), reader.next()).await;
    assert!(more.is_err(), "{more:?} was not acknowledged");
    consumer.close(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_consumer_gets_the_rest() {
    let bench = Bench::new(1).await;
    let (sits, other) = (bench.consumer().await, bench.consumer().await);
    others_get_the_rest(&bench, sits, other, Style::Next).await;
    assert_drained(bench.consumer().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_consumer_gets_the_rest_of_a_chunk() {
    let bench = Bench::new(1).await;
    let (sits, other) = (bench.consumer().await, bench.consumer().await);
    others_get_the_rest(&bench, sits, other, Style::Chunk).await;
    assert_drained(bench.consumer().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_reader_of_the_consumer_gets_the_rest() {
    let bench = Bench::new(1).await;
    let sits = bench.consumer().await;
    others_get_the_rest(&bench, sits.clone(), sits, Style::Batch).await;
    assert_drained(bench.consumer().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_consumer_of_a_redis_group_gets_the_rest() {
    let bench = Bench::new(1).await;
    let redis = RealRedis::start(&RedisOptions::new());
    let consumer = || async {
        let group = GroupConf::redis(RedisConf::new("127.0.0.1", redis.port(), bench.group.as_str()));
        Consumer::connect(bench.conf.clone(), group, &[&bench.topic]).await.unwrap()
    };
    others_get_the_rest(&bench, consumer().await, consumer().await, Style::Next).await;
    assert_drained(consumer().await).await;
}
