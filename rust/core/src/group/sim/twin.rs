//! The state machine, and beside it the same group in a real Redis: each step is done by both, and their answers, their
//! events and their whole states are compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use ::redis::aio::MultiplexedConnection;
use kafka_fast_testkit::{RealRedis, RedisOptions};
use tokio::runtime::Runtime;

use super::super::redis::Depth;
use super::*;
use crate::config::RedisConf;

/// A group twice, or once.
pub(super) struct Group {
    state: GroupState,
    /// The Kafka cluster of who makes the group anew.
    cluster: &'static str,
    twin: Option<Arc<Twin>>,
}

/// The state at one time.
pub(super) struct Snapshot {
    state: GroupState,
    keys: Vec<(String, Vec<u8>)>,
}

impl std::fmt::Debug for Group {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:#?}", self.state)
    }
}

impl Group {
    pub(super) fn new(
        settings: GroupSettings,
        cluster: &'static str,
        now: u64,
        redis: Option<&Redis>,
    ) -> Self {
        let twin = redis.map(|redis| Arc::new(redis.group(settings.clone(), cluster, now)));
        let mut state = GroupState::new(settings, now);
        assert_eq!(state.enter(cluster), Ok(()));
        Self { state, cluster, twin }
    }

    /// A member comes that reads this Kafka cluster.
    pub(super) fn enter(&mut self, cluster: &str) -> Result<(), String> {
        let ours = self.state.enter(cluster);
        self.same("enter", ours, |t| match t.runtime.block_on(t.group.enter_as(cluster)) {
            Ok(()) => Ok(()),
            Err(GroupError::OtherCluster { theirs, .. }) => Err(theirs),
            Err(error) => panic!("{error}"),
        })
    }

    pub(super) fn settings(&self) -> &GroupSettings {
        self.state.settings()
    }

    fn same<R: PartialEq + std::fmt::Debug>(
        &self,
        what: &str,
        ours: R,
        theirs: impl FnOnce(&Twin) -> R,
    ) -> R {
        if let Some(twin) = &self.twin {
            let theirs = theirs(twin);
            assert_eq!(ours, theirs, "{what}: state machine and scripts answer differently");
        }
        ours
    }

    pub(super) fn exchange(&mut self, now: u64, request: &ExchangeRequest) -> ExchangeReply {
        let ours = self.state.exchange(now, request);
        let text = format!("{ours:?}");
        self.same("exchange", text, |t| format!("{:?}", t.at(now, t.group.exchange(request))));
        ours
    }

    pub(super) fn publish(&mut self, facts: &[Publish], nonce: u64) -> Vec<Published> {
        let ours = self.state.publish(facts, nonce);
        self.same("publish", ours, |t| t.run(t.group.publish_as(facts, nonce)))
    }

    pub(super) fn init(&mut self, starts: &[Init], nonce: u64) -> usize {
        let ours = self.state.init(starts, nonce);
        self.same("init", ours, |t| t.run(t.group.init_as(starts, nonce)))
    }

    pub(super) fn subscribe(&mut self, topic: &Arc<str>, exists: bool) -> StartAt {
        let ours = self.state.subscribe(topic, exists);
        self.same("subscribe", ours, |t| t.run(t.group.subscribe(&[(Arc::clone(topic), exists)]))[0])
    }

    pub(super) fn pend(&mut self, starts: &[Pend]) -> Vec<Pended> {
        let ours = self.state.pend(starts);
        self.same("pend", ours, |t| t.run(t.group.pend(starts)))
    }

    pub(super) fn suspend(&mut self, partitions: &[(Arc<str>, i32)]) {
        self.state.suspend(partitions);
        self.same("suspend", (), |t| t.run(t.group.suspend(partitions)));
    }

    pub(super) fn overview(&self, topics: &[Arc<str>]) -> Overview {
        self.same("overview", self.state.overview(topics), |t| t.run(t.group.overview(topics)))
    }

    pub(super) fn seek(
        &mut self,
        topic: &Arc<str>,
        partition: i32,
        generation: u64,
        to: i64,
        nonce: u64,
    ) -> bool {
        let ours = self.state.seek(topic, partition, generation, to, nonce);
        self.same("seek", ours, |t| t.run(t.group.seek(topic, partition, generation, to, nonce)))
    }

    pub(super) fn advance(&mut self, topic: &Arc<str>, partition: i32, generation: u64, offset: i64) {
        self.state.advance(topic, partition, generation, offset);
        let fact = (Arc::clone(topic), partition, generation, offset);
        self.same("advance", (), |t| t.run(t.group.advance(&[fact])));
    }

    pub(super) fn pause(&mut self, topic: &Arc<str>, partition: Option<i32>, paused: bool) -> usize {
        let ours = self.state.pause(topic, partition, paused);
        self.same("pause", ours, |t| t.run(t.group.pause(topic, partition, paused)))
    }

    pub(super) fn unpark(
        &mut self,
        now: u64,
        topic: &Arc<str>,
        partition: i32,
        offset: Option<i64>,
        what: Unpark,
    ) -> usize {
        let ours = self.state.unpark(now, topic, partition, offset, what);
        self.same("unpark", ours, |t| t.at(now, t.group.unpark(topic, partition, offset, what)))
    }

    pub(super) fn quarantined(&self, now: u64, topics: &[Arc<str>]) -> Vec<Quarantined> {
        let ours = self.state.quarantined(now, topics);
        self.same("quarantined", ours, |t| t.at(now, t.group.quarantined(topics)))
    }

    pub(super) fn tick(&mut self, now: u64) {
        self.state.tick(now);
        self.same("tick", (), |t| t.at(now, t.group.tick()));
    }

    pub(super) fn leave(&mut self, now: u64, consumer: &ConsumerId) {
        self.state.leave(now, consumer);
        self.same("leave", (), |t| t.at(now, t.group.leave(consumer)));
    }

    pub(super) fn who(&self, now: u64) -> Vec<MemberView> {
        self.same("who", self.state.who(now), |t| t.at(now, t.group.who()))
    }

    pub(super) fn partitions(&self, topics: &[Arc<str>]) -> Vec<PartitionView> {
        self.state.partitions(topics)
    }

    pub(super) fn open_units(&self, topic: &Arc<str>, partition: i32) -> Vec<(i64, i64)> {
        self.state.open_units(topic, partition)
    }

    pub(super) fn take_events(&mut self) -> Vec<Event> {
        let ours = self.state.take_events();
        self.same("events", ours, |t| t.run(t.group.events()))
    }

    /// The invariants, and that both are the same.
    pub(super) fn check(&self) -> Result<(), String> {
        self.state.check()?;
        let Some(twin) = &self.twin else { return Ok(()) };
        if let Some(what) = twin.run(twin.group.damage()) {
            return Err(format!("nobody wrote to the keys, and they count as damaged: {what}"));
        }
        let (ours, theirs) = (self.state.dump(), twin.dump());
        if ours == theirs {
            return Ok(());
        }
        let only = |a: &[String], b: &[String]| {
            a.iter().filter(|line| !b.contains(line)).cloned().collect::<Vec<_>>().join("\n  ")
        };
        let (mine, other) = (only(&ours, &theirs), only(&theirs, &ours));
        Err(format!("state machine and scripts differ\nstate machine:\n  {mine}\nscripts:\n  {other}"))
    }

    /// Something else writes to the keys, and members go on for a while: the group must find out by itself. The caller wipes
    /// it then, so that both are the same again. Says whether anything was there to write to.
    pub(super) fn damage(&self, now: u64, dice: &mut Dice, late: &[ExchangeRequest]) -> Result<bool, String> {
        let Some(twin) = &self.twin else { return Ok(false) };
        let lives = twin.group.lives();
        let Some(what) = twin.damage(dice) else { return Ok(false) };
        twin.group.set_clock(now);
        for request in late {
            // Whatever it answers: it may be the first to find out.
            let _ = twin.runtime.block_on(twin.group.exchange(request));
        }
        twin.run(twin.group.tick());
        let found = |depth| twin.run(twin.group.mend(depth)) || twin.group.lives() > lives;
        let found = match what.found_by {
            Depth::Counts => twin.group.lives() > lives,
            depth => found(depth),
        };
        if found { Ok(true) } else { Err(format!("nobody notices: {}", what.done)) }
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        Snapshot { state: self.state.clone(), keys: self.twin.as_ref().map_or_else(Vec::new, |t| t.save()) }
    }

    pub(super) fn restore(&mut self, snapshot: &Snapshot) {
        self.state = snapshot.state.clone();
        self.state.take_events();
        if let Some(twin) = &self.twin {
            twin.load(&snapshot.keys);
        }
    }

    /// All is gone; the next who comes makes the group anew.
    pub(super) fn wipe(&mut self, now: u64) {
        self.state = GroupState::new(self.state.settings().clone(), now);
        assert_eq!(self.state.enter(self.cluster), Ok(()));
        self.same("wipe", (), |t| {
            t.load(&[]);
            let lives = t.group.lives();
            t.at(now, t.group.advance(&[("none".into(), 0, 0, 0)]));
            assert_eq!(t.group.lives(), lives + 1);
        });
    }
}

/// A Redis for simulations.
pub(super) struct Redis {
    server: RealRedis,
    runtime: Arc<Runtime>,
    groups: AtomicU64,
    /// Scripts with a mistake in them.
    mutant: Option<Mutant>,
}

/// A mistake: in the script of this name (or the prelude), one text for another.
#[derive(Clone, Copy)]
pub(super) struct Mutant {
    pub(super) find: &'static str,
    pub(super) put: &'static str,
}

impl Redis {
    pub(super) fn start(mutant: Option<Mutant>) -> Self {
        let server = RealRedis::start(&RedisOptions::new());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        Self { server, runtime: Arc::new(runtime), groups: AtomicU64::new(0), mutant }
    }

    fn group(&self, settings: GroupSettings, cluster: &str, now: u64) -> Twin {
        let name = format!("g{}", self.groups.fetch_add(1, Ordering::Relaxed));
        let mut conf = RedisConf::new("127.0.0.1", self.server.port(), name.as_str());
        conf.timeout = std::time::Duration::from_secs(20);
        let mistake = self.mutant.map(|m| (m.find, m.put));
        let join = RedisGroup::join_at(&conf, settings, "twin".into(), cluster, now, mistake);
        let group = self.runtime.block_on(join).expect("redis answers");
        // A machine with much to do may keep Redis waiting for longer than the crate's half second.
        let patient = ::redis::AsyncConnectionConfig::new().set_response_timeout(None);
        let client = ::redis::Client::open(("127.0.0.1", self.server.port())).expect("an address");
        let connection = self
            .runtime
            .block_on(client.get_multiplexed_async_connection_with_config(&patient))
            .expect("redis answers");
        let prefix = format!("{{{name}}}-kafka-");
        Twin { group, prefix, connection, runtime: Arc::clone(&self.runtime) }
    }
}

/// The keys that are about units, all together.
const UNITS: [&str; 6] =
    ["-units", "-open", "-error-queue", "-probe-queue", "-working-queue/", "-delay-queue/"];

/// Fields of `meta` that no exchange writes, but that it reads.
const KEPT: [&str; 5] = ["version", "incarnation", "settings", "run", "last"];

/// What was done to the keys of a group.
struct Damage {
    done: String,
    /// How deep one must look to find it.
    found_by: Depth,
}

/// The group in Redis.
pub(super) struct Twin {
    group: Arc<RedisGroup>,
    prefix: String,
    connection: MultiplexedConnection,
    runtime: Arc<Runtime>,
}

impl Twin {
    fn run<R>(&self, step: impl Future<Output = Result<R, GroupError>>) -> R {
        self.runtime.block_on(step).expect("the scripts answer")
    }

    fn at<R>(&self, now: u64, step: impl Future<Output = Result<R, GroupError>>) -> R {
        self.group.set_clock(now);
        self.run(step)
    }

    fn command<R: ::redis::FromRedisValue>(&self, command: &::redis::Cmd) -> R {
        self.runtime.block_on(command.query_async(&mut self.connection.clone())).expect("redis answers")
    }

    fn dump(&self) -> Vec<String> {
        let script = ::redis::Script::new(include_str!("dump.lua"));
        let mut call = script.prepare_invoke();
        for key in ["meta", "units", "open", "consumers", "topics", "events", "error-queue", "probe-queue"] {
            call.key(format!("{}{key}", self.prefix));
        }
        call.arg(&self.prefix);
        let mut lines: Vec<String> =
            self.runtime.block_on(call.invoke_async(&mut self.connection.clone())).expect("redis answers");
        lines.sort_unstable();
        lines
    }

    fn keys(&self) -> Vec<String> {
        self.command(::redis::cmd("KEYS").arg(format!("{}*", self.prefix)))
    }

    fn save(&self) -> Vec<(String, Vec<u8>)> {
        self.keys()
            .into_iter()
            .map(|key| (key.clone(), self.command(::redis::cmd("DUMP").arg(&key))))
            .collect()
    }

    /// One thing that a foreign hand may do. `None` if there is nothing to do it to.
    fn damage(&self, dice: &mut Dice) -> Option<Damage> {
        let mut keys = self.keys();
        // What is in these is no state: who waits asks again within a second.
        keys.retain(|key| !key.ends_with("-events") && !key.contains("-idle/"));
        keys.sort_unstable();
        if dice.one_in(8) {
            let units: Vec<_> =
                keys.iter().filter(|key| UNITS.iter().any(|name| key.contains(name))).cloned().collect();
            units.iter().for_each(|key| self.command::<()>(::redis::cmd("DEL").arg(key)));
            let done = format!("{units:?} are deleted");
            return (!units.is_empty()).then_some(Damage { done, found_by: Depth::Partitions });
        }
        let key = &keys[dice.below(keys.len())];
        let is_set: String = self.command(::redis::cmd("TYPE").arg(key));
        let of = |dice: &mut Dice, mut all: Vec<Vec<u8>>| {
            all.sort_unstable();
            let at = dice.below(all.len());
            all.swap_remove(at)
        };
        let (done, found_by) = match dice.roll(4) {
            0 => {
                self.command::<()>(::redis::cmd("DEL").arg(key));
                ("is deleted", Depth::Counts)
            }
            1 => {
                self.command::<()>(::redis::cmd("SET").arg(key).arg("theirs"));
                ("is a string", Depth::Counts)
            }
            2 if is_set == "zset" => {
                let member = of(dice, self.command(::redis::cmd("ZRANGE").arg(key).arg(0).arg(-1)));
                self.command::<()>(::redis::cmd("ZREM").arg(key).arg(member));
                ("lacks a member", Depth::Counts)
            }
            2 => {
                let mut fields: Vec<Vec<u8>> = self.command(::redis::cmd("HKEYS").arg(key));
                // What an exchange writes anew is mended by it.
                let kept = |field: &Vec<u8>| KEPT.iter().any(|kept| field == kept.as_bytes());
                fields.retain(|field| !key.ends_with("-meta") || kept(field));
                self.command::<()>(::redis::cmd("HDEL").arg(key).arg(of(dice, fields)));
                ("lacks a field", Depth::Counts)
            }
            _ if is_set == "zset" || key.ends_with("-meta") => return None,
            _ => {
                let field = of(dice, self.command(::redis::cmd("HKEYS").arg(key)));
                let row: Vec<u8> = self.command(::redis::cmd("HGET").arg(key).arg(&field));
                let cut = &row[..dice.below(row.len())];
                self.command::<()>(::redis::cmd("HSET").arg(key).arg(&field).arg(cut));
                ("has a row that is cut off", Depth::Units)
            }
        };
        // Other partitions may be in that queue by the time it is looked at: it is counted with their rows.
        let found_by = if key.ends_with("-probe-queue") { Depth::Partitions } else { found_by };
        Some(Damage { done: format!("{key} {done}"), found_by })
    }

    fn load(&self, keys: &[(String, Vec<u8>)]) {
        for key in self.keys() {
            self.command::<()>(::redis::cmd("DEL").arg(key));
        }
        for (key, value) in keys {
            self.command::<()>(::redis::cmd("RESTORE").arg(key).arg(0).arg(value));
        }
        self.run(self.group.forget_events());
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        for key in self.keys() {
            self.command::<()>(::redis::cmd("UNLINK").arg(key));
        }
    }
}
