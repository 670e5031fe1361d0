//! Produce: batches are kept as they come. Sequences are not checked.

use kafka_protocol::messages::produce_response::{PartitionProduceResponse, TopicProduceResponse};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};

use super::serve::{Answer, throttle};
use super::{Api, Shared};

pub(super) fn answer(shared: &Shared, node: i32, request: &ProduceRequest, version: i16) -> Answer {
    let mut state = shared.state();
    let (mut deeds, mut topics) = (Vec::new(), Vec::new());
    for topic in &request.topic_data {
        let name = topic.name.0.to_string();
        let mut partitions = Vec::new();
        for data in &topic.partition_data {
            let deed = state.ask(Api::Produce, node, &name, data.index);
            deeds.push(deed);
            let code = if deed.code == 0 { state.misdirected(node, &name, data.index) } else { deed.code };
            let mut answer = PartitionProduceResponse::default().with_index(data.index).with_error_code(code);
            answer.base_offset = -1;
            if code == 0 {
                let batch = data.records.as_ref().expect("a produce request has records");
                let log = state.topics.get_mut(&name).expect("it has a leader");
                answer.base_offset = log[data.index as usize].append(batch);
            }
            partitions.push(answer);
        }
        let topic = TopicProduceResponse::default().with_name(topic.name.clone());
        topics.push(topic.with_partition_responses(partitions));
    }
    drop(state);
    shared.appended.notify_waiters();
    let response = ProduceResponse::default().with_responses(topics).with_throttle_time_ms(throttle(&deeds));
    Answer::new(&response, version, &deeds)
}
