//! ListOffsets: where logs begin (0) and end, and the first batch that is at least so young.

use kafka_protocol::messages::list_offsets_response::{
    ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use kafka_protocol::messages::{ListOffsetsRequest, ListOffsetsResponse};

use super::serve::{Answer, throttle};
use super::{About, Call, Shared, code};

/// Instead of a timestamp: the end of the log.
const LATEST: i64 = -1;

pub(super) fn answer(shared: &Shared, call: Call, request: &ListOffsetsRequest) -> Answer {
    let mut state = shared.state();
    let (mut deeds, mut topics) = (Vec::new(), Vec::new());
    for topic in &request.topics {
        let name = topic.name.0.to_string();
        let mut partitions = Vec::new();
        for asked in &topic.partitions {
            let deed = state.ask(call, About::partition(&name, asked.partition_index));
            deeds.push(deed);
            let code = code(deed, state.misdirected(call.node, &name, asked.partition_index));
            let partition = state.partition(&name, asked.partition_index);
            let end = partition.map_or(0, |p| p.end());
            let mut answer = ListOffsetsPartitionResponse::default()
                .with_partition_index(asked.partition_index)
                .with_error_code(code);
            if code == 0 {
                answer.offset = match asked.timestamp {
                    LATEST => end,
                    // Whole batches: who wants to be told of a record puts it into one alone.
                    0.. => partition.and_then(|p| p.since(asked.timestamp)).unwrap_or(-1),
                    _ => 0,
                };
                answer.leader_epoch = partition.map_or(-1, |p| p.epoch);
            }
            partitions.push(answer);
        }
        let topic = ListOffsetsTopicResponse::default().with_name(topic.name.clone());
        topics.push(topic.with_partitions(partitions));
    }
    let response = ListOffsetsResponse::default().with_topics(topics).with_throttle_time_ms(throttle(&deeds));
    Answer::new(&response, call, &deeds)
}
