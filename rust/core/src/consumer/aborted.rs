//! Which batches of a fetch answer belong to aborted transactions.
//!
//! A broker asked to read committed records sends nothing above the last stable offset, but below it everything that was
//! written, and beside it a list: producer, and the offset where a transaction began that came to be aborted. From there to
//! the producer's next marker its transactional batches are nobody's. The list covers the range of its answer, transactions
//! that began before it included, so each answer is judged by itself. (KIP-98, "Consumer"; the algorithm is that of
//! kafka-clients.)
//!
//! A producer's next control batch ends its entry, be it an abort's or not: a transaction that was aborted has no other
//! marker behind its begin.

use std::collections::HashSet;

use crate::wire::BatchError;
use crate::wire::messages::AbortedTransaction;
use crate::wire::records::Batch;

/// The aborted transactions of one partition in one answer, while its batches are looked at in their order.
pub(super) struct Aborted {
    /// Those that begin further on, the next one last.
    to_come: Vec<AbortedTransaction>,
    /// Producers whose transaction under way was aborted.
    producers: HashSet<i64>,
}

impl Aborted {
    pub(super) fn new(list: Option<Vec<AbortedTransaction>>) -> Self {
        let mut to_come = list.unwrap_or_default();
        to_come.sort_unstable_by_key(|transaction| std::cmp::Reverse(transaction.first_offset));
        Self { to_come, producers: HashSet::new() }
    }

    /// Whether the next batch is of an aborted transaction. Each batch of the answer must come by, in order.
    ///
    /// A marker's checksum is looked at, since what it says is of batches behind it; others are checked when they are read.
    pub(super) fn next(&mut self, batch: &Batch) -> Result<bool, BatchError> {
        if self.to_come.is_empty() && self.producers.is_empty() {
            return Ok(false);
        }
        while let Some(transaction) = self.to_come.pop_if(|t| t.first_offset <= batch.last_offset()) {
            self.producers.insert(transaction.producer_id);
        }
        if !batch.is_control() {
            return Ok(batch.is_transactional() && self.producers.contains(&batch.producer_id()));
        }
        batch.check()?;
        self.producers.remove(&batch.producer_id());
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use kafka_protocol::records as kp;

    use super::*;
    use crate::wire::Batches;

    /// A batch of one record at `offset`, with the flags transactional and control.
    fn batch(offset: i64, producer_id: i64, transactional: bool, control: bool) -> Batch {
        only(bytes(offset, producer_id, transactional, control))
    }

    fn only(bytes: BytesMut) -> Batch {
        Batches::new(bytes.freeze()).next().unwrap().unwrap()
    }

    fn bytes(offset: i64, producer_id: i64, transactional: bool, control: bool) -> BytesMut {
        let record = kp::Record {
            transactional,
            control,
            delete_horizon: false,
            partition_leader_epoch: 0,
            producer_id,
            producer_epoch: 0,
            timestamp_type: kp::TimestampType::Creation,
            offset,
            sequence: 0,
            timestamp: 0,
            key: None,
            value: None,
            headers: Default::default(),
        };
        let options = kp::RecordEncodeOptions { version: 2, compression: kp::Compression::None };
        let mut bytes = BytesMut::new();
        kp::RecordBatchEncoder::encode(&mut bytes, &[record], &options).unwrap();
        bytes
    }

    fn aborted(list: &[(i64, i64)]) -> Aborted {
        let transaction = |&(producer_id, first_offset): &_| AbortedTransaction { producer_id, first_offset };
        Aborted::new(Some(list.iter().map(transaction).collect()))
    }

    /// Judges batches at offsets 0, 1, 2 ...: a producer's record, its record outside of transactions, or its marker.
    fn judge(list: &[(i64, i64)], first: i64, batches: &[(i64, &str)]) -> Vec<bool> {
        let mut aborted = aborted(list);
        let judged = batches.iter().enumerate().map(|(index, (producer, kind))| {
            let batch = batch(first + index as i64, *producer, *kind != "plain", *kind == "marker");
            aborted.next(&batch).unwrap()
        });
        judged.collect()
    }

    #[test]
    fn a_transaction_is_aborted_from_its_begin_to_its_marker() {
        let log = [(7, "record"), (7, "marker"), (7, "record"), (7, "record"), (7, "marker"), (7, "record")];
        assert_eq!(judge(&[(7, 2)], 0, &log), [false, false, true, true, false, false]);
    }

    #[test]
    fn transactions_of_several_producers_are_told_apart() {
        let log = [
            (1, "record"),
            (2, "record"),
            (3, "plain"),
            (1, "record"),
            (2, "marker"),
            (2, "record"),
            (1, "marker"),
        ];
        // The list in no order.
        assert_eq!(judge(&[(1, 3), (2, 1)], 0, &log), [false, true, false, true, false, false, false]);
    }

    #[test]
    fn a_transaction_that_began_before_the_answer_counts() {
        assert_eq!(
            judge(&[(1, 3)], 100, &[(1, "record"), (1, "marker"), (1, "record")]),
            [true, false, false]
        );
    }

    #[test]
    fn a_record_outside_of_a_transaction_is_everybodys() {
        assert_eq!(judge(&[(1, 0)], 0, &[(1, "plain"), (1, "record")]), [false, true]);
    }

    #[test]
    fn without_a_list_nothing_is_aborted() {
        let mut none = Aborted::new(None);
        assert!(!none.next(&batch(0, 1, true, false)).unwrap());
    }

    #[test]
    fn a_marker_with_a_wrong_checksum_is_not_believed() {
        let mut bytes = bytes(1, 1, true, true);
        *bytes.last_mut().unwrap() ^= 1;
        assert!(matches!(aborted(&[(1, 0)]).next(&only(bytes)), Err(BatchError::Corrupt { .. })));
    }
}
