//! Partitions that cannot send now: they back off after a failure, have no leader, or one that wants a pause.
//!
//! One task holds them and brings them back when their time has come or, without a leader, when the metadata
//! changes. It also takes new partitions and moved leaders over from the metadata.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::partition_queue::backoff;
use super::shared::{Shared, stopped};
use super::topic::Partition;

/// Partitions that arrived since the task last looked. Bounded by the partitions: each is on one list.
#[derive(Default)]
pub(super) struct Delay {
    arrived: Mutex<Vec<Delayed>>,
    pub(super) wake: Notify,
}

struct Delayed {
    partition: Arc<Partition>,
    why: Why,
}

enum Why {
    BacksOff {
        until: Instant,
    },
    Leaderless {
        until: Instant,
    },
    /// That broker wants a pause.
    Muted {
        node: i32,
    },
}

impl Delayed {
    /// When it comes back, if nothing happens before.
    fn due(&self, shared: &Shared) -> Instant {
        match self.why {
            Why::BacksOff { until } | Why::Leaderless { until } => until,
            Why::Muted { node } => {
                let muted = shared.known_broker(node).and_then(|b| b.muted_until(|| shared.time.us()));
                muted.map_or_else(|| shared.time.now(), |us| shared.time.instant(us))
            }
        }
    }

    /// Whether it may go where the metadata points now.
    fn may_move(&self) -> bool {
        match self.why {
            Why::BacksOff { .. } => false,
            Why::Leaderless { .. } => true,
            Why::Muted { node } => self.partition.node.load(Relaxed) != node,
        }
    }
}

impl Delay {
    /// Brings the partition back at `until`.
    pub(super) fn add(&self, partition: Arc<Partition>, until: Instant) {
        self.push(Delayed { partition, why: Why::BacksOff { until } });
    }

    /// Brings the partition back when the metadata changes, at the latest after a second or so.
    pub(super) fn add_leaderless(&self, partition: Arc<Partition>, now: Instant) {
        let until = now + backoff(4, super::noise());
        self.push(Delayed { partition, why: Why::Leaderless { until } });
    }

    /// Brings the partition back when the broker is to be spoken to again, or leads it no more.
    pub(super) fn add_muted(&self, partition: Arc<Partition>, node: i32) {
        self.push(Delayed { partition, why: Why::Muted { node } });
    }

    fn push(&self, delayed: Delayed) {
        self.arrived.lock().push(delayed);
        self.wake.notify_one();
    }
}

/// What is held back.
#[derive(Default)]
pub(super) struct Held(Vec<Delayed>);

impl Held {
    /// Takes what has arrived and returns when the first is due.
    pub(super) fn next(&mut self, shared: &Shared) -> Option<Instant> {
        self.0.append(&mut shared.delay.arrived.lock());
        self.0.iter().map(|d| d.due(shared)).min()
    }

    /// Brings back what is due.
    pub(super) fn bring_back(&mut self, shared: &Arc<Shared>, metadata_changed: bool) {
        if metadata_changed {
            take_over(shared);
        }
        let now = shared.time.now();
        let due = |d: &mut Delayed| d.due(shared) <= now || (metadata_changed && d.may_move());
        let back = self.0.extract_if(.., due).map(|d| d.partition).collect::<Vec<_>>();
        shared.place_all(back);
    }
}

/// The task; ends with the producer.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    let mut updates = shared.cluster.updates();
    let mut held = Held::default();
    loop {
        let next = held.next(&shared);
        let timer = async {
            match next {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        let mut metadata_changed = false;
        tokio::select! {
            () = stopped(&mut stop) => return,
            changed = updates.changed() => match changed {
                Ok(()) => metadata_changed = true,
                // The cluster has been closed under the producer; nothing changes any more.
                Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
            },
            () = shared.delay.wake.notified() => continue,
            () = timer => {}
        }
        held.bring_back(&shared, metadata_changed);
    }
}

/// Takes the cached metadata of every topic over: rare, so a scan is fine.
fn take_over(shared: &Arc<Shared>) {
    for topic in shared.topics.iter() {
        if let Some(meta) = shared.cluster.cached_topic(&topic.name) {
            shared.update_partitions(topic, &meta);
        }
    }
}
