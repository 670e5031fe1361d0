//! Where partitions start: at once, or late because their leader was away; and what waits to be compared with the commits.

use super::model;
use super::*;

impl Sim {
    /// Looks a topic up and fixes its starts, as a consumer does that connects. The leaders of some partitions may be away.
    pub(super) fn init(&mut self, topic: usize) {
        let first = self.state.subscribe(&model::topic(topic), true) == StartAt::Policy;
        let latest = first && self.dice.one_in(2);
        let tps: Vec<Tp> = (0..self.logs[topic].len()).map(|partition| (topic, partition)).collect();
        // Until a leader of the new topic answers the group has partitions of the old one, for which the model has no logs.
        let id = self.logs[topic][0].id;
        let is_old = self.state.partitions(&[model::topic(topic)]).iter().any(|view| view.topic_id != id);
        let (away, tps): (Vec<Tp>, Vec<Tp>) = tps.into_iter().partition(|tp| {
            let may_wait = self.view(*tp).is_none() && !(is_old && tp.1 == 0);
            self.faults && may_wait && self.dice.one_in(4)
        });
        for tp in away {
            self.pend(tp, latest);
        }
        let starts: Vec<Init> = tps.into_iter().map(|tp| self.start(tp, latest)).collect();
        let nonce = self.dice.nonce();
        self.state.init(&starts, nonce);
        let again = self.dice.nonce();
        assert_eq!(self.state.init(&starts, again), 0, "seed {}: the first writer wins", self.seed);
        if self.dice.one_in(2) {
            self.late_inits.extend(starts);
        }
    }

    /// A start that was found now. Of a partition whose start is pending it is found for that, if somebody has looked.
    fn start(&mut self, tp: Tp, latest: bool) -> Init {
        let committed = self.committed(tp);
        let pending = self.pending(tp);
        let heard = pending.filter(|_| !self.faults || !self.dice.one_in(3));
        if pending != heard {
            self.count("unheard of");
        }
        let log = &self.logs[tp.0][tp.1];
        let by_policy = match heard {
            Some(LateStart::Since(at)) => log.first_since(at as u64).max(log.start),
            Some(LateStart::Earliest) => log.start,
            None if latest => log.end(),
            None => log.start,
        };
        if let Some(pending) = heard {
            let promised = self.promises.remove(&tp).unwrap_or(pending);
            let log = &mut self.logs[tp.0][tp.1];
            // Nobody may ask for less than the first who met it; what is deleted until then nobody knows of.
            let by_promise = match promised {
                LateStart::Since(at) => log.first_since(at as u64),
                LateStart::Earliest => 0,
            };
            log.is_done(0, by_promise.max(log.start));
            self.count("late start");
        } else if committed.is_none() && pending.is_none() {
            self.log(tp).is_done(0, by_policy);
        }
        let (start, done) = committed.unwrap_or((by_policy, Vec::new()));
        let fact = self.fact(tp, None);
        Init {
            topic: fact.topic,
            partition: fact.partition,
            topic_id: fact.topic_id,
            leader_epoch: fact.leader_epoch,
            start,
            high_watermark: fact.high_watermark,
            log_start: fact.log_start,
            done,
            pending: heard,
        }
    }

    fn pending(&self, tp: Tp) -> Option<LateStart> {
        let known = self.state.overview(&[model::topic(tp.0)]).pending;
        known.into_iter().find(|(_, partition, _)| *partition == tp.1 as i32).map(|(.., start)| start)
    }

    /// The leader of a partition is away. Who has met it before remembers where it is to start.
    fn pend(&mut self, tp: Tp, latest: bool) {
        let known = self.pending(tp);
        let fresh = if latest { LateStart::Since(self.now as i64) } else { LateStart::Earliest };
        let start = self.promises.get(&tp).copied().filter(|_| known.is_none()).unwrap_or(fresh);
        let topic_id = self.logs[tp.0][tp.1].id;
        let pend = Pend { topic: model::topic(tp.0), partition: tp.1 as i32, topic_id, start };
        let expected = known.unwrap_or(start);
        match self.state.pend(&[pend])[0] {
            Pended::Recorded(start) if start == expected => _ = self.promises.insert(tp, start),
            // The group knows the topic that had this name before.
            Pended::WrongTopic => {}
            other => self.fail(&format!("9: {tp:?}: {other:?}, expected {expected:?}")),
        }
        self.count("pending");
    }

    /// Leaders that were away are there again: anybody starts what is pending.
    pub(super) fn resolve(&mut self) {
        for topic in 0..self.logs.len() {
            let pending = self.state.overview(&[model::topic(topic)]).pending;
            // A topic that was created again before anything of it was started may have had more.
            let there = self.logs[topic].len() as i32;
            for (_, partition, _) in pending.into_iter().filter(|(_, partition, _)| *partition < there) {
                let start = self.start((topic, partition as usize), false);
                let nonce = self.dice.nonce();
                self.state.init(&[start], nonce);
            }
        }
    }

    /// Somebody with old metadata fixes starts.
    pub(super) fn late_init(&mut self) {
        if !self.late_inits.is_empty() {
            let at = self.dice.below(self.late_inits.len());
            let start = self.late_inits.swap_remove(at);
            let log = &self.logs[model::number(&start.topic)][start.partition as usize];
            // A new partition that starts by a fact of the past would be a skip of ours, not of the group's.
            if start.topic_id != log.id {
                let nonce = self.dice.nonce();
                // After a roll-back the old id may be the one the group knows; then this changes nothing, either.
                assert_eq!(self.state.init(&[start], nonce), 0, "seed {}: an old id came back", self.seed);
                self.count("late init");
            }
        }
    }

    /// Another server than before, and leaders that cannot be asked whether commits hold: these partitions wait.
    pub(super) fn suspend(&mut self) {
        let topic = self.dice.below(self.logs.len());
        let tps = (0..self.logs[topic].len()).filter(|_| self.dice.one_in(2));
        let tps: Vec<_> = tps.map(|partition| (model::topic(topic), partition as i32)).collect();
        self.state.suspend(&tps);
        self.count("suspended");
    }

    /// What waits is compared with the commits.
    pub(super) fn compare(&mut self) {
        for topic in 0..self.logs.len() {
            for view in
                self.state.partitions(&[model::topic(topic)]).into_iter().filter(|view| view.unchecked)
            {
                let tp = (topic, view.partition as usize);
                let log = self.logs[topic].get(tp.1);
                let holds = |commit: &&Commit| {
                    let is_of = commit.tp == tp && commit.view.generation == view.generation;
                    is_of
                        && log.is_some_and(|log| {
                            commit.view.topic_id == log.id
                                && log.end_of(commit.view.leader_epoch) >= commit.view.low_watermark
                        })
                };
                let at = self.commits.iter().find(holds).map_or(-1, |commit| commit.view.low_watermark);
                self.state.advance(&view.topic, view.partition, view.generation, at);
                if self.view(tp).is_some_and(|view| view.unchecked) {
                    self.fail(&format!("9: {tp:?} was compared and still waits"));
                }
                self.count("compared");
            }
        }
    }
}
