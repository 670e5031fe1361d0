//! Requests on their way: connections that keep their order, and break.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::super::request;
use super::super::sender::{self, Flight};
use super::super::settle::settle;
use super::brokers::Written;
use super::*;
use crate::config::BrokerAddress;
use crate::net::{CallError, CloseReason, ConnectError};
use crate::wire::messages::{
    LeaderIdAndEpoch, PartitionProduceResponse, ProduceResponse, TopicProduceResponse,
};
use crate::wire::{ApiKey, ErrorCode, Uuid};

/// The way to one broker.
#[derive(Default)]
pub(super) struct Line {
    /// Counts the connections.
    connection: u64,
    /// When the last request arrives, and the last answer: nothing overtakes on a connection.
    arrives: u64,
    answers: u64,
    /// Whether its sender has begun.
    pub(super) sending: bool,
    /// Requests without an end.
    pub(super) on_the_way: usize,
}

/// One request.
pub(super) struct Request {
    node: i32,
    connection: u64,
    /// The client's side; gone once it has ended there.
    pub(super) flights: Option<Vec<Flight>>,
    /// What arrives: by partition, the bytes as they were when they left.
    body: Vec<(usize, Bytes)>,
    /// Never arrives.
    lost: bool,
    /// What became of each, and under which leader epoch.
    outcomes: Vec<(usize, i32, Result<Written, ErrorCode>)>,
}

/// Codes that mean "not now": whether the batch was written all the same is another question.
const NOT_NOW: [ErrorCode; 5] = [
    ErrorCode::NOT_ENOUGH_REPLICAS,
    ErrorCode::NOT_LEADER_OR_FOLLOWER,
    ErrorCode::UNKNOWN_TOPIC_OR_PARTITION,
    ErrorCode::CORRUPT_MESSAGE,
    ErrorCode::LEADER_NOT_AVAILABLE,
];
/// What may be said of a batch that was written.
const WRITTEN_BUT: [ErrorCode; 2] = [ErrorCode::REQUEST_TIMED_OUT, ErrorCode::UNKNOWN_SERVER_ERROR];
/// The same where the leader waits for its followers.
const WRITTEN_BUT_ALONE: [ErrorCode; 3] = [
    ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND,
    ErrorCode::KAFKA_STORAGE_ERROR,
    ErrorCode::NOT_LEADER_OR_FOLLOWER,
];

impl Sim {
    pub(super) fn line(&mut self, node: i32) -> &mut Line {
        self.lines.get_mut(&node).expect("every node has a line")
    }

    /// A sender hands a request over.
    pub(super) fn launch(&mut self, node: i32, mut flights: Vec<Flight>) {
        let prepared = poll_once(request::prepare(&self.shared, &mut flights));
        let prepared = prepared.expect("small batches are compressed at once");
        self.next += 1;
        let id = self.next;
        self.line(node).on_the_way += 1;
        let connection = self.line(node).connection;
        let reached = !self.down.contains(&node);
        let mut body = Vec::new();
        if reached {
            request::leaves(&mut flights);
            let parts = prepared.topic_data.iter().flat_map(|topic| &topic.partition_data);
            let copy = |bytes: &Option<Bytes>| Bytes::copy_from_slice(bytes.as_ref().expect("records"));
            body = parts.map(|part| (part.index as usize, copy(&part.records))).collect();
        }
        let (flights, outcomes) = (Some(flights), Vec::new());
        self.requests.insert(id, Request { node, connection, flights, body, lost: false, outcomes });
        self.check_window();
        if !reached {
            let wait = self.dice.roll(50 * MS);
            return self.after(wait, Event::Unreachable(id));
        }
        let way = if self.plan.faults { self.dice.pick(&[100, 2 * MS, 40 * MS]) } else { 300 };
        let arrives = self.line(node).arrives.max(self.now + way);
        self.line(node).arrives = arrives;
        self.at(arrives, Event::Arrive(id));
        self.after(REQUEST_TIMEOUT, Event::TimeOut(id));
        if self.plan.faults && self.dice.one_in(self.plan.cuts) {
            let soon = self.dice.roll(way + 5 * MS);
            self.after(soon, Event::Cut(node));
        }
    }

    /// The broker carries a request out.
    pub(super) fn arrive(&mut self, id: u64) {
        let request = self.requests.remove(&id).expect("a request arrives once");
        if request.lost {
            return;
        }
        let mut request = request;
        for (partition, bytes) in std::mem::take(&mut request.body) {
            let late = request.flights.is_none();
            let result = self.carry_out(request.node, partition, &bytes, late);
            self.say(|| {
                format!("  {id} at {}: {partition} {} -> {result:?}", request.node, brokers::describe(&bytes))
            });
            request.outcomes.push((partition, self.logs[partition].epoch, result));
        }
        if request.flights.is_none() {
            // Nobody waits for the answer.
            return self.count("arrived late");
        }
        let slow = self.plan.faults && self.dice.one_in(60);
        let takes = if slow { REQUEST_TIMEOUT * 2 } else { self.dice.roll(5 * MS) + 1 };
        let answers = self.line(request.node).answers.max(self.now + takes);
        self.line(request.node).answers = answers;
        self.requests.insert(id, request);
        self.at(answers, Event::Answer(id));
    }

    fn carry_out(
        &mut self,
        node: i32,
        partition: usize,
        bytes: &Bytes,
        late: bool,
    ) -> Result<Written, ErrorCode> {
        let trouble = self.plan.faults && self.dice.one_in(self.plan.refusals);
        let (limit, old, all) = (self.plan.limit, self.plan.old, self.plan.acks == Acks::All);
        let refusal = self.dice.pick(&NOT_NOW);
        let log = &mut self.logs[partition];
        if log.leader != node {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
        }
        if log.denied {
            self.count("denied");
            return Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
        }
        if bytes.len() > limit {
            self.count("too large");
            return Err(ErrorCode::MESSAGE_TOO_LARGE);
        }
        if trouble && self.dice.one_in(2) {
            self.count("refused for now");
            return Err(refusal);
        }
        let written = self.logs[partition].append(bytes, old, late).inspect_err(|code| {
            let what = match *code {
                ErrorCode::UNKNOWN_PRODUCER_ID => "unknown producer",
                ErrorCode::INVALID_PRODUCER_EPOCH => "old epoch",
                _ => "out of order",
            };
            *self.seen.entry(what).or_default() += 1;
        })?;
        if written.again {
            self.count("recognized");
        }
        if self.logs[partition].raised_epoch() {
            self.count("renumbered");
        }
        if !all {
            self.acknowledge(partition, written);
        }
        if trouble {
            self.count("written and refused");
            let alone = all && self.dice.one_in(2);
            return Err(if alone {
                self.dice.pick(&WRITTEN_BUT_ALONE)
            } else {
                self.dice.pick(&WRITTEN_BUT)
            });
        }
        Ok(written)
    }

    fn acknowledge(&mut self, partition: usize, written: Written) {
        let log = &mut self.logs[partition];
        log.acknowledged = log.acknowledged.max(written.offset + written.count);
    }

    /// The answer arrives, if its connection still stands.
    pub(super) fn answer(&mut self, id: u64) {
        let Some(mut request) = self.requests.remove(&id) else { return };
        let Some(flights) = request.flights.take() else { return };
        if self.plan.acks == Acks::None {
            return self.end(request.node, flights, Ok(None));
        }
        let mut parts = Vec::new();
        for (partition, epoch, result) in request.outcomes {
            if self.plan.faults && self.dice.one_in(300) {
                self.count("left out");
                continue;
            }
            parts.push(self.part(partition, epoch, result));
        }
        let by_id = self.shared.cluster.cached_topic(TOPIC).map_or(Uuid::default(), |meta| meta.id);
        let name = if by_id.is_zero() { TOPIC.into() } else { "".into() };
        let topic = TopicProduceResponse { name, topic_id: by_id, partition_responses: parts };
        let answer = ProduceResponse { responses: vec![topic], ..ProduceResponse::default() };
        self.end(request.node, flights, Ok(Some(answer)));
    }

    /// One partition's part of an answer. With acks=all it is given when the followers have the batch.
    fn part(
        &mut self,
        partition: usize,
        epoch: i32,
        result: Result<Written, ErrorCode>,
    ) -> PartitionProduceResponse {
        let deposed = self.plan.acks == Acks::All && self.logs[partition].epoch != epoch;
        let result = if deposed { Err(ErrorCode::NOT_LEADER_OR_FOLLOWER) } else { result };
        let mut part = PartitionProduceResponse { index: partition as i32, ..Default::default() };
        match result {
            Ok(written) => {
                self.acknowledge(partition, written);
                part.base_offset = written.offset as i64;
                if written.again && self.dice.one_in(3) {
                    part.error_code = ErrorCode::DUPLICATE_SEQUENCE_NUMBER.0;
                    part.base_offset = -1;
                }
            }
            Err(code) => {
                part.error_code = code.0;
                part.base_offset = -1;
                if code == ErrorCode::NOT_LEADER_OR_FOLLOWER && self.dice.one_in(2) {
                    let log = &self.logs[partition];
                    part.current_leader = LeaderIdAndEpoch { leader_id: log.leader, leader_epoch: log.epoch };
                }
            }
        }
        part
    }

    /// A request has ended on the client's side.
    fn end(&mut self, node: i32, flights: Vec<Flight>, result: Result<Option<ProduceResponse>, CallError>) {
        let broker = self.shared.known_broker(node).expect("its sender sent this");
        settle(&self.shared, &broker, flights, result);
        sender::requests_ended(&self.shared, &broker, 1);
        self.line(node).on_the_way -= 1;
        self.stirred.insert(node);
    }

    pub(super) fn unreachable(&mut self, id: u64) {
        let Some(mut request) = self.requests.remove(&id) else { return };
        let Some(flights) = request.flights.take() else { return };
        let error =
            Arc::new(ConnectError::Refused { address: BrokerAddress::new("broker", request.node as u16) });
        let wait = Duration::from_millis(self.dice.roll(1_000));
        let error = match self.dice.one_in(2) {
            true => CallError::BackOff { retry_after: wait, error },
            false => CallError::Connect(error),
        };
        self.count("unreachable");
        self.end(request.node, flights, Err(error));
    }

    /// The client has waited long enough: it closes the connection.
    pub(super) fn time_out(&mut self, id: u64) {
        let waits = self.requests.get(&id).filter(|request| request.flights.is_some());
        if let Some(node) = waits.map(|request| request.node) {
            self.count("timed out");
            self.cut(node, Some(id));
        }
    }

    /// A connection ends. Of what is in flight on it some has arrived, some arrives all the same, some is lost, and some
    /// has never left.
    pub(super) fn cut(&mut self, node: i32, timed_out: Option<u64>) {
        let connection = self.line(node).connection;
        self.line(node).connection += 1;
        let mine = |r: &Request| r.node == node && r.connection == connection && r.flights.is_some();
        let mut ids: Vec<u64> = self.requests.iter().filter(|(_, r)| mine(r)).map(|(id, _)| *id).collect();
        let reached = |id: &u64| self.requests[id].body.is_empty();
        let arrived = ids.iter().filter(|id| reached(id)).count();
        // `ids` is in the order of sending: a suffix is lost, and a suffix of that has not even left.
        let lost = arrived + self.dice.roll((ids.len() - arrived + 1) as u64) as usize;
        let unsent = lost + self.dice.roll((ids.len() - lost + 1) as u64) as usize;
        let later = self.dice.pick(&[0, 0, 500 * MS, 3 * SECOND]);
        let mut ends: BTreeMap<u64, (Vec<Flight>, CallError)> = BTreeMap::new();
        for (at, id) in ids.drain(..).enumerate() {
            let request = self.requests.get_mut(&id).expect("it was found");
            request.lost |= at >= lost;
            let flights = request.flights.take().expect("it waits");
            let unsent = at >= unsent && timed_out != Some(id);
            if request.lost {
                self.seen.entry("lost").and_modify(|n| *n += 1).or_insert(1);
            }
            let (lost, error) = (request.lost, broken(unsent, timed_out == Some(id)));
            self.say(|| format!("  {id} to {node} is cut, lost: {lost}: {error}"));
            ends.insert(id, (flights, error));
        }
        self.delay_arrivals(node, connection, later);
        // A new connection may be faster than what is left of the old one.
        *self.line(node) = Line { arrives: self.now, answers: self.now, ..std::mem::take(self.line(node)) };
        for (flights, error) in ends.into_values() {
            self.end(node, flights, Err(error));
        }
    }

    /// What is still on its way on an ended connection comes later than it would have.
    fn delay_arrivals(&mut self, node: i32, connection: u64, by: u64) {
        let requests = &self.requests;
        let old = |event: &Event| {
            matches!(event, Event::Arrive(id) if requests.get(id)
                .is_some_and(|r| r.node == node && r.connection == connection))
        };
        let moved: Vec<((u64, u64), Event)> = self.events.extract_if(.., |_, event| old(event)).collect();
        self.events.extend(moved.into_iter().map(|((at, order), event)| ((at + by, order), event)));
    }
}

fn broken(unsent: bool, timed_out: bool) -> CallError {
    let (api, broker) = (ApiKey::Produce, Arc::from("broker"));
    if timed_out {
        let after = Duration::from_micros(REQUEST_TIMEOUT);
        CallError::Timeout { api, broker, after, possibly_written: true }
    } else if unsent {
        CallError::NotSent { api, broker, reason: CloseReason::Peer }
    } else {
        CallError::PossiblyWritten { api, broker, reason: CloseReason::Peer }
    }
}
