//! A hub that must ask a page where its link goes.

use std::time::Duration;

use tabmux_core::hub::{
    Ask, AskId, HubConfig, HubMessage, Input, LinkState, Mode, Output, Rules, TabMessage,
    WakeReason,
};
use tabmux_wire::{HubId, TabId};

use crate::support::{ATTACH, Bench, ONE, is_opened};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

/// A hub of these tabs, which became visible in this order. It holds the lock of its link.
fn asking(mode: Mode, tabs: &[u64]) -> Bench {
    let config = HubConfig { asks: true, ..HubConfig::new(mode, HubId(1), "feed") };
    let mut bench = Bench::with(config);
    for tab in tabs {
        bench.tab(*tab, ATTACH);
        bench.tab(*tab, TabMessage::Visible { online: true });
        if mode == Mode::Mirror {
            bench.open(*tab, ONE);
        }
    }
    bench.input(Input::LinkLockGranted);
    bench
}

/// The tabs that were asked since outputs were last taken, and by which number.
fn asked(bench: &mut Bench) -> Vec<(u64, AskId)> {
    let ask = |output| match output {
        Output::PostToTab { tab, message: HubMessage::Ask { id, what: Ask::Address } } => {
            Some((tab.0, id))
        }
        _ => None,
    };
    bench.take().into_iter().filter_map(ask).collect()
}

fn asks(bench: &mut Bench) -> Vec<u64> {
    asked(bench).into_iter().map(|(tab, _)| tab).collect()
}

fn answer(bench: &mut Bench, tab: u64, id: AskId, answer: Result<bool, &str>) {
    bench.tab(tab, TabMessage::Answer { id, answer });
}

fn dials(bench: &Bench) -> usize {
    bench.outputs.iter().filter(|output| matches!(output, Output::OpenLink { .. })).count()
}

/// The text of the error that the view of this tab failed with.
fn failure(bench: &Bench, tab: u64) -> String {
    let error = |message| match message {
        HubMessage::Error { message, .. } => Some(message),
        _ => None,
    };
    bench.posted(tab).into_iter().find_map(error).expect("the view failed")
}

#[test]
fn a_hub_dials_once_a_tab_has_said_where_to() {
    for mode in [Mode::Mirror, Mode::Mux] {
        let mut bench = asking(mode, &[1]);
        assert_eq!(bench.hub.state(), LinkState::Connecting);
        assert_eq!(dials(&bench), 0);
        let [(1, id)] = asked(&mut bench)[..] else { panic!("asks the tab") };
        answer(&mut bench, 1, id, Ok(true));
        assert_eq!(dials(&bench), 1);
        assert_eq!(bench.wakes_for(), Some(WakeReason::Dial));
    }
}

#[test]
fn the_tab_that_was_visible_last_is_asked_first() {
    let mut bench =
        Bench::with(HubConfig { asks: true, ..HubConfig::new(Mode::Mirror, HubId(1), "feed") });
    for tab in [1, 2, 3] {
        bench.tab(tab, ATTACH);
        bench.tab(tab, TabMessage::Visible { online: true });
    }
    bench.tab(2, TabMessage::Visible { online: true });
    bench.open(1, ONE);
    bench.input(Input::LinkLockGranted);
    assert_eq!(asks(&mut bench), [2]);
    bench.pass(SECONDS(3));
    assert_eq!(asks(&mut bench), [3]);
    bench.pass(SECONDS(3));
    assert_eq!(asks(&mut bench), [1]);
}

#[test]
fn a_tab_that_was_never_visible_is_asked_last() {
    let mut bench =
        Bench::with(HubConfig { asks: true, ..HubConfig::new(Mode::Mirror, HubId(1), "feed") });
    bench.tab(1, ATTACH);
    bench.tab(1, TabMessage::Visible { online: true });
    bench.tab(2, ATTACH);
    bench.open(2, ONE);
    bench.input(Input::LinkLockGranted);
    assert_eq!(asks(&mut bench), [1]);
    bench.pass(SECONDS(3));
    assert_eq!(asks(&mut bench), [2]);
}

#[test]
fn the_first_answer_counts_and_a_later_one_does_nothing() {
    let mut bench = asking(Mode::Mirror, &[1, 2]);
    let [(2, id)] = asked(&mut bench)[..] else { panic!("asks the tab") };
    bench.pass(SECONDS(3));
    assert_eq!(asked(&mut bench), [(1, id)]);
    answer(&mut bench, 2, id, Ok(true));
    answer(&mut bench, 1, id, Ok(true));
    assert_eq!(dials(&bench), 1);
}

#[test]
fn a_tab_that_was_not_asked_cannot_answer() {
    let mut bench = asking(Mode::Mirror, &[1, 2]);
    let [(2, AskId(id))] = asked(&mut bench)[..] else { panic!("asks the tab") };
    answer(&mut bench, 1, AskId(id), Ok(true));
    answer(&mut bench, 2, AskId(id + 1), Ok(true));
    assert_eq!(dials(&bench), 0);
}

#[test]
fn the_next_tab_is_asked_at_once_when_one_has_no_answer() {
    let mut bench = asking(Mode::Mirror, &[1, 2]);
    let [(2, id)] = asked(&mut bench)[..] else { panic!("asks the tab") };
    answer(&mut bench, 2, id, Err("logged out"));
    assert_eq!(asks(&mut bench), [1]);
}

#[test]
fn the_next_tab_is_asked_at_once_when_one_goes_or_is_parked() {
    for leaves in [TabMessage::Bye, TabMessage::Park] {
        let mut bench = asking(Mode::Mirror, &[1, 2]);
        assert_eq!(asks(&mut bench), [2]);
        bench.tab(2, leaves);
        assert_eq!(asks(&mut bench), [1]);
    }
}

#[test]
fn views_fail_with_the_reason_when_no_tab_has_an_answer() {
    let mut bench = asking(Mode::Mirror, &[1]);
    let [(1, id)] = asked(&mut bench)[..] else { panic!("asks the tab") };
    answer(&mut bench, 1, id, Err("logged out"));
    assert!(failure(&bench, 1).contains("logged out"));
    assert!(bench.outputs.contains(&Output::ReleaseLinkLock));
    assert_eq!(bench.hub.state(), LinkState::Idle);
}

#[test]
fn a_tab_that_is_silent_has_as_long_as_a_dial() {
    let mut bench = asking(Mode::Mirror, &[1]);
    assert_eq!(asks(&mut bench), [1]);
    bench.pass(SECONDS(19));
    assert_eq!(bench.hub.state(), LinkState::Connecting);
    bench.pass(SECONDS(1));
    assert!(failure(&bench, 1).contains("no tab answered within 20 s"));
}

#[test]
fn a_tab_that_comes_is_asked_while_another_is_silent() {
    let mut bench = asking(Mode::Mirror, &[1]);
    bench.pass(SECONDS(10));
    assert_eq!(asks(&mut bench), [1]);
    bench.tab(2, ATTACH);
    assert_eq!(asks(&mut bench), [2]);
}

#[test]
fn a_hub_in_mux_mode_asks_again_after_a_wait() {
    let mut bench = asking(Mode::Mux, &[1]);
    let [(1, id)] = asked(&mut bench)[..] else { panic!("asks the tab") };
    answer(&mut bench, 1, id, Err("logged out"));
    assert_eq!(bench.states(1), [LinkState::Backoff]);
    bench.take();
    bench.pass(SECONDS(1));
    let [(1, again)] = asked(&mut bench)[..] else { panic!("asks again") };
    assert_ne!(again, id);
}

#[test]
fn each_dial_of_an_outage_asks_anew() {
    let mut bench =
        Bench::with(HubConfig { asks: true, ..HubConfig::new(Mode::Mirror, HubId(1), "feed") });
    let (replay_last, linger_ms, min_ms, max_ms, attempts) = (0, 0, 1, 1, 5);
    bench.input(Input::Rules(Rules { replay_last, linger_ms, min_ms, max_ms, attempts }));
    bench.tab(1, ATTACH);
    bench.open(1, ONE);
    bench.input(Input::LinkLockGranted);
    let [(1, id)] = asked(&mut bench)[..] else { panic!("asks the tab") };
    answer(&mut bench, 1, id, Ok(true));
    bench.grant_and_open();
    assert!(bench.posted(1).iter().any(is_opened));
    bench.link_closed(1006);
    bench.take();
    bench.pass(SECONDS(1));
    let [(1, again)] = asked(&mut bench)[..] else { panic!("asks again") };
    assert_eq!(dials(&bench), 0);
    answer(&mut bench, 1, again, Ok(true));
    assert_eq!(dials(&bench), 1);
}

#[test]
fn a_hub_that_nobody_needs_asks_nobody() {
    for mode in [Mode::Mirror, Mode::Mux] {
        let mut bench = asking(mode, &[1]);
        let [(1, id)] = asked(&mut bench)[..] else { panic!("asks the tab") };
        bench.tab(1, TabMessage::Park);
        assert_eq!(bench.hub.state(), LinkState::Idle);
        bench.tab(1, ATTACH);
        bench.take();
        answer(&mut bench, 1, id, Ok(true));
        assert_eq!(dials(&bench), 0);
        assert_eq!(bench.hub.tabs(), 1);
    }
}

#[test]
fn a_question_waits_while_no_tab_can_be_asked() {
    let mut bench = asking(Mode::Mirror, &[1]);
    assert_eq!(asks(&mut bench), [1]);
    // The tab may be dead, and has half a second to say that it is parked.
    bench.input(Input::TabLockGranted { tab: TabId(1) });
    assert_eq!(bench.hub.state(), LinkState::Connecting);
    bench.tab(1, ATTACH);
    assert_eq!(asks(&mut bench), [1]);
}
