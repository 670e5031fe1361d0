//! Offsets by time, from the beginning and from the end, and where a new group starts.

use std::sync::Arc;

use kafka_fast::cluster::{Isolation, OffsetAt, OffsetQuery};
use kafka_fast::consumer::{Consumer, GroupConf};
use kafka_fast_testkit::{RealKafka, Version, unique};

use crate::support::{Row, WAIT, config, connect, on_every_version, read, send, topic};

on_every_version!(
    offsets_are_found_by_time,
    the_youngest_record_and_the_first_on_disk_are_found_or_the_broker_is_too_old,
    a_new_group_starts_at_the_end_or_at_the_beginning,
);

const START: i64 = 1_700_000_000_000;

fn rows(from: i64, count: i64) -> Vec<Row> {
    (from..from + count).map(|i| Row::value((i % 2) as i32, START + i * 1000, &format!("{i}"))).collect()
}

async fn offsets_are_found_by_time(broker: &RealKafka) {
    let cluster = connect(broker).await;
    let topic = topic(&cluster, 2, &[]).await;
    // Ten to a partition, two seconds apart, compressed and not.
    send(broker, &[("codec", "snappy")], &topic, rows(0, 10)).await;
    send(broker, &[], &topic, rows(10, 10)).await;
    let query = |partition, at| OffsetQuery { topic: Arc::clone(&topic), partition, at };
    let time = |ms| OffsetAt::Timestamp(START + ms);
    let queries = [
        query(0, OffsetAt::Earliest),
        query(0, OffsetAt::Latest),
        query(1, OffsetAt::Latest),
        query(0, time(-5)),
        query(0, time(8_000)),
        query(0, time(8_001)),
        query(1, time(8_001)),
        query(0, time(18_000)),
        query(0, time(18_001)),
    ];
    for isolation in [Isolation::ReadUncommitted, Isolation::ReadCommitted] {
        let found = cluster.list_offsets(&queries, isolation, WAIT).await.unwrap();
        let offsets: Vec<_> = found.iter().map(|found| found.offset).collect();
        assert_eq!(offsets, [0, 10, 10, 0, 4, 5, 4, 9, -1]);
        assert_eq!((found[4].timestamp, found[5].timestamp), (START + 8_000, START + 10_000));
    }
    cluster.close();
}

async fn the_youngest_record_and_the_first_on_disk_are_found_or_the_broker_is_too_old(broker: &RealKafka) {
    let cluster = connect(broker).await;
    let topic = topic(&cluster, 1, &[]).await;
    let at = |ms: i64| Row::value(0, START + ms, "x");
    send(broker, &[], &topic, vec![at(1), at(9), at(5)]).await;
    let ask = |at| {
        let query = OffsetQuery { topic: Arc::clone(&topic), partition: 0, at };
        let cluster = cluster.clone();
        async move { cluster.list_offsets(&[query], Isolation::ReadUncommitted, WAIT).await }
    };
    let (youngest, first) = (ask(OffsetAt::MaxTimestamp).await, ask(OffsetAt::EarliestLocal).await);
    if broker.version() == Version::V2_4 {
        for error in [youngest.unwrap_err(), first.unwrap_err()] {
            let text = error.to_string();
            assert!(text.contains("speaks ListOffsets 0-5, this client "), "{text}");
            assert!(text.contains("needs Kafka 3.0"), "{text}");
        }
    } else {
        let youngest = youngest.unwrap()[0];
        assert_eq!((youngest.offset, youngest.timestamp), (1, START + 9));
        assert_eq!(first.unwrap()[0].offset, 0);
    }
    cluster.close();
}

async fn a_new_group_starts_at_the_end_or_at_the_beginning(broker: &RealKafka) {
    let cluster = connect(broker).await;
    let topic = topic(&cluster, 2, &[]).await;
    send(broker, &[("codec", "zstd")], &topic, rows(0, 10)).await;
    let mut latest = config(broker, &[]);
    latest.use_earliest = false;
    // What is written once connect has returned is read, whoever of the group asks first.
    let group = GroupConf::embedded(unique("latest"));
    let consumer = Consumer::connect(latest.clone(), group.clone(), &[&topic]).await.unwrap();
    let sent = send(broker, &[("codec", "gzip")], &topic, rows(10, 2)).await;
    assert_eq!(read(latest, group, &topic, 2).await, sent);
    consumer.close(WAIT).await.unwrap();
    let earliest = GroupConf::embedded(unique("earliest"));
    let first = read(config(broker, &[]), earliest, &topic, 12).await;
    assert_eq!(first.iter().map(|row| row.offset).collect::<Vec<_>>(), [0, 1, 2, 3, 4, 5, 0, 1, 2, 3, 4, 5]);
    cluster.close();
}
