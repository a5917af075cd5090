//! What each transition does. All that it draws comes from its own dice.

use std::time::Duration;

use tabmux_core::wire::TabId;

use crate::{
    invariant::Checked,
    locks::{Agent, LockName},
    page::{Act, Life, Page, SocketState},
    plan::Transition,
    rng::Rng,
    topics::NAMES,
    world::{Delivery, World},
};

/// The longest that a machine sleeps, but for one time in eight.
const SLEEP_MS: u64 = 100_000;
/// How long it sleeps then.
const LONG_SLEEP: Duration = Duration::from_secs(3600);
/// The tabs of one browser at most, in the first phase.
const TABS: usize = 5;
/// Subscriptions of one page at most.
const SUBSCRIPTIONS: usize = 4;

impl World {
    /// The next thing happens.
    pub(crate) fn step(&mut self, number: usize) -> Checked {
        let Some(step) = self.plan.steps.get(number).copied() else {
            return Ok(());
        };
        let mut rng = Rng::new(step.dice);
        let at = rng.index(self.browsers.len());
        match step.what {
            Transition::Push | Transition::Kick | Transition::Broadcast | Transition::Publish => {
                self.application(step.what, &mut rng)
            }
            Transition::CutLink | Transition::StallLink => {
                self.link_suffers(step.what, &mut rng);
                Ok(())
            }
            Transition::RestartServer => {
                let polite = rng.one_in(2);
                self.server_down(polite)
            }
            Transition::Drain => self.drain(&mut rng),
            _ if self.browsers[at].asleep => Ok(()),
            Transition::ToggleOffline => {
                let online = self.browsers[at].offline;
                self.set_online(at, online)
            }
            Transition::Sleep => {
                self.sleep(at, &mut rng);
                Ok(())
            }
            Transition::CrashWorker
            | Transition::RerunWorker
            | Transition::TrapHub
            | Transition::StealLock => {
                self.worker_suffers(at, step.what, &mut rng);
                Ok(())
            }
            _ => self.tab_does(at, step.what, &mut rng),
        }
    }

    fn link_suffers(&mut self, what: Transition, rng: &mut Rng) {
        let links = self.network.links.keys().copied().collect::<Vec<_>>();
        let until = self.now + rng.millis(0, 40_000);
        match rng.pick(&links) {
            Some(id) if what == Transition::CutLink => self.cut(id, rng),
            Some(id) => {
                if let Some(link) = self.network.links.get_mut(&id) {
                    link.stalled_until = until;
                }
            }
            None => {}
        }
    }

    /// The network of a browser comes or goes, and its hubs are told.
    pub(crate) fn set_online(&mut self, at: usize, online: bool) -> Checked {
        self.browsers[at].offline = !online;
        let hubs = self.browsers[at].hosts.iter();
        let hubs = hubs.filter(|(_, host)| !host.frozen);
        let hubs = hubs.filter_map(|(number, host)| Some((*number, host.run.as_ref()?.id)));
        for (host, hub) in hubs.collect::<Vec<_>>() {
            let changed = tabmux_core::hub::Input::NetworkChanged { online };
            self.hub_input((at, host), hub, changed)?;
        }
        Ok(())
    }

    fn sleep(&mut self, at: usize, rng: &mut Rng) {
        let long = rng.one_in(8);
        let span = if long { LONG_SLEEP } else { rng.millis(0, SLEEP_MS) };
        let browser = &mut self.browsers[at];
        browser.asleep = true;
        if rng.one_in(2) {
            // Some clocks stand still.
            browser.behind += u64::try_from(span.as_micros()).unwrap_or(0);
        }
        self.put(self.now + span, Delivery::Wake { browser: at });
    }

    fn worker_suffers(&mut self, at: usize, what: Transition, rng: &mut Rng) {
        let hosts = self.browsers[at].hosts.keys().copied().collect::<Vec<_>>();
        let host = rng.pick(&hosts);
        match (what, host) {
            (Transition::StealLock, _) if self.browsers[at].traits.locks => {
                let request = self.browsers[at].locks.steal(LockName::Link, Agent::Stranger);
                self.pump_locks(at);
                let until = self.now + rng.millis(0, 20_000);
                self.put(until, Delivery::GiveBack { browser: at, request });
            }
            (Transition::CrashWorker, Some(host)) => self.kill_host(at, host),
            (Transition::RerunWorker, Some(host)) => self.rerun(at, host),
            (Transition::TrapHub, Some(host)) if !self.browsers[at].hosts[&host].frozen => {
                self.trap(at, host);
            }
            _ => {}
        }
    }

    fn tab_does(&mut self, at: usize, what: Transition, rng: &mut Rng) -> Checked {
        let life = match what {
            Transition::RestoreTab | Transition::EvictTab => Life::Parked,
            Transition::ThawTab => Life::Frozen,
            _ => Life::Awake,
        };
        let tabs = self.browsers[at].tabs_that(life);
        let Some(tab) = rng.pick(&tabs) else {
            if what == Transition::OpenTab {
                self.new_tab(at, rng);
            }
            return Ok(());
        };
        match what {
            Transition::OpenTab => {
                if self.browsers[at].tabs.len() < TABS {
                    self.new_tab(at, rng);
                }
            }
            Transition::CloseTab => self.bury(at, tab, true),
            Transition::CrashTab | Transition::EvictTab => self.bury(at, tab, false),
            Transition::ParkTab => self.park(at, tab),
            Transition::RestoreTab => return self.restore(at, tab),
            Transition::FreezeTab => return self.set_frozen(at, tab, true),
            Transition::ThawTab => return self.set_frozen(at, tab, false),
            Transition::MoveTab => self.move_tab(at, tab),
            Transition::Flap => {
                let links = self.network.links.iter();
                let links = links.filter(|(_, link)| link.browser == at && link.hub_open);
                for link in links.map(|(id, _)| *id).collect::<Vec<_>>() {
                    let when = self.now + rng.millis(0, 20);
                    self.put(when, Delivery::Flap { link });
                }
                return self.page_wishes(at, tab, Transition::Send, rng);
            }
            _ => return self.page_wishes(at, tab, what, rng),
        }
        Ok(())
    }

    pub(crate) fn new_tab(&mut self, at: usize, rng: &mut Rng) {
        let id = TabId(rng.next());
        let throttle_ms = [1, 1, 1000, 60_000][rng.index(4)];
        let place = self.browsers[at].place_of_new_tab(rng);
        self.open_tab(at, Page::new(id, place, throttle_ms));
    }

    fn page_wishes(&mut self, at: usize, tab: TabId, what: Transition, rng: &mut Rng) -> Checked {
        let Self { browsers, reference, .. } = self;
        let Some(page) = browsers[at].tabs.get_mut(&tab) else {
            return Ok(());
        };
        let open = page.sockets_in(SocketState::Open);
        let mut acts: Vec<Act> = Vec::new();
        match what {
            Transition::OpenSocket => acts = page.open(reference),
            Transition::CloseSocket => {
                let mut any = open;
                any.extend(page.sockets_in(SocketState::Connecting));
                if let Some(socket) = rng.pick(&any) {
                    acts = page.close(socket, reference)?;
                }
            }
            Transition::Send => {
                for _ in 0..=rng.below(12) {
                    if let Some(socket) = rng.pick(&open) {
                        acts.extend(page.send(socket, reference)?);
                    }
                }
            }
            Transition::Subscribe if page.subscriptions.len() < SUBSCRIPTIONS => {
                acts = rng.pick(&NAMES).map_or_else(Vec::new, |name| page.subscribe(name));
            }
            Transition::Unsubscribe => {
                let all = page.subscriptions.keys().copied().collect::<Vec<_>>();
                acts = rng.pick(&all).map_or_else(Vec::new, |it| page.unsubscribe(it));
            }
            _ => {}
        }
        self.act(at, tab, acts);
        Ok(())
    }

    fn application(&mut self, what: Transition, rng: &mut Rng) -> Checked {
        let (now, reference) = (self.now, &mut self.reference);
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        let sockets = server.sockets.keys().copied().collect::<Vec<_>>();
        match what {
            Transition::Kick => {
                if let Some(socket) = rng.pick(&sockets) {
                    server.kick(now, reference, socket)?;
                }
            }
            Transition::Push => {
                if let Some(socket) = rng.pick(&sockets) {
                    server.say(now, reference, socket, 1 + rng.below(20))?;
                }
            }
            Transition::Publish => {
                for _ in 0..=rng.below(15) {
                    if let Some(name) = rng.pick(&NAMES) {
                        server.publish(now, &mut self.feed, name);
                    }
                }
            }
            _ => {
                let sessions = server.sessions.keys().copied().collect::<Vec<_>>();
                if let Some(session) = rng.pick(&sessions) {
                    server.broadcast(now, session);
                }
            }
        }
        self.drain_server()
    }
}
