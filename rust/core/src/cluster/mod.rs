//! The cluster: who is in it, who leads what, and a connection to each.

mod error;
mod name;

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::config::Config;
use crate::net::{CallError, Connection};
use crate::wire::{Request, Uuid};

pub use error::{ConnectError, OffsetsError, TopicError};
pub use name::{TOPIC_NAME_MAX, TopicNameError, check_topic_name};

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
}

/// Who leads a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Leader {
    /// The broker's id.
    pub node: i32,
    /// Counts the leaders of the partition (KIP-320); -1 from a broker that does not say.
    pub epoch: i32,
}

/// What is known about a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionMeta {
    /// Its number.
    pub index: i32,
    /// Who leads it; `None` while nobody does.
    pub leader: Option<Leader>,
}

/// What is known about a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMeta {
    /// Its name.
    pub name: Arc<str>,
    /// Its identity: a topic deleted and created again has another. Zero from brokers older than 2.8.
    pub id: Uuid,
    /// Its partitions, by number.
    pub partitions: Vec<PartitionMeta>,
}

/// Which offset of a partition is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OffsetAt {
    /// The oldest record there is.
    Earliest,
    /// The end: the high watermark, or the last stable offset under [`Isolation::ReadCommitted`].
    Latest,
    /// The first record of at least this timestamp, in milliseconds since 1970.
    Timestamp(i64),
}

/// Whether records of open and aborted transactions are seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// They are.
    ReadUncommitted,
    /// They are not.
    ReadCommitted,
}

/// One question of [`Cluster::list_offsets`].
#[derive(Debug, Clone)]
pub struct OffsetQuery {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// Which offset.
    pub at: OffsetAt,
}

/// One answer of [`Cluster::list_offsets`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ListedOffset {
    /// The offset; -1 when no record is that young.
    pub offset: i64,
    /// The record's timestamp, -1 when the broker does not say.
    pub timestamp: i64,
    /// The leader epoch of the record, -1 when the broker does not say.
    pub leader_epoch: i32,
}

/// A handle to the cluster; clones share everything. The last one dropped closes it.
#[derive(Clone)]
pub struct Cluster {}

#[allow(unused_variables, missing_docs, clippy::missing_errors_doc)]
impl Cluster {
    pub async fn connect(conf: &Config) -> Result<Self, ConnectError> {
        todo!()
    }
    pub fn cluster_id(&self) -> Option<Arc<str>> {
        todo!()
    }
    pub fn cached_topic(&self, name: &str) -> Option<Arc<TopicMeta>> {
        todo!()
    }
    pub async fn topic(&self, name: &str, timeout: Duration) -> Result<Arc<TopicMeta>, TopicError> {
        todo!()
    }
    pub async fn topic_if_exists(
        &self,
        name: &str,
        timeout: Duration,
    ) -> Result<Option<Arc<TopicMeta>>, TopicError> {
        todo!()
    }
    pub async fn refresh(&self, names: &[Arc<str>], timeout: Duration) -> Result<(), TopicError> {
        todo!()
    }
    pub fn request_refresh(&self, name: &Arc<str>) {
        todo!()
    }
    pub fn leader(&self, topic: &str, partition: i32) -> Option<Leader> {
        todo!()
    }
    pub fn updates(&self) -> watch::Receiver<u64> {
        todo!()
    }
    pub async fn call<R: Request>(
        &self,
        node: i32,
        purpose: Purpose,
        request: &R,
        timeout: Duration,
    ) -> Result<R::Response, CallError> {
        todo!()
    }
    pub async fn call_any<R: Request>(
        &self,
        purpose: Purpose,
        request: &R,
        timeout: Duration,
    ) -> Result<R::Response, CallError> {
        todo!()
    }
    pub async fn connection(&self, node: i32, purpose: Purpose) -> Result<Arc<Connection>, CallError> {
        todo!()
    }
    pub async fn list_offsets(
        &self,
        queries: &[OffsetQuery],
        isolation: Isolation,
        timeout: Duration,
    ) -> Result<Vec<ListedOffset>, OffsetsError> {
        todo!()
    }
    /// `partitions` and `replication` may be -1: the broker's default.
    pub async fn create_topic(
        &self,
        name: &str,
        partitions: i32,
        replication: i16,
        timeout: Duration,
    ) -> Result<(), TopicError> {
        todo!()
    }
    pub fn close(&self) {
        todo!()
    }
}
