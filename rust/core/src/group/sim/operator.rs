//! An operator who moves committed offsets while nobody reads, and two members that come upon it at once.

use super::*;

/// For how long a member that reads must not have been heard of to count as dead.
const SILENT: u64 = 900;

impl Sim {
    /// The rule of the consumer's `foreign`: nothing is moved under a live member; of two that saw the same generation one moves.
    pub(super) fn reset(&mut self) {
        let tp = self.any_tp();
        let topic = model::topic(tp.0);
        let who = self.state.who(self.now);
        if who.iter().any(|member| member.silent < SILENT && member.topics.contains(&topic)) {
            return self.count("not reset");
        }
        let Some(view) = self.view(tp) else { return };
        let log = &self.logs[tp.0][tp.1];
        if view.topic_id != log.id || view.leader_epoch != log.epoch() {
            return;
        }
        let to = log.start + self.dice.roll((log.end() - log.start + 1) as u64) as i64;
        let (one, two) = (self.dice.nonce(), self.dice.nonce());
        assert!(self.state.seek(&topic, view.partition, view.generation, to, one), "seed {}", self.seed);
        assert!(
            !self.state.seek(&topic, view.partition, view.generation, to, two),
            "seed {}: twice",
            self.seed
        );
        self.log(tp).sought(to);
        self.count("reset");
    }
}
