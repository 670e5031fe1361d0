//! The incremental fetch session with one broker (KIP-227), without I/O.
//!
//! A broker remembers which partitions a session is about, and what it last said of each. A request of the session then
//! names only the partitions that are new or asked for otherwise than before, and those to be forgotten; the answer has only
//! those with news. [`Session`] mirrors what the broker remembers: [`Session::next`] makes a request of all that is wanted,
//! [`Session::answered`] takes the answer, [`Session::lost`] is told that there is none.
//!
//! A session begins with a full fetch (epoch 0), which names everything, and whose answer gives its id. Each request of it has
//! the next epoch. Whenever it is not certain that both sides know the same, the next fetch is a full one; that names the
//! old session's id too, so that the broker drops it. A broker that has no room for a session gives it id 0: then every fetch is
//! full, as it was before there were sessions.
//!
//! # The non-obvious
//! * A session is not bound to a connection: it goes on over a new one. But whether a request was carried out whose answer
//!   is lost, nobody knows, and so which epoch is next.
//! * A partition that the answer leaves out has no news: its high watermark and log start are those last told. So of one
//!   that was *named* because it is asked for otherwise (a new leader epoch, another position) the answer may say nothing,
//!   although the asker has not heard it in that respect: it is told again what was told last. One that was not named and
//!   is left out is the same question with the same answer.
//! * After an error of a partition the broker tells it anew when the error is over, so nothing is told until then.
//! * A session is by name or by topic id (version 13 and newer), for all its life. Which version a request has is decided by
//!   the topics in it, so a session with a topic that has no id names a partition of such a topic in every request.
//! * The broker adds what is named before it forgets what is to be forgotten. A topic that was created again would be
//!   forgotten under the name it was added with, by a broker that knows names only: another id is another session.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::wire::messages::{
    FetchPartition, FetchRequest, FetchResponse, FetchTopic, FetchableTopicResponse, ForgottenTopic,
    PartitionData,
};
use crate::wire::{ErrorCode, Uuid};

/// The epoch of a full fetch, which begins a session.
const FIRST: i32 = 0;
/// The epoch of a fetch without a session; with an id it ends that session.
const LAST: i32 = -1;

/// What to make of an answer.
#[derive(Debug)]
pub(super) enum Answer {
    /// It is about all that was wanted: what it leaves out has failed.
    All(FetchResponse),
    /// It is about what has news ([`Session::has_news`]), and nothing is wrong with the rest.
    News(FetchResponse),
}

/// Our side of a session. Its memory is bounded by what is wanted.
#[derive(Debug, Default)]
pub(super) struct Session {
    /// What the broker calls it, 0 if it has none; kept beyond its end, so that the broker is told.
    id: i32,
    /// Of the next request.
    epoch: i32,
    /// Whether all topics have ids.
    by_id: bool,
    /// Counts the requests.
    round: u64,
    topics: BTreeMap<Arc<str>, Topic>,
    names: HashMap<Uuid, Arc<str>>,
}

/// What the broker remembers of a topic.
#[derive(Debug)]
struct Topic {
    id: Uuid,
    partitions: BTreeMap<i32, Known>,
}

/// What the broker remembers of a partition.
#[derive(Debug)]
struct Known {
    asked: FetchPartition,
    /// What was said last; `None` when that was nothing, or an error.
    told: Option<Told>,
    /// The last round in which it was wanted, and in which the answer was about it.
    wanted: u64,
    news: u64,
    /// It was named, and no answer was about it since.
    is_due: bool,
}

#[derive(Debug, Clone, Copy)]
struct Told {
    high_watermark: i64,
    last_stable_offset: i64,
    log_start_offset: i64,
}

impl Session {
    /// The request that asks for `all`, which names each partition once. What it names is remembered: the call must be
    /// followed by [`answered`](Self::answered) or [`lost`](Self::lost).
    pub(super) fn next(&mut self, all: &FetchRequest) -> FetchRequest {
        self.round += 1;
        let by_id = all.topics.iter().all(|topic| !topic.topic_id.is_zero());
        let is_other = |topic: &FetchTopic| {
            self.topics.get(&topic.topic).is_some_and(|known| known.id != topic.topic_id)
        };
        if self.epoch == FIRST || by_id != self.by_id || all.topics.iter().any(is_other) {
            self.end();
            self.topics.clear();
            self.names.clear();
            self.by_id = by_id;
        }
        let mut topics: Vec<FetchTopic> = all.topics.iter().filter_map(|topic| self.name(topic)).collect();
        let forgotten_topics_data = self.forget();
        if !by_id && topics.iter().all(|topic| !topic.topic_id.is_zero()) {
            topics.extend(self.any_without_id());
        }
        FetchRequest {
            session_id: self.id,
            session_epoch: self.epoch,
            topics,
            forgotten_topics_data,
            max_wait_ms: all.max_wait_ms,
            min_bytes: all.min_bytes,
            max_bytes: all.max_bytes,
            isolation_level: all.isolation_level,
            rack_id: Arc::clone(&all.rack_id),
            ..Default::default()
        }
    }

    /// Takes what is wanted of a topic; what of it the broker does not know is to be named.
    fn name(&mut self, wanted: &FetchTopic) -> Option<FetchTopic> {
        let (round, name) = (self.round, &wanted.topic);
        if !self.topics.contains_key(name) {
            self.names.insert(wanted.topic_id, Arc::clone(name));
        }
        let new = || Topic { id: wanted.topic_id, partitions: BTreeMap::new() };
        let known = self.topics.entry(Arc::clone(name)).or_insert_with(new);
        let mut partitions = Vec::new();
        for asked in &wanted.partitions {
            let is_known = known.partitions.get_mut(&asked.partition).is_some_and(|known| {
                known.wanted = round;
                known.asked == *asked
            });
            if is_known {
                continue;
            }
            let told = known.partitions.get(&asked.partition).and_then(|known| known.told);
            let entry = Known { asked: asked.clone(), told, wanted: round, news: 0, is_due: true };
            known.partitions.insert(asked.partition, entry);
            partitions.push(asked.clone());
        }
        (!partitions.is_empty()).then(|| FetchTopic {
            topic: Arc::clone(name),
            topic_id: wanted.topic_id,
            partitions,
        })
    }

    /// Takes out what is not wanted any more.
    fn forget(&mut self) -> Vec<ForgottenTopic> {
        let (round, names) = (self.round, &mut self.names);
        let mut forgotten = Vec::new();
        self.topics.retain(|name, topic| {
            let mut partitions = Vec::new();
            topic.partitions.retain(|index, known| {
                let stays = known.wanted == round;
                if !stays {
                    partitions.push(*index);
                }
                stays
            });
            if !partitions.is_empty() {
                forgotten.push(ForgottenTopic { topic: Arc::clone(name), topic_id: topic.id, partitions });
            }
            let stays = !topic.partitions.is_empty();
            if !stays {
                names.remove(&topic.id);
            }
            stays
        });
        forgotten
    }

    /// A partition of a topic without an id, to be named once more.
    fn any_without_id(&self) -> Option<FetchTopic> {
        let (name, topic) = self.topics.iter().find(|(_, topic)| topic.id.is_zero())?;
        let known = topic.partitions.values().next()?;
        let partitions = vec![known.asked.clone()];
        Some(FetchTopic { topic: Arc::clone(name), topic_id: topic.id, partitions })
    }

    /// Takes the answer to the last request. `None`: the broker does not know the session as we do. Then the same is to be asked
    /// again, at once: [`next`](Self::next) makes a full fetch of it, for which this is never `None`.
    pub(super) fn answered(&mut self, mut answer: FetchResponse) -> Option<Answer> {
        let is_full = self.epoch == FIRST;
        match ErrorCode(answer.error_code) {
            ErrorCode::NONE => {}
            error @ (ErrorCode::FETCH_SESSION_ID_NOT_FOUND
            | ErrorCode::INVALID_FETCH_SESSION_EPOCH
            | ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR)
                if !is_full =>
            {
                self.end();
                if error == ErrorCode::FETCH_SESSION_ID_NOT_FOUND {
                    self.id = 0;
                }
                return None;
            }
            _ => {
                self.end();
                return Some(Answer::All(answer));
            }
        }
        let is_strange = !self.learn(&answer);
        if is_full {
            let round = self.round;
            let all = || self.topics.values().flat_map(|topic| topic.partitions.values());
            let is_whole = !is_strange && all().all(|known| known.news == round);
            self.id = answer.session_id;
            self.epoch = if self.id != 0 && is_whole { following(FIRST) } else { FIRST };
            return Some(Answer::All(answer));
        }
        // One that throttles us has looked at nothing (KIP-219): what is due stays so.
        if answer.throttle_time_ms == 0 || !answer.responses.is_empty() {
            self.remind(&mut answer);
        }
        if is_strange || answer.session_id != self.id {
            self.end();
            if answer.session_id == 0 {
                // It has closed it.
                self.id = 0;
            }
        } else {
            self.epoch = following(self.epoch);
        }
        Some(Answer::News(answer))
    }

    /// Takes what an answer says of each partition. `false` when one of them is not of this session.
    fn learn(&mut self, answer: &FetchResponse) -> bool {
        let mut is_ours = true;
        for topic in &answer.responses {
            // From version 13 on a topic has an id and no name.
            let name =
                if topic.topic.is_empty() { self.names.get(&topic.topic_id) } else { Some(&topic.topic) };
            let mut known = name.and_then(|name| self.topics.get_mut(name));
            for data in &topic.partitions {
                let known = known.as_mut().and_then(|topic| topic.partitions.get_mut(&data.partition_index));
                let Some(known) = known else {
                    is_ours = false;
                    continue;
                };
                (known.news, known.is_due) = (self.round, false);
                known.told = (data.error_code == 0).then_some(Told {
                    high_watermark: data.high_watermark,
                    last_stable_offset: data.last_stable_offset,
                    log_start_offset: data.log_start_offset,
                });
            }
        }
        is_ours
    }

    /// Adds to an answer what was told last of each partition that was named and has no news.
    fn remind(&mut self, answer: &mut FetchResponse) {
        let round = self.round;
        for (name, topic) in &mut self.topics {
            let due = topic.partitions.iter_mut().filter(|(_, known)| known.is_due);
            let told = due.filter_map(|(index, known)| {
                let told = known.told?;
                (known.news, known.is_due) = (round, false);
                Some(PartitionData {
                    partition_index: *index,
                    high_watermark: told.high_watermark,
                    last_stable_offset: told.last_stable_offset,
                    log_start_offset: told.log_start_offset,
                    ..Default::default()
                })
            });
            let partitions: Vec<_> = told.collect();
            if !partitions.is_empty() {
                let topic = Arc::clone(name);
                answer.responses.push(FetchableTopicResponse { topic, partitions, ..Default::default() });
            }
        }
    }

    /// Whether the last answer was about this partition.
    pub(super) fn has_news(&self, topic: &str, partition: i32) -> bool {
        let known = self.topics.get(topic).and_then(|topic| topic.partitions.get(&partition));
        known.is_some_and(|known| known.news == self.round)
    }

    /// The last request has no answer: it may have been carried out, or not.
    pub(super) const fn lost(&mut self) {
        self.end();
    }

    /// The next fetch is a full one.
    const fn end(&mut self) {
        self.epoch = FIRST;
    }

    /// The request that ends the session at the broker; `None` if there is none.
    pub(super) fn close(&mut self) -> Option<FetchRequest> {
        self.end();
        let id = std::mem::take(&mut self.id);
        (id != 0).then(|| FetchRequest { session_id: id, session_epoch: LAST, ..Default::default() })
    }
}

/// The epoch of the request behind one of `epoch`.
const fn following(epoch: i32) -> i32 {
    // 0 and less have meanings of their own.
    if epoch == i32::MAX { 1 } else { epoch + 1 }
}
