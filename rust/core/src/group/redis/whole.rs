//! Keys that do not fit together, because something else wrote to them: a mistaken `DEL`, an eviction, another program.
//!
//! Each step is atomic, so rows and indexes always agree. Where they do not, nothing that the group says can be believed, and what
//! it does may stall in silence. So such a group counts as lost: its keys are dropped, it is made anew, and its members fix the
//! starts of their partitions by Kafka's commits, as after a FLUSHALL. The organiser compares counts once a second; a member whose
//! script failed, or got an answer that makes no sense, has everything compared at once.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::link::Open;
use super::{Answer, Lost, RedisGroup, scripts};
use crate::group::types::GroupError;

/// How thoroughly keys are compared.
#[derive(Debug, Clone, Copy)]
pub(in crate::group) enum Depth {
    /// Counts, and the rows of members and topics: O(members + topics).
    Counts,
    /// The rows of partitions, too.
    Partitions,
    /// The rows of units, too.
    Units,
}

/// Every so many seconds the organiser has the partitions compared, too. 10,000 of them take about 30 ms of its CPU.
const PARTITIONS_EVERY: u32 = 30;

enum Keys {
    Whole,
    Damaged { what: String, topics: Vec<Arc<str>> },
    Gone,
}

impl RedisGroup {
    /// Once a second, by the organiser: compares, and makes a group anew that is damaged.
    pub(super) async fn look_after_keys(&self) -> Result<(), GroupError> {
        let tick = self.compared.fetch_add(1, Ordering::Relaxed) + 1;
        let depth = if tick.is_multiple_of(PARTITIONS_EVERY) { Depth::Partitions } else { Depth::Counts };
        self.mend(depth).await.map(drop)
    }

    /// Compares, and makes a group anew that is damaged or gone; whether it was.
    pub(in crate::group) async fn mend(&self, depth: Depth) -> Result<bool, GroupError> {
        let open = self.link.open().await?;
        let known = self.known();
        match self.compare(&open, depth).await? {
            Keys::Whole => Ok(false),
            Keys::Gone => self.enter_again(&open, &known, &Lost::Gone).await,
            Keys::Damaged { what, topics } => {
                self.enter_again(&open, &known, &Lost::Damaged { what, topics }).await
            }
        }
    }

    /// A script failed with `error`, or its answer made no sense, in the incarnation `known`. When the group is damaged it is made anew, and the call may be
    /// made again. Else it is a defect: the error.
    pub(super) async fn examine(&self, error: GroupError, known: &Arc<str>) -> Result<(), GroupError> {
        if *self.incarnation.lock() != *known {
            // Another call of this member found the same, and the group was made anew meanwhile.
            return Ok(());
        }
        let mended = match self.mend(Depth::Units).await {
            Err(GroupError::Strange(what)) => {
                // Not even the group's own row can be read. One that can is not given up for what may be a defect of ours.
                let open = self.link.open().await?;
                self.enter_again(&open, known, &Lost::Unreadable { what }).await?
            }
            mended => mended?,
        };
        if mended { Ok(()) } else { Err(error) }
    }

    /// What does not fit together, for simulations.
    #[cfg(test)]
    pub(in crate::group) async fn damage(&self) -> Result<Option<String>, GroupError> {
        Ok(match self.compare(&self.link.open().await?, Depth::Units).await? {
            Keys::Damaged { what, .. } => Some(what),
            // Of a life that is over: it is the next call's to find out.
            Keys::Whole | Keys::Gone => None,
        })
    }

    async fn compare(&self, open: &Open, depth: Depth) -> Result<Keys, GroupError> {
        let mut topics = self.topics.lock().clone();
        match self.all_topics(open).await {
            Ok(all) => topics.extend(all),
            // That key is of another type, which is for the script to say.
            Err(GroupError::Strange(_)) => {}
            Err(error) => return Err(error),
        }
        let mut call = self.prepare(&scripts::CHECK, topics.iter().map(|topic| &**topic));
        call.arg(depth as i32);
        let Answer::Ok(mut reply) = self.raw(open, call).await? else { return Ok(Keys::Gone) };
        let (what, mut named) = (reply.text()?, reply.list()?);
        if what.is_empty() {
            return Ok(Keys::Whole);
        }
        while named.len() > 0 {
            topics.insert(named.text()?.into());
        }
        Ok(Keys::Damaged { what, topics: topics.into_iter().collect() })
    }
}
