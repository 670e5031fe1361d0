//! What ends a consumer whose brokers are another cluster's by now: they were set up anew behind the same addresses, or a name leads
//! elsewhere. [`Cluster`] lets nothing of another cluster in; the consumer tells its group what it has handled, hands the rest back, and
//! ends, because its positions, its units and its commits are about records that are not there.
//!
//! [`Cluster`]: crate::cluster::Cluster

use std::sync::Arc;
use std::time::Instant;

use super::cache::Extent;
use super::error::{ConsumerError, ReadError};
use super::shared::{Alarm, Shared};
use super::state::{Phase, State};
use crate::cluster::ConnectError;

/// Stops the consumer when another cluster's broker is met.
pub(super) async fn run(shared: Arc<Shared>) {
    let _alarm = Alarm::new(&shared);
    let error = tokio::select! {
        error = shared.cluster.until_another() => error,
        () = shared.until_over() => return,
    };
    shared.with(|state| {
        let error = ReadError::OtherCluster { group: state.group.to_string(), error };
        tracing::error!("{error}");
        state.stop(error, Instant::now());
    });
}

/// What is said of a `connect` that failed because meanwhile another cluster's broker was met.
pub(super) async fn explain(shared: &Shared, error: ConsumerError) -> ConsumerError {
    if !shared.cluster.has_met_another() {
        return error;
    }
    ConnectError::Unusable(vec![shared.cluster.until_another().await]).into()
}

impl<B: Extent> State<B> {
    /// Reading is over for good: readers are told why, and what they have not handled goes back.
    fn stop(&mut self, error: ReadError, now: Instant) {
        if self.phase != Phase::Open {
            return;
        }
        let keys = self.units.keys().copied().collect();
        self.return_units(keys);
        self.fail(error);
        self.begin_close(now);
    }
}
