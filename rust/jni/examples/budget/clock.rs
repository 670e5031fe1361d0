//! A clock that stands still while something is counted.
//!
//! Under valgrind time passes fifty times as fast as the program, and how often the code looks at the clock depends on what
//! it sees there. So in a thread that measures each look moves the time by [`STEP_NS`] and by nothing else; looks are
//! counted. What a look costs in the kernel's own code (about 20 ns) is not among the instructions.

use std::cell::Cell;
use std::ffi::{c_int, c_long};

/// Half of what a reader of a batch takes for long enough to look again.
const STEP_NS: i64 = 500;

#[cfg(target_arch = "x86_64")]
const SYS_CLOCK_GETTIME: c_long = 228;
#[cfg(not(target_arch = "x86_64"))]
const SYS_CLOCK_GETTIME: c_long = 113;

/// What C calls `struct timespec`.
#[repr(C)]
struct Timespec {
    seconds: i64,
    nanos: i64,
}

thread_local! {
    /// Nanoseconds to add to the time at which measuring began; none: time passes.
    static STANDS: Cell<bool> = const { Cell::new(false) };
    static LOOKS: Cell<u64> = const { Cell::new(0) };
    /// By clock: what it showed first since it stands. There are few clocks, and Rust uses two.
    static SHOWN: [Cell<i64>; 8] = const { [const { Cell::new(0) }; 8] };
}

unsafe extern "C" {
    fn syscall(number: c_long, ...) -> c_long;
}

/// Looks at the clock in this thread while it stood.
pub(crate) fn looks() -> u64 {
    LOOKS.get()
}

/// Runs `work` while the clock of this thread stands.
pub(crate) fn standing(work: impl FnOnce()) {
    SHOWN.with(|shown| shown.iter().for_each(|s| s.set(0)));
    STANDS.set(true);
    work();
    STANDS.set(false);
}

/// Stands before the function of the same name in the C library, for all Rust code of this program.
#[unsafe(no_mangle)]
extern "C" fn clock_gettime(clock: c_int, into: *mut Timespec) -> c_int {
    if !STANDS.get() {
        return real(clock, into);
    }
    LOOKS.set(LOOKS.get() + 1);
    SHOWN.with(|shown| {
        let shown = &shown[clock as usize % 8];
        if shown.get() == 0 {
            let mut now = Timespec { seconds: 0, nanos: 0 };
            real(clock, &mut now);
            shown.set(now.seconds * 1_000_000_000 + now.nanos);
        }
        shown.set(shown.get() + STEP_NS);
        let (seconds, nanos) = (shown.get() / 1_000_000_000, shown.get() % 1_000_000_000);
        // SAFETY: the caller's `into` is writable: that is the contract of the C function.
        unsafe { into.write(Timespec { seconds, nanos }) };
        0
    })
}

fn real(clock: c_int, into: *mut Timespec) -> c_int {
    // SAFETY: the system call takes these two arguments, and the caller's `into` is writable.
    unsafe { syscall(SYS_CLOCK_GETTIME, c_long::from(clock), into) as c_int }
}
