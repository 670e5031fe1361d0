//! From a name to an open socket: all addresses of the name are tried, each within its share of the time.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::time::{Instant, timeout_at};

use super::error::ConnectError;
use crate::config::BrokerAddress;

/// Opens a TCP connection to any address of the name, in the resolver's order, with `TCP_NODELAY` and keep-alive
/// set. All tries together end at `deadline`. Cancel-safe: dropping the future closes what was begun.
pub(super) async fn open(
    address: &BrokerAddress,
    deadline: Instant,
    budget: Duration,
) -> Result<(TcpStream, SocketAddr), ConnectError> {
    let candidates = resolve(address, deadline).await?;
    let mut refused = None;
    let mut other = None;
    for (i, candidate) in candidates.iter().enumerate() {
        // An address that swallows packets must not eat the time of the ones after it.
        let left = deadline.saturating_duration_since(Instant::now());
        let share = left / u32::try_from(candidates.len() - i).unwrap_or(u32::MAX);
        match timeout_at(Instant::now() + share, connect(*candidate)).await {
            Ok(Ok(stream)) => return Ok((stream, *candidate)),
            Ok(Err(e)) if e.kind() == io::ErrorKind::ConnectionRefused => {
                refused = Some(ConnectError::Refused { address: address.clone() });
            }
            Ok(Err(e)) => {
                other = Some(ConnectError::Unreachable { address: address.clone(), reason: e.to_string() });
            }
            Err(_) => {
                other = Some(ConnectError::ConnectTimeout { address: address.clone(), after: budget });
            }
        }
    }
    // A refusal says more than "no route" of the name's IPv6 address.
    Err(refused.or(other).unwrap_or_else(|| unresolvable(address, "the name has no address")))
}

/// All addresses of the name, each once.
async fn resolve(address: &BrokerAddress, deadline: Instant) -> Result<Vec<SocketAddr>, ConnectError> {
    if let Ok(ip) = address.host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, address.port)]);
    }
    let found = match timeout_at(deadline, lookup_host((address.host.as_str(), address.port))).await {
        Ok(Ok(found)) => found,
        Ok(Err(e)) => return Err(unresolvable(address, &e.to_string())),
        Err(_) => {
            let reason = "the resolver did not say its address in time".to_owned();
            return Err(ConnectError::Unreachable { address: address.clone(), reason });
        }
    };
    let mut unique: Vec<SocketAddr> = Vec::new();
    for candidate in found {
        if !unique.contains(&candidate) {
            unique.push(candidate);
        }
    }
    Ok(unique)
}

fn unresolvable(address: &BrokerAddress, reason: &str) -> ConnectError {
    ConnectError::Unresolvable { address: address.clone(), reason: reason.to_owned() }
}

pub(super) async fn connect(to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    // Requests are written whole: waiting for more (Nagle) only adds latency.
    socket.set_nodelay(true)?;
    // A broker whose machine vanished never closes; keep-alive ends such a connection when it is idle.
    socket.set_keepalive(true)?;
    socket.connect(to).await
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn try_open(host: &str, port: u16) -> Result<SocketAddr, ConnectError> {
        let budget = Duration::from_secs(5);
        open(&BrokerAddress::new(host, port), Instant::now() + budget, budget).await.map(|(_, to)| to)
    }

    #[tokio::test]
    async fn every_address_of_a_name_is_tried() {
        // localhost may name ::1 first: a listener on 127.0.0.1 alone must still be found.
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(try_open("localhost", port).await.unwrap(), listener.local_addr().unwrap());
        assert_eq!(try_open("127.0.0.1", port).await.unwrap(), listener.local_addr().unwrap());
        drop(listener);
        assert!(matches!(try_open("localhost", port).await, Err(ConnectError::Refused { .. })));
    }

    #[tokio::test]
    async fn a_broker_is_reached_by_an_ipv6_address() {
        let listener = match tokio::net::TcpListener::bind("[::1]:0").await {
            Ok(listener) => listener,
            // A machine without IPv6 has no such address or (EAFNOSUPPORT of Linux and macOS) not even such sockets.
            Err(e)
                if e.kind() == io::ErrorKind::AddrNotAvailable
                    || matches!(e.raw_os_error(), Some(97 | 47)) =>
            {
                println!("skipped: there is no IPv6 loopback here ({e})");
                return;
            }
            Err(e) => panic!("a free port of [::1]: {e}"),
        };
        let there = listener.local_addr().unwrap();
        let address = BrokerAddress::parse(&format!("[::1]:{}", there.port())).unwrap();
        let budget = Duration::from_secs(5);
        let (stream, to) = open(&address, Instant::now() + budget, budget).await.unwrap();
        assert_eq!((to, stream.peer_addr().unwrap()), (there, there));
        assert_eq!(listener.accept().await.unwrap().1, stream.local_addr().unwrap());
    }

    #[tokio::test]
    async fn a_name_without_address_is_told_so() {
        let error = try_open("no-such-host.invalid", 1).await.unwrap_err();
        assert!(matches!(error, ConnectError::Unresolvable { .. }), "{error}");
    }
}
