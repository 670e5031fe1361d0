//! `NativeProducer`: the handle behind Java's Producer.

use std::pin::Pin;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use jni::sys::{jboolean, jbyteArray, jint, jlong, jlongArray, jstring};
use kafka_fast::config::Config;
use kafka_fast::error::ErrorKind;
use kafka_fast::producer::{
    AppendError, CloseError, DeliveryError, Producer, ProducerError, RecordMetadata, Room, TopicId,
};
use kafka_fast::wire::{Header, Record};

use crate::env::{Failure, Thrown, failure_from};
use crate::guard::{self, CLOSED, OPEN, POISONED, Poison, entry};
use crate::{conf, scratch, service};

/// Codes of send calls; the same numbers stand in `NativeProducer.java`.
const TAKEN: jint = 0;
const CODE_CLOSED: jint = -1;
/// From here down: no room, `FULL - code` bytes are needed.
const FULL: jint = -16;

failure_from!(ProducerError, CloseError, AppendError);

/// What a handle points to. Lives until the Java object is unreachable; `close` is a state.
struct Shell {
    state: AtomicU8,
    /// There once `connect` has succeeded.
    core: OnceLock<Producer>,
    conf: Config,
}

impl Shell {
    /// The producer, unless it is closed or not connected.
    #[inline]
    fn open(&self) -> Result<Option<&Producer>, Failure> {
        match self.state.load(Ordering::Acquire) {
            OPEN => Ok(self.core.get()),
            POISONED => Err(guard::poisoned("Producer")),
            _ => Ok(None),
        }
    }

    fn close(&self) {
        // A poisoned handle stays poisoned; its core is closed all the same.
        let _ = self.state.compare_exchange(OPEN, CLOSED, Ordering::SeqCst, Ordering::SeqCst);
    }

    fn is_open(&self) -> bool {
        self.state.load(Ordering::SeqCst) == OPEN
    }
}

/// The shell of a handle that Java holds.
#[inline]
fn shell<'a>(handle: jlong) -> &'a Shell {
    // SAFETY: `handle` comes from `create`, and `Producer.java` keeps its object reachable around the call.
    unsafe { guard::object(handle) }
}

/// A share of the shell for a task.
fn shared(handle: jlong) -> Arc<Shell> {
    // SAFETY: as in `shell`.
    unsafe { guard::shared(handle) }
}

fn millis(n: jlong) -> Duration {
    Duration::from_millis(u64::try_from(n).unwrap_or(0))
}

/// What Java is told of an append.
#[inline]
fn code(result: Result<(), AppendError>) -> Result<jint, Thrown> {
    match result {
        Ok(()) => Ok(TAKEN),
        Err(error) => refused(error),
    }
}

#[cold]
fn refused(error: AppendError) -> Result<jint, Thrown> {
    match error {
        AppendError::Full { needed } => Ok(FULL.saturating_sub(jint::try_from(needed).unwrap_or(jint::MAX))),
        AppendError::Closed(_) => Ok(CODE_CLOSED),
        other => Err(Failure::from(other).into()),
    }
}

entry! {
    /// `static native long create(String settings)`: a handle, not connected yet.
    fn Java_kafkafast_NativeProducer_create(env, settings: jstring) -> jlong, else 0; {
        let conf = conf::parse_checked(&env.string(settings)?)?;
        Ok(guard::handle_of(Arc::new(Shell { state: AtomicU8::new(OPEN), core: OnceLock::new(), conf })))
    }
}

entry! {
    /// `static native void connect(long handle, long token)`: an operation.
    fn Java_kafkafast_NativeProducer_connect(_env, handle: jlong, token: jlong) -> (), else (); {
        let shell = shared(handle);
        let limit = shell.conf.metadata_timeout.saturating_add(shell.conf.connect_timeout);
        service::spawn(token, limit, async move {
            let core = Producer::connect(shell.conf.clone()).await?;
            let core = shell.core.get_or_init(|| core);
            // Either this sees the close, or the close sees the core.
            if !shell.is_open() {
                core.close(Duration::ZERO).await?;
            }
            Ok(0)
        })?;
        Ok(())
    }
}

entry! {
    /// `static native int send(long handle, int topicId, byte[] value, int length)`: the hot path.
    fn Java_kafkafast_NativeProducer_send(
        env, handle: jlong, topic: jint, value: jbyteArray, length: jint
    ) -> jint, else CODE_CLOSED; {
        let shell = shell(handle);
        let _poison = Poison(&shell.state);
        let Some(core) = shell.open()? else { return Ok(CODE_CLOSED) };
        scratch::with_one(env, value, length, |value| {
            let record = Record { key: None, value: Some(value), headers: &[] };
            code(core.try_append(TopicId(topic as u32), None, None, &record))
        })
    }
}

entry! {
    /// `static native int sendRecord(...)`: a record with everything, its end reported under `token`. A negative length
    /// is a null array, a negative partition or timestamp none.
    fn Java_kafkafast_NativeProducer_sendRecord(
        env, handle: jlong, topic: jint, partition: jint, timestamp: jlong, key: jbyteArray, key_length: jint,
        value: jbyteArray, value_length: jint, headers: jbyteArray, headers_length: jint, token: jlong
    ) -> jint, else CODE_CLOSED; {
        let shell = shell(handle);
        let _poison = Poison(&shell.state);
        let Some(core) = shell.open()? else { return Ok(CODE_CLOSED) };
        let arrays = [(key, key_length), (value, value_length), (headers, headers_length)];
        scratch::with_all(env, arrays, |[key, value, headers]| {
            let headers = headers.map_or(Ok(Vec::new()), decode_headers)?;
            let record = Record { key, value, headers: &headers };
            let partition = (partition >= 0).then_some(partition);
            let timestamp = (timestamp >= 0).then_some(timestamp);
            match core.try_append_tracked(TopicId(topic as u32), partition, timestamp, &record) {
                Ok(delivery) => {
                    delivery.on_complete(move |end| report(token, end));
                    Ok(TAKEN)
                }
                Err(error) => refused(error),
            }
        })
    }
}

/// Reads the form `Headers.java` writes.
fn decode_headers(mut bytes: &[u8]) -> Result<Vec<Header<'_>>, Thrown> {
    let broken =
        || Thrown::from(Failure::new(ErrorKind::Internal, "headers came in a form that is not ours"));
    let mut take = |length: usize| {
        let (mine, rest) = bytes.split_at_checked(length).ok_or_else(broken)?;
        bytes = rest;
        Ok::<_, Thrown>(mine)
    };
    let int = |bytes: &[u8]| bytes.try_into().map(i32::from_be_bytes).map_err(|_| broken());
    let count = int(take(4)?)?;
    let mut headers = Vec::new();
    for _ in 0..count {
        let length = usize::try_from(int(take(4)?)?).map_err(|_| broken())?;
        let key = std::str::from_utf8(take(length)?).map_err(|_| broken())?;
        let value = match usize::try_from(int(take(4)?)?) {
            Ok(length) => Some(take(length)?),
            Err(_) => None,
        };
        headers.push(Header { key, value });
    }
    Ok(headers)
}

/// Tells Java the end of a record. Runs on a thread of the runtime, or on the sender's when the end is known at once.
fn report(token: jlong, end: Result<RecordMetadata, DeliveryError>) {
    service::push(match end {
        Ok(m) => service::Event::Delivered {
            token,
            partition: m.partition,
            offset: m.offset,
            timestamp: m.timestamp,
        },
        Err(e) => service::Event::Undelivered {
            token,
            failure: Failure { kind: e.kind(), text: e.to_string(), possibly_written: e.possibly_written() },
        },
    });
}

entry! {
    /// `static native int cachedTopic(long handle, String topic)`: its id, or -1.
    fn Java_kafkafast_NativeProducer_cachedTopic(env, handle: jlong, topic: jstring) -> jint, else -1; {
        let topic = env.string(topic)?;
        let core = shell(handle).open()?;
        Ok(core.and_then(|core| core.cached_topic(&topic)).map_or(-1, |id| id.0 as jint))
    }
}

entry! {
    /// `static native void lookupTopic(long handle, String topic, long token)`: an operation; its result is the id.
    fn Java_kafkafast_NativeProducer_lookupTopic(env, handle: jlong, topic: jstring, token: jlong) -> (), else (); {
        let topic = env.string(topic)?;
        let shell = shared(handle);
        service::spawn(token, shell.conf.max_block, async move {
            let core = shell.open()?.ok_or_else(closed)?;
            Ok(i64::from(core.topic(&topic).await?.0))
        })?;
        Ok(())
    }
}

fn closed() -> Failure {
    Failure::new(ErrorKind::Closed, "This Producer was closed")
}

/// A Java thread's place in the queue for room.
struct Waiting {
    waker: Waker,
    room: Option<Room>,
}

entry! {
    /// `static native long openRoom(long token)`: a place for waiting; native unparks `token`.
    fn Java_kafkafast_NativeProducer_openRoom(_env, token: jlong) -> jlong, else 0; {
        let waiting = Box::new(Waiting { waker: service::Unpark::waker(token), room: None });
        Ok(Box::into_raw(waiting) as usize as jlong)
    }
}

entry! {
    /// `static native boolean pollRoom(long handle, long room, int needed)`: registers for so many bytes. Try to send after
    /// it and before parking; true when trying again at once makes sense.
    fn Java_kafkafast_NativeProducer_pollRoom(
        _env, handle: jlong, room: jlong, needed: jint
    ) -> jboolean, else true; {
        // SAFETY: `room` comes from `openRoom` and is used by one Java thread, which closes it after its last use.
        let waiting = unsafe { &mut *(room as usize as *mut Waiting) };
        let Some(core) = shell(handle).open()? else { return Ok(true) };
        let needed = usize::try_from(needed).unwrap_or(0);
        let room = waiting.room.get_or_insert_with(|| core.room(needed));
        let ready = Pin::new(room).poll(&mut Context::from_waker(&waiting.waker)) == Poll::Ready(());
        if ready {
            waiting.room = None;
        }
        Ok(ready)
    }
}

entry! {
    /// `static native void closeRoom(long room)`: leaves the queue; 0 is nothing.
    fn Java_kafkafast_NativeProducer_closeRoom(_env, room: jlong) -> (), else (); {
        if room != 0 {
            // SAFETY: `room` comes from `openRoom`, and Java does not use it again.
            drop(unsafe { Box::from_raw(room as usize as *mut Waiting) });
        }
        Ok(())
    }
}

entry! {
    /// `static native String fullText(long handle)`: why there was no room within `max.block.ms`.
    fn Java_kafkafast_NativeProducer_fullText(env, handle: jlong) -> jstring, else std::ptr::null_mut(); {
        let text = shell(handle).open()?.map_or_else(|| closed().text, |core| core.no_room().to_string());
        Ok(env.new_string(&text))
    }
}

entry! {
    /// `static native void startFlush(long handle)`: seals the open batches; does nothing after close.
    fn Java_kafkafast_NativeProducer_startFlush(_env, handle: jlong) -> (), else (); {
        if let Some(core) = shell(handle).open()? {
            core.start_flush();
        }
        Ok(())
    }
}

entry! {
    /// `static native void flush(long handle, long token, long timeoutMillis)`: an operation.
    fn Java_kafkafast_NativeProducer_flush(_env, handle: jlong, token: jlong, timeout: jlong) -> (), else (); {
        let shell = shared(handle);
        service::spawn(token, millis(timeout), async move {
            let core = shell.open()?.ok_or_else(closed)?;
            match tokio::time::timeout(millis(timeout), core.flush()).await {
                Ok(end) => end.map(|()| 0).map_err(Failure::from),
                Err(_) => {
                    let text = format!("Producer.flush: not everything was acknowledged within {timeout} ms");
                    Err(Failure::new(ErrorKind::Timeout, text))
                }
            }
        })?;
        Ok(())
    }
}

entry! {
    /// `static native void stats(long handle, long[] into)`: counters, in the order of `ProducerStats.java`.
    fn Java_kafkafast_NativeProducer_stats(env, handle: jlong, into: jlongArray) -> (), else (); {
        // Also after close, and then the last word.
        let s = shell(handle).core.get().map(Producer::stats).unwrap_or_default();
        let waiting = s.records.saturating_sub(s.records_delivered).saturating_sub(s.records_failed);
        let values = [
            s.records, s.bytes, s.batches, s.records_delivered, s.records_failed, s.records_dropped, s.requests,
            s.bytes_sent, s.retries, s.errors, s.buffered_bytes, s.buffer_memory, s.waiting, waiting,
        ];
        env.write_longs(into, &values.map(|v| jlong::try_from(v).unwrap_or(jlong::MAX)));
        Ok(())
    }
}

entry! {
    /// `static native void close(long handle, long token, long timeoutMillis)`: an operation. From now on sends are refused.
    fn Java_kafkafast_NativeProducer_close(_env, handle: jlong, token: jlong, timeout: jlong) -> (), else (); {
        let shell = shared(handle);
        shell.close();
        service::spawn(token, millis(timeout), async move {
            if let Some(core) = shell.core.get() {
                core.close(millis(timeout)).await?;
            }
            Ok(0)
        })?;
        Ok(())
    }
}

entry! {
    /// `static native void release(long handle)`: frees the handle. The object is unreachable and closed.
    fn Java_kafkafast_NativeProducer_release(_env, handle: jlong) -> (), else (); {
        // SAFETY: `ClientState.java` calls this once, for a handle from `create` whose object is unreachable.
        unsafe { guard::free::<Shell>(handle) };
        Ok(())
    }
}

entry! {
    /// `static native void panicForTest(long handle)`: panics while it holds the handle.
    fn Java_kafkafast_NativeProducer_panicForTest(_env, handle: jlong) -> (), else (); {
        let _poison = Poison(&shell(handle).state);
        panic!("a panic for a test with handle {}", handle != 0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read_back_and_broken_ones_are_refused() {
        let mut bytes = vec![0, 0, 0, 2, 0, 0, 0, 1, b'a', 0, 0, 0, 2, b'x', b'y', 0, 0, 0, 1, b'b'];
        bytes.extend((-1i32).to_be_bytes());
        let Ok(headers) = decode_headers(&bytes) else { panic!("these headers are sound") };
        assert_eq!(headers, [Header { key: "a", value: Some(b"xy") }, Header { key: "b", value: None }]);
        for cut in 0..bytes.len() {
            assert!(decode_headers(&bytes[..cut]).is_err(), "cut at {cut}");
        }
        assert!(decode_headers(&i32::MAX.to_be_bytes()).is_err());
    }

    #[test]
    fn a_full_buffer_is_a_code_that_says_what_is_needed() {
        assert_eq!(code(Ok(())).ok(), Some(TAKEN));
        assert_eq!(refused(AppendError::Full { needed: 100 }).ok(), Some(-116));
        assert_eq!(refused(AppendError::Full { needed: usize::MAX }).ok(), Some(jint::MIN));
        assert!(refused(AppendError::UnknownTopicId(1)).is_err());
    }
}
