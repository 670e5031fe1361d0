//! The cluster against fake brokers: first contact, moving brokers, back-off, coalescing.

mod net_fake;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use kafka_fast::cluster::*;
use kafka_fast::config::Config;
use kafka_fast::error::ErrorKind;
use kafka_fast::net::CallError;
use kafka_fast::wire::messages::*;
use kafka_fast::wire::{ErrorCode, Uuid};
use kafka_fast_testkit::fake::{Api, Deed, FakeKafka, Way};
use net_fake::{Asked, Fake, Reply, eventually, stranger};
use parking_lot::Mutex;

const SEC: Duration = Duration::from_secs(1);

/// What the fake cluster says about itself.
#[derive(Debug, Default)]
struct World {
    brokers: Vec<(i32, u16)>,
    /// Leader and epoch of each partition of topic `t`; empty: unknown topic.
    leaders: Vec<(i32, i32)>,
    id: u8,
    /// Whether asking with permission creates `t` with a partition led by the first broker.
    creates: bool,
}

#[derive(Clone, Default)]
struct Shared {
    world: Arc<Mutex<World>>,
    asked: Arc<AtomicU32>,
    silent: Arc<AtomicBool>,
}

impl Shared {
    fn metadata(&self, asked: &Asked) -> Reply {
        self.asked.fetch_add(1, Ordering::SeqCst);
        if self.silent.load(Ordering::SeqCst) {
            return Reply::Nothing;
        }
        let request = asked.read::<MetadataRequest>();
        let mut world = self.world.lock();
        let broker = |&(node_id, port): &(i32, u16)| MetadataResponseBroker {
            node_id,
            host: "127.0.0.1".into(),
            port: port.into(),
            rack: None,
        };
        let topics = request.topics.unwrap().into_iter().map(|t| {
            let known = t.name.as_deref() == Some("t");
            let mut topic = MetadataResponseTopic { name: t.name, ..Default::default() };
            if known && !world.leaders.is_empty() {
                topic.topic_id = Uuid([world.id; 16]);
                let partition = |(i, &(leader_id, leader_epoch)): (usize, &_)| MetadataResponsePartition {
                    partition_index: i as i32,
                    leader_id,
                    leader_epoch,
                    ..Default::default()
                };
                topic.partitions = world.leaders.iter().enumerate().map(partition).collect();
            } else {
                topic.error_code = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0;
                if known && world.creates && request.allow_auto_topic_creation {
                    world.leaders = vec![(world.brokers[0].0, 0)];
                }
            }
            topic
        });
        let topics = topics.collect();
        let response = MetadataResponse {
            brokers: world.brokers.iter().map(broker).collect(),
            cluster_id: Some("fake".into()),
            controller_id: world.brokers.first().map_or(-1, |b| b.0),
            topics,
            ..Default::default()
        };
        Reply::Say(asked.answer::<MetadataRequest>(&response))
    }

    async fn broker(&self) -> Fake {
        let shared = self.clone();
        Fake::start(move |asked| shared.serve(asked)).await
    }

    fn serve(&self, asked: Asked) -> Reply {
        if asked.is::<MetadataRequest>() {
            return self.metadata(&asked);
        }
        if asked.is::<InitProducerIdRequest>() {
            return Reply::Say(asked.answer::<InitProducerIdRequest>(&InitProducerIdResponse::default()));
        }
        Reply::Close
    }

    fn requests(&self) -> u32 {
        self.asked.load(Ordering::SeqCst)
    }
}

fn conf(bootstrap: &str) -> Config {
    let mut conf = Config::with_bootstrap(bootstrap).unwrap();
    conf.metadata_timeout = SEC;
    conf.connect_timeout = SEC;
    conf
}

async fn one_broker() -> (Shared, Fake, Cluster) {
    let shared = Shared::default();
    let fake = shared.broker().await;
    *shared.world.lock() =
        World { brokers: vec![(1, fake.address.port())], leaders: vec![(1, 5)], id: 1, creates: false };
    let cluster = Cluster::connect(&conf(&fake.address.to_string())).await.unwrap();
    (shared, fake, cluster)
}

async fn refusal(bootstrap: &str) -> (ConnectError, String, Duration) {
    let begin = Instant::now();
    let error = Cluster::connect(&conf(bootstrap)).await.unwrap_err();
    let text = error.to_string();
    (error, text, begin.elapsed())
}

async fn closed_port() -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn first_mistakes_are_explained() {
    let error = Cluster::connect(&Config::default()).await.unwrap_err();
    assert_eq!(error.to_string(), "connect needs at least one broker, e.g. bootstrap.servers=localhost:9092");
    assert_eq!(error.kind(), ErrorKind::Config);

    let (error, text, took) = refusal("no-such-host.invalid:9092").await;
    assert!(text.starts_with("Cannot resolve broker \"no-such-host.invalid\". Check the name; "), "{text}");
    assert!(error.kind() == ErrorKind::Unreachable && took < SEC, "no waiting mends a name");

    let port = closed_port().await;
    let (_, text, took) = refusal(&port).await;
    assert_eq!(
        text,
        format!("No broker answered within 1 s: {port} refused the connection. Is Kafka running there?")
    );
    assert!(took > SEC / 3 && took < 2 * SEC, "{took:?}");

    let (redis, _server) = stranger(b"", |said| said.ends_with(b"\r\n"), b"-ERR wrong number\r\n").await;
    let (_, text, took) = refusal(&redis.to_string()).await;
    assert_eq!(text, format!("{redis} is Redis, not Kafka"));
    assert!(took < SEC);

    let (silent, _server) = stranger(b"", |_| false, b"").await;
    let (_, text, took) = refusal(&silent.to_string()).await;
    assert_eq!(
        text,
        format!("No broker answered within 1 s: {silent} accepted the connection and said nothing for 1 s")
    );
    assert!(took < 2 * SEC, "{took:?}");

    // A mix is not hopeless: the one that may come up is waited for, and all are named.
    let (_, text, took) = refusal(&format!("{redis},{port}")).await;
    assert!(text.starts_with("No broker answered within 1 s: ") && took > SEC / 3, "{text}");
    assert!(
        text.contains(&format!("{redis} is Redis")) && text.contains(&format!("{port} refused")),
        "{text}"
    );
}

#[tokio::test]
async fn advertised_brokers_that_cannot_be_reached_are_named() {
    let shared = Shared::default();
    let fake = shared.broker().await;
    let closed = closed_port().await;
    let port = closed.rsplit_once(':').unwrap().1.parse().unwrap();
    shared.world.lock().brokers = vec![(7, port)];
    let (error, text, took) = refusal(&fake.address.to_string()).await;
    assert_eq!(
        text,
        format!(
            "Bootstrap {} answered, but the cluster advertises broker 7 as 127.0.0.1:{port}, which this machine \
             cannot reach. Fix advertised.listeners (127.0.0.1:{port} refused the connection. Is Kafka running \
             there?)",
            fake.address
        )
    );
    assert!(error.kind() == ErrorKind::Unreachable && took < 2 * SEC);
    // One that can be reached is enough.
    shared.world.lock().brokers = vec![(7, port), (8, fake.address.port())];
    let cluster = Cluster::connect(&conf(&fake.address.to_string())).await.unwrap();
    assert_eq!(cluster.nodes(), [7, 8]);
}

#[tokio::test]
async fn any_bootstrap_broker_will_do_and_a_silent_one_costs_little() {
    let shared = Shared::default();
    let fake = shared.broker().await;
    shared.world.lock().brokers = vec![(1, fake.address.port())];
    let (silent, _server) = stranger(b"", |_| false, b"").await;
    let begin = Instant::now();
    let list = format!("{},{silent},{}", closed_port().await, fake.address);
    let cluster = Cluster::connect(&conf(&list)).await.unwrap();
    assert!(begin.elapsed() < SEC / 2);
    assert_eq!(cluster.cluster_id().as_deref(), Some("fake"));
    // The bootstrap connection is the broker's connection, as the address is the same.
    assert_eq!(fake.accepted(), 1);
    cluster.call(1, Purpose::Control, &InitProducerIdRequest::default(), SEC).await.unwrap();
    assert_eq!(fake.accepted(), 1);
}

#[tokio::test]
async fn a_bootstrap_broker_that_knows_nobody_does_not_keep_the_others_from_being_asked() {
    // Starting, in trouble, and refusing for good.
    for code in [ErrorCode::NONE, ErrorCode::UNKNOWN_SERVER_ERROR, ErrorCode::CLUSTER_AUTHORIZATION_FAILED] {
        let (first, second) = (FakeKafka::start(1).await, FakeKafka::start(2).await);
        first.hide(1);
        first.on(Api::Metadata, move |_| Deed::code(code.0));
        let list = format!("{},{}", first.address(), second.address());
        let begin = Instant::now();
        let cluster = Cluster::connect(&conf(&list)).await.unwrap_or_else(|e| panic!("{code}: {e}"));
        assert_eq!(cluster.nodes(), [1, 2], "{code}");
        assert!(begin.elapsed() < SEC / 2, "{code}: {:?}", begin.elapsed());
    }
    // It is for good when all say so; one that is down may still come up.
    let fakes = (FakeKafka::start(1).await, FakeKafka::start(1).await);
    for fake in [&fakes.0, &fakes.1] {
        fake.on(Api::Metadata, |_| Deed::code(ErrorCode::CLUSTER_AUTHORIZATION_FAILED.0));
    }
    let (first, second) = (fakes.0.address(), fakes.1.address());
    for (list, waits) in
        [(format!("{first},{second}"), false), (format!("{first},{}", closed_port().await), true)]
    {
        let (error, text, elapsed) = refusal(&list).await;
        assert!(matches!(error, ConnectError::Nobody { .. }), "{text}");
        assert!(text.contains("CLUSTER_AUTHORIZATION_FAILED"), "{text}");
        assert_eq!(elapsed >= SEC / 2, waits, "{list}: {elapsed:?}");
    }
}

#[tokio::test]
async fn a_broker_that_comes_up_in_time_is_found() {
    let shared = Shared::default();
    let address = closed_port().await;
    let port = address.rsplit_once(':').unwrap().1.parse().unwrap();
    shared.world.lock().brokers = vec![(1, port)];
    let starter = tokio::spawn({
        let (shared, address) = (shared.clone(), address.clone());
        async move {
            tokio::time::sleep(SEC / 3).await;
            let listener = tokio::net::TcpListener::bind(address).await.unwrap();
            Fake::start_on(listener, move |asked| shared.serve(asked))
        }
    });
    Cluster::connect(&conf(&address)).await.unwrap();
    drop(starter.await.unwrap());
}

#[tokio::test]
async fn lazy_connect_does_no_io_and_works_when_asked() {
    let shared = Shared::default();
    let fake = shared.broker().await;
    *shared.world.lock() =
        World { brokers: vec![(1, fake.address.port())], leaders: vec![(1, 0)], id: 1, creates: false };
    let lazy = Config { lazy_connect: true, ..conf(&fake.address.to_string()) };
    let cluster = Cluster::connect(&lazy).await.unwrap();
    tokio::time::sleep(SEC / 10).await;
    assert_eq!((fake.accepted(), cluster.cluster_id()), (0, None));
    assert_eq!(cluster.topic("t", SEC).await.unwrap().partitions.len(), 1);
    assert_eq!(cluster.leader("t", 0), Some(Leader { node: 1, epoch: 0 }));
    // Nobody there at all: the time-out says why.
    let lazy = Config { lazy_connect: true, ..conf(&closed_port().await) };
    let cluster = Cluster::connect(&lazy).await.unwrap();
    let error = cluster.topic("t", SEC / 2).await.unwrap_err();
    assert!(matches!(error, TopicError::Timeout { .. }) && error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn topics_are_found_created_and_refused() {
    let (shared, _fake, cluster) = one_broker().await;
    let error = cluster.topic("a b", SEC).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Topic \"a b\" has an illegal character at 1 (allowed: letters, digits, . _ -)"
    );
    assert_eq!(error.kind(), ErrorKind::InvalidTopic);
    let error = cluster.topic("data", SEC).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "Topic \"data\" does not exist and auto-creation is off. kafka-topics.sh --create --topic data ..., or \
         Admin.createTopic"
    );
    assert_eq!(error.kind(), ErrorKind::UnknownTopic);
    assert_eq!(cluster.topic_if_exists("data", SEC).await.unwrap(), None);
    assert_eq!(cluster.topic("t", SEC).await.unwrap().id, Uuid([1; 16]));
    let asked = shared.requests();
    cluster.topic("t", SEC).await.unwrap();
    cluster.topic_if_exists("t", SEC).await.unwrap().unwrap();
    assert_eq!(shared.requests(), asked, "what is known is not asked for");
}

#[tokio::test]
async fn a_topic_that_a_broker_called_unknown_before_it_fell_silent_does_not_exist() {
    let fake = FakeKafka::start(1).await;
    let cluster = Cluster::connect(&conf(&fake.address())).await.unwrap();
    let mut looks = 0;
    fake.on(Api::Metadata, move |asked| {
        looks += u32::from(asked.topic == "t");
        Deed::way(if looks > 1 { Way::Silence } else { Way::Whole })
    });
    assert_eq!(cluster.topic_if_exists("t", SEC / 2).await.unwrap(), None);
}

#[tokio::test]
async fn a_broker_that_does_not_create_topics_for_clients_is_not_asked_again_and_again() {
    let shared = Shared::default();
    let brokers = shared.clone();
    let fake = Fake::raw(move |asked| {
        if !asked.is::<ApiVersionsRequest>() {
            return brokers.serve(asked);
        }
        let api_keys =
            [0, 1, 2, 3, 18].map(|api_key| ApiVersion { api_key, min_version: 0, max_version: 99 });
        let response = ApiVersionsResponse { api_keys: api_keys.into(), ..Default::default() };
        Reply::Say(asked.answer::<ApiVersionsRequest>(&response))
    })
    .await;
    shared.world.lock().brokers = vec![(1, fake.address.port())];
    let cluster = Cluster::connect(&conf(&fake.address.to_string())).await.unwrap();
    let created = tokio::time::timeout(10 * SEC, cluster.create_topic("new", 1, 1, 30 * SEC));
    let error = created.await.expect("it is asked again").unwrap_err();
    assert_eq!(
        error.to_string(),
        format!(
            "Topic \"new\" was not created: {} speaks CreateTopics not at all, this client 2-7. Create it with the \
             broker's own kafka-topics.sh",
            fake.address
        )
    );
    assert_eq!(error.kind(), ErrorKind::Protocol);
}

#[tokio::test]
async fn only_topic_creates() {
    let (shared, _fake, cluster) = one_broker().await;
    {
        let mut world = shared.world.lock();
        (world.leaders, world.creates) = (vec![], true);
    }
    let name = Arc::from("t");
    assert_eq!(cluster.topic_if_exists("t", SEC).await.unwrap(), None);
    cluster.refresh(&[Arc::clone(&name)], SEC).await.unwrap();
    cluster.request_refresh(&name);
    tokio::time::sleep(SEC / 5).await;
    assert!(shared.world.lock().leaders.is_empty());
    assert!(cluster.topic("t", 2 * SEC).await.unwrap().has_all_leaders());
}

#[tokio::test]
async fn leaders_are_waited_for() {
    let (shared, _fake, cluster) = one_broker().await;
    shared.world.lock().leaders = vec![(-1, 6), (-1, 6)];
    let error = cluster.topic("t", SEC / 3).await.unwrap_err();
    assert!(matches!(error, TopicError::NoLeader { .. }), "{error}");
    let later = tokio::spawn({
        let shared = shared.clone();
        async move {
            tokio::time::sleep(SEC / 3).await;
            shared.world.lock().leaders = vec![(1, 7), (1, 7)];
        }
    });
    assert!(cluster.topic("t", 5 * SEC).await.unwrap().has_all_leaders());
    later.await.unwrap();
    // One leaderless partition does not hold up the others for ever.
    let (shared, _fake, cluster) = one_broker().await;
    shared.world.lock().leaders = vec![(-1, 6), (1, 6)];
    let begin = Instant::now();
    let meta = cluster.topic("t", 30 * SEC).await.unwrap();
    assert!(meta.has_a_leader() && !meta.has_all_leaders() && begin.elapsed() < 3 * SEC);
}

#[tokio::test]
async fn wishes_in_passing_are_gathered_and_slow_down() {
    let (shared, _fake, cluster) = one_broker().await;
    cluster.topic("t", SEC).await.unwrap();
    let mut updates = cluster.updates();
    updates.mark_unchanged();
    let before = shared.requests();
    let name: Arc<str> = "t".into();
    let begin = Instant::now();
    while begin.elapsed() < SEC {
        for _ in 0..1000 {
            cluster.request_refresh(&name);
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let asked = shared.requests() - before;
    assert!((2..=9).contains(&asked), "{asked} requests in a second");
    assert!(!updates.has_changed().unwrap(), "the same again is no update");
    shared.world.lock().leaders = vec![(1, 6)];
    cluster.request_refresh(&name);
    tokio::time::timeout(3 * SEC, updates.changed()).await.expect("an update").unwrap();
    assert_eq!(cluster.leader("t", 0), Some(Leader { node: 1, epoch: 6 }));
    // A wish somebody waits for does not wait.
    let begin = Instant::now();
    cluster.refresh(&[name], SEC).await.unwrap();
    assert!(begin.elapsed() < SEC / 5);
}

#[tokio::test]
async fn many_who_want_a_connection_get_one() {
    let (_shared, fake, cluster) = one_broker().await;
    let before = fake.accepted();
    let mut wanted = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let cluster = cluster.clone();
        wanted.spawn(async move { cluster.connection(1, Purpose::Produce).await.unwrap() });
    }
    let got = wanted.join_all().await;
    assert!(got.iter().all(|c| Arc::ptr_eq(c, &got[0])));
    assert_eq!(fake.accepted(), before + 1);
    // Each purpose has a socket of its own.
    for purpose in [Purpose::Fetch, Purpose::LongPoll, Purpose::Produce] {
        cluster.connection(1, purpose).await.unwrap();
    }
    assert_eq!(fake.accepted(), before + 3);
}

#[tokio::test]
async fn a_broker_that_is_gone_is_left_alone_for_a_while() {
    let (shared, fake, cluster) = one_broker().await;
    let closed = closed_port().await;
    let port = closed.rsplit_once(':').unwrap().1.parse().unwrap();
    shared.world.lock().brokers = vec![(1, fake.address.port()), (2, port)];
    cluster.refresh(&[], SEC).await.unwrap();
    let error = cluster.connection(2, Purpose::Fetch).await.unwrap_err();
    assert!(matches!(error, CallError::Connect(_)), "{error}");
    let mut tries = 1;
    let begin = Instant::now();
    while begin.elapsed() < 2 * SEC {
        let asked = Instant::now();
        match cluster.connection(2, Purpose::Produce).await.unwrap_err() {
            CallError::BackOff { retry_after, error } => {
                assert!(retry_after <= SEC && error.to_string().contains("refused"));
                assert!(asked.elapsed() < SEC / 10);
            }
            CallError::Connect(_) => tries += 1,
            other => panic!("{other}"),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    assert!((4..=9).contains(&tries), "{tries} tries in two seconds");
    let error = cluster.connection(3, Purpose::Produce).await.unwrap_err();
    assert!(matches!(error, CallError::UnknownNode { node: 3 }), "{error}");
}

#[tokio::test]
async fn a_broker_that_accepts_and_hangs_up_is_not_dialled_in_a_loop() {
    let (_shared, fake, cluster) = one_broker().await;
    let begin = Instant::now();
    let before = fake.accepted();
    while begin.elapsed() < SEC {
        // The fake closes the connection when it is asked for offsets.
        let _ = cluster.call(1, Purpose::Fetch, &ListOffsetsRequest::default(), SEC).await.unwrap_err();
    }
    let dialled = fake.accepted() - before;
    assert!(dialled <= 9, "{dialled} connections in a second");
}

#[tokio::test]
async fn a_broker_that_leaves_is_hung_up_on() {
    let (shared, fake, cluster) = one_broker().await;
    let other = shared.broker().await;
    shared.world.lock().brokers.push((2, other.address.port()));
    cluster.refresh(&[], SEC).await.unwrap();
    let connection = cluster.connection(2, Purpose::Fetch).await.unwrap();
    shared.world.lock().brokers = vec![(1, fake.address.port())];
    cluster.refresh(&[], SEC).await.unwrap();
    eventually(|| connection.is_closed()).await;
    assert!(matches!(cluster.connection(2, Purpose::Fetch).await, Err(CallError::UnknownNode { node: 2 })));
    // One that moves gets connections to its new address.
    shared.world.lock().brokers = vec![(1, other.address.port())];
    cluster.refresh(&[], SEC).await.unwrap();
    let connection = cluster.connection(1, Purpose::Fetch).await.unwrap();
    assert_eq!(connection.peer(), other.address);
}

#[tokio::test]
async fn when_every_known_broker_is_gone_the_bootstrap_list_is_asked_again() {
    let (shared, first, cluster) = one_broker().await;
    cluster.topic("t", SEC).await.unwrap();
    // The cluster moves to another port; the bootstrap address is a forwarder that stays.
    let address = first.address;
    let second = shared.broker().await;
    shared.world.lock().brokers = vec![(9, second.address.port())];
    shared.world.lock().leaders = vec![(9, 8)];
    drop(first);
    tokio::time::sleep(SEC / 2).await;
    let name: Arc<str> = "t".into();
    assert!(cluster.refresh(std::slice::from_ref(&name), SEC / 2).await.is_err());
    let listener = tokio::net::TcpListener::bind(address).await.unwrap();
    let forwarder = shared.clone();
    let _seed = Fake::start_on(listener, move |asked| forwarder.serve(asked));
    cluster.refresh(&[name], 5 * SEC).await.unwrap();
    assert_eq!(cluster.leader("t", 0), Some(Leader { node: 9, epoch: 8 }));
    assert_eq!(cluster.nodes(), [9]);
    cluster.call(9, Purpose::Control, &InitProducerIdRequest::default(), SEC).await.unwrap();
}

#[tokio::test]
async fn a_broker_that_hangs_does_not_stop_the_refresh() {
    let (shared, fake, cluster) = one_broker().await;
    let hung = Shared { silent: Arc::new(AtomicBool::new(false)), ..shared.clone() };
    let other = hung.broker().await;
    shared.world.lock().brokers = vec![(1, fake.address.port()), (2, other.address.port())];
    cluster.refresh(&[], SEC).await.unwrap();
    cluster.connection(2, Purpose::Control).await.unwrap();
    hung.silent.store(true, Ordering::SeqCst);
    for _ in 0..4 {
        cluster.refresh(&[], 3 * SEC).await.unwrap();
    }
    let begin = Instant::now();
    cluster.refresh(&[], 3 * SEC).await.unwrap();
    assert!(begin.elapsed() < SEC / 2, "the one that hangs is asked last");
}

#[tokio::test]
async fn close_ends_everything() {
    let (_shared, _fake, cluster) = one_broker().await;
    let connection = cluster.connection(1, Purpose::LongPoll).await.unwrap();
    let waiting = tokio::spawn({
        let cluster = cluster.clone();
        async move { cluster.topic("nowhere", 30 * SEC).await }
    });
    tokio::time::sleep(SEC / 10).await;
    cluster.close();
    assert!(connection.is_closed());
    let error = tokio::time::timeout(SEC, waiting).await.expect("prompt").unwrap().unwrap_err();
    assert!(matches!(error, TopicError::Closed), "{error}");
    assert!(matches!(cluster.connection(1, Purpose::Fetch).await, Err(CallError::Closed)));
    assert!(matches!(cluster.topic("other", SEC).await, Err(TopicError::Closed)));

    // Dropping the last handle does the same.
    let (_shared, _fake, cluster) = one_broker().await;
    let connection = cluster.connection(1, Purpose::LongPoll).await.unwrap();
    drop(cluster.clone());
    assert!(!connection.is_closed());
    drop(cluster);
    assert!(connection.is_closed());
}

/// Of several brokers the one whose connection has ended is met when all are put in order.
#[test]
fn a_broker_that_closed_its_connection_keeps_nobody_from_asking() {
    let (done, ended) = std::sync::mpsc::channel();
    // A thread of its own: if one of the runtime's hung, its end would wait for that for ever.
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        runtime.block_on(async {
            let fake = FakeKafka::start(3).await;
            let names: Vec<String> = (0..20).map(|n| format!("t{n}")).collect();
            names.iter().for_each(|name| fake.create_topic(name, 1));
            let conf = Config::with_bootstrap(&fake.address()).unwrap();
            let cluster = Cluster::connect(&conf).await.unwrap();
            // The first question about each topic is answered by closing the connection.
            let mut met = std::collections::HashSet::new();
            fake.on(Api::Metadata, move |asked| {
                let is_first = !asked.topic.is_empty() && met.insert(asked.topic.clone());
                Deed::way(if is_first { Way::Cut } else { Way::Whole })
            });
            for name in &names {
                cluster.topic(name, 10 * SEC).await.unwrap();
            }
        });
        done.send(()).unwrap();
    });
    ended.recv_timeout(60 * SEC).expect("every topic is found");
}

/// A leader that is silent may not be the leader any more. Nobody waits for it until the end to ask who is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn offsets_come_from_the_new_leader_while_the_old_one_is_silent() {
    let fake = FakeKafka::start(2).await;
    fake.create_topic("t", 1);
    fake.move_leader("t", 0, 2);
    fake.on(
        Api::ListOffsets,
        |asked| {
            if asked.node == 2 { Deed::way(Way::Silence) } else { Deed::default() }
        },
    );
    let cluster = Cluster::connect(&Config::with_bootstrap(&fake.address()).unwrap()).await.unwrap();
    cluster.topic("t", 5 * SEC).await.unwrap();
    let query = OffsetQuery { topic: "t".into(), partition: 0, at: OffsetAt::Latest };
    let moves = async {
        eventually(|| fake.asked().iter().any(|asked| asked.api == Api::ListOffsets)).await;
        fake.move_leader("t", 0, 1);
    };
    let asked = cluster.list_offsets(std::slice::from_ref(&query), Isolation::ReadUncommitted, 20 * SEC);
    let began = Instant::now();
    let (found, ()) = tokio::join!(asked, moves);
    assert_eq!(found.unwrap()[0].offset, 0);
    assert!(began.elapsed() < 15 * SEC, "after {:?}", began.elapsed());
}
