//! No log line shows a secret, however much is logged and whatever goes wrong.

use std::fmt::{Debug, Write};
use std::sync::Mutex;

use kafka_fast::cluster::Cluster;
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};

use crate::support::*;

static LOG: Mutex<String> = Mutex::new(String::new());

/// Writes down every event with all its fields.
struct Everything;

struct Fields<'a>(&'a mut String);

impl Visit for Fields<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = write!(self.0, " {}={value:?}", field.name());
    }
}

impl Subscriber for Everything {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target().starts_with("kafka")
    }
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }
    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn event(&self, event: &Event<'_>) {
        let mut log = LOG.lock().unwrap();
        event.record(&mut Fields(&mut log));
        log.push('\n');
    }
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn logs_and_errors_show_no_secret() {
    tracing::subscriber::set_global_default(Everything).expect("no other test logs");
    let broker = broker().await;
    let mut shown = String::new();
    for (mechanism, password) in [("PLAIN", "wrong-hunter2"), ("SCRAM-SHA-512", "wrong-hunter2")] {
        let settings = [
            ("security.protocol", "SASL_SSL"),
            broker.trust(),
            ("sasl.mechanism", mechanism),
            ("sasl.username", USER),
            ("sasl.password", password),
            ("ssl.keystore.certificate.chain", &broker.client.certificate),
            ("ssl.keystore.key", &broker.client.key),
        ];
        let conf = broker.at("SECURE", &settings);
        let options = kafka_fast::net::ConnectionOptions::new(&conf).unwrap();
        let error = Cluster::connect(&conf).await.unwrap_err();
        let _ = write!(shown, "{conf:?} {options:?} {options:#?} {error} {error:?}");
        let mut lazy = conf.clone();
        lazy.lazy_connect = true;
        let cluster = Cluster::connect(&lazy).await.unwrap();
        let error = cluster.topic("t", std::time::Duration::from_secs(1)).await.unwrap_err();
        let _ = write!(shown, "{cluster:?} {error} {error:?}");
        cluster.close();
    }
    // One that works, with a producer and a consumer.
    let settings = [&[("security.protocol", "SASL_SSL"), broker.trust()], &user("PLAIN")[..]].concat();
    works(broker.at("SECURE", &settings)).await;
    let log = LOG.lock().unwrap().clone();
    assert!(log.contains("rejected user \"app\" (PLAIN). Check password and mechanism"), "it is told: {log}");
    shown += &log;
    let key = broker.client.key.lines().nth(1).unwrap();
    for secret in ["wrong-hunter2", PASSWORD, key] {
        assert!(!shown.contains(secret), "{secret} in {shown}");
    }
    assert!(shown.contains("<secret>"), "what has secrets was shown");
}
