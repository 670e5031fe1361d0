//! Connections: for each broker one a [`Purpose`], made when first needed.
//!
//! One task at a time connects for a place; others who want it wait for the outcome. The task is not the caller's, so a
//! caller that loses patience does not undo it. After a failure the broker - all its places - is left alone for
//! 50 ms doubling to 1 s, and asking for a connection fails at once. One that does not accept who we are is left alone for up
//! to 30 s: directories lock accounts after too many wrong passwords. A connection that ends within a second of its
//! making counts as a failure too: a broker that accepts and hangs up would otherwise be dialled in a tight loop.
//!
//! A connection that was idle for `connections.max.idle.ms` is closed when it is wanted next, and a new one is made: whoever
//! stands between may have dropped it without a word, and a request would find that out by its time-out.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, MutexGuard, RwLock};
use tokio::runtime::Handle;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

use super::Purpose;
use super::identity::Identity;
use crate::config::BrokerAddress;
use crate::log_rate;
use crate::net::{BackOff, CallError, CloseReason, ConnectError, Connection, ConnectionOptions};
use crate::wire::messages::MetadataRequest;

/// A connection that ends sooner than this after its making counts as a failed try.
const SHORT_LIFE: Duration = Duration::from_secs(1);

/// How long the calls in flight to a broker that left the cluster have to end.
const DRAIN_MAX: Duration = Duration::from_secs(5);

/// All connections of a cluster.
#[derive(Debug)]
pub(super) struct Pool {
    options: ConnectionOptions,
    identity: Arc<Identity>,
    runtime: Handle,
    /// The brokers of the metadata.
    nodes: RwLock<HashMap<i32, Arc<Node>>>,
    /// The brokers of the settings, used while none of the others answers.
    pub(super) seeds: Vec<Arc<Node>>,
    closed: AtomicBool,
}

impl Pool {
    pub(super) fn new(
        options: ConnectionOptions,
        identity: &Arc<Identity>,
        seeds: &[BrokerAddress],
        runtime: Handle,
    ) -> Self {
        let seed = |a: &BrokerAddress| Arc::new(Node::new(None, a.clone(), &options, identity, &runtime));
        let (seeds, identity) = (seeds.iter().map(seed).collect(), Arc::clone(identity));
        Self { options, identity, runtime, nodes: RwLock::default(), seeds, closed: AtomicBool::new(false) }
    }

    pub(super) fn node(&self, id: i32) -> Option<Arc<Node>> {
        self.nodes.read().get(&id).cloned()
    }

    /// Makes the brokers known those of `nodes`: one that is gone, or has moved, is dismissed.
    pub(super) fn sync(&self, nodes: &BTreeMap<i32, BrokerAddress>) {
        let mut dismissed = Vec::new();
        let mut known = self.nodes.write();
        if self.closed.load(Ordering::Acquire) {
            return;
        }
        known.retain(|id, node| {
            let stays = nodes.get(id) == Some(&node.address);
            if !stays {
                dismissed.push(node.clone());
            }
            stays
        });
        for (id, address) in nodes {
            known.entry(*id).or_insert_with(|| {
                Arc::new(Node::new(Some(*id), address.clone(), &self.options, &self.identity, &self.runtime))
            });
        }
        drop(known);
        for node in dismissed {
            node.dismiss();
        }
    }

    /// Gives a bootstrap broker's connection to the broker of the same address, if there is one.
    pub(super) fn adopt(&self, seed: &Node) -> bool {
        let nodes = self.nodes.read();
        let Some(node) = nodes.values().find(|n| n.address == seed.address) else { return false };
        let slot = |n: &Node| Arc::clone(&n.slots[Purpose::Control as usize]);
        let Some(used) = slot(seed).current.lock().take() else { return false };
        let mut place = Some(used);
        std::mem::swap(&mut *slot(node).current.lock(), &mut place);
        true
    }

    /// Whom to ask what any broker can answer, best first: with a connection, then those not in trouble lately, in
    /// random order; at most `most` of them, and then the bootstrap brokers.
    pub(super) fn candidates(&self, purpose: Purpose, most: usize) -> Vec<Arc<Node>> {
        let mut nodes: Vec<_> = self.nodes.read().values().cloned().collect();
        nodes.sort_by_cached_key(|n| {
            // Not within the tuple: its temporaries live until its end, and the look may take the same lock.
            let trouble = n.health.lock().trouble;
            (trouble, !n.is_connected(purpose), crate::net::random())
        });
        nodes.truncate(most);
        nodes.extend(self.seeds.iter().cloned());
        nodes
    }

    /// Every broker of the metadata, in random order.
    pub(super) fn all_nodes(&self) -> Vec<Arc<Node>> {
        let mut nodes: Vec<_> = self.nodes.read().values().cloned().collect();
        nodes.sort_by_cached_key(|_| crate::net::random());
        nodes
    }

    /// Closes the connections to the bootstrap brokers: they have done their work.
    pub(super) fn leave_seeds(&self) {
        for slot in self.seeds.iter().flat_map(|seed| &seed.slots) {
            let mut place = slot.current.lock();
            if place.as_ref().is_some_and(|(connection, _)| connection.in_flight() == 0) {
                *place = None;
            }
        }
    }

    /// Sends nothing more on the connections for `purpose`, and waits until the brokers have read all that was sent there,
    /// `within` at most. Says whether they have: each has hung up in good order, as it does behind the last byte.
    pub(super) async fn finish(&self, purpose: Purpose, within: Duration) -> bool {
        let nodes: Vec<_> = self.nodes.read().values().cloned().collect();
        let connections: Vec<_> = nodes.iter().filter_map(|node| node.live(purpose)).collect();
        connections.iter().for_each(|connection| connection.finish());
        let ended = async {
            let mut read = true;
            for connection in &connections {
                connection.ended().await;
                // Any other end may have come before all was read.
                read &= connection.end().is_some_and(|(reason, _)| reason == CloseReason::Peer);
            }
            read
        };
        timeout(within, ended).await.unwrap_or(false)
    }

    /// Closes everything, for good.
    pub(super) fn close(&self) {
        self.closed.store(true, Ordering::Release);
        let nodes: Vec<_> = self.nodes.write().drain().map(|(_, node)| node).collect();
        for node in nodes.iter().chain(&self.seeds) {
            node.retire();
            node.close_all();
        }
    }
}

/// One broker.
#[derive(Debug)]
pub(super) struct Node {
    /// Its id; a bootstrap broker has none.
    pub(super) id: Option<i32>,
    pub(super) address: BrokerAddress,
    options: ConnectionOptions,
    identity: Arc<Identity>,
    runtime: Handle,
    retired: AtomicBool,
    /// Ends the tries to connect when it retires.
    stop: Notify,
    health: Mutex<Health>,
    /// By [`Purpose`].
    slots: [Arc<Slot>; 5],
}

#[derive(Debug)]
struct Health {
    back_off: BackOff,
    /// Counts apart: one refusal after a long time of no answer, as of a broker that is still starting, is but the first.
    refused: BackOff,
    /// When the last failure was, until when nobody tries again, and why.
    failed: Option<(Instant, Instant, Arc<ConnectError>)>,
    /// When it last kept somebody waiting; it is asked last.
    trouble: Option<Instant>,
}

/// A connection, and when it was last handed out.
type Used = (Arc<Connection>, Instant);

/// The place of one connection.
#[derive(Debug, Default)]
struct Slot {
    current: Mutex<Option<Used>>,
    connecting: Arc<tokio::sync::Mutex<()>>,
}

impl Node {
    fn new(
        id: Option<i32>,
        address: BrokerAddress,
        options: &ConnectionOptions,
        identity: &Arc<Identity>,
        runtime: &Handle,
    ) -> Self {
        let (back_off, refused) = (BackOff::RECONNECT, BackOff::REFUSED);
        let health = Health { back_off, refused, failed: None, trouble: None };
        Self {
            id,
            address,
            options: options.clone(),
            identity: Arc::clone(identity),
            runtime: runtime.clone(),
            retired: AtomicBool::new(false),
            stop: Notify::new(),
            health: Mutex::new(health),
            slots: Default::default(),
        }
    }

    /// The connection for `purpose`, made if need be; fails at once while the broker is left alone.
    ///
    /// # Cancel safety
    /// Connecting goes on without the caller.
    pub(super) async fn connection(self: &Arc<Self>, purpose: Purpose) -> Result<Arc<Connection>, CallError> {
        if let Some(connection) = self.live(purpose) {
            return Ok(connection);
        }
        self.check_rest()?;
        let turn = self.slots[purpose as usize].connecting.clone().lock_owned().await;
        // Whoever had the turn before may have connected, or have found that it cannot be done now.
        if let Some(connection) = self.live(purpose) {
            return Ok(connection);
        }
        self.check_rest()?;
        let node = self.clone();
        let task = self.runtime.spawn(async move {
            let _turn = turn;
            let budget = node.options.connect_timeout;
            node.connect(purpose, budget).await.inspect_err(|error| node.tell_refusal(error))
        });
        // The task ends otherwise only with the runtime.
        task.await.unwrap_or(Err(CallError::Closed))
    }

    /// Connects within `budget` without regard to earlier failures; for the first contact with the cluster.
    pub(super) async fn connect_now(
        &self,
        purpose: Purpose,
        budget: Duration,
    ) -> Result<Arc<Connection>, CallError> {
        self.connect(purpose, budget.min(self.options.connect_timeout)).await
    }

    async fn connect(&self, purpose: Purpose, budget: Duration) -> Result<Arc<Connection>, CallError> {
        let began = Instant::now();
        let stop = self.stop.notified();
        tokio::pin!(stop);
        // Registered before the look at `retired`, so that an end in between is not missed.
        stop.as_mut().enable();
        if self.retired.load(Ordering::Acquire) {
            return Err(CallError::Closed);
        }
        let connected = tokio::select! {
            biased;
            () = stop => return Err(CallError::Closed),
            connected = self.connect_to_cluster(budget) => connected,
        };
        let error = match connected {
            Ok(connection) => {
                let connection = Arc::new(connection);
                let mut place = self.slots[purpose as usize].current.lock();
                // Under the place's lock, so that closing all places either sees this one or is seen here.
                if self.retired.load(Ordering::Acquire) {
                    return Err(CallError::Closed);
                }
                *place = Some((connection.clone(), Instant::now()));
                drop(place);
                let mut health = self.health.lock();
                (health.failed, health.trouble) = (None, None);
                health.refused.reset();
                return Ok(connection);
            }
            Err(error) => error,
        };
        self.note_failure(began, error.clone());
        Err(CallError::Connect(error))
    }

    /// A connection to a broker of our cluster, where others are refused: the address may be another cluster's by now, and what is sent
    /// there would be answered out of its logs.
    async fn connect_to_cluster(&self, budget: Duration) -> Result<Connection, Arc<ConnectError>> {
        let deadline = Instant::now() + budget;
        let connection = Connection::connect_within(&self.address, &self.options, budget).await?;
        if self.identity.is_asked() {
            let request = MetadataRequest { topics: Some(Vec::new()), ..Default::default() };
            let left = deadline.saturating_duration_since(Instant::now());
            let answer = connection.call(&request, left).await.map_err(|error| {
                let (address, reason) = (self.address.clone(), error.to_string());
                ConnectError::Unreachable { address, reason }
            })?;
            self.identity.check(answer.cluster_id.as_ref(), &self.address)?;
        }
        Ok(connection)
    }

    /// The connection there is, for a request: if it lives, and was not idle for too long.
    pub(super) fn live(&self, purpose: Purpose) -> Option<Arc<Connection>> {
        let mut place = self.usable(purpose)?;
        let (connection, used) = place.as_mut()?;
        *used = Instant::now();
        Some(connection.clone())
    }

    /// Whether there is a connection. To ask is no use of it: it goes on being idle.
    fn is_connected(&self, purpose: Purpose) -> bool {
        self.usable(purpose).is_some()
    }

    /// The place of a connection that can be used; one that cannot leaves it.
    fn usable(&self, purpose: Purpose) -> Option<MutexGuard<'_, Option<Used>>> {
        let mut place = self.slots[purpose as usize].current.lock();
        let (connection, used) = place.as_ref()?;
        if let Some((reason, lived)) = connection.end() {
            *place = None;
            drop(place);
            self.note_end(reason, lived);
            return None;
        }
        // Whoever else has it is about to send a request, or writes one that nobody answers and that is not in flight. The place is
        // locked: nobody gets it now.
        let unused = Arc::strong_count(connection) == 1 && connection.in_flight() == 0;
        if unused && self.options.max_idle.is_some_and(|most| used.elapsed() >= most) {
            connection.close();
            *place = None;
            return None;
        }
        Some(place)
    }

    /// How the broker fared when a connection to it ended.
    fn note_end(&self, reason: CloseReason, lived: Duration) {
        if reason == CloseReason::Local {
            return;
        }
        if lived >= SHORT_LIFE {
            self.health.lock().back_off.reset();
            return;
        }
        let reason = format!("the connection ended after {} ms: {reason}", lived.as_millis());
        let error = ConnectError::Unreachable { address: self.address.clone(), reason };
        self.note_failure(Instant::now(), Arc::new(error));
    }

    fn note_failure(&self, began: Instant, error: Arc<ConnectError>) {
        let now = Instant::now();
        let mut health = self.health.lock();
        health.trouble = Some(now);
        // Places that fail together are one failure.
        if health.failed.as_ref().is_none_or(|(when, ..)| *when <= began) {
            let wait = if error.is_refusal() { health.refused.fail() } else { health.back_off.fail() };
            health.failed = Some((now, now + wait, error));
        }
    }

    /// A password or a certificate that is not accepted while a client runs is for people to mend: it is logged, ever more
    /// rarely.
    fn tell_refusal(&self, error: &CallError) {
        let failures = self.health.lock().refused.failures();
        if let CallError::Connect(error) = error
            && error.is_refusal()
            && failures.is_power_of_two()
            && let Some(more) = log_rate::due(format_args!("refused {error}"))
        {
            tracing::warn!(target: "kafkafast.net", "{error} (tried {failures} times, and again){more}");
        }
    }

    /// An error while the broker is left alone.
    fn check_rest(&self) -> Result<(), CallError> {
        if self.retired.load(Ordering::Acquire) {
            return Err(self.id.map_or(CallError::Closed, |node| CallError::UnknownNode { node }));
        }
        match &self.health.lock().failed {
            Some((_, until, error)) if Instant::now() < *until => {
                let retry_after = *until - Instant::now();
                Err(CallError::BackOff { retry_after, error: error.clone() })
            }
            _ => Ok(()),
        }
    }

    /// It keeps somebody waiting: others are asked first from now on.
    pub(super) fn note_trouble(&self) {
        self.health.lock().trouble = Some(Instant::now());
    }

    pub(super) fn note_answer(&self) {
        self.health.lock().trouble = None;
    }

    /// Makes no more connections; those there are end when their calls have, 5 s at most. A broker that shuts down
    /// leaves the metadata before it has answered everything.
    fn dismiss(self: &Arc<Self>) {
        self.retire();
        let (busy, idle): (Vec<_>, Vec<_>) =
            self.take_all().into_iter().partition(|connection| connection.in_flight() > 0);
        idle.iter().for_each(|connection| connection.close());
        if busy.is_empty() {
            return;
        }
        self.runtime.spawn(async move {
            let deadline = Instant::now() + DRAIN_MAX;
            while Instant::now() < deadline && busy.iter().any(|c| c.in_flight() > 0 && !c.is_closed()) {
                sleep(Duration::from_millis(50)).await;
            }
            busy.iter().for_each(|connection| connection.close());
        });
    }

    fn retire(&self) {
        self.retired.store(true, Ordering::Release);
        self.stop.notify_waiters();
    }

    fn take_all(&self) -> Vec<Arc<Connection>> {
        self.slots.iter().filter_map(|s| s.current.lock().take()).map(|(connection, _)| connection).collect()
    }

    fn close_all(&self) {
        self.take_all().iter().for_each(|connection| connection.close());
    }
}

#[cfg(test)]
mod tests {
    use kafka_fast_testkit::fake::FakeKafka;

    use super::*;
    use crate::cluster::Cluster;
    use crate::config::Config;

    #[tokio::test]
    async fn only_a_broker_that_hangs_up_in_good_order_has_read_all() {
        for breaks in [false, true] {
            let fake = FakeKafka::start(1).await;
            let conf = Config::with_bootstrap(&fake.address()).unwrap();
            let cluster = Cluster::connect(&conf).await.unwrap();
            let connection = cluster.connection(1, Purpose::Produce).await.unwrap();
            let end = async {
                if breaks {
                    connection.close();
                }
            };
            // On one thread the end comes before the broker's.
            let (read, ()) = tokio::join!(cluster.finish(Purpose::Produce, Duration::from_secs(20)), end);
            assert_eq!(read, !breaks, "{:?}", connection.end());
        }
    }

    #[tokio::test]
    async fn a_connection_that_was_idle_too_long_is_closed_and_another_is_made() {
        // Never; far from it; after a time; always.
        for (idle, stays) in [("-1", true), ("540000", true), ("50", false), ("0", false)] {
            let fake = FakeKafka::start(2).await;
            let mut conf = Config::with_bootstrap(&fake.address()).unwrap();
            conf.set("connections.max.idle.ms", idle).unwrap();
            let cluster = Cluster::connect(&conf).await.unwrap();
            let first = Arc::downgrade(&cluster.connection(1, Purpose::Produce).await.unwrap());
            let pool = &cluster.inner().pool;
            sleep(Duration::from_millis(30)).await;
            // Before its time is over; to be one of those that could be asked is no use of it.
            pool.candidates(Purpose::Produce, 2);
            sleep(Duration::from_millis(30)).await;
            assert_eq!(pool.node(1).unwrap().is_connected(Purpose::Produce), stays, "{idle}");
            let next = cluster.connection(1, Purpose::Produce).await.unwrap();
            assert_eq!(first.upgrade().is_some_and(|first| Arc::ptr_eq(&first, &next)), stays, "{idle}");
            assert!(!next.is_closed());
            // What somebody has is about to be used.
            sleep(Duration::from_millis(60)).await;
            let again = cluster.connection(1, Purpose::Produce).await.unwrap();
            assert!(Arc::ptr_eq(&next, &again) && !next.is_closed(), "{idle}");
        }
    }

    #[tokio::test]
    async fn a_broker_that_refuses_us_is_asked_ever_more_rarely_and_one_that_is_down_every_second() {
        let address = BrokerAddress::new("h", 1);
        let node = Node::new(
            None,
            address.clone(),
            &ConnectionOptions::default(),
            &Arc::new(Identity::new(false)),
            &Handle::current(),
        );
        let failed = |error: &ConnectError| {
            node.note_failure(Instant::now(), Arc::new(error.clone()));
            node.check_rest().unwrap_err().retry_after().unwrap()
        };
        let (down, refusal) =
            (ConnectError::Refused { address: address.clone() }, ConnectError::NoSasl { address });
        for _ in 0..20 {
            assert!(failed(&down) <= Duration::from_secs(1));
        }
        assert!(failed(&refusal) <= Duration::from_millis(50), "it is the first refusal");
        for _ in 0..11 {
            failed(&refusal);
        }
        let last = failed(&refusal);
        assert!(last > Duration::from_secs(10) && last <= Duration::from_secs(30), "{last:?}");
    }
}
