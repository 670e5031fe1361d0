//! A group that lives in Redis, shared by any number of processes.
//!
//! The state machine is that of [`super::GroupState`], as scripts: each step is one script, so it happens wholly or not, and
//! in one round trip. `scripts` has them and the names of their keys; `call` what they are given and answer; `link` the
//! connection. The simulation runs them beside the pure state machine and compares every state ([`super::sim`]).
//!
//! Redis may lose what it was told: its latest writes at a failover, everything when it is flushed. A call that meets no
//! group makes it anew and goes on; [`RedisGroup::lives`] counts that, and the consumer then fixes its partitions' starts
//! again, by the commits in Kafka. A call that meets another server than the group was last on fails with
//! [`GroupError::Reconcile`] until the consumer has held that server's state against those commits.

mod call;
mod late;
mod link;
mod ops;
mod quarantine;
mod scripts;
mod whole;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use redis::{Script, ScriptInvocation};
use tokio::sync::Notify;

use super::types::{ConsumerId, GroupError, GroupSettings};
use crate::config::{Config, RedisConf};
use crate::log_rate;
use call::{Call, Reply};
use link::{Link, Open};
use scripts::Keys;
#[cfg(test)]
pub(super) use whole::Depth;

/// How often the organiser looks after what is not urgent.
const TICK: Duration = Duration::from_secs(1);
/// Tries to clear up what is left of a lost group; each but the last learns of further topics.
const JOINS: usize = 4;
/// Partitions told of in one call: Redis serves nobody else meanwhile.
const AT_ONCE: usize = 500;

/// A member's door to a group in Redis.
#[derive(Debug)]
pub struct RedisGroup {
    link: Link,
    keys: Keys,
    settings: GroupSettings,
    /// The id of the Kafka cluster that this member reads; empty when its brokers name none.
    cluster: String,
    /// Which life of the group this member knows; none before it joined.
    incarnation: Mutex<Arc<str>>,
    /// How often the group was found gone and made anew.
    lives: AtomicU64,
    /// Held while the group is made anew: of several calls that find it gone, one does it.
    entering: tokio::sync::Mutex<()>,
    /// Kicked when this member is woken for work.
    woken: Arc<Notify>,
    /// Until when nobody but time brings work, as the last answer says.
    next_event: Mutex<Option<Instant>>,
    /// Topics that this member may hold units of.
    topics: Mutex<BTreeSet<Arc<str>>>,
    ticked: Mutex<Instant>,
    /// How often its keys were compared with each other, as the organiser.
    compared: AtomicU32,
    /// The last event that was read.
    last_event: Mutex<String>,
    /// The clock of simulations.
    #[cfg(test)]
    clock: AtomicU64,
    /// One text of the scripts that stands for another.
    #[cfg(test)]
    mistake: Option<(&'static str, &'static str)>,
}

impl RedisGroup {
    /// Joins the group, or makes it. `consumer` is this member's own; `cluster` is the id of the Kafka cluster that it reads, empty
    /// when its brokers name none: that matches any.
    ///
    /// # Errors
    /// Redis is not reached or cannot hold a group; the group is of another Kafka cluster; its settings are others than `settings`,
    /// and somebody relies on them.
    pub async fn join(
        conf: &RedisConf,
        settings: GroupSettings,
        consumer: ConsumerId,
        cluster: &str,
    ) -> Result<Arc<Self>, GroupError> {
        let group = Self::new(conf, settings, &consumer, cluster)?;
        group.begin().await?;
        Ok(Arc::new(group))
    }

    /// For simulations: with a clock of its own, and with a mistake in the scripts, one text for another.
    #[cfg(test)]
    pub(super) async fn join_at(
        conf: &RedisConf,
        settings: GroupSettings,
        consumer: ConsumerId,
        cluster: &str,
        now: u64,
        mistake: Option<(&'static str, &'static str)>,
    ) -> Result<Arc<Self>, GroupError> {
        let group = Self { mistake, ..Self::new(conf, settings, &consumer, cluster)? };
        group.set_clock(now);
        group.begin().await?;
        Ok(Arc::new(group))
    }

    /// For simulations: a member of this Kafka cluster comes.
    #[cfg(test)]
    pub(super) async fn enter_as(&self, cluster: &str) -> Result<(), GroupError> {
        self.try_enter(&self.link.open().await?, cluster, "", &[]).await.map(drop)
    }

    async fn begin(&self) -> Result<(), GroupError> {
        let open = self.link.open().await?;
        self.enter(&open, "", &[]).await?;
        self.skip_events(&open).await
    }

    fn new(
        conf: &RedisConf,
        settings: GroupSettings,
        consumer: &ConsumerId,
        cluster: &str,
    ) -> Result<Self, GroupError> {
        let (keys, woken) = (Keys::new(&conf.group), Arc::new(Notify::new()));
        let link = Link::new(conf, keys.wake(consumer), Arc::clone(&woken))?;
        Ok(Self {
            link,
            keys,
            settings,
            cluster: cluster.to_owned(),
            incarnation: Mutex::new("".into()),
            lives: AtomicU64::new(0),
            entering: tokio::sync::Mutex::default(),
            woken,
            next_event: Mutex::new(None),
            topics: Mutex::new(BTreeSet::new()),
            ticked: Mutex::new(Instant::now()),
            compared: AtomicU32::new(0),
            last_event: Mutex::new(String::new()),
            #[cfg(test)]
            clock: AtomicU64::new(0),
            #[cfg(test)]
            mistake: None,
        })
    }

    /// Forgets a group, also one of another Kafka cluster or another version of this library, and one that is not there. For an hour
    /// its members, also those that come back late, are told that it was deleted.
    ///
    /// # Errors
    /// Redis is not reached, or does not let the user do that.
    pub async fn forget(conf: &RedisConf) -> Result<(), GroupError> {
        Self::new(conf, GroupSettings::of(&Config::default()), &"".into(), "")?.delete().await
    }

    /// How often the group was found gone since this member joined: its starts are to be fixed anew each time.
    pub fn lives(&self) -> u64 {
        self.lives.load(Ordering::Relaxed)
    }

    /// The incarnation that this member is in.
    fn known(&self) -> Arc<str> {
        Arc::clone(&*self.incarnation.lock())
    }

    /// Where the group lives.
    pub fn conf(&self) -> &RedisConf {
        self.link.conf()
    }

    /// Joins what is there, or makes it; `came` and `topics` as `join.lua` has them. One that it may not join leaves this member
    /// where it was.
    async fn enter(&self, open: &Open, came: &str, topics: &[Arc<str>]) -> Result<(), GroupError> {
        let (incarnation, agreed) = self.try_enter(open, &self.cluster, came, topics).await?;
        if agreed != self.settings && !self.change(open, &incarnation).await? {
            return agreed.agree(&self.settings);
        }
        *self.incarnation.lock() = incarnation;
        Ok(())
    }

    /// Gives the group this member's settings, if nobody is in it and nothing is leased: what the last ones agreed on binds
    /// nobody.
    async fn change(&self, open: &Open, incarnation: &str) -> Result<bool, GroupError> {
        let topics = self.all_topics(open).await?;
        let mut call = self.prepare_as(&scripts::CHANGE, incarnation, topics.iter().map(|topic| &**topic));
        numbers(&self.settings).into_iter().for_each(|n| _ = call.arg(n));
        match self.raw(open, call).await? {
            Answer::Ok(mut reply) => Ok(reply.int()? == 1),
            Answer::Gone => Ok(false),
        }
    }

    /// The incarnation that is there now, and its settings.
    async fn try_enter(
        &self,
        open: &Open,
        cluster: &str,
        came: &str,
        topics: &[Arc<str>],
    ) -> Result<(Arc<str>, GroupSettings), GroupError> {
        let mut topics = topics.to_vec();
        for _ in 0..JOINS {
            let mut reply = self.link.call(open, &self.join_call(open, cluster, came, &topics)).await?;
            let word = reply.text()?;
            if word == "REMAINS" {
                let mut named = reply.list()?;
                while named.len() > 0 {
                    topics.push(named.text()?.into());
                }
                continue;
            }
            self.judge(&word, &mut reply)?;
            let incarnation: Arc<str> = reply.text()?.into();
            let _is_new = reply.int()?;
            return Ok((incarnation, settings(&mut reply.list()?)?));
        }
        Err(GroupError::Away {
            address: self.link.conf().address(),
            what: "changed what is left of a lost group whenever it was to be cleared up".into(),
        })
    }

    fn join_call(
        &self,
        open: &Open,
        cluster: &str,
        came: &str,
        topics: &[Arc<str>],
    ) -> ScriptInvocation<'static> {
        let fresh = format!("{:016x}", super::nonce());
        let mut call = self.script(&scripts::JOIN).prepare_invoke();
        let of_topics = topics.iter().flat_map(|topic| self.keys.of_topic(topic));
        self.keys.group.iter().cloned().chain(of_topics).for_each(|key| _ = call.key(key));
        call.arg(scripts::VERSION).arg(fresh).arg(&*open.run).arg(cluster);
        numbers(&self.settings).into_iter().for_each(|n| _ = call.arg(n));
        call.arg(self.clock().map_or_else(String::new, |now| now.to_string())).arg(came);
        topics.iter().for_each(|topic| _ = call.arg(&**topic));
        call
    }

    fn clock(&self) -> Option<u64> {
        #[cfg(test)]
        return Some(self.clock.load(Ordering::Relaxed)).filter(|now| *now > 0);
        #[cfg(not(test))]
        None
    }

    /// A call of a script with the prelude.
    fn prepare<'a>(
        &self,
        script: &'static Script,
        topics: impl ExactSizeIterator<Item = &'a str> + Clone,
    ) -> Call {
        self.prepare_as(script, &self.known(), topics)
    }

    /// As [`Self::prepare`], of an incarnation that this member has not joined yet.
    fn prepare_as<'a>(
        &self,
        script: &'static Script,
        incarnation: &str,
        topics: impl ExactSizeIterator<Item = &'a str> + Clone,
    ) -> Call {
        Call::new(self.script(script), &self.keys, incarnation, self.clock(), topics)
    }

    /// The script, in simulations with a mistake in it.
    fn script(&self, script: &'static Script) -> &'static Script {
        #[cfg(test)]
        let script = self.mistake.map_or(script, |(find, put)| scripts::with_mistake(script, find, put));
        script
    }

    /// What a script's first word says.
    fn status(&self, reply: &mut Reply) -> Result<bool, GroupError> {
        let word = reply.text()?;
        self.judge(&word, reply)
    }

    fn judge(&self, word: &str, reply: &mut Reply) -> Result<bool, GroupError> {
        match word {
            "OK" => Ok(true),
            "NOGROUP" | "OTHER" => Ok(false),
            "DELETED" => Err(GroupError::Deleted),
            "RECONCILE" => Err(GroupError::Reconcile),
            "CLUSTER" => Err(GroupError::OtherCluster {
                group: self.link.conf().group.clone(),
                address: self.link.conf().address(),
                theirs: reply.text()?,
                ours: self.cluster.clone(),
            }),
            "VERSION" => Err(GroupError::Version {
                group: self.link.conf().group.clone(),
                theirs: reply.text()?,
                ours: scripts::VERSION,
            }),
            "DAMAGED" => {
                Err(GroupError::Strange(format!("the open units of {} are not all there", reply.text()?)))
            }
            other => Err(GroupError::Strange(format!("a script answered {other}"))),
        }
    }

    async fn raw(&self, open: &Open, call: Call) -> Result<Answer, GroupError> {
        let mut reply = self.link.call(open, &call.invocation()).await?;
        Ok(if self.status(&mut reply)? { Answer::Ok(reply) } else { Answer::Gone })
    }

    /// Calls what `prepare` makes; a group that is gone or damaged is made anew first.
    async fn run(&self, prepare: impl Fn(&Open) -> Call) -> Result<Reply, GroupError> {
        let known = self.known();
        match self.call(&prepare).await {
            Err(error @ GroupError::Strange(_)) => {
                self.examine(error, &known).await?;
                self.call(&prepare).await
            }
            reply => reply,
        }
    }

    async fn call(&self, prepare: &impl Fn(&Open) -> Call) -> Result<Reply, GroupError> {
        let open = self.link.open().await?;
        let known = self.known();
        if let Answer::Ok(reply) = self.raw(&open, prepare(&open)).await? {
            return Ok(reply);
        }
        self.enter_again(&open, &known, &Lost::Gone).await?;
        match self.raw(&open, prepare(&open)).await? {
            Answer::Ok(reply) => Ok(reply),
            // Flushed twice in a moment: whoever called tries again.
            Answer::Gone => Err(GroupError::Away {
                address: self.link.conf().address(),
                what: "lost the group again while it was made anew".into(),
            }),
        }
    }

    /// The group is not the one of this incarnation any more, or that is not to be used any more. Of several that find out at once
    /// one makes it anew: the incarnation says whether somebody has. Returns whether there is another one now.
    async fn enter_again(&self, open: &Open, known: &Arc<str>, lost: &Lost) -> Result<bool, GroupError> {
        let _entering = self.entering.lock().await;
        if *self.incarnation.lock() != *known {
            return Ok(true);
        }
        match lost {
            Lost::Damaged { topics, .. } => self.enter(open, known, topics).await?,
            Lost::Gone | Lost::Unreadable { .. } => self.enter(open, "again", &[]).await?,
        }
        if *self.incarnation.lock() == *known {
            return Ok(false);
        }
        self.lives.fetch_add(1, Ordering::Relaxed);
        let conf = self.link.conf();
        if let Some(more) = log_rate::due(format_args!("{lost} {} {}", conf.group, conf.address())) {
            tracing::warn!(
                "group \"{}\" in Redis {} {lost}. {}{more}",
                conf.group,
                conf.address(),
                if conf.mirror {
                    "It goes on from the positions committed to Kafka"
                } else {
                    "Its positions are lost (mirror is off): it begins as a new group"
                }
            );
        }
        Ok(true)
    }

    /// All topics that the group knows.
    async fn all_topics(&self, open: &Open) -> Result<Vec<Arc<str>>, GroupError> {
        let names: Vec<String> = self.link.command(open, redis::cmd("HKEYS").arg(self.keys.topics())).await?;
        Ok(names.into_iter().map(Arc::from).collect())
    }
}

/// What became of a group that is made anew.
enum Lost {
    Gone,
    Damaged { what: String, topics: Vec<Arc<str>> },
    Unreadable { what: String },
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Gone => f.write_str("is gone"),
            Self::Damaged { what, .. } | Self::Unreadable { what } => {
                write!(f, "is damaged (does something else write to its keys? {what})")
            }
        }
    }
}

enum Answer {
    Ok(Reply),
    /// The group is not there, or it is not the one that this member joined.
    Gone,
}

/// Settings as numbers, in the order that the scripts have them.
fn numbers(settings: &GroupSettings) -> [u64; 5] {
    let GroupSettings { lease, max_attempts, consume_step, ordering: _, retry_backoff } = settings;
    let units = u64::from(settings.units_per_partition());
    [*lease, u64::from(*max_attempts), u64::from(*consume_step), units, *retry_backoff]
}

fn settings(reply: &mut Reply) -> Result<GroupSettings, GroupError> {
    Ok(GroupSettings {
        lease: reply.whole()?,
        max_attempts: reply.whole()?,
        consume_step: reply.whole()?,
        ordering: if reply.int()? == 1 {
            crate::config::Ordering::Partition
        } else {
            crate::config::Ordering::None
        },
        retry_backoff: reply.whole()?,
    })
}
