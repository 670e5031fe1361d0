//! Real servers and faulty networks for the tests of kafka-fast. Nothing of this is shipped.
//!
//! [`RealKafka`] starts Apache Kafka of any [`Version`] on this machine's loopback, on a free port and in a folder of its own, and
//! stops it when it is dropped or when this process ends, in whatever way; [`RealRedis`] does the same with Redis, and [`Process`] with a
//! program of the test's own. [`Proxy`] stands between a client and a server and misbehaves on demand. [`fake::FakeKafka`]
//! is a cluster that says what it is told. None of them knows anything of the client under test.

#![allow(clippy::missing_panics_doc, reason = "a test that cannot have its server has failed")]

pub mod fake;

mod certificates;
mod kafka;
mod process;
mod proxy;
mod redis;
mod server;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};

pub use certificates::{Authority, Identity};
pub use kafka::{Options, RealKafka, Version, java_with, java_with_kafka};
pub use process::Process;
pub use proxy::{Fault, Proxy};
pub use redis::{RealRedis, RedisOptions};

/// A port of the loopback that nobody listens on right now.
///
/// Somebody else may take it before it is used: [`RealKafka::start`] and [`RealRedis::start`] then try again with another.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("the loopback has a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// `127.0.0.1:port`.
pub fn loopback(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A name no other test uses, for topics and groups: tests share brokers and may run twice at once.
pub fn unique(prefix: &str) -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let nanos =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.subsec_nanos());
    format!("{prefix}-{}-{nanos}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}
