//! What can go wrong with one connection, in words that say what to do.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::config::BrokerAddress;
use crate::error::ErrorKind;
use crate::wire::{ApiKey, DecodeError};

/// Why no usable connection to one address came about. Every text names the address and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The name has no address.
    #[error(
        "Cannot resolve broker \"{}\". Check the name; from a container use the host's name, not localhost ({reason})",
        .address.host
    )]
    Unresolvable {
        /// The address asked for.
        address: BrokerAddress,
        /// What the resolver said.
        reason: String,
    },
    /// Nobody listens there.
    #[error("{address} refused the connection. Is Kafka running there?")]
    Refused {
        /// The address asked for.
        address: BrokerAddress,
    },
    /// The operating system could not reach it: no route, network down, too many open files, no answer from the resolver.
    #[error("{address} cannot be reached: {reason}")]
    Unreachable {
        /// The address asked for.
        address: BrokerAddress,
        /// What the operating system said.
        reason: String,
    },
    /// No answer to the TCP connect.
    #[error("{address} did not accept a connection within {}. Is a firewall in between?", Span(*.after))]
    ConnectTimeout {
        /// The address asked for.
        address: BrokerAddress,
        /// How long was waited.
        after: Duration,
    },
    /// The connection was accepted and then nothing came.
    #[error("{address} accepted the connection and said nothing for {}", Span(*.after))]
    Silent {
        /// The address asked for.
        address: BrokerAddress,
        /// How long was waited.
        after: Duration,
    },
    /// An HTTP server.
    #[error("{address} answered HTTP, not Kafka")]
    Http {
        /// The address asked for.
        address: BrokerAddress,
    },
    /// A Redis server.
    #[error("{address} is Redis, not Kafka")]
    Redis {
        /// The address asked for.
        address: BrokerAddress,
    },
    /// A listener that wants TLS.
    #[error("{address} speaks TLS. Set security.protocol=SSL or SASL_SSL")]
    Tls {
        /// The address asked for.
        address: BrokerAddress,
    },
    /// `security.protocol=SSL`, and a listener without TLS.
    #[error(
        "{address} does not speak TLS (no ServerHello). Set security.protocol=PLAINTEXT or use the TLS port"
    )]
    NoTls {
        /// The address asked for.
        address: BrokerAddress,
    },
    /// The connection ended where TLS was to begin. A Kafka listener without TLS does that, and so does a proxy in front of a
    /// broker that is just starting: the words are those for the first, and it is tried again for the second.
    #[error(
        "{address} does not speak TLS (no ServerHello). Set security.protocol=PLAINTEXT or use the TLS port"
    )]
    NoServerHello {
        /// The address asked for.
        address: BrokerAddress,
    },
    /// The certificate is of a CA that is not trusted.
    #[error(
        "Certificate of {address} (issuer {issuer}) is not trusted. Add its CA by ssl.truststore.location (PEM, \
         PKCS12, JKS)"
    )]
    Untrusted {
        /// The address asked for.
        address: BrokerAddress,
        /// Who issued it.
        issuer: String,
    },
    /// The certificate is another host's.
    #[error(
        "Certificate of {address} does not name {} but: {names}. Connect by one of these names, or have a certificate \
         made for this one (ssl.endpoint.identification.algorithm= switches the check off)",
        .address.host
    )]
    WrongName {
        /// The address asked for.
        address: BrokerAddress,
        /// The names in it.
        names: String,
    },
    /// The certificate, or one between it and its CA, is too old.
    #[error("Certificate of {address} is expired since {since}. Renew it on the broker")]
    Expired {
        /// The address asked for.
        address: BrokerAddress,
        /// Since when.
        since: String,
    },
    /// The certificate, or one between it and its CA, is of the future.
    #[error("Certificate of {address} is not valid before {until}. Is the clock of this machine right?")]
    NotYetValid {
        /// The address asked for.
        address: BrokerAddress,
        /// From when on it is.
        until: String,
    },
    /// The broker wants to know who we are by certificate, and we have none.
    #[error(
        "{address} demands a client certificate. Set ssl.keystore.location, or ssl.keystore.certificate.chain and \
         ssl.keystore.key"
    )]
    ClientCertificateMissing {
        /// The address asked for.
        address: BrokerAddress,
    },
    /// The broker does not like our certificate.
    #[error(
        "{address} refused the client certificate ({reason}). Is it valid, and does the broker's truststore have its CA?"
    )]
    ClientCertificateRefused {
        /// The address asked for.
        address: BrokerAddress,
        /// The broker's alert.
        reason: String,
    },
    /// TLS is spoken and did not come about.
    #[error("TLS with {address} failed: {reason}")]
    TlsFailed {
        /// The address asked for.
        address: BrokerAddress,
        /// What went wrong.
        reason: String,
    },
    /// TLS is spoken, and the broker broke it off for a reason that may pass.
    #[error("TLS with {address} was broken off: {reason}")]
    TlsBroken {
        /// The address asked for.
        address: BrokerAddress,
        /// What the broker did, and what may be behind it.
        reason: String,
    },
    /// The broker does not accept user and password.
    #[error(
        "Broker {address} rejected user \"{user}\" ({mechanism}). Check password and mechanism; broker offers: \
         {offers}{reason}"
    )]
    Authentication {
        /// The address asked for.
        address: BrokerAddress,
        /// The user.
        user: String,
        /// How he wanted to prove who he is.
        mechanism: &'static str,
        /// The mechanisms the broker has.
        offers: String,
        /// The broker's words in parentheses, behind a space; empty without any.
        reason: String,
    },
    /// The broker has not the mechanism.
    #[error("Broker {address} does not offer {mechanism}. Set sasl.mechanism to one it offers: {offers}")]
    SaslMechanism {
        /// The address asked for.
        address: BrokerAddress,
        /// The mechanism of the settings.
        mechanism: &'static str,
        /// The mechanisms the broker has.
        offers: String,
    },
    /// `security.protocol` is one of SASL, and the listener has none.
    #[error(
        "{address} does not ask for user and password. Set security.protocol=PLAINTEXT (SSL with TLS), or use the SASL \
         port"
    )]
    NoSasl {
        /// The address asked for.
        address: BrokerAddress,
    },
    /// The exchange went wrong, or the broker did not prove itself.
    #[error("Broker {address} broke off the authentication ({mechanism}): {reason}")]
    SaslBroken {
        /// The address asked for.
        address: BrokerAddress,
        /// The mechanism.
        mechanism: &'static str,
        /// What went wrong.
        reason: String,
    },
    /// Something else that is not Kafka.
    #[error("{address} does not speak Kafka: it answered {answer}")]
    NotKafka {
        /// The address asked for.
        address: BrokerAddress,
        /// The first bytes of the answer, escaped.
        answer: String,
    },
    /// The connection ended before an answer came.
    #[error(
        "{address} closed the connection without an answer. Is it a Kafka listener, and does it expect \
         security.protocol=SSL or SASL?"
    )]
    ClosedAtOnce {
        /// The address asked for.
        address: BrokerAddress,
    },
    /// Broker and client have no version of a needed request in common.
    #[error(
        "Broker {address} speaks {api:?} {}, this client {}-{}; {}",
        .theirs.map_or("not at all".to_owned(), |(min, max)| format!("{min}-{max}")), .ours.0, .ours.1,
        if .theirs.is_none_or(|(min, _)| min <= .ours.1) { "Kafka 2.1 is the oldest supported" }
        else { "a newer kafka-fast is needed" }
    )]
    Incompatible {
        /// The address asked for.
        address: BrokerAddress,
        /// The request in question.
        api: ApiKey,
        /// The versions this client speaks, both included.
        ours: (i16, i16),
        /// The versions the broker speaks, both included; `None` when it does not know the request.
        theirs: Option<(i16, i16)>,
    },
    /// The broker refused the first request.
    #[error("Broker {address} refused the first request (ApiVersions): {reason}")]
    Rejected {
        /// The address asked for.
        address: BrokerAddress,
        /// The broker's error, or what was wrong with its answer.
        reason: String,
    },
    /// A broker of another cluster than the one that is read: set up anew behind the same address, or the name leads elsewhere now.
    #[error("{address} is of Kafka cluster {theirs}, and this consumer reads Kafka cluster {ours}")]
    OtherCluster {
        /// The address asked for.
        address: BrokerAddress,
        /// The id that the broker names.
        theirs: Arc<str>,
        /// The id of the cluster that is read.
        ours: Arc<str>,
    },
    /// The client was closed meanwhile.
    #[error("The client was closed while it connected to {address}")]
    Closed {
        /// The address asked for.
        address: BrokerAddress,
    },
}

impl ConnectError {
    /// The class of the error.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Incompatible { .. } | Self::Rejected { .. } => ErrorKind::Protocol,
            Self::Closed { .. } => ErrorKind::Closed,
            Self::OtherCluster { .. } => ErrorKind::Group,
            _ if self.is_refusal() => ErrorKind::Authentication,
            _ => ErrorKind::Unreachable,
        }
    }

    /// Whether one of the two does not accept who the other is.
    pub const fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Untrusted { .. }
                | Self::WrongName { .. }
                | Self::Expired { .. }
                | Self::NotYetValid { .. }
                | Self::ClientCertificateMissing { .. }
                | Self::ClientCertificateRefused { .. }
                | Self::Authentication { .. }
                | Self::SaslMechanism { .. }
                | Self::NoSasl { .. }
                | Self::SaslBroken { .. }
        )
    }

    /// Whether a broker does not accept the user, as no other of its cluster will.
    pub(crate) const fn is_about_the_user(&self) -> bool {
        matches!(self, Self::Authentication { .. } | Self::SaslMechanism { .. })
    }

    /// Whether trying again cannot help, because something else than a Kafka broker (or too old a one) is there, or because one
    /// does not accept who the other is.
    pub const fn is_definite(&self) -> bool {
        self.is_refusal()
            || matches!(
                self,
                Self::Http { .. }
                    | Self::Redis { .. }
                    | Self::Tls { .. }
                    | Self::NoTls { .. }
                    | Self::TlsFailed { .. }
                    | Self::NotKafka { .. }
                    | Self::Unresolvable { .. }
                    | Self::Incompatible { .. }
                    | Self::Closed { .. }
            )
    }

    /// The address in question.
    pub const fn address(&self) -> &BrokerAddress {
        match self {
            Self::Unresolvable { address, .. }
            | Self::Refused { address }
            | Self::Unreachable { address, .. }
            | Self::ConnectTimeout { address, .. }
            | Self::Silent { address, .. }
            | Self::Http { address }
            | Self::Redis { address }
            | Self::Tls { address }
            | Self::NoTls { address }
            | Self::NoServerHello { address }
            | Self::Untrusted { address, .. }
            | Self::WrongName { address, .. }
            | Self::Expired { address, .. }
            | Self::NotYetValid { address, .. }
            | Self::ClientCertificateMissing { address }
            | Self::ClientCertificateRefused { address, .. }
            | Self::TlsFailed { address, .. }
            | Self::TlsBroken { address, .. }
            | Self::Authentication { address, .. }
            | Self::SaslMechanism { address, .. }
            | Self::NoSasl { address }
            | Self::SaslBroken { address, .. }
            | Self::NotKafka { address, .. }
            | Self::ClosedAtOnce { address }
            | Self::Incompatible { address, .. }
            | Self::Rejected { address, .. }
            | Self::OtherCluster { address, .. }
            | Self::Closed { address } => address,
        }
    }
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CloseReason {
    /// This side closed it.
    #[error("the connection was closed by this client")]
    Local,
    /// The broker closed it between two answers.
    #[error("the broker closed the connection")]
    Peer,
    /// The broker closed it in the middle of an answer.
    #[error("the broker closed the connection in the middle of an answer")]
    MidFrame,
    /// The operating system reported an error.
    #[error("the connection broke: {0}")]
    Io(String),
    /// The broker wanted to know again who we are, and did not accept it (KIP-368).
    #[error("the session could not be renewed: {0}")]
    Session(String),
    /// An answer announced more bytes than are allowed, or fewer than none.
    #[error("the broker announced an answer of {length} bytes, at most {max} are allowed")]
    FrameSize {
        /// The announced length.
        length: i64,
        /// The bound.
        max: usize,
    },
    /// An answer came that nobody had asked for, or out of order.
    #[error("the broker answered out of order (correlation id {found}, expected {expected:?})")]
    OutOfOrder {
        /// The correlation id that came.
        found: i32,
        /// The one that was next; `None` when no answer was outstanding.
        expected: Option<i32>,
    },
    /// The broker did not answer in time.
    #[error("the broker did not answer {api:?} within {}", Span(*.after))]
    TimedOut {
        /// The request that waited.
        api: ApiKey,
        /// How long it waited.
        after: Duration,
    },
}

/// Why a call has no answer.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum CallError {
    /// The connection ended before any byte of the request left. Sending it again cannot do anything twice.
    #[error("{api:?} to {broker} was not sent: {reason}")]
    NotSent {
        /// The request.
        api: ApiKey,
        /// The broker, host:port.
        broker: Arc<str>,
        /// What happened to the connection.
        reason: CloseReason,
    },
    /// The connection ended after bytes of the request had left: the broker may have acted on it.
    #[error("{api:?} to {broker} has no answer and may have been carried out: {reason}")]
    PossiblyWritten {
        /// The request.
        api: ApiKey,
        /// The broker, host:port.
        broker: Arc<str>,
        /// What happened to the connection.
        reason: CloseReason,
    },
    /// The answer did not come in time; the connection was closed.
    #[error("{broker} did not answer {api:?} within {}", Span(*.after))]
    Timeout {
        /// The request.
        api: ApiKey,
        /// The broker, host:port.
        broker: Arc<str>,
        /// How long was waited.
        after: Duration,
        /// Whether bytes of the request may have left.
        possibly_written: bool,
    },
    /// The broker does not speak a version of this request that we do.
    #[error(
        "{broker} speaks {api:?} {}, this client {}-{}",
        .theirs.map_or("not at all".to_owned(), |(min, max)| format!("{min}-{max}")), .ours.0, .ours.1
    )]
    Unsupported {
        /// The request.
        api: ApiKey,
        /// The broker, host:port.
        broker: Arc<str>,
        /// The versions this client speaks.
        ours: (i16, i16),
        /// The versions the broker speaks, if any.
        theirs: Option<(i16, i16)>,
    },
    /// The answer makes no sense. The broker has acted on the request.
    #[error("{broker} answered {api:?} v{version} with bytes that make no sense: {source}")]
    Decode {
        /// The request.
        api: ApiKey,
        /// The broker, host:port.
        broker: Arc<str>,
        /// The version spoken.
        version: i16,
        /// What is wrong with the bytes.
        source: Arc<DecodeError>,
    },
    /// No connection came about.
    #[error("{0}")]
    Connect(Arc<ConnectError>),
    /// Connecting failed a moment ago and is not tried again before `retry_after` is over.
    #[error("{error} (next try in {})", Span(*.retry_after))]
    BackOff {
        /// How long to wait.
        retry_after: Duration,
        /// Why the last try failed.
        error: Arc<ConnectError>,
    },
    /// No connection came about in the time the caller gave.
    #[error("No connection to {broker} for {api:?} within {}", Span(*.after))]
    NoConnection {
        /// The request.
        api: ApiKey,
        /// The broker, host:port.
        broker: Arc<str>,
        /// How long was waited.
        after: Duration,
    },
    /// The cluster's metadata does not name this broker now.
    #[error("Broker {node} is not in the cluster now")]
    UnknownNode {
        /// The broker's id.
        node: i32,
    },
    /// The broker knows that what we know of the cluster is of no use (KIP-1102).
    #[error("The broker asks to begin again with the bootstrap brokers")]
    Rebootstrap,
    /// The client was closed.
    #[error("The client was closed")]
    Closed,
}

impl CallError {
    /// The class of the error.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::NotSent { .. }
            | Self::PossiblyWritten { .. }
            | Self::UnknownNode { .. }
            | Self::Rebootstrap => ErrorKind::Unreachable,
            Self::Timeout { .. } | Self::NoConnection { .. } => ErrorKind::Timeout,
            Self::Unsupported { .. } | Self::Decode { .. } => ErrorKind::Protocol,
            Self::Connect(error) | Self::BackOff { error, .. } => error.kind(),
            Self::Closed => ErrorKind::Closed,
        }
    }

    /// Whether the broker may have acted on the request. `false` is a promise: no byte of it left.
    pub const fn possibly_written(&self) -> bool {
        match self {
            Self::PossiblyWritten { .. } | Self::Decode { .. } => true,
            Self::Timeout { possibly_written, .. } => *possibly_written,
            _ => false,
        }
    }

    /// How long the caller should wait before it asks the same broker again, when that is known.
    pub const fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::BackOff { retry_after, .. } => Some(*retry_after),
            _ => None,
        }
    }
}

/// A duration as people say it: `10 s`, `1.5 s`, `250 ms`.
#[derive(Clone, Copy)]
pub(crate) struct Span(pub(crate) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Rounded to what was configured: a wait measured as 10.002 s or 999 ms was one of 10 s or 1 s.
        let ms = self.0.as_millis();
        let tenths = (ms + 50) / 100;
        if ms < 100 {
            write!(f, "{ms} ms")
        } else if ms < 995 {
            write!(f, "{} ms", (ms + 5) / 10 * 10)
        } else if tenths.is_multiple_of(10) {
            write!(f, "{} s", tenths / 10)
        } else {
            write!(f, "{}.{} s", tenths / 10, tenths % 10)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_say_where_and_what_to_do() {
        let address = BrokerAddress::new("localhost", 9093);
        let texts = [
            (
                ConnectError::Refused { address: address.clone() },
                "localhost:9093 refused the connection. Is Kafka running there?",
            ),
            (
                ConnectError::Unresolvable {
                    address: BrokerAddress::new("kafkaa", 9092),
                    reason: "unknown".to_owned(),
                },
                "Cannot resolve broker \"kafkaa\". Check the name; from a container use the host's name, not localhost (unknown)",
            ),
            (
                ConnectError::Silent { address: address.clone(), after: Duration::from_secs(10) },
                "localhost:9093 accepted the connection and said nothing for 10 s",
            ),
            (ConnectError::Redis { address: address.clone() }, "localhost:9093 is Redis, not Kafka"),
            (ConnectError::Http { address: address.clone() }, "localhost:9093 answered HTTP, not Kafka"),
            (
                ConnectError::Incompatible {
                    address,
                    api: ApiKey::Produce,
                    ours: (3, 13),
                    theirs: Some((0, 2)),
                },
                "Broker localhost:9093 speaks Produce 0-2, this client 3-13; Kafka 2.1 is the oldest supported",
            ),
        ];
        for (error, text) in texts {
            assert_eq!(error.to_string(), text);
        }
    }

    #[test]
    fn spans_read_as_people_say_them() {
        let ms = Duration::from_millis;
        let said: Vec<String> =
            [ms(7), ms(250), ms(999), ms(1500), ms(9998), ms(90_000)].map(|d| Span(d).to_string()).into();
        assert_eq!(said, ["7 ms", "250 ms", "1 s", "1.5 s", "10 s", "90 s"]);
    }
}
