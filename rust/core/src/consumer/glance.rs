//! When a reader looks at the clock.

use std::time::{Duration, Instant};

/// When to look at the clock between records: before each that follows a microsecond of work, and never less often than
/// every 64. So it costs 2 % at most, and a process that slept hands out no more than that of what is not its own any more.
#[derive(Debug, Default)]
pub(super) struct Glance {
    /// Records until the next look, and how many there were from the last one to it.
    left: u32,
    stride: u32,
    last: Option<Instant>,
}

impl Glance {
    pub(super) const WORTH: Duration = Duration::from_micros(1);
    const RARELY: u32 = 64;
    /// Work for which it is looked again before the next record.
    const SLOW: Duration = Duration::from_micros(64);

    /// How many records there are from one look to the next.
    #[inline]
    pub(super) const fn stride(&self) -> u32 {
        self.stride
    }

    /// Whether a record may still be handed out, of a unit that is ours until `deadline`.
    #[inline]
    pub(super) fn before(&mut self, deadline: Instant) -> bool {
        match self.left.checked_sub(1) {
            Some(left) => {
                self.left = left;
                true
            }
            None => self.look(deadline),
        }
    }

    #[cold]
    fn look(&mut self, deadline: Instant) -> bool {
        let now = Instant::now();
        let busy = self.last.replace(now).map_or(Self::WORTH, |last| now - last);
        self.stride = match busy {
            _ if busy < Self::WORTH => (self.stride * 2).min(Self::RARELY),
            _ if busy < Self::SLOW => self.stride / 2,
            _ => 1,
        }
        .max(1);
        self.left = self.stride - 1;
        now < deadline
    }
}
