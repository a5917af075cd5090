//! Connections that have not yet said what they are for.

use std::sync::Arc;

use crate::{
    accept::{Caller, First},
    admission::Ticket,
    incoming::Fresh,
};

/// Who knows what a connection may be for.
pub(crate) trait Porter: Send + Sync {
    /// Looks at the beginning of a connection, of which `seen` bytes were looked at before.
    fn look(&self, caller: Caller, bytes: &[u8], seen: usize) -> Said;

    /// Takes a connection over that is not for a shard, with what was read of it.
    fn take_over(&self, stream: Fresh, caller: Caller, bytes: Vec<u8>, first: First);

    /// A link was opened.
    fn opened(&self, caller: Caller);

    /// A connection said nothing for too long.
    fn silent(&self, caller: Caller);

    /// A shard has ended its oldest connection, or has none.
    fn evicted(&self);

    /// A connection is nobody's matter any more.
    fn went(&self);

    /// Since when the oldest connection of a shard waits.
    fn oldest_is(&self, shard: usize, caller: Option<Caller>);

    /// When a connection is given up that says nothing.
    fn patience(&self) -> std::time::Duration;
}

/// What a connection said.
pub(crate) enum Said {
    /// Too little to tell.
    Little,
    /// It asks for a link, and may have it.
    Link {
        response: String,
        ticket: Ticket,
        /// Messages may be deflated.
        inflates: bool,
        /// The length of the request's head.
        len: usize,
    },
    /// What it says is for its porter.
    Other(First),
}

/// A connection that was accepted.
pub(crate) struct Knock {
    pub(super) stream: Fresh,
    pub(super) waiting: Waiting,
}

/// What is known of a connection that has not yet said what it is for.
pub(super) struct Waiting {
    pub(super) caller: Caller,
    pub(super) place: Place,
    /// The beginning of a request.
    pub(super) bytes: Vec<u8>,
}

/// The place of a connection among those that wait, given back when it is dropped.
pub(super) struct Place(pub(super) Arc<dyn Porter>);

impl Knock {
    pub(crate) fn new(stream: Fresh, caller: Caller, porter: Arc<dyn Porter>) -> Self {
        Self { stream, waiting: Waiting { caller, place: Place(porter), bytes: Vec::new() } }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.went();
    }
}
