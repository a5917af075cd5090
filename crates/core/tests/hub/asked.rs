//! A page asks for a new link.

use std::time::Duration;

use tabmux_core::hub::{HubMessage, Input, LinkState, Mode, Output, Rules, TabMessage};
use tabmux_wire::{Denied, Dismissed, HubFrame, RefusedReason, ServerFrame, TabId, Term};

use crate::support::{ATTACH, Bench, ONE, closed, is_opened, opened, text, welcome};

fn dials(bench: &Bench) -> usize {
    bench.outputs.iter().filter(|output| matches!(output, Output::OpenLink { .. })).count()
}

/// A hub with one tab that the server refused for good.
fn refused() -> Bench {
    let mut bench = Bench::connected();
    let (code, term, target, message) = (RefusedReason::Denied, Term(0), "", "log in first");
    bench.server(&ServerFrame::Denied(Denied { code, term, retry_ms: None, target, message }));
    bench.take();
    bench
}

#[test]
fn a_hub_that_was_refused_for_good_dials_when_a_tab_asks_for_it() {
    let mut bench = refused();
    bench.pass(Duration::from_secs(3600));
    assert_eq!(dials(&bench), 0);
    bench.tab(1, TabMessage::Reconnect);
    assert_eq!(dials(&bench), 1);
    assert_eq!(bench.states(1), [LinkState::Connecting]);
    bench.connect();
    assert_eq!(bench.hub.state(), LinkState::Connected);
}

#[test]
fn a_hub_that_was_refused_for_good_dials_when_another_tab_attaches() {
    let mut bench = refused();
    bench.tab(2, ATTACH);
    assert_eq!(dials(&bench), 1);
}

/// A new hub whose first tab was told by the one before that it is refused for good.
fn refused_before() -> Bench {
    let mut bench = Bench::new(Mode::Mux);
    bench.tab(1, TabMessage::Attach { claim: "!tabmux: log in, please", last0: 0, last: 0 });
    bench
}

#[test]
fn the_hub_after_one_that_was_refused_for_good_does_not_dial() {
    let mut bench = refused_before();
    bench.pass(Duration::from_secs(3600));
    bench.tab(2, TabMessage::Attach { claim: "!tabmux: log in, please", last0: 0, last: 0 });
    assert!(dials(&bench) == 0 && !bench.outputs.contains(&Output::RequestLinkLock));
    assert_eq!(bench.hub.state(), LinkState::Refused);
    for tab in [1, 2] {
        let told = bench.posted(tab).into_iter().any(|message| match message {
            HubMessage::State { state: LinkState::Refused, reason, .. } => {
                reason == "tabmux: log in, please"
            }
            _ => false,
        });
        assert!(told, "tab {tab} is told why");
    }
}

#[test]
fn it_dials_when_a_page_is_loaded_and_when_one_asks() {
    let claim = format!("{}1 2", "0".repeat(64));
    for act in [
        |bench: &mut Bench, _: &str| bench.tab(2, ATTACH),
        |bench: &mut Bench, _: &str| bench.tab(1, TabMessage::Reconnect),
        // One that was away, and was told nothing.
        |bench: &mut Bench, claim: &str| {
            bench.tab(2, TabMessage::Attach { claim, last0: 0, last: 0 });
        },
    ] {
        let mut bench = refused_before();
        act(&mut bench, &claim);
        assert!(bench.outputs.contains(&Output::RequestLinkLock));
        bench.grant_and_open();
        assert_eq!(dials(&bench), 1);
    }
}

#[test]
fn a_refused_hub_is_not_woken_by_the_network_nor_by_what_a_tab_opens() {
    let mut bench = refused();
    bench.input(Input::NetworkChanged { online: false });
    bench.input(Input::NetworkChanged { online: true });
    bench.open(1, ONE);
    bench.pass(Duration::from_secs(3600));
    assert_eq!(dials(&bench), 0);
}

#[test]
fn all_calls_within_a_second_are_one() {
    let mut bench = refused();
    bench.tab(2, ATTACH);
    bench.connect();
    bench.tab(1, TabMessage::Reconnect);
    bench.pass(Duration::from_millis(999));
    bench.tab(2, TabMessage::Reconnect);
    assert_eq!(dials(&bench), 1);
    bench.connect();
    bench.pass(Duration::from_millis(1));
    bench.tab(2, TabMessage::Reconnect);
    assert_eq!(dials(&bench), 1);
}

#[test]
fn a_link_that_works_is_closed_and_its_session_goes_on_with_the_next() {
    let mut bench = Bench::connected();
    bench.open(1, ONE);
    bench.server(&opened(1, ONE));
    bench.take();
    let first = bench.attempt;
    bench.tab(1, TabMessage::Reconnect);
    let closes = |output: &Output| match output {
        Output::CloseLink { attempt, code: 1000, .. } => *attempt == first,
        _ => false,
    };
    assert!(bench.outputs.iter().any(closes));
    assert_eq!(dials(&bench), 1);
    bench.grant_and_open();
    let claims = |bytes: &Vec<u8>| match HubFrame::decode(bytes) {
        Ok(HubFrame::Hello(hello)) => {
            hello.resume.is_some_and(|it| it.session == welcome().session)
        }
        _ => false,
    };
    assert!(bench.sent().iter().any(claims));
    let is_over =
        |it: &HubMessage| matches!(it, HubMessage::Lost { .. } | HubMessage::Closed { .. });
    assert!(!bench.posted(1).iter().any(is_over), "{:?}", bench.posted(1));
}

#[test]
fn a_hub_that_waits_to_dial_again_dials_at_once() {
    let mut bench = Bench::connected();
    let (code, term, target, message) = (RefusedReason::Limit, Term(0), "", "full");
    let retry_ms = Some(60_000);
    bench.server(&ServerFrame::Denied(Denied { code, term, retry_ms, target, message }));
    bench.take();
    bench.tab(1, TabMessage::Reconnect);
    assert_eq!(dials(&bench), 1);
    bench.pass(Duration::from_secs(10));
    assert_eq!(dials(&bench), 1, "the dial that was due is this one");
}

#[test]
fn a_link_that_is_on_its_way_is_not_dialled_twice() {
    let mut bench = Bench::new(Mode::Mux);
    bench.tab(1, ATTACH);
    bench.tab(1, TabMessage::Reconnect);
    bench.input(Input::LinkLockGranted);
    bench.pass(Duration::from_secs(1));
    bench.tab(1, TabMessage::Reconnect);
    bench.grant_and_open();
    bench.pass(Duration::from_secs(1));
    bench.tab(1, TabMessage::Reconnect);
    assert_eq!(dials(&bench), 1);
}

#[test]
fn a_tab_that_the_application_ended_for_good_comes_back_when_it_asks() {
    let mut bench = Bench::connected();
    bench.tab(2, ATTACH);
    let sent = bench.sent();
    bench.answer_attaches(&sent);
    let (tab, message) = (TabId(2), "moderated");
    bench.server(&ServerFrame::Dismissed(Dismissed { tab, retry_ms: None, message }));
    bench.take();
    bench.tab(2, TabMessage::Reconnect);
    assert_eq!(bench.states(2), [LinkState::Connected]);
    let attaches = |bytes: &Vec<u8>| match HubFrame::decode(bytes) {
        Ok(HubFrame::Attach { tab, .. }) => tab == TabId(2),
        _ => false,
    };
    assert!(bench.sent().iter().any(attaches));
    assert_eq!(dials(&bench), 0, "the link of the other tab stays");
}

#[test]
fn a_parked_tab_asks_for_nothing() {
    let mut bench = refused();
    bench.tab(2, ATTACH);
    bench.connect();
    bench.tab(2, TabMessage::Park);
    bench.take();
    bench.tab(2, TabMessage::Reconnect);
    assert_eq!(dials(&bench), 0);
}

#[test]
fn views_stay_open_while_their_connection_is_dialled_again() {
    let mut bench = Bench::mirrored();
    let first = bench.attempt;
    bench.send(1, ONE, "before");
    bench.tab(1, TabMessage::Reconnect);
    assert_eq!(dials(&bench), 1);
    assert_ne!(bench.attempt, first);
    bench.send(1, ONE, "after");
    assert_eq!(bench.sent(), [b"before"]);
    assert_eq!(
        bench.posted(1),
        [HubMessage::State { state: LinkState::Connecting, tabs: 1, reason: String::new() }]
    );
    bench.take();
    bench.grant_and_open();
    assert_eq!(bench.sent(), [b"after"]);
    assert!(bench.posted(1).iter().any(is_opened));
    bench.link(tabmux_wire::Payload::Text("hello"));
    assert!(bench.posted(1).contains(&HubMessage::Mirror { payload: text("hello") }));
}

#[test]
fn views_close_when_the_connection_that_was_asked_for_cannot_be_opened() {
    let mut bench = Bench::mirrored();
    bench.tab(1, TabMessage::Reconnect);
    bench.take();
    bench.link_closed(1006);
    assert!(bench.posted(1).contains(&closed(ONE, 1006, false)));
    assert_eq!(bench.hub.state(), LinkState::Idle);
}

#[test]
fn a_connection_that_waits_in_an_outage_is_dialled_at_once() {
    let mut bench = Bench::new(Mode::Mirror);
    let (min_ms, max_ms) = (60_000, 60_000);
    bench.input(Input::Rules(Rules { min_ms, max_ms, attempts: 2, ..Rules::default() }));
    bench.tab(1, ATTACH);
    bench.open(1, ONE);
    bench.grant_and_open();
    bench.link_closed(1006);
    bench.take();
    bench.tab(1, TabMessage::Reconnect);
    assert_eq!(dials(&bench), 1);
    bench.grant_and_open();
    assert!(bench.posted(1).iter().any(is_opened));
}
