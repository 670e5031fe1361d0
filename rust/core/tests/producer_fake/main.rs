//! The producer against brokers that do what they are told: moved leaders, refusals, broken connections, silence.

mod fake;

use std::time::Duration;

use fake::{Fake, Fate, TOPIC};
use kafka_fast::config::Config;
use kafka_fast::error::ErrorKind;
use kafka_fast::producer::{AppendError, Producer, TopicId};
use kafka_fast::wire::Record;

const WAIT: Duration = Duration::from_secs(60);

async fn producer(fake: &Fake, settings: &[(&str, &str)]) -> (Producer, TopicId) {
    let mut conf = Config::with_bootstrap(&fake.address()).unwrap();
    for (name, value) in settings {
        conf.set(name, value).unwrap();
    }
    let producer = Producer::connect(conf).await.unwrap();
    let id = producer.topic(TOPIC).await.unwrap();
    (producer, id)
}

async fn append(producer: &Producer, topic: TopicId, partition: i32, value: &str) {
    loop {
        match producer.try_append(topic, Some(partition), None, &Record::value(value)) {
            Ok(()) => return,
            Err(AppendError::Full { needed }) => producer.room(needed).await,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Sends `count` numbers round robin over all partitions, with pauses that make many batches.
async fn send_numbers(fake: &Fake, producer: &Producer, topic: TopicId, count: usize) {
    let partitions = fake.state().partitions.len();
    for i in 0..count {
        append(producer, topic, (i % partitions) as i32, &i.to_string()).await;
        if i % 40 == 39 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    tokio::time::timeout(WAIT, producer.flush()).await.expect("everything goes in the end").unwrap();
}

fn assert_exactly_once_in_order(fake: &Fake, count: usize) {
    let state = fake.state();
    let partitions = state.partitions.len();
    for (index, partition) in state.partitions.iter().enumerate() {
        let expected: Vec<String> = (index..count).step_by(partitions).map(|i| i.to_string()).collect();
        let first_wrong = partition.values.iter().zip(&expected).position(|(a, b)| a != b);
        assert!(
            partition.values == expected,
            "partition {index}: {} records of {}, the first wrong one at {first_wrong:?}",
            partition.values.len(),
            expected.len()
        );
    }
}

/// A small generator, so that a failure can be repeated.
fn random(seed: u64) -> impl FnMut() -> u64 {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    move || {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        x >> 11
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_moved_leader_gets_the_batches_in_order() {
    for produce_version in [3, 9, 13] {
        let fake = Fake::start(4).await;
        fake.state().produce_version = produce_version;
        let (producer, id) = producer(&fake, &[]).await;
        let mut count = 0;
        fake.on_produce(move |_| {
            count += 1;
            if count % 5 == 3 { Fate::Move } else { Fate::Write }
        });
        let start = std::time::Instant::now();
        send_numbers(&fake, &producer, id, 4000).await;
        let (retries, took) = (producer.stats().retries, start.elapsed());
        // How many requests there are is up to the machine: the slower, the fewer and larger.
        assert!(retries > 2, "{retries}");
        if produce_version >= 10 {
            // Every back-off would have been 80 ms at least; brokers that name the new leader spare it.
            assert!(took < Duration::from_millis(80) * retries as u32, "{took:?} {retries}");
        }
        producer.close(WAIT).await.unwrap();
        assert_exactly_once_in_order(&fake, 4000);
    }
}

/// Whatever happens on the way: exactly once and in order, thanks to sequences; with one batch of a partition in flight
/// (acks=1) as with five (acks=all).
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_that_passes_loses_repeats_or_reorders_a_record() {
    for (seed, acks) in [(1, "1"), (2, "all"), (3, "all")] {
        let fake = Fake::start(3).await;
        fake.state().latency = Duration::from_millis(5);
        let settings = [("acks", acks), ("batch.size", "300"), ("request.timeout.ms", "400")];
        let (producer, id) = producer(&fake, &settings).await;
        let mut random = random(seed);
        fake.on_produce(move |_| match random() % 100 {
            0..3 => Fate::Move,
            3..6 => Fate::Refuse(19),
            6..9 => Fate::WriteAndSay(20),
            9..12 => Fate::WriteAndSay(7),
            12..14 => Fate::Break,
            14..17 => Fate::WriteAndBreak,
            17..18 => Fate::Silence,
            _ => Fate::Write,
        });
        send_numbers(&fake, &producer, id, 1200).await;
        let stats = producer.stats();
        assert!(stats.retries > 5, "seed {seed}: {stats:?}");
        assert_eq!((stats.records_delivered, stats.records_failed), (1200, 0), "seed {seed}");
        producer.close(WAIT).await.unwrap();
        assert_exactly_once_in_order(&fake, 1200);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_lost_the_producers_state_gets_a_new_epoch() {
    for acks in ["1", "all"] {
        let fake = Fake::start(2).await;
        let (producer, id) = producer(&fake, &[("acks", acks), ("batch.size", "300")]).await;
        let mut count = 0;
        fake.on_produce(move |_| {
            count += 1;
            if count % 20 == 19 { Fate::FallBack } else { Fate::Write }
        });
        send_numbers(&fake, &producer, id, 3000).await;
        producer.close(WAIT).await.unwrap();
        assert_exactly_once_in_order(&fake, 3000);
        assert!(fake.state().partitions[0].epochs_seen.iter().any(|epoch| *epoch > 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_for_good_fails_its_batch_and_holds_up_nobody() {
    let fake = Fake::start(2).await;
    let (producer, id) = producer(&fake, &[("acks", "all")]).await;
    let send =
        |partition| producer.try_append_tracked(id, Some(partition), None, &Record::value("x")).unwrap();
    send(0).await.unwrap();
    fake.on_produce(|partition| if partition == 0 { Fate::Refuse(29) } else { Fate::Write });
    let (refused, fine) = (send(0), send(1));
    let error = refused.await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Authorization);
    assert!(!error.possibly_written());
    assert_eq!(
        error.to_string(),
        "This client may not WRITE topic \"data\" (TOPIC_AUTHORIZATION_FAILED): partition 0"
    );
    assert_eq!(fine.await.unwrap().offset, 0);
    fake.on_produce(|_| Fate::Refuse(87));
    let error = send(1).await.unwrap_err();
    assert_eq!(error.to_string(), "Broker 2 refuses records of topic \"data\", partition 1: INVALID_RECORD");
    fake.on_produce(|_| Fate::Write);
    // The numbers of the failed batches are a hole; the next ones are accepted all the same.
    assert_eq!(send(0).await.unwrap().offset, 1);
    assert_eq!(send(1).await.unwrap().offset, 1);
    assert_eq!(producer.stats().records_failed, 2);
    producer.close(WAIT).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_producer_id_records_go_all_the_same() {
    let fake = Fake::start(2).await;
    fake.state().identity_code = 31;
    let (producer, id) = producer(&fake, &[("acks", "all")]).await;
    fake.state().latency = Duration::from_millis(5);
    let mut random = random(9);
    fake.on_produce(move |_| match random() % 10 {
        0 => Fate::Refuse(6),
        1 => Fate::Move,
        2 => Fate::Refuse(19),
        _ => Fate::Write,
    });
    send_numbers(&fake, &producer, id, 1000).await;
    producer.close(WAIT).await.unwrap();
    assert_exactly_once_in_order(&fake, 1000);
    assert!(fake.state().partitions.iter().all(|p| p.epochs_seen.is_empty() && p.in_flight_max == 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_partition_has_one_batch_in_flight_or_five_with_acks_all() {
    for (acks, at_most) in [("1", 1), ("all", 5)] {
        let fake = Fake::start(2).await;
        fake.state().latency = Duration::from_millis(20);
        let (producer, id) = producer(&fake, &[("acks", acks), ("batch.size", "300")]).await;
        send_numbers(&fake, &producer, id, 3000).await;
        producer.close(WAIT).await.unwrap();
        assert_exactly_once_in_order(&fake, 3000);
        for partition in &fake.state().partitions {
            assert_eq!(partition.in_flight_max, at_most);
        }
    }
}

/// A broker takes any number as the first of a producer it does not know.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_very_first_batch_is_not_overtaken_when_it_is_refused() {
    for refusal in [Fate::Refuse(6), Fate::Refuse(19), Fate::Break] {
        let fake = Fake::start(1).await;
        fake.state().latency = Duration::from_millis(5);
        let mut first = true;
        fake.on_produce(move |_| if std::mem::take(&mut first) { refusal } else { Fate::Write });
        let (producer, id) = producer(&fake, &[("acks", "all"), ("batch.size", "300")]).await;
        send_numbers(&fake, &producer, id, 1000).await;
        assert!(producer.stats().retries > 0);
        producer.close(WAIT).await.unwrap();
        assert_exactly_once_in_order(&fake, 1000);
    }
}

/// Large batches are compressed on other threads, small ones at once: they must not overtake.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn compression_does_not_let_batches_overtake() {
    let fake = Fake::start(1).await;
    fake.state().latency = Duration::from_millis(10);
    let (producer, id) = producer(&fake, &[("acks", "all"), ("codec", "gzip")]).await;
    let mut expected = Vec::new();
    for round in 0..100 {
        for (what, bytes) in [("large", 200_000), ("small", 10)] {
            let value = format!("{round} {what} {}", "abcdefghij".repeat(bytes / 10));
            append(&producer, id, 0, &value).await;
            expected.push(value);
            producer.start_flush();
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    producer.close(WAIT).await.unwrap();
    let state = fake.state();
    assert!(state.partitions[0].values == expected);
    assert!(state.partitions[0].in_flight_max > 1);
    assert_eq!(producer.stats().retries, 0, "nothing arrived out of order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn close_tells_what_may_have_been_written_from_what_was_not_sent() {
    let fake = Fake::start(1).await;
    fake.on_produce(|_| Fate::Silence);
    let (producer, id) = producer(&fake, &[]).await;
    let first = producer.try_append_tracked(id, None, None, &Record::value("x")).unwrap();
    tokio::time::sleep(Duration::from_millis(500)).await;
    let second = producer.try_append_tracked(id, None, None, &Record::value("x")).unwrap();
    let error = producer.close(Duration::from_millis(200)).await.unwrap_err();
    assert_eq!((error.possibly_written, error.not_sent), (1, 1), "{error}");
    assert!(first.await.unwrap_err().possibly_written());
    assert!(!second.await.unwrap_err().possibly_written());
}

/// Nobody says with acks=0 that a record was read, and who closes a socket before that may lose it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_acks_0_a_close_waits_for_brokers_that_lag() {
    let fake = Fake::start(4).await;
    fake.state().lag = Duration::from_millis(20);
    let (producer, id) = producer(&fake, &[("acks", "0"), ("batch.size", "300")]).await;
    send_numbers(&fake, &producer, id, 2000).await;
    let read = fake.state().partitions.iter().map(|p| p.values.len()).sum::<usize>();
    assert!(read < 2000, "the brokers lag");
    producer.close(WAIT).await.unwrap();
    assert_exactly_once_in_order(&fake, 2000);

    // Nor does it wait for ever.
    let (producer, id) = self::producer(&fake, &[("acks", "0")]).await;
    fake.state().lag = WAIT;
    append(&producer, id, 0, "lost").await;
    let began = std::time::Instant::now();
    producer.close(Duration::from_millis(300)).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unkeyed_records_avoid_a_leader_that_is_gone() {
    let fake = Fake::start(4).await;
    let (producer, id) = producer(&fake, &[]).await;
    fake.on_produce(|partition| if partition % 2 == 1 { Fate::Break } else { Fate::Write });
    // Broker 2 leads the odd partitions: it is found out by one batch, which stays where it is.
    append(&producer, id, 1, "lost for now").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    for i in 0..1000 {
        producer.try_append(id, None, None, &Record::value(&i.to_string())).unwrap();
        if i % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    for _ in 0..200 {
        if producer.stats().records_delivered >= 1000 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(producer.stats().records_delivered, 1000);
    let counts: Vec<usize> = fake.state().partitions.iter().map(|p| p.values.len()).collect();
    assert!(counts[0] > 100 && counts[2] > 100 && counts[1] + counts[3] == 0, "{counts:?}");
    fake.on_produce(|_| Fate::Write);
    producer.close(WAIT).await.unwrap();
    assert_eq!(fake.state().partitions[1].values, ["lost for now"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lone_record_is_sent_after_a_refusal_that_followed_a_retry() {
    let fake = Fake::start(1).await;
    let (producer, id) = producer(&fake, &[]).await;
    let mut fates = vec![Fate::Write, Fate::Refuse(87), Fate::Refuse(19)];
    fake.on_produce(move |_| fates.pop().unwrap_or(Fate::Write));
    let send = || producer.try_append_tracked(id, Some(0), None, &Record::value("x")).unwrap();
    send().await.unwrap_err();
    tokio::time::timeout(Duration::from_secs(20), send()).await.expect("never sent").unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_came_back_gets_unkeyed_records_again() {
    let fake = Fake::start(4).await;
    let (producer, id) = producer(&fake, &[]).await;
    fake.on_produce(|partition| if partition % 2 == 1 { Fate::Break } else { Fate::Write });
    append(&producer, id, 1, "moves").await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let lead = |node: i32| {
        let mut state = fake.state();
        for i in [1, 3] {
            state.partitions[i].leader = node;
            state.partitions[i].epoch += 1;
        }
    };
    lead(1); // failed over, and known before anybody asks the old leader again
    producer.cluster().refresh(&[TOPIC.into()], WAIT).await.unwrap();
    fake.on_produce(|_| Fate::Write);
    tokio::time::timeout(WAIT, producer.flush()).await.unwrap().unwrap();
    assert_eq!(fake.state().partitions[1].values.len(), 1);
    lead(2); // the broker is back and leads again
    producer.cluster().refresh(&[TOPIC.into()], WAIT).await.unwrap();
    tokio::time::sleep(Duration::from_secs(5)).await;
    for i in 0..2000 {
        producer.try_append(id, None, None, &Record::value(&i.to_string())).unwrap();
        if i % 10 == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    tokio::time::timeout(WAIT, producer.flush()).await.unwrap().unwrap();
    let counts: Vec<usize> = fake.state().partitions.iter().map(|p| p.values.len()).collect();
    assert!(counts[1] > 100 && counts[3] > 100, "{counts:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_error_after_a_long_outage_is_not_final() {
    let fake = Fake::start(1).await;
    let (producer, id) = producer(&fake, &[]).await;
    let mut n = 0;
    fake.on_produce(move |_| {
        n += 1;
        match n {
            1..=31 => Fate::Refuse(6),
            32 => Fate::Refuse(-1),
            _ => Fate::Write,
        }
    });
    let send = || producer.try_append_tracked(id, Some(0), None, &Record::value("x")).unwrap();
    tokio::time::timeout(WAIT, send()).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn not_leader_after_append_is_in_doubt() {
    let fake = Fake::start(1).await;
    let (producer, id) = producer(&fake, &[("acks", "all")]).await;
    fake.on_produce(|_| Fate::WriteAndSay(6));
    let sent = producer.try_append_tracked(id, Some(0), None, &Record::value("x")).unwrap();
    tokio::time::sleep(Duration::from_millis(10)).await;
    // Every later try is a duplicate whose answer is again 6.
    let _ = producer.close(Duration::from_millis(500)).await;
    assert_eq!(fake.state().partitions[0].values.len(), 1, "it is in the log");
    assert!(sent.await.unwrap_err().possibly_written(), "and the client says it is certainly not");
}
