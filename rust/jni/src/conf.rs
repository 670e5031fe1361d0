//! `NativeConf`: settings by name. Names, checks and texts are those of [`kafka_fast::config`].
//!
//! Java keeps what was set as pairs; they cross as one text, `name NUL value NUL ...`.

use std::time::Duration;

use jni::sys::jstring;
use kafka_fast::config::{Config, ConfigError, RedisConf, SETTINGS};
use kafka_fast::consumer::GroupConf;
use kafka_fast::error::ErrorKind;

use crate::env::{Failure, Thrown};
use crate::guard::entry;

fn failure(error: &ConfigError) -> Failure {
    Failure::new(error.kind(), error.to_string())
}

/// Calls `take` with each name and value.
fn each<'a>(
    pairs: &'a str,
    mut take: impl FnMut(&'a str, &'a str) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut parts = pairs.split_terminator('\0');
    while let Some(name) = parts.next() {
        let value = parts.next().ok_or_else(|| {
            Failure::new(ErrorKind::Internal, format!("setting {name} came without a value"))
        })?;
        take(name, value)?;
    }
    Ok(())
}

/// The settings of a client, from the pairs Java keeps.
pub(crate) fn parse(pairs: &str) -> Result<Config, Failure> {
    let mut config = Config::default();
    each(pairs, |name, value| config.set(name, value).map(drop).map_err(|e| failure(&e)))?;
    Ok(config)
}

/// A group, from the pairs of `RedisConf.java`: in Redis when they name a host, else in this process.
pub(crate) fn parse_group(pairs: &str) -> Result<GroupConf, Failure> {
    let mut host = None;
    let mut conf = RedisConf::new("", 0, "");
    each(pairs, |name, value| {
        // Java has checked them: who reads this sees a defect of ours. Without the value, which may be a password.
        let bad = || Failure::new(ErrorKind::Internal, format!("a group's {name} is not understood"));
        match name {
            "group" => conf.group = value.to_owned(),
            "host" => host = Some(value),
            "port" => conf.port = value.parse().map_err(|_| bad())?,
            "database" => conf.database = value.parse().map_err(|_| bad())?,
            "user" => conf.user = Some(value.to_owned()),
            "password" => conf.password = Some(value.into()),
            "timeout" => conf.timeout = Duration::from_millis(value.parse().map_err(|_| bad())?),
            "mirror" => conf.mirror = value.parse().map_err(|_| bad())?,
            _ => return Err(bad()),
        }
        Ok(())
    })?;
    let Some(host) = host else { return Ok(GroupConf::embedded(conf.group)) };
    host.clone_into(&mut conf.host);
    Ok(GroupConf::redis(conf))
}

/// As [`parse`], for a client: with the checks that need all settings, and a log line for each that means nothing here.
pub(crate) fn parse_checked(pairs: &str) -> Result<Config, Failure> {
    let config = parse(pairs)?;
    config.check().map_err(|e| failure(&e))?;
    for name in &config.ignored {
        tracing::warn!(target: "kafkafast.net", "The setting {name} means nothing to kafka-fast and is ignored");
    }
    Ok(config)
}

entry! {
    /// `static native void check(String pairs)`: throws ConfigException for a name or a value that cannot be taken.
    fn Java_kafkafast_NativeConf_check(env, pairs: jstring) -> (), else (); {
        parse(&env.string(pairs)?)?;
        Ok(())
    }
}

entry! {
    /// `static native String get(String pairs, String name)`: the value in force as text; null for an unknown name.
    fn Java_kafkafast_NativeConf_get(env, pairs: jstring, name: jstring) -> jstring, else std::ptr::null_mut(); {
        let config = parse(&env.string(pairs)?)?;
        let value = config.get(&env.string(name)?);
        Ok(value.map_or(std::ptr::null_mut(), |value| env.new_string(&value)))
    }
}

entry! {
    /// `static native String all(String pairs)`: every setting and the value in force, in the form of pairs.
    fn Java_kafkafast_NativeConf_all(env, pairs: jstring) -> jstring, else std::ptr::null_mut(); {
        let config = parse(&env.string(pairs)?)?;
        let mut out = String::new();
        for setting in SETTINGS {
            let value = config.get(setting.name).ok_or_else(|| {
                Thrown::from(Failure::new(ErrorKind::Internal, format!("setting {} is not in its table", setting.name)))
            })?;
            out.extend([setting.name, "\0", &value, "\0"]);
        }
        Ok(env.new_string(&out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups() {
        assert_eq!(parse_group("group\0g\0").unwrap(), GroupConf::embedded("g"));
        let GroupConf::Redis(plain) = parse_group("group\0g\0host\0h\0port\x006379\0").unwrap() else {
            panic!()
        };
        assert_eq!(plain, RedisConf::new("h", 6379, "g"));
        let text = "group\0g\0host\0h\0port\x001\0database\x003\0user\0u\0password\0p w\0timeout\x002500\0mirror\0false\0";
        let GroupConf::Redis(all) = parse_group(text).unwrap() else { panic!() };
        assert_eq!((all.database, all.user.as_deref(), all.password), (3, Some("u"), Some("p w".into())));
        assert_eq!((all.timeout, all.mirror), (Duration::from_millis(2500), false));
        assert_eq!(parse_group("group\0g\0host\0h\0port\x00x\0").unwrap_err().kind, ErrorKind::Internal);
        assert_eq!(parse_group("grup\0g\0").unwrap_err().kind, ErrorKind::Internal);
    }

    #[test]
    fn pairs() {
        let config = parse("acks\0all\0client-id\0\0").unwrap();
        assert_eq!(config.get("acks").unwrap(), "all");
        assert_eq!(config.client_id, "");
        assert!(parse("").is_ok());
        assert_eq!(parse("acks\x002\0").unwrap_err().kind, ErrorKind::Config);
        assert_eq!(
            parse_checked("lease-ms\x0010\0heartbeat-ms\x0010\0").unwrap_err().kind,
            ErrorKind::Config
        );
    }
}
