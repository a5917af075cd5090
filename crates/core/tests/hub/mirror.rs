//! Mirror mode: one link to any WebSocket server, seen by every view.

use std::time::Duration;

use tabmux_core::hub::{HubMessage, Input, LinkState, Mode, Output, TabMessage};
use tabmux_wire::Payload;

use crate::support::{ATTACH, Bench, ONE, TWO, closed, is_opened, text};

#[test]
fn the_first_view_opens_the_link_once_the_lock_is_held() {
    let mut bench = Bench::new(Mode::Mirror);
    bench.tab(1, ATTACH);
    bench.open(1, ONE);
    assert!(bench.outputs.contains(&Output::RequestLinkLock));
    assert!(!bench.outputs.iter().any(|output| matches!(output, Output::OpenLink { .. })));
    bench.grant_and_open();
    let opened = bench.posted(1).into_iter().find(is_opened);
    let expected = HubMessage::Opened {
        count: 0,
        socket: ONE,
        reused: false,
        protocol: "chat".to_owned(),
        extensions: String::new(),
        credit: None,
    };
    assert_eq!(opened, Some(expected));
}

#[test]
fn a_late_view_opens_at_once_on_the_same_link() {
    let mut bench = Bench::mirrored();
    bench.tab(2, ATTACH);
    bench.open(2, ONE);
    assert!(bench.posted(2).iter().any(is_opened));
    assert!(!bench.take().iter().any(|output| matches!(output, Output::OpenLink { .. })));
}

#[test]
fn every_tab_with_a_view_gets_every_message_once() {
    let mut bench = Bench::mirrored();
    bench.open(1, TWO);
    bench.tab(2, ATTACH);
    bench.open(2, ONE);
    bench.tab(3, ATTACH);
    bench.take();
    bench.link(Payload::Text("hi"));
    let message = HubMessage::Mirror { payload: text("hi") };
    assert_eq!(bench.posted(1), std::slice::from_ref(&message));
    assert_eq!(bench.posted(2), [message]);
    assert_eq!(bench.posted(3), []);
}

#[test]
fn sends_of_all_views_go_out_in_order() {
    let mut bench = Bench::mirrored();
    bench.tab(2, ATTACH);
    bench.open(2, ONE);
    bench.take();
    bench.send(1, ONE, "a");
    bench.send(2, ONE, "b");
    bench.send(1, ONE, "c");
    assert_eq!(bench.sent(), [b"a", b"b", b"c"]);
}

#[test]
fn closing_one_view_leaves_the_link_to_the_others() {
    let mut bench = Bench::mirrored();
    bench.open(1, TWO);
    bench.take();
    bench.close(1, TWO, 3000);
    assert_eq!(bench.posted(1), [closed(TWO, 3000, true)]);
    assert!(!bench.outputs.iter().any(|output| matches!(output, Output::CloseLink { .. })));
}

#[test]
fn the_last_view_closes_the_link_with_its_code_and_hears_the_servers_answer() {
    let mut bench = Bench::mirrored();
    bench.close(1, ONE, 3001);
    let attempt = bench.attempt;
    let order = Output::CloseLink { attempt, code: 3001, reason: String::new() };
    assert!(bench.outputs.contains(&order));
    assert_eq!(bench.posted(1).iter().find(|message| is_closed(message)), None);
    bench.link_closed(3001);
    assert!(bench.posted(1).contains(&closed(ONE, 3001, true)));
    assert!(bench.outputs.contains(&Output::ReleaseLinkLock));
    assert_eq!(bench.hub.state(), LinkState::Idle);
}

#[test]
fn the_servers_close_reaches_every_view() {
    let mut bench = Bench::mirrored();
    bench.open(1, TWO);
    bench.tab(2, ATTACH);
    bench.open(2, ONE);
    bench.take();
    bench.link_closed(4001);
    assert!(bench.posted(1).contains(&closed(ONE, 4001, true)));
    assert!(bench.posted(1).contains(&closed(TWO, 4001, true)));
    assert!(bench.posted(2).contains(&closed(ONE, 4001, true)));
}

#[test]
fn a_connection_that_the_browser_failed_ends_every_view_with_an_error() {
    let mut bench = Bench::mirrored();
    bench.tab(2, ATTACH);
    bench.open(2, ONE);
    bench.take();
    let attempt = bench.attempt;
    bench.input(Input::LinkClosed { attempt, code: 1002, reason: "", clean: false, failed: true });
    for tab in [1, 2] {
        let posted = bench.posted(tab);
        assert!(
            matches!(&posted[0], HubMessage::Error { socket: ONE, message }
                if message.contains("ws://server")),
            "{posted:?}"
        );
        assert_eq!(posted[1], closed(ONE, 1002, false));
    }
}

#[test]
fn a_tab_hears_that_its_question_left_before_it_hears_the_answer() {
    let mut bench = Bench::mirrored();
    bench.send(1, ONE, "question");
    bench.link(Payload::Text("answer"));
    let (sent, answer) =
        (HubMessage::Sent { n: 2 }, HubMessage::Mirror { payload: text("answer") });
    assert_eq!(bench.posted(1), [sent, answer]);
}

#[test]
fn a_tab_whose_question_has_no_answer_hears_within_a_millisecond_that_it_left() {
    let mut bench = Bench::mirrored();
    bench.send(1, ONE, "question");
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.posted(1), [HubMessage::Sent { n: 2 }]);
}

#[test]
fn a_view_that_opens_while_the_link_closes_gets_the_next_one() {
    let mut bench = Bench::mirrored();
    bench.close(1, ONE, 1000);
    bench.open(1, TWO);
    bench.take();
    bench.link_closed(1000);
    assert!(bench.outputs.iter().any(|output| matches!(output, Output::OpenLink { .. })));
    bench.grant_and_open();
    let opened = bench.posted(1).into_iter().find(is_opened);
    assert!(matches!(opened, Some(HubMessage::Opened { socket: TWO, .. })));
}

#[test]
fn a_link_that_cannot_open_fails_its_views_with_an_error_that_names_the_url() {
    let mut bench = Bench::new(Mode::Mirror);
    bench.tab(1, ATTACH);
    bench.open(1, ONE);
    bench.input(Input::LinkLockGranted);
    bench.take();
    bench.link_closed(1006);
    let posted = bench.posted(1);
    assert!(matches!(&posted[0], HubMessage::Error { socket: ONE, message }
        if message.contains("ws://server/tabmux/ws")));
    assert_eq!(posted[1], closed(ONE, 1006, false));
}

#[test]
fn what_was_dialled_without_a_network_is_dialled_again_when_it_is_back() {
    let mut bench = Bench::new(Mode::Mirror);
    bench.tab(1, ATTACH);
    bench.open(1, ONE);
    bench.input(Input::LinkLockGranted);
    bench.take();
    bench.input(Input::NetworkChanged { online: false });
    bench.input(Input::NetworkChanged { online: true });
    let outputs = bench.take();
    let closes = outputs.iter().position(|it| matches!(it, Output::CloseLink { .. }));
    let opens = outputs.iter().position(|it| matches!(it, Output::OpenLink { .. }));
    assert!(closes.is_some() && closes < opens, "{outputs:?}");
}

#[test]
fn an_open_link_stays_when_the_network_is_back() {
    let mut bench = Bench::mirrored();
    bench.take();
    bench.input(Input::NetworkChanged { online: true });
    assert_eq!(bench.take(), []);
}

#[test]
fn the_last_tab_takes_the_link_with_it() {
    let mut bench = Bench::mirrored();
    bench.tab(1, TabMessage::Bye);
    assert!(bench.outputs.iter().any(|output| matches!(output, Output::CloseLink { .. })));
    bench.link_closed(1005);
    assert_eq!(bench.hub.state(), LinkState::Idle);
    assert!(bench.outputs.contains(&Output::ReleaseLinkLock));
}

#[test]
fn when_every_tab_is_parked_the_link_closes_in_the_same_task() {
    let mut bench = Bench::mirrored();
    bench.tab(1, TabMessage::Park);
    assert!(bench.outputs.iter().any(|output| matches!(output, Output::CloseLink { .. })));
    assert!(bench.outputs.contains(&Output::ReleaseLinkLock));
    bench.link_closed(1005);
    bench.take();
    bench.tab(1, ATTACH);
    assert!(bench.posted(1).contains(&closed(ONE, 1005, true)), "the tab hears of it on return");
}

fn is_closed(message: &HubMessage) -> bool {
    matches!(message, HubMessage::Closed { .. })
}

#[test]
fn all_that_was_sent_goes_out_before_the_close() {
    let mut bench = Bench::mirrored();
    for _ in 0..5 {
        bench.send(1, ONE, &"x".repeat(600_000));
    }
    bench.close(1, ONE, 1000);
    let outputs = bench.take();
    let close = outputs.iter().position(|it| matches!(it, Output::CloseLink { code: 1000, .. }));
    let before = &outputs[..close.expect("the link is closed")];
    let sends = before.iter().filter(|output| matches!(output, Output::SendLink { .. })).count();
    assert_eq!(sends, 5);
}

#[test]
fn a_tab_that_parks_while_the_hub_waits_for_the_lock_gets_its_link_on_return() {
    let mut bench = Bench::new(Mode::Mirror);
    bench.tab(1, ATTACH);
    bench.open(1, ONE);
    bench.tab(1, TabMessage::Park);
    bench.take();
    bench.tab(1, ATTACH);
    bench.grant_and_open();
    assert!(bench.posted(1).iter().any(is_opened));
}

#[test]
fn the_last_tab_that_is_not_parked_takes_the_link_with_it() {
    let mut bench = Bench::mirrored();
    bench.tab(2, ATTACH);
    bench.open(2, ONE);
    bench.tab(1, TabMessage::Park);
    bench.take();
    bench.tab(2, TabMessage::Bye);
    assert!(bench.outputs.iter().any(|output| matches!(output, Output::CloseLink { .. })));
    assert!(bench.outputs.contains(&Output::ReleaseLinkLock));
}

#[test]
fn while_every_tab_is_parked_no_link_is_wanted() {
    let mut bench = Bench::new(Mode::Mirror);
    bench.tab(1, ATTACH);
    bench.open(1, ONE);
    bench.input(tabmux_core::hub::Input::LinkLockGranted);
    bench.tab(1, TabMessage::Park);
    bench.take();
    bench.link_closed(1006);
    assert!(!bench.outputs.contains(&Output::RequestLinkLock));
    bench.tab(1, ATTACH);
    bench.grant_and_open();
    assert!(bench.posted(1).iter().any(is_opened));
}

#[test]
fn a_tab_that_attaches_before_it_heard_that_it_begins_anew_is_told_so_again() {
    let mut bench = Bench::new(Mode::Mirror);
    let mut begins_anew = |deaf| {
        (bench.deaf, bench.outputs) = (deaf, Vec::new());
        bench.tab(1, ATTACH);
        let told = bench.all_posted(1);
        told.iter().any(|it| matches!(it, HubMessage::Resume { continues: false, .. }))
    };
    // What the hub said went to a port that the page had closed.
    assert!(begins_anew(true));
    assert!(begins_anew(false));
    assert!(!begins_anew(false), "it has heard so");
}
