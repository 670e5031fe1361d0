//! The proxy does what it is told, no more and no less: tests of faults are worth what their faults are worth.

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use kafka_fast_testkit::{Fault, Proxy};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

const SOON: Duration = Duration::from_secs(10);
/// Long enough for a byte to come that must not.
const WHILE: Duration = Duration::from_millis(100);

/// A proxy to a server that sends back each byte, and a client that has had one through.
async fn passing() -> (Proxy, TcpStream) {
    let echo = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let target = echo.local_addr().unwrap().to_string();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = echo.accept().await {
            tokio::spawn(async move {
                let mut byte = [0];
                while socket.read_exact(&mut byte).await.is_ok() && socket.write_all(&byte).await.is_ok() {}
            });
        }
    });
    let proxy = Proxy::start(&target).await;
    let mut client = TcpStream::connect(proxy.address()).await.unwrap();
    echoed(&mut client).await;
    (proxy, client)
}

async fn echoed(client: &mut TcpStream) {
    client.write_all(b"x").await.unwrap();
    assert_eq!(timeout(SOON, client.read_u8()).await.unwrap().unwrap(), b'x');
}

async fn closed(client: &mut TcpStream) {
    assert!(timeout(SOON, client.read_u8()).await.unwrap().is_err());
}

#[tokio::test]
async fn an_answer_is_cut() {
    let (proxy, mut client) = passing().await;
    proxy.set(Fault::CutAnswer);
    client.write_all(b"x").await.unwrap();
    closed(&mut client).await;
    assert_eq!(proxy.connections(), 1);
}

#[tokio::test]
async fn connections_are_cut_old_and_new() {
    let (proxy, mut client) = passing().await;
    proxy.set(Fault::Cut);
    closed(&mut client).await;
    closed(&mut TcpStream::connect(proxy.address()).await.unwrap()).await;
    assert_eq!(proxy.connections(), 2);
    proxy.set(Fault::None);
    echoed(&mut TcpStream::connect(proxy.address()).await.unwrap()).await;
}

#[tokio::test]
async fn connections_are_refused_and_its_port_comes_back() {
    let (proxy, mut client) = passing().await;
    proxy.set(Fault::Refuse);
    closed(&mut client).await;
    let until = Instant::now() + SOON;
    loop {
        match TcpStream::connect(proxy.address()).await {
            Err(e) if e.kind() == ErrorKind::ConnectionRefused => break,
            other => assert!(Instant::now() < until, "not refused: {other:?}"),
        }
    }
    proxy.set(Fault::None);
    let again = async {
        loop {
            if let Ok(client) = TcpStream::connect(proxy.address()).await {
                break client;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    echoed(&mut timeout(SOON, again).await.unwrap()).await;
}

#[tokio::test]
async fn nothing_passes_while_it_stalls_and_nothing_is_lost() {
    let (proxy, mut client) = passing().await;
    // Often: a byte must not slip through in the moment of the change either.
    for _ in 0..20 {
        proxy.set(Fault::Stall);
        client.write_all(b"y").await.unwrap();
        assert!(timeout(WHILE, client.read_u8()).await.is_err());
        proxy.set(Fault::None);
        assert_eq!(timeout(SOON, client.read_u8()).await.unwrap().unwrap(), b'y');
    }
}

#[tokio::test]
async fn each_piece_is_delayed_in_both_directions() {
    let (proxy, mut client) = passing().await;
    proxy.set(Fault::Delay(Duration::from_millis(60)));
    let began = Instant::now();
    echoed(&mut client).await;
    assert!(began.elapsed() >= Duration::from_millis(120));
}

#[tokio::test]
async fn a_client_that_does_not_read_is_cut_all_the_same() {
    let (proxy, mut client) = passing().await;
    // More than all buffers between the two hold, so that the proxy waits in a write.
    let flood = timeout(Duration::from_secs(2), client.write_all(&vec![b'z'; 64 << 20])).await;
    assert!(flood.is_err());
    proxy.set(Fault::Cut);
    let end = async { while client.read_u8().await.is_ok() {} };
    timeout(SOON, end).await.unwrap();
}
