//! Fetches the units' batches: one task that plans, one short task per request under way.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::task::JoinSet;

use super::aborted::Aborted;
use super::budget::Charge;
use super::ends::{self, Ends};
use super::event::Event;
use super::piece::Piece;
use super::plan::{NodeFetch, Seen, Want};
use super::publish::publish;
use super::shared::{Alarm, Shared};
use super::state::Tp;
use super::stats::Counters;
use crate::cluster::{Isolation, Leader, Purpose};
use crate::log_rate;
use crate::net::CallError;
use crate::wire::messages::{FetchPartition, FetchRequest, FetchResponse, FetchTopic, PartitionData};
use crate::wire::records::{Batch, Batches};
use crate::wire::{ErrorCode, Operation, Treatment, Uuid};

/// What a broker may wait with the answer to a unit's fetch. The records are there, so it does not, unless its high
/// watermark is behind (it has just become leader).
const UNIT_WAIT: Duration = Duration::from_millis(500);

/// Fetches until the consumer is over.
pub(super) async fn run(shared: Arc<Shared>) {
    let _alarm = Alarm::new(&shared);
    // Dropped at the end: requests under way are given up.
    let mut requests = JoinSet::new();
    loop {
        let now = Instant::now();
        let plan = shared.with(|state| {
            state.plan(&shared.budget, now, |tp| {
                let meta = shared.cluster.cached_topic(&tp.topic)?;
                let leader = meta.partition(tp.partition)?.leader?;
                Some((leader.node, leader.epoch, meta.id))
            })
        });
        for tp in &plan.leaderless {
            shared.cluster.request_refresh(&tp.topic);
        }
        for fetch in plan.fetches {
            // Before the next plan looks how much room there is.
            let charge = shared.budget.take(fetch.wants.iter().map(|want| want.bytes).sum());
            requests.spawn(one(Arc::clone(&shared), fetch, charge));
        }
        while requests.try_join_next().is_some() {}
        let again = async {
            match plan.again {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = shared.fetch_kick.notified() => {}
            () = again => {}
            () = shared.until_over() => return,
        }
    }
}

/// One request and its answer.
async fn one(shared: Arc<Shared>, fetch: NodeFetch, charge: Charge) {
    let _alarm = Alarm::new(&shared);
    let node = fetch.node;
    let answer = call(&shared, node, &fetch.wants).await;
    let now = Instant::now();
    match answer {
        Ok(answer) => {
            Counters::add(&shared.counters.fetches, 1);
            if fetch.wants.iter().any(|want| want.replica) {
                Counters::add(&shared.counters.fetches_near, 1);
            }
            let pause = answer.throttle_time_ms;
            if says_nothing(&answer) {
                // They stay in flight meanwhile: nobody is to ask in between.
                throttle(pause).await;
                shared.with(|state| fetch.wants.iter().for_each(|want| state.nothing_said(want)));
                return shared.with(|state| state.fetch_over(node));
            }
            let mut parts = sort_answer(&shared, &fetch.wants, answer, charge);
            // One whose leader is asked where its log begins and ends keeps nobody waiting.
            parts.sort_by_key(|part| part.error.treatment(Operation::Fetch) == Treatment::Reset);
            for part in parts {
                take(&shared, part).await;
            }
            throttle(pause).await;
        }
        Err(error) => {
            tracing::debug!(node, "fetch failed: {error}");
            refresh_all(&shared, &fetch.wants);
            shared.with(|state| fetch.wants.iter().for_each(|want| state.fetch_failed(want, now)));
        }
    }
    shared.with(|state| state.fetch_over(node));
}

/// What an answer says of one partition.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) want: Want,
    pub(super) error: ErrorCode,
    pub(super) pieces: Vec<Arc<Piece>>,
    /// Where reading ends for now: the last stable offset where only committed records are read.
    pub(super) high_watermark: i64,
    pub(super) log_start: i64,
    /// Why the batch at the wanted position cannot be read, and where it ends, if that is known.
    pub(super) broken: Option<(String, Option<i64>)>,
    /// The replica that should be asked instead.
    pub(super) replica: Option<i32>,
    /// The answer named a leader that was not known (KIP-951).
    pub(super) moved: bool,
}

/// Sends a unit's fetch of `wants`.
async fn call(shared: &Shared, node: i32, wants: &[Want]) -> Result<FetchResponse, CallError> {
    let mut request = request(shared, wants, UNIT_WAIT, 1);
    // The rack is one for all partitions of a request.
    if wants.iter().all(|want| want.near) {
        request.rack_id = shared.conf.client_rack.as_str().into();
    }
    shared.cluster.call(node, Purpose::Fetch, &request, timeout(shared, UNIT_WAIT)).await
}

/// How long a fetch may take for which a broker may gather data for `max_wait`.
pub(super) fn timeout(shared: &Shared, max_wait: Duration) -> Duration {
    shared.conf.fetch_timeout.max(max_wait + Duration::from_secs(1))
}

/// Whether a broker has looked at nothing because we are over our quota: it answers at once, without a partition and without an error
/// (KIP-219). What was asked for is neither there nor not there.
pub(super) fn says_nothing(answer: &FetchResponse) -> bool {
    answer.throttle_time_ms > 0
        && answer.responses.is_empty()
        && ErrorCode(answer.error_code) == ErrorCode::NONE
}

/// A broker that throttles us has answered and now keeps quiet: asking sooner only waits in its queue (KIP-219).
pub(super) async fn throttle(millis: i32) {
    if let Ok(millis @ 1..) = u64::try_from(millis) {
        tokio::time::sleep(Duration::from_millis(millis).min(Duration::from_secs(30))).await;
    }
}

/// A fetch of `wants`, without a session.
pub(super) fn request(shared: &Shared, wants: &[Want], max_wait: Duration, min_bytes: i32) -> FetchRequest {
    let mut topics: Vec<FetchTopic> = Vec::new();
    for want in wants {
        let partition = FetchPartition {
            partition: want.tp.partition,
            current_leader_epoch: want.epoch,
            fetch_offset: want.position,
            partition_max_bytes: i32::try_from(want.bytes).unwrap_or(i32::MAX).min(shared.conf.max_bytes),
            ..Default::default()
        };
        // What is of one topic mostly stands together.
        match topics.iter_mut().rev().find(|topic| *topic.topic == *want.tp.topic) {
            Some(topic) => topic.partitions.push(partition),
            None => topics.push(FetchTopic {
                topic: Arc::clone(&want.tp.topic),
                topic_id: want.topic_id,
                partitions: vec![partition],
            }),
        }
    }
    FetchRequest {
        max_wait_ms: i32::try_from(max_wait.as_millis()).unwrap_or(i32::MAX),
        min_bytes,
        max_bytes: shared.conf.max_bytes,
        isolation_level: shared.conf.isolation.wire(),
        topics,
        ..Default::default()
    }
}

/// Sorts an answer by the partitions asked for; one that the broker left out counts as failed. `charge` becomes what
/// the answer really holds and lives as long as any of its batches.
pub(super) fn sort_answer(
    shared: &Shared,
    wants: &[Want],
    answer: FetchResponse,
    mut charge: Charge,
) -> Vec<Part> {
    let whole = ErrorCode(answer.error_code);
    let ids: HashMap<Uuid, Arc<str>> =
        wants.iter().map(|want| (want.topic_id, Arc::clone(&want.tp.topic))).collect();
    let mut found: HashMap<Tp, PartitionData> = HashMap::new();
    for topic in answer.responses {
        // From version 13 on a topic has an id and no name.
        let name = if topic.topic.is_empty() {
            ids.get(&topic.topic_id).cloned()
        } else {
            wants.iter().map(|want| &want.tp.topic).find(|name| ***name == *topic.topic).cloned()
        };
        let Some(name) = name else { continue };
        for data in topic.partitions {
            found.insert(Tp { topic: Arc::clone(&name), partition: data.partition_index }, data);
        }
    }
    let bytes = found.values().filter_map(|data| data.records.as_ref()).map(Bytes::len).sum();
    charge.set(bytes);
    Counters::add(&shared.counters.bytes_fetched, bytes as u64);
    let charge = Arc::new(charge);
    let part = |(at, want): (usize, &Want)| match found.remove(&want.tp) {
        Some(data) if whole == ErrorCode::NONE => {
            let leader =
                Leader { node: data.current_leader.leader_id, epoch: data.current_leader.leader_epoch };
            let moved =
                leader.node >= 0 && shared.cluster.learn_leader(&want.tp.topic, want.tp.partition, leader);
            Part { moved, ..read(want, at == 0, data, shared.conf.isolation, &charge) }
        }
        _ => Part {
            want: want.clone(),
            error: if whole == ErrorCode::NONE { ErrorCode::UNKNOWN_SERVER_ERROR } else { whole },
            pieces: Vec::new(),
            high_watermark: -1,
            log_start: -1,
            broken: None,
            replica: None,
            moved: false,
        },
    };
    wants.iter().enumerate().map(part).collect()
}

/// What the answer says of a partition, which was the `first` of the request or not.
fn read(want: &Want, first: bool, data: PartitionData, isolation: Isolation, charge: &Arc<Charge>) -> Part {
    let mut broken = None;
    let mut aborted = Aborted::new(data.aborted_transactions);
    let mut batches = Batches::new(data.records.unwrap_or_default());
    // Of the first partition a broker sends at least one batch whole, however large (KIP-74). A length that is wrong would
    // else be asked for without end: no checksum covers it.
    if first && batches.remaining() > 0 && batches.clone().next().is_none() {
        let reason = format!(
            "the batch at offset {} is cut off: its length is wrong, or the broker sent {} bytes and no whole batch",
            want.position,
            batches.remaining()
        );
        broken = Some((reason, batches.claimed_end()));
    }
    let mut pieces = Vec::new();
    // The last one, until it is known where the next begins.
    let mut last: Option<(Batch, bool)> = None;
    while let Some(batch) = batches.next() {
        let end = batch.as_ref().ok().map(Batch::next_offset);
        match batch.and_then(|batch| Ok((aborted.next(&batch)?, batch))) {
            Ok((aborted, batch)) if batch.next_offset() > want.position => {
                let after = batch.base_offset();
                if let Some((batch, aborted)) = last.replace((batch, aborted)) {
                    pieces.push(Piece::new(batch, Some(after), aborted, charge));
                }
            }
            Ok(_) => {}
            Err(error) => {
                // What lies before it is good; the next fetch meets it at its first position.
                broken = last.is_none().then(|| (error.to_string(), end.or(batches.behind_error())));
                break;
            }
        }
    }
    if let Some((batch, aborted)) = last {
        pieces.push(Piece::new(batch, None, aborted, charge));
    }
    Part {
        want: want.clone(),
        error: ErrorCode(data.error_code),
        pieces,
        high_watermark: match isolation {
            Isolation::ReadUncommitted => data.high_watermark,
            Isolation::ReadCommitted => data.last_stable_offset,
        },
        log_start: data.log_start_offset,
        broken,
        replica: (data.preferred_read_replica >= 0).then_some(data.preferred_read_replica),
        moved: false,
    }
}

/// Takes what a unit's fetch says of one partition.
async fn take(shared: &Arc<Shared>, part: Part) {
    let now = Instant::now();
    let want = part.want;
    if shared.with(|state| state.known.is_foreign(&want.tp.topic, want.topic_id)) {
        // The topic was created again since it was asked for: nothing here is about the one that is read now.
        return;
    }
    // A leader that sends us there sends nothing else.
    let replica = part.replica.filter(|_| part.pieces.is_empty() && !want.replica);
    match part.error.treatment(Operation::Fetch) {
        Treatment::Done if let Some(node) = replica => {
            tracing::debug!(
                topic = &*want.tp.topic,
                partition = want.tp.partition,
                node,
                "reads from a replica"
            );
            shared.with(|state| state.sent_to_replica(&want, node, now));
        }
        Treatment::Done => match part.broken {
            Some((reason, end)) => shared.with(|state| state.broken(&want, end, &reason, now)),
            None => {
                if !shared.with(|state| state.fetched(&want, part.pieces, part.high_watermark, now)) {
                    shared.cluster.request_refresh(&want.tp.topic);
                }
            }
        },
        // Whoever leads now was named: no need to ask and wait.
        _ if part.moved => shared.with(|state| state.leader_moved(&want)),
        // A replica that is behind the leader, or has not dropped yet what the leader has: the leader knows.
        Treatment::Reset if want.replica => shared.with(|state| state.fetch_failed(&want, now)),
        Treatment::Reset => out_of_range(shared, &want).await,
        _ => {
            let error = part.error;
            let denied = shared.with(|state| {
                state.fetch_failed(&want, now);
                state.denied(&want.tp, error, now)
            });
            // What is denied is said once a minute.
            if denied || error.refresh_metadata() {
                tracing::debug!(topic = &*want.tp.topic, partition = want.tp.partition, "fetch: {error}");
            } else {
                log(&want.tp, &error);
            }
            // Whatever it is, it may be that we asked the wrong broker; the attempt of the unit does not change.
            shared.cluster.request_refresh(&want.tp.topic);
        }
    }
}

/// A unit's position is outside the log. That never completes a unit: below the start its records are lost, which is
/// said; above the end the log was truncated, or this leader is not as far as the last one was.
async fn out_of_range(shared: &Arc<Shared>, want: &Want) {
    let patience = ends::within(shared.conf.request_timeout);
    let found = ends::ask(shared, std::slice::from_ref(&want.tp), patience).await;
    let now = Instant::now();
    match found.map(|mut found| found.pop()).map_or_else(Err, Option::transpose) {
        Ok(Some(Ends { earliest, latest, log_end })) if earliest >= 0 => {
            shared.with(|state| state.fetch_failed(want, now));
            if want.position < earliest {
                shared.with(|state| state.log_starts(&want.tp, earliest));
            } else if want.position > log_end {
                truncated(shared, want, log_end);
            }
            let seen = Seen {
                tp: want.tp.clone(),
                topic_id: want.topic_id,
                high_watermark: latest,
                log_start: earliest,
                epoch: want.epoch,
            };
            publish(shared, &[seen]).await;
        }
        Ok(_) => shared.with(|state| state.fetch_failed(want, now)),
        Err(error) => {
            log(&want.tp, &error);
            refresh_all(shared, std::slice::from_ref(want));
            shared.with(|state| state.fetch_failed(want, now));
        }
    }
}

/// The log ends below what was there before. The group learns it with the new leader's epoch, cuts its units, and
/// fences ours; until then we ask again, with a growing wait.
fn truncated(shared: &Arc<Shared>, want: &Want, end: i64) {
    let Tp { topic, partition } = want.tp.clone();
    if let Some(more) = log_rate::due(format_args!("truncated {topic}/{partition}")) {
        tracing::warn!(
            topic = &*topic,
            partition,
            end,
            "the log ends below offset {}: truncated?{more}",
            want.position
        );
    }
    shared.cluster.request_refresh(&topic);
    shared.with(|state| {
        if state.forget_log(&want.tp, end) {
            state.effects.events.push(Event::Truncated { topic, partition, end });
        }
    });
}

/// What fails is fetched again, with a growing wait.
fn log(Tp { topic, partition }: &Tp, what: &dyn std::fmt::Display) {
    if let Some(more) = log_rate::due(format_args!("fetch {topic}/{partition} {what}")) {
        tracing::warn!(topic = &**topic, partition, "fetch: {what}{more}");
    }
}

fn refresh_all(shared: &Shared, wants: &[Want]) {
    let mut last: Option<&Arc<str>> = None;
    for want in wants {
        if last.is_none_or(|topic| *topic != want.tp.topic) {
            shared.cluster.request_refresh(&want.tp.topic);
            last = Some(&want.tp.topic);
        }
    }
}
