//! ATTACH, PARK, GONE and the counts of tabs.

use std::time::Duration;

use tabmux_core::{
    session::{Ask, Event, LinkId, Output, SessionConfig, SocketRef},
    wire::{Alias, ErrorCode, HubFrame, Payload, ServerFrame, SocketId, TabId, Upstream},
};

use super::support::{Server, attach, closed, event, frame, frames, open, resume, text, up};

#[test]
fn each_tab_gets_an_alias_of_its_own() {
    let mut server = Server::new();
    server.welcomed(1);
    for (tab, expected) in [(10, 1), (20, 2)] {
        let outputs = server.say(1, &attach(tab));
        let attached = ServerFrame::Attached {
            tab: TabId(tab),
            alias: Alias(expected),
            next: 1,
            n_seen: 0,
            aside: false,
        };
        assert_eq!(frame(&outputs), attached);
    }
    assert_eq!(server.registry.stats().tabs.attached, 2);
}

#[test]
fn attaching_again_keeps_the_alias_and_tells_the_counts() {
    let mut server = Server::new();
    let socket = server.socket(1);
    server.registry.send(server.now, socket, Payload::Text("hi")).unwrap();
    server.drain();
    let outputs = server.say(1, &attach(1));
    let frames = frames(&outputs);
    let ServerFrame::Attached { alias, next, n_seen, .. } = frames[0] else {
        panic!("not attached: {outputs:?}")
    };
    // Received from it: OPEN. Sent in its lane, and sent again: OPENED and one message.
    assert_eq!((alias, next, n_seen), (Alias(1), 1, 1));
    assert!(matches!(frames[1..], [ServerFrame::Opened { .. }, ServerFrame::Data { .. }]));
    assert_eq!(server.registry.stats().tabs.attached, 1);
}

#[test]
fn a_parked_tab_is_counted_apart_until_it_attaches() {
    let mut server = Server::new();
    let session = server.attached(1);
    let outputs = server.say(1, &HubFrame::Park { tab: TabId(1) });
    assert_eq!(*event(&outputs), Event::TabParked { session, tab: TabId(1) });
    assert_eq!(server.say(1, &HubFrame::Park { tab: TabId(1) }), []);
    assert_eq!(server.registry.stats().tabs.parked, 1);
    server.say(1, &attach(1));
    let stats = server.registry.stats();
    assert_eq!((stats.tabs.attached, stats.tabs.parked), (1, 0));
}

#[test]
fn a_tab_whose_link_is_gone_is_counted_apart_until_it_attaches() {
    let mut server = Server::new();
    let (_, welcome) = server.welcome_socket(1);
    server.say(1, &attach(2));
    server.say(1, &attach(3));
    server.say(1, &HubFrame::Park { tab: TabId(3) });
    let counted = |server: &Server| {
        let stats = server.registry.stats();
        (stats.tabs.attached, stats.tabs.awaited, stats.tabs.parked)
    };
    assert_eq!(counted(&server), (2, 0, 1));
    server.cut(1);
    assert_eq!(counted(&server), (0, 2, 1));
    server.hello(2, &resume(&welcome, 9, None));
    assert_eq!(counted(&server), (0, 2, 1));
    server.say(2, &attach(1));
    assert_eq!(counted(&server), (1, 1, 1));
    server.say(2, &HubFrame::Gone { tab: TabId(2) });
    assert_eq!(counted(&server), (1, 0, 1));
    server.cut(2);
    server.hello(3, &resume(&welcome, 9, None));
    server.say(3, &HubFrame::Park { tab: TabId(1) });
    assert_eq!(counted(&server), (0, 0, 2));
    server.cut(3);
    server.pass(Duration::from_secs(211));
    assert_eq!(counted(&server), (0, 0, 0));
}

#[test]
fn a_tab_that_is_gone_takes_its_sockets_along() {
    let mut server = Server::new();
    let socket = server.socket(1);
    server.say(1, &HubFrame::Park { tab: TabId(1) });
    let outputs = server.say(1, &HubFrame::Gone { tab: TabId(1) });
    let expected = Output::SocketClosed { socket, code: 1006, reason: String::new(), clean: false };
    assert_eq!(outputs[0], expected);
    assert_eq!(frames(&outputs), []);
    let stats = server.registry.stats();
    assert_eq!((stats.tabs.attached, stats.tabs.parked, stats.sockets.open), (0, 0, 0));
}

#[test]
fn an_alias_is_not_used_again() {
    let mut server = Server::new();
    server.attached(1);
    server.say(1, &HubFrame::Gone { tab: TabId(1) });
    let outputs = server.say(1, &attach(1));
    assert!(matches!(frame(&outputs), ServerFrame::Attached { alias: Alias(2), n_seen: 0, .. }));
}

#[test]
fn news_of_an_unknown_tab_is_ignored() {
    let mut server = Server::new();
    server.attached(1);
    assert_eq!(server.say(1, &HubFrame::Gone { tab: TabId(5) }), []);
    assert_eq!(server.say(1, &HubFrame::Park { tab: TabId(5) }), []);
}

#[test]
fn a_frame_of_an_unknown_tab_is_answered_with_an_error() {
    let mut server = Server::new();
    server.welcomed(1);
    let outputs = server.say(1, &open(1, 1));
    let ServerFrame::Error { code, message, .. } = frame(&outputs) else {
        panic!("no ERROR: {outputs:?}")
    };
    assert_eq!(code, ErrorCode::UnknownTab);
    assert_eq!(message, "this session has no tab with alias 1");
}

#[test]
fn a_frame_that_came_before_is_ignored() {
    let mut server = Server::new();
    server.socket(1);
    assert_eq!(server.say(1, &text(2, 1, "once")).len(), 1);
    assert_eq!(server.say(1, &text(2, 1, "once")), []);
}

#[test]
fn a_jump_of_the_count_closes_the_link() {
    let mut server = Server::new();
    server.socket(1);
    let outputs = server.say(1, &text(3, 1, "too far"));
    assert_eq!(closed(&outputs), (1, 1002, "the count of a tab's reliable frames jumped"));
}

#[test]
fn an_unknown_reliable_frame_is_ignored_and_counted() {
    let mut server = Server::new();
    server.socket(1);
    let unknown = HubFrame::Unknown { code: 0xbf, up: Some(up(2)), body: b"later" };
    assert_eq!(server.say(1, &unknown), []);
    assert_eq!(server.say(1, &HubFrame::Unknown { code: 0x3f, up: None, body: b"" }), []);
    assert_eq!(server.say(1, &text(3, 1, "next")).len(), 1);
}

#[test]
fn a_message_to_the_browser_is_one_frame() {
    let mut server = Server::new();
    let session = server.attached(1);
    server.say(1, &attach(2));
    server.welcomed(2);
    let payload = Payload::Text("to all");
    server.registry.broadcast(server.now, session, payload).unwrap();
    let outputs = server.drain();
    assert_eq!(frame(&outputs), ServerFrame::Message { payload });
    assert!(matches!(outputs[0], Output::Send { link: LinkId(1), .. }));
    assert_eq!(server.registry.stats().messages.sent, 1);
}

#[test]
fn two_tabs_may_use_the_same_socket_number() {
    let mut server = Server::new();
    let first = server.socket(1);
    server.say(1, &attach(2));
    let second = HubFrame::Open {
        up: Upstream { tab: Alias(2), n: 1 },
        socket: SocketId(1),
        credit: 0,
        path: "/echo",
        protocols: Vec::new(),
        ticket: "",
    };
    let outputs = server.say(1, &second);
    let expected = SocketRef { tab: Alias(2), ..first };
    let is_asked = |output: &Output| match output {
        Output::Ask { what: Ask::Open { socket, .. }, .. } => *socket == expected,
        _ => false,
    };
    assert!(is_asked(&outputs[0]), "{outputs:?}");
}

#[test]
fn hubs_that_follow_one_another_do_not_keep_a_parked_tab_for_ever() {
    let parked = Duration::from_secs(40);
    let mut server = Server::with(SessionConfig { parked, ..SessionConfig::default() });
    let (socket, mut welcome) = server.welcome_socket(1);
    // Each page that is opened brings a hub, and the one before it goes into the cache.
    for page in 2..=4 {
        server.say(page - 1, &HubFrame::Park { tab: TabId(page - 1) });
        server.pass(Duration::from_secs(15));
        let outputs = server.cut(page - 1);
        let is_closed =
            |it: &Output| matches!(it, Output::SocketClosed { socket: it, .. } if *it == socket);
        assert!(!outputs.iter().any(is_closed), "{outputs:?}");
        let (next, outputs) = server.hello(page, &resume(&welcome, page + 10, None));
        assert!(next.resumed);
        server.say(page, &attach(page));
        // The first was parked for 15 s, 30 s, 45 s.
        assert_eq!(outputs.iter().any(is_closed), page == 4, "{outputs:?}");
        assert_eq!(next.tabs.iter().any(|it| it.tab == TabId(1)), page < 4);
        welcome = next;
    }
}
