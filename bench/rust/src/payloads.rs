//! The values that are sent: a pool, so that making them costs nothing in the window and no single cache line serves all.

use crate::options::Options;

pub(crate) const SIZE: usize = 1024;
const WORDS: [&str; 20] = [
    "order",
    "customer",
    "delivered",
    "pending",
    "warehouse",
    "north",
    "south",
    "express",
    "standard",
    "gift",
    "invoice",
    "paid",
    "refund",
    "customs",
    "fragile",
    "weight",
    "height",
    "label",
    "printed",
    "returned",
];

pub(crate) fn make(options: &Options) -> Vec<Vec<u8>> {
    if options.json { texts(options.bytes) } else { plain(options.bytes) }
}

fn plain(bytes: usize) -> Vec<Vec<u8>> {
    (0..SIZE).map(|i| (0..bytes).map(|j| b' ' + ((i * 31 + j * 7) % 90) as u8).collect()).collect()
}

/// JSON as programs send it: names that repeat and values that do not. Snappy makes 0.3 to 0.4 of it.
fn texts(bytes: usize) -> Vec<Vec<u8>> {
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = move || {
        // xorshift64*
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        state.wrapping_mul(0x2545_F491_4F6C_DD1D)
    };
    let mut one = || {
        let mut text = String::new();
        while text.len() < bytes {
            text += &format!(
                "{{\"order_id\":{},\"customer\":\"{:x}\",\"active\":{},\"amount\":{},\"updated_at\":\"2026-01-{}T10:00:00Z\",\"note\":\"",
                random() % 1_000_000_000,
                random(),
                random() % 2 == 0,
                (random() % 100_000) as f64 / 100.0,
                10 + random() % 20
            );
            for _ in 0..6 {
                text += WORDS[(random() % WORDS.len() as u64) as usize];
                text.push(' ');
            }
            text += "\"}\n";
        }
        text.truncate(bytes);
        text.into_bytes()
    };
    (0..SIZE).map(|_| one()).collect()
}
