//! What a shard's loop serves.

use std::{borrow::Cow, sync::Arc};

use tabmux_core::{
    Timestamp,
    session::{Encoded, Identity, LinkId, Pace},
};

use crate::ws::Kind;

/// The far side of a loop, which knows links and messages but no streams. Called by one thread.
pub(crate) trait Service: Send + 'static {
    /// What other threads can tell it.
    type Word: Send + 'static;

    /// The largest message it takes.
    fn message_limit(&self) -> usize;

    /// How fast a link is read.
    fn pace(&self) -> Pace {
        Pace::default()
    }

    /// A link is open, of this user if that is told; `false` when it cannot be served.
    fn opened(&mut self, now: Timestamp, link: LinkId, identity: Option<Identity>) -> bool;

    /// The shard that a link belongs to by its first message, if that names one.
    fn home(&self, first: &[u8]) -> Option<usize>;

    /// A message came.
    fn message(&mut self, now: Timestamp, link: LinkId, kind: Kind, bytes: &[u8]);

    /// Messages went to the kernel: their bytes, and for shared ones what they are counted with.
    fn written(&mut self, now: Timestamp, link: LinkId, bytes: usize);

    /// The loop holds so many bytes of memory for a link: parts of a message, and what is not yet
    /// written.
    fn holds(&mut self, _now: Timestamp, _link: LinkId, _bytes: usize) {}

    /// A link that the service did not close is closed or broken.
    fn closed(&mut self, now: Timestamp, link: LinkId);

    /// Another thread says something. Whether `order` may wait until the next word was said too.
    fn word(&mut self, now: Timestamp, word: Self::Word) -> bool;

    /// The server is gone: close everything.
    fn stop(&mut self, now: Timestamp);

    /// Does what is due.
    fn wake(&mut self, now: Timestamp);

    /// When to call `wake`.
    fn deadline(&self) -> Option<Timestamp>;

    /// What the loop is to do next, if anything.
    fn order(&mut self, now: Timestamp) -> Option<Order>;

    /// Tells its numbers: what was ordered so far is about to be seen.
    fn publish(&mut self);
}

/// What a loop is to do.
pub(crate) enum Order {
    /// Send a message.
    Send { link: LinkId, kind: Kind, bytes: Arc<[u8]> },
    /// Send finished bytes that many links share.
    Publish { frames: Vec<Arc<Encoded>>, links: Vec<LinkId> },
    /// Close a link after what was sent before. It must not be named again.
    Close { link: LinkId, code: u16, reason: Cow<'static, str> },
}
