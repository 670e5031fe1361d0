//! The first contact: any bootstrap broker that answers, and a check that the brokers it names can be reached.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::error::ConnectError;
use super::pool::Node;
use super::race::race;
use super::{Inner, Purpose};
use crate::net::{BackOff, CallError};
use crate::wire::messages::{MetadataRequest, MetadataResponse};
use crate::wire::{ErrorCode, Operation, Treatment};

/// The next bootstrap broker is asked when one has not answered for this long.
const STAGGER: Duration = Duration::from_millis(250);

/// Time beyond the limit for the tries under way to say what they waited for.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// Tries to reach an advertised broker: one may be just going down while another comes up.
const VERIFY_TRIES: u32 = 2;

/// Learns who is in the cluster, within `within` in all.
///
/// # Cancel safety
/// Dropping it drops what was begun.
pub(super) async fn bootstrap(inner: &Arc<Inner>, within: Duration) -> Result<(), ConnectError> {
    let deadline = Instant::now() + within;
    let mut wait = BackOff::RECONNECT;
    let mut errors: Vec<(Arc<Node>, CallError)>;
    let mut nobody = None;
    loop {
        match ask_seeds(inner, deadline).await {
            Ok((seed, response)) if !response.brokers.is_empty() => {
                inner.apply(&response);
                return verify(inner, &seed, deadline).await;
            }
            // A broker that is still starting knows nobody.
            Ok((seed, response)) => {
                errors = Vec::new();
                let (broker, code) = (seed.address.clone(), ErrorCode(response.error_code));
                let error = ConnectError::Nobody { broker, code };
                if code.treatment(Operation::Metadata) == Treatment::Fatal {
                    return Err(error);
                }
                nobody = Some(error);
            }
            Err(e) => errors = e,
        }
        let hopeless = |(_, e): &(_, CallError)| matches!(e, CallError::Connect(e) if e.is_definite());
        // A try shorter than that could only say that it was too short.
        let left = deadline.saturating_duration_since(Instant::now()).saturating_sub(LAST_WORDS);
        let over = left.is_zero();
        let unknown = errors.iter().any(|(_, e)| matches!(e, CallError::Connect(e) if e.is_about_the_user()));
        if over || unknown || (!errors.is_empty() && errors.iter().all(hopeless)) {
            return Err(match nobody {
                Some(error) if errors.is_empty() => error,
                _ => no_answer(errors, over.then_some(within)),
            });
        }
        sleep(wait.fail().min(left)).await;
    }
}

/// The metadata of the first bootstrap broker that answers, and which that was.
async fn ask_seeds(
    inner: &Arc<Inner>,
    deadline: Instant,
) -> Result<(Arc<Node>, MetadataResponse), Vec<(Arc<Node>, CallError)>> {
    let asked = inner.pool.seeds.iter().map(|seed| {
        let seed = seed.clone();
        async move {
            let asked = async {
                let budget = deadline.saturating_duration_since(Instant::now());
                let connection = match seed.live(Purpose::Control) {
                    Some(connection) => connection,
                    None => seed.connect_now(Purpose::Control, budget).await?,
                };
                let request = MetadataRequest {
                    topics: Some(Vec::new()),
                    allow_auto_topic_creation: false,
                    ..Default::default()
                };
                connection.call(&request, deadline.saturating_duration_since(Instant::now())).await
            };
            match asked.await {
                Ok(response) => Ok((seed, response)),
                Err(e) => Err((seed, e)),
            }
        }
    });
    match timeout_at(deadline + LAST_WORDS, race(asked.collect(), STAGGER, |_| {})).await {
        Ok(outcome) => outcome,
        // Every try ends by the deadline; one that did not has nothing to say.
        Err(_) => Err(Vec::new()),
    }
}

/// The errors in the order of the settings. `over`: the time there was, when waiting was all that could be done.
fn no_answer(mut errors: Vec<(Arc<Node>, CallError)>, over: Option<Duration>) -> ConnectError {
    // A broker that could be connected to says more than one that could not.
    let spoke = |(_, e): &(_, CallError)| !matches!(e, CallError::Connect(_) | CallError::BackOff { .. });
    if let Some(i) = errors.iter().position(spoke) {
        let (seed, error) = errors.swap_remove(i);
        return ConnectError::NoMetadata { broker: seed.address.clone(), error };
    }
    let errors = errors
        .into_iter()
        .filter_map(|(_, e)| match e {
            CallError::Connect(error) | CallError::BackOff { error, .. } => Some(error),
            _ => None,
        })
        .collect();
    match over {
        Some(within) => ConnectError::NoAnswer { within, errors },
        None => ConnectError::Unusable(errors),
    }
}

/// Makes sure that one of the brokers the cluster names can be reached under the name it gives.
async fn verify(inner: &Arc<Inner>, seed: &Node, deadline: Instant) -> Result<(), ConnectError> {
    if inner.pool.adopt(seed) {
        inner.pool.leave_seeds();
        return Ok(());
    }
    let mut failed = None;
    for _ in 0..VERIFY_TRIES {
        let tried = inner.pool.all_nodes().into_iter().map(|node| async move {
            let budget = deadline.saturating_duration_since(Instant::now());
            node.connect_now(Purpose::Control, budget).await.map(drop).map_err(|e| (node, e))
        });
        let raced = race(tried.collect(), STAGGER, |_| {});
        match timeout_at(deadline + LAST_WORDS, raced).await {
            Ok(Ok(())) => {
                inner.pool.leave_seeds();
                return Ok(());
            }
            Ok(Err(errors)) => failed = errors.into_iter().min_by_key(|(node, _)| node.id).or(failed),
            Err(_) => break,
        }
        if Instant::now() >= deadline {
            break;
        }
        sleep(LAST_WORDS).await;
    }
    let bootstrap = seed.address.clone();
    match failed {
        // It was reached; the two do not accept each other.
        Some((_, CallError::Connect(error))) if error.is_refusal() => {
            Err(ConnectError::Unusable(vec![error]))
        }
        Some((node, CallError::Connect(error))) => Err(ConnectError::Advertised {
            bootstrap,
            node: node.id.unwrap_or(-1),
            advertised: node.address.clone(),
            error,
        }),
        Some((_, error)) => Err(ConnectError::NoMetadata { broker: bootstrap, error }),
        None => Err(ConnectError::NoMetadata { broker: bootstrap, error: CallError::Closed }),
    }
}
