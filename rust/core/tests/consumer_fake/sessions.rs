//! The fetch sessions (KIP-227) of a group's watcher with brokers that do what they are told: what it names, and what it does when a
//! session is refused or lost. `brokers_real` has the same with real ones.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kafka_fast::config::{Codec, Config};
use kafka_fast::wire::{BatchBuilder, ErrorCode};
use kafka_fast::{Consumer, GroupConf, Reader, Record};
use kafka_fast_testkit::fake::{Api, Asked, Deed, FakeKafka, Way};
use kafka_fast_testkit::unique;

const TOPIC: &str = "t";
/// Far less than a poll waits: what comes within it was told by a poll.
const SOON: Duration = Duration::from_secs(10);
const POLL: Duration = Duration::from_secs(25);

/// A request of a session, as the broker met it.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Poll {
    node: i32,
    epoch: i64,
    /// How many partitions it names.
    named: i32,
}

fn polls(fake: &FakeKafka) -> Vec<Poll> {
    let asked = fake.asked().into_iter().filter(is_of_session);
    asked.map(|a| Poll { node: a.node, epoch: a.offset, named: a.partition }).collect()
}

fn is_of_session(asked: &Asked) -> bool {
    asked.api == Api::Fetch && asked.topic.is_empty() && asked.partition >= 0
}

fn append(fake: &FakeKafka, partition: i32) {
    let mut batch = BatchBuilder::with_capacity(100);
    batch.append(1, &Record::value("there"));
    fake.append(TOPIC, partition as usize, &batch.seal(Codec::None).finish());
}

async fn consumer(fake: &FakeKafka, poll: Duration) -> (Consumer, Reader) {
    let mut conf = Config::with_bootstrap(&fake.address()).unwrap();
    (conf.use_earliest, conf.max_wait) = (true, poll);
    let consumer = Consumer::connect(conf, GroupConf::embedded(unique("group")), &[TOPIC]).await.unwrap();
    let reader = consumer.reader();
    (consumer, reader)
}

/// The next record is there soon, and of that partition.
async fn arrives(reader: &mut Reader, partition: i32) {
    let next = tokio::time::timeout(SOON, reader.next()).await.expect("it is told by a poll");
    assert_eq!(next.unwrap().expect("it is not closed").partition, partition);
}

async fn eventually(what: &str, is: impl Fn() -> bool) {
    let deadline = Instant::now() + SOON;
    while !is() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Waits for a poll that names all partitions.
async fn full_poll(fake: &FakeKafka, partitions: i32) {
    let is_full = |poll: &Poll| poll.epoch == 0 && poll.named == partitions;
    eventually("a full poll", || polls(fake).iter().any(is_full)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_names_only_what_has_changed() {
    const PARTITIONS: i32 = 300;
    let fake = FakeKafka::start(1).await;
    fake.create_topic(TOPIC, PARTITIONS as usize);
    let (consumer, mut reader) = consumer(&fake, POLL).await;
    full_poll(&fake, PARTITIONS).await;
    let before = polls(&fake).len();
    for i in 0..40 {
        let partition = i * 7 % PARTITIONS;
        append(&fake, partition);
        arrives(&mut reader, partition).await;
    }
    eventually("polls after the records", || polls(&fake).len() >= before + 20).await;
    let after = polls(&fake).split_off(before);
    let named: i32 = after.iter().map(|poll| poll.named).sum();
    println!("{} polls named {named} partitions", after.len());
    // Each record moves its partition; while it is a unit's it may be forgotten and come back.
    assert!(named <= 3 * 40, "{after:?}");
    assert!(after.iter().all(|poll| poll.epoch > 0), "{after:?}");
    let counted = consumer.stats().long_poll_partitions;
    let all: i32 = polls(&fake).iter().map(|poll| poll.named).sum();
    assert!(counted.abs_diff(all as u64) <= 4, "{counted} counted, {all} came");
    drop(reader);
    consumer.close(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_refused_begins_again_at_once() {
    const PARTITIONS: i32 = 12;
    let refusals = [
        ErrorCode::FETCH_SESSION_ID_NOT_FOUND,
        ErrorCode::INVALID_FETCH_SESSION_EPOCH,
        ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR,
    ];
    begins_again(PARTITIONS, &refusals.map(|code| Deed::code(code.0))).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_whose_answer_is_lost_begins_again() {
    let ways = [Way::Cut, Way::Half, Way::Truncated];
    begins_again(12, &ways.map(Deed::way)).await;
}

/// A poll meets each of `deeds`, one after the other, and the records are told all the same.
async fn begins_again(partitions: i32, deeds: &[Deed]) {
    let fake = FakeKafka::start(1).await;
    fake.create_topic(TOPIC, partitions as usize);
    let armed: Arc<Mutex<Option<Deed>>> = Arc::default();
    let to_meet = Arc::clone(&armed);
    fake.on(Api::Fetch, move |asked| {
        let meets = is_of_session(asked) && asked.offset > 0;
        meets.then(|| to_meet.lock().unwrap().take()).flatten().unwrap_or_default()
    });
    let (consumer, mut reader) = consumer(&fake, POLL).await;
    full_poll(&fake, partitions).await;
    for (i, deed) in deeds.iter().enumerate() {
        let partition = i as i32 * 3;
        // The poll that waits is answered, and the next one meets it.
        *armed.lock().unwrap() = Some(*deed);
        append(&fake, partition);
        arrives(&mut reader, partition).await;
        eventually(&format!("{deed:?}"), || armed.lock().unwrap().is_none()).await;
        append(&fake, partition + 1);
        arrives(&mut reader, partition + 1).await;
        let begun = || polls(&fake).iter().filter(|poll| poll.epoch == 0).count();
        eventually("a full poll", || begun() >= i + 2).await;
        assert_eq!(begun(), i + 2, "{deed:?}: once");
    }
    drop(reader);
    consumer.close(SOON).await.unwrap();
}

/// A leader that has nothing left to watch is told that the session is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_not_needed_any_more_is_closed() {
    let fake = FakeKafka::start(2).await;
    fake.create_topic(TOPIC, 4);
    let (consumer, reader) = consumer(&fake, Duration::from_millis(300)).await;
    let has_polled = |node| polls(&fake).iter().any(|poll| poll.node == node && poll.epoch > 0);
    eventually("a session with each leader", || has_polled(1) && has_polled(2)).await;
    for partition in 0..4 {
        fake.move_leader(TOPIC, partition, 1);
    }
    let is_closed = || polls(&fake).iter().any(|poll| poll.node == 2 && poll.epoch == -1 && poll.named == 0);
    eventually("a farewell", is_closed).await;
    drop(reader);
    consumer.close(SOON).await.unwrap();
}

/// The connection for the farewell is one that others use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_slow_to_answer_a_farewell_keeps_its_connection() {
    const LATER: &str = "later";
    let fake = FakeKafka::start(2).await;
    fake.create_topic(TOPIC, 2);
    fake.create_topic(LATER, 2);
    fake.on(Api::Fetch, |asked| {
        let is_farewell = is_of_session(asked) && asked.offset == -1;
        Deed::way(if is_farewell { Way::Late(Duration::from_secs(2)) } else { Way::Whole })
    });
    let (consumer, reader) = consumer(&fake, Duration::from_millis(300)).await;
    let has_met = |epoch: i64| polls(&fake).iter().any(|poll| poll.node == 2 && poll.epoch == epoch);
    eventually("a session", || has_met(1)).await;
    let is_first = |asked: &&Asked| (asked.api, asked.node) == (Api::ApiVersions, 2);
    let connections = || fake.asked().iter().filter(is_first).count();
    let before = connections();
    (0..2).for_each(|partition| fake.move_leader(TOPIC, partition, 1));
    eventually("a farewell", || has_met(-1)).await;
    // It asks for start and end behind the farewell, and every connection begins with a question for versions.
    consumer.add_topics(&[LATER]).await.unwrap();
    let is_it = |asked: &&Asked| (asked.api, asked.node, &*asked.topic) == (Api::ListOffsets, 2, LATER);
    assert!(fake.asked().iter().any(|asked| is_it(&asked)));
    assert_eq!(connections(), before);
    drop(reader);
    consumer.close(SOON).await.unwrap();
}
