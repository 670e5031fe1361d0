//! What stands in for TLS until it is spoken: tells a listener that has none from one that has.
//!
//! With `security.protocol=SSL` nothing is ever sent in the clear: a ClientHello goes out (RFC 5246, 7.4.1.2) and the
//! first bytes of the answer decide which of the two mistakes it is - the wrong port, or too early for this version.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

use super::error::ConnectError;
use crate::config::BrokerAddress;

/// A ClientHello of TLS 1.2 with four common cipher suites and no secrets in it.
fn client_hello() -> Vec<u8> {
    let mut body = vec![3, 3];
    body.extend_from_slice(&[0x6b; 32]);
    body.push(0);
    body.extend_from_slice(&[0, 8, 0xc0, 0x2f, 0xc0, 0x30, 0x00, 0x9c, 0x00, 0x2f, 1, 0]);
    // Extensions: groups x25519 and secp256r1, uncompressed points, RSA and ECDSA signatures with SHA-256.
    let extensions: &[u8] =
        &[0, 10, 0, 6, 0, 4, 0, 29, 0, 23, 0, 11, 0, 2, 1, 0, 0, 13, 0, 6, 0, 4, 4, 1, 4, 3];
    body.extend_from_slice(&(extensions.len() as u16).to_be_bytes());
    body.extend_from_slice(extensions);
    let length = body.len() as u16;
    let mut hello = vec![0x16, 3, 1];
    hello.extend_from_slice(&(length + 4).to_be_bytes());
    hello.extend_from_slice(&[1, 0]);
    hello.extend_from_slice(&length.to_be_bytes());
    hello.extend_from_slice(&body);
    hello
}

/// Greets in TLS and says why there can be no connection.
pub(super) async fn refuse(
    address: &BrokerAddress,
    mut stream: TcpStream,
    deadline: Instant,
) -> ConnectError {
    let mut first = [0; 3];
    let talk = async {
        stream.write_all(&client_hello()).await?;
        stream.read_exact(&mut first).await
    };
    match timeout_at(deadline, talk).await {
        // An alert or a handshake record: it speaks TLS.
        Ok(Ok(_)) if matches!(first, [0x15 | 0x16, 3, _]) => {
            ConnectError::TlsUnsupported { address: address.clone() }
        }
        // A Kafka listener without TLS takes the greeting for a length beyond its limit and closes.
        _ => ConnectError::NoTls { address: address.clone() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_greetings_lengths_fit() {
        let hello = client_hello();
        assert_eq!(hello.len() - 5, usize::from(u16::from_be_bytes([hello[3], hello[4]])));
        assert_eq!(hello.len() - 9, usize::from(u16::from_be_bytes([hello[7], hello[8]])));
    }

    async fn refused_by(answer: &'static [u8]) -> String {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut hello = [0; 64];
            socket.read_exact(&mut hello).await.unwrap();
            socket.write_all(answer).await.unwrap();
        });
        let stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let deadline = Instant::now() + std::time::Duration::from_secs(10);
        refuse(&BrokerAddress::new("h", 1), stream, deadline).await.to_string()
    }

    #[tokio::test]
    async fn both_mistakes_are_told_apart() {
        let none =
            "h:1 does not speak TLS (no ServerHello). Set security.protocol=PLAINTEXT or use the TLS port";
        assert_eq!(refused_by(b"").await, none);
        assert_eq!(refused_by(b"HTTP/1.1 400").await, none);
        let early = "h:1 speaks TLS, which this version of kafka-fast does not yet. Use a PLAINTEXT listener";
        assert_eq!(refused_by(&[0x15, 3, 3, 0, 2, 2, 40]).await, early);
    }
}
