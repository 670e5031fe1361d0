//! One produce request: its batches made ready, and sent.

use std::sync::Arc;

use bytes::Bytes;

use super::batch::Body;
use super::partition_queue::Stamp;
use super::sender::{Flight, Turn};
use super::settle;
use super::shared::{Broker, Shared};
use crate::cluster::Purpose;
use crate::config::{Acks, Codec, Compression};
use crate::net::{CallError, Connection};
use crate::wire::messages::{PartitionProduceData, ProduceRequest, ProduceResponse, TopicProduceData};
use crate::wire::{BatchBuilder, ProducerStamp, Uuid, batch};

/// Batches of at least this size are compressed on a blocking thread: gzip needs 10 ms for a megabyte.
const BLOCKING_BYTES_MIN: usize = 32 << 10;
/// From this level on zstd needs 100 ms and more for a megabyte ...
const ZSTD_LEVEL_SLOW: i32 = 13;
/// ... and leaves the network's threads alone from this size on.
const BLOCKING_BYTES_MIN_SLOW: usize = 2 << 10;

/// Sends the flights in one request and settles them. Dropped in the middle, each batch ends as possibly written.
pub(super) async fn run(shared: Arc<Shared>, broker: Arc<Broker>, mut flights: Vec<Flight>, turn: Turn) {
    let request = prepare(&shared, &mut flights).await;
    turn.come().await;
    // Bounded by the connect time-out.
    let result = match shared.cluster.connection(broker.node, Purpose::Produce).await {
        Ok(connection) => {
            leaves(&mut flights);
            call(&shared, &connection, &request, turn).await
        }
        Err(error) => {
            drop(turn);
            Err(error)
        }
    };
    // The request holds the batches' bytes; without it their buffers can be used again.
    drop(request);
    settle::settle(&shared, &broker, flights, result);
}

/// Makes the batches ready for the wire and puts them into a request.
pub(super) async fn prepare(shared: &Shared, flights: &mut [Flight]) -> ProduceRequest {
    compress(shared, flights).await;
    shared.counters.requests.add(1);
    build(shared, flights)
}

/// The request is handed over: from now on its records may be in the log.
pub(super) fn leaves(flights: &mut [Flight]) {
    flights.iter_mut().for_each(|f| f.batch.receipt.set_possibly_written(true));
}

/// `None`: acks=0, there is no answer. Hands the request over, as a rule in its first poll, and ends its turn.
async fn call(
    shared: &Shared,
    connection: &Connection,
    request: &ProduceRequest,
    turn: Turn,
) -> Result<Option<ProduceResponse>, CallError> {
    let timeout = shared.settings.request_timeout;
    if shared.settings.acks == Acks::None {
        return connection.send_only_then(request, timeout, || drop(turn)).await.map(|()| None);
    }
    match connection.start(request)? {
        Some(pending) => {
            drop(turn);
            pending.answer(timeout).await.map(Some)
        }
        // The connection renews its session. It keeps its turn meanwhile: who waits for room may be woken out of order.
        None => connection.call_then(request, timeout, || drop(turn)).await.map(Some),
    }
}

/// Turns plain bodies into finished ones, large ones on blocking threads, side by side: as many at once as there are cores.
/// Small ones here, but hundreds of them would keep all else waiting that this thread does: now and then it has its turn.
async fn compress(shared: &Shared, flights: &mut [Flight]) {
    let compression = shared.settings.compression;
    let blocking_bytes_min = blocking_bytes_min(compression);
    let mut jobs = Vec::new();
    let mut in_a_row = 0;
    for (index, flight) in flights.iter_mut().enumerate() {
        let stamp = flight.ticket.stamp();
        let body = std::mem::replace(&mut flight.batch.body, Body::Taken);
        flight.batch.body = match body {
            Body::Plain(builder) if builder.len() >= blocking_bytes_min => {
                let permit = Arc::clone(&shared.compressing).acquire_owned().await;
                let job = tokio::task::spawn_blocking(move || {
                    let bytes = finish(builder, compression, stamp);
                    drop(permit);
                    bytes
                });
                jobs.push((index, job));
                Body::Taken
            }
            Body::Plain(builder) => {
                in_a_row += builder.len();
                Body::Finished(finish(builder, compression, stamp), stamp)
            }
            Body::Finished(bytes, old) if old != stamp => {
                Body::Finished(batch::restamp(bytes, stamp.map(wire_stamp)), stamp)
            }
            body => body,
        };
        if in_a_row >= blocking_bytes_min {
            in_a_row = 0;
            tokio::task::yield_now().await;
        }
    }
    for (index, job) in jobs {
        match job.await {
            Ok(bytes) => {
                let flight = &mut flights[index];
                flight.batch.lease.shrink_to(bytes.len());
                flight.batch.body = Body::Finished(bytes, flight.ticket.stamp());
            }
            Err(error) => match error.try_into_panic() {
                // Compression does not panic; if it did, the task that polls this may as well.
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is going down, and this with it.
                Err(_) => std::future::pending().await,
            },
        }
    }
}

/// Batches of so many bytes and more are for a blocking thread.
fn blocking_bytes_min(compression: Compression) -> usize {
    match compression {
        Compression { codec: Codec::None, .. } => usize::MAX,
        Compression { codec: Codec::Zstd, level: ZSTD_LEVEL_SLOW.. } => BLOCKING_BYTES_MIN_SLOW,
        _ => BLOCKING_BYTES_MIN,
    }
}

fn finish(builder: BatchBuilder, compression: Compression, stamp: Option<Stamp>) -> Bytes {
    let mut sealed = builder.seal(compression);
    sealed.stamp(stamp.map(wire_stamp));
    sealed.finish()
}

fn wire_stamp(stamp: Stamp) -> ProducerStamp {
    ProducerStamp { id: stamp.id, epoch: stamp.epoch, base_sequence: stamp.sequence }
}

fn build(shared: &Shared, flights: &mut [Flight]) -> ProduceRequest {
    // Partitions of one topic stand together in a request.
    flights.sort_by_key(|flight| (flight.partition.topic_id.0, flight.partition.index));
    let mut topics: Vec<TopicProduceData> = Vec::new();
    for flight in flights.iter() {
        let Body::Finished(bytes, _) = &flight.batch.body else {
            unreachable!("compress finishes every body")
        };
        shared.counters.bytes_sent.add(bytes.len() as u64);
        let name = &flight.partition.topic;
        let data = PartitionProduceData { index: flight.partition.index, records: Some(bytes.clone()) };
        match topics.last_mut() {
            Some(topic) if topic.name == *name => topic.partition_data.push(data),
            _ => {
                let topic_id = shared.cluster.cached_topic(name).map_or(Uuid::default(), |meta| meta.id);
                topics.push(TopicProduceData {
                    name: Arc::clone(name),
                    topic_id,
                    partition_data: vec![data],
                });
            }
        }
    }
    ProduceRequest {
        transactional_id: None,
        acks: shared.settings.acks.wire(),
        timeout_ms: shared.settings.request_timeout.as_millis().min(i32::MAX as u128) as i32,
        topic_data: topics,
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::ops::Range;
    use std::pin::pin;
    use std::task::Poll;

    use super::super::sender::next_request;
    use super::super::tests::World;
    use super::*;

    /// A request of a batch of each of some partitions.
    fn flights(world: &World, partitions: Range<u32>, value: &[u8]) -> Vec<Flight> {
        for index in partitions.clone() {
            drop(world.append(1_000, index as i32, value));
            world.shared.seal_now(world.partition(index), false);
            world.shared.place(Arc::clone(world.partition(index)));
        }
        let broker = world.shared.known_broker(1).expect("placing made the leader known");
        let flights = next_request(&world.shared, &broker, None).expect("there are batches");
        assert_eq!(flights.len(), partitions.len());
        flights
    }

    fn count(request: &ProduceRequest) -> usize {
        request.topic_data.iter().map(|topic| topic.partition_data.len()).sum()
    }

    #[tokio::test]
    async fn hundreds_of_batches_do_not_keep_the_thread() {
        // Each is too small for a thread of its own; all together they take as long as large ones.
        let world = World::new(1, 40, &[("codec", "gzip")]).await;
        let mut flights = flights(&world, 0..40, &[7; 20_000]);
        let mut polls = 0;
        let mut prepared = pin!(prepare(&world.shared, &mut flights));
        let request = std::future::poll_fn(|context| {
            polls += 1;
            prepared.as_mut().poll(context)
        });
        assert_eq!(count(&request.await), 40);
        assert!(polls >= 20, "others had only {polls} turns");
    }

    #[tokio::test]
    async fn batches_that_wait_for_a_core_get_it_one_after_the_other() {
        let world = World::new(1, 12, &[("codec", "gzip")]).await;
        let compressing = &world.shared.compressing;
        let cores = compressing.available_permits();
        let others = Arc::clone(compressing).acquire_many_owned(cores as u32).await.unwrap();
        let mut first = flights(&world, 0..6, &[7; 100_000]);
        let mut second = flights(&world, 6..12, &[8; 100_000]);
        {
            let mut waiting = pin!(prepare(&world.shared, &mut second));
            let polled = std::future::poll_fn(|context| Poll::Ready(waiting.as_mut().poll(context))).await;
            assert!(polled.is_pending());
            // Given up while it waits, it holds nobody up.
        }
        let both = async { tokio::join!(prepare(&world.shared, &mut first), async { drop(others) }) };
        let (request, ()) = both.await;
        assert_eq!(count(&request), 6);
        assert_eq!(compressing.available_permits(), cores);
    }
}
