//! What goes wrong, and when it stops.

use super::*;
use crate::wire::Uuid;
use crate::wire::messages::{
    MetadataResponse, MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic,
};

impl Sim {
    pub(super) fn fault(&mut self) {
        let partition = self.dice.roll(self.plan.partitions as u64) as usize;
        let node = 1 + self.dice.roll(NODES as u64) as i32;
        match self.dice.roll(10) {
            0 | 1 => self.fail_over(partition, node),
            2 => {
                self.fail_over(partition, -1);
                let pause = self.dice.roll(2 * SECOND);
                self.after(pause, Event::Lead(partition));
            }
            3..=5 => self.cut(node, None),
            6 => {
                self.cut(node, None);
                self.down.insert(node);
                let pause = self.dice.roll(4 * SECOND);
                self.after(pause, Event::Up(node));
            }
            7 => {
                self.logs[partition].denied = true;
                let pause = self.dice.roll(300 * MS);
                self.after(pause, Event::Allow(partition));
            }
            8 => self.forget(partition),
            _ => {}
        }
        let pause = self.dice.pick(&[10 * MS, 100 * MS, SECOND]);
        self.after(pause, Event::Fault);
    }

    /// Another leader. With acks=all it may lack what nobody was told of; it never lacks what was acknowledged.
    pub(super) fn fail_over(&mut self, partition: usize, leader: i32) {
        let ends = self.logs[partition].ends();
        let all = self.plan.acks == Acks::All;
        let end = if all { self.dice.pick(&ends) } else { *ends.last().expect("one at least") };
        if end < self.logs[partition].records.len() {
            self.count("truncated");
        }
        self.logs[partition].fail_over(leader, end);
        self.count("failed over");
    }

    /// The leader forgets the producer. With several batches in flight Kafka keeps its state while it is written to, and
    /// what it promises rests on that: there it happens only after a silence.
    fn forget(&mut self, partition: usize) {
        if self.plan.acks == Acks::All {
            let quiet = self.requests.is_empty() && self.is_drained();
            if !quiet || self.now > 3_600 * SECOND {
                return;
            }
            self.advance(self.now + 700 * SECOND);
            let over = std::mem::take(&mut self.events);
            over.into_values().for_each(|event| self.after(0, event));
        }
        self.logs[partition].forget();
        self.count("forgotten");
    }

    /// A broker's view of the topic reaches the client. `stale`: it has not heard of some leaders.
    pub(super) fn refresh(&mut self, stale: bool) {
        let brokers = (1..=NODES).map(|node_id| MetadataResponseBroker {
            node_id,
            host: "broker".into(),
            port: node_id,
            rack: None,
        });
        let brokers = brokers.collect();
        let mut partitions = Vec::new();
        for (index, log) in self.logs.iter().enumerate() {
            let behind = stale && self.dice.one_in(2);
            let (leader_id, leader_epoch) = match behind {
                true => (1 + self.dice.roll(NODES as u64) as i32, log.epoch - 1),
                false => (log.leader, log.epoch),
            };
            partitions.push(MetadataResponsePartition {
                partition_index: index as i32,
                leader_id,
                leader_epoch,
                ..Default::default()
            });
        }
        let topic_id = if self.seed.is_multiple_of(2) { Uuid([7; 16]) } else { Uuid::default() };
        let topic =
            MetadataResponseTopic { name: Some(TOPIC.into()), topic_id, partitions, ..Default::default() };
        let response = MetadataResponse { brokers, topics: vec![topic], ..Default::default() };
        self.shared.cluster.take_in(&response);
    }

    /// Nothing fails any more.
    pub(super) fn heal(&mut self) {
        self.plan.faults = false;
        self.events.retain(|_, event| {
            !matches!(event, Event::Fault | Event::Lead(_) | Event::Up(_) | Event::Cut(_))
        });
        self.down.clear();
        for partition in 0..self.logs.len() {
            self.logs[partition].denied = false;
            if self.logs[partition].leader < 0 {
                self.fail_over(partition, 1);
            }
        }
    }
}
