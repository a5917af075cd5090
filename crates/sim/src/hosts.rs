//! Workers: what `worker.ts` does for a hub, and how workers begin, freeze and die.

use std::time::Duration;

use tabmux_core::{
    hub::{self, HubMessage},
    wire::{HubId, TabId},
};

use crate::{
    browser::{Port, Run},
    invariant::{
        Checked,
        Invariant::{NoError, NoSpinning},
    },
    locks::{Agent, Grant, LockName},
    page::PageMessage,
    sessions::left,
    world::{Delivery, World},
};

/// How long pages wait before they ask for another worker.
pub(crate) const RESTART: Duration = Duration::from_millis(100);
/// How long a tab of an earlier hub may take to attach, where no lock tells whether it lives.
const ABSENT: Duration = Duration::from_secs(10);

impl World {
    /// A page's message arrives at a worker, if that lives.
    pub(crate) fn host_receives(&mut self, at: usize, port: u64, message: &PageMessage) -> Checked {
        let now = self.now;
        let browser = &mut self.browsers[at];
        let Some((tab, number)) = browser.ports.get(&port).map(|port| (port.tab, port.host)) else {
            return Ok(());
        };
        let Some(host) = browser.hosts.get_mut(&number) else {
            return Ok(());
        };
        if matches!(message, PageMessage::Attach(..)) {
            // Overtaken by what the page said on a later port: it does not listen to this one.
            if host.known.get(&tab).is_some_and(|known| *known > port) {
                return Ok(());
            }
            host.known.insert(tab, port);
            if host.run.is_none() {
                let (id, seed) = (HubId(browser.rng.next()), browser.rng.next());
                self.start_hub(at, number, Run::new(id, seed, now));
            }
        } else if host.known.get(&tab) != Some(&port) {
            // A port of an earlier run, or of a tab that was given up.
            let hub = host.run.as_ref().map_or(HubId(0), |run| run.id);
            self.post_on(at, port, hub, HubMessage::Resync);
            return Ok(());
        }
        let clock = self.browsers[at].clock(now);
        let Some(run) = self.browsers[at].run(number) else {
            return Ok(());
        };
        if let PageMessage::Attach(claim, ..) = message {
            let (own, found) = claim.split_once(',').unwrap_or_default();
            for (claim, sessions) in [(own, &mut run.shown), (found, &mut run.found)] {
                match self.claims.get(left(claim)) {
                    Some(session) => sessions.insert(tab, *session),
                    None => sessions.remove(&tab),
                };
            }
        }
        run.view.told(tab, message, clock);
        let hub = run.id;
        let message = message.as_input();
        self.hub_input((at, number), hub, hub::Input::TabMessage { tab, message })
    }

    fn start_hub(&mut self, at: usize, number: u32, mut run: Run) {
        let browser = &mut self.browsers[at];
        if browser.traits.locks {
            let name = LockName::Hub(run.id);
            run.life = Some(browser.locks.request(name, Agent::Host(number), false));
            run.waiting = Some(Vec::new());
        }
        if let Some(host) = browser.hosts.get_mut(&number) {
            host.run = Some(run);
        }
        self.pump_locks(at);
    }

    /// Everyone who now gets a lock will hear of it.
    pub(crate) fn pump_locks(&mut self, at: usize) {
        for grant in self.browsers[at].locks.pump() {
            let when = self.now + self.browsers[at].rng.millis(0, 20);
            self.put(when, Delivery::Granted { browser: at, grant });
        }
    }

    pub(crate) fn granted(&mut self, at: usize, grant: Grant) -> Checked {
        match grant.to {
            Agent::Tab(tab) => self.page_granted(at, tab, grant),
            Agent::Host(host) => self.host_granted(at, host, grant),
            Agent::Stranger => Ok(()),
        }
    }

    fn host_granted(&mut self, at: usize, host: u32, grant: Grant) -> Checked {
        let browser = &mut self.browsers[at];
        let holds = browser.locks.holds(grant.request);
        let Some(run) = browser.run(host) else {
            return Ok(());
        };
        // The link's lock was stolen before the worker heard that it has it: the worker takes that
        // for a browser which refuses locks, and goes on without.
        if !holds && run.link_lock != Some(grant.request) {
            return Ok(());
        }
        let hub = run.id;
        if !holds {
            if run.link_lock == Some(grant.request) {
                // Stolen before it could be told: it asks again, as `link_lock.ts` does.
                self.request_link_lock(at, host, hub);
            }
            return Ok(());
        }
        match grant.name {
            LockName::Hub(id) if id == hub => {
                for (port, message) in run.waiting.take().unwrap_or_default() {
                    self.post_on(at, port, hub, message);
                }
            }
            LockName::Link if run.link_lock == Some(grant.request) => {
                return self.hub_input((at, host), hub, hub::Input::LinkLockGranted);
            }
            LockName::Tab(tab) if run.watches.get(&tab) == Some(&grant.request) => {
                run.watches.remove(&tab);
                browser.locks.release(grant.request);
                self.pump_locks(at);
                return self.tab_freed(at, host, hub, tab);
            }
            // Of an earlier run.
            _ => {
                browser.locks.release(grant.request);
                self.pump_locks(at);
            }
        }
        Ok(())
    }

    /// Tells a hub a fact, if it still runs.
    pub(crate) fn hub_input(
        &mut self,
        (at, host): (usize, u32),
        hub: HubId,
        input: hub::Input<'_>,
    ) -> Checked {
        let now = self.browsers[at].clock(self.now);
        let Some(run) = self.browsers[at].run(host).filter(|run| run.id == hub) else {
            return Ok(());
        };
        run.hub.handle_input(now, input);
        self.drain_hub(at, host)
    }

    pub(crate) fn hub_timer(&mut self, (at, host): (usize, u32), hub: HubId) -> Checked {
        let now = self.browsers[at].clock(self.now);
        let world = self.now;
        let Some(run) = self.browsers[at].hosts.get_mut(&host).and_then(|it| it.run.as_mut())
        else {
            return Ok(());
        };
        if run.id != hub || run.wake_at.is_none_or(|wake| wake > world) {
            return Ok(());
        }
        run.wake_at = None;
        for link in self.network.held_by(hub) {
            let link = &self.network.links[&link];
            let (attempt, bytes) = (link.attempt, link.unsent);
            run.hub.handle_input(now, hub::Input::LinkBuffered { attempt, bytes });
        }
        run.hub.handle_timeout(now);
        if let Some((next, why)) = run.hub.poll_timeout().filter(|(next, _)| *next <= now) {
            return NoSpinning.broken(format!("{hub} at {now:?} wants {next:?} for {why:?}"));
        }
        self.drain_hub(at, host)
    }

    /// Carries out what a hub orders.
    pub(crate) fn drain_hub(&mut self, at: usize, host: u32) -> Checked {
        while let Some(run) = self.browsers[at].run(host) {
            let hub = run.id;
            let Some(output) = run.hub.poll_output() else { break };
            self.log(&output);
            self.hub_output(at, host, hub, output)?;
        }
        let now = self.now;
        let clock = self.browsers[at].clock(now);
        let Some(run) = self.browsers[at].run(host) else {
            return Ok(());
        };
        run.view.agrees(&run.hub)?;
        let wake = run
            .hub
            .poll_timeout()
            .map(|(wake, _)| now + wake.saturating_since(clock) + Duration::from_micros(1));
        if run.wake_at != wake {
            run.wake_at = wake;
            let hub = run.id;
            if let Some(wake) = wake {
                self.put(wake, Delivery::HubTimer { browser: at, host, hub });
            }
        }
        Ok(())
    }

    fn hub_output(&mut self, at: usize, host: u32, hub: HubId, output: hub::Output) -> Checked {
        match output {
            hub::Output::RequestLinkLock => self.request_link_lock(at, host, hub),
            hub::Output::ReleaseLinkLock => {
                if let Some(request) =
                    self.browsers[at].run(host).and_then(|it| it.link_lock.take())
                {
                    self.browsers[at].locks.release(request);
                    self.pump_locks(at);
                }
            }
            hub::Output::OpenLink { attempt } => return self.dial(at, host, hub, attempt),
            hub::Output::SendLink { attempt, payload } => {
                return self.send_up(at, hub, attempt, payload);
            }
            hub::Output::CloseLink { attempt, .. } => {
                let now = self.now;
                if let Some(run) = self.browsers[at].run(host) {
                    run.link_lost_at.get_or_insert(now);
                }
                self.hub_closes(at, hub, attempt);
            }
            hub::Output::PostToTab { tab, message } => {
                self.post_to_page(at, host, tab, message)?;
            }
            hub::Output::PostToTabs { tabs, message } => {
                for tab in tabs {
                    self.post_to_page(at, host, tab, message.clone())?;
                }
            }
            hub::Output::WatchTab { tab } => self.watch_tab(at, host, hub, tab),
            hub::Output::DropTab { tab } => self.drop_tab(at, host, tab),
            hub::Output::Event(event) => return self.hub_event(at, host, &event),
        }
        Ok(())
    }

    fn request_link_lock(&mut self, at: usize, host: u32, hub: HubId) {
        let browser = &mut self.browsers[at];
        if browser.traits.locks {
            let request = browser.locks.request(LockName::Link, Agent::Host(host), false);
            if let Some(run) = browser.run(host) {
                run.link_lock = Some(request);
            }
            self.pump_locks(at);
        } else {
            self.put(self.now, Delivery::NoLock { browser: at, host, hub });
        }
    }

    fn watch_tab(&mut self, at: usize, host: u32, hub: HubId, tab: TabId) {
        let browser = &mut self.browsers[at];
        let known = browser.hosts.get(&host).is_some_and(|it| it.known.contains_key(&tab));
        if !browser.traits.locks {
            if !known {
                let when = self.now + ABSENT;
                self.put(when, Delivery::Absent { browser: at, host, hub, tab });
            }
            return;
        }
        if browser.run(host).is_some_and(|run| run.watches.contains_key(&tab)) {
            return;
        }
        let request = browser.locks.request(LockName::Tab(tab), Agent::Host(host), true);
        if let Some(run) = browser.run(host) {
            run.watches.insert(tab, request);
        }
        self.pump_locks(at);
    }

    /// Without locks: a tab of an earlier hub that has not attached by now is dead.
    pub(crate) fn absent(&mut self, at: usize, host: u32, hub: HubId, tab: TabId) -> Checked {
        let known =
            self.browsers[at].hosts.get(&host).is_some_and(|it| it.known.contains_key(&tab));
        if known {
            return Ok(());
        }
        self.tab_freed(at, host, hub, tab)
    }

    fn tab_freed(&mut self, at: usize, host: u32, hub: HubId, tab: TabId) -> Checked {
        let clock = self.browsers[at].clock(self.now);
        if let Some(run) = self.browsers[at].run(host).filter(|run| run.id == hub) {
            run.view.freed(tab, clock);
        }
        self.hub_input((at, host), hub, hub::Input::TabLockGranted { tab })
    }

    fn drop_tab(&mut self, at: usize, host: u32, tab: TabId) {
        let browser = &mut self.browsers[at];
        if let Some(host) = browser.hosts.get_mut(&host) {
            host.known.remove(&tab);
        }
        let Some(run) = browser.run(host) else { return };
        run.view.dropped(tab);
        if let Some(request) = run.watches.remove(&tab) {
            browser.locks.release(request);
            self.pump_locks(at);
        }
    }

    fn hub_event(&mut self, at: usize, host: u32, event: &hub::Event) -> Checked {
        let now = self.now;
        match event {
            hub::Event::BadFrame(_) => {
                return NoError.broken(format!("a hub of browser {at}: {event:?}"));
            }
            hub::Event::Overflow(tab) => {
                self.given_up.insert(*tab, "too much waited for it");
            }
            hub::Event::TabGone(tab) => return self.hub_gives_up(at, host, *tab),
            hub::Event::Welcomed { session, resumed } => {
                if !resumed {
                    self.may_begin_anew(at, host)?;
                }
                if let Some(run) = self.browsers[at].run(host) {
                    (run.session, run.link_lost_at) = (Some(*session), None);
                }
            }
            hub::Event::LinkDown(_) => {
                if let Some(run) = self.browsers[at].run(host) {
                    run.link_lost_at.get_or_insert(now);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// A hub gives a tab up only if that is dead, or as far as the hub can know.
    fn hub_gives_up(&mut self, at: usize, host: u32, tab: TabId) -> Checked {
        let clock = self.browsers[at].clock(self.now);
        let lives = self.browsers[at].tabs.contains_key(&tab);
        let why = match self.browsers[at].run(host) {
            Some(run) if lives => run.view.may_give_up(tab, clock)?,
            _ => "the tab is dead",
        };
        self.given_up.insert(tab, why);
        Ok(())
    }

    fn post_to_page(&mut self, at: usize, host: u32, tab: TabId, message: HubMessage) -> Checked {
        let Some(run) = self.browsers[at].run(host) else {
            return Ok(());
        };
        run.view.may_post(tab, &message)?;
        let (hub, session) = (run.id, run.session);
        if let (HubMessage::Resume { claim, continues, .. }, Some(session)) = (&message, session) {
            self.resumes(at, host, tab, (claim, *continues), session)?;
        }
        if matches!(message, HubMessage::Lost { .. }) {
            self.hub_lost_session(at, host, tab)?;
        }
        let Some(&port) = self.browsers[at].hosts.get(&host).and_then(|it| it.known.get(&tab))
        else {
            return Ok(());
        };
        if let Some(run) = self.browsers[at].run(host)
            && let Some(waiting) = &mut run.waiting
        {
            waiting.push((port, message));
            return Ok(());
        }
        self.post_on(at, port, hub, message);
        Ok(())
    }

    /// Posts on a port, from its worker to its page.
    pub(crate) fn post_on(&mut self, at: usize, port: u64, from: HubId, message: HubMessage) {
        let browser = &mut self.browsers[at];
        let latency = browser.rng.millis(0, browser.traits.port_ms);
        if let Some(it) = browser.ports.get_mut(&port) {
            let when = it.to_page.arrival(self.now + latency);
            self.put(when, Delivery::ToPage { browser: at, port, from, message });
        }
    }

    /// A worker that should freeze does, and one that has nothing left to live for dies.
    pub(crate) fn settle_host(&mut self, at: usize, host: u32) -> Checked {
        let now = self.now;
        let browser = &mut self.browsers[at];
        if browser.should_die(host) {
            self.kill_host(at, host);
            return Ok(());
        }
        let freeze = browser.should_freeze(host);
        let Some(it) = browser.hosts.get_mut(&host) else {
            return Ok(());
        };
        let thaws = it.frozen && !freeze;
        if thaws {
            it.ran_since = now;
        }
        it.frozen = freeze;
        if thaws {
            self.thaw()?;
            // Its machine may have slept meanwhile: its timer stands for another moment.
            self.drain_hub(at, host)?;
        }
        Ok(())
    }

    /// What happened to a tab may freeze or end its worker; soon, or after it lingered.
    pub(crate) fn settle_hosts(&mut self, at: usize) {
        let hosts = self.browsers[at].hosts.keys().copied().collect::<Vec<_>>();
        for host in hosts {
            let browser = &mut self.browsers[at];
            let is_leader = browser.hosts.get(&host).is_some_and(|it| it.leader.is_some());
            let mut after = browser.rng.millis(0, 100);
            if is_leader {
                after = Duration::ZERO;
            } else if browser.should_die(host) {
                after += browser.traits.lingers;
            }
            self.put(self.now + after, Delivery::Settle { browser: at, host });
        }
    }

    /// A worker is no more: its ports, locks and sockets go without a word.
    pub(crate) fn kill_host(&mut self, at: usize, host: u32) {
        let Some(dead) = self.browsers[at].hosts.remove(&host) else {
            return;
        };
        let browser = &mut self.browsers[at];
        for place in &mut browser.places {
            if *place == Some(host) {
                *place = None;
            }
        }
        browser.locks.bury(Agent::Host(host));
        self.pump_locks(at);
        if let Some(run) = dead.run {
            self.orphan_links(at, run.id);
        }
        if !self.browsers[at].traits.locks {
            // Nothing tells the pages but that nothing answers.
            let ports = self.browsers[at].ports.iter().filter(|(_, port)| port.host == host);
            let mut waits = Vec::new();
            for (port, Port { tab, .. }) in ports {
                waits.push((*port, *tab));
            }
            for (port, tab) in waits {
                let when = self.now + self.browsers[at].rng.millis(5000, 10_000);
                self.put(when, Delivery::Start { browser: at, tab, port: Some(port) });
            }
        }
    }

    /// The module traps: the worker throws it away and starts another hub in its place.
    pub(crate) fn trap(&mut self, at: usize, host: u32) {
        let now = self.now;
        let browser = &mut self.browsers[at];
        let Some(it) = browser.hosts.get_mut(&host) else { return };
        let Some(run) = it.run.take() else { return };
        let ports = it.known.values().copied().collect::<Vec<_>>();
        let all = run.watches.values().copied().chain(run.link_lock);
        for request in all.chain(run.life) {
            browser.locks.release(request);
        }
        let (id, seed) = (HubId(browser.rng.next()), browser.rng.next());
        if let Some(attempt) = run.link {
            self.hub_closes(at, run.id, attempt);
        }
        self.start_hub(at, host, Run::new(id, seed, now));
        for port in ports {
            self.post_on(at, port, id, HubMessage::Resync);
        }
        self.pump_locks(at);
    }

    /// The script of a dead worker is run again by itself, with one of the ports there were.
    pub(crate) fn rerun(&mut self, at: usize, host: u32) {
        let Some(it) = self.browsers[at].hosts.get(&host) else { return };
        if it.leader.is_some() {
            return;
        }
        let (place, owners) = (it.place, it.owners.clone());
        // What waits to be read goes with it, even on the port that lives on.
        self.forget_unread(at, host);
        self.kill_host(at, host);
        let browser = &mut self.browsers[at];
        let is_here = |tab: &TabId| {
            let port = browser.tabs.get(tab).and_then(|page| page.port);
            port.and_then(|port| browser.ports.get(&port)).is_some_and(|port| port.host == host)
        };
        let alive = owners.into_iter().filter(is_here).collect::<Vec<_>>();
        let Some(tab) = browser.rng.pick(&alive) else { return };
        let again = browser.start_host(place, tab);
        if let Some(port) = browser.tabs.get(&tab).and_then(|page| page.port)
            && let Some(port) = browser.ports.get_mut(&port)
        {
            port.host = again;
        }
    }

    /// A machine wakes.
    pub(crate) fn wake(&mut self, at: usize) -> Checked {
        let now = self.now;
        let browser = &mut self.browsers[at];
        browser.asleep = false;
        browser.woke = now;
        for host in browser.hosts.values_mut() {
            if let Some(run) = &mut host.run {
                // Its clock may have stood still: its timer stands for another moment.
                run.wake_at = None;
            }
        }
        self.thaw()?;
        let hosts = self.browsers[at].hosts.keys().copied().collect::<Vec<_>>();
        for host in hosts {
            if !self.browsers[at].is_frozen(Agent::Host(host)) {
                self.drain_hub(at, host)?;
            }
        }
        Ok(())
    }
}
