//! What a Redis that cannot hold a group, or not for this user, is answered with; and the rights that are enough.

use kafka_fast::config::{Config, RedisConf};
use kafka_fast::group::{GroupSettings, RedisGroup};
use kafka_fast_testkit::{RealRedis, RedisOptions, free_port};

use crate::support::{conf, round, start};

async fn refusal(conf: RedisConf) -> String {
    let settings = GroupSettings::of(&Config::default());
    RedisGroup::join(&conf, settings, "m".into(), "").await.unwrap_err().to_string()
}

#[tokio::test]
async fn nobody_listens() {
    let port = free_port();
    let text = refusal(RedisConf::new("127.0.0.1", port, "g")).await;
    let expected =
        "refused the connection. Start Redis, or use RedisConf.embedded(\"group\") for one process";
    assert_eq!(text, format!("Redis 127.0.0.1:{port} {expected}"));
}

#[tokio::test]
async fn somebody_listens_and_says_nothing() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut conf = RedisConf::new("127.0.0.1", silent.local_addr().unwrap().port(), "g");
    conf.timeout = std::time::Duration::from_millis(200);
    let text = refusal(conf).await;
    assert!(text.contains("did not answer for 200 ms"), "{text}");
}

#[tokio::test]
async fn a_password_is_missing_or_wrong() {
    let redis = RealRedis::start(&RedisOptions::new().password("secret"));
    let text = refusal(conf(&redis, "g")).await;
    assert!(text.ends_with("needs a password (NOAUTH): RedisConf.setPassword"), "{text}");
    let mut wrong = conf(&redis, "g");
    wrong.password = Some("guess".into());
    let text = refusal(wrong).await;
    assert!(text.ends_with("does not take this password for user \"default\" (WRONGPASS)"), "{text}");
}

#[tokio::test]
async fn a_redis_that_evicts_is_refused() {
    let options = RedisOptions::new().config("maxmemory 100mb").config("maxmemory-policy allkeys-lru");
    let text = refusal(conf(&RealRedis::start(&options), "g")).await;
    assert!(
        text.ends_with("has maxmemory-policy allkeys-lru: work units could vanish. Set it to noeviction"),
        "{text}"
    );
}

/// The rights that docs/GROUPS.md names.
const RIGHTS: &str = "+evalsha +eval +script|load +info +ping +hello +subscribe +publish +time +@hash +@sortedset +@stream +del \
                      +unlink +expire ~{g}-kafka-* &{g}-kafka-*";

#[tokio::test]
async fn the_documented_rights_are_enough() {
    let redis =
        RealRedis::start(&RedisOptions::new().user(&format!("app on >secret resetchannels {RIGHTS}")));
    let mut app = conf(&redis, "g");
    (app.user, app.password) = (Some("app".into()), Some("secret".into()));
    let settings = GroupSettings::of(&Config::default());
    let group = RedisGroup::join(&app, settings, "m".into(), "").await.unwrap();
    group.init(&[start("t", 0, 5000)]).await.unwrap();
    assert_eq!(group.exchange(&round("m", "t", 1)).await.unwrap().units.len(), 1);
    group.tick().await.unwrap();
    group.partitions(&["t".into()]).await.unwrap();
    group.events().await.unwrap();
    group.leave(&"m".into()).await.unwrap();
    group.delete().await.unwrap();
    // The same user, another group.
    app.group = "other".into();
    let text = refusal(app).await;
    assert!(
        text.contains("does not let user \"app\" do what the group needs")
            && text.contains("Grant: +evalsha"),
        "{text}"
    );
    assert!(text.contains("~{other}-kafka-*"), "{text}");
}

/// Some other program has keys of these names.
#[tokio::test]
async fn keys_of_another_type_are_named() {
    let redis = RealRedis::start(&RedisOptions::new());
    redis.command(&["SET", "{g}-kafka-meta", "theirs"]);
    let text = refusal(conf(&redis, "g")).await;
    assert!(text.contains("WRONGTYPE") && text.contains("does something else write to the keys"), "{text}");
    assert!(text.contains("{g}-kafka-"), "{text}");
    redis.command(&["DEL", "{g}-kafka-meta"]);
    let group = crate::support::join(&redis, "g", "m").await;
    group.init(&[start("t", 0, 5000)]).await.unwrap();
    // What becomes of a group that runs is damage, and it is made anew.
    redis.command(&["SET", "{g}-kafka-events", "theirs"]);
    redis.command(&["SET", "{g}-kafka-units", "theirs"]);
    assert_eq!(group.exchange(&round("m", "t", 1)).await.unwrap().units, []);
    assert_eq!(group.lives(), 1);
    assert!(group.partitions(&["t".into()]).await.unwrap().is_empty());
}

/// Several calls that find the group gone at once make it anew once.
#[tokio::test]
async fn a_lost_group_is_made_anew_once() {
    let redis = RealRedis::start(&RedisOptions::new());
    let group = crate::support::join(&redis, "g", "m").await;
    redis.flush_all();
    let topics = ["t".into()];
    let calls =
        (group.partitions(&topics), group.tick(), group.partitions(&topics), group.partitions(&topics));
    let (a, b, c, d) = tokio::join!(calls.0, calls.1, calls.2, calls.3);
    assert!(a.is_ok() && b.is_ok() && c.is_ok() && d.is_ok());
    assert_eq!(group.lives(), 1);
}

/// Members of a new deployment make a lost group anew, with other settings: the old ones wait until those are gone, and do not slip in
/// with the second try.
#[tokio::test]
async fn a_member_that_disagrees_with_the_group_made_anew_waits_until_it_may_come() {
    let redis = RealRedis::start(&RedisOptions::new());
    let old = crate::support::join(&redis, "g", "old").await;
    old.init(&[start("t", 0, 5000)]).await.unwrap();
    redis.flush_all();
    let settings = GroupSettings { consume_step: 7, ..GroupSettings::of(&Config::default()) };
    let new = RedisGroup::join(&conf(&redis, "g"), settings, "new".into(), "").await.unwrap();
    new.exchange(&round("new", "t", 0)).await.unwrap();
    for _ in 0..3 {
        let error = old.exchange(&round("old", "t", 1)).await.unwrap_err();
        assert!(error.to_string().contains("consume-step"), "{error}");
        assert!(!error.is_final() && error.is_refusal());
        assert_eq!(old.lives(), 0);
    }
    new.leave(&"new".into()).await.unwrap();
    old.exchange(&round("old", "t", 1)).await.unwrap();
    assert_eq!(old.lives(), 1, "its starts are fixed anew");
}
