//! The mirror: a Redis group's positions, committed to Kafka's own group of the same name.
//!
//! The organiser commits what has changed every `offset-commit-freq`, and everything every few minutes: brokers forget the offsets
//! of a group without members (KIP-211), and whoever connects or ends commits too, perhaps something a moment older. Two things follow: every tool shows the group's lag, and Redis can be lost.
//! When it was, partitions start where the commits say ([`Commits`]); when another Redis took over, which may lack the latest
//! writes, what it holds is brought up to the commits before it hands anything out ([`reconcile`]).
//!
//! A commit is believed as far as the log still is what it was about: a leader that has the commit's epoch end below the
//! offset has lost those records, and others stand there now (KIP-320).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::error::ConsumerError;
use super::foreign;
use super::pending::{What, names};
use super::publish::{Asked, epoch_ends};
use super::shared::{Alarm, Shared};
use super::state::Tp;
use crate::cluster::{CommitError, CommittedOffset, OffsetCommit};
use crate::group::{Coordinator, GroupError, Init, PartitionView, RedisGroup, decode_commit, encode_commit};
use crate::log_rate;
use crate::wire::{ErrorCode, Uuid};

/// How often all positions are committed, changed or not.
const ALL_EVERY: Duration = Duration::from_secs(300);
/// How long leaders have to say whether commits hold, before their partitions wait for that alone.
const LEADERS_WITHIN: Duration = Duration::from_secs(3);
/// How long a commit may take when a consumer ends.
const LAST_WITHIN: Duration = Duration::from_secs(2);

/// The group, if it is mirrored.
pub(super) fn mirrored(shared: &Shared) -> Option<&Arc<RedisGroup>> {
    match &shared.coordinator {
        Coordinator::Redis(group) if group.conf().mirror => Some(group),
        _ => None,
    }
}

fn name(group: &RedisGroup) -> Arc<str> {
    group.conf().group.as_str().into()
}

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

/// Commits where these partitions stand, at once: all of it was handled up to there, and perhaps more.
pub(super) async fn commit_now(
    shared: &Shared,
    group: &RedisGroup,
    views: &[PartitionView],
) -> Result<(), CommitError> {
    let commits: Vec<OffsetCommit> = views.iter().map(|view| commit(view, &[])).collect();
    let outcomes =
        shared.cluster.commit_offsets(&name(group), &commits, shared.conf.metadata_timeout).await?;
    match outcomes
        .into_iter()
        .find_map(|(topic, partition, outcome)| Some((topic, partition, outcome.err()?)))
    {
        Some((topic, partition, code)) => Err(CommitError::of_partition(name(group), topic, partition, code)),
        None => Ok(()),
    }
}

/// What is committed of these partitions, as far as something is and this user may know it.
pub(super) async fn committed(
    shared: &Shared,
    group: &RedisGroup,
    tps: &[Tp],
) -> Result<impl Iterator<Item = (Tp, CommittedOffset)> + use<>, CommitError> {
    let (found, _) = committed_as_allowed(shared, group, tps.to_vec()).await?;
    Ok(found.into_iter().filter(|(_, commit)| commit.offset >= 0))
}

/// What is committed of partitions, and those of topics of which this user may not know that: others of the group may.
async fn committed_as_allowed(
    shared: &Shared,
    group: &RedisGroup,
    mut asked: Vec<Tp>,
) -> Result<(HashMap<Tp, CommittedOffset>, Vec<Tp>), CommitError> {
    let mut hidden = Vec::new();
    loop {
        match committed_within(shared, group, &asked, shared.conf.metadata_timeout).await {
            // One topic less, so this ends.
            Err(CommitError::TopicNotAuthorized { topic, .. })
                if asked.iter().any(|tp| tp.topic == topic) =>
            {
                hidden.extend(asked.extract_if(.., |tp| tp.topic == topic));
            }
            Err(error) => return Err(error),
            Ok(found) => return Ok((found, hidden)),
        }
    }
}

async fn committed_within(
    shared: &Shared,
    group: &RedisGroup,
    tps: &[Tp],
    timeout: Duration,
) -> Result<HashMap<Tp, CommittedOffset>, CommitError> {
    let asked: Vec<_> = tps.iter().map(|tp| (Arc::clone(&tp.topic), tp.partition)).collect();
    let found = shared.cluster.committed_offsets(&name(group), &asked, timeout).await?;
    Ok(tps.iter().cloned().zip(found).collect())
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

fn commit(view: &PartitionView, done: &[(i64, i64)]) -> OffsetCommit {
    OffsetCommit {
        topic: Arc::clone(&view.topic),
        partition: view.partition,
        offset: view.low_watermark,
        leader_epoch: view.leader_epoch,
        metadata: encode_commit(view.generation, view.topic_id, view.low_watermark, done),
    }
}

/// Where commits say that partitions stand.
pub(super) struct Commits {
    found: HashMap<Tp, CommittedOffset>,
    /// Those that somebody else made, and their offsets.
    foreign: HashMap<Tp, i64>,
    /// Those whose leader did not say whether their log still is what they are about.
    unclear: HashSet<Tp>,
}

impl Commits {
    /// Reads those of partitions whose starts are `known`, and of those that are `to_start`, whose leaders are asked whether they
    /// hold; none for a group that is not mirrored. Waits for the coordinator, `timeout` in all.
    pub(super) async fn read(
        shared: &Shared,
        known: &[Tp],
        to_start: &[Tp],
        timeout: Duration,
    ) -> Result<Self, ConsumerError> {
        let Some(group) = mirrored(shared) else {
            return Ok(Self { found: HashMap::new(), foreign: HashMap::new(), unclear: HashSet::new() });
        };
        let tps: Vec<Tp> = known.iter().chain(to_start).cloned().collect();
        let mut found = committed_within(shared, group, &tps, timeout).await?;
        found.retain(|_, commit| commit.offset >= 0);
        found.retain(|_, commit| {
            let topic = shared.cluster.cached_topic(&commit.topic).map_or_else(Uuid::default, |meta| meta.id);
            let of =
                decode_commit(&commit.metadata, commit.offset).map_or(topic, |remembered| remembered.topic);
            // That of a topic which had this name before is about other records.
            of == topic || of.is_zero() || topic.is_zero()
        });
        let foreign = found.iter().filter(|(_, commit)| foreign::is_foreign(commit));
        let foreign: HashMap<Tp, i64> = foreign.map(|(tp, commit)| (tp.clone(), commit.offset)).collect();
        let counts = to_start.iter().chain(known.iter().filter(|tp| foreign.contains_key(tp)));
        let (ends, unclear) = ends(shared, counts.filter_map(|tp| found.get(tp))).await;
        for (tp, commit) in &mut found {
            if let Some(end) = ends.get(tp).copied().filter(|end| *end < commit.offset) {
                // Its records from there on are gone, and so is what is known of them.
                (commit.offset, commit.metadata) = (end, String::new());
            }
        }
        Ok(Self { found, foreign, unclear })
    }

    /// Whether a partition starts where it was committed.
    pub(super) fn has(&self, start: &Init) -> bool {
        self.found.contains_key(&Tp { topic: Arc::clone(&start.topic), partition: start.partition })
    }

    /// Where somebody else than the group committed a partition.
    pub(super) fn foreign(&self, tp: &Tp) -> Option<i64> {
        self.foreign.get(tp).copied()
    }

    /// Why it is not known yet where a partition stands, if it is not.
    pub(super) fn is_unclear(&self, tp: &Tp) -> Option<Arc<str>> {
        let why = "its leader does not say whether the log holds what was committed";
        self.unclear.contains(tp).then(|| why.into())
    }

    /// Where a partition stands whose log ends at `end`, and what is done above that.
    pub(super) fn start(&self, tp: &Tp, end: i64) -> Option<(i64, Vec<(i64, i64)>)> {
        let commit = self.found.get(tp)?;
        let done = decode_commit(&commit.metadata, commit.offset)
            .map_or_else(Vec::new, |remembered| remembered.done);
        let done = done.into_iter().filter(|(_, to)| *to <= end).collect();
        Some((commit.offset.min(end), done))
    }

    /// Makes sure, before anything is read, that positions can be committed: commits those that have none.
    pub(super) async fn begin(&self, shared: &Shared, views: &[PartitionView]) -> Result<(), ConsumerError> {
        let Some(group) = mirrored(shared) else { return Ok(()) };
        let tps: Vec<_> = views.iter().map(|view| (Arc::clone(&view.topic), view.partition)).collect();
        let timeout = shared.conf.metadata_timeout;
        shared.cluster.may_commit(&name(group), &tps, timeout).await?;
        self.commit_new(shared, group, views.iter()).await
    }

    /// Commits those of `started` that have no commit: a Redis that loses them is to find where they began.
    pub(super) async fn keep(
        &self,
        shared: &Shared,
        views: &[PartitionView],
        started: &[Tp],
    ) -> Result<(), ConsumerError> {
        let Some(group) = mirrored(shared) else { return Ok(()) };
        let is_of = |view: &&PartitionView| started.contains(&tp_of(view));
        self.commit_new(shared, group, views.iter().filter(is_of)).await
    }

    async fn commit_new(
        &self,
        shared: &Shared,
        group: &RedisGroup,
        views: impl Iterator<Item = &PartitionView>,
    ) -> Result<(), ConsumerError> {
        let views = views.filter(|view| !self.found.contains_key(&tp_of(view)) && !view.unchecked);
        let commits: Vec<OffsetCommit> = views.map(|view| commit(view, &[])).collect();
        if !commits.is_empty() {
            let timeout = shared.conf.metadata_timeout;
            shared.cluster.commit_offsets(&name(group), &commits, timeout).await?;
        }
        Ok(())
    }
}

fn tp_of(view: &PartitionView) -> Tp {
    Tp { topic: Arc::clone(&view.topic), partition: view.partition }
}

/// Where the epochs of commits end in the logs of today, and those whose leader does not say.
async fn ends<'a>(
    shared: &Shared,
    commits: impl Iterator<Item = &'a CommittedOffset>,
) -> (HashMap<Tp, i64>, HashSet<Tp>) {
    let asked = commits.filter(|commit| commit.leader_epoch >= 0).map(|commit| {
        let tp = Tp { topic: Arc::clone(&commit.topic), partition: commit.partition };
        let current = shared.cluster.leader(&tp.topic, tp.partition).map_or(-1, |leader| leader.epoch);
        Asked { tp, current, epoch: commit.leader_epoch }
    });
    let asked: Vec<Asked> = asked.collect();
    let found = epoch_ends(shared, &asked, LEADERS_WITHIN).await;
    let ends = found.ends.into_iter().map(|(asked, end)| (asked.tp.clone(), end)).collect();
    (ends, found.silent.into_iter().map(|asked| asked.tp.clone()).collect())
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
