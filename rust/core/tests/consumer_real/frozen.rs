//! One of three brokers stands still (SIGSTOP), and Redis loses everything meanwhile.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kafka_fast::config::RedisConf;
use kafka_fast::consumer::{Consumer, GroupConf};
use kafka_fast_testkit::{Options, RealKafka, RealRedis, RedisOptions, Version};

use crate::support::{Bench, SOON, Tally, read_all};

const MINUTES: i64 = 60_000;

/// Three brokers, the first of which is controller and keeps the groups' offsets.
fn cluster() -> [RealKafka; 3] {
    let options = || {
        let options = Options::new().small().property("offsets.topic.num.partitions", "1");
        options.property("broker.session.timeout.ms", "4000")
    };
    let first = RealKafka::start(&options());
    let (second, third) = std::thread::scope(|scope| {
        let second = scope.spawn(|| RealKafka::start(&options().joins(&first)));
        let third = scope.spawn(|| RealKafka::start(&options().joins_as(&first, 3)));
        (second.join().unwrap(), third.join().unwrap())
    });
    [first, second, third]
}

async fn waits(consumer: &Consumer, partitions: u64) {
    let until = Instant::now() + SOON;
    while consumer.stats().partitions_pending != partitions {
        assert!(Instant::now() < until, "{:?}", consumer.stats());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_broker_keeps_nobody_from_the_partitions_of_the_others() {
    // Where there is a ZooKeeper further brokers start in another way.
    if Version::under_test() == Version::V2_4 {
        return;
    }
    let redis = RealRedis::start(&RedisOptions::new());
    let brokers = tokio::task::spawn_blocking(cluster).await.unwrap();
    let mut bench = Bench::at(&brokers[0].address(), 0).await;
    bench.conf.use_earliest = false;
    bench.conf.offset_commit_freq = Duration::from_millis(300);
    // The groups' offsets lie where they are not in the way.
    let group: Arc<str> = bench.group.as_str().into();
    let meta = loop {
        bench.cluster.create_topic(&bench.topic, 6, 1, SOON).await.unwrap();
        bench.cluster.committed_offsets(&group, &[(Arc::from("none"), 0)], SOON).await.unwrap();
        let meta = bench.cluster.topic(&bench.topic, SOON).await.unwrap();
        if (1..=3).all(|node| meta.partitions.iter().any(|p| p.leader.is_some_and(|l| l.node == node))) {
            break meta;
        }
        bench.topic += "x";
    };
    let offsets = bench.cluster.topic("__consumer_offsets", SOON).await.unwrap();
    let keeper = offsets.partitions[0].leader.unwrap().node;
    let frozen = if keeper == 3 { 2 } else { 3 };
    let of = |at: bool| {
        let led = |p: &&kafka_fast::cluster::PartitionMeta| (p.leader.unwrap().node == frozen) == at;
        meta.partitions.iter().filter(led).map(|p| p.index).collect::<Vec<_>>()
    };
    let (away, there) = (of(true), of(false));
    // Old records, which are not to come.
    for partition in 0..6 {
        bench.timestamp = now() - 10 * MINUTES;
        bench.produce(partition, 1_000_000, 10, 10).await;
    }
    bench.timestamp = 0;
    brokers[frozen as usize - 1].pause();

    let conf = || GroupConf::redis(RedisConf::new("127.0.0.1", redis.port(), bench.group.as_str()));
    let began = Instant::now();
    let first = Consumer::connect(bench.conf.clone(), conf(), &[&bench.topic]).await.unwrap();
    let took = began.elapsed();
    assert!(took < Duration::from_secs(9), "connected after {took:?}");
    assert_eq!(first.stats().partitions_pending, away.len() as u64);
    let second = Consumer::connect(bench.conf.clone(), conf(), &[&bench.topic]).await.unwrap();
    let tally = Tally::default();
    for consumer in [&first, &second] {
        read_all(consumer.reader(), tally.clone(), Duration::ZERO);
    }
    let mut numbers = 0;
    for partition in &there {
        bench.produce(*partition, numbers, 50, 10).await;
        numbers += 50;
    }
    tally.reach(numbers as usize, SOON).await;

    // What is committed is not repeated; what was read since may be, so all of it is committed first.
    let committed = |at: i64| {
        let (bench, group, there) = (&bench, &group, &there);
        async move {
            let asked: Vec<_> = there.iter().map(|p| (Arc::from(&*bench.topic), *p)).collect();
            let until = Instant::now() + SOON;
            loop {
                let found = bench.cluster.committed_offsets(group, &asked, SOON).await.unwrap();
                if found.iter().all(|commit| commit.offset == at) {
                    return;
                }
                assert!(Instant::now() < until, "{found:?}");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    };
    committed(60).await;
    redis.flush_all();
    for partition in &there {
        bench.produce(*partition, numbers, 50, 10).await;
        numbers += 50;
    }
    tally.reach(numbers as usize, SOON).await;
    // Who closes waits for nobody.
    let began = Instant::now();
    second.close(SOON).await.unwrap();
    assert!(began.elapsed() < SOON / 2, "closed after {:?}", began.elapsed());
    waits(&first, away.len() as u64).await;

    brokers[frozen as usize - 1].resume();
    for partition in &away {
        bench.produce(*partition, numbers, 50, 10).await;
        numbers += 50;
    }
    tally.reach(numbers as usize, SOON * 2).await;
    waits(&first, 0).await;
    tally.assert_once(numbers);
    first.close(SOON).await.unwrap();
}

fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}
