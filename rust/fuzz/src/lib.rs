//! Bytes no broker would send, against everything that reads bytes of the network.
//!
//! [`targets`] are plain functions of bytes: they panic when something is wrong, which is also when more memory was taken
//! than [`memory::bounded`] allows. Two things feed them. The program `fuzz` runs on any toolchain: it changes valid inputs
//! ([`seeds`]) at random ([`mutate`]), millions of them in a minute. `libfuzzer/`, a workspace of its own, gives the same
//! functions to libFuzzer, which sees what the code does with them; that wants nightly and `cargo-fuzz`. `./dev fuzz` runs
//! what is there.

pub mod memory;
pub mod mutate;
pub mod seeds;
pub mod targets;

// The values that the oracle's messages are made of.
#[path = "../../core/tests/wire_oracle/sample.rs"]
mod sample;
