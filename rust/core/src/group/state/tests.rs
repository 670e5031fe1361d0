//! Single rules of the state machine, one test each. Whatever happens in between is tested by `group::sim`.

mod quarantine;

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{GroupState, PARKED_PER_PARTITION};
use crate::config::{Config, Ordering};
use crate::group::types::*;
use crate::wire::Uuid;

fn topic() -> Arc<str> {
    "t".into()
}

fn settings() -> GroupSettings {
    GroupSettings::of(&Config::default())
}

fn with_backlog(settings: GroupSettings, partitions: i32, records: i64) -> GroupState {
    let mut state = GroupState::new(settings, 0);
    let (topic_id, leader_epoch) = (Uuid::default(), 0);
    let start = |partition| Init {
        topic: topic(),
        partition,
        topic_id,
        leader_epoch,
        start: 0,
        high_watermark: records,
        log_start: 0,
        done: Vec::new(),
    };
    state.init(&(0..partitions).map(start).collect::<Vec<_>>(), 5);
    state
}

fn claim(state: &mut GroupState, who: &str, number: u64, want: u32) -> Vec<Unit> {
    let mut request = ExchangeRequest::new(who.into(), number, vec![topic()]);
    request.want = want;
    state.exchange(0, &request).units
}

#[test]
fn a_fault_free_run_has_no_duplicate_and_shares_the_backlog() {
    let mut state = with_backlog(settings(), 1, 1_000);
    let mut seen = BTreeSet::new();
    let mut by_member = [0_i64; 2];
    let mut number = 0;
    loop {
        number += 1;
        let mut any = false;
        for (i, who) in ["a", "b"].into_iter().enumerate() {
            let units = claim(&mut state, who, number, 1);
            let mut request = ExchangeRequest::new(who.into(), 0, vec![topic()]);
            for unit in &units {
                any = true;
                by_member[i] += unit.end - unit.start;
                assert!((unit.start..unit.end).all(|offset| seen.insert(offset)));
                let Unit { id, request: claimed_by, end, .. } = unit.clone();
                request.acks.push(Ack {
                    id,
                    request: claimed_by,
                    end,
                    high_watermark: -1,
                    leader_epoch: -1,
                    records: 1,
                    bytes: 1,
                });
            }
            state.exchange(0, &request);
        }
        state.check().unwrap();
        if !any {
            break;
        }
    }
    assert_eq!(seen.len(), 1_000);
    assert!(by_member.iter().all(|n| *n > 200), "{by_member:?}");
}

#[test]
fn the_same_request_gets_the_same_units() {
    let mut state = with_backlog(settings(), 3, 100);
    let first = claim(&mut state, "a", 1, 2);
    assert_eq!(first.len(), 2);
    assert_eq!(claim(&mut state, "a", 1, 2), first);
    assert_ne!(claim(&mut state, "a", 2, 2), first);
}

#[test]
fn partitions_take_turns() {
    let mut state = with_backlog(GroupSettings { consume_step: 1, ..settings() }, 3, 100);
    let served: Vec<i32> =
        (1..=6).flat_map(|n| claim(&mut state, "a", n, 1)).map(|unit| unit.partition).collect();
    assert_eq!(served, [0, 1, 2, 0, 1, 2]);
}

#[test]
fn who_has_not_subscribed_gets_nothing() {
    let mut state = with_backlog(settings(), 1, 100);
    let mut request = ExchangeRequest::new("a".into(), 1, vec!["other".into()]);
    request.want = 1;
    assert!(state.exchange(0, &request).units.is_empty());
}

#[test]
fn an_ordered_partition_has_one_unit_at_a_time() {
    let mut state =
        with_backlog(GroupSettings { ordering: Ordering::Partition, consume_step: 10, ..settings() }, 1, 100);
    assert_eq!(claim(&mut state, "a", 1, 4).len(), 1);
    assert!(claim(&mut state, "b", 1, 4).is_empty());
}

#[test]
fn an_expired_unit_goes_to_another_and_its_holder_is_fenced() {
    let mut state = with_backlog(settings(), 1, 1);
    let unit = claim(&mut state, "a", 1, 1).remove(0);
    let lease = state.settings().lease;
    // Somebody is alive all the time, or the group would believe its store was away.
    for now in (0..=lease).step_by(1_000) {
        state.exchange(now, &ExchangeRequest::new("b".into(), 0, vec![topic()]));
    }
    let mut request = ExchangeRequest::new("b".into(), 1, vec![topic()]);
    request.want = 1;
    let taken = state.exchange(lease + 1, &request).units;
    assert_eq!((taken[0].start, taken[0].attempt), (0, 2));
    let Unit { id, request: claimed_by, end, .. } = unit;
    let mut late = ExchangeRequest::new("a".into(), 0, vec![topic()]);
    late.renews.push(Renew { id, request: claimed_by, end, progress: 0 });
    assert_eq!(state.exchange(lease + 2, &late).renews, [Outcome::Fenced]);
}

#[test]
fn silence_of_everybody_expires_nobody() {
    let mut state = with_backlog(settings(), 1, 1);
    claim(&mut state, "a", 1, 1);
    let mut request = ExchangeRequest::new("b".into(), 1, vec![topic()]);
    request.want = 1;
    let away = state.settings().lease * 3;
    assert!(state.exchange(away, &request).units.is_empty());
}

#[test]
fn a_recreated_topic_starts_anew_and_its_old_id_does_not_come_back() {
    let mut state = GroupState::new(settings(), 0);
    let init = |id, start| Init {
        topic: topic(),
        partition: 0,
        topic_id: Uuid([id; 16]),
        leader_epoch: 0,
        start,
        high_watermark: 50,
        log_start: 0,
        done: Vec::new(),
    };
    assert_eq!(state.init(&[init(1, 40)], 5), 1);
    claim(&mut state, "a", 1, 1);
    assert_eq!(state.init(&[init(2, 0)], 5), 1);
    assert_eq!(state.partitions(&[topic()])[0].cursor, 0);
    assert_eq!(state.init(&[init(1, 40)], 5), 0);
    state.check().unwrap();
}

/// A round that says something and wants nothing.
fn says(who: &str) -> ExchangeRequest {
    ExchangeRequest::new(who.into(), 0, vec![topic()])
}

fn ack(unit: &Unit) -> Ack {
    let Unit { id, request, end, .. } = unit.clone();
    Ack { id, request, end, high_watermark: -1, leader_epoch: -1, records: 0, bytes: 0 }
}

fn nack(unit: &Unit, progress: i64, delay: Option<u64>) -> Nack {
    let Unit { id, request, end, .. } = unit.clone();
    let delay = delay.map(std::time::Duration::from_millis);
    Nack { id, request, end, progress, delay, counts: true, through: None, reason: "it throws".into() }
}

fn refuse(state: &mut GroupState, who: &str, unit: &Unit, progress: i64, delay: Option<u64>) -> Outcome {
    let mut request = says(who);
    request.nacks.push(nack(unit, progress, delay));
    let outcome = state.exchange(0, &request).nacks[0];
    state.check().unwrap();
    outcome
}

fn view(state: &GroupState) -> PartitionView {
    state.partitions(&[topic()]).remove(0)
}

/// Claims one unit, as large as the settings let it be.
fn take(state: &mut GroupState, who: &str, number: u64) -> Unit {
    let mut request = ExchangeRequest::new(who.into(), number, vec![topic()]);
    (request.want, request.least_records) = (1, u32::MAX);
    state.exchange(0, &request).units.remove(0)
}

#[test]
fn records_that_fail_once_each_do_not_add_up() {
    let mut state = with_backlog(GroupSettings { max_attempts: 2, consume_step: 10, ..settings() }, 1, 10);
    for (number, failing) in (1..).zip([2, 4, 6, 8]) {
        let unit = take(&mut state, "a", number);
        refuse(&mut state, "a", &unit, failing, Some(0));
    }
    assert!(!state.take_events().iter().any(|e| matches!(e, Event::Parked { .. } | Event::Split { .. })));
    let unit = take(&mut state, "a", 9);
    assert_eq!((unit.start, unit.end, unit.attempt), (8, 10, 2));
}

#[test]
fn a_release_is_no_attempt_and_goes_back_to_the_cursor() {
    let mut state = with_backlog(GroupSettings { max_attempts: 1, consume_step: 10, ..settings() }, 1, 20);
    let first = take(&mut state, "a", 1);
    let second = take(&mut state, "a", 2);
    refuse(&mut state, "a", &first, 3, None);
    // The second stands behind it.
    assert_eq!((view(&state).cursor, view(&state).in_flight), (second.end, 2));
    refuse(&mut state, "a", &second, second.start, None);
    // Now nothing does: all of it can be shared out anew.
    assert_eq!((view(&state).cursor, view(&state).in_flight, view(&state).low_watermark), (3, 0, 3));
    assert_eq!(refuse(&mut state, "a", &first, 3, None), Outcome::Gone);
    assert_eq!(claim(&mut state, "b", 1, 1)[0].attempt, 1);
}

#[test]
fn the_share_is_of_the_whole_backlog_and_not_below_what_is_worth_a_fetch() {
    let sizes = |partitions: i32, least: u32| {
        let mut state = with_backlog(settings(), partitions, 100);
        let mut request = ExchangeRequest::new("a".into(), 1, vec![topic()]);
        (request.want, request.readers, request.least_records) = (4, 16, least);
        let units = state.exchange(0, &request).units;
        units.iter().map(|unit| unit.end - unit.start).collect::<Vec<_>>()
    };
    // Sixteen readers: half a share of a hundred records, less and less.
    assert_eq!(sizes(1, 1), [3, 3, 2, 2]);
    assert_eq!(sizes(1, 20), [20, 20, 20, 20]);
    // With many partitions nobody starves if each is one unit.
    assert_eq!(sizes(64, 1), [100, 100, 100, 100]);
}

#[test]
fn units_aim_at_bytes() {
    let mut state = with_backlog(settings(), 1, 1_000);
    let unit = claim(&mut state, "a", 1, 1).remove(0);
    let mut done = says("a");
    done.acks.push(Ack { records: 10, bytes: 10_000, ..ack(&unit) });
    state.exchange(0, &done);
    let mut request = ExchangeRequest::new("a".into(), 2, vec![topic()]);
    (request.want, request.target_bytes) = (1, 5_000);
    let unit = state.exchange(0, &request).units.remove(0);
    assert_eq!(unit.end - unit.start, 5);
}

#[test]
fn a_quiet_partition_does_not_queue_behind_busy_ones() {
    let mut state = with_backlog(GroupSettings { consume_step: 1, ..settings() }, 3, 100);
    let quiet = |high_watermark| Publish {
        topic: topic(),
        partition: 2,
        topic_id: Uuid::default(),
        leader_epoch: 0,
        high_watermark,
        log_start: 0,
        epoch_end: None,
    };
    assert!(state.seek(&topic(), 2, 5, 100, 6));
    let served = |state: &mut GroupState, n| claim(state, "a", n, 1)[0].partition;
    assert_eq!((1..=4).map(|n| served(&mut state, n)).collect::<Vec<_>>(), [0, 1, 0, 1]);
    state.publish(&[quiet(101)], 7);
    assert_eq!((5..=7).map(|n| served(&mut state, n)).collect::<Vec<_>>(), [2, 0, 1]);
}

#[test]
fn a_request_from_the_past_claims_nothing() {
    let mut state = with_backlog(settings(), 3, 100);
    let units = claim(&mut state, "a", 2, 1);
    assert!(claim(&mut state, "a", 1, 1).is_empty());
    assert_eq!(claim(&mut state, "a", 2, 1), units);
}

#[test]
fn a_repeated_claim_has_a_whole_lease() {
    let mut state = with_backlog(settings(), 1, 1);
    let first = claim(&mut state, "a", 1, 1).remove(0);
    let mut request = ExchangeRequest::new("a".into(), 1, vec![topic()]);
    request.want = 1;
    // The store was away for longer than the lease: nobody is expired, and the answer is worth something.
    let away = first.deadline + 10_000;
    let again = state.exchange(away, &request).units.remove(0);
    assert_eq!((again.id, again.deadline), (first.id, away + state.settings().lease));
}

#[test]
fn an_ordered_holder_that_was_overtaken_cannot_take_its_unit_back() {
    let settings =
        GroupSettings { ordering: Ordering::Partition, max_attempts: 2, consume_step: 5, ..settings() };
    let lease = settings.lease;
    let mut state = with_backlog(settings, 1, 10);
    let alive = |state: &mut GroupState, from: u64, to: u64| {
        (from..to).step_by(1_000).for_each(|now| _ = state.exchange(now, &says("z")));
    };
    // The first record is parked, the rest is with a, who falls silent.
    for number in 1..=2 {
        let unit = claim(&mut state, "a", number, 1).remove(0);
        refuse(&mut state, "a", &unit, 0, Some(0));
    }
    let rest = claim(&mut state, "a", 3, 1).remove(0);
    assert_eq!((rest.start, view(&state).parked), (1, 1));
    alive(&mut state, 0, lease + 1_000);
    // The operator wants the parked one to go first; b has it.
    state.unpark(lease, &topic(), 0, Unpark::Retry);
    let mut request = ExchangeRequest::new("b".into(), 1, vec![topic()]);
    request.want = 1;
    let taken = state.exchange(lease + 1, &request).units;
    assert_eq!(taken[0].start, 0);
    let Unit { id, request: claimed_by, end, .. } = rest;
    let mut late = says("a");
    late.renews.push(Renew { id, request: claimed_by, end, progress: 1 });
    assert_eq!(state.exchange(lease + 2, &late).renews, [Outcome::Fenced]);
    state.check().unwrap();
}

#[test]
fn a_paused_partition_delivers_nothing_and_goes_on_where_it_was() {
    let mut state = with_backlog(GroupSettings { consume_step: 5, ..settings() }, 2, 100);
    let unit = claim(&mut state, "a", 1, 1).remove(0);
    refuse(&mut state, "a", &unit, unit.start + 1, Some(0));
    assert_eq!(state.pause(&topic(), None, true), 2);
    assert_eq!(state.pause(&topic(), None, true), 0);
    assert!(claim(&mut state, "a", 2, 9).is_empty());
    assert_eq!(state.claimable(0, &[topic()]), 0);
    state.check().unwrap();
    assert_eq!(state.pause(&topic(), Some(unit.partition), false), 1);
    let again = claim(&mut state, "a", 3, 1).remove(0);
    assert_eq!((again.partition, again.start, again.attempt), (unit.partition, unit.start + 1, 2));
}

#[test]
fn what_appears_after_a_subscription_starts_at_its_beginning() {
    let mut state = GroupState::new(settings(), 0);
    assert_eq!(state.subscribe(&topic(), true), StartAt::Policy);
    // Another consumer at the same time, before the first has fixed the starts.
    assert_eq!(state.subscribe(&topic(), true), StartAt::Policy);
    let state = &mut with_backlog(settings(), 1, 0);
    assert_eq!(state.subscribe(&topic(), true), StartAt::Earliest);
    let absent: Arc<str> = "later".into();
    assert_eq!(state.subscribe(&absent, false), StartAt::Earliest);
    // It exists now, and somebody else comes before the first has noticed.
    assert_eq!(state.subscribe(&absent, true), StartAt::Earliest);
}

#[test]
fn a_topic_that_nobody_reads_leaves_after_a_week() {
    let week = 7 * 24 * 3_600_000;
    let mut state = with_backlog(settings(), 2, 100);
    claim(&mut state, "a", 1, 1);
    state.leave(1_000, &"a".into());
    state.tick(week);
    assert_eq!(state.partitions(&[topic()]).len(), 2);
    state.tick(week + 1_000);
    assert!(state.partitions(&[topic()]).is_empty());
    state.check().unwrap();
}

#[test]
fn a_clock_that_was_set_back_does_not_make_leases_longer() {
    let mut state = with_backlog(settings(), 1, 1);
    let mut request = ExchangeRequest::new("a".into(), 1, vec![topic()]);
    request.want = 1;
    state.exchange(10_000_000, &request);
    state.tick(1_000);
    assert_eq!(state.next_event(1_000, &[topic()]), 1_000 + state.settings().lease);
    state.check().unwrap();
}

#[test]
fn the_end_of_another_epoch_than_the_stored_one_says_nothing() {
    let mut state = with_backlog(settings(), 1, 10);
    take(&mut state, "a", 1);
    let fact = |epoch_end| Publish {
        topic: topic(),
        partition: 0,
        topic_id: Uuid::default(),
        leader_epoch: 3,
        high_watermark: 9,
        log_start: 0,
        epoch_end,
    };
    // Epoch 2 ends at 9, and the log was cut at 7 before. A store that is back at epoch 0 has to ask for that.
    assert_eq!(state.publish(&[fact(None)], 1), [Published::AskEpoch(0)]);
    assert_eq!(state.publish(&[fact(Some(EpochEnd { epoch: 2, end: 9 }))], 1), [Published::AskEpoch(0)]);
    assert_eq!(state.publish(&[fact(Some(EpochEnd { epoch: 0, end: 7 }))], 1), [Published::Truncated(7)]);
    assert_eq!((view(&state).cursor, view(&state).high_watermark, view(&state).generation), (7, 9, 1));
    assert_eq!(state.publish(&[fact(None)], 2), [Published::Done]);
    state.check().unwrap();
}

/// What a step costs: `cargo test --release --lib what_a_step_costs -- --ignored --nocapture`.
#[test]
#[ignore = "measures, proves nothing"]
fn what_a_step_costs() {
    for (partitions, want) in [(1, 1), (100, 4), (10_000, 16)] {
        let settings = GroupSettings { consume_step: 1, ..settings() };
        let mut state = with_backlog(settings, partitions, 1_000_000);
        let mut acks = Vec::new();
        let began = std::time::Instant::now();
        let rounds = 100_000 / want;
        for number in 1..=rounds {
            let mut request = ExchangeRequest::new("a".into(), u64::from(number), vec![topic()]);
            (request.want, request.acks) = (want, std::mem::take(&mut acks));
            acks = state.exchange(0, &request).units.iter().map(ack).collect();
        }
        let each = began.elapsed() / (rounds * want);
        println!(
            "{partitions} partitions, {want} units a round: {each:?} a unit (claim and acknowledgement)"
        );
    }
}

#[test]
fn gaps_in_what_a_commit_holds_for_done_are_handed_out_and_nothing_else() {
    let mut state = GroupState::new(settings(), 0);
    let start = Init {
        topic: topic(),
        partition: 0,
        topic_id: Uuid::default(),
        leader_epoch: 0,
        start: 10,
        high_watermark: 50,
        log_start: 0,
        done: vec![(5, 8), (10, 12), (20, 30), (30, 31), (40, 60)],
    };
    assert_eq!(state.init(&[start], 5), 1);
    state.check().unwrap();
    assert_eq!(state.open_units(&topic(), 0), [(12, 20), (31, 40)]);
    let view = state.partitions(&[topic()]).remove(0);
    assert_eq!((view.low_watermark, view.cursor, view.high_watermark), (12, 60, 60));
    let units: Vec<_> = claim(&mut state, "a", 1, 3).iter().map(|unit| (unit.start, unit.end)).collect();
    assert_eq!(units, [(12, 20), (31, 40)]);
}

#[test]
fn who_is_in_the_group_is_seen_with_what_it_reads_and_how_long_it_is_silent() {
    let mut state = with_backlog(settings(), 1, 100);
    let member = |consumer: &str, seen, silent, topics: &[Arc<str>]| MemberView {
        consumer: consumer.into(),
        seen,
        silent,
        topics: topics.to_vec(),
    };
    state.exchange(1_000, &ExchangeRequest::new("reads".into(), 1, vec![topic()]));
    // One that connects is heard of before it reads anything.
    state.exchange(3_000, &ExchangeRequest::new("connects".into(), 1, Vec::new()));
    let expected = [member("connects", 3_000, 500, &[]), member("reads", 1_000, 2_500, &[topic()])];
    assert_eq!(state.who(3_500), expected);
    // A clock that was set back.
    assert_eq!(state.who(2_000)[0], member("connects", 3_000, 0, &[]));
    state.leave(3_500, &"reads".into());
    assert_eq!(state.who(3_500).len(), 1);
}

fn shorten(state: &mut GroupState, who: &str, unit: &Unit, at: i64) -> Outcome {
    let mut request = says(who);
    let Unit { id, request: claimed_by, end, .. } = unit.clone();
    request.shortens.push(Shorten { id, request: claimed_by, end, at });
    state.exchange(0, &request).shortens[0]
}

#[test]
fn a_hold_is_shortened_and_its_tail_goes_to_another_without_an_attempt() {
    let mut state = with_backlog(GroupSettings { consume_step: 10, ..settings() }, 1, 100);
    let (first, second) = (take(&mut state, "a", 1), take(&mut state, "a", 2));
    // Something stands behind the first unit: its tail is one of its own.
    assert_eq!(shorten(&mut state, "a", &first, 1), Outcome::Done);
    assert_eq!(shorten(&mut state, "a", &first, 1), Outcome::Done, "a repeated request");
    let tail = take(&mut state, "b", 1);
    assert_eq!((tail.start, tail.end, tail.attempt), (1, first.end, 1));
    // Nothing stands behind the second: its tail goes back to the cursor.
    let at = second.start + 3;
    assert_eq!(shorten(&mut state, "a", &second, at), Outcome::Done);
    assert_eq!(view(&state).cursor, at);
    state.check().unwrap();
    // An acknowledgement that names the old end is late or false.
    let mut request = says("a");
    request.acks = vec![ack(&first), ack(&Unit { end: 1, ..first }), ack(&Unit { end: at, ..second })];
    let reply = state.exchange(0, &request);
    assert_eq!(reply.acks, [Outcome::Fenced, Outcome::Done, Outcome::Done]);
    assert_eq!(view(&state).low_watermark, 1);
    state.check().unwrap();
}

#[test]
fn a_shortened_hold_is_renewed_in_the_same_exchange_under_its_new_end() {
    let mut state = with_backlog(settings(), 1, 100);
    let unit = take(&mut state, "a", 1);
    let Unit { id, request, end, .. } = unit;
    let mut round = says("a");
    round.shortens.push(Shorten { id: id.clone(), request, end, at: 2 });
    round.renews.push(Renew { id, request, end: 2, progress: 1 });
    let reply = state.exchange(5, &round);
    assert_eq!((reply.shortens, reply.renews), (vec![Outcome::Done], vec![Outcome::Done]));
    assert_eq!(state.open_units(&topic(), 0), [(1, 2)]);
    // Who was not given the unit cannot shorten it.
    let other = take(&mut state, "b", 1);
    assert_eq!(shorten(&mut state, "a", &other, other.start + 1), Outcome::Fenced);
    assert_eq!(shorten(&mut state, "b", &Unit { id: unit_id(99), ..other.clone() }, 1), Outcome::Gone);
}

fn unit_id(carved_at: i64) -> UnitId {
    UnitId { topic: topic(), partition: 0, carved_at }
}

#[test]
fn a_member_hears_how_many_readers_of_others_wait_for_what_is_not_there() {
    let mut state = with_backlog(settings(), 1, 10);
    let says = |who: &str, number, want, lacking| {
        let mut request = ExchangeRequest::new(who.into(), number, vec![topic()]);
        (request.want, request.lacking, request.least_records) = (want, lacking, u32::MAX);
        request
    };
    let unit = state.exchange(0, &says("a", 1, 1, 1)).units.remove(0);
    assert_eq!((unit.start, unit.end), (0, 10));
    assert_eq!(state.exchange(0, &says("b", 1, 2, 2)).lacking, [0], "its own do not count");
    assert_eq!(state.exchange(0, &says("a", 2, 0, 0)).lacking, [2]);
    // The tail that goes back is for one of them.
    assert_eq!(shorten(&mut state, "a", &unit, 1), Outcome::Done);
    assert_eq!(state.exchange(0, &says("a", 3, 0, 0)).lacking, [1]);
    assert_eq!(state.exchange(0, &says("b", 2, 1, 2)).units.len(), 1);
    assert_eq!(state.exchange(0, &says("a", 4, 0, 0)).lacking, [1]);
    state.check().unwrap();
    state.leave(0, &"b".into());
    assert_eq!(state.exchange(0, &says("a", 5, 0, 0)).lacking, [0]);
    state.check().unwrap();
}
