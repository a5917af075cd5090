//! Links end, and others follow.

use std::time::Duration;

use tabmux_core::hub::{HubMessage, Input, LinkState, Mode, Output, TabMessage};
use tabmux_wire::{GoAwayReason, RefusedReason, ServerFrame, Term};

use crate::support::{ATTACH, Bench, ONE, is_opened, opened};

#[test]
fn every_tab_sees_the_states_of_a_lost_link_in_order() {
    let mut bench = Bench::connected();
    bench.tab(2, ATTACH);
    bench.take();
    bench.link_closed(1006);
    bench.pass(Duration::from_millis(500));
    bench.grant_and_open();
    bench.server(&ServerFrame::Welcome(crate::support::welcome()));
    let expected = [LinkState::Backoff, LinkState::Connecting, LinkState::Connected];
    assert_eq!(bench.states(1), expected);
    assert_eq!(bench.states(2), expected);
}

#[test]
fn a_socket_that_opens_while_there_is_no_link_gets_the_next_one() {
    let mut bench = Bench::connected();
    bench.link_closed(1006);
    bench.open(1, ONE);
    bench.pass(Duration::from_millis(500));
    bench.connect();
    bench.server(&opened(1, ONE));
    assert!(bench.posted(1).iter().any(is_opened));
}

#[test]
fn a_dial_that_fails_is_told_with_its_reason() {
    let mut bench = Bench::new(Mode::Mux);
    bench.tab(1, ATTACH);
    bench.open(1, ONE);
    bench.input(Input::LinkLockGranted);
    bench.take();
    bench.link_closed(1006);
    let posted = bench.posted(1);
    let told = |message: &HubMessage| match message {
        HubMessage::State { reason, .. } => reason.contains("could not connect"),
        _ => false,
    };
    assert!(posted.iter().any(told), "{posted:?}");
    assert_eq!(bench.hub.state(), LinkState::Backoff);
}

#[test]
fn a_link_that_does_not_open_in_time_is_given_up() {
    let mut bench = Bench::new(Mode::Mux);
    bench.tab(1, ATTACH);
    bench.input(Input::LinkLockGranted);
    let first = bench.attempt;
    bench.pass(Duration::from_secs(21));
    let closed =
        |output: &Output| matches!(output, Output::CloseLink { attempt, .. } if *attempt == first);
    assert!(bench.outputs.iter().any(closed));
    assert_ne!(bench.attempt, first, "another dial follows");
}

#[test]
fn news_of_an_earlier_link_is_not_taken_for_the_present_ones() {
    let mut bench = Bench::connected();
    let first = bench.attempt;
    bench.link_closed(1006);
    bench.pass(Duration::from_millis(500));
    bench.connect();
    bench.take();
    bench.input(Input::LinkClosed {
        attempt: first,
        code: 1006,
        reason: "",
        clean: false,
        failed: false,
    });
    assert_eq!(bench.hub.state(), LinkState::Connected);
    assert_eq!(bench.take(), []);
}

#[test]
fn a_server_that_goes_away_is_left_alone_for_as_long_as_it_asked() {
    let mut bench = Bench::connected();
    let (after_ms, spread_ms) = (5000, 2000);
    let reason = GoAwayReason::Shutdown;
    bench.server(&ServerFrame::GoAway { reason, after_ms, spread_ms, target: "" });
    bench.link_closed(1001);
    bench.take();
    bench.pass(Duration::from_millis(4999));
    assert!(!dialled(&bench));
    bench.pass(Duration::from_millis(2001));
    assert!(dialled(&bench));
}

#[test]
fn a_refusal_is_told_with_its_reason_and_obeyed() {
    let mut bench = Bench::new(Mode::Mux);
    bench.tab(1, ATTACH);
    bench.open(1, ONE);
    bench.grant_and_open();
    bench.take();
    bench.server(&ServerFrame::Refused {
        reason: RefusedReason::Limit,
        term: Term(0),
        retry_ms: 3000,
        message: "too many links",
    });
    let told = |message: &HubMessage| match message {
        HubMessage::State { reason, .. } => reason.contains("too many links"),
        _ => false,
    };
    assert!(bench.posted(1).iter().any(told));
    bench.take();
    bench.pass(Duration::from_millis(2999));
    assert!(!dialled(&bench));
    bench.pass(Duration::from_millis(1));
    assert!(dialled(&bench));
}

#[test]
fn the_network_coming_back_shortens_the_wait() {
    let mut bench = Bench::new(Mode::Mux);
    bench.tab(1, ATTACH);
    bench.input(Input::LinkLockGranted);
    for _ in 0..12 {
        bench.link_closed(1006);
        let failed = bench.attempt;
        while bench.attempt == failed {
            bench.pass(Duration::from_millis(100));
        }
    }
    bench.link_closed(1006);
    bench.take();
    bench.input(Input::NetworkChanged { online: true });
    bench.pass(Duration::from_millis(500));
    assert!(dialled(&bench));
}

#[test]
fn without_tabs_there_is_no_next_link() {
    let mut bench = Bench::connected();
    bench.link_closed(1006);
    bench.tab(1, TabMessage::Bye);
    bench.take();
    bench.pass(Duration::from_secs(60));
    assert!(!dialled(&bench));
    assert_eq!(bench.hub.state(), LinkState::Idle);
}

fn dialled(bench: &Bench) -> bool {
    bench.outputs.iter().any(|output| matches!(output, Output::OpenLink { .. }))
}

#[test]
fn no_server_keeps_a_hub_waiting_for_longer_than_ten_minutes() {
    let mut bench = Bench::new(Mode::Mux);
    bench.tab(1, ATTACH);
    bench.grant_and_open();
    let (reason, term, message) = (RefusedReason::Limit, Term(0), "come back in a million years");
    bench.server(&ServerFrame::Refused { reason, term, retry_ms: u64::MAX, message });
    bench.take();
    bench.pass(Duration::from_secs(599));
    assert!(!dialled(&bench));
    bench.pass(Duration::from_secs(1));
    assert!(dialled(&bench));
}
