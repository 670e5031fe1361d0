//! What reading costs, beside the floor: a loop that fetches, checks and walks. Run by hand, in release:
//! `cargo test --release -p kafka-fast --test consumer_real -- --ignored --nocapture speed`

use std::hint::black_box;
use std::time::{Duration, Instant};

use kafka_fast::cluster::Purpose;
use kafka_fast::config::{Codec, RedisConf};
use kafka_fast::consumer::{ChunkSink, Consumer, Filled, GroupConf, Put, UnitInfo};
use kafka_fast::wire::messages::{FetchPartition, FetchRequest, FetchTopic};
use kafka_fast::wire::records::{Batches, RecordRef};
use kafka_fast_testkit::{RealRedis, RedisOptions};

use crate::support::{Bench, SOON};

/// CPU time of this process so far, all threads: as the scheduler counts it, in nanoseconds.
fn cpu() -> Duration {
    let of = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0)
    };
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    Duration::from_nanos(tasks.flatten().map(of).sum())
}

/// Ticks (10 ms) spent in user code and in the kernel.
fn ticks() -> (u64, u64) {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap().split(' ').collect();
    (fields[11].parse().unwrap(), fields[12].parse().unwrap())
}

struct Measured {
    name: String,
    cpu: Duration,
    wall: Duration,
}

async fn measure(name: &str, records: u64, work: impl Future<Output = u64>) -> Measured {
    let (before, began, (user, kernel)) = (cpu(), Instant::now(), ticks());
    let read = work.await;
    assert_eq!(read, records);
    let measured = Measured { name: name.to_owned(), cpu: cpu() - before, wall: began.elapsed() };
    let per = |d: Duration| d.as_nanos() as f64 / records as f64;
    let (user, kernel) = (ticks().0 - user, ticks().1 - kernel);
    println!(
        "{:>28}: {:6.1} ns CPU, {:6.1} ns wall a record; user {user}0 ms, kernel {kernel}0 ms",
        measured.name,
        per(measured.cpu),
        per(measured.wall)
    );
    measured
}

/// Fetches of 4 MB, one after the other, on one connection.
async fn floor(bench: &Bench, partitions: i32, records: u64) -> u64 {
    let meta = bench.cluster.topic(&bench.topic, SOON).await.unwrap();
    let mut read = 0;
    let mut positions = vec![0; partitions as usize];
    let mut sum = 0;
    while read < records {
        for partition in 0..partitions {
            let request = FetchRequest {
                max_wait_ms: 100,
                min_bytes: 1,
                topics: vec![FetchTopic {
                    topic: meta.name.clone(),
                    topic_id: meta.id,
                    partitions: vec![FetchPartition {
                        partition,
                        fetch_offset: positions[partition as usize],
                        partition_max_bytes: 4 << 20,
                        ..Default::default()
                    }],
                }],
                ..Default::default()
            };
            let node = meta.partitions[partition as usize].leader.unwrap().node;
            let answer = bench.cluster.call(node, Purpose::Fetch, &request, SOON).await.unwrap();
            let data = answer.responses.into_iter().next().unwrap().partitions.into_iter().next().unwrap();
            for batch in Batches::new(data.records.unwrap_or_default()) {
                let batch = batch.unwrap();
                positions[partition as usize] = batch.next_offset();
                for record in batch.open(1 << 30).unwrap().records() {
                    sum += record.unwrap().value.map_or(0, <[u8]>::len);
                    read += 1;
                }
            }
        }
    }
    black_box(sum);
    read
}

async fn consumer(bench: &Bench, group: &str) -> Consumer {
    Consumer::connect(
        bench.conf.clone(),
        GroupConf::embedded(format!("{}-{group}", bench.group)),
        &[&bench.topic],
    )
    .await
    .unwrap()
}

async fn batches(consumer: Consumer, records: u64) -> u64 {
    let mut reader = consumer.reader();
    let (mut read, mut sum) = (0, 0);
    while read < records {
        let mut batch = reader.next_batch().await.unwrap().unwrap();
        while let Some(record) = batch.next() {
            sum += record.value.map_or(0, <[u8]>::len);
            read += 1;
        }
    }
    black_box(sum);
    read
}

async fn messages(consumer: Consumer, records: u64) -> u64 {
    let mut reader = consumer.reader();
    let (mut read, mut sum) = (0, 0);
    while read < records {
        let message = reader.next().await.unwrap().unwrap();
        sum += message.value.map_or(0, |v| v.len());
        read += 1;
    }
    black_box(sum);
    read
}

struct Copy(Vec<u8>);

impl ChunkSink for Copy {
    fn put(&mut self, record: &RecordRef<'_>, _: &UnitInfo) -> Put {
        let value = record.value.unwrap_or_default();
        if self.0.len() + value.len() > 64 << 10 {
            return Put::Full;
        }
        self.0.extend_from_slice(value);
        Put::Taken
    }
}

async fn chunks(consumer: Consumer, records: u64) -> u64 {
    let mut reader = consumer.reader();
    let mut sink = Copy(Vec::with_capacity(64 << 10));
    let mut read = 0;
    while read < records {
        sink.0.clear();
        match std::future::poll_fn(|cx| reader.poll_fill(cx, &mut sink, 10_000)).await.unwrap() {
            Filled::Records(n) => read += u64::from(n),
            other => panic!("{other:?}"),
        }
    }
    read
}

async fn run(size: usize, records: u64, per_batch: u64) {
    let bench = Bench::new(2).await;
    for partition in 0..2 {
        let from = partition as u64 * records / 2;
        bench.produce_as(partition, from, records / 2, per_batch, size, Codec::None).await;
    }
    println!("{records} records of {size} B in batches of {per_batch}");
    floor(&bench, 2, records).await;
    let least = measure("floor", records, floor(&bench, 2, records)).await;
    let mut all = Vec::new();
    let c = consumer(&bench, "b").await;
    all.push(measure("next_batch", records, batches(c, records)).await);
    let c = consumer(&bench, "f").await;
    all.push(measure("poll_fill (copies)", records, chunks(c, records)).await);
    let c = consumer(&bench, "m").await;
    all.push(measure("next", records, messages(c.clone(), records)).await);
    println!("{:?}", c.stats());
    for one in all {
        println!("{:>28}: {:.2}x floor", one.name, one.cpu.as_secs_f64() / least.cpu.as_secs_f64());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn speed_100_bytes() {
    run(100, 3_000_000, 8_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn speed_1000_bytes() {
    run(1_000, 1_000_000, 900).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn speed_small_batches() {
    run(100, 1_000_000, 100).await;
}

/// What it costs that a group lives in Redis: the client's CPU beside the same group in this process, and Redis's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "a measurement"]
async fn a_group_in_redis_costs() {
    const ROUNDS: usize = 5;
    let records = 500_000;
    let bench = Bench::new(2).await;
    for partition in 0..2 {
        let from = partition as u64 * records / 2;
        bench.produce_as(partition, from, records / 2, 900, 1_000, Codec::None).await;
    }
    let redis = RealRedis::start(&RedisOptions::new());
    let busy = || {
        let text = redis.command(&["INFO", "cpu"]);
        let of =
            |name: &str| text.lines().find_map(|l| l.strip_prefix(name)?.trim().parse::<f64>().ok()).unwrap();
        of("used_cpu_user_main_thread:") + of("used_cpu_sys_main_thread:")
    };
    let mut ratios = Vec::new();
    for round in 0..ROUNDS {
        let c = consumer(&bench, &format!("e{round}")).await;
        let embedded = measure("embedded", records, batches(c, records)).await;
        let group = RedisConf::new("127.0.0.1", redis.port(), format!("{}-r{round}", bench.group));
        let c =
            Consumer::connect(bench.conf.clone(), GroupConf::redis(group), &[&bench.topic]).await.unwrap();
        let before = busy();
        let in_redis = measure("in Redis", records, batches(c.clone(), records)).await;
        let server = busy() - before;
        let stats = c.stats();
        c.close(SOON).await.unwrap();
        let ratio = in_redis.cpu.as_secs_f64() / embedded.cpu.as_secs_f64();
        println!(
            "client {:+.1} %, Redis itself {:.1} % of the client's; {} units in {} exchanges",
            (ratio - 1.0) * 100.0,
            server / in_redis.cpu.as_secs_f64() * 100.0,
            stats.units_done,
            stats.exchanges
        );
        ratios.push(ratio);
    }
    ratios.sort_by(f64::total_cmp);
    println!("median: client {:+.1} %", (ratios[ROUNDS / 2] - 1.0) * 100.0);
}
