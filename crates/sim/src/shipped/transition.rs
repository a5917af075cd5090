//! What each transition does. Everything that it draws comes from its own dice.

use std::{rc::Rc, time::Duration};

use tabmux_core::wire::Position;

use super::{
    browser::{Area, Kind, Life},
    locks::{Agent, Wish},
    page::SocketState,
    plan::{Doors, Special, Traits, Transition},
    topics::Subscription,
    views::Wish as ViewWish,
    waits::Wanted,
    world::{Delivery, Task, World},
};
use crate::{engine::realm::Given, invariant::Checked, rng::Rng, seen::Sight, topics::NAMES};

/// Longest sleep of a machine, in milliseconds, except for one sleep in eight.
const SLEEP_MS: u64 = 100_000;
/// A sleep of this length ends links and leases.
const NOTICED_SLEEP: Duration = Duration::from_secs(70);
/// Twice the longest time for which anything is kept or waited for, which is ten minutes.
const LONG_SLEEP: Duration = Duration::from_secs(1200);
/// A worker that traps more often than this within a minute is given up on purpose.
const MAX_TRAPS: usize = 5;
const TRAPS_WITHIN: Duration = Duration::from_secs(61);
/// Time that a worker takes until it is heard of.
const STARTED: Duration = Duration::from_secs(2);
/// Longest time that a message takes which is posted right after a page came back from the cache,
/// in milliseconds.
const TARRY_MS: u64 = 1000;
/// Largest number of tabs of one browser in the first phase.
const TABS: usize = 5;
/// The same if there are more tabs than the server takes.
const CROWD: usize = 8;
/// Largest number of subscriptions of one page.
const SUBSCRIPTIONS: usize = 4;
/// Largest number of builds in one run.
const BUILDS: usize = 3;
/// The beginning of the name of the link's lock.
const LINK_LOCK: &str = "tabmux:socket:";

impl World {
    /// Carries out the next transition of the plan.
    pub(crate) fn step(&mut self, number: usize) -> Checked {
        let Some(step) = self.plan.steps.get(number).copied() else {
            return Ok(());
        };
        self.cookies_change(step.dice);
        let mut rng = Rng::new(step.dice);
        let at = rng.index(self.browsers.len());
        match step.what {
            Transition::Push | Transition::Kick | Transition::Broadcast | Transition::Publish => {
                self.application(step.what, &mut rng)
            }
            Transition::Forge => self.forge(&mut rng),
            Transition::CutLink | Transition::StallLink | Transition::SwallowLink => {
                self.link_suffers(step.what, &mut rng);
                Ok(())
            }
            Transition::PlainPush | Transition::PlainKick => {
                self.plain_does(step.what == Transition::PlainKick, &mut rng);
                Ok(())
            }
            Transition::PlainSuffers => {
                self.plain_suffers(&mut rng);
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
                let says = rng.one_in(2);
                self.set_online(at, online, says)
            }
            Transition::Sleep => {
                self.sleep(at, &mut rng);
                Ok(())
            }
            Transition::ChangeUser => {
                self.change_user(at, &mut rng);
                Ok(())
            }
            Transition::Deploy => {
                if self.plan.special == Special::Deploys
                    && self.builds.len() < BUILDS
                    && let Some(last) = self.builds.last()
                {
                    let next = last.next_build();
                    self.builds.push(Rc::new(next));
                }
                Ok(())
            }
            Transition::ClearStorage => {
                self.clear_storage(at);
                Ok(())
            }
            Transition::CrashWorker
            | Transition::RerunWorker
            | Transition::TrapHub
            | Transition::StealLock => self.worker_suffers(at, step.what, &mut rng),
            _ => self.tab_does(at, step.what, &mut rng),
        }
    }

    /// Clears the storage of the origin, if that is the special fault of the run.
    fn clear_storage(&mut self, at: usize) {
        if self.plan.special != Special::ClearedStorage {
            return;
        }
        if self.browsers[at].pages().next().is_some() {
            self.seen.add(Sight::Cleared);
        }
        let area = Area::default();
        let browser = &mut self.browsers[at];
        let storage = browser.areas.first().map(|it| Rc::clone(&it.storage));
        let storage = storage.unwrap_or_default();
        storage.borrow_mut().clear();
        browser.areas.push(Area { storage, ..area });
    }

    fn link_suffers(&mut self, what: Transition, rng: &mut Rng) {
        let links = self.network.links.keys().copied().collect::<Vec<_>>();
        let until = self.now + rng.millis(0, 40_000);
        match rng.pick(&links) {
            Some(id) if what == Transition::CutLink => self.cut(id, rng),
            Some(id) if what == Transition::SwallowLink => self.swallow(id),
            Some(id) => {
                if let Some(link) = self.network.links.get_mut(&id) {
                    link.stalled_until = until;
                    let browser = link.at.0;
                    let views = self.views_of(Some(browser));
                    views.into_iter().for_each(|key| self.plain_changed(key));
                }
            }
            None => {}
        }
    }

    /// Connects or disconnects the network of a browser. Scripts are told when it comes, and when
    /// it goes if `says`.
    pub(crate) fn set_online(&mut self, at: usize, online: bool, says: bool) -> Checked {
        let now = self.now;
        let browser = &mut self.browsers[at];
        browser.offline = !online;
        if online {
            (browser.offline_since, browser.online_at) = (None, now);
        } else {
            browser.offline_since = says.then_some(now);
            self.views_of(Some(at)).into_iter().for_each(|key| self.plain_changed(key));
        }
        if !online && !says {
            return Ok(());
        }
        let event = if online { "online" } else { "offline" };
        for number in self.browsers[at].actors.keys().copied().collect::<Vec<_>>() {
            let task = Task::new("event", [Given::Text(event.into())]);
            self.put(now, Delivery::Task { at: (at, number), task });
        }
        Ok(())
    }

    fn sleep(&mut self, at: usize, rng: &mut Rng) {
        let long = rng.one_in(8);
        let span = if long { LONG_SLEEP } else { rng.millis(0, SLEEP_MS) };
        if span >= NOTICED_SLEEP {
            self.seen.add(Sight::Slept);
        }
        let pages = self.browsers[at].pages().map(|(number, _)| number).collect::<Vec<_>>();
        pages.into_iter().for_each(|page| self.page_is_away((at, page)));
        let browser = &mut self.browsers[at];
        browser.asleep = true;
        if rng.one_in(2) {
            // Some clocks stand still.
            browser.behind += u64::try_from(span.as_micros()).unwrap_or(0);
        }
        self.put(self.now + span, Delivery::Wake { browser: at });
    }

    fn worker_suffers(&mut self, at: usize, what: Transition, rng: &mut Rng) -> Checked {
        let (now, browser) = (self.now, &self.browsers[at]);
        // A worker of a page shares its process: that it dies alone before it has done anything
        // happens nowhere.
        let may = |number: &u32| {
            let actor = &browser.actors[number];
            matches!(actor.kind, Kind::Shared { .. })
                || actor.life != Life::Loading && now.saturating_since(actor.runs_since) > STARTED
        };
        let workers = browser.workers().into_iter().filter(may).collect::<Vec<_>>();
        let worker = rng.pick(&workers);
        match (what, worker) {
            (Transition::StealLock, _) => self.steal_lock(at, rng),
            (Transition::CrashWorker, Some(number)) if self.plan.doors == Doors::Tabmux => {
                return self.crash_midway((at, number), rng);
            }
            (Transition::CrashWorker, Some(number)) => self.crash((at, number), rng),
            (Transition::RerunWorker, Some(number)) => return self.rerun((at, number), rng),
            (Transition::TrapHub, Some(number)) => {
                // The worker counts by the clock of its machine.
                let now = browser.clock(now);
                self.hosts_suffer(at, self.now);
                if let Some(actor) = self.browsers[at].actors.get_mut(&number) {
                    actor.traps.retain(|it| now.saturating_since(*it) < TRAPS_WITHIN);
                    if actor.traps.len() >= MAX_TRAPS {
                        return Ok(());
                    }
                    actor.traps.push(now);
                    let mut hubs = actor.realm.host.hubs.borrow_mut();
                    hubs.values_mut().for_each(|hub| hub.will_trap());
                }
                let task = Task::new("event", [Given::Text("online".into())]);
                self.put(self.now, Delivery::Task { at: (at, number), task });
            }
            _ => {}
        }
        Ok(())
    }

    /// Lets the application send so much that it is acknowledged at once, and kills a worker before
    /// all of it has reached the tabs.
    fn crash_midway(&mut self, worker: (usize, u32), rng: &mut Rng) -> Checked {
        let (now, reference) = (self.now, &mut self.reference);
        if let Some(server) = &mut self.server {
            for socket in server.sockets.keys().copied().collect::<Vec<_>>() {
                server.say(now, reference, socket, 1 + rng.below(6))?;
            }
        }
        let Traits { link_ms, port_ms, .. } = self.browsers[worker.0].traits;
        let when = now + rng.millis(0, 2 * link_ms + port_ms);
        self.put(when, Delivery::Crash { worker, dice: rng.next() });
        self.drain_server()
    }

    fn steal_lock(&mut self, at: usize, rng: &mut Rng) {
        for area in 0..self.browsers[at].areas.len() {
            let locks = &mut self.browsers[at].areas[area].locks;
            let is_link = |name: &&str| name.starts_with(LINK_LOCK) && !name.ends_with(":stolen");
            let held = locks.held().filter(is_link).collect::<Vec<_>>();
            let Some(name) = rng.pick(&held).map(str::to_owned) else { continue };
            let wish = Wish { steal: true, ..Wish::default() };
            let call = (Agent::Stranger, u32::try_from(rng.below(1 << 30)).unwrap_or(0));
            let news = locks.request(&name, call, wish);
            self.tell_of_locks(at, area, news);
            let until = self.now + rng.millis(0, 20_000);
            self.hosts_suffer(at, until);
            self.put(until, Delivery::GiveBack { browser: at, area, call });
        }
    }

    fn tab_does(&mut self, at: usize, what: Transition, rng: &mut Rng) -> Checked {
        let life = match what {
            Transition::RestoreTab | Transition::EvictTab => Life::Parked,
            Transition::ThawTab => Life::Frozen,
            _ => Life::Awake,
        };
        let tabs = self.browsers[at].pages_that(life);
        let Some(tab) = rng.pick(&tabs) else {
            if what == Transition::OpenTab {
                self.visit(at, rng)?;
            }
            return Ok(());
        };
        let who = (at, tab);
        match what {
            Transition::OpenTab => {
                let crowd = self.plan.special == Special::Crowds;
                if self.browsers[at].pages().count() < if crowd { CROWD } else { TABS } {
                    self.visit(at, rng)?;
                }
            }
            Transition::CloseTab => self.bury(who, true)?,
            Transition::CrashTab | Transition::EvictTab => self.bury(who, false)?,
            Transition::ParkTab => self.park(who)?,
            Transition::RestoreTab => {
                // What the tab sends at once may arrive late, at a hub that has ended.
                let is_late = rng.one_in(3);
                if is_late {
                    self.ports_tarry(who, rng.millis(0, TARRY_MS));
                }
                self.restore(who, rng)?;
                if is_late {
                    self.worker_suffers(at, Transition::TrapHub, rng)?;
                }
            }
            Transition::BlockTab => self.block(who, rng),
            Transition::FreezeTab => self.set_frozen(who, true),
            Transition::ThawTab => self.set_frozen(who, false),
            Transition::Flap => {
                let links = self.network.links.iter();
                let links = links.filter(|(_, link)| link.at.0 == at && link.worker_open);
                for link in links.map(|(id, _)| *id).collect::<Vec<_>>() {
                    let when = self.now + rng.millis(0, 20);
                    self.put(when, Delivery::Flap { link });
                }
                self.page_wishes(who, Transition::Send, rng)?;
            }
            _ => self.page_wishes(who, what, rng)?,
        }
        Ok(())
    }

    /// Loads a page. Some pages go into the back/forward cache before their scripts have arrived.
    fn visit(&mut self, at: usize, rng: &mut Rng) -> Checked {
        self.open_tab(at, rng)?;
        let page = self.browsers[at].pages_that(Life::Awake).into_iter().max();
        match page.filter(|_| rng.one_in(8)) {
            Some(page) => self.park((at, page)),
            None => Ok(()),
        }
    }

    /// Makes messages between a page and its workers take this long now.
    fn ports_tarry(&mut self, at: (usize, u32), span: Duration) {
        let (when, ports) = (self.now + span, &mut self.browsers[at.0].ports);
        let own = ports.iter().filter(|(_, port)| port.owner == at.1);
        let ends = own.flat_map(|(id, port)| [*id, port.peer]).collect::<Vec<_>>();
        for end in ends {
            if let Some(port) = ports.get_mut(&end) {
                port.lane.arrival(when);
            }
        }
    }

    pub(crate) fn page_wishes(
        &mut self,
        at: (usize, u32),
        what: Transition,
        rng: &mut Rng,
    ) -> Checked {
        let Some(page) = self.browsers[at.0].page(at.1) else {
            return Ok(());
        };
        let view = match what {
            Transition::OpenView => Some(ViewWish::Open),
            Transition::SayView => Some(ViewWish::Say),
            Transition::CloseView => Some(ViewWish::Close),
            _ => None,
        };
        match view {
            Some(wish) if page.doors.plain() => return self.page_views(at, wish, rng),
            _ if !page.doors.tabmux() => return Ok(()),
            _ => {}
        }
        let open = page.sockets_in(SocketState::Open);
        match what {
            Transition::OpenSocket => self.page_opens(at)?,
            Transition::CloseSocket => {
                let mut any = open;
                any.extend(page.sockets_in(SocketState::Connecting));
                if let Some(socket) = rng.pick(&any) {
                    self.page_closes(at, socket)?;
                }
            }
            Transition::Send => {
                for _ in 0..=rng.below(12) {
                    if let Some(socket) = rng.pick(&open) {
                        self.page_sends(at, socket)?;
                    }
                }
                if rng.one_in(20) {
                    self.seen.add(Sight::AskedForLink);
                    self.app(at, "reconnect", "[0]")?;
                }
            }
            Transition::Subscribe if page.subscriptions.len() < SUBSCRIPTIONS => {
                if let Some(name) = rng.pick(&NAMES) {
                    self.page_subscribes(at, name)?;
                }
            }
            Transition::Unsubscribe => {
                let all = page.subscriptions.keys().copied().collect::<Vec<_>>();
                if let Some(number) = rng.pick(&all) {
                    page.subscriptions.remove(&number);
                    self.app(at, "unsubscribe", &format!("[{number}]"))?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Lets a page open another virtual socket.
    pub(crate) fn page_opens(&mut self, at: (usize, u32)) -> Checked {
        let Some(page) = self.browsers[at.0].page(at.1) else {
            return Ok(());
        };
        let number = u32::try_from(page.sockets.len()).unwrap_or(u32::MAX - 1) + 1;
        page.sockets.insert(number, SocketState::Connecting);
        let (tag, tab) = (page.tag, page.tab);
        let options = format!(r#"{{"mode":"mux",{}"#, &page.options[1..]).replace(",}", "}");
        self.reference.page_asks(tab, number);
        self.socket_is_wanted(at, number);
        self.must_connect(at, Wanted::Socket(number));
        self.must_have_room(at, number);
        let path = self.path_of(tag, number);
        self.app(at, "open", &format!(r#"[{number},"{path}",{options}]"#))
    }

    /// Lets a page send the next numbered message on a socket.
    pub(crate) fn page_sends(&mut self, at: (usize, u32), socket: u32) -> Checked {
        let Some(page) = self.browsers[at.0].page(at.1) else {
            return Ok(());
        };
        if page.sockets.get(&socket) != Some(&SocketState::Open) {
            return Ok(());
        }
        let tab = page.tab;
        let k = self.reference.page_says(tab, socket)?;
        self.app(at, "send", &format!(r#"[{socket},"up {tab} {socket} {k}"]"#))
    }

    fn page_closes(&mut self, at: (usize, u32), socket: u32) -> Checked {
        let Some(page) = self.browsers[at.0].page(at.1) else {
            return Ok(());
        };
        let state = match page.sockets.get(&socket) {
            Some(SocketState::Open) => SocketState::Closing,
            Some(SocketState::Connecting) => SocketState::Abandoned,
            _ => return Ok(()),
        };
        page.sockets.insert(socket, state);
        let tab = page.tab;
        self.reference.page_leaves(tab, socket)?;
        self.app(at, "close", &format!("[{socket},1000]"))
    }

    /// Lets a page subscribe to a topic.
    pub(crate) fn page_subscribes(&mut self, at: (usize, u32), name: &'static str) -> Checked {
        let Some(page) = self.browsers[at.0].page(at.1) else {
            return Ok(());
        };
        page.subscriptions_made += 1;
        let number = page.subscriptions_made;
        // Some pages go on from where the topic was when they were rendered.
        let since = self.feed.earlier(name, u64::from(number) + page.tab.0);
        page.subscriptions.insert(number, Subscription::new(name, since));
        self.must_connect(at, Wanted::Subscription(number));
        let since = since.map_or_else(String::new, |Position { epoch, offset }| {
            format!(r#",{{"epoch":{epoch},"offset":{offset}}}"#)
        });
        self.app(at, "subscribe", &format!(r#"[{number},"{name}"{since}]"#))
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
