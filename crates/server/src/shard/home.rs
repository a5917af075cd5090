//! What a shard's handlers see of their surroundings.

use std::sync::Arc;

#[cfg(unix)]
use super::streams::Streams;
use super::{board::Board, fanout::Fanout, mailbox::Mailbox, node::Node, post::Word};
use crate::control::Control;

/// Where a shard is.
pub(crate) struct Home {
    pub(crate) index: usize,
    pub(crate) node: Node,
    pub(crate) mailbox: Arc<Mailbox<Word>>,
    pub(crate) board: Arc<Board>,
    pub(crate) fanout: Arc<Fanout>,
    pub(crate) control: Arc<Control>,
    /// Streams that handlers have watched.
    #[cfg(unix)]
    pub(crate) streams: Arc<Streams>,
}
