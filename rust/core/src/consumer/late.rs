//! Tries again what had to wait for its leader: partitions whose start is pending, and those whose position is to be compared with
//! the commits. Each leader's by themselves, so that one that is silent keeps nobody waiting.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::mirror;
use super::pending::What;
use super::shared::{Alarm, Shared};
use super::start;
use super::starting::{Met, fix};
use super::state::{Phase, Tp};
use crate::group::Overview;

/// Longest wait for metadata before a try.
const LEADERS_WITHIN: Duration = Duration::from_secs(2);
/// Without anything that waits the list is looked at so often.
const LOOK_EVERY: Duration = Duration::from_secs(3600);

/// Tries until the consumer is over.
pub(super) async fn run(shared: Arc<Shared>) {
    let _alarm = Alarm::new(&shared);
    let mut tries: JoinSet<Vec<Tp>> = JoinSet::new();
    loop {
        let now = Instant::now();
        let (due, next) = shared.with(|state| {
            let due = if state.phase == Phase::Open { state.pending.due(now) } else { Vec::new() };
            (due, state.pending.next().unwrap_or(now + LOOK_EVERY))
        });
        for ((what, _), tps) in by_leader(&shared, due) {
            let shared = Arc::clone(&shared);
            tries.spawn(async move {
                try_again(&shared, what, &tps).await;
                tps
            });
        }
        tokio::select! {
            Some(tried) = tries.join_next() => match tried {
                Ok(tps) => shared.with(|state| {
                    let now = Instant::now();
                    tps.iter().for_each(|tp| state.pending.tried(tp, now));
                }),
                // A defect: the alarm is for it.
                Err(error) if error.is_panic() => std::panic::resume_unwind(error.into_panic()),
                Err(_) => return,
            },
            () = tokio::time::sleep_until(next.into()) => {}
            () = shared.late_kick.notified() => {}
            () = shared.until_over() => return,
        }
    }
}

/// What is due, by what it waits for and by leader; -1 where there is none.
fn by_leader(shared: &Shared, due: Vec<(Tp, What)>) -> BTreeMap<(What, i32), Vec<Tp>> {
    let mut groups: BTreeMap<(What, i32), Vec<Tp>> = BTreeMap::new();
    for (tp, what) in due {
        let leader = shared.cluster.leader(&tp.topic, tp.partition).map_or(-1, |leader| leader.node);
        groups.entry((what, leader)).or_default().push(tp);
    }
    groups
}

async fn try_again(shared: &Arc<Shared>, what: What, tps: &[Tp]) {
    let mut topics: Vec<Arc<str>> = tps.iter().map(|tp| Arc::clone(&tp.topic)).collect();
    topics.dedup();
    let has_leader = |tp: &Tp| shared.cluster.leader(&tp.topic, tp.partition).is_some();
    if !tps.iter().all(has_leader)
        && let Err(error) = shared.cluster.refresh(&topics, LEADERS_WITHIN).await
    {
        tracing::debug!("leaders of partitions that wait: {error}");
    }
    let tried = match what {
        What::Start => {
            let metas: Vec<_> =
                topics.iter().filter_map(|topic| shared.cluster.cached_topic(topic)).collect();
            fix(shared, tps.to_vec(), &metas, Met::Late).await
        }
        What::Check => mirror::check(shared, tps).await,
    };
    match tried {
        Ok(()) => start::appeared(shared),
        Err(error) => start::say_missed(&error),
    }
}

/// The organiser sees what waits: whoever met it may be gone.
pub(super) fn learn(shared: &Shared, overview: &Overview) {
    let now = Instant::now();
    let is_any = shared.with(|state| {
        for (topic, partition, start) in &overview.pending {
            let tp = Tp { topic: Arc::clone(topic), partition: *partition };
            state.pending.add(&tp, What::Start, Some(*start), false, now);
        }
        for view in overview.partitions.iter().filter(|view| view.unchecked) {
            let tp = Tp { topic: Arc::clone(&view.topic), partition: view.partition };
            state.pending.add(&tp, What::Check, None, false, now);
        }
        state.pending.next().is_some_and(|next| next <= now)
    });
    if is_any {
        shared.late_kick.notify_one();
    }
}
