//! HELLO and its answers.

use std::time::Duration;

use tabmux_core::{
    session::{Input, LinkDown, LinkId, Output, PeerMisbehaved, SessionConfig},
    wire::{
        DecodeError, Denied, Hello, HubFrame, HubId, MAGIC, NEWEST_VERSION, OLDEST_VERSION,
        RefusedReason, Resume, ServerFrame, SessionId, Term, Token, Welcome,
    },
};

use super::support::{Server, cause, closed, event, frame, frames, hello};

fn welcome(frame: ServerFrame<'_>) -> Welcome {
    match frame {
        ServerFrame::Welcome(welcome) => welcome,
        other => panic!("no WELCOME: {other:?}"),
    }
}

#[test]
fn hello_is_welcomed_with_a_new_session() {
    let mut server = Server::new();
    server.open(1);
    let outputs = server.say(1, &hello());
    let welcome = welcome(frame(&outputs));
    assert_eq!((welcome.version(), welcome.term, welcome.next0), (NEWEST_VERSION, Term(1), 1));
    assert!(!welcome.resumed && welcome.tabs.is_empty());
    assert_eq!(welcome.heartbeat_ms, 25_000);
    assert_eq!((welcome.limits.tabs, welcome.limits.sockets), (64, 256));
    assert_eq!(welcome.limits.message_bytes, 1 << 20);
    assert_eq!(server.registry.stats().sessions.held, 1);
}

#[test]
fn a_session_is_named_by_the_entropy_of_its_link() {
    let mut server = Server::new();
    let (first, second) = (server.welcomed(1), server.welcomed(2));
    assert_ne!(first, second);
    // But for the bytes that name its place in the registry.
    assert_eq!((&first.0[..3], &first.0[8..]), (&[7; 3][..], &1_u64.to_be_bytes()[..]));
}

#[test]
fn a_resume_gets_a_new_session_that_says_so() {
    let mut server = Server::new();
    server.open(1);
    let resume = Resume {
        session: SessionId([3; 16]),
        token: Token([4; 16]),
        term: Term(5),
        have0: Some(6),
    };
    let hello = Hello {
        min_version: OLDEST_VERSION,
        max_version: NEWEST_VERSION,
        hub: HubId(9),
        resume: Some(resume),
        credentials: "",
    };
    let outputs = server.say(1, &HubFrame::Hello(hello));
    let welcome = welcome(frame(&outputs));
    assert_ne!(welcome.session, resume.session);
    assert_eq!((welcome.resumed, welcome.term), (false, Term(1)));
}

#[test]
fn another_version_is_refused() {
    let mut server = Server::new();
    server.open(1);
    let mut bytes = vec![0x01];
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&[3, 4]);
    let link = tabmux_core::session::LinkId(1);
    let outputs = server.input(tabmux_core::session::Input::LinkMessage { link, bytes: &bytes });
    let ServerFrame::Refused { reason, retry_ms, message, .. } = frame(&outputs) else {
        panic!("not refused: {outputs:?}")
    };
    assert_eq!((reason, retry_ms), (RefusedReason::Version, 0));
    assert_eq!(message, "the peer speaks versions 3 to 4, not 1 to 2");
    assert_eq!(closed(&outputs).1, 1002);
    assert_eq!(cause(&outputs), LinkDown::Refused(RefusedReason::Version));
    let stats = server.registry.stats();
    assert_eq!((stats.links.refused, stats.links.protocol_errors), (1, 0));
}

#[test]
fn bytes_that_are_no_hello_close_the_link() {
    let mut server = Server::new();
    server.open(1);
    let link = tabmux_core::session::LinkId(1);
    let bytes = b"\x01hello";
    let outputs = server.input(tabmux_core::session::Input::LinkMessage { link, bytes });
    assert_eq!(closed(&outputs), (1, 1002, "the message ended inside a field"));
    let what = PeerMisbehaved::Undecodable(DecodeError::Truncated);
    assert_eq!(cause(&outputs), LinkDown::Misbehaved(what));
}

#[test]
fn another_frame_before_hello_closes_the_link() {
    let mut server = Server::new();
    server.open(1);
    let outputs = server.say(1, &HubFrame::Ping { nonce: 1 });
    assert_eq!(closed(&outputs), (1, 1002, "a frame came before HELLO"));
}

#[test]
fn a_second_hello_closes_the_link() {
    let mut server = Server::new();
    server.welcomed(1);
    let outputs = server.say(1, &hello());
    assert_eq!(closed(&outputs), (1, 1002, "HELLO came twice"));
    assert_eq!(server.registry.stats().links.protocol_errors, 1);
}

#[test]
fn a_link_without_hello_is_closed_in_time() {
    let mut server = Server::new();
    server.open(1);
    assert_eq!(server.pass(Duration::from_millis(9_999)), []);
    // A timer is at most a tick late.
    let outputs = server.pass(Duration::from_millis(64));
    assert_eq!(closed(&outputs).1, 4008);
    assert_eq!(cause(&outputs), LinkDown::HandshakeTimeout);
    assert_eq!(server.registry.stats().links.handshake_timeouts, 1);
    assert_eq!(server.registry.poll_timeout(), None);
}

#[test]
fn a_link_past_the_limit_is_refused_with_a_hint() {
    let mut server = Server::with(SessionConfig { links: 1, ..SessionConfig::default() });
    server.welcomed(1);
    let outputs = server.open(2);
    let ServerFrame::Refused { reason, retry_ms, .. } = frame(&outputs) else {
        panic!("not refused: {outputs:?}")
    };
    assert_eq!((reason, retry_ms), (RefusedReason::Limit, 5_000));
    assert_eq!(closed(&outputs).1, 1013);
    assert_eq!(server.say(2, &hello()), []);
    let stats = server.registry.stats();
    assert_eq!((stats.links.open, stats.links.refused), (1, 1));
}

#[test]
fn drain_sends_links_away_in_equal_parts_and_refuses_new_ones() {
    let mut server = Server::new();
    for link in 1..=5 {
        server.welcomed(link);
    }
    let (after, spread) = (Duration::from_millis(100), Duration::from_secs(2));
    let told = |server: &mut Server, slices| {
        server.registry.drain(server.now, slices, after, spread);
        let outputs = server.drain();
        let go_away = |frame: &ServerFrame<'_>| {
            matches!(frame, ServerFrame::GoAway { after_ms: 100, spread_ms: 2_000, .. })
        };
        assert!(frames(&outputs).iter().all(go_away));
        let closed = ended(&outputs);
        assert_eq!(frames(&outputs).len(), closed.len());
        closed
    };
    assert_eq!(told(&mut server, 3), [(1, 1001), (2, 1001)]);
    // One that goes by itself is not waited for: what is left is divided anew.
    server.input(Input::LinkClosed { link: LinkId(3) });
    assert_eq!(told(&mut server, 2), [(4, 1001)]);
    server.open(6);
    let outputs = server.say(6, &hello());
    let ServerFrame::Denied(Denied { code, retry_ms, .. }) = frame(&outputs) else {
        panic!("not refused: {outputs:?}")
    };
    assert_eq!((code, retry_ms), (RefusedReason::Draining, Some(100)));
    assert_eq!(closed(&outputs).1, 1001);
    assert_eq!(told(&mut server, 1), [(5, 1001)]);
    assert_eq!(told(&mut server, 0), []);
}

#[test]
fn a_link_that_has_not_said_hello_is_closed_without_a_word() {
    let mut server = Server::new();
    server.open(1);
    server.registry.drain(server.now, 1, Duration::ZERO, Duration::ZERO);
    let outputs = server.drain();
    assert_eq!((frames(&outputs).len(), ended(&outputs)), (0, vec![(1, 1001)]));
}

#[test]
fn shutdown_closes_every_link() {
    let mut server = Server::new();
    server.welcomed(1);
    server.open(2);
    server.registry.shutdown(server.now);
    let outputs = server.drain();
    assert_eq!(ended(&outputs), [(1, 1001), (2, 1001)]);
    let stats = server.registry.stats();
    assert_eq!((stats.links.open, stats.sessions.held), (0, 0));
    assert_eq!(server.registry.poll_timeout(), None);
}

#[test]
fn a_hub_is_named_in_the_log() {
    let mut server = Server::new();
    server.open(1);
    let outputs = server.say(1, &hello());
    assert!(matches!(event(&outputs), tabmux_core::session::Event::LinkUp { hub: HubId(9), .. }));
}

/// The links that were closed, with their codes.
fn ended(outputs: &[Output]) -> Vec<(u64, u16)> {
    let code = |output: &Output| match output {
        Output::CloseLink { link, code, .. } => Some((link.0, *code)),
        _ => None,
    };
    outputs.iter().filter_map(code).collect()
}
