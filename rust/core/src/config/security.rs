//! Who we are to brokers, and how we know who they are: the settings of SASL and TLS. Secrets are shown by nothing here.

use super::ConfigError;
use crate::wire::Secret;

/// What is shown in place of a secret that is set.
pub(super) const HIDDEN: &str = "[hidden]";

/// How a broker is spoken to (`security.protocol`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SecurityProtocol {
    /// In the clear, and nobody says who he is.
    Plaintext,
    /// By TLS.
    Ssl,
    /// In the clear, with user and password. With PLAIN the password itself is in the clear.
    SaslPlaintext,
    /// By TLS, with user and password.
    SaslSsl,
}

impl SecurityProtocol {
    /// All there are.
    pub const ALL: [Self; 4] = [Self::Plaintext, Self::Ssl, Self::SaslPlaintext, Self::SaslSsl];

    /// Its name, as settings have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "PLAINTEXT",
            Self::Ssl => "SSL",
            Self::SaslPlaintext => "SASL_PLAINTEXT",
            Self::SaslSsl => "SASL_SSL",
        }
    }

    /// Whether it is TLS.
    pub const fn is_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }

    /// Whether there is a user.
    pub const fn is_sasl(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
}

/// How a user proves who he is (`sasl.mechanism`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SaslMechanism {
    /// The password as it is (RFC 4616).
    Plain,
    /// A proof of knowing the password, by SHA-256 (RFC 7677).
    ScramSha256,
    /// The same by SHA-512.
    ScramSha512,
}

impl SaslMechanism {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Plain, Self::ScramSha256, Self::ScramSha512];

    /// Its name, as settings and brokers have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Plain => "PLAIN",
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

/// The user, for [`SecurityProtocol::SaslPlaintext`] and [`SecurityProtocol::SaslSsl`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SaslConf {
    /// How he proves who he is. There is no default; PLAIN when `sasl.jaas.config` names PlainLoginModule.
    pub mechanism: Option<SaslMechanism>,
    /// His name.
    pub username: String,
    /// His password, as it is: nothing is trimmed.
    pub password: Secret<String>,
    /// Whether `sasl.jaas.config` named ScramLoginModule (`true`) or PlainLoginModule; `None` without it.
    pub jaas_is_scram: Option<bool>,
}

impl SaslConf {
    /// What he proves it by, said or to be seen from `sasl.jaas.config`.
    pub fn mechanism(&self) -> Option<SaslMechanism> {
        self.mechanism.or((self.jaas_is_scram == Some(false)).then_some(SaslMechanism::Plain))
    }

    pub(super) fn check(&self, protocol: SecurityProtocol) -> Result<(), ConfigError> {
        let contradiction = |text: String| Err(ConfigError::Contradiction(text));
        let protocol = protocol.name();
        let Some(mechanism) = self.mechanism() else {
            return contradiction(format!(
                "security.protocol={protocol} needs sasl.mechanism (PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512)"
            ));
        };
        if let Some(is_scram) = self.jaas_is_scram
            && is_scram != (mechanism != SaslMechanism::Plain)
        {
            let module = if is_scram { "ScramLoginModule" } else { "PlainLoginModule" };
            return contradiction(format!(
                "sasl.mechanism={} does not go with the {module} of sasl.jaas.config",
                mechanism.name()
            ));
        }
        if self.username.is_empty() || self.password.0.is_empty() {
            return contradiction(format!(
                "security.protocol={protocol} needs sasl.username and sasl.password, or sasl.jaas.config"
            ));
        }
        if self.username.contains('\0') || self.password.0.contains('\0') {
            return contradiction("sasl.username and sasl.password cannot hold the character NUL".to_owned());
        }
        Ok(())
    }
}

/// Certificates, for [`SecurityProtocol::Ssl`] and [`SecurityProtocol::SaslSsl`]. Everything is PEM (KIP-651); files are read
/// when a client connects. An empty text is one that is not set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsConf {
    /// `PEM`; others are refused with a text that says what to do. Empty: told from the file.
    pub truststore_type: String,
    /// A file with the certificates of the CAs that are trusted.
    pub truststore_location: String,
    /// Those certificates themselves.
    pub truststore_certificates: String,
    /// `PEM`, as above.
    pub keystore_type: String,
    /// A file with our certificate and those between it and its CA; the private key may be in it too.
    pub keystore_location: String,
    /// Those certificates themselves; the private key may be among them, so nobody is to see them.
    pub certificate_chain: Secret<String>,
    /// A file with our private key, when it is not with the certificates.
    pub key_location: String,
    /// That key itself.
    pub key: Secret<String>,
    /// Whether the certificate must name the host that was asked for.
    pub check_host: bool,
    /// Passwords of stores and keys: `ssl.truststore.password`, `ssl.keystore.password`, `ssl.key.password`. PEM files have none
    /// here; that an encrypted key cannot be read is said at connect.
    pub passwords: [Secret<String>; 3],
}

impl Default for TlsConf {
    fn default() -> Self {
        Self {
            truststore_type: String::new(),
            truststore_location: String::new(),
            truststore_certificates: String::new(),
            keystore_type: String::new(),
            keystore_location: String::new(),
            certificate_chain: Secret::default(),
            key_location: String::new(),
            key: Secret::default(),
            check_host: true,
            passwords: Default::default(),
        }
    }
}

/// A store of a kind only Java reads: why, and what to do.
pub(crate) fn foreign_store(name: &str, kind: &str) -> ConfigError {
    ConfigError::Contradiction(format!(
        "{name}: a {kind} store is read from Java only. Here it must be PEM: convert it by \
         keytool -importkeystore -deststoretype PKCS12 and openssl pkcs12 -in store.p12 -out store.pem -nodes"
    ))
}

impl TlsConf {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        for (name, kind) in
            [("ssl.truststore.type", &self.truststore_type), ("ssl.keystore.type", &self.keystore_type)]
        {
            if !kind.is_empty() && !kind.eq_ignore_ascii_case("PEM") {
                return Err(foreign_store(name, kind));
            }
        }
        let ours = !self.keystore_location.is_empty() || !self.certificate_chain.0.is_empty();
        if !ours && (!self.key.0.is_empty() || !self.key_location.is_empty()) {
            return Err(ConfigError::Contradiction(
                "a private key needs its certificate: ssl.keystore.certificate.chain or ssl.keystore.location"
                    .to_owned(),
            ));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;

    fn with(settings: &[(&str, &str)]) -> Config {
        let mut c = Config::default();
        for (name, value) in settings {
            c.set(name, value).unwrap();
        }
        c
    }

    #[test]
    fn what_sasl_needs_is_said() {
        let text = |settings: &[(&str, &str)]| {
            with(&[&[("security.protocol", "sasl_ssl")], settings].concat()).check().unwrap_err().to_string()
        };
        assert_eq!(
            text(&[]),
            "security.protocol=SASL_SSL needs sasl.mechanism (PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512)"
        );
        assert_eq!(
            text(&[("sasl.mechanism", "PLAIN"), ("sasl.username", "u")]),
            "security.protocol=SASL_SSL needs sasl.username and sasl.password, or sasl.jaas.config"
        );
        let jaas = "org.apache.kafka.common.security.scram.ScramLoginModule required username=u password=p;";
        assert_eq!(
            text(&[("sasl.mechanisms", "PLAIN"), ("sasl.jaas.config", jaas)]),
            "sasl.mechanism=PLAIN does not go with the ScramLoginModule of sasl.jaas.config"
        );
        let error = Config::default().set("sasl.mechanism", "GSSAPI").unwrap_err().to_string();
        assert_eq!(
            error,
            "sasl.mechanism: \"GSSAPI\" is not a mechanism of this client (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512)"
        );
    }

    #[test]
    fn stores_of_java_are_refused_with_the_way_out() {
        let c = with(&[("security.protocol", "SSL"), ("ssl.truststore.type", "JKS")]);
        let error = c.check().unwrap_err().to_string();
        assert!(error.contains("a JKS store is read from Java only") && error.contains("openssl"), "{error}");
    }

    #[test]
    fn nothing_shows_a_secret() {
        const SECRET: &str = "hunter2";
        let jaas = format!("a.b.PlainLoginModule required username=\"u\" password=\"{SECRET}\";");
        let settings = [
            ("sasl.password", SECRET),
            ("sasl.jaas.config", jaas.as_str()),
            ("ssl.keystore.key", SECRET),
            ("ssl.key.pem", SECRET),
            ("ssl.keystore.certificate.chain", SECRET),
            ("ssl.certificate.pem", SECRET),
            ("ssl.key.password", SECRET),
            ("ssl.keystore.password", SECRET),
            ("ssl.truststore.password", SECRET),
        ];
        let c = with(&settings);
        let mut shown = format!("{c:?} {c:#?} {:?}", c.clone());
        for setting in crate::config::SETTINGS {
            shown += &c.get(setting.name).unwrap();
        }
        for (name, _) in settings {
            assert_eq!(c.get(name).unwrap(), super::HIDDEN, "{name}");
        }
        // Values that are refused.
        for bad in [format!("x.Other required password={SECRET};"), format!("{SECRET} {SECRET}")] {
            let error = with(&[]).set("sasl.jaas.config", &bad).unwrap_err();
            shown += &format!("{error} {error:?}");
        }
        shown += &format!("{:?}", with(&[("security.protocol", "SASL_SSL"), settings[0]]).check());
        assert!(!shown.contains(SECRET), "{shown}");
        assert_eq!(c.sasl.password.0, SECRET, "it was set");
    }

    #[test]
    fn what_is_shown_in_place_of_a_secret_is_not_taken_for_it() {
        let mut c = with(&[("sasl.password", "right")]);
        for name in ["sasl.password", "ssl.key.password", "ssl.keystore.key", "ssl.certificate.pem"] {
            let error = c.set(name, super::HIDDEN).unwrap_err().to_string();
            assert!(error.contains("the value is not the secret") && error.contains("[hidden]"), "{error}");
        }
        assert!(c.set("sasl.jaas.config", super::HIDDEN).is_err());
        assert_eq!(c.sasl.password.0, "right");
        c.set("sasl.password", "[hidden] ").unwrap();
    }

    #[test]
    fn a_password_is_taken_as_it_is() {
        assert_eq!(with(&[("sasl.password", " a b ")]).sasl.password.0, " a b ");
    }
}
