//! Two direct buffers of Java as a sink for records.
//!
//! The data buffer holds key, value and headers of each record one behind the other. The index buffer begins with a
//! header of 64 bytes - topic id, partition, attempt, bytes needed (`i32` each) - and has an entry of 32 bytes for each
//! record: offset, timestamp (`i64`), position in the data, length of key, of value (-1: null), of headers (`i32`). All
//! in native byte order. `Slot.java` reads it.

use std::collections::HashMap;
use std::sync::Arc;

use kafka_fast::consumer::{ChunkSink, Put, UnitInfo};
use kafka_fast::wire::{Headers, RecordRef};
use parking_lot::Mutex;

const HEADER: usize = 64;
const ENTRY: usize = 32;

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
    data: &'a mut [u8],
    used: usize,
    index: &'a mut [u8],
    count: usize,
    topics: &'a Mutex<Topics>,
}

impl<'a> Chunk<'a> {
    /// # Safety
    /// `data` is writable for `capacity` bytes, `index` for its header and `max` entries, both for as long as the result
    /// lives, and nobody else touches them meanwhile.
    pub(crate) unsafe fn new(
        data: *mut u8,
        capacity: usize,
        index: *mut u8,
        max: usize,
        topics: &'a Mutex<Topics>,
    ) -> Self {
        // SAFETY: promised by the caller; Java's direct buffers are zeroed when made, so the bytes are initialised.
        let (data, index) = unsafe {
            (
                std::slice::from_raw_parts_mut(data, capacity),
                std::slice::from_raw_parts_mut(index, HEADER + max * ENTRY),
            )
        };
        Self { data, used: 0, index, count: 0, topics }
    }

    /// Notes what the next record needs.
    pub(crate) fn needed(&mut self, bytes: usize) {
        self.int(12, int(bytes));
    }

    fn int(&mut self, at: usize, value: i32) {
        self.index[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    }

    /// Writes what all records of the chunk have in common.
    #[cold]
    fn begin(&mut self, unit: &UnitInfo) {
        let topic = self.topics.lock().id(&unit.topic);
        self.int(0, topic);
        self.int(4, unit.partition);
        self.int(8, i32::try_from(unit.attempt).unwrap_or(i32::MAX));
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) {
        self.data[self.used..self.used + bytes.len()].copy_from_slice(bytes);
        self.used += bytes.len();
    }

    /// The form `Headers.java` reads: count, then length and bytes of each name and value, big-endian.
    fn headers(&mut self, headers: Headers<'_>) {
        self.bytes(&int(headers.len()).to_be_bytes());
        for (key, value) in headers {
            self.bytes(&int(key.len()).to_be_bytes());
            self.bytes(key);
            self.bytes(&value.map_or(-1, |v| int(v.len())).to_be_bytes());
            self.bytes(value.unwrap_or_default());
        }
    }
}

/// A length as Java counts; what is larger than a Java array can be fails elsewhere.
fn int(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

#[inline]
fn headers_size(headers: &Headers<'_>) -> usize {
    if headers.is_empty() { 0 } else { some_headers_size(headers) }
}

fn some_headers_size(headers: &Headers<'_>) -> usize {
    4 + headers.map(|(key, value)| 8 + key.len() + value.map_or(0, <[u8]>::len)).sum::<usize>()
}

impl ChunkSink for Chunk<'_> {
    #[inline]
    fn put(&mut self, record: &RecordRef<'_>, unit: &UnitInfo) -> Put {
        let headers = headers_size(&record.headers);
        let key = record.key.unwrap_or_default();
        let value = record.value.unwrap_or_default();
        let size = key.len() + value.len() + headers;
        if self.used + size > self.data.len() {
            return if self.count == 0 { Put::TooSmall(size) } else { Put::Full };
        }
        let at = HEADER + self.count * ENTRY;
        let Some(entry) = self.index.get_mut(at..at + ENTRY) else { return Put::Full };
        entry[..8].copy_from_slice(&record.offset.to_ne_bytes());
        entry[8..16].copy_from_slice(&record.timestamp.to_ne_bytes());
        entry[16..20].copy_from_slice(&int(self.used).to_ne_bytes());
        entry[20..24].copy_from_slice(&record.key.map_or(-1, |k| int(k.len())).to_ne_bytes());
        entry[24..28].copy_from_slice(&record.value.map_or(-1, |v| int(v.len())).to_ne_bytes());
        entry[28..].copy_from_slice(&int(headers).to_ne_bytes());
        if self.count == 0 {
            self.begin(unit);
        }
        self.bytes(key);
        self.bytes(value);
        if headers > 0 {
            self.headers(record.headers);
        }
        self.count += 1;
        Put::Taken
    }
}

/// A sink that takes nothing: asking with it acknowledges what was given before.
pub(crate) struct Refuse;

impl ChunkSink for Refuse {
    fn put(&mut self, _: &RecordRef<'_>, _: &UnitInfo) -> Put {
        Put::TooSmall(usize::MAX)
    }
}
