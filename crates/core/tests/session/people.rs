//! Users, browsers and tabs, as the application sees and ends them.

use std::{sync::Arc, time::Duration};

use tabmux_core::{
    session::{Admitted, Farewell, LinkDown, Output, SendError, SocketRef, User, Visitor},
    wire::{
        Alias, Audience, Denied, Dismissed, ErrorCode, GoAwayReason, Hello, HubFrame, HubId,
        MAX_MESSAGE_TEXT, Payload, RefusedReason, ServerFrame, SessionId, SocketId, TabId, Term,
        close,
    },
};

use crate::support::{Server, attach, cause, closed, frame, frames, hello, resume};

const RETRY: Option<Duration> = Some(Duration::from_secs(60));

fn farewell(code: RefusedReason, retry: Option<Duration>) -> Farewell {
    Farewell { code, retry, message: "log in first".into() }
}

/// HELLO of a hub of version 1.
fn old_hello() -> HubFrame<'static> {
    let (min_version, max_version, hub) = (1, 1, HubId(9));
    HubFrame::Hello(Hello { min_version, max_version, hub, resume: None, credentials: "" })
}

/// A session of a user on a link, with tab 1.
fn session_of(server: &mut Server, link: u64, user: u64) -> SessionId {
    server.open_as(link, user);
    let outputs = server.say(link, &hello());
    let session = frames(&outputs).into_iter().find_map(|frame| match frame {
        ServerFrame::Welcome(welcome) => Some(welcome.session),
        _ => None,
    });
    server.say(link, &attach(1));
    session.unwrap()
}

#[test]
fn a_link_that_is_refused_for_good_learns_it_once_it_has_said_hello() {
    let mut server = Server::new();
    let visitor = Visitor::Refused(farewell(RefusedReason::Denied, None));
    assert_eq!(server.open_by(1, Some(visitor)), []);
    let outputs = server.say(1, &hello());
    let (code, term, target) = (RefusedReason::Denied, Term(0), "");
    let denied = Denied { code, term, retry_ms: None, target, message: "log in first" };
    assert_eq!(frame(&outputs), ServerFrame::Denied(denied));
    assert_eq!(closed(&outputs), (1, close::POLICY, "log in first"));
    assert_eq!(cause(&outputs), LinkDown::TurnedAway);
    assert_eq!(server.registry.sessions().count(), 0);
}

#[test]
fn a_refusal_with_a_text_that_is_too_long_is_told_in_part() {
    let mut server = Server::new();
    for (link, hello) in [(1, hello()), (2, old_hello())] {
        let message = "ä".repeat(1_000).into();
        let refused = Farewell { code: RefusedReason::Denied, retry: None, message };
        server.open_by(link, Some(Visitor::Refused(refused)));
        let outputs = server.say(link, &hello);
        // Hubs take a longer text for what is no frame, and dial again.
        let told = match frame(&outputs) {
            ServerFrame::Denied(Denied { message, .. }) | ServerFrame::Refused { message, .. } => {
                message.len()
            }
            other => panic!("not refused: {other:?}"),
        };
        assert_eq!(told, MAX_MESSAGE_TEXT);
    }
}

#[test]
fn a_hub_of_version_1_that_is_refused_is_told_in_its_words() {
    let mut server = Server::new();
    for (link, retry, retry_ms) in [(1, RETRY, 60_000), (2, None, 0)] {
        let refused = farewell(RefusedReason::Denied, retry);
        server.open_by(link, Some(Visitor::Refused(refused)));
        let outputs = server.say(link, &old_hello());
        let (reason, term, message) = (RefusedReason::Denied, Term(0), "log in first");
        assert_eq!(frame(&outputs), ServerFrame::Refused { reason, term, retry_ms, message });
    }
}

#[test]
fn what_is_known_of_a_link_is_there_and_charged_while_the_session_lives() {
    let mut server = Server::new();
    let user = Some(Arc::new(User::new("ann", 3)));
    let headers = vec![("x-locale".into(), b"de".as_slice().into())];
    let visitor = Visitor::Admitted(Admitted { user, headers, ..Admitted::default() });
    server.open_by(1, Some(visitor.clone()));
    let charged = server.registry.stats().charged.visitors;
    assert!(charged > "annx-localede".len());
    let (welcome, _) = {
        let outputs = server.say(1, &hello());
        let welcome = match frame(&outputs) {
            ServerFrame::Welcome(welcome) => welcome,
            other => panic!("not welcomed: {other:?}"),
        };
        (welcome, ())
    };
    assert_eq!(server.registry.visitor(welcome.session).map(|it| &**it), Some(&visitor));
    assert_eq!(server.registry.stats().charged.visitors, charged);
    server.say(1, &attach(1));
    server.say(1, &crate::support::open(1, 1));
    server.cut(1);
    // The next link of the user brings other headers.
    let user = Some(Arc::new(User::new("ann", 3)));
    let newer = Visitor::Admitted(Admitted { user, ..Admitted::default() });
    server.open_by(2, Some(newer.clone()));
    server.say(2, &resume(&welcome, 9, Some(0)));
    assert_eq!(server.registry.visitor(welcome.session).map(|it| &**it), Some(&newer));
    assert!(server.registry.stats().charged.visitors < charged);
    let farewell = farewell(RefusedReason::Ended, None);
    server.registry.end_session(server.now, welcome.session, &farewell).unwrap();
    assert_eq!(server.registry.stats().charged.visitors, 0);
    assert_eq!(server.registry.visitor(welcome.session), None);
}

#[test]
fn sessions_are_listed_with_their_users_and_tabs() {
    let mut server = Server::new();
    let nobody = server.attached(1);
    let ann = session_of(&mut server, 2, 7);
    session_of(&mut server, 3, 8);
    let listed = server.registry.sessions().map(|it| it.session).collect::<Vec<_>>();
    assert_eq!((listed.len(), listed[0], listed[1]), (3, nobody, ann));
    let of_user = server.registry.sessions_of("7");
    assert_eq!(of_user.len(), 1);
    let info = &of_user[0];
    assert_eq!((info.session, info.is_linked, &*info.tabs), (ann, true, &[TabId(1)][..]));
    assert_eq!(info.user.as_ref().map(|it| it.name()), Some("7"));
    assert_eq!(server.registry.sessions_of("9"), []);
}

#[test]
fn a_message_to_a_user_goes_to_each_of_its_browsers_and_to_no_other() {
    let mut server = Server::new();
    server.attached(1);
    let user = [session_of(&mut server, 2, 7), session_of(&mut server, 3, 7)];
    session_of(&mut server, 4, 8);
    server.drain();
    assert_eq!(server.registry.tell_user(server.now, "7", Payload::Text("hi")), 2);
    let outputs = server.drain();
    let links = outputs.iter().filter_map(|output| match output {
        Output::Send { link, .. } => Some(link.0),
        _ => None,
    });
    assert_eq!(links.collect::<Vec<_>>(), [2, 3]);
    let message = ServerFrame::Message { payload: Payload::Text("hi") };
    assert_eq!(frames(&outputs), [message.clone(), message]);
    let farewell = farewell(RefusedReason::Ended, None);
    server.registry.end_session(server.now, user[0], &farewell).unwrap();
    assert_eq!(server.registry.tell_user(server.now, "7", Payload::Text("hi")), 1);
    assert_eq!(server.registry.tell_user(server.now, "nobody", Payload::Text("hi")), 0);
}

#[test]
fn a_user_who_is_ended_loses_sessions_with_and_without_a_link_and_links_without_a_session() {
    let mut server = Server::new();
    let other = session_of(&mut server, 1, 8);
    session_of(&mut server, 2, 7);
    session_of(&mut server, 3, 7);
    server.say(3, &crate::support::open(1, 1));
    server.cut(3);
    server.open_as(4, 7);
    let farewell = farewell(RefusedReason::Ended, None);
    assert_eq!(server.registry.end_user(server.now, "7", &farewell), 2);
    let outputs = server.drain();
    let (code, term, target) = (RefusedReason::Ended, Term(0), "");
    let denied = Denied { code, term, retry_ms: None, target, message: "log in first" };
    assert_eq!(frame(&outputs), ServerFrame::Denied(denied));
    let closed = outputs.iter().filter_map(|output| match output {
        Output::CloseLink { link, code, .. } => Some((link.0, *code)),
        _ => None,
    });
    assert_eq!(closed.collect::<Vec<_>>(), [(2, close::POLICY), (4, close::GOING_AWAY)]);
    let left = server.registry.sessions().map(|it| it.session).collect::<Vec<_>>();
    assert_eq!(left, [other]);
}

#[test]
fn a_user_who_is_asked_anew_comes_back_to_its_session() {
    let mut server = Server::new();
    server.open_as(1, 7);
    let outputs = server.say(1, &hello());
    let welcome = match frame(&outputs) {
        ServerFrame::Welcome(welcome) => welcome,
        other => panic!("not welcomed: {other:?}"),
    };
    server.say(1, &attach(1));
    server.say(1, &crate::support::open(1, 1));
    assert_eq!(server.registry.recheck_user(server.now, "7", Duration::from_secs(1)), 1);
    let outputs = server.drain();
    let (reason, after_ms, spread_ms, target) = (GoAwayReason::Rebalance, 0, 1_000, "");
    let go_away = ServerFrame::GoAway { reason, after_ms, spread_ms, target };
    assert_eq!(frame(&outputs), go_away);
    assert_eq!(cause(&outputs), LinkDown::Rechecked);
    server.open_as(2, 7);
    let outputs = server.say(2, &resume(&welcome, 9, Some(0)));
    assert!(matches!(&frames(&outputs)[0], ServerFrame::Welcome(it) if it.resumed));
}

/// A link whose credentials expire after a minute.
fn open_for_a_minute(server: &mut Server, link: u64) {
    let until = Some(server.now + Duration::from_secs(60));
    let admitted = Admitted { until, ..Admitted::default() };
    server.open_by(link, Some(Visitor::Admitted(admitted)));
}

#[test]
fn a_link_whose_credentials_expire_ends_and_its_session_waits_for_another() {
    let mut server = Server::new();
    open_for_a_minute(&mut server, 1);
    let ServerFrame::Welcome(welcome) = frame(&server.say(1, &hello())) else { panic!() };
    server.say(1, &attach(1));
    server.say(1, &crate::support::open(1, 1));
    let (session, tab, socket) = (welcome.session, Alias(1), SocketId(1));
    server.accept(SocketRef { session, tab, socket }, "");
    server.drain();
    for _ in 0..3 {
        let outputs = server.pass(Duration::from_secs(15));
        assert!(outputs.is_empty(), "{outputs:?}");
        server.say(1, &HubFrame::Ping { nonce: 1 });
    }
    let outputs = server.pass(Duration::from_secs(15));
    let (reason, target) = (GoAwayReason::Rebalance, "");
    let go_away = ServerFrame::GoAway { reason, after_ms: 0, spread_ms: 0, target };
    assert_eq!(frame(&outputs), go_away);
    assert_eq!(cause(&outputs), LinkDown::Expired);
    assert_eq!(server.registry.stats().links.expired, 1);
    server.open(2);
    let outputs = server.say(2, &resume(&welcome, 9, Some(0)));
    assert!(matches!(&frames(&outputs)[0], ServerFrame::Welcome(it) if it.resumed));
}

#[test]
fn a_link_that_went_before_its_credentials_expire_leaves_nothing_to_do() {
    let mut server = Server::new();
    open_for_a_minute(&mut server, 1);
    let wakes = |server: &Server| server.registry.poll_timeout();
    assert!(wakes(&server).is_some());
    server.cut(1);
    assert_eq!(wakes(&server), None);
}

#[test]
fn a_link_that_has_not_said_hello_ends_with_its_credentials_too() {
    let mut server = Server::new();
    let until = Some(server.now + Duration::from_secs(1));
    let admitted = Admitted { until, ..Admitted::default() };
    server.open_by(1, Some(Visitor::Admitted(admitted)));
    let outputs = server.pass(Duration::from_secs(1));
    assert_eq!(cause(&outputs), LinkDown::Expired);
}

#[test]
fn a_tab_that_is_ended_is_forgotten_and_its_hub_told_why() {
    let mut server = Server::new();
    let socket = server.socket(1);
    server.say(1, &attach(2));
    let farewell = farewell(RefusedReason::Ended, RETRY);
    let session = socket.session;
    server.registry.end_tab(server.now, session, TabId(1), &farewell).unwrap();
    let outputs = server.drain();
    let (tab, retry_ms, message) = (TabId(1), Some(60_000), "log in first");
    assert_eq!(frame(&outputs), ServerFrame::Dismissed(Dismissed { tab, retry_ms, message }));
    assert!(outputs.iter().any(|it| matches!(it, Output::SocketClosed { code: 1006, .. })));
    let again = server.registry.end_tab(server.now, session, TabId(1), &farewell);
    assert_eq!(again, Err(SendError::Closed));
    let tabs = server.registry.sessions().next().unwrap().tabs;
    assert_eq!(tabs, [TabId(2)]);
}

#[test]
fn a_hub_of_version_1_whose_tab_is_ended_attaches_it_anew() {
    let mut server = Server::new();
    server.open(1);
    server.say(1, &old_hello());
    server.say(1, &attach(1));
    let session = server.registry.sessions().next().unwrap().session;
    let farewell = farewell(RefusedReason::Ended, None);
    server.registry.end_tab(server.now, session, TabId(1), &farewell).unwrap();
    let outputs = server.drain();
    let (code, tab, socket) = (ErrorCode::UnknownTab, Some(TabId(1)), None);
    let message = "log in first";
    assert_eq!(frame(&outputs), ServerFrame::Error { code, tab, socket, message });
}

#[test]
fn a_message_to_a_tab_is_of_its_lane_and_for_a_tab_that_is_there() {
    let mut server = Server::new();
    let session = session_of(&mut server, 1, 7);
    server.say(1, &attach(2));
    let payload = Payload::Text("hi");
    server.registry.tell_tab(server.now, session, TabId(2), payload).unwrap();
    let outputs = server.drain();
    let audience = Audience::Tab;
    assert_eq!(frames(&outputs), [ServerFrame::Direct { lane: 2, audience, payload }]);
    let nobody = server.registry.tell_tab(server.now, session, TabId(3), payload);
    assert_eq!(nobody, Err(SendError::Closed));
}

#[test]
fn a_hub_of_version_1_has_no_message_to_a_tab() {
    let mut server = Server::new();
    server.open(1);
    server.say(1, &old_hello());
    server.say(1, &attach(1));
    let session = server.registry.sessions().next().unwrap().session;
    let told = server.registry.tell_tab(server.now, session, TabId(1), Payload::Text("hi"));
    assert_eq!(told, Err(SendError::Closed));
    assert_eq!(server.drain(), []);
}

#[test]
fn a_hub_that_ends_its_session_leaves_nothing_of_it() {
    let mut server = Server::new();
    let session = session_of(&mut server, 1, 7);
    let outputs = server.say(1, &HubFrame::End);
    assert_eq!(closed(&outputs), (1, close::NORMAL, "the browser ended the session"));
    assert_eq!(cause(&outputs), LinkDown::Ended);
    assert!(frames(&outputs).is_empty(), "it knows");
    assert!(server.registry.sessions().all(|it| it.session != session));
}
