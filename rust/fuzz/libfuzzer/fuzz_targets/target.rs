//! Any target, by the name in the environment's `KAFKA_FAST_FUZZ`. `./dev fuzz` runs all of them in turn.

#![no_main]

use std::sync::LazyLock;

use kafka_fast_fuzz::targets::{Target, named};
use libfuzzer_sys::fuzz_target;

static TARGET: LazyLock<&Target> = LazyLock::new(|| {
    let name = std::env::var("KAFKA_FAST_FUZZ").expect("KAFKA_FAST_FUZZ names a target");
    named(&name).expect("KAFKA_FAST_FUZZ is one of `fuzz --list`")
});

fuzz_target!(|input: &[u8]| (TARGET.run)(input));
