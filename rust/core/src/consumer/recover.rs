//! What is done when Redis has lost the group, or when another Redis took over. It may have to wait for brokers, so it is done
//! beside the exchanges: the group goes on hearing of us, and a consumer that closes does not wait for it.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::mirror;
use super::shared::Shared;
use super::start;
use super::state::Phase;
use crate::log_rate;

/// Wait after a failed try, doubling with jitter.
const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MOST: Duration = Duration::from_secs(2);

/// What is under way. Dropping it ends it.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    restoring: Option<JoinHandle<()>>,
    reconciling: Option<JoinHandle<()>>,
}

impl Drop for Recovery {
    fn drop(&mut self) {
        self.restoring.iter().chain(&self.reconciling).for_each(JoinHandle::abort);
    }
}

impl Recovery {
    /// If the store lost the group, and it was made anew since `known`, the life that was seen last: partitions start where Kafka's
    /// commits say. Until their starts are fixed nothing that the group says of them is believed.
    pub(super) fn after_loss(&mut self, shared: &Arc<Shared>, known: &mut u64) {
        let lives = shared.coordinator.lives();
        if lives == *known {
            return;
        }
        *known = lives;
        if let Some(before) = self.restoring.take() {
            before.abort();
        }
        if shared.with(|state| state.phase != Phase::Open) {
            // It wants nothing more; what it says of its units is answered "gone".
            return;
        }
        shared.with(|state| {
            let topics = state.topics();
            topics.iter().for_each(|topic| state.forget_topic(topic));
        });
        self.restoring = Some(tokio::spawn(restore(Arc::clone(shared), lives)));
    }

    /// Holds what this server has against the commits in Kafka, unless that is being done.
    pub(super) fn reconcile(&mut self, shared: &Arc<Shared>) {
        if self.reconciling.as_ref().is_some_and(|task| !task.is_finished()) {
            return;
        }
        let shared = Arc::clone(shared);
        self.reconciling = Some(tokio::spawn(async move {
            if let Err(error) = mirror::reconcile(&shared).await {
                if let Some(more) = log_rate::due(format_args!("reconcile {} {error}", shared.group())) {
                    tracing::warn!("comparing positions with Kafka's commits: {error}{more}");
                }
                tokio::time::sleep(super::jitter(RETRY_FIRST)).await;
            }
        }));
    }
}

/// Fixes the starts of all topics anew, until it is done, the group is lost again or the consumer closes.
async fn restore(shared: Arc<Shared>, lives: u64) {
    let mut wait = RETRY_FIRST;
    while shared.coordinator.lives() == lives && shared.with(|state| state.phase) == Phase::Open {
        let topics = shared.with(|state| state.topics());
        match start::again(&shared, &topics).await {
            Ok(()) => {
                shared.with(|state| state.life = lives);
                shared.late_kick.notify_one();
                return;
            }
            Err(error) => {
                if let Some(more) = log_rate::due(format_args!("restore {} {error}", shared.group())) {
                    tracing::warn!(
                        "group \"{}\" was lost, and its positions are not restored yet: {error}{more}",
                        shared.group()
                    );
                }
                tokio::time::sleep(super::jitter(wait)).await;
                wait = RETRY_MOST.min(wait * 2);
            }
        }
    }
}
