//! What happens on the links, at both of their ends.

use std::{num::NonZeroU64, time::Duration};

use tabmux_core::{
    OwnedPayload,
    hub::{AttemptId, Input},
    session,
    session::{Identity, LinkId},
    wire::{HubFrame, HubId, Payload, ServerFrame, close},
};

use crate::{
    invariant::{Checked, Invariant::OneLink},
    network::Hello,
    rng::Rng,
    world::{Delivery, World},
};

impl World {
    pub(crate) fn dial(
        &mut self,
        browser: usize,
        host: u32,
        hub: HubId,
        attempt: AttemptId,
    ) -> Checked {
        OneLink.unless(self.network.held_by(hub).is_empty(), || {
            format!("{hub} of browser {browser} has two links open")
        })?;
        self.network.sweep();
        let link = self.network.open(browser, host, hub, attempt);
        if let Some(run) = self.browsers[browser].run(host) {
            run.link = Some(attempt);
        }
        let at = self.now + self.browsers[browser].link_latency();
        self.put(at, Delivery::Arrive { link });
        Ok(())
    }

    pub(crate) fn arrive(&mut self, id: u64) -> Checked {
        let Some(link) = self.network.links.get_mut(&id).filter(|link| link.hub_open) else {
            return Ok(());
        };
        let (browser, at) = (&mut self.browsers[link.browser], (link.browser, link.host));
        // One user a browser.
        let identity = NonZeroU64::new(link.browser as u64 + 1).map(Identity);
        let entropy = std::array::from_fn(|_| browser.rng.next().to_le_bytes()[0]);
        let latency = browser.link_latency();
        if browser.offline {
            link.broken = true;
            return Ok(());
        }
        let when = link.down(self.now, latency);
        if self.server.is_none() {
            let (name, code, clean) = ((link.hub, link.attempt), close::ABNORMAL, false);
            self.put(when, Delivery::HubHears { at, link: name, code, clean });
            return Ok(());
        }
        link.server_open = true;
        self.put(when, Delivery::Opened { at, link: id });
        self.server_input(session::Input::LinkOpened { link: LinkId(id), entropy, identity })
    }

    pub(crate) fn opened(&mut self, id: u64) -> Checked {
        let Some(link) = self.network.links.get(&id).filter(|it| it.hub_open && !it.broken) else {
            return Ok(());
        };
        let (at, hub, attempt) = ((link.browser, link.host), link.hub, link.attempt);
        self.hub_input(at, hub, Input::LinkOpened { attempt, protocol: "", extensions: "" })
    }

    pub(crate) fn send_up(
        &mut self,
        browser: usize,
        hub: HubId,
        attempt: AttemptId,
        payload: OwnedPayload,
    ) -> Checked {
        let latency = self.browsers[browser].link_latency();
        let Some(id) = self.network.find(hub, attempt) else {
            return Ok(());
        };
        let (Some(link), OwnedPayload::Binary(bytes)) = (self.network.links.get_mut(&id), payload)
        else {
            return Ok(());
        };
        if !link.hub_open {
            return Ok(());
        }
        link.unsent += bytes.len() as u64;
        let at = link.up(self.now, latency);
        if let Ok(HubFrame::Hello(hello)) = HubFrame::decode(&bytes) {
            let claims = hello.resume.map(|resume| (resume.session, resume.term.0));
            link.hello = Some(Hello { claims });
            self.may_say_hello(browser, hub, claims.map(|(session, _)| session))?;
        }
        self.put(at, Delivery::Up { link: id, bytes });
        Ok(())
    }

    pub(crate) fn up(&mut self, id: u64, bytes: &[u8]) -> Checked {
        let Some(link) = self.network.links.get_mut(&id).filter(|link| !link.broken) else {
            return Ok(());
        };
        link.unsent -= bytes.len() as u64;
        if !link.server_open {
            return Ok(());
        }
        if let Some(server) = &mut self.server {
            server.reading = Some(LinkId(id));
        }
        self.server_input(session::Input::LinkMessage { link: LinkId(id), bytes })?;
        if let Some(server) = &mut self.server {
            server.reading = None;
        }
        Ok(())
    }

    pub(crate) fn send_down(&mut self, id: u64, bytes: Vec<u8>) -> Checked {
        if let Some(server) = &self.server {
            server.sent(LinkId(id), &bytes)?;
        }
        if let Some(link) = self.network.links.get_mut(&id) {
            let latency = self.browsers[link.browser].link_latency();
            let (when, at) = (link.down(self.now, latency), (link.browser, link.host));
            self.put(when, Delivery::Down { at, link: id, bytes });
        }
        Ok(())
    }

    pub(crate) fn down(&mut self, id: u64, bytes: &[u8]) -> Checked {
        let Some(link) = self.network.links.get(&id).filter(|it| it.hub_open && !it.broken) else {
            return Ok(());
        };
        let (at, hub, attempt) = ((link.browser, link.host), link.hub, link.attempt);
        if let Ok(ServerFrame::Welcome(welcome)) = ServerFrame::decode(bytes) {
            let browser = &mut self.browsers[at.0];
            let clock = browser.clock(self.now);
            if let Some(run) = browser.run(at.1).filter(|run| run.id == hub) {
                welcome.tabs.iter().for_each(|listed| run.view.listed(listed.tab, clock));
            }
        }
        let payload = Payload::Binary(bytes);
        self.hub_input(at, hub, Input::LinkMessage { attempt, payload })?;
        self.server_input(session::Input::LinkWritten { link: LinkId(id), bytes: bytes.len() })
    }

    /// The hub closes its link: the server hears of it after all that was sent before.
    pub(crate) fn hub_closes(&mut self, browser: usize, hub: HubId, attempt: AttemptId) {
        let latency = self.browsers[browser].link_latency();
        let Some(id) = self.network.find(hub, attempt) else {
            return;
        };
        let Some(link) = self.network.links.get_mut(&id) else {
            return;
        };
        link.hub_open = false;
        let (at, name) = ((link.browser, link.host), (hub, attempt));
        if link.broken {
            let (when, code) = (self.now + Duration::from_secs(3), close::ABNORMAL);
            self.put(when, Delivery::HubHears { at, link: name, code, clean: false });
        } else {
            let when = link.up(self.now, latency);
            self.put(when, Delivery::ServerHears { link: id });
            let (when, code) = (when + latency, close::NORMAL);
            self.put(when, Delivery::HubHears { at, link: name, code, clean: true });
        }
    }

    pub(crate) fn server_closes(&mut self, id: LinkId, code: u16) {
        if let Some(link) = self.network.links.get_mut(&id.0) {
            let latency = self.browsers[link.browser].link_latency();
            link.server_open = false;
            if !link.broken {
                let (when, at) = (link.down(self.now, latency), (link.browser, link.host));
                let name = (link.hub, link.attempt);
                self.put(when, Delivery::HubHears { at, link: name, code, clean: true });
            }
        }
    }

    pub(crate) fn hub_hears(
        &mut self,
        at: (usize, u32),
        (hub, attempt): (HubId, AttemptId),
        code: u16,
        clean: bool,
    ) -> Checked {
        if let Some(id) = self.network.find(hub, attempt)
            && let Some(link) = self.network.links.get_mut(&id)
        {
            link.hub_open = false;
        }
        self.hub_input(at, hub, Input::LinkClosed { attempt, code, reason: "", clean })
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
    pub(crate) fn cut(&mut self, id: u64, rng: &mut Rng) {
        let (hub, server) = (notice(rng), notice(rng));
        let Some(link) = self.network.links.get_mut(&id).filter(|link| !link.broken) else {
            return;
        };
        link.broken = true;
        let at = (link.browser, link.host);
        if let Some(after) = hub.filter(|_| link.hub_open) {
            let (name, code, clean) = ((link.hub, link.attempt), close::ABNORMAL, false);
            self.put(self.now + after, Delivery::HubHears { at, link: name, code, clean });
        }
        if let Some(after) = server {
            self.put(self.now + after, Delivery::ServerHears { link: id });
        }
    }

    /// Breaks a link, and both ends hear of it at once.
    pub(crate) fn flap(&mut self, id: u64) {
        let Some(link) = self.network.links.get_mut(&id).filter(|link| !link.broken) else {
            return;
        };
        link.broken = true;
        let (at, name) = ((link.browser, link.host), (link.hub, link.attempt));
        let (code, clean) = (close::ABNORMAL, false);
        if link.hub_open {
            self.put(self.now, Delivery::HubHears { at, link: name, code, clean });
        }
        self.put(self.now, Delivery::ServerHears { link: id });
    }

    /// The worker that held these links died. What it sent may still arrive, or not.
    pub(crate) fn orphan_links(&mut self, browser: usize, hub: HubId) {
        for id in self.network.held_by(hub) {
            let rng = &mut self.browsers[browser].rng;
            let (arrives, latency, mut dice) =
                (rng.one_in(2), rng.millis(1, 20), Rng::new(rng.next()));
            if !arrives {
                self.cut(id, &mut dice);
            }
            if let Some(link) = self.network.links.get_mut(&id) {
                link.hub_open = false;
                if arrives && !link.broken {
                    let when = link.up(self.now, latency);
                    self.put(when, Delivery::ServerHears { link: id });
                }
            }
        }
    }
}

fn notice(rng: &mut Rng) -> Option<Duration> {
    match rng.below(3) {
        0 => Some(Duration::ZERO),
        1 => Some(rng.millis(0, 20_000)),
        _ => None,
    }
}
