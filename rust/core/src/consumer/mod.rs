//! The consumer: claims work units from its group, fetches them, delivers their records, and tells the group what was
//! handled.
//!
//! This is its public face; the work behind it is being written.

mod chunk;
mod error;
mod event;
mod message;
mod stats;

use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

pub use chunk::{ChunkSink, Filled, Put, SlotControl, UnitInfo};
pub use error::{CloseError, ConsumerError, ReadError};
pub use event::Event;
pub use message::Message;
pub use stats::ConsumerStats;

use crate::config::Config;

/// Where the group lives that a consumer belongs to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum GroupConf {
    /// In this process: needs nothing else, and ends with the process.
    Embedded {
        /// The name of the group.
        group: String,
    },
}

impl GroupConf {
    /// A group that lives in this process.
    pub fn embedded(group: impl Into<String>) -> Self {
        Self::Embedded { group: group.into() }
    }
}

/// A consumer; clones are handles of the same one.
#[derive(Debug, Clone)]
pub struct Consumer {
    events: Arc<event::Events>,
}

impl Consumer {
    /// Connects and joins `group`. When this returns, the start of every partition is fixed: what is produced from now
    /// on is read. A topic that does not exist is no error: it is read from its earliest record when it appears.
    pub async fn connect(_conf: Config, _group: GroupConf, _topics: &[&str]) -> Result<Self, ConsumerError> {
        Err(ConsumerError::Closed)
    }

    /// A new reader: one per thread or task. Never blocks.
    pub fn reader(&self) -> Reader {
        Reader { control: Arc::default() }
    }

    /// Reads these topics too. When this returns their starts are fixed.
    pub async fn add_topics(&self, _topics: &[&str]) -> Result<(), ConsumerError> {
        Err(ConsumerError::Closed)
    }

    /// Takes no more units of these topics; units in hands are finished.
    pub async fn remove_topics(&self, _topics: &[&str]) -> Result<(), ConsumerError> {
        Err(ConsumerError::Closed)
    }

    /// Counters, now.
    pub fn stats(&self) -> ConsumerStats {
        ConsumerStats::default()
    }

    /// The oldest event nobody read yet.
    pub fn try_event(&self) -> Option<Event> {
        self.events.try_next()
    }

    /// The next event, `None` after close. For callers with a waker of their own.
    pub fn poll_event(&self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.events.poll_next(cx)
    }

    /// Stops claiming, lets readers that hold a record finish it for up to `wait`, hands back the rest, leaves the
    /// group. Readers get `None` (or [`Filled::Closed`]). Safe to call more than once.
    pub async fn close(&self, _wait: Duration) -> Result<(), CloseError> {
        self.events.close();
        Ok(())
    }
}

/// A slot of a consumer: what one thread or task reads with. Dropping it hands back what it holds.
#[derive(Debug)]
pub struct Reader {
    control: Arc<SlotControl>,
}

impl Reader {
    /// The next record; `None` after close. Asking for it acknowledges the one before. Dropping the future loses
    /// nothing.
    pub async fn next(&mut self) -> Result<Option<Message>, ReadError> {
        Ok(None)
    }

    /// Fills a chunk with up to `max` records, all of one unit. The call acknowledges all records given before.
    /// `Pending`: the waker of `cx` is woken when it is worth asking again; nothing was put.
    pub fn poll_fill<S: ChunkSink + ?Sized>(
        &mut self,
        _cx: &mut Context<'_>,
        _sink: &mut S,
        _max: usize,
    ) -> Poll<Result<Filled, ReadError>> {
        Poll::Ready(Ok(Filled::Closed))
    }

    /// Says that this reader does not wait any more (its time is over): a unit it was woken for goes to another.
    pub fn cancel_wait(&mut self) {}

    /// The cell in which the application says how far it has taken the current chunk, and looks whether it still may.
    pub fn control(&self) -> Arc<SlotControl> {
        Arc::clone(&self.control)
    }

    /// How many records of the current chunk the application has taken; the last of them is in its hands.
    pub fn set_taken(&self, n: u32) {
        self.control.set_taken(n);
    }

    /// Hands the unit back from the first unhandled record on (the one in hand included). No attempt is counted.
    pub fn release(&mut self) {}

    /// The record in hand failed: its unit comes again from this record on, after `delay` (`None`: the back-off of
    /// the group), as a further attempt.
    pub fn retry(&mut self, _delay: Option<Duration>) {}

    /// As [`retry`](Self::retry) with the group's back-off, with a reason that events and dead letters carry.
    pub fn failed(&mut self, _reason: &str) {}
}
