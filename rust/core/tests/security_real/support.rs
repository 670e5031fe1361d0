//! One broker with all listeners, and what every client must be able to do through each of them.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use kafka_fast::cluster::Cluster;
use kafka_fast::config::Config;
use kafka_fast::consumer::{Consumer, GroupConf};
use kafka_fast::error::ErrorKind;
use kafka_fast::producer::Producer;
use kafka_fast::wire::Record;
use kafka_fast_testkit::{Authority, Identity, Options, RealKafka, free_port, unique};

pub(crate) const WAIT: Duration = Duration::from_secs(30);
pub(crate) const USER: &str = "app";
pub(crate) const PASSWORD: &str = "app-Secret=1,x";

/// Settings, by name.
pub(crate) type Settings<'a> = &'a [(&'a str, &'a str)];

pub(crate) struct Broker {
    pub(crate) kafka: RealKafka,
    /// Who signed the broker's certificates.
    pub(crate) ca: String,
    /// Somebody else.
    pub(crate) other_ca: String,
    pub(crate) client: Identity,
    /// A client of the other CA.
    pub(crate) stranger: Identity,
    /// Where clients of the listeners PROXIED and SESSION are told to come.
    pub(crate) proxied: u16,
    pub(crate) session: u16,
}

fn pairs(settings: Settings<'_>) -> Vec<(String, String)> {
    settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn start() -> Broker {
    let (ca, other) = (Authority::new("Our Root"), Authority::new("Other Root"));
    let names = ["localhost", "127.0.0.1"];
    let tls = ca.server(&names).properties();
    let demands = pairs(&[
        ("ssl.client.auth", "required"),
        ("ssl.truststore.type", "PEM"),
        ("ssl.truststore.certificates", &ca.certificate),
    ]);
    let plain = format!(
        "org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";"
    );
    let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;";
    let sasl = pairs(&[
        ("sasl.enabled.mechanisms", "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512"),
        ("plain.sasl.jaas.config", &plain),
        ("scram-sha-256.sasl.jaas.config", scram),
        ("scram-sha-512.sasl.jaas.config", scram),
    ]);
    let only_scram =
        pairs(&[("sasl.enabled.mechanisms", "SCRAM-SHA-512"), ("scram-sha-512.sasl.jaas.config", scram)]);
    let short = pairs(&[("connections.max.reauth.ms", "3000")]);
    let with = |more: &[(String, String)]| [&tls, more].concat();
    let (proxied, session) = (free_port(), free_port());
    let options = Options::new()
        .listener("TLS", "SSL", &tls)
        .listener("MUTUAL", "SSL", &with(&demands))
        .listener(
            "MUTUAL12",
            "SSL",
            &with(&[&demands[..], &pairs(&[("ssl.enabled.protocols", "TLSv1.2")])].concat()),
        )
        .listener("ASKING", "SSL", &with(&pairs(&[("ssl.client.auth", "requested")])))
        .listener("EXPIRED", "SSL", &ca.expired_server(&names).properties())
        .listener("ELSEWHERE", "SSL", &ca.server(&["kafka.example", "10.0.0.1"]).properties())
        .listener("USERS", "SASL_PLAINTEXT", &sasl)
        .listener("ONE", "SASL_PLAINTEXT", &only_scram)
        .listener("SECURE", "SASL_SSL", &with(&sasl))
        .listener("PROXIED", "SASL_SSL", &with(&sasl))
        .advertise_listener(proxied)
        .listener("SESSION", "SASL_SSL", &with(&[&sasl[..], &short].concat()))
        .advertise_listener(session)
        .scram_user("SCRAM-SHA-256", USER, "app-Secret")
        .scram_user("SCRAM-SHA-512", USER, "app-Secret");
    let client = ca.client("client");
    let stranger = other.client("stranger");
    let kafka = RealKafka::start(&options);
    Broker { kafka, ca: ca.certificate, other_ca: other.certificate, client, stranger, proxied, session }
}

/// The broker of all tests here; it ends with the process.
pub(crate) async fn broker() -> &'static Broker {
    static BROKER: OnceLock<Broker> = OnceLock::new();
    tokio::task::spawn_blocking(|| BROKER.get_or_init(start)).await.expect("a broker")
}

impl Broker {
    pub(crate) fn config(&self, address: &str, settings: Settings<'_>) -> Config {
        let mut conf = Config::with_bootstrap(address).unwrap();
        conf.use_earliest = true;
        for (name, value) in settings {
            conf.set(name, value).unwrap();
        }
        conf
    }

    /// For a listener, by its name.
    pub(crate) fn at(&self, listener: &str, settings: Settings<'_>) -> Config {
        let address =
            if listener == "PLAINTEXT" { self.kafka.address() } else { self.kafka.listener(listener) };
        self.config(&address, settings)
    }

    pub(crate) fn trust(&self) -> (&str, &str) {
        ("ssl.truststore.certificates", &self.ca)
    }
}

/// User and password in the form of a mechanism.
pub(crate) fn user(mechanism: &'static str) -> [(&'static str, &'static str); 3] {
    let password = if mechanism == "PLAIN" { PASSWORD } else { "app-Secret" };
    [("sasl.mechanism", mechanism), ("sasl.username", USER), ("sasl.password", password)]
}

pub(crate) async fn new_topic(conf: &Config) -> String {
    let topic = unique("secure");
    let cluster = Cluster::connect(conf).await.unwrap_or_else(|e| panic!("{e}"));
    cluster.create_topic(&topic, 1, 1, WAIT).await.unwrap();
    cluster.topic(&topic, WAIT).await.unwrap();
    cluster.close();
    topic
}

/// The next `count` numbers of a topic from its start: each once and in order.
pub(crate) async fn read_numbers(conf: &Config, topic: &str, count: u64) {
    let consumer =
        Consumer::connect(conf.clone(), GroupConf::embedded(unique("group")), &[topic]).await.unwrap();
    let mut reader = consumer.reader();
    for number in 0..count {
        let message = tokio::time::timeout(WAIT, reader.next()).await;
        let message =
            message.unwrap_or_else(|_| panic!("{number} of {count} did not come")).unwrap().unwrap();
        let value = message.value.unwrap();
        assert_eq!(u64::from_be_bytes(value[..8].try_into().unwrap()), number);
    }
    // A reader that may ask for more would be waited for.
    drop(reader);
    consumer.close(WAIT).await.unwrap();
}

/// A producer and a consumer do their work: many small records, and some larger than any buffer on the way.
pub(crate) async fn works(conf: Config) {
    const SMALL: u64 = 5000;
    const LARGE: u64 = 40;
    let topic = new_topic(&conf).await;
    let producer = Producer::connect(conf.clone()).await.unwrap();
    for number in 0..SMALL + LARGE {
        let mut value = vec![b'.'; if number < SMALL { 100 } else { 400_000 }];
        value[..8].copy_from_slice(&number.to_be_bytes());
        drop(producer.send(&topic, Record::value(&value)).await.unwrap());
    }
    producer.flush().await.unwrap();
    assert_eq!(producer.stats().records_failed, 0);
    producer.close(WAIT).await.unwrap();
    read_numbers(&conf, &topic, SMALL + LARGE).await;
}

/// What is said when one cannot connect, within `within`.
pub(crate) async fn refused(conf: &Config, kind: ErrorKind, within: Duration) -> String {
    let begin = Instant::now();
    let error = Cluster::connect(conf).await.expect_err("it is refused");
    assert!(begin.elapsed() < within, "{error} after {:?}", begin.elapsed());
    assert_eq!(error.kind(), kind, "{error}");
    error.to_string()
}
