//! The one tokio runtime of the process. Java's `Service` starts it with the first client and ends it after the last.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kafka_fast::error::ErrorKind;
use parking_lot::Mutex;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::env::Failure;

/// Threads that run tasks. One is enough for what is left when copying, compressing and waiting are elsewhere, and wakes less
/// often than two. So no task may keep it: what takes long yields, or is for a blocking thread.
const WORKERS: usize = 1;
/// Threads for blocking calls: large batches to compress, of which a producer has no more at once than there are cores, and
/// name resolution.
const MAX_BLOCKING: usize = 8;
/// How long an idle blocking thread lives, and how long the end of the runtime waits for the others.
const THREAD_GRACE: Duration = Duration::from_secs(1);

static RUNTIME: Mutex<Option<Runtime>> = Mutex::new(None);

/// Starts the runtime unless it runs.
pub(crate) fn start() -> Result<(), Failure> {
    let mut runtime = RUNTIME.lock();
    if runtime.is_none() {
        let number = AtomicUsize::new(0);
        let built = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .max_blocking_threads(MAX_BLOCKING)
            .thread_keep_alive(THREAD_GRACE)
            .thread_name_fn(move || format!("kafkafast-{}", number.fetch_add(1, Ordering::Relaxed)))
            .enable_all()
            .build();
        let built = built.map_err(|e| {
            Failure::new(ErrorKind::Internal, format!("Cannot start kafka-fast's threads: {e}"))
        })?;
        *runtime = Some(built);
    }
    Ok(())
}

/// Ends the runtime: its tasks are dropped, its threads are waited for, at most a second.
pub(crate) fn stop() {
    let runtime = RUNTIME.lock().take();
    if let Some(runtime) = runtime {
        runtime.shutdown_timeout(THREAD_GRACE);
    }
}

/// The running runtime.
pub(crate) fn handle() -> Result<Handle, Failure> {
    let runtime = RUNTIME.lock();
    let missing = || Failure::new(ErrorKind::Closed, "kafka-fast has no open client in this process");
    runtime.as_ref().map(|r| r.handle().clone()).ok_or_else(missing)
}
