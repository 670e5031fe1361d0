//! Batches that cannot be read: what is damaged is put aside by the batch, at once, and everything else is read.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicU32;

use kafka_fast::config::Codec;

use super::*;

/// Batches of one answer.
const TOGETHER: i64 = 5;
const LAST_OFFSET_DELTA_AT: usize = 23;

/// A broker whose batch at an offset is what `of` says.
async fn broker(of: impl Fn(i64) -> Bytes + Send + Sync + 'static) -> Fake {
    let port = Arc::new(AtomicI32::new(0));
    let at = Arc::clone(&port);
    let fake = Fake::raw(move |asked| match asked.api {
        18 => versions(&asked),
        3 => metadata(&asked, at.load(Ordering::SeqCst), 0),
        2 => list_offsets(&asked, 0),
        1 => match asked.read::<FetchRequest>().topics[0].partitions[0].fetch_offset {
            at if at >= RECORDS => Reply::Nothing,
            at => {
                let first = at / PER_BATCH;
                let batches = (first..(first + TOGETHER).min(RECORDS / PER_BATCH)).map(|n| of(n * PER_BATCH));
                let records: Vec<u8> = batches.flatten().collect();
                sent(&asked, ErrorCode::NONE, Some(records.into()), LeaderIdAndEpoch::default())
            }
        },
        _ => Reply::Nothing,
    })
    .await;
    port.store(fake.address.port().into(), Ordering::SeqCst);
    fake
}

fn flipped(base: i64, at: usize) -> Bytes {
    let mut bytes = batch(base).to_vec();
    bytes[at] ^= 0x10;
    bytes.into()
}

fn that_says_it_ends_at(base: i64, delta: i32) -> Bytes {
    let mut bytes = batch(base).to_vec();
    bytes[LAST_OFFSET_DELTA_AT..][..4].copy_from_slice(&delta.to_be_bytes());
    bytes.into()
}

/// Far more bytes than it has on the wire.
fn bomb(base: i64) -> Bytes {
    let mut batch = BatchBuilder::with_capacity(1 << 10);
    (0..PER_BATCH).for_each(|_| _ = batch.append(1, &Record::value(&[0_u8; 20_000])));
    let mut sealed = batch.seal(Codec::Gzip);
    sealed.stamp(None);
    let mut bytes = sealed.finish().to_vec();
    bytes[..8].copy_from_slice(&base.to_be_bytes());
    bytes.into()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_read_is_put_aside_by_the_batch_and_the_rest_is_read_at_once() {
    let fake = broker(|base| match base {
        20 => flipped(base, 80),
        40 => that_says_it_ends_at(base, 3),
        100 => that_says_it_ends_at(base, 300),
        200 => bomb(base),
        _ => batch(base),
    })
    .await;
    let mut conf = Config::with_bootstrap(&fake.address.to_string()).unwrap();
    (conf.use_earliest, conf.decompress_limit) = (true, 100_000);
    let consumer = Consumer::connect(conf, GroupConf::embedded(unique("group")), &["t"]).await.unwrap();
    let mut reader = consumer.reader();
    let damaged =
        |offset: &i64| [20, 40, 100, 200].iter().any(|base| (*base..*base + PER_BATCH).contains(offset));
    let mut left: BTreeSet<i64> = (0..RECORDS).filter(|offset| !damaged(offset)).collect();
    let began = std::time::Instant::now();
    while !left.is_empty() {
        let message = tokio::time::timeout(Duration::from_secs(20), reader.next()).await;
        let message = message.unwrap_or_else(|_| panic!("{left:?} are missing: {:?}", consumer.stats()));
        let offset = message.unwrap().unwrap().offset;
        assert!(left.remove(&offset), "{offset} came twice, or is damaged");
    }
    println!("the rest was read in {:?}", began.elapsed());
    // The organiser tells, which looks once a second; meanwhile the reader asks on.
    let mut parked: Vec<(i64, i64)> = Vec::new();
    let told = async {
        while parked.iter().map(|(start, end)| end - start).sum::<i64>() < 4 * PER_BATCH {
            if let Event::Parked { start, end, .. } = consumer.event().await.unwrap() {
                parked.push((start, end));
            }
        }
    };
    let told = async {
        tokio::select! { () = told => {}, more = reader.next() => panic!("{more:?}") }
    };
    tokio::time::timeout(Duration::from_secs(20), told).await.expect("it is told");
    parked.sort_unstable();
    assert_eq!(parked, [(20, 30), (40, 50), (100, 110), (200, 210)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_that_was_damaged_on_its_way_is_fetched_once_more() {
    let times = AtomicU32::new(0);
    let fake = broker(move |base| match base {
        20 if times.fetch_add(1, Ordering::SeqCst) == 0 => flipped(base, 80),
        _ => batch(base),
    })
    .await;
    let (consumer, mut reader) = reads_from_the_start(&fake).await;
    for offset in 0..RECORDS {
        let message = tokio::time::timeout(Duration::from_secs(20), reader.next()).await;
        assert_eq!(message.expect("it is read").unwrap().unwrap().offset, offset);
    }
    assert_eq!(consumer.stats().units_failed, 0);
}
