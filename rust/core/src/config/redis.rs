//! Where a group's Redis is.

use std::fmt;
use std::time::Duration;

use crate::wire::Secret;

/// A group that lives in Redis, and how to reach that Redis.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RedisConf {
    /// Host name or address.
    pub host: String,
    /// TCP port, usually 6379.
    pub port: u16,
    /// The group's name. Keys begin with `{<group>}-kafka-`.
    pub group: String,
    /// The number of the database, 0 by default.
    pub database: u32,
    /// The ACL user; none: Redis's default user.
    pub user: Option<String>,
    /// The password, if Redis wants one: `Some("text".into())`. `{:?}` does not show it.
    pub password: Option<Secret<String>>,
    /// The longest wait for Redis to accept a connection or to answer, 1 s by default. What was said is said again then.
    pub timeout: Duration,
    /// Whether positions are committed to Kafka's own group of the same name too (every `offset-commit-freq`), where every
    /// tool shows them and from where the group is restored when Redis lost its data. On by default; off, losing Redis
    /// loses the positions.
    pub mirror: bool,
}

impl RedisConf {
    /// A group in the Redis at `host:port`; an empty host means `localhost`, as the documentation writes it.
    pub fn new(host: impl Into<String>, port: u16, group: impl Into<String>) -> Self {
        let host = host.into();
        Self {
            host: if host.is_empty() { "localhost".to_owned() } else { host },
            port,
            group: group.into(),
            database: 0,
            user: None,
            password: None,
            timeout: Duration::from_secs(1),
            mirror: true,
        }
    }

    /// `host:port`, as errors name it.
    pub fn address(&self) -> String {
        super::BrokerAddress::new(self.host.as_str(), self.port).to_string()
    }
}

impl fmt::Debug for RedisConf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisConf")
            .field("address", &self.address())
            .field("group", &self.group)
            .field("database", &self.database)
            .field("user", &self.user)
            .field("password", &self.password)
            .field("mirror", &self.mirror)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_password_is_not_shown() {
        let mut conf = RedisConf::new("", 6379, "g");
        conf.password = Some("hunter2".into());
        for shown in [format!("{conf:?}"), format!("{:?}", conf.password)] {
            assert!(shown.contains("Some(<secret>)") && !shown.contains("hunter2"), "{shown}");
        }
    }
}
