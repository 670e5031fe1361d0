//! The consumer against a real broker.

mod broker;
mod chunks;
mod clusters;
mod faults;
mod groups;
mod leaving;
mod logs;
mod operator;
mod pinned;
mod redis;
mod refusals;
mod replicas;
mod scaling;
mod speed;
mod support;
mod tail;
