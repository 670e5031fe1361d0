//! Metadata: the brokers, and topics with their leaders. A topic is not made by being asked for.

use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{MetadataRequest, MetadataResponse};

use super::serve::{Answer, throttle};
use super::{Api, Partition, Shared, broker_id, text, topic_name};

const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;

pub(super) fn answer(shared: &Shared, node: i32, request: MetadataRequest, version: i16) -> Answer {
    let mut state = shared.state();
    let names: Vec<String> = match request.topics {
        None => state.topics.keys().cloned().collect(),
        Some(topics) => topics.into_iter().filter_map(|t| t.name).map(|name| name.0.to_string()).collect(),
    };
    let mut deeds = Vec::new();
    if names.is_empty() {
        deeds.push(state.ask(Api::Metadata, node, "", -1));
    }
    let mut topics = Vec::new();
    for name in names {
        let deed = state.ask(Api::Metadata, node, &name, -1);
        deeds.push(deed);
        let mut topic = MetadataResponseTopic::default().with_name(Some(topic_name(&name)));
        match state.topics.get(&name) {
            _ if deed.code != 0 => topic.error_code = deed.code,
            None => topic.error_code = UNKNOWN_TOPIC_OR_PARTITION,
            Some(partitions) => topic.partitions = partitions.iter().enumerate().map(partition).collect(),
        }
        topics.push(topic);
    }
    let broker = |(i, port): (usize, &u16)| {
        MetadataResponseBroker::default()
            .with_node_id(broker_id(i as i32 + 1))
            .with_host(text("127.0.0.1"))
            .with_port((*port).into())
    };
    let response = MetadataResponse::default()
        .with_brokers(state.ports.iter().enumerate().map(broker).collect())
        .with_cluster_id(Some(text(&format!("fake-{}", state.ports[0]))))
        .with_controller_id(broker_id(1))
        .with_throttle_time_ms(throttle(&deeds))
        .with_topics(topics);
    Answer::new(&response, version, &deeds)
}

fn partition((i, partition): (usize, &Partition)) -> MetadataResponsePartition {
    let leader = broker_id(partition.leader);
    MetadataResponsePartition::default()
        .with_partition_index(i as i32)
        .with_leader_id(leader)
        .with_leader_epoch(partition.epoch)
        .with_replica_nodes(vec![leader])
        .with_isr_nodes(vec![leader])
}
