//! The session against a model of a broker's: what the broker answers about is what is wanted, in every round, whatever is
//! lost, evicted, refused or throttled in between.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::wire::{Decoder, Encoder, Request, Wire};

const TOPICS: u8 = 3;
const PARTITIONS: i32 = 4;

/// A topic as a broker keys it, by its name or by its id, and a partition.
type Key = (Arc<str>, Uuid, i32);

fn name(topic: u8) -> Arc<str> {
    format!("t{topic}").into()
}

/// A topic's id after it was created so many times.
fn id(topic: u8, created: u8) -> Uuid {
    let mut id = [0; 16];
    (id[0], id[1]) = (topic + 1, created);
    Uuid(id)
}

#[derive(Clone, Copy, Default, PartialEq, Debug)]
struct Log {
    start: i64,
    end: i64,
    error: i16,
}

struct Cached {
    asked: FetchPartition,
    high_watermark: i64,
    log_start: i64,
}

struct Open {
    epoch: i32,
    by_id: bool,
    partitions: BTreeMap<Key, Cached>,
}

/// A broker's side, as KIP-227 and Kafka's FetchSession have it.
struct Broker {
    newest: i16,
    has_room: bool,
    logs: BTreeMap<(u8, i32), Log>,
    created: [u8; TOPICS as usize],
    sessions: BTreeMap<i32, Open>,
    last_id: i32,
}

/// What an answer was made of: each partition and what was asked of it; `None` when nothing was looked at.
type Looked = Option<BTreeMap<Key, FetchPartition>>;

impl Broker {
    fn new(newest: i16) -> Self {
        let logs = (0..TOPICS).flat_map(|t| (0..PARTITIONS).map(move |p| ((t, p), Log::default())));
        let (sessions, created) = (BTreeMap::new(), [0; TOPICS as usize]);
        Self { newest, has_room: true, logs: logs.collect(), created, sessions, last_id: 0 }
    }

    fn log(&self, (topic, topic_id, partition): &Key) -> Option<Log> {
        let is = |t: &u8| if topic_id.is_zero() { name(*t) == *topic } else { self.id(*t) == *topic_id };
        self.logs.get(&((0..TOPICS).find(is)?, *partition)).copied()
    }

    fn id(&self, topic: u8) -> Uuid {
        id(topic, self.created[usize::from(topic)])
    }

    /// Answers, over the wire in the newest version both speak.
    fn answer(&mut self, request: &FetchRequest, throttle: bool) -> (FetchResponse, Looked) {
        let v = FetchRequest::version(self.newest.min(request.up_to()));
        let mut out = Encoder::new();
        request.write(&mut out, v);
        let request = FetchRequest::read(&mut Decoder::new(out.into_bytes()), v).unwrap();
        let (answer, looked) = self.carry_out(&request, v.number >= 13, throttle);
        let mut out = Encoder::new();
        answer.write(&mut out, v);
        (FetchResponse::read(&mut Decoder::new(out.into_bytes()), v).unwrap(), looked)
    }

    fn carry_out(&mut self, request: &FetchRequest, by_id: bool, throttle: bool) -> (FetchResponse, Looked) {
        let named = request.topics.iter().flat_map(|topic| {
            let key = |p: &FetchPartition| (Arc::clone(&topic.topic), topic.topic_id, p.partition);
            topic.partitions.iter().map(move |p| (key(p), p.clone()))
        });
        let named: Vec<(Key, FetchPartition)> = named.collect();
        let throttled =
            |session_id| (FetchResponse { session_id, throttle_time_ms: 5, ..Default::default() }, None);
        let refuse = |code: ErrorCode| (FetchResponse { error_code: code.0, ..Default::default() }, None);
        if request.session_epoch <= 0 {
            self.sessions.remove(&request.session_id);
            if throttle {
                return throttled(0);
            }
            let cached = |asked| Cached { asked, high_watermark: -1, log_start: -1 };
            let mut partitions = named.into_iter().map(|(key, asked)| (key, cached(asked))).collect();
            let (mut answer, looked) = self.look(&mut partitions, true);
            if request.session_epoch == 0 && self.has_room {
                self.last_id += 1;
                answer.session_id = self.last_id;
                self.sessions.insert(self.last_id, Open { epoch: 1, by_id, partitions });
            }
            return (answer, looked);
        }
        let Some(mut open) = self.sessions.remove(&request.session_id) else {
            return refuse(ErrorCode::FETCH_SESSION_ID_NOT_FOUND);
        };
        if open.epoch != request.session_epoch || open.by_id != by_id {
            let is_late = open.epoch != request.session_epoch;
            self.sessions.insert(request.session_id, open);
            return refuse(match is_late {
                true => ErrorCode::INVALID_FETCH_SESSION_EPOCH,
                false => ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR,
            });
        }
        for (key, asked) in named {
            let new = || Cached { asked: asked.clone(), high_watermark: -1, log_start: -1 };
            open.partitions.entry(key).or_insert_with(new).asked = asked.clone();
        }
        for topic in &request.forgotten_topics_data {
            for partition in &topic.partitions {
                open.partitions.remove(&(Arc::clone(&topic.topic), topic.topic_id, *partition));
            }
        }
        open.epoch = if open.epoch == i32::MAX { 1 } else { open.epoch + 1 };
        let (mut answer, looked) = match throttle {
            true => throttled(0),
            false => self.look(&mut open.partitions, false),
        };
        if !open.partitions.is_empty() {
            answer.session_id = request.session_id;
            self.sessions.insert(request.session_id, open);
        }
        (answer, looked)
    }

    fn look(&self, partitions: &mut BTreeMap<Key, Cached>, is_full: bool) -> (FetchResponse, Looked) {
        let mut responses = Vec::new();
        let looked = partitions.iter().map(|(key, cached)| (key.clone(), cached.asked.clone())).collect();
        for (key, cached) in partitions {
            let unknown = Log { start: -1, end: -1, error: ErrorCode::UNKNOWN_TOPIC_ID.0 };
            let mut log = self.log(key).unwrap_or(unknown);
            if log.error != 0 {
                (log.start, log.end) = (-1, -1);
            }
            let records = log.end > cached.asked.fetch_offset && cached.asked.partition_max_bytes > 1;
            let is_same = log.error == 0
                && !records
                && (log.start, log.end) == (cached.log_start, cached.high_watermark);
            (cached.log_start, cached.high_watermark) = (log.start, log.end);
            if is_full || !is_same {
                let data = PartitionData {
                    partition_index: key.2,
                    error_code: log.error,
                    high_watermark: log.end,
                    last_stable_offset: log.end,
                    log_start_offset: log.start,
                    records: records.then(|| Bytes::from_static(b"records")),
                    ..Default::default()
                };
                let (topic, topic_id) = (Arc::clone(&key.0), key.1);
                responses.push(FetchableTopicResponse { topic, topic_id, partitions: vec![data] });
            }
        }
        (FetchResponse { responses, ..Default::default() }, Some(looked))
    }
}

/// What happens between two polls.
#[derive(Debug, Clone)]
enum Change {
    /// A partition is wanted from a position, with so many bytes, under a leader epoch.
    Want(u8, i32, i64, i32, i32),
    NotWanted(u8, i32),
    Append(u8, i32),
    Delete(u8, i32),
    /// A partition begins to answer with an error, or ends to.
    Fail(u8, i32),
    /// A topic is created again; the asker does not know yet.
    Recreate(u8),
    /// The asker learns a topic's id, or that brokers have none.
    Learn(u8, bool),
    /// The broker has room for new sessions, or has not.
    Room(bool),
    /// It drops all sessions.
    Evict,
}

/// What becomes of a poll.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fate {
    Answered,
    Unsent,
    AnswerLost,
    Throttled,
    Refused(ErrorCode),
}

fn change() -> impl Strategy<Value = Change> {
    let place = || (0..TOPICS, 0..PARTITIONS);
    prop_oneof![
        6 => (place(), 0..6i64, 1..3i32, 0..2i32).prop_map(|((t, p), at, bytes, epoch)| Change::Want(t, p, at, bytes, epoch)),
        3 => place().prop_map(|(t, p)| Change::NotWanted(t, p)),
        6 => place().prop_map(|(t, p)| Change::Append(t, p)),
        2 => place().prop_map(|(t, p)| Change::Delete(t, p)),
        1 => place().prop_map(|(t, p)| Change::Fail(t, p)),
        1 => (0..TOPICS).prop_map(Change::Recreate),
        1 => (0..TOPICS, prop::bool::weighted(0.9)).prop_map(|(t, has)| Change::Learn(t, has)),
        1 => prop::bool::weighted(0.8).prop_map(Change::Room),
        1 => Just(Change::Evict),
    ]
}

fn fate() -> impl Strategy<Value = Fate> {
    let refused = prop_oneof![
        Just(ErrorCode::INVALID_FETCH_SESSION_EPOCH),
        Just(ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR),
        Just(ErrorCode::UNKNOWN_SERVER_ERROR),
    ];
    prop_oneof![
        16 => Just(Fate::Answered),
        1 => Just(Fate::Unsent),
        1 => Just(Fate::AnswerLost),
        2 => Just(Fate::Throttled),
        1 => refused.prop_map(Fate::Refused),
    ]
}

/// The asker, and what it has heard.
struct Asker {
    session: Session,
    wanted: BTreeMap<(u8, i32), FetchPartition>,
    ids: [Uuid; TOPICS as usize],
    /// What was said last of a partition, and to which question.
    heard: BTreeMap<(u8, i32), (FetchPartition, Log)>,
    /// What the broker knows of, as long as every request is answered.
    known: Option<BTreeMap<(u8, i32), FetchPartition>>,
    incremental: u32,
}

impl Asker {
    fn all(&self) -> FetchRequest {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for ((t, _), asked) in &self.wanted {
            let topic = name(*t);
            match topics.last_mut().filter(|last| last.topic == topic) {
                Some(last) => last.partitions.push(asked.clone()),
                None => topics.push(FetchTopic {
                    topic,
                    topic_id: self.ids[usize::from(*t)],
                    partitions: vec![asked.clone()],
                }),
            }
        }
        FetchRequest { topics, ..Default::default() }
    }

    fn apply(&mut self, broker: &mut Broker, change: &Change) {
        match *change {
            Change::Want(t, p, at, bytes, epoch) => {
                let asked = FetchPartition {
                    partition: p,
                    fetch_offset: at,
                    partition_max_bytes: bytes,
                    current_leader_epoch: epoch,
                    ..Default::default()
                };
                self.wanted.insert((t, p), asked);
            }
            Change::NotWanted(t, p) => {
                self.wanted.remove(&(t, p));
            }
            Change::Append(t, p) => broker.logs.get_mut(&(t, p)).unwrap().end += 1,
            Change::Delete(t, p) => {
                let log = broker.logs.get_mut(&(t, p)).unwrap();
                log.start = log.end.min(log.start + 1);
            }
            Change::Fail(t, p) => broker.logs.get_mut(&(t, p)).unwrap().error ^= 6,
            Change::Recreate(t) => {
                broker.created[usize::from(t)] += 1;
                (0..PARTITIONS).for_each(|p| _ = broker.logs.insert((t, p), Log::default()));
            }
            Change::Learn(t, has_ids) => {
                self.ids[usize::from(t)] = if has_ids { broker.id(t) } else { Uuid::default() };
            }
            Change::Room(has_room) => broker.has_room = has_room,
            Change::Evict => broker.sessions.clear(),
        }
    }

    /// One poll, and a second one when the session has to begin again.
    fn poll(&mut self, broker: &mut Broker, fate: Fate) {
        let all = self.all();
        if all.topics.is_empty() {
            return;
        }
        self.heard.retain(|place, _| self.wanted.contains_key(place));
        let request = self.session.next(&all);
        let is_full = request.session_epoch == 0;
        self.check_request(&request);
        self.known = None;
        let (answer, looked) = match fate {
            Fate::Answered => broker.answer(&request, false),
            Fate::Throttled => broker.answer(&request, true),
            Fate::Refused(code) => (FetchResponse { error_code: code.0, ..Default::default() }, None),
            Fate::Unsent | Fate::AnswerLost => {
                if fate == Fate::AnswerLost {
                    broker.answer(&request, false);
                }
                self.session.lost();
                return;
            }
        };
        if let Some(looked) = &looked {
            self.check_looked(looked);
        }
        let is_refused = answer.error_code != 0;
        let is_evicted = answer.error_code == ErrorCode::FETCH_SESSION_ID_NOT_FOUND.0;
        assert!(!is_refused || is_evicted || matches!(fate, Fate::Refused(_)), "{}", answer.error_code);
        let Some(answer) = self.session.answered(answer) else {
            assert!(!is_full, "a full fetch begins again");
            assert!(is_refused, "begins again without a reason");
            // The next one is a full fetch; it comes at once.
            return self.poll(broker, Fate::Answered);
        };
        assert_eq!(is_full || is_refused, matches!(answer, Answer::All(_)));
        if is_refused {
            return;
        }
        self.known = Some(self.wanted.clone());
        self.hear(&answer);
        if looked.is_some() {
            self.check_heard(broker);
        }
    }

    /// Nothing is named that the broker knows, and nothing kept that is not wanted.
    fn check_request(&mut self, request: &FetchRequest) {
        let named = request.topics.iter().flat_map(|t| t.partitions.iter().map(|p| (&t.topic, p.partition)));
        let named: Vec<_> = named.map(|(topic, p)| (Arc::clone(topic), p)).collect();
        let once: BTreeSet<_> = named.iter().cloned().collect();
        assert_eq!(once.len(), named.len(), "named twice: {named:?}");
        if request.session_epoch == 0 {
            assert_eq!(named.len(), self.wanted.len());
            assert!(request.forgotten_topics_data.is_empty());
            return;
        }
        self.incremental += 1;
        let known = self.known.as_ref().expect("a session goes on only from an answer");
        let is_changed = |(place, asked): &(&(u8, i32), &FetchPartition)| known.get(place) != Some(*asked);
        let mut changed: BTreeSet<_> =
            self.wanted.iter().filter(is_changed).map(|((t, p), _)| (name(*t), *p)).collect();
        if request.topics.iter().any(|topic| topic.topic_id.is_zero()) {
            // One may be there for its topic's sake.
            let extra: Vec<_> = once.difference(&changed).cloned().collect();
            assert!(extra.len() <= 1, "{extra:?}");
            changed.extend(extra);
        }
        assert_eq!(once, changed);
        let gone = known.keys().filter(|place| !self.wanted.contains_key(place)).count();
        let forgotten = &request.forgotten_topics_data;
        assert_eq!(forgotten.iter().map(|topic| topic.partitions.len()).sum::<usize>(), gone);
    }

    /// What the broker has looked at is what is wanted.
    fn check_looked(&self, looked: &BTreeMap<Key, FetchPartition>) {
        let by_id = looked.keys().any(|(_, id, _)| !id.is_zero());
        let key = |t: u8, p: i32| match by_id {
            true => (Arc::default(), self.ids[usize::from(t)], p),
            false => (name(t), Uuid::default(), p),
        };
        let wanted = self.wanted.iter().map(|((t, p), asked)| (key(*t, *p), asked.clone()));
        assert_eq!(*looked, wanted.collect::<BTreeMap<_, _>>());
    }

    fn hear(&mut self, answer: &Answer) {
        let (Answer::All(answer) | Answer::News(answer)) = answer;
        let mut met = BTreeSet::new();
        for topic in &answer.responses {
            let t = match topic.topic.is_empty() {
                true => self.ids.iter().position(|id| *id == topic.topic_id).unwrap() as u8,
                false => (0..TOPICS).find(|t| name(*t) == topic.topic).unwrap(),
            };
            for data in &topic.partitions {
                let place = (t, data.partition_index);
                assert!(met.insert(place), "told twice: {place:?}");
                let (start, end, error) = (data.log_start_offset, data.high_watermark, data.error_code);
                self.heard.insert(place, (self.wanted[&place].clone(), Log { start, end, error }));
            }
        }
        for (t, p) in self.wanted.keys() {
            assert_eq!(self.session.has_news(&name(*t), *p), met.contains(&(*t, *p)), "t{t}-{p}");
        }
    }

    /// What was heard last of each partition is true, and to the question as it is now.
    fn check_heard(&self, broker: &Broker) {
        for ((t, p), asked) in &self.wanted {
            let (question, heard) = &self.heard[&(*t, *p)];
            if heard.error == 0 {
                assert_eq!((question, *heard), (asked, broker.logs[&(*t, *p)]), "t{t}-{p}");
            }
        }
    }
}

fn run(newest: i16, steps: &[(Vec<Change>, Fate)]) -> Asker {
    let mut broker = Broker::new(newest);
    let mut asker = Asker {
        session: Session::default(),
        wanted: BTreeMap::new(),
        ids: [0, 1, 2].map(|t| broker.id(t)),
        heard: BTreeMap::new(),
        known: None,
        incremental: 0,
    };
    for (changes, fate) in steps {
        changes.iter().for_each(|change| asker.apply(&mut broker, change));
        asker.poll(&mut broker, *fate);
    }
    if let Some(request) = asker.session.close() {
        let id = request.session_id;
        broker.answer(&request, false);
        assert!(!broker.sessions.contains_key(&id), "closed");
    }
    asker
}

proptest! {
    #[test]
    fn the_broker_looks_at_what_is_wanted_and_the_asker_hears_what_is_true(
        newest in prop::sample::select(vec![9, 11, 12, 13, 18]),
        steps in prop::collection::vec((prop::collection::vec(change(), 0..4), fate()), 1..60),
    ) {
        run(newest, &steps);
    }
}

fn want_all() -> Vec<Change> {
    (0..TOPICS).flat_map(|t| (0..PARTITIONS).map(move |p| Change::Want(t, p, 0, 2, 0))).collect()
}

#[test]
fn a_session_goes_on_while_all_is_well() {
    let mut steps = vec![(want_all(), Fate::Answered)];
    steps.extend((0..20).map(|i| (vec![Change::Append(i % TOPICS, 1)], Fate::Answered)));
    for newest in [9, 12, 13, 18] {
        assert_eq!(run(newest, &steps).incremental, 20, "version {newest}");
    }
}

/// Without ids too, where the version depends on what the request names.
#[test]
fn a_session_by_name_goes_on_with_a_broker_that_knows_ids() {
    let mut steps = vec![(want_all(), Fate::Answered)];
    steps[0].0.push(Change::Learn(1, false));
    steps.extend((0..20).map(|i| (vec![Change::Want(2, 1, i, 2, 0)], Fate::Answered)));
    assert_eq!(run(18, &steps).incremental, 20);
}

#[test]
fn after_the_last_epoch_comes_the_first() {
    let mut broker = Broker::new(18);
    let asked = FetchPartition { partition: 1, partition_max_bytes: 9, ..Default::default() };
    let topics = vec![FetchTopic { topic: name(0), topic_id: broker.id(0), partitions: vec![asked] }];
    let all = FetchRequest { topics, ..Default::default() };
    let mut session = Session::default();
    let poll = |session: &mut Session, broker: &mut Broker| {
        let request = session.next(&all);
        let (answer, _) = broker.answer(&request, false);
        (request.session_epoch, session.answered(answer).is_some())
    };
    assert_eq!(poll(&mut session, &mut broker), (0, true));
    (session.epoch, broker.sessions.get_mut(&1).unwrap().epoch) = (i32::MAX - 1, i32::MAX - 1);
    for epoch in [i32::MAX - 1, i32::MAX, 1, 2] {
        assert_eq!(poll(&mut session, &mut broker), (epoch, true));
    }
}

/// A broker that answers about what is not in the session is believed, and the session begins again.
#[test]
fn an_answer_about_a_stranger_ends_the_session() {
    let mut broker = Broker::new(11);
    let asked = FetchPartition { partition: 1, partition_max_bytes: 9, ..Default::default() };
    let topics = vec![FetchTopic { topic: name(0), partitions: vec![asked], ..Default::default() }];
    let all = FetchRequest { topics, ..Default::default() };
    let mut session = Session::default();
    for stranger in [false, false, true] {
        let request = session.next(&all);
        let (mut answer, _) = broker.answer(&request, false);
        if stranger {
            let partitions = vec![PartitionData { partition_index: 7, ..Default::default() }];
            let topic = FetchableTopicResponse { topic: name(0), partitions, ..Default::default() };
            answer.responses.push(topic);
        }
        assert!(session.answered(answer).is_some());
    }
    let request = session.next(&all);
    assert_eq!((request.session_id, request.session_epoch), (1, 0), "the old one is named, and dropped");
}

#[test]
fn a_session_that_a_broker_closes_is_not_named_again() {
    let mut session = Session::default();
    let asked = FetchPartition { partition: 1, ..Default::default() };
    let topics = vec![FetchTopic { topic: name(0), partitions: vec![asked], ..Default::default() }];
    let all = FetchRequest { topics, ..Default::default() };
    let told = FetchableTopicResponse {
        topic: name(0),
        partitions: vec![PartitionData { partition_index: 1, ..Default::default() }],
        ..Default::default()
    };
    let poll = |session: &mut Session, session_id, responses| {
        let request = session.next(&all);
        session.answered(FetchResponse { session_id, responses, ..Default::default() }).unwrap();
        (request.session_id, request.session_epoch)
    };
    assert_eq!(poll(&mut session, 5, vec![told.clone()]), (0, 0));
    assert_eq!(poll(&mut session, 0, vec![]), (5, 1));
    assert_eq!(poll(&mut session, 0, vec![told.clone()]), (0, 0));
    assert!(session.close().is_none());
    assert_eq!(poll(&mut session, 6, vec![told]), (0, 0));
    let farewell = session.close().unwrap();
    assert_eq!((farewell.session_id, farewell.session_epoch), (6, -1));
}
