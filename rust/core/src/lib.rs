//! A fast Kafka client: a producer any thread may feed at full speed, and consumers that share the load as work units, so
//! that parallelism is not bounded by partitions.
//!
//! ```no_run
//! use kafka_fast::{Config, Consumer, GroupConf, Producer, Record};
//! use std::time::Duration;
//!
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let conf = Config::with_bootstrap("localhost:9092")?;
//! let producer = Producer::connect(conf.clone()).await?;
//! let delivery = producer.send("my-topic", Record::value(b"Hi")).await?;
//! println!("written at offset {}", delivery.await?.offset);
//! producer.close(Duration::from_secs(10)).await?;
//! # Ok(())
//! # }
//! ```
//!
//! Rooms, from the bottom: [`wire`] (bytes and values, no I/O), [`net`] (one socket), [`cluster`] (leaders, pools,
//! metadata), [`group`] (who works on what), [`producer`] and [`consumer`]. `docs/DESIGN.md` is the map.

pub mod cluster;
pub mod config;
pub mod consumer;
pub mod error;
pub mod group;
mod log_rate;
pub mod net;
pub mod producer;
pub mod wire;

pub use config::{BrokerAddress, Config, RedisConf};
pub use consumer::{Consumer, GroupConf, Message, Reader};
pub use error::ErrorKind;
pub use producer::{Delivery, Producer, RecordMetadata};
pub use wire::{Header, Record};

/// The README's programs are compiled by the tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
struct Readme;
