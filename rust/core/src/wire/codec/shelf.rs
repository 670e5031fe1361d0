//! Contexts between two uses.
//!
//! Making a codec's tables costs more than compressing a small batch, so they are kept. Not by thread: batches are
//! compressed on whatever thread is free and decompressed on those of the user, of whom there may be a thousand, and each
//! would hold its own for good.

use parking_lot::Mutex;

/// The most contexts kept of a kind. More are in use only when more threads than this are at it in the same moment.
const MOST: usize = 8;

/// Contexts of one kind that nobody uses now. Bounded by [`MOST`], and by what is said to be too large to keep.
pub(super) struct Shelf<T> {
    idle: Mutex<Vec<T>>,
}

impl<T> Shelf<T> {
    pub(super) const fn new() -> Self {
        Self { idle: Mutex::new(Vec::new()) }
    }

    /// One that lies here, or a new one.
    pub(super) fn take(&self, make: impl FnOnce() -> T) -> T {
        // The last one is the warmest.
        let idle = self.idle.lock().pop();
        idle.unwrap_or_else(make)
    }

    /// Keeps it for the next one, while there is room. What met an error and may be in the middle of something does not
    /// belong here.
    pub(super) fn put(&self, context: T) {
        let mut idle = self.idle.lock();
        let surplus = if idle.len() < MOST {
            idle.push(context);
            None
        } else {
            Some(context)
        };
        // Freeing it takes longer than the lock should be held.
        drop(idle);
        drop(surplus);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_taken_again_and_no_more_than_a_few_are_kept() {
        let shelf = Shelf::new();
        assert_eq!(shelf.take(|| 7), 7);
        for n in 0..100 {
            shelf.put(n);
        }
        let taken: Vec<_> = (0..MOST).map(|_| shelf.take(|| -1)).collect();
        assert_eq!(taken, (0..MOST as i32).rev().collect::<Vec<_>>());
        assert_eq!(shelf.take(|| -1), -1);
    }
}
