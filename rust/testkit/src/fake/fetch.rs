//! Fetch: the batches of logs, with sessions or without (KIP-227). A request that finds nothing waits until something comes, or its
//! time is over; what it said about error codes it has said then.
//!
//! A request of a session is about all partitions of it: the rule is asked for each, named or not. When it is asked about the whole
//! answer of one, the partition is the number of partitions that are named, and the offset the session's epoch (-1 ends it).

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::BytesMut;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::fetch_response::{FetchableTopicResponse, PartitionData};
use kafka_protocol::messages::{FetchRequest, FetchResponse, TopicName};
use tokio::time::{Instant, sleep_until};
use uuid::Uuid;

use super::serve::{Answer, throttle};
use super::{About, Call, Deed, Shared, State, code};

const OFFSET_OUT_OF_RANGE: i16 = 1;
const FETCH_SESSION_ID_NOT_FOUND: i16 = 70;
const INVALID_FETCH_SESSION_EPOCH: i16 = 71;

/// The fetch sessions of a broker, by their ids.
#[derive(Default)]
pub(super) struct Sessions(Mutex<(i32, HashMap<i32, Session>)>);

#[derive(Default)]
struct Session {
    /// Of the next request.
    epoch: i32,
    partitions: Vec<Cached>,
}

/// What names a topic: its name or, in versions with ids, its id; the other one is empty.
type Key = (TopicName, Uuid);

/// A partition of a session, and the high watermark that was said last; -1 when none was, or an error.
struct Cached {
    topic: Key,
    asked: FetchPartition,
    told: i64,
}

pub(super) async fn answer(
    shared: &Shared,
    sessions: &Sessions,
    call: Call,
    request: &FetchRequest,
) -> Answer {
    let mut whole = About::WHOLE;
    if request.session_epoch >= 0 || request.session_id != 0 {
        whole.partition = request.topics.iter().map(|topic| topic.partitions.len()).sum::<usize>() as i32;
        whole.offset = request.session_epoch.into();
    }
    let mut deeds = vec![shared.state().ask(call, whole)];
    let entered = if deeds[0].code == 0 { sessions.enter(request) } else { Err(deeds[0].code) };
    let topics = match entered {
        Ok(topics) => topics,
        Err(code) => return Answer::new(&FetchResponse::default().with_error_code(code), call, &deeds),
    };
    {
        let mut state = shared.state();
        for topic in &topics {
            let name = state.called(call, &topic.topic, topic.topic_id);
            for asked in &topic.partitions {
                let about = About::partition(&name, asked.partition);
                deeds.push(state.ask(call, About { offset: asked.fetch_offset, ..about }));
            }
        }
    }
    let until = Instant::now() + Duration::from_millis(request.max_wait_ms.max(0) as u64);
    let mut over = pin!(sleep_until(until));
    loop {
        let appended = shared.appended.notified();
        let (mut response, is_worth_it) = look(shared, call, &topics, &deeds[1..]);
        if is_worth_it || over.is_elapsed() {
            sessions.leave(request, &topics, &mut response);
            response.throttle_time_ms = throttle(&deeds);
            return Answer::new(&response, call, &deeds);
        }
        tokio::select! {
            () = appended => {}
            () = &mut over => {}
        }
    }
}

impl Sessions {
    /// Does with a session what a request says, and says what that is about; or the code to refuse it with.
    fn enter(&self, request: &FetchRequest) -> Result<Vec<FetchTopic>, i16> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if request.session_epoch <= 0 {
            sessions.1.remove(&request.session_id);
            return Ok(request.topics.clone());
        }
        let session = sessions.1.get_mut(&request.session_id).ok_or(FETCH_SESSION_ID_NOT_FOUND)?;
        if session.epoch != request.session_epoch {
            return Err(INVALID_FETCH_SESSION_EPOCH);
        }
        session.epoch += 1;
        for topic in &request.topics {
            for asked in &topic.partitions {
                session.take(&(topic.topic.clone(), topic.topic_id), asked, -1);
            }
        }
        for gone in &request.forgotten_topics_data {
            let topic = (gone.topic.clone(), gone.topic_id);
            let is_gone = |c: &Cached| c.topic == topic && gone.partitions.contains(&c.asked.partition);
            session.partitions.retain(|cached| !is_gone(cached));
        }
        Ok(session.whole())
    }

    /// Begins a session, or leaves out of its answer what has no news.
    fn leave(&self, request: &FetchRequest, whole: &[FetchTopic], response: &mut FetchResponse) {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if request.session_epoch < 0 {
            return;
        }
        if request.session_epoch == 0 {
            let mut session = Session { epoch: 1, ..Session::default() };
            for (topic, said) in whole.iter().zip(&response.responses) {
                for (asked, data) in topic.partitions.iter().zip(&said.partitions) {
                    session.take(&(topic.topic.clone(), topic.topic_id), asked, data.high_watermark);
                }
            }
            sessions.0 += 1;
            response.session_id = sessions.0;
            sessions.1.insert(response.session_id, session);
            return;
        }
        // Another connection may have ended it meanwhile.
        let Some(session) = sessions.1.get_mut(&request.session_id) else { return };
        response.session_id = request.session_id;
        for topic in &mut response.responses {
            let key = (topic.topic.clone(), topic.topic_id);
            topic.partitions.retain(|data| session.is_news(&key, data));
        }
        response.responses.retain(|topic| !topic.partitions.is_empty());
    }
}

impl Session {
    /// Takes a partition in, or how it is asked for from now on.
    fn take(&mut self, topic: &Key, asked: &FetchPartition, told: i64) {
        match self.partitions.iter_mut().find(|c| c.topic == *topic && c.asked.partition == asked.partition) {
            Some(cached) => cached.asked = asked.clone(),
            None => {
                let (topic, asked) = (topic.clone(), asked.clone());
                self.partitions.push(Cached { topic, asked, told });
            }
        }
    }

    fn whole(&self) -> Vec<FetchTopic> {
        let mut topics: Vec<FetchTopic> = Vec::new();
        for cached in &self.partitions {
            let (name, id) = &cached.topic;
            match topics.iter_mut().find(|topic| topic.topic == *name && topic.topic_id == *id) {
                Some(topic) => topic.partitions.push(cached.asked.clone()),
                None => {
                    let topic = FetchTopic::default().with_topic(name.clone()).with_topic_id(*id);
                    topics.push(topic.with_partitions(vec![cached.asked.clone()]));
                }
            }
        }
        topics
    }

    fn is_news(&mut self, topic: &Key, data: &PartitionData) -> bool {
        let of = |c: &&mut Cached| c.topic == *topic && c.asked.partition == data.partition_index;
        let Some(cached) = self.partitions.iter_mut().find(of) else { return true };
        let is_same = cached.told == data.high_watermark;
        cached.told = data.high_watermark;
        !is_same || data.error_code != 0 || data.records.as_ref().is_some_and(|records| !records.is_empty())
    }
}

/// What there is now, and whether it is worth an answer: records, or an error.
fn look(shared: &Shared, call: Call, asked_for: &[FetchTopic], deeds: &[Deed]) -> (FetchResponse, bool) {
    let state = shared.state();
    let (mut topics, mut is_worth_it) = (Vec::new(), false);
    let mut deeds_left = deeds.iter();
    for topic in asked_for {
        let name = state.called(call, &topic.topic, topic.topic_id);
        let mut partitions = Vec::new();
        for asked in &topic.partitions {
            let deed = deeds_left.next().expect("there is one for each partition");
            let code = code(*deed, unreadable(&state, call.node, &name, asked));
            let mut data =
                PartitionData::default().with_partition_index(asked.partition).with_error_code(code);
            data.high_watermark = -1;
            data.records = Some(BytesMut::new().freeze());
            if let Some(partition) = state.partition(&name, asked.partition).filter(|_| code == 0) {
                let most = usize::try_from(asked.partition_max_bytes).unwrap_or(0);
                let mut records = BytesMut::new();
                for batch in partition.log.iter().filter(|batch| batch.end() > asked.fetch_offset) {
                    // The first one comes however large it is.
                    if !records.is_empty() && records.len() + batch.bytes.len() > most {
                        break;
                    }
                    records.extend_from_slice(&batch.bytes);
                }
                (data.high_watermark, data.log_start_offset) = (partition.end(), 0);
                data.last_stable_offset = partition.end();
                data.records = Some(records.freeze());
            }
            is_worth_it |= code != 0 || data.records.as_ref().is_some_and(|records| !records.is_empty());
            partitions.push(data);
        }
        let topic =
            FetchableTopicResponse::default().with_topic(topic.topic.clone()).with_topic_id(topic.topic_id);
        topics.push(topic.with_partitions(partitions));
    }
    let response = FetchResponse::default().with_responses(topics);
    (response, is_worth_it || deeds.is_empty())
}

/// The code that a broker answers which is not asked to fail.
fn unreadable(state: &State, node: i32, topic: &str, asked: &FetchPartition) -> i16 {
    let is_behind_the_end =
        state.partition(topic, asked.partition).is_some_and(|log| asked.fetch_offset > log.end());
    match state.misdirected(node, topic, asked.partition) {
        0 if is_behind_the_end => OFFSET_OUT_OF_RANGE,
        code => code,
    }
}
