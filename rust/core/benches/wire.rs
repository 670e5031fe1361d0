//! What encoding and decoding cost, beside the crate `kafka-protocol`: `./dev bench wire`.
//!
//! Each pair does the same work on the same records. *Walk* takes the bytes of a fetched batch, checks its CRC and looks at
//! each record's offset, timestamp, key and value; *encode* makes the bytes of a batch, CRC included, of records that lie
//! in memory; *messages* decodes and encodes what a client of many partitions exchanges. Both sides keep what they may keep
//! from one round to the next: our builder its buffer, theirs its `BytesMut`.
//!
//! What differs is the design, not the work: the oracle gives a record of its own for each, with reference-counted slices
//! and a map of headers; ours borrows from the frame.

use std::hint::black_box;

use bytes::{Bytes, BytesMut};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kafka_fast::config::Codec;
use kafka_fast::wire::batch::recycle;
use kafka_fast::wire::messages::{
    MetadataRequest, MetadataResponse, MetadataResponsePartition, MetadataResponseTopic,
};
use kafka_fast::wire::{BatchBuilder, Batches, Decoder, Encoder, Header, Record, Request, Wire};
use kafka_protocol::messages::MetadataResponse as TheirMetadata;
use kafka_protocol::protocol::{Decodable, Encodable};
use kafka_protocol::records as kp;

/// Records a batch: about what a producer under load puts into one at 100 B.
const RECORDS: usize = 500;
const NOW: i64 = 1_700_000_000_000;
const LIMIT: usize = 64 << 20;

/// Sizes of the value, and whether there are a key and two headers.
const SHAPES: [(usize, bool); 3] = [(100, false), (100, true), (1000, false)];

fn name((size, keyed): (usize, bool)) -> String {
    format!("{size} B{}", if keyed { ", key and 2 headers" } else { "" })
}

/// A batch as it comes from a broker, written by us.
fn batch((size, keyed): (usize, bool)) -> Bytes {
    let mut builder = BatchBuilder::from_buffer(Vec::new());
    let value = vec![b'v'; size];
    fill(&mut builder, &value, keyed);
    builder.seal(Codec::None).finish()
}

fn fill(builder: &mut BatchBuilder, value: &[u8], keyed: bool) {
    let headers = [
        Header { key: "trace", value: Some(b"0123456789abcdef") },
        Header { key: "source", value: Some(b"bench") },
    ];
    let record = Record {
        key: keyed.then_some(b"key-0001"),
        value: Some(value),
        headers: if keyed { &headers } else { &[] },
    };
    let bound = BatchBuilder::encoded_bound(&record);
    for index in 0..RECORDS {
        builder.grow_to(builder.len() + bound);
        builder.append(NOW + index as i64, &record);
    }
}

/// The same records, as `kafka-protocol` wants them.
fn their_records((size, keyed): (usize, bool)) -> Vec<kp::Record> {
    let value = Bytes::from(vec![b'v'; size]);
    let headers = [("trace", &b"0123456789abcdef"[..]), ("source", b"bench")];
    let record = |index: usize| kp::Record {
        transactional: false,
        control: false,
        delete_horizon: false,
        partition_leader_epoch: -1,
        producer_id: -1,
        producer_epoch: -1,
        timestamp_type: kp::TimestampType::Creation,
        offset: index as i64,
        sequence: -1,
        timestamp: NOW + index as i64,
        key: keyed.then(|| Bytes::from_static(b"key-0001")),
        value: Some(value.clone()),
        headers: headers[..if keyed { 2 } else { 0 }]
            .iter()
            .map(|(name, value)| ((*name).into(), Some(Bytes::from_static(value))))
            .collect(),
    };
    (0..RECORDS).map(record).collect()
}

fn walk(c: &mut Criterion) {
    let mut group = c.benchmark_group("walk");
    group.throughput(Throughput::Elements(RECORDS as u64));
    for shape in SHAPES {
        let bytes = batch(shape);
        group.bench_with_input(BenchmarkId::new("kafka-fast", name(shape)), &bytes, |b, bytes| {
            b.iter(|| {
                let mut sum = 0;
                for batch in Batches::new(bytes.clone()) {
                    let open = batch.and_then(|batch| batch.open(LIMIT)).expect("the batch is good");
                    for record in open.records() {
                        let record = record.expect("the record is good");
                        sum += record.offset + record.timestamp + record.value.map_or(0, <[u8]>::len) as i64;
                        black_box(record.key);
                    }
                }
                sum
            });
        });
        group.bench_with_input(BenchmarkId::new("kafka-protocol", name(shape)), &bytes, |b, bytes| {
            b.iter(|| {
                let mut sum = 0;
                let set = kp::RecordBatchDecoder::decode(&mut bytes.clone()).expect("the batch is good");
                for record in &set.records {
                    sum +=
                        record.offset + record.timestamp + record.value.as_ref().map_or(0, Bytes::len) as i64;
                    black_box(&record.key);
                }
                sum
            });
        });
    }
    group.finish();
}

fn encode(c: &mut Criterion) {
    let mut group = c.benchmark_group("encode");
    group.throughput(Throughput::Elements(RECORDS as u64));
    for shape in SHAPES {
        let value = vec![b'v'; shape.0];
        let mut buffer = Some(Vec::new());
        group.bench_function(BenchmarkId::new("kafka-fast", name(shape)), |b| {
            b.iter(|| {
                let mut builder = BatchBuilder::from_buffer(buffer.take().unwrap_or_default());
                fill(&mut builder, black_box(&value), shape.1);
                let bytes = builder.seal(Codec::None).finish();
                let length = bytes.len();
                buffer = recycle(bytes);
                length
            });
        });
        let records = their_records(shape);
        let mut bytes = BytesMut::new();
        let options = kp::RecordEncodeOptions { version: 2, compression: kp::Compression::None };
        group.bench_function(BenchmarkId::new("kafka-protocol", name(shape)), |b| {
            b.iter(|| {
                bytes.clear();
                kp::RecordBatchEncoder::encode(&mut bytes, black_box(&records), &options)
                    .expect("it can be encoded");
                bytes.len()
            });
        });
    }
    group.finish();
}

/// Version of the metadata: the newest but one, which both sides know.
const METADATA_VERSION: i16 = 12;

/// Ten topics of 100 partitions with three replicas.
fn metadata() -> MetadataResponse {
    let partition = |index| MetadataResponsePartition {
        partition_index: index,
        leader_id: index % 3,
        leader_epoch: 5,
        replica_nodes: vec![0, 1, 2],
        isr_nodes: vec![0, 1, 2],
        ..Default::default()
    };
    let topic = |index: usize| MetadataResponseTopic {
        name: Some(format!("topic-{index}").as_str().into()),
        partitions: (0..100).map(partition).collect(),
        ..Default::default()
    };
    MetadataResponse { topics: (0..10).map(topic).collect(), ..Default::default() }
}

fn messages(c: &mut Criterion) {
    let version = MetadataRequest::version(METADATA_VERSION);
    let ours = metadata();
    let mut out = Encoder::new();
    ours.write(&mut out, version);
    let bytes = out.into_bytes();
    let theirs = TheirMetadata::decode(&mut bytes.clone(), METADATA_VERSION).expect("the bytes are good");

    let mut group = c.benchmark_group("messages");
    group.throughput(Throughput::Elements(1000));
    group.bench_function("kafka-fast, decode metadata of 1,000 partitions", |b| {
        b.iter(|| {
            MetadataResponse::read(&mut Decoder::new(bytes.clone()), version).expect("the bytes are good")
        });
    });
    group.bench_function("kafka-protocol, decode metadata of 1,000 partitions", |b| {
        b.iter(|| TheirMetadata::decode(&mut bytes.clone(), METADATA_VERSION).expect("the bytes are good"));
    });
    group.bench_function("kafka-fast, encode metadata of 1,000 partitions", |b| {
        b.iter(|| {
            let mut out = Encoder::new();
            ours.write(&mut out, version);
            out.into_bytes()
        });
    });
    group.bench_function("kafka-protocol, encode metadata of 1,000 partitions", |b| {
        b.iter(|| {
            let mut out = BytesMut::new();
            theirs.encode(&mut out, METADATA_VERSION).expect("it can be encoded");
            out
        });
    });
    group.finish();
}

criterion_group!(benches, walk, encode, messages);
criterion_main!(benches);
