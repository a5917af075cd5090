//! A hub at which tabs of a dead hub are not the first.

use std::time::Duration;

use tabmux_core::hub::{HubConfig, Input, LinkState, Mode, Output, TabMessage};
use tabmux_wire::{HubFrame, HubId, Term};

use super::{claimed, two_tabs};
use crate::support::{ATTACH, Bench};

/// A new hub, at which a tab is first that has nothing, while tab 1 of the hub before it lives.
fn first_of_another_hub(claim_expected: bool) -> Bench {
    let mut bench = Bench::with(config());
    bench.claims = two_tabs().claims;
    bench.claims.remove(&2);
    bench.tab(2, ATTACH);
    if claim_expected {
        bench.input(Input::ClaimExpected);
    }
    bench.grant_and_open();
    bench
}

fn config() -> HubConfig {
    HubConfig::new(Mode::Mux, HubId(2), "ws://server/tabmux/ws")
}

/// The frames of a link before WELCOME.
fn names(bench: &Bench) -> Vec<&'static str> {
    let name = |bytes: &Vec<u8>| match HubFrame::decode(bytes) {
        Ok(HubFrame::Hello(hello)) if hello.resume.is_some() => "claim",
        Ok(HubFrame::Hello(_)) => "hello",
        Ok(HubFrame::Attach { .. }) => "attach",
        other => panic!("{other:?}"),
    };
    bench.sent().iter().map(name).collect()
}

#[test]
fn a_claim_that_is_expected_is_waited_for_though_another_tab_is_first() {
    let mut bench = first_of_another_hub(true);
    assert_eq!(names(&bench), [""; 0], "the link is open, and nothing is said");
    assert_eq!(bench.hub.state(), LinkState::Connecting);
    bench.pass(Duration::from_millis(1_000));
    bench.tab(3, ATTACH);
    assert_eq!(names(&bench), [""; 0], "it has no claim either");
    bench.back(1, 0);
    assert_eq!(names(&bench), ["claim", "attach", "attach", "attach"]);
    bench.take();
    bench.pass(Duration::from_secs(1));
    assert_eq!(names(&bench), [""; 0], "once is enough");
}

#[test]
fn of_the_terms_that_tabs_know_the_newest_is_claimed() {
    let mut bench = Bench::with(config());
    bench.claims = two_tabs().claims;
    // Behind the 64 digits of session and token.
    let (session, rest) = bench.claims[&2].split_at(64);
    let Some((term, alias)) = rest.split_once(' ') else { panic!("no claim") };
    let newer = term.parse::<u64>().unwrap() + 1;
    let later = format!("{session}{newer} {alias}");
    bench.claims.insert(2, later);
    bench.back(1, 0);
    bench.back(2, 0);
    bench.grant_and_open();
    assert_eq!(claimed(&bench).map(|resume| resume.term), Some(Term(newer)));
    // Nor does one that comes later with an older one take it back.
    let claims = bench.claims;
    let mut bench = Bench::with(config());
    bench.claims = claims;
    bench.back(2, 0);
    bench.back(1, 0);
    bench.grant_and_open();
    assert_eq!(claimed(&bench).map(|resume| resume.term), Some(Term(newer)));
}

#[test]
fn a_claim_that_does_not_come_is_waited_for_only_so_long() {
    let mut bench = first_of_another_hub(true);
    bench.pass(Duration::from_millis(1_499));
    assert_eq!(names(&bench), [""; 0]);
    bench.pass(Duration::from_millis(1));
    assert_eq!(names(&bench), ["hello", "attach"]);
    // Nor by the next link.
    bench.link_closed(1006);
    bench.take();
    bench.pass(Duration::from_secs(1));
    bench.grant_and_open();
    assert_eq!(names(&bench), ["hello", "attach"]);
}

#[test]
fn a_hub_that_expects_no_claim_waits_for_none() {
    let bench = first_of_another_hub(false);
    assert_eq!(names(&bench), ["hello", "attach"]);
    // Nor one that has it already.
    let mut bench = Bench::with(config());
    bench.claims = two_tabs().claims;
    bench.back(1, 0);
    bench.input(Input::ClaimExpected);
    bench.grant_and_open();
    assert_eq!(names(&bench), ["claim", "attach"]);
}

#[test]
fn a_tab_that_goes_while_a_claim_is_expected_takes_the_link_along() {
    let mut bench = first_of_another_hub(true);
    bench.take();
    bench.tab(2, TabMessage::Bye);
    assert!(bench.outputs.iter().any(|it| matches!(it, Output::CloseLink { .. })));
    bench.take();
    bench.back(1, 0);
    bench.grant_and_open();
    assert_eq!(names(&bench), ["claim", "attach"]);
}
