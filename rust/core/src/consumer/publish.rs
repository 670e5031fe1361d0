//! Tells the group what was seen of partitions' logs, and deals with what it makes of it.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::event::Event;
use super::plan::Seen;
use super::shared::Shared;
use super::stats::Counters;
use crate::cluster::Purpose;
use crate::group::{EpochEnd, Publish, Published};
use crate::wire::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic};
use crate::wire::{ErrorCode, Uuid};

/// Publishes what was seen. A group that stored an older leader epoch asks where that epoch ends in the new leader's
/// log, because what it knows above may be gone (KIP-320); that is answered in a second round. What fails is put back
/// among what is unsaid, and goes with the next publication.
pub(super) async fn publish(shared: &Arc<Shared>, seen: &[Seen]) {
    let facts: Vec<_> = seen.iter().map(|seen| fact(shared, seen, None)).collect();
    let results = match shared.coordinator.publish(&facts).await {
        Ok(results) => results,
        Err(error) => {
            tracing::warn!("publishing to the group: {error}");
            return unsaid(shared, seen.iter());
        }
    };
    let mut asked = Vec::new();
    for (seen, result) in seen.iter().zip(results) {
        match result {
            Published::AskEpoch(epoch) => asked.push((seen, epoch)),
            result => learned(shared, seen, result),
        }
    }
    if asked.is_empty() {
        return;
    }
    let ends = epoch_ends(shared, &asked).await;
    let answered = |seen: &Seen| ends.iter().any(|(other, _)| other.tp == seen.tp);
    unsaid(shared, asked.iter().map(|(seen, _)| *seen).filter(|seen| !answered(seen)));
    let again = ends.into_iter().map(|(seen, end)| (seen, fact(shared, seen, Some(end))));
    let (seen, facts): (Vec<_>, Vec<_>) = again.unzip();
    match shared.coordinator.publish(&facts).await {
        Ok(results) => seen.iter().zip(results).for_each(|(seen, result)| learned(shared, seen, result)),
        Err(error) => {
            tracing::warn!("publishing to the group: {error}");
            unsaid(shared, seen.into_iter());
        }
    }
}

/// The group does not know these yet.
fn unsaid<'a>(shared: &Shared, seen: impl Iterator<Item = &'a Seen>) {
    shared.with(|state| state.unsaid.extend(seen.map(|seen| seen.tp.clone())));
}

fn fact(shared: &Shared, seen: &Seen, epoch_end: Option<EpochEnd>) -> Publish {
    let topic_id = shared.cluster.cached_topic(&seen.tp.topic).map_or_else(Uuid::default, |meta| meta.id);
    Publish {
        topic: Arc::clone(&seen.tp.topic),
        partition: seen.tp.partition,
        topic_id,
        leader_epoch: seen.epoch,
        high_watermark: seen.high_watermark,
        log_start: seen.log_start,
        epoch_end,
    }
}

fn learned(shared: &Shared, seen: &Seen, result: Published) {
    let (topic, partition) = (Arc::clone(&seen.tp.topic), seen.tp.partition);
    match result {
        Published::Lost { from, to } => {
            Counters::add(&shared.counters.records_lost, u64::try_from(to - from).unwrap_or(0));
            tracing::warn!(
                topic = &*topic,
                partition,
                from,
                to,
                "deleted by the broker before anybody read them"
            );
            shared.events.push(Event::Lost { topic, partition, start: from, end: to });
        }
        Published::Truncated(end) => {
            tracing::warn!(topic = &*topic, partition, end, "the log was truncated");
            shared.with(|state| state.forget_log(&seen.tp, end));
            shared.events.push(Event::Truncated { topic, partition, end });
        }
        // Somebody knows better, or we met a topic that was created again: metadata tells.
        Published::WrongTopic | Published::Stale => shared.cluster.request_refresh(&topic),
        Published::Done | Published::Unknown | Published::AskEpoch(_) => {}
    }
}

/// Asks the leaders where the epochs the group stored end.
async fn epoch_ends<'a>(shared: &Shared, asked: &[(&'a Seen, i32)]) -> Vec<(&'a Seen, EpochEnd)> {
    let mut by_node: BTreeMap<i32, Vec<(&'a Seen, i32)>> = BTreeMap::new();
    for &(seen, epoch) in asked {
        if let Some(leader) = shared.cluster.leader(&seen.tp.topic, seen.tp.partition) {
            by_node.entry(leader.node).or_default().push((seen, epoch));
        }
    }
    let mut ends = Vec::new();
    for (node, asked) in by_node {
        let mut topics: Vec<OffsetForLeaderTopic> = Vec::new();
        for (seen, epoch) in &asked {
            let partition = OffsetForLeaderPartition {
                partition: seen.tp.partition,
                current_leader_epoch: seen.epoch,
                leader_epoch: *epoch,
            };
            match topics.iter_mut().find(|topic| topic.topic == seen.tp.topic) {
                Some(topic) => topic.partitions.push(partition),
                None => topics.push(OffsetForLeaderTopic {
                    topic: Arc::clone(&seen.tp.topic),
                    partitions: vec![partition],
                }),
            }
        }
        let request = OffsetForLeaderEpochRequest { topics, ..Default::default() };
        let timeout = shared.conf.request_timeout;
        let answer = match shared.cluster.call(node, Purpose::Control, &request, timeout).await {
            Ok(answer) => answer,
            Err(error) => {
                tracing::debug!(node, "asking where leader epochs end: {error}");
                continue;
            }
        };
        for topic in answer.topics {
            for found in topic.partitions {
                let is = |seen: &Seen| seen.tp.topic == topic.topic && seen.tp.partition == found.partition;
                let Some((seen, epoch)) = asked.iter().find(|(seen, _)| is(seen)) else { continue };
                if ErrorCode(found.error_code) == ErrorCode::NONE {
                    // -1: the leader has no record of that epoch or an older one; what was there is gone.
                    let end = found.end_offset.max(seen.log_start).max(0);
                    ends.push((*seen, EpochEnd { epoch: *epoch, end }));
                }
            }
        }
    }
    ends
}
