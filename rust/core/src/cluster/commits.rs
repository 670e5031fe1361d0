//! A group's offsets in Kafka, committed and read by one who is no member of the group.
//!
//! A coordinator takes such a commit from everybody who may READ the group and the topic, as long as the group has no members. It
//! may be sent any number of times: it says where the group stands.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::Cluster;
use super::commit_error::CommitError;
use super::coordinator::Talk;
use crate::wire::messages::{
    OffsetCommitRequest, OffsetCommitRequestPartition, OffsetCommitRequestTopic, OffsetFetchRequest,
    OffsetFetchRequestTopic, OffsetFetchResponse,
};
use crate::wire::{ErrorCode, Operation, Treatment};

/// Partitions in one request.
const PARTITIONS_MAX: usize = 1000;

/// What a request may grow to as the coordinator writes it: one batch of the topic of all offsets, which takes 1 MiB
/// (`message.max.bytes`). Where less is allowed the coordinator says so, and the request is halved.
const BATCH_MAX: usize = 512 << 10;

/// What a partition takes in that batch beyond its names and its metadata, and more.
const RECORD: usize = 80;

/// The longest metadata that the protocol takes; brokers take less (`offset.metadata.max.bytes`, 4096 by default).
const METADATA_MAX: usize = i16::MAX as usize;

/// Of a name that no topic has; see [`Cluster::may_commit`].
const NO_TOPIC: &str = "kafka-fast-no-topic";

/// An offset to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OffsetCommit {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The first offset that is not handled.
    pub offset: i64,
    /// The leader epoch of the last record handled, -1 when it is not known (KIP-320).
    pub leader_epoch: i32,
    /// Any text; brokers take 4096 characters (`offset.metadata.max.bytes`).
    pub metadata: String,
}

/// What is committed of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommittedOffset {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset; -1 when none is committed.
    pub offset: i64,
    /// The leader epoch it was committed with, -1 when the committer did not know it.
    pub leader_epoch: i32,
    /// The text it was committed with.
    pub metadata: String,
}

/// What became of one [`OffsetCommit`]: topic, partition, and the broker's error if the offset was not taken.
pub type CommitOutcome = (Arc<str>, i32, Result<(), ErrorCode>);

impl Cluster {
    /// Commits offsets to Kafka's own group of this name, as one who is no member of it. Waits until the coordinator has
    /// kept them, `timeout` in all; coordinators that move, load or do not answer are waited for. The outcomes are in the
    /// order of `commits`: `Err` is what concerns one partition alone (`UNKNOWN_TOPIC_OR_PARTITION`,
    /// `TOPIC_AUTHORIZATION_FAILED`, `OFFSET_METADATA_TOO_LARGE`, `INVALID_COMMIT_OFFSET_SIZE`), and the others were kept.
    ///
    /// Of a group without members an offset expires `offsets.retention.minutes` (7 days by default) after it was last
    /// *committed* (KIP-211): who wants it kept commits it again, also when it did not move.
    ///
    /// # Errors
    /// What concerns the whole group, see [`CommitError`]. Part of the offsets may have been kept.
    ///
    /// # Cancel safety
    /// Dropping the future may leave some of the offsets committed. After that, and after a time-out, a commit that is on
    /// its way may be carried out later, even after a newer one over another connection.
    pub async fn commit_offsets(
        &self,
        group: &str,
        commits: &[OffsetCommit],
        timeout: Duration,
    ) -> Result<Vec<CommitOutcome>, CommitError> {
        Talk::new(self, group, timeout).commit_all(commits).await
    }

    /// What is committed of these partitions to Kafka's own group of this name: one answer for each, in their order; offset
    /// -1 when none is, also when the group, the topic or the partition does not exist.
    ///
    /// What an open transaction is about to commit is not waited for (`require_stable` of KIP-447): a mirror has none, and a
    /// lower offset repeats records, but skips none.
    ///
    /// # Errors
    /// What concerns the group, or a topic whose offsets may not be read; see [`CommitError`]. Waits as
    /// [`commit_offsets`](Self::commit_offsets) does, `timeout` in all.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the answers.
    pub async fn committed_offsets(
        &self,
        group: &str,
        partitions: &[(Arc<str>, i32)],
        timeout: Duration,
    ) -> Result<Vec<CommittedOffset>, CommitError> {
        Talk::new(self, group, timeout).committed_all(partitions).await
    }

    /// Whether [`commit_offsets`](Self::commit_offsets) would be taken, without committing anything: whether this user may
    /// commit to the group, and to the topics of `partitions`, and whether the group is free of members.
    ///
    /// Members are only seen by way of a partition that exists; topics that do not exist (yet) are no error. A coordinator that
    /// had no group of this name remembers it until it next clears up (`offsets.retention.check.interval.ms`, 10 minutes):
    /// one of Kafka 4 lists none, but no share group gets the name meanwhile; older ones list an empty group without offsets.
    ///
    /// # Errors
    /// Those that commits would have; see [`CommitError`]. Waits for the coordinator, `timeout` in all.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the question.
    pub async fn may_commit(
        &self,
        group: &str,
        partitions: &[(Arc<str>, i32)],
        timeout: Duration,
    ) -> Result<(), CommitError> {
        let mut topics: Vec<(Arc<str>, i32)> = Vec::new();
        let mut seen = HashSet::new();
        topics.extend(partitions.iter().filter(|(topic, _)| seen.insert(topic)).cloned());
        Talk::new(self, group, timeout).probe(topics).await
    }
}

/// A commit that a coordinator refuses for its metadata, and for that only after it would have refused it for the group. Where
/// metadata of that size is taken (`offset.metadata.max.bytes`), what is committed already stays, or nothing (-1).
fn refusable((topic, partition): &(Arc<str>, i32), known: Option<&CommittedOffset>) -> OffsetCommit {
    let mut metadata = known.map_or_else(String::new, |k| k.metadata.clone());
    metadata.extend(std::iter::repeat_n(' ', METADATA_MAX.saturating_sub(metadata.len())));
    OffsetCommit {
        topic: topic.clone(),
        partition: *partition,
        offset: known.map_or(-1, |k| k.offset),
        leader_epoch: known.map_or(-1, |k| k.leader_epoch),
        metadata,
    }
}

/// What has to be asked again, and why.
#[derive(Debug, Default)]
struct Again {
    open: Vec<usize>,
    why: Option<Arc<str>>,
    /// In smaller requests.
    halve: bool,
}

impl Again {
    fn push(&mut self, i: usize, why: impl fmt::Display) {
        self.open.push(i);
        self.why.get_or_insert_with(|| why.to_string().into());
    }
}

/// The places of the commits that go into one request each.
fn chunks(group: &str, commits: &[OffsetCommit]) -> VecDeque<Vec<usize>> {
    let mut chunks = VecDeque::new();
    let mut chunk = Vec::new();
    let mut bytes = 0;
    for (i, commit) in commits.iter().enumerate() {
        let size = RECORD + group.len() + commit.topic.len() + commit.metadata.len();
        if !chunk.is_empty() && (bytes + size > BATCH_MAX || chunk.len() == PARTITIONS_MAX) {
            chunks.push_back(std::mem::take(&mut chunk));
            bytes = 0;
        }
        chunk.push(i);
        bytes += size;
    }
    if !chunk.is_empty() {
        chunks.push_back(chunk);
    }
    chunks
}

/// Items by topic, in the order the topics first come.
fn by_topic<'a, T>(items: impl Iterator<Item = (&'a Arc<str>, T)>) -> Vec<(Arc<str>, Vec<T>)> {
    let mut topics: Vec<(Arc<str>, Vec<T>)> = Vec::new();
    let mut places: HashMap<&str, usize> = HashMap::new();
    for (topic, item) in items {
        let place = *places.entry(topic).or_insert_with(|| {
            topics.push((topic.clone(), Vec::new()));
            topics.len() - 1
        });
        topics[place].1.push(item);
    }
    topics
}

impl Talk<'_> {
    async fn commit_all(&mut self, commits: &[OffsetCommit]) -> Result<Vec<CommitOutcome>, CommitError> {
        let mut outcomes = vec![None; commits.len()];
        let mut todo = chunks(&self.group, commits);
        let mut most = PARTITIONS_MAX;
        while let Some(mut chunk) = todo.pop_front() {
            if chunk.len() > most {
                todo.push_front(chunk.split_off(most));
            }
            let mut again = Again::default();
            let (broker, codes) = self.commit(commits, &chunk).await?;
            for (i, code) in chunk.iter().zip(codes) {
                let Some(code) = code else {
                    again.push(*i, format_args!("{broker} did not say what became of it"));
                    continue;
                };
                match code.treatment(Operation::OffsetCommit) {
                    Treatment::Done => outcomes[*i] = Some(Ok(())),
                    Treatment::FailPartition => outcomes[*i] = Some(Err(code)),
                    // One alone that is too large says so of itself.
                    Treatment::Split if chunk.len() == 1 && !code.retriable() => {
                        outcomes[*i] = Some(Err(code))
                    }
                    treatment => {
                        // UNKNOWN_SERVER_ERROR is how Kafka 4 says that the whole is too large for its batch; before it
                        // said so. It may be anything else, too.
                        let at = (&commits[*i].topic, commits[*i].partition);
                        let code = self.judge(Operation::OffsetCommit, &broker, code, Some(at))?;
                        again.push(*i, format_args!("{broker} answered {code}"));
                        again.halve |= treatment == Treatment::Split;
                    }
                }
            }
            let Some(why) = again.why else {
                self.went_well();
                continue;
            };
            self.again(&why).await?;
            if again.halve {
                most = chunk.len().div_ceil(2);
            }
            todo.push_front(again.open);
        }
        let outcome = |(c, outcome): (&OffsetCommit, Option<_>)| {
            // Every chunk is done, or has come again.
            (c.topic.clone(), c.partition, outcome.expect("each commit is in one chunk"))
        };
        Ok(commits.iter().zip(outcomes).map(outcome).collect())
    }

    async fn committed_all(
        &mut self,
        partitions: &[(Arc<str>, i32)],
    ) -> Result<Vec<CommittedOffset>, CommitError> {
        let mut found = Vec::with_capacity(partitions.len());
        for asked in partitions.chunks(PARTITIONS_MAX) {
            found.extend(self.committed(asked).await?);
        }
        Ok(found)
    }

    /// Whether commits would be taken for these partitions, each of another topic.
    async fn probe(&mut self, mut partitions: Vec<(Arc<str>, i32)>) -> Result<(), CommitError> {
        let known = self.committed_all(&partitions).await?;
        let made_up = partitions.is_empty();
        // A commit of nothing is answered before anything is looked at, one for no topic there is after the right to the
        // group was.
        if made_up {
            partitions.push((NO_TOPIC.into(), 0));
        }
        let probes: Vec<OffsetCommit> =
            partitions.iter().enumerate().map(|(i, p)| refusable(p, known.get(i))).collect();
        let outcomes = self.commit_all(&probes).await?;
        let forbidden = Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
        match outcomes.into_iter().find(|(.., outcome)| *outcome == forbidden && !made_up) {
            Some((topic, ..)) => {
                let (group, broker) = (self.group.clone(), self.broker());
                Err(CommitError::TopicNotAuthorized { group, topic, broker })
            }
            None => Ok(()),
        }
    }

    /// Commits what stands at the places of `chunk`: what the coordinator said of each, and who that is.
    async fn commit(
        &mut self,
        commits: &[OffsetCommit],
        chunk: &[usize],
    ) -> Result<(Arc<str>, Vec<Option<ErrorCode>>), CommitError> {
        let partitions = chunk.iter().map(|i| &commits[*i]).map(|c| {
            let partition = OffsetCommitRequestPartition {
                partition_index: c.partition,
                committed_offset: c.offset,
                committed_leader_epoch: c.leader_epoch,
                committed_metadata: Some(c.metadata.as_str().into()),
            };
            (&c.topic, partition)
        });
        let topic = |(name, partitions)| OffsetCommitRequestTopic { name, partitions, ..Default::default() };
        let request = OffsetCommitRequest {
            group_id: self.group.clone(),
            topics: by_topic(partitions).into_iter().map(topic).collect(),
            ..Default::default()
        };
        let (broker, answer) = self.ask(&request).await?;
        let codes: HashMap<(&str, i32), ErrorCode> = (answer.topics.iter())
            .flat_map(|t| {
                t.partitions.iter().map(|p| ((&*t.name, p.partition_index), ErrorCode(p.error_code)))
            })
            .collect();
        let code = |i: &usize| codes.get(&(&*commits[*i].topic, commits[*i].partition)).copied();
        Ok((broker, chunk.iter().map(code).collect()))
    }

    /// What is committed of some partitions, as many as go into one request.
    async fn committed(&mut self, asked: &[(Arc<str>, i32)]) -> Result<Vec<CommittedOffset>, CommitError> {
        let topic = |(name, partition_indexes)| OffsetFetchRequestTopic {
            name,
            partition_indexes,
            ..Default::default()
        };
        let topics = by_topic(asked.iter().map(|(topic, partition)| (topic, *partition)));
        let request = OffsetFetchRequest {
            group_id: self.group.clone(),
            topics: Some(topics.into_iter().map(topic).collect()),
            ..Default::default()
        };
        loop {
            let (broker, answer) = self.ask(&request).await?;
            match self.take(&broker, asked, &answer)? {
                Ok(found) => {
                    self.went_well();
                    return Ok(found);
                }
                Err(why) => self.again(&why).await?,
            }
        }
    }

    /// An answer's offsets in the order of the questions, or why it has to be asked for again.
    fn take(
        &self,
        broker: &Arc<str>,
        asked: &[(Arc<str>, i32)],
        answer: &OffsetFetchResponse,
    ) -> Result<Result<Vec<CommittedOffset>, Arc<str>>, CommitError> {
        if answer.error_code != 0 {
            let code = ErrorCode(answer.error_code);
            let code = self.judge(Operation::OffsetFetch, broker, code, None)?;
            return Ok(Err(format!("{broker} answered {code}").into()));
        }
        let answers: HashMap<(&str, i32), _> = (answer.topics.iter())
            .flat_map(|t| t.partitions.iter().map(|p| ((&*t.name, p.partition_index), p)))
            .collect();
        let mut found = Vec::with_capacity(asked.len());
        for (topic, partition) in asked {
            let Some(p) = answers.get(&(&**topic, *partition)) else {
                return Ok(Err(format!("{broker} said nothing of {topic}/{partition}").into()));
            };
            let code = ErrorCode(p.error_code);
            if code == ErrorCode::TOPIC_AUTHORIZATION_FAILED {
                let (group, topic, broker) = (self.group.clone(), topic.clone(), broker.clone());
                return Err(CommitError::TopicNotAuthorized { group, topic, broker });
            }
            if code.treatment(Operation::OffsetFetch) != Treatment::Done {
                let at = Some((topic, *partition));
                let code = self.judge(Operation::OffsetFetch, broker, code, at)?;
                return Ok(Err(format!("{broker} answered {code} for {topic}/{partition}").into()));
            }
            let there = p.error_code == 0 && p.committed_offset >= 0;
            found.push(CommittedOffset {
                topic: topic.clone(),
                partition: *partition,
                offset: if there { p.committed_offset } else { -1 },
                leader_epoch: if there { p.committed_leader_epoch } else { -1 },
                metadata: p.metadata.as_deref().filter(|_| there).unwrap_or("").to_owned(),
            });
        }
        Ok(Ok(found))
    }
}
