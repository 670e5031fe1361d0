//! The steps of the group, each a script.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::call::{Call, Reply};
use super::link::Open;
use super::{AT_ONCE, RedisGroup, TICK, scripts};
use crate::group::nonce;
use crate::group::types::{
    ConsumerId, Event, ExchangeReply, ExchangeRequest, GroupError, Init, MemberView, Outcome, PartitionView,
    Publish, Published, StartAt, Unit, UnitId, Unpark,
};
use crate::wire::Uuid;

/// The largest whole number that a double holds for certain: scripts calculate with doubles.
const LARGEST: i64 = 1 << 53;
/// Events read in one go.
const EVENTS_AT_ONCE: usize = 1000;

/// A unit's name, so that its partition's are in order of offset.
fn name(id: &UnitId) -> String {
    format!("{}/{}@{:016}", id.topic, id.partition, id.carved_at)
}

fn id(name: &str, topics: &[Arc<str>]) -> Option<UnitId> {
    let (tp, carved_at) = name.rsplit_once('@')?;
    let (topic, partition) = tp.rsplit_once('/')?;
    let topic = topics.iter().find(|t| ***t == *topic).map_or_else(|| Arc::from(topic), Arc::clone);
    Some(UnitId { topic, partition: partition.parse().ok()?, carved_at: carved_at.parse().ok()? })
}

fn bad(what: &str) -> GroupError {
    GroupError::Strange(format!("a script answered {what}"))
}

impl RedisGroup {
    /// See [`crate::group::GroupState::exchange`].
    pub async fn exchange(&self, request: &ExchangeRequest) -> Result<ExchangeReply, GroupError> {
        let topics = self.named_by(request);
        let asked = Instant::now();
        let mut reply = self.run(|open| self.exchange_call(open, request, &topics)).await?;
        let now: u64 = reply.whole()?;
        let organiser = reply.int()? == 1;
        let next_event = reply.int()?;
        *self.next_event.lock() =
            u64::try_from(next_event).ok().map(|at| asked + Duration::from_millis(at.saturating_sub(now)));
        let mut outcomes = reply.list()?;
        let acks = outcomes_of(&mut outcomes, request.acks.len())?;
        let nacks = outcomes_of(&mut outcomes, request.nacks.len())?;
        let shortens = outcomes_of(&mut outcomes, request.shortens.len())?;
        let renews = outcomes_of(&mut outcomes, request.renews.len())?;
        let units = units_of(&mut reply.list()?, &topics)?;
        let mut lack = reply.list()?;
        let lacking = request.topics.iter().map(|_| lack.whole()).collect::<Result<_, _>>()?;
        if organiser && self.clock().is_none() && self.is_tick_due() {
            // What it does can wait for the next time.
            if let Err(error) = self.tick().await {
                tracing::debug!("looking after the group: {error}");
            }
        }
        Ok(ExchangeReply { now, acks, nacks, shortens, renews, units, organiser, lacking })
    }

    fn is_tick_due(&self) -> bool {
        let mut ticked = self.ticked.lock();
        let due = ticked.elapsed() >= TICK;
        if due {
            *ticked = Instant::now();
        }
        due
    }

    /// The topics a request is about: those that are read first.
    fn named_by(&self, request: &ExchangeRequest) -> Vec<Arc<str>> {
        let mut topics = request.topics.clone();
        let acks = request.acks.iter().map(|a| &a.id);
        let nacks = request.nacks.iter().map(|n| &n.id);
        let shortens = request.shortens.iter().map(|s| &s.id);
        let renews = request.renews.iter().map(|r| &r.id);
        for id in acks.chain(nacks).chain(shortens).chain(renews) {
            if !topics.contains(&id.topic) {
                topics.push(Arc::clone(&id.topic));
            }
        }
        let mut mine = self.topics.lock();
        topics
            .iter()
            .filter(|topic| !mine.contains(*topic))
            .cloned()
            .collect::<Vec<_>>()
            .into_iter()
            .for_each(|t| {
                mine.insert(t);
            });
        topics
    }

    fn exchange_call(&self, open: &Open, request: &ExchangeRequest, topics: &[Arc<str>]) -> Call {
        let mut call = self.prepare(&scripts::EXCHANGE, topics.iter().map(|topic| &**topic));
        call.arg(&*request.consumer).arg(request.request).arg(request.topics.len());
        call.arg(request.readers.max(1)).arg(i32::from(request.organise)).arg(request.want);
        call.arg(request.max_records).arg(request.least_records);
        call.arg(request.target_bytes.min(1 << 40));
        call.arg(i32::from(request.want > 0 && request.organise)).arg(&*open.run);
        call.arg(request.lacking).arg(request.acks.len());
        for ack in &request.acks {
            call.arg(&*name(&ack.id))
                .arg(ack.request)
                .arg(ack.end)
                .arg(ack.high_watermark)
                .arg(ack.leader_epoch);
            call.arg(ack.records).arg(ack.bytes.min(1 << 40));
        }
        call.arg(request.nacks.len());
        for nack in &request.nacks {
            let delay =
                nack.delay.map_or(-1, |d| i64::try_from(d.as_millis()).map_or(LARGEST, |ms| ms.min(LARGEST)));
            call.arg(&*name(&nack.id))
                .arg(nack.request)
                .arg(nack.end)
                .arg(nack.progress)
                .arg(delay)
                .arg(i32::from(nack.counts))
                .arg(nack.through.unwrap_or(-1))
                .arg(&*nack.reason);
        }
        call.arg(request.shortens.len());
        for shorten in &request.shortens {
            call.arg(&*name(&shorten.id)).arg(shorten.request).arg(shorten.end).arg(shorten.at);
        }
        call.arg(request.renews.len());
        for renew in &request.renews {
            call.arg(&*name(&renew.id)).arg(renew.request).arg(renew.end).arg(renew.progress);
        }
        call
    }

    /// See [`crate::group::GroupState::publish`].
    pub async fn publish(&self, facts: &[Publish]) -> Result<Vec<Published>, GroupError> {
        self.publish_as(facts, nonce()).await
    }

    pub(in crate::group) async fn publish_as(
        &self,
        facts: &[Publish],
        nonce: u64,
    ) -> Result<Vec<Published>, GroupError> {
        let mut out = Vec::with_capacity(facts.len());
        for facts in facts.chunks(AT_ONCE) {
            let largest = facts.iter().map(|f| f.high_watermark.max(f.log_start)).max().unwrap_or(0);
            check_offset(largest)?;
            let topics = distinct(facts.iter().map(|f| &f.topic));
            let mut reply = self
                .run(|_| {
                    let mut call = self.prepare(&scripts::PUBLISH, topics.iter().map(|topic| &**topic));
                    call.arg(nonce).arg(facts.len());
                    for f in facts {
                        call.arg(&*f.topic)
                            .arg(&*f.partition.to_string())
                            .arg(&f.topic_id.0[..])
                            .arg(f.leader_epoch);
                        call.arg(f.high_watermark).arg(f.log_start);
                        call.arg(f.epoch_end.map_or(-1, |e| e.epoch)).arg(f.epoch_end.map_or(-1, |e| e.end));
                    }
                    call
                })
                .await?;
            let mut list = reply.list()?;
            for _ in facts {
                let (code, a, b) = (list.int()?, list.int()?, list.int()?);
                out.push(match code {
                    0 => Published::Done,
                    1 => Published::Unknown,
                    2 => Published::WrongTopic,
                    3 => Published::Stale,
                    4 => Published::AskEpoch(i32::try_from(a).map_err(|_| bad("an epoch out of range"))?),
                    5 => Published::Truncated(a),
                    6 => Published::Lost { from: a, to: b },
                    _ => return Err(bad(&code.to_string())),
                });
            }
        }
        Ok(out)
    }

    /// See [`crate::group::GroupState::subscribe`].
    pub async fn subscribe(&self, topics: &[(Arc<str>, bool)]) -> Result<Vec<StartAt>, GroupError> {
        if topics.is_empty() {
            return Ok(Vec::new());
        }
        let mut reply = self
            .run(|_| {
                let mut call = self.prepare(&scripts::SUBSCRIBE, topics.iter().map(|(topic, _)| &**topic));
                topics.iter().for_each(|(_, exists)| _ = call.arg(i32::from(*exists)));
                call
            })
            .await?;
        let mut list = reply.list()?;
        let start = |n| if n == 1 { StartAt::Earliest } else { StartAt::Policy };
        topics.iter().map(|_| list.int().map(start)).collect()
    }

    /// See [`crate::group::GroupState::init`].
    pub async fn init(&self, starts: &[Init]) -> Result<usize, GroupError> {
        self.init_as(starts, nonce()).await
    }

    pub(in crate::group) async fn init_as(&self, starts: &[Init], nonce: u64) -> Result<usize, GroupError> {
        let mut started = 0;
        for starts in starts.chunks(AT_ONCE) {
            let ends = |s: &Init| s.done.last().map_or(0, |d| d.1).max(s.high_watermark).max(s.start);
            check_offset(starts.iter().map(ends).max().unwrap_or(0))?;
            let topics = distinct(starts.iter().map(|s| &s.topic));
            let mut reply = self
                .run(|_| {
                    let mut call = self.prepare(&scripts::INIT, topics.iter().map(|topic| &**topic));
                    call.arg(nonce).arg(starts.len());
                    for s in starts {
                        call.arg(&*s.topic)
                            .arg(&*s.partition.to_string())
                            .arg(&s.topic_id.0[..])
                            .arg(s.leader_epoch);
                        call.arg(s.start).arg(s.high_watermark).arg(s.log_start).arg(s.done.len());
                        s.done.iter().for_each(|(from, to)| _ = call.arg(*from).arg(*to));
                    }
                    call
                })
                .await?;
            started += reply.whole::<usize>()?;
        }
        Ok(started)
    }

    /// See [`crate::group::GroupState::seek`].
    pub async fn seek(
        &self,
        topic: &Arc<str>,
        partition: i32,
        generation: u64,
        offset: i64,
        nonce: u64,
    ) -> Result<bool, GroupError> {
        check_offset(offset)?;
        let call = |_: &Open| {
            let mut call = self.prepare(&scripts::SEEK, [&**topic].into_iter());
            call.arg(&*partition.to_string()).arg(generation).arg(offset).arg(nonce);
            call
        };
        Ok(self.run(call).await?.int()? == 1)
    }

    /// See [`crate::group::GroupState::advance`], for `(topic, partition, generation, offset)`.
    pub async fn advance(&self, facts: &[(Arc<str>, i32, u64, i64)]) -> Result<(), GroupError> {
        for facts in facts.chunks(AT_ONCE) {
            self.run(|_| self.advance_call("", facts)).await?;
        }
        Ok(())
    }

    /// The server that the group is on now, as [`Self::reconciled`] wants it.
    pub async fn server(&self) -> Result<Arc<str>, GroupError> {
        Ok(self.link.open().await?.run)
    }

    /// What `server` held was held against the commits in Kafka: it may hand out units, unless another one took over meanwhile.
    pub async fn reconciled(&self, server: &str) -> Result<(), GroupError> {
        self.run(|_| self.advance_call(server, &[])).await?;
        Ok(())
    }

    fn advance_call(&self, run: &str, facts: &[(Arc<str>, i32, u64, i64)]) -> Call {
        let topics = distinct(facts.iter().map(|f| &f.0));
        let mut call = self.prepare(&scripts::ADVANCE, topics.iter().map(|topic| &**topic));
        call.arg(run).arg(facts.len());
        for (topic, partition, generation, offset) in facts {
            call.arg(&**topic).arg(&*partition.to_string()).arg(*generation).arg(*offset);
        }
        call
    }

    /// See [`crate::group::GroupState::pause`].
    pub async fn pause(
        &self,
        topic: &Arc<str>,
        partition: Option<i32>,
        paused: bool,
    ) -> Result<usize, GroupError> {
        let call = |_: &Open| {
            let mut call = self.prepare(&scripts::PAUSE, [&**topic].into_iter());
            match partition {
                Some(partition) => call.arg(&*partition.to_string()),
                None => call.arg(""),
            };
            call.arg(i32::from(paused));
            call
        };
        self.run(call).await?.whole()
    }

    /// See [`crate::group::GroupState::unpark`].
    pub async fn unpark(&self, topic: &Arc<str>, partition: i32, what: Unpark) -> Result<usize, GroupError> {
        let call = |_: &Open| {
            let mut call = self.prepare(&scripts::UNPARK, [&**topic].into_iter());
            call.arg(&*partition.to_string()).arg(i32::from(what == Unpark::Retry));
            call
        };
        self.run(call).await?.whole()
    }

    /// See [`crate::group::GroupState::tick`].
    pub async fn tick(&self) -> Result<(), GroupError> {
        let topics = self.all_topics(&self.link.open().await?).await?;
        self.run(|_| self.prepare(&scripts::TICK, topics.iter().map(|topic| &**topic))).await?;
        Ok(())
    }

    /// See [`crate::group::GroupState::leave`].
    pub async fn leave(&self, consumer: &ConsumerId) -> Result<(), GroupError> {
        let topics: Vec<Arc<str>> = self.topics.lock().iter().cloned().collect();
        let call = |_: &Open| {
            let mut call = self.prepare(&scripts::LEAVE, topics.iter().map(|topic| &**topic));
            call.arg(&**consumer);
            call
        };
        self.run(call).await?;
        Ok(())
    }

    /// Forgets the group. For an hour its members, also those that come back late, are told that it was deleted.
    pub async fn delete(&self) -> Result<(), GroupError> {
        let open = self.link.open().await?;
        loop {
            let topics = self.all_topics(&open).await?;
            let mut call = scripts::DELETE.prepare_invoke();
            self.keys.group.iter().for_each(|key| _ = call.key(key));
            topics.iter().flat_map(|topic| self.keys.of_topic(topic)).for_each(|key| _ = call.key(key));
            topics.iter().for_each(|topic| _ = call.arg(&**topic));
            // A topic that came meanwhile has keys that were not named.
            if self.link.call(&open, &call).await?.text()? != "TOPICS" {
                return Ok(());
            }
        }
    }

    /// See [`crate::group::GroupState::who`].
    pub async fn who(&self) -> Result<Vec<MemberView>, GroupError> {
        let mut reply = self.run(|_| self.prepare(&scripts::WHO, std::iter::empty::<&str>())).await?;
        let mut members = Vec::with_capacity(reply.len());
        while reply.len() > 0 {
            let mut row = reply.list()?;
            let (consumer, seen, silent) = (row.text()?.into(), row.whole()?, row.whole()?);
            let mut topics = row.list()?;
            let topics = (0..topics.len()).map(|_| Ok(topics.text()?.into())).collect::<Result<_, _>>()?;
            members.push(MemberView { consumer, seen, silent, topics });
        }
        members.sort_unstable_by(|one, other| one.consumer.cmp(&other.consumer));
        Ok(members)
    }

    /// All topics that the group knows.
    pub async fn topics(&self) -> Result<Vec<Arc<str>>, GroupError> {
        self.all_topics(&self.link.open().await?).await
    }

    /// See [`crate::group::GroupState::partitions`].
    pub async fn partitions(&self, topics: &[Arc<str>]) -> Result<Vec<PartitionView>, GroupError> {
        self.look(topics, false).await
    }

    /// As [`Self::partitions`], of a server that was compared with the commits in Kafka: what another one says may be old.
    pub(crate) async fn reconciled_partitions(
        &self,
        topics: &[Arc<str>],
    ) -> Result<Vec<PartitionView>, GroupError> {
        self.look(topics, true).await
    }

    async fn look(&self, topics: &[Arc<str>], reconciled: bool) -> Result<Vec<PartitionView>, GroupError> {
        let call = |open: &Open| {
            let mut call = self.prepare(&scripts::LOOK, topics.iter().map(|topic| &**topic));
            call.arg(if reconciled { &*open.run } else { "" }).arg(0);
            call
        };
        let mut reply = self.run(call).await?;
        let mut views = Vec::new();
        for topic in topics {
            let mut list = reply.list()?;
            let topic_id = topic_id(&mut list)?;
            let mut rows = list.list()?;
            let first = views.len();
            while rows.len() > 0 {
                views.push(view(topic, partition(&mut rows)?, topic_id, &rows.bytes()?)?);
            }
            views[first..].sort_unstable_by_key(|view: &PartitionView| view.partition);
        }
        Ok(views)
    }

    /// Partitions of a topic with their open units, `[first not handled, end)`, at one moment, as `reconciled_partitions`. At
    /// most 500 at a time: Redis serves nobody else meanwhile.
    pub async fn open_units(
        &self,
        topic: &Arc<str>,
        partitions: &[i32],
    ) -> Result<Vec<(PartitionView, Vec<(i64, i64)>)>, GroupError> {
        let mut found = Vec::with_capacity(partitions.len());
        for partitions in partitions.chunks(AT_ONCE) {
            let call = |open: &Open| {
                let mut call = self.prepare(&scripts::LOOK, [&**topic].into_iter());
                call.arg(&*open.run).arg(partitions.len());
                partitions.iter().for_each(|partition| _ = call.arg(&*partition.to_string()));
                call
            };
            let mut reply = self.run(call).await?;
            let topic_id = topic_id(&mut reply)?;
            while reply.len() > 0 {
                let mut one = reply.list()?;
                let view = view(topic, partition(&mut one)?, topic_id, &one.bytes()?)?;
                let mut list = one.list()?;
                let mut units = Vec::with_capacity(list.len() / 2);
                while list.len() > 0 {
                    units.push((list.int()?, list.int()?));
                }
                found.push((view, units));
            }
        }
        Ok(found)
    }

    /// Waits until this member is woken for work (`true`), or time may bring some (`true`), or `most` is over.
    pub async fn work(&self, most: Duration) -> bool {
        let next = *self.next_event.lock();
        let until = Instant::now() + most;
        let at = next.map_or(until, |at| at.min(until));
        tokio::select! {
            () = self.woken.notified() => true,
            () = tokio::time::sleep_until(at.into()) => at < until,
        }
    }

    /// Nobody is told what happened before it came.
    pub(super) async fn skip_events(&self, open: &Open) -> Result<(), GroupError> {
        let mut last = redis::cmd("XREVRANGE");
        last.arg(self.keys.events()).arg("+").arg("-").arg("COUNT").arg(1);
        let last: Vec<(String, Vec<String>)> = self.link.command(open, &last).await?;
        *self.last_event.lock() = last.into_iter().next().map_or_else(|| "0".to_owned(), |(id, _)| id);
        Ok(())
    }

    /// What happened since it was asked last, at most the newest 10,000.
    pub async fn events(&self) -> Result<Vec<Event>, GroupError> {
        let open = self.link.open().await?;
        let mut events = Vec::new();
        loop {
            let mut read = redis::cmd("XRANGE");
            let after = format!("({}", self.last_event.lock());
            read.arg(self.keys.events()).arg(after).arg("+").arg("COUNT").arg(EVENTS_AT_ONCE);
            let found: Vec<(String, Vec<String>)> = self.link.command(&open, &read).await?;
            let all = found.len() < EVENTS_AT_ONCE;
            for (at, fields) in found {
                // Kinds that a newer member writes are not ours to tell.
                events.extend(event(&fields));
                *self.last_event.lock() = at;
            }
            if all {
                return Ok(events);
            }
        }
    }

    /// For simulations: what happened until now is not told.
    #[cfg(test)]
    pub(in crate::group) async fn forget_events(&self) -> Result<(), GroupError> {
        self.skip_events(&self.link.open().await?).await
    }

    /// Sets the clock of a simulation.
    #[cfg(test)]
    pub(in crate::group) fn set_clock(&self, now: u64) {
        self.clock.store(now, std::sync::atomic::Ordering::Relaxed);
    }
}

fn check_offset(offset: i64) -> Result<(), GroupError> {
    if offset > LARGEST { Err(GroupError::TooLarge(offset)) } else { Ok(()) }
}

fn distinct<'a>(topics: impl Iterator<Item = &'a Arc<str>>) -> Vec<Arc<str>> {
    let mut distinct: Vec<Arc<str>> = Vec::new();
    for topic in topics {
        if distinct.last() != Some(topic) && !distinct.contains(topic) {
            distinct.push(Arc::clone(topic));
        }
    }
    distinct
}

fn outcomes_of(reply: &mut Reply, n: usize) -> Result<Vec<Outcome>, GroupError> {
    let outcome = |code| match code {
        0 => Ok(Outcome::Gone),
        1 => Ok(Outcome::Done),
        2 => Ok(Outcome::Fenced),
        _ => Err(bad(&code.to_string())),
    };
    (0..n).map(|_| reply.int().and_then(outcome)).collect()
}

fn units_of(reply: &mut Reply, topics: &[Arc<str>]) -> Result<Vec<Unit>, GroupError> {
    let mut units = Vec::with_capacity(reply.len() / 8);
    while reply.len() > 0 {
        let name = reply.text()?;
        let id = id(&name, topics).ok_or_else(|| bad(&name))?;
        units.push(Unit {
            topic: Arc::clone(&id.topic),
            partition: id.partition,
            topic_id: topic_id(reply)?,
            start: reply.int()?,
            end: reply.int()?,
            attempt: reply.whole()?,
            request: reply.whole()?,
            leader_epoch: reply.whole()?,
            deadline: reply.whole()?,
            id,
        });
    }
    Ok(units)
}

fn topic_id(reply: &mut Reply) -> Result<Uuid, GroupError> {
    let bytes = <[u8; 16]>::try_from(reply.bytes()?);
    bytes.map(Uuid).map_err(|_| bad("a topic id of the wrong length"))
}

fn partition(reply: &mut Reply) -> Result<i32, GroupError> {
    reply.text()?.parse().map_err(|_| bad("a partition that is no number"))
}

/// A partition's row, as the scripts pack it.
fn view(topic: &Arc<str>, partition: i32, topic_id: Uuid, row: &[u8]) -> Result<PartitionView, GroupError> {
    let mut row = row;
    let wrong = || bad("a partition's row that is not understood");
    let mut fields = [0_i64; 12];
    for field in &mut fields {
        *field = rmp::decode::read_int(&mut row).map_err(|_| wrong())?;
    }
    let [cursor, high, low, start, generation, epoch, in_flight, parked, paused, ..] = fields;
    Ok(PartitionView {
        topic: Arc::clone(topic),
        partition,
        topic_id,
        cursor,
        high_watermark: high,
        low_watermark: low,
        log_start: start,
        generation: generation.try_into().map_err(|_| wrong())?,
        leader_epoch: epoch.try_into().map_err(|_| wrong())?,
        in_flight: in_flight.try_into().map_err(|_| wrong())?,
        parked: parked.try_into().map_err(|_| wrong())?,
        paused: paused == 1,
    })
}

/// An entry of the stream of events.
fn event(fields: &[String]) -> Option<Event> {
    let field = |name: &str| fields.chunks_exact(2).find(|pair| pair[0] == name).map(|pair| pair[1].as_str());
    let number = |name| field(name)?.parse::<i64>().ok();
    let unit = || id(field("u")?, &[]);
    let partition = || {
        let (topic, partition) = field("p")?.rsplit_once('/')?;
        Some((Arc::<str>::from(topic), partition.parse().ok()?))
    };
    Some(match field("e")? {
        "expired" => Event::Expired { unit: unit()?, consumer: field("c")?.into() },
        "nacked" => Event::Nacked { unit: unit()?, consumer: field("c")?.into(), reason: field("r")?.into() },
        "split" => Event::Split { unit: unit()?, at: number("at")? },
        "parked" => Event::Parked { unit: unit()?, from: number("from")?, to: number("to")? },
        kind => {
            let (topic, partition) = partition()?;
            match kind {
                "blocked" => {
                    Event::Blocked { topic, partition, parked: u32::try_from(number("parked")?).ok()? }
                }
                "truncated" => {
                    Event::Truncated { topic, partition, from: number("from")?, to: number("to")? }
                }
                "lost" => Event::Lost { topic, partition, from: number("from")?, to: number("to")? },
                "sought" => Event::Sought { topic, partition, from: number("from")?, to: number("to")? },
                "recreated" => Event::Recreated { topic, partition },
                _ => return None,
            }
        }
    })
}
