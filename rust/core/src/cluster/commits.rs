//! A group's offsets in Kafka: committed and read by one who is no member of the group.
//!
//! The broker that keeps them - the group's coordinator - is asked for, remembered, and asked for again when it says that
//! it is not the one (any more). A commit of offsets may be repeated: it says where the group stands, not what was added.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until};

use super::{Cluster, Purpose};
use crate::error::ErrorKind;
use crate::net::{BackOff, CallError, Span};
use crate::wire::messages::{
    FindCoordinatorRequest, OffsetCommitPartition, OffsetCommitRequest, OffsetCommitTopic,
    OffsetFetchRequest, OffsetFetchTopic,
};
use crate::wire::{ErrorCode, Request};

/// Pause between two tries.
const TRY_AGAIN: BackOff = BackOff::new(Duration::from_millis(50), Duration::from_secs(1));
/// Partitions in one request: each may carry 4 KB of metadata, and brokers take a commit as one batch of at most 1 MB
/// (`message.max.bytes`).
const AT_ONCE: usize = 200;
/// Partitions read in one request.
const READ_AT_ONCE: usize = 2_000;

/// An offset to commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Commit {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The first offset not handled.
    pub offset: i64,
    /// The leader epoch of what was handled, -1 if not known (KIP-320).
    pub leader_epoch: i32,
    /// Whatever the committer wants to find again; brokers take 4096 bytes (`offset.metadata.max.bytes`).
    pub metadata: String,
}

/// Why offsets were not committed or read.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CommitError {
    /// The user may not use the group.
    #[error(
        "This user may not use consumer group \"{group}\" (GROUP_AUTHORIZATION_FAILED): grant READ on the group, or set \
         mirror off (then losing Redis loses the positions)"
    )]
    GroupNotAuthorized {
        /// The group.
        group: Arc<str>,
    },
    /// The user may not commit a topic's offsets.
    #[error(
        "This user may not commit offsets of topic \"{topic}\" to group \"{group}\" (TOPIC_AUTHORIZATION_FAILED): grant READ on \
         the topic"
    )]
    TopicNotAuthorized {
        /// The group.
        group: Arc<str>,
        /// The topic.
        topic: Arc<str>,
    },
    /// Other clients are members of a Kafka group of that name.
    #[error(
        "Kafka has a group \"{group}\" that other clients are members of ({code}): choose another name, end those clients, or set \
         mirror off"
    )]
    InUse {
        /// The group.
        group: Arc<str>,
        /// What the broker said.
        code: ErrorCode,
    },
    /// The broker refuses for another reason.
    #[error("Group \"{group}\": the broker refuses to keep or tell offsets: {code}")]
    Refused {
        /// The group.
        group: Arc<str>,
        /// What the broker said.
        code: ErrorCode,
    },
    /// The coordinator was not found or did not answer in time.
    #[error("Group \"{group}\": offsets were neither kept nor told within {}: {error}", Span(*.within))]
    Timeout {
        /// The group.
        group: Arc<str>,
        /// How long was tried.
        within: Duration,
        /// What the last try failed with.
        error: Arc<str>,
    },
    /// The cluster was closed.
    #[error("the client was closed")]
    Closed,
}

impl CommitError {
    /// The class of the error.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::GroupNotAuthorized { .. } | Self::TopicNotAuthorized { .. } => ErrorKind::Authorization,
            Self::InUse { .. } => ErrorKind::Config,
            Self::Refused { .. } => ErrorKind::Group,
            Self::Timeout { .. } => ErrorKind::Timeout,
            Self::Closed => ErrorKind::Closed,
        }
    }
}

/// What became of one try.
enum Tried<R> {
    Done(R),
    /// Another broker, or later.
    Again(Arc<str>),
}

impl Cluster {
    /// Commits offsets to Kafka's own group of this name, as one who is no member: the group must have none. All are kept, or
    /// an error says why some are not.
    ///
    /// Coordinators that move, load or are away are waited for, `timeout` in all.
    ///
    /// # Cancel safety
    /// Dropping the future may leave some of the offsets committed. Committing again is harmless.
    pub async fn commit_offsets(
        &self,
        group: &Arc<str>,
        commits: &[Commit],
        timeout: Duration,
    ) -> Result<(), CommitError> {
        let deadline = Instant::now() + timeout;
        for commits in commits.chunks(AT_ONCE) {
            let mut topics: Vec<OffsetCommitTopic> = Vec::new();
            let mut places: HashMap<&str, usize> = HashMap::new();
            for commit in commits {
                let place = *places.entry(&commit.topic).or_insert_with(|| {
                    topics
                        .push(OffsetCommitTopic { name: Arc::clone(&commit.topic), partitions: Vec::new() });
                    topics.len() - 1
                });
                topics[place].partitions.push(OffsetCommitPartition {
                    partition_index: commit.partition,
                    committed_offset: commit.offset,
                    committed_leader_epoch: commit.leader_epoch,
                    committed_metadata: Some(commit.metadata.as_str().into()),
                });
            }
            let group_id = Arc::clone(group);
            let request = OffsetCommitRequest {
                group_id,
                generation_id_or_member_epoch: -1,
                topics,
                ..Default::default()
            };
            self.ask_coordinator(group, &request, deadline, timeout, |answer| {
                let codes = answer.topics.iter().flat_map(|topic| {
                    topic.partitions.iter().map(|p| (&topic.name, ErrorCode(p.error_code)))
                });
                let mut again = None;
                for (topic, code) in codes.filter(|(_, code)| *code != ErrorCode::NONE) {
                    // A partition that was deleted meanwhile has no position to keep.
                    if code == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION {
                        continue;
                    }
                    again = Some(judge(group, Some(topic), code)?);
                }
                Ok(again.map_or(Tried::Done(()), Tried::Again))
            })
            .await?;
        }
        Ok(())
    }

    /// What is committed of these partitions, in their order; `None` for those that nothing is committed of. Brokers, time-outs
    /// and cancelling as [`commit_offsets`](Self::commit_offsets).
    pub async fn committed_offsets(
        &self,
        group: &Arc<str>,
        partitions: &[(Arc<str>, i32)],
        timeout: Duration,
    ) -> Result<Vec<Option<Commit>>, CommitError> {
        let deadline = Instant::now() + timeout;
        let mut found: HashMap<(Arc<str>, i32), Commit> = HashMap::new();
        for wanted in partitions.chunks(READ_AT_ONCE) {
            let mut topics: Vec<OffsetFetchTopic> = Vec::new();
            for (topic, partition) in wanted {
                match topics.iter_mut().find(|t| t.name == *topic) {
                    Some(topic) => topic.partition_indexes.push(*partition),
                    None => topics.push(OffsetFetchTopic {
                        name: Arc::clone(topic),
                        partition_indexes: vec![*partition],
                    }),
                }
            }
            let request = OffsetFetchRequest { group_id: Arc::clone(group), topics, require_stable: false };
            let answer = self.ask_coordinator(group, &request, deadline, timeout, |answer| {
                let code = ErrorCode(answer.error_code);
                if code != ErrorCode::NONE {
                    return Ok(Tried::Again(judge(group, None, code)?));
                }
                let partitions =
                    answer.topics.iter().flat_map(|t| t.partitions.iter().map(move |p| (&t.name, p)));
                for (topic, p) in partitions {
                    let code = ErrorCode(p.error_code);
                    if code != ErrorCode::NONE && code != ErrorCode::UNKNOWN_TOPIC_OR_PARTITION {
                        return Ok(Tried::Again(judge(group, Some(topic), code)?));
                    }
                }
                Ok(Tried::Done(answer.topics))
            });
            for topic in answer.await? {
                for p in topic.partitions.into_iter().filter(|p| p.committed_offset >= 0) {
                    let (topic, metadata) =
                        (Arc::clone(&topic.name), p.metadata.as_deref().unwrap_or("").to_owned());
                    let (partition, offset, leader_epoch) =
                        (p.partition_index, p.committed_offset, p.committed_leader_epoch);
                    let commit =
                        Commit { topic: Arc::clone(&topic), partition, offset, leader_epoch, metadata };
                    found.insert((topic, partition), commit);
                }
            }
        }
        Ok(partitions.iter().map(|tp| found.remove(tp)).collect())
    }

    /// Asks the group's coordinator until it answers to the point.
    async fn ask_coordinator<R: Request, T>(
        &self,
        group: &Arc<str>,
        request: &R,
        deadline: Instant,
        within: Duration,
        take: impl Fn(R::Response) -> Result<Tried<T>, CommitError>,
    ) -> Result<T, CommitError> {
        let mut pause = TRY_AGAIN;
        loop {
            let why = match self.ask_once(group, request, deadline).await {
                Ok(answer) => match take(answer)? {
                    Tried::Done(done) => return Ok(done),
                    Tried::Again(why) => why,
                },
                Err(CallError::Closed) => return Err(CommitError::Closed),
                Err(error) => error.to_string().into(),
            };
            self.inner().coordinators.lock().remove(group);
            let again = Instant::now() + pause.fail();
            if again >= deadline {
                return Err(CommitError::Timeout { group: Arc::clone(group), within, error: why });
            }
            sleep_until(again).await;
        }
    }

    async fn ask_once<R: Request>(
        &self,
        group: &Arc<str>,
        request: &R,
        deadline: Instant,
    ) -> Result<R::Response, CallError> {
        let left = || deadline.saturating_duration_since(Instant::now()).min(self.inner().request_timeout);
        let known = self.inner().coordinators.lock().get(group).copied();
        let node = match known {
            Some(node) => node,
            None => {
                let question = FindCoordinatorRequest { key: Arc::clone(group), key_type: 0 };
                let answer = self.call_any(Purpose::Control, &question, left()).await?;
                // One that is not there yet has id -1, and is not known to us.
                self.inner().coordinators.lock().insert(Arc::clone(group), answer.node_id);
                answer.node_id
            }
        };
        self.call(node, Purpose::Control, request, left()).await
    }
}

/// Whether an error is for good; else its name.
fn judge(group: &Arc<str>, topic: Option<&Arc<str>>, code: ErrorCode) -> Result<Arc<str>, CommitError> {
    let group = Arc::clone(group);
    Err(match code {
        ErrorCode::GROUP_AUTHORIZATION_FAILED => CommitError::GroupNotAuthorized { group },
        ErrorCode::TOPIC_AUTHORIZATION_FAILED => {
            CommitError::TopicNotAuthorized { group, topic: topic.map_or_else(|| "".into(), Arc::clone) }
        }
        ErrorCode::UNKNOWN_MEMBER_ID
        | ErrorCode::ILLEGAL_GENERATION
        | ErrorCode::REBALANCE_IN_PROGRESS
        | ErrorCode::FENCED_MEMBER_EPOCH
        | ErrorCode::STALE_MEMBER_EPOCH
        | ErrorCode::GROUP_ID_NOT_FOUND => CommitError::InUse { group, code },
        code if code.retriable() => return Ok(code.to_string().into()),
        code => CommitError::Refused { group, code },
    })
}
