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
/// Records whose keys, values and headers together have fewer bytes have only lengths of two bytes, their own as well.
const SHORT: usize = 8000;
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
                if zigzag(delta) < 1 << 14 && index < 1 << 13 && value.len() < SHORT =>
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

    /// A record of a value alone whose numbers have at most two bytes each, as nearly all have. They are gathered in a register: what is
    /// written to memory by the byte and read from there at once costs more than all the rest.
    #[inline]
    fn append_short(&mut self, delta: u64, index: u32, value: &[u8]) {
        let mut head = Gather::new();
        head.put(delta);
        head.put(u64::from(index) << 1);
        head.put(1); // The key: null.
        head.put((value.len() as u64) << 1);
        // One check for all that follows; `encoded_bound` has room for the whole sixteen bytes.
        self.buf.reserve(size_of::<u128>() + value.len() + 1);
        self.append_head(&head, value.len() + 1);
        self.buf.extend_from_slice(value);
        self.buf.push(0); // No headers.
    }

    /// Any record.
    #[inline(never)]
    fn append_any(&mut self, delta: i64, index: u32, record: &Record<'_>) {
        let (key, value) = (record.key.unwrap_or_default(), record.value.unwrap_or_default());
        let rest = key.len() + value.len() + headers_len(record.headers);
        if zigzag(delta) >= 1 << 14 || index >= 1 << 20 || rest >= SHORT {
            return self.append_long(delta, index, record);
        }
        let mut head = Gather::new();
        head.put(zigzag(delta));
        head.put_index(index);
        head.put(zigzag(length(record.key)));
        let mut before_value = Gather::new();
        before_value.put(zigzag(length(record.value)));
        self.append_head(&head, before_value.bytes() + rest);
        self.buf.extend_from_slice(key);
        let end = self.buf.len() + before_value.bytes();
        self.buf.extend_from_slice(&(before_value.bits as u16).to_le_bytes());
        self.buf.truncate(end);
        self.buf.extend_from_slice(value);
        self.append_headers(record.headers);
    }

    /// The record's length, which is that of the rest of what is gathered and of `more` bytes to come, its attributes and
    /// what is gathered.
    #[inline(always)]
    fn append_head(&mut self, head: &Gather, more: usize) {
        let length = ((1 + head.bytes() + more) as u64) << 1;
        let bits = u128::from(head.bits);
        // Behind the length come the attributes: none, a byte of zeros.
        let (numbers, wide) = if length < 1 << 7 {
            (bits << 16 | u128::from(length), 2)
        } else {
            (bits << 24 | u128::from(length & 0x7f | 0x80 | length >> 7 << 8), 3)
        };
        let end = self.buf.len() + wide + head.bytes();
        // A constant number of bytes is an instruction, a variable one a call.
        self.buf.extend_from_slice(&numbers.to_le_bytes());
        self.buf.truncate(end);
    }

    /// A record that has a number of more bytes.
    #[cold]
    fn append_long(&mut self, delta: i64, index: u32, record: &Record<'_>) {
        let numbers = [delta, i64::from(index), length(record.key), length(record.value)];
        let numbers = numbers.map(varint_len).iter().sum::<usize>();
        let bytes = [record.key, record.value];
        let rest = bytes.map(|bytes| bytes.unwrap_or_default().len()).iter().sum::<usize>();
        put_varint(&mut self.buf, (1 + numbers + rest + headers_len(record.headers)) as i64);
        self.buf.push(0); // The attributes: none.
        put_varint(&mut self.buf, delta);
        put_varint(&mut self.buf, index.into());
        for bytes in bytes {
            put_varint(&mut self.buf, length(bytes));
            self.buf.extend_from_slice(bytes.unwrap_or_default());
        }
        self.append_headers(record.headers);
    }

    #[inline]
    fn append_headers(&mut self, headers: &[Header<'_>]) {
        put_varint(&mut self.buf, headers.len() as i64);
        for header in headers {
            put_varint(&mut self.buf, header.key.len() as i64);
            self.buf.extend_from_slice(header.key.as_bytes());
            put_varint(&mut self.buf, length(header.value));
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

/// CRC-32C (Castagnoli), as batches carry it.
pub(crate) fn crc32c(bytes: &[u8]) -> u32 {
    // The CRC-32 algorithms have 32 bits.
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes) as u32
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

/// Numbers as they are written, one behind the other, at most eight bytes. Whether one has a byte or two is a jump that
/// processors foresee, since the records of a stream are alike.
struct Gather {
    bits: u64,
    /// How many bits there are.
    at: usize,
}

impl Gather {
    fn new() -> Self {
        Self { bits: 0, at: 0 }
    }

    fn bytes(&self) -> usize {
        self.at / 8
    }

    /// A number below 2^14.
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

    /// A record's index, below 2^20.
    #[inline(always)]
    fn put_index(&mut self, index: u32) {
        if index < 1 << 13 { self.put(u64::from(index) << 1) } else { self.put_long(u64::from(index) << 1) }
    }

    #[cold]
    fn put_long(&mut self, mut z: u64) {
        while z >= 0x80 {
            self.put(z & 0x7f);
            self.bits |= 0x80 << (self.at - 8);
            z >>= 7;
        }
        self.put(z);
    }
}

/// A length as records have it: -1 for null.
#[inline]
fn length(bytes: Option<&[u8]>) -> i64 {
    bytes.map_or(-1, |bytes| bytes.len() as i64)
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
        let value = h.value.unwrap_or_default().len();
        varint_len(h.key.len() as i64) + h.key.len() + varint_len(length(h.value)) + value
    });
    varint_len(headers.len() as i64) + each.sum::<usize>()
}

/// Lengths of names and of most values have one byte.
#[inline(always)]
fn put_varint(out: &mut Vec<u8>, v: i64) {
    let z = zigzag(v);
    if z < 1 << 7 { out.push(z as u8) } else { put_long_varint(out, z) }
}

#[cold]
fn put_long_varint(out: &mut Vec<u8>, mut z: u64) {
    while z >= 0x80 {
        out.push(z as u8 | 0x80);
        z >>= 7;
    }
    out.push(z as u8);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The ways for small numbers write what the way for long ones does, with each number on both sides of where it needs
    /// another byte and of where it is not small any more.
    #[test]
    fn small_numbers_are_written_as_long_ones_are() {
        let lengths = (0..70).chain([7_990, 8_180, 8_191, 8_192, 8_193, 20_000]);
        let indices = [1, 63, 64, 65, 8_191, 8_192, (1 << 20) - 1, 1 << 20, 1 << 27];
        let deltas = [0, 1, 63, 64, 8_191, 8_192, i64::MAX, -1, -64, -65, -8_192, -8_193, i64::MIN];
        let bytes = vec![7; 1 << 21];
        let header = |name, length: usize| Header { key: name, value: Some(&bytes[..length]) };
        let headers = [header("a", 5), Header { key: "b", value: None }, header("a", 64), header("", 0)];
        let large = [header("a", 1 << 21)];
        for length in lengths {
            let some = &bytes[..length];
            let records = [
                Record::value(some),
                Record::keyed(some, &bytes[..100]),
                Record::keyed(b"key", some),
                Record::tombstone(some),
                Record { headers: &headers, ..Record::value(some) },
                Record { headers: &headers[..2], ..Record::keyed(some, some) },
                Record { headers: &large, ..Record::value(some) },
                Record::default(),
            ];
            let all = records.iter().flat_map(|record| indices.map(|index| (record, index)));
            for (record, index) in all {
                // Records of megabytes are the same whatever their time.
                let deltas = if record.headers.len() == 1 { &deltas[..1] } else { &deltas };
                for &delta in deltas {
                    let [mut small, mut long] = [(); 2].map(|()| {
                        let mut builder = BatchBuilder::with_capacity(100);
                        (builder.count, builder.base_timestamp) = (index, 1_000);
                        builder.grow_to(HEADER_LEN + BatchBuilder::encoded_bound(record));
                        builder
                    });
                    let capacity = small.capacity();
                    assert_eq!(small.append(delta.wrapping_add(1_000), record), index);
                    long.append_long(delta, index, record);
                    assert!(small.buf == long.buf, "length {length}, index {index}, delta {delta}");
                    assert_eq!((small.count, small.capacity()), (index + 1, capacity));
                }
            }
        }
    }
}
