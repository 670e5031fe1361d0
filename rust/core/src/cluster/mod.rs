//! The cluster: who is in it, who leads what, and a connection to each.
//!
//! [`Cluster`] is a cheap handle. Behind it: what is known (`meta`, a pure value), one task that asks for more
//! (`refresh`), and the connections (`pool`). Reading what is known costs a lock and a look-up and never waits.
//!
//! Everything here survives all brokers being down for minutes: the task keeps trying, known brokers first and then
//! the bootstrap list, with back-off and jitter; connections fail fast meanwhile; callers have their own time-outs.
//! When the last handle goes, or on [`Cluster::close`], the task ends and all sockets close.

mod bootstrap;
mod commit_error;
mod commits;
mod coordinator;
mod error;
mod identity;
mod meta;
mod name;
mod offsets;
mod pool;
mod race;
mod refresh;
mod topics;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::RwLock;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::config::{BrokerAddress, Config};
use crate::net::{CallError, ConnectError as ConnectionError, Connection, ConnectionOptions};
use crate::wire::Request;
use crate::wire::messages::MetadataResponse;

pub use crate::config::Isolation;
pub use commit_error::CommitError;
pub use commits::{CommitOutcome, CommittedOffset, OffsetCommit};
pub use error::{ConnectError, OffsetsError, TopicError};
pub use meta::{Leader, PartitionMeta, TopicMeta};
pub use name::{TOPIC_NAME_MAX, TopicNameError, check_topic_name};
pub(crate) use offsets::Patience;
pub use offsets::{ListedOffset, OffsetAt, OffsetQuery};

use coordinator::Coordinators;
use identity::Identity;
use meta::{Metadata, TopicCodes};
use pool::Pool;
use refresh::Wishes;

/// What a connection is for. A broker serves one request of a connection at a time, so a long poll would hold up
/// everything behind it: each purpose has a socket of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Purpose {
    /// Produce requests.
    Produce,
    /// Fetches of known records: answered at once.
    Fetch,
    /// Fetches that wait for records to come.
    LongPoll,
    /// Metadata, offsets, topics.
    Control,
    /// A group's offsets: a commit is answered when it is replicated, and must not hold up metadata.
    Group,
}

/// A handle to the cluster; clones share everything. The last one dropped closes it.
#[derive(Clone)]
pub struct Cluster {
    handle: Arc<LastOne>,
}

/// Closes when the last handle goes; the refreshing task has the rest without it.
struct LastOne(Arc<Inner>);

impl Drop for LastOne {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// What handles and tasks share.
struct Inner {
    request_timeout: Duration,
    meta: RwLock<Metadata>,
    pool: Pool,
    identity: Arc<Identity>,
    wishes: Wishes,
    updates: watch::Sender<u64>,
    coordinators: Coordinators,
    closed: AtomicBool,
}

impl Inner {
    /// Takes in what the broker at `from` answered. Says whether anything changed, and what the answer was for each topic.
    ///
    /// # Errors
    /// It is a broker of another cluster, and nothing of it is taken in.
    fn apply(
        &self,
        response: &MetadataResponse,
        from: &BrokerAddress,
    ) -> Result<(bool, TopicCodes), Arc<ConnectionError>> {
        self.identity.check(response.cluster_id.as_ref(), from)?;
        let (changed, codes) = {
            let mut meta = self.meta.write();
            let applied = meta.apply(response);
            // Under the lock, so that two answers cannot leave the pool with the older list.
            self.pool.sync(&meta.nodes);
            applied
        };
        if changed {
            self.bump();
        }
        Ok((changed, codes))
    }

    fn forget_nodes(&self) {
        let mut meta = self.meta.write();
        meta.forget_nodes();
        self.pool.sync(&meta.nodes);
    }

    fn bump(&self) {
        self.updates.send_modify(|n| *n += 1);
    }

    fn close(&self) {
        if !self.closed.swap(true, Ordering::AcqRel) {
            self.wishes.close();
            self.pool.close();
        }
    }
}

impl Cluster {
    /// Reaches the cluster through any bootstrap broker that answers, within `metadata-timeout`.
    ///
    /// Also makes sure that one of the brokers the cluster names can be reached; otherwise every later request would fail
    /// for a reason nobody sees. With `lazy-connect` it returns without having reached anybody. Must be called within
    /// a tokio runtime, which then runs the cluster's tasks.
    ///
    /// # Errors
    /// At once when nothing but a change of the settings can help, else when the time is over; see [`ConnectError`].
    ///
    /// # Cancel safety
    /// Dropping the future closes everything.
    pub async fn connect(conf: &Config) -> Result<Self, ConnectError> {
        Self::connect_as(conf, false).await
    }

    /// As [`connect`](Self::connect), and from then on whatever is of another cluster is refused: see [`Self::until_another`].
    pub async fn connect_to_one(conf: &Config) -> Result<Self, ConnectError> {
        Self::connect_as(conf, true).await
    }

    async fn connect_as(conf: &Config, one: bool) -> Result<Self, ConnectError> {
        if conf.brokers.is_empty() {
            return Err(ConnectError::NoBrokers);
        }
        conf.check()?;
        let identity = Arc::new(Identity::new(one));
        let options = ConnectionOptions::new(conf)?;
        let inner = Arc::new(Inner {
            request_timeout: conf.request_timeout,
            meta: RwLock::default(),
            pool: Pool::new(options, &identity, &conf.brokers, Handle::current()),
            identity,
            wishes: Wishes::default(),
            updates: watch::Sender::new(0),
            coordinators: Coordinators::default(),
            closed: AtomicBool::new(false),
        });
        let cluster = Self { handle: Arc::new(LastOne(inner.clone())) };
        if !conf.lazy_connect {
            bootstrap::bootstrap(&inner, conf.metadata_timeout).await?;
        }
        tokio::spawn(refresh::run(inner));
        Ok(cluster)
    }

    fn inner(&self) -> &Arc<Inner> {
        &self.handle.0
    }

    /// The cluster's id; `None` before the first metadata.
    pub fn cluster_id(&self) -> Option<Arc<str>> {
        self.inner().meta.read().cluster_id.clone()
    }

    /// The ids of the brokers known now.
    pub fn nodes(&self) -> Vec<i32> {
        self.inner().meta.read().nodes.keys().copied().collect()
    }

    /// What is known about a topic. No I/O.
    pub fn cached_topic(&self, name: &str) -> Option<Arc<TopicMeta>> {
        self.inner().meta.read().topic(name).cloned()
    }

    /// Who leads a partition, as far as is known. No I/O.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<Leader> {
        self.inner().meta.read().topic(topic)?.partition(partition)?.leader
    }

    fn leader_of(&self, query: &OffsetQuery) -> Option<Leader> {
        self.leader(&query.topic, query.partition)
    }

    /// Takes in a leader that a broker named in a produce or fetch answer (KIP-951). An epoch that is not newer than the
    /// one known is ignored. Says whether it was news.
    pub fn learn_leader(&self, topic: &str, partition: i32, leader: Leader) -> bool {
        let news = self.inner().meta.write().learn_leader(topic, partition, leader);
        if news {
            self.inner().bump();
        }
        news
    }

    /// Takes in metadata that came from nowhere: the simulation has no socket.
    #[cfg(test)]
    pub(crate) fn take_in(&self, response: &MetadataResponse) {
        // Nothing is refused where nobody connected to one cluster.
        let _ = self.inner().apply(response, &BrokerAddress::new("", 0));
    }

    /// Waits until a broker of another cluster was refused, and says which: [`net::ConnectError::OtherCluster`]. That comes only after
    /// [`connect_to_one`](Self::connect_to_one).
    ///
    /// [`net::ConnectError::OtherCluster`]: crate::net::ConnectError::OtherCluster
    pub async fn until_another(&self) -> Arc<ConnectionError> {
        let mut met = self.inner().identity.met();
        match met.wait_for(Option::is_some).await.map(|met| met.clone()) {
            Ok(Some(error)) => error,
            // The sender lives in `self`.
            _ => std::future::pending().await,
        }
    }

    /// Whether a broker of another cluster was refused.
    pub fn has_met_another(&self) -> bool {
        self.inner().identity.met().borrow().is_some()
    }

    /// Asks for a topic's metadata in the background: wishes are gathered, at most one request is in flight, and as long
    /// as the answers bring nothing new the pauses grow to a second. Never creates the topic.
    pub fn request_refresh(&self, name: &Arc<str>) {
        self.inner().wishes.pass(name);
    }

    /// A counter that moves with every change of what is known.
    pub fn updates(&self) -> watch::Receiver<u64> {
        self.inner().updates.subscribe()
    }

    /// The pooled connection to a broker, made if need be. For 50 ms to 1 s after a failure it fails at once with
    /// [`CallError::BackOff`].
    ///
    /// # Cancel safety
    /// Connecting goes on without the caller.
    pub async fn connection(&self, node: i32, purpose: Purpose) -> Result<Arc<Connection>, CallError> {
        if self.is_closed() {
            return Err(CallError::Closed);
        }
        let node = self.inner().pool.node(node).ok_or(CallError::UnknownNode { node })?;
        node.connection(purpose).await
    }

    /// A request to one broker, `timeout` in all, connecting included. See [`Connection::call`].
    pub async fn call<R: Request>(
        &self,
        node: i32,
        purpose: Purpose,
        request: &R,
        timeout: Duration,
    ) -> Result<R::Response, CallError> {
        let deadline = Instant::now() + timeout;
        let no_connection =
            || CallError::NoConnection { api: R::KEY, broker: self.name_of(node), after: timeout };
        let connection =
            timeout_at(deadline, self.connection(node, purpose)).await.map_err(|_| no_connection())??;
        connection.call(request, deadline.saturating_duration_since(Instant::now())).await
    }

    /// What a broker is called in errors: host:port, as far as is known.
    fn name_of(&self, node: i32) -> Arc<str> {
        let address = self.inner().pool.node(node).map(|n| n.address.to_string());
        address.unwrap_or_else(|| format!("broker {node}")).into()
    }

    /// A request that any broker can answer: asked one after the other until one may have received it, within `timeout` in
    /// all.
    pub async fn call_any<R: Request>(
        &self,
        purpose: Purpose,
        request: &R,
        timeout: Duration,
    ) -> Result<R::Response, CallError> {
        let deadline = Instant::now() + timeout;
        let mut last = CallError::Closed;
        for node in self.inner().pool.candidates(purpose, usize::MAX) {
            if self.is_closed() {
                return Err(CallError::Closed);
            }
            let called = async {
                let connection = node.connection(purpose).await?;
                connection.call(request, deadline.saturating_duration_since(Instant::now())).await
            };
            last = match timeout_at(deadline + Duration::from_millis(50), called).await {
                Ok(Err(e)) if !e.possibly_written() => e,
                Ok(outcome) => return outcome,
                Err(_) => {
                    let broker = node.address.to_string().into();
                    return Err(CallError::NoConnection { api: R::KEY, broker, after: timeout });
                }
            };
        }
        Err(last)
    }

    /// Sends nothing more on the connections for `purpose`, and waits until the brokers have read all that was sent there,
    /// `within` at most; says whether they have. For requests that nobody answers: [`close`](Self::close) may lose them.
    pub(crate) async fn finish(&self, purpose: Purpose, within: Duration) -> bool {
        self.inner().pool.finish(purpose, within).await
    }

    /// Ends the tasks and closes all sockets, for this handle and all its clones. Calls in flight fail at once.
    pub fn close(&self) {
        self.inner().close();
    }

    /// Whether it was closed.
    pub fn is_closed(&self) -> bool {
        self.inner().closed.load(Ordering::Acquire)
    }
}

impl fmt::Debug for Cluster {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let meta = self.inner().meta.read();
        f.debug_struct("Cluster").field("id", &meta.cluster_id).field("nodes", &meta.nodes).finish()
    }
}
