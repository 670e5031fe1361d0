//! CreateTopics: what the controller says of one topic. And topics that brokers may create by themselves, or not.

use std::time::Instant;

use kafka_fast::cluster::{Cluster, TopicError};
use kafka_fast::error::ErrorKind;
use kafka_fast::wire::{ErrorCode, Operation, Treatment};
use kafka_fast_testkit::fake::{Api, Deed, FakeKafka, Way};

use super::*;

/// The controllers that were asked, and what else was, without what came twice in a row.
fn steps(asked: &[Asked]) -> Vec<(Api, Option<i32>)> {
    let node = |asked: &Asked| Some(asked.node).filter(|_| asked.api == Api::CreateTopics);
    let mut steps: Vec<_> = asked.iter().map(|asked| (asked.api, node(asked))).collect();
    steps.retain(|(api, _)| matches!(api, Api::CreateTopics | Api::Metadata));
    // A broker that is slow to answer does not keep the other from being asked.
    steps.dedup();
    steps
}

/// The controller moves with the refusal: who asks again without looking who it is asks the wrong one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_creation_does_what_the_table_says() {
    with_a_cluster_each(|code| async move {
        let fake = FakeKafka::start(2).await;
        let cluster = Cluster::connect(&conf(&fake)).await.unwrap();
        let before = fake.asked().len();
        let mut refused = false;
        fake.on(Api::CreateTopics, move |_| {
            if std::mem::replace(&mut refused, true) { Deed::default() } else { Deed::code(code.0) }
        });
        fake.move_controller(2);
        let created = cluster.create_topic("t", 3, 1, WITHIN).await;
        let steps = steps(&fake.asked()[before..]);
        let (first, second) = ((Api::CreateTopics, Some(1)), (Api::CreateTopics, Some(2)));
        match code.treatment(Operation::CreateTopics) {
            Treatment::Fatal => {
                metadata::assert_fatal(&created.unwrap_err(), code, "t");
                assert!(steps == [first] && !fake.has_topic("t"), "{code}: {steps:?}");
            }
            Treatment::DoneIfTried => {
                let error = created.unwrap_err();
                assert!(matches!(error, TopicError::Exists { .. }), "{code}: {error}");
                assert_eq!(error.to_string(), "Topic \"t\" exists already");
                assert!(steps == [first] && !fake.has_topic("t"), "{code}: {steps:?}");
            }
            Treatment::Refresh => {
                created.unwrap_or_else(|e| panic!("{code}: {e}"));
                assert_eq!(steps, [first, (Api::Metadata, None), second], "{code}");
                assert!(fake.has_topic("t"));
            }
            other => panic!("{code}: nobody who creates topics knows {other:?}"),
        }
    })
    .await;
}

/// A quota for creations (KIP-599): who asks before the time that is said only uses more of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_creation_that_is_throttled_is_tried_again_when_it_may() {
    let fake = FakeKafka::start(1).await;
    let cluster = Cluster::connect(&conf(&fake)).await.unwrap();
    let mut refused = false;
    fake.on(Api::CreateTopics, move |_| {
        let over = Deed { throttle_ms: 1_500, ..Deed::code(ErrorCode::THROTTLING_QUOTA_EXCEEDED.0) };
        if std::mem::replace(&mut refused, true) { Deed::default() } else { over }
    });
    cluster.create_topic("t", 3, 1, WITHIN).await.unwrap();
    let asked = fake.asked();
    let at: Vec<_> =
        asked.iter().filter(|asked| asked.api == Api::CreateTopics).map(|asked| asked.at).collect();
    assert!(at.len() == 2 && at[1] - at[0] >= Duration::from_millis(1_500), "{at:?}");
}

/// "It exists already" at the second try: only where the first may have made it is that what was asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_an_earlier_try_may_have_made_is_made() {
    let in_doubt = [ErrorCode::REQUEST_TIMED_OUT, ErrorCode::UNKNOWN_SERVER_ERROR];
    with_a_cluster_each(move |code| async move {
        if code.treatment(Operation::CreateTopics) != Treatment::Refresh {
            return;
        }
        let fake = FakeKafka::start(1).await;
        let cluster = Cluster::connect(&conf(&fake)).await.unwrap();
        let mut refused = false;
        fake.on(Api::CreateTopics, move |_| {
            let again = std::mem::replace(&mut refused, true);
            Deed::code(if again { ErrorCode::TOPIC_ALREADY_EXISTS } else { code }.0)
        });
        match cluster.create_topic("t", 1, 1, WITHIN).await {
            Ok(()) => assert!(in_doubt.contains(&code), "{code}: another has made it"),
            Err(TopicError::Exists { .. }) => assert!(!in_doubt.contains(&code), "{code}: it was we"),
            Err(error) => panic!("{code}: {error}"),
        }
    })
    .await;
    // One that was made, and never said so.
    let fake = FakeKafka::start(1).await;
    let cluster = Cluster::connect(&conf(&fake)).await.unwrap();
    let mut cut = false;
    fake.on(Api::CreateTopics, move |_| {
        if std::mem::replace(&mut cut, true) { Deed::default() } else { Deed::way(Way::Cut) }
    });
    in_time(cluster.create_topic("t", 1, 1, WITHIN)).await.unwrap();
    let error = in_time(cluster.create_topic("t", 1, 1, WITHIN)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_nobody_creates_is_waited_for_five_seconds() {
    let fake = FakeKafka::start(1).await;
    let cluster = Cluster::connect(&conf(&fake)).await.unwrap();
    let begin = Instant::now();
    let error = in_time(cluster.topic("t", 2 * WITHIN)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::UnknownTopic, "{error}");
    // The last look is less than the longest pause before.
    assert!(begin.elapsed() >= Duration::from_millis(4500), "{:?}", begin.elapsed());
}
