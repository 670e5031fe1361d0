//! Members that stand still for longer than their lease, and go on as if nothing had been.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use crate::member::{By, Line, Member, Part, now};
use crate::support::{LEASE, Stage, any, assert_nothing_lost, lies_in, rounds, tally, until_handed};

/// What a stop did.
struct Stopped {
    /// Of what the sleeper had in hands, handed to others while it slept or later.
    taken_over: usize,
    /// Records that its readers handed out after it woke, and that others were handed too; by reader.
    by_reader: HashMap<usize, usize>,
    /// How often a record came again at all.
    again: u32,
    /// How many might: what the sleeper had not reported.
    owed: usize,
}

/// Stops one of two members for `asleep` in the middle of its work.
///
/// A woken reader looks at the clock before it hands out a record - each time by [`Reader::next`](kafka_fast::Reader::next),
/// and within a batch as soon as records take a microsecond - and by its clock a unit is over a tenth of a lease before the group
/// gives it to another. So what it may hand out of what is not its own any more is what had passed that look when it was
/// stopped: one record.
async fn stop(by: By, asleep: Duration) -> Stopped {
    let mut stage = Stage::new(2).await;
    stage.send(100_000).await;
    // Fast, so that many records pass in the moment that its other tasks need to learn how late it is.
    let sleeper = Part { by, work: Duration::from_micros(20), ..stage.part.clone() };
    let mut members = vec![Member::start(&sleeper), Member::start(&stage.part)];
    for member in &mut members {
        member.until_said("connected").await;
    }
    let door = stage.door().await;
    until_handed(&members, 1_000 + any(500)).await;
    members[0].process.pause();
    let slept_at = now();
    let open = stage.open_units(&door).await;
    let before = members[0].lines();
    let owed: Vec<&Line> = before.iter().filter(|line| lies_in(line, &open)).collect();
    // What nobody else has: the units that the sleeper was about.
    let held: Vec<_> =
        open.iter().filter(|unit| before.iter().any(|line| lies_in(line, &[**unit]))).copied().collect();
    tokio::time::sleep(asleep).await;
    members[0].process.resume();
    stage.drained(&door).await;

    let (sleeper, other) = (members[0].lines(), members[1].lines());
    let lines: Vec<&Line> = sleeper.iter().chain(&other).collect();
    let seen = tally(lines.iter().copied());
    assert_nothing_lost(&seen, stage.sent());
    let others: HashSet<u64> = other.iter().map(|line| line.value).collect();
    let mut by_reader: HashMap<usize, usize> = HashMap::new();
    // By their place in the file: one may have looked at its watch, and been stopped before it wrote.
    let woken = &sleeper[before.len()..];
    let handed = woken.len();
    for line in woken.iter().filter(|line| others.contains(&line.value)) {
        *by_reader.entry(line.reader).or_default() += 1;
    }
    let stopped = Stopped {
        taken_over: other.iter().filter(|line| line.at > slept_at && lies_in(line, &held)).count(),
        again: seen.values().map(|n| n - 1).sum(),
        owed: owed.len(),
        by_reader,
    };
    let Stopped { taken_over, by_reader, again, owed } = &stopped;
    println!(
        "    asleep for {} ms (lease {} ms) by {by:?}: others were handed {taken_over} of its units' records; woken it handed out \
         {handed}, of these leased elsewhere, by reader: {by_reader:?}; {again} came again, {owed} were not reported",
        asleep.as_millis(),
        LEASE.as_millis(),
    );
    stopped
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sleeper_hands_out_nothing_that_is_leased_elsewhere() {
    for round in 1..=rounds() {
        println!("round {round}: one of two consumers of two readers is stopped and woken");
        for by in [By::Record, By::Batch] {
            // Later rounds try how it is when the lease is nearly over, or just.
            let lease = LEASE.as_millis() as u64;
            let asleep = if round == 1 { lease + 1000 + any(500) } else { lease / 2 + any(lease) };
            let stopped = stop(by, Duration::from_millis(asleep)).await;
            assert!(
                round > 1 || stopped.taken_over > 0,
                "the sleeper had nothing in hands, which tests nothing"
            );
            let in_hands: usize = stopped.by_reader.values().sum();
            let worst = stopped.by_reader.values().max();
            assert!(worst.is_none_or(|n| *n <= 1), "more than the record in hands: {:?}", stopped.by_reader);
            assert!(
                stopped.again as usize <= stopped.owed + in_hands,
                "more came again than was not reported"
            );
        }
    }
}
