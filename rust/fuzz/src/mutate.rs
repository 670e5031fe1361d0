//! Changing inputs at random, the way the protocol breaks: bits and bytes, lengths that cannot be, pieces of other inputs,
//! ends that are missing. The same numbers make the same input, so that one that failed is known by its number.

use crate::seeds::Seeds;

/// Random numbers that can be had again (splitmix64).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// Beginning with `seed`.
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next one.
    #[allow(clippy::should_implement_trait, reason = "an iterator over them would end never")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// One below `n`, which is not 0.
    pub fn below(&mut self, n: usize) -> usize {
        // Of 64 bits; that some come a little more often does not matter.
        (self.next() % n as u64) as usize
    }

    fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// An input longer than this is not made longer.
const LONG: usize = 64 << 10;
/// How often an input is blown up, and how large.
const BLOW_UP_ONE_IN: usize = 1000;
const BLOWN_UP: usize = 300_000;

/// Input `number` of those that `seed` makes of `seeds`, into `out`.
pub fn input(seeds: &Seeds, seed: u64, number: u64, out: &mut Vec<u8>) {
    let mut random = Random::new(seed ^ number.wrapping_mul(0xd134_2543_de82_ef95));
    out.clear();
    out.extend_from_slice(&seeds[random.below(seeds.len())]);
    let changes = 1 + random.below(4);
    for _ in 0..changes {
        change(&mut random, seeds, out);
    }
    if random.below(BLOW_UP_ONE_IN) == 0 {
        blow_up(&mut random, out);
    }
}

fn change(random: &mut Random, seeds: &Seeds, out: &mut Vec<u8>) {
    if out.is_empty() {
        out.push(random.next() as u8);
        return;
    }
    let at = random.below(out.len());
    match random.below(14) {
        0 | 1 => out[at] ^= 1 << random.below(8),
        2 => out[at] = random.next() as u8,
        3 => out[at] = random.one_of(&[0, 1, 2, 0x7e, 0x7f, 0x80, 0x81, 0xfe, 0xff]),
        4 => out[at] = out[at].wrapping_add(random.one_of(&[1, 0xff, 2, 0xfe])),
        5 | 6 => overwrite(out, at, &number(random)),
        7 => overwrite(out, at, varint(random)),
        8 => insert(out, at, varint(random)),
        9 => out.truncate(at),
        10 => {
            let bytes: Vec<u8> = (0..=random.below(16)).map(|_| random.next() as u8).collect();
            insert(out, at, &bytes);
        }
        11 => {
            let end = (at + 1 + random.below(32)).min(out.len());
            out.drain(at..end);
        }
        12 => {
            let end = (at + 1 + random.below(64)).min(out.len());
            let piece = out[at..end].to_vec();
            insert(out, at, &piece);
        }
        _ => splice(random, seeds, out, at),
    }
}

/// A length that cannot be, or nearly: big-endian as the protocol has it, or little-endian as lz4 and zstd do.
fn number(random: &mut Random) -> Vec<u8> {
    let wide = random.below(3);
    let small = random.below(70_000) as i64;
    let number = random.one_of(&[
        -1,
        -2,
        0,
        1,
        small,
        i64::from(i16::MAX),
        i64::from(i32::MAX),
        i64::from(i32::MAX) - 11,
        i64::from(i32::MIN),
        i64::MAX,
        i64::MIN,
    ]);
    let mut bytes = match wide {
        0 => (number as i16).to_be_bytes().to_vec(),
        1 => (number as i32).to_be_bytes().to_vec(),
        _ => number.to_be_bytes().to_vec(),
    };
    if random.below(4) == 0 {
        bytes.reverse();
    }
    bytes
}

/// Varints at the ends of their types, and one without an end.
fn varint(random: &mut Random) -> &'static [u8] {
    random.one_of(&[
        b"\x00",
        b"\x01",
        b"\xff\x01",
        b"\x80\x80\x01",
        b"\xff\xff\xff\xff\x07",
        b"\xff\xff\xff\xff\x0f",
        b"\xfe\xff\xff\xff\x0f",
        b"\xff\xff\xff\xff\x1f",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\xfe\xff\xff\xff\xff\xff\xff\xff\xff\x01",
        b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80",
    ])
}

fn overwrite(out: &mut [u8], at: usize, bytes: &[u8]) {
    let n = bytes.len().min(out.len() - at);
    out[at..at + n].copy_from_slice(&bytes[..n]);
}

fn insert(out: &mut Vec<u8>, at: usize, bytes: &[u8]) {
    if out.len() < LONG {
        out.splice(at..at, bytes.iter().copied());
    }
}

/// The head of this one and the tail of another.
fn splice(random: &mut Random, seeds: &Seeds, out: &mut Vec<u8>, at: usize) {
    let other = &seeds[random.below(seeds.len())];
    if other.is_empty() {
        return;
    }
    out.truncate(at);
    out.extend_from_slice(&other[random.below(other.len())..]);
}

/// An array that is really there, of the smallest elements there are: a few bytes become much in memory, if anything does.
fn blow_up(random: &mut Random, out: &mut Vec<u8>) {
    let at = random.below(out.len() + 1);
    let bytes = 1 + random.below(BLOWN_UP);
    let elements = bytes / random.one_of(&[1, 1, 2, 4, 8, 20]);
    out.truncate(at);
    match random.below(3) {
        0 => out.extend_from_slice(&(elements as i32).to_be_bytes()),
        1 => out.extend_from_slice(&uvarint(elements as u32 + 1)),
        // As a tagged field, behind its tag and its length.
        _ => {
            out.extend_from_slice(&[1, random.below(4) as u8]);
            out.extend_from_slice(&uvarint(bytes as u32 + 3));
            out.extend_from_slice(&uvarint(elements as u32 + 1));
        }
    }
    let filling = random.one_of(&[0_u8, 0, 1, 2, 0xff]);
    out.resize(out.len() + bytes, filling);
}

fn uvarint(mut value: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value >= 0x80 {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}
