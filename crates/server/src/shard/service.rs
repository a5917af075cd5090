//! What a shard's loop serves.

use std::{borrow::Cow, net::IpAddr, sync::Arc};

use mio::{Token, event::Event};
use tabmux_core::{
    Timestamp,
    session::{Encoded, LinkId, Pace, Visitor},
};

use crate::{Handshake, ws::Kind};

/// The far side of a loop, which knows links and messages but no streams. Called by one thread.
pub(crate) trait Service: Send + 'static {
    /// What other threads can tell it.
    type Word: Send + 'static;

    /// The largest message it takes.
    fn message_limit(&self) -> usize;

    /// The largest first message of a link that it takes.
    fn first_message_limit(&self) -> usize {
        self.message_limit()
    }

    /// How fast a link is read.
    fn pace(&self) -> Pace {
        Pace::default()
    }

    /// Called when a link is open, with what is known of who opened it, and its request if that may
    /// be judged again. Returns false if it cannot be served.
    fn opened(
        &mut self,
        now: Timestamp,
        link: LinkId,
        visitor: Option<&Arc<Visitor>>,
        handshake: Option<Box<Handshake>>,
    ) -> bool;

    /// Called before a link goes to another loop. Returns its request.
    fn leaves(&mut self, _link: LinkId) -> Option<Box<Handshake>> {
        None
    }

    /// Returns true if nothing is to be read of a link after its first message, until
    /// [`Order::Seat`] or [`Order::Close`].
    fn is_pending(&self, _link: LinkId) -> bool {
        false
    }

    /// The shard that a link belongs to by its first message, if that names one.
    fn home(&self, first: &[u8]) -> Option<usize>;

    /// A message came.
    fn message(&mut self, now: Timestamp, link: LinkId, kind: Kind, bytes: &[u8]);

    /// Messages went to the kernel: their bytes, and for shared ones what they are counted with.
    fn written(&mut self, now: Timestamp, link: LinkId, bytes: usize);

    /// A part of a message came on a link.
    fn heard(&mut self, _now: Timestamp, _link: LinkId) {}

    /// The loop holds so many bytes of memory for a link: parts of a message, and what is not yet
    /// written.
    fn holds(&mut self, _now: Timestamp, _link: LinkId, _bytes: usize) {}

    /// A link that the service did not close is closed or broken.
    fn closed(&mut self, now: Timestamp, link: LinkId);

    /// Handles a message from another thread. Returns true if draining `order` may be delayed until
    /// after the next message.
    fn word(&mut self, now: Timestamp, word: Self::Word, clients: &dyn Clients) -> bool;

    /// Called when something happened to a stream that the service has watched beside the links.
    fn stream_ready(&mut self, _at: Moment<'_>, _token: Token, _ready: Ready) {}

    /// The server is gone: close everything.
    fn stop(&mut self, now: Timestamp);

    /// Does what is due.
    fn wake(&mut self, now: Timestamp);

    /// When to call `wake`.
    fn deadline(&self) -> Option<Timestamp>;

    /// Goes on with what is to be done, up to the next order for the loop. Returns `None` when
    /// nothing is left to do.
    fn order(&mut self, now: Timestamp, clients: &dyn Clients) -> Option<Order>;

    /// Tells its numbers: what was ordered so far is about to be seen.
    fn publish(&mut self);
}

/// What a loop knows of the clients of its links. A service that remembered it would need memory
/// for each link.
pub(crate) trait Clients {
    /// Returns the address of a link's client, if it is known.
    fn address(&self, link: LinkId) -> Option<IpAddr>;
}

/// When a handler is called, and what it can ask of the loop.
#[derive(Clone, Copy)]
pub(crate) struct Moment<'a> {
    pub(crate) now: Timestamp,
    pub(crate) clients: &'a dyn Clients,
}

/// What a loop is to do.
pub(crate) enum Order {
    /// Send a message.
    Send { link: LinkId, kind: Kind, bytes: Arc<[u8]> },
    /// Send finished bytes that many links share.
    Publish { frames: Vec<Arc<Encoded>>, links: Vec<LinkId> },
    /// Note whose a link is. One that was pending is read again, and its place belongs to that user
    /// from now on.
    Seat { link: LinkId, visitor: Arc<Visitor>, was_pending: bool },
    /// Close a link after what was sent before. It must not be named again.
    Close { link: LinkId, code: u16, reason: Cow<'static, str> },
}

/// What happened to the stream of a handler.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ready {
    /// There may be something to read.
    pub(crate) to_read: bool,
    /// The other end will write no more, or the stream is broken. No later event tells of it.
    pub(crate) is_ending: bool,
    /// The server closes the streams of all handlers.
    pub(crate) is_stopped: bool,
}

impl Ready {
    /// Returns what an event tells of a stream.
    pub(super) fn of(event: &Event) -> Self {
        let is_ending = event.is_read_closed() || event.is_error();
        Self { to_read: event.is_readable() || is_ending, is_ending, is_stopped: false }
    }
}
