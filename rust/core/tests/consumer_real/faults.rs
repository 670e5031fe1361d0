//! What goes wrong: silent brokers, deleted and compacted records, stuck readers, processes that slept.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use kafka_fast::config::Codec;
use kafka_fast::consumer::{ChunkSink, Consumer, Event, Filled, GroupConf, Put, UnitInfo};
use kafka_fast::wire::RecordRef;
use kafka_fast_testkit::{Fault, Options, Proxy, RealKafka, Version, free_port};

use crate::support::{Bench, SOON, Tally, next, number, read_all};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_says_nothing_or_hangs_up_costs_time_only() {
    let port = free_port();
    let kafka = RealKafka::start(&Options::new().advertise(port));
    let proxy = Proxy::start_on(port, &kafka.address()).await;
    let mut bench = Bench::at(&proxy.address(), 2).await;
    bench.conf.fetch_timeout = Duration::from_secs(1);
    bench.conf.request_timeout = Duration::from_secs(1);
    // Small pieces: most of it is still to be fetched when things go wrong.
    bench.conf.prefetch_bytes = 128 << 10;
    for partition in 0..2 {
        bench.produce_as(partition, partition as u64 * 1_500, 1_500, 20, 2_000, Codec::None).await;
    }
    let consumer = bench.consumer().await;
    let tally = Tally::default();
    let work = Duration::from_millis(1);
    let tasks: Vec<_> = (0..2).map(|_| read_all(consumer.reader(), tally.clone(), work)).collect();
    tally.reach(200, SOON).await;
    for fault in [Fault::Stall, Fault::Cut, Fault::Delay(Duration::from_millis(20))] {
        proxy.set(fault);
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        proxy.set(Fault::None);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    tally.reach(3_000, Duration::from_secs(40)).await;
    consumer.close(SOON).await.unwrap();
    for task in tasks {
        task.await.unwrap();
    }
    tally.assert_once(3_000);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_deleted_before_anyone_read_them_are_reported_lost() {
    let options = Options::new()
        .property("log.initial.task.delay.ms", "300")
        .property("log.retention.check.interval.ms", "200");
    let kafka = RealKafka::start(&options);
    let mut bench = Bench::at(&kafka.address(), 1).await;
    // Old enough for the default retention: deleted by the next check, which a first few race with.
    bench.timestamp = 1_000_000_000_000;
    bench.conf.prefetch_bytes = 64 << 10;
    bench.conf.consume_step = 20;
    let group = GroupConf::embedded(&*bench.group);
    let consumer = Consumer::connect(bench.conf.clone(), group, &[&bench.topic]).await.unwrap();
    bench.produce_as(0, 0, 200, 5, 50_000, Codec::None).await;
    let mut reader = consumer.reader();
    let mut read = BTreeSet::new();
    // The broker may be quicker than we are and delete all of it.
    if let Ok(message) = tokio::time::timeout(Duration::from_secs(2), reader.next()).await {
        read.insert(message.unwrap().unwrap().offset);
    }
    // While this record is in hand the broker deletes the rest. Old ones look for the first time after half a minute, whatever
    // they are told.
    let first_look = if kafka.version() == Version::V2_4 { 34 } else { 4 };
    tokio::time::sleep(Duration::from_secs(first_look)).await;
    bench.timestamp = 0;
    bench.produce(0, 200, 5, 5).await;
    while !read.contains(&204) {
        let message = tokio::time::timeout(SOON, reader.next()).await;
        let message = message.unwrap_or_else(|_| panic!("{read:?} {:?}", consumer.stats())).unwrap().unwrap();
        read.insert(message.offset);
    }
    let mut lost = 0;
    while let Some(event) = consumer.try_event() {
        if let Event::Lost { start, end, .. } = event {
            for offset in start..end {
                assert!(read.insert(offset), "{offset} was read, or reported twice");
                lost += 1;
            }
        }
    }
    assert_eq!(read, (0..205).collect(), "what was not read was reported");
    assert!(lost > 50, "{lost}");
    assert_eq!(consumer.stats().records_lost, lost);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gaps_of_compaction_are_passed_over() {
    let options = Options::new()
        .property("log.cleanup.policy", "compact")
        .property("log.cleaner.backoff.ms", "100")
        .property("log.cleaner.min.cleanable.ratio", "0.01")
        .property("log.roll.ms", "100");
    let kafka = RealKafka::start(&options);
    let bench = Bench::at(&kafka.address(), 1).await;
    for round in 0..40u64 {
        bench.produce_keyed(0, round * 50, 50, 10).await;
    }
    tokio::time::sleep(Duration::from_millis(300)).await;
    bench.produce_keyed(0, 2_000, 1, 1).await;
    let deadline = Instant::now() + Duration::from_secs(40);
    for attempt in 0.. {
        let group = GroupConf::embedded(format!("{}-{attempt}", bench.group));
        let consumer = Consumer::connect(bench.conf.clone(), group, &[&bench.topic]).await.unwrap();
        let (mut a, mut b) = (consumer.reader(), consumer.reader());
        let mut newest = BTreeMap::new();
        let mut count = 0;
        // The two readers share what is there; the last offset is always there.
        let mut done = false;
        while !done {
            let message = tokio::select! { m = a.next() => m, m = b.next() => m }.unwrap().unwrap();
            newest.entry(message.key.clone().unwrap()).or_insert(0).clone_from(&number(&message));
            count += 1;
            done = message.offset == 2_000;
        }
        // Every unit ends, also those in which nothing is left.
        let asked = Instant::now();
        while consumer.stats().units_held > 0 {
            assert!(asked.elapsed() < SOON, "{:?}", consumer.stats());
            let _ = tokio::time::timeout(Duration::from_millis(10), async {
                tokio::select! { m = a.next() => m, m = b.next() => m }
            })
            .await
            .map(|m| count += u64::from(m.unwrap().is_some()));
        }
        drop((a, b));
        consumer.close(SOON).await.unwrap();
        if count < 300 {
            assert_eq!(newest.len(), 10);
            return a_record_behind_a_gap_is_the_one_that_fails(&bench).await;
        }
        assert!(Instant::now() < deadline, "the broker does not compact: {count} records are left");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

/// Has no room for anything, and remembers for what.
#[derive(Default)]
struct NoRoom(Option<i64>);

impl ChunkSink for NoRoom {
    fn put(&mut self, record: &RecordRef<'_>, _: &UnitInfo) -> Put {
        self.0 = Some(record.offset);
        Put::TooSmall(1 << 20)
    }
}

/// A refusal names the record for which there is no room: one that named the gap before it would put the gap aside.
async fn a_record_behind_a_gap_is_the_one_that_fails(bench: &Bench) {
    let group = GroupConf::embedded(format!("{}-no-room", bench.group));
    let consumer = Consumer::connect(bench.conf.clone(), group, &[&bench.topic]).await.unwrap();
    let mut reader = consumer.reader();
    let mut sink = NoRoom::default();
    let filled = tokio::time::timeout(SOON, std::future::poll_fn(|cx| reader.poll_fill(cx, &mut sink, 10)));
    assert_eq!(filled.await.unwrap().unwrap(), Filled::TooSmall(1 << 20));
    let at = sink.0.expect("it was asked");
    assert!(at > 0, "compaction has left a gap before it");
    reader.failed("there is no room");
    while let Some(event) = tokio::time::timeout(SOON, consumer.event()).await.unwrap() {
        if let Event::Failed { start, .. } = event {
            return assert_eq!(start, at);
        }
    }
    panic!("no event says that it failed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_stuck_in_user_code_goes_to_another_reader() {
    let mut bench = Bench::new(1).await;
    // Long enough that on a busy machine nobody else is stuck, or without a lease.
    bench.conf.max_processing = Duration::from_secs(1);
    bench.conf.lease = Duration::from_secs(10);
    bench.conf.heartbeat = Duration::from_millis(100);
    bench.conf.retry_backoff = Duration::from_millis(10);
    bench.produce(0, 0, 2, 2).await;
    let consumer = bench.consumer().await;
    let mut stuck = consumer.reader();
    assert_eq!(number(&next(&mut stuck).await), 0);
    let mut other = consumer.reader();
    let began = Instant::now();
    let mut got = BTreeMap::new();
    while got.len() < 2 {
        let message = next(&mut other).await;
        got.insert(number(&message), message.attempt);
    }
    assert_eq!(got, [(0, 2), (1, 1)].into());
    assert!(began.elapsed() > Duration::from_millis(200), "{:?}", began.elapsed());
    assert!(stuck.control().is_revoked());
    // It comes back in the end, and nothing happens.
    bench.produce(0, 2, 1, 1).await;
    let message = tokio::select! { m = next(&mut stuck) => m, m = next(&mut other) => m };
    assert_eq!(number(&message), 2);
    assert_eq!(consumer.stats().units_stuck, 1);
    let events: Vec<_> = std::iter::from_fn(|| consumer.try_event()).collect();
    assert!(events.iter().any(|e| matches!(e, Event::Stuck { offset: 0, .. })), "{events:?}");
}

/// A process that slept longer than its lease hands out nothing that somebody else was given meanwhile.
#[test]
fn a_process_that_slept_hands_out_nothing_that_is_leased_elsewhere() {
    let awake = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let sleeper = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let mut bench = awake.block_on(Bench::new(1));
    bench.conf.lease = Duration::from_secs(1);
    bench.conf.heartbeat = Duration::from_millis(200);
    bench.conf.retry_backoff = Duration::from_millis(10);
    awake.block_on(bench.produce(0, 0, 100, 10));
    let (slept, mut reader, mut mine) = sleeper.block_on(async {
        let slept = bench.consumer().await;
        let mut reader = slept.reader();
        let mut mine = Vec::new();
        for _ in 0..3 {
            mine.push(number(&next(&mut reader).await));
        }
        (slept, reader, mine)
    });
    // From here on nothing of the sleeper runs.
    let tally = Tally::default();
    let (other, task) = awake.block_on(async {
        let other = bench.consumer().await;
        let task = read_all(other.reader(), tally.clone(), Duration::ZERO);
        // Numbers 0 and 1 were handled and may have been reported; 2 was in hand.
        tally.reach(98, SOON).await;
        (other, task)
    });
    sleeper.block_on(async {
        while let Ok(message) = tokio::time::timeout(Duration::from_millis(500), reader.next()).await {
            mine.push(number(&message.unwrap().unwrap()));
        }
    });
    assert_eq!(mine, [0, 1, 2]);
    sleeper.block_on(slept.close(SOON)).unwrap();
    awake.block_on(async {
        other.close(SOON).await.unwrap();
        task.await.unwrap();
    });
}
