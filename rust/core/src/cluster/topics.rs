//! Topics by name: finding, waiting for leaders, creating.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::error::TopicError;
use super::meta::TopicMeta;
use super::name::check_topic_name;
use super::refresh::WishError;
use super::{Cluster, Purpose};
use crate::net::{BackOff, CallError};
use crate::wire::messages::{
    CreatableTopic, CreatableTopicResult, CreateTopicsRequest, CreateTopicsResponse,
};
use crate::wire::{ErrorCode, Operation, Request, Treatment};

/// How long a topic that may be being created is waited for: brokers say "unknown" until the creation is through,
/// and say the same when they do not create topics.
const CREATION_MAX: Duration = Duration::from_secs(5);

/// How long partitions without a leader hold up a topic that has others with one.
const LEADERS_MAX: Duration = Duration::from_secs(1);

/// Pause between two looks at a topic that is not ready.
const LOOK_AGAIN: BackOff = BackOff::new(Duration::from_millis(50), Duration::from_millis(500));

impl Cluster {
    /// The topic, known or asked for; brokers that create topics automatically are allowed to.
    ///
    /// Returns once every partition has a leader, or some partition has one and a second has passed. A name nobody
    /// accepts fails at once, a topic that does not exist after five seconds (creation takes a moment), everything
    /// else is tried until `timeout` is over.
    ///
    /// # Cancel safety
    /// The topic may be created all the same.
    pub async fn topic(&self, name: &str, timeout: Duration) -> Result<Arc<TopicMeta>, TopicError> {
        if let Some(meta) = self.cached_topic(name).filter(|meta| meta.has_a_leader()) {
            return Ok(meta);
        }
        check_topic_name(name)?;
        let name: Arc<str> = name.into();
        let begin = Instant::now();
        let deadline = begin + timeout;
        let mut pause = LOOK_AGAIN;
        let mut before = None;
        loop {
            let code = self.ask(&name, true, deadline, timeout, before).await?;
            before = Some(code);
            let unknown = is_unknown(code);
            let meta = self.cached_topic(&name);
            match check(&name, code)? {
                () if unknown => {}
                () => {
                    if let Some(meta) = meta
                        && (meta.has_all_leaders() || (meta.has_a_leader() && begin.elapsed() >= LEADERS_MAX))
                    {
                        return Ok(meta);
                    }
                }
            }
            let again = Instant::now() + pause.fail();
            if unknown && (again - begin > CREATION_MAX || again >= deadline) {
                return Err(TopicError::Unknown { topic: name });
            }
            if again >= deadline {
                return match self.cached_topic(&name) {
                    Some(meta) if meta.has_a_leader() => Ok(meta),
                    None if !code.is_ok() => {
                        let error = Some(code.to_string().into());
                        Err(TopicError::Timeout { topic: name, within: timeout, error })
                    }
                    _ => Err(TopicError::NoLeader { topic: name, within: timeout }),
                };
            }
            sleep_until(again).await;
        }
    }

    /// The topic if it exists, leaders or not; it is never created by this. `None` is answered after a broker has said
    /// so twice, for one that has just started may not know better, or once when the time is over.
    pub async fn topic_if_exists(
        &self,
        name: &str,
        timeout: Duration,
    ) -> Result<Option<Arc<TopicMeta>>, TopicError> {
        if let Some(meta) = self.cached_topic(name) {
            return Ok(Some(meta));
        }
        check_topic_name(name)?;
        let name: Arc<str> = name.into();
        let deadline = Instant::now() + timeout;
        let mut pause = LOOK_AGAIN;
        let mut unknown = 0;
        let mut before = None;
        loop {
            let code = match self.ask(&name, false, deadline, timeout, before).await {
                // A broker has said so, and nobody answers the second look in time.
                Err(TopicError::Unknown { .. }) => return Ok(None),
                asked => asked?,
            };
            before = Some(code);
            check(&name, code)?;
            if let Some(meta) = self.cached_topic(&name) {
                return Ok(Some(meta));
            }
            unknown += u32::from(is_unknown(code));
            let again = Instant::now() + pause.fail();
            if unknown >= 2 || (unknown > 0 && again >= deadline) {
                return Ok(None);
            }
            if again >= deadline {
                let error = Some(code.to_string().into());
                return Err(TopicError::Timeout { topic: name, within: timeout, error });
            }
            sleep_until(again).await;
        }
    }

    /// Asks for topics now, whatever is known, and waits for the answer. Topics that do not exist are no error here.
    pub async fn refresh(&self, names: &[Arc<str>], timeout: Duration) -> Result<(), TopicError> {
        let asked = self.inner().wishes.wait(names.to_vec(), false, Instant::now() + timeout).await;
        let topic = || names.first().cloned().unwrap_or_else(|| "".into());
        asked.map(drop).map_err(|e| wish_error(e, topic(), timeout, None))
    }

    /// What a broker says about a topic now. `before`: what was said the last time.
    async fn ask(
        &self,
        name: &Arc<str>,
        create: bool,
        deadline: Instant,
        timeout: Duration,
        before: Option<ErrorCode>,
    ) -> Result<ErrorCode, TopicError> {
        match self.inner().wishes.wait(vec![name.clone()], create, deadline).await {
            Ok(codes) => Ok(codes.get(name).copied().unwrap_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)),
            Err(e) => Err(wish_error(e, name.clone(), timeout, before)),
        }
    }

    /// Creates a topic; `partitions` and `replication` may be -1, the broker's default (Kafka 2.4 and newer).
    ///
    /// Asks the controller (a KRaft broker forwards). [`TopicError::Exists`] when it is there already, unless an earlier
    /// try of this call may have created it. The topic may need a moment until every broker knows it.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        replication: i16,
        timeout: Duration,
    ) -> Result<(), TopicError> {
        check_topic_name(name)?;
        let name: Arc<str> = name.into();
        let deadline = Instant::now() + timeout;
        let mut pause = LOOK_AGAIN;
        let mut maybe_created = false;
        let mut before: Option<Arc<str>> = None;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let request = CreateTopicsRequest {
                topics: vec![CreatableTopic {
                    name: name.clone(),
                    num_partitions: partitions,
                    replication_factor: replication,
                    ..Default::default()
                }],
                timeout_ms: left.as_millis().try_into().unwrap_or(i32::MAX),
                validate_only: false,
            };
            let mut throttle = Duration::ZERO;
            let error: Arc<str> = match self.call_controller(&request, deadline).await {
                Ok(response) => {
                    // Of a quota for creations (KIP-599): sooner it only refuses again.
                    throttle = Duration::from_millis(response.throttle_time_ms.try_into().unwrap_or(0));
                    let result = response.topics.into_iter().find(|t| t.name == name);
                    match creation(&name, result, &mut maybe_created)? {
                        None => return Ok(()),
                        Some(why) => why,
                    }
                }
                Err(CallError::Closed) => return Err(TopicError::Closed),
                Err(error @ CallError::Unsupported { .. }) => {
                    return Err(TopicError::Unsupported { topic: name, error });
                }
                Err(e) => {
                    maybe_created |= e.possibly_written();
                    // The last try may have been a short one: what the one before failed with says more.
                    match &before {
                        Some(before) if Instant::now() >= deadline => {
                            format!("{e}; before that: {before}").into()
                        }
                        _ => e.to_string().into(),
                    }
                }
            };
            let again = Instant::now() + pause.fail().max(throttle);
            if again >= deadline {
                return Err(TopicError::NotCreated { topic: name, within: timeout, error });
            }
            before = Some(error);
            sleep_until(again).await;
            // The controller may be another one now; without an answer the loop goes on with what is known.
            let _ = self.inner().wishes.wait(Vec::new(), false, deadline).await;
        }
    }

    /// A call to the controller, or to any broker while none is known.
    async fn call_controller(
        &self,
        request: &CreateTopicsRequest,
        deadline: Instant,
    ) -> Result<CreateTopicsResponse, CallError> {
        let controller = self.inner().meta.read().controller;
        let (after, timeout) =
            (deadline.saturating_duration_since(Instant::now()), self.inner().request_timeout);
        let called = async {
            match controller {
                Some(node) => self.call(node, Purpose::Control, request, timeout).await,
                None => self.call_any(Purpose::Control, request, timeout).await,
            }
        };
        // Our time may be shorter than what makes a broker count as dead, and others have requests on the connection.
        timeout_at(deadline, called).await.unwrap_or_else(|_| {
            let broker = controller.map_or_else(|| "no broker".into(), |node| self.name_of(node));
            Err(CallError::Timeout { api: CreateTopicsRequest::KEY, broker, after, possibly_written: true })
        })
    }
}

/// Whether the topic was created (`None`), or why to try again.
fn creation(
    name: &Arc<str>,
    result: Option<CreatableTopicResult>,
    maybe_created: &mut bool,
) -> Result<Option<Arc<str>>, TopicError> {
    let topic = name.clone();
    let Some(result) = result else {
        *maybe_created = true;
        return Ok(Some("the broker did not say what became of it".into()));
    };
    let code = ErrorCode(result.error_code);
    match code.treatment(Operation::CreateTopics) {
        Treatment::Done => Ok(None),
        Treatment::DoneIfTried if *maybe_created => Ok(None),
        Treatment::DoneIfTried => Err(TopicError::Exists { topic }),
        Treatment::Refresh => {
            *maybe_created |= matches!(code, ErrorCode::REQUEST_TIMED_OUT | ErrorCode::UNKNOWN_SERVER_ERROR);
            Ok(Some(code.to_string().into()))
        }
        _ => Err(TopicError::Refused { topic, code, message: result.error_message }),
    }
}

fn is_unknown(code: ErrorCode) -> bool {
    code.treatment(Operation::Metadata) == Treatment::Missing
}

/// An error that no waiting mends.
fn check(name: &Arc<str>, code: ErrorCode) -> Result<(), TopicError> {
    let topic = name.clone();
    match code.treatment(Operation::Metadata) {
        Treatment::Fatal if code == ErrorCode::TOPIC_AUTHORIZATION_FAILED => {
            Err(TopicError::NotAuthorized { topic })
        }
        Treatment::Fatal => Err(TopicError::Refused { topic, code, message: None }),
        _ => Ok(()),
    }
}

/// `before`: what a broker said before this look, which may have been a short one.
fn wish_error(error: WishError, topic: Arc<str>, within: Duration, before: Option<ErrorCode>) -> TopicError {
    match (error, before.filter(|code| !code.is_ok())) {
        (WishError::Closed, _) => TopicError::Closed,
        (WishError::Timeout(None), Some(code)) if is_unknown(code) => TopicError::Unknown { topic },
        (WishError::Timeout(None), Some(code)) => {
            TopicError::Timeout { topic, within, error: Some(code.to_string().into()) }
        }
        (WishError::Timeout(error), _) => TopicError::Timeout { topic, within, error },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_creation_that_nothing_is_said_of_is_in_doubt() {
        let (name, mut maybe_created) = (Arc::from("t"), false);
        let again = creation(&name, None, &mut maybe_created).unwrap();
        assert!(again.is_some() && maybe_created);
        let error_code = ErrorCode::TOPIC_ALREADY_EXISTS.0;
        let exists = || Some(CreatableTopicResult { error_code, ..Default::default() });
        assert_eq!(creation(&name, exists(), &mut maybe_created).unwrap(), None, "it was we");
        let error = creation(&name, exists(), &mut false).unwrap_err();
        assert!(matches!(error, TopicError::Exists { .. }), "{error}");
    }
}
