//! A TCP proxy that misbehaves on demand: the network between a client and a broker.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How often it tries to have its port again.
const BIND_AGAIN: Duration = Duration::from_millis(10);

/// What the proxy does with bytes and connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// Passes everything.
    None,
    /// Closes connections as soon as they are made, and those that exist.
    Cut,
    /// Nobody listens any more, as when the broker is down, and connections that exist are closed.
    Refuse,
    /// Keeps connections and passes nothing, in either direction, until told otherwise.
    Stall,
    /// Passes what the client says and closes the connection when the first answer comes: written, but nobody knows.
    CutAnswer,
    /// Passes each piece only after so long.
    Delay(Duration),
}

impl Fault {
    fn closes(self) -> bool {
        matches!(self, Self::Cut | Self::Refuse)
    }
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
        let task = tokio::spawn(listen(listener, address, target, faults, count));
        Self { address, fault, connections, task }
    }

    /// `127.0.0.1:port`.
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    /// Changes what it does, for connections that exist as for new ones. No byte that arrives after this call escapes it; that
    /// sockets are closed is seen some moments later.
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

async fn listen(
    listener: TcpListener,
    address: SocketAddr,
    target: String,
    mut faults: watch::Receiver<Fault>,
    count: Arc<AtomicU64>,
) {
    let mut listener = Some(listener);
    loop {
        let refuse = *faults.borrow_and_update() == Fault::Refuse;
        if refuse {
            listener = None;
        } else if listener.is_none() {
            // Its port may be in other hands for a moment: ports are also given to outgoing connections.
            listener = TcpListener::bind(address).await.ok();
        }
        let accepted = tokio::select! {
            changed = faults.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            accepted = accept(listener.as_ref()) => accepted,
            () = tokio::time::sleep(BIND_AGAIN), if listener.is_none() && !refuse => continue,
        };
        let Some(client) = accepted else { continue };
        count.fetch_add(1, Ordering::Relaxed);
        if faults.borrow().closes() {
            continue;
        }
        // A target that is down looks like a connection that closes at once.
        if let Ok(server) = TcpStream::connect(&target).await {
            tokio::spawn(pass_both(client, server, faults.clone()));
        }
    }
}

/// The next connection; waits for ever without a listener.
async fn accept(listener: Option<&TcpListener>) -> Option<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.ok().map(|(client, _)| client),
        None => std::future::pending().await,
    }
}

async fn pass_both(client: TcpStream, server: TcpStream, faults: watch::Receiver<Fault>) {
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let mut closing = faults.clone();
    // When one direction ends both do: dropping the halves closes the sockets. The third arm closes them also while a write
    // waits for a peer that does not read.
    tokio::select! {
        () = pass(from_client, to_server, faults.clone(), false) => {}
        () = pass(from_server, to_client, faults, true) => {}
        _ = closing.wait_for(|fault| fault.closes()) => {}
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
        // While it stalls nothing is read, so that the sender feels it as it would feel a dead network: its buffers fill.
        if faults.wait_for(|fault| *fault != Fault::Stall).await.is_err() {
            return;
        }
        let n = tokio::select! {
            changed = faults.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
            read = from.read(&mut buf) => match read {
                Ok(n) if n > 0 => n,
                _ => return,
            },
        };
        // The fault of this moment, not of when the wait began: what arrives after `set` must not slip through.
        if !may_pass(&mut faults, is_answer).await || to.write_all(&buf[..n]).await.is_err() {
            return;
        }
    }
}

/// Waits until a piece that was read may be written; false when the connection is to be closed instead.
async fn may_pass(faults: &mut watch::Receiver<Fault>, is_answer: bool) -> bool {
    loop {
        let fault = *faults.borrow_and_update();
        match fault {
            Fault::Cut | Fault::Refuse => return false,
            Fault::CutAnswer if is_answer => return false,
            Fault::None | Fault::CutAnswer => return true,
            Fault::Stall => {
                if faults.changed().await.is_err() {
                    return false;
                }
            }
            Fault::Delay(time) => tokio::select! {
                () = tokio::time::sleep(time) => return true,
                changed = faults.changed() => if changed.is_err() { return false },
            },
        }
    }
}
