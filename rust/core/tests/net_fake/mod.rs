//! A server on the loopback that reads Kafka requests and says what the test tells it to.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its share")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use bytes::Bytes;
use kafka_fast::config::BrokerAddress;
use kafka_fast::wire::messages::{ApiVersion, ApiVersionsRequest, ApiVersionsResponse};
use kafka_fast::wire::{ApiKey, Decoder, Encoder, Request, Wire};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub api: i16,
    pub version: i16,
    pub correlation: i32,
    /// Which connection, counted from 0.
    pub connection: u32,
    header: usize,
    frame: Bytes,
}

impl Asked {
    pub fn is<R: Request>(&self) -> bool {
        self.api == R::KEY as i16
    }

    /// The request itself.
    pub fn read<R: Request>(&self) -> R {
        let mut header = self.header;
        header += usize::from(R::version(self.version).flexible);
        R::read(&mut Decoder::new(self.frame.slice(header..)), R::version(self.version)).unwrap()
    }

    /// The whole answer, length and header included.
    pub fn answer<R: Request>(&self, response: &R::Response) -> Vec<u8> {
        let v = R::version(self.version);
        let mut out = Encoder::new();
        out.put_i32(self.correlation);
        if v.flexible && R::KEY != ApiKey::ApiVersions {
            out.put_uvarint(0);
        }
        response.write(&mut out, v);
        framed(&out.into_bytes())
    }

    /// The answer to ApiVersions of a broker that speaks everything we do.
    pub fn versions(&self) -> Vec<u8> {
        let api_keys = [0, 1, 2, 3, 8, 9, 10, 17, 18, 19, 22, 36]
            .map(|api_key| ApiVersion { api_key, min_version: 0, max_version: 99 })
            .into();
        self.answer::<ApiVersionsRequest>(&ApiVersionsResponse { api_keys, ..Default::default() })
    }
}

/// Bytes behind their length.
pub fn framed(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes()[..], bytes].concat()
}

/// What the server does about a request.
pub enum Reply {
    Say(Vec<u8>),
    Nothing,
    Close,
    /// Reads nothing any more.
    Deaf,
}

pub struct Fake {
    pub address: SocketAddr,
    pub accepted: Arc<AtomicU32>,
    task: JoinHandle<()>,
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Fake {
    /// A server whose answers are made by `handler`, which also gets ApiVersions.
    pub async fn raw(handler: impl FnMut(Asked) -> Reply + Send + 'static) -> Self {
        Self::on(TcpListener::bind("127.0.0.1:0").await.unwrap(), handler)
    }

    /// A server that answers ApiVersions; `handler` gets the rest.
    pub async fn start(handler: impl FnMut(Asked) -> Reply + Send + 'static) -> Self {
        Self::start_on(TcpListener::bind("127.0.0.1:0").await.unwrap(), handler)
    }

    pub fn start_on(listener: TcpListener, mut handler: impl FnMut(Asked) -> Reply + Send + 'static) -> Self {
        Self::on(listener, move |asked| {
            if asked.is::<ApiVersionsRequest>() { Reply::Say(asked.versions()) } else { handler(asked) }
        })
    }

    fn on(listener: TcpListener, handler: impl FnMut(Asked) -> Reply + Send + 'static) -> Self {
        let accepted = Arc::new(AtomicU32::new(0));
        let address = listener.local_addr().unwrap();
        let (count, handler) = (accepted.clone(), Arc::new(Mutex::new(handler)));
        let task = tokio::spawn(async move {
            // Ends with the server: its connections close.
            let mut connections = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                let connection = count.fetch_add(1, Ordering::SeqCst);
                let handler = handler.clone();
                connections.spawn(serve(stream, connection, move |asked| (handler.lock())(asked)));
            }
        });
        Self { address, accepted, task }
    }

    pub fn broker(&self) -> BrokerAddress {
        BrokerAddress::new("127.0.0.1", self.address.port())
    }

    pub fn accepted(&self) -> u32 {
        self.accepted.load(Ordering::SeqCst)
    }
}

async fn serve(mut stream: TcpStream, connection: u32, handler: impl Fn(Asked) -> Reply) {
    while let Ok(length) = stream.read_u32().await {
        let mut frame = vec![0; length as usize];
        if stream.read_exact(&mut frame).await.is_err() {
            return;
        }
        let short = |at: usize| i16::from_be_bytes([frame[at], frame[at + 1]]);
        let asked = Asked {
            api: short(0),
            version: short(2),
            correlation: i32::from_be_bytes(frame[4..8].try_into().unwrap()),
            connection,
            header: 10 + usize::try_from(short(8)).unwrap_or(0),
            frame: frame.into(),
        };
        match handler(asked) {
            Reply::Say(bytes) => {
                if stream.write_all(&bytes).await.is_err() {
                    return;
                }
            }
            Reply::Nothing => {}
            Reply::Close => return,
            Reply::Deaf => std::future::pending().await,
        }
    }
}

/// A server that says `greeting` to whoever connects, then `reply` to the first bytes that satisfy `when`.
pub async fn stranger(
    greeting: &'static [u8],
    when: fn(&[u8]) -> bool,
    reply: &'static [u8],
) -> (BrokerAddress, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = BrokerAddress::new("127.0.0.1", listener.local_addr().unwrap().port());
    let task = tokio::spawn(async move {
        let mut connections = tokio::task::JoinSet::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            connections.spawn(async move {
                let _ = stream.write_all(greeting).await;
                let mut said = VecDeque::new();
                let mut buffer = [0; 1024];
                while let Ok(n @ 1..) = stream.read(&mut buffer).await {
                    said.extend(&buffer[..n]);
                    if when(said.make_contiguous()) {
                        let _ = stream.write_all(reply).await;
                        return;
                    }
                }
            });
        }
    });
    (address, task)
}

/// Waits until `what` holds, 5 s at most.
pub async fn eventually(what: impl Fn() -> bool) {
    for _ in 0..500 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("did not happen within 5 s");
}
