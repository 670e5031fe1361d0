//! What should pass and does not: when the time is over, the error says which code there was, and where.

use kafka_fast::cluster::{Cluster, Isolation, OffsetAt, OffsetQuery};
use kafka_fast::error::ErrorKind;
use kafka_fast::wire::{Operation, Treatment};
use kafka_fast_testkit::fake::{Api, Deed, FakeKafka};
use tokio::task::JoinSet;

use super::groups::{code_of, commits, group};
use super::*;

const SOON: Duration = Duration::from_millis(300);

/// A cluster that refuses `api` for ever, with the code of the topic or of the group.
async fn cluster_that_refuses(api: Api) -> (FakeKafka, Cluster) {
    let fake = FakeKafka::start(2).await;
    fake.create_topic("t", 1);
    fake.on(api, |asked| {
        let name = if asked.group.is_empty() { &asked.topic } else { &asked.group };
        Deed::code(code_of(name))
    });
    let cluster = Cluster::connect(&conf(&fake)).await.unwrap();
    (fake, cluster)
}

/// The codes that should pass.
fn passing(operation: Operation) -> impl Iterator<Item = ErrorCode> {
    codes().filter(move |code| {
        let treatment = code.treatment(operation);
        matches!(treatment, Treatment::Retry | Treatment::Refresh | Treatment::Rediscover)
            || (treatment == Treatment::Split && code.retriable())
    })
}

/// Each: the code, what it was about, and the error. `brokers`: one of them is named.
async fn assert_all_time_out(
    ends: JoinSet<(ErrorCode, String, ErrorKind, String)>,
    brokers: Option<&FakeKafka>,
) {
    for (code, name, kind, text) in ends.join_all().await {
        assert_eq!(kind, ErrorKind::Timeout, "{code}: {text}");
        let says_it = text.contains(&code.to_string()) && text.contains(&name) && text.contains("300 ms");
        let names = |fake: &FakeKafka| [1, 2].iter().any(|node| text.contains(&fake.address_of(*node)));
        assert!(says_it && brokers.is_none_or(names), "{code}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn topics_whose_offsets_are_not_told_or_that_are_not_created_say_why() {
    let (fake, cluster) = cluster_that_refuses(Api::ListOffsets).await;
    codes().for_each(|code| fake.create_topic(&topic(code), 1));
    let mut ends = JoinSet::new();
    for code in passing(Operation::ListOffsets) {
        let cluster = cluster.clone();
        ends.spawn(in_time(async move {
            cluster.topic(&topic(code), WITHIN).await.unwrap();
            let query = OffsetQuery { topic: topic(code).into(), partition: 0, at: OffsetAt::Latest };
            let error = cluster.list_offsets(&[query], Isolation::ReadUncommitted, SOON).await.unwrap_err();
            (code, format!("{}/0", topic(code)), error.kind(), error.to_string())
        }));
    }
    assert_all_time_out(ends, Some(&fake)).await;

    let (_fake, cluster) = cluster_that_refuses(Api::CreateTopics).await;
    let mut ends = JoinSet::new();
    for code in passing(Operation::CreateTopics) {
        let cluster = cluster.clone();
        ends.spawn(in_time(async move {
            let error = cluster.create_topic(&topic(code), 1, 1, SOON).await.unwrap_err();
            assert!(error.to_string().contains("was not created"), "{error}");
            (code, topic(code), error.kind(), error.to_string())
        }));
    }
    assert_all_time_out(ends, None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_whose_coordinators_refuse_say_why() {
    tokio::join!(
        time_out(Api::FindCoordinator, Operation::FindCoordinator),
        time_out(Api::OffsetCommit, Operation::OffsetCommit),
        time_out(Api::OffsetFetch, Operation::OffsetFetch),
    );
}

async fn time_out(api: Api, operation: Operation) {
    let (fake, cluster) = cluster_that_refuses(api).await;
    let mut ends = JoinSet::new();
    for code in passing(operation) {
        let cluster = cluster.clone();
        ends.spawn(in_time(async move {
            let name = group("last", code);
            let error = match operation {
                Operation::OffsetFetch => {
                    let found = cluster.committed_offsets(&name, &[("t".into(), 0)], SOON).await;
                    found.map(drop).unwrap_err()
                }
                _ => cluster.commit_offsets(&name, &commits(0..1), SOON).await.unwrap_err(),
            };
            (code, format!("\"{name}\""), error.kind(), error.to_string())
        }));
    }
    assert_all_time_out(ends, Some(&fake)).await;
}
