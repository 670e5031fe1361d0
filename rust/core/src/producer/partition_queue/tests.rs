//! The queue against a model of a broker, in virtual time.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const IDENTITY: Identity = Identity { id: 7, epoch: 0 };

/// A queue whose broker has taken a batch of one record, numbered 0, already.
fn proven(window: usize) -> PartitionQueue<Records> {
    let mut queue = PartitionQueue::new(window);
    queue.push(0..1, 1);
    let (ticket, _) = take(&mut queue, Instant::now()).unwrap();
    queue.landed(ticket);
    queue
}

#[test]
fn batches_fly_one_by_one_until_the_broker_knows_the_producer() {
    let now = Instant::now();
    let mut queue = PartitionQueue::new(5);
    for i in 0..9 {
        queue.push(i..i + 1, 1);
    }
    let (first, _) = take(&mut queue, now).unwrap();
    assert!(take(&mut queue, now).is_none());
    queue.landed(first);
    let flying: Vec<Ticket> = (0..5).map(|_| take(&mut queue, now).unwrap().0).collect();
    assert!(take(&mut queue, now).is_none());
    for ticket in flying {
        queue.landed(ticket);
    }
    // A day later it may know nothing any more.
    let later = now + Duration::from_secs(86_400);
    let (ticket, _) = take(&mut queue, later).unwrap();
    assert!(take(&mut queue, later).is_none());
    queue.landed(ticket);
    assert!(take(&mut queue, later).is_some() && take(&mut queue, later).is_some());
}

/// The broker recognizes the last five: had a sixth been sent after one whose answer is late, its repetition stood twice.
#[test]
fn what_lands_early_does_not_widen_the_window() {
    let now = Instant::now();
    let mut queue = proven(5);
    for i in 1..9 {
        queue.push(i..i + 1, 1);
    }
    let mut flying: Vec<_> = (0..5).map(|_| take(&mut queue, now).unwrap()).collect();
    let (oldest, batch) = flying.remove(0);
    for (ticket, _) in flying {
        assert!(!queue.landed(ticket), "nothing may go");
    }
    assert!(queue.is_busy() && take(&mut queue, now).is_none());
    let stamp = oldest.stamp();
    assert!(queue.retry(oldest, batch, now));
    let (oldest, _) = take(&mut queue, now).unwrap();
    assert_eq!(oldest.stamp(), stamp);
    assert!(queue.landed(oldest));
    assert!(take(&mut queue, now).is_some());
}

/// A batch is the range of its records.
type Records = std::ops::Range<u64>;

fn take(queue: &mut PartitionQueue<Records>, now: Instant) -> Option<(Ticket, Records)> {
    match queue.take(now, Some(IDENTITY)) {
        Next::Batch(ticket, batch) => Some((ticket, batch)),
        _ => None,
    }
}

#[test]
fn one_in_flight_and_a_retry_goes_first_with_its_own_numbers() {
    let now = Instant::now();
    let mut queue = PartitionQueue::new(1);
    assert!(queue.push(0..3, 3));
    assert!(!queue.push(3..4, 1), "it is listed already");
    let (ticket, batch) = take(&mut queue, now).unwrap();
    let first = ticket.stamp();
    assert_eq!(first, Some(Stamp { id: 7, epoch: 0, sequence: 0 }));
    assert!(take(&mut queue, now).is_none());
    let at = now + Duration::from_millis(100);
    assert!(queue.retry(ticket, batch, at));
    assert!(matches!(queue.take(now, Some(IDENTITY)), Next::Later(t) if t == at));
    let (ticket, batch) = take(&mut queue, at).unwrap();
    assert_eq!((ticket.stamp(), batch), (first, 0..3));
    assert!(queue.landed(ticket));
    let (ticket, batch) = take(&mut queue, now).unwrap();
    assert_eq!((ticket.stamp().unwrap().sequence, batch), (3, 3..4));
    assert!(!queue.landed(ticket));
    assert!(queue.push(4..5, 1));
}

#[test]
fn a_lost_state_raises_the_epoch_but_a_gap_of_our_own_does_not() {
    let now = Instant::now();
    let mut queue = proven(5);
    for i in 1..4 {
        queue.push(i..i + 1, 1);
    }
    let (first, a) = take(&mut queue, now).unwrap();
    let (second, b) = take(&mut queue, now).unwrap();
    queue.retry(first, a, now);
    queue.refused_sequence(second, b, now);
    let (first, a) = take(&mut queue, now).unwrap();
    assert_eq!(first.stamp(), Some(Stamp { id: 7, epoch: 0, sequence: 1 }));
    queue.refused_sequence(first, a, now);
    let (first, _) = take(&mut queue, now).unwrap();
    assert_eq!(first.stamp(), Some(Stamp { id: 7, epoch: 1, sequence: 0 }));
    queue.landed(first);
    let (second, b) = take(&mut queue, now).unwrap();
    assert_eq!((second.stamp(), b), (Some(Stamp { id: 7, epoch: 1, sequence: 1 }), 2..3));
}

#[test]
fn pieces_share_the_numbers_of_the_whole() {
    let now = Instant::now();
    let mut queue = proven(5);
    queue.push(1..5, 4);
    queue.push(5..6, 1);
    let (whole, _) = take(&mut queue, now).unwrap();
    let (after, b) = take(&mut queue, now).unwrap();
    queue.split(whole, vec![(1..2, 1), (2..5, 3)]);
    queue.retry(after, b, now);
    let mut seen = Vec::new();
    while let Some((ticket, batch)) = take(&mut queue, now) {
        seen.push((ticket.stamp().unwrap().sequence, batch));
        queue.landed(ticket);
    }
    assert_eq!(seen, [(1, 1..2), (2, 2..5), (5, 5..6)]);
}

#[test]
fn when_the_epochs_are_used_up_batches_go_without_numbers() {
    let now = Instant::now();
    let mut queue = PartitionQueue::new(5);
    let identity = Some(Identity { id: 7, epoch: i16::MAX });
    queue.push(0..1, 1);
    queue.push(1..2, 1);
    let Next::Batch(ticket, batch) = queue.take(now, identity) else { panic!() };
    assert_eq!(ticket.stamp(), Some(Stamp { id: 7, epoch: i16::MAX, sequence: 0 }));
    queue.refused_sequence(ticket, batch, now);
    for expected in [0..1, 1..2] {
        let Next::Batch(ticket, batch) = queue.take(now, identity) else { panic!() };
        assert_eq!((ticket.stamp(), batch), (None, expected));
        assert!(matches!(queue.take(now, identity), Next::Nothing), "one by one");
        queue.landed(ticket);
    }
}

#[test]
fn sequences_wrap_to_zero() {
    assert_eq!(advance(i32::MAX, 1), 0);
    assert_eq!(advance(i32::MAX - 2, 5), 2);
    assert_eq!(advance(0, 5), 5);
}

#[test]
fn backoff_is_bounded_and_jittered() {
    for failures in 0..40 {
        for noise in [0, 200, 400, u32::MAX] {
            let wait = backoff(failures, noise);
            assert!(wait >= Duration::from_millis(80) && wait <= Duration::from_millis(1200), "{wait:?}");
        }
    }
    assert_ne!(backoff(3, 1), backoff(3, 300));
}

/// A leader that checks sequences as Kafka's ProducerStateManager does: the last five batches are recognized,
/// a new epoch must begin at 0, a gap is refused; but whoever is not known may begin anywhere.
#[derive(Default)]
struct Broker {
    log: Vec<Records>,
    known: bool,
    epoch: i16,
    next: i32,
    last: VecDeque<(i32, u32)>,
}

#[derive(Debug, PartialEq)]
enum Answer {
    Written,
    Gap,
}

impl Broker {
    fn produce(&mut self, stamp: Option<Stamp>, batch: &Records) -> Answer {
        let count = (batch.end - batch.start) as u32;
        if let Some(stamp) = stamp {
            if !self.known {
                (self.known, self.epoch, self.next) = (true, stamp.epoch, stamp.sequence);
            }
            if stamp.epoch > self.epoch {
                if stamp.sequence != 0 {
                    return Answer::Gap;
                }
                (self.epoch, self.next) = (stamp.epoch, 0);
                self.last.clear();
            }
            assert_eq!(stamp.epoch, self.epoch, "an old epoch would be fenced");
            if self.last.contains(&(stamp.sequence, count)) {
                return Answer::Written;
            }
            if stamp.sequence != self.next {
                return Answer::Gap;
            }
            self.next = advance(self.next, count);
            self.last.push_back((stamp.sequence, count));
            if self.last.len() > 5 {
                self.last.pop_front();
            }
        }
        self.log.push(batch.clone());
        Answer::Written
    }
}

/// What the world does to one flight.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Fine,
    AnswerLost,
    NeverArrived,
    TooLarge,
    Refused,
}

fn fates() -> impl Strategy<Value = Fate> {
    prop_oneof![
        6 => Just(Fate::Fine),
        1 => Just(Fate::AnswerLost),
        1 => Just(Fate::NeverArrived),
        1 => Just(Fate::TooLarge),
        1 => Just(Fate::Refused),
    ]
}

/// Runs `sizes` batches through the queue; returns the log and the batches that were given up.
fn run(
    window: usize,
    identity: Option<Identity>,
    sizes: &[u64],
    fates: &[Fate],
) -> (Vec<Records>, Vec<Records>) {
    let mut now = Instant::now();
    let mut queue = PartitionQueue::new(window);
    let mut broker = Broker::default();
    let (mut given_up, mut ended) = (Vec::new(), 0);
    let mut fates = fates.iter().copied();
    let mut sizes = sizes.iter();
    let mut total = 0;
    let mut listed = false;
    let mut in_air: VecDeque<(Ticket, Records)> = VecDeque::new();
    loop {
        if let Some(size) = sizes.next() {
            let was = listed;
            let list = queue.push(total..total + size, *size as u32);
            assert!(!(was && list), "listed twice");
            listed |= list;
            total += size;
        }
        while listed {
            match queue.take(now, identity) {
                Next::Batch(ticket, batch) => in_air.push_back((ticket, batch)),
                Next::Later(at) => now = at,
                Next::Nothing => {}
            }
            listed = queue.listed || queue.list();
            assert!(in_air.len() <= window);
        }
        let Some((ticket, batch)) = in_air.pop_front() else {
            if ended == total {
                return (broker.log, given_up);
            }
            assert!(sizes.len() > 0, "the queue has stopped: {queue:?}");
            continue;
        };
        let retry_at = now + backoff(queue.failures() + 1, 0);
        let fate = fates.next().unwrap_or(Fate::Fine);
        listed |= match fate {
            Fate::NeverArrived => queue.retry(ticket, batch, retry_at),
            Fate::AnswerLost => {
                broker.produce(ticket.stamp(), &batch);
                queue.retry(ticket, batch, retry_at)
            }
            Fate::TooLarge if batch.end - batch.start > 1 => {
                let middle = batch.start + (batch.end - batch.start) / 2;
                let pieces = [batch.start..middle, middle..batch.end];
                queue.split(ticket, pieces.map(|p| (p.clone(), (p.end - p.start) as u32)).to_vec())
            }
            Fate::Refused => {
                ended += batch.end - batch.start;
                given_up.push(batch);
                queue.given_up(ticket, false)
            }
            Fate::Fine | Fate::TooLarge => match broker.produce(ticket.stamp(), &batch) {
                Answer::Written => {
                    ended += batch.end - batch.start;
                    queue.landed(ticket)
                }
                Answer::Gap => queue.refused_sequence(ticket, batch, retry_at),
            },
        };
    }
}

proptest! {
    /// With sequences: what was not given up is in the log exactly once and in order, whatever is lost on the
    /// way. (A batch is given up or too large at its first arrival only: the fates that follow a lost answer
    /// are filtered below.)
    #[test]
    fn sequences_give_exactly_once_in_order(
        sizes in proptest::collection::vec(1_u64..6, 1..40),
        fates in proptest::collection::vec(
            prop_oneof![5 => Just(Fate::Fine), 1 => Just(Fate::AnswerLost), 2 => Just(Fate::NeverArrived)], 0..60),
        window in 1_usize..=5,
    ) {
        let (log, given_up) = run(window, Some(IDENTITY), &sizes, &fates);
        prop_assert!(given_up.is_empty());
        let records: Vec<u64> = log.into_iter().flatten().collect();
        prop_assert_eq!(records, (0..sizes.iter().sum()).collect::<Vec<_>>());
    }

    /// With every fate: each record is in the log or was given up, in order within each; nothing stops.
    #[test]
    fn nothing_is_lost_and_nothing_overtakes(
        sizes in proptest::collection::vec(1_u64..6, 1..40),
        fates in proptest::collection::vec(fates(), 0..60),
        window in 1_usize..=5,
        sequenced in any::<bool>(),
    ) {
        let (window, identity) = if sequenced { (window, Some(IDENTITY)) } else { (1, None) };
        let (log, given_up) = run(window, identity, &sizes, &fates);
        let mut first_seen = Vec::new();
        for record in log.into_iter().flatten() {
            if !first_seen.contains(&record) {
                first_seen.push(record);
            }
        }
        prop_assert!(first_seen.is_sorted(), "{first_seen:?}");
        let mut all: Vec<u64> = given_up.into_iter().flatten().chain(first_seen).collect();
        all.sort_unstable();
        all.dedup();
        prop_assert_eq!(all, (0..sizes.iter().sum()).collect::<Vec<_>>());
    }
}

#[test]
fn a_queue_whose_last_batch_was_given_up_after_a_retry_is_not_busy() {
    let now = Instant::now();
    let mut q = PartitionQueue::new(1);
    assert!(q.push('a', 1));
    let Next::Batch(t, b) = q.take(now, None) else { panic!() };
    q.retry(t, b, now);
    let Next::Batch(t, _) = q.take(now, None) else { panic!() };
    q.given_up(t, false);
    assert!(!q.is_busy(), "nothing waits, nothing flies");
}

#[test]
fn a_batch_in_doubt_keeps_its_numbers_when_a_later_one_is_given_up() {
    let now = Instant::now();
    let mut queue = proven(5);
    queue.push(1..3, 2);
    queue.push(3..4, 1);
    queue.push(4..5, 1);
    let (first, batch) = take(&mut queue, now).unwrap();
    let (second, _) = take(&mut queue, now).unwrap();
    let stamp = first.stamp();
    // The first is written and its answer lost; the second is refused for good.
    queue.retry(first, batch, now);
    queue.given_up(second, false);
    let (first, _) = take(&mut queue, now).unwrap();
    assert_eq!(first.stamp(), stamp, "under new numbers it would be written twice");
    assert!(take(&mut queue, now).is_none(), "what stands behind the hole waits");
    queue.landed(first);
    let (third, _) = take(&mut queue, now).unwrap();
    assert_eq!(third.stamp(), Some(Stamp { id: 7, epoch: 1, sequence: 0 }));
}

#[test]
fn behind_a_batch_in_doubt_that_is_given_up_the_old_numbers_are_tried_first() {
    let now = Instant::now();
    for written in [true, false] {
        let mut queue = proven(5);
        queue.push(1..2, 1);
        queue.push(2..3, 1);
        queue.push(3..4, 1);
        let (first, a) = take(&mut queue, now).unwrap();
        let (second, b) = take(&mut queue, now).unwrap();
        queue.retry(first, a, now);
        queue.retry(second, b, now);
        let (first, _) = take(&mut queue, now).unwrap();
        queue.given_up(first, true);
        let (second, b) = take(&mut queue, now).unwrap();
        assert_eq!(second.stamp(), Some(Stamp { id: 7, epoch: 0, sequence: 2 }), "it may be there");
        if written {
            queue.landed(second);
            let (third, _) = take(&mut queue, now).unwrap();
            assert_eq!(third.stamp(), Some(Stamp { id: 7, epoch: 0, sequence: 3 }), "there was no hole");
        } else {
            queue.refused_sequence(second, b, now);
            let (second, _) = take(&mut queue, now).unwrap();
            assert_eq!(second.stamp(), Some(Stamp { id: 7, epoch: 1, sequence: 0 }));
        }
    }
}
