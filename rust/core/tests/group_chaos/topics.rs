//! Members of one group that read different topics.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::member::{Member, Part};
use crate::support::{PATIENCE, Stage, rounds, tails};

/// Waits until the members were handed `count` records that are `from` or more.
async fn handed(members: &[Member], from: u64, count: usize) {
    let until = Instant::now() + PATIENCE;
    let all = || members.iter().flat_map(Member::lines).filter(|line| line.value >= from).count();
    while all() < count {
        assert!(Instant::now() < until, "{} of {count} records from {from} on: {:?}", all(), tails(members));
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn members_read_the_topics_they_asked_for() {
    for round in 1..=rounds() {
        let mut stage = Stage::new(2).await;
        let (one, two) = (stage.topic.to_string(), stage.new_topic().await);
        stage.part.work = Duration::ZERO;
        let part = |topics: &[&str]| Part {
            topics: topics.iter().map(|topic| (*topic).to_owned()).collect(),
            ..stage.part.clone()
        };
        let parts = [part(&[&one]), part(&[&two]), part(&[&one, &two])];
        let mut members = Vec::new();
        for part in &parts {
            members.push(Member::start(part));
            members.last_mut().unwrap().until_said("connected").await;
        }
        for _ in 0..20 {
            stage.send_to(&one, 100).await;
            stage.send_to(&two, 100).await;
        }
        handed(&members, 0, 4_000).await;
        println!("round {round}: a group of readers of one topic, of the other, and of both");
        for (member, part) in members.iter().zip(&parts) {
            let lines = member.lines();
            let of = |topic: &str| lines.iter().filter(|line| line.topic == topic).count();
            println!(
                "    reads {} topics: handed {} of one, {} of two",
                part.topics.len(),
                of(&one),
                of(&two)
            );
            let read: HashSet<&str> = lines.iter().map(|line| &*line.topic).collect();
            assert!(read.iter().all(|topic| part.topics.iter().any(|t| t == topic)), "{read:?}");
        }
        let all: usize = members.iter().map(|member| member.lines().len()).sum();
        assert_eq!(all, 4_000, "nobody failed, and records came twice");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_the_organiser_does_not_read_is_watched_too() {
    for round in 1..=rounds() {
        let mut stage = Stage::new(1).await;
        let (one, two) = (stage.topic.to_string(), stage.new_topic().await);
        stage.part.work = Duration::ZERO;
        let mut first = Member::start(&stage.part);
        while first.until_said("organiser").await.1 != "yes" {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let mut second = Member::start(&Part { topics: vec![two.clone()], ..stage.part.clone() });
        second.until_said("connected").await;
        let mut members = vec![first, second];
        println!("round {round}: the organiser reads one topic, another member the other");
        for topic in [&one, &two, &two, &two] {
            let (from, began) = (stage.sent(), Instant::now());
            stage.send_to(topic, 1).await;
            handed(&members, from, 1).await;
            let took = began.elapsed();
            println!(
                "    topic {}: record to reader {} ms",
                if *topic == one { "one" } else { "two" },
                took.as_millis()
            );
            assert!(took < Duration::from_secs(3), "{took:?}");
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        assert_eq!(members[1].lines().len(), 3);
        assert_eq!(members[0].said("organiser").map(|(_, is)| is).as_deref(), Some("yes"));
        // The roles are those of the test's beginning, or it tested nothing.
        assert!(members.iter_mut().all(|member| member.process.runs()), "{:?}", tails(&members));
    }
}
