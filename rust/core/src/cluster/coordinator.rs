//! A group's coordinator: the broker that keeps its offsets. Who it is is asked for, remembered, and asked for again when it says
//! that it is not the one, or does not answer.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::commit_error::CommitError;
use super::error::TopicError;
use super::race::race;
use super::{Cluster, Purpose};
use crate::net::{BackOff, CallError};
use crate::wire::messages::{FindCoordinatorRequest, FindCoordinatorResponse};
use crate::wire::{ErrorCode, Operation, Request, Treatment};

/// Pause between two tries.
const TRY_AGAIN: BackOff = BackOff::new(Duration::from_millis(50), Duration::from_secs(1));

/// A coordinator that has not answered after this long may not be the coordinator any more.
const SILENT_AFTER: Duration = Duration::from_secs(1);

/// Coordinators remembered. A consumer has one group.
const GROUPS_MAX: usize = 1024;

/// Brokers asked in one try who the coordinator is, before the bootstrap brokers are.
const NODES_A_TRY: usize = 3;

/// A broker that has not said who the coordinator is after this long is not waited for alone.
const STAGGER: Duration = Duration::from_secs(1);

/// Which broker coordinates a group, as far as is known.
#[derive(Debug, Default)]
pub(super) struct Coordinators(Mutex<HashMap<Arc<str>, i32>>);

impl Coordinators {
    pub(super) fn of(&self, group: &str) -> Option<i32> {
        self.0.lock().get(group).copied()
    }

    fn learn(&self, group: &Arc<str>, node: i32) {
        let mut known = self.0.lock();
        if known.len() >= GROUPS_MAX {
            known.clear();
        }
        known.insert(group.clone(), node);
    }

    fn forget(&self, group: &str) {
        self.0.lock().remove(group);
    }
}

/// One conversation with a group's coordinator, whoever that is.
pub(super) struct Talk<'a> {
    cluster: &'a Cluster,
    pub(super) group: Arc<str>,
    deadline: Instant,
    within: Duration,
    pause: BackOff,
    /// Why the last try that ended failed.
    before: Option<Arc<str>>,
}

impl<'a> Talk<'a> {
    pub(super) fn new(cluster: &'a Cluster, group: &str, within: Duration) -> Self {
        let deadline = Instant::now() + within;
        Self { cluster, group: group.into(), deadline, within, pause: TRY_AGAIN, before: None }
    }

    /// Asks the coordinator until somebody answers, and says who did.
    pub(super) async fn ask<R: Request>(
        &mut self,
        request: &R,
    ) -> Result<(Arc<str>, R::Response), CommitError> {
        loop {
            let Some(node) = self.cluster.inner().coordinators.of(&self.group) else {
                self.find().await?;
                continue;
            };
            let broker = self.cluster.name_of(node);
            let timeout = self.cluster.inner().request_timeout;
            let called = self.cluster.call(node, Purpose::Group, request, timeout);
            // Our time may be shorter than what makes a broker count as dead.
            let called = std::pin::pin!(timeout_at(self.deadline, called));
            let Some(outcome) = self.unless_moved(node, called).await else { continue };
            let why: Arc<str> = match outcome {
                Ok(Ok(answer)) => return Ok((broker, answer)),
                Ok(Err(CallError::Closed)) => return Err(CommitError::Closed),
                Ok(Err(error @ CallError::Unsupported { .. })) => {
                    return Err(CommitError::Unsupported { group: self.group.clone(), error });
                }
                Ok(Err(error)) => {
                    if let CallError::UnknownNode { .. } = error {
                        self.learn_brokers().await?;
                    }
                    error.to_string().into()
                }
                Err(_) => self.out_of_time(&format!("{broker} did not answer {:?}", R::KEY)),
            };
            self.cluster.inner().coordinators.forget(&self.group);
            self.again(&why).await?;
        }
    }

    /// What `called` comes to, or `None` when another broker is the coordinator by now: one that is silent for a while may have
    /// been replaced, and it does not say so.
    async fn unless_moved<T>(
        &self,
        node: i32,
        mut called: std::pin::Pin<&mut impl Future<Output = T>>,
    ) -> Option<T> {
        loop {
            tokio::select! {
                biased;
                outcome = &mut called => return Some(outcome),
                () = sleep(SILENT_AFTER) => {}
            }
            let found = tokio::select! {
                biased;
                outcome = &mut called => return Some(outcome),
                found = self.ask_for_coordinator() => found,
            };
            if let Ok((_, answer)) = found
                && answer.error_code == 0
                && answer.node_id != node
            {
                self.cluster.inner().coordinators.learn(&self.group, answer.node_id);
                return None;
            }
        }
    }

    /// Asks who the coordinator is, once, and waits if nobody knows.
    async fn find(&mut self) -> Result<(), CommitError> {
        let why: Arc<str> = match timeout_at(self.deadline, self.ask_for_coordinator()).await {
            Ok(Ok((_, answer))) if answer.error_code == 0 => {
                self.cluster.inner().coordinators.learn(&self.group, answer.node_id);
                return Ok(());
            }
            Ok(Ok((broker, answer))) => {
                let code = ErrorCode(answer.error_code);
                let code = self.judge(Operation::FindCoordinator, &broker, code, None)?;
                format!("{broker} names no coordinator: {code}").into()
            }
            Ok(Err(CallError::Closed)) => return Err(CommitError::Closed),
            Ok(Err(error @ CallError::Unsupported { .. })) => {
                return Err(CommitError::Unsupported { group: self.group.clone(), error });
            }
            Ok(Err(error)) => error.to_string().into(),
            Err(_) => self.out_of_time("no broker said who the coordinator is"),
        };
        self.again(&why).await
    }

    /// Asks brokers, the next one when one does not answer soon: the first answer counts.
    async fn ask_for_coordinator(&self) -> Result<(Arc<str>, FindCoordinatorResponse), CallError> {
        let inner = self.cluster.inner();
        if self.cluster.is_closed() {
            return Err(CallError::Closed);
        }
        let request = FindCoordinatorRequest { key: self.group.clone(), ..Default::default() };
        let request = Arc::new(request);
        let nodes = inner.pool.candidates(Purpose::Control, NODES_A_TRY);
        let asked = nodes.iter().map(|node| {
            let (node, request, timeout) = (node.clone(), request.clone(), inner.request_timeout);
            async move {
                let connection = node.connection(Purpose::Control).await?;
                let answer =
                    connection.call(&*request, timeout).await.inspect_err(|_| node.note_trouble())?;
                Ok((Arc::from(node.address.to_string()), answer))
            }
        });
        let raced = race(asked.collect(), STAGGER, |i| nodes[i].note_trouble()).await;
        // The last error is of a bootstrap broker, whose address the user knows.
        raced.map_err(|mut errors: Vec<CallError>| errors.pop().unwrap_or(CallError::Closed))
    }

    /// The coordinator is a broker that came after the last metadata.
    async fn learn_brokers(&self) -> Result<(), CommitError> {
        let left = self.deadline.saturating_duration_since(Instant::now());
        match self.cluster.refresh(&[], left).await {
            Err(TopicError::Closed) => Err(CommitError::Closed),
            // Without an answer the next try says why.
            _ => Ok(()),
        }
    }

    /// The coordinator, host:port, as far as is known.
    pub(super) fn broker(&self) -> Arc<str> {
        let node = self.cluster.inner().coordinators.of(&self.group);
        node.map_or_else(|| "the coordinator".into(), |node| self.cluster.name_of(node))
    }

    /// It answered to the point: the next pause is a short one again.
    pub(super) fn went_well(&mut self) {
        self.pause.reset();
        self.before = None;
    }

    /// The last try may have been a short one: what the one before failed with says more.
    fn out_of_time(&self, why: &str) -> Arc<str> {
        self.before
            .as_ref()
            .map_or_else(|| why.into(), |before| format!("{why}; before that: {before}").into())
    }

    /// Waits before the next try, if there is time for one.
    pub(super) async fn again(&mut self, why: &Arc<str>) -> Result<(), CommitError> {
        let again = Instant::now() + self.pause.fail();
        self.before = Some(why.clone());
        if again >= self.deadline {
            let (group, within, error) = (self.group.clone(), self.within, why.clone());
            return Err(CommitError::Timeout { group, within, error });
        }
        sleep_until(again).await;
        Ok(())
    }

    /// Gives the code back when the same request may succeed later. `at`: the topic and the partition it was said of.
    pub(super) fn judge(
        &self,
        operation: Operation,
        broker: &Arc<str>,
        code: ErrorCode,
        at: Option<(&Arc<str>, i32)>,
    ) -> Result<ErrorCode, CommitError> {
        match code.treatment(operation) {
            // While a coordinator loads it is the one, and so it is when it finds a request too large.
            Treatment::Retry => {}
            Treatment::Split if !code.retriable() => {}
            // That a partition is unknown is an answer; that all of a request is, none.
            Treatment::Done | Treatment::Rediscover | Treatment::Split => {
                self.cluster.inner().coordinators.forget(&self.group)
            }
            _ => {
                let at = at.map(|(topic, partition)| (topic.clone(), partition));
                return Err(CommitError::of(self.group.clone(), broker.clone(), code, at));
            }
        }
        Ok(code)
    }
}
