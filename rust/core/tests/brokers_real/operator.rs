//! An operator moves a group in Redis by Kafka's own tools.

use std::time::Duration;

use kafka_fast::config::RedisConf;
use kafka_fast::consumer::GroupConf;
use kafka_fast_testkit::{RealKafka, RealRedis, Version, java_with, unique};

use crate::support::{Row, WAIT, config, connect, on_every_version, read, send, topic};

on_every_version!(a_group_that_a_tool_has_moved_goes_on_there);

/// What an operator may do to the offsets of a group and a topic.
#[derive(Clone, Copy)]
enum Act {
    Reset(i64),
    Delete,
}

/// 2.4.1 has the tool among its jars. The newer ones have theirs in a jar of its own, which calls these two methods of the admin client;
/// Java's `RedisGroupTest` runs that tool.
fn operate(broker: &RealKafka, group: &str, topic: &str, act: Act) {
    let mut command = java_with(broker.version());
    if broker.version() == Version::V2_4 {
        command.args(["kafka.admin.ConsumerGroupCommand", "--bootstrap-server", &broker.address()]);
        command.args(["--group", group, "--topic", topic]);
        match act {
            Act::Reset(to) => command.args(["--reset-offsets", "--to-offset", &to.to_string(), "--execute"]),
            Act::Delete => command.arg("--delete-offsets"),
        };
    } else {
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/brokers_real/Operate.java"));
        command.args([&broker.address(), group, topic]);
        if let Act::Reset(to) = act {
            command.arg(to.to_string());
        }
    }
    let out = command.output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(
        out.status.success() && !text.contains("Error"),
        "{text}{}",
        String::from_utf8_lossy(&out.stderr)
    );
}

async fn a_group_that_a_tool_has_moved_goes_on_there(broker: &'static RealKafka) {
    let cluster = connect(broker).await;
    let topic = topic(&cluster, 1, &[]).await;
    let rows = |from: i64, to: i64| (from..to).map(|i| Row::value(0, i, &format!("{i}"))).collect();
    send(broker, &[], &topic, rows(0, 100)).await;
    let redis = tokio::task::spawn_blocking(RealRedis::shared).await.unwrap();
    let (host, port) = redis.rsplit_once(':').unwrap();
    let group = unique("moved");
    let conf = || {
        let mut conf = config(broker, &[]);
        conf.offset_commit_freq = Duration::from_millis(200);
        conf
    };
    let redis = || GroupConf::redis(RedisConf::new(host, port.parse().unwrap(), group.as_str()));
    let operate = |act| {
        let (group, topic) = (group.clone(), topic.clone());
        tokio::task::spawn_blocking(move || operate(broker, &group, &topic, act))
    };
    let here = [(topic.clone(), 0)];
    let committed = || cluster.committed_offsets(&group, &here, WAIT);
    let places = |rows: Vec<Row>| rows.iter().map(|row| row.offset).collect::<Vec<_>>();

    // The last one is in hands when `read` ends, and goes back.
    assert_eq!(places(read(conf(), redis(), &topic, 100).await), (0..100).collect::<Vec<_>>());
    assert_eq!(committed().await.unwrap()[0].offset, 99);
    operate(Act::Reset(10)).await.unwrap();
    let said = committed().await.unwrap().remove(0);
    assert_eq!((said.offset, said.leader_epoch, said.metadata.as_str()), (10, -1, ""), "what tools write");
    assert_eq!(places(read(conf(), redis(), &topic, 90).await), (10..100).collect::<Vec<_>>());

    // Brokers forget offsets by themselves: that says nothing.
    operate(Act::Delete).await.unwrap();
    assert_eq!(committed().await.unwrap()[0].offset, -1);
    send(broker, &[], &topic, rows(100, 105)).await;
    assert_eq!(places(read(conf(), redis(), &topic, 5).await), (99..104).collect::<Vec<_>>());
    assert_eq!(committed().await.unwrap()[0].offset, 103);
    cluster.close();
}
