//! One connection against servers that behave, misbehave, or are something else.

mod net_fake;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use kafka_fast::config::BrokerAddress;
use kafka_fast::net::{CallError, CloseReason, ConnectError, Connection, ConnectionOptions};
use kafka_fast::wire::messages::*;
use net_fake::{Asked, Fake, Reply, eventually, framed, stranger};
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SEC: Duration = Duration::from_secs(1);

fn options() -> ConnectionOptions {
    ConnectionOptions { connect_timeout: Duration::from_millis(900), ..ConnectionOptions::default() }
}

async fn connect(fake: &Fake) -> Connection {
    Connection::connect(&fake.broker(), &options()).await.unwrap()
}

async fn refusal(address: &BrokerAddress) -> String {
    Connection::connect(address, &options()).await.unwrap_err().to_string()
}

/// A question whose answer can be told from others.
fn question(n: i64) -> ListOffsetsRequest {
    let partitions = vec![ListOffsetsPartition { timestamp: n, ..Default::default() }];
    let topics = vec![ListOffsetsTopic { name: "t".into(), partitions }];
    ListOffsetsRequest { topics, ..Default::default() }
}

fn echo(asked: &Asked) -> Vec<u8> {
    let n = asked.read::<ListOffsetsRequest>().topics[0].partitions[0].timestamp;
    let partitions = vec![ListOffsetsPartitionResponse { offset: n, ..Default::default() }];
    let topics = vec![ListOffsetsTopicResponse { name: "t".into(), partitions }];
    asked.answer::<ListOffsetsRequest>(&ListOffsetsResponse { topics, ..Default::default() })
}

async fn ask(connection: &Connection, n: i64) -> Result<i64, CallError> {
    let answer = connection.call(&question(n), 5 * SEC).await?;
    Ok(answer.topics[0].partitions[0].offset)
}

fn produce(bytes: usize) -> ProduceRequest {
    let data = PartitionProduceData { index: 0, records: Some(vec![7; bytes].into()) };
    let topic = TopicProduceData { name: "t".into(), partition_data: vec![data], ..Default::default() };
    ProduceRequest { topic_data: vec![topic], ..Default::default() }
}

#[tokio::test]
async fn strangers_are_told_apart() {
    let any = |said: &[u8]| !said.is_empty();
    // Our binary request has a 10 in it: the length of the client id.
    let line = |said: &[u8]| said.windows(2).any(|w| w == b"\r\n");
    let never = |_: &[u8]| false;
    let http = b"HTTP/1.1 400 Bad Request\r\n\r\n";
    type Case = (&'static [u8], fn(&[u8]) -> bool, &'static [u8], &'static str);
    let cases: [Case; 8] = [
        (b"", any, http, "answered HTTP, not Kafka"),
        (b"", line, http, "answered HTTP, not Kafka"),
        (b"", line, b"-ERR wrong number of arguments for 'get' command\r\n", "is Redis, not Kafka"),
        (b"-DENIED Redis is running in protected mode\r\n", any, b"", "is Redis, not Kafka"),
        (b"", any, b"\x15\x03\x01\x00\x02\x02\x46", "speaks TLS. Set security.protocol=SSL or SASL_SSL"),
        (
            b"SSH-2.0-OpenSSH_9.6\r\n",
            any,
            b"",
            "does not speak Kafka: it answered \"SSH-2.0-OpenSSH_9.6\\r\\n\"",
        ),
        (b"", any, b"", "closed the connection without an answer"),
        (b"", never, b"", "accepted the connection and said nothing for 900 ms"),
    ];
    for (greeting, when, reply, expected) in cases {
        let (address, server) = stranger(greeting, when, reply).await;
        let text = refusal(&address).await;
        assert!(text.starts_with(&format!("{address} {expected}")), "{text}");
        server.abort();
    }
}

#[tokio::test]
async fn a_port_that_closes_instead_of_tls_may_do_better_later_and_one_that_says_something_else_not() {
    let mut conf = kafka_fast::config::Config::default();
    let ca = kafka_fast_testkit::Authority::new("Our Root").certificate;
    for (name, value) in [("security.protocol", "SSL"), ("ssl.truststore.certificates", &ca)] {
        conf.set(name, value).unwrap();
    }
    let options = ConnectionOptions::new(&conf).unwrap();
    for (reply, definite) in [(&b""[..], false), (b"HTTP/1.1 400 Bad Request\r\n\r\n", true)] {
        let (address, server) = stranger(b"", |said| !said.is_empty(), reply).await;
        let error = Connection::connect(&address, &options).await.unwrap_err();
        let wanted =
            "does not speak TLS (no ServerHello). Set security.protocol=PLAINTEXT or use the TLS port";
        assert_eq!(error.to_string(), format!("{address} {wanted}"));
        assert_eq!(error.is_definite(), definite, "{error:?}");
        server.abort();
    }
}

#[tokio::test]
async fn a_closed_port_and_an_unknown_name() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = BrokerAddress::new("localhost", listener.local_addr().unwrap().port());
    drop(listener);
    assert_eq!(refusal(&address).await, format!("{address} refused the connection. Is Kafka running there?"));
    let text = refusal(&BrokerAddress::new("no-such-host.invalid", 1)).await;
    // Behind that come the resolver's words.
    assert!(
        text.starts_with(
            "Cannot resolve broker \"no-such-host.invalid\". Check the name; from a container use the host's name, \
             not localhost ("
        ),
        "{text}"
    );
}

#[tokio::test]
async fn answers_that_end_early_or_announce_too_much_are_refused() {
    for (answer, expected) in [
        (&b"\x00\x00"[..], "does not speak Kafka: it answered \"\\x00\\x00\""),
        (&b"\x00\x00\x01\x00\x00\x00\x00\x01"[..], "does not speak Kafka"),
        (&b"\x7f\xff\xff\xff"[..], "does not speak Kafka"),
        (&b"\xff\xff\xff\xff"[..], "does not speak Kafka"),
        (&b"\x00\x00\x00\x08\x00\x00\x00\x09\x00\x00\x00\x00"[..], "does not speak Kafka"),
        (&b"\x00\x00\x00\x06\x00\x00\x00\x01\x00\x3a"[..], "makes no sense"),
    ] {
        let (address, server) = stranger(b"", |said| !said.is_empty(), answer).await;
        let text = refusal(&address).await;
        assert!(text.contains(expected) && text.contains(&address.to_string()), "{text}");
        server.abort();
    }
}

#[tokio::test]
async fn an_old_broker_is_asked_again_at_version_0() {
    let asked_at = Arc::new(Mutex::new(Vec::new()));
    let seen = asked_at.clone();
    let fake = Fake::raw(move |asked| {
        seen.lock().push(asked.version);
        if asked.version > 0 {
            // In the format of version 0, whatever was asked.
            let refused = [&asked.correlation.to_be_bytes()[..], &[0, 35, 0, 0, 0, 0]].concat();
            return Reply::Say(framed(&refused));
        }
        let ranges = [(0, 0, 6), (1, 4, 11), (2, 0, 3), (3, 0, 7), (18, 0, 2)];
        let api = |(api_key, min_version, max_version)| ApiVersion { api_key, min_version, max_version };
        let api_keys = ranges.map(api).into();
        Reply::Say(
            asked.answer::<ApiVersionsRequest>(&ApiVersionsResponse { api_keys, ..Default::default() }),
        )
    })
    .await;
    let connection = connect(&fake).await;
    assert_eq!(*asked_at.lock(), [3, 0]);
    assert_eq!(connection.version_of::<ProduceRequest>(), Some(6));
    assert_eq!(connection.version_of::<InitProducerIdRequest>(), None);
    let error = connection.call(&InitProducerIdRequest::default(), SEC).await.unwrap_err();
    assert!(matches!(error, CallError::Unsupported { .. }) && !error.possibly_written(), "{error}");
    assert!(error.to_string().contains("speaks InitProducerId not at all, this client 0-"), "{error}");
    assert!(!connection.is_closed());
}

#[tokio::test]
async fn a_broker_that_is_too_old_is_refused_with_both_ranges() {
    let fake = Fake::raw(|asked| {
        let api = |api_key| ApiVersion { api_key, min_version: 0, max_version: 2 };
        let api_keys = [0, 1, 2, 3, 18].map(api).into();
        Reply::Say(
            asked.answer::<ApiVersionsRequest>(&ApiVersionsResponse { api_keys, ..Default::default() }),
        )
    })
    .await;
    let error = Connection::connect(&fake.broker(), &options()).await.unwrap_err();
    assert!(matches!(error, ConnectError::Incompatible { theirs: Some((0, 2)), .. }), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_find_their_calls_however_they_come() {
    // The server keeps answers back and sends several at once; some end in the middle of a frame.
    let held = Arc::new(Mutex::new((Vec::new(), 0usize)));
    let fake = Fake::start(move |asked| {
        let (bytes, count) = &mut *held.lock();
        bytes.extend(echo(&asked));
        *count += 1;
        if *count % 7 == 0 || *count > 395 {
            let cut = if *count >= 400 { 0 } else { bytes.len().min(*count % 13) };
            let rest = bytes.split_off(bytes.len() - cut);
            return Reply::Say(std::mem::replace(bytes, rest));
        }
        Reply::Nothing
    })
    .await;
    let connection = Arc::new(connect(&fake).await);
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..400 {
        let connection = connection.clone();
        calls.spawn(async move { (n, ask(&connection, n).await.unwrap()) });
    }
    let answers = calls.join_all().await;
    assert_eq!(answers.len(), 400);
    assert!(answers.iter().all(|(asked, answered)| asked == answered));
    assert_eq!(connection.in_flight(), 0);
}

#[tokio::test]
async fn started_requests_are_written_in_their_order() {
    let order = Arc::new(Mutex::new(Vec::new()));
    let seen = order.clone();
    let fake = Fake::start(move |asked| {
        seen.lock().push(asked.read::<ListOffsetsRequest>().topics[0].partitions[0].timestamp);
        Reply::Say(echo(&asked))
    })
    .await;
    let connection = connect(&fake).await;
    let pending: Vec<_> = (0..50).map(|n| connection.start(&question(n)).unwrap().unwrap()).collect();
    for (n, pending) in pending.into_iter().enumerate() {
        let answer = pending.answer(SEC).await.unwrap();
        assert_eq!(answer.topics[0].partitions[0].offset, n as i64);
    }
    assert_eq!(*order.lock(), (0..50).collect::<Vec<i64>>());
}

#[tokio::test]
async fn requests_in_flight_are_bounded() {
    let fake = Fake::start(|_| Reply::Nothing).await;
    let limits = ConnectionOptions { max_in_flight: 3, ..options() };
    let connection = Connection::connect(&fake.broker(), &limits).await.unwrap();
    let _pending: Vec<_> = (0..3).map(|n| connection.start(&question(n)).unwrap().unwrap()).collect();
    assert!(connection.start(&question(3)).unwrap().is_none());
    let error = connection.call(&question(4), SEC / 5).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout { possibly_written: false, .. }), "{error}");
}

/// Nobody may wait any more for a request without an answer: its place is free when the socket has taken it.
#[tokio::test]
async fn requests_without_answers_are_bounded_also_when_nobody_waits() {
    let fake = Fake::start(|_| Reply::Deaf).await;
    let limits = ConnectionOptions { max_in_flight: 3, ..options() };
    let connection = Connection::connect(&fake.broker(), &limits).await.unwrap();
    // The first makes the broker deaf, the others are more than its socket takes.
    connection.send_only(&produce(1), SEC).await.unwrap();
    for _ in 0..3 {
        let sent = tokio::time::timeout(SEC / 20, connection.send_only(&produce(16 << 20), 10 * SEC)).await;
        assert!(sent.is_err(), "{sent:?}");
    }
    assert!(connection.start(&question(1)).unwrap().is_none());
    let error = connection.send_only(&produce(1), SEC / 5).await.unwrap_err();
    assert!(matches!(error, CallError::Timeout { possibly_written: false, .. }), "{error}");
}

#[tokio::test]
async fn an_answer_out_of_order_ends_the_connection() {
    let fake = Fake::start(|mut asked| {
        asked.correlation += 1;
        Reply::Say(echo(&asked))
    })
    .await;
    let connection = connect(&fake).await;
    let error = ask(&connection, 1).await.unwrap_err();
    assert!(
        matches!(&error, CallError::PossiblyWritten { reason: CloseReason::OutOfOrder { .. }, .. }),
        "{error}"
    );
    assert!(connection.is_closed());
}

#[tokio::test]
async fn answers_cut_short_or_too_long_end_the_connection() {
    for (answer, expected) in [
        (framed(&[0; 100])[..50].to_vec(), CloseReason::MidFrame),
        (vec![], CloseReason::Peer),
        (vec![0x7f, 0xff, 0xff, 0xff], CloseReason::FrameSize { length: 0x7fff_ffff, max: 1 << 20 }),
        (vec![0xff; 4], CloseReason::FrameSize { length: -1, max: 1 << 20 }),
        // Too short to have a correlation id.
        (framed(&[1, 2]), CloseReason::OutOfOrder { found: -1, expected: Some(2) }),
    ] {
        let mut first = true;
        let fake = Fake::start(move |_| {
            // The second request ends it.
            if std::mem::take(&mut first) { Reply::Say(answer.clone()) } else { Reply::Close }
        })
        .await;
        let limits = ConnectionOptions { max_frame: 1 << 20, ..options() };
        let connection = Connection::connect(&fake.broker(), &limits).await.unwrap();
        let (one, two) = tokio::join!(ask(&connection, 1), ask(&connection, 2));
        for error in [one.unwrap_err(), two.unwrap_err()] {
            assert!(error.possibly_written(), "{error}");
            assert!(
                matches!(&error, CallError::PossiblyWritten { reason, .. } if *reason == expected),
                "{error}"
            );
        }
        let late = ask(&connection, 3).await.unwrap_err();
        assert!(matches!(late, CallError::NotSent { .. }) && !late.possibly_written(), "{late}");
    }
}

#[tokio::test]
async fn an_answer_that_makes_no_sense_harms_only_its_call() {
    let fake = Fake::start(|asked| {
        if asked.is::<MetadataRequest>() {
            return Reply::Say(framed(&[&asked.correlation.to_be_bytes()[..], &[0, 0xff, 0xff]].concat()));
        }
        Reply::Say(echo(&asked))
    })
    .await;
    let connection = connect(&fake).await;
    let error = connection.call(&MetadataRequest::default(), SEC).await.unwrap_err();
    assert!(matches!(error, CallError::Decode { .. }), "{error}");
    assert_eq!(ask(&connection, 8).await.unwrap(), 8);
}

#[tokio::test]
async fn a_call_that_times_out_ends_the_connection_for_all() {
    let fake = Fake::start(|_| Reply::Nothing).await;
    let connection = connect(&fake).await;
    let first = question(1);
    let (one, two) = tokio::join!(connection.call(&first, SEC / 5), ask(&connection, 2));
    let one = one.unwrap_err();
    assert!(matches!(one, CallError::Timeout { possibly_written: true, .. }), "{one}");
    assert_eq!(one.to_string(), format!("{} did not answer ListOffsets within 200 ms", fake.broker()));
    let two = two.unwrap_err();
    assert!(matches!(two, CallError::PossiblyWritten { reason: CloseReason::TimedOut { .. }, .. }), "{two}");
    assert!(connection.is_closed());
}

#[tokio::test]
async fn a_dropped_call_abandons_only_its_answer() {
    let held = Mutex::new(Vec::new());
    let fake = Fake::start(move |asked| {
        let mut held = held.lock();
        held.extend(echo(&asked));
        // The first answer comes with the second.
        let n = asked.read::<ListOffsetsRequest>().topics[0].partitions[0].timestamp;
        if n == 1 { Reply::Nothing } else { Reply::Say(std::mem::take(&mut held)) }
    })
    .await;
    let connection = connect(&fake).await;
    let first = question(1);
    assert!(tokio::time::timeout(SEC / 10, connection.call(&first, 5 * SEC)).await.is_err());
    assert_eq!(connection.in_flight(), 1);
    assert_eq!(ask(&connection, 2).await.unwrap(), 2);
    assert_eq!((connection.in_flight(), connection.is_closed()), (0, false));
}

#[tokio::test]
async fn an_error_says_whether_bytes_may_have_left() {
    // The server reads one request and then nothing: the sockets fill, and what is behind stays here.
    let fake = Fake::start(|_| Reply::Deaf).await;
    let connection = Arc::new(connect(&fake).await);
    let start = |bytes| connection.start(&produce(bytes)).unwrap().unwrap();
    let small = start(10);
    // More than the buffers of both sockets take.
    let huge: Vec<_> = (0..4).map(|_| start(16 << 20)).collect();
    let behind = start(10);
    tokio::time::sleep(SEC / 4).await;
    connection.close();
    assert!(small.answer(SEC).await.unwrap_err().possibly_written());
    let huge = futures(huge).await;
    assert!(huge[0], "bytes of the first large one have left");
    assert!(!huge[3], "none of the last can have");
    let error = behind.answer(SEC).await.unwrap_err();
    assert!(matches!(error, CallError::NotSent { reason: CloseReason::Local, .. }), "{error}");
}

async fn futures(pending: Vec<kafka_fast::net::Pending<ProduceRequest>>) -> Vec<bool> {
    let mut written = Vec::new();
    for p in pending {
        written.push(p.answer(SEC).await.unwrap_err().possibly_written());
    }
    written
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_requests_and_answers_arrive_whole() {
    let size = 9_000_000usize;
    let fake = Fake::start(move |asked| {
        let request = asked.read::<ProduceRequest>();
        let records = request.topic_data[0].partition_data[0].records.clone().unwrap();
        assert!(records.len() == size && records.iter().all(|b| *b == 7));
        let text: String = "x".repeat(30_000);
        let partition_responses = (0..200)
            .map(|index| PartitionProduceResponse {
                index,
                error_message: Some(text.as_str().into()),
                ..Default::default()
            })
            .collect();
        let topic = TopicProduceResponse { partition_responses, ..Default::default() };
        let responses = vec![topic];
        Reply::Say(asked.answer::<ProduceRequest>(&ProduceResponse { responses, ..Default::default() }))
    })
    .await;
    let connection = Arc::new(connect(&fake).await);
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..6 {
        let connection = connection.clone();
        calls.spawn(async move { connection.call(&produce(size), 20 * SEC).await.unwrap() });
    }
    for response in calls.join_all().await {
        let partitions = &response.responses[0].partition_responses;
        assert_eq!(partitions.len(), 200);
        assert!(partitions.iter().all(|p| p.error_message.as_ref().is_some_and(|m| m.len() == 30_000)));
    }
}

#[tokio::test]
async fn send_only_waits_for_the_socket_and_not_for_an_answer() {
    let got = Arc::new(AtomicUsize::new(0));
    let count = got.clone();
    let fake = Fake::start(move |asked| {
        if asked.is::<ListOffsetsRequest>() {
            return Reply::Say(echo(&asked));
        }
        count.fetch_add(1, Ordering::SeqCst);
        Reply::Nothing
    })
    .await;
    let connection = connect(&fake).await;
    for _ in 0..300 {
        connection.send_only(&produce(1000), SEC).await.unwrap();
    }
    // An answer behind them finds its call.
    assert_eq!(ask(&connection, 5).await.unwrap(), 5);
    assert_eq!(got.load(Ordering::SeqCst), 300);

    let fake = Fake::start(|_| Reply::Deaf).await;
    let connection = connect_to(&fake).await;
    let error = loop {
        if let Err(e) = connection.send_only(&produce(4 << 20), SEC / 5).await {
            break e;
        }
    };
    assert!(matches!(error, CallError::Timeout { .. }), "{error}");
    assert!(connection.is_closed());
    let late = connection.send_only(&produce(1), SEC).await.unwrap_err();
    assert!(!late.possibly_written(), "{late}");
}

async fn connect_to(fake: &Fake) -> Connection {
    connect(fake).await
}

#[tokio::test]
async fn close_is_prompt_and_so_is_drop() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = BrokerAddress::new("127.0.0.1", listener.local_addr().unwrap().port());
    let (ended, mut ends) = tokio::sync::mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let ended = ended.clone();
            tokio::spawn(async move {
                let mut request = vec![0; stream.read_u32().await.unwrap() as usize];
                stream.read_exact(&mut request).await.unwrap();
                // ApiVersions v3, correlation id 1: four ranges.
                let mut answer = vec![0, 0, 0, 1, 0, 0, 5];
                for api in 0..4u8 {
                    answer.extend([0, api, 0, 0, 0, 99, 0]);
                }
                answer.extend([0, 0, 0, 0, 0]);
                stream.write_all(&framed(&answer)).await.unwrap();
                let mut rest = Vec::new();
                let _ = stream.read_to_end(&mut rest).await;
                let _ = ended.send(());
            });
        }
    });
    for by_drop in [false, true] {
        let connection = Connection::connect(&address, &options()).await.unwrap();
        let pending = connection.start(&question(1)).unwrap().unwrap();
        let kept = if by_drop {
            drop(connection);
            None
        } else {
            connection.close();
            Some(connection)
        };
        let begin = Instant::now();
        // The socket closes although the handle is still here.
        tokio::time::timeout(SEC, ends.recv()).await.expect("the server saw the end").unwrap();
        assert!(pending.answer(SEC).await.unwrap_err().possibly_written());
        assert!(begin.elapsed() < SEC / 2);
        drop(kept);
    }
}

#[tokio::test]
async fn a_silent_end_is_noticed_without_a_call() {
    let fake = Fake::start(|_| Reply::Close).await;
    let connection = connect(&fake).await;
    assert!(!connection.is_closed());
    drop(fake);
    eventually(|| connection.is_closed()).await;
    assert_eq!(connection.end().unwrap().0, CloseReason::Peer);
}
