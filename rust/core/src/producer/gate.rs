//! How `flush` and `close` know that everything before them has ended.
//!
//! Every batch holds a pass of the gate that was current when it was opened and drops it when it is settled. A
//! flush closes the current gate, seals what is open, and waits until no pass of it or of an earlier gate is out.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The gates that still have passes out, the current one last. Bounded by the flushes under way.
pub(super) struct Gates(Mutex<VecDeque<Arc<Gate>>>);

#[derive(Default)]
pub(super) struct Gate {
    out: AtomicUsize,
    empty: Notify,
}

/// A batch that has not ended yet.
pub(super) struct Pass(Arc<Gate>);

impl Gates {
    pub(super) fn new() -> Self {
        Self(Mutex::new(VecDeque::from([Arc::default()])))
    }

    /// A pass of the current gate.
    pub(super) fn pass(&self) -> Pass {
        let gates = self.0.lock();
        let current = gates.back().expect("invariant: there is always a current gate");
        current.out.fetch_add(1, SeqCst);
        Pass(Arc::clone(current))
    }

    /// Closes the current gate and returns all that still have passes out, or will have for batches open now.
    pub(super) fn close_current(&self) -> Vec<Arc<Gate>> {
        let mut gates = self.0.lock();
        gates.retain(|gate| gate.out.load(SeqCst) > 0);
        let closed = gates.iter().cloned().collect();
        gates.push_back(Arc::default());
        closed
    }
}

impl Gate {
    /// Whether no pass is out.
    #[cfg(test)]
    pub(super) fn is_empty(&self) -> bool {
        self.out.load(SeqCst) == 0
    }

    /// Waits until no pass is out. Cancel safe.
    pub(super) async fn wait(&self) {
        loop {
            let empty = self.empty.notified();
            tokio::pin!(empty);
            // Listen first, look then: a pass dropped in between must not go unheard.
            empty.as_mut().enable();
            if self.out.load(SeqCst) == 0 {
                return;
            }
            empty.await;
        }
    }
}

impl Clone for Pass {
    fn clone(&self) -> Self {
        self.0.out.fetch_add(1, SeqCst);
        Self(Arc::clone(&self.0))
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        if self.0.out.fetch_sub(1, SeqCst) == 1 {
            self.0.empty.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_flush_waits_for_what_was_before_it_and_for_nothing_after() {
        let gates = Gates::new();
        let first = gates.pass();
        let split = first.clone();
        let before = gates.close_current();
        let after = gates.pass();
        let wait = tokio::spawn(async move {
            for gate in before {
                gate.wait().await;
            }
        });
        drop(first);
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(!wait.is_finished());
        drop(split);
        wait.await.unwrap();
        assert_eq!(gates.close_current().len(), 1);
        drop(after);
        assert!(gates.close_current().is_empty());
    }
}
