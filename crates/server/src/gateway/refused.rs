//! Why a socket has no upstream.

use std::{
    fmt,
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::BadTarget;

/// Why a socket has no upstream. The page's programmer reads the text, which names no server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The path leads to no route, or is none.
    Target(BadTarget),
    /// A sub-protocol is no token.
    Protocols,
    /// The page's origin may not use the route.
    Origin,
    /// The browser has as many sockets as it may.
    Browser(u32),
    /// The user has as many sockets as it may.
    User(u32),
    /// The route has as many sockets as it may.
    Route(u32),
    /// No upstream took a connection.
    Down,
    /// No upstream opened a WebSocket in time.
    Slow(Duration),
    /// The upstream answered the handshake with this status.
    Status(u16),
    /// The upstream broke the rules of the handshake.
    Garbage(String),
    /// The browser showed no ticket in time.
    Unshown(Duration),
    /// The browser is of another user than the session.
    OtherUser,
    /// The server has as many open files as it may.
    Files,
    /// The server is about to end.
    Draining,
    /// The tab has gone.
    Gone,
}

/// How often sockets got no upstream, by reason.
#[derive(Default)]
pub(super) struct Counts([AtomicU64; Refused::REASONS.len()]);

impl Refused {
    /// All reasons, as metrics name them.
    pub(crate) const REASONS: [&str; 14] = [
        "target",
        "origin",
        "upstream_per_browser",
        "upstream_per_user",
        "route_sockets",
        "down",
        "slow",
        "status",
        "garbage",
        "draining",
        "gone",
        "unshown",
        "other_user",
        "files",
    ];

    /// Returns the place of the reason in [`REASONS`](Self::REASONS).
    const fn index(&self) -> usize {
        match self {
            Self::Target(_) | Self::Protocols => 0,
            Self::Origin => 1,
            Self::Browser(_) => 2,
            Self::User(_) => 3,
            Self::Route(_) => 4,
            Self::Down => 5,
            Self::Slow(_) => 6,
            Self::Status(_) => 7,
            Self::Garbage(_) => 8,
            Self::Draining => 9,
            Self::Gone => 10,
            Self::Unshown(_) => 11,
            Self::OtherUser => 12,
            Self::Files => 13,
        }
    }
}

impl Counts {
    pub(super) fn add(&self, refused: &Refused) {
        self.0[refused.index()].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn all(&self) -> [(&'static str, u64); Refused::REASONS.len()] {
        std::array::from_fn(|at| (Refused::REASONS[at], self.0[at].load(Ordering::Relaxed)))
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Target(bad) => bad.fmt(f),
            Self::Protocols => f.write_str("a sub-protocol of the socket is no token"),
            Self::Origin => f.write_str("the page's origin may not open sockets on this path"),
            Self::Browser(limit) => {
                write!(f, "the browser has {limit} sockets at servers behind this one already")
            }
            Self::User(limit) => {
                write!(f, "the user has {limit} sockets at servers behind this one already")
            }
            Self::Route(limit) => write!(f, "this path has {limit} sockets already"),
            Self::Down => f.write_str("the server behind this path takes no connections"),
            Self::Slow(limit) => {
                let seconds = limit.as_secs_f64();
                write!(f, "the server behind this path did not open a socket in {seconds} s")
            }
            Self::Status(status) => {
                write!(f, "the server behind this path refused the socket with status {status}")
            }
            Self::Garbage(why) => {
                write!(f, "the server behind this path did not open a WebSocket: {why}")
            }
            Self::Unshown(wait) => write!(
                f,
                "the gateway did not see the browser's cookies within {} s: have your proxy \
                 send it the WebSockets of this path that offer tabmux.ticket, or set cookies = \
                 \"link\"",
                wait.as_secs()
            ),
            Self::OtherUser => f.write_str("the browser is of another user than the connection"),
            Self::Files => f.write_str("the server has as many open files as it may"),
            Self::Draining => f.write_str("the server is about to end"),
            Self::Gone => f.write_str("the tab has gone"),
        }
    }
}
