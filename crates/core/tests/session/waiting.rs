//! A socket that was told that there is no room is told when there is, whatever its hub does.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;
use tabmux_core::{
    session::{Output, SendError, SessionConfig, SocketRef},
    wire::{
        Alias, HubFrame, LaneCount, Payload, ServerFrame, SocketId, TabId, Upstream, Welcome,
        message_cost,
    },
};

use super::support::{Server, attach_after, frames, hello, resume};

/// Sockets of each tab.
const SOCKETS: u32 = 2;

#[derive(Clone, Debug)]
enum Step {
    Send {
        tab: u32,
        socket: u32,
        len: usize,
        rushed: bool,
    },
    Credit {
        tab: u32,
        socket: u32,
        bytes: u64,
    },
    Ack {
        tab: u32,
        back: u64,
    },
    Written(usize),
    Park(u32),
    Attach(u32),
    Broadcast(usize),
    /// And tabs up to this one attach.
    Reconnect(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let (tab, socket) = (|| 1..4_u32, || 1..=SOCKETS);
    prop_oneof![
        20 => (tab(), socket(), 0..200_usize, prop::bool::weighted(0.1))
            .prop_map(|(tab, socket, len, rushed)| Step::Send { tab, socket, len, rushed }),
        6 => (tab(), socket(), 0..300_u64)
            .prop_map(|(tab, socket, bytes)| Step::Credit { tab, socket, bytes }),
        6 => (tab(), 0..3_u64).prop_map(|(tab, back)| Step::Ack { tab, back }),
        6 => (0..400_usize).prop_map(Step::Written),
        2 => tab().prop_map(Step::Park),
        3 => tab().prop_map(Step::Attach),
        1 => (0..100_usize).prop_map(Step::Broadcast),
        1 => (0..4_u32).prop_map(Step::Reconnect),
    ]
}

/// A hub that keeps to the protocol.
struct Hub {
    server: Server,
    link: u64,
    welcome: Welcome,
    /// Of each lane that is attached, what came.
    got: BTreeMap<u32, u64>,
    /// Of each tab, what it said.
    said: BTreeMap<u32, u64>,
    waiting: BTreeSet<SocketRef>,
    /// Of each socket, what is left of what its tab gave.
    credit: BTreeMap<SocketRef, i64>,
}

impl Hub {
    fn new() -> Self {
        let config = SessionConfig { lane_bytes: 400, session_bytes: 1_000, ..Default::default() };
        let config = SessionConfig { absent_bytes: 700, ..config };
        let config = SessionConfig { message_bytes: 300, queue_bytes: 600, ..config };
        let mut server = Server::with(config);
        let (welcome, _) = server.hello(1, &hello());
        let (got, said, waiting) = ([(0, 0)].into(), BTreeMap::new(), BTreeSet::new());
        let credit = BTreeMap::new();
        let mut hub = Self { server, link: 1, welcome, got, said, waiting, credit };
        for tab in 1..4 {
            hub.attach(tab);
            for socket in 1..=SOCKETS {
                let (path, protocols) = ("/", Vec::new());
                let up = hub.up(tab);
                let socket = SocketId(socket);
                hub.say(&HubFrame::Open { up, socket, credit: 150, path, protocols, ticket: "" });
                hub.credit.insert(hub.socket(tab, socket.0), 150);
                hub.server.accept(hub.socket(tab, socket.0), "");
                hub.hear();
            }
        }
        hub
    }

    fn socket(&self, tab: u32, socket: u32) -> SocketRef {
        SocketRef { session: self.welcome.session, tab: Alias(tab), socket: SocketId(socket) }
    }

    fn up(&mut self, tab: u32) -> Upstream {
        let n = self.said.entry(tab).or_default();
        *n += 1;
        Upstream { tab: Alias(tab), n: *n }
    }

    fn say(&mut self, frame: &HubFrame<'_>) {
        let outputs = self.server.say(self.link, frame);
        self.learn(&outputs);
    }

    fn hear(&mut self) {
        let outputs = self.server.drain();
        self.learn(&outputs);
    }

    fn learn(&mut self, outputs: &[Output]) {
        for output in outputs {
            match output {
                Output::SocketWritable { socket } => {
                    assert!(self.waiting.remove(socket), "it did not wait");
                }
                Output::SocketClosed { .. } | Output::CloseLink { .. } => panic!("{output:?}"),
                _ => {}
            }
        }
        for frame in frames(outputs) {
            match frame {
                ServerFrame::Attached { alias, next, .. } => {
                    self.got.insert(alias.0, next - 1);
                }
                frame => {
                    if let Some(count) = frame.lane().and_then(|lane| self.got.get_mut(&lane)) {
                        *count += 1;
                    }
                }
            }
        }
    }

    fn attach(&mut self, tab: u32) {
        let last = self.got.get(&tab).copied().unwrap_or(0);
        self.say(&attach_after(tab.into(), last));
    }

    fn ack(&mut self, tab: u32, back: u64) {
        let count = self.got.get(&tab).map_or(0, |count| count.saturating_sub(back));
        let lanes = vec![LaneCount { lane: tab, count }];
        self.say(&HubFrame::Ack { lanes, aside: Vec::new() });
    }

    fn credit(&mut self, tab: u32, socket: u32, bytes: u64) {
        *self.credit.entry(self.socket(tab, socket)).or_default() += bytes.cast_signed();
        let (up, socket) = (self.up(tab), SocketId(socket));
        self.say(&HubFrame::Credit { up, socket, bytes });
    }

    fn written(&mut self, bytes: usize) {
        let outputs = self.server.written(self.link, bytes);
        self.learn(&outputs);
    }

    fn apply(&mut self, step: Step) {
        let now = self.server.now;
        match step {
            Step::Send { tab, socket, len, rushed } => {
                let (socket, bytes) = (self.socket(tab, socket), vec![0; len]);
                let payload = Payload::Binary(&bytes);
                let registry = &mut self.server.registry;
                let sent = match rushed {
                    true => registry.send_rushed(now, socket, payload),
                    false => registry.send(now, socket, payload),
                };
                if sent.is_ok() {
                    let cost = message_cost(len).cast_signed();
                    *self.credit.entry(socket).or_default() -= cost;
                } else if sent == Err(SendError::Full) && !rushed {
                    self.waiting.insert(socket);
                }
                self.hear();
            }
            Step::Credit { tab, socket, bytes } => self.credit(tab, socket, bytes),
            Step::Ack { tab, back } => self.ack(tab, back),
            Step::Written(bytes) => self.written(bytes),
            Step::Park(tab) => self.say(&HubFrame::Park { tab: TabId(tab.into()) }),
            Step::Attach(tab) => self.attach(tab),
            Step::Broadcast(len) => {
                let payload = vec![0; len];
                let payload = Payload::Binary(&payload);
                let _ = self.server.registry.broadcast(now, self.welcome.session, payload);
                self.hear();
            }
            Step::Reconnect(last) => {
                let outputs = self.server.cut(self.link);
                self.learn(&outputs);
                self.link += 1;
                let have0 = self.got.get(&0).copied();
                let claim = resume(&self.welcome, 9, have0);
                let (welcome, outputs) = self.server.hello(self.link, &claim);
                assert!(welcome.resumed);
                self.learn(&outputs);
                (1..=last).for_each(|tab| self.attach(tab));
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_socket_waits_for_ever(
        steps in prop::collection::vec(step(), 1..100),
        last in Just(vec![0, 1, 2]).prop_shuffle(),
    ) {
        let mut hub = Hub::new();
        for step in steps {
            hub.apply(step);
            let without_credit = hub.waiting.iter().filter(|it| hub.credit[it] <= 0).count();
            prop_assert_eq!(hub.server.registry.stats().sockets.awaiting_credit, without_credit);
        }
        // All is well again, whatever of it comes last.
        (1..4).for_each(|tab| hub.attach(tab));
        for step in last {
            match step {
                0 => (0..4).for_each(|lane| hub.ack(lane, 0)),
                1 => hub.written(1 << 20),
                _ => (1..4).for_each(|tab| {
                    (1..=SOCKETS).for_each(|socket| hub.credit(tab, socket, 1 << 20));
                }),
            }
        }
        prop_assert_eq!(hub.waiting, BTreeSet::new());
    }
}
