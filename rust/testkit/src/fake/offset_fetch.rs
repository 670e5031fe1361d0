//! OffsetFetch: what was committed, -1 where nothing was. All topics of a group at once are not asked for.

use kafka_protocol::messages::offset_fetch_response::{
    OffsetFetchResponsePartition, OffsetFetchResponseTopic,
};
use kafka_protocol::messages::{OffsetFetchRequest, OffsetFetchResponse};

use super::serve::{Answer, throttle};
use super::{About, Call, NOT_COORDINATOR, Shared, code, text};

pub(super) fn answer(shared: &Shared, call: Call, request: &OffsetFetchRequest) -> Answer {
    let mut state = shared.state();
    let group = request.group_id.0.to_string();
    let mut deeds = vec![state.ask(call, About::group(&group))];
    let misdirected = if state.coordinator(&group) == call.node { 0 } else { NOT_COORDINATOR };
    let whole = code(deeds[0], misdirected);
    let mut topics = Vec::new();
    for topic in request.topics.iter().flatten().filter(|_| whole == 0) {
        let name = topic.name.0.to_string();
        let mut partitions = Vec::new();
        for index in &topic.partition_indexes {
            let deed = state.ask(call, About { group: &group, ..About::partition(&name, *index) });
            deeds.push(deed);
            let mut answer = OffsetFetchResponsePartition::default()
                .with_partition_index(*index)
                .with_error_code(deed.code)
                .with_committed_offset(-1)
                .with_metadata(Some(text("")));
            let place = (group.clone(), name.clone(), *index);
            if let Some(committed) = state.committed.get(&place).filter(|_| deed.code == 0) {
                (answer.committed_offset, answer.committed_leader_epoch) =
                    (committed.offset, committed.epoch);
                answer.metadata = Some(text(&committed.metadata));
            }
            partitions.push(answer);
        }
        let topic = OffsetFetchResponseTopic::default().with_name(topic.name.clone());
        topics.push(topic.with_partitions(partitions));
    }
    let response = OffsetFetchResponse::default()
        .with_error_code(whole)
        .with_topics(topics)
        .with_throttle_time_ms(throttle(&deeds));
    Answer::new(&response, call, &deeds)
}
