//! The broker of a server that has one node.

use std::{
    future::ready,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
};

use tabmux_core::{
    session::{Placed, TooManyTopics, TopicLog},
    wire::{Payload, Position},
};

use super::{Broker, BrokerError, BrokerFuture, Delivery, Feed};

/// Numbers publications in memory. Its futures are done at once. Nothing outlives it, so each has
/// an epoch of its own.
pub(crate) struct MemoryBroker {
    log: Mutex<TopicLog>,
    feed: OnceLock<Feed>,
}

impl MemoryBroker {
    /// Makes a broker for so many topics that are wanted at a time.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub(crate) fn new(topics: usize) -> std::io::Result<Self> {
        let mut epoch = [0; 4];
        getrandom::fill(&mut epoch)?;
        // Four bytes tell the runs of a server apart and keep publications short.
        let epoch = u64::from(u32::from_be_bytes(epoch)) + 1;
        Ok(Self { log: Mutex::new(TopicLog::new(epoch, topics)), feed: OnceLock::new() })
    }

    fn log(&self) -> MutexGuard<'_, TopicLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Broker for MemoryBroker {
    fn start(&self, feed: Feed) {
        // A second one would not be told anything.
        let _ = self.feed.set(feed);
    }

    fn join(&self, topic: &Arc<str>) -> BrokerFuture<Position> {
        let joined = self.log().join(topic);
        Box::pin(ready(joined.map_err(|TooManyTopics| BrokerError::TooManyTopics)))
    }

    fn leave(&self, topic: &str) {
        self.log().leave(topic);
    }

    fn publish(&self, topic: &str, message: Payload<'_>) -> BrokerFuture<Position> {
        let mut log = self.log();
        let Placed { position, previous, is_wanted } = log.publish(topic);
        if is_wanted && let Some(feed) = self.feed.get() {
            // Under the lock, so that all shards see one order.
            feed.deliver(&Delivery { topic, position, previous, message });
        }
        drop(log);
        Box::pin(ready(Ok(position)))
    }
}
