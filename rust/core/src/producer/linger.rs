//! When an open batch goes although it is not full.
//!
//! One task looks at the open batches (only at those: a partition enters its list with a batch's first record).
//! A batch whose partition could not send it anyway stays open and grows: to seal it would make it smaller and
//! nothing faster. Otherwise it goes
//! * with a fixed linger, when it is that old;
//! * without one, at once if its broker is idle and got its last request [`GAP`] ago, else when it is
//!   [`ADAPTIVE_MAX`] old. So a lone record waits for nothing, ten thousand a second share two hundred requests,
//!   and a loaded connection gets large batches.
//!
//! Flush, close, and a full buffer seal everything that is open.
//!
//! Waking a thread costs more than all else that is done for a small batch. So the task, when it has sealed something, sets
//! its timer once more although nothing is open: the next batch of a stream finds it awake, and costs one wake-up, the
//! timer's, instead of two.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::shared::{Shared, stopped};
use super::topic::Partition;

/// Longest wait of a batch that could be sent, when no linger is set.
const ADAPTIVE_MAX: Duration = Duration::from_millis(5);
/// Least time between two requests that carry batches which are not full, when no linger is set. As long as the linger of
/// others (5 ms is also Kafka's own default, KIP-1030): a request costs tens of microseconds of CPU, whatever is in it.
const GAP: Duration = Duration::from_millis(5);
/// What is due so soon goes now: timers are a millisecond coarse and end late, never early.
const SLACK: Duration = Duration::from_micros(500);
/// While a batch is open the task wakes at least this often: record clocks go by it.
const TICK: Duration = Duration::from_millis(5);

/// The list of open batches and the means to wake their task.
#[derive(Default)]
pub(super) struct Linger {
    /// Partitions whose batch was opened since the last pass. Bounded by the partitions in use.
    opened: Mutex<Vec<Arc<Partition>>>,
    pressed: AtomicBool,
    /// The task has nothing to look at and sleeps without a timer.
    pub(super) asleep: AtomicBool,
    pub(super) wake: Notify,
    /// Passes so far.
    pub(super) tick: AtomicU32,
}

/// What to do with an open batch.
#[derive(Debug, PartialEq)]
enum Due {
    Now,
    /// At that microsecond of the producer's life.
    At(u64),
    /// When its partition is free again; a landing wakes the task.
    WhenFree,
    /// There is no open batch.
    Gone,
}

impl Linger {
    pub(super) fn add(&self, partition: Arc<Partition>) {
        self.opened.lock().push(partition);
    }

    /// Everything that is open goes now.
    pub(super) fn press(&self) {
        self.pressed.store(true, SeqCst);
        self.wake.notify_one();
    }

    /// A request has ended: batches that waited for their partition or broker may go.
    pub(super) fn broker_freed(&self) {
        if !self.asleep.load(SeqCst) {
            self.wake.notify_one();
        }
    }
}

impl Shared {
    /// A batch was opened: wakes the task if it sleeps, or if the batch may go before the next tick.
    pub(super) fn linger_look(&self, partition: &Partition) {
        let soon = || match self.settings.linger {
            Some(linger) => linger < TICK && !partition.is_busy(),
            None => matches!(self.due(partition, self.time.us()), Due::Now),
        };
        if self.linger.asleep.load(SeqCst) || soon() {
            self.linger.wake.notify_one();
        }
    }

    fn due(&self, partition: &Partition, now_us: u64) -> Due {
        let opened_us = partition.opened_us.load(Relaxed);
        if opened_us == 0 {
            return Due::Gone;
        }
        if partition.is_busy() {
            return Due::WhenFree;
        }
        let broker = self.known_broker(partition.node.load(Relaxed));
        let last_send_us =
            broker.filter(|b| !b.is_idle()).map_or_else(|| self.last_send(partition), |_| None);
        at(opened_us, self.settings.linger, last_send_us, now_us)
    }

    /// When the idle broker of the partition got its last request.
    fn last_send(&self, partition: &Partition) -> Option<u64> {
        let broker = self.known_broker(partition.node.load(Relaxed));
        Some(broker.map_or(0, |b| b.last_send_us.load(Relaxed)))
    }
}

/// When a batch goes whose partition is free. `idle_since_send_us`: when the broker got its last request (0:
/// never), if it is idle.
fn at(opened_us: u64, linger: Option<Duration>, idle_since_send_us: Option<u64>, now_us: u64) -> Due {
    let at = match (linger, idle_since_send_us) {
        (Some(linger), _) => opened_us.saturating_add(micros(linger)),
        (None, None) => opened_us + micros(ADAPTIVE_MAX),
        (None, Some(0)) => opened_us,
        (None, Some(sent)) => (sent + micros(GAP)).min(opened_us + micros(ADAPTIVE_MAX)),
    };
    if at <= now_us + micros(SLACK) { Due::Now } else { Due::At(at) }
}

fn micros(duration: Duration) -> u64 {
    duration.as_micros() as u64
}

/// The task; ends with the producer.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    let mut open: Vec<Arc<Partition>> = Vec::new();
    loop {
        let next_us = pass(&shared, &mut open);
        let linger = &shared.linger;
        let timer = async {
            match next_us {
                Some(us) => tokio::time::sleep_until(shared.time.instant(us).into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = stopped(&mut stop) => return,
            () = linger.wake.notified() => {}
            () = timer => {}
        }
        linger.asleep.store(false, SeqCst);
    }
}

/// Seals what is due; returns when to look again.
pub(super) fn pass(shared: &Arc<Shared>, open: &mut Vec<Arc<Partition>>) -> Option<u64> {
    let linger = &shared.linger;
    linger.tick.fetch_add(1, Relaxed);
    // Before the list is read: a flush presses after its records are on it.
    let pressed = linger.pressed.swap(false, SeqCst);
    open.append(&mut linger.opened.lock());
    let now_us = shared.time.us();
    let mut next_us = now_us + micros(TICK);
    let mut sealed = Vec::new();
    open.retain(|partition| {
        match shared.due(partition, now_us) {
            due if pressed || matches!(due, Due::Now | Due::Gone) => {
                // A batch opened in this very moment is looked at again.
                if due == Due::Gone && !pressed {
                    return partition.keep_listed();
                }
                if shared.seal_now(partition, false) {
                    sealed.push(Arc::clone(partition));
                }
                return false;
            }
            Due::At(us) => next_us = next_us.min(us),
            _ => {}
        }
        true
    });
    let stream = !sealed.is_empty() && !pressed && shared.settings.linger.is_none();
    shared.place_all(sealed);
    if !open.is_empty() {
        return Some(next_us);
    }
    if stream {
        return Some(now_us + micros(GAP));
    }
    linger.asleep.store(true, SeqCst);
    // Who adds after this look sees `asleep` and wakes us.
    if linger.opened.lock().is_empty() { None } else { Some(now_us) }
}

impl Partition {
    /// Whether the partition stays on the linger list; if not, the next batch puts it there again.
    fn keep_listed(&self) -> bool {
        let mut slot = self.slot.lock();
        slot.listed = slot.open.is_some();
        slot.listed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lone_record_goes_at_once_and_a_stream_in_steps() {
        let us = |ms: u64| ms * 1000;
        assert_eq!(at(us(100), None, Some(0), us(100)), Due::Now);
        assert_eq!(at(us(100), None, Some(us(50)), us(100)), Due::Now);
        assert_eq!(at(us(100), None, Some(us(99)), us(100)), Due::At(us(102)));
        assert_eq!(at(us(100), None, None, us(101)), Due::At(us(105)));
        assert_eq!(at(us(100), None, None, us(105)), Due::Now);
    }

    #[test]
    fn a_set_linger_is_kept_whatever_the_broker_does() {
        let linger = Some(Duration::from_millis(20));
        assert_eq!(at(1000, linger, Some(0), 1000), Due::At(21_000));
        assert_eq!(at(1000, linger, None, 21_000), Due::Now);
        assert_eq!(at(1000, Some(Duration::ZERO), None, 1000), Due::Now);
    }
}
