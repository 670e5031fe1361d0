//! The floor: a socket loop that encodes and checksums every record, or fetches, checks and walks them, and does nothing else.
//! No threads, no retries, no metadata kept: what no client can do without.

use std::collections::VecDeque;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::Failure;
use crate::options::Options;
use crate::protocol::{Batch, Connection, FETCH, In, LIST_OFFSETS, Out, PRODUCE, batches, check};

const IN_FLIGHT: usize = 5;
/// Batches of a request.
const TOGETHER: usize = 4;
const FETCH_BYTES: i32 = 1 << 20;

pub(crate) struct Sender {
    connection: Connection,
    topic: String,
    codec: String,
    acks: i16,
    batch_bytes: usize,
    linger: Duration,
    partitions: i32,
    next: i32,
    open: Batch,
    opened: Instant,
    timestamp: i64,
    ready: Vec<(i32, Batch)>,
    spare: Vec<Batch>,
    /// Records of the requests that are in flight.
    in_flight: VecDeque<u64>,
    acknowledged: u64,
    answer: Vec<u8>,
}

impl Sender {
    /// The open batch takes no more records.
    fn seal(&mut self) -> Result<(), Failure> {
        if self.open.count == 0 {
            return Ok(());
        }
        self.open.finish(&self.codec)?;
        let next = self.spare.pop().unwrap_or_else(|| Batch::new(self.batch_bytes + 64));
        let batch = std::mem::replace(&mut self.open, next);
        self.ready.push((self.next, batch));
        self.next = (self.next + 1) % self.partitions;
        if self.ready.len() >= TOGETHER.min(self.partitions as usize) { self.request() } else { Ok(()) }
    }

    fn request(&mut self) -> Result<(), Failure> {
        if self.ready.is_empty() {
            return Ok(());
        }
        while self.in_flight.len() >= IN_FLIGHT {
            self.receive()?;
        }
        let mut head = Out::default();
        head.i16(-1).i16(self.acks).i32(30_000).i32(1).text(&self.topic).i32(self.ready.len() as i32);
        let heads: Vec<_> = self
            .ready
            .iter()
            .map(|(partition, batch)| {
                let mut head = Out::default();
                head.i32(*partition).i32(batch.bytes.len() as i32);
                head.0
            })
            .collect();
        let mut parts = vec![&head.0[..]];
        for (head, (_, batch)) in heads.iter().zip(&self.ready) {
            parts.extend([&head[..], &batch.bytes]);
        }
        self.connection.send(PRODUCE, &parts)?;
        self.in_flight.push_back(self.ready.iter().map(|(_, batch)| batch.count as u64).sum());
        for (_, mut batch) in self.ready.drain(..) {
            batch.clear();
            self.spare.push(batch);
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<(), Failure> {
        let mut answer = self.connection.receive(&mut self.answer)?;
        for _ in 0..answer.i32() {
            answer.text();
            for _ in 0..answer.i32() {
                answer.i32();
                check(answer.i16())?;
                answer.take(16);
            }
        }
        self.acknowledged += self.in_flight.pop_front().unwrap_or_default();
        Ok(())
    }
}

fn millis() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64)
}

impl crate::Sender for Sender {
    fn connect(options: &Options) -> Result<Self, Failure> {
        let mut connection = Connection::open(options.port)?;
        let partitions = connection.partitions(&options.topic)?;
        let batch_bytes = if options.tuned { 1_000_000 } else { 65_536 };
        Ok(Self {
            connection,
            topic: options.topic.clone(),
            codec: options.codec.clone(),
            acks: if options.acks_all { -1 } else { 1 },
            batch_bytes,
            linger: Duration::from_millis(if options.op == "latency" { 0 } else { 5 }),
            partitions,
            next: 0,
            open: Batch::new(batch_bytes + 64),
            opened: Instant::now(),
            timestamp: 0,
            ready: Vec::new(),
            spare: Vec::new(),
            in_flight: VecDeque::new(),
            acknowledged: 0,
            answer: Vec::new(),
        })
    }

    fn another(&self) -> Option<Self> {
        None
    }

    fn send(&mut self, value: &[u8]) -> Result<(), Failure> {
        if self.open.bytes.len() + value.len() + 32 > self.batch_bytes {
            self.seal()?;
        }
        if self.open.count == 0 {
            self.opened = Instant::now();
            self.timestamp = millis();
        }
        self.open.append(self.timestamp, value);
        Ok(())
    }

    fn flush(&mut self, sent: u64) -> Result<(), Failure> {
        self.seal()?;
        self.request()?;
        while !self.in_flight.is_empty() {
            self.receive()?;
        }
        if self.acknowledged != sent {
            return Err(format!("of {sent} messages sent {} were acknowledged", self.acknowledged).into());
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<(), Failure> {
        if self.open.count > 0 && self.opened.elapsed() >= self.linger {
            self.seal()?;
            self.request()?;
        }
        Ok(())
    }
}

pub(crate) struct Reader {
    connection: Connection,
    topic: String,
    positions: Vec<i64>,
    wait_ms: i32,
    /// Whether a fetch is under way: the next one is, while the answer to the one before is walked.
    asked: bool,
    answer: Vec<u8>,
}

impl Reader {
    fn ask(&mut self) -> Result<(), Failure> {
        let mut body = Out::default();
        body.i32(-1).i32(self.wait_ms).i32(1).i32(50 << 20).0.push(0);
        body.i32(1).text(&self.topic).i32(self.positions.len() as i32);
        for (partition, position) in self.positions.iter().enumerate() {
            body.i32(partition as i32).i64(*position).i32(FETCH_BYTES);
        }
        self.connection.send(FETCH, &[&body.0])?;
        self.asked = true;
        Ok(())
    }

    /// The answer to a fetch that nobody wants any more.
    fn forget(&mut self) -> Result<(), Failure> {
        if std::mem::take(&mut self.asked) {
            self.connection.receive(&mut self.answer)?;
        }
        Ok(())
    }
}

/// Calls `each` with the partition and the records of each part of an answer.
fn parts<'a>(
    mut answer: In<'a>,
    mut each: impl FnMut(usize, In<'a>) -> Result<(), Failure>,
) -> Result<(), Failure> {
    answer.i32();
    for _ in 0..answer.i32() {
        answer.text();
        for _ in 0..answer.i32() {
            let partition = answer.i32();
            check(answer.i16())?;
            answer.take(16);
            let aborted = answer.i32().max(0);
            answer.take(aborted as usize * 16);
            let length = answer.i32().max(0);
            each(partition as usize, In(answer.take(length as usize)))?;
        }
    }
    Ok(())
}

impl crate::Reader for Reader {
    fn connect(options: &Options) -> Result<Self, Failure> {
        let mut connection = Connection::open(options.port)?;
        let partitions = connection.partitions(&options.topic)?;
        let wait_ms = if options.op == "consume" { 20 } else { 500 };
        let positions = vec![0; partitions as usize];
        Ok(Self {
            connection,
            topic: options.topic.clone(),
            positions,
            wait_ms,
            asked: false,
            answer: Vec::new(),
        })
    }

    fn from_beginning(&mut self, _window: u32) -> Result<(), Failure> {
        self.forget()?;
        self.positions.fill(0);
        Ok(())
    }

    fn from_end(&mut self) -> Result<(), Failure> {
        let mut body = Out::default();
        body.i32(-1).i32(1).text(&self.topic).i32(self.positions.len() as i32);
        for partition in 0..self.positions.len() {
            body.i32(partition as i32).i64(-1);
        }
        self.connection.send(LIST_OFFSETS, &[&body.0])?;
        let mut answer = self.connection.receive(&mut self.answer)?;
        answer.i32();
        answer.text();
        for _ in 0..answer.i32() {
            let partition = answer.i32() as usize;
            check(answer.i16())?;
            answer.i64();
            self.positions[partition] = answer.i64();
        }
        Ok(())
    }

    fn read(&mut self, count: u64, mut each: impl FnMut(&[u8])) -> Result<(), Failure> {
        let mut read = 0;
        while read < count {
            if !self.asked {
                self.ask()?;
            }
            let mut buffer = std::mem::take(&mut self.answer);
            let answer = self.connection.receive(&mut buffer)?;
            self.asked = false;
            let before = self.positions.clone();
            parts(In(answer.0), |partition, records| {
                if let Some(last) = batches(records).last() {
                    self.positions[partition] = last.next_offset;
                }
                Ok(())
            })?;
            self.ask()?;
            parts(answer, |partition, records| {
                for batch in batches(records) {
                    read += batch.walk(before[partition], &mut each)?;
                }
                Ok(())
            })?;
            self.answer = buffer;
        }
        if read > count { Err(format!("read {read} messages instead of {count}").into()) } else { Ok(()) }
    }
}
