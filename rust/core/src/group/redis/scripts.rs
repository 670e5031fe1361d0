//! The scripts, and the names of the keys they are given.

use std::sync::LazyLock;

use redis::Script;

/// The prelude, and what follows it.
macro_rules! text {
    ($($file:literal),+) => {
        concat!(include_str!("scripts/lib.lua"), $(include_str!(concat!("scripts/", $file))),+)
    };
}

macro_rules! scripts {
    ($($name:ident $($file:literal)+;)*) => {
        $(pub(super) static $name: LazyLock<Script> = LazyLock::new(|| Script::new(text!($($file),+)));)*

        /// A script with one text put for another, wherever that stands.
        #[cfg(test)]
        pub(super) fn with_mistake(script: &Script, find: &'static str, put: &'static str) -> &'static Script {
            static MADE: LazyLock<Made> = LazyLock::new(Made::default);
            let texts = [$((&$name, text!($($file),+))),*];
            let join = (&JOIN, JOIN_TEXT);
            let mut texts = texts.iter().chain([&join]);
            let (_, text) = texts.find(|(s, _)| s.get_hash() == script.get_hash()).expect("one of ours");
            let key = (script.get_hash().to_owned(), find);
            MADE.lock().entry(key).or_insert_with(|| Box::leak(Box::new(Script::new(&text.replace(find, put)))))
        }
    };
}

scripts! {
    EXCHANGE "exchange.lua";
    PUBLISH "publish.lua";
    INIT "init.lua";
    SUBSCRIBE "subscribe.lua";
    PEND "pend.lua";
    SUSPEND "suspend.lua";
    SEEK "seek.lua";
    ADVANCE "advance.lua";
    PAUSE "pause.lua";
    UNPARK "unpark.lua";
    QUARANTINED "quarantined.lua";
    TICK "tick.lua";
    LEAVE "leave.lua";
    LOOK "look.lua";
    WHO "who.lua";
    CHANGE "change.lua";
    CHECK "names.lua" "check.lua";
}

const JOIN_TEXT: &str = concat!(include_str!("scripts/names.lua"), include_str!("scripts/join.lua"));

/// Needs no prelude: there may be no group yet.
pub(super) static JOIN: LazyLock<Script> = LazyLock::new(|| Script::new(JOIN_TEXT));

/// Takes no prelude: it forgets any group, also one that is not understood.
pub(super) static DELETE: LazyLock<Script> = LazyLock::new(|| {
    Script::new(concat!(include_str!("scripts/names.lua"), include_str!("scripts/delete.lua")))
});

#[cfg(test)]
type Made = parking_lot::Mutex<std::collections::HashMap<(String, &'static str), &'static Script>>;

/// The layout of keys and rows. Another one is not read.
pub(super) const VERSION: &str = "2";

/// Keys of the whole group, in the order the prelude has them.
const GROUP_KEYS: [&str; 8] =
    ["meta", "units", "open", "consumers", "topics", "events", "error-queue", "probe-queue"];
/// Keys of a topic, likewise.
const TOPIC_KEYS: [&str; 5] = ["parts", "work-queue", "working-queue", "delay-queue", "idle"];

/// The keys of a group. One hash tag: they live in one slot of a cluster, so that a failover leaves a consistent prefix of
/// history.
#[derive(Debug)]
pub(super) struct Keys {
    prefix: String,
    pub(super) group: Vec<String>,
}

impl Keys {
    pub(super) fn new(group: &str) -> Self {
        let prefix = format!("{{{group}}}-kafka-");
        let group = GROUP_KEYS.iter().map(|name| format!("{prefix}{name}")).collect();
        Self { prefix, group }
    }

    pub(super) fn topics(&self) -> &str {
        &self.group[4]
    }

    pub(super) fn events(&self) -> &str {
        &self.group[5]
    }

    pub(super) fn of_topic(&self, topic: &str) -> Vec<String> {
        TOPIC_KEYS.iter().map(|name| format!("{}{name}/{topic}", self.prefix)).collect()
    }

    /// Where a member is woken.
    pub(super) fn wake(&self, consumer: &str) -> String {
        format!("{}wake/{consumer}", self.prefix)
    }
}
