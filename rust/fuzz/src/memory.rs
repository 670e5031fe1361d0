//! How much memory something takes: the system's allocator, counted for each thread.
//!
//! Only what goes through Rust's allocator is seen. The codec zstd takes its memory from C, and asks for windows it never
//! touches; the test `wire_bombs` bounds that by what is resident.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

/// What any input may take besides four times its bytes.
pub const BASE: usize = 1 << 20;

/// Bytes of this thread: held now, and the most at a time. What another thread frees is missed, so that they may be negative.
#[derive(Clone, Copy)]
struct Held {
    now: isize,
    most: isize,
}

thread_local! {
    // Without a destructor and without laziness: the allocator may look at it at any moment of a thread's life.
    static HELD: Cell<Held> = const { Cell::new(Held { now: 0, most: 0 }) };
}

/// Runs `work`, which may hold at most four times `bytes` and [`BASE`] at a time; what was there before does not count, and
/// what it returns does.
///
/// Returns what it returned, and the most it held.
///
/// # Panics
/// When it held more.
pub fn bounded<T>(bytes: usize, work: impl FnOnce() -> T) -> (T, usize) {
    let before = HELD.get().now;
    HELD.set(Held { now: before, most: before });
    let result = work();
    let most = usize::try_from(HELD.get().most - before).unwrap_or(0);
    let allowed = bytes * 4 + BASE;
    assert!(most <= allowed, "it took {most} bytes of memory for {bytes}; {allowed} are allowed");
    PEAK.with(|peak| peak.set(peak.get().max(most * 100 / allowed)));
    (result, most)
}

thread_local! {
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

/// The most that was held since the last call, in per cent of what was allowed.
pub fn take_peak() -> usize {
    PEAK.take()
}

struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn took(bytes: usize) {
    let mut held = HELD.get();
    held.now += bytes as isize;
    held.most = held.most.max(held.now);
    HELD.set(held);
}

fn gave(bytes: usize) {
    let held = HELD.get();
    HELD.set(Held { now: held.now - bytes as isize, ..held });
}

// SAFETY: every call goes to the system's allocator as it came; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // For a moment both may be there.
        took(size);
        gave(layout.size());
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        gave(layout.size());
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}
