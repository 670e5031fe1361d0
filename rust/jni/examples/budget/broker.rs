//! A broker on the loopback that takes everything, forgets it, and has logs without end to read.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kafka_fast::config::Codec;
use kafka_fast::wire::messages::*;
use kafka_fast::wire::{
    ApiKey, BatchBuilder, Decoder, Record, Request, RequestHeader, Uuid, decode_request, response_frame,
};

/// Topics by the size of their records in bytes.
pub(crate) const TOPICS: [(&str, usize); 2] = [("records-100", 100), ("records-1000", 1000)];
/// Bytes of a batch of the logs, about.
pub(crate) const BATCH_BYTES: usize = 64 << 10;
const PARTITIONS: i32 = 2;
/// Where every log ends.
const END: i64 = 10_000_000;
/// Most bytes of a partition in one answer.
const ANSWER_BYTES: usize = 1 << 20;

/// Whether answers to produce requests wait.
static HELD: AtomicBool = AtomicBool::new(false);
/// How long they wait at least: until the client has nothing left to do but to wait, or it would sometimes find the answer
/// before it looks for it and sometimes not.
const THINKING: Duration = Duration::from_millis(3);

/// Lets produce requests wait for their answers, so that nothing is settled while a thread of its own is counted that
/// shares memory with those that settle.
pub(crate) fn hold(held: bool) {
    HELD.store(held, Ordering::SeqCst);
}

/// Something like JSON, so that codecs have work; always the same.
pub(crate) fn payload(bytes: usize, seed: u64) -> Vec<u8> {
    let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut out = Vec::with_capacity(bytes + 64);
    while out.len() < bytes {
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        let (id, price, what) =
            (x % 100_000, x >> 40 & 0xffff, ["open", "closed", "paid"][(x >> 60) as usize % 3]);
        out.extend_from_slice(
            format!("{{\"order\":{id},\"price\":{price},\"state\":\"{what}\"}},").as_bytes(),
        );
    }
    out.truncate(bytes);
    out
}

/// An open batch of as many records as fit into [`BATCH_BYTES`], and their number.
pub(crate) fn batch(bytes: usize) -> (BatchBuilder, u32) {
    let mut builder = BatchBuilder::with_capacity(BATCH_BYTES);
    while builder.len() + bytes + 64 <= BATCH_BYTES {
        let value = payload(bytes, u64::from(builder.count()));
        builder.append(1_700_000_000_000 + i64::from(builder.count()), &Record::value(&value));
    }
    let count = builder.count();
    (builder, count)
}

/// The bytes of a batch and the number of its records, by record size.
static BATCHES: LazyLock<HashMap<usize, (Bytes, u32)>> = LazyLock::new(|| {
    let made = |(_, bytes)| {
        let (builder, count) = batch(bytes);
        (bytes, (builder.seal(Codec::None).finish(), count))
    };
    TOPICS.map(made).into()
});

/// A finished batch whose first record has the offset 0.
pub(crate) fn finished(bytes: usize) -> (Bytes, u32) {
    BATCHES[&bytes].clone()
}

fn id(topic: usize) -> Uuid {
    Uuid([topic as u8 + 1; 16])
}

fn topic_of(id: Uuid) -> usize {
    usize::from(id.0[0]) - 1
}

/// Starts the broker in threads of its own, which end with the process; returns its port.
pub(crate) fn start() -> std::io::Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let port = listener.local_addr()?.port();
    LazyLock::force(&BATCHES);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            std::thread::spawn(move || serve(stream, port));
        }
    });
    Ok(port)
}

/// Answers one connection until it ends.
fn serve(mut stream: TcpStream, port: u16) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut length = [0; 4];
    loop {
        stream.read_exact(&mut length)?;
        let mut request = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut request)?;
        stream.write_all(&answer(request.into(), port))?;
    }
}

fn answer(request: Bytes, port: u16) -> Vec<u8> {
    let header = RequestHeader::read(&mut Decoder::new(request.clone())).expect("a request has a header");
    match header.api_key {
        key if key == ApiKey::ApiVersions as i16 => reply(request, |_: ApiVersionsRequest| versions()),
        key if key == ApiKey::Metadata as i16 => reply(request, |_: MetadataRequest| metadata(port)),
        key if key == ApiKey::InitProducerId as i16 => reply(request, |_: InitProducerIdRequest| {
            InitProducerIdResponse { producer_id: 1, ..Default::default() }
        }),
        key if key == ApiKey::Produce as i16 => reply(request, produce),
        key if key == ApiKey::ListOffsets as i16 => reply(request, list_offsets),
        key if key == ApiKey::Fetch as i16 => reply(request, fetch),
        other => panic!("the broker of the budgets does not speak API {other}"),
    }
}

fn reply<R: Request>(request: Bytes, serve: impl FnOnce(R) -> R::Response) -> Vec<u8> {
    let (header, request) = decode_request::<R>(request).expect("our own requests are sound");
    let frame = response_frame::<R>(&serve(request), header.api_version, header.correlation_id);
    frame.segments().collect::<Vec<_>>().concat()
}

fn versions() -> ApiVersionsResponse {
    let ours = [
        ProduceRequest::newest(),
        FetchRequest::newest(),
        ListOffsetsRequest::newest(),
        MetadataRequest::newest(),
        ApiVersionsRequest::newest(),
        InitProducerIdRequest::newest(),
    ];
    let api_keys =
        ours.map(|(api_key, max_version)| ApiVersion { api_key, min_version: 0, max_version }).to_vec();
    ApiVersionsResponse { api_keys, ..Default::default() }
}

trait Newest {
    /// The API's number and its newest version.
    fn newest() -> (i16, i16);
}

impl<R: Request> Newest for R {
    fn newest() -> (i16, i16) {
        (R::KEY as i16, R::VERSIONS.1)
    }
}

fn metadata(port: u16) -> MetadataResponse {
    let partition = |partition_index| MetadataResponsePartition {
        partition_index,
        leader_id: 1,
        leader_epoch: 0,
        replica_nodes: vec![1],
        isr_nodes: vec![1],
        ..Default::default()
    };
    let topic = |(i, (name, _)): (usize, &(&str, usize))| MetadataResponseTopic {
        name: Some((*name).into()),
        topic_id: id(i),
        partitions: (0..PARTITIONS).map(partition).collect(),
        ..Default::default()
    };
    let broker =
        MetadataResponseBroker { node_id: 1, host: "127.0.0.1".into(), port: port.into(), rack: None };
    MetadataResponse {
        brokers: vec![broker],
        cluster_id: Some("budget".into()),
        controller_id: 1,
        topics: TOPICS.iter().enumerate().map(topic).collect(),
        ..Default::default()
    }
}

fn produce(request: ProduceRequest) -> ProduceResponse {
    std::thread::sleep(THINKING);
    while HELD.load(Ordering::SeqCst) {
        std::thread::sleep(THINKING);
    }
    let partition = |data: PartitionProduceData| PartitionProduceResponse {
        index: data.index,
        base_offset: 7,
        ..Default::default()
    };
    let topic = |topic: TopicProduceData| TopicProduceResponse {
        name: topic.name,
        topic_id: topic.topic_id,
        partition_responses: topic.partition_data.into_iter().map(partition).collect(),
    };
    ProduceResponse { responses: request.topic_data.into_iter().map(topic).collect(), ..Default::default() }
}

fn list_offsets(request: ListOffsetsRequest) -> ListOffsetsResponse {
    let partition = |p: ListOffsetsPartition| ListOffsetsPartitionResponse {
        partition_index: p.partition_index,
        // -2 asks for the earliest, -1 for the end.
        offset: if p.timestamp == -2 { 0 } else { END },
        leader_epoch: 0,
        ..Default::default()
    };
    let topic = |topic: ListOffsetsTopic| ListOffsetsTopicResponse {
        name: topic.name,
        partitions: topic.partitions.into_iter().map(partition).collect(),
    };
    ListOffsetsResponse { topics: request.topics.into_iter().map(topic).collect(), ..Default::default() }
}

fn fetch(request: FetchRequest) -> FetchResponse {
    std::thread::sleep(THINKING);
    let topic = |topic: FetchTopic| {
        let partition = |p: FetchPartition| PartitionData {
            partition_index: p.partition,
            high_watermark: END,
            last_stable_offset: END,
            log_start_offset: 0,
            records: Some(log(TOPICS[topic_of(topic.topic_id)].1, p.fetch_offset, p.partition_max_bytes)),
            ..Default::default()
        };
        FetchableTopicResponse {
            topic: topic.topic,
            topic_id: topic.topic_id,
            partitions: topic.partitions.into_iter().map(partition).collect(),
        }
    };
    FetchResponse { responses: request.topics.into_iter().map(topic).collect(), ..Default::default() }
}

/// The whole batches from the one with `offset` on; the same bytes again and again but for their first offset, which the
/// CRC does not cover.
fn log(size: usize, offset: i64, most: i32) -> Bytes {
    let (batch, count) = &BATCHES[&size];
    let most = usize::try_from(most).unwrap_or(0).min(ANSWER_BYTES);
    let mut base = offset - offset % i64::from(*count);
    let mut out = Vec::with_capacity(most + batch.len());
    while out.is_empty() || out.len() + batch.len() <= most {
        out.extend_from_slice(&base.to_be_bytes());
        out.extend_from_slice(&batch[8..]);
        base += i64::from(*count);
    }
    out.into()
}
