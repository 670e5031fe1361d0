//! Leaders that are away when a consumer connects: the other partitions are read, and theirs follow, with nothing skipped that
//! was produced after `connect` had returned.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicI16, AtomicI32, Ordering};
use std::time::{Duration, Instant};

use kafka_fast::config::{Codec, Config};
use kafka_fast::consumer::ConsumerError;
use kafka_fast::error::ErrorKind;
use kafka_fast::wire::BatchBuilder;
use kafka_fast::{Consumer, GroupConf, Reader, Record};
use kafka_fast_testkit::fake::{Api, Deed, FakeKafka, Way};
use kafka_fast_testkit::unique;

const SOON: Duration = Duration::from_secs(20);
/// What is told by then was not waited for until `metadata-timeout`.
const QUICK: Duration = Duration::from_secs(8);

fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

/// One record, written so many minutes ago; its value is `partition-offset`.
fn append(fake: &FakeKafka, partition: usize, minutes: i64) -> (i32, i64) {
    let offset = fake.log("t", partition).len() as i64;
    let mut batch = BatchBuilder::with_capacity(1 << 10);
    batch.append(now() - minutes * 60_000, &Record::value(&format!("{partition}-{offset}")));
    fake.append("t", partition, &batch.seal(Codec::None).finish());
    (partition as i32, offset)
}

/// Partition 0 is led by broker 1, partition 1 by broker 2, and each has two records of five minutes ago.
async fn cluster() -> FakeKafka {
    let fake = FakeKafka::start(2).await;
    fake.create_topic("t", 2);
    fake.move_leader("t", 0, 1);
    fake.move_leader("t", 1, 2);
    for partition in [0, 0, 1, 1] {
        append(&fake, partition, 5);
    }
    fake
}

fn conf(fake: &FakeKafka, use_earliest: bool) -> Config {
    let mut conf = Config::with_bootstrap(&fake.address()).unwrap();
    conf.use_earliest = use_earliest;
    conf
}

async fn connect(conf: Config, group: &str) -> Result<Consumer, ConsumerError> {
    Consumer::connect(conf, GroupConf::embedded(group), &["t"]).await
}

/// Reads until each of `expected` was there, each once and nothing else.
async fn reads(reader: &mut Reader, expected: &[(i32, i64)]) {
    let mut open: BTreeSet<(i32, i64)> = expected.iter().copied().collect();
    while !open.is_empty() {
        let next = tokio::time::timeout(SOON, reader.next()).await;
        let message = next.unwrap_or_else(|_| panic!("{open:?} did not come")).unwrap().unwrap();
        let at = (message.partition, message.offset);
        assert!(open.remove(&at), "{at:?} was not to come: {open:?}");
    }
}

async fn is_quiet(reader: &mut Reader) {
    let next = tokio::time::timeout(Duration::from_millis(300), reader.next()).await;
    assert!(next.is_err(), "{next:?}");
}

async fn waits_no_longer(consumer: &Consumer) {
    let until = Instant::now() + SOON;
    while consumer.stats().partitions_pending > 0 {
        assert!(Instant::now() < until, "{:?}", consumer.stats());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Connects while partition 1 cannot be started, reads partition 0, then lets `back` mend it, and reads partition 1.
async fn others_are_read(fake: &FakeKafka, use_earliest: bool, back: impl FnOnce()) {
    let began = Instant::now();
    let mut conf = conf(fake, use_earliest);
    conf.metadata_timeout = Duration::from_secs(2);
    let consumer = connect(conf, &unique("group")).await.unwrap();
    assert!(began.elapsed() < QUICK, "connected after {:?}", began.elapsed());
    assert_eq!(consumer.stats().partitions_pending, 1);
    let mut reader = consumer.reader();
    if use_earliest {
        reads(&mut reader, &[(0, 0), (0, 1)]).await;
    }
    let new = [append(fake, 0, 0), append(fake, 1, 0)];
    reads(&mut reader, &new[..1]).await;
    is_quiet(&mut reader).await;
    back();
    let old = [(1, 0), (1, 1)];
    let old = if use_earliest { &old[..] } else { &[] };
    reads(&mut reader, &[old, &new[1..]].concat()).await;
    waits_no_longer(&consumer).await;
    let new = [append(fake, 0, 0), append(fake, 1, 0)];
    reads(&mut reader, &new).await;
    is_quiet(&mut reader).await;
    drop(reader);
    consumer.close(SOON).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_without_a_leader_keeps_nobody_from_the_others() {
    for use_earliest in [true, false] {
        let fake = cluster().await;
        fake.move_leader("t", 1, -1);
        others_are_read(&fake, use_earliest, || fake.move_leader("t", 1, 1)).await;
    }
}

/// A fake whose broker 2 answers ListOffsets as the atomic says: -1 as it should, 0 not at all, else with that code.
fn says(fake: &FakeKafka, first: i16) -> Arc<AtomicI16> {
    let code = Arc::new(AtomicI16::new(first));
    let now = Arc::clone(&code);
    fake.on(Api::ListOffsets, move |asked| match now.load(Ordering::SeqCst) {
        0 if asked.node == 2 => Deed::way(Way::Late(Duration::from_millis(1500))),
        code if asked.node == 2 && code > 0 => Deed::code(code),
        _ => Deed::default(),
    });
    code
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_answers_late_keeps_nobody_from_the_others() {
    let fake = cluster().await;
    let code = says(&fake, 0);
    others_are_read(&fake, false, || code.store(-1, Ordering::SeqCst)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_refuses_for_a_while_keeps_nobody_from_the_others() {
    // LEADER_NOT_AVAILABLE, OFFSET_NOT_AVAILABLE
    for refusal in [5, 78] {
        let fake = cluster().await;
        let code = says(&fake, refusal);
        others_are_read(&fake, false, || code.store(-1, Ordering::SeqCst)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_nothing_can_be_started_connect_says_why() {
    let fake = cluster().await;
    fake.move_leader("t", 0, -1);
    fake.move_leader("t", 1, -1);
    let mut conf = conf(&fake, true);
    conf.metadata_timeout = Duration::from_secs(2);
    let error = connect(conf.clone(), &unique("group")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout);
    assert!(error.to_string().contains("the partition has no leader"), "{error}");
    // A right that is missing does not come by waiting.
    let fake = cluster().await;
    says(&fake, 29);
    let error = connect(self::conf(&fake, true), &unique("group")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authorization, "{error}");
}

/// What the group knows needs nobody's answer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_knows_its_positions_goes_on_while_a_leader_is_silent() {
    let fake = cluster().await;
    let group = unique("group");
    let consumer = connect(conf(&fake, true), &group).await.unwrap();
    let mut reader = consumer.reader();
    reads(&mut reader, &[(0, 0), (0, 1), (1, 0), (1, 1)]).await;
    is_quiet(&mut reader).await;
    drop(reader);
    consumer.close(SOON).await.unwrap();
    fake.on(
        Api::ListOffsets,
        |asked| {
            if asked.node == 2 { Deed::way(Way::Silence) } else { Deed::default() }
        },
    );
    let began = Instant::now();
    let consumer = connect(conf(&fake, true), &group).await.unwrap();
    assert!(
        began.elapsed() < Duration::from_millis(1500),
        "nobody was to be waited for: {:?}",
        began.elapsed()
    );
    assert_eq!(consumer.stats().partitions_pending, 0);
    let new = [append(&fake, 0, 0), append(&fake, 1, 0)];
    reads(&mut consumer.reader(), &new).await;
    consumer.close(SOON).await.unwrap();
}

/// The one who met it closes; another one, who reads the same topic, starts it for the time that is recorded in the group.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_member_starts_what_is_pending_where_the_first_was_to() {
    let fake = cluster().await;
    let group = unique("group");
    let code = says(&fake, 5);
    let first = connect(conf(&fake, false), &group).await.unwrap();
    let between = append(&fake, 1, 0);
    // It would read everything, but was not the first.
    let second = connect(conf(&fake, true), &group).await.unwrap();
    assert_eq!(second.stats().partitions_pending, 1);
    first.close(SOON).await.unwrap();
    code.store(-1, Ordering::SeqCst);
    reads(&mut second.reader(), &[between]).await;
    second.close(SOON).await.unwrap();
}

/// One topic that a broker says nothing good of keeps nobody from another that appears.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_appears_is_read_whatever_is_said_of_another_one() {
    let fake = cluster().await;
    let code = Arc::new(AtomicI32::new(0));
    let now = Arc::clone(&code);
    fake.on(Api::Metadata, move |asked| {
        let is_refused = asked.topic == "never" && now.load(Ordering::SeqCst) > 0;
        if is_refused { Deed::code(29) } else { Deed::default() }
    });
    let group = GroupConf::embedded(unique("group"));
    let consumer = Consumer::connect(conf(&fake, true), group, &["never", "late"]).await.unwrap();
    code.store(1, Ordering::SeqCst);
    fake.create_topic("late", 1);
    let mut batch = BatchBuilder::with_capacity(1 << 10);
    batch.append(self::now(), &Record::value("late"));
    fake.append("late", 0, &batch.seal(Codec::None).finish());
    let mut reader = consumer.reader();
    let message = tokio::time::timeout(SOON, reader.next()).await.expect("it is read").unwrap().unwrap();
    assert_eq!(&*message.topic, "late");
    consumer.close(SOON).await.unwrap();
}
