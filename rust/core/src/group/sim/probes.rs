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

    /// Parked units are tried again once a minute, and what was wrong with some of them may be mended.
    pub(super) fn wait_for_probes(&mut self) {
        for _ in 0..=self.dice.roll(4) {
            if self.dice.one_in(2) {
                let tp = self.any_tp();
                self.log(tp).heal();
            }
            self.now += 60_000 + self.dice.roll(2_000);
            self.tick();
            for _ in 0..self.dice.roll(30) {
                self.client_acts();
                self.now += self.dice.roll(20);
                self.check();
            }
        }
    }

    pub(super) fn parked(&self) -> u32 {
        let topics: Vec<_> = (0..self.logs.len()).map(model::topic).collect();
        self.state.partitions(&topics).iter().map(|view| view.parked).sum()
    }
}
