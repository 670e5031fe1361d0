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
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
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
    /// Until when the task keeps its timer although nothing is open; its own.
    awake_until_us: AtomicU64,
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
        if let Some(until) = broker.as_ref().and_then(|b| b.muted_until(|| now_us)) {
            return Due::At(until);
        }
        let last_send_us = match broker {
            Some(broker) => broker.is_idle().then(|| broker.last_send_us.load(Relaxed)),
            None => Some(0),
        };
        at(opened_us, self.settings.linger, last_send_us, now_us)
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
        linger.awake_until_us.store(now_us + micros(GAP), Relaxed);
    }
    // Also when an answer has woken it before that time.
    let awake_until_us = linger.awake_until_us.load(Relaxed);
    if now_us < awake_until_us {
        return Some(awake_until_us);
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
    use std::pin::pin;
    use std::task::{Context, Waker};

    use super::super::delay::Held;
    use super::super::sender::{self, Flight};
    use super::super::settle;
    use super::super::tests::World;
    use super::*;
    use crate::wire::messages::{PartitionProduceResponse, ProduceResponse, TopicProduceResponse};

    #[test]
    fn a_lone_record_goes_at_once_and_a_stream_in_steps() {
        let us = |ms: u64| ms * 1000;
        assert_eq!(at(us(100), None, Some(0), us(100)), Due::Now);
        assert_eq!(at(us(100), None, Some(us(50)), us(100)), Due::Now);
        assert_eq!(at(us(100), None, Some(us(99)), us(100)), Due::At(us(104)));
        assert_eq!(at(us(100), None, None, us(101)), Due::At(us(105)));
        assert_eq!(at(us(100), None, None, us(105)), Due::Now);
    }

    #[test]
    fn what_is_due_before_a_timer_could_end_goes_now() {
        let slack = micros(SLACK);
        assert_eq!(at(1_000, None, None, 6_000 - slack), Due::Now);
        assert_eq!(at(1_000, None, None, 6_000 - slack - 1), Due::At(6_000));
        assert_eq!(at(1_000, Some(Duration::from_millis(20)), None, 21_000 - slack - 1), Due::At(21_000));
        assert_eq!(at(1_000, Some(Duration::MAX), None, u64::MAX / 2), Due::At(u64::MAX));
    }

    #[test]
    fn a_set_linger_is_kept_whatever_the_broker_does() {
        let linger = Some(Duration::from_millis(20));
        assert_eq!(at(1000, linger, Some(0), 1000), Due::At(21_000));
        assert_eq!(at(1000, linger, None, 21_000), Due::Now);
        assert_eq!(at(1000, Some(Duration::ZERO), None, 1000), Due::Now);
    }

    /// The task without its thread: its timer, and what wakes it.
    struct Task {
        world: World,
        open: Vec<Arc<Partition>>,
        timer: Option<u64>,
        passes: u32,
    }

    impl Task {
        /// `acks=0`: a request is settled without an answer.
        async fn new(partitions: i32) -> Self {
            let world = World::new(1, partitions, &[("acks", "0")]).await;
            let mut task = Self { world, open: Vec::new(), timer: Some(0), passes: 0 };
            task.run(0);
            task
        }

        fn is_woken(&self) -> bool {
            let mut notified = pin!(self.world.shared.linger.wake.notified());
            notified.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_ready()
        }

        /// Runs it if it would run now. Timers end at a whole millisecond, late.
        fn run(&mut self, now_us: u64) {
            let shared = &self.world.shared;
            shared.time.set_us(now_us);
            if self.is_woken() | self.timer.is_some_and(|at| at.next_multiple_of(1_000) <= now_us) {
                shared.linger.asleep.store(false, SeqCst);
                self.timer = pass(shared, &mut self.open);
                self.passes += 1;
            }
        }

        /// What the sender puts into a request now.
        fn send(&self) -> Option<Vec<Flight>> {
            let shared = &self.world.shared;
            shared.known_broker(1).and_then(|broker| sender::next_request(shared, &broker, None))
        }

        fn answered(&self, flights: Vec<Flight>) {
            let shared = &self.world.shared;
            let broker = shared.known_broker(1).unwrap();
            settle::settle(shared, &broker, flights, Ok(None));
            sender::requests_ended(shared, &broker, 1);
        }

        /// They are written, and the broker wants a pause.
        fn answered_with(&self, flights: Vec<Flight>, throttle_time_ms: i32) {
            let responses = flights.iter().map(|flight| TopicProduceResponse {
                name: Arc::clone(&flight.partition.topic),
                partition_responses: vec![PartitionProduceResponse {
                    index: flight.partition.index,
                    ..Default::default()
                }],
                ..Default::default()
            });
            let answer =
                ProduceResponse { responses: responses.collect(), throttle_time_ms, ..Default::default() };
            let shared = &self.world.shared;
            let broker = shared.known_broker(1).unwrap();
            settle::settle(shared, &broker, flights, Ok(Some(answer)));
            sender::requests_ended(shared, &broker, 1);
        }
    }

    #[tokio::test]
    async fn the_second_batch_of_a_stream_finds_the_task_awake() {
        let mut task = Task::new(2).await;
        assert_eq!(task.timer, None, "nothing is open");
        drop(task.world.append(10_000, 0, b"first"));
        task.run(10_000);
        let first = task.send().expect("a lone record goes at once");
        assert_eq!(task.timer, Some(15_000));
        let passes = task.passes;
        // The broker is at work, so this one waits for others, and for no wake-up.
        drop(task.world.append(12_000, 1, b"second"));
        for now in (12_000..16_500).step_by(100) {
            task.run(now);
            assert!(task.send().is_none(), "at {now}");
        }
        assert_eq!(task.passes, passes + 1, "the timer's");
        assert_eq!(task.timer, Some(17_000));
        task.run(17_000);
        let second = task.send().expect("it is five milliseconds old");
        assert_eq!(second[0].partition.index, 1);
        // One more round, and the task sleeps until somebody comes.
        task.run(22_000);
        assert_eq!(task.timer, None);
        task.answered(first);
        task.answered(second);
        task.run(23_000);
        assert_eq!(task.timer, None, "who ends wakes nobody when nothing is open");
        drop(task.world.append(40_000, 0, b"third"));
        task.run(40_000);
        assert!(task.send().is_some());
    }

    #[tokio::test]
    async fn an_answer_that_comes_early_does_not_send_the_task_to_sleep() {
        let mut task = Task::new(2).await;
        drop(task.world.append(10_000, 0, b"first"));
        task.run(10_000);
        let first = task.send().expect("a lone record goes at once");
        task.answered(first);
        task.run(10_400);
        assert_eq!(task.timer, Some(15_000));
        let passes = task.passes;
        drop(task.world.append(11_000, 1, b"second"));
        for now in (11_000..=15_000).step_by(100) {
            task.run(now);
        }
        assert!(task.send().is_some());
        assert_eq!(task.passes, passes + 1, "the timer's");
    }

    #[tokio::test]
    async fn a_broker_that_throttles_hears_nothing_and_batches_grow_meanwhile() {
        let mut task = Task::new(1).await;
        drop(task.world.append(10_000, 0, b"first"));
        task.run(10_000);
        let first = task.send().expect("a lone record goes at once");
        task.answered_with(first, 300);
        for now in (12_000..309_000).step_by(1_000) {
            drop(task.world.append(now, 0, b"more"));
            task.run(now);
            assert!(task.send().is_none(), "at {now}");
        }
        // What must go at once is sealed, and waits all the same.
        task.world.shared.linger.press();
        task.run(309_500);
        assert!(task.send().is_none());
        let mut held = Held::default();
        let pause_ends = held.next(&task.world.shared).expect("it waits for the end of the pause");
        task.run(310_000);
        assert_eq!(pause_ends, task.world.shared.time.now());
        held.bring_back(&task.world.shared, false);
        let flights = task.send().expect("the pause is over");
        assert_eq!(flights[0].batch.count(), 297);
    }

    /// Whatever comes between: what its partition could send goes within five milliseconds and a timer's tick.
    #[tokio::test]
    async fn no_batch_stays_open_for_longer_than_it_may() {
        const PARTITIONS: usize = 3;
        let mut task = Task::new(PARTITIONS as i32).await;
        let mut state = 1_u64;
        let mut dice = |n: u64| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        let mut free_since = [0; PARTITIONS];
        let mut under_way: Vec<(u64, Vec<Flight>)> = Vec::new();
        // Times in which much happens, and such in which hardly anything does.
        let (mut rare, mut slow, mut batches) = (10, 1_000, 0);
        for now in (10_000..20_000_000).step_by(100) {
            if now % 100_000 == 0 {
                (rare, slow) = ([2, 10, 60, 300][dice(4) as usize], [300, 2_000, 20_000][dice(3) as usize]);
            }
            task.world.shared.time.set_us(now);
            if dice(rare) == 0 {
                drop(task.world.append(now, dice(PARTITIONS as u64) as i32, b"x"));
            }
            for (_, flights) in under_way.extract_if(.., |(at, _)| *at <= now) {
                task.answered(flights);
            }
            task.run(now);
            while under_way.len() < sender::REQUESTS_MAX
                && let Some(flights) = task.send()
            {
                batches += flights.len();
                under_way.push((now + dice(slow), flights));
            }
            for (index, free_since) in free_since.iter_mut().enumerate() {
                let partition = task.world.partition(index as u32);
                let opened = partition.opened_us.load(Relaxed);
                if opened == 0 || partition.is_busy() {
                    *free_since = now;
                }
                let may = micros(ADAPTIVE_MAX).max(opened.max(*free_since) - opened) + 1_100;
                assert!(opened == 0 || now - opened <= may, "{index} is open since {opened}, it is {now}");
            }
        }
        assert!(batches > 1_000, "{batches}");
    }
}
