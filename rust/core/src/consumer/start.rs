//! Where partitions start, and the search for topics and partitions that appear later.
//!
//! The first of a group to meet a partition fixes its start, once. A topic that is there when somebody subscribes to it
//! starts by the policy (`use-earliest`); whatever appears later - a topic that did not exist, partitions of a topic
//! that grew - starts at its earliest record: it was written after the subscription, so it is to be read (KIP-842,
//! KAFKA-12478).
//!
//! How that is done is in `starting`; what has to wait for its leader meanwhile is tried again by `late`.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::error::ConsumerError;
use super::shared::{Alarm, Shared};
use super::starting::{Met, fix_starts, tps};
use super::state::Phase;
use crate::cluster::{TopicError, TopicMeta, check_topic_name};
use crate::error::ErrorKind;
use crate::log_rate;

/// How often the organiser looks whether topics have grown.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// How often a topic that did not exist is looked for: somebody may be waiting for its first record.
const MISSING_EVERY: Duration = Duration::from_millis(250);

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
            state.pending.forget(topic);
        }
        state.effects.watch = true;
    });
    Ok(())
}

/// Subscribes to topics and fixes their starts. Topics that do not exist are left to [`run`].
pub(super) async fn subscribe(shared: &Arc<Shared>, names: &[&str]) -> Result<(), ConsumerError> {
    begin(shared, names, Met::Subscribing { at: now_ms() }).await?;
    // Only now: a unit that is claimed before has a leader and a feed, and no member counts as a reader of the topic before what an
    // operator has committed meanwhile is applied.
    shared.with(|state| names.iter().for_each(|name| state.talk.add_topic(&Arc::from(*name))));
    appeared(shared);
    Ok(())
}

async fn begin(shared: &Arc<Shared>, names: &[&str], met: Met) -> Result<(), ConsumerError> {
    let topics: Vec<Arc<str>> = names.iter().map(|name| Arc::from(*name)).collect();
    let mut metas = Vec::new();
    for found in find(shared, &topics, shared.conf.metadata_timeout).await {
        // A topic that may not be described is a mistake that the user is to hear of.
        metas.extend(found?);
    }
    // The group is told what does not exist yet: whoever meets it later, also another consumer, starts it at its first record.
    let missing = topics.iter().filter(|topic| !metas.iter().any(|meta| meta.name == **topic));
    let missing: Vec<_> = missing.map(|topic| (Arc::clone(topic), false)).collect();
    shared.coordinator.subscribe(&missing).await?;
    fix_starts(shared, &metas, met).await
}

/// Fixes the starts of subscribed topics anew, in a group that lost them.
pub(super) async fn again(shared: &Arc<Shared>, topics: &[Arc<str>]) -> Result<(), ConsumerError> {
    let names: Vec<&str> = topics.iter().map(|topic| &**topic).collect();
    begin(shared, &names, Met::Lost { at: now_ms() }).await?;
    // None is added: what was removed meanwhile stays so.
    appeared(shared);
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
            say_missed(&error);
        }
    }
}

/// What brokers refuse is for people to mend; what is away comes back.
pub(super) fn say_missed(error: &ConsumerError) {
    if matches!(error.kind(), ErrorKind::Unreachable | ErrorKind::Timeout) {
        tracing::debug!("looking for new topics and partitions: {error}");
    } else if let Some(more) = log_rate::due(format_args!("look {error}")) {
        tracing::warn!("looking for new topics and partitions: {error}. They are looked for again{more}");
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
                state.pending.forget(topic);
            } else if disputed.contains(topic) && state.known.is_confirmed(topic) {
                tracing::warn!(
                    topic = &**topic,
                    "the group knows the topic before it was created again: it is told"
                );
                state.forget_topic(topic);
            }
            // What waits for its leader is tried again by itself.
            !tps(&meta).all(|tp| state.known.has_started(&tp) || state.pending.has(&tp))
        });
        if fresh {
            grown.push(meta);
        }
    }
    for found in find(shared, &missing, timeout.min(LOOK_EVERY)).await {
        // What is wrong with one of them keeps nobody from the others, and is not waited for for long.
        match found {
            Ok(found) => grown.extend(found),
            Err(error @ TopicError::Closed) => return Err(error.into()),
            Err(error) => say_missed(&error.into()),
        }
    }
    if grown.is_empty() {
        return Ok(());
    }
    fix_starts(shared, &grown, Met::Later).await?;
    appeared(shared);
    Ok(())
}

/// Topics as far as they exist, in the order of their names. All at the same time: the wishes go into one request.
async fn find(
    shared: &Shared,
    names: &[Arc<str>],
    timeout: Duration,
) -> Vec<Result<Option<Arc<TopicMeta>>, TopicError>> {
    let mut looks = JoinSet::new();
    for (i, name) in names.iter().cloned().enumerate() {
        let cluster = shared.cluster.clone();
        looks.spawn(async move { (i, cluster.topic_if_exists(&name, timeout).await) });
    }
    let mut found = looks.join_all().await;
    found.sort_unstable_by_key(|(i, _)| *i);
    found.into_iter().map(|(_, found)| found).collect()
}

/// There may be work in partitions that were not read before.
pub(super) fn appeared(shared: &Shared) {
    shared.with(|state| {
        state.talk.work_appeared();
        state.effects.exchange = true;
        state.effects.watch = true;
    });
}

/// The time of people, in milliseconds since 1970: records have it, too.
fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}
