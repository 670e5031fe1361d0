//! A group that lives in this process.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::{Arc, LazyLock};
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::state::GroupState;
use super::types::{GroupError, GroupSettings};
use crate::log_rate;

/// Embedded groups of one process. A group's positions outlive its consumers: it goes by `delete`, or when a new one needs its
/// room and no consumer has it.
const GROUPS: usize = 1024;
/// How often what is not urgent is looked after, ms: members that died, topics that nobody reads.
const TICK: u64 = 1_000;

static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(|| Mutex::new(Registry::new(GROUPS)));

/// Where the group of this name is, or would be made: that of the cluster; else one of no cluster; and for whoever does not know the
/// cluster any of the name.
fn key_of(groups: &HashMap<(String, String), Arc<Embedded>>, name: &str, cluster: &str) -> (String, String) {
    let key = |cluster: &str| (cluster.to_owned(), name.to_owned());
    let there = [key(cluster), key("")].into_iter().find(|key| groups.contains_key(key));
    let any = || groups.keys().filter(|key| cluster.is_empty() && key.1 == name).min().cloned();
    there.or_else(any).unwrap_or_else(|| key(cluster))
}

/// A group in this process. Two consumers of one process that name the same group on the same cluster share it, and its
/// positions survive them. A process may have 1024; for one more, the one goes that no consumer has and that was unused for
/// longest, and its positions, which are nowhere else, with it.
#[derive(Debug)]
pub struct Embedded {
    inner: Mutex<Inner>,
    started: Instant,
}

#[derive(Debug)]
struct Inner {
    state: GroupState,
    /// Members that found no work, in the order they came; bounded by the number of waits of this process.
    idle: Vec<Idle>,
    tickets: u64,
    next_tick: u64,
    /// When somebody asked it last.
    used: Instant,
    deleted: bool,
}

#[derive(Debug)]
struct Idle {
    ticket: u64,
    topics: Vec<Arc<str>>,
    /// When its timer goes off.
    armed: u64,
    waker: Waker,
}

/// The groups of the process, or of a test.
#[derive(Debug)]
struct Registry {
    groups: HashMap<(String, String), Arc<Embedded>>,
    most: usize,
}

impl Registry {
    fn new(most: usize) -> Self {
        Self { groups: HashMap::new(), most }
    }

    fn named(
        &mut self,
        name: &str,
        cluster: &str,
        settings: GroupSettings,
    ) -> Result<Arc<Embedded>, GroupError> {
        let key = key_of(&self.groups, name, cluster);
        if let Some(group) = self.groups.remove(&key) {
            // Under the id that is named first.
            let of = if key.0.is_empty() { cluster } else { &key.0 };
            self.groups.insert((of.to_owned(), key.1), Arc::clone(&group));
            let mut inner = group.inner.lock();
            let entered = inner.state.enter(cluster);
            debug_assert_eq!(entered, Ok(()), "the key names the cluster");
            if inner.state.settings() != &settings {
                // Nobody is in it and nothing is leased: what the last ones agreed on binds nobody.
                if !inner.state.is_idle() {
                    inner.state.settings().agree(&settings)?;
                }
                inner.state.change_settings(settings);
            }
            drop(inner);
            return Ok(group);
        }
        self.make_room()?;
        let group = Embedded::new(settings);
        let entered = group.inner.lock().state.enter(cluster);
        debug_assert_eq!(entered, Ok(()), "a new group is of no cluster");
        let group = Arc::new(group);
        self.groups.insert(key, Arc::clone(&group));
        Ok(group)
    }

    /// At the limit, the group goes that was unused for longest: nobody but the registry has it, so nobody can come to use it
    /// while the registry is locked.
    fn make_room(&mut self) -> Result<(), GroupError> {
        if self.groups.len() < self.most {
            return Ok(());
        }
        let unused = self.groups.iter().filter(|(_, group)| Arc::strong_count(group) == 1);
        let oldest = unused.min_by_key(|(_, group)| group.used()).map(|(key, _)| key.clone());
        let key = oldest.ok_or(GroupError::TooMany(self.most))?;
        self.groups.remove(&key);
        if let Some(more) = log_rate::due("embedded groups make room") {
            tracing::info!(
                "{} embedded groups live in this process: \"{}\", which no consumer uses and which was unused for longest, makes \
                 room. A consumer that names it starts by its own settings{more}",
                self.most,
                key.1
            );
        }
        Ok(())
    }
}

impl Embedded {
    /// The group of this name on this Kafka cluster (its id; empty when its brokers name none: that matches any), made if it is new.
    /// Groups of one name on two clusters are two groups. Fails when it is there with other settings and somebody relies on those, and when it is new and a process's 1024 groups are all in use. When they are not, the one that was
    /// unused for longest goes.
    pub fn named(name: &str, cluster: &str, settings: GroupSettings) -> Result<Arc<Self>, GroupError> {
        REGISTRY.lock().named(name, cluster, settings)
    }

    /// Forgets all groups of this name, on whatever cluster. Their members get [`GroupError::Deleted`].
    pub fn forget(name: &str) {
        let of_name: Vec<Arc<Self>> = REGISTRY
            .lock()
            .groups
            .iter()
            .filter(|(key, _)| key.1 == name)
            .map(|(_, group)| Arc::clone(group))
            .collect();
        of_name.iter().for_each(Self::delete);
    }

    fn new(settings: GroupSettings) -> Self {
        let (state, started) = (GroupState::new(settings, 0), Instant::now());
        let inner =
            Inner { state, idle: Vec::new(), tickets: 0, next_tick: TICK, used: started, deleted: false };
        Self { inner: Mutex::new(inner), started }
    }

    /// When somebody asked it last.
    fn used(&self) -> Instant {
        self.inner.lock().used
    }

    fn now(&self) -> u64 {
        self.started.elapsed().as_millis() as u64
    }

    /// One step of the state machine; who waits for work that it brought is woken.
    pub(super) fn step<R>(&self, act: impl FnOnce(&mut GroupState, u64) -> R) -> Result<R, GroupError> {
        let mut inner = self.inner.lock();
        if inner.deleted {
            return Err(GroupError::Deleted);
        }
        // Under the lock, so that time never goes back from one step to the next.
        let now = self.now();
        inner.used = self.started + Duration::from_millis(now);
        if now >= inner.next_tick {
            inner.next_tick = now + TICK;
            inner.state.tick(now);
        }
        let result = act(&mut inner.state, now);
        let wake = inner.who_wakes(now);
        drop(inner);
        wake.into_iter().for_each(Waker::wake);
        Ok(result)
    }

    /// Forgets the group: its members get [`GroupError::Deleted`], the next consumer of this name starts a new one.
    pub(super) fn delete(self: &Arc<Self>) {
        REGISTRY.lock().groups.retain(|_, group| !Arc::ptr_eq(group, self));
        let mut inner = self.inner.lock();
        inner.deleted = true;
        inner.state = GroupState::new(inner.state.settings().clone(), 0);
        let idle = std::mem::take(&mut inner.idle);
        drop(inner);
        idle.into_iter().for_each(|waiting| waiting.waker.wake());
    }

    /// Waits until a unit of these topics can be claimed, or `most` is over. Dropping it forgets the waiting.
    pub(super) async fn work(&self, topics: &[Arc<str>], most: Duration) -> Result<bool, GroupError> {
        let mut ticket = Ticket { group: self, number: None };
        let until = Instant::now() + most;
        loop {
            let next = self.inner.lock().state.next_event(self.now(), topics);
            let at = (self.started + Duration::from_millis(next)).min(until);
            let found = poll_fn(|cx| self.poll_work(&mut ticket, topics, next, cx.waker()));
            match tokio::time::timeout_at(at.into(), found).await {
                Ok(Ok(Found::Work)) => {
                    // The wake-up has arrived: it is for the caller to claim now. Leaving the line passes nothing on, or
                    // the whole line would wake before the first of it has claimed.
                    ticket.leave();
                    return Ok(true);
                }
                Ok(Ok(Found::Sooner)) => {}
                Ok(Err(error)) => return Err(error),
                Err(_) if Instant::now() >= until => return Ok(false),
                // A lease may have ended, or a unit is due.
                Err(_) => {
                    let watch = |state: &mut GroupState, now| {
                        state.reap(now, topics);
                        state.is_unwatched(now)
                    };
                    if self.step(watch)? {
                        // It is for the caller to watch now.
                        return Ok(true);
                    }
                }
            }
        }
    }

    fn poll_work(
        &self,
        ticket: &mut Ticket<'_>,
        topics: &[Arc<str>],
        armed: u64,
        waker: &Waker,
    ) -> Poll<Result<Found, GroupError>> {
        let mut inner = self.inner.lock();
        if inner.deleted {
            return Poll::Ready(Err(GroupError::Deleted));
        }
        let now = self.now();
        if inner.state.claimable(now, topics) > 0 {
            return Poll::Ready(Ok(Found::Work));
        }
        if inner.state.next_event(now, topics) < armed {
            return Poll::Ready(Ok(Found::Sooner));
        }
        let Inner { idle, tickets, .. } = &mut *inner;
        match idle.iter_mut().find(|waiting| Some(waiting.ticket) == ticket.number) {
            Some(waiting) => {
                waiting.armed = armed;
                waiting.waker.clone_from(waker);
            }
            None => {
                // Woken, and somebody was faster: again at the end of the line.
                *tickets += 1;
                ticket.number = Some(*tickets);
                let topics = topics.to_vec();
                idle.push(Idle { ticket: *tickets, topics, armed, waker: waker.clone() });
            }
        }
        Poll::Pending
    }
}

/// What ends a wait before its time.
enum Found {
    /// A unit can be claimed.
    Work,
    /// A unit will be due sooner than the timer was set for.
    Sooner,
}

impl Inner {
    /// As many as there are units, the one that waits longest first; never the whole herd. A partition counts as one unit: who
    /// claims it leaves the rest of it to be claimed, and so wakes the next.
    fn who_wakes(&mut self, now: u64) -> Vec<Waker> {
        let mut wake = Vec::new();
        if self.idle.is_empty() {
            return wake;
        }
        let state = &self.state;
        let mut found: HashMap<Vec<Arc<str>>, (usize, u64)> = HashMap::new();
        self.idle.retain(|waiting| {
            if !found.contains_key(&waiting.topics) {
                let topics = &waiting.topics;
                found.insert(topics.clone(), (state.claimable(now, topics), state.next_event(now, topics)));
            }
            let (units, next) = found.get_mut(&waiting.topics).expect("invariant: it was put in above");
            if *units == 0 {
                if *next < waiting.armed {
                    // It stays in line, and sets its timer anew.
                    wake.push(waiting.waker.clone());
                }
                return true;
            }
            *units -= 1;
            wake.push(waiting.waker.clone());
            false
        });
        wake
    }
}

/// A place in the line of those who wait; dropping it leaves the line.
struct Ticket<'a> {
    group: &'a Embedded,
    number: Option<u64>,
}

impl Ticket<'_> {
    /// Leaves the line; says whether it had a place and was woken.
    fn leave(&mut self) -> bool {
        let Some(number) = self.number.take() else { return false };
        let mut inner = self.group.inner.lock();
        let before = inner.idle.len();
        inner.idle.retain(|waiting| waiting.ticket != number);
        inner.idle.len() == before
    }
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        if self.leave() {
            // It was woken for a unit, and nobody hears of that: the next in line is woken instead.
            let wake = {
                let mut inner = self.group.inner.lock();
                let now = self.group.now();
                inner.who_wakes(now)
            };
            wake.into_iter().for_each(Waker::wake);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Coordinator, ExchangeRequest, Init, Publish};
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
            done: Vec::new(),
            pending: None,
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
        let Coordinator::Embedded(inner) = &group else { unreachable!() };
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

    /// How many of the waits have ended.
    async fn ended(waits: &[tokio::task::JoinHandle<bool>]) -> usize {
        tokio::time::sleep(Duration::from_millis(50)).await;
        waits.iter().filter(|wait| wait.is_finished()).count()
    }

    fn waits(group: &Coordinator, n: usize) -> Vec<tokio::task::JoinHandle<bool>> {
        let wait = |group: Coordinator| async move {
            group.work(&["t".into()], Duration::from_secs(20)).await.unwrap()
        };
        (0..n).map(|_| tokio::spawn(wait(group.clone()))).collect()
    }

    #[tokio::test]
    async fn one_unit_wakes_one_and_a_claim_that_leaves_some_wakes_the_next() {
        let group = group();
        group.init(&[start("t")]).await.unwrap();
        let waits = waits(&group, 5);
        assert_eq!(ended(&waits).await, 0);
        group.publish(&[known("t", 10)]).await.unwrap();
        assert_eq!(ended(&waits).await, 1);
        let mut request = ExchangeRequest::new("a".into(), 1, vec!["t".into()]);
        (request.want, request.max_records, request.least_records) = (1, 5, 5);
        group.exchange(&request).await.unwrap();
        assert_eq!(ended(&waits).await, 2);
        request.request = 2;
        group.exchange(&request).await.unwrap();
        // Nothing is left.
        group.tick().await.unwrap();
        assert_eq!(ended(&waits).await, 2);
    }

    #[tokio::test]
    async fn a_wake_up_that_nobody_uses_is_passed_on() {
        let group = group();
        group.init(&[start("t")]).await.unwrap();
        let waits = waits(&group, 2);
        assert_eq!(ended(&waits).await, 0);
        let Coordinator::Embedded(inner) = &group else { unreachable!() };
        assert_eq!(inner.inner.lock().idle.len(), 2);
        // The first in line is woken and, before it runs, dropped.
        group.publish(&[known("t", 1)]).await.unwrap();
        waits[0].abort();
        assert_eq!(ended(&waits).await, 2);
    }

    #[tokio::test]
    async fn a_unit_that_is_due_again_wakes_at_its_time() {
        let group = group();
        group.init(&[start("t")]).await.unwrap();
        group.publish(&[known("t", 1)]).await.unwrap();
        let mut request = ExchangeRequest::new("a".into(), 1, vec!["t".into()]);
        request.want = 1;
        let unit = group.exchange(&request).await.unwrap().units.remove(0);
        let waits = waits(&group, 1);
        assert_eq!(ended(&waits).await, 0);
        let began = Instant::now();
        let mut request = ExchangeRequest::new("a".into(), 2, vec!["t".into()]);
        let delay = Some(Duration::from_millis(300));
        let super::super::Unit { id, request: claimed_by, end, .. } = unit;
        let nack = super::super::Nack {
            id,
            request: claimed_by,
            end,
            progress: 0,
            delay,
            counts: true,
            through: None,
            reason: "later".into(),
        };
        request.nacks.push(nack);
        group.exchange(&request).await.unwrap();
        for wait in waits {
            assert!(wait.await.unwrap());
        }
        let took = began.elapsed();
        assert!((Duration::from_millis(290)..Duration::from_secs(3)).contains(&took), "{took:?}");
    }

    #[tokio::test]
    async fn a_deleted_group_tells_its_members_and_starts_anew() {
        let settings = GroupSettings::of(&Config::default());
        let name = format!("deleted-{}", std::process::id());
        let group = Embedded::named(&name, "c", settings.clone()).unwrap();
        let group = Coordinator::Embedded(group);
        group.init(&[start("t")]).await.unwrap();
        let waiting = group.clone();
        let wait = tokio::spawn(async move { waiting.work(&["t".into()], Duration::from_secs(20)).await });
        tokio::time::sleep(Duration::from_millis(20)).await;
        group.delete().await.unwrap();
        assert_eq!(wait.await.unwrap(), Err(GroupError::Deleted));
        assert_eq!(group.tick().await, Err(GroupError::Deleted));
        let fresh = Coordinator::Embedded(Embedded::named(&name, "c", settings).unwrap());
        assert!(fresh.partitions(&["t".into()]).await.unwrap().is_empty());
        fresh.delete().await.unwrap();
    }

    #[tokio::test]
    async fn who_waits_is_woken_when_the_organiser_is_missed() {
        let group = group();
        group.init(&[start("t")]).await.unwrap();
        let dead = ExchangeRequest { organise: 200, ..ExchangeRequest::new("a".into(), 1, vec!["t".into()]) };
        assert!(group.exchange(&dead).await.unwrap().organiser);
        let began = Instant::now();
        assert!(group.work(&["t".into()], Duration::from_secs(20)).await.unwrap());
        assert!((Duration::from_millis(190)..Duration::from_secs(10)).contains(&began.elapsed()));
    }

    #[test]
    fn one_name_is_one_group_and_members_agree() {
        let settings = GroupSettings::of(&Config::default());
        let name = format!("g-{}", std::process::id());
        let group = Embedded::named(&name, "c", settings.clone()).unwrap();
        assert!(Arc::ptr_eq(&group, &Embedded::named(&name, "c", settings.clone()).unwrap()));
        assert!(!Arc::ptr_eq(&group, &Embedded::named(&name, "d", settings.clone()).unwrap()));
        group.step(|state, now| state.exchange(now, &ExchangeRequest::new("a".into(), 1, vec![]))).unwrap();
        let other = GroupSettings { consume_step: 7, ..settings };
        let error = Embedded::named(&name, "c", other.clone()).unwrap_err().to_string();
        assert_eq!(
            error,
            "this consumer has consume-step=7, its group has consume-step=100000; all members must agree"
        );
        group.step(|state, now| state.leave(now, &"a".into())).unwrap();
        Embedded::named(&name, "c", other).unwrap();
    }

    #[test]
    fn at_the_limit_the_group_goes_that_was_unused_for_longest() {
        let settings = GroupSettings::of(&Config::default());
        let mut registry = Registry::new(3);
        let mut named = |name: &str| registry.named(name, "c", settings.clone());
        let touch = |group: &Embedded| {
            std::thread::sleep(Duration::from_millis(2));
            group.step(|state, now| state.leave(now, &"m".into())).unwrap();
        };
        let (a, b) = (named("a").unwrap(), named("b").unwrap());
        touch(&b);
        touch(&a);
        b.step(|state, _| state.subscribe(&"t".into(), true)).unwrap();
        let (weak_a, weak_b) = (Arc::downgrade(&a), Arc::downgrade(&b));
        drop((a, b));
        let c = named("c").unwrap();
        // "c" is older, and somebody has it; "b" was asked after "a".
        let d = named("d").unwrap();
        assert!(weak_a.upgrade().is_none());
        assert!(weak_b.upgrade().unwrap().step(|state, _| state.topics()).unwrap().contains(&"t".into()));
        // What nobody has lives on as long as there is room: it is the same group.
        let b = named("b").unwrap();
        assert!(Arc::ptr_eq(&b, &weak_b.upgrade().unwrap()));
        // All are in use.
        let error = named("e").unwrap_err();
        assert_eq!(error, GroupError::TooMany(3));
        assert!(error.to_string().contains("close consumers"), "{error}");
        drop(d);
        named("e").unwrap();
        assert!(Arc::ptr_eq(&c, &named("c").unwrap()));
    }
}
