//! Members that die without a word.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::member::{Line, Member, millis, now};
use crate::support::{
    HEARTBEAT, PATIENCE, Stage, any, assert_nothing_lost, lies_in, rounds, tails, tally, until_handed,
};

/// How long a heartbeat may be under way on a machine that has other things to do.
const SLOW_MACHINE: Duration = Duration::from_secs(1);

/// What a dead member handled and had not reported: these, and no others, may come again.
async fn kill(
    member: &mut Member,
    name: &str,
    stage: &Stage,
    door: &kafka_fast::group::RedisGroup,
) -> Vec<Line> {
    let at = now();
    member.process.kill();
    // Nobody is given its units before the lease is over: what is open now and was handled by it is what it owed a word on.
    let open = stage.open_units(door).await;
    let handed = member.lines();
    let units = open.iter().filter(|unit| handed.iter().any(|line| lies_in(line, &[**unit]))).count();
    let owed: Vec<Line> = handed.iter().filter(|line| lies_in(line, &open)).cloned().collect();
    let oldest = owed.iter().map(|line| millis(line.at, at)).fold(0.0, f64::max);
    println!(
        "    {name} killed: it handled {}, {} of them, in {units} units, not reported; the oldest {oldest:.0} ms before",
        handed.len(),
        owed.len(),
    );
    let most = (HEARTBEAT + SLOW_MACHINE).as_secs_f64() * 1e3;
    assert!(oldest <= most, "a record handled {oldest:.0} ms before was not reported");
    owed
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_of_three_are_killed_and_nothing_is_lost() {
    for round in 1..=rounds() {
        let mut stage = Stage::new(2).await;
        stage.part.notes_handled = true;
        stage.send(3_000).await;
        let mut members: Vec<Member> = (0..3).map(|_| Member::start(&stage.part)).collect();
        for member in &mut members {
            member.until_said("connected").await;
        }
        let door = stage.door().await;
        println!("round {round}: three consumers of two readers, two partitions");
        until_handed(&members, 1_000 + any(500)).await;
        let mut owed = kill(&mut members[0], "the first", &stage, &door).await;
        stage.send(4_000).await;
        until_handed(&members, 3_000 + any(1_000)).await;
        owed.extend(kill(&mut members[1], "the second", &stage, &door).await);
        stage.send(1_000).await;
        stage.drained(&door).await;

        let lines: Vec<Line> = members.iter().flat_map(Member::lines).collect();
        let (seen, owed) = (tally(&lines), tally(&owed));
        let twice: HashMap<u64, u32> =
            seen.iter().filter(|(_, n)| **n > 1).map(|(value, n)| (*value, n - 1)).collect();
        println!(
            "    {} sent, {} handled, {} lost, {} came again; at most {} might",
            stage.sent(),
            lines.len(),
            stage.sent() - seen.len() as u64,
            twice.values().sum::<u32>(),
            owed.values().sum::<u32>()
        );
        assert_nothing_lost(&seen, stage.sent());
        for (value, again) in &twice {
            let may = owed.get(value).copied().unwrap_or(0);
            assert!(*again <= may, "{value} came {again} times again, the dead owed it {may} times");
        }
        assert!(members[2].process.runs(), "{:?}", tails(&members));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_organiser_is_replaced_within_three_heartbeats() {
    let within = HEARTBEAT * 3 + SLOW_MACHINE * 3;
    for round in 1..=rounds() {
        let mut stage = Stage::new(3).await;
        stage.part.readers = 1;
        stage.part.work = Duration::ZERO;
        let mut set =
            |name: &str, millis: u64| stage.part.settings.push((name.to_owned(), millis.to_string()));
        // What units are leased for says nothing of it.
        set("lease-ms", 30_000);
        set("offset-commit-freq", 500);
        let mut members: Vec<Member> = (0..4).map(|_| Member::start(&stage.part)).collect();
        for member in &mut members {
            member.until_said("connected").await;
        }
        let door = stage.door().await;
        println!("round {round}: four consumers, three idle partitions");
        for _ in 0..3 {
            stage.send(3).await;
            stage.drained(&door).await;
            let alive = latency(&mut stage, &members).await;
            let at = organiser(&members).await;
            tokio::time::sleep(Duration::from_millis(any(HEARTBEAT.as_millis() as u64))).await;
            let mut organiser = members.swap_remove(at);
            organiser.process.kill();
            let killed = Instant::now();
            let dead = latency(&mut stage, &members).await;
            stage.committed().await;
            let committed = killed.elapsed();
            println!(
                "    record to reader: {alive:.1} ms; the organiser killed and {} left: {dead:.0} ms, committed after {} ms \
                 (heartbeat {} ms)",
                members.len(),
                committed.as_millis(),
                HEARTBEAT.as_millis()
            );
            assert!(dead <= within.as_secs_f64() * 1e3, "{dead} ms");
            assert!(committed <= within + Duration::from_secs(3), "{committed:?}");
        }
    }
}

/// Which of the members watches for new records.
async fn organiser(members: &[Member]) -> usize {
    let until = Instant::now() + PATIENCE;
    loop {
        let is = |member: &Member| member.said("organiser").is_some_and(|(_, is)| is == "yes");
        if let Some(at) = members.iter().position(is) {
            return at;
        }
        assert!(Instant::now() < until, "nobody is the organiser: {:?}", tails(members));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Milliseconds from sending one record to the last of idle partitions until a member has all three.
async fn latency(stage: &mut Stage, members: &[Member]) -> f64 {
    let (from, sent_at) = (stage.sent(), now());
    stage.send(3).await;
    let until = Instant::now() + PATIENCE;
    loop {
        let lines: Vec<Line> =
            members.iter().flat_map(Member::lines).filter(|line| line.value >= from).collect();
        if lines.len() >= 3 {
            assert_eq!(lines.len(), 3, "{lines:?}");
            return lines.iter().map(|line| millis(sent_at, line.at)).fold(0.0, f64::max);
        }
        assert!(Instant::now() < until, "{lines:?} of three records from {from} on: {:?}", tails(members));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// kill -9, a reset by Kafka's tool, and a new process at once: the dead one still looks like a member.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_is_reset_when_its_member_was_killed_goes_on_there() {
    for round in 1..=rounds() {
        let mut stage = Stage::new(1).await;
        stage.send(100).await;
        let mut members = vec![Member::start(&stage.part)];
        let door = stage.door().await;
        stage.drained(&door).await;
        members[0].process.kill();
        stage.reset(10).await;
        members.push(Member::start(&stage.part));
        let until = Instant::now() + Duration::from_secs(20);
        while members[1].lines().len() < 90 {
            assert!(Instant::now() < until, "{:?}: {:?}", members[1].lines().len(), tails(&members));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let (connecting, _) = members[1].until_said("connecting").await;
        let (connected, _) = members[1].until_said("connected").await;
        println!("round {round}: connect took {:.0} ms", millis(connecting, connected));
        stage.drained(&door).await;
        let mut offsets: Vec<i64> = members[1].lines().iter().map(|line| line.offset).collect();
        offsets.sort_unstable();
        assert_eq!(offsets, (10..100).collect::<Vec<_>>());
    }
}
