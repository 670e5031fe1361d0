//! How often a log line may come: one cause is one line in 30 s, whoever meets it and however often.
//!
//! What fails in a loop (an exchange with a group, a fetch of a partition) would log each try. The first line of a cause goes
//! out at once; the next one, 30 s later at the earliest, says how many came between. One table serves the whole process:
//! sixteen consumers that lost the same Redis are one cause. A cause is a text without what changes from try to try.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hasher};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Least time between two lines of one cause.
pub(crate) const EVERY: Duration = Duration::from_secs(30);
/// Causes told apart. When so many were logged within [`EVERY`], all further ones count as one.
const CAUSES: usize = 256;
/// The name of that one.
const FURTHER: u64 = 0;

static PROCESS: LogRate = LogRate::new();

/// Whether a line about `cause` is due now. `Some` is to be put at the end of the line: it is empty, or says how many lines were
/// withheld. Never blocks but for a short lock, and does not allocate for a cause that is known.
pub(crate) fn due(cause: impl fmt::Display) -> Option<Withheld> {
    PROCESS.due(cause, Instant::now())
}

/// When each cause was logged last.
#[derive(Debug)]
pub(crate) struct LogRate {
    causes: Mutex<BTreeMap<u64, Said>>,
}

#[derive(Debug)]
struct Said {
    at: Instant,
    withheld: u64,
}

/// How many lines of a cause were not logged since the one before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Withheld(u64);

impl fmt::Display for Withheld {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => Ok(()),
            n => write!(f, " ({n} more since this was logged last)"),
        }
    }
}

impl LogRate {
    pub(crate) const fn new() -> Self {
        Self { causes: Mutex::new(BTreeMap::new()) }
    }

    /// See [`due`].
    pub(crate) fn due(&self, cause: impl fmt::Display, now: Instant) -> Option<Withheld> {
        let mut key = hash(cause);
        let mut causes = self.causes.lock();
        if !causes.contains_key(&key) && causes.len() >= CAUSES {
            causes.retain(|_, said| now < said.at + EVERY);
            if causes.len() >= CAUSES {
                key = FURTHER;
            }
        }
        match causes.get_mut(&key) {
            Some(said) if now < said.at + EVERY => {
                said.withheld += 1;
                None
            }
            Some(said) => {
                said.at = now;
                Some(Withheld(std::mem::take(&mut said.withheld)))
            }
            None => {
                causes.insert(key, Said { at: now, withheld: 0 });
                Some(Withheld(0))
            }
        }
    }
}

/// The causes' names would be kept as long as they count; 64 bits tell a few hundred of them apart.
fn hash(cause: impl fmt::Display) -> u64 {
    struct Into(DefaultHasher);
    impl fmt::Write for Into {
        fn write_str(&mut self, text: &str) -> fmt::Result {
            self.0.write(text.as_bytes());
            Ok(())
        }
    }
    let mut into = Into(DefaultHasher::new());
    // A `Display` that fails says less, and is a cause all the same.
    let _ = fmt::write(&mut into, format_args!("{cause}"));
    into.0.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn one_cause_is_one_line_in_30_seconds_and_the_next_says_how_many_there_were() {
        let (rate, start) = (LogRate::new(), Instant::now());
        // As issue 16 saw it: 180 tries a second.
        let tries = |from: u32, to: u32| {
            (from * 180..to * 180)
                .filter_map(|i| rate.due("OOM", start + SECOND * i / 180))
                .collect::<Vec<_>>()
        };
        assert_eq!(tries(0, 30), [Withheld(0)]);
        assert_eq!(tries(30, 60), [Withheld(30 * 180 - 1)]);
        assert_eq!(Withheld(0).to_string(), "");
        assert_eq!(Withheld(179).to_string(), " (179 more since this was logged last)");
    }

    #[test]
    fn causes_do_not_silence_each_other() {
        let (rate, now) = (LogRate::new(), Instant::now());
        assert!(rate.due(format_args!("{} of {}", 1, "a"), now).is_some());
        assert!(rate.due("1 of b", now).is_some());
        assert!(
            rate.due("1 of a", now).is_none(),
            "a cause is its text, in however many parts it is written"
        );
    }

    #[test]
    fn what_it_keeps_is_bounded_and_so_are_the_lines_of_a_thousand_causes() {
        let (rate, start) = (LogRate::new(), Instant::now());
        let lines = |at: Instant| (0..10_000).filter(|n| rate.due(n, at).is_some()).count();
        assert_eq!(lines(start), CAUSES + 1);
        assert_eq!(lines(start + EVERY / 2), 0);
        assert!(rate.causes.lock().len() <= CAUSES + 1);
        assert!((CAUSES..=CAUSES + 1).contains(&lines(start + EVERY)));
        assert!(rate.causes.lock().len() <= CAUSES + 1);
        // What is over makes room.
        assert!(rate.due("another", start + EVERY * 3).is_some());
        assert!(rate.causes.lock().len() <= CAUSES + 1);
    }
}
