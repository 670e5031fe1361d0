//! What is done when Redis has lost the group.

use std::sync::Arc;

use super::error::ConsumerError;
use super::shared::Shared;
use super::start;
use super::state::Phase;

/// The store lost the group, and it was made anew: partitions start where Kafka's commits say. `known` is the life that was
/// seen last.
pub(super) async fn after_loss(shared: &Arc<Shared>, known: &mut u64) -> Result<(), ConsumerError> {
    let lives = shared.coordinator.lives();
    if lives == *known {
        return Ok(());
    }
    if shared.with(|state| state.phase != Phase::Open) {
        // It wants nothing more; what it says of its units is answered "gone".
        *known = lives;
        return Ok(());
    }
    let topics = shared.with(|state| {
        let topics = state.topics();
        topics.iter().for_each(|topic| state.forget_topic(topic));
        topics
    });
    start::again(shared, &topics).await?;
    *known = lives;
    Ok(())
}
