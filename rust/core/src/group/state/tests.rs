//! Single rules of the state machine, one test each. Whatever happens in between is tested by `group::sim`.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::GroupState;
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
    };
    assert_eq!(state.init(&[init(1, 40)], 5), 1);
    claim(&mut state, "a", 1, 1);
    assert_eq!(state.init(&[init(2, 0)], 5), 1);
    assert_eq!(state.partitions(&[topic()])[0].cursor, 0);
    assert_eq!(state.init(&[init(1, 40)], 5), 0);
    state.check().unwrap();
}
