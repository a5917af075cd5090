//! Each limit of version 1: accepted at it, refused one past it.

use tabmux_wire::{
    Alias, DecodeError, ErrorCode, Hello, HubFrame, HubId, LaneCount, Limits, MAX_ACK_ENTRIES,
    MAX_CREDENTIALS, MAX_MESSAGE_TEXT, MAX_PATH, MAX_PROTOCOL, MAX_PROTOCOLS, MAX_REASON,
    MAX_TOPIC_NAME, MAX_WELCOME_TABS, Position, RefusedReason, ServerFrame, SessionId, SocketId,
    Subscribed, TabId, Term, Token, TopicId, Unsubscribed, UnsubscribedReason, Upstream, Welcome,
    WelcomeTab,
};

use crate::frame::{Frame, assert_accepted, assert_refused};

const UP: Upstream = Upstream { tab: Alias(1), n: 1 };
const SOCKET: SocketId = SocketId(1);
const NOWHERE: Position = Position { epoch: 0, offset: 0 };

/// Asserts that `frame` is accepted at its limit and refused one past it. `frame` makes a frame
/// whose field has the given number of bytes or entries.
pub(crate) fn assert_limit<'a>(
    max: usize,
    field: &'static str,
    frame: impl Fn(usize) -> Frame<'a>,
) {
    assert_accepted(frame(max));
    assert_refused(frame(max + 1), DecodeError::TooLong(field));
}

pub(crate) fn x(len: usize) -> &'static str {
    "x".repeat(len).leak()
}

fn open(path: &'static str, protocols: Vec<&'static str>) -> Frame<'static> {
    let (up, socket, credit, ticket) = (UP, SOCKET, 0, "");
    Frame::Hub(HubFrame::Open { up, socket, credit, path, protocols, ticket })
}

#[test]
fn a_path_has_a_limit() {
    assert_limit(MAX_PATH, "path", |len| open(x(len), vec![]));
}

#[test]
fn the_number_of_protocols_has_a_limit() {
    assert_limit(MAX_PROTOCOLS, "protocols", |len| open("/", vec!["v1"; len]));
}

#[test]
fn an_offered_protocol_has_a_limit() {
    assert_limit(MAX_PROTOCOL, "protocol", |len| open("/", vec![x(len)]));
}

#[test]
fn a_chosen_protocol_has_a_limit() {
    assert_limit(MAX_PROTOCOL, "protocol", |len| {
        Frame::Server(ServerFrame::Opened {
            tab: Alias(1),
            socket: SOCKET,
            credit: 0,
            protocol: x(len),
        })
    });
}

#[test]
fn a_hubs_close_reason_has_a_limit() {
    assert_limit(MAX_REASON, "reason", |len| {
        Frame::Hub(HubFrame::Close { up: UP, socket: SOCKET, code: 1000, reason: x(len) })
    });
}

#[test]
fn a_servers_close_reason_has_a_limit() {
    assert_limit(MAX_REASON, "reason", |len| {
        Frame::Server(ServerFrame::Close {
            tab: Alias(1),
            socket: SOCKET,
            code: 1000,
            reason: x(len),
        })
    });
}

#[test]
fn credentials_have_a_limit() {
    assert_limit(MAX_CREDENTIALS, "credentials", |len| {
        Frame::Hub(HubFrame::Hello(Hello {
            min_version: 1,
            max_version: 1,
            hub: HubId(1),
            resume: None,
            credentials: x(len),
        }))
    });
}

#[test]
fn a_topic_to_subscribe_has_a_limit() {
    assert_limit(MAX_TOPIC_NAME, "topic", |len| {
        Frame::Hub(HubFrame::Subscribe { request: 1, position: None, topic: x(len) })
    });
}

#[test]
fn a_topic_to_unsubscribe_has_a_limit() {
    assert_limit(MAX_TOPIC_NAME, "topic", |len| {
        Frame::Hub(HubFrame::Unsubscribe { topic: x(len) })
    });
}

#[test]
fn a_subscribed_topic_has_a_limit() {
    assert_limit(MAX_TOPIC_NAME, "topic", |len| {
        Frame::Server(ServerFrame::Subscribed(Subscribed {
            request: 1,
            topic: TopicId(1),
            recovered: false,
            position: NOWHERE,
            name: x(len),
        }))
    });
}

fn unsubscribed(name: &'static str, message: &'static str) -> Frame<'static> {
    Frame::Server(ServerFrame::Unsubscribed(Unsubscribed {
        request: 1,
        reason: UnsubscribedReason::Denied,
        retry_ms: None,
        name,
        message,
    }))
}

#[test]
fn an_unsubscribed_topic_has_a_limit() {
    assert_limit(MAX_TOPIC_NAME, "topic", |len| unsubscribed(x(len), ""));
}

#[test]
fn the_text_of_unsubscribed_has_a_limit() {
    assert_limit(MAX_MESSAGE_TEXT, "message", |len| unsubscribed("t", x(len)));
}

#[test]
fn the_text_of_refused_has_a_limit() {
    assert_limit(MAX_MESSAGE_TEXT, "message", |len| {
        Frame::Server(ServerFrame::Refused {
            reason: RefusedReason::Denied,
            term: Term(0),
            retry_ms: 0,
            message: x(len),
        })
    });
}

#[test]
fn the_text_of_an_error_has_a_limit() {
    assert_limit(MAX_MESSAGE_TEXT, "message", |len| {
        Frame::Server(ServerFrame::Error {
            code: ErrorCode::NoRoute,
            tab: None,
            socket: None,
            message: x(len),
        })
    });
}

const ENTRY: LaneCount = LaneCount { lane: 1, count: 1 };

#[test]
fn the_lanes_of_a_hubs_ack_have_a_limit() {
    assert_limit(MAX_ACK_ENTRIES, "lanes", |len| {
        Frame::Hub(HubFrame::Ack { lanes: vec![ENTRY; len], aside: vec![] })
    });
}

#[test]
fn the_tabs_set_aside_have_a_limit() {
    assert_limit(MAX_ACK_ENTRIES, "aside", |len| {
        Frame::Hub(HubFrame::Ack { lanes: vec![], aside: vec![Alias(1); len] })
    });
}

#[test]
fn the_lanes_of_a_servers_ack_have_a_limit() {
    assert_limit(MAX_ACK_ENTRIES, "lanes", |len| {
        Frame::Server(ServerFrame::Ack { lanes: vec![ENTRY; len] })
    });
}

#[test]
fn the_tabs_of_a_welcome_have_a_limit() {
    let limits = Limits {
        message_bytes: 0,
        lane_bytes: 0,
        session_bytes: 0,
        detached_ms: 0,
        parked_ms: 0,
        tabs: 0,
        sockets: 0,
    };
    let tab = WelcomeTab { tab: TabId(1), alias: Alias(1), parked: false, aside: false };
    assert_limit(MAX_WELCOME_TABS, "tabs", |len| {
        Frame::Server(ServerFrame::Welcome(Welcome {
            session: SessionId([0; 16]),
            token: Token([0; 16]),
            term: Term(1),
            resumed: true,
            next0: 1,
            heartbeat_ms: 1,
            limits,
            tabs: vec![tab; len],
            tail: None,
        }))
    });
}

#[test]
fn a_limit_counts_bytes_and_not_characters() {
    // 42 characters of three bytes are 126 bytes.
    let frame = HubFrame::Close { up: UP, socket: SOCKET, code: 1000, reason: &"✓".repeat(42) };
    assert_refused(frame, DecodeError::TooLong("reason"));
}

#[test]
fn a_length_that_no_message_has_is_refused_before_it_is_reserved() {
    let ack = [&[0x06][..], &[0xff; 9], &[0x01]].concat();
    let refused = HubFrame::decode(&ack);
    assert_eq!(refused, Err(DecodeError::TooLong("lanes")));
}
