//! Partitions that wait for their leader, or for the group's coordinator, while the others are read: for their start, or to be
//! compared with the commits after another Redis took over. No I/O.
//!
//! The group keeps where they are to start ([`LateStart`]), so any member can start them. Here stands what this member tries
//! again, and when.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::state::Tp;
use crate::group::LateStart;

/// Wait before the next try, doubling with jitter.
const TRY_FIRST: Duration = Duration::from_millis(250);
const TRY_MOST: Duration = Duration::from_secs(5);
/// Partitions that one line names.
const NAMED_MOST: usize = 10;

/// What a partition waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum What {
    /// Its start is not known.
    Start,
    /// Its position may be older than the commit in Kafka.
    Check,
}

#[derive(Debug)]
struct Row {
    what: What,
    /// Where it is to start, as the group has recorded it: a group that is lost is told again.
    start: Option<LateStart>,
    since: Instant,
    next: Instant,
    tries: u32,
    /// Whether it is being tried.
    busy: bool,
    /// Whether people were told that it waits; then they are told when it goes on.
    said: bool,
}

/// The partitions that wait; as many rows as the group's topics have partitions, at most.
#[derive(Debug, Default)]
pub(super) struct Pending(BTreeMap<Tp, Row>);

impl Pending {
    /// A partition has to wait. `said`: people are told.
    pub(super) fn add(&mut self, tp: &Tp, what: What, start: Option<LateStart>, said: bool, now: Instant) {
        let row = self.0.entry(tp.clone()).or_insert(Row {
            what,
            start,
            since: now,
            next: now,
            tries: 0,
            busy: false,
            said,
        });
        row.what = what;
        row.start = start.or(row.start);
        row.said |= said;
    }

    /// What is to be tried now; until [`tried`](Self::tried) it is not named again.
    pub(super) fn due(&mut self, now: Instant) -> Vec<(Tp, What)> {
        let due = self.0.iter_mut().filter(|(_, row)| !row.busy && row.next <= now);
        due.map(|(tp, row)| {
            row.busy = true;
            (tp.clone(), row.what)
        })
        .collect()
    }

    /// When something is due next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().filter(|row| !row.busy).map(|row| row.next).min()
    }

    /// A try of a partition is over. If it still waits it is tried again after a while.
    pub(super) fn tried(&mut self, tp: &Tp, now: Instant) {
        if let Some(row) = self.0.get_mut(tp) {
            row.busy = false;
            row.next = now + super::jitter(TRY_MOST.min(TRY_FIRST * 2u32.pow(row.tries.min(8))));
            row.tries = row.tries.saturating_add(1);
        }
    }

    /// A partition waits no longer. How long it did, if people were told.
    pub(super) fn done(&mut self, tp: &Tp, what: What, now: Instant) -> Option<Duration> {
        if self.0.get(tp).is_none_or(|row| row.what != what) {
            return None;
        }
        let row = self.0.remove(tp)?;
        row.said.then(|| now.saturating_duration_since(row.since))
    }

    /// Where a partition is to start, as far as this member knows.
    pub(super) fn start(&self, tp: &Tp) -> Option<LateStart> {
        self.0.get(tp)?.start
    }

    /// Whether a partition waits.
    pub(super) fn has(&self, tp: &Tp) -> bool {
        self.0.contains_key(tp)
    }

    /// How many partitions of these topics wait.
    pub(super) fn count(&self, topics: &[Arc<str>]) -> u64 {
        self.0.keys().filter(|tp| topics.contains(&tp.topic)).count() as u64
    }

    /// The topic is of no interest any more, or another one has its name.
    pub(super) fn forget(&mut self, topic: &str) {
        self.0.retain(|tp, _| *tp.topic != *topic);
    }
}

/// Some partitions by name, for people.
pub(super) fn names<'a>(tps: impl ExactSizeIterator<Item = &'a Tp>) -> String {
    let more = tps.len().saturating_sub(NAMED_MOST);
    let named: Vec<String> =
        tps.take(NAMED_MOST).map(|tp| format!("{}/{}", tp.topic, tp.partition)).collect();
    match more {
        0 => named.join(", "),
        more => format!("{} and {more} more", named.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tp(partition: i32) -> Tp {
        Tp { topic: "t".into(), partition }
    }

    #[test]
    fn what_waits_is_tried_ever_more_rarely_and_one_try_at_a_time() {
        let (mut pending, mut now) = (Pending::default(), Instant::now());
        let began = now;
        pending.add(&tp(0), What::Start, Some(LateStart::Since(7)), true, now);
        let mut pauses = Vec::new();
        for _ in 0..12 {
            assert_eq!(pending.due(now), [(tp(0), What::Start)]);
            assert!(pending.due(now + TRY_MOST).is_empty() && pending.next().is_none(), "it is being tried");
            pending.tried(&tp(0), now);
            let next = pending.next().unwrap();
            pauses.push(next - now);
            assert!(pending.due(next - Duration::from_millis(1)).is_empty());
            now = next;
        }
        assert!(
            pauses[0] <= TRY_FIRST * 2 && pauses[11] >= TRY_MOST / 2 && pauses[11] <= TRY_MOST * 2,
            "{pauses:?}"
        );
        assert_eq!(pending.done(&tp(0), What::Start, now), Some(now - began));
        assert!(!pending.has(&tp(0)) && pending.next().is_none());
    }

    #[test]
    fn a_group_that_is_lost_is_told_the_start_that_it_had_recorded() {
        let (mut pending, now) = (Pending::default(), Instant::now());
        pending.add(&tp(0), What::Start, Some(LateStart::Since(7)), false, now);
        pending.add(&tp(0), What::Start, None, true, now);
        assert_eq!((pending.start(&tp(0)), pending.start(&tp(1))), (Some(LateStart::Since(7)), None));
        assert_eq!((pending.count(&["t".into()]), pending.count(&["u".into()])), (1, 0));
        assert_eq!(pending.done(&tp(0), What::Check, now), None);
        assert!(pending.has(&tp(0)), "what it waits for is another thing");
        pending.forget("t");
        assert!(!pending.has(&tp(0)));
    }

    #[test]
    fn a_line_names_some_partitions() {
        let few: Vec<Tp> = (0..2).map(tp).collect();
        let many: Vec<Tp> = (0..12).map(tp).collect();
        assert_eq!(names(few.iter()), "t/0, t/1");
        assert_eq!(names(many.iter()), "t/0, t/1, t/2, t/3, t/4, t/5, t/6, t/7, t/8, t/9 and 2 more");
    }
}
