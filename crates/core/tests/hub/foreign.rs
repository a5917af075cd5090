//! Bytes from outside never panic, and cost at most the link they came on.

use proptest::prelude::*;
use std::time::Duration;
use tabmux_core::hub::{HubMessage, Input, LinkState, Mode, Output, TabMessage};
use tabmux_wire::{Alias, HubFrame, Payload, ServerFrame, SocketId, TabId, Welcome};

use crate::support::{ATTACH, Bench, ONE, closed, data, opened, welcome};

#[test]
fn a_server_that_is_no_tabmux_server_is_called_so() {
    for answer in [Payload::Text("hello"), Payload::Binary(b"\x01echo"), Payload::Binary(b"")] {
        let mut bench = dialling();
        bench.link(answer);
        assert!(says_no_tabmux_server(&bench), "{answer:?}");
        let closes = |output: &Output| matches!(output, Output::CloseLink { code: 4002, .. });
        assert!(bench.outputs.iter().any(closes));
    }
}

#[test]
fn a_server_that_closes_before_welcome_is_called_so() {
    let mut bench = dialling();
    bench.link_closed(1000);
    assert!(says_no_tabmux_server(&bench));
}

#[test]
fn a_server_that_never_says_welcome_is_called_so() {
    let mut bench = dialling();
    bench.pass(Duration::from_secs(10));
    assert!(says_no_tabmux_server(&bench));
}

#[test]
fn a_server_that_says_welcome_twice_costs_that_link() {
    let mut bench = Bench::connected();
    bench.server(&ServerFrame::Welcome(welcome()));
    let closes = |output: &Output| matches!(output, Output::CloseLink { code: 4002, .. });
    assert!(bench.outputs.iter().any(closes));
    assert_eq!(bench.hub.state(), LinkState::Backoff);
}

#[test]
fn garbage_on_a_working_link_costs_that_link() {
    let mut bench = Bench::connected();
    bench.open(1, ONE);
    bench.server(&opened(1, ONE));
    bench.take();
    bench.link(Payload::Binary(&[0xff, 0xff]));
    assert_eq!(bench.hub.state(), LinkState::Backoff);
}

#[test]
fn frames_of_a_later_version_are_ignored() {
    let mut bench = Bench::connected();
    let unknown = ServerFrame::Unknown { code: 0x7f, lane: None, body: b"later" };
    bench.server(&unknown);
    assert_eq!(bench.hub.state(), LinkState::Connected);
    assert_eq!(bench.take(), []);
}

#[test]
fn a_server_at_the_end_of_all_numbers_harms_nobody() {
    let mut bench = Bench::connected();
    let last = ServerFrame::Attached {
        tab: TabId(1),
        alias: Alias(1),
        next: u64::MAX,
        n_seen: u64::MAX,
        aside: false,
    };
    for _ in 0..2 {
        bench.back(1, 0);
        bench.server(&last);
        bench.send(1, ONE, "hello");
        for _ in 0..3 {
            bench.server(&ServerFrame::Message { payload: Payload::Text("all") });
            bench.server(&data(1, ONE, "one"));
        }
        bench.pass(Duration::from_secs(10));
        assert_eq!(bench.hub.state(), LinkState::Connected);
        bench.link_closed(1006);
        bench.pass(Duration::from_secs(1));
        bench.grant_and_open();
        let welcome = Welcome { resumed: true, next0: u64::MAX, ..welcome() };
        bench.server(&ServerFrame::Welcome(welcome));
        bench.server(&last);
    }
    assert_eq!(bench.hub.state(), LinkState::Connected);
}

#[test]
fn a_tab_that_sends_nonsense_harms_nobody() {
    let mut bench = Bench::connected();
    bench.open(1, SocketId(0));
    bench.open(1, ONE);
    bench.open(1, ONE);
    bench.send(1, SocketId(77), "no such socket");
    bench.close(1, SocketId(77), 9);
    assert_eq!(bench.hub.state(), LinkState::Connected);
    assert_eq!(bench.posted(1), []);
}

#[test]
fn a_path_no_server_would_take_fails_its_socket_alone() {
    let mut bench = Bench::connected();
    bench.open(1, ONE);
    bench.take();
    let path = "x".repeat(5000);
    bench.tab(1, TabMessage::Open { n: 2, socket: SocketId(2), path: &path, protocols: vec![] });
    let protocols = vec!["p"; 33];
    bench.tab(1, TabMessage::Open { n: 3, socket: SocketId(3), path: "/", protocols });
    let sent = bench.sent();
    let closes = |bytes: &Vec<u8>| matches!(HubFrame::decode(bytes), Ok(HubFrame::Close { .. }));
    assert!(sent.len() == 2 && sent.iter().all(closes), "their numbers are used all the same");
    assert!(bench.posted(1).contains(&closed(SocketId(2), 1006, false)));
    assert!(bench.posted(1).contains(&closed(SocketId(3), 1006, false)));
    assert_eq!(bench.hub.state(), LinkState::Connected);
}

#[test]
fn a_close_no_websocket_could_send_goes_no_further() {
    let mut bench = Bench::connected();
    bench.open(1, ONE);
    bench.server(&opened(1, ONE));
    bench.take();
    let reason = "é".repeat(100);
    bench.tab(1, TabMessage::Close { n: 2, socket: ONE, code: 9, reason: &reason });
    let sent = bench.sent();
    let close = HubFrame::decode(&sent[0]);
    assert!(matches!(close, Ok(HubFrame::Close { code: 0, reason: "", .. })), "{close:?}");
    let mut bench = Bench::mirrored();
    bench.tab(1, TabMessage::Close { n: 2, socket: ONE, code: 3000, reason: &reason });
    let cut = |output: &Output| match output {
        Output::CloseLink { code, reason, .. } => (*code, reason.len()) == (3000, 122),
        _ => false,
    };
    assert!(bench.outputs.iter().any(cut));
}

proptest! {
    /// Whatever comes, in whatever order: no panic, and every wish to be woken is for later.
    #[test]
    fn any_input_leaves_the_hub_alive(
        mirror: bool,
        steps in prop::collection::vec(
            (0..14_u8, 0..4_u8, 0..4_u8, prop::collection::vec(any::<u8>(), 0..40)),
            0..60,
        ),
    ) {
        let mut bench = Bench::new(if mirror { Mode::Mirror } else { Mode::Mux });
        for (step, tab, socket, bytes) in steps {
            random_step(&mut bench, step, u64::from(tab), SocketId(u32::from(socket)), &bytes);
            bench.pass(Duration::ZERO);
            bench.take();
        }
    }
}

fn random_step(bench: &mut Bench, step: u8, tab: u64, socket: SocketId, bytes: &[u8]) {
    let attempt = bench.attempt;
    match step {
        0 => bench.tab(tab, ATTACH),
        1 => bench.tab(tab, TabMessage::Park),
        2 => bench.tab(tab, TabMessage::Bye),
        3 => bench.open(tab, socket),
        4 => bench.send(tab, socket, &String::from_utf8_lossy(bytes)),
        5 => bench.close(tab, socket, 3000),
        6 => bench.input(Input::TabLockGranted { tab: TabId(tab) }),
        7 => bench.input(Input::LinkLockGranted),
        8 => bench.input(Input::LinkOpened { attempt, protocol: "", extensions: "" }),
        9 => bench.link(Payload::Binary(bytes)),
        10 => bench.link_closed(1006),
        11 => bench.server(&ServerFrame::Welcome(welcome())),
        12 if tab > 0 && socket.0 > 0 => {
            let alias = crate::support::alias(tab);
            let (tab_id, next, n_seen, aside) = (TabId(tab), 1, 0, false);
            bench.server(&ServerFrame::Attached { tab: tab_id, alias, next, n_seen, aside });
            bench.server(&opened(tab, socket));
            bench.server(&data(tab, socket, "x"));
        }
        _ => bench.pass(Duration::from_secs(u64::from(bytes.first().copied().unwrap_or(1)))),
    }
}

fn dialling() -> Bench {
    let mut bench = Bench::new(Mode::Mux);
    bench.tab(1, ATTACH);
    bench.open(1, ONE);
    bench.grant_and_open();
    bench.take();
    bench
}

fn says_no_tabmux_server(bench: &Bench) -> bool {
    bench.posted(1).iter().any(|message| match message {
        HubMessage::State { state: LinkState::Backoff, reason, .. } => {
            reason.contains("no tabmux server")
        }
        _ => false,
    })
}

#[test]
fn a_tab_that_claims_more_of_its_lane_than_there_is_harms_no_other() {
    let mut bench = Bench::connected();
    bench.open(1, ONE);
    bench.server(&opened(1, ONE));
    bench.back(1, 1 << 40);
    // A server does not believe it.
    let attached =
        ServerFrame::Attached { tab: TabId(1), alias: Alias(1), next: 1, n_seen: 1, aside: false };
    bench.server(&attached);
    bench.server(&opened(1, ONE));
    bench.server(&data(1, ONE, "one"));
    bench.take();
    for _ in 0..3 {
        bench.pass(Duration::from_secs(6));
        for message in bench.all_posted(1) {
            if let HubMessage::Check { count0, count } = message {
                bench.tab(1, TabMessage::Got { count0, count });
            }
        }
    }
    let counts = bench.sent().into_iter().filter_map(|bytes| match HubFrame::decode(&bytes) {
        Ok(HubFrame::Ack { lanes, .. }) => lanes.iter().map(|lane| lane.count).max(),
        _ => None,
    });
    // More than was ever sent would end the session, of which other tabs are a part.
    assert!(counts.clone().all(|count| count <= 2), "{:?}", counts.collect::<Vec<_>>());
}
