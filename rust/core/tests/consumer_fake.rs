//! The consumer against a broker that does what it is told: one topic of one partition, whose batches have ten records.

mod net_fake;

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kafka_fast::config::Config;
use kafka_fast::consumer::{Consumer, GroupConf};
use kafka_fast::wire::messages::*;
use kafka_fast::wire::{BatchBuilder, ErrorCode, Record, Uuid};
use net_fake::{Asked, Fake, Reply};

const RECORDS: i64 = 1000;
const PER_BATCH: i64 = 10;

fn batch(base: i64) -> Bytes {
    let mut batch = BatchBuilder::with_capacity(1 << 10);
    for offset in base..base + PER_BATCH {
        batch.append(1, &Record::value(&offset.to_be_bytes()));
    }
    let mut sealed = batch.seal(kafka_fast::config::Codec::None);
    sealed.stamp(None);
    let mut bytes = sealed.finish().to_vec();
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    bytes.into()
}

/// Versions with topics by name.
fn versions(asked: &Asked) -> Reply {
    let ranges = [(0, 3, 9), (1, 4, 11), (2, 1, 6), (3, 4, 12), (18, 0, 3), (23, 2, 4)];
    let api = |(api_key, min_version, max_version)| ApiVersion { api_key, min_version, max_version };
    let answer = ApiVersionsResponse { api_keys: ranges.map(api).to_vec(), ..Default::default() };
    Reply::Say(asked.answer::<ApiVersionsRequest>(&answer))
}

fn metadata(asked: &Asked, port: i32, epoch: i32) -> Reply {
    let broker = MetadataResponseBroker { node_id: 1, host: "127.0.0.1".into(), port, rack: None };
    let partition = MetadataResponsePartition {
        leader_id: 1,
        leader_epoch: epoch,
        replica_nodes: vec![1],
        isr_nodes: vec![1],
        ..Default::default()
    };
    let topic = MetadataResponseTopic {
        name: Some("t".into()),
        topic_id: Uuid([7; 16]),
        partitions: vec![partition],
        ..Default::default()
    };
    let all = asked.read::<MetadataRequest>().topics.is_none_or(|topics| !topics.is_empty());
    let answer = MetadataResponse {
        brokers: vec![broker],
        cluster_id: Some(format!("fake-{port}").into()),
        controller_id: 1,
        topics: if all { vec![topic] } else { vec![] },
        ..Default::default()
    };
    Reply::Say(asked.answer::<MetadataRequest>(&answer))
}

fn list_offsets(asked: &Asked, epoch: i32) -> Reply {
    let request: ListOffsetsRequest = asked.read();
    let offset = |p: &ListOffsetsPartition| ListOffsetsPartitionResponse {
        partition_index: p.partition_index,
        offset: if p.timestamp == -1 { RECORDS } else { 0 },
        leader_epoch: epoch,
        ..Default::default()
    };
    let topic = |t: &ListOffsetsTopic| ListOffsetsTopicResponse {
        name: Arc::clone(&t.name),
        partitions: t.partitions.iter().map(offset).collect(),
    };
    let topics = request.topics.iter().map(topic).collect();
    Reply::Say(asked.answer::<ListOffsetsRequest>(&ListOffsetsResponse { topics, ..Default::default() }))
}

fn fetched(asked: &Asked, error: ErrorCode, position: i64) -> Reply {
    let records = (error == ErrorCode::NONE).then(|| batch(position / PER_BATCH * PER_BATCH));
    let partition = PartitionData {
        error_code: error.0,
        high_watermark: RECORDS,
        log_start_offset: 0,
        records,
        ..Default::default()
    };
    let topic =
        FetchableTopicResponse { topic: "t".into(), partitions: vec![partition], ..Default::default() };
    let answer = FetchResponse { responses: vec![topic], ..Default::default() };
    Reply::Say(asked.answer::<FetchRequest>(&answer))
}

/// What a task cannot calculate with stands for any defect: nobody waits for a task that is gone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn readers_are_told_when_a_task_has_failed() {
    let port = Arc::new(AtomicI32::new(0));
    let at = Arc::clone(&port);
    let fake = Fake::raw(move |asked| match asked.api {
        18 => versions(&asked),
        3 => metadata(&asked, at.load(Ordering::SeqCst), 0),
        2 => list_offsets(&asked, 0),
        _ => Reply::Nothing,
    })
    .await;
    port.store(fake.address.port().into(), Ordering::SeqCst);
    let mut conf = Config::with_bootstrap(&fake.address.to_string()).unwrap();
    (conf.lease, conf.heartbeat) = (Duration::MAX, Duration::MAX / 2);
    let group = GroupConf::embedded(kafka_fast_testkit::unique("group"));
    let consumer = Consumer::connect(conf, group, &["t"]).await.unwrap();
    let mut reader = consumer.reader();
    let told = tokio::time::timeout(Duration::from_secs(5), reader.next()).await.expect("an answer");
    let text = told.unwrap_err().to_string();
    assert!(text.contains("a defect in kafka-fast stopped it, see the log. Connect again"), "{text}");
}

/// The leader changes in the middle of a unit, and the new one, which serves records well, never says where the old epoch ended.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_does_not_answer_about_epochs_does_not_keep_the_group_waiting() {
    let (epoch, port) = (Arc::new(AtomicI32::new(0)), Arc::new(AtomicI32::new(0)));
    let (now, at) = (Arc::clone(&epoch), Arc::clone(&port));
    let fake = Fake::raw(move |asked| {
        let current = now.load(Ordering::SeqCst);
        match asked.api {
            18 => versions(&asked),
            3 => metadata(&asked, at.load(Ordering::SeqCst), current),
            2 => list_offsets(&asked, current),
            1 => {
                let request: FetchRequest = asked.read();
                let want = &request.topics[0].partitions[0];
                if want.fetch_offset >= RECORDS {
                    return Reply::Nothing;
                }
                if want.current_leader_epoch < current {
                    return fetched(&asked, ErrorCode::FENCED_LEADER_EPOCH, 0);
                }
                now.store(1, Ordering::SeqCst);
                fetched(&asked, ErrorCode::NONE, want.fetch_offset)
            }
            23 => Reply::Nothing,
            other => panic!("unexpected request {other}"),
        }
    })
    .await;
    port.store(fake.address.port().into(), Ordering::SeqCst);
    let mut conf = Config::with_bootstrap(&fake.address.to_string()).unwrap();
    conf.use_earliest = true;
    conf.lease = Duration::from_secs(2);
    conf.heartbeat = Duration::from_millis(300);
    let group = GroupConf::embedded(kafka_fast_testkit::unique("group"));
    let consumer = Consumer::connect(conf, group, &["t"]).await.unwrap();
    let mut reader = consumer.reader();
    let soon = Duration::from_secs(3);
    for offset in 0..100 {
        let message = tokio::time::timeout(soon, reader.next()).await;
        let message = message.unwrap_or_else(|_| panic!("stuck at {offset}: {:?}", consumer.stats()));
        assert_eq!(message.unwrap().unwrap().offset, offset, "{:?}", consumer.stats());
        if offset == 5 {
            // Twice the lease: heartbeats have to renew it.
            tokio::time::sleep(Duration::from_secs(4)).await;
        }
    }
    assert_eq!(epoch.load(Ordering::SeqCst), 1);
    assert_eq!(consumer.stats().units_fenced, 0);
}
