//! Pieces that tests of the producer's files share.

use std::sync::Arc;

use crate::cluster::{Leader, PartitionMeta, TopicMeta};
use crate::wire::Uuid;

/// A topic whose partitions are led by broker 1.
pub(super) fn meta(name: &str, partitions: i32) -> TopicMeta {
    let leader = Some(Leader { node: 1, epoch: 0 });
    TopicMeta {
        name: Arc::from(name),
        id: Uuid::default(),
        partitions: (0..partitions).map(|index| PartitionMeta { index, leader, leader_epoch: 0 }).collect(),
    }
}
