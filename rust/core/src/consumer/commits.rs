//! A mirrored group's commits in Kafka: read, written, and believed as far as the log still is what they were about.
//!
//! A leader that has the commit's epoch end below the offset has lost those records, and others stand there now (KIP-320). When commits
//! are written is [`super::mirror`]'s business; what it means when somebody else wrote one is [`super::foreign`]'s.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use super::error::ConsumerError;
use super::publish::{Asked, epoch_ends};
use super::shared::Shared;
use super::state::Tp;
use crate::cluster::{CommitError, CommittedOffset, OffsetCommit};
use crate::group::{
    Coordinator, Init, PartitionView, RedisGroup, decode_commit, encode_commit, is_foreign_commit,
};
use crate::wire::Uuid;

/// How long leaders have to say whether commits hold, before their partitions wait for that alone.
pub(super) const LEADERS_WITHIN: Duration = Duration::from_secs(3);

/// The group, if it is mirrored.
pub(super) fn mirrored(shared: &Shared) -> Option<&Arc<RedisGroup>> {
    match &shared.coordinator {
        Coordinator::Redis(group) if group.conf().mirror => Some(group),
        _ => None,
    }
}

pub(super) fn name(group: &RedisGroup) -> Arc<str> {
    group.conf().group.as_str().into()
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
pub(super) async fn committed_as_allowed(
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

/// Whether a commit is there and the group did not write it.
pub(super) fn is_foreign(commit: &CommittedOffset) -> bool {
    commit.offset >= 0 && is_foreign_commit(&commit.metadata, commit.offset)
}

/// What is committed of a partition, with what is done above its low watermark.
pub(super) fn commit(view: &PartitionView, done: &[(i64, i64)]) -> OffsetCommit {
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
        let foreign = found.iter().filter(|(_, commit)| is_foreign(commit));
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

pub(super) fn tp_of(view: &PartitionView) -> Tp {
    Tp { topic: Arc::clone(&view.topic), partition: view.partition }
}

/// Where the epochs of commits end in the logs of today, and those whose leader does not say.
pub(super) async fn ends<'a>(
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
