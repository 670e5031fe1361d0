//! Budgets that do not depend on the machine: `./dev budget`. Counts what a record costs on the hot paths and holds it
//! against `rust/jni/budgets.txt`.
//!
//! The program starts itself under callgrind, and again under DHAT (`count`); each time it runs every case and says its name.
//! The figures are in the files that these two write.

mod broker;
mod client;
mod clock;
mod copies;
mod count;
mod judge;
mod jvm;
mod native;
mod wire;

use std::cell::Cell;
use std::process::ExitCode;

use client::{How, Read};
use count::Meter;
use kafka_fast::config::Codec;
use native::Send;

/// Runs every case and prints what valgrind does not know: its name, what is counted by, how many there were, and
/// their allocations and looks at the clock.
fn run_cases() {
    let port = broker::start().expect("the loopback has a free port");
    let number = Cell::new(0);
    let case = |name: &str, per: &str, run: &dyn Fn(&mut Meter) -> u64| {
        let (mut meter, mut count) = (Meter::default(), 0);
        number.set(number.get() + 1);
        copies::numbered(number.get(), &mut || count = run(&mut meter));
        println!("{name} {per} {count} {} {}", meter.allocations, meter.looks);
        meter.end();
    };
    for bytes in [100, 1000] {
        let record =
            |name: &str, run: &dyn Fn(&mut Meter) -> u64| case(&format!("{name}-{bytes}"), "record", run);
        record("encode", &|m| wire::encode(m, bytes));
        record("append", &|m| client::append(m, port, bytes, How::Plain));
        record("append-keyed", &|m| client::append(m, port, bytes, How::Keyed));
        record("append-delivery", &|m| client::append(m, port, bytes, How::Delivery));
        record("native-send", &|m| native::send(m, port, bytes, Send::Value));
        record("native-send-record", &|m| native::send(m, port, bytes, Send::Record));
        record("seal", &|m| wire::seal(m, bytes, Codec::None));
        record("seal-snappy", &|m| wire::seal(m, bytes, Codec::Snappy));
        record("open", &|m| wire::open(m, bytes, Codec::None));
        record("open-snappy", &|m| wire::open(m, bytes, Codec::Snappy));
        record("walk", &|m| wire::walk(m, bytes));
        record("read-batch", &|m| client::read(m, port, bytes, Read::Batch));
        record("read-message", &|m| client::read(m, port, bytes, Read::Message));
        record("read-chunk", &|m| client::read(m, port, bytes, Read::Chunk));
        record("native-next", &|m| native::next(m, port, bytes));
    }
    case("produce-request", "request", &wire::produce_request);
    case("fetch-response", "response", &wire::fetch_response);
    case("send-1-record", "request", &|m| client::request(m, port, 1));
    case("send-500-records", "request", &|m| client::request(m, port, 500));
    case("fetch", "fetch", &|m| client::fetch(m, port));
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments[..] {
        ["count"] => {
            run_cases();
            ExitCode::SUCCESS
        }
        ["check", file, folder] => judge::check(file, folder),
        ["write", file, folder] => judge::write(file, folder),
        _ => {
            eprintln!("usage: budget check|write FILE FOLDER");
            ExitCode::from(2)
        }
    }
}
