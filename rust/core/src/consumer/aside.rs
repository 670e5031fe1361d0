//! What the group has put aside: said to people by the organiser, listed and released for whoever asks.

use super::client::Consumer;
use super::error::ConsumerError;
use super::event::Event;
use super::shared::Shared;
use super::stats::Counters;
use crate::group::{Event as GroupEvent, Quarantined, Unpark};
use crate::log_rate;

/// Tells what happened in the group: events, counters and log lines.
pub(super) fn tell(shared: &Shared, event: GroupEvent) {
    match event {
        GroupEvent::Parked { unit, from, to } => {
            let (topic, partition) = (unit.topic, unit.partition);
            // There may be a thousand of a partition; each has its event.
            if let Some(more) = log_rate::due(format_args!("parked {} {topic}/{partition}", shared.group())) {
                tracing::warn!(
                    topic = &*topic,
                    partition,
                    "offsets {from} to {} failed too often, or cannot be read, and are quarantined: those behind them go on, and the \
                     longest quarantined is tried again every minute. Consumer.quarantined lists them, Consumer.release(\"{topic}\", \
                     {partition}, {from}) delivers these at once{more}",
                    to - 1
                );
            }
            Counters::add(&shared.counters.units_quarantined, 1);
            shared.events.push(Event::Parked { topic, partition, start: from, end: to });
        }
        GroupEvent::Blocked { topic, partition, parked } => {
            if let Some(more) = log_rate::due(format_args!("blocked {} {topic}/{partition}", shared.group()))
            {
                tracing::error!(
                    topic = &*topic,
                    partition,
                    "{parked} units are quarantined, and the partition takes no new work: it goes on by itself when some of them are \
                     handled, which is tried every minute, or released (Consumer.release){more}"
                );
            }
            Counters::add(&shared.counters.partitions_blocked, 1);
            shared.events.push(Event::Blocked { topic, partition, parked });
        }
        GroupEvent::Sought { topic, partition, from, to } => {
            shared.events.push(Event::Sought { topic, partition, from, to });
        }
        _ => {}
    }
}

impl Consumer {
    /// What is quarantined of this consumer's topics, for the whole group: records that failed too often and batches that cannot be
    /// read, in order of topic, partition and offset. At most 1024 units a partition. What is being tried again is not among
    /// them.
    ///
    /// # Errors
    /// The consumer was closed, or the group is not reached.
    pub async fn quarantined(&self) -> Result<Vec<Quarantined>, ConsumerError> {
        self.open()?;
        let topics = self.shared().with(|state| state.topics());
        Ok(self.shared().coordinator.quarantined(&topics).await?)
    }

    /// Delivers the quarantined unit that holds `offset` again, to any consumer of the group, with all attempts. `false`: no such
    /// unit is quarantined; it may be handled by now, or be tried again at this moment. Safe to repeat.
    ///
    /// # Errors
    /// The consumer was closed, or the group is not reached; then it may have been released all the same.
    pub async fn release(&self, topic: &str, partition: i32, offset: i64) -> Result<bool, ConsumerError> {
        self.open()?;
        if offset < 0 {
            return Ok(false);
        }
        let (topic, retry) = (topic.into(), Unpark::Retry);
        let released = self.shared().coordinator.unpark(&topic, partition, Some(offset), retry).await?;
        Ok(released > 0)
    }
}
