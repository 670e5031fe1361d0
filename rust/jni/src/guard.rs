//! The wall between a Rust panic and the JVM.
//!
//! A panic that reaches the edge of an `extern "system"` function aborts the process. Every entry point therefore runs
//! inside [`guard`], which turns it into a Java exception with the panic's text; [`Poison`] marks the handle, so that
//! nothing works on a state that was left half changed. A panic hook keeps the place and reports it as a log line.

use std::any::Any;
use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, PanicHookInfo, catch_unwind};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Once};

use kafka_fast::error::ErrorKind;

use crate::env::{Env, Failure, Thrown};

thread_local! {
    /// Text and place of this thread's last panic, written by the hook.
    static LAST_PANIC: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs the body of an entry point. An error or a panic becomes a Java exception, and `fallback` is returned.
pub(crate) fn guard<R>(env: &Env, fallback: R, body: impl FnOnce() -> Result<R, Thrown>) -> R {
    match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(result)) => result,
        Ok(Err(Thrown::Pending)) => fallback,
        Ok(Err(Thrown::Failure(failure))) => {
            env.throw(&failure);
            fallback
        }
        Err(payload) => {
            env.throw(&Failure::new(ErrorKind::Internal, panic_text(payload.as_ref())));
            fallback
        }
    }
}

/// What a panic said. A formatted panic carries a `String`, a literal one a `&str`; the hook's text adds the place.
pub(crate) fn panic_text(payload: &(dyn Any + Send)) -> String {
    let noted = LAST_PANIC.with_borrow_mut(std::mem::take);
    let said = payload.downcast_ref::<&str>().map(ToString::to_string);
    let said = said.or_else(|| payload.downcast_ref::<String>().cloned());
    let what =
        if noted.is_empty() { said.unwrap_or_else(|| "a panic without text".to_owned()) } else { noted };
    format!("Defect in kafka-fast, please report it: {what}")
}

/// Installs the panic hook, once.
pub(crate) fn install_hook() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| std::panic::set_hook(Box::new(note_panic)));
}

fn note_panic(info: &PanicHookInfo<'_>) {
    let said = info.payload_as_str().unwrap_or("a panic without text");
    let place = info.location().map_or(String::new(), |l| format!(" at {}:{}", l.file(), l.line()));
    let text = format!("{said}{place}");
    tracing::error!(target: "kafka_fast::net", "panic: {text}");
    // The thread may be ending, its locals gone: then only the log line remains.
    let _ = LAST_PANIC.try_with(|last| last.replace(text));
}

/// The handle may be used.
pub(crate) const OPEN: u8 = 0;
/// `close` has been called.
pub(crate) const CLOSED: u8 = 1;
/// A panic left the handle in an unknown state.
pub(crate) const POISONED: u8 = 2;

/// Marks a handle's state as poisoned when it is dropped by a panic.
pub(crate) struct Poison<'a>(pub(crate) &'a AtomicU8);

impl Drop for Poison<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.store(POISONED, Ordering::Release);
        }
    }
}

/// What a poisoned handle answers.
pub(crate) fn poisoned(what: &str) -> Failure {
    Failure::new(
        ErrorKind::Internal,
        format!(
            "This {what} stopped working after a defect in kafka-fast (see the first error). Close it and connect anew"
        ),
    )
}

/// The object behind a handle.
///
/// # Safety
/// `handle` came from `Arc::into_raw` of the same type, and its Java object is reachable for as long as the result is
/// used: the Java methods hold a reachability fence around every native call, and the memory is freed only when the
/// object is unreachable.
pub(crate) unsafe fn object<'a, T>(handle: i64) -> &'a T {
    // SAFETY: promised by the caller.
    unsafe { &*(handle as usize as *const T) }
}

/// A further owner of the object behind a handle, for a task that may outlive the Java object.
///
/// # Safety
/// As [`object`].
pub(crate) unsafe fn shared<T>(handle: i64) -> Arc<T> {
    let pointer = handle as usize as *const T;
    // SAFETY: promised by the caller; the count is raised before the new owner exists.
    unsafe {
        Arc::increment_strong_count(pointer);
        Arc::from_raw(pointer)
    }
}

/// Frees Java's share of the object behind a handle.
///
/// # Safety
/// As [`object`], and Java never uses the handle again.
pub(crate) unsafe fn free<T>(handle: i64) {
    // SAFETY: promised by the caller.
    drop(unsafe { Arc::from_raw(handle as usize as *const T) });
}

/// Makes a handle of an object.
pub(crate) fn handle_of<T>(object: Arc<T>) -> i64 {
    Arc::into_raw(object) as usize as i64
}

/// Defines an entry point: the native method of a Java class, guarded.
macro_rules! entry {
    ($(#[$meta:meta])* fn $name:ident($env:ident $(, $arg:ident : $ty:ty)* $(,)?) -> $ret:ty, else $fallback:expr; $body:block) => {
        $(#[$meta])*
        #[unsafe(no_mangle)]
        #[allow(non_snake_case, reason = "the JVM finds native methods by this name")]
        extern "system" fn $name(env: *mut jni::sys::JNIEnv, _class: jni::sys::jclass $(, $arg: $ty)*) -> $ret {
            // SAFETY: the JVM calls this function as the native method of that name with its own environment, and the
            // wrapper does not leave the call.
            let $env = &unsafe { $crate::env::Env::from_raw(env) };
            $crate::guard::guard($env, $fallback, || $body)
        }
    };
}
pub(crate) use entry;
