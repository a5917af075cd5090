//! The link to a tabmux server, from the wish for one to its end.

use std::time::Duration;

use tabmux_wire::{Limits, Welcome};

use crate::{
    Timestamp,
    hub::io::{LinkState, WakeReason},
};

/// Where the link is. The data of a state lives in the state.
#[derive(Debug)]
pub(in crate::hub) enum Connection {
    /// Nobody needs it.
    Idle,
    /// Another hub, a dying one perhaps, still owns the link.
    WaitingForLock,
    /// A tab is asked where the link goes.
    Asking,
    /// Being opened; given up at `until`.
    Dialling { until: Timestamp },
    /// Open, and HELLO is sent; given up at `until`. `claims`: HELLO claims a session.
    Handshaking { until: Timestamp, claims: bool },
    /// The server said WELCOME.
    Connected(Connected),
    /// The last link failed; the next one is dialled at `until`.
    Backoff { until: Timestamp },
    /// The server refused for good: nothing is dialled before another tab attaches, or a tab asks
    /// for a new link.
    Denied,
}

/// A link that works.
#[derive(Debug)]
pub(in crate::hub) struct Connected {
    pub(in crate::hub) since: Timestamp,
    pub(in crate::hub) limits: Limits,
    /// The server is telling which topics the session has.
    pub(in crate::hub) is_listing: bool,
    /// The server was told that every tab is parked.
    pub(in crate::hub) suspended: bool,
    /// The server asked the hub to leave, and to come back after this.
    pub(in crate::hub) go_away: Option<Duration>,
    /// Every tab is gone; closed at this moment unless one comes.
    pub(in crate::hub) linger_until: Option<Timestamp>,
}

impl Connection {
    pub(in crate::hub) const fn state(&self) -> LinkState {
        match self {
            Self::Idle => LinkState::Idle,
            Self::WaitingForLock
            | Self::Asking
            | Self::Dialling { .. }
            | Self::Handshaking { .. } => LinkState::Connecting,
            Self::Connected(_) => LinkState::Connected,
            Self::Backoff { .. } => LinkState::Backoff,
            Self::Denied => LinkState::Refused,
        }
    }

    /// Returns true if frames may be sent: the server reads them in order, HELLO first.
    pub(in crate::hub) const fn is_open(&self) -> bool {
        matches!(self, Self::Handshaking { .. } | Self::Connected(_))
    }

    /// Returns true if the server may be asked for topics: not before it has told which of them a
    /// session that goes on has.
    pub(in crate::hub) const fn may_ask(&self) -> bool {
        match self {
            Self::Handshaking { claims, .. } => !*claims,
            Self::Connected(connected) => !connected.is_listing,
            Self::Idle
            | Self::WaitingForLock
            | Self::Asking
            | Self::Dialling { .. }
            | Self::Backoff { .. }
            | Self::Denied => false,
        }
    }

    pub(in crate::hub) fn poll_timeout(&self) -> Option<(Timestamp, WakeReason)> {
        match self {
            Self::Idle | Self::Denied | Self::WaitingForLock | Self::Asking => None,
            Self::Dialling { until } | Self::Handshaking { until, .. } => {
                Some((*until, WakeReason::Dial))
            }
            Self::Connected(connected) => connected.poll_timeout(),
            Self::Backoff { until } => Some((*until, WakeReason::Backoff)),
        }
    }
}

impl Connected {
    pub(in crate::hub) fn new(now: Timestamp, welcome: &Welcome, is_listing: bool) -> Self {
        Self {
            since: now,
            limits: welcome.limits,
            is_listing,
            suspended: false,
            go_away: None,
            linger_until: None,
        }
    }

    fn poll_timeout(&self) -> Option<(Timestamp, WakeReason)> {
        self.linger_until.map(|until| (until, WakeReason::Linger))
    }
}
