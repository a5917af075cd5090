//! Whether the line works: the heartbeat of the link, and what is known of the network.

use tabmux_wire::{HubFrame, TabId, close as code};

use super::{Mux, Next, Renewal};
use crate::{
    Timestamp,
    hub::{
        base::Base,
        io::WakeReason,
        link::{Connected, Connection, Heartbeat, Pulse},
    },
};

/// Why a page has no link after a `logout()`.
pub(super) const LOGGED_OUT: &str = "tabmux: logged out";

impl Mux {
    /// Called when the network came or went, and when there is a reason to look.
    pub(super) fn line_changed(&mut self, now: Timestamp, base: &mut Base, online: bool) {
        base.is_online = online;
        if !online {
            return;
        }
        match &mut self.connection {
            Connection::Backoff { until } => {
                // All browsers of a network come back with it: spread them.
                let soon = now + base.rng.below(base.config.backoff_first);
                *until = (*until).min(soon);
            }
            // All tabs that are left are parked: the first that is back makes the hub ask.
            Connection::Connected(Connected { suspended: true, .. }) => {}
            Connection::Connected(_) => base.probe(now),
            // Somebody may have logged in meanwhile.
            Connection::Denied if self.renewal.is_planned() => self.renew_now(now, base),
            Connection::Idle
            | Connection::Denied
            | Connection::WaitingForLock
            | Connection::Asking
            | Connection::Dialling { .. }
            | Connection::Handshaking { .. } => {}
        }
    }

    /// Called when a tab asks for a new link.
    pub(super) fn reconnect_for(&mut self, now: Timestamp, base: &mut Base, tab: TabId) {
        // The link works, and it is this tab that the application ended.
        if self.is_dismissed(tab) {
            return self.readmit(base, tab);
        }
        match &self.connection {
            Connection::Connected(_) => {
                base.close_link(now, code::NORMAL, "");
                self.dial_again(now, base);
            }
            Connection::Denied | Connection::Backoff { .. } => self.dial(now, base),
            // There is no link to ask for, or it is on its way.
            Connection::Idle
            | Connection::WaitingForLock
            | Connection::Asking
            | Connection::Dialling { .. }
            | Connection::Handshaking { .. } => {}
        }
    }

    /// Called when a page ends the session for all tabs. Without a link the server hears nothing of
    /// it, and keeps the session for as long as it keeps any.
    pub(super) fn log_out(&mut self, now: Timestamp, base: &mut Base) {
        if matches!(self.connection, Connection::Connected(_)) {
            base.send_control(HubFrame::End.to_bytes());
        }
        base.close_link(now, code::NORMAL, "");
        self.lose_session(base, LOGGED_OUT);
        self.others.clear();
        base.release_lock();
        self.fail(now, base, LOGGED_OUT.to_owned(), Next::Never);
        // Only a page decides when there is a link again.
        self.renewal = Renewal::default();
    }

    /// Called when the first tab of this hub was told by the hub before that the server refused it
    /// for good, or that a page logged out. The refusal holds until a page is loaded, or asks.
    pub(super) fn stay_refused(&mut self, now: Timestamp, base: &mut Base, reason: &str) {
        self.fail(now, base, reason.to_owned(), Next::Never);
        self.is_hearsay = true;
        if reason == LOGGED_OUT {
            self.renewal = Renewal::default();
        }
    }

    /// Called when the server said that a frame of so many bytes comes.
    pub(super) fn announced(&self, base: &mut Base, bytes: u64) {
        if let (Some(heartbeat), Connection::Connected(connected)) =
            (&mut base.heartbeat, &self.connection)
        {
            heartbeat.announced(bytes, connected.limits.message_bytes);
        }
    }

    /// Does what the heartbeat wants done.
    pub(super) fn beat(&mut self, now: Timestamp, base: &mut Base) {
        match base.heartbeat.as_mut().map(|beat| beat.pulse(now)) {
            None | Some(Pulse::Nothing) => {}
            Some(Pulse::Ping { nonce }) => base.send_ping(nonce),
            Some(Pulse::Dead) => {
                let why = "tabmux: the server fell silent".to_owned();
                self.abandon(now, base, code::HEARTBEAT_TIMEOUT, why);
            }
        }
    }

    /// Returns when something is due of the link.
    pub(super) fn line_timeout(&self, base: &Base) -> Option<(Timestamp, WakeReason)> {
        let heartbeat = base.heartbeat.as_ref().and_then(Heartbeat::due);
        let link = self.connection.poll_timeout().filter(|(_, why)| {
            // Without a network the next dial waits for word of one.
            base.is_online || *why != WakeReason::Backoff
        });
        [link, heartbeat.map(|at| (at, WakeReason::Heartbeat))].into_iter().flatten().min()
    }
}
