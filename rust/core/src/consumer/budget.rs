//! The bytes a consumer may hold fetched and not yet handled (`prefetch-bytes`).
//!
//! Bytes are reserved before a fetch is sent, corrected when its answer is there, and given back when the last batch
//! of that answer is dropped: batches are slices of the answer's buffer, so the buffer lives as long as any of them,
//! and counting single batches would count too little.
//!
//! The bound is `limit` plus what cannot be refused: Kafka answers with a whole batch however large it is, and a
//! reader that waits in the middle of its unit gets one small piece even when others hold everything (else a reader
//! stuck in user code would stop the others).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tokio::sync::Notify;

/// Counts held bytes; wakes the fetcher when there is room again.
#[derive(Debug)]
pub(super) struct Budget {
    limit: usize,
    used: AtomicUsize,
    peak: AtomicUsize,
    /// Whether the fetcher was refused since it was last woken.
    refused: AtomicBool,
    fetcher: Arc<Notify>,
}

impl Budget {
    /// A budget of `limit` bytes that wakes `fetcher`.
    pub(super) fn new(limit: usize, fetcher: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self {
            limit,
            used: AtomicUsize::new(0),
            peak: AtomicUsize::new(0),
            refused: AtomicBool::new(false),
            fetcher,
        })
    }

    /// Bytes held or promised to fetches under way.
    pub(super) fn used(&self) -> usize {
        self.used.load(Ordering::Relaxed)
    }

    /// The most bytes ever held.
    pub(super) fn peak(&self) -> usize {
        self.peak.load(Ordering::Relaxed)
    }

    /// Bytes that may be had now.
    pub(super) fn room(&self) -> usize {
        self.limit.saturating_sub(self.used())
    }

    /// The bound.
    pub(super) const fn limit(&self) -> usize {
        self.limit
    }

    /// Says that the fetcher wanted more than there is: it is woken by the next bytes given back.
    pub(super) fn mark_refused(&self) {
        self.refused.store(true, Ordering::SeqCst);
    }

    /// Takes `bytes`, whether or not there is room; the caller looked at [`Self::room`].
    pub(super) fn take(self: &Arc<Self>, bytes: usize) -> Charge {
        self.add(bytes);
        Charge { bytes, budget: Arc::clone(self) }
    }

    fn add(&self, bytes: usize) {
        let now = self.used.fetch_add(bytes, Ordering::SeqCst) + bytes;
        self.peak.fetch_max(now, Ordering::Relaxed);
    }

    fn give(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::SeqCst);
        if bytes > 0 && self.refused.load(Ordering::SeqCst) && self.refused.swap(false, Ordering::SeqCst) {
            self.fetcher.notify_one();
        }
    }
}

/// Bytes taken from a budget; given back on drop.
#[derive(Debug)]
pub(super) struct Charge {
    bytes: usize,
    budget: Arc<Budget>,
}

impl Charge {
    /// Where it was taken from.
    pub(super) const fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Corrects the charge to what really came.
    pub(super) fn set(&mut self, bytes: usize) {
        if bytes > self.bytes {
            self.budget.add(bytes - self.bytes);
        } else {
            self.budget.give(self.bytes - bytes);
        }
        self.bytes = bytes;
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.give(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_back_with_the_last_holder_and_wake_a_refused_fetcher() {
        let notify = Arc::new(Notify::new());
        let budget = Budget::new(100, Arc::clone(&notify));
        let mut charge = budget.take(60);
        charge.set(90);
        assert_eq!((budget.used(), budget.room()), (90, 10));
        let shared = Arc::new(charge);
        let other = Arc::clone(&shared);
        drop(shared);
        assert_eq!(budget.used(), 90);
        budget.mark_refused();
        drop(other);
        assert_eq!((budget.used(), budget.peak()), (0, 90));
        let woken = std::pin::pin!(notify.notified());
        assert!(woken.poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_ready());
    }

    #[test]
    fn one_oversize_answer_is_admitted_and_then_there_is_no_room() {
        let budget = Budget::new(100, Arc::new(Notify::new()));
        let charge = budget.take(1000);
        assert_eq!(budget.room(), 0);
        drop(charge);
        assert_eq!(budget.room(), 100);
    }
}
