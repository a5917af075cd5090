//! Pages in their browser: their ports, locks and timers, and how they begin, park and die.

use std::time::Duration;

use tabmux_core::{
    Timestamp,
    hub::HubMessage,
    wire::{HubId, TabId},
};

use crate::{
    hosts::RESTART,
    invariant::Checked,
    locks::{Agent, Grant, LockName},
    page::{Act, Life, Page, PageMessage, Phase},
    plan::Tiers,
    sessions::left,
    world::{Delivery, HUB_FORGETS, SERVER_FORGETS, World},
};

/// How long a hub may take to answer Attach.
const ATTACH_TIMEOUT: Duration = Duration::from_secs(6);

impl World {
    /// A page is loaded.
    pub(crate) fn open_tab(&mut self, at: usize, mut page: Page) {
        let id = page.id;
        page.born = self.now;
        self.browsers[at].tabs.insert(id, page);
        self.take_lock(at, id);
        self.page_looks(at, id);
    }

    /// It asks for the lock that it holds while it lives.
    fn take_lock(&mut self, at: usize, tab: TabId) {
        let browser = &mut self.browsers[at];
        if browser.traits.locks {
            let request = browser.locks.request(LockName::Tab(tab), Agent::Tab(tab), false);
            if let Some(page) = browser.tabs.get_mut(&tab) {
                page.lock = Some((request, false));
            }
            self.pump_locks(at);
        }
    }

    /// It looks for its hub, and attaches as soon as it has its lock.
    fn page_looks(&mut self, at: usize, tab: TabId) {
        let browser = &mut self.browsers[at];
        let Some(place) = browser.tabs.get(&tab).map(|page| page.place) else { return };
        let port = browser.connect(tab, place);
        let locks = browser.traits.locks;
        let Some(page) = browser.tabs.get_mut(&tab) else { return };
        (page.port, page.phase) = (Some(port), Phase::New);
        if !locks || page.lock.is_some_and(|(_, held)| held) {
            let acts = page.attach(Phase::Attaching);
            self.act(at, tab, acts);
        }
    }

    /// What a page wants done.
    pub(crate) fn act(&mut self, at: usize, tab: TabId, acts: Vec<Act>) {
        for act in acts {
            match act {
                Act::Post(message) => self.post(at, tab, message),
                Act::Watch => self.watch_hub(at, tab),
            }
        }
    }

    fn post(&mut self, at: usize, tab: TabId, mut message: PageMessage) {
        let browser = &mut self.browsers[at];
        // What others left word of may be all that lives.
        if let (PageMessage::Attach(claim, ..), Some(page)) = (&mut message, browser.tabs.get(&tab))
        {
            *claim = format!("{claim},{}", browser.left[page.place]);
        }
        let latency = browser.rng.millis(0, browser.traits.port_ms);
        let Some(page) = browser.tabs.get_mut(&tab) else { return };
        let (Some(number), throttle) = (page.port, page.throttle_ms) else { return };
        if let Some(port) = browser.ports.get_mut(&number) {
            let when = port.to_hub.arrival(self.now + latency);
            if matches!(message, PageMessage::Attach(..)) {
                // Each has a time of its own: the one before it is not waited for any more.
                page.attaches += 1;
                let (when, attach) = (later(self.now, ATTACH_TIMEOUT, throttle), page.attaches);
                self.put(when, Delivery::Unanswered { browser: at, tab, attach });
            }
            self.put(when, Delivery::ToHost { browser: at, port: number, message });
        }
    }

    fn watch_hub(&mut self, at: usize, tab: TabId) {
        let browser = &mut self.browsers[at];
        let Some(page) = browser.tabs.get_mut(&tab) else { return };
        let Some(hub) = page.hub.filter(|_| browser.traits.locks) else { return };
        let request = browser.locks.request(LockName::Hub(hub), Agent::Tab(tab), true);
        if let Some(before) = page.watch.replace(request) {
            browser.locks.release(before);
        }
        self.pump_locks(at);
    }

    pub(crate) fn page_granted(&mut self, at: usize, tab: TabId, grant: Grant) -> Checked {
        let browser = &mut self.browsers[at];
        let Some(page) = browser.tabs.get_mut(&tab) else {
            return Ok(());
        };
        if !browser.locks.holds(grant.request) {
            return Ok(());
        }
        match grant.name {
            LockName::Tab(_) => {
                if page.lock.is_some_and(|(request, _)| request == grant.request) {
                    page.lock = Some((grant.request, true));
                    let acts = page.returned();
                    self.act(at, tab, acts);
                }
            }
            LockName::Hub(hub) => {
                let is_dead = page.watch == Some(grant.request) && page.hub == Some(hub);
                browser.locks.release(grant.request);
                page.watch = page.watch.filter(|request| *request != grant.request);
                if is_dead {
                    (page.phase, page.port) = (Phase::New, None);
                    let when = later(self.now, RESTART, page.throttle_ms);
                    self.put(when, Delivery::Start { browser: at, tab, port: None });
                }
                self.pump_locks(at);
            }
            LockName::Link => {}
        }
        Ok(())
    }

    /// A page looks for its hub again, unless it did since.
    pub(crate) fn page_starts(&mut self, at: usize, tab: TabId, port: Option<u64>) -> Checked {
        if self.browsers[at].tabs.get(&tab).is_some_and(|page| page.port == port) {
            self.page_looks(at, tab);
        }
        Ok(())
    }

    /// A page that got no answer looks elsewhere, or again if nobody is there.
    pub(crate) fn page_unanswered(&mut self, at: usize, tab: TabId, attach: u64) {
        let browser = &self.browsers[at];
        let waits = |page: &&Page| page.attaches == attach && page.phase != Phase::Attached;
        let Some(page) = browser.tabs.get(&tab).filter(waits) else { return };
        let port = page.port.and_then(|port| browser.ports.get(&port));
        let host = port.map(|port| port.host);
        if browser.traits.tiers == Tiers::Both {
            self.move_tab(at, tab);
        } else if host.is_none_or(|host| !browser.is_frozen(Agent::Host(host))) {
            self.page_looks(at, tab);
        } else {
            // Its worker does not run now.
            let when = self.now + ATTACH_TIMEOUT;
            self.put(when, Delivery::Unanswered { browser: at, tab, attach });
        }
    }

    /// A page leaves its hub and looks for one in the other place.
    pub(crate) fn move_tab(&mut self, at: usize, tab: TabId) {
        if self.browsers[at].traits.tiers != Tiers::Both {
            return;
        }
        self.act(at, tab, vec![Act::Post(PageMessage::Bye)]);
        let browser = &mut self.browsers[at];
        let Some(page) = browser.tabs.get_mut(&tab) else { return };
        page.place = 1 - page.place;
        if let Some(session) = self.claims.get(left(&page.session.claim)) {
            // The hub it leaves may still have it, and give the tab up.
            self.reference.gives_up(tab, *session);
        }
        if let Some(request) = page.watch.take() {
            browser.locks.release(request);
            self.pump_locks(at);
        }
        self.page_looks(at, tab);
    }

    pub(crate) fn page_receives(
        &mut self,
        at: usize,
        port: u64,
        from: HubId,
        message: &HubMessage,
    ) -> Checked {
        let Some(tab) = self.browsers[at].ports.get(&port).map(|port| port.tab) else {
            return Ok(());
        };
        let Some(page) = self.browsers[at].tabs.get_mut(&tab) else {
            return Ok(());
        };
        // It closed the port.
        if page.port != Some(port) {
            return Ok(());
        }
        let acts = page.receive(from, message, &mut self.reference, &self.feed)?;
        if let HubMessage::Resume { claim, .. } = message
            && *claim == page.session.claim
            && let Some(session) = self.claims.get(left(claim))
        {
            self.reference.joins(tab, *session);
            let place = page.place;
            left(claim).clone_into(&mut self.browsers[at].left[place]);
        }
        self.act(at, tab, acts);
        Ok(())
    }

    /// A page goes into the back/forward cache.
    pub(crate) fn park(&mut self, at: usize, tab: TabId) {
        self.act(at, tab, vec![Act::Post(PageMessage::Park)]);
        let browser = &mut self.browsers[at];
        let Some(page) = browser.tabs.get_mut(&tab) else { return };
        page.life = Life::Parked;
        let locks = page.lock.take().map(|(request, _)| request);
        for request in locks.into_iter().chain(page.watch.take()) {
            browser.locks.release(request);
        }
        self.pump_locks(at);
        self.settle_hosts(at);
    }

    /// A page comes back from there, and hears what was posted meanwhile.
    pub(crate) fn restore(&mut self, at: usize, tab: TabId) -> Checked {
        let Some(page) = self.browsers[at].tabs.get_mut(&tab) else {
            return Ok(());
        };
        (page.life, page.awake_since) = (Life::Awake, self.now);
        self.take_lock(at, tab);
        self.revive_hosts(at)?;
        if !self.browsers[at].traits.locks
            && let Some(page) = self.browsers[at].tabs.get_mut(&tab)
        {
            let acts = page.returned();
            self.act(at, tab, acts);
        }
        self.thaw()
    }

    /// The browser stops a page, or lets it go on.
    pub(crate) fn set_frozen(&mut self, at: usize, tab: TabId, frozen: bool) -> Checked {
        if let Some(page) = self.browsers[at].tabs.get_mut(&tab) {
            page.life = if frozen { Life::Frozen } else { Life::Awake };
            page.awake_since = self.now;
        }
        self.settle_hosts(at);
        if frozen { Ok(()) } else { self.thaw() }
    }

    /// Workers that have a page again go on at once.
    fn revive_hosts(&mut self, at: usize) -> Checked {
        let hosts = self.browsers[at].hosts.keys().copied().collect::<Vec<_>>();
        for host in hosts {
            if !self.browsers[at].should_freeze(host) {
                self.settle_host(at, host)?;
            }
        }
        Ok(())
    }

    /// A tab is no more; if it was polite, it said so.
    pub(crate) fn bury(&mut self, at: usize, tab: TabId, polite: bool) {
        if polite {
            self.act(at, tab, vec![Act::Post(PageMessage::Bye)]);
        }
        let browser = &mut self.browsers[at];
        let dead = browser.tabs.remove(&tab);
        browser.locks.bury(Agent::Tab(tab));
        self.pump_locks(at);
        self.settle_hosts(at);
        // Without locks, nobody notices that a tab crashed. One that was in the back/forward cache
        // held none: it stays for 10 min.
        let parked = dead.is_some_and(|page| page.life == Life::Parked);
        if polite || self.browsers[at].traits.locks && !parked {
            self.put(self.now + HUB_FORGETS, Delivery::HubForgot { browser: at, tab });
            // Of two hubs that share a session, one may take it for parked for 10 min.
            if self.browsers[at].traits.tiers != Tiers::Both {
                self.put(self.now + SERVER_FORGETS, Delivery::ServerForgot { tab });
            }
        }
    }
}

/// When a timer of a page fires: at a multiple of what its browser grants it.
fn later(now: Timestamp, span: Duration, throttle_ms: u64) -> Timestamp {
    let micros = (now + span).as_micros();
    Timestamp::from_micros(micros.div_ceil(throttle_ms * 1000) * throttle_ms * 1000)
}
