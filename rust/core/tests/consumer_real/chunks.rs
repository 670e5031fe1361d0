//! Reading by the chunk, as the JNI boundary does, and borrowed, by the batch.

use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use kafka_fast::consumer::{ChunkSink, Consumer, Filled, Put, Reader, UnitInfo};
use kafka_fast::wire::RecordRef;

use crate::support::{Bench, SOON, next, number};

/// A chunk of so many bytes.
struct Chunk {
    room: usize,
    numbers: Vec<u64>,
    used: usize,
}

impl ChunkSink for Chunk {
    fn put(&mut self, record: &RecordRef<'_>, _unit: &UnitInfo) -> Put {
        let value = record.value.unwrap();
        if value.len() > self.room {
            return Put::TooSmall(value.len());
        }
        if self.used + value.len() > self.room {
            return Put::Full;
        }
        self.used += value.len();
        self.numbers.push(u64::from_be_bytes(value[..8].try_into().unwrap()));
        Put::Taken
    }
}

/// Fills a chunk, waiting as Java would.
pub(crate) async fn fill(reader: &mut Reader, room: usize, max: usize) -> (Filled, Vec<u64>) {
    let deadline = Instant::now() + SOON;
    let mut chunk = Chunk { room, numbers: Vec::new(), used: 0 };
    let filled = std::future::poll_fn(|cx| reader.poll_fill(cx, &mut chunk, max));
    let filled = tokio::time::timeout_at(deadline.into(), filled).await.expect("in time").unwrap();
    (filled, chunk.numbers)
}

/// The next `count` records, sorted: units handed back come in any order.
async fn rest(consumer: &Consumer, count: usize) -> Vec<u64> {
    let mut reader = consumer.reader();
    let mut numbers = Vec::new();
    while numbers.len() < count {
        numbers.push(number(&next(&mut reader).await));
    }
    numbers.sort_unstable();
    numbers
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_hold_every_record_once_and_a_too_small_one_loses_nothing() {
    let bench = Bench::new(1).await;
    bench.produce(0, 0, 3_000, 250).await;
    let consumer = bench.consumer().await;
    let mut reader = consumer.reader();
    let mut got = Vec::new();
    while got.len() < 3_000 {
        let (filled, numbers) = fill(&mut reader, 640, 1000).await;
        assert_eq!(filled, Filled::Records(numbers.len() as u32));
        assert!(numbers.len() <= 40);
        reader.set_taken(numbers.len() as u32);
        got.extend(numbers);
        if got.len() == 1_000 {
            let (filled, numbers) = fill(&mut reader, 10, 1000).await;
            assert_eq!((filled, numbers.len()), (Filled::TooSmall(16), 0));
        }
    }
    assert_eq!(got, (0..3_000).collect::<Vec<_>>());
    consumer.close(SOON).await.unwrap();
    assert_eq!(fill(&mut reader, 640, 10).await.0, Filled::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_chunk_only_what_was_taken_counts_when_it_goes_back() {
    let bench = Bench::new(1).await;
    bench.produce(0, 0, 20, 20).await;
    let first = bench.consumer().await;
    let mut reader = first.reader();
    // The first units of an unknown handler are small, and a lone small backlog is split: read until 5 are in a chunk.
    let (_, numbers) = fill(&mut reader, 1 << 16, 5).await;
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
    // Taken: 0, 1 and 2; 2 is in hand.
    reader.set_taken(3);
    drop(reader);
    first.close(SOON).await.unwrap();
    let second = bench.consumer().await;
    assert_eq!(rest(&second, 18).await, (2..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_close_revokes_the_chunk_and_the_last_fill_acknowledges_what_was_taken() {
    let bench = Bench::new(1).await;
    bench.produce(0, 0, 20, 20).await;
    let consumer = bench.consumer().await;
    let mut reader = consumer.reader();
    let (_, numbers) = fill(&mut reader, 1 << 16, 5).await;
    assert_eq!(numbers, [0, 1, 2, 3, 4]);
    reader.set_taken(2);
    let closing = consumer.clone();
    let closed = tokio::spawn(async move { closing.close(SOON).await });
    let control = reader.control();
    let deadline = Instant::now() + SOON;
    while !control.is_revoked() {
        assert!(Instant::now() < deadline);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert_eq!(fill(&mut reader, 1 << 16, 5).await.0, Filled::Closed);
    closed.await.unwrap().unwrap();
    let second = bench.consumer().await;
    assert_eq!(rest(&second, 18).await, (2..20).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wait_that_is_given_up_loses_nothing() {
    let bench = Bench::new(1).await;
    let consumer = bench.consumer().await;
    let (mut gone, mut stays) = (consumer.reader(), consumer.reader());
    let mut chunk = Chunk { room: 640, numbers: Vec::new(), used: 0 };
    let mut cx = Context::from_waker(Waker::noop());
    assert!(matches!(gone.poll_fill(&mut cx, &mut chunk, 10), Poll::Pending));
    let waiting = tokio::spawn(async move { (next(&mut stays).await, stays) });
    tokio::time::sleep(Duration::from_millis(50)).await;
    // The one that came first never comes back, and does not say so either.
    let began = Instant::now();
    bench.produce(0, 7, 1, 1).await;
    let (message, _stays) = waiting.await.unwrap();
    assert_eq!(number(&message), 7);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    gone.cancel_wait();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn borrowed_batches_hold_every_record_once() {
    let bench = Bench::new(1).await;
    bench.produce(0, 0, 3_000, 250).await;
    let consumer = bench.consumer().await;
    let mut reader = consumer.reader();
    let mut got = Vec::new();
    while got.len() < 3_000 {
        let batch = tokio::time::timeout(SOON, reader.next_batch()).await.unwrap().unwrap();
        let mut batch = batch.expect("not closed");
        assert_eq!(batch.unit().partition, 0);
        // Not every batch is read to its end: the rest comes again.
        let most = if got.len() % 3 == 0 { 7 } else { usize::MAX };
        let mut taken = 0;
        while taken < most {
            let Some(record) = batch.next() else { break };
            got.push(u64::from_be_bytes(record.value.unwrap()[..8].try_into().unwrap()));
            taken += 1;
        }
    }
    assert_eq!(got, (0..3_000).collect::<Vec<_>>());
}
