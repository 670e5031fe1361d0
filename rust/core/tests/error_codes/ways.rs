//! Answers that do not come as they should: late, cut, in halves, never, too short, out of order. Each passes.

use std::time::Duration;

use kafka_fast::cluster::{Cluster, Isolation, OffsetAt, OffsetQuery, Purpose};
use kafka_fast::wire::messages::ListOffsetsRequest;
use kafka_fast::{Producer, Record};
use kafka_fast_testkit::fake::{Api, Deed, FakeKafka, Way};
use tokio::task::JoinSet;

use super::{WITHIN, conf, in_time};

const TOPIC: &str = "t";
const APIS: [Api; 4] = [Api::Metadata, Api::InitProducerId, Api::Produce, Api::ListOffsets];

/// Who has little time left gives up the answer, not the connection that others have requests on.
#[tokio::test]
async fn a_creation_that_has_little_time_harms_no_other_request() {
    let fake = FakeKafka::start(1).await;
    fake.create_topic(TOPIC, 1);
    fake.on(Api::CreateTopics, |_| Deed::way(Way::Late(Duration::from_millis(1_000))));
    let cluster = Cluster::connect(&conf(&fake)).await.unwrap();
    let created = cluster.create_topic("new", 1, 1, Duration::from_millis(300));
    let others = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        cluster.call(1, Purpose::Control, &ListOffsetsRequest::default(), WITHIN).await
    };
    let (created, other) = tokio::join!(created, others);
    let text = created.unwrap_err().to_string();
    assert!(text.starts_with("Topic \"new\" was not created within 300 ms"), "{text}");
    assert!(text.contains("did not answer CreateTopics within"), "{text}");
    other.expect("it was in the same connection");
}

/// All there are, and a throttle that is over soon.
fn deeds() -> [Deed; 7] {
    let ways = [
        Way::Late(Duration::from_millis(300)),
        Way::Cut,
        Way::Half,
        Way::Silence,
        Way::Truncated,
        Way::Swapped,
    ];
    let [late, cut, half, silence, truncated, swapped] = ways.map(Deed::way);
    [late, cut, half, silence, truncated, swapped, Deed { throttle_ms: 100, ..Deed::default() }]
}

/// The first answer of `api` goes out as `deed` says, the others as they should.
async fn passes(api: Api, deed: Deed) {
    let fake = FakeKafka::start(1).await;
    fake.create_topic(TOPIC, 1);
    let mut conf = conf(&fake);
    // What never comes is given up soon.
    conf.set("request.timeout.ms", "1500").unwrap();
    let cluster = Cluster::connect(&conf).await.unwrap();
    let mut met = false;
    let once = move |_: &_| if std::mem::replace(&mut met, true) { Deed::default() } else { deed };
    // Who connects is told at once what is wrong; whoever is connected tries again.
    let producer = if api == Api::Metadata {
        let producer = Producer::connect(conf).await.unwrap();
        fake.on(api, once);
        producer
    } else {
        fake.on(api, once);
        Producer::connect(conf).await.unwrap()
    };
    let sent = producer.send(TOPIC, Record::value("x")).await;
    let delivery = sent.unwrap_or_else(|e| panic!("{api:?} {deed:?}: {e}"));
    delivery.await.unwrap_or_else(|e| panic!("{api:?} {deed:?}: {e}"));
    cluster.topic(TOPIC, WITHIN).await.unwrap();
    let query = OffsetQuery { topic: TOPIC.into(), partition: 0, at: OffsetAt::Latest };
    let end = cluster.list_offsets(&[query], Isolation::ReadUncommitted, WITHIN).await;
    // What was written and not answered may be written again: this broker does not look at sequences.
    assert!(end.unwrap_or_else(|e| panic!("{api:?} {deed:?}: {e}"))[0].offset >= 1);
    producer.close(WITHIN).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_does_not_come_as_it_should_passes() {
    let mut ends = JoinSet::new();
    for deed in deeds() {
        for api in APIS {
            ends.spawn(in_time(passes(api, deed)));
        }
    }
    while let Some(end) = ends.join_next().await {
        end.unwrap();
    }
}
