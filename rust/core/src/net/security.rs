//! What a connection does besides speaking Kafka: TLS, and saying who we are.

use std::sync::Arc;

use super::sasl::Credentials;
use super::tls::TlsClient;
use crate::config::{Config, ConfigError};

/// How a connection is secured; [`Default`] is not at all. Shows no secrets.
#[derive(Debug, Clone, Default)]
pub struct Security {
    pub(super) tls: Option<Arc<TlsClient>>,
    pub(super) sasl: Option<Arc<Credentials>>,
}

impl Security {
    /// What the settings say. Reads the files they name, once: connections made later do not see changes.
    ///
    /// # Errors
    /// A file that cannot be read or is not PEM, a certificate or a key that makes no sense.
    pub fn new(conf: &Config) -> Result<Self, ConfigError> {
        let tls = conf.security.is_tls().then(|| TlsClient::new(&conf.tls)).transpose()?;
        let sasl = conf.security.is_sasl().then(|| Credentials::new(&conf.sasl)).flatten();
        Ok(Self { tls: tls.map(Arc::new), sasl: sasl.map(Arc::new) })
    }
}
