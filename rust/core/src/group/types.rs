//! What members and the group say to each other: plain values, so that they can travel.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::config::{Config, Ordering};
use crate::error::ErrorKind;
use crate::wire::Uuid;

/// A member: random for each instance and process start, so that no two ever share one.
pub type ConsumerId = Arc<str>;

/// Names a unit: its partition and the offset it was carved at. It keeps its name while it shrinks from the front.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnitId {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: i32,
    /// The offset it was carved at.
    pub carved_at: i64,
}

impl fmt::Display for UnitId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.topic, self.partition, self.carved_at)
    }
}

/// A unit as its holder sees it. (consumer, request, id, end) is the claim's identity, minted by the client: a counter of the
/// server's could repeat after it lost its latest writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unit {
    /// Its name.
    pub id: UnitId,
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: i32,
    /// The id of the topic it was carved of, zero if the brokers have none: another topic may have the name by now.
    pub topic_id: Uuid,
    /// The first offset not handled yet.
    pub start: i64,
    /// The offset behind its last.
    pub end: i64,
    /// Which delivery this is, from 1.
    pub attempt: u32,
    /// The request that claimed it.
    pub request: u64,
    /// The partition's leader epoch the group believes in.
    pub leader_epoch: i32,
    /// When the lease ends, on the group's clock.
    pub deadline: u64,
}

/// "Handled": the whole unit.
#[derive(Debug, Clone)]
pub struct Ack {
    /// The unit.
    pub id: UnitId,
    /// The request that claimed it.
    pub request: u64,
    /// Its end.
    pub end: i64,
    /// The high watermark seen while fetching it, -1 if none.
    pub high_watermark: i64,
    /// The leader epoch that was of, -1 if none.
    pub leader_epoch: i32,
    /// Offsets that `bytes` is for, 0 if nothing was measured. (Offsets, not records: units are cut by offsets, and compaction
    /// leaves gaps.)
    pub records: u32,
    /// Bytes of those. Averaged per partition, it sizes the next units.
    pub bytes: u64,
}

/// "Take it back", from `progress` on.
#[derive(Debug, Clone)]
pub struct Nack {
    /// The unit.
    pub id: UnitId,
    /// The request that claimed it.
    pub request: u64,
    /// Its end.
    pub end: i64,
    /// The first offset not handled; with a delay, the offset of the record that failed. After the last attempt that record
    /// alone is parked.
    pub progress: i64,
    /// Wait before it is delivered again, at most a day. `None`: a graceful release, which is no failed attempt.
    pub delay: Option<Duration>,
    /// Whether a refusal uses up an attempt. It does not while nothing tells that the record is at fault and not the handler:
    /// then the unit waits its delay, keeps the attempts it had, and is never parked.
    pub counts: bool,
    /// `[progress, through)` cannot be read: it is parked at once, whatever the attempt, and the rest goes on. Only with a delay.
    pub through: Option<i64>,
    /// Why, for events.
    pub reason: Arc<str>,
}

/// "Still at it", having handled everything before `progress`.
#[derive(Debug, Clone)]
pub struct Renew {
    /// The unit.
    pub id: UnitId,
    /// The request that claimed it.
    pub request: u64,
    /// Its end.
    pub end: i64,
    /// The first offset not handled.
    pub progress: i64,
}

/// "Take its tail back": the holder keeps `[progress, at)`, and has handed out nothing from `at` on. Its hold's end is `at`
/// from now on.
#[derive(Debug, Clone)]
pub struct Shorten {
    /// The unit.
    pub id: UnitId,
    /// The request that claimed it.
    pub request: u64,
    /// Its end until now.
    pub end: i64,
    /// Its end from now on: behind the progress, before `end`.
    pub at: i64,
}

/// One round of a member: what it has done and what it wants. May be sent any number of times.
#[derive(Debug, Clone)]
pub struct ExchangeRequest {
    /// Who.
    pub consumer: ConsumerId,
    /// Counts up from 1 with every round that wants units; the same number gets the same units again, a lower one gets none.
    pub request: u64,
    /// What it may be given units of.
    pub topics: Vec<Arc<str>>,
    /// Units handled.
    pub acks: Vec<Ack>,
    /// Units given back.
    pub nacks: Vec<Nack>,
    /// Units of which the tail goes back. Done before the renewals, which name the new end.
    pub shortens: Vec<Shorten>,
    /// Units still worked on.
    pub renews: Vec<Renew>,
    /// How many units it wants.
    pub want: u32,
    /// Most records of a unit: what its readers handle in the time a unit aims at.
    pub max_records: u32,
    /// A share of the backlog smaller than this is not worth a unit: a unit costs a fetch. At least 1.
    pub least_records: u32,
    /// Bytes a unit aims at.
    pub target_bytes: u64,
    /// Its readers, for sharing what is left.
    pub readers: u32,
    /// Those of its readers that wait and have no unit.
    pub lacking: u32,
    /// Whether it would watch for new records.
    pub organise: bool,
}

impl ExchangeRequest {
    /// A round that says and wants nothing.
    pub fn new(consumer: ConsumerId, request: u64, topics: Vec<Arc<str>>) -> Self {
        Self {
            consumer,
            request,
            topics,
            acks: Vec::new(),
            nacks: Vec::new(),
            shortens: Vec::new(),
            renews: Vec::new(),
            want: 0,
            max_records: u32::MAX,
            least_records: 1,
            target_bytes: u64::MAX,
            readers: 1,
            lacking: 0,
            organise: false,
        }
    }
}

/// What became of an acknowledgement, a refusal, a shortening or a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Done.
    Done,
    /// The unit is finished already: a repeated request.
    Gone,
    /// Somebody else has it, or it was cut: hand out nothing of it any more.
    Fenced,
}

/// The group's answer to a round.
#[derive(Debug, Clone)]
pub struct ExchangeReply {
    /// The group's clock, ms.
    pub now: u64,
    /// One per acknowledgement.
    pub acks: Vec<Outcome>,
    /// One per refusal.
    pub nacks: Vec<Outcome>,
    /// One per shortening.
    pub shortens: Vec<Outcome>,
    /// One per renewal.
    pub renews: Vec<Outcome>,
    /// The units claimed.
    pub units: Vec<Unit>,
    /// For each topic of the request how many readers of other members wait for a unit of it that is not there.
    pub lacking: Vec<u32>,
    /// Whether this member watches for new records now.
    pub organiser: bool,
}

/// What is known of a partition's log.
#[derive(Debug, Clone)]
pub struct Publish {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: i32,
    /// The topic's id, zero if the broker has none.
    pub topic_id: Uuid,
    /// The leader's epoch.
    pub leader_epoch: i32,
    /// Its high watermark.
    pub high_watermark: i64,
    /// Its log start offset.
    pub log_start: i64,
    /// Where the epoch the group stored ends in this leader's log, if it was asked (KIP-320).
    pub epoch_end: Option<EpochEnd>,
}

/// Where a leader epoch ends in a leader's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EpochEnd {
    /// The epoch that was asked for. The end of another than the one the group has stored says nothing: it may stand
    /// behind what was cut.
    pub epoch: i32,
    /// Its end.
    pub end: i64,
}

/// What became of a [`Publish`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    /// Taken.
    Done,
    /// The partition was never initialised.
    Unknown,
    /// It is of a topic that was deleted or re-created.
    WrongTopic,
    /// It comes from an older leader.
    Stale,
    /// A new leader: ask where the stored epoch ends, then publish again.
    AskEpoch(i32),
    /// The log was cut at this offset; what was open above it is gone.
    Truncated(i64),
    /// Retention deleted `[from, to)` before anybody could read it.
    Lost {
        /// First lost offset.
        from: i64,
        /// First offset that is there.
        to: i64,
    },
}

/// Where a partition starts.
#[derive(Debug, Clone)]
pub struct Init {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: i32,
    /// The topic's id, zero if the broker has none.
    pub topic_id: Uuid,
    /// The leader's epoch, -1 if not known.
    pub leader_epoch: i32,
    /// The first offset to hand out.
    pub start: i64,
    /// The high watermark.
    pub high_watermark: i64,
    /// The log start offset.
    pub log_start: i64,
    /// What is known to be handled above `start` already, `[from, to)`, ascending: a commit remembers it. What lies between
    /// is handed out, each gap as a unit.
    pub done: Vec<(i64, i64)>,
}

/// A partition as the group sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionView {
    /// Topic.
    pub topic: Arc<str>,
    /// Partition.
    pub partition: i32,
    /// The topic's id.
    pub topic_id: Uuid,
    /// The next offset to hand out.
    pub cursor: i64,
    /// The end of what is known to be there.
    pub high_watermark: i64,
    /// The committed offset: everything below was handled.
    pub low_watermark: i64,
    /// The log start offset.
    pub log_start: i64,
    /// Changes when positions are moved by force; a seek names it.
    pub generation: u64,
    /// The leader epoch believed in.
    pub leader_epoch: i32,
    /// Units handed out or waiting for delivery.
    pub in_flight: u32,
    /// Units that are not delivered any more, after too many attempts.
    pub parked: u32,
    /// Whether an operator stopped its delivery.
    pub paused: bool,
}

/// A member as the group sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberView {
    /// Who.
    pub consumer: ConsumerId,
    /// When it was heard of last, on the group's clock, ms.
    pub seen: u64,
    /// For how long it has not been heard of, ms.
    pub silent: u64,
    /// What it reads, as it said last; empty while it is still connecting.
    pub topics: Vec<Arc<str>>,
}

/// Where a partition starts that the group does not read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartAt {
    /// Where the configuration says (`use-earliest`).
    Policy,
    /// At its first record: it appeared after somebody of the group subscribed to its topic.
    Earliest,
}

/// What to do with parked units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unpark {
    /// Deliver them again, with all attempts.
    Retry,
    /// Count them as handled.
    Discard,
}

/// Something an operator may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Event {
    Expired {
        unit: UnitId,
        consumer: ConsumerId,
    },
    Nacked {
        unit: UnitId,
        consumer: ConsumerId,
        reason: Arc<str>,
    },
    Split {
        unit: UnitId,
        at: i64,
    },
    Parked {
        unit: UnitId,
        from: i64,
        to: i64,
    },
    /// So many units are parked that the partition takes no new work.
    Blocked {
        topic: Arc<str>,
        partition: i32,
        parked: u32,
    },
    Truncated {
        topic: Arc<str>,
        partition: i32,
        from: i64,
        to: i64,
    },
    Lost {
        topic: Arc<str>,
        partition: i32,
        from: i64,
        to: i64,
    },
    /// Somebody moved the position: it was `from`, the low watermark.
    Sought {
        topic: Arc<str>,
        partition: i32,
        from: i64,
        to: i64,
    },
    Recreated {
        topic: Arc<str>,
        partition: i32,
    },
}

/// What all members must agree on; the first one's stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSettings {
    /// How long a unit belongs to its holder without a renewal, ms.
    pub lease: u64,
    /// Deliveries of a unit before it is split, and at one record parked.
    pub max_attempts: u32,
    /// Most records of a unit.
    pub consume_step: u32,
    /// Whether one unit of a partition at a time.
    pub ordering: Ordering,
    /// Wait after an expired lease, ms; doubles per attempt, at most 60 s.
    pub retry_backoff: u64,
}

/// Units of one partition in flight at a time; with `Ordering::Partition` one.
const UNITS_PER_PARTITION: u32 = 4096;

impl GroupSettings {
    /// The group's part of the configuration.
    pub fn of(conf: &Config) -> Self {
        Self {
            lease: conf.lease.as_millis() as u64,
            max_attempts: conf.max_attempts,
            consume_step: conf.consume_step,
            ordering: conf.ordering,
            retry_backoff: conf.retry_backoff.as_millis() as u64,
        }
    }

    /// Units of a partition that may be in flight.
    pub(super) const fn units_per_partition(&self) -> u32 {
        match self.ordering {
            Ordering::None => UNITS_PER_PARTITION,
            Ordering::Partition => 1,
        }
    }

    /// Whether a member with `other` may join.
    pub(super) fn agree(&self, other: &Self) -> Result<(), GroupError> {
        let pairs = [
            ("lease-ms", self.lease.to_string(), other.lease.to_string()),
            ("max-attempts", self.max_attempts.to_string(), other.max_attempts.to_string()),
            ("consume-step", self.consume_step.to_string(), other.consume_step.to_string()),
            (
                "ordering",
                format!("{:?}", self.ordering).to_lowercase(),
                format!("{:?}", other.ordering).to_lowercase(),
            ),
            ("retry-backoff-ms", self.retry_backoff.to_string(), other.retry_backoff.to_string()),
        ];
        match pairs.into_iter().find(|(_, ours, theirs)| ours != theirs) {
            None => Ok(()),
            Some((setting, group, member)) => Err(GroupError::Disagree { setting, group, member }),
        }
    }
}

/// Why the group does not serve a member.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GroupError {
    /// A setting that all members must share differs. A member that has joined meets it when the group was made anew by others.
    #[error("this consumer has {setting}={member}, its group has {setting}={group}; all members must agree")]
    Disagree {
        /// The setting.
        setting: &'static str,
        /// The group's value.
        group: String,
        /// The member's value.
        member: String,
    },
    /// The group's positions are of another Kafka cluster.
    #[error(
        "group \"{group}\" in Redis {address} is of Kafka cluster {theirs}, and this consumer reads Kafka cluster {ours}: its \
         positions are of other records. Name another group or another database of Redis. If Kafka was set up anew, delete the \
         group (Consumer.deleteGroup)"
    )]
    OtherCluster {
        /// The group.
        group: String,
        /// `host:port` of Redis.
        address: String,
        /// The id of the group's cluster.
        theirs: String,
        /// The id of this consumer's cluster.
        ours: String,
    },
    /// The group was deleted while this member used it.
    #[error("the group was deleted; close this consumer, and connect again to start the group anew")]
    Deleted,
    /// Redis was not reached, did not answer in time or takes no writes for now. It is asked again.
    #[error("Redis {address} {what}")]
    Away {
        /// `host:port`.
        address: String,
        /// What it does.
        what: String,
    },
    /// What is at the address cannot hold a group, or not for this user: until somebody mends that. A member that has joined asks
    /// again, ever more rarely.
    #[error("Redis {address} {what}")]
    Refused {
        /// `host:port`.
        address: String,
        /// Why.
        what: String,
    },
    /// The server is not the one that the group was last on: what it holds must be compared with the commits in Kafka first.
    #[error(
        "Redis was started anew or another one took over; positions are being compared with those committed to Kafka"
    )]
    Reconcile,
    /// The group was made by another version of this library.
    #[error(
        "group \"{group}\" has layout {theirs} in Redis, this version reads {ours}; let all its members have the same version"
    )]
    Version {
        /// The group.
        group: String,
        /// Its layout.
        theirs: String,
        /// Ours.
        ours: &'static str,
    },
    /// An offset that Redis's scripts cannot calculate with.
    #[error("offset {0} is larger than 2^53, which a group in Redis cannot hold")]
    TooLarge(i64),
    /// Redis said something that is not understood: a defect, or something else writes to the group's keys.
    #[error("{0}: does something else write to the keys of this group?")]
    Strange(String),
    /// Too many groups of this process are in use.
    #[error(
        "{0} embedded groups of this process are in use, no more are allowed: close consumers that you do not need"
    )]
    TooMany(usize),
}

impl GroupError {
    /// Whether asking again mends nothing, so that a member that has joined ends. What `connect` fails for at once is for people to
    /// mend, and they mend it while members run: a password, a right, a memory policy, members with other settings that are
    /// stopped one after the other. Final is what only another process can do better, or what was meant: the group was deleted,
    /// is another Kafka cluster's, its keys have a layout that this version does not read, a defect.
    pub const fn is_final(&self) -> bool {
        match self {
            Self::Disagree { .. } | Self::Refused { .. } | Self::Away { .. } | Self::Reconcile => false,
            Self::OtherCluster { .. }
            | Self::Deleted
            | Self::TooMany(_)
            | Self::Version { .. }
            | Self::TooLarge(_)
            | Self::Strange(_) => true,
        }
    }

    /// Whether the group was reached and refuses this member until somebody mends something.
    pub const fn is_refusal(&self) -> bool {
        matches!(self, Self::Disagree { .. } | Self::Refused { .. })
    }

    /// The class: what a caller can do about it.
    pub const fn kind(&self) -> ErrorKind {
        match self {
            Self::Disagree { .. } | Self::Refused { .. } => ErrorKind::Config,
            Self::Away { .. } | Self::Reconcile => ErrorKind::Unreachable,
            Self::OtherCluster { .. }
            | Self::Deleted
            | Self::TooMany(_)
            | Self::Version { .. }
            | Self::TooLarge(_)
            | Self::Strange(_) => ErrorKind::Group,
        }
    }
}
