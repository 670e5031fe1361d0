//! How many records a claim asks for: a unit is a slice of time.
//!
//! A unit should keep one reader busy for `unit-target-ms`: slow handlers get small units, so that many readers share
//! one partition, and fast ones get units limited by bytes only, so that the exchange costs nothing. The handling time
//! of a record is learned per topic; until it is known a unit is small, and it grows by a factor, so that one wrong
//! guess costs little.

use std::time::Duration;

/// Records of the first unit, when nothing is known of the handler.
const FIRST: u32 = 64;
/// How much larger than the largest unit handled so far a unit may be.
const GROWTH: u32 = 4;
/// Weight of a new measurement when it is faster than the average, and when it is slower: being too large costs
/// parallelism and a long stretch to repeat, being too small only costs exchanges.
const WEIGHT_FASTER: f64 = 0.3;
const WEIGHT_SLOWER: f64 = 0.6;

/// The handling rate of one topic and the size that follows from it.
#[derive(Debug, Clone)]
pub(super) struct Sizing {
    target_ns: f64,
    limit: u32,
    ns_per_record: Option<f64>,
    largest: u32,
}

impl Sizing {
    /// Aims at units of `target` handling time and at most `limit` records.
    pub(super) fn new(target: Duration, limit: u32) -> Self {
        Self { target_ns: target.as_nanos() as f64, limit: limit.max(1), ns_per_record: None, largest: 0 }
    }

    /// Learns that `records` took `busy` of one reader's time, waiting for data not counted.
    pub(super) fn learn(&mut self, records: u64, busy: Duration) {
        if records == 0 {
            return;
        }
        let sample = (busy.as_nanos() as f64 / records as f64).max(1.0);
        self.ns_per_record = Some(match self.ns_per_record {
            None => sample,
            Some(old) => {
                let weight = if sample > old { WEIGHT_SLOWER } else { WEIGHT_FASTER };
                old + (sample - old) * weight
            }
        });
        self.largest = self.largest.max(u32::try_from(records).unwrap_or(u32::MAX));
    }

    /// Records the next unit should have.
    pub(super) fn records(&self) -> u32 {
        let Some(ns) = self.ns_per_record else { return FIRST.min(self.limit) };
        let by_time = (self.target_ns / ns).clamp(1.0, f64::from(self.limit)) as u32;
        by_time.min(self.largest.saturating_mul(GROWTH).max(FIRST)).clamp(1, self.limit)
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
            let n = sizing.records();
            sizes.push(n);
            sizing.learn(u64::from(n), per_record * n);
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
            sizing.learn(100_000, Duration::from_millis(10));
        }
        assert_eq!(sizing.records(), 100_000);
        sizing.learn(250, Duration::from_millis(250));
        assert!(sizing.records() < 500, "{}", sizing.records());
    }

    proptest! {
        #[test]
        fn a_size_is_never_zero_nor_over_the_limit(limit in 1u32..200_000, seen in prop::collection::vec((0u64..1_000_000, 0u64..10_000_000_000), 0..20)) {
            let mut sizing = Sizing::new(TARGET, limit);
            for (records, ns) in seen {
                sizing.learn(records, Duration::from_nanos(ns));
                prop_assert!((1..=limit).contains(&sizing.records()));
            }
        }
    }
}
