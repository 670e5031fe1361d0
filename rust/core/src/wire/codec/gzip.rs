//! gzip, by zlib-rs.

use std::io::Read;

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};

use super::{CodecError, Shelf, room};

/// 32 KB, the largest and what everybody uses.
const WINDOW_BITS: u8 = 15;

/// Each with its level, and about 300 KB large. A program has one level, or few.
static ENCODERS: Shelf<(i32, Compress)> = Shelf::new();

/// `None` when the compressed bytes are not fewer than the plain ones: there is no room for more.
pub(super) fn compress(level: i32, body: &[u8], scratch: &mut Vec<u8>) -> Option<usize> {
    let room = room(scratch, body.len());
    let (made_for, mut encoder) = ENCODERS.take(|| (level, encoder(level)));
    if made_for == level {
        encoder.reset();
    } else {
        encoder = self::encoder(level);
    }
    let written = match encoder.compress(body, room, FlushCompress::Finish) {
        Ok(Status::StreamEnd) => usize::try_from(encoder.total_out()).ok(),
        Ok(Status::Ok | Status::BufError) | Err(_) => None,
    };
    ENCODERS.put((level, encoder));
    written
}

/// At a level of 1 to 9; any other number is the default.
fn encoder(level: i32) -> Compress {
    let level = match level {
        1..=9 => Compression::new(level as u32),
        _ => Compression::default(),
    };
    Compress::new_gzip(level, WINDOW_BITS)
}

/// Reads any number of members.
pub(super) fn decompress(body: &[u8], limit: usize) -> Result<Bytes, CodecError> {
    let mut out = Vec::with_capacity(body.len().saturating_mul(3).min(limit));
    // One byte more than allowed tells "just fits" from "too large".
    let mut reader = flate2::bufread::MultiGzDecoder::new(body).take((limit as u64).saturating_add(1));
    reader.read_to_end(&mut out).map_err(|e| CodecError::broken("gzip", &e))?;
    if out.len() > limit { Err(CodecError::TooLarge { limit }) } else { Ok(out.into()) }
}
