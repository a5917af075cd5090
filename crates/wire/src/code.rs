//! Codes that frames and WebSocket closes carry.

/// WebSocket close codes: those of RFC 6455 section 7.4.1 that tabmux uses, and its own from the
/// private range of section 7.4.2.
pub mod close {
    /// The purpose was fulfilled.
    pub const NORMAL: u16 = 1000;
    /// The server goes away.
    pub const GOING_AWAY: u16 = 1001;
    /// A frame could not be decoded, or came when it must not.
    pub const PROTOCOL_ERROR: u16 = 1002;
    /// A text message came where only binary ones are allowed.
    pub const UNSUPPORTED_DATA: u16 = 1003;
    /// No code was given. Never on the wire of a WebSocket.
    pub const NO_STATUS: u16 = 1005;
    /// Broken without a close. Never on the wire of a WebSocket.
    pub const ABNORMAL: u16 = 1006;
    /// The peer broke a rule of the application, such as the origin check.
    pub const POLICY: u16 = 1008;
    /// A message was larger than the limit.
    pub const TOO_BIG: u16 = 1009;
    /// The server is at a limit; try again later.
    pub const TRY_AGAIN_LATER: u16 = 1013;
    /// The hub received what it cannot decode. A browser may not send 1002.
    pub const HUB_PROTOCOL_ERROR: u16 = 4002;
    /// No HELLO, or no WELCOME, in time.
    pub const HANDSHAKE_TIMEOUT: u16 = 4008;
    /// Nothing was heard from the peer for too long.
    pub const HEARTBEAT_TIMEOUT: u16 = 4009;
}

macro_rules! codes {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $n:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name {
            $($(#[$vdoc])* $variant,)*
            /// A code of a later release; never one of the above. The frame's other fields say
            /// enough to act on.
            Other(u8),
        }

        impl $name {
            /// Every code that has a name, for tests and tables.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)*];

            /// The code as it travels.
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
    /// Why a server refuses a HELLO.
    RefusedReason {
        /// The hub claims a session with a term that is not the current one.
        Stale = 1,
        /// No version in common.
        Version = 2,
        /// Token, identity or origin do not match.
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
    /// Why a server asks a hub to leave.
    GoAwayReason {
        /// The server shuts down.
        Shutdown = 1,
        /// The server moves links elsewhere.
        Rebalance = 2,
    }
}

codes! {
    /// Why a subscription was refused, or ended.
    UnsubscribedReason {
        /// The browser may not have the topic, or not any longer.
        Denied = 1,
        /// The session has as many subscriptions as it may.
        Limit = 2,
        /// The server has no topics.
        Unsupported = 3,
        /// The hub fell too far behind: subscribe again from the last position.
        Slow = 4,
        /// The topic is no more.
        Closed = 5,
    }
}

codes! {
    /// What an ERROR frame is about.
    ErrorCode {
        /// No handler is mapped to the path of an OPEN.
        NoRoute = 1,
        /// The handler refused the OPEN.
        Rejected = 2,
        /// The session has as many tabs as it may.
        TabLimit = 3,
        /// The tab has as many virtual sockets as it may.
        SocketLimit = 4,
        /// A frame named a tab the session does not know.
        UnknownTab = 5,
        /// The frame is understood but not offered by this server.
        Unsupported = 6,
        /// The user may not do this. Since version 2.
        Denied = 7,
        /// The server is at a limit, or the caller is. Since version 2.
        Limit = 8,
        /// The tab took its question back. Since version 2.
        Cancelled = 9,
        /// Nobody answered in time. Since version 2.
        Timeout = 10,
        /// The handler failed. Whether it had an effect is not known. Since version 2.
        Failed = 11,
    }
}

codes! {
    /// What a server offers beyond the frames of version 1, told in WELCOME.
    Feature {
        /// It answers REQUEST.
        Requests = 1,
        /// It takes PUBLISH.
        Publishing = 2,
        /// It tells PRESENCE.
        Presence = 3,
        /// It keeps publications and answers RECOVER.
        History = 4,
        /// It takes tickets of OPEN_TICKET.
        Tickets = 5,
        /// It takes CREDENTIALS on a link that is open.
        Renewal = 6,
    }
}

codes! {
    /// For whom a message of DIRECT is.
    Audience {
        /// Every browser of one user; in lane 0.
        User = 1,
        /// One browser; in lane 0.
        Browser = 2,
        /// One tab; in its lane.
        Tab = 3,
    }
}
