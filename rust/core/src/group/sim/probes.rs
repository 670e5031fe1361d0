//! Time that brings parked units back.

use super::*;

impl Sim {
    pub(super) fn tick(&mut self) {
        let before = self.parked();
        self.state.tick(self.now);
        if self.parked() < before {
            self.count("probed");
        }
    }

    /// Parked units are tried again once a minute.
    pub(super) fn wait_for_probes(&mut self) {
        self.now += 60_000 + self.dice.roll(2_000);
        self.tick();
    }

    pub(super) fn parked(&self) -> u32 {
        let topics: Vec<_> = (0..self.logs.len()).map(model::topic).collect();
        self.state.partitions(&topics).iter().map(|view| view.parked).sum()
    }
}
