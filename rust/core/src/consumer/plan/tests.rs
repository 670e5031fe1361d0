use std::time::Duration;

use super::super::state::Limits;
use super::super::talk::Talk;
use super::*;
use crate::config::Config;
use crate::group::{Unit, UnitId};
use crate::wire::Uuid;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Batch(i64, i64);

impl Extent for Batch {
    fn base(&self) -> i64 {
        self.0
    }
    fn next(&self) -> i64 {
        self.1
    }
    fn bytes(&self) -> usize {
        (self.1 - self.0) as usize * 10
    }
}

fn tp() -> Tp {
    Tp { topic: "t".into(), partition: 0 }
}

fn unit(start: i64, end: i64, leader_epoch: i32) -> Unit {
    let id = UnitId { topic: "t".into(), partition: 0, carved_at: start };
    let (topic, partition) = (Arc::clone(&id.topic), 0);
    Unit {
        id,
        topic,
        partition,
        topic_id: Default::default(),
        start,
        end,
        attempt: 1,
        request: 1,
        leader_epoch,
        deadline: 0,
    }
}

fn state() -> State<Batch> {
    let now = Instant::now();
    let counters = Arc::new(Counters::default());
    let mut state =
        State::new(Limits::new(&Config::default()), "g".into(), Talk::new("c".into(), now), counters);
    state.feeds.entry(tp()).or_default();
    state
}

/// What a fetch from the leader asked for.
fn want(position: i64, epoch: i32) -> Want {
    Want { tp: tp(), topic_id: Uuid::default(), position, bytes: 1000, epoch, replica: false, near: true }
}

/// Fetched of that partition so far by the one unit that is held.
fn next(state: &State<Batch>) -> i64 {
    state.units.values().next().expect("a unit").next
}

fn claim(state: &mut State<Batch>, unit: Unit) {
    state.units.clear();
    state.pool.clear();
    state.claimed(unit, Instant::now(), Instant::now() + Duration::from_secs(30));
}

/// The log was cut by an unclean election; this member did not hear of it from a leader.
#[test]
fn what_an_old_leader_said_is_not_handed_out_as_the_new_ones() {
    let mut state = state();
    state.polled(&tp(), 0, vec![Batch(0, 100)], 100, 5);
    claim(&mut state, unit(10, 20, 5));
    assert_eq!(next(&state), 100, "as long as nothing changes what was read ahead is used");
    claim(&mut state, unit(20, 30, 6));
    assert_eq!(next(&state), 20, "the group knows of another leader");
    let feed = &state.feeds[&tp()];
    assert_eq!((feed.epoch, feed.high_watermark), (6, 30), "the old leader's end is not the new one's");
    // An answer of the old leader that was on its way.
    assert!(!state.fetched(&want(20, 5), vec![Batch(0, 100)], 100, Instant::now()));
    assert!(!state.polled(&tp(), 20, vec![Batch(20, 100)], 100, 5));
    assert_eq!(next(&state), 20);
    assert!(state.fetched(&want(20, 6), vec![Batch(0, 50)], 50, Instant::now()));
    assert_eq!(next(&state), 50);
}

#[test]
fn a_replica_near_by_is_read_until_it_fails() {
    let mut state = state();
    let budget = Budget::new(1 << 20, Arc::default());
    claim(&mut state, unit(0, 100, 5));
    let mut now = Instant::now();
    let plan = |state: &mut State<Batch>, now| {
        let mut plan = state.plan(&budget, now, |_| Some((1, 5, Uuid::default())));
        let fetch = plan.fetches.pop().expect("the unit waits");
        state.fetch_over(fetch.node);
        (fetch.node, fetch.wants[0].clone())
    };
    let (node, want) = plan(&mut state, now);
    assert_eq!((node, want.replica), (1, false));
    state.sent_to_replica(&want, 2, now);
    let (node, mut want) = plan(&mut state, now);
    assert_eq!((node, want.replica), (2, true));
    assert!(state.fetched(&want, vec![Batch(0, 50)], 100, now));
    assert_eq!(plan(&mut state, now).0, 2, "it is asked for what comes next, too");
    for wait in [5, 10, 20] {
        state.fetch_failed(&want, now);
        now += Duration::from_secs(wait - 1);
        let (node, alone) = plan(&mut state, now);
        assert_eq!((node, alone.near), (1, false), "the leader is not told that there is something nearer");
        state.fetch_failed(&alone, now);
        now += Duration::from_secs(2);
        let (node, asks) = plan(&mut state, now);
        assert_eq!((node, asks.near), (1, true));
        state.sent_to_replica(&asks, 2, now);
        let (node, again) = plan(&mut state, now);
        assert_eq!((node, again.replica), (2, true));
        want = again;
    }
    state.fetched(&want, vec![Batch(50, 60)], 100, now);
    state.fetch_failed(&want, now);
    now += Duration::from_secs(6);
    let (node, want) = plan(&mut state, now);
    assert_eq!((node, want.near), (1, true), "what has worked again is believed again");
    state.sent_to_replica(&want, 2, now);
    now += REPLICA_FOR;
    let (node, want) = plan(&mut state, now);
    assert_eq!(node, 1, "the leader says it anew from time to time");
    state.sent_to_replica(&want, 2, now);
    claim(&mut state, unit(50, 100, 6));
    assert_eq!(plan(&mut state, now).0, 1, "another leader may choose another one");
}

#[test]
fn a_new_leaders_own_data_is_kept() {
    let mut state = state();
    state.polled(&tp(), 0, vec![Batch(0, 100)], 100, 5);
    assert!(state.polled(&tp(), 100, vec![Batch(100, 120)], 120, 6));
    claim(&mut state, unit(90, 110, 6));
    assert_eq!(next(&state), 90, "what the old one said is asked for again");
    claim(&mut state, unit(100, 110, 6));
    assert_eq!(next(&state), 120);
}

#[test]
fn pieces_are_of_about_one_size_and_none_is_small() {
    for bytes in (1..64).map(|i| i * PIECE / 8 + 1) {
        let piece = even_piece(bytes, PIECE);
        let pieces = bytes.div_ceil(piece);
        assert!(piece <= bytes && pieces * piece - bytes < pieces, "{bytes} in {pieces} of {piece}");
        assert!(bytes < PIECE || (PIECE * 2 / 3..=PIECE * 3 / 2 + 1).contains(&piece), "{bytes}: {piece}");
    }
}

#[test]
fn what_is_wanted_together_goes_in_requests_that_are_not_too_large() {
    let mut state = state();
    let budget = Budget::new(16 << 20, Arc::default());
    let now = Instant::now();
    for partition in 0..8 {
        let mut unit = unit(0, 1000, 5);
        unit.partition = partition;
        unit.id.partition = partition;
        state.claimed(unit, now, now + Duration::from_secs(30));
    }
    let mut asked = Vec::new();
    for request in 1..=REQUESTS_PER_LEADER {
        state.effects.fetch = false;
        let plan = state.plan(&budget, now, |_| Some((1, 5, Uuid::default())));
        assert_eq!(plan.fetches.len(), 1);
        assert!(plan.bytes() >= REQUEST && plan.bytes() < REQUEST + PIECE * 2, "{}", plan.bytes());
        assert_eq!(state.effects.fetch, request < REQUESTS_PER_LEADER, "the rest waits for an answer");
        asked.extend(plan.fetches[0].wants.iter().map(|want| want.tp.partition));
    }
    let wanted = asked.len();
    asked.sort_unstable();
    asked.dedup();
    assert_eq!((asked.len(), wanted), (6, 6), "no partition is asked for twice");
    assert!(state.plan(&budget, now, |_| Some((1, 5, Uuid::default()))).fetches.is_empty());
}

#[test]
fn what_is_lost_of_a_unit_that_nobody_has_begun_is_not_reported_again() {
    let mut state = state();
    claim(&mut state, unit(0, 100, 5));
    assert_eq!(state.log_starts(&tp(), 40), [(0, 40)]);
    let held = state.units.values().next().expect("a unit");
    assert_eq!((held.from, held.next), (40, 40), "it goes back from there");
    // Records that are here come before what is lost: they are still to be handled.
    claim(&mut state, unit(100, 200, 5));
    assert!(state.fetched(&want(100, 5), vec![Batch(100, 120)], 300, Instant::now()));
    assert_eq!(state.log_starts(&tp(), 150), [(120, 150)]);
    let held = state.units.values().next().expect("a unit");
    assert_eq!((held.from, held.next), (100, 150));
}

/// Else each would come alone, and the other partitions of its request with nothing.
#[test]
fn batches_that_are_larger_than_a_piece_are_asked_for_whole() {
    let mut state = state();
    let budget = Budget::new(64 << 20, Arc::default());
    let large = 300_000;
    claim(&mut state, unit(0, large, 5));
    assert!(state.fetched(&want(0, 5), vec![Batch(0, large)], 3 * large, Instant::now()));
    claim(&mut state, unit(large, 3 * large, 5));
    let plan = state.plan(&budget, Instant::now(), |_| Some((1, 5, Uuid::default())));
    assert_eq!(plan.bytes(), Batch(0, large).bytes(), "of 6 MB that are expected");
}

#[test]
fn a_unit_that_is_complete_has_lost_nothing() {
    let mut state = state();
    state.polled(&tp(), 0, vec![Batch(0, 100)], 100, 5);
    claim(&mut state, unit(10, 20, 5));
    assert_eq!(next(&state), 100, "its batch holds more than it");
    assert_eq!(state.log_starts(&tp(), 150), []);
    assert!(state.effects.events.is_empty());
}

/// Its batches would be handed out as those of the topic that is there now, and its start would count as fixed.
#[test]
fn what_comes_late_of_a_topic_that_was_created_again_is_dropped() {
    let mut state = state();
    claim(&mut state, unit(0, 100, 0));
    state.started(&tp(), Uuid([7; 16]), Instant::now());
    assert!(state.known.has_started(&tp()));
    state.forget_topic(&tp().topic);
    assert!(!state.polled(&tp(), 0, vec![Batch(0, 100)], 100, 0));
    assert!(state.fetched(&want(0, 0), vec![Batch(0, 100)], 100, Instant::now()));
    // A unit of before makes a feed, and no start.
    claim(&mut state, unit(0, 100, 0));
    assert_eq!(next(&state), 0);
    assert!(!state.known.has_started(&tp()));
}

/// The group hands out units of the old topic until it knows the new one, and they name a leader epoch that may never come.
#[test]
fn until_the_group_knows_a_topic_that_was_created_again_no_unit_of_it_is_taken() {
    let (mut state, topic, now) = (state(), tp().topic, Instant::now());
    let later = now + Duration::from_secs(1);
    state.talk.add_topic(&topic);
    assert_eq!(state.topics_to_claim(now), [Arc::clone(&topic)]);
    state.forget_topic(&topic);
    assert!(state.topics_to_claim(now).is_empty() && state.known.is_gone(&topic, now));
    claim(&mut state, unit(0, 100, 7));
    state.started(&tp(), Uuid([8; 16]), later);
    assert!(state.known.has_started(&tp()) && state.topics_to_claim(later) == [Arc::clone(&topic)]);
    // What was asked for before may still be of the old one.
    assert!(state.known.is_gone(&topic, now) && !state.known.is_gone(&topic, later));
    claim(&mut state, unit(0, 10, 0));
    assert!(state.fetched(&want(0, 0), vec![Batch(0, 10)], 10, later), "its epoch is the highest seen");
}

/// Of two that mean different topics by a name one is behind. Nobody knows which at first.
#[test]
fn a_unit_of_another_topic_goes_back_and_it_is_asked_who_is_behind() {
    let (mut state, topic, mut now) = (state(), tp().topic, Instant::now());
    let id = |n| Uuid([n; 16]);
    let of = |n| Unit { topic_id: id(n), ..unit(0, 100, 0) };
    state.talk.add_topic(&topic);
    state.started(&tp(), id(8), now);
    state.keep(&tp(), 0, vec![Batch(0, 100)]);
    let mut waits = Vec::new();
    for times in 1..=8 {
        assert!(state.turn_away(vec![of(9), of(9)], now, now).is_empty());
        assert!(state.units.is_empty() && state.talk.untold() == 2 * times, "both go back");
        assert!(std::mem::take(&mut state.effects.look) && state.topics_to_claim(now).is_empty());
        assert_eq!((state.known.disputed(), state.known.disputed()), (vec![Arc::clone(&topic)], vec![]));
        // Brokers that have named the same id so often are not behind.
        assert_eq!(state.known.is_confirmed(&topic), times >= 3);
        let until = state.known.foreign_until(&topic).unwrap();
        waits.push(until - now);
        now = until;
        assert_eq!(state.topics_to_claim(now), [Arc::clone(&topic)], "it is tried again");
    }
    assert!(waits[0] <= Duration::from_millis(150) && waits[7] >= Duration::from_millis(2500), "{waits:?}");
    // They agree; a broker without ids agrees with everybody.
    assert_eq!(state.turn_away(vec![of(8)], now, now).len(), 1);
    assert!(!state.known.is_confirmed(&topic) && state.known.foreign_until(&topic).is_none());
    assert_eq!(state.turn_away(vec![of(0)], now, now).len(), 1);
    // It is this consumer that was behind.
    state.turn_away(vec![of(9)], now, now);
    state.forget_topic(&topic);
    state.started(&tp(), id(9), now);
    assert!(
        state.topics_to_claim(now) == [Arc::clone(&topic)]
            && state.turn_away(vec![of(9)], now, now).len() == 1
    );
}
