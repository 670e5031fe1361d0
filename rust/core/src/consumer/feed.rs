//! What is known of one partition, and when it may be asked again: the fetch side's bookkeeping, without I/O.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::cache::{Cache, Extent};

/// Waits between attempts at a partition that answers with an error: doubling, with jitter.
const BACKOFF_FIRST: Duration = Duration::from_millis(20);
const BACKOFF_MOST: Duration = Duration::from_secs(1);
/// How long a partition is read from its leader after a replica near by has failed: doubling.
const LEADER_ONLY_FIRST: Duration = Duration::from_secs(5);
const LEADER_ONLY_MOST: Duration = Duration::from_secs(300);
/// Places that could not be read which are remembered of a partition.
const SUSPECTS: usize = 64;

/// One partition as this consumer sees it.
#[derive(Debug)]
pub(super) struct Feed<B> {
    pub(super) cache: Cache<B>,
    /// End of the units handed to this consumer so far: what lies below is not worth keeping.
    pub(super) frontier: i64,
    /// The group's cursor when we looked last: other consumers take units too.
    pub(super) cursor: i64,
    /// Whether a fetch is under way: a request cannot carry a partition twice, and two at once would bring the same
    /// batch twice.
    pub(super) in_flight: bool,
    /// Whether the last fetch brought nothing although there is something: it goes first in the next request, because
    /// a broker gives one whole batch only to the first partition that has data (KIP-74).
    pub(super) first: bool,
    /// Highest high watermark seen, and the leader epoch it was seen under.
    pub(super) high_watermark: i64,
    pub(super) epoch: i32,
    /// A replica to fetch from instead of the leader, and until when.
    pub(super) near: Option<(i32, Instant)>,
    /// Until when only the leader is asked, because such a replica has failed.
    leader_only: Option<Instant>,
    near_failures: u32,
    /// When this partition was last of use; the cache of the one least recently used goes first.
    pub(super) touched: u64,
    bytes_per_offset: f64,
    /// Bytes of the largest batch of the last fetch that brought any.
    pub(super) largest: usize,
    failures: u32,
    not_before: Option<Instant>,
    /// Where what was fetched could not be read, and was fetched once more; the oldest is forgotten first.
    suspects: VecDeque<i64>,
}

impl<B> Default for Feed<B> {
    fn default() -> Self {
        Self {
            cache: Cache::default(),
            frontier: 0,
            cursor: 0,
            in_flight: false,
            first: false,
            high_watermark: -1,
            epoch: -1,
            near: None,
            leader_only: None,
            near_failures: 0,
            touched: 0,
            bytes_per_offset: 0.0,
            largest: 0,
            failures: 0,
            not_before: None,
            suspects: VecDeque::new(),
        }
    }
}

impl<B: Extent> Feed<B> {
    /// Takes what a fetch at `position` brought.
    pub(super) fn arrived(&mut self, position: i64, pieces: Vec<B>) {
        self.failures = 0;
        self.not_before = None;
        self.first = false;
        self.largest = pieces.iter().map(Extent::bytes).max().unwrap_or(self.largest);
        let offsets: i64 = pieces.iter().map(|p| p.next() - p.base()).sum();
        if offsets > 0 {
            let sample = pieces.iter().map(Extent::bytes).sum::<usize>() as f64 / offsets as f64;
            self.bytes_per_offset = if self.bytes_per_offset == 0.0 {
                sample
            } else {
                self.bytes_per_offset * 0.7 + sample * 0.3
            };
        }
        self.cache.insert(position, pieces);
    }

    /// Takes a high watermark seen in an answer; says whether it is news.
    pub(super) fn saw(&mut self, high_watermark: i64, epoch: i32) -> bool {
        if epoch < self.epoch || (!self.enters(epoch) && high_watermark <= self.high_watermark) {
            return false;
        }
        self.high_watermark = high_watermark;
        true
    }

    /// Takes a leader epoch; says whether it is a newer one. A new leader's log may be another from some offset on (an unclean
    /// election), so nothing that an older one said is handed out as what it has.
    pub(super) fn enters(&mut self, epoch: i32) -> bool {
        let newer = epoch > self.epoch;
        if newer {
            self.cache.clear();
            self.near = None;
            self.epoch = epoch;
        }
        newer
    }

    /// Moves the frontier and drops what lies below it.
    pub(super) fn advance(&mut self, frontier: i64) {
        self.frontier = self.frontier.max(frontier);
        self.cache.forget_below(self.frontier);
    }

    /// Estimated bytes of `offsets` offsets; `None` while nothing is known.
    pub(super) fn estimate(&self, offsets: i64) -> Option<usize> {
        (self.bytes_per_offset > 0.0).then_some((self.bytes_per_offset * offsets as f64) as usize)
    }

    /// What was fetched at `position` cannot be read. Says whether it is to be fetched once more: it may have been damaged on its way.
    pub(super) fn is_suspect(&mut self, position: i64) -> bool {
        self.cache.clear();
        if let Some(at) = self.suspects.iter().position(|suspect| *suspect == position) {
            self.suspects.remove(at);
            return false;
        }
        if self.suspects.len() == SUSPECTS {
            self.suspects.pop_front();
        }
        self.suspects.push_back(position);
        true
    }

    /// Notes a failure: this partition is left alone for a while.
    pub(super) fn failed(&mut self, now: Instant) {
        let wait = BACKOFF_MOST.min(BACKOFF_FIRST * 2u32.saturating_pow(self.failures.min(10)));
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(now + super::jitter(wait));
    }

    /// The replica that is to be asked now instead of the leader.
    pub(super) fn replica(&self, now: Instant) -> Option<i32> {
        self.near.filter(|(_, until)| now < *until).map(|(node, _)| node)
    }

    /// Whether the leader may send us to a replica.
    pub(super) fn may_go_near(&self, now: Instant) -> bool {
        self.leader_only.is_none_or(|until| until <= now)
    }

    /// The replica has failed.
    pub(super) fn near_failed(&mut self, now: Instant) {
        let wait = LEADER_ONLY_MOST.min(LEADER_ONLY_FIRST * 2u32.saturating_pow(self.near_failures.min(10)));
        self.near_failures = self.near_failures.saturating_add(1);
        self.near = None;
        self.leader_only = Some(now + wait);
    }

    /// The replica has records.
    pub(super) const fn near_works(&mut self) {
        self.near_failures = 0;
    }

    /// Whether it failed more than once in a row: its leader is away, and it may stay so for a while.
    pub(super) const fn is_failing(&self) -> bool {
        self.failures > 1
    }

    /// When it may be asked, if not now.
    pub(super) fn blocked_until(&self, now: Instant) -> Option<Instant> {
        self.not_before.filter(|t| *t > now)
    }
}
