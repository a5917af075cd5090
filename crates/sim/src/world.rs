//! The one loop: take the earliest delivery, call the real hub or registry, and put what comes
//! out of it back into the queue.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BinaryHeap},
    fmt::{self, Write},
    time::Duration,
};

use tabmux_core::{
    OwnedPayload, Timestamp, hub, session,
    session::LinkId,
    wire::{HubId, Payload, TabId},
};

use crate::{
    Summary,
    browser::{Browser, Granted, PageMessage},
    network::Network,
    oracle::{Checked, receive},
    rng::Rng,
    server::Server,
    topics::Feed,
    transition::Weights,
};

/// Browsers, each with one hub.
pub const BROWSERS: usize = 10;
/// More steps than any run takes, unless something goes round in circles.
const MAX_STEPS: u64 = 1_000_000;

/// Everything there is.
#[derive(Debug)]
pub struct World {
    pub(crate) now: Timestamp,
    pub(crate) rng: Rng,
    pub(crate) browsers: Vec<Browser>,
    pub(crate) network: Network,
    /// `None` while it is down.
    pub(crate) server: Option<Server>,
    /// The number of the latest session of all servers so far.
    pub(crate) serial: u64,
    /// What was published so far.
    pub(crate) feed: Feed,
    pub(crate) weights: Weights,
    /// Whether things go wrong.
    pub(crate) faults: bool,
    queue: BinaryHeap<Reverse<(Timestamp, u64)>>,
    deliveries: BTreeMap<u64, Delivery>,
    /// What waits for a machine that sleeps.
    frozen: Vec<(usize, Delivery)>,
    order: u64,
    echoes: u64,
    log: Log,
}

/// Something that arrives somewhere.
#[derive(Clone, Debug)]
pub(crate) enum Delivery {
    ToHub {
        browser: usize,
        tab: TabId,
        message: PageMessage,
    },
    ToPage {
        browser: usize,
        tab: TabId,
        message: hub::HubMessage,
    },
    TabLock {
        browser: usize,
        tab: TabId,
        to: Granted,
    },
    LinkLock {
        browser: usize,
        request: u64,
    },
    HubTimer {
        browser: usize,
    },
    /// A dial reaches the server.
    Arrive {
        link: u64,
    },
    Opened {
        browser: usize,
        link: u64,
    },
    Up {
        link: u64,
        bytes: Vec<u8>,
    },
    Down {
        browser: usize,
        link: u64,
        bytes: Vec<u8>,
    },
    ServerHears {
        link: u64,
    },
    HubHears {
        browser: usize,
        attempt: hub::AttemptId,
        code: u16,
        clean: bool,
    },
    ServerTimer,
    ServerUp,
    Wake {
        browser: usize,
    },
    /// Something happens to the world.
    Chance,
    /// By now the hub has noticed that a tab died.
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
    pub fn new(seed: u64, trace: bool) -> Self {
        let mut rng = Rng::new(seed);
        let now = Timestamp::from_millis(1000);
        let browser = |_| Browser::new(HubId(rng.next()), rng.next());
        Self {
            now,
            browsers: (0..BROWSERS).map(browser).collect(),
            network: Network::default(),
            server: Some(Server::new(now, 0)),
            serial: 0,
            feed: Feed::default(),
            weights: Weights::draw(&mut rng),
            faults: true,
            queue: BinaryHeap::new(),
            deliveries: BTreeMap::new(),
            frozen: Vec::new(),
            order: 0,
            echoes: 0,
            log: Log { steps: 0, hash: 0xcbf2_9ce4_8422_2325, trace },
            rng,
        }
    }

    /// Runs both phases.
    ///
    /// # Errors
    /// The first invariant that was broken.
    pub fn run(&mut self) -> Checked {
        for _ in 0..crate::transition::COUNT {
            let pause = self.rng.millis(0, 1500);
            self.put(self.now + pause, Delivery::Chance);
            self.pass(pause)?;
        }
        self.converge()
    }

    /// What the run was.
    pub fn summary(&self) -> Summary {
        let living = self.browsers.iter().flat_map(|browser| browser.tabs.values());
        let echoes = self.echoes + living.map(|tab| tab.echoes).sum::<u64>();
        Summary { steps: self.log.steps, hash: self.log.hash, echoes }
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
            self.log.line(self.now, &delivery);
            if self.log.steps > MAX_STEPS {
                return Err("the run does not come to an end".to_owned());
            }
            match delivery.browser().filter(|browser| self.browsers[*browser].asleep) {
                Some(browser) => self.frozen.push((browser, delivery)),
                None => self.deliver(delivery)?,
            }
        }
        self.now = end;
        Ok(())
    }

    pub(crate) fn put(&mut self, at: Timestamp, delivery: Delivery) {
        self.order += 1;
        self.queue.push(Reverse((at, self.order)));
        self.deliveries.insert(self.order, delivery);
    }

    fn deliver(&mut self, delivery: Delivery) -> Checked {
        match delivery {
            Delivery::ToHub { browser, tab, message } => {
                self.browsers[browser].view.told(tab, &message);
                let message = message.as_input();
                self.hub_input(browser, hub::Input::TabMessage { tab, message })
            }
            Delivery::ToPage { browser, tab, message } => self.page_receives(browser, tab, message),
            Delivery::TabLock { browser, tab, to } => self.tab_lock(browser, tab, to),
            Delivery::LinkLock { browser, request } => {
                if self.browsers[browser].link_lock != request {
                    return Ok(());
                }
                self.hub_input(browser, hub::Input::LinkLockGranted)
            }
            Delivery::HubTimer { browser } => self.hub_timer(browser),
            Delivery::Arrive { link } => self.arrive(link),
            Delivery::Opened { browser, link } => self.opened(browser, link),
            Delivery::Up { link, bytes } => self.up(link, &bytes),
            Delivery::Down { browser, link, bytes } => self.down(browser, link, &bytes),
            Delivery::ServerHears { link } => self.server_hears(link),
            Delivery::HubHears { browser, attempt, code, clean } => {
                if let Some(link) = self.network.find(browser, attempt)
                    && let Some(link) = self.network.links.get_mut(&link)
                {
                    link.hub_open = false;
                }
                let closed = hub::Input::LinkClosed { attempt, code, reason: "", clean };
                self.hub_input(browser, closed)
            }
            Delivery::ServerTimer => self.server_timer(),
            Delivery::ServerUp => {
                if self.server.is_none() {
                    self.server = Some(Server::new(self.now, self.serial));
                }
                Ok(())
            }
            Delivery::Wake { browser } => self.wake(browser),
            Delivery::Chance => self.chance(),
            Delivery::HubForgot { browser, tab } => self.hub_forgot(browser, tab),
            Delivery::ServerForgot { tab } => match &self.server {
                Some(server) if server.knows(tab) => Err(format!("the server still has {tab}")),
                _ => Ok(()),
            },
        }
    }

    pub(crate) fn page_receives(
        &mut self,
        at: usize,
        id: TabId,
        message: hub::HubMessage,
    ) -> Checked {
        let Some(tab) = self.browsers[at].tabs.get_mut(&id) else {
            return Ok(());
        };
        if tab.parked {
            tab.frozen.push_back(message);
            return Ok(());
        }
        let nothing = Default::default();
        let lossy = self.server.as_ref().map_or(&nothing, |server| &server.lossy);
        let answers = receive(id, tab, &message, lossy, &self.feed)?;
        self.post(at, id, answers);
        Ok(())
    }

    fn tab_lock(&mut self, at: usize, tab: TabId, to: Granted) -> Checked {
        let locks = &mut self.browsers[at].locks;
        if !locks.take(tab, to) {
            return Ok(());
        }
        let next = locks.next(tab);
        self.grant(at, tab, next);
        if to == Granted::Hub {
            return self.hub_input(at, hub::Input::TabLockGranted { tab });
        }
        let Some(page) = self.browsers[at].tabs.get_mut(&tab) else {
            return Ok(());
        };
        let messages = page.inhabited();
        self.post(at, tab, messages);
        Ok(())
    }

    /// A page posts messages to its hub.
    pub(crate) fn post(&mut self, browser: usize, tab: TabId, messages: Vec<PageMessage>) {
        for message in messages {
            let latency = self.rng.millis(0, 20);
            if let Some(page) = self.browsers[browser].tabs.get_mut(&tab) {
                let at = page.to_hub.arrival(self.now + latency);
                self.put(at, Delivery::ToHub { browser, tab, message });
            }
        }
    }

    pub(crate) fn grant(&mut self, browser: usize, tab: TabId, to: Option<Granted>) {
        if let Some(to) = to {
            let at = self.now + self.rng.millis(0, 20);
            self.put(at, Delivery::TabLock { browser, tab, to });
        }
    }

    pub(crate) fn hub_input(&mut self, at: usize, input: hub::Input<'_>) -> Checked {
        let browser = &mut self.browsers[at];
        let now = browser.clock(self.now);
        browser.hub.handle_input(now, input);
        self.drain_hub(at)
    }

    fn hub_timer(&mut self, at: usize) -> Checked {
        let browser = &mut self.browsers[at];
        if browser.wake_at.is_none_or(|wake| wake > self.now) {
            return Ok(());
        }
        browser.wake_at = None;
        let now = browser.clock(self.now);
        for link in self.network.held_by(at) {
            let link = &self.network.links[&link];
            let (attempt, bytes) = (link.attempt, link.unsent);
            browser.hub.handle_input(now, hub::Input::LinkBuffered { attempt, bytes });
        }
        browser.hub.handle_timeout(now);
        if let Some((next, why)) = browser.hub.poll_timeout().filter(|(next, _)| *next <= now) {
            return Err(format!("hub {at} spins: at {now:?} it wants {next:?} for {why:?}"));
        }
        self.drain_hub(at)
    }

    fn drain_hub(&mut self, at: usize) -> Checked {
        while let Some(output) = self.browsers[at].hub.poll_output() {
            self.log.line(self.now, &output);
            self.hub_output(at, output)?;
        }
        let browser = &mut self.browsers[at];
        browser.view.agrees(&browser.hub)?;
        let wake = browser.hub.poll_timeout().map(|(wake, _)| {
            let wake = wake.saturating_since(browser.clock(self.now));
            self.now + wake + Duration::from_micros(1)
        });
        if browser.wake_at != wake {
            browser.wake_at = wake;
            if let Some(wake) = wake {
                self.put(wake, Delivery::HubTimer { browser: at });
            }
        }
        Ok(())
    }

    fn hub_output(&mut self, at: usize, output: hub::Output) -> Checked {
        match output {
            hub::Output::RequestLinkLock => {
                self.browsers[at].link_lock += 1;
                let request = self.browsers[at].link_lock;
                let slow = if self.faults && self.rng.one_in(10) { 5000 } else { 5 };
                let when = self.now + self.rng.millis(0, slow);
                self.put(when, Delivery::LinkLock { browser: at, request });
            }
            hub::Output::ReleaseLinkLock => self.browsers[at].link_lock += 1,
            hub::Output::OpenLink { attempt } => return self.dial(at, attempt),
            hub::Output::SendLink { attempt, payload } => self.send_up(at, attempt, payload),
            hub::Output::CloseLink { attempt, .. } => self.hub_closes(at, attempt),
            hub::Output::PostToTab { tab, message } => {
                self.browsers[at].view.may_post(tab, &message)?;
                self.post_to_page(at, tab, message);
            }
            hub::Output::PostToTabs { tabs, message } => {
                for tab in tabs {
                    self.browsers[at].view.may_post(tab, &message)?;
                    self.post_to_page(at, tab, message.clone());
                }
            }
            hub::Output::WatchTab { tab } => {
                let next = self.browsers[at].locks.watch(tab);
                self.grant(at, tab, next);
            }
            hub::Output::DropTab { tab } => {
                self.browsers[at].view.dropped(tab)?;
                let next = self.browsers[at].locks.unwatch(tab);
                self.grant(at, tab, next);
            }
            hub::Output::Event(event @ (hub::Event::BadFrame(_) | hub::Event::Overflow(_))) => {
                return Err(format!("hub {at}: {event:?}"));
            }
            hub::Output::Event(_) => {}
        }
        Ok(())
    }

    fn post_to_page(&mut self, browser: usize, tab: TabId, message: hub::HubMessage) {
        let latency = self.rng.millis(0, 20);
        if let Some(page) = self.browsers[browser].tabs.get_mut(&tab) {
            let at = page.to_page.arrival(self.now + latency);
            self.put(at, Delivery::ToPage { browser, tab, message });
        }
    }

    pub(crate) fn server_timer(&mut self) -> Checked {
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        if server.wake_at.is_none_or(|wake| wake > self.now) {
            return Ok(());
        }
        server.wake_at = None;
        server.registry.handle_timeout(self.now);
        if let Some((next, why)) = server.registry.poll_timeout().filter(|it| it.0 <= self.now) {
            return Err(format!("the registry spins: it wants {next:?} for {why:?}"));
        }
        self.drain_server()
    }

    pub(crate) fn server_input(&mut self, input: session::Input<'_>) -> Checked {
        if let Some(server) = &mut self.server {
            server.registry.handle_input(self.now, input);
        }
        self.drain_server()
    }

    /// Carries out what the registry orders, until the application has answered everything.
    pub(crate) fn drain_server(&mut self) -> Checked {
        while let Some(output) = self.server.as_mut().and_then(|it| it.registry.poll_output()) {
            self.log.line(self.now, &output);
            let (now, faults) = (self.now, self.faults);
            let Some(server) = &mut self.server else { break };
            match output {
                session::Output::Send { link, bytes } => self.send_down(link.0, bytes.to_vec()),
                session::Output::CloseLink { link, code, .. } => self.server_closes(link, code),
                session::Output::SocketOpen { socket, tab, .. } => {
                    server.open(now, &mut self.rng, faults, socket, tab);
                }
                session::Output::SocketMessage { socket, payload } => {
                    server.echo(now, socket, Some(payload))?;
                }
                session::Output::SocketWritable { socket } => server.echo(now, socket, None)?,
                session::Output::SocketClosed { socket, .. } => server.closed(socket)?,
                session::Output::TopicWanted { name } => server.join(now, &name)?,
                session::Output::TopicUnwanted { topic } => server.leave(topic),
                session::Output::Publish { frames, links } => {
                    for link in links {
                        for frame in &frames {
                            self.send_down(link.0, frame.bytes(false).to_vec());
                        }
                    }
                }
                session::Output::Event(event) => server.event(&event),
            }
        }
        let Some(server) = &mut self.server else {
            return Ok(());
        };
        server.agrees()?;
        self.serial = server.serial();
        let wake = server.registry.poll_timeout().map(|(wake, _)| wake.max(self.now));
        if server.wake_at != wake {
            server.wake_at = wake;
            if let Some(wake) = wake {
                self.put(wake, Delivery::ServerTimer);
            }
        }
        Ok(())
    }

    fn wake(&mut self, at: usize) -> Checked {
        let browser = &mut self.browsers[at];
        browser.asleep = false;
        browser.woke = self.now;
        browser.ahead += 3_600_000_000;
        let (ours, others) =
            std::mem::take(&mut self.frozen).into_iter().partition(|(browser, _)| *browser == at);
        self.frozen = others;
        let ours: Vec<(usize, Delivery)> = ours;
        for (_, delivery) in ours {
            self.deliver(delivery)?;
        }
        // Its clock has jumped, and with it what its timer stands for.
        self.browsers[at].wake_at = None;
        self.drain_hub(at)
    }

    fn hub_forgot(&mut self, browser: usize, tab: TabId) -> Checked {
        // A machine that slept had less time.
        let awake_for = self.now.saturating_since(self.browsers[browser].woke);
        if self.browsers[browser].asleep || awake_for < crate::transition::HUB_FORGETS {
            let at = self.now + crate::transition::HUB_FORGETS;
            self.put(at, Delivery::HubForgot { browser, tab });
        } else if self.browsers[browser].view.knows(tab) {
            return Err(format!("hub {browser} still has {tab}"));
        }
        Ok(())
    }

    /// A tab is no more.
    pub(crate) fn bury(&mut self, browser: usize, tab: TabId) {
        if let Some(page) = self.browsers[browser].tabs.remove(&tab) {
            self.echoes += page.echoes;
        }
        let next = self.browsers[browser].locks.release(tab);
        self.grant(browser, tab, next);
        let at = self.now + crate::transition::HUB_FORGETS;
        self.put(at, Delivery::HubForgot { browser, tab });
        let at = self.now + crate::transition::SERVER_FORGETS;
        self.put(at, Delivery::ServerForgot { tab });
    }

    pub(crate) fn link_message(&mut self, at: usize, id: u64, bytes: &[u8]) -> Checked {
        let attempt = self.network.links[&id].attempt;
        let payload = Payload::Binary(bytes);
        self.hub_input(at, hub::Input::LinkMessage { attempt, payload })?;
        self.server_input(session::Input::LinkWritten { link: LinkId(id), bytes: bytes.len() })
    }

    fn send_up(&mut self, browser: usize, attempt: hub::AttemptId, payload: OwnedPayload) {
        let latency = self.rng.millis(1, 60);
        let Some(id) = self.network.find(browser, attempt) else {
            return;
        };
        if let (Some(link), OwnedPayload::Binary(bytes)) =
            (self.network.links.get_mut(&id), payload)
            && link.hub_open
        {
            link.unsent += bytes.len() as u64;
            let at = link.up(self.now, latency);
            self.put(at, Delivery::Up { link: id, bytes });
        }
    }
}

impl Delivery {
    /// The machine it arrives at, if that is a browser's.
    const fn browser(&self) -> Option<usize> {
        match self {
            Self::ToHub { browser, .. }
            | Self::ToPage { browser, .. }
            | Self::TabLock { browser, .. }
            | Self::LinkLock { browser, .. }
            | Self::HubTimer { browser }
            | Self::Opened { browser, .. }
            | Self::Down { browser, .. }
            | Self::HubHears { browser, .. } => Some(*browser),
            _ => None,
        }
    }
}

impl Log {
    fn line(&mut self, now: Timestamp, what: &impl fmt::Debug) {
        self.steps += 1;
        if self.trace {
            println!("{} {}us {what:?}", self.steps, now.as_micros());
        }
        // Writing to a hash cannot fail.
        let _ = write!(self, "{} {what:?}", now.as_micros());
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
