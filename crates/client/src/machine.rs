//! The hub and its only tab, without IO. In a browser these are a worker and a page. Facts go in,
//! and orders and news come out.

use std::collections::{BTreeMap, VecDeque};

use tabmux_core::{
    OwnedPayload, Timestamp,
    hub::{
        AskId, AttemptId, Hub, HubConfig, HubMessage, Input, LinkState, Mode, Output,
        SubscriptionId, TabMessage,
    },
    wire::{HubId, Position, SocketId, TabId, close},
};

use crate::session::{Lane, Said, Session};

/// The error of a socket that was open in a lost session.
const LOST: &str = "the session is lost";

/// What the client's task must do.
#[derive(Debug)]
pub(crate) enum Order {
    /// Dial, and give the new link this id.
    Open(AttemptId),
    /// Send a message on the link.
    Send(AttemptId, OwnedPayload),
    /// Append the credentials to these bytes, and send them on the link.
    Show(AttemptId, Vec<u8>),
    /// Ask the application for its credentials, and pass its answer to [`Machine::answer`].
    Ask(AskId),
    /// Show a ticket at a path of the server.
    ShowTicket { ticket: String, path: String },
    /// Close the link with this code and reason.
    Close(AttemptId, u16, String),
    /// Pass this news to the application.
    Tell(News),
}

/// News for the application. A socket or topic has the number that the application gave it.
#[derive(Debug)]
pub(crate) enum News {
    Status {
        state: LinkState,
        reason: String,
    },
    Opened {
        socket: u32,
        protocol: String,
        credit: u64,
    },
    Message {
        socket: u32,
        payload: OwnedPayload,
    },
    Credit {
        socket: u32,
        bytes: u64,
    },
    /// A socket has ended. `error` says what failed. It is empty if nothing did.
    Closed {
        socket: u32,
        code: u16,
        clean: bool,
        reason: String,
        error: String,
    },
    Subscribed {
        topic: u32,
        position: Position,
    },
    Publication {
        topic: u32,
        position: Position,
        payload: OwnedPayload,
    },
    Gap {
        topic: u32,
        position: Position,
    },
    Unsubscribed {
        topic: u32,
        reason: String,
    },
    Browser(OwnedPayload),
    BrowserGap,
    /// The server or the hub refuses this client for good, with this reason.
    Refused(String),
}

/// A socket that is not closed.
#[derive(Debug)]
struct Socket {
    path: String,
    protocols: Vec<String>,
    phase: Phase,
    /// A text that says what failed. It is empty if nothing did.
    error: String,
}

#[derive(Debug, PartialEq, Eq)]
enum Phase {
    /// The server was not asked for the socket in this session.
    Wanted,
    Asked,
    Open,
}

#[derive(Debug)]
pub(crate) struct Machine {
    hub: Hub,
    tab: TabId,
    session: Session,
    sockets: BTreeMap<u32, Socket>,
    /// While the server has no room for this client: the reason for that.
    no_room: Option<String>,
    url: String,
    /// The reason why the last dial failed, until the hub reports the failure. The hub does not
    /// know the reason, because browsers do not tell it.
    failure: Option<String>,
    orders: VecDeque<Order>,
}

impl Machine {
    /// Returns a machine that dials. `seed` must be random.
    ///
    /// If `asks` is true, the machine asks for credentials before each dial and before they expire.
    pub(crate) fn new(now: Timestamp, url: &str, asks: bool, [hub, tab, seed]: [u64; 3]) -> Self {
        let config = HubConfig { asks, ..HubConfig::new(Mode::Mux, HubId(hub), url) };
        let mut machine = Self {
            hub: Hub::new(config, seed),
            tab: TabId(tab),
            session: Session::default(),
            sockets: BTreeMap::new(),
            no_room: None,
            // The query may contain a secret.
            url: url.split('?').next().unwrap_or_default().to_owned(),
            failure: None,
            orders: VecDeque::new(),
        };
        machine.attach(now);
        machine.carry_out(now);
        machine
    }

    pub(crate) fn open(
        &mut self,
        now: Timestamp,
        socket: u32,
        path: String,
        protocols: Vec<String>,
    ) {
        let phase = Phase::Wanted;
        self.sockets.insert(socket, Socket { path, protocols, phase, error: String::new() });
        self.ask(now, socket);
        if let Some(reason) = self.no_room.clone() {
            self.end_all(|phase| *phase == Phase::Wanted, &reason);
        }
        self.carry_out(now);
    }

    /// Sends a message on a socket. Does nothing if the socket is closed.
    pub(crate) fn send(&mut self, now: Timestamp, socket: u32, payload: OwnedPayload) {
        if self.sockets.contains_key(&socket) {
            self.say(now, socket, Said::Send(payload));
            self.carry_out(now);
        }
    }

    /// Returns credit to the server. Called when the application has taken messages of this cost
    /// from a socket.
    pub(crate) fn give_credit(&mut self, now: Timestamp, socket: u32, bytes: u64) {
        if self.sockets.contains_key(&socket) {
            self.say(now, socket, Said::Credit(bytes));
            self.carry_out(now);
        }
    }

    pub(crate) fn close(&mut self, now: Timestamp, socket: u32, code: u16, reason: String) {
        match self.sockets.get(&socket).map(|socket| &socket.phase) {
            Some(Phase::Wanted) => self.end(socket, close::ABNORMAL, false, String::new()),
            Some(Phase::Asked | Phase::Open) => {
                self.say(now, socket, Said::Close { code, reason });
            }
            None => {}
        }
        self.carry_out(now);
    }

    pub(crate) fn subscribe(
        &mut self,
        now: Timestamp,
        topic: u32,
        name: &str,
        since: Option<Position>,
    ) {
        let subscription = SubscriptionId(topic);
        self.tab(now, TabMessage::Subscribe { subscription, name, since });
        self.carry_out(now);
    }

    pub(crate) fn unsubscribe(&mut self, now: Timestamp, topic: u32) {
        self.tab(now, TabMessage::Unsubscribe { subscription: SubscriptionId(topic) });
        self.carry_out(now);
    }

    /// Takes the answer to a question for credentials: true if they differ from the last ones, or
    /// the reason why there are none.
    pub(crate) fn answer(&mut self, now: Timestamp, id: AskId, answer: Result<bool, &str>) {
        self.tab(now, TabMessage::Answer { id, answer });
        self.carry_out(now);
    }

    /// Called when the application asks to renew its credentials.
    pub(crate) fn renew(&mut self, now: Timestamp) {
        self.tab(now, TabMessage::Renew);
        self.carry_out(now);
    }

    /// Called when the client ends. The session is left for good.
    pub(crate) fn leave(&mut self, now: Timestamp) {
        self.tab(now, TabMessage::Bye);
        self.carry_out(now);
    }

    /// Takes an event of the link.
    pub(crate) fn link(&mut self, now: Timestamp, input: Input<'_>) {
        if let Input::LinkClosed { reason, failed: true, .. } = input {
            self.failure = Some(reason.to_owned());
        }
        self.hub.handle_input(now, input);
        self.carry_out(now);
    }

    /// Does what is due at `now`. `bytes` is what the link has not sent yet.
    pub(crate) fn wake(&mut self, now: Timestamp, attempt: AttemptId, bytes: u64) {
        self.hub.handle_input(now, Input::LinkBuffered { attempt, bytes });
        self.hub.handle_timeout(now);
        self.carry_out(now);
    }

    pub(crate) fn poll_order(&mut self) -> Option<Order> {
        self.orders.pop_front()
    }

    pub(crate) fn poll_timeout(&self) -> Option<Timestamp> {
        self.hub.poll_timeout().map(|(at, _)| at)
    }

    fn attach(&mut self, now: Timestamp) {
        self.session.is_up = false;
        let message = self.session.attach();
        self.hub.handle_input(now, Input::TabMessage { tab: self.tab, message });
    }

    fn tab(&mut self, now: Timestamp, message: TabMessage<'_>) {
        self.hub.handle_input(now, Input::TabMessage { tab: self.tab, message });
    }

    /// Asks the server for a socket, if the session is up and the socket was not asked for yet.
    fn ask(&mut self, now: Timestamp, socket: u32) {
        let Some(Socket { path, protocols, phase, .. }) = self.sockets.get_mut(&socket) else {
            return;
        };
        if self.session.is_up && *phase == Phase::Wanted {
            *phase = Phase::Asked;
            let said = Said::Open { path: path.clone(), protocols: protocols.clone() };
            self.say(now, socket, said);
        }
    }

    fn say(&mut self, now: Timestamp, socket: u32, said: Said) {
        let is_up = self.session.is_up;
        let entry = self.session.number(SocketId(socket), said);
        if is_up {
            let message = entry.message();
            self.hub.handle_input(now, Input::TabMessage { tab: self.tab, message });
        }
    }

    fn news(&mut self, news: News) {
        self.orders.push_back(Order::Tell(news));
    }

    /// Carries out the hub's orders. Orders about locks, tags and tabs do nothing here: this hub
    /// shares its link with no other hub, and its tab lives as long as the hub.
    fn carry_out(&mut self, now: Timestamp) {
        while let Some(output) = self.hub.poll_output() {
            match output {
                Output::RequestLinkLock => self.hub.handle_input(now, Input::LinkLockGranted),
                Output::OpenLink { attempt } => self.orders.push_back(Order::Open(attempt)),
                Output::SendLink { attempt, payload } => {
                    self.orders.push_back(Order::Send(attempt, payload));
                }
                Output::ShowCredentials(attempt, frame) => {
                    self.orders.push_back(Order::Show(attempt, frame));
                }
                Output::CloseLink { attempt, code, reason } => {
                    self.orders.push_back(Order::Close(attempt, code, reason));
                }
                Output::PostToTab { message, .. } | Output::PostToTabs { message, .. } => {
                    self.hear(now, message);
                }
                Output::ShowTicket { ticket, path } => {
                    self.orders.push_back(Order::ShowTicket { ticket, path });
                }
                Output::ReleaseLinkLock
                | Output::AskWho
                | Output::TakeTag { .. }
                | Output::WatchTab { .. }
                | Output::DropTab { .. }
                | Output::Event(_) => {}
            }
        }
    }

    fn hear(&mut self, now: Timestamp, message: HubMessage) {
        use HubMessage as M;
        match message {
            M::Attached { state, .. } => self.status(now, state, String::new()),
            M::State { state, reason, .. } => self.status(now, state, reason),
            M::Resume { n_seen, continues, count0, claim } => {
                self.go_on(now, n_seen, (!continues).then_some(count0), claim);
            }
            M::Lost { .. } => self.lose(0),
            M::Check { count0, count } => {
                self.session.is_heard(Lane::All, count0);
                self.session.is_heard(Lane::Own, count);
                self.tab(now, TabMessage::Got { count0, count });
            }
            M::Seen { n } => self.session.seen(n),
            M::Browser { count0, payload } => {
                if !self.session.is_heard(Lane::All, count0) {
                    self.news(News::Browser(payload));
                }
            }
            M::Direct { count, payload } => {
                if self.is_fresh(count) {
                    self.news(News::Browser(payload));
                }
            }
            M::BrowserGap => self.news(News::BrowserGap),
            M::Subscribed { subscription: SubscriptionId(topic), position, .. } => {
                self.news(News::Subscribed { topic, position });
            }
            M::Publication { subscription: SubscriptionId(topic), position, payload } => {
                self.news(News::Publication { topic, position, payload });
            }
            M::Gap { subscription: SubscriptionId(topic), position } => {
                self.news(News::Gap { topic, position });
            }
            M::Unsubscribed { subscription: SubscriptionId(topic), message } => {
                self.news(News::Unsubscribed { topic, reason: message });
            }
            M::Error { socket: SocketId(socket), message } => self.fail(socket, message),
            M::Opened { socket, count, protocol, credit, .. } => {
                if self.is_fresh(count) {
                    self.opened(socket.0, protocol, credit);
                }
            }
            M::Message { socket: SocketId(socket), count, payload } => {
                if self.is_fresh(count) {
                    self.news(News::Message { socket, payload });
                }
            }
            M::Credit { socket: SocketId(socket), count, bytes } => {
                if self.is_fresh(count) {
                    self.news(News::Credit { socket, bytes });
                }
            }
            M::Closed { socket: SocketId(socket), count, code, clean, reason } => {
                if self.is_fresh(count) {
                    self.end(socket, code, clean, reason);
                }
            }
            // The next link may belong to another user. This client has only one hub, so its tab
            // attaches to it anew.
            M::Resync | M::Elsewhere { .. } => self.attach(now),
            M::Refused { message } => self.news(News::Refused(message)),
            M::Ask { id, .. } => self.orders.push_back(Order::Ask(id)),
            // `Sent` is ignored, because what was handed to the link may still be lost. The others
            // belong to mirror mode, or say which hub serves which user.
            M::Sent { .. } | M::Mirror { .. } | M::Wait { .. } | M::User { .. } => {}
        }
    }

    fn fail(&mut self, socket: u32, error: String) {
        if let Some(socket) = self.sockets.get_mut(&socket) {
            socket.error = error;
        }
    }

    /// Returns true if the message with this count in the tab's lane was not heard before. A
    /// message with count 0 is in no lane, and always fresh.
    const fn is_fresh(&mut self, count: u64) -> bool {
        count == 0 || !self.session.is_heard(Lane::Own, count)
    }

    fn opened(&mut self, socket: u32, protocol: String, credit: Option<u64>) {
        if let Some(opened) = self.sockets.get_mut(&socket) {
            opened.phase = Phase::Open;
            let credit = credit.unwrap_or(u64::MAX);
            self.news(News::Opened { socket, protocol, credit });
        }
    }

    fn status(&mut self, now: Timestamp, state: LinkState, mut reason: String) {
        if let Some(why) = self.failure.take() {
            reason = format!("could not connect to {}: {why}", self.url);
        }
        if state != LinkState::Connected {
            self.session.is_up = false;
        }
        if state == LinkState::Backoff {
            // A socket that is not open fails with its connection, as a native socket does. The
            // server may still open it if the session goes on, so the socket is closed there too.
            for socket in self.in_phase(|phase| *phase == Phase::Asked) {
                self.say(now, socket, Said::Close { code: 0, reason: String::new() });
            }
            self.end_all(|phase| *phase != Phase::Open, &reason);
        }
        let fails = matches!(state, LinkState::Full | LinkState::Refused);
        self.no_room = fails.then(|| reason.clone());
        if self.no_room.is_some() {
            // The server holds no sockets of a client for which it has no room.
            self.end_all(|_| true, &reason);
        }
        self.news(News::Status { state, reason });
    }

    /// Called when the server accepts what this client sends. It has received this tab's frames up
    /// to `n_seen`. If a new session begins, `anew` is the count of lane 0 at its start.
    fn go_on(&mut self, now: Timestamp, n_seen: u64, anew: Option<u64>, claim: String) {
        if let Some(count0) = anew {
            self.lose(count0);
            // This tells the hub that everything sent before belongs to the previous session.
            self.tab(now, TabMessage::Got { count0: 0, count: 0 });
        }
        self.session.set_claim(claim);
        self.session.seen(n_seen);
        self.session.is_up = true;
        for entry in self.session.unseen() {
            let message = entry.message();
            self.hub.handle_input(now, Input::TabMessage { tab: self.tab, message });
        }
        let sockets = self.sockets.keys().copied().collect::<Vec<_>>();
        sockets.into_iter().for_each(|socket| self.ask(now, socket));
    }

    /// Called when the session is lost. Open sockets end. The others are asked for again in the
    /// next session.
    fn lose(&mut self, count0: u64) {
        let had_one = self.session.had_one();
        self.session.forget(count0);
        self.end_all(|phase| *phase == Phase::Open, LOST);
        self.sockets.values_mut().for_each(|socket| socket.phase = Phase::Wanted);
        if had_one {
            // Messages to all tabs that were sent between the two sessions are lost.
            self.news(News::BrowserGap);
        }
    }

    /// Ends the sockets in these phases as if their connection broke.
    fn end_all(&mut self, ends: impl Fn(&Phase) -> bool, error: &str) {
        for number in self.in_phase(ends) {
            if let Some(socket) = self.sockets.get_mut(&number) {
                error.clone_into(&mut socket.error);
            }
            self.end(number, close::ABNORMAL, false, String::new());
        }
    }

    fn in_phase(&self, is: impl Fn(&Phase) -> bool) -> Vec<u32> {
        let sockets = self.sockets.iter().filter(|(_, socket)| is(&socket.phase));
        sockets.map(|(number, _)| *number).collect()
    }

    fn end(&mut self, socket: u32, code: u16, clean: bool, reason: String) {
        if let Some(Socket { error, .. }) = self.sockets.remove(&socket) {
            self.news(News::Closed { socket, code, clean, reason, error });
        }
    }
}
