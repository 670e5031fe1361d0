//! What is known of a partition's log beyond the units handed out: batches that were fetched and not yet asked for.
//!
//! A unit may be far smaller than a broker's batch (250 records of a batch of 10,000), and a fetch brings whole
//! batches: without this cache every unit would fetch its batch again. It is a list of spans; a fetch at `from`
//! whose last batch ends before `to` makes everything in `[from, to)` known, gaps of compaction included.

use std::collections::VecDeque;

/// A stretch of the log: a batch, or what stands for one in tests.
pub(super) trait Extent: Clone {
    /// Its first offset.
    fn base(&self) -> i64;
    /// The offset after its last one.
    fn next(&self) -> i64;
    /// Bytes on the wire.
    fn bytes(&self) -> usize;
}

/// The spans known of one partition, in offset order, disjoint.
#[derive(Debug)]
pub(super) struct Cache<B> {
    spans: Vec<Span<B>>,
}

#[derive(Debug)]
struct Span<B> {
    from: i64,
    to: i64,
    items: VecDeque<B>,
}

impl<B> Default for Cache<B> {
    fn default() -> Self {
        Self { spans: Vec::new() }
    }
}

impl<B: Extent> Cache<B> {
    /// Adds what a fetch at `from` brought, in offset order. Everything up to the end of the last one is then known.
    /// Batches that end at or below `from` are ignored (a broker answers with the batch that holds `from`).
    pub(super) fn insert(&mut self, from: i64, items: impl IntoIterator<Item = B>) {
        let mut position = from;
        for item in items {
            if item.next() <= position {
                continue;
            }
            let next = item.next();
            self.insert_one(position, item);
            position = next;
        }
    }

    /// Adds `item`, which is all there is in `[from, item.next())`.
    fn insert_one(&mut self, from: i64, item: B) {
        let to = item.next();
        let at = self.spans.partition_point(|span| span.to < from);
        if let Some(span) = self.spans.get_mut(at)
            && span.from <= from
        {
            if to <= span.to {
                return;
            }
            span.to = to;
            span.items.push_back(item);
        } else {
            self.spans.insert(at, Span { from, to, items: VecDeque::from([item]) });
        }
        self.join(at);
    }

    /// Joins the span at `at` with those it now reaches into.
    fn join(&mut self, at: usize) {
        while at + 1 < self.spans.len() && self.spans[at + 1].from <= self.spans[at].to {
            let later = self.spans.remove(at + 1);
            let span = &mut self.spans[at];
            for item in later.items {
                if item.next() > span.to {
                    span.to = item.next();
                    span.items.push_back(item);
                }
            }
            span.to = span.to.max(later.to);
        }
    }

    /// Appends to `out` the batches that hold what is known of `[from, end)` and answers the position reached: `from`
    /// when nothing is known there, else the first position not known or not below `end`.
    pub(super) fn read(&self, from: i64, end: i64, out: &mut impl Extend<B>) -> i64 {
        let at = self.spans.partition_point(|span| span.to <= from);
        let Some(span) = self.spans.get(at).filter(|span| span.from <= from && from < end) else {
            return from;
        };
        let mut position = from;
        let first = span.items.partition_point(|item| item.next() <= from);
        for item in span.items.iter().skip(first).take_while(|item| item.base() < end) {
            out.extend(std::iter::once(item.clone()));
            position = item.next();
        }
        // The next batch starts at or above `end`: what lies between is a gap.
        if position < end && span.to > position { end.min(span.to) } else { position }
    }

    /// Where what is known from `from` on without a hole ends; `from` when nothing is.
    pub(super) fn known_until(&self, from: i64) -> i64 {
        let at = self.spans.partition_point(|span| span.to < from);
        self.spans.get(at).filter(|span| span.from <= from).map_or(from, |span| span.to.max(from))
    }

    /// Drops what lies below `offset`; a batch that straddles it stays.
    pub(super) fn forget_below(&mut self, offset: i64) {
        self.spans.retain(|span| span.to > offset);
        if let Some(span) = self.spans.first_mut()
            && span.from < offset
        {
            while span.items.front().is_some_and(|item| item.next() <= offset) {
                span.items.pop_front();
            }
            span.from = offset;
        }
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        self.spans.clear();
    }

    /// Whether nothing is known.
    pub(super) fn is_empty(&self) -> bool {
        self.spans.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    struct Fake(i64, i64);

    impl Extent for Fake {
        fn base(&self) -> i64 {
            self.0
        }
        fn next(&self) -> i64 {
            self.1
        }
        fn bytes(&self) -> usize {
            (self.1 - self.0) as usize
        }
    }

    fn read(cache: &Cache<Fake>, from: i64, end: i64) -> (Vec<Fake>, i64) {
        let mut out = Vec::new();
        let position = cache.read(from, end, &mut out);
        (out, position)
    }

    #[test]
    fn many_small_units_are_served_from_one_batch() {
        let mut cache = Cache::default();
        cache.insert(0, [Fake(0, 10_000), Fake(10_000, 20_000)]);
        assert_eq!(read(&cache, 250, 500), (vec![Fake(0, 10_000)], 10_000));
        assert_eq!(read(&cache, 9_900, 10_100), (vec![Fake(0, 10_000), Fake(10_000, 20_000)], 20_000));
        assert_eq!(read(&cache, 20_000, 20_100), (vec![], 20_000));
        cache.forget_below(9_999);
        assert_eq!(read(&cache, 9_999, 10_000).0.len(), 1);
        cache.forget_below(10_000);
        assert_eq!(read(&cache, 9_999, 10_000), (vec![], 9_999));
        cache.forget_below(20_000);
        assert!(cache.is_empty());
    }

    #[test]
    fn gaps_of_compaction_are_known_to_be_empty() {
        let mut cache = Cache::default();
        cache.insert(5, [Fake(20, 30), Fake(50, 60)]);
        assert_eq!(read(&cache, 5, 20), (vec![], 20));
        assert_eq!(read(&cache, 30, 50), (vec![], 50));
        assert_eq!(read(&cache, 29, 50), (vec![Fake(20, 30)], 50));
        assert_eq!(read(&cache, 4, 50), (vec![], 4));
        assert_eq!(cache.known_until(5), 60);
    }

    proptest! {
        /// Whatever order fetches come in, the cache hands out each batch of the log that holds a wanted offset, once,
        /// in order, and never claims to know what was not fetched.
        #[test]
        fn it_tells_the_truth_about_the_log(
            lengths in prop::collection::vec((1i64..6, 0i64..4), 1..12),
            fetches in prop::collection::vec((0usize..12, 0i64..6, 1usize..4), 0..10),
            forget in 0i64..40, from in 0i64..60, size in 1i64..30,
        ) {
            let mut log = Vec::new();
            let mut at = 0;
            for (length, gap) in lengths {
                log.push(Fake(at + gap, at + gap + length));
                at += gap + length;
            }
            let mut cache = Cache::default();
            let mut known = [false; 200];
            for (first, inside, count) in fetches {
                let first = first % log.len();
                let floor = if first == 0 { 0 } else { log[first - 1].1 };
                let position = (floor + inside).min(log[first].1 - 1);
                let brought: Vec<_> = log[first..].iter().copied().take(count).collect();
                let until = brought.last().unwrap().1;
                cache.insert(position, brought);
                known[position as usize..until as usize].fill(true);
            }
            cache.forget_below(forget);
            known[..forget as usize].fill(false);
            let end = from + size;
            let (got, position) = read(&cache, from, end);
            let reach = (from..).find(|o| !known[*o as usize]).unwrap();
            prop_assert!(position <= reach.max(from), "claims {position}, known until {reach}");
            prop_assert!(position >= reach.min(end), "stops at {position}, known until {reach}");
            let stop = position.min(end);
            let want: Vec<_> = log.iter().copied().filter(|b| from < stop && b.1 > from && b.0 < stop).collect();
            prop_assert_eq!(got, want);
            prop_assert_eq!(cache.known_until(from), reach.max(from));
        }
    }
}
