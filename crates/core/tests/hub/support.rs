//! A hub with hands: what its shell, its tabs and its server would do, one line each.

use std::{collections::BTreeMap, time::Duration};

use tabmux_core::{
    OwnedPayload, Timestamp,
    hub::{
        AttemptId, Hub, HubConfig, HubMessage, Input, LinkState, Mode, Output, TabMessage,
        WakeReason,
    },
};
use tabmux_wire::{
    Alias, HubFrame, HubId, Limits, Payload, ServerFrame, SessionId, SocketId, TabId, Term, Token,
    Welcome,
};

pub(crate) const ONE: SocketId = SocketId(1);
pub(crate) const TWO: SocketId = SocketId(2);

/// The hub, the time, and what was ordered and not yet looked at.
pub(crate) struct Bench {
    pub(crate) hub: Hub,
    pub(crate) now: Timestamp,
    pub(crate) outputs: Vec<Output>,
    pub(crate) attempt: AttemptId,
    /// What each tab has said in its session, as pages keep it.
    said: BTreeMap<u64, Vec<Said>>,
    /// What each tab that was told to resume shows to the next hub.
    pub(crate) claims: BTreeMap<u64, String>,
    /// Whether tabs have not yet heard what they are told.
    pub(crate) deaf: bool,
}

/// A numbered message of a tab.
#[derive(Clone)]
enum Said {
    Open(SocketId),
    Send(SocketId, String),
    Close(SocketId, u16),
}

/// A tab attaches that has nothing.
pub(crate) const ATTACH: TabMessage<'static> = TabMessage::Attach { claim: "", last0: 0, last: 0 };

impl Bench {
    pub(crate) fn new(mode: Mode) -> Self {
        Self::with(HubConfig::new(mode, HubId(1), "ws://server/tabmux/ws"))
    }

    pub(crate) fn with(config: HubConfig) -> Self {
        let hub = Hub::new(config, 1);
        let (outputs, said) = (Vec::new(), BTreeMap::new());
        let claims = BTreeMap::new();
        let (now, attempt) = (Timestamp::default(), AttemptId(0));
        Self { hub, now, outputs, attempt, said, claims, deaf: false }
    }

    /// A mux hub with one tab, connected.
    pub(crate) fn connected() -> Self {
        let mut bench = Self::new(Mode::Mux);
        bench.tab(1, ATTACH);
        bench.connect();
        bench
    }

    /// A mirror hub whose tab 1 has an open view.
    pub(crate) fn mirrored() -> Self {
        let mut bench = Self::new(Mode::Mirror);
        bench.tab(1, ATTACH);
        bench.open(1, ONE);
        bench.grant_and_open();
        bench.take();
        bench
    }

    pub(crate) fn input(&mut self, input: Input<'_>) {
        self.hub.handle_input(self.now, input);
        self.drain();
    }

    pub(crate) fn tab(&mut self, tab: u64, message: TabMessage<'_>) {
        self.input(Input::TabMessage { tab: TabId(tab), message });
    }

    pub(crate) fn open(&mut self, tab: u64, socket: SocketId) {
        self.say(tab, Said::Open(socket));
    }

    pub(crate) fn send(&mut self, tab: u64, socket: SocketId, text: &str) {
        self.say(tab, Said::Send(socket, text.to_owned()));
    }

    pub(crate) fn close(&mut self, tab: u64, socket: SocketId, code: u16) {
        self.say(tab, Said::Close(socket, code));
    }

    /// A tab attaches that has `last` frames of its lane.
    pub(crate) fn back(&mut self, tab: u64, last: u64) {
        let claim = self.claims.get(&tab).cloned().unwrap_or_default();
        self.tab(tab, TabMessage::Attach { claim: &claim, last0: 0, last });
    }

    fn say(&mut self, tab: u64, message: Said) {
        let said = self.said.entry(tab).or_default();
        said.push(message.clone());
        let n = said.len() as u64;
        self.say_again(tab, n, &message);
    }

    fn say_again(&mut self, tab: u64, n: u64, message: &Said) {
        let message = match message {
            Said::Open(socket) => {
                TabMessage::Open { n, socket: *socket, path: "/p", protocols: vec![] }
            }
            Said::Send(socket, text) => {
                TabMessage::Send { n, socket: *socket, payload: Payload::Text(text) }
            }
            Said::Close(socket, code) => {
                TabMessage::Close { n, socket: *socket, code: *code, reason: "" }
            }
        };
        self.tab(tab, message);
    }

    /// What a page does when it is told how far the other end is.
    fn resume(&mut self, tab: u64, n_seen: u64, continues: bool, claim: String) {
        if self.deaf {
            return;
        }
        if !continues {
            self.tab(tab, TabMessage::Got { count0: 0, count: 0 });
        }
        if self.claims.insert(tab, claim).is_some() && !continues {
            self.said.remove(&tab);
        }
        let said = self.said.get(&tab).cloned().unwrap_or_default();
        for (message, n) in said.iter().zip(1..).filter(|(_, n)| *n > n_seen) {
            self.say_again(tab, n, message);
        }
    }

    /// The shell grants the lock and opens the link that the hub then asks for.
    pub(crate) fn grant_and_open(&mut self) {
        if self.outputs.contains(&Output::RequestLinkLock) {
            self.input(Input::LinkLockGranted);
        }
        let attempt = self.attempt;
        self.input(Input::LinkOpened { attempt, protocol: "chat", extensions: "" });
    }

    /// As above, and the server says WELCOME, and ATTACHED to every tab.
    pub(crate) fn connect(&mut self) {
        self.connect_by(welcome());
    }

    pub(crate) fn connect_by(&mut self, welcome: Welcome) {
        self.grant_and_open();
        let hello = self.sent();
        self.server(&ServerFrame::Welcome(welcome));
        self.answer_attaches(&hello);
        self.take();
    }

    /// Says ATTACHED for each ATTACH; the alias is the tab's id.
    pub(crate) fn answer_attaches(&mut self, sent: &[Vec<u8>]) {
        for bytes in sent {
            if let Ok(HubFrame::Attach { tab, .. }) = HubFrame::decode(bytes) {
                let alias = alias(tab.0);
                let (next, n_seen, aside) = (1, 0, false);
                self.server(&ServerFrame::Attached { tab, alias, next, n_seen, aside });
            }
        }
    }

    pub(crate) fn server(&mut self, frame: &ServerFrame<'_>) {
        self.link(Payload::Binary(&frame.to_bytes()));
    }

    pub(crate) fn link(&mut self, payload: Payload<'_>) {
        let attempt = self.attempt;
        self.input(Input::LinkMessage { attempt, payload });
    }

    pub(crate) fn link_closed(&mut self, code: u16) {
        let attempt = self.attempt;
        self.input(Input::LinkClosed {
            attempt,
            code,
            reason: "",
            clean: code != 1006,
            failed: false,
        });
    }

    /// Lets time pass, waking the hub whenever it asked for it.
    pub(crate) fn pass(&mut self, span: Duration) {
        let end = self.now + span;
        while let Some((at, _)) = self.hub.poll_timeout().filter(|(at, _)| *at <= end) {
            self.now = at.max(self.now);
            self.hub.handle_timeout(self.now);
            self.drain();
            let next = self.hub.poll_timeout();
            assert!(next.is_none_or(|(next, _)| next > self.now), "the hub spins: {next:?}");
        }
        self.now = end;
    }

    /// As above, but no timer runs until the end.
    pub(crate) fn sleep(&mut self, span: Duration) {
        self.now = self.now + span;
        self.hub.handle_timeout(self.now);
        self.drain();
    }

    pub(crate) fn wakes_for(&self) -> Option<WakeReason> {
        self.hub.poll_timeout().map(|(_, reason)| reason)
    }

    /// What was ordered since this was last asked.
    pub(crate) fn take(&mut self) -> Vec<Output> {
        std::mem::take(&mut self.outputs)
    }

    /// The messages sent on the link since outputs were last taken; takes nothing.
    pub(crate) fn sent(&self) -> Vec<Vec<u8>> {
        let bytes = |output: &Output| match output {
            Output::SendLink { payload, .. } => Some(payload.as_payload().as_bytes().to_vec()),
            Output::ShowCredentials(_, frame) => Some(frame.clone()),
            _ => None,
        };
        self.outputs.iter().filter_map(bytes).collect()
    }

    /// The messages posted to a tab since outputs were last taken, without Resume and without
    /// their counts; takes nothing.
    pub(crate) fn posted(&self, tab: u64) -> Vec<HubMessage> {
        let mut posted = self.all_posted(tab);
        posted.retain(|message| !matches!(message, HubMessage::Resume { .. }));
        for message in &mut posted {
            match message {
                HubMessage::Opened { count, .. }
                | HubMessage::Message { count, .. }
                | HubMessage::Closed { count, .. } => *count = 0,
                HubMessage::Browser { count0, .. } => *count0 = 0,
                _ => {}
            }
        }
        posted
    }

    /// The same, with both.
    pub(crate) fn all_posted(&self, tab: u64) -> Vec<HubMessage> {
        let to_tab = |output: &Output| match output {
            Output::PostToTab { tab: to, message } if to.0 == tab => Some(message.clone()),
            Output::PostToTabs { tabs, message } if tabs.contains(&TabId(tab)) => {
                Some(message.clone())
            }
            _ => None,
        };
        self.outputs.iter().filter_map(to_tab).collect()
    }

    pub(crate) fn states(&self, tab: u64) -> Vec<LinkState> {
        let state = |message: HubMessage| match message {
            HubMessage::State { state, .. } => Some(state),
            _ => None,
        };
        self.posted(tab).into_iter().filter_map(state).collect()
    }

    fn drain(&mut self) {
        let mut resumed = Vec::new();
        while let Some(output) = self.hub.poll_output() {
            match &output {
                Output::OpenLink { attempt } => self.attempt = *attempt,
                Output::PostToTab {
                    tab,
                    message: HubMessage::Resume { n_seen, continues, claim, .. },
                } => resumed.push((tab.0, *n_seen, *continues, claim.clone())),
                _ => {}
            }
            self.outputs.push(output);
        }
        for (tab, n_seen, continues, claim) in resumed {
            self.resume(tab, n_seen, continues, claim);
        }
    }
}

pub(crate) fn alias(tab: u64) -> Alias {
    Alias(u32::try_from(tab).expect("small tab ids in tests"))
}

pub(crate) fn text(text: &str) -> OwnedPayload {
    OwnedPayload::Text(text.to_owned())
}

pub(crate) fn welcome() -> Welcome {
    Welcome {
        session: SessionId([1; 16]),
        token: Token([2; 16]),
        term: Term(1),
        resumed: false,
        next0: 1,
        heartbeat_ms: 25_000,
        limits: Limits {
            message_bytes: 1000,
            lane_bytes: 1 << 18,
            session_bytes: 1 << 20,
            detached_ms: 60_000,
            parked_ms: 600_000,
            tabs: 64,
            sockets: 256,
        },
        tabs: vec![],
        tail: None,
    }
}

pub(crate) fn opened(tab: u64, socket: SocketId) -> ServerFrame<'static> {
    ServerFrame::Opened { tab: alias(tab), socket, credit: 1000, protocol: "" }
}

pub(crate) fn data(tab: u64, socket: SocketId, text: &str) -> ServerFrame<'_> {
    ServerFrame::Data { tab: alias(tab), socket, payload: Payload::Text(text) }
}

pub(crate) fn closed(socket: SocketId, code: u16, clean: bool) -> HubMessage {
    HubMessage::Closed { socket, count: 0, code, clean, reason: String::new() }
}

pub(crate) fn is_opened(message: &HubMessage) -> bool {
    matches!(message, HubMessage::Opened { .. })
}
