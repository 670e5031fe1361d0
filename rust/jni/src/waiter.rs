//! How a reading thread that found nothing is woken.
//!
//! A parked Java thread is unparked by the service thread: a switch to that one, and one to the reader. A thread that has just had
//! records, and will have more in a moment, waits for that moment here, so that whoever brings them wakes it at once. Java
//! asks for it ([`Waiter::wait`]); it is short, since a thread in native code hears of no interrupt, and a virtual one would
//! keep its carrier.

use std::sync::Arc;
use std::task::Wake;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::service::Unpark;

/// Wakes one slot's thread, wherever it waits.
pub(crate) struct Waiter {
    unpark: Arc<Unpark>,
    state: Mutex<State>,
    woken: Condvar,
}

#[derive(Default)]
struct State {
    /// Whether the thread waits in native code.
    inside: bool,
    /// Whether it was woken since it asked last.
    woken: bool,
}

impl Waiter {
    /// For the thread Java knows by `token`.
    pub(crate) fn new(token: i64) -> Arc<Self> {
        Arc::new(Self { unpark: Unpark::new(token), state: Mutex::default(), woken: Condvar::new() })
    }

    /// The thread is about to ask: what wakes it from now on is news.
    pub(crate) fn asks(&self) {
        self.state.lock().woken = false;
    }

    /// Waits until it is woken, if it was not since it asked, at most `limit`. Says whether it was.
    pub(crate) fn wait(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut state = self.state.lock();
        state.inside = true;
        while !state.woken && !self.woken.wait_until(&mut state, until).timed_out() {}
        // From here on it is parked, or asks again.
        state.inside = false;
        state.woken
    }
}

impl Wake for Waiter {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.state.lock();
        state.woken = true;
        let inside = state.inside;
        drop(state);
        if inside {
            self.woken.notify_one();
        } else {
            self.unpark.wake_by_ref();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    const LONG: Duration = Duration::from_secs(30);

    #[test]
    fn a_thread_inside_is_woken_at_once_and_one_that_was_woken_before_does_not_wait() {
        let waiter = Waiter::new(1);
        waiter.asks();
        assert!(!waiter.wait(Duration::from_millis(1)), "nobody woke it");
        let waker = Waker::from(Arc::clone(&waiter));
        let begun = Instant::now();
        waker.wake_by_ref();
        assert!(waiter.wait(LONG), "the wake-up came before the wait");
        waiter.asks();
        let other = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(20));
            waker.wake();
        });
        assert!(waiter.wait(LONG));
        other.join().unwrap();
        assert!(begun.elapsed() < LONG / 2);
    }
}
