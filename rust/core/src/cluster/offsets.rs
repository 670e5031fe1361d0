//! Offsets of many partitions: one request a leader, tried again where a leader has moved.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::error::OffsetsError;
use super::{Cluster, Purpose};
use crate::config::Isolation;
use crate::net::{BackOff, CallError};
use crate::wire::messages::{
    ListOffsetsPartition, ListOffsetsRequest, ListOffsetsResponse, ListOffsetsTopic,
};
use crate::wire::{ErrorCode, Operation, Treatment};

/// Pause between two tries.
const TRY_AGAIN: BackOff = BackOff::new(Duration::from_millis(50), Duration::from_secs(1));

/// A leader that has not answered after this long may not be the leader any more: the metadata says.
const SILENT_AFTER: Duration = Duration::from_secs(1);

/// Which offset of a partition is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetAt {
    /// The oldest record there is.
    Earliest,
    /// The end: the high watermark, or the last stable offset under [`Isolation::ReadCommitted`].
    Latest,
    /// The first record of at least this timestamp, in milliseconds since 1970. A negative one is as 0.
    Timestamp(i64),
    /// The record with the largest timestamp (KIP-734), -1 in an empty log. Brokers since Kafka 3.0.
    MaxTimestamp,
    /// The oldest record on the leader's own disk, where older ones are in tiered storage (KIP-405); else as
    /// [`Earliest`](Self::Earliest). Brokers since Kafka 3.5.
    EarliestLocal,
}

impl OffsetAt {
    const fn wire(self) -> i64 {
        match self {
            Self::Earliest => -2,
            Self::Latest => -1,
            // Below 0 are the other questions.
            Self::Timestamp(ms) if ms < 0 => 0,
            Self::Timestamp(ms) => ms,
            Self::MaxTimestamp => -3,
            Self::EarliestLocal => -4,
        }
    }
}

/// One question of [`Cluster::list_offsets`].
#[derive(Debug, Clone)]
pub struct OffsetQuery {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// Which offset.
    pub at: OffsetAt,
}

/// One answer of [`Cluster::list_offsets`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset; -1 when no record is that young.
    pub offset: i64,
    /// The record's timestamp, -1 when the broker does not say.
    pub timestamp: i64,
    /// The leader epoch of the record, -1 when the broker does not say.
    pub leader_epoch: i32,
}

/// How long leaders are waited for. What those said that answer counts also when others do not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    /// In all, as long as nothing is known.
    pub(crate) all: Duration,
    /// Once something is known: for a partition to have a leader,
    pub(crate) leaderless: Duration,
    /// and for a leader to answer.
    pub(crate) silent: Duration,
    /// Whether something is known to begin with, so that the answers of none are needed to go on.
    pub(crate) is_some_known: bool,
}

impl Patience {
    const fn whole(timeout: Duration) -> Self {
        Self { all: timeout, leaderless: timeout, silent: timeout, is_some_known: false }
    }
}

impl Cluster {
    /// The offsets asked for, in the order of `queries`: all, or an error.
    ///
    /// Leaders that moved, are gone or not elected yet are waited for, `timeout` in all.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the answers.
    pub async fn list_offsets(
        &self,
        queries: &[OffsetQuery],
        isolation: Isolation,
        timeout: Duration,
    ) -> Result<Vec<ListedOffset>, OffsetsError> {
        let mut asking = Asking::new(self, queries, isolation);
        asking.fails_at_once = true;
        asking.run(Patience::whole(timeout)).await?;
        asking.answers(timeout).into_iter().collect()
    }

    /// The offsets asked for, in the order of `queries`, each or why it is not known: one leader that does not answer keeps
    /// nobody from the answers of the others.
    ///
    /// # Errors
    /// [`OffsetsError::Closed`].
    pub(crate) async fn list_offsets_each(
        &self,
        queries: &[OffsetQuery],
        isolation: Isolation,
        patience: Patience,
    ) -> Result<Vec<Result<ListedOffset, OffsetsError>>, OffsetsError> {
        let begin = Instant::now();
        let mut asking = Asking::new(self, queries, isolation);
        asking.run(patience).await?;
        // In whole milliseconds, for people.
        Ok(asking.answers(Duration::from_millis(begin.elapsed().as_millis() as u64)))
    }
}

/// Who was asked, about which queries, and what came of it.
type Called = (i32, Vec<(usize, i32)>, Result<ListOffsetsResponse, CallError>);

/// Questions to many leaders at the same time. A leader that is silent may not be the leader any more: while its answer is
/// waited for the metadata is asked, and who leads now is asked too.
struct Asking<'a> {
    cluster: &'a Cluster,
    queries: &'a [OffsetQuery],
    isolation: Isolation,
    fails_at_once: bool,
    found: Vec<Option<Result<ListedOffset, OffsetsError>>>,
    /// Who has been asked last and did not answer yet.
    asked: Vec<Option<i32>>,
    why: HashMap<usize, Arc<str>>,
    calls: JoinSet<Called>,
}

impl<'a> Asking<'a> {
    fn new(cluster: &'a Cluster, queries: &'a [OffsetQuery], isolation: Isolation) -> Self {
        Self {
            cluster,
            queries,
            isolation,
            fails_at_once: false,
            found: vec![None; queries.len()],
            asked: vec![None; queries.len()],
            why: HashMap::new(),
            calls: JoinSet::new(),
        }
    }

    fn open(&self) -> impl Iterator<Item = usize> + '_ {
        (0..self.queries.len()).filter(|i| self.found[*i].is_none())
    }

    /// Asks until all is known or patience ends.
    async fn run(&mut self, patience: Patience) -> Result<(), OffsetsError> {
        let begin = Instant::now();
        let mut pause = TRY_AGAIN;
        let mut again = None;
        self.ask();
        let mut look = begin + SILENT_AFTER;
        while self.open().next().is_some() {
            let is_any_refused = self.open().any(|i| self.asked[i].is_none());
            if is_any_refused && again.is_none() {
                again = Some(Instant::now() + pause.fail());
            }
            let limit = begin + self.limit(patience);
            let next = again.unwrap_or(look).min(look).min(limit);
            tokio::select! {
                biased;
                Some(done) = self.calls.join_next() => {
                    self.take(done)?;
                    continue;
                }
                () = sleep_until(next) => {}
            }
            if Instant::now() >= limit {
                break;
            }
            self.refresh(limit).await?;
            self.ask();
            (again, look) = (None, Instant::now() + SILENT_AFTER);
        }
        Ok(())
    }

    fn limit(&self, patience: Patience) -> Duration {
        let is_known = patience.is_some_known || self.found.iter().any(|found| matches!(found, Some(Ok(_))));
        if !is_known {
            patience.all
        } else if self.open().any(|i| self.cluster.leader_of(&self.queries[i]).is_some()) {
            patience.silent
        } else {
            patience.leaderless
        }
    }

    /// Looks for the leaders of what is not known yet. Answers are taken meanwhile.
    async fn refresh(&mut self, limit: Instant) -> Result<(), OffsetsError> {
        let topics: BTreeSet<Arc<str>> = self.open().map(|i| Arc::clone(&self.queries[i].topic)).collect();
        let names: Vec<Arc<str>> = topics.into_iter().collect();
        let left = limit.saturating_duration_since(Instant::now());
        let cluster = self.cluster;
        let mut refreshed = std::pin::pin!(cluster.refresh(&names, left));
        let refreshed = loop {
            tokio::select! {
                refreshed = &mut refreshed => break refreshed,
                Some(done) = self.calls.join_next() => {
                    self.take(done)?;
                    if self.open().next().is_none() {
                        return Ok(());
                    }
                }
            }
        };
        match refreshed {
            Err(super::TopicError::Closed) => Err(OffsetsError::Closed),
            Err(error) => {
                let open: Vec<usize> = self.open().collect();
                for i in open {
                    self.why.entry(i).or_insert_with(|| error.to_string().into());
                }
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// Asks leaders for what is not known and what they have not been asked yet, all at the same time.
    fn ask(&mut self) {
        for ((node, _), group) in self.group() {
            group.iter().for_each(|(i, _)| self.asked[*i] = Some(node));
            let timeout = self.cluster.inner().request_timeout;
            let request = request(self.queries, &group, self.isolation, timeout);
            let cluster = self.cluster.clone();
            self.calls.spawn(async move {
                let answer = cluster.call(node, Purpose::Control, &request, timeout).await;
                (node, group, answer)
            });
        }
    }

    /// Questions that fit into one request: (place among the queries, leader epoch). A request cannot carry one partition
    /// twice, so the second question about it goes into a second request to the same leader.
    fn group(&mut self) -> BTreeMap<(i32, usize), Vec<(usize, i32)>> {
        let mut groups: BTreeMap<(i32, usize), Vec<(usize, i32)>> = BTreeMap::new();
        let mut seen: HashMap<(&str, i32), usize> = HashMap::new();
        for (i, query) in self.queries.iter().enumerate().filter(|(i, _)| self.found[*i].is_none()) {
            match self.cluster.leader_of(query) {
                Some(leader) if self.asked[i] == Some(leader.node) => {}
                Some(leader) => {
                    let times = seen.entry((&query.topic, query.partition)).or_default();
                    groups.entry((leader.node, *times)).or_default().push((i, leader.epoch));
                    *times += 1;
                }
                None => drop(self.why.insert(i, "the partition has no leader, or does not exist".into())),
            }
        }
        groups
    }

    /// Takes in what a call came to.
    fn take(&mut self, done: Result<Called, tokio::task::JoinError>) -> Result<(), OffsetsError> {
        // A task ends otherwise only with the runtime.
        let Ok((node, group, answer)) = done else { return Err(OffsetsError::Closed) };
        let broker = self.cluster.name_of(node);
        match answer {
            Ok(response) => self.take_answer(node, &group, &broker, &response)?,
            Err(error @ CallError::Unsupported { .. }) => {
                for (i, _) in &group {
                    self.fail(*i, OffsetsError::Unsupported { error: error.clone() })?;
                }
            }
            Err(error) => {
                let error: Arc<str> = error.to_string().into();
                group.iter().for_each(|(i, _)| drop(self.why.insert(*i, Arc::clone(&error))));
            }
        }
        for (i, _) in group {
            // Another leader may have been asked meanwhile.
            self.asked[i] = self.asked[i].filter(|asked| *asked != node);
        }
        Ok(())
    }

    fn fail(&mut self, i: usize, error: OffsetsError) -> Result<(), OffsetsError> {
        if self.fails_at_once {
            return Err(error);
        }
        self.found[i].get_or_insert(Err(error));
        Ok(())
    }

    /// Puts an answer's offsets in their places.
    fn take_answer(
        &mut self,
        node: i32,
        group: &[(usize, i32)],
        broker: &Arc<str>,
        response: &ListOffsetsResponse,
    ) -> Result<(), OffsetsError> {
        let queries = self.queries;
        let places: HashMap<(&str, i32), usize> =
            group.iter().map(|(i, _)| ((&*queries[*i].topic, queries[*i].partition), *i)).collect();
        for topic in &response.topics {
            for p in &topic.partitions {
                // A partition nobody asked about is the broker's mistake and harms nobody.
                let Some(i) = places.get(&(&*topic.name, p.partition_index)) else { continue };
                // One that does not lead it any more knows the end of an old log, and is not the one to refuse it.
                if self.asked[*i] != Some(node) {
                    continue;
                }
                let code = ErrorCode(p.error_code);
                match code.treatment(Operation::ListOffsets) {
                    Treatment::Done => {
                        let (offset, timestamp, leader_epoch) = (p.offset, p.timestamp, p.leader_epoch);
                        self.found[*i].get_or_insert(Ok(ListedOffset { offset, timestamp, leader_epoch }));
                    }
                    // Whoever asks looks for the leaders before every try.
                    Treatment::Refresh => {
                        drop(self.why.insert(*i, format!("{broker} answered {code}").into()));
                    }
                    _ => {
                        let OffsetQuery { topic, partition, .. } = queries[*i].clone();
                        self.fail(
                            *i,
                            OffsetsError::Refused { topic, partition, broker: broker.clone(), code },
                        )?;
                    }
                }
            }
        }
        Ok(())
    }

    /// What is known now, and why the rest is not.
    fn answers(mut self, within: Duration) -> Vec<Result<ListedOffset, OffsetsError>> {
        let answer = |(i, found): (usize, Option<_>)| {
            found.unwrap_or_else(|| {
                let OffsetQuery { topic, partition, .. } = self.queries[i].clone();
                let silent = || match self.asked[i] {
                    Some(node) => format!("{} did not answer", self.cluster.name_of(node)).into(),
                    None => "the broker did not answer".into(),
                };
                // The last try may have been a short one: what the one before failed with says more.
                let error = self.why.remove(&i).unwrap_or_else(silent);
                Err(OffsetsError::Timeout { topic, partition, within, error })
            })
        };
        std::mem::take(&mut self.found).into_iter().enumerate().map(answer).collect()
    }
}

fn request(
    queries: &[OffsetQuery],
    group: &[(usize, i32)],
    isolation: Isolation,
    timeout: Duration,
) -> ListOffsetsRequest {
    let mut topics: BTreeMap<&Arc<str>, Vec<ListOffsetsPartition>> = BTreeMap::new();
    for (i, epoch) in group {
        let query = &queries[*i];
        topics.entry(&query.topic).or_default().push(ListOffsetsPartition {
            partition_index: query.partition,
            current_leader_epoch: *epoch,
            timestamp: query.at.wire(),
        });
    }
    ListOffsetsRequest {
        isolation_level: isolation.wire(),
        topics: topics
            .into_iter()
            .map(|(name, partitions)| ListOffsetsTopic { name: name.clone(), partitions })
            .collect(),
        timeout_ms: timeout.as_millis().try_into().unwrap_or(i32::MAX),
        ..Default::default()
    }
}
