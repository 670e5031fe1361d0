//! What must hold.

use super::super::batch::Batch;
use super::*;

/// What a set of schedules is worth nothing without.
pub(super) const MUST_HAPPEN: [&str; 23] = [
    "arrived late",
    "closed early",
    "closed in flight",
    "delivered",
    "denied",
    "expired",
    "expired in doubt",
    "failed over",
    "flush",
    "forgotten",
    "full",
    "left out",
    "lost",
    "out of order",
    "recognized",
    "refused for now",
    "renumbered",
    "split",
    "timed out",
    "too large",
    "truncated",
    "unknown producer",
    "written and refused",
];

impl Sim {
    /// Whether a record that was written stands once, however often it was sent.
    fn is_once(&self, partition: usize) -> bool {
        self.plan.identity && !self.logs[partition].forgot && !self.logs[partition].haunted
    }

    /// Takes what deliveries have said: once each, and at once.
    pub(super) fn listen(&mut self) {
        let told = std::mem::take(&mut *self.told.lock());
        for (number, end) in told {
            if let Ok(metadata) = &end {
                let log = &self.logs[metadata.partition as usize];
                let there = log.records.get(metadata.offset as usize);
                if metadata.offset >= 0 && there != Some(&number) {
                    self.fail(&format!("record {number} is said to be where {there:?} is: {metadata:?}"));
                }
            }
            self.check_time(number, &end);
            if let Some(before) = self.ends.insert(number, end) {
                self.fail(&format!("record {number} ended twice: {before:?}, {:?}", self.ends[&number]));
            }
        }
        self.check_memory();
        let flushed: Vec<u64> = self
            .flushes
            .extract_if(.., |(gates, _)| gates.iter().all(|gate| gate.is_empty()))
            .map(|(_, records)| records)
            .collect();
        for records in flushed {
            let open = |n: &u64| self.records[*n as usize] && !self.ends.contains_key(n);
            if let Some(number) = (0..records).find(open) {
                self.fail(&format!("a flush ended before record {number}"));
            }
        }
    }

    /// A record has an end not long after its time is over.
    fn check_time(&mut self, number: u64, end: &Told) {
        let (Some(timeout), Some(born)) = (self.plan.timeout, self.born.get(number as usize)) else { return };
        let age = self.now - born;
        let latest = (timeout + expire::step(timeout)).as_micros() as u64 + REQUEST_TIMEOUT;
        let timed_out = matches!(end, Err(DeliveryError::TimedOut { .. }));
        if age > latest + MS {
            self.fail(&format!("record {number} ends {age} us after its append: {end:?}"));
        }
        if let (true, Err(error)) = (timed_out, end) {
            self.count(if error.possibly_written() { "expired in doubt" } else { "expired" });
        }
    }

    /// The bytes that are held were paid for.
    fn check_memory(&self) {
        let memory = &self.shared.memory;
        let topic = self.shared.topics.get(self.topic.0).expect("it was registered");
        let mut held = 0;
        for partition in topic.partitions.iter() {
            let queue = partition.queue.lock();
            held += queue.waiting().map(Batch::bytes).sum::<usize>();
            held += partition.slot.lock().open.as_ref().map_or(0, |open| open.builder.len());
        }
        let flying = self.requests.values().filter_map(|request| request.flights.as_ref()).flatten();
        held += flying.map(|flight| flight.batch.bytes()).sum::<usize>();
        // A batch that is split gets a second header, which nobody pays for.
        let headers = 100 * self.shared.counters.splits.get() as usize;
        if held > memory.used() + headers || memory.used() > memory.total() {
            self.fail(&format!("{held} bytes are held, {} of {} paid for", memory.used(), memory.total()));
        }
    }

    /// No more batches of a partition in flight than a broker can tell apart.
    pub(super) fn check_window(&self) {
        let window = if self.plan.identity && self.plan.acks == Acks::All { 5 } else { 1 };
        let mut flying: BTreeMap<i32, usize> = BTreeMap::new();
        for flight in self.requests.values().filter_map(|request| request.flights.as_ref()).flatten() {
            *flying.entry(flight.partition.index).or_default() += 1;
        }
        if flying.values().any(|n| *n > window) {
            self.fail(&format!("more than {window} batches fly: {flying:?}"));
        }
    }

    /// `close` counts what it leaves, and every delivery has ended by then.
    pub(super) fn check_close(&mut self, closed: Result<(), CloseError>) {
        let counters = &self.shared.counters;
        let (delivered, failed) = (counters.records_delivered.get(), counters.records_failed.get());
        let (not_sent, in_doubt) = closed.map_or_else(|e| (e.not_sent, e.possibly_written), |()| (0, 0));
        let all = delivered + failed + not_sent + in_doubt;
        if all != self.records.len() as u64 {
            self.fail(&format!(
                "{} records; {delivered} delivered, {failed} failed, {not_sent} not sent, {in_doubt} in doubt",
                self.records.len()
            ));
        }
        let open = |n: &u64| self.records[*n as usize] && !self.ends.contains_key(n);
        if let Some(number) = (0..self.records.len() as u64).find(open) {
            self.fail(&format!("record {number} has no end"));
        }
        if self.shared.memory.used() != 0 {
            self.fail(&format!("{} bytes are never given back", self.shared.memory.used()));
        }
        if not_sent > 0 {
            self.count("closed early");
        }
        if in_doubt > 0 {
            self.count("closed in flight");
        }
    }

    /// The logs beside what everybody was told.
    pub(super) fn check_the_end(&mut self) {
        if self.shared.counters.splits.get() > 0 {
            self.count("split");
        }
        let mut times = vec![0_u32; self.records.len()];
        for partition in 0..self.logs.len() {
            self.check_log(partition, &mut times);
        }
        for (number, end) in &self.ends {
            let times = times[*number as usize];
            match end {
                Ok(_) if times == 0 && self.plan.acks != Acks::None => {
                    self.fail(&format!("record {number} was acknowledged and is lost"));
                }
                Err(error) if times > 0 && !error.possibly_written() => {
                    self.fail(&format!("record {number} is in the log: {error}"));
                }
                Err(error) if !self.may_fail(error) => self.fail(&format!("record {number}: {error}")),
                _ => {}
            }
        }
        let delivered = self.ends.values().filter(|end| end.is_ok()).count();
        *self.seen.entry("delivered").or_default() += delivered as u64;
    }

    fn may_fail(&self, error: &DeliveryError) -> bool {
        match error {
            DeliveryError::NotAuthorized { .. } => self.seen.contains_key("denied"),
            DeliveryError::TooLarge { bytes, .. } => *bytes > self.plan.limit,
            DeliveryError::Closed { .. } => self.plan.close.is_some(),
            DeliveryError::TimedOut { .. } => self.plan.timeout.is_some(),
            DeliveryError::Refused { .. } => false,
        }
    }

    /// Order, and nothing twice.
    fn check_log(&self, partition: usize, times: &mut [u32]) {
        let log = &self.logs[partition];
        let mut last: Option<u64> = None;
        for number in &log.records {
            let seen = &mut times[*number as usize];
            *seen += 1;
            if *seen > 1 {
                if self.is_once(partition) || !self.may_repeat() {
                    self.fail(&format!("partition {partition}: record {number} stands twice"));
                }
                continue;
            }
            let failed =
                self.ends.get(number).is_some_and(|end| end.is_err()) || !self.records[*number as usize];
            // Without numbers, or when it has forgotten them, a broker cannot tell that a request which it gets late was
            // given up long ago.
            if self.plan.acks == Acks::None || (!self.is_once(partition) && failed) {
                continue;
            }
            if last.is_some_and(|last| last > *number) {
                self.fail(&format!("partition {partition}: record {number} stands behind {last:?}"));
            }
            last = Some(*number);
        }
    }

    /// Whether anything was sent again at all.
    fn may_repeat(&self) -> bool {
        self.shared.counters.retries.get() > 0
    }
}
