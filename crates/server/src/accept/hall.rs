//! Where connections wait that have not yet said what they are for: in the shards, which answer
//! those that ask for a link. All others come back to the listener.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, mpsc},
    time::Instant,
};

use super::greet::{Caller, First, Link, look};
use crate::{
    admission::Cause,
    app::{App, Step},
    incoming::Fresh,
    shard::{Knock, Porter, Said},
};

/// A connection that a shard gave back, with what was read of it.
pub(super) struct Left {
    pub(super) stream: Fresh,
    pub(super) caller: Caller,
    pub(super) bytes: Vec<u8>,
    pub(super) first: First,
}

/// The connections of all listeners that wait in shards.
pub(super) struct Hall {
    app: Arc<App>,
    /// Those that wait, and those that were given back and not yet taken.
    waiting: AtomicUsize,
    /// For each shard, when its oldest one came.
    oldest: Mutex<Vec<Option<Instant>>>,
    /// A shard has done what [`Hall::evict`] asked for.
    evicted: Notify,
    given_back: mpsc::UnboundedSender<Left>,
}

impl Hall {
    /// Makes a hall. The other end gets what shards give back: at most as many as wait.
    pub(super) fn new(app: Arc<App>) -> (Arc<Self>, mpsc::UnboundedReceiver<Left>) {
        let (given_back, left) = mpsc::unbounded_channel();
        let oldest = Mutex::new(vec![None; app.shards.count()]);
        let (waiting, evicted) = (AtomicUsize::new(0), Notify::new());
        (Arc::new(Self { app, waiting, oldest, evicted, given_back }), left)
    }

    /// Gives a connection to a shard.
    pub(super) fn enter(self: &Arc<Self>, stream: Fresh, caller: Caller) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let porter = Arc::clone(self) as Arc<dyn Porter>;
        self.app.shards.knock(Knock::new(stream, caller, porter));
    }

    /// Returns how many wait.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Notes that one that was given back is taken.
    pub(super) fn taken(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    /// Returns when the oldest one came, and where it waits.
    pub(super) fn oldest(&self) -> Option<(Instant, usize)> {
        let oldest = self.all_oldest();
        let known = oldest.iter().enumerate();
        known.filter_map(|(shard, began)| Some(((*began)?, shard))).min()
    }

    /// Has a shard end its oldest one.
    pub(super) fn evict(self: &Arc<Self>, shard: usize) {
        self.app.shards.evict(shard, Arc::clone(self) as Arc<dyn Porter>);
    }

    /// Waits until a shard has done so.
    pub(super) async fn evicted(&self) {
        self.evicted.notified().await;
    }

    fn all_oldest(&self) -> MutexGuard<'_, Vec<Option<Instant>>> {
        self.oldest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Porter for Hall {
    fn look(&self, caller: Caller, bytes: &[u8], seen: usize) -> Said {
        match look(bytes, seen, caller, &self.app) {
            First::Unknown => Said::Little,
            First::Link(Link { response, inflates, step: Step::Admitted(ticket), len }) => {
                Said::Link { response, ticket, inflates, len }
            }
            first @ (First::Link(_) | First::Other | First::Refused(_)) => Said::Other(first),
        }
    }

    fn take_over(&self, stream: Fresh, caller: Caller, bytes: Vec<u8>, first: First) {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // An error means that the listener is gone, and nobody answers any more.
        let _ = self.given_back.send(Left { stream, caller, bytes, first });
    }

    fn opened(&self, caller: Caller) {
        self.app.admission.opening.observe(caller.began.elapsed());
    }

    fn silent(&self, caller: Caller) {
        self.app.admission.count(Cause::Silent, Some(caller.peer.ip()));
    }

    fn evicted(&self) {
        self.evicted.notify_one();
    }

    fn went(&self) {
        self.waiting.fetch_sub(1, Ordering::Relaxed);
    }

    fn oldest_is(&self, shard: usize, caller: Option<Caller>) {
        self.all_oldest()[shard] = caller.map(|caller| caller.began);
    }

    fn patience(&self) -> Duration {
        Duration::from_millis(self.app.config.handshake_timeout_ms)
    }
}
