//! Asking several for the same: one after the other, not waiting long for the slow.

use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// Starts the first future, and the next one whenever one fails or `stagger` passes without an outcome. The first
/// success wins, the others are dropped. With no success: the errors, in the order they came; none if there was no
/// future, or if one panicked.
///
/// `slow` is told the place of a future that has let `stagger` pass.
///
/// # Cancel safety
/// Dropping it drops all that was started.
pub(super) async fn race<F, T, E>(
    futures: Vec<F>,
    stagger: Duration,
    mut slow: impl FnMut(usize),
) -> Result<T, Vec<E>>
where
    F: Future<Output = Result<T, E>> + Send + 'static,
    T: Send + 'static,
    E: Send + 'static,
{
    let mut running = JoinSet::new();
    let mut errors = Vec::new();
    let mut left = futures.into_iter().enumerate().peekable();
    let mut newest = 0;
    let mut next_at = Instant::now();
    loop {
        if next_at <= Instant::now()
            && let Some((i, future)) = left.next()
        {
            newest = i;
            running.spawn(future);
            next_at = Instant::now() + stagger;
        }
        tokio::select! {
            biased;
            Some(done) = running.join_next() => match done {
                Ok(Ok(value)) => return Ok(value),
                Ok(Err(e)) => {
                    errors.push(e);
                    next_at = Instant::now();
                }
                Err(_) => next_at = Instant::now(),
            },
            () = sleep_until(next_at), if left.peek().is_some() => {
                if !running.is_empty() {
                    slow(newest);
                }
            }
            else => return Err(errors),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::sleep;

    const MS: Duration = Duration::from_millis(1);

    async fn runner(wait_ms: u32, outcome: Result<u32, u32>) -> Result<u32, u32> {
        sleep(wait_ms * MS).await;
        outcome
    }

    async fn timed(runners: Vec<(u32, Result<u32, u32>)>) -> (Result<u32, Vec<u32>>, u128, Vec<usize>) {
        let begin = Instant::now();
        let mut slow = Vec::new();
        let futures = runners.into_iter().map(|(wait, outcome)| runner(wait, outcome)).collect();
        let outcome = race(futures, 250 * MS, |i| slow.push(i)).await;
        (outcome, begin.elapsed().as_millis(), slow)
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_success_wins() {
        assert_eq!(timed(vec![(10, Ok(1)), (0, Ok(2))]).await, (Ok(1), 10, vec![]));
        // One that fails is followed at once, one that dawdles after the stagger - and may still win.
        assert_eq!(timed(vec![(10, Err(1)), (20, Ok(2))]).await, (Ok(2), 30, vec![]));
        assert_eq!(timed(vec![(9999, Ok(1)), (20, Ok(2))]).await, (Ok(2), 270, vec![0]));
        assert_eq!(timed(vec![(300, Ok(1)), (200, Ok(2))]).await, (Ok(1), 300, vec![0]));
    }

    #[tokio::test(start_paused = true)]
    async fn all_errors_come_back() {
        assert_eq!(timed(vec![(600, Err(1)), (10, Err(2)), (5, Err(3))]).await.0, Err(vec![2, 3, 1]));
        assert_eq!(timed(vec![]).await.0, Err(vec![]));
    }
}
