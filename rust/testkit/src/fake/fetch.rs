//! Fetch: the batches of logs, without sessions. A request that finds nothing waits until something comes, or its time is over;
//! what it said about error codes it has said then.

use std::pin::pin;
use std::time::Duration;

use bytes::BytesMut;
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse};
use tokio::time::{Instant, sleep_until};

use super::serve::{Answer, throttle};
use super::{About, Call, Deed, Shared, code};

pub(super) async fn answer(shared: &Shared, call: Call, request: &FetchRequest) -> Answer {
    let deeds: Vec<Deed> = {
        let mut state = shared.state();
        let mut deeds = vec![state.ask(call, About::WHOLE)];
        if deeds[0].code != 0 {
            let response = FetchResponse::default().with_error_code(deeds[0].code);
            return Answer::new(&response, call, &deeds);
        }
        for topic in &request.topics {
            for asked in &topic.partitions {
                let about = About::partition(&topic.topic.0, asked.partition);
                deeds.push(state.ask(call, About { offset: asked.fetch_offset, ..about }));
            }
        }
        deeds
    };
    let until = Instant::now() + Duration::from_millis(request.max_wait_ms.max(0) as u64);
    let mut over = pin!(sleep_until(until));
    loop {
        let appended = shared.appended.notified();
        let (mut response, is_worth_it) = look(shared, call.node, request, &deeds[1..]);
        if is_worth_it || over.is_elapsed() {
            response.throttle_time_ms = throttle(&deeds);
            return Answer::new(&response, call, &deeds);
        }
        tokio::select! {
            () = appended => {}
            () = &mut over => {}
        }
    }
}

/// What there is now, and whether it is worth an answer: records, or an error.
fn look(shared: &Shared, node: i32, request: &FetchRequest, deeds: &[Deed]) -> (FetchResponse, bool) {
    let state = shared.state();
    let (mut topics, mut is_worth_it) = (Vec::new(), false);
    let mut deeds_left = deeds.iter();
    for topic in &request.topics {
        let mut partitions = Vec::new();
        for asked in &topic.partitions {
            let deed = deeds_left.next().expect("there is one for each partition");
            let code = code(*deed, state.misdirected(node, &topic.topic.0, asked.partition));
            let mut data =
                PartitionData::default().with_partition_index(asked.partition).with_error_code(code);
            data.high_watermark = -1;
            data.records = Some(BytesMut::new().freeze());
            if let Some(partition) = state.partition(&topic.topic.0, asked.partition).filter(|_| code == 0) {
                let most = usize::try_from(asked.partition_max_bytes).unwrap_or(0);
                let mut records = BytesMut::new();
                for batch in partition.log.iter().filter(|batch| batch.end() > asked.fetch_offset) {
                    // The first one comes however large it is.
                    if !records.is_empty() && records.len() + batch.bytes.len() > most {
                        break;
                    }
                    records.extend_from_slice(&batch.bytes);
                }
                (data.high_watermark, data.log_start_offset) = (partition.end(), 0);
                data.last_stable_offset = partition.end();
                data.records = Some(records.freeze());
            }
            is_worth_it |= code != 0 || data.records.as_ref().is_some_and(|records| !records.is_empty());
            partitions.push(data);
        }
        let topic = FetchableTopicResponse::default().with_topic(topic.topic.clone());
        topics.push(topic.with_partitions(partitions));
    }
    (FetchResponse::default().with_responses(topics), is_worth_it || deeds.is_empty())
}
