//! Mux mode: virtual sockets in one link.

use std::time::Duration;

use tabmux_core::hub::{
    HubConfig, HubMessage, Input, LinkState, Mode, Output, TabMessage, WakeReason,
};
use tabmux_wire::{Alias, ErrorCode, HubFrame, HubId, Payload, ServerFrame, TabId, Upstream};

use crate::support::{ATTACH, Bench, ONE, alias, closed, data, is_opened, opened, text, welcome};

#[test]
fn hello_and_every_attach_go_out_in_one_flight() {
    let mut bench = Bench::new(Mode::Mux);
    bench.tab(1, ATTACH);
    bench.tab(2, ATTACH);
    bench.grant_and_open();
    let sent = bench.sent();
    assert!(
        matches!(HubFrame::decode(&sent[0]), Ok(HubFrame::Hello(hello)) if hello.hub == HubId(1))
    );
    let attach = |tab| HubFrame::Attach { tab: TabId(tab), last: 0 };
    assert_eq!(HubFrame::decode(&sent[1]), Ok(attach(1)));
    assert_eq!(HubFrame::decode(&sent[2]), Ok(attach(2)));
}

#[test]
fn a_socket_opens_once_the_server_knows_its_tab() {
    let mut bench = Bench::new(Mode::Mux);
    bench.tab(7, ATTACH);
    bench.open(7, ONE);
    bench.grant_and_open();
    let hello = bench.sent();
    bench.server(&ServerFrame::Welcome(welcome()));
    bench.take();
    bench.answer_attaches(&hello);
    let up = Upstream { tab: alias(7), n: 1 };
    let open = HubFrame::Open {
        up,
        socket: ONE,
        credit: 128 << 10,
        path: "/p",
        protocols: vec![],
        ticket: "",
    };
    assert_eq!(bench.sent(), [open.to_bytes()]);
    bench.server(&opened(7, ONE));
    assert!(bench.posted(7).iter().any(is_opened));
}

#[test]
fn a_message_reaches_only_the_tab_that_owns_the_socket() {
    let mut bench = two_tabs_with_a_socket_each();
    bench.server(&data(2, ONE, "for two"));
    assert_eq!(bench.posted(1), []);
    let message = HubMessage::Message { socket: ONE, count: 0, payload: text("for two") };
    assert_eq!(bench.posted(2), [message]);
}

#[test]
fn credit_is_passed_on_in_its_turn() {
    let mut bench = Bench::connected();
    bench.open(1, ONE);
    bench.take();
    let credit = |n, bytes| TabMessage::Credit { n, socket: ONE, bytes };
    bench.tab(1, credit(3, 5));
    assert_eq!(bench.sent(), [[0; 0]; 0], "the second was not said yet");
    for _ in 0..2 {
        bench.tab(1, credit(2, u64::MAX));
        let up = Upstream { tab: alias(1), n: 2 };
        let frame = HubFrame::Credit { up, socket: ONE, bytes: u64::MAX };
        assert_eq!(bench.sent(), [frame.to_bytes()], "once");
    }
}

#[test]
fn a_message_to_the_browser_reaches_every_tab() {
    let mut bench = two_tabs_with_a_socket_each();
    bench.server(&ServerFrame::Message { payload: Payload::Text("all") });
    let message = HubMessage::Browser { count0: 0, payload: text("all") };
    assert_eq!(bench.posted(1), std::slice::from_ref(&message));
    assert_eq!(bench.posted(2), [message]);
}

#[test]
fn what_a_tab_sends_is_counted_for_that_tab() {
    let mut bench = two_tabs_with_a_socket_each();
    bench.send(1, ONE, "a");
    bench.send(2, ONE, "b");
    bench.send(1, ONE, "c");
    let frame = |tab, n, text| {
        let up = Upstream { tab: alias(tab), n };
        HubFrame::Data { up, socket: ONE, payload: Payload::Text(text) }.to_bytes()
    };
    assert_eq!(bench.sent(), [frame(1, 2, "a"), frame(2, 2, "b"), frame(1, 3, "c")]);
}

#[test]
fn the_tab_is_told_up_to_which_message_it_was_sent() {
    let mut bench = two_tabs_with_a_socket_each();
    bench.send(1, ONE, "12345");
    assert_eq!(bench.wakes_for(), Some(WakeReason::Report));
    bench.pass(Duration::from_millis(30));
    assert_eq!(bench.posted(1), [HubMessage::Sent { n: 2 }]);
    assert_eq!(bench.posted(2), []);
}

#[test]
fn a_close_of_the_tab_ends_when_the_server_answers_it() {
    let mut bench = two_tabs_with_a_socket_each();
    bench.close(1, ONE, 3000);
    let up = Upstream { tab: alias(1), n: 2 };
    let close = HubFrame::Close { up, socket: ONE, code: 3000, reason: "" };
    assert_eq!(bench.sent(), [close.to_bytes()]);
    assert_eq!(bench.posted(1), []);
    let answer = ServerFrame::Close { tab: alias(1), socket: ONE, code: 3000, reason: "" };
    bench.server(&answer);
    assert_eq!(bench.posted(1), [closed(ONE, 3000, true)]);
}

#[test]
fn a_refused_socket_says_why() {
    let mut bench = Bench::connected();
    bench.open(1, ONE);
    bench.take();
    bench.server(&ServerFrame::Error {
        code: ErrorCode::NoRoute,
        tab: Some(TabId(1)),
        socket: Some(ONE),
        message: "no handler for /p",
    });
    bench.server(&ServerFrame::Close { tab: alias(1), socket: ONE, code: 1006, reason: "" });
    let posted = bench.posted(1);
    assert!(matches!(&posted[0], HubMessage::Error { message, .. } if message.contains("/p")));
    assert_eq!(posted[1], closed(ONE, 1006, false));
}

#[test]
fn a_tab_the_server_refuses_is_told_so() {
    let mut bench = Bench::connected();
    bench.tab(2, ATTACH);
    bench.take();
    bench.server(&ServerFrame::Error {
        code: ErrorCode::TabLimit,
        tab: Some(TabId(2)),
        socket: None,
        message: "64 tabs at most",
    });
    let posted = bench.posted(2);
    assert!(
        matches!(
            &posted[..],
            [HubMessage::State { state: LinkState::Full, reason, .. }] if reason.contains("64")
        ),
        "{posted:?}"
    );
}

/// The server has no room for tab 2, and says so.
fn no_room(bench: &mut Bench) {
    bench.server(&ServerFrame::Error {
        code: ErrorCode::TabLimit,
        tab: Some(TabId(2)),
        socket: None,
        message: "64 tabs at most",
    });
}

#[test]
fn a_tab_without_room_gets_its_place_when_another_goes_or_parks() {
    for leaves in [TabMessage::Bye, TabMessage::Park] {
        let mut bench = Bench::connected();
        bench.tab(2, ATTACH);
        bench.tab(3, ATTACH);
        no_room(&mut bench);
        bench.take();
        // What changes for all changes nothing for it.
        bench.tab(4, ATTACH);
        assert_eq!(bench.states(2), [LinkState::Full]);
        bench.take();
        bench.tab(1, leaves);
        let asked = HubFrame::Attach { tab: TabId(2), last: 0 }.to_bytes();
        assert!(bench.sent().contains(&asked));
        bench.take();
        let (tab, alias) = (TabId(2), alias(2));
        bench.server(&ServerFrame::Attached { tab, alias, next: 1, n_seen: 0, aside: false });
        assert_eq!(bench.states(2), [LinkState::Connected]);
        let begins = |message: &HubMessage| matches!(message, HubMessage::Resume { .. });
        assert!(bench.all_posted(2).iter().any(begins));
    }
}

#[test]
fn a_place_that_becomes_free_while_the_server_is_asked_is_asked_for_again() {
    let mut bench = Bench::connected();
    bench.tab(2, ATTACH);
    bench.tab(1, TabMessage::Bye);
    bench.take();
    no_room(&mut bench);
    let asked = HubFrame::Attach { tab: TabId(2), last: 0 }.to_bytes();
    assert!(bench.sent().contains(&asked), "tab 1 went after the server was asked");
    bench.take();
    no_room(&mut bench);
    assert!(!bench.sent().contains(&asked), "nobody went since");
}

#[test]
fn a_message_over_the_servers_limit_costs_its_socket_and_nothing_else() {
    let mut bench = two_tabs_with_a_socket_each();
    bench.send(1, ONE, &"x".repeat(2000));
    let posted = bench.posted(1);
    assert!(matches!(&posted[0], HubMessage::Error { message, .. } if message.contains("1000")));
    assert_eq!(posted[1], closed(ONE, 1006, false));
    bench.take();
    bench.send(2, ONE, "still here");
    assert_eq!(bench.sent().len(), 1);
}

#[test]
fn what_the_link_has_not_sent_holds_the_rest_back_up_to_a_limit() {
    let mut config = HubConfig::new(Mode::Mux, HubId(1), "ws://server/tabmux/ws");
    (config.link_bytes, config.outbox_bytes) = (100, 102);
    let mut bench = Bench::with(config);
    bench.tab(1, ATTACH);
    bench.connect();
    bench.open(1, ONE);
    bench.server(&opened(1, ONE));
    let attempt = bench.attempt;
    bench.input(Input::LinkBuffered { attempt, bytes: 101 });
    bench.take();
    for _ in 0..3 {
        bench.send(1, ONE, &"x".repeat(30));
    }
    assert!(bench.sent().is_empty());
    assert_eq!(bench.wakes_for(), Some(WakeReason::Outbox));
    bench.send(1, ONE, &"x".repeat(30));
    assert_eq!(bench.posted(1).last(), Some(&closed(ONE, 1006, false)), "the queue is full");
    bench.input(Input::LinkBuffered { attempt, bytes: 0 });
    assert!(!bench.sent().is_empty());
}

#[test]
fn the_link_outlives_the_last_tab_for_a_moment_so_that_the_next_page_finds_it() {
    let mut bench = Bench::connected();
    bench.tab(1, TabMessage::Bye);
    assert_eq!(bench.wakes_for(), Some(WakeReason::Linger));
    bench.pass(Duration::from_millis(1500));
    bench.tab(2, ATTACH);
    bench.pass(Duration::from_secs(5));
    assert!(!bench.take().iter().any(|output| matches!(output, Output::CloseLink { .. })));
    bench.tab(2, TabMessage::Bye);
    bench.pass(Duration::from_secs(3));
    let outputs = bench.take();
    assert!(outputs.iter().any(|output| matches!(output, Output::CloseLink { code: 1000, .. })));
    assert!(outputs.contains(&Output::ReleaseLinkLock));
    assert_eq!(bench.hub.poll_timeout(), None);
}

fn two_tabs_with_a_socket_each() -> Bench {
    let mut bench = Bench::new(Mode::Mux);
    bench.tab(1, ATTACH);
    bench.tab(2, ATTACH);
    bench.connect();
    for tab in [1, 2] {
        bench.open(tab, ONE);
        bench.server(&opened(tab, ONE));
    }
    bench.take();
    bench
}

#[test]
fn a_tab_that_goes_and_comes_within_a_round_trip_uses_its_new_alias() {
    let mut bench = Bench::connected();
    bench.tab(2, ATTACH);
    bench.tab(2, TabMessage::Bye);
    bench.tab(2, ATTACH);
    bench.open(2, ONE);
    bench.take();
    let attached = |alias| {
        let (tab, next, n_seen, aside) = (TabId(2), 1, 0, false);
        ServerFrame::Attached { tab, alias: Alias(alias), next, n_seen, aside }
    };
    bench.server(&attached(50));
    assert!(bench.sent().is_empty(), "that alias is gone already");
    bench.server(&attached(51));
    let sent = bench.sent();
    let open = HubFrame::decode(&sent[0]);
    assert!(matches!(open, Ok(HubFrame::Open { up, .. }) if up.tab == Alias(51)), "{open:?}");
}

#[test]
fn what_one_tab_has_queued_leaves_room_for_another() {
    let mut bench = two_tabs_with_a_socket_each();
    for _ in 0..20_000 {
        bench.send(1, ONE, &"x".repeat(900));
    }
    assert!(bench.posted(1).contains(&closed(ONE, 1006, false)), "its own queue is full");
    bench.send(2, ONE, "small");
    assert_eq!(bench.posted(2), []);
}
