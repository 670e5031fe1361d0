//! The task that sends to one broker.
//!
//! It takes partitions off the broker's ready list, one batch of each, and puts as many as fit into a request. It
//! keeps at most [`REQUESTS_MAX`] requests in flight and polls them itself, in the order they were made: no task
//! per request. Requests are made ready side by side (compression takes its time) but handed to the connection in
//! order ([`Turn`]), because several batches of one partition may be on their way.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::task::Poll;

use super::batch::Batch;
use super::identity::Standing;
use super::partition_queue::{Identity, Next, Ticket};
use super::request;
use super::shared::{Broker, Shared, stopped};
use super::topic::Partition;

/// Requests of one producer in flight to one broker; what is sealed meanwhile shares the next.
pub(super) const REQUESTS_MAX: usize = 5;

/// One batch on its way.
pub(super) struct Flight {
    pub(super) partition: Arc<Partition>,
    pub(super) ticket: Ticket,
    pub(super) batch: Batch,
    /// Whether an earlier flight may have left the batch in the log.
    pub(super) doubted: bool,
}

/// The place of a request in the order of a sender's requests.
pub(super) struct Turn {
    next: Arc<AtomicU64>,
    mine: u64,
}

impl Turn {
    /// Waits until every earlier request has been handed over. Needs no waker: whatever advances the turn is a poll
    /// of an earlier request by the same task, which polls this one next ([`any`]).
    pub(super) async fn come(&self) {
        std::future::poll_fn(|_| match self.next.load(Relaxed) >= self.mine {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
        .await;
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.next.fetch_max(self.mine + 1, Relaxed);
    }
}

type Request = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The task; ends with the producer, and what is in flight then ends as possibly written.
pub(super) async fn run(shared: Arc<Shared>, broker: Arc<Broker>) {
    let mut stop = shared.stop.subscribe();
    let mut standing = shared.identity.subscribe();
    let known = tokio::select! {
        biased;
        () = stopped(&mut stop) => return,
        known = async { standing.wait_for(|s| *s != Standing::Asking).await.map(|s| *s) } => known,
    };
    // The sender half lives in `shared`, so there always is an answer.
    let identity = known.ok().and_then(Standing::identity);
    let mut requests: Vec<Request> = Vec::with_capacity(REQUESTS_MAX);
    let next = Arc::new(AtomicU64::new(0));
    let mut made = 0;
    loop {
        while requests.len() < REQUESTS_MAX {
            let Some(flights) = next_request(&shared, &broker, identity) else { break };
            let (shared, broker) = (Arc::clone(&shared), Arc::clone(&broker));
            let turn = Turn { next: Arc::clone(&next), mine: made };
            made += 1;
            requests.push(Box::pin(request::run(shared, broker, flights, turn)));
        }
        tokio::select! {
            biased;
            () = stopped(&mut stop) => return,
            ended = any(&mut requests), if !requests.is_empty() => {
                requests_ended(&shared, &broker, ended);
            }
            () = broker.wake.notified() => {}
        }
    }
}

/// Polls all requests, oldest first, until some have ended; returns how many.
async fn any(requests: &mut Vec<Request>) -> usize {
    std::future::poll_fn(|cx| {
        let before = requests.len();
        requests.retain_mut(|request| request.as_mut().poll(cx).is_pending());
        let ended = before - requests.len();
        if ended > 0 { Poll::Ready(ended) } else { Poll::Pending }
    })
    .await
}

/// What the next request carries; `None`: nothing can go now.
pub(super) fn next_request(
    shared: &Arc<Shared>,
    broker: &Arc<Broker>,
    identity: Option<Identity>,
) -> Option<Vec<Flight>> {
    if broker.muted_until(|| shared.time.us()).is_some() {
        let ready = std::mem::take(&mut *broker.ready.lock());
        ready.into_iter().for_each(|partition| shared.delay.add_muted(partition, broker.node));
        return None;
    }
    let flights = gather(shared, broker, identity);
    if flights.is_empty() {
        return None;
    }
    broker.in_flight.fetch_add(1, SeqCst);
    broker.last_send_us.store(shared.time.us().max(1), Relaxed);
    Some(flights)
}

/// Requests of a broker have ended and were settled.
pub(super) fn requests_ended(shared: &Shared, broker: &Broker, ended: usize) {
    broker.in_flight.fetch_sub(ended, SeqCst);
    shared.linger.broker_freed();
}

/// One batch of each ready partition, up to the bytes of a request.
fn gather(shared: &Arc<Shared>, broker: &Arc<Broker>, identity: Option<Identity>) -> Vec<Flight> {
    let limit = shared.settings.batch_byte_limit;
    let now = shared.time.now();
    let mut flights = Vec::new();
    let mut bytes = 0;
    // A request cannot carry a partition twice; those that have more stand in line again afterwards.
    let mut again = Vec::new();
    loop {
        let Some(partition) = broker.ready.lock().pop_front() else { break };
        let leader = shared.cluster.leader(&partition.topic, partition.index);
        if leader.is_none_or(|leader| leader.node != broker.node) {
            shared.place(partition);
            continue;
        }
        let mut queue = partition.queue.lock();
        let next_bytes = queue.waiting().next().map_or(0, Batch::bytes);
        if !flights.is_empty() && bytes + next_bytes > limit {
            drop(queue);
            broker.ready.lock().push_front(partition);
            break;
        }
        match queue.take(now, identity) {
            Next::Batch(ticket, batch) => {
                bytes += next_bytes;
                let more = queue.list();
                partition.note_busy(&queue);
                drop(queue);
                if more {
                    again.push(Arc::clone(&partition));
                }
                let doubted = batch.receipt.possibly_written();
                flights.push(Flight { partition, ticket, batch, doubted });
            }
            Next::Later(at) => {
                drop(queue);
                shared.delay.add(partition, at);
            }
            Next::Nothing => {}
        }
    }
    broker.ready.lock().extend(again);
    flights
}
