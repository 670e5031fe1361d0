//! Fetch sessions (KIP-227): a group's watcher has hundreds of partitions to look at, and names only what has changed.

use std::time::{Duration, Instant};

use kafka_fast::consumer::{Consumer, GroupConf};
use kafka_fast_testkit::{RealKafka, unique};

use crate::support::{Row, WAIT, config, connect, on_every_version, send, topic};

const PARTITIONS: i32 = 300;
const RECORDS: i32 = 25;
/// What a poll waits when there is nothing, by far longer than a record may need.
const POLL: Duration = Duration::from_secs(20);
const PROMPT: Duration = Duration::from_secs(5);

on_every_version!(a_watcher_of_hundreds_of_partitions_names_only_what_has_changed);

async fn a_watcher_of_hundreds_of_partitions_names_only_what_has_changed(broker: &RealKafka) {
    let cluster = connect(broker).await;
    let topic = topic(&cluster, PARTITIONS, &[]).await;
    let mut conf = config(broker, &[]);
    conf.max_wait = POLL;
    let consumer = Consumer::connect(conf, GroupConf::embedded(unique("group")), &[&topic]).await.unwrap();
    let mut reader = consumer.reader();
    let deadline = Instant::now() + WAIT;
    while consumer.stats().long_poll_partitions < PARTITIONS as u64 {
        assert!(Instant::now() < deadline, "the first poll names all: {:?}", consumer.stats());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let before = consumer.stats();
    let mut slowest = Duration::ZERO;
    for i in 0..RECORDS {
        let partition = i * 11 % PARTITIONS;
        send(broker, &[("acks", "all")], &topic, vec![Row::value(partition, 1_000, "new")]).await;
        let sent = Instant::now();
        let next = tokio::time::timeout(WAIT, reader.next()).await.expect("a record in time");
        let message = next.unwrap().expect("nobody closed it");
        assert_eq!((&*message.topic, message.partition), (&*topic, partition));
        slowest = slowest.max(sent.elapsed());
    }
    let after = consumer.stats();
    let polls = after.long_polls - before.long_polls;
    let named = after.long_poll_partitions - before.long_poll_partitions;
    println!("{polls} polls named {named} partitions; the slowest record took {slowest:?}");
    // A record's partition may be forgotten meanwhile and come back; and without ids each poll names one.
    assert!(polls > 0 && named <= 3 * RECORDS as u64 + polls, "{polls} polls named {named}: {after:?}");
    assert!(slowest < PROMPT, "{slowest:?}");
    drop(reader);
    consumer.close(WAIT).await.unwrap();
}
