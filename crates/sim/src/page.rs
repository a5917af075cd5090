//! A page: what the page library keeps of its hub, its session, its sockets and its topics, and
//! what it posts when. The model of `port.ts`, `socket.ts` and `client.ts`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use tabmux_core::{
    OwnedPayload, Timestamp,
    hub::{HubMessage, LinkState, SubscriptionId, TabMessage},
    wire::{HubId, Payload, Position, SocketId, TabId},
};

use crate::{
    credit::{Allowed, Heard},
    invariant::{
        Checked,
        Invariant::{NoError, NothingLost, OnlyWhatWasAsked},
    },
    locks::Request,
    reference::Reference,
    topics::{self, Feed, Subscription},
};

/// The code with which pages close their sockets.
pub const PAGE_CLOSE: u16 = 1000;

/// One page load.
#[derive(Debug)]
pub struct Page {
    /// Its tab.
    pub id: TabId,
    /// Where it looks for its hub.
    pub place: usize,
    /// Its timers fire at multiples of so many milliseconds.
    pub throttle_ms: u64,
    /// Whether it runs.
    pub life: Life,
    /// When it was loaded.
    pub born: Timestamp,
    /// Since when it runs, if it does.
    pub awake_since: Timestamp,
    /// How far it is with its hub.
    pub phase: Phase,
    /// How often it posted Attach.
    pub attaches: u64,
    /// Its port.
    pub port: Option<u64>,
    /// The hub that answered last.
    pub hub: Option<HubId>,
    /// Its own lock, and whether it was granted.
    pub lock: Option<(Request, bool)>,
    /// The request by which it hears of its hub's end.
    pub watch: Option<Request>,
    /// What it has of its session.
    pub session: PageSession,
    /// Its sockets, those that are closed included.
    pub sockets: BTreeMap<u32, SocketState>,
    /// Its subscriptions to topics.
    pub subscriptions: BTreeMap<u32, Subscription>,
    /// How many there were so far.
    pub subscriptions_made: u32,
    /// The last message to all tabs: of which session, and its number there.
    broadcast: Option<(u64, u64)>,
}

/// What a page has of its session.
#[derive(Debug, Default)]
pub struct PageSession {
    /// What it shows to the next hub.
    pub claim: String,
    /// Frames of lane 0 that it has.
    pub last0: u64,
    /// Frames of its lane that it has.
    pub last: u64,
    /// Messages of sockets so far.
    pub n: u64,
    /// Those that the server is not known to have.
    pub unacked: VecDeque<(u64, Said)>,
    /// What it heard on its sockets and has not given back.
    pub heard: Heard,
    /// What it may send on them.
    pub allowed: Allowed,
    /// Sockets that were asked for in it.
    pub asked: BTreeSet<u32>,
    /// Whether the hub takes what is said.
    pub up: bool,
}

/// Whether a page runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Life {
    /// It does.
    #[default]
    Awake,
    /// The browser stopped it: it keeps its locks and its port.
    Frozen,
    /// It is in the back/forward cache.
    Parked,
}

/// How far a page is with its hub. What is below `New` may post.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// The hub answered.
    Attached,
    /// Back from the back/forward cache: the hub may have forgotten it.
    Restored,
    /// Attach is posted, and all wishes after it.
    Attaching,
    /// It waits for its own lock.
    #[default]
    New,
}

/// Like `readyState`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SocketState {
    /// Wished for.
    #[default]
    Connecting,
    /// Open.
    Open,
    /// The page closed it when it was open.
    Closing,
    /// The page closed it before it was open: nothing of it is heard any more.
    Abandoned,
    /// Closed.
    Closed,
}

/// What a page says on a socket.
#[derive(Clone, Debug)]
pub enum Said {
    /// It wants it.
    Open(u32),
    /// It sends a text.
    Send(u32, String),
    /// It closes it, with this code.
    Close(u32, u16),
    /// It lets the server send so much more on it.
    Credit(u32, u64),
}

/// What a page posts to its hub.
#[derive(Clone, Debug)]
pub enum PageMessage {
    /// It is there, with this claim and these counts.
    Attach(String, u64, u64),
    /// It enters the back/forward cache.
    Park,
    /// It goes.
    Bye,
    /// The `n`th that it says on its sockets.
    Said(u64, Said),
    /// It heard all before this.
    Got(u64, u64),
    /// It wants a topic, which it left there.
    Subscribe(u32, &'static str, Option<Position>),
    /// It wants it no more.
    Unsubscribe(u32),
}

/// What a page does when it hears something.
#[derive(Clone, Debug)]
pub enum Act {
    /// It posts to its hub.
    Post(PageMessage),
    /// It waits for the end of its hub.
    Watch,
}

impl Page {
    /// A page that has just begun.
    pub fn new(id: TabId, place: usize, throttle_ms: u64) -> Self {
        Self {
            id,
            place,
            throttle_ms,
            life: Life::Awake,
            born: Timestamp::default(),
            awake_since: Timestamp::default(),
            phase: Phase::New,
            attaches: 0,
            port: None,
            hub: None,
            lock: None,
            watch: None,
            session: PageSession::default(),
            sockets: BTreeMap::new(),
            subscriptions: BTreeMap::new(),
            subscriptions_made: 0,
            broadcast: None,
        }
    }

    /// Numbers of the sockets in a state.
    pub fn sockets_in(&self, state: SocketState) -> Vec<u32> {
        self.sockets.iter().filter(|(_, it)| **it == state).map(|(id, _)| *id).collect()
    }

    /// A wish for another socket.
    pub fn open(&mut self, reference: &mut Reference) -> Vec<Act> {
        let number = u32::try_from(self.sockets.len()).unwrap_or(u32::MAX - 1) + 1;
        self.sockets.insert(number, SocketState::Connecting);
        reference.page_asks(self.id, number);
        self.ask()
    }

    /// Asks for what it has not asked for in this session, once it can.
    fn ask(&mut self) -> Vec<Act> {
        let mut acts = Vec::new();
        if self.session.up {
            for socket in self.sockets_in(SocketState::Connecting) {
                if self.session.asked.insert(socket) {
                    acts.extend(self.say(Said::Open(socket)));
                }
            }
        }
        acts
    }

    /// The next numbered message of a socket.
    pub fn send(&mut self, number: u32, reference: &mut Reference) -> Checked<Vec<Act>> {
        if self.sockets.get(&number) != Some(&SocketState::Open) {
            return Ok(Vec::new());
        }
        let k = reference.page_says(self.id, number)?;
        let said = Said::Send(number, format!("up {} {number} {k}", self.id));
        self.say_in_turn(number, said, reference)
    }

    /// Closes a socket.
    pub fn close(&mut self, number: u32, reference: &mut Reference) -> Checked<Vec<Act>> {
        let (state, code) = match self.sockets.get(&number) {
            Some(SocketState::Open) => (SocketState::Closing, PAGE_CLOSE),
            Some(SocketState::Connecting) => (SocketState::Abandoned, 0),
            _ => return Ok(Vec::new()),
        };
        self.sockets.insert(number, state);
        reference.page_leaves(self.id, number)?;
        // What was never asked for need not be closed.
        let asked = self.session.asked.contains(&number);
        if !asked {
            return Ok(Vec::new());
        }
        self.say_in_turn(number, Said::Close(number, code), reference)
    }

    pub(crate) fn say(&mut self, said: Said) -> Vec<Act> {
        self.session.n += 1;
        self.session.unacked.push_back((self.session.n, said.clone()));
        let up = self.session.up;
        if up { vec![Act::Post(PageMessage::Said(self.session.n, said))] } else { Vec::new() }
    }

    fn post(&self, message: PageMessage) -> Vec<Act> {
        if self.phase == Phase::New { Vec::new() } else { vec![Act::Post(message)] }
    }

    /// A wish for another subscription.
    pub fn subscribe(&mut self, name: &'static str) -> Vec<Act> {
        self.subscriptions_made += 1;
        let number = self.subscriptions_made;
        let acts = self.post(PageMessage::Subscribe(number, name, None));
        let asked = u32::from(!acts.is_empty());
        self.subscriptions.insert(number, Subscription::new(name, asked));
        acts
    }

    /// Ends a subscription.
    pub fn unsubscribe(&mut self, number: u32) -> Vec<Act> {
        match self.subscriptions.remove(&number) {
            Some(_) => self.post(PageMessage::Unsubscribe(number)),
            None => Vec::new(),
        }
    }

    /// What it posts first, and all its wishes after it.
    pub fn attach(&mut self, phase: Phase) -> Vec<Act> {
        (self.phase, self.session.up) = (phase, false);
        let PageSession { claim, last0, last, .. } = &self.session;
        let attach = PageMessage::Attach(claim.clone(), *last0, *last);
        let mut acts = vec![Act::Post(attach)];
        if phase == Phase::Attaching {
            acts.extend(self.topics_wanted().into_iter().map(Act::Post));
        }
        acts
    }

    /// What it does once it is back from the back/forward cache and holds its lock again.
    pub fn returned(&mut self) -> Vec<Act> {
        if self.phase == Phase::New {
            return self.attach(Phase::Attaching);
        }
        let mut acts = vec![Act::Post(PageMessage::Park)];
        acts.extend(self.attach(Phase::Restored));
        if self.hub.is_some() {
            acts.push(Act::Watch);
        }
        acts
    }

    /// A hub says something.
    pub fn receive(
        &mut self,
        from: HubId,
        message: &HubMessage,
        reference: &mut Reference,
        feed: &Feed,
    ) -> Checked<Vec<Act>> {
        let other = self.hub != Some(from);
        match message {
            HubMessage::Attached { .. } => {
                self.phase = Phase::Attached;
                self.hub = Some(from);
                return Ok(vec![Act::Watch]);
            }
            HubMessage::Resync => {
                let news = if other { true } else { self.phase < Phase::Attaching };
                if !news {
                    return Ok(Vec::new());
                }
                self.hub = Some(from);
                return Ok(self.attach(Phase::Attaching));
            }
            // Said before this tab attached.
            _ if other || self.phase >= Phase::Attaching => return Ok(Vec::new()),
            _ => {}
        }
        self.heard(message, reference, feed)
    }

    fn heard(
        &mut self,
        message: &HubMessage,
        reference: &mut Reference,
        feed: &Feed,
    ) -> Checked<Vec<Act>> {
        match message {
            HubMessage::Attached { .. } | HubMessage::Resync => {}
            HubMessage::State { state, .. } => return self.link_is(*state, reference),
            // Of before it was away.
            HubMessage::Resume { .. } if self.phase != Phase::Attached => {}
            HubMessage::Resume { n_seen, continues, count0, claim } => {
                return self.resumed(*n_seen, *continues, (*count0, claim), reference);
            }
            HubMessage::Lost { .. } => {
                self.session_lost(reference)?;
                self.session.claim.clear();
            }
            HubMessage::Check { count0, count } => {
                let PageSession { last0, last, .. } = self.session;
                // It may be of before this tab attached anew, and know less.
                NothingLost.unless(*count <= last, || {
                    format!("{} has {last0} and {last}, and is asked for {message:?}", self.id)
                })?;
                self.session.last0 = last0.max(*count0);
                return Ok(self.post(PageMessage::Got(*count0, *count)));
            }
            HubMessage::Seen { n } => self.seen(*n)?,
            HubMessage::Sent { n } => {
                // Before Resume it may be of what the page said before it began anew.
                NothingLost.unless(*n <= self.session.n || !self.session.up, || {
                    format!("{} was told that {n} of {} were sent", self.id, self.session.n)
                })?;
            }
            HubMessage::Browser { count0, payload } => {
                if *count0 > self.session.last0 {
                    self.session.last0 = *count0;
                    self.browser_message(text(payload))?;
                }
            }
            HubMessage::BrowserGap => self.broadcast = None,
            HubMessage::Subscribed { .. }
            | HubMessage::Publication { .. }
            | HubMessage::Gap { .. }
            | HubMessage::Unsubscribed { .. } => topics::receive(self, feed, message)?,
            HubMessage::Mirror { .. } | HubMessage::Refused { .. } => {
                return NoError.broken(format!("{} was told {message:?}", self.id));
            }
            HubMessage::Opened { socket, count, credit, .. } => {
                if self.is_news(*count)? {
                    self.opened(socket.0, reference)?;
                    return self.given(socket.0, credit.unwrap_or(0), reference);
                }
            }
            HubMessage::Credit { socket, count, bytes } => {
                if self.is_news(*count)? && self.live(socket.0, message)? {
                    return self.given(socket.0, *bytes, reference);
                }
            }
            HubMessage::Message { socket, count, payload } => {
                if self.is_news(*count)? && self.live(socket.0, message)? {
                    reference.page_hears(self.id, socket.0, text(payload))?;
                    return Ok(self.give(socket.0, text(payload)));
                }
            }
            HubMessage::Closed { socket, count, clean, .. } => {
                if self.is_news(*count)? && self.live(socket.0, message)? {
                    self.closed(socket.0, *clean, reference)?;
                }
            }
            HubMessage::Error { socket, .. } => {
                // Not counted: it may come again, and after the end of what it is about.
                let known = self.sockets.contains_key(&socket.0);
                OnlyWhatWasAsked.unless(known, || format!("{} heard {message:?}", self.id))?;
            }
        }
        Ok(Vec::new())
    }

    /// Whether it has not had this frame of its lane; 0 is none of it.
    fn is_news(&mut self, count: u64) -> Checked<bool> {
        let last = self.session.last;
        if count == 0 {
            return Ok(true);
        }
        if count <= last {
            return Ok(false);
        }
        NothingLost.unless(count == last + 1, || {
            format!("{} got frame {count} of its lane after {last}", self.id)
        })?;
        self.session.last = count;
        Ok(true)
    }

    fn resumed(
        &mut self,
        n_seen: u64,
        continues: bool,
        (count0, claim): (u64, &str),
        reference: &mut Reference,
    ) -> Checked<Vec<Act>> {
        if continues {
            let known = self.session.unacked.front().map_or(self.session.n, |(n, _)| n - 1);
            NothingLost.unless((known..=self.session.n).contains(&n_seen), || {
                let n = self.session.n;
                format!("{}: {known} of {n} were seen, and now {n_seen}", self.id)
            })?;
            self.seen(n_seen)?;
        } else {
            self.session_lost(reference)?;
            self.session.last0 = count0;
            NothingLost.unless(n_seen == 0, || {
                format!("{} begins anew, and {n_seen} of it were seen", self.id)
            })?;
        }
        self.session.claim = claim.to_owned();
        self.session.up = true;
        // What was said before this was said in another session.
        let anew = (!continues).then_some(Act::Post(PageMessage::Got(0, 0)));
        let again = self.session.unacked.iter();
        let again = again.map(|(n, said)| Act::Post(PageMessage::Said(*n, said.clone())));
        let mut acts = anew.into_iter().chain(again).collect::<Vec<_>>();
        acts.extend(self.ask());
        Ok(acts)
    }

    /// What is said while there is no link waits; what is not yet open fails with a dial.
    fn link_is(&mut self, state: LinkState, reference: &mut Reference) -> Checked<Vec<Act>> {
        self.session.up &= state == LinkState::Connected;
        let mut acts = Vec::new();
        if state == LinkState::Backoff {
            for socket in self.sockets_in(SocketState::Connecting) {
                acts.extend(self.close(socket, reference)?);
            }
        }
        Ok(acts)
    }

    /// What was open is lost; what is connecting is asked for again; all counts begin anew.
    fn session_lost(&mut self, reference: &mut Reference) -> Checked {
        for socket in self.sockets_in(SocketState::Open) {
            self.lose(socket, reference)?;
        }
        for socket in self.sockets_in(SocketState::Closing) {
            self.sockets.insert(socket, SocketState::Closed);
        }
        self.broadcast = None;
        let PageSession { claim, up, .. } = std::mem::take(&mut self.session);
        self.session = PageSession { claim, up, ..PageSession::default() };
        Ok(())
    }

    fn lose(&mut self, socket: u32, reference: &mut Reference) -> Checked {
        self.sockets.insert(socket, SocketState::Closed);
        reference.page_loses(self.id, socket)
    }

    fn seen(&mut self, n: u64) -> Checked {
        NothingLost.unless(n <= self.session.n, || {
            format!("{} has said {}, and {n} were seen", self.id, self.session.n)
        })?;
        self.session.unacked.retain(|(at, _)| *at > n);
        Ok(())
    }

    fn opened(&mut self, socket: u32, reference: &mut Reference) -> Checked {
        match self.sockets.get(&socket) {
            Some(SocketState::Connecting) => {
                self.sockets.insert(socket, SocketState::Open);
                reference.page_opens(self.id, socket)
            }
            Some(SocketState::Abandoned) => Ok(()),
            it => OnlyWhatWasAsked
                .broken(format!("{} socket {socket} was opened, and is {it:?}", self.id)),
        }
    }

    fn closed(&mut self, socket: u32, clean: bool, reference: &mut Reference) -> Checked {
        let before = self.sockets.insert(socket, SocketState::Closed);
        match before {
            Some(SocketState::Open | SocketState::Closing) if clean => {
                reference.page_closes(self.id, socket)
            }
            Some(SocketState::Open) => self.lose(socket, reference),
            _ => Ok(()),
        }
    }

    /// The socket is the tab's, and not closed; false if the page no longer listens.
    fn live(&self, socket: u32, message: &HubMessage) -> Checked<bool> {
        match self.sockets.get(&socket) {
            Some(SocketState::Connecting | SocketState::Open | SocketState::Closing) => Ok(true),
            Some(SocketState::Abandoned) => Ok(false),
            it => OnlyWhatWasAsked
                .broken(format!("{} socket {socket} is {it:?}: {message:?}", self.id)),
        }
    }

    /// Within a session: in order, none twice, none missing since the first, none of before it.
    fn browser_message(&mut self, text: &str) -> Checked {
        let id = self.id;
        let number = |at| text.split(' ').nth(at).and_then(|word| word.parse::<u64>().ok());
        let (Some(session), Some(n)) = (number(0), number(1)) else {
            return NothingLost.broken(format!("{id} got a strange message: {text:?}"));
        };
        let early = number(2).is_none_or(|said| said < self.born.as_micros());
        OnlyWhatWasAsked.unless(!early, || format!("{id} got {text:?} of before it was"))?;
        let before = self.broadcast.replace((session, n));
        let right = match before {
            Some((before, last)) if before == session => n == last + 1,
            // Of the session that its hub has, of which it is about to be a part.
            Some(_) | None => true,
        };
        NothingLost.unless(right, || {
            format!("{id} got message to all tabs {n} of session {session} after {before:?}")
        })
    }
}

impl PageMessage {
    /// As the hub is told it.
    pub fn as_input(&self) -> TabMessage<'_> {
        match self {
            Self::Attach(claim, last0, last) => {
                TabMessage::Attach { claim, last0: *last0, last: *last }
            }
            Self::Park => TabMessage::Park,
            Self::Bye => TabMessage::Bye,
            Self::Said(n, said) => said.as_input(*n),
            Self::Got(count0, count) => TabMessage::Got { count0: *count0, count: *count },
            Self::Subscribe(number, name, since) => {
                let subscription = SubscriptionId(*number);
                TabMessage::Subscribe { subscription, name, since: *since }
            }
            Self::Unsubscribe(number) => {
                TabMessage::Unsubscribe { subscription: SubscriptionId(*number) }
            }
        }
    }
}

impl Said {
    fn as_input(&self, n: u64) -> TabMessage<'_> {
        match self {
            Self::Open(socket) => {
                TabMessage::Open { n, socket: SocketId(*socket), path: "/s", protocols: vec![] }
            }
            Self::Send(socket, text) => {
                TabMessage::Send { n, socket: SocketId(*socket), payload: Payload::Text(text) }
            }
            Self::Close(socket, code) => {
                TabMessage::Close { n, socket: SocketId(*socket), code: *code, reason: "" }
            }
            Self::Credit(socket, bytes) => {
                TabMessage::Credit { n, socket: SocketId(*socket), bytes: *bytes }
            }
        }
    }
}

/// The text of a message; what the simulator sends is text throughout.
pub fn text(payload: &OwnedPayload) -> &str {
    match payload {
        OwnedPayload::Text(text) => text,
        OwnedPayload::Binary(_) => "",
    }
}
