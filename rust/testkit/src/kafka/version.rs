//! Which Kafka: the versions that tests run against, and where the jars of each are.

use std::path::{Path, PathBuf};

/// A version of Apache Kafka that `./dev` fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// 2.4.1, with ZooKeeper 3.5.7: no ids of topics; its Produce 8, Fetch 11 and ListOffsets 5 are the last before the flexible
    /// versions (KIP-482).
    V2_4,
    /// 3.9.1, KRaft: the last that still takes the oldest versions of requests (KIP-896), with the group coordinator of old.
    V3_9,
    /// 4.4.0, KRaft: the newest.
    V4_4,
}

impl Version {
    /// All of them, the oldest first.
    pub const ALL: [Self; 3] = [Self::V2_4, Self::V3_9, Self::V4_4];

    /// What brokers of a test are of when it does not say: `KAFKA_FAST_KAFKA_VERSION` (2.4.1, or 2.4), else the newest.
    ///
    /// # Panics
    /// When that names none of these.
    pub fn under_test() -> Self {
        let Ok(asked) = std::env::var("KAFKA_FAST_KAFKA_VERSION") else { return Self::V4_4 };
        let named =
            |v: &Self| v.number() == asked || v.number().rsplit_once('.').is_some_and(|n| n.0 == asked);
        let all = Self::ALL.map(Self::number);
        Self::ALL
            .into_iter()
            .find(named)
            .unwrap_or_else(|| panic!("KAFKA_FAST_KAFKA_VERSION={asked}: not one of {all:?}"))
    }

    /// Its number: `2.4.1`.
    pub const fn number(self) -> &'static str {
        match self {
            Self::V2_4 => "2.4.1",
            Self::V3_9 => "3.9.1",
            Self::V4_4 => "4.4.0",
        }
    }

    /// Whether topics have ids, which metadata tells (KIP-516; with the old protocol of upgrades a broker has none).
    pub fn has_topic_ids(self) -> bool {
        self > Self::V2_4
    }

    /// Whether a test can start it. Where `KAFKA_FAST_REQUIRE_BROKER` is set it must: then this is always true, and the start
    /// fails where the jars are missing.
    pub fn is_here(self) -> bool {
        std::env::var_os("KAFKA_FAST_REQUIRE_BROKER").is_some() || self.home().exists()
    }

    /// Its jars, as a class path.
    ///
    /// # Panics
    /// When they are not there.
    pub(super) fn class_path(self) -> String {
        let home = self.home();
        assert!(
            home.exists(),
            "Kafka {} is not in {}: run ./dev test once, it fetches it",
            self.number(),
            home.display()
        );
        format!("{}/*", home.display())
    }

    /// Where `./dev` keeps its jars.
    fn home(self) -> PathBuf {
        let variable = match self {
            Self::V2_4 => "KAFKA_FAST_KAFKA_HOME_2_4",
            Self::V3_9 => "KAFKA_FAST_KAFKA_HOME_3_9",
            Self::V4_4 => "KAFKA_FAST_KAFKA_HOME",
        };
        if let Some(home) = std::env::var_os(variable) {
            return home.into();
        }
        let cache = std::env::var("XDG_CACHE_HOME").ok().filter(|c| !c.is_empty()).map(PathBuf::from);
        let cache = cache.or_else(|| std::env::var("HOME").ok().map(|home| Path::new(&home).join(".cache")));
        cache.expect("HOME is set").join(format!("kafka-fast/kafka-{}", self.number()))
    }
}
