//! How many offsets a claim asks for: a unit is a slice of time.
//!
//! A unit should keep one reader busy for `unit-target-ms`: slow handlers get small units, so that many readers share
//! one partition, and fast ones get units limited by bytes only, so that the exchange costs nothing. The handling time
//! of a record is learned per topic; until it is known a unit is small, and it grows by a factor, so that one wrong
//! guess costs little.
//!
//! A unit is a range of offsets, and compaction leaves few records in many of them: how dense they stand is learned too.
//! Else a topic with a record per hundred offsets would cost an exchange per record, and a gap of a million offsets
//! thousands.

use std::time::Duration;

/// Records of the first unit, when nothing is known of the handler.
const FIRST: u32 = 64;
/// How much larger than the largest unit handled so far a unit may be.
const GROWTH: u32 = 4;
/// Weight of a new measurement when it is faster than the average, and when it is slower: being too large costs
/// parallelism and a long stretch to repeat, being too small only costs exchanges.
const WEIGHT_FASTER: f64 = 0.3;
const WEIGHT_SLOWER: f64 = 0.6;
/// The least density that is believed in. Behind a gap records may stand densely again: then the unit in which that
/// happens keeps its reader busy for at most 1 / so many times the target.
const LEAST_DENSITY: f64 = 1.0 / 64.0;

/// The handling rate of one topic and the size that follows from it.
#[derive(Debug, Clone)]
pub(super) struct Sizing {
    target_ns: f64,
    limit: u32,
    ns_per_record: Option<f64>,
    /// Records per offset.
    density: f64,
    /// Offsets of the largest unit so far.
    largest: u32,
}

impl Sizing {
    /// Aims at units of `target` handling time and at most `limit` offsets.
    pub(super) fn new(target: Duration, limit: u32) -> Self {
        let target_ns = target.as_nanos() as f64;
        Self { target_ns, limit: limit.max(1), ns_per_record: None, density: 1.0, largest: 0 }
    }

    /// Learns that in so many `offsets` there were `records`, which took `busy` of one reader's time, waiting for data not
    /// counted.
    pub(super) fn learn(&mut self, records: u64, offsets: u64, busy: Duration) {
        if offsets == 0 {
            return;
        }
        let density = (records as f64 / offsets as f64).clamp(LEAST_DENSITY, 1.0);
        let weight = if density > self.density { WEIGHT_SLOWER } else { WEIGHT_FASTER };
        self.density += (density - self.density) * weight;
        self.largest = self.largest.max(u32::try_from(offsets).unwrap_or(u32::MAX));
        if records > 0 {
            self.took(busy.as_nanos() as f64 / records as f64);
        }
    }

    /// Learns that the first `offsets` of a unit took `busy`; how many records they held is guessed.
    pub(super) fn learn_midway(&mut self, offsets: u64, busy: Duration) {
        self.took(busy.as_nanos() as f64 / (offsets as f64 * self.density).max(1.0));
    }

    fn took(&mut self, ns_per_record: f64) {
        let sample = ns_per_record.max(1.0);
        self.ns_per_record = Some(match self.ns_per_record {
            None => sample,
            Some(old) => {
                let weight = if sample > old { WEIGHT_SLOWER } else { WEIGHT_FASTER };
                old + (sample - old) * weight
            }
        });
    }

    /// Offsets the next unit should have.
    pub(super) fn offsets(&self) -> u32 {
        let records = self.ns_per_record.map_or(f64::from(FIRST), |ns| (self.target_ns / ns).max(1.0));
        let wanted = (records / self.density).clamp(1.0, f64::from(self.limit)) as u32;
        wanted.min(self.largest.saturating_mul(GROWTH).max(FIRST)).clamp(1, self.limit)
    }

    /// The learned handling time of a record, once there is one.
    pub(super) fn per_record(&self) -> Option<Duration> {
        self.ns_per_record.map(|ns| Duration::from_nanos(ns as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TARGET: Duration = Duration::from_millis(250);

    fn run(per_record: Duration, units: usize) -> Vec<u32> {
        let mut sizing = Sizing::new(TARGET, 100_000);
        let mut sizes = Vec::new();
        for _ in 0..units {
            let n = sizing.offsets();
            sizes.push(n);
            sizing.learn(n.into(), n.into(), per_record * n);
        }
        sizes
    }

    #[test]
    fn a_fast_handler_reaches_the_limit_by_steps() {
        assert_eq!(
            run(Duration::from_nanos(100), 8),
            [64, 256, 1024, 4096, 16_384, 65_536, 100_000, 100_000]
        );
    }

    #[test]
    fn a_handler_of_one_millisecond_gets_units_of_the_target_time() {
        assert_eq!(run(Duration::from_millis(1), 4), [64, 250, 250, 250]);
        assert_eq!(run(Duration::from_secs(10), 3), [64, 1, 1]);
    }

    #[test]
    fn a_handler_that_becomes_slow_is_noticed_at_once() {
        let mut sizing = Sizing::new(TARGET, 100_000);
        for _ in 0..10 {
            sizing.learn(100_000, 100_000, Duration::from_millis(10));
        }
        assert_eq!(sizing.offsets(), 100_000);
        sizing.learn(250, 250, Duration::from_millis(250));
        assert!(sizing.offsets() < 500, "{}", sizing.offsets());
    }

    #[test]
    fn a_gap_is_crossed_in_few_steps() {
        let mut sizing = Sizing::new(TARGET, 100_000);
        sizing.learn(1, 1, Duration::from_micros(10));
        let mut crossed = 0;
        let mut steps = 0;
        while crossed < 1_000_000 {
            let n = u64::from(sizing.offsets());
            sizing.learn(0, n, Duration::ZERO);
            crossed += n;
            steps += 1;
        }
        assert!(steps < 30, "{steps}");
    }

    #[test]
    fn records_that_stand_far_apart_make_units_of_many_offsets() {
        let mut sizing = Sizing::new(TARGET, 100_000);
        for _ in 0..30 {
            let offsets = u64::from(sizing.offsets());
            let records = offsets.div_ceil(20);
            sizing.learn(records, offsets, Duration::from_millis(1) * records as u32);
        }
        assert!((4500..5500).contains(&sizing.offsets()), "250 records: {}", sizing.offsets());
    }

    #[test]
    fn behind_a_gap_a_slow_handler_is_not_given_too_much() {
        let mut sizing = Sizing::new(TARGET, 100_000);
        sizing.learn(10, 10, Duration::from_secs(1));
        for _ in 0..100 {
            sizing.learn(0, sizing.offsets().into(), Duration::ZERO);
        }
        let behind = sizing.offsets();
        assert!(behind <= 160, "{behind}: 250 ms of handling, 64 times");
        sizing.learn(behind.into(), behind.into(), Duration::from_millis(100) * behind);
        assert!(sizing.offsets() <= 4, "{}", sizing.offsets());
    }

    proptest! {
        #[test]
        fn a_size_is_never_zero_nor_over_the_limit(limit in 1u32..200_000, seen in prop::collection::vec((0u64..1_000_000, 0u64..1_000_000, 0u64..10_000_000_000), 0..20)) {
            let mut sizing = Sizing::new(TARGET, limit);
            for (records, gap, ns) in seen {
                sizing.learn(records, records + gap, Duration::from_nanos(ns));
                prop_assert!((1..=limit).contains(&sizing.offsets()));
            }
        }
    }
}
