//! From the wish for a link to its dial, and what follows when that comes to nothing.

use tabmux_wire::close as code;

use super::{Link, Mirror};
use crate::{
    Timestamp,
    hub::{
        base::{Base, Close, OFFLINE},
        io::Ask,
    },
};

impl Mirror {
    /// Opens the link, once the hub may. Without a network an outage waits, and views that are
    /// connecting fail, as a `WebSocket` does.
    pub(super) fn dial(&mut self, now: Timestamp, base: &mut Base) {
        if !base.has_lock() {
            self.link = Link::WaitingForLock;
        } else if !base.is_online {
            self.is_offline(now, base);
        } else if base.config.asks {
            self.link = Link::Asking;
            base.ask(now, Ask::Address);
        } else {
            self.open_link(now, base);
        }
    }

    fn is_offline(&mut self, now: Timestamp, base: &mut Base) {
        if self.outage.is_some() {
            self.link = Link::Broken { until: now };
        } else {
            self.not_opened(now, base, OFFLINE);
        }
    }

    /// Called when a tab has said where the link goes. The network may be gone by then.
    pub(super) fn address_is_known(&mut self, now: Timestamp, base: &mut Base) {
        if base.is_online {
            self.open_link(now, base);
        } else {
            self.is_offline(now, base);
        }
    }

    fn open_link(&mut self, now: Timestamp, base: &mut Base) {
        self.link = Link::Dialling { until: now + base.config.dial_timeout };
        base.open_link();
    }

    /// A dial came to nothing: another one follows in an outage, or all views fail.
    pub(super) fn not_opened(&mut self, now: Timestamp, base: &mut Base, error: &str) {
        if !self.retry(now, base) {
            self.fail_views(base, false, Close::new(code::ABNORMAL, "", false), error);
            self.next(now, base);
        }
    }
}
