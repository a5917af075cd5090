//! What a handler decides about an open.

/// What to do with an open.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// Open the socket.
    Accept {
        /// The sub-protocol chosen, one of those offered; empty for none.
        protocol: String,
    },
    /// Refuse it: the tab sees an error and a close with 1006.
    Reject {
        /// Why; the tab's programmer reads it.
        message: String,
    },
    /// An [`OpenAnswer`](crate::OpenAnswer) decides, which
    /// [`OpenRequest::answer_later`](crate::OpenRequest::answer_later) gave.
    Later,
}

impl Decision {
    /// Accepts without a sub-protocol.
    pub const fn accept() -> Self {
        Self::Accept { protocol: String::new() }
    }

    /// Accepts with a sub-protocol.
    pub fn accept_protocol(protocol: impl Into<String>) -> Self {
        Self::Accept { protocol: protocol.into() }
    }

    /// Refuses.
    pub fn reject(message: impl Into<String>) -> Self {
        Self::Reject { message: message.into() }
    }
}
