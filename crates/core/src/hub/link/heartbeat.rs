//! PINGs to the server, and how the hub notices that a link is dead.

use std::time::Duration;

use super::Flow;
use crate::{Timestamp, hub::config::HubConfig};

/// A timer that fires this much after its time says that the machine slept.
const LATE: Duration = Duration::from_secs(10);

/// The server must answer a PING, or send anything else, in time.
#[derive(Debug)]
pub(in crate::hub) struct Heartbeat {
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
pub(in crate::hub) enum Pulse {
    Nothing,
    Ping { nonce: u64 },
    Dead,
}

impl Heartbeat {
    pub(super) fn new(now: Timestamp, interval: Duration, config: &HubConfig) -> Self {
        Self {
            interval,
            patience: config.pong_timeout,
            probe_patience: config.probe_timeout,
            nonce: 0,
            state: Beat::Quiet { ping_at: now + interval },
        }
    }

    /// Something came from the server: it lives. The next PING is due all the same, since it is
    /// also what tells the server that the hub lives.
    pub(in crate::hub) fn heard(&mut self, now: Timestamp) {
        if matches!(self.state, Beat::Waiting { .. }) {
            self.state = Beat::Quiet { ping_at: now + self.interval };
        }
    }

    /// Asks the server now whether it lives, because there is reason to think that it does not.
    /// `flow` is that of the link at this moment.
    pub(in crate::hub) fn probe(&mut self, now: Timestamp, flow: Flow) -> Pulse {
        let until = now + self.probe_patience;
        self.ping(until, flow)
    }

    /// Returns what the heartbeat wants done by now. `flow` is that of the link at this moment.
    pub(in crate::hub) fn pulse(&mut self, now: Timestamp, flow: Flow) -> Pulse {
        let patience = self.patience;
        match &mut self.state {
            // The machine slept: the link may be dead, or its answer may be waiting to be read.
            Beat::Quiet { ping_at: due } | Beat::Waiting { until: due, .. }
                if *due + LATE < now =>
            {
                self.probe(now, flow)
            }
            Beat::Quiet { ping_at } if *ping_at <= now => self.ping(now + patience, flow),
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

    /// Returns when the next PING is due, or the answer to the last one.
    pub(super) const fn due(&self) -> Timestamp {
        match self.state {
            Beat::Quiet { ping_at } => ping_at,
            Beat::Waiting { until, .. } => until,
        }
    }

    fn ping(&mut self, until: Timestamp, flow: Flow) -> Pulse {
        self.nonce += 1;
        self.state = Beat::Waiting { until, flow };
        Pulse::Ping { nonce: self.nonce }
    }
}
