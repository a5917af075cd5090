//! Tabs that are parked, or that have not attached on the link, share a budget of their own: what
//! is kept for them takes nothing from the tabs that are there.

use proptest::prelude::*;
use tabmux_core::{
    session::{Output, SendError, SessionConfig, SocketRef},
    wire::{Alias, HubFrame, Payload, ServerFrame, SocketId, TabId, Upstream, Welcome},
};

use super::support::{Server, ack, attach, attach_after, frames, hello, resume};

/// Lanes of 1,000 bytes: three fill a session, two what its absent tabs share.
fn small() -> SessionConfig {
    let config = SessionConfig { message_bytes: 1_000, queue_bytes: 10_000, ..Default::default() };
    SessionConfig { lane_bytes: 1_000, session_bytes: 3_000, absent_bytes: 2_000, ..config }
}

/// Tabs 1, 2, … on link 1 with aliases like that, and an open socket of each. Nothing is kept.
fn browser(config: SessionConfig, tabs: u32) -> (Server, Vec<SocketRef>, Welcome) {
    let mut server = Server::with(config);
    let (welcome, _) = server.hello(1, &hello());
    let sockets = (1..=tabs).map(|tab| {
        server.say(1, &attach(tab.into()));
        let (up, socket) = (Upstream { tab: Alias(tab), n: 1 }, SocketId(1));
        let (path, protocols, credit) = ("/echo", vec![], 1 << 30);
        server.say(1, &HubFrame::Open { up, socket, credit, path, protocols, ticket: "" });
        let socket = SocketRef { session: welcome.session, tab: Alias(tab), socket };
        server.accept(socket, "");
        server.drain();
        server.say(1, &ack(&[(tab, 1)]));
        socket
    });
    let sockets = sockets.collect();
    server.written(1, usize::MAX);
    assert_eq!(server.registry.stats().memory.kept_bytes, 0);
    (server, sockets, welcome)
}

fn park(server: &mut Server, tab: u64) -> Vec<Output> {
    server.say(1, &HubFrame::Park { tab: TabId(tab) })
}

fn send(server: &mut Server, socket: SocketRef, len: usize) -> Result<(), SendError> {
    let bytes = vec![0; len];
    let sent = server.registry.send(server.now, socket, Payload::Binary(&bytes));
    server.drain();
    sent
}

/// Sends till there is no room; how many messages that are.
fn fill(server: &mut Server, socket: SocketRef, len: usize) -> usize {
    (0..10_000).take_while(|_| send(server, socket, len).is_ok()).count()
}

/// The messages among the outputs, by tab.
fn messages(outputs: &[Output], tab: u32) -> usize {
    let of = |frame: &ServerFrame<'_>| matches!(frame, ServerFrame::Data { .. });
    frames(outputs).iter().filter(|it| of(it) && it.lane() == Some(tab)).count()
}

#[test]
fn four_parked_tabs_whose_lanes_are_full_take_no_room_from_those_that_are_there() {
    let (mut server, sockets, welcome) = browser(SessionConfig::default(), 9);
    for tab in 1..=4 {
        park(&mut server, tab);
    }
    let full = sockets.iter().map(|socket| fill(&mut server, *socket, 16 << 10));
    // Sixteen of them fill a lane, four lanes a session, and four what absent tabs share.
    assert_eq!(full.collect::<Vec<_>>(), [16, 16, 16, 16, 16, 16, 16, 15, 0]);
    let stats = server.registry.stats();
    assert_eq!((stats.messages.absent_full, stats.messages.queue_full), (0, 9));
    server.written(1, usize::MAX);
    server.say(1, &ack(&[(5, 17), (6, 17), (7, 17), (8, 16)]));
    let sent = server.registry.broadcast(server.now, welcome.session, Payload::Text("all"));
    assert_eq!(sent, Ok(()));
    assert_eq!(fill(&mut server, sockets[8], 16 << 10), 16);
}

#[test]
fn past_what_absent_tabs_share_their_own_sockets_wait_and_no_others() {
    let (mut server, sockets, _) = browser(small(), 4);
    for tab in 1..=3 {
        park(&mut server, tab);
    }
    let full = sockets.iter().map(|socket| fill(&mut server, *socket, 490));
    assert_eq!(full.collect::<Vec<_>>(), [3, 2, 0, 3], "it takes messages until it is full");
    let stats = server.registry.stats();
    assert_eq!((stats.messages.absent_full, stats.messages.queue_full), (2, 2));
    // The second one takes with it what it has, which leaves less than half of it free.
    let outputs = server.say(1, &attach_after(2, 1));
    assert_eq!(messages(&outputs, 2), 2);
    assert!(!outputs.contains(&Output::SocketWritable { socket: sockets[2] }), "{outputs:?}");
    let outputs = server.say(1, &HubFrame::Gone { tab: TabId(1) });
    assert!(outputs.contains(&Output::SocketWritable { socket: sockets[2] }), "{outputs:?}");
    assert_eq!(fill(&mut server, sockets[2], 490), 3);
}

#[test]
fn a_tab_that_waits_for_room_among_the_absent_is_told_when_it_is_back() {
    let (mut server, sockets, _) = browser(small(), 3);
    for tab in 1..=3 {
        park(&mut server, tab);
    }
    let full = sockets.iter().map(|socket| fill(&mut server, *socket, 490));
    assert_eq!(full.collect::<Vec<_>>(), [3, 2, 0]);
    let outputs = server.say(1, &attach_after(3, 1));
    assert!(outputs.contains(&Output::SocketWritable { socket: sockets[2] }), "{outputs:?}");
    assert_eq!(fill(&mut server, sockets[2], 490), 3);
}

#[test]
fn tabs_that_come_back_may_put_the_session_past_its_limit_and_nothing_is_lost() {
    let (mut server, sockets, _) = browser(small(), 5);
    for tab in 1..=2 {
        park(&mut server, tab);
    }
    let full = sockets.iter().map(|socket| fill(&mut server, *socket, 490));
    assert_eq!(full.collect::<Vec<_>>(), [3, 2, 3, 3, 1]);
    server.written(1, usize::MAX);
    for tab in 1..=2 {
        let outputs = server.say(1, &attach_after(tab.into(), 1));
        assert_eq!(messages(&outputs, tab), if tab == 1 { 3 } else { 2 });
        assert!(!outputs.iter().any(|it| matches!(it, Output::CloseLink { .. })), "{outputs:?}");
    }
    server.written(1, usize::MAX);
    // 5,900 bytes are kept: who writes waits till half of the session's 3,000 is free.
    assert_eq!(send(&mut server, sockets[4], 10), Err(SendError::Full));
    for (tab, count) in [(1, 4), (2, 3), (3, 4)] {
        assert_eq!(server.say(1, &ack(&[(tab, count)])), []);
    }
    let outputs = server.say(1, &ack(&[(4, 4)]));
    let told = |socket: &SocketRef| outputs.contains(&Output::SocketWritable { socket: *socket });
    assert!(sockets.iter().all(told), "{outputs:?}");
    server.say(1, &ack(&[(5, 2)]));
    assert_eq!(server.registry.stats().memory.kept_bytes, 0);
}

#[test]
fn a_tab_that_parks_makes_room_for_those_that_wait() {
    let (mut server, sockets, _) = browser(small(), 4);
    let full = sockets.iter().map(|socket| fill(&mut server, *socket, 490));
    assert_eq!(full.collect::<Vec<_>>(), [3, 3, 1, 0]);
    server.written(1, usize::MAX);
    assert_eq!(messages(&park(&mut server, 1), 1), 0);
    let outputs = park(&mut server, 2);
    for at in [2, 3] {
        assert!(outputs.contains(&Output::SocketWritable { socket: sockets[at] }), "{outputs:?}");
    }
    assert_eq!(fill(&mut server, sockets[3], 490), 3);
}

#[test]
fn a_listed_tab_that_has_not_attached_is_absent_too() {
    let (mut server, sockets, welcome) = browser(small(), 4);
    let full = sockets.iter().map(|socket| fill(&mut server, *socket, 490));
    assert_eq!(full.collect::<Vec<_>>(), [3, 3, 1, 0]);
    server.cut(1);
    server.hello(2, &resume(&welcome, 10, Some(0)));
    server.say(2, &attach_after(4, 1));
    assert_eq!(fill(&mut server, sockets[3], 490), 3);
    // 3,500 bytes are kept for the others, which have not attached.
    assert_eq!(send(&mut server, sockets[2], 490), Err(SendError::Full));
    assert_eq!(server.registry.stats().messages.absent_full, 1);
    let outputs = server.say(2, &attach_after(3, 1));
    assert_eq!(messages(&outputs, 3), 1);
    assert!(outputs.contains(&Output::SocketWritable { socket: sockets[2] }), "{outputs:?}");
}

#[test]
fn who_waits_for_room_when_another_hub_takes_over_is_told_though_its_tab_is_not_there() {
    let (mut server, sockets, welcome) = browser(small(), 4);
    let full = sockets.iter().map(|socket| fill(&mut server, *socket, 240));
    assert_eq!(full.collect::<Vec<_>>(), [5, 5, 3, 0]);
    server.written(1, usize::MAX);
    assert_eq!(server.say(1, &ack(&[(1, 6)])), [], "1,952 are kept, more than half of the session");
    let (_, outputs) = server.hello(2, &resume(&welcome, 10, Some(0)));
    assert!(outputs.contains(&Output::SocketWritable { socket: sockets[3] }), "{outputs:?}");
    assert_eq!(fill(&mut server, sockets[3], 240), 1);
}

#[test]
fn without_a_link_all_tabs_are_absent() {
    let (mut server, sockets, _) = browser(small(), 3);
    server.cut(1);
    let full = sockets.iter().map(|socket| fill(&mut server, *socket, 490));
    assert_eq!(full.collect::<Vec<_>>(), [3, 2, 0]);
    let stats = server.registry.stats();
    assert_eq!((stats.messages.absent_full, stats.messages.queue_full), (2, 1));
}

#[test]
fn what_cannot_wait_fills_the_share_of_absent_tabs_four_times_and_then_is_refused() {
    let (mut server, sockets, _) = browser(small(), 2);
    park(&mut server, 1);
    let rush = |server: &mut Server| {
        let payload = Payload::Binary(&[0; 490]);
        let sent = server.registry.send_rushed(server.now, sockets[0], payload);
        server.drain();
        sent
    };
    let sent = (0..100).take_while(|_| rush(&mut server).is_ok()).count();
    assert_eq!(sent, 17, "494 bytes each, and four times 2,000");
    assert_eq!(fill(&mut server, sockets[1], 490), 3);
    assert_eq!(server.registry.stats().messages.absent_full, 1);
    // Nor is the session given up when the tab comes back with it and more is said to it.
    let outputs = server.say(1, &attach_after(1, 1));
    assert_eq!(messages(&outputs, 1), 17);
    server.registry.close(server.now, sockets[0], 1000, "").unwrap();
    let stats = server.registry.stats();
    assert_eq!((stats.sessions.held, stats.links.not_reading), (1, 0));
}

/// What happens to absent tabs 2 and 3, and what tab 1, which is there, does meanwhile.
#[derive(Clone, Debug)]
enum Step {
    SendAbsent { tab: usize, len: usize, rushed: bool },
    Send(usize),
    Ack(u64),
    Written(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1..3_usize, 0..900_usize, prop::bool::weighted(0.2))
            .prop_map(|(tab, len, rushed)| Step::SendAbsent { tab, len, rushed }),
        4 => (0..900_usize).prop_map(Step::Send),
        1 => (0..3_u64).prop_map(Step::Ack),
        1 => (0..3_000_usize).prop_map(Step::Written),
    ]
}

/// What tab 1 and its socket notice, with what is said to the others or without.
fn notices(steps: &[Step], with_absent: bool) -> Vec<String> {
    let config = SessionConfig { lane_bytes: 2_000, absent_bytes: 2_000, ..small() };
    let (mut server, sockets, _) = browser(config, 3);
    (2..=3).for_each(|tab| drop(park(&mut server, tab)));
    let (mut got, mut noticed) = (1, Vec::new());
    for step in steps {
        let outputs = match *step {
            Step::SendAbsent { .. } if !with_absent => continue,
            Step::SendAbsent { tab, len, rushed } => {
                let (now, bytes) = (server.now, vec![0; len]);
                let payload = Payload::Binary(&bytes);
                let _ = match rushed {
                    true => server.registry.send_rushed(now, sockets[tab], payload),
                    false => server.registry.send(now, sockets[tab], payload),
                };
                assert_eq!(server.drain(), []);
                continue;
            }
            Step::Send(len) => {
                let sent = send(&mut server, sockets[0], len);
                got += u64::from(sent.is_ok());
                noticed.push(format!("{sent:?}"));
                continue;
            }
            Step::Ack(back) => server.say(1, &ack(&[(1, got - back.min(got))])),
            Step::Written(bytes) => server.written(1, bytes),
        };
        let of_absent =
            |it: &Output| matches!(it, Output::SocketWritable { socket } if socket.tab != Alias(1));
        noticed.extend(outputs.iter().filter(|it| !of_absent(it)).map(|it| format!("{it:?}")));
    }
    noticed
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_tab_that_is_there_notices_nothing_of_what_is_kept_for_absent_ones(
        steps in prop::collection::vec(step(), 1..100),
    ) {
        prop_assert_eq!(notices(&steps, true), notices(&steps, false));
    }
}
