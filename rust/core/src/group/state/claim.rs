//! Who gets which unit, and how large it is.

use std::sync::Arc;

use super::{GroupState, Tp};
use crate::group::types::{ExchangeRequest, Unit, UnitId};
use crate::group::units::{Phase, Row};
use crate::wire::Uuid;

impl GroupState {
    /// Units that are due again first, then new ones off the partitions in turn.
    pub(super) fn claim(&mut self, now: u64, request: &ExchangeRequest) -> Vec<Unit> {
        let member = self.members.get(&request.consumer).expect("invariant: live() has entered it");
        if member.request >= request.request {
            return self.claimed_before(now, request);
        }
        let mut claimed = Vec::new();
        let deadline = now + self.settings.lease;
        while claimed.len() < request.want as usize {
            let Some(id) = self.units.next_due(now, &request.topics) else { break };
            self.units.update(&id, |row| {
                row.attempt += 1;
                row.holder = Arc::clone(&request.consumer);
                row.request = request.request;
                row.phase = Phase::Leased(deadline);
            });
            self.settle(&id.tp());
            claimed.push(id);
        }
        while claimed.len() < request.want as usize {
            let Some(tp) = self.next_of_ring(&request.topics) else { break };
            claimed.push(self.carve(&tp, deadline, request));
        }
        let member = self.members.get_mut(&request.consumer).expect("invariant: live() has entered it");
        member.request = request.request;
        member.units.clone_from(&claimed);
        let rows = claimed.iter().filter_map(|id| Some((id, self.units.get(id)?)));
        rows.map(|(id, row)| self.unit(id, row)).collect()
    }

    /// The answer was lost: the same units again, those that are still this request's, for a whole lease. An older request
    /// than the last comes from the past: its sender has gone on, and units claimed for it would lie until their lease ends.
    fn claimed_before(&mut self, now: u64, request: &ExchangeRequest) -> Vec<Unit> {
        let deadline = now + self.settings.lease;
        let mut same =
            self.members.get(&request.consumer).map_or_else(Vec::new, |member| member.units.clone());
        same.retain(|id| {
            let row = self.units.get(id);
            row.is_some_and(|row| row.is_leased_by(&request.consumer, request.request))
        });
        same.iter().for_each(|id| self.units.update(id, |row| row.phase = Phase::Leased(deadline)));
        let rows = same.iter().filter_map(|id| Some((id, self.units.get(id)?)));
        rows.map(|(id, row)| self.unit(id, row)).collect()
    }

    fn unit(&self, id: &UnitId, row: &Row) -> Unit {
        let deadline = if let Phase::Leased(deadline) = row.phase { deadline } else { 0 };
        Unit {
            id: id.clone(),
            topic: Arc::clone(&id.topic),
            partition: id.partition,
            topic_id: self.topics.get(&id.topic).map_or_else(Uuid::default, |topic| topic.id),
            start: row.progress,
            end: row.end,
            attempt: row.attempt,
            request: row.request,
            leader_epoch: self.partitions.get(&id.tp()).map_or(-1, |p| p.leader_epoch),
            deadline,
        }
    }

    /// The partition of these topics that was served longest ago.
    fn next_of_ring(&self, topics: &[Arc<str>]) -> Option<Tp> {
        let firsts = topics.iter().filter_map(|topic| Some((self.topics.get(topic)?.ring.first()?, topic)));
        firsts.min().map(|((_, partition), topic)| (Arc::clone(topic), *partition))
    }

    fn carve(&mut self, tp: &Tp, deadline: u64, request: &ExchangeRequest) -> UnitId {
        let size = self.unit_size(tp, request);
        self.unlist(tp);
        self.turns += 1;
        let served = self.turns;
        let p = self.partition(tp);
        let start = p.cursor;
        let end = p.high_watermark.min(start.saturating_add(size));
        p.served = served;
        p.cursor = end;
        p.in_flight += 1;
        let id = UnitId { topic: Arc::clone(&tp.0), partition: tp.1, carved_at: start };
        let row = Row {
            progress: start,
            end,
            attempt: 1,
            holder: Arc::clone(&request.consumer),
            request: request.request,
            probe: false,
            phase: Phase::Leased(deadline),
        };
        self.units.insert(id.clone(), row);
        self.settle(tp);
        id
    }

    /// A slice of time: the smallest of the step, what the member's readers handle in the time a unit aims at, the bytes it aims
    /// at, and a fair share of what is left, so that nobody works on a long unit while others have nothing.
    ///
    /// The share is of all the member may be given, not of the one partition: sixteen readers need not cut a hundred records
    /// into thirty pieces when a thousand partitions wait, and each piece costs a fetch. Half a share at a time lets the units
    /// shrink as the end comes near (guided self-scheduling), down to `least_records`, below which a fetch costs more than
    /// handling the records one after the other. In an ordered group no second reader could help: no share.
    fn unit_size(&self, tp: &Tp, request: &ExchangeRequest) -> i64 {
        let p = &self.partitions[tp];
        let mut size = i64::from(self.settings.consume_step.min(request.max_records));
        // Both bounded, so that neither product nor conversion overflows; a weight of 0 is one not known yet.
        if let Some(records) = (request.target_bytes.min(1 << 40) * 256).checked_div(p.weight) {
            size = size.min(records as i64);
        }
        if !self.ordered() {
            let known = |topic: &Arc<str>| self.topics.get(topic);
            let backlog: i64 = request.topics.iter().filter_map(known).map(|topic| topic.backlog).sum();
            let readers = self.topics[&tp.0].readers.max(1);
            let share = backlog / (2 * i64::from(readers));
            size = size.min(share.max(i64::from(request.least_records)));
        }
        size.max(1)
    }
}
