//! A cluster of two brokers that exist in this process and do what a test tells them.
//!
//! They check sequences as Kafka does (the last five batches of a producer are recognized, a gap is refused, a new epoch begins
//! at 0, but a producer that is not known may begin anywhere), and keep what was written, so that a test can ask for exactly once and for order.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use bytes::Bytes;
use kafka_fast::wire::messages::*;
use kafka_fast::wire::{Batches, Decoder, Encoder, Request, Uuid, Wire};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::Instant;

pub(crate) const TOPIC: &str = "data";
const ID: Uuid = Uuid([7; 16]);

/// What happens to one partition of a produce request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    Write,
    /// Refused with this code.
    Refuse(i16),
    /// Written, and answered with this code all the same.
    WriteAndSay(i16),
    /// The connection breaks before anything is written.
    Break,
    /// Written, and the connection breaks before the answer.
    WriteAndBreak,
    /// Nothing is written and nobody answers.
    Silence,
    /// The broker has older numbers than it had, as after a failover that lost the last batches; then it writes if it can.
    FallBack,
    /// The partition moves to the other broker, which refuses here.
    Move,
}

#[derive(Default)]
pub(crate) struct Partition {
    pub(crate) leader: i32,
    pub(crate) epoch: i32,
    pub(crate) values: Vec<String>,
    producers: HashMap<i64, Known>,
    in_flight: usize,
    pub(crate) in_flight_max: usize,
    pub(crate) epochs_seen: Vec<i16>,
}

#[derive(Default)]
struct Known {
    epoch: i16,
    next: i32,
    last: VecDeque<(i32, i32)>,
}

type Choose = Box<dyn FnMut(i32) -> Fate + Send>;

pub(crate) struct State {
    pub(crate) partitions: Vec<Partition>,
    pub(crate) choose: Choose,
    /// Code of InitProducerId.
    pub(crate) identity_code: i16,
    /// Answers to Produce wait this long.
    pub(crate) latency: Duration,
    /// Each Produce is carried out so much later, and what is behind it is not read before.
    pub(crate) lag: Duration,
    pub(crate) produce_version: i16,
    pub(crate) refreshes: usize,
    ports: [u16; 2],
}

#[derive(Clone)]
pub(crate) struct Fake(Arc<Mutex<State>>);

impl Fake {
    pub(crate) async fn start(partitions: usize) -> Self {
        let listeners = [
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
            TcpListener::bind("127.0.0.1:0").await.unwrap(),
        ];
        let ports = [0, 1].map(|i: usize| listeners[i].local_addr().unwrap().port());
        let partition = |i: usize| Partition { leader: 1 + (i % 2) as i32, ..Partition::default() };
        let fake = Self(Arc::new(Mutex::new(State {
            partitions: (0..partitions).map(partition).collect(),
            choose: Box::new(|_| Fate::Write),
            identity_code: 0,
            latency: Duration::ZERO,
            lag: Duration::ZERO,
            produce_version: 9,
            refreshes: 0,
            ports,
        })));
        for (i, listener) in listeners.into_iter().enumerate() {
            let fake = fake.clone();
            tokio::spawn(async move {
                while let Ok((socket, _)) = listener.accept().await {
                    tokio::spawn(fake.clone().serve(i as i32 + 1, socket));
                }
            });
        }
        fake
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap()
    }

    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.state().ports[0])
    }

    pub(crate) fn on_produce(&self, choose: impl FnMut(i32) -> Fate + Send + 'static) {
        self.state().choose = Box::new(choose);
    }

    async fn serve(self, node: i32, socket: TcpStream) {
        let (mut read, mut write) = socket.into_split();
        // Requests are carried out as they come; answers leave in order, each when its time has come.
        let (answers, mut queue) = mpsc::unbounded_channel::<(Instant, Vec<u8>, Vec<i32>)>();
        let fake = self.clone();
        let writer = tokio::spawn(async move {
            while let Some((at, bytes, partitions)) = queue.recv().await {
                tokio::time::sleep_until(at).await;
                fake.landed(&partitions);
                if write.write_all(&bytes).await.is_err() {
                    break;
                }
            }
            queue.close();
            while let Some((_, _, partitions)) = queue.recv().await {
                fake.landed(&partitions);
            }
        });
        while let Ok(length) = read.read_u32().await {
            let mut frame = vec![0; length as usize];
            if read.read_exact(&mut frame).await.is_err() {
                break;
            }
            if frame.starts_with(&[0, 0]) {
                let lag = self.state().lag;
                tokio::time::sleep(lag).await;
            }
            let Some(answer) = self.answer(node, Bytes::from(frame)) else { break };
            if answers.send(answer).is_err() {
                break;
            }
        }
        drop(answers);
        writer.abort();
    }

    fn landed(&self, partitions: &[i32]) {
        let mut state = self.state();
        partitions.iter().for_each(|p| state.partitions[*p as usize].in_flight -= 1);
    }

    /// `None` breaks the connection.
    fn answer(&self, node: i32, frame: Bytes) -> Option<(Instant, Vec<u8>, Vec<i32>)> {
        let mut d = Decoder::new(frame);
        let (key, version, correlation) = (d.i16().unwrap(), d.i16().unwrap(), d.i32().unwrap());
        let client = d.i16().unwrap().max(0) as usize;
        d.take(client).unwrap();
        let now = Instant::now();
        match key {
            18 => Some((now, self.versions(version, correlation), vec![])),
            3 => Some((now, self.metadata(&mut d, version, correlation), vec![])),
            22 => {
                let _: InitProducerIdRequest = body(&mut d, version);
                let error_code = self.state().identity_code;
                let producer_id = if error_code == 0 { 4000 } else { -1 };
                let answer = InitProducerIdResponse {
                    throttle_time_ms: 0,
                    error_code,
                    producer_id,
                    producer_epoch: 0,
                };
                Some((now, reply::<InitProducerIdRequest>(&answer, version, correlation), vec![]))
            }
            0 => self.produce(node, body(&mut d, version), version, correlation),
            other => panic!("unexpected request {other}"),
        }
    }

    fn versions(&self, version: i16, correlation: i32) -> Vec<u8> {
        let produce = self.state().produce_version;
        let ranges = [(0, 3, produce), (1, 4, 11), (2, 1, 6), (3, 4, 12), (18, 0, 3), (19, 2, 5), (22, 0, 4)];
        let api_keys = ranges.map(|(api_key, min_version, max_version)| ApiVersion {
            api_key,
            min_version,
            max_version,
        });
        let answer = ApiVersionsResponse { api_keys: api_keys.to_vec(), ..ApiVersionsResponse::default() };
        reply::<ApiVersionsRequest>(&answer, version, correlation)
    }

    fn metadata(&self, d: &mut Decoder, version: i16, correlation: i32) -> Vec<u8> {
        let request: MetadataRequest = body(d, version);
        let mut state = self.state();
        state.refreshes += 1;
        let broker = |i: usize| MetadataResponseBroker {
            node_id: i as i32 + 1,
            host: "127.0.0.1".into(),
            port: state.ports[i].into(),
            rack: None,
        };
        let partition = |(i, p): (usize, &Partition)| MetadataResponsePartition {
            error_code: 0,
            partition_index: i as i32,
            leader_id: p.leader,
            leader_epoch: p.epoch,
            replica_nodes: vec![1, 2],
            isr_nodes: vec![1, 2],
            offline_replicas: vec![],
        };
        let topic = MetadataResponseTopic {
            name: Some(TOPIC.into()),
            topic_id: ID,
            partitions: state.partitions.iter().enumerate().map(partition).collect(),
            ..MetadataResponseTopic::default()
        };
        let asked = request.topics.is_none_or(|topics| !topics.is_empty());
        let answer = MetadataResponse {
            brokers: vec![broker(0), broker(1)],
            cluster_id: Some("fake".into()),
            controller_id: 1,
            topics: if asked { vec![topic] } else { vec![] },
            ..MetadataResponse::default()
        };
        reply::<MetadataRequest>(&answer, version, correlation)
    }

    fn produce(
        &self,
        node: i32,
        request: ProduceRequest,
        version: i16,
        correlation: i32,
    ) -> Option<(Instant, Vec<u8>, Vec<i32>)> {
        let mut state = self.state();
        let is_answered = request.acks != 0;
        let mut answers = Vec::new();
        let mut silent = false;
        for topic in request.topic_data {
            assert!(if version >= 13 { topic.topic_id == ID } else { &*topic.name == TOPIC });
            let mut partitions = Vec::new();
            for data in topic.partition_data {
                let fate = (state.choose)(data.index);
                let partition = &mut state.partitions[data.index as usize];
                let write = |p: &mut Partition| p.write(data.records.clone().unwrap());
                let (error_code, base_offset) = match fate {
                    _ if partition.leader != node => (6, -1),
                    Fate::Write => write(partition),
                    Fate::Refuse(code) => (code, -1),
                    Fate::WriteAndSay(code) => {
                        write(partition);
                        (code, -1)
                    }
                    Fate::Break => return None,
                    Fate::WriteAndBreak => {
                        write(partition);
                        return None;
                    }
                    Fate::Silence => {
                        silent = true;
                        (0, -1)
                    }
                    Fate::FallBack => {
                        for known in partition.producers.values_mut() {
                            known.next -= 1;
                            known.last.clear();
                        }
                        write(partition)
                    }
                    Fate::Move => {
                        partition.leader = 3 - partition.leader;
                        partition.epoch += 1;
                        (6, -1)
                    }
                };
                partitions.push(PartitionProduceResponse {
                    index: data.index,
                    error_code,
                    base_offset,
                    current_leader: if error_code == 6 {
                        partition.leader()
                    } else {
                        LeaderIdAndEpoch::default()
                    },
                    ..PartitionProduceResponse::default()
                });
            }
            answers.push(TopicProduceResponse {
                name: topic.name,
                topic_id: topic.topic_id,
                partition_responses: partitions,
            });
        }
        let at = Instant::now() + if silent { Duration::from_secs(3600) } else { state.latency };
        let carried: Vec<i32> =
            answers.iter().flat_map(|t| t.partition_responses.iter().map(|p| p.index)).collect();
        for index in &carried {
            let partition = &mut state.partitions[*index as usize];
            partition.in_flight += 1;
            partition.in_flight_max = partition.in_flight_max.max(partition.in_flight);
        }
        let answer = ProduceResponse { responses: answers, ..ProduceResponse::default() };
        let bytes = is_answered.then(|| reply::<ProduceRequest>(&answer, version, correlation));
        Some((at, bytes.unwrap_or_default(), carried))
    }
}

impl Partition {
    /// Brokers of version 10 and later name it in a refusal (KIP-951).
    fn leader(&self) -> LeaderIdAndEpoch {
        LeaderIdAndEpoch { leader_id: self.leader, leader_epoch: self.epoch }
    }

    /// Code and base offset.
    fn write(&mut self, records: Bytes) -> (i16, i64) {
        let mut batches = Batches::new(records);
        let batch = batches.next().unwrap().unwrap();
        assert!(batches.next().is_none(), "one batch a partition");
        let (id, epoch, sequence) = (batch.producer_id(), batch.producer_epoch(), batch.base_sequence());
        let count = batch.record_count() as i32;
        if id >= 0 {
            let stranger = || Known { epoch, next: sequence, ..Known::default() };
            let known = self.producers.entry(id).or_insert_with(stranger);
            self.epochs_seen.push(epoch);
            if epoch < known.epoch {
                return (47, -1);
            }
            if epoch > known.epoch {
                if sequence != 0 {
                    return (45, -1);
                }
                *known = Known { epoch, ..Known::default() };
            } else if known.last.contains(&(sequence, count)) {
                return (46, -1);
            }
            if sequence != known.next {
                return (45, -1);
            }
            known.next += count;
            known.last.push_back((sequence, count));
            if known.last.len() > 5 {
                known.last.pop_front();
            }
        }
        let base = self.values.len() as i64;
        let open = batch.open(64 << 20).unwrap();
        let text = |v: &[u8]| String::from_utf8(v.to_vec()).unwrap();
        self.values.extend(open.records().map(|r| text(r.unwrap().value.unwrap())));
        (0, base)
    }
}

fn body<R: Request>(d: &mut Decoder, version: i16) -> R {
    let v = R::version(version);
    if v.flexible {
        d.skip_tagged_fields().unwrap();
    }
    R::read(d, v).unwrap()
}

fn reply<R: Request>(answer: &R::Response, version: i16, correlation: i32) -> Vec<u8> {
    let v = R::version(version);
    let mut out = Encoder::new();
    out.put_i32(correlation);
    if v.flexible && R::KEY as i16 != 18 {
        out.put_uvarint(0);
    }
    answer.write(&mut out, v);
    let bytes = out.into_bytes();
    let mut frame = (bytes.len() as u32).to_be_bytes().to_vec();
    frame.extend_from_slice(&bytes);
    frame
}
