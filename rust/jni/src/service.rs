//! What native code has to tell Java, and the one Java thread that fetches it (`NativeService`).
//!
//! Threads of the runtime never attach to the JVM. They put events into this queue: wake-ups, ends of operations,
//! delivery results, log lines. The service thread of the process, a Java daemon thread, takes them in batches, each
//! call at most 100 ms long, and unparks threads, completes futures and writes logs on the Java side.
//!
//! The queue is bounded by what it stands for: a wake-up is in it at most once a waiter, an end once an operation, a
//! delivery once a record in the producer's bounded memory; log lines beyond [`MAX_LOGS`] are counted and dropped.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Wake, Waker};
use std::time::Duration;

use jni::sys::{jbyteArray, jint, jlong};
use kafka_fast::error::ErrorKind;
use parking_lot::{Condvar, Mutex};

use crate::env::Failure;
use crate::guard::{self, entry};
use crate::{logs, runtime};

/// Log lines that may wait for the service thread.
const MAX_LOGS: usize = 1_000;
/// Longest text of an event, in bytes; more is cut.
const MAX_TEXT: usize = 8 << 10;
/// Longest stay of the service thread in native code.
const MAX_SLICE: Duration = Duration::from_millis(100);
/// Grace of an operation beyond the time its caller asked for, before it is given up as lost.
const GRACE: Duration = Duration::from_secs(5);

/// A version of the boundary. The Java classes compare it with theirs after loading: an old library in
/// `java.library.path` is a common accident.
const ABI_VERSION: jint = 3;

/// Something to tell Java.
pub(crate) enum Event {
    /// Unpark the thread that waits under this token.
    Wake(Arc<Unpark>),
    /// An operation has ended; the number is its result.
    Ended { token: i64, result: Result<i64, Failure> },
    /// A record is in the log.
    Delivered { token: i64, partition: i32, offset: i64, timestamp: i64 },
    /// A record will not be delivered.
    Undelivered { token: i64, failure: Failure },
    /// A log line.
    Log { level: u8, logger: u8, text: String },
}

#[derive(Default)]
struct Inner {
    events: VecDeque<Event>,
    logs: usize,
    logs_dropped: u64,
}

struct Queue {
    inner: Mutex<Inner>,
    ready: Condvar,
}

static QUEUE: Queue = Queue {
    inner: Mutex::new(Inner { events: VecDeque::new(), logs: 0, logs_dropped: 0 }),
    ready: Condvar::new(),
};

/// Hands an event to the service thread. Never blocks but for a short lock.
pub(crate) fn push(event: Event) {
    let mut inner = QUEUE.inner.lock();
    if matches!(event, Event::Log { .. }) {
        if inner.logs >= MAX_LOGS {
            inner.logs_dropped += 1;
            return;
        }
        inner.logs += 1;
    }
    inner.events.push_back(event);
    let first = inner.events.len() == 1;
    drop(inner);
    if first {
        QUEUE.ready.notify_one();
    }
}

/// A waker that unparks a Java thread through the service thread.
pub(crate) struct Unpark {
    token: i64,
    /// Whether it is in the queue already, so that a busy source costs one event a drain.
    queued: AtomicBool,
}

impl Unpark {
    /// For the waiter Java knows by `token`.
    pub(crate) fn new(token: i64) -> Arc<Self> {
        Arc::new(Self { token, queued: AtomicBool::new(false) })
    }

    /// A waker for the waiter Java knows by `token`.
    pub(crate) fn waker(token: i64) -> Waker {
        Waker::from(Self::new(token))
    }
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            push(Event::Wake(Arc::clone(self)));
        }
    }
}

/// Reports the end of an operation exactly once, also when its task is dropped or panics.
struct Report(Option<i64>);

impl Report {
    fn end(mut self, result: Result<i64, Failure>) {
        if let Some(token) = self.0.take() {
            push(Event::Ended { token, result });
        }
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        if let Some(token) = self.0.take() {
            let text = "the operation was given up: its client is shut down or failed";
            push(Event::Ended { token, result: Err(Failure::new(ErrorKind::Closed, text)) });
        }
    }
}

/// Runs an operation on the runtime and reports its end under `token`. One that takes longer than `limit` and a grace is
/// given up, so that no Java thread waits for ever.
pub(crate) fn spawn<F>(token: i64, limit: Duration, operation: F) -> Result<(), Failure>
where
    F: Future<Output = Result<i64, Failure>> + Send + 'static,
{
    let handle = runtime::handle()?;
    let report = Report(Some(token));
    let limit = limit.saturating_add(GRACE);
    // Two tasks: the outer one lives when the inner one panics.
    let inner = handle.spawn(async move { tokio::time::timeout(limit, operation).await });
    handle.spawn(async move {
        let result = match inner.await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(Failure::new(
                ErrorKind::Timeout,
                format!("the operation did not end within {} s", limit.as_secs()),
            )),
            Err(lost) => match lost.try_into_panic() {
                Ok(payload) => Err(Failure::new(ErrorKind::Internal, guard::panic_text(payload.as_ref()))),
                Err(_) => return,
            },
        };
        report.end(result);
    });
    Ok(())
}

/// Waits for events and writes as many as fit; returns how many bytes were written.
fn drain(into: &mut Vec<u8>, capacity: usize, wait: Duration) {
    let mut inner = QUEUE.inner.lock();
    if inner.events.is_empty() {
        QUEUE.ready.wait_for(&mut inner, wait.min(MAX_SLICE));
    }
    while let Some(event) = inner.events.front() {
        let start = into.len();
        encode(event, into);
        if into.len() > capacity {
            into.truncate(start);
            break;
        }
        match inner.events.pop_front() {
            // Cleared before Java looks, so that a wake-up from now on is a new event.
            Some(Event::Wake(unpark)) => unpark.queued.store(false, Ordering::Release),
            Some(Event::Log { .. }) => inner.logs -= 1,
            _ => {}
        }
    }
    if inner.logs_dropped > 0 && inner.logs < MAX_LOGS {
        let text = format!(
            "{} log lines were dropped: they came faster than they could be written",
            inner.logs_dropped
        );
        inner.logs_dropped = 0;
        inner.logs += 1;
        inner.events.push_back(Event::Log { level: logs::WARN, logger: logs::NET, text });
    }
}

/// The byte form of an event: a kind, then its fields, big-endian as `java.nio` reads them.
fn encode(event: &Event, out: &mut Vec<u8>) {
    match event {
        Event::Wake(unpark) => {
            out.push(1);
            out.extend(unpark.token.to_be_bytes());
        }
        Event::Ended { token, result: Ok(value) } => {
            out.push(2);
            out.extend(token.to_be_bytes());
            out.extend(value.to_be_bytes());
        }
        Event::Ended { token, result: Err(failure) } => {
            out.push(3);
            out.extend(token.to_be_bytes());
            encode_failure(failure, out);
        }
        Event::Delivered { token, partition, offset, timestamp } => {
            out.push(4);
            out.extend(token.to_be_bytes());
            out.extend(partition.to_be_bytes());
            out.extend(offset.to_be_bytes());
            out.extend(timestamp.to_be_bytes());
        }
        Event::Undelivered { token, failure } => {
            out.push(5);
            out.extend(token.to_be_bytes());
            encode_failure(failure, out);
        }
        Event::Log { level, logger, text } => {
            out.extend([6, *level, *logger]);
            encode_text(text, out);
        }
    }
}

fn encode_failure(failure: &Failure, out: &mut Vec<u8>) {
    out.extend(failure.kind.code().to_be_bytes());
    out.push(u8::from(failure.possibly_written));
    encode_text(&failure.text, out);
}

fn encode_text(text: &str, out: &mut Vec<u8>) {
    let cut = &text[..text.floor_char_boundary(MAX_TEXT)];
    out.extend(u16::try_from(cut.len()).unwrap_or(u16::MAX).to_be_bytes());
    out.extend(cut.as_bytes());
}

entry! {
    /// `static native int abiVersion()`: called first after loading; also installs the panic hook and the log bridge.
    fn Java_kafkafast_NativeService_abiVersion(_env) -> jint, else 0; {
        guard::install_hook();
        logs::install();
        Ok(ABI_VERSION)
    }
}

entry! {
    /// `static native void start()`: makes sure the runtime runs.
    fn Java_kafkafast_NativeService_start(_env) -> (), else (); {
        Ok(runtime::start()?)
    }
}

entry! {
    /// `static native void stop()`: ends the runtime; waits at most a second for its threads.
    fn Java_kafkafast_NativeService_stop(_env) -> (), else (); {
        runtime::stop();
        Ok(())
    }
}

entry! {
    /// `static native int poll(byte[] into, int waitMillis)`: the next events; 0 when there were none in that time.
    fn Java_kafkafast_NativeService_poll(env, into: jbyteArray, wait: jint) -> jint, else 0; {
        let capacity = env.array_length(into);
        let mut bytes = Vec::with_capacity(4 << 10);
        drain(&mut bytes, capacity, Duration::from_millis(u64::try_from(wait).unwrap_or(0)));
        env.write_bytes(into, 0, &bytes);
        Ok(jint::try_from(bytes.len()).unwrap_or(0))
    }
}

entry! {
    /// `static native void panicForTest(long formatted)`: panics, to prove that the JVM survives it.
    fn Java_kafkafast_NativeService_panicForTest(_env, formatted: jlong) -> (), else (); {
        if formatted == 0 {
            panic!("a panic with a plain text");
        }
        panic!("a panic with a formatted text {formatted}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_taken_in_order_whole_and_a_waker_is_queued_once() {
        let waker = Unpark::waker(7);
        waker.wake_by_ref();
        waker.wake_by_ref();
        push(Event::Ended { token: 9, result: Err(Failure::new(ErrorKind::Timeout, "später")) });
        let mut out = Vec::new();
        drain(&mut out, 12, Duration::ZERO);
        assert_eq!(out, [1, 0, 0, 0, 0, 0, 0, 0, 7], "the second event does not fit and waits");
        waker.wake_by_ref();
        let mut rest = Vec::new();
        drain(&mut rest, 1024, Duration::ZERO);
        let mut expected = vec![3, 0, 0, 0, 0, 0, 0, 0, 9, 0, 0, 0, 3, 0, 0, 7];
        expected.extend("später".as_bytes());
        expected.extend([1, 0, 0, 0, 0, 0, 0, 0, 7]);
        assert_eq!(rest, expected);
    }
}
