//! A member's round: what it says of its units, leases that ended, and who watches.

use std::sync::Arc;

use super::{GroupState, Member, PARKED_PER_PARTITION, Tp};
use crate::group::types::{
    Ack, ConsumerId, Event, ExchangeReply, ExchangeRequest, Nack, Outcome, Renew, Shorten, UnitId,
};
use crate::group::units::{HELD, Phase, Row};

/// Expired leases taken back in one exchange; the rest waits for the next.
const REAP_AT_ONCE: usize = 16;
/// The longest back-off after a failed delivery, ms.
pub(super) const LONGEST_BACKOFF: u64 = 60_000;
/// The longest wait a member may ask for before a unit is delivered again, ms.
pub(super) const LONGEST_DELAY: u64 = 24 * 3_600_000;

impl GroupState {
    /// One round of a member: acknowledgements, refusals, shortenings, renewals, reaping, and the next claim.
    pub fn exchange(&mut self, now: u64, request: &ExchangeRequest) -> ExchangeReply {
        self.live(now, request);
        let acks = request.acks.iter().map(|ack| self.ack(&request.consumer, ack)).collect();
        let nacks = request.nacks.iter().map(|nack| self.nack(now, &request.consumer, nack)).collect();
        let shortens =
            request.shortens.iter().map(|shorten| self.shorten(now, &request.consumer, shorten)).collect();
        let renews = request.renews.iter().map(|renew| self.renew(now, &request.consumer, renew)).collect();
        self.reap(now, &request.topics);
        let units = if request.want > 0 { self.claim(now, request) } else { Vec::new() };
        let organiser = self.organise(now, request);
        let lacking = self.lack(now, request, units.len());
        ExchangeReply { now, acks, nacks, shortens, renews, units, organiser, lacking }
    }

    /// Takes in how many readers of a member wait for a unit after it was given `got`. Answers, by topic of the request, how many
    /// of the other members wait for more than can be claimed now.
    fn lack(&mut self, now: u64, request: &ExchangeRequest, got: usize) -> Vec<u32> {
        let lacking = request.lacking.saturating_sub(u32::try_from(got).unwrap_or(u32::MAX));
        let member = self.members.get_mut(&request.consumer).expect("invariant: live() has entered it");
        let before = std::mem::replace(&mut member.lacking, lacking);
        let mut others = Vec::with_capacity(request.topics.len());
        for name in &request.topics {
            let topic = self.topics.get_mut(name).expect("invariant: live() has entered it");
            topic.lacking = topic.lacking - before + lacking;
            let there = self.claimable(now, std::slice::from_ref(name));
            let waiting = self.topics[name].lacking - lacking;
            others.push(waiting.saturating_sub(u32::try_from(there).unwrap_or(u32::MAX)));
        }
        others
    }

    /// A sign of life, with what the member reads and how many read.
    fn live(&mut self, now: u64, request: &ExchangeRequest) {
        // The whole group was silent: it was the group's store that was away, not its members. Expire nobody for a lease.
        if now.saturating_sub(self.last_activity) > self.settings.lease / 2 {
            self.grace_until = now + self.settings.lease;
        }
        self.last_activity = now;
        let readers = request.readers.max(1);
        if let Some(member) = self.members.get_mut(&request.consumer) {
            member.seen = now;
            if member.readers == readers && member.topics == request.topics {
                return;
            }
        }
        let before = self.uncount(now, &request.consumer);
        for topic in &request.topics {
            let topic = self.topic(topic);
            topic.readers += readers;
            topic.unused_since = None;
        }
        let (topics, seen) = (request.topics.clone(), now);
        let (last, units) = before.map_or((0, Vec::new()), |m| (m.request, m.units));
        let member = Member { request: last, units, readers, lacking: 0, topics, seen };
        self.members.insert(Arc::clone(&request.consumer), member);
    }

    /// Takes a member and its readers out.
    pub(super) fn uncount(&mut self, now: u64, consumer: &ConsumerId) -> Option<Member> {
        let member = self.members.remove(consumer)?;
        for name in &member.topics {
            if let Some(topic) = self.topics.get_mut(name) {
                topic.readers -= member.readers;
                topic.lacking -= member.lacking;
                if topic.readers == 0 {
                    topic.unused_since = Some(now);
                }
            }
        }
        Some(member)
    }

    fn organise(&mut self, now: u64, request: &ExchangeRequest) -> bool {
        let mine = self.organiser.as_ref().is_some_and(|(who, _)| *who == request.consumer);
        let free = self.organiser.as_ref().is_none_or(|(_, until)| *until <= now);
        if request.organise && (mine || free) {
            self.organiser = Some((Arc::clone(&request.consumer), now + self.settings.lease));
            return true;
        }
        if mine {
            self.organiser = None;
        }
        false
    }

    fn ack(&mut self, consumer: &ConsumerId, ack: &Ack) -> Outcome {
        match self.units.get(&ack.id) {
            None => return Outcome::Gone,
            // A late acknowledgement of an expired lease is still a true fact, as long as nobody else was given the unit.
            Some(row) if !row.belongs_to(consumer, ack.request, ack.end) => return Outcome::Fenced,
            Some(_) => {}
        }
        let probe = self.units.get(&ack.id).is_some_and(|row| row.probe);
        self.forget(&ack.id);
        let tp = ack.id.tp();
        if probe {
            self.probe_succeeded(&tp);
        }
        let p = self.partition(&tp);
        if ack.leader_epoch == p.leader_epoch {
            p.high_watermark = p.high_watermark.max(ack.high_watermark);
        }
        if ack.records > 0 {
            let weight = (ack.bytes.min(1 << 40) * 256 / u64::from(ack.records)).max(1);
            p.weight = if p.weight == 0 { weight } else { ((p.weight * 3 + weight) / 4).max(1) };
        }
        self.settle(&tp);
        Outcome::Done
    }

    fn nack(&mut self, now: u64, consumer: &ConsumerId, nack: &Nack) -> Outcome {
        match self.units.get(&nack.id) {
            None => return Outcome::Gone,
            Some(row) if !row.belongs_to(consumer, nack.request, nack.end) => return Outcome::Fenced,
            Some(row) if !matches!(row.phase, Phase::Leased(_)) => return Outcome::Fenced,
            Some(_) => {}
        }
        self.units.update(&nack.id, |row| row.advance(nack.progress));
        match nack.delay {
            None => self.release(now, &nack.id),
            Some(delay) => {
                let delay =
                    u64::try_from(delay.as_millis()).map_or(LONGEST_DELAY, |ms| ms.min(LONGEST_DELAY));
                self.refused(now, consumer, nack, delay);
            }
        }
        self.settle(&nack.id.tp());
        Outcome::Done
    }

    /// Its holder will not go on with a unit, and nothing is wrong with it: that was no attempt. The caller settles.
    pub(super) fn release(&mut self, now: u64, id: &UnitId) {
        // The holder gave it up: whatever it still says of it is void.
        self.units.update(id, |row| {
            row.attempt = row.attempt.saturating_sub(1);
            row.request = 0;
            row.phase = Phase::Delayed(now);
        });
        // What was never worked on and has nothing behind it goes back to the cursor, to be shared out anew.
        let tp = id.tp();
        while let Some((last, row)) = self.units.last_of(&tp) {
            let (progress, end, fresh) = (row.progress, row.end, row.attempt == 0);
            // One that waits out its back-off after an attempt that did not count keeps waiting.
            let waits = matches!(row.phase, Phase::Delayed(due) if due <= now || due == HELD);
            if !fresh || !waits || self.partitions[&tp].cursor != end {
                break;
            }
            self.forget(&last);
            self.partition(&tp).cursor = progress;
        }
    }

    /// The application refused the record at the unit's progress.
    fn refused(&mut self, now: u64, consumer: &ConsumerId, nack: &Nack, delay: u64) {
        let id = &nack.id;
        let (unit, reason) = (id.clone(), Arc::clone(&nack.reason));
        self.event(Event::Nacked { unit, consumer: Arc::clone(consumer), reason });
        let row = self.units.get(id).expect("invariant: the caller has looked");
        let (progress, end, attempt, probe) = (row.progress, row.end, row.attempt, row.probe);
        self.units.update(id, |row| row.request = 0);
        if probe {
            // Back to where it was, at once: in an ordered group it would else keep others waiting.
            self.probe_failed(&id.tp());
        } else if nack.through.is_none() && (!nack.counts || attempt < self.settings.max_attempts) {
            self.units.update(id, |row| {
                row.attempt = if nack.counts { attempt } else { attempt.saturating_sub(1) };
                row.phase = Phase::Delayed(now + delay);
            });
            return;
        }
        // It is known which record fails, or which batch: the others need not suffer with it.
        let to = nack.through.unwrap_or(0).max(progress + 1);
        if to < end && self.partition(&id.tp()).parked < PARKED_PER_PARTITION {
            self.cut(id, to, 0, Phase::Delayed(now));
        }
        self.park(now, id);
    }

    /// The holder has handed out nothing of a unit from `at` on, and others wait: it keeps what is before, under a hold that ends
    /// there, and the rest waits for another. That was no attempt.
    fn shorten(&mut self, now: u64, consumer: &ConsumerId, shorten: &Shorten) -> Outcome {
        let Some(row) = self.units.get(&shorten.id) else { return Outcome::Gone };
        if row.belongs_to(consumer, shorten.request, shorten.at) {
            // A repeated request.
            return Outcome::Done;
        }
        if !row.belongs_to(consumer, shorten.request, shorten.end)
            || matches!(row.phase, Phase::Parked(_) | Phase::Delayed(HELD))
            || shorten.at <= row.progress
            || shorten.at >= row.end
        {
            return Outcome::Fenced;
        }
        self.cut_off(&shorten.id, shorten.at, 0, Phase::Delayed(now));
        self.settle(&shorten.id.tp());
        Outcome::Done
    }

    fn renew(&mut self, now: u64, consumer: &ConsumerId, renew: &Renew) -> Outcome {
        match self.units.get(&renew.id) {
            None => return Outcome::Gone,
            Some(row) if !row.belongs_to(consumer, renew.request, renew.end) => return Outcome::Fenced,
            Some(row) if matches!(row.phase, Phase::Parked(_) | Phase::Delayed(HELD)) => {
                return Outcome::Fenced;
            }
            Some(_) => {}
        }
        let deadline = now + self.settings.lease;
        self.units.update(&renew.id, |row| {
            // Expired, but nobody took it: its holder has it back.
            row.phase = Phase::Leased(deadline);
            row.advance(renew.progress);
        });
        self.settle(&renew.id.tp());
        Outcome::Done
    }

    /// Takes back leases of these topics that ended. (Those of others are for the members who read those.)
    pub(in crate::group) fn reap(&mut self, now: u64, topics: &[Arc<str>]) {
        if now < self.grace_until {
            return;
        }
        for id in self.units.expired(now, topics, REAP_AT_ONCE) {
            let row = self.units.get(&id).expect("invariant: the index names units that are there");
            let (attempt, consumer) = (row.attempt, Arc::clone(&row.holder));
            self.event(Event::Expired { unit: id.clone(), consumer });
            self.expired(now, &id, attempt);
            self.settle(&id.tp());
        }
    }

    /// A unit whose holder fell silent waits for its next delivery. After too many it is cut in halves, so that the record
    /// that kills its readers is found and its neighbours get through; a unit of one record is parked.
    fn expired(&mut self, now: u64, id: &UnitId, attempt: u32) {
        let due = Phase::Delayed(now + self.backoff(attempt));
        let row = self.units.get(id).expect("invariant: callers name a unit that is there");
        let (progress, end, probe) = (row.progress, row.end, row.probe);
        if probe {
            self.probe_failed(&id.tp());
        }
        if attempt < self.settings.max_attempts {
            // Holder and request stay: a late acknowledgement is taken as long as nobody else has the unit.
            self.units.update(id, |row| row.phase = due);
        } else if end - progress > 1 {
            let middle = progress + (end - progress) / 2;
            let attempt = self.settings.max_attempts - 1;
            self.cut(id, middle, attempt, due);
            self.units.update(id, |row| {
                row.attempt = attempt;
                row.phase = due;
            });
        } else {
            self.park(now, id);
        }
    }

    /// Wait before the delivery after `attempt` deliveries: none before the second, then doubling.
    pub(super) fn backoff(&self, attempt: u32) -> u64 {
        if attempt < 2 {
            return 0;
        }
        self.settings.retry_backoff.saturating_mul(1 << (attempt - 2).min(16)).min(LONGEST_BACKOFF)
    }

    /// As [`Self::cut_off`], and fences the holder, who does not know of the new end.
    fn cut(&mut self, id: &UnitId, at: i64, attempt: u32, phase: Phase) {
        self.units.update(id, |row| row.request = 0);
        self.cut_off(id, at, attempt, phase);
        self.event(Event::Split { unit: id.clone(), at });
    }

    /// Ends a unit at `at`. The rest goes back to the cursor when nothing stands behind it, else it is a unit of its own.
    fn cut_off(&mut self, id: &UnitId, at: i64, attempt: u32, phase: Phase) {
        let row = self.units.get(id).expect("invariant: callers name a unit that is there");
        let end = row.end;
        self.units.update(id, |row| row.end = at);
        let tp: Tp = id.tp();
        let ordered = self.ordered();
        let p = self.partition(&tp);
        if p.cursor == end && (ordered || attempt == 0) {
            p.cursor = at;
        } else {
            p.in_flight += 1;
            let rest = UnitId { carved_at: at, ..id.clone() };
            let (holder, request, probe) = ("".into(), 0, false);
            let row = Row { progress: at, end, attempt, holder, request, probe, phase };
            self.units.insert(rest, row);
        }
    }
}
