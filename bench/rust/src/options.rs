//! What a run is asked to do: `--name value`, the same names for every candidate of the bench (see bench/README.md).

use std::collections::HashMap;
use std::str::FromStr;

const NAMES: [&str; 14] = [
    "client", "op", "port", "topic", "bytes", "payload", "count", "windows", "codec", "acks", "batch",
    "rate", "threads", "way",
];

pub(crate) struct Options {
    pub(crate) client: String,
    pub(crate) op: String,
    pub(crate) port: u16,
    pub(crate) topic: String,
    pub(crate) bytes: usize,
    pub(crate) json: bool,
    pub(crate) count: u64,
    pub(crate) windows: u32,
    pub(crate) codec: String,
    pub(crate) acks_all: bool,
    pub(crate) tuned: bool,
    pub(crate) rate: u64,
    pub(crate) threads: u64,
}

impl Options {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut given = Given(HashMap::new());
        while let Some(arg) = args.next() {
            let name = arg.strip_prefix("--").filter(|name| NAMES.contains(name));
            let (Some(name), Some(value)) = (name, args.next()) else {
                return Err(format!("not understood: {arg}"));
            };
            given.0.insert(name.to_owned(), value);
        }
        Ok(Self {
            client: given.one_of("client", None, &["kafka-fast-rust", "librdkafka", "floor"])?,
            op: given.one_of("op", None, &["produce", "consume", "enqueue", "paced", "latency"])?,
            port: given.number("port", None)?,
            topic: given.text("topic", None)?,
            bytes: given.number("bytes", None)?,
            json: given.one_of("payload", Some("plain"), &["plain", "json"])? == "json",
            count: given.number("count", None)?,
            windows: given.number("windows", None)?,
            codec: given.one_of("codec", Some("none"), &["none", "snappy", "gzip", "lz4", "zstd"])?,
            acks_all: given.one_of("acks", Some("1"), &["1", "all"])? == "all",
            tuned: given.one_of("batch", Some("default"), &["default", "tuned"])? == "tuned",
            rate: given.number("rate", Some("0"))?,
            threads: given.number("threads", Some("1"))?,
        })
    }
}

struct Given(HashMap<String, String>);

impl Given {
    fn text(&self, name: &str, fallback: Option<&str>) -> Result<String, String> {
        let value = self.0.get(name).map(String::as_str).or(fallback);
        value.map(str::to_owned).ok_or_else(|| format!("--{name} is missing"))
    }

    fn number<T: FromStr>(&self, name: &str, fallback: Option<&str>) -> Result<T, String> {
        let value = self.text(name, fallback)?;
        value.parse().map_err(|_| format!("--{name}: {value} is no number that fits"))
    }

    fn one_of(&self, name: &str, fallback: Option<&str>, allowed: &[&str]) -> Result<String, String> {
        let value = self.text(name, fallback)?;
        if allowed.contains(&&*value) {
            return Ok(value);
        }
        Err(format!("--{name} is one of {}, got {value}", allowed.join(", ")))
    }
}
