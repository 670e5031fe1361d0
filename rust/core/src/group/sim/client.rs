//! A consumer as it should be, and its faults.

use std::sync::Arc;
use std::time::Duration;

use super::model::{self, Found};
use super::*;
use crate::wire::Uuid;

/// The Kafka clusters that members read; the first tells no id.
pub(super) const CLUSTERS: [&str; 3] = ["", "k1", "k2"];

/// A unit in a consumer's hands.
pub(super) struct Held {
    unit: Unit,
    /// The first offset not handled.
    position: i64,
    /// The topic and the leader epoch it reads under.
    topic_id: Uuid,
    epoch: i32,
}

pub(super) struct Client {
    id: ConsumerId,
    topics: Vec<Arc<str>>,
    request: u64,
    held: Vec<Held>,
    /// The exchange that has no answer yet; it is repeated word for word.
    pending: Option<ExchangeRequest>,
    /// Steps it sleeps.
    stalled: u64,
}

impl Held {
    fn tp(&self) -> Tp {
        (model::number(&self.unit.topic), self.unit.partition as usize)
    }
}

impl Sim {
    fn any_client(&mut self) -> usize {
        if self.clients.is_empty() || (self.clients.len() < 4 && self.dice.one_in(20)) {
            self.born += 1;
            let one = self.faults && self.dice.one_in(3);
            let first = self.dice.below(model::TOPICS.len());
            let topics = (0..model::TOPICS.len()).filter(|t| !one || *t == first).map(model::topic).collect();
            let id = consumer(self.born);
            let client = Client { id, topics, request: 0, held: Vec::new(), pending: None, stalled: 0 };
            self.clients.push(client);
        }
        self.dice.below(self.clients.len())
    }

    /// A consumer handles records or speaks with the group.
    pub(super) fn client_acts(&mut self) {
        let at = self.any_client();
        if self.clients[at].stalled > 0 {
            self.clients[at].stalled -= 1;
        } else if self.dice.one_in(2) {
            self.read(at);
        } else {
            self.talk(at);
        }
    }

    pub(super) fn crash(&mut self) {
        if !self.clients.is_empty() {
            let at = self.dice.below(self.clients.len());
            self.clients.swap_remove(at);
            self.count("crash");
        }
    }

    pub(super) fn stall(&mut self) {
        if let Some(client) = self.clients.last_mut() {
            client.stalled = 5 + self.dice.roll(40);
        }
    }

    /// A consumer ends in good order: it hands back what it has, then leaves.
    pub(super) fn leave(&mut self) {
        if self.clients.is_empty() {
            return;
        }
        let at = self.dice.below(self.clients.len());
        let mut client = self.clients.swap_remove(at);
        if client.pending.is_none() && client.stalled == 0 {
            let mut request = self.round(&mut client, true);
            request.organise = false;
            self.state.exchange(self.now, &request);
            client.held.clear();
        }
        self.state.leave(self.now, &client.id);
    }

    /// A request that was sent long ago arrives; nobody waits for its reply.
    pub(super) fn request_again(&mut self) {
        if !self.late_requests.is_empty() {
            let at = self.dice.below(self.late_requests.len());
            let request = self.late_requests.swap_remove(at);
            self.state.exchange(self.now, &request);
            self.count("late request");
        }
    }

    /// A member comes whose brokers name this Kafka cluster, or none.
    pub(super) fn visit(&mut self) {
        let cluster = CLUSTERS[self.dice.below(CLUSTERS.len())];
        match self.state.enter(cluster) {
            Ok(()) => {}
            Err(theirs) if cluster.is_empty() || theirs.is_empty() || theirs == cluster => {
                self.fail(&format!("a member of cluster \"{cluster}\" is kept from one of \"{theirs}\""));
            }
            Err(_) => self.count("other cluster"),
        }
    }

    // --- reading ----------------------------------------------------------------------------------------------------

    /// The application handles some records of one unit.
    fn read(&mut self, at: usize) {
        if self.clients[at].held.is_empty() {
            return;
        }
        let which = self.dice.below(self.clients[at].held.len());
        let mut client = self.clients.swap_remove(at);
        let mut held = client.held.swap_remove(which);
        match self.read_unit(&client, &mut held) {
            Read::Goes => client.held.push(held),
            Read::Dropped => {}
            Read::Kills => return self.count("crash"),
        }
        self.clients.push(client);
    }

    fn read_unit(&mut self, client: &Client, held: &mut Held) -> Read {
        let tp = held.tp();
        let log = self.logs[tp.0].get(tp.1);
        let Some(log) = log else { return Read::Dropped };
        if held.topic_id != log.id {
            // Its fetch says: unknown topic id. It looks the topic up, and the group drops the unit.
            if self.view(tp).is_some_and(|view| view.topic_id == held.topic_id) {
                self.init(tp.0);
            }
            return Read::Dropped;
        }
        if log.epoch() != held.epoch {
            // Its fetch is fenced. It tells the group of the new leader and reads on only if the group says so.
            let (epoch, fact) = (log.epoch(), self.fact(tp, None));
            self.tell_now(tp, fact);
            if !self.is_still_held(client, held) {
                return Read::Dropped;
            }
            held.epoch = epoch;
        }
        for _ in 0..self.dice.roll(6) {
            if held.position >= held.unit.end {
                break;
            }
            match self.logs[tp.0][tp.1].find(held.position) {
                Found::End => break,
                Found::BelowStart => {
                    // Reported as lost by its holder.
                    self.logs[tp.0][tp.1].is_done(held.position, held.position + 1);
                    self.count("lost in hands");
                }
                Found::Poison => {
                    return if self.dice.one_in(3) { Read::Kills } else { Read::Goes };
                }
                Found::Record => self.handle(tp, held.position),
            }
            held.position += 1;
        }
        Read::Goes
    }

    fn handle(&mut self, tp: Tp, offset: i64) {
        let ordered = self.ordered();
        let log = &mut self.logs[tp.0][tp.1];
        let overtaken = log.overtaken(offset).filter(|_| ordered && !log.moved);
        let again = log.handle(offset);
        self.handled += 1;
        self.repeated += u64::from(again);
        if let (Some(before), false) = (overtaken, again) {
            self.fail(&format!("6: {tp:?}: {offset} was handled before {before}"));
        }
    }

    // --- speaking ---------------------------------------------------------------------------------------------------

    fn talk(&mut self, at: usize) {
        let mut client = self.clients.swap_remove(at);
        let request = match client.pending.take() {
            Some(request) => {
                self.count("repeat");
                request
            }
            None => {
                client.request += 1;
                let mut request = self.round(&mut client, false);
                if client.held.len() < 4 {
                    request.want = self.dice.roll(4) as u32;
                }
                request
            }
        };
        if self.faults && self.dice.one_in(8) {
            self.late_requests.push(request.clone());
            if self.late_requests.len() > 8 {
                self.late_requests.remove(0);
            }
        }
        let fate = if self.faults { self.dice.roll(20) } else { 20 };
        if fate > 0 {
            let mut reply = self.state.exchange(self.now, &request);
            if fate == 1 {
                // Sent twice by the network's grace; the second answer is the one that arrives.
                reply = self.state.exchange(self.now, &request);
            }
            if fate > 2 {
                self.answered(&mut client, &request, reply);
                self.clients.push(client);
                return;
            }
        }
        // The request or its reply is lost.
        client.pending = Some(request);
        self.clients.push(client);
    }

    /// What a consumer has to say. Units that it acknowledges or gives back leave its hands.
    fn round(&mut self, client: &mut Client, all_back: bool) -> ExchangeRequest {
        let mut request = ExchangeRequest::new(Arc::clone(&client.id), client.request, client.topics.clone());
        request.readers = 1 + self.dice.roll(3) as u32;
        request.organise = self.dice.one_in(2);
        request.max_records = 1 + self.dice.roll(12) as u32;
        request.least_records = 1 + self.dice.roll(4) as u32;
        request.lacking = self.dice.roll(4) as u32;
        for mut held in std::mem::take(&mut client.held) {
            let tp = held.tp();
            let log = self.logs[tp.0].get(tp.1);
            let Unit { id, request: claimed_by, end, .. } = held.unit.clone();
            let progress = held.position;
            let fails = log.is_some_and(|log| log.find(progress) == Found::Poison);
            if progress >= end {
                let known = log.map_or((-1, -1), |log| (log.end(), log.epoch()));
                let seen = if self.dice.one_in(3) { known } else { (-1, -1) };
                let (high_watermark, leader_epoch) = seen;
                let (records, bytes) = (self.dice.roll(5) as u32, self.dice.roll(1_000));
                request.acks.push(Ack {
                    id,
                    request: claimed_by,
                    end,
                    high_watermark,
                    leader_epoch,
                    records,
                    bytes,
                });
            } else if all_back || (self.faults && self.dice.one_in(15)) || fails {
                let delay = fails.then(|| {
                    let longest = if self.dice.one_in(3) { 6_000 } else { 300 };
                    Duration::from_millis(self.dice.roll(longest))
                });
                let (counts, reason) = (!self.dice.one_in(3), "it throws".into());
                // Now and then it is a batch that cannot be read.
                let through = (fails && self.dice.one_in(4)).then(|| progress + 1 + self.dice.roll(5) as i64);
                let request = &mut request.nacks;
                request.push(Nack { id, request: claimed_by, end, progress, delay, counts, through, reason });
            } else {
                if end - progress > 1 && self.dice.one_in(3) {
                    // Its reader asks for no more: it keeps the next records, and nothing from `at` on.
                    let at = progress + 1 + self.dice.below((end - progress - 1) as usize) as i64;
                    request.shortens.push(Shorten { id: id.clone(), request: claimed_by, end, at });
                    held.unit.end = at;
                }
                let end = held.unit.end;
                if !self.faults || !self.dice.one_in(4) {
                    request.renews.push(Renew { id, request: claimed_by, end, progress });
                }
                client.held.push(held);
            }
        }
        request
    }

    fn answered(&mut self, client: &mut Client, request: &ExchangeRequest, reply: ExchangeReply) {
        let lengths = (reply.acks.len(), reply.nacks.len(), reply.shortens.len(), reply.renews.len());
        let said = (request.acks.len(), request.nacks.len(), request.shortens.len(), request.renews.len());
        assert_eq!(lengths, said);
        assert_eq!(reply.lacking.len(), request.topics.len());
        for outcome in reply.acks.iter().chain(&reply.nacks).chain(&reply.shortens).chain(&reply.renews) {
            match outcome {
                Outcome::Done => {}
                Outcome::Gone => self.count("gone"),
                Outcome::Fenced => self.count("fenced"),
            }
        }
        for (shorten, outcome) in request.shortens.iter().zip(&reply.shortens) {
            if *outcome == Outcome::Done {
                self.count("shortened");
            } else {
                client.held.retain(|h| h.unit.id != shorten.id || h.unit.request != shorten.request);
            }
        }
        for (renew, outcome) in request.renews.iter().zip(&reply.renews) {
            if *outcome != Outcome::Done {
                client.held.retain(|h| h.unit.id != renew.id || h.unit.request != renew.request);
            }
        }
        assert!(reply.units.len() <= request.want as usize, "seed {}", self.seed);
        for unit in reply.units {
            if unit.start >= unit.end || !client.topics.contains(&unit.topic) || unit.deadline <= reply.now {
                self.fail(&format!("a unit that is none: {unit:?}"));
            }
            if !client.held.iter().any(|h| h.unit.id == unit.id && h.unit.request == unit.request) {
                let view = self.view((model::number(&unit.topic), unit.partition as usize));
                if view.is_none_or(|view| view.topic_id != unit.topic_id) {
                    self.fail(&format!("a unit of another topic: {unit:?}"));
                }
                let (position, epoch, topic_id) = (unit.start, unit.leader_epoch, unit.topic_id);
                client.held.push(Held { position, topic_id, epoch, unit });
            }
        }
    }

    /// A new leader was met: whether the group still counts a unit as this holder's.
    fn is_still_held(&mut self, client: &Client, held: &Held) -> bool {
        let Unit { id, request, end, .. } = held.unit.clone();
        // A round that wants nothing needs no number of its own.
        let mut ask = ExchangeRequest::new(Arc::clone(&client.id), client.request, client.topics.clone());
        ask.renews.push(Renew { id, request, end, progress: held.position });
        self.state.exchange(self.now, &ask).renews == [Outcome::Done]
    }
}

/// What became of reading a unit.
enum Read {
    Goes,
    Dropped,
    Kills,
}
