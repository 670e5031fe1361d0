//! gzip, by zlib-rs.

use std::io::Read;

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};

use super::{CodecError, Shelf, room};

/// 32 KB, the largest and what everybody uses.
const WINDOW_BITS: u8 = 15;

/// About 300 KB each.
static ENCODERS: Shelf<Compress> = Shelf::new();

/// `None` when the compressed bytes are not fewer than the plain ones: there is no room for more.
pub(super) fn compress(body: &[u8], scratch: &mut Vec<u8>) -> Option<usize> {
    let room = room(scratch, body.len());
    let mut encoder = ENCODERS.take(|| Compress::new_gzip(Compression::default(), WINDOW_BITS));
    encoder.reset();
    let written = match encoder.compress(body, room, FlushCompress::Finish) {
        Ok(Status::StreamEnd) => usize::try_from(encoder.total_out()).ok(),
        Ok(Status::Ok | Status::BufError) | Err(_) => None,
    };
    ENCODERS.put(encoder);
    written
}

/// Reads any number of members.
pub(super) fn decompress(body: &[u8], limit: usize) -> Result<Bytes, CodecError> {
    let mut out = Vec::with_capacity(body.len().saturating_mul(3).min(limit));
    // One byte more than allowed tells "just fits" from "too large".
    let mut reader = flate2::bufread::MultiGzDecoder::new(body).take((limit as u64).saturating_add(1));
    reader.read_to_end(&mut out).map_err(|e| CodecError::broken("gzip", &e))?;
    if out.len() > limit { Err(CodecError::TooLarge { limit }) } else { Ok(out.into()) }
}
