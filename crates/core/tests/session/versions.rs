//! What hubs of each version of the protocol are told.

use std::time::Duration;

use tabmux_core::{
    session::{Answer, Ask, Denial, DenialCode, Output, SendError},
    wire::{
        Alias, Denied, ErrorCode, Hello, HubFrame, HubId, IdentityTag, LaneCount, Payload,
        Position, Present, Publish, Recover, RefusedReason, Rejected, Request, Resume, ServerFrame,
        SocketId, TabId, Term, Token, Welcome, WelcomeTail,
    },
};

use crate::support::{Server, attach, closed, frame, frames, hello, open_with, up};

/// HELLO of a hub that speaks these versions.
fn speaking(oldest: u32, newest: u32, resume: Option<Resume>) -> HubFrame<'static> {
    HubFrame::Hello(Hello {
        min_version: oldest,
        max_version: newest,
        hub: HubId(9),
        resume,
        credentials: "",
    })
}

fn welcome(frame: ServerFrame<'_>) -> Welcome {
    match frame {
        ServerFrame::Welcome(welcome) => welcome,
        other => panic!("not welcomed: {other:?}"),
    }
}

/// What version 2 adds to the WELCOME for a hub that speaks these versions.
fn tail(oldest: u32, newest: u32) -> Option<WelcomeTail> {
    let mut server = Server::new();
    server.open(1);
    let outputs = server.say(1, &speaking(oldest, newest, None));
    welcome(frame(&outputs)).tail
}

#[test]
fn a_hub_of_version_1_is_welcomed_in_version_1() {
    assert_eq!(tail(1, 1), None);
}

#[test]
fn a_hub_that_speaks_version_2_is_told_users_and_features() {
    let expected = WelcomeTail { identity: IdentityTag::NoUsers, features: vec![] };
    assert_eq!(tail(1, 2).as_ref(), Some(&expected));
    assert_eq!(tail(2, 7), Some(expected));
}

#[test]
fn a_session_speaks_the_version_of_each_of_its_hubs() {
    let mut server = Server::new();
    server.open(1);
    let outputs = server.say(1, &speaking(1, 1, None));
    let first = welcome(frame(&outputs));
    server.say(1, &attach(1));
    server.say(1, &open_with(1, 1, 0));
    server.cut(1);
    let resume =
        Resume { session: first.session, token: first.token, term: first.term, have0: Some(0) };
    // The last one may not know what lies in the lanes, so it gets a session of its own.
    for (link, newest, resumed) in [(2, 1, true), (3, 2, true), (4, 1, false)] {
        server.open(link);
        let outputs = server.say(link, &speaking(1, newest, Some(resume)));
        let welcome = welcome(frames(&outputs)[0].clone());
        assert_eq!((welcome.resumed, welcome.version()), (resumed, newest));
    }
}

/// What a tab hears whose socket is refused.
fn refusal(newest: u32, code: impl Into<DenialCode>) -> Vec<Output> {
    let mut server = Server::new();
    server.open(1);
    server.say(1, &speaking(1, newest, None));
    server.say(1, &attach(1));
    let outputs = server.say(1, &open_with(1, 1, 0));
    let [Output::Ask { ask, .. }] = outputs[..] else { panic!("not asked: {outputs:?}") };
    let (code, message) = (code.into(), "log in first");
    let denial = Denial { code, message, retry: Some(Duration::from_secs(1)) };
    server.registry.answer(server.now, ask, Answer::Deny(denial)).unwrap();
    server.drain()
}

#[test]
fn a_tab_of_version_1_hears_of_a_refused_socket_in_two_frames() {
    let (tab, socket) = (Alias(1), SocketId(1));
    let (code, message) = (ErrorCode::Rejected, "log in first");
    let error = ServerFrame::Error { code, tab: Some(TabId(1)), socket: Some(socket), message };
    let close = ServerFrame::Close { tab, socket, code: 1006, reason: "" };
    assert_eq!(frames(&refusal(1, code)), [error.clone(), close.clone()]);
    // ERROR has no room for a code of the application.
    assert_eq!(frames(&refusal(1, DenialCode::Application(4403))), [error, close]);
}

#[test]
fn a_tab_of_version_2_hears_of_a_refused_socket_in_one_frame_that_counts() {
    let (tab, socket, retry_ms) = (Alias(1), SocketId(1), Some(1_000));
    let rejected = Rejected { tab, socket, code: 2, retry_ms, message: "log in first" };
    assert_eq!(frame(&refusal(2, ErrorCode::Rejected)), ServerFrame::Rejected(rejected));
}

/// What a hub hears that claims a session with a wrong token.
fn denial(newest: u32) -> ServerFrame<'static> {
    let mut server = Server::new();
    let session = server.welcomed(1);
    server.say(1, &attach(1));
    server.open(2);
    let (token, term) = (Token([9; 16]), Term(1));
    let resume = Resume { session, token, term, have0: None };
    let outputs = server.say(2, &speaking(1, newest, Some(resume)));
    assert_eq!(closed(&outputs).1, 1008);
    match frame(&outputs) {
        ServerFrame::Refused { reason, term, retry_ms, .. } => {
            ServerFrame::Refused { reason, term, retry_ms, message: "" }
        }
        ServerFrame::Denied(Denied { code, term, retry_ms, .. }) => {
            ServerFrame::Denied(Denied { code, term, retry_ms, target: "", message: "" })
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_hub_of_version_1_is_refused_in_version_1() {
    let (reason, term, retry_ms, message) = (RefusedReason::Denied, Term(0), 5_000, "");
    assert_eq!(denial(1), ServerFrame::Refused { reason, term, retry_ms, message });
}

#[test]
fn a_hub_of_version_2_is_refused_in_version_2() {
    let (code, term, retry_ms) = (RefusedReason::Denied, Term(0), Some(5_000));
    let denied = Denied { code, term, retry_ms, target: "", message: "" };
    assert_eq!(denial(2), ServerFrame::Denied(denied));
}

#[test]
fn frames_that_the_server_does_not_act_on_are_counted_and_ignored() {
    let mut server = Server::new();
    server.open(1);
    server.say(1, &hello());
    server.say(1, &attach(1));
    let (socket, payload) = (SocketId(1), Payload::Text(""));
    let (topic, key, since) = ("t", "", Position { epoch: 1, offset: 1 });
    let request = Request { up: up(1), socket, credit: 0, method: "add", key, payload };
    let unknown = [
        HubFrame::Request(request),
        HubFrame::Cancel { up: up(2), socket },
        HubFrame::Publish(Publish { up: up(3), socket, topic, key, payload }),
        HubFrame::Recover(Recover { up: up(4), socket, since, topic }),
        HubFrame::Presence { topic, present: Present::Away },
    ];
    for frame in unknown {
        assert_eq!(server.say(1, &frame), [], "{frame:?}");
    }
    server.pass(Duration::from_secs(1));
    let outputs = server.say(1, &HubFrame::Ping { nonce: 1 });
    let lanes = vec![LaneCount { lane: 1, count: 4 }];
    assert_eq!(frames(&outputs)[0], ServerFrame::Ack { lanes });
}

/// The frames of a ticket for a socket whose question is open.
fn ticket(newest: u32) -> Vec<Output> {
    let mut server = Server::new();
    server.open(1);
    server.say(1, &speaking(1, newest, None));
    server.say(1, &attach(1));
    let outputs = server.say(1, &open_with(1, 1, 0));
    let [Output::Ask { ask, what: Ask::Open { socket, .. } }] = outputs[..] else {
        panic!("not asked: {outputs:?}")
    };
    server.registry.send_ticket(server.now, socket, "once", "/a").unwrap();
    let told = server.drain();
    server.registry.answer(server.now, ask, Answer::Open { protocol: "" }).unwrap();
    server.drain();
    let late = server.registry.send_ticket(server.now, socket, "once", "/a");
    assert_eq!((late, server.drain()), (Err(SendError::Closed), vec![]));
    told
}

#[test]
fn a_hub_of_version_2_is_told_of_a_ticket_while_its_socket_waits() {
    assert_eq!(frame(&ticket(2)), ServerFrame::Ticket { ticket: "once", path: "/a" });
    assert_eq!(ticket(1), []);
}

#[test]
fn what_is_kept_for_a_socket_is_charged_to_its_browser_until_it_opens() {
    let mut server = Server::new();
    let socket = server.opening(1);
    let charged = |server: &Server| server.registry.stats().charged.asks;
    let before = charged(&server);
    for bytes in [5000, 700] {
        server.registry.keep_for_opening(server.now, socket, bytes).unwrap();
        assert_eq!(charged(&server), before + bytes);
    }
    server.cut(1);
    server.drain();
    server.pass(server.registry.config().ask_timeout);
    let late = server.registry.keep_for_opening(server.now, socket, 1);
    assert_eq!((late, charged(&server)), (Err(SendError::Closed), 0));
}

#[test]
fn a_session_without_a_link_is_told_of_no_ticket() {
    let mut server = Server::new();
    let socket = server.opening(1);
    server.cut(1);
    server.drain();
    assert_eq!(server.registry.send_ticket(server.now, socket, "once", "/a"), Ok(()));
    assert_eq!(server.drain(), []);
}
