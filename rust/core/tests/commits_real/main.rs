//! A group's offsets in a real Kafka, beside Kafka's own clients.

mod stranger;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use kafka_fast::cluster::*;
use kafka_fast::config::Config;
use kafka_fast::wire::ErrorCode;
use kafka_fast_testkit::{Fault, Options, Proxy, RealKafka, Version, free_port, unique};
use stranger::Stranger;

const SEC: Duration = Duration::from_secs(1);

async fn connect(bootstrap: &str) -> Cluster {
    Cluster::connect(&Config::with_bootstrap(bootstrap).unwrap()).await.unwrap()
}

/// Starting a broker blocks.
async fn shared() -> &'static str {
    tokio::task::spawn_blocking(RealKafka::shared).await.unwrap()
}

/// A broker with rights, small batches and metadata of any size, for this process.
async fn peculiar() -> String {
    static KAFKA: OnceLock<RealKafka> = OnceLock::new();
    let options = Options::new()
        .authorizer()
        .property("offset.metadata.max.bytes", "40000")
        .property("message.max.bytes", "60000");
    let start = move || KAFKA.get_or_init(|| RealKafka::start(&options)).address();
    tokio::task::spawn_blocking(start).await.unwrap()
}

async fn start(options: Options) -> RealKafka {
    tokio::task::spawn_blocking(move || RealKafka::start(&options)).await.unwrap()
}

async fn stranger(bootstrap: &str) -> Stranger {
    let bootstrap = bootstrap.to_owned();
    tokio::task::spawn_blocking(move || Stranger::start(&bootstrap)).await.unwrap()
}

async fn topic(cluster: &Cluster, partitions: i32) -> Arc<str> {
    let name = unique("commits");
    cluster.create_topic(&name, partitions, 1, 20 * SEC).await.unwrap();
    cluster.topic(&name, 20 * SEC).await.unwrap().name.clone()
}

fn commit(topic: &Arc<str>, partition: i32, offset: i64, metadata: &str) -> OffsetCommit {
    OffsetCommit { topic: topic.clone(), partition, offset, leader_epoch: 0, metadata: metadata.to_owned() }
}

/// Commits, and every one must be kept. A broker learns of a new topic a moment after its creation.
async fn keep(cluster: &Cluster, group: &str, commits: &[OffsetCommit]) {
    let begin = Instant::now();
    loop {
        let outcomes = cluster.commit_offsets(group, commits, 20 * SEC).await.unwrap();
        let refused = outcomes.iter().find(|(.., outcome)| outcome.is_err());
        match refused {
            None => return,
            Some((.., Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION))) if begin.elapsed() < 5 * SEC => {
                tokio::time::sleep(SEC / 50).await;
            }
            Some(refused) => panic!("{refused:?}"),
        }
    }
}

async fn offset(cluster: &Cluster, group: &str, topic: &Arc<str>, partition: i32) -> i64 {
    let asked = [(topic.clone(), partition)];
    cluster.committed_offsets(group, &asked, 10 * SEC).await.unwrap()[0].offset
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_are_kept_and_seen_by_kafkas_own_clients() {
    let bootstrap = shared().await;
    let (cluster, mut stranger) = tokio::join!(connect(bootstrap), stranger(bootstrap));
    let (group, one, two) = (unique("kept"), topic(&cluster, 3).await, topic(&cluster, 1).await);
    let commits = [commit(&one, 2, 17, "of two"), commit(&two, 0, 1 << 40, ""), commit(&one, 0, 0, "é")];
    keep(&cluster, &group, &commits).await;

    let asked = [(one.clone(), 1), (one.clone(), 0), (two.clone(), 0), (one.clone(), 2), (one.clone(), 0)];
    let asked = [&asked[..], &[(one.clone(), 9), ("no-such-topic".into(), 0)]].concat();
    let found = cluster.committed_offsets(&group, &asked, 10 * SEC).await.unwrap();
    let order: Vec<_> = found.iter().map(|f| (f.topic.clone(), f.partition)).collect();
    assert_eq!(order, asked);
    let found: Vec<_> = found.iter().map(|f| (f.offset, f.leader_epoch, f.metadata.as_str())).collect();
    let (none, first) = ((-1, -1, ""), (0, 0, "é"));
    assert_eq!(found, [none, first, (1 << 40, 0, ""), (17, 0, "of two"), first, none, none]);

    let mut seen: Vec<String> =
        stranger.ask(&format!("offsets {group}")).split(' ').map(str::to_owned).collect();
    seen.retain(|word| word.contains('='));
    seen.sort();
    let mut expected =
        [format!("{one}-0=0/0/é"), format!("{one}-2=17/0/of"), format!("{two}-0=1099511627776/0/")];
    expected.sort();
    assert_eq!(seen, expected);

    // What concerns one partition says nothing of the others.
    let commits = [commit(&one, 9, 5, ""), commit(&one, 1, 5, &"x".repeat(5000)), commit(&one, 0, 6, "")];
    let outcomes = cluster.commit_offsets(&group, &commits, 10 * SEC).await.unwrap();
    let outcomes: Vec<_> = outcomes.into_iter().map(|(.., outcome)| outcome).collect();
    let (unknown, large) = (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::OFFSET_METADATA_TOO_LARGE);
    assert_eq!(outcomes, [Err(unknown), Err(large), Ok(())]);
    assert_eq!(offset(&cluster, &group, &one, 0).await, 6);
    assert!(cluster.commit_offsets(&group, &[], SEC).await.unwrap().is_empty());
    assert!(cluster.committed_offsets(&group, &[], SEC).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_others_use_is_left_alone() {
    let bootstrap = shared().await;
    let (cluster, mut stranger) = tokio::join!(connect(bootstrap), stranger(bootstrap));
    let topic = topic(&cluster, 1).await;
    let here = [(topic.clone(), 0)];
    // What older brokers have not, or not unless they are told to.
    let protocols = if Version::under_test() < Version::V4_4 { 1 } else { 3 };
    for protocol in &["classic", "consumer", "share"][..protocols] {
        let group = unique(protocol);
        assert_eq!(stranger.ask(&format!("join {protocol} {group} {topic}")), "joined");
        let asked = cluster.may_commit(&group, &here, 10 * SEC).await.unwrap_err();
        let refused =
            cluster.commit_offsets(&group, &[commit(&topic, 0, 5, "")], 10 * SEC).await.unwrap_err();
        assert_eq!(asked.to_string(), refused.to_string());
        assert_eq!(offset(&cluster, &group, &topic, 0).await, -1);
        let share = *protocol == "share";
        let expected = if share {
            format!(
                "{bootstrap} takes no offsets of group \"{group}\" (GROUP_ID_NOT_FOUND). Either it has a share group of that name: choose \
                 another name; or it takes offsets from a group's members only: set mirror off"
            )
        } else {
            format!(
                "A Kafka consumer group named \"{group}\" is in use by other clients (UNKNOWN_MEMBER_ID from {bootstrap}): choose \
                 another name, or set mirror off"
            )
        };
        assert_eq!(refused.to_string(), expected);

        // A consumer group without members takes offsets again, a share group never.
        assert_eq!(stranger.ask("leave"), "left");
        let asked = cluster.may_commit(&group, &here, 10 * SEC).await;
        assert_eq!(asked.is_err(), share, "{protocol}: {asked:?}");
        if !share {
            keep(&cluster, &group, &[commit(&topic, 0, 5, "")]).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn asking_whether_one_may_commit_changes_nothing() {
    let bootstrap = shared().await;
    let (cluster, mut stranger) = tokio::join!(connect(bootstrap), stranger(bootstrap));
    let (group, topic) = (unique("asked"), topic(&cluster, 2).await);
    let here = [(topic.clone(), 0), (topic.clone(), 1), ("no-such-topic".into(), 0)];
    for partitions in [&here[..], &[]] {
        cluster.may_commit(&group, partitions, 10 * SEC).await.unwrap();
        // The coordinators of before 4.0 list it until they clear up, without members or offsets.
        let listed = stranger.ask("groups").contains(&group);
        assert_eq!(listed, Version::under_test() < Version::V4_4);
        assert_eq!(stranger.ask(&format!("offsets {group}")), "");
    }
    keep(&cluster, &group, &[commit(&topic, 0, 5, "as it was")]).await;
    for partitions in [&here[..], &[]] {
        cluster.may_commit(&group, partitions, 10 * SEC).await.unwrap();
    }
    assert_eq!(stranger.ask(&format!("offsets {group}")), format!("{topic}-0=5/0/as it was"));

    // A coordinator that takes metadata of any size keeps what it has, or nothing.
    let cluster = connect(&peculiar().await).await;
    let topic = self::topic(&cluster, 1).await;
    let here = [(topic.clone(), 0)];
    cluster.may_commit(&group, &here, 20 * SEC).await.unwrap();
    assert_eq!(offset(&cluster, &group, &topic, 0).await, -1);
    keep(&cluster, &group, &[commit(&topic, 0, 5, "as it was")]).await;
    cluster.may_commit(&group, &here, 20 * SEC).await.unwrap();
    let found = cluster.committed_offsets(&group, &here, 10 * SEC).await.unwrap();
    assert_eq!((found[0].offset, found[0].metadata.trim_end()), (5, "as it was"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_is_told_which_right_to_grant() {
    let broker = peculiar().await;
    let (cluster, mut stranger) = tokio::join!(connect(&broker), stranger(&broker));
    let (open, shut) = (topic(&cluster, 1).await, topic(&cluster, 1).await);
    keep(&cluster, "open", &[commit(&open, 0, 5, ""), commit(&shut, 0, 5, "")]).await;
    assert_eq!(stranger.ask("forbid GROUP shut"), "forbidden");
    assert_eq!(stranger.ask(&format!("forbid TOPIC {shut}")), "forbidden");
    // The broker hears of it a moment later than the controller.
    while cluster.may_commit("open", &[(shut.clone(), 0)], 10 * SEC).await.is_ok() {
        tokio::time::sleep(SEC / 50).await;
    }

    let text = format!(
        "This user may not commit offsets of consumer group \"shut\" (GROUP_AUTHORIZATION_FAILED from {broker}): grant READ on the \
         group (kafka-acls.sh --add --operation Read --group shut ...), or set mirror off"
    );
    let here = [(open.clone(), 0)];
    let begin = Instant::now();
    for error in [
        cluster.may_commit("shut", &here, 10 * SEC).await.unwrap_err(),
        cluster.may_commit("shut", &[], 10 * SEC).await.unwrap_err(),
        cluster.commit_offsets("shut", &[commit(&open, 0, 5, "")], 10 * SEC).await.unwrap_err(),
        cluster.committed_offsets("shut", &here, 10 * SEC).await.unwrap_err(),
    ] {
        assert_eq!(error.to_string(), text);
    }
    let here = [(open.clone(), 0), (shut.clone(), 0)];
    for error in [
        cluster.may_commit("open", &here, 10 * SEC).await.unwrap_err(),
        cluster.committed_offsets("open", &here, 10 * SEC).await.unwrap_err(),
    ] {
        let start = format!("This user may not commit offsets of topic \"{shut}\" to group \"open\"");
        assert!(error.to_string().starts_with(&start) && error.to_string().contains("grant READ"), "{error}");
    }
    assert!(begin.elapsed() < 5 * SEC, "nobody waits for a right");
    cluster.may_commit("open", &[], 10 * SEC).await.unwrap();
    let commits = [commit(&shut, 0, 7, ""), commit(&open, 0, 7, "")];
    let outcomes = cluster.commit_offsets("open", &commits, 10 * SEC).await.unwrap();
    assert_eq!(outcomes[0].2, Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    assert_eq!(outcomes[1].2, Ok(()));
    assert_eq!(offset(&cluster, "open", &open, 0).await, 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_commit_is_cut_to_what_the_coordinator_takes() {
    let cluster = connect(&peculiar().await).await;
    let topic = topic(&cluster, 100).await;
    let metadata = "m".repeat(4096);
    // Twice a partition: the last one stands.
    let commits: Vec<_> = (0..200).map(|i| commit(&topic, i % 100, i64::from(i), &metadata)).collect();
    keep(&cluster, "large", &commits).await;
    let asked: Vec<_> = (0..100).map(|p| (topic.clone(), p)).collect();
    let found = cluster.committed_offsets("large", &asked, 10 * SEC).await.unwrap();
    for (p, found) in (0..).zip(found) {
        assert_eq!((found.partition, found.offset, found.metadata.len()), (p, i64::from(p) + 100, 4096));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_restarts_is_waited_for() {
    let mut kafka = start(Options::new()).await;
    let cluster = connect(&kafka.address()).await;
    let topic = topic(&cluster, 1).await;
    keep(&cluster, "group", &[commit(&topic, 0, 5, "")]).await;
    let mut kafka = tokio::task::spawn_blocking(move || {
        kafka.kill();
        kafka
    })
    .await
    .unwrap();
    let begin = Instant::now();
    let error = cluster.commit_offsets("group", &[commit(&topic, 0, 6, "")], SEC).await.unwrap_err();
    assert!(begin.elapsed() < 2 * SEC);
    let text = error.to_string();
    assert!(
        text.starts_with("The offsets of group \"group\" could not be committed or read within 1 s: "),
        "{text}"
    );
    assert!(text.contains("refused the connection"), "{text}");

    let back = tokio::task::spawn_blocking(move || {
        kafka.start_again();
        kafka
    });
    let here = [(topic.clone(), 0)];
    let found = cluster.committed_offsets("group", &here, 60 * SEC).await.unwrap();
    assert_eq!(found[0].offset, 5);
    keep(&cluster, "group", &[commit(&topic, 0, 7, "")]).await;
    assert_eq!(offset(&cluster, "group", &topic, 0).await, 7);
    let _kafka = back.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_does_not_answer_costs_its_time_and_no_more() {
    let port = free_port();
    let kafka = start(Options::new().advertise(port)).await;
    let proxy = Proxy::start_on(port, &kafka.address()).await;
    let cluster = connect(&proxy.address()).await;
    let topic = topic(&cluster, 1).await;
    keep(&cluster, "group", &[commit(&topic, 0, 5, "")]).await;
    proxy.set(Fault::Stall);
    let commits = [commit(&topic, 0, 6, "")];
    let begin = Instant::now();
    let error = cluster.commit_offsets("group", &commits, SEC).await.unwrap_err();
    assert!(begin.elapsed() < 2 * SEC && matches!(error, CommitError::Timeout { .. }), "{error}");
    // Dropped on its way.
    let dropped = cluster.commit_offsets("group", &commits, 30 * SEC);
    assert!(tokio::time::timeout(SEC / 5, dropped).await.is_err());
    proxy.set(Fault::CutAnswer);
    let lost = tokio::spawn({
        let (cluster, commits) = (cluster.clone(), commits.clone());
        async move { cluster.commit_offsets("group", &commits, 30 * SEC).await }
    });
    tokio::time::sleep(SEC / 2).await;
    proxy.set(Fault::None);
    assert_eq!(lost.await.unwrap().unwrap()[0].2, Ok(()));
    assert_eq!(offset(&cluster, "group", &topic, 0).await, 6);
    cluster.close();
    let closed = cluster.commit_offsets("group", &commits, SEC).await.unwrap_err();
    assert!(matches!(closed, CommitError::Closed), "{closed}");
}
