//! What a registry charges, held against what the allocator says. All charges must be right within
//! a factor of 1.25.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test looks at few of many kinds")]
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

#[path = "../session/support.rs"]
#[expect(dead_code, reason = "the tests of sessions use the rest")]
mod support;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use peak_alloc::PeakAlloc;
use tabmux_core::{
    session::{Answer, Ask, SlowPolicy, TopicFrame},
    session::{Encoded, Input, Joined, LinkId, Output, Publication, SessionConfig, Topics},
    wire::{Alias, HubFrame, Payload, Request, SocketId, Upstream},
};

use self::support::{Server, ack, attach, hello};

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Held by each test from its first step to its last: they share the allocator.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the allocator and the ledgers said at a moment.
struct Reading {
    allocated: usize,
    charged: usize,
}

impl Reading {
    fn of(server: &Server, topics: Option<&Topics>) -> Self {
        let shared = topics.map_or(0, |topics| topics.meter().bytes());
        let charged = server.registry.stats().charged.bytes() + shared;
        Self { allocated: ALLOCATOR.current_usage(), charged }
    }

    /// Fails the test if what was charged since is not what was allocated since. Both are at least
    /// `least`, so that the rest of the process does not matter.
    fn agrees_with(&self, before: &Self, least: usize) {
        let allocated = self.allocated.saturating_sub(before.allocated);
        let charged = self.charged - before.charged;
        println!("allocated {allocated}, charged {charged}");
        assert!(allocated >= least, "only {allocated} bytes were allocated");
        let ratio = charged as f64 / allocated as f64;
        assert!((0.8..=1.25).contains(&ratio), "charged {charged} for {allocated}: {ratio:.2}");
    }
}

/// Opens sockets of a tab, and leaves the questions as they are.
fn open_sockets(server: &mut Server, alias: u32, count: u32, path: &str) -> Vec<Output> {
    let mut outputs = Vec::new();
    for number in 1..=count {
        let up = Upstream { tab: Alias(alias), n: number.into() };
        let (socket, credit) = (SocketId(number), 1 << 20);
        let protocols = vec!["graphql-transport-ws"];
        let open = HubFrame::Open { up, socket, credit, path, protocols, ticket: "" };
        outputs.extend(server.say(1, &open));
    }
    outputs
}

#[test]
fn small_answers_that_nobody_acknowledges_are_charged_at_their_cost() {
    let _alone = alone();
    let mut server = Server::new();
    server.welcomed(1);
    for tab in 1..=8 {
        server.say(1, &attach(tab));
    }
    let before = Reading::of(&server, None);
    let path = "/nowhere";
    for alias in 1..=8 {
        for round in 0..1_000_u32 {
            // A second OPEN of a number is ignored, so each is closed again.
            let (tab, n) = (Alias(alias), u64::from(round) * 2 + 1);
            let (socket, credit) = (SocketId(round + 1), 0);
            let up = Upstream { tab, n };
            let open = HubFrame::Open { up, socket, credit, path, protocols: vec![], ticket: "" };
            // Not by `say`, which remembers each question.
            let bytes = &open.to_bytes();
            server.registry.handle_input(server.now, Input::LinkMessage { link: LinkId(1), bytes });
            while let Some(output) = server.registry.poll_output() {
                if let Output::Ask { ask, .. } = output {
                    server.registry.answer(server.now, ask, Answer::Open { protocol: "" }).unwrap();
                }
            }
            let up = Upstream { tab, n: n + 1 };
            server.say(1, &HubFrame::Close { up, socket, code: 1000, reason: "" });
        }
        server.written(1, 1 << 20);
    }
    Reading::of(&server, None).agrees_with(&before, 500_000);
    let lanes: Vec<_> = (1..=8).map(|lane| (lane, 2_000)).collect();
    server.say(1, &ack(&lanes));
    assert_eq!(server.registry.stats().charged.lanes, 0);
}

/// The shell keeps the text of a question until it has answered.
#[test]
fn questions_that_nobody_answers_are_charged_with_their_text() {
    let _alone = alone();
    let mut server = Server::new();
    server.attached(1);
    for tab in 2..=4 {
        server.say(1, &attach(tab));
    }
    let path = "/".repeat(1_000);
    let before = Reading::of(&server, None);
    let kept: Vec<_> = (1..=4).map(|alias| open_sockets(&mut server, alias, 250, &path)).collect();
    Reading::of(&server, None).agrees_with(&before, 1_000_000);
    drop(kept);
    for tab in 1..=4 {
        server.say(1, &HubFrame::Gone { tab: tabmux_core::wire::TabId(tab) });
    }
    let charged = server.registry.stats().charged;
    assert_eq!((charged.sockets, charged.asks), (0, 0));
}

/// Publishes as a shell of one shard does.
fn publish(server: &mut Server, topics: &mut Topics, topic: &str, len: usize) {
    let payload = vec![7; len];
    let numbered = topics.publish(topic, Payload::Binary(&payload));
    let TopicFrame { topic, bytes, meter } = numbered.frame.expect("somebody wants it");
    let frame = Encoded::new(bytes.into(), None).of_topic(topic, numbered.previous);
    let frame = Arc::new(frame.charged_to(&meter));
    let publication = Publication { topic, position: numbered.position, frame };
    server.registry.publish(server.now, &[publication]);
    server.drain();
}

/// Subscribes links to a topic, and answers the question where it is.
fn subscribe(server: &mut Server, topics: &mut Topics, links: u64, topic: &str) {
    for link in 1..=links {
        server.welcomed(link);
        server.say(link, &attach(1));
        let subscribe = HubFrame::Subscribe { request: 1, position: None, topic };
        for output in server.say(link, &subscribe) {
            if let Output::Ask { ask, what: Ask::Join { topic } } = output {
                let Joined { topic, position } = topics.join(0, &topic).unwrap();
                let policy = SlowPolicy::DropWithGap;
                let answer = Answer::Joined { topic, position, policy };
                server.registry.answer(server.now, ask, answer).unwrap();
            }
        }
        server.drain();
        server.written(link, 1 << 20);
    }
}

#[test]
fn a_frame_that_many_links_share_is_charged_once() {
    let _alone = alone();
    let (mut server, mut topics) = (Server::new(), Topics::new(1, 10));
    subscribe(&mut server, &mut topics, 50, "prices");
    let topics_alone = topics.meter().bytes();
    let before = Reading::of(&server, Some(&topics));
    // As much as a lane takes: nothing of it waits uncounted.
    for _ in 0..30 {
        publish(&mut server, &mut topics, "prices", 8_000);
        (1..=50).for_each(|link| drop(server.written(link, 10_000)));
    }
    assert_eq!(server.registry.stats().topics.deliveries, 50 * 30);
    Reading::of(&server, Some(&topics)).agrees_with(&before, 250_000);
    for link in 1..=50 {
        server.say(link, &ack(&[(0, 30)]));
    }
    assert_eq!(topics.meter().bytes(), topics_alone);
    assert_eq!(server.registry.stats().charged.lanes, 0);
}

#[test]
fn publications_that_wait_for_a_link_are_charged_once_and_their_entries_to_it() {
    let _alone = alone();
    let config = SessionConfig { window_bytes: 1_000, ..SessionConfig::default() };
    let (mut server, mut topics) = (Server::with(config), Topics::new(1, 10));
    subscribe(&mut server, &mut topics, 50, "prices");
    let topics_alone = topics.meter().bytes();
    let before = Reading::of(&server, Some(&topics));
    for _ in 0..1_000 {
        publish(&mut server, &mut topics, "prices", 200);
    }
    assert!(server.registry.stats().charged.waiting > 50 * 900 * 16, "most of it waits");
    Reading::of(&server, Some(&topics)).agrees_with(&before, 1_000_000);
    for link in 1..=50 {
        server.input(Input::LinkClosed { link: LinkId(link) });
    }
    server.pass(server.registry.config().detached * 2);
    assert_eq!(topics.meter().bytes(), topics_alone);
    assert_eq!(server.registry.stats().charged.bytes(), 0);
}

/// Says a frame without remembering the questions. Returns what came of it.
fn say(server: &mut Server, link: u64, frame: &HubFrame<'_>) -> Vec<Output> {
    let bytes = &frame.to_bytes();
    server.registry.handle_input(server.now, Input::LinkMessage { link: LinkId(link), bytes });
    std::iter::from_fn(|| server.registry.poll_output()).collect()
}

/// Opens links from 1 on, which are welcomed.
fn welcome(server: &mut Server, links: u64) {
    for link in 1..=links {
        server.welcomed(link);
    }
}

#[test]
fn links_and_sessions_are_charged() {
    let _alone = alone();
    let mut server = Server::new();
    let before = Reading::of(&server, None);
    welcome(&mut server, 10_000);
    Reading::of(&server, None).agrees_with(&before, 2_000_000);
    (1..=10_000).for_each(|link| drop(server.cut(link)));
    assert_eq!(server.registry.stats().charged.bytes(), 0);
}

#[test]
fn links_that_say_nothing_are_charged() {
    let _alone = alone();
    let mut server = Server::new();
    let before = Reading::of(&server, None);
    (1..=10_000).for_each(|link| drop(server.open(link)));
    Reading::of(&server, None).agrees_with(&before, 500_000);
}

#[test]
fn tabs_are_charged_and_more_once_they_say_something() {
    let _alone = alone();
    let mut server = Server::new();
    welcome(&mut server, 100);
    let before = Reading::of(&server, None);
    for link in 1..=100 {
        (1..=64).for_each(|tab| drop(say(&mut server, link, &attach(tab))));
    }
    Reading::of(&server, None).agrees_with(&before, 150_000);
    for link in 1..=100 {
        for alias in 1..=64 {
            let up = Upstream { tab: Alias(alias), n: 1 };
            say(&mut server, link, &HubFrame::Credit { up, socket: SocketId(1), bytes: 1 });
        }
    }
    Reading::of(&server, None).agrees_with(&before, 500_000);
}

/// Each link asks for topics of its own. Returns the questions.
fn own_topics(server: &mut Server, links: u64, count: u64) -> Vec<Output> {
    let mut outputs = Vec::new();
    for link in 1..=links {
        for topic in 0..count {
            let topic = &format!("topic {topic} of link {link}");
            let subscribe = HubFrame::Subscribe { request: 1, position: None, topic };
            outputs.extend(say(server, link, &subscribe));
        }
    }
    outputs
}

#[test]
fn topics_are_charged_while_they_are_joined() {
    let _alone = alone();
    let mut server = Server::new();
    welcome(&mut server, 10);
    let before = Reading::of(&server, None);
    let questions = own_topics(&mut server, 10, 1_000);
    Reading::of(&server, None).agrees_with(&before, 3_000_000);
    assert_eq!(questions.len(), 10_000);
}

#[test]
fn topics_are_charged() {
    let _alone = alone();
    let (mut server, mut topics) = (Server::new(), Topics::new(1, 100_000));
    welcome(&mut server, 10);
    let before = Reading::of(&server, Some(&topics));
    for link in 1..=10 {
        for topic in 0..1_000 {
            let topic = &format!("topic {topic} of link {link}");
            let subscribe = HubFrame::Subscribe { request: 1, position: None, topic };
            join(&mut server, &mut topics, link, &subscribe);
        }
    }
    Reading::of(&server, Some(&topics)).agrees_with(&before, 3_000_000);
}

/// Subscribes a link, and answers the question where the topic is.
fn join(server: &mut Server, topics: &mut Topics, link: u64, subscribe: &HubFrame<'_>) {
    for output in say(server, link, subscribe) {
        if let Output::Ask { ask, what: Ask::Join { topic } } = output {
            let Joined { topic, position } = topics.join(0, &topic).unwrap();
            let answer = Answer::Joined { topic, position, policy: SlowPolicy::DropWithGap };
            server.registry.answer(server.now, ask, answer).unwrap();
        }
    }
    while server.registry.poll_output().is_some() {}
    server
        .registry
        .handle_input(server.now, Input::LinkWritten { link: LinkId(link), bytes: 1 << 20 });
}

#[test]
fn wishes_are_charged() {
    let _alone = alone();
    let config = SessionConfig { ask_subscriptions: true, ..SessionConfig::default() };
    let mut server = Server::with(config);
    welcome(&mut server, 10);
    let before = Reading::of(&server, None);
    let questions = own_topics(&mut server, 10, 600);
    Reading::of(&server, None).agrees_with(&before, 1_000_000);
    drop(questions);
    (1..=10).for_each(|link| drop(server.cut(link)));
    assert_eq!(server.registry.stats().charged.bytes(), 0);
}

#[test]
fn small_requests_are_charged() {
    let _alone = alone();
    let config = SessionConfig { requests: true, ..SessionConfig::default() };
    let mut server = Server::with(config);
    welcome(&mut server, 20);
    (1..=20).for_each(|link| drop(say(&mut server, link, &attach(1))));
    let before = Reading::of(&server, None);
    let mut questions = Vec::new();
    for link in 1..=20 {
        for n in 1..=1_000_u32 {
            let request = Request {
                up: Upstream { tab: Alias(1), n: n.into() },
                socket: SocketId(n),
                credit: 100,
                method: "add",
                key: "",
                payload: Payload::Text("12"),
            };
            questions.extend(say(&mut server, link, &HubFrame::Request(request)));
        }
    }
    Reading::of(&server, None).agrees_with(&before, 3_000_000);
    drop(questions);
    assert_eq!(server.registry.stats().asks.open, 20_000);
}

/// The memory of a shell is what it says, before HELLO and after.
#[test]
fn what_the_shell_holds_for_a_link_is_charged_as_it_says() {
    let mut server = Server::new();
    server.open(1);
    let charged = |server: &Server| server.registry.stats().charged.links;
    server.input(Input::LinkHolds { link: LinkId(1), bytes: 1_000 });
    assert_eq!(charged(&server), 1_000);
    server.say(1, &hello());
    server.input(Input::LinkHolds { link: LinkId(1), bytes: 3_000 });
    assert_eq!(charged(&server), 3_000);
    server.cut(1);
    assert_eq!(charged(&server), 0);
}
