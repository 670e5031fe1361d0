//! Metadata: the brokers, and topics with their leaders. A topic is not made by being asked for.

use kafka_protocol::messages::metadata_response::{
    MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_protocol::messages::{MetadataRequest, MetadataResponse};

use super::serve::{Answer, throttle};
use super::{About, Call, Partition, Shared, UNKNOWN_TOPIC_OR_PARTITION, broker_id, text, topic_name};

pub(super) fn answer(shared: &Shared, call: Call, request: MetadataRequest) -> Answer {
    let mut state = shared.state();
    let names: Vec<String> = match request.topics {
        None => state.topics.keys().cloned().collect(),
        Some(topics) => topics.into_iter().filter_map(|t| t.name).map(|name| name.0.to_string()).collect(),
    };
    let mut deeds = vec![state.ask(call, About::WHOLE)];
    if deeds[0].code != 0 {
        return Answer::new(&refusal(&names, deeds[0].code), call, &deeds);
    }
    let mut topics = Vec::new();
    for name in names {
        let deed = state.ask(call, About::topic(&name));
        deeds.push(deed);
        let mut topic = MetadataResponseTopic::default().with_name(Some(topic_name(&name)));
        match state.topics.get(&name) {
            _ if deed.code != 0 => topic.error_code = deed.code,
            None => topic.error_code = UNKNOWN_TOPIC_OR_PARTITION,
            Some(known) => {
                // What versions below 10 do not have is not written.
                topic.topic_id = known.id;
                topic.partitions = known.partitions.iter().enumerate().map(partition).collect();
            }
        }
        topics.push(topic);
    }
    let broker = |node: i32| {
        MetadataResponseBroker::default()
            .with_node_id(broker_id(node))
            .with_host(text("127.0.0.1"))
            .with_port(state.ports[node as usize - 1].into())
    };
    let response = MetadataResponse::default()
        .with_brokers(state.named().map(broker).collect())
        .with_cluster_id(Some(text(&state.cluster_id())))
        .with_controller_id(broker_id(state.controller))
        .with_throttle_time_ms(throttle(&deeds))
        .with_topics(topics);
    Answer::new(&response, call, &deeds)
}

/// An answer that is no answer: it names no broker, and says the code of the whole and of each topic.
fn refusal(names: &[String], code: i16) -> MetadataResponse {
    let topic = |name: &String| {
        MetadataResponseTopic::default().with_name(Some(topic_name(name))).with_error_code(code)
    };
    let response = MetadataResponse::default().with_controller_id(broker_id(-1)).with_error_code(code);
    response.with_topics(names.iter().map(topic).collect())
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
