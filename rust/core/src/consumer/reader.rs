//! A reader: what one thread or task reads with.
//!
//! A reader has one unit in its hands. Its batches come in pieces; a piece is opened (CRC, decompression) here, in the
//! reader's thread and off every lock, and its records are handed out where they lie: [`Reader::next`] as slices,
//! [`Reader::next_batch`] borrowed, [`Reader::poll_fill`] copied into a caller's chunk. The consumer's lock is taken
//! per unit and per piece.
//!
//! Handled means handled: asking for more says that everything handed out before is handled. Where the reader stands
//! is in its [`Slot`], which the heartbeat reads. A unit that is not ours any more (its lease ran out, the group gave it
//! to another) is marked in the slot's control cell, which is looked at before every record. A process that slept wakes
//! up with that mark not set yet, so every call looks at the clock too: 25 ns that [`Reader::next`] pays per record. Within a
//! batch a [`Glance`] looks often enough; a chunk's records are the caller's, who has the mark only.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use super::batch::{CLAIM_MOST, UnitBatch, is_ours};
use super::cache::Extent;
use super::chunk::{ChunkSink, Filled, Put, SlotControl, UnitInfo};
use super::error::ReadError;
use super::failing::{Failure, Fault};
use super::glance::Glance;
use super::message::Message;
use super::piece::Piece;
use super::pinned::Lent;
use super::plan::Unreadable;
use super::shared::{Handle, Shared};
use super::slot::{Runs, Slot};
use super::state::{More, Take, UnitKey};
use super::stats::Counters;
use crate::wire::BatchError;
use crate::wire::records::{OpenBatch, RecordRef};

/// A slot of a consumer: what one thread or task reads with. Dropping it hands back what it holds.
#[derive(Debug)]
pub struct Reader {
    handle: Handle,
    slot: Arc<Slot>,
    current: Option<Current>,
    /// The runs of the next chunk; swapped with the slot's, so nothing is allocated per chunk.
    runs: Runs,
    /// Whether a chunk is out: its records are mapped in the slot.
    chunk_out: bool,
    /// Whether the consumer knows that nobody asks us now and no record is in anybody's hands.
    idle: bool,
}

/// The unit in hands.
#[derive(Debug)]
pub(super) struct Current {
    key: UnitKey,
    pub(super) info: UnitInfo,
    /// Where the unit began when we took it.
    start: i64,
    pub(super) walk: Walk,
    /// The consumer drops what it takes back of them, also while nobody asks us.
    pieces: Lent<Arc<Piece>>,
    /// Records below this offset are ours to hand out; what comes after is claimed first.
    pub(super) claimed: i64,
    /// How many offsets the next claim of a single record is for, and when one was handed out last.
    block: u32,
    looked: Instant,
    /// Records put into chunks; and what the slot had handed out one at a time before.
    records: u64,
    handed_before: u64,
    since: Instant,
    /// Time spent waiting for data, which says nothing about the handler.
    waited: Duration,
    starving_since: Option<Instant>,
    pub(super) deadline: Instant,
}

/// Where in a unit a reader is.
#[derive(Debug)]
pub(super) struct Walk {
    /// The next offset to hand out; what lies below was handed out or is not of this unit.
    pub(super) position: i64,
    /// Where the unit ends.
    pub(super) end: i64,
    pub(super) open: Option<OpenBatch>,
    /// Where in the open batch the next record begins.
    pub(super) at: usize,
}

/// A record, its batch and the position behind it.
type Found<'a> = (&'a OpenBatch, RecordRef<'a>, usize);

impl Walk {
    fn load(&mut self, batch: Option<OpenBatch>) {
        self.open = batch;
        self.at = 0;
    }

    /// Whether the open batch has bytes left to walk.
    fn has_bytes(&self) -> bool {
        self.open.as_ref().is_some_and(|open| self.at < open.body().len())
    }

    /// The next record of the open batch that belongs to the unit; `None` when the batch has no more of them. An error comes
    /// with where the batch ends.
    #[inline(always)]
    fn peek(&mut self) -> Option<Result<Found<'_>, (BatchError, i64)>> {
        let open = self.open.as_ref()?;
        let found = find(open, &mut self.at, self.position, self.end)?;
        Some(found.map(|(record, pos)| (open, record, pos)).map_err(|error| (error, open.next_offset())))
    }

    /// The record at `offset`, which ends at `pos`, was handed out.
    #[inline]
    fn take(&mut self, offset: i64, pos: usize) {
        self.at = pos;
        self.position = offset + 1;
    }
}

/// The first record of `batch` from byte `at` on whose offset is in `[position, end)`, and the byte position behind it.
/// Moves `at` past what lies below, and to the end when what comes is not below `end`.
#[inline(always)]
pub(super) fn find<'a>(
    batch: &'a OpenBatch,
    at: &mut usize,
    position: i64,
    end: i64,
) -> Option<Result<(RecordRef<'a>, usize), BatchError>> {
    loop {
        let mut pos = *at;
        match batch.next_at(&mut pos)? {
            Ok(record) if record.offset < position => *at = pos,
            Ok(record) if record.offset >= end => {
                *at = batch.body().len();
                return None;
            }
            Ok(record) => return Some(Ok((record, pos))),
            Err(error) => return Some(Err(error)),
        }
    }
}

/// Puts a record, after telling the sink of the batch it is in.
#[inline(always)]
fn put<S: ChunkSink + ?Sized>(
    sink: &mut S,
    told: &mut bool,
    open: &OpenBatch,
    record: &RecordRef<'_>,
    info: &UnitInfo,
) -> Put {
    if !std::mem::replace(told, true) {
        sink.batch(open.body());
    }
    sink.put(record, info)
}

/// About what a record needs in a chunk.
fn record_bytes(record: &RecordRef<'_>) -> usize {
    let key = record.key.map_or(0, <[u8]>::len);
    64 + key + record.value.map_or(0, <[u8]>::len) + record.headers.raw().len()
}

impl Current {
    /// What the consumer has taken back of the unit is not ours any more.
    fn shorten(&mut self, slot: &Slot) {
        self.walk.end = self.walk.end.min(slot.end().unwrap_or(i64::MAX));
    }
}

impl Reader {
    pub(super) fn new(handle: Handle) -> Self {
        let slot = handle.shared().with(|state| state.add_reader(Instant::now()));
        Self { handle, slot, current: None, runs: Runs::default(), chunk_out: false, idle: false }
    }

    /// The next record; `None` after close. Asking for it acknowledges the one before.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing: a record is handed out only when the future is ready. The acknowledgement
    /// of the record before stands.
    pub async fn next(&mut self) -> Result<Option<Message>, ReadError> {
        let mut asking = Asking { reader: self, answered: false };
        std::future::poll_fn(|cx| {
            let next = asking.reader.poll_next(cx);
            asking.answered = next.is_ready();
            next
        })
        .await
    }

    /// [`next`](Self::next) for callers with a waker of their own; see [`cancel_wait`](Self::cancel_wait).
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Result<Option<Message>, ReadError>> {
        self.acknowledge();
        loop {
            if !ready!(self.poll_batch(cx))? {
                return Poll::Ready(Ok(None));
            }
            let current = self.current.as_mut().expect("invariant: poll_batch left a unit");
            match current.walk.peek() {
                None => {}
                Some(Err((error, through))) => self.fail(&error, through),
                Some(Ok((_, record, _)))
                    if !is_ours(&self.slot, &mut current.claimed, record.offset, current.block) =>
                {
                    current.shorten(&self.slot);
                }
                Some(Ok((batch, record, pos))) => {
                    let message = Message::new(&current.info, batch, &record);
                    current.walk.take(message.offset, pos);
                    self.slot.hand(message.offset);
                    return Poll::Ready(Ok(Some(message)));
                }
            }
        }
    }

    /// The next records of this reader's unit that lie together, borrowed: the fastest way to read. `None` after close.
    ///
    /// Within the batch, taking a record says that the one before is handled; asking for the next batch says it of the
    /// last one taken. Records of the batch that were not taken come again with the next call.
    ///
    /// # Cancel safety
    /// As [`next`](Self::next).
    pub async fn next_batch(&mut self) -> Result<Option<UnitBatch<'_>>, ReadError> {
        {
            let mut asking = Asking { reader: self, answered: false };
            let more = std::future::poll_fn(|cx| {
                let more = asking.reader.poll_taking(cx);
                asking.answered = more.is_ready();
                more
            });
            if !more.await? {
                return Ok(None);
            }
        }
        let current = self.current.as_mut().expect("invariant: poll_taking left a unit");
        Ok(Some(UnitBatch::new(current, &self.slot)))
    }

    /// Ready when the open batch surely has a record for us.
    fn poll_taking(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, ReadError>> {
        self.acknowledge();
        loop {
            if !ready!(self.poll_batch(cx))? {
                return Poll::Ready(Ok(false));
            }
            let current = self.current.as_mut().expect("invariant: poll_batch left a unit");
            match current.walk.peek() {
                None => {}
                Some(Err((error, through))) => self.fail(&error, through),
                Some(Ok((_, record, _))) => {
                    if is_ours(&self.slot, &mut current.claimed, record.offset, 1) {
                        return Poll::Ready(Ok(true));
                    }
                    current.shorten(&self.slot);
                }
            }
        }
    }

    /// Fills a chunk with up to `max` records (at least 1), all of one unit, in offset order. The call acknowledges all
    /// records given before - or, when the control cell says the chunk was revoked, or the rest of it was taken back, those taken.
    ///
    /// The first record is claimed for the caller; it claims the others ([`claim`](Self::claim)) before it uses them.
    ///
    /// `Pending`: nothing was put; the waker of `cx` is woken when it is worth asking again. A caller that gives up
    /// waiting calls [`cancel_wait`](Self::cancel_wait).
    pub fn poll_fill<S: ChunkSink + ?Sized>(
        &mut self,
        cx: &mut Context<'_>,
        sink: &mut S,
        max: usize,
    ) -> Poll<Result<Filled, ReadError>> {
        self.acknowledge();
        loop {
            if !ready!(self.poll_batch(cx))? {
                return Poll::Ready(Ok(Filled::Closed));
            }
            // The first one is claimed here, or a chunk could be filled of which all was just taken back.
            let current = self.current.as_mut().expect("invariant: poll_batch left a unit");
            if let Some(Ok((_, record, _))) = current.walk.peek()
                && !is_ours(&self.slot, &mut current.claimed, record.offset, 1)
            {
                current.shorten(&self.slot);
                continue;
            }
            if let Some(needed) = self.fill(sink, max.max(1)) {
                return Poll::Ready(Ok(Filled::TooSmall(needed)));
            }
            let records = self.runs.len();
            if records > 0 {
                self.slot.publish(&mut self.runs);
                self.chunk_out = true;
                return Poll::Ready(Ok(Filled::Records(records)));
            }
        }
    }

    /// Puts what is at hand of the unit; answers what a too small chunk needs for the record at which the reader stands
    /// then.
    fn fill<S: ChunkSink + ?Sized>(&mut self, sink: &mut S, max: usize) -> Option<usize> {
        let limit = self.shared().decompress_limit;
        let Some(current) = &mut self.current else { return None };
        let mut told = false;
        while (self.runs.len() as usize) < max {
            match current.walk.peek() {
                Some(Ok((open, record, pos))) => match put(sink, &mut told, open, &record, &current.info) {
                    Put::Taken => {
                        let offset = record.offset;
                        self.runs.push(offset);
                        current.walk.take(offset, pos);
                        current.records += 1;
                    }
                    Put::Full | Put::TooSmall(_) if self.runs.len() > 0 => return None,
                    no_room => {
                        let needed = match no_room {
                            Put::TooSmall(needed) => needed,
                            // A sink that has no room even when empty: said as a size, or the caller would spin.
                            Put::Full | Put::Taken => record_bytes(&record),
                        };
                        // What the caller refuses if it cannot make room: this record, not a gap before it.
                        let offset = record.offset;
                        current.walk.position = offset;
                        self.slot.at(offset);
                        return Some(needed);
                    }
                },
                Some(Err((error, through))) => {
                    // What was put before it is delivered first; the next fill meets the error again.
                    if self.runs.len() == 0 {
                        self.fail(&error, through);
                    }
                    return None;
                }
                // Its first record is to be claimed.
                None if self.runs.len() == 0 => return None,
                None => {
                    // On to the next piece that is here; a bad one is met again by the next fill.
                    current.walk.open = None;
                    let piece = current.pieces.lock().front().cloned()?;
                    let open = piece.open(limit).ok()?;
                    current.pieces.lock().pop_front_if(|front| Arc::ptr_eq(front, &piece));
                    current.walk.load(open);
                    told = false;
                }
            }
        }
        None
    }

    /// This reader does not wait any more (its time is over), after a call that was `Pending`: a unit it was woken for
    /// goes to another, and a close does not wait for it.
    pub fn cancel_wait(&mut self) {
        self.idle = true;
        self.shared().with(|state| state.stop_asking(self.slot.id));
    }

    /// Looks whether what is in hand is ours still: after this [`SlotControl::revoked`] is set if its lease is over by our
    /// clock. For callers who take records by the chunk and see that [`SlotControl::until`] has passed. Never blocks.
    pub fn look(&self) {
        self.shared().with(|state| _ = state.tick(Instant::now()));
    }

    /// The cell in which the application says how far it has taken the current chunk, and looks whether it still may.
    pub fn control(&self) -> Arc<SlotControl> {
        Arc::clone(&self.slot.control)
    }

    /// How many records of the current chunk the application has taken; the last of them is in its hands. It has claimed them.
    pub fn set_taken(&self, n: u32) {
        self.slot.control.set_taken(n);
    }

    /// Claims the first `n` records of the current chunk for the application. Answers how many of them are its own: fewer when the rest was
    /// taken back, because it asked for nothing for a while and others waited.
    pub fn claim(&self, n: u32) -> u32 {
        self.slot.claim_records(n)
    }

    /// Hands the unit back from the first unhandled record on (the one in hand included). No attempt is counted.
    pub fn release(&mut self) {
        self.give_back(None);
    }

    /// The record in hand failed: its unit comes again from this record on, after `delay` (`None`: `retry-backoff-ms`
    /// doubling each time, at most a minute). It uses up an attempt if another record of this consumer was handled since the
    /// record's last attempt; else it may be the handler that does not work, and nothing is used up.
    pub fn retry(&mut self, delay: Option<Duration>) {
        self.give_back(Some(Failure { fault: Fault::Handler, delay, reason: "retry was asked for".into() }));
    }

    /// As [`retry`](Self::retry) with the default delay, and with a reason that the event carries.
    pub fn failed(&mut self, reason: &str) {
        self.give_back(Some(Failure { fault: Fault::Handler, delay: None, reason: reason.into() }));
    }

    fn give_back(&mut self, failure: Option<Failure>) {
        let Some((current, records)) = self.put_down() else { return };
        let from = self.slot.unhandled();
        let busy = current.since.elapsed().saturating_sub(current.waited);
        self.shared().with(|state| {
            let offsets = u64::try_from(current.walk.position - current.start).unwrap_or(0);
            state.sizing(&current.info.topic).learn(records, offsets, busy);
            state.give_back(self.slot.id, current.key, from, failure);
        });
        self.slot.put_back(from);
    }

    /// Takes the unit out of our hands, with how many of its records were handed out; the caller knows what becomes of it.
    fn put_down(&mut self) -> Option<(Current, u64)> {
        self.chunk_out = false;
        let current = self.current.take()?;
        let records = current.records + self.slot.handed() - current.handed_before;
        Counters::add(&self.shared().counters.records, records);
        Some((current, records))
    }

    fn shared(&self) -> &Arc<Shared> {
        self.handle.shared()
    }

    /// Everything handed out is handled.
    fn acknowledge(&mut self) {
        if std::mem::take(&mut self.idle) {
            self.shared().with(|state| state.start_asking(self.slot.id));
        }
        let Some(current) = &mut self.current else { return };
        if !std::mem::take(&mut self.chunk_out) {
            return self.slot.at(current.walk.position);
        }
        current.shorten(&self.slot);
        let cut = current.walk.end < current.walk.position || self.slot.control.is_revoked();
        let Some((after, left)) = self.slot.after_taken().filter(|_| cut) else {
            return self.slot.end_chunk(current.walk.position, true);
        };
        current.walk.position = after;
        current.records = current.records.saturating_sub(left.into());
        self.slot.end_chunk(after, false);
        if after < current.walk.end {
            // The walk is behind what was put and not taken: whoever gets the unit begins there.
            self.abandon();
        }
    }

    /// Ready with `true` when the open batch has bytes to walk, with `false` after close.
    fn poll_batch(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, ReadError>> {
        loop {
            if self.current.is_none() {
                if ready!(self.poll_unit(cx))? {
                    continue;
                }
                return Poll::Ready(Ok(false));
            }
            if self.slot.control.revoked.load(Ordering::Acquire) || self.overdue() {
                self.abandon();
                continue;
            }
            let current = match &mut self.current {
                Some(current) if current.walk.has_bytes() => return Poll::Ready(Ok(true)),
                Some(current) => current,
                None => continue,
            };
            current.walk.open = None;
            let piece = current.pieces.lock().pop_front();
            if let Some(piece) = piece {
                match piece.open(self.handle.shared().decompress_limit) {
                    Ok(open) => current.walk.load(open),
                    Err(error) => self.fail(&error, piece.next()),
                }
                continue;
            }
            ready!(self.poll_more(cx));
        }
    }

    /// Takes a unit; `false` after close.
    fn poll_unit(&mut self, cx: &mut Context<'_>) -> Poll<Result<bool, ReadError>> {
        let now = Instant::now();
        let take = self.handle.shared().with(|state| state.take(self.slot.id, cx.waker(), now));
        match take {
            Take::Wait => Poll::Pending,
            Take::Closed => Poll::Ready(Ok(false)),
            Take::Failed(error) => Poll::Ready(Err(error)),
            Take::Unit(taken) => {
                self.current = Some(Current {
                    key: taken.key,
                    info: taken.info,
                    start: taken.start,
                    walk: Walk { position: taken.start, end: taken.end, open: None, at: 0 },
                    pieces: taken.pieces,
                    claimed: i64::MIN,
                    block: 1,
                    looked: now,
                    records: 0,
                    handed_before: self.slot.handed(),
                    since: now,
                    waited: Duration::ZERO,
                    starving_since: None,
                    deadline: taken.deadline,
                });
                Poll::Ready(Ok(true))
            }
        }
    }

    /// Gets the next pieces of the unit, or finishes it.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(current) = &mut self.current else { return Poll::Ready(()) };
        let now = Instant::now();
        match self.handle.shared().with(|state| state.more(self.slot.id, current.key, cx.waker(), now)) {
            More::Wait => {
                current.starving_since.get_or_insert_with(Instant::now);
                return Poll::Pending;
            }
            More::Pieces => {
                current.waited +=
                    current.starving_since.take().map_or(Duration::ZERO, |since| since.elapsed());
            }
            More::Gone => drop(self.put_down()),
            More::Complete => {
                let waited =
                    current.waited + current.starving_since.map_or(Duration::ZERO, |since| since.elapsed());
                let busy = current.since.elapsed().saturating_sub(waited);
                if let Some((Current { key, .. }, records)) = self.put_down() {
                    self.handle.shared().with(|state| state.finish(self.slot.id, key, records, busy));
                }
            }
        }
        Poll::Ready(())
    }

    /// Whether the lease is over by our own clock.
    fn overdue(&mut self) -> bool {
        let Some(current) = &mut self.current else { return false };
        let now = Instant::now();
        let quick = now - std::mem::replace(&mut current.looked, now) < Glance::WORTH;
        current.block = if quick { (current.block * 2).min(CLAIM_MOST) } else { 1 };
        if now < current.deadline {
            return false;
        }
        // The heartbeat may have renewed it since we looked last.
        match self.handle.shared().with(|state| state.deadline(self.slot.id, current.key)) {
            Some(deadline) => {
                current.deadline = deadline;
                now >= deadline
            }
            None => true,
        }
    }

    /// The unit is revoked, or the consumer closes: what is handled is handled, the rest goes back.
    fn abandon(&mut self) {
        let Some((current, _)) = self.put_down() else { return };
        self.handle
            .shared()
            .with(|state| state.give_back(self.slot.id, current.key, current.walk.position, None));
    }

    /// What comes next of the unit, up to `through`, cannot be read.
    fn fail(&mut self, error: &BatchError, through: i64) {
        let Some(current) = &mut self.current else { return };
        let after = current.pieces.lock().front().map(Extent::base);
        let is_corrupt = matches!(error, BatchError::Corrupt { .. });
        let bad = Unreadable { through, is_corrupt, after, reason: error.to_string() };
        let (key, position) = (current.key, current.walk.position);
        current.walk.open = None;
        current.pieces.lock().clear();
        let again = self.handle.shared().with(|state| state.unreadable(self.slot.id, key, position, bad));
        if !again {
            self.put_down();
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.release();
        self.shared().with(|state| state.remove_reader(self.slot.id));
    }
}

/// A call for more; when it is dropped without an answer, the reader is taken off the waiting list.
struct Asking<'a> {
    reader: &'a mut Reader,
    answered: bool,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        if !self.answered {
            self.reader.cancel_wait();
        }
    }
}
