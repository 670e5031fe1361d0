//! InitProducerId: whether a producer waits for an id, or goes without, is seen in what it writes.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_waits_for_an_id_or_goes_without_as_the_table_says() {
    with_a_cluster_each(|code| async move {
        let fake = FakeKafka::start(1).await;
        fake.create_topic("t", 1);
        let mut refused = false;
        fake.on(Api::InitProducerId, move |_| {
            if std::mem::replace(&mut refused, true) { Deed::default() } else { Deed::code(code.0) }
        });
        let producer = Producer::connect(conf(&fake)).await.unwrap();
        let sent = producer.send("t", Record::value("x")).await.unwrap();
        assert_eq!(sent.await.unwrap_or_else(|e| panic!("{code}: {e}")).offset, 0);
        let asked = fake.asked();
        let asked = asked.iter().filter(|asked| asked.api == Api::InitProducerId).count();
        let written = (fake.log("t", 0)[0].producer_id(), asked);
        match code.treatment(Operation::InitProducerId) {
            Treatment::Retry => assert_eq!(written, (4000, 2), "{code}"),
            Treatment::GoWithout => assert_eq!(written, (-1, 1), "{code}"),
            other => panic!("{code}: nobody who wants an id knows {other:?}"),
        }
        producer.close(WITHIN).await.unwrap();
    })
    .await;
}
