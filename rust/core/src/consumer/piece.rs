//! One fetched batch, shared by the cache and all units whose records it holds.

use std::sync::Arc;

use parking_lot::Mutex;

use super::budget::{Budget, Charge};
use super::cache::Extent;
use crate::wire::records::{Batch, BatchError, OpenBatch};

/// A batch of a fetch answer, and the share of the prefetch budget its answer holds.
#[derive(Debug)]
pub(super) struct Piece {
    batch: Batch,
    /// It is of a transaction that was aborted, and only committed records are read.
    aborted: bool,
    /// Checked and decompressed once, by the reader that comes first; the others share it.
    opened: Mutex<Option<Opened>>,
    /// Held by every batch of one answer: its buffer is freed with the last of them.
    charge: Arc<Charge>,
}

#[derive(Debug)]
struct Opened {
    batch: OpenBatch,
    /// Decompressed bytes are memory of their own.
    _charge: Option<Charge>,
}

impl Piece {
    pub(super) fn new(batch: Batch, aborted: bool, charge: &Arc<Charge>) -> Arc<Self> {
        Arc::new(Self { batch, aborted, opened: Mutex::new(None), charge: Arc::clone(charge) })
    }

    /// Checks the CRC and decompresses to at most `limit` bytes; `None`: no record of it is for users, since it is the marker
    /// of a transaction, or one that was aborted. Called by readers, never under the consumer's lock.
    pub(super) fn open(&self, limit: usize) -> Result<Option<OpenBatch>, BatchError> {
        // Held while decompressing, so that readers of one batch do not all do the same work.
        let mut opened = self.opened.lock();
        if let Some(opened) = &*opened {
            return Ok(Some(opened.batch.clone()));
        }
        let compressed = self.batch.codec() != 0;
        // Also of what nobody is to see: that it may be skipped is written in the bytes that are checked here.
        let batch = self.batch.clone().open(limit)?;
        if self.aborted || batch.is_control() {
            return Ok(None);
        }
        let charge = compressed.then(|| self.budget().take(batch.body().len()));
        *opened = Some(Opened { batch: batch.clone(), _charge: charge });
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
        self.batch.next_offset()
    }

    fn bytes(&self) -> usize {
        self.batch.len()
    }
}
