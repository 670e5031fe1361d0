//! The usual forms of settings, and how their texts are read.

use std::time::Duration;

use super::ConfigError;

/// A setting that is a number of milliseconds.
macro_rules! millis {
    ($name:literal, [$($alias:literal),*], $field:ident, $doc:literal) => {
        super::Setting { name: $name, aliases: &[$($alias),*], doc: $doc,
            set: |c, name, v| { c.$field = super::forms::read_millis(name, v)?; Ok(()) },
            get: |c| c.$field.as_millis().to_string() }
    };
}

/// A setting that is a whole number within bounds.
macro_rules! number {
    ($name:literal, [$($alias:literal),*], $field:ident, $least:expr, $expected:literal, $doc:literal) => {
        super::Setting { name: $name, aliases: &[$($alias),*], doc: $doc,
            set: |c, name, v| {
                let bad = || super::ConfigError::BadValue { name, value: v.to_owned(), expected: $expected };
                let n: i64 = v.parse().map_err(|_| bad())?;
                if n < $least { return Err(bad()); }
                c.$field = n.try_into().map_err(|_| bad())?;
                Ok(())
            },
            get: |c| c.$field.to_string() }
    };
}

/// A setting that is true or false.
macro_rules! flag {
    ($name:literal, [$($alias:literal),*], $field:ident, $doc:literal) => {
        super::Setting { name: $name, aliases: &[$($alias),*], doc: $doc,
            set: |c, name, v| { c.$field = super::forms::read_flag(name, v)?; Ok(()) },
            get: |c| c.$field.to_string() }
    };
}

/// A setting that is any text.
macro_rules! text {
    ($name:literal, [$($alias:literal),*], $($field:ident).+, $doc:literal) => {
        super::Setting { name: $name, aliases: &[$($alias),*], doc: $doc,
            set: |c, _, v| { v.clone_into(&mut c.$($field).+); Ok(()) },
            get: |c| c.$($field).+.clone() }
    };
}

pub(super) use {flag, millis, number, text};

pub(super) fn read_millis(name: &'static str, value: &str) -> Result<Duration, ConfigError> {
    let expected = "a number of milliseconds";
    let n: u64 =
        value.parse().map_err(|_| ConfigError::BadValue { name, value: value.to_owned(), expected })?;
    Ok(Duration::from_millis(n))
}

pub(super) fn read_level(
    name: &'static str,
    value: &str,
    is_known: fn(i32) -> bool,
    expected: &'static str,
) -> Result<i32, ConfigError> {
    let known = value.parse().ok().filter(|n| is_known(*n));
    known.ok_or_else(|| ConfigError::BadValue { name, value: value.to_owned(), expected })
}

pub(super) fn read_flag(name: &'static str, value: &str) -> Result<bool, ConfigError> {
    match value {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(ConfigError::BadValue { name, value: value.to_owned(), expected: "true or false" }),
    }
}
