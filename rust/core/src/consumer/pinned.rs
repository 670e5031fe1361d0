//! Readers that ask for nothing, and how what they pin goes to others. No I/O; further methods of [`State`].
//!
//! A reader has one unit in hands and hands its records out one after the other. When its thread does something else, or nobody polls its
//! future, the records that were not handed out would wait with it. So when it has not asked for about a unit's time and others wait,
//! its hold is shortened to what it has claimed ([`super::claim`]), and the rest goes back to the group: others of this consumer get it
//! in the same exchange, other members are woken. The record in hand stays: who took it may still be at it.
//!
//! Who waits here is known here. That others wait the group says with each answer. While a reader is idle so, the group is asked ever
//! more rarely; an answer is acted upon while it is fresh, and once: it counts how many wait for more than can be claimed, so what was given
//! back and not taken yet is not given back again.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::cache::Extent;
use super::slot::SlotId;
use super::state::{Phase, Seat, State, UnitKey};
use crate::group::{ExchangeReply, ExchangeRequest, Shorten};

/// How long the group's word that others wait is acted upon.
const FRESH: Duration = Duration::from_millis(200);
/// The least time between two looks after readers that do not ask.
const LOOK_LEAST: Duration = Duration::from_millis(10);

/// Batches in the hands of a reader, in order. The consumer drops those that are taken back, or the memory of a reader that asks
/// for nothing would stay charged to its prefetch budget. Locked for a moment, by the reader once a batch.
pub(super) type Lent<B> = Arc<Mutex<VecDeque<B>>>;

/// What is known of the group's other members that wait for work.
#[derive(Debug, Default)]
pub(super) struct Lacking {
    /// How many of their readers wait, by topic, and when the group said so.
    of_others: HashMap<Arc<str>, u32>,
    said: Option<Instant>,
    /// When the group is asked next while a reader asks for nothing, and how long after that again.
    ask_at: Option<Instant>,
    wait: Duration,
}

impl<B: Extent> State<B> {
    /// The group has said who waits.
    pub(super) fn learn_lacking(&mut self, request: &ExchangeRequest, reply: &ExchangeReply, now: Instant) {
        let topics = request.topics.iter().zip(&reply.lacking).filter(|(_, n)| **n > 0);
        self.lacking.of_others = topics.map(|(topic, n)| (Arc::clone(topic), *n)).collect();
        self.lacking.said = Some(now);
    }

    /// Readers that have not asked for a unit's time and pin records that were not handed out, those first that have not asked for longest.
    fn pinning(&self, now: Instant) -> Vec<(SlotId, UnitKey)> {
        let late = |seat: &&Seat| self.may_be_shortened(seat) && now >= seat.seen.1 + self.limits.unit_target;
        let mut seats: Vec<_> = self.readers.values().filter(late).collect();
        seats.sort_unstable_by_key(|seat| (seat.seen.1, seat.slot.id));
        seats.into_iter().filter_map(|seat| Some((seat.slot.id, seat.holds?))).collect()
    }

    fn may_be_shortened(&self, seat: &Seat) -> bool {
        seat.holds.is_some() && !seat.starving && seat.slot.has_rest()
    }

    /// Shortens the holds of readers that ask for nothing, as far as others wait. Also says whether the group is to be asked now who waits.
    pub(super) fn shorten(&mut self, now: Instant) -> (Vec<Shorten>, Vec<UnitKey>, bool) {
        let mut said = (Vec::new(), Vec::new());
        // In an ordered group nobody else may be given a partition's next records.
        if self.phase != Phase::Open || self.limits.ordered {
            return (said.0, said.1, false);
        }
        let pinning = self.pinning(now);
        if pinning.is_empty() {
            (self.lacking.ask_at, self.lacking.wait) = (None, Duration::ZERO);
            return (said.0, said.1, false);
        }
        if self.lacking.said.is_none_or(|said| now >= said + FRESH) {
            self.lacking.of_others.clear();
        }
        // Readers of ours that wait although the group had nothing for them.
        let mut ours =
            if self.talk.is_dry() { self.waiting.len().saturating_sub(self.pool.len()) } else { 0 };
        for (slot, key) in pinning {
            let topic = Arc::clone(&self.units[&key].tp.topic);
            let others = self.lacking.of_others.get_mut(&topic).filter(|n| **n > 0);
            match others {
                Some(others) => *others -= 1,
                None if ours > 0 => ours -= 1,
                None => continue,
            }
            if let Some(shorten) = self.take_back(slot, key) {
                said.0.push(shorten);
                said.1.push(key);
            }
        }
        let ask = said.0.is_empty() && self.lacking.ask_at.is_none_or(|at| now >= at);
        if ask {
            let wait = (self.lacking.wait * 2).clamp(self.limits.unit_target, self.limits.heartbeat);
            (self.lacking.ask_at, self.lacking.wait) = (Some(now + wait), wait);
        }
        (said.0, said.1, ask)
    }

    /// Takes from a reader what it has not claimed. From now on its unit ends there, and all that is said of it says so.
    fn take_back(&mut self, slot: SlotId, key: UnitKey) -> Option<Shorten> {
        let held = self.units.get_mut(&key)?;
        let at = self.readers.get(&slot)?.slot.take_back()?;
        let (id, request, end) = (held.unit.id.clone(), held.unit.request, held.unit.end);
        tracing::debug!(
            topic = &*held.tp.topic,
            partition = held.tp.partition,
            "a reader asks for nothing: [{at}, {end}) goes to others, who wait"
        );
        held.unit.end = at;
        held.next = held.next.min(at);
        held.queue.retain(|piece| piece.base() < at);
        // What it holds of the prefetch budget is free at once.
        if let Some(lent) = &held.lent {
            lent.lock().retain(|piece| piece.base() < at);
        }
        Some(Shorten { id, request, end, at })
    }

    /// When to look after readers that do not ask, if there are any.
    pub(super) fn look_after_pinned(&self, now: Instant) -> Option<Instant> {
        if self.phase != Phase::Open || self.limits.ordered {
            return None;
        }
        let at = |seat: &Seat| {
            let late = seat.seen.1 + self.limits.unit_target;
            if late > now { late } else { self.lacking.ask_at.unwrap_or(now) }
        };
        let seats = self.readers.values().filter(|seat| self.may_be_shortened(seat));
        seats.map(at).min().map(|at| at.max(now + LOOK_LEAST))
    }

    /// Readers that wait in the middle of a unit for a leader that is away put it into the pool: there may be other
    /// work for them. So do those that nobody asks any more, and those that were woken and do not come, once there is something for
    /// another to go on with. What they handled of it is handled.
    pub(super) fn put_down_stalled(&mut self, now: Instant) {
        let late = self.limits.unit_target;
        let mut stalled = Vec::new();
        for seat in self.readers.values_mut() {
            let held = seat.holds.and_then(|key| Some((key, self.units.get(&key)?)));
            let Some((key, held)) = held.filter(|_| seat.starving) else {
                seat.woken = None;
                continue;
            };
            let away = !held.ready() && self.feeds.get(&held.tp).is_some_and(super::feed::Feed::is_failing);
            let woken = held.ready().then(|| *seat.woken.get_or_insert(now));
            if away || woken.is_some_and(|woken| seat.idle || now >= woken + late) {
                stalled.push((seat.slot.id, key, seat.slot.unhandled()));
            }
        }
        for (slot, key, from) in stalled {
            if let Some(seat) = self.readers.get_mut(&slot) {
                seat.holds = None;
                seat.starving = false;
                seat.woken = None;
            }
            let held = self.units.get_mut(&key).expect("invariant: it was just found");
            held.from = from.clamp(held.unit.start, held.unit.end);
            held.holder = None;
            held.claimed = now;
            // It finds the unit gone, and asks for another.
            self.effects.wake.extend(held.starving.take());
            self.pool.push_back(key);
        }
    }
}
