//! Compressing and decompressing the records of a batch: one file a codec.
//!
//! What a batch decompresses to is bounded, because ten kilobytes can claim to be gigabytes: memory grows with what really
//! comes out, up to the limit. The checksums of the codecs' own formats are not all computed: a batch's CRC-32C covers
//! every byte, and is checked before.

mod gzip;
mod shelf;
mod snappy;

use bytes::Bytes;

use self::shelf::Shelf;
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

impl CodecError {
    fn broken(codec: &'static str, cause: &dyn std::fmt::Display) -> Self {
        Self::Broken { codec, cause: cause.to_string() }
    }
}

/// A scratch larger than this is not kept for the next batch.
const SCRATCH_KEPT_MAX: usize = 4 << 20;

/// Where compressed bytes land before their size is known, so that what a batch keeps is no larger than it must be.
static SCRATCHES: Shelf<Vec<u8>> = Shelf::new();

/// Compresses `body` behind `head` bytes of zeros, in a buffer of exactly that size. `None` if it would not shrink.
pub(super) fn compress(codec: Codec, body: &[u8], head: usize) -> Option<Vec<u8>> {
    if codec == Codec::None || body.is_empty() {
        return None;
    }
    let mut scratch = SCRATCHES.take(Vec::new);
    let written = match codec {
        Codec::None => None,
        Codec::Gzip => gzip::compress(body, &mut scratch),
        Codec::Snappy => snappy::compress(body, &mut scratch),
    };
    let compressed = written.filter(|n| *n < body.len()).map(|n| {
        let mut out = Vec::with_capacity(head + n);
        out.resize(head, 0);
        out.extend_from_slice(&scratch[..n]);
        out
    });
    if scratch.len() <= SCRATCH_KEPT_MAX {
        SCRATCHES.put(scratch);
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

/// Decompresses `body`, whose codec is the attribute's low three bits.
pub(super) fn decompress(attribute: i16, body: Bytes, limit: usize) -> Result<Bytes, CodecError> {
    match attribute & 7 {
        0 => Ok(body),
        // Compaction can leave a batch without records, which no codec would call a valid stream.
        _ if body.is_empty() => Ok(body),
        1 => gzip::decompress(&body, limit),
        2 => snappy::decompress(&body, limit),
        3 => Err(CodecError::Unsupported("lz4")),
        4 => Err(CodecError::Unsupported("zstd")),
        _ => Err(CodecError::Unsupported("a codec of no known number")),
    }
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
    fn a_bomb_is_bounded() {
        for codec in [Codec::Gzip, Codec::Snappy] {
            let out = Bytes::from(compress(codec, &vec![0; 10 << 20], 0).unwrap());
            let refused = decompress(attribute(codec), out.clone(), (10 << 20) - 1);
            assert_eq!(refused, Err(CodecError::TooLarge { limit: (10 << 20) - 1 }));
            assert_eq!(decompress(attribute(codec), out.clone(), 10 << 20).unwrap().len(), 10 << 20);
            assert_eq!(decompress(attribute(codec), out, usize::MAX).unwrap().len(), 10 << 20);
        }
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
