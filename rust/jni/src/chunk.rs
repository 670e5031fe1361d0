//! Two arrays of Java as a sink for records.
//!
//! The data array gets the bytes of batches as they lie there, one copy for all records of a batch that fit. The index array
//! begins with topic id, partition, attempt, bytes needed and of which offset, and has an entry of five numbers for each record: offset,
//! timestamp, and where key, value and headers are (position in the data in the upper half, length in the lower one; -1 is
//! null). `Slot.java` reads it. Both are written by copies: the garbage collector may move arrays, and what Java copies out
//! of an array of its own costs it less than what it copies out of memory of ours.

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use jni::sys::{jbyteArray, jlong, jlongArray};
use kafka_fast::consumer::{ChunkSink, Put, UnitInfo};
use kafka_fast::wire::RecordRef;
use parking_lot::Mutex;

use crate::env::Env;

const HEADER: usize = 5;
const ENTRY: usize = 5;
const NULL: jlong = -1;

/// Numbers for topics, so that Java makes each name's String once. Bounded by the topics a consumer ever reads.
#[derive(Default)]
pub(crate) struct Topics {
    ids: HashMap<Arc<str>, i32>,
    names: Vec<Arc<str>>,
}

impl Topics {
    fn id(&mut self, name: &Arc<str>) -> i32 {
        if let Some(id) = self.ids.get(name) {
            return *id;
        }
        let id = i32::try_from(self.names.len()).unwrap_or(i32::MAX);
        self.names.push(Arc::clone(name));
        self.ids.insert(Arc::clone(name), id);
        id
    }

    /// The name of a number given before.
    pub(crate) fn name(&self, id: i32) -> Option<Arc<str>> {
        self.names.get(usize::try_from(id).ok()?).cloned()
    }
}

/// The sink of one fill.
pub(crate) struct Chunk<'a> {
    env: &'a Env,
    data: jbyteArray,
    capacity: usize,
    /// Bytes of the data that are written.
    used: usize,
    /// What the index array will get.
    index: &'a mut Vec<jlong>,
    max: usize,
    topics: &'a Mutex<Topics>,
    run: Run,
}

/// Records of one batch that lie together and are not copied yet.
#[derive(Default)]
struct Run {
    body: Bytes,
    /// Where they are in the body; empty before the first.
    from: usize,
    to: usize,
}

impl Run {
    /// Where `bytes`, which are of the body, are in it.
    #[inline]
    fn position(&self, bytes: &[u8]) -> usize {
        bytes.as_ptr().addr() - self.body.as_ptr().addr()
    }
}

impl<'a> Chunk<'a> {
    /// A sink for at most `max` records into an array of `capacity` bytes; `index` is used for what [`finish`](Self::finish)
    /// writes.
    pub(crate) fn new(
        env: &'a Env,
        data: jbyteArray,
        index: &'a mut Vec<jlong>,
        max: usize,
        topics: &'a Mutex<Topics>,
    ) -> Self {
        index.clear();
        index.resize(HEADER, 0);
        let capacity = env.array_length(data);
        Self { env, data, capacity, used: 0, index, max, topics, run: Run::default() }
    }

    /// Writes what was put to Java's arrays.
    pub(crate) fn finish(mut self, index: jlongArray) {
        self.copy_run();
        self.env.write_longs(index, self.index);
    }

    /// Notes what the next record needs, which is the one of `unit` at `offset`. Not where that is seen, [`put`](ChunkSink::put):
    /// it would cost every record a dozen instructions.
    pub(crate) fn needed(&mut self, unit: &UnitInfo, offset: i64, bytes: usize) {
        self.begin(unit);
        (self.index[3], self.index[4]) = (long(bytes), offset);
    }

    /// Writes what all records of the chunk have in common.
    #[cold]
    fn begin(&mut self, unit: &UnitInfo) {
        self.index[0] = self.topics.lock().id(&unit.topic).into();
        self.index[1] = unit.partition.into();
        self.index[2] = unit.attempt.into();
    }

    fn copy_run(&mut self) {
        let run = &self.run.body[self.run.from..self.run.to];
        self.env.write_bytes(self.data, self.used, run);
        self.used += run.len();
        (self.run.from, self.run.to) = (0, 0);
    }

    /// Where bytes of the run will be in the data, and their length.
    #[inline]
    fn place(&self, from: usize, bytes: &[u8]) -> jlong {
        if bytes.is_empty() {
            return 0;
        }
        long(self.used + self.run.position(bytes) - from) << 32 | long(bytes.len())
    }
}

/// A position or length; none is larger than a Java array can be.
#[inline]
fn long(n: usize) -> jlong {
    n as jlong
}

impl ChunkSink for Chunk<'_> {
    fn batch(&mut self, body: &Bytes) {
        self.copy_run();
        self.run.body = body.clone();
    }

    #[inline]
    fn put(&mut self, record: &RecordRef<'_>, unit: &UnitInfo) -> Put {
        let headers = record.headers.raw();
        // They lie one behind the other; what is empty may lie anywhere.
        let parts = match (record.key, record.value) {
            (None, Some(value)) if headers.is_empty() => [value, value],
            (key, value) => ends(key.unwrap_or_default(), value.unwrap_or_default(), headers),
        };
        let (mut from, mut to) = (self.run.from, self.run.to);
        let [first, last] = parts;
        if !last.is_empty() {
            if to == 0 {
                from = self.run.position(first);
            }
            to = self.run.position(last) + last.len();
        }
        if self.used + (to - from) > self.capacity {
            return if self.index.len() == HEADER { Put::TooSmall(to - from) } else { Put::Full };
        }
        if self.index.len() == HEADER {
            self.begin(unit);
        } else if self.index.len() >= HEADER + self.max * ENTRY {
            return Put::Full;
        }
        let entry = [
            record.offset,
            record.timestamp,
            record.key.map_or(NULL, |key| self.place(from, key)),
            record.value.map_or(NULL, |value| self.place(from, value)),
            if headers.is_empty() { NULL } else { self.place(from, headers) },
        ];
        self.index.extend_from_slice(&entry);
        (self.run.from, self.run.to) = (from, to);
        Put::Taken
    }
}

/// The first and the last of what is not empty.
fn ends<'a>(key: &'a [u8], value: &'a [u8], headers: &'a [u8]) -> [&'a [u8]; 2] {
    let first = [key, value].into_iter().find(|part| !part.is_empty()).unwrap_or(headers);
    let last = [headers, value].into_iter().find(|part| !part.is_empty()).unwrap_or(key);
    [first, last]
}

/// A sink that takes nothing: asking with it acknowledges what was given before.
pub(crate) struct Refuse;

impl ChunkSink for Refuse {
    fn put(&mut self, _: &RecordRef<'_>, _: &UnitInfo) -> Put {
        Put::TooSmall(usize::MAX)
    }
}
