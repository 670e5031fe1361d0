//! What became of a record: one shared object a batch, a small handle a tracked record.
//!
//! A batch that holds no tracked record has none of this. A batch that the broker found too large is split, so an
//! outcome belongs to a range of the batch's records; each range is settled exactly once.

use std::future::Future;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

use super::error::DeliveryError;
use crate::log_rate;

/// Where a delivered record stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordMetadata {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The offset; -1 when the broker did not say (acks=0, or a repeated batch it already had).
    pub offset: i64,
    /// Milliseconds since 1970: the record's own time, or the broker's where the topic is set to that.
    pub timestamp: i64,
}

/// The end of a range of records.
#[derive(Debug, Clone)]
pub(super) enum Outcome {
    /// Written. `base_offset` is that of the first record of the range, -1 when not known.
    Written { base_offset: i64, log_append_time: Option<i64> },
    /// Not written, or not known to be.
    Failed(DeliveryError),
}

/// What the tracked records of one batch share.
pub(super) struct BatchDelivery {
    topic: Arc<str>,
    partition: i32,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Settled ranges: one, unless the batch was split.
    settled: Vec<(Range<u32>, Outcome)>,
    /// Bounded by the tracked records of the batch.
    waiting: Vec<(u32, Waiting)>,
}

enum Waiting {
    Task(Waker),
    Callback(Callback, i64),
    /// A future that was dropped.
    Gone,
}

type Callback = Box<dyn FnOnce(Result<RecordMetadata, DeliveryError>) + Send>;

impl BatchDelivery {
    pub(super) fn new(topic: Arc<str>, partition: i32) -> Arc<Self> {
        Arc::new(Self { topic, partition, state: Mutex::default() })
    }

    /// Settles `range` and tells those who wait for it. Callbacks run here, outside the lock.
    pub(super) fn settle(&self, range: Range<u32>, outcome: Outcome) {
        let told = {
            let mut state = self.state.lock();
            debug_assert!(
                state.settled.iter().all(|(done, _)| done.end <= range.start || range.end <= done.start),
                "a record is settled once"
            );
            state.settled.push((range.clone(), outcome.clone()));
            if state.waiting.iter().all(|(index, _)| range.contains(index)) {
                std::mem::take(&mut state.waiting)
            } else {
                // Positions of the others must hold: their futures know them.
                let mine = |(index, waiting): &mut (u32, Waiting)| {
                    let waiting = std::mem::replace(waiting, Waiting::Gone);
                    (*index, waiting)
                };
                state.waiting.iter_mut().filter(|(index, _)| range.contains(index)).map(mine).collect()
            }
        };
        for (index, waiting) in told {
            match waiting {
                Waiting::Task(waker) => waker.wake(),
                Waiting::Callback(callback, timestamp) => {
                    let result = self.result(&range, &outcome, index, timestamp);
                    // It runs on the task that sends to a broker: its panic must not end that.
                    if catch_unwind(AssertUnwindSafe(|| callback(result))).is_err()
                        && let Some(more) =
                            log_rate::due(format_args!("callback {}/{}", self.topic, self.partition))
                    {
                        tracing::error!(target: "kafkafast.producer",
                            "A completion callback panicked ({}/{}){more}", self.topic, self.partition);
                    }
                }
                Waiting::Gone => {}
            }
        }
    }

    fn result(
        &self,
        range: &Range<u32>,
        outcome: &Outcome,
        index: u32,
        timestamp: i64,
    ) -> Result<RecordMetadata, DeliveryError> {
        match outcome {
            Outcome::Failed(error) => Err(error.clone()),
            Outcome::Written { base_offset, log_append_time } => Ok(RecordMetadata {
                topic: Arc::clone(&self.topic),
                partition: self.partition,
                offset: if *base_offset < 0 { -1 } else { base_offset + i64::from(index - range.start) },
                timestamp: log_append_time.unwrap_or(timestamp),
            }),
        }
    }

    fn settled(
        &self,
        state: &State,
        index: u32,
        timestamp: i64,
    ) -> Option<Result<RecordMetadata, DeliveryError>> {
        let (range, outcome) = state.settled.iter().find(|(range, _)| range.contains(&index))?;
        Some(self.result(range, outcome, index, timestamp))
    }
}

/// What will become of one record: a future of its place in the log.
///
/// Dropping it loses the notification, not the record. Cancel safe: polling again later gives the same answer.
#[must_use = "a delivery that nobody looks at hides failures; use try_append when that is meant"]
pub struct Delivery {
    batch: Arc<BatchDelivery>,
    index: u32,
    timestamp: i64,
    /// Where this future's waker stands in the batch's list.
    waiting_at: Option<usize>,
}

impl Delivery {
    pub(super) fn new(batch: Arc<BatchDelivery>, index: u32, timestamp: i64) -> Self {
        Self { batch, index, timestamp, waiting_at: None }
    }

    /// The topic the record goes to.
    pub fn topic(&self) -> &Arc<str> {
        &self.batch.topic
    }

    /// The partition the record goes to.
    pub fn partition(&self) -> i32 {
        self.batch.partition
    }

    /// The timestamp the record carries, in milliseconds since 1970.
    pub fn timestamp(&self) -> i64 {
        self.timestamp
    }

    /// Calls `done` once with the end of it: at once when it is known, else on a thread of the client's runtime,
    /// where it must not block.
    pub fn on_complete(self, done: impl FnOnce(Result<RecordMetadata, DeliveryError>) + Send + 'static) {
        let known = {
            let mut state = self.batch.state.lock();
            match self.batch.settled(&state, self.index, self.timestamp) {
                Some(result) => result,
                None => {
                    state.waiting.push((self.index, Waiting::Callback(Box::new(done), self.timestamp)));
                    return;
                }
            }
        };
        done(known);
    }

    /// The end of it, if it is known.
    pub fn try_result(&self) -> Option<Result<RecordMetadata, DeliveryError>> {
        let state = self.batch.state.lock();
        self.batch.settled(&state, self.index, self.timestamp)
    }
}

impl Future for Delivery {
    type Output = Result<RecordMetadata, DeliveryError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut *self;
        let mut state = this.batch.state.lock();
        if let Some(result) = this.batch.settled(&state, this.index, this.timestamp) {
            return Poll::Ready(result);
        }
        match this.waiting_at.and_then(|at| state.waiting.get_mut(at)) {
            Some((_, Waiting::Task(waker))) => waker.clone_from(cx.waker()),
            _ => {
                this.waiting_at = Some(state.waiting.len());
                state.waiting.push((this.index, Waiting::Task(cx.waker().clone())));
            }
        }
        Poll::Pending
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(at) = self.waiting_at {
            // The waker may keep a whole task alive. After a settlement the place may be another's.
            if let Some((index, waiting)) = self.batch.state.lock().waiting.get_mut(at)
                && *index == self.index
            {
                *waiting = Waiting::Gone;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    fn batch() -> Arc<BatchDelivery> {
        BatchDelivery::new(Arc::from("data"), 3)
    }

    fn written(base_offset: i64) -> Outcome {
        Outcome::Written { base_offset, log_append_time: None }
    }

    #[tokio::test]
    async fn a_delivery_gives_its_own_offset_before_and_after_the_fact() {
        let batch = batch();
        let early = tokio::spawn(Delivery::new(Arc::clone(&batch), 2, 77));
        tokio::task::yield_now().await;
        batch.settle(0..5, written(100));
        let metadata = early.await.unwrap().unwrap();
        assert_eq!((metadata.offset, metadata.partition, metadata.timestamp), (102, 3, 77));
        assert_eq!(Delivery::new(batch, 4, 0).await.unwrap().offset, 104);
    }

    #[tokio::test]
    async fn the_parts_of_a_split_batch_end_on_their_own() {
        let batch = batch();
        let calls = Arc::new(AtomicUsize::new(0));
        let mut late = Box::pin(Delivery::new(Arc::clone(&batch), 3, 0));
        let mut cx = Context::from_waker(Waker::noop());
        assert!(late.as_mut().poll(&mut cx).is_pending());
        for index in 0..4 {
            let calls = Arc::clone(&calls);
            Delivery::new(Arc::clone(&batch), index, 0).on_complete(move |result| {
                assert_eq!(result.is_ok(), index >= 2);
                calls.fetch_add(1, Ordering::SeqCst);
            });
        }
        let error = DeliveryError::Closed { topic: Arc::from("data"), partition: 3, possibly_written: false };
        batch.settle(0..2, Outcome::Failed(error));
        assert_eq!(calls.load(Ordering::SeqCst), 2);
        assert!(late.as_mut().poll(&mut cx).is_pending());
        batch.settle(2..4, written(-1));
        assert_eq!(calls.load(Ordering::SeqCst), 4);
        assert_eq!(late.await.unwrap().offset, -1);
    }

    #[test]
    fn a_callback_that_panics_harms_nobody() {
        let batch = batch();
        Delivery::new(Arc::clone(&batch), 0, 0).on_complete(|_| panic!("on purpose"));
        let called = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&called);
        Delivery::new(Arc::clone(&batch), 1, 0).on_complete(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
        });
        batch.settle(0..2, written(0));
        assert_eq!(called.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_dropped_delivery_disturbs_nobody() {
        let batch = batch();
        let mut cx = Context::from_waker(Waker::noop());
        let mut gone = Box::pin(Delivery::new(Arc::clone(&batch), 0, 0));
        let mut stays = Box::pin(Delivery::new(Arc::clone(&batch), 1, 0));
        assert!(gone.as_mut().poll(&mut cx).is_pending());
        assert!(stays.as_mut().poll(&mut cx).is_pending());
        drop(gone);
        assert!(stays.as_mut().poll(&mut cx).is_pending());
        assert_eq!(batch.state.lock().waiting.len(), 2, "polling again takes no second place");
        batch.settle(0..2, written(7));
        assert!(matches!(stays.as_mut().poll(&mut cx), Poll::Ready(Ok(m)) if m.offset == 8));
    }

    #[test]
    fn an_ended_delivery_does_not_silence_another() {
        let batch = batch();
        let mut cx = Context::from_waker(Waker::noop());
        let mut first = Box::pin(Delivery::new(Arc::clone(&batch), 0, 0));
        assert!(first.as_mut().poll(&mut cx).is_pending());
        batch.settle(0..1, written(0));
        let mut second = Box::pin(Delivery::new(Arc::clone(&batch), 1, 0));
        struct Bell(AtomicUsize);
        impl std::task::Wake for Bell {
            fn wake(self: Arc<Self>) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let bell = Arc::new(Bell(AtomicUsize::new(0)));
        let waker: Waker = bell.clone().into();
        assert!(second.as_mut().poll(&mut Context::from_waker(&waker)).is_pending());
        assert!(first.as_mut().poll(&mut cx).is_ready());
        drop(first);
        batch.settle(1..2, written(1));
        assert_eq!(bell.0.load(Ordering::SeqCst), 1, "the second was never woken");
    }
}
