//! What the group costs Redis: time, memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_fast::group::RedisGroup;
use kafka_fast_testkit::{RealRedis, RedisOptions};

use crate::support::{ack, info, join, known, round, start};

/// Microseconds of a core that Redis has used. (The times of `INFO commandstats` are those of a clock: they count what other
/// processes take, too.)
fn busy(redis: &RealRedis) -> f64 {
    let of = |name| info(redis, "cpu", name);
    (of("used_cpu_user_main_thread") + of("used_cpu_sys_main_thread")) * 1e6
}

/// Claims and acknowledges units, `want` at a time.
async fn work(group: Arc<RedisGroup>, member: String, topic: String, want: u32, calls: u32) {
    let mut held = Vec::new();
    for _ in 0..calls {
        let mut request = round(&member, &topic, want);
        request.acks = held.iter().map(ack).collect();
        held = group.exchange(&request).await.unwrap().units;
        assert_eq!(held.len(), want as usize);
    }
}

/// Units a second that one Redis core can hand out and take back, `want` at a time, when so many members keep it busy.
async fn units_per_second(redis: &RealRedis, partitions: i32, want: u32, members: u32) -> f64 {
    const CALLS: u32 = 8_000;
    let topic = format!("t{partitions}-{want}-{members}");
    let mut groups = Vec::new();
    for member in 0..members {
        groups.push(join(redis, &topic, &format!("m{member}")).await);
    }
    let starts: Vec<_> = (0..partitions).map(|p| start(&topic, p, 1 << 40)).collect();
    groups[0].init(&starts).await.unwrap();
    let (began, before) = (Instant::now(), busy(redis));
    let work = groups.into_iter().enumerate().map(|(member, group)| {
        tokio::spawn(work(group, format!("m{member}"), topic.clone(), want, CALLS / members))
    });
    for done in work.collect::<Vec<_>>() {
        done.await.unwrap();
    }
    let took = began.elapsed();
    let busy = busy(redis) - before;
    let rate = f64::from(want * CALLS) / busy * 1e6;
    println!(
        "{partitions:>5} partitions, {members} members, {want:>2} units a call: {:.1} us a call, {rate:.0} units/s of a Redis core, {:.0} \
         units/s seen",
        busy / f64::from(CALLS),
        f64::from(want * CALLS) / took.as_secs_f64()
    );
    rate
}

#[tokio::test]
async fn units_a_second() {
    let redis = RealRedis::start(&RedisOptions::new());
    for partitions in [1, 100, 10_000] {
        units_per_second(&redis, partitions, 1, 8).await;
        let rate = units_per_second(&redis, partitions, 4, 8).await;
        units_per_second(&redis, partitions, 4, 1).await;
        units_per_second(&redis, partitions, 16, 8).await;
        // 30,000 when nothing else runs; other tests do.
        assert!(rate > 10_000.0, "{rate}");
    }
}

#[tokio::test]
async fn memory_and_publishing() {
    let redis = RealRedis::start(&RedisOptions::new());
    let group = join(&redis, "g", "m").await;
    let empty = info(&redis, "memory", "used_memory");
    let partitions = 10_000;
    let starts: Vec<_> = (0..partitions).map(|p| start("topic", p, 0)).collect();
    group.init(&starts).await.unwrap();
    let idle = info(&redis, "memory", "used_memory");
    let facts: Vec<_> = (0..partitions).map(|p| known("topic", p, 1 << 40)).collect();
    let (began, before) = (Instant::now(), busy(&redis));
    group.publish(&facts).await.unwrap();
    let took = began.elapsed();
    let busy = busy(&redis) - before;
    let listed = info(&redis, "memory", "used_memory");
    let mut units = 0;
    while units < 16_000 {
        units += group.exchange(&round("m", "topic", 64)).await.unwrap().units.len();
    }
    let flying = info(&redis, "memory", "used_memory");
    println!(
        "{partitions} partitions: {:.1} MB, in the ring {:.1} MB; published in {:.0} ms ({:.0} ms of it in Redis); a unit in flight: \
         {:.0} bytes",
        (idle - empty) / 1e6,
        (listed - empty) / 1e6,
        took.as_secs_f64() * 1e3,
        busy / 1e3,
        (flying - listed) / units as f64
    );
    assert!(listed - empty < 6e6, "{}", listed - empty);
    assert!((flying - listed) / (units as f64) < 700.0, "{}", (flying - listed) / units as f64);
    // 50 ms when nothing else runs.
    assert!(took < Duration::from_millis(500), "{took:?}");
}
