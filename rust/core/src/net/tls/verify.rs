//! Whether the broker is the one that was asked for: its certificate, and if not, why not in words.

use std::fmt;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};

use super::certificate;

/// What is wrong with a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Problem {
    Untrusted {
        issuer: String,
    },
    WrongName {
        names: String,
    },
    /// Since or until when it is not valid.
    Expired {
        since: String,
    },
    NotYetValid {
        until: String,
    },
    Other(String),
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl std::error::Error for Problem {}

impl Problem {
    /// What the verifier has found, if that is why a handshake failed.
    pub(super) fn of(error: &Error) -> Option<Self> {
        let Error::InvalidCertificate(error) = error else { return None };
        match error {
            CertificateError::Other(OtherError(problem)) => problem.downcast_ref::<Self>().cloned(),
            other => Some(Self::Other(other.to_string())),
        }
    }

    fn new(error: Error, certificate: &CertificateDer<'_>) -> Self {
        let Error::InvalidCertificate(error) = error else { return Self::Other(error.to_string()) };
        match error {
            // A CA of the same name with another key, as after its renewal, is not the one that is trusted.
            CertificateError::UnknownIssuer | CertificateError::BadSignature => {
                Self::Untrusted { issuer: certificate::issuer(certificate) }
            }
            CertificateError::ExpiredContext { not_after, .. } => {
                Self::Expired { since: certificate::date(not_after.as_secs()) }
            }
            CertificateError::NotValidYetContext { not_before, .. } => {
                Self::NotYetValid { until: certificate::date(not_before.as_secs()) }
            }
            CertificateError::NotValidForNameContext { presented, .. } => {
                Self::WrongName { names: names(&presented) }
            }
            other => {
                let text = other.to_string();
                // The library has no name of its own for it.
                Self::Other(if text.contains("UnsupportedCertVersion") { OLD.to_owned() } else { text })
            }
        }
    }
}

/// openssl makes such certificates when it is not told otherwise, and Java takes them.
const OLD: &str = "the broker's certificate, or one between it and its CA, is an X.509 v1 certificate; make one of \
                   version 3 with subjectAltName";

/// `DnsName("a")` and `IpAddress(1.2.3.4)`, as the library has them, to `a, 1.2.3.4`.
fn names(presented: &[String]) -> String {
    let bare = |name: &String| {
        let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')')).unwrap_or(name);
        inside.trim_matches('"').escape_debug().to_string()
    };
    if presented.is_empty() {
        "none (a common name, CN, does not count: it needs a subjectAltName)".to_owned()
    } else {
        presented.iter().map(bare).collect::<Vec<_>>().join(", ")
    }
}

/// Trusts what a truststore says.
#[derive(Debug)]
pub(super) struct Verifier {
    roots: RootCertStore,
    /// The same certificates: a truststore may hold that of the broker itself.
    trusted: Vec<CertificateDer<'static>>,
    check_host: bool,
    algorithms: WebPkiSupportedAlgorithms,
}

impl Verifier {
    pub(super) fn new(
        roots: RootCertStore,
        trusted: Vec<CertificateDer<'static>>,
        check_host: bool,
        algorithms: WebPkiSupportedAlgorithms,
    ) -> Self {
        Self { roots, trusted, check_host, algorithms }
    }

    fn check(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        host: &ServerName<'_>,
        now: UnixTime,
    ) -> Result<(), Error> {
        let parsed = ParsedCertificate::try_from(end_entity)?;
        // As in Java, the broker's own certificate in the truststore is enough: it need not be a CA's.
        if !self.trusted.contains(end_entity) {
            let algorithms = self.algorithms.all;
            verify_server_cert_signed_by_trust_anchor(&parsed, &self.roots, intermediates, now, algorithms)?;
        }
        if self.check_host { verify_server_name(&parsed, host) } else { Ok(()) }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.check(end_entity, intermediates, server_name, now) {
            Ok(()) => Ok(ServerCertVerified::assertion()),
            Err(error) => {
                let problem = Problem::new(error, end_entity);
                Err(CertificateError::Other(OtherError(Arc::new(problem))).into())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::super::{certificate::element, key::tagged, pem};
    use super::*;

    #[test]
    fn names_read_as_people_write_them() {
        let presented = ["DnsName(\"kafka.example\")".to_owned(), "IpAddress(10.0.0.1)".to_owned()];
        assert_eq!(names(&presented), "kafka.example, 10.0.0.1");
        assert!(names(&[]).starts_with("none (a common name, CN, does not count"));
    }

    /// The same certificate as of version 1: that has no field for the version. (Nor has it extensions, nor is the signature
    /// right now; neither is looked at.)
    fn of_version_1(der: &[u8]) -> CertificateDer<'static> {
        let (_, certificate, _) = element(der).unwrap();
        let (_, fields, signature) = element(certificate).unwrap();
        let (tag, _, after) = element(fields).unwrap();
        assert_eq!(tag, 0xa0, "the version");
        let fields = tagged(0x30, after).unwrap();
        tagged(0x30, &[&fields, signature].concat()).unwrap().into()
    }

    #[test]
    fn a_certificate_of_version_1_is_told_so() {
        let ca = kafka_fast_testkit::Authority::new("Our Root");
        let server = pem::certificates("x", &ca.server(&["localhost"]).certificate).unwrap();
        let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
        let verifier = Verifier::new(RootCertStore::empty(), Vec::new(), true, algorithms);
        let old = of_version_1(&server[0]);
        let host = ServerName::try_from("localhost").unwrap();
        let error = verifier.verify_server_cert(&old, &[], &host, &[], UnixTime::now()).unwrap_err();
        let Some(Problem::Other(text)) = Problem::of(&error) else { panic!("{error:?}") };
        assert!(
            text.contains("is an X.509 v1 certificate; make one of version 3 with subjectAltName"),
            "{text}"
        );
    }
}
