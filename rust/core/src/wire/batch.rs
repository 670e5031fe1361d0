//! Writing record batches (magic 2).
//!
//! A [`BatchBuilder`] encodes each record in its wire form at the end of one contiguous buffer in which the 61 bytes of
//! the header are reserved. [`BatchBuilder::seal`] compresses, [`SealedBatch::stamp`] gives it a producer's identity and
//! [`SealedBatch::finish`] writes header and CRC-32C, once. The layout is that of the Kafka documentation, "Record Batch";
//! headers on records are KIP-82.

use bytes::Bytes;

use super::{codec, prefetch};
use crate::config::Compression;

/// Bytes of a batch before its first record.
pub const HEADER_LEN: usize = 61;

// Where the fields of the header are.
pub(super) const LENGTH_AT: usize = 8;
pub(super) const LEADER_EPOCH_AT: usize = 12;
pub(super) const MAGIC_AT: usize = 16;
pub(super) const CRC_AT: usize = 17;
/// What the CRC covers begins here.
pub(super) const ATTRIBUTES_AT: usize = 21;
pub(super) const LAST_OFFSET_DELTA_AT: usize = 23;
pub(super) const BASE_TIMESTAMP_AT: usize = 27;
pub(super) const MAX_TIMESTAMP_AT: usize = 35;
pub(super) const PRODUCER_ID_AT: usize = 43;
pub(super) const PRODUCER_EPOCH_AT: usize = 51;
pub(super) const BASE_SEQUENCE_AT: usize = 53;
pub(super) const COUNT_AT: usize = 57;

/// How far ahead of the last record memory is asked for: a few large records or tens of small ones.
const AHEAD: usize = 4096;
/// About the bytes of a record besides its value.
const SHORT_HEAD: usize = 10;

/// A header of a record: names may repeat, values may be null.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// Its name.
    pub key: &'a str,
    /// Its value; `None` is null, not empty.
    pub value: Option<&'a [u8]>,
}

/// A record to be sent, borrowed from the caller.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Record<'a> {
    /// Decides the partition; `None` is null.
    pub key: Option<&'a [u8]>,
    /// The payload; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Headers, in order.
    pub headers: &'a [Header<'a>],
}

impl<'a> Record<'a> {
    /// A record of a value alone.
    pub fn value<V: AsRef<[u8]> + ?Sized>(value: &'a V) -> Self {
        Self { key: None, value: Some(value.as_ref()), headers: &[] }
    }

    /// A record of a key and a value.
    pub fn keyed<K: AsRef<[u8]> + ?Sized, V: AsRef<[u8]> + ?Sized>(key: &'a K, value: &'a V) -> Self {
        Self { key: Some(key.as_ref()), value: Some(value.as_ref()), headers: &[] }
    }

    /// A tombstone: a key whose value is null, which compaction takes as "delete".
    pub fn tombstone<K: AsRef<[u8]> + ?Sized>(key: &'a K) -> Self {
        Self { key: Some(key.as_ref()), value: None, headers: &[] }
    }
}

/// Who wrote a batch and where it stands in what it wrote (KIP-98): brokers drop a batch they already have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProducerStamp {
    /// The producer's id.
    pub id: i64,
    /// Its epoch.
    pub epoch: i16,
    /// The sequence number of the batch's first record.
    pub base_sequence: i32,
}

/// An open batch: records are appended until it is sealed.
#[derive(Debug)]
pub struct BatchBuilder {
    buf: Vec<u8>,
    count: u32,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl BatchBuilder {
    /// An empty batch with room for `capacity` bytes, header included.
    pub fn with_capacity(capacity: usize) -> Self {
        Self::from_buffer(Vec::with_capacity(capacity.max(HEADER_LEN)))
    }

    /// An empty batch in a buffer that was used before; what is in it goes.
    pub fn from_buffer(mut buf: Vec<u8>) -> Self {
        buf.clear();
        buf.resize(HEADER_LEN, 0);
        Self { buf, count: 0, base_timestamp: 0, max_timestamp: i64::MIN }
    }

    /// The buffer, for use by another batch.
    pub fn into_buffer(self) -> Vec<u8> {
        self.buf
    }

    /// Bytes so far, header included.
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// Whether it has no record.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Bytes it holds without growing.
    pub fn capacity(&self) -> usize {
        self.buf.capacity()
    }

    /// Grows the buffer to hold `capacity` bytes; never shrinks it.
    pub fn grow_to(&mut self, capacity: usize) {
        self.buf.reserve_exact(capacity.saturating_sub(self.buf.len()));
    }

    /// Records so far.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// At least as many bytes as [`append`](Self::append) will add for `record`.
    pub fn encoded_bound(record: &Record<'_>) -> usize {
        // The record's length, attributes, timestamp and offset deltas, and the lengths of key, value and header list.
        const FIXED: usize = 5 + 1 + 10 + 5 + 5 + 5 + 5;
        let headers: usize =
            record.headers.iter().map(|h| 10 + h.key.len() + h.value.map_or(0, <[u8]>::len)).sum();
        FIXED + record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len) + headers
    }

    /// Appends a record and returns its index in the batch. Allocates only when
    /// [`encoded_bound`](Self::encoded_bound) bytes are not free.
    #[inline]
    pub fn append(&mut self, timestamp_ms: i64, record: &Record<'_>) -> u32 {
        let index = self.count;
        if index == 0 {
            self.base_timestamp = timestamp_ms;
        }
        self.max_timestamp = self.max_timestamp.max(timestamp_ms);
        let delta = timestamp_ms.wrapping_sub(self.base_timestamp);

        match record {
            Record { key: None, value: Some(value), headers: [] }
                if zigzag(delta) < 1 << 14 && index < 1 << 13 && value.len() < 8000 =>
            {
                self.append_short(zigzag(delta), index, value);
            }
            _ => self.append_any(delta, index, record),
        }
        self.count = index + 1;
        self.prefetch(record.value.map_or(0, <[u8]>::len) + SHORT_HEAD);
        index
    }

    /// Asks for the memory that a record like this one needs some records later.
    #[inline(always)]
    fn prefetch(&self, bytes: usize) {
        let from = self.buf.len() + AHEAD;
        let bytes = bytes.min(self.buf.capacity().saturating_sub(from));
        prefetch::to_write(self.buf.as_ptr().wrapping_add(from), bytes);
    }

    /// A record whose numbers have at most two bytes each, as nearly all have. They are gathered in a register: what is
    /// written to memory by the byte and read from there at once costs more than all the rest.
    #[inline]
    fn append_short(&mut self, delta: u64, index: u32, value: &[u8]) {
        let mut head = Gather { bits: 0, at: 8 }; // The attributes: none.
        head.put(delta);
        head.put(u64::from(index) << 1);
        head.put(1); // The key: null.
        head.put((value.len() as u64) << 1);
        let length = ((head.at / 8 + value.len() + 1) as u64) << 1;
        let (numbers, wide) = if length < 1 << 7 {
            (u128::from(head.bits) << 8 | u128::from(length), 1)
        } else {
            (u128::from(head.bits) << 16 | u128::from(length & 0x7f | 0x80 | length >> 7 << 8), 2)
        };
        let end = self.buf.len() + head.at / 8 + wide;
        // One check for all that follows; `encoded_bound` has room for the whole sixteen bytes.
        self.buf.reserve(size_of::<u128>() + value.len() + 1);
        // A constant number of bytes is an instruction, a variable one a call.
        self.buf.extend_from_slice(&numbers.to_le_bytes());
        self.buf.truncate(end);
        self.buf.extend_from_slice(value);
        self.buf.push(0); // No headers.
    }

    /// Any record.
    #[inline(never)]
    fn append_any(&mut self, delta: i64, index: u32, record: &Record<'_>) {
        let key_len = record.key.map_or(-1, |k| k.len() as i64);
        let value_len = record.value.map_or(-1, |v| v.len() as i64);
        let rest = value_len.max(0) as usize + headers_len(record.headers);
        // What is before the value is gathered in a scratch that is copied whole (a constant number of bytes is two
        // instructions, a variable one a call) and cut to what was written; `encoded_bound` has room for the whole scratch.
        let mut head = Scratch::new();
        head.byte(0);
        head.varint(delta);
        head.varint(i64::from(index));
        head.varint(key_len);
        if let Some(key) = record.key {
            let mut length = Scratch::new();
            length.varint(value_len);
            head.append_with_length(key.len() + length.len() + rest, &mut self.buf);
            self.buf.extend_from_slice(key);
            length.append_to(&mut self.buf);
        } else {
            head.varint(value_len);
            head.append_with_length(rest, &mut self.buf);
        }
        if let Some(value) = record.value {
            self.buf.extend_from_slice(value);
        }
        if record.headers.is_empty() {
            self.buf.push(0);
        } else {
            self.append_headers(record.headers);
        }
    }

    fn append_headers(&mut self, headers: &[Header<'_>]) {
        put_varint(&mut self.buf, headers.len() as i64);
        for header in headers {
            put_varint(&mut self.buf, header.key.len() as i64);
            self.buf.extend_from_slice(header.key.as_bytes());
            put_varint(&mut self.buf, header.value.map_or(-1, |v| v.len() as i64));
            self.buf.extend_from_slice(header.value.unwrap_or_default());
        }
    }

    /// Closes the batch and compresses its records by a codec, at its default level or a given one; they stay as they are
    /// when that does not make them smaller. Blocks as long as the codec takes.
    ///
    /// # Panics
    /// If the batch is empty: no broker accepts one.
    pub fn seal(self, compression: impl Into<Compression>) -> SealedBatch {
        self.seal_sparing(compression).0
    }

    /// As [`seal`](Self::seal), and hands out the buffer of the plain records when the batch has no more use for it: the
    /// compressed ones are in a buffer just large enough.
    ///
    /// # Panics
    /// If the batch is empty: no broker accepts one.
    pub fn seal_sparing(self, compression: impl Into<Compression>) -> (SealedBatch, Option<Vec<u8>>) {
        assert!(self.count > 0, "an empty batch cannot be sealed");
        let compression = compression.into();
        let smaller = codec::compress(compression, &self.buf[HEADER_LEN..], HEADER_LEN);
        let attributes = if smaller.is_some() { codec::attribute(compression.codec) } else { 0 };
        let (buf, spare) = match smaller {
            Some(smaller) => (smaller, Some(self.buf)),
            None => (self.buf, None),
        };
        let (base_timestamp, max_timestamp) = (self.base_timestamp, self.max_timestamp);
        let sealed =
            SealedBatch { buf, count: self.count, attributes, stamp: None, base_timestamp, max_timestamp };
        (sealed, spare)
    }
}

/// A batch that takes no more records.
#[derive(Debug)]
pub struct SealedBatch {
    buf: Vec<u8>,
    count: u32,
    attributes: i16,
    stamp: Option<ProducerStamp>,
    base_timestamp: i64,
    max_timestamp: i64,
}

impl SealedBatch {
    /// Records in it.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes on the wire.
    pub fn len(&self) -> usize {
        self.buf.len()
    }

    /// Never true: an empty batch cannot be sealed.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Gives it a producer's identity, or takes it away. Before [`finish`](Self::finish), because the CRC covers it.
    pub fn stamp(&mut self, stamp: Option<ProducerStamp>) {
        self.stamp = stamp;
    }

    /// Writes the header and the CRC-32C; the bytes can be sent any number of times.
    pub fn finish(mut self) -> Bytes {
        let stamp = self.stamp.unwrap_or(ProducerStamp { id: -1, epoch: -1, base_sequence: -1 });
        let count = self.count as i32;
        let length = (self.buf.len() - LEADER_EPOCH_AT) as i32;
        let mut put = |at: usize, bytes: &[u8]| self.buf[at..at + bytes.len()].copy_from_slice(bytes);
        put(0, &0_i64.to_be_bytes());
        put(LENGTH_AT, &length.to_be_bytes());
        put(LEADER_EPOCH_AT, &(-1_i32).to_be_bytes());
        put(MAGIC_AT, &[2]);
        put(ATTRIBUTES_AT, &self.attributes.to_be_bytes());
        put(LAST_OFFSET_DELTA_AT, &(count - 1).to_be_bytes());
        put(BASE_TIMESTAMP_AT, &self.base_timestamp.to_be_bytes());
        put(MAX_TIMESTAMP_AT, &self.max_timestamp.to_be_bytes());
        put(PRODUCER_ID_AT, &stamp.id.to_be_bytes());
        put(PRODUCER_EPOCH_AT, &stamp.epoch.to_be_bytes());
        put(BASE_SEQUENCE_AT, &stamp.base_sequence.to_be_bytes());
        put(COUNT_AT, &count.to_be_bytes());
        let crc = crc32c(&self.buf[ATTRIBUTES_AT..]);
        self.buf[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
        self.buf.into()
    }
}

/// Gives a finished batch another producer's identity, or none: after a producer's epoch was raised (KIP-360) its
/// batches are numbered anew. Copies the batch only when somebody else still holds its bytes.
pub fn restamp(batch: Bytes, stamp: Option<ProducerStamp>) -> Bytes {
    let stamp = stamp.unwrap_or(ProducerStamp { id: -1, epoch: -1, base_sequence: -1 });
    let mut buf: Vec<u8> = recycle_or_copy(batch);
    buf[PRODUCER_ID_AT..PRODUCER_EPOCH_AT].copy_from_slice(&stamp.id.to_be_bytes());
    buf[PRODUCER_EPOCH_AT..BASE_SEQUENCE_AT].copy_from_slice(&stamp.epoch.to_be_bytes());
    buf[BASE_SEQUENCE_AT..COUNT_AT].copy_from_slice(&stamp.base_sequence.to_be_bytes());
    let crc = crc32c(&buf[ATTRIBUTES_AT..]);
    buf[CRC_AT..CRC_AT + 4].copy_from_slice(&crc.to_be_bytes());
    buf.into()
}

fn recycle_or_copy(batch: Bytes) -> Vec<u8> {
    batch.try_into_mut().map_or_else(|shared| shared.to_vec(), Into::into)
}

/// The buffer, empty, of a finished batch that nobody else holds any more, for use by another.
pub fn recycle(batch: Bytes) -> Option<Vec<u8>> {
    let mut batch = batch.try_into_mut().ok()?;
    // Or all of it would be moved to the front of its buffer, where it is already.
    batch.clear();
    Some(batch.into())
}

/// Bytes whose checksum is computed while those behind them are on their way to the cache.
const CRC_BLOCK: usize = 8 << 10;

/// CRC-32C (Castagnoli), as batches carry it. What it runs over was usually written by another core, and it is three times as
/// fast as lines come from there unasked.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc32Iscsi);
    let mut blocks = bytes.chunks(CRC_BLOCK).peekable();
    while let Some(block) = blocks.next() {
        prefetch::to_read(blocks.peek().copied().unwrap_or_default());
        digest.update(block);
    }
    digest.finalize() as u32
}

/// Signed numbers are written so that small ones are short, whatever their sign.
#[inline]
const fn zigzag(v: i64) -> u64 {
    ((v << 1) ^ (v >> 63)) as u64
}

/// Bytes of a number that is not signed any more.
#[inline]
const fn varint_bytes(z: u64) -> usize {
    // Seven bits a byte, and one byte for zero: (index of the highest bit) / 7 + 1, without a division.
    ((z | 1).ilog2() as usize * 9 + 73) / 64
}

/// Up to four numbers below 2^14 as they are written, one behind the other. Whether one has a byte or two is a jump that
/// processors foresee, since the records of a stream are alike.
struct Gather {
    bits: u64,
    /// How many bits there are.
    at: usize,
}

impl Gather {
    #[inline(always)]
    fn put(&mut self, z: u64) {
        if z < 1 << 7 {
            self.bits |= z << self.at;
            self.at += 8;
        } else {
            self.bits |= (z & 0x7f | 0x80 | z >> 7 << 8) << self.at;
            self.at += 16;
        }
    }
}

#[inline]
const fn varint_len(v: i64) -> usize {
    varint_bytes(zigzag(v))
}

#[inline]
fn headers_len(headers: &[Header<'_>]) -> usize {
    if headers.is_empty() {
        return 1;
    }
    let each = headers.iter().map(|h| {
        let value = h.value.map_or(-1, |v| v.len() as i64);
        varint_len(h.key.len() as i64) + h.key.len() + varint_len(value) + value.max(0) as usize
    });
    varint_len(headers.len() as i64) + each.sum::<usize>()
}

/// A length within a header: names and most values have fewer than 64 bytes.
#[inline]
fn put_varint(out: &mut Vec<u8>, v: i64) {
    let z = zigzag(v);
    if z < 1 << 7 {
        return out.push(z as u8);
    }
    let mut scratch = Scratch::new();
    scratch.varint(v);
    scratch.append_to(out);
}

/// Up to 24 bytes on the stack, with room for a length before them. Masks hold indices in range instead of checks.
struct Scratch {
    bytes: [u8; 48],
    end: usize,
}

impl Scratch {
    /// Where what is put begins.
    const START: usize = 8;

    #[inline]
    fn new() -> Self {
        Self { bytes: [0; 48], end: Self::START }
    }

    #[inline]
    fn len(&self) -> usize {
        self.end - Self::START
    }

    #[inline]
    fn put<const N: usize>(&mut self, bytes: [u8; N]) {
        debug_assert!(self.end + N <= 32);
        let at = self.end & 31;
        self.bytes[at..at + N].copy_from_slice(&bytes);
        self.end += N;
    }

    #[inline]
    fn byte(&mut self, byte: u8) {
        self.put([byte]);
    }

    /// Nearly all numbers in records have one byte or two.
    #[inline]
    fn varint(&mut self, v: i64) {
        let z = zigzag(v);
        if z < 1 << 7 {
            self.byte(z as u8);
        } else if z < 1 << 14 {
            self.put([z as u8 | 0x80, (z >> 7) as u8]);
        } else {
            self.long_varint(z);
        }
    }

    #[cold]
    fn long_varint(&mut self, mut z: u64) {
        while z >= 0x80 {
            self.byte(z as u8 | 0x80);
            z >>= 7;
        }
        self.byte(z as u8);
    }

    /// Appends what was put.
    #[inline]
    fn append_to(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.bytes[Self::START..self.end]);
    }

    /// Appends the length of what was put and of `more` bytes to come, and what was put.
    #[inline]
    fn append_with_length(mut self, more: usize, out: &mut Vec<u8>) {
        let mut length = zigzag((self.len() + more) as i64);
        let mut start = Self::START - varint_bytes(length);
        let begin = start;
        while length >= 0x80 {
            self.bytes[start & 7] = length as u8 | 0x80;
            start += 1;
            length >>= 7;
        }
        self.bytes[start & 7] = length as u8;
        let before = out.len();
        out.extend_from_slice(&self.bytes[begin & 7..][..32]);
        out.truncate(before + self.end - begin);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each of the short way's numbers on both sides of where it needs another byte, with each of the others.
    #[test]
    fn the_short_way_writes_what_the_long_one_writes() {
        let lengths = (0..70).chain([7_990, 7_999, 8_000, 8_180, 8_191, 8_192, 8_193, 20_000]);
        let deltas = [0, 1, 63, 64, 8_191, 8_192, i64::MAX, -1, -64, -65, -8_192, -8_193, i64::MIN];
        let value = vec![7; 20_000];
        for length in lengths {
            let record = Record::value(&value[..length]);
            for index in [1, 63, 64, 65, 8_190, 8_191, 8_192, 1 << 20] {
                for delta in deltas {
                    let [mut short, mut long] = [(); 2].map(|()| {
                        let mut builder = BatchBuilder::with_capacity(100);
                        (builder.count, builder.base_timestamp) = (index, 1_000);
                        builder.grow_to(HEADER_LEN + BatchBuilder::encoded_bound(&record));
                        builder
                    });
                    let capacity = short.capacity();
                    assert_eq!(short.append(delta.wrapping_add(1_000), &record), index);
                    long.append_any(delta, index, &record);
                    assert!(short.buf == long.buf, "length {length}, index {index}, delta {delta}");
                    assert_eq!((short.count, short.capacity()), (index + 1, capacity));
                }
            }
        }
    }
}
