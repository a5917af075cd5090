//! The one loop: take the earliest delivery, call the real hub or registry, and put what comes
//! out of it back into the queue.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fmt::{self, Write},
    time::Duration,
};

use tabmux_core::{
    Timestamp, hub,
    session::SocketRef,
    wire::{HubId, SessionId, TabId},
};

use crate::{
    Summary,
    browser::Browser,
    invariant::{
        Checked,
        Invariant::{DeadTabsLeave, NoSpinning},
    },
    locks::{Agent, Grant, Request},
    network::Network,
    page::PageMessage,
    plan::{Kept, Plan},
    reference::Reference,
    rng::Rng,
    seen::Seen,
    server::Server,
    topics::Feed,
};

/// When the world begins.
pub(crate) const START: Timestamp = Timestamp::from_millis(1000);
/// More steps than any run takes, unless something goes round in circles.
const MAX_STEPS: u64 = 3_000_000;
/// How soon a hub that runs drops a dead tab: the grace of 500 ms, and what is under way.
pub(crate) const HUB_FORGETS: Duration = Duration::from_secs(2);
/// How soon the server does: a link that is half-open lives for 62.5 s, a session without a link
/// for 120 s, and a hub may just have come back to it.
pub(crate) const SERVER_FORGETS: Duration = Duration::from_secs(420);
/// How long a parked tab is kept.
const PARKED: Duration = Duration::from_secs(600);

/// Everything there is.
#[derive(Debug)]
pub struct World {
    pub(crate) now: Timestamp,
    /// Of what is luck at the server.
    pub(crate) rng: Rng,
    pub(crate) plan: Plan,
    pub(crate) browsers: Vec<Browser>,
    pub(crate) network: Network,
    /// `None` while it is down.
    pub(crate) server: Option<Server>,
    /// The number of the latest session of all servers so far.
    pub(crate) serial: u64,
    /// What was published so far.
    pub(crate) feed: Feed,
    /// What should be true of sockets.
    pub(crate) reference: Reference,
    /// The session that each claim is of, without what it says of a tab.
    pub(crate) claims: BTreeMap<String, SessionId>,
    /// Why hubs gave tabs up, until the server hears of it.
    pub(crate) given_up: BTreeMap<TabId, &'static str>,
    queue: BinaryHeap<Reverse<(Timestamp, u64)>>,
    deliveries: BTreeMap<u64, Delivery>,
    /// What waits for a page, a worker or a machine that does not run now.
    frozen: Vec<Delivery>,
    order: u64,
    log: Log,
}

/// Something that arrives somewhere.
#[derive(Clone, Debug)]
pub(crate) enum Delivery {
    /// The plan.
    Step(usize),
    ToHost {
        browser: usize,
        port: u64,
        message: PageMessage,
    },
    ToPage {
        browser: usize,
        port: u64,
        from: HubId,
        message: hub::HubMessage,
    },
    Granted {
        browser: usize,
        grant: Grant,
    },
    /// There are no locks: who asks for the link's has it.
    NoLock {
        browser: usize,
        host: u32,
        hub: HubId,
    },
    HubTimer {
        browser: usize,
        host: u32,
        hub: HubId,
    },
    /// There are no locks: a tab that has not attached by now is dead.
    Absent {
        browser: usize,
        host: u32,
        hub: HubId,
        tab: TabId,
    },
    /// A page looks for its hub again, unless it has done so since.
    Start {
        browser: usize,
        tab: TabId,
        port: Option<u64>,
    },
    /// This Attach of a page should have been answered by now.
    Unanswered {
        browser: usize,
        tab: TabId,
        attach: u64,
    },
    /// The application has dealt with a message.
    DealtWith {
        socket: SocketRef,
        cost: u64,
    },
    /// A dial reaches the server.
    Arrive {
        link: u64,
    },
    Opened {
        at: (usize, u32),
        link: u64,
    },
    Up {
        link: u64,
        bytes: Vec<u8>,
    },
    Down {
        at: (usize, u32),
        link: u64,
        bytes: Vec<u8>,
    },
    /// A link breaks, and both ends hear of it.
    Flap {
        link: u64,
    },
    ServerHears {
        link: u64,
    },
    HubHears {
        at: (usize, u32),
        link: (HubId, hub::AttemptId),
        code: u16,
        clean: bool,
    },
    ServerTimer,
    ServerUp,
    ServerDown,
    Wake {
        browser: usize,
    },
    /// A worker freezes, or dies, if it should.
    Settle {
        browser: usize,
        host: u32,
    },
    /// A stranger lets go of a lock.
    GiveBack {
        browser: usize,
        request: Request,
    },
    /// By now the hubs that run have noticed that a tab died.
    HubForgot {
        browser: usize,
        tab: TabId,
    },
    /// By now the server has.
    ServerForgot {
        tab: TabId,
    },
}

/// The log of events, as its hash.
#[derive(Debug)]
struct Log {
    steps: u64,
    hash: u64,
    trace: bool,
}

impl World {
    /// The world of a seed, in which nothing has happened.
    pub fn new(seed: u64, kept: &Kept, trace: bool) -> Self {
        let mut plan = Plan::draw(seed, START);
        plan.keep(kept);
        let part = |at: usize| Rng::of_part(seed, at as u64 + 1);
        let browsers = plan.browsers.iter().enumerate();
        Self {
            now: START,
            rng: Rng::of_part(seed, 0),
            browsers: browsers.map(|(at, traits)| Browser::new(*traits, part(at))).collect(),
            network: Network::default(),
            server: Some(Server::new(START, 0, 64)),
            serial: 0,
            feed: Feed::default(),
            reference: Reference::default(),
            claims: BTreeMap::new(),
            given_up: BTreeMap::new(),
            queue: BinaryHeap::new(),
            deliveries: BTreeMap::new(),
            frozen: Vec::new(),
            order: 0,
            log: Log { steps: 0, hash: 0xcbf2_9ce4_8422_2325, trace },
            plan,
        }
    }

    /// Runs both phases.
    ///
    /// # Errors
    /// The first invariant that was broken.
    pub fn run(&mut self) -> Checked {
        for at in 0..self.plan.steps.len() {
            self.put(self.plan.steps[at].at, Delivery::Step(at));
        }
        let end = self.plan.steps.last().map_or(START, |step| step.at);
        self.pass(end.saturating_since(self.now))?;
        self.converge()
    }

    /// What the run was.
    pub fn summary(&self) -> Summary {
        Summary {
            steps: self.log.steps,
            hash: self.log.hash,
            heard: self.reference.heard,
            seen: Seen::default(),
        }
    }

    /// Delivers all that arrives within a span.
    pub(crate) fn pass(&mut self, span: Duration) -> Checked {
        let end = self.now + span;
        while let Some(Reverse((at, order))) = self.queue.peek().copied().filter(|it| it.0.0 <= end)
        {
            self.queue.pop();
            self.now = at;
            let Some(delivery) = self.deliveries.remove(&order) else {
                continue;
            };
            NoSpinning.unless(self.log.steps < MAX_STEPS, || "the run does not end".to_owned())?;
            self.deliver_or_wait(delivery)?;
        }
        self.now = end;
        Ok(())
    }

    fn deliver_or_wait(&mut self, delivery: Delivery) -> Checked {
        let agent = delivery.agent(&self.browsers);
        if agent.is_some_and(|(browser, agent)| self.browsers[browser].is_frozen(agent)) {
            self.frozen.push(delivery);
            return Ok(());
        }
        self.log(&delivery);
        self.deliver(delivery)
    }

    /// What waits for a worker that does not run is never read.
    pub(crate) fn forget_unread(&mut self, at: usize, host: u32) {
        let browsers = &self.browsers;
        self.frozen.retain(|it| it.agent(browsers) != Some((at, Agent::Host(host))));
    }

    /// What waited is delivered to all that run again.
    pub(crate) fn thaw(&mut self) -> Checked {
        for delivery in std::mem::take(&mut self.frozen) {
            self.deliver_or_wait(delivery)?;
        }
        Ok(())
    }

    pub(crate) fn put(&mut self, at: Timestamp, delivery: Delivery) {
        self.order += 1;
        self.queue.push(Reverse((at, self.order)));
        self.deliveries.insert(self.order, delivery);
    }

    pub(crate) fn log(&mut self, what: &impl fmt::Debug) {
        self.log.steps += 1;
        if self.log.trace {
            println!("{} {}us {what:?}", self.log.steps, self.now.as_micros());
        }
        // Writing to a hash cannot fail.
        let _ = write!(self.log, "{} {what:?}", self.now.as_micros());
    }

    fn deliver(&mut self, delivery: Delivery) -> Checked {
        match delivery {
            Delivery::Step(at) => self.step(at),
            Delivery::ToHost { browser, port, message } => {
                self.host_receives(browser, port, &message)
            }
            Delivery::ToPage { browser, port, from, message } => {
                self.page_receives(browser, port, from, &message)
            }
            Delivery::Granted { browser, grant } => self.granted(browser, grant),
            Delivery::NoLock { browser, host, hub } => {
                self.hub_input((browser, host), hub, hub::Input::LinkLockGranted)
            }
            Delivery::Absent { browser, host, hub, tab } => self.absent(browser, host, hub, tab),
            Delivery::HubTimer { browser, host, hub } => self.hub_timer((browser, host), hub),
            Delivery::Start { browser, tab, port } => self.page_starts(browser, tab, port),
            Delivery::Unanswered { browser, tab, attach } => {
                self.page_unanswered(browser, tab, attach);
                Ok(())
            }
            Delivery::Arrive { link } => self.arrive(link),
            Delivery::Opened { link, .. } => self.opened(link),
            Delivery::Up { link, bytes } => self.up(link, &bytes),
            Delivery::Down { link, bytes, .. } => self.down(link, &bytes),
            Delivery::Flap { link } => {
                self.flap(link);
                Ok(())
            }
            Delivery::ServerHears { link } => self.server_hears(link),
            Delivery::HubHears { at, link, code, clean } => self.hub_hears(at, link, code, clean),
            Delivery::DealtWith { socket, cost } => self.dealt_with(socket, cost),
            Delivery::ServerTimer => self.server_timer(),
            Delivery::ServerUp => {
                if self.server.is_none() {
                    self.server = Some(Server::new(self.now, self.serial, 64));
                }
                Ok(())
            }
            Delivery::ServerDown => self.server_down(true),
            Delivery::Wake { browser } => self.wake(browser),
            Delivery::Settle { browser, host } => self.settle_host(browser, host),
            Delivery::GiveBack { browser, request } => {
                self.browsers[browser].locks.release(request);
                self.pump_locks(browser);
                Ok(())
            }
            Delivery::HubForgot { browser, tab } => self.hub_forgot(browser, tab),
            Delivery::ServerForgot { tab } => {
                let Some(server) = &mut self.server else {
                    return Ok(());
                };
                server.forget_blank(self.now, &mut self.reference);
                match server.knows(tab) {
                    None => Ok(()),
                    // It was there again, and its hub died with it and told nobody. The next one
                    // keeps it as long as any that is parked; at rest, none is left.
                    Some(true) => {
                        self.put(self.now + PARKED, Delivery::ServerForgot { tab });
                        Ok(())
                    }
                    Some(false) => DeadTabsLeave.broken(format!("the server still has {tab}")),
                }
            }
        }
    }

    fn hub_forgot(&mut self, at: usize, tab: TabId) -> Checked {
        let browser = &self.browsers[at];
        let late = |since: Timestamp| self.now.saturating_since(since) >= HUB_FORGETS;
        let mut again = browser.asleep || !late(browser.woke);
        for (number, host) in &browser.hosts {
            let Some(run) = host.run.as_ref().filter(|run| run.view.knows(tab)) else {
                continue;
            };
            // It had less time, if it did not run all the while.
            if browser.asleep || host.frozen || !late(browser.woke) || !late(host.ran_since) {
                again = true;
                continue;
            }
            // It came back, and died before it could say so.
            if run.view.is_parked(tab) {
                self.put(self.now + PARKED, Delivery::HubForgot { browser: at, tab });
                return Ok(());
            }
            // What it said on an earlier port came after its Bye. Without locks a worker asks its
            // tabs now and then (`pulse.ts`): one that does not answer has said Bye.
            let port = host.known.get(&tab).filter(|_| !browser.traits.locks).copied();
            if let Some(port) = port {
                return self.host_receives(at, port, &PageMessage::Bye);
            }
            return DeadTabsLeave.broken(format!("hub {} in {number} still has {tab}", run.id));
        }
        if again {
            self.put(self.now + HUB_FORGETS, Delivery::HubForgot { browser: at, tab });
        }
        Ok(())
    }
}

impl Delivery {
    /// The page or the worker it arrives at, if it is one.
    fn agent(&self, browsers: &[Browser]) -> Option<(usize, Agent)> {
        let of_port = |browser: usize, port: &u64| browsers.get(browser)?.ports.get(port);
        match self {
            Self::ToHost { browser, port, .. } => {
                Some((*browser, Agent::Host(of_port(*browser, port)?.host)))
            }
            Self::ToPage { browser, port, .. } => {
                Some((*browser, Agent::Tab(of_port(*browser, port)?.tab)))
            }
            Self::Granted { browser, grant } => Some((*browser, grant.to)),
            Self::NoLock { browser, host, .. }
            | Self::Absent { browser, host, .. }
            | Self::HubTimer { browser, host, .. } => Some((*browser, Agent::Host(*host))),
            Self::Start { browser, tab, .. } | Self::Unanswered { browser, tab, .. } => {
                Some((*browser, Agent::Tab(*tab)))
            }
            Self::Opened { at: (browser, host), .. }
            | Self::Down { at: (browser, host), .. }
            | Self::HubHears { at: (browser, host), .. } => Some((*browser, Agent::Host(*host))),
            _ => None,
        }
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
