//! Requests of tabs, from one seed. There are the real registry, a hub that asks, and an
//! application that answers late, twice, in parts or never.
//!
//! A script of its own stands for hub and tabs. It does what PROTOCOL.md asks of them: it numbers
//! what it sends, keeps it until the server has it, and counts what it hears. Links break with
//! frames on their way, other hubs take over, and tabs go.

use std::{collections::BTreeMap, time::Duration};

use tabmux_core::{
    Timestamp,
    session::{
        Answer, AnswerError, Ask, AskId, Denial, Input, LinkId, Output, Registry, SendError,
        SessionConfig, SocketRef,
    },
    wire::{
        Alias, ErrorCode, Hello, HubFrame, HubId, LaneCount, NEWEST_VERSION, OLDEST_VERSION,
        Payload, Rejected, Reply, Request, Resume, ServerFrame, SocketId, TabId, Upstream,
        message_cost,
    },
};

use crate::{
    invariant::{
        Checked,
        Invariant::{Convergence, Limits, NoError, NothingLost},
    },
    rng::Rng,
};

const STEPS: usize = 400;
const TABS: u64 = 3;
/// The credit that a tab gives a request.
const CREDIT: u64 = 300;
/// A time longer than any question may wait.
const LONG: Duration = Duration::from_secs(60);

/// Runs one seed. Returns how many requests have ended.
///
/// # Errors
/// Returns the first invariant that was broken.
pub fn run(seed: u64) -> Checked<u64> {
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.step()?;
    }
    world.heal()
}

struct World {
    rng: Rng,
    now: Timestamp,
    registry: Registry,
    hub: Hub,
    /// The questions that the application has not answered yet.
    asked: BTreeMap<AskId, Asked>,
}

/// The hub of the browser, with its tabs.
struct Hub {
    id: u64,
    link: Option<LinkId>,
    links: u64,
    claim: Option<Resume>,
    tabs: BTreeMap<TabId, Tab>,
    /// Frames on their way to the hub.
    down: Vec<Vec<u8>>,
}

#[derive(Default)]
struct Tab {
    alias: Option<Alias>,
    /// True if the server attached the tab on this link.
    attached: bool,
    /// Frames that the tab sent and the server may not have, by number.
    unseen: BTreeMap<u64, Vec<u8>>,
    said: u64,
    heard: u64,
    requests: BTreeMap<SocketId, State>,
    last_request: u32,
}

/// A request as its tab sees it.
#[derive(Debug, PartialEq, Eq)]
enum State {
    /// The number of replies that have arrived, and the credit that is left. It is above 0 when a
    /// reply arrives.
    Open {
        replies: u64,
        left: i64,
    },
    Over,
}

/// A request as the application sees it.
struct Asked {
    request: SocketRef,
    asked: Timestamp,
    /// The time when the question is answered. `None` means never.
    due: Option<Timestamp>,
    replies: u64,
    sent: u64,
}

impl World {
    fn new(seed: u64) -> Self {
        let now = Timestamp::from_millis(1_000);
        let config = SessionConfig { requests: true, asks: 20, ..SessionConfig::default() };
        let tabs = (1..=TABS).map(|tab| (TabId(tab), Tab::default())).collect();
        let hub = Hub { id: 1, link: None, links: 0, claim: None, tabs, down: Vec::new() };
        let (rng, registry) = (Rng::new(seed), Registry::new(config, now));
        Self { rng, now, registry, hub, asked: BTreeMap::new() }
    }

    fn step(&mut self) -> Checked {
        match self.rng.below(16) {
            0 => self.cut()?,
            1 if self.rng.one_in(3) => {
                self.cut()?;
                self.hub.id += 1;
            }
            2 => self.close_tab()?,
            3 | 4 => self.cancel()?,
            5..=9 => self.request()?,
            10 => {
                let pause = self.rng.millis(0, 20_000);
                self.pass(pause)?;
                if self.hub.link.is_some() {
                    self.say(None, &HubFrame::Ping { nonce: 1 })?;
                }
            }
            _ => {
                let pause = self.rng.millis(0, 500);
                self.pass(pause)?;
            }
        }
        if self.hub.link.is_none() && self.rng.one_in(2) {
            self.connect()?;
        }
        if self.rng.one_in(3) {
            self.hear()?;
        }
        Ok(())
    }

    /// Ends the faults: the link works, time passes, and each request must end.
    fn heal(&mut self) -> Checked<u64> {
        if self.hub.link.is_none() {
            self.connect()?;
        }
        self.hear()?;
        for _ in 0..LONG.as_secs() {
            self.pass(Duration::from_secs(1))?;
            self.hear()?;
            self.say(None, &HubFrame::Ping { nonce: 1 })?;
        }
        let stats = self.registry.stats();
        Convergence.unless(stats.asks.open == 0 && self.asked.is_empty(), || {
            format!("{} questions are open, {} known", stats.asks.open, self.asked.len())
        })?;
        let mut ended = 0;
        for (id, tab) in &self.hub.tabs {
            let open = tab.requests.iter().find(|(_, state)| **state != State::Over);
            NothingLost.unless(open.is_none(), || format!("{id}: {open:?} was never answered"))?;
            ended += tab.requests.len() as u64;
        }
        Ok(ended)
    }

    /// Lets time pass for the registry and the application.
    fn pass(&mut self, span: Duration) -> Checked {
        let end = self.now + span;
        loop {
            let due = self.asked.values().filter_map(|it| it.due).min();
            let wake = self.registry.poll_timeout().map(|(at, _)| at);
            let Some(at) = due.into_iter().chain(wake).min().filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(at);
            self.registry.handle_timeout(self.now);
            self.drain()?;
            self.answer_due()?;
        }
        self.now = end;
        Ok(())
    }

    fn connect(&mut self) -> Checked {
        let hub = &mut self.hub;
        hub.links += 1;
        let link = LinkId(hub.links);
        hub.link = Some(link);
        hub.tabs.values_mut().for_each(|tab| tab.attached = false);
        let mut entropy = [7; 32];
        entropy[8..16].copy_from_slice(&hub.links.to_be_bytes());
        let (resume, hub) = (hub.claim, HubId(hub.id));
        let (min_version, max_version, credentials) = (OLDEST_VERSION, NEWEST_VERSION, "");
        let hello = Hello { min_version, max_version, hub, resume, credentials };
        self.registry.handle_input(self.now, Input::LinkOpened { link, entropy, visitor: None });
        self.say(None, &HubFrame::Hello(hello))?;
        // Without this, a hub that did not hear its term would have to ask for it.
        self.hear()?;
        let attach = |(id, tab): (&TabId, &Tab)| HubFrame::Attach { tab: *id, last: tab.heard };
        for frame in self.hub.tabs.iter().map(attach).collect::<Vec<_>>() {
            self.say(None, &frame)?;
        }
        Ok(())
    }

    /// Breaks the link. Some of what is on its way still arrives.
    fn cut(&mut self) -> Checked {
        let Some(link) = self.hub.link.take() else { return Ok(()) };
        let arrives = self.rng.index(self.hub.down.len() + 1);
        self.hub.down.truncate(arrives);
        self.hear()?;
        self.registry.handle_input(self.now, Input::LinkClosed { link });
        self.drain()
    }

    /// Closes a tab for good, and opens another one.
    fn close_tab(&mut self) -> Checked {
        let Some(&tab) = self.hub.tabs.keys().next().filter(|_| self.rng.one_in(4)) else {
            return Ok(());
        };
        if self.hub.link.is_none() {
            return Ok(());
        }
        let next = self.hub.tabs.keys().last().map_or(1, |last| last.0 + 1);
        self.hub.tabs.remove(&tab);
        self.hub.tabs.insert(TabId(next), Tab::default());
        self.say(None, &HubFrame::Gone { tab })?;
        self.say(None, &HubFrame::Attach { tab: TabId(next), last: 0 })
    }

    fn request(&mut self) -> Checked {
        let (id, number) = {
            let at = self.rng.index(self.hub.tabs.len());
            let Some((id, tab)) = self.hub.tabs.iter_mut().nth(at) else { return Ok(()) };
            if tab.alias.is_none() {
                return Ok(());
            }
            tab.last_request += 1;
            let number = SocketId(tab.last_request);
            tab.requests.insert(number, State::Open { replies: 0, left: CREDIT as i64 });
            (*id, number)
        };
        let input = "x".repeat(self.rng.index(200));
        self.say(
            Some(id),
            &HubFrame::Request(Request {
                up: Upstream { tab: Alias(0), n: 0 },
                socket: number,
                credit: CREDIT,
                method: "echo",
                key: "",
                payload: Payload::Text(&input),
            }),
        )
    }

    fn cancel(&mut self) -> Checked {
        let at = self.rng.index(self.hub.tabs.len());
        let Some((id, tab)) = self.hub.tabs.iter().nth(at) else { return Ok(()) };
        let open = tab.requests.iter().find(|(_, state)| **state != State::Over);
        let Some((&socket, _)) = open else { return Ok(()) };
        let up = Upstream { tab: Alias(0), n: 0 };
        self.say(Some(*id), &HubFrame::Cancel { up, socket })
    }

    /// Sends a frame. A frame of a tab gets the tab's alias and a number, and is kept.
    fn say(&mut self, tab: Option<TabId>, frame: &HubFrame<'_>) -> Checked {
        let bytes = match tab.and_then(|tab| self.hub.tabs.get_mut(&tab)) {
            None => frame.to_bytes(),
            Some(tab) => {
                tab.said += 1;
                let up = Upstream { tab: tab.alias.unwrap_or(Alias(0)), n: tab.said };
                let bytes = numbered(frame, up).to_bytes();
                tab.unseen.insert(tab.said, bytes.clone());
                if !tab.attached {
                    return Ok(());
                }
                bytes
            }
        };
        self.carry_up(&bytes)
    }

    fn carry_up(&mut self, bytes: &[u8]) -> Checked {
        let Some(link) = self.hub.link else { return Ok(()) };
        self.registry.handle_input(self.now, Input::LinkMessage { link, bytes });
        self.drain()
    }

    /// Lets the hub handle everything that is on its way to it.
    fn hear(&mut self) -> Checked {
        for bytes in std::mem::take(&mut self.hub.down) {
            let Ok(frame) = ServerFrame::decode(&bytes) else {
                return NoError.broken(format!("{bytes:02x?} is no frame"));
            };
            self.heard(&frame)?;
        }
        self.give_credit()?;
        let counts = self.hub.tabs.values();
        let counts =
            counts.filter_map(|tab| Some(LaneCount { lane: tab.alias?.0, count: tab.heard }));
        let lanes = counts.collect::<Vec<_>>();
        if lanes.is_empty() || self.hub.link.is_none() {
            return Ok(());
        }
        self.say(None, &HubFrame::Ack { lanes, aside: Vec::new() })
    }

    /// Fills the credit of all requests up. All replies on their way are heard first, because the
    /// server sent them without this credit.
    fn give_credit(&mut self) -> Checked {
        let mut given = Vec::new();
        for (id, tab) in &mut self.hub.tabs {
            for (socket, state) in &mut tab.requests {
                if let State::Open { left, .. } = state
                    && *left < CREDIT as i64
                {
                    given.push((*id, *socket, CREDIT.saturating_add_signed(-*left)));
                    *left = CREDIT as i64;
                }
            }
        }
        for (id, socket, bytes) in given {
            let up = Upstream { tab: Alias(0), n: 0 };
            self.say(Some(id), &HubFrame::Credit { up, socket, bytes })?;
        }
        Ok(())
    }

    fn heard(&mut self, frame: &ServerFrame<'_>) -> Checked {
        match frame {
            ServerFrame::Welcome(welcome) => {
                let (session, token, term) = (welcome.session, welcome.token, welcome.term);
                let lost = !welcome.resumed && self.hub.claim.is_some();
                self.hub.claim = Some(Resume { session, token, term, have0: None });
                // The hub was away for too long, and begins a new session.
                if lost {
                    for tab in self.hub.tabs.values_mut() {
                        *tab = Tab::default();
                    }
                }
                Ok(())
            }
            ServerFrame::Attached { tab, alias, n_seen, .. } => {
                let Some(tab) = self.hub.tabs.get_mut(tab) else { return Ok(()) };
                (tab.alias, tab.attached) = (Some(*alias), true);
                tab.unseen.retain(|n, _| n > n_seen);
                for bytes in tab.unseen.values().cloned().collect::<Vec<_>>() {
                    self.carry_up(&bytes)?;
                }
                Ok(())
            }
            ServerFrame::Reply(Reply { tab, socket, last, payload }) => {
                self.ends(*tab, *socket, Some(text(*payload)), *last)
            }
            ServerFrame::Rejected(Rejected { tab, socket, .. }) => {
                self.ends(*tab, *socket, None, true)
            }
            other => NoError.unless(other.lane().is_none(), || format!("unasked: {other:?}")),
        }
    }

    /// Called when a reply or a refusal reaches a tab.
    fn ends(&mut self, alias: Alias, socket: SocketId, said: Option<&str>, last: bool) -> Checked {
        let tabs = self.hub.tabs.iter_mut();
        let Some((id, tab)) = tabs.into_iter().find(|(_, tab)| tab.alias == Some(alias)) else {
            return Ok(());
        };
        let id = *id;
        tab.heard += 1;
        let Some(state) = tab.requests.get_mut(&socket) else {
            return NothingLost.broken(format!("{id} {socket:?} was never asked for"));
        };
        let State::Open { replies, left } = state else {
            return NothingLost.broken(format!("{id} {socket:?} is over, and was answered again"));
        };
        if let Some(said) = said {
            *replies += 1;
            let wanted = format!("{} {replies}", socket.0);
            NothingLost.unless(said.starts_with(&wanted), || {
                format!("{id} {socket:?}: {said:?} came in place of {wanted:?}")
            })?;
            Limits.unless(*left > 0, || format!("{id} {socket:?} got a reply without credit"))?;
            *left -= message_cost(said.len()) as i64;
        }
        if last {
            *state = State::Over;
        }
        Ok(())
    }

    fn drain(&mut self) -> Checked {
        while let Some(output) = self.registry.poll_output() {
            match output {
                Output::Send { link, bytes } if Some(link) == self.hub.link => {
                    self.hub.down.push(bytes.to_vec());
                }
                Output::Send { .. } | Output::Event(_) => {}
                Output::CloseLink { link, reason, .. } if Some(link) == self.hub.link => {
                    return NoError.broken(format!("the link was closed: {reason}"));
                }
                Output::CloseLink { .. } | Output::LinkDown { .. } => {}
                Output::Ask { ask, what: Ask::Request { request, .. } } => {
                    self.asked(ask, request)?;
                }
                Output::Withdrawn(ask) => {
                    let known = self.asked.remove(&ask).is_some();
                    NoError.unless(known, || format!("{ask:?} is not open, and was withdrawn"))?;
                    self.is_over(ask)?;
                }
                Output::SocketWritable { socket } => {
                    let (now, asked) = (self.now, self.asked.values_mut());
                    asked.filter(|it| it.request == socket).for_each(|it| it.due = Some(now));
                }
                other => return NoError.broken(format!("unasked: {other:?}")),
            }
        }
        Ok(())
    }

    /// Called when the registry asks the application.
    fn asked(&mut self, ask: AskId, request: SocketRef) -> Checked {
        let limit = self.registry.config().asks;
        Limits.unless(self.asked.len() < limit, || "too many questions are open".to_owned())?;
        let due = match self.rng.below(8) {
            0 => None,
            1..=3 => Some(self.now + self.rng.millis(0, 40_000)),
            _ => Some(self.now),
        };
        let (replies, asked) = (1 + self.rng.below(6), self.now);
        self.asked.insert(ask, Asked { request, asked, due, replies, sent: 0 });
        Ok(())
    }

    fn answer_due(&mut self) -> Checked {
        let now = self.now;
        let due = |(id, it): (&AskId, &Asked)| it.due.filter(|due| *due <= now).map(|_| *id);
        for ask in self.asked.iter().filter_map(due).collect::<Vec<_>>() {
            self.answer(ask)?;
            self.drain()?;
        }
        Ok(())
    }

    /// Answers with as many replies as there is room for, or refuses.
    fn answer(&mut self, ask: AskId) -> Checked {
        let refuses = self.rng.one_in(6);
        while let Some(it) = self.asked.get_mut(&ask) {
            let said = format!("{} {} {}", it.request.socket.0, it.sent + 1, "y".repeat(50));
            let last = refuses || it.sent + 1 == it.replies;
            let answer = if refuses {
                let (code, message) = (ErrorCode::Failed.into(), "the dice said so");
                Answer::Deny(Denial { code, message, retry: None })
            } else {
                Answer::Reply { payload: Payload::Text(&said), last }
            };
            match self.registry.answer(self.now, ask, answer) {
                Ok(()) => it.sent += 1,
                Err(AnswerError::Unsent(SendError::Full)) => {
                    // The registry tells when there is room again.
                    it.due = None;
                    return Ok(());
                }
                Err(fault) => {
                    let since = self.now.saturating_since(it.asked);
                    return NoError.broken(format!("{ask:?} of {since:?} ago: {fault}"));
                }
            }
            if last {
                self.asked.remove(&ask);
                return self.is_over(ask);
            }
        }
        Ok(())
    }

    /// Checks that a late or second answer is reported as such.
    fn is_over(&mut self, ask: AskId) -> Checked {
        let answer = Answer::Reply { payload: Payload::Text("late"), last: true };
        let taken = self.registry.answer(self.now, ask, answer);
        NoError.unless(taken == Err(AnswerError::Late), || format!("{ask:?} is over: {taken:?}"))
    }
}

/// Returns the frame with this header.
fn numbered<'a>(frame: &HubFrame<'a>, up: Upstream) -> HubFrame<'a> {
    match frame.clone() {
        HubFrame::Request(request) => HubFrame::Request(Request { up, ..request }),
        HubFrame::Cancel { socket, .. } => HubFrame::Cancel { up, socket },
        HubFrame::Credit { socket, bytes, .. } => HubFrame::Credit { up, socket, bytes },
        other => other,
    }
}

const fn text(payload: Payload<'_>) -> &str {
    match payload {
        Payload::Text(text) => text,
        Payload::Binary(_) => "",
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn each_request_ends_once_whatever_happens() {
        let ended: u64 = (0..300)
            .map(|seed| super::run(seed).unwrap_or_else(|broken| panic!("seed {seed}: {broken}")))
            .sum();
        assert!(ended > 10_000, "only {ended} requests ended");
    }
}
