//! LZ4 frames, by lz4_flex.
//!
//! Written as kafka-clients does: independent blocks of 64 KB, no checksums, no content size. Read whatever the format
//! allows: <https://github.com/lz4/lz4/blob/dev/doc/lz4_Frame_format.md>. The frames are walked here and not by lz4_flex,
//! because blocks then go straight to where they belong, and a frame that ends early is an error.

use bytes::Bytes;
use lz4_flex::block::{
    CompressTable, DecompressError, compress_into_with_table, decompress_into, decompress_into_with_dict,
    get_maximum_output_size,
};

use super::{CodecError, Shelf, room};

/// 16 KB each.
static TABLES: Shelf<CompressTable> = Shelf::new();

const MAGIC: u32 = 0x184D_2204;
/// A frame that is not data, in sixteen variants.
const SKIPPABLE: u32 = 0x184D_2A50;
/// The magic; version 1 with independent blocks; blocks of up to 64 KB; and the header's checksum, which is always this.
const HEADER: [u8; 7] = [0x04, 0x22, 0x4D, 0x18, 0x60, 0x40, 0x82];
const END: [u8; 4] = [0; 4];
/// The largest that Kafka's brokers and clients write; they read larger ones.
const BLOCK: usize = 64 << 10;
/// In a block's length: it is stored as it is.
const PLAIN: u32 = 1 << 31;
/// How far back a block may refer.
const WINDOW: usize = 64 << 10;

/// `None` only for what could not become smaller.
pub(super) fn compress(body: &[u8], scratch: &mut Vec<u8>) -> Option<usize> {
    // A block needs room to grow before it is found out that it did.
    let surplus = get_maximum_output_size(BLOCK) - BLOCK;
    let most = HEADER.len() + body.len() + body.len().div_ceil(BLOCK) * 4 + END.len();
    let room = room(scratch, most + surplus);
    room[..HEADER.len()].copy_from_slice(&HEADER);
    let mut at = HEADER.len();
    let mut table = TABLES.take(CompressTable::large);
    for block in body.chunks(BLOCK) {
        let (length, data) = room[at..].split_first_chunk_mut::<4>()?;
        let written = match compress_into_with_table(block, data, &mut table) {
            Ok(n) if n < block.len() => n as u32,
            _ => {
                data[..block.len()].copy_from_slice(block);
                block.len() as u32 | PLAIN
            }
        };
        *length = written.to_le_bytes();
        at += 4 + (written & !PLAIN) as usize;
    }
    TABLES.put(table);
    room[at..at + END.len()].copy_from_slice(&END);
    Some(at + END.len())
}

/// Reads any number of frames, and skips those that are to be skipped.
pub(super) fn decompress(body: &[u8], limit: usize) -> Result<Bytes, CodecError> {
    let mut out = Vec::with_capacity(body.len().saturating_mul(3).min(limit));
    let mut rest = Input(body);
    while !rest.0.is_empty() {
        match rest.number()? {
            MAGIC => Frame::open(&mut rest)?.read(&mut rest, limit, &mut out)?,
            magic if magic & !0xf == SKIPPABLE => {
                let length = rest.number()?;
                rest.take(length as usize)?;
            }
            magic => return Err(broken(format_args!("a frame begins with {magic:08x}"))),
        }
    }
    Ok(out.into())
}

/// What a frame's header says.
struct Frame {
    independent: bool,
    block_checksums: bool,
    content_checksum: bool,
    /// The most a block becomes.
    block: usize,
}

impl Frame {
    /// Reads the header behind the magic.
    fn open(input: &mut Input<'_>) -> Result<Self, CodecError> {
        let [flags, sizes] = input.array()?;
        if flags >> 6 != 1 {
            return Err(broken(format_args!("a frame has version {}, only 1 is known", flags >> 6)));
        }
        if flags & 1 != 0 {
            return Err(broken("a frame needs a dictionary, which Kafka has no place for"));
        }
        let block = match sizes >> 4 & 7 {
            size @ 4..=7 => 1 << (8 + 2 * size),
            size => return Err(broken(format_args!("a frame has blocks of unknown size {size}"))),
        };
        // The size of the content, which need not be true, and the header's checksum.
        input.take(if flags & 8 != 0 { 9 } else { 1 })?;
        Ok(Self {
            independent: flags & 0x20 != 0,
            block_checksums: flags & 0x10 != 0,
            content_checksum: flags & 4 != 0,
            block,
        })
    }

    /// Appends its blocks to `out`, which may have no more than `limit` bytes.
    fn read(&self, input: &mut Input<'_>, limit: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
        let begin = out.len();
        loop {
            let length = input.number()?;
            if length == 0 {
                break;
            }
            let data = input.take((length & !PLAIN) as usize)?;
            if length & PLAIN != 0 {
                if data.len() > self.block {
                    return Err(broken("a block is larger than its frame allows"));
                }
                if data.len() > limit - out.len() {
                    return Err(CodecError::TooLarge { limit });
                }
                out.extend_from_slice(data);
            } else {
                self.read_block(data, begin, limit, out)?;
            }
            input.take(if self.block_checksums { 4 } else { 0 })?;
        }
        input.take(if self.content_checksum { 4 } else { 0 })?;
        Ok(())
    }

    /// Appends a compressed block of a frame that began at `begin`.
    fn read_block(
        &self,
        data: &[u8],
        begin: usize,
        limit: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), CodecError> {
        let start = out.len();
        // A byte becomes 255 at most, so that a few bytes do not get room for megabytes.
        let most = self.block.min(data.len().saturating_mul(255));
        let allowed = most.min(limit - start);
        out.resize(start + allowed, 0);
        let (before, room) = out.split_at_mut(start);
        let written = if self.independent {
            decompress_into(data, room)
        } else {
            decompress_into_with_dict(data, room, &before[begin.max(start.saturating_sub(WINDOW))..])
        };
        match written {
            Ok(n) => {
                out.truncate(start + n);
                Ok(())
            }
            Err(DecompressError::OutputTooSmall { .. }) if allowed < most => {
                Err(CodecError::TooLarge { limit })
            }
            Err(DecompressError::OutputTooSmall { .. }) => {
                Err(broken("a block is larger than its frame allows"))
            }
            Err(error) => Err(broken(error)),
        }
    }
}

/// What is not read yet.
struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, n: usize) -> Result<&'a [u8], CodecError> {
        let (taken, rest) = self.0.split_at_checked(n).ok_or_else(cut_off)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], CodecError> {
        let (taken, rest) = self.0.split_first_chunk().ok_or_else(cut_off)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn number(&mut self) -> Result<u32, CodecError> {
        self.array().map(u32::from_le_bytes)
    }
}

fn cut_off() -> CodecError {
    broken("it is cut off")
}

fn broken(cause: impl std::fmt::Display) -> CodecError {
    CodecError::broken("lz4", &cause)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{noise, sample};
    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut scratch = Vec::new();
        let n = compress(body, &mut scratch).unwrap();
        scratch.truncate(n);
        scratch
    }

    /// How much it becomes, which is easier to look at than what it becomes.
    fn size(body: &[u8], limit: usize) -> Result<usize, CodecError> {
        decompress(body, limit).map(|out| out.len())
    }

    fn cause(body: &[u8]) -> String {
        decompress(body, 1 << 20).unwrap_err().to_string()
    }

    #[test]
    fn the_header_and_the_end_are_those_of_kafka_clients() {
        let frame = frame(b"hello");
        assert_eq!(frame, [&HEADER[..], &[5, 0, 0, 0x80], b"hello", &END].concat());
    }

    #[test]
    fn blocks_that_do_not_shrink_are_stored() {
        let body = [sample(), noise(200_000), sample()].concat();
        let frame = frame(&body);
        assert!(frame.len() > 200_000 && frame.len() < 230_000, "{}", frame.len());
        assert!(decompress(&frame, body.len()).unwrap() == body);
        assert_eq!(size(&frame, body.len() - 1), Err(CodecError::TooLarge { limit: body.len() - 1 }));
    }

    #[test]
    fn frames_follow_each_other_and_some_are_skipped() {
        let skipped = [&(SKIPPABLE + 7).to_le_bytes()[..], &3_u32.to_le_bytes(), b"abc"].concat();
        let all = [&skipped[..], &frame(b"one "), &skipped, &frame(b"two"), &frame(b""), &skipped].concat();
        assert_eq!(decompress(&all, 7).unwrap(), &b"one two"[..]);
        assert_eq!(decompress(&all, 6), Err(CodecError::TooLarge { limit: 6 }));
        assert!(cause(&all[..all.len() - 1]).contains("cut off"));
    }

    /// Checksums, a content size, larger blocks, blocks that refer to those before: nothing Kafka writes, but lz4's
    /// own tools do.
    #[test]
    fn frames_of_every_kind_are_read() {
        let body = [sample(), noise(70_000), sample()].concat();
        let mut table = CompressTable::large();
        for (flags, block) in [(0x60, 4), (0x70, 5), (0x64, 6), (0x68, 7), (0x7c, 4)] {
            let mut bytes = [&MAGIC.to_le_bytes()[..], &[flags, block << 4]].concat();
            if flags & 8 != 0 {
                // A lie: nobody believes it.
                bytes.extend_from_slice(&u64::MAX.to_le_bytes());
            }
            bytes.push(0);
            for chunk in body.chunks(1 << (8 + 2 * block)) {
                let mut data = vec![0; get_maximum_output_size(chunk.len())];
                let n = compress_into_with_table(chunk, &mut data, &mut table).unwrap();
                bytes.extend_from_slice(&(n as u32).to_le_bytes());
                bytes.extend_from_slice(&data[..n]);
                bytes.extend_from_slice(if flags & 0x10 != 0 { &[1, 2, 3, 4] } else { &[] });
            }
            bytes.extend_from_slice(&END);
            bytes.extend_from_slice(if flags & 4 != 0 { &[1, 2, 3, 4] } else { &[] });
            assert!(decompress(&bytes, body.len()).unwrap() == body, "flags {flags:x}");
        }
    }

    #[test]
    fn blocks_may_refer_to_those_before_them_in_their_frame() {
        // Eight bytes of the block before, from eight back, then the five literals every block ends with.
        let second = [0x04, 8, 0, 0x50, b'e', b'n', b'd', b'.', b'.'];
        let blocks = [
            &(8 | PLAIN).to_le_bytes()[..],
            b"earlier ",
            &(second.len() as u32).to_le_bytes(),
            &second,
            &END,
        ]
        .concat();
        let header = |flags: u8| [&MAGIC.to_le_bytes()[..], &[flags, 0x40, 0]].concat();
        let linked = [header(0x40), blocks.clone()].concat();
        assert_eq!(decompress(&linked, 100).unwrap(), &b"earlier earlier end.."[..]);
        // Where blocks are independent, or in another frame, there is nothing behind the start.
        assert!(cause(&[header(0x60), blocks.clone()].concat()).contains("broken"));
        let other = [frame(b"earlier "), header(0x40), blocks[12..].to_vec()].concat();
        assert!(cause(&other).contains("broken"));
    }

    #[test]
    fn what_is_wrong_is_said() {
        let good = frame(&sample());
        let with = |at: usize, byte: u8| {
            let mut bytes = good.clone();
            bytes[at] = byte;
            cause(&bytes)
        };
        assert_eq!(with(0, 5), "its lz4 data is broken: a frame begins with 184d2205");
        assert!(with(4, 0xa0).contains("version 2"));
        assert!(with(4, 0x61).contains("dictionary"));
        assert!(with(5, 0x30).contains("unknown size 3"));
        assert!(with(10, 0x7f).contains("cut off"));
        assert!(cause(&good[..good.len() - 4]).contains("cut off"), "an end is missing");
        // One block that becomes 100,000 bytes, of a frame whose blocks have 64 KB.
        let mut block = vec![0; get_maximum_output_size(100_000)];
        let n = lz4_flex::block::compress_into(&[7; 100_000], &mut block).unwrap();
        let bytes = [&HEADER[..], &(n as u32).to_le_bytes(), &block[..n], &END].concat();
        assert!(cause(&bytes).contains("larger than its frame allows"));
        let bytes = [&HEADER[..], &(70_000 | PLAIN).to_le_bytes(), &[7; 70_000], &END].concat();
        assert!(cause(&bytes).contains("larger than its frame allows"));
    }
}
