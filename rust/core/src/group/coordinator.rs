//! The door through which consumers speak to a group, wherever it lives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::embedded::Embedded;
use super::redis::RedisGroup;
use super::state::GroupState;
use super::types::{
    ConsumerId, Event, ExchangeReply, ExchangeRequest, GroupError, Init, MemberView, Overview, PartitionView,
    Pend, Pended, Publish, Published, Quarantined, StartAt, Unpark,
};

/// A group, wherever it lives. Each method is one atomic step of it.
///
/// Dropping a future may or may not have done the step; that is why requests can be repeated. Every method fails with
/// [`GroupError::Deleted`] once the group was deleted.
#[derive(Debug, Clone)]
pub enum Coordinator {
    /// In this process.
    Embedded(Arc<Embedded>),
    /// In Redis.
    Redis(Arc<RedisGroup>),
}

impl Coordinator {
    /// See [`GroupState::exchange`].
    pub async fn exchange(&self, request: &ExchangeRequest) -> Result<ExchangeReply, GroupError> {
        match self {
            Self::Embedded(group) => group.step(|state, now| state.exchange(now, request)),
            Self::Redis(group) => group.exchange(request).await,
        }
    }

    /// See [`GroupState::publish`].
    pub async fn publish(&self, facts: &[Publish]) -> Result<Vec<Published>, GroupError> {
        match self {
            Self::Embedded(group) => group.step(|state, _| state.publish(facts, nonce())),
            Self::Redis(group) => group.publish(facts).await,
        }
    }

    /// See [`GroupState::subscribe`]; one answer for each `(topic, exists)`.
    pub async fn subscribe(&self, topics: &[(Arc<str>, bool)]) -> Result<Vec<StartAt>, GroupError> {
        match self {
            Self::Embedded(group) => group.step(|state, _| {
                topics.iter().map(|(topic, exists)| state.subscribe(topic, *exists)).collect()
            }),
            Self::Redis(group) => group.subscribe(topics).await,
        }
    }

    /// See [`GroupState::init`].
    pub async fn init(&self, starts: &[Init]) -> Result<usize, GroupError> {
        match self {
            Self::Embedded(group) => group.step(|state, _| state.init(starts, nonce())),
            Self::Redis(group) => group.init(starts).await,
        }
    }

    /// See [`GroupState::pend`]; one answer for each.
    pub async fn pend(&self, starts: &[Pend]) -> Result<Vec<Pended>, GroupError> {
        match self {
            Self::Embedded(group) => group.step(|state, _| state.pend(starts)),
            Self::Redis(group) => group.pend(starts).await,
        }
    }

    /// See [`GroupState::overview`].
    pub async fn overview(&self, topics: &[Arc<str>]) -> Result<Overview, GroupError> {
        match self {
            Self::Embedded(group) => group.step(|state, _| state.overview(topics)),
            Self::Redis(group) => group.overview(topics).await,
        }
    }

    /// See [`GroupState::seek`].
    pub async fn seek(
        &self,
        topic: &Arc<str>,
        partition: i32,
        generation: u64,
        offset: i64,
    ) -> Result<bool, GroupError> {
        match self {
            Self::Embedded(group) => {
                group.step(|state, _| state.seek(topic, partition, generation, offset, nonce()))
            }
            Self::Redis(group) => group.seek(topic, partition, generation, offset, nonce()).await,
        }
    }

    /// See [`GroupState::advance`]; for each `(topic, partition, generation, offset)`.
    pub async fn advance(&self, facts: &[(Arc<str>, i32, u64, i64)]) -> Result<(), GroupError> {
        match self {
            Self::Embedded(group) => group.step(|state, _| {
                for (topic, partition, generation, offset) in facts {
                    state.advance(topic, *partition, *generation, *offset);
                }
            }),
            Self::Redis(group) => group.advance(facts).await,
        }
    }

    /// See [`GroupState::pause`].
    pub async fn pause(
        &self,
        topic: &Arc<str>,
        partition: Option<i32>,
        paused: bool,
    ) -> Result<usize, GroupError> {
        match self {
            Self::Embedded(group) => group.step(|state, _| state.pause(topic, partition, paused)),
            Self::Redis(group) => group.pause(topic, partition, paused).await,
        }
    }

    /// See [`GroupState::unpark`].
    pub async fn unpark(
        &self,
        topic: &Arc<str>,
        partition: i32,
        offset: Option<i64>,
        what: Unpark,
    ) -> Result<usize, GroupError> {
        match self {
            Self::Embedded(group) => {
                group.step(|state, now| state.unpark(now, topic, partition, offset, what))
            }
            Self::Redis(group) => group.unpark(topic, partition, offset, what).await,
        }
    }

    /// See [`GroupState::quarantined`].
    pub async fn quarantined(&self, topics: &[Arc<str>]) -> Result<Vec<Quarantined>, GroupError> {
        match self {
            Self::Embedded(group) => group.step(|state, now| state.quarantined(now, topics)),
            Self::Redis(group) => group.quarantined(topics).await,
        }
    }

    /// See [`GroupState::tick`]. An embedded group does it by itself.
    pub async fn tick(&self) -> Result<(), GroupError> {
        match self {
            Self::Embedded(group) => group.step(GroupState::tick),
            Self::Redis(group) => group.tick().await,
        }
    }

    /// See [`GroupState::leave`].
    pub async fn leave(&self, consumer: &ConsumerId) -> Result<(), GroupError> {
        match self {
            Self::Embedded(group) => group.step(|state, now| state.leave(now, consumer)),
            Self::Redis(group) => group.leave(consumer).await,
        }
    }

    /// Forgets the group and its positions. Its members get [`GroupError::Deleted`] from now on.
    pub async fn delete(&self) -> Result<(), GroupError> {
        match self {
            Self::Embedded(group) => {
                group.delete();
                Ok(())
            }
            Self::Redis(group) => group.delete().await,
        }
    }

    /// All topics that the group knows, whoever reads them.
    pub async fn topics(&self) -> Result<Vec<Arc<str>>, GroupError> {
        match self {
            Self::Embedded(group) => group.step(|state, _| state.topics()),
            Self::Redis(group) => group.topics().await,
        }
    }

    /// See [`GroupState::who`].
    pub async fn who(&self) -> Result<Vec<MemberView>, GroupError> {
        match self {
            Self::Embedded(group) => group.step(|state, now| state.who(now)),
            Self::Redis(group) => group.who().await,
        }
    }

    /// See [`GroupState::partitions`].
    pub async fn partitions(&self, topics: &[Arc<str>]) -> Result<Vec<PartitionView>, GroupError> {
        match self {
            Self::Embedded(group) => group.step(|state, _| state.partitions(topics)),
            Self::Redis(group) => group.partitions(topics).await,
        }
    }

    /// Waits until a unit of these topics can be claimed (`true`), or `most` is over. Units there are wake as many waiting
    /// members. Cancel-safe: dropping it forgets the waiting, and passes a wake-up on that nobody will use.
    pub async fn work(&self, topics: &[Arc<str>], most: Duration) -> Result<bool, GroupError> {
        match self {
            Self::Embedded(group) => group.work(topics, most).await,
            Self::Redis(group) => Ok(group.work(most).await),
        }
    }

    /// How often the group was found gone and made anew since this member joined: its starts are to be fixed anew each time.
    pub fn lives(&self) -> u64 {
        match self {
            Self::Embedded(_) => 0,
            Self::Redis(group) => group.lives(),
        }
    }

    /// The events since it was asked last: by anybody, or in Redis by this member.
    pub async fn events(&self) -> Result<Vec<Event>, GroupError> {
        match self {
            Self::Embedded(group) => group.step(|state, _| state.take_events()),
            Self::Redis(group) => group.events().await,
        }
    }
}

/// A generation: random, so that it cannot repeat, whatever part of its history a group forgets. Below 2^53, so that it is a
/// whole number everywhere.
pub(super) fn nonce() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    // Fresh keys of the standard library's hash maps: randomness from the system without a dependency.
    RandomState::new().hash_one(Instant::now()) >> 11
}
