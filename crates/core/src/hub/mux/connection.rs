//! The link to a tabmux server, from the wish for one to its end.

use std::time::Duration;

use tabmux_wire::{Limits, Welcome};

use crate::{
    Timestamp,
    hub::{config::HubConfig, io::LinkState, io::WakeReason, outbox::Flow},
};

/// A timer that fires this much after its time says that the machine slept.
const LATE: Duration = Duration::from_secs(10);

/// Where the link is. The data of a state lives in the state.
#[derive(Debug)]
pub(super) enum Connection {
    /// Nobody needs it.
    Idle,
    /// Another hub, a dying one perhaps, still owns the link.
    WaitingForLock,
    /// Being opened; given up at `until`.
    Dialling { until: Timestamp },
    /// Open, and HELLO is sent; given up at `until`. `claims`: HELLO claims a session.
    Handshaking { until: Timestamp, claims: bool },
    /// The server said WELCOME.
    Connected(Connected),
    /// The last link failed; the next one is dialled at `until`.
    Backoff { until: Timestamp },
    /// The server refused for good: nothing is dialled before another tab attaches.
    Denied,
}

/// A link that works.
#[derive(Debug)]
pub(super) struct Connected {
    pub(super) since: Timestamp,
    pub(super) limits: Limits,
    /// The server is telling which topics the session has.
    pub(super) is_listing: bool,
    /// The server was told that every tab is parked.
    pub(super) suspended: bool,
    /// The server asked the hub to leave, and to come back after this.
    pub(super) go_away: Option<Duration>,
    /// Every tab is gone; closed at this moment unless one comes.
    pub(super) linger_until: Option<Timestamp>,
    heartbeat: Heartbeat,
}

/// The server must answer a PING, or send anything else, in time.
#[derive(Debug)]
struct Heartbeat {
    interval: Duration,
    patience: Duration,
    probe_patience: Duration,
    nonce: u64,
    state: Beat,
}

#[derive(Debug)]
enum Beat {
    /// The next PING goes out at this moment.
    Quiet { ping_at: Timestamp },
    /// A PING went out. The link is dead at `until`, unless the bytes that leave it have shown life
    /// since `flow`.
    Waiting { until: Timestamp, flow: Flow },
}

/// What a heartbeat wants done.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Pulse {
    Nothing,
    Ping { nonce: u64 },
    Dead,
}

impl Connection {
    pub(super) const fn state(&self) -> LinkState {
        match self {
            Self::Idle => LinkState::Idle,
            Self::WaitingForLock | Self::Dialling { .. } | Self::Handshaking { .. } => {
                LinkState::Connecting
            }
            Self::Connected(_) => LinkState::Connected,
            Self::Backoff { .. } | Self::Denied => LinkState::Backoff,
        }
    }

    /// Returns true if frames may be sent: the server reads them in order, HELLO first.
    pub(super) const fn is_open(&self) -> bool {
        matches!(self, Self::Handshaking { .. } | Self::Connected(_))
    }

    /// Returns true if the server may be asked for topics: not before it has told which of them a
    /// session that goes on has.
    pub(super) const fn may_ask(&self) -> bool {
        match self {
            Self::Handshaking { claims, .. } => !*claims,
            Self::Connected(connected) => !connected.is_listing,
            Self::Idle
            | Self::WaitingForLock
            | Self::Dialling { .. }
            | Self::Backoff { .. }
            | Self::Denied => false,
        }
    }

    pub(super) fn poll_timeout(&self) -> Option<(Timestamp, WakeReason)> {
        match self {
            Self::Idle | Self::Denied | Self::WaitingForLock => None,
            Self::Dialling { until } | Self::Handshaking { until, .. } => {
                Some((*until, WakeReason::Dial))
            }
            Self::Connected(connected) => connected.poll_timeout(),
            Self::Backoff { until } => Some((*until, WakeReason::Backoff)),
        }
    }
}

impl Connected {
    pub(super) fn new(
        now: Timestamp,
        welcome: &Welcome,
        is_listing: bool,
        config: &HubConfig,
    ) -> Self {
        // A server that says 0 would have the hub do nothing else.
        let interval = Duration::from_millis(welcome.heartbeat_ms.max(1000));
        Self {
            since: now,
            limits: welcome.limits,
            is_listing,
            suspended: false,
            go_away: None,
            linger_until: None,
            heartbeat: Heartbeat {
                interval,
                patience: config.pong_timeout,
                probe_patience: config.probe_timeout,
                nonce: 0,
                state: Beat::Quiet { ping_at: now + interval },
            },
        }
    }

    /// Something came from the server: it lives. The next PING is due all the same, since it is
    /// also what tells the server that the hub lives.
    pub(super) fn heard(&mut self, now: Timestamp) {
        if matches!(self.heartbeat.state, Beat::Waiting { .. }) {
            self.heartbeat.state = Beat::Quiet { ping_at: now + self.heartbeat.interval };
        }
    }

    /// Asks the server now whether it lives, because there is reason to think that it does not.
    /// `flow` is that of the link at this moment.
    pub(super) fn probe(&mut self, now: Timestamp, flow: Flow) -> Pulse {
        let until = now + self.heartbeat.probe_patience;
        self.heartbeat.ping(until, flow)
    }

    /// Returns what the heartbeat wants done by now. `flow` is that of the link at this moment.
    pub(super) fn pulse(&mut self, now: Timestamp, flow: Flow) -> Pulse {
        let patience = self.heartbeat.patience;
        match &mut self.heartbeat.state {
            // The machine slept: the link may be dead, or its answer may be waiting to be read.
            Beat::Quiet { ping_at: due } | Beat::Waiting { until: due, .. }
                if *due + LATE < now =>
            {
                self.probe(now, flow)
            }
            Beat::Quiet { ping_at } if *ping_at <= now => self.heartbeat.ping(now + patience, flow),
            // The line is slow, not dead.
            Beat::Waiting { until, flow: before }
                if *until <= now && flow.shows_life_since(*before) =>
            {
                (*until, *before) = (now + patience, flow);
                Pulse::Nothing
            }
            Beat::Waiting { until, .. } if *until <= now => Pulse::Dead,
            Beat::Quiet { .. } | Beat::Waiting { .. } => Pulse::Nothing,
        }
    }

    fn poll_timeout(&self) -> Option<(Timestamp, WakeReason)> {
        let beat = match self.heartbeat.state {
            Beat::Quiet { ping_at } => ping_at,
            Beat::Waiting { until, .. } => until,
        };
        let linger = self.linger_until.map(|until| (until, WakeReason::Linger));
        [Some((beat, WakeReason::Heartbeat)), linger].into_iter().flatten().min()
    }
}

impl Heartbeat {
    fn ping(&mut self, until: Timestamp, flow: Flow) -> Pulse {
        self.nonce += 1;
        self.state = Beat::Waiting { until, flow };
        Pulse::Ping { nonce: self.nonce }
    }
}
