//! Servers that take over one after the other.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use kafka_fast::config::{Config, RedisConf};
use kafka_fast::group::{GroupError, GroupSettings, RedisGroup};
use kafka_fast_testkit::{RealRedis, RedisOptions};

use crate::support::{join, round, start};

/// What was compared is what the first one held: the second may lack more.
#[tokio::test]
async fn a_server_that_takes_over_while_positions_are_compared_is_compared_too() {
    let mut redis = RealRedis::start(&RedisOptions::new().append_only());
    let group = join(&redis, "g", "m").await;
    group.init(&[start("t", 0, 5000)]).await.unwrap();
    let mut took_over = || {
        redis.stop();
        redis.start_again();
    };
    let again = async || loop {
        match group.exchange(&round("m", "t", 1)).await {
            Err(GroupError::Away { .. }) => {}
            other => return other.map(|reply| reply.units.len()),
        }
    };
    took_over();
    assert_eq!(again().await, Err(GroupError::Reconcile));
    let compared = group.server().await.unwrap();
    took_over();
    while let Err(error) = group.reconciled(&compared).await {
        assert!(matches!(error, GroupError::Away { .. }), "{error}");
    }
    assert_eq!(again().await, Err(GroupError::Reconcile));
    group.reconciled(&group.server().await.unwrap()).await.unwrap();
    assert_eq!(again().await, Ok(1));
}

/// The way to Redis as a name that is given to another server when the master changes: new connections lead to `to`.
async fn floating_address(to: Arc<Mutex<String>>) -> u16 {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let to = to.lock().unwrap().clone();
            tokio::spawn(async move {
                let mut server = tokio::net::TcpStream::connect(to).await.unwrap();
                _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    port
}

/// The old master lives on as a replica, and its connections too: who stays with it is refused for ever.
#[tokio::test]
async fn a_connection_to_what_is_a_replica_now_is_given_up() {
    let (old, new) = (RealRedis::start(&RedisOptions::new()), RealRedis::start(&RedisOptions::new()));
    let to = Arc::new(Mutex::new(old.address()));
    let port = floating_address(Arc::clone(&to)).await;
    let settings = GroupSettings::of(&Config::default());
    let conf = RedisConf::new("127.0.0.1", port, "g");
    let group = RedisGroup::join(&conf, settings, "m".into(), "").await.unwrap();
    group.init(&[start("t", 0, 5000)]).await.unwrap();
    assert_eq!(group.exchange(&round("m", "t", 1)).await.unwrap().units.len(), 1);
    *to.lock().unwrap() = new.address();
    old.command(&["REPLICAOF", "127.0.0.1", &new.port().to_string()]);
    let began = Instant::now();
    while let Err(error) = group.exchange(&round("m", "t", 0)).await {
        assert!(matches!(error, GroupError::Away { .. }), "{error}");
        assert!(began.elapsed() < Duration::from_secs(10), "{error}");
    }
    // The new master knows nothing of it.
    assert_eq!(group.lives(), 1);
}
