//! A group's coordinator that moves, loads, forgets and lies, played by fake brokers.

mod net_fake;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_fast::cluster::*;
use kafka_fast::config::Config;
use kafka_fast::error::ErrorKind;
use kafka_fast::wire::messages::*;
use kafka_fast::wire::{ErrorCode, Request};
use net_fake::{Asked, Fake, Reply};
use parking_lot::Mutex;

const SEC: Duration = Duration::from_secs(1);
const GROUP: &str = "group";

/// What the fake cluster does and has.
#[derive(Default)]
struct World {
    /// Ports by broker, as the metadata has them.
    brokers: Vec<(i32, u16)>,
    coordinator: i32,
    /// A broker that says nothing to commits, nor to who looks for them.
    frozen: i32,
    /// What the coordinator says to the next requests instead of serving them.
    errors: Vec<ErrorCode>,
    /// Whether the next request is carried out and its answer lost.
    lose: bool,
    /// The most partitions of one request that it takes, and what it says to more.
    most: Option<(usize, ErrorCode)>,
    /// Partitions that it says nothing of, once.
    silent: Vec<i32>,
    offsets: HashMap<(Arc<str>, i32), i64>,
    /// Who was asked what, in order: broker, kind of request, partitions.
    asked: Vec<(i32, i16, usize)>,
}

#[derive(Clone, Default)]
struct Shared(Arc<Mutex<World>>);

impl Shared {
    async fn broker(&self, id: i32) -> Fake {
        let shared = self.clone();
        let fake = Fake::start(move |asked| shared.serve(id, asked)).await;
        self.0.lock().brokers.push((id, fake.address.port()));
        fake
    }

    fn serve(&self, id: i32, asked: Asked) -> Reply {
        let mut world = self.0.lock();
        if asked.is::<MetadataRequest>() {
            let broker = |&(node_id, port): &(i32, u16)| MetadataResponseBroker {
                node_id,
                host: "127.0.0.1".into(),
                port: port.into(),
                rack: None,
            };
            let brokers = world.brokers.iter().map(broker).collect();
            let response = MetadataResponse { brokers, controller_id: 1, ..Default::default() };
            return Reply::Say(asked.answer::<MetadataRequest>(&response));
        }
        if asked.is::<FindCoordinatorRequest>() {
            world.asked.push((id, asked.api, 0));
            assert_eq!(&*asked.read::<FindCoordinatorRequest>().key, GROUP);
            let error_code = if world.coordinator < 0 { ErrorCode::COORDINATOR_NOT_AVAILABLE.0 } else { 0 };
            let response =
                FindCoordinatorResponse { node_id: world.coordinator, error_code, ..Default::default() };
            return Reply::Say(asked.answer::<FindCoordinatorRequest>(&response));
        }
        if world.frozen == id {
            world.asked.push((id, asked.api, 1));
            return Reply::Nothing;
        }
        if asked.is::<OffsetCommitRequest>() {
            return world.commit(id, &asked);
        }
        assert!(asked.is::<OffsetFetchRequest>());
        world.fetch(id, &asked)
    }
}

impl World {
    /// What the whole request is answered with.
    fn refusal(&mut self, id: i32) -> ErrorCode {
        if id == self.coordinator {
            self.errors.pop().unwrap_or_default()
        } else {
            ErrorCode::NOT_COORDINATOR
        }
    }

    fn commit(&mut self, id: i32, asked: &Asked) -> Reply {
        let request = asked.read::<OffsetCommitRequest>();
        assert_eq!((request.generation_id_or_member_epoch, &*request.member_id), (-1, ""));
        let partitions = request.topics.iter().map(|t| t.partitions.len()).sum();
        self.asked.push((id, asked.api, partitions));
        let mut code = self.refusal(id);
        if let Some((most, error)) = self.most
            && partitions > most
        {
            code = error;
        }
        let mut topics = Vec::new();
        for topic in request.topics {
            let mut answers = Vec::new();
            for p in topic.partitions {
                if let Some(i) = self.silent.iter().position(|silent| *silent == p.partition_index) {
                    self.silent.remove(i);
                    continue;
                }
                if code.is_ok() {
                    self.offsets.insert((topic.name.clone(), p.partition_index), p.committed_offset);
                }
                answers.push(OffsetCommitResponsePartition {
                    partition_index: p.partition_index,
                    error_code: code.0,
                });
            }
            topics.push(OffsetCommitResponseTopic {
                name: topic.name,
                partitions: answers,
                ..Default::default()
            });
        }
        if std::mem::take(&mut self.lose) {
            return Reply::Close;
        }
        let response = OffsetCommitResponse { topics, ..Default::default() };
        Reply::Say(asked.answer::<OffsetCommitRequest>(&response))
    }

    fn fetch(&mut self, id: i32, asked: &Asked) -> Reply {
        let request = asked.read::<OffsetFetchRequest>();
        let topics = request.topics.unwrap_or_default();
        self.asked.push((id, asked.api, topics.iter().map(|t| t.partition_indexes.len()).sum()));
        let error_code = self.refusal(id).0;
        let topic = |t: OffsetFetchRequestTopic| {
            let partition = |partition_index: &i32| OffsetFetchResponsePartition {
                partition_index: *partition_index,
                committed_offset: *self.offsets.get(&(t.name.clone(), *partition_index)).unwrap_or(&-1),
                ..Default::default()
            };
            let partitions = t.partition_indexes.iter().map(partition).collect();
            OffsetFetchResponseTopic { name: t.name.clone(), partitions, ..Default::default() }
        };
        let topics = if error_code == 0 { topics.into_iter().map(topic).collect() } else { Vec::new() };
        let response = OffsetFetchResponse { topics, error_code, ..Default::default() };
        Reply::Say(asked.answer::<OffsetFetchRequest>(&response))
    }
}

/// Two brokers, of which the first coordinates.
async fn two_brokers() -> (Shared, [Fake; 2], Cluster) {
    let shared = Shared::default();
    let fakes = [shared.broker(1).await, shared.broker(2).await];
    shared.0.lock().coordinator = 1;
    let mut conf = Config::with_bootstrap(&fakes[0].address.to_string()).unwrap();
    conf.metadata_timeout = 5 * SEC;
    let cluster = Cluster::connect(&conf).await.unwrap();
    (shared, fakes, cluster)
}

/// One that is silent may not be the coordinator any more, and does not say so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_is_silent_is_not_waited_for_when_another_one_took_over() {
    let (shared, _fakes, cluster) = two_brokers().await;
    keep(&cluster, &commits(5, 0..3)).await;
    (shared.0.lock().frozen, shared.0.lock().asked) = (1, Vec::new());
    let moves = shared.clone();
    let moved = tokio::spawn(async move {
        net_fake::eventually(|| moves.0.lock().asked.iter().any(|(id, ..)| *id == 1)).await;
        moves.0.lock().coordinator = 2;
    });
    let began = Instant::now();
    let found = cluster.committed_offsets(GROUP, &[("a".into(), 0)], 20 * SEC).await.unwrap();
    assert_eq!(found[0].offset, 5);
    assert!(began.elapsed() < 15 * SEC, "after {:?}", began.elapsed());
    moved.await.unwrap();
}

fn commits(offset: i64, partitions: std::ops::Range<i32>) -> Vec<OffsetCommit> {
    let commit = |partition| OffsetCommit {
        topic: ["a", "b", "c"][partition as usize % 3].into(),
        partition,
        offset: offset + i64::from(partition),
        leader_epoch: -1,
        metadata: "m".repeat(100),
    };
    partitions.map(commit).collect()
}

async fn keep(cluster: &Cluster, commits: &[OffsetCommit]) {
    let outcomes = cluster.commit_offsets(GROUP, commits, 10 * SEC).await.unwrap();
    let names = |(topic, partition, _): &CommitOutcome| (topic.clone(), *partition);
    let asked: Vec<_> = commits.iter().map(|c| (c.topic.clone(), c.partition)).collect();
    assert_eq!(outcomes.iter().map(names).collect::<Vec<_>>(), asked);
    assert!(outcomes.iter().all(|(.., outcome)| outcome.is_ok()), "{outcomes:?}");
    let found = cluster.committed_offsets(GROUP, &asked, 10 * SEC).await.unwrap();
    for (found, commit) in found.iter().zip(commits) {
        assert_eq!(
            (&found.topic, found.partition, found.offset),
            (&commit.topic, commit.partition, commit.offset)
        );
    }
    assert_eq!(found.len(), commits.len());
}

/// Which brokers were asked who the coordinator is, and forgets all that was asked.
fn finds(shared: &Shared) -> usize {
    let asked = std::mem::take(&mut shared.0.lock().asked);
    asked.iter().filter(|(_, api, _)| *api == FindCoordinatorRequest::KEY as i16).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_is_asked_for_once_and_again_when_it_is_no_more() {
    let (shared, _fakes, cluster) = two_brokers().await;
    keep(&cluster, &commits(5, 0..3)).await;
    keep(&cluster, &commits(6, 0..3)).await;
    assert_eq!(finds(&shared), 1);
    shared.0.lock().coordinator = 2;
    keep(&cluster, &commits(7, 0..3)).await;
    assert_eq!(finds(&shared), 1);
    // There is none for a while.
    shared.0.lock().coordinator = -1;
    let moves = shared.clone();
    tokio::spawn(async move {
        tokio::time::sleep(SEC / 4).await;
        moves.0.lock().coordinator = 1;
    });
    keep(&cluster, &commits(8, 0..3)).await;
    assert!(finds(&shared) > 1);
    // One that loads is the one.
    shared.0.lock().errors = vec![ErrorCode::COORDINATOR_LOAD_IN_PROGRESS; 3];
    keep(&cluster, &commits(9, 0..3)).await;
    assert_eq!(finds(&shared), 0);
    shared.0.lock().errors = vec![ErrorCode::COORDINATOR_NOT_AVAILABLE, ErrorCode::REQUEST_TIMED_OUT];
    keep(&cluster, &commits(10, 0..3)).await;
    // What was written and never answered is written again.
    shared.0.lock().lose = true;
    keep(&cluster, &commits(11, 0..3)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_coordinator_that_joined_the_cluster_lately_is_found() {
    let (shared, _fakes, cluster) = two_brokers().await;
    let _third = shared.broker(3).await;
    shared.0.lock().coordinator = 3;
    assert!(!cluster.nodes().contains(&3));
    keep(&cluster, &commits(5, 0..3)).await;
    assert!(cluster.nodes().contains(&3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_partitions_are_cut_and_nothing_is_left_out() {
    let (shared, _fakes, cluster) = two_brokers().await;
    keep(&cluster, &commits(5, 0..10_000)).await;
    let asked = std::mem::take(&mut shared.0.lock().asked);
    assert!(asked.iter().all(|(.., partitions)| *partitions <= 1000));
    assert_eq!(asked.len(), 1 + 10 + 10);
    for error in [ErrorCode::INVALID_COMMIT_OFFSET_SIZE, ErrorCode::UNKNOWN_SERVER_ERROR] {
        shared.0.lock().most = Some((300, error));
        keep(&cluster, &commits(6, 0..3000)).await;
        let asked = std::mem::take(&mut shared.0.lock().asked);
        let refused = |(_, api, n): &&(i32, i16, usize)| *api == OffsetCommitRequest::KEY as i16 && *n > 300;
        assert_eq!(asked.iter().filter(refused).count(), 2, "what is too large is learned once");
    }
    // What nothing is said of is asked again, and only that.
    {
        let mut world = shared.0.lock();
        (world.most, world.silent) = (None, vec![7, 9]);
    }
    keep(&cluster, &commits(7, 0..100)).await;
    let asked = std::mem::take(&mut shared.0.lock().asked);
    let sizes: Vec<usize> = (asked.iter())
        .filter(|(_, api, _)| *api == OffsetCommitRequest::KEY as i16)
        .map(|(.., partitions)| *partitions)
        .collect();
    assert_eq!(sizes, [100, 2]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_repetition_mends_is_said_at_once() {
    let (shared, fakes, cluster) = two_brokers().await;
    let broker = fakes[0].address;
    for (code, kind, start) in [
        (ErrorCode::GROUP_AUTHORIZATION_FAILED, ErrorKind::Authorization, "This user may not".to_owned()),
        (
            ErrorCode::ILLEGAL_GENERATION,
            ErrorKind::Group,
            "A Kafka consumer group named \"group\" is in use".into(),
        ),
        (
            ErrorCode::REBALANCE_IN_PROGRESS,
            ErrorKind::Group,
            "A Kafka consumer group named \"group\" is".into(),
        ),
        (ErrorCode::STALE_MEMBER_EPOCH, ErrorKind::Group, "A Kafka consumer group named \"group\" is".into()),
        (
            ErrorCode::GROUP_ID_NOT_FOUND,
            ErrorKind::Group,
            // Brokers that take no commits from outside a group say it of every group.
            format!("{broker} takes no offsets of group \"group\" (GROUP_ID_NOT_FOUND). Either"),
        ),
        (
            ErrorCode::INVALID_GROUP_ID,
            ErrorKind::Group,
            format!("{broker} keeps no offsets of group \"group\": INVALID_GROUP_ID"),
        ),
    ] {
        shared.0.lock().errors = vec![code; 2];
        let begin = Instant::now();
        let written = cluster.commit_offsets(GROUP, &commits(5, 0..3), 10 * SEC).await.unwrap_err();
        let read = cluster.committed_offsets(GROUP, &[("a".into(), 0)], 10 * SEC).await.unwrap_err();
        assert!(begin.elapsed() < SEC, "{code}");
        for error in [written, read] {
            assert!(error.to_string().starts_with(&start), "{error}");
            assert_eq!(error.kind(), kind);
        }
    }
    shared.0.lock().coordinator = -1;
    let error = cluster.commit_offsets("group", &commits(5, 0..3), SEC / 2).await;
    let error = match error {
        // The one known was asked first, and is still named by nobody else.
        Err(error @ CommitError::Timeout { .. }) => error.to_string(),
        other => panic!("{other:?}"),
    };
    assert!(error.ends_with("names no coordinator: COORDINATOR_NOT_AVAILABLE"), "{error}");
}
