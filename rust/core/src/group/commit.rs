//! What a commit in Kafka says beside the offset: the partition's generation, the id of its topic - a name may be another topic's
//! by now - and what was handled above the offset.
//!
//! `kf1 <generation> <topic id> <done> <sum>`: done is `from+length,...`, each `from` counted from the end of the one before, the first from
//! the offset; the sum is of all before it. Text, so that people and Kafka's own tools can read it. What does not fit into a
//! commit's 4096 bytes is left out, the last first, and is then handled again. A text that is not understood wholly says
//! nothing: taking what cannot be read for done would lose records.

use std::fmt::Write as _;

use crate::wire::Uuid;

/// What brokers take (`offset.metadata.max.bytes`).
const MOST: usize = 4096;
/// Room for the sum.
const SUM: usize = 9;

/// The text of a commit at `offset`. `done` are `[from, to)` above it, ascending, apart.
pub(crate) fn encode(generation: u64, topic: Uuid, offset: i64, done: &[(i64, i64)]) -> String {
    let mut text = format!("kf1 {generation} {:032x} ", u128::from_be_bytes(topic.0));
    let mut at = offset;
    let empty = text.len();
    for (from, to) in done {
        let comma = if text.len() > empty { "," } else { "" };
        let range = format!("{comma}{}+{}", from - at, to - from);
        if text.len() + range.len() + SUM > MOST {
            break;
        }
        text += &range;
        at = *to;
    }
    let sum = sum(&text);
    let _ = write!(text, " {sum:08x}");
    text
}

/// What a commit remembers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) generation: u64,
    pub(crate) topic: Uuid,
    pub(crate) done: Vec<(i64, i64)>,
}

/// What a commit at `offset` remembers; `None` when the text is not one of ours, whole and unchanged.
pub(crate) fn decode(text: &str, offset: i64) -> Option<Remembered> {
    let (body, written) = text.rsplit_once(' ')?;
    if written.len() != SUM - 1 || u32::from_str_radix(written, 16).ok()? != sum(body) {
        return None;
    }
    let (generation, rest) = body.strip_prefix("kf1 ")?.split_once(' ')?;
    let (topic, ranges) = rest.split_once(' ')?;
    let topic = Uuid(u128::from_str_radix(topic, 16).ok()?.to_be_bytes());
    let mut done = Vec::new();
    let mut at = offset;
    for range in ranges.split_terminator(',') {
        let (gap, length) = range.split_once('+')?;
        let from = at.checked_add(gap.parse().ok().filter(|gap| *gap > 0)?)?;
        let to = from.checked_add(length.parse().ok().filter(|length| *length > 0)?)?;
        done.push((from, to));
        at = to;
    }
    Some(Remembered { generation: generation.parse().ok()?, topic, done })
}

fn sum(text: &str) -> u32 {
    crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, text.as_bytes()) as u32
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn as_people_read_it() {
        let topic = Uuid([0x2a; 16]);
        let text = "kf1 7 2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a2a 10+10,5+1 c95eb73e";
        let done = vec![(110, 120), (125, 126)];
        assert_eq!(encode(7, topic, 100, &done), text);
        assert_eq!(decode(text, 100), Some(Remembered { generation: 7, topic, done }));
        assert_eq!(decode("", 100), None);
        assert_eq!(decode("a comment", 100), None);
    }

    fn ranges(offset: i64, steps: &[(u32, u32)]) -> Vec<(i64, i64)> {
        let mut at = offset;
        let range = |(gap, length): &(u32, u32)| {
            let from = at + 1 + i64::from(*gap);
            at = from + 1 + i64::from(*length);
            (from, at)
        };
        steps.iter().map(range).collect()
    }

    proptest! {
        #[test]
        fn what_fits_comes_back(generation in 0..1_u64 << 53, offset in 0..1_i64 << 52, steps in vec(any::<(u32, u32)>(), 0..600)) {
            let done = ranges(offset, &steps);
            let topic = Uuid([7; 16]);
            let text = encode(generation, topic, offset, &done);
            prop_assert!(text.len() <= MOST);
            let Remembered { generation: back, topic: named, done: found } = decode(&text, offset).unwrap();
            prop_assert_eq!((back, named), (generation, topic));
            prop_assert_eq!(&found[..], &done[..found.len()]);
            prop_assert!(found.len() == done.len() || text.len() > MOST - 40);
        }

        #[test]
        fn what_is_broken_says_nothing(
            steps in vec(any::<(u32, u32)>(), 0..20),
            at in any::<prop::sample::Index>(),
            byte in 0x20_u8..0x7f,
            cut in any::<bool>(),
        ) {
            let text = encode(5, Uuid::default(), 1000, &ranges(1000, &steps));
            let mut broken = text.clone().into_bytes();
            let at = at.index(broken.len());
            if cut { broken.truncate(at) } else { broken[at] = byte }
            let broken = String::from_utf8(broken).unwrap();
            prop_assert!(broken == text || decode(&broken, 1000).is_none(), "{}", broken);
        }

        #[test]
        fn any_text_is_taken(text in ".*", offset in any::<i64>()) {
            let _ = decode(&text, offset);
        }
    }
}
