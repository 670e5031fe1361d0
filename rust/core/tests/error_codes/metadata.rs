//! Metadata: what is said of a topic once, what is said of it for good, and what is said of the whole answer.

use kafka_fast::cluster::{Cluster, Purpose, TopicError};
use kafka_fast::error::ErrorKind;
use kafka_fast::wire::{ErrorCode, Operation, Treatment};
use kafka_fast_testkit::fake::{Api, Deed, FakeKafka};
use tokio::task::JoinSet;

use super::*;

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

/// What no waiting mends: in words, and as a class.
pub(super) fn assert_fatal(error: &TopicError, code: ErrorCode, name: &str) {
    let text = error.to_string();
    assert!(text.contains(&code.to_string()) && text.contains(&format!("\"{name}\"")), "{code}: {text}");
    let forbidden = [ErrorCode::TOPIC_AUTHORIZATION_FAILED, ErrorCode::CLUSTER_AUTHORIZATION_FAILED];
    assert_eq!(error.kind() == ErrorKind::Authorization, forbidden.contains(&code), "{code}: {text}");
    assert!(["kafka-acls.sh", "log"].iter().any(|advice| text.contains(advice)), "no advice: {text}");
}

/// A topic that is refused for ever.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_stays_away_is_missing_or_waited_for_as_the_table_says() {
    let fake = FakeKafka::start(2).await;
    codes().for_each(|code| fake.create_topic(&topic(code), 1));
    fake.on(Api::Metadata, |asked| {
        asked.topic.strip_prefix("code.").map_or_else(Deed::default, |code| Deed::code(code.parse().unwrap()))
    });
    let cluster = Cluster::connect(&conf(&fake)).await.unwrap();
    let within = Duration::from_millis(1200);
    let mut ends = JoinSet::new();
    for code in codes() {
        let cluster = cluster.clone();
        ends.spawn(in_time(async move {
            let name = topic(code);
            let (to_write, to_read) =
                tokio::join!(cluster.topic(&name, within), cluster.topic_if_exists(&name, within));
            (code, to_write.unwrap_err(), to_read)
        }));
    }
    while let Some(end) = ends.join_next().await {
        let (code, to_write, to_read) = end.unwrap();
        match code.treatment(Operation::Metadata) {
            Treatment::Fatal => {
                assert_fatal(&to_write, code, &topic(code));
                assert_fatal(&to_read.unwrap_err(), code, &topic(code));
            }
            Treatment::Missing => {
                assert_eq!(to_write.kind(), ErrorKind::UnknownTopic, "{code}: {to_write}");
                assert!(to_read.unwrap_or_else(|e| panic!("{code}: {e}")).is_none(), "{code}");
            }
            Treatment::Retry | Treatment::Rebootstrap => {
                for error in [to_write, to_read.unwrap_err()] {
                    assert_eq!(error.kind(), ErrorKind::Timeout, "{code}: {error}");
                    assert_names(&error.to_string(), code, Some("within 1.2 s"));
                }
            }
            other => panic!("{code}: nobody who looks at metadata knows {other:?}"),
        }
    }
}

/// The bootstrap address is none of the brokers: whether it is asked again is seen.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_is_refused_as_a_whole_is_treated_as_the_table_says() {
    with_a_cluster_each(|code| async move {
        let fake = FakeKafka::start(2).await;
        fake.hide(1);
        fake.create_topic("t", 1);
        let cluster = Cluster::connect(&conf(&fake)).await.unwrap();
        let connection = cluster.connection(2, Purpose::Fetch).await.unwrap();
        let before = fake.asked().len();
        let mut refused = false;
        fake.on(Api::Metadata, move |asked| {
            let refuse = asked.topic.is_empty() && !std::mem::replace(&mut refused, true);
            if refuse { Deed::code(code.0) } else { Deed::default() }
        });
        let found = cluster.topic("t", WITHIN).await;
        let asked = fake.asked().split_off(before);
        let looks = asked.iter().filter(|asked| asked.api == Api::Metadata && asked.topic.is_empty());
        let nodes: Vec<i32> = looks.map(|asked| asked.node).collect();
        match code.treatment(Operation::Metadata) {
            Treatment::Fatal => {
                assert_fatal(&found.unwrap_err(), code, "t");
                assert!(!connection.is_closed(), "{code}: the brokers are forgotten");
            }
            Treatment::Retry | Treatment::Missing => {
                assert!(found.unwrap_or_else(|e| panic!("{code}: {e}")).has_all_leaders(), "{code}");
                assert!(nodes.len() >= 2, "{code}");
                assert!(!connection.is_closed(), "{code}: the brokers are forgotten");
            }
            Treatment::Rebootstrap => {
                assert!(found.unwrap_or_else(|e| panic!("{code}: {e}")).has_all_leaders(), "{code}");
                assert_eq!(nodes, [2, 1], "{code}: whom was asked after the refusal");
                assert!(connection.is_closed(), "{code}: the brokers are not forgotten");
                assert_eq!(cluster.nodes(), [2]);
            }
            other => panic!("{code}: nobody who looks at metadata knows {other:?}"),
        }
    })
    .await;
}

/// The first answer that a client gets is refused as a whole.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_answer_that_is_refused_does_what_the_table_says() {
    with_a_cluster_each(|code| async move {
        let fake = FakeKafka::start(1).await;
        let mut refused = false;
        fake.on(Api::Metadata, move |_| {
            if std::mem::replace(&mut refused, true) { Deed::default() } else { Deed::code(code.0) }
        });
        let connected = Cluster::connect(&conf(&fake)).await;
        if code.treatment(Operation::Metadata) == Treatment::Fatal {
            let text = connected.unwrap_err().to_string();
            assert!(text.contains(&code.to_string()) && text.contains(&fake.address()), "{code}: {text}");
        } else {
            assert_eq!(connected.unwrap_or_else(|e| panic!("{code}: {e}")).nodes(), [1]);
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_names_nobody_is_named() {
    let fake = FakeKafka::start(1).await;
    fake.hide(1);
    let mut conf = conf(&fake);
    conf.metadata_timeout = Duration::from_millis(500);
    let connect = async || in_time(Cluster::connect(&conf)).await.unwrap_err().to_string();
    let start = format!("{} answered, but named no brokers", fake.address());
    let text = connect().await;
    assert!(text.starts_with(&format!("{start}. Is it still starting")), "{text}");
    fake.on(Api::Metadata, |_| Deed::code(ErrorCode::UNKNOWN_SERVER_ERROR.0));
    let text = connect().await;
    assert!(text.starts_with(&format!("{start}: UNKNOWN_SERVER_ERROR. Is it")), "{text}");
}
