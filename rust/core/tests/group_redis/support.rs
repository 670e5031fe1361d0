//! Groups and requests for the tests.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kafka_fast::config::{Config, RedisConf};
use kafka_fast::group::{Ack, ExchangeRequest, GroupSettings, Init, Publish, RedisGroup, Unit};
use kafka_fast::wire::Uuid;
use kafka_fast_testkit::RealRedis;

pub(crate) fn conf(redis: &RealRedis, group: &str) -> RedisConf {
    RedisConf::new("127.0.0.1", redis.port(), group)
}

pub(crate) async fn join(redis: &RealRedis, group: &str, member: &str) -> Arc<RedisGroup> {
    let settings = GroupSettings::of(&Config::default());
    RedisGroup::join(&conf(redis, group), settings, member.into(), "").await.unwrap()
}

pub(crate) fn start(topic: &str, partition: i32, records: i64) -> Init {
    Init {
        topic: topic.into(),
        partition,
        topic_id: Uuid::default(),
        leader_epoch: 0,
        start: 0,
        high_watermark: records,
        log_start: 0,
        done: Vec::new(),
        pending: None,
    }
}

pub(crate) fn known(topic: &str, partition: i32, records: i64) -> Publish {
    Publish {
        topic: topic.into(),
        partition,
        topic_id: Uuid::default(),
        leader_epoch: 0,
        high_watermark: records,
        log_start: 0,
        epoch_end: None,
    }
}

/// The acknowledgement of a whole unit.
pub(crate) fn ack(unit: &Unit) -> Ack {
    Ack {
        id: unit.id.clone(),
        request: unit.request,
        end: unit.end,
        high_watermark: -1,
        leader_epoch: -1,
        records: 1000,
        bytes: 1_000_000,
    }
}

/// A member's round, with a number of its own.
pub(crate) fn round(member: &str, topic: &str, want: u32) -> ExchangeRequest {
    static NUMBER: AtomicU64 = AtomicU64::new(1);
    let mut request =
        ExchangeRequest::new(member.into(), NUMBER.fetch_add(1, Ordering::Relaxed), vec![topic.into()]);
    (request.want, request.max_records, request.least_records) = (want, 1000, 1000);
    request.organise = 9_000;
    request
}

/// A number out of `INFO`.
pub(crate) fn info(redis: &RealRedis, section: &str, name: &str) -> f64 {
    let text = redis.command(&["INFO", section]);
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim));
    let value = line.unwrap_or_else(|| panic!("{name} is not in {text}"));
    value.parse().unwrap_or_else(|_| panic!("{value} is not a number"))
}
