//! Where partitions start, and the search for topics and partitions that appear later.
//!
//! The first of a group to meet a partition fixes its start, once. A topic that is there when somebody subscribes to it
//! starts by the policy (`use-earliest`); whatever appears later - a topic that did not exist, partitions of a topic
//! that grew - starts at its earliest record: it was written after the subscription, so it is to be read (KIP-842,
//! KAFKA-12478).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ends::{self, Ends};
use super::error::ConsumerError;
use super::foreign;
use super::known;
use super::mirror::Commits;
use super::plan::Seen;
use super::publish::publish;
use super::shared::{Alarm, Shared};
use super::state::{Phase, Tp};
use crate::cluster::{TopicError, TopicMeta, check_topic_name};
use crate::error::ErrorKind;
use crate::group::{Init, PartitionView, StartAt};
use crate::log_rate;
use crate::wire::Uuid;

/// How often the organiser looks whether topics have grown.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often a topic that did not exist is looked for: somebody may be waiting for its first record.
const MISSING_EVERY: Duration = Duration::from_millis(250);

/// Why a partition is met now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Met {
    /// The topic was there when somebody subscribed to it.
    Subscribing,
    /// It is read already, and the group has lost it.
    Lost,
    /// It appeared after that.
    Later,
}

/// Refuses names that no broker accepts.
pub(super) fn check_names(names: &[&str]) -> Result<(), ConsumerError> {
    names.iter().try_for_each(|name| check_topic_name(name)).map_err(TopicError::from)?;
    Ok(())
}

/// Takes no more units of these topics.
pub(super) async fn unsubscribe(shared: &Arc<Shared>, names: &[&str]) -> Result<(), ConsumerError> {
    let topics: Vec<Arc<str>> = names.iter().map(|name| Arc::from(*name)).collect();
    shared.with(|state| {
        for topic in &topics {
            state.talk.remove_topic(topic);
            state.denied.forget(topic);
            state.known.leave(topic);
        }
        state.effects.watch = true;
    });
    Ok(())
}

/// Subscribes to topics and fixes their starts. Topics that do not exist are left to [`run`].
pub(super) async fn subscribe(shared: &Arc<Shared>, names: &[&str]) -> Result<(), ConsumerError> {
    begin(shared, names, Met::Subscribing).await?;
    // Only now: a unit that is claimed before has a leader and a feed, and no member counts as a reader of the topic before what an
    // operator has committed meanwhile is applied.
    shared.with(|state| {
        names.iter().for_each(|name| state.talk.add_topic(&Arc::from(*name)));
        state.talk.work_appeared();
        state.effects.exchange = true;
        state.effects.watch = true;
    });
    Ok(())
}

async fn begin(shared: &Arc<Shared>, names: &[&str], met: Met) -> Result<(), ConsumerError> {
    let timeout = shared.conf.metadata_timeout;
    let mut metas = Vec::new();
    for name in names {
        if let Some(meta) = shared.cluster.topic_if_exists(name, timeout).await? {
            metas.push(meta);
        }
    }
    let topics: Vec<Arc<str>> = names.iter().map(|name| Arc::from(*name)).collect();
    // The group is told what does not exist yet: whoever meets it later, also another consumer, starts it at its first record.
    let missing = topics.iter().filter(|topic| !metas.iter().any(|meta| meta.name == **topic));
    let missing: Vec<_> = missing.map(|topic| (Arc::clone(topic), false)).collect();
    shared.coordinator.subscribe(&missing).await?;
    fix_starts(shared, &metas, met).await
}

/// Fixes the starts of subscribed topics anew, in a group that lost them.
pub(super) async fn again(shared: &Arc<Shared>, topics: &[Arc<str>]) -> Result<(), ConsumerError> {
    let names: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
    begin(shared, &names, Met::Lost).await?;
    // None is added: what was removed meanwhile stays so.
    shared.with(|state| {
        state.talk.work_appeared();
        state.effects.exchange = true;
        state.effects.watch = true;
    });
    Ok(())
}

/// Looks for what appears later, until the consumer is over.
pub(super) async fn run(shared: Arc<Shared>) {
    let _alarm = Alarm::new(&shared);
    let mut grown_at = Instant::now();
    loop {
        let missing = shared.with(|s| s.topics().iter().any(|topic| s.known.id(topic).is_none()));
        tokio::select! {
            () = tokio::time::sleep(super::jitter(if missing { MISSING_EVERY } else { LOOK_EVERY })) => {}
            // The group and this consumer mean different topics by a name.
            () = shared.look_kick.notified() => {}
            () = shared.until_over() => return,
        }
        let (topics, organiser, open) =
            shared.with(|s| (s.topics(), s.talk.is_organiser(), s.phase == Phase::Open));
        if !open {
            continue;
        }
        let organiser = organiser && grown_at.elapsed() >= LOOK_EVERY / 2;
        if organiser {
            grown_at = Instant::now();
        }
        if let Err(error) = look(&shared, &topics, organiser).await {
            // What brokers refuse is for people to mend; what is away comes back.
            if matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Timeout) {
                tracing::debug!("looking for new topics and partitions: {error}");
            } else if let Some(more) = log_rate::due(format_args!("look {error}")) {
                tracing::warn!(
                    "looking for new topics and partitions: {error}. They are looked for again{more}"
                );
            }
        }
    }
}

async fn look(shared: &Arc<Shared>, topics: &[Arc<str>], organiser: bool) -> Result<(), ConsumerError> {
    let timeout = shared.conf.metadata_timeout;
    let (known, missing): (Vec<_>, Vec<_>) =
        shared.with(|s| topics.iter().cloned().partition(|topic| s.known.id(topic).is_some()));
    let disputed = shared.with(|s| s.known.disputed());
    let asked = if organiser { &known } else { &disputed };
    if !asked.is_empty() {
        shared.cluster.refresh(asked, timeout).await?;
    }
    let mut grown = Vec::new();
    for topic in &known {
        let Some(meta) = shared.cluster.cached_topic(topic) else { continue };
        let fresh = shared.with(|state| {
            if state.known.is_another(topic, meta.id) {
                tracing::warn!(topic = &**topic, "the topic was created again: it is read from its start");
                state.forget_topic(topic);
            } else if disputed.contains(topic) && state.known.is_confirmed(topic) {
                tracing::warn!(
                    topic = &**topic,
                    "the group knows the topic before it was created again: it is told"
                );
                state.forget_topic(topic);
            }
            !tps(&meta).all(|tp| state.known.has_started(&tp))
        });
        if fresh {
            grown.push(meta);
        }
    }
    for topic in &missing {
        grown.extend(shared.cluster.topic_if_exists(topic, timeout).await?);
    }
    if grown.is_empty() {
        return Ok(());
    }
    fix_starts(shared, &grown, Met::Later).await?;
    shared.with(|state| {
        state.talk.work_appeared();
        state.effects.exchange = true;
        state.effects.watch = true;
    });
    Ok(())
}

fn tps(meta: &TopicMeta) -> impl Iterator<Item = Tp> + '_ {
    meta.partitions.iter().map(|p| Tp { topic: Arc::clone(&meta.name), partition: p.index })
}

/// Fixes the starts of all partitions of `metas` that this consumer does not know yet.
async fn fix_starts(shared: &Arc<Shared>, metas: &[Arc<TopicMeta>], met: Met) -> Result<(), ConsumerError> {
    let mut tps: Vec<Tp> = metas.iter().flat_map(|meta| tps(meta)).collect();
    shared.with(|state| tps.retain(|tp| !state.known.has_started(tp)));
    if tps.is_empty() {
        return Ok(());
    }
    // Before their ends are asked for: those of a topic are not to count as those of one that replaces it meanwhile.
    let ids: HashMap<_, _> = metas.iter().map(|meta| (Arc::clone(&meta.name), meta.id)).collect();
    let ends = ends::ask(shared, &tps, shared.conf.metadata_timeout).await?;
    init(shared, tps, &ends, &ids, met).await
}

/// Tells the group where partitions start, and learns where it stands.
async fn init(
    shared: &Arc<Shared>,
    tps: Vec<Tp>,
    ends: &[Ends],
    ids: &HashMap<Arc<str>, Uuid>,
    met: Met,
) -> Result<(), ConsumerError> {
    let mut topics: Vec<Arc<str>> = tps.iter().map(|tp| Arc::clone(&tp.topic)).collect();
    topics.dedup();
    let lives = shared.coordinator.lives();
    let before = shared.coordinator.partitions(&topics).await?;
    // A partition that is new in a topic the group subscribed to before is read from its start: it appeared after that.
    let asked: Vec<_> = topics.iter().map(|topic| (Arc::clone(topic), true)).collect();
    let start_at = shared.coordinator.subscribe(&asked).await?;
    let latest = met != Met::Later && !shared.conf.use_earliest;
    // What it knows of a topic that had this name before says nothing of this one.
    let is_of = |v: &PartitionView| ids.get(&v.topic).is_none_or(|id| !known::differ(*id, v.topic_id));
    let is_known =
        |tp: &&Tp| before.iter().any(|v| v.topic == tp.topic && v.partition == tp.partition && is_of(v));
    let unknown: Vec<Tp> = tps.iter().filter(|tp| !is_known(tp)).cloned().collect();
    let commits = Commits::read(shared, if met == Met::Later { &unknown } else { &tps }).await?;
    let mut starts = Vec::new();
    for (tp, ends) in tps.iter().zip(ends) {
        let (earliest, end) = (ends.earliest.max(0), ends.latest.max(0));
        let by_policy = topics.iter().zip(&start_at).any(|(t, at)| *t == tp.topic && *at == StartAt::Policy);
        let by_rule = if latest && by_policy { end } else { earliest };
        let (start, done) = commits.start(tp, ends.log_end.max(0)).unwrap_or((by_rule, Vec::new()));
        starts.push(Init {
            topic: Arc::clone(&tp.topic),
            partition: tp.partition,
            topic_id: ids.get(&tp.topic).copied().unwrap_or_default(),
            leader_epoch: shared.cluster.leader(&tp.topic, tp.partition).map_or(-1, |leader| leader.epoch),
            start,
            high_watermark: end,
            log_start: earliest,
            done,
            pending: None,
        });
    }
    let is_replaced = |start: &Init| {
        let now = shared.cluster.cached_topic(&start.topic);
        now.is_some_and(|now| known::differ(now.id, start.topic_id))
    };
    if starts.iter().any(is_replaced) {
        // It is met as a topic that appeared later.
        return Ok(());
    }
    shared.coordinator.init(&starts).await?;
    let after = shared.coordinator.partitions(&topics).await?;
    shared.with(|state| {
        // A group that was lost meanwhile knows none of it: it is done again.
        if shared.coordinator.lives() == lives {
            state.starts(&starts, Instant::now());
        }
        after.iter().filter(|view| is_of(view)).for_each(|view| state.group_stands(view));
    });
    if met != Met::Later {
        commits.begin(shared, &after).await?;
    }
    foreign::apply(shared, &commits, &before, &starts, met == Met::Subscribing).await?;
    say_where(shared, &topics, &starts, &before);
    // A group that was here before may not know how far the log has grown since, or that it begins later now.
    let seen: Vec<Seen> = starts
        .iter()
        .map(|start| Seen {
            tp: Tp { topic: Arc::clone(&start.topic), partition: start.partition },
            topic_id: start.topic_id,
            high_watermark: start.high_watermark,
            log_start: start.log_start,
            epoch: start.leader_epoch,
        })
        .collect();
    publish(shared, &seen).await;
    Ok(())
}

/// Tells what surprises people: that a new group skips what is there, and that a known one ignores `use-earliest`.
fn say_where(shared: &Shared, topics: &[Arc<str>], starts: &[Init], before: &[PartitionView]) {
    let group = shared.with(|state| Arc::clone(&state.group));
    for topic in topics {
        let known = before.iter().find(|view| view.topic == *topic);
        if let Some(view) = known.filter(|_| shared.conf.use_earliest) {
            tracing::info!(
                "use-earliest has no effect: group \"{group}\" already stands at {} in {topic}/{}. Use another group \
                 or seek",
                view.low_watermark,
                view.partition
            );
        }
        let skipped: i64 = starts.iter().filter(|s| s.topic == *topic).map(|s| s.start - s.log_start).sum();
        if known.is_none() && skipped > 0 {
            tracing::warn!(
                "Group \"{group}\" starts at the END of \"{topic}\"; {skipped} earlier records are skipped. \
                 setUseEarliest(true) reads them (new groups only)"
            );
        }
    }
}
