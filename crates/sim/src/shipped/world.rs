//! The main loop. It takes the earliest delivery, runs the shipped script or the real registry, and
//! puts the results back into the queue.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
    fmt::{self, Write},
    rc::Rc,
    time::Duration,
};

use tabmux_core::{
    Timestamp,
    session::SocketRef,
    wire::{HubId, Resume, SessionId, TabId},
};

use super::{
    browser::{Area, Browser, Identity, Life},
    hubs::HubRecord,
    links::Network,
    locks::{Call, News},
    message::Message,
    plain::Plain,
    plan::{Plan, START, Special},
    storm::Deed,
    views::Mode,
    waits::Wanted,
};
use crate::{
    Summary,
    engine::{
        op::Op,
        realm::{Engine, Given, Realm},
        scripts::Scripts,
    },
    invariant::{
        Checked,
        Invariant::{NoSpinning, Panic},
    },
    plan::Kept,
    reference::Reference,
    rng::Rng,
    seen::{Seen, Sight},
    server::Server,
    topics::Feed,
};

/// A tab that attaches more often than this in a minute moves between two hubs. Failures say so.
const MANY_ATTACHES: u32 = 12;
/// The kind of the message by which a hub says that a tab is attached.
const ATTACHED: &str = "11";
/// The kind of the message by which a hub sends a tab to the hub of another user.
const ELSEWHERE: &str = "27";
/// The beginning of a list of several messages that a port carries together.
const SEVERAL: &str = "[93,[";
/// More steps than any run takes, unless it repeats something for ever.
const MAX_STEPS: u64 = 250_000;
/// Steps that leases, beats and heartbeats of three browsers may add in each second.
const STEPS_A_SECOND: u64 = 200;

/// The whole simulated world.
pub struct World {
    pub(crate) now: Timestamp,
    /// The generator of everything that is random at the server.
    pub(crate) rng: Rng,
    pub(crate) plan: Plan,
    pub(crate) engine: Engine,
    /// All builds so far. Scripts that are loaded now are of the last.
    pub(crate) builds: Vec<Rc<Scripts>>,
    pub(crate) browsers: Vec<Browser>,
    pub(crate) network: Network,
    /// The tabmux server, or `None` while it is down.
    pub(crate) server: Option<Server>,
    /// The server that knows nothing of tabmux.
    pub(crate) plain: Plain,
    /// The number of the latest session of all servers so far.
    pub(crate) serial: u64,
    /// The publications of all topics so far.
    pub(crate) feed: Feed,
    /// The model of all virtual sockets.
    pub(crate) reference: Reference,
    /// The sessions that each tab was ever part of, as the server knows them.
    pub(crate) parts: BTreeSet<(TabId, SessionId)>,
    /// The user of each session.
    pub(crate) owners: BTreeMap<SessionId, Option<Identity>>,
    /// Sessions of users who have left a browser, or who left it once.
    pub(crate) disowned: BTreeSet<(usize, SessionId)>,
    /// The session of each claim. The claim is kept without its part about the tab.
    pub(crate) claims: BTreeMap<String, SessionId>,
    /// The oracle of each hub.
    pub(crate) hubs: BTreeMap<HubId, HubRecord>,
    /// The latest claim of each session, and the browser that holds it.
    pub(crate) resumes: BTreeMap<SessionId, (Resume, usize)>,
    /// True if all faults are over.
    pub(crate) healed: bool,
    /// The faults that the run saw.
    pub(crate) seen: Seen,
    /// The port on which a worker hears a message just now.
    pub(crate) hears_on: Option<u32>,
    /// The port through which each tab last attached to each hub.
    pub(crate) attached_on: BTreeMap<(HubId, TabId), u32>,
    /// The hub whose message a page hears just now, and the step.
    pub(crate) speaks: Option<(HubId, u64)>,
    /// Reasons why hubs gave tabs up, until the server hears of it.
    pub(crate) given_up: BTreeMap<TabId, &'static str>,
    queue: BinaryHeap<Reverse<(Timestamp, u64)>>,
    deliveries: BTreeMap<u64, Delivery>,
    order: u64,
    log: Log,
}

/// A task of a page or a worker.
#[derive(Clone, Debug)]
pub struct Task {
    /// The name of the task in `browser.js`.
    pub name: &'static str,
    /// The arguments of the task.
    pub given: Vec<Given>,
}

/// Something that arrives at a certain time.
#[expect(missing_docs, reason = "the fields say where, and with what")]
#[derive(Clone, Debug)]
pub enum Delivery {
    /// A transition of the plan is due.
    Step(usize),
    /// A task for a page or a worker.
    Task { at: (usize, u32), task: Task },
    /// A message came on a port. It is dropped if the port has gone.
    OnPort { at: (usize, u32), port: u32, data: String },
    /// A timer is due, by the clock of its machine.
    Timer { at: (usize, u32), id: u32, due: u64 },
    /// The script of a worker has arrived.
    Script { at: (usize, u32) },
    /// The script of a worker will not come.
    NoScript { at: (usize, u32) },
    /// A module that a page asked for will not come.
    NoModule { at: (usize, u32), id: u32 },
    /// A module that a page asked for has arrived, or HTML in the place of a worker's module.
    Module { at: (usize, u32), id: u32, html: bool },
    /// The result of a request for a lock.
    Lock { browser: usize, area: usize, call: Call, news: News },
    /// A dial reaches the server.
    Arrive { link: u64 },
    /// A browser has waited long enough for the answer to a dial.
    DialIsOver { link: u64, at: (usize, u32) },
    /// The link is open.
    Opened { link: u64, at: (usize, u32) },
    /// A message reaches the server.
    Up { link: u64, message: Message },
    /// A message reaches the worker.
    Down { link: u64, at: (usize, u32), message: Message },
    /// A link breaks, and both ends hear of it.
    Flap { link: u64 },
    /// A worker dies, and some of its messages are lost.
    Crash { worker: (usize, u32), dice: u64 },
    /// The server hears that a link is closed.
    ServerHears { link: u64 },
    /// The worker hears that a link is closed.
    WorkerHears { link: u64, at: (usize, u32), code: u16, clean: bool },
    /// The application has dealt with a message.
    DealtWith { socket: SocketRef, cost: u64 },
    /// A timeout of the registry is due.
    ServerTimer,
    /// The server runs again.
    ServerUp,
    /// The tabmux server stops.
    ServerDown,
    /// A machine wakes from sleep.
    Wake { browser: usize },
    /// A page is no longer blocked.
    Unblock { at: (usize, u32) },
    /// A plain server answers a dial.
    PlainAnswers { link: u64 },
    /// A plain socket beside this view would have been open for a while.
    Beside { at: (usize, u32), view: u32 },
    /// What a page asked for must be there by now.
    Bounded { at: (usize, u32), what: Wanted },
    /// An application opens another view for one that is closed.
    Reopen { at: (usize, u32), mode: Mode, feed: u64 },
    /// A worker freezes or dies, if it should.
    Settle { at: (usize, u32) },
    /// A stranger releases a lock.
    GiveBack { browser: usize, area: usize, call: Call },
    /// The server has forgotten a tab that died by now.
    ServerForgot { tab: TabId },
}

/// The log of events. Only its hash is kept.
#[derive(Debug)]
struct Log {
    steps: u64,
    hash: u64,
    trace: bool,
}

impl World {
    /// Returns the world of a seed, in which nothing has happened.
    pub fn new(seed: u64, kept: &Kept, trace: bool, scripts: Rc<Scripts>) -> Self {
        let mut plan = Plan::draw(seed, START);
        plan.keep(kept);
        let part = |at: usize| Rng::of_part(seed, at as u64 + 1);
        let browsers = plan.browsers.iter().enumerate();
        let browsers = browsers.map(|(at, traits)| Browser::new(*traits, part(at)));
        let mut browsers = browsers.collect::<Vec<_>>();
        if plan.special == Special::Frames {
            let frame = || Area { partition: 1, ..Area::default() };
            browsers.iter_mut().for_each(|browser| browser.areas.push(frame()));
        }
        Self {
            now: START,
            rng: Rng::of_part(seed, 0),
            engine: Engine::new().unwrap_or_else(|error| panic!("no engine: {error}")),
            builds: vec![scripts],
            browsers,
            network: Network::default(),
            server: Some(Server::new(START, 0, plan.limits(), plan.names_users())),
            plain: Plain::default(),
            serial: 0,
            feed: Feed::default(),
            reference: Reference::default(),
            parts: BTreeSet::new(),
            owners: BTreeMap::new(),
            disowned: BTreeSet::new(),
            claims: BTreeMap::new(),
            hubs: BTreeMap::new(),
            resumes: BTreeMap::new(),
            healed: false,
            seen: Seen::default(),
            hears_on: None,
            speaks: None,
            attached_on: BTreeMap::new(),
            given_up: BTreeMap::new(),
            queue: BinaryHeap::new(),
            deliveries: BTreeMap::new(),
            order: 0,
            log: Log { steps: 0, hash: 0xcbf2_9ce4_8422_2325, trace },
            plan,
        }
    }

    /// Runs both phases.
    ///
    /// # Errors
    /// Returns the first invariant that was broken.
    pub fn run(&mut self) -> Checked {
        for at in 0..self.plan.steps.len() {
            self.put(self.plan.steps[at].at, Delivery::Step(at));
        }
        let end = self.plan.steps.last().map_or(START, |step| step.at);
        let ran = self.pass(end.saturating_since(self.now)).and_then(|()| self.converge());
        let special = self.plan.special;
        let actors = self.browsers.iter().flat_map(|browser| browser.actors.values());
        let attaches = actors.map(|actor| actor.deeds.of(Deed::Attach)).max().unwrap_or_default();
        ran.map_err(|mut broken| {
            if special != Special::None {
                broken.what = format!("{} [{special:?}]", broken.what);
            }
            if attaches > MANY_ATTACHES {
                broken.what = format!("{} [a tab attached {attaches} times]", broken.what);
            }
            broken
        })
    }

    /// Returns the result of the run.
    pub const fn summary(&self) -> Summary {
        let Log { steps, hash, .. } = self.log;
        Summary { steps, hash, heard: self.reference.heard, seen: self.seen }
    }

    /// Delivers everything that arrives within a span.
    pub(crate) fn pass(&mut self, span: Duration) -> Checked {
        let end = self.now + span;
        while let Some(Reverse((at, order))) = self.queue.peek().copied().filter(|it| it.0.0 <= end)
        {
            self.queue.pop();
            self.now = at;
            let Some(delivery) = self.deliveries.remove(&order) else {
                continue;
            };
            let seconds = self.now.saturating_since(START).as_secs();
            let limit = MAX_STEPS + seconds * STEPS_A_SECOND;
            NoSpinning.unless(self.log.steps < limit, || "the run does not end".to_owned())?;
            self.deliver_or_wait(delivery)?;
        }
        self.now = end;
        Ok(())
    }

    fn deliver_or_wait(&mut self, delivery: Delivery) -> Checked {
        if let Some((browser, number)) = delivery.actor() {
            let browser = &mut self.browsers[browser];
            let loads = matches!(delivery, Delivery::Script { .. });
            let stopped = browser.asleep || !loads && browser.is_stopped(number);
            let Some(actor) = browser.actors.get_mut(&number) else {
                return Ok(());
            };
            if stopped {
                actor.waiting.push(delivery);
                return Ok(());
            }
        }
        self.log(&delivery);
        self.deliver(delivery)
    }

    /// Delivers what waited for a page or a worker, if it runs.
    pub(crate) fn thaw(&mut self, browser: usize, number: u32) {
        if self.browsers[browser].asleep {
            return;
        }
        let Some(actor) = self.browsers[browser].actors.get_mut(&number) else { return };
        for delivery in std::mem::take(&mut actor.waiting) {
            self.put(self.now, delivery);
        }
    }

    pub(crate) fn put(&mut self, at: Timestamp, delivery: Delivery) {
        self.order += 1;
        self.queue.push(Reverse((at, self.order)));
        self.deliveries.insert(self.order, delivery);
    }

    /// Drops deliveries after a moment for which `is` returns true.
    pub(crate) fn drop_after(&mut self, until: Timestamp, is: impl Fn(&Delivery) -> bool) {
        for Reverse((_, order)) in self.queue.iter().filter(|it| it.0.0 > until) {
            if self.deliveries.get(order).is_some_and(&is) {
                self.deliveries.remove(order);
                self.seen.add(Sight::LostOnPort);
            }
        }
    }

    pub(crate) fn log(&mut self, what: &impl fmt::Debug) {
        self.log.steps += 1;
        if self.log.trace {
            println!("{} {}us {what:?}", self.log.steps, self.now.as_micros());
        }
        // Writing to a hash cannot fail.
        let _ = write!(self.log, "{} {what:?}", self.now.as_micros());
    }

    /// Puts a task into the inbox of a page or a worker, behind what is there.
    pub(crate) fn send(&mut self, at: (usize, u32), latency: Duration, task: Task) {
        if let Some(actor) = self.browsers[at.0].actors.get_mut(&at.1) {
            let when = actor.inbox.arrival(self.now + latency);
            self.put(when, Delivery::Task { at, task });
        }
    }

    /// Runs something in a realm, and carries out what the scripts asked for.
    pub(crate) fn enter(
        &mut self,
        at: (usize, u32),
        work: impl FnOnce(&Realm) -> Vec<Op>,
    ) -> Checked {
        let browser = &self.browsers[at.0];
        let Some(actor) = browser.actors.get(&at.1) else {
            return Ok(());
        };
        let host = Rc::clone(&actor.realm.host);
        host.clock.set(browser.clock(self.now).as_micros());
        host.online.set(browser.offline_since.is_none());
        let ops = work(&actor.realm);
        Panic.unless(!host.has_panicked(), || "a hub; its message is above".to_owned())?;
        let mut notes = Vec::new();
        for hub in host.hubs.borrow_mut().values_mut() {
            hub.take_broken()?;
            let which = (hub.id(), hub.is_mux());
            notes.extend(hub.take_notes().into_iter().map(|note| (which, note)));
        }
        for (hub, note) in notes {
            self.log(&note);
            self.noted(at, hub, note)?;
        }
        if matches!(self.plan.special, Special::Refuses(_)) {
            self.see_refusals(&host);
        }
        for op in ops {
            self.log(&op);
            self.carry_out(at, op)?;
        }
        Ok(())
    }

    /// Runs a task of a page or a worker at once.
    pub(crate) fn run_task(&mut self, at: (usize, u32), task: &Task) -> Checked {
        let before = self.speaks.take();
        self.hears_hub(at, task);
        let ran = self.enter(at, |realm| realm.deliver(task.name, &task.given));
        self.speaks = before;
        ran
    }

    /// Called when a page hears a message of a hub.
    fn hears_hub(&mut self, at: (usize, u32), task: &Task) {
        let step = self.log.steps;
        let Some(page) = self.browsers[at.0].page(at.1) else { return };
        let Some((hub, is_attached)) = task.speaker(page.tag) else { return };
        if is_attached {
            page.attached.insert(hub, step);
        }
        self.speaks = Some((hub, step));
    }

    fn deliver(&mut self, delivery: Delivery) -> Checked {
        match delivery {
            Delivery::Step(at) => self.step(at),
            Delivery::Task { at, task } => self.run_task(at, &task),
            Delivery::OnPort { at, port, data } => self.on_port(at, port, data),
            Delivery::Timer { at, id, due } => self.timer(at, id, due),
            Delivery::Script { at } => self.script_is_there(at),
            Delivery::NoScript { at } => self.no_script(at),
            Delivery::NoModule { at, id } => self.no_module(at, id),
            Delivery::Module { at, id, html } => self.module_is_there(at, id, html),
            Delivery::Lock { browser, area, call, news } => {
                self.lock_news(browser, area, call, news)
            }
            Delivery::Arrive { link } => self.arrive(link),
            Delivery::DialIsOver { link, at } => self.dial_is_over(link, at),
            Delivery::Opened { link, .. } => self.opened(link),
            Delivery::Up { link, message } => self.up(link, &message),
            Delivery::Down { link, message, .. } => self.down(link, &message),
            Delivery::Flap { link } => {
                self.flap(link);
                Ok(())
            }
            Delivery::Crash { worker, dice } => {
                self.crash(worker, &mut Rng::new(dice));
                Ok(())
            }
            Delivery::ServerHears { link } => self.server_hears(link),
            Delivery::WorkerHears { link, at, code, clean } => {
                self.worker_hears(link, at, code, clean)
            }
            Delivery::DealtWith { socket, cost } => self.dealt_with(socket, cost),
            Delivery::ServerTimer => self.server_timer(),
            Delivery::ServerUp => {
                if self.server.is_none() {
                    let (limits, users) = (self.plan.limits(), self.plan.names_users());
                    self.server = Some(Server::new(self.now, self.serial, limits, users));
                }
                Ok(())
            }
            Delivery::ServerDown => self.server_down(true),
            Delivery::Wake { browser } => {
                self.wake(browser);
                Ok(())
            }
            Delivery::Unblock { at } => {
                self.unblock(at);
                Ok(())
            }
            Delivery::Settle { at } => {
                self.settle(at);
                Ok(())
            }
            Delivery::GiveBack { browser, area, call } => {
                let news = self.browsers[browser].areas[area].locks.release(call);
                self.tell_of_locks(browser, area, news);
                Ok(())
            }
            Delivery::ServerForgot { tab } => self.server_forgot(tab),
            Delivery::PlainAnswers { link } => {
                self.plain_answers(link);
                Ok(())
            }
            Delivery::Beside { at, view } => self.beside(at, view),
            Delivery::Bounded { at, what } => self.bounded(at, what),
            Delivery::Reopen { at, mode, feed } if !self.healed => self.view_opens(at, mode, feed),
            Delivery::Reopen { .. } => Ok(()),
        }
    }

    /// Called when a message came on a port.
    fn on_port(&mut self, at: (usize, u32), port: u32, data: String) -> Checked {
        let given = vec![Given::Number(port.into()), Given::Text(data)];
        self.hears_on = Some(port);
        let ran = self.run_task(at, &Task { name: "message", given });
        self.hears_on = None;
        ran
    }

    /// Called when a timer is due, or was due when its machine began to sleep.
    fn timer(&mut self, at: (usize, u32), id: u32, due: u64) -> Checked {
        let clock = self.browsers[at.0].clock(self.now).as_micros();
        let Some(actor) = self.browsers[at.0].actors.get_mut(&at.1) else {
            return Ok(());
        };
        if actor.timers.get(&id).map(|it| it.0) != Some(due) {
            return Ok(());
        }
        if due > clock {
            let when = self.now + Duration::from_micros(due - clock);
            self.put(when, Delivery::Timer { at, id, due });
            return Ok(());
        }
        actor.timers.remove(&id);
        self.run_task(at, &Task { name: "timer", given: vec![Given::Number(id.into())] })
    }

    /// Wakes a machine from sleep.
    fn wake(&mut self, at: usize) {
        self.browsers[at].asleep = false;
        self.browsers[at].woke = self.now;
        for number in self.browsers[at].actors.keys().copied().collect::<Vec<_>>() {
            if matches!(self.browsers[at].actors[&number].life, Life::Awake | Life::Loading) {
                self.thaw(at, number);
            }
        }
    }
}

impl Delivery {
    /// Returns the page or the worker at which the delivery arrives, if it arrives at one.
    const fn actor(&self) -> Option<(usize, u32)> {
        match self {
            Self::Task { at, .. }
            | Self::OnPort { at, .. }
            | Self::Timer { at, .. }
            | Self::Script { at }
            | Self::NoModule { at, .. }
            | Self::Module { at, .. }
            | Self::DialIsOver { at, .. }
            | Self::Opened { at, .. }
            | Self::Down { at, .. }
            | Self::Beside { at, .. }
            | Self::Bounded { at, .. }
            | Self::Reopen { at, .. }
            | Self::WorkerHears { at, .. } => Some(*at),
            Self::Lock { browser, call: (super::locks::Agent::Realm(number), _), .. } => {
                Some((*browser, *number))
            }
            Self::Lock { .. }
            | Self::Step(_)
            | Self::NoScript { .. }
            | Self::Arrive { .. }
            | Self::Up { .. }
            | Self::Flap { .. }
            | Self::Crash { .. }
            | Self::ServerHears { .. }
            | Self::DealtWith { .. }
            | Self::ServerTimer
            | Self::ServerUp
            | Self::ServerDown
            | Self::Wake { .. }
            | Self::Unblock { .. }
            | Self::PlainAnswers { .. }
            | Self::Settle { .. }
            | Self::GiveBack { .. }
            | Self::ServerForgot { .. } => None,
        }
    }
}

impl Task {
    /// Returns a task with these arguments.
    pub fn new(name: &'static str, given: impl IntoIterator<Item = Given>) -> Self {
        Self { name, given: given.into_iter().collect() }
    }

    /// Returns the hub that posts this to a page with this tag, other than by storage, and whether
    /// the page is attached. A hub that sends the page elsewhere says nothing of a session.
    fn speaker(&self, tag: u32) -> Option<(HubId, bool)> {
        let ("message" | "broadcast" | "fromWorker", Some(Given::Text(data))) =
            (self.name, self.given.get(1))
        else {
            return None;
        };
        // On the bus, the tabs that the message is for come first.
        let said = match data.strip_prefix("[[") {
            Some(frame) => {
                let (tabs, said) = frame.split_once("],")?;
                tabs.contains(&format!("\"n{tag:x}")).then_some(said)?
            }
            None => data,
        };
        // Several messages that a port carries together all come from one hub.
        let said = said.strip_prefix(SEVERAL).unwrap_or(said);
        // The last field in a frame of the bus is the name of the host, not of a hub.
        let is_kind = |(_, kind): (&str, &str)| kind.parse::<u8>().is_ok();
        let is_hub = |(at, _): &(usize, &str)| said[..*at].rsplit_once('[').is_some_and(is_kind);
        let (at, mark) = said.match_indices(",\"n").find(is_hub)?;
        let (name, _) = said[at + mark.len()..].split_once('"')?;
        let hub = u64::from_str_radix(name, 16).ok()?;
        let says = |kind: &str| said.contains(&format!("[{kind},\"n{name}\""));
        (!says(ELSEWHERE)).then(|| (HubId(hub), says(ATTACHED)))
    }
}

impl Write for Log {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.hash = (self.hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        Ok(())
    }
}
