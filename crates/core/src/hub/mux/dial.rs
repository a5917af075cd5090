//! From the wish for a link to its dial.

use std::time::Duration;

use super::{Mux, Next};
use crate::{
    Timestamp,
    hub::{
        base::{Base, OFFLINE},
        io::Ask,
        link::Connection,
    },
};

impl Mux {
    /// Opens the link, once the hub may, once there is a network, and once a tab has said where the
    /// link goes if that is asked.
    pub(super) fn dial(&mut self, now: Timestamp, base: &mut Base) {
        if !base.has_lock() {
            self.connection = Connection::WaitingForLock;
        } else if !base.is_online {
            self.fail(now, base, OFFLINE.to_owned(), Next::After(Duration::ZERO));
        } else if base.config.asks {
            self.connection = Connection::Asking;
            base.ask(now, Ask::Address);
        } else {
            self.open_link(now, base);
        }
    }

    /// Called when a tab has said where the link goes, or none could.
    pub(super) fn address_answered(
        &mut self,
        now: Timestamp,
        base: &mut Base,
        answer: Result<(), &str>,
    ) {
        match answer {
            _ if !matches!(self.connection, Connection::Asking) => {}
            Ok(()) => self.open_link(now, base),
            Err(why) => {
                let url = &base.config.url;
                let reason = format!("tabmux: the page could not say where {url} is: {why}");
                self.fail(now, base, reason, Next::Backoff);
            }
        }
    }

    fn open_link(&mut self, now: Timestamp, base: &mut Base) {
        self.connection = Connection::Dialling { until: now + base.config.dial_timeout };
        base.open_link();
    }
}
