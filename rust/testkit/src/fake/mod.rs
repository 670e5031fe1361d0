//! A cluster of brokers that exist in this process and do what a test tells them.
//!
//! One file an API says what a broker answers when it is well; it keeps what is produced, and gives it back. What differs from
//! that is the test's: before every answer [`FakeKafka::on`]'s rule is asked, for each partition that a request is about,
//! and says with which error code, and how the bytes go out ([`Way`]). Everything asked is remembered
//! ([`FakeKafka::asked`]). The bytes are those of the crate kafka-protocol, made from Kafka's schemas: the client under
//! test has no part in them.

mod api_versions;
mod create_topics;
mod fetch;
mod find_coordinator;
mod init_producer_id;
mod list_offsets;
mod metadata;
mod offset_commit;
mod offset_fetch;
mod produce;
mod serve;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_protocol::messages::{BrokerId, TopicName};
use kafka_protocol::protocol::StrBytes;
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use uuid::Uuid;

// The codes of brokers that are not asked to fail.
const UNKNOWN_TOPIC_OR_PARTITION: i16 = 3;
const NOT_LEADER_OR_FOLLOWER: i16 = 6;
const NOT_COORDINATOR: i16 = 16;
const TOPIC_ALREADY_EXISTS: i16 = 36;
const NOT_CONTROLLER: i16 = 41;
const UNKNOWN_TOPIC_ID: i16 = 100;

/// The requests that a fake broker answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i16)]
#[allow(missing_docs)]
pub enum Api {
    Produce = 0,
    Fetch = 1,
    ListOffsets = 2,
    Metadata = 3,
    OffsetCommit = 8,
    OffsetFetch = 9,
    FindCoordinator = 10,
    ApiVersions = 18,
    CreateTopics = 19,
    InitProducerId = 22,
}

impl Api {
    fn of(key: i16) -> Option<Self> {
        let all = [
            Self::Produce,
            Self::Fetch,
            Self::ListOffsets,
            Self::Metadata,
            Self::OffsetCommit,
            Self::OffsetFetch,
            Self::FindCoordinator,
            Self::ApiVersions,
            Self::CreateTopics,
            Self::InitProducerId,
        ];
        all.into_iter().find(|api| *api as i16 == key)
    }
}

/// What a request asks of one partition, or of what else it has an answer for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// The kind of request.
    pub api: Api,
    /// Which request of the cluster it is, counted from 0: several partitions may come in one.
    pub request: u64,
    /// The broker that was asked.
    pub node: i32,
    /// The consumer group; empty where the request has none.
    pub group: String,
    /// The topic; empty where the request has none, and of the whole answer.
    pub topic: String,
    /// The partition; -1 where the request has none, and of the whole answer. Of that to a fetch session's request: how many
    /// partitions it names.
    pub partition: i32,
    /// Where a fetch begins to read; -1 in other requests. Of the whole answer to a fetch session's request: its epoch.
    pub offset: i64,
    /// When it came.
    pub at: Instant,
}

/// How an answer goes out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// As it should.
    #[default]
    Whole,
    /// So much later; answers behind it wait.
    Late(Duration),
    /// Not at all: the connection is closed instead.
    Cut,
    /// Half of it, then the connection is closed.
    Half,
    /// Never, and no other behind it.
    Silence,
    /// As a frame that ends too early, but says so.
    Truncated,
    /// Behind the next answer of the connection, or 200 ms later when there is none.
    Swapped,
}

/// What a rule says about one partition of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deed {
    /// The error code; 0 answers as a broker does that is well. With another one nothing is done.
    pub code: i16,
    /// How the answer goes out; of several partitions the last that is not whole counts.
    pub way: Way,
    /// What the answer says about throttling, in ms.
    pub throttle_ms: i32,
    /// The partition has been through an election, which its leader won again: it has a new epoch, and a refused batch is
    /// told so (KIP-951).
    pub elects: bool,
}

impl Deed {
    /// Refuse with this error code.
    pub fn code(code: i16) -> Self {
        Self { code, ..Self::default() }
    }

    /// Do what is asked, and answer this way.
    pub fn way(way: Way) -> Self {
        Self { way, ..Self::default() }
    }
}

type Rule = Box<dyn FnMut(&Asked) -> Deed + Send>;

/// A batch as it is in the log.
#[derive(Debug, Clone)]
pub struct Stored {
    /// The offset of its first record.
    pub base: i64,
    /// The bytes, with that offset in them.
    pub bytes: Bytes,
}

impl Stored {
    /// The offset behind its last record.
    fn end(&self) -> i64 {
        self.base + 1 + i64::from(i32::from_be_bytes(self.bytes[23..27].try_into().expect("it has a header")))
    }

    /// How many records its header says there are.
    pub fn count(&self) -> i32 {
        i32::from_be_bytes(self.bytes[57..61].try_into().expect("it has a header"))
    }

    /// The id of the producer that wrote it, -1 if it has none.
    pub fn producer_id(&self) -> i64 {
        i64::from_be_bytes(self.bytes[43..51].try_into().expect("it has a header"))
    }

    /// The epoch of the producer that wrote it.
    pub fn producer_epoch(&self) -> i16 {
        i16::from_be_bytes(self.bytes[51..53].try_into().expect("it has a header"))
    }
}

#[derive(Default)]
struct Partition {
    leader: i32,
    epoch: i32,
    log: Vec<Stored>,
}

impl Partition {
    fn end(&self) -> i64 {
        self.log.last().map_or(0, Stored::end)
    }

    /// The base of the first batch with a record of at least this timestamp.
    fn since(&self, timestamp: i64) -> Option<i64> {
        let newest = |b: &Stored| i64::from_be_bytes(b.bytes[35..43].try_into().expect("it has a header"));
        self.log.iter().find(|batch| newest(batch) >= timestamp).map(|batch| batch.base)
    }

    /// Appends a batch, and says where.
    fn append(&mut self, batch: &Bytes) -> i64 {
        let base = self.end();
        let mut bytes = batch.to_vec();
        // The checksum does not cover the offset, because it is the broker that writes it.
        bytes[..8].copy_from_slice(&base.to_be_bytes());
        self.log.push(Stored { base, bytes: bytes.into() });
        base
    }
}

struct Topic {
    /// Another one at each creation.
    id: Uuid,
    partitions: Vec<Partition>,
}

/// A request as it came to a broker.
#[derive(Debug, Clone, Copy)]
struct Call {
    api: Api,
    number: u64,
    version: i16,
    node: i32,
}

/// What of a request a rule is asked about.
struct About<'a> {
    group: &'a str,
    topic: &'a str,
    partition: i32,
    offset: i64,
}

impl<'a> About<'a> {
    /// The whole answer, or a request that is about nothing in particular.
    const WHOLE: Self = Self { group: "", topic: "", partition: -1, offset: -1 };

    fn topic(topic: &'a str) -> Self {
        Self { topic, ..Self::WHOLE }
    }

    fn partition(topic: &'a str, partition: i32) -> Self {
        Self { topic, partition, ..Self::WHOLE }
    }

    fn group(group: &'a str) -> Self {
        Self { group, ..Self::WHOLE }
    }
}

/// An offset that a group committed.
#[derive(Clone)]
struct Committed {
    offset: i64,
    epoch: i32,
    metadata: String,
}

#[derive(Default)]
struct State {
    ports: Vec<u16>,
    /// The cluster's id, once it is another than at first.
    cluster_id: Option<String>,
    /// Brokers that the metadata does not name.
    hidden: HashSet<i32>,
    controller: i32,
    /// Whether Produce and Fetch are spoken as far as topics have ids there.
    speaks_ids: bool,
    topics: BTreeMap<String, Topic>,
    /// How many topics were made, which the last one has in its id.
    created: u64,
    /// By group, topic and partition.
    committed: HashMap<(String, String, i32), Committed>,
    rules: HashMap<Api, Rule>,
    asked: Vec<Asked>,
    requests: u64,
}

impl State {
    fn cluster_id(&self) -> String {
        self.cluster_id.clone().unwrap_or_else(|| format!("fake-{}", self.ports[0]))
    }

    /// Remembers what is asked and says what is to be done.
    fn ask(&mut self, call: Call, about: About<'_>) -> Deed {
        let asked = Asked {
            api: call.api,
            request: call.number,
            node: call.node,
            group: about.group.into(),
            topic: about.topic.into(),
            partition: about.partition,
            offset: about.offset,
            at: Instant::now(),
        };
        let deed = self.rules.get_mut(&call.api).map_or_else(Deed::default, |rule| rule(&asked));
        self.asked.push(asked);
        deed
    }

    /// The brokers that the metadata names.
    fn named(&self) -> impl Iterator<Item = i32> {
        (1..=self.ports.len() as i32).filter(|node| !self.hidden.contains(node))
    }

    /// Who keeps a group's offsets.
    fn coordinator(&self, group: &str) -> i32 {
        let nodes: Vec<i32> = self.named().collect();
        nodes[group.bytes().map(usize::from).sum::<usize>() % nodes.len()]
    }

    /// Makes a topic; the brokers lead its partitions in turn.
    fn create(&mut self, name: &str, partitions: usize) {
        let (turn, nodes) = (self.topics.len(), self.named().collect::<Vec<_>>());
        let leader = |i: usize| nodes[(turn + i) % nodes.len()];
        let partitions =
            (0..partitions).map(|i| Partition { leader: leader(i), ..Partition::default() }).collect();
        self.created += 1;
        // Not zero, which stands for no id, and as random ids not that of another cluster's topic.
        let id = Uuid::from_u64_pair(self.ports[0].into(), self.created);
        self.topics.insert(name.into(), Topic { id, partitions });
    }

    /// The code that a broker answers which is not asked to fail.
    fn misdirected(&self, node: i32, topic: &str, partition: i32) -> i16 {
        match self.partition(topic, partition) {
            None if topic.is_empty() => UNKNOWN_TOPIC_ID,
            None => UNKNOWN_TOPIC_OR_PARTITION,
            Some(p) if p.leader != node => NOT_LEADER_OR_FOLLOWER,
            Some(_) => 0,
        }
    }

    fn partition(&self, topic: &str, partition: i32) -> Option<&Partition> {
        self.topics.get(topic)?.partitions.get(usize::try_from(partition).ok()?)
    }

    /// The topic that a request of Produce or Fetch is about, which has its name or, in versions with ids, its id. Empty if
    /// no topic has that id any more.
    fn called(&self, call: Call, name: &TopicName, id: Uuid) -> String {
        if call.version < api_versions::BY_ID {
            return name.0.to_string();
        }
        self.topics
            .iter()
            .find(|(_, topic)| topic.id == id)
            .map_or_else(String::new, |(name, _)| name.clone())
    }

    fn partition_mut(&mut self, topic: &str, partition: usize) -> &mut Partition {
        &mut self.topics.get_mut(topic).expect("the topic was made").partitions[partition]
    }
}

struct Shared {
    state: Mutex<State>,
    /// Something was appended, or a topic was made again.
    appended: Notify,
    /// The brokers are another cluster's from now on: connections end.
    replaced: Notify,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // A rule that panicked has failed its test already.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The cluster. Its brokers have the ids 1, 2, ... and end when it is dropped.
pub struct FakeKafka {
    shared: Arc<Shared>,
    brokers: Vec<JoinHandle<()>>,
}

impl Drop for FakeKafka {
    fn drop(&mut self) {
        self.brokers.iter().for_each(JoinHandle::abort);
    }
}

impl FakeKafka {
    /// So many brokers, each on a free port of the loopback.
    pub async fn start(brokers: usize) -> Self {
        let state = State { controller: 1, ..State::default() };
        let shared =
            Arc::new(Shared { state: Mutex::new(state), appended: Notify::new(), replaced: Notify::new() });
        let mut tasks = Vec::new();
        for node in 1..=brokers {
            let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
            let port = listener.local_addr().expect("a bound socket has an address").port();
            shared.state().ports.push(port);
            tasks.push(tokio::spawn(serve::listen(Arc::clone(&shared), node as i32, listener)));
        }
        Self { shared, brokers: tasks }
    }

    /// The id that the metadata names.
    pub fn cluster_id(&self) -> String {
        self.shared.state().cluster_id()
    }

    /// The first broker, as `host:port`.
    pub fn address(&self) -> String {
        self.address_of(1)
    }

    /// A broker, as `host:port`.
    pub fn address_of(&self, node: i32) -> String {
        format!("127.0.0.1:{}", self.shared.state().ports[node as usize - 1])
    }

    /// The broker that keeps a group's offsets.
    pub fn coordinator(&self, group: &str) -> i32 {
        self.shared.state().coordinator(group)
    }

    /// What a group committed of a partition.
    pub fn committed(&self, group: &str, topic: &str, partition: i32) -> Option<i64> {
        let place = (group.to_owned(), topic.to_owned(), partition);
        self.shared.state().committed.get(&place).map(|committed| committed.offset)
    }

    /// Whether there is such a topic.
    pub fn has_topic(&self, name: &str) -> bool {
        self.shared.state().topics.contains_key(name)
    }

    /// Makes a topic; the brokers lead its partitions in turn.
    pub fn create_topic(&self, name: &str, partitions: usize) {
        self.shared.state().create(name, partitions);
    }

    /// Deletes a topic and makes it again at once: it has another id, empty logs, epoch 0, leaders as a new topic gets them,
    /// and no group has committed anything of it. Where Produce and Fetch have topics by name, who does not know yet is
    /// answered from the new one; see [`speak_topic_ids`](Self::speak_topic_ids).
    pub fn recreate_topic(&self, name: &str, partitions: usize) {
        let mut state = self.shared.state();
        state.topics.remove(name).expect("the topic was made");
        state.committed.retain(|(_, topic, _), _| topic != name);
        state.create(name, partitions);
        drop(state);
        // Fetches that wait look again.
        self.shared.appended.notify_waiters();
    }

    /// Behind the same addresses there are brokers of another cluster from now on: its id is another, and it has no topics and no
    /// commits. All connections end.
    pub fn replace_cluster(&self, id: &str) {
        let mut state = self.shared.state();
        state.cluster_id = Some(id.to_owned());
        state.topics.clear();
        state.committed.clear();
        drop(state);
        self.shared.replaced.notify_waiters();
    }

    /// Speaks Produce and Fetch up to version 13, which has topics by their ids, and refuses ids that are not there any more
    /// with UNKNOWN_TOPIC_ID. To be called before anybody connects.
    pub fn speak_topic_ids(&self) {
        self.shared.state().speaks_ids = true;
    }

    /// The metadata does not name this broker from now on, as with a bootstrap address that is no broker's own. It answers
    /// all the same. To be called before there are topics.
    pub fn hide(&self, node: i32) {
        self.shared.state().hidden.insert(node);
    }

    /// Makes another broker the controller, which creates topics.
    pub fn move_controller(&self, node: i32) {
        self.shared.state().controller = node;
    }

    /// Appends a batch as a producer makes it.
    pub fn append(&self, topic: &str, partition: usize, batch: &Bytes) {
        let mut state = self.shared.state();
        state.partition_mut(topic, partition).append(batch);
        drop(state);
        self.shared.appended.notify_waiters();
    }

    /// Moves a partition to another broker; -1: it has no leader.
    pub fn move_leader(&self, topic: &str, partition: usize, node: i32) {
        let mut state = self.shared.state();
        let partition = state.partition_mut(topic, partition);
        partition.leader = node;
        partition.epoch += 1;
    }

    /// From now on `rule` is asked before each answer of this API. First once about the whole answer where that has an error
    /// code (FindCoordinator, InitProducerId, OffsetFetch, Fetch, Metadata) or is about nothing else; then once about each
    /// partition, of CreateTopics and Metadata about each topic. It must not call this cluster.
    pub fn on(&self, api: Api, rule: impl FnMut(&Asked) -> Deed + Send + 'static) {
        self.shared.state().rules.insert(api, Box::new(rule));
    }

    /// All that was asked, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.shared.state().asked.clone()
    }

    /// The batches of a partition.
    pub fn log(&self, topic: &str, partition: usize) -> Vec<Stored> {
        self.shared.state().partition_mut(topic, partition).log.clone()
    }
}

/// The code that is answered: the rule's, or what a broker says that is well.
fn code(deed: Deed, otherwise: i16) -> i16 {
    if deed.code == 0 { otherwise } else { deed.code }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

fn topic_name(name: &str) -> TopicName {
    TopicName(text(name))
}

fn broker_id(node: i32) -> BrokerId {
    BrokerId(node)
}
