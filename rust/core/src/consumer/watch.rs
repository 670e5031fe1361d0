//! Finds what is new: records on partitions without backlog, partitions of grown topics, topics that appear.
//!
//! A unit's fetch already tells the high watermark, and the acknowledgement carries it to the group. Only partitions
//! that nobody fetches need a watcher: the group's organiser (one consumer, by a lease) keeps a long-poll fetch open at
//! every leader, on a connection of its own, and publishes what it sees at once. What such a poll brings is kept: the
//! unit that is claimed for it needs no fetch.
//!
//! Members may read different topics, and there is one organiser: it watches all that the group knows. Of what only others
//! read it asks for the ends, with polls that bring next to nothing. It may lack the right to read what others may: of such topics
//! it asks for the ends too, with requests that need the right to DESCRIBE only.
//!
//! A poll covers the partitions whose known records are all handed out or here. It cannot be changed while it waits at
//! the broker, so while other partitions of that leader have a backlog (and may run dry any moment) it waits
//! [`BUSY_WAIT`] only.
//!
//! There may be thousands of partitions, and from one poll to the next hardly any of them changes: the polls of a leader are a
//! fetch session ([`Session`]), in which a request names what has changed and an answer what has news. So nothing in it may
//! change without need: what a poll may bring is bounded for the whole answer, not shared out anew among its partitions.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::AbortHandle;

use super::aside;
use super::cache::Extent;
use super::ends;
use super::fetch;
use super::late;
use super::plan::{PIECE_LEAST, Seen, Want};
use super::publish::publish;
use super::session::{Answer, Session};
use super::shared::{Alarm, Shared};
use super::state::{State, Tp};
use super::stats::Counters;
use crate::cluster::{Cluster, Isolation, Patience, Purpose, TopicMeta};
use crate::group::GroupError;
use crate::net::CallError;
use crate::wire::messages::FetchRequest;
use crate::wire::{Operation, Treatment};

/// Longest wait of a poll while some partition of the leader is not in it.
const BUSY_WAIT: Duration = Duration::from_millis(100);
/// How often the list of leaders is looked at again.
const LEADERS_EVERY: Duration = Duration::from_secs(1);
/// What a poll may bring per partition.
const POLL_BYTES: usize = 1 << 20;
/// How long a leader has to take note that its session is over.
const FAREWELL: Duration = Duration::from_secs(1);
/// Longest wait for the ends of a partition when those of others are known.
const SILENT_MOST: Duration = Duration::from_secs(2);
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

/// A session with a leader, which is told when we leave it: it has room for a thousand of them, by default. One that begins, or
/// the consumer's end, may cut that short: then the leader drops it when it needs the room.
struct Watched {
    cluster: Cluster,
    node: i32,
    session: Session,
    request_timeout: Duration,
}

impl Drop for Watched {
    fn drop(&mut self) {
        if let (Some(request), Ok(runtime)) = (self.session.close(), Handle::try_current()) {
            let (cluster, node, within) = (self.cluster.clone(), self.node, self.request_timeout);
            runtime.spawn(async move {
                // A poll may still wait on the connection for polls. This one is not ours alone: a call whose time is over
                // would close it, one that is dropped only leaves its answer.
                let farewell = cluster.call(node, Purpose::Control, &request, within);
                _ = tokio::time::timeout(FAREWELL, farewell).await;
            });
        }
    }
}

/// Watches while this consumer is the organiser, until it is over.
pub(super) async fn run(shared: Arc<Shared>) {
    let _alarm = Alarm::new(&shared);
    let mut polls: HashMap<i32, Poll> = HashMap::new();
    let mut looks: HashMap<(Arc<str>, i32), Poll> = HashMap::new();
    loop {
        if shared.with(|state| state.talk.is_organiser()) {
            look_at_group(&shared).await;
            let leaders = leaders(&shared);
            polls.retain(|node, poll| leaders.contains(node) && !poll.0.is_finished());
            for node in leaders {
                let start = || Poll(tokio::spawn(poll_leader(Arc::clone(&shared), node)).abort_handle());
                polls.entry(node).or_insert_with(start);
            }
            looks.retain(|_, look| !look.0.is_finished());
            for (of, wants) in denied(&shared) {
                let shared = Arc::clone(&shared);
                let look = async move { ask_ends(&shared, &wants).await };
                looks.entry(of).or_insert_with(|| Poll(tokio::spawn(look).abort_handle()));
            }
        } else {
            polls.clear();
            looks.clear();
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
    if let Err(error) = look_at_partitions(shared).await {
        tracing::debug!("asking the group where it is: {error}");
    }
    let events = shared.coordinator.events().await.unwrap_or_default();
    events.into_iter().for_each(|event| aside::tell(shared, event));
}

async fn look_at_partitions(shared: &Shared) -> Result<(), GroupError> {
    let ours = shared.with(|state| state.topics());
    let mut topics = shared.coordinator.topics().await?;
    topics.retain(|topic| !ours.contains(topic));
    let unseen: Vec<_> =
        topics.iter().filter(|topic| shared.cluster.cached_topic(topic).is_none()).cloned().collect();
    if !unseen.is_empty()
        && let Err(error) = shared.cluster.refresh(&unseen, LEADERS_EVERY).await
    {
        tracing::debug!("topics that other members read: {error}");
    }
    topics.extend_from_slice(&ours);
    let overview = shared.coordinator.overview(&topics).await?;
    late::learn(shared, &overview);
    let views = overview.partitions;
    let (ours, others): (Vec<_>, Vec<_>) = views.iter().partition(|view| ours.contains(&view.topic));
    shared.with(|state| {
        // Of a topic that was created again meanwhile it says nothing; where new partitions start is fixed first.
        for view in ours {
            if state.known.is_of(view) {
                state.group_stands(view);
            }
        }
        state.others_stand(&others);
    });
    Ok(())
}

/// What is known of all topics that are watched.
fn watched(shared: &Shared) -> Vec<Arc<TopicMeta>> {
    let topics: BTreeSet<Arc<str>> = shared.with(|state| {
        let others = state.others.keys().map(|tp| Arc::clone(&tp.topic));
        state.topics().into_iter().chain(others).collect()
    });
    topics.iter().filter_map(|topic| shared.cluster.cached_topic(topic)).collect()
}

/// The brokers that lead a partition that is watched.
fn leaders(shared: &Shared) -> BTreeSet<i32> {
    watched(shared)
        .iter()
        .flat_map(|meta| meta.partitions.iter().filter_map(|p| Some(p.leader?.node)).collect::<Vec<_>>())
        .collect()
}

/// Long-polls one leader.
async fn poll_leader(shared: Arc<Shared>, node: i32) {
    let (cluster, request_timeout) = (shared.cluster.clone(), shared.conf.request_timeout);
    let mut watched = Watched { cluster, node, session: Session::default(), request_timeout };
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
        match poll_once(&shared, &mut watched, wants, all).await {
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
    let metas = watched(shared);
    let mut all = true;
    let mut wants = Vec::new();
    shared.with(|state| {
        let now = Instant::now();
        // What may not be read is left out: an error would end every poll at once.
        for meta in metas.iter().filter(|meta| state.denied.until(&meta.name, now).is_none()) {
            for partition in &meta.partitions {
                let Some(leader) = partition.leader.filter(|leader| leader.node == node) else { continue };
                match want(state, meta, partition.index, leader.epoch) {
                    Some(want) => wants.push(want),
                    None => all = false,
                }
            }
        }
    });
    (wants, all)
}

/// A partition to look at, unless there is a backlog that units will fetch.
fn want<B: Extent>(state: &State<B>, meta: &TopicMeta, partition: i32, epoch: i32) -> Option<Want> {
    let tp = Tp { topic: Arc::clone(&meta.name), partition };
    let position = state.tail_of_others(&tp).or_else(|| state.tail(&tp))?;
    if state.known.is_foreign(&meta.name, meta.id) {
        // It was created again: what is known of it holds no more.
        return None;
    }
    Some(Want { tp, topic_id: meta.id, position, bytes: 0, epoch, replica: false, near: false })
}

/// What to ask the ends of because the polls may not read it: other members may. By topic, since one that is refused makes the
/// whole question fail, and by leader, since one that is away holds it up.
fn denied(shared: &Shared) -> HashMap<(Arc<str>, i32), Vec<Want>> {
    let metas = watched(shared);
    let mut wants: HashMap<_, Vec<Want>> = HashMap::new();
    shared.with(|state| {
        // A poll under way may leave out also what is to be tried again by now.
        for meta in metas.iter().filter(|meta| state.denied.is_denied(&meta.name)) {
            for partition in &meta.partitions {
                let Some(leader) = partition.leader else { continue };
                let found = want(state, meta, partition.index, leader.epoch);
                wants.entry((Arc::clone(&meta.name), leader.node)).or_default().extend(found);
            }
        }
    });
    wants.retain(|_, wants| !wants.is_empty());
    wants
}

/// One poll; `false` when it is worth waiting before the next one.
async fn poll_once(shared: &Arc<Shared>, watched: &mut Watched, mut wants: Vec<Want>, all: bool) -> bool {
    shared.with(|state| {
        let of_others = |tp| state.tail_of_others(tp).is_some();
        // A broker that has something to send sends a batch all the same; it is thrown away.
        wants.iter_mut().for_each(|want| want.bytes = if of_others(&want.tp) { 1 } else { POLL_BYTES });
    });
    let began = Instant::now();
    let wait = if all { shared.conf.max_wait } else { shared.conf.max_wait.min(BUSY_WAIT) };
    // It names no rack: the leader has first what is new.
    let mut request = fetch::request(shared, &wants, wait, shared.conf.min_bytes.max(1));
    // Half of what is free, so that units' fetches are not refused because of what may never come.
    let share = i32::try_from(shared.budget.room() / 2).unwrap_or(i32::MAX);
    request.max_bytes = request.max_bytes.min(share);
    let answer = match call(shared, watched, &request, fetch::timeout(shared, wait)).await {
        Ok(Answer::All(answer)) if fetch::says_nothing(&answer) => {
            fetch::throttle(answer.throttle_time_ms).await;
            return true;
        }
        Ok(Answer::All(answer)) => answer,
        Ok(Answer::News(answer)) => {
            wants.retain(|want| watched.session.has_news(&want.tp.topic, want.tp.partition));
            answer
        }
        Err(error) => {
            tracing::debug!(node = watched.node, "long poll failed: {error}");
            wants.iter().for_each(|want| shared.cluster.request_refresh(&want.tp.topic));
            return false;
        }
    };
    Counters::add(&shared.counters.long_polls, 1);
    let pause = answer.throttle_time_ms;
    let early = began.elapsed() < wait / 4;
    let mut empty = true;
    let charge = shared.budget.take(0);
    let mut well = true;
    let mut seen: Vec<Seen> = Vec::new();
    for part in fetch::sort_answer(shared, &wants, answer, charge) {
        let (tp, topic_id) = (part.want.tp, part.want.topic_id);
        let (position, epoch) = (part.want.position, part.want.epoch);
        if shared.with(|state| state.known.is_foreign(&tp.topic, topic_id)) {
            continue;
        }
        empty &= part.pieces.is_empty();
        match part.error.treatment(Operation::Fetch) {
            Treatment::Done => {
                let is_news = shared.with(|state| match state.tail_of_others(&tp) {
                    Some(_) => state.polled_for_others(&tp, part.high_watermark),
                    None => state.polled(&tp, position, part.pieces, part.high_watermark, epoch),
                });
                if is_news {
                    let (high_watermark, log_start) = (part.high_watermark, part.log_start);
                    seen.push(Seen { tp, topic_id, high_watermark, log_start, epoch });
                }
            }
            Treatment::Reset => {
                // Below the log start or above its end: both are told by the ends.
                well = false;
                ask_ends(
                    shared,
                    &[Want { tp, topic_id, position, bytes: 0, epoch, replica: false, near: false }],
                )
                .await;
            }
            _ => {
                well &= shared.with(|state| state.denied(&tp, part.error, Instant::now()));
                tracing::debug!(topic = &*tp.topic, partition = tp.partition, "long poll: {}", part.error);
                shared.cluster.request_refresh(&tp.topic);
            }
        }
    }
    if !seen.is_empty() {
        publish(shared, &seen).await;
    }
    fetch::throttle(pause).await;
    // A position above the last stable offset, as after a change of the isolation, may be answered at once with nothing.
    well && !(empty && early && shared.conf.isolation == Isolation::ReadCommitted)
}

/// Sends a poll of `all` as a request of the leader's session; a second one when the leader does not know the session.
async fn call(
    shared: &Shared,
    watched: &mut Watched,
    all: &FetchRequest,
    timeout: Duration,
) -> Result<Answer, CallError> {
    let Watched { node, session, .. } = watched;
    loop {
        let request = session.next(all);
        let named = request.topics.iter().map(|topic| topic.partitions.len()).sum::<usize>();
        Counters::add(&shared.counters.long_poll_partitions, named as u64);
        match shared.cluster.call(*node, Purpose::LongPoll, &request, timeout).await {
            Ok(answer) => match session.answered(answer) {
                Some(answer) => return Ok(answer),
                None => tracing::debug!(node, "the fetch session begins again"),
            },
            Err(error) => {
                session.lost();
                return Err(error);
            }
        }
    }
}

/// Asks for start and end of partitions and publishes them.
async fn ask_ends(shared: &Arc<Shared>, wants: &[Want]) {
    let tps: Vec<Tp> = wants.iter().map(|want| want.tp.clone()).collect();
    // Of one leader, but a partition may have moved to one that does not answer.
    let patience = Patience {
        silent: SILENT_MOST,
        leaderless: SILENT_MOST,
        ..ends::within(shared.conf.request_timeout)
    };
    let found = ends::ask(shared, &tps, patience).await;
    match found {
        Ok(found) => {
            let seen: Vec<Seen> = wants
                .iter()
                .zip(found)
                .filter_map(|(want, ends)| {
                    let ends =
                        ends.inspect_err(|error| tracing::debug!("ends of partitions: {error}")).ok()?;
                    let (high_watermark, log_start) = (ends.latest, ends.earliest);
                    Some(Seen {
                        tp: want.tp.clone(),
                        topic_id: want.topic_id,
                        high_watermark,
                        log_start,
                        epoch: want.epoch,
                    })
                })
                .collect();
            publish(shared, &seen).await;
        }
        Err(error) => tracing::debug!("ends of partitions: {error}"),
    }
}
