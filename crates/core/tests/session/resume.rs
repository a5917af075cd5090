//! A session that outlives its link: what is sent again, what is not, and who may have it.

use std::time::Duration;

use tabmux_core::{
    session::{Event, LinkDown, Output, SendError, SessionConfig, SessionEnd, SocketRef},
    wire::{
        Alias, Denied, ErrorCode, HubFrame, Payload, RefusedReason, ServerFrame, SocketId, TabId,
        Term, Token, Upstream, Welcome,
    },
};

use super::support::{
    Server, ack, attach, attach_after, cause, close, closed, frame, frames, hello, open, resume,
    text,
};

/// The hub of [`hello`].
const SAME: u64 = 9;
const OTHER: u64 = 10;

/// The texts that were sent to tabs.
fn texts(outputs: &[Output]) -> Vec<&str> {
    let text = |frame| match frame {
        ServerFrame::Data { payload: Payload::Text(text), .. }
        | ServerFrame::Message { payload: Payload::Text(text) } => Some(text),
        _ => None,
    };
    frames(outputs).into_iter().filter_map(text).collect()
}

fn received(outputs: &[Output]) -> Vec<String> {
    let payloads = outputs.iter().filter_map(|output| match output {
        Output::SocketMessage { payload, .. } => Some(format!("{payload:?}")),
        _ => None,
    });
    payloads.collect()
}

#[test]
fn a_cut_link_closes_no_socket_and_what_was_lost_on_it_is_sent_again() {
    let mut server = Server::new();
    let (socket, welcome) = server.welcome_socket(1);
    server.send(socket, "one");
    server.send(socket, "two");
    let outputs = server.cut(1);
    assert!(!outputs.iter().any(|it| matches!(it, Output::SocketClosed { .. })), "{outputs:?}");
    assert_eq!(server.send(socket, "three"), [], "there is no link");
    let (again, _) = server.hello(2, &resume(&welcome, SAME, Some(0)));
    assert!(again.resumed);
    let same = |it: &Welcome| (it.session, it.token, it.term);
    assert_eq!(same(&again), same(&welcome));
    assert_eq!(again.tabs.iter().map(|it| it.tab).collect::<Vec<_>>(), [TabId(1)]);
    // OPENED and the first text came through.
    let outputs = server.say(2, &attach_after(1, 2));
    assert_eq!(texts(&outputs), ["two", "three"]);
    let ServerFrame::Attached { alias, next, n_seen, .. } = frames(&outputs)[0] else {
        panic!("not attached: {outputs:?}")
    };
    assert_eq!((alias, next, n_seen), (Alias(1), 3, 1));
}

#[test]
fn a_message_that_came_before_the_break_is_not_taken_twice() {
    let mut server = Server::new();
    let (_, welcome) = server.welcome_socket(1);
    assert_eq!(received(&server.say(1, &text(2, 1, "a"))).len(), 1);
    server.cut(1);
    server.hello(2, &resume(&welcome, SAME, None));
    server.say(2, &attach_after(1, 1));
    assert_eq!(received(&server.say(2, &text(2, 1, "a"))), [""; 0]);
    assert_eq!(received(&server.say(2, &text(3, 1, "b"))).len(), 1);
}

#[test]
fn what_is_acknowledged_is_kept_no_longer() {
    let mut server = Server::new();
    let (socket, welcome) = server.welcome_socket(1);
    server.send(socket, "one");
    server.registry.broadcast(server.now, socket.session, Payload::Text("all")).unwrap();
    assert!(server.registry.stats().memory.kept_bytes > 0);
    server.say(1, &ack(&[(0, 1), (1, 2)]));
    assert_eq!(server.registry.stats().memory.kept_bytes, 0);
    server.cut(1);
    let (again, outputs) = server.hello(2, &resume(&welcome, SAME, Some(1)));
    assert_eq!((again.next0, texts(&outputs)), (2, vec![]));
    assert_eq!(texts(&server.say(2, &attach_after(1, 2))), [""; 0]);
}

#[test]
fn a_new_hub_gets_lane_0_from_the_first_frame_that_was_not_acknowledged() {
    let mut server = Server::new();
    let (socket, welcome) = server.welcome_socket(1);
    for text in ["one", "two", "three"] {
        server.registry.broadcast(server.now, socket.session, Payload::Text(text)).unwrap();
    }
    server.say(1, &ack(&[(0, 1)]));
    server.cut(1);
    let (again, outputs) = server.hello(2, &resume(&welcome, OTHER, None));
    assert_eq!((again.next0, again.term), (2, Term(2)));
    assert_eq!(texts(&outputs), ["two", "three"]);
}

#[test]
fn a_takeover_fences_the_link_that_was_there() {
    let mut server = Server::new();
    let (_, welcome) = server.welcome_socket(1);
    let (taken, outputs) = server.hello(2, &resume(&welcome, OTHER, None));
    assert_eq!(frames(&outputs)[0], ServerFrame::Fenced { term: Term(2) });
    assert_eq!(closed(&outputs).0, 1);
    assert_eq!((taken.resumed, taken.term), (true, Term(2)));
    assert_eq!(server.say(1, &text(2, 1, "late")), [], "nothing more is read from it");
    server.say(2, &attach(1));
    assert_eq!(received(&server.say(2, &text(2, 1, "now"))).len(), 1);
    let stats = server.registry.stats();
    assert_eq!((stats.links.open, stats.sessions.held, stats.sessions.takeovers), (1, 1, 1));
}

#[test]
fn the_same_hub_has_one_link_at_a_time() {
    let mut server = Server::new();
    let (_, welcome) = server.welcome_socket(1);
    let (_, outputs) = server.hello(2, &resume(&welcome, SAME, Some(0)));
    assert_eq!(closed(&outputs).0, 1);
    let replaced = |it: &Output| match it {
        Output::LinkDown { cause, .. } => *cause == LinkDown::Replaced,
        _ => false,
    };
    assert!(outputs.iter().any(replaced), "{outputs:?}");
    assert_eq!(server.registry.stats().sessions.held, 1);
}

#[test]
fn a_hub_with_an_old_term_is_refused_and_told_the_term() {
    let mut server = Server::new();
    let (_, welcome) = server.welcome_socket(1);
    server.hello(2, &resume(&welcome, OTHER, None));
    server.open(3);
    let outputs = server.say(3, &resume(&welcome, SAME, None));
    let ServerFrame::Denied(Denied { code, term, .. }) = frame(&outputs) else {
        panic!("not refused: {outputs:?}")
    };
    assert_eq!((code, term), (RefusedReason::Stale, Term(2)));
    assert_eq!(closed(&outputs).1, 1002);
    assert_eq!(server.registry.stats().sessions.stale, 1);
    // Nor is one that nobody was given any better.
    let unborn = Welcome { term: Term(3), ..welcome };
    server.open(4);
    let outputs = server.say(4, &resume(&unborn, SAME, None));
    assert_eq!(cause(&outputs), LinkDown::Refused(RefusedReason::Stale));
}

#[test]
fn a_forged_token_is_refused_and_harms_nothing() {
    let mut server = Server::new();
    let (socket, welcome) = server.welcome_socket(1);
    server.open(2);
    let forged = Welcome { token: Token([3; 16]), ..welcome };
    let outputs = server.say(2, &resume(&forged, SAME, None));
    assert_eq!(closed(&outputs).1, 1008);
    assert_eq!(cause(&outputs), LinkDown::Refused(RefusedReason::Denied));
    assert_eq!(server.registry.stats().sessions.forged, 1);
    assert_eq!(texts(&server.send(socket, "still there")), ["still there"]);
}

#[test]
fn a_session_is_only_for_whom_it_was_begun_by() {
    // 0 is nobody: who logs in does not go on with what was begun before.
    for (began, came) in [(1, 2), (1, 0), (0, 2)] {
        for (hub, detached) in [(SAME, false), (OTHER, false), (SAME, true), (OTHER, true)] {
            let mut server = Server::new();
            server.open_as(1, began);
            let outputs = server.say(1, &hello());
            let ServerFrame::Welcome(welcome) = frame(&outputs) else {
                panic!("not welcomed: {outputs:?}")
            };
            server.say(1, &attach(1));
            server.say(1, &open(1, 1));
            let session = welcome.session;
            let socket = SocketRef { session, tab: Alias(1), socket: SocketId(1) };
            server.accept(socket, "");
            server.drain();
            if detached {
                server.cut(1);
                server.send(socket, "secret");
            }
            server.open_as(2, came);
            let refused = server.say(2, &resume(&welcome, hub, None));
            assert_eq!(closed(&refused).0, 2);
            // Word for word what a wrong token is told.
            server.open_as(3, began);
            let forged = Welcome { token: Token([3; 16]), ..welcome.clone() };
            let forgery = server.say(3, &resume(&forged, hub, None));
            assert_eq!(frame(&refused), frame(&forgery));
            assert_eq!(closed(&refused).1, closed(&forgery).1);
            let stats = server.registry.stats();
            assert_eq!(
                (stats.sessions.foreign, stats.sessions.forged, stats.sessions.held),
                (1, 1, 1)
            );
            assert_eq!((stats.sessions.detached, stats.sockets.open), (usize::from(detached), 1));
            // Who began it goes on with it, in the term in which it was left.
            server.open_as(4, began);
            let outputs = server.say(4, &resume(&welcome, hub, None));
            let resumed = frames(&outputs)
                .into_iter()
                .any(|it| matches!(it, ServerFrame::Welcome(it) if it.resumed && it.term.0 <= 2));
            assert!(resumed, "{outputs:?}");
            let outputs = server.say(4, &attach_after(1, 1));
            assert_eq!(texts(&outputs), if detached { vec!["secret"] } else { vec![] });
        }
    }
}

#[test]
fn a_session_without_a_link_ends_after_210_seconds() {
    let mut server = Server::new();
    let (socket, welcome) = server.welcome_socket(1);
    server.cut(1);
    assert_eq!(server.pass(Duration::from_secs(209)), []);
    let outputs = server.pass(Duration::from_secs(2));
    let close = Output::SocketClosed { socket, code: 1006, reason: String::new(), clean: false };
    let (session, end) = (socket.session, SessionEnd::Expired);
    assert_eq!(outputs, [close, Output::Event(Event::SessionEnded { session, end })]);
    let stats = server.registry.stats();
    assert_eq!(
        (stats.sessions.held, stats.tabs.attached, stats.sockets.open, stats.sessions.detached),
        (0, 0, 0, 0)
    );
    assert_eq!((stats.memory.kept_bytes, stats.sessions.expired), (0, 1));
    assert_eq!(server.registry.poll_timeout(), None);
    let (again, _) = server.hello(2, &resume(&welcome, SAME, None));
    assert!(!again.resumed && again.session != welcome.session);
}

#[test]
fn a_session_that_came_back_lives_on() {
    let mut server = Server::new();
    let (socket, welcome) = server.welcome_socket(1);
    server.cut(1);
    server.pass(Duration::from_secs(50));
    server.hello(2, &resume(&welcome, SAME, None));
    server.say(2, &attach(1));
    assert_eq!(server.pass(Duration::from_secs(20)), []);
    assert_eq!(texts(&server.send(socket, "hi")), ["hi"]);
}

#[test]
fn a_session_of_which_nothing_would_be_missed_ends_with_its_link() {
    let mut server = Server::new();
    server.attached(1);
    server.cut(1);
    let stats = server.registry.stats();
    assert_eq!((stats.sessions.held, stats.sessions.detached, stats.tabs.attached), (0, 0, 0));
}

#[test]
fn counts_from_the_future_are_refused() {
    let mut server = Server::new();
    for (link, bad) in [(1, ack(&[(1, 2)])), (3, ack(&[(0, 1)]))] {
        server.welcome_socket(link);
        let outputs = server.say(link, &bad);
        let why = "frames were acknowledged that were never sent";
        assert_eq!(closed(&outputs), (link, 1002, why));
    }
    // To a tab without a socket nothing was ever sent.
    server.attached(5);
    let outputs = server.say(5, &ack(&[(1, 1)]));
    assert_eq!(closed(&outputs).1, 1002);
    let (_, welcome) = server.welcome_socket(7);
    server.open(8);
    let outputs = server.say(8, &resume(&welcome, SAME, Some(1)));
    assert_eq!(closed(&outputs).1, 1002);
}

#[test]
fn a_tab_that_says_it_has_what_was_never_sent_gets_all_there_is() {
    let mut server = Server::new();
    let (socket, _) = server.welcome_socket(1);
    server.send(socket, "one");
    assert_eq!(texts(&server.say(1, &attach_after(1, 99))), ["one"]);
}

#[test]
fn an_acknowledgement_of_a_tab_that_is_no_more_is_ignored() {
    let mut server = Server::new();
    server.welcome_socket(1);
    server.say(1, &HubFrame::Gone { tab: TabId(1) });
    assert_eq!(server.say(1, &ack(&[(1, 1), (77, 5)])), []);
    assert_eq!(server.registry.stats().memory.kept_bytes, 0);
}

#[test]
fn a_tab_id_of_another_session_names_a_new_tab_of_ones_own() {
    let mut server = Server::new();
    let (socket, _) = server.welcome_socket(1);
    server.hello(2, &hello());
    let outputs = server.say(2, &attach_after(1, 1));
    let ServerFrame::Attached { n_seen, next, .. } = frame(&outputs) else {
        panic!("not attached: {outputs:?}")
    };
    assert_eq!((n_seen, next), (0, 1));
    let outputs = server.send(socket, "mine");
    assert!(matches!(outputs[..], [Output::Send { link, .. }] if link.0 == 1), "{outputs:?}");
}

/// A lane of 1,000 bytes.
fn narrow() -> (Server, SocketRef, Welcome) {
    let config = SessionConfig { lane_bytes: 1_000, ..SessionConfig::default() };
    let mut server = Server::with(config);
    let (socket, welcome) = server.welcome_socket(1);
    server.say(1, &ack(&[(1, 1)]));
    (server, socket, welcome)
}

#[test]
fn a_full_lane_takes_no_message_until_half_of_it_is_acknowledged() {
    let (mut server, socket, _) = narrow();
    let send = |server: &mut Server| {
        let sent = server.registry.send(server.now, socket, Payload::Binary(&[0; 300]));
        server.drain();
        server.written(1, 10_000);
        sent
    };
    for _ in 0..4 {
        assert_eq!(send(&mut server), Ok(()), "a lane takes messages until it is full");
    }
    assert_eq!(send(&mut server), Err(SendError::Full));
    assert_eq!(server.say(1, &ack(&[(1, 3)])), []);
    assert_eq!(server.say(1, &ack(&[(1, 4)])), [Output::SocketWritable { socket }]);
    assert_eq!(send(&mut server), Ok(()));
}

#[test]
fn a_tab_that_leaves_its_lane_full_for_a_minute_is_forgotten() {
    let (mut server, socket, _) = narrow();
    while server.registry.send(server.now, socket, Payload::Binary(&[0; 300])).is_ok() {}
    server.drain();
    for _ in 0..2 {
        server.pass(Duration::from_secs(25));
        let outputs = server.say(1, &HubFrame::Ping { nonce: 1 });
        assert!(!outputs.iter().any(|it| matches!(it, Output::SocketClosed { .. })));
    }
    server.pass(Duration::from_secs(25));
    let outputs = server.say(1, &HubFrame::Ping { nonce: 2 });
    assert!(outputs.iter().any(|it| matches!(it, Output::SocketClosed { code: 1006, .. })));
    let told = frames(&outputs).into_iter().find_map(|frame| match frame {
        ServerFrame::Error { code, tab, .. } => Some((code, tab)),
        _ => None,
    });
    assert_eq!(told, Some((ErrorCode::UnknownTab, Some(TabId(1)))));
    let stats = server.registry.stats();
    assert_eq!((stats.tabs.stalled, stats.memory.kept_bytes, stats.tabs.attached), (1, 0, 0));
}

#[test]
fn a_tab_that_acknowledges_once_and_then_no_more_is_forgotten_too() {
    let (mut server, socket, _) = narrow();
    while server.registry.send(server.now, socket, Payload::Binary(&[0; 300])).is_ok() {}
    server.drain();
    server.pass(Duration::from_secs(15));
    assert_eq!(server.say(1, &ack(&[(1, 2)])), [], "less than half of it is free");
    for nonce in 1..=4 {
        server.pass(Duration::from_secs(15));
        assert_eq!(server.registry.stats().tabs.stalled, 0);
        server.say(1, &HubFrame::Ping { nonce });
    }
    assert_eq!(server.registry.stats().tabs.stalled, 1);
    assert_eq!(server.registry.stats().sockets.open, 0);
}

#[test]
fn what_a_tab_that_is_gone_kept_is_room_for_those_that_wait_for_it() {
    let config = SessionConfig { session_bytes: 1_000, ..SessionConfig::default() };
    let mut server = Server::with(config);
    let (socket, _) = server.welcome_socket(1);
    server.say(1, &ack(&[(1, 1)]));
    server.say(1, &attach(2));
    let (up, path) = (Upstream { tab: Alias(2), n: 1 }, "/echo");
    let credit = 1 << 20;
    let open =
        HubFrame::Open { up, socket: SocketId(1), credit, path, protocols: vec![], ticket: "" };
    server.say(1, &open);
    let other = SocketRef { tab: Alias(2), ..socket };
    server.accept(other, "");
    while server.registry.send(server.now, other, Payload::Binary(&[0; 300])).is_ok() {}
    let sent = server.registry.send(server.now, socket, Payload::Text("late"));
    assert_eq!(sent, Err(SendError::Full));
    server.drain();
    server.written(1, 10_000);
    let outputs = server.say(1, &HubFrame::Gone { tab: TabId(2) });
    assert!(outputs.contains(&Output::SocketWritable { socket }), "{outputs:?}");
}

#[test]
fn a_session_in_which_even_answers_pile_up_is_given_up() {
    let config = SessionConfig {
        message_bytes: 1_000,
        session_bytes: 500,
        absent_bytes: 500,
        control_bytes: 1_000,
        credit_bytes: 1_000,
        ..SessionConfig::default()
    };
    let mut server = Server::with(config);
    let (socket, _) = server.welcome_socket(1);
    let reason = "r".repeat(100);
    let closes = (2..100_u32).find_map(|number| {
        server.say(1, &open(u64::from(number) * 2 - 2, number));
        let opened = SocketRef { socket: tabmux_core::wire::SocketId(number), ..socket };
        server.accept(opened, "");
        let outputs = server.drain();
        assert!(closed_link(&outputs).is_none(), "{outputs:?}");
        let outputs = server.say(1, &close(u64::from(number) * 2 - 1, number, 4_000, &reason));
        server.written(1, 10_000);
        closed_link(&outputs)
    });
    assert_eq!(closes, Some(1008));
    assert_eq!(server.registry.stats().sessions.held, 0);
}

fn closed_link(outputs: &[Output]) -> Option<u16> {
    outputs.iter().find_map(|output| match output {
        Output::CloseLink { code, .. } => Some(*code),
        _ => None,
    })
}

#[test]
fn past_the_limit_of_sessions_without_a_link_the_oldest_goes() {
    let config = SessionConfig { detached_sessions: 2, ..SessionConfig::default() };
    let mut server = Server::with(config);
    let sessions = [1, 2, 3].map(|link| server.welcome_socket(link));
    server.cut(2);
    server.pass(Duration::from_millis(1));
    server.cut(1);
    let outputs = server.cut(3);
    let (session, end) = (sessions[1].0.session, SessionEnd::Evicted);
    let ended = Output::Event(Event::SessionEnded { session, end });
    assert!(outputs.contains(&ended), "{outputs:?}");
    let stats = server.registry.stats();
    assert_eq!((stats.sessions.held, stats.sessions.detached, stats.sessions.evicted), (2, 2, 1));
}

#[test]
fn a_parked_tabs_lane_waits_for_it() {
    let mut server = Server::new();
    let (socket, _) = server.welcome_socket(1);
    server.say(1, &HubFrame::Park { tab: TabId(1) });
    assert_eq!(server.send(socket, "later"), []);
    assert_eq!(texts(&server.say(1, &attach_after(1, 1))), ["later"]);
}

#[test]
fn a_tab_that_was_set_aside_is_told_when_it_attaches() {
    let mut server = Server::new();
    let (socket, welcome) = server.welcome_socket(1);
    server.registry.broadcast(server.now, socket.session, Payload::Text("all")).unwrap();
    let lanes = vec![tabmux_core::wire::LaneCount { lane: 0, count: 1 }];
    server.say(1, &HubFrame::Ack { lanes, aside: vec![Alias(1)] });
    server.cut(1);
    let (again, _) = server.hello(2, &resume(&welcome, OTHER, None));
    assert!(again.tabs[0].aside);
    let aside = |outputs: &[Output]| match frames(outputs)[0] {
        ServerFrame::Attached { aside, .. } => aside,
        ref other => panic!("not attached: {other:?}"),
    };
    assert!(aside(&server.say(2, &attach_after(1, 1))));
    assert!(!aside(&server.say(2, &attach_after(1, 1))), "it was told");
}

#[test]
fn a_hub_hears_what_came_of_its_tabs_with_every_answer_to_ping_and_after_64_frames() {
    let mut server = Server::new();
    server.welcome_socket(1);
    let told = |outputs: &[Output]| match frames(outputs).first() {
        Some(ServerFrame::Ack { lanes }) => Some((lanes[0].lane, lanes[0].count)),
        _ => None,
    };
    let ping = HubFrame::Ping { nonce: 1 };
    assert_eq!(told(&server.say(1, &ping)), Some((1, 1)));
    assert_eq!(told(&server.say(1, &ping)), None, "nothing new");
    let at_once = (2..100).find(|n| told(&server.say(1, &text(*n, 1, "x"))).is_some());
    assert_eq!(at_once, Some(65));
}

#[test]
fn a_session_that_keeps_as_much_as_it_may_goes_on() {
    let mut server = Server::with(SessionConfig {
        message_bytes: 1_000,
        queue_bytes: 1_000,
        control_bytes: 100,
        lane_bytes: 1_000,
        session_bytes: 1_000,
        ..SessionConfig::default()
    });
    let (socket, welcome) = server.welcome_socket(1);
    server.cut(1);
    for _ in 0..2 {
        server.registry.send(server.now, socket, Payload::Text(&"x".repeat(900))).unwrap();
    }
    server.hello(2, &resume(&welcome, SAME, None));
    let outputs = server.say(2, &attach_after(1, 1));
    assert_eq!(texts(&outputs).len(), 2);
    assert!(!outputs.iter().any(|it| matches!(it, Output::CloseLink { .. })), "{outputs:?}");
    assert_eq!(server.registry.stats().sessions.held, 1);
    // The next answer, while nothing was written yet, is no reason either.
    let outputs = server.say(2, &HubFrame::Ping { nonce: 1 });
    assert!(!outputs.iter().any(|it| matches!(it, Output::CloseLink { .. })), "{outputs:?}");
}

#[test]
fn a_hub_that_says_it_has_what_was_never_sent_is_turned_away_and_the_session_lives() {
    let mut server = Server::new();
    let (_, welcome) = server.welcome_socket(1);
    server.open(2);
    let outputs = server.say(2, &resume(&welcome, OTHER, Some(1)));
    assert_eq!((closed(&outputs).0, closed(&outputs).1), (2, 1002));
    let stats = server.registry.stats();
    assert_eq!((stats.sessions.held, stats.sockets.open, stats.sessions.takeovers), (1, 1, 0));
}

#[test]
fn a_link_that_comes_and_goes_is_not_remembered_each_time() {
    let mut server = Server::new();
    let (_, welcome) = server.welcome_socket(1);
    for link in 1..1_000 {
        server.cut(link);
        server.pass(Duration::from_millis(10));
        server.hello(link + 1, &resume(&welcome, SAME, None));
    }
    let (end, mut wakes) = (server.now + Duration::from_secs(210), 0);
    while let Some((at, _)) = server.registry.poll_timeout().filter(|(at, _)| *at <= end) {
        server.now = at;
        server.registry.handle_timeout(at);
        wakes += 1;
    }
    assert!(wakes < 100, "{wakes}");
}
