//! The bytes of a connection, in the clear or by TLS.
//!
//! The clear way is as if there were no other: its halves are those of the socket. The halves of TLS share a session behind a
//! lock, held for one poll. TLS takes more than it hands to the socket (a record is encrypted whole), so its writing half
//! remembers that something may be left to flush, and who is to be told when nothing is: what a request with acks=0 waits for
//! is that the operating system has it, or the end of the connection could lose what was called written.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio_rustls::client::TlsStream;

use super::error::ConnectError;
use super::frames::{TryWrite, Written};
use super::tls::Asked;
use crate::config::BrokerAddress;

/// A socket while a connection is opened.
pub(super) enum Stream {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>, Asked),
}

/// Where answers come from.
pub(super) enum Reading {
    Plain(OwnedReadHalf),
    Tls(ReadHalf<TlsStream<TcpStream>>),
}

/// Where requests go. Moved from place to place with each request: in a box TLS adds nothing to its size.
#[derive(Debug)]
pub(super) enum Writing {
    Plain(OwnedWriteHalf),
    Tls(Box<TlsWriting>),
}

impl Stream {
    pub(super) fn into_split(self) -> (Reading, Writing) {
        match self {
            Self::Plain(socket) => {
                let (read, write) = socket.into_split();
                (Reading::Plain(read), Writing::Plain(write))
            }
            Self::Tls(stream, _) => {
                let (read, write) = tokio::io::split(*stream);
                (
                    Reading::Tls(read),
                    Writing::Tls(Box::new(TlsWriting { io: write, unflushed: false, written: Vec::new() })),
                )
            }
        }
    }

    /// What an error, or the end, of the stream means when that is a matter of TLS.
    pub(super) fn explain(&self, address: &BrokerAddress, error: Option<&io::Error>) -> Option<ConnectError> {
        match (self, error) {
            (Self::Plain(_), _) => None,
            (Self::Tls(_, asked), Some(error)) => asked.explain(address, error),
            (Self::Tls(_, asked), None) => asked.explain_end(address),
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_read(cx, buf),
            Self::Tls(stream, _) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_write(cx, buf),
            Self::Tls(stream, _) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_flush(cx),
            Self::Tls(stream, _) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Plain(socket) => Pin::new(socket).poll_shutdown(cx),
            Self::Tls(stream, _) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl Writing {
    /// Says that nothing more comes. Dropping it closes the sending half.
    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => Pin::new(&mut tls.io).poll_shutdown(cx),
        }
    }
}

impl TryWrite for Writing {
    fn try_write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => socket.try_write_vectored(slices),
            Self::Tls(tls) => at_once(tls.poll_write_vectored(&mut nobody(), slices)),
        }
    }

    fn try_flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tls) => at_once(tls.poll_flush(&mut nobody())),
        }
    }

    fn is_flushed(&self) -> bool {
        match self {
            Self::Plain(_) => true,
            Self::Tls(tls) => !tls.unflushed,
        }
    }

    fn written(&mut self, written: Written) {
        match self {
            Self::Plain(_) => written.tell(),
            Self::Tls(tls) => tls.written.push(written),
        }
    }

    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self {
            Self::Plain(socket) => Pin::new(socket).poll_write_vectored(cx, slices),
            Self::Tls(tls) => tls.poll_write_vectored(cx, slices),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Plain(_) => Poll::Ready(Ok(())),
            Self::Tls(tls) => tls.poll_flush(cx),
        }
    }
}

/// A poll that is not repeated: whoever writes without waiting hands over to a task when the socket is full.
fn nobody() -> Context<'static> {
    Context::from_waker(Waker::noop())
}

fn at_once<T>(poll: Poll<io::Result<T>>) -> io::Result<T> {
    match poll {
        Poll::Ready(result) => result,
        Poll::Pending => Err(io::ErrorKind::WouldBlock.into()),
    }
}

/// The writing half of TLS. Dropping it tells the broker that nothing more comes (close_notify), if the socket takes that.
#[derive(Debug)]
pub(super) struct TlsWriting {
    io: WriteHalf<TlsStream<TcpStream>>,
    /// Whether the session may hold ciphertext the socket has not taken.
    unflushed: bool,
    /// Who waits for that to end. Bounded by the requests that were taken since the last flush.
    written: Vec<Written>,
}

impl TlsWriting {
    fn poll_write_vectored(
        &mut self,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.unflushed = true;
        Pin::new(&mut self.io).poll_write_vectored(cx, slices)
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.unflushed {
            ready!(Pin::new(&mut self.io).poll_flush(cx))?;
            self.unflushed = false;
            for written in self.written.drain(..) {
                written.tell();
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Drop for TlsWriting {
    fn drop(&mut self) {
        // Once, without waiting: what the broker cannot be told it will see by the socket's end.
        let _ = Pin::new(&mut self.io).poll_shutdown(&mut nobody());
    }
}

#[test]
fn the_clear_way_has_the_size_of_its_socket() {
    assert_eq!(size_of::<Writing>(), size_of::<OwnedWriteHalf>());
}
