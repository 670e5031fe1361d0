//! librdkafka reads what we write, and we read what it writes: every codec, byte for byte, on each version of Kafka.

#[path = "../../core/tests/brokers_real/support.rs"]
#[allow(dead_code, unused_imports, unused_macros)]
mod support;

use interop::Stored;
use kafka_fast_testkit::RealKafka;
use support::{CODECS, Row, WAIT, connect, on_every_version, read_all, send, topic, varieties};

on_every_version!(librdkafka_reads_ours, we_read_librdkafkas, we_share_a_log);

const PARTITIONS: i32 = 3;

fn theirs(row: &Row) -> Stored {
    let Row { partition, offset, timestamp, key, value, headers } = row.clone();
    Stored { partition, offset, timestamp, key, value, headers }
}

fn sorted(rows: &[Row]) -> Vec<Stored> {
    let mut rows: Vec<_> = rows.iter().map(theirs).collect();
    rows.sort_unstable();
    rows
}

fn assert_same(what: &str, expected: &[Stored], got: &[Stored]) {
    for (expected, got) in expected.iter().zip(got) {
        let place = (got.partition, got.offset);
        // Field by field, and lengths before bytes: values are long.
        assert_eq!((expected.partition, expected.offset), place, "{what}");
        assert_eq!(
            (expected.timestamp, &expected.headers),
            (got.timestamp, &got.headers),
            "{what} {place:?}"
        );
        let lengths = |row: &Stored| [&row.key, &row.value].map(|bytes| bytes.as_ref().map(Vec::len));
        assert_eq!(lengths(expected), lengths(got), "{what} {place:?}");
        assert!(expected == got, "{what} {place:?}: other bytes");
    }
    assert_eq!(expected.len(), got.len(), "{what}");
}

/// Those of librdkafka, which is not asynchronous.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::time::timeout(2 * WAIT, tokio::task::spawn_blocking(work)).await.expect("in time").unwrap()
}

async fn librdkafka_reads_ours(broker: &RealKafka) {
    let cluster = connect(broker).await;
    for codec in CODECS {
        let topic = topic(&cluster, PARTITIONS, &[]).await;
        let mut sent = Vec::new();
        for acks in ["all", "1"] {
            let settings = [("codec", codec), ("acks", acks), ("linger.ms", "1000"), ("batch.size", "16384")];
            sent.extend(send(broker, &settings, &topic, varieties(PARTITIONS)).await);
        }
        let (address, name, count) = (broker.address(), topic.clone(), sent.len());
        let read = blocking(move || interop::read(&address, &name, PARTITIONS, count)).await;
        assert_same(codec, &sorted(&sent), &read);
    }
    cluster.close();
}

/// What librdkafka sends of `rows`, with their places.
async fn they_send(
    broker: &RealKafka,
    codec: &'static str,
    idempotent: &'static str,
    topic: &str,
) -> Vec<Stored> {
    let (address, topic) = (broker.address(), topic.to_owned());
    blocking(move || {
        let mut rows: Vec<_> = varieties(PARTITIONS).iter().map(theirs).collect();
        for row in &mut rows {
            // Its word for now.
            row.timestamp = row.timestamp.filter(|ms| *ms != 0);
        }
        let settings = [
            ("compression.codec", codec),
            ("enable.idempotence", idempotent),
            ("linger.ms", "200"),
            ("batch.size", "16384"),
        ];
        interop::send(&address, &settings, &topic, rows)
    })
    .await
}

async fn we_read_librdkafkas(broker: &RealKafka) {
    let cluster = connect(broker).await;
    for codec in CODECS {
        let topic = topic(&cluster, PARTITIONS, &[]).await;
        let mut sent = they_send(broker, codec, "true", &topic).await;
        sent.extend(they_send(broker, codec, "false", &topic).await);
        sent.sort_unstable();
        let read = read_all(broker, &topic, sent.len()).await;
        assert_same(codec, &sent, &sorted(&read));
    }
    cluster.close();
}

/// One partition's log with batches of both and in all codecs, which both read to its end.
async fn we_share_a_log(broker: &RealKafka) {
    let cluster = connect(broker).await;
    let topic = topic(&cluster, PARTITIONS, &[]).await;
    let mut sent = Vec::new();
    for codec in CODECS {
        sent.extend(
            send(broker, &[("codec", codec)], &topic, varieties(PARTITIONS)).await.iter().map(theirs),
        );
        sent.extend(they_send(broker, codec, "true", &topic).await);
    }
    sent.sort_unstable();
    let ours = read_all(broker, &topic, sent.len()).await;
    assert_same("ours", &sent, &sorted(&ours));
    let (address, count) = (broker.address(), sent.len());
    let theirs = blocking(move || interop::read(&address, &topic, PARTITIONS, count)).await;
    assert_same("theirs", &sent, &theirs);
    cluster.close();
}
