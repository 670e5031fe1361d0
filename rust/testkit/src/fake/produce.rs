//! Produce: batches are kept as they come. Sequences are not checked.

use kafka_protocol::messages::produce_response::{
    LeaderIdAndEpoch, PartitionProduceResponse, TopicProduceResponse,
};
use kafka_protocol::messages::{ProduceRequest, ProduceResponse};

use super::serve::{Answer, throttle};
use super::{About, Call, Shared, broker_id, code};

pub(super) fn answer(shared: &Shared, call: Call, request: &ProduceRequest) -> Answer {
    let mut state = shared.state();
    let (mut deeds, mut topics) = (Vec::new(), Vec::new());
    for topic in &request.topic_data {
        let name = state.called(call, &topic.name, topic.topic_id);
        let mut partitions = Vec::new();
        for data in &topic.partition_data {
            let deed = state.ask(call, About::partition(&name, data.index));
            deeds.push(deed);
            let code = code(deed, state.misdirected(call.node, &name, data.index));
            let mut answer = PartitionProduceResponse::default().with_index(data.index).with_error_code(code);
            answer.base_offset = -1;
            if code == 0 {
                let batch = data.records.as_ref().expect("a produce request has records");
                answer.base_offset = state.partition_mut(&name, data.index as usize).append(batch);
            }
            if deed.elects {
                let partition = state.partition_mut(&name, data.index as usize);
                partition.epoch += 1;
                answer.current_leader = LeaderIdAndEpoch::default()
                    .with_leader_id(broker_id(partition.leader))
                    .with_leader_epoch(partition.epoch);
            }
            partitions.push(answer);
        }
        let topic =
            TopicProduceResponse::default().with_name(topic.name.clone()).with_topic_id(topic.topic_id);
        topics.push(topic.with_partition_responses(partitions));
    }
    drop(state);
    shared.appended.notify_waiters();
    let response = ProduceResponse::default().with_responses(topics).with_throttle_time_ms(throttle(&deeds));
    Answer::new(&response, call, &deeds)
}
