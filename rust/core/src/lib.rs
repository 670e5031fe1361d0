//! A fast Kafka client: a producer any thread may feed at full speed, and consumers that share the load as
//! work units, so that parallelism is not bounded by partitions.

pub mod cluster;
pub mod config;
pub mod consumer;
pub mod error;
pub mod group;
pub mod net;
pub mod producer;
pub mod wire;
