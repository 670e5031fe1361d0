//! The connection to Redis: one, which carries commands and wake-ups; every step of it has a time-out.
//!
//! The crate's own connection manager does not serve: it does not come back after a READONLY answer, and nobody would notice
//! that it speaks with another server now, which must be compared with the commits in Kafka first (`docs/GROUPS.md`). So a
//! connection that failed is dropped, and the next call makes a new one and looks at whom it speaks with.

use std::sync::Arc;

use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, ProtocolVersion,
    PushInfo, PushKind, RedisConnectionInfo, RedisError, RedisResult, ScriptInvocation, Value,
};
use tokio::sync::{Mutex, Notify};

use super::call::Reply;
use crate::config::RedisConf;
use crate::group::types::GroupError;

/// The oldest server with all commands that the scripts use.
const OLDEST: (u32, u32) = (6, 2);

pub(super) struct Link {
    conf: RedisConf,
    client: Client,
    /// The channel that wakes us, and who is woken.
    channel: String,
    woken: Arc<Notify>,
    /// The lock is held while connecting, so that callers share one attempt.
    open: Mutex<Option<Open>>,
}

/// A connection, and the server behind it.
#[derive(Clone)]
pub(super) struct Open {
    connection: MultiplexedConnection,
    /// Changes with every start of a server.
    pub(super) run: Arc<str>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("conf", &self.conf).finish_non_exhaustive()
    }
}

impl Link {
    pub(super) fn new(conf: &RedisConf, channel: String, woken: Arc<Notify>) -> Result<Self, GroupError> {
        let mut redis = RedisConnectionInfo::default()
            .set_db(i64::from(conf.database))
            .set_protocol(ProtocolVersion::RESP3)
            // The crate waits for its answer without a time-out.
            .set_skip_set_lib_name();
        if let Some(user) = &conf.user {
            redis = redis.set_username(user);
        }
        if let Some(password) = &conf.password {
            redis = redis.set_password(&password.0);
        }
        let address = ConnectionAddr::Tcp(conf.host.clone(), conf.port);
        let info = address.into_connection_info().map(|info: ConnectionInfo| info.set_redis_settings(redis));
        let client = info.and_then(Client::open).map_err(|e| away(conf, e.to_string()))?;
        Ok(Self { conf: conf.clone(), client, channel, woken, open: Mutex::new(None) })
    }

    pub(super) fn conf(&self) -> &RedisConf {
        &self.conf
    }

    /// The connection there is, else a new one.
    pub(super) async fn open(&self) -> Result<Open, GroupError> {
        let mut open = self.open.lock().await;
        if let Some(open) = &*open {
            return Ok(open.clone());
        }
        // Each step has a time-out of the crate's; this one is for what it may have forgotten.
        let connected = tokio::time::timeout(self.conf.timeout * 3, self.connect()).await;
        let connected = connected.unwrap_or_else(|_| Err(self.silent()))?;
        *open = Some(connected.clone());
        Ok(connected)
    }

    /// Calls a script, and takes the connection down when that failed for a reason that a new one may mend.
    pub(super) async fn call(&self, open: &Open, call: &ScriptInvocation<'_>) -> Result<Reply, GroupError> {
        let answer: RedisResult<Value> = call.invoke_async(&mut open.connection.clone()).await;
        match answer {
            Ok(value) => Reply::new(value),
            Err(error) => Err(self.failed(open, error).await),
        }
    }

    /// A plain command.
    pub(super) async fn command<T: redis::FromRedisValue>(
        &self,
        open: &Open,
        command: &redis::Cmd,
    ) -> Result<T, GroupError> {
        match command.query_async(&mut open.connection.clone()).await {
            Ok(value) => Ok(value),
            Err(error) => Err(self.failed(open, error).await),
        }
    }

    async fn failed(&self, open: &Open, error: RedisError) -> GroupError {
        let stays = matches!(error.kind(), redis::ErrorKind::Server(_)) && !is_of_a_replica(&error);
        if !stays {
            let mut current = self.open.lock().await;
            // Another caller may have connected anew meanwhile.
            if current.as_ref().is_some_and(|c| Arc::ptr_eq(&c.run, &open.run)) {
                *current = None;
            }
        }
        self.explain(&error)
    }

    async fn connect(&self) -> Result<Open, GroupError> {
        let woken = Arc::clone(&self.woken);
        let wake = move |push: PushInfo| -> Result<(), ()> {
            if push.kind == PushKind::Message {
                woken.notify_one();
            }
            Ok(())
        };
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(self.conf.timeout))
            .set_response_timeout(Some(self.conf.timeout))
            .set_push_sender(wake);
        let connected = self.client.get_multiplexed_async_connection_with_config(&config).await;
        let mut connection = connected.map_err(|error| self.not_connected(&error))?;
        let info: RedisResult<String> = redis::cmd("INFO").query_async(&mut connection).await;
        let info = info.map_err(|error| self.explain(&error))?;
        self.check(&info)?;
        let subscribed: RedisResult<()> = connection.subscribe(&self.channel).await;
        subscribed.map_err(|error| self.explain(&error))?;
        let run = field(&info, "run_id").unwrap_or_default().into();
        Ok(Open { connection, run })
    }

    /// Whether the server can hold a group.
    fn check(&self, info: &str) -> Result<(), GroupError> {
        let version = field(info, "redis_version").unwrap_or_default();
        let mut numbers = version.split('.').map_while(|n| n.parse::<u32>().ok());
        let number = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
        if number < OLDEST {
            let text = format!("is version {version}; 6.2 or newer is needed");
            return Err(self.refused(text));
        }
        if field(info, "redis_mode") == Some("cluster") {
            return Err(self
                .refused("is part of a cluster, which is not supported yet; use a standalone Redis".into()));
        }
        let policy = field(info, "maxmemory_policy").unwrap_or("noeviction");
        let limited = field(info, "maxmemory").is_some_and(|bytes| bytes != "0");
        if limited && policy != "noeviction" {
            let text =
                format!("has maxmemory-policy {policy}: work units could vanish. Set it to noeviction");
            return Err(self.refused(text));
        }
        if field(info, "role") != Some("master") {
            return Err(away(
                &self.conf,
                "is a replica; it is asked again, until it or another is the master".into(),
            ));
        }
        Ok(())
    }

    fn not_connected(&self, error: &RedisError) -> GroupError {
        if error.is_connection_refusal() {
            let text =
                "refused the connection. Start Redis, or use RedisConf.embedded(\"group\") for one process";
            return away(&self.conf, text.into());
        }
        match error.kind() {
            redis::ErrorKind::Io if error.is_timeout() => self.silent(),
            // It took the connection, and ended it or said something else when it heard what Redis would understand.
            redis::ErrorKind::Parse => self.refused("is not Redis (is it Kafka?)".into()),
            redis::ErrorKind::Io if error.is_connection_dropped() => away(
                &self.conf,
                "closed the connection at the first word: it is not Redis (is it Kafka?)".into(),
            ),
            _ => self.explain(error),
        }
    }

    fn silent(&self) -> GroupError {
        let text = format!(
            "did not answer for {} ms: is it Redis (or Kafka), and is the way to it open?",
            self.conf.timeout.as_millis()
        );
        away(&self.conf, text)
    }

    fn explain(&self, error: &RedisError) -> GroupError {
        let user = self.conf.user.as_deref().unwrap_or("default");
        match error.code() {
            Some("NOAUTH") => self.refused("needs a password (NOAUTH): RedisConf.setPassword".into()),
            Some("WRONGPASS") => self.refused(format!("does not take this password for user \"{user}\" (WRONGPASS)")),
            Some("NOPERM") => self.refused(format!(
                "does not let user \"{user}\" do what the group needs ({}). Grant: +evalsha +eval +script|load +info +ping \
                 +hello +subscribe +publish +time +@hash +@sortedset +@stream +del +unlink +expire ~{{{}}}-kafka-* &{{{}}}-kafka-*",
                error.detail().unwrap_or("NOPERM"),
                self.conf.group,
                self.conf.group,
            )),
            Some("OOM") => self.refused_for_now("is out of memory and takes no writes (OOM): raise maxmemory"),
            Some("MISCONF") => self.refused_for_now("takes no writes because it cannot save (MISCONF): look at its log"),
            // Older servers tell the script's error and name what it met in the text only.
            code if code == Some("WRONGTYPE") || error.detail().is_some_and(|text| text.contains("WRONGTYPE")) => {
                GroupError::Strange(format!(
                    "Redis {} holds something else under a key of {{{}}}-kafka-* (WRONGTYPE)",
                    self.conf.address(),
                    self.conf.group
                ))
            }
            _ if is_of_a_replica(error) => self.refused_for_now("is a replica or has lost its master"),
            _ if error.is_timeout() => self.silent(),
            _ => away(&self.conf, format!("failed: {error}")),
        }
    }

    fn refused(&self, what: String) -> GroupError {
        GroupError::Refused { address: self.conf.address(), what }
    }

    fn refused_for_now(&self, what: &str) -> GroupError {
        away(&self.conf, what.to_owned())
    }
}

fn away(conf: &RedisConf, what: String) -> GroupError {
    GroupError::Away { address: conf.address(), what }
}

/// Whether the server is not, or no longer, the one to write to.
fn is_of_a_replica(error: &RedisError) -> bool {
    matches!(error.code(), Some("READONLY" | "MASTERDOWN" | "LOADING" | "UNBLOCKED"))
}

/// A field of INFO's answer.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}
