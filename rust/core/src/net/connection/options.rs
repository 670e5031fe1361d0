//! How a connection is made.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, ConfigError};
use crate::net::security::Security;

/// How a connection is made, and its bounds.
#[derive(Debug, Clone)]
pub struct ConnectionOptions {
    /// Sent with every request.
    pub client_id: Arc<str>,
    /// Longest wait for name, TCP connection and first answer together, and for each answer of a renewal. Default 10 s.
    pub connect_timeout: Duration,
    /// Most bytes of an answer. Default: `max-bytes` and room for one batch above it (128 MiB), for brokers return one
    /// whole batch above any limit.
    pub max_frame: usize,
    /// Most requests without an answer. Default 256.
    pub max_in_flight: usize,
    /// Longest time between two requests over one connection; `None`: no limit. A single connection knows nothing of it: it is for a
    /// cluster, which then makes a new one. Default 540 s.
    pub max_idle: Option<Duration>,
    /// TLS, and who we are. Default: neither.
    pub security: Security,
}

impl ConnectionOptions {
    /// What the settings say; see [`Security::new`] for what is read, and its errors.
    pub fn new(conf: &Config) -> Result<Self, ConfigError> {
        Ok(Self { security: Security::new(conf)?, ..Self::unsecured(conf) })
    }

    fn unsecured(conf: &Config) -> Self {
        Self {
            client_id: conf.client_id.as_str().into(),
            connect_timeout: conf.connect_timeout,
            max_frame: usize::try_from(conf.max_bytes).unwrap_or(0) + (128 << 20),
            max_in_flight: 256,
            max_idle: conf.max_idle,
            security: Security::default(),
        }
    }
}

impl Default for ConnectionOptions {
    fn default() -> Self {
        Self::unsecured(&Config::default())
    }
}
