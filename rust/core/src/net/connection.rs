//! Pipelined requests on one socket, and their answers in order.
//!
//! How it works. A caller encodes its request on its own thread, takes the lock for as long as it takes to queue the
//! frame and its waiting place, and - if nobody else is writing - writes what is queued itself, without waiting: in
//! the common case a request is one vectored write on the thread that has just built it, with no hand-off to a
//! writer task. Who finds another thread writing leaves its frame in the queue; the writer takes it along. When the
//! socket takes no more, a task is started that waits for it and writes the rest; it ends when the queue is empty.
//! One task reads. Kafka answers in the order of the requests, so an answer must belong to the first waiting place
//! (its correlation id is checked); it is decoded by the caller, so a large answer does not hold up the next.
//!
//! Bounds. At most [`ConnectionOptions::max_in_flight`] requests are unanswered, the next caller waits. An answer has
//! at most [`ConnectionOptions::max_frame`] bytes. Every call has a time-out.
//!
//! Failing. A connection fails once and for all: end of stream, an error, an answer out of order, a call that timed
//! out (a broker that does not answer holds up everything behind it). Every call in flight then ends with an error
//! that says whether bytes of it may have left. What has been offered to the operating system counts as left: while
//! a write is under way on another thread that is everything the writer has taken from the queue.
//!
//! A broker may put an end to the time it takes us for who we are; `session` renews it before.

mod options;
mod reading;
mod session;
#[cfg(all(test, unix))]
mod tests;

use std::collections::VecDeque;
use std::future::poll_fn;
use std::marker::PhantomData;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::task::{Context, Waker};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};

use super::error::{CallError, CloseReason, ConnectError};
use super::frames::{FrameWriter, Outgoing, Written};
use super::handshake::{self, Versions};
use super::stream::Reading;
use crate::config::BrokerAddress;
use crate::wire::{ApiKey, Request, correlation_id, decode_response, frame};

pub use options::ConnectionOptions;

/// Rounds of taking along other callers' frames before the writing is handed to a task: a caller must get its own
/// thread back.
const ROUNDS: usize = 8;

/// One connection to one broker. Dropping it closes it.
#[derive(Debug)]
pub struct Connection {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    broker: Arc<str>,
    peer: SocketAddr,
    client_id: Arc<str>,
    versions: Versions,
    max_frame: usize,
    opened: Instant,
    runtime: Handle,
    room: Arc<Semaphore>,
    correlation: AtomicI32,
    state: Mutex<State>,
    /// Ends the tasks.
    stop: Notify,
}

#[derive(Debug)]
struct State {
    /// Frames nobody has taken for writing.
    queue: VecDeque<Outgoing>,
    /// Where the last queued frame ends, in bytes since the connection began.
    end: u64,
    /// Up to where bytes may have left.
    offered: u64,
    /// Absent while somebody writes, and after the end.
    writer: Option<FrameWriter>,
    /// Requests without an answer, in the order of their frames.
    waiting: VecDeque<Waiting>,
    /// Nothing more is taken; the writer ends when it has written what it has.
    finishing: bool,
    closed: Option<Closed>,
}

#[derive(Debug, Clone)]
struct Closed {
    reason: CloseReason,
    at: Instant,
}

#[derive(Debug)]
struct Waiting {
    correlation: i32,
    /// Where its frame begins, in bytes since the connection began.
    start: u64,
    answer: oneshot::Sender<Result<Bytes, Broken>>,
    /// A request of the session itself has none: it goes when all places are taken.
    _room: Option<OwnedSemaphorePermit>,
}

/// The end of the connection as one call sees it.
#[derive(Debug)]
struct Broken {
    reason: CloseReason,
    possibly_written: bool,
}

impl Broken {
    fn into_error(self, api: ApiKey, broker: &Arc<str>) -> CallError {
        let (reason, broker) = (self.reason, broker.clone());
        if self.possibly_written {
            CallError::PossiblyWritten { api, broker, reason }
        } else {
            CallError::NotSent { api, broker, reason }
        }
    }
}

impl Connection {
    /// Connects to any address of the name and asks which versions the broker speaks (ApiVersions, KIP-511).
    ///
    /// Needs a tokio runtime with time and I/O. Ends within `connect_timeout`. Cancel-safe: dropping it closes what was begun.
    pub async fn connect(address: &BrokerAddress, options: &ConnectionOptions) -> Result<Self, ConnectError> {
        Self::connect_within(address, options, options.connect_timeout).await
    }

    /// As [`connect`](Self::connect), within `budget`.
    pub(crate) async fn connect_within(
        address: &BrokerAddress,
        options: &ConnectionOptions,
        budget: Duration,
    ) -> Result<Self, ConnectError> {
        let opened = handshake::open(address, options, budget).await?;
        let (read, write) = opened.stream.into_split();
        let max_in_flight = options.max_in_flight.max(1);
        let shared = Arc::new(Shared {
            broker: address.to_string().into(),
            peer: opened.peer,
            client_id: options.client_id.clone(),
            versions: opened.versions,
            max_frame: options.max_frame,
            opened: Instant::now(),
            runtime: Handle::current(),
            room: Arc::new(Semaphore::new(max_in_flight)),
            correlation: AtomicI32::new(opened.next_correlation),
            state: Mutex::new(State {
                queue: VecDeque::new(),
                end: 0,
                offered: 0,
                writer: Some(FrameWriter::new(write)),
                waiting: VecDeque::new(),
                finishing: false,
                closed: None,
            }),
            stop: Notify::new(),
        });
        match read {
            Reading::Plain(read) => tokio::spawn(reading::run(shared.clone(), opened.reader, read)),
            Reading::Tls(read) => tokio::spawn(reading::run(shared.clone(), opened.reader, read)),
        };
        if let (Some(user), Some(lifetime)) = (&options.security.sasl, opened.session) {
            let (address, user, within) = (address.clone(), user.clone(), options.connect_timeout);
            let session = session::Session { address, user, within, max_in_flight };
            tokio::spawn(session.keep(shared.clone(), lifetime));
        }
        Ok(Self { shared })
    }

    /// Sends a request and waits for its answer, `timeout` in all.
    ///
    /// Any number of calls may be under way, the broker carries them out in the order of their first polls. When the
    /// time is over the connection is closed: what a broker does not answer holds up everything behind it.
    ///
    /// # Cancel safety
    /// Dropping the future abandons the answer, not the connection. The request may be carried out all the same.
    pub async fn call<R: Request>(&self, request: &R, within: Duration) -> Result<R::Response, CallError> {
        self.call_then(request, within, || ()).await
    }

    /// As [`call`](Self::call); calls `handed_over` when the request has its place in the order of all, or has none.
    pub(crate) async fn call_then<R: Request>(
        &self,
        request: &R,
        within: Duration,
        handed_over: impl FnOnce(),
    ) -> Result<R::Response, CallError> {
        let deadline = Instant::now() + within;
        let version = self.shared.speak(request)?;
        let room = self.shared.room(R::KEY, deadline, within).await?;
        let pending = self.shared.start(request, version, Some(room))?;
        handed_over();
        pending.answer_by(deadline, within).await
    }

    /// Sends a request at once and returns the place where its answer will be. Never waits: with `max_in_flight`
    /// requests under way, or while a session is renewed, it returns `None`. Requests started one after the other are written in that order.
    pub fn start<R: Request>(&self, request: &R) -> Result<Option<Pending<R>>, CallError> {
        let version = self.shared.speak(request)?;
        match self.shared.room.clone().try_acquire_owned() {
            Ok(room) => self.shared.start(request, version, Some(room)).map(Some),
            Err(_) => Ok(None),
        }
    }

    /// Sends a request the broker does not answer (Produce with acks=0) and waits until the operating system has all
    /// of it, `timeout` at most; that wait is the back-pressure.
    ///
    /// # Cancel safety
    /// Dropping the future does not take the request back.
    pub async fn send_only<R: Request>(&self, request: &R, within: Duration) -> Result<(), CallError> {
        self.send_only_then(request, within, || ()).await
    }

    /// As [`send_only`](Self::send_only); calls `handed_over` when the request has its place in the order of all, or has none.
    pub(crate) async fn send_only_then<R: Request>(
        &self,
        request: &R,
        within: Duration,
        handed_over: impl FnOnce(),
    ) -> Result<(), CallError> {
        let deadline = Instant::now() + within;
        let shared = &self.shared;
        let version = shared.speak(request)?;
        let room = shared.room(R::KEY, deadline, within).await?;
        let frame = frame(request, version, shared.next_correlation(), &shared.client_id);
        let (told, done) = oneshot::channel();
        let start = shared
            .submit(Outgoing { frame, written: Some(Written { told, _room: room }) }, None)
            .map_err(|broken| broken.into_error(R::KEY, &shared.broker))?;
        handed_over();
        match timeout_at(deadline, done).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => {
                // The frame was dropped unwritten: the connection is closed, and knows how much it had written.
                let state = shared.state.lock();
                let reason = state.closed.as_ref().map_or(CloseReason::Local, |c| c.reason.clone());
                Err(Broken { reason, possibly_written: start < state.offered }
                    .into_error(R::KEY, &shared.broker))
            }
            Err(_) => {
                shared.close(CloseReason::TimedOut { api: R::KEY, after: within });
                let possibly_written = start < shared.state.lock().offered;
                Err(CallError::Timeout {
                    api: R::KEY,
                    broker: shared.broker.clone(),
                    after: within,
                    possibly_written,
                })
            }
        }
    }

    /// The version requests of type `R` are sent with: the highest both sides speak. One that says so itself goes in an older
    /// one ([`Request::up_to`]).
    pub fn version_of<R: Request>(&self) -> Option<i16> {
        self.shared.versions.common::<R>()
    }

    /// Whether the connection has ended. It never comes back.
    pub fn is_closed(&self) -> bool {
        self.shared.state.lock().closed.is_some()
    }

    /// Why the connection ended and how long it had lived; `None` while it lives.
    pub fn end(&self) -> Option<(CloseReason, Duration)> {
        let state = self.shared.state.lock();
        state.closed.as_ref().map(|c| (c.reason.clone(), c.at - self.shared.opened))
    }

    /// The broker as `host:port`, as it was asked for.
    pub fn broker(&self) -> &Arc<str> {
        &self.shared.broker
    }

    /// The address behind the name.
    pub fn peer(&self) -> SocketAddr {
        self.shared.peer
    }

    /// Requests without an answer.
    pub fn in_flight(&self) -> usize {
        self.shared.state.lock().waiting.len()
    }

    /// Takes no more requests, and says behind what was sent that nothing more comes: a broker that has read all of it closes
    /// the connection, see [`ended`](Self::ended). Answers still come.
    ///
    /// Only who waits for that knows that all of it was read: when data comes back to a socket that was closed, the broker's
    /// system throws away what the broker has not read yet.
    pub(crate) fn finish(&self) {
        let writer = {
            let mut state = self.shared.state.lock();
            state.finishing = true;
            state.writer.take()
        };
        // Somebody who writes now does it when all is written.
        if let Some(writer) = writer {
            self.shared.take_leave(writer);
        }
    }

    /// Waits until the connection has ended, for ever if it does not.
    pub(crate) async fn ended(&self) {
        self.shared.ended().await;
    }

    /// Closes the socket and ends the tasks. Calls in flight fail at once and say whether bytes of them may have left.
    pub fn close(&self) {
        self.shared.close(CloseReason::Local);
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.close();
    }
}

/// The answer to a request that was started. Dropping it abandons the answer, not the connection.
#[derive(Debug)]
pub struct Pending<R> {
    shared: Arc<Shared>,
    version: i16,
    answer: oneshot::Receiver<Result<Bytes, Broken>>,
    of: PhantomData<fn() -> R>,
}

impl<R: Request> Pending<R> {
    /// Waits for the answer. When `within` is over the connection is closed.
    pub async fn answer(self, within: Duration) -> Result<R::Response, CallError> {
        self.answer_by(Instant::now() + within, within).await
    }

    async fn answer_by(mut self, deadline: Instant, within: Duration) -> Result<R::Response, CallError> {
        let (api, broker) = (R::KEY, &self.shared.broker);
        match timeout_at(deadline, &mut self.answer).await {
            Ok(Ok(Ok(bytes))) => match decode_response::<R>(bytes, self.version) {
                Ok((_, response)) => Ok(response),
                Err(e) => {
                    let (version, source) = (self.version, Arc::new(e));
                    Err(CallError::Decode { api, broker: broker.clone(), version, source })
                }
            },
            Ok(Ok(Err(broken))) => Err(broken.into_error(api, broker)),
            Ok(Err(_)) => {
                // A waiting place is always told before it is dropped; if ever not, assume the worse.
                let broken = Broken { reason: CloseReason::Local, possibly_written: true };
                Err(broken.into_error(api, broker))
            }
            Err(_) => {
                self.shared.close(CloseReason::TimedOut { api, after: within });
                // Closing has told this waiting place too, and it knows whether bytes had left.
                let possibly_written =
                    self.answer.try_recv().map_or(true, |a| a.map_or_else(|b| b.possibly_written, |_| true));
                Err(CallError::Timeout { api, broker: broker.clone(), after: within, possibly_written })
            }
        }
    }
}

impl Shared {
    fn speak<R: Request>(&self, request: &R) -> Result<i16, CallError> {
        let (from, up_to) = (request.from(), request.up_to());
        let version = self.versions.common_up_to::<R>(up_to).filter(|version| *version >= from);
        version.ok_or_else(|| CallError::Unsupported {
            api: R::KEY,
            broker: self.broker.clone(),
            ours: (from, R::VERSIONS.1),
            theirs: self.versions.of(R::KEY),
        })
    }

    fn next_correlation(&self) -> i32 {
        self.correlation.fetch_add(1, Ordering::Relaxed)
    }

    /// Waits for room among the requests in flight.
    async fn room(
        &self,
        api: ApiKey,
        deadline: Instant,
        within: Duration,
    ) -> Result<OwnedSemaphorePermit, CallError> {
        let broker = self.broker.clone();
        match timeout_at(deadline, self.room.clone().acquire_owned()).await {
            Ok(Ok(room)) => Ok(room),
            Ok(Err(_)) => Err(CallError::NotSent { api, broker, reason: self.reason() }),
            Err(_) => {
                // Nothing ahead was answered for so long: the broker is as good as gone.
                self.close(CloseReason::TimedOut { api, after: within });
                Err(CallError::Timeout { api, broker, after: within, possibly_written: false })
            }
        }
    }

    fn reason(&self) -> CloseReason {
        self.state.lock().closed.as_ref().map_or(CloseReason::Local, |c| c.reason.clone())
    }

    fn start<R: Request>(
        self: &Arc<Self>,
        request: &R,
        version: i16,
        room: Option<OwnedSemaphorePermit>,
    ) -> Result<Pending<R>, CallError> {
        let correlation = self.next_correlation();
        let frame = frame(request, version, correlation, &self.client_id);
        let (sender, answer) = oneshot::channel();
        self.submit(Outgoing { frame, written: None }, Some((correlation, sender, room)))
            .map_err(|broken| broken.into_error(R::KEY, &self.broker))?;
        Ok(Pending { shared: self.clone(), version, answer, of: PhantomData })
    }

    /// Queues a frame and writes, unless somebody does already. Returns where the frame begins.
    #[allow(clippy::type_complexity)]
    fn submit(
        self: &Arc<Self>,
        outgoing: Outgoing,
        waits: Option<(i32, oneshot::Sender<Result<Bytes, Broken>>, Option<OwnedSemaphorePermit>)>,
    ) -> Result<u64, Broken> {
        let (start, writer) = {
            let mut state = self.state.lock();
            if let Some(closed) = &state.closed {
                return Err(Broken { reason: closed.reason.clone(), possibly_written: false });
            }
            if state.finishing {
                return Err(Broken { reason: CloseReason::Local, possibly_written: false });
            }
            let start = state.end;
            state.end += outgoing.frame.len() as u64;
            state.queue.push_back(outgoing);
            if let Some((correlation, answer, room)) = waits {
                state.waiting.push_back(Waiting { correlation, start, answer, _room: room });
            }
            (start, state.writer.take())
        };
        if let Some(writer) = writer {
            self.write(writer);
        }
        Ok(start)
    }

    /// Writes what is queued without waiting; a task takes over what the socket does not take.
    fn write(self: &Arc<Self>, mut writer: FrameWriter) {
        for _ in 0..ROUNDS {
            writer = match self.take_queued(writer) {
                Some(writer) => writer,
                None => return,
            };
            match writer.try_write() {
                Ok(true) => {}
                Ok(false) => break,
                Err(e) => return self.close(CloseReason::Io(e.to_string())),
            }
        }
        let shared = self.clone();
        self.runtime.spawn(shared.write_rest(writer));
    }

    /// Gives the writer all frames of the queue. Without any it goes back to its place (`None`), as it does, for good,
    /// when the connection has ended.
    fn take_queued(self: &Arc<Self>, mut writer: FrameWriter) -> Option<FrameWriter> {
        let mut state = self.state.lock();
        if state.closed.is_some() {
            return None;
        }
        writer.take(&mut state.queue);
        if writer.is_empty() {
            state.offered = writer.position();
            if state.finishing {
                drop(state);
                self.take_leave(writer);
            } else {
                state.writer = Some(writer);
            }
            return None;
        }
        // From now on the system may have any byte of these, until we know better.
        state.offered = writer.end();
        Some(writer)
    }

    /// Waits until the connection has ended, for ever if it does not.
    async fn ended(&self) {
        let stop = self.stop.notified();
        tokio::pin!(stop);
        // Registered before the look at `closed`, so that an end in between is not missed.
        stop.as_mut().enable();
        if self.state.lock().closed.is_none() {
            stop.await;
        }
    }

    /// Closes the socket's sending half. By TLS a last message goes before that, which a task writes if the socket is full:
    /// the broker would wait for an end that never comes.
    fn take_leave(self: &Arc<Self>, mut writer: FrameWriter) {
        if writer.poll_shutdown(&mut Context::from_waker(Waker::noop())).is_ready() {
            return;
        }
        let shared = self.clone();
        self.runtime.spawn(async move {
            tokio::select! {
                biased;
                () = shared.ended() => {}
                // The reader learns of an error too.
                _ = poll_fn(|cx| writer.poll_shutdown(cx)) => {}
            }
        });
    }

    /// The task that writes when the socket is full.
    async fn write_rest(self: Arc<Self>, mut writer: FrameWriter) {
        let stop = self.stop.notified();
        tokio::pin!(stop);
        // Registered before the first look at `closed`, so that an end in between is not missed.
        stop.as_mut().enable();
        while let Some(mut taken) = self.take_queued(writer) {
            let some = poll_fn(|cx| {
                // While the system has the bytes they may be leaving; while this task waits only what is written has.
                {
                    let mut state = self.state.lock();
                    if state.closed.is_some() {
                        // Whoever closed has said what was not sent; it stays so. `stop` is on its way.
                        return std::task::Poll::Pending;
                    }
                    state.offered = taken.end();
                }
                let written = taken.poll_write(cx);
                if written.is_pending() {
                    self.state.lock().offered = taken.position();
                }
                written
            });
            let written = tokio::select! {
                biased;
                () = &mut stop => return,
                written = some => written,
            };
            if let Err(e) = written {
                return self.close(CloseReason::Io(e.to_string()));
            }
            writer = taken;
        }
    }

    /// Hands an answer to the first waiting place.
    fn answer(&self, frame: Bytes) -> Result<(), CloseReason> {
        let found = correlation_id(&frame);
        let waiting = {
            let mut state = self.state.lock();
            let expected = state.waiting.front().map(|w| w.correlation);
            if expected.is_none() && state.finishing {
                // What a broker says at the end to requests without answers: nobody listens.
                return Ok(());
            }
            if found.is_none() || found != expected {
                return Err(CloseReason::OutOfOrder { found: found.unwrap_or(-1), expected });
            }
            state.waiting.pop_front()
        };
        if let Some(waiting) = waiting {
            // An abandoned call is not interested; its answer ends here.
            let _ = waiting.answer.send(Ok(frame));
        }
        Ok(())
    }

    /// Ends the connection. The first reason counts.
    fn close(&self, reason: CloseReason) {
        let (waiting, queue, writer, offered) = {
            let mut state = self.state.lock();
            if state.closed.is_some() {
                return;
            }
            state.closed = Some(Closed { reason: reason.clone(), at: Instant::now() });
            let waiting = std::mem::take(&mut state.waiting);
            (waiting, std::mem::take(&mut state.queue), state.writer.take(), state.offered)
        };
        self.room.close();
        self.stop.notify_waiters();
        // The socket closes when reader and writer are gone: the reader ends now, the writer is here or ends with its
        // caller's write, which does not wait.
        drop((queue, writer));
        for w in waiting {
            let _ =
                w.answer.send(Err(Broken { reason: reason.clone(), possibly_written: w.start < offered }));
        }
    }
}
