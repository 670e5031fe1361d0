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
        if !keeps_connection(&error) {
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
        match code(error) {
            "NOAUTH" => self.refused("needs a password (NOAUTH): RedisConf.setPassword".into()),
            "WRONGPASS" => self.refused(format!("does not take this password for user \"{user}\" (WRONGPASS)")),
            "NOPERM" => self.refused(format!(
                "does not let user \"{user}\" do what the group needs ({}). Grant: +evalsha +eval +script|load +info +ping \
                 +hello +subscribe +publish +time +@hash +@sortedset +@stream +del +unlink +expire ~{{{}}}-kafka-* &{{{}}}-kafka-*",
                error.detail().unwrap_or("NOPERM"),
                self.conf.group,
                self.conf.group,
            )),
            "OOM" => self.refused_for_now("is out of memory and takes no writes (OOM): raise maxmemory"),
            "MISCONF" => self.refused_for_now("takes no writes because it cannot save (MISCONF): look at its log"),
            "WRONGTYPE" => GroupError::Strange(format!(
                "Redis {} holds something else under a key of {{{}}}-kafka-* (WRONGTYPE)",
                self.conf.address(),
                self.conf.group
            )),
            SCRIPT => GroupError::Strange(format!(
                "Redis {} ended a script of the group with an error ({})",
                self.conf.address(),
                error.detail().unwrap_or("ERR")
            )),
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

/// What stands for a code where a script came upon something that it does not expect.
const SCRIPT: &str = "script";

/// What a server's error says, in its own words; [`SCRIPT`] for a script that failed by itself, nothing for another error.
fn code(error: &RedisError) -> &str {
    let (code, text) = (error.code().unwrap_or(""), error.detail().unwrap_or(""));
    if code != "ERR" || !text.contains("user_script") {
        return code;
    }
    // Servers before 7.0 tell the script's error, and name what it met in the text only.
    const NAMED: [&str; 8] =
        ["WRONGTYPE", "OOM", "MISCONF", "NOPERM", "READONLY", "MASTERDOWN", "LOADING", "UNBLOCKED"];
    let named = NAMED.into_iter().find(|named| text.contains(named));
    // Somebody's SCRIPT KILL, which ends only what has not written yet.
    named.unwrap_or(if text.contains("Script killed") { code } else { SCRIPT })
}

/// Whether the server is not, or no longer, the one to write to.
fn is_of_a_replica(error: &RedisError) -> bool {
    matches!(code(error), "READONLY" | "MASTERDOWN" | "LOADING" | "UNBLOCKED")
}

/// Whether the connection may be used on after this error: the server understood and refused, and a new connection would be told
/// the same. Not so where the address may lead to another server by now, or where a connection says who its user is.
fn keeps_connection(error: &RedisError) -> bool {
    let answered = error.code().is_some();
    answered && !is_of_a_replica(error) && !matches!(code(error), "NOAUTH" | "WRONGPASS")
}

/// A field of INFO's answer.
fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An error as the server of this version writes it.
    fn answered(line: &str) -> RedisError {
        let value = redis::parse_redis_value(format!("-{line}\r\n").as_bytes()).unwrap();
        value.extract_error().unwrap_err()
    }

    fn link() -> Link {
        let mut conf = RedisConf::new("redis", 6379, "g");
        conf.user = Some("app".into());
        Link::new(&conf, "wake".into(), Arc::default()).unwrap()
    }

    #[test]
    fn a_connection_is_kept_where_a_new_one_would_be_told_the_same() {
        let in_script = |met: &str| {
            format!("ERR Error running script (call to f_1): @user_script:71: @user_script: 71: {met}")
        };
        for (line, keeps) in [
            ("READONLY You can't write against a read only replica.", false),
            ("LOADING Redis is loading the dataset in memory", false),
            ("MASTERDOWN Link with MASTER is down", false),
            ("UNBLOCKED force unblock from blocking operation", false),
            (&in_script("-READONLY You can't write against a read only replica."), false),
            ("NOAUTH Authentication required.", false),
            ("WRONGPASS invalid username-password pair or user is disabled.", false),
            ("NOPERM this user has no permissions to run the 'evalsha' command", true),
            ("OOM command not allowed when used memory > 'maxmemory'.", true),
            ("MISCONF Redis is configured to save RDB snapshots", true),
            ("BUSY Redis is busy running a script.", true),
            ("WRONGTYPE Operation against a key holding the wrong kind of value", true),
            ("ERR user_script:7: attempt to index a nil value script: 1, on @user_script:7.", true),
        ] {
            assert_eq!(keeps_connection(&answered(line)), keeps, "{line}");
        }
        let dropped = RedisError::from(std::io::Error::from(std::io::ErrorKind::BrokenPipe));
        assert!(!keeps_connection(&dropped));
    }

    #[test]
    fn what_a_script_met_is_told_from_a_script_that_failed() {
        let link = link();
        let explained = |line: &str| link.explain(&answered(line));
        let old = |met: &str| {
            explained(&format!(
                "ERR Error running script (call to f_1): @user_script:71: @user_script: 71: {met}"
            ))
        };
        let is_away = |error: &GroupError| matches!(error, GroupError::Away { .. });
        let is_strange = |error: &GroupError| matches!(error, GroupError::Strange(_));
        assert!(is_away(&old("-OOM command not allowed when used memory > 'maxmemory'.")));
        assert!(is_away(&old("-MISCONF Redis is configured to save RDB snapshots")));
        assert!(is_away(&old("-READONLY You can't write against a read only replica.")));
        assert!(matches!(old("-NOPERM this user has no permissions"), GroupError::Refused { .. }));
        assert!(is_strange(&old("WRONGTYPE Operation against a key holding the wrong kind of value")));
        assert!(is_strange(&old("attempt to index local 'u' (a boolean value)")));
        assert!(is_strange(&explained(
            "ERR user_script:7: attempt to index a nil value script: 1, on @user_script:7."
        )));
        for passes in [
            "ERR Error running script (call to f_1): @user_script:1: Script killed by user with SCRIPT KILL...",
            "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
            "ERR max number of clients reached",
        ] {
            assert!(is_away(&explained(passes)), "{passes}: {:?}", explained(passes));
        }
    }
}
