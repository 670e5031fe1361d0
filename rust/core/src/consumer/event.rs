//! What happened in a consumer that is worth telling: units that came and went, records that were lost.
//!
//! Events are for people and dashboards, not for correctness: the queue keeps the newest and counts what it dropped.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;

/// Events kept for somebody to read; older ones are dropped.
const KEPT: usize = 1024;

/// One thing that happened. Offsets are `[start, end)`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// All records of a unit were handled.
    Done {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// First offset.
        start: i64,
        /// Offset after the last.
        end: i64,
        /// Records delivered.
        records: u64,
    },
    /// The broker deleted records (retention) before anyone read them.
    Lost {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// First offset lost.
        start: i64,
        /// Offset after the last one lost.
        end: i64,
    },
    /// A unit that this consumer held is not its any more: its lease ran out, or another member has sought. Its records may come
    /// twice.
    Fenced {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// First offset not reported as handled.
        start: i64,
        /// Offset after the last.
        end: i64,
    },
    /// A unit failed and comes again after a while, from `start` on.
    Failed {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// First offset not handled.
        start: i64,
        /// Offset after the last.
        end: i64,
        /// How many deliveries there were, this one included; those that did not count are not.
        attempt: u32,
        /// Whether this attempt counts: another record was handled since the one before, so the record seems to be at fault.
        counts: bool,
        /// Why.
        reason: Arc<str>,
    },
    /// Records failed one after the other, and none was handled: the handler, or what it needs, seems to be down. Nothing is used
    /// up and nothing put aside meanwhile; about one record a second is tried until one is handled.
    HandlerFailing {
        /// How many different records failed in a row.
        records: u32,
        /// Why the last of them did.
        reason: Arc<str>,
    },
    /// A record was handled again, after [`Event::HandlerFailing`]: units are claimed as before.
    HandlerRecovered {
        /// How long everything had failed.
        after: std::time::Duration,
    },
    /// A record stayed in user code longer than `max-processing-ms`; its unit is given up.
    Stuck {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// The offset of the record.
        offset: i64,
    },
    /// A partition's log became shorter (an unclean leader election): offsets from `end` on are gone.
    Truncated {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// Where the log ends now.
        end: i64,
    },
    /// A partition's position was moved by force: by [`Consumer::seek`](super::Consumer::seek), or by an operator who moved the
    /// committed offset with Kafka's tools while no member read the topic. The group's organiser tells it, whoever did it.
    Sought {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// Where the group stood: the first offset that was not handled.
        from: i64,
        /// Where it goes on.
        to: i64,
    },
    /// The user may not read a topic. No unit fails and nothing is skipped: its readers wait, other topics are read on, and it
    /// is asked for again after a second, then ever more rarely, at last every 30 s; reading goes on by itself once the right
    /// was granted. Told when it is met first, then once a minute at most.
    NotAuthorized {
        /// The topic.
        topic: Arc<str>,
        /// What the broker said, and what to do.
        reason: Arc<str>,
    },
    /// So many units of a partition are quarantined that it takes no new work until some of them are handled, which is tried every
    /// minute, or released. Told by the group's organiser.
    Blocked {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// How many units are quarantined.
        parked: u32,
    },
    /// A unit failed too often, or cannot be read, and is quarantined: it holds the partition's committed offset, those behind it go on,
    /// and the longest quarantined of a partition is tried again every minute. Told by the group's organiser.
    Parked {
        /// The topic.
        topic: Arc<str>,
        /// The partition.
        partition: i32,
        /// First offset not handled.
        start: i64,
        /// Offset after the last.
        end: i64,
    },
}

/// The newest events, and who waits for them.
#[derive(Debug, Default)]
pub(super) struct Events {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    queue: VecDeque<Event>,
    dropped: u64,
    waiting: Vec<Waker>,
    closed: bool,
}

impl Events {
    /// Adds an event; drops the oldest when nobody reads them.
    pub(super) fn push(&self, event: Event) {
        let mut inner = self.inner.lock();
        if inner.queue.len() == KEPT {
            inner.queue.pop_front();
            inner.dropped += 1;
        }
        inner.queue.push_back(event);
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// The oldest event that is there.
    pub(super) fn try_next(&self) -> Option<Event> {
        self.inner.lock().queue.pop_front()
    }

    /// The next event; `None` after close.
    pub(super) fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let mut inner = self.inner.lock();
        if let Some(event) = inner.queue.pop_front() {
            return Poll::Ready(Some(event));
        }
        if inner.closed {
            return Poll::Ready(None);
        }
        if !inner.waiting.iter().any(|w| w.will_wake(cx.waker())) {
            inner.waiting.push(cx.waker().clone());
        }
        Poll::Pending
    }

    /// Ends the waits; what is queued can still be read.
    pub(super) fn close(&self) {
        let mut inner = self.inner.lock();
        inner.closed = true;
        let waiting = std::mem::take(&mut inner.waiting);
        drop(inner);
        waiting.into_iter().for_each(Waker::wake);
    }

    /// Events dropped because nobody read them.
    pub(super) fn dropped(&self) -> u64 {
        self.inner.lock().dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_queue_slides_and_counts() {
        let events = Events::default();
        for end in 0..KEPT as i64 + 3 {
            events.push(Event::Truncated { topic: "t".into(), partition: 0, end });
        }
        assert_eq!(events.dropped(), 3);
        assert_eq!(events.try_next(), Some(Event::Truncated { topic: "t".into(), partition: 0, end: 3 }));
        events.close();
        let mut cx = Context::from_waker(Waker::noop());
        while let Poll::Ready(Some(_)) = events.poll_next(&mut cx) {}
        assert_eq!(events.poll_next(&mut cx), Poll::Ready(None));
    }
}
