//! Every way in: a producer and a consumer do their work.

use std::path::PathBuf;

use crate::support::*;
use kafka_fast_testkit::unique;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_tls() {
    let broker = broker().await;
    works(broker.at("TLS", &[("security.protocol", "SSL"), broker.trust()])).await;
    // It asks for a client certificate and does not demand one.
    new_topic(&broker.at("ASKING", &[("security.protocol", "SSL"), broker.trust()])).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_tls_and_a_client_certificate() {
    let broker = broker().await;
    for listener in ["MUTUAL", "MUTUAL12"] {
        let settings = [
            ("security.protocol", "SSL"),
            broker.trust(),
            ("ssl.keystore.certificate.chain", &broker.client.certificate),
            ("ssl.keystore.key", &broker.client.key),
        ];
        works(broker.at(listener, &settings)).await;
    }
}

/// Removes what it names.
struct Files(Vec<PathBuf>);

impl Files {
    fn add(&mut self, contents: &str) -> String {
        let path = std::env::temp_dir().join(unique("kafka-fast-pem"));
        std::fs::write(&path, contents).unwrap();
        self.0.push(path.clone());
        path.to_str().unwrap().to_owned()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        for path in &self.0 {
            drop(std::fs::remove_file(path));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_certificates_in_files_under_both_sets_of_names() {
    let broker = broker().await;
    let mut files = Files(Vec::new());
    let (ca, certificate, key) =
        (files.add(&broker.ca), files.add(&broker.client.certificate), files.add(&broker.client.key));
    let both = files.add(&format!("{}{}", broker.client.key, broker.client.certificate));
    let tls = ("security.protocol", "ssl");
    works(broker.at("MUTUAL", &[tls, ("ssl.truststore.location", &ca), ("ssl.keystore.location", &both)]))
        .await;
    let names = [
        tls,
        ("ssl.ca.location", &ca),
        ("ssl.certificate.location", &certificate),
        ("ssl.key.location", &key),
    ];
    new_topic(&broker.at("MUTUAL", &names)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_user_and_password() {
    let broker = broker().await;
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let settings = [&[("security.protocol", "SASL_PLAINTEXT")], &user(mechanism)[..]].concat();
        works(broker.at("USERS", &settings)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_user_and_password_through_tls() {
    let broker = broker().await;
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        let settings = [&[("security.protocol", "SASL_SSL"), broker.trust()], &user(mechanism)[..]].concat();
        works(broker.at("SECURE", &settings)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_the_jaas_config_of_kafka_clients() {
    let broker = broker().await;
    let of = |class: &str, password: &str| {
        format!(
            "org.apache.kafka.common.security.{class} required username=\"{USER}\" password=\"{password}\";"
        )
    };
    let (plain, scram) = (of("plain.PlainLoginModule", PASSWORD), of("scram.ScramLoginModule", "app-Secret"));
    let sasl = ("security.protocol", "SASL_PLAINTEXT");
    new_topic(&broker.at("USERS", &[sasl, ("sasl.jaas.config", &plain)])).await;
    let scram = [sasl, ("sasl.mechanism", "SCRAM-SHA-512"), ("sasl.jaas.config", &scram)];
    new_topic(&broker.at("USERS", &scram)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_name_is_taken_when_names_are_not_checked() {
    let broker = broker().await;
    let unchecked = ("ssl.endpoint.identification.algorithm", "");
    let settings = [("security.protocol", "SSL"), broker.trust(), unchecked];
    new_topic(&broker.at("ELSEWHERE", &settings)).await;
}
