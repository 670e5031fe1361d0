//! A group that does not serve us for now: when it is asked again, and what is said about it.
//!
//! A group that is away (Redis stopped, hangs, takes no writes) is asked again soon: it may be back any moment. One that refuses us
//! (a password, a right, a memory policy, other settings) waits for people, and each try may be one more wrong password to it:
//! it is asked ever more rarely, at last every 30 s. No I/O; `now` is passed in.

use std::time::{Duration, Instant};

use crate::group::GroupError;
use crate::net::BackOff;

/// For a group that is away.
const AWAY: BackOff = BackOff::new(Duration::from_millis(20), Duration::from_secs(1));
/// For one that refuses us. The first tries come soon: most of what is mended was a mistake of a moment.
const REFUSED: BackOff = BackOff::new(Duration::from_millis(50), Duration::from_secs(30));

/// From the first failure to the next answer.
#[derive(Debug)]
pub(super) struct Outage {
    since: Option<Instant>,
    away: BackOff,
    refused: BackOff,
    logged: bool,
}

impl Outage {
    pub(super) const fn new() -> Self {
        Self { since: None, away: AWAY, refused: REFUSED, logged: false }
    }

    /// The group answered with `error`, which is not final. Returns how long to wait before it is asked again.
    pub(super) fn failed(&mut self, error: &GroupError, now: Instant) -> Duration {
        self.since.get_or_insert(now);
        if error.is_refusal() {
            return self.refused.fail();
        }
        // It was reached no more, or for another reason than before: the next refusal is news.
        self.refused.reset();
        self.away.fail()
    }

    /// The outage was logged, so its end is to be, too.
    pub(super) const fn logged(&mut self) {
        self.logged = true;
    }

    /// The group serves us. Returns how long it did not, if that was logged.
    pub(super) fn over(&mut self, now: Instant) -> Option<Duration> {
        let Self { since, logged, .. } = std::mem::replace(self, Self::new());
        since.filter(|_| logged).map(|since| now.saturating_duration_since(since))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: Duration = Duration::from_secs(1);

    fn refusal() -> GroupError {
        GroupError::Refused { address: "r:6379".into(), what: "needs a password".into() }
    }

    fn away() -> GroupError {
        GroupError::Away { address: "r:6379".into(), what: "is silent".into() }
    }

    #[test]
    fn who_is_refused_asks_ever_more_rarely_and_who_is_not_reached_every_second() {
        let (mut outage, now) = (Outage::new(), Instant::now());
        let first: Duration = (0..4).map(|_| outage.failed(&refusal(), now)).sum();
        assert!(first < S, "a mistake of a moment costs no more: {first:?}");
        (0..10).for_each(|_| _ = outage.failed(&refusal(), now));
        let wait = outage.failed(&refusal(), now);
        assert!((S * 15..=S * 30).contains(&wait), "{wait:?}");
        let wait = (0..20).map(|_| outage.failed(&away(), now)).max().unwrap();
        assert!(wait <= S, "{wait:?}");
        // Redis is up again and refuses as before: that is not the hundredth try.
        assert!(outage.failed(&refusal(), now) <= S);
    }

    #[test]
    fn the_end_is_told_of_what_was_told_and_once() {
        let (mut outage, start) = (Outage::new(), Instant::now());
        assert_eq!(outage.over(start), None);
        outage.failed(&refusal(), start);
        assert_eq!(outage.over(start + S), None, "nobody was told that it began");
        outage.failed(&refusal(), start + S);
        outage.logged();
        outage.failed(&away(), start + S * 2);
        assert_eq!(outage.over(start + S * 4), Some(S * 3));
        assert_eq!(outage.over(start + S * 5), None);
        assert!(outage.failed(&refusal(), start + S * 6) <= S, "the next outage begins anew");
    }
}
