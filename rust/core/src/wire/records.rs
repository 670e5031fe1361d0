//! Reading record batches (magic 2).
//!
//! [`Batches`] walks the bytes of one partition of a fetch answer, [`Batch::open`] checks the CRC and decompresses, and
//! [`OpenBatch`] hands out [`RecordRef`]s that borrow from it: no allocation per record. Brokers cut the last batch of an
//! answer where the size limit falls; such a rest is not an error, it comes again with the next fetch.

use bytes::Bytes;

use super::batch::{
    ATTRIBUTES_AT, BASE_SEQUENCE_AT, BASE_TIMESTAMP_AT, COUNT_AT, CRC_AT, HEADER_LEN, LAST_OFFSET_DELTA_AT,
    LEADER_EPOCH_AT, LENGTH_AT, MAGIC_AT, MAX_TIMESTAMP_AT, PRODUCER_EPOCH_AT, PRODUCER_ID_AT, crc32c,
};
use super::batch_error::BatchError;
use super::codec;

/// The batches in the bytes of one partition; ends at the first that is cut off.
#[derive(Debug, Clone)]
pub struct Batches {
    rest: Bytes,
    behind_error: Option<i64>,
}

impl Batches {
    /// Over the bytes of one partition of a fetch answer.
    pub fn new(bytes: Bytes) -> Self {
        Self { rest: bytes, behind_error: None }
    }

    /// After an error: where the batch behind the bad one begins, if the length of that one leads to one.
    pub fn behind_error(&self) -> Option<i64> {
        self.behind_error
    }

    /// Where the next batch says that it ends, be it cut off or not, if its header is there and makes sense otherwise.
    pub fn claimed_end(&self) -> Option<i64> {
        let header = self.rest.get(..HEADER_LEN)?;
        let (offset, last) = (i64_at(header, 0), i32_at(header, LAST_OFFSET_DELTA_AT));
        let fits = header[MAGIC_AT] == 2
            && offset >= 0
            && last >= 0
            && i32_at(header, COUNT_AT) <= last.saturating_add(1);
        fits.then(|| offset.checked_add(i64::from(last) + 1)).flatten()
    }

    /// Bytes not walked yet; after the end, those of the batch that was cut off.
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }
}

impl Iterator for Batches {
    type Item = Result<Batch, BatchError>;

    fn next(&mut self) -> Option<Self::Item> {
        // Offset and length, up to and including the magic: formats 0 and 1 have them at the same places.
        if self.rest.len() <= MAGIC_AT {
            return None;
        }
        let offset = i64_at(&self.rest, 0);
        let length = i32_at(&self.rest, LENGTH_AT);
        let end = |rest: &mut Bytes, error| {
            rest.clear();
            Some(Err(error))
        };
        let Ok(length) = usize::try_from(length) else {
            return end(&mut self.rest, BatchError::Malformed { offset, what: "its length is negative" });
        };
        let magic = self.rest[MAGIC_AT] as i8;
        if magic != 2 {
            return end(&mut self.rest, BatchError::OldMagic { offset, magic });
        }
        let total = LEADER_EPOCH_AT + length;
        if total < HEADER_LEN {
            return end(
                &mut self.rest,
                BatchError::Malformed { offset, what: "it is shorter than its header" },
            );
        }
        if total > self.rest.len() {
            return None;
        }
        let batch = Batch { bytes: self.rest.split_to(total) };
        let (count, last) = (i32_at(&batch.bytes, COUNT_AT), batch.last_offset_delta());
        // Compaction takes records out of a batch and leaves its range of offsets, so there may be fewer, not more.
        let fits = last >= 0 && count >= 0 && i64::from(count) <= i64::from(last) + 1;
        // The CRC does not cover the offset, because the broker writes it; this guards the arithmetic with it.
        if !fits || offset < 0 || offset.checked_add(i64::from(last) + 1).is_none() {
            let is_batch = self.rest.len() > MAGIC_AT && self.rest[MAGIC_AT] == 2;
            self.behind_error = is_batch.then(|| i64_at(&self.rest, 0)).filter(|base| *base > offset);
            return end(
                &mut self.rest,
                BatchError::Malformed { offset, what: "its offsets do not fit its records" },
            );
        }
        Some(Ok(batch))
    }
}

fn i64_at(bytes: &[u8], at: usize) -> i64 {
    i64::from_be_bytes(*bytes[at..].first_chunk().expect("invariant: the header is whole"))
}

fn i32_at(bytes: &[u8], at: usize) -> i32 {
    i32::from_be_bytes(*bytes[at..].first_chunk().expect("invariant: the header is whole"))
}

fn i16_at(bytes: &[u8], at: usize) -> i16 {
    i16::from_be_bytes(*bytes[at..].first_chunk().expect("invariant: the header is whole"))
}

/// A whole batch whose checksum was not looked at yet; its header is readable.
#[derive(Debug, Clone)]
pub struct Batch {
    bytes: Bytes,
}

impl Batch {
    /// Offset of its first record.
    pub fn base_offset(&self) -> i64 {
        i64_at(&self.bytes, 0)
    }

    fn last_offset_delta(&self) -> i32 {
        i32_at(&self.bytes, LAST_OFFSET_DELTA_AT)
    }

    /// Offset of its last record, also when compaction has removed that record.
    pub fn last_offset(&self) -> i64 {
        self.base_offset() + i64::from(self.last_offset_delta())
    }

    /// Where reading goes on behind this batch. Not "last record + 1": compaction leaves gaps (KAFKA-5443).
    pub fn next_offset(&self) -> i64 {
        self.last_offset() + 1
    }

    /// Records in it; compaction can leave none.
    pub fn record_count(&self) -> u32 {
        i32_at(&self.bytes, COUNT_AT) as u32
    }

    /// Bytes on the wire.
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Never true: a batch has a header.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    fn attributes(&self) -> i16 {
        i16_at(&self.bytes, ATTRIBUTES_AT)
    }

    /// Whether it holds a transaction's marker instead of records of users.
    pub fn is_control(&self) -> bool {
        self.attributes() & 0x20 != 0
    }

    /// Whether it belongs to a transaction.
    pub fn is_transactional(&self) -> bool {
        self.attributes() & 0x10 != 0
    }

    /// Whether the broker's clock gave all its records their time (the maximum).
    pub fn is_log_append_time(&self) -> bool {
        self.attributes() & 0x08 != 0
    }

    /// The codec's number: 0 none, 1 gzip, 2 snappy, 3 lz4, 4 zstd.
    pub fn codec(&self) -> i16 {
        self.attributes() & 7
    }

    /// The producer that wrote it, -1 for one without idempotence.
    pub fn producer_id(&self) -> i64 {
        i64_at(&self.bytes, PRODUCER_ID_AT)
    }

    /// The producer's epoch.
    pub fn producer_epoch(&self) -> i16 {
        i16_at(&self.bytes, PRODUCER_EPOCH_AT)
    }

    /// The sequence number of its first record.
    pub fn base_sequence(&self) -> i32 {
        i32_at(&self.bytes, BASE_SEQUENCE_AT)
    }

    /// The youngest timestamp in it, ms since the epoch.
    pub fn max_timestamp(&self) -> i64 {
        i64_at(&self.bytes, MAX_TIMESTAMP_AT)
    }

    /// The epoch of the leader that appended it.
    pub fn leader_epoch(&self) -> i32 {
        i32_at(&self.bytes, LEADER_EPOCH_AT)
    }

    /// Checks the CRC.
    pub fn check(&self) -> Result<(), BatchError> {
        let stored = i32_at(&self.bytes, CRC_AT) as u32;
        let computed = crc32c(&self.bytes[ATTRIBUTES_AT..]);
        if stored == computed {
            return Ok(());
        }
        Err(BatchError::Corrupt { offset: self.base_offset(), stored, computed })
    }

    /// Checks the CRC and decompresses, to at most `limit` bytes.
    pub fn open(self, limit: usize) -> Result<OpenBatch, BatchError> {
        self.check()?;
        let offset = self.base_offset();
        let body = codec::decompress(self.attributes(), self.bytes.slice(HEADER_LEN..), limit)
            .map_err(|cause| BatchError::Codec { offset, cause })?;
        Ok(OpenBatch {
            base_offset: offset,
            last_offset_delta: self.last_offset_delta(),
            base_timestamp: i64_at(&self.bytes, BASE_TIMESTAMP_AT),
            append_time: self.is_log_append_time().then(|| self.max_timestamp()),
            count: self.record_count(),
            control: self.is_control(),
            body,
        })
    }
}

/// A batch whose records can be read; cloning it shares the bytes.
#[derive(Debug, Clone)]
pub struct OpenBatch {
    base_offset: i64,
    last_offset_delta: i32,
    base_timestamp: i64,
    append_time: Option<i64>,
    count: u32,
    control: bool,
    body: Bytes,
}

impl OpenBatch {
    /// Offset of its first record.
    pub fn base_offset(&self) -> i64 {
        self.base_offset
    }

    /// Where reading goes on behind it.
    pub fn next_offset(&self) -> i64 {
        self.base_offset + i64::from(self.last_offset_delta) + 1
    }

    /// Records in it.
    pub fn record_count(&self) -> u32 {
        self.count
    }

    /// Whether it holds a transaction's marker instead of records of users.
    pub fn is_control(&self) -> bool {
        self.control
    }

    /// The decompressed records; what [`RecordRef`]s borrow from.
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// All records, from the first.
    pub fn records(&self) -> Records<'_> {
        Records { batch: self, pos: 0, left: self.count }
    }

    /// The record at byte `pos` of the body (0 is the first), moving `pos` behind it; `None` behind the last. After an
    /// error `pos` stands at the end.
    #[inline(always)]
    pub fn next_at(&self, pos: &mut usize) -> Option<Result<RecordRef<'_>, BatchError>> {
        let rest = self.body.get(*pos..)?;
        if let Some(plain) = Plain::read(rest)
            && plain.offset <= self.last_offset_delta
        {
            *pos += plain.end;
            return Some(Ok(RecordRef {
                offset: self.base_offset + i64::from(plain.offset),
                timestamp: self.timestamp(plain.timestamp.into()),
                key: None,
                value: Some(plain.value),
                headers: Headers::EMPTY,
            }));
        }
        self.next_of_any_kind(rest, pos)
    }

    #[inline(never)]
    fn next_of_any_kind<'a>(
        &self,
        rest: &'a [u8],
        pos: &mut usize,
    ) -> Option<Result<RecordRef<'a>, BatchError>> {
        if rest.is_empty() {
            return None;
        }
        let mut d = Slice(rest);
        let record = self.record(&mut d);
        *pos = self.body.len() - d.0.len();
        match record {
            Some(record) => Some(Ok(record)),
            None => {
                *pos = self.body.len();
                Some(Err(self.malformed("a record does not fit its bytes")))
            }
        }
    }

    #[inline]
    fn timestamp(&self, delta: i64) -> i64 {
        self.append_time.unwrap_or(self.base_timestamp.wrapping_add(delta))
    }

    #[cold]
    fn malformed(&self, what: &'static str) -> BatchError {
        BatchError::Malformed { offset: self.base_offset, what }
    }

    #[inline]
    fn record<'a>(&self, d: &mut Slice<'a>) -> Option<RecordRef<'a>> {
        let length = d.varint()?;
        let mut fields = Slice(d.take(length)?);
        // The attributes, which mean nothing yet.
        fields.take(1)?;
        let (timestamp, offset) = (fields.varint()?, fields.varint()?);
        // A record outside its batch's range would make a reader believe it had read further than it has.
        if offset < 0 || offset > i64::from(self.last_offset_delta) {
            return None;
        }
        let (key, value) = (fields.nullable()?, fields.nullable()?);
        let count = if fields.0 == [0] { 0 } else { fields.headers()? };
        Some(RecordRef {
            offset: self.base_offset + offset,
            timestamp: self.timestamp(timestamp),
            key,
            value,
            headers: Headers { rest: if count == 0 { &[] } else { fields.0 }, count },
        })
    }
}

/// A record as most are: it has a value, no key and no headers, and its numbers have at most two bytes each. Half of what
/// a small record costs its reader is finding this out, so it is done with one check of bounds and without a call.
struct Plain<'a> {
    /// Bytes of the record, its length included.
    end: usize,
    timestamp: i32,
    offset: i32,
    value: &'a [u8],
}

impl<'a> Plain<'a> {
    /// The first record of `bytes`; `None` says nothing but that it has to be read with more care.
    #[inline(always)]
    fn read(bytes: &'a [u8]) -> Option<Self> {
        let head: &[u8; 16] = bytes.first_chunk()?;
        let (length, at) = two_bytes(head, 0)?;
        // One byte of attributes.
        let (timestamp, after) = two_bytes(head, at + 1)?;
        let (offset, after) = two_bytes(head, after)?;
        // A length of -1.
        if head[after & 15] != 1 {
            return None;
        }
        let (value, after) = two_bytes(head, after + 1)?;
        // Lengths and offsets are not negative: their lowest bit is not set.
        if (length | offset | value) & 1 != 0 {
            return None;
        }
        // Behind the value is the number of headers.
        let (end, last) = (at + (length >> 1) as usize, after + (value >> 1) as usize);
        if last + 1 != end || *bytes.get(last)? != 0 {
            return None;
        }
        Some(Self {
            end,
            timestamp: (timestamp >> 1) as i32 ^ -((timestamp & 1) as i32),
            offset: (offset >> 1) as i32,
            value: &bytes[after..last],
        })
    }
}

/// The number of at most two bytes at `at`, in zigzag, and where the next one is. Asked for five times and a byte between
/// them it stays within the array; the masks say so to the compiler.
#[inline(always)]
fn two_bytes(head: &[u8; 16], at: usize) -> Option<(u32, usize)> {
    let first = u32::from(head[at & 15]);
    if first < 0x80 {
        return Some((first, at + 1));
    }
    let second = u32::from(head[(at + 1) & 15]);
    if second < 0x80 { Some((first & 0x7f | second << 7, at + 2)) } else { None }
}

/// Whether `bytes` are exactly `count` headers. Looked at when the record is read, so that a broken one is an error there
/// and not a list that ends early later.
fn check_headers(bytes: &[u8], count: i64) -> Option<()> {
    // Two bytes are the least a header can have: a larger claim would be believed by whoever allocates for it.
    if count < 0 || count as u64 > (bytes.len() / 2) as u64 {
        return None;
    }
    let mut headers = Headers { rest: bytes, count: count as u32 };
    for _ in 0..count {
        headers.read()?;
    }
    headers.rest.is_empty().then_some(())
}

/// The records of a batch.
#[derive(Debug)]
pub struct Records<'a> {
    batch: &'a OpenBatch,
    pos: usize,
    left: u32,
}

impl<'a> Iterator for Records<'a> {
    type Item = Result<RecordRef<'a>, BatchError>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        if self.left == 0 {
            if self.pos >= self.batch.body.len() {
                return None;
            }
            self.pos = self.batch.body.len();
            return Some(Err(self.batch.malformed("it has more records than it says")));
        }
        self.left -= 1;
        let error = match self.batch.next_at(&mut self.pos) {
            Some(Ok(record)) => return Some(Ok(record)),
            Some(Err(error)) => error,
            None => self.batch.malformed("it has fewer records than it says"),
        };
        self.left = 0;
        Some(Err(error))
    }
}

/// A record, borrowed from its batch.
#[derive(Debug, Clone, Copy)]
pub struct RecordRef<'a> {
    /// Its offset in the partition.
    pub offset: i64,
    /// Milliseconds since the epoch.
    pub timestamp: i64,
    /// Its key; `None` is null.
    pub key: Option<&'a [u8]>,
    /// Its value; `None` is a tombstone.
    pub value: Option<&'a [u8]>,
    /// Its headers, read when asked for.
    pub headers: Headers<'a>,
}

/// The headers of a record: an iterator that reads them one by one. That they fit their bytes was checked with the record.
#[derive(Debug, Clone, Copy)]
pub struct Headers<'a> {
    rest: &'a [u8],
    count: u32,
}

impl<'a> Headers<'a> {
    /// No headers.
    pub const EMPTY: Self = Self { rest: &[], count: 0 };

    /// How many there are left.
    pub fn len(&self) -> usize {
        self.count as usize
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// Their bytes in the wire's form.
    pub fn raw(&self) -> &'a [u8] {
        self.rest
    }

    /// Over bytes that [`raw`](Self::raw) gave.
    pub fn from_raw(rest: &'a [u8], count: u32) -> Self {
        Self { rest, count }
    }

    fn read(&mut self) -> Option<(&'a [u8], Option<&'a [u8]>)> {
        let mut d = Slice(self.rest);
        // A header's name, unlike its value, cannot be null.
        let length = d.varint()?;
        let key = d.take(length)?;
        let value = d.nullable()?;
        self.rest = d.0;
        Some((key, value))
    }
}

impl<'a> Iterator for Headers<'a> {
    /// The name's bytes, which need not be UTF-8, and the value.
    type Item = (&'a [u8], Option<&'a [u8]>);

    fn next(&mut self) -> Option<Self::Item> {
        self.count = self.count.checked_sub(1)?;
        let header = self.read();
        if header.is_none() {
            self.count = 0;
        }
        header
    }
}

/// Reads from the front of a slice.
struct Slice<'a>(&'a [u8]);

impl<'a> Slice<'a> {
    /// So many bytes; `None` when there are not as many, or the length is negative.
    #[inline]
    fn take(&mut self, n: i64) -> Option<&'a [u8]> {
        // A negative length becomes larger than any slice: one comparison for both.
        if n as u64 > self.0.len() as u64 {
            return None;
        }
        let (taken, rest) = self.0.split_at(n as usize);
        self.0 = rest;
        Some(taken)
    }

    #[inline]
    fn varint(&mut self) -> Option<i64> {
        // Lengths and deltas of real records have one byte or two.
        let z = match *self.0 {
            [first, ref rest @ ..] if first < 0x80 => {
                self.0 = rest;
                u64::from(first)
            }
            [first, second, ref rest @ ..] if second < 0x80 => {
                self.0 = rest;
                u64::from(first & 0x7f) | u64::from(second) << 7
            }
            _ => self.long_varint()?,
        };
        Some((z >> 1) as i64 ^ -((z & 1) as i64))
    }

    #[cold]
    fn long_varint(&mut self) -> Option<u64> {
        let mut z = 0_u64;
        for (i, &byte) in self.0.iter().enumerate().take(10) {
            // The tenth byte has room for the last of 64 bits alone.
            if i == 9 && byte > 1 {
                return None;
            }
            z |= u64::from(byte & 0x7f) << (7 * i);
            if byte < 0x80 {
                self.0 = &self.0[i + 1..];
                return Some(z);
            }
        }
        None
    }

    /// A number of headers and so many of them; returns the number and leaves them.
    #[inline(never)]
    fn headers(&mut self) -> Option<u32> {
        let count = self.varint()?;
        if count != 0 || !self.0.is_empty() {
            check_headers(self.0, count)?;
        }
        Some(count as u32)
    }

    /// A length and so many bytes; a negative length is null.
    #[inline]
    fn nullable(&mut self) -> Option<Option<&'a [u8]>> {
        let length = self.varint()?;
        if length < 0 { Some(None) } else { self.take(length).map(Some) }
    }
}
