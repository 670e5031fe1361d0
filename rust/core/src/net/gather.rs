//! Letting the reader of a large answer sleep until much of it is there.
//!
//! A broker hands an answer to its socket in pieces of what that takes, some 256 KB, and each would wake the reading task: a
//! switch of threads, two system calls and a turn of the runtime, for a quarter of a megabyte. Linux lets a reader sleep until a
//! mark is reached (SO_RCVLOWAT, socket(7)), while the broker goes on: its bytes are acknowledged when they have come, not when
//! they are read. Measured in docs/DESIGN.md, "What the hot paths cost".
//!
//! The mark is never above what is missing of the answer, and set back behind it; when it is lowered to what is there already the
//! system wakes the reader (since Linux 4.18). What it may do wrong is in the time it takes: kernels before 5.10 could let the
//! window close below the mark and then wake nobody. So whoever waits for a mark waits for [`PATIENCE`] at most, then goes on
//! without it.

use std::time::Duration;

use tokio::io::ReadHalf;
use tokio::net::TcpStream;
use tokio::net::tcp::OwnedReadHalf;
use tokio_rustls::client::TlsStream;

use super::stream::Stream;

/// The highest mark: as many wake-ups less as it has pieces. The system grows the socket's buffer to twice of it, if it may.
pub(super) const MOST: usize = 1 << 20;
/// The lowest one that is worth its system calls.
pub(super) const LEAST: usize = 64 << 10;
/// How long a mark is waited for. An answer that comes faster than 10 MB a second reaches each within it.
pub(super) const PATIENCE: Duration = Duration::from_millis(100);

/// Where bytes come from, and how many of them are worth a wake-up.
pub(super) trait Gather {
    /// Asks that whoever waits for bytes is woken when `bytes` are there, or none come any more. Says whether it is so now; if
    /// not, the first byte wakes.
    fn wake_at(&self, bytes: usize) -> bool {
        let _ = bytes;
        false
    }
}

impl Gather for OwnedReadHalf {
    fn wake_at(&self, bytes: usize) -> bool {
        set_low_mark(self.as_ref(), bytes)
    }
}

/// What is missing in the clear says nothing of what is missing on the socket: some of it may have come, and wait for the rest of
/// its TLS record.
impl Gather for ReadHalf<TlsStream<TcpStream>> {}

/// What is said before anything is fetched is small.
impl Gather for Stream {}

#[cfg(target_os = "linux")]
fn set_low_mark(socket: &TcpStream, bytes: usize) -> bool {
    use std::os::fd::AsRawFd;

    let mark = libc::c_int::try_from(bytes).unwrap_or(libc::c_int::MAX);
    // No safe function of a crate we have sets this one.
    // SAFETY: the descriptor is open as long as the socket is borrowed; the value is an int, as the option wants it, that lives
    // through the call, which keeps no pointer to it.
    #[allow(unsafe_code)]
    let done = unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_RCVLOWAT,
            (&raw const mark).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    done == 0
}

#[cfg(not(target_os = "linux"))]
fn set_low_mark(_: &TcpStream, _: usize) -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::cell::Cell;
    use std::pin::Pin;
    use std::task::{Context, Poll, ready};
    use std::time::Instant;

    use bytes::Bytes;
    use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf};
    use tokio::net::TcpListener;
    use tokio::net::tcp::OwnedWriteHalf;

    use super::super::frames::{FrameReader, ReadError};
    use super::*;

    const MAX: usize = 64 << 20;

    /// The two ends of a connection.
    async fn pair() -> (Counting, OwnedWriteHalf) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (theirs, _) = listener.accept().await.unwrap();
        theirs.set_nodelay(true).unwrap();
        let io = Counting { io: ours.into_split().0, reads: 0, marks: Cell::new(0) };
        (io, theirs.into_split().1)
    }

    /// Counts the reads that brought something, and the marks above one byte.
    struct Counting {
        io: OwnedReadHalf,
        reads: usize,
        marks: Cell<usize>,
    }

    impl AsyncRead for Counting {
        fn poll_read(
            mut self: Pin<&mut Self>,
            cx: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<std::io::Result<()>> {
            let read = ready!(Pin::new(&mut self.io).poll_read(cx, buf));
            self.reads += 1;
            Poll::Ready(read)
        }
    }

    impl Gather for Counting {
        fn wake_at(&self, bytes: usize) -> bool {
            self.marks.set(self.marks.get() + usize::from(bytes > 1));
            self.io.wake_at(bytes)
        }
    }

    fn frame(length: usize) -> Vec<u8> {
        let body = (0..length).map(|i| (i % 251) as u8);
        (length as u32).to_be_bytes().into_iter().chain(body).collect()
    }

    async fn next(reader: &mut FrameReader, io: &mut Counting) -> Bytes {
        let frame = tokio::time::timeout(Duration::from_secs(20), reader.next(io, MAX)).await;
        frame.expect("the reader was not woken").unwrap()
    }

    #[tokio::test]
    async fn a_large_answer_wakes_its_reader_a_few_times_and_is_whole() {
        let (mut io, mut far) = pair().await;
        let sent = frame(6 << 20);
        let expected = sent.clone();
        tokio::spawn(async move {
            for piece in sent.chunks(64 << 10) {
                far.write_all(piece).await.unwrap();
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            far.write_all(&frame(5)).await.unwrap();
            std::future::pending::<()>().await;
        });
        let mut reader = FrameReader::new();
        assert_eq!(next(&mut reader, &mut io).await, expected[4..]);
        // 96 pieces.
        assert!(io.reads < 40, "{} reads", io.reads);
        assert_eq!(next(&mut reader, &mut io).await, frame(5)[4..]);
    }

    #[tokio::test]
    async fn an_answer_that_stops_halfway_holds_nothing_up_and_after_three_of_them_no_mark_is_set() {
        let (mut io, mut far) = pair().await;
        tokio::spawn(async move {
            for _ in 0..5 {
                let large = frame(2 << 20);
                far.write_all(&large[..300_000]).await.unwrap();
                tokio::time::sleep(PATIENCE * 3).await;
                far.write_all(&large[300_000..]).await.unwrap();
                // Comes alone, so nothing else brings a mark's worth of bytes.
                tokio::time::sleep(Duration::from_millis(20)).await;
                far.write_all(&frame(10)).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            std::future::pending::<()>().await;
        });
        let mut reader = FrameReader::new();
        let mut marks = Vec::new();
        for _ in 0..5 {
            let before = io.marks.get();
            assert_eq!(next(&mut reader, &mut io).await, frame(2 << 20)[4..]);
            assert_eq!(next(&mut reader, &mut io).await, frame(10)[4..]);
            marks.push(io.marks.get() > before);
        }
        assert_eq!(marks, [true, true, true, false, false]);
    }

    #[tokio::test]
    async fn the_end_of_the_stream_wakes_below_a_mark() {
        // On a machine that is busy a moment may be longer than it should.
        for attempt in 1.. {
            let (mut io, mut far) = pair().await;
            far.write_all(&frame(4 << 20)[..200_000]).await.unwrap();
            let closing = tokio::spawn(async move {
                tokio::time::sleep(PATIENCE / 4).await;
                drop(far);
                Instant::now()
            });
            let end = FrameReader::new().next(&mut io, MAX).await;
            assert!(matches!(end, Err(ReadError::End { .. })), "{end:?}");
            if closing.await.unwrap().elapsed() < PATIENCE / 2 {
                return;
            }
            assert!(attempt < 5, "only the end of the patience woke the reader");
        }
    }
}
