//! Whatever hubs send: no panic, no spinning, no count that drifts.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use proptest::prelude::*;
use tabmux_core::{
    session::{
        self, Admitted, Answer, Ask, AskId, Denial, Encoded, Input, LinkId, Output, Publication,
        SessionConfig, SlowPolicy, SocketRef, Stats, TopicFrame, Topics, Visitor,
    },
    wire::{
        Alias, ErrorCode, Hello, HubFrame, HubId, LaneCount, Payload, ServerFrame, SocketId, TabId,
        Token, Upstream, Welcome, close,
    },
};

use super::support::{Server, hello, resume};

/// One thing that happens to a server with a few links.
#[derive(Clone, Debug)]
enum Step {
    Open(u64),
    Frame(u64, Vec<u8>),
    Text(u64),
    Written(u64, usize),
    Closed(u64),
    Pass(u32),
    /// HELLO that claims a session of before; `true`: with another token.
    Resume(u64, prop::sample::Index, HubId, bool),
    Reply {
        send: bool,
        close: bool,
    },
    /// The shell joins the topics that are wanted.
    Join,
    Publish(usize, usize),
}

const TOPICS: [(&str, SlowPolicy); 3] = [
    ("recover", SlowPolicy::Recover),
    ("latest", SlowPolicy::KeepLatest),
    ("gap", SlowPolicy::DropWithGap),
];

fn plain_hello() -> Hello<'static> {
    let HubFrame::Hello(hello) = hello() else { unreachable!() };
    hello
}

fn upstream() -> impl Strategy<Value = Upstream> {
    (1..4_u32, 1..6_u64).prop_map(|(tab, n)| Upstream { tab: Alias(tab), n })
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    let (tab, socket) = (|| (1..5_u64).prop_map(TabId), || (1..4_u32).prop_map(SocketId));
    let code = prop_oneof![Just(0_u16), Just(1000), Just(close::NO_STATUS), any::<u16>()];
    let amount = || prop_oneof![0..200_u64, Just(u64::MAX)];
    let open = (upstream(), socket(), amount()).prop_map(|(up, socket, credit)| {
        HubFrame::Open { up, socket, credit, path: "/p", protocols: vec!["a"], ticket: "" }
            .to_bytes()
    });
    let credit = (upstream(), socket(), amount())
        .prop_map(|(up, socket, bytes)| HubFrame::Credit { up, socket, bytes }.to_bytes());
    let data = (upstream(), socket(), ".{0,9}").prop_map(|(up, socket, text)| {
        HubFrame::Data { up, socket, payload: Payload::Text(&text) }.to_bytes()
    });
    let closing = (upstream(), socket(), code).prop_map(|(up, socket, code)| {
        HubFrame::Close { up, socket, code, reason: "r" }.to_bytes()
    });
    prop_oneof![
        2 => Just(hello().to_bytes()),
        1 => Just(HubFrame::Hello(Hello { credentials: "c", ..plain_hello() }).to_bytes()),
        2 => (1..9_u64).prop_map(|request| {
            HubFrame::Credentials { request, credentials: "c" }.to_bytes()
        }),
        4 => (tab(), 0..3_u64)
            .prop_map(|(tab, last)| HubFrame::Attach { tab, last: last / 2 }.to_bytes()),
        1 => tab().prop_map(|tab| HubFrame::Park { tab }.to_bytes()),
        1 => tab().prop_map(|tab| HubFrame::Gone { tab }.to_bytes()),
        1 => Just(HubFrame::Suspend.to_bytes()),
        1 => any::<u64>().prop_map(|nonce| HubFrame::Ping { nonce }.to_bytes()),
        4 => (1..9_u64, 0..3_usize).prop_map(|(request, topic)| {
            let topic = TOPICS[topic].0;
            HubFrame::Subscribe { request, position: None, topic }.to_bytes()
        }),
        2 => (0..3_usize)
            .prop_map(|topic| HubFrame::Unsubscribe { topic: TOPICS[topic].0 }.to_bytes()),
        3 => (0..3_u32, 0..4_u64, prop::option::weighted(0.2, 1..3_u32))
            .prop_map(|(lane, count, aside)| {
                let lanes = vec![LaneCount { lane, count }];
                let aside = aside.into_iter().map(Alias).collect();
                HubFrame::Ack { lanes, aside }.to_bytes()
            }),
        6 => open,
        6 => data,
        3 => closing,
        3 => credit,
        1 => prop::collection::vec(any::<u8>(), 0..40),
    ]
}

/// A frame, sometimes with one byte of it changed.
fn perhaps_mutated() -> impl Strategy<Value = Vec<u8>> {
    (frame(), prop::option::weighted(0.1, (any::<prop::sample::Index>(), any::<u8>()))).prop_map(
        |(mut bytes, mutation)| {
            if let Some((index, byte)) = mutation
                && !bytes.is_empty()
            {
                let at = index.index(bytes.len());
                bytes[at] = byte;
            }
            bytes
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let link = || 1..4_u64;
    prop_oneof![
        2 => link().prop_map(Step::Open),
        20 => (link(), perhaps_mutated()).prop_map(|(link, bytes)| Step::Frame(link, bytes)),
        1 => link().prop_map(Step::Text),
        2 => (link(), 0..500_usize).prop_map(|(link, bytes)| Step::Written(link, bytes)),
        1 => link().prop_map(Step::Closed),
        2 => (0..30_000_u32).prop_map(Step::Pass),
        4 => (link(), any::<prop::sample::Index>(), 9..11_u64, any::<u8>()).prop_map(
            |(link, session, hub, token)| Step::Resume(link, session, HubId(hub), token < 9)
        ),
        4 => any::<(bool, bool)>().prop_map(|(send, close)| Step::Reply { send, close }),
        2 => Just(Step::Join),
        9 => (0..3_usize, 0..90_usize).prop_map(|(topic, len)| Step::Publish(topic, len)),
    ]
}

/// What the application and the shell know.
struct Known {
    topics: Topics,
    wanted: Vec<(AskId, Arc<str>)>,
    links: BTreeSet<u64>,
    /// Links of which the registry has not yet said that they are down.
    up: BTreeSet<u64>,
    next_link: u64,
    opening: BTreeMap<AskId, SocketRef>,
    /// Questions about credentials.
    connecting: BTreeSet<AskId>,
    open: BTreeSet<SocketRef>,
    welcomes: Vec<Welcome>,
}

impl Known {
    /// Checks each output against what was known, and learns from it.
    fn learn(&mut self, outputs: Vec<Output>) {
        for output in outputs {
            match output {
                Output::Send { link, bytes } => {
                    assert!(self.links.contains(&link.0));
                    if let Ok(ServerFrame::Welcome(welcome)) = ServerFrame::decode(&bytes) {
                        self.welcomes.push(welcome);
                    }
                }
                Output::CloseLink { link, code, reason } => {
                    assert!(self.links.remove(&link.0));
                    assert!((1000..=4999).contains(&code) && reason.len() <= 123);
                }
                Output::Ask { ask, what: Ask::Open { socket, .. } } => {
                    assert!(self.opening.insert(ask, socket).is_none());
                }
                Output::Ask { ask, what: Ask::Join { topic } } => self.wanted.push((ask, topic)),
                Output::Ask { ask, what: Ask::Connect { .. } } => {
                    assert!(self.connecting.insert(ask));
                }
                Output::Ask {
                    what: Ask::Subscribe { .. } | Ask::Request { .. } | Ask::Recall { .. },
                    ..
                } => unreachable!("not configured"),
                Output::Withdrawn(ask) => {
                    let of_topic = self.wanted.iter().any(|(wanted, _)| *wanted == ask);
                    self.wanted.retain(|(wanted, _)| *wanted != ask);
                    let of_link = self.connecting.remove(&ask);
                    assert!(self.opening.remove(&ask).is_some() || of_topic || of_link);
                }
                Output::SocketMessage { socket, .. } | Output::SocketWritable { socket } => {
                    assert!(self.open.contains(&socket));
                }
                Output::SocketClosed { socket, .. } => {
                    assert!(self.open.remove(&socket));
                }
                Output::Publish { links, .. } => {
                    assert!(links.iter().all(|link| self.links.contains(&link.0)));
                }
                Output::TopicUnwanted { topic } => self.topics.leave(0, topic),
                Output::LinkDown { link, .. } => assert!(self.up.remove(&link.0)),
                Output::Event(_) => {}
            }
        }
    }

    fn new() -> Self {
        Self {
            topics: Topics::new(1, 2),
            wanted: Vec::new(),
            links: BTreeSet::new(),
            up: BTreeSet::new(),
            next_link: 0,
            opening: BTreeMap::new(),
            connecting: BTreeSet::new(),
            open: BTreeSet::new(),
            welcomes: Vec::new(),
        }
    }

    fn join(&mut self, server: &mut Server) {
        for (ask, name) in std::mem::take(&mut self.wanted) {
            let known = TOPICS.iter().find(|(topic, _)| **topic == *name);
            let policy = known.map_or(SlowPolicy::Recover, |(_, policy)| *policy);
            let joined = self.topics.join(0, &name);
            let full = joined.as_ref().err().map(ToString::to_string).unwrap_or_default();
            let answer = match joined {
                Ok(session::Joined { topic, position }) => {
                    Answer::Joined { topic, position, policy }
                }
                Err(_) => Answer::Deny(Denial {
                    code: ErrorCode::Limit.into(),
                    message: &full,
                    retry: None,
                }),
            };
            server.registry.answer(server.now, ask, answer).unwrap();
            self.learn(server.drain());
        }
    }

    fn publish(&mut self, server: &mut Server, topic: usize, len: usize) {
        let numbered = self.topics.publish(TOPICS[topic].0, Payload::Binary(&vec![0; len]));
        if let Some(TopicFrame { topic, bytes, .. }) = numbered.frame {
            let frame = Encoded::new(bytes.into(), None).of_topic(topic, numbered.previous);
            let frame = Arc::new(frame);
            let publication = Publication { topic, position: numbered.position, frame };
            server.registry.publish(server.now, &[publication]);
            self.learn(server.drain());
        }
    }

    fn reply(&mut self, server: &mut Server, send: bool, close: bool) {
        while let Some((_, socket)) = self.opening.pop_first() {
            if socket.socket == SocketId(3) {
                server.reject(socket, ErrorCode::Rejected, "three");
            } else {
                server.accept(socket, "");
                self.open.insert(socket);
            }
            self.learn(server.drain());
        }
        while let Some(ask) = self.connecting.pop_first() {
            let until = send.then_some(server.now + Duration::from_secs(9));
            let who = Admitted { until, ..Admitted::default() };
            let who = Arc::new(Visitor::Admitted(who));
            let no = Denial { code: ErrorCode::Denied.into(), message: "no", retry: None };
            let answer = if close { Answer::Deny(no) } else { Answer::Admit(&who) };
            server.registry.answer(server.now, ask, answer).unwrap();
            self.learn(server.drain());
        }
        for socket in self.open.clone() {
            if send {
                let _ = server.registry.send(server.now, socket, Payload::Text("reply"));
                let _ = server.registry.broadcast(server.now, socket.session, Payload::Text("x"));
            }
            if close && self.open.contains(&socket) {
                server.registry.close(server.now, socket, 1000, "").unwrap();
            }
            self.learn(server.drain());
        }
    }
}

/// Few links, small queues: the limits are in reach.
fn small() -> SessionConfig {
    let config = SessionConfig { links: 2, tabs: 2, sockets: 2, ..SessionConfig::default() };
    let config = SessionConfig { subscriptions: 2, memory_bytes: 6_000, ..config };
    let config = SessionConfig { minimum_bytes: 100, ..config };
    let config = SessionConfig { window_bytes: 50, backlog_bytes: 200, ..config };
    let config = SessionConfig { lane_bytes: 150, session_bytes: 300, absent_bytes: 200, ..config };
    let config = SessionConfig { detached_sessions: 2, ..config };
    let config = SessionConfig { credentials: true, ..config };
    SessionConfig { message_bytes: 100, queue_bytes: 200, control_bytes: 100, ..config }
}

fn apply(server: &mut Server, known: &mut Known, names: &mut [u64; 4], step: Step) {
    let outputs = match step {
        Step::Open(slot) => {
            known.next_link += 1;
            names[slot as usize] = known.next_link;
            known.links.insert(known.next_link);
            known.up.insert(known.next_link);
            server.open(known.next_link)
        }
        Step::Frame(slot, bytes) => {
            let link = LinkId(names[slot as usize]);
            server.input(Input::LinkMessage { link, bytes: &bytes })
        }
        Step::Resume(slot, session, hub, forged) => {
            let Some(welcome) = known.welcomes.get(session.index(known.welcomes.len().max(1)))
            else {
                return;
            };
            let token = if forged { Token([8; 16]) } else { welcome.token };
            let claim = Welcome { token, ..welcome.clone() };
            server.say(names[slot as usize], &resume(&claim, hub.0, None))
        }
        Step::Text(slot) => server.input(Input::LinkText { link: LinkId(names[slot as usize]) }),
        Step::Written(slot, bytes) => server.written(names[slot as usize], bytes),
        Step::Closed(slot) => {
            known.links.remove(&names[slot as usize]);
            server.input(Input::LinkClosed { link: LinkId(names[slot as usize]) })
        }
        Step::Pass(millis) => server.pass(Duration::from_millis(millis.into())),
        Step::Reply { send, close } => return known.reply(server, send, close),
        Step::Join => return known.join(server),
        Step::Publish(topic, len) => return known.publish(server, topic, len),
    };
    known.learn(outputs);
}

/// The counters of what there is now; those that only grow are left out.
fn held(stats: Stats) -> [usize; 8] {
    let Stats { links, sessions, tabs, sockets, memory, .. } = stats;
    let (tabs, parked) = (tabs.attached, tabs.parked);
    let (kept, waiting) = (memory.kept_bytes, sockets.awaiting_credit);
    let (sessions, detached) = (sessions.held, sessions.detached);
    [links.open, sessions, detached, tabs, parked, sockets.open, kept, waiting]
}

/// What topics hold: topics, subscriptions, bytes that wait.
fn held_by_topics(stats: Stats) -> [usize; 3] {
    [stats.topics.subscribed, stats.topics.subscriptions, stats.memory.queued_bytes]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_sequence_breaks_the_registry(steps in prop::collection::vec(step(), 1..120)) {
        let (mut server, mut known, mut names) = (Server::with(small()), Known::new(), [0; 4]);
        for step in steps {
            apply(&mut server, &mut known, &mut names, step);
            let [links, sessions, detached, tabs, parked, sockets, kept, waiting] =
                held(server.registry.stats());
            prop_assert_eq!(links, known.links.len());
            prop_assert_eq!(sockets, known.opening.len() + known.open.len());
            prop_assert!(waiting <= known.open.len());
            prop_assert!(sessions <= links + detached && detached <= 2);
            prop_assert!(tabs + parked <= sessions * 2);
            // Four times both limits, a message, and answers, for those with a link and without.
            let most = 4 * (300 + 200) + 100 + 100 + 300;
            prop_assert!(kept <= sessions * most, "{} bytes kept", kept);
            prop_assert!(links <= 2 && sockets <= (tabs + parked) * 2);
            let [topics, subscriptions, queued] = held_by_topics(server.registry.stats());
            prop_assert!(topics <= subscriptions && subscriptions <= sessions * 2);
            // A full queue, what control may add, one call's answers, and a backlog, a link.
            prop_assert!(queued <= sessions * (200 + 100 + 300 + 200), "{} bytes", queued);
            // While a link lives, or a session waits for one, there is a time to look at it again,
            // and it lies ahead.
            let timeout = server.registry.poll_timeout();
            prop_assert!(timeout.is_some() || links + detached == 0);
            server.registry.handle_timeout(server.now);
            prop_assert!(server.registry.poll_timeout().is_none_or(|(at, _)| at > server.now));
        }
        known.learn(server.pass(Duration::from_secs(3600)));
        prop_assert_eq!(held(server.registry.stats()), [0; 8]);
        prop_assert_eq!(held_by_topics(server.registry.stats()), [0; 3]);
        known.join(&mut server);
        prop_assert!(known.opening.is_empty() && known.open.is_empty());
    }
}
