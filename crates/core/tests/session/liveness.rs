//! PING, SUSPEND, the heartbeat, and waking up.

use std::time::Duration;

use tabmux_core::{
    session::{Input, LONG_FRAME, LinkDown, LinkId, WakeReason},
    wire::{HubFrame, Payload, ServerFrame},
};

use super::support::{Server, attach, cause, closed, frame, frames};

/// How late a timer may be.
const TICK: Duration = Duration::from_millis(64);

#[test]
fn ping_is_answered_with_its_nonce() {
    let mut server = Server::new();
    server.welcomed(1);
    let outputs = server.say(1, &HubFrame::Ping { nonce: 77 });
    assert_eq!(frame(&outputs), ServerFrame::Pong { nonce: 77 });
}

#[test]
fn a_silent_link_is_closed_ten_seconds_after_a_heartbeat_was_due() {
    let mut server = Server::new();
    server.welcomed(1);
    assert_eq!(server.pass(Duration::from_millis(34_999)), []);
    let outputs = server.pass(TICK);
    assert_eq!(closed(&outputs).1, 4009);
    assert_eq!(cause(&outputs), LinkDown::HeartbeatTimeout);
    assert_eq!(server.registry.stats().links.heartbeat_timeouts, 1);
}

#[test]
fn any_frame_is_a_sign_of_life() {
    let mut server = Server::new();
    server.welcomed(1);
    for _ in 0..3 {
        server.pass(Duration::from_secs(34));
        server.say(1, &HubFrame::Ping { nonce: 0 });
    }
    assert_eq!(server.registry.stats().links.open, 1);
}

#[test]
fn a_part_of_a_frame_is_a_sign_of_life_once_hello_has_come() {
    let mut server = Server::new();
    server.welcomed(1);
    for _ in 0..3 {
        server.pass(Duration::from_secs(34));
        server.input(Input::LinkHeard { link: LinkId(1) });
    }
    assert_eq!(server.registry.stats().links.open, 1);
    // A peer that dribbles its HELLO gets no more time for it.
    server.open(2);
    server.pass(Duration::from_secs(6));
    server.input(Input::LinkHeard { link: LinkId(2) });
    let outputs = server.pass(Duration::from_secs(4) + TICK);
    assert_eq!(closed(&outputs).1, 4008);
}

#[test]
fn a_long_frame_is_announced_on_links_of_version_2() {
    let mut server = Server::new();
    let (socket, _) = server.welcome_socket(1);
    let long = vec![0; LONG_FRAME];
    server.registry.send(server.now, socket, Payload::Binary(&long)).unwrap();
    let outputs = server.drain();
    let said = frames(&outputs);
    let [ServerFrame::Coming { bytes }, data] = &said[..] else { panic!("{said:?}") };
    assert_eq!(*bytes, data.to_bytes().len() as u64);
    server.registry.send(server.now, socket, Payload::Binary(&long[100..])).unwrap();
    let outputs = server.drain();
    assert!(matches!(frame(&outputs), ServerFrame::Data { .. }));
}

#[test]
fn a_suspended_link_is_closed_after_ten_seconds() {
    let mut server = Server::new();
    server.welcomed(1);
    server.say(1, &HubFrame::Suspend);
    let (at, reason) = server.registry.poll_timeout().unwrap();
    assert_eq!(reason, WakeReason::Suspended);
    assert!(at >= server.now + Duration::from_secs(10));
    let outputs = server.pass(Duration::from_secs(10) + TICK);
    assert_eq!(closed(&outputs).1, 1001);
    assert_eq!(cause(&outputs), LinkDown::Suspended);
}

#[test]
fn a_frame_lifts_a_suspension() {
    let mut server = Server::new();
    server.attached(1);
    server.say(1, &HubFrame::Suspend);
    server.pass(Duration::from_secs(9));
    server.say(1, &attach(1));
    assert_eq!(server.pass(Duration::from_secs(34)), []);
}

#[test]
fn a_text_message_closes_the_link_with_1003() {
    let mut server = Server::new();
    server.welcomed(1);
    let outputs = server.input(Input::LinkText { link: LinkId(1) });
    assert_eq!(closed(&outputs), (1, 1003, "a link carries binary messages only"));
    assert_eq!(server.registry.stats().links.protocol_errors, 1);
}

#[test]
fn one_link_that_misbehaves_does_not_touch_another() {
    let mut server = Server::new();
    server.welcomed(1);
    server.welcomed(2);
    let outputs = server.input(Input::LinkMessage { link: LinkId(1), bytes: &[0xff; 4] });
    assert_eq!(closed(&outputs).0, 1);
    let outputs = server.say(2, &HubFrame::Ping { nonce: 1 });
    assert_eq!(frame(&outputs), ServerFrame::Pong { nonce: 1 });
}

#[test]
fn waking_without_need_does_nothing() {
    let mut server = Server::new();
    server.registry.handle_timeout(server.now);
    server.welcomed(1);
    let before = server.registry.poll_timeout();
    server.registry.handle_timeout(server.now);
    assert_eq!(server.drain(), []);
    assert_eq!(server.registry.poll_timeout(), before);
}

#[test]
fn news_of_a_closed_link_is_ignored() {
    let mut server = Server::new();
    server.welcomed(1);
    server.input(Input::LinkClosed { link: LinkId(1) });
    let link = LinkId(1);
    assert_eq!(server.input(Input::LinkMessage { link, bytes: &[1] }), []);
    assert_eq!(server.input(Input::LinkText { link }), []);
    assert_eq!(server.input(Input::LinkWritten { link, bytes: 5 }), []);
    assert_eq!(server.input(Input::LinkClosed { link }), []);
}

#[test]
fn on_a_slow_link_no_tab_is_forgotten_for_what_has_not_reached_it() {
    let mut server = Server::new();
    let (socket, _) = server.welcome_socket(1);
    while server.registry.send(server.now, socket, Payload::Binary(&[0; 10_000])).is_ok() {}
    server.drain();
    // 2 kB a second: 256 KiB take two minutes.
    for nonce in 1..=4 {
        server.pass(Duration::from_secs(25));
        server.written(1, 50_000);
        server.say(1, &HubFrame::Ping { nonce });
    }
    assert_eq!(server.registry.stats().tabs.stalled, 0);
    server.written(1, 100_000);
    // It had a minute from when the last of it could have come.
    for nonce in 5..=6 {
        server.pass(Duration::from_secs(25));
        server.say(1, &HubFrame::Ping { nonce });
        assert_eq!(server.registry.stats().tabs.stalled, 0);
    }
    server.pass(Duration::from_secs(25));
    server.say(1, &HubFrame::Ping { nonce: 7 });
    assert_eq!(server.registry.stats().tabs.stalled, 1);
}
