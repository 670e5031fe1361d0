//! What is known about the cluster: a value that metadata answers are applied to. No I/O, no clock.
//!
//! Brokers answer from their own, possibly stale, view, and the answers of two brokers may arrive in any order. Two
//! rules keep us from going back (KIP-320, KIP-516):
//! * of the same topic id, a partition with an older leader epoch than the one known is ignored;
//! * a topic with another id is another topic and replaces what was known; the one replaced before does only when
//!   [`UNKNOWN_ANSWERS`] answers in a row name it.
//!
//! A broker that has just started may say that a topic does not exist. What is known is therefore kept until
//! [`UNKNOWN_ANSWERS`] answers in a row have said so.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::config::BrokerAddress;
use crate::log_rate;
use crate::wire::messages::{MetadataResponse, MetadataResponseTopic};
use crate::wire::{ErrorCode, Operation, Treatment, Uuid};

/// Answers in a row that must say a topic does not exist before it is forgotten.
const UNKNOWN_ANSWERS: u32 = 3;

/// Who leads a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Leader {
    /// The broker's id.
    pub node: i32,
    /// Counts the leaders of the partition (KIP-320); -1 from a broker that does not say.
    pub epoch: i32,
}

/// What is known about a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PartitionMeta {
    /// Its number.
    pub index: i32,
    /// Who leads it; `None` while nobody does.
    pub leader: Option<Leader>,
    /// The newest leader epoch seen, also while there is no leader; -1 from a broker that does not say.
    pub leader_epoch: i32,
}

/// What is known about a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicMeta {
    /// Its name.
    pub name: Arc<str>,
    /// Its identity: a topic deleted and created again has another. Zero from brokers older than 2.8.
    pub id: Uuid,
    /// Its partitions, sorted by number. The numbers are 0, 1, 2, ... unless a broker leaves one out.
    pub partitions: Vec<PartitionMeta>,
}

impl TopicMeta {
    /// The partition of that number.
    pub fn partition(&self, index: i32) -> Option<&PartitionMeta> {
        // Nearly always the number is the place.
        let guess = usize::try_from(index).ok().and_then(|i| self.partitions.get(i));
        guess.filter(|p| p.index == index).or_else(|| {
            self.partitions.binary_search_by_key(&index, |p| p.index).ok().map(|i| &self.partitions[i])
        })
    }

    /// Whether every partition has a leader, and there is at least one.
    pub fn has_all_leaders(&self) -> bool {
        !self.partitions.is_empty() && self.partitions.iter().all(|p| p.leader.is_some())
    }

    /// Whether some partition has a leader.
    pub fn has_a_leader(&self) -> bool {
        self.partitions.iter().any(|p| p.leader.is_some())
    }
}

#[derive(Debug)]
struct Entry {
    meta: Arc<TopicMeta>,
    /// The id this topic had before it was created again: a stale broker may still answer with it.
    replaced: Option<Uuid>,
    /// Answers in a row that said it does not exist.
    unknown: u32,
    /// Answers in a row with the id before: after so many it is no stale broker that says so. It was one that was heard first.
    before: u32,
}

/// Everything known.
#[derive(Debug, Default)]
pub(super) struct Metadata {
    pub(super) cluster_id: Option<Arc<str>>,
    pub(super) controller: Option<i32>,
    pub(super) nodes: BTreeMap<i32, BrokerAddress>,
    topics: HashMap<Arc<str>, Entry>,
}

/// What an answer said about each topic asked for.
pub(super) type TopicCodes = BTreeMap<Arc<str>, ErrorCode>;

impl Metadata {
    pub(super) fn topic(&self, name: &str) -> Option<&Arc<TopicMeta>> {
        self.topics.get(name).map(|entry| &entry.meta)
    }

    /// The names of all topics known.
    pub(super) fn names(&self) -> impl Iterator<Item = &Arc<str>> {
        self.topics.keys()
    }

    /// Takes in an answer. Says whether anything changed, and what the answer was for each topic.
    pub(super) fn apply(&mut self, response: &MetadataResponse) -> (bool, TopicCodes) {
        let mut changed = self.apply_cluster(response);
        let mut codes = TopicCodes::new();
        for topic in &response.topics {
            let Some(name) = &topic.name else { continue };
            changed |= self.apply_topic(name, topic);
            codes.insert(name.clone(), ErrorCode(topic.error_code));
        }
        (changed, codes)
    }

    fn apply_cluster(&mut self, response: &MetadataResponse) -> bool {
        let mut changed = false;
        if response.cluster_id.is_some() && self.cluster_id != response.cluster_id {
            if let (Some(before), Some(now)) = (&self.cluster_id, &response.cluster_id) {
                // Brokers of two clusters may answer in turn.
                if let Some(more) = log_rate::due(format_args!("cluster {before} {now}")) {
                    tracing::warn!(
                        "The cluster {before} was replaced by {now}; everything known about it is dropped{more}"
                    );
                }
                self.topics.clear();
            }
            self.cluster_id.clone_from(&response.cluster_id);
            changed = true;
        }
        self.controller = (response.controller_id >= 0).then_some(response.controller_id);
        let address = |host: &str, port: i32| BrokerAddress::new(host, u16::try_from(port).unwrap_or(0));
        let nodes: BTreeMap<i32, BrokerAddress> =
            response.brokers.iter().map(|b| (b.node_id, address(&b.host, b.port))).collect();
        // A broker that is still starting may know nobody; nobody is never news.
        if !nodes.is_empty() && nodes != self.nodes {
            self.nodes = nodes;
            changed = true;
        }
        changed
    }

    fn apply_topic(&mut self, name: &Arc<str>, topic: &MetadataResponseTopic) -> bool {
        let code = ErrorCode(topic.error_code);
        if code.treatment(Operation::Metadata) == Treatment::Missing {
            let Some(entry) = self.topics.get_mut(name) else { return false };
            entry.unknown += 1;
            return entry.unknown >= UNKNOWN_ANSWERS && self.topics.remove(name).is_some();
        }
        // LEADER_NOT_AVAILABLE of a topic that is being created comes without partitions; other errors say nothing.
        if !code.is_ok() && topic.partitions.is_empty() {
            return false;
        }
        let Some(entry) = self.topics.get_mut(name) else {
            let meta = Arc::new(read(name, topic));
            self.topics.insert(name.clone(), Entry { meta, replaced: None, unknown: 0, before: 0 });
            return true;
        };
        entry.unknown = 0;
        let id = topic.topic_id;
        if !id.is_zero() && entry.replaced == Some(id) {
            entry.before += 1;
            if entry.before < UNKNOWN_ANSWERS {
                return false;
            }
        }
        entry.before = 0;
        let known = &entry.meta;
        let merged = if known.id == id || id.is_zero() || known.id.is_zero() {
            merge(known, read(name, topic))
        } else {
            entry.replaced = Some(known.id);
            read(name, topic)
        };
        let changed = *entry.meta != merged;
        if changed {
            entry.meta = Arc::new(merged);
        }
        changed
    }

    /// Takes in what a broker said in passing about a partition's leader (KIP-951). Says whether it was news.
    pub(super) fn learn_leader(&mut self, topic: &str, partition: i32, leader: Leader) -> bool {
        let Some(entry) = self.topics.get_mut(topic) else { return false };
        let newer = |p: &PartitionMeta| leader.epoch > p.leader_epoch;
        if leader.node < 0 || !entry.meta.partition(partition).is_some_and(newer) {
            return false;
        }
        let meta = Arc::make_mut(&mut entry.meta);
        for p in meta.partitions.iter_mut().filter(|p| p.index == partition) {
            (p.leader, p.leader_epoch) = (Some(leader), leader.epoch);
        }
        true
    }

    /// Forgets who is in the cluster, so that the bootstrap brokers are asked (KIP-1102).
    pub(super) fn forget_nodes(&mut self) {
        self.nodes.clear();
        self.controller = None;
    }
}

/// More partitions than any topic has; a larger number is a broken answer, and rooms above keep a row for each below it.
const PARTITIONS_MOST: i32 = 1 << 18;

fn read(name: &Arc<str>, topic: &MetadataResponseTopic) -> TopicMeta {
    let mut partitions: Vec<PartitionMeta> = topic
        .partitions
        .iter()
        .filter(|p| (0..PARTITIONS_MOST).contains(&p.partition_index))
        .map(|p| PartitionMeta {
            index: p.partition_index,
            leader: (p.leader_id >= 0).then_some(Leader { node: p.leader_id, epoch: p.leader_epoch }),
            leader_epoch: p.leader_epoch,
        })
        .collect();
    partitions.sort_unstable_by_key(|p| p.index);
    partitions.dedup_by_key(|p| p.index);
    TopicMeta { name: name.clone(), id: topic.topic_id, partitions }
}

/// The newer of each partition. Partitions are never taken away from a topic, so one missing means a stale answer.
fn merge(known: &TopicMeta, mut new: TopicMeta) -> TopicMeta {
    if new.id.is_zero() {
        new.id = known.id;
    }
    for old in &known.partitions {
        match new.partitions.binary_search_by_key(&old.index, |p| p.index) {
            Ok(i)
                if new.partitions[i].leader_epoch >= 0
                    && new.partitions[i].leader_epoch < old.leader_epoch =>
            {
                new.partitions[i] = old.clone();
            }
            Ok(_) => {}
            Err(i) => new.partitions.insert(i, old.clone()),
        }
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::messages::{MetadataResponseBroker, MetadataResponsePartition};

    const T: &str = "data";

    fn id(n: u8) -> Uuid {
        Uuid([n; 16])
    }

    fn answer(id: Uuid, error_code: i16, partitions: &[(i32, i32, i32)]) -> MetadataResponse {
        let partition = |&(partition_index, leader_id, leader_epoch): &_| MetadataResponsePartition {
            partition_index,
            leader_id,
            leader_epoch,
            ..Default::default()
        };
        let partitions = partitions.iter().map(partition).collect();
        let name = Some(T.into());
        let topic =
            MetadataResponseTopic { name, topic_id: id, error_code, partitions, ..Default::default() };
        MetadataResponse { topics: vec![topic], ..Default::default() }
    }

    fn leaders(m: &Metadata) -> Vec<(i32, i32)> {
        let meta = m.topic(T).unwrap();
        meta.partitions.iter().map(|p| (p.leader.map_or(-1, |l| l.node), p.leader_epoch)).collect()
    }

    #[test]
    fn an_older_epoch_of_the_same_topic_is_ignored() {
        let mut m = Metadata::default();
        assert!(m.apply(&answer(id(1), 0, &[(0, 1, 5), (1, 2, 5)])).0);
        let stale = answer(id(1), 0, &[(0, 3, 4), (1, 3, 6)]);
        assert!(m.apply(&stale).0);
        assert_eq!(leaders(&m), [(1, 5), (3, 6)]);
        assert!(!m.apply(&stale).0, "the same again is no change");
        // No leader of a newer epoch is news, none of an older epoch is not.
        m.apply(&answer(id(1), 0, &[(0, -1, 6), (1, -1, 5)]));
        assert_eq!(leaders(&m), [(-1, 6), (3, 6)]);
        assert!(m.topic(T).unwrap().has_a_leader() && !m.topic(T).unwrap().has_all_leaders());
    }

    #[test]
    fn a_topic_created_again_starts_over_and_its_ghost_is_ignored() {
        let mut m = Metadata::default();
        m.apply(&answer(id(1), 0, &[(0, 1, 9), (1, 1, 9)]));
        m.apply(&answer(id(2), 0, &[(0, 2, 0)]));
        assert_eq!((leaders(&m), m.topic(T).unwrap().id), (vec![(2, 0)], id(2)));
        let ghost = answer(id(1), 0, &[(0, 1, 10)]);
        assert!(!m.apply(&ghost).0);
        assert_eq!(m.topic(T).unwrap().id, id(2));
        // Three in a row are no ghost: the stale broker was the one heard before.
        assert!(!m.apply(&ghost).0);
        m.apply(&answer(id(2), 0, &[(0, 2, 0)]));
        assert!(!m.apply(&ghost).0 && !m.apply(&ghost).0);
        assert!(m.apply(&ghost).0);
        assert_eq!(m.topic(T).unwrap().id, id(1));
    }

    #[test]
    fn partitions_come_but_never_go() {
        let mut m = Metadata::default();
        m.apply(&answer(id(1), 0, &[(2, 1, 0), (0, 1, 0), (1, 1, 0)]));
        m.apply(&answer(id(1), 0, &[(0, 2, 1)]));
        assert_eq!(leaders(&m), [(2, 1), (1, 0), (1, 0)]);
        m.apply(&answer(id(1), 0, &[(0, 2, 1), (1, 1, 0), (2, 1, 0), (3, 1, 0)]));
        assert_eq!(m.topic(T).unwrap().partition(3).unwrap().index, 3);
        assert!(m.topic(T).unwrap().partition(4).is_none() && m.topic(T).unwrap().partition(-1).is_none());
    }

    #[test]
    fn brokers_without_ids_and_epochs_are_believed() {
        let mut m = Metadata::default();
        m.apply(&answer(Uuid::default(), 0, &[(0, 1, -1)]));
        m.apply(&answer(Uuid::default(), 0, &[(0, 2, -1)]));
        assert_eq!(leaders(&m), [(2, -1)]);
    }

    #[test]
    fn a_topic_is_forgotten_when_three_answers_in_a_row_do_not_know_it() {
        let mut m = Metadata::default();
        let gone = answer(Uuid::default(), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0, &[]);
        m.apply(&answer(id(1), 0, &[(0, 1, 0)]));
        m.apply(&gone);
        m.apply(&gone);
        m.apply(&answer(id(1), 0, &[(0, 1, 0)]));
        assert!(!m.apply(&gone).0 && !m.apply(&gone).0 && m.apply(&gone).0);
        assert!(m.topic(T).is_none());
        let (_, codes) = m.apply(&gone);
        assert_eq!(codes.get(T), Some(&ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
    }

    #[test]
    fn a_hint_of_a_newer_leader_is_taken() {
        let mut m = Metadata::default();
        m.apply(&answer(id(1), 0, &[(0, 1, 3)]));
        assert!(!m.learn_leader(T, 0, Leader { node: 2, epoch: 3 }));
        assert!(!m.learn_leader(T, 1, Leader { node: 2, epoch: 4 }));
        assert!(!m.learn_leader(T, 0, Leader { node: -1, epoch: 4 }));
        assert!(m.learn_leader(T, 0, Leader { node: 2, epoch: 4 }));
        m.apply(&answer(id(1), 0, &[(0, 1, 3)]));
        assert_eq!(leaders(&m), [(2, 4)]);
    }

    #[test]
    fn brokers_change_and_an_empty_list_is_no_news() {
        let mut m = Metadata::default();
        let broker = |node_id| MetadataResponseBroker { node_id, host: "h".into(), port: 9, rack: None };
        let with = |nodes: &[i32]| MetadataResponse {
            brokers: nodes.iter().map(|n| broker(*n)).collect(),
            cluster_id: Some("c".into()),
            controller_id: 1,
            ..Default::default()
        };
        assert!(m.apply(&with(&[1, 2])).0);
        assert!(!m.apply(&with(&[2, 1])).0);
        assert!(!m.apply(&with(&[])).0);
        assert!(m.apply(&with(&[2])).0);
        assert_eq!((m.nodes.len(), m.controller), (1, Some(1)));
        m.apply(&answer(id(1), 0, &[(0, 1, 3)]));
        m.apply(&MetadataResponse { cluster_id: Some("other".into()), ..with(&[1]) });
        assert!(m.topic(T).is_none(), "another cluster has other topics");
    }
}
