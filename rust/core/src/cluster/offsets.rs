//! Offsets of many partitions: one request a leader, tried again where a leader has moved.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

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

/// Questions that fit into one request: (place among the queries, leader epoch). A request cannot carry one partition
/// twice, so the second question about it goes into a second request to the same leader.
type Grouped = BTreeMap<(i32, usize), Vec<(usize, i32)>>;

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
        let deadline = Instant::now() + timeout;
        let mut found: Vec<Option<ListedOffset>> = vec![None; queries.len()];
        let mut why: HashMap<usize, Arc<str>> = HashMap::new();
        let mut pause = TRY_AGAIN;
        loop {
            self.list_once(queries, isolation, deadline, &mut found, &mut why).await?;
            let open: Vec<usize> = (0..queries.len()).filter(|i| found[*i].is_none()).collect();
            let Some(first) = open.first() else {
                return Ok(found.into_iter().flatten().collect());
            };
            let again = Instant::now() + pause.fail();
            if again >= deadline {
                let OffsetQuery { topic, partition, .. } = queries[*first].clone();
                let error = why.remove(first).unwrap_or_else(|| "the broker did not answer".into());
                return Err(OffsetsError::Timeout { topic, partition, within: timeout, error });
            }
            sleep_until(again).await;
            let topics: BTreeSet<Arc<str>> = open.iter().map(|i| queries[*i].topic.clone()).collect();
            let names: Vec<Arc<str>> = topics.into_iter().collect();
            let left = deadline.saturating_duration_since(Instant::now());
            match self.refresh(&names, left).await {
                Err(super::TopicError::Closed) => return Err(OffsetsError::Closed),
                Err(e) => {
                    for i in &open {
                        why.entry(*i).or_insert_with(|| e.to_string().into());
                    }
                }
                Ok(()) => {}
            }
        }
    }

    /// Asks every leader once, all at the same time, for what is not found yet.
    async fn list_once(
        &self,
        queries: &[OffsetQuery],
        isolation: Isolation,
        deadline: Instant,
        found: &mut [Option<ListedOffset>],
        why: &mut HashMap<usize, Arc<str>>,
    ) -> Result<(), OffsetsError> {
        let mut asked = JoinSet::new();
        for ((node, _), group) in self.group(queries, found, why) {
            let request = request(queries, &group, isolation, self.inner().request_timeout);
            let cluster = self.clone();
            asked.spawn(async move {
                let timeout = cluster.inner().request_timeout;
                let called = cluster.call(node, Purpose::Control, &request, timeout);
                // The caller's time may be shorter than what makes a broker count as dead.
                (node, group, timeout_at(deadline, called).await)
            });
        }
        while let Some(done) = asked.join_next().await {
            // A task ends otherwise only with the runtime.
            let Ok((node, group, answer)) = done else { return Err(OffsetsError::Closed) };
            match answer {
                Ok(Err(error @ CallError::Unsupported { .. })) => {
                    return Err(OffsetsError::Unsupported { error });
                }
                Ok(Ok(response)) => take(queries, &group, &self.name_of(node), &response, found, why)?,
                Ok(Err(e)) => {
                    let e: Arc<str> = e.to_string().into();
                    group.iter().for_each(|(i, _)| drop(why.insert(*i, Arc::clone(&e))));
                }
                // The last try may have been a short one: what the one before failed with says more.
                Err(_) => {
                    let silence: Arc<str> = format!("{} did not answer", self.name_of(node)).into();
                    for (i, _) in &group {
                        why.entry(*i).or_insert_with(|| silence.clone());
                    }
                }
            }
        }
        Ok(())
    }

    fn group(
        &self,
        queries: &[OffsetQuery],
        found: &[Option<ListedOffset>],
        why: &mut HashMap<usize, Arc<str>>,
    ) -> Grouped {
        let mut groups = Grouped::new();
        let mut seen: HashMap<(&str, i32), usize> = HashMap::new();
        for (i, query) in queries.iter().enumerate().filter(|(i, _)| found[*i].is_none()) {
            match self.leader(&query.topic, query.partition) {
                Some(leader) => {
                    let times = seen.entry((&query.topic, query.partition)).or_default();
                    groups.entry((leader.node, *times)).or_default().push((i, leader.epoch));
                    *times += 1;
                }
                None => drop(why.insert(i, "the partition has no leader, or does not exist".into())),
            }
        }
        groups
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

/// Puts an answer's offsets in their places.
fn take(
    queries: &[OffsetQuery],
    group: &[(usize, i32)],
    broker: &Arc<str>,
    response: &ListOffsetsResponse,
    found: &mut [Option<ListedOffset>],
    why: &mut HashMap<usize, Arc<str>>,
) -> Result<(), OffsetsError> {
    let places: HashMap<(&str, i32), usize> =
        group.iter().map(|(i, _)| ((&*queries[*i].topic, queries[*i].partition), *i)).collect();
    for topic in &response.topics {
        for p in &topic.partitions {
            // A partition nobody asked about is the broker's mistake and harms nobody.
            let Some(i) = places.get(&(&*topic.name, p.partition_index)) else { continue };
            let code = ErrorCode(p.error_code);
            match code.treatment(Operation::ListOffsets) {
                Treatment::Done => {
                    found[*i] = Some(ListedOffset {
                        offset: p.offset,
                        timestamp: p.timestamp,
                        leader_epoch: p.leader_epoch,
                    });
                }
                // Whoever asks looks for the leaders before every try.
                Treatment::Refresh => drop(why.insert(*i, format!("{broker} answered {code}").into())),
                _ => {
                    let OffsetQuery { topic, partition, .. } = queries[*i].clone();
                    return Err(OffsetsError::Refused { topic, partition, broker: broker.clone(), code });
                }
            }
        }
    }
    Ok(())
}
