//! Finds what is new: records on partitions without backlog, partitions of grown topics, topics that appear.
//!
//! A unit's fetch already tells the high watermark, and the acknowledgement carries it to the group. Only partitions
//! that nobody fetches need a watcher: the group's organiser (one consumer, by a lease) keeps a long-poll fetch open at
//! every leader, on a connection of its own, and publishes what it sees at once. What such a poll brings is kept: the
//! unit that is claimed for it needs no fetch.
//!
//! A poll covers the partitions whose known records are all handed out or here. It cannot be changed while it waits at
//! the broker, so while other partitions of that leader have a backlog (and may run dry any moment) it waits
//! [`BUSY_WAIT`] only.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::AbortHandle;

use super::event::Event;
use super::fetch;
use super::plan::{PIECE_LEAST, Seen, Want};
use super::publish::publish;
use super::shared::Shared;
use super::state::Tp;
use super::stats::Counters;
use crate::cluster::{Isolation, OffsetAt, OffsetQuery, Purpose};
use crate::group::Event as GroupEvent;
use crate::wire::ErrorCode;

/// Longest wait of a poll while some partition of the leader is not in it.
const BUSY_WAIT: Duration = Duration::from_millis(100);
/// How often the list of leaders is looked at again.
const LEADERS_EVERY: Duration = Duration::from_secs(1);
/// What a poll may bring per partition.
const POLL_BYTES: usize = 1 << 20;
/// Wait after a failed poll, doubling with jitter.
const RETRY_FIRST: Duration = Duration::from_millis(50);
const RETRY_MOST: Duration = Duration::from_secs(2);

/// Ends a task when dropped.
struct Poll(AbortHandle);

impl Drop for Poll {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Watches while this consumer is the organiser, until it is over.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut polls: HashMap<i32, Poll> = HashMap::new();
    loop {
        if shared.with(|state| state.talk.is_organiser()) {
            look_at_group(&shared).await;
            let leaders = leaders(&shared);
            polls.retain(|node, poll| leaders.contains(node) && !poll.0.is_finished());
            for node in leaders {
                let start = || Poll(tokio::spawn(poll_leader(Arc::clone(&shared), node)).abort_handle());
                polls.entry(node).or_insert_with(start);
            }
        } else {
            polls.clear();
        }
        tokio::select! {
            () = shared.watch_kick.notified() => {}
            () = tokio::time::sleep(super::jitter(LEADERS_EVERY)) => {}
            () = shared.until_over() => return,
        }
    }
}

/// Where the group is: other consumers take units too, and a partition they have drained needs watching.
async fn look_at_group(shared: &Shared) {
    let topics = shared.with(|state| state.topics());
    match shared.coordinator.partitions(&topics).await {
        Ok(views) => shared.with(|state| views.iter().for_each(|view| state.group_stands(view))),
        Err(error) => tracing::debug!("asking the group where it is: {error}"),
    }
    let events = shared.coordinator.events().await.unwrap_or_default();
    for event in events {
        if let GroupEvent::Parked { unit, from, to } = event {
            tracing::warn!("{unit} failed too often and is put aside: offsets {from} to {to}");
            let (topic, partition) = (unit.topic, unit.partition);
            shared.events.push(Event::Parked { topic, partition, start: from, end: to });
        }
    }
}

/// The brokers that lead a partition of our topics.
fn leaders(shared: &Shared) -> BTreeSet<i32> {
    let topics = shared.with(|state| state.topics());
    let metas = topics.iter().filter_map(|topic| shared.cluster.cached_topic(topic));
    metas
        .flat_map(|meta| meta.partitions.iter().filter_map(|p| Some(p.leader?.node)).collect::<Vec<_>>())
        .collect()
}

/// Long-polls one leader.
async fn poll_leader(shared: Arc<Shared>, node: i32) {
    let mut failures = 0;
    loop {
        let (wants, all) = wants(&shared, node);
        if wants.is_empty() {
            tokio::time::sleep(super::jitter(BUSY_WAIT / 2)).await;
            continue;
        }
        if shared.budget.room() < PIECE_LEAST {
            // What would come could not be kept. Ask for the ends only.
            shared.budget.mark_refused();
            ask_ends(&shared, &wants).await;
            tokio::time::sleep(super::jitter(BUSY_WAIT * 2)).await;
            continue;
        }
        match poll_once(&shared, node, wants, all).await {
            true => failures = 0,
            false => {
                let wait = RETRY_MOST.min(RETRY_FIRST * 2u32.pow(failures));
                failures = (failures + 1).min(8);
                tokio::time::sleep(super::jitter(wait)).await;
            }
        }
    }
}

/// What to poll at `node`, and whether that is all it leads.
fn wants(shared: &Shared, node: i32) -> (Vec<Want>, bool) {
    let topics = shared.with(|state| state.topics());
    let metas: Vec<_> = topics.iter().filter_map(|topic| shared.cluster.cached_topic(topic)).collect();
    let mut all = true;
    let mut wants = Vec::new();
    shared.with(|state| {
        for meta in &metas {
            for partition in &meta.partitions {
                let Some(leader) = partition.leader.filter(|leader| leader.node == node) else { continue };
                let tp = Tp { topic: Arc::clone(&meta.name), partition: partition.index };
                match state.tail(&tp) {
                    Some(position) => wants.push(Want { tp, position, bytes: 0, epoch: leader.epoch }),
                    None => all = false,
                }
            }
        }
    });
    (wants, all)
}

/// One poll; `false` when it is worth waiting before the next one.
async fn poll_once(shared: &Arc<Shared>, node: i32, mut wants: Vec<Want>, all: bool) -> bool {
    // Half of what is free, so that units' fetches are not refused because of what may never come.
    let share = (shared.budget.room() / 2 / wants.len()).clamp(PIECE_LEAST / 4, POLL_BYTES);
    wants.iter_mut().for_each(|want| want.bytes = share);
    let wait = if all { shared.conf.max_wait } else { shared.conf.max_wait.min(BUSY_WAIT) };
    let answer =
        fetch::call(shared, node, Purpose::LongPoll, &wants, wait, shared.conf.min_bytes.max(1)).await;
    let answer = match answer {
        Ok(answer) => answer,
        Err(error) => {
            tracing::debug!(node, "long poll failed: {error}");
            wants.iter().for_each(|want| shared.cluster.request_refresh(&want.tp.topic));
            return false;
        }
    };
    Counters::add(&shared.counters.long_polls, 1);
    let pause = answer.throttle_time_ms;
    let charge = shared.budget.take(0);
    let mut well = true;
    let mut seen: Vec<Seen> = Vec::new();
    for part in fetch::sort_answer(shared, &wants, answer, charge) {
        let (tp, position, epoch) = (part.want.tp, part.want.position, part.want.epoch);
        match part.error {
            ErrorCode::NONE => {
                if shared.with(|state| state.polled(&tp, position, part.pieces, part.high_watermark, epoch)) {
                    let (high_watermark, log_start) = (part.high_watermark, part.log_start);
                    seen.push(Seen { tp, high_watermark, log_start, epoch });
                }
            }
            ErrorCode::OFFSET_OUT_OF_RANGE => {
                // Below the log start or above its end: both are told by the ends.
                well = false;
                ask_ends(shared, &[Want { tp, position, bytes: 0, epoch }]).await;
            }
            error => {
                well = false;
                tracing::debug!(topic = &*tp.topic, partition = tp.partition, "long poll: {error}");
                shared.cluster.request_refresh(&tp.topic);
            }
        }
    }
    if !seen.is_empty() {
        publish(shared, &seen).await;
    }
    fetch::throttle(pause).await;
    well
}

/// Asks for start and end of partitions and publishes them.
async fn ask_ends(shared: &Arc<Shared>, wants: &[Want]) {
    let query =
        |want: &Want, at| OffsetQuery { topic: Arc::clone(&want.tp.topic), partition: want.tp.partition, at };
    let queries: Vec<_> = wants
        .iter()
        .flat_map(|want| [query(want, OffsetAt::Earliest), query(want, OffsetAt::Latest)])
        .collect();
    let found =
        shared.cluster.list_offsets(&queries, Isolation::ReadUncommitted, shared.conf.request_timeout).await;
    match found {
        Ok(found) => {
            let seen: Vec<Seen> = wants
                .iter()
                .zip(found.chunks_exact(2))
                .map(|(want, ends)| Seen {
                    tp: want.tp.clone(),
                    high_watermark: ends[1].offset,
                    log_start: ends[0].offset,
                    epoch: want.epoch,
                })
                .collect();
            publish(shared, &seen).await;
        }
        Err(error) => tracing::debug!("ends of partitions: {error}"),
    }
}
