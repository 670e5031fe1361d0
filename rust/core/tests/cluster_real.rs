//! The cluster against a real Kafka.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_fast::cluster::*;
use kafka_fast::config::{Codec, Config};
use kafka_fast::net::CallError;
use kafka_fast::wire::messages::*;
use kafka_fast::wire::{BatchBuilder, ErrorCode, Record};
use kafka_fast_testkit::{Fault, Options, Proxy, RealKafka, Version, unique};

const SEC: Duration = Duration::from_secs(1);

async fn connect(bootstrap: &str) -> Cluster {
    Cluster::connect(&Config::with_bootstrap(bootstrap).unwrap()).await.unwrap()
}

/// Starting a broker blocks.
async fn shared() -> &'static str {
    tokio::task::spawn_blocking(RealKafka::shared).await.unwrap()
}

fn batch(records: usize, timestamp: i64) -> Bytes {
    let mut builder = BatchBuilder::with_capacity(1024);
    for i in 0..records {
        builder.append(timestamp + i as i64, &Record { key: None, value: Some(b"value"), headers: &[] });
    }
    builder.seal(Codec::None).finish()
}

async fn produce(cluster: &Cluster, topic: &TopicMeta, partition: i32, records: Bytes) -> ErrorCode {
    let request = ProduceRequest {
        acks: -1,
        timeout_ms: 10_000,
        topic_data: vec![TopicProduceData {
            name: topic.name.clone(),
            topic_id: topic.id,
            partition_data: vec![PartitionProduceData { index: partition, records: Some(records) }],
        }],
        ..Default::default()
    };
    let node = cluster.leader(&topic.name, partition).unwrap().node;
    let begin = Instant::now();
    loop {
        let answer = cluster.call(node, Purpose::Produce, &request, 10 * SEC).await.unwrap();
        let code = ErrorCode(answer.responses[0].partition_responses[0].error_code);
        // A broker publishes a new topic's leader a moment before it leads.
        if !code.refresh_metadata() || begin.elapsed() > 5 * SEC {
            return code;
        }
        tokio::time::sleep(SEC / 50).await;
    }
}

fn query(topic: &Arc<str>, partition: i32, at: OffsetAt) -> OffsetQuery {
    OffsetQuery { topic: topic.clone(), partition, at }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_is_created_by_asking_for_it() {
    let cluster = connect(shared().await).await;
    assert!(cluster.cluster_id().is_some() && !cluster.nodes().is_empty());
    let name = unique("auto");
    assert_eq!(cluster.topic_if_exists(&name, 5 * SEC).await.unwrap(), None);
    let meta = cluster.topic(&name, 20 * SEC).await.unwrap();
    assert!(meta.has_all_leaders());
    assert_eq!(!meta.id.is_zero(), Version::under_test().has_topic_ids());
    assert_eq!(cluster.topic_if_exists(&name, 5 * SEC).await.unwrap().unwrap().id, meta.id);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_are_listed_for_many_partitions_at_once() {
    let cluster = connect(shared().await).await;
    let name = unique("offsets");
    cluster.create_topic(&name, 6, 1, 20 * SEC).await.unwrap();
    let again = cluster.create_topic(&name, 6, 1, 20 * SEC).await.unwrap_err();
    assert!(matches!(again, TopicError::Exists { .. }), "{again}");
    let topic = cluster.topic(&name, 20 * SEC).await.unwrap();
    assert_eq!(topic.partitions.len(), 6);
    for p in 0..6 {
        assert_eq!(produce(&cluster, &topic, p, batch(p as usize + 1, 1000)).await, ErrorCode::NONE);
    }
    let name = &topic.name;
    let mut queries: Vec<_> = (0..6).map(|p| query(name, p, OffsetAt::Latest)).collect();
    // The same partitions again, with other questions.
    queries.extend((0..6).map(|p| query(name, p, OffsetAt::Earliest)));
    queries.push(query(name, 5, OffsetAt::Timestamp(1003)));
    queries.push(query(name, 5, OffsetAt::Timestamp(5000)));
    for isolation in [Isolation::ReadUncommitted, Isolation::ReadCommitted] {
        let offsets = cluster.list_offsets(&queries, isolation, 10 * SEC).await.unwrap();
        let offsets: Vec<i64> = offsets.iter().map(|o| o.offset).collect();
        assert_eq!(offsets, [1, 2, 3, 4, 5, 6, 0, 0, 0, 0, 0, 0, 3, -1]);
    }
    assert!(cluster.list_offsets(&[], Isolation::ReadCommitted, SEC).await.unwrap().is_empty());
    let nowhere =
        cluster.list_offsets(&[query(name, 6, OffsetAt::Latest)], Isolation::ReadCommitted, SEC).await;
    let text = nowhere.unwrap_err().to_string();
    assert!(
        text.starts_with(&format!("No offset of {name}/6 within 1 s: the partition has no leader")),
        "{text}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_auto_creation_a_topic_is_unknown_until_it_is_created() {
    let options = Options::new().property("auto.create.topics.enable", "false");
    let kafka = tokio::task::spawn_blocking(move || RealKafka::start(&options)).await.unwrap();
    let cluster = connect(&kafka.address()).await;
    let begin = Instant::now();
    let error = cluster.topic("data", 30 * SEC).await.unwrap_err();
    assert!(begin.elapsed() < 8 * SEC);
    assert!(
        error.to_string().starts_with("Topic \"data\" does not exist and auto-creation is off."),
        "{error}"
    );
    let refused = cluster.create_topic("data", 1, 3, 5 * SEC).await.unwrap_err();
    assert!(
        matches!(&refused, TopicError::Refused { code: ErrorCode::INVALID_REPLICATION_FACTOR, .. }),
        "{refused}"
    );
    cluster.create_topic("data", 2, -1, 10 * SEC).await.unwrap();
    assert_eq!(cluster.topic("data", 10 * SEC).await.unwrap().partitions.len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_was_down_is_found_again() {
    let mut kafka = tokio::task::spawn_blocking(|| RealKafka::start(&Options::new())).await.unwrap();
    let cluster = connect(&kafka.address()).await;
    let topic = cluster.topic("data", 20 * SEC).await.unwrap();
    assert_eq!(produce(&cluster, &topic, 0, batch(3, 0)).await, ErrorCode::NONE);
    let kafka = tokio::task::spawn_blocking(move || {
        kafka.kill();
        kafka
    });
    let mut kafka = kafka.await.unwrap();
    let down = Instant::now();
    while down.elapsed() < 5 * SEC {
        cluster.request_refresh(&topic.name);
        let asked = Instant::now();
        let connection = cluster.connection(1, Purpose::Produce).await;
        // On a busy machine it takes a moment until the end of the old connection is noticed.
        let is_refused = connection.is_err() || down.elapsed() < SEC;
        assert!(asked.elapsed() < 3 * SEC && is_refused, "after {:?}", asked.elapsed());
        tokio::time::sleep(SEC / 50).await;
    }
    let error = cluster.refresh(std::slice::from_ref(&topic.name), SEC).await.unwrap_err();
    assert!(error.to_string().contains("refused the connection"), "{error}");
    let back = tokio::task::spawn_blocking(move || {
        kafka.start_again();
        kafka
    });
    // What waits is served as soon as the broker is back.
    let queries = [query(&topic.name, 0, OffsetAt::Latest)];
    let offsets = cluster.list_offsets(&queries, Isolation::ReadCommitted, 60 * SEC).await.unwrap();
    assert_eq!(offsets[0].offset, 3);
    let _kafka = back.await.unwrap();
    let topic = cluster.topic("data", 20 * SEC).await.unwrap();
    assert_eq!(produce(&cluster, &topic, 0, batch(1, 0)).await, ErrorCode::NONE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_broker_times_out_and_its_connection_is_replaced() {
    let port = kafka_fast_testkit::free_port();
    let options = Options::new().advertise(port);
    let kafka = tokio::task::spawn_blocking(move || RealKafka::start(&options)).await.unwrap();
    let proxy = Proxy::start_on(port, &kafka.address()).await;
    let cluster = connect(&proxy.address()).await;
    let topic = cluster.topic("data", 20 * SEC).await.unwrap();
    let old = cluster.connection(1, Purpose::Control).await.unwrap();
    proxy.set(Fault::Stall);
    let request = ListOffsetsRequest::default();
    let error = cluster.call(1, Purpose::Control, &request, SEC).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout { possibly_written: true, .. }), "{error}");
    assert!(old.is_closed());
    proxy.set(Fault::None);
    let queries = [query(&topic.name, 0, OffsetAt::Latest)];
    let offsets = cluster.list_offsets(&queries, Isolation::ReadCommitted, 30 * SEC).await.unwrap();
    assert_eq!(offsets[0].offset, 0);
}
