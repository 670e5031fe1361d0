//! OffsetCommit: offsets of groups without members are kept. What concerns the group is said at every partition.

use kafka_protocol::messages::offset_commit_response::{
    OffsetCommitResponsePartition, OffsetCommitResponseTopic,
};
use kafka_protocol::messages::{OffsetCommitRequest, OffsetCommitResponse};

use super::serve::{Answer, throttle};
use super::{About, Call, Committed, NOT_COORDINATOR, Shared, UNKNOWN_TOPIC_OR_PARTITION, code};

pub(super) fn answer(shared: &Shared, call: Call, request: &OffsetCommitRequest) -> Answer {
    let mut state = shared.state();
    let group = request.group_id.0.to_string();
    let is_coordinator = state.coordinator(&group) == call.node;
    let (mut deeds, mut topics) = (Vec::new(), Vec::new());
    for topic in &request.topics {
        let name = topic.name.0.to_string();
        let mut partitions = Vec::new();
        for asked in &topic.partitions {
            let index = asked.partition_index;
            let deed = state.ask(call, About { group: &group, ..About::partition(&name, index) });
            deeds.push(deed);
            let code = code(
                deed,
                match state.partition(&name, index) {
                    _ if !is_coordinator => NOT_COORDINATOR,
                    None => UNKNOWN_TOPIC_OR_PARTITION,
                    Some(_) => 0,
                },
            );
            if code == 0 {
                let committed = Committed {
                    offset: asked.committed_offset,
                    epoch: asked.committed_leader_epoch,
                    metadata: asked.committed_metadata.as_ref().map_or_else(String::new, ToString::to_string),
                };
                state.committed.insert((group.clone(), name.clone(), index), committed);
            }
            let answer = OffsetCommitResponsePartition::default().with_partition_index(index);
            partitions.push(answer.with_error_code(code));
        }
        let topic = OffsetCommitResponseTopic::default().with_name(topic.name.clone());
        topics.push(topic.with_partitions(partitions));
    }
    let response =
        OffsetCommitResponse::default().with_topics(topics).with_throttle_time_ms(throttle(&deeds));
    Answer::new(&response, call, &deeds)
}
