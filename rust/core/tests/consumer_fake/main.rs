//! The consumer against brokers that do what they are told: one with one topic of one partition, whose batches have ten records,
//! and the test kit's, which keep what tests append.

mod away;
mod clusters;
mod damaged;
#[path = "../consumer_real/logs.rs"]
mod logs;
#[path = "../net_fake/mod.rs"]
mod net_fake;
mod recreated;
mod sessions;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kafka_fast::config::Config;
use kafka_fast::consumer::{Consumer, Event, GroupConf, Reader};
use kafka_fast::wire::messages::*;
use kafka_fast::wire::{BatchBuilder, ErrorCode, Record, Uuid};
use kafka_fast_testkit::fake::{self, Api, Deed, FakeKafka};
use kafka_fast_testkit::unique;
use net_fake::{Asked, Fake, Reply};

const RECORDS: i64 = 1000;
const PER_BATCH: i64 = 10;

fn batch(base: i64) -> Bytes {
    let mut batch = BatchBuilder::with_capacity(1 << 10);
    for offset in base..base + PER_BATCH {
        batch.append(1, &Record::value(&offset.to_be_bytes()));
    }
    let mut sealed = batch.seal(kafka_fast::config::Codec::None);
    sealed.stamp(None);
    let mut bytes = sealed.finish().to_vec();
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    bytes.into()
}

/// Versions with topics by name.
fn versions(asked: &Asked) -> Reply {
    versions_up_to(asked, 11)
}

fn versions_up_to(asked: &Asked, fetch: i16) -> Reply {
    let ranges = [(0, 3, 9), (1, 4, fetch), (2, 1, 6), (3, 4, 12), (18, 0, 3), (23, 2, 4)];
    let api = |(api_key, min_version, max_version)| ApiVersion { api_key, min_version, max_version };
    let answer = ApiVersionsResponse { api_keys: ranges.map(api).to_vec(), ..Default::default() };
    Reply::Say(asked.answer::<ApiVersionsRequest>(&answer))
}

fn metadata(asked: &Asked, port: i32, epoch: i32) -> Reply {
    metadata_of(asked, &[port], epoch)
}

/// Brokers 1 and so on; the first leads.
fn metadata_of(asked: &Asked, ports: &[i32], epoch: i32) -> Reply {
    let broker = |(node_id, port): (i32, &i32)| MetadataResponseBroker {
        node_id,
        host: "127.0.0.1".into(),
        port: *port,
        rack: None,
    };
    let partition = MetadataResponsePartition {
        leader_id: 1,
        leader_epoch: epoch,
        replica_nodes: vec![1],
        isr_nodes: vec![1],
        ..Default::default()
    };
    let topic = MetadataResponseTopic {
        name: Some("t".into()),
        topic_id: Uuid([7; 16]),
        partitions: vec![partition],
        ..Default::default()
    };
    let all = asked.read::<MetadataRequest>().topics.is_none_or(|topics| !topics.is_empty());
    let answer = MetadataResponse {
        brokers: (1..).zip(ports).map(broker).collect(),
        cluster_id: Some(format!("fake-{}", ports[0]).into()),
        controller_id: 1,
        topics: if all { vec![topic] } else { vec![] },
        ..Default::default()
    };
    Reply::Say(asked.answer::<MetadataRequest>(&answer))
}

fn list_offsets(asked: &Asked, epoch: i32) -> Reply {
    let request: ListOffsetsRequest = asked.read();
    let offset = |p: &ListOffsetsPartition| ListOffsetsPartitionResponse {
        partition_index: p.partition_index,
        offset: if p.timestamp == -1 { RECORDS } else { 0 },
        leader_epoch: epoch,
        ..Default::default()
    };
    let topic = |t: &ListOffsetsTopic| ListOffsetsTopicResponse {
        name: Arc::clone(&t.name),
        partitions: t.partitions.iter().map(offset).collect(),
    };
    let topics = request.topics.iter().map(topic).collect();
    Reply::Say(asked.answer::<ListOffsetsRequest>(&ListOffsetsResponse { topics, ..Default::default() }))
}

fn fetched(asked: &Asked, error: ErrorCode, position: i64) -> Reply {
    let records = (error == ErrorCode::NONE).then(|| batch(position / PER_BATCH * PER_BATCH));
    sent(asked, error, records, LeaderIdAndEpoch::default())
}

fn sent(asked: &Asked, error: ErrorCode, records: Option<Bytes>, current_leader: LeaderIdAndEpoch) -> Reply {
    let partition = PartitionData {
        error_code: error.0,
        high_watermark: RECORDS,
        log_start_offset: 0,
        records,
        current_leader,
        ..Default::default()
    };
    let topic =
        FetchableTopicResponse { topic: "t".into(), partitions: vec![partition], ..Default::default() };
    let answer = FetchResponse { responses: vec![topic], ..Default::default() };
    Reply::Say(asked.answer::<FetchRequest>(&answer))
}

async fn reads_from_the_start(fake: &Fake) -> (Consumer, Reader) {
    let mut conf = Config::with_bootstrap(&fake.address.to_string()).unwrap();
    conf.use_earliest = true;
    let consumer = Consumer::connect(conf, GroupConf::embedded(unique("group")), &["t"]).await.unwrap();
    let reader = consumer.reader();
    (consumer, reader)
}

/// What a task cannot calculate with stands for any defect: nobody waits for a task that is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_are_told_when_a_task_has_failed() {
    let port = Arc::new(AtomicI32::new(0));
    let at = Arc::clone(&port);
    let fake = Fake::raw(move |asked| match asked.api {
        18 => versions(&asked),
        3 => metadata(&asked, at.load(Ordering::SeqCst), 0),
        2 => list_offsets(&asked, 0),
        _ => Reply::Nothing,
    })
    .await;
    port.store(fake.address.port().into(), Ordering::SeqCst);
    let mut conf = Config::with_bootstrap(&fake.address.to_string()).unwrap();
    (conf.lease, conf.heartbeat) = (Duration::MAX, Duration::MAX / 2);
    let group = GroupConf::embedded(unique("group"));
    let consumer = Consumer::connect(conf, group, &["t"]).await.unwrap();
    let mut reader = consumer.reader();
    let told = tokio::time::timeout(Duration::from_secs(5), reader.next()).await.expect("an answer");
    let text = told.unwrap_err().to_string();
    assert!(text.contains("a defect in kafka-fast stopped it, see the log. Connect again"), "{text}");
}

/// A broker that does not lead a partition any more says who does (KIP-951), from version 12 on. The metadata may be behind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_a_refusal_names_is_read_from_at_once() {
    let ports = Arc::new([AtomicI32::new(0), AtomicI32::new(0)]);
    let broker = |node: i32| {
        let ports = Arc::clone(&ports);
        Fake::raw(move |asked| match asked.api {
            18 => versions_up_to(&asked, 12),
            3 => {
                let ports = ports.iter().map(|port| port.load(Ordering::SeqCst)).collect::<Vec<_>>();
                metadata_of(&asked, &ports, 0)
            }
            2 => list_offsets(&asked, 0),
            1 if node == 1 => {
                let leader = LeaderIdAndEpoch { leader_id: 2, leader_epoch: 1 };
                sent(&asked, ErrorCode::NOT_LEADER_OR_FOLLOWER, None, leader)
            }
            1 => match asked.read::<FetchRequest>().topics[0].partitions[0].fetch_offset {
                at if at >= RECORDS => Reply::Nothing,
                at => fetched(&asked, ErrorCode::NONE, at),
            },
            _ => Reply::Nothing,
        })
    };
    let (first, second) = (broker(1).await, broker(2).await);
    for (port, fake) in ports.iter().zip([&first, &second]) {
        port.store(fake.address.port().into(), Ordering::SeqCst);
    }
    let (consumer, mut reader) = reads_from_the_start(&first).await;
    for offset in 0..100 {
        let message = tokio::time::timeout(Duration::from_secs(5), reader.next()).await;
        let message = message.unwrap_or_else(|_| panic!("stuck at {offset}: {:?}", consumer.stats()));
        assert_eq!(message.unwrap().unwrap().offset, offset);
    }
}

/// Over its quota a consumer is answered at once, without a partition and without an error (KIP-219): that is no failure.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_only_throttles_is_no_error() {
    const PAUSE: Duration = Duration::from_millis(300);
    logs::keep();
    let (port, asked_for_metadata) = (Arc::new(AtomicI32::new(0)), Arc::new(AtomicI32::new(0)));
    let (at, count) = (Arc::clone(&port), Arc::clone(&asked_for_metadata));
    let fetches = Arc::new(AtomicI32::new(0));
    let fake = Fake::raw(move |asked| match asked.api {
        18 => versions(&asked),
        3 => {
            count.fetch_add(1, Ordering::SeqCst);
            metadata(&asked, at.load(Ordering::SeqCst), 0)
        }
        2 => list_offsets(&asked, 0),
        1 if fetches.fetch_add(1, Ordering::SeqCst) < 2 => {
            let throttle_time_ms = PAUSE.as_millis() as i32;
            let answer = FetchResponse { throttle_time_ms, ..Default::default() };
            Reply::Say(asked.answer::<FetchRequest>(&answer))
        }
        1 => {
            match asked.read::<FetchRequest>().topics.first().map(|topic| topic.partitions[0].fetch_offset) {
                Some(at) if at < RECORDS => fetched(&asked, ErrorCode::NONE, at),
                _ => Reply::Nothing,
            }
        }
        _ => Reply::Nothing,
    })
    .await;
    port.store(fake.address.port().into(), Ordering::SeqCst);
    let (_consumer, mut reader) = reads_from_the_start(&fake).await;
    let (before, began) = (asked_for_metadata.load(Ordering::SeqCst), std::time::Instant::now());
    for offset in 0..50 {
        assert_eq!(reader.next().await.unwrap().unwrap().offset, offset);
    }
    assert!(began.elapsed() >= PAUSE, "the broker asked for quiet");
    assert_eq!(logs::with(&["UNKNOWN_SERVER_ERROR"]), Vec::<String>::new());
    // The leader is not in question, either. (The organiser looks for new partitions every two seconds or so.)
    let looks = 1 + began.elapsed().as_secs() as i32;
    assert!(asked_for_metadata.load(Ordering::SeqCst) - before <= looks, "metadata was asked for again");
}

/// No checksum covers the length of a batch: one that is longer than what the broker sends is never whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_never_comes_whole_is_told_of() {
    let port = Arc::new(AtomicI32::new(0));
    let at = Arc::clone(&port);
    let fake = Fake::raw(move |asked| match asked.api {
        18 => versions(&asked),
        3 => metadata(&asked, at.load(Ordering::SeqCst), 0),
        2 => list_offsets(&asked, 0),
        1 => match asked.read::<FetchRequest>().topics[0].partitions[0].fetch_offset {
            at if at >= RECORDS => Reply::Nothing,
            at if at < 20 => fetched(&asked, ErrorCode::NONE, at),
            at => {
                let mut broken = batch(at).to_vec();
                broken[8..12].copy_from_slice(&10_000_i32.to_be_bytes());
                sent(&asked, ErrorCode::NONE, Some(broken.into()), Default::default())
            }
        },
        _ => Reply::Nothing,
    })
    .await;
    port.store(fake.address.port().into(), Ordering::SeqCst);
    let (consumer, mut reader) = reads_from_the_start(&fake).await;
    for offset in 0..20 {
        assert_eq!(reader.next().await.unwrap().unwrap().offset, offset);
    }
    let failed = async {
        loop {
            if let Event::Failed { start, reason, .. } = consumer.event().await.unwrap() {
                return (start, reason);
            }
        }
    };
    let told = async {
        tokio::select! { told = failed => told, more = reader.next() => panic!("{more:?}") }
    };
    let (start, reason) = tokio::time::timeout(Duration::from_secs(10), told).await.expect("it is told");
    assert_eq!(start, 20);
    assert!(reason.contains("the batch at offset 20 is cut off"), "{reason}");
}

/// The leader changes in the middle of a unit, and the new one, which serves records well, never says where the old epoch ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_does_not_answer_about_epochs_does_not_keep_the_group_waiting() {
    let (epoch, port) = (Arc::new(AtomicI32::new(0)), Arc::new(AtomicI32::new(0)));
    let (now, at) = (Arc::clone(&epoch), Arc::clone(&port));
    let fake = Fake::raw(move |asked| {
        let current = now.load(Ordering::SeqCst);
        match asked.api {
            18 => versions(&asked),
            3 => metadata(&asked, at.load(Ordering::SeqCst), current),
            2 => list_offsets(&asked, current),
            1 => {
                let request: FetchRequest = asked.read();
                let want = &request.topics[0].partitions[0];
                if want.fetch_offset >= RECORDS {
                    return Reply::Nothing;
                }
                if want.current_leader_epoch < current {
                    return fetched(&asked, ErrorCode::FENCED_LEADER_EPOCH, 0);
                }
                now.store(1, Ordering::SeqCst);
                fetched(&asked, ErrorCode::NONE, want.fetch_offset)
            }
            23 => Reply::Nothing,
            other => panic!("unexpected request {other}"),
        }
    })
    .await;
    port.store(fake.address.port().into(), Ordering::SeqCst);
    let mut conf = Config::with_bootstrap(&fake.address.to_string()).unwrap();
    conf.use_earliest = true;
    conf.lease = Duration::from_secs(2);
    conf.heartbeat = Duration::from_millis(300);
    let group = GroupConf::embedded(unique("group"));
    let consumer = Consumer::connect(conf, group, &["t"]).await.unwrap();
    let mut reader = consumer.reader();
    let soon = Duration::from_secs(3);
    for offset in 0..100 {
        let message = tokio::time::timeout(soon, reader.next()).await;
        let message = message.unwrap_or_else(|_| panic!("stuck at {offset}: {:?}", consumer.stats()));
        assert_eq!(message.unwrap().unwrap().offset, offset, "{:?}", consumer.stats());
        if offset == 5 {
            // Twice the lease: heartbeats have to renew it.
            tokio::time::sleep(Duration::from_secs(4)).await;
        }
    }
    assert_eq!(epoch.load(Ordering::SeqCst), 1);
    assert_eq!(consumer.stats().units_fenced, 0);
}

/// Two brokers with the topics "open" and "closed", each with a partition at either, and a switch: as long as it is on the topic
/// "closed" may not be read.
async fn a_topic_without_the_right_to_read() -> (FakeKafka, Arc<AtomicBool>) {
    let fake = FakeKafka::start(2).await;
    ["open", "closed"].iter().for_each(|topic| fake.create_topic(topic, 2));
    let denies = Arc::new(AtomicBool::new(true));
    let is_on = Arc::clone(&denies);
    fake.on(Api::Fetch, move |asked| {
        let denied = asked.topic == "closed" && is_on.load(Ordering::SeqCst);
        Deed::code(if denied { ErrorCode::TOPIC_AUTHORIZATION_FAILED.0 } else { 0 })
    });
    (fake, denies)
}

/// Joins a group of its own that reads both.
async fn reads_both(fake: &FakeKafka, step: u32) -> (Consumer, Reader) {
    let mut conf = Config::with_bootstrap(&fake.address()).unwrap();
    (conf.use_earliest, conf.consume_step) = (true, step);
    let group = GroupConf::embedded(unique("group"));
    let consumer = Consumer::connect(conf, group, &["open", "closed"]).await.unwrap();
    let reader = consumer.reader();
    (consumer, reader)
}

/// Reads `count` records of `topic`, which are there, and says how many of each partition.
async fn read(consumer: &Consumer, reader: &mut Reader, topic: &str, count: usize) -> [usize; 2] {
    let mut counts = [0; 2];
    for n in 0..count {
        let message = tokio::time::timeout(Duration::from_secs(20), reader.next()).await;
        let message = message.unwrap_or_else(|_| panic!("{n} of {count} of {topic}: {:?}", consumer.stats()));
        let message = message.unwrap().expect("it is not closed");
        assert_eq!(&*message.topic, topic, "{:?}", consumer.stats());
        counts[message.partition as usize] += 1;
    }
    counts
}

fn denials(consumer: &Consumer) -> Vec<(String, String)> {
    let events = std::iter::from_fn(|| consumer.try_event());
    let told = events.filter_map(|event| match event {
        Event::NotAuthorized { topic, reason } => Some((topic.to_string(), reason.to_string())),
        _ => None,
    });
    told.collect()
}

/// Fetches of "closed", by partition.
fn tries(fake: &FakeKafka) -> [usize; 2] {
    let of = |partition| {
        let is_it = |asked: &&fake::Asked| {
            (asked.api, &*asked.topic, asked.partition) == (Api::Fetch, "closed", partition)
        };
        fake.asked().iter().filter(is_it).count()
    };
    [of(0), of(1)]
}

/// There is a backlog of a thousand units that cannot be read: they keep nobody from reading the rest.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_may_not_be_read_is_told_of_and_the_others_are_read() {
    let (fake, denies) = a_topic_without_the_right_to_read().await;
    for base in (0..RECORDS).step_by(PER_BATCH as usize) {
        ["open", "closed"].iter().for_each(|topic| (0..2).for_each(|p| fake.append(topic, p, &batch(base))));
    }
    let (consumer, mut reader) = reads_both(&fake, 2).await;
    let all = RECORDS as usize;
    assert_eq!(read(&consumer, &mut reader, "open", 2 * all).await, [all, all]);
    tokio::time::sleep(Duration::from_secs(2)).await;
    fake.append("open", 0, &batch(RECORDS));
    assert_eq!(read(&consumer, &mut reader, "open", PER_BATCH as usize).await, [10, 0]);

    let told = denials(&consumer);
    let [(topic, reason)] = &told[..] else { panic!("it is told once: {told:?}") };
    assert_eq!(topic, "closed");
    assert!(reason.contains("may not READ topic \"closed\" (TOPIC_AUTHORIZATION_FAILED)"), "{reason}");
    assert_eq!(consumer.stats().topics_denied, 1);
    let tries = tries(&fake);
    assert!(tries.iter().all(|n| *n <= 6), "it is left alone for a while each time: {tries:?}");

    denies.store(false, Ordering::SeqCst);
    assert_eq!(read(&consumer, &mut reader, "closed", 2 * all).await, [all, all], "from its first record on");
    let stats = consumer.stats();
    assert_eq!((stats.topics_denied, stats.units_failed, stats.records_lost), (0, 0, 0), "{stats:?}");
    assert!(denials(&consumer).is_empty());
}

/// There is nothing to read yet: it is the look for new records that is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_may_not_be_read_does_not_delay_what_comes_in_others() {
    let (fake, denies) = a_topic_without_the_right_to_read().await;
    let (consumer, mut reader) = reads_both(&fake, 1000).await;
    let mut slowest = Duration::ZERO;
    for n in 0..20 {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let began = tokio::time::Instant::now();
        fake.append("open", n % 2, &batch(0));
        read(&consumer, &mut reader, "open", PER_BATCH as usize).await;
        slowest = slowest.max(began.elapsed());
    }
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert_eq!(denials(&consumer).len(), 1);
    let tries = tries(&fake);
    assert!(tries.iter().all(|n| (1..=6).contains(n)), "{tries:?}");
    denies.store(false, Ordering::SeqCst);
    fake.append("closed", 1, &batch(0));
    assert_eq!(read(&consumer, &mut reader, "closed", PER_BATCH as usize).await, [0, 10]);
}

/// The organiser reads `topics` and may not read "closed", which another member may: that hears of new records all the same.
/// Returns how often the organiser told that it may not read.
async fn hears_of_new_records(topics: &[&str]) -> usize {
    let fake = FakeKafka::start(2).await;
    ["open", "closed"].iter().for_each(|topic| fake.create_topic(topic, 2));
    let refused = Arc::new(AtomicI32::new(0));
    let (count, mut polls) = (Arc::clone(&refused), HashSet::new());
    fake.on(Api::Fetch, move |asked| {
        // The organiser has no reader: all it fetches are its polls, and those are of sessions.
        if asked.topic.is_empty() && asked.partition >= 0 {
            polls.insert(asked.request);
        }
        let denied = asked.topic == "closed" && polls.contains(&asked.request);
        count.fetch_add(denied.into(), Ordering::SeqCst);
        Deed::code(if denied { ErrorCode::TOPIC_AUTHORIZATION_FAILED.0 } else { 0 })
    });
    let conf = Config::with_bootstrap(&fake.address()).unwrap();
    let group = GroupConf::embedded(unique("group"));
    let organiser = Consumer::connect(conf.clone(), group.clone(), topics).await.unwrap();
    eventually("an organiser", || organiser.stats().organiser).await;
    let other = Consumer::connect(conf, group, &["closed"]).await.unwrap();
    let mut reader = other.reader();
    eventually("a refusal", || refused.load(Ordering::SeqCst) > 0).await;
    for n in 0..4 {
        let began = tokio::time::Instant::now();
        fake.append("closed", n % 2, &batch(0));
        read(&other, &mut reader, "closed", PER_BATCH as usize).await;
        assert!(began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
    }
    assert!(organiser.stats().organiser);
    assert!(denials(&other).is_empty());
    let told = denials(&organiser).len();
    assert_eq!(organiser.stats().topics_denied, told as u64);
    told
}

async fn eventually(what: &str, is: impl Fn() -> bool) {
    let there = async {
        while !is() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let there = tokio::time::timeout(Duration::from_secs(20), there).await;
    there.unwrap_or_else(|_| panic!("{what} did not come"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organiser_that_may_not_read_a_topic_looks_for_new_records_for_members_that_may() {
    assert_eq!(hears_of_new_records(&["open", "closed"]).await, 1, "it was to read it too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_organiser_that_may_not_read_what_only_others_read_looks_for_new_records_and_says_nothing() {
    assert_eq!(hears_of_new_records(&["open"]).await, 0);
}
