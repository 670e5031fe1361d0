//! Bytes of a socket to frames: the reading and the writing half, without knowing what is in a frame.
//!
//! Reading. A frame is a 4-byte length and as many bytes. The reader has one fixed buffer that it fills with as much
//! as the socket has, so many small answers cost one system call; an answer that does not fit is read straight into
//! a buffer of exactly its size. A frame is never a window into the shared buffer: a small answer that is kept would
//! otherwise keep all of it. The length is checked against the bound before anything is allocated.
//!
//! Writing. Frames are lists of segments (a request's head, a batch that nobody copies, ...). [`FrameWriter`] gathers
//! the segments of all frames it was given into vectored writes and remembers how far it got.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::sync::oneshot;

use super::error::CloseReason;
use crate::wire::Frame;

/// Bytes of the reader's own buffer: many produce answers, or the head of a fetch answer.
const READ_CHUNK: usize = 32 << 10;

/// Segments of one vectored write. Linux takes 1024; past a hundred the saving is nothing.
const SLICES: usize = 128;

/// Why no further frame could be read.
#[derive(Debug)]
pub(super) enum ReadError {
    /// The stream ended; `rest` is what had come of the next frame.
    End { rest: Bytes },
    /// The operating system reported an error.
    Io(io::Error),
    /// The length is negative or above the bound. `head` is the length's four bytes and what follows them.
    Size { length: i64, head: Bytes },
}

impl ReadError {
    pub(super) fn into_reason(self, max: usize) -> CloseReason {
        match self {
            Self::End { rest } if rest.is_empty() => CloseReason::Peer,
            Self::End { .. } => CloseReason::MidFrame,
            Self::Io(e) => CloseReason::Io(e.to_string()),
            Self::Size { length, .. } => CloseReason::FrameSize { length, max },
        }
    }
}

/// The reading half's buffer: bytes that came and were not given out yet.
#[derive(Debug)]
pub(super) struct FrameReader {
    buffer: BytesMut,
}

impl FrameReader {
    pub(super) fn new() -> Self {
        Self { buffer: BytesMut::with_capacity(READ_CHUNK) }
    }

    /// The next frame without its length, at most `max` bytes. Not cancel-safe: a dropped future loses bytes.
    pub(super) async fn next<R>(&mut self, io: &mut R, max: usize) -> Result<Bytes, ReadError>
    where
        R: AsyncRead + Unpin,
    {
        while self.buffer.len() < 4 {
            self.fill(io).await?;
        }
        let head: [u8; 4] = self.buffer[..4].try_into().expect("invariant: four bytes were read");
        let length = i32::from_be_bytes(head);
        let Some(length) = usize::try_from(length).ok().filter(|l| *l <= max) else {
            // What follows the length tells what speaks there (`HTTP/1.1 400`); it is usually already here.
            return Err(ReadError::Size { length: length.into(), head: self.buffer.split().freeze() });
        };
        let _ = self.buffer.split_to(4);
        let here = length.min(self.buffer.len());
        let mut frame = BytesMut::with_capacity(length);
        frame.put_slice(&self.buffer.split_to(here));
        while frame.len() < length {
            let missing = length - frame.len();
            if missing >= READ_CHUNK / 2 {
                let mut exact = (&mut frame).limit(missing);
                if io.read_buf(&mut exact).await.map_err(ReadError::Io)? == 0 {
                    return Err(ReadError::End { rest: frame.freeze() });
                }
            } else {
                // The tail shares a system call with the answers behind it.
                if let Err(e) = self.fill(io).await {
                    return Err(match e {
                        ReadError::End { .. } => ReadError::End { rest: frame.freeze() },
                        other => other,
                    });
                }
                let here = missing.min(self.buffer.len());
                frame.put_slice(&self.buffer.split_to(here));
            }
        }
        Ok(frame.freeze())
    }

    /// Reads what the socket has, at least one byte.
    async fn fill<R: AsyncRead + Unpin>(&mut self, io: &mut R) -> Result<(), ReadError> {
        // Nothing else points into the buffer, so this moves the rest to its front; it allocates only once.
        self.buffer.reserve(READ_CHUNK - self.buffer.len().min(READ_CHUNK - 1));
        match io.read_buf(&mut self.buffer).await {
            Ok(0) => Err(ReadError::End { rest: self.buffer.split().freeze() }),
            Ok(_) => Ok(()),
            Err(e) => Err(ReadError::Io(e)),
        }
    }
}

/// A frame on its way out.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) frame: Frame,
    /// Told when the last byte was handed to the operating system.
    pub(super) written: Option<oneshot::Sender<()>>,
}

/// The writing half: the socket, and the frames that were given to it and are not wholly written.
#[derive(Debug)]
pub(super) struct FrameWriter<W = OwnedWriteHalf> {
    io: W,
    frames: VecDeque<Outgoing>,
    /// Bytes of the first frame that are written.
    done: usize,
    /// Bytes written since the connection began.
    position: u64,
    /// Where the last frame ends, counted the same way.
    end: u64,
}

/// A stream that may be written without waiting. One that cannot says `WouldBlock`, and a task writes for it.
pub(super) trait TryWrite {
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize>;
}

impl TryWrite for OwnedWriteHalf {
    fn try_write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        Self::try_write_vectored(self, slices)
    }
}

impl<W> FrameWriter<W> {
    pub(super) const fn new(io: W) -> Self {
        Self { io, frames: VecDeque::new(), done: 0, position: 0, end: 0 }
    }

    /// Takes over all of `queue`, in order.
    pub(super) fn take(&mut self, queue: &mut VecDeque<Outgoing>) {
        self.end += queue.iter().map(|outgoing| outgoing.frame.len() as u64).sum::<u64>();
        self.frames.append(queue);
    }

    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty()
    }

    /// Bytes written since the connection began.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// Bytes written once all frames here are.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }

    /// Notes that `n` more bytes are written.
    fn advance(&mut self, n: usize) -> io::Result<()> {
        if n == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.position += n as u64;
        self.done += n;
        while let Some(first) = self.frames.front()
            && first.frame.len() <= self.done
        {
            self.done -= first.frame.len();
            let first = self.frames.pop_front().expect("invariant: front was there");
            if let Some(written) = first.written {
                // Nobody waits any more: that is the receiver's right.
                let _ = written.send(());
            }
        }
        Ok(())
    }
}

impl<W: TryWrite> FrameWriter<W> {
    /// Writes until all is written (`true`) or the socket takes no more (`false`). Never waits.
    pub(super) fn try_write(&mut self) -> io::Result<bool> {
        while !self.frames.is_empty() {
            let mut slices = [IoSlice::new(&[]); SLICES];
            let count = gather(&self.frames, self.done, &mut slices);
            match self.io.try_write_vectored(&slices[..count]) {
                Ok(n) => self.advance(n)?,
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(true)
    }
}

impl<W: AsyncWrite + Unpin> FrameWriter<W> {
    /// Writes some of what there is, or registers to be woken when the socket takes more.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = gather(&self.frames, self.done, &mut slices);
        let n = ready!(Pin::new(&mut self.io).poll_write_vectored(cx, &slices[..count]))?;
        Poll::Ready(self.advance(n))
    }
}

/// The next segments of `frames`, without the first `done` bytes. Returns how many there are.
fn gather<'a>(frames: &'a VecDeque<Outgoing>, done: usize, slices: &mut [IoSlice<'a>; SLICES]) -> usize {
    let mut count = 0;
    let mut skip = done;
    for segment in frames.iter().flat_map(|outgoing| outgoing.frame.segments()) {
        if skip >= segment.len() {
            skip -= segment.len();
            continue;
        }
        slices[count] = IoSlice::new(&segment[skip..]);
        skip = 0;
        count += 1;
        if count == SLICES {
            break;
        }
    }
    count
}
