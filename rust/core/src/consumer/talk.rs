//! What is said to the group and what its answer means. No I/O; further methods of [`State`].
//!
//! One exchange is under way at a time. It carries what has gathered - acknowledgements, units handed back, and at every
//! heartbeat the renewals with progress - and asks for as many units as readers are about to need. An exchange without
//! an answer is repeated word for word under its request number until there is one: the group recognises it, and
//! answers with the same units, so a lost answer loses and repeats nothing.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::cache::Extent;
use super::error::ReadError;
use super::event::Event;
use super::failing::{Failure, Fault, Verdict};
use super::feed::Feed;
use super::plan::Seen;
use super::sizing::Sizing;
use super::state::{Held, Phase, State, UnitKey};
use super::stats::Counters;
use crate::group::{Ack, ConsumerId, ExchangeReply, ExchangeRequest, Nack, Outcome, Renew};
use crate::log_rate;

/// Acknowledgements and refusals of one exchange; the rest goes with the next.
const TOLD_AT_ONCE: usize = 256;
/// Units asked for in one exchange.
const WANT_MOST: usize = 64;
/// Units kept that wait for leaders that are away.
const STALLED_MOST: usize = 256;
/// A group that had no unit is asked again after about this long. It wakes us before, unless the wake-up was lost with a
/// connection or went to a member that had no use for it; asking more often would cost Redis 80 us a time for each idle member.
const DRY_WAIT: Duration = Duration::from_secs(1);
/// Bytes of the reason of a failure that are told; the group keeps thousands of them.
const REASON_MOST: usize = 1024;
/// A reader that was woken for a unit and did not come: somebody else is woken after this long.
const WAKE_AGAIN: Duration = Duration::from_millis(20);

/// The conversation with the group.
#[derive(Debug)]
pub(super) struct Talk {
    pub(super) consumer: ConsumerId,
    topics: Vec<Arc<str>>,
    last_request: u64,
    acks: VecDeque<(Ack, Told)>,
    nacks: VecDeque<(Nack, Told)>,
    pending: Option<Pending>,
    next_heartbeat: Instant,
    dry_until: Option<Instant>,
    woken_at: Instant,
    organiser: bool,
}

/// The exchange that has no answer yet.
#[derive(Debug)]
struct Pending {
    request: ExchangeRequest,
    acks: Vec<Told>,
    nacks: Vec<Told>,
    shortens: Vec<UnitKey>,
    renews: Vec<UnitKey>,
}

/// What was said of a unit, for the event that follows.
#[derive(Debug)]
struct Told {
    topic: Arc<str>,
    partition: i32,
    start: i64,
    end: i64,
    records: u64,
    failure: Option<(u32, Verdict)>,
}

impl Talk {
    pub(super) fn new(consumer: ConsumerId, now: Instant) -> Self {
        Self {
            consumer,
            topics: Vec::new(),
            last_request: 0,
            acks: VecDeque::new(),
            nacks: VecDeque::new(),
            pending: None,
            next_heartbeat: now,
            dry_until: None,
            woken_at: now,
            organiser: false,
        }
    }

    /// Whether this consumer watches for new records for the whole group.
    pub(super) const fn is_organiser(&self) -> bool {
        self.organiser
    }

    /// Whether the group was told everything.
    pub(super) fn is_silent(&self) -> bool {
        self.pending.is_none() && self.acks.is_empty() && self.nacks.is_empty()
    }

    /// How many units the group does not know the end of.
    pub(super) fn untold(&self) -> usize {
        let pending = self.pending.as_ref().map_or(0, |p| p.acks.len() + p.nacks.len());
        pending + self.acks.len() + self.nacks.len()
    }

    /// There may be work: do not wait any longer before asking.
    pub(super) fn work_appeared(&mut self) {
        self.dry_until = None;
    }

    /// Whether the group had nothing when asked last, so that hearing of work is worth waiting for.
    pub(super) const fn is_dry(&self) -> bool {
        self.dry_until.is_some()
    }

    pub(super) fn topics(&self) -> &[Arc<str>] {
        &self.topics
    }

    pub(super) fn add_topic(&mut self, topic: &Arc<str>) {
        if !self.topics.contains(topic) {
            self.topics.push(Arc::clone(topic));
        }
    }

    pub(super) fn remove_topic(&mut self, topic: &str) {
        self.topics.retain(|t| **t != *topic);
    }
}

impl<B: Extent> State<B> {
    /// What was to be told of a partition's units is of no use any more.
    pub(super) fn forget_told(&mut self, tp: &super::state::Tp) {
        let other = |told: &Told| told.partition != tp.partition || told.topic != tp.topic;
        self.talk.acks.retain(|(_, told)| other(told));
        self.talk.nacks.retain(|(_, told)| other(told));
    }

    /// All of `held` is handled.
    pub(super) fn say_done(&mut self, held: &Held<B>, records: u64) {
        let feed = self.feeds.get(&held.tp);
        // Offsets, not records: units are cut by offsets, so gaps of compaction count too.
        let offsets = held.unit.end - held.unit.start;
        let bytes = feed.and_then(|feed| feed.estimate(offsets));
        let ack = Ack {
            id: held.unit.id.clone(),
            request: held.unit.request,
            end: held.unit.end,
            high_watermark: feed.map_or(-1, |feed| feed.high_watermark),
            leader_epoch: feed.map_or(-1, |feed| feed.epoch),
            records: bytes.map_or(0, |_| u32::try_from(offsets).unwrap_or(u32::MAX)),
            bytes: bytes.unwrap_or(0) as u64,
        };
        let told = Told::new(held, held.unit.start, records, None);
        self.talk.acks.push_back((ack, told));
        self.effects.exchange = true;
    }

    /// `held` goes back from `from` on.
    pub(super) fn say_back(&mut self, held: &Held<B>, from: i64, verdict: Option<Verdict>) {
        let cut = |reason: Arc<str>| match reason.get(..reason.floor_char_boundary(REASON_MOST)) {
            Some(start) if start.len() < reason.len() => start.into(),
            _ => reason,
        };
        let verdict = verdict.map(|verdict| Verdict { reason: cut(verdict.reason), ..verdict });
        let nack = Nack {
            id: held.unit.id.clone(),
            request: held.unit.request,
            end: held.unit.end,
            progress: from,
            delay: verdict.as_ref().map(|verdict| verdict.delay),
            counts: verdict.as_ref().is_some_and(|verdict| verdict.counts),
            through: verdict.as_ref().and_then(|verdict| verdict.through),
            reason: verdict.as_ref().map_or_else(|| Arc::from("released"), |v| Arc::clone(&v.reason)),
        };
        let failure = verdict.map(|verdict| (held.unit.attempt, verdict));
        let told = Told::new(held, from, 0, failure);
        self.talk.nacks.push_back((nack, told));
        self.effects.exchange = true;
    }

    /// How many units the readers are about to need beyond those at hand: one for each that waits, and one ahead for
    /// each that has not had its unit for long. (A reader that sits on a unit needs no other; one claimed for it would
    /// only be kept from others.)
    pub(super) fn wanted(&self, now: Instant) -> usize {
        if self.phase != Phase::Open || self.failed.is_some() {
            return 0;
        }
        if self.failing.is_probing() {
            return self.needed(now).min(self.probes_wanted(now));
        }
        let stalled = self.pool.iter().filter(|key| self.is_stalled(&self.units[key])).count();
        if stalled > STALLED_MOST {
            return 0;
        }
        self.needed(now).saturating_sub(self.pool.len() - stalled).min(WANT_MOST)
    }

    /// Whether a unit waits for a leader that is away. It is kept - nobody else could fetch it either - but it does
    /// not stand for work at hand: other partitions have theirs.
    pub(super) fn is_stalled(&self, held: &Held<B>) -> bool {
        !held.ready() && self.feeds.get(&held.tp).is_some_and(Feed::is_failing)
    }

    fn needed(&self, now: Instant) -> usize {
        let patience = self.limits.patience;
        let soon = |seat: &&super::state::Seat| seat.holds.is_some() && now < seat.since + patience;
        self.waiting.len() + self.readers.values().filter(soon).count()
    }

    /// The next exchange, if there is something to say or to ask.
    pub(super) fn exchange(&mut self, now: Instant) -> Option<ExchangeRequest> {
        if let Some(pending) = &self.talk.pending {
            return Some(pending.request.clone());
        }
        let beat = now >= self.talk.next_heartbeat;
        let dry = self.talk.dry_until.is_some_and(|until| now < until);
        let want = self.wanted(now);
        let (shortens, shortened, ask) = self.shorten(now);
        let silent = self.talk.acks.is_empty() && self.talk.nacks.is_empty() && shortens.is_empty();
        if silent && !beat && !ask && (want == 0 || dry) {
            return None;
        }
        let at_once = |len: usize| len.min(TOLD_AT_ONCE);
        let acks: (Vec<_>, Vec<_>) = self.talk.acks.drain(..at_once(self.talk.acks.len())).unzip();
        let nacks: (Vec<_>, Vec<_>) = self.talk.nacks.drain(..at_once(self.talk.nacks.len())).unzip();
        let renews: (Vec<_>, Vec<_>) = if beat { self.renewals(now) } else { Default::default() };
        self.talk.last_request += 1;
        let request = ExchangeRequest {
            consumer: self.talk.consumer.clone(),
            request: self.talk.last_request,
            topics: self.topics_to_claim(now),
            acks: acks.0,
            nacks: nacks.0,
            shortens,
            renews: renews.0,
            want: want as u32,
            max_records: self.unit_offsets(),
            least_records: self.least_records(),
            target_bytes: self.limits.unit_bytes as u64,
            readers: self.readers.values().filter(|seat| seat.holds.is_some()).count() as u32
                + self.waiting.len() as u32,
            lacking: self.waiting.len().saturating_sub(self.pool.len()) as u32,
            organise: self.phase == Phase::Open,
        };
        self.talk.pending = Some(Pending {
            request: request.clone(),
            acks: acks.1,
            nacks: nacks.1,
            shortens: shortened,
            renews: renews.1,
        });
        Some(request)
    }

    /// Offsets a unit should have: the least of the topics', since one request asks for all of them.
    fn unit_offsets(&self) -> u32 {
        let fresh = Sizing::new(self.limits.unit_target, self.limits.consume_step).offsets();
        let known = self.talk.topics.iter().filter_map(|topic| self.sizing.get(topic)).map(Sizing::offsets);
        known.min().unwrap_or(fresh)
    }

    /// Records below which sharing out what is left is not worth the exchange: a fiftieth of a unit's time.
    fn least_records(&self) -> u32 {
        let times = self.talk.topics.iter().filter_map(|topic| self.sizing.get(topic)?.per_record());
        let slowest = times.max().unwrap_or(self.limits.unit_target);
        let records = self.limits.unit_target.as_nanos() / 50 / slowest.as_nanos().max(1);
        u32::try_from(records).unwrap_or(u32::MAX).clamp(1, self.limits.consume_step)
    }

    /// Renewals of all units, with how far their readers are.
    fn renewals(&mut self, now: Instant) -> (Vec<Renew>, Vec<UnitKey>) {
        self.talk.next_heartbeat = now + self.limits.heartbeat;
        self.forget_denied();
        let renewed = self.units.iter().map(|(key, held)| {
            let progress = self.progress(held).clamp(held.unit.start, held.unit.end);
            let renew =
                Renew { id: held.unit.id.clone(), request: held.unit.request, end: held.unit.end, progress };
            (renew, *key)
        });
        renewed.unzip()
    }

    /// The first offset of a unit that is not handled.
    pub(super) fn progress(&self, held: &Held<B>) -> i64 {
        let seat = held.holder.and_then(|slot| self.readers.get(&slot));
        seat.map_or(held.from, |seat| seat.slot.unhandled()).clamp(held.unit.start, held.unit.end)
    }

    /// The answer to the exchange that was sent at `sent`.
    pub(super) fn answered(&mut self, reply: ExchangeReply, sent: Instant, now: Instant) {
        let Some(pending) = self.talk.pending.take() else { return };
        Counters::add(&self.counters.exchanges, 1);
        self.learn_lacking(&pending.request, &reply, now);
        for (told, result) in pending.acks.into_iter().zip(reply.acks) {
            self.acknowledged(told, result, now);
        }
        for (told, result) in pending.nacks.into_iter().zip(reply.nacks) {
            self.handed_back(told, result, now);
        }
        for (key, result) in pending.shortens.into_iter().zip(reply.shortens) {
            // Else its reader has finished it meanwhile, and the group answers that.
            if result != Outcome::Done
                && let Some(held) = self.revoke(key)
            {
                self.fenced(&Told::new(&held, self.progress(&held), 0, None), now);
            }
        }
        for (key, result) in pending.renews.into_iter().zip(reply.renews) {
            if result == Outcome::Done {
                if let Some(held) = self.units.get_mut(&key) {
                    // From when it was sent: the group renewed it then or later.
                    held.deadline = sent + self.limits.lease;
                    if let Some(seat) = held.holder.and_then(|slot| self.readers.get(&slot)) {
                        seat.slot.ours_until(held.deadline - self.limits.margin);
                    }
                }
            } else if let Some(held) = self.revoke(key) {
                self.fenced(&Told::new(&held, self.progress(&held), 0, None), now);
            }
        }
        if self.talk.organiser != reply.organiser {
            self.talk.organiser = reply.organiser;
            self.effects.watch = true;
        }
        let units = self.turn_away(reply.units, sent, now);
        let got = units.len();
        let asked = pending.request.want as usize;
        let frontiers: Vec<_> = units.iter().map(|u| (Arc::clone(&u.topic), u.partition, u.end)).collect();
        for unit in units {
            let lease = Duration::from_millis(unit.deadline.saturating_sub(reply.now));
            self.claimed(unit, now, sent + lease);
        }
        for (topic, partition, end) in frontiers {
            if let Some(feed) = self.feeds.get_mut(&super::state::Tp { topic, partition }) {
                feed.advance(end);
            }
        }
        if asked > got {
            self.talk.dry_until = Some(now + super::jitter(DRY_WAIT));
        } else if got > 0 {
            self.talk.dry_until = None;
        }
        if got > 0 {
            self.probe_claimed();
        }
        if self.phase != Phase::Open {
            self.return_pool();
        }
    }

    fn acknowledged(&mut self, told: Told, result: Outcome, now: Instant) {
        match result {
            Outcome::Fenced => self.fenced(&told, now),
            Outcome::Done | Outcome::Gone => {
                Counters::add(&self.counters.units_done, 1);
                let Told { topic, partition, start, end, records, .. } = told;
                self.effects.events.push(Event::Done { topic, partition, start, end, records });
            }
        }
    }

    fn handed_back(&mut self, told: Told, result: Outcome, now: Instant) {
        if result == Outcome::Fenced {
            return self.fenced(&told, now);
        }
        let Told { topic, partition, start, end, failure, .. } = told;
        match failure {
            None => Counters::add(&self.counters.units_released, 1),
            Some((attempt, Verdict { reason, counts, .. })) => {
                Counters::add(&self.counters.units_failed, 1);
                let event = Event::Failed { topic, partition, start, end, attempt, counts, reason };
                self.effects.events.push(event);
            }
        }
    }

    fn fenced(&mut self, told: &Told, now: Instant) {
        if self.is_fenced_by_a_seek(&told.topic, told.partition, now) {
            return;
        }
        Counters::add(&self.counters.units_fenced, 1);
        let (topic, partition, start, end) = (Arc::clone(&told.topic), told.partition, told.start, told.end);
        // There may be hundreds of units; each has its event.
        if let Some(more) = log_rate::due(format_args!("fenced {} {topic}", self.group)) {
            tracing::warn!(
                topic = &*topic,
                partition,
                start,
                end,
                "these records are not this consumer's any more: its lease ran out, or another member has sought. They may come \
                 twice{more}"
            );
        }
        self.effects.events.push(Event::Fenced { topic, partition, start, end });
    }

    /// High watermarks that were seen and that the group does not know: when readers wait, they cannot wait until the
    /// unit that saw them is handled. Readers of other consumers wait for a heartbeat at most.
    pub(super) fn unsaid(&mut self, now: Instant) -> Vec<Seen> {
        let due = !self.waiting.is_empty() || now >= self.talk.next_heartbeat;
        if !due || self.phase != Phase::Open {
            return Vec::new();
        }
        let unsaid = std::mem::take(&mut self.unsaid);
        let seen = unsaid.into_iter().filter_map(|tp| {
            let feed = self.feeds.get(&tp)?;
            let topic_id = self.known.id(&tp.topic).unwrap_or_default();
            let (high_watermark, epoch) = (feed.high_watermark, feed.epoch);
            Some(Seen { topic_id, high_watermark, log_start: -1, epoch, tp })
        });
        seen.collect()
    }

    /// Does what time brings, and says when to come again.
    pub(super) fn tick(&mut self, now: Instant) -> Instant {
        self.give_up_overdue(now);
        self.give_up_stuck(now);
        self.give_back_denied(now);
        self.put_down_stalled(now);
        self.give_back_unwanted(now);
        let mut next = self.talk.next_heartbeat;
        if let Some(at) = self.look_at_failing(now) {
            next = next.min(at);
        }
        if let Some(deadline) = self.units.values().map(|held| held.deadline - self.limits.margin).min() {
            next = next.min(deadline);
        }
        if !self.pool.is_empty() || self.readers.values().any(|seat| seat.starving) {
            next = next.min(now + self.limits.patience / 2);
        }
        if !self.waiting.is_empty() && self.pool.iter().any(|key| self.units[key].ready()) {
            if now >= self.talk.woken_at + WAKE_AGAIN {
                self.talk.woken_at = now;
                self.wake_one();
            }
            next = next.min(self.talk.woken_at + WAKE_AGAIN);
        }
        if let Some(at) = self.look_after_pinned(now) {
            next = next.min(at);
        }
        if let Some(until) = self.talk.dry_until
            && self.wanted(now) > 0
        {
            next = next.min(until);
        }
        next
    }

    /// A unit whose lease is about to end by our own clock is not delivered further: the group may not have heard of
    /// us, and gives it to another.
    fn give_up_overdue(&mut self, now: Instant) {
        let margin = self.limits.margin;
        let due: Vec<_> =
            self.units.iter().filter(|(_, h)| now >= h.deadline - margin).map(|(k, _)| *k).collect();
        for key in due {
            let from = self.progress(&self.units[&key]);
            if let Some(held) = self.revoke(key) {
                // Late, and true: if nobody has it yet, this saves its handled part from coming again.
                self.return_unit(held, from, None);
            }
        }
    }

    /// A record that sits in user code for too long: its unit goes to another, as a failed attempt.
    fn give_up_stuck(&mut self, now: Instant) {
        let mut stuck = Vec::new();
        for seat in self.readers.values_mut() {
            let Some(key) = seat.holds else { continue };
            let position = seat.slot.unhandled();
            if seat.starving || position != seat.seen.0 {
                seat.seen = (position, now);
            } else if now >= seat.seen.1 + self.limits.max_processing {
                stuck.push((key, position));
            }
        }
        for (key, from) in stuck {
            let Some(held) = self.revoke(key) else { continue };
            let (topic, partition) = (Arc::clone(&held.tp.topic), held.tp.partition);
            if let Some(more) = log_rate::due(format_args!("stuck {topic}/{partition}")) {
                tracing::warn!(
                    "a reader holds {topic}/{partition}@{from} for {} s; max-processing-ms is over and it is delivered \
                     again. Handed over to another thread? Use setAutoAck(false){more}",
                    self.limits.max_processing.as_secs()
                );
            }
            Counters::add(&self.counters.units_stuck, 1);
            self.effects.events.push(Event::Stuck { topic, partition, offset: from });
            let reason = "max-processing-ms is over".into();
            self.return_unit(held, from, Some(Failure { fault: Fault::Handler, delay: None, reason }));
        }
    }

    /// Units that lie in the pool and that no reader is about to take go back, so that other consumers get them.
    fn give_back_unwanted(&mut self, now: Instant) {
        let at_hand: Vec<_> =
            self.pool.iter().copied().filter(|key| !self.is_stalled(&self.units[key])).collect();
        let excess = at_hand.len().saturating_sub(self.needed(now));
        let old = |key: &UnitKey| now >= self.units[key].claimed + self.limits.patience;
        let unwanted: Vec<_> = at_hand.into_iter().filter(old).take(excess).collect();
        self.pool.retain(|key| !unwanted.contains(key));
        for key in unwanted {
            let held = self.units.remove(&key).expect("invariant: every unit of the pool is held");
            let from = held.from;
            self.return_unit(held, from, None);
        }
    }

    /// Hands back all that nobody has started.
    pub(super) fn return_pool(&mut self) {
        for key in std::mem::take(&mut self.pool) {
            if let Some(held) = self.units.remove(&key) {
                let from = held.from;
                self.return_unit(held, from, None);
            }
        }
    }

    /// The group refused for good.
    pub(super) fn refused(&mut self, reason: String) {
        self.talk.pending = None;
        self.talk.acks.clear();
        self.talk.nacks.clear();
        let group = self.group.to_string();
        self.fail(ReadError::Group { group, reason });
    }

    /// Learns from readers in the middle of their units: a handler that has become slow must not get another unit of
    /// the old size just because the first is not done.
    pub(super) fn learn_midway(&mut self, now: Instant) {
        let late = self.limits.unit_target * 4;
        let mut seen = Vec::new();
        for seat in self.readers.values() {
            let Some(held) = seat.holds.and_then(|key| self.units.get(&key)) else { continue };
            let (handled, busy) = (seat.slot.unhandled() - held.unit.start, now - seat.since);
            if busy > late && !seat.starving {
                seen.push((Arc::clone(&held.tp.topic), u64::try_from(handled).unwrap_or(0), busy));
            }
        }
        seen.into_iter().for_each(|(topic, offsets, busy)| self.sizing(&topic).learn_midway(offsets, busy));
    }
}

impl Told {
    fn new<B>(held: &Held<B>, start: i64, records: u64, failure: Option<(u32, Verdict)>) -> Self {
        let (topic, partition) = (Arc::clone(&held.tp.topic), held.tp.partition);
        Self { topic, partition, start, end: held.unit.end, records, failure }
    }
}
