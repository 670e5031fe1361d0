//! Snappy: written as one raw block, read both raw and in the frames that Java's library writes ("xerial").

use bytes::Bytes;
use snap::raw::{Decoder, Encoder, decompress_len, max_compress_len};

use super::{CodecError, Shelf, room};

/// 32 KB each.
static ENCODERS: Shelf<Encoder> = Shelf::new();

/// `None` never happens: there is room for whatever it becomes.
pub(super) fn compress(body: &[u8], scratch: &mut Vec<u8>) -> Option<usize> {
    let room = room(scratch, max_compress_len(body.len()));
    let mut encoder = ENCODERS.take(Encoder::new);
    let written = encoder.compress(body, room).ok();
    ENCODERS.put(encoder);
    written
}

/// What a xerial frame begins with.
const XERIAL: &[u8] = &[0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0];

/// Reads one raw block, or the blocks of a xerial frame.
pub(super) fn decompress(body: &[u8], limit: usize) -> Result<Bytes, CodecError> {
    let mut out = Vec::new();
    if !body.starts_with(XERIAL) {
        block(body, limit, &mut out)?;
        return Ok(out.into());
    }
    // The magic, a version and a compatible version, then blocks with a length of 32 bits.
    let mut rest = body.get(16..).ok_or_else(|| broken("its header is cut off"))?;
    while let Some((length, after)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        block(after.get(..length).ok_or_else(|| broken("a block is cut off"))?, limit, &mut out)?;
        rest = &after[length..];
    }
    if rest.is_empty() { Ok(out.into()) } else { Err(broken("a block length is cut off")) }
}

fn block(block: &[u8], limit: usize, out: &mut Vec<u8>) -> Result<(), CodecError> {
    let length = decompress_len(block).map_err(broken)?;
    let start = out.len();
    if length > limit - start {
        return Err(CodecError::TooLarge { limit });
    }
    // Snappy cannot shrink below about 1/21: a longer claim is a lie, and would cost memory before it is found out.
    if length > block.len().saturating_mul(64) {
        return Err(broken(format_args!("{} bytes claim to be {length}", block.len())));
    }
    out.resize(start + length, 0);
    Decoder::new().decompress(block, &mut out[start..]).map_err(broken)?;
    Ok(())
}

fn broken(cause: impl std::fmt::Display) -> CodecError {
    CodecError::broken("snappy", &cause)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn xerial_frames_are_read() {
        let raw = Encoder::new().compress_vec(b"hello hello hello").unwrap();
        let mut framed = XERIAL.to_vec();
        framed.extend_from_slice(&[0, 0, 0, 1, 0, 0, 0, 1]);
        for _ in 0..2 {
            framed.extend_from_slice(&(raw.len() as u32).to_be_bytes());
            framed.extend_from_slice(&raw);
        }
        assert_eq!(decompress(&framed, 100).unwrap(), &b"hello hello hellohello hello hello"[..]);
        assert_eq!(decompress(&framed, 20), Err(CodecError::TooLarge { limit: 20 }));
        framed.pop();
        assert!(matches!(decompress(&framed, 100), Err(CodecError::Broken { .. })));
    }

    #[test]
    fn a_claim_is_not_believed() {
        // A few bytes that claim four gigabytes are refused before there is memory for them.
        let claim = [0xff, 0xff, 0xff, 0xff, 0x0f, 0];
        assert!(matches!(decompress(&claim, usize::MAX), Err(CodecError::Broken { .. })));
    }
}
