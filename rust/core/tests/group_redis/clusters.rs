//! A group is of one Kafka cluster; and how it is deleted.

use std::sync::Arc;

use kafka_fast::config::Config;
use kafka_fast::group::{GroupError, GroupSettings, RedisGroup};
use kafka_fast_testkit::{RealRedis, RedisOptions};

use crate::support::{conf, round, start};

async fn join(redis: &RealRedis, member: &str, cluster: &str) -> Result<Arc<RedisGroup>, GroupError> {
    let settings = GroupSettings::of(&Config::default());
    RedisGroup::join(&conf(redis, "g"), settings, member.into(), cluster).await
}

fn cluster(redis: &RealRedis) -> String {
    redis.command(&["HGET", "{g}-kafka-meta", "cluster"])
}

#[tokio::test]
async fn a_member_of_another_cluster_is_refused_and_told_the_way_out() {
    let redis = RealRedis::start(&RedisOptions::new());
    // Brokers that tell no id match any, and the first that tells one says whose the group is.
    let unknown = join(&redis, "unknown", "").await.unwrap();
    unknown.init(&[start("t", 0, 5000)]).await.unwrap();
    assert_eq!(cluster(&redis), "");
    join(&redis, "one", "k1").await.unwrap();
    join(&redis, "unknown again", "").await.unwrap();
    assert_eq!(cluster(&redis), "k1");
    let error = join(&redis, "other", "k2").await.unwrap_err();
    let expected = format!(
        "group \"g\" in Redis 127.0.0.1:{} is of Kafka cluster k1, and this consumer reads Kafka cluster k2: its positions are of \
         other records. Name another group or another database of Redis. If Kafka was set up anew, delete the group \
         (Consumer.deleteGroup)",
        redis.port()
    );
    assert_eq!(error.to_string(), expected);
    RedisGroup::forget(&conf(&redis, "g")).await.unwrap();
    let other = join(&redis, "other", "k2").await.unwrap();
    assert_eq!(cluster(&redis), "k2");
    assert!(other.topics().await.unwrap().is_empty(), "nothing is left of the old one");
    // Also those who come late, when the next group is there already, and not into that.
    assert_eq!(unknown.exchange(&round("unknown", "t", 1)).await.unwrap_err(), GroupError::Deleted);
    assert!(other.exchange(&round("other", "t", 1)).await.is_ok());
}

#[tokio::test]
async fn a_group_that_is_made_anew_is_of_the_cluster_of_who_makes_it() {
    let redis = RealRedis::start(&RedisOptions::new());
    let one = join(&redis, "one", "k1").await.unwrap();
    redis.flush_all();
    one.tick().await.unwrap();
    assert_eq!(cluster(&redis), "k1");
    redis.flush_all();
    join(&redis, "other", "k2").await.unwrap();
    let error = one.tick().await.unwrap_err();
    assert!(
        matches!(&error, GroupError::OtherCluster { theirs, ours, .. } if theirs == "k2" && ours == "k1"),
        "{error}"
    );
}

/// Of another version, of another cluster, not there, in pieces.
#[tokio::test]
async fn whatever_is_there_can_be_deleted() {
    let redis = RealRedis::start(&RedisOptions::new());
    let forget = async || RedisGroup::forget(&conf(&redis, "g")).await.unwrap();
    let left = || redis.command(&["KEYS", "{g}-kafka-*"]);
    forget().await;
    let member = join(&redis, "m", "k1").await.unwrap();
    member.init(&[start("t", 0, 5000), start("u", 0, 5000)]).await.unwrap();
    member.exchange(&round("m", "t", 1)).await.unwrap();
    redis.command(&["HSET", "{g}-kafka-meta", "version", "1"]);
    let error = join(&redis, "new", "k1").await.unwrap_err();
    assert!(matches!(error, GroupError::Version { .. }), "{error}");
    forget().await;
    assert_eq!(left(), "{g}-kafka-meta");
    join(&redis, "m", "k1").await.unwrap().init(&[start("t", 0, 5000)]).await.unwrap();
    redis.command(&["DEL", "{g}-kafka-meta"]);
    forget().await;
    assert_eq!(left(), "{g}-kafka-meta");
    forget().await;
    assert!(join(&redis, "m", "k2").await.unwrap().topics().await.unwrap().is_empty());
}
