//! Mirror mode: how a shared connection behaves where the page gives rules for it.

use std::time::Duration;

use tabmux_core::hub::{HubMessage, Input, Mode, Output, Rules, TabMessage};
use tabmux_wire::{Payload, TabId};

use crate::support::{ATTACH, Bench, ONE, TWO, closed, is_opened, text};

const RECONNECT: Rules =
    Rules { replay_last: 0, linger_ms: 0, min_ms: 100, max_ms: 1000, attempts: 2 };

/// A mirror hub with these rules, whose tabs 1 and 2 have an open view and are named "one" and
/// "two".
fn shared(rules: Rules) -> Bench {
    let mut bench = Bench::new(Mode::Mirror);
    bench.input(Input::Rules(rules));
    for (tab, path) in [(1, "one"), (2, "two")] {
        bench.tab(tab, ATTACH);
        bench.tab(tab, TabMessage::Got { count0: 0, count: 0 });
        view(&mut bench, tab, path);
    }
    bench.grant_and_open();
    bench.take();
    bench
}

fn view(bench: &mut Bench, tab: u64, path: &str) {
    bench.tab(tab, TabMessage::Open { n: 1, socket: ONE, path, protocols: vec![] });
}

fn mirror(body: &str) -> HubMessage {
    HubMessage::Mirror { payload: text(body) }
}

fn dials(bench: &Bench) -> usize {
    bench.outputs.iter().filter(|output| matches!(output, Output::OpenLink { .. })).count()
}

fn closes(bench: &Bench) -> bool {
    bench.outputs.iter().any(|output| matches!(output, Output::CloseLink { .. }))
}

fn to(bench: &mut Bench, name: &str, text: &str) {
    let attempt = bench.attempt;
    bench.input(Input::LinkMessageTo { attempt, name, text });
}

#[test]
fn a_message_that_names_a_tab_goes_to_that_tab_alone() {
    let mut bench = shared(Rules::default());
    to(&mut bench, "two", "reply");
    assert_eq!(bench.posted(1), []);
    assert_eq!(bench.posted(2), [mirror("reply")]);
}

#[test]
fn a_message_that_names_a_tab_of_another_browser_goes_to_all() {
    let mut bench = shared(Rules::default());
    to(&mut bench, "three", "reply");
    assert_eq!(bench.posted(1), [mirror("reply")]);
    assert_eq!(bench.posted(2), [mirror("reply")]);
}

#[test]
fn a_parked_tab_gets_what_names_it_when_it_is_back() {
    let mut bench = shared(Rules::default());
    bench.tab(2, TabMessage::Park);
    to(&mut bench, "two", "reply");
    assert_eq!(bench.posted(2), []);
    bench.tab(2, ATTACH);
    assert!(bench.posted(2).contains(&mirror("reply")));
    assert!(!bench.posted(1).contains(&mirror("reply")));
}

#[test]
fn what_names_a_tab_that_left_is_dropped_for_a_minute() {
    let mut bench = shared(Rules::default());
    bench.tab(2, TabMessage::Bye);
    bench.take();
    to(&mut bench, "two", "reply");
    assert_eq!(bench.posted(1), []);
    bench.pass(Duration::from_secs(61));
    bench.take();
    to(&mut bench, "two", "reply");
    assert_eq!(bench.posted(1), [mirror("reply")]);
}

#[test]
fn a_late_tab_gets_the_last_messages_after_open() {
    let mut bench = shared(Rules { replay_last: 2, ..Rules::default() });
    ["a", "b", "c"].iter().for_each(|it| bench.link(Payload::Text(it)));
    to(&mut bench, "two", "not for all");
    bench.tab(3, ATTACH);
    bench.take();
    bench.tab(3, TabMessage::Got { count0: 0, count: 0 });
    view(&mut bench, 3, "three");
    let posted = bench.posted(3);
    assert!(is_opened(&posted[0]), "{posted:?}");
    assert_eq!(posted[1..], [mirror("b"), mirror("c")]);
    bench.take();
    bench.tab(3, TabMessage::Open { n: 2, socket: TWO, path: "three", protocols: vec![] });
    assert_eq!(bench.posted(3).len(), 1, "its second view is not late");
}

#[test]
fn a_tab_that_comes_back_and_one_after_a_new_dial_get_no_old_messages() {
    let mut bench = shared(Rules { replay_last: 2, ..RECONNECT });
    bench.link(Payload::Text("old"));
    bench.take();
    bench.tab(2, TabMessage::Park);
    // It heard that its view is open, and the message.
    bench.tab(2, TabMessage::Attach { claim: "", last0: 3, last: 0 });
    assert!(!bench.posted(2).contains(&mirror("old")));
    bench.link_closed(1006);
    bench.pass(Duration::from_secs(1));
    bench.grant_and_open();
    bench.tab(3, ATTACH);
    bench.tab(3, TabMessage::Got { count0: 0, count: 0 });
    view(&mut bench, 3, "three");
    assert!(!bench.posted(3).contains(&mirror("old")));
}

#[test]
fn what_was_on_its_way_to_a_tab_that_left_is_posted_again_in_its_place() {
    let mut bench = shared(Rules::default());
    ["heard", "dropped", "too"].iter().for_each(|it| bench.link(Payload::Text(it)));
    bench.tab(2, TabMessage::Park);
    bench.link(Payload::Text("held"));
    bench.take();
    // It heard that its view is open, and one message.
    bench.tab(2, TabMessage::Attach { claim: "", last0: 3, last: 0 });
    let is_mirror = |it: &HubMessage| matches!(it, HubMessage::Mirror { .. });
    let posted = || bench.posted(2).into_iter().filter(is_mirror).collect::<Vec<_>>();
    assert_eq!(posted(), ["dropped", "too", "held"].map(mirror));
}

#[test]
fn a_tab_that_missed_more_than_is_kept_loses_its_view() {
    let mut bench = shared(Rules::default());
    let large = vec![0; 200 << 10];
    (0..2).for_each(|_| bench.link(Payload::Binary(&large)));
    bench.tab(2, TabMessage::Park);
    bench.take();
    bench.tab(2, TabMessage::Attach { claim: "", last0: 2, last: 0 });
    assert!(bench.posted(2).iter().any(is_closed));
    bench.take();
    bench.link(Payload::Text("next"));
    assert_eq!(bench.posted(1), [mirror("next")]);
    assert_eq!(bench.posted(2), []);
}

#[test]
fn views_stay_open_during_an_outage_and_hear_when_it_is_over() {
    let mut bench = shared(RECONNECT);
    bench.link_closed(1006);
    assert_eq!([bench.posted(1), bench.posted(2)].map(|it| it.iter().any(is_closed)), [false; 2]);
    bench.tab(1, TabMessage::Send { n: 2, socket: ONE, payload: Payload::Text("kept") });
    bench.pass(Duration::from_secs(1));
    assert_eq!(dials(&bench), 1, "one dial for all tabs");
    bench.take();
    bench.grant_and_open();
    for tab in [1, 2] {
        assert_eq!(bench.posted(tab).iter().filter(|it| is_opened(it)).count(), 1);
    }
    assert_eq!(bench.sent(), [b"kept"]);
}

#[test]
fn views_close_when_the_policy_gives_up() {
    let mut bench = shared(RECONNECT);
    bench.link_closed(1006);
    for _ in 0..2 {
        bench.pass(Duration::from_secs(1));
        bench.take();
        bench.link_closed(1006);
    }
    assert!(bench.posted(1).contains(&closed(ONE, 1006, false)));
    assert!(bench.posted(2).contains(&closed(ONE, 1006, false)));
    bench.pass(Duration::from_secs(10));
    assert_eq!(dials(&bench), 0);
}

#[test]
fn a_view_that_opens_during_an_outage_waits_for_its_end() {
    let mut bench = shared(RECONNECT);
    bench.link_closed(1012);
    bench.tab(3, ATTACH);
    bench.tab(3, TabMessage::Got { count0: 0, count: 0 });
    bench.take();
    view(&mut bench, 3, "three");
    assert_eq!(bench.posted(3), []);
    bench.pass(Duration::from_secs(1));
    bench.grant_and_open();
    assert!(bench.posted(3).iter().any(is_opened));
}

#[test]
fn a_close_by_the_server_that_is_no_outage_closes_the_views() {
    for code in [1000, 1008, 4000] {
        let mut bench = shared(RECONNECT);
        bench.link_closed(code);
        assert!(bench.posted(1).contains(&closed(ONE, code, true)), "{code}");
    }
}

#[test]
fn the_last_view_that_closes_during_an_outage_ends_it() {
    let mut bench = shared(RECONNECT);
    bench.link_closed(1006);
    for tab in [1, 2] {
        bench.tab(tab, TabMessage::Close { n: 2, socket: ONE, code: 1000, reason: "" });
    }
    assert!(bench.outputs.contains(&Output::ReleaseLinkLock));
    bench.pass(Duration::from_secs(10));
    assert_eq!(dials(&bench), 0);
}

#[test]
fn a_link_lingers_after_its_last_view_and_the_next_view_finds_it() {
    let mut bench = shared(Rules { linger_ms: 5000, ..Rules::default() });
    for tab in [1, 2] {
        bench.tab(tab, TabMessage::Bye);
    }
    bench.pass(Duration::from_secs(4));
    assert!(!closes(&bench));
    bench.tab(3, ATTACH);
    bench.tab(3, TabMessage::Got { count0: 0, count: 0 });
    view(&mut bench, 3, "three");
    assert!(bench.posted(3).iter().any(is_opened));
    bench.pass(Duration::from_secs(60));
    assert!(!closes(&bench), "it has a view");
    bench.tab(3, TabMessage::Bye);
    bench.pass(Duration::from_secs(6));
    assert!(closes(&bench));
}

#[test]
fn a_link_lingers_while_every_tab_is_parked() {
    let mut bench = shared(Rules { linger_ms: 5000, ..Rules::default() });
    for tab in [1, 2] {
        bench.tab(tab, TabMessage::Park);
    }
    assert!(!closes(&bench));
    bench.tab(1, ATTACH);
    bench.pass(Duration::from_secs(6));
    assert!(!closes(&bench), "a tab is back");
    bench.tab(1, TabMessage::Park);
    bench.pass(Duration::from_secs(6));
    assert!(closes(&bench));
    assert!(bench.outputs.contains(&Output::ReleaseLinkLock));
}

#[test]
fn a_reset_closes_every_view_with_1000() {
    let mut bench = shared(RECONNECT);
    bench.input(Input::Reset);
    for tab in [1, 2] {
        let posted = bench.posted(tab);
        let is_reset = |it: &HubMessage| {
            matches!(it, HubMessage::Closed { code: 1000, reason, clean: true, .. }
                if reason == "reset")
        };
        assert!(posted.iter().any(is_reset), "{posted:?}");
    }
    assert!(closes(&bench));
    bench.link_closed(1000);
    bench.pass(Duration::from_secs(10));
    assert_eq!(dials(&bench), 0);
    assert!(bench.hub.tabs() == 2 && bench.outputs.contains(&Output::ReleaseLinkLock));
    assert!(!bench.outputs.contains(&Output::DropTab { tab: TabId(1) }));
}

fn is_closed(message: &HubMessage) -> bool {
    matches!(message, HubMessage::Closed { .. })
}
