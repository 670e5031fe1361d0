//! Moving a partition by force: [`Consumer::seek`](super::Consumer::seek), and what this consumer does with what it holds of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cache::Extent;
use super::commits;
use super::ends;
use super::error::SeekError;
use super::shared::Shared;
use super::state::{State, Tp, UnitKey};
use crate::cluster::{TopicError, check_topic_name};
use crate::group::PartitionView;

/// Wait before a partition is looked at again that somebody else moves, or that a lost group does not have yet.
const TRY_AGAIN: Duration = Duration::from_millis(100);

/// Moves the group to `offset` in a partition. See [`Consumer::seek`](super::Consumer::seek).
pub(super) async fn seek(
    shared: &Arc<Shared>,
    topic: &str,
    partition: i32,
    offset: i64,
) -> Result<(), SeekError> {
    check_topic_name(topic).map_err(TopicError::from)?;
    let tp = Tp { topic: Arc::from(topic), partition };
    check(shared, &tp, offset).await?;
    force(shared, &tp, offset).await?;
    // After the group did it: what it says of an exchange that was sent before may be of units that are gone.
    shared.with(|state| state.sought(&tp, offset, Instant::now()));
    let Some(group) = commits::mirrored(shared) else { return Ok(()) };
    let views = group.partitions(std::slice::from_ref(&tp.topic)).await?;
    let views: Vec<PartitionView> = views.into_iter().filter(|view| view.partition == partition).collect();
    let committed = commits::commit_now(shared, group, &views).await;
    committed.map_err(|error| SeekError::NotCommitted { topic: tp.topic, partition, offset, error })
}

/// Whether the partition is there, and the offset in its log or at its end.
async fn check(shared: &Shared, tp: &Tp, offset: i64) -> Result<(), SeekError> {
    let timeout = shared.conf.metadata_timeout;
    let Tp { topic, partition } = tp.clone();
    let Some(meta) = shared.cluster.topic_if_exists(&topic, timeout).await? else {
        return Err(SeekError::UnknownTopic { topic });
    };
    if meta.partition(partition).is_none() {
        return Err(SeekError::UnknownPartition { topic, partition, partitions: meta.partitions.len() });
    }
    let mut ends = ends::ask(shared, std::slice::from_ref(tp), ends::within(timeout)).await?;
    let ends = ends.pop().transpose()?;
    let range = ends.map(|ends| (ends.earliest.max(0), ends.log_end.max(0)));
    match range {
        Some((earliest, end)) if offset < earliest || offset > end => {
            Err(SeekError::OutOfRange { topic, partition, offset, earliest, end })
        }
        _ => Ok(()),
    }
}

/// Moves the partition in the group. Somebody else may move it at the same time; who does it last wins.
async fn force(shared: &Shared, tp: &Tp, offset: i64) -> Result<(), SeekError> {
    let Tp { topic, partition } = tp;
    let until = Instant::now() + shared.conf.metadata_timeout;
    loop {
        let views = shared.coordinator.partitions(std::slice::from_ref(topic)).await?;
        let view = views.iter().find(|view| view.partition == *partition);
        if let Some(view) = view
            && shared.coordinator.seek(topic, *partition, view.generation, offset).await?
        {
            tracing::info!(
                topic = &**topic,
                partition,
                "the group goes on at {offset}, where it stood at {}: sought",
                view.low_watermark
            );
            return Ok(());
        }
        // A group that was just lost does not have it yet.
        let is_ours = shared.with(|state| state.talk.topics().contains(topic));
        if (view.is_none() && !is_ours) || Instant::now() >= until {
            let group = shared.with(|state| Arc::clone(&state.group));
            return Err(SeekError::NotRead { group, topic: Arc::clone(topic), partition: *partition });
        }
        tokio::time::sleep(TRY_AGAIN).await;
    }
}

impl<B: Extent> State<B> {
    /// The group was moved to `offset` in a partition, and has dropped all units of it: so do we, without a word. Records in a
    /// reader's hands stay there, and count for nothing.
    pub(super) fn sought(&mut self, tp: &Tp, offset: i64, now: Instant) {
        let of = |key: &UnitKey| self.units[key].tp == *tp;
        let keys: Vec<UnitKey> = self.units.keys().copied().filter(of).collect();
        for key in keys {
            // Not handed back: the group does not know it any more.
            drop(self.revoke(key));
        }
        self.forget_told(tp);
        if let Some(feed) = self.feeds.get_mut(tp) {
            feed.frontier = offset;
            feed.cursor = offset;
        }
        self.moved.insert(tp.clone(), now);
        self.talk.work_appeared();
        self.effects.exchange = true;
        self.effects.watch = true;
    }

    /// Whether what the group said of a partition when it was asked at `sent` may be from before a seek.
    pub(super) fn is_from_before_a_seek(&self, topic: &Arc<str>, partition: i32, sent: Instant) -> bool {
        if self.moved.is_empty() {
            return false;
        }
        let tp = Tp { topic: Arc::clone(topic), partition };
        self.moved.get(&tp).is_some_and(|moved| sent <= *moved)
    }

    /// Whether a unit is fenced because of a seek of this consumer's. For a lease it can have no other reason: what was claimed since
    /// is ours for as long.
    pub(super) fn is_fenced_by_a_seek(&self, topic: &Arc<str>, partition: i32, now: Instant) -> bool {
        self.is_from_before_a_seek(topic, partition, now.checked_sub(self.limits.lease).unwrap_or(now))
    }
}
