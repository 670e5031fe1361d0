//! The sealed batches of one partition: what goes next, what is in flight, and with which sequence numbers.
//!
//! Pure bookkeeping: it holds values, is told the time, and answers; it knows no socket, lock or task. A batch
//! is anything (`B`); this decides only about its place.
//!
//! # Order
//! A batch's `order` is the ordinal of its first record in the partition. At most `window` batches fly at once, and no more
//! than that are sent from the oldest one in flight on, those that have landed meanwhile included: where the leader has
//! moved, a new one may answer quickly for many while the old one owes an answer for the first, which the new one would not
//! recognize any more.
//! A batch that comes back is put where its order belongs, and after a failure nothing flies until everything in
//! the air has landed, so a retry never overtakes and is never overtaken.
//!
//! # Sequences (KIP-98, KIP-360)
//! When the producer has an identity, a batch is stamped at its first take and keeps its stamp through all
//! retries: the broker drops what it already has (it remembers the last five batches of a producer and partition,
//! hence the window of five) and refuses a gap. When the *oldest* batch outstanding is refused for its sequence,
//! the broker has lost what went before (a leader failed over with acks=1, or retention removed the state): then
//! the epoch is raised once everything has landed and numbering starts at 0 again. The broker keeps epochs per
//! partition, so the raise is local to the partition.
//!
//! A batch that is given up leaves a *hole* in the numbers. Older batches go on with theirs, and the epoch is raised when
//! the next batch stands behind the hole. But where the one given up may be in the log, batches behind it that have flown
//! may be, too: under new numbers they would be written twice. They are tried with their own first; if the broker takes
//! one there was no hole, and if it refuses the oldest for its sequence none of them is there, and the epoch is raised. (That leaves
//! one way to write twice: the connection ended, what was on it arrives only after that refusal, and the batch before it was
//! given up. Nobody can know; Kafka's own producer numbers anew at once.)
//!
//! A broker that knows *nothing* of the producer takes any sequence as the first one: were the first batch refused and
//! the second, already in the air, accepted, they would stand in the wrong order. So batches fly one by one until one
//! has landed under the current numbering, and again after a long silence (brokers forget: `producer.id.expiration.ms`).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Batches of one partition in the air when they carry sequences and the broker can hold that many apart.
pub(super) const WINDOW_SEQUENCED: usize = 5;
/// After this silence the broker may have forgotten the producer (a day by default; who sets less sets hours).
const FORGOTTEN_AFTER: Duration = Duration::from_secs(600);

/// Who the producer is to the brokers (answer of InitProducerId).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Identity {
    pub(super) id: i64,
    pub(super) epoch: i16,
}

/// What makes a batch recognizable to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    pub(super) id: i64,
    pub(super) epoch: i16,
    pub(super) sequence: i32,
}

/// The right and the duty to report how one flight ended. Deliberately neither `Clone` nor `Copy`.
#[derive(Debug)]
pub(super) struct Ticket {
    order: u64,
    count: u32,
    stamp: Option<Stamp>,
}

impl Ticket {
    pub(super) fn stamp(&self) -> Option<Stamp> {
        self.stamp
    }
}

/// What a sender gets when its turn has come.
#[derive(Debug)]
pub(super) enum Next<B> {
    /// Send this.
    Batch(Ticket, B),
    /// The partition backs off until then; it counts as listed, so bring it back at that time.
    Later(Instant),
    /// Nothing may go now; the next push or landing lists the partition again.
    Nothing,
}

/// See the module.
#[derive(Debug)]
pub(super) struct PartitionQueue<B> {
    window: usize,
    /// By ascending `order`.
    waiting: VecDeque<Waiting<B>>,
    /// Batches in flight, at most `window`.
    flying: Vec<Flying>,
    /// Batches taken so far.
    takes: u64,
    next_order: u64,
    /// Whether somebody's list (a broker's ready list or the delay list) holds this partition. It is on at most
    /// one, so that a partition costs its list one entry however many batches it has.
    listed: bool,
    /// Failures since the last batch that ended well with none left to repeat. While it is not 0, batches fly
    /// one by one: the broker knows only the last five, so a repeated batch must not be outrun by new ones.
    failures: u32,
    not_before: Option<Instant>,
    numbering: Option<Numbering>,
    raise_epoch: bool,
    /// Batches given up under this numbering, and not known to be no hole. Nearly always empty.
    holes: Vec<Hole>,
    /// The broker is known to know this numbering.
    proven: bool,
    last_take: Option<Instant>,
    /// The epochs are used up: batches go without numbers from now on, one by one.
    unnumbered: bool,
}

#[derive(Debug)]
struct Waiting<B> {
    order: u64,
    count: u32,
    stamp: Option<Stamp>,
    /// It has flown before.
    returned: bool,
    batch: B,
}

/// A batch that was given up.
#[derive(Debug)]
struct Hole {
    order: u64,
    /// It may be in the log.
    in_doubt: bool,
}

#[derive(Debug)]
struct Flying {
    order: u64,
    /// How many were taken before it.
    take: u64,
}

#[derive(Debug)]
struct Numbering {
    id: i64,
    epoch: i16,
    next: i32,
}

impl<B> PartitionQueue<B> {
    /// An empty queue that lets `window` batches fly, at least 1; without an identity it is always 1.
    pub(super) fn new(window: usize) -> Self {
        Self {
            window: window.max(1),
            waiting: VecDeque::new(),
            flying: Vec::new(),
            takes: 0,
            next_order: 0,
            listed: false,
            failures: 0,
            not_before: None,
            numbering: None,
            raise_epoch: false,
            holes: Vec::new(),
            proven: false,
            last_take: None,
            unnumbered: false,
        }
    }

    /// Adds a sealed batch of `count` records at the end. True: put the partition on its leader's list.
    pub(super) fn push(&mut self, batch: B, count: u32) -> bool {
        debug_assert!(count > 0, "an empty batch is never sealed");
        self.waiting.push_back(Waiting {
            order: self.next_order,
            count,
            stamp: None,
            returned: false,
            batch,
        });
        self.next_order += u64::from(count);
        self.list()
    }

    /// The partition has come off its list: what goes now?
    pub(super) fn take(&mut self, now: Instant, identity: Option<Identity>) -> Next<B> {
        self.listed = false;
        if !self.may_send() {
            return Next::Nothing;
        }
        if let Some(at) = self.not_before.filter(|at| *at > now) {
            self.listed = true;
            return Next::Later(at);
        }
        if self.last_take.is_some_and(|last| now.saturating_duration_since(last) > FORGOTTEN_AFTER) {
            self.proven = false;
            if !self.flying.is_empty() {
                return Next::Nothing;
            }
        }
        self.last_take = Some(now);
        self.number(identity);
        let Some(mut next) = self.waiting.pop_front() else { return Next::Nothing };
        if let (None, Some(numbering)) = (next.stamp, &mut self.numbering) {
            next.stamp = Some(numbering.stamp(next.count));
        }
        self.flying.push(Flying { order: next.order, take: self.takes });
        self.takes += 1;
        Next::Batch(Ticket { order: next.order, count: next.count, stamp: next.stamp }, next.batch)
    }

    /// Lists the partition if it may send and is on no list. True: the caller must put it there.
    pub(super) fn list(&mut self) -> bool {
        let newly = !self.listed && self.may_send();
        self.listed |= newly;
        newly
    }

    /// The batch is in the log (or, with acks=0, written to the socket). Returns like [`list`](Self::list).
    pub(super) fn landed(&mut self, ticket: Ticket) -> bool {
        self.remove_flight(&ticket);
        // A stamp of an earlier epoch proves nothing about this one.
        let current =
            ticket.stamp.is_some_and(|s| self.numbering.as_ref().is_some_and(|n| n.epoch == s.epoch));
        self.proven |= current;
        if current {
            self.holes.retain(|hole| hole.order > ticket.order);
        }
        self.forget_failures();
        self.list()
    }

    /// The batch failed for good; its owner drops it. `in_doubt`: it may be in the log all the same. Returns like
    /// [`list`](Self::list).
    pub(super) fn given_up(&mut self, ticket: Ticket, in_doubt: bool) -> bool {
        self.remove_flight(&ticket);
        if ticket.stamp.is_some() {
            self.holes.push(Hole { order: ticket.order, in_doubt });
        }
        // Or a partition with nothing left to repeat stayed busy, and its next batch open, for ever.
        self.forget_failures();
        self.list()
    }

    /// Takes out the oldest waiting batches as long as `over` says that their time is over; they have failed for good.
    /// `in_doubt`: whether a batch may be in the log all the same. What flies is left alone: it ends by itself.
    pub(super) fn expire(&mut self, over: impl Fn(&B) -> bool, in_doubt: impl Fn(&B) -> bool) -> Vec<B> {
        let mut expired = Vec::new();
        while let Some(next) = self.waiting.pop_front_if(|w| over(&w.batch)) {
            if next.stamp.is_some() {
                self.holes.push(Hole { order: next.order, in_doubt: in_doubt(&next.batch) });
            }
            expired.push(next.batch);
        }
        // What is in the air ends the row of failures, or prolongs it.
        if !expired.is_empty() && self.flying.is_empty() {
            self.forget_failures();
        }
        expired
    }

    /// The batch comes back to be sent again as it is, not before `at`. Returns like [`list`](Self::list).
    pub(super) fn retry(&mut self, ticket: Ticket, batch: B, at: Instant) -> bool {
        self.remove_flight(&ticket);
        self.failures += 1;
        self.not_before = Some(self.not_before.map_or(at, |before| before.max(at)));
        self.put_back(ticket.order, ticket.count, ticket.stamp, batch);
        self.list()
    }

    /// The broker refused the batch for its sequence. Returns like [`list`](Self::list).
    pub(super) fn refused_sequence(&mut self, ticket: Ticket, batch: B, at: Instant) -> bool {
        // With an older batch outstanding the gap is that batch, and it will be filled by its retry.
        let oldest = !self.flying.iter().any(|f| f.order < ticket.order)
            && !self.waiting.iter().any(|w| w.order < ticket.order);
        // A second refusal after the raise is answered in the new epoch: raise once more.
        self.raise_epoch |= oldest;
        self.retry(ticket, batch, at)
    }

    /// The batch was too large and comes back in pieces, at least one, whose counts add up. The pieces share its
    /// numbers, so what was stamped after it stays valid. Returns like [`list`](Self::list).
    pub(super) fn split(&mut self, ticket: Ticket, pieces: Vec<(B, u32)>) -> bool {
        debug_assert_eq!(pieces.iter().map(|(_, count)| *count).sum::<u32>(), ticket.count);
        self.remove_flight(&ticket);
        let mut before = 0;
        for (batch, count) in pieces {
            let stamp = ticket.stamp.map(|s| Stamp { sequence: advance(s.sequence, before), ..s });
            self.put_back(ticket.order + u64::from(before), count, stamp, batch);
            before += count;
        }
        self.list()
    }

    /// Failures since the last batch that ended well.
    pub(super) fn failures(&self) -> u32 {
        self.failures
    }

    /// Whether a batch sealed now would have to wait for others.
    pub(super) fn is_busy(&self) -> bool {
        !self.waiting.is_empty() || !self.has_room(self.window) || self.failures > 0
    }

    /// Takes everything that is not in flight, for an end without delivery.
    pub(super) fn drain(&mut self) -> Vec<B> {
        self.waiting.drain(..).map(|w| w.batch).collect()
    }

    /// Waiting batches, the next one first.
    pub(super) fn waiting(&self) -> impl Iterator<Item = &B> {
        self.waiting.iter().map(|w| &w.batch)
    }

    /// Its state in a line.
    #[cfg(test)]
    pub(super) fn story(&self) -> String {
        let Self { waiting, flying, listed, failures, raise_epoch, holes, proven, .. } = self;
        let waiting = waiting.iter().map(|w| (w.order, w.stamp)).collect::<Vec<_>>();
        format!(
            "waiting {waiting:?}, flying {flying:?}, listed {listed}, failures {failures}, raise {raise_epoch}, \
             holes {holes:?}, proven {proven}"
        )
    }

    fn may_send(&self) -> bool {
        let one_by_one = self.failures > 0 || self.raise_epoch || !self.holes.is_empty() || !self.proven;
        let room = if one_by_one { 1 } else { self.window };
        !self.waiting.is_empty() && self.has_room(room)
    }

    /// Whether fewer than `room` batches are in flight or were sent after the oldest of them.
    fn has_room(&self, room: usize) -> bool {
        let oldest = self.flying.iter().map(|f| f.take).min();
        oldest.is_none_or(|oldest| self.takes - oldest < room as u64)
    }

    /// The row of failures has ended, unless there is something to be repeated.
    fn forget_failures(&mut self) {
        if !self.waiting.front().is_some_and(|w| w.returned) {
            self.failures = 0;
            self.not_before = None;
        }
    }

    fn remove_flight(&mut self, ticket: &Ticket) {
        let at = self.flying.iter().position(|f| f.order == ticket.order);
        self.flying.swap_remove(at.expect("invariant: a ticket stands for one flight"));
    }

    fn put_back(&mut self, order: u64, count: u32, stamp: Option<Stamp>, batch: B) {
        // What comes back is older than nearly everything: look from the front.
        let at = self.waiting.iter().position(|w| w.order > order).unwrap_or(self.waiting.len());
        self.waiting.insert(at, Waiting { order, count, stamp, returned: true, batch });
    }

    /// Whether the next batch comes after one that was given up, and must not go with the numbers it would have.
    fn is_behind_a_hole(&self) -> bool {
        let Some(next) = self.waiting.front() else { return false };
        let mut before = self.holes.iter().filter(|hole| hole.order < next.order);
        before.any(|hole| !hole.in_doubt || next.stamp.is_none())
    }

    /// Takes on the identity, or the next epoch, when nothing is in the air.
    fn number(&mut self, identity: Option<Identity>) {
        let Some(identity) = identity.filter(|_| !self.unnumbered && self.flying.is_empty()) else { return };
        self.raise_epoch |= self.is_behind_a_hole();
        let epoch = match &self.numbering {
            Some(_) if !self.raise_epoch => return,
            Some(numbering) => numbering.epoch.checked_add(1),
            None => Some(identity.epoch),
        };
        self.raise_epoch = false;
        self.holes.clear();
        self.proven = false;
        self.waiting.iter_mut().for_each(|w| w.stamp = None);
        self.numbering = epoch.map(|epoch| Numbering { id: identity.id, epoch, next: 0 });
        // 32,767 lost states in one partition are not a thing that happens; to go on without numbers is better
        // than to stop.
        self.unnumbered = epoch.is_none();
    }
}

impl Numbering {
    fn stamp(&mut self, count: u32) -> Stamp {
        let stamp = Stamp { id: self.id, epoch: self.epoch, sequence: self.next };
        self.next = advance(self.next, count);
        stamp
    }
}

/// Sequences run from 0 to `i32::MAX` and begin again at 0 (`DefaultRecordBatch.incrementSequence`).
fn advance(sequence: i32, count: u32) -> i32 {
    ((i64::from(sequence) + i64::from(count)) & i64::from(i32::MAX)) as i32
}

/// How long to wait after the `failures`-th failure in a row: 100 ms doubling to 1 s, +-20 %. `noise` is random.
pub(super) fn backoff(failures: u32, noise: u32) -> Duration {
    let millis = 100_u64 << failures.saturating_sub(1).min(4);
    let millis = millis.min(1000);
    Duration::from_micros(millis * (800 + u64::from(noise % 401)))
}

#[cfg(test)]
mod tests;
