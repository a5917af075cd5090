//! Codes that frames and WebSocket closes carry.

/// WebSocket close codes: those of RFC 6455 section 7.4.1 that tabmux uses, and those that tabmux
/// defines in the private range of section 7.4.2.
pub mod close {
    /// The connection has fulfilled its purpose.
    pub const NORMAL: u16 = 1000;
    /// The server is going away.
    pub const GOING_AWAY: u16 = 1001;
    /// A frame could not be decoded, or arrived when it is not allowed.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// A text message arrived where only binary messages are allowed.
    pub const UNSUPPORTED_DATA: u16 = 1003;
    /// The close carried no code. This value is never sent on a WebSocket.
    pub const NO_STATUS: u16 = 1005;
    /// The connection broke without a close. This value is never sent on a WebSocket.
    pub const ABNORMAL: u16 = 1006;
    /// The peer broke a rule of the application, such as the origin check.
    pub const POLICY: u16 = 1008;
    /// A message was larger than the limit.
    pub const TOO_BIG: u16 = 1009;
    /// The server is at a limit. The client may try again later.
    pub const TRY_AGAIN_LATER: u16 = 1013;
    /// The hub received a message that it cannot decode. It is used in place of 1002, which a
    /// browser may not send.
    pub const HUB_PROTOCOL_ERROR: u16 = 4002;
    /// HELLO or WELCOME did not arrive in time.
    pub const HANDSHAKE_TIMEOUT: u16 = 4008;
    /// The peer sent nothing for too long.
    pub const HEARTBEAT_TIMEOUT: u16 = 4009;
}

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $n:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
            /// A code of a later release, never one of the codes above. The other fields of the
            /// frame say enough to act on.
            Other(u8),
        }

        impl $name {
            /// All codes that have a name, for tests and tables.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// Returns the code as the byte that is sent.
            pub const fn byte(self) -> u8 {
                match self {
                    $(Self::$variant => $n,)*
                    Self::Other(byte) => byte,
                }
            }

            pub(crate) const fn from_byte(byte: u8) -> Self {
                match byte {
                    $($n => Self::$variant,)*
                    other => Self::Other(other),
                }
            }
        }
    };
}

codes! {
    /// Reasons why a server refuses a HELLO, or ends a session.
    RefusedReason {
        /// The hub claims a session with a term that is not the current one.
        Stale = 1,
        /// The hub and the server have no version in common.
        Version = 2,
        /// The token, the identity or the origin does not match, or the application refused.
        Denied = 3,
        /// The server is at a limit.
        Limit = 4,
        /// The server is shutting down.
        Draining = 5,
        /// The application ended the session. Since version 2.
        Ended = 6,
        /// The session lives on another node. Since version 2.
        Moved = 7,
    }
}

codes! {
    /// Reasons why a server asks a hub to reconnect.
    GoAwayReason {
        /// The server shuts down.
        Shutdown = 1,
        /// The server moves links elsewhere.
        Rebalance = 2,
    }
}

codes! {
    /// Reasons why a subscription was refused, or ended.
    UnsubscribedReason {
        /// The browser may not subscribe to the topic, or no longer may.
        Denied = 1,
        /// The session has reached its limit of subscriptions.
        Limit = 2,
        /// The server has no topics.
        Unsupported = 3,
        /// The hub fell too far behind. It may subscribe again from its last position.
        Slow = 4,
        /// The topic has ended.
        Closed = 5,
    }
}

codes! {
    /// What an ERROR or REJECTED frame is about.
    ErrorCode {
        /// No handler is mapped to the path of the OPEN.
        NoRoute = 1,
        /// The handler refused the OPEN.
        Rejected = 2,
        /// The session has reached its limit of tabs.
        TabLimit = 3,
        /// The tab has reached its limit of virtual sockets.
        SocketLimit = 4,
        /// A frame named a tab that the session does not know.
        UnknownTab = 5,
        /// This server knows the frame but does not offer what it asks for.
        Unsupported = 6,
        /// The user may not do this. Since version 2.
        Denied = 7,
        /// The server or the caller has reached a limit. Since version 2.
        Limit = 8,
        /// The tab took its question back. Since version 2.
        Cancelled = 9,
        /// The question was not answered in time. Since version 2.
        Timeout = 10,
        /// The handler failed. It is not known whether it had an effect. Since version 2.
        Failed = 11,
    }
}

codes! {
    /// Features that a server offers beyond version 1. WELCOME lists them.
    Feature {
        /// The server answers REQUEST.
        Requests = 1,
        /// The server accepts PUBLISH.
        Publishing = 2,
        /// The server sends and accepts PRESENCE.
        Presence = 3,
        /// The server keeps publications and answers RECOVER.
        History = 4,
        /// The server accepts the tickets of OPEN_TICKET.
        Tickets = 5,
        /// The server accepts CREDENTIALS on an open link.
        Renewal = 6,
    }
}

codes! {
    /// The recipients of a DIRECT message.
    Audience {
        /// Every browser of one user. The message travels in lane 0.
        User = 1,
        /// One browser. The message travels in lane 0.
        Browser = 2,
        /// One tab. The message travels in the tab's lane.
        Tab = 3,
    }
}
