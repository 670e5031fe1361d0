//! Compressing and decompressing the records of a batch.
//!
//! Snappy is written as one raw block, and read both raw and in the frames that Java's library once wrote
//! ("xerial"). What a batch decompresses to is bounded: ten kilobytes can claim to be gigabytes.

use std::cell::RefCell;
use std::io::Read;

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};

use crate::config::Codec;

/// Records that cannot be decompressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// A codec this version does not speak.
    #[error("it is compressed with {0}, which is not supported yet (none, gzip and snappy are)")]
    Unsupported(&'static str),
    /// The bytes are not what the codec writes.
    #[error("its {codec} data is broken: {cause}")]
    Broken {
        /// The codec.
        codec: &'static str,
        /// What is wrong.
        cause: String,
    },
    /// More bytes than allowed.
    #[error("it decompresses to more than {limit} bytes; raise decompress-limit to read it")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
}

/// The codec's number in a batch's attributes.
pub(super) const fn attribute(codec: Codec) -> i16 {
    match codec {
        Codec::None => 0,
        Codec::Gzip => 1,
        Codec::Snappy => 2,
    }
}

/// A scratch larger than this is not kept for the next batch.
const SCRATCH_KEPT_MAX: usize = 4 << 20;

thread_local! {
    // An encoder's tables are worth keeping: making them costs more than compressing a small batch.
    static SNAPPY: RefCell<snap::raw::Encoder> = RefCell::new(snap::raw::Encoder::new());
    static GZIP: RefCell<Compress> =
        RefCell::new(Compress::new_gzip(Compression::default(), GZIP_WINDOW_BITS));
    // Where compressed bytes land before their size is known, so that what a batch keeps is no larger than it must be.
    static SCRATCH: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

/// 32 KB, the largest and what everybody uses.
const GZIP_WINDOW_BITS: u8 = 15;

/// Compresses `body` behind `head` bytes of zeros, in a buffer of exactly that size. `None` if it would not shrink.
pub(super) fn compress(codec: Codec, body: &[u8], head: usize) -> Option<Vec<u8>> {
    if codec == Codec::None || body.is_empty() {
        return None;
    }
    let mut scratch = SCRATCH.take();
    let written = match codec {
        Codec::None => None,
        Codec::Gzip => gzip(body, &mut scratch),
        Codec::Snappy => {
            let room = room(&mut scratch, snap::raw::max_compress_len(body.len()));
            SNAPPY.with_borrow_mut(|encoder| encoder.compress(body, room)).ok()
        }
    };
    let compressed = written.filter(|n| *n < body.len()).map(|n| {
        let mut out = Vec::with_capacity(head + n);
        out.resize(head, 0);
        out.extend_from_slice(&scratch[..n]);
        out
    });
    if scratch.len() <= SCRATCH_KEPT_MAX {
        SCRATCH.set(scratch);
    }
    compressed
}

/// The first `n` bytes of `scratch`, which grows to have them.
fn room(scratch: &mut Vec<u8>, n: usize) -> &mut [u8] {
    if scratch.len() < n {
        scratch.resize(n, 0);
    }
    &mut scratch[..n]
}

/// `None` when the compressed bytes are not fewer than the plain ones: there is no room for more.
fn gzip(body: &[u8], scratch: &mut Vec<u8>) -> Option<usize> {
    let room = room(scratch, body.len());
    GZIP.with_borrow_mut(|encoder| {
        encoder.reset();
        match encoder.compress(body, room, FlushCompress::Finish) {
            Ok(Status::StreamEnd) => usize::try_from(encoder.total_out()).ok(),
            Ok(Status::Ok | Status::BufError) | Err(_) => None,
        }
    })
}

/// Decompresses `body`, whose codec is the attribute's low three bits.
pub(super) fn decompress(attribute: i16, body: Bytes, limit: usize) -> Result<Bytes, CodecError> {
    match attribute & 7 {
        0 => Ok(body),
        // Compaction can leave a batch without records, which no codec would call a valid stream.
        _ if body.is_empty() => Ok(body),
        1 => gunzip(&body, limit),
        2 => unsnap(&body, limit),
        3 => Err(CodecError::Unsupported("lz4")),
        4 => Err(CodecError::Unsupported("zstd")),
        _ => Err(CodecError::Unsupported("a codec of no known number")),
    }
}

fn gunzip(body: &[u8], limit: usize) -> Result<Bytes, CodecError> {
    let mut out = Vec::with_capacity(body.len().saturating_mul(3).min(limit));
    // One byte more than allowed tells "just fits" from "too large".
    let mut reader = flate2::bufread::MultiGzDecoder::new(body).take((limit as u64).saturating_add(1));
    reader.read_to_end(&mut out).map_err(|e| CodecError::Broken { codec: "gzip", cause: e.to_string() })?;
    if out.len() > limit { Err(CodecError::TooLarge { limit }) } else { Ok(out.into()) }
}

const XERIAL: &[u8] = &[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];

fn unsnap(body: &[u8], limit: usize) -> Result<Bytes, CodecError> {
    let mut out = Vec::new();
    if !body.starts_with(XERIAL) {
        unsnap_block(body, limit, &mut out)?;
        return Ok(out.into());
    }
    // The magic, a version and a compatible version, then blocks with a length of 32 bits.
    let broken = |cause: &str| CodecError::Broken { codec: "snappy", cause: cause.to_owned() };
    let mut rest = body.get(16..).ok_or_else(|| broken("its header is cut off"))?;
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        let block = after.get(..length).ok_or_else(|| broken("a block is cut off"))?;
        unsnap_block(block, limit, &mut out)?;
        rest = &after[length..];
    }
    if rest.is_empty() { Ok(out.into()) } else { Err(broken("a block length is cut off")) }
}

fn unsnap_block(block: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let broken = |e: snap::Error| CodecError::Broken { codec: "snappy", cause: e.to_string() };
    let length = snap::raw::decompress_len(block).map_err(broken)?;
    let start = out.len();
    if length > limit - start {
        return Err(CodecError::TooLarge { limit });
    }
    // Snappy cannot shrink below about 1/21: a longer claim is a lie, and would cost memory before it is found out.
    if length > block.len().saturating_mul(64) {
        return Err(CodecError::Broken {
            codec: "snappy",
            cause: format!("{} bytes claim to be {length}", block.len()),
        });
    }
    out.resize(start + length, 0);
    snap::raw::Decoder::new().decompress(block, &mut out[start..]).map_err(broken)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Vec<u8> {
        (0..20_000_u32).flat_map(|i| format!("record {} ", i % 97).into_bytes()).collect()
    }

    #[test]
    fn what_is_compressed_comes_back() {
        // Twice, because the encoders are kept.
        for codec in [Codec::Gzip, Codec::Snappy, Codec::Gzip, Codec::Snappy] {
            let out = compress(codec, &sample(), 5).unwrap();
            assert_eq!((&out[..5], out.len()), (&[0; 5][..], out.capacity()));
            let back = decompress(attribute(codec), Bytes::from(out).slice(5..), 1 << 20).unwrap();
            assert_eq!(back, sample());
        }
    }

    #[test]
    fn what_does_not_shrink_stays_plain() {
        let noise: Vec<u8> = (0..100_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        for codec in [Codec::None, Codec::Gzip, Codec::Snappy] {
            assert_eq!(compress(codec, &noise, 5), None);
            // A stream that was given up must leave nothing behind for the next one.
            assert_eq!(compress(codec, &sample(), 0).is_some(), codec != Codec::None);
        }
    }

    #[test]
    fn xerial_frames_are_read() {
        let raw = snap::raw::Encoder::new().compress_vec(b"hello hello hello").unwrap();
        let mut framed = XERIAL.to_vec();
        framed.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
        for _ in 0..2 {
            framed.extend_from_slice(&(raw.len() as u32).to_be_bytes());
            framed.extend_from_slice(&raw);
        }
        assert_eq!(
            decompress(2, framed.clone().into(), 100).unwrap(),
            &b"hello hello hellohello hello hello"[..]
        );
        assert_eq!(decompress(2, framed.clone().into(), 20), Err(CodecError::TooLarge { limit: 20 }));
        framed.pop();
        assert!(matches!(decompress(2, framed.into(), 100), Err(CodecError::Broken { .. })));
    }

    #[test]
    fn a_bomb_is_bounded() {
        for codec in [Codec::Gzip, Codec::Snappy] {
            let out = Bytes::from(compress(codec, &vec![0; 10 << 20], 0).unwrap());
            let refused = decompress(attribute(codec), out.clone(), (10 << 20) - 1);
            assert_eq!(refused, Err(CodecError::TooLarge { limit: (10 << 20) - 1 }));
            assert_eq!(decompress(attribute(codec), out.clone(), 10 << 20).unwrap().len(), 10 << 20);
            assert_eq!(decompress(attribute(codec), out, usize::MAX).unwrap().len(), 10 << 20);
        }
        // A few bytes that claim four gigabytes are refused before there is memory for them.
        let claim = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0]);
        assert!(matches!(decompress(2, claim, usize::MAX), Err(CodecError::Broken { .. })));
    }

    #[test]
    fn a_codec_that_is_not_there_is_named() {
        for (attribute, name) in [(3, "lz4"), (4, "zstd"), (5, "no known number")] {
            let error = decompress(attribute, Bytes::from_static(b"x"), 10).unwrap_err();
            assert!(error.to_string().contains(name), "{error}");
        }
        assert_eq!(decompress(2, Bytes::new(), 10), Ok(Bytes::new()));
    }
}
