//! Offsets of a group, kept by the broker, by hand and by a group in Redis.

use std::time::{Duration, Instant};

use kafka_fast::cluster::OffsetCommit;
use kafka_fast::config::RedisConf;
use kafka_fast::consumer::{Consumer, GroupConf};
use kafka_fast::wire::ErrorCode;
use kafka_fast_testkit::{RealKafka, RealRedis, unique};

use crate::support::{Row, WAIT, config, connect, on_every_version, send, topic};

on_every_version!(committed_offsets_are_kept, a_group_in_redis_is_mirrored);

async fn committed_offsets_are_kept(broker: &RealKafka) {
    let cluster = connect(broker).await;
    let (group, topic) = (unique("kept"), topic(&cluster, 3, &[]).await);
    let here: Vec<_> = [2, 0, 1].map(|partition| (topic.clone(), partition)).into();
    cluster.may_commit(&group, &here, WAIT).await.unwrap();
    let commit = |partition, offset, metadata: &str| OffsetCommit {
        topic: topic.clone(),
        partition,
        offset,
        leader_epoch: 0,
        metadata: metadata.to_owned(),
    };
    let commits = [commit(2, 17, "of two"), commit(0, 1 << 40, "é"), commit(9, 1, "")];
    let outcomes = cluster.commit_offsets(&group, &commits, WAIT).await.unwrap();
    let outcomes: Vec<_> = outcomes.into_iter().map(|(.., outcome)| outcome).collect();
    assert_eq!(outcomes, [Ok(()), Ok(()), Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)]);
    cluster.may_commit(&group, &here, WAIT).await.unwrap();
    let found = cluster.committed_offsets(&group, &here, WAIT).await.unwrap();
    let found: Vec<_> = found.iter().map(|f| (f.offset, f.leader_epoch, f.metadata.as_str())).collect();
    assert_eq!(found, [(17, 0, "of two"), (1 << 40, 0, "é"), (-1, -1, "")]);
    cluster.close();
}

/// Kafka's own tools see where a group in Redis is.
async fn a_group_in_redis_is_mirrored(broker: &RealKafka) {
    let cluster = connect(broker).await;
    let topic = topic(&cluster, 1, &[]).await;
    let rows = (0..20).map(|i| Row::value(0, i, &format!("{i}"))).collect();
    send(broker, &[("codec", "lz4")], &topic, rows).await;
    let redis = tokio::task::spawn_blocking(RealRedis::shared).await.unwrap();
    let (host, port) = redis.rsplit_once(':').unwrap();
    let group = unique("mirrored");
    let redis = GroupConf::redis(RedisConf::new(host, port.parse().unwrap(), group.as_str()));
    let mut conf = config(broker, &[]);
    conf.offset_commit_freq = Duration::from_millis(200);
    let consumer = Consumer::connect(conf, redis, &[&topic]).await.unwrap();
    let mut reader = consumer.reader();
    for _ in 0..20 {
        tokio::time::timeout(WAIT, reader.next()).await.expect("in time").unwrap().unwrap();
    }
    // Asking for the next one says that the last one was handled.
    let waiting = tokio::spawn(async move { reader.next().await.unwrap().is_none() });
    let here = [(topic.clone(), 0)];
    let until = Instant::now() + WAIT;
    while cluster.committed_offsets(&group, &here, WAIT).await.unwrap()[0].offset != 20 {
        assert!(Instant::now() < until, "{:?}", cluster.committed_offsets(&group, &here, WAIT).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    consumer.close(WAIT).await.unwrap();
    assert!(waiting.await.unwrap(), "the close ends it");
    cluster.close();
}
