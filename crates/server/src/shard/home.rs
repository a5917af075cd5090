//! What a shard's handlers see of their surroundings.

use std::sync::Arc;

use super::{board::Board, fanout::Fanout, mailbox::Mailbox, post::Word};

/// What a shard's handlers see of their surroundings.
pub(crate) struct Home {
    pub(crate) index: usize,
    pub(crate) mailbox: Arc<Mailbox<Word>>,
    pub(crate) board: Arc<Board>,
    pub(crate) fanout: Arc<Fanout>,
}
