//! Members that come in the middle.

use std::time::{Duration, Instant};

use crate::member::{Member, millis};
use crate::support::{PATIENCE, Stage, assert_nothing_lost, rounds, tails, tally, until_handed};

/// Milliseconds from a member's call of connect to its first record, and from that call's return, when another has been handed
/// `after` of `count` records of one partition.
async fn join(count: u64, work: Duration, after: u64) -> (f64, f64) {
    let mut stage = Stage::new(1).await;
    stage.part.work = work;
    stage.send(count).await;
    let mut members = vec![Member::start(&stage.part)];
    until_handed(&members, after).await;
    members.push(Member::start(&stage.part));
    let (connecting, _) = members[1].until_said("connecting").await;
    let (connected, _) = members[1].until_said("connected").await;
    let until = Instant::now() + PATIENCE;
    let first = loop {
        if let Some(line) = members[1].lines().first() {
            break line.at;
        }
        assert!(Instant::now() < until, "no work: {:?}", tails(&members));
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let left = count.saturating_sub(members.iter().map(|member| member.lines().len() as u64).sum());
    let door = stage.door().await;
    stage.drained(&door).await;
    let lines: Vec<_> = members.iter().flat_map(Member::lines).collect();
    assert_nothing_lost(&tally(&lines), stage.sent());
    assert_eq!(lines.len() as u64, stage.sent(), "nobody failed, and records came twice");
    let (after_call, after_connect) = (millis(connecting, first), millis(connected, first));
    println!(
        "    {} ms a record: its first one {after_call:.0} ms after it called connect, {after_connect:.0} ms after that returned; \
         {left} of {count} were left; it was handed {}",
        work.as_millis(),
        members[1].lines().len()
    );
    assert!(left > 0, "no backlog was left");
    (after_call, after_connect)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_in_the_middle_has_work_within_a_second() {
    for round in 1..=rounds() {
        println!("round {round}: a second consumer joins, one partition");
        for (count, work, after) in [(4_000, 1, 200), (200, 50, 140)] {
            let (after_call, _) = join(count, Duration::from_millis(work), after).await;
            assert!(after_call < 1_000.0, "{after_call:.0} ms");
        }
    }
}
