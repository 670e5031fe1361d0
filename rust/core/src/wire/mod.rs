//! Bytes and values, no I/O.
//!
//! [`message!`] declares each request and response once, with the range of versions that has each field, and yields
//! encoding and decoding for every version in range, both ways: the client needs half of that, tests and fake brokers the
//! other half. One file of [`messages`] is one API; adding a version is adding rows there.
//!
//! Requests become a [`Frame`]: a list of segments, so that the bytes of record batches are never copied into a
//! request. Answers are read by a [`Decoder`] over [`bytes::Bytes`], so that records are slices of the frame. Every length
//! from the wire is checked against the bytes that are there before anything is allocated.
//!
//! Where the rules come from: the protocol guide (<https://kafka.apache.org/protocol>), KIP-482 (flexible versions), KIP-511
//! (the header of ApiVersions).

mod codec;
mod decoder;
mod encoder;
mod error_code;
mod message;

pub mod batch;
pub mod messages;
pub mod records;

use bytes::Bytes;

pub use batch::{BatchBuilder, Header, ProducerStamp, Record, SealedBatch};
pub use codec::CodecError;
pub use decoder::{DecodeError, Decoder};
pub use encoder::{Encoder, Frame};
pub use error_code::ErrorCode;
pub use message::{Str, Uuid, Version, Wire};
pub use records::{Batch, BatchError, Batches, Headers, OpenBatch, RecordRef, Records};

/// The APIs this client speaks, with Kafka's numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i16)]
#[allow(missing_docs)]
pub enum ApiKey {
    Produce = 0,
    Fetch = 1,
    ListOffsets = 2,
    Metadata = 3,
    ApiVersions = 18,
    CreateTopics = 19,
    InitProducerId = 22,
    OffsetForLeaderEpoch = 23,
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

    /// How a value of this API is written at `version`.
    fn version(version: i16) -> Version {
        Version { number: version, flexible: version >= Self::FLEXIBLE }
    }
}

/// Encodes `request` with its header and length prefix.
///
/// `version` must be within [`Request::VERSIONS`].
pub fn frame<R: Request>(request: &R, version: i16, correlation_id: i32, client_id: &str) -> Frame {
    let v = R::version(version);
    let mut out = Encoder::for_frame();
    out.put_i16(R::KEY as i16);
    out.put_i16(version);
    out.put_i32(correlation_id);
    // The client id has a classic length also in header version 2: a broker must be able to read it before it knows
    // the API (KIP-511).
    out.put_i16(client_id.len().min(i16::MAX as usize) as i16);
    out.put_slice(&client_id.as_bytes()[..client_id.len().min(i16::MAX as usize)]);
    if v.flexible {
        out.put_uvarint(0);
    }
    request.write(&mut out, v);
    out.finish()
}

/// The correlation id of an answer (its length prefix already removed).
pub fn correlation_id(answer: &[u8]) -> Option<i32> {
    answer.first_chunk().map(|bytes| i32::from_be_bytes(*bytes))
}

/// Decodes the answer to a request of type `R` sent at `version`; `answer` begins with the correlation id.
pub fn decode_response<R: Request>(answer: Bytes, version: i16) -> Result<(i32, R::Response), DecodeError> {
    let v = R::version(version);
    let mut d = Decoder::new(answer);
    let correlation_id = d.i32()?;
    // The answer to ApiVersions has header version 0 even when its body is flexible: the client cannot know the
    // version of the answer before it has read it (KIP-511).
    if v.flexible && R::KEY != ApiKey::ApiVersions {
        d.skip_tagged_fields()?;
    }
    Ok((correlation_id, R::Response::read(&mut d, v)?))
}
