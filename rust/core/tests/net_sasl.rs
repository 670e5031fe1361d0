//! Saying who we are, against a server that says what the test tells it to: order, sessions that end, brokers that misbehave.

mod net_fake;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use kafka_fast::cluster::Cluster;
use kafka_fast::config::Config;
use kafka_fast::error::ErrorKind;
use kafka_fast::net::{CallError, CloseReason, ConnectError, Connection, ConnectionOptions};
use kafka_fast::wire::Secret;
use kafka_fast::wire::messages::*;
use net_fake::{Asked, Fake, Reply, eventually};
use parking_lot::Mutex;

const WAIT: Duration = Duration::from_secs(10);

fn options(mechanism: &str) -> ConnectionOptions {
    let mut conf = Config::default();
    for (name, value) in [
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.mechanism", mechanism),
        ("sasl.username", "app"),
        ("sasl.password", "hunter2"),
        ("socket.connection.setup.timeout.ms", "2000"),
    ] {
        conf.set(name, value).unwrap();
    }
    ConnectionOptions { max_in_flight: 4, ..ConnectionOptions::new(&conf).unwrap() }
}

fn agreed(asked: &Asked) -> Reply {
    let mechanisms = ["PLAIN".into(), "SCRAM-SHA-256".into()].into();
    Reply::Say(asked.answer::<SaslHandshakeRequest>(&SaslHandshakeResponse { error_code: 0, mechanisms }))
}

fn authenticated(asked: &Asked, error_code: i16, said: &'static [u8], session_lifetime_ms: i64) -> Reply {
    let response = SaslAuthenticateResponse {
        error_code,
        error_message: (error_code != 0).then(|| "no such user hunter2".into()),
        auth_bytes: Secret(Bytes::from_static(said)),
        session_lifetime_ms,
    };
    Reply::Say(asked.answer::<SaslAuthenticateRequest>(&response))
}

fn metadata(asked: &Asked) -> Reply {
    Reply::Say(asked.answer::<MetadataRequest>(&MetadataResponse::default()))
}

/// A server whose sessions live for `lifetime` ms, that refuses from the `refuse`th authentication on, and notes what came.
async fn server(lifetime: i64, refuse: u32) -> (Fake, Arc<Mutex<Vec<i16>>>) {
    let came = Arc::new(Mutex::new(Vec::new()));
    let (noted, count) = (came.clone(), AtomicU32::new(0));
    let fake = Fake::start(move |asked| {
        noted.lock().push(asked.api);
        if asked.is::<SaslHandshakeRequest>() {
            assert_eq!(asked.version, 1);
            return agreed(&asked);
        }
        if asked.is::<SaslAuthenticateRequest>() {
            assert_eq!(&asked.read::<SaslAuthenticateRequest>().auth_bytes.0[..], b"\0app\0hunter2");
            let refused = count.fetch_add(1, Ordering::SeqCst) + 1 >= refuse;
            return authenticated(&asked, if refused { 58 } else { 0 }, b"", lifetime);
        }
        metadata(&asked)
    })
    .await;
    (fake, came)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_renewed_among_the_requests_and_nothing_comes_between() {
    let (fake, came) = server(300, u32::MAX).await;
    let connection = Arc::new(Connection::connect(&fake.broker(), &options("PLAIN")).await.unwrap());
    let callers = (0..8).map(|_| {
        let connection = connection.clone();
        tokio::spawn(async move {
            let begin = Instant::now();
            let mut calls = 0;
            while begin.elapsed() < Duration::from_millis(1500) {
                connection.call(&MetadataRequest::default(), WAIT).await.unwrap();
                calls += 1;
            }
            calls
        })
    });
    let mut calls = 0;
    for caller in callers.collect::<Vec<_>>() {
        calls += caller.await.unwrap();
    }
    let came = came.lock().clone();
    assert_eq!(came.iter().filter(|api| **api == 3).count(), calls, "each request once");
    let handshakes: Vec<usize> = (0..came.len()).filter(|at| came[*at] == 17).collect();
    assert!(handshakes.len() >= 4, "{} authentications", handshakes.len());
    // The last one may have just begun.
    let is_followed = |at: &usize| came.get(at + 1).is_none_or(|next| *next == 36);
    assert!(handshakes.iter().all(is_followed), "something came between");
    assert_eq!(fake.accepted(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_renewal_has_the_time_of_the_settings_whatever_was_left_of_the_first_contact() {
    let port = Arc::new(AtomicU32::new(0));
    let (told, handshakes) = (port.clone(), AtomicU32::new(0));
    let fake = Fake::start(move |asked| {
        if asked.is::<SaslHandshakeRequest>() {
            if handshakes.fetch_add(1, Ordering::SeqCst) == 1 {
                // Longer than the first contact may take.
                std::thread::sleep(Duration::from_millis(1200));
            }
            return agreed(&asked);
        }
        if asked.is::<SaslAuthenticateRequest>() {
            return authenticated(
                &asked,
                0,
                b"",
                if handshakes.load(Ordering::SeqCst) == 1 { 300 } else { 0 },
            );
        }
        let port = told.load(Ordering::SeqCst) as i32;
        let brokers =
            vec![MetadataResponseBroker { node_id: 1, host: "127.0.0.1".into(), port, ..Default::default() }];
        let response = MetadataResponse { brokers, ..Default::default() };
        Reply::Say(asked.answer::<MetadataRequest>(&response))
    })
    .await;
    port.store(u32::from(fake.address.port()), Ordering::SeqCst);
    let mut conf = Config::with_bootstrap(&fake.address.to_string()).unwrap();
    for (name, value) in [
        ("security.protocol", "SASL_PLAINTEXT"),
        ("sasl.mechanism", "PLAIN"),
        ("sasl.username", "app"),
        ("sasl.password", "hunter2"),
        ("metadata-timeout", "500"),
    ] {
        conf.set(name, value).unwrap();
    }
    let cluster = Cluster::connect(&conf).await.unwrap();
    // Behind the renewal, or on a connection of its own when that was given up. Somebody else is asked after a second.
    tokio::time::sleep(Duration::from_millis(900)).await;
    let _ = cluster.topic("any", Duration::from_millis(1500)).await;
    assert_eq!(fake.accepted(), 1, "the renewal was given up");
    cluster.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_is_not_renewed_ends_with_nothing_in_doubt() {
    let (fake, came) = server(300, 2).await;
    let connection = Connection::connect(&fake.broker(), &options("PLAIN")).await.unwrap();
    let mut answered = 0;
    let error = loop {
        match connection.call(&MetadataRequest::default(), WAIT).await {
            Ok(_) => answered += 1,
            Err(error) => break error,
        }
    };
    let CallError::NotSent { reason: CloseReason::Session(why), .. } = &error else { panic!("{error:?}") };
    assert!(why.contains("rejected user \"app\" (PLAIN)"), "{why}");
    assert!(!format!("{error} {error:?}").contains("hunter2"));
    assert_eq!(came.lock().iter().filter(|api| **api == 3).count(), answered, "what was sent was answered");
    eventually(|| connection.is_closed()).await;
}

async fn refused(mechanism: &str, handler: impl FnMut(Asked) -> Reply + Send + 'static) -> ConnectError {
    let fake = Fake::start(handler).await;
    let error = Connection::connect(&fake.broker(), &options(mechanism)).await.unwrap_err();
    assert!(!format!("{error} {error:?}").contains("hunter2"), "{error:?}");
    error
}

#[tokio::test]
async fn a_rejection_names_user_mechanism_and_what_the_broker_offers() {
    let error = refused("PLAIN", |asked| {
        if asked.is::<SaslHandshakeRequest>() { agreed(&asked) } else { authenticated(&asked, 58, b"", 0) }
    })
    .await;
    let text = error.to_string();
    let wanted =
        "rejected user \"app\" (PLAIN). Check password and mechanism; broker offers: PLAIN, SCRAM-SHA-256";
    // The broker's words repeat the password: they are left out.
    assert!(text.ends_with(wanted), "{text}");
    assert_eq!((error.kind(), error.is_definite()), (ErrorKind::Authentication, true));
}

#[tokio::test]
async fn a_broker_that_cannot_prove_itself_is_not_believed() {
    let mut step = 0;
    let error = refused("SCRAM-SHA-256", move |asked| {
        if asked.is::<SaslHandshakeRequest>() {
            return agreed(&asked);
        }
        step += 1;
        if step > 1 {
            return authenticated(&asked, 0, b"v=AAAA", 0);
        }
        let first = asked.read::<SaslAuthenticateRequest>().auth_bytes.0;
        let nonce = std::str::from_utf8(&first).unwrap().rsplit_once("r=").unwrap().1.to_owned();
        let said = format!("r={nonce}more,s=c2FsdA==,i=4096");
        authenticated(&asked, 0, Box::leak(said.into_bytes().into_boxed_slice()), 0)
    })
    .await;
    assert!(error.to_string().contains("did not prove that it knows the password"), "{error}");
    assert_eq!(error.kind(), ErrorKind::Authentication);
}

#[tokio::test]
async fn a_broker_may_not_ask_for_endless_hashing() {
    let error = refused("SCRAM-SHA-256", |asked| {
        if asked.is::<SaslHandshakeRequest>() {
            return agreed(&asked);
        }
        let first = asked.read::<SaslAuthenticateRequest>().auth_bytes.0;
        let nonce = std::str::from_utf8(&first).unwrap().rsplit_once("r=").unwrap().1.to_owned();
        let said = format!("r={nonce}more,s=c2FsdA==,i=2000000000");
        authenticated(&asked, 0, Box::leak(said.into_bytes().into_boxed_slice()), 0)
    })
    .await;
    assert!(error.to_string().contains("2000000000 iterations"), "{error}");
}

#[tokio::test]
async fn a_broker_that_falls_silent_is_given_up_in_time() {
    let begin = Instant::now();
    let error =
        refused(
            "PLAIN",
            |asked| {
                if asked.is::<SaslHandshakeRequest>() { agreed(&asked) } else { Reply::Nothing }
            },
        )
        .await;
    assert!(error.to_string().contains("authentication was not over after 2 s"), "{error}");
    assert!(begin.elapsed() < Duration::from_secs(4), "{:?}", begin.elapsed());
}

/// Whoever answers is nobody yet: what he says cannot write lines of a log, has an end, and repeats no password.
#[tokio::test]
async fn what_a_broker_says_before_it_is_known_is_shown_plain_and_short() {
    let error = refused("PLAIN", |asked| {
        let names = ["SCRAM\nERROR forged".to_owned(), "for hunter2".to_owned(), "x".repeat(30_000)];
        let mut mechanisms: Vec<_> = names.iter().map(|name| name.as_str().into()).collect();
        mechanisms.resize(10_000, "y".into());
        let response = SaslHandshakeResponse { error_code: 33, mechanisms };
        Reply::Say(asked.answer::<SaslHandshakeRequest>(&response))
    })
    .await;
    let text = error.to_string();
    assert!(text.contains("offers: SCRAM\\nERROR forged, xxx") && !text.contains('\n'), "{text}");
    assert!(text.len() < 1_000, "{} bytes", text.len());
}

#[tokio::test]
async fn a_message_of_a_mechanism_has_an_end() {
    let error = refused("SCRAM-SHA-256", |asked| {
        if asked.is::<SaslHandshakeRequest>() {
            return agreed(&asked);
        }
        authenticated(&asked, 0, Box::leak(vec![b'r'; 100_000].into_boxed_slice()), 0)
    })
    .await;
    assert!(error.to_string().contains("its message has 100000 bytes, 16384 are taken"), "{error}");
}

#[tokio::test]
async fn a_listener_without_sasl_is_told_so() {
    let error = refused("PLAIN", |asked| {
        let response = SaslHandshakeResponse { error_code: 34, mechanisms: Vec::new() };
        Reply::Say(asked.answer::<SaslHandshakeRequest>(&response))
    })
    .await;
    assert!(matches!(error, ConnectError::NoSasl { .. }), "{error}");
}
