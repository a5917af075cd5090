//! The broker of a server that has one node.

use std::{
    future::ready,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Instant,
};

use tabmux_core::{
    Timestamp,
    feed::{Keep, Keeping, Placed, Recalled, TooManyTopics, TopicLog},
    wire::{Payload, Position},
};

use super::{Broker, BrokerError, BrokerFuture, Delivery, Feed};

/// Tells how much is kept of a topic.
pub(crate) type Policy = Box<dyn Fn(&str) -> Keep + Send + Sync>;

/// Numbers publications in memory, and keeps the last ones there. Its futures are done at once.
/// Nothing outlives it, so each has an epoch of its own.
pub(crate) struct MemoryBroker {
    log: Mutex<TopicLog>,
    feed: OnceLock<Feed>,
    policy: Policy,
    began: Instant,
}

impl MemoryBroker {
    /// Makes a broker for so many topics that are wanted at a time. What it keeps takes
    /// `history_bytes` at most.
    ///
    /// # Errors
    /// When the system has no random bytes.
    pub(crate) fn new(
        topics: usize,
        history_bytes: usize,
        policy: Policy,
    ) -> std::io::Result<Self> {
        let mut epoch = [0; 4];
        getrandom::fill(&mut epoch)?;
        // Four bytes tell the runs of a server apart and keep publications short.
        let epoch = u64::from(u32::from_be_bytes(epoch)) + 1;
        let log = Mutex::new(TopicLog::new(epoch, topics, history_bytes));
        Ok(Self { log, feed: OnceLock::new(), policy, began: Instant::now() })
    }

    fn log(&self) -> MutexGuard<'_, TopicLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Timestamp {
        Timestamp::default() + self.began.elapsed()
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
        let keep = (self.policy)(topic);
        let mut log = self.log();
        let now = self.now();
        let Placed { position, previous, is_wanted } = log.publish(now, topic, keep, message);
        if is_wanted && let Some(feed) = self.feed.get() {
            // Under the lock, so that all shards see one order.
            feed.deliver(&Delivery { topic, position, previous, message });
        }
        drop(log);
        Box::pin(ready(Ok(position)))
    }

    fn recall(&self, topic: &str, since: Position, bytes: usize) -> Option<BrokerFuture<Recalled>> {
        let mut log = self.log();
        let recalled = log.recall(self.now(), topic, since, bytes);
        drop(log);
        Some(Box::pin(ready(Ok(recalled))))
    }

    fn position(&self, topic: &str) -> Option<BrokerFuture<Position>> {
        Some(Box::pin(ready(Ok(self.log().position(topic)))))
    }

    fn keeping(&self) -> Keeping {
        self.log().keeping()
    }
}
