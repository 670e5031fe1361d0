//! The time of records that come without one, at less than a clock read a record.
//!
//! A read of the system clock costs 20-25 ns, as much as the encoding of a small record; on machines whose clock
//! is a system call it costs a microsecond. A clock that a task sets every millisecond would wake the process
//! a thousand times a second for nothing. So each open batch keeps the last time it read and reads again
//! * at its first record,
//! * whenever the linger task has ticked (at least every 5 ms while a batch is open),
//! * and after `stride` records: the stride is 1 while successive reads differ and doubles, up to 64, while they
//!   fall into one millisecond.
//!
//! At up to a thousand records a second every record has its exact time; at millions the error is 64 records.

use std::time::{SystemTime, UNIX_EPOCH};

/// Most records between two reads.
const STRIDE_MAX: u32 = 64;

/// The clock of one open batch.
#[derive(Default)]
pub(super) struct RecordClock {
    now_ms: i64,
    stride: u32,
    left: u32,
    tick: u32,
}

impl RecordClock {
    /// Milliseconds since 1970. `tick` is the linger task's counter.
    #[inline]
    pub(super) fn now_ms(&mut self, tick: u32) -> i64 {
        self.now_ms_by(tick, system_ms)
    }

    #[inline]
    fn now_ms_by(&mut self, tick: u32, read: impl FnOnce() -> i64) -> i64 {
        if self.left > 0 && self.tick == tick {
            self.left -= 1;
            return self.now_ms;
        }
        self.read(tick, read())
    }

    #[cold]
    fn read(&mut self, tick: u32, now_ms: i64) -> i64 {
        let same = now_ms == self.now_ms;
        self.stride = if same { (self.stride * 2).clamp(1, STRIDE_MAX) } else { 1 };
        self.now_ms = now_ms;
        self.left = self.stride - 1;
        self.tick = tick;
        now_ms
    }

    /// Makes the next record read the clock: a batch begins.
    pub(super) fn reset(&mut self) {
        self.left = 0;
    }
}

/// Milliseconds since 1970 by the system clock.
pub(super) fn system_ms() -> i64 {
    // A clock before 1970 is a machine without one; 0 is what such records get.
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_records_are_exact_and_fast_ones_read_seldom() {
        let mut clock = RecordClock::default();
        for ms in 1..100 {
            assert_eq!(clock.now_ms_by(0, || ms), ms);
        }
        let mut reads = 0;
        for i in 0..100_000 {
            // 10,000 records a millisecond.
            let true_ms = 200 + i / 10_000;
            let ms = clock.now_ms_by(0, || {
                reads += 1;
                true_ms
            });
            assert!(true_ms - ms <= 1);
        }
        assert!(reads < 100_000 / 50, "{reads}");
    }

    #[test]
    fn a_tick_or_a_new_batch_forces_a_read() {
        let mut clock = RecordClock::default();
        for _ in 0..50 {
            clock.now_ms_by(0, || 10);
        }
        assert_eq!(clock.now_ms_by(0, || 11), 10);
        assert_eq!(clock.now_ms_by(1, || 12), 12);
        clock.reset();
        assert_eq!(clock.now_ms_by(1, || 13), 13);
    }
}
