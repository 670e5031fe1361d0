//! Batches as kafka-clients writes them are read, and kafka-clients reads ours: `Golden.java`, which made the files beside it.

use std::path::Path;

use bytes::Bytes;
use kafka_fast::config::{Codec, Compression};
use kafka_fast::wire::{BatchBuilder, Batches, Header, Record};

const COUNT: usize = 41;

/// Must be the records of `Golden.java`.
fn timestamp(i: usize) -> i64 {
    1_700_000_000_000 + i as i64
}

fn key(i: usize) -> Option<Vec<u8>> {
    (!i.is_multiple_of(5)).then(|| format!("key-{i}").into_bytes())
}

/// 5,000 bytes that repeat; the last one is noise, which no codec shrinks.
fn value(i: usize) -> Vec<u8> {
    if i < COUNT - 1 {
        return format!("record {i} ").into_bytes().into_iter().cycle().take(5_000).collect();
    }
    let mut noise = 1_u32;
    let next = |_| {
        noise = noise.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        (noise >> 16) as u8
    };
    (0..300).map(next).collect()
}

fn headers(i: usize) -> &'static [Header<'static>] {
    const SOME: [Header<'_>; 2] = [Header { key: "a", value: Some(b"1") }, Header { key: "a", value: None }];
    if i.is_multiple_of(10) { &SOME } else { &[] }
}

fn theirs() -> [(&'static str, Codec, &'static [u8]); 7] {
    [
        ("gzip", Codec::Gzip, include_bytes!("gzip.batch")),
        ("snappy", Codec::Snappy, include_bytes!("snappy.batch")),
        ("lz4", Codec::Lz4, include_bytes!("lz4.batch")),
        ("lz4-17", Codec::Lz4, include_bytes!("lz4-17.batch")),
        ("zstd", Codec::Zstd, include_bytes!("zstd.batch")),
        ("zstd-fast", Codec::Zstd, include_bytes!("zstd-fast.batch")),
        ("zstd-22", Codec::Zstd, include_bytes!("zstd-22.batch")),
    ]
}

/// At levels that make different frames.
fn ours() -> impl Iterator<Item = (String, Vec<u8>)> {
    let levels = [(Codec::Gzip, 1), (Codec::Gzip, -1), (Codec::Gzip, 9), (Codec::Snappy, 0), (Codec::Lz4, 9)];
    let zstd = [-50, -5, 1, 3, 22].map(|level| (Codec::Zstd, level));
    let all = levels.into_iter().chain(zstd).filter(|(codec, _)| codec.is_built_in());
    all.map(|(codec, level)| {
        let mut builder = BatchBuilder::with_capacity(1 << 20);
        for i in 0..COUNT {
            let (key, value) = (key(i), value(i));
            let record = Record { key: key.as_deref(), value: Some(&value), headers: headers(i) };
            builder.append(timestamp(i), &record);
        }
        let batch = builder.seal(Compression { codec, level }).finish();
        (format!("{}-{level}", codec.name()), batch.to_vec())
    })
}

fn check(what: &str, codec: Codec, bytes: &'static [u8]) {
    let mut batches = Batches::new(Bytes::from_static(bytes));
    let batch = batches.next().expect("there is one").expect("it is whole");
    assert_eq!((batch.codec(), batches.remaining()), (codec as i16, 0), "{what}");
    // Just large enough.
    let plain = batch.clone().open(1 << 20).unwrap().body().len();
    assert!(batch.clone().open(plain - 1).is_err(), "{what}");
    let open = batch.open(plain).unwrap();
    let mut count = 0;
    for (i, record) in open.records().enumerate() {
        let record = record.unwrap();
        assert_eq!((record.offset, record.timestamp), (i as i64, timestamp(i)), "{what}");
        assert_eq!(record.key.map(<[u8]>::to_vec), key(i), "{what} {i}");
        assert_eq!(record.value, Some(&value(i)[..]), "{what} {i}");
        let wanted = headers(i).iter().map(|h| (h.key.as_bytes(), h.value));
        assert!(record.headers.eq(wanted), "{what} {i}");
        count += 1;
    }
    assert_eq!(count, COUNT, "{what}");
}

#[test]
fn we_read_what_kafka_clients_writes() {
    for (what, codec, bytes) in theirs().into_iter().filter(|(_, codec, _)| codec.is_built_in()) {
        check(what, codec, bytes);
    }
}

/// Needs Java, and Kafka where `./dev` keeps it; no broker.
#[test]
fn kafka_clients_reads_what_we_write() {
    let dir = std::env::temp_dir().join(kafka_fast_testkit::unique("kafka-fast-golden"));
    std::fs::create_dir(&dir).unwrap();
    let files: Vec<_> = ours()
        .map(|(name, batch)| {
            let file = dir.join(name);
            std::fs::write(&file, batch).unwrap();
            file
        })
        .collect();
    let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire_golden/Golden.java");
    let mut java = kafka_fast_testkit::java_with_kafka();
    let output = java.arg(program).arg("check").args(&files).output().expect("java can be started");
    std::fs::remove_dir_all(&dir).unwrap();
    let (said, complaints) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}{complaints}");
    let wanted = ours().map(|(name, _)| {
        let (codec, _) = name.split_once('-').expect("a codec and a level");
        format!("{name} {codec} {COUNT}\n")
    });
    assert_eq!(said, wanted.collect::<String>());
}
