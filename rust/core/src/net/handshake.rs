//! The first words on a connection: which versions does the broker speak, and is it a broker at all?
//!
//! The first request is ApiVersions at version 3, which every broker since Kafka 2.4 knows. An older one answers
//! UNSUPPORTED_VERSION in the format of version 0 (KIP-511), and is asked again at version 0.
//!
//! People point clients at the wrong port. What comes back then is told apart by its first bytes, which a Kafka client
//! takes for the length of an answer. Servers that wait for a line (Redis, HTTP) say nothing to a binary request; when
//! a third of the time has passed in silence, a second connection asks in text.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::connection::ConnectionOptions;
use super::error::{ConnectError, Span};
use super::frames::{FrameReader, ReadError};
use super::resolve;
use super::sasl::{self, Ask};
use super::stream::Stream;
use crate::config::BrokerAddress;
use crate::wire::messages::{
    ApiVersionsRequest, ApiVersionsResponse, FetchRequest, ListOffsetsRequest, MetadataRequest,
    ProduceRequest,
};
use crate::wire::{ApiKey, ErrorCode, Request, correlation_id, decode_response, frame};

/// Correlation id of the first request.
const FIRST_CORRELATION: i32 = 1;

/// Most bytes of the answer to ApiVersions; real ones have about a thousand.
const ANSWER_MAX: usize = 1 << 20;

/// Longest silence before a second connection asks in text.
const PROBE_AFTER: Duration = Duration::from_secs(3);

/// How long the second connection waits for an answer.
const PROBE_WAIT: Duration = Duration::from_millis(500);

/// An HTTP server answers this as HTTP, Redis takes it for a wrong GET and answers `-ERR`.
const PROBE: &[u8] = b"GET / HTTP/1.0\r\n\r\n";

/// The version asked for first. Version 4 (Kafka 3.9) adds nothing we use, and brokers before it would refuse it.
const FIRST_VERSION: i16 = 3;

/// The versions a broker speaks, by API.
#[derive(Debug, Clone)]
pub(super) struct Versions {
    ranges: Box<[Option<(i16, i16)>]>,
}

impl Versions {
    fn new(response: &ApiVersionsResponse) -> Self {
        // Keys above what we may ever ask for are dropped; 128 keys are more than Kafka has.
        let mut ranges = vec![None; 128];
        for api in &response.api_keys {
            if let Some(range) = usize::try_from(api.api_key).ok().and_then(|k| ranges.get_mut(k)) {
                *range = Some((api.min_version, api.max_version));
            }
        }
        Self { ranges: ranges.into() }
    }

    /// The broker's range for `api`.
    pub(super) fn of(&self, api: ApiKey) -> Option<(i16, i16)> {
        self.ranges.get(api as usize).copied().flatten()
    }

    /// The highest version both sides speak.
    pub(super) fn common<R: Request>(&self) -> Option<i16> {
        self.common_up_to::<R>(R::VERSIONS.1)
    }

    /// The highest version both sides speak that is not above `newest`.
    pub(super) fn common_up_to<R: Request>(&self, newest: i16) -> Option<i16> {
        let (min, max) = self.of(R::KEY)?;
        let highest = max.min(newest);
        (highest >= min.max(R::VERSIONS.0)).then_some(highest)
    }

    /// The requests nothing works without.
    fn check(&self, address: &BrokerAddress) -> Result<(), ConnectError> {
        self.check_one::<ProduceRequest>(address)?;
        self.check_one::<FetchRequest>(address)?;
        self.check_one::<ListOffsetsRequest>(address)?;
        self.check_one::<MetadataRequest>(address)
    }

    fn check_one<R: Request>(&self, address: &BrokerAddress) -> Result<(), ConnectError> {
        if self.common::<R>().is_some() {
            return Ok(());
        }
        let (address, theirs) = (address.clone(), self.of(R::KEY));
        Err(ConnectError::Incompatible { address, api: R::KEY, ours: R::VERSIONS, theirs })
    }
}

/// What a connection begins with.
pub(super) struct Opened {
    pub(super) stream: Stream,
    pub(super) peer: SocketAddr,
    pub(super) versions: Versions,
    /// With what it has read beyond the last answer.
    pub(super) reader: FrameReader,
    pub(super) next_correlation: i32,
    /// How long the broker takes us for who we said we are, if it sets an end.
    pub(super) session: Option<Duration>,
}

/// Opens a socket, learns what the broker speaks, and says who we are, within `budget` in all.
pub(super) async fn open(
    address: &BrokerAddress,
    options: &ConnectionOptions,
    budget: Duration,
) -> Result<Opened, ConnectError> {
    let deadline = Instant::now() + budget;
    let silent = |_| ConnectError::Silent { address: address.clone(), after: budget };
    let (socket, peer) = resolve::open(address, deadline, budget).await?;
    let stream = match &options.security.tls {
        None => Stream::Plain(socket),
        Some(tls) => timeout_at(deadline, tls.connect(address, socket)).await.map_err(silent)??,
    };
    let mut opening = Opening {
        address,
        client_id: &options.client_id,
        stream,
        reader: FrameReader::new(),
        next_correlation: FIRST_CORRELATION,
        versions: Versions { ranges: Box::default() },
    };
    let left = deadline.saturating_duration_since(Instant::now());
    let may_be_text = options.security.tls.is_none();
    tokio::select! {
        biased;
        greeted = timeout_at(deadline, opening.greet()) => greeted.map_err(silent)??,
        // Silence: is it somebody who waits for a line?
        foreign = probe(address, peer, PROBE_AFTER.min(left / 3)), if may_be_text => return Err(foreign),
    }
    opening.versions.check(address)?;
    let mut session = None;
    if let Some(user) = &options.security.sasl {
        let authenticated = timeout_at(deadline, sasl::authenticate(&mut opening, address, user)).await;
        session = authenticated.map_err(|_| {
            let reason = format!("the authentication was not over after {}", Span(budget));
            ConnectError::Unreachable { address: address.clone(), reason }
        })??;
    }
    let Opening { stream, reader, next_correlation, versions, .. } = opening;
    Ok(Opened { stream, peer, versions, reader, next_correlation, session })
}

/// A connection before anything is pipelined.
struct Opening<'a> {
    address: &'a BrokerAddress,
    client_id: &'a str,
    stream: Stream,
    reader: FrameReader,
    next_correlation: i32,
    versions: Versions,
}

impl Opening<'_> {
    /// Asks for the versions: at 3, and at 0 if the broker is too old for that.
    async fn greet(&mut self) -> Result<(), ConnectError> {
        let request = ApiVersionsRequest {
            client_software_name: "kafka-fast".into(),
            client_software_version: env!("CARGO_PKG_VERSION").into(),
            ..Default::default()
        };
        let mut version = FIRST_VERSION;
        loop {
            let answer = self.exchange(&request, version).await?;
            let address = self.address;
            // Every version begins with the error code, and a refusal has the format of version 0 whatever was asked.
            let refused = answer.get(4..6) == Some(&ErrorCode::UNSUPPORTED_VERSION.0.to_be_bytes());
            if refused && version > 0 {
                version = 0;
                continue;
            }
            let rejected = |reason: String| ConnectError::Rejected { address: address.clone(), reason };
            let (_, response) = decode_response::<ApiVersionsRequest>(answer, version)
                .map_err(|e| rejected(format!("its answer makes no sense: {e}")))?;
            ErrorCode(response.error_code).ok().map_err(|code| rejected(code.to_string()))?;
            self.versions = Versions::new(&response);
            return Ok(());
        }
    }

    /// One request and its answer.
    async fn exchange<R: Request>(&mut self, request: &R, version: i16) -> Result<Bytes, ConnectError> {
        let (address, id) = (self.address, self.next_correlation);
        self.next_correlation += 1;
        let request: Vec<u8> =
            frame(request, version, id, self.client_id).segments().flatten().copied().collect();
        // A peer that has closed already may have said why: what it said is read first.
        let mut sent = self.stream.write_all(&request).await;
        if sent.is_ok() {
            sent = self.stream.flush().await;
        }
        let explained = |stream: &Stream, error: Option<&std::io::Error>| stream.explain(address, error);
        match self.reader.next(&mut self.stream, ANSWER_MAX).await {
            Ok(answer) if correlation_id(&answer) == Some(id) => {
                if let Stream::Tls(_, asked) = &self.stream {
                    asked.was_accepted();
                }
                Ok(answer)
            }
            Ok(answer) => Err(not_kafka(address, &answer)),
            Err(ReadError::Size { head, .. }) => Err(not_kafka(address, &head)),
            Err(ReadError::End { rest }) if rest.is_empty() => Err(explained(&self.stream, None)
                .unwrap_or_else(|| ConnectError::ClosedAtOnce { address: address.clone() })),
            Err(ReadError::End { rest }) => Err(not_kafka(address, &rest)),
            Err(ReadError::Io(e)) => Err(explained(&self.stream, Some(&e)).unwrap_or_else(|| {
                let address = address.clone();
                if sent.is_ok() {
                    // A reset after bytes it did not understand is a close.
                    ConnectError::ClosedAtOnce { address }
                } else {
                    ConnectError::Unreachable { address, reason: e.to_string() }
                }
            })),
        }
    }
}

impl Ask for Opening<'_> {
    async fn ask<R: Request>(&mut self, request: &R) -> Result<R::Response, ConnectError> {
        let address = || self.address.clone();
        let (api, ours) = (R::KEY, R::VERSIONS);
        let Some(version) = self.versions.common::<R>() else {
            return Err(ConnectError::Incompatible {
                address: address(),
                api,
                ours,
                theirs: self.versions.of(api),
            });
        };
        let answer = self.exchange(request, version).await.map_err(|error| match error {
            // It has spoken Kafka before.
            ConnectError::ClosedAtOnce { address } => {
                let reason = format!("it closed the connection instead of answering {api:?}");
                ConnectError::Unreachable { address, reason }
            }
            other => other,
        })?;
        let decoded = decode_response::<R>(answer, version).map_err(|e| ConnectError::Rejected {
            address: self.address.clone(),
            reason: format!("its answer to {api:?} makes no sense: {e}"),
        })?;
        Ok(decoded.1)
    }
}

/// After `silence`, asks in text on a connection of its own. Ends only when something answers that is not Kafka.
async fn probe(address: &BrokerAddress, peer: SocketAddr, silence: Duration) -> ConnectError {
    sleep(silence).await;
    let mut first = [0; 64];
    let answer = timeout(PROBE_WAIT, async {
        let mut stream = resolve::connect(peer).await?;
        stream.write_all(PROBE).await?;
        stream.read(&mut first).await
    });
    if let Ok(Ok(n)) = answer.await
        && n > 0
    {
        // No Kafka broker answers this: it is the head of a request far too long.
        return not_kafka(address, &first[..n]);
    }
    std::future::pending().await
}

/// Names what speaks there by the first bytes it says.
fn not_kafka(address: &BrokerAddress, said: &[u8]) -> ConnectError {
    let address = address.clone();
    const REDIS: [&[u8]; 6] = [b"-ERR", b"-DENIED", b"-NOAUTH", b"-WRONG", b"-LOADING", b"+PONG"];
    if said.starts_with(b"HTTP") || said.starts_with(b"<!DOC") || said.starts_with(b"<html") {
        ConnectError::Http { address }
    } else if REDIS.iter().any(|word| said.starts_with(word)) {
        ConnectError::Redis { address }
    } else if let [0x15 | 0x16, 0x03, 0..=4, ..] = said {
        // A TLS record (alert or handshake) of SSL 3.0 to TLS 1.3.
        ConnectError::Tls { address }
    } else {
        ConnectError::NotKafka {
            address,
            answer: format!("\"{}\"", said[..said.len().min(32)].escape_ascii()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::ApiVersion;

    fn versions(ranges: &[(i16, i16, i16)]) -> Versions {
        let api = |&(api_key, min_version, max_version): &_| ApiVersion { api_key, min_version, max_version };
        let api_keys = ranges.iter().map(api).collect();
        Versions::new(&ApiVersionsResponse { api_keys, ..Default::default() })
    }

    #[test]
    fn the_highest_common_version_is_spoken() {
        let (least, most) = ProduceRequest::VERSIONS;
        assert_eq!(versions(&[(0, 0, 99)]).common::<ProduceRequest>(), Some(most));
        assert_eq!(versions(&[(0, 0, 9)]).common::<ProduceRequest>(), Some(9));
        assert_eq!(versions(&[(0, 0, 99)]).common_up_to::<ProduceRequest>(most - 1), Some(most - 1));
        assert_eq!(versions(&[(0, most, 99)]).common_up_to::<ProduceRequest>(most - 1), None);
        assert_eq!(versions(&[(0, 0, least - 1)]).common::<ProduceRequest>(), None);
        assert_eq!(versions(&[(0, most + 1, 99)]).common::<ProduceRequest>(), None);
        assert_eq!(versions(&[(1, 0, 99), (-3, 0, 1), (9999, 0, 1)]).common::<ProduceRequest>(), None);
    }

    #[test]
    fn a_broker_too_old_is_told_with_both_ranges() {
        let old = versions(&[(0, 0, 2), (1, 0, 11), (2, 0, 5), (3, 0, 8)]);
        let text = old.check(&BrokerAddress::new("k1", 9092)).unwrap_err().to_string();
        let (least, most) = ProduceRequest::VERSIONS;
        assert_eq!(
            text,
            format!(
                "Broker k1:9092 speaks Produce 0-2, this client {least}-{most}; Kafka 2.1 is the oldest supported"
            )
        );
    }

    #[test]
    fn strangers_are_named() {
        let name = |said: &[u8]| not_kafka(&BrokerAddress::new("h", 1), said).to_string();
        assert_eq!(name(b"HTTP/1.1 400 Bad Request"), "h:1 answered HTTP, not Kafka");
        assert_eq!(name(b"-ERR unknown command"), "h:1 is Redis, not Kafka");
        assert_eq!(name(b"-DENIED Redis is running in protected mode"), "h:1 is Redis, not Kafka");
        assert_eq!(name(b"\x15\x03\x03\x00\x02"), "h:1 speaks TLS. Set security.protocol=SSL or SASL_SSL");
        assert_eq!(name(b"SSH-2.0-x\r\n"), "h:1 does not speak Kafka: it answered \"SSH-2.0-x\\r\\n\"");
    }
}
