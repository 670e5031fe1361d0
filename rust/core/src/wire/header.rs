//! What stands before a request or an answer, for the client's side and for a broker's.
//!
//! A request begins with key, version, correlation id and client id; an answer with the correlation id. From the first
//! flexible version on both have a section of tagged fields behind that (header versions 2 and 1), with one exception:
//! the answer to ApiVersions never has, because a client must be able to read it before the versions are agreed (KIP-511).
//! The frame's length, four bytes, stands before everything and is not part of what is decoded here.

use bytes::Bytes;

use super::{ApiKey, DecodeError, Decoder, Encoder, Frame, Request, Str, Version, Wire};

/// The header's own strings are of the classic form in every version, so that a broker can read it before it knows the API.
const CLASSIC: Version = Version { number: 1, flexible: false };

/// Encodes `request` with its header and length prefix.
///
/// `version` must be within [`Request::VERSIONS`]. A client id over 32,767 bytes, which no frame can hold, is left out.
pub fn frame<R: Request>(request: &R, version: i16, correlation_id: i32, client_id: &str) -> Frame {
    let v = R::version(version);
    let mut out = Encoder::for_frame();
    out.put_i16(R::KEY as i16);
    out.put_i16(version);
    out.put_i32(correlation_id);
    let client_id = if client_id.len() > i16::MAX as usize { "" } else { client_id };
    out.put_i16(client_id.len() as i16);
    out.put_slice(client_id.as_bytes());
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
///
/// # Errors
/// When the bytes are not an answer of that version. A broker that does not know the version of an ApiVersions request
/// answers at version 0, whatever was asked (KIP-511).
pub fn decode_response<R: Request>(answer: Bytes, version: i16) -> Result<(i32, R::Response), DecodeError> {
    let v = R::version(version);
    let mut d = Decoder::new(answer);
    let correlation_id = d.i32()?;
    if has_tagged_answer::<R>(v) {
        d.skip_tagged_fields()?;
    }
    Ok((correlation_id, R::Response::read(&mut d, v)?))
}

fn has_tagged_answer<R: Request>(v: Version) -> bool {
    v.flexible && R::KEY != ApiKey::ApiVersions
}

/// The header of a request, as a broker reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHeader {
    /// The API's number; it need not be one of [`ApiKey`].
    pub api_key: i16,
    /// The version of the request and of the answer expected.
    pub api_version: i16,
    /// What the answer begins with.
    pub correlation_id: i32,
    /// What the client calls itself.
    pub client_id: Option<Str>,
}

impl RequestHeader {
    /// Reads the part all header versions have; a flexible one has tagged fields behind it.
    pub fn read(d: &mut Decoder) -> Result<Self, DecodeError> {
        Ok(Self {
            api_key: d.i16()?,
            api_version: d.i16()?,
            correlation_id: d.i32()?,
            client_id: Wire::read(d, CLASSIC)?,
        })
    }
}

/// Decodes a request, as a broker does; for tests and fake brokers. [`RequestHeader::read`] says first which `R` it is.
pub fn decode_request<R: Request>(request: Bytes) -> Result<(RequestHeader, R), DecodeError> {
    let mut d = Decoder::new(request);
    let header = RequestHeader::read(&mut d)?;
    let v = R::version(header.api_version);
    if v.flexible {
        d.skip_tagged_fields()?;
    }
    Ok((header, R::read(&mut d, v)?))
}

/// Encodes an answer with its header and length prefix, as a broker does; for tests and fake brokers.
pub fn response_frame<R: Request>(response: &R::Response, version: i16, correlation_id: i32) -> Frame {
    let v = R::version(version);
    let mut out = Encoder::for_frame();
    out.put_i32(correlation_id);
    if has_tagged_answer::<R>(v) {
        out.put_uvarint(0);
    }
    response.write(&mut out, v);
    out.finish()
}
