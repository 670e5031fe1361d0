//! As much of Kafka's protocol as the floor needs: old plain versions, one broker that leads everything, no care for anything
//! that may happen in life.

use std::io::{IoSlice, Read, Write};
use std::net::TcpStream;

use crc_fast::{CrcAlgorithm, checksum};

use crate::Failure;

pub(crate) const PRODUCE: (i16, i16) = (0, 3);
pub(crate) const FETCH: (i16, i16) = (1, 4);
pub(crate) const LIST_OFFSETS: (i16, i16) = (2, 1);
pub(crate) const METADATA: (i16, i16) = (3, 1);

const HEADER: usize = 61;

/// One connection; requests may be in flight together, answers come in their order.
pub(crate) struct Connection {
    socket: TcpStream,
}

impl Connection {
    pub(crate) fn open(port: u16) -> Result<Self, Failure> {
        let socket = TcpStream::connect(("127.0.0.1", port))?;
        socket.set_nodelay(true)?;
        Ok(Self { socket })
    }

    /// Sends a request whose body is `parts`, one behind the other.
    pub(crate) fn send(&mut self, (key, version): (i16, i16), parts: &[&[u8]]) -> Result<(), Failure> {
        let mut head = Out::default();
        head.i16(key).i16(version).i32(0).text("floor");
        let length = head.0.len() + parts.iter().map(|part| part.len()).sum::<usize>();
        let length = (length as i32).to_be_bytes();
        let mut slices: Vec<_> =
            [&length[..], &head.0].iter().chain(parts).map(|part| IoSlice::new(part)).collect();
        let mut left = &mut slices[..];
        while !left.is_empty() {
            let n = self.socket.write_vectored(left)?;
            if n == 0 {
                return Err("the broker closed the connection".into());
            }
            IoSlice::advance_slices(&mut left, n);
        }
        Ok(())
    }

    /// The next answer, without its correlation id.
    pub(crate) fn receive<'a>(&mut self, into: &'a mut Vec<u8>) -> Result<In<'a>, Failure> {
        let mut length = [0; 4];
        self.socket.read_exact(&mut length)?;
        let length = i32::from_be_bytes(length) as usize;
        if into.len() < length {
            into.resize(length, 0);
        }
        self.socket.read_exact(&mut into[..length])?;
        Ok(In(&into[4..length]))
    }

    pub(crate) fn partitions(&mut self, topic: &str) -> Result<i32, Failure> {
        let mut body = Out::default();
        body.i32(1).text(topic);
        self.send(METADATA, &[&body.0])?;
        let mut answer = Vec::new();
        let mut answer = self.receive(&mut answer)?;
        for _ in 0..answer.i32() {
            answer.i32();
            answer.text();
            answer.i32();
            answer.text();
        }
        answer.i32();
        answer.i32();
        check(answer.i16())?;
        answer.text();
        answer.take(1);
        Ok(answer.i32())
    }
}

pub(crate) fn check(error: i16) -> Result<(), Failure> {
    if error == 0 { Ok(()) } else { Err(format!("the broker answered with error {error}").into()) }
}

#[derive(Default)]
pub(crate) struct Out(pub(crate) Vec<u8>);

impl Out {
    pub(crate) fn i16(&mut self, v: i16) -> &mut Self {
        self.0.extend(v.to_be_bytes());
        self
    }

    pub(crate) fn i32(&mut self, v: i32) -> &mut Self {
        self.0.extend(v.to_be_bytes());
        self
    }

    pub(crate) fn i64(&mut self, v: i64) -> &mut Self {
        self.0.extend(v.to_be_bytes());
        self
    }

    pub(crate) fn text(&mut self, v: &str) -> &mut Self {
        self.i16(v.len() as i16);
        self.0.extend(v.as_bytes());
        self
    }
}

pub(crate) struct In<'a>(pub(crate) &'a [u8]);

impl<'a> In<'a> {
    pub(crate) fn take(&mut self, n: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(n);
        self.0 = rest;
        taken
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self.0.split_first_chunk().expect("the broker's answers are whole");
        self.0 = rest;
        *taken
    }

    pub(crate) fn i16(&mut self) -> i16 {
        i16::from_be_bytes(self.array())
    }

    pub(crate) fn i32(&mut self) -> i32 {
        i32::from_be_bytes(self.array())
    }

    pub(crate) fn i64(&mut self) -> i64 {
        i64::from_be_bytes(self.array())
    }

    pub(crate) fn text(&mut self) -> &'a [u8] {
        let n = self.i16();
        self.take(n.max(0) as usize)
    }

    /// A zigzag varint, as records have them.
    #[inline]
    fn varint(&mut self) -> i64 {
        let (mut z, mut shift) = (0_u64, 0);
        loop {
            let [byte] = self.array();
            z |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return (z >> 1) as i64 ^ -((z & 1) as i64);
            }
            shift += 7;
        }
    }

    #[inline]
    fn bytes(&mut self) -> Option<&'a [u8]> {
        let n = self.varint();
        (n >= 0).then(|| self.take(n as usize))
    }
}

fn put_varint(out: &mut Vec<u8>, v: i64) {
    let mut z = (v << 1 ^ v >> 63) as u64;
    while z >= 0x80 {
        out.push(z as u8 | 0x80);
        z >>= 7;
    }
    out.push(z as u8);
}

fn varint_len(v: i64) -> usize {
    let z = (v << 1 ^ v >> 63) as u64;
    ((z | 1).ilog2() as usize) / 7 + 1
}

/// A batch that records are encoded into; its buffer is used again.
pub(crate) struct Batch {
    pub(crate) bytes: Vec<u8>,
    pub(crate) count: i32,
    base_timestamp: i64,
    last_timestamp: i64,
    zstd: zstd::bulk::Compressor<'static>,
}

impl Batch {
    pub(crate) fn new(capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(capacity);
        bytes.resize(HEADER, 0);
        let zstd = zstd::bulk::Compressor::new(3).expect("level 3 is the default");
        Self { bytes, count: 0, base_timestamp: 0, last_timestamp: 0, zstd }
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.resize(HEADER, 0);
        self.count = 0;
    }

    #[inline]
    pub(crate) fn append(&mut self, timestamp: i64, value: &[u8]) {
        if self.count == 0 {
            self.base_timestamp = timestamp;
        }
        self.last_timestamp = timestamp;
        let (delta, index, n) = (timestamp - self.base_timestamp, i64::from(self.count), value.len());
        // Attributes, a null key and no headers have a byte each.
        let length = 3 + varint_len(delta) + varint_len(index) + varint_len(n as i64) + n;
        let out = &mut self.bytes;
        put_varint(out, length as i64);
        out.push(0);
        put_varint(out, delta);
        put_varint(out, index);
        out.push(1);
        put_varint(out, n as i64);
        out.extend_from_slice(value);
        out.push(0);
        self.count += 1;
    }

    /// Compresses the records, and writes the header and the checksum.
    pub(crate) fn finish(&mut self, codec: &str) -> Result<(), Failure> {
        let attributes: i16 = match codec {
            "none" => 0,
            "gzip" => {
                let mut encoder =
                    flate2::write::GzEncoder::new(vec![0; HEADER], flate2::Compression::default());
                encoder.write_all(&self.bytes[HEADER..])?;
                self.bytes = encoder.finish()?;
                1
            }
            "snappy" => {
                let body = &self.bytes[HEADER..];
                let mut out = vec![0; HEADER + snap::raw::max_compress_len(body.len())];
                let n = snap::raw::Encoder::new().compress(body, &mut out[HEADER..])?;
                out.truncate(HEADER + n);
                self.bytes = out;
                2
            }
            "lz4" => {
                let mut info = lz4_flex::frame::FrameInfo::new();
                info.block_size = lz4_flex::frame::BlockSize::Max64KB;
                let mut encoder = lz4_flex::frame::FrameEncoder::with_frame_info(info, vec![0; HEADER]);
                encoder.write_all(&self.bytes[HEADER..])?;
                self.bytes = encoder.finish()?;
                3
            }
            "zstd" => {
                let mut out = vec![0; HEADER];
                out.extend(self.zstd.compress(&self.bytes[HEADER..])?);
                self.bytes = out;
                4
            }
            other => return Err(format!("the floor has no {other}").into()),
        };
        let mut head = Out(Vec::with_capacity(HEADER));
        head.i64(0).i32((self.bytes.len() - 12) as i32).i32(-1).0.push(2);
        head.i32(0).i16(attributes).i32(self.count - 1).i64(self.base_timestamp).i64(self.last_timestamp);
        head.i64(-1).i16(-1).i32(-1).i32(self.count);
        self.bytes[..HEADER].copy_from_slice(&head.0);
        let crc = checksum(CrcAlgorithm::Crc32Iscsi, &self.bytes[21..]) as u32;
        self.bytes[17..21].copy_from_slice(&crc.to_be_bytes());
        Ok(())
    }
}

/// A fetched batch: where it begins and ends, and all its bytes.
pub(crate) struct Fetched<'a> {
    pub(crate) next_offset: i64,
    base_offset: i64,
    bytes: &'a [u8],
}

/// The whole batches in the records of an answer.
pub(crate) fn batches<'a>(mut records: In<'a>) -> impl Iterator<Item = Fetched<'a>> {
    std::iter::from_fn(move || {
        let length = i32::from_be_bytes(*records.0.get(8..)?.first_chunk()?) as usize + 12;
        if records.0.len() < length {
            return None;
        }
        let bytes = records.take(length);
        let base_offset = In(bytes).i64();
        let last = In(&bytes[23..]).i32();
        Some(Fetched { next_offset: base_offset + i64::from(last) + 1, base_offset, bytes })
    })
}

impl Fetched<'_> {
    /// Checks and decompresses it, and calls `each` with every value from `position` on; returns how many there were.
    pub(crate) fn walk(&self, position: i64, each: &mut impl FnMut(&[u8])) -> Result<u64, Failure> {
        let stored = In(&self.bytes[17..]).i32() as u32;
        if checksum(CrcAlgorithm::Crc32Iscsi, &self.bytes[21..]) as u32 != stored {
            return Err("a batch's checksum is wrong".into());
        }
        let decompressed;
        let body = &self.bytes[HEADER..];
        let body = match In(&self.bytes[21..]).i16() & 7 {
            0 => body,
            1 => {
                let mut out = Vec::with_capacity(body.len() * 4);
                flate2::read::GzDecoder::new(body).read_to_end(&mut out)?;
                decompressed = out;
                &decompressed
            }
            2 => {
                decompressed = unsnap(body)?;
                &decompressed
            }
            3 => {
                let mut out = Vec::with_capacity(body.len() * 4);
                lz4_flex::frame::FrameDecoder::new(body).read_to_end(&mut out)?;
                decompressed = out;
                &decompressed
            }
            4 => {
                decompressed = zstd::decode_all(body)?;
                &decompressed
            }
            other => return Err(format!("the floor has no codec {other}").into()),
        };
        let mut read = 0;
        let mut records = In(body);
        while !records.0.is_empty() {
            let length = records.varint();
            let mut record = In(records.take(length as usize));
            record.take(1);
            record.varint();
            let offset = self.base_offset + record.varint();
            record.bytes();
            let value = record.bytes();
            if offset >= position {
                each(value.unwrap_or_default());
                read += 1;
            }
        }
        Ok(read)
    }
}

/// Plain snappy, or the blocks that snappy-java makes.
fn unsnap(body: &[u8]) -> Result<Vec<u8>, Failure> {
    let mut decoder = snap::raw::Decoder::new();
    if !body.starts_with(b"\x82SNAPPY\0") {
        return Ok(decoder.decompress_vec(body)?);
    }
    let mut blocks = In(&body[16..]);
    let mut out = Vec::with_capacity(body.len() * 4);
    while !blocks.0.is_empty() {
        let length = blocks.i32() as usize;
        out.extend(decoder.decompress_vec(blocks.take(length))?);
    }
    Ok(out)
}
