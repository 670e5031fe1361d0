//! Bytes of a socket to frames: the reading and the writing half, without knowing what is in a frame.
//!
//! Reading. A frame is a 4-byte length and as many bytes. The reader has one fixed buffer that it fills with as much
//! as the socket has, so many small answers cost one system call; an answer that does not fit is read straight into
//! a buffer of its own, a large one into memory that an answer before it has left ([`Spares`]). A frame is never a window
//! into the shared buffer: a small answer that is kept would otherwise keep all of it. The length is checked against the
//! bound before anything is allocated, and is not believed beyond [`spares::BEGIN`]: more memory is taken as bytes come. While
//! much of an answer is missing the socket gathers it before it wakes the reader ([`Gather`]).
//!
//! Writing. Frames are lists of segments (a request's head, a batch that nobody copies, ...). [`FrameWriter`] gathers
//! the segments of all frames it was given into vectored writes and remembers how far it got.

use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};

use bytes::{BufMut, Bytes};
use tokio::io::{AsyncRead, AsyncReadExt, ReadBuf};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::timeout;

use super::error::CloseReason;
use super::gather::{self, Gather};
use super::spares::{self, Spares};
use super::stream::Writing;
use crate::wire::Frame;

/// Bytes of the reader's own buffer: many produce answers, or the head of a fetch answer.
const READ_CHUNK: usize = 32 << 10;

/// Segments of one vectored write. Linux takes 1024; past a hundred the saving is nothing.
const SLICES: usize = 128;

/// After so many large answers in a row that did not come in time, the first byte wakes again, for as long as the connection
/// lives: it is a slow one, which has nothing to gain, or the system does not do what it should.
const GATHER_TRIES: u8 = 3;

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
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
    spares: Arc<Spares>,
    /// How many bytes have to be there for the socket to wake us.
    mark: usize,
    /// How often it may yet take too long to reach a mark.
    tries: u8,
}

impl FrameReader {
    pub(super) fn new() -> Self {
        let buffer = vec![0; READ_CHUNK].into();
        Self { buffer, start: 0, end: 0, spares: Arc::default(), mark: 1, tries: GATHER_TRIES }
    }

    /// The buffers kept for large frames.
    pub(super) fn spares(&self) -> &Arc<Spares> {
        &self.spares
    }

    /// The next frame without its length, at most `max` bytes. Not cancel-safe: a dropped future loses bytes.
    pub(super) async fn next<R>(&mut self, io: &mut R, max: usize) -> Result<Bytes, ReadError>
    where
        R: AsyncRead + Gather + Unpin,
    {
        while self.here().len() < 4 {
            if self.fill(io).await? == 0 {
                return Err(ReadError::End { rest: Bytes::copy_from_slice(self.here()) });
            }
        }
        let head = self.here().first_chunk().expect("invariant: four bytes were read");
        let length = i32::from_be_bytes(*head);
        let Some(length) = usize::try_from(length).ok().filter(|l| *l <= max) else {
            // What follows the length tells what speaks there (`HTTP/1.1 400`); it is usually already here.
            let head = Bytes::copy_from_slice(self.here());
            return Err(ReadError::Size { length: length.into(), head });
        };
        self.start += 4;
        let large = length >= spares::LEAST;
        let mut frame = if large { self.spares.take(length) } else { Vec::with_capacity(length) };
        self.give(&mut frame, length);
        let tries = self.tries;
        while frame.len() < length {
            let missing = length - frame.len();
            let n = if missing >= READ_CHUNK / 2 {
                spares::make_room(&mut frame, length);
                let room = frame.capacity() - frame.len();
                // Once in an answer is often enough to find that it takes too long.
                let gather = self.tries == tries;
                self.read_to(io, &mut frame, missing.min(room), gather).await?
            } else {
                // The tail shares a system call with the answers behind it.
                self.wake_at(io, 1);
                let n = self.fill(io).await?;
                frame.reserve_exact(missing);
                self.give(&mut frame, missing);
                n
            };
            if n == 0 {
                return Err(ReadError::End { rest: frame.into() });
            }
        }
        self.wake_at(io, 1);
        if length >= gather::LEAST && self.tries == tries && tries > 0 {
            self.tries = GATHER_TRIES;
        }
        Ok(if large { self.spares.lend(frame) } else { frame.into() })
    }

    /// Reads what there is, up to `most` bytes, straight to `frame`; 0 at the end of the stream. With `gather` it may sleep until
    /// much of it is there.
    async fn read_to<R>(
        &mut self,
        io: &mut R,
        frame: &mut Vec<u8>,
        most: usize,
        gather: bool,
    ) -> Result<usize, ReadError>
    where
        R: AsyncRead + Gather + Unpin,
    {
        let mut exact = frame.limit(most);
        if gather && self.tries > 0 && most >= gather::LEAST {
            self.wake_at(io, most.min(gather::MOST));
            if self.mark > 1 {
                match timeout(gather::PATIENCE, io.read_buf(&mut exact)).await {
                    Ok(read) => return read_or_end(read),
                    Err(_) => self.tries -= 1,
                }
            }
        }
        self.wake_at(io, 1);
        read_or_end(io.read_buf(&mut exact).await)
    }

    fn wake_at(&mut self, io: &impl Gather, bytes: usize) {
        if self.mark != bytes && io.wake_at(bytes) {
            self.mark = bytes;
        }
    }

    fn here(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Moves up to `most` bytes to `frame`.
    fn give(&mut self, frame: &mut Vec<u8>, most: usize) {
        let n = most.min(self.end - self.start);
        frame.put_slice(&self.buffer[self.start..self.start + n]);
        self.start += n;
    }

    /// Reads what the socket has and there is room for; 0 at the end of the stream.
    async fn fill<R: AsyncRead + Unpin>(&mut self, io: &mut R) -> Result<usize, ReadError> {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.start > 0 && self.buffer.len() - self.end < READ_CHUNK / 2 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let n = read_or_end(io.read(&mut self.buffer[self.end..]).await)?;
        self.end += n;
        Ok(n)
    }
}

/// Reads `stream`, which gives at most `piece` bytes at a time, as a connection reads its socket, and hands each frame to
/// `each`. Says why there was no further one. For tests that feed it bytes no broker would send.
#[doc(hidden)]
pub fn frames_of(stream: &[u8], piece: usize, max: usize, mut each: impl FnMut(Bytes)) -> CloseReason {
    let mut pieces = Pieces { rest: stream, piece: piece.max(1) };
    let mut reader = FrameReader::new();
    let mut context = Context::from_waker(Waker::noop());
    loop {
        match pin!(reader.next(&mut pieces, max)).poll(&mut context) {
            Poll::Ready(Ok(frame)) => each(frame),
            Poll::Ready(Err(error)) => return error.into_reason(max),
            Poll::Pending => unreachable!("a slice never waits"),
        }
    }
}

/// A stream of bytes that are all there.
struct Pieces<'a> {
    rest: &'a [u8],
    piece: usize,
}

impl Gather for Pieces<'_> {}

impl AsyncRead for Pieces<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let (piece, rest) = self.rest.split_at(self.piece.min(buf.remaining()).min(self.rest.len()));
        buf.put_slice(piece);
        self.rest = rest;
        Poll::Ready(Ok(()))
    }
}

/// TLS reports a broker that was killed, and could not say that nothing more comes, as an error. Frames have lengths: nobody
/// can cut them off unnoticed, so it is an end like any other.
fn read_or_end(read: io::Result<usize>) -> Result<usize, ReadError> {
    match read {
        Err(e) if e.kind() == io::ErrorKind::UnexpectedEof => Ok(0),
        read => read.map_err(ReadError::Io),
    }
}

/// A frame on its way out.
#[derive(Debug)]
pub(super) struct Outgoing {
    pub(super) frame: Frame,
    /// Told when the last byte was handed to the operating system, of a request that has no answer.
    pub(super) written: Option<Written>,
}

/// Who waits for the writing, or did, and the place of the request among those in flight: it is free when the request is
/// written, not when nobody waits any more, or such requests would gather without end.
#[derive(Debug)]
pub(super) struct Written {
    pub(super) told: oneshot::Sender<()>,
    pub(super) _room: OwnedSemaphorePermit,
}

impl Written {
    pub(super) fn tell(self) {
        // Nobody may be waiting any more.
        let _ = self.told.send(());
    }
}

/// The writing half: the socket, and the frames that were given to it and are not wholly written.
#[derive(Debug)]
pub(super) struct FrameWriter<W = Writing> {
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
    fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize>;

    /// Hands on what was taken and is still held back, as TLS does.
    fn try_flush(&mut self) -> io::Result<()>;

    fn is_flushed(&self) -> bool;

    /// The frame that somebody waits for was taken wholly. He is told when nothing of it is held back.
    fn written(&mut self, written: Written);

    /// As `try_write_vectored`, and registers to be woken when it would block.
    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>>;

    /// As `try_flush`, and registers to be woken when it would block.
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
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

    /// Bytes written since the connection began.
    pub(super) const fn position(&self) -> u64 {
        self.position
    }

    /// Bytes written once all frames here are.
    pub(super) const fn end(&self) -> u64 {
        self.end
    }
}

impl FrameWriter {
    /// Says that nothing more comes, or registers to be woken when the socket takes that. Only behind the last frame.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_shutdown(cx)
    }
}

impl<W: TryWrite> FrameWriter<W> {
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
                self.io.written(written);
            }
        }
        Ok(())
    }

    /// Whether nothing is left to do.
    pub(super) fn is_empty(&self) -> bool {
        self.frames.is_empty() && self.io.is_flushed()
    }

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
        match self.io.try_flush() {
            Ok(()) => Ok(true),
            Err(e) if e.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Writes some of what there is, or registers to be woken when the socket takes more.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.frames.is_empty() {
            return self.io.poll_flush(cx);
        }
        let mut slices = [IoSlice::new(&[]); SLICES];
        let count = gather(&self.frames, self.done, &mut slices);
        let n = ready!(self.io.poll_write_vectored(cx, &slices[..count]))?;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::{PartitionProduceData, ProduceRequest, TopicProduceData};
    use parking_lot::Mutex;
    use proptest::prelude::*;

    fn block<F: Future>(future: F) -> F::Output {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    /// Feeds `stream` in pieces of the given sizes (cycled) and collects the frames until the end.
    fn read_all(stream: &[u8], pieces: &[usize], max: usize) -> (Vec<Bytes>, ReadError) {
        let mut rest = stream;
        let mut mock = tokio_pieces(pieces.iter().cycle().map_while(|n| {
            let (piece, after) = rest.split_at((*n).min(rest.len()));
            rest = after;
            (!piece.is_empty()).then_some(piece)
        }));
        let mut reader = FrameReader::new();
        let mut frames = Vec::new();
        loop {
            match block(reader.next(&mut mock, max)) {
                Ok(frame) => frames.push(frame),
                Err(e) => return (frames, e),
            }
        }
    }

    /// A stream that gives one piece a read.
    fn tokio_pieces<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> impl AsyncRead + Gather + Unpin {
        struct Pieces(VecDeque<Vec<u8>>);
        impl Gather for Pieces {}
        impl AsyncRead for Pieces {
            fn poll_read(
                mut self: Pin<&mut Self>,
                _: &mut Context<'_>,
                buf: &mut tokio::io::ReadBuf<'_>,
            ) -> Poll<io::Result<()>> {
                if let Some(mut piece) = self.0.pop_front() {
                    let rest = piece.split_off(piece.len().min(buf.remaining()));
                    buf.put_slice(&piece);
                    if !rest.is_empty() {
                        self.0.push_front(rest);
                    }
                }
                Poll::Ready(Ok(()))
            }
        }
        Pieces(pieces.map(<[u8]>::to_vec).collect())
    }

    proptest! {
        #[test]
        fn frames_come_out_as_they_went_in_however_they_are_cut(
            sizes in prop::collection::vec(prop_oneof![0usize..40, 10_000usize..70_000], 0..12),
            pieces in prop::collection::vec(1usize..40_000, 1..6),
            cut in 0usize..8,
        ) {
            let frames: Vec<Vec<u8>> =
                sizes.iter().enumerate().map(|(i, n)| (0..*n).map(|j| (i + j) as u8).collect()).collect();
            let mut stream: Vec<u8> = Vec::new();
            for f in &frames {
                stream.extend((f.len() as u32).to_be_bytes());
                stream.extend(f);
            }
            stream.truncate(stream.len().saturating_sub(cut));
            let (read, end) = read_all(&stream, &pieces, 1 << 20);
            let mut whole = 0;
            let complete = frames.iter().take_while(|f| {
                whole += 4 + f.len();
                whole <= stream.len()
            });
            let complete: Vec<&Vec<u8>> = complete.collect();
            prop_assert_eq!(read.len(), complete.len());
            prop_assert!(read.iter().zip(complete).all(|(r, c)| r == c));
            let ended = matches!(end, ReadError::End { .. });
            prop_assert!(ended);
        }
    }

    #[test]
    fn a_length_out_of_bounds_is_found_before_anything_is_allocated() {
        for (stream, said) in [(&b"HTTP/1.1 400"[..], 0x4854_5450i64), (&[0xff; 4][..], -1)] {
            match read_all(stream, &[64], 1 << 20) {
                (frames, ReadError::Size { length, head }) => {
                    assert_eq!((frames.len(), length, &head[..]), (0, said, stream));
                }
                other => panic!("{other:?}"),
            }
        }
        // The bound itself is allowed.
        let (frames, _) = read_all(&[0, 0, 0, 2, 7, 7], &[64], 2);
        assert_eq!(frames, [&[7, 7][..]]);
    }

    /// A socket that takes `takes` bytes a write, then none.
    struct Stingy {
        takes: Mutex<VecDeque<usize>>,
        got: Mutex<Vec<u8>>,
    }

    impl TryWrite for Stingy {
        fn try_flush(&mut self) -> io::Result<()> {
            Ok(())
        }

        fn is_flushed(&self) -> bool {
            true
        }

        fn written(&mut self, written: Written) {
            written.tell();
        }

        fn poll_write_vectored(&mut self, _: &mut Context<'_>, _: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
            Poll::Pending
        }

        fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }

        fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
            let Some(most) = self.takes.lock().pop_front() else {
                return Err(io::ErrorKind::WouldBlock.into());
            };
            let mut got = self.got.lock();
            let before = got.len();
            for slice in slices {
                let n = slice.len().min(most - (got.len() - before));
                got.extend_from_slice(&slice[..n]);
            }
            Ok(got.len() - before)
        }
    }

    fn produce(sizes: &[usize]) -> Outgoing {
        let data = |(i, n): (usize, &usize)| PartitionProduceData {
            index: i as i32,
            records: Some(vec![i as u8; *n].into()),
        };
        let partition_data = sizes.iter().enumerate().map(data).collect();
        let topic_data = vec![TopicProduceData { name: "t".into(), partition_data, ..Default::default() }];
        let request = ProduceRequest { topic_data, ..Default::default() };
        Outgoing { frame: crate::wire::frame(&request, 9, 1, "c"), written: None }
    }

    proptest! {
        #[test]
        fn every_byte_is_written_once_and_in_order(
            frames in prop::collection::vec(prop::collection::vec(0usize..3000, 0..150), 1..4),
            takes in prop::collection::vec(1usize..5000, 1..50),
        ) {
            let mut queue: VecDeque<Outgoing> = frames.iter().map(|sizes| produce(sizes)).collect();
            let expected: Vec<u8> =
                queue.iter().flat_map(|o| o.frame.segments().flatten().copied().collect::<Vec<u8>>()).collect();
            let stingy = Stingy { takes: Mutex::new(takes.into()), got: Mutex::default() };
            let mut writer = FrameWriter::new(stingy);
            writer.take(&mut queue);
            prop_assert_eq!(writer.end(), expected.len() as u64);
            let mut rounds = 0;
            while !writer.try_write().unwrap() {
                let got = writer.io.got.lock().len();
                prop_assert_eq!(writer.position(), got as u64);
                writer.io.takes.lock().push_back(100_000);
                rounds += 1;
                prop_assert!(rounds < 100, "no progress");
            }
            prop_assert!(writer.is_empty() && writer.position() == writer.end());
            prop_assert_eq!(&*writer.io.got.lock(), &expected);
        }
    }

    #[test]
    fn a_large_request_of_a_few_batches_is_one_write() {
        let mut queue: VecDeque<Outgoing> = [produce(&[1 << 20; 4]), produce(&[10])].into();
        let stingy = Stingy { takes: Mutex::new([usize::MAX].into()), got: Mutex::default() };
        let mut writer = FrameWriter::new(stingy);
        writer.take(&mut queue);
        assert!(writer.try_write().unwrap(), "one system call has to do");
    }
}
