//! A look at a running server, and publishing to its topics, from anywhere.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use tabmux_core::{
    session::Stats,
    wire::{Payload, Position},
};
use tokio::sync::watch;

use crate::{
    PublishError,
    shard::{board::Board, fanout::Fanout},
};

/// A look at a running server, from anywhere. Cheap to clone; it keeps nothing alive.
#[derive(Clone)]
pub struct ServerHandle {
    stats: watch::Receiver<Stats>,
    board: Weak<Board>,
    fanout: Weak<Fanout>,
}

impl ServerHandle {
    pub(crate) fn new(board: &Arc<Board>, fanout: &Arc<Fanout>) -> Self {
        let (stats, board) = (board.watch(), Arc::downgrade(board));
        Self { stats, board, fanout: Arc::downgrade(fanout) }
    }

    /// Publishes a message to every browser that is subscribed to a topic; its position, also
    /// when nobody is. Any name of 1 to 256 bytes is a topic.
    ///
    /// # Errors
    /// [`PublishError::Name`], [`PublishError::TooLarge`]; [`PublishError::Full`] when the
    /// shards are behind; [`PublishError::Closed`] when the server is gone.
    pub fn publish(&self, topic: &str, message: Payload<'_>) -> Result<Position, PublishError> {
        self.fanout.upgrade().ok_or(PublishError::Closed)?.publish(topic, message)
    }

    /// The numbers of this moment.
    pub fn stats(&self) -> Stats {
        *self.stats.borrow()
    }

    /// Tells when links, tabs, parked tabs or sockets change. Changes that come faster than they
    /// are looked at are one change.
    pub fn watch(&self) -> watch::Receiver<Stats> {
        self.stats.clone()
    }

    /// How long the server exists; `None` when it is gone.
    pub fn uptime(&self) -> Option<Duration> {
        self.board.upgrade().map(|board| board.uptime())
    }
}
