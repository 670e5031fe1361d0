//! A list that only grows and is read without a lock: topics and partitions are looked up once a record.

use parking_lot::Mutex;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Entries of the first chunk; each further chunk is twice as long.
const FIRST: u32 = 8;
/// Enough chunks for 2^27 entries.
const CHUNKS: usize = 24;

/// Chunks that never move, so a reference stays valid while the table lives.
pub(super) struct Table<T> {
    len: AtomicU32,
    growing: Mutex<()>,
    chunks: [OnceLock<Box<[OnceLock<T>]>>; CHUNKS],
}

impl<T> Table<T> {
    pub(super) fn new() -> Self {
        Self { len: AtomicU32::new(0), growing: Mutex::new(()), chunks: [const { OnceLock::new() }; CHUNKS] }
    }

    /// Entries that can be read.
    #[inline]
    pub(super) fn len(&self) -> u32 {
        self.len.load(Ordering::Acquire)
    }

    #[inline]
    pub(super) fn get(&self, index: u32) -> Option<&T> {
        let (chunk, offset) = place(index)?;
        self.chunks.get(chunk)?.get()?.get(offset)?.get()
    }

    /// Appends what `make` returns for the new index.
    pub(super) fn push(&self, make: impl FnOnce(u32) -> T) -> u32 {
        let _growing = self.growing.lock();
        let index = self.len.load(Ordering::Relaxed);
        let (chunk, offset) = place(index).expect("invariant: a table stays far below 2^27 entries");
        let length = FIRST << chunk;
        let chunk = self.chunks[chunk].get_or_init(|| (0..length).map(|_| OnceLock::new()).collect());
        let fresh = chunk[offset].set(make(index)).is_ok();
        debug_assert!(fresh, "the lock is held and the index is new");
        self.len.store(index + 1, Ordering::Release);
        index
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.len()).filter_map(|index| self.get(index))
    }
}

/// Chunk and offset of an index.
#[inline]
fn place(index: u32) -> Option<(usize, usize)> {
    if index < FIRST {
        return Some((0, index as usize));
    }
    let shifted = index.checked_add(FIRST)?;
    let chunk = shifted.ilog2() - FIRST.ilog2();
    Some((chunk as usize, (shifted - (FIRST << chunk)) as usize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_entry_is_found_again() {
        let table = Table::new();
        assert!(table.get(0).is_none());
        for i in 0..1000 {
            assert_eq!(table.push(|index| index * 3), i);
        }
        assert_eq!(table.len(), 1000);
        assert!((0..1000).all(|i| table.get(i) == Some(&(i * 3))));
        assert!(table.get(1000).is_none() && table.get(u32::MAX).is_none());
        assert_eq!(table.iter().count(), 1000);
    }
}
