//! New records: how soon they arrive, and where there is nothing to read between them.

use std::time::{Duration, Instant};

use crate::support::{Bench, Tally, next, number, read_all};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_record_on_an_idle_topic_arrives_within_milliseconds() {
    let bench = Bench::new(4).await;
    let consumer = bench.consumer().await;
    let mut reader = consumer.reader();
    bench.produce(0, 0, 1, 1).await;
    assert_eq!(number(&next(&mut reader).await), 0);
    let mut took = Vec::new();
    for n in 1..40u64 {
        let waiting = tokio::spawn(async move {
            let message = next(&mut reader).await;
            (reader, message, Instant::now())
        });
        tokio::time::sleep(Duration::from_millis(if n % 10 == 0 { 1200 } else { 30 })).await;
        bench.produce((n % 4) as i32, n, 1, 1).await;
        let written = Instant::now();
        let (back, message, at) = waiting.await.unwrap();
        reader = back;
        assert_eq!(number(&message), n);
        took.push(at.saturating_duration_since(written));
    }
    took.sort_unstable();
    let (median, worst) = (took[took.len() / 2], took[took.len() - 1]);
    println!("after the producer's answer: median {median:?}, worst {worst:?}");
    assert!(median < Duration::from_millis(20), "{took:?}");
    assert!(worst < Duration::from_millis(400), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_steady_trickle_is_read_as_it_comes() {
    let bench = Bench::new(2).await;
    let consumer = bench.consumer().await;
    let tally = Tally::default();
    let tasks: Vec<_> = (0..4).map(|_| read_all(consumer.reader(), tally.clone(), Duration::ZERO)).collect();
    for n in 0..300u64 {
        bench.produce((n % 2) as i32, n, 1, 1).await;
        if n % 50 == 0 {
            tokio::time::sleep(Duration::from_millis(150)).await;
        }
    }
    tally.reach(300, Duration::from_secs(2)).await;
    consumer.close(Duration::from_secs(5)).await.unwrap();
    for task in tasks {
        task.await.unwrap();
    }
    tally.assert_once(300);
}

/// While one reader sits on a record of a partition, what is written there behind it goes to others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_does_not_hide_new_records() {
    let bench = Bench::new(1).await;
    bench.produce(0, 0, 1, 1).await;
    let consumer = bench.consumer().await;
    let (mut slow, mut quick) = (consumer.reader(), consumer.reader());
    assert_eq!(number(&next(&mut slow).await), 0);
    for n in 1..20 {
        bench.produce(0, n, 1, 1).await;
        let began = Instant::now();
        assert_eq!(number(&next(&mut quick).await), n);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
}
