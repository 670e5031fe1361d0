//! The task that reads answers, until the connection ends.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::AsyncRead;

use super::Shared;
use crate::net::frames::FrameReader;
use crate::net::gather::Gather;

/// How long a connection without answers keeps buffers for them.
const KEEP_SPARES: Duration = Duration::from_secs(5);

/// Reads, and hands each answer to the call that waits for it.
pub(super) async fn run(
    shared: Arc<Shared>,
    mut reader: FrameReader,
    mut socket: impl AsyncRead + Gather + Unpin,
) {
    let stop = shared.stop.notified();
    tokio::pin!(stop);
    stop.as_mut().enable();
    if shared.state.lock().closed.is_some() {
        return;
    }
    let spares = Arc::clone(reader.spares());
    let reason = loop {
        let next = reader.next(&mut socket, shared.max_frame);
        tokio::pin!(next);
        let read = loop {
            tokio::select! {
                biased;
                () = &mut stop => return,
                read = &mut next => break read,
                () = async { tokio::time::sleep(KEEP_SPARES).await }, if spares.any() => spares.give_up(),
            }
        };
        match read {
            Ok(frame) => {
                if let Err(reason) = shared.answer(frame) {
                    break reason;
                }
            }
            Err(e) => break e.into_reason(shared.max_frame),
        }
    };
    shared.close(reason);
}
