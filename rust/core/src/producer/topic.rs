//! Topics and partitions as the producer sees them: where records are appended.
//!
//! There is one open batch a partition. A record with a key or an explicit partition goes straight there. A
//! record without either goes where its thread's *stripe* points: a stripe is a cache line of its own that names
//! a partition and the batch it was chosen for, and no two stripes share a partition while there are enough. So
//! threads do not meet on a lock, and all records of a partition still stand in one sequence, whichever thread or
//! task they came from (a task that moves between threads keeps its order within each partition).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed};

use parking_lot::Mutex;

use super::TopicId;
use super::batch::Batch;
use super::clock::RecordClock;
use super::delivery::BatchDelivery;
use super::gate::Pass;
use super::memory::Lease;
use super::partition_queue::PartitionQueue;
use super::table::Table;
use crate::wire::batch::BatchBuilder;

/// Most stripes of a topic; more threads than that share.
const STRIPES_MAX: usize = 8;

/// No leader is known.
pub(super) const NO_NODE: i32 = -1;

/// Two cache lines: the processor fetches lines in pairs.
#[repr(align(128))]
pub(super) struct Padded<T>(pub(super) T);

/// A topic records are appended to.
pub(super) struct Topic {
    pub(super) name: Arc<str>,
    pub(super) id: TopicId,
    /// All it ever had.
    pub(super) partitions: Table<Arc<Partition>>,
    /// How many of them records are appended to: fewer than the table has, if the topic was created again with fewer.
    pub(super) count: AtomicU32,
    /// Partition index in the high half, the generation of its batch in the low half.
    pub(super) stripes: Box<[Padded<AtomicU64>]>,
    /// Round robin of sticky choices.
    pub(super) turn: AtomicU32,
    /// Most bytes of a batch: `batch.size`, or less once a broker has refused one.
    pub(super) batch_bytes: AtomicUsize,
}

/// One partition: its open batch, and the sealed ones in order.
#[repr(align(128))]
pub(super) struct Partition {
    pub(super) slot: Mutex<Slot>,
    /// Batches sealed here so far; changed under the slot's lock, read without by stripes.
    pub(super) generation: AtomicU32,
    /// When the open batch was opened, in microseconds of the producer's life; 0: none is open.
    pub(super) opened_us: AtomicU64,
    pub(super) topic: Arc<str>,
    pub(super) topic_id: TopicId,
    pub(super) index: i32,
    /// The leader as last heard; a hint for linger and for sticky choices, not for sending.
    pub(super) node: AtomicI32,
    /// Bytes sealed and not ended.
    pub(super) queued_bytes: AtomicUsize,
    /// Whether a batch sealed now would have to wait.
    pub(super) busy: AtomicBool,
    /// How often in a row it was to be sent and had no leader.
    pub(super) leaderless: AtomicU32,
    /// Lock order: slot, then queue.
    pub(super) queue: Mutex<PartitionQueue<Batch>>,
}

/// The open batch of a partition and what the next one needs to know.
#[derive(Default)]
pub(super) struct Slot {
    pub(super) open: Option<Open>,
    /// Nothing is appended any more.
    pub(super) closed: bool,
    /// The partition stands on the linger list.
    pub(super) listed: bool,
    pub(super) clock: RecordClock,
    /// Bytes of the last sealed batch.
    pub(super) last_bytes: usize,
}

/// A batch that takes records.
pub(super) struct Open {
    pub(super) builder: BatchBuilder,
    /// Bytes the batch may reach without asking anybody: the smaller of its buffer and its limit.
    pub(super) limit: usize,
    pub(super) lease: Lease,
    pub(super) pass: Pass,
    /// Made by the first tracked record.
    pub(super) delivery: Option<Arc<BatchDelivery>>,
}

impl Topic {
    pub(super) fn new(name: Arc<str>, id: TopicId, batch_bytes: usize) -> Self {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            name,
            id,
            partitions: Table::new(),
            count: AtomicU32::new(0),
            stripes: (0..cpus.min(STRIPES_MAX)).map(|_| Padded(AtomicU64::new(u64::MAX))).collect(),
            turn: AtomicU32::new(0),
            batch_bytes: AtomicUsize::new(batch_bytes),
        }
    }

    /// The stripe of the calling thread, and the number of stripes in use: never more than partitions.
    #[inline]
    pub(super) fn stripe(&self, partitions: u32) -> usize {
        let stripes = self.stripes.len().min(partitions as usize).max(1);
        let number = thread_number() as usize;
        // A division takes as long as ten other instructions.
        if number < stripes { number } else { number % stripes }
    }

    /// Whether another stripe than `me` points at the open batch of `partition`.
    pub(super) fn is_taken(&self, me: usize, partition: u32) -> bool {
        let Some(generation) = self.partitions.get(partition).map(|p| p.generation.load(Relaxed)) else {
            return false;
        };
        let mark = pack(partition, generation);
        self.stripes.iter().enumerate().any(|(i, stripe)| i != me && stripe.0.load(Relaxed) == mark)
    }
}

impl Partition {
    pub(super) fn new(topic: &Topic, index: i32, node: i32, window: usize) -> Self {
        Self {
            slot: Mutex::default(),
            generation: AtomicU32::new(0),
            opened_us: AtomicU64::new(0),
            topic: Arc::clone(&topic.name),
            topic_id: topic.id,
            index,
            node: AtomicI32::new(node),
            queued_bytes: AtomicUsize::new(0),
            busy: AtomicBool::new(false),
            leaderless: AtomicU32::new(0),
            queue: Mutex::new(PartitionQueue::new(window)),
        }
    }
}

/// What a stripe stores.
#[inline]
pub(super) fn pack(partition: u32, generation: u32) -> u64 {
    u64::from(partition) << 32 | u64::from(generation)
}

/// A small number of the calling thread, by order of first use.
#[inline]
fn thread_number() -> u32 {
    thread_local! {
        static NUMBER: std::cell::Cell<u32> = const { std::cell::Cell::new(u32::MAX) };
    }
    static NEXT: AtomicU32 = AtomicU32::new(0);
    NUMBER.with(|number| {
        if number.get() == u32::MAX {
            number.set(NEXT.fetch_add(1, Relaxed) & (u32::MAX >> 1));
        }
        number.get()
    })
}
