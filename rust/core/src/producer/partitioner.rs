//! Which partition a record goes to.
//!
//! * An explicit partition is taken as it is.
//! * A key decides by murmur2, bit for bit as kafka-clients does (`Utils.murmur2`, `BuiltInPartitioner`), so that
//!   programs in both worlds put one key into one partition.
//! * Neither: the thread's stripe stays with one partition until the batch there is sealed (KIP-480), and the
//!   next one is the shorter of two candidates (in the spirit of KIP-794): fast brokers get more.

/// The 32-bit murmur2 of kafka-clients (seed `0x9747b28c`).
pub(super) fn murmur2(data: &[u8]) -> u32 {
    const M: u32 = 0x5bd1_e995;
    const R: u32 = 24;
    // Kafka's length is a Java int; a key is far below that.
    let mut h: u32 = 0x9747_b28c ^ (data.len() as u32);
    let mut words = data.chunks_exact(4);
    for word in &mut words {
        let mut k = u32::from_le_bytes([word[0], word[1], word[2], word[3]]).wrapping_mul(M);
        k ^= k >> R;
        h = h.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    let rest = words.remainder();
    for (i, byte) in rest.iter().enumerate() {
        h ^= u32::from(*byte) << (8 * i);
    }
    if !rest.is_empty() {
        h = h.wrapping_mul(M);
    }
    h ^= h >> 13;
    h = h.wrapping_mul(M);
    h ^ (h >> 15)
}

/// The partition of a key among `partitions` (at least 1).
pub(super) fn of_key(key: &[u8], partitions: u32) -> u32 {
    (murmur2(key) & 0x7fff_ffff) % partitions
}

/// Picks the next partition for a stripe: `turn` walks round robin, `noise` is any number that differs from call
/// to call. Of the first usable partition at or after each of the two starting points the one with the shorter
/// queue is taken. When none is usable the round robin decides: its records wait for a leader.
pub(super) fn next_sticky(
    partitions: u32,
    turn: u32,
    noise: u32,
    usable: impl Fn(u32) -> bool,
    queued: impl Fn(u32) -> usize,
) -> u32 {
    let from = |start: u32| (0..partitions).map(|i| (start + i) % partitions).find(|p| usable(*p));
    let start = turn % partitions;
    let Some(first) = from(start) else { return start };
    let second = from(noise % partitions).unwrap_or(first);
    if queued(second) < queued(first) { second } else { first }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_equals_kafka_clients() {
        // The vectors of org.apache.kafka.common.utils.UtilsTest.testMurmur2.
        let vectors: [(&str, i32); 7] = [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
            ("", 275_646_681),
        ];
        for (text, hash) in vectors {
            assert_eq!(murmur2(text.as_bytes()) as i32, hash, "{text}");
        }
    }

    #[test]
    fn a_negative_hash_is_masked_not_negated() {
        // 0x7fffffff & -973932308 = 1173551340
        assert_eq!(of_key(b"21", 7), 1_173_551_340 % 7);
    }

    #[test]
    fn equal_queues_are_served_round_robin() {
        let mut counts = [0; 4];
        for turn in 0..400 {
            counts[next_sticky(4, turn, turn.wrapping_mul(2_654_435_761), |_| true, |_| 0) as usize] += 1;
        }
        assert_eq!(counts, [100; 4]);
    }

    #[test]
    fn a_long_queue_gets_less_and_a_dead_leader_nothing() {
        let mut counts = [0; 4];
        for turn in 0..4000_u32 {
            let noise = (turn.wrapping_mul(2_654_435_761)) >> 16;
            let queued = |p: u32| if p == 1 { 10 } else { 0 };
            counts[next_sticky(4, turn, noise, |p| p != 3, queued) as usize] += 1;
        }
        assert_eq!(counts[3], 0);
        assert!(counts[1] * 2 < counts[0] && counts[1] > 0, "{counts:?}");
        assert_eq!(next_sticky(4, 6, 1, |_| false, |_| 0), 2);
    }
}
