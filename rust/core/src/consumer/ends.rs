//! Where partitions begin and end, as far as their leaders say.

use std::sync::Arc;
use std::time::Duration;

use super::shared::Shared;
use super::state::Tp;
use crate::cluster::{Isolation, ListedOffset, OffsetAt, OffsetQuery, OffsetsError, Patience};

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

/// The answers of leaders that are waited for so long, and for no longer than those of the others are.
pub(super) fn within(timeout: Duration) -> Patience {
    Patience { all: timeout, leaderless: timeout, silent: timeout, is_some_known: false }
}

fn query(tp: &Tp, at: OffsetAt) -> OffsetQuery {
    OffsetQuery { topic: Arc::clone(&tp.topic), partition: tp.partition, at }
}

/// Asks the leaders; in the order of `tps`, each answer or why there is none.
pub(super) async fn ask(
    shared: &Shared,
    tps: &[Tp],
    patience: Patience,
) -> Result<Vec<Result<Ends, OffsetsError>>, OffsetsError> {
    let both = tps.iter().flat_map(|tp| [query(tp, OffsetAt::Earliest), query(tp, OffsetAt::Latest)]);
    let both: Vec<_> = both.collect();
    let found = shared.cluster.list_offsets_each(&both, Isolation::ReadUncommitted, patience).await?;
    let mut ends = Vec::with_capacity(tps.len());
    let mut found = found.into_iter();
    while let (Some(earliest), Some(latest)) = (found.next(), found.next()) {
        ends.push(earliest.and_then(|earliest| {
            let latest = latest?.offset;
            Ok(Ends { earliest: earliest.offset, latest, log_end: latest })
        }));
    }
    if shared.conf.isolation == Isolation::ReadCommitted {
        let open: Vec<usize> = (0..tps.len()).filter(|i| ends[*i].is_ok()).collect();
        let latest: Vec<_> = open.iter().map(|i| query(&tps[*i], OffsetAt::Latest)).collect();
        let found = shared.cluster.list_offsets_each(&latest, Isolation::ReadCommitted, patience).await?;
        for (i, found) in open.into_iter().zip(found) {
            ends[i] = ends[i].clone().and_then(|ends| Ok(Ends { latest: found?.offset, ..ends }));
        }
    }
    Ok(ends)
}

/// The first offset whose record is at least so young, in milliseconds since 1970, for each; -1 when none is.
pub(super) async fn since(
    shared: &Shared,
    tps: &[(Tp, i64)],
    patience: Patience,
) -> Result<Vec<Result<i64, OffsetsError>>, OffsetsError> {
    let queries: Vec<_> = tps.iter().map(|(tp, ms)| query(tp, OffsetAt::Timestamp(*ms))).collect();
    let found = shared.cluster.list_offsets_each(&queries, shared.conf.isolation, patience).await?;
    Ok(found.into_iter().map(|found| found.map(|ListedOffset { offset, .. }| offset)).collect())
}
