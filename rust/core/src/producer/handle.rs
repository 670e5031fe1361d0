//! The public handle.

use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::OnceCell;

use super::append::{Append, Refused, Track};
use super::delivery::Delivery;
use super::error::{AppendError, CloseError, ProducerError};
use super::memory::Room;
use super::shared::Shared;
use super::stats::ProducerStats;
use super::{TopicId, delay, expire, identity, linger};
use crate::cluster::{Cluster, Purpose};
use crate::config::{Acks, Config};
use crate::log_rate;
use crate::wire::Record;

/// How long a close with acks=0 waits for brokers to read what was sent, if it has that time: a proxy may never say it.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// Sends records to Kafka. Clones share one producer; any thread may use any of them.
///
/// Call [`close`](Self::close) at the end: when the last handle is dropped without it, what has not been delivered
/// is lost, and a warning says how much.
#[derive(Clone)]
pub struct Producer {
    handle: Arc<Handle>,
}

/// What the last clone drops: tasks hold `Shared`, never this.
struct Handle {
    shared: Arc<Shared>,
    end: OnceCell<Result<(), CloseError>>,
}

impl Producer {
    /// Connects to the cluster and starts the producer's tasks on the current tokio runtime.
    ///
    /// # Errors
    /// A contradiction in `conf`, or no broker within `metadata-timeout`.
    ///
    /// # Cancel safety
    /// Dropping the future leaves nothing behind.
    pub async fn connect(conf: Config) -> Result<Self, ProducerError> {
        conf.check()?;
        let cluster = Cluster::connect(&conf).await?;
        let shared = Shared::new(&conf, cluster);
        shared.spawn(identity::run(Arc::clone(&shared)));
        shared.spawn(linger::run(Arc::clone(&shared)));
        shared.spawn(delay::run(Arc::clone(&shared)));
        if let Some(timeout) = shared.settings.delivery_timeout {
            shared.spawn(expire::run(Arc::clone(&shared), timeout));
        }
        Ok(Self { handle: Arc::new(Handle { shared, end: OnceCell::new() }) })
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.handle.shared
    }

    /// The id of a topic; the first time this waits for its metadata, at most `max.block.ms`, and creates the
    /// topic where the broker allows that.
    ///
    /// # Cancel safety
    /// Cancel safe.
    pub async fn topic(&self, name: &str) -> Result<TopicId, ProducerError> {
        if let Some(closed) = self.shared().closed() {
            return Err(ProducerError::Append(AppendError::Closed(Arc::clone(closed))));
        }
        if let Some(id) = self.cached_topic(name) {
            return Ok(id);
        }
        let meta = self.shared().cluster.topic(name, self.shared().settings.max_block).await?;
        Ok(self.shared().register(&meta))
    }

    /// The id of a topic this producer has used before. Never waits.
    pub fn cached_topic(&self, name: &str) -> Option<TopicId> {
        self.shared().topic_id(name)
    }

    /// Appends a record to its partition's open batch: the explicit `partition`, else that of the key (murmur2, as
    /// kafka-clients), else one that suits. `timestamp_ms` counts from 1970; `None` is now.
    ///
    /// Never waits, except for a short lock; its bytes are copied before it returns. What becomes of the record is
    /// seen in [`stats`](Self::stats) and the log only; use [`try_append_tracked`](Self::try_append_tracked) to hear.
    ///
    /// # Errors
    /// [`AppendError::Full`]: wait for [`room`](Self::room) and try again. A record over `batch-byte-limit` is an
    /// error, or logged and dropped with `batch-fail-message-over-limit=false`.
    #[inline]
    pub fn try_append(
        &self,
        topic: TopicId,
        partition: Option<i32>,
        timestamp_ms: Option<i64>,
        record: &Record<'_>,
    ) -> Result<(), AppendError> {
        match self.append(topic, partition, &Append { timestamp_ms, record }, &mut ()) {
            Ok(()) => Ok(()),
            Err(error) => self.drop_over_limit(*error),
        }
    }

    /// Like [`try_append`](Self::try_append), and returns what will become of the record. A record over
    /// `batch-byte-limit` is an error here whatever the setting says.
    #[inline]
    pub fn try_append_tracked(
        &self,
        topic: TopicId,
        partition: Option<i32>,
        timestamp_ms: Option<i64>,
        record: &Record<'_>,
    ) -> Result<Delivery, AppendError> {
        let mut delivery = None;
        self.append(topic, partition, &Append { timestamp_ms, record }, &mut delivery)
            .map_err(|error| *error)?;
        Ok(delivery.expect("invariant: an append that went well is tracked"))
    }

    #[inline]
    fn append(
        &self,
        topic: TopicId,
        partition: Option<i32>,
        append: &Append<'_>,
        track: &mut impl Track,
    ) -> Result<(), Refused> {
        let shared = self.shared();
        match shared.topics.get(topic.0) {
            Some(topic) => shared.append(topic, partition, append, track),
            None => Err(Box::new(AppendError::UnknownTopicId(topic.0))),
        }
    }

    #[cold]
    fn drop_over_limit(&self, error: AppendError) -> Result<(), AppendError> {
        let shared = self.shared();
        if shared.settings.fail_over_limit || !matches!(error, AppendError::TooLarge { .. }) {
            return Err(error);
        }
        shared.counters.records_dropped.add(1);
        if let Some(more) = log_rate::due("over limit") {
            tracing::error!(target: "kafkafast.producer",
                "{error}; dropped (batch-fail-message-over-limit=false){more}");
        }
        Ok(())
    }

    /// A future that ends when `needed` bytes (from [`AppendError::Full`]) have been free, or when the producer is
    /// closed. Those who wait are served in order; another may still be quicker, so try again in a loop.
    ///
    /// # Cancel safety
    /// Cancel safe: dropping it leaves the queue.
    pub fn room(&self, needed: usize) -> Room {
        Room::new(Arc::clone(&self.shared().memory), needed)
    }

    /// `Ready` when `needed` bytes are free or the producer is closed; else `Pending`, and the task is woken when
    /// they are. Each call that returns `Pending` takes one place in the queue of waiters.
    pub fn poll_room(&self, cx: &mut Context<'_>, needed: usize) -> Poll<()> {
        let shared = self.shared();
        if shared.closed().is_some() || shared.memory.has(needed) {
            return Poll::Ready(());
        }
        self.register_room(needed, cx.waker().clone());
        Poll::Pending
    }

    /// Calls `waker` once, when `needed` bytes are free or the producer closes, possibly before this returns. For
    /// callers that park: register, try again, park.
    pub fn register_room(&self, needed: usize, waker: Waker) {
        let shared = self.shared();
        shared.memory.register(needed, waker);
        if shared.closed().is_some() {
            shared.memory.wake_all();
        }
    }

    /// Sends one record: waits for the topic's metadata and for room, each at most `max.block.ms`, not for the
    /// broker. The key decides the partition.
    ///
    /// # Cancel safety
    /// A dropped future has appended the record or has not; await the returned delivery to know of its end.
    pub async fn send(&self, topic: &str, record: Record<'_>) -> Result<Delivery, ProducerError> {
        let topic = self.topic(topic).await?;
        let start = Instant::now();
        let max_block = self.shared().settings.max_block;
        loop {
            let needed = match self.try_append_tracked(topic, None, None, &record) {
                Ok(delivery) => return Ok(delivery),
                Err(AppendError::Full { needed }) => needed,
                Err(error) => return Err(error.into()),
            };
            let left = max_block.saturating_sub(start.elapsed());
            if left.is_zero() || tokio::time::timeout(left, self.room(needed)).await.is_err() {
                return Err(self.no_room());
            }
        }
    }

    /// The error for a caller that has waited `max.block.ms` for room in vain: it names what is in the way.
    pub fn no_room(&self) -> ProducerError {
        let obstacle = self.shared().obstacle().map_or("the buffer is full".to_owned(), |o| o.to_string());
        ProducerError::NoRoom { max_block_ms: self.shared().settings.max_block.as_millis() as u64, obstacle }
    }

    /// Sends what is open now, full or not. Does not wait; see [`flush`](Self::flush).
    pub fn start_flush(&self) {
        self.shared().linger.press();
    }

    /// Sends what is open and waits until every record appended before the call is delivered or has failed; for
    /// ever, if a broker stays away. Each record's own end is told by its [`Delivery`].
    ///
    /// # Errors
    /// [`AppendError::Closed`] on a closed producer.
    ///
    /// # Cancel safety
    /// Cancel safe; the records go all the same.
    pub async fn flush(&self) -> Result<(), ProducerError> {
        if let Some(closed) = self.shared().closed() {
            return Err(ProducerError::Append(AppendError::Closed(Arc::clone(closed))));
        }
        let before = self.shared().gates.close_current();
        self.start_flush();
        for gate in before {
            gate.wait().await;
        }
        Ok(())
    }

    /// Accepts nothing more, delivers what it has, at most for `timeout`, and ends every task. A second call waits
    /// for the first and returns the same.
    ///
    /// # Errors
    /// How many records were left, and what is known of them.
    ///
    /// # Cancel safety
    /// A dropped call has closed the producer for appends; call again to go on waiting.
    pub async fn close(&self, timeout: Duration) -> Result<(), CloseError> {
        self.shared().mark_closed();
        self.handle.end.get_or_init(|| finish(self.shared(), timeout)).await.clone()
    }

    /// A snapshot of the counters.
    pub fn stats(&self) -> ProducerStats {
        let shared = self.shared();
        let memory = &shared.memory;
        shared.counters.snapshot(memory.used(), memory.total(), memory.waiting())
    }

    /// The cluster this producer talks to.
    pub fn cluster(&self) -> &Cluster {
        &self.shared().cluster
    }
}

/// The end of a producer: what can be delivered in time is, the rest is counted.
async fn finish(shared: &Arc<Shared>, timeout: Duration) -> Result<(), CloseError> {
    let start = Instant::now();
    shared.seal_all_and_close();
    let before = shared.gates.close_current();
    let delivered = async {
        for gate in before {
            gate.wait().await;
        }
    };
    let in_time = tokio::time::timeout(timeout, delivered).await.is_ok();
    let reason = if in_time { None } else { shared.obstacle() };
    shared.stop.send_replace(true);
    for task in shared.take_tasks() {
        if let Err(error) = task.await {
            tracing::error!(target: "kafkafast.producer", "A task of the producer has failed: {error}");
        }
    }
    if in_time && shared.settings.acks == Acks::None {
        read_by_brokers(shared, timeout.saturating_sub(start.elapsed())).await;
    }
    let waited_ms = start.elapsed().as_millis() as u64;
    last_things(shared, waited_ms, reason.map_or(String::new(), |reason| format!(": {reason}")))
}

/// With acks=0 nobody says that what was sent was read. A broker that lags has not, and may lose it when we close first.
async fn read_by_brokers(shared: &Shared, within: Duration) {
    if !shared.cluster.finish(Purpose::Produce, within.min(READ_WITHIN)).await {
        tracing::warn!(target: "kafkafast.producer",
            "Brokers have not read all that was sent with acks=0; the end of it may be lost");
    }
}

/// After the tasks have ended: drops what was not sent, and says what was left.
pub(super) fn last_things(shared: &Shared, waited_ms: u64, reason: String) -> Result<(), CloseError> {
    shared.abandon();
    shared.memory.empty_pool();
    shared.cluster.close();
    let not_sent = shared.counters.abandoned_not_sent.get();
    let possibly_written = shared.counters.abandoned_possibly_written.get();
    if not_sent + possibly_written == 0 {
        return Ok(());
    }
    Err(CloseError { not_sent, possibly_written, waited_ms, reason })
}

impl Drop for Handle {
    fn drop(&mut self) {
        if self.end.initialized() {
            return;
        }
        let shared = &self.shared;
        shared.mark_closed();
        let lost = shared.close_slots();
        if lost > 0 {
            tracing::warn!(target: "kafkafast.producer",
                "Producer was not closed; {lost} records were not delivered. Call close");
        }
        shared.stop.send_replace(true);
        shared.memory.wake_all();
        shared.cluster.close();
    }
}
