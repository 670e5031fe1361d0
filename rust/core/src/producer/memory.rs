//! The producer's memory, bounded in bytes, and those who wait for it.
//!
//! Bytes are taken when a batch's buffer grows and given back when the batch is delivered or has failed, so a
//! record costs nothing here. A caller that finds no room registers a waker and tries again when it is called.
//!
//! # Fairness
//! Waiters stand in a queue. What is free beyond the bytes of those just woken is held back for the first of the
//! queue, or small records would keep a large one out for ever. A woken waiter takes its bytes by trying again; one
//! that has gone away in the meantime costs nobody a wake-up for long: each later release wakes the next, and when
//! all memory is free everybody is woken.
//!
//! # No lost wake-up
//! A waiter publishes `queued` and then reads `free`; a release adds to `free` and then reads `queued`. Both are
//! sequentially consistent, so at least one of the two sees the other.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::SeqCst};
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// Most bytes of idle buffers kept for reuse, whatever the budget is; they count in it.
const POOL_BYTES_MAX: usize = 8 << 20;
/// Most idle buffers kept for reuse.
const POOL_COUNT_MAX: usize = 64;
/// Smaller buffers are cheaper to allocate than to look for.
const POOLED_BYTES_MIN: usize = 16 << 10;

/// A budget of bytes with a queue of waiters and a pool of idle buffers.
pub(super) struct Memory {
    total: usize,
    free: AtomicUsize,
    /// Kept for the first waiter.
    held: AtomicUsize,
    /// Bytes of those who were woken and have not taken yet; an estimate, as some never do.
    promised: AtomicUsize,
    /// Length of the queue.
    queued: AtomicUsize,
    /// The producer has closed: nobody waits any more.
    closed: AtomicBool,
    next_waiter: AtomicU64,
    /// Bounded by the number of callers that are blocked.
    waiters: Mutex<VecDeque<Waiter>>,
    pool: Mutex<Pool>,
}

struct Waiter {
    id: u64,
    needed: usize,
    waker: Waker,
}

#[derive(Default)]
struct Pool {
    idle: Vec<Vec<u8>>,
    bytes: usize,
}

impl Memory {
    pub(super) fn new(total: usize) -> Arc<Self> {
        Arc::new(Self {
            total,
            free: AtomicUsize::new(total),
            held: AtomicUsize::new(0),
            promised: AtomicUsize::new(0),
            queued: AtomicUsize::new(0),
            closed: AtomicBool::new(false),
            next_waiter: AtomicU64::new(0),
            waiters: Mutex::default(),
            pool: Mutex::default(),
        })
    }

    /// Bytes in use.
    pub(super) fn used(&self) -> usize {
        self.total - self.free.load(SeqCst)
    }

    pub(super) fn total(&self) -> usize {
        self.total
    }

    /// Whether `bytes` could be taken now.
    pub(super) fn has(&self, bytes: usize) -> bool {
        self.free.load(SeqCst).saturating_sub(self.held.load(SeqCst)) >= bytes.min(self.total)
    }

    /// Takes `bytes`, or nothing when they are not there or are kept for a waiter.
    pub(super) fn try_take(self: &Arc<Self>, bytes: usize) -> Option<Lease> {
        self.take(bytes).then(|| Lease { memory: Arc::clone(self), bytes })
    }

    fn take(&self, bytes: usize) -> bool {
        let held = self.held.load(SeqCst);
        let taken = self
            .free
            .fetch_update(SeqCst, SeqCst, |free| (free.saturating_sub(held) >= bytes).then(|| free - bytes));
        if taken.is_ok() && self.promised.load(SeqCst) > 0 {
            let kept = |promised: usize| Some(promised.saturating_sub(bytes));
            let _ = self.promised.fetch_update(SeqCst, SeqCst, kept);
        }
        taken.is_ok()
    }

    fn give(&self, bytes: usize) {
        let before = self.free.fetch_add(bytes, SeqCst);
        debug_assert!(before + bytes <= self.total, "more memory given back than taken");
        if self.queued.load(SeqCst) != 0 {
            self.wake();
        }
    }

    /// Wakes, in their order, the waiters whose bytes are free now.
    fn wake(&self) {
        let mut woken = Vec::new();
        let mut waiters = self.waiters.lock();
        let free = self.free.load(SeqCst);
        // When all is free, nobody who was promised some has taken it, and nobody need wait.
        let all = free == self.total;
        let mut promised = if all { 0 } else { self.promised.load(SeqCst) };
        while let Some(first) = waiters.front() {
            if promised + first.needed > free && !all {
                break;
            }
            promised += first.needed;
            woken.extend(waiters.pop_front().map(|w| w.waker));
        }
        self.promised.store(promised, SeqCst);
        // Only what those who were woken leave: they take by the same rule as everybody.
        let left = free.saturating_sub(promised);
        self.held.store(waiters.front().map_or(0, |w| w.needed.min(left)), SeqCst);
        self.queued.store(waiters.len(), SeqCst);
        drop(waiters);
        // Foreign code runs only after the lock is free.
        woken.into_iter().for_each(Waker::wake);
    }

    /// Puts `waker` into the queue. It is called once, when `needed` bytes are free, possibly before this
    /// returns; what it wakes must try again and may have to wait again.
    pub(super) fn register(&self, needed: usize, waker: Waker) -> u64 {
        let id = self.next_waiter.fetch_add(1, SeqCst);
        {
            let mut waiters = self.waiters.lock();
            waiters.push_back(Waiter { id, needed: needed.min(self.total), waker });
            self.queued.store(waiters.len(), SeqCst);
        }
        // Whoever closes sets the flag before it takes the list.
        if self.closed.load(SeqCst) {
            self.wake_all();
        } else {
            self.wake();
        }
        id
    }

    fn forget(&self, id: u64, needed: usize) {
        let mut waiters = self.waiters.lock();
        let before = waiters.len();
        waiters.retain(|w| w.id != id);
        if waiters.len() == before {
            // It was called and left all the same: its bytes are promised to nobody.
            let kept = |promised: usize| Some(promised.saturating_sub(needed));
            let _ = self.promised.fetch_update(SeqCst, SeqCst, kept);
        }
        drop(waiters);
        // The one behind may fit where the one that left did not.
        self.wake();
    }

    /// Wakes everybody: the producer has closed.
    pub(super) fn wake_all(&self) {
        self.closed.store(true, SeqCst);
        let waiters = std::mem::take(&mut *self.waiters.lock());
        self.held.store(0, SeqCst);
        self.queued.store(0, SeqCst);
        waiters.into_iter().for_each(|w| w.waker.wake());
    }

    /// Callers waiting now.
    pub(super) fn waiting(&self) -> usize {
        self.waiters.lock().len()
    }

    /// An idle buffer of at least `least` and at most `most` bytes.
    pub(super) fn idle_buffer(&self, least: usize, most: usize) -> Option<Vec<u8>> {
        if most < POOLED_BYTES_MIN {
            return None;
        }
        let mut pool = self.pool.lock();
        // From the end: the one used last is the warmest.
        let at = pool.idle.iter().rposition(|b| (least..=most).contains(&b.capacity()))?;
        let buffer = pool.idle.swap_remove(at);
        pool.bytes -= buffer.capacity();
        Some(buffer)
    }

    /// Frees idle buffers until those and what is in use are within the budget: to be called after memory was allocated.
    pub(super) fn trim_pool(&self) {
        let mut pool = self.pool.lock();
        while pool.bytes > self.free.load(SeqCst) {
            // The oldest: the one used last is the warmest.
            let oldest = pool.idle.remove(0);
            pool.bytes -= oldest.capacity();
        }
    }

    /// Frees the idle buffers: the producer has ended, and its handle may live on for long.
    pub(super) fn empty_pool(&self) {
        *self.pool.lock() = Pool::default();
    }

    /// Keeps a buffer for reuse if there is place for it. `leased`: bytes in use for it until now.
    pub(super) fn recycle(&self, mut buffer: Vec<u8>, leased: usize) {
        let bytes = buffer.capacity();
        let mut pool = self.pool.lock();
        let free = self.free.load(SeqCst) + leased;
        let bound = POOL_BYTES_MAX.min(self.total / 4).min(free);
        if bytes >= POOLED_BYTES_MIN && pool.idle.len() < POOL_COUNT_MAX && pool.bytes + bytes <= bound {
            buffer.clear();
            pool.bytes += bytes;
            pool.idle.push(buffer);
        }
    }
}

/// Bytes taken from a [`Memory`]; given back on drop.
pub(super) struct Lease {
    memory: Arc<Memory>,
    bytes: usize,
}

impl Lease {
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes the lease `bytes` large; `false` leaves it as it is.
    pub(super) fn grow_to(&mut self, bytes: usize) -> bool {
        if bytes > self.bytes {
            if !self.memory.take(bytes - self.bytes) {
                return false;
            }
            self.bytes = bytes;
        }
        true
    }

    /// Gives back all but `bytes`.
    pub(super) fn shrink_to(&mut self, bytes: usize) {
        if bytes < self.bytes {
            self.memory.give(self.bytes - bytes);
            self.bytes = bytes;
        }
    }

    /// A lease over `bytes` of what this one covers.
    pub(super) fn split_off(&mut self, bytes: usize) -> Self {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Self { memory: Arc::clone(&self.memory), bytes }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.memory.give(self.bytes);
        }
    }
}

/// Waits until there was room for some bytes; another caller may take it first, so try again in a loop.
///
/// Cancel safe: dropping it leaves the queue.
#[must_use = "futures do nothing unless awaited"]
pub struct Room {
    memory: Arc<Memory>,
    needed: usize,
    registered: Option<(u64, Waker)>,
}

impl Room {
    pub(super) fn new(memory: Arc<Memory>, needed: usize) -> Self {
        Self { memory, needed, registered: None }
    }
}

impl Future for Room {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        if let Some((id, waker)) = &self.registered {
            let mut waiters = self.memory.waiters.lock();
            let Some(me) = waiters.iter_mut().find(|w| w.id == *id) else {
                drop(waiters);
                // From here on it is the caller who takes, or does not.
                self.registered = None;
                return Poll::Ready(());
            };
            if !waker.will_wake(cx.waker()) {
                cx.waker().clone_into(&mut me.waker);
            }
            return Poll::Pending;
        }
        let waker = cx.waker().clone();
        let id = self.memory.register(self.needed, waker.clone());
        self.registered = Some((id, waker));
        // Registering may have woken this waiter already; the wake-up then polls again.
        Poll::Pending
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some((id, _)) = self.registered {
            self.memory.forget(id, self.needed.min(self.memory.total()));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use proptest::prelude::*;

    use super::*;

    #[derive(Default)]
    struct Bell(AtomicUsize);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }

    impl Bell {
        fn rang(&self) -> usize {
            self.0.load(SeqCst)
        }
    }

    #[test]
    fn a_large_waiter_is_not_kept_out_by_small_takers() {
        let memory = Memory::new(100);
        let first = memory.try_take(60).unwrap();
        let second = memory.try_take(40).unwrap();
        let bell = Arc::new(Bell::default());
        memory.register(80, Arc::clone(&bell).into());
        drop(second);
        assert_eq!(bell.rang(), 0);
        assert!(memory.try_take(10).is_none(), "the 40 free bytes are kept for the waiter");
        drop(first);
        assert_eq!(bell.rang(), 1);
        assert!(memory.try_take(80).is_some());
    }

    #[test]
    fn waiters_are_woken_in_order_and_one_that_left_delays_nobody() {
        let memory = Memory::new(100);
        let lease = memory.try_take(100).unwrap();
        let bells: Vec<Arc<Bell>> = (0..3).map(|_| Arc::default()).collect();
        let mut rooms: Vec<Room> = bells.iter().map(|_| Room::new(Arc::clone(&memory), 50)).collect();
        for (room, bell) in rooms.iter_mut().zip(&bells) {
            let waker: Waker = Arc::clone(bell).into();
            assert!(Pin::new(room).poll(&mut Context::from_waker(&waker)).is_pending());
        }
        drop(rooms.remove(0));
        let mut lease = lease;
        lease.shrink_to(50);
        assert_eq!(bells.iter().map(|b| b.rang()).collect::<Vec<_>>(), [0, 1, 0]);
        assert!(memory.try_take(50).is_some(), "what the second was promised is not held for the third");
        lease.shrink_to(0);
        assert_eq!(bells[2].rang(), 1);
        assert_eq!(memory.waiting(), 0);
    }

    #[test]
    fn a_waiter_that_is_woken_can_take_although_others_wait() {
        let memory = Memory::new(100);
        let lease = memory.try_take(100).unwrap();
        let bells: Vec<Arc<Bell>> = (0..2).map(|_| Arc::default()).collect();
        bells.iter().for_each(|bell| {
            memory.register(60, Arc::clone(bell).into());
        });
        let mut lease = lease;
        lease.shrink_to(30);
        assert_eq!((bells[0].rang(), bells[1].rang()), (1, 0));
        let first = memory.try_take(60);
        assert!(first.is_some());
        drop(lease);
        assert!(memory.try_take(1).is_none(), "all that is left is kept for the second");
        drop(first);
        assert_eq!(bells[1].rang(), 1);
    }

    #[test]
    fn registering_when_there_is_room_wakes_at_once() {
        let memory = Memory::new(100);
        let bell = Arc::new(Bell::default());
        memory.register(50, Arc::clone(&bell).into());
        assert_eq!(bell.rang(), 1);
    }

    #[test]
    fn registering_after_the_close_wakes_at_once() {
        let memory = Memory::new(100);
        let _all = memory.try_take(100).unwrap();
        memory.wake_all();
        let bell = Arc::new(Bell::default());
        memory.register(50, Arc::clone(&bell).into());
        assert_eq!(bell.rang(), 1);
    }

    #[test]
    fn threads_that_wait_all_get_through() {
        let memory = Memory::new(1000);
        std::thread::scope(|scope| {
            for thread in 0..8_usize {
                let memory = Arc::clone(&memory);
                scope.spawn(move || {
                    struct Unpark(std::thread::Thread);
                    impl Wake for Unpark {
                        fn wake(self: Arc<Self>) {
                            self.0.unpark();
                        }
                    }
                    let waker: Waker = Arc::new(Unpark(std::thread::current())).into();
                    for round in 0..2000 {
                        let needed = 1 + (thread * 131 + round * 17) % 900;
                        let mut lease = memory.try_take(needed);
                        while lease.is_none() {
                            memory.register(needed, waker.clone());
                            lease = memory.try_take(needed);
                            if lease.is_none() {
                                // A lost wake-up shows as a hang; the time-out turns it into a failure.
                                let start = std::time::Instant::now();
                                std::thread::park_timeout(std::time::Duration::from_secs(20));
                                assert!(start.elapsed().as_secs() < 19, "lost wake-up");
                                lease = memory.try_take(needed);
                            }
                        }
                    }
                });
            }
        });
        assert_eq!(memory.used(), 0);
    }

    #[test]
    fn the_pool_is_bounded_and_gives_what_fits() {
        let memory = Memory::new(64 << 20);
        for _ in 0..100 {
            memory.recycle(Vec::with_capacity(1 << 20), 0);
        }
        assert_eq!(memory.pool.lock().idle.len(), 8);
        assert!(memory.idle_buffer(1000, 5000).is_none());
        assert!(memory.idle_buffer(20_000, 100_000).is_none());
        let buffer = memory.idle_buffer(500_000, 2 << 20).unwrap();
        assert!(buffer.is_empty() && buffer.capacity() == 1 << 20);
        assert_eq!(memory.pool.lock().bytes, 7 << 20);
    }

    #[test]
    fn idle_buffers_count_in_the_budget() {
        let memory = Memory::new(16 << 20);
        let mut lease = memory.try_take(13 << 20).unwrap();
        for _ in 0..9 {
            memory.recycle(Vec::with_capacity(1 << 20), 0);
        }
        assert_eq!(memory.pool.lock().bytes, 3 << 20, "three are free");
        assert!(lease.grow_to(15 << 20));
        memory.trim_pool();
        assert_eq!(memory.pool.lock().bytes, 1 << 20);
        assert!(lease.grow_to(16 << 20));
        memory.trim_pool();
        assert_eq!(memory.pool.lock().bytes, 0);
        memory.recycle(Vec::with_capacity(1 << 20), 1 << 20);
        assert_eq!(memory.pool.lock().bytes, 1 << 20, "its own bytes are about to be free");
    }

    #[test]
    fn a_waiter_that_leaves_after_its_call_passes_it_on() {
        let memory = Memory::new(100);
        let _stuck = memory.try_take(50).unwrap();
        let lease = memory.try_take(50).unwrap();
        let bells: Vec<Arc<Bell>> = (0..2).map(|_| Arc::default()).collect();
        let mut rooms: Vec<Room> = bells.iter().map(|_| Room::new(Arc::clone(&memory), 50)).collect();
        for (room, bell) in rooms.iter_mut().zip(&bells) {
            let waker: Waker = Arc::clone(bell).into();
            assert!(Pin::new(room).poll(&mut Context::from_waker(&waker)).is_pending());
        }
        drop(lease);
        assert_eq!((bells[0].rang(), bells[1].rang()), (1, 0));
        drop(rooms.remove(0)); // cancelled between its wake-up and its next poll
        assert_eq!(bells[1].rang(), 1, "50 bytes are free and nobody else wants them");
    }

    proptest! {
        /// The budget is never overdrawn and always comes back whole.
        #[test]
        fn the_budget_holds(steps in proptest::collection::vec((0_u8..5, 1_usize..400), 1..200)) {
            let memory = Memory::new(1000);
            let mut leases: Vec<Lease> = Vec::new();
            for (what, bytes) in steps {
                match what {
                    0 | 1 => leases.extend(memory.try_take(bytes)),
                    2 => { leases.pop(); }
                    3 => if let Some(l) = leases.last_mut() { let to = l.bytes() + bytes; l.grow_to(to); },
                    _ => if let Some(mut l) = leases.pop() {
                        let off = l.split_off(bytes);
                        l.shrink_to(bytes);
                        leases.extend([l, off]);
                    },
                }
                prop_assert_eq!(memory.used(), leases.iter().map(Lease::bytes).sum::<usize>());
                prop_assert!(memory.used() <= memory.total());
            }
            leases.clear();
            prop_assert_eq!(memory.used(), 0);
        }
    }
}
