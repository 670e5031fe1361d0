//! A consumer group: who works on which records.
//!
//! Members share **work units**, slices `[start, end)` of a partition, over one state machine ([`GroupState`]) that
//! stands behind [`Coordinator`]. A partition is a cursor, not a list: publishing raises its high watermark, claiming
//! carves the next unit off its front, and the low watermark is where the oldest unfinished unit stands. So memory is
//! O(partitions + units in flight), whatever the backlog, and two organisers are harmless.
//!
//! [`Embedded`] keeps the state in this process: a group without Redis, and the oracle for the one with it.
//! `docs/GROUPS.md` is the contract.

mod commit;
mod coordinator;
mod embedded;
mod redis;
mod state;
mod types;
mod units;

#[cfg(test)]
mod sim;

pub(crate) use commit::{decode as decode_commit, encode as encode_commit, is_foreign as is_foreign_commit};
pub use coordinator::Coordinator;
use coordinator::nonce;
pub use embedded::Embedded;
pub use redis::RedisGroup;
pub use state::GroupState;
pub use types::{
    Ack, ConsumerId, EpochEnd, Event, ExchangeReply, ExchangeRequest, GroupError, GroupSettings, Init,
    MemberView, Nack, Outcome, PartitionView, Publish, Published, Renew, Shorten, StartAt, Unit, UnitId,
    Unpark,
};
