//! A session that outlives its link, and its hub: what the hub claims, counts and acknowledges.

mod claims;
mod living;
mod missed;

use std::time::Duration;

use tabmux_core::hub::{
    HubConfig, HubMessage, Input, LinkState, Mode, Output, SubscriptionId, TabMessage,
};
use tabmux_wire::{
    Alias, ErrorCode, HubFrame, HubId, LaneCount, Payload, Position, RefusedReason, Resume,
    ServerFrame, Subscribed, TabId, Term, TopicId, Welcome, WelcomeTab,
};

use crate::support::{ATTACH, Bench, ONE, alias, data, opened, welcome};

/// A connected hub whose tab 1 has an open socket.
fn with_socket() -> Bench {
    let mut bench = Bench::connected();
    bench.open(1, ONE);
    bench.server(&opened(1, ONE));
    bench.take();
    bench
}

/// The link breaks, and the next one opens.
fn break_link(bench: &mut Bench) {
    bench.link_closed(1006);
    bench.pass(Duration::from_secs(1));
    bench.take();
    bench.grant_and_open();
}

fn attached(tab: u64, next: u64, n_seen: u64) -> ServerFrame<'static> {
    ServerFrame::Attached { tab: TabId(tab), alias: alias(tab), next, n_seen, aside: false }
}

fn resumed(next0: u64, tabs: Vec<WelcomeTab>) -> ServerFrame<'static> {
    ServerFrame::Welcome(Welcome { resumed: true, next0, tabs, ..welcome() })
}

fn listed(tab: u64, parked: bool) -> WelcomeTab {
    WelcomeTab { tab: TabId(tab), alias: alias(tab), parked, aside: false }
}

fn claimed(bench: &Bench) -> Option<Resume> {
    bench.sent().iter().find_map(|bytes| match HubFrame::decode(bytes) {
        Ok(HubFrame::Hello(hello)) => hello.resume,
        _ => None,
    })
}

/// The text of messages posted to a tab, of its sockets and of all tabs.
fn heard(bench: &Bench, tab: u64) -> Vec<String> {
    let posted = bench.posted(tab).into_iter().filter_map(|message| match message {
        HubMessage::Message { payload, .. }
        | HubMessage::Browser { payload, .. }
        | HubMessage::Publication { payload, .. } => Some(payload),
        _ => None,
    });
    posted
        .map(|payload| String::from_utf8_lossy(payload.as_payload().as_bytes()).into_owned())
        .collect()
}

/// What was sent of the tabs' sockets, by number.
fn said(bench: &Bench) -> Vec<u64> {
    let n = |bytes: &Vec<u8>| Some(HubFrame::decode(bytes).ok()?.upstream()?.n);
    bench.sent().iter().filter_map(n).collect()
}

/// What an ACK says of lanes, and who is aside.
type Acknowledged = (Vec<(u32, u64)>, Vec<u32>);

fn acks(bench: &Bench) -> Vec<Acknowledged> {
    let ack = |bytes: &Vec<u8>| match HubFrame::decode(bytes) {
        Ok(HubFrame::Ack { lanes, aside }) => {
            let lanes = lanes.iter().map(|it| (it.lane, it.count)).collect();
            Some((lanes, aside.iter().map(|it| it.0).collect()))
        }
        _ => None,
    };
    bench.sent().iter().filter_map(ack).collect()
}

/// A tab answers the last Check that was posted to it.
fn answer(bench: &mut Bench, tab: u64) {
    let check = bench.posted(tab).into_iter().rev().find_map(|message| match message {
        HubMessage::Check { count0, count } => Some((count0, count)),
        _ => None,
    });
    let (count0, count) = check.expect("the tab was asked");
    bench.tab(tab, TabMessage::Got { count0, count });
}

#[test]
fn after_a_break_the_hub_claims_its_session_and_says_what_it_has() {
    let mut bench = with_socket();
    bench.server(&data(1, ONE, "a"));
    bench.server(&ServerFrame::Message { payload: Payload::Text("all") });
    break_link(&mut bench);
    let Welcome { session, token, term, .. } = welcome();
    assert_eq!(claimed(&bench), Some(Resume { session, token, term, have0: Some(1) }));
    let attach = HubFrame::Attach { tab: TabId(1), last: 0 };
    assert!(bench.sent().contains(&attach.to_bytes()), "the tab has not said that it has them");
}

#[test]
fn a_break_closes_no_socket_and_what_the_server_has_not_seen_is_said_again() {
    let mut bench = with_socket();
    bench.send(1, ONE, "two");
    bench.send(1, ONE, "three");
    break_link(&mut bench);
    bench.send(1, ONE, "four");
    bench.server(&resumed(1, vec![]));
    bench.take();
    bench.server(&attached(1, 2, 2));
    assert_eq!(said(&bench), [3, 4]);
    assert_eq!(heard(&bench, 1), [""; 0]);
    let closed = |message: &HubMessage| matches!(message, HubMessage::Closed { .. });
    assert!(!bench.posted(1).iter().any(closed));
}

#[test]
fn a_line_that_breaks_again_and_again_is_not_waited_for_longer_and_longer() {
    let mut bench = with_socket();
    for _ in 0..20 {
        bench.link_closed(1006);
        bench.take();
        bench.pass(Duration::from_millis(500));
        let dials = |output: &Output| matches!(output, Output::OpenLink { .. });
        assert!(bench.take().iter().any(dials));
        bench.grant_and_open();
        bench.server(&resumed(1, vec![]));
        bench.server(&attached(1, 2, 1));
    }
}

#[test]
fn a_message_out_of_its_turn_goes_no_further() {
    let mut bench = with_socket();
    let send = |n| TabMessage::Send { n, socket: ONE, payload: Payload::Text("x") };
    for n in [3, 1, 2, 2, 3] {
        bench.tab(1, send(n));
    }
    assert_eq!(said(&bench), [2, 3]);
}

#[test]
fn a_tab_shows_its_claim_to_the_next_hub_which_takes_over() {
    let first = with_socket();
    let mut next = Bench::with(HubConfig::new(Mode::Mux, HubId(2), "ws://server/tabmux/ws"));
    next.claims.clone_from(&first.claims);
    next.back(1, 1);
    next.grant_and_open();
    let Welcome { session, token, term, .. } = welcome();
    assert_eq!(claimed(&next), Some(Resume { session, token, term, have0: None }));
    assert!(next.sent().contains(&HubFrame::Attach { tab: TabId(1), last: 1 }.to_bytes()));
    next.server(&resumed(1, vec![listed(1, false)]));
    next.server(&attached(1, 2, 1));
    let goes_on = |message: &HubMessage| {
        matches!(message, HubMessage::Resume { n_seen: 1, continues: true, .. })
    };
    assert!(next.all_posted(1).iter().any(goes_on));
}

#[test]
fn what_is_no_claim_is_as_good_as_none() {
    let mut bench = Bench::new(Mode::Mux);
    bench.tab(1, TabMessage::Attach { claim: "drop table", last0: 7, last: 9 });
    bench.grant_and_open();
    assert_eq!(claimed(&bench), None);
}

#[test]
fn an_acknowledgement_that_was_lost_with_its_link_is_said_again() {
    let mut bench = Bench::connected();
    bench.server(&ServerFrame::Message { payload: Payload::Text("to all") });
    bench.pass(Duration::from_secs(5));
    bench.tab(1, TabMessage::Got { count0: 1, count: 0 });
    assert_eq!(acks(&bench), [(vec![(0, 1)], vec![])]);
    break_link(&mut bench);
    bench.server(&resumed(2, vec![listed(1, false)]));
    bench.server(&attached(1, 1, 0));
    bench.take();
    bench.pass(Duration::from_secs(5));
    assert_eq!(acks(&bench), [(vec![(0, 1)], vec![])]);
}

#[test]
fn what_a_tab_said_before_it_heard_of_a_new_session_is_not_said_in_it() {
    let mut bench = with_socket();
    break_link(&mut bench);
    let session = tabmux_wire::SessionId([9; 16]);
    bench.server(&ServerFrame::Welcome(Welcome { session, ..welcome() }));
    bench.deaf = true;
    bench.server(&attached(1, 1, 0));
    bench.take();
    let (socket, path) = (ONE, "/");
    let open = TabMessage::Open { n: 1, socket, path, protocols: vec![] };
    bench.tab(1, open.clone());
    assert!(bench.sent().is_empty(), "it was on its way when the session was lost");
    bench.tab(1, TabMessage::Got { count0: 0, count: 0 });
    bench.tab(1, open);
    assert_eq!(said(&bench), [1]);
}

#[test]
fn in_a_new_session_each_tab_is_told_that_it_does_not_go_on() {
    let mut bench = with_socket();
    break_link(&mut bench);
    bench.server(&ServerFrame::Welcome(Welcome {
        session: tabmux_wire::SessionId([9; 16]),
        ..welcome()
    }));
    bench.server(&attached(1, 1, 0));
    let lost = |message: &HubMessage| {
        matches!(message, HubMessage::Resume { n_seen: 0, continues: false, .. })
    };
    assert!(bench.all_posted(1).iter().any(lost));
    assert_eq!(said(&bench), [0; 0]);
}

#[test]
fn a_tab_that_was_forgotten_attaches_anew_and_does_not_go_on() {
    let mut bench = with_socket();
    bench.server(&ServerFrame::Error {
        code: ErrorCode::UnknownTab,
        tab: Some(TabId(1)),
        socket: None,
        message: "it left its messages unread",
    });
    assert!(bench.sent().contains(&HubFrame::Attach { tab: TabId(1), last: 0 }.to_bytes()));
    bench.server(&ServerFrame::Attached {
        tab: TabId(1),
        alias: Alias(77),
        next: 1,
        n_seen: 0,
        aside: false,
    });
    let lost =
        |message: &HubMessage| matches!(message, HubMessage::Resume { continues: false, .. });
    assert!(bench.all_posted(1).iter().any(lost));
}

#[test]
fn a_session_that_has_no_link_for_too_long_is_lost_and_not_claimed_again() {
    let mut bench = with_socket();
    bench.link_closed(1006);
    bench.pass(Duration::from_secs(59));
    let lost = |bench: &Bench| {
        bench.posted(1).iter().any(|message| matches!(message, HubMessage::Lost { .. }))
    };
    assert!(!lost(&bench));
    bench.pass(Duration::from_secs(1));
    assert!(lost(&bench));
    bench.pass(Duration::from_secs(60));
    bench.take();
    bench.grant_and_open();
    assert_eq!(claimed(&bench), None);
}

#[test]
fn a_lane_is_not_heard_between_the_question_and_the_answer() {
    let mut bench = with_socket();
    bench.back(1, 1);
    bench.take();
    bench.server(&data(1, ONE, "sent before the server read ATTACH"));
    assert_eq!(heard(&bench, 1), [""; 0]);
    bench.server(&attached(1, 2, 1));
    bench.server(&data(1, ONE, "sent before the server read ATTACH"));
    let counts = bench.all_posted(1).into_iter().filter_map(|message| match message {
        HubMessage::Message { count, .. } => Some(count),
        _ => None,
    });
    assert_eq!(counts.collect::<Vec<_>>(), [2]);
}

#[test]
fn what_the_tabs_have_heard_is_acknowledged_after_a_while() {
    let mut bench = with_socket();
    bench.server(&data(1, ONE, "a"));
    bench.server(&ServerFrame::Message { payload: Payload::Text("all") });
    bench.pass(Duration::from_secs(5));
    assert_eq!(acks(&bench), [], "nothing is acknowledged that a tab may not have");
    answer(&mut bench, 1);
    assert_eq!(acks(&bench), [(vec![(0, 1), (1, 2)], vec![])]);
    bench.take();
    bench.pass(Duration::from_secs(20));
    assert_eq!(acks(&bench), [], "once is enough");
}

#[test]
fn much_is_acknowledged_at_once() {
    let mut bench = with_socket();
    for _ in 0..127 {
        bench.server(&data(1, ONE, "x"));
    }
    answer(&mut bench, 1);
    assert_eq!(acks(&bench), [(vec![(1, 128)], vec![])]);
}

#[test]
fn a_tab_that_does_not_answer_holds_up_its_own_lane_and_is_set_aside() {
    let mut bench = with_socket();
    bench.tab(2, ATTACH);
    let asked = bench.sent();
    bench.answer_attaches(&asked);
    bench.take();
    bench.server(&ServerFrame::Message { payload: Payload::Text("all") });
    bench.server(&data(2, ONE, "for two"));
    bench.pass(Duration::from_secs(5));
    answer(&mut bench, 1);
    assert_eq!(acks(&bench), []);
    bench.pass(Duration::from_secs(5));
    assert_eq!(acks(&bench), [(vec![(0, 1), (1, 1)], vec![2])]);
}

#[test]
fn an_answer_that_nobody_asked_for_is_worth_nothing() {
    let mut bench = with_socket();
    bench.server(&data(1, ONE, "a"));
    bench.tab(1, TabMessage::Got { count0: 900, count: 900 });
    assert_eq!(acks(&bench), []);
    bench.pass(Duration::from_secs(5));
    bench.tab(1, TabMessage::Got { count0: 900, count: 900 });
    assert_eq!(acks(&bench), [(vec![(1, 2)], vec![])], "and no more than there is");
}

#[test]
fn a_tab_is_told_what_the_server_has_of_it() {
    let mut bench = with_socket();
    bench.server(&ServerFrame::Ack { lanes: vec![LaneCount { lane: 1, count: 1 }] });
    assert_eq!(bench.posted(1), [HubMessage::Seen { n: 1 }]);
}

#[test]
fn who_is_fenced_asks_for_the_lock_again_and_comes_back_with_the_new_term() {
    let mut bench = with_socket();
    bench.server(&ServerFrame::Fenced { term: Term(7) });
    assert!(bench.outputs.contains(&Output::ReleaseLinkLock));
    assert_eq!(bench.hub.state(), LinkState::Backoff);
    bench.pass(Duration::from_secs(1));
    assert!(bench.outputs.contains(&Output::RequestLinkLock));
    bench.grant_and_open();
    assert_eq!(claimed(&bench).map(|it| it.term), Some(Term(7)));
}

#[test]
fn who_is_refused_as_stale_comes_back_soon_with_the_term_it_learnt() {
    let mut bench = with_socket();
    break_link(&mut bench);
    let (reason, term, retry_ms, message) = (RefusedReason::Stale, Term(5), 60_000, "stale");
    bench.server(&ServerFrame::Refused { reason, term, retry_ms, message });
    bench.take();
    bench.pass(Duration::from_secs(1));
    bench.grant_and_open();
    assert_eq!(claimed(&bench).map(|it| it.term), Some(Term(5)));
}

#[test]
fn who_is_denied_a_session_goes_on_soon_without_it() {
    let mut bench = with_socket();
    break_link(&mut bench);
    let (reason, term, retry_ms, message) = (RefusedReason::Denied, Term(0), 60_000, "no");
    bench.server(&ServerFrame::Refused { reason, term, retry_ms, message });
    assert!(bench.posted(1).iter().any(|it| matches!(it, HubMessage::Lost { .. })));
    bench.take();
    bench.pass(Duration::from_secs(1));
    bench.grant_and_open();
    assert!(!bench.sent().is_empty(), "HELLO is said");
    assert_eq!(claimed(&bench), None);
}

/// A hub that took over a session with tabs 1 and 2, of which tab 1 has attached.
fn taken_over() -> Bench {
    let mut bench = Bench::with(HubConfig::new(Mode::Mux, HubId(2), "ws://server/tabmux/ws"));
    let first = two_tabs();
    bench.claims.clone_from(&first.claims);
    bench.back(1, 0);
    bench.grant_and_open();
    bench.server(&resumed(1, vec![listed(1, false), listed(2, false)]));
    bench.server(&attached(1, 1, 0));
    bench
}

fn two_tabs() -> Bench {
    let mut bench = Bench::connected();
    bench.tab(2, ATTACH);
    let asked = bench.sent();
    bench.answer_attaches(&asked);
    bench.take();
    bench
}

#[test]
fn a_listed_tab_that_is_dead_is_told_to_be_gone() {
    let mut bench = taken_over();
    assert!(bench.outputs.contains(&Output::WatchTab { tab: TabId(2) }));
    bench.take();
    bench.pass(Duration::from_secs(20));
    let gone = HubFrame::Gone { tab: TabId(2) }.to_bytes();
    assert!(!bench.sent().contains(&gone), "it may be frozen");
    bench.input(Input::TabLockGranted { tab: TabId(2) });
    bench.pass(Duration::from_millis(500));
    assert!(bench.sent().contains(&gone));
}

#[test]
fn a_listed_tab_that_attaches_late_hears_what_came_and_until_then_nothing_is_acknowledged() {
    let mut bench = taken_over();
    for text in ["one", "two"] {
        bench.server(&ServerFrame::Message { payload: Payload::Text(text) });
    }
    bench.pass(Duration::from_secs(5));
    answer(&mut bench, 1);
    assert_eq!(acks(&bench), []);
    let claim = bench.claims[&2].clone();
    bench.tab(2, TabMessage::Attach { claim: &claim, last0: 1, last: 0 });
    assert_eq!(heard(&bench, 2), ["two"], "it had the first");
}

#[test]
fn a_hub_that_only_awaits_tabs_lets_go_since_they_may_be_at_another() {
    let mut bench = taken_over();
    bench.tab(1, TabMessage::Bye);
    bench.pass(Duration::from_millis(1_900));
    assert!(!bench.outputs.contains(&Output::ReleaseLinkLock));
    bench.pass(Duration::from_millis(200));
    assert!(bench.outputs.contains(&Output::ReleaseLinkLock));
    bench.take();
    bench.back(2, 0);
    bench.grant_and_open();
    assert_eq!(claimed(&bench).map(|it| it.session), Some(welcome().session));
}

#[test]
fn a_tab_that_another_hub_set_aside_is_told_that_it_missed_something() {
    for early in [true, false] {
        let mut bench = Bench::with(HubConfig::new(Mode::Mux, HubId(2), "ws://server/tabmux/ws"));
        bench.claims = two_tabs().claims;
        bench.back(if early { 2 } else { 1 }, 0);
        bench.grant_and_open();
        let aside = WelcomeTab { aside: true, ..listed(2, false) };
        bench.server(&resumed(1, vec![listed(1, false), aside]));
        bench.back(if early { 1 } else { 2 }, 0);
        let missed = |tab| bench.posted(tab).contains(&HubMessage::BrowserGap);
        assert_eq!((missed(1), missed(2)), (false, true));
    }
}

#[test]
fn a_listed_tab_that_is_parked_holds_up_nothing() {
    let mut bench = Bench::with(HubConfig::new(Mode::Mux, HubId(2), "ws://server/tabmux/ws"));
    bench.claims = two_tabs().claims;
    bench.back(1, 0);
    bench.grant_and_open();
    bench.server(&resumed(1, vec![listed(1, false), listed(2, true)]));
    bench.server(&attached(1, 1, 0));
    bench.server(&ServerFrame::Message { payload: Payload::Text("all") });
    bench.pass(Duration::from_secs(5));
    answer(&mut bench, 1);
    assert_eq!(acks(&bench), [(vec![(0, 1)], vec![2])]);
}

#[test]
fn a_tab_that_parked_while_there_was_no_link_is_parked_at_the_server_too() {
    let mut bench = two_tabs();
    bench.link_closed(1006);
    bench.tab(2, TabMessage::Park);
    bench.pass(Duration::from_secs(1));
    bench.grant_and_open();
    bench.server(&resumed(1, vec![listed(1, false), listed(2, false)]));
    assert!(bench.sent().contains(&HubFrame::Park { tab: TabId(2) }.to_bytes()));
}

#[test]
fn a_topic_of_a_session_that_was_taken_over_goes_on_from_where_each_tab_left_it() {
    let mut bench = taken_over();
    let at = |offset| Position { epoch: 7, offset };
    bench.server(&ServerFrame::Subscribed(Subscribed {
        request: 0,
        topic: TopicId(3),
        recovered: true,
        position: at(5),
        name: "prices",
    }));
    let subscribe = |since| TabMessage::Subscribe {
        subscription: tabmux_core::hub::SubscriptionId(1),
        name: "prices",
        since: Some(at(since)),
    };
    bench.tab(1, subscribe(6));
    for offset in [6, 7] {
        let payload = if offset == 6 { "six" } else { "seven" };
        bench.server(&ServerFrame::Publication {
            topic: TopicId(3),
            position: at(offset),
            previous: offset - 1,
            payload: Payload::Text(payload),
        });
    }
    assert_eq!(heard(&bench, 1), ["seven"], "it was ahead");
    bench.back(2, 0);
    bench.tab(2, subscribe(5));
    assert_eq!(heard(&bench, 2), ["six", "seven"], "it came late");
    let gap = |message: &HubMessage| matches!(message, HubMessage::Gap { .. });
    assert!(!bench.posted(1).iter().chain(&bench.posted(2)).any(gap));
    let asked = |bytes: &Vec<u8>| {
        matches!(
            HubFrame::decode(bytes),
            Ok(HubFrame::Subscribe { .. } | HubFrame::Unsubscribe { .. })
        )
    };
    assert!(!bench.sent().iter().any(asked));
}

#[test]
fn a_topic_of_the_session_that_no_tab_wants_is_let_go() {
    let mut bench = with_socket();
    break_link(&mut bench);
    bench.server(&resumed(1, vec![]));
    let subscribed = Subscribed {
        request: 0,
        topic: TopicId(3),
        recovered: true,
        position: Position { epoch: 7, offset: 5 },
        name: "prices",
    };
    bench.server(&ServerFrame::Subscribed(subscribed));
    assert!(bench.sent().contains(&HubFrame::Unsubscribe { topic: "prices" }.to_bytes()));
}

#[test]
fn a_topic_is_let_go_whose_tab_leaves_while_the_server_tells_what_the_session_has() {
    let mut bench = two_tabs();
    let (subscription, name) = (SubscriptionId(1), "prices");
    bench.tab(2, TabMessage::Subscribe { subscription, name, since: None });
    break_link(&mut bench);
    bench.server(&resumed(1, vec![listed(1, false), listed(2, false)]));
    bench.server(&ServerFrame::Subscribed(Subscribed {
        request: 0,
        topic: TopicId(3),
        recovered: true,
        position: Position { epoch: 7, offset: 5 },
        name,
    }));
    bench.take();
    bench.tab(2, TabMessage::Bye);
    assert!(bench.sent().contains(&HubFrame::Unsubscribe { topic: name }.to_bytes()));
}
