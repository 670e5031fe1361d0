//! The steps for partitions that have to wait for their leader, each a script.

use std::sync::Arc;

use super::call::{distinct, strange};
use super::link::Open;
use super::{AT_ONCE, RedisGroup, scripts};
use crate::group::types::{GroupError, LateStart, Pend, Pended};

/// Instead of a start: the partition has none that is pending, because it is read or for another reason.
pub(super) const NOT_PENDING: i64 = -2;
/// Instead of a start: the group knows another topic of that name.
const WRONG_TOPIC: i64 = -3;

pub(super) fn late_start(code: i64) -> Result<LateStart, GroupError> {
    LateStart::of_code(code).ok_or_else(|| strange("a pending start that is none"))
}

impl RedisGroup {
    /// See [`crate::group::GroupState::pend`].
    pub async fn pend(&self, starts: &[Pend]) -> Result<Vec<Pended>, GroupError> {
        let mut out = Vec::with_capacity(starts.len());
        for starts in starts.chunks(AT_ONCE) {
            let topics = distinct(starts.iter().map(|s| &s.topic));
            let call = |_: &Open| {
                let mut call = self.prepare(&scripts::PEND, topics.iter().map(|topic| &**topic));
                call.arg(starts.len());
                for s in starts {
                    call.arg(&*s.topic).arg(&*s.partition.to_string()).arg(&s.topic_id.0[..]);
                    call.arg(s.start.code());
                }
                call
            };
            let mut list = self.run(call).await?.list()?;
            for _ in starts {
                out.push(match list.int()? {
                    NOT_PENDING => Pended::Started,
                    WRONG_TOPIC => Pended::WrongTopic,
                    code => Pended::Recorded(late_start(code)?),
                });
            }
        }
        Ok(out)
    }

    /// See [`crate::group::GroupState::suspend`].
    pub async fn suspend(&self, partitions: &[(Arc<str>, i32)]) -> Result<(), GroupError> {
        for partitions in partitions.chunks(AT_ONCE) {
            let topics = distinct(partitions.iter().map(|(topic, _)| topic));
            let call = |_: &Open| {
                let mut call = self.prepare(&scripts::SUSPEND, topics.iter().map(|topic| &**topic));
                call.arg(partitions.len());
                for (topic, partition) in partitions {
                    call.arg(&**topic).arg(&*partition.to_string());
                }
                call
            };
            self.run(call).await?;
        }
        Ok(())
    }
}
