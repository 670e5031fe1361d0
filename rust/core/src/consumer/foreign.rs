//! Commits in Kafka that the group did not write: an operator has moved the group, by Kafka's own tools.
//!
//! Kafka lets a tool do that at any time, because for Kafka the group has no members. So it is up to us to say what it means
//! (docs/GROUPS.md, "An operator moves positions"): whoever subscribes to a topic that no live member reads takes it as a seek
//! ([`apply`]); while a member reads the topic it is only said, before the mirror overwrites it ([`look`]).
//!
//! # The non-obvious
//! * A process that was killed a moment ago still looks like a member. Whoever meets a foreign commit waits until every member that
//!   reads the topic was heard again, or was silent for three heartbeats, and at least for a third of a lease.
//! * A member that is connecting is heard of too, and reads nothing yet: it is no live member, or of two that start at once neither
//!   would apply the commit.
//! * Two members that start at once must not apply it twice, or what one has begun to handle is repeated. The seek names the generation
//!   that was read *before* the commits, so the second one fails. Who comes in between finds the commit still foreign and the
//!   partition there already: the first one reads nothing before its own commit stands in Kafka.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::commits::{self, Commits, is_foreign};
use super::error::ConsumerError;
use super::known;
use super::shared::Shared;
use super::state::Tp;
use crate::cluster::{CommittedOffset, OffsetCommit};
use crate::group::{GroupError, Init, MemberView, PartitionView, RedisGroup};
use crate::log_rate;

/// Heartbeats after which a member that was not heard of is not live, and that fit into a lease.
const BEATS: u32 = 3;
/// How often a seek is tried when somebody else moves the partition meanwhile.
const TRIES: u32 = 3;
/// Partitions named in one log line.
const NAMED: usize = 10;

/// Applies the foreign commits of `starts`, which the group was just told, and commits those partitions at once with the group's own
/// text. `before`: where the group stood, read before the commits were. `is_seek`: this member subscribes to the topics. If not,
/// the group was lost or partitions are new, and nothing that the group knows is moved.
///
/// Waits for up to three heartbeats, or a third of a lease, when it depends on whether a silent member is dead.
pub(super) async fn apply(
    shared: &Shared,
    commits: &Commits,
    before: &[PartitionView],
    starts: &[Init],
    is_seek: bool,
) -> Result<(), ConsumerError> {
    let Some(group) = commits::mirrored(shared) else { return Ok(()) };
    let (mut done, mut moves) = (Vec::new(), Vec::new());
    for start in starts {
        let tp = Tp { topic: Arc::clone(&start.topic), partition: start.partition };
        let Some(said) = commits.foreign(&tp) else { continue };
        // Of a topic that was created again the group knew other partitions.
        let is_known = find(before, &tp).is_some_and(|view| !known::differ(view.topic_id, start.topic_id));
        match is_known {
            // It starts there.
            false => done.push(tp),
            true if is_seek => moves.push(Move { tp, said, to: start.start.max(start.log_start) }),
            true => {}
        }
    }
    if !moves.is_empty() {
        let topics: HashSet<Arc<str>> = moves.iter().map(|m| Arc::clone(&m.tp.topic)).collect();
        let read = read_by_others(shared, group, &topics).await?;
        let (live, free): (Vec<_>, Vec<_>) = moves.into_iter().partition(|m| read.contains(&m.tp.topic));
        say_live(group, before, &live);
        done.extend(seek_all(shared, group, before.to_vec(), free).await?);
    }
    if done.is_empty() {
        return Ok(());
    }
    let topics = topics_of(&done);
    let mut views = group.partitions(&topics).await?;
    views.retain(|view| done.iter().any(|tp| is_of(view, tp)));
    commits::commit_now(shared, group, &views).await?;
    shared.with(|state| views.iter().for_each(|view| state.group_stands(view)));
    Ok(())
}

/// Where a foreign commit moves a partition.
struct Move {
    tp: Tp,
    /// What the commit says.
    said: i64,
    /// The same, within the log.
    to: i64,
}

fn is_of(view: &PartitionView, tp: &Tp) -> bool {
    view.partition == tp.partition && view.topic == tp.topic
}

fn find<'a>(views: &'a [PartitionView], tp: &Tp) -> Option<&'a PartitionView> {
    views.iter().find(|view| is_of(view, tp))
}

fn topics_of(tps: &[Tp]) -> Vec<Arc<str>> {
    let topics: HashSet<&Arc<str>> = tps.iter().map(|tp| &tp.topic).collect();
    topics.into_iter().cloned().collect()
}

/// Whether a partition stands there, with nothing begun: another member that starts now was first, and has not committed yet.
fn stands_at(view: &PartitionView, offset: i64) -> bool {
    view.in_flight + view.parked == 0 && view.low_watermark == offset && view.cursor == offset
}

/// Moves partitions; returns those that stand where their commits say. `views` were read before the commits.
async fn seek_all(
    shared: &Shared,
    group: &RedisGroup,
    mut views: Vec<PartitionView>,
    mut left: Vec<Move>,
) -> Result<Vec<Tp>, ConsumerError> {
    let mut there = Vec::new();
    for _ in 0..TRIES {
        let mut lost = Vec::new();
        for one in left {
            let Some(view) = find(&views, &one.tp) else { continue };
            let is_there = stands_at(view, one.to);
            let Tp { topic, partition } = &one.tp;
            if is_there || shared.coordinator.seek(topic, *partition, view.generation, one.to).await? {
                if !is_there {
                    say_moved(group, view, &one);
                }
                there.push(one.tp);
            } else {
                lost.push(one);
            }
        }
        if lost.is_empty() {
            return Ok(there);
        }
        // Somebody moved them since: another member that starts now, or a new leader whose log is shorter.
        let tps: Vec<Tp> = lost.iter().map(|one| one.tp.clone()).collect();
        views = group.partitions(&topics_of(&tps)).await?;
        let still: HashSet<Tp> = commits::committed(shared, group, &tps)
            .await?
            .filter(|(_, c)| is_foreign(c))
            .map(|(tp, _)| tp)
            .collect();
        lost.retain(|one| still.contains(&one.tp));
        left = lost;
    }
    for Move { tp: Tp { topic, partition }, said, .. } in left {
        tracing::warn!(
            topic = &*topic,
            partition,
            "somebody else moved the partition again and again: the commit at {said}, which another client made, is not applied"
        );
    }
    Ok(there)
}

fn say_moved(group: &RedisGroup, view: &PartitionView, one: &Move) {
    let Move { tp: Tp { topic, partition }, said, to } = one;
    let clamped = if said == to {
        String::new()
    } else {
        format!(" (its log has no {said}; the nearest offset is {to})")
    };
    tracing::warn!(
        "Group \"{}\" goes on at {to} in {topic}/{partition}{clamped}, where it stood at {}: another client moved its committed offset",
        group.conf().group,
        view.low_watermark
    );
}

/// Members read the topics, so nothing is applied: they will overwrite the commits.
fn say_live(group: &RedisGroup, before: &[PartitionView], live: &[Move]) {
    let of = |one: &Move| {
        let stands = find(before, &one.tp).map_or(-1, |view| view.low_watermark);
        (one.said != stands).then(|| told(&one.tp, one.said, stands))
    };
    say_not_applied(group, live.iter().filter_map(of).collect());
}

fn told(tp: &Tp, said: i64, stands: i64) -> String {
    format!("{}/{} to {said} (the group stands at {stands})", tp.topic, tp.partition)
}

fn say_not_applied(group: &RedisGroup, mut lines: Vec<String>) {
    let name = &group.conf().group;
    if !lines.is_empty()
        && let Some(more) = log_rate::due(format_args!("foreign commits {name}"))
    {
        if lines.len() > NAMED {
            let others = lines.len() - NAMED;
            lines.truncate(NAMED);
            lines.push(format!("{others} others"));
        }
        tracing::warn!(
            "Another client changed committed offsets of group \"{name}\" while its members read: {}. That is not applied, and is \
             overwritten. Stop all members first, or use Consumer.seek{more}",
            lines.join(", ")
        );
    }
}

/// Which of these topics a live member reads, this one not counted.
async fn read_by_others(
    shared: &Shared,
    group: &RedisGroup,
    topics: &HashSet<Arc<str>>,
) -> Result<HashSet<Arc<str>>, GroupError> {
    let patience = patience(shared);
    let us = shared.with(|state| Arc::clone(&state.talk.consumer));
    let reads =
        |member: &MemberView| member.consumer != us && member.topics.iter().any(|t| topics.contains(t));
    let began = Instant::now();
    let mut first: Option<HashMap<Arc<str>, u64>> = None;
    loop {
        let mut who = group.who().await?;
        who.retain(reads);
        let first =
            first.get_or_insert_with(|| who.iter().map(|m| (Arc::clone(&m.consumer), m.seen)).collect());
        let is_dead = |m: &MemberView| m.silent >= millis(patience) || began.elapsed() >= patience;
        let is_heard = |m: &MemberView| first.get(&m.consumer).is_none_or(|seen| m.seen > *seen);
        let (live, silent): (Vec<_>, Vec<_>) = who.iter().partition(|m| is_heard(m));
        let read: HashSet<Arc<str>> =
            live.iter().flat_map(|m| &m.topics).filter(|topic| topics.contains(*topic)).cloned().collect();
        if read.len() == topics.len() || silent.into_iter().all(is_dead) {
            return Ok(read);
        }
        tokio::time::sleep((patience / 20).max(Duration::from_millis(10))).await;
    }
}

/// For how long a live member may be silent. Members need not agree on their heartbeat, but on the lease: one whose heartbeat is shorter
/// than the others' must not take them for dead.
fn patience(shared: &Shared) -> Duration {
    shared.conf.heartbeat.saturating_mul(BEATS).max(shared.conf.lease / BEATS)
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// Called before the mirror commits: takes out of `commits` what is not to be overwritten, and returns it. Those are foreign commits to
/// topics that no live member reads, which are for the next one to apply that subscribes. Logs which others are overwritten.
/// `was_committed`: whether this member has committed a partition before.
pub(super) async fn look(
    shared: &Shared,
    group: &RedisGroup,
    commits: &mut Vec<OffsetCommit>,
    was_committed: impl Fn(&Tp) -> bool,
) -> Result<Vec<Tp>, ConsumerError> {
    let tp = |commit: &OffsetCommit| Tp { topic: Arc::clone(&commit.topic), partition: commit.partition };
    let tps: Vec<Tp> = commits.iter().map(tp).collect();
    let found: HashMap<Tp, CommittedOffset> = commits::committed(shared, group, &tps).await?.collect();
    let gone = tps.iter().filter(|tp| !found.contains_key(*tp) && was_committed(tp));
    let mut lines: Vec<String> = gone.map(|tp| format!("{}/{}, deleted", tp.topic, tp.partition)).collect();
    let foreign: HashMap<Tp, i64> =
        found.into_iter().filter(|(_, c)| is_foreign(c)).map(|(tp, c)| (tp, c.offset)).collect();
    let mut left = Vec::new();
    if !foreign.is_empty() {
        let read = read_now(shared, group).await?;
        commits.retain(|commit| {
            let tp = tp(commit);
            let Some(said) = foreign.get(&tp) else { return true };
            let is_read = read.contains(&tp.topic);
            if !is_read {
                left.push(tp);
            } else if *said != commit.offset {
                lines.push(told(&tp, *said, commit.offset));
            }
            is_read
        });
    }
    say_not_applied(group, lines);
    Ok(left)
}

/// The topics that live members read, this one counted whether it is closing or not.
async fn read_now(shared: &Shared, group: &RedisGroup) -> Result<HashSet<Arc<str>>, GroupError> {
    let patience = millis(patience(shared));
    let who = group.who().await?;
    let mut read: HashSet<Arc<str>> = shared.with(|state| state.topics()).into_iter().collect();
    read.extend(who.into_iter().filter(|m| m.silent < patience).flat_map(|m| m.topics));
    Ok(read)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::group::{Ack, ExchangeRequest, GroupSettings, GroupState};

    const TO: i64 = 10;

    fn topic() -> Arc<str> {
        "t".into()
    }

    /// A group that has handled 100 records, moved to 10 by an operator while nobody is in it.
    struct Stage {
        group: GroupState,
        is_foreign: bool,
        read: i64,
    }

    impl Stage {
        fn new() -> Self {
            let mut group = GroupState::new(GroupSettings::of(&Config::default()), 0);
            let start = Init {
                topic: topic(),
                partition: 0,
                topic_id: Default::default(),
                leader_epoch: 0,
                start: 100,
                high_watermark: 100,
                log_start: 0,
                done: Vec::new(),
                pending: None,
            };
            group.init(&[start], 1);
            Self { group, is_foreign: true, read: 0 }
        }

        /// A member that reads handles one record.
        fn handle(&mut self, who: &str, request: u64) {
            let mut claim = ExchangeRequest::new(who.into(), request, vec![topic()]);
            (claim.want, claim.max_records) = (1, 1);
            let units = self.group.exchange(request, &claim).units;
            let mut done = ExchangeRequest::new(who.into(), request, vec![topic()]);
            let ack = |unit: &crate::group::Unit| Ack {
                id: unit.id.clone(),
                request: unit.request,
                end: unit.end,
                high_watermark: -1,
                leader_epoch: -1,
                records: 0,
                bytes: 0,
            };
            done.acks = units.iter().map(ack).collect();
            self.group.exchange(request, &done);
            self.read += units.len() as i64;
        }
    }

    /// A member that connects, a step at a time, as [`apply`] and its caller do it.
    struct Starter {
        name: &'static str,
        next: u64,
        view: Option<PartitionView>,
    }

    impl Starter {
        fn step(&mut self, stage: &mut Stage) {
            self.next = match self.next {
                0 => {
                    self.view = stage.group.partitions(&[topic()]).pop();
                    1
                }
                1 if stage.is_foreign => 2,
                1 => 4,
                2 => {
                    let view = self.view.as_ref().expect("it was read");
                    let nonce = 7 + self.name.len() as u64;
                    if stands_at(view, TO) {
                        3
                    } else if stage.group.seek(&topic(), 0, view.generation, TO, nonce) {
                        assert_eq!(stage.read, 0, "what {} has handled is repeated", self.name);
                        3
                    } else {
                        0
                    }
                }
                3 => {
                    stage.is_foreign = false;
                    4
                }
                done => {
                    stage.handle(self.name, done);
                    done + 1
                }
            };
        }
    }

    /// Two members start at once, in every order that their steps may have.
    #[test]
    fn two_that_start_at_once_move_a_partition_once() {
        for order in 0..1_u32 << 16 {
            let mut stage = Stage::new();
            let mut starters = ["one", "second"].map(|name| Starter { name, next: 0, view: None });
            for step in 0..16 {
                starters[(order >> step & 1) as usize].step(&mut stage);
            }
            let view = stage.group.partitions(&[topic()]).remove(0);
            assert!(stage.read == 0 || view.cursor == TO + stage.read, "{order:b}: {view:?}");
        }
    }
}
