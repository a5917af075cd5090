//! What happens on the links, at both of their ends.

use std::time::Duration;

use tabmux_core::{
    hub::{AttemptId, Input},
    session,
    session::LinkId,
    wire::close,
};

use crate::{
    oracle::Checked,
    world::{Delivery, World},
};

impl World {
    pub(crate) fn dial(&mut self, browser: usize, attempt: AttemptId) -> Checked {
        if !self.network.held_by(browser).is_empty() {
            return Err(format!("hub {browser} has two links open"));
        }
        self.network.sweep();
        let link = self.network.open(browser, attempt);
        let at = self.now + self.rng.millis(1, 60);
        self.put(at, Delivery::Arrive { link });
        Ok(())
    }

    pub(crate) fn arrive(&mut self, id: u64) -> Checked {
        let entropy = std::array::from_fn(|_| self.rng.next().to_le_bytes()[0]);
        let latency = self.rng.millis(1, 60);
        let Some(link) = self.network.links.get_mut(&id).filter(|link| link.hub_open) else {
            return Ok(());
        };
        let browser = link.browser;
        if self.browsers[browser].offline {
            link.broken = true;
            return Ok(());
        }
        let at = link.down(self.now, latency);
        if self.server.is_none() {
            let attempt = link.attempt;
            let (code, clean) = (close::ABNORMAL, false);
            self.put(at, Delivery::HubHears { browser, attempt, code, clean });
            return Ok(());
        }
        link.server_open = true;
        self.put(at, Delivery::Opened { browser, link: id });
        self.server_input(session::Input::LinkOpened { link: LinkId(id), entropy })
    }

    pub(crate) fn opened(&mut self, browser: usize, id: u64) -> Checked {
        let Some(link) = self.network.links.get(&id).filter(|it| it.hub_open && !it.broken) else {
            return Ok(());
        };
        let attempt = link.attempt;
        self.hub_input(browser, Input::LinkOpened { attempt, protocol: "", extensions: "" })
    }

    pub(crate) fn up(&mut self, id: u64, bytes: &[u8]) -> Checked {
        let Some(link) = self.network.links.get_mut(&id).filter(|link| !link.broken) else {
            return Ok(());
        };
        link.unsent -= bytes.len() as u64;
        if !link.server_open {
            return Ok(());
        }
        self.server_input(session::Input::LinkMessage { link: LinkId(id), bytes })
    }

    pub(crate) fn down(&mut self, browser: usize, id: u64, bytes: &[u8]) -> Checked {
        match self.network.links.get(&id) {
            Some(link) if link.hub_open && !link.broken => self.link_message(browser, id, bytes),
            _ => Ok(()),
        }
    }

    pub(crate) fn send_down(&mut self, id: u64, bytes: Vec<u8>) {
        let latency = self.rng.millis(1, 60);
        if let Some(link) = self.network.links.get_mut(&id) {
            let (at, browser) = (link.down(self.now, latency), link.browser);
            self.put(at, Delivery::Down { browser, link: id, bytes });
        }
    }

    /// The hub closes its link: the server hears of it after all that was sent before.
    pub(crate) fn hub_closes(&mut self, browser: usize, attempt: AttemptId) {
        let latency = self.rng.millis(1, 60);
        let Some(id) = self.network.find(browser, attempt) else {
            return;
        };
        let Some(link) = self.network.links.get_mut(&id) else {
            return;
        };
        link.hub_open = false;
        if link.broken {
            let (at, code, clean) = (self.now + Duration::from_secs(3), close::ABNORMAL, false);
            self.put(at, Delivery::HubHears { browser, attempt, code, clean });
        } else {
            let at = link.up(self.now, latency);
            self.put(at, Delivery::ServerHears { link: id });
            let (at, code, clean) = (at + latency, close::NORMAL, true);
            self.put(at, Delivery::HubHears { browser, attempt, code, clean });
        }
    }

    pub(crate) fn server_closes(&mut self, id: LinkId, code: u16) {
        let latency = self.rng.millis(1, 60);
        if let Some(link) = self.network.links.get_mut(&id.0) {
            link.server_open = false;
            let (browser, attempt) = (link.browser, link.attempt);
            if !link.broken {
                let at = link.down(self.now, latency);
                self.put(at, Delivery::HubHears { browser, attempt, code, clean: true });
            }
        }
    }

    pub(crate) fn server_hears(&mut self, id: u64) -> Checked {
        let open = self.network.links.get_mut(&id).filter(|link| link.server_open);
        let Some(link) = open else {
            return Ok(());
        };
        link.server_open = false;
        self.server_input(session::Input::LinkClosed { link: LinkId(id) })
    }

    /// Breaks a link: each end hears of it at once, late, or not at all.
    pub(crate) fn cut(&mut self, id: u64) {
        let (hub, server) = (self.notice(), self.notice());
        let Some(link) = self.network.links.get_mut(&id).filter(|link| !link.broken) else {
            return;
        };
        link.broken = true;
        let (browser, attempt) = (link.browser, link.attempt);
        if let Some(after) = hub.filter(|_| link.hub_open) {
            let (code, clean) = (close::ABNORMAL, false);
            let hears = Delivery::HubHears { browser, attempt, code, clean };
            self.put(self.now + after, hears);
        }
        if let Some(after) = server {
            self.put(self.now + after, Delivery::ServerHears { link: id });
        }
    }

    fn notice(&mut self) -> Option<Duration> {
        match self.rng.below(3) {
            0 => Some(Duration::ZERO),
            1 => Some(self.rng.millis(0, 20_000)),
            _ => None,
        }
    }
}
