//! A Redis that refuses members which have joined: what ends `connect` does not end them.

use std::time::Duration;

use kafka_fast::config::RedisConf;
use kafka_fast::consumer::{Consumer, GroupConf};
use kafka_fast_testkit::{RealRedis, RedisOptions};

use crate::logs;
use crate::support::{Bench, SOON, Tally, read_all};

/// The rights that docs/GROUPS.md names, of a user whose groups have any name.
const RIGHTS: &str = "+evalsha +eval +script|load +info +ping +hello +subscribe +publish +time +@hash +@sortedset +@stream +del \
                      +unlink +expire ~* &*";

/// Redis refuses for a while, in the way that `refuse` makes it, then goes on with what `mend` says.
async fn refused_for_a_while(
    bench: &Bench,
    redis: &RealRedis,
    tally: &Tally,
    refuse: &[&[&str]],
    says: &str,
    mend: &[&[&str]],
) {
    let before = tally.len() as u64;
    let words = [bench.group.as_str(), "does not serve this consumer", says];
    refuse.iter().for_each(|command| _ = redis.command(command));
    bench.produce(0, before, 100, 10).await;
    let deadline = std::time::Instant::now() + SOON;
    while logs::with(&words).is_empty() {
        assert!(
            std::time::Instant::now() < deadline,
            "nobody says {words:?}: {:#?}",
            logs::with(&[&bench.group])
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // So that it is refused more than once.
    tokio::time::sleep(Duration::from_millis(700)).await;
    assert_eq!(logs::with(&words).len(), 1, "one cause is one line: {:#?}", logs::with(&words));
    mend.iter().for_each(|command| _ = redis.command(command));
    tally.reach(before as usize + 100, SOON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_refuses_a_running_consumer_for_a_while_does_not_end_it() {
    logs::keep();
    let bench = Bench::new(1).await;
    let redis =
        RealRedis::start(&RedisOptions::new().user(&format!("app on >secret resetchannels {RIGHTS}")));
    let mut conf = RedisConf::new("127.0.0.1", redis.port(), bench.group.as_str());
    (conf.user, conf.password) = (Some("app".into()), Some("secret".into()));
    let group = GroupConf::redis(conf);
    let consumer = Consumer::connect(bench.conf.clone(), group, &[&bench.topic]).await.unwrap();
    let tally = Tally::default();
    read_all(consumer.reader(), tally.clone(), Duration::ZERO);
    bench.produce(0, 0, 100, 10).await;
    tally.reach(100, SOON).await;
    let kill: &[&str] = &["CLIENT", "KILL", "USER", "app"];

    let wrong: &[&str] = &["ACL", "SETUSER", "app", "resetpass", ">changed"];
    let right: &[&str] = &["ACL", "SETUSER", "app", "resetpass", ">secret"];
    refused_for_a_while(&bench, &redis, &tally, &[wrong, kill], "WRONGPASS", &[right]).await;

    // The connection stays.
    let less: &[&str] = &["ACL", "SETUSER", "app", "-evalsha"];
    let more: &[&str] = &["ACL", "SETUSER", "app", "+evalsha"];
    refused_for_a_while(&bench, &redis, &tally, &[less], "does not let user", &[more]).await;

    let evicts: &[&[&str]] = &[
        &["CONFIG", "SET", "maxmemory", "1gb"],
        &["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"],
        kill,
    ];
    let keeps: &[&str] = &["CONFIG", "SET", "maxmemory-policy", "noeviction"];
    refused_for_a_while(&bench, &redis, &tally, evicts, "allkeys-lru", &[keeps]).await;

    consumer.close(SOON).await.unwrap();
    tally.assert_once(400);
    let over = logs::with(&[bench.group.as_str(), "serves this consumer again"]);
    assert_eq!(over.len(), 3, "{over:#?}");
}

/// As issue 16 saw it: "publishing to the group" logged 180 lines a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_cause_is_one_line_while_redis_takes_no_writes() {
    logs::keep();
    let mut bench = Bench::new(1).await;
    bench.conf.offset_commit_freq = Duration::from_millis(200);
    let redis = RealRedis::start(&RedisOptions::new());
    let group = GroupConf::redis(RedisConf::new("127.0.0.1", redis.port(), bench.group.as_str()));
    let consumer = Consumer::connect(bench.conf.clone(), group, &[&bench.topic]).await.unwrap();
    let tally = Tally::default();
    read_all(consumer.reader(), tally.clone(), Duration::ZERO);
    bench.produce(0, 0, 100, 10).await;
    tally.reach(100, SOON).await;
    redis.command(&["CONFIG", "SET", "maxmemory", "1"]);
    for n in 0..30 {
        bench.produce(0, 100 + n * 10, 10, 10).await;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let said = |what: &str| logs::with(&[what, "OOM", &bench.group]).len();
    assert_eq!(said("does not serve this consumer"), 1);
    assert_eq!(said("publishing to group"), 1);
    let all = logs::with(&["OOM", &bench.group]);
    assert!(all.len() <= 3, "{all:#?}");
    redis.command(&["CONFIG", "SET", "maxmemory", "0"]);
    tally.reach(400, SOON).await;
    consumer.close(SOON).await.unwrap();
    tally.assert_once(400);
}
