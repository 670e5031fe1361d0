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

    /// An offset of a parked unit of a partition, or one nearby.
    pub(super) fn any_parked(&mut self, tp: Tp) -> Option<i64> {
        let all = self.state.quarantined(self.now, &[model::topic(tp.0)]);
        let of: Vec<_> = all.iter().filter(|unit| unit.partition == tp.1 as i32).collect();
        let unit = of.get(self.dice.below(of.len().max(1)))?;
        Some(unit.from + self.dice.roll((unit.to - unit.from + 1) as u64) as i64)
    }

    pub(super) fn parked(&self) -> u32 {
        let topics: Vec<_> = (0..self.logs.len()).map(model::topic).collect();
        self.state.partitions(&topics).iter().map(|view| view.parked).sum()
    }
}
