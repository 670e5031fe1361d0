//! What the producer's handles and tasks share, and how a partition finds its way to a sender.
//!
//! A partition with something to send stands on exactly one list: the ready list of its leader's
//! [`Broker`], or the [`delay`](super::delay) list while it backs off or has no leader. So nobody ever scans all
//! partitions, and a batch costs one entry and one wake-up.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::Ordering::{Relaxed, Release, SeqCst};
use std::sync::atomic::{AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::task::JoinHandle;

use super::TopicId;
use super::delay::Delay;
use super::error::ClosedBy;
use super::gate::Gates;
use super::identity::Standing;
use super::linger::Linger;
use super::memory::Memory;
use super::partition_queue::WINDOW_SEQUENCED;
use super::sender;
use super::stats::Counters;
use super::table::Table;
use super::time::Time;
use super::topic::{NO_NODE, Partition, Topic};
use crate::cluster::{Cluster, TopicMeta};
use crate::config::{Acks, Compression, Config};
use crate::log_rate;

/// A broker that failed is chosen again when nothing was tried with it for so long; more than the longest back-off.
const TRY_AGAIN: Duration = Duration::from_secs(3);

/// The settings that matter after connect.
pub(super) struct Settings {
    pub(super) acks: Acks,
    pub(super) compression: Compression,
    pub(super) linger: Option<Duration>,
    pub(super) batch_bytes: usize,
    pub(super) batch_byte_limit: usize,
    pub(super) batch_num_messages: u32,
    pub(super) fail_over_limit: bool,
    pub(super) max_block: Duration,
    pub(super) request_timeout: Duration,
    pub(super) delivery_timeout: Option<Duration>,
}

/// See the module.
pub(super) struct Shared {
    pub(super) settings: Settings,
    pub(super) cluster: Cluster,
    pub(super) topics: Table<Arc<Topic>>,
    by_name: RwLock<HashMap<Arc<str>, TopicId>>,
    pub(super) memory: Arc<Memory>,
    pub(super) gates: Gates,
    pub(super) linger: Linger,
    pub(super) delay: Delay,
    /// A permit per core for those who compress. A request may have hundreds of batches, and each at work takes a thread and
    /// a codec's context: up to some hundred MB, as the codec's level wants it.
    pub(super) compressing: Arc<Semaphore>,
    pub(super) counters: Arc<Counters>,
    /// Who the producer is; senders wait while it is being asked for.
    pub(super) identity: watch::Sender<Standing>,
    /// Since when no broker could be asked for an identity; 0: one could, or there is one.
    pub(super) no_identity_since_us: AtomicU64,
    /// Set once, at the end: every task returns.
    pub(super) stop: watch::Sender<bool>,
    closed: OnceLock<Arc<ClosedBy>>,
    /// Held while partitions are added and while the producer is marked closed.
    updating: Mutex<()>,
    pub(super) brokers: RwLock<HashMap<i32, Arc<Broker>>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
    /// Application threads have no runtime of their own; a new broker's sender is spawned here.
    runtime: tokio::runtime::Handle,
    pub(super) time: Time,
}

/// One broker as a leader: the partitions that have something for it.
pub(super) struct Broker {
    pub(super) node: i32,
    /// Each partition at most once.
    pub(super) ready: Mutex<VecDeque<Arc<Partition>>>,
    pub(super) wake: Notify,
    /// Requests in flight.
    pub(super) in_flight: AtomicUsize,
    /// When the last request began, in microseconds of the producer's life.
    pub(super) last_send_us: AtomicU64,
    /// Since when it does not answer; 0: it does, or nobody asked.
    pub(super) down_since_us: AtomicU64,
    /// When a request to it failed last.
    pub(super) failed_us: AtomicU64,
    /// Until when it wants to hear nothing, because a quota is used up (KIP-219); 0: it never said so.
    muted_until_us: AtomicU64,
}

impl Shared {
    pub(super) fn new(conf: &Config, cluster: Cluster) -> Arc<Self> {
        let settings = Settings {
            acks: conf.acks,
            compression: conf.compression(),
            linger: conf.linger,
            batch_bytes: conf.batch_bytes,
            batch_byte_limit: conf.batch_byte_limit,
            batch_num_messages: conf.batch_num_messages,
            fail_over_limit: conf.fail_over_limit,
            max_block: conf.max_block,
            request_timeout: conf.request_timeout,
            delivery_timeout: conf.delivery_timeout,
        };
        Arc::new(Self {
            settings,
            cluster,
            topics: Table::new(),
            by_name: RwLock::default(),
            memory: Memory::new(conf.buffer_memory),
            gates: Gates::new(),
            linger: Linger::default(),
            delay: Delay::default(),
            compressing: Arc::new(Semaphore::new(thread::available_parallelism().map_or(1, usize::from))),
            counters: Arc::default(),
            identity: watch::Sender::new(Standing::Asking),
            no_identity_since_us: AtomicU64::new(0),
            stop: watch::Sender::new(false),
            closed: OnceLock::new(),
            updating: Mutex::new(()),
            brokers: RwLock::default(),
            tasks: Mutex::default(),
            runtime: tokio::runtime::Handle::current(),
            time: Time::default(),
        })
    }

    pub(super) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        self.tasks.lock().push(self.runtime.spawn(task));
    }

    pub(super) fn take_tasks(&self) -> Vec<JoinHandle<()>> {
        std::mem::take(&mut *self.tasks.lock())
    }

    // --- topics ---

    pub(super) fn topic_id(&self, name: &str) -> Option<TopicId> {
        self.by_name.read().get(name).copied()
    }

    /// Registers a topic, or brings its partitions up to date.
    pub(super) fn register(self: &Arc<Self>, meta: &TopicMeta) -> TopicId {
        let mut by_name = self.by_name.write();
        let id = by_name.get(&meta.name).copied().unwrap_or_else(|| {
            let name = Arc::clone(&meta.name);
            let batch_bytes = self.settings.batch_bytes;
            let new = |id| Arc::new(Topic::new(Arc::clone(&meta.name), TopicId(id), batch_bytes));
            let id = TopicId(self.topics.push(new));
            by_name.insert(name, id);
            id
        });
        // Under the lock: who finds the name finds the partitions too.
        if let Some(topic) = self.topics.get(id.0) {
            self.update_partitions(topic, meta);
        }
        drop(by_name);
        id
    }

    /// Takes over new partitions and moved leaders. A topic that was created again may have fewer partitions: no more is
    /// appended to the others, and what they still have has no leader.
    pub(super) fn update_partitions(&self, topic: &Topic, meta: &TopicMeta) {
        let window = if self.settings.acks == Acks::All { WINDOW_SEQUENCED } else { 1 };
        // One at a time, and not while the producer is being marked closed.
        let _updating = self.updating.lock();
        let closed = self.closed.get().is_some();
        // What the caller has may be older by now than what another one took over meanwhile.
        let latest = self.cluster.cached_topic(&topic.name);
        let meta = latest.as_deref().unwrap_or(meta);
        let count =
            meta.partitions.iter().filter_map(|p| u32::try_from(p.index).ok()).max().map_or(0, |i| i + 1);
        for _ in topic.partitions.len()..count {
            topic.partitions.push(|index| {
                let partition = Partition::new(topic, index as i32, NO_NODE, window);
                partition.slot.lock().closed = closed;
                Arc::new(partition)
            });
        }
        for partition in &meta.partitions {
            let node = partition.leader.map_or(NO_NODE, |leader| leader.node);
            if let Some(known) = u32::try_from(partition.index).ok().and_then(|i| topic.partitions.get(i)) {
                known.node.store(node, Relaxed);
            }
        }
        if count == 0 {
            // It is not known yet what it has.
            return;
        }
        // After they are in the table, where appends look for them.
        topic.count.store(count, Release);
        for gone in (count..topic.partitions.len()).filter_map(|index| topic.partitions.get(index)) {
            gone.node.store(NO_NODE, Relaxed);
        }
    }

    // --- the way to a sender ---

    /// Puts a listed partition where it belongs and wakes whoever sends it.
    pub(super) fn place(self: &Arc<Self>, partition: Arc<Partition>) {
        self.place_all([partition]);
    }

    /// Places several and wakes each sender once, after all stand on its list: they share a request.
    pub(super) fn place_all(self: &Arc<Self>, partitions: impl IntoIterator<Item = Arc<Partition>>) {
        let mut wake: Vec<Arc<Broker>> = Vec::new();
        for partition in partitions {
            let Some(leader) = self.cluster.leader(&partition.topic, partition.index) else {
                partition.node.store(NO_NODE, Relaxed);
                self.cluster.request_refresh(&partition.topic);
                warn_leaderless(&partition);
                self.delay.add_leaderless(partition, self.time.now());
                continue;
            };
            partition.node.store(leader.node, Relaxed);
            partition.leaderless.store(0, Relaxed);
            let broker = match wake.iter().find(|b| b.node == leader.node) {
                Some(broker) => Arc::clone(broker),
                None => {
                    let broker = self.broker(leader.node);
                    wake.push(Arc::clone(&broker));
                    broker
                }
            };
            broker.ready.lock().push_back(partition);
        }
        wake.iter().for_each(|broker| broker.wake.notify_one());
    }

    fn broker(self: &Arc<Self>, node: i32) -> Arc<Broker> {
        if let Some(broker) = self.brokers.read().get(&node) {
            return Arc::clone(broker);
        }
        let mut brokers = self.brokers.write();
        let broker = brokers.entry(node).or_insert_with(|| {
            let broker = Arc::new(Broker::new(node));
            self.spawn(sender::run(Arc::clone(self), Arc::clone(&broker)));
            broker
        });
        Arc::clone(broker)
    }

    pub(super) fn known_broker(&self, node: i32) -> Option<Arc<Broker>> {
        self.brokers.read().get(&node).cloned()
    }

    /// Whether a node is a leader worth choosing. One that failed is, when nothing has been tried with it for a while:
    /// its partitions may have gone to others meanwhile, and without a new batch nobody would learn that it is back.
    pub(super) fn answers(&self, node: i32) -> bool {
        let down = |b: &Arc<Broker>| {
            b.down_since_us.load(Relaxed) != 0
                && (!b.is_idle()
                    || self.time.us().saturating_sub(b.failed_us.load(Relaxed))
                        < TRY_AGAIN.as_micros() as u64)
        };
        node != NO_NODE && !self.brokers.read().get(&node).is_some_and(down)
    }

    // --- the end ---

    /// Marks the producer closed; false: it was already.
    pub(super) fn mark_closed(&self) -> bool {
        let at = (super::clock::system_ms() / 1000) as u64;
        let thread = std::thread::current().name().unwrap_or("?").to_owned();
        let _updating = self.updating.lock();
        self.closed.set(Arc::new(ClosedBy { at, thread })).is_ok()
    }

    pub(super) fn closed(&self) -> Option<&Arc<ClosedBy>> {
        self.closed.get()
    }

    /// Who closed it, for those who found a slot closed.
    pub(super) fn closed_by(&self) -> Arc<ClosedBy> {
        Arc::clone(
            self.closed.get().expect("invariant: slots are closed after the producer is marked closed"),
        )
    }

    /// Closes every slot: afterwards nothing is appended, and what was appended is queued.
    pub(super) fn seal_all_and_close(self: &Arc<Self>) {
        let partitions = self.topics.iter().flat_map(|topic| topic.partitions.iter());
        let sealed = partitions.filter(|p| self.seal_now(p, true)).cloned().collect::<Vec<_>>();
        self.place_all(sealed);
        self.memory.wake_all();
    }

    /// Like [`seal_all_and_close`](Self::seal_all_and_close), but nothing is sent any more. Returns the records
    /// that have not ended, those in flight among them.
    pub(super) fn close_slots(self: &Arc<Self>) -> u64 {
        for partition in self.topics.iter().flat_map(|topic| topic.partitions.iter()) {
            self.seal_now(partition, true);
        }
        let counters = &self.counters;
        counters
            .records
            .get()
            .saturating_sub(counters.records_delivered.get() + counters.records_failed.get())
    }

    /// Drops what has not been sent; its deliveries end as closed. Only after the tasks have ended.
    pub(super) fn abandon(&self) {
        for partition in self.topics.iter().flat_map(|topic| topic.partitions.iter()) {
            let abandoned = partition.queue.lock().drain();
            // Deliveries run callbacks: not under the queue's lock.
            drop(abandoned);
        }
    }

    /// What stands in the way: the broker with the most bytes waiting, and how long it has been away.
    pub(super) fn obstacle(&self) -> Option<Obstacle> {
        let mut waiting: HashMap<i32, usize> = HashMap::new();
        for partition in self.topics.iter().flat_map(|topic| topic.partitions.iter()) {
            let bytes = partition.queued_bytes.load(Relaxed);
            if bytes > 0 {
                *waiting.entry(partition.node.load(Relaxed)).or_default() += bytes;
            }
        }
        let (node, bytes) = waiting.into_iter().max_by_key(|(_, bytes)| *bytes)?;
        // Without an identity nothing has been tried with the leader itself.
        let since = match self.no_identity_since_us.load(Relaxed) {
            0 => self.known_broker(node).map_or(0, |b| b.down_since_us.load(Relaxed)),
            since => since,
        };
        let down = (since != 0).then(|| Duration::from_micros(self.time.us().saturating_sub(since)));
        Some(Obstacle { node, bytes, down })
    }
}

/// Says at the fourth try, the eighth, and so on, that records wait for a leader: about every second, minute, hour.
fn warn_leaderless(partition: &Partition) {
    let tries = partition.leaderless.fetch_add(1, Relaxed) + 1;
    if tries >= 4
        && tries.is_power_of_two()
        && let Some(more) = log_rate::due(format_args!("leaderless {}/{}", partition.topic, partition.index))
    {
        tracing::warn!(target: "kafkafast.producer",
            "{} bytes wait for {}/{}, which has no leader. Was the topic deleted, or are its brokers down?{more}",
            partition.queued_bytes.load(Relaxed), partition.topic, partition.index);
    }
}

/// Ends when the producer does.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // An error means that `Shared` is gone, which no task outlives.
    let _ = stop.wait_for(|stop| *stop).await;
}

/// See [`Shared::obstacle`].
pub(super) struct Obstacle {
    node: i32,
    bytes: usize,
    down: Option<Duration>,
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.bytes {
            mb if mb >= 1 << 20 => write!(f, "{} MB", mb >> 20)?,
            kb if kb >= 1 << 10 => write!(f, "{} KB", kb >> 10)?,
            bytes => write!(f, "{bytes} bytes")?,
        }
        match (self.node, self.down) {
            (NO_NODE, _) => write!(f, " wait for partitions without a leader"),
            (node, None) => write!(f, " wait for broker {node}"),
            (node, Some(d)) => write!(f, " wait for broker {node}, unreachable for {} s", d.as_secs()),
        }
    }
}

/// Longest pause a broker is granted, more than its quotas ask for by default (11 s).
const MUTED_MAX: Duration = Duration::from_secs(30);

impl Broker {
    fn new(node: i32) -> Self {
        Self {
            node,
            ready: Mutex::default(),
            wake: Notify::new(),
            in_flight: AtomicUsize::new(0),
            last_send_us: AtomicU64::new(0),
            down_since_us: AtomicU64::new(0),
            failed_us: AtomicU64::new(0),
            muted_until_us: AtomicU64::new(0),
        }
    }

    /// An answer says that the broker is quiet for so long from now on: what is sent earlier waits in its queue.
    pub(super) fn mute(&self, now_us: u64, throttle_ms: i32) {
        let pause = Duration::from_millis(u64::try_from(throttle_ms).unwrap_or(0)).min(MUTED_MAX);
        if !pause.is_zero() {
            self.muted_until_us.fetch_max(now_us + pause.as_micros() as u64, Relaxed);
        }
    }

    /// The connection is gone, and with it what the broker knew of us.
    pub(super) fn unmute(&self) -> bool {
        self.muted_until_us.swap(0, Relaxed) != 0
    }

    /// Until when nothing is sent to it, if that is to come.
    pub(super) fn muted_until(&self, now_us: impl FnOnce() -> u64) -> Option<u64> {
        let until = self.muted_until_us.load(Relaxed);
        (until > 0 && until > now_us()).then_some(until)
    }

    /// Whether nothing is on the way to it.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight.load(SeqCst) == 0
    }
}
