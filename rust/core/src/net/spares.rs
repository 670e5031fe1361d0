//! Buffers of large answers, used again.
//!
//! Memory that is new to a process costs a page fault for every 4 KB, which zeroes what the socket overwrites at once, and
//! whether a freed buffer is new again is up to the allocator. A fetch answer's buffer therefore goes back, with the last
//! slice of the answer, to the connection it came from, and the next answer of about that size is read into it.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use parking_lot::Mutex;

/// The smallest answer whose buffer is worth keeping: allocators reuse smaller ones well.
pub(super) const LEAST: usize = 128 << 10;
/// The most memory taken for an answer on the word of its length alone. A broker that says 100 MB and sends nothing would
/// otherwise hold as much, on every connection.
pub(super) const BEGIN: usize = 512 << 10;
/// The most buffers kept for nobody. One is being read, one or two are being walked: more are in use only while readers lag
/// behind, and then none comes back.
const MOST: usize = 8;
/// The most bytes kept for nobody.
const MOST_BYTES: usize = 16 << 20;

/// The buffers of one connection that nobody uses now. Bounded by [`MOST`] and [`MOST_BYTES`], and given up when the
/// connection has been silent for a while.
#[derive(Debug, Default)]
pub(super) struct Spares {
    buffers: Mutex<Vec<Vec<u8>>>,
}

impl Spares {
    /// An empty buffer for `length` bytes: one that was used before, or the beginning of one ([`make_room`]). Not more than
    /// twice as large, so that answers that are kept hold about what they are charged for.
    pub(super) fn take(&self, length: usize) -> Vec<u8> {
        let mut buffers = self.buffers.lock();
        // The last one is the warmest.
        let fits = |b: &Vec<u8>| (length..=length * 2).contains(&b.capacity());
        match buffers.iter().rposition(fits) {
            Some(at) => buffers.remove(at),
            None => {
                drop(buffers);
                Vec::with_capacity(rounded(length).min(BEGIN))
            }
        }
    }

    /// An answer whose buffer comes back here, if this is still there then.
    pub(super) fn lend(self: &Arc<Self>, buffer: Vec<u8>) -> Bytes {
        Bytes::from_owner(Lent { buffer, home: Arc::downgrade(self) })
    }

    fn put(&self, mut buffer: Vec<u8>) {
        buffer.clear();
        let mut buffers = self.buffers.lock();
        buffers.push(buffer);
        // The oldest go: if they were of use they would have been taken.
        let mut held: usize = buffers.iter().map(Vec::capacity).sum();
        let mut surplus = 0;
        while buffers.len() - surplus > MOST || held > MOST_BYTES {
            held -= buffers[surplus].capacity();
            surplus += 1;
        }
        let surplus: Vec<_> = buffers.drain(..surplus).collect();
        drop(buffers);
        drop(surplus);
    }

    /// Whether there is anything to give up, now or when an answer that is out comes back.
    pub(super) fn any(self: &Arc<Self>) -> bool {
        Arc::weak_count(self) > 0 || !self.buffers.lock().is_empty()
    }

    /// Gives all of them to the allocator.
    pub(super) fn give_up(&self) {
        let buffers = std::mem::take(&mut *self.buffers.lock());
        drop(buffers);
    }
}

/// Room for more of an answer of `length` bytes: as much again as has come, until all of it has room.
pub(super) fn make_room(buffer: &mut Vec<u8>, length: usize) {
    if buffer.len() == buffer.capacity() {
        let missing = rounded(length).saturating_sub(buffer.len());
        buffer.reserve_exact(buffer.len().max(LEAST).min(missing));
    }
}

/// Answers are of many sizes a little below what was asked for: rounded up to a quarter of a power of two, their buffers fit
/// each other. What is not written to is not memory yet.
fn rounded(length: usize) -> usize {
    length.next_multiple_of((length.next_power_of_two() / 8).max(1))
}

/// The buffer of an answer.
struct Lent {
    buffer: Vec<u8>,
    home: Weak<Spares>,
}

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.buffer
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(home) = self.home.upgrade() {
            home.put(std::mem::take(&mut self.buffer));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(spares: &Spares) -> Vec<usize> {
        spares.buffers.lock().iter().map(Vec::capacity).collect()
    }

    #[test]
    fn a_buffer_comes_back_with_the_last_slice_and_is_taken_for_answers_of_about_its_size() {
        let spares = Arc::new(Spares::default());
        let mut buffer = spares.take(1 << 19);
        let place = buffer.as_ptr();
        buffer.extend_from_slice(&[7; 1000]);
        let answer = spares.lend(buffer);
        let slice = answer.slice(10..20);
        drop(answer);
        assert!(spares.any() && held(&spares).is_empty());
        assert_eq!(&slice[..], [7; 10]);
        drop(slice);
        assert_eq!(held(&spares).len(), 1);
        for other in [(1 << 18) - 1, (1 << 19) + 1] {
            let buffer = spares.take(other);
            assert_ne!(buffer.as_ptr(), place, "{other} bytes do not fit");
        }
        let again = spares.take((1 << 19) - 5);
        assert_eq!((again.as_ptr(), again.len()), (place, 0));
        assert!(!spares.any());
    }

    #[test]
    fn what_is_kept_is_bounded_and_may_be_given_up() {
        let spares = Arc::new(Spares::default());
        let lent: Vec<_> = (0..10).map(|_| spares.lend(spares.take(1 << 20))).collect();
        drop(lent);
        assert_eq!(held(&spares).len(), MOST);
        drop(spares.lend(Vec::with_capacity(MOST_BYTES)));
        assert!(held(&spares).iter().sum::<usize>() <= MOST_BYTES);
        spares.give_up();
        assert!(!spares.any());
    }

    #[test]
    fn a_length_is_believed_as_far_as_bytes_have_come() {
        let spares = Arc::new(Spares::default());
        let length = 100_000_001;
        let mut buffer = spares.take(length);
        assert!(buffer.capacity() <= BEGIN);
        let mut came = 0;
        while came < length {
            make_room(&mut buffer, length);
            assert!(buffer.capacity() <= BEGIN.max(2 * came).min(rounded(length)), "{came} bytes have come");
            came = buffer.capacity().min(length);
            buffer.resize(came, 7);
        }
        assert_eq!(buffer.capacity(), rounded(length));
        // What has come is kept for the next answer.
        drop(spares.lend(Vec::with_capacity(1 << 20)));
        assert_eq!(spares.take(1_000_000).capacity(), 1 << 20);
    }

    #[test]
    fn an_answer_outlives_its_connection() {
        let spares = Arc::new(Spares::default());
        let answer = spares.lend(vec![1, 2, 3]);
        drop(spares);
        assert_eq!(answer, [1, 2, 3][..]);
    }

    #[test]
    fn sizes_are_rounded_by_a_quarter_at_most() {
        for length in [LEAST, LEAST + 1, 1_000_000, (1 << 20) + 1, 3_333_333, 4 << 20] {
            let rounded = rounded(length);
            assert!(length <= rounded && rounded <= length + length / 4, "{length}: {rounded}");
        }
    }
}
