//! Credit: a socket's messages wait until its tab lets more come, and nothing else waits for it.
//! What a tab sends itself is held to the same.

use std::time::Duration;

use tabmux_core::{
    session::{Output, SendError, SessionConfig, SocketRef},
    wire::{Alias, HubFrame, Payload, ServerFrame, SessionId, SocketId, TabId, Upstream},
};

use super::support::{
    Server, ack, attach, attach_after, close, credit, frame, frames, open_with, resume, text,
};

/// A payload that costs 100.
const MESSAGE: Payload<'static> = Payload::Binary(&[0; 36]);

/// Tab 1 on link 1 opens socket 1, then 2, and so on, with these credits.
fn sockets(server: &mut Server, credits: &[u64]) -> Vec<SocketRef> {
    let session = server.attached(1);
    let sockets = (1..).zip(credits).map(|(number, credit)| {
        server.say(1, &open_with(number.into(), number, *credit));
        let socket = SocketRef { session, tab: Alias(1), socket: SocketId(number) };
        server.accept(socket, "");
        server.drain();
        socket
    });
    sockets.collect()
}

fn send(server: &mut Server, socket: SocketRef) -> Result<(), SendError> {
    server.registry.send(server.now, socket, MESSAGE)
}

/// Sends while there is credit; how many messages that are.
fn spend(server: &mut Server, socket: SocketRef) -> usize {
    let mut count = 0;
    while send(server, socket) == Ok(()) {
        count += 1;
    }
    assert_eq!(send(server, socket), Err(SendError::Full));
    server.drain();
    count
}

#[test]
fn a_socket_without_credit_is_full_and_is_told_when_it_has_some() {
    let mut server = Server::new();
    let socket = sockets(&mut server, &[250])[0];
    assert_eq!(spend(&mut server, socket), 3, "the third begins with 50 left");
    assert_eq!(server.registry.stats().messages.no_credit, 2);
    assert_eq!(server.registry.stats().messages.queue_full, 0);
    assert_eq!(server.say(1, &credit(2, 1, 50)), [], "it owes 50");
    assert_eq!(server.say(1, &credit(3, 1, 1)), [Output::SocketWritable { socket }]);
    assert_eq!(spend(&mut server, socket), 1);
}

#[test]
fn sockets_that_wait_for_credit_are_counted_while_they_do() {
    let mut server = Server::with(SessionConfig { lane_bytes: 500, ..SessionConfig::default() });
    let awaiting = |server: &Server| server.registry.stats().sockets.awaiting_credit;
    let all = sockets(&mut server, &[100, 100, 100, 100, 1 << 20]);
    for (count, socket) in (1..).zip(&all[..4]) {
        assert_eq!(send(&mut server, *socket), Ok(()));
        assert_eq!(awaiting(&server), count - 1, "it has not asked for more");
        assert_eq!(send(&mut server, *socket), Err(SendError::Full));
        assert_eq!(send(&mut server, *socket), Err(SendError::Full));
        assert_eq!(awaiting(&server), count);
    }
    // One that has credit waits for room in the lane, and no more is to be given.
    while send(&mut server, all[4]).is_ok() {}
    assert_eq!(awaiting(&server), 4);
    server.drain();
    assert_eq!(server.say(1, &credit(6, 1, 1)), [], "the lane is full");
    assert_eq!(awaiting(&server), 3);
    server.registry.send_rushed(server.now, all[0], MESSAGE).unwrap();
    assert_eq!(awaiting(&server), 4);
    server.say(1, &credit(7, 1, 101));
    server.registry.close(server.now, all[1], 1000, "").unwrap();
    assert_eq!(awaiting(&server), 2);
    server.say(1, &close(8, 3, 1000, ""));
    assert_eq!(awaiting(&server), 1);
    server.say(1, &HubFrame::Gone { tab: TabId(1) });
    assert_eq!(awaiting(&server), 0);
}

#[test]
fn sockets_that_waited_for_credit_are_not_counted_when_their_session_has_ended() {
    let mut server = Server::new();
    let socket = sockets(&mut server, &[100])[0];
    spend(&mut server, socket);
    server.cut(1);
    assert_eq!(server.registry.stats().sockets.awaiting_credit, 1);
    server.pass(Duration::from_secs(211));
    assert_eq!(server.registry.stats().sockets.awaiting_credit, 0);
}

#[test]
fn a_message_larger_than_all_its_credit_goes_out() {
    let mut server = Server::new();
    let socket = sockets(&mut server, &[1])[0];
    let large = vec![0; 100_000];
    assert_eq!(server.registry.send(server.now, socket, Payload::Binary(&large)), Ok(()));
    server.drain();
    assert_eq!(send(&mut server, socket), Err(SendError::Full));
    // What it cost, less one: the header of a message costs 64.
    assert_eq!(server.say(1, &credit(2, 1, 100_064 - 1)), []);
    assert_eq!(server.say(1, &credit(3, 1, 1)), [Output::SocketWritable { socket }]);
}

#[test]
fn empty_messages_cost_credit_too() {
    let mut server = Server::new();
    let socket = sockets(&mut server, &[640])[0];
    let sent = std::iter::from_fn(|| {
        server.registry.send(server.now, socket, Payload::Text("")).is_ok().then_some(())
    });
    assert_eq!(sent.count(), 10);
}

#[test]
fn other_sockets_of_the_tab_and_the_browser_go_on() {
    let mut server = Server::new();
    let all = sockets(&mut server, &[250, 250]);
    server.say(1, &attach(2));
    let up = Upstream { tab: Alias(2), n: 1 };
    let (path, protocols) = ("/echo", vec![]);
    let open = HubFrame::Open { up, socket: SocketId(1), credit: 250, path, protocols, ticket: "" };
    server.say(1, &open);
    let other = SocketRef { tab: Alias(2), ..all[0] };
    server.accept(other, "");
    assert_eq!(spend(&mut server, all[0]), 3);
    for socket in [all[1], other] {
        assert_eq!(send(&mut server, socket), Ok(()));
        assert!(matches!(frame(&server.drain()), ServerFrame::Data { .. }));
    }
    assert_eq!(server.registry.broadcast(server.now, all[0].session, MESSAGE), Ok(()));
    server.drain();
    // It hears as well as ever: what has no credit is one direction of one socket.
    assert!(matches!(
        &server.say(1, &text(3, 1, "up"))[..],
        [Output::SocketMessage { socket, .. }] if *socket == all[0]
    ));
}

#[test]
fn credit_of_one_socket_is_none_of_another() {
    let mut server = Server::new();
    let all = sockets(&mut server, &[100, 100]);
    assert_eq!((spend(&mut server, all[0]), spend(&mut server, all[1])), (1, 1));
    let socket = all[1];
    assert_eq!(server.say(1, &credit(3, 2, 1)), [Output::SocketWritable { socket }]);
    assert_eq!(server.say(1, &credit(4, 7, 1000)), [], "there is no such socket");
}

#[test]
fn credit_that_is_said_again_counts_once() {
    let mut server = Server::new();
    let socket = sockets(&mut server, &[100])[0];
    assert_eq!(spend(&mut server, socket), 1);
    assert_eq!(server.say(1, &credit(2, 1, 100)), [Output::SocketWritable { socket }]);
    assert_eq!(server.say(1, &credit(2, 1, 100)), []);
    assert_eq!(spend(&mut server, socket), 1);
}

#[test]
fn credit_survives_the_link_and_what_is_sent_again_costs_nothing() {
    let mut server = Server::new();
    let (socket, welcome) = server.welcome_socket(1);
    let SocketRef { session, tab, .. } = socket;
    server.say(1, &open_with(2, 2, 250));
    let socket = SocketRef { session, tab, socket: SocketId(2) };
    server.accept(socket, "");
    assert_eq!(send(&mut server, socket), Ok(()));
    server.cut(1);
    server.hello(2, &resume(&welcome, 10, Some(0)));
    let outputs = server.say(2, &attach_after(1, 0));
    let again = frames(&outputs);
    assert!(again.iter().any(|frame| matches!(frame, ServerFrame::Data { .. })), "{again:?}");
    assert_eq!(spend(&mut server, socket), 2, "150 are left");
    // The tab says what the server had, and what it had not.
    assert_eq!(server.say(2, &open_with(2, 2, 250)), []);
    assert_eq!(server.say(2, &credit(3, 2, 51)), [Output::SocketWritable { socket }]);
}

#[test]
fn more_credit_than_can_be_counted_is_as_much_as_can_be() {
    let mut server = Server::new();
    let all = sockets(&mut server, &[u64::MAX, 0]);
    for (n, number) in [(3, 1), (4, 2), (5, 2)] {
        server.say(1, &credit(n, number, u64::MAX));
    }
    for socket in all {
        assert_eq!(send(&mut server, socket), Ok(()));
        assert_eq!(send(&mut server, socket), Ok(()));
    }
    assert_eq!(server.registry.stats().links.protocol_errors, 0);
}

#[test]
fn without_any_credit_nothing_is_sent() {
    let mut server = Server::new();
    let socket = sockets(&mut server, &[0])[0];
    assert_eq!(send(&mut server, socket), Err(SendError::Full));
    assert_eq!(server.say(1, &credit(2, 1, 0)), []);
    assert_eq!(server.say(1, &credit(3, 1, 1)), [Output::SocketWritable { socket }]);
}

#[test]
fn what_cannot_wait_overdraws_the_credit_and_has_to_be_given_back() {
    let mut server = Server::new();
    let socket = sockets(&mut server, &[100])[0];
    for _ in 0..5 {
        assert_eq!(server.registry.send_rushed(server.now, socket, MESSAGE), Ok(()));
    }
    assert_eq!(spend(&mut server, socket), 0);
    assert_eq!(server.say(1, &credit(2, 1, 400)), []);
    assert_eq!(server.say(1, &credit(3, 1, 1)), [Output::SocketWritable { socket }]);
}

#[test]
fn credit_and_room_are_both_needed() {
    let mut server = Server::with(SessionConfig { lane_bytes: 160, ..SessionConfig::default() });
    let socket = sockets(&mut server, &[200])[0];
    server.say(1, &ack(&[(1, 1)]));
    assert_eq!(spend(&mut server, socket), 2);
    assert_eq!(server.say(1, &credit(2, 1, 200)), [Output::SocketWritable { socket }]);
    assert_eq!(spend(&mut server, socket), 2, "the lane had 78 bytes, and has 156");
    assert_eq!(server.say(1, &credit(3, 1, 200)), [], "the lane is full");
    assert_eq!(server.say(1, &ack(&[(1, 5)])), [Output::SocketWritable { socket }]);
}

#[test]
fn a_tab_that_gives_no_credit_is_not_forgotten_for_it() {
    let mut server = Server::new();
    let all = sockets(&mut server, &[100, 1000]);
    spend(&mut server, all[0]);
    server.say(1, &ack(&[(1, 3)]));
    assert_eq!(send(&mut server, all[0]), Err(SendError::Full), "nothing is unacknowledged");
    for n in 1..=8 {
        assert_eq!(send(&mut server, all[1]), Ok(()), "{n}");
        server.pass(Duration::from_secs(15));
        assert!(matches!(
            frames(&server.say(1, &HubFrame::Ping { nonce: n }))[..],
            [.., ServerFrame::Pong { .. }]
        ));
        server.say(1, &ack(&[(1, 3 + n)]));
    }
    assert_eq!(server.registry.stats().tabs.stalled, 0);
    assert_eq!(server.registry.stats().sockets.open, 2);
}

#[test]
fn a_tab_that_stands_still_keeps_its_socket_while_its_lane_has_room() {
    let mut server = Server::new();
    let socket = sockets(&mut server, &[100])[0];
    spend(&mut server, socket);
    for nonce in 1..=9 {
        server.pass(Duration::from_secs(15));
        server.say(1, &HubFrame::Ping { nonce });
    }
    let stats = server.registry.stats();
    assert_eq!((stats.tabs.stalled, stats.sockets.open), (0, 1));
    assert_eq!(server.say(1, &credit(2, 1, 101)), [Output::SocketWritable { socket }]);
}

#[test]
fn a_socket_that_closes_without_credit_is_told_nothing_more() {
    let mut server = Server::new();
    let socket = sockets(&mut server, &[100])[0];
    spend(&mut server, socket);
    server.registry.close(server.now, socket, 1000, "").unwrap();
    server.drain();
    assert_eq!(server.say(1, &credit(2, 1, 1000)), []);
}

/// A registry whose tabs may send so much, and socket 1 of tab 1 there.
fn lending(credit_bytes: u32) -> (Server, SocketRef) {
    let config = SessionConfig { credit_bytes, ..SessionConfig::default() };
    let mut server = Server::with(config);
    let socket = sockets(&mut server, &[0])[0];
    (server, socket)
}

/// The tab sends what costs 100.
fn hears(server: &mut Server, n: u64) -> Vec<Output> {
    server.say(1, &text(n, 1, &"x".repeat(36)))
}

/// The application has dealt with so much: what the tab is given for it.
fn given(server: &mut Server, socket: SocketRef, cost: u64) -> Option<u64> {
    server.registry.give_back(server.now, socket, cost);
    let outputs = server.drain();
    match frames(&outputs)[..] {
        [] => None,
        [ServerFrame::Credit { tab: Alias(1), socket: SocketId(1), bytes }] => Some(bytes),
        _ => panic!("{outputs:?}"),
    }
}

#[test]
fn a_tab_is_told_what_it_may_send_and_gets_back_what_was_dealt_with() {
    let config = SessionConfig { credit_bytes: 250, ..SessionConfig::default() };
    let mut server = Server::with(config);
    let socket = server.opening(1);
    server.accept(socket, "");
    let outputs = server.drain();
    let ServerFrame::Opened { credit, .. } = frame(&outputs) else { panic!("{outputs:?}") };
    assert_eq!(credit, 250);
    for n in 2..=4 {
        assert!(matches!(hears(&mut server, n)[..], [Output::SocketMessage { .. }]), "{n}");
    }
    assert_eq!(given(&mut server, socket, 100), None, "less than half");
    assert_eq!(given(&mut server, socket, 100), Some(200));
    assert_eq!(given(&mut server, socket, 100), None);
    for n in 5..=6 {
        assert!(matches!(hears(&mut server, n)[..], [Output::SocketMessage { .. }]), "{n}");
    }
    assert_eq!(server.registry.stats().sockets.over_credit, 0);
}

#[test]
fn a_page_that_sends_without_credit_loses_the_socket_and_nothing_else() {
    let (mut server, socket) = lending(200);
    let other = SocketRef { socket: SocketId(2), ..socket };
    server.say(1, &open_with(2, 2, 0));
    server.accept(other, "");
    server.drain();
    for n in 3..=4 {
        assert!(matches!(hears(&mut server, n)[..], [Output::SocketMessage { .. }]), "{n}");
    }
    let outputs = hears(&mut server, 5);
    let ServerFrame::Close { tab: Alias(1), socket: SocketId(1), code, reason } = frame(&outputs)
    else {
        panic!("{outputs:?}")
    };
    assert_eq!((code, reason), (1008, "more was sent than there was credit for"));
    assert!(outputs.contains(&Output::SocketClosed {
        socket,
        code: 1008,
        reason: reason.to_owned(),
        clean: true
    }));
    // More of the same, and the tab's own close, are of a socket that is no more.
    assert_eq!(hears(&mut server, 6), []);
    assert_eq!(server.say(1, &close(7, 1, 1000, "")), []);
    assert!(matches!(server.say(1, &text(8, 2, "x"))[..], [Output::SocketMessage { .. }]));
    let stats = server.registry.stats();
    assert_eq!(
        (stats.sockets.over_credit, stats.links.protocol_errors, stats.links.open),
        (1, 0, 1)
    );
}

#[test]
fn a_message_larger_than_all_credit_comes_as_one() {
    let (mut server, socket) = lending(1);
    let large = "x".repeat(10_000);
    assert!(matches!(server.say(1, &text(2, 1, &large))[..], [Output::SocketMessage { .. }]));
    assert_eq!(given(&mut server, socket, 10_064), Some(10_064));
    assert!(matches!(server.say(1, &text(3, 1, ""))[..], [Output::SocketMessage { .. }]));
    assert_eq!(given(&mut server, socket, 64), Some(64));
}

#[test]
fn no_tab_is_given_more_than_it_used() {
    let (mut server, socket) = lending(200);
    assert_eq!(given(&mut server, socket, u64::MAX), None);
    hears(&mut server, 2);
    assert_eq!(given(&mut server, socket, u64::MAX), Some(100));
    assert_eq!(given(&mut server, socket, u64::MAX), None);
    let gone = SocketRef { socket: SocketId(9), ..socket };
    assert_eq!(given(&mut server, gone, 100), None);
}

#[test]
fn what_a_tab_used_survives_the_link_and_counts_once() {
    let config = SessionConfig { credit_bytes: 200, ..SessionConfig::default() };
    let mut server = Server::with(config);
    let (socket, welcome) = server.welcome_socket(1);
    assert!(matches!(hears(&mut server, 2)[..], [Output::SocketMessage { .. }]));
    server.cut(1);
    server.hello(2, &resume(&welcome, 10, Some(0)));
    server.say(2, &attach_after(1, 1));
    let long = "x".repeat(36);
    assert_eq!(server.say(2, &text(2, 1, &long)), [], "it came before");
    assert!(matches!(server.say(2, &text(3, 1, &long))[..], [Output::SocketMessage { .. }]));
    server.registry.give_back(server.now, socket, 200);
    assert!(matches!(frame(&server.drain()), ServerFrame::Credit { bytes: 200, .. }));
    // It is of the lane, so it comes again until it was heard.
    server.cut(2);
    server.hello(3, &resume(&welcome, 10, Some(0)));
    let outputs = server.say(3, &attach_after(1, 1));
    assert!(matches!(frames(&outputs)[..], [_, ServerFrame::Credit { bytes: 200, .. }]));
}

/// Tabs 2 and 3 of the session are in the back/forward cache, and their lanes are full.
fn fill_parked_lanes(server: &mut Server, session: SessionId) {
    for (tab, alias) in [(TabId(2), Alias(2)), (TabId(3), Alias(3))] {
        server.say(1, &attach(tab.0));
        let (up, socket, credit) = (Upstream { tab: alias, n: 1 }, SocketId(1), 1 << 20);
        let (path, protocols) = ("/echo", vec![]);
        server.say(1, &HubFrame::Open { up, socket, credit, path, protocols, ticket: "" });
        let socket = SocketRef { session, tab: alias, socket };
        server.accept(socket, "");
        server.say(1, &HubFrame::Park { tab });
        while server.registry.send(server.now, socket, Payload::Binary(&[0; 10_000])).is_ok() {}
        server.drain();
    }
    assert!(server.registry.stats().memory.kept_bytes > server.registry.config().session_bytes / 2);
}

#[test]
fn lanes_of_parked_tabs_do_not_hide_from_a_socket_that_it_has_credit() {
    let mut server = Server::new();
    let socket = sockets(&mut server, &[100])[0];
    fill_parked_lanes(&mut server, socket.session);
    assert_eq!(spend(&mut server, socket), 1);
    server.say(1, &ack(&[(1, 2)]));
    assert_eq!(server.say(1, &credit(2, 1, 100)), [Output::SocketWritable { socket }]);
    assert_eq!(spend(&mut server, socket), 1);
}

/// Every frame would look at every socket that waits: with so many of both, that took minutes.
#[test]
fn sockets_that_wait_do_not_slow_other_frames_down() {
    let mut server = Server::new();
    let session = server.welcomed(1);
    for tab in 1..=64 {
        server.say(1, &attach(tab));
    }
    for alias in 1..=64 {
        for number in 1..=256 {
            let (tab, socket) = (Alias(alias), SocketId(number));
            let up = Upstream { tab, n: number.into() };
            let (path, protocols) = ("/echo", vec![]);
            server.say(1, &HubFrame::Open { up, socket, credit: 0, path, protocols, ticket: "" });
            let socket = SocketRef { session, tab, socket };
            server.accept(socket, "");
            let sent = server.registry.send(server.now, socket, Payload::Text("x"));
            assert_eq!(sent, Err(SendError::Full), "there is no credit");
        }
        server.drain();
        server.say(1, &ack(&[(alias, 256)]));
        server.written(1, 1 << 20);
    }
    assert_eq!(server.registry.stats().sockets.awaiting_credit, 64 * 256);
    for n in 257..20_257 {
        let up = Upstream { tab: Alias(1), n };
        server.say(1, &HubFrame::Credit { up, socket: SocketId(9_999), bytes: 1 });
        server.written(1, 0);
    }
}
