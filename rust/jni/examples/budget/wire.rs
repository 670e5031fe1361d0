//! Bytes and values: what needs no client.

use std::hint::black_box;

use bytes::Bytes;
use kafka_fast::config::Codec;
use kafka_fast::wire::messages::*;
use kafka_fast::wire::{
    Batch, BatchBuilder, Batches, ProducerStamp, Record, Request, Uuid, decode_response, frame,
    response_frame,
};

use crate::broker;
use crate::count::Meter;

/// Batches, requests or answers of a case; one more goes before, uncounted.
const ROUNDS: u32 = 10;
/// Partitions of a request and of an answer.
const PARTITIONS: i32 = 4;
const ID: Uuid = Uuid([1; 16]);
const LIMIT: usize = 64 << 20;

/// Runs `work` on something `make` has made, once uncounted and then [`ROUNDS`] times.
fn rounds<T, R>(meter: &mut Meter, make: impl Fn() -> T, mut work: impl FnMut(T) -> R) {
    black_box(work(make()));
    for _ in 0..ROUNDS {
        let input = make();
        let output = meter.measure(|| work(input));
        drop(black_box(output));
    }
}

/// The encoding of a record alone.
pub(crate) fn encode(meter: &mut Meter, bytes: usize) -> u64 {
    let value = broker::payload(bytes, 1);
    let (_, count) = broker::finished(bytes);
    rounds(
        meter,
        || BatchBuilder::with_capacity(broker::BATCH_BYTES),
        |mut builder| {
            for _ in 0..count {
                black_box(builder.append(1_700_000_000_000, black_box(&Record::value(&value))));
            }
            builder
        },
    );
    u64::from(ROUNDS * count)
}

/// Compression, header and CRC of a batch.
pub(crate) fn seal(meter: &mut Meter, bytes: usize, codec: Codec) -> u64 {
    let (_, count) = broker::finished(bytes);
    rounds(
        meter,
        || broker::batch(bytes).0,
        |builder| {
            let mut sealed = builder.seal(codec);
            sealed.stamp(Some(ProducerStamp { id: 1, epoch: 0, base_sequence: 7 }));
            sealed.finish()
        },
    );
    u64::from(ROUNDS * count)
}

/// A produce request of some partitions, from values to the segments of a frame.
pub(crate) fn produce_request(meter: &mut Meter) -> u64 {
    let data = |index| PartitionProduceData { index, records: Some(broker::finished(100).0) };
    let make = || ProduceRequest {
        acks: -1,
        timeout_ms: 30_000,
        topic_data: vec![TopicProduceData {
            topic_id: ID,
            partition_data: (0..PARTITIONS).map(data).collect(),
            ..Default::default()
        }],
        ..Default::default()
    };
    rounds(meter, make, |request| {
        let frame = frame(&request, ProduceRequest::VERSIONS.1, 7, "kafka-fast");
        black_box(frame.segments().map(<[u8]>::len).sum::<usize>());
        (request, frame)
    });
    ROUNDS.into()
}

/// The answer to a fetch of some partitions with a batch each, from its frame to batches.
pub(crate) fn fetch_response(meter: &mut Meter) -> u64 {
    let data = |partition_index| PartitionData {
        partition_index,
        high_watermark: 1000,
        records: Some(broker::finished(100).0),
        ..Default::default()
    };
    let topic = FetchableTopicResponse {
        topic_id: ID,
        partitions: (0..PARTITIONS).map(data).collect(),
        ..Default::default()
    };
    let answer = FetchResponse { responses: vec![topic], ..Default::default() };
    let version = FetchRequest::VERSIONS.1;
    let bytes: Bytes =
        response_frame::<FetchRequest>(&answer, version, 7).segments().collect::<Vec<_>>().concat().into();
    // Without the length, which is read with the frame.
    let bytes = bytes.slice(4..);
    rounds(
        meter,
        || bytes.clone(),
        |bytes| {
            let (_, answer) = decode_response::<FetchRequest>(bytes, version).expect("it is sound");
            let mut batches = Vec::with_capacity(8);
            for data in answer.responses.into_iter().flat_map(|topic| topic.partitions) {
                batches.extend(Batches::new(data.records.unwrap_or_default()));
            }
            assert_eq!(batches.len(), PARTITIONS as usize);
            batches
        },
    );
    ROUNDS.into()
}

fn fetched(bytes: usize, codec: Codec) -> Batch {
    let finished = broker::batch(bytes).0.seal(codec).finish();
    Batches::new(finished).next().and_then(Result::ok).expect("our own batches are sound")
}

/// The CRC of a fetched batch, and its decompression.
pub(crate) fn open(meter: &mut Meter, bytes: usize, codec: Codec) -> u64 {
    let batch = fetched(bytes, codec);
    rounds(meter, || batch.clone(), |batch| batch.open(LIMIT).expect("our own batches are sound"));
    u64::from(ROUNDS * batch.record_count())
}

/// The walk over the records of an open batch.
pub(crate) fn walk(meter: &mut Meter, bytes: usize) -> u64 {
    let batch = fetched(bytes, Codec::None).open(LIMIT).expect("our own batches are sound");
    let sum =
        |_| batch.records().map(|record| record.map_or(0, |r| r.value.map_or(0, <[u8]>::len))).sum::<usize>();
    rounds(meter, || (), sum);
    u64::from(ROUNDS * batch.record_count())
}
