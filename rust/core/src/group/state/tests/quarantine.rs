//! What fails, what is parked, and how it comes back.

use super::*;

#[test]
fn a_record_that_always_fails_is_parked_alone_after_its_last_attempt() {
    let mut state = with_backlog(GroupSettings { max_attempts: 3, consume_step: 10, ..settings() }, 1, 10);
    for attempt in 1..=3 {
        let unit = take(&mut state, "a", u64::from(attempt));
        assert_eq!(unit.attempt, attempt, "{unit:?}");
        assert_eq!(refuse(&mut state, "a", &unit, 4, Some(0)), Outcome::Done);
    }
    let parked: Vec<_> = state.take_events();
    let parked = parked
        .iter()
        .find_map(|e| if let Event::Parked { from, to, .. } = e { Some((*from, *to)) } else { None });
    assert_eq!(parked, Some((4, 5)));
    let rest = take(&mut state, "a", 4);
    assert_eq!((rest.start, rest.end, rest.attempt), (5, 10, 1));
    let mut done = says("a");
    done.acks.push(ack(&rest));
    state.exchange(0, &done);
    // The parked record holds the low watermark until an operator decides.
    assert_eq!((view(&state).low_watermark, view(&state).cursor, view(&state).parked), (4, 10, 1));
    assert_eq!(state.unpark(0, &topic(), 0, None, Unpark::Retry), 1);
    let again = take(&mut state, "a", 5);
    assert_eq!((again.start, again.end, again.attempt), (4, 5, 1));
    let mut unit = again;
    for number in 6..8 {
        refuse(&mut state, "a", &unit, 4, Some(0));
        unit = take(&mut state, "a", number);
    }
    refuse(&mut state, "a", &unit, 4, Some(0));
    assert_eq!((view(&state).parked, state.unpark(0, &topic(), 0, None, Unpark::Discard)), (1, 1));
    assert_eq!((view(&state).low_watermark, view(&state).in_flight), (10, 0));
    state.check().unwrap();
}

/// Says that the record at `progress` failed, and that nothing tells whether it is at fault.
fn fail_uncounted(state: &mut GroupState, now: u64, unit: &Unit, progress: i64, delay: u64) {
    let mut request = says("a");
    request.nacks.push(Nack { counts: false, ..nack(unit, progress, Some(delay)) });
    assert_eq!(state.exchange(now, &request).nacks, [Outcome::Done]);
    state.check().unwrap();
}

#[test]
fn an_attempt_that_does_not_count_is_not_used_up_and_waits() {
    let mut state = with_backlog(GroupSettings { max_attempts: 2, consume_step: 10, ..settings() }, 1, 10);
    let mut now = 0;
    for number in 1..=20 {
        let mut request = ExchangeRequest::new("a".into(), number, vec![topic()]);
        (request.want, request.least_records) = (1, u32::MAX);
        let unit = state.exchange(now, &request).units.remove(0);
        assert_eq!((unit.start, unit.end, unit.attempt), (if number == 1 { 0 } else { 4 }, 10, 1));
        fail_uncounted(&mut state, now, &unit, 4, 500);
        assert_eq!(state.claimable(now + 499, &[topic()]), 0);
        now += 500;
    }
    assert!(!state.take_events().iter().any(|e| matches!(e, Event::Parked { .. } | Event::Split { .. })));
    // Those that count are two, as ever.
    for number in 21..=22 {
        let mut request = ExchangeRequest::new("a".into(), number, vec![topic()]);
        request.want = 1;
        let unit = state.exchange(now, &request).units.remove(0);
        refuse(&mut state, "a", &unit, 4, Some(0));
    }
    assert_eq!(view(&state).parked, 1);
}

/// A partition of ten records, of which the first `bad` are parked: one each second from 1 s on.
fn with_parked(bad: u64) -> GroupState {
    let mut state = with_backlog(GroupSettings { max_attempts: 1, consume_step: 1, ..settings() }, 1, 10);
    for number in 1..=bad {
        let unit = take(&mut state, "a", number);
        let mut request = says("a");
        request.nacks.push(nack(&unit, unit.start, Some(0)));
        state.exchange(number * 1_000, &request);
    }
    assert_eq!(u64::from(view(&state).parked), bad);
    state
}

/// What a tick gives out again.
fn probes(state: &mut GroupState, now: u64, number: u64) -> Vec<Unit> {
    state.tick(now);
    state.check().unwrap();
    let mut request = ExchangeRequest::new("p".into(), number, vec![topic()]);
    request.want = state.units.due_count(now, &[topic()]) as u32;
    state.exchange(now, &request).units
}

fn starts(units: &[Unit]) -> Vec<i64> {
    units.iter().map(|unit| unit.start).collect()
}

fn handled(state: &mut GroupState, now: u64, units: &[Unit]) {
    let mut request = says("p");
    request.acks = units.iter().map(ack).collect();
    state.exchange(now, &request);
    state.check().unwrap();
}

#[test]
fn parked_units_are_tried_again_and_twice_as_many_after_each_success() {
    let mut state = with_parked(8);
    assert_eq!(starts(&probes(&mut state, 60_999, 1)), [0; 0], "a minute after the first");
    let first = probes(&mut state, 61_000, 2);
    assert_eq!((starts(&first), first[0].attempt), (vec![0], 1));
    handled(&mut state, 61_000, &first);
    let second = probes(&mut state, 121_000, 3);
    assert_eq!(starts(&second), [1, 2]);
    // One of them fails, though nothing tells whether it is at fault: it is parked, behind the others.
    handled(&mut state, 121_000, &second[..1]);
    let mut request = says("p");
    request.nacks.push(Nack { counts: false, ..nack(&second[1], 2, Some(500)) });
    state.exchange(121_000, &request);
    assert_eq!((view(&state).parked, view(&state).in_flight), (6, 0));
    state.tick(181_000);
    assert_eq!((view(&state).parked, view(&state).in_flight), (5, 1), "back to one, which nobody takes");
    let third = probes(&mut state, 241_000, 4);
    assert_eq!((starts(&third), view(&state).parked), (vec![3], 5), "no other while one is not over");
    handled(&mut state, 241_000, &third);
    let mut left = Vec::new();
    for (now, number) in [(301_000, 5), (361_000, 6)] {
        let units = probes(&mut state, now, number);
        handled(&mut state, now, &units);
        left.extend(starts(&units));
    }
    assert_eq!((left, view(&state).parked, view(&state).low_watermark), (vec![4, 5, 2, 6, 7], 0, 8));
}

#[test]
fn parked_units_are_listed_and_one_of_them_is_delivered_again() {
    let mut state = with_parked(3);
    let listed = |state: &GroupState| {
        let units = state.quarantined(9_000, &[topic(), "other".into()]);
        units.iter().map(|unit| (unit.from, unit.to, unit.age.as_secs())).collect::<Vec<_>>()
    };
    assert_eq!(listed(&state), [(0, 1, 8), (1, 2, 7), (2, 3, 6)]);
    assert_eq!(state.unpark(9_000, &topic(), 0, Some(7), Unpark::Retry), 0, "it is not parked");
    assert_eq!(state.unpark(9_000, &topic(), 1, Some(1), Unpark::Retry), 0, "nor is there such a partition");
    assert_eq!(state.unpark(9_000, &topic(), 0, Some(1), Unpark::Retry), 1);
    state.check().unwrap();
    assert_eq!(listed(&state), [(0, 1, 8), (2, 3, 6)]);
    assert_eq!(claim_at(&mut state, 9_000, 9).start, 1);
    assert_eq!(state.unpark(9_000, &topic(), 0, Some(2), Unpark::Discard), 1);
    assert_eq!(listed(&state), [(0, 1, 8)]);
}

#[test]
fn a_partition_that_is_blocked_flows_again_by_itself() {
    let settings = GroupSettings { max_attempts: 1, consume_step: 1, ..settings() };
    let mut state = with_backlog(settings, 1, i64::from(PARKED_PER_PARTITION) + 500);
    let mut number = 0;
    while view(&state).parked < PARKED_PER_PARTITION {
        number += 1;
        let unit = take(&mut state, "a", number);
        let mut request = says("a");
        request.nacks.push(nack(&unit, unit.start, Some(0)));
        state.exchange(0, &request);
    }
    assert_eq!(state.claimable(0, &[topic()]), 0, "it takes no new work");
    let mut minutes = 0;
    while view(&state).parked > 0 {
        minutes += 1;
        assert!(minutes < 15, "{:?}", view(&state));
        let units = probes(&mut state, minutes * 60_000, minutes);
        handled(&mut state, minutes * 60_000, &units);
    }
    assert!(state.claimable(minutes * 60_000, &[topic()]) > 0);
}

#[test]
fn a_probe_goes_first_in_an_ordered_partition_and_keeps_it_for_one_delivery() {
    let settings =
        GroupSettings { ordering: Ordering::Partition, max_attempts: 2, consume_step: 5, ..settings() };
    let mut state = with_backlog(settings, 1, 20);
    for number in 1..=2 {
        let unit = claim(&mut state, "a", number, 1).remove(0);
        refuse(&mut state, "a", &unit, 0, Some(0));
    }
    let rest = claim(&mut state, "a", 3, 1).remove(0);
    assert_eq!((rest.start, view(&state).parked), (1, 1));
    (1..60).for_each(|second| {
        _ = state.exchange(second * 1_000, &{
            let mut renew = says("a");
            renew.renews.push(Renew { id: rest.id.clone(), request: 3, end: rest.end, progress: 1 });
            renew
        })
    });
    assert_eq!(starts(&probes(&mut state, 60_000, 1)), [0; 0], "one lease of a partition at a time");
    let mut done = says("a");
    done.acks.push(ack(&rest));
    state.exchange(60_001, &done);
    let probe = claim_at(&mut state, 60_002, 4);
    assert_eq!((probe.start, probe.end, probe.attempt), (0, 1, 2));
    let mut request = says("a");
    request.nacks.push(Nack { counts: false, ..nack(&probe, 0, Some(60_000)) });
    state.exchange(60_003, &request);
    state.check().unwrap();
    assert_eq!(claim_at(&mut state, 60_004, 5).start, rest.end, "those behind it go on");
}

fn claim_at(state: &mut GroupState, now: u64, number: u64) -> Unit {
    let mut request = ExchangeRequest::new("a".into(), number, vec![topic()]);
    request.want = 1;
    state.exchange(now, &request).units.remove(0)
}

#[test]
fn a_batch_that_cannot_be_read_is_parked_at_once_and_the_rest_goes_on() {
    let mut state = with_backlog(GroupSettings { max_attempts: 5, consume_step: 10, ..settings() }, 1, 20);
    let unread = |unit: &Unit, through| {
        let mut request = says("a");
        request.nacks.push(Nack { through: Some(through), ..nack(unit, 3, Some(0)) });
        request
    };
    let (first, second) = (take(&mut state, "a", 1), take(&mut state, "a", 2));
    state.exchange(0, &unread(&first, 7));
    state.check().unwrap();
    let parked = |event: &Event| matches!(event, Event::Parked { from: 3, to: 7, .. });
    assert_eq!(state.take_events().iter().filter(|event| parked(event)).count(), 1);
    assert_eq!(state.open_units(&topic(), 0), [(3, 7), (7, 10), (10, 20)]);
    let rest = take(&mut state, "a", 3);
    assert_eq!((rest.start, rest.end, rest.attempt), (7, 10, 1));
    // Beyond the unit's end, or of no length: what the unit has, a record at least.
    let mut request = says("a");
    request.nacks.push(Nack { through: Some(500), ..nack(&rest, 8, Some(0)) });
    request.nacks.push(Nack { through: Some(2), ..nack(&second, 15, Some(0)) });
    state.exchange(0, &request);
    state.check().unwrap();
    assert_eq!(state.open_units(&topic(), 0), [(3, 7), (8, 10), (15, 16)]);
    assert_eq!((view(&state).parked, view(&state).cursor), (3, 16));
}

#[test]
fn a_unit_that_waits_uncounted_is_not_swept_up_by_a_release_behind_it() {
    let mut state = with_backlog(GroupSettings { consume_step: 10, ..settings() }, 1, 20);
    let (first, second) = (take(&mut state, "a", 1), take(&mut state, "a", 2));
    fail_uncounted(&mut state, 0, &first, first.start, 60_000);
    refuse(&mut state, "a", &second, second.start, None);
    assert_eq!((view(&state).cursor, view(&state).in_flight), (first.end, 1), "the second alone is back");
    assert_eq!(take(&mut state, "a", 3).start, second.start, "the first still waits");
}

#[test]
fn retention_takes_parked_records_and_reports_them() {
    let mut state = with_backlog(GroupSettings { max_attempts: 1, consume_step: 10, ..settings() }, 1, 10);
    let unit = take(&mut state, "a", 1);
    refuse(&mut state, "a", &unit, 2, Some(0));
    state.take_events();
    let fact = |log_start| Publish {
        topic: topic(),
        partition: 0,
        topic_id: Uuid::default(),
        leader_epoch: 0,
        high_watermark: 10,
        log_start,
        epoch_end: None,
    };
    assert_eq!(state.publish(&[fact(2)], 1), [Published::Done]);
    assert_eq!(view(&state).parked, 1);
    assert_eq!(state.publish(&[fact(3)], 1), [Published::Done]);
    assert_eq!((view(&state).parked, state.lost()), (0, 1));
    assert_eq!(state.publish(&[fact(8)], 1), [Published::Lost { from: 3, to: 8 }]);
    assert_eq!((view(&state).cursor, state.lost()), (8, 6));
    state.check().unwrap();
}
