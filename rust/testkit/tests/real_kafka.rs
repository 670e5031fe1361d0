//! The launcher itself: a broker starts, stops, keeps its port, and leaves nothing behind.

use std::net::TcpStream;

use kafka_fast_testkit::{Fault, Options, Proxy, RealKafka};

#[test]
fn a_broker_starts_stops_and_starts_again_on_its_port() {
    let mut kafka = RealKafka::start(&Options::new().property("auto.create.topics.enable", "false"));
    let address = kafka.address();
    assert!(TcpStream::connect(&address).is_ok());
    kafka.stop();
    assert!(TcpStream::connect(&address).is_err());
    kafka.start_again();
    assert!(TcpStream::connect(&address).is_ok());
    drop(kafka);
    assert!(TcpStream::connect(&address).is_err());
}

#[tokio::test]
async fn a_proxy_passes_and_cuts() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let echo = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
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
    let mut client = tokio::net::TcpStream::connect(proxy.address()).await.unwrap();
    client.write_all(b"x").await.unwrap();
    assert_eq!(client.read_u8().await.unwrap(), b'x');
    proxy.set(Fault::CutAnswer);
    client.write_all(b"x").await.unwrap();
    assert!(client.read_u8().await.is_err());
    assert_eq!(proxy.connections(), 1);
}
