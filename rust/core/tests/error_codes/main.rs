//! Every code of the table (`wire/error_code.rs`), and one that is newer, against a cluster that answers it once: what the
//! client does then is what the table says. Each code has a topic of its own, so that all are met at the same time.

mod ways;

use std::collections::HashSet;
use std::future::Future;
use std::time::Duration;

use kafka_fast::cluster::{Cluster, Isolation, OffsetAt, OffsetQuery};
use kafka_fast::config::{Codec, Config};
use kafka_fast::wire::{BatchBuilder, ErrorCode, Operation, Treatment};
use kafka_fast::{Consumer, GroupConf, Producer, Record};
use kafka_fast_testkit::fake::{Api, Asked, Deed, FakeKafka};
use kafka_fast_testkit::unique;
use tokio::task::JoinSet;

/// No operation that goes well needs as long.
const WITHIN: Duration = Duration::from_secs(40);

/// All codes but success, and one that Kafka does not have yet.
fn codes() -> impl Iterator<Item = ErrorCode> {
    ErrorCode::all().filter(|code| !code.is_ok()).chain([ErrorCode(9999)])
}

fn topic(code: ErrorCode) -> String {
    format!("code.{}", code.0)
}

/// A cluster with a topic for each code, which answers the first request of `api` about each with its code; of fetches the
/// first that begins at `offset`, which is -1 in all others.
async fn cluster_that_refuses_once(api: Api, offset: i64) -> FakeKafka {
    let fake = FakeKafka::start(2).await;
    codes().for_each(|code| fake.create_topic(&topic(code), 1));
    let mut met = HashSet::new();
    fake.on(api, move |asked| {
        let code = asked.topic.strip_prefix("code.").map(|code| code.parse().expect("topics have numbers"));
        match code {
            Some(code) if asked.offset == offset && met.insert(asked.topic.clone()) => Deed::code(code),
            _ => Deed::default(),
        }
    });
    fake
}

fn conf(fake: &FakeKafka) -> Config {
    let mut conf = Config::with_bootstrap(&fake.address()).unwrap();
    conf.set("request.timeout.ms", "10000").unwrap();
    conf
}

/// What was asked about a topic, in order.
fn asked_about(asked: &[Asked], topic: &str) -> Vec<Api> {
    asked.iter().filter(|asked| asked.topic == topic).map(|asked| asked.api).collect()
}

/// Whether `then` was asked for behind the first `api`.
fn followed_by(asked: &[Api], api: Api, then: Api) -> bool {
    asked.iter().skip_while(|a| **a != api).skip(1).any(|a| *a == then)
}

fn count(asked: &[Api], api: Api) -> usize {
    asked.iter().filter(|a| **a == api).count()
}

async fn eventually(what: &str, is: impl Fn() -> bool) {
    for _ in 0..1000 {
        if is() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what} did not happen within 10 s");
}

async fn in_time<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(WITHIN, future).await.expect("it ends in time")
}

/// An error text that helps: what was answered, and where.
fn assert_names(text: &str, code: ErrorCode, partition: Option<&str>) {
    let names_it = text.contains(&code.to_string()) && text.contains(&topic(code));
    assert!(names_it && partition.is_none_or(|partition| text.contains(partition)), "{code}: {text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_does_what_the_table_says() {
    let fake = cluster_that_refuses_once(Api::Produce, -1).await;
    let mut conf = conf(&fake);
    // Both records of a topic in one batch.
    conf.set("linger.ms", "2000").unwrap();
    let producer = Producer::connect(conf).await.unwrap();
    let mut ids = Vec::new();
    for code in codes() {
        ids.push((code, producer.topic(&topic(code)).await.unwrap()));
    }
    let mut ends = JoinSet::new();
    for (code, id) in ids {
        let send = |value| producer.try_append_tracked(id, Some(0), None, &Record::value(value)).unwrap();
        let (one, two) = (send("one"), send("two"));
        ends.spawn(in_time(async move { (code, one.await, two.await) }));
    }
    let mut refreshing = Vec::new();
    while let Some(end) = ends.join_next().await {
        let (code, one, two) = end.unwrap();
        let treatment = code.treatment(Operation::Produce);
        let (log, asked) = (fake.log(&topic(code), 0), asked_about(&fake.asked(), &topic(code)));
        let requests = count(&asked, Api::Produce);
        if treatment == Treatment::Fatal {
            assert_names(&one.unwrap_err().to_string(), code, Some("partition 0"));
            assert!(two.is_err() && log.is_empty() && requests == 1, "{code}: {requests}");
            continue;
        }
        let (one, two) = (one.unwrap_or_else(|e| panic!("{code}: {e}")), two.unwrap());
        match treatment {
            // "It is there already": nothing is sent again, and nobody knows at which offset it is.
            Treatment::Done => {
                assert_eq!((requests, log.len(), one.offset, two.offset), (1, 0, -1, -1), "{code}")
            }
            Treatment::Retry | Treatment::RetryAWhile | Treatment::Refresh => {
                assert_eq!((requests, log.len(), one.offset, two.offset), (2, 1, 0, 1), "{code}");
                refreshing.push((code, treatment == Treatment::Refresh));
            }
            Treatment::Renumber => {
                assert_eq!((requests, log.len(), log[0].producer_epoch()), (2, 1, 1), "{code}");
            }
            Treatment::Split => {
                let counts: Vec<i32> = log.iter().map(|batch| batch.count()).collect();
                assert_eq!((requests, &counts[..], two.offset), (3, &[1, 1][..], 1), "{code}");
            }
            other => panic!("{code}: a producer does not know {other:?}"),
        }
    }
    for (code, refreshes) in refreshing {
        let is_refreshed =
            || followed_by(&asked_about(&fake.asked(), &topic(code)), Api::Produce, Api::Metadata);
        if refreshes {
            eventually(&format!("{code}: a look at the metadata"), is_refreshed).await;
        } else {
            assert!(!is_refreshed(), "{code}: nobody need look at the metadata");
        }
    }
    in_time(producer.close(WITHIN)).await.unwrap();
}

/// Readers wait for whatever a broker refuses, which the table says; the one exception is a position outside of the log.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_does_what_the_table_says() {
    fetches(0).await;
}

/// What is asked for at the end of a log, so that the group hears of what comes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_poll_does_what_the_table_says() {
    fetches(1).await;
}

/// Reads topics of one record each, when the first fetch at `offset` is refused.
async fn fetches(offset: i64) {
    let fake = cluster_that_refuses_once(Api::Fetch, offset).await;
    let mut batch = BatchBuilder::with_capacity(100);
    batch.append(1, &Record::value("there"));
    let batch = batch.seal(Codec::None).finish();
    codes().for_each(|code| fake.append(&topic(code), 0, &batch));
    let mut conf = conf(&fake);
    conf.use_earliest = true;
    let topics: Vec<String> = codes().map(topic).collect();
    let topics: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
    let group = GroupConf::embedded(unique("group"));
    let consumer = in_time(Consumer::connect(conf, group, &topics)).await.unwrap();
    let mut reader = consumer.reader();
    let mut read = HashSet::new();
    while read.len() < topics.len() {
        let missing = || topics.iter().filter(|topic| !read.contains(**topic)).collect::<Vec<_>>();
        let next = tokio::time::timeout(WITHIN, reader.next()).await;
        let message = next.unwrap_or_else(|_| panic!("nothing of {:?}", missing())).unwrap();
        let message = message.expect("it is not closed");
        assert!(read.insert(message.topic.to_string()), "{} came twice", message.topic);
    }
    for code in codes() {
        let then = match code.treatment(Operation::Fetch) {
            Treatment::Refresh => Api::Metadata,
            Treatment::Reset => Api::ListOffsets,
            other => panic!("{code}: a consumer does not know {other:?}"),
        };
        let (all, name) = (|| fake.asked(), topic(code));
        // Other fetches of the topic do not matter. (A group's organiser looks at its topics every two seconds, too: that
        // metadata is asked for is seen here, not by whom.)
        let matters = |asked: &Asked| asked.api != Api::Fetch || asked.offset == offset;
        let asked = || asked_about(&all().into_iter().filter(matters).collect::<Vec<_>>(), &name);
        eventually(&format!("{code}: {then:?}"), || followed_by(&asked(), Api::Fetch, then)).await;
        eventually(&format!("{code}: once more"), || count(&asked(), Api::Fetch) >= 2).await;
    }
    drop(reader);
    in_time(consumer.close(WITHIN)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_at_metadata_does_what_the_table_says() {
    let fake = cluster_that_refuses_once(Api::Metadata, -1).await;
    let cluster = Cluster::connect(&conf(&fake)).await.unwrap();
    let mut ends = JoinSet::new();
    for code in codes() {
        let cluster = cluster.clone();
        ends.spawn(in_time(async move { (code, cluster.topic(&topic(code), WITHIN).await) }));
    }
    while let Some(end) = ends.join_next().await {
        let (code, found) = end.unwrap();
        match code.treatment(Operation::Metadata) {
            Treatment::Fatal => assert_names(&found.unwrap_err().to_string(), code, None),
            // A topic that is missing may be on its way; of a single topic nobody says "start over".
            Treatment::Retry | Treatment::Missing | Treatment::Rebootstrap => {
                let asked = asked_about(&fake.asked(), &topic(code));
                assert!(found.unwrap_or_else(|e| panic!("{code}: {e}")).has_all_leaders(), "{code}");
                assert!(count(&asked, Api::Metadata) >= 2, "{code}");
            }
            other => panic!("{code}: nobody who looks at metadata knows {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_for_offsets_does_what_the_table_says() {
    let fake = cluster_that_refuses_once(Api::ListOffsets, -1).await;
    let cluster = Cluster::connect(&conf(&fake)).await.unwrap();
    let mut ends = JoinSet::new();
    for code in codes() {
        let cluster = cluster.clone();
        ends.spawn(in_time(async move {
            cluster.topic(&topic(code), WITHIN).await.unwrap();
            let query = OffsetQuery { topic: topic(code).into(), partition: 0, at: OffsetAt::Latest };
            (code, cluster.list_offsets(&[query], Isolation::ReadUncommitted, WITHIN).await)
        }));
    }
    while let Some(end) = ends.join_next().await {
        let (code, found) = end.unwrap();
        match code.treatment(Operation::ListOffsets) {
            Treatment::Fatal => {
                assert_names(&found.unwrap_err().to_string(), code, Some(&format!("{}/0", topic(code))));
            }
            Treatment::Refresh => {
                let mut asked = asked_about(&fake.asked(), &topic(code));
                // A broker that is slow to answer does not keep the other from being asked.
                asked.dedup();
                assert_eq!(found.unwrap_or_else(|e| panic!("{code}: {e}"))[0].offset, 0);
                let expected = [Api::Metadata, Api::ListOffsets, Api::Metadata, Api::ListOffsets];
                assert_eq!(asked, expected, "{code}");
            }
            other => panic!("{code}: nobody who asks for offsets knows {other:?}"),
        }
    }
}
