//! Writing values, and the frame they become.

use std::fmt;

use bytes::Bytes;

/// Record batches of at least this size become a segment of their own; a smaller one is cheaper to copy than to hand to the
/// kernel as one more entry of a vectored write.
const SPLICE_FROM: usize = 512;

/// Grows one buffer; large record batches are not copied but remembered with the place they belong to.
#[derive(Default)]
pub struct Encoder {
    buf: Vec<u8>,
    splices: Vec<(usize, Bytes)>,
    spliced: usize,
}

// What is written may be a password.
impl fmt::Debug for Encoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoder").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Encoder {
    /// An empty encoder.
    pub fn new() -> Self {
        Self::default()
    }

    /// An encoder that leaves room for the length prefix of a frame.
    pub(super) fn for_frame() -> Self {
        // A request of a few partitions fits without growing.
        let mut buf = Vec::with_capacity(256);
        buf.resize(4, 0);
        Self { buf, ..Self::default() }
    }

    /// Bytes written so far, those not copied included.
    pub fn len(&self) -> usize {
        self.buf.len() + self.spliced
    }

    /// Whether nothing was written.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Appends one byte.
    pub fn put_i8(&mut self, v: i8) {
        self.buf.push(v as u8);
    }

    /// Appends a big-endian 16-bit number.
    pub fn put_i16(&mut self, v: i16) {
        self.buf.extend_from_slice(&v.to_be_bytes());
    }

    /// Appends a big-endian 32-bit number.
    pub fn put_i32(&mut self, v: i32) {
        self.buf.extend_from_slice(&v.to_be_bytes());
    }

    /// Appends a big-endian 64-bit number.
    pub fn put_i64(&mut self, v: i64) {
        self.buf.extend_from_slice(&v.to_be_bytes());
    }

    /// Appends an unsigned varint: seven bits a byte, least significant first.
    pub fn put_uvarint(&mut self, mut v: u32) {
        while v >= 0x80 {
            self.buf.push(v as u8 | 0x80);
            v >>= 7;
        }
        self.buf.push(v as u8);
    }

    /// Appends bytes as they are.
    pub fn put_slice(&mut self, bytes: &[u8]) {
        self.buf.extend_from_slice(bytes);
    }

    /// Appends the bytes of record batches; large ones are not copied.
    pub fn put_records(&mut self, records: &Bytes) {
        if records.len() < SPLICE_FROM {
            self.buf.extend_from_slice(records);
        } else {
            self.splices.push((self.buf.len(), records.clone()));
            self.spliced += records.len();
        }
    }

    /// All bytes in one buffer; for tests and small values.
    pub fn into_bytes(self) -> Bytes {
        let frame = Frame { buf: self.buf, splices: self.splices, spliced: self.spliced };
        let mut all = Vec::with_capacity(frame.len());
        frame.segments().for_each(|segment| all.extend_from_slice(segment));
        all.into()
    }

    pub(super) fn finish(mut self) -> Frame {
        let length = (self.len() - 4) as u32;
        self.buf[..4].copy_from_slice(&length.to_be_bytes());
        Frame { buf: self.buf, splices: self.splices, spliced: self.spliced }
    }
}

/// An encoded request, length prefix included, as the segments of one vectored write.
pub struct Frame {
    buf: Vec<u8>,
    splices: Vec<(usize, Bytes)>,
    spliced: usize,
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame").field("len", &self.len()).finish_non_exhaustive()
    }
}

impl Frame {
    /// Bytes on the wire.
    pub fn len(&self) -> usize {
        self.buf.len() + self.spliced
    }

    /// Never true: a frame has a header.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The segments in the order they are to be written; none is empty.
    pub fn segments(&self) -> impl Iterator<Item = &[u8]> {
        let mut at = 0;
        let spliced = self.splices.iter().flat_map(move |(place, records)| {
            let head = &self.buf[std::mem::replace(&mut at, *place)..*place];
            [head, &records[..]]
        });
        let tail = &self.buf[self.splices.last().map_or(0, |(place, _)| *place)..];
        spliced.chain([tail]).filter(|segment| !segment.is_empty())
    }
}
