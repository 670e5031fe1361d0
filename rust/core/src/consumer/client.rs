//! The consumer's handle: connect, readers, topics, close.

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use super::error::{CloseError, ConsumerError, SeekError};
use super::event::Event;
use super::reader::Reader;
use super::shared::{Handle, Shared};
use super::state::{Limits, State};
use super::stats::{ConsumerStats, Counters};
use super::talk::Talk;
use super::{another, coordinate, fetch, late, mirror, seek, start, watch};
use crate::cluster::Cluster;
use crate::config::{Config, RedisConf};
use crate::group::{Coordinator, Embedded, GroupError, GroupSettings, RedisGroup};

/// What telling the group may take beyond the wait for readers, at a close.
const GOODBYE: Duration = Duration::from_secs(5);

/// Where the group lives that a consumer belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupConf {
    /// In this process: needs nothing else, and its positions end with the process.
    Embedded {
        /// The name of the group.
        group: String,
    },
    /// In Redis, shared by any number of processes.
    Redis(RedisConf),
}

impl GroupConf {
    /// A group that lives in this process.
    pub fn embedded(group: impl Into<String>) -> Self {
        Self::Embedded { group: group.into() }
    }

    /// A group that lives in Redis.
    pub fn redis(conf: RedisConf) -> Self {
        Self::Redis(conf)
    }

    /// The group's name.
    pub fn group(&self) -> &str {
        match self {
            Self::Embedded { group } => group,
            Self::Redis(conf) => &conf.group,
        }
    }
}

/// A consumer: it claims work units from its group and hands their records to its [readers](Self::reader). Clones are
/// handles of the same one. When the last handle and the last reader are dropped, what is held is handed back and all
/// tasks end; [`close`](Self::close) does the same and waits for it.
#[derive(Debug, Clone)]
pub struct Consumer {
    handle: Handle,
}

impl Consumer {
    /// Connects and joins `group`, reading `topics`.
    ///
    /// When this returns, the start of every partition is fixed: what is produced from now on is read. A topic that
    /// does not exist is no error: it is looked for again, and read from its earliest record when it appears. Takes up
    /// to `metadata-timeout` for the brokers and as much for the topics.
    ///
    /// A partition whose leader does not answer within a few seconds, or that has none, is no error either if another one can be
    /// read, or the group knows its positions: it follows when its leader answers, from where its log ended when this was
    /// called, by the timestamps of its records and a minute earlier. [`ConsumerStats::partitions_pending`] counts those.
    ///
    /// Must be called within a tokio runtime, which the consumer's tasks run on.
    ///
    /// # Errors
    /// A wrong setting, an illegal topic name, no broker that answers, a group of another Kafka cluster, no partition whose start is
    /// to be had.
    pub async fn connect(conf: Config, group: GroupConf, topics: &[&str]) -> Result<Self, ConsumerError> {
        conf.check()?;
        if topics.is_empty() {
            return Err(ConsumerError::NoTopics);
        }
        if group.group().is_empty() {
            return Err(ConsumerError::NoGroup);
        }
        start::check_names(topics)?;
        let cluster = Cluster::connect_to_one(&conf).await?;
        if cluster.cluster_id().is_none() {
            // It was to connect lazily. What the group holds is of one cluster, so that is asked for first.
            cluster.refresh(&[topics[0].into()], conf.metadata_timeout).await?;
        }
        let cluster_id = cluster.cluster_id();
        let cluster_id = cluster_id.as_deref().unwrap_or("");
        let settings = GroupSettings::of(&conf);
        let id = super::random_id();
        let coordinator = match &group {
            GroupConf::Embedded { group } => {
                Coordinator::Embedded(Embedded::named(group, cluster_id, settings)?)
            }
            GroupConf::Redis(redis) => {
                Coordinator::Redis(RedisGroup::join(redis, settings, Arc::clone(&id), cluster_id).await?)
            }
        };
        let counters = Arc::new(Counters::default());
        let talk = Talk::new(id, Instant::now());
        let state = State::new(Limits::new(&conf), group.group().into(), talk, Arc::clone(&counters));
        let shared = Shared::new(conf, cluster, coordinator, counters, state);
        // Ends what was begun when this future fails or is dropped.
        let handle = Handle::new(Arc::clone(&shared));
        tokio::spawn(coordinate::run(Arc::clone(&shared)));
        tokio::spawn(another::run(Arc::clone(&shared)));
        if let Err(error) = start::subscribe(&shared, topics).await {
            return Err(another::explain(&shared, error).await);
        }
        tokio::spawn(fetch::run(Arc::clone(&shared)));
        tokio::spawn(watch::run(Arc::clone(&shared)));
        tokio::spawn(mirror::run(Arc::clone(&shared)));
        tokio::spawn(late::run(Arc::clone(&shared)));
        tokio::spawn(start::run(shared));
        Ok(Self { handle })
    }

    /// Forgets a group and its positions, whoever made it: also one that is of another Kafka cluster, and one that is not there. Its
    /// members fail with "was deleted", and whoever connects next makes it anew. Of an embedded group that is what lives in this
    /// process, on whatever cluster.
    ///
    /// What a mirrored group has committed to Kafka stays: made anew on the same cluster it goes on from there, unless that is deleted
    /// too (`kafka-consumer-groups --delete --group`). Of another cluster, or of topics that were created again, no commit counts.
    ///
    /// Takes up to three times Redis's time-out. To repeat it does no harm.
    ///
    /// # Errors
    /// Redis is not reached, or does not let the user do that.
    ///
    /// # Cancel safety
    /// The group may be deleted all the same.
    pub async fn delete_group(group: &GroupConf) -> Result<(), GroupError> {
        match group {
            GroupConf::Embedded { group } => {
                Embedded::forget(group);
                Ok(())
            }
            GroupConf::Redis(redis) => RedisGroup::forget(redis).await,
        }
    }

    /// A new reader: one per thread or task. Never blocks. Readers may be added and dropped at any time.
    pub fn reader(&self) -> Reader {
        Reader::new(self.handle.clone())
    }

    /// Reads these topics too. When this returns their starts are fixed, as by [`connect`](Self::connect).
    pub async fn add_topics(&self, topics: &[&str]) -> Result<(), ConsumerError> {
        self.open()?;
        start::check_names(topics)?;
        start::subscribe(self.shared(), topics).await
    }

    /// Claims no more units of these topics; units in hands are finished. Topics not subscribed to are ignored.
    pub async fn remove_topics(&self, topics: &[&str]) -> Result<(), ConsumerError> {
        self.open()?;
        start::unsubscribe(self.shared(), topics).await
    }

    /// Moves the group to `offset` in a partition, for all its members: the next unit of it begins there. Back repeats records,
    /// forward skips them, quarantined ones included; the end of the log is allowed. It need not be a topic that this consumer
    /// reads, but one that its group has read. Works while members read.
    ///
    /// When this returns, the group stands there, and where it is mirrored Kafka knows it, so that a Redis that loses its data does
    /// not lose the seek. This consumer drops what it holds of the partition; other members do at their next exchange, within
    /// their heartbeat. Until then they hand out what they had fetched, and a record in a reader's hands is handled to its end and
    /// counts for nothing: such records may be handled once although they were skipped, or once more. With `ordering=partition` they
    /// may be handled beside the first ones after the seek: stop readers first where that matters.
    ///
    /// Takes up to `metadata-timeout` for each of four questions: topic, ends of the log, group, commit. Of two seeks at once the
    /// last one stands.
    ///
    /// # Errors
    /// The topic or the partition does not exist, the group does not read it, the offset is outside the log (the text has both
    /// ends), the group is away, or the new position could not be committed to Kafka ([`SeekError::NotCommitted`]: moved all the same).
    ///
    /// # Cancel safety
    /// Dropping the future may leave the group moved, and that not committed.
    pub async fn seek(&self, topic: &str, partition: i32, offset: i64) -> Result<(), SeekError> {
        self.open().map_err(|_| SeekError::Closed)?;
        seek::seek(self.shared(), topic, partition, offset).await
    }

    /// Counters, now.
    pub fn stats(&self) -> ConsumerStats {
        let shared = self.shared();
        let mut stats = ConsumerStats {
            prefetch_bytes: shared.budget.used() as u64,
            prefetch_peak: shared.budget.peak() as u64,
            events_dropped: shared.events.dropped(),
            ..shared.counters.snapshot()
        };
        shared.with(|state| {
            stats.records = state.handed_out();
            stats.units_held = state.units.len() as u64;
            stats.readers = state.readers.len() as u64;
            stats.organiser = state.talk.is_organiser();
            stats.topics_denied = state.topics_denied();
            stats.handler_failing = state.failing.is_probing();
            stats.partitions_pending = state.pending.count(state.talk.topics());
        });
        stats
    }

    /// The oldest event nobody read yet.
    pub fn try_event(&self) -> Option<Event> {
        self.shared().events.try_next()
    }

    /// The next event; `None` after close. The newest 1024 are kept.
    pub async fn event(&self) -> Option<Event> {
        std::future::poll_fn(|cx| self.poll_event(cx)).await
    }

    /// [`event`](Self::event) for callers with a waker of their own.
    pub fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.shared().events.poll_next(cx)
    }

    /// Takes no more units, lets readers that hold a record finish it for up to `wait`, hands back the rest, leaves the
    /// group, ends all tasks. Readers get `None`, or [`Filled::Closed`](super::Filled::Closed). Takes up to 5 s beyond
    /// `wait` when the group cannot be reached. Safe to call more than once and from several tasks.
    ///
    /// # Errors
    /// The group was not reached: it hands the units out again when their lease is over.
    pub async fn close(&self, wait: Duration) -> Result<(), CloseError> {
        let shared = self.shared();
        let began = Instant::now();
        shared.with(|state| state.begin_close(Instant::now()));
        let ended = tokio::time::timeout(wait, shared.until_over()).await;
        if ended.is_ok() {
            return Ok(());
        }
        shared.with(|state| state.hand_back_all());
        if tokio::time::timeout(GOODBYE, shared.until_over()).await.is_ok() {
            return Ok(());
        }
        let units = shared.with(|state| state.talk.untold());
        coordinate::end(shared);
        Err(CloseError::NotHandedBack { units, millis: began.elapsed().as_millis() })
    }

    pub(super) fn open(&self) -> Result<(), ConsumerError> {
        let open = self.shared().with(|state| state.is_open());
        if open { Ok(()) } else { Err(ConsumerError::Closed) }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        self.handle.shared()
    }
}
