//! PEM texts, from files and from settings.
//!
//! A reader of our own, because a PEM text in a setting often stands in one line: kafka-clients takes any white space for
//! an end of line (KIP-651).

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::config::{ConfigError, foreign_store};

/// Most bytes of a file: a bundle of all the world's CAs has a quarter of a megabyte.
const FILE_MAX: u64 = 16 << 20;

fn bad(name: &'static str, reason: String) -> ConfigError {
    ConfigError::Certificates { name, reason }
}

/// The text of a PEM file.
pub(super) fn read_file(name: &'static str, path: &str) -> Result<String, ConfigError> {
    let cannot = |why: &dyn std::fmt::Display| bad(name, format!("{path} cannot be read: {why}"));
    let size = std::fs::metadata(path).map_err(|e| cannot(&e))?.len();
    if size > FILE_MAX {
        return Err(cannot(&format_args!("it has {size} bytes, at most {FILE_MAX} are read")));
    }
    let bytes = std::fs::read(path).map_err(|e| cannot(&e))?;
    match bytes[..] {
        [0xfe, 0xed, 0xfe, 0xed, ..] => return Err(foreign_store(name, "JKS")),
        [0x30, 0x80..=0x84, ..] => return Err(foreign_store(name, "PKCS12 or DER")),
        _ => {}
    }
    String::from_utf8(bytes).map_err(|_| cannot(&"it is not PEM"))
}

/// The parts of a text, with their labels (`CERTIFICATE`).
fn sections(name: &'static str, text: &str) -> Result<Vec<(String, Vec<u8>)>, ConfigError> {
    let mut sections = Vec::new();
    let mut rest = text;
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let (label, body) = after.split_once("-----").unwrap_or_default();
        let end = format!("-----END {label}-----");
        let Some((body, after)) = body.split_once(&end) else {
            return Err(bad(name, "a part of the PEM text has no end".to_owned()));
        };
        if body.contains("ENCRYPTED") {
            return Err(encrypted(name));
        }
        let body: String = body.split_ascii_whitespace().collect();
        // What does not decode may be a key: it is not shown.
        let der = BASE64.decode(body).map_err(|_| bad(name, format!("a {label} is not base64")))?;
        sections.push((label.to_owned(), der));
        rest = after;
    }
    Ok(sections)
}

fn encrypted(name: &'static str) -> ConfigError {
    let how = "decrypt it by openssl pkcs8 -in key.pem -out plain.pem (readable by this program's user only)";
    bad(name, format!("the private key is encrypted, which is not supported: {how}"))
}

/// All certificates of a text; at least one.
pub(super) fn certificates(
    name: &'static str,
    text: &str,
) -> Result<Vec<CertificateDer<'static>>, ConfigError> {
    let is_certificate =
        |label: &str| matches!(label, "CERTIFICATE" | "X509 CERTIFICATE" | "TRUSTED CERTIFICATE");
    let found: Vec<_> = sections(name, text)?
        .into_iter()
        .filter(|(label, _)| is_certificate(label))
        .map(|(_, der)| CertificateDer::from(der))
        .collect();
    if found.is_empty() {
        return Err(bad(name, "there is no certificate in it (-----BEGIN CERTIFICATE-----)".to_owned()));
    }
    Ok(found)
}

/// The first private key of a text.
pub(super) fn private_key(name: &'static str, text: &str) -> Result<PrivateKeyDer<'static>, ConfigError> {
    for (label, der) in sections(name, text)? {
        return Ok(match label.as_str() {
            "PRIVATE KEY" => PrivateKeyDer::Pkcs8(der.into()),
            "RSA PRIVATE KEY" => PrivateKeyDer::Pkcs1(der.into()),
            "EC PRIVATE KEY" => PrivateKeyDer::Sec1(der.into()),
            "ENCRYPTED PRIVATE KEY" => return Err(encrypted(name)),
            _ => continue,
        });
    }
    Err(bad(name, "there is no private key in it (-----BEGIN PRIVATE KEY-----)".to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &str = "Bag Attributes: x\n-----BEGIN CERTIFICATE-----\nAQID\nBAUG\n-----END CERTIFICATE-----\n\
        -----BEGIN CERTIFICATE-----\r\nBwg=\r\n-----END CERTIFICATE-----\r\n";

    fn refused<T>(result: Result<T, ConfigError>) -> String {
        result.err().expect("it is refused").to_string()
    }

    #[test]
    fn certificates_are_found_in_lines_and_in_one() {
        for text in [TWO.to_owned(), TWO.replace(['\r', '\n'], " ")] {
            let found = certificates("ssl.truststore.certificates", &text).unwrap();
            assert_eq!(
                found.iter().map(|c| c.to_vec()).collect::<Vec<_>>(),
                [vec![1, 2, 3, 4, 5, 6], vec![7, 8]]
            );
        }
    }

    #[test]
    fn keys_are_found_by_their_label() {
        for (label, pkcs8) in [("PRIVATE KEY", true), ("RSA PRIVATE KEY", false), ("EC PRIVATE KEY", false)] {
            let text = format!("{TWO}-----BEGIN {label}-----\nAQ==\n-----END {label}-----");
            let key = private_key("ssl.keystore.key", &text).unwrap();
            assert_eq!(matches!(key, PrivateKeyDer::Pkcs8(_)), pkcs8, "{label}");
        }
    }

    #[test]
    fn mistakes_are_told_without_the_key() {
        let key = |text: &str| refused(private_key("ssl.keystore.key", text));
        assert!(key(TWO).contains("no private key"));
        let locked = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAQ==\n-----END ENCRYPTED PRIVATE KEY-----";
        assert!(key(locked).contains("openssl pkcs8"), "{}", key(locked));
        let old =
            "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAQ==\n-----END RSA PRIVATE KEY-----";
        assert!(key(old).contains("openssl pkcs8"));
        let broken = "-----BEGIN PRIVATE KEY-----\nhunter2!\n-----END PRIVATE KEY-----";
        assert_eq!(key(broken), "ssl.keystore.key: a PRIVATE KEY is not base64");
        assert!(key("-----BEGIN PRIVATE KEY-----\nhunter2").contains("has no end"));
        assert!(refused(certificates("ssl.truststore.certificates", "x")).contains("no certificate"));
        let missing = refused(read_file("ssl.truststore.location", "/no/such/file.pem"));
        assert!(
            missing.starts_with("ssl.truststore.location: /no/such/file.pem cannot be read"),
            "{missing}"
        );
    }

    #[test]
    fn stores_of_java_are_known_by_their_first_bytes() {
        let path = std::env::temp_dir().join(format!("kafka-fast-store-{}", std::process::id()));
        for (bytes, kind) in [(&[0xfe, 0xed, 0xfe, 0xed, 0][..], "JKS"), (&[0x30, 0x82, 1, 2], "PKCS12")] {
            std::fs::write(&path, bytes).unwrap();
            let said = refused(read_file("ssl.truststore.location", path.to_str().unwrap()));
            assert!(said.contains(kind) && said.contains("openssl"), "{said}");
        }
        std::fs::remove_file(&path).unwrap();
    }
}
