//! What a commit in Kafka says beside the offset: the partition's generation, the id of its topic - another topic may have the
//! name by now - and what was handled above the offset.
//!
//! ```text
//! kf1 gen=7 topic=2a..2a at=100 done=10+10,5+1 crc=70f32f1f         [110, 120) and [125, 126) were handled
//! ```
//!
//! `at` is the offset of the commit, the low watermark; each range is `gap+length`, the gap counted from the end of the one
//! before, the first from `at`: offsets have ten digits, and as many ranges as possible are to fit. `crc` is the CRC-32C of all
//! before it. Text, so that people can read it with Kafka's own tools. What does not fit into a commit's 4096 bytes is left
//! out, the last ranges first, and is handled again.
//!
//! A text that is not understood wholly says nothing: what it names would count as handled and never be read. So a newer
//! form gets another first word; a change of one byte is found by the sum; and an offset that somebody moved - tools may keep
//! the text - no longer is `at`.

use std::fmt::Write as _;

use crate::wire::Uuid;
use crate::wire::batch::crc32c;

/// What brokers take by default (`offset.metadata.max.bytes`).
pub(crate) const METADATA_MAX: usize = 4096;

/// Redis counts generations in doubles; see docs/GROUPS.md.
const GENERATION_END: u64 = 1 << 53;

const VERSION: &str = "kf1";
const SUM: &str = " crc=";
/// With its eight digits.
const SUM_LENGTH: usize = SUM.len() + 8;

/// The text of a commit at `low_watermark`: ASCII, at most 4096 bytes. `done` are the ranges `[from, to)` handled above it,
/// ascending and disjoint; empty ones are left out, and everything from the first on that is out of order.
pub(crate) fn encode(generation: u64, topic: Uuid, low_watermark: i64, done: &[(i64, i64)]) -> String {
    let id = u128::from_be_bytes(topic.0);
    let mut text = format!("{VERSION} gen={generation} topic={id:032x} at={low_watermark} done=");
    let mut at = low_watermark;
    let mut comma = "";
    for (from, to) in done.iter().filter(|(from, to)| from != to) {
        let (Some(gap), Some(length)) = (steps(at, *from), steps(*from, *to)) else { break };
        let kept = text.len();
        let _ = write!(text, "{comma}{gap}+{length}");
        if text.len() + SUM_LENGTH > METADATA_MAX {
            text.truncate(kept);
            break;
        }
        (at, comma) = (*to, ",");
    }
    let sum = sum(&text);
    let _ = write!(text, "{SUM}{sum:08x}");
    text
}

/// What a commit remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) generation: u64,
    pub(crate) topic: Uuid,
    pub(crate) done: Vec<(i64, i64)>,
}

/// What a commit at `low_watermark` remembers. `None` unless the text is, to the byte, what [`encode`] makes for
/// them: then nothing above the low watermark counts as done.
pub(crate) fn decode(text: &str, low_watermark: i64) -> Option<Remembered> {
    read(text).and_then(|(at, remembered)| (at == low_watermark).then_some(remembered))
}

/// Whether somebody else than the group wrote the commit at `offset`: an operator who moves it. Tools write an empty text, or keep
/// the text and move the offset. A text with our first word that is not understood is not foreign: another version of this
/// library wrote it, or it is damaged.
pub(crate) fn is_foreign(text: &str, offset: i64) -> bool {
    let version =
        text.strip_prefix("kf").and_then(|rest| rest.split_once(' ')).map_or("", |(digits, _)| digits);
    let is_ours = !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_digit());
    !is_ours || read(text).is_some_and(|(at, _)| at != offset)
}

/// A whole text: the offset it is of, and what it remembers.
fn read(text: &str) -> Option<(i64, Remembered)> {
    let (said, _) = text.rsplit_once(SUM)?;
    let mut words = said.split(' ');
    if words.next()? != VERSION {
        return None;
    }
    let generation: u64 = words.next()?.strip_prefix("gen=")?.parse().ok()?;
    let topic = u128::from_str_radix(words.next()?.strip_prefix("topic=")?, 16).ok()?;
    let topic = Uuid(topic.to_be_bytes());
    let at: i64 = words.next()?.strip_prefix("at=")?.parse().ok()?;
    let ranges = words.next()?.strip_prefix("done=")?;
    if words.next().is_some() || generation >= GENERATION_END {
        return None;
    }
    let mut done = Vec::new();
    let mut end = at;
    // Of an empty text there would be one part, an empty one.
    for range in ranges.split(',').filter(|_| !ranges.is_empty()) {
        let (gap, length) = range.split_once('+')?;
        let from = end.checked_add(gap.parse().ok()?)?;
        end = from.checked_add(length.parse().ok()?)?;
        done.push((from, end));
    }
    // The sum, signs, leading zeros, empty ranges, negative gaps: all that could be read otherwise than it was written.
    (encode(generation, topic, at, &done) == text).then_some((at, Remembered { generation, topic, done }))
}

/// From one offset up to another.
fn steps(from: i64, to: i64) -> Option<i64> {
    to.checked_sub(from).filter(|steps| *steps >= 0)
}

fn sum(text: &str) -> u32 {
    crc32c(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const TOPIC: Uuid = Uuid([0x2a; 16]);
    /// As the text names it.
    const NAMED: &str = "topic=2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a";

    fn encode(generation: u64, at: i64, done: &[(i64, i64)]) -> String {
        super::encode(generation, TOPIC, at, done)
    }

    fn decode(text: &str, at: i64) -> Option<(u64, Vec<(i64, i64)>)> {
        let Remembered { generation, topic, done } = super::decode(text, at)?;
        assert_eq!(topic, TOPIC);
        Some((generation, done))
    }

    #[test]
    fn people_can_read_it() {
        let text = encode(7, 100, &[(110, 120), (125, 126)]);
        assert_eq!(text, format!("kf1 gen=7 {NAMED} at=100 done=10+10,5+1 crc=6ebe3499"));
        assert_eq!(decode(&text, 100), Some((7, vec![(110, 120), (125, 126)])));
        let nothing = encode(7, 100, &[]);
        assert_eq!(decode(&nothing, 100), Some((7, vec![])));
    }

    #[test]
    fn what_is_not_understood_wholly_says_nothing() {
        let sealed = |said: &str| {
            let said = said.replace(" at=", &format!(" {NAMED} at="));
            format!("{said} crc={:08x}", sum(&said))
        };
        assert!(decode(&sealed("kf1 gen=7 at=100 done=10+10"), 100).is_some());
        for said in [
            "",
            "kf1",
            "kf2 gen=7 at=100 done=10+10",
            "kf1 gen=7 at=100 done=10+10 more=1",
            "kf1 gen=7 at=100 done=10+10,",
            "kf1 gen=7 at=100 done=,10+10",
            "kf1 gen=7 at=100 done=10",
            "kf1 gen=7 at=100 done=10+0",
            "kf1 gen=7 at=100 done=-10+10",
            "kf1 gen=7 at=100 done=10+-5",
            "kf1 gen=7 at=100 done=010+10",
            "kf1 gen=+7 at=100 done=10+10",
            "kf1 gen=-7 at=100 done=10+10",
            "kf1 gen=9007199254740992 at=100 done=10+10",
            "kf1 gen=7 at=100 done=10+9223372036854775807",
            "kf1  gen=7 at=100 done=10+10",
        ] {
            assert_eq!(decode(&sealed(said), 100), None, "{said}");
        }
        assert_eq!(decode("", 100), None);
        assert_eq!(decode("a comment of somebody's", 100), None);
        // Somebody moved the offset and kept the text.
        assert_eq!(decode(&encode(7, 100, &[(110, 120)]), 101), None);
        let upper = encode(7, 100, &[(110, 120)]).to_uppercase();
        assert_eq!(decode(&upper, 100), None);
    }

    #[test]
    fn who_wrote_a_commit_is_seen_by_its_text() {
        let ours = encode(7, 100, &[(110, 120)]);
        assert!(!is_foreign(&ours, 100));
        // Tools write nothing, or keep what was there and move the offset.
        for (text, offset) in [
            ("", 100),
            (ours.as_str(), 10),
            ("moved by hand", 100),
            ("kf 1", 100),
            ("kf1", 100),
            ("kfx ", 100),
        ] {
            assert!(is_foreign(text, offset), "{text:?} at {offset}");
        }
        // Another version, and a damaged text: who wrote it is one of us.
        for text in ["kf2 anything", "kf17 at=5", &ours[..ours.len() - 1], &ours.replace("gen=7", "gen=8")] {
            assert!(!is_foreign(text, 10), "{text:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_left_out_from_the_end() {
        let done: Vec<(i64, i64)> = (0..5000).map(|i| (1_000_000 + i * 2000, 1_000_900 + i * 2000)).collect();
        let text = encode(GENERATION_END - 1, 999_000, &done);
        assert!(text.len() <= METADATA_MAX && text.len() > METADATA_MAX - 10, "{}", text.len());
        let (_, back) = decode(&text, 999_000).unwrap();
        assert_eq!(back, done[..back.len()]);
        assert!(back.len() > 430, "{}", back.len());
    }

    #[test]
    fn nonsense_claims_nothing() {
        for done in [&[(90, 95), (110, 120)][..], &[(120, 110)], &[(i64::MIN, i64::MAX)]] {
            let text = encode(7, 100, done);
            assert_eq!(decode(&text, 100), Some((7, vec![])), "{text}");
        }
        let text = encode(7, 100, &[(105, 105), (110, 120), (115, 130), (140, 150)]);
        assert_eq!(decode(&text, 100), Some((7, vec![(110, 120)])), "{text}");
        assert_eq!(decode(&encode(u64::MAX, 0, &[(1, 2)]), 0), None);
    }

    /// Ranges above `at`; gaps may be none.
    fn ranges(at: i64, steps: &[(u64, u64)]) -> Vec<(i64, i64)> {
        let mut at = at;
        let range = |(gap, length): &(u64, u64)| {
            let from = at + *gap as i64;
            at = from + 1 + *length as i64;
            (from, at)
        };
        steps.iter().map(range).collect()
    }

    fn some_steps(most: usize) -> impl Strategy<Value = Vec<(u64, u64)>> {
        let step = || prop_oneof![4 => 0..2000_u64, 1 => 0..1_u64 << 40];
        vec((step(), step()), 0..most)
    }

    proptest! {
        #[test]
        fn what_fits_comes_back(generation in 0..GENERATION_END, at in 0..1_i64 << 53, steps in some_steps(1000)) {
            let done = ranges(at, &steps);
            let text = encode(generation, at, &done);
            prop_assert!(text.is_ascii() && text.len() <= METADATA_MAX);
            let (back, found) = decode(&text, at).unwrap();
            prop_assert_eq!(back, generation);
            prop_assert_eq!(&found[..], &done[..found.len()]);
            prop_assert!(found.len() == done.len() || text.len() > METADATA_MAX - 30);
        }

        #[test]
        fn what_was_cut_or_changed_says_nothing(
            steps in some_steps(40),
            cut in any::<prop::sample::Index>(),
            changes in vec((any::<prop::sample::Index>(), 0x20..0x7f_u8), 1..6),
        ) {
            let text = encode(5, 1000, &ranges(1000, &steps));
            prop_assert_eq!(decode(&text[..cut.index(text.len())], 1000), None);
            let mut changed = text.clone().into_bytes();
            for (at, byte) in changes {
                let at = at.index(changed.len());
                changed[at] = byte;
            }
            let changed = String::from_utf8(changed).unwrap();
            prop_assert!(changed == text || decode(&changed, 1000).is_none(), "{}", changed);
        }

        #[test]
        fn any_text_at_any_offset_is_taken(text in ".*", said in "[-+,=0-9a-z ]*", at in any::<i64>()) {
            let sealed = format!("kf1 gen=1 {NAMED} at={at} done={said}");
            let sealed = format!("{sealed} crc={:08x}", sum(&sealed));
            for text in [text, sealed] {
                for (from, to) in decode(&text, at).into_iter().flat_map(|(_, done)| done) {
                    prop_assert!(at <= from && from < to);
                }
            }
        }

        #[test]
        fn any_ranges_are_written_and_read(done in vec(any::<(i64, i64)>(), 0..50), at in any::<i64>()) {
            let (_, found) = decode(&encode(3, at, &done), at).unwrap();
            prop_assert!(found.iter().all(|range| done.contains(range)));
        }
    }
}
