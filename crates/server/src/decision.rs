//! What a handler decides about an open.

/// What to do with an open.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Decision {
    /// Open the socket.
    #[non_exhaustive]
    Accept {
        /// The sub-protocol chosen, one of those offered; empty for none.
        protocol: String,
    },
    /// Refuse it: the tab sees an error, and then a close. Code and text arrive also when the link
    /// breaks meanwhile. There is no time to try again, since a page's `WebSocket` has no place
    /// for one: a page that opens the socket again does so when it likes. A text or a code of yours
    /// can say when that is of use.
    #[non_exhaustive]
    Reject {
        /// A code for the tab's program, from 3000 to 4999 as in
        /// [close events](https://websockets.spec.whatwg.org/#dom-websocket-close); `None` for
        /// none. Any other code is a fault of the handler: the log has an error, and the tab is
        /// refused without a code.
        code: Option<u16>,
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

    /// Refuses, with no code.
    pub fn reject(message: impl Into<String>) -> Self {
        Self::Reject { code: None, message: message.into() }
    }

    /// Refuses with a code from 3000 to 4999, which the tab's program can act on.
    pub fn reject_with(code: u16, message: impl Into<String>) -> Self {
        Self::Reject { code: Some(code), message: message.into() }
    }
}
