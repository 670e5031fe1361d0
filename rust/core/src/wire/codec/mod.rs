//! Compressing and decompressing the records of a batch: one file a codec.
//!
//! What a batch decompresses to is bounded, because ten kilobytes can claim to be gigabytes: memory grows with what really
//! comes out, up to the limit. The checksums of the codecs' own formats are not all computed: a batch's CRC-32C covers
//! every byte, and is checked before.

mod gzip;
mod lz4;
mod shelf;
mod snappy;
#[cfg(feature = "zstd")]
mod zstd;

use bytes::Bytes;

use self::shelf::Shelf;
use crate::config::{Codec, Compression};

/// Records that cannot be decompressed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// A codec that Kafka does not have, or that came after this version.
    #[error(
        "it is compressed with codec number {0}, which is not known (none, gzip, snappy, lz4 and zstd, 0 to 4, are)"
    )]
    Unknown(i16),
    /// A codec that this build does not have.
    #[error(
        "it is compressed with {0}, which is not in this build of kafka-fast; build it with the cargo feature {0}"
    )]
    NotBuiltIn(&'static str),
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
        Codec::Lz4 => 3,
        Codec::Zstd => 4,
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

/// Compresses `body` behind `head` bytes of zeros, in a buffer of exactly that size. `None` if it would not shrink, and for
/// a codec that is not built in.
pub(super) fn compress(compression: Compression, body: &[u8], head: usize) -> Option<Vec<u8>> {
    let Compression { codec, level } = compression;
    if codec == Codec::None || body.is_empty() {
        return None;
    }
    let mut scratch = SCRATCHES.take(Vec::new);
    let written = match codec {
        Codec::None => None,
        Codec::Gzip => gzip::compress(level, body, &mut scratch),
        Codec::Snappy => snappy::compress(body, &mut scratch),
        Codec::Lz4 => lz4::compress(body, &mut scratch),
        #[cfg(feature = "zstd")]
        Codec::Zstd => zstd::compress(level, body, &mut scratch),
        #[cfg(not(feature = "zstd"))]
        Codec::Zstd => None,
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
        3 => lz4::decompress(&body, limit),
        #[cfg(feature = "zstd")]
        4 => zstd::decompress(&body, limit),
        #[cfg(not(feature = "zstd"))]
        4 => Err(CodecError::NotBuiltIn("zstd")),
        number => Err(CodecError::Unknown(number)),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::Index;

    use super::*;

    /// Compresses well.
    pub(super) fn sample() -> Vec<u8> {
        (0..20_000_u32).flat_map(|i| format!("record {} ", i % 97).into_bytes()).collect()
    }

    /// Does not compress.
    pub(super) fn noise(bytes: usize) -> Vec<u8> {
        let mut state = 1_u64;
        let next = |_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 56) as u8
        };
        (0..bytes).map(next).collect()
    }

    fn codecs() -> impl Iterator<Item = Codec> {
        let all = [Codec::Gzip, Codec::Snappy, Codec::Lz4, Codec::Zstd];
        all.into_iter().filter(|codec| codec.is_built_in())
    }

    /// Every codec with levels at the ends of its range and in between.
    fn compression() -> impl Strategy<Value = Compression> {
        let levels = |codec| match codec {
            Codec::Gzip => vec![-1, 1, 6, 9],
            Codec::Zstd => vec![-131_072, -7, 0, 1, 3, 9, 19, 22],
            Codec::None | Codec::Snappy | Codec::Lz4 => vec![0],
        };
        let all = codecs()
            .flat_map(|codec| levels(codec).into_iter().map(move |level| Compression { codec, level }));
        prop::sample::select(all.collect::<Vec<_>>())
    }

    /// Runs and repetitions and noise, in turn.
    fn body() -> impl Strategy<Value = Vec<u8>> {
        let run = (any::<u8>(), 1..5_000_usize).prop_map(|(byte, n)| vec![byte; n]);
        let repeated = (vec(any::<u8>(), 1..60), 1..300_usize).prop_map(|(bytes, n)| bytes.repeat(n));
        let noisy = vec(any::<u8>(), 1..3_000);
        vec(prop_oneof![run, repeated, noisy], 1..12).prop_map(|parts| parts.concat())
    }

    fn compress(codec: impl Into<Compression>, body: &[u8], head: usize) -> Option<Vec<u8>> {
        super::compress(codec.into(), body, head)
    }

    /// How much it becomes, which is easier to look at than what it becomes.
    fn size(codec: Codec, body: Bytes, limit: usize) -> Result<usize, CodecError> {
        decompress(attribute(codec), body, limit).map(|out| out.len())
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..Default::default() })]

        #[test]
        fn what_is_compressed_comes_back(compression in compression(), body in body()) {
            if let Some(out) = compress(compression, &body, 5) {
                prop_assert_eq!((&out[..5], out.len()), (&[0; 5][..], out.capacity()));
                prop_assert!(out.len() - 5 < body.len());
                let out = Bytes::from(out).slice(5..);
                let back = decompress(attribute(compression.codec), out.clone(), body.len());
                prop_assert!(back.unwrap() == body);
                let limit = body.len() - 1;
                prop_assert_eq!(size(compression.codec, out, limit), Err(CodecError::TooLarge { limit }));
            }
        }

        #[test]
        fn broken_bytes_are_errors_or_other_bytes_and_never_panics(
            compression in compression(),
            body in body(),
            changes in vec((any::<Index>(), any::<u8>()), 0..6),
            cut in any::<Index>(),
        ) {
            let Some(out) = compress(compression, &body, 0) else { return Ok(()) };
            let attribute = attribute(compression.codec);
            let limit = body.len() * 2;
            let is_bounded = |bytes: &[u8]| {
                let read = decompress(attribute, Bytes::copy_from_slice(bytes), limit);
                read.map_or(true, |read| read.len() <= limit)
            };
            let end = 1 + cut.index(out.len() - 1).min(out.len() - 2);
            prop_assert!(decompress(attribute, Bytes::copy_from_slice(&out[..end]), limit).is_err());
            let mut changed = out;
            for (at, byte) in changes {
                let at = at.index(changed.len());
                changed[at] = byte;
            }
            prop_assert!(is_bounded(&changed));
            prop_assert!(is_bounded(&changed[..end]));
        }

        #[test]
        fn any_bytes_end(bytes in vec(any::<u8>(), 1..200), head in 0..6_usize, attribute in 0..8_i16) {
            // Those that begin as the codecs do get further.
            let heads: [&[u8]; 6] = [
                b"", b"\x1f\x8b\x08\0", b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01", b"\x04\x22\x4d\x18\x60\x40\x82",
                b"\x04\x22\x4d\x18\x40\x70", b"\x28\xb5\x2f\xfd",
            ];
            let bytes = [heads[head], &bytes].concat();
            let read = decompress(attribute, bytes.into(), 10_000);
            prop_assert!(read.map_or(true, |read| read.len() <= 10_000));
        }
    }

    #[test]
    fn encoders_are_used_again() {
        // Levels in turn, and twice, because they are kept.
        let sizes = |codec, levels: [i32; 2]| {
            levels.map(|level| compress(Compression { codec, level }, &sample(), 0).unwrap().len())
        };
        let gzip = sizes(Codec::Gzip, [1, 9]);
        assert!(gzip[0] > gzip[1], "{gzip:?}");
        assert_eq!(sizes(Codec::Gzip, [1, 9]), gzip);
        assert_eq!(sizes(Codec::Gzip, [-1, 6]), sizes(Codec::Gzip, [6, -1]));
        if Codec::Zstd.is_built_in() {
            let zstd = sizes(Codec::Zstd, [-50, 19]);
            assert!(zstd[0] > zstd[1], "{zstd:?}");
            assert_eq!(sizes(Codec::Zstd, [-50, 19]), zstd);
        }
    }

    #[test]
    fn what_does_not_shrink_stays_plain() {
        for codec in codecs().chain([Codec::None]) {
            for bytes in [1, 10, 100, 70_000] {
                assert_eq!(compress(codec, &noise(bytes), 5), None, "{codec:?} {bytes}");
            }
            // A stream that was given up must leave nothing behind for the next one.
            assert_eq!(compress(codec, &sample(), 0).is_some(), codec != Codec::None);
        }
    }

    #[test]
    fn a_bomb_is_bounded() {
        for codec in codecs() {
            let out = Bytes::from(compress(codec, &vec![0; 10 << 20], 0).unwrap());
            let refused = size(codec, out.clone(), (10 << 20) - 1);
            assert_eq!(refused, Err(CodecError::TooLarge { limit: (10 << 20) - 1 }));
            assert_eq!(size(codec, out.clone(), 10 << 20), Ok(10 << 20));
            assert_eq!(size(codec, out, usize::MAX), Ok(10 << 20));
        }
    }

    #[test]
    fn a_codec_that_is_not_there_is_named() {
        let error = |attribute| decompress(attribute, Bytes::from_static(b"x"), 10).unwrap_err().to_string();
        for attribute in [5, 6, 7] {
            assert!(error(attribute).contains(&format!("codec number {attribute}")), "{}", error(attribute));
        }
        if !Codec::Zstd.is_built_in() {
            assert!(error(4).contains("the cargo feature zstd"), "{}", error(4));
            assert_eq!(compress(Codec::Zstd, &sample(), 0), None);
        }
        for attribute in 0..=4 {
            assert_eq!(decompress(attribute, Bytes::new(), 10), Ok(Bytes::new()));
        }
    }
}
