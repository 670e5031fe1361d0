//! What crosses from a reader to a caller that takes records by the chunk (the JNI boundary): where records are put,
//! and the cell in which the caller says how far it has come.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicU64, Ordering};

use bytes::Bytes;

use crate::wire::records::RecordRef;

/// The control cell of a slot: one cache line that the caller's side and the heartbeat share, so that progress is
/// told without a call and without a lock.
///
/// Before the caller hands out a record it claims it: the consumer takes back what is not claimed when the caller asks for nothing for a
/// while and others wait. The first record of a chunk is claimed when the chunk is filled.
///
/// The layout is part of the JNI boundary: `claims` at byte 0, `until` at 8, `base` at 16, `taken` at 24, `revoked` at 28, 64 bytes in
/// all.
#[repr(C, align(64))]
#[derive(Debug, Default)]
pub struct SlotControl {
    /// How far the caller has claimed of its unit (lower half), and where claims end (upper half), in offsets from `base`. The caller
    /// raises the lower half, the consumer lowers the upper one, both by compare-and-set. Equal halves: nothing more may be claimed.
    pub claims: AtomicU64,
    /// Until when records of the chunk may be handed out, in nanoseconds since the reader was made; renewals move it. A
    /// process that slept beyond it wakes up with `revoked` not set yet: the caller looks at its clock too, and when it is
    /// late calls [`Reader::look`](super::Reader::look), after which `revoked` tells.
    pub until: AtomicI64,
    /// The offset that `claims` counts from. Changes with the unit, in calls of the caller only.
    pub base: AtomicI64,
    /// How many records of the current chunk the application has taken: record `taken - 1` is in its hands, those
    /// before it are handled. Written by the caller with release order; set to 0 by every fill.
    pub taken: AtomicU32,
    /// Set when the unit of the current chunk is no longer this reader's: what was not taken yet must not be handed
    /// out any more. The caller looks before every record; the next fill clears it.
    pub revoked: AtomicBool,
}

const _: () = assert!(size_of::<SlotControl>() == 64 && std::mem::offset_of!(SlotControl, claims) == 0);
const _: () =
    assert!(std::mem::offset_of!(SlotControl, until) == 8 && std::mem::offset_of!(SlotControl, base) == 16);
const _: () = assert!(
    std::mem::offset_of!(SlotControl, taken) == 24 && std::mem::offset_of!(SlotControl, revoked) == 28
);

impl SlotControl {
    /// Says that the application has taken `n` records of the current chunk.
    pub fn set_taken(&self, n: u32) {
        self.taken.store(n, Ordering::Release);
    }

    /// Whether the rest of the chunk must not be handed out.
    pub fn is_revoked(&self) -> bool {
        self.revoked.load(Ordering::Acquire)
    }
}

/// What all records of one chunk have in common.
#[derive(Debug, Clone)]
pub struct UnitInfo {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// 1 for the first delivery, more when a delivery before this one failed.
    pub attempt: u32,
}

/// What a sink did with a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Put {
    /// It is in the chunk.
    Taken,
    /// There is no room left; the record stays with the reader and opens the next chunk.
    Full,
    /// The chunk is empty and still too small for this record, which needs this many bytes.
    TooSmall(usize),
}

/// Where a fill puts records, e.g. two arrays that Java owns.
pub trait ChunkSink {
    /// The records put from now on lie in `body`: who wants to can keep it and copy many of them at once.
    fn batch(&mut self, body: &Bytes) {
        let _ = body;
    }

    /// Copies one record. Called in offset order, all records of one fill being of one unit.
    fn put(&mut self, record: &RecordRef<'_>, unit: &UnitInfo) -> Put;
}

/// How a fill ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filled {
    /// So many records were put, at least one. The first is the caller's; the others it claims before it hands them out.
    Records(u32),
    /// Nothing was put: the next record needs a chunk of this many bytes. Grow it and fill again; nothing is lost.
    TooSmall(usize),
    /// The consumer is closed; there will be no more.
    Closed,
}
