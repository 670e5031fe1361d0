//! The time as the producer's decisions see it: the system's monotonic clock, or in the simulation one that stands still
//! until it is told to move.

use std::time::{Duration, Instant};

/// Counts from the producer's birth.
pub(super) struct Time {
    born: Instant,
    /// Microseconds since then, when nothing but the simulation moves the clock.
    #[cfg(test)]
    by_hand: Option<std::sync::atomic::AtomicU64>,
}

impl Default for Time {
    fn default() -> Self {
        Self {
            born: Instant::now(),
            #[cfg(test)]
            by_hand: None,
        }
    }
}

impl Time {
    pub(super) fn now(&self) -> Instant {
        #[cfg(test)]
        if let Some(us) = &self.by_hand {
            return self.instant(us.load(std::sync::atomic::Ordering::SeqCst));
        }
        Instant::now()
    }

    /// Microseconds of the producer's life.
    pub(super) fn us(&self) -> u64 {
        self.now().saturating_duration_since(self.born).as_micros() as u64
    }

    /// The instant of a number of microseconds of the producer's life.
    pub(super) fn instant(&self, us: u64) -> Instant {
        self.born + Duration::from_micros(us)
    }
}

#[cfg(test)]
impl Time {
    /// A clock that stands at 0.
    pub(super) fn by_hand() -> Self {
        Self { born: Instant::now(), by_hand: Some(0.into()) }
    }

    /// Moves a clock that is moved by hand.
    pub(super) fn set_us(&self, us: u64) {
        let time = self.by_hand.as_ref().expect("invariant: only the simulation moves its clock");
        time.store(us, std::sync::atomic::Ordering::SeqCst);
    }
}
