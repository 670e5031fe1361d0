//! What is learned of partitions' logs: where they start, how far they reach, what was cut off or deleted; and positions that
//! are moved by force.

use std::sync::Arc;

use super::{GroupState, Partition, RETIRED, Tp};
use crate::group::types::{EpochEnd, Event, Init, Publish, Published, UnitId};
use crate::group::units::{Phase, Row};

impl GroupState {
    /// What is known of partitions' logs. Raises high watermarks; finds truncation and retention. `nonce` is random: the
    /// generation of partitions that are truncated.
    pub fn publish(&mut self, facts: &[Publish], nonce: u64) -> Vec<Published> {
        facts.iter().map(|fact| self.publish_one(fact, nonce)).collect()
    }

    fn publish_one(&mut self, fact: &Publish, nonce: u64) -> Published {
        let tp = (Arc::clone(&fact.topic), fact.partition);
        let Some(p) = self.partitions.get_mut(&tp) else { return Published::Unknown };
        let id = self.topics[&tp.0].id;
        if id != fact.topic_id && !id.is_zero() && !fact.topic_id.is_zero() {
            return Published::WrongTopic;
        }
        if fact.leader_epoch < p.leader_epoch {
            return Published::Stale;
        }
        let mut result = Published::Done;
        if fact.leader_epoch > p.leader_epoch && p.leader_epoch >= 0 {
            // The answer may be late, and the stored epoch another one by now: a store that lost its latest writes is back
            // at an older one, which may end further down.
            let answer = fact.epoch_end.filter(|answer| answer.epoch == p.leader_epoch);
            let Some(EpochEnd { end: cut, .. }) = answer else { return Published::AskEpoch(p.leader_epoch) };
            p.leader_epoch = fact.leader_epoch;
            if cut < p.cursor {
                result = Published::Truncated(cut);
                self.truncate(&tp, cut, nonce);
            }
            let p = self.partition(&tp);
            // The new leader's high watermark may lag behind what was seen and even claimed before.
            p.high_watermark = fact.high_watermark.max(p.cursor);
        } else {
            p.leader_epoch = fact.leader_epoch;
            p.high_watermark = p.high_watermark.max(fact.high_watermark);
        }
        if let Some((from, to)) = self.retained(&tp, fact.log_start) {
            result = Published::Lost { from, to };
        }
        self.settle(&tp);
        result
    }

    /// The log was cut at `cut`, below the cursor: what stood above it is another log now.
    fn truncate(&mut self, tp: &Tp, cut: i64, nonce: u64) {
        self.drop_units_from(tp, cut);
        let p = self.partition(tp);
        let from = std::mem::replace(&mut p.cursor, cut);
        p.generation = nonce;
        self.event(Event::Truncated { topic: Arc::clone(&tp.0), partition: tp.1, from, to: cut });
    }

    /// The log starts at `log_start` now. What nobody had claimed below it is lost, and reported; what somebody holds or will
    /// be given is for the holder to report, who knows how far it is. A parked unit has no holder and never will.
    fn retained(&mut self, tp: &Tp, log_start: i64) -> Option<(i64, i64)> {
        let p = self.partition(tp);
        let log_start = log_start.max(p.log_start);
        let raised = log_start > std::mem::replace(&mut p.log_start, log_start);
        if raised && p.parked > 0 {
            for id in self.units.of(tp) {
                let row = self.units.get(&id).expect("invariant: the index names units that are there");
                if row.is_parked() && row.end <= log_start {
                    let (from, to) = (row.progress, row.end);
                    self.forget(&id);
                    self.lose(tp, from, to);
                }
            }
        }
        let p = self.partition(tp);
        let from = p.cursor;
        if log_start <= from {
            return None;
        }
        p.cursor = log_start;
        p.high_watermark = p.high_watermark.max(log_start);
        self.lose(tp, from, log_start);
        Some((from, log_start))
    }

    fn lose(&mut self, tp: &Tp, from: i64, to: i64) {
        self.lost += (to - from) as u64;
        self.event(Event::Lost { topic: Arc::clone(&tp.0), partition: tp.1, from, to });
    }

    /// Drops the units from `cut` on; one that straddles it keeps the part below, and its holder is fenced.
    fn drop_units_from(&mut self, tp: &Tp, cut: i64) {
        for id in self.units.of(tp) {
            let row = self.units.get(&id).expect("invariant: the index names units that are there");
            if row.progress >= cut {
                self.forget(&id);
            } else if row.end > cut {
                let parked = row.is_parked();
                self.units.update(&id, |row| {
                    row.end = cut;
                    row.request = 0;
                    row.phase = Phase::Delayed(0);
                });
                if parked {
                    let p = self.partition(tp);
                    p.parked -= 1;
                    p.in_flight += 1;
                }
            }
        }
    }

    /// Fixes the start of partitions; the first writer wins. All partitions of a topic that exist should come in one call:
    /// what the topic has later is taken to have appeared later. A topic id that is new for a known topic means that it was
    /// re-created: everything of the old one goes, and its id is retired for good, so give only ids that a leader confirmed.
    /// Returns how many partitions were started. `nonce` is random: the generation of those.
    pub fn init(&mut self, starts: &[Init], nonce: u64) -> usize {
        starts.iter().filter(|start| self.init_one(start, nonce)).count()
    }

    fn init_one(&mut self, start: &Init, nonce: u64) -> bool {
        let tp = (Arc::clone(&start.topic), start.partition);
        let topic = self.topic(&start.topic);
        if topic.retired.contains(&start.topic_id) {
            return false;
        }
        if topic.id.is_zero() {
            topic.id = start.topic_id;
        } else if topic.id != start.topic_id && !start.topic_id.is_zero() {
            let old = std::mem::replace(&mut topic.id, start.topic_id);
            topic.retired.push_back(old);
            if topic.retired.len() > RETIRED {
                topic.retired.pop_front();
            }
            self.forget_partitions(&start.topic);
        }
        let topic = self.topic(&start.topic);
        topic.settled = true;
        // Who has not heard of a pending start has found another one, by the policy of a later time.
        let pending = topic.pending.get(&tp.1).copied();
        if self.partitions.contains_key(&tp) || (pending.is_some() && pending != start.pending) {
            return false;
        }
        self.topic(&start.topic).pending.remove(&tp.1);
        let fresh = Partition {
            cursor: start.start,
            high_watermark: start.high_watermark.max(start.start),
            low_watermark: start.start,
            log_start: start.log_start,
            generation: nonce,
            leader_epoch: start.leader_epoch,
            in_flight: 0,
            parked: 0,
            paused: false,
            unchecked: false,
            weight: 0,
            served: 0,
            listed: None,
            probe_at: 0,
            probes: 1,
        };
        self.partitions.insert(tp.clone(), fresh);
        self.open_gaps(&tp, &start.done);
        self.settle(&tp);
        true
    }

    /// Moves the cursor of a new partition behind what is done; what is not done before that is a unit for each gap.
    fn open_gaps(&mut self, tp: &Tp, done: &[(i64, i64)]) {
        for (from, to) in done {
            let p = self.partition(tp);
            let cursor = p.cursor;
            if *to <= cursor {
                continue;
            }
            p.cursor = *to;
            p.high_watermark = p.high_watermark.max(*to);
            if cursor < *from {
                p.in_flight += 1;
                let id = UnitId { topic: Arc::clone(&tp.0), partition: tp.1, carved_at: cursor };
                let (phase, holder) = (Phase::Delayed(0), "".into());
                let (attempt, request, probe) = (0, 0, false);
                let row = Row { progress: cursor, end: *from, attempt, holder, request, probe, phase };
                self.units.insert(id, row);
            }
        }
    }

    /// Drops all partitions of a topic with their units. What was pending of it is of the old topic, too.
    fn forget_partitions(&mut self, topic: &Arc<str>) {
        self.topic(topic).pending.clear();
        for tp in self.partitions_of(topic) {
            self.remove_partition(&tp);
            self.event(Event::Recreated { topic: tp.0, partition: tp.1 });
        }
    }

    pub(super) fn partitions_of(&self, topic: &Arc<str>) -> Vec<Tp> {
        let range = (Arc::clone(topic), i32::MIN)..=(Arc::clone(topic), i32::MAX);
        self.partitions.range(range).map(|(tp, _)| tp.clone()).collect()
    }

    pub(super) fn remove_partition(&mut self, tp: &Tp) {
        self.drop_units_from(tp, i64::MIN);
        self.unlist(tp);
        self.partitions.remove(tp);
    }

    /// Moves a partition by force if its generation is still `generation`: its open units are dropped and fenced. `nonce` is
    /// random: the new generation. In an ordered group stop the readers first: what they hold in hands is still handled.
    pub fn seek(
        &mut self,
        topic: &Arc<str>,
        partition: i32,
        generation: u64,
        offset: i64,
        nonce: u64,
    ) -> bool {
        let tp = (Arc::clone(topic), partition);
        if self.partitions.get(&tp).is_none_or(|p| p.generation != generation) {
            return false;
        }
        let from = self.partition(&tp).low_watermark;
        self.drop_units_from(&tp, i64::MIN);
        let p = self.partition(&tp);
        p.cursor = offset;
        p.high_watermark = p.high_watermark.max(offset);
        p.generation = nonce;
        // Whatever the commits say, they are about another generation.
        self.resume(&tp);
        self.event(Event::Sought { topic: Arc::clone(topic), partition, from, to: offset });
        self.settle(&tp);
        true
    }

    /// Everything below `offset` was handled, says a commit of this generation (the mirror). So its position was compared with
    /// the commit: a partition that was [suspended](Self::suspend) for that goes on, also when the commit is not ahead.
    pub fn advance(&mut self, topic: &Arc<str>, partition: i32, generation: u64, offset: i64) {
        let tp = (Arc::clone(topic), partition);
        let Some(p) = self.partitions.get_mut(&tp) else { return };
        // Facts about another generation are about other records: after a seek back they would skip what is to be repeated.
        if p.generation != generation {
            return;
        }
        if offset > p.low_watermark {
            p.cursor = p.cursor.max(offset);
            p.high_watermark = p.high_watermark.max(offset);
            for id in self.units.of(&tp) {
                let row = self.units.get(&id).expect("invariant: the index names units that are there");
                if row.end <= offset {
                    self.forget(&id);
                } else if row.progress < offset {
                    self.units.update(&id, |row| row.advance(offset));
                }
            }
        }
        self.resume(&tp);
        self.settle(&tp);
    }
}
