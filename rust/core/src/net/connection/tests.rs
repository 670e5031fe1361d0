//! The end of a connection whose socket is full: a server cannot bring it about at a certain point.

use std::io::{ErrorKind, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::Duration;

use kafka_fast_testkit::Authority;
use kafka_fast_testkit::fake::FakeKafka;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::{Connection, ConnectionOptions};
use crate::config::{BrokerAddress, TlsConf};
use crate::net::frames::FrameWriter;
use crate::net::tls::TlsClient;

fn acceptor(authority: &Authority) -> TlsAcceptor {
    let identity = authority.server(&["localhost"]);
    let chain = vec![CertificateDer::from_pem_slice(identity.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(identity.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    Arc::new(config).into()
}

#[tokio::test]
async fn a_broker_learns_by_tls_that_nothing_more_comes_although_the_socket_was_full() {
    let authority = Authority::new("Our Root");
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = BrokerAddress::new("localhost", listener.local_addr().unwrap().port());
    let ours = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (theirs, _) = listener.accept().await.unwrap();
    let mut filler = std::net::TcpStream::from(ours.as_fd().try_clone_to_owned().unwrap());
    let conf = TlsConf { truststore_certificates: authority.certificate.clone(), ..TlsConf::default() };
    let client = TlsClient::new(&conf).unwrap();
    let acceptor = acceptor(&authority);
    let (stream, theirs) = tokio::join!(client.connect(&address, ours), acceptor.accept(theirs));
    let (_reading, writing) = stream.unwrap().into_split();

    // A connection that writes there.
    let fake = FakeKafka::start(1).await;
    let broker = BrokerAddress::parse(&fake.address()).unwrap();
    let connection = Connection::connect(&broker, &ConnectionOptions::default()).await.unwrap();
    let _plain = connection.shared.state.lock().writer.replace(FrameWriter::new(writing));
    let mut full = 0;
    loop {
        match filler.write(&[0; 4096]) {
            Ok(_) => full = 0,
            // For a while, and also now: what is on its way makes room again.
            Err(e) if e.kind() == ErrorKind::WouldBlock && full == 10 => break,
            Err(e) => {
                assert_eq!(e.kind(), ErrorKind::WouldBlock, "{e}");
                full += 1;
                sleep(Duration::from_millis(10)).await;
            }
        }
    }
    connection.finish();
    let (mut socket, _) = theirs.unwrap().into_inner();
    let mut rest = Vec::new();
    timeout(Duration::from_secs(10), socket.read_to_end(&mut rest))
        .await
        .expect("the end did not come")
        .unwrap();
}
