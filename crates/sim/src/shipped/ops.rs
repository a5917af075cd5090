//! Carries out what scripts ask for.

use std::{rc::Rc, time::Duration};

use super::{
    browser::{Kind, Place, Port},
    links::WHO_URL,
    locks::{Agent, Call, News, Wish},
    plan::{Special, Tiers},
    storm::Deed,
    tickets::TICKET,
    views::FIRST,
    world::{Delivery, Task, World},
};
use crate::{
    engine::{
        op::{Op, Told},
        realm::{Given, Host},
    },
    invariant::{
        Checked,
        Invariant::{NoError, NoStorm},
    },
    network::Lane,
    seen::Sight,
};

/// Time for which a stolen lock is not stolen again.
const SHY: Duration = Duration::from_secs(25);
/// Part of the reason for which a socket finds no room.
const NO_SOCKET: &str = "sockets on this server";
/// Distance between the timers of some hidden pages, in microseconds.
const MINUTE_US: u64 = 60_000_000;
/// Time for which a page waits for a script before it looks for another way.
const PATIENCE: Duration = Duration::from_secs(2);

/// Checks that what a page said of an address is in no name and in no log.
fn keeps_secret(at: (usize, u32), op: &Op) -> Checked {
    let text = match op {
        Op::Lock { name, .. }
        | Op::SharedWorker { name, .. }
        | Op::Worker { name, .. }
        | Op::Channel { name, .. } => name,
        Op::Log { line, .. } => line,
        _ => return Ok(()),
    };
    NoError.unless(!text.contains("secret="), || format!("{at:?} tells a secret: {text}"))
}

/// How a script or a module arrives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Arrives {
    /// The script arrives whole.
    Whole,
    /// A page of HTML arrives, as servers send it for an address that they do not know.
    Html,
    /// The request for the script is refused.
    Not,
}

/// The first bytes of each WebAssembly module.
const MAGIC: &str = "\0asm";
/// The first characters of each page of HTML.
const HTML: &str = "<!doctype html>";

impl World {
    pub(crate) fn carry_out(&mut self, at: (usize, u32), op: Op) -> Checked {
        self.is_no_storm(at, &op)?;
        keeps_secret(at, &op)?;
        match op {
            Op::Timer { id, after } => self.arm(at, id, after),
            Op::Untimer { id } => {
                if let Some(actor) = self.browsers[at.0].actors.get_mut(&at.1) {
                    actor.timers.remove(&id);
                }
            }
            Op::Post { port, data } => self.post(at, port, data),
            Op::Early { port, data } => {
                for data in data {
                    self.put(self.now, Delivery::OnPort { at, port, data });
                }
            }
            Op::PortClose { port } => {
                self.browsers[at.0].ports.remove(&port);
            }
            Op::SharedWorker { worker, url, name, port } => {
                let place = (self.browsers[at.0].partition(at.1), url, name);
                return self.shared_worker(at, worker, place, port);
            }
            Op::Worker { worker, url, name } => return self.worker(at, worker, &url, &name),
            Op::WorkerPost { worker, data } => self.post_to_worker(at, worker, data),
            Op::Terminate { worker } => {
                if let Some(number) = self.worker_of(at, worker) {
                    self.kill((at.0, number));
                }
            }
            Op::ToOwner { data } => self.post_to_owner(at, data),
            Op::CloseSelf => self.kill(at),
            Op::Channel { id, name } => {
                self.browsers[at.0].channels.insert(id, (at.1, name));
            }
            Op::Broadcast { id, data } => self.broadcast(at, id, &data),
            Op::ChannelClose { id } => {
                self.browsers[at.0].channels.remove(&id);
            }
            Op::Lock { id, name, shared, if_available, steal } => {
                if steal {
                    self.may_steal(at, &name)?;
                }
                self.lock(at, id, &name, Wish { shared, if_available, steal });
            }
            Op::Unlock { id } => self.unlock(at, id),
            Op::Stored { key, old, new } => self.stored(at, key, old, new),
            Op::Dial { socket, url, protocols } => self.dial(at, socket, &url, &protocols)?,
            Op::SendText { socket, text } => self.send_up(at, socket, text.into())?,
            Op::SendBytes { socket, bytes } => self.send_up(at, socket, bytes.into())?,
            Op::HangUp { socket, code, .. } => self.hang_up(at, socket, code),
            Op::Import { id, .. } => self.import(at, id),
            Op::Compile { id } => {
                let given = vec![Given::Number(id.into()), Given::Flag(true)];
                self.send(at, Duration::ZERO, Task { name: "settle", given });
            }
            Op::Log { .. } => {}
            Op::Uncaught { text } => {
                return NoError.broken(format!("a script in {at:?} threw {text}"));
            }
            Op::Tell(told) if told.get(1).and_then(Told::number) >= Some(FIRST.into()) => {
                self.view_heard(at, &told)?;
            }
            Op::Tell(told) => {
                self.acts_on_one_hub(at, &told)?;
                if self.is_unanswered(at.0) {
                    self.nobody_can_tell(at.0);
                }
                let users = self.plan.names_users().then_some(&self.owners);
                let Self { browsers, reference, feed, parts, seen, builds, plan, .. } = self;
                let shares = browsers[at.0].traits.tiers != Tiers::Direct;
                let apart =
                    matches!(plan.special, Special::Refuses(what) if what.contains(&"channels"));
                if let Some(page) = browsers[at.0].page(at.1) {
                    if page.excused {
                        reference.leaves_all(page.tab);
                    }
                    page.heard(&told, reference, feed, (parts, builds.len() - 1), users)?;
                    if page.refused {
                        seen.add(Sight::NoRoom);
                    }
                    if told.get(2).is_some_and(|it| it.text().contains(NO_SOCKET)) {
                        seen.add(Sight::NoSocketRoom);
                    }
                    // The hub of one tab does not take over what others share, and neither does a
                    // hub that no other tier can reach.
                    let tier = &page.status.tier;
                    let leaves = tier == "direct" || apart && tier == "storage";
                    if page.excused || shares && leaves {
                        reference.leaves_all(page.tab);
                    }
                }
            }
        }
        Ok(())
    }

    /// Records which features were refused to a script.
    pub(crate) fn see_refusals(&mut self, host: &Host) {
        let Special::Refuses(all) = self.plan.special else { return };
        for what in &host.faults.borrow().refused {
            self.seen.add(match (all.len(), *what) {
                (1, "locks") => Sight::RefusedLocks,
                (1, "storage") => Sight::RefusedStorage,
                (1, "channels") => Sight::RefusedChannels,
                (1, _) => Sight::RefusedWorkers,
                _ => Sight::RefusedAll,
            });
        }
    }

    fn is_no_storm(&mut self, at: (usize, u32), op: &Op) -> Checked {
        let deed = match op {
            Op::Dial { url, .. } if url.starts_with(WHO_URL) => Deed::Who,
            Op::Dial { protocols, .. } if protocols.starts_with(TICKET) => Deed::Ticket,
            Op::Dial { .. } => Deed::Dial,
            Op::Lock { .. } => Deed::Lock,
            Op::Broadcast { .. } => Deed::Channel,
            Op::Tell(told) if told.first().is_some_and(|it| it.text() == "status") => Deed::Status,
            _ => return Ok(()),
        };
        self.count(at, deed)
    }

    /// Counts an action of a page or a worker that may become a storm.
    pub(crate) fn count(&mut self, at: (usize, u32), deed: Deed) -> Checked {
        let now = self.now;
        match self.browsers[at.0].actors.get_mut(&at.1) {
            Some(actor) => actor.deeds.count(now, deed, at),
            None => Ok(()),
        }
    }

    /// Called when a page imports a script, or a worker fetches its module. Browsers do not import
    /// HTML, but pass it to a script that fetches it.
    fn import(&mut self, at: (usize, u32), id: u32) {
        let (after, arrives) = self.loads(at);
        let is_page = self.browsers[at.0].page(at.1).is_some();
        let delivery = match arrives {
            Arrives::Whole => Delivery::Module { at, id, html: false },
            Arrives::Html if !is_page => Delivery::Module { at, id, html: true },
            Arrives::Html | Arrives::Not => Delivery::NoModule { at, id },
        };
        self.put(self.now + after, delivery);
    }

    /// Returns how long a script takes that a page asked for, and how it arrives.
    pub(crate) fn loads(&mut self, at: (usize, u32)) -> (Duration, Arrives) {
        let (special, healed) = (self.plan.special, self.healed);
        let browser = &mut self.browsers[at.0];
        let usual = browser.rng.millis(0, browser.traits.load_ms);
        let unlucky = !healed && browser.rng.one_in(4);
        let (after, arrives) = match special {
            Special::SlowScripts if unlucky => {
                self.seen.add(Sight::SlowScript);
                (browser.rng.millis(1000, 60_000), Arrives::Whole)
            }
            Special::FailingScripts if unlucky && browser.rng.one_in(2) => {
                self.seen.add(Sight::HtmlScript);
                (usual, Arrives::Html)
            }
            Special::FailingScripts if unlucky => {
                self.seen.add(Sight::RefusedScript);
                (usual, Arrives::Not)
            }
            _ => (usual, Arrives::Whole),
        };
        if arrives != Arrives::Whole || after > PATIENCE {
            self.scripts_hang(at.0, self.now + after);
        }
        (after, arrives)
    }

    /// Arms a timer, which fires at a multiple of what the browser grants its page.
    fn arm(&mut self, at: (usize, u32), id: u32, after: f64) {
        let clock = self.browsers[at.0].clock(self.now).as_micros();
        let Some(actor) = self.browsers[at.0].actors.get_mut(&at.1) else { return };
        let throttle = actor.page().map_or(1, |page| page.throttle_ms) * 1000;
        #[expect(clippy::cast_sign_loss, clippy::cast_possible_truncation, reason = "saturates")]
        let wanted = clock + (after * 1000.0) as u64;
        let due = wanted.div_ceil(throttle) * throttle;
        if throttle == MINUTE_US && due > wanted {
            self.seen.add(Sight::Crawled);
        }
        actor.timers.insert(id, (due, wanted));
        let when = self.now + Duration::from_micros(due - clock);
        self.put(when, Delivery::Timer { at, id, due });
    }

    /// Makes a page visible. Its timers fire on time from now on, and overdue ones at once.
    pub(crate) fn look_at(&mut self, at: (usize, u32)) {
        let clock = self.browsers[at.0].clock(self.now).as_micros();
        if let Some(page) = self.browsers[at.0].page(at.1) {
            page.throttle_ms = 1;
        }
        let Some(actor) = self.browsers[at.0].actors.get_mut(&at.1) else { return };
        let mut timers = Vec::new();
        for (id, (due, wanted)) in &mut actor.timers {
            *due = (*wanted).max(clock);
            timers.push((*id, *due));
        }
        for (id, due) in timers {
            let when = self.now + Duration::from_micros(due - clock);
            self.put(when, Delivery::Timer { at, id, due });
        }
    }

    fn post(&mut self, at: (usize, u32), port: u32, data: String) {
        let browser = &mut self.browsers[at.0];
        let latency = browser.port_latency();
        let Some(from) = browser.ports.get_mut(&port) else { return };
        let (peer, when) = (from.peer, from.lane.arrival(self.now + latency));
        let Some(to) = browser.ports.get(&peer) else { return };
        let at = (at.0, to.owner);
        self.put(when, Delivery::OnPort { at, port: peer, data });
    }

    /// Called when a page wants a port to a shared worker. The worker is started if it does not
    /// run.
    fn shared_worker(&mut self, at: (usize, u32), worker: u32, place: Place, port: u32) -> Checked {
        let found = self.browsers[at.0].shared.get(&place).copied();
        let number = match found {
            Some(number) => number,
            None => self.start_shared(at, place)?,
        };
        let browser = &mut self.browsers[at.0];
        if let Some(Kind::Shared { owners, .. }) =
            browser.actors.get_mut(&number).map(|it| &mut it.kind)
        {
            owners.insert((at.1, worker));
        }
        self.excuse_other_builds((at.0, number));
        let browser = &mut self.browsers[at.0];
        let peer = browser.id();
        browser.ports.insert(port, Port { owner: at.1, peer, lane: Lane::default() });
        browser.ports.insert(peer, Port { owner: number, peer: port, lane: Lane::default() });
        // This task comes before all messages on the port.
        let task = Task { name: "connect", given: vec![Given::Number(peer.into())] };
        self.put(self.now, Delivery::Task { at: (at.0, number), task });
        // The worker may have stood still, with all its pages in the cache.
        self.settle((at.0, number));
        Ok(())
    }

    fn worker_of(&self, at: (usize, u32), worker: u32) -> Option<u32> {
        let its = |kind: &Kind| match kind {
            Kind::Dedicated { owner, worker: number } => (*owner, *number) == (at.1, worker),
            Kind::Page(_) | Kind::Shared { .. } => false,
        };
        let mut all = self.browsers[at.0].actors.iter();
        all.find(|(_, actor)| its(&actor.kind)).map(|(number, _)| *number)
    }

    fn post_to_worker(&mut self, at: (usize, u32), worker: u32, data: String) {
        let Some(number) = self.worker_of(at, worker) else { return };
        let latency = self.browsers[at.0].port_latency();
        let task = Task { name: "fromOwner", given: vec![Given::Text(data)] };
        self.send((at.0, number), latency, task);
    }

    fn post_to_owner(&mut self, at: (usize, u32), data: String) {
        let browser = &mut self.browsers[at.0];
        let latency = browser.port_latency();
        let Some(Kind::Dedicated { owner, worker }) =
            browser.actors.get(&at.1).map(|actor| &actor.kind)
        else {
            return;
        };
        let given = vec![Given::Number((*worker).into()), Given::Text(data)];
        let to = (at.0, *owner);
        self.send(to, latency, Task { name: "fromWorker", given });
    }

    fn broadcast(&mut self, at: (usize, u32), id: u32, data: &str) {
        let browser = &self.browsers[at.0];
        let Some((_, name)) = browser.channels.get(&id) else { return };
        let partition = browser.partition(at.1);
        let others = browser.channels.iter().filter(|(other, it)| {
            **other != id && it.1 == *name && browser.partition(it.0) == partition
        });
        let others = others.map(|(other, it)| (*other, it.0)).collect::<Vec<_>>();
        for (other, number) in others {
            let latency = self.browsers[at.0].port_latency();
            let given = vec![Given::Number(other.into()), Given::Text(data.to_owned())];
            self.send((at.0, number), latency, Task { name: "broadcast", given });
        }
    }

    /// Called when storage was changed. All other pages hear of it.
    fn stored(
        &mut self,
        at: (usize, u32),
        key: Option<String>,
        old: Option<String>,
        new: Option<String>,
    ) {
        self.left_claim(at, key.as_deref(), new.as_deref());
        if key.is_some() && old == new {
            return;
        }
        let browser = &self.browsers[at.0];
        let others = browser.pages().map(|(number, _)| number);
        let partition = browser.partition(at.1);
        let others = others.filter(|it| *it != at.1 && browser.partition(*it) == partition);
        for number in others.collect::<Vec<_>>() {
            let latency = self.browsers[at.0].port_latency();
            let given = [key.clone(), old.clone(), new.clone()].map(Given::Maybe);
            self.send((at.0, number), latency, Task::new("storage", given));
        }
    }

    /// Checks that a lock that was stolen is not stolen again soon, while the thief is there.
    fn may_steal(&mut self, at: (usize, u32), name: &str) -> Checked {
        let (now, browser) = (self.now, &mut self.browsers[at.0]);
        let area = browser.actors.get(&at.1).map_or(0, |actor| actor.area);
        let before = browser.thefts.insert((area, name.to_owned()), (now, at.1));
        let soon = before.is_some_and(|(when, thief)| {
            now.saturating_since(when) < SHY && browser.actors.contains_key(&thief)
        });
        let cleared = self.plan.special == Special::ClearedStorage;
        NoStorm.unless(!soon || cleared, || format!("{at:?} steals {name} again"))
    }

    fn lock(&mut self, at: (usize, u32), id: u32, name: &str, wish: Wish) {
        let Some(area) = self.browsers[at.0].actors.get(&at.1).map(|actor| actor.area) else {
            return;
        };
        let call = (Agent::Realm(at.1), id);
        let news = self.browsers[at.0].areas[area].locks.request(name, call, wish);
        self.tell_of_locks(at.0, area, news);
    }

    fn unlock(&mut self, at: (usize, u32), id: u32) {
        let Some(area) = self.browsers[at.0].actors.get(&at.1).map(|actor| actor.area) else {
            return;
        };
        let news = self.browsers[at.0].areas[area].locks.release((Agent::Realm(at.1), id));
        self.tell_of_locks(at.0, area, news);
    }

    /// Tells all agents whose request for a lock got a result.
    pub(crate) fn tell_of_locks(&mut self, browser: usize, area: usize, all: Vec<(Call, News)>) {
        for (call, news) in all {
            let latency = self.browsers[browser].rng.millis(0, 20);
            let Agent::Realm(number) = call.0 else { continue };
            let Some(actor) = self.browsers[browser].actors.get_mut(&number) else { continue };
            let when = actor.inbox.arrival(self.now + latency);
            self.put(when, Delivery::Lock { browser, area, call, news });
        }
    }

    pub(crate) fn lock_news(
        &mut self,
        browser: usize,
        _area: usize,
        (agent, id): Call,
        news: News,
    ) -> Checked {
        let Agent::Realm(number) = agent else {
            return Ok(());
        };
        let name = match news {
            News::Granted => "granted",
            News::Unavailable => "unavailable",
            News::Stolen => "stolen",
        };
        self.run_task((browser, number), &Task { name, given: vec![Given::Number(id.into())] })
    }

    /// Called when a module that a page asked for will not come.
    pub(crate) fn no_module(&mut self, at: (usize, u32), id: u32) -> Checked {
        let why = Given::Text("the module did not load".into());
        let given = vec![Given::Number(id.into()), Given::Flag(false), why];
        self.run_task(at, &Task { name: "settle", given })
    }

    /// Called when a module that a page asked for has arrived.
    pub(crate) fn module_is_there(&mut self, at: (usize, u32), id: u32, html: bool) -> Checked {
        let last = self.builds.len() - 1;
        let page = self.browsers[at.0].page(at.1);
        if page.is_none() {
            // The worker has fetched the bytes of its WebAssembly module.
            let head = Given::Text(if html { HTML } else { MAGIC }.into());
            let given = vec![Given::Number(id.into()), Given::Flag(true), head];
            return self.run_task(at, &Task { name: "settle", given });
        }
        // A page does not load again what it has loaded.
        let build = page.map_or(last, |page| {
            let build = *page.tiers.get_or_insert(last);
            if page.build != build {
                // The page refuses to work with another build, and says so.
                page.excused = true;
                self.seen.add(Sight::OtherTiers);
            }
            build
        });
        let scripts = Rc::clone(&self.builds[build]);
        let url = "https://sim/tabmux/tiers.js";
        self.enter(at, |realm| realm.imported(id, url, &scripts.tiers))
    }
}
