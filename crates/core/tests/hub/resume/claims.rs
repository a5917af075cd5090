//! Which session a hub claims, if its tabs show several, or one that they never had a part in.

use std::time::Duration;

use tabmux_core::hub::{
    HubConfig, HubMessage, Input, LinkState, Mode, Output, TabMessage, WakeReason,
};
use tabmux_wire::{
    ErrorCode, HubFrame, HubId, Payload, RefusedReason, Resume, ServerFrame, SessionId, TabId,
    Term, Token, Welcome,
};

use super::{attached, claimed, heard, listed, resumed, two_tabs};
use crate::support::{ATTACH, Bench, welcome};

/// Another hub than that of `two_tabs`, at which its tabs may attach.
fn another_hub() -> Bench {
    let mut bench = Bench::with(HubConfig::new(Mode::Mux, HubId(2), "ws://server/tabmux/ws"));
    bench.claims = two_tabs().claims;
    bench
}

/// What a tab of `two_tabs` leaves where others find it.
fn left(bench: &Bench) -> String {
    let (found, _) = bench.claims[&1].split_once(' ').expect("a claim with an alias");
    found.to_owned()
}

/// A tab attaches which has found this.
fn finds(bench: &mut Bench, tab: u64, claim: &str) {
    bench.tab(tab, TabMessage::Attach { claim, last0: 0, last: 0 });
}

/// A claim of a session that is not the one of `two_tabs`.
fn of_another_session(alias: &str) -> String {
    format!("{}{}1{alias}", "9".repeat(32), "8".repeat(32))
}

fn session_claimed(bench: &Bench) -> Option<SessionId> {
    claimed(bench).map(|resume| resume.session)
}

fn is_lost(message: &HubMessage) -> bool {
    matches!(message, HubMessage::Lost { .. } | HubMessage::BrowserGap)
}

#[test]
fn a_session_that_a_new_tab_finds_goes_on_for_those_who_had_it() {
    let mut bench = another_hub();
    let found = left(&bench);
    finds(&mut bench, 3, &found);
    bench.grant_and_open();
    let Welcome { session, token, term, .. } = welcome();
    assert_eq!(claimed(&bench), Some(Resume { session, token, term, have0: None }));
    bench.server(&resumed(1, vec![listed(1, false), listed(2, false)]));
    bench.server(&ServerFrame::Message { payload: Payload::Text("before it was there") });
    bench.server(&attached(3, 1, 0));
    bench.server(&ServerFrame::Message { payload: Payload::Text("to all") });
    bench.tab(4, ATTACH);
    bench.server(&attached(4, 1, 0));
    assert_eq!((heard(&bench, 3), heard(&bench, 4)), (vec!["to all".to_owned()], vec![]));
    let begins = |message: &HubMessage| {
        matches!(message, HubMessage::Resume { continues: false, count0: 1, .. })
    };
    assert!(bench.all_posted(3).iter().any(begins));
    assert!(!bench.posted(3).iter().any(is_lost));
    // They were frozen all the while.
    bench.back(1, 0);
    bench.server(&attached(1, 2, 1));
    assert_eq!(heard(&bench, 1), ["before it was there", "to all"]);
    let goes_on =
        |message: &HubMessage| matches!(message, HubMessage::Resume { continues: true, .. });
    assert!(bench.all_posted(1).iter().any(goes_on));
}

#[test]
fn a_session_that_is_found_and_over_is_lost_for_nobody() {
    let mut bench = another_hub();
    let found = left(&bench);
    finds(&mut bench, 3, &found);
    bench.grant_and_open();
    bench.server(&ServerFrame::Welcome(Welcome { session: SessionId([9; 16]), ..welcome() }));
    bench.server(&attached(3, 1, 0));
    assert_eq!(bench.hub.state(), LinkState::Connected);
    assert!(!bench.posted(3).iter().any(is_lost));
}

#[test]
fn a_session_that_is_found_and_is_another_users_costs_a_dial_and_no_wait() {
    let mut bench = another_hub();
    let found = left(&bench);
    finds(&mut bench, 3, &found);
    bench.grant_and_open();
    let denied = ServerFrame::Refused {
        reason: RefusedReason::Denied,
        term: Term(0),
        retry_ms: 5000,
        message: "the user is another one",
    };
    bench.server(&denied);
    assert!(bench.outputs.iter().any(|it| matches!(it, Output::CloseLink { .. })));
    let states = bench.states(3);
    assert!(!states.contains(&LinkState::Backoff), "sockets would fail: {states:?}");
    assert!(!bench.posted(3).iter().any(is_lost));
    bench.take();
    bench.grant_and_open();
    assert_eq!(claimed(&bench), None);
    assert!(!bench.sent().is_empty(), "HELLO is said");
    // Once: who is denied without a claim has to wait.
    bench.server(&denied);
    assert_eq!(bench.hub.state(), LinkState::Backoff);
}

#[test]
fn a_session_that_is_found_with_an_old_term_costs_a_dial_and_no_wait() {
    let stale = ServerFrame::Refused {
        reason: RefusedReason::Stale,
        term: Term(9),
        retry_ms: 5000,
        message: "another hub had it since",
    };
    let mut bench = another_hub();
    let found = left(&bench);
    finds(&mut bench, 3, &found);
    bench.grant_and_open();
    bench.server(&stale);
    assert!(!bench.states(3).contains(&LinkState::Backoff), "sockets would fail");
    bench.take();
    bench.grant_and_open();
    assert_eq!(claimed(&bench).map(|resume| resume.term), Some(Term(9)));
    // A server that says so again is not to be dialled as fast as it answers.
    bench.server(&stale);
    assert_eq!(bench.hub.state(), LinkState::Backoff);
    // Who had it before gives way to another hub.
    let mut bench = another_hub();
    bench.back(1, 0);
    bench.grant_and_open();
    bench.server(&stale);
    assert_eq!(bench.hub.state(), LinkState::Backoff);
}

#[test]
fn what_a_tab_has_is_claimed_rather_than_what_another_found() {
    let found = of_another_session("");
    for first in [1, 3] {
        let mut bench = another_hub();
        for tab in [first, 4 - first] {
            if tab == 1 {
                bench.back(1, 0);
            } else {
                finds(&mut bench, tab, &found);
            }
        }
        bench.grant_and_open();
        assert_eq!(session_claimed(&bench), Some(welcome().session), "tab {first} is first");
    }
    // Of two that tabs have, the first.
    let mut bench = another_hub();
    bench.claims.insert(3, of_another_session(" 7"));
    bench.back(3, 0);
    bench.back(1, 0);
    bench.grant_and_open();
    assert_eq!(session_claimed(&bench), Some(SessionId([0x99; 16])));
    assert_eq!(claimed(&bench).map(|resume| resume.token), Some(Token([0x88; 16])));
}

#[test]
fn of_the_terms_that_tabs_know_the_newest_is_claimed() {
    // Behind the 64 digits of session and token.
    let bench = another_hub();
    let (session, rest) = bench.claims[&2].split_at(64);
    let (term, alias) = rest.split_once(' ').expect("a claim with an alias");
    let newer = term.parse::<u64>().unwrap() + 1;
    for later in [format!("{session}{newer} {alias}"), format!("{session}{newer}")] {
        for newest_first in [false, true] {
            let mut bench = another_hub();
            bench.claims.insert(2, later.clone());
            for tab in if newest_first { [2, 1] } else { [1, 2] } {
                bench.back(tab, 0);
            }
            bench.grant_and_open();
            assert_eq!(claimed(&bench).map(|resume| resume.term), Some(Term(newer)));
        }
    }
}

/// The server has no place for a tab.
fn no_place(bench: &mut Bench, tab: u64) {
    bench.take();
    let (code, tab, message) = (ErrorCode::TabLimit, Some(TabId(tab)), "2 tabs at most");
    bench.server(&ServerFrame::Error { code, tab, socket: None, message });
}

fn is_asked_for(bench: &Bench, tab: u64) -> bool {
    let frame = HubFrame::Attach { tab: TabId(tab), last: 0 };
    bench.sent().contains(&frame.to_bytes())
}

fn is_refused(message: &HubMessage) -> bool {
    matches!(message, HubMessage::State { state: LinkState::Full, .. })
}

#[test]
fn a_new_tab_has_the_place_of_those_that_died_with_the_browser() {
    let mut bench = another_hub();
    let found = left(&bench);
    finds(&mut bench, 3, &found);
    bench.grant_and_open();
    bench.server(&resumed(1, vec![listed(1, false), listed(2, false)]));
    no_place(&mut bench, 3);
    assert_eq!(bench.posted(3), [], "they may be dead");
    // The one that lives comes, the other one does not.
    bench.back(1, 0);
    bench.server(&attached(1, 1, 0));
    bench.take();
    bench.input(Input::TabLockGranted { tab: TabId(2) });
    bench.pass(Duration::from_millis(500));
    assert!(is_asked_for(&bench, 3));
    assert!(!is_asked_for(&bench, 1), "it has its place");
    bench.server(&attached(3, 1, 0));
    assert!(!bench.all_posted(3).iter().any(is_refused));
    let begins = |message: &HubMessage| matches!(message, HubMessage::Resume { .. });
    assert!(bench.all_posted(3).iter().any(begins));
}

#[test]
fn a_new_tab_is_refused_once_all_that_have_its_place_are_back() {
    let mut bench = another_hub();
    let found = left(&bench);
    finds(&mut bench, 3, &found);
    bench.grant_and_open();
    bench.server(&resumed(1, vec![listed(1, false), listed(2, false)]));
    no_place(&mut bench, 3);
    for tab in [1, 2] {
        assert!(!is_asked_for(&bench, 3));
        bench.back(tab, 0);
    }
    assert!(is_asked_for(&bench, 3));
    no_place(&mut bench, 3);
    assert!(bench.posted(3).iter().any(is_refused));
}

#[test]
fn a_new_tab_is_told_within_two_seconds_that_there_is_no_room() {
    let mut bench = another_hub();
    let found = left(&bench);
    finds(&mut bench, 3, &found);
    bench.grant_and_open();
    bench.server(&resumed(1, vec![listed(1, false), listed(2, false)]));
    no_place(&mut bench, 3);
    assert_eq!(bench.wakes_for(), Some(WakeReason::NoRoom));
    bench.pass(Duration::from_millis(1500));
    assert!(bench.posted(3).iter().any(is_refused));
}

/// The server says WELCOME, to a new session.
fn new_session(bench: &mut Bench) {
    let session = SessionId([0x77; 16]);
    bench.server(&ServerFrame::Welcome(Welcome { session, ..welcome() }));
}

#[test]
fn if_what_is_claimed_is_over_what_another_tab_has_is_claimed_and_goes_on() {
    let mut bench = another_hub();
    bench.claims.insert(3, of_another_session(" 7"));
    bench.back(3, 0);
    bench.back(1, 0);
    bench.grant_and_open();
    assert_eq!(session_claimed(&bench), Some(SessionId([0x99; 16])));
    bench.take();
    new_session(&mut bench);
    assert!(!bench.states(1).contains(&LinkState::Backoff), "sockets would fail");
    bench.grant_and_open();
    assert_eq!(session_claimed(&bench), Some(welcome().session));
    bench.server(&resumed(1, vec![listed(1, false), listed(2, false)]));
    bench.server(&attached(1, 1, 0));
    assert!(!bench.all_posted(1).iter().any(is_lost));
}

#[test]
fn what_a_tab_found_is_claimed_if_its_own_session_is_over_or_denied() {
    for denied in [false, true] {
        let mut bench = another_hub();
        let claim = format!("{},{}", of_another_session(" 7"), left(&bench));
        finds(&mut bench, 3, &claim);
        bench.grant_and_open();
        assert_eq!(session_claimed(&bench), Some(SessionId([0x99; 16])));
        bench.take();
        if denied {
            let (reason, term, message) = (RefusedReason::Denied, Term(0), "no");
            bench.server(&ServerFrame::Refused { reason, term, retry_ms: 60_000, message });
        } else {
            new_session(&mut bench);
        }
        bench.grant_and_open();
        assert_eq!(session_claimed(&bench), Some(welcome().session));
    }
}

#[test]
fn a_new_session_is_taken_once_all_that_tabs_have_shown_are_over() {
    let mut bench = another_hub();
    bench.claims.insert(3, of_another_session(" 7"));
    bench.back(3, 0);
    bench.back(1, 0);
    for _ in 0..2 {
        assert_ne!(bench.hub.state(), LinkState::Connected);
        bench.grant_and_open();
        new_session(&mut bench);
    }
    assert_eq!(bench.hub.state(), LinkState::Connected);
}

#[test]
fn what_another_tab_has_is_tried_before_what_one_found() {
    let mut bench = another_hub();
    let found = of_another_session("");
    bench.claims.insert(3, format!("{}{}1 7,{found}", "6".repeat(32), "5".repeat(32)));
    let own = format!("{},{found}", bench.claims[&1]);
    bench.claims.insert(1, own);
    bench.back(3, 0);
    bench.back(1, 0);
    bench.grant_and_open();
    assert_eq!(session_claimed(&bench), Some(SessionId([0x66; 16])));
    bench.take();
    new_session(&mut bench);
    bench.grant_and_open();
    assert_eq!(session_claimed(&bench), Some(welcome().session));
}

#[test]
fn no_more_than_nine_sessions_are_tried() {
    let mut bench = another_hub();
    for tab in 10..30 {
        let claim = format!("{tab}{}{}1 1", "9".repeat(30), "8".repeat(32));
        finds(&mut bench, tab, &claim);
    }
    let mut tried = 0;
    while bench.hub.state() != LinkState::Connected {
        bench.grant_and_open();
        new_session(&mut bench);
        tried += 1;
    }
    assert_eq!(tried, 9);
}
