//! A hub whose browser says that it is offline.

use std::time::Duration;

use tabmux_core::hub::{HubMessage, Input, LinkState, Mode, Output, Rules, TabMessage, WakeReason};

use crate::support::{ATTACH, Bench, ONE};

fn offline(mode: Mode) -> Bench {
    let mut bench = Bench::new(mode);
    bench.input(Input::NetworkChanged { online: false });
    bench
}

fn dials(bench: &Bench) -> usize {
    bench.outputs.iter().filter(|output| matches!(output, Output::OpenLink { .. })).count()
}

#[test]
fn the_first_dial_in_mux_mode_waits_for_a_network_and_tabs_are_told_why() {
    let mut bench = offline(Mode::Mux);
    bench.tab(1, ATTACH);
    bench.input(Input::LinkLockGranted);
    let told = bench.posted(1).into_iter().find_map(|message| match message {
        HubMessage::State { state: LinkState::Backoff, reason, .. } => Some(reason),
        _ => None,
    });
    assert_eq!(told.as_deref(), Some("tabmux: the browser is offline"));
    bench.pass(Duration::from_secs(3600));
    assert_eq!(dials(&bench), 0);
    bench.input(Input::NetworkChanged { online: true });
    bench.pass(Duration::from_millis(500));
    assert_eq!(dials(&bench), 1);
}

#[test]
fn a_view_fails_at_once_without_a_network_and_says_why() {
    let mut bench = offline(Mode::Mirror);
    bench.tab(1, ATTACH);
    bench.open(1, ONE);
    bench.input(Input::LinkLockGranted);
    let message = "tabmux: the browser is offline".to_owned();
    let posted = bench.posted(1);
    assert!(posted.contains(&HubMessage::Error { socket: ONE, message }), "{posted:?}");
    assert_eq!(dials(&bench), 0);
    assert_eq!(bench.hub.state(), LinkState::Idle);
    // The next one is dialled once there is a network.
    bench.input(Input::NetworkChanged { online: true });
    bench.open(1, ONE);
    bench.input(Input::LinkLockGranted);
    assert_eq!(dials(&bench), 1);
}

#[test]
fn an_outage_waits_for_a_network_and_takes_none_of_its_dials_meanwhile() {
    let mut bench = Bench::new(Mode::Mirror);
    let (replay_last, linger_ms, min_ms, max_ms, attempts) = (0, 0, 10, 10, 1);
    bench.input(Input::Rules(Rules { replay_last, linger_ms, min_ms, max_ms, attempts }));
    bench.tab(1, ATTACH);
    bench.open(1, ONE);
    bench.grant_and_open();
    bench.input(Input::NetworkChanged { online: false });
    bench.link_closed(1006);
    bench.take();
    bench.pass(Duration::from_secs(3600));
    assert_eq!(dials(&bench), 0);
    assert_ne!(bench.wakes_for(), Some(WakeReason::Backoff));
    bench.input(Input::NetworkChanged { online: true });
    assert_eq!(dials(&bench), 1);
    bench.take();
    bench.grant_and_open();
    let opened = bench.posted(1).iter().any(|it| matches!(it, HubMessage::Opened { .. }));
    assert!(opened, "the view goes on");
}

#[test]
fn a_new_link_that_a_page_asks_for_waits_for_a_network() {
    let mut bench = Bench::connected();
    bench.input(Input::NetworkChanged { online: false });
    bench.tab(1, TabMessage::Reconnect);
    assert_eq!(bench.hub.state(), LinkState::Backoff);
    bench.input(Input::NetworkChanged { online: true });
    bench.pass(Duration::from_millis(500));
    assert_eq!(dials(&bench), 1);
}
