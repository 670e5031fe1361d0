//! A TCP proxy that misbehaves on demand: the network between a client and a broker.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the proxy does with bytes and connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Passes everything.
    None,
    /// Closes connections as soon as they are made, and those that exist.
    Cut,
    /// Keeps connections and passes nothing, in either direction, until told otherwise.
    Stall,
    /// Passes what the client says and closes the connection when the first answer comes: written, but nobody knows.
    CutAnswer,
    /// Passes each piece only after so long.
    Delay(Duration),
}

/// A proxy on the loopback; dropping it closes everything.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    fault: watch::Sender<Fault>,
    connections: Arc<AtomicU64>,
    task: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// A proxy to `target` (`host:port`), on a free port.
    pub async fn start(target: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("the loopback has a free port");
        Self::on(listener, target)
    }

    /// A proxy to `target` on a port chosen before, so that a broker could be told to advertise it.
    pub async fn start_on(port: u16, target: &str) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.expect("the port is still free");
        Self::on(listener, target)
    }

    fn on(listener: TcpListener, target: &str) -> Self {
        let address = listener.local_addr().expect("a bound socket has an address");
        let (fault, faults) = watch::channel(Fault::None);
        let connections = Arc::new(AtomicU64::new(0));
        let (target, count) = (target.to_owned(), connections.clone());
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                if *faults.borrow() == Fault::Cut {
                    continue;
                }
                // A target that is down looks like a connection that closes at once.
                if let Ok(server) = TcpStream::connect(&target).await {
                    let faults = faults.clone();
                    tokio::spawn(pass_both(client, server, faults));
                }
            }
        });
        Self { address, fault, connections, task }
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Changes what it does, for connections that exist as for new ones.
    pub fn set(&self, fault: Fault) {
        self.fault.send_replace(fault);
    }

    /// Connections made to it so far.
    pub fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
        self.fault.send_replace(Fault::Cut);
    }
}

async fn pass_both(client: TcpStream, server: TcpStream, faults: watch::Receiver<Fault>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    // When one direction ends both do: dropping the halves closes the sockets.
    tokio::select! {
        () = pass(from_client, to_server, faults.clone(), false) => {}
        () = pass(from_server, to_client, faults, true) => {}
    }
}

async fn pass(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    mut faults: watch::Receiver<Fault>,
    is_answer: bool,
) {
    let mut buf = vec![0; 64 << 10];
    loop {
        let fault = *faults.borrow_and_update();
        let n = tokio::select! {
            changed = faults.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            read = from.read(&mut buf), if fault != Fault::Stall => match read {
                Ok(n) if n > 0 => n,
                _ => return,
            },
            () = std::future::pending(), if fault == Fault::Stall => return,
        };
        let fault = *faults.borrow();
        match fault {
            Fault::Cut => return,
            Fault::CutAnswer if is_answer => return,
            Fault::Delay(time) => tokio::time::sleep(time).await,
            _ => {}
        }
        if to.write_all(&buf[..n]).await.is_err() {
            return;
        }
    }
}
