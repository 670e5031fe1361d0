//! What a record costs from append to acknowledgement: `cargo test --release -p kafka-fast --test producer_real cost --
//! --ignored --nocapture`. Prints; judges nothing, because machines differ.

use std::time::Instant;

use kafka_fast::wire::Record;
use kafka_fast_testkit::RealKafka;

use crate::support::*;

/// User and system time of this process, in ticks of 10 ms.
fn cpu_ns() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    ticks as f64 * 1e7
}

#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
#[ignore = "a measurement, not a test"]
async fn of_a_record_to_the_broker_and_back() {
    let broker = RealKafka::shared();
    for (bytes, count, settings) in [
        (100, 2_500_000, &[("linger.ms", "5"), ("batch.size", "65536")][..]),
        (100, 2_500_000, &[]),
        (1000, 500_000, &[("linger.ms", "5"), ("batch.size", "65536")]),
        (1000, 500_000, &[]),
        (100, 2_500_000, &[("acks", "all")]),
    ] {
        let (producer, _, id) = producer(broker, 4, settings).await;
        let value = vec![b'x'; bytes];
        let (cpu, start) = (cpu_ns(), Instant::now());
        let sender = producer.clone();
        let runtime = tokio::runtime::Handle::current();
        let thread = std::thread::spawn(move || {
            for _ in 0..count {
                if sender.try_append(id, None, None, &Record::value(&value)).is_err() {
                    runtime.block_on(append(&sender, id, None, Record::value(&value)));
                }
            }
        });
        tokio::task::spawn_blocking(|| thread.join().unwrap()).await.unwrap();
        producer.flush().await.unwrap();
        let n = f64::from(count);
        let (cpu, wall) = ((cpu_ns() - cpu) / n, start.elapsed());
        let stats = producer.stats();
        assert_eq!(stats.records_delivered, count as u64);
        println!(
            "{bytes} B {settings:?}: {cpu:.0} ns CPU a record, {:.2} M/s, {} batches, {} requests",
            n / wall.as_secs_f64() / 1e6,
            stats.batches,
            stats.requests
        );
        producer.close(WAIT).await.unwrap();
    }
}
