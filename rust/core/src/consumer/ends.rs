//! Where partitions begin and end.

use std::sync::Arc;
use std::time::Duration;

use super::shared::Shared;
use super::state::Tp;
use crate::cluster::{Isolation, OffsetAt, OffsetQuery, OffsetsError};

/// The ends of one partition.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ends {
    /// Of its oldest record.
    pub(super) earliest: i64,
    /// Where reading ends for now: the high watermark, or the last stable offset where only committed records are read.
    pub(super) latest: i64,
    /// The high watermark. What lies between the two is there all the same: positions up to here are positions in the log.
    pub(super) log_end: i64,
}

/// Asks the leaders, within `timeout` a question; in the order of `tps`.
pub(super) async fn ask(shared: &Shared, tps: &[Tp], timeout: Duration) -> Result<Vec<Ends>, OffsetsError> {
    let query = |tp: &Tp, at| OffsetQuery { topic: Arc::clone(&tp.topic), partition: tp.partition, at };
    let both = tps.iter().flat_map(|tp| [query(tp, OffsetAt::Earliest), query(tp, OffsetAt::Latest)]);
    let found =
        shared.cluster.list_offsets(&both.collect::<Vec<_>>(), Isolation::ReadUncommitted, timeout).await?;
    let mut ends: Vec<Ends> = found
        .chunks_exact(2)
        .map(|ends| Ends { earliest: ends[0].offset, latest: ends[1].offset, log_end: ends[1].offset })
        .collect();
    if shared.conf.isolation == Isolation::ReadCommitted {
        let latest: Vec<_> = tps.iter().map(|tp| query(tp, OffsetAt::Latest)).collect();
        let found = shared.cluster.list_offsets(&latest, Isolation::ReadCommitted, timeout).await?;
        ends.iter_mut().zip(found).for_each(|(ends, found)| ends.latest = found.offset);
    }
    Ok(ends)
}
