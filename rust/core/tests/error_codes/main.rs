//! Every code of the table (`wire/error_code.rs`), and one that is newer, against a cluster that answers it: what the client
//! does then is what the table says. Each code has a topic or a group of its own, or, where a request has neither, a cluster,
//! so that all are met at the same time.
//!
//! All operations of the table are walked: Produce, Fetch and ListOffsets here, Metadata in `metadata`, CreateTopics in
//! `creation`, InitProducerId in `identity`, FindCoordinator, OffsetCommit and OffsetFetch in `groups`; in `lasting` the
//! refusal never ends. `table` holds the table itself against what Kafka's own client does. `ways` is about answers without
//! codes that do not come as they should.
//!
//! Three requests have codes and no column in the table, since they have no treatment but to fail: ApiVersions, SaslHandshake
//! and SaslAuthenticate (`net_sasl`). What OffsetForLeaderEpoch is refused with is logged and left. CreatePartitions,
//! DeleteRecords, DeleteTopics, DescribeCluster, DescribeConfigs, IncrementalAlterConfigs and ListGroups are spoken, but no
//! operation of the library sends them. That an InitProducerId which should pass is given up after 20 s is not waited for.

mod creation;
mod groups;
mod identity;
mod lasting;
mod metadata;
mod table;
mod ways;

use std::collections::{HashMap, HashSet};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kafka_fast::cluster::{Cluster, Isolation, OffsetAt, OffsetQuery};
use kafka_fast::config::{Codec, Config};
use kafka_fast::wire::{BatchBuilder, ErrorCode, Operation, Treatment};
use kafka_fast::{Consumer, GroupConf, Producer, Record};
use kafka_fast_testkit::fake::{Api, Asked, Deed, FakeKafka};
use kafka_fast_testkit::unique;
use tokio::sync::Semaphore;
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

/// Walks the codes that have to have a cluster of their own, some at a time: each takes some sockets.
async fn with_a_cluster_each<F>(walk: impl Fn(ErrorCode) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let turns = Arc::new(Semaphore::new(16));
    let mut ends = JoinSet::new();
    for code in codes() {
        let (turns, walk) = (Arc::clone(&turns), walk(code));
        ends.spawn(async move {
            let _turn = turns.acquire_owned().await.unwrap();
            in_time(walk).await;
        });
    }
    while let Some(end) = ends.join_next().await {
        end.unwrap();
    }
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
    conf.set("linger.ms", "500").unwrap();
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

/// Forty times is more than what may be the batch's own fault is tried. (An election in each refusal spares the back-off.)
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_tries_thirty_times_or_for_ever_as_the_table_says() {
    let fake = FakeKafka::start(2).await;
    codes().for_each(|code| fake.create_topic(&topic(code), 1));
    let mut refusals: HashMap<String, u32> = HashMap::new();
    fake.on(Api::Produce, move |asked| {
        let refusals = refusals.entry(asked.topic.clone()).or_default();
        *refusals += 1;
        let code = asked.topic.strip_prefix("code.").expect("all topics have a code").parse().unwrap();
        if *refusals <= 40 { Deed { elects: true, ..Deed::code(code) } } else { Deed::default() }
    });
    let producer = Producer::connect(conf(&fake)).await.unwrap();
    let mut ends = JoinSet::new();
    for code in codes() {
        let treatment = code.treatment(Operation::Produce);
        if !matches!(treatment, Treatment::Retry | Treatment::Refresh | Treatment::RetryAWhile) {
            continue;
        }
        let id = producer.topic(&topic(code)).await.unwrap();
        let sent = producer.try_append_tracked(id, Some(0), None, &Record::value("x")).unwrap();
        ends.spawn(in_time(async move { (code, treatment, sent.await) }));
    }
    while let Some(end) = ends.join_next().await {
        let (code, treatment, sent) = end.unwrap();
        let requests = count(&asked_about(&fake.asked(), &topic(code)), Api::Produce);
        if treatment == Treatment::RetryAWhile {
            assert_names(&sent.unwrap_err().to_string(), code, Some("partition 0"));
            assert_eq!((requests, fake.log(&topic(code), 0).len()), (30, 0), "{code}");
        } else {
            assert_eq!(sent.unwrap_or_else(|e| panic!("{code}: {e}")).offset, 0);
            assert_eq!((requests, fake.log(&topic(code), 0).len()), (41, 1), "{code}");
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

/// What a broker says of all of a fetch is said of each of its partitions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_fetch_that_is_refused_as_a_whole_is_refused_for_each_partition() {
    let mut batch = BatchBuilder::with_capacity(100);
    batch.append(1, &Record::value("there"));
    let batch = batch.seal(Codec::None).finish();
    with_a_cluster_each(|code| {
        let batch = batch.clone();
        async move {
            let fake = FakeKafka::start(1).await;
            fake.create_topic("t", 1);
            fake.append("t", 0, &batch);
            let mut refused = false;
            fake.on(Api::Fetch, move |asked| {
                let refuse = asked.topic.is_empty() && !std::mem::replace(&mut refused, true);
                if refuse { Deed::code(code.0) } else { Deed::default() }
            });
            let mut conf = conf(&fake);
            conf.use_earliest = true;
            let group = GroupConf::embedded(unique("group"));
            let consumer = Consumer::connect(conf, group, &["t"]).await.unwrap();
            let mut reader = consumer.reader();
            assert_eq!(reader.next().await.unwrap().expect("it is not closed").offset, 0, "{code}");
            // The refused one was about nothing but itself.
            let asked: Vec<Asked> =
                fake.asked().into_iter().filter(|asked| asked.api == Api::Fetch).collect();
            let refused = asked.iter().filter(|a| a.request == asked[0].request);
            assert_eq!(refused.count(), 1, "{code}");
            let asked = || fake.asked().iter().map(|asked| asked.api).collect::<Vec<_>>();
            let then = match code.treatment(Operation::Fetch) {
                Treatment::Refresh => Api::Metadata,
                Treatment::Reset => Api::ListOffsets,
                other => panic!("{code}: a consumer does not know {other:?}"),
            };
            eventually(&format!("{code}: {then:?}"), || followed_by(&asked(), Api::Fetch, then)).await;
            drop(reader);
            consumer.close(WITHIN).await.unwrap();
        }
    })
    .await;
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
                let text = found.unwrap_err().to_string();
                assert_names(&text, code, Some(&format!("{}/0", topic(code))));
                let brokers = [1, 2].map(|node| fake.address_of(node));
                assert!(brokers.iter().any(|broker| text.contains(broker)), "{text}");
                assert!(text.contains("kafka-acls.sh") || text.contains("log"), "no advice: {text}");
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
