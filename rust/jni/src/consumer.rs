//! `NativeConsumer`: the handle behind Java's Consumer, and its threads' slots.

use std::collections::VecDeque;
use std::fmt::Write;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jni::sys::{jboolean, jbyteArray, jint, jlong, jlongArray, jobject, jstring};
use kafka_fast::config::Config;
use kafka_fast::consumer::{
    CloseError, Consumer, ConsumerError, ConsumerStats, Filled, GroupConf, ReadError, Reader, SeekError,
    SlotControl,
};
use kafka_fast::error::ErrorKind;
use kafka_fast::group::GroupError;
use parking_lot::{Mutex, RwLock};
use tokio::runtime::Handle;

use crate::chunk::{Chunk, Refuse, Topics};
use crate::env::{Failure, Thrown, failure_from};
use crate::guard::{self, CLOSED, OPEN, POISONED, Poison, entry};
use crate::waiter::Waiter;
use crate::{conf, runtime, service};

/// Codes of `next`; the same numbers stand in `NativeConsumer.java`.
const EMPTY: jint = 0;
const CODE_CLOSED: jint = -1;
const GROW: jint = -2;
/// The longest wait in native code.
const MAX_MOMENT: Duration = Duration::from_millis(10);
/// Lists kept for Java to take.
const LISTS: usize = 16;
/// A connect to a group in Redis waits for Redis so often at most: to be let in, to look at it, to join; each may be
/// tried again.
const REDIS_TURNS: u32 = 10;

failure_from!(ConsumerError, CloseError, GroupError, ReadError, SeekError);

/// What a handle points to. Lives until the Java object is unreachable; `close` is a state.
struct Shell {
    state: AtomicU8,
    /// There from the end of `connect` to that of `close`, so that a closed handle keeps little.
    core: RwLock<Option<Consumer>>,
    /// The last counters, from the end of `close` on.
    last: OnceLock<ConsumerStats>,
    conf: Config,
    group: GroupConf,
    /// Readers may start tasks, and Java threads have no runtime of their own.
    runtime: Handle,
    /// A slot for each reading thread, at the index Java knows it by; bounded by the threads that live.
    slots: RwLock<Vec<Option<Arc<Slot>>>>,
    topics: Mutex<Topics>,
    /// Lists that Java has not taken yet; a thread that was interrupted never does.
    lists: Mutex<Lists>,
}

/// Lists by number, at most [`LISTS`], the oldest first.
#[derive(Default)]
struct Lists {
    last: jlong,
    kept: VecDeque<(jlong, String)>,
}

impl Lists {
    fn keep(&mut self, list: String) -> jlong {
        if self.kept.len() == LISTS {
            self.kept.pop_front();
        }
        self.last += 1;
        self.kept.push_back((self.last, list));
        self.last
    }

    fn take(&mut self, number: jlong) -> Option<String> {
        let at = self.kept.iter().position(|(n, _)| *n == number)?;
        self.kept.remove(at).map(|(_, list)| list)
    }
}

/// What one Java thread reads with.
struct Slot {
    /// Locked by the slot's thread for a call, never across one.
    reading: Mutex<Reading>,
    /// Java has a buffer over it: it lives as long as the slot, whose thread is gone or has left when it ends.
    control: Arc<SlotControl>,
    waiter: Arc<Waiter>,
    waker: Waker,
}

struct Reading {
    /// `None` once it was handed back.
    reader: Option<Reader>,
    /// The entries of a chunk on their way to Java.
    index: Vec<jlong>,
}

impl Shell {
    fn usable(&self) -> Result<(), Failure> {
        match self.state.load(Ordering::Acquire) {
            POISONED => Err(guard::poisoned("Consumer")),
            _ => Ok(()),
        }
    }

    fn is_open(&self) -> bool {
        self.state.load(Ordering::SeqCst) == OPEN
    }

    fn slot(&self, id: jint) -> Result<Arc<Slot>, Failure> {
        self.usable()?;
        let slots = self.slots.read();
        let slot = usize::try_from(id).ok().and_then(|id| slots.get(id)).and_then(Option::as_ref);
        slot.cloned().ok_or_else(|| Failure::new(ErrorKind::Internal, format!("there is no slot {id}")))
    }

    fn open(&self) -> Result<Consumer, Failure> {
        self.usable()?;
        let core = if self.is_open() { self.core.read().clone() } else { None };
        core.ok_or_else(|| Failure::new(ErrorKind::Closed, "This Consumer was closed"))
    }

    /// Closes the core, if there is one, and lets go of it and of what its readers hold. Control cells stay, for Java
    /// threads may be about to write theirs.
    async fn close_core(&self, wait: Duration) -> Result<(), Failure> {
        let core = self.core.read().clone();
        let Some(core) = core else { return Ok(()) };
        let end = core.close(wait).await;
        let _ = self.last.set(core.stats());
        let slots: Vec<_> = self.slots.read().iter().flatten().cloned().collect();
        for slot in slots {
            let reader = slot.reading.lock().reader.take();
            drop(reader);
        }
        self.core.write().take();
        Ok(end?)
    }
}

/// The shell of a handle that Java holds.
fn shell<'a>(handle: jlong) -> &'a Shell {
    // SAFETY: `handle` comes from `create`, and `Consumer.java` keeps its object reachable around the call.
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

entry! {
    /// `static native long create(String settings, String group)`: a handle, not connected yet. Both are pairs.
    fn Java_kafkafast_NativeConsumer_create(env, settings: jstring, group: jstring) -> jlong, else 0; {
        let conf = conf::parse_checked(&env.string(settings)?)?;
        let group = conf::parse_group(&env.string(group)?)?;
        Ok(guard::handle_of(Arc::new(Shell {
            state: AtomicU8::new(OPEN),
            core: RwLock::new(None),
            last: OnceLock::new(),
            conf,
            group,
            runtime: runtime::handle()?,
            slots: RwLock::default(),
            topics: Mutex::default(),
            lists: Mutex::default(),
        })))
    }
}

entry! {
    /// `static native void connect(long handle, String topics, long token)`: an operation; topics are NUL-separated.
    fn Java_kafkafast_NativeConsumer_connect(env, handle: jlong, topics: jstring, token: jlong) -> (), else (); {
        let topics = env.string(topics)?;
        let shell = shared(handle);
        // Metadata, then the start of every partition.
        let mut limit = shell.conf.metadata_timeout.saturating_mul(2).saturating_add(shell.conf.connect_timeout);
        if let GroupConf::Redis(redis) = &shell.group {
            limit = limit.saturating_add(redis.timeout.saturating_mul(REDIS_TURNS));
            // An operator's commit is applied once every other member is known to be dead.
            limit = limit.saturating_add(shell.conf.heartbeat.saturating_mul(4)).saturating_add(shell.conf.lease / 2);
        }
        service::spawn(token, limit, async move {
            let topics: Vec<&str> = topics.split('\0').collect();
            let core = Consumer::connect(shell.conf.clone(), shell.group.clone(), &topics).await?;
            *shell.core.write() = Some(core);
            // Either this sees the close, or the close sees the core.
            if !shell.is_open() {
                shell.close_core(Duration::ZERO).await?;
            }
            Ok(0)
        })?;
        Ok(())
    }
}

entry! {
    /// `static native void deleteGroup(String group, long token)`: an operation; the group is pairs.
    fn Java_kafkafast_NativeConsumer_deleteGroup(env, group: jstring, token: jlong) -> (), else (); {
        let group = conf::parse_group(&env.string(group)?)?;
        let limit = match &group {
            GroupConf::Redis(redis) => redis.timeout.saturating_mul(REDIS_TURNS),
            _ => Duration::ZERO,
        };
        service::spawn(token, limit, async move {
            Consumer::delete_group(&group).await?;
            Ok(0)
        })?;
        Ok(())
    }
}

entry! {
    /// `static native int openSlot(long handle, long token)`: a slot for the calling thread, or -1 after close.
    fn Java_kafkafast_NativeConsumer_openSlot(_env, handle: jlong, token: jlong) -> jint, else -1; {
        let shell = shell(handle);
        let _runtime = shell.runtime.enter();
        shell.usable()?;
        let Ok(core) = shell.open() else { return Ok(-1) };
        let reader = core.reader();
        let control = reader.control();
        let reading = Mutex::new(Reading { reader: Some(reader), index: Vec::new() });
        let waiter = Waiter::new(token);
        let waker = Waker::from(Arc::clone(&waiter));
        let slot = Slot { reading, control, waiter, waker };
        let slot = Some(Arc::new(slot));
        let mut slots = shell.slots.write();
        // Under the lock that `close_core` collects the readers with: it sees this one, or this sees the close.
        if !shell.is_open() {
            return Ok(-1);
        }
        let free = slots.iter().position(Option::is_none).unwrap_or(slots.len());
        if free == slots.len() {
            slots.push(slot);
        } else {
            slots[free] = slot;
        }
        Ok(jint::try_from(free).unwrap_or(-1))
    }
}

entry! {
    /// `static native ByteBuffer control(long handle, int slot)`: a direct buffer over the slot's control cell.
    fn Java_kafkafast_NativeConsumer_control(env, handle: jlong, slot: jint) -> jobject, else std::ptr::null_mut(); {
        let slot = shell(handle).slot(slot)?;
        let address = Arc::as_ptr(&slot.control).cast::<u8>().cast_mut();
        // SAFETY: the cell consists of atomics and lives in the slot, which the shell holds until its thread is dead or has
        // left it; only that thread uses the buffer.
        Ok(unsafe { env.direct_buffer(address, size_of::<SlotControl>()) })
    }
}

entry! {
    /// `static native void closeSlot(long handle, int slot)`: hands back what it holds. Its thread is dead, or has left it.
    fn Java_kafkafast_NativeConsumer_closeSlot(_env, handle: jlong, slot: jint) -> (), else (); {
        let shell = shell(handle);
        let _runtime = shell.runtime.enter();
        let mut slots = shell.slots.write();
        let slot = usize::try_from(slot).ok().and_then(|id| slots.get_mut(id)).and_then(Option::take);
        drop(slots);
        drop(slot);
        Ok(())
    }
}

entry! {
    /// `static native int next(...)`: fills the slot's arrays with records of one unit; acknowledges those given before.
    fn Java_kafkafast_NativeConsumer_next(
        env, handle: jlong, slot: jint, data: jbyteArray, index: jlongArray, max: jint
    ) -> jint, else CODE_CLOSED; {
        let shell = shell(handle);
        let _poison = Poison(&shell.state);
        let slot = shell.slot(slot)?;
        let _runtime = shell.runtime.enter();
        let mut reading = slot.reading.lock();
        let Reading { reader: Some(reader), index: entries } = &mut *reading else { return Ok(CODE_CLOSED) };
        let max = usize::try_from(max).unwrap_or(0);
        slot.waiter.asks();
        let mut chunk = Chunk::new(env, data, entries, max, &shell.topics);
        let code = match reader.poll_fill(&mut Context::from_waker(&slot.waker), &mut chunk, max) {
            Poll::Pending => return Ok(EMPTY),
            Poll::Ready(Ok(Filled::Records(n))) => jint::try_from(n).unwrap_or(jint::MAX),
            Poll::Ready(Ok(Filled::TooSmall(needed))) => {
                if let Some((unit, offset)) = reader.stands_at() {
                    chunk.needed(unit, offset, needed);
                }
                GROW
            }
            Poll::Ready(Ok(Filled::Closed)) => return Ok(CODE_CLOSED),
            Poll::Ready(Err(e)) => return Err(Failure::from(e).into()),
        };
        chunk.finish(index);
        Ok(code)
    }
}

entry! {
    /// `static native boolean await(long handle, int slot, int micros)`: waits here for a moment, after `next` said that there is
    /// nothing. True: it is worth asking again. Holds nothing that others need.
    fn Java_kafkafast_NativeConsumer_await(_env, handle: jlong, slot: jint, micros: jint) -> jboolean, else false; {
        let slot = shell(handle).slot(slot)?;
        let limit = Duration::from_micros(u64::try_from(micros).unwrap_or(0)).min(MAX_MOMENT);
        Ok(slot.waiter.wait(limit))
    }
}

/// Calls `act` with a slot's reader, if it still has one.
fn with_reader(handle: jlong, slot: jint, act: impl FnOnce(&mut Reader, &Waker)) -> Result<(), Thrown> {
    let shell = shell(handle);
    let _poison = Poison(&shell.state);
    let slot = shell.slot(slot)?;
    let _runtime = shell.runtime.enter();
    if let Some(reader) = slot.reading.lock().reader.as_mut() {
        act(reader, &slot.waker);
    }
    Ok(())
}

entry! {
    /// `static native void look(long handle, int slot)`: the clock says that the lease of what it holds is over. If no renewal
    /// came meanwhile, the control cell says `revoked` afterwards.
    fn Java_kafkafast_NativeConsumer_look(_env, handle: jlong, slot: jint) -> (), else (); {
        with_reader(handle, slot, |reader, _| reader.look())
    }
}

entry! {
    /// `static native void cancelWait(long handle, int slot)`: its thread waits no more.
    fn Java_kafkafast_NativeConsumer_cancelWait(_env, handle: jlong, slot: jint) -> (), else (); {
        with_reader(handle, slot, |reader, _| reader.cancel_wait())
    }
}

entry! {
    /// `static native void finish(long handle, int slot, boolean all)`: its thread takes no more of the chunk. `all`: every
    /// record of it is handled; else the control cell says how far, and the rest goes back.
    fn Java_kafkafast_NativeConsumer_finish(_env, handle: jlong, slot: jint, all: jboolean) -> (), else (); {
        with_reader(handle, slot, |reader, waker| {
            if all {
                // Asking for more acknowledges; the sink takes none, so nothing new comes into this thread's hands.
                let _ = reader.poll_fill(&mut Context::from_waker(waker), &mut Refuse, 1);
                reader.cancel_wait();
            }
            reader.release();
        })
    }
}

entry! {
    /// `static native void retry(long handle, int slot, long delayMillis, String reason)`: the record in hand failed. It comes
    /// again after the delay, or after the group's back-off when that is negative.
    fn Java_kafkafast_NativeConsumer_retry(
        env, handle: jlong, slot: jint, delay: jlong, reason: jstring
    ) -> (), else (); {
        let reason = env.string(reason)?;
        with_reader(handle, slot, |reader, _| {
            if delay < 0 { reader.failed(&reason) } else { reader.retry(Some(millis(delay))) }
        })
    }
}

entry! {
    /// `static native String topicName(long handle, int topicId)`: the name of a topic id in an index header.
    fn Java_kafkafast_NativeConsumer_topicName(env, handle: jlong, id: jint) -> jstring, else std::ptr::null_mut(); {
        let name = shell(handle).topics.lock().name(id);
        let name = name.ok_or_else(|| Failure::new(ErrorKind::Internal, format!("there is no topic {id}")))?;
        Ok(env.new_string(&name))
    }
}

entry! {
    /// `static native void changeTopics(long handle, boolean add, String topics, long token)`: an operation.
    fn Java_kafkafast_NativeConsumer_changeTopics(
        env, handle: jlong, add: jboolean, topics: jstring, token: jlong
    ) -> (), else (); {
        let topics = env.string(topics)?;
        let shell = shared(handle);
        let limit = shell.conf.metadata_timeout.saturating_mul(2);
        service::spawn(token, limit, async move {
            let topics: Vec<&str> = topics.split('\0').collect();
            let core = shell.open()?;
            if add { core.add_topics(&topics).await? } else { core.remove_topics(&topics).await? }
            Ok(0)
        })?;
        Ok(())
    }
}

entry! {
    /// `static native void quarantined(long handle, long token)`: an operation; its result is the number of a list.
    fn Java_kafkafast_NativeConsumer_quarantined(_env, handle: jlong, token: jlong) -> (), else (); {
        let shell = shared(handle);
        service::spawn(token, shell.conf.metadata_timeout, async move {
            let units = shell.open()?.quarantined().await?;
            let now = SystemTime::now();
            let mut list = String::new();
            for unit in units {
                let since = now.checked_sub(unit.age).and_then(|at| at.duration_since(UNIX_EPOCH).ok());
                let since = since.unwrap_or_default().as_millis();
                // Writing to a String does not fail.
                _ = writeln!(list, "{}\t{}\t{}\t{}\t{since}", unit.topic, unit.partition, unit.from, unit.to);
            }
            Ok(shell.lists.lock().keep(list))
        })?;
        Ok(())
    }
}

entry! {
    /// `static native String listed(long handle, long number)`: a list by its number, once.
    fn Java_kafkafast_NativeConsumer_listed(env, handle: jlong, number: jlong) -> jstring, else std::ptr::null_mut(); {
        let list = shell(handle).lists.lock().take(number);
        let gone = || Failure::new(ErrorKind::Internal, "too many threads asked what is quarantined; ask again");
        Ok(env.new_string(&list.ok_or_else(gone)?))
    }
}

entry! {
    /// `static native void unpark(long handle, String topic, int partition, long offset, long token)`: an operation.
    fn Java_kafkafast_NativeConsumer_unpark(
        env, handle: jlong, topic: jstring, partition: jint, offset: jlong, token: jlong
    ) -> (), else (); {
        let topic = env.string(topic)?;
        let shell = shared(handle);
        service::spawn(token, shell.conf.metadata_timeout, async move {
            Ok(i64::from(shell.open()?.release(&topic, partition, offset).await?))
        })?;
        Ok(())
    }
}

entry! {
    /// `static native void seek(long handle, String topic, int partition, long offset, long token)`: an operation.
    fn Java_kafkafast_NativeConsumer_seek(
        env, handle: jlong, topic: jstring, partition: jint, offset: jlong, token: jlong
    ) -> (), else (); {
        let topic = env.string(topic)?;
        let shell = shared(handle);
        // Topic, ends of the log, group, commit.
        let limit = shell.conf.metadata_timeout.saturating_mul(4);
        service::spawn(token, limit, async move {
            shell.open()?.seek(&topic, partition, offset).await?;
            Ok(0)
        })?;
        Ok(())
    }
}

entry! {
    /// `static native void stats(long handle, long[] into)`: counters, in the order of `ConsumerStats.java`.
    fn Java_kafkafast_NativeConsumer_stats(env, handle: jlong, into: jlongArray) -> (), else (); {
        let shell = shell(handle);
        let live = shell.core.read().as_ref().map(Consumer::stats);
        let s = live.or_else(|| shell.last.get().cloned()).unwrap_or_default();
        let values = [
            s.records, s.units_done, s.units_released, s.units_failed, s.units_fenced, s.units_stuck, s.records_lost,
            s.fetches, s.bytes_fetched, s.exchanges, s.units_held, s.readers, s.prefetch_bytes, s.topics_denied,
            u64::from(s.handler_failing), s.partitions_pending, s.units_quarantined, s.partitions_blocked,
        ];
        env.write_longs(into, &values.map(|v| jlong::try_from(v).unwrap_or(jlong::MAX)));
        Ok(())
    }
}

entry! {
    /// `static native void close(long handle, long token, long waitMillis)`: an operation. Readers are told that it is over.
    fn Java_kafkafast_NativeConsumer_close(_env, handle: jlong, token: jlong, wait: jlong) -> (), else (); {
        let shell = shared(handle);
        // A poisoned handle stays poisoned; its core is closed all the same.
        let _ = shell.state.compare_exchange(OPEN, CLOSED, Ordering::SeqCst, Ordering::SeqCst);
        let limit = millis(wait).saturating_add(Duration::from_secs(10));
        service::spawn(token, limit, async move {
            shell.close_core(millis(wait)).await?;
            Ok(0)
        })?;
        Ok(())
    }
}

entry! {
    /// `static native void release(long handle)`: frees the handle. The object is unreachable and closed.
    fn Java_kafkafast_NativeConsumer_release(_env, handle: jlong) -> (), else (); {
        // SAFETY: `ClientState.java` calls this once, for a handle from `create` whose object is unreachable.
        unsafe { guard::free::<Shell>(handle) };
        Ok(())
    }
}

entry! {
    /// `static native void panicForTest(long handle)`: panics while it holds the handle.
    fn Java_kafkafast_NativeConsumer_panicForTest(_env, handle: jlong) -> (), else (); {
        let _poison = Poison(&shell(handle).state);
        panic!("a panic for a test with handle {}", handle != 0);
    }
}
