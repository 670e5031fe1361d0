//! Who the producer is to the brokers: a producer id (KIP-98), asked for once, in the background.
//!
//! It is worth having whatever `acks` is: a broker that knows producer, epoch and sequence drops a batch it
//! already has, so a retry after a lost answer duplicates nothing. A cluster that gives no id (too old, or not
//! authorized before 3.0, KIP-679) is served without; then a retry may duplicate, as it always could.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::partition_queue::{Identity, backoff};
use super::shared::{Shared, stopped};
use crate::cluster::Purpose;
use crate::config::Acks;
use crate::net::CallError;
use crate::wire::messages::InitProducerIdRequest;
use crate::wire::{ErrorCode, Operation, Treatment};

/// How long a broker may refuse for a reason that should pass before the producer goes on without an id.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is known of the producer's identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// It is being asked for; nothing is sent yet.
    Asking,
    /// There is none; batches go without sequences.
    Without,
    /// This.
    With(Identity),
}

impl Standing {
    pub(super) fn identity(self) -> Option<Identity> {
        match self {
            Self::With(identity) => Some(identity),
            Self::Asking | Self::Without => None,
        }
    }
}

/// Asks until there is an answer; ends with the producer.
pub(super) async fn run(shared: Arc<Shared>) {
    let mut stop = shared.stop.subscribe();
    let standing = tokio::select! {
        () = stopped(&mut stop) => return,
        standing = ask(&shared) => standing,
    };
    shared.no_identity_since_us.store(0, Relaxed);
    shared.identity.send_replace(standing);
}

async fn ask(shared: &Shared) -> Standing {
    if shared.settings.acks == Acks::None {
        // Nobody answers, so nothing is repeated, and a gap after a lost connection would only be refused.
        return Standing::Without;
    }
    let request = InitProducerIdRequest {
        transactional_id: None,
        transaction_timeout_ms: i32::MAX,
        producer_id: -1,
        producer_epoch: -1,
    };
    let mut failures = 0;
    let mut refused_since: Option<Instant> = None;
    loop {
        let answer =
            shared.cluster.call_any(Purpose::Control, &request, shared.settings.request_timeout).await;
        match answer {
            Ok(answer) => {
                let code = ErrorCode(answer.error_code);
                match code.treatment(Operation::InitProducerId) {
                    Treatment::Done => {
                        let (id, epoch) = (answer.producer_id, answer.producer_epoch);
                        return Standing::With(Identity { id, epoch });
                    }
                    Treatment::GoWithout => return without(&code),
                    _ => {
                        let since = *refused_since.get_or_insert_with(Instant::now);
                        if since.elapsed() > PATIENCE {
                            return without(&code);
                        }
                    }
                }
            }
            Err(error @ (CallError::Unsupported { .. } | CallError::Decode { .. })) => {
                return without(&error);
            }
            Err(error) => {
                shared
                    .no_identity_since_us
                    .compare_exchange(0, shared.time.us().max(1), Relaxed, Relaxed)
                    .ok();
                tracing::debug!(target: "kafkafast.producer", "no producer id yet: {error}");
            }
        }
        failures += 1;
        tokio::time::sleep(backoff(failures, super::noise())).await;
    }
}

fn without(reason: &dyn std::fmt::Display) -> Standing {
    tracing::info!(target: "kafkafast.producer",
        "The cluster gives no producer id ({reason}): a batch that is sent again may be written twice");
    Standing::Without
}
