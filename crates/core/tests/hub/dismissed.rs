//! Messages to one tab, and tabs that the application ends.

use std::time::Duration;

use tabmux_core::hub::{HubMessage, LinkState, SubscriptionId, TabMessage, WakeReason};
use tabmux_wire::{
    Audience, Dismissed, HubFrame, Payload, Position, ServerFrame, Subscribed, TabId, TopicId,
    WelcomeTab,
};

use crate::support::{ATTACH, Bench, ONE, TWO, alias, data, is_opened, opened, text, welcome};

/// Two tabs with an open socket each.
fn two_tabs() -> Bench {
    let mut bench = Bench::connected();
    bench.tab(2, ATTACH);
    let sent = bench.sent();
    bench.answer_attaches(&sent);
    for tab in [1, 2] {
        bench.open(tab, ONE);
        bench.server(&opened(tab, ONE));
    }
    bench.take();
    bench
}

fn direct(lane: u32, audience: Audience, text: &str) -> ServerFrame<'_> {
    ServerFrame::Direct { lane, audience, payload: Payload::Text(text) }
}

fn dismiss(bench: &mut Bench, tab: u64, retry_ms: Option<u64>) {
    let (tab, message) = (TabId(tab), "moderated");
    bench.server(&ServerFrame::Dismissed(Dismissed { tab, retry_ms, message }));
}

/// Returns true if the server was asked for the tab.
fn asked_for(bench: &Bench, tab: u64) -> bool {
    let tab = TabId(tab);
    bench.sent().iter().any(|bytes| match HubFrame::decode(bytes) {
        Ok(HubFrame::Attach { tab: asked, .. }) => asked == tab,
        _ => false,
    })
}

/// Asserts what a tab was told: that it is ended in this state, and then that all is lost.
fn assert_told(bench: &Bench, tab: u64, wanted: LinkState) {
    let posted = bench.posted(tab);
    let [HubMessage::State { state, reason, .. }, HubMessage::Lost { reason: lost }] = &posted[..]
    else {
        panic!("{posted:?}")
    };
    assert_eq!((*state, lost), (wanted, reason));
    assert!(reason.contains("moderated"), "{reason}");
}

#[test]
fn a_message_to_a_tab_is_posted_to_it_alone_at_its_place_in_the_lane() {
    let mut bench = two_tabs();
    bench.server(&direct(2, Audience::Tab, "for you"));
    let direct = HubMessage::Direct { count: 2, payload: text("for you") };
    assert_eq!(bench.all_posted(2), [direct]);
    assert_eq!(bench.all_posted(1), []);
    bench.take();
    bench.server(&data(2, ONE, "next"));
    let next = HubMessage::Message { socket: ONE, count: 3, payload: text("next") };
    assert_eq!(bench.all_posted(2), [next]);
}

#[test]
fn a_message_to_a_user_or_a_browser_is_posted_to_all_tabs() {
    let mut bench = two_tabs();
    for audience in [Audience::User, Audience::Browser] {
        bench.server(&direct(0, audience, "all"));
        let message = HubMessage::Browser { count0: 0, payload: text("all") };
        for tab in [1, 2] {
            assert_eq!(bench.posted(tab), std::slice::from_ref(&message));
        }
        bench.take();
    }
}

#[test]
fn a_message_to_all_that_names_its_audience_reaches_a_tab_that_attaches_later() {
    let mut bench = two_tabs();
    bench.link_closed(1006);
    bench.pass(Duration::from_secs(1));
    bench.grant_and_open();
    let listed =
        |tab| WelcomeTab { tab: TabId(tab), alias: alias(tab), parked: false, aside: false };
    let tabs = [1, 2, 3].map(listed).to_vec();
    bench.server(&ServerFrame::Welcome(tabmux_wire::Welcome { resumed: true, tabs, ..welcome() }));
    bench.server(&direct(0, Audience::Browser, "all"));
    let claim = bench.claims[&2].replace(" 2", " 3");
    bench.take();
    bench.tab(3, TabMessage::Attach { claim: &claim, last0: 0, last: 0 });
    assert!(bench.posted(3).contains(&HubMessage::Browser { count0: 0, payload: text("all") }));
}

#[test]
fn a_tab_that_is_ended_for_good_is_told_why_and_never_asked_for_again() {
    let mut bench = two_tabs();
    dismiss(&mut bench, 2, None);
    assert_told(&bench, 2, LinkState::Refused);
    assert_eq!(bench.posted(1), []);
    bench.take();
    // What it says is said to nobody.
    bench.open(2, TWO);
    assert!(bench.sent().is_empty());
    // Other news of the link changes nothing for it, nor does another link.
    bench.link_closed(1006);
    assert_eq!(bench.states(2), [LinkState::Refused]);
    bench.take();
    bench.pass(Duration::from_secs(1));
    bench.grant_and_open();
    assert!(asked_for(&bench, 1) && !asked_for(&bench, 2));
    let hello = bench.sent();
    bench.server(&ServerFrame::Welcome(welcome()));
    bench.answer_attaches(&hello);
    // Nor does it help to attach again through another port, with what it had.
    bench.take();
    let claim = bench.claims[&2].clone();
    bench.tab(2, TabMessage::Attach { claim: &claim, last0: 0, last: 1 });
    let posted = bench.posted(2);
    let attached = HubMessage::Attached { state: LinkState::Refused, tabs: 2 };
    assert!(posted.contains(&attached), "{posted:?}");
    assert!(posted.iter().any(|it| matches!(it, HubMessage::Lost { .. })), "{posted:?}");
    assert!(!asked_for(&bench, 2));
    bench.take();
    bench.server(&ServerFrame::Message { payload: Payload::Text("all") });
    assert_eq!(bench.posted(1).len(), 1);
    assert_eq!(bench.posted(2), []);
    // The page has closed all that it had, and begins anew.
    bench.tab(2, TabMessage::Bye);
    bench.tab(2, ATTACH);
    assert!(asked_for(&bench, 2));
}

#[test]
fn a_tab_that_is_ended_for_a_while_comes_back_after_it_and_begins_anew() {
    let mut bench = two_tabs();
    dismiss(&mut bench, 2, Some(60_000));
    assert_told(&bench, 2, LinkState::Full);
    bench.take();
    bench.server(&ServerFrame::Message { payload: Payload::Text("all") });
    assert_eq!(bench.posted(2), []);
    // As a page does that has lost its session.
    bench.claims.remove(&2);
    bench.sleep(Duration::from_millis(59_999));
    assert!(!asked_for(&bench, 2));
    bench.sleep(Duration::from_millis(1));
    assert_eq!(bench.states(2), [LinkState::Connected]);
    assert!(asked_for(&bench, 2));
    let (tab, alias) = (TabId(2), alias(9));
    bench.server(&ServerFrame::Attached { tab, alias, next: 1, n_seen: 0, aside: false });
    let anew =
        |it: &HubMessage| matches!(it, HubMessage::Resume { continues: false, count0: 1, .. });
    assert!(bench.all_posted(2).iter().any(anew));
    bench.take();
    let socket = TWO;
    bench.server(&ServerFrame::Opened { tab: alias, socket, credit: 1, protocol: "" });
    assert!(bench.posted(2).iter().any(is_opened));
}

#[test]
fn the_hub_wakes_for_a_tab_that_may_come_back_also_without_a_link() {
    let mut bench = two_tabs();
    dismiss(&mut bench, 2, Some(1000));
    assert_eq!(bench.wakes_for(), Some(WakeReason::Dismissed));
    bench.link_closed(1006);
    bench.take();
    bench.sleep(Duration::from_secs(1));
    assert!(bench.states(2).iter().all(|state| *state != LinkState::Full));
    bench.grant_and_open();
    assert!(asked_for(&bench, 2));
}

#[test]
fn a_wait_that_a_server_asks_for_has_a_limit() {
    let mut bench = two_tabs();
    dismiss(&mut bench, 2, Some(u64::MAX));
    bench.take();
    bench.sleep(Duration::from_secs(24 * 3600));
    assert!(asked_for(&bench, 2));
}

#[test]
fn a_tab_that_was_asked_for_before_the_server_ended_it_is_given_up_again() {
    let mut bench = two_tabs();
    bench.back(2, 1);
    bench.take();
    dismiss(&mut bench, 2, None);
    bench.take();
    let (tab, alias) = (TabId(2), alias(9));
    bench.server(&ServerFrame::Attached { tab, alias, next: 1, n_seen: 0, aside: false });
    assert_eq!(bench.sent(), [HubFrame::Gone { tab }.to_bytes()]);
    assert_eq!(bench.all_posted(2), []);
}

#[test]
fn a_tab_that_is_ended_hears_no_topic_until_it_is_back() {
    let mut bench = two_tabs();
    let (one, two) = (SubscriptionId(5), SubscriptionId(6));
    let since = None;
    bench.tab(2, TabMessage::Subscribe { subscription: one, name: "prices", since });
    let at = |offset| Position { epoch: 1, offset };
    bench.server(&ServerFrame::Subscribed(Subscribed {
        request: 1,
        topic: TopicId(1),
        name: "prices",
        position: at(1),
        recovered: false,
    }));
    dismiss(&mut bench, 2, Some(1000));
    let unsubscribe = HubFrame::Unsubscribe { topic: "prices" }.to_bytes();
    assert!(bench.sent().contains(&unsubscribe));
    bench.take();
    bench.tab(2, TabMessage::Subscribe { subscription: two, name: "news", since });
    bench.tab(2, TabMessage::Subscribe { subscription: one, name: "prices", since: Some(at(1)) });
    assert!(bench.sent().is_empty() && bench.posted(2).is_empty());
    bench.sleep(Duration::from_secs(1));
    let topics = bench.sent().into_iter().filter_map(|bytes| match HubFrame::decode(&bytes) {
        Ok(HubFrame::Subscribe { topic, .. }) => Some(topic.to_owned()),
        _ => None,
    });
    assert_eq!(topics.collect::<Vec<_>>(), ["prices", "news"]);
}

#[test]
fn a_server_that_ends_a_tab_that_is_not_there_changes_nothing() {
    let mut bench = two_tabs();
    dismiss(&mut bench, 7, None);
    assert!(bench.take().is_empty());
}
