//! A group's coordinator, and the offsets it keeps. Each code has groups of its own, named by it.

use std::sync::Arc;

use kafka_fast::cluster::{Cluster, CommitError, CommittedOffset, OffsetCommit};
use kafka_fast::error::ErrorKind;
use kafka_fast::wire::{ErrorCode, Operation, Treatment};
use kafka_fast_testkit::fake::{Api, Asked, Deed, FakeKafka};
use tokio::task::JoinSet;

use super::*;

/// A request, and the partitions it was about.
type Step = (Api, Vec<i32>);

/// A cluster that refuses what `which` picks the first time it is asked, with the code of the group. `api` is asked about.
async fn cluster_that_refuses_groups(api: Api, which: fn(&Asked) -> bool) -> (FakeKafka, Cluster) {
    let fake = FakeKafka::start(2).await;
    fake.create_topic("t", 2);
    let mut met = HashSet::new();
    fake.on(api, move |asked| {
        let first = which(asked) && met.insert((asked.group.clone(), asked.partition));
        if first { Deed::code(code_of(&asked.group)) } else { Deed::default() }
    });
    let cluster = Cluster::connect(&conf(&fake)).await.unwrap();
    (fake, cluster)
}

pub(super) fn group(kind: &str, code: ErrorCode) -> String {
    format!("{kind}.{}", code.0)
}

pub(super) fn code_of(group: &str) -> i16 {
    group.rsplit_once('.').expect("groups have numbers").1.parse().expect("groups have numbers")
}

pub(super) fn commits(partitions: std::ops::Range<i32>) -> Vec<OffsetCommit> {
    let commit = |partition| OffsetCommit {
        topic: "t".into(),
        partition,
        offset: 7,
        leader_epoch: -1,
        metadata: String::new(),
    };
    partitions.map(commit).collect()
}

/// The requests about a group, in order.
fn steps(fake: &FakeKafka, group: &str) -> Vec<Step> {
    let asked: Vec<Asked> = fake.asked().into_iter().filter(|asked| asked.group == group).collect();
    let step = |asked: &[Asked]| {
        let partitions = asked.iter().map(|asked| asked.partition).filter(|partition| *partition >= 0);
        (asked[0].api, partitions.collect())
    };
    let mut steps: Vec<Step> = asked.chunk_by(|a, b| a.request == b.request).map(step).collect();
    // A broker that is slow to answer does not keep the other from being asked.
    steps.dedup_by(|a, b| *a == find() && a == b);
    steps
}

fn find() -> Step {
    (Api::FindCoordinator, vec![])
}

fn commit(partitions: &[i32]) -> Step {
    (Api::OffsetCommit, partitions.into())
}

fn fetch(partitions: &[i32]) -> Step {
    (Api::OffsetFetch, partitions.into())
}

/// What no repetition mends: it says what, where, and what to do. `at`: the partition that it was said of.
fn assert_fatal(fake: &FakeKafka, error: &CommitError, code: ErrorCode, group: &str, at: Option<&str>) {
    let text = error.to_string();
    let broker = fake.address_of(fake.coordinator(group));
    let anybody = [1, 2].map(|node| fake.address_of(node));
    // Who the coordinator is anybody may have been asked.
    let named = if at.is_some() { text.contains(&broker) } else { anybody.iter().any(|a| text.contains(a)) };
    let where_it_is = named && text.contains(&format!("\"{group}\"")) && text.contains(&code.to_string());
    assert!(where_it_is, "{code}: {text}");
    let advice = ["mirror off", "kafka-acls.sh"];
    assert!(advice.iter().any(|advice| text.contains(advice)), "{code}: no advice: {text}");
    let forbidden = [
        ErrorCode::TOPIC_AUTHORIZATION_FAILED,
        ErrorCode::GROUP_AUTHORIZATION_FAILED,
        ErrorCode::CLUSTER_AUTHORIZATION_FAILED,
    ];
    let kind = if forbidden.contains(&code) { ErrorKind::Authorization } else { ErrorKind::Group };
    assert_eq!(error.kind(), kind, "{code}: {text}");
    if let Some(at) = at
        && matches!(error, CommitError::Refused { .. })
    {
        assert!(text.contains(at), "{code}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_for_a_coordinator_does_what_the_table_says() {
    let (fake, cluster) = cluster_that_refuses_groups(Api::FindCoordinator, |_| true).await;
    let mut ends = JoinSet::new();
    for code in codes() {
        let cluster = cluster.clone();
        ends.spawn(in_time(async move {
            (code, cluster.committed_offsets(&group("find", code), &[("t".into(), 0)], WITHIN).await)
        }));
    }
    while let Some(end) = ends.join_next().await {
        let (code, found) = end.unwrap();
        let name = group("find", code);
        let asked = fake.asked();
        let finds = |asked: &&Asked| asked.group == name && asked.api == Api::FindCoordinator;
        let (finds, steps) = (asked.iter().filter(finds).count(), steps(&fake, &name));
        match code.treatment(Operation::FindCoordinator) {
            Treatment::Fatal => {
                assert_fatal(&fake, &found.unwrap_err(), code, &name, None);
                assert_eq!(steps, [find()], "{code}");
            }
            Treatment::Retry => {
                assert_eq!(found.unwrap_or_else(|e| panic!("{code}: {e}"))[0].offset, -1);
                assert!(steps == [find(), fetch(&[0])] && finds >= 2, "{code}: {finds} {steps:?}");
            }
            other => panic!("{code}: nobody who looks for a coordinator knows {other:?}"),
        }
    }
}

/// One of two partitions is refused: what becomes of it, and of the other.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_does_what_the_table_says() {
    let (fake, cluster) = cluster_that_refuses_groups(Api::OffsetCommit, |asked| asked.partition == 0).await;
    let mut ends = JoinSet::new();
    for code in codes() {
        let cluster = cluster.clone();
        ends.spawn(in_time(async move {
            (code, cluster.commit_offsets(&group("one", code), &commits(0..2), WITHIN).await)
        }));
    }
    while let Some(end) = ends.join_next().await {
        let (code, outcomes) = end.unwrap();
        let name = group("one", code);
        let kept = [0, 1].map(|partition| fake.committed(&name, "t", partition).is_some());
        let mut expected = vec![find(), commit(&[0, 1])];
        match code.treatment(Operation::OffsetCommit) {
            Treatment::Fatal => {
                assert_fatal(&fake, &outcomes.unwrap_err(), code, &name, Some("t/0"));
                assert_eq!(kept, [false, true], "{code}");
            }
            Treatment::FailPartition => {
                let outcomes = outcomes.unwrap_or_else(|e| panic!("{code}: {e}"));
                assert_eq!((outcomes[0].2, outcomes[1].2), (Err(code), Ok(())), "{code}");
                assert_eq!(kept, [false, true], "{code}");
            }
            treatment @ (Treatment::Retry | Treatment::Rediscover | Treatment::Split) => {
                let outcomes = outcomes.unwrap_or_else(|e| panic!("{code}: {e}"));
                assert!(outcomes.iter().all(|(.., outcome)| outcome.is_ok()) && kept == [true; 2], "{code}");
                // A code that may mean something else may come from one who is not the coordinator.
                let is_doubted = treatment == Treatment::Split && code.retriable();
                if treatment == Treatment::Rediscover || is_doubted {
                    expected.push(find());
                }
                expected.push(commit(&[0]));
            }
            other => panic!("{code}: nobody who commits knows {other:?}"),
        }
        assert_eq!(steps(&fake, &name), expected, "{code}");
    }
}

/// All of a request is refused: it is halved, or sent again as it was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_is_halved_where_the_table_says_it() {
    let (fake, cluster) = cluster_that_refuses_groups(Api::OffsetCommit, |_| true).await;
    let mut ends = JoinSet::new();
    for code in codes() {
        let cluster = cluster.clone();
        ends.spawn(in_time(async move {
            let all = cluster.commit_offsets(&group("all", code), &commits(0..2), WITHIN).await;
            (code, all, cluster.commit_offsets(&group("lone", code), &commits(0..1), WITHIN).await)
        }));
    }
    while let Some(end) = ends.join_next().await {
        let (code, all, lone) = end.unwrap();
        let steps = steps(&fake, &group("all", code));
        let commits: Vec<Step> = steps.into_iter().filter(|(api, _)| *api == Api::OffsetCommit).collect();
        let treatment = code.treatment(Operation::OffsetCommit);
        match treatment {
            Treatment::Fatal => {
                assert_eq!(commits, [commit(&[0, 1])], "{code}");
                assert!(all.is_err() && lone.is_err(), "{code}");
                continue;
            }
            Treatment::FailPartition => assert_eq!(commits, [commit(&[0, 1])], "{code}"),
            Treatment::Split => {
                assert_eq!(commits, [commit(&[0, 1]), commit(&[0]), commit(&[1])], "{code}");
            }
            _ => assert_eq!(commits, [commit(&[0, 1]), commit(&[0, 1])], "{code}"),
        }
        // One alone that is too large is too large, when that is all the code may mean.
        let fails =
            treatment == Treatment::FailPartition || (treatment == Treatment::Split && !code.retriable());
        let expected = if fails { Err(code) } else { Ok(()) };
        assert_eq!(lone.unwrap_or_else(|e| panic!("{code}: {e}"))[0].2, expected, "{code}");
    }
}

/// Asks for two partitions of a group for each code.
async fn look_for_offsets(
    cluster: &Cluster,
    kind: &'static str,
) -> Vec<(ErrorCode, String, Result<Vec<CommittedOffset>, CommitError>)> {
    let mut ends = JoinSet::new();
    for code in codes() {
        let cluster = cluster.clone();
        ends.spawn(in_time(async move {
            let (name, topic) = (group(kind, code), Arc::from("t"));
            let found =
                cluster.committed_offsets(&name, &[(Arc::clone(&topic), 0), (topic, 1)], WITHIN).await;
            (code, name, found)
        }));
    }
    ends.join_all().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_for_committed_offsets_does_what_the_table_says() {
    let (fake, cluster) = cluster_that_refuses_groups(Api::OffsetFetch, |asked| asked.partition == 0).await;
    for (code, name, found) in look_for_offsets(&cluster, "part").await {
        let mut expected = vec![find(), fetch(&[0, 1])];
        match code.treatment(Operation::OffsetFetch) {
            Treatment::Fatal => assert_fatal(&fake, &found.unwrap_err(), code, &name, Some("t/0")),
            Treatment::Done => {
                let found = found.unwrap_or_else(|e| panic!("{code}: {e}"));
                assert_eq!((found[0].offset, found[1].offset), (-1, -1), "{code}");
            }
            treatment @ (Treatment::Retry | Treatment::Rediscover) => {
                assert_eq!(found.unwrap_or_else(|e| panic!("{code}: {e}")).len(), 2);
                if treatment == Treatment::Rediscover {
                    expected.push(find());
                }
                expected.push(fetch(&[0, 1]));
            }
            other => panic!("{code}: nobody who looks for offsets knows {other:?}"),
        }
        assert_eq!(steps(&fake, &name), expected, "{code}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_look_for_committed_offsets_that_is_refused_as_a_whole_does_what_the_table_says() {
    let (fake, cluster) = cluster_that_refuses_groups(Api::OffsetFetch, |asked| asked.partition < 0).await;
    for (code, name, found) in look_for_offsets(&cluster, "whole").await {
        let mut expected = vec![find(), fetch(&[])];
        match code.treatment(Operation::OffsetFetch) {
            Treatment::Fatal => assert_fatal(&fake, &found.unwrap_err(), code, &name, None),
            // That a partition is unknown is an answer; that all of a request is, none.
            treatment @ (Treatment::Retry | Treatment::Rediscover | Treatment::Done) => {
                assert_eq!(found.unwrap_or_else(|e| panic!("{code}: {e}")).len(), 2);
                if treatment != Treatment::Retry {
                    expected.push(find());
                }
                expected.push(fetch(&[0, 1]));
            }
            other => panic!("{code}: nobody who looks for offsets knows {other:?}"),
        }
        assert_eq!(steps(&fake, &name), expected, "{code}");
    }
}
