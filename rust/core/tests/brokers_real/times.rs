//! Topics whose records get the broker's time.

use std::time::{SystemTime, UNIX_EPOCH};

use kafka_fast_testkit::RealKafka;

use crate::support::{CODECS, connect, on_every_version, read_all, send, topic, varieties};

on_every_version!(log_append_time_is_told_to_the_sender_and_to_the_reader);

async fn log_append_time_is_told_to_the_sender_and_to_the_reader(broker: &RealKafka) {
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let cluster = connect(broker).await;
    for codec in CODECS {
        let topic = topic(&cluster, 1, &[("message.timestamp.type", "LogAppendTime")]).await;
        let before = now();
        let sent = send(broker, &[("codec", codec), ("acks", "all")], &topic, varieties(1)).await;
        let after = now();
        assert!(sent.iter().all(|row| (before..=after).contains(&row.timestamp.unwrap())), "{sent:?}");
        assert!(read_all(broker, &topic, sent.len()).await == sent, "{codec}");
    }
    cluster.close();
}
