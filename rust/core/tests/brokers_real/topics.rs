//! Topics: created, found, not there.

use kafka_fast::cluster::TopicError;
use kafka_fast::producer::{Producer, ProducerError};
use kafka_fast::wire::ErrorCode;
use kafka_fast_testkit::{RealKafka, unique};

use crate::support::{WAIT, config, connect, on_every_version};

on_every_version!(topics_are_created_and_unknown_ones_are_named);

async fn topics_are_created_and_unknown_ones_are_named(broker: &RealKafka) {
    let cluster = connect(broker).await;
    assert!(cluster.cluster_id().is_some());
    assert_eq!(cluster.nodes(), [1]);
    let name = unique("created");
    assert_eq!(cluster.topic_if_exists(&name, WAIT).await.unwrap(), None);
    let error = cluster.topic(&name, WAIT).await.unwrap_err();
    let text = format!("Topic \"{name}\" does not exist and auto-creation is off.");
    assert!(error.to_string().starts_with(&text), "{error}");
    let producer = Producer::connect(config(broker, &[])).await.unwrap();
    let refused = producer.topic(&name).await.unwrap_err();
    assert!(matches!(refused, ProducerError::Topic(TopicError::Unknown { .. })), "{refused}");
    producer.close(WAIT).await.unwrap();

    let refused = cluster.create_topic(&name, 1, 3, WAIT).await.unwrap_err();
    let code = ErrorCode::INVALID_REPLICATION_FACTOR;
    assert!(matches!(&refused, TopicError::Refused { code: c, .. } if *c == code), "{refused}");
    // The broker's default of both (KIP-464).
    cluster.create_topic(&name, -1, -1, WAIT).await.unwrap();
    let again = cluster.create_topic(&name, 3, 1, WAIT).await.unwrap_err();
    assert!(matches!(again, TopicError::Exists { .. }), "{again}");
    let meta = cluster.topic(&name, WAIT).await.unwrap();
    assert_eq!((meta.partitions.len(), meta.has_all_leaders()), (1, true));
    assert_eq!(!meta.id.is_zero(), broker.version().has_topic_ids());
    cluster.close();
}
