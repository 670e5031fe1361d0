//! Valid inputs of every target, changed a little: an error or a value, never a panic, and no more memory than is allowed.
//!
//! The program `fuzz` tries millions; these are few, and one that fails shrinks.

use std::sync::LazyLock;

use kafka_fast_fuzz::seeds::Seeds;
use kafka_fast_fuzz::targets::TARGETS;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, select};

/// Of each target.
static SEEDS: LazyLock<Vec<Seeds>> = LazyLock::new(|| TARGETS.iter().map(|t| (t.seeds)(1)).collect());

/// Lengths that cannot be, in the forms of the protocol.
fn length() -> impl Strategy<Value = &'static [u8]> {
    select(vec![
        &b"\xff\xff\xff\xff"[..],
        b"\x7f\xff\xff\xff",
        b"\x80\x00\x00\x00",
        b"\x7f\xff",
        b"\xff\xff\xff\xff\x0f",
        b"\xff\xff\xff\xff\x1f",
        b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..Default::default() })]

    #[test]
    fn a_changed_input_is_an_error_or_a_value(
        which in any::<Index>(),
        bytes in vec((any::<Index>(), any::<u8>()), 0..5),
        lengths in vec((any::<Index>(), length()), 0..3),
        cut in prop::option::of(any::<Index>()),
    ) {
        for (target, seeds) in TARGETS.iter().zip(SEEDS.iter()) {
            let mut input = which.get(seeds).clone();
            // The first byte chooses how an answer is read; the choice stays.
            let place = |at: &Index, input: &[u8]| 1 + at.index(input.len() - 1);
            for (at, byte) in &bytes {
                let at = place(at, &input);
                input[at] = *byte;
            }
            for (at, length) in &lengths {
                let at = place(at, &input);
                let n = length.len().min(input.len() - at);
                input[at..at + n].copy_from_slice(&length[..n]);
            }
            if let Some(cut) = &cut {
                input.truncate(place(cut, &input));
            }
            (target.run)(&input);
        }
    }
}

#[test]
fn valid_inputs_are_read() {
    for (target, seeds) in TARGETS.iter().zip(SEEDS.iter()) {
        seeds.iter().for_each(|seed| (target.run)(seed));
    }
}
