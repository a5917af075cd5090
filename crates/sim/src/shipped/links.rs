//! Links: reliable and ordered until they break. Then what is under way is gone, and each end hears
//! of it at once, late, or never, in which case only its heartbeat can tell.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tabmux_core::{
    Timestamp,
    session::{Input, LinkId},
    wire::{HubFrame, Resume, ServerFrame, Welcome, close},
};

use super::{
    browser::Identity,
    message::Message,
    plain::{PLAIN_URL, PROTOCOL, offered},
    tickets::{TICKET, Told},
    world::{Delivery, Task, World},
};
use crate::{
    engine::realm::Given,
    invariant::{
        Checked,
        Invariant::{NoError, OneLink},
    },
    network::{Hello, Lane},
    rng::Rng,
    seen::Sight,
};

/// The address of links, which carry virtual sockets, topics and messages to all tabs.
pub(crate) const LINK_URL: &str = "wss://sim/tabmux/ws";

/// The address at which a hub asks for the user of its browser.
pub(crate) const WHO_URL: &str = "wss://sim/tabmux/who";

/// Longest time that a browser waits for the answer to a dial. Firefox waits 20 s, others longer.
const DIAL: Duration = Duration::from_secs(30);

/// All links of which an end may still hear, by number.
#[derive(Debug, Default)]
pub struct Network {
    /// The links, by number.
    pub links: BTreeMap<u64, Link>,
    /// The secrets in addresses that hubs dialled.
    pub secrets: BTreeSet<String>,
    /// The tickets that hubs were told of, by name.
    pub tickets: BTreeMap<String, Told>,
    last: u64,
}

/// The program at the other end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A tabmux server that serves links.
    Tabmux,
    /// A tabmux server that answers only who the browser's user is.
    Who,
    /// A tabmux server to which a hub shows a ticket.
    Ticket,
    /// Any other WebSocket server.
    Plain,
}

/// One WebSocket, from a worker or a page.
#[derive(Debug)]
pub struct Link {
    /// The program at the other end.
    pub to: Peer,
    /// The address that was dialled.
    pub url: String,
    /// The time when a plain server answers the dial.
    pub answered_at: Timestamp,
    /// True if the worker heard that the link is open.
    pub was_opened: bool,
    /// True if the worker has heard something on the link.
    pub was_heard: bool,
    /// The time when the worker dialled.
    pub dialled: Timestamp,
    /// True if the link broke under way, and not because there was no network at the dial.
    pub was_lost: bool,
    /// The sub-protocols by which a hub shows a ticket.
    pub offered: String,
    /// The sub-protocol that the server chose.
    protocol: &'static str,
    /// The reason with which the server closed the link.
    pub farewell: &'static str,
    /// The browser and the worker that dialled.
    pub at: (usize, u32),
    /// The worker's number for the link.
    pub socket: u32,
    /// True while the worker has neither closed the link nor heard that it is closed.
    pub worker_open: bool,
    /// True if the worker has asked to close the link.
    pub closing: bool,
    /// True while the server has not closed the link. False until the dial has arrived there.
    pub server_open: bool,
    /// True if nothing passes any more, in either direction.
    pub broken: bool,
    /// True if the link is broken and neither end is told.
    swallows: bool,
    /// The time before which nothing arrives.
    pub stalled_until: Timestamp,
    /// The user who was logged in when the worker dialled.
    pub identity: Option<Identity>,
    /// The HELLO of the link, once it has arrived.
    pub hello: Option<Hello>,
    up: Lane,
    down: Lane,
}

impl Peer {
    /// Returns true if a worker connects to it beside its link, and only for a moment.
    const fn is_beside(self) -> bool {
        matches!(self, Self::Who | Self::Ticket)
    }
}

impl Network {
    /// Returns the next number of a link.
    pub(super) const fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn open(&mut self, at: (usize, u32), socket: u32, to: Peer, url: &str) -> u64 {
        let id = self.next();
        let link = Link {
            to,
            url: url.to_owned(),
            answered_at: Timestamp::default(),
            was_opened: false,
            was_heard: false,
            dialled: Timestamp::default(),
            was_lost: false,
            offered: String::new(),
            protocol: "",
            farewell: "",
            at,
            socket,
            worker_open: true,
            closing: false,
            server_open: false,
            broken: false,
            swallows: false,
            stalled_until: Timestamp::default(),
            identity: None,
            hello: None,
            up: Lane::default(),
            down: Lane::default(),
        };
        self.links.insert(id, link);
        id
    }

    fn find(&self, at: (usize, u32), socket: u32) -> Option<u64> {
        let its = |link: &Link| link.at == at && link.socket == socket;
        self.links.iter().find(|(_, link)| its(link)).map(|(id, _)| *id)
    }

    /// Returns the links that a worker holds open.
    pub fn held_by(&self, at: (usize, u32)) -> Vec<u64> {
        let its = |link: &Link| link.at == at && link.worker_open;
        self.links.iter().filter(|(_, link)| its(link)).map(|(id, _)| *id).collect()
    }

    /// Returns how many links the workers of a browser hold open to servers of this kind.
    pub fn of_browser(&self, browser: usize, to: Peer) -> usize {
        let its = |link: &&Link| link.at.0 == browser && link.to == to && link.worker_open;
        self.links.values().filter(its).count()
    }

    /// Forgets links that both ends have closed.
    fn sweep(&mut self) {
        self.links.retain(|_, link| link.worker_open || link.server_open);
    }
}

impl Link {
    fn up(&mut self, now: Timestamp, latency: Duration) -> Timestamp {
        self.up.arrival((now + latency).max(self.stalled_until))
    }

    pub(super) fn down(&mut self, now: Timestamp, latency: Duration) -> Timestamp {
        self.down.arrival((now + latency).max(self.stalled_until))
    }
}

impl World {
    /// Called when a worker dials.
    pub(crate) fn dial(
        &mut self,
        at: (usize, u32),
        socket: u32,
        url: &str,
        protocols: &str,
    ) -> Checked {
        let (address, query) = url.split_once('?').unwrap_or((url, ""));
        // A hub shows the tag that it knows.
        let shown = query.strip_prefix("identity=").filter(|_| self.plan.names_users());
        let to = match address {
            WHO_URL => Peer::Who,
            _ if address.starts_with(PLAIN_URL) => Peer::Plain,
            _ if protocols.starts_with(TICKET) => Peer::Ticket,
            _ => Peer::Tabmux,
        };
        let is_tag = match shown {
            Some(tag) => self.browsers[at.0].was_of(at.0, tag),
            None => query.is_empty(),
        };
        let is_right = match to {
            Peer::Plain => protocols == offered(address),
            Peer::Tabmux => address == LINK_URL && protocols.is_empty() && is_tag,
            Peer::Who => self.plan.names_users() && protocols.is_empty() && is_tag,
            Peer::Ticket => self.may_show(at.0, url, protocols),
        };
        NoError.unless(is_right, || format!("{at:?} dials {url} with {protocols:?}"))?;
        let open = self.network.held_by(at);
        let open = open.iter().map(|id| &self.network.links[id]);
        let open = open.filter(|it| !it.closing && !it.to.is_beside()).count();
        // A worker of exclusive sockets has one link for each, and so has a page that found no hub.
        let actor = self.browsers[at.0].actors.get(&at.1);
        let is_hub = actor.is_none_or(|it| it.page().is_none() && !it.is_exclusive);
        OneLink.unless(!is_hub || open == 0 || to.is_beside(), || {
            format!("{at:?} dials, and has {open} links open")
        })?;
        // The question for the user is asked while the link is open, when the hub has not noticed
        // yet that there is no network. It ends by itself, as a ticket does.
        if is_hub && !to.is_beside() {
            self.hub_dials(at, address, if shown.is_some() { "" } else { query })?;
        }
        self.network.sweep();
        if let (Peer::Tabmux, Some(actor)) = (to, self.browsers[at.0].actors.get_mut(&at.1)) {
            actor.dialled = Some(self.now);
        }
        let asked_for = if to == Peer::Plain { address } else { url };
        let link = self.network.open(at, socket, to, asked_for);
        if let Some(it) = self.network.links.get_mut(&link) {
            // A browser sends the cookies of the moment in which it dials.
            (it.dialled, it.identity) = (self.now, self.browsers[at.0].identity(at.0));
            it.protocol = if protocols.is_empty() { "" } else { PROTOCOL };
        }
        let mut when = self.now + self.browsers[at.0].link_latency();
        if to == Peer::Ticket {
            when = when + self.ticket_suffers(link, protocols);
        }
        self.put(when, Delivery::Arrive { link });
        self.put(self.now + DIAL, Delivery::DialIsOver { link, at });
        Ok(())
    }

    pub(crate) fn arrive(&mut self, id: u64) -> Checked {
        let now = self.now;
        let Some(link) = self.network.links.get_mut(&id).filter(|link| link.worker_open) else {
            return Ok(());
        };
        let (browser, at) = (&mut self.browsers[link.at.0], link.at);
        let identity = link.identity;
        let entropy = std::array::from_fn(|_| browser.rng.next().to_le_bytes()[0]);
        let latency = browser.link_latency();
        if browser.offline {
            link.broken = true;
            return Ok(());
        }
        if link.to == Peer::Plain {
            self.plain_arrives(id);
            return Ok(());
        }
        if link.to == Peer::Ticket && self.server.is_some() {
            return self.ticket_arrives(id);
        }
        let when = link.down(now, latency);
        if link.to == Peer::Who && self.server.is_some() {
            let text = identity.map_or("nobody".to_owned(), |it| format!("user {}", it.tag()));
            self.put(when, Delivery::Opened { at, link: id });
            self.put(when, Delivery::Down { at, link: id, message: text.into() });
            let (code, clean) = (close::NORMAL, true);
            self.put(when, Delivery::WorkerHears { link: id, at, code, clean });
            self.seen.add(Sight::AskedWho);
            return Ok(());
        }
        if self.server.is_none() {
            let (code, clean) = (close::ABNORMAL, false);
            self.put(when, Delivery::WorkerHears { link: id, at, code, clean });
            return Ok(());
        }
        link.server_open = true;
        self.put(when, Delivery::Opened { at, link: id });
        let visitor = identity.map(Identity::visitor);
        self.server_input(Input::LinkOpened { link: LinkId(id), entropy, visitor })
    }

    /// Called when a browser gives up a dial that nobody has answered.
    pub(crate) fn dial_is_over(&mut self, id: u64, at: (usize, u32)) -> Checked {
        match self.network.links.get_mut(&id) {
            Some(link) if !link.was_opened && !link.closing => {
                link.broken = true;
                self.worker_hears(id, at, close::ABNORMAL, false)
            }
            Some(_) | None => Ok(()),
        }
    }

    fn socket_of(&self, id: u64) -> Option<((usize, u32), u32)> {
        let link = self.network.links.get(&id)?;
        (link.worker_open && !link.broken).then_some((link.at, link.socket))
    }

    pub(crate) fn opened(&mut self, id: u64) -> Checked {
        let Some((at, socket)) = self.socket_of(id) else {
            return Ok(());
        };
        let Some(link) = self.network.links.get_mut(&id) else {
            return Ok(());
        };
        link.was_opened = true;
        let words = ["opened", link.protocol, ""].map(|text| Given::Text(text.to_owned()));
        let given = [Given::Number(socket.into())].into_iter().chain(words);
        self.run_task(at, &Task::new("link", given))
    }

    pub(crate) fn send_up(&mut self, at: (usize, u32), socket: u32, message: Message) -> Checked {
        let latency = self.browsers[at.0].link_latency();
        let Some(id) = self.network.find(at, socket) else {
            return Ok(());
        };
        let Some(link) = self.network.links.get_mut(&id).filter(|link| link.worker_open) else {
            return Ok(());
        };
        let when = link.up(self.now, latency);
        self.buffered(at, socket, |waits| waits + message.size());
        let is_tabmux = self.network.links.get(&id).is_some_and(|it| it.to == Peer::Tabmux);
        if is_tabmux
            && let Message::Bytes(bytes) = &message
            && let Ok(HubFrame::Hello(hello)) = HubFrame::decode(bytes)
        {
            let claims = hello.resume.map(|resume| (resume.session, resume.term.0));
            if let Some(link) = self.network.links.get_mut(&id) {
                link.hello = Some(Hello { claims });
            }
            self.may_say_hello(hello.hub, claims.map(|(session, _)| session))?;
        }
        self.put(when, Delivery::Up { link: id, message });
        Ok(())
    }

    fn buffered(&self, at: (usize, u32), socket: u32, change: impl FnOnce(u64) -> u64) {
        if let Some(actor) = self.browsers[at.0].actors.get(&at.1) {
            let mut all = actor.realm.host.buffered.borrow_mut();
            let waits = all.entry(socket).or_default();
            *waits = change(*waits);
        }
    }

    pub(crate) fn up(&mut self, id: u64, message: &Message) -> Checked {
        let Some(link) = self.network.links.get(&id) else {
            return Ok(());
        };
        if link.broken {
            if link.swallows {
                self.seen.add(Sight::Swallowed);
            }
            return Ok(());
        }
        self.buffered(link.at, link.socket, |waits| waits.saturating_sub(message.size()));
        if !link.server_open {
            return Ok(());
        }
        if link.to == Peer::Plain {
            return self.plain_hears(id, message);
        }
        let Message::Bytes(bytes) = message else {
            return NoError.broken("a hub sent text on the link");
        };
        if let Some(server) = &mut self.server {
            server.reading = Some(LinkId(id));
            server.hub_says(LinkId(id), bytes);
        }
        self.server_input(Input::LinkMessage { link: LinkId(id), bytes })?;
        if let Some(server) = &mut self.server {
            server.reading = None;
        }
        Ok(())
    }

    pub(crate) fn send_down(&mut self, id: u64, bytes: Vec<u8>) -> Checked {
        if let Some(server) = &mut self.server {
            server.sent(LinkId(id), &bytes)?;
        }
        if let Some(link) = self.network.links.get_mut(&id) {
            match ServerFrame::decode(&bytes) {
                Ok(ServerFrame::Welcome(Welcome { session, token, term, .. })) => {
                    let resume = Resume { session, token, term, have0: None };
                    self.resumes.insert(session, (resume, link.at.0));
                }
                Ok(ServerFrame::Ticket { ticket, path }) => {
                    let (path, browser) = (path.to_owned(), link.at.0);
                    let told = Told { path, browser, suffered: false };
                    self.network.tickets.entry(ticket.to_owned()).or_insert(told);
                }
                Ok(_) | Err(_) => {}
            }
            let latency = self.browsers[link.at.0].link_latency();
            let (when, at) = (link.down(self.now, latency), link.at);
            self.put(when, Delivery::Down { at, link: id, message: bytes.into() });
        }
        Ok(())
    }

    pub(crate) fn down(&mut self, id: u64, message: &Message) -> Checked {
        let Some((at, socket)) = self.socket_of(id) else {
            return Ok(());
        };
        if let Some(link) = self.network.links.get_mut(&id) {
            link.was_heard = true;
        }
        let (what, text, bytes) = match message {
            Message::Text(text) => ("text", text.clone(), 0),
            Message::Bytes(bytes) => ("bytes", hex(bytes), bytes.len()),
        };
        let given = [Given::Number(socket.into()), Given::Text(what.into()), Given::Text(text)];
        self.run_task(at, &Task::new("link", given))?;
        if self.network.links.get(&id).is_none_or(|link| link.to != Peer::Tabmux) {
            return Ok(());
        }
        self.server_input(Input::LinkWritten { link: LinkId(id), bytes })
    }

    /// Called when the worker closes its link. The server hears of it after everything that was
    /// sent before.
    pub(crate) fn hang_up(&mut self, at: (usize, u32), socket: u32, code: u16) {
        let latency = self.browsers[at.0].link_latency();
        self.link_is_lost(at);
        let Some(id) = self.network.find(at, socket) else { return };
        let Some(link) = self.network.links.get_mut(&id) else { return };
        link.closing = true;
        if link.to == Peer::Plain && !link.was_opened {
            let (code, clean) = (close::ABNORMAL, false);
            self.put(self.now, Delivery::WorkerHears { at, link: id, code, clean });
            self.put(self.now + latency, Delivery::ServerHears { link: id });
        } else if link.broken {
            let (when, code) = (self.now + Duration::from_secs(3), close::ABNORMAL);
            self.put(when, Delivery::WorkerHears { at, link: id, code, clean: false });
        } else {
            let when = link.up(self.now, latency);
            let code = match (link.to, code) {
                (Peer::Plain, 0) => close::NO_STATUS,
                (Peer::Plain, code) => code,
                (Peer::Tabmux | Peer::Who | Peer::Ticket, _) => close::NORMAL,
            };
            self.put(when, Delivery::ServerHears { link: id });
            let when = when + latency;
            self.put(when, Delivery::WorkerHears { at, link: id, code, clean: true });
        }
    }

    pub(crate) fn server_closes(&mut self, id: LinkId, code: u16) {
        if let Some(link) = self.network.links.get_mut(&id.0) {
            let latency = self.browsers[link.at.0].link_latency();
            link.server_open = false;
            if !link.broken {
                let (when, at) = (link.down(self.now, latency), link.at);
                self.put(when, Delivery::WorkerHears { at, link: id.0, code, clean: true });
            }
        }
    }

    pub(crate) fn worker_hears(
        &mut self,
        id: u64,
        at: (usize, u32),
        code: u16,
        clean: bool,
    ) -> Checked {
        let Some(link) = self.network.links.get_mut(&id).filter(|link| link.worker_open) else {
            return Ok(());
        };
        link.worker_open = false;
        let is_unanswered = link.to == Peer::Who && !link.was_heard;
        let (socket, farewell) = (link.socket, if clean { link.farewell } else { "" });
        let given = [
            Given::Number(socket.into()),
            Given::Text("closed".into()),
            Given::Number(code.into()),
            Given::Text(farewell.to_owned()),
            Given::Flag(clean),
        ];
        if is_unanswered {
            self.nobody_can_tell(at.0);
        }
        self.run_task(at, &Task::new("link", given))
    }

    pub(crate) fn server_hears(&mut self, id: u64) -> Checked {
        let open = self.network.links.get_mut(&id).filter(|link| link.server_open);
        let Some(link) = open else {
            return Ok(());
        };
        link.server_open = false;
        if link.to == Peer::Plain {
            self.plain_loses(id);
            return Ok(());
        }
        self.server_input(Input::LinkClosed { link: LinkId(id) })
    }

    /// Makes a link swallow everything that is sent on it. Neither end is told.
    pub(crate) fn swallow(&mut self, id: u64) {
        if let Some(link) = self.network.links.get_mut(&id) {
            (link.broken, link.swallows) = (true, true);
        }
        self.plain_breaks(id);
    }

    /// Breaks a link. Each end hears of it at once, late, or not at all.
    pub(crate) fn cut(&mut self, id: u64, rng: &mut Rng) {
        let (worker, server) = (notice(rng), notice(rng));
        let Some(link) = self.network.links.get_mut(&id).filter(|link| !link.broken) else {
            return;
        };
        link.broken = true;
        let (at, worker_open) = (link.at, link.worker_open);
        self.plain_breaks(id);
        if let Some(after) = worker.filter(|_| worker_open) {
            let (code, clean) = (close::ABNORMAL, false);
            self.put(self.now + after, Delivery::WorkerHears { at, link: id, code, clean });
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
        let (at, code, worker_open) = (link.at, close::ABNORMAL, link.worker_open);
        self.plain_breaks(id);
        if worker_open {
            self.put(self.now, Delivery::WorkerHears { at, link: id, code, clean: false });
        }
        self.put(self.now, Delivery::ServerHears { link: id });
    }

    /// Called when the worker of these links died. Its last messages may still arrive, or not.
    pub(crate) fn orphan_links(&mut self, at: (usize, u32)) {
        for id in self.network.held_by(at) {
            let rng = &mut self.browsers[at.0].rng;
            let (arrives, latency, mut dice) =
                (rng.one_in(2), rng.millis(1, 20), Rng::new(rng.next()));
            if !arrives {
                self.cut(id, &mut dice);
            }
            if let Some(link) = self.network.links.get_mut(&id) {
                link.worker_open = false;
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

fn hex(bytes: &[u8]) -> String {
    let digit = |it: u8| char::from_digit(it.into(), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}
