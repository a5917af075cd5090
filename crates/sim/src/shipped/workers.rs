//! Pages and workers: how they begin, freeze and die.

use std::{collections::BTreeSet, rc::Rc, time::Duration};

use super::{
    browser::{Actor, Kind, Life, Place, Port},
    locks::Agent,
    ops::Arrives,
    page::Page,
    plan::{Doors, Special, Tiers, Transition},
    storm::Deeds,
    world::{Delivery, Task, World},
};
use crate::{
    engine::realm::{Given, Host, Role},
    invariant::{
        Checked,
        Invariant::{NoError, OneHub},
    },
    network::Lane,
    rng::Rng,
    seen::Sight,
};

/// The beginning of the name of the worker of a page's exclusive sockets.
const EXCLUSIVE: &str = "tabmux:exclusive:";
/// Longest time for which a script of a page is busy, in milliseconds.
const BLOCKED_MS: u64 = 30_000;
/// A page that is blocked for this long may be taken for dead by a hub that asks it.
const LONG_BLOCK: Duration = Duration::from_secs(20);
/// The address of all pages.
const PAGE: &str = "https://sim/app/page";
/// The address of the page library.
const CLIENT: &str = "https://sim/tabmux/client.js";
/// Time until the server has forgotten a tab that died. A half-open link lives for 35 s and a
/// session without a link for 60 s, and a hub may just have come back to the session.
const SERVER_FORGETS: Duration = Duration::from_secs(300);
/// Tabs that begin to lead within this time have both taken the lease.
const AT_ONCE: Duration = Duration::from_millis(200);
/// Time for which a parked tab is kept.
pub(crate) const PARKED: Duration = Duration::from_secs(600);

impl World {
    /// Starts a page or a worker.
    fn start(
        &mut self,
        at: usize,
        role: Role,
        (name, url): (&str, &str),
        kind: Kind,
        area: usize,
    ) -> Checked<u32> {
        let (now, special) = (self.now, self.plan.special);
        let browser = &mut self.browsers[at];
        let number = browser.number();
        let tag = match &kind {
            Kind::Page(page) => Some(page.tag),
            Kind::Shared { .. } | Kind::Dedicated { .. } => None,
        };
        let rng = Rng::new(browser.rng.next());
        let host = Host::new(rng, tag, true, Rc::clone(&browser.ids));
        host.clock.set(browser.clock(now).as_micros());
        host.storage.replace(Rc::clone(&browser.areas[area].storage));
        {
            let mut faults = host.faults.borrow_mut();
            if !browser.traits.locks {
                faults.lacks.push("locks");
            }
            if !browser.traits.channels {
                // No engine has SharedWorkers but no channels.
                faults.lacks.extend(["channels", "shared"]);
            }
            if let Special::Refuses(what) = special {
                faults.refuses.extend(what);
            }
            if browser.traits.tiers == Tiers::Mixed && tag.is_some_and(|tag| tag % 2 == 0) {
                faults.refuses.push("shared");
            }
        }
        let realm = match self.engine.realm(role, name, url, host) {
            Ok(realm) => realm,
            Err(error) => return NoError.broken(format!("no realm: {error}")),
        };
        let actor = Actor {
            realm,
            kind,
            area,
            build: None,
            is_exclusive: name.starts_with(EXCLUSIVE),
            life: Life::Loading,
            timers: Default::default(),
            waiting: Vec::new(),
            runs_since: now,
            traps: Vec::new(),
            deeds: Deeds::default(),
            dialled: None,
            inbox: Lane::default(),
        };
        self.browsers[at].actors.insert(number, actor);
        Ok(number)
    }

    /// Returns true if the browser refuses the only tier that its pages may have.
    pub(crate) fn has_no_tier(&self, at: usize) -> bool {
        match (self.plan.special, self.browsers[at].traits.tiers) {
            (Special::Refuses(what), Tiers::Leader) => {
                what.contains(&"locks") || what.contains(&"channels")
            }
            (Special::Refuses(what), Tiers::Storage) => what.contains(&"storage"),
            _ => false,
        }
    }

    /// Loads a page in a browser.
    pub(crate) fn open_tab(&mut self, at: usize, rng: &mut Rng) -> Checked {
        let special = self.plan.special;
        let tag = u32::try_from(rng.next() >> 32).unwrap_or(1);
        let throttle_ms = [1, 1, 1000, 60_000][rng.index(4)];
        let options = match self.browsers[at].traits.tiers {
            Tiers::Any | Tiers::Mixed => "{}",
            Tiers::Leader => r#"{"tiers":["leader"]}"#,
            Tiers::Storage => r#"{"tiers":["storage"]}"#,
            Tiers::Direct => r#"{"tiers":["direct"]}"#,
        };
        let doors = match self.plan.doors {
            Doors::Both => [Doors::Tabmux, Doors::Plain, Doors::Both][rng.index(3)],
            all => all,
        };
        let mut page = Page::new(tag, throttle_ms, options.to_owned(), doors, self.now);
        page.excused = self.has_no_tier(at);
        // The HTTP cache may still hold the build before the last.
        let last = self.builds.len() - 1;
        let is_old = special == Special::Deploys && rng.one_in(4);
        let build = last.saturating_sub(is_old.into());
        page.build = build;
        let last = self.browsers[at].areas.len() - 1;
        let area = if special == Special::Frames { rng.index(last + 1) } else { last };
        let number = self.start(at, Role::Page, ("", PAGE), Kind::Page(Box::new(page)), area)?;
        let scripts = Rc::clone(&self.builds[build]);
        if let Some(actor) = self.browsers[at].actors.get_mut(&number) {
            actor.life = Life::Awake;
        }
        self.enter((at, number), |realm| realm.run_page(&scripts, CLIENT))?;
        self.page_changes(at);
        if !doors.tabmux() {
            return Ok(());
        }
        self.app((at, number), "client", &format!("[{options}]"))
    }

    /// Lets the application in a page do something.
    pub(crate) fn app(&mut self, at: (usize, u32), method: &str, args: &str) -> Checked {
        let given = [method, args].map(|text| Given::Text(text.to_owned()));
        let task = Task::new("app", given);
        self.log(&task);
        self.run_task(at, &task)
    }

    /// Starts a shared worker.
    pub(crate) fn start_shared(&mut self, at: (usize, u32), place: Place) -> Checked<u32> {
        let area = self.browsers[at.0].actors.get(&at.1).map_or(0, |actor| actor.area);
        let kind = Kind::Shared { place: place.clone(), owners: BTreeSet::new() };
        let number = self.start(at.0, Role::Shared, (&place.2, &place.1), kind, area)?;
        self.browsers[at.0].shared.insert(place, number);
        self.script(at, number);
        Ok(number)
    }

    /// Starts a worker of one page.
    pub(crate) fn worker(
        &mut self,
        at: (usize, u32),
        worker: u32,
        url: &str,
        name: &str,
    ) -> Checked {
        self.only_one_leads(at, name)?;
        let area = self.browsers[at.0].actors.get(&at.1).map_or(0, |actor| actor.area);
        let kind = Kind::Dedicated { owner: at.1, worker };
        let number = self.start(at.0, Role::Dedicated, (name, url), kind, area)?;
        self.script(at, number);
        Ok(())
    }

    /// I13: of tabs that take a lease at the same moment one leads, and none without the lock.
    fn only_one_leads(&mut self, at: (usize, u32), name: &str) -> Checked {
        let (now, special) = (self.now, self.plan.special);
        let browser = &mut self.browsers[at.0];
        let no_lock = matches!(special, Special::Refuses(what) if what.contains(&"locks"));
        OneHub.unless(!no_lock || browser.traits.tiers != Tiers::Leader, || {
            format!("{at:?} leads, and nobody can have the lock")
        })?;
        if browser.traits.tiers != Tiers::Storage {
            return Ok(());
        }
        let which = (browser.group(at.1), name.to_owned());
        let before = browser.led.insert(which, (now, at.1));
        let both = before.is_some_and(|(when, who)| {
            now.saturating_since(when) < AT_ONCE && who != at.1 && browser.actors.contains_key(&who)
        });
        OneHub.unless(!both, || format!("two tabs of browser {} lead at once", at.0))
    }

    /// Sends the script of a worker on its way.
    fn script(&mut self, owner: (usize, u32), number: u32) {
        let at = (owner.0, number);
        // Browsers run no HTML as a worker.
        let (delivery, after) = match self.loads(owner) {
            (after, Arrives::Whole) => (Delivery::Script { at }, after),
            (after, Arrives::Html | Arrives::Not) => (Delivery::NoScript { at }, after),
        };
        self.put(self.now + after, delivery);
    }

    /// Called when the script of a worker will not come. The worker ends, and its pages are told.
    pub(crate) fn no_script(&mut self, at: (usize, u32)) -> Checked {
        let owners = match self.browsers[at.0].actors.get(&at.1).map(|actor| &actor.kind) {
            Some(Kind::Shared { owners, .. }) => owners.iter().copied().collect(),
            Some(Kind::Dedicated { owner, worker }) => vec![(*owner, *worker)],
            Some(Kind::Page(_)) | None => Vec::new(),
        };
        self.kill(at);
        for (owner, worker) in owners {
            let task = Task { name: "workerFails", given: vec![Given::Number(worker.into())] };
            self.send((at.0, owner), Duration::ZERO, task);
        }
        Ok(())
    }

    /// Called when the script of a worker has arrived.
    pub(crate) fn script_is_there(&mut self, at: (usize, u32)) -> Checked {
        let build = self.builds.len() - 1;
        let scripts = Rc::clone(&self.builds[build]);
        let freeze = self.browsers[at.0].should_freeze(at.1);
        if let Some(actor) = self.browsers[at.0].actors.get_mut(&at.1) {
            actor.life = if freeze { Life::Frozen } else { Life::Awake };
            actor.runs_since = self.now;
            actor.build = Some(build);
        }
        self.excuse_other_builds(at);
        self.enter(at, |realm| realm.run_worker(&scripts))?;
        if !freeze {
            self.thaw(at.0, at.1);
        }
        Ok(())
    }

    /// Called for a worker of another build than its page. It tells the page so, and the page has
    /// no hub then.
    pub(crate) fn excuse_other_builds(&mut self, at: (usize, u32)) {
        let browser = &mut self.browsers[at.0];
        let Some(build) = browser.actors.get(&at.1).and_then(|actor| actor.build) else { return };
        for owner in browser.owners(at.1) {
            if let Some(page) = browser.page(owner).filter(|page| page.build != build) {
                page.excused = true;
                self.seen.add(Sight::OtherWorker);
            }
        }
    }

    /// Blocks a script of a page for long. The page hears nothing meanwhile.
    pub(crate) fn block(&mut self, at: (usize, u32), rng: &mut Rng) {
        self.page_changes(at.0);
        self.page_is_away(at);
        let browser = &mut self.browsers[at.0];
        let works = browser.workers().iter().any(|it| browser.actors[it].life == Life::Awake);
        let Some(actor) = browser.actors.get_mut(&at.1) else { return };
        actor.life = Life::Blocked;
        let span = rng.millis(1000, BLOCKED_MS);
        if works && span >= LONG_BLOCK {
            self.seen.add(Sight::Blocked);
        }
        self.put(self.now + span, Delivery::Unblock { at });
    }

    /// Ends the block of a page.
    pub(crate) fn unblock(&mut self, at: (usize, u32)) {
        let now = self.now;
        let browser = &mut self.browsers[at.0];
        let Some(actor) = browser.actors.get_mut(&at.1) else { return };
        if actor.life != Life::Blocked {
            return;
        }
        (actor.life, actor.runs_since) = (Life::Awake, now);
        if let Some(page) = browser.page(at.1) {
            page.was_away();
        }
        self.thaw(at.0, at.1);
    }

    /// Removes a page or a worker, with its ports, locks and links. Nothing is told to the others.
    pub(crate) fn kill(&mut self, at: (usize, u32)) {
        let browser = &mut self.browsers[at.0];
        let Some(dead) = browser.actors.remove(&at.1) else { return };
        if dead.page().is_none() {
            self.hosts_suffer(at.0, self.now);
        } else {
            self.page_changes(at.0);
        }
        let browser = &mut self.browsers[at.0];
        browser.shared.retain(|_, number| *number != at.1);
        browser.channels.retain(|_, (owner, _)| *owner != at.1);
        let own = browser.ports.iter().filter(|(_, port)| port.owner == at.1);
        for port in own.map(|(port, _)| *port).collect::<Vec<_>>() {
            browser.ports.remove(&port);
        }
        let news = browser.areas[dead.area].locks.bury(Agent::Realm(at.1));
        for hub in dead.realm.host.hubs.borrow().values() {
            self.hubs.remove(&hub.id());
        }
        self.tell_of_locks(at.0, dead.area, news);
        self.orphan_links(at);
        self.settle_all(at.0);
    }

    /// Crashes a worker. Its last messages may not have left its process.
    pub(crate) fn crash(&mut self, at: (usize, u32), rng: &mut Rng) {
        let until = self.now + rng.millis(0, self.browsers[at.0].traits.port_ms);
        let ports = &self.browsers[at.0].ports;
        let its = ports.values().filter(|port| port.owner == at.1).map(|port| port.peer);
        let its = its.collect::<BTreeSet<_>>();
        self.drop_after(until, |it| {
            let Delivery::OnPort { at: to, port, .. } = it else { return false };
            to.0 == at.0 && its.contains(port)
        });
        self.kill(at);
    }

    /// Freezes or ends workers after a change of a page, at once or after they lingered. A page's
    /// own workers end with it.
    pub(crate) fn settle_all(&mut self, at: usize) {
        for number in self.browsers[at].workers() {
            let browser = &mut self.browsers[at];
            let own = matches!(
                browser.actors.get(&number).map(|actor| &actor.kind),
                Some(Kind::Dedicated { .. })
            );
            if own {
                self.settle((at, number));
                continue;
            }
            let mut after = browser.rng.millis(0, 100);
            if browser.should_die(number) {
                after += browser.traits.lingers;
            }
            self.put(self.now + after, Delivery::Settle { at: (at, number) });
        }
    }

    /// Freezes a worker that should freeze, and ends one that has no page left.
    pub(crate) fn settle(&mut self, at: (usize, u32)) {
        let now = self.now;
        let browser = &mut self.browsers[at.0];
        if browser.should_die(at.1) {
            return self.kill(at);
        }
        let freeze = browser.should_freeze(at.1);
        let Some(actor) = browser.actors.get_mut(&at.1) else { return };
        match actor.life {
            Life::Awake if freeze => actor.life = Life::Frozen,
            Life::Frozen if !freeze => {
                (actor.life, actor.runs_since) = (Life::Awake, now);
                self.thaw(at.0, at.1);
            }
            Life::Loading | Life::Parked | Life::Awake | Life::Frozen | Life::Blocked => {}
        }
    }

    /// Puts a page into the back/forward cache.
    pub(crate) fn park(&mut self, at: (usize, u32)) -> Checked {
        self.page_changes(at.0);
        self.page_is_away(at);
        let given = [Given::Text("pagehide".into()), Given::Flag(true)];
        self.run_task(at, &Task::new("page", given))?;
        if let Some(actor) = self.browsers[at.0].actors.get_mut(&at.1) {
            actor.life = Life::Parked;
        }
        self.settle_all(at.0);
        Ok(())
    }

    /// Takes a page out of the cache. It hears what was posted meanwhile, or some of it.
    pub(crate) fn restore(&mut self, at: (usize, u32), rng: &mut Rng) -> Checked {
        let (now, drops) = (self.now, self.browsers[at.0].traits.drops);
        self.page_changes(at.0);
        self.page_is_away(at);
        let Some(actor) = self.browsers[at.0].actors.get_mut(&at.1) else {
            return Ok(());
        };
        (actor.life, actor.runs_since) = (Life::Awake, now);
        if drops {
            let is_message = |it: &Delivery| matches!(it, Delivery::OnPort { .. });
            actor.waiting.retain(|it| !is_message(it) || rng.one_in(2));
        }
        self.revive(at.0);
        if let Some(page) = self.browsers[at.0].page(at.1) {
            page.disturb();
        }
        self.views_return(at);
        // The application may be told before the page library that the page is back.
        if !self.healed && rng.one_in(2) {
            self.page_wishes(at, Transition::OpenSocket, rng)?;
            self.page_wishes(at, Transition::OpenView, rng)?;
        }
        let given = [Given::Text("pageshow".into()), Given::Flag(true)];
        self.run_task(at, &Task::new("page", given))?;
        self.thaw(at.0, at.1);
        Ok(())
    }

    /// Freezes a page, or lets it go on.
    pub(crate) fn set_frozen(&mut self, at: (usize, u32), frozen: bool) {
        let now = self.now;
        self.page_changes(at.0);
        self.page_is_away(at);
        if let Some(actor) = self.browsers[at.0].actors.get_mut(&at.1) {
            actor.life = if frozen { Life::Frozen } else { Life::Awake };
            actor.runs_since = now;
        }
        self.settle_all(at.0);
        if !frozen {
            if let Some(page) = self.browsers[at.0].page(at.1) {
                page.was_away();
            }
            self.revive(at.0);
            self.thaw(at.0, at.1);
        }
    }

    /// Lets workers that have a running page again go on at once.
    fn revive(&mut self, at: usize) {
        for number in self.browsers[at].workers() {
            if !self.browsers[at].should_freeze(number) {
                self.settle((at, number));
            }
        }
    }

    /// Ends a tab. If `polite`, the tab says goodbye.
    pub(crate) fn bury(&mut self, at: (usize, u32), polite: bool) -> Checked {
        if polite {
            let given = [Given::Text("pagehide".into()), Given::Flag(false)];
            self.run_task(at, &Task::new("page", given))?;
        }
        let Some(actor) = self.browsers[at.0].actors.get(&at.1) else {
            return Ok(());
        };
        let parked = actor.life == Life::Parked;
        let tab = actor.page().map(|page| page.tab);
        self.kill(at);
        // Without locks, or if it was parked, a tab that crashed may be kept for long.
        let known = polite || self.browsers[at.0].traits.locks && !parked;
        if let Some(tab) = tab.filter(|_| known) {
            self.put(self.now + SERVER_FORGETS, Delivery::ServerForgot { tab });
        }
        Ok(())
    }

    /// Runs the script of a dead worker again, with one of the ports that it had.
    pub(crate) fn rerun(&mut self, at: (usize, u32), rng: &mut Rng) -> Checked {
        let browser = &self.browsers[at.0];
        let Some(Kind::Shared { place, owners }) =
            browser.actors.get(&at.1).map(|actor| &actor.kind)
        else {
            return Ok(());
        };
        let (place, owners) = (place.clone(), owners.clone());
        let peers = browser.ports.iter().filter(|(_, port)| port.owner == at.1);
        let peers = peers.map(|(_, port)| port.peer);
        let lives = |peer: &u32| browser.ports.contains_key(peer);
        let lives = peers.filter(lives).collect::<Vec<_>>();
        self.crash(at, rng);
        let Some(peer) = rng.pick(&lives) else {
            return Ok(());
        };
        let Some(owner) = self.browsers[at.0].ports.get(&peer).map(|port| port.owner) else {
            return Ok(());
        };
        let number = self.start_shared((at.0, owner), place)?;
        let browser = &mut self.browsers[at.0];
        let port = browser.id();
        browser.ports.insert(port, Port { owner: number, peer, lane: Lane::default() });
        if let Some(old) = browser.ports.get_mut(&peer) {
            old.peer = port;
        }
        if let Some(Kind::Shared { owners: all, .. }) =
            browser.actors.get_mut(&number).map(|it| &mut it.kind)
        {
            all.extend(owners.into_iter().filter(|(number, _)| *number == owner));
        }
        let task = Task { name: "connect", given: vec![Given::Number(port.into())] };
        self.put(self.now, Delivery::Task { at: (at.0, number), task });
        Ok(())
    }
}
