//! Fixes where partitions start: asks the leaders where they begin and end, Kafka where the group has committed, and the group
//! what it knows, and tells the group.
//!
//! A partition that the group knows needs nobody's answer to go on. One that cannot be started now - its leader is silent, or
//! there is none - keeps nobody from the others: the group records where it is to start, and it follows when its leader answers
//! (`late`). That it starts at the end of its log *as it was* when somebody subscribed is found by time then: at its first record
//! that is at least as young as that, less a minute for clocks that differ.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::commits::Commits;
use super::ends::{self, Ends};
use super::error::ConsumerError;
use super::foreign;
use super::known::differ;
use super::pending::{What, names};
use super::plan::Seen;
use super::publish::publish;
use super::shared::Shared;
use super::state::Tp;
use crate::cluster::{Patience, TopicMeta};
use crate::error::ErrorKind;
use crate::group::{Init, LateStart, Overview, PartitionView, Pend, Pended, StartAt};
use crate::wire::Uuid;

/// How long a partition that has no leader is waited for when others can be started: an election takes less.
const LEADERLESS_MOST: Duration = Duration::from_millis(1500);
/// How long a broker that does not answer is waited for when others do.
const SILENT_MOST: Duration = Duration::from_secs(4);
/// By how much clocks may differ: those of producers, of brokers, and ours.
const CLOCKS_DIFFER: i64 = 60_000;

/// Why a partition is met now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Met {
    /// The topic was there when somebody subscribed to it, at this time, in milliseconds since 1970.
    Subscribing { at: i64 },
    /// It is read already, and the group has lost it; found now.
    Lost { at: i64 },
    /// It appeared after that.
    Later,
    /// It was met before, and had to wait for its leader.
    Late,
}

impl Met {
    /// Whether all is to be started that there is, and what cannot be is recorded.
    const fn is_at_once(self) -> bool {
        matches!(self, Self::Subscribing { .. } | Self::Lost { .. })
    }
}

pub(super) fn tps(meta: &TopicMeta) -> impl Iterator<Item = Tp> + '_ {
    meta.partitions.iter().map(|p| Tp { topic: Arc::clone(&meta.name), partition: p.index })
}

/// Fixes the starts of all partitions of `metas` that this consumer does not know yet.
pub(super) async fn fix_starts(
    shared: &Arc<Shared>,
    metas: &[Arc<TopicMeta>],
    met: Met,
) -> Result<(), ConsumerError> {
    let mut wanted: Vec<Tp> = metas.iter().flat_map(|meta| tps(meta)).collect();
    shared.with(|state| {
        // What waits is tried again by itself.
        let waits = |tp: &Tp| met == Met::Later && state.pending.has(tp);
        wanted.retain(|tp| !state.known.has_started(tp) && !waits(tp));
    });
    fix(shared, wanted, metas, met).await
}

/// Fixes the starts of `wanted`, which are partitions of `metas`.
pub(super) async fn fix(
    shared: &Arc<Shared>,
    wanted: Vec<Tp>,
    metas: &[Arc<TopicMeta>],
    met: Met,
) -> Result<(), ConsumerError> {
    if wanted.is_empty() {
        return Ok(());
    }
    // Before their ends are asked for: those of a topic are not to count as those of one that replaces it meanwhile.
    let ids: HashMap<_, _> = metas.iter().map(|meta| (Arc::clone(&meta.name), meta.id)).collect();
    let topics: BTreeSet<Arc<str>> = wanted.iter().map(|tp| Arc::clone(&tp.topic)).collect();
    let topics: Vec<Arc<str>> = topics.into_iter().collect();
    let lives = shared.coordinator.lives();
    let before = shared.coordinator.overview(&topics).await?;
    if !may_go_on(shared, met, lives) {
        return Ok(());
    }
    let mut starting = Starting { shared, met, ids, topics, lives, before, waits: Vec::new() };
    let (known, asked): (Vec<Tp>, Vec<Tp>) = wanted.into_iter().partition(|tp| starting.is_known(tp));
    let found = starting.ends(&asked, !known.is_empty()).await?;
    let (starts, commits) = starting.starts(&known, found).await?;
    starting.tell(&known, starts, commits).await
}

/// A group that was lost is told by [`super::recover`] first: to start one partition of a topic says that all others appeared later.
fn may_go_on(shared: &Shared, met: Met, lives: u64) -> bool {
    met.is_at_once() || (shared.coordinator.lives() == lives && shared.with(|state| state.life) == lives)
}

/// What is found out on the way.
struct Starting<'a> {
    shared: &'a Arc<Shared>,
    met: Met,
    ids: HashMap<Arc<str>, Uuid>,
    topics: Vec<Arc<str>>,
    lives: u64,
    /// What the group knew before.
    before: Overview,
    /// What cannot be started now, and why.
    waits: Vec<(Tp, Arc<str>)>,
}

impl Starting<'_> {
    fn id(&self, tp: &Tp) -> Uuid {
        self.ids.get(&tp.topic).copied().unwrap_or_default()
    }

    fn view(&self, tp: &Tp) -> Option<&PartitionView> {
        self.before.partitions.iter().find(|view| view.topic == tp.topic && view.partition == tp.partition)
    }

    /// Whether the group reads this partition, of this topic and no other of its name. It learns an id that it does not have.
    fn is_known(&self, tp: &Tp) -> bool {
        self.view(tp).is_some_and(|view| view.topic_id == self.id(tp) || self.id(tp).is_zero())
    }

    /// What the group has recorded of a pending start.
    fn recorded(&self, tp: &Tp) -> Option<LateStart> {
        let is = |(topic, partition, _): &&(Arc<str>, i32, LateStart)| {
            *topic == tp.topic && *partition == tp.partition
        };
        self.before.pending.iter().find(is).map(|(.., start)| *start)
    }

    fn patience(&self, is_some_known: bool) -> Patience {
        let conf = &self.shared.conf;
        match self.met {
            // These partitions have one leader, and wait for it alone.
            Met::Late => Patience { leaderless: LEADERLESS_MOST, ..ends::within(conf.request_timeout) },
            _ => Patience {
                all: conf.metadata_timeout,
                leaderless: LEADERLESS_MOST.min(conf.metadata_timeout),
                silent: SILENT_MOST.min(conf.request_timeout).min(conf.metadata_timeout),
                is_some_known,
            },
        }
    }

    /// Where partitions begin and end, of those whose leaders say it.
    async fn ends(&mut self, asked: &[Tp], is_some_known: bool) -> Result<Vec<(Tp, Ends)>, ConsumerError> {
        let answers = ends::ask(self.shared, asked, self.patience(is_some_known)).await?;
        let mut found = Vec::new();
        let mut first = None;
        for (tp, answer) in asked.iter().zip(answers) {
            match answer {
                Ok(ends) => found.push((tp.clone(), ends)),
                // What no waiting mends the user is to hear of.
                Err(error) if self.met.is_at_once() && error.kind() != ErrorKind::Timeout => {
                    return Err(error.into());
                }
                Err(error) => {
                    self.waits.push((tp.clone(), error.to_string().into()));
                    first.get_or_insert(error);
                }
            }
        }
        match first {
            // Nothing at all could be read: that is no start.
            Some(error) if self.met.is_at_once() && found.is_empty() && !is_some_known => Err(error.into()),
            _ => Ok(found),
        }
    }

    /// Where partitions start whose ends are known, and what is committed of them and of those that are `known`.
    async fn starts(
        &mut self,
        known: &[Tp],
        found: Vec<(Tp, Ends)>,
    ) -> Result<(Vec<Init>, Option<Commits>), ConsumerError> {
        // After the ends: where it says "by the policy" nobody had started or recorded anything when they were asked for.
        let asked: Vec<_> = self.topics.iter().map(|topic| (Arc::clone(topic), true)).collect();
        let start_at = self.shared.coordinator.subscribe(&asked).await?;
        let by_policy = |tp: &Tp| {
            let is = |(topic, at): (&Arc<str>, &StartAt)| *topic == tp.topic && *at == StartAt::Policy;
            self.topics.iter().zip(&start_at).any(is)
        };
        let by_policy: BTreeSet<Tp> = found
            .iter()
            .map(|(tp, _)| tp)
            .chain(self.waits.iter().map(|(tp, _)| tp))
            .filter(|tp| by_policy(tp))
            .cloned()
            .collect();
        let commits = match self.commits(known, &found).await {
            Ok(commits) => commits,
            // The coordinator is away. What the group knows goes on without it.
            Err(error)
                if self.met.is_at_once() && !known.is_empty() && error.kind() == ErrorKind::Timeout =>
            {
                let why: Arc<str> = error.to_string().into();
                self.waits.extend(found.into_iter().map(|(tp, _)| (tp, Arc::clone(&why))));
                self.pend(&by_policy).await?;
                return Ok((Vec::new(), None));
            }
            Err(error) => return Err(error),
        };
        let since = self.since(&found).await?;
        let mut starts = Vec::new();
        for (tp, ends) in found {
            if let Some(why) = commits.is_unclear(&tp) {
                self.waits.push((tp, why));
                continue;
            }
            match since.get(&tp) {
                Some(Err(why)) => self.waits.push((tp, Arc::clone(why))),
                Some(Ok(offset)) => starts.push(self.start(&tp, ends, *offset, &commits)),
                None => {
                    let is_latest = self.met.is_at_once()
                        && !self.shared.conf.use_earliest
                        && self.recorded(&tp).is_none()
                        && by_policy.contains(&tp);
                    let offset = if is_latest { ends.latest } else { ends.earliest };
                    starts.push(self.start(&tp, ends, offset, &commits));
                }
            }
        }
        self.pend(&by_policy).await?;
        Ok((starts, Some(commits)))
    }

    async fn commits(&self, known: &[Tp], found: &[(Tp, Ends)]) -> Result<Commits, ConsumerError> {
        // What the group knows has no use for them but that it may have none.
        let known = if self.met.is_at_once() { known } else { &[] };
        let unknown: Vec<Tp> = found.iter().map(|(tp, _)| tp.clone()).collect();
        let timeout = self.shared.conf.metadata_timeout;
        let timeout = if known.is_empty() { timeout } else { timeout.min(SILENT_MOST) };
        Commits::read(self.shared, known, &unknown, timeout).await
    }

    /// Where partitions start by time: those that were to start at the ends of their logs when their leaders were away.
    async fn since(&self, found: &[(Tp, Ends)]) -> Result<HashMap<Tp, Result<i64, Arc<str>>>, ConsumerError> {
        let late = found.iter().filter_map(|(tp, ends)| match self.late_start(tp)? {
            LateStart::Since(at) => Some((tp.clone(), at, *ends)),
            LateStart::Earliest => None,
        });
        let late: Vec<_> = late.collect();
        let asked: Vec<_> =
            late.iter().map(|(tp, at, _)| (tp.clone(), (at - CLOCKS_DIFFER).max(0))).collect();
        let answers = ends::since(self.shared, &asked, self.patience(true)).await?;
        let offset = |((tp, _, ends), answer): ((Tp, i64, Ends), Result<i64, _>)| {
            let offset = answer.map_err(|error: crate::cluster::OffsetsError| Arc::from(error.to_string()));
            // -1: no record is that young.
            (tp, offset.map(|offset| if offset < 0 { ends.latest } else { offset.max(ends.earliest) }))
        };
        Ok(late.into_iter().zip(answers).map(offset).collect())
    }

    /// Where a partition is to start that was met before and had no leader.
    fn late_start(&self, tp: &Tp) -> Option<LateStart> {
        // A group that lost it is told again.
        self.recorded(tp).or_else(|| self.shared.with(|state| state.pending.start(tp)))
    }

    fn start(&self, tp: &Tp, ends: Ends, by_rule: i64, commits: &Commits) -> Init {
        let (start, done) = commits.start(tp, ends.log_end.max(0)).unwrap_or((by_rule, Vec::new()));
        Init {
            topic: Arc::clone(&tp.topic),
            partition: tp.partition,
            topic_id: self.id(tp),
            leader_epoch: self
                .shared
                .cluster
                .leader(&tp.topic, tp.partition)
                .map_or(-1, |leader| leader.epoch),
            start: start.max(0),
            high_watermark: ends.latest.max(0),
            log_start: ends.earliest.max(0),
            done,
            pending: self.recorded(tp),
        }
    }

    /// Tells the group, before anything else is started, where what cannot be started is to start. `by_policy`: nobody had
    /// started anything of their topics before.
    async fn pend(&self, by_policy: &BTreeSet<Tp>) -> Result<(), ConsumerError> {
        let (Met::Subscribing { at } | Met::Lost { at }) = self.met else { return Ok(()) };
        let latest = |tp: &Tp| !self.shared.conf.use_earliest && by_policy.contains(tp);
        let start = |tp: &Tp| {
            let fresh = if latest(tp) { LateStart::Since(at) } else { LateStart::Earliest };
            self.late_start(tp).unwrap_or(fresh)
        };
        let pend = |tp: &Tp| Pend {
            topic: Arc::clone(&tp.topic),
            partition: tp.partition,
            topic_id: self.id(tp),
            start: start(tp),
        };
        let pends: Vec<Pend> = self.waits.iter().map(|(tp, _)| pend(tp)).collect();
        let recorded =
            if pends.is_empty() { Vec::new() } else { self.shared.coordinator.pend(&pends).await? };
        let now = Instant::now();
        self.shared.with(|state| {
            for ((tp, _), pended) in self.waits.iter().zip(recorded) {
                let start = match pended {
                    Pended::Recorded(start) => Some(start),
                    // The next try sees to it.
                    Pended::Started | Pended::WrongTopic => None,
                };
                state.pending.add(tp, What::Start, start, true, now);
            }
        });
        Ok(())
    }

    /// Tells the group where partitions start, and learns where it stands.
    async fn tell(
        &mut self,
        known: &[Tp],
        mut starts: Vec<Init>,
        commits: Option<Commits>,
    ) -> Result<(), ConsumerError> {
        let shared = self.shared;
        // A topic that was created again meanwhile is met as one that appeared later.
        starts.retain(|start| {
            let now = shared.cluster.cached_topic(&start.topic);
            now.is_none_or(|now| !differ(now.id, start.topic_id))
        });
        shared.coordinator.init(&starts).await?;
        self.settle(&starts).await?;
        let after = shared.coordinator.overview(&self.topics).await?.partitions;
        let all = known.iter().cloned().chain(starts.iter().map(tp_of));
        let is_read = |tp: &Tp| {
            let is = |view: &PartitionView| {
                view.topic == tp.topic
                    && view.partition == tp.partition
                    && !differ(view.topic_id, self.id(tp))
            };
            after.iter().any(is)
        };
        let (started, refused): (Vec<Tp>, Vec<Tp>) = all.partition(is_read);
        self.waits.extend(refused.into_iter().map(|tp| (tp, "somebody else starts it".into())));
        self.started(&started, &after);
        let of_commits =
            |commits: &Commits| starts.iter().filter(|start| commits.has(start)).map(tp_of).collect();
        let restored: Vec<Tp> = commits.as_ref().map_or_else(Vec::new, of_commits);
        if let Some(commits) = commits {
            if self.met.is_at_once() {
                commits.begin(shared, &after).await?;
            } else if let Err(error) = commits.keep(shared, &after, &started).await {
                tracing::debug!("the first commit of partitions that were started late: {error}");
            }
            let is_seek = matches!(self.met, Met::Subscribing { .. });
            let moved = if is_seek { self.moved(known, &commits).await? } else { Vec::new() };
            let told = [&starts[..], &moved[..]].concat();
            foreign::apply(shared, &commits, &self.before.partitions, &told, is_seek).await?;
        }
        say_where(shared, &self.topics, &starts, &self.before.partitions, &restored);
        self.say_what_waits();
        // A group that was here before may not know how far the log has grown since, or that it begins later now.
        let seen: Vec<Seen> = starts.iter().map(seen).collect();
        if !seen.is_empty() {
            publish(shared, &seen).await;
        }
        publish_later(shared, known.iter().map(|tp| (tp.clone(), self.id(tp))).collect());
        Ok(())
    }

    /// Where those of the known partitions start that an operator has moved: within the log, if its leader says where that begins and
    /// ends, or else where he said.
    async fn moved(&self, known: &[Tp], commits: &Commits) -> Result<Vec<Init>, ConsumerError> {
        let moved: Vec<Tp> = known.iter().filter(|tp| commits.foreign(tp).is_some()).cloned().collect();
        let found = ends::ask(self.shared, &moved, self.patience(true)).await?;
        let start = |(tp, ends): (&Tp, Result<Ends, _>)| {
            let said = commits.foreign(tp).unwrap_or(0);
            let ends = ends.unwrap_or(Ends { earliest: 0, latest: said, log_end: said });
            self.start(tp, ends, said, commits)
        };
        Ok(moved.iter().zip(found).map(start).collect())
    }

    /// Of a topic of which nothing was started all the same everything is met that there was when it was subscribed to.
    async fn settle(&self, starts: &[Init]) -> Result<(), ConsumerError> {
        let none_of = |topic: &&Arc<str>| {
            self.waits.iter().any(|(tp, _)| tp.topic == **topic) && !starts.iter().any(|s| s.topic == **topic)
        };
        let topics: Vec<_> =
            self.topics.iter().filter(none_of).map(|topic| (Arc::clone(topic), false)).collect();
        if self.met.is_at_once() && !topics.is_empty() {
            self.shared.coordinator.subscribe(&topics).await?;
        }
        Ok(())
    }

    /// The group reads these partitions now; those that wait are tried again.
    fn started(&self, started: &[Tp], after: &[PartitionView]) {
        let (shared, now) = (self.shared, Instant::now());
        let mut over = Vec::new();
        shared.with(|state| {
            // A group that was lost meanwhile knows none of it: it is done again.
            if shared.coordinator.lives() == self.lives {
                let ours = state.topics();
                for tp in started {
                    // The organiser starts what others read, too. A topic that is being subscribed to is not ours yet.
                    if self.met.is_at_once() || ours.contains(&tp.topic) {
                        state.started(tp, self.id(tp), now);
                    }
                    over.extend(state.pending.done(tp, What::Start, now).map(|waited| (tp, waited)));
                }
            }
            for (tp, _) in &self.waits {
                if self.met.is_at_once() || state.topics().contains(&tp.topic) {
                    state.known.meet(&tp.topic, self.id(tp));
                }
                state.pending.add(tp, What::Start, None, false, now);
            }
            let own = after.iter().filter(|view| state.known.is_of(view)).collect::<Vec<_>>();
            own.into_iter().for_each(|view| state.group_stands(view));
        });
        if !self.waits.is_empty() {
            shared.late_kick.notify_one();
        }
        if let Some(longest) = over.iter().map(|(_, waited)| *waited).max() {
            let tps = names(over.iter().map(|(tp, _)| *tp));
            tracing::info!("{tps} can be read now, after {:.1} s", longest.as_secs_f64());
        }
    }

    /// One line names what waits, and why.
    fn say_what_waits(&self) {
        let Some((first, why)) = self.waits.first().filter(|_| self.met.is_at_once()) else { return };
        tracing::warn!(
            "{} cannot be started now and follow when they can; all others are read. {}/{}: {why}",
            names(self.waits.iter().map(|(tp, _)| tp).collect::<Vec<_>>().into_iter()),
            first.topic,
            first.partition
        );
    }
}

fn tp_of(start: &Init) -> Tp {
    Tp { topic: Arc::clone(&start.topic), partition: start.partition }
}

fn seen(start: &Init) -> Seen {
    Seen {
        tp: tp_of(start),
        topic_id: start.topic_id,
        high_watermark: start.high_watermark,
        log_start: start.log_start,
        epoch: start.leader_epoch,
    }
}

/// Asks for the ends of partitions that the group has been reading, without keeping anybody waiting, and each leader by itself.
fn publish_later(shared: &Arc<Shared>, known: Vec<(Tp, Uuid)>) {
    let mut by_leader: HashMap<(i32, i32), Vec<(Tp, Uuid)>> = HashMap::new();
    for (tp, id) in known {
        if let Some(leader) = shared.cluster.leader(&tp.topic, tp.partition) {
            by_leader.entry((leader.node, leader.epoch)).or_default().push((tp, id));
        }
    }
    for ((_, epoch), tps) in by_leader {
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            tokio::select! {
                () = publish_ends(&shared, &tps, epoch) => {}
                () = shared.until_over() => {}
            }
        });
    }
}

async fn publish_ends(shared: &Arc<Shared>, known: &[(Tp, Uuid)], epoch: i32) {
    let tps: Vec<Tp> = known.iter().map(|(tp, _)| tp.clone()).collect();
    let found = match ends::ask(shared, &tps, ends::within(shared.conf.request_timeout)).await {
        Ok(found) => found,
        Err(error) => return tracing::debug!("ends of partitions: {error}"),
    };
    let seen = known.iter().zip(found).filter_map(|((tp, id), ends)| {
        let ends = ends.inspect_err(|error| tracing::debug!("ends of partitions: {error}")).ok()?;
        let (high_watermark, log_start) = (ends.latest, ends.earliest);
        Some(Seen { tp: tp.clone(), topic_id: *id, high_watermark, log_start, epoch })
    });
    let seen: Vec<Seen> = seen.collect();
    if !seen.is_empty() {
        publish(shared, &seen).await;
    }
}

/// Tells what surprises people: that a new group skips what is there or goes on from commits, and that a known one ignores `use-earliest`.
fn say_where(
    shared: &Shared,
    topics: &[Arc<str>],
    starts: &[Init],
    before: &[PartitionView],
    restored: &[Tp],
) {
    let group = shared.with(|state| Arc::clone(&state.group));
    for topic in topics {
        let known = before.iter().find(|view| view.topic == *topic);
        if let Some(view) = known.filter(|_| shared.conf.use_earliest) {
            tracing::info!(
                "use-earliest has no effect: group \"{group}\" already stands at {} in {topic}/{}. Use another group \
                 or seek",
                view.low_watermark,
                view.partition
            );
        }
        let of_topic = starts.iter().filter(|start| start.topic == *topic);
        let (restored, by_rule): (Vec<&Init>, Vec<&Init>) =
            of_topic.partition(|start| restored.contains(&tp_of(start)));
        if known.is_none() && !restored.is_empty() {
            tracing::info!(
                "Group \"{group}\" goes on in \"{topic}\" where it was committed to Kafka: {} of {} partitions",
                restored.len(),
                restored.len() + by_rule.len()
            );
        }
        let skipped: i64 = by_rule.iter().map(|start| start.start - start.log_start).sum();
        if known.is_none() && skipped > 0 {
            tracing::warn!(
                "Group \"{group}\" starts at the END of \"{topic}\"; {skipped} earlier records are skipped. \
                 setUseEarliest(true) reads them (new groups only)"
            );
        }
    }
}
