//! PINGs to the server, and how the hub notices that a link is dead.

use std::{collections::VecDeque, time::Duration};

use crate::{Timestamp, hub::config::HubConfig};

/// A timer that fires this much after its time says that the machine slept.
const LATE: Duration = Duration::from_secs(3);
/// How long a frame may wait for its acknowledgement before the server is asked.
const ASK_AFTER: Duration = Duration::from_secs(3);
/// What a slow line takes in a second.
const BYTES_PER_S: u64 = 8_000;
/// Unanswered PINGs beyond which none is sent before its regular time.
const MANY: usize = 64;
/// How long a server of version 1 may say nothing. It does not announce long frames.
const PATIENCE_OF_VERSION_1: Duration = Duration::from_secs(30);

/// What of a link's bytes is acknowledged, and until when something must come.
///
/// PONG acknowledges all that was handed to the link before its PING.
#[derive(Debug)]
pub(in crate::hub) struct Heartbeat {
    interval: Duration,
    patience: Duration,
    probe_patience: Duration,
    /// Bytes that may be handed over and not acknowledged.
    window: u64,
    /// Whether the hub is to ask nothing, because every tab is parked.
    rests: bool,
    nonce: u64,
    /// When the next regular PING is due.
    ping_at: Timestamp,
    /// When something last came.
    heard: Timestamp,
    /// Bytes that were handed to the link, how many of them are acknowledged, and how many were
    /// handed over before the last PING.
    handed: u64,
    acknowledged: u64,
    asked_to: u64,
    /// The PINGs without an answer: the nonce, and the bytes that were handed over before it.
    pings: VecDeque<(u64, u64)>,
    /// When the first frame was handed over, or the first PING sent, that is not acknowledged.
    waits: Option<Timestamp>,
    /// When the first frame was handed over that no PING asks for.
    unasked: Option<Timestamp>,
    /// When the server was asked for a reason, if nothing came since.
    doubt: Option<Timestamp>,
    /// Bytes of the frame that COMING told of.
    coming: u64,
}

/// What a heartbeat wants done.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::hub) enum Pulse {
    Nothing,
    Ping { nonce: u64 },
    Dead,
}

impl Heartbeat {
    /// Returns the heartbeat of a link of this version that was just welcomed.
    pub(in crate::hub) fn new(
        now: Timestamp,
        interval: Duration,
        version: u32,
        config: &HubConfig,
    ) -> Self {
        let patience = config.pong_timeout;
        Self {
            interval,
            patience: if version > 1 { patience } else { patience.max(PATIENCE_OF_VERSION_1) },
            probe_patience: config.probe_timeout,
            window: config.link_bytes,
            rests: false,
            nonce: 0,
            ping_at: now + interval,
            heard: now,
            handed: 0,
            acknowledged: 0,
            asked_to: 0,
            pings: VecDeque::new(),
            waits: None,
            unasked: None,
            doubt: None,
            coming: 0,
        }
    }

    /// Called when something came from the server: it lives. The next PING is due all the same,
    /// since it is also what tells the server that the hub lives.
    pub(in crate::hub) fn heard(&mut self, now: Timestamp) {
        (self.heard, self.doubt, self.coming) = (now, None, 0);
    }

    /// Called when the server said that a frame of so many bytes comes. A link takes no larger one
    /// than `limit`.
    pub(in crate::hub) fn announced(&mut self, bytes: u64, limit: u64) {
        self.coming = bytes.min(limit);
    }

    /// Called when the server answered a PING. Returns the bytes that are still not acknowledged.
    pub(in crate::hub) fn answered(&mut self, now: Timestamp, nonce: u64) -> u64 {
        while let Some(&(ping, handed)) = self.pings.front()
            && ping <= nonce
        {
            self.acknowledged = handed;
            self.pings.pop_front();
        }
        self.waits = if self.pings.is_empty() { self.unasked } else { Some(now) };
        self.unacknowledged()
    }

    /// Called when a frame is handed to the link. `awaits` is true if the hub wants to know that it
    /// arrived. Asks at once when half a window is on its way, since what waits behind it needs the
    /// answer.
    pub(in crate::hub) fn handed(&mut self, now: Timestamp, bytes: u64, awaits: bool) -> Pulse {
        self.handed += bytes;
        if !awaits || self.rests {
            return Pulse::Nothing;
        }
        self.waits.get_or_insert(now);
        self.unasked.get_or_insert(now);
        if self.handed - self.asked_to > self.window / 2 { self.ping(now) } else { Pulse::Nothing }
    }

    /// Returns true if no more may be handed over before the server has acknowledged some.
    pub(in crate::hub) const fn is_full(&self) -> bool {
        self.unacknowledged() > self.window
    }

    /// Called when every tab is parked: no timer may run.
    pub(in crate::hub) const fn rest(&mut self) {
        self.rests = true;
    }

    /// Asks the server now whether it lives, because there is reason to think that it does not.
    pub(in crate::hub) fn probe(&mut self, now: Timestamp) -> Pulse {
        self.rests = false;
        if self.doubt.is_some() {
            return Pulse::Nothing;
        }
        self.doubt = Some(now);
        // What was to be heard before now may be waiting to be read.
        self.waits = Some(now);
        self.ping(now)
    }

    /// Returns what the heartbeat wants done by now.
    pub(in crate::hub) fn pulse(&mut self, now: Timestamp) -> Pulse {
        let Some(due) = self.due() else { return Pulse::Nothing };
        if due + LATE < now && self.doubt.is_none_or(|asked| asked + LATE < now) {
            // The machine slept: the link may be dead, or its answer may be waiting to be read.
            self.doubt = None;
            return self.probe(now);
        }
        if self.dead_at().is_some_and(|at| at <= now) {
            return Pulse::Dead;
        }
        let asks = self.ask_at().is_some_and(|at| at <= now);
        if asks || self.ping_at <= now { self.ping(now) } else { Pulse::Nothing }
    }

    /// Returns when something is to be done if nothing happens.
    pub(in crate::hub) fn due(&self) -> Option<Timestamp> {
        let due = [Some(self.ping_at), self.ask_at(), self.dead_at()];
        due.into_iter().flatten().min().filter(|_| !self.rests)
    }

    /// Returns when the server is to be asked for what waits, if that is before the next PING.
    fn ask_at(&self) -> Option<Timestamp> {
        self.unasked.filter(|_| self.pings.len() < MANY).map(|at| at + ASK_AFTER)
    }

    /// Returns when the link is dead unless something comes.
    fn dead_at(&self) -> Option<Timestamp> {
        let allowance = Duration::from_secs((self.unacknowledged() + self.coming) / BYTES_PER_S);
        let waits = self.waits.map(|at| at.max(self.heard) + self.patience + allowance);
        let doubt = self.doubt.map(|at| at + self.probe_patience + allowance);
        [waits, doubt].into_iter().flatten().min()
    }

    const fn unacknowledged(&self) -> u64 {
        self.handed - self.acknowledged
    }

    fn ping(&mut self, now: Timestamp) -> Pulse {
        self.nonce += 1;
        if self.pings.len() < MANY {
            self.pings.push_back((self.nonce, self.handed));
        } else if let Some(last) = self.pings.back_mut() {
            *last = (self.nonce, self.handed);
        }
        self.asked_to = self.handed;
        self.waits.get_or_insert(now);
        self.unasked = None;
        self.ping_at = now + self.interval;
        Pulse::Ping { nonce: self.nonce }
    }
}
