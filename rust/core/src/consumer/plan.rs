//! What to fetch next, and what an answer means for the units that wait for it. No I/O.
//!
//! One partition has at most one fetch under way, from the lowest position that any of its units lacks; what it brings
//! serves all units of that partition, and what lies beyond them stays in the cache. Partitions of one leader go into
//! one request when they are wanted together. A leader may send us to a replica near by (KIP-392): that is asked instead, until
//! it fails in any way or [`REPLICA_FOR`] is over. After a failure the leader is not told where we are, or it would send us there
//! again, for a time that doubles. At most [`REQUESTS_PER_LEADER`] requests are under way per leader, so
//! that one is on the wire while the next is being gathered.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::budget::Budget;
use super::cache::Extent;
use super::event::Event;
use super::failing::{Failure, Fault};
use super::slot::SlotId;
use super::state::{Held, State, Tp, UnitKey};
use super::stats::Counters;
use crate::group::PartitionView;
use crate::log_rate;
use crate::wire::Uuid;

/// Fetches under way per leader.
const REQUESTS_PER_LEADER: usize = 2;
/// About what is asked for of one partition at once, unless units are larger than by default: larger answers go through more
/// memory than a cache holds, smaller ones cost more wake-ups. See docs/DESIGN.md, "What the hot paths cost".
const PIECE: usize = 2 << 20;
/// A request that asks for so much takes no more partitions, unless the budget is larger than by default.
const REQUEST: usize = 4 << 20;
/// The least that is asked for: a piece that gets a starving reader going.
pub(super) const PIECE_LEAST: usize = 64 << 10;
/// What is read ahead of small units, so that the next ones are served without a fetch.
const READ_AHEAD: usize = 256 << 10;
/// When the leader is asked again which replica to read from; kafka-clients do with each metadata, by default.
const REPLICA_FOR: Duration = Duration::from_secs(300);

/// One fetch request to be sent.
#[derive(Debug)]
pub(super) struct NodeFetch {
    pub(super) node: i32,
    pub(super) wants: Vec<Want>,
}

/// One partition of a fetch request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Want {
    pub(super) tp: Tp,
    /// The topic's id, zero if the brokers have none: an answer that comes late may be of a topic that is gone.
    pub(super) topic_id: Uuid,
    pub(super) position: i64,
    pub(super) bytes: usize,
    /// The leader epoch we believe in.
    pub(super) epoch: i32,
    /// It goes to a replica near by that the leader named, not to the leader.
    pub(super) replica: bool,
    /// The leader may name one.
    pub(super) near: bool,
}

/// A batch that a reader cannot read.
#[derive(Debug)]
pub(super) struct Unreadable {
    /// Where it says that it ends.
    pub(super) through: i64,
    /// Whether its checksum does not fit, so that this may be wrong.
    pub(super) is_corrupt: bool,
    /// Where the batch behind it begins, if that is known.
    pub(super) after: Option<i64>,
    pub(super) reason: String,
}

/// What was seen of a partition's log.
#[derive(Debug, Clone)]
pub(super) struct Seen {
    pub(super) tp: Tp,
    /// The id of the topic that was asked for, zero if the brokers have none.
    pub(super) topic_id: Uuid,
    pub(super) high_watermark: i64,
    /// -1: not seen.
    pub(super) log_start: i64,
    /// The epoch of the leader that says so.
    pub(super) epoch: i32,
}

/// What the fetcher has to do now.
#[derive(Debug, Default)]
pub(super) struct Plan {
    pub(super) fetches: Vec<NodeFetch>,
    /// Topics whose leader is not known.
    pub(super) leaderless: Vec<Tp>,
    /// When to look again although nobody kicks.
    pub(super) again: Option<Instant>,
}

/// How badly a unit waits for data; lower goes first.
fn urgency<B: Extent>(held: &Held<B>) -> u8 {
    match (held.starving.is_some(), held.holder) {
        (true, _) => 0,
        (false, Some(_)) => 1,
        (false, None) => 2,
    }
}

impl<B: Extent> State<B> {
    /// Decides what to fetch. `leader` names node and epoch of a partition's leader, and the id of the topic it leads.
    pub(super) fn plan(
        &mut self,
        budget: &Budget,
        now: Instant,
        leader: impl Fn(&Tp) -> Option<(i32, i32, Uuid)>,
    ) -> Plan {
        let mut plan = Plan::default();
        let mut hungry: Vec<(u8, UnitKey)> = self
            .units
            .iter()
            .filter(|(_, held)| !held.complete() && held.queued() < PIECE_LEAST)
            .map(|(key, held)| (urgency(held), *key))
            .collect();
        hungry.sort_unstable();
        // A reader that waits although it has a seat free counts as starving too: without it nothing moves.
        let waiting = self.waiting.len();
        let mut room = budget.room();
        for (rank, (urgency, key)) in hungry.into_iter().enumerate() {
            let must = urgency == 0 || (urgency == 2 && rank < waiting);
            let tp = self.units[&key].tp.clone();
            if self.feeds.get(&tp).is_some_and(|feed| feed.in_flight) {
                continue;
            }
            let of_feed = self.feeds.get(&tp).and_then(|feed| feed.blocked_until(now));
            if let Some(until) = of_feed.max(self.denied.until(&tp.topic, now)) {
                plan.again = Some(plan.again.map_or(until, |t| t.min(until)));
                continue;
            }
            // The units of a topic whose name is another's by now have no leader any more.
            let leader = leader(&tp).filter(|(.., id)| !self.known.is_foreign(&tp.topic, *id));
            let Some((leader, epoch, topic_id)) = leader else {
                self.feeds.entry(tp.clone()).or_default().failed(now);
                let until = self.feeds[&tp].blocked_until(now);
                plan.again = [plan.again, until].into_iter().flatten().min();
                plan.leaderless.push(tp);
                continue;
            };
            let replica = self.feeds.get(&tp).and_then(|feed| feed.replica(now));
            let node = replica.unwrap_or(leader);
            let gathered = plan.fetches.iter().find(|fetch| fetch.node == node).map(NodeFetch::bytes);
            let busy = self.busy.get(&node).copied().unwrap_or(0);
            if gathered.is_none() && busy >= REQUESTS_PER_LEADER {
                continue;
            }
            if gathered.is_some_and(|bytes| bytes >= REQUEST.max(budget.limit() / 4)) {
                // The rest goes in a request of its own: with the next plan, if this one is not to wait for an answer.
                self.effects.fetch |= busy + 1 < REQUESTS_PER_LEADER;
                continue;
            }
            if room < PIECE_LEAST {
                self.evict(&tp);
                room = budget.room().saturating_sub(plan.bytes());
            }
            if room < PIECE_LEAST && !must {
                budget.mark_refused();
                continue;
            }
            let (position, bytes) = self.ask(&tp, key, room, budget.limit());
            room = room.saturating_sub(bytes);
            let near = self.feeds.get(&tp).is_none_or(|feed| feed.may_go_near(now));
            plan.add(node, Want { tp, topic_id, position, bytes, epoch, replica: replica.is_some(), near });
        }
        for fetch in &mut plan.fetches {
            *self.busy.entry(fetch.node).or_default() += 1;
            fetch.wants.sort_by_key(|want| !self.feeds.get(&want.tp).is_some_and(|feed| feed.first));
            for want in &fetch.wants {
                self.feeds.entry(want.tp.clone()).or_default().in_flight = true;
            }
        }
        plan
    }

    /// Position and size of a fetch of `tp` that unit `key` waits for.
    fn ask(&mut self, tp: &Tp, key: UnitKey, room: usize, limit: usize) -> (i64, usize) {
        let same = self.units.values().filter(|held| held.tp == *tp && !held.complete());
        let (mut position, mut end) = (self.units[&key].next, self.units[&key].unit.end);
        for held in same.filter(|held| held.queued() < PIECE_LEAST) {
            position = position.min(held.next);
            end = end.max(held.unit.end);
        }
        let piece =
            (limit / (self.units.len() + 1)).clamp(PIECE_LEAST, self.limits.unit_bytes.max(PIECE_LEAST));
        let usual = PIECE.max(self.limits.unit_bytes / 2);
        let feed = self.feeds.get(tp);
        let estimate = feed.and_then(|feed| feed.estimate(end - position));
        let bytes = estimate.map_or(usual, |bytes| even_piece(bytes + bytes / 8, usual).max(READ_AHEAD));
        // A broker gives a batch that is larger than what was asked for to the first partition of a request only (KIP-74).
        let bytes = bytes.max(feed.map_or(0, |feed| feed.largest));
        (position, bytes.min(piece).min(room.max(PIECE_LEAST)))
    }

    /// Frees the cache least recently used, but not that of `tp`, whose data may be wanted next; at the end that too.
    fn evict(&mut self, tp: &Tp) {
        let other = self
            .feeds
            .iter()
            .filter(|(key, feed)| *key != tp && !feed.cache.is_empty())
            .min_by_key(|(_, feed)| feed.touched)
            .map(|(key, _)| key.clone());
        let victim = other.unwrap_or_else(|| tp.clone());
        if let Some(feed) = self.feeds.get_mut(&victim) {
            feed.cache.clear();
        }
    }

    /// A request to `node` is over, whatever it brought.
    pub(super) fn fetch_over(&mut self, node: i32) {
        if let Some(count) = self.busy.get_mut(&node) {
            *count -= 1;
        }
        self.effects.fetch = true;
    }

    /// A unit fetch brought `pieces` from `want.position` on. Says whether they are taken: those of an older leader are not.
    pub(super) fn fetched(&mut self, want: &Want, pieces: Vec<B>, high_watermark: i64, now: Instant) -> bool {
        if self.known.is_foreign(&want.tp.topic, want.topic_id) {
            // The topic was created again since it was asked for.
            return true;
        }
        let Some(feed) = self.feeds.get_mut(&want.tp) else { return true };
        if want.epoch < feed.epoch {
            self.fetch_failed(want, now);
            return false;
        }
        self.denied.read(&want.tp.topic);
        feed.in_flight = false;
        if want.replica && !pieces.is_empty() {
            feed.near_works();
        }
        if pieces.is_empty() {
            // Others took all the room of the answer, or the log ends here for this leader (it was just elected, or
            // the log was truncated): not first last time, then first next time; first already, then later.
            if feed.first || high_watermark <= want.position {
                feed.failed(now);
            }
            feed.first = true;
        }
        if feed.saw(high_watermark, want.epoch) {
            self.unsaid.insert(want.tp.clone());
            self.effects.exchange |= !self.waiting.is_empty();
        }
        self.keep(&want.tp, want.position, pieces);
        true
    }

    /// The leader knows a replica that is nearer, and sent nothing.
    pub(super) fn sent_to_replica(&mut self, want: &Want, node: i32, now: Instant) {
        if let Some(feed) = self.feeds.get_mut(&want.tp) {
            feed.in_flight = false;
            feed.near = Some((node, now + REPLICA_FOR));
        }
    }

    /// Puts pieces into the cache of `tp` and on to the units that wait for them.
    pub(super) fn keep(&mut self, tp: &Tp, position: i64, pieces: Vec<B>) {
        self.uses += 1;
        let uses = self.uses;
        let feed = self.feeds.entry(tp.clone()).or_default();
        if pieces.is_empty() {
            return;
        }
        feed.touched = uses;
        feed.arrived(position, pieces);
        self.feed_units(tp);
    }

    /// Hands what the cache of `tp` knows to the units of that partition.
    fn feed_units(&mut self, tp: &Tp) {
        let Some(feed) = self.feeds.get_mut(tp) else { return };
        let mut ready = 0;
        for held in self.units.values_mut().filter(|held| held.tp == *tp && !held.complete()) {
            let before = held.ready();
            held.next = feed.cache.read(held.next, held.unit.end, &mut held.queue);
            if !held.ready() {
                continue;
            }
            match held.holder {
                Some(_) => self.effects.wake.extend(held.starving.take()),
                None => ready += usize::from(!before),
            }
        }
        feed.cache.forget_below(feed.frontier);
        (0..ready).for_each(|_| self.wake_one());
    }

    /// The broker does not lead the partition any more, and who does is known.
    pub(super) fn leader_moved(&mut self, want: &Want) {
        if let Some(feed) = self.feeds.get_mut(&want.tp) {
            feed.in_flight = false;
            self.effects.fetch = true;
        }
    }

    /// A fetch of `want` was answered without a word of it.
    pub(super) fn nothing_said(&mut self, want: &Want) {
        if let Some(feed) = self.feeds.get_mut(&want.tp) {
            feed.in_flight = false;
        }
    }

    /// A fetch of `want` failed in a way that passes.
    pub(super) fn fetch_failed(&mut self, want: &Want, now: Instant) {
        if let Some(feed) = self.feeds.get_mut(&want.tp) {
            feed.in_flight = false;
            feed.failed(now);
            if want.replica {
                feed.near_failed(now);
            }
        }
    }

    /// The log of `tp` now starts at `log_start`: what units lack below it is lost, they go on from there. Says what
    /// was lost, `(first, last + 1)` per unit.
    pub(super) fn log_starts(&mut self, tp: &Tp, log_start: i64) -> Vec<(i64, i64)> {
        let (mut lost, mut ready) = (Vec::new(), 0);
        let below = |held: &&mut Held<B>| held.tp == *tp && !held.complete() && held.next < log_start;
        for held in self.units.values_mut().filter(below) {
            let until = log_start.min(held.unit.end);
            lost.push((held.next, until));
            held.next = until;
            if held.holder.is_none() && held.queue.is_empty() {
                // Or the unit would be handed back with what is lost, and whoever gets it would report that again.
                held.from = held.from.max(until);
            }
            match held.holder {
                Some(_) => self.effects.wake.extend(held.starving.take()),
                None => ready += usize::from(held.complete() && held.queue.is_empty()),
            }
        }
        // Units of which nothing is left need a reader to say so.
        (0..ready).for_each(|_| self.wake_one());
        for &(start, end) in &lost {
            Counters::add(&self.counters.records_lost, u64::try_from(end - start).unwrap_or(0));
            let (topic, partition) = (tp.topic.clone(), tp.partition);
            self.effects.events.push(Event::Lost { topic, partition, start, end });
        }
        self.feed_units(tp);
        lost
    }

    /// The log of `tp` ends at `end`, below what we knew. Says whether that is news.
    pub(super) fn forget_log(&mut self, tp: &Tp, end: i64) -> bool {
        let Some(feed) = self.feeds.get_mut(tp) else { return false };
        let news = feed.high_watermark > end;
        feed.cache.clear();
        feed.frontier = 0;
        feed.high_watermark = end;
        news
    }

    /// The batch at the wanted position cannot be read (an old format, lengths that make no sense). It is fetched once more; then
    /// `[position, through)` of the units that need it is put aside, all that is left of them without a `through` that makes
    /// sense. One whose reader still has records that lie before it is not: it is met again when the reader has handled those and
    /// waits.
    pub(super) fn broken(&mut self, want: &Want, through: Option<i64>, reason: &str, now: Instant) {
        self.fetch_failed(want, now);
        if self.feeds.get_mut(&want.tp).is_some_and(|feed| feed.is_suspect(want.position)) {
            return;
        }
        let through = through.filter(|through| *through > want.position).unwrap_or(i64::MAX);
        let waits = |held: &Held<B>| held.holder.is_none() || held.starving.is_some();
        let at = |held: &Held<B>| {
            held.tp == want.tp && held.next == want.position && held.queue.is_empty() && waits(held)
        };
        let keys: Vec<_> = self.units.iter().filter(|(_, held)| at(held)).map(|(key, _)| *key).collect();
        for key in keys {
            if let Some(held) = self.revoke(key) {
                self.put_aside(held, want.position, through, reason);
            }
        }
    }

    /// A reader cannot read on at `position` of its unit: the batch there, and all before `through`, is damaged; `after` is where
    /// the next batch in its hands begins. Says whether the batch is fetched once more, and the unit still the reader's: it
    /// waits for [`Self::more`]. Else that part of the unit is put aside.
    pub(super) fn unreadable(&mut self, slot: SlotId, key: UnitKey, position: i64, bad: Unreadable) -> bool {
        let Some(held) = self.units.get_mut(&key).filter(|held| held.holder == Some(slot)) else {
            return false;
        };
        let after = bad.after.or_else(|| held.queue.front().map(Extent::base));
        let feed = self.feeds.entry(held.tp.clone()).or_default();
        if feed.is_suspect(position) {
            held.queue.clear();
            held.next = position;
            self.effects.fetch = true;
            return true;
        }
        // A checksum that does not fit protects no length. What comes next is known better than where this one says it ends.
        let through = after.filter(|_| bad.is_corrupt).unwrap_or(bad.through);
        if let Some(held) = self.let_go(slot, key) {
            self.put_aside(held, position, through, &bad.reason);
        }
        false
    }

    /// `[from, through)` of a unit cannot be read, and the rest goes on.
    fn put_aside(&mut self, held: Held<B>, from: i64, through: i64, reason: &str) {
        let through = through.clamp((from + 1).min(held.unit.end), held.unit.end);
        let (topic, partition) = (&*held.tp.topic, held.tp.partition);
        if let Some(more) = log_rate::due(format_args!("unreadable {topic}/{partition}")) {
            tracing::warn!(
                topic,
                partition,
                "offsets {from} to {} cannot be read and are quarantined, others are read on; one such range is tried again every \
                 minute: {reason}{more}",
                through - 1
            );
        }
        let reason = format!("offsets {from} to {} cannot be read: {reason}", through - 1).into();
        self.return_unit(held, from, Some(Failure { fault: Fault::Data { through }, delay: None, reason }));
    }

    /// The group says where a partition stands.
    pub(super) fn group_stands(&mut self, view: &PartitionView) {
        let tp = Tp { topic: Arc::clone(&view.topic), partition: view.partition };
        let feed = self.feeds.entry(tp).or_default();
        feed.cursor = view.cursor;
        // Others took it.
        feed.cache.forget_below(view.cursor);
        feed.saw(view.high_watermark, view.leader_epoch);
    }

    /// Where a watcher reads `tp` on, or `None` while there is a backlog that units will fetch.
    pub(super) fn tail(&self, tp: &Tp) -> Option<i64> {
        let feed = self.feeds.get(tp)?;
        let known = feed.cache.known_until(feed.frontier.max(feed.cursor));
        (known >= feed.high_watermark).then_some(known)
    }

    /// Where the group stands in a topic that this consumer does not read.
    pub(super) fn others_stand(&mut self, views: &[&PartitionView]) {
        let of = |view: &&PartitionView| {
            (Tp { topic: Arc::clone(&view.topic), partition: view.partition }, view.high_watermark)
        };
        self.others = views.iter().map(of).collect();
    }

    /// Where a watcher reads `tp` on for those who read it: its data is theirs, so only its end counts. `None` for what
    /// this consumer reads itself.
    pub(super) fn tail_of_others(&self, tp: &Tp) -> Option<i64> {
        let ours = self.talk.topics().contains(&tp.topic);
        self.others.get(tp).copied().filter(|_| !ours)
    }

    /// A watcher's poll of a partition of others is answered. Says whether the high watermark is news.
    pub(super) fn polled_for_others(&mut self, tp: &Tp, high_watermark: i64) -> bool {
        self.denied.read(&tp.topic);
        let known = self.others.get_mut(tp).filter(|known| **known < high_watermark);
        known.is_some_and(|known| {
            *known = high_watermark;
            true
        })
    }

    /// A watcher's poll of `tp` at `position` is answered. Says whether the high watermark is news. What comes late, of a topic
    /// that was created again or that nobody reads any more, is dropped.
    pub(super) fn polled(
        &mut self,
        tp: &Tp,
        position: i64,
        pieces: Vec<B>,
        high_watermark: i64,
        epoch: i32,
    ) -> bool {
        self.denied.read(&tp.topic);
        let Some(feed) = self.feeds.get_mut(tp).filter(|feed| epoch >= feed.epoch) else { return false };
        let news = feed.saw(high_watermark, epoch);
        self.keep(tp, position, pieces);
        news
    }
}

/// `bytes` in pieces of about the `usual` size, without a small one at the end: buffers of answers of one size fit each other.
fn even_piece(bytes: usize, usual: usize) -> usize {
    bytes.div_ceil(((bytes + usual / 2) / usual).max(1))
}

impl NodeFetch {
    fn bytes(&self) -> usize {
        self.wants.iter().map(|want| want.bytes).sum()
    }
}

impl Plan {
    fn bytes(&self) -> usize {
        self.fetches.iter().map(NodeFetch::bytes).sum()
    }

    fn add(&mut self, node: i32, want: Want) {
        match self.fetches.iter_mut().find(|fetch| fetch.node == node) {
            Some(fetch) if fetch.wants.iter().any(|other| other.tp == want.tp) => {}
            Some(fetch) => fetch.wants.push(want),
            None => self.fetches.push(NodeFetch { node, wants: vec![want] }),
        }
    }
}

#[cfg(test)]
mod tests;
