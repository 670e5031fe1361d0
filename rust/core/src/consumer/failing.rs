//! Whether a failure is the record's fault or the handler's, and what is done when everything fails. No I/O.
//!
//! An attempt counts only if another record of this consumer was handled since this record's previous attempt: then the handler
//! works, and the record is at fault. Otherwise the record waits with its back-off and nothing is used up: a database that is away
//! for an hour must not send a thousand good records into quarantine. When [`ROW`] different records fail in a row, the
//! consumer *probes*: it claims one unit about every [`PROBE_EVERY`] and hands back what else it holds, until a record is handled.
//!
//! How many records were handled is asked when one fails, of the readers' slots: a record that is handled costs nothing here.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cache::Extent;
use super::event::Event;
use super::state::{Held, State, Tp};
use crate::log_rate;

/// Records whose last failure is remembered; the one that failed first is forgotten first.
const REMEMBERED: usize = 10_000;
/// So many different records that fail in a row, while none is handled, mean that the handler or what it needs is down.
const ROW: usize = 10;
/// One unit is claimed about this often while everything fails.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// The shortest back-off while everything fails, so that the next probe is another record if there is one.
const PROBE_BACKOFF: Duration = Duration::from_secs(3);
/// The longest back-off.
const BACKOFF_MOST: Duration = Duration::from_secs(60);
/// In an ordered group nothing behind a failing record may be handled, so nothing may ever tell that the record is at fault: after
/// so many attempts in a row that did not count (about ten minutes by default) the next one counts.
const UNCOUNTED_MOST: u32 = 15;

/// What made a unit come back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// The application failed on a record, or held it for too long.
    Handler,
    /// Its data up to there cannot be read, which was tried twice. That says nothing of the handler.
    Data { through: i64 },
}

/// A failure of a unit at its first record that is not handled.
#[derive(Debug, Clone)]
pub(super) struct Failure {
    pub(super) fault: Fault,
    /// The wait before the next delivery, when the application has chosen one.
    pub(super) delay: Option<Duration>,
    pub(super) reason: Arc<str>,
}

/// What is said of a failure to the group.
#[derive(Debug, Clone)]
pub(super) struct Verdict {
    pub(super) counts: bool,
    /// What is before it is put aside at once.
    pub(super) through: Option<i64>,
    pub(super) delay: Duration,
    pub(super) reason: Arc<str>,
}

type Record = (Tp, i64);

/// A record's last failure.
#[derive(Debug)]
struct Last {
    /// How many records were handled before it.
    handled: u64,
    /// Attempts in a row, up to this one, since which nothing was handled.
    uncounted: u32,
}

/// Everything fails.
#[derive(Debug)]
struct Outage {
    /// How many records were handled when it began.
    handled: u64,
    reason: Arc<str>,
    /// When it was noticed; `None` until time is looked at.
    since: Option<Instant>,
    /// When the next probe may be claimed; `None` while one is under way, and until time is looked at.
    next: Option<Instant>,
}

/// The failures of one consumer. Bounded: [`REMEMBERED`] records and [`ROW`] of the latest row.
#[derive(Debug)]
pub(super) struct Failing {
    ordered: bool,
    records: HashMap<Record, Last>,
    /// The keys of `records`, the oldest first.
    order: VecDeque<Record>,
    /// How many records were handled when one failed last.
    latest: Option<u64>,
    /// Different records that failed since one was handled.
    row: Vec<Record>,
    outage: Option<Outage>,
    /// What readers that are gone have handled.
    pub(super) retired: u64,
}

impl Failing {
    /// `ordered`: a record that fails keeps those behind it from being tried.
    pub(super) fn new(ordered: bool) -> Self {
        Self {
            ordered,
            records: HashMap::new(),
            order: VecDeque::new(),
            latest: None,
            row: Vec::new(),
            outage: None,
            retired: 0,
        }
    }

    /// Whether everything fails, and the group is asked for a unit at a time.
    pub(super) const fn is_probing(&self) -> bool {
        self.outage.is_some()
    }

    /// A record fails, after `handled` records of this consumer were handled. Says whether the attempt counts, and how often in a
    /// row before this one it did not.
    fn failed(&mut self, record: Record, handled: u64, reason: &Arc<str>) -> (bool, u32) {
        let last = self.records.get(&record);
        let works = match (last, self.latest) {
            (Some(last), _) => handled > last.handled,
            // Its previous attempt was another consumer's, or this is its first: what happened here last decides.
            (None, Some(latest)) => handled > latest,
            (None, None) => handled > 0,
        };
        let before = last.map_or(0, |last| last.uncounted);
        let uncounted = if works { 0 } else { before.saturating_add(1) };
        self.remember(&record, Last { handled, uncounted });
        if self.latest.is_none_or(|latest| handled > latest) {
            self.row.clear();
        }
        self.latest = Some(handled);
        if self.row.len() < ROW && !self.row.contains(&record) {
            self.row.push(record);
        }
        if self.row.len() == ROW && self.outage.is_none() {
            self.outage = Some(Outage { handled, reason: Arc::clone(reason), since: None, next: None });
        }
        (works || (self.ordered && uncounted > UNCOUNTED_MOST), before)
    }

    fn remember(&mut self, record: &Record, last: Last) {
        if self.records.insert(record.clone(), last).is_none() {
            self.order.push_back(record.clone());
            if self.order.len() > REMEMBERED
                && let Some(oldest) = self.order.pop_front()
            {
                self.records.remove(&oldest);
            }
        }
    }
}

impl<B: Extent> State<B> {
    /// Records that were handled by readers of this consumer, now or before.
    pub(super) fn handled(&self) -> u64 {
        self.failing.retired + self.readers.values().map(|seat| seat.slot.handled()).sum::<u64>()
    }

    /// What a failure of `held` at `from` means.
    pub(super) fn judge(&mut self, held: &Held<B>, from: i64, failure: Failure) -> Verdict {
        let Failure { fault, delay, reason } = failure;
        let (counts, uncounted) = match fault {
            Fault::Data { through } => {
                let (delay, through) = (self.limits.retry_backoff, Some(through));
                return Verdict { counts: true, through, delay, reason };
            }
            Fault::Handler => {
                let handled = self.handled();
                self.failing.failed((held.tp.clone(), from), handled, &reason)
            }
        };
        let doublings = (held.unit.attempt.saturating_sub(1) + uncounted).min(16);
        let least = if self.failing.is_probing() { PROBE_BACKOFF } else { Duration::ZERO };
        let backoff = (self.limits.retry_backoff * 2u32.pow(doublings)).min(BACKOFF_MOST).max(least);
        Verdict { counts, through: None, delay: delay.unwrap_or(backoff), reason }
    }

    /// How many units a consumer may claim whose handler fails on everything: one, when it is time and the last probe is over.
    pub(super) fn probes_wanted(&self, now: Instant) -> usize {
        let is_due = |outage: &Outage| outage.next.is_some_and(|next| now >= next);
        usize::from(self.failing.outage.as_ref().is_some_and(is_due) && self.probe().is_none())
    }

    /// The probe that is under way. What a reader held before the outage was noticed is none: it may be held for very long. Nor is
    /// what waits for a leader that is away.
    fn probe(&self) -> Option<u64> {
        let since = self.failing.outage.as_ref()?.since?;
        let is_probe = |held: &Held<B>| held.claimed >= since && !self.is_stalled(held);
        self.units.iter().find(|(_, held)| is_probe(held)).map(|(key, _)| *key)
    }

    /// Notices that everything fails, and that a record was handled again; hands back what is held beside the probe. Says when to
    /// look again.
    pub(super) fn look_at_failing(&mut self, now: Instant) -> Option<Instant> {
        let outage = self.failing.outage.as_ref()?;
        if self.handled() > outage.handled {
            self.recovered(now);
            return None;
        }
        if outage.since.is_none() {
            self.begin_probing(now);
        }
        self.return_beside_probe();
        let busy = self.probe().is_some();
        let outage = self.failing.outage.as_mut()?;
        if outage.next.is_none() && !busy {
            outage.next = Some(now + super::jitter(PROBE_EVERY));
        }
        // A probe's first record may be handled long before its unit is. When the group has none, that decides when to ask again.
        let later = now + PROBE_EVERY;
        Some(outage.next.filter(|next| *next > now).map_or(later, |next| next.min(later)))
    }

    fn begin_probing(&mut self, now: Instant) {
        let Some(outage) = &mut self.failing.outage else { return };
        outage.since = Some(now);
        let reason = Arc::clone(&outage.reason);
        let group = &*self.group;
        // A handler that works now and then would fill the log.
        if let Some(more) = log_rate::due(format_args!("failing {group}")) {
            tracing::warn!(
                group,
                "{ROW} records failed one after the other and none was handled, the last with: {reason}. The handler, or what \
                 it needs, seems to be down: no attempt is counted, and one record about every second is tried until one is handled{more}"
            );
        }
        self.effects.events.push(Event::HandlerFailing { records: ROW as u32, reason });
        // Of these no record is in user code.
        self.return_pool();
        let waits = |held: &Held<B>| held.starving.is_some();
        let keys = self.units.iter().filter(|(_, held)| waits(held)).map(|(key, _)| *key).collect();
        self.return_units(keys);
    }

    /// An exchange that was under way may have brought more than a probe.
    pub(super) fn return_beside_probe(&mut self) {
        let Some(since) = self.failing.outage.as_ref().and_then(|outage| outage.since) else { return };
        let in_hands = |held: &Held<B>| held.holder.is_some() && held.claimed >= since;
        let mut keep = usize::from(!self.units.values().any(in_hands));
        let mut back = Vec::new();
        for key in &self.pool {
            if !self.is_stalled(&self.units[key]) {
                if keep == 0 { back.push(*key) } else { keep = 0 }
            }
        }
        self.return_units(back);
    }

    /// A probe is on its way: the next one waits.
    pub(super) fn probe_claimed(&mut self) {
        if let Some(outage) = &mut self.failing.outage {
            outage.next = None;
        }
        self.return_beside_probe();
    }

    fn recovered(&mut self, now: Instant) {
        let Some(outage) = self.failing.outage.take() else { return };
        self.failing.row.clear();
        let after = outage.since.map_or(Duration::ZERO, |since| now.saturating_duration_since(since));
        let (group, seconds) = (&*self.group, after.as_secs());
        if let Some(more) = log_rate::due(format_args!("failing no more {group}")) {
            tracing::info!(
                group,
                "a record was handled again after {seconds} s: units are claimed as before{more}"
            );
        }
        self.effects.events.push(Event::HandlerRecovered { after });
        self.effects.exchange = true;
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::{Limits, Take};
    use super::super::stats::Counters;
    use super::super::talk::Talk;
    use super::*;
    use std::task::Waker;

    use crate::config::Config;
    use crate::group::{Unit, UnitId};

    fn record(offset: i64) -> Record {
        (Tp { topic: "t".into(), partition: 0 }, offset)
    }

    /// Whether the attempt counts.
    fn fails(failing: &mut Failing, offset: i64, handled: u64) -> bool {
        failing.failed(record(offset), handled, &"it throws".into()).0
    }

    #[test]
    fn an_attempt_counts_when_another_record_was_handled_since_the_last() {
        let mut failing = Failing::new(false);
        assert!(!fails(&mut failing, 1, 0), "with no history");
        assert!(!fails(&mut failing, 1, 0));
        assert!(fails(&mut failing, 1, 1));
        assert!(!fails(&mut failing, 1, 1));
        assert!(!fails(&mut failing, 2, 1), "what happened last was a failure");
        assert!(fails(&mut failing, 3, 2), "what happened last was a success");
        assert!(fails(&mut failing, 1, 2));
        let mut fresh = Failing::new(false);
        assert!(fails(&mut fresh, 1, 5), "the handler has worked");
    }

    #[test]
    fn ten_different_records_in_a_row_are_an_outage_and_one_record_ten_times_is_none() {
        let mut failing = Failing::new(false);
        (0..30).for_each(|_| _ = fails(&mut failing, 1, 4));
        assert!(!failing.is_probing());
        (1..10).for_each(|offset| _ = fails(&mut failing, offset, 4));
        assert!(!failing.is_probing());
        // One was handled: the row begins anew.
        (11..20).for_each(|offset| _ = fails(&mut failing, offset, 5));
        assert!(!failing.is_probing());
        fails(&mut failing, 20, 5);
        assert!(failing.is_probing());
    }

    #[test]
    fn in_an_ordered_group_attempts_count_in_the_end() {
        for ordered in [false, true] {
            let mut failing = Failing::new(ordered);
            let counted = (0..30).filter(|_| fails(&mut failing, 1, 0)).count();
            assert_eq!(counted, if ordered { 30 - UNCOUNTED_MOST as usize } else { 0 });
        }
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut failing = Failing::new(false);
        (0..REMEMBERED as i64 + 500).for_each(|offset| _ = fails(&mut failing, offset, 0));
        assert_eq!((failing.records.len(), failing.order.len()), (REMEMBERED, REMEMBERED));
        assert!(failing.records.contains_key(&record(500)) && !failing.records.contains_key(&record(499)));
        assert_eq!(failing.row.len(), ROW);
    }

    #[derive(Debug, Clone)]
    struct Batch;

    impl Extent for Batch {
        fn base(&self) -> i64 {
            0
        }
        fn next(&self) -> i64 {
            10
        }
        fn bytes(&self) -> usize {
            100
        }
    }

    /// Time spent in user code is a failure like any other; what cannot be read is not the handler's.
    #[test]
    fn a_record_held_for_too_long_is_judged_like_one_that_throws() {
        let now = Instant::now();
        let counters = std::sync::Arc::new(Counters::default());
        let limits = Limits::new(&Config::default());
        let mut state = State::new(limits, "g".into(), Talk::new("c".into(), now), counters);
        let topic: std::sync::Arc<str> = "t".into();
        state.talk.add_topic(&topic);
        let id = UnitId { topic: std::sync::Arc::clone(&topic), partition: 0, carved_at: 0 };
        let (topic_id, attempt, request) = (crate::wire::Uuid::default(), 3, 1);
        let (start, end, leader_epoch, deadline) = (0, 10, 0, 0);
        let partition = 0;
        let unit =
            Unit { id, topic, partition, topic_id, start, end, attempt, request, leader_epoch, deadline };
        state.claimed(unit, now, now + Duration::from_secs(3_600));
        state.keep(&record(0).0, 0, vec![Batch]);
        let slot = state.add_reader(now);
        assert!(matches!(state.take(slot.id, Waker::noop(), now), Take::Unit(_)));
        slot.hand(0);
        state.tick(now);
        state.tick(now + state.limits.max_processing + Duration::from_secs(1));
        let request = state.exchange(now).expect("there is something to say");
        let nack = &request.nacks[0];
        assert_eq!((nack.counts, nack.delay), (false, Some(Duration::from_secs(4))), "the third attempt");
        assert_eq!(&*nack.reason, "max-processing-ms is over");
    }
}
