//! The mirror: a Redis group's positions, committed to Kafka's own group of the same name.
//!
//! The organiser commits what has changed every `offset-commit-freq`, and everything every few minutes: brokers forget the offsets
//! of a group without members (KIP-211), and whoever connects or ends commits too, perhaps something a moment older. Two things follow: every tool shows the group's lag, and Redis can be lost.
//! When it was, partitions start where the commits say ([`Commits`](super::commits::Commits)); when another Redis took over, which may lack the latest
//! writes, what it holds is brought up to the commits before it hands anything out ([`reconcile`]).

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::commits::{LEADERS_WITHIN, commit, committed_as_allowed, ends, mirrored, name, tp_of};
use super::error::ConsumerError;
use super::foreign;
use super::pending::{What, names};
use super::shared::{Alarm, Shared};
use super::state::Tp;
use crate::cluster::CommittedOffset;
use crate::group::{Coordinator, GroupError, PartitionView, RedisGroup, decode_commit};
use crate::log_rate;
use crate::wire::ErrorCode;

/// How often all positions are committed, changed or not.
const ALL_EVERY: Duration = Duration::from_secs(300);
/// How long a commit may take when a consumer ends.
const LAST_WITHIN: Duration = Duration::from_secs(2);

/// What was committed last of a partition: low watermark, generation, epoch, done ranges.
type Last = (i64, u64, i32, Vec<(i64, i64)>);

/// Commits as long as this consumer is the organiser, until it is over.
pub(super) async fn run(shared: Arc<Shared>) {
    let _alarm = Alarm::new(&shared);
    let Some(group) = mirrored(&shared).cloned() else { return };
    let mut last: HashMap<Tp, Last> = HashMap::new();
    let mut all_at = Instant::now();
    loop {
        tokio::select! {
            () = tokio::time::sleep(super::jitter(shared.conf.offset_commit_freq)) => {}
            () = shared.until_over() => return,
        }
        if !shared.with(|state| state.talk.is_organiser()) {
            // Somebody else commits meanwhile: what we know of it is old.
            last.clear();
            continue;
        }
        if all_at.elapsed() >= ALL_EVERY {
            last.clear();
            all_at = Instant::now();
        }
        match pass(&shared, &group, &mut last, shared.conf.request_timeout).await {
            // The next exchange sees to it.
            Ok(()) | Err(ConsumerError::Group(GroupError::Reconcile)) => {}
            Err(error) => {
                let name = &group.conf().group;
                if let Some(more) = log_rate::due(format_args!("commit {name} {error}")) {
                    tracing::warn!("positions of group \"{name}\" are not committed to Kafka: {error}{more}");
                }
            }
        }
    }
}

/// The last commit of a consumer that ends.
pub(super) async fn at_the_end(shared: &Shared) {
    let Some(group) = mirrored(shared).filter(|_| !shared.cluster.has_met_another()) else { return };
    let mut last = HashMap::new();
    let committed = pass(shared, group, &mut last, LAST_WITHIN);
    match tokio::time::timeout(LAST_WITHIN, committed).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!("the last commit: {error}"),
        Err(_) => tracing::debug!("the last commit was not done in time"),
    }
}

/// Commits what has changed since `last`.
async fn pass(
    shared: &Shared,
    group: &RedisGroup,
    last: &mut HashMap<Tp, Last>,
    timeout: Duration,
) -> Result<(), ConsumerError> {
    let topics = group.topics().await?;
    let mut views: Vec<(PartitionView, Vec<(i64, i64)>)> = Vec::new();
    for topic in &topics {
        let of_topic = group.reconciled_partitions(std::slice::from_ref(topic)).await?;
        // Only what has units in hands can have holes.
        let busy: Vec<i32> =
            of_topic.iter().filter(|v| v.in_flight + v.parked > 0).map(|v| v.partition).collect();
        views.extend(
            of_topic.into_iter().filter(|v| v.in_flight + v.parked == 0).map(|view| (view, Vec::new())),
        );
        if !busy.is_empty() {
            let opened = group.open_units(topic, &busy).await?;
            views.extend(opened.into_iter().map(|(view, open)| {
                let done = done(&view, &open);
                (view, done)
            }));
        }
    }
    let (mut commits, mut news) = (Vec::new(), HashMap::new());
    for (view, done) in views {
        let tp = Tp { topic: Arc::clone(&view.topic), partition: view.partition };
        let now: Last = (view.low_watermark, view.generation, view.leader_epoch, done);
        if last.get(&tp) != Some(&now) {
            commits.push(commit(&view, &now.3));
            news.insert(tp, now);
        }
    }
    if commits.is_empty() {
        return Ok(());
    }
    for tp in foreign::look(shared, group, &mut commits, |tp| last.contains_key(tp)).await? {
        // Until everything is committed again.
        last.extend(news.remove_entry(&tp));
    }
    let outcomes = shared.cluster.commit_offsets(&name(group), &commits, timeout).await?;
    let mut refused = None;
    for (topic, partition, outcome) in outcomes {
        let tp = Tp { topic, partition };
        match outcome {
            Ok(()) => last.extend(news.remove_entry(&tp)),
            // It was deleted meanwhile.
            Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION) => {}
            Err(code) => refused = Some((tp, code)),
        }
    }
    if let Some((Tp { topic, partition }, code)) = refused
        && let Some(more) = log_rate::due(format_args!("commit {} {code}", group.conf().group))
    {
        tracing::warn!(
            "the position of {topic}/{partition}, perhaps of others too, is not committed to Kafka: {code}{more}"
        );
    }
    Ok(())
}

/// What is handled above the low watermark: all below the cursor that no open unit covers.
fn done(view: &PartitionView, open: &[(i64, i64)]) -> Vec<(i64, i64)> {
    let mut done = Vec::new();
    let mut at = view.low_watermark;
    for (from, to) in open {
        done.extend((at < *from).then_some((at, *from)));
        at = *to;
    }
    done.extend((at < view.cursor).then_some((at, view.cursor)));
    done
}

/// Another server than the group was on last: it is brought up to the commits before it hands anything out. Partitions whose
/// leaders cannot be asked whether their commits hold wait for that ([`check`]), and the others go on.
pub(super) async fn reconcile(shared: &Shared) -> Result<(), ConsumerError> {
    let Coordinator::Redis(group) = &shared.coordinator else { return Ok(()) };
    // Before anything is read of it: yet another one may take over until all is compared.
    let server = group.server().await?;
    if mirrored(shared).is_some() {
        let topics = group.topics().await?;
        // Leaders of topics that others read are not known here.
        let unseen = topics.iter().filter(|topic| shared.cluster.cached_topic(topic).is_none());
        let unseen: Vec<_> = unseen.cloned().collect();
        if !unseen.is_empty()
            && let Err(error) = shared.cluster.refresh(&unseen, LEADERS_WITHIN).await
        {
            tracing::debug!("leaders of topics that others read: {error}");
        }
        let views = group.partitions(&topics).await?;
        let (facts, unclear) = compare(shared, group, &views).await?;
        let behind = facts.iter().filter(|(.., offset)| *offset >= 0).count();
        if let Some(more) = log_rate::due(format_args!("reconcile {} {server}", name(group))) {
            tracing::info!(
                "Redis {} was started anew or another one took over; {behind} of {} positions were behind Kafka's commits{more}",
                group.conf().address(),
                views.len()
            );
        }
        group.advance(&facts).await?;
        wait_for_leaders(shared, group, &unclear).await?;
    }
    group.reconciled(&server).await?;
    Ok(())
}

/// These are compared with the commits when their leaders answer.
async fn wait_for_leaders(shared: &Shared, group: &RedisGroup, unclear: &[Tp]) -> Result<(), ConsumerError> {
    if unclear.is_empty() {
        return Ok(());
    }
    let tps: Vec<_> = unclear.iter().map(|tp| (Arc::clone(&tp.topic), tp.partition)).collect();
    group.suspend(&tps).await?;
    tracing::warn!(
        "{} may be behind Kafka's commits: they are read again when their leaders say whether those hold",
        names(unclear.iter())
    );
    let now = Instant::now();
    shared.with(|state| unclear.iter().for_each(|tp| state.pending.add(tp, What::Check, None, true, now)));
    shared.late_kick.notify_one();
    Ok(())
}

/// What Kafka's commits say of positions: facts for `advance`, -1 where the commit says nothing more, and the partitions of which
/// it is not known whether the commit holds.
type Compared = (Vec<(Arc<str>, i32, u64, i64)>, Vec<Tp>);

async fn compare(
    shared: &Shared,
    group: &RedisGroup,
    views: &[PartitionView],
) -> Result<Compared, ConsumerError> {
    let asked = views.iter().map(tp_of).collect();
    let (found, hidden) = committed_as_allowed(shared, group, asked).await?;
    let is_ahead = |view: &PartitionView, commit: &CommittedOffset| {
        let remembered = decode_commit(&commit.metadata, commit.offset);
        commit.offset > view.low_watermark && remembered.is_some_and(|it| it.generation == view.generation)
    };
    let both = || views.iter().filter_map(|view| Some((view, found.get(&tp_of(view))?)));
    let ahead = both().filter(|(view, commit)| is_ahead(view, commit)).map(|(_, commit)| commit);
    let (ends, silent) = ends(shared, ahead).await;
    let (mut facts, mut unclear) = (Vec::new(), hidden);
    for (view, commit) in both() {
        let tp = tp_of(view);
        if is_ahead(view, commit) && silent.contains(&tp) {
            unclear.push(tp);
            continue;
        }
        let holds = is_ahead(view, commit) && ends.get(&tp).is_some_and(|end| *end >= commit.offset);
        if holds || view.unchecked {
            let offset = if holds { commit.offset } else { -1 };
            facts.push((tp.topic, tp.partition, view.generation, offset));
        }
    }
    Ok((facts, unclear))
}

/// Compares partitions that had to wait for that with Kafka's commits; those that still have to wait do.
pub(super) async fn check(shared: &Shared, tps: &[Tp]) -> Result<(), ConsumerError> {
    let Some(group) = mirrored(shared) else { return Ok(()) };
    let mut topics: Vec<Arc<str>> = tps.iter().map(|tp| Arc::clone(&tp.topic)).collect();
    topics.dedup();
    let views = group.partitions(&topics).await?;
    let views: Vec<_> = views.into_iter().filter(|v| v.unchecked && tps.contains(&tp_of(v))).collect();
    let (facts, unclear) = compare(shared, group, &views).await?;
    group.advance(&facts).await?;
    let now = Instant::now();
    let over = shared.with(|state| {
        let over = tps.iter().filter(|tp| !unclear.contains(tp));
        over.filter(|tp| state.pending.done(tp, What::Check, now).is_some()).collect::<Vec<_>>()
    });
    if !over.is_empty() {
        tracing::info!("{} were compared with Kafka's commits, and are read again", names(over.into_iter()));
    }
    Ok(())
}
