//! Settings of TLS and SASL. The value of a secret is never given back.

use super::Setting;
use super::forms::text;
use crate::config::security::HIDDEN;
use crate::config::{ConfigError, SaslMechanism, SecurityProtocol, jaas};
use crate::wire::Secret;

/// Values that are taken as they are: white space may be part of a password.
pub(super) const VERBATIM: &[&str] =
    &["sasl.password", "ssl.key.password", "ssl.keystore.password", "ssl.truststore.password"];

fn hidden(secret: &Secret<String>) -> String {
    if secret.0.is_empty() { String::new() } else { HIDDEN.to_owned() }
}

/// A setting nobody is to see.
macro_rules! secret {
    ($name:literal, [$($alias:literal),*], $field:expr, $doc:literal) => {
        Setting { name: $name, aliases: &[$($alias),*], doc: $doc,
            set: |c, name, v| {
                // From settings that were read back, or copied from a log.
                if v == HIDDEN {
                    let expected = "the secret but what is shown in its place ([hidden]): set the secret itself";
                    return Err(ConfigError::BadSecret { name, expected });
                }
                let field: fn(&mut crate::config::Config) -> &mut Secret<String> = $field;
                *field(c) = v.into();
                Ok(())
            },
            get: |c| {
                let field: fn(&mut crate::config::Config) -> &mut Secret<String> = $field;
                hidden(field(&mut c.clone()))
            } }
    };
}

pub(super) const SECURITY: &[Setting] = &[
    Setting {
        name: "security.protocol",
        aliases: &[],
        doc: "How brokers are spoken to: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.",
        set: |c, name, v| {
            let expected = "a security protocol (PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL)";
            let known = SecurityProtocol::ALL.into_iter().find(|p| p.name().eq_ignore_ascii_case(v));
            c.security =
                known.ok_or_else(|| ConfigError::BadValue { name, value: v.to_owned(), expected })?;
            Ok(())
        },
        get: |c| c.security.name().to_owned(),
    },
    Setting {
        name: "sasl.mechanism",
        aliases: &["sasl.mechanisms"],
        doc: "How the user proves who he is: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512.",
        set: |c, name, v| {
            let expected = "a mechanism of this client (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512)";
            let known = SaslMechanism::ALL.into_iter().find(|m| m.name().eq_ignore_ascii_case(v));
            if known.is_none() && !v.is_empty() {
                return Err(ConfigError::BadValue { name, value: v.to_owned(), expected });
            }
            c.sasl.mechanism = known;
            Ok(())
        },
        get: |c| c.sasl.mechanism.map_or("", SaslMechanism::name).to_owned(),
    },
    text!("sasl.username", [], sasl.username, "The user's name."),
    secret!("sasl.password", [], |c| &mut c.sasl.password, "The user's password."),
    Setting {
        name: "sasl.jaas.config",
        aliases: &[],
        doc: "User and password as kafka-clients have them: CLASS required username=\"...\" password=\"...\";",
        set: |c, _, v| jaas::read(&mut c.sasl, v),
        get: |c| if c.sasl.jaas_is_scram.is_some() { HIDDEN.to_owned() } else { String::new() },
    },
    text!(
        "ssl.truststore.type",
        [],
        tls.truststore_type,
        "Kind of the truststore: PEM; from Java also PKCS12, JKS."
    ),
    text!(
        "ssl.truststore.location",
        ["ssl.ca.location"],
        tls.truststore_location,
        "File with the certificates of trusted CAs. Without one: those of the machine."
    ),
    text!(
        "ssl.truststore.certificates",
        ["ssl.ca.pem"],
        tls.truststore_certificates,
        "The certificates of trusted CAs, as PEM."
    ),
    secret!(
        "ssl.truststore.password",
        [],
        |c| &mut c.tls.passwords[0],
        "Password of a truststore that Java reads."
    ),
    text!(
        "ssl.keystore.type",
        [],
        tls.keystore_type,
        "Kind of the keystore: PEM; from Java also PKCS12, JKS."
    ),
    text!(
        "ssl.keystore.location",
        ["ssl.certificate.location"],
        tls.keystore_location,
        "File with our certificate, its chain, and our private key."
    ),
    secret!(
        "ssl.keystore.certificate.chain",
        ["ssl.certificate.pem"],
        |c| &mut c.tls.certificate_chain,
        "Our certificate and its chain, as PEM."
    ),
    text!(
        "ssl.key.location",
        [],
        tls.key_location,
        "File with our private key, when it is not in that of the certificate."
    ),
    secret!("ssl.keystore.key", ["ssl.key.pem"], |c| &mut c.tls.key, "Our private key, as PEM (PKCS#8)."),
    secret!(
        "ssl.keystore.password",
        [],
        |c| &mut c.tls.passwords[1],
        "Password of a keystore that Java reads."
    ),
    secret!(
        "ssl.key.password",
        [],
        |c| &mut c.tls.passwords[2],
        "Password of a private key that Java reads."
    ),
    Setting {
        name: "ssl.endpoint.identification.algorithm",
        aliases: &[],
        doc: "https: the broker's certificate must name its host. Empty or none: it need not.",
        set: |c, name, v| {
            c.tls.check_host = match v.to_ascii_lowercase().as_str() {
                "https" => true,
                "" | "none" => false,
                _ => {
                    let expected = "https, none or empty";
                    return Err(ConfigError::BadValue { name, value: v.to_owned(), expected });
                }
            };
            Ok(())
        },
        get: |c| if c.tls.check_host { "https" } else { "" }.to_owned(),
    },
];
