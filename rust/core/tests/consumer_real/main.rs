//! The consumer against a real broker.

mod broker;
mod chunks;
mod faults;
mod groups;
mod leaving;
mod redis;
mod replicas;
mod scaling;
mod speed;
mod support;
mod tail;
