//! Calls of a broker, which may be the application's: one that panics or does not answer in time
//! fails, and holds nobody up.

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tabmux_core::{
    feed::{Keeping, Recalled},
    wire::{Payload, Position},
};
use tokio::time::timeout;

use super::{Broker, BrokerError, BrokerFuture, Feed};
use crate::logs::rarely;

/// A broker, and what it failed at.
pub(crate) struct Guarded {
    broker: Arc<dyn Broker>,
    patience: Duration,
    failures: [AtomicU64; Failure::ALL.len()],
}

/// What a call came to.
pub(crate) type Outcome<T = Position> = Result<T, Trouble>;

/// What a call comes to later.
pub(crate) type Later<T = Position> = std::pin::Pin<Box<dyn Future<Output = Outcome<T>> + Send>>;

/// Why a call came to nothing.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// The broker said so.
    Refused(BrokerError),
    /// The broker panicked or was late. Nobody knows how much of the call it has done.
    Lost(BrokerError),
}

/// How a broker fails.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Failure {
    Refused,
    Overdue,
    Panicked,
}

impl Failure {
    pub(crate) const ALL: [Self; 3] = [Self::Refused, Self::Overdue, Self::Panicked];

    /// Returns its name in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Overdue => "timeout",
            Self::Panicked => "panic",
        }
    }
}

impl Trouble {
    pub(crate) fn into_error(self) -> BrokerError {
        match self {
            Self::Refused(error) | Self::Lost(error) => error,
        }
    }
}

impl Guarded {
    pub(crate) fn new(broker: Arc<dyn Broker>, patience: Duration) -> Self {
        Self { broker, patience, failures: Default::default() }
    }

    /// Tells the broker where deliveries go.
    pub(crate) fn start(&self, feed: Feed) {
        self.broker.start(feed);
    }

    /// Returns how often the broker failed in this way.
    pub(crate) fn failures(&self, failure: Failure) -> u64 {
        self.failures[failure as usize].load(Ordering::Relaxed)
    }

    /// Joins a topic. Returns what that comes to if it is known at once; else the future.
    pub(crate) fn join(self: &Arc<Self>, topic: &Arc<str>) -> Result<Outcome, Later> {
        self.begin(|broker| broker.join(topic))
    }

    /// Publishes a message. Returns what that comes to if it is known at once; else the future.
    pub(crate) fn publish(
        self: &Arc<Self>,
        topic: &str,
        message: Payload<'_>,
    ) -> Result<Outcome, Later> {
        self.begin(|broker| broker.publish(topic, message))
    }

    /// Asks what came of a topic after a position. Returns nothing if the broker keeps no history.
    pub(crate) fn recall(
        self: &Arc<Self>,
        topic: &str,
        since: Position,
        bytes: usize,
    ) -> Option<Result<Outcome<Recalled>, Later<Recalled>>> {
        self.call(|broker| broker.recall(topic, since, bytes))
    }

    /// Asks where a topic is. Returns nothing if the broker cannot tell.
    pub(crate) fn position(self: &Arc<Self>, topic: &str) -> Option<Result<Outcome, Later>> {
        self.call(|broker| broker.position(topic))
    }

    /// Returns how much history the broker keeps.
    pub(crate) fn keeping(&self) -> Keeping {
        catch_unwind(AssertUnwindSafe(|| self.broker.keeping())).unwrap_or_default()
    }

    /// Leaves a topic.
    pub(crate) fn leave(&self, topic: &str) {
        if catch_unwind(AssertUnwindSafe(|| self.broker.leave(topic))).is_err() {
            let _ = self.fails(Failure::Panicked);
        }
    }

    /// Makes a call that every broker offers.
    fn begin<T: Send + 'static>(
        self: &Arc<Self>,
        begin: impl FnOnce(&dyn Broker) -> BrokerFuture<T>,
    ) -> Result<Outcome<T>, Later<T>> {
        match catch_unwind(AssertUnwindSafe(|| begin(&*self.broker))) {
            Ok(future) => self.carry_out(future),
            Err(_) => Ok(Err(self.fails(Failure::Panicked))),
        }
    }

    /// Makes a call that a broker may offer. Returns nothing if it does not.
    fn call<T: Send + 'static>(
        self: &Arc<Self>,
        begin: impl FnOnce(&dyn Broker) -> Option<BrokerFuture<T>>,
    ) -> Option<Result<Outcome<T>, Later<T>>> {
        match catch_unwind(AssertUnwindSafe(|| begin(&*self.broker))) {
            Ok(future) => Some(self.carry_out(future?)),
            Err(_) => Some(Ok(Err(self.fails(Failure::Panicked)))),
        }
    }

    fn carry_out<T: Send + 'static>(
        self: &Arc<Self>,
        mut future: BrokerFuture<T>,
    ) -> Result<Outcome<T>, Later<T>> {
        match self.poll(&mut future, &mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => {
                discard(future);
                Ok(outcome)
            }
            Poll::Pending => {
                let guarded = Arc::clone(self);
                Err(Box::pin(async move {
                    let polls = poll_fn(|context| guarded.poll(&mut future, context));
                    let outcome = timeout(guarded.patience, polls).await;
                    discard(future);
                    outcome.unwrap_or_else(|_| Err(guarded.fails(Failure::Overdue)))
                }))
            }
        }
    }

    fn poll<T>(&self, future: &mut BrokerFuture<T>, context: &mut Context<'_>) -> Poll<Outcome<T>> {
        match catch_unwind(AssertUnwindSafe(|| future.as_mut().poll(context))) {
            Ok(Poll::Pending) => Poll::Pending,
            Ok(Poll::Ready(Ok(outcome))) => Poll::Ready(Ok(outcome)),
            Ok(Poll::Ready(Err(error))) => {
                self.count(Failure::Refused);
                Poll::Ready(Err(Trouble::Refused(error)))
            }
            Err(_) => Poll::Ready(Err(self.fails(Failure::Panicked))),
        }
    }

    /// Counts a failure, and tells the operator now and then.
    fn fails(&self, failure: Failure) -> Trouble {
        self.count(failure);
        let why = match failure {
            Failure::Refused => "it refused".to_owned(),
            Failure::Overdue => format!("it did not answer within {:?}", self.patience),
            Failure::Panicked => "it panicked".to_owned(),
        };
        rarely!(error, "the broker failed: {why}");
        Trouble::Lost(BrokerError::Unavailable(why))
    }

    fn count(&self, failure: Failure) {
        self.failures[failure as usize].fetch_add(1, Ordering::Relaxed);
    }
}

/// Drops a future, which may panic when it is dropped. Its outcome is known, so that is no failure.
fn discard<T>(future: BrokerFuture<T>) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(future)));
}
