//! Servers that take over one after the other.

use kafka_fast::group::GroupError;
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
