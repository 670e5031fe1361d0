//! Topics that the brokers do not let this consumer read. No I/O; further methods of [`State`].
//!
//! A right that is missing is no fault of the units: none of them fails, and nothing is skipped. Instead the topic is left
//! alone for a while: its units go back to the group, whose other members may have the right, and the group is not asked
//! for more of them, or they would soon be all that this consumer holds. When the time is over the topic is tried again, and
//! goes on by itself once the right was granted. People are told by an event and in the log.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cache::Extent;
use super::event::Event;
use super::state::{Held, State, Tp};
use crate::wire::ErrorCode;

/// How long a topic is left alone: doubling, with jitter that may add half.
const WAIT_FIRST: Duration = Duration::from_secs(1);
const WAIT_MOST: Duration = Duration::from_secs(20);
/// How often the same is said of a topic.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// Whether an error code says that the user lacks a right.
const fn is_denial(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::TOPIC_AUTHORIZATION_FAILED
            | ErrorCode::GROUP_AUTHORIZATION_FAILED
            | ErrorCode::CLUSTER_AUTHORIZATION_FAILED
    )
}

/// The topics that may not be read; as many rows as topics were met that could not.
#[derive(Debug, Default)]
pub(super) struct Denied(HashMap<Arc<str>, Denial>);

#[derive(Debug)]
struct Denial {
    /// Until when the topic is left alone.
    until: Instant,
    /// In a row; 0 once the topic could be read.
    times: u32,
    /// When people were told last.
    said: Option<Instant>,
}

impl Denied {
    /// Until when a topic is left alone, if it is.
    pub(super) fn until(&self, topic: &str, now: Instant) -> Option<Instant> {
        self.0.get(topic).map(|denial| denial.until).filter(|until| *until > now)
    }

    /// Whether a topic could not be read when it was tried last.
    pub(super) fn is_denied(&self, topic: &str) -> bool {
        self.0.get(topic).is_some_and(|denial| denial.times > 0)
    }

    /// The topic is of no interest any more.
    pub(super) fn forget(&mut self, topic: &str) {
        self.0.remove(topic);
    }

    /// A topic may not be read; `ours`: it is one that this consumer is to read. Says whether people are to hear of it.
    fn add(&mut self, topic: &Arc<str>, ours: bool, now: Instant) -> bool {
        let denial = self.0.entry(Arc::clone(topic)).or_insert(Denial { until: now, times: 0, said: None });
        let wait = WAIT_MOST.min(WAIT_FIRST * 2u32.pow(denial.times.min(10)));
        denial.until = now + super::jitter(wait);
        denial.times = denial.times.saturating_add(1);
        let is_due = ours && denial.said.is_none_or(|said| now >= said + SAY_EVERY);
        if is_due {
            denial.said = Some(now);
        }
        is_due
    }

    /// A topic could be read. The time for which it is left alone stays as it is: brokers hear of a right one after the
    /// other, and the answers of one must not keep us asking another.
    pub(super) fn read(&mut self, topic: &str) {
        if let Some(denial) = self.0.get_mut(topic).filter(|denial| denial.times > 0) {
            tracing::info!(topic, "the topic may be read again");
            denial.times = 0;
        }
    }
}

impl<B: Extent> State<B> {
    /// A fetch of `tp` was answered with `code`. If that says that the user may not read the topic, it is left alone for
    /// a while; says whether it does.
    pub(super) fn denied(&mut self, tp: &Tp, code: ErrorCode, now: Instant) -> bool {
        if !is_denial(code) {
            return false;
        }
        // Of several partitions the first one counts.
        if self.denied.until(&tp.topic, now).is_none() {
            // What the organiser looks at for others has no reader here.
            let ours = self.talk.topics().contains(&tp.topic);
            if self.denied.add(&tp.topic, ours, now) {
                self.say_denied(&tp.topic, code);
            }
            // The units go back.
            self.effects.exchange = true;
        }
        true
    }

    fn say_denied(&mut self, topic: &Arc<str>, code: ErrorCode) {
        let reason = format!(
            "This user may not READ topic \"{topic}\" ({code}): grant READ on the topic (kafka-acls.sh --add --operation Read \
             --topic {topic} ...). Its readers wait, and go on within 30 s once the right is there"
        );
        tracing::warn!("{reason}");
        self.effects.events.push(Event::NotAuthorized { topic: Arc::clone(topic), reason: reason.into() });
    }

    /// How many topics could not be read when this consumer's readers were to read them last.
    pub(super) fn topics_denied(&self) -> u64 {
        self.talk.topics().iter().filter(|topic| self.denied.is_denied(topic)).count() as u64
    }

    /// Forgets topics that neither this consumer reads nor, as far as it knows, others of the group.
    pub(super) fn forget_denied(&mut self) {
        let (topics, others) = (self.talk.topics(), &self.others);
        let is_read = |topic: &Arc<str>| topics.contains(topic) || others.keys().any(|tp| tp.topic == *topic);
        self.denied.0.retain(|topic, _| is_read(topic));
    }

    /// The topics that the group may give us units of.
    pub(super) fn topics_to_claim(&self, now: Instant) -> Vec<Arc<str>> {
        let may = |topic: &&Arc<str>| {
            self.denied.until(topic, now).is_none()
                && !self.is_tried(topic, now)
                && !self.known.is_gone(topic, now)
                && self.known.foreign_until(topic).is_none_or(|until| until <= now)
        };
        self.talk.topics().iter().filter(may).cloned().collect()
    }

    /// Whether a topic that was denied is tried again: what one exchange brought of it is enough to find out. Its units do not
    /// count as work at hand, so that others are claimed too, and without an end to it more and more of them would be. It may be
    /// that their leader is away, so others are tried after a second.
    fn is_tried(&self, topic: &Arc<str>, now: Instant) -> bool {
        let tries =
            |held: &Held<B>| held.tp.topic == *topic && !held.ready() && now < held.claimed + WAIT_FIRST;
        self.denied.is_denied(topic) && self.units.values().any(tries)
    }

    /// Hands back units that wait for data of topics that are left alone; readers that wait in the middle of one find it
    /// gone, and ask for another. What they handled of it is handled.
    pub(super) fn give_back_denied(&mut self, now: Instant) {
        let waits = |held: &Held<B>| !held.ready() && (held.holder.is_none() || held.starving.is_some());
        let units = self.units.iter().filter(|(_, held)| waits(held));
        let denied = units.filter(|(_, held)| self.denied.until(&held.tp.topic, now).is_some());
        let keys = denied.map(|(key, _)| *key).collect();
        self.return_units(keys);
    }
}

#[cfg(test)]
mod tests {
    use super::super::budget::Budget;
    use super::super::state::{Effects, Limits, More, Take};
    use super::super::stats::Counters;
    use super::super::talk::Talk;
    use super::*;
    use std::task::Waker;

    use crate::config::Config;
    use crate::group::{Unit, UnitId};

    const DENIED: ErrorCode = ErrorCode::TOPIC_AUTHORIZATION_FAILED;

    /// From 0 on.
    #[derive(Debug, Clone)]
    struct Batch {
        next: i64,
    }

    impl Extent for Batch {
        fn base(&self) -> i64 {
            0
        }
        fn next(&self) -> i64 {
            self.next
        }
        fn bytes(&self) -> usize {
            1000
        }
    }

    fn tp(topic: &str, partition: i32) -> Tp {
        Tp { topic: topic.into(), partition }
    }

    fn names(topics: &[Arc<str>]) -> Vec<&str> {
        topics.iter().map(|topic| &**topic).collect()
    }

    /// A consumer of two topics that holds a unit of each, in the pool.
    fn state(now: Instant) -> State<Batch> {
        let counters = Arc::new(Counters::default());
        let mut state =
            State::new(Limits::new(&Config::default()), "g".into(), Talk::new("c".into(), now), counters);
        for topic in ["open", "closed"] {
            state.talk.add_topic(&topic.into());
            claim(&mut state, topic, 0, now);
        }
        state
    }

    /// The group gives ten offsets of `topic` from `start` on.
    fn claim(state: &mut State<Batch>, topic: &str, start: i64, now: Instant) {
        let topic: Arc<str> = topic.into();
        let id = UnitId { topic: Arc::clone(&topic), partition: 0, carved_at: start };
        let (end, attempt, request, leader_epoch, deadline) = (start + 10, 1, 1, 0, 0);
        let unit = Unit {
            id,
            topic,
            partition: 0,
            topic_id: Default::default(),
            start,
            end,
            attempt,
            request,
            leader_epoch,
            deadline,
        };
        state.claimed(unit, now, now + Duration::from_secs(30));
    }

    #[test]
    fn a_topic_is_tried_ever_more_rarely_and_said_once_a_minute() {
        let (mut denied, began) = (Denied::default(), Instant::now());
        let topic: Arc<str> = "t".into();
        let (mut now, mut tries, mut said) = (began, 0, Vec::new());
        while now < began + Duration::from_secs(600) {
            if denied.add(&topic, true, now) {
                said.push(now);
            }
            tries += 1;
            let until = denied.until("t", now).expect("it is left alone");
            assert!(until <= now + Duration::from_secs(30), "{:?}", until - now);
            now = until;
            assert_eq!(denied.until("t", now), None);
        }
        assert!((20..=70).contains(&tries), "{tries} tries in ten minutes");
        assert!((7..=10).contains(&said.len()), "said {} times in ten minutes", said.len());
        assert!(said.windows(2).all(|pair| pair[1] - pair[0] >= SAY_EVERY));
        assert!(denied.is_denied("t"));
        denied.read("t");
        assert!(!denied.is_denied("t"));
        denied.add(&topic, true, now);
        let until = denied.until("t", now).expect("it is left alone");
        assert!(until < now + Duration::from_secs(2), "it begins anew: {:?}", until - now);
    }

    #[test]
    fn the_units_of_a_topic_that_is_denied_go_back_and_no_more_are_asked_for() {
        let now = Instant::now();
        let mut state = state(now);
        let budget = Budget::new(1 << 20, Arc::default());
        assert!(!state.denied(&tp("open", 0), ErrorCode::NOT_LEADER_OR_FOLLOWER, now));
        assert!(state.denied(&tp("closed", 0), DENIED, now));
        assert!(state.denied(&tp("closed", 1), DENIED, now), "another partition of the same topic");
        let [Event::NotAuthorized { topic, reason }] = &state.effects.events[..] else {
            panic!("{:?}", state.effects.events)
        };
        assert_eq!(&**topic, "closed");
        assert!(
            reason.contains("TOPIC_AUTHORIZATION_FAILED") && reason.contains("--topic closed"),
            "{reason}"
        );

        state.tick(now);
        let left: Vec<_> = state.units.values().map(|held| &*held.tp.topic).collect();
        assert_eq!(left, ["open"]);
        let request = state.exchange(now).expect("there is something to say");
        let back: Vec<_> = request.nacks.iter().map(|nack| (&*nack.id.topic, nack.delay)).collect();
        assert_eq!(back, [("closed", None)], "it is no failed attempt");
        assert_eq!(names(&request.topics), ["open"]);
        let plan = state.plan(&budget, now, |_| Some((1, 0, crate::wire::Uuid::default())));
        assert_eq!(plan.fetches[0].wants[0].tp, tp("open", 0));

        let later = now + Duration::from_secs(2);
        assert_eq!(names(&state.topics_to_claim(later)), ["open", "closed"], "it is tried again");
    }

    /// Takes the unit of "open" away, and has "closed" denied so often that its partition counts as one that fails.
    fn denied_twice(now: Instant) -> State<Batch> {
        let mut state = state(now);
        state.units.retain(|_, held| &*held.tp.topic == "closed");
        state.pool.retain(|key| state.units.contains_key(key));
        let budget = Budget::new(1 << 20, Arc::default());
        for at in [now, now + Duration::from_secs(5)] {
            let plan = state.plan(&budget, at, |_| Some((1, 0, crate::wire::Uuid::default())));
            state.fetch_failed(&plan.fetches[0].wants[0], at);
            assert!(state.denied(&tp("closed", 0), DENIED, at));
            state.fetch_over(1);
        }
        state
    }

    #[test]
    fn a_topic_that_was_denied_is_tried_with_what_one_exchange_brings() {
        let began = Instant::now();
        let mut state = denied_twice(began);
        let now = began + Duration::from_secs(60);
        let slot = state.add_reader(now);
        assert!(matches!(state.take(slot.id, Waker::noop(), now), Take::Wait));
        assert_eq!(names(&state.topics_to_claim(now)), ["open", "closed"], "it is time to try it again");

        claim(&mut state, "closed", 10, now);
        let unready = state.pool.iter().filter(|key| state.is_stalled(&state.units[key])).count();
        assert_eq!((state.wanted(now), unready), (1, 2), "the reader waits for others all the same");
        assert_eq!(names(&state.topics_to_claim(now)), ["open"]);
        let later = now + Duration::from_secs(2);
        assert_eq!(names(&state.topics_to_claim(later)), ["open", "closed"], "its leader may be away");

        let mut allowed = denied_twice(began);
        claim(&mut allowed, "closed", 10, now);
        allowed.denied.read("closed");
        assert_eq!(names(&allowed.topics_to_claim(now)), ["open", "closed"], "it could be read");
    }

    #[test]
    fn a_reader_that_runs_dry_in_a_topic_that_is_left_alone_gives_its_unit_back_at_once() {
        let now = Instant::now();
        let mut state = state(now);
        state.keep(&tp("closed", 0), 0, vec![Batch { next: 5 }]);
        let slot = state.add_reader(now);
        let Take::Unit(taken) = state.take(slot.id, Waker::noop(), now) else { panic!("it has begun") };
        assert_eq!(&*taken.info.topic, "closed");
        state.denied(&tp("closed", 0), DENIED, now);
        state.tick(now);
        assert_eq!(state.units.len(), 2, "its reader has records of it");
        state.effects = Effects::default();

        slot.at(5);
        assert!(matches!(state.more(slot.id, taken.key, Waker::noop(), now), More::Wait));
        assert!(state.effects.exchange);
        state.tick(now);
        let request = state.exchange(now).expect("there is something to say");
        let back: Vec<_> = request.nacks.iter().map(|nack| (&*nack.id.topic, nack.progress)).collect();
        assert_eq!(back, [("closed", 5)]);
        assert!(matches!(state.more(slot.id, taken.key, Waker::noop(), now), More::Gone));
    }

    #[test]
    fn of_a_topic_that_only_others_read_nobody_is_told_and_one_that_nobody_reads_is_forgotten() {
        let now = Instant::now();
        let mut state = state(now);
        state.others.insert(tp("theirs", 0), 0);
        assert!(state.denied(&tp("theirs", 0), DENIED, now));
        assert!(state.denied.until("theirs", now).is_some(), "the polls leave it out");
        assert!(state.effects.events.is_empty(), "{:?}", state.effects.events);
        assert_eq!(state.topics_denied(), 0);
        assert!(state.denied(&tp("closed", 0), DENIED, now));
        assert_eq!(state.topics_denied(), 1);

        assert!(state.denied(&tp("gone", 0), DENIED, now), "an answer that came late");
        state.exchange(now).expect("a heartbeat is due");
        let mut left: Vec<_> = state.denied.0.keys().map(|topic| &**topic).collect();
        left.sort_unstable();
        assert_eq!(left, ["closed", "theirs"]);
    }
}
