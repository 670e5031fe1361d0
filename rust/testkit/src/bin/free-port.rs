//! Prints a free port, for scripts on machines without Python.

fn main() {
    println!("{}", kafka_fast_testkit::free_port());
}
