//! One fetched batch, shared by the cache and all units whose records it holds.

use std::sync::Arc;

use parking_lot::Mutex;

use super::budget::{Budget, Charge};
use super::cache::Extent;
use crate::wire::BatchError;
use crate::wire::records::{Batch, OpenBatch};

/// A batch of a fetch answer, and the share of the prefetch budget its answer holds.
#[derive(Debug)]
pub(super) struct Piece {
    batch: Batch,
    /// Where the log goes on behind it.
    next: i64,
    /// It is of a transaction that was aborted, and only committed records are read.
    aborted: bool,
    /// Checked and decompressed once, by the reader that comes first; the others share it.
    opened: Mutex<Opened>,
    /// Held by every batch of one answer: its buffer is freed with the last of them.
    charge: Arc<Charge>,
}

/// What is known of a batch's records.
#[derive(Debug)]
enum Opened {
    NotYet,
    /// Nobody is to see them.
    Void,
    /// Decompressed bytes are memory of their own, and charged.
    Batch {
        batch: OpenBatch,
        _charge: Option<Charge>,
    },
}

impl Piece {
    /// `after`: where the batch behind it begins, if that is known. A batch that reaches farther is damaged, and would hide those
    /// behind it.
    pub(super) fn new(batch: Batch, after: Option<i64>, aborted: bool, charge: &Arc<Charge>) -> Arc<Self> {
        let next = batch.next_offset();
        let next = after.filter(|after| *after > batch.base_offset()).map_or(next, |after| next.min(after));
        let (opened, charge) = (Mutex::new(Opened::NotYet), Arc::clone(charge));
        Arc::new(Self { batch, next, aborted, opened, charge })
    }

    /// Checks the CRC and decompresses to at most `limit` bytes; `None`: no record of it is for users, since it is the marker
    /// of a transaction, or one that was aborted. Called by readers, never under the consumer's lock.
    pub(super) fn open(&self, limit: usize) -> Result<Option<OpenBatch>, BatchError> {
        // Held while decompressing, so that readers of one batch do not all do the same work.
        let mut opened = self.opened.lock();
        match &*opened {
            Opened::NotYet => {}
            Opened::Void => return Ok(None),
            Opened::Batch { batch, .. } => return Ok(Some(batch.clone())),
        }
        if self.aborted || self.batch.is_control() {
            // That it may be skipped is written in the bytes that are checked here.
            self.batch.check()?;
            *opened = Opened::Void;
            return Ok(None);
        }
        let compressed = self.batch.codec() != 0;
        let batch = self.batch.clone().open(limit)?;
        let charge = compressed.then(|| self.budget().take(batch.body().len()));
        *opened = Opened::Batch { batch: batch.clone(), _charge: charge };
        Ok(Some(batch))
    }

    fn budget(&self) -> &Arc<Budget> {
        self.charge.budget()
    }
}

impl Extent for Arc<Piece> {
    fn base(&self) -> i64 {
        self.batch.base_offset()
    }

    fn next(&self) -> i64 {
        self.next
    }

    fn bytes(&self) -> usize {
        self.batch.len()
    }
}
