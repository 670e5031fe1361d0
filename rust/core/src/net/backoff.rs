//! How long to wait before trying again: exponential, bounded, with jitter.
//!
//! Jitter keeps a thousand clients that lost the same broker from coming back in the same millisecond. The delay
//! is pure (`delay` takes the random bits), the struct only counts.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

/// Counts failures in a row and says how long to wait after each. Doubles from `base` to `max`.
#[derive(Debug, Clone)]
pub struct BackOff {
    base: Duration,
    max: Duration,
    failures: u32,
}

impl BackOff {
    /// For a broker that does not answer: 50 ms doubling to 1 s.
    pub const RECONNECT: Self = Self::new(Duration::from_millis(50), Duration::from_secs(1));

    /// For a broker that does not accept who we are: 50 ms doubling to 30 s. Each try may be one more wrong password to it.
    pub const REFUSED: Self = Self::new(Duration::from_millis(50), Duration::from_secs(30));

    /// No failures yet.
    pub const fn new(base: Duration, max: Duration) -> Self {
        Self { base, max, failures: 0 }
    }

    /// Failures in a row so far.
    pub const fn failures(&self) -> u32 {
        self.failures
    }

    /// Counts one more failure and says how long to wait now: between half and all of the nominal delay.
    pub fn fail(&mut self) -> Duration {
        let wait = delay(self.base, self.max, self.failures, random());
        self.failures = self.failures.saturating_add(1);
        wait
    }

    /// It worked: the next failure waits `base` again.
    pub const fn reset(&mut self) {
        self.failures = 0;
    }
}

/// `base * 2^failures`, at most `max`, of which a random share between a half and the whole.
fn delay(base: Duration, max: Duration, failures: u32, random: u64) -> Duration {
    let nominal = base.saturating_mul(1 << failures.min(20)).min(max);
    let half = nominal / 2;
    // 16 random bits are resolution enough for a wait of at most seconds.
    half + half * u32::from(random as u16) / u32::from(u16::MAX)
}

/// 64 random bits, good enough for jitter and for choosing a broker; not for secrets.
pub(crate) fn random() -> u64 {
    // Every RandomState has keys of its own, seeded by the operating system once a thread.
    RandomState::new().build_hasher().finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn doubles_to_its_bound_and_jitters_below_it() {
        for (failures, nominal) in [(0, 50), (1, 100), (2, 200), (3, 400), (4, 800), (5, 1000), (4000, 1000)]
        {
            let at = |random| delay(50 * MS, 1000 * MS, failures, random);
            assert_eq!(at(0), nominal * MS / 2, "{failures}");
            assert_eq!(at(u64::MAX), nominal * MS, "{failures}");
        }
    }

    #[test]
    fn starts_over_after_a_success() {
        let mut b = BackOff::RECONNECT;
        for _ in 0..50 {
            assert!(b.fail() <= 1000 * MS);
        }
        assert!(b.fail() >= 500 * MS);
        b.reset();
        assert_eq!(b.failures(), 0);
        assert!(b.fail() <= 50 * MS);
    }

    #[test]
    fn a_user_who_is_refused_comes_ever_more_rarely() {
        let mut b = BackOff::REFUSED;
        let waited: Duration = (0..10).map(|_| b.fail()).sum();
        assert!(waited >= 20_000 * MS, "{waited:?}");
        let next = b.fail();
        assert!(15_000 * MS <= next && next <= 30_000 * MS, "{next:?}");
    }

    #[test]
    fn two_clients_wait_differently() {
        let waits: std::collections::HashSet<Duration> =
            (0..16).map(|_| delay(1000 * MS, 1000 * MS, 0, random())).collect();
        assert!(waits.len() > 8, "{waits:?}");
    }
}
