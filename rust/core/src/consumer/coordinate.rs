//! The task that speaks with the group: one exchange after another, the heartbeat, and the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use super::mirror;
use super::outage::Outage;
use super::plan::Seen;
use super::publish;
use super::recover::Recovery;
use super::shared::{Alarm, Shared};
use super::state::Phase;
use crate::group::{ExchangeReply, ExchangeRequest, GroupError};
use crate::log_rate;

/// Longest wait before a consumer that closes asks a group again which failed.
const RETRY_CLOSING: Duration = Duration::from_secs(1);

/// How often the group is asked whether its positions are compared with Kafka's commits by now.
const RECONCILED_EVERY: Duration = Duration::from_millis(50);

/// Longest wait for work in the group; the heartbeat comes sooner.
const WORK_WAIT: Duration = Duration::from_secs(30);

/// Least time between two looks at the deadlines while an exchange is under way.
const TICK_LEAST: Duration = Duration::from_millis(100);

/// Exchanges until the consumer is closed and the group was told everything.
pub(super) async fn run(shared: Arc<Shared>) {
    let _alarm = Alarm::new(&shared);
    let mut outage = Outage::new();
    let mut last_learned = Instant::now();
    let mut lives = shared.coordinator.lives();
    shared.with(|state| state.life = lives);
    let mut clearing: Option<JoinHandle<()>> = None;
    let mut recovery = Recovery::default();
    loop {
        recovery.after_loss(&shared, &mut lives);
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
                        serves_again(&shared, &mut outage);
                        shared.with(|state| state.answered(reply, sent, Instant::now()));
                        continue;
                    }
                    Err(error) if error.is_final() => {
                        shared.with(|state| state.refused(error.to_string()));
                        None
                    }
                    Err(GroupError::Reconcile) if phase == Phase::Open => {
                        // It says itself what becomes of it.
                        recovery.reconcile(&shared);
                        Some(Instant::now() + super::jitter(RECONCILED_EVERY))
                    }
                    // One that closes needs no units, and so nobody to compare anything.
                    Err(GroupError::Reconcile) if shared.with(|state| state.want_nothing()) => continue,
                    Err(error) => {
                        if shared.with(|state| state.closing_for(now)) > shared.conf.lease {
                            // Everybody let go of us long ago, and what we held is free by itself.
                            end(&shared);
                            return;
                        }
                        Some(Instant::now() + failed(&shared, &mut outage, &error))
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

/// The group does not serve us. Returns how long to wait before it is asked again.
fn failed(shared: &Shared, outage: &mut Outage, error: &GroupError) -> Duration {
    let wait = outage.failed(error, Instant::now());
    let group = shared.group();
    if let Some(more) = log_rate::due(format_args!("exchange {group} {error}")) {
        outage.logged();
        let when = if error.is_refusal() { "ever more rarely, at last every 30 s" } else { "every second" };
        tracing::warn!(
            "group \"{group}\" does not serve this consumer: {error}. Its readers wait, and it is asked again {when}{more}"
        );
    }
    wait
}

fn serves_again(shared: &Shared, outage: &mut Outage) {
    if let Some(lasted) = outage.over(Instant::now()) {
        tracing::info!(
            "group \"{}\" serves this consumer again, after {:.1} s",
            shared.group(),
            lasted.as_secs_f64()
        );
    }
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
        return rest(shared, at).await;
    }
    let idle = shared.with(|state| state.talk.is_dry() && state.wanted(Instant::now()) > 0);
    tokio::select! {
        () = shared.exchange_kick.notified() => {}
        () = tokio::time::sleep_until(next.into()) => {}
        () = shared.until_over() => {}
        () = work(shared), if idle => shared.with(|state| state.talk.work_appeared()),
    }
}

/// Waits until `at`, or for a second when the consumer closes, and looks after deadlines meanwhile: leases end by our own clock.
async fn rest(shared: &Shared, mut at: Instant) {
    let mut now = Instant::now();
    while now < at {
        let (next, closing) = shared.with(|state| (state.tick(now), state.phase != Phase::Open));
        if closing {
            at = at.min(now + RETRY_CLOSING);
        }
        let look = next.max(now + TICK_LEAST).min(now + RETRY_CLOSING);
        tokio::select! {
            () = tokio::time::sleep_until(look.min(at).into()) => {}
            () = shared.until_over() => return,
        }
        now = Instant::now();
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
