//! Tabs come, park, return and die.

use std::time::Duration;

use tabmux_core::hub::{HubConfig, HubMessage, Input, LinkState, Mode, Output, TabMessage};
use tabmux_wire::{HubFrame, HubId, Payload, ServerFrame, TabId};

use crate::support::{ATTACH, Bench, ONE, alias, data, opened, text};

const GONE: HubFrame<'static> = HubFrame::Gone { tab: TabId(2) };

#[test]
fn a_tab_that_attaches_is_watched_and_told_the_state_at_once() {
    let mut bench = Bench::connected();
    bench.tab(2, ATTACH);
    assert!(bench.outputs.contains(&Output::WatchTab { tab: TabId(2) }));
    let attached = HubMessage::Attached { state: LinkState::Connected, tabs: 2 };
    assert_eq!(bench.posted(2), [attached]);
}

#[test]
fn the_others_hear_that_the_number_of_tabs_changed() {
    let mut bench = Bench::connected();
    bench.tab(2, ATTACH);
    let state =
        |tabs| HubMessage::State { state: LinkState::Connected, tabs, reason: String::new() };
    assert_eq!(bench.posted(1), [state(2)]);
    bench.take();
    bench.tab(2, TabMessage::Bye);
    assert_eq!(bench.posted(1), [state(1)]);
}

#[test]
fn a_tab_that_says_bye_is_gone_at_once() {
    let mut bench = two_tabs();
    bench.tab(2, TabMessage::Bye);
    assert_eq!(bench.sent(), [GONE.to_bytes()]);
    assert!(bench.outputs.contains(&Output::DropTab { tab: TabId(2) }));
}

#[test]
fn a_tab_whose_lock_was_granted_is_dead_after_half_a_second_without_a_word() {
    let mut bench = two_tabs();
    bench.input(Input::TabLockGranted { tab: TabId(2) });
    bench.pass(Duration::from_millis(499));
    assert!(bench.sent().is_empty());
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.sent(), [GONE.to_bytes()]);
}

#[test]
fn a_park_that_arrives_after_the_lock_was_granted_saves_the_tab() {
    let mut bench = two_tabs();
    bench.input(Input::TabLockGranted { tab: TabId(2) });
    bench.pass(Duration::from_millis(100));
    bench.tab(2, TabMessage::Park);
    bench.pass(Duration::from_secs(60));
    assert_eq!((bench.hub.tabs(), bench.hub.parked()), (1, 1));
}

#[test]
fn nothing_is_posted_to_a_parked_tab_and_the_server_gives_it_its_lane_when_it_is_back() {
    let mut bench = two_tabs();
    bench.tab(2, TabMessage::Park);
    bench.take();
    bench.server(&data(2, ONE, "one"));
    bench.server(&ServerFrame::Message { payload: Payload::Text("all") });
    assert_eq!(bench.posted(2), []);
    bench.back(2, 1);
    // Its lane is the server's to repeat; what all tabs hear waited here.
    assert!(bench.sent().contains(&HubFrame::Attach { tab: TabId(2), last: 1 }.to_bytes()));
    let attached = HubMessage::Attached { state: LinkState::Connected, tabs: 2 };
    let all = HubMessage::Browser { count0: 0, payload: text("all") };
    assert_eq!(bench.posted(2), [attached, all]);
    bench.take();
    let (tab, alias, aside) = (TabId(2), alias(2), false);
    bench.server(&ServerFrame::Attached { tab, alias, next: 2, n_seen: 1, aside });
    bench.server(&data(2, ONE, "one"));
    let message = HubMessage::Message { socket: ONE, count: 0, payload: text("one") };
    assert_eq!(bench.posted(2), [message]);
}

#[test]
fn a_tab_that_left_before_it_was_part_of_the_session_gets_nothing_that_was_said_before() {
    let mut bench = two_tabs();
    bench.tab(2, TabMessage::Park);
    bench.server(&ServerFrame::Message { payload: Payload::Text("all") });
    bench.take();
    // It shows no claim: it never heard that it was part of the session.
    bench.tab(2, ATTACH);
    let attached = HubMessage::Attached { state: LinkState::Connected, tabs: 2 };
    assert_eq!(bench.posted(2), [attached]);
}

#[test]
fn a_tab_for_which_too_much_waits_is_told_that_it_missed_something() {
    let mut config = HubConfig::new(Mode::Mux, HubId(1), "ws://server/tabmux/ws");
    config.held_bytes = 200;
    let mut bench = two_tabs_with(config);
    bench.tab(2, TabMessage::Park);
    for _ in 0..10 {
        bench.server(&ServerFrame::Message { payload: Payload::Text("0123456789") });
    }
    bench.take();
    bench.back(2, 1);
    let missed = |tab| bench.posted(tab).contains(&HubMessage::BrowserGap);
    assert_eq!((missed(1), missed(2)), (false, true));
}

#[test]
fn a_parked_tab_is_given_up_after_ten_minutes() {
    let mut bench = two_tabs();
    bench.tab(2, TabMessage::Park);
    bench.take();
    bench.pass(Duration::from_secs(599));
    assert_eq!((bench.hub.tabs(), bench.hub.parked()), (1, 1));
    bench.pass(Duration::from_secs(1));
    assert_eq!((bench.hub.tabs(), bench.hub.parked()), (1, 0));
}

#[test]
fn when_the_last_tab_parks_the_server_is_told_and_the_lock_let_go_in_the_same_task() {
    let mut bench = Bench::connected();
    bench.tab(1, TabMessage::Park);
    let park = HubFrame::Park { tab: TabId(1) }.to_bytes();
    assert_eq!(bench.sent(), [park, HubFrame::Suspend.to_bytes()]);
    assert!(bench.outputs.contains(&Output::ReleaseLinkLock));
}

#[test]
fn what_waits_for_a_slow_line_is_handed_over_before_all_tabs_are_in_the_cache() {
    let mut bench = Bench::connected();
    bench.open(1, ONE);
    let attempt = bench.attempt;
    bench.input(Input::LinkBuffered { attempt, bytes: 2 << 20 });
    bench.take();
    bench.send(1, ONE, "the last word");
    assert_eq!(bench.sent().len(), 0, "it waits");
    bench.tab(1, TabMessage::Park);
    let park = HubFrame::Park { tab: TabId(1) }.to_bytes();
    assert_eq!(bench.sent()[1..], [park, HubFrame::Suspend.to_bytes()]);
}

#[test]
fn a_tab_that_returns_to_a_suspended_link_takes_it_up_again() {
    let mut bench = Bench::connected();
    bench.open(1, ONE);
    bench.server(&opened(1, ONE));
    bench.tab(1, TabMessage::Park);
    bench.take();
    bench.back(1, 1);
    assert!(bench.outputs.contains(&Output::RequestLinkLock));
    assert!(bench.sent().contains(&HubFrame::Attach { tab: TabId(1), last: 1 }.to_bytes()));
    let (tab, alias, aside) = (TabId(1), alias(1), false);
    bench.server(&ServerFrame::Attached { tab, alias, next: 2, n_seen: 1, aside });
    bench.server(&data(1, ONE, "still open"));
    let message = HubMessage::Message { socket: ONE, count: 0, payload: text("still open") };
    assert!(bench.posted(1).contains(&message));
}

#[test]
fn a_tab_that_was_given_up_is_asked_to_attach_again() {
    let mut bench = Bench::connected();
    bench.send(9, ONE, "who am I");
    assert_eq!(bench.posted(9), [HubMessage::Resync]);
}

#[test]
fn there_is_a_limit_of_tabs_and_the_one_above_it_is_told() {
    let mut config = HubConfig::new(Mode::Mux, HubId(1), "ws://server/tabmux/ws");
    config.tabs = 1;
    let mut bench = Bench::with(config);
    bench.tab(1, ATTACH);
    bench.tab(2, ATTACH);
    assert!(
        matches!(&bench.posted(2)[..], [HubMessage::Refused { message }] if message.contains('1'))
    );
    assert_eq!(bench.hub.tabs(), 1);
}

fn two_tabs() -> Bench {
    two_tabs_with(HubConfig::new(Mode::Mux, HubId(1), "ws://server/tabmux/ws"))
}

/// Two tabs; the second has a socket.
fn two_tabs_with(config: HubConfig) -> Bench {
    let mut bench = Bench::with(config);
    bench.tab(1, ATTACH);
    bench.tab(2, ATTACH);
    bench.connect();
    bench.open(2, ONE);
    bench.server(&ServerFrame::Opened { tab: alias(2), socket: ONE, credit: 9, protocol: "" });
    bench.take();
    bench
}

#[test]
fn when_the_last_tab_that_is_not_parked_goes_the_link_is_suspended() {
    let mut bench = two_tabs();
    bench.tab(2, TabMessage::Park);
    bench.take();
    bench.tab(1, TabMessage::Bye);
    assert!(bench.sent().contains(&HubFrame::Suspend.to_bytes()));
    assert!(bench.outputs.contains(&Output::ReleaseLinkLock));
}

#[test]
fn a_tab_that_is_refused_is_forgotten() {
    let mut config = HubConfig::new(Mode::Mux, HubId(1), "ws://server/tabmux/ws");
    config.tabs = 1;
    let mut bench = Bench::with(config);
    bench.tab(1, ATTACH);
    bench.tab(2, ATTACH);
    assert!(bench.take().contains(&Output::DropTab { tab: TabId(2) }));
    bench.tab(2, TabMessage::Bye);
    assert_eq!(bench.posted(2), []);
}
