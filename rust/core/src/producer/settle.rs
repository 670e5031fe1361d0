//! What an answer, or its absence, means for each batch of a request.
//!
//! All decisions of the sender about a batch that has flown are here, and none of them waits: the answer comes in, the
//! clock is the producer's, and out come partitions that may send again.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::batch::{Batch, Body, Receipt};
use super::error::DeliveryError;
use super::expire;
use super::partition_queue::{Ticket, backoff};
use super::sender::Flight;
use super::shared::{Broker, Shared};
use super::split;
use super::topic::Partition;
use crate::cluster::Leader;
use crate::config::Acks;
use crate::log_rate;
use crate::net::CallError;
use crate::wire::messages::{PartitionProduceResponse, ProduceResponse};
use crate::wire::{BatchBuilder, ErrorCode, Operation, Treatment, batch};

/// Refusals of one batch (about half a minute) after which errors that should pass but may be the batch's own fault
/// (CORRUPT_MESSAGE, UNKNOWN_SERVER_ERROR) are taken for final, or one bad batch blocked its partition for ever.
const HOPELESS_REFUSALS: u32 = 30;
/// Least bytes of a batch that a topic is held to after a refusal for size.
const BATCH_BYTES_MIN: usize = 1024;

/// What a broker's answer means for a batch.
#[derive(Debug, PartialEq)]
enum Verdict {
    Written,
    Retry,
    /// The numbers do not fit what the broker has.
    Sequence,
    TooLarge,
    Refused,
}

/// Errors that should pass, unless something is wrong with the batch.
fn may_be_its_own_fault(code: ErrorCode) -> bool {
    code.treatment(Operation::Produce) == Treatment::RetryAWhile
}

/// Whether a refused batch may be in the log all the same. With acks=all a leader appends first and waits for its
/// followers then: what it says if it is deposed, or its disk fails, meanwhile is what it says before an append, too.
fn in_doubt(code: ErrorCode, acks: Acks) -> bool {
    match code {
        ErrorCode::REQUEST_TIMED_OUT
        | ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND
        | ErrorCode::UNKNOWN_SERVER_ERROR => true,
        ErrorCode::NOT_LEADER_OR_FOLLOWER
        | ErrorCode::UNKNOWN_TOPIC_OR_PARTITION
        | ErrorCode::KAFKA_STORAGE_ERROR => acks == Acks::All,
        _ => false,
    }
}

/// `refusals`: how often this batch was refused for what may be its own fault.
fn judge(code: ErrorCode, refusals: u32) -> Verdict {
    match code.treatment(Operation::Produce) {
        // Or the broker has had it before: that is what the sequence is for.
        Treatment::Done => Verdict::Written,
        Treatment::Renumber => Verdict::Sequence,
        Treatment::Split => Verdict::TooLarge,
        Treatment::RetryAWhile if refusals >= HOPELESS_REFUSALS => Verdict::Refused,
        Treatment::RetryAWhile | Treatment::Retry | Treatment::Refresh => Verdict::Retry,
        _ => Verdict::Refused,
    }
}

/// Settles each flight of a request by the request's end. `None`: acks=0, there is no answer.
pub(super) fn settle(
    shared: &Arc<Shared>,
    broker: &Arc<Broker>,
    flights: Vec<Flight>,
    result: Result<Option<ProduceResponse>, CallError>,
) {
    let mut end = End { shared, broker, place: Vec::new() };
    match result {
        Ok(answer) => {
            if broker.down_since_us.swap(0, Relaxed) != 0
                && let Some(more) = log_rate::due(format_args!("produce answers {}", broker.node))
            {
                tracing::info!(target: "kafkafast.producer", "Broker {} answers again{more}", broker.node);
            }
            broker.mute(shared.time.us(), answer.as_ref().map_or(0, |answer| answer.throttle_time_ms));
            for flight in flights {
                end.answered(flight, answer.as_ref());
            }
        }
        Err(error) => {
            end.note_down(&error, flights.len());
            if broker.unmute() {
                shared.delay.wake.notify_one();
            }
            for mut flight in flights {
                let before = flight.doubted;
                flight.batch.receipt.set_possibly_written(before || error.possibly_written());
                shared.cluster.request_refresh(&flight.partition.topic);
                end.retry(flight, error.retry_after().unwrap_or_default());
            }
        }
    }
    shared.place_all(end.place);
}

/// Settles flights and collects the partitions that may send again.
struct End<'a> {
    shared: &'a Arc<Shared>,
    broker: &'a Arc<Broker>,
    place: Vec<Arc<Partition>>,
}

impl End<'_> {
    fn answered(&mut self, mut flight: Flight, answer: Option<&ProduceResponse>) {
        let Some(answer) = answer else { return self.written(flight, -1, None) };
        let found = self.find(answer, &flight.partition);
        let Some(answer) = found else {
            let (node, topic, index) = (self.broker.node, &flight.partition.topic, flight.partition.index);
            if let Some(more) = log_rate::due(format_args!("left out {node} {topic}/{index}")) {
                tracing::warn!(target: "kafkafast.producer",
                    "Broker {node} left {topic}/{index} out of its answer; its batch is sent again{more}");
            }
            return self.retry(flight, Duration::ZERO);
        };
        let code = ErrorCode(answer.error_code);
        let failures = flight.partition.queue.lock().failures();
        // Of this batch, not of the partition: an outage before it says nothing about it.
        flight.batch.refusals += u32::from(may_be_its_own_fault(code));
        let verdict = judge(code, flight.batch.refusals);
        if verdict == Verdict::Written {
            let time = Some(answer.log_append_time_ms).filter(|time| *time >= 0);
            return self.written(flight, answer.base_offset, time);
        }
        self.shared.counters.errors.add(1);
        let in_doubt = in_doubt(code, self.shared.settings.acks);
        flight.batch.receipt.set_possibly_written(flight.doubted || in_doubt);
        let partition = &flight.partition;
        // Newer brokers name the new leader in the refusal (KIP-951): no need to ask and wait.
        let leader =
            Leader { node: answer.current_leader.leader_id, epoch: answer.current_leader.leader_epoch };
        let knows_leader =
            leader.node >= 0 && self.shared.cluster.learn_leader(&partition.topic, partition.index, leader);
        if code.treatment(Operation::Produce) == Treatment::Refresh {
            self.shared.cluster.request_refresh(&partition.topic);
        }
        self.log(&flight, code, failures, &verdict);
        match verdict {
            Verdict::Written => unreachable!("returned above"),
            Verdict::Retry if knows_leader => self.retry_at(flight, |_, now| now),
            Verdict::Retry => self.retry(flight, Duration::ZERO),
            Verdict::Sequence => self.renumber(flight),
            Verdict::TooLarge => self.too_large(flight, answer),
            Verdict::Refused => self.refused(flight, code, answer),
        }
    }

    fn find<'a>(
        &self,
        answer: &'a ProduceResponse,
        partition: &Partition,
    ) -> Option<&'a PartitionProduceResponse> {
        let by_name = |name: &str| *name == *partition.topic;
        let topic = answer.responses.iter().find(|topic| {
            if topic.topic_id.is_zero() {
                return by_name(&topic.name);
            }
            let meta = self.shared.cluster.cached_topic(&partition.topic);
            meta.is_some_and(|meta| meta.id == topic.topic_id)
        })?;
        topic.partition_responses.iter().find(|answer| answer.index == partition.index)
    }

    fn log(&self, flight: &Flight, code: ErrorCode, failures: u32, verdict: &Verdict) {
        let (topic, index) = (&flight.partition.topic, flight.partition.index);
        let (node, count) = (self.broker.node, flight.batch.count());
        if failures == 0 && matches!(verdict, Verdict::Retry) {
            // Every leader moves now and then, and a new topic's does not know at once that it is one.
            tracing::debug!(target: "kafkafast.producer", "Broker {node} answered {code} for {topic}/{index}: once more");
        } else if (failures.is_power_of_two() || failures == 0)
            && let Some(more) = log_rate::due(format_args!("produce {node} {topic}/{index} {code}"))
        {
            // The first of a row is news, the others are not, except now and then.
            tracing::warn!(target: "kafkafast.producer",
                "Broker {node} answered {code} for {topic}/{index} ({count} records, {verdict:?}){more}");
        }
    }

    fn written(&mut self, flight: Flight, base_offset: i64, log_append_time: Option<i64>) {
        let Flight { partition, ticket, batch, .. } = flight;
        let Batch { body, plain_bytes, receipt, lease, .. } = batch;
        partition.queued_bytes.fetch_sub(plain_bytes, Relaxed);
        let list = partition.with_queue(|queue| queue.landed(ticket));
        if let Body::Finished(bytes, _) = body
            && let Some(buffer) = batch::recycle(bytes)
        {
            self.shared.memory.recycle(buffer, lease.bytes());
        }
        drop(lease);
        receipt.delivered(base_offset, log_append_time);
        if list {
            self.place.push(partition);
        }
    }

    fn retry(&mut self, flight: Flight, at_least: Duration) {
        self.retry_at(flight, |failures, now| now + backoff(failures, super::noise()).max(at_least));
    }

    fn retry_at(&mut self, flight: Flight, at: impl FnOnce(u32, Instant) -> Instant) {
        let Some(flight) = self.unless_over(flight) else { return };
        let Flight { partition, ticket, batch, .. } = flight;
        self.shared.counters.retries.add(1);
        let now = self.shared.time.now();
        let (list, at) = partition.with_queue(|queue| {
            let at = at(queue.failures() + 1, now);
            (queue.retry(ticket, batch, at), at)
        });
        if list {
            self.shared.delay.add(partition, at);
        }
    }

    fn renumber(&mut self, flight: Flight) {
        let Some(flight) = self.unless_over(flight) else { return };
        let Flight { partition, ticket, batch, .. } = flight;
        self.shared.counters.retries.add(1);
        let now = self.shared.time.now();
        let (list, at) = partition.with_queue(|queue| {
            let at = now + backoff(queue.failures() + 1, super::noise());
            (queue.refused_sequence(ticket, batch, at), at)
        });
        if list {
            self.shared.delay.add(partition, at);
        }
    }

    /// Gives a batch up whose time is over; it would not be sent again for long.
    fn unless_over(&mut self, flight: Flight) -> Option<Flight> {
        if !expire::is_over(self.shared, &flight.batch) {
            return Some(flight);
        }
        let Flight { partition, ticket, batch, .. } = flight;
        let error = expire::error(self.shared, &partition, &batch);
        self.give_up(partition, ticket, batch, error);
        None
    }

    fn too_large(&mut self, flight: Flight, answer: &PartitionProduceResponse) {
        // The pieces would only be sent again.
        let flight = if flight.batch.count() > 1 { self.unless_over(flight) } else { Some(flight) };
        let Some(Flight { partition, ticket, mut batch, .. }) = flight else { return };
        let bytes = batch.bytes();
        if batch.count() > 1
            && let Body::Finished(finished, _) = &batch.body
        {
            match split::halve(finished.clone(), batch.plain_bytes) {
                Ok((first, second)) => {
                    self.learn_size(&partition, batch.plain_bytes);
                    let pieces = split_batch(&partition, &mut batch, first, second);
                    self.shared.counters.splits.add(1);
                    return self.back_in_pieces(partition, ticket, batch, pieces);
                }
                Err(error) => {
                    tracing::error!(target: "kafkafast.producer", "A batch cannot be split: {error}");
                }
            }
        }
        let error = DeliveryError::TooLarge {
            topic: Arc::clone(&partition.topic),
            partition: partition.index,
            bytes,
            limit: answer.error_message.as_deref().and_then(limit_in),
            possibly_written: batch.receipt.possibly_written(),
        };
        self.give_up(partition, ticket, batch, error);
    }

    /// The next batches of the topic are made smaller at once.
    fn learn_size(&self, partition: &Partition, refused_bytes: usize) {
        if let Some(topic) = self.shared.topics.get(partition.topic_id.0) {
            topic.batch_bytes.fetch_min((refused_bytes / 2).max(BATCH_BYTES_MIN), Relaxed);
        }
    }

    fn back_in_pieces(&mut self, partition: Arc<Partition>, ticket: Ticket, rest: Batch, first: Batch) {
        let counts = (first.count(), rest.count());
        if partition.with_queue(|queue| queue.split(ticket, vec![(first, counts.0), (rest, counts.1)])) {
            self.place.push(partition);
        }
    }

    fn refused(&mut self, flight: Flight, code: ErrorCode, answer: &PartitionProduceResponse) {
        let Flight { partition, ticket, batch, .. } = flight;
        let topic = Arc::clone(&partition.topic);
        let possibly_written = batch.receipt.possibly_written();
        let name: Arc<str> = code.to_string().into();
        let error = if matches!(code, ErrorCode::TOPIC_AUTHORIZATION_FAILED) {
            DeliveryError::NotAuthorized { topic, partition: partition.index, code: name, possibly_written }
        } else {
            let of_record =
                answer.record_errors.iter().find_map(|error| error.batch_index_error_message.clone());
            DeliveryError::Refused {
                topic,
                partition: partition.index,
                node: self.broker.node,
                code: name,
                message: of_record.or_else(|| answer.error_message.clone()),
                possibly_written,
            }
        };
        self.give_up(partition, ticket, batch, error);
    }

    fn give_up(&mut self, partition: Arc<Partition>, ticket: Ticket, batch: Batch, error: DeliveryError) {
        if let Some(more) = log_rate::due(format_args!("failed {error}")) {
            tracing::error!(target: "kafkafast.producer", "{} records failed: {error}{more}", batch.count());
        }
        let in_doubt = batch.receipt.possibly_written();
        let list = partition.with_queue(|queue| queue.given_up(ticket, in_doubt));
        fail(&partition, batch, error);
        if list {
            self.place.push(partition);
        }
    }

    fn note_down(&self, error: &CallError, batches: usize) {
        self.shared.counters.errors.add(1);
        let node = self.broker.node;
        let now = self.shared.time.us().max(1);
        self.broker.failed_us.store(now, Relaxed);
        // A broker that answers now and then is down anew each time.
        if self.broker.down_since_us.compare_exchange(0, now, Relaxed, Relaxed).is_ok()
            && let Some(more) = log_rate::due(format_args!("produce fails {node}"))
        {
            tracing::warn!(target: "kafkafast.producer",
                "Produce to broker {node} failed: {error}. Its {batches} batches are kept and sent again{more}");
        } else {
            tracing::debug!(target: "kafkafast.producer", "Produce to broker {node} failed: {error}");
        }
    }
}

/// Moves the first half out of `batch`, which keeps the second.
fn split_batch(partition: &Partition, batch: &mut Batch, first: BatchBuilder, second: BatchBuilder) -> Batch {
    let plain = batch.plain_bytes;
    let halves = first.len() + second.len();
    partition.queued_bytes.fetch_add(halves, Relaxed);
    partition.queued_bytes.fetch_sub(plain, Relaxed);
    let receipt = batch.receipt.split_off_first(first.count());
    // Each pays for itself, or the larger half would be held unpaid once the smaller one has ended.
    let lease = batch.lease.split_off(first.len());
    batch.plain_bytes = second.len();
    batch.body = Body::Plain(second);
    let (plain_bytes, born_us) = (first.len(), batch.born_us);
    Batch { plain_bytes, body: Body::Plain(first), born_us, refusals: 0, receipt, lease }
}

/// The end of a batch that its partition's queue has given up.
pub(super) fn fail(partition: &Partition, batch: Batch, error: DeliveryError) {
    partition.queued_bytes.fetch_sub(batch.plain_bytes, Relaxed);
    let Batch { receipt, lease, .. } = batch;
    drop(lease);
    Receipt::failed(receipt, error);
}

/// The limit in a broker's text, e.g. "... exceeds the maximum configured value of 1048588.": its last number.
fn limit_in(text: &str) -> Option<usize> {
    let mut numbers = text.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
    numbers.next_back()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_answer_has_its_verdict() {
        assert_eq!(judge(ErrorCode::NONE, 0), Verdict::Written);
        assert_eq!(judge(ErrorCode::DUPLICATE_SEQUENCE_NUMBER, 3), Verdict::Written);
        assert_eq!(judge(ErrorCode::NOT_LEADER_OR_FOLLOWER, 99), Verdict::Retry);
        assert_eq!(judge(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, 99), Verdict::Retry);
        assert_eq!(judge(ErrorCode::NOT_ENOUGH_REPLICAS, 99), Verdict::Retry);
        assert_eq!(judge(ErrorCode::REQUEST_TIMED_OUT, 99), Verdict::Retry);
        assert_eq!(judge(ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, 0), Verdict::Sequence);
        assert_eq!(judge(ErrorCode::MESSAGE_TOO_LARGE, 0), Verdict::TooLarge);
        assert_eq!(judge(ErrorCode::RECORD_LIST_TOO_LARGE, 0), Verdict::TooLarge);
        assert_eq!(judge(ErrorCode::TOPIC_AUTHORIZATION_FAILED, 0), Verdict::Refused);
        assert_eq!(judge(ErrorCode::INVALID_RECORD, 0), Verdict::Refused);
        assert_eq!(judge(ErrorCode::CORRUPT_MESSAGE, 3), Verdict::Retry);
        assert_eq!(judge(ErrorCode::CORRUPT_MESSAGE, 30), Verdict::Refused);
    }

    #[test]
    fn the_limit_is_read_from_the_brokers_text() {
        let text = "The record batch size in the append to data-0 is 2000099 bytes which exceeds the maximum \
                    configured value of 1048588.";
        assert_eq!(limit_in(text), Some(1_048_588));
        assert_eq!(limit_in("no number"), None);
    }
}
