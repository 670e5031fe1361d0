//! What is counted, and how.
//!
//! Instructions are counted by callgrind while [`budget_measured`] runs, in the thread that called it and
//! nowhere else; [`budget_case_end`] makes it write what it has and begin anew. Both are found by their names, so that
//! nothing but the names is needed from valgrind. System calls stand in valgrind's trace, between two [`MARK`]s of the
//! thread. Allocations and looks at the clock are counted here, in the same run.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::ffi::c_long;
use std::hint::black_box;

use crate::clock;

/// The options of valgrind that fit this file.
pub(crate) const CALLGRIND: [&str; 6] = [
    "--tool=callgrind",
    "--quiet",
    "--trace-syscalls=yes",
    "--collect-atstart=no",
    "--toggle-collect=budget_measured",
    "--dump-after=budget_case_end",
];

/// Numbers of system calls that nobody else makes, and that do nothing: `getppid` stands before and behind what is counted,
/// `getpgid` at the end of a case.
pub(crate) const MARK: c_long = if cfg!(target_arch = "x86_64") { 110 } else { 173 };
pub(crate) const CASE_END: c_long = if cfg!(target_arch = "x86_64") { 121 } else { 155 };

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

fn say(mark: c_long) {
    // SAFETY: both calls take at most a process id, 0 being this one, and only return a number.
    unsafe { syscall(mark, 0 as c_long) };
}

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's allocator, counted for each thread.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn count() {
    // A thread that is ending has no counter any more, and is none of those that measure.
    let _ = ALLOCATIONS.try_with(|n| n.set(n.get() + 1));
}

// SAFETY: every call goes to the system's allocator as it came; counting neither allocates nor unwinds.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[unsafe(no_mangle)]
#[inline(never)]
fn budget_measured(work: &mut dyn FnMut()) {
    work();
    // Not a tail call: callgrind must see this function end after the work.
    black_box(());
}

#[unsafe(no_mangle)]
#[inline(never)]
fn budget_case_end() {
    black_box(());
}

/// Counts one case.
#[derive(Default)]
pub(crate) struct Meter {
    /// Allocations, and looks at the clock.
    pub(crate) allocations: u64,
    pub(crate) looks: u64,
}

impl Meter {
    /// Runs `work` counted.
    pub(crate) fn measure<R>(&mut self, work: impl FnOnce() -> R) -> R {
        let (mut work, mut result) = (Some(work), None);
        let before = (ALLOCATIONS.get(), clock::looks());
        say(MARK);
        clock::standing(|| budget_measured(&mut || result = work.take().map(|work| work())));
        say(MARK);
        self.allocations += ALLOCATIONS.get() - before.0;
        self.looks += clock::looks() - before.1;
        result.expect("invariant: budget_measured calls its work once")
    }

    /// Ends the case.
    pub(crate) fn end(&self) {
        say(CASE_END);
        budget_case_end();
    }
}
