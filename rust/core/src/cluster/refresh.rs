//! The one task that asks for metadata.
//!
//! Whoever wants metadata leaves a wish; the task gathers all wishes into one request, one at a time. A wish somebody
//! waits for is fulfilled at once. A wish in passing (`request_refresh`: a leader has moved) waits for the back-off,
//! which doubles from 50 ms to 1 s as long as the answers bring nothing new, and rides along with whatever request
//! goes first. Topics that may be created and topics that must not are asked for in separate requests, because the
//! permission is the request's. Everything known is asked for again every five minutes.
//!
//! A failed request is tried again, with back-off, for as long as the cluster handle lives: wishes stay, those who
//! wait have their own deadlines. Each try asks up to three known brokers, then the bootstrap brokers.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, oneshot};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::meta::TopicCodes;
use super::race::race;
use super::{Inner, Purpose};
use crate::net::{BackOff, CallError};
use crate::wire::messages::{MetadataRequest, MetadataRequestTopic};
use crate::wire::{ErrorCode, Operation, Treatment};

/// How old metadata may become.
const AGE_MAX: Duration = Duration::from_secs(300);

/// Known brokers asked in one try before the bootstrap brokers are.
const NODES_A_TRY: usize = 3;

/// A broker that has not answered after this long is not waited for alone.
const STAGGER: Duration = Duration::from_secs(1);

/// Longest wait for the answer of one broker.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// After this long without a wish in passing the next one need not wait.
const QUIET_MAX: Duration = Duration::from_secs(5);

/// The wishes, and what wakes the task.
#[derive(Debug, Default)]
pub(super) struct Wishes {
    state: Mutex<State>,
    wake: Notify,
    stop: Notify,
}

#[derive(Debug, Default)]
struct State {
    /// Topics to be asked for in passing; bounded by the topics known.
    passing: BTreeSet<Arc<str>>,
    /// Those somebody waits for; bounded by the callers.
    awaited: Vec<Awaited>,
    /// Why the last try failed; `None` after a success.
    error: Option<Arc<str>>,
    closed: bool,
}

#[derive(Debug)]
struct Awaited {
    names: Vec<Arc<str>>,
    create: bool,
    done: oneshot::Sender<Arc<TopicCodes>>,
}

/// Why a wish was not fulfilled.
#[derive(Debug)]
pub(super) enum WishError {
    Closed,
    /// With what the last try failed with.
    Timeout(Option<Arc<str>>),
}

impl Wishes {
    /// A wish in passing.
    pub(super) fn pass(&self, name: &Arc<str>) {
        let mut state = self.state.lock();
        if !state.closed && !state.passing.contains(name) {
            state.passing.insert(name.clone());
            drop(state);
            self.wake.notify_one();
        }
    }

    /// Asks for topics now and waits for the answer. An empty list asks for the brokers only.
    ///
    /// # Cancel safety
    /// The request may be made all the same.
    pub(super) async fn wait(
        &self,
        names: Vec<Arc<str>>,
        create: bool,
        deadline: Instant,
    ) -> Result<Arc<TopicCodes>, WishError> {
        let (done, answer) = oneshot::channel();
        {
            let mut state = self.state.lock();
            if state.closed {
                return Err(WishError::Closed);
            }
            state.awaited.push(Awaited { names, create, done });
        }
        self.wake.notify_one();
        match timeout_at(deadline, answer).await {
            Ok(Ok(codes)) => Ok(codes),
            Ok(Err(_)) => Err(WishError::Closed),
            Err(_) => Err(WishError::Timeout(self.state.lock().error.clone())),
        }
    }

    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.awaited.clear();
        state.passing.clear();
        drop(state);
        self.stop.notify_waiters();
    }
}

/// What one request is to ask.
struct Round {
    names: BTreeSet<Arc<str>>,
    create: bool,
    awaited: Vec<Awaited>,
    /// Names wished for in passing, to be put back if it fails.
    passing: BTreeSet<Arc<str>>,
}

impl State {
    /// The next request, if one is due.
    fn next(&mut self, passing_due: bool) -> Option<Round> {
        // A caller that has given up needs no answer.
        self.awaited.retain(|a| !a.done.is_closed());
        let create = self.awaited.first().map(|a| a.create);
        if create.is_none() && (!passing_due || self.passing.is_empty()) {
            return None;
        }
        let create = create.unwrap_or(false);
        let (awaited, others) =
            std::mem::take(&mut self.awaited).into_iter().partition(|a| a.create == create);
        self.awaited = others;
        // A topic somebody mentions in passing must not be created by that.
        let passing = if create { BTreeSet::new() } else { std::mem::take(&mut self.passing) };
        let mut round = Round { names: passing.clone(), create, awaited, passing };
        round.names.extend(round.awaited.iter().flat_map(|a| &a.names).cloned());
        Some(round)
    }

    fn put_back(&mut self, round: Round, error: &CallError) {
        self.error = Some(error.to_string().into());
        if !self.closed {
            self.passing.extend(round.passing);
            self.awaited.extend(round.awaited);
        }
    }
}

/// The task. It ends when the wishes are closed.
pub(super) async fn run(inner: Arc<Inner>) {
    let stop = inner.wishes.stop.notified();
    tokio::pin!(stop);
    // Registered before the first look at `closed`, so that an end in between is not missed.
    stop.as_mut().enable();
    if inner.wishes.state.lock().closed {
        return;
    }
    tokio::select! {
        biased;
        () = stop => {}
        () = fulfil(&inner) => {}
    }
}

/// Fulfils wishes for ever.
async fn fulfil(inner: &Arc<Inner>) {
    let wishes = &inner.wishes;
    let mut failing = BackOff::RECONNECT;
    let mut quiet = BackOff::RECONNECT;
    let mut passing_at = Instant::now();
    let mut stale_at = Instant::now() + AGE_MAX;
    loop {
        let now = Instant::now();
        if now >= stale_at {
            wishes.state.lock().passing.extend(inner.meta.read().names().cloned());
            stale_at = now + AGE_MAX;
        }
        let next = wishes.state.lock().next(now >= passing_at);
        let Some(round) = next else {
            let waits = !wishes.state.lock().passing.is_empty();
            let until = if waits { passing_at.min(stale_at) } else { stale_at };
            tokio::select! {
                () = wishes.wake.notified() => {}
                () = sleep_until(until) => {}
            }
            continue;
        };
        match ask(inner, &round).await {
            Ok((changed, codes)) => {
                failing.reset();
                if changed || now.saturating_duration_since(passing_at) > QUIET_MAX {
                    quiet.reset();
                }
                passing_at = Instant::now() + quiet.fail();
                wishes.state.lock().error = None;
                let codes = Arc::new(codes);
                for awaited in round.awaited {
                    // Whoever has given up meanwhile does not listen.
                    let _ = awaited.done.send(codes.clone());
                }
            }
            Err(error) => {
                wishes.state.lock().put_back(round, &error);
                // New wishes do not shorten the wait.
                sleep(failing.fail()).await;
            }
        }
    }
}

/// One request, to whoever answers first, whose answer is taken in.
async fn ask(inner: &Arc<Inner>, round: &Round) -> Result<(bool, TopicCodes), CallError> {
    let topic = |name: &Arc<str>| MetadataRequestTopic { name: Some(name.clone()), ..Default::default() };
    let request = Arc::new(MetadataRequest {
        topics: Some(round.names.iter().map(topic).collect()),
        allow_auto_topic_creation: round.create,
        ..Default::default()
    });
    let nodes = inner.pool.candidates(Purpose::Control, NODES_A_TRY);
    let timeout = inner.request_timeout.min(ANSWER_MAX);
    let asked = nodes.iter().map(|node| {
        let (node, request) = (node.clone(), request.clone());
        async move {
            let connection = node.connection(Purpose::Control).await?;
            let response = connection.call(&*request, timeout).await.inspect_err(|_| node.note_trouble())?;
            node.note_answer();
            Ok((node, response))
        }
    });
    match race(asked.collect(), STAGGER, |i| nodes[i].note_trouble()).await {
        Ok((_, response))
            if ErrorCode(response.error_code).treatment(Operation::Metadata) == Treatment::Rebootstrap =>
        {
            inner.forget_nodes();
            Err(CallError::Rebootstrap)
        }
        Ok((node, response)) => {
            let applied = inner.apply(&response, &node.address).map_err(CallError::Connect)?;
            if node.id.is_some() {
                inner.pool.leave_seeds();
            }
            Ok(applied)
        }
        // The last error is of a bootstrap broker, whose address the user knows.
        Err(mut errors) => Err(errors.pop().unwrap_or(CallError::Closed)),
    }
}
