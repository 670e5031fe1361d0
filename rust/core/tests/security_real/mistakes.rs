//! What people get wrong, what they are told, and how soon.

use std::time::Duration;

use kafka_fast::cluster::Cluster;
use kafka_fast::error::ErrorKind;
use kafka_fast_testkit::free_port;

use crate::support::*;

/// Of errors that are known at once; a machine under load takes its time for the handshake.
const SOON: Duration = Duration::from_secs(4);

const TLS: (&str, &str) = ("security.protocol", "SSL");

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plaintext_to_a_tls_port() {
    let broker = broker().await;
    for listener in ["TLS", "SECURE"] {
        let text = refused(&broker.at(listener, &[]), ErrorKind::Unreachable, SOON).await;
        let address = broker.kafka.listener(listener);
        assert_eq!(text, format!("{address} speaks TLS. Set security.protocol=SSL or SASL_SSL"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_to_a_plaintext_port() {
    let broker = broker().await;
    // It closes the connection, as a proxy does whose broker is not there yet: that is waited for.
    let conf = broker.at("PLAINTEXT", &[TLS, broker.trust(), ("metadata-timeout", "1500")]);
    let text = refused(&conf, ErrorKind::Unreachable, SOON).await;
    let address = broker.kafka.address();
    let wanted = format!(
        "{address} does not speak TLS (no ServerHello). Set security.protocol=PLAINTEXT or use the TLS port"
    );
    assert!(text.ends_with(&wanted), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_to_a_port_that_never_answers() {
    let broker = broker().await;
    // The system accepts for it; nobody ever reads.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let conf = broker.config(&address, &[TLS, broker.trust(), ("metadata-timeout", "1500")]);
    let text = refused(&conf, ErrorKind::Unreachable, SOON).await;
    assert!(text.contains(&format!("{address} accepted the connection and said nothing for")), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_a_ca_that_is_not_trusted() {
    let broker = broker().await;
    let address = broker.kafka.listener("TLS");
    let wanted = format!(
        "Certificate of {address} (issuer CN=Our Root) is not trusted. Add its CA by ssl.truststore.location (PEM, \
         PKCS12, JKS)"
    );
    let other = ("ssl.truststore.certificates", &*broker.other_ca);
    assert_eq!(refused(&broker.at("TLS", &[TLS, other]), ErrorKind::Authentication, SOON).await, wanted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_host() {
    let broker = broker().await;
    let conf = broker.at("ELSEWHERE", &[TLS, broker.trust()]);
    let text = refused(&conf, ErrorKind::Authentication, SOON).await;
    assert!(text.contains("does not name 127.0.0.1 but: kafka.example, 10.0.0.1."), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_certificate() {
    let broker = broker().await;
    let conf = broker.at("EXPIRED", &[TLS, broker.trust()]);
    let text = refused(&conf, ErrorKind::Authentication, SOON).await;
    let address = broker.kafka.listener("EXPIRED");
    assert_eq!(
        text,
        format!("Certificate of {address} is expired since 2020-12-31 00:00:00 UTC. Renew it on the broker")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_certificate_is_missing_or_strange() {
    let broker = broker().await;
    for listener in ["MUTUAL", "MUTUAL12"] {
        // Several times: the broker's alert and its closing of the socket race each other.
        for _ in 0..5 {
            let conf = broker.at(listener, &[TLS, broker.trust()]);
            let text = refused(&conf, ErrorKind::Authentication, SOON).await;
            let address = broker.kafka.listener(listener);
            let wanted = format!("{address} demands a client certificate. Set ssl.keystore.location");
            assert!(text.starts_with(&wanted), "{text}");
        }
        let settings = [
            TLS,
            broker.trust(),
            ("ssl.keystore.certificate.chain", &broker.stranger.certificate),
            ("ssl.keystore.key", &broker.stranger.key),
        ];
        let text = refused(&broker.at(listener, &settings), ErrorKind::Authentication, SOON).await;
        assert!(text.contains("refused the client certificate"), "{text}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_and_an_unknown_user() {
    let broker = broker().await;
    for mechanism in ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] {
        for (name, password) in [("app", "wrong-Secret"), ("nobody", "app-Secret")] {
            let sasl = [
                ("security.protocol", "SASL_PLAINTEXT"),
                ("sasl.mechanism", mechanism),
                ("sasl.username", name),
                ("sasl.password", password),
            ];
            let text = refused(&broker.at("USERS", &sasl), ErrorKind::Authentication, SOON).await;
            let address = broker.kafka.listener("USERS");
            let wanted = format!(
                "Broker {address} rejected user \"{name}\" ({mechanism}). Check password and mechanism; broker offers: "
            );
            assert!(text.starts_with(&wanted), "{text}");
            assert!(text.contains("PLAIN") && text.contains("SCRAM-SHA-256"), "{text}");
            assert!(!text.contains(password), "{text}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_told_at_once_also_when_another_broker_is_down() {
    let broker = broker().await;
    let sasl = [
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", USER),
        ("sasl.password", "wrong-Secret"),
    ];
    let addresses = format!("127.0.0.1:{},{}", free_port(), broker.kafka.listener("USERS"));
    let text = refused(&broker.config(&addresses, &sasl), ErrorKind::Authentication, SOON).await;
    assert!(text.contains("rejected user \"app\" (PLAIN)"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mechanism_the_broker_has_not() {
    let broker = broker().await;
    let settings = [&[("security.protocol", "SASL_PLAINTEXT")], &user("PLAIN")[..]].concat();
    let text = refused(&broker.at("ONE", &settings), ErrorKind::Authentication, SOON).await;
    let address = broker.kafka.listener("ONE");
    assert_eq!(
        text,
        format!("Broker {address} does not offer PLAIN. Set sasl.mechanism to one it offers: SCRAM-SHA-512")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn user_and_password_where_nobody_asks_for_them() {
    let broker = broker().await;
    let settings = [&[("security.protocol", "SASL_PLAINTEXT")], &user("SCRAM-SHA-256")[..]].concat();
    let text = refused(&broker.at("PLAINTEXT", &settings), ErrorKind::Authentication, SOON).await;
    assert!(text.contains("does not ask for user and password"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_user_where_one_is_asked_for() {
    let broker = broker().await;
    let conf = broker.at("USERS", &[("metadata-timeout", "2000")]);
    let text = refused(&conf, ErrorKind::Unreachable, SOON).await;
    assert!(text.contains("SASL"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_while_running_is_an_error_of_the_call() {
    let broker = broker().await;
    let sasl = [
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.mechanism", "SCRAM-SHA-256"),
        ("sasl.username", "app"),
        ("sasl.password", "wrong-Secret"),
        ("lazy-connect", "true"),
    ];
    let cluster = Cluster::connect(&broker.at("USERS", &sasl)).await.unwrap();
    let error = cluster.topic("any", Duration::from_secs(2)).await.unwrap_err().to_string();
    assert!(error.contains("rejected user \"app\" (SCRAM-SHA-256)"), "{error}");
    cluster.close();
}
