//! From the wish for a link to its first frames.

use std::time::Duration;

use tabmux_wire::{Hello, HubFrame, NEWEST_VERSION, OLDEST_VERSION, Resume};

use super::{Mux, Next, Session};
use crate::{
    Timestamp,
    hub::{
        base::{Base, OFFLINE},
        io::Ask,
        link::Connection,
        text::text,
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
        answer: Result<bool, &str>,
    ) {
        match answer {
            Ok(true) if matches!(self.connection, Connection::Denied) => {
                if base.is_online && base.has_lock() {
                    self.open_link(now, base);
                } else {
                    self.dial(now, base);
                }
            }
            _ if !matches!(self.connection, Connection::Asking) => {}
            Ok(_) if base.is_online => self.open_link(now, base),
            Ok(_) => self.fail(now, base, OFFLINE.to_owned(), Next::After(Duration::ZERO)),
            Err(why) => {
                let url = &base.config.url;
                let reason = text!("tabmux: the page could not say where ", url, " is: ", why);
                self.fail(now, base, reason, Next::Backoff);
            }
        }
    }

    /// The first frames of a link that is open.
    pub(super) fn say_hello(&mut self, now: Timestamp, base: &mut Base) {
        let resume = self.session.as_ref().map(|it| {
            let Session { id, token, term, count0, .. } = *it;
            Resume { session: id, token, term, have0: count0 }
        });
        let (until, claims) = (now + base.config.handshake_timeout, resume.is_some());
        self.connection = Connection::Handshaking { until, claims };
        let hello = Hello {
            min_version: OLDEST_VERSION,
            max_version: NEWEST_VERSION,
            hub: base.config.hub,
            resume,
            credentials: "",
        };
        base.show_credentials(HubFrame::Hello(hello).to_bytes());
        // A parked tab attaches when it is back.
        for tab in base.tabs.present() {
            self.send_attach(base, tab);
        }
        if self.connection.may_ask() {
            self.topics.link_opened(base);
        }
    }

    fn open_link(&mut self, now: Timestamp, base: &mut Base) {
        self.is_hearsay = false;
        self.connection = Connection::Dialling { until: now + base.config.dial_timeout };
        base.open_link();
    }

    /// Returns the text for an end that behaves as no tabmux server does.
    pub(super) fn not_tabmux(base: &Base, what: &str) -> String {
        let url = &base.config.url;
        text!(
            "tabmux: ",
            url,
            " is no tabmux server: it ",
            what,
            ". mode 'mux' needs a tabmux server; mode 'mirror' works with any WebSocket server",
        )
    }
}
