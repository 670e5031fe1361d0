//! Units that failed too often, in Redis: looking at them, and delivering them again.

use std::sync::Arc;
use std::time::Duration;

use super::call::strange;
use super::link::Open;
use super::ops::id;
use super::{RedisGroup, scripts};
use crate::group::types::{GroupError, Quarantined, Unpark};

/// Parked units looked at in one call.
const AT_ONCE: usize = 1000;

impl RedisGroup {
    /// See [`crate::group::GroupState::unpark`].
    pub async fn unpark(
        &self,
        topic: &Arc<str>,
        partition: i32,
        offset: Option<i64>,
        what: Unpark,
    ) -> Result<usize, GroupError> {
        let call = |_: &Open| {
            let mut call = self.prepare(&scripts::UNPARK, [&**topic].into_iter());
            call.arg(&*partition.to_string()).arg(i32::from(what == Unpark::Retry)).arg(offset.unwrap_or(-1));
            call
        };
        self.run(call).await?.whole()
    }

    /// See [`crate::group::GroupState::quarantined`]; a thousand at one moment each.
    pub async fn quarantined(&self, topics: &[Arc<str>]) -> Result<Vec<Quarantined>, GroupError> {
        let mut found = Vec::new();
        for first in (0..).step_by(AT_ONCE) {
            let call = |_: &Open| {
                let mut call = self.prepare(&scripts::QUARANTINED, topics.iter().map(|topic| &**topic));
                call.arg(first).arg(AT_ONCE);
                call
            };
            let mut reply = self.run(call).await?;
            let (now, all): (u64, usize) = (reply.whole()?, reply.whole()?);
            let mut list = reply.list()?;
            while list.len() > 0 {
                let name = list.text()?;
                let unit = id(&name, topics).ok_or_else(|| strange(&name))?;
                let (from, to, since) = (list.int()?, list.int()?, list.whole()?);
                let age = Duration::from_millis(now.saturating_sub(since));
                found.push(Quarantined { topic: unit.topic, partition: unit.partition, from, to, age });
            }
            if all < AT_ONCE {
                break;
            }
        }
        found.sort_by(|a, b| (&a.topic, a.partition, a.from).cmp(&(&b.topic, b.partition, b.from)));
        Ok(found)
    }
}
