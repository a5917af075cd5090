//! A registry with a clock, and the hubs at the other end of its links.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use tabmux_core::{
    Timestamp,
    session::{
        Admitted, Answer, AnswerError, Ask, AskId, Denial, DenialCode, Event, Input, LinkDown,
        LinkId, Output, Registry, SessionConfig, SocketRef, User, Visitor,
    },
    wire::{
        Alias, ErrorCode, Hello, HubFrame, HubId, LaneCount, NEWEST_VERSION, OLDEST_VERSION,
        Payload, Resume, ServerFrame, SessionId, SocketId, TabId, Upstream, Welcome,
    },
};

pub(crate) struct Server {
    pub(crate) registry: Registry,
    pub(crate) now: Timestamp,
    /// The questions for sockets, by socket; some may be over.
    opens: BTreeMap<SocketRef, AskId>,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::with(SessionConfig::default())
    }

    pub(crate) fn with(config: SessionConfig) -> Self {
        let now = Timestamp::from_millis(1_000);
        Self { registry: Registry::new(config, now), now, opens: BTreeMap::new() }
    }

    pub(crate) fn input(&mut self, input: Input<'_>) -> Vec<Output> {
        self.registry.handle_input(self.now, input);
        self.drain()
    }

    pub(crate) fn drain(&mut self) -> Vec<Output> {
        let outputs: Vec<_> = std::iter::from_fn(|| self.registry.poll_output()).collect();
        for output in &outputs {
            if let Output::Ask { ask, what: Ask::Open { socket, .. } } = output {
                self.opens.insert(*socket, *ask);
            }
        }
        outputs
    }

    /// Answers the question for a socket.
    pub(crate) fn answer(
        &mut self,
        socket: SocketRef,
        answer: Answer<'_>,
    ) -> Result<(), AnswerError> {
        self.registry.answer(self.now, self.opens[&socket], answer)
    }

    /// Opens a socket with this sub-protocol, if it still waits for that.
    pub(crate) fn accept(&mut self, socket: SocketRef, protocol: &str) {
        let _ = self.answer(socket, Answer::Open { protocol });
    }

    /// Refuses a socket, if it still waits for an answer.
    pub(crate) fn reject(&mut self, socket: SocketRef, code: ErrorCode, message: &str) {
        self.reject_with(socket, code.into(), message);
    }

    /// The same with any code.
    pub(crate) fn reject_with(&mut self, socket: SocketRef, code: DenialCode, message: &str) {
        let _ = self.answer(socket, Answer::Deny(Denial { code, message, retry: None }));
    }

    /// Time passes, and the registry is woken whenever it asks to be.
    pub(crate) fn pass(&mut self, span: Duration) -> Vec<Output> {
        let (end, mut outputs) = (self.now + span, Vec::new());
        while let Some((at, _)) = self.registry.poll_timeout().filter(|(at, _)| *at <= end) {
            self.now = self.now.max(at);
            self.registry.handle_timeout(self.now);
            outputs.extend(self.drain());
        }
        self.now = end;
        outputs
    }

    pub(crate) fn open(&mut self, link: u64) -> Vec<Output> {
        self.open_as(link, 0)
    }

    /// A link of a user; 0: nobody's.
    pub(crate) fn open_as(&mut self, link: u64, user: u64) -> Vec<Output> {
        let user = (user > 0).then(|| Arc::new(User::new(&user.to_string(), 0)));
        let admitted = user.map(|user| Admitted { user: Some(user), ..Admitted::default() });
        self.open_by(link, admitted.map(Visitor::Admitted))
    }

    /// A link of a visitor.
    pub(crate) fn open_by(&mut self, link: u64, visitor: Option<Visitor>) -> Vec<Output> {
        let mut entropy = [7; 32];
        entropy[8..16].copy_from_slice(&link.to_be_bytes());
        let (link, visitor) = (LinkId(link), visitor.map(Arc::new));
        self.input(Input::LinkOpened { link, entropy, visitor })
    }

    pub(crate) fn say(&mut self, link: u64, frame: &HubFrame<'_>) -> Vec<Output> {
        self.input(Input::LinkMessage { link: LinkId(link), bytes: &frame.to_bytes() })
    }

    /// The WELCOME that answers this HELLO on a new link, and what else there is.
    pub(crate) fn hello(&mut self, link: u64, hello: &HubFrame<'_>) -> (Welcome, Vec<Output>) {
        self.open(link);
        let outputs = self.say(link, hello);
        let welcome = frames(&outputs).into_iter().find_map(|frame| match frame {
            ServerFrame::Welcome(welcome) => Some(welcome),
            _ => None,
        });
        (welcome.unwrap_or_else(|| panic!("not welcomed: {outputs:?}")), outputs)
    }

    /// A socket of tab 1 as `socket` has it, and the WELCOME of its link.
    pub(crate) fn welcome_socket(&mut self, link: u64) -> (SocketRef, Welcome) {
        let (welcome, _) = self.hello(link, &hello());
        self.say(link, &attach(1));
        self.say(link, &open(1, 1));
        let session = welcome.session;
        let socket = SocketRef { session, tab: Alias(1), socket: SocketId(1) };
        self.accept(socket, "");
        self.drain();
        (socket, welcome)
    }

    /// Sends a text on a socket.
    pub(crate) fn send(&mut self, socket: SocketRef, text: &str) -> Vec<Output> {
        self.registry.send(self.now, socket, Payload::Text(text)).unwrap();
        self.drain()
    }

    /// A link breaks.
    pub(crate) fn cut(&mut self, link: u64) -> Vec<Output> {
        self.input(Input::LinkClosed { link: LinkId(link) })
    }

    /// A link that was welcomed, and its session.
    pub(crate) fn welcomed(&mut self, link: u64) -> SessionId {
        self.open(link);
        let outputs = self.say(link, &hello());
        match event(&outputs) {
            Event::LinkUp { session, .. } => *session,
            other => panic!("not welcomed: {other:?}"),
        }
    }

    /// A welcomed link whose tab 1 has alias 1.
    pub(crate) fn attached(&mut self, link: u64) -> SessionId {
        let session = self.welcomed(link);
        self.say(link, &attach(1));
        session
    }

    /// An attached link whose tab opened socket 1 with frame 1; not yet accepted.
    pub(crate) fn opening(&mut self, link: u64) -> SocketRef {
        let session = self.attached(link);
        self.say(link, &open(1, 1));
        SocketRef { session, tab: Alias(1), socket: SocketId(1) }
    }

    /// The same, accepted.
    pub(crate) fn socket(&mut self, link: u64) -> SocketRef {
        let socket = self.opening(link);
        self.accept(socket, "");
        self.drain();
        socket
    }

    /// All that was sent goes to the kernel.
    pub(crate) fn written(&mut self, link: u64, bytes: usize) -> Vec<Output> {
        self.input(Input::LinkWritten { link: LinkId(link), bytes })
    }
}

pub(crate) fn hello() -> HubFrame<'static> {
    HubFrame::Hello(Hello {
        min_version: OLDEST_VERSION,
        max_version: NEWEST_VERSION,
        hub: HubId(9),
        resume: None,
        credentials: "",
    })
}

pub(crate) fn attach(tab: u64) -> HubFrame<'static> {
    HubFrame::Attach { tab: TabId(tab), last: 0 }
}

/// The tab has `last` frames of its lane.
pub(crate) fn attach_after(tab: u64, last: u64) -> HubFrame<'static> {
    HubFrame::Attach { tab: TabId(tab), last }
}

/// HELLO that goes on with the session of a WELCOME, as another hub or the same.
pub(crate) fn resume(welcome: &Welcome, hub: u64, have0: Option<u64>) -> HubFrame<'static> {
    let Welcome { session, token, term, .. } = *welcome;
    let resume = Some(Resume { session, token, term, have0 });
    let (min_version, max_version, credentials) = (OLDEST_VERSION, NEWEST_VERSION, "");
    HubFrame::Hello(Hello { min_version, max_version, hub: HubId(hub), resume, credentials })
}

/// Frames of lanes were received.
pub(crate) fn ack(lanes: &[(u32, u64)]) -> HubFrame<'static> {
    let lanes = lanes.iter().map(|&(lane, count)| LaneCount { lane, count }).collect();
    HubFrame::Ack { lanes, aside: Vec::new() }
}

pub(crate) fn open(n: u64, socket: u32) -> HubFrame<'static> {
    let (path, protocols) = ("/echo?x=1", vec!["a", "b"]);
    HubFrame::Open {
        up: up(n),
        socket: SocketId(socket),
        credit: 1 << 20,
        path,
        protocols,
        ticket: "",
    }
}

/// The same, with this credit.
pub(crate) fn open_with(n: u64, socket: u32, credit: u64) -> HubFrame<'static> {
    let (path, protocols) = ("/echo", Vec::new());
    HubFrame::Open { up: up(n), socket: SocketId(socket), credit, path, protocols, ticket: "" }
}

pub(crate) fn credit(n: u64, socket: u32, bytes: u64) -> HubFrame<'static> {
    HubFrame::Credit { up: up(n), socket: SocketId(socket), bytes }
}

pub(crate) fn text(n: u64, socket: u32, text: &str) -> HubFrame<'_> {
    HubFrame::Data { up: up(n), socket: SocketId(socket), payload: Payload::Text(text) }
}

pub(crate) fn close(n: u64, socket: u32, code: u16, reason: &str) -> HubFrame<'_> {
    HubFrame::Close { up: up(n), socket: SocketId(socket), code, reason }
}

/// The header of a frame of the tab with alias 1.
pub(crate) fn up(n: u64) -> Upstream {
    Upstream { tab: Alias(1), n }
}

/// The frames among the outputs.
pub(crate) fn frames(outputs: &[Output]) -> Vec<ServerFrame<'_>> {
    let bytes = outputs.iter().filter_map(|output| match output {
        Output::Send { bytes, .. } => Some(bytes),
        _ => None,
    });
    bytes.map(|bytes| ServerFrame::decode(bytes).unwrap()).collect()
}

/// The one frame among the outputs.
pub(crate) fn frame(outputs: &[Output]) -> ServerFrame<'_> {
    let mut frames = frames(outputs);
    assert_eq!(frames.len(), 1, "{outputs:?}");
    frames.remove(0)
}

/// The one event among the outputs.
pub(crate) fn event(outputs: &[Output]) -> &Event {
    let events = outputs.iter().filter_map(|output| match output {
        Output::Event(event) => Some(event),
        _ => None,
    });
    let events = events.collect::<Vec<_>>();
    assert_eq!(events.len(), 1, "{outputs:?}");
    events[0]
}

/// The link that was closed, its code and why.
pub(crate) fn closed(outputs: &[Output]) -> (u64, u16, &str) {
    let close = outputs.iter().find_map(|output| match output {
        Output::CloseLink { link, code, reason } => Some((link.0, *code, &**reason)),
        _ => None,
    });
    close.unwrap_or_else(|| panic!("no link was closed: {outputs:?}"))
}

/// Why the link is down.
pub(crate) fn cause(outputs: &[Output]) -> LinkDown {
    let cause = outputs.iter().find_map(|output| match output {
        Output::LinkDown { cause, .. } => Some(*cause),
        _ => None,
    });
    cause.unwrap_or_else(|| panic!("no link is down: {outputs:?}"))
}
