//! Tells the group what was seen of partitions' logs, and deals with what it makes of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;

use super::event::Event;
use super::plan::Seen;
use super::shared::Shared;
use super::state::Tp;
use super::stats::Counters;
use crate::cluster::Purpose;
use crate::group::{EpochEnd, GroupError, Publish, Published};
use crate::log_rate;
use crate::wire::ErrorCode;
use crate::wire::messages::{OffsetForLeaderEpochRequest, OffsetForLeaderPartition, OffsetForLeaderTopic};

/// Something seen, and the epoch that the group stored before: where does that end?
type Unclear = (Seen, i32);

/// Publishes what was seen. A group that stored an older leader epoch asks where that epoch ends in the new leader's
/// log, because what it knows above may be gone (KIP-320); that is answered in a second round. What fails is put back
/// among what is unsaid, and goes with the next publication.
pub(super) async fn publish(shared: &Arc<Shared>, seen: &[Seen]) {
    let unclear = tell(shared, seen).await;
    if !unclear.is_empty() {
        clear_up(shared, unclear).await;
    }
}

/// The first round, which is the group's alone: what it asks is answered by [`clear_up`].
pub(super) async fn tell(shared: &Shared, seen: &[Seen]) -> Vec<Unclear> {
    let facts: Vec<_> = seen.iter().map(|seen| fact(seen, None)).collect();
    let results = match shared.coordinator.publish(&facts).await {
        Ok(results) => results,
        Err(error) => {
            log_failed(shared, &error);
            unsaid(shared, seen.iter());
            return Vec::new();
        }
    };
    let mut unclear = Vec::new();
    for (seen, result) in seen.iter().zip(results) {
        match result {
            Published::AskEpoch(epoch) => unclear.push((seen.clone(), epoch)),
            result => learned(shared, seen, result),
        }
    }
    unclear
}

/// The second round. It waits for leaders, each as long as a request may take.
pub(super) async fn clear_up(shared: &Shared, unclear: Vec<Unclear>) {
    let questions: Vec<Asked> = unclear
        .iter()
        .map(|(seen, epoch)| Asked { tp: seen.tp.clone(), current: seen.epoch, epoch: *epoch })
        .collect();
    let found = epoch_ends(shared, &questions, shared.conf.request_timeout).await;
    let end_of = |seen: &Seen| found.ends.iter().find(|(question, _)| question.tp == seen.tp);
    let (ends, unanswered): (Vec<_>, Vec<_>) =
        unclear.iter().map(|(seen, _)| (seen, end_of(seen))).partition(|(_, end)| end.is_some());
    unsaid(shared, unanswered.into_iter().map(|(seen, _)| seen));
    let ends = ends.into_iter().filter_map(|(seen, end)| {
        let (question, end) = end?;
        // What retention deleted was not cut.
        Some((seen, EpochEnd { epoch: question.epoch, end: (*end).max(seen.log_start) }))
    });
    let again = ends.map(|(seen, end)| (seen, fact(seen, Some(end))));
    let (seen, facts): (Vec<_>, Vec<_>) = again.unzip();
    match shared.coordinator.publish(&facts).await {
        Ok(results) => seen.iter().zip(results).for_each(|(seen, result)| learned(shared, seen, result)),
        Err(error) => {
            log_failed(shared, &error);
            unsaid(shared, seen.into_iter());
        }
    }
}

fn log_failed(shared: &Shared, error: &GroupError) {
    let group = shared.group();
    if let Some(more) = log_rate::due(format_args!("publish {group} {error}")) {
        tracing::warn!(
            "publishing to group \"{group}\": {error}. It is told again with what is seen next{more}"
        );
    }
}

/// The group does not know these yet.
pub(super) fn unsaid<'a>(shared: &Shared, seen: impl Iterator<Item = &'a Seen>) {
    shared.with(|state| state.unsaid.extend(seen.map(|seen| seen.tp.clone())));
}

fn fact(seen: &Seen, epoch_end: Option<EpochEnd>) -> Publish {
    // Of the topic that was seen, which may be gone by now: the group is not to take its end for the new one's.
    Publish {
        topic: Arc::clone(&seen.tp.topic),
        partition: seen.tp.partition,
        topic_id: seen.topic_id,
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
            // A topic whose retention is faster than its readers loses records again and again; each loss has its event.
            if let Some(more) = log_rate::due(format_args!("lost {} {topic}/{partition}", shared.group())) {
                tracing::warn!(
                    topic = &*topic,
                    partition,
                    from,
                    to,
                    "deleted by the broker before anybody read them{more}"
                );
            }
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

/// Where does an epoch end in the log of today?
pub(super) struct Asked {
    pub(super) tp: Tp,
    /// The leader's epoch.
    pub(super) current: i32,
    /// The epoch asked about.
    pub(super) epoch: i32,
}

/// What leaders say of [`Asked`].
pub(super) struct EpochEnds<'a> {
    /// Where epochs end.
    pub(super) ends: Vec<(&'a Asked, i64)>,
    /// What nobody has said anything about: its leader did not answer, or there is none. (What a leader refuses to say is in
    /// neither.)
    pub(super) silent: Vec<&'a Asked>,
}

/// Asks the leaders, each once and all at the same time, within `timeout`.
pub(super) async fn epoch_ends<'a>(shared: &Shared, asked: &'a [Asked], timeout: Duration) -> EpochEnds<'a> {
    let mut by_node: BTreeMap<i32, Vec<&Asked>> = BTreeMap::new();
    let mut found = EpochEnds { ends: Vec::new(), silent: Vec::new() };
    for question in asked {
        match shared.cluster.leader(&question.tp.topic, question.tp.partition) {
            Some(leader) => by_node.entry(leader.node).or_default().push(question),
            None => found.silent.push(question),
        }
    }
    let mut calls = JoinSet::new();
    for (node, asked) in &by_node {
        let (node, request, cluster) = (*node, epoch_request(asked), shared.cluster.clone());
        let within = shared.conf.request_timeout;
        calls.spawn(async move {
            let called = cluster.call(node, Purpose::Control, &request, within);
            // Our time may be shorter than what makes a broker count as dead.
            (node, tokio::time::timeout(timeout, called).await)
        });
    }
    while let Some(Ok((node, answer))) = calls.join_next().await {
        let answer = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                tracing::debug!(node, "asking where leader epochs end: {error}");
                continue;
            }
            Err(_) => {
                tracing::debug!(node, "asking where leader epochs end: no answer within {timeout:?}");
                continue;
            }
        };
        let Some(asked) = by_node.remove(&node) else { continue };
        for topic in answer.topics {
            for ended in topic.partitions {
                let is = |tp: &Tp| tp.topic == topic.topic && tp.partition == ended.partition;
                let Some(question) = asked.iter().find(|question| is(&question.tp)) else { continue };
                if ErrorCode(ended.error_code) == ErrorCode::NONE {
                    // -1: the leader has no record of that epoch or an older one; what was there is gone.
                    found.ends.push((*question, ended.end_offset.max(0)));
                }
            }
        }
    }
    found.silent.extend(by_node.into_values().flatten());
    found
}

fn epoch_request(asked: &[&Asked]) -> OffsetForLeaderEpochRequest {
    let mut topics: Vec<OffsetForLeaderTopic> = Vec::new();
    for question in asked {
        let partition = OffsetForLeaderPartition {
            partition: question.tp.partition,
            current_leader_epoch: question.current,
            leader_epoch: question.epoch,
        };
        match topics.iter_mut().find(|topic| topic.topic == question.tp.topic) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(OffsetForLeaderTopic {
                topic: Arc::clone(&question.tp.topic),
                partitions: vec![partition],
            }),
        }
    }
    OffsetForLeaderEpochRequest { topics, ..Default::default() }
}
