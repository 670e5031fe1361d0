//! TLS 1.2 and 1.3, by rustls with the cryptography of ring.
//!
//! Certificates are read once, when a client connects. Without a truststore the CAs of the machine are trusted, not a list
//! built in: who runs machines adds the company's own CA there and withdraws others, as Java users do in the JVM's cacerts.
//! Sessions are not resumed: a client keeps few connections, for long.
//!
//! A broker that wants a client certificate and gets none says so by an alert, which with TLS 1.3 comes after the client's
//! handshake is done, and may be lost when the broker closes the socket at once. So it is noted whether one was asked for. An
//! end without an alert may have other reasons (a broker that goes down, a proxy whose broker is not there yet): it is told
//! with that one, and tried again.

mod certificate;
mod key;
mod pem;
mod verify;

use std::fmt;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{AlertDescription, ClientConfig, Error, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::error::ConnectError;
use super::stream::Stream;
use crate::config::{BrokerAddress, ConfigError, TlsConf};
use verify::{Problem, Verifier};

/// Bytes of ciphertext that wait for the socket: more than that is not encrypted ahead.
const WAITING_MAX: usize = 64 << 10;

/// What is the same for all connections of a client.
pub(super) struct TlsClient {
    config: ClientConfig,
    own: Option<Arc<CertifiedKey>>,
}

impl fmt::Debug for TlsClient {
    /// A private key is among it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TlsClient(client certificate: {})", self.own.is_some())
    }
}

/// Our certificate, if we have one, and whether this connection's broker wanted one.
#[derive(Debug)]
struct Own {
    key: Option<Arc<CertifiedKey>>,
    was_asked: Arc<AtomicBool>,
}

impl ResolvesClientCert for Own {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.was_asked.store(true, Ordering::Relaxed);
        self.key.clone()
    }

    fn has_certs(&self) -> bool {
        // Also without one: whether it was asked for is to be known.
        true
    }
}

/// What one connection's broker wanted of us.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    had: bool,
    was_asked: Arc<AtomicBool>,
}

impl TlsClient {
    /// Reads the certificates the settings name.
    pub(super) fn new(conf: &TlsConf) -> Result<Self, ConfigError> {
        let provider = Arc::new(ring::default_provider());
        let (roots, trusted) = trusted(conf)?;
        let own = own(conf, &provider)?.map(Arc::new);
        let algorithms = provider.signature_verification_algorithms;
        let verifier = Arc::new(Verifier::new(roots, trusted, conf.check_host, algorithms));
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|e| bad("security.protocol", e.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(verifier)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        Ok(Self { config, own })
    }

    /// Shakes hands.
    pub(super) async fn connect(
        &self,
        address: &BrokerAddress,
        socket: TcpStream,
    ) -> Result<Stream, ConnectError> {
        let failed = |reason: String| ConnectError::TlsFailed { address: address.clone(), reason };
        let host = ServerName::try_from(address.host.clone())
            .map_err(|_| failed("a certificate cannot name such a host".to_owned()))?;
        let asked = Asked { had: self.own.is_some(), was_asked: Arc::default() };
        let mut config = self.config.clone();
        config.client_auth_cert_resolver =
            Arc::new(Own { key: self.own.clone(), was_asked: asked.was_asked.clone() });
        let connector = TlsConnector::from(Arc::new(config));
        let limit = |session: &mut rustls::ClientConnection| session.set_buffer_limit(Some(WAITING_MAX));
        match connector.connect_with(host, socket, limit).await {
            Ok(stream) => Ok(Stream::Tls(Box::new(stream), asked)),
            Err(error) => Err(asked.explain(address, &error).unwrap_or_else(|| no_hello(address, &error))),
        }
    }
}

/// An error before any word of TLS came.
fn no_hello(address: &BrokerAddress, error: &io::Error) -> ConnectError {
    use io::ErrorKind::{BrokenPipe, ConnectionAborted, ConnectionReset, UnexpectedEof};
    let address = address.clone();
    match error.kind() {
        // A Kafka listener without TLS takes the greeting for a length beyond its limit, and closes.
        UnexpectedEof | ConnectionReset | ConnectionAborted | BrokenPipe => {
            ConnectError::NoServerHello { address }
        }
        _ => ConnectError::Unreachable { address, reason: error.to_string() },
    }
}

impl Asked {
    /// The broker has answered a request: it has taken us as we are.
    pub(super) fn was_accepted(&self) {
        self.was_asked.store(false, Ordering::Relaxed);
    }

    /// What an error of the stream means, when that is a matter of TLS.
    pub(super) fn explain(&self, address: &BrokerAddress, error: &io::Error) -> Option<ConnectError> {
        let address = address.clone();
        let was_asked = self.was_asked.load(Ordering::Relaxed);
        let Some(error) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) else {
            // Closed or reset right after a certificate was asked for.
            return was_asked.then(|| ConnectError::TlsBroken { address, reason: closed(self.had) });
        };
        if let Some(problem) = Problem::of(error) {
            return Some(match problem {
                Problem::Untrusted { issuer } => ConnectError::Untrusted { address, issuer },
                Problem::WrongName { names } => ConnectError::WrongName { address, names },
                Problem::Expired { since } => ConnectError::Expired { address, since },
                Problem::NotYetValid { until } => ConnectError::NotYetValid { address, until },
                Problem::Other(reason) => ConnectError::TlsFailed { address, reason },
            });
        }
        Some(match error {
            Error::AlertReceived(alert) if was_asked && is_about_a_certificate(*alert) => {
                if self.had {
                    let reason = format!("{alert:?}");
                    ConnectError::ClientCertificateRefused { address, reason }
                } else {
                    ConnectError::ClientCertificateMissing { address }
                }
            }
            Error::AlertReceived(alert) => {
                let reason = format!("the broker ended it ({alert:?})");
                if is_for_good(*alert) {
                    ConnectError::TlsFailed { address, reason }
                } else {
                    ConnectError::TlsBroken { address, reason }
                }
            }
            Error::InvalidMessage(_) => ConnectError::NoTls { address },
            other => ConnectError::TlsFailed { address, reason: other.to_string() },
        })
    }

    /// The same, for a stream that has just ended.
    pub(super) fn explain_end(&self, address: &BrokerAddress) -> Option<ConnectError> {
        self.explain(address, &io::ErrorKind::UnexpectedEof.into())
    }
}

/// What may be behind an end without an alert, after a client certificate was asked for.
fn closed(had: bool) -> String {
    let advice = if had {
        "Does the broker's truststore have the CA of ours?"
    } else {
        "If it demands one, set ssl.keystore.location, or ssl.keystore.certificate.chain and ssl.keystore.key"
    };
    format!("the broker asked for a client certificate and closed the connection. {advice}")
}

/// Alerts after which another try must end the same: the two have nothing in common, or a certificate is not liked. Others
/// (`InternalError`, `UserCanceled`) are of a broker that is in trouble.
const fn is_for_good(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    is_about_a_certificate(alert)
        || matches!(alert, A::ProtocolVersion | A::InsufficientSecurity | A::IllegalParameter)
}

/// Alerts by which brokers refuse a client's certificate, or its absence; JDKs differ.
const fn is_about_a_certificate(alert: AlertDescription) -> bool {
    use AlertDescription as A;
    matches!(
        alert,
        A::BadCertificate
            | A::UnsupportedCertificate
            | A::CertificateRevoked
            | A::CertificateExpired
            | A::CertificateUnknown
            | A::CertificateRequired
            | A::UnknownCA
            | A::AccessDenied
            | A::HandshakeFailure
    )
}

fn bad(name: &'static str, reason: String) -> ConfigError {
    ConfigError::Certificates { name, reason }
}

/// Whom we trust.
fn trusted(conf: &TlsConf) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), ConfigError> {
    let mut roots = RootCertStore::empty();
    let mut own = Vec::new();
    if !conf.truststore_location.is_empty() {
        let name = "ssl.truststore.location";
        let text = pem::read_file(name, &conf.truststore_location)?;
        own.extend(pem::certificates(name, &text).map_err(|e| of_file(e, &conf.truststore_location))?);
    }
    if !conf.truststore_certificates.is_empty() {
        own.extend(pem::certificates("ssl.truststore.certificates", &conf.truststore_certificates)?);
    }
    if own.is_empty() {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            let reason =
                "this machine has no CA certificates of its own (package ca-certificates): name yours";
            return Err(bad("ssl.truststore.location", reason.to_owned()));
        }
    }
    for certificate in &own {
        roots
            .add(certificate.clone())
            .map_err(|e| bad("ssl.truststore.location", format!("a certificate cannot be used: {e}")))?;
    }
    Ok((roots, own))
}

/// The same error with the file it is about.
fn of_file(error: ConfigError, path: &str) -> ConfigError {
    match error {
        ConfigError::Certificates { name, reason } => bad(name, format!("{path}: {reason}")),
        other => other,
    }
}

/// Who we are, by our certificate.
fn own(conf: &TlsConf, provider: &CryptoProvider) -> Result<Option<CertifiedKey>, ConfigError> {
    let (name, text) = if !conf.certificate_chain.0.is_empty() {
        ("ssl.keystore.certificate.chain", conf.certificate_chain.0.clone())
    } else if !conf.keystore_location.is_empty() {
        let name = "ssl.keystore.location";
        (name, pem::read_file(name, &conf.keystore_location)?)
    } else {
        return Ok(None);
    };
    let chain = pem::certificates(name, &text)?;
    let key = if !conf.key.0.is_empty() {
        pem::private_key("ssl.keystore.key", &conf.key.0)?
    } else if !conf.key_location.is_empty() {
        let name = "ssl.key.location";
        pem::private_key(name, &pem::read_file(name, &conf.key_location)?)
            .map_err(|e| of_file(e, &conf.key_location))?
    } else {
        pem::private_key(name, &text)?
    };
    let key = match &key {
        PrivateKeyDer::Pkcs8(pkcs8) => match key::completed(pkcs8.secret_pkcs8_der(), &chain[0]) {
            Some(whole) => PrivateKeyDer::Pkcs8(whole.into()),
            None => key,
        },
        _ => key,
    };
    CertifiedKey::from_der(chain, key, provider)
        .map(Some)
        .map_err(|e| bad(name, format!("certificate and private key cannot be used: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A network that fails is no listener without TLS: nobody is to switch TLS off for it.
    #[test]
    fn only_an_end_means_that_nobody_speaks_tls() {
        let address = BrokerAddress::new("b", 1);
        let hello = no_hello(&address, &io::ErrorKind::ConnectionReset.into());
        assert!(matches!(hello, ConnectError::NoServerHello { .. }), "{hello}");
        let unreachable = no_hello(&address, &io::ErrorKind::HostUnreachable.into());
        assert_eq!(unreachable.to_string(), "b:1 cannot be reached: host unreachable");
    }

    fn asked(had: bool, was_asked: bool) -> Asked {
        Asked { had, was_asked: Arc::new(AtomicBool::new(was_asked)) }
    }

    fn address() -> BrokerAddress {
        BrokerAddress::new("h", 1)
    }

    fn alert(asked: &Asked, alert: AlertDescription) -> ConnectError {
        let error = io::Error::new(io::ErrorKind::InvalidData, Error::AlertReceived(alert));
        asked.explain(&address(), &error).expect("an alert is a matter of TLS")
    }

    #[test]
    fn an_end_without_an_alert_is_explained_until_the_first_answer_and_tried_again() {
        for had in [false, true] {
            let asked = asked(had, true);
            for kind in [io::ErrorKind::UnexpectedEof, io::ErrorKind::ConnectionReset] {
                let error = asked.explain(&address(), &kind.into()).expect("it was asked for");
                assert!(!error.is_definite() && !error.is_refusal(), "{error:?}");
                assert_eq!(error.to_string().contains("ssl.keystore.location"), !had, "{error}");
            }
            asked.was_accepted();
            assert_eq!(asked.explain_end(&address()), None);
        }
        assert_eq!(asked(false, false).explain_end(&address()), None);
    }

    #[test]
    fn alerts_are_for_good_unless_the_broker_is_in_trouble() {
        use AlertDescription as A;
        let definite = |was_asked, of| alert(&asked(false, was_asked), of).is_definite();
        for of in [A::ProtocolVersion, A::HandshakeFailure, A::InsufficientSecurity] {
            assert!(definite(false, of), "{of:?}");
        }
        for of in [A::InternalError, A::UserCanceled, A::UnrecognisedName] {
            assert!(!definite(false, of) && !definite(true, of), "{of:?}");
        }
        let missing = alert(&asked(false, true), A::CertificateRequired);
        assert_eq!(missing, ConnectError::ClientCertificateMissing { address: address() });
        let refused = alert(&asked(true, true), A::UnknownCA);
        assert!(matches!(refused, ConnectError::ClientCertificateRefused { .. }), "{refused}");
    }
}
