//! A browser that logs in as somebody else while its hub has a link.

use std::time::Duration;

use tabmux_core::hub::{
    HubConfig, HubMessage, Input, LinkState, Mode, Output, TabMessage, WakeReason,
};
use tabmux_wire::{HubFrame, HubId, IdentityTag, ServerFrame, TabId, Welcome, WelcomeTail};

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
    // Who comes later waits for one question, and no longer for three.
    bench.pass(SECONDS(1));
    bench.take();
    bench.tab(3, ATTACH);
    bench.tab(2, TabMessage::Whose);
    assert_eq!(questions(&bench), 1);
    who(&mut bench, "");
    assert_eq!((resyncs(&bench, 3), users(&bench, 2)), (1, vec![(true, "ann".to_owned())]));
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

/// The hub of a user, by its names, with tab 1.
fn named(tag: &str, identity: IdentityTag) -> Bench {
    let url = "ws://server/tabmux/ws";
    let config = HubConfig {
        asks_who: true,
        tag: tag.to_owned(),
        ..HubConfig::new(Mode::Mux, HubId(1), url)
    };
    let mut bench = Bench::with(config);
    bench.tab(1, ATTACH);
    bench.grant_and_open();
    bench.take();
    bench.server(&ServerFrame::Welcome(welcome_of(identity)));
    bench
}

/// What a tab was told of whose the link or the browser is.
fn users(bench: &Bench, tab: u64) -> Vec<(bool, String)> {
    let user = |message| match message {
        HubMessage::User { answers, user } => Some((answers, user)),
        _ => None,
    };
    bench.posted(tab).into_iter().filter_map(user).collect()
}

fn is_closed(bench: &Bench) -> bool {
    bench.outputs.iter().any(|output| matches!(output, Output::CloseLink { .. }))
}

fn ann() -> IdentityTag {
    IdentityTag::User("ann".into())
}

fn bob() -> IdentityTag {
    IdentityTag::User("bob".into())
}

/// The link breaks, and the next one is of this identity.
fn redial(bench: &mut Bench, identity: IdentityTag) {
    bench.link_closed(1006);
    bench.pass(SECONDS(1));
    let attempt = bench.attempt;
    bench.input(Input::LinkOpened { attempt, protocol: "", extensions: "" });
    bench.take();
    bench.server(&ServerFrame::Welcome(welcome_of(identity)));
}

#[test]
fn a_tab_hears_whose_the_link_is_before_it_goes_on() {
    let mut bench = Bench::new(Mode::Mux);
    bench.tab(1, ATTACH);
    bench.grant_and_open();
    let hello = bench.sent();
    bench.server(&ServerFrame::Welcome(welcome_of(ann())));
    bench.take();
    bench.answer_attaches(&hello);
    let posted = bench.all_posted(1);
    let at = |wanted: fn(&HubMessage) -> bool| posted.iter().position(wanted).unwrap();
    assert_eq!(users(&bench, 1), [(false, "ann".to_owned())]);
    let user = at(|message| matches!(message, HubMessage::User { .. }));
    assert!(user < at(|message| matches!(message, HubMessage::Resume { .. })));
}

#[test]
fn the_first_welcome_makes_the_hub_take_the_lock_of_its_tag_once() {
    let mut bench = Bench::new(Mode::Mux);
    bench.tab(1, ATTACH);
    bench.grant_and_open();
    bench.take();
    bench.server(&ServerFrame::Welcome(welcome_of(ann())));
    let take = Output::TakeTag { tag: "ann".to_owned() };
    assert!(bench.outputs.contains(&take));
    redial(&mut bench, ann());
    assert!(!bench.outputs.contains(&take), "it has it");
    // A hub whose names hold the tag has that lock for its link.
    let bench = named("ann", ann());
    assert!(!bench.outputs.contains(&take));
    let bench = of(IdentityTag::NoUsers);
    assert!(!bench.outputs.iter().any(|it| matches!(it, Output::TakeTag { .. })));
}

#[test]
fn a_hub_that_suspended_takes_the_lock_of_its_tag_again() {
    let mut bench = of_ann();
    bench.tab(1, TabMessage::Park);
    assert!(bench.outputs.contains(&Output::ReleaseLinkLock));
    bench.take();
    bench.back(1, 0);
    assert!(bench.outputs.contains(&Output::TakeTag { tag: "ann".to_owned() }));
}

#[test]
fn a_hub_whose_tag_another_has_sends_its_tabs_there() {
    let mut bench = of_ann();
    bench.input(Input::TagTaken);
    assert_eq!(elsewhere(&bench, 1).as_deref(), Some("ann"));
    assert!(is_closed(&bench) && bench.hub.tabs() == 0);
    assert!(bench.outputs.contains(&Output::ReleaseLinkLock));
    let lost = |message: &HubMessage| matches!(message, HubMessage::Lost { .. });
    assert!(!bench.posted(1).iter().any(lost), "its session may go on there");
    // Once is enough.
    bench.take();
    bench.input(Input::TagTaken);
    assert_eq!(bench.take(), []);
    // The hub may become anybody's now.
    bench.tab(2, ATTACH);
    bench.connect_by(welcome_of(bob()));
    assert_eq!(bench.hub.tabs(), 1);
}

#[test]
fn a_hub_of_a_tag_sends_its_tabs_to_the_hub_of_anybody_that_has_the_link() {
    let mut bench = Bench::with(HubConfig {
        tag: "ann".to_owned(),
        ..HubConfig::new(Mode::Mux, HubId(1), "ws://server/tabmux/ws")
    });
    bench.tab(1, ATTACH);
    bench.input(Input::TagTaken);
    assert_eq!(elsewhere(&bench, 1).as_deref(), Some(""));
    assert!(bench.hub.tabs() == 0 && bench.hub.poll_timeout().is_none());
}

#[test]
fn a_hub_of_a_tag_serves_nobody_else() {
    for (tag, identity, to) in [
        ("ann", bob(), "bob"),
        ("ann", IdentityTag::Nobody, "nobody."),
        ("nobody.", ann(), "ann"),
        ("refused.", ann(), "ann"),
    ] {
        let bench = named(tag, identity);
        assert_eq!(elsewhere(&bench, 1).as_deref(), Some(to));
        assert!(is_closed(&bench) && bench.hub.tabs() == 0);
    }
    let bench = named("nobody.", IdentityTag::NoUsers);
    assert!(elsewhere(&bench, 1).is_none() && bench.hub.tabs() == 1);
}

#[test]
fn a_hub_of_a_tag_asks_nobody_since_its_tabs_know_whose_it_is() {
    let mut bench = named("ann", ann());
    bench.tab(2, ATTACH);
    assert_eq!((questions(&bench), is_attached(&bench, 2)), (0, true));
}

#[test]
fn after_a_link_of_somebody_else_all_tabs_lose_their_sockets_and_go_there() {
    let mut bench = of_ann();
    bench.tab(2, ATTACH);
    who(&mut bench, "user ann");
    bench.tab(2, ATTACH);
    bench.tab(2, TabMessage::Park);
    redial(&mut bench, bob());
    let posted = bench.posted(1);
    let lost = posted.iter().position(|it| matches!(it, HubMessage::Lost { .. }));
    let gone = posted.iter().position(|it| matches!(it, HubMessage::Elsewhere { .. }));
    assert!(lost.is_some() && lost < gone, "{posted:?}");
    assert_eq!(elsewhere(&bench, 1).as_deref(), Some("bob"));
    // The one in the cache is told nothing, and is a tab that this hub does not know.
    assert_eq!(bench.posted(2), []);
    assert_eq!((bench.hub.tabs(), bench.hub.parked()), (0, 0));
    // The same user's next link changes nothing.
    let mut bench = of_ann();
    redial(&mut bench, ann());
    assert_eq!((elsewhere(&bench, 1), bench.hub.tabs()), (None, 1));
}

#[test]
fn a_tab_of_an_earlier_session_is_asked_about() {
    let mut bench = of_ann();
    let claim = format!("{}1 7", "ab".repeat(32));
    bench.tab(2, TabMessage::Attach { claim: &claim, last0: 0, last: 0 });
    assert_eq!((questions(&bench), is_attached(&bench, 2)), (1, false));
}

#[test]
fn a_tab_that_opens_a_socket_hears_whose_the_browser_is_at_most_once_a_second() {
    let mut bench = of_ann();
    bench.tab(1, TabMessage::Whose);
    assert_eq!(questions(&bench), 1);
    bench.tab(1, TabMessage::Whose);
    who(&mut bench, "user ann");
    assert_eq!(users(&bench, 1), [(true, "ann".to_owned())]);
    bench.take();
    bench.pass(Duration::from_millis(999));
    assert_eq!(questions(&bench), 0);
    bench.pass(Duration::from_millis(1));
    assert_eq!(questions(&bench), 1);
    who(&mut bench, "user bob");
    assert_eq!(users(&bench, 1), [(true, "bob".to_owned())]);
    assert!(elsewhere(&bench, 1).is_none() && bench.hub.tabs() == 1, "what it has stays");
    for (answer, name) in [("nobody", "nobody."), ("refused", "refused.")] {
        bench.pass(SECONDS(1));
        bench.take();
        bench.tab(1, TabMessage::Whose);
        who(&mut bench, answer);
        assert_eq!(users(&bench, 1), [(true, name.to_owned())]);
    }
}

#[test]
fn a_tab_that_asks_while_the_link_breaks_is_told_what_the_next_link_shows() {
    let mut bench = of_ann();
    bench.tab(1, TabMessage::Whose);
    bench.take();
    bench.link_closed(1006);
    assert_eq!(users(&bench, 1), [(true, "ann".to_owned())]);
    bench.tab(1, TabMessage::Whose);
    assert_eq!(users(&bench, 1).len(), 2);
}

#[test]
fn a_tab_that_asked_and_left_is_told_nothing() {
    for last in [TabMessage::Park, TabMessage::Bye] {
        let mut bench = of_ann();
        bench.tab(1, TabMessage::Whose);
        bench.tab(1, last);
        bench.take();
        who(&mut bench, "user bob");
        assert_eq!(bench.posted(1), []);
    }
}

#[test]
fn a_logout_ends_the_session_for_all_tabs_until_one_asks_for_a_link() {
    let mut bench = of_ann();
    bench.tab(2, ATTACH);
    who(&mut bench, "user ann");
    bench.tab(2, ATTACH);
    bench.take();
    bench.tab(1, TabMessage::Logout);
    let sent = bench.sent();
    assert_eq!(HubFrame::decode(sent.last().unwrap()), Ok(HubFrame::End));
    assert!(is_closed(&bench) && bench.outputs.contains(&Output::ReleaseLinkLock));
    for tab in [1, 2] {
        let lost = |message: &HubMessage| matches!(message, HubMessage::Lost { .. });
        assert!(bench.posted(tab).iter().any(lost));
        assert_eq!(bench.states(tab), [LinkState::Refused]);
    }
    bench.take();
    bench.pass(SECONDS(600));
    assert!(!bench.outputs.iter().any(|it| matches!(it, Output::OpenLink { .. })));
    bench.tab(1, TabMessage::Reconnect);
    bench.grant_and_open();
    let hello = bench.sent();
    let Ok(HubFrame::Hello(hello)) = HubFrame::decode(&hello[0]) else { panic!("no HELLO") };
    assert_eq!(hello.resume, None);
}
