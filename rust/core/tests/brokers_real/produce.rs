//! What is sent is what stands in the log, in every codec and with all acks, and the broker's own tool finds it valid.

use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kafka_fast_testkit::{RealKafka, Version, java_with};

use crate::support::{CODECS, Row, WAIT, connect, ends, on_every_version, read_all, send, topic, varieties};

on_every_version!(records_of_every_kind_arrive_in_every_codec, acks_0_writes_them_too);

const PARTITIONS: i32 = 3;

fn now_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64
}

async fn records_of_every_kind_arrive_in_every_codec(broker: &RealKafka) {
    let cluster = connect(broker).await;
    let mut files = Vec::new();
    let mut count = 0;
    for codec in CODECS {
        let topic = topic(&cluster, PARTITIONS, &[]).await;
        let mut next = [0; PARTITIONS as usize];
        let mut all = Vec::new();
        for acks in ["all", "1"] {
            let before = now_ms();
            let settings = [("codec", codec), ("acks", acks), ("linger.ms", "1000"), ("batch.size", "16384")];
            let rows = varieties(PARTITIONS);
            let sent = send(broker, &settings, &topic, rows.clone()).await;
            for (row, sent) in rows.iter().zip(&sent) {
                let offset = &mut next[row.partition as usize];
                assert_eq!(sent.offset, *offset, "{codec}, acks={acks}");
                *offset += 1;
                match row.timestamp {
                    Some(_) => assert_eq!(sent.timestamp, row.timestamp),
                    // The clock of a batch may be a tick old.
                    None => assert!((before - 50..=now_ms()).contains(&sent.timestamp.unwrap()), "{sent:?}"),
                }
            }
            all.extend(sent);
        }
        all.sort();
        let read = read_all(broker, &topic, all.len()).await;
        assert_same(codec, &all, &read);
        files.extend(broker.segments(&topic));
        count += all.len();
    }
    cluster.close();
    // The newest one's tool is not among the broker's jars; Java's StrangersTest has it.
    if broker.version() < Version::V4_4 {
        assert_valid(broker.version(), &files, count);
    }
}

fn assert_same(what: &str, sent: &[Row], read: &[Row]) {
    for (sent, read) in sent.iter().zip(read) {
        // Not by assert_eq: values are long.
        assert!(sent == read, "{what}: sent {sent:?}, read {read:?}");
    }
    assert_eq!(sent.len(), read.len());
}

/// Kafka's own DumpLogSegments walks through every record of the files.
fn assert_valid(version: Version, files: &[PathBuf], count: usize) {
    let names: Vec<_> = files.iter().map(|file| file.to_str().unwrap()).collect();
    let mut command = java_with(version);
    command.args(["kafka.tools.DumpLogSegments", "--deep-iteration", "--files", &names.join(",")]);
    let out = command.output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout).to_lowercase();
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    let batches: Vec<_> = text.lines().filter(|line| line.contains("baseoffset:")).collect();
    let records = text.lines().filter(|line| line.starts_with("| offset:")).count();
    assert_eq!(records, count, "{text}");
    for batch in &batches {
        assert!(batch.contains("isvalid: true") && batch.contains("magic: 2"), "{batch}");
    }
    for codec in CODECS {
        let named = format!("compresscodec: {codec}");
        assert!(batches.iter().any(|batch| batch.contains(&named)), "{codec}: {batches:#?}");
    }
    for complaint in ["non-consecutive", "mismatch", "invalid", "corrupt"] {
        assert!(!text.contains(complaint), "{text}");
    }
}

async fn acks_0_writes_them_too(broker: &RealKafka) {
    let cluster = connect(broker).await;
    for codec in CODECS {
        let topic = topic(&cluster, PARTITIONS, &[]).await;
        let rows = varieties(PARTITIONS);
        let mut sent = send(broker, &[("codec", codec), ("acks", "0")], &topic, rows).await;
        assert!(sent.iter().all(|row| row.offset == -1), "nobody told where");
        // Nobody says when the broker has it.
        let until = Instant::now() + WAIT;
        while ends(&cluster, &topic, PARTITIONS).await < sent.len() as i64 {
            assert!(Instant::now() < until, "{codec}: not everything arrived");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let mut next = [0; PARTITIONS as usize];
        for row in &mut sent {
            let offset = &mut next[row.partition as usize];
            row.offset = *offset;
            *offset += 1;
        }
        sent.sort();
        assert_same(codec, &sent, &read_all(broker, &topic, sent.len()).await);
    }
    cluster.close();
}
