//! A group that lives in this process, and the door through which consumers speak to any group.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, LazyLock};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::state::GroupState;
use super::types::{
    ConsumerId, Event, ExchangeReply, ExchangeRequest, GroupError, GroupSettings, Init, PartitionView,
    Publish, Published,
};

/// Embedded groups of one process. A group's positions outlive its consumers, so they are never freed while it runs.
const GROUPS: usize = 1024;

type Registry = Mutex<HashMap<(String, String), Arc<Embedded>>>;

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::default);

/// A group in this process. Two consumers of one process that name the same group on the same cluster share it, and its
/// positions survive them.
#[derive(Debug)]
pub struct Embedded {
    inner: Mutex<Inner>,
    started: Instant,
}

#[derive(Debug)]
struct Inner {
    state: GroupState,
    /// Members that found no work, in the order they came; bounded by the number of consumers of this process.
    idle: Vec<Idle>,
    tickets: u64,
}

#[derive(Debug)]
struct Idle {
    ticket: u64,
    topics: Vec<Arc<str>>,
    waker: Waker,
}

impl Embedded {
    /// The group of this name on this cluster, made if it is new. Fails when it is there with other settings.
    pub fn named(name: &str, cluster: &str, settings: GroupSettings) -> Result<Arc<Self>, GroupError> {
        let mut groups = REGISTRY.lock();
        let key = (cluster.to_owned(), name.to_owned());
        if let Some(group) = groups.get(&key) {
            let mut inner = group.inner.lock();
            if inner.state.settings() != &settings {
                // Nobody is in it: what the last ones agreed on binds nobody.
                if inner.state.members() > 0 {
                    inner.state.settings().agree(&settings)?;
                }
                inner.state.change_settings(settings);
            }
            drop(inner);
            return Ok(Arc::clone(group));
        }
        if groups.len() == GROUPS {
            return Err(GroupError::TooMany(GROUPS));
        }
        let group = Arc::new(Self::new(settings));
        groups.insert(key, Arc::clone(&group));
        Ok(group)
    }

    fn new(settings: GroupSettings) -> Self {
        let inner = Inner { state: GroupState::new(settings, 0), idle: Vec::new(), tickets: 0 };
        Self { inner: Mutex::new(inner), started: Instant::now() }
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// One step of the state machine; who waits for work that it brought is woken.
    fn step<R>(&self, act: impl FnOnce(&mut GroupState, u64) -> R) -> R {
        let now = self.now();
        let mut wake = Vec::new();
        let mut inner = self.inner.lock();
        let result = act(&mut inner.state, now);
        if !inner.idle.is_empty() {
            let Inner { state, idle, .. } = &mut *inner;
            // As many as there are units, the one that waits longest first; never the whole herd.
            let mut left = HashMap::new();
            idle.retain(|waiting| {
                let left = left
                    .entry(waiting.topics.clone())
                    .or_insert_with(|| state.claimable(now, &waiting.topics));
                if *left == 0 {
                    return true;
                }
                *left -= 1;
                wake.push(waiting.waker.clone());
                false
            });
        }
        drop(inner);
        wake.into_iter().for_each(Waker::wake);
        result
    }

    /// Waits until a unit of these topics can be claimed, or `most` is over. Dropping it forgets the waiting.
    async fn work(&self, topics: &[Arc<str>], most: Duration) -> bool {
        let mut ticket = Ticket { group: self, number: None };
        let until = Instant::now() + most;
        loop {
            let by_itself =
                self.inner.lock().state.next_event().map(|at| self.started + Duration::from_millis(at));
            let wake_at = by_itself.map_or(until, |at| at.min(until));
            let found = poll_fn(|cx| self.poll_work(&mut ticket, topics, cx.waker()));
            match tokio::time::timeout_at(wake_at.into(), found).await {
                Ok(()) => return true,
                Err(_) if Instant::now() >= until => return false,
                // A lease may have ended, or a unit is due.
                Err(_) => self.step(GroupState::tick),
            }
            if by_itself.is_some_and(|at| at <= Instant::now()) {
                // Something is due that is not ours (or in its grace): do not spin on it.
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }

    fn poll_work(&self, ticket: &mut Ticket<'_>, topics: &[Arc<str>], waker: &Waker) -> Poll<()> {
        let now = self.now();
        let mut inner = self.inner.lock();
        if inner.state.claimable(now, topics) > 0 {
            return Poll::Ready(());
        }
        let Inner { idle, tickets, .. } = &mut *inner;
        match idle.iter_mut().find(|waiting| Some(waiting.ticket) == ticket.number) {
            Some(waiting) => waiting.waker.clone_from(waker),
            None => {
                *tickets += 1;
                ticket.number = Some(*tickets);
                idle.push(Idle { ticket: *tickets, topics: topics.to_vec(), waker: waker.clone() });
            }
        }
        Poll::Pending
    }
}

/// A place in the line of those who wait; dropping it leaves the line.
struct Ticket<'a> {
    group: &'a Embedded,
    number: Option<u64>,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            let mut inner = self.group.inner.lock();
            let before = inner.idle.len();
            inner.idle.retain(|waiting| waiting.ticket != number);
            let was_woken = inner.idle.len() == before;
            drop(inner);
            if was_woken {
                // Its wake-up may have been for a unit that it will not take now: pass it on.
                self.group.step(|_, _| ());
            }
        }
    }
}

/// A group, wherever it lives. Each method is one atomic step of it.
///
/// Dropping a future may or may not have done the step; that is why requests can be repeated.
#[derive(Debug, Clone)]
pub enum Coordinator {
    /// In this process.
    Embedded(Arc<Embedded>),
}

impl Coordinator {
    /// See [`GroupState::exchange`].
    pub async fn exchange(&self, request: &ExchangeRequest) -> Result<ExchangeReply, GroupError> {
        let Self::Embedded(group) = self;
        Ok(group.step(|state, now| state.exchange(now, request)))
    }

    /// See [`GroupState::publish`].
    pub async fn publish(&self, facts: &[Publish]) -> Result<Vec<Published>, GroupError> {
        let Self::Embedded(group) = self;
        Ok(group.step(|state, _| state.publish(facts)))
    }

    /// See [`GroupState::init`].
    pub async fn init(&self, starts: &[Init]) -> Result<usize, GroupError> {
        let Self::Embedded(group) = self;
        Ok(group.step(|state, _| state.init(starts)))
    }

    /// See [`GroupState::seek`].
    pub async fn seek(
        &self,
        topic: &Arc<str>,
        partition: i32,
        generation: u64,
        offset: i64,
    ) -> Result<bool, GroupError> {
        let Self::Embedded(group) = self;
        Ok(group.step(|state, _| state.seek(topic, partition, generation, offset)))
    }

    /// See [`GroupState::tick`].
    pub async fn tick(&self) -> Result<(), GroupError> {
        let Self::Embedded(group) = self;
        group.step(GroupState::tick);
        Ok(())
    }

    /// See [`GroupState::leave`].
    pub async fn leave(&self, consumer: &ConsumerId) -> Result<(), GroupError> {
        let Self::Embedded(group) = self;
        group.step(|state, now| state.leave(now, consumer));
        Ok(())
    }

    /// See [`GroupState::partitions`].
    pub async fn partitions(&self, topics: &[Arc<str>]) -> Result<Vec<PartitionView>, GroupError> {
        let Self::Embedded(group) = self;
        Ok(group.step(|state, _| state.partitions(topics)))
    }

    /// Waits until a unit of these topics can be claimed (`true`), or `most` is over. Units there are wake as many waiting
    /// members. Cancel-safe: dropping it forgets the waiting, and passes a wake-up on that nobody will use.
    pub async fn work(&self, topics: &[Arc<str>], most: Duration) -> Result<bool, GroupError> {
        let Self::Embedded(group) = self;
        Ok(group.work(topics, most).await)
    }

    /// The events since anybody asked last.
    pub async fn events(&self) -> Result<Vec<Event>, GroupError> {
        let Self::Embedded(group) = self;
        Ok(group.step(|state, _| state.take_events()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::wire::Uuid;

    fn group() -> Coordinator {
        Coordinator::Embedded(Arc::new(Embedded::new(GroupSettings::of(&Config::default()))))
    }

    fn start(topic: &str) -> Init {
        let (topic_id, leader_epoch) = (Uuid::default(), 0);
        Init {
            topic: topic.into(),
            partition: 0,
            topic_id,
            leader_epoch,
            start: 0,
            high_watermark: 0,
            log_start: 0,
        }
    }

    fn known(topic: &str, high_watermark: i64) -> Publish {
        let (topic_id, leader_epoch) = (Uuid::default(), 0);
        Publish {
            topic: topic.into(),
            partition: 0,
            topic_id,
            leader_epoch,
            high_watermark,
            log_start: 0,
            epoch_end: None,
        }
    }

    #[tokio::test]
    async fn who_waits_is_woken_by_a_publish() {
        let group = group();
        group.init(&[start("t")]).await.unwrap();
        let waiting = group.clone();
        let woken =
            tokio::spawn(async move { waiting.work(&["t".into()], Duration::from_secs(20)).await.unwrap() });
        tokio::time::sleep(Duration::from_millis(20)).await;
        group.publish(&[known("other", 1), known("t", 1)]).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(5), woken).await.unwrap().unwrap());
    }

    #[tokio::test]
    async fn waiting_ends_and_nothing_stays_behind() {
        let group = group();
        group.init(&[start("t")]).await.unwrap();
        assert!(!group.work(&["t".into()], Duration::from_millis(20)).await.unwrap());
        let Coordinator::Embedded(inner) = &group;
        assert!(inner.inner.lock().idle.is_empty());
    }

    #[tokio::test]
    async fn a_released_unit_wakes_who_waits() {
        let group = group();
        group.init(&[start("t")]).await.unwrap();
        group.publish(&[known("t", 1)]).await.unwrap();
        let mut request = ExchangeRequest::new("a".into(), 1, vec!["t".into()]);
        request.want = 1;
        assert_eq!(group.exchange(&request).await.unwrap().units.len(), 1);
        let waiting = group.clone();
        let woken =
            tokio::spawn(async move { waiting.work(&["t".into()], Duration::from_secs(20)).await.unwrap() });
        tokio::time::sleep(Duration::from_millis(20)).await;
        group.leave(&"a".into()).await.unwrap();
        assert!(tokio::time::timeout(Duration::from_secs(5), woken).await.unwrap().unwrap());
    }

    #[test]
    fn one_name_is_one_group_and_members_agree() {
        let settings = GroupSettings::of(&Config::default());
        let name = format!("g-{}", std::process::id());
        let group = Embedded::named(&name, "c", settings.clone()).unwrap();
        assert!(Arc::ptr_eq(&group, &Embedded::named(&name, "c", settings.clone()).unwrap()));
        assert!(!Arc::ptr_eq(&group, &Embedded::named(&name, "d", settings.clone()).unwrap()));
        group.step(|state, now| state.exchange(now, &ExchangeRequest::new("a".into(), 1, vec![])));
        let other = GroupSettings { consume_step: 7, ..settings };
        let error = Embedded::named(&name, "c", other.clone()).unwrap_err().to_string();
        assert_eq!(
            error,
            "this consumer has consume-step=7, its group has consume-step=100000; all members must agree"
        );
        group.step(|state, now| state.leave(now, &"a".into()));
        Embedded::named(&name, "c", other).unwrap();
    }
}
