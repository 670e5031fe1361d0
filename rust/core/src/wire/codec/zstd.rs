//! Zstandard, by Facebook's library in C: the cargo feature `zstd`.

use bytes::Bytes;
use zstd::zstd_safe::{
    CCtx, CParameter, DCtx, InBuffer, OutBuffer, ResetDirective, get_error_name, get_frame_content_size,
};

use super::{CodecError, Shelf, room};

static COMPRESSORS: Shelf<CCtx<'static>> = Shelf::new();
static DECOMPRESSORS: Shelf<DCtx<'static>> = Shelf::new();

/// A context that has grown beyond this is not kept. After a batch of 1 MB one has 1.3 MB at the default level, 3 MB at
/// level 6 and 18 MB at level 22, where making it is little beside using it. One that reads has 160 KB, and what a frame
/// calls its window when it does not say how large its content is: kafka-clients never says, and has windows of 2 MB at
/// the default level.
const KEPT_MAX: usize = 4 << 20;

/// `None` when the compressed bytes are not fewer than the plain ones: there is no room for more.
pub(super) fn compress(level: i32, body: &[u8], scratch: &mut Vec<u8>) -> Option<usize> {
    let room = room(scratch, body.len());
    let mut context = COMPRESSORS.take(CCtx::create);
    let written = compress_with(&mut context, level, body, room);
    if context.sizeof() <= KEPT_MAX {
        COMPRESSORS.put(context);
    }
    written
}

fn compress_with(context: &mut CCtx<'static>, level: i32, body: &[u8], room: &mut [u8]) -> Option<usize> {
    // In one go: the frame says how large its content is, and the tables are no larger than that needs.
    let written = context
        .set_parameter(CParameter::CompressionLevel(level))
        .and_then(|_| context.compress2(room, body))
        .ok();
    if written.is_none() {
        // What did not fit has left its frame open. Dropping that cannot fail.
        let _ = context.reset(ResetDirective::SessionOnly);
    }
    written
}

/// Reads any number of frames, and skips those that are to be skipped.
pub(super) fn decompress(body: &[u8], limit: usize) -> Result<Bytes, CodecError> {
    let mut context = DECOMPRESSORS.take(DCtx::create);
    // In the middle of a frame that is broken or too large: such a context is not used again.
    let out = decompress_with(&mut context, body, limit)?;
    if context.sizeof() <= KEPT_MAX {
        DECOMPRESSORS.put(context);
    }
    Ok(out.into())
}

fn decompress_with(context: &mut DCtx<'static>, body: &[u8], limit: usize) -> Result<Vec<u8>, CodecError> {
    let mut out = Vec::with_capacity(first_room(body).min(limit));
    let mut input = InBuffer::around(body);
    loop {
        if out.len() == out.capacity() {
            // One byte more than allowed tells "just fits" from "too large".
            let most = limit.saturating_add(1) - out.len();
            out.reserve_exact(out.len().max(LEAST_ROOM).min(most));
        }
        let at = out.len();
        let mut output = OutBuffer::around_pos(&mut out, at);
        let wanted =
            context.decompress_stream(&mut output, &mut input).map_err(|e| broken(get_error_name(e)))?;
        if out.len() > limit {
            return Err(CodecError::TooLarge { limit });
        }
        if input.pos() < body.len() {
            continue;
        }
        if wanted == 0 {
            return Ok(out);
        }
        // Everything was given, and there was room for more.
        if out.len() < out.capacity() {
            return Err(broken("it is cut off"));
        }
    }
}

const LEAST_ROOM: usize = 64 << 10;

/// With room for the whole content the frame is decompressed into it at once, without a window. What the frame says is
/// believed when it is not much: it may lie.
fn first_room(body: &[u8]) -> usize {
    let usual = body.len().saturating_mul(4);
    match get_frame_content_size(body) {
        Ok(Some(size)) => usize::try_from(size).unwrap_or(usize::MAX).min(usual.saturating_add(1 << 20)),
        Ok(None) | Err(_) => usual,
    }
}

fn broken(cause: &str) -> CodecError {
    CodecError::broken("zstd", &cause)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{noise, sample};
    use super::*;

    fn frame(body: &[u8]) -> Vec<u8> {
        let mut scratch = Vec::new();
        let n = compress(3, body, &mut scratch).unwrap();
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
    fn frames_follow_each_other_and_some_are_skipped() {
        let skipped = [&0x184D_2A57_u32.to_le_bytes()[..], &3_u32.to_le_bytes(), b"abc"].concat();
        let (one, two) = (frame(&sample()), frame(&[7; 300_000]));
        let all = [&skipped[..], &one, &skipped, &two, &one, &skipped].concat();
        let body = [&sample()[..], &[7; 300_000], &sample()].concat();
        assert!(decompress(&all, body.len()).unwrap() == body);
        assert_eq!(size(&all, body.len() - 1), Err(CodecError::TooLarge { limit: body.len() - 1 }));
        assert!(cause(&all[..all.len() - 1]).contains("cut off"));
        assert!(cause(&one[..one.len() - 1]).contains("cut off"));
    }

    #[test]
    fn a_frame_that_does_not_say_how_large_it_is_is_read() {
        let body = [sample(), noise(70_000), sample()].concat();
        let mut context = CCtx::create();
        context.set_parameter(CParameter::ContentSizeFlag(false)).unwrap();
        context.set_parameter(CParameter::ChecksumFlag(true)).unwrap();
        let mut bytes = vec![0; body.len()];
        let n = context.compress2(&mut bytes[..], &body).unwrap();
        bytes.truncate(n);
        assert!(matches!(get_frame_content_size(&bytes), Ok(None)));
        for limit in [body.len(), body.len() + 1, usize::MAX] {
            assert!(decompress(&bytes, limit).unwrap() == body);
        }
        assert_eq!(size(&bytes, body.len() - 1), Err(CodecError::TooLarge { limit: body.len() - 1 }));
        assert!(cause(&bytes[..n - 1]).contains("cut off"));
        *bytes.last_mut().unwrap() ^= 1;
        assert!(cause(&bytes).contains("zstd data is broken"));
    }

    #[test]
    fn a_content_size_is_not_believed_when_it_is_large() {
        // A frame of no content that says it has 2^60 bytes.
        let mut bytes = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
        bytes.extend_from_slice(&(1_u64 << 60).to_le_bytes());
        bytes.extend_from_slice(&[1, 0, 0]);
        assert!(matches!(get_frame_content_size(&bytes), Ok(Some(size)) if size == 1 << 60));
        assert!(first_room(&bytes) < 2 << 20);
        assert!(cause(&bytes).contains("broken"));
    }

    #[test]
    fn contexts_are_kept_where_it_matters_and_not_where_they_are_large() {
        let body = [sample(), noise(800_000)].concat();
        let mut room = vec![0; body.len()];
        let size = |level| {
            let mut context = CCtx::create();
            compress_with(&mut context, level, &body, &mut room).unwrap();
            context.sizeof()
        };
        let sizes: Vec<_> = [-5, 1, 3, 6, 22].map(size).into();
        assert!(sizes[..4].iter().all(|n| *n < KEPT_MAX) && sizes[4] > KEPT_MAX, "{sizes:?}");
    }

    #[test]
    fn what_did_not_fit_leaves_nothing_behind() {
        let mut context = CCtx::create();
        let mut room = vec![0; 100_000];
        assert_eq!(compress_with(&mut context, 3, &noise(100_000), &mut room), None);
        let n = compress_with(&mut context, 19, &sample(), &mut room).unwrap();
        assert!(decompress(&room[..n], 1 << 20).unwrap() == sample());
    }
}
