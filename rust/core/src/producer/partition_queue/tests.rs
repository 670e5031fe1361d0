//! The queue against a model of a broker, in virtual time.

use std::collections::VecDeque;

use proptest::prelude::*;

use super::*;

const IDENTITY: Identity = Identity { id: 7, epoch: 0 };

/// A batch is the range of its records.
type Records = std::ops::Range<u64>;

fn take(queue: &mut PartitionQueue<Records>, now: Instant) -> Option<(Ticket, Records)> {
    match queue.take(now, Some(IDENTITY)) {
        Next::Batch(ticket, batch) => Some((ticket, batch)),
        _ => None,
    }
}

/// A queue of window 5 whose broker has one record of ours, sequence 0.
fn proven(now: Instant) -> PartitionQueue<Records> {
    let mut queue = PartitionQueue::new(5);
    queue.push(100..101, 1);
    let (ticket, _) = take(&mut queue, now).unwrap();
    queue.landed(ticket);
    queue
}

/// A broker without state of a producer takes any first sequence (KIP-360): were the second batch in the air while the first
/// is refused, it would be written before it.
#[test]
fn the_first_batch_of_an_epoch_flies_alone() {
    let now = Instant::now();
    let mut queue = PartitionQueue::new(5);
    for i in 0..3 {
        queue.push(i..i + 1, 1);
    }
    let (first, a) = take(&mut queue, now).unwrap();
    assert!(take(&mut queue, now).is_none());
    queue.retry(first, a, now);
    let (first, _) = take(&mut queue, now).unwrap();
    assert!(take(&mut queue, now).is_none());
    queue.landed(first);
    let (second, b) = take(&mut queue, now).unwrap();
    let (third, _) = take(&mut queue, now).unwrap();
    // The broker lost its state: a new epoch, and its first batch flies alone again.
    queue.landed(third);
    queue.refused_sequence(second, b, now);
    let (second, _) = take(&mut queue, now).unwrap();
    assert_eq!(second.stamp(), Some(Stamp { id: 7, epoch: 1, sequence: 0 }));
    for i in 3..6 {
        queue.push(i..i + 1, 1);
    }
    assert!(take(&mut queue, now).is_none());
    queue.landed(second);
    assert!(take(&mut queue, now).is_some() && take(&mut queue, now).is_some());
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
    let mut queue = proven(now);
    for i in 0..3 {
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
    assert_eq!((second.stamp(), b), (Some(Stamp { id: 7, epoch: 1, sequence: 1 }), 1..2));
}

#[test]
fn pieces_share_the_numbers_of_the_whole() {
    let now = Instant::now();
    let mut queue = proven(now);
    queue.push(0..4, 4);
    queue.push(4..5, 1);
    let (whole, _) = take(&mut queue, now).unwrap();
    let (after, b) = take(&mut queue, now).unwrap();
    queue.split(whole, vec![(0..1, 1), (1..4, 3)]);
    queue.retry(after, b, now);
    let mut seen = Vec::new();
    while let Some((ticket, batch)) = take(&mut queue, now) {
        seen.push((ticket.stamp().unwrap().sequence, batch));
        queue.landed(ticket);
    }
    assert_eq!(seen, [(1, 0..1), (2, 1..4), (5, 4..5)]);
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
/// a new epoch must begin at 0, a gap is refused.
#[derive(Default)]
struct Broker {
    log: Vec<Records>,
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
            // Without any batch of this producer every first sequence is good (KIP-360).
            if stamp.sequence != self.next && !self.log.is_empty() {
                return Answer::Gap;
            }
            self.next = advance(stamp.sequence, count);
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
                queue.given_up(ticket)
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
