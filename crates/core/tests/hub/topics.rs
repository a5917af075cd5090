//! Topics: one subscription at the server for all tabs that want it.

use std::time::Duration;

use tabmux_core::hub::{
    Event, HubConfig, HubMessage, Input, Mode, Output, SubscriptionId, TabMessage, WakeReason,
};
use tabmux_wire::{
    HubFrame, HubId, Payload, Position, ServerFrame, Subscribed, TabId, TopicId, Unsubscribed,
    UnsubscribedReason, Welcome,
};

use crate::support::{ATTACH, Bench, text};

const FIRST: SubscriptionId = SubscriptionId(1);
const SECOND: SubscriptionId = SubscriptionId(2);

fn at(offset: u64) -> Position {
    Position { epoch: 7, offset }
}

/// What a tab asks of topics, and what a server says of them.
impl Bench {
    fn subscribe(&mut self, tab: u64, subscription: SubscriptionId, name: &str) {
        self.subscribe_since(tab, subscription, name, None);
    }

    fn subscribe_since(
        &mut self,
        tab: u64,
        subscription: SubscriptionId,
        name: &str,
        since: Option<Position>,
    ) {
        self.tab(tab, TabMessage::Subscribe { subscription, name, since });
    }

    fn unsubscribe(&mut self, tab: u64, subscription: SubscriptionId) {
        self.tab(tab, TabMessage::Unsubscribe { subscription });
    }

    fn subscribed(&mut self, request: u64, recovered: bool, position: Position) {
        let (topic, name) = (TopicId(3), "prices");
        let subscribed = Subscribed { request, topic, recovered, position, name };
        self.server(&ServerFrame::Subscribed(subscribed));
    }

    fn unsubscribed(&mut self, request: u64, retry_ms: Option<u64>) {
        let (reason, name, message) = (UnsubscribedReason::Slow, "prices", "too slow");
        let frame = Unsubscribed { request, reason, retry_ms, name, message };
        self.server(&ServerFrame::Unsubscribed(frame));
    }

    fn publication(&mut self, previous: u64, offset: u64) {
        let (topic, payload) = (TopicId(3), Payload::Text("42"));
        let position = at(offset);
        self.server(&ServerFrame::Publication { topic, position, previous, payload });
    }

    /// What was sent about topics since outputs were last taken; takes them.
    fn asked(&mut self) -> Vec<String> {
        let sent = self.sent();
        self.take();
        let asked =
            sent.iter().filter_map(|bytes| match HubFrame::decode(bytes).expect("a frame") {
                HubFrame::Subscribe { request, position, topic } => {
                    let position = position.map_or(String::new(), |it| format!(" {}", it.offset));
                    Some(format!("{topic} {request}{position}"))
                }
                HubFrame::Unsubscribe { topic } => Some(format!("no {topic}")),
                _ => None,
            });
        asked.collect()
    }

    /// What a tab heard of topics since outputs were last taken; takes nothing.
    fn heard(&self, tab: u64) -> Vec<HubMessage> {
        let mut heard = self.posted(tab);
        heard.retain(|it| !matches!(it, HubMessage::State { .. } | HubMessage::Attached { .. }));
        heard
    }

    /// A hub whose tab 1 is subscribed to a topic that is at 5.
    fn with_topic() -> Self {
        let mut bench = Self::connected();
        bench.subscribe(1, FIRST, "prices");
        bench.subscribed(1, false, at(5));
        bench.take();
        bench
    }

    /// The link is lost, and the next one is welcomed.
    fn reconnect(&mut self) {
        self.link_closed(1006);
        self.pass(Duration::from_secs(1));
        self.connect();
    }
}

const fn told(subscription: SubscriptionId, offset: u64, recovered: bool) -> HubMessage {
    let position = Position { epoch: 7, offset };
    HubMessage::Subscribed { subscription, position, recovered }
}

const fn gap(subscription: SubscriptionId, offset: u64) -> HubMessage {
    HubMessage::Gap { subscription, position: Position { epoch: 7, offset } }
}

fn news(subscription: SubscriptionId, offset: u64) -> HubMessage {
    HubMessage::Publication { subscription, position: at(offset), payload: text("42") }
}

#[test]
fn a_topic_is_subscribed_once_for_all_tabs() {
    let mut bench = Bench::connected();
    bench.tab(2, ATTACH);
    bench.take();
    bench.subscribe(1, FIRST, "prices");
    assert_eq!(bench.asked(), ["prices 1"]);
    bench.subscribe(2, FIRST, "prices");
    assert_eq!(bench.asked(), [""; 0]);
    bench.subscribed(1, false, at(5));
    assert_eq!(
        (bench.heard(1), bench.heard(2)),
        (vec![told(FIRST, 5, false)], vec![told(FIRST, 5, false)])
    );
    bench.unsubscribe(1, FIRST);
    assert_eq!(bench.asked(), [""; 0]);
    bench.unsubscribe(2, FIRST);
    assert_eq!(bench.asked(), ["no prices"]);
}

#[test]
fn a_publication_goes_to_the_tabs_that_want_it_with_one_message_for_equal_numbers() {
    let mut bench = Bench::with_topic();
    for (tab, number) in [(2, FIRST), (3, SECOND), (4, FIRST)] {
        bench.tab(tab, ATTACH);
        if tab != 4 {
            bench.subscribe(tab, number, "prices");
        }
    }
    bench.take();
    bench.publication(5, 6);
    let expected = [
        Output::PostToTabs { tabs: vec![TabId(1), TabId(2)], message: news(FIRST, 6) },
        Output::PostToTabs { tabs: vec![TabId(3)], message: news(SECOND, 6) },
    ];
    assert_eq!(bench.take(), expected);
}

#[test]
fn a_tab_that_comes_late_is_told_at_once_where_the_topic_is() {
    let mut bench = Bench::with_topic();
    bench.publication(5, 6);
    bench.tab(2, ATTACH);
    bench.take();
    bench.subscribe(2, SECOND, "prices");
    assert_eq!(bench.heard(2), [told(SECOND, 6, false)]);
    assert_eq!(bench.asked(), [""; 0]);
}

#[test]
fn what_is_wanted_before_the_link_is_open_is_asked_for_with_hello() {
    let mut bench = Bench::new(Mode::Mux);
    bench.tab(1, ATTACH);
    bench.subscribe_since(1, FIRST, "prices", Some(at(4)));
    bench.grant_and_open();
    assert_eq!(bench.asked(), ["prices 1 4"]);
}

#[test]
fn a_hole_is_told_before_what_follows_it_and_what_came_before_is_dropped() {
    let mut bench = Bench::with_topic();
    bench.publication(7, 8);
    assert_eq!(bench.heard(1), [gap(FIRST, 7), news(FIRST, 8)]);
    bench.take();
    bench.publication(5, 6);
    bench.publication(7, 8);
    assert_eq!(bench.heard(1), []);
    bench.publication(8, 10);
    assert_eq!(bench.heard(1), [news(FIRST, 10)]);
}

#[test]
fn another_epoch_is_a_gap() {
    let mut bench = Bench::with_topic();
    let (topic, payload) = (TopicId(3), Payload::Text("42"));
    let position = Position { epoch: 8, offset: 1 };
    bench.server(&ServerFrame::Publication { topic, position, previous: 0, payload });
    assert_eq!(
        bench.heard(1)[0],
        HubMessage::Gap { subscription: FIRST, position: Position { offset: 0, ..position } }
    );
    assert_eq!(bench.heard(1).len(), 2);
}

#[test]
fn a_gap_that_the_server_tells_is_passed_on_and_goes_on_from_there() {
    let mut bench = Bench::with_topic();
    bench.server(&ServerFrame::Gap { topic: TopicId(3), position: at(9) });
    bench.server(&ServerFrame::Gap { topic: TopicId(3), position: at(8) });
    bench.publication(9, 11);
    assert_eq!(bench.heard(1), [gap(FIRST, 9), news(FIRST, 11)]);
}

#[test]
fn a_new_link_asks_from_the_last_position_and_tells_what_was_missed() {
    let mut bench = Bench::with_topic();
    bench.publication(5, 6);
    bench.link_closed(1006);
    bench.pass(Duration::from_secs(1));
    bench.take();
    bench.grant_and_open();
    assert_eq!(bench.asked(), [""; 0], "the server may know it still");
    bench.server(&ServerFrame::Welcome(crate::support::welcome()));
    assert_eq!(bench.asked(), ["prices 2 6"]);
    bench.subscribed(2, false, at(9));
    assert_eq!(bench.heard(1), [gap(FIRST, 9)]);
}

#[test]
fn a_new_link_that_missed_nothing_tells_nothing() {
    let mut bench = Bench::with_topic();
    bench.reconnect();
    bench.subscribed(2, true, at(5));
    assert_eq!(bench.heard(1), []);
    bench.publication(5, 6);
    assert_eq!(bench.heard(1), [news(FIRST, 6)]);
}

#[test]
fn each_tab_is_told_a_gap_by_where_it_left_the_topic_itself() {
    let mut bench = Bench::with_topic();
    for (tab, since) in [(2, 4), (3, 5)] {
        bench.tab(tab, ATTACH);
        bench.subscribe_since(tab, FIRST, "prices", Some(at(since)));
    }
    assert_eq!(bench.heard(2), [told(FIRST, 5, false), gap(FIRST, 5)]);
    assert_eq!(bench.heard(3), [told(FIRST, 5, true)]);
}

#[test]
fn a_late_tab_gets_what_it_missed_from_the_hub() {
    let mut bench = Bench::with_topic();
    bench.publication(5, 6);
    bench.publication(6, 8);
    bench.tab(2, ATTACH);
    bench.tab(3, ATTACH);
    bench.take();
    bench.subscribe_since(2, FIRST, "prices", Some(at(5)));
    assert_eq!(bench.heard(2), [told(FIRST, 5, true), news(FIRST, 6), news(FIRST, 8)]);
    bench.subscribe_since(3, FIRST, "prices", Some(at(7)));
    assert_eq!(bench.heard(3), [told(FIRST, 7, true), news(FIRST, 8)]);
    assert_eq!(bench.asked(), [""; 0]);
    bench.publication(8, 9);
    assert_eq!((bench.heard(2), bench.heard(3)), (vec![news(FIRST, 9)], vec![news(FIRST, 9)]));
}

#[test]
fn a_late_tab_from_before_a_gap_hears_of_a_gap() {
    let mut bench = Bench::with_topic();
    bench.publication(5, 6);
    bench.publication(7, 8);
    bench.tab(2, ATTACH);
    bench.tab(3, ATTACH);
    bench.take();
    bench.subscribe_since(2, FIRST, "prices", Some(at(6)));
    assert_eq!(bench.heard(2), [told(FIRST, 8, false), gap(FIRST, 8)]);
    bench.subscribe_since(3, FIRST, "prices", Some(at(7)));
    assert_eq!(bench.heard(3), [told(FIRST, 7, true), news(FIRST, 8)]);
}

#[test]
fn the_topic_of_which_a_hub_keeps_the_most_pays() {
    // Four publications of 34 bytes fit.
    let config =
        HubConfig { held_bytes: 140, ..HubConfig::new(Mode::Mux, HubId(1), "ws://server/") };
    let mut bench = Bench::with(config);
    bench.tab(1, ATTACH);
    bench.connect();
    bench.subscribe(1, FIRST, "prices");
    bench.subscribed(1, false, at(5));
    (6..12).for_each(|offset| bench.publication(offset - 1, offset));
    bench.tab(2, ATTACH);
    bench.tab(3, ATTACH);
    bench.take();
    bench.subscribe_since(2, FIRST, "prices", Some(at(6)));
    assert_eq!(bench.heard(2), [told(FIRST, 11, false), gap(FIRST, 11)]);
    bench.subscribe_since(3, FIRST, "prices", Some(at(7)));
    let expected = [8, 9, 10, 11].map(|offset| news(FIRST, offset));
    assert_eq!(bench.heard(3)[1..], expected);
}

#[test]
fn a_tab_that_goes_on_from_a_position_has_the_server_asked_from_there() {
    let mut bench = Bench::connected();
    bench.subscribe_since(1, FIRST, "prices", Some(at(5)));
    assert_eq!(bench.asked(), ["prices 1 5"]);
    bench.subscribed(1, true, at(7));
    bench.publication(5, 6);
    bench.publication(6, 7);
    assert_eq!(bench.heard(1), [told(FIRST, 5, true), news(FIRST, 6), news(FIRST, 7)]);
}

#[test]
fn what_came_while_the_link_was_away_comes_in_order_and_without_a_gap() {
    let mut bench = Bench::with_topic();
    bench.reconnect();
    bench.take();
    bench.subscribed(2, true, at(7));
    bench.publication(5, 6);
    bench.publication(6, 7);
    assert_eq!(bench.heard(1), [news(FIRST, 6), news(FIRST, 7)]);
}

#[test]
fn nothing_yet_is_no_gap_on_another_server() {
    let mut bench = Bench::connected();
    bench.subscribe(1, FIRST, "prices");
    let elsewhere = Position { epoch: 3, offset: 0 };
    bench.subscribed(1, false, elsewhere);
    bench.reconnect();
    bench.take();
    bench.subscribed(2, true, at(0));
    assert_eq!(bench.heard(1), []);
    bench.tab(2, ATTACH);
    bench.subscribe_since(2, FIRST, "prices", Some(elsewhere));
    assert_eq!(bench.heard(2), [told(FIRST, 0, true)]);
    bench.take();
    bench.publication(0, 4);
    assert_eq!((bench.heard(1), bench.heard(2)), (vec![news(FIRST, 4)], vec![news(FIRST, 4)]));
}

#[test]
fn a_tab_that_had_more_than_its_hub_hears_of_a_gap_on_another_server() {
    let mut bench = Bench::connected();
    let elsewhere = |offset| Position { epoch: 3, offset };
    bench.subscribe(1, FIRST, "prices");
    bench.subscribed(1, false, elsewhere(0));
    bench.tab(2, ATTACH);
    bench.subscribe_since(2, FIRST, "prices", Some(elsewhere(9)));
    bench.reconnect();
    bench.take();
    bench.subscribed(2, true, at(0));
    assert_eq!((bench.heard(1), bench.heard(2)), (vec![], vec![gap(FIRST, 0)]));
    bench.tab(3, ATTACH);
    bench.subscribe_since(3, FIRST, "prices", Some(elsewhere(9)));
    assert_eq!(bench.heard(3), [told(FIRST, 0, false), gap(FIRST, 0)]);
}

#[test]
fn an_answer_to_an_earlier_request_is_ignored() {
    let mut bench = Bench::connected();
    bench.subscribe(1, FIRST, "prices");
    bench.unsubscribe(1, FIRST);
    bench.subscribe(1, SECOND, "prices");
    assert_eq!(bench.asked(), ["prices 1", "no prices", "prices 2"]);
    bench.subscribed(1, false, at(5));
    bench.unsubscribed(1, None);
    bench.publication(5, 6);
    assert_eq!(bench.heard(1), []);
    bench.subscribed(2, false, at(6));
    assert_eq!(bench.heard(1), [told(SECOND, 6, false)]);
}

#[test]
fn a_slow_hub_subscribes_again_after_the_hint_from_its_position() {
    let mut bench = Bench::with_topic();
    bench.unsubscribed(1, Some(2_000));
    assert_eq!(bench.wakes_for(), Some(WakeReason::Subscribe));
    bench.pass(Duration::from_millis(1_999));
    assert_eq!(bench.asked(), [""; 0]);
    bench.pass(Duration::from_millis(1_001));
    assert_eq!(bench.asked(), ["prices 2 5"]);
    bench.subscribed(2, false, at(9));
    assert_eq!(bench.heard(1), [gap(FIRST, 9)]);
}

#[test]
fn a_hint_of_nothing_is_spread_all_the_same() {
    let mut bench = Bench::with_topic();
    let mut longest = Duration::ZERO;
    for request in 1..9 {
        bench.unsubscribed(request, Some(0));
        let before = bench.now;
        while bench.asked().is_empty() {
            bench.pass(Duration::from_millis(1));
        }
        longest = longest.max(bench.now.saturating_since(before));
        bench.subscribed(request + 1, true, at(5));
    }
    assert!(longest > Duration::from_millis(50), "{longest:?}");
}

#[test]
fn a_refused_topic_is_told_to_all_who_want_it_and_forgotten() {
    let mut bench = Bench::connected();
    bench.subscribe(1, FIRST, "prices");
    bench.unsubscribed(1, None);
    let message = "tabmux: prices is refused: too slow".to_owned();
    assert_eq!(bench.heard(1), [HubMessage::Unsubscribed { subscription: FIRST, message }]);
    bench.reconnect();
    assert_eq!(bench.asked(), [""; 0]);
}

#[test]
fn a_tab_that_is_gone_wants_nothing() {
    let mut bench = Bench::with_topic();
    bench.tab(2, ATTACH);
    bench.subscribe(2, FIRST, "news");
    bench.take();
    bench.tab(1, TabMessage::Bye);
    assert_eq!(bench.asked(), ["no prices"]);
}

#[test]
fn nothing_is_posted_to_a_parked_tab_and_the_server_is_told_when_nobody_else_listens() {
    let mut bench = Bench::with_topic();
    bench.tab(2, ATTACH);
    bench.subscribe(2, FIRST, "prices");
    bench.take();
    bench.tab(1, TabMessage::Park);
    bench.publication(5, 6);
    assert_eq!((bench.heard(1), bench.heard(2)), (vec![], vec![news(FIRST, 6)]));
    assert_eq!(bench.asked(), [""; 0]);
    bench.unsubscribe(2, FIRST);
    assert_eq!(bench.asked(), ["no prices"]);
    bench.tab(1, ATTACH);
    assert_eq!(bench.heard(1), [gap(FIRST, 6)]);
    assert_eq!(bench.asked(), ["prices 2 6"]);
    bench.subscribed(2, true, at(6));
    bench.publication(6, 7);
    assert_eq!(bench.heard(1), [news(FIRST, 7)]);
}

#[test]
fn a_cached_page_whose_browser_dropped_what_was_posted_hears_no_later_publication_first() {
    let mut bench = Bench::with_topic();
    bench.tab(2, ATTACH);
    bench.subscribe(2, FIRST, "prices");
    // Posted to the page, which enters the cache before it hears it.
    bench.publication(5, 6);
    bench.tab(1, TabMessage::Park);
    bench.publication(6, 7);
    bench.take();
    bench.tab(1, ATTACH);
    bench.subscribe_since(1, FIRST, "prices", Some(at(5)));
    let heard = bench.heard(1);
    let first = heard.iter().find(|it| !matches!(it, HubMessage::Subscribed { .. }));
    assert_eq!(first, Some(&gap(FIRST, 7)), "{heard:?}");
}

#[test]
fn a_tab_that_parked_while_it_waited_is_told_when_it_is_back() {
    let mut bench = Bench::connected();
    bench.tab(2, ATTACH);
    bench.subscribe(1, FIRST, "prices");
    bench.subscribe(2, FIRST, "prices");
    bench.tab(1, TabMessage::Park);
    bench.subscribed(1, false, at(5));
    assert_eq!(bench.heard(1), []);
    bench.tab(1, ATTACH);
    assert_eq!(bench.heard(1), [told(FIRST, 5, false)]);
}

#[test]
fn a_tab_that_lost_messages_while_it_was_doubted_is_told_of_a_gap() {
    let config =
        HubConfig { held_bytes: 200, ..HubConfig::new(Mode::Mux, HubId(1), "ws://server/") };
    let mut bench = Bench::with(config);
    bench.tab(1, ATTACH);
    bench.tab(2, ATTACH);
    bench.connect();
    bench.subscribe(1, FIRST, "prices");
    bench.subscribed(1, false, at(5));
    bench.input(Input::TabLockGranted { tab: TabId(1) });
    for offset in 6..12 {
        bench.publication(offset - 1, offset);
    }
    bench.take();
    bench.back(1, 0);
    // Three fitted; with the fourth the hub stopped to listen for it.
    assert_eq!(bench.heard(1).first(), Some(&HubMessage::BrowserGap));
    assert_eq!(bench.heard(1).get(1), Some(&gap(FIRST, 9)));
}

#[test]
fn what_waited_for_a_doubted_tab_that_then_parked_comes_before_its_gap() {
    let mut bench = Bench::with_topic();
    bench.tab(2, ATTACH);
    bench.subscribe(2, FIRST, "prices");
    bench.input(Input::TabLockGranted { tab: TabId(1) });
    bench.publication(5, 6);
    bench.tab(1, TabMessage::Park);
    bench.publication(6, 7);
    bench.take();
    bench.tab(1, ATTACH);
    assert_eq!(bench.heard(1), [news(FIRST, 6), gap(FIRST, 7)]);
}

#[test]
fn a_tab_that_was_doubted_while_it_waited_hears_where_it_began_before_its_gap() {
    let mut bench = Bench::connected();
    bench.tab(2, ATTACH);
    bench.subscribe(1, FIRST, "prices");
    bench.subscribe(2, FIRST, "prices");
    bench.input(Input::TabLockGranted { tab: TabId(1) });
    bench.subscribed(1, false, at(5));
    bench.tab(1, TabMessage::Park);
    bench.publication(5, 6);
    bench.take();
    bench.tab(1, ATTACH);
    assert_eq!(bench.heard(1), [told(FIRST, 5, false), gap(FIRST, 6)]);
}

#[test]
fn wishes_without_meaning_are_refused_or_ignored() {
    let config = HubConfig { topics: 1, ..HubConfig::new(Mode::Mux, HubId(1), "ws://server/") };
    let mut bench = Bench::with(config);
    bench.tab(1, ATTACH);
    bench.connect();
    for name in ["", &"x".repeat(257)] {
        bench.subscribe(1, SECOND, name);
        let message = "tabmux: the name of a topic has 1 to 256 bytes".to_owned();
        assert_eq!(bench.heard(1), [HubMessage::Unsubscribed { subscription: SECOND, message }]);
        bench.take();
    }
    bench.subscribe(1, FIRST, "a");
    assert_eq!(bench.asked(), ["a 1"]);
    bench.subscribe(1, FIRST, "b");
    assert_eq!(bench.take(), [Output::Event(Event::BadTabMessage(TabId(1)))]);
    bench.subscribe(1, SECOND, "b");
    let message = "tabmux: a browser has 1 topics at most".to_owned();
    assert_eq!(bench.heard(1), [HubMessage::Unsubscribed { subscription: SECOND, message }]);
    bench.unsubscribe(1, SECOND);
    assert_eq!(bench.asked(), [""; 0]);
}

#[test]
fn a_tab_that_says_again_what_it_wants_hears_what_it_may_have_missed() {
    let mut bench = Bench::with_topic();
    bench.publication(5, 6);
    bench.take();
    bench.tab(1, ATTACH);
    bench.subscribe_since(1, FIRST, "prices", Some(at(6)));
    assert_eq!(bench.heard(1), [told(FIRST, 6, true)]);
    bench.publication(6, 7);
    bench.take();
    bench.tab(1, ATTACH);
    bench.subscribe_since(1, FIRST, "prices", Some(at(6)));
    assert_eq!(bench.heard(1), [told(FIRST, 6, true), news(FIRST, 7)]);
}

#[test]
fn a_tab_that_asked_twice_before_it_heard_where_the_topic_is_hears_what_it_misses_later() {
    let mut bench = Bench::with_topic();
    bench.unsubscribed(1, Some(2_000));
    bench.subscribe(1, FIRST, "prices");
    bench.pass(Duration::from_secs(3));
    assert_eq!(bench.asked(), ["prices 2 5"]);
    bench.subscribed(2, false, at(9));
    assert_eq!(bench.heard(1), [told(FIRST, 9, false), gap(FIRST, 9)]);
}

#[test]
fn what_a_hub_gets_again_of_a_session_that_it_had_lost_is_told_once_and_without_a_gap() {
    let mut bench = Bench::with_topic();
    bench.publication(5, 6);
    bench.link_closed(1006);
    bench.sleep(Duration::from_secs(61));
    bench.back(1, 0);
    bench.link_closed(1006);
    bench.take();
    bench.pass(Duration::from_secs(2));
    bench.grant_and_open();
    let welcome = Welcome { resumed: true, ..crate::support::welcome() };
    bench.server(&ServerFrame::Welcome(welcome));
    bench.take();
    bench.subscribed(0, true, at(5));
    bench.publication(5, 6);
    bench.publication(6, 7);
    assert_eq!(bench.heard(1), [news(FIRST, 7)]);
}

#[test]
fn in_mirror_mode_there_are_no_topics() {
    let mut bench = Bench::mirrored();
    bench.subscribe(1, FIRST, "prices");
    bench.unsubscribe(1, FIRST);
    let bad = Output::Event(Event::BadTabMessage(TabId(1)));
    assert_eq!(bench.take(), [bad.clone(), bad]);
}
