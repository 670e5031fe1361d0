//! What of a unit its reader has claimed: one word, exact on both sides. No I/O.
//!
//! The word holds how far the reader has claimed, and where its claims end; both are offsets counted from where it took the unit.
//! The reader raises the claim before it hands a record out ([`claim`]), `Slot.java` likewise. The consumer lowers the end to the
//! claim to take the rest back ([`take_back`]), at any moment, without asking the reader. Both do it by compare-and-set, so a record
//! is either claimed or taken back, never both and never neither.
//!
//! The word is of a unit, not of a chunk: a chunk's records are claimed one after the other, whatever chunk they are in. Only the reader's
//! own call begins another unit, under the consumer's lock, which is held while the rest is taken back too.

use std::sync::atomic::{AtomicU64, Ordering};

/// The word of a unit that spans more than the word can count: all of it is claimed.
const ALL: u64 = u64::MAX;

/// A word that changes by compare-and-set.
pub(super) trait Word {
    /// What it is.
    fn get(&self) -> u64;
    /// Makes it `new` if it is `old`; else answers what it is.
    fn put_if(&self, old: u64, new: u64) -> Result<(), u64>;
}

impl Word for AtomicU64 {
    fn get(&self) -> u64 {
        self.load(Ordering::Acquire)
    }

    fn put_if(&self, old: u64, new: u64) -> Result<(), u64> {
        self.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).map(drop)
    }
}

const fn parts(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

fn word_of(claimed: u32, end: u32) -> u64 {
    u64::from(end) << 32 | u64::from(claimed)
}

/// The word of a unit of so many offsets of which nothing is claimed.
pub(super) fn whole(offsets: i64) -> u64 {
    u32::try_from(offsets).ok().filter(|end| *end < u32::MAX).map_or(ALL, |end| word_of(0, end))
}

/// Claims up to `most`, or what there is of it, but at least up to `least`. Answers how far the reader has claimed; `None`: what lies
/// below `least` was taken back.
pub(super) fn claim(word: &impl Word, least: u32, most: u32) -> Option<u32> {
    let mut seen = word.get();
    loop {
        let (claimed, end) = parts(seen);
        if least <= claimed {
            return Some(claimed);
        }
        if least > end {
            return None;
        }
        let to = most.min(end);
        match word.put_if(seen, word_of(to, end)) {
            Ok(()) => return Some(to),
            Err(now) => seen = now,
        }
    }
}

/// How far the reader has claimed.
pub(super) fn claimed(word: &impl Word) -> i64 {
    parts(word.get()).0.into()
}

/// Whether there is something to take back: something is claimed, and something is not.
pub(super) fn has_rest(word: &impl Word) -> bool {
    let (claimed, end) = parts(word.get());
    0 < claimed && claimed < end
}

/// Takes back what is not claimed. Answers where the claims end now. `None`: nothing was taken back, since all is claimed, or
/// nothing yet: then its reader is about to begin.
pub(super) fn take_back(word: &impl Word) -> Option<u32> {
    let mut seen = word.get();
    loop {
        let (claimed, end) = parts(seen);
        if claimed == 0 || claimed == end {
            return None;
        }
        match word.put_if(seen, word_of(claimed, claimed)) {
            Ok(()) => return Some(claimed),
            Err(now) => seen = now,
        }
    }
}

/// Where claims end; `None` when that is not counted.
pub(super) fn end(word: &impl Word) -> Option<u32> {
    let word = word.get();
    (word != ALL).then_some(parts(word).1)
}

#[cfg(test)]
mod tests {
    use loom::sync::Arc;
    use loom::sync::atomic::AtomicU64 as LoomWord;
    use loom::thread;
    use proptest::prelude::*;

    use super::*;

    impl Word for LoomWord {
        fn get(&self) -> u64 {
            self.load(Ordering::Acquire)
        }
        fn put_if(&self, old: u64, new: u64) -> Result<(), u64> {
            self.compare_exchange(old, new, Ordering::AcqRel, Ordering::Acquire).map(drop)
        }
    }

    /// A mistake: a lowered end is written over.
    struct Careless(LoomWord);

    impl Word for Careless {
        fn get(&self) -> u64 {
            self.0.load(Ordering::Acquire)
        }
        fn put_if(&self, _: u64, new: u64) -> Result<(), u64> {
            self.0.store(new, Ordering::Release);
            Ok(())
        }
    }

    /// A reader hands out records in claims of `block`; meanwhile the consumer takes back what is left, twice, as two heartbeats do. Each
    /// record must be one side's. (The reader is spawned first: the other way round this version of loom tries one order only, which the
    /// careless word shows.)
    fn play<W: Word + Send + Sync + 'static>(block: u32, make: fn(u64) -> W) {
        const RECORDS: u32 = 4;
        loom::model(move || {
            let word = Arc::new(make(whole(i64::from(RECORDS))));
            let (of_reader, of_consumer) = (Arc::clone(&word), word);
            let reader = thread::spawn(move || {
                let (mut handed_out, mut claimed) = (0, 0);
                while handed_out < RECORDS {
                    if handed_out == claimed {
                        let Some(to) = claim(&*of_reader, handed_out + 1, handed_out + block) else { break };
                        claimed = to;
                    }
                    handed_out += 1;
                }
                handed_out
            });
            let consumer = thread::spawn(move || [take_back(&*of_consumer), take_back(&*of_consumer)]);
            let [first, second] = consumer.join().unwrap();
            let handed_out = reader.join().unwrap();
            assert!(first.is_none() || second.is_none(), "the rest was taken back twice");
            assert_eq!(first.or(second).unwrap_or(RECORDS), handed_out, "a record has two owners or none");
        });
    }

    #[test]
    fn a_record_is_claimed_or_taken_back_never_both_and_never_neither() {
        [1, 2, 3].into_iter().for_each(|block| play(block, LoomWord::new));
    }

    #[test]
    #[should_panic(expected = "a record has two owners or none")]
    fn without_a_compare_the_model_finds_a_record_with_two_owners() {
        play(2, |word| Careless(LoomWord::new(word)));
    }

    #[test]
    fn a_unit_too_long_to_count_is_claimed_as_a_whole() {
        let word = AtomicU64::new(whole(i64::from(u32::MAX)));
        assert_eq!((claim(&word, 1, 16), take_back(&word), end(&word)), (Some(u32::MAX), None, None));
        assert!(!has_rest(&word));
    }

    #[test]
    fn what_is_not_claimed_yet_is_its_readers_who_is_about_to_begin() {
        let word = AtomicU64::new(whole(10));
        assert_eq!((take_back(&word), has_rest(&word), end(&word)), (None, false, Some(10)));
        assert_eq!(claim(&word, 3, 100), Some(10), "at most what there is");
        assert_eq!(take_back(&word), None, "all of it is claimed");
    }

    proptest! {
        #[test]
        fn claims_never_go_back_and_never_beyond_the_end(steps in prop::collection::vec((any::<bool>(), 1u32..30, 0u32..20), 1..50)) {
            let word = AtomicU64::new(whole(25));
            let (mut claimed, mut limit) = (0, 25);
            for (take, least, more) in steps {
                if take {
                    match take_back(&word) {
                        Some(at) => {
                            prop_assert!(0 < claimed && at == claimed && at < limit);
                            limit = at;
                        }
                        None => prop_assert!(claimed == 0 || claimed == limit),
                    }
                } else {
                    let got = claim(&word, least, least + more);
                    prop_assert_eq!(got.is_some(), least <= limit);
                    if let Some(got) = got {
                        prop_assert!(got >= least.max(claimed) && got <= limit.max(claimed));
                        claimed = got;
                    }
                }
                prop_assert_eq!(end(&word), Some(limit));
            }
        }
    }
}
