//! Makes traces from seeds. A hub gets inputs of all kinds, likely or not, and they are recorded.
//! The traces compare builds with each other, so nothing is asserted about the hub's orders.

use std::collections::{BTreeMap, VecDeque};

use tabmux_core::{
    OwnedPayload, Timestamp,
    hub::{
        AskId, AttemptId, Hub, HubConfig, HubMessage, Input, Mode, Output, SubscriptionId,
        TabMessage,
    },
    trace::Recorder,
};
use tabmux_wire::{
    Alias, HubFrame, HubId, IdentityTag, LaneCount, Limits, Payload, Position, ServerFrame,
    SessionId, SocketId, Subscribed, TabId, Term, Token, TopicId, Welcome, WelcomeTail,
};

use crate::rng::Rng;

const TABS: u64 = 4;
const SOCKETS: u64 = 3;
const TOPICS: [&str; 3] = ["prices", "news", "wëather"];
const URL: &str = "wss://host.test/tabmux/ws";

/// Records a hub that is given `steps` inputs. Odd seeds give a hub in mirror mode. Half of the
/// seeds give a hub that asks tabs for the address of its link, and half of these a hub that asks
/// the server for the browser's user. All times are whole milliseconds, which every shell
/// represents exactly.
pub fn record(seed: u64, steps: u64) -> Vec<u8> {
    let mut recording = Recording::new(seed);
    for _ in 0..steps {
        recording.step();
    }
    recording.trace
}

struct Recording {
    rng: Rng,
    hub: Hub,
    recorder: Recorder,
    trace: Vec<u8>,
    millis: u64,
    wake: Option<Timestamp>,
    tabs: BTreeMap<u64, Tab>,
    attempt: AttemptId,
    link: Link,
    lock_wanted: bool,
    /// Frames that the server is about to send.
    mail: VecDeque<Vec<u8>>,
    /// Questions to tabs that are not answered yet.
    questions: VecDeque<(TabId, AskId)>,
    offset: u64,
}

/// The state that a page keeps.
#[derive(Default)]
struct Tab {
    said: u64,
    claim: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Link {
    Closed,
    Dialling,
    Open,
}

impl Recording {
    fn new(seed: u64) -> Self {
        let mode = if seed.is_multiple_of(2) { Mode::Mux } else { Mode::Mirror };
        let asks = seed % 4 > 1;
        let asks_who = seed % 8 > 3;
        let tag = if seed % 16 > 11 { "ann" } else { "" }.to_owned();
        let config = HubConfig { asks, asks_who, tag, ..HubConfig::new(mode, HubId(seed), URL) };
        let (recorder, trace) = Recorder::new(&config, seed);
        Self {
            rng: Rng::new(seed),
            hub: Hub::new(config, seed),
            recorder,
            trace,
            millis: 1,
            wake: None,
            tabs: BTreeMap::new(),
            attempt: AttemptId(0),
            link: Link::Closed,
            lock_wanted: false,
            mail: VecDeque::new(),
            questions: VecDeque::new(),
            offset: 0,
        }
    }

    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.millis)
    }

    fn step(&mut self) {
        self.millis += match self.rng.below(20) {
            0 => self.rng.below(20_000),
            _ => self.rng.below(40),
        };
        if self.wake.is_some_and(|at| at <= self.now()) {
            return self.wake();
        }
        match self.rng.below(10) {
            0..5 => self.link(),
            5 => self.comes_or_goes(),
            _ => self.says(),
        }
    }

    fn wake(&mut self) {
        let bytes = self.rng.below(3) * 400_000;
        self.tell(Input::LinkBuffered { attempt: self.attempt, bytes });
        let now = self.now();
        self.trace.extend_from_slice(self.recorder.timeout(now));
        self.hub.handle_timeout(now);
        self.drain();
    }

    fn link(&mut self) {
        if self.lock_wanted && self.rng.one_in(2) {
            self.lock_wanted = false;
            return self.input(Input::LinkLockGranted);
        }
        if let Some((tab, id)) = self.questions.pop_front() {
            let is_new = self.rng.one_in(2);
            let answer = if self.rng.one_in(4) { Err("logged out") } else { Ok(is_new) };
            return self.said(tab.0, TabMessage::Answer { id, answer });
        }
        let attempt = self.attempt;
        let code = self.rng.pick(&[1000, 1006, 1012, 4000]).unwrap_or(1006);
        let closed = Input::LinkClosed {
            attempt,
            code,
            reason: "bye",
            clean: code != 1006,
            failed: code == 4000,
        };
        match self.link {
            Link::Closed => self.input(closed),
            Link::Dialling if self.rng.one_in(4) => {
                self.link = Link::Closed;
                self.input(closed);
            }
            Link::Dialling => {
                self.link = Link::Open;
                self.input(Input::LinkOpened { attempt, protocol: "chat", extensions: "x" });
            }
            Link::Open if self.rng.one_in(60) => {
                self.link = Link::Closed;
                self.input(closed);
            }
            Link::Open => self.server_says(),
        }
    }

    fn server_says(&mut self) {
        let attempt = self.attempt;
        if let Some(bytes) = self.mail.pop_front() {
            let payload = Payload::Binary(&bytes);
            return self.input(Input::LinkMessage { attempt, payload });
        }
        let (a, b) = (self.rng.below(TABS) + 1, self.rng.below(SOCKETS) + 1);
        let (tab, socket) = (Alias(u32::try_from(a).unwrap_or(1)), socket(b));
        let topic = TopicId(self.rng.below(3) + 1);
        let previous = self.offset;
        self.offset += self.rng.below(3);
        let position = Position { epoch: 1, offset: self.offset };
        let text = "x".repeat(usize::try_from(self.rng.below(300)).unwrap_or(0));
        let payload = Payload::Text(&text);
        let frame = match self.rng.below(9) {
            0 => return self.input(Input::LinkMessage { attempt, payload }),
            1 => return self.input(Input::LinkMessage { attempt, payload: Payload::Binary(b"?") }),
            2 | 3 => ServerFrame::Publication { topic, position, previous, payload },
            4 => ServerFrame::Gap { topic, position },
            5 => ServerFrame::Message { payload },
            6 => ServerFrame::Data { tab, socket, payload: Payload::Binary(&[0, 255]) },
            7 => ServerFrame::Ack { lanes: vec![LaneCount { lane: tab.0, count: b }] },
            _ => ServerFrame::Close { tab, socket, code: 1000, reason: "over" },
        };
        // A message that is no frame ends the link, so such messages are rare.
        let bytes = frame.to_bytes();
        self.input(Input::LinkMessage { attempt, payload: Payload::Binary(&bytes) });
    }

    fn comes_or_goes(&mut self) {
        let tab = self.rng.below(TABS) + 1;
        let [last0, last] = [self.rng.below(3), self.rng.below(3)];
        match self.rng.below(12) {
            10 | 11 => self.of_users(tab),
            9 => self.said(tab, TabMessage::Visible { online: last == 0 }),
            0 => self.said(tab, TabMessage::Park),
            1 => self.said(tab, TabMessage::Bye),
            2 => self.input(Input::TabLockGranted { tab: TabId(tab) }),
            3 => {
                let online = self.rng.one_in(2);
                self.input(Input::NetworkChanged { online });
            }
            _ => {
                let claim = self.tabs.entry(tab).or_default().claim.clone();
                self.said(tab, TabMessage::Attach { claim: &claim, last0, last });
            }
        }
    }

    fn of_users(&mut self, tab: u64) {
        match self.rng.below(10) {
            0 => self.input(Input::TagTaken),
            1 => self.said(tab, TabMessage::Logout),
            2..5 => self.said(tab, TabMessage::Whose),
            5 => self.said(tab, TabMessage::Renew),
            _ => {
                let text = self.rng.pick(&["user ann", "user bob", "nobody", "refused", ""]);
                self.input(Input::Who { text: text.unwrap_or_default() });
            }
        }
    }

    fn says(&mut self) {
        let (tab, number) = (self.rng.below(TABS) + 1, self.rng.below(SOCKETS) + 1);
        let (socket, subscription) = (socket(number), SubscriptionId(socket(number).0));
        let text = "ü".repeat(usize::try_from(self.rng.below(200)).unwrap_or(0));
        let large = vec![7; usize::try_from(self.rng.below(40_000)).unwrap_or(0)];
        let name = self.rng.pick(&TOPICS).unwrap_or("prices");
        let since = self.rng.one_in(2).then_some(Position { epoch: 1, offset: self.offset });
        let choice = self.rng.below(13);
        // Each tab counts its reliable messages. Now and then its count is wrong.
        let mut n = self.tabs.get(&tab).map_or(0, |tab| tab.said) + 1;
        n += u64::from(self.rng.one_in(30));
        let message = match choice {
            0..3 => {
                TabMessage::Open { n, socket, path: "/path?s3cret", protocols: vec!["one", "two"] }
            }
            3..6 => TabMessage::Send { n, socket, payload: Payload::Text(&text) },
            6 => TabMessage::Send { n, socket, payload: Payload::Binary(&large) },
            7 => TabMessage::Close { n, socket, code: 3001, reason: &text },
            8 => TabMessage::Credit { n, socket, bytes: number << 10 },
            9 => TabMessage::Unsubscribe { subscription },
            10 => TabMessage::Got { count0: number, count: number },
            _ => TabMessage::Subscribe { subscription, name, since },
        };
        if choice < 9
            && let Some(tab) = self.tabs.get_mut(&tab)
        {
            tab.said = n;
        }
        self.said(tab, message);
    }

    fn said(&mut self, tab: u64, message: TabMessage<'_>) {
        self.input(Input::TabMessage { tab: TabId(tab), message });
    }

    fn input(&mut self, input: Input<'_>) {
        self.tell(input);
        self.drain();
    }

    fn tell(&mut self, input: Input<'_>) {
        let now = self.now();
        self.trace.extend_from_slice(self.recorder.input(now, &input));
        self.hub.handle_input(now, input);
    }

    fn drain(&mut self) {
        while let Some(output) = self.hub.poll_output() {
            self.recorder.output(&output);
            self.carry_out(output);
        }
        self.wake = self.hub.poll_timeout().map(|(at, _)| at);
        self.trace.extend_from_slice(self.recorder.drained(self.wake));
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::RequestLinkLock => self.lock_wanted = true,
            Output::ReleaseLinkLock => self.lock_wanted = false,
            Output::OpenLink { attempt } => {
                (self.attempt, self.link) = (attempt, Link::Dialling);
                self.mail.clear();
            }
            Output::CloseLink { .. } if self.rng.one_in(2) => self.link = Link::Closed,
            Output::SendLink { payload: OwnedPayload::Binary(bytes), .. }
            | Output::ShowCredentials(_, bytes) => self.answer(&bytes),
            Output::PostToTab { tab, message } => self.page_hears(tab, message),
            _ => {}
        }
    }

    fn page_hears(&mut self, tab: TabId, message: HubMessage) {
        match message {
            HubMessage::Resume { n_seen, claim, .. } => {
                self.tabs.insert(tab.0, Tab { said: n_seen, claim });
            }
            HubMessage::Ask { id, .. } => self.questions.push_back((tab, id)),
            _ => {}
        }
    }

    /// Queues an answer of the server, roughly as a server would give it.
    fn answer(&mut self, bytes: &[u8]) {
        let Ok(frame) = HubFrame::decode(bytes) else { return };
        let answer = match frame {
            HubFrame::Hello(hello) => ServerFrame::Welcome(Welcome {
                session: SessionId([7; 16]),
                token: Token([8; 16]),
                term: Term(hello.resume.map_or(1, |resume| resume.term.0 + 1)),
                resumed: hello.resume.is_some() && !self.rng.one_in(4),
                next0: hello.resume.and_then(|resume| resume.have0).unwrap_or(0) + 1,
                heartbeat_ms: 25_000,
                limits: LIMITS,
                tabs: vec![],
                tail: Some(WelcomeTail {
                    identity: IdentityTag::User("ann".into()),
                    features: Vec::new(),
                }),
            }),
            HubFrame::Attach { tab, last } => ServerFrame::Attached {
                tab,
                alias: Alias(u32::try_from(tab.0).unwrap_or(1)),
                next: last + 1,
                n_seen: self.tabs.get(&tab.0).map_or(0, |tab| tab.said),
                aside: self.rng.one_in(5),
            },
            HubFrame::Ping { nonce } => ServerFrame::Pong { nonce },
            HubFrame::Open { up, socket, .. } => {
                ServerFrame::Opened { tab: up.tab, socket, credit: 1 << 20, protocol: "one" }
            }
            HubFrame::Data { up, socket, payload } => {
                ServerFrame::Data { tab: up.tab, socket, payload }
            }
            HubFrame::Close { up, socket, code, reason } => {
                ServerFrame::Close { tab: up.tab, socket, code, reason }
            }
            HubFrame::Subscribe { request, topic, .. } => ServerFrame::Subscribed(Subscribed {
                request,
                topic: TopicId(
                    TOPICS.iter().position(|name| *name == topic).unwrap_or(0) as u64 + 1,
                ),
                recovered: self.rng.one_in(2),
                position: Position { epoch: 1, offset: self.offset },
                name: topic,
            }),
            _ => return,
        };
        self.mail.push_back(answer.to_bytes());
    }
}

const LIMITS: Limits = Limits {
    message_bytes: 30_000,
    lane_bytes: 1 << 20,
    session_bytes: 4 << 20,
    detached_ms: 60_000,
    parked_ms: 600_000,
    tabs: 16,
    sockets: 8,
};

fn socket(number: u64) -> SocketId {
    SocketId(u32::try_from(number).unwrap_or(1))
}
