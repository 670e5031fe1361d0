//! Bytes and values, no I/O.
//!
//! `message!` (see `message.rs`) declares each request and response once, with the range of versions that has each field,
//! and yields encoding and decoding for every version in range, both ways: the client needs half of that, tests and fake
//! brokers the other half. One file of [`messages`] is one API; adding a version is adding rows there.
//!
//! Requests become a [`Frame`]: a list of segments, so that the bytes of record batches are never copied into a
//! request. Answers are read by a [`Decoder`] over [`bytes::Bytes`], so that records are slices of the frame. Every length
//! from the wire is checked against the bytes that are there before anything is allocated.
//!
//! Where the rules come from: the protocol guide (<https://kafka.apache.org/protocol>), KIP-482 (flexible versions), KIP-511
//! (the header of ApiVersions).

mod batch_error;
mod codec;
mod decoder;
mod encoder;
mod error_code;
mod header;
mod message;
mod prefetch;
mod secret;

pub mod batch;
pub mod messages;
pub mod records;

pub use batch::{BatchBuilder, Header, ProducerStamp, Record, SealedBatch};
pub use batch_error::BatchError;
pub use codec::CodecError;
pub use decoder::{DecodeError, Decoder};
pub use encoder::{Encoder, Frame};
pub use error_code::{ErrorCode, Operation, Treatment};
pub use header::{RequestHeader, correlation_id, decode_request, decode_response, frame, response_frame};
pub use message::{Str, Uuid, Version, Wire};
pub use records::{Batch, Batches, Headers, OpenBatch, RecordRef, Records};
pub use secret::Secret;

/// The APIs this client speaks, with Kafka's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i16)]
#[allow(missing_docs)]
pub enum ApiKey {
    Produce = 0,
    Fetch = 1,
    ListOffsets = 2,
    Metadata = 3,
    OffsetCommit = 8,
    OffsetFetch = 9,
    FindCoordinator = 10,
    ListGroups = 16,
    SaslHandshake = 17,
    ApiVersions = 18,
    CreateTopics = 19,
    DeleteTopics = 20,
    DeleteRecords = 21,
    InitProducerId = 22,
    OffsetForLeaderEpoch = 23,
    DescribeConfigs = 32,
    SaslAuthenticate = 36,
    CreatePartitions = 37,
    IncrementalAlterConfigs = 44,
    DescribeCluster = 60,
}

/// A request of the protocol.
pub trait Request: Wire + Send + Sync {
    /// Which API it is of.
    const KEY: ApiKey;
    /// The oldest and the newest version this client speaks.
    const VERSIONS: (i16, i16);
    /// The first flexible version (KIP-482): compact lengths, tagged fields, header version 2.
    const FLEXIBLE: i16;
    /// What answers it.
    type Response: Wire + Send;

    /// The newest version that can carry what this request says; the newest spoken, as a rule.
    ///
    /// Some versions name things in another way (topics by id, several groups at once). A request that was not filled for
    /// them goes in an older version.
    fn up_to(&self) -> i16 {
        Self::VERSIONS.1
    }

    /// The oldest version that can carry what this request says; the oldest spoken, as a rule. A broker that speaks only older ones
    /// would take it for something else.
    fn from(&self) -> i16 {
        Self::VERSIONS.0
    }

    /// How a value of this API is written at `version`.
    fn version(version: i16) -> Version {
        Version { number: version, flexible: version >= Self::FLEXIBLE }
    }
}
