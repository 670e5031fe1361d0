//! A broker's sockets: requests are carried out one after the other as they come, and answers leave in that order, unless they are
//! told to leave otherwise.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{
    Api, Call, Deed, Shared, Way, api_versions, create_topics, fetch, find_coordinator, init_producer_id,
    list_offsets, metadata, offset_commit, offset_fetch, produce,
};

/// How long a swapped answer waits for one to go before it.
const SWAP_WAIT: Duration = Duration::from_millis(200);

/// What a request is answered with: its body, and how it goes out.
pub(super) struct Answer {
    pub(super) body: BytesMut,
    pub(super) way: Way,
}

impl Answer {
    /// The body at the version of the call; `deeds` are those of the partitions.
    pub(super) fn new(body: &impl Encodable, call: Call, deeds: &[Deed]) -> Self {
        let mut bytes = BytesMut::new();
        body.encode(&mut bytes, call.version).expect("a fake broker's answer is valid");
        let way = deeds.iter().rev().map(|deed| deed.way).find(|way| *way != Way::Whole);
        Self { body: bytes, way: way.unwrap_or_default() }
    }
}

/// What the answer to a request says about throttling: the most that was said for any partition.
pub(super) fn throttle(deeds: &[Deed]) -> i32 {
    deeds.iter().map(|deed| deed.throttle_ms).max().unwrap_or(0)
}

/// A request without its header.
pub(super) fn body<T: Decodable>(mut bytes: Bytes, version: i16) -> T {
    T::decode(&mut bytes, version).expect("the request is valid")
}

pub(super) async fn listen(shared: Arc<Shared>, node: i32, listener: TcpListener) {
    // End with the broker: its connections close.
    let mut connections = JoinSet::new();
    let sessions = Arc::new(fetch::Sessions::default());
    while let Ok((stream, _)) = listener.accept().await {
        let (shared, sessions) = (Arc::clone(&shared), Arc::clone(&sessions));
        connections.spawn(async move {
            tokio::select! {
                () = serve(Arc::clone(&shared), sessions, node, stream) => {}
                () = shared.replaced.notified() => {}
            }
        });
    }
}

async fn serve(shared: Arc<Shared>, sessions: Arc<fetch::Sessions>, node: i32, stream: TcpStream) {
    let (mut read, mut write) = stream.into_split();
    let (answers, mut queue) = mpsc::unbounded_channel::<(Bytes, Way)>();
    let writer = async move {
        while let Some((frame, way)) = queue.recv().await {
            let gone = match way {
                Way::Swapped => {
                    if let Ok(Some((next, _))) = timeout(SWAP_WAIT, queue.recv()).await {
                        write.write_all(&next).await.is_err()
                    } else {
                        false
                    }
                }
                Way::Late(wait) => {
                    tokio::time::sleep(wait).await;
                    false
                }
                Way::Cut => return,
                Way::Half => {
                    let _ = write.write_all(&frame[..frame.len() / 2]).await;
                    return;
                }
                Way::Silence => std::future::pending().await,
                Way::Whole | Way::Truncated => false,
            };
            if gone || write.write_all(&frame).await.is_err() {
                return;
            }
        }
    };
    let reader = async {
        while let Ok(length) = read.read_u32().await {
            let mut frame = vec![0; length as usize];
            if read.read_exact(&mut frame).await.is_err() {
                return;
            }
            let answer = answer(&shared, &sessions, node, frame.into()).await;
            if answers.send(answer).is_err() {
                return;
            }
        }
    };
    // Whichever ends first ends the connection.
    tokio::select! {
        () = reader => {}
        () = writer => {}
    }
}

/// The whole answer, length and header included, and how it goes out.
async fn answer(shared: &Shared, sessions: &fetch::Sessions, node: i32, mut frame: Bytes) -> (Bytes, Way) {
    let (key, version) = (i16::from_be_bytes([frame[0], frame[1]]), i16::from_be_bytes([frame[2], frame[3]]));
    let api = Api::of(key).unwrap_or_else(|| panic!("a fake broker does not know request {key}"));
    let key = ApiKey::try_from(key).expect("Kafka has it");
    let header = RequestHeader::decode(&mut frame, key.request_header_version(version))
        .expect("the request's header is valid");
    let number = {
        let mut state = shared.state();
        state.requests += 1;
        state.requests - 1
    };
    let call = Call { api, number, version, node };
    let answer = match api {
        Api::ApiVersions => api_versions::answer(shared, call),
        Api::Metadata => metadata::answer(shared, call, body(frame, version)),
        Api::InitProducerId => init_producer_id::answer(shared, call),
        Api::Produce => produce::answer(shared, call, &body(frame, version)),
        Api::ListOffsets => list_offsets::answer(shared, call, &body(frame, version)),
        Api::Fetch => fetch::answer(shared, sessions, call, &body(frame, version)).await,
        Api::FindCoordinator => find_coordinator::answer(shared, call, &body(frame, version)),
        Api::OffsetCommit => offset_commit::answer(shared, call, &body(frame, version)),
        Api::OffsetFetch => offset_fetch::answer(shared, call, &body(frame, version)),
        Api::CreateTopics => create_topics::answer(shared, call, &body(frame, version)),
    };
    let mut bytes = BytesMut::new();
    ResponseHeader::default()
        .with_correlation_id(header.correlation_id)
        .encode(&mut bytes, key.response_header_version(version))
        .expect("a header is valid");
    bytes.extend_from_slice(&answer.body);
    if answer.way == Way::Truncated {
        bytes.truncate(bytes.len() - (bytes.len() - 4).min(3));
    }
    let mut frame = BytesMut::from(&(bytes.len() as u32).to_be_bytes()[..]);
    frame.extend_from_slice(&bytes);
    (frame.freeze(), answer.way)
}
