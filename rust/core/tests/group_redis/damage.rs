//! Keys of a group that do not fit together: what is done about it, by whom, and what it costs to look.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_fast::group::{GroupError, RedisGroup};
use kafka_fast_testkit::{RealRedis, RedisOptions};

use crate::support::{info, join, round, start};

async fn with_units(redis: &RealRedis) -> Arc<RedisGroup> {
    let group = join(redis, "g", "m").await;
    group.init(&[start("t", 0, 5000), start("t", 1, 5000)]).await.unwrap();
    assert_eq!(group.exchange(&round("m", "t", 2)).await.unwrap().units.len(), 2);
    group
}

/// What is missing of the open units would be committed to Kafka as handled.
#[tokio::test]
async fn positions_are_not_taken_from_where_units_are_missing() {
    let redis = RealRedis::start(&RedisOptions::new());
    for key in ["open", "units"] {
        let group = with_units(&redis).await;
        redis.command(&["DEL", &format!("{{g}}-kafka-{key}")]);
        let found = group.open_units(&"t".into(), &[0, 1]).await.unwrap();
        assert!(found.is_empty(), "{key}: {found:?}");
        assert_eq!(group.lives(), 1);
        group.delete().await.unwrap();
        redis.flush_all();
    }
}

/// Two members and several calls of each find out at once: the group is made anew once, and both are in it.
#[tokio::test]
async fn who_finds_out_at_once_makes_it_anew_once() {
    let redis = RealRedis::start(&RedisOptions::new());
    let one = with_units(&redis).await;
    let other = join(&redis, "g", "other").await;
    redis.command(&["DEL", "{g}-kafka-parts/t"]);
    let topics = ["t".into()];
    let (a, b, c, d) = tokio::join!(one.tick(), other.tick(), one.tick(), other.partitions(&topics));
    assert!(a.is_ok() && b.is_ok() && c.is_ok() && d.is_ok(), "{a:?} {b:?} {c:?} {d:?}");
    let incarnation = redis.command(&["HGET", "{g}-kafka-meta", "incarnation"]);
    assert_eq!((one.lives(), other.lives()), (1, 1));
    one.tick().await.unwrap();
    other.exchange(&round("other", "t", 0)).await.unwrap();
    assert_eq!(redis.command(&["HGET", "{g}-kafka-meta", "incarnation"]), incarnation);
}

/// The topics of all members go, also those that the one that finds out does not read and whose names are in no list any more.
#[tokio::test]
async fn nothing_stays_of_what_is_made_anew() {
    let redis = RealRedis::start(&RedisOptions::new());
    let group = with_units(&redis).await;
    let other = join(&redis, "g", "other").await;
    other.init(&[start("theirs", 0, 5000)]).await.unwrap();
    other.exchange(&round("other", "theirs", 0)).await.unwrap();
    for lost in ["meta", "topics"] {
        redis.command(&["DEL", &format!("{{g}}-kafka-{lost}")]);
        group.tick().await.unwrap();
        let left = redis.command(&["KEYS", "{g}-kafka-*"]);
        assert!(!left.contains("parts/") && !left.contains("work-queue/"), "{lost}: {left}");
        other.init(&[start("theirs", 0, 5000)]).await.unwrap();
        other.exchange(&round("other", "theirs", 0)).await.unwrap();
    }
}

/// It has no keys but its row.
#[tokio::test]
async fn a_topic_without_partitions_is_missed_too() {
    let redis = RealRedis::start(&RedisOptions::new());
    let group = join(&redis, "g", "m").await;
    group.subscribe(&[("none".into(), false)]).await.unwrap();
    group.exchange(&round("m", "none", 1)).await.unwrap();
    group.tick().await.unwrap();
    assert_eq!(group.lives(), 0);
    redis.command(&["HDEL", "{g}-kafka-topics", "none"]);
    group.tick().await.unwrap();
    assert_eq!(group.lives(), 1);
}

/// A script that fails in a group that is whole is a defect, and an error, not a new group each time.
#[tokio::test]
async fn a_group_that_is_whole_is_not_made_anew() {
    let redis = RealRedis::start(&RedisOptions::new());
    let group = with_units(&redis).await;
    for _ in 0..3 {
        // No partition has such a number, and the script trips over it.
        let error = group.seek(&"t".into(), -1, 0, 0, 1).await.unwrap_err();
        assert!(matches!(&error, GroupError::Strange(text) if text.contains("ended a script")), "{error}");
    }
    assert_eq!(group.lives(), 0);
}

#[tokio::test]
async fn what_it_costs_to_look() {
    let redis = RealRedis::start(&RedisOptions::new());
    let group = join(&redis, "g", "m").await;
    let partitions = 10_000;
    let starts: Vec<_> = (0..partitions).map(|p| start("t", p, 5000)).collect();
    group.init(&starts).await.unwrap();
    let mut units = 0;
    while units < 5_000 {
        units += group.exchange(&round("m", "t", 64)).await.unwrap().units.len();
    }
    let busy =
        || info(&redis, "cpu", "used_cpu_user_main_thread") + info(&redis, "cpu", "used_cpu_sys_main_thread");
    let (before, began) = (busy(), Instant::now());
    let ticks = 60;
    for _ in 0..ticks {
        group.tick().await.unwrap();
    }
    let each = (busy() - before) * 1e3 / f64::from(ticks);
    println!(
        "{partitions} partitions, {units} units: a tick keeps Redis for {each:.2} ms, {:?} seen",
        began.elapsed() / ticks
    );
    // Two of the sixty compare the partitions' rows too, which takes 30 ms each: 1.2 ms on average.
    assert!(each < 20.0, "{each}");
    assert!(began.elapsed() < Duration::from_secs(20));
    assert_eq!(group.lives(), 0);
    redis.command(&["DEL", "{g}-kafka-work-queue/t"]);
    group.tick().await.unwrap();
    assert_eq!(group.lives(), 1);
}
