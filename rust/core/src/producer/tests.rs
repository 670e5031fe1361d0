//! Pieces that tests of the producer's files share.

use std::sync::Arc;

use super::Delivery;
use super::append::Append;
use super::shared::Shared;
use super::time::Time;
use super::topic::{Partition, Topic};
use crate::cluster::{Cluster, Leader, PartitionMeta, TopicMeta};
use crate::config::Config;
use crate::wire::messages::{MetadataResponse, MetadataResponsePartition, MetadataResponseTopic};
use crate::wire::{Record, Uuid};

/// A topic whose partitions are led by broker 1.
pub(super) fn meta(name: &str, partitions: i32) -> TopicMeta {
    let leader = Some(Leader { node: 1, epoch: 0 });
    TopicMeta {
        name: Arc::from(name),
        id: Uuid::default(),
        partitions: (0..partitions).map(|index| PartitionMeta { index, leader, leader_epoch: 0 }).collect(),
    }
}

/// A producer of one topic without its tasks and its network, and a clock that stands at 0.
pub(super) struct World {
    pub(super) shared: Arc<Shared>,
    pub(super) topic: Arc<Topic>,
}

impl World {
    /// All partitions have one leader, -1 for none.
    pub(super) async fn new(leader_id: i32, partitions: i32, settings: &[(&str, &str)]) -> Self {
        let mut conf = Config::with_bootstrap("localhost:1").unwrap();
        conf.lazy_connect = true;
        for (name, value) in settings {
            conf.set(name, value).unwrap();
        }
        let cluster = Cluster::connect(&conf).await.unwrap();
        let partition =
            |index| MetadataResponsePartition { partition_index: index, leader_id, ..Default::default() };
        let partitions = (0..partitions).map(partition).collect();
        let topic = MetadataResponseTopic { name: Some("data".into()), partitions, ..Default::default() };
        cluster.take_in(&MetadataResponse { topics: vec![topic], ..Default::default() });
        let mut shared = Shared::new(&conf, cluster);
        Arc::get_mut(&mut shared).expect("nobody else has it yet").time = Time::by_hand();
        let id = shared.register(&shared.cluster.cached_topic("data").unwrap());
        let topic = Arc::clone(shared.topics.get(id.0).unwrap());
        Self { shared, topic }
    }

    /// Appends a value to the open batch of a partition.
    pub(super) fn append(&self, at_us: u64, partition: i32, value: &[u8]) -> Delivery {
        self.shared.time.set_us(at_us);
        let append = Append { timestamp_ms: None, record: &Record::value(value) };
        let mut delivery = None;
        self.shared.append(&self.topic, Some(partition), &append, &mut delivery).unwrap();
        delivery.unwrap()
    }

    pub(super) fn partition(&self, index: u32) -> &Arc<Partition> {
        self.topic.partitions.get(index).unwrap()
    }
}
