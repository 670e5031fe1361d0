//! What reads bytes of the network, as functions of bytes.
//!
//! An answer's first byte chooses the version it is read at, a stream's first byte in what pieces it comes; all other bytes
//! are what a broker could have sent.

use std::hint::black_box;

use bytes::Bytes;
use kafka_fast::net::frames_of;
use kafka_fast::wire::messages::*;
use kafka_fast::wire::{Batches, DecodeError, Encoder, OpenBatch, Request, Wire, decode_response};

use crate::memory::bounded;
use crate::seeds::{self, Seeds};

/// What decompressed records may take: the limit that a consumer gives (`decompress-limit`). What a codec may hold at a time is
/// four times this or four times its input, whichever is more, and 1 MB.
pub const LIMIT: usize = 256 << 10;

/// The largest frame that is read.
const FRAME_MAX: usize = 100 << 20;

/// One of them.
#[derive(Clone, Copy)]
pub struct Target {
    /// What the command line calls it.
    pub name: &'static str,
    /// Reads the bytes; panics when something is wrong.
    pub run: fn(&[u8]),
    /// Valid inputs, for a random number.
    pub seeds: fn(u64) -> Seeds,
}

macro_rules! targets {
    ($($name:literal $request:ident,)*) => {
        /// All of them.
        pub const TARGETS: &[Target] = &[
            Target { name: "frames", run: frames, seeds: seeds::frames },
            Target { name: "batches", run: batches, seeds: seeds::batches },
            Target { name: "batches-summed", run: batches_summed, seeds: seeds::batches },
            Target { name: "gzip", run: codec::<1>, seeds: seeds::bodies::<1> },
            Target { name: "snappy", run: codec::<2>, seeds: seeds::bodies::<2> },
            Target { name: "lz4", run: codec::<3>, seeds: seeds::bodies::<3> },
            Target { name: "zstd", run: codec::<4>, seeds: seeds::bodies::<4> },
            $( Target { name: $name, run: response::<$request>, seeds: seeds::responses::<$request> }, )*
        ];
    };
}

targets! {
    "api-versions" ApiVersionsRequest,
    "create-partitions" CreatePartitionsRequest,
    "create-topics" CreateTopicsRequest,
    "delete-records" DeleteRecordsRequest,
    "delete-topics" DeleteTopicsRequest,
    "describe-cluster" DescribeClusterRequest,
    "describe-configs" DescribeConfigsRequest,
    "fetch" FetchRequest,
    "find-coordinator" FindCoordinatorRequest,
    "incremental-alter-configs" IncrementalAlterConfigsRequest,
    "init-producer-id" InitProducerIdRequest,
    "list-groups" ListGroupsRequest,
    "list-offsets" ListOffsetsRequest,
    "metadata" MetadataRequest,
    "offset-commit" OffsetCommitRequest,
    "offset-fetch" OffsetFetchRequest,
    "offset-for-leader-epoch" OffsetForLeaderEpochRequest,
    "produce" ProduceRequest,
    "sasl-authenticate" SaslAuthenticateRequest,
    "sasl-handshake" SaslHandshakeRequest,
}

/// The target of that name.
pub fn named(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// A socket's bytes become frames. Nothing is kept of them, as when they are read at once.
pub fn frames(input: &[u8]) {
    let Some((piece, stream)) = input.split_first() else { return };
    // Bytes in ones and twos as well as all at once.
    let piece = 1 << (piece % 20);
    let mut bytes = 0;
    let ((), _) = bounded(stream.len(), || {
        black_box(frames_of(stream, piece, FRAME_MAX, |frame| bytes += 4 + frame.len()));
    });
    assert!(bytes <= stream.len(), "{bytes} bytes of frames in {}", stream.len());
}

/// An answer, read at one of the versions spoken. What could be read can be written, and is read as the same again.
pub fn response<R: Request>(input: &[u8]) {
    let Some((choice, answer)) = input.split_first() else { return };
    let (oldest, newest) = R::VERSIONS;
    let version = oldest + i16::from(*choice) % (newest - oldest + 1);
    let answer = Bytes::copy_from_slice(answer);
    let (read, _) = bounded(answer.len(), || decode_response::<R>(answer.clone(), version));
    let Ok((_, value)) = read else { return };
    let bytes = written::<R>(&value, version);
    match R::Response::read(&mut kafka_fast::wire::Decoder::new(bytes.clone()), R::version(version)) {
        Ok(again) => assert_eq!(written::<R>(&again, version), bytes, "it is not the same when read again"),
        // Without the tagged fields that nobody knows it has less room.
        Err(DecodeError::TooMuchMemory { .. }) => {}
        Err(error) => panic!("what was written is not read: {error}"),
    }
}

fn written<R: Request>(value: &R::Response, version: i16) -> Bytes {
    let mut out = Encoder::new();
    value.write(&mut out, R::version(version));
    out.into_bytes()
}

/// The records of a fetch answer as they came. Nearly always their checksum is wrong.
pub fn batches(input: &[u8]) {
    let bytes = Bytes::copy_from_slice(input);
    let _ = bounded(bytes.len().max(LIMIT), || walk(bytes));
}

/// The same with checksums that fit whatever the bytes are: what a broker that wants to harm could send.
pub fn batches_summed(input: &[u8]) {
    let mut bytes = input.to_vec();
    seeds::sum(&mut bytes);
    batches(&bytes);
}

/// The compressed records of a batch whose checksum fits.
pub fn codec<const CODEC: u8>(input: &[u8]) {
    let batch = seeds::batch_around(CODEC, input);
    let _ = bounded(input.len().max(LIMIT), || walk(batch));
}

/// Everything a consumer looks at.
fn walk(bytes: Bytes) {
    for batch in Batches::new(bytes) {
        let Ok(batch) = batch else { continue };
        assert!(batch.next_offset() > batch.base_offset());
        black_box((
            batch.is_control(),
            batch.is_transactional(),
            batch.max_timestamp(),
            batch.base_sequence(),
        ));
        let next = batch.next_offset();
        let Ok(open) = batch.open(LIMIT) else { continue };
        records(&open, next);
    }
}

fn records(open: &OpenBatch, next: i64) {
    for record in open.records() {
        let Ok(record) = record else { continue };
        assert!((open.base_offset()..next).contains(&record.offset), "a record outside its batch");
        black_box((record.timestamp, record.key, record.value));
        assert_eq!(record.headers.count(), record.headers.len(), "headers were counted that are not there");
    }
}
