//! Every limit a peer can reach. The limit of links is in `handshake`.

use std::time::Duration;

use tabmux_core::{
    session::{Event, LinkDown, Output, SendError, SessionConfig},
    wire::{Alias, ErrorCode, HubFrame, Payload, Rejected, ServerFrame, SocketId, TabId, Upstream},
};

use super::support::{Server, attach, cause, closed, frame, frames, open};

/// A queue of 1000 bytes.
fn narrow() -> Server {
    Server::with(SessionConfig {
        message_bytes: 600,
        queue_bytes: 1_000,
        control_bytes: 100,
        ..SessionConfig::default()
    })
}

/// Forgets what the handshake queued.
fn empty_queue(server: &mut Server) {
    server.written(1, 10_000);
}

#[test]
fn a_tab_past_the_limit_is_refused() {
    let mut server = Server::with(SessionConfig { tabs: 1, ..SessionConfig::default() });
    server.attached(1);
    let outputs = server.say(1, &attach(2));
    let ServerFrame::Error { code, tab, message, .. } = frame(&outputs) else {
        panic!("no ERROR: {outputs:?}")
    };
    assert_eq!((code, tab), (ErrorCode::TabLimit, Some(TabId(2))));
    assert_eq!(message, "a browser may have 1 tabs on this server");
    let stats = server.registry.stats();
    assert_eq!((stats.tabs.attached, stats.tabs.refused), (1, 1));
    assert!(matches!(frame(&server.say(1, &attach(1))), ServerFrame::Attached { .. }));
}

/// PARK of a tab, a moment after what was before.
fn park(server: &mut Server, tab: u64) {
    server.pass(Duration::from_millis(1));
    server.say(1, &HubFrame::Park { tab: TabId(tab) });
}

#[test]
fn a_tab_past_the_limit_takes_the_place_of_the_one_that_was_parked_first() {
    let mut server = Server::with(SessionConfig { tabs: 3, ..SessionConfig::default() });
    server.attached(1);
    let gone = |outputs: &[Output]| {
        outputs.iter().find_map(|it| match it {
            Output::Event(Event::TabGone { tab, .. }) => Some(tab.0),
            _ => None,
        })
    };
    let new = |server: &mut Server, tab: u64| {
        let outputs = server.say(1, &attach(tab));
        let is_attached = |it: &ServerFrame<'_>| matches!(it, ServerFrame::Attached { .. });
        assert!(frames(&outputs).iter().any(is_attached), "tab {tab}: {outputs:?}");
        let alias = Alias(u32::try_from(tab).unwrap());
        let (up, socket) = (Upstream { tab: alias, n: 1 }, SocketId(1));
        let (path, protocols, credit) = ("/p", vec![], 1_000);
        server.say(1, &HubFrame::Open { up, socket, credit, path, protocols, ticket: "" });
        gone(&outputs)
    };
    // One page after another, each of which goes into the cache. Nobody says when it leaves that.
    assert_eq!(new(&mut server, 2), None);
    for tab in 3..40 {
        park(&mut server, tab - 1);
        // The first has no socket, and stays.
        assert_eq!(new(&mut server, tab), (tab > 3).then(|| tab - 2));
    }
    // It is in the cache for the shortest time, and has nothing to lose.
    park(&mut server, 39);
    park(&mut server, 1);
    assert_eq!(new(&mut server, 40), Some(1));
    let stats = server.registry.stats();
    assert_eq!((stats.tabs.attached, stats.tabs.parked, stats.tabs.refused), (1, 2, 0));
    // Those that are there give way to nobody.
    for tab in [38, 39] {
        server.say(1, &attach(tab));
    }
    let outputs = server.say(1, &attach(41));
    assert!(matches!(frame(&outputs), ServerFrame::Error { code: ErrorCode::TabLimit, .. }));
    assert_eq!(server.registry.stats().tabs.attached, 3);
}

#[test]
fn a_socket_past_the_limit_is_refused() {
    let mut server = Server::with(SessionConfig { sockets: 1, ..SessionConfig::default() });
    server.socket(1);
    let outputs = server.say(1, &open(2, 2));
    let ServerFrame::Rejected(Rejected { code, socket, .. }) = frame(&outputs) else {
        panic!("not refused: {outputs:?}")
    };
    assert_eq!((code, socket), (ErrorCode::SocketLimit.byte().into(), SocketId(2)));
    let stats = server.registry.stats();
    assert_eq!((stats.sockets.open, stats.sockets.refused), (1, 1));
}

#[test]
fn a_message_that_is_too_large_is_not_sent() {
    let mut server = narrow();
    let socket = server.socket(1);
    empty_queue(&mut server);
    // With the three bytes of the frame's header it is one byte too long.
    for len in [598, 601] {
        let bytes = vec![0; len];
        let sent = server.registry.send(server.now, socket, Payload::Binary(&bytes));
        assert_eq!(sent, Err(SendError::TooLarge));
    }
    assert_eq!(server.registry.send(server.now, socket, Payload::Binary(&[0; 597])), Ok(()));
    assert_eq!(server.registry.stats().messages.too_large, 2);
}

#[test]
fn a_full_queue_refuses_messages_and_tells_when_it_has_room() {
    let mut server = narrow();
    let socket = server.socket(1);
    empty_queue(&mut server);
    let payload = Payload::Binary(&[0; 397]);
    assert_eq!(server.registry.send(server.now, socket, payload), Ok(()));
    assert_eq!(server.registry.send(server.now, socket, payload), Ok(()));
    assert_eq!(server.registry.send(server.now, socket, payload), Err(SendError::Full));
    assert_eq!(server.registry.stats().messages.queue_full, 1);
    server.drain();
    assert_eq!(server.written(1, 299), [], "501 bytes wait");
    assert_eq!(server.written(1, 1), [Output::SocketWritable { socket }]);
    assert_eq!(server.written(1, 1), [], "told once");
    assert_eq!(server.registry.send(server.now, socket, payload), Ok(()));
}

#[test]
fn a_socket_that_closed_is_not_told_that_there_is_room() {
    let mut server = narrow();
    let socket = server.socket(1);
    let payload = Payload::Binary(&[0; 500]);
    while server.registry.send(server.now, socket, payload).is_ok() {}
    server.registry.close(server.now, socket, 1000, "").unwrap();
    server.drain();
    assert_eq!(server.written(1, 10_000), []);
}

#[test]
fn a_message_to_the_browser_meets_the_same_queue() {
    let mut server = narrow();
    let socket = server.socket(1);
    let payload = Payload::Binary(&[0; 500]);
    while server.registry.send(server.now, socket, payload).is_ok() {}
    let sent = server.registry.broadcast(server.now, socket.session, payload);
    assert_eq!(sent, Err(SendError::Full));
}

#[test]
fn answers_go_out_past_a_full_queue() {
    let mut server = narrow();
    let socket = server.socket(1);
    let payload = Payload::Binary(&[0; 100]);
    while server.registry.send(server.now, socket, payload).is_ok() {}
    server.drain();
    let outputs = server.say(1, &HubFrame::Ping { nonce: 1 });
    assert_eq!(frames(&outputs).last(), Some(&ServerFrame::Pong { nonce: 1 }));
}

#[test]
fn a_hub_that_asks_and_never_reads_is_closed() {
    let mut server = narrow();
    server.welcomed(1);
    server.welcomed(2);
    let ping = HubFrame::Ping { nonce: u64::MAX };
    let outputs = (0..1_000).map(|_| server.say(1, &ping)).find(|outputs| outputs.len() > 1);
    let outputs = outputs.expect("the link was never closed");
    assert_eq!(closed(&outputs), (1, 1008, "the hub does not read"));
    assert_eq!(cause(&outputs), LinkDown::NotReading);
    let stats = server.registry.stats();
    assert_eq!((stats.links.open, stats.links.not_reading), (1, 1));
}

#[test]
fn a_queue_holds_at_least_one_message() {
    let config = SessionConfig { message_bytes: 600, queue_bytes: 10, ..SessionConfig::default() };
    let mut server = Server::with(config);
    let socket = server.socket(1);
    empty_queue(&mut server);
    let payload = Payload::Binary(&[0; 590]);
    assert_eq!(server.registry.send(server.now, socket, payload), Ok(()));
    assert_eq!(server.registry.send(server.now, socket, payload), Err(SendError::Full));
}
