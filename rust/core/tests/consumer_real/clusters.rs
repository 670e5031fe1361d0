//! Two clusters, one Redis, one group, one topic's name.

use std::time::Duration;

use kafka_fast::cluster::Cluster;
use kafka_fast::config::RedisConf;
use kafka_fast::consumer::{Consumer, GroupConf, ReadError};
use kafka_fast_testkit::{Options, Proxy, RealKafka, RealRedis, RedisOptions, free_port};

use crate::support::{Bench, SOON, next, number};

/// They stand behind one address, one after the other, as after a cluster was set up anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_is_of_one_cluster_until_it_is_deleted() {
    let port = free_port();
    let start = |id| RealKafka::start(&Options::new().small().advertise(port).cluster_id(id));
    let (one, other) = std::thread::scope(|scope| {
        let other = scope.spawn(|| start("AAAAAAAAAAAAAAAAAAAAAg"));
        (start("AAAAAAAAAAAAAAAAAAAAAw"), other.join().expect("it starts"))
    });
    let redis = RealRedis::start(&RedisOptions::new());
    let proxy = Proxy::start_on(port, &one.address()).await;
    let mut bench = Bench::at(&format!("127.0.0.1:{port}"), 1).await;
    bench.conf.offset_commit_freq = Duration::from_millis(200);
    let ours = bench.cluster.cluster_id().unwrap();
    let group = GroupConf::redis(RedisConf::new("127.0.0.1", redis.port(), bench.group.as_str()));
    let connect = async || Consumer::connect(bench.conf.clone(), group.clone(), &[&bench.topic]).await;
    bench.produce(0, 0, 100, 10).await;
    let consumer = connect().await.unwrap();
    let mut reader = consumer.reader();
    for expected in 0..100 {
        assert_eq!(number(&next(&mut reader).await), expected);
    }

    drop(proxy);
    // Its port is free when its task has ended.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let _proxy = Proxy::start_on(port, &other.address()).await;
    let cluster = Cluster::connect(&bench.conf).await.unwrap();
    let theirs = cluster.cluster_id().unwrap();
    assert_ne!(ours, theirs);
    cluster.create_topic(&bench.topic, 1, 1, SOON).await.unwrap();
    let (conf, topic, name) = (bench.conf.clone(), bench.topic.clone(), bench.group.clone());
    let theirs_bench = Bench { conf, cluster, topic, group: name, timestamp: 0 };
    theirs_bench.produce(0, 1_000, 200, 10).await;
    let error = tokio::time::timeout(SOON * 2, reader.next()).await.expect("it stops").unwrap_err();
    let both = format!("is of Kafka cluster {theirs}, and this consumer reads Kafka cluster {ours}");
    assert!(matches!(error, ReadError::OtherCluster { .. }) && error.to_string().contains(&both), "{error}");
    consumer.close(SOON).await.unwrap();

    let error = connect().await.unwrap_err().to_string();
    let both = format!("is of Kafka cluster {ours}, and this consumer reads Kafka cluster {theirs}");
    assert!(error.contains(&both) && error.contains("Consumer.deleteGroup"), "{error}");
    let asked = [(bench.topic.as_str().into(), 0)];
    let found = theirs_bench
        .cluster
        .committed_offsets(&std::sync::Arc::from(bench.group.as_str()), &asked, SOON)
        .await;
    assert_eq!(found.unwrap()[0].offset, -1, "something was committed there");

    Consumer::delete_group(&group).await.unwrap();
    let consumer = connect().await.unwrap();
    let mut reader = consumer.reader();
    for expected in 1_000..1_200 {
        assert_eq!(number(&next(&mut reader).await), expected);
    }
    consumer.close(SOON).await.unwrap();
}
