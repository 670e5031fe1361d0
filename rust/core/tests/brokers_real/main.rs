//! The same tests against every version of Kafka that is claimed to work: 2.4.1 with ZooKeeper, 3.9.1 and 4.4.0.
//!
//! What is written is read back byte for byte, and the broker's own DumpLogSegments looks at the files. Each version has one small
//! broker for all tests of this process; a version whose jars are not there is skipped, unless `KAFKA_FAST_REQUIRE_BROKER` is
//! set. The larger suites run against one version at a time: `./dev test --kafka 2.4.1`.

mod groups;
mod offsets;
mod operator;
mod produce;
mod sessions;
mod support;
mod times;
mod topics;
