//! The first contact: any bootstrap broker that knows its cluster, and a check that the brokers it names can be reached.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep, timeout_at};

use super::error::ConnectError;
use super::pool::Node;
use super::race::race;
use super::{Inner, Purpose};
use crate::net::{self, BackOff, CallError};
use crate::wire::messages::{MetadataRequest, MetadataResponse};
use crate::wire::{ErrorCode, Operation, Treatment};

/// The next bootstrap broker is asked when one has not answered for this long.
const STAGGER: Duration = Duration::from_millis(250);

/// Time beyond the limit for the tries under way to say what they waited for.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// Tries to reach an advertised broker: one may be just going down while another comes up.
const VERIFY_TRIES: u32 = 2;

/// Why a bootstrap broker was of no use.
enum Failure {
    Call(CallError),
    /// It answered, and named no broker. One that is still starting, or cut off from its cluster, knows nobody.
    Nobody(ErrorCode),
}

impl Failure {
    /// Why it could not be connected to, if that is why.
    const fn connect(&self) -> Option<&Arc<net::ConnectError>> {
        match self {
            Self::Call(CallError::Connect(error) | CallError::BackOff { error, .. }) => Some(error),
            _ => None,
        }
    }

    /// Whether asking again cannot help.
    fn is_definite(&self) -> bool {
        match self {
            Self::Call(CallError::Connect(error)) => error.is_definite(),
            Self::Call(_) => false,
            Self::Nobody(code) => code.treatment(Operation::Metadata) == Treatment::Fatal,
        }
    }

    /// Whether the user is not accepted, which no other broker will see otherwise.
    fn is_about_the_user(&self) -> bool {
        matches!(self, Self::Call(CallError::Connect(error)) if error.is_about_the_user())
    }
}

/// What each bootstrap broker failed with, in the order it came.
type Failures = Vec<(Arc<Node>, Failure)>;

/// Learns who is in the cluster, within `within` in all.
///
/// # Cancel safety
/// Dropping it drops what was begun.
pub(super) async fn bootstrap(inner: &Arc<Inner>, within: Duration) -> Result<(), ConnectError> {
    let deadline = Instant::now() + within;
    let mut wait = BackOff::RECONNECT;
    let mut errors = Failures::new();
    loop {
        match ask_seeds(inner, deadline).await {
            Ok((seed, response)) => {
                if let Err(error) = inner.apply(&response, &seed.address) {
                    // It is the first that is heard of, unless this client connected before.
                    return Err(ConnectError::Unusable(vec![error]));
                }
                return verify(inner, &seed, deadline).await;
            }
            // The time was over before anybody had something to say: what was said before stays.
            Err(e) if e.is_empty() => {}
            Err(e) => errors = e,
        }
        // A try shorter than that could only say that it was too short.
        let left = deadline.saturating_duration_since(Instant::now()).saturating_sub(LAST_WORDS);
        let over = left.is_zero();
        let unknown = errors.iter().any(|(_, e)| e.is_about_the_user());
        if over || unknown || (!errors.is_empty() && errors.iter().all(|(_, e)| e.is_definite())) {
            return Err(no_answer(errors, over.then_some(within)));
        }
        sleep(wait.fail().min(left)).await;
    }
}

/// The metadata of the first bootstrap broker that names brokers, and which that was. One that knows nobody must not keep the
/// others from being asked.
async fn ask_seeds(inner: &Arc<Inner>, deadline: Instant) -> Result<(Arc<Node>, MetadataResponse), Failures> {
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
                Ok(response) if response.brokers.is_empty() => {
                    Err((seed, Failure::Nobody(ErrorCode(response.error_code))))
                }
                Ok(response) => Ok((seed, response)),
                Err(e) => Err((seed, Failure::Call(e))),
            }
        }
    });
    match timeout_at(deadline + LAST_WORDS, race(asked.collect(), STAGGER, |_| {})).await {
        Ok(outcome) => outcome,
        // Every try ends by the deadline; one that did not has nothing to say.
        Err(_) => Err(Vec::new()),
    }
}

/// What is said of them. `over`: the time there was, when waiting was all that could be done.
fn no_answer(mut errors: Failures, over: Option<Duration>) -> ConnectError {
    // A broker that could be connected to says more than one that could not, unless that is about the user.
    let unknown = errors.iter().any(|(_, e)| e.is_about_the_user());
    if let Some(i) = errors.iter().position(|(_, e)| !unknown && e.connect().is_none()) {
        let (seed, failure) = errors.swap_remove(i);
        let broker = seed.address.clone();
        return match failure {
            Failure::Call(error) => ConnectError::NoMetadata { broker, error },
            Failure::Nobody(code) => ConnectError::Nobody { broker, code },
        };
    }
    let errors = errors.iter().filter_map(|(_, e)| e.connect().cloned()).collect();
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
