//! The task that speaks with the group: one exchange after another, the heartbeat, and the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::mirror;
use super::plan::Seen;
use super::publish;
use super::recover;
use super::shared::{Alarm, Shared};
use super::state::Phase;
use crate::error::ErrorKind;
use crate::group::{ExchangeReply, ExchangeRequest, GroupError};

/// Wait after a failed exchange, doubling with jitter.
const RETRY_FIRST: Duration = Duration::from_millis(20);
const RETRY_MOST: Duration = Duration::from_secs(1);

/// Longest wait for work in the group; the heartbeat comes sooner.
const WORK_WAIT: Duration = Duration::from_secs(30);

/// Least time between two looks at the deadlines while an exchange is under way.
const TICK_LEAST: Duration = Duration::from_millis(100);

/// Exchanges until the consumer is closed and the group was told everything.
pub(super) async fn run(shared: Arc<Shared>) {
    let _alarm = Alarm::new(&shared);
    let mut failures = 0;
    let mut last_learned = Instant::now();
    let mut lives = shared.coordinator.lives();
    let mut clearing: Option<JoinHandle<()>> = None;
    loop {
        if let Err(error) = recover::after_loss(&shared, &mut lives).await {
            tracing::warn!("the group was lost, and its positions are not restored yet: {error}");
        }
        let now = Instant::now();
        let (next, unsaid, request, phase) = shared.with(|state| {
            let next = state.tick(now);
            if now >= last_learned + state.limits.heartbeat {
                last_learned = now;
                state.learn_midway(now);
            }
            (next, state.unsaid(now), state.exchange(now), state.phase)
        });
        if !unsaid.is_empty() {
            say(&shared, unsaid, &mut clearing).await;
        }
        let retry_at = match request {
            Some(request) => {
                let sent = Instant::now();
                match exchange(&shared, &request, next).await {
                    Ok(reply) => {
                        failures = 0;
                        shared.with(|state| state.answered(reply, sent, Instant::now()));
                        continue;
                    }
                    Err(error) if is_final(&error) => {
                        shared.with(|state| state.refused(error.to_string()));
                        None
                    }
                    Err(error) => {
                        if error == GroupError::Reconcile {
                            match mirror::reconcile(&shared).await {
                                Ok(()) => continue,
                                Err(error) => {
                                    tracing::warn!("comparing positions with Kafka's commits: {error}")
                                }
                            }
                        }
                        let wait = super::jitter(RETRY_MOST.min(RETRY_FIRST * 2u32.pow(failures)));
                        failures = (failures + 1).min(8);
                        tracing::warn!(
                            "the group is not reached: {error}; next try in {} ms",
                            wait.as_millis()
                        );
                        if shared.with(|state| state.closing_for(now)) > shared.conf.lease {
                            // Everybody let go of us long ago, and what we held is free by itself.
                            end(&shared);
                            return;
                        }
                        Some(Instant::now() + wait)
                    }
                }
            }
            None if phase != Phase::Open && shared.with(|state| state.is_done()) => break,
            None => None,
        };
        wait(&shared, next, retry_at).await;
        if shared.is_over() {
            return;
        }
    }
    leave(&shared).await;
}

/// Tells the group what was seen. What only leaders can clear up is left to a task, one at a time: while a leader says nothing
/// the group must go on hearing of us.
async fn say(shared: &Arc<Shared>, seen: Vec<Seen>, clearing: &mut Option<JoinHandle<()>>) {
    let unclear = publish::tell(shared, &seen).await;
    if clearing.as_ref().is_some_and(|task| !task.is_finished()) {
        publish::unsaid(shared, unclear.iter().map(|(seen, _)| seen));
    } else if !unclear.is_empty() {
        let shared = Arc::clone(shared);
        *clearing = Some(tokio::spawn(async move { publish::clear_up(&shared, unclear).await }));
    }
}

/// One exchange. It may take a round trip or hang: deadlines are looked after meanwhile.
async fn exchange(
    shared: &Shared,
    request: &ExchangeRequest,
    mut next: Instant,
) -> Result<ExchangeReply, GroupError> {
    let mut call = std::pin::pin!(shared.coordinator.exchange(request));
    loop {
        tokio::select! {
            biased;
            reply = &mut call => return reply,
            () = tokio::time::sleep_until(next.into()) => {
                let now = Instant::now();
                next = shared.with(|state| state.tick(now)).max(now + TICK_LEAST);
            }
        }
    }
}

/// Waits for something to do: a kick, work in the group, or time. After a failure only for `retry_at`: what is to be
/// said is the same.
async fn wait(shared: &Shared, next: Instant, retry_at: Option<Instant>) {
    if let Some(at) = retry_at {
        // Heartbeats and deadlines are still looked after in between.
        tokio::select! {
            () = tokio::time::sleep_until(at.into()) => {}
            () = shared.until_over() => {}
        }
        return;
    }
    let idle = shared.with(|state| state.talk.is_dry() && state.wanted(Instant::now()) > 0);
    tokio::select! {
        () = shared.exchange_kick.notified() => {}
        () = tokio::time::sleep_until(next.into()) => {}
        () = shared.until_over() => {}
        () = work(shared), if idle => shared.with(|state| state.talk.work_appeared()),
    }
}

/// Ready when the group has work for us.
async fn work(shared: &Shared) {
    let topics = shared.with(|state| state.topics_to_claim(Instant::now()));
    match shared.coordinator.work(&topics, WORK_WAIT).await {
        Ok(true) => {}
        // Time asks again.
        Ok(false) | Err(_) => std::future::pending().await,
    }
}

/// Says good-bye, and ends the other tasks.
async fn leave(shared: &Shared) {
    let consumer = shared.with(|state| state.talk.consumer.clone());
    if let Err(error) = shared.coordinator.leave(&consumer).await {
        tracing::warn!("leaving the group: {error}");
    }
    mirror::at_the_end(shared).await;
    end(shared);
}

/// Ends the tasks, whatever the group knows.
pub(super) fn end(shared: &Shared) {
    shared.with(|state| state.phase = Phase::Closed);
    shared.over.send_replace(true);
    shared.events.close();
    shared.cluster.close();
}

/// Whether the group will never serve us, as opposed to being away for a while.
fn is_final(error: &GroupError) -> bool {
    matches!(error.kind(), ErrorKind::Config | ErrorKind::Group)
}
