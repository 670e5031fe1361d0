//! What the tasks and the readers of a consumer share, and what keeps it alive.

use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::budget::Budget;
use super::event::Events;
use super::piece::Piece;
use super::state::{Effects, State};
use super::stats::Counters;
use crate::cluster::Cluster;
use crate::config::Config;
use crate::group::Coordinator;

/// Shared by a consumer's handles, readers and tasks.
pub(super) struct Shared {
    pub(super) conf: Config,
    pub(super) cluster: Cluster,
    pub(super) coordinator: Coordinator,
    pub(super) decompress_limit: usize,
    pub(super) budget: Arc<Budget>,
    pub(super) counters: Arc<Counters>,
    pub(super) events: Events,
    /// Kicks of the four tasks. A kick while a task works is kept, so that none is lost.
    pub(super) exchange_kick: Notify,
    pub(super) fetch_kick: Arc<Notify>,
    pub(super) watch_kick: Notify,
    pub(super) look_kick: Notify,
    /// Something waits for its leader that is to be tried.
    pub(super) late_kick: Notify,
    /// Turns true when the group was told everything and the tasks end.
    pub(super) over: watch::Sender<bool>,
    state: Mutex<State<Arc<Piece>>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

impl Shared {
    pub(super) fn new(
        conf: Config,
        cluster: Cluster,
        coordinator: Coordinator,
        counters: Arc<Counters>,
        state: State<Arc<Piece>>,
    ) -> Arc<Self> {
        let fetch_kick = Arc::new(Notify::new());
        Arc::new(Self {
            decompress_limit: conf.decompress_limit,
            budget: Budget::new(conf.prefetch_bytes, Arc::clone(&fetch_kick)),
            conf,
            cluster,
            coordinator,
            counters,
            events: Events::default(),
            exchange_kick: Notify::new(),
            fetch_kick,
            watch_kick: Notify::new(),
            look_kick: Notify::new(),
            late_kick: Notify::new(),
            over: watch::Sender::new(false),
            state: Mutex::new(state),
        })
    }

    /// Does something with the state, then what that asked for: wakes readers, kicks tasks, tells events.
    pub(super) fn with<T>(&self, f: impl FnOnce(&mut State<Arc<Piece>>) -> T) -> T {
        let mut state = self.state.lock();
        let result = f(&mut state);
        let effects = std::mem::take(&mut state.effects);
        drop(state);
        self.run(effects);
        result
    }

    /// The name of the group.
    pub(super) fn group(&self) -> Arc<str> {
        Arc::clone(&self.state.lock().group)
    }

    fn run(&self, effects: Effects) {
        if effects.fetch {
            self.fetch_kick.notify_one();
        }
        if effects.exchange {
            self.exchange_kick.notify_one();
        }
        if effects.watch {
            self.watch_kick.notify_one();
        }
        if effects.look {
            self.look_kick.notify_one();
        }
        effects.events.into_iter().for_each(|event| self.events.push(event));
        effects.wake.into_iter().for_each(std::task::Waker::wake);
    }

    /// Waits until the consumer is over.
    pub(super) async fn until_over(&self) {
        // The sender lives in `self`, so this cannot fail.
        let _ = self.over.subscribe().wait_for(|over| *over).await;
    }

    /// Whether the consumer is over.
    pub(super) fn is_over(&self) -> bool {
        *self.over.borrow()
    }
}

/// Held by a task for as long as it runs. One that ends by a panic, which is a defect of ours, would leave readers waiting for
/// what nobody brings any more: they get an error instead.
pub(super) struct Alarm(Arc<Shared>);

impl Alarm {
    pub(super) fn new(shared: &Arc<Shared>) -> Self {
        Self(Arc::clone(shared))
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.with(|state| state.refused("a defect in kafka-fast stopped it, see the log".into()));
        }
    }
}

/// A user's hold on a consumer: tasks have none, so when the last one is dropped the consumer hands back what it holds
/// and its tasks end.
#[derive(Debug, Clone)]
pub(super) struct Handle(Arc<Guard>);

#[derive(Debug)]
struct Guard {
    shared: Arc<Shared>,
}

impl Handle {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(Arc::new(Guard { shared }))
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.0.shared
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.shared.with(|state| {
            state.begin_close(Instant::now());
            state.hand_back_all();
        });
    }
}
