//! Records of a unit that lie together in one batch, handed out where they lie.

use std::sync::atomic::Ordering;

use super::chunk::UnitInfo;
use super::glance::Glance;
use super::reader::{Current, Walk, find};
use super::slot::Slot;
use crate::wire::records::RecordRef;

/// The most offsets that are claimed at once: what a reader that asks for nothing pins. It claims more than one only while records take less
/// than a microsecond.
pub(super) const CLAIM_MOST: u32 = 16;

/// Whether the record at `offset` is the reader's to hand out: it claims up to `block` offsets from there on, if it has not claimed that
/// one. If not, the consumer has taken the rest of the unit back.
#[inline(always)]
pub(super) fn is_ours(slot: &Slot, claimed: &mut i64, offset: i64, block: u32) -> bool {
    offset < *claimed || claim(slot, claimed, offset, block)
}

#[cold]
fn claim(slot: &Slot, claimed: &mut i64, offset: i64, block: u32) -> bool {
    let to = slot.claim(offset, block);
    *claimed = to.unwrap_or(*claimed);
    to.is_some()
}

/// Records of one unit that lie together in one batch, borrowed from the reader. It ends with the batch, with the unit,
/// or when the unit may not be ours any more.
#[derive(Debug)]
pub struct UnitBatch<'a> {
    current: &'a mut Current,
    slot: &'a Slot,
    glance: Glance,
}

impl<'a> UnitBatch<'a> {
    pub(super) fn new(current: &'a mut Current, slot: &'a Slot) -> Self {
        Self { current, slot, glance: Glance::default() }
    }
}

impl UnitBatch<'_> {
    /// Topic, partition and attempt of the records.
    pub fn unit(&self) -> &UnitInfo {
        &self.current.info
    }

    /// The next record; taking it says that the one before is handled.
    #[allow(clippy::should_implement_trait)] // It lends: a record lives until the next is taken.
    #[inline] // A caller that only wants values pays for nothing else.
    pub fn next(&mut self) -> Option<RecordRef<'_>> {
        // The next call for a batch learns whether the lease was renewed, and goes on with this one then.
        if self.slot.control.revoked.load(Ordering::Relaxed) || !self.glance.before(self.current.deadline) {
            return None;
        }
        let Walk { position, end, open, at } = &mut self.current.walk;
        // An error is met again, and dealt with, by the next call for a batch.
        let (record, pos) = find(open.as_ref()?, at, *position, *end)?.ok()?;
        let block = self.glance.stride().min(CLAIM_MOST);
        if !is_ours(self.slot, &mut self.current.claimed, record.offset, block) {
            return None;
        }
        *at = pos;
        *position = record.offset + 1;
        self.slot.hand(record.offset);
        Some(record)
    }
}
