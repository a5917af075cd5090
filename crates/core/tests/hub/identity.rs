//! A browser that logs in as somebody else while its hub has a link.

use std::time::Duration;

use tabmux_core::hub::{HubConfig, HubMessage, Input, Mode, Output, TabMessage, WakeReason};
use tabmux_wire::{HubId, IdentityTag, TabId, Welcome, WelcomeTail};

use crate::support::{ATTACH, Bench, welcome};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

fn welcome_of(identity: IdentityTag) -> Welcome {
    Welcome { tail: Some(WelcomeTail { identity, features: vec![] }), ..welcome() }
}

/// A hub with tab 1, whose link is of this identity.
fn of(identity: IdentityTag) -> Bench {
    let url = "ws://server/tabmux/ws";
    let config = HubConfig { asks_who: true, ..HubConfig::new(Mode::Mux, HubId(1), url) };
    let mut bench = Bench::with(config);
    bench.tab(1, ATTACH);
    bench.connect_by(welcome_of(identity));
    bench
}

fn of_ann() -> Bench {
    of(IdentityTag::User("ann".into()))
}

fn who(bench: &mut Bench, text: &str) {
    bench.input(Input::Who { text });
}

/// How often the server was asked since outputs were last taken.
fn questions(bench: &Bench) -> usize {
    bench.outputs.iter().filter(|output| matches!(output, Output::AskWho)).count()
}

fn is_attached(bench: &Bench, tab: u64) -> bool {
    let attached = |message: &HubMessage| matches!(message, HubMessage::Attached { .. });
    bench.posted(tab).iter().any(attached)
}

fn resyncs(bench: &Bench, tab: u64) -> usize {
    bench.posted(tab).iter().filter(|it| **it == HubMessage::Resync).count()
}

/// Where a tab was sent.
fn elsewhere(bench: &Bench, tab: u64) -> Option<String> {
    bench.posted(tab).into_iter().find_map(|message| match message {
        HubMessage::Elsewhere { user } => Some(user),
        _ => None,
    })
}

#[test]
fn a_tab_of_the_same_user_attaches_once_the_server_was_asked() {
    let mut bench = of_ann();
    bench.tab(2, ATTACH);
    assert_eq!((questions(&bench), is_attached(&bench, 2)), (1, false));
    assert!(matches!(&bench.posted(2)[..], [HubMessage::Wait { .. }]), "{:?}", bench.posted(2));
    // What the tab wants it says again later.
    bench.tab(2, TabMessage::Visible { online: true });
    assert_eq!(resyncs(&bench, 2), 0);
    who(&mut bench, "user ann");
    assert_eq!(resyncs(&bench, 2), 1);
    bench.take();
    bench.tab(2, ATTACH);
    assert_eq!((questions(&bench), is_attached(&bench, 2)), (0, true));
}

#[test]
fn a_tab_of_another_user_goes_to_that_users_hub_and_hears_nothing() {
    for (answer, name) in [
        ("user bob", "bob"),
        ("nobody", "nobody."),
        ("no users", "nobody."),
        ("refused", "refused."),
    ] {
        let mut bench = of_ann();
        bench.tab(2, ATTACH);
        bench.take();
        who(&mut bench, answer);
        assert_eq!(elsewhere(&bench, 2).as_deref(), Some(name));
        assert!(bench.outputs.contains(&Output::DropTab { tab: TabId(2) }));
        assert!(!is_attached(&bench, 2) && bench.hub.tabs() == 1);
    }
}

#[test]
fn a_tab_of_a_user_leaves_the_hub_of_nobody_alone() {
    let mut bench = of(IdentityTag::Nobody);
    bench.tab(2, ATTACH);
    who(&mut bench, "user ann");
    assert_eq!(elsewhere(&bench, 2).as_deref(), Some("ann"));
    bench.pass(SECONDS(2));
    bench.tab(3, ATTACH);
    who(&mut bench, "nobody");
    assert_eq!(resyncs(&bench, 3), 1);
}

#[test]
fn one_answer_serves_all_tabs_that_wait_and_the_next_question_comes_after_a_second() {
    let mut bench = of_ann();
    for tab in 2..10 {
        bench.tab(tab, ATTACH);
    }
    who(&mut bench, "user ann");
    assert_eq!((questions(&bench), resyncs(&bench, 2)), (1, 1));
    assert_eq!(resyncs(&bench, 3), 0, "it came when the question was on its way");
    bench.take();
    bench.pass(Duration::from_millis(999));
    assert_eq!(questions(&bench), 0);
    bench.pass(Duration::from_millis(1));
    assert_eq!(questions(&bench), 1);
    who(&mut bench, "user ann");
    for tab in 3..10 {
        assert_eq!(resyncs(&bench, tab), 1);
    }
}

#[test]
fn who_logs_in_right_after_a_question_does_not_get_its_answer() {
    let mut bench = of_ann();
    bench.tab(2, ATTACH);
    who(&mut bench, "user ann");
    bench.take();
    bench.tab(3, ATTACH);
    assert!(!is_attached(&bench, 3));
    bench.pass(SECONDS(1));
    who(&mut bench, "user bob");
    assert_eq!(elsewhere(&bench, 3).as_deref(), Some("bob"));
}

#[test]
fn nobody_is_asked_where_the_server_knows_no_users() {
    let mut bench = of(IdentityTag::NoUsers);
    bench.tab(2, ATTACH);
    assert_eq!((questions(&bench), is_attached(&bench, 2)), (0, true));
    // A server of version 1 knows none.
    let mut bench = Bench::connected();
    bench.tab(2, ATTACH);
    assert_eq!((questions(&bench), is_attached(&bench, 2)), (0, true));
}

#[test]
fn a_tab_that_was_in_the_session_comes_back_without_a_question() {
    let mut bench = of_ann();
    bench.tab(2, ATTACH);
    who(&mut bench, "user ann");
    bench.tab(2, ATTACH);
    let sent = bench.sent();
    bench.answer_attaches(&sent);
    bench.input(Input::TabLockGranted { tab: TabId(2) });
    bench.pass(SECONDS(5));
    bench.take();
    bench.back(2, 0);
    assert_eq!((questions(&bench), is_attached(&bench, 2)), (0, true));
}

#[test]
fn a_server_that_does_not_answer_is_asked_again_and_then_no_more() {
    let mut bench = of_ann();
    bench.tab(2, ATTACH);
    assert_eq!(questions(&bench), 1);
    who(&mut bench, "");
    who(&mut bench, "an answer to nothing counts for nothing");
    bench.take();
    bench.pass(SECONDS(1));
    assert_eq!(questions(&bench), 1);
    for nonsense in ["user ", "user a b", "<html>"] {
        who(&mut bench, nonsense);
    }
    bench.take();
    bench.pass(SECONDS(1));
    assert_eq!(questions(&bench), 1);
    // This one is never answered.
    bench.take();
    bench.pass(SECONDS(9));
    assert_eq!(resyncs(&bench, 2), 0);
    bench.pass(SECONDS(1));
    assert_eq!(resyncs(&bench, 2), 1);
    bench.tab(2, ATTACH);
    assert!(is_attached(&bench, 2), "a page works also where a proxy is in the way");
}

#[test]
fn tabs_that_wait_attach_when_the_link_is_gone() {
    let mut bench = of_ann();
    bench.tab(2, ATTACH);
    bench.take();
    bench.link_closed(1006);
    assert_eq!(resyncs(&bench, 2), 1);
    bench.tab(2, ATTACH);
    assert!(is_attached(&bench, 2), "the next link shows whose the browser is");
    assert_ne!(bench.wakes_for(), Some(WakeReason::Who));
}

#[test]
fn tabs_that_wait_have_a_limit() {
    let mut bench = of_ann();
    for tab in 2..=259 {
        bench.tab(tab, ATTACH);
    }
    assert!(bench.outputs.contains(&Output::DropTab { tab: TabId(3) }));
    who(&mut bench, "user ann");
    bench.pass(SECONDS(1));
    who(&mut bench, "user ann");
    assert_eq!((resyncs(&bench, 2), resyncs(&bench, 3), resyncs(&bench, 259)), (1, 0, 1));
}
