//! Brokers: who numbers publications, and brings them to the nodes that want them.
//!
//! A broker knows topics and nodes, and neither shards nor links. What a node gets from its broker
//! goes through a [`Feed`] to the node's fan-out.

mod guarded;
mod memory;

use std::{fmt, pin::Pin, sync::Arc};

use tabmux_core::{
    feed::{Keeping, Recalled},
    wire::{Payload, Position},
};

pub(crate) use self::{
    guarded::{Failure, Guarded, Later, Outcome, Trouble},
    memory::MemoryBroker,
};

/// What a broker will have done.
pub type BrokerFuture<T> = Pin<Box<dyn Future<Output = Result<T, BrokerError>> + Send>>;

/// Numbers publications and brings them to this node. The server calls it from several threads.
///
/// A topic's position is an epoch and an offset. Offsets of one topic grow within an epoch, and may
/// have holes. Each delivery names the position before it, so that whoever holds it against the
/// last one can tell whether something is missing.
///
/// A future may be dropped before it is done. It may be polled in any runtime of tokio.
///
/// No method may block: a shard waits for it. A call that panics fails, and so does a future that
/// is not done within `broker_timeout_ms`. A subscription is then refused, and tried again by the
/// browser some seconds later; a publication is refused with
/// [`PublishError::Broker`](crate::PublishError::Broker).
///
/// The server joins at most `limits.topics` topics at a time, whatever the broker.
pub trait Broker: Send + Sync + 'static {
    /// Called once, before all else. What is published in topics that this node has joined goes to
    /// `feed`, in the order of each topic.
    fn start(&self, feed: Feed);

    /// Joins a topic. Its position when it was joined; every later publication is delivered, also
    /// while the answer is on its way.
    fn join(&self, topic: &Arc<str>) -> BrokerFuture<Position>;

    /// Leaves a topic that was joined, or whose `join` panicked or was too late, so that nobody
    /// knows whether it was. It may be joined again once this has returned. A delivery
    /// that comes afterwards is ignored.
    fn leave(&self, topic: &str);

    /// Publishes a message. The future is done when the broker has the message, and says where it
    /// is in its topic. It does not wait for any browser.
    fn publish(&self, topic: &str, message: Payload<'_>) -> BrokerFuture<Position>;

    /// Returns what came of a topic after a position: the first `bytes` of it, and at least one
    /// publication if there is one. It is called for browsers that were away, for topics that were
    /// joined. `None`, as by default: this broker keeps no history, and such browsers are told that
    /// publications are missing.
    ///
    /// An answer has all that was delivered before the call.
    fn recall(&self, topic: &str, since: Position, bytes: usize) -> Option<BrokerFuture<Recalled>> {
        let _ = (topic, since, bytes);
        None
    }

    /// Returns where a topic is, which need not be joined. `None`, as by default: this broker
    /// cannot tell.
    fn position(&self, topic: &str) -> Option<BrokerFuture<Position>> {
        let _ = topic;
        None
    }

    /// Returns how much history is kept, for `/metrics`. By default nothing.
    fn keeping(&self) -> Keeping {
        Keeping::default()
    }
}

/// Where a broker's deliveries go.
#[derive(Clone)]
pub struct Feed(Arc<dyn Fn(&Delivery<'_>) + Send + Sync>);

/// A publication that a broker brings to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delivery<'a> {
    /// The topic.
    pub topic: &'a str,
    /// Its place in the topic.
    pub position: Position,
    /// The place of the publication before it in the topic.
    pub previous: Position,
    /// The message.
    pub message: Payload<'a>,
}

/// Why a broker did not do what it was asked for. No browser is at fault.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum BrokerError {
    /// There are as many topics as there may be: the operator's limit is too low, or the
    /// application has too many.
    TooManyTopics,
    /// The broker cannot be reached, is at its limits, or failed: the broker is at fault, or the
    /// way to it. Trying again is of use.
    Unavailable(String),
}

impl<'a> Delivery<'a> {
    /// Returns the publication of a message at its place in a topic. `previous` is the place of
    /// the publication before it.
    pub const fn new(
        topic: &'a str,
        position: Position,
        previous: Position,
        message: Payload<'a>,
    ) -> Self {
        Self { topic, position, previous, message }
    }
}

impl Feed {
    pub(crate) fn new(deliver: impl Fn(&Delivery<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(deliver))
    }

    /// Hands a publication to the node's shards. It never waits for them.
    pub fn deliver(&self, delivery: &Delivery<'_>) {
        (self.0)(delivery);
    }
}

impl fmt::Debug for Feed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Feed").finish_non_exhaustive()
    }
}

impl fmt::Display for BrokerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooManyTopics => f.write_str("the server is at its limit of topics"),
            Self::Unavailable(why) => write!(f, "the broker is not there: {why}"),
        }
    }
}

impl std::error::Error for BrokerError {}
