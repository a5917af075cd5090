//! What could be missed or kept too long, when breaks, hubs and tabs come in an odd order.

use super::*;

#[test]
fn what_is_kept_for_an_awaited_tab_outlives_a_break() {
    let mut bench = taken_over();
    bench.server(&ServerFrame::Message { payload: Payload::Text("one") });
    bench.link_closed(1006);
    bench.pass(Duration::from_secs(1));
    bench.take();
    bench.grant_and_open();
    bench.server(&resumed(2, vec![listed(1, false), listed(2, false)]));
    bench.server(&attached(1, 1, 0));
    bench.server(&ServerFrame::Message { payload: Payload::Text("two") });
    let claim = bench.claims[&2].clone();
    bench.tab(2, TabMessage::Attach { claim: &claim, last0: 0, last: 0 });
    assert_eq!(heard(&bench, 2), ["one", "two"]);
}

#[test]
fn a_tab_that_comes_while_there_is_no_link_hears_what_came_of_its_topics() {
    let (topic, name) = (TopicId(3), "prices");
    let at = |offset| Position { epoch: 9, offset };
    let known = |position| {
        let (request, recovered) = (0, true);
        ServerFrame::Subscribed(Subscribed { request, topic, recovered, position, name })
    };
    let mut bench = Bench::with(HubConfig::new(Mode::Mux, HubId(2), "ws://server/tabmux/ws"));
    bench.claims = two_tabs().claims;
    bench.back(1, 0);
    bench.grant_and_open();
    bench.server(&resumed(1, vec![listed(1, false), listed(2, false)]));
    bench.server(&known(at(4)));
    bench.server(&attached(1, 1, 0));
    let (position, previous, payload) = (at(5), 4, Payload::Text("42"));
    bench.server(&ServerFrame::Publication { topic, position, previous, payload });
    bench.link_closed(1006);
    bench.back(2, 0);
    let (subscription, since) = (SubscriptionId(1), Some(at(4)));
    bench.tab(2, TabMessage::Subscribe { subscription, name, since });
    bench.pass(Duration::from_secs(1));
    bench.take();
    bench.grant_and_open();
    bench.server(&resumed(2, vec![listed(1, false), listed(2, false)]));
    bench.server(&known(at(5)));
    let news = |message: &HubMessage| match message {
        HubMessage::Publication { position, .. } => Some(Ok(*position)),
        HubMessage::Gap { position, .. } => Some(Err(*position)),
        _ => None,
    };
    let heard = bench.posted(2).iter().filter_map(news).collect::<Vec<_>>();
    assert_eq!(heard, [Ok(at(5))]);
}

#[test]
fn a_hub_that_comes_back_says_what_was_missed_to_a_tab_that_was_set_aside_meanwhile() {
    let mut bench = two_tabs();
    bench.server(&ServerFrame::Message { payload: Payload::Text("one") });
    bench.server(&ServerFrame::Fenced { term: Term(2) });
    bench.pass(Duration::from_secs(1));
    bench.grant_and_open();
    // Another hub got the second and third, and gave up on tab 2.
    let aside = WelcomeTab { aside: true, ..listed(2, false) };
    bench.server(&resumed(4, vec![listed(1, false), aside]));
    assert!(bench.posted(2).contains(&HubMessage::BrowserGap));
}

#[test]
fn a_tab_that_was_told_through_a_port_that_it_had_left_is_told_again() {
    let mut bench = Bench::new(Mode::Mux);
    let claim = two_tabs().claims[&1].clone();
    bench.tab(1, TabMessage::Attach { claim: &claim, last0: 1, last: 0 });
    bench.grant_and_open();
    bench.server(&resumed(4, vec![WelcomeTab { aside: true, ..listed(1, false) }]));
    bench.server(&attached(1, 1, 0));
    for last0 in [1, 3] {
        bench.take();
        bench.tab(1, TabMessage::Attach { claim: &claim, last0, last: 0 });
        let again = bench.posted(1).contains(&HubMessage::BrowserGap);
        assert_eq!(again, last0 == 1, "it had not heard the second and third, and then it had");
    }
}

#[test]
fn a_tab_that_begins_anew_while_the_server_knows_it_from_before_gets_a_new_lane() {
    let mut bench = taken_over();
    bench.take();
    // Its page left another hub, which died before it could say so.
    bench.tab(2, ATTACH);
    bench.server(&attached(2, 1, 3));
    let sent = bench.sent();
    let gone = HubFrame::Gone { tab: TabId(2) }.to_bytes();
    let attach = HubFrame::Attach { tab: TabId(2), last: 0 }.to_bytes();
    let at = sent.iter().position(|it| *it == gone).expect("what it had is given up");
    assert!(sent[at..].contains(&attach), "{sent:?}");
    let alias = Alias(9);
    let (tab, next, n_seen, aside) = (TabId(2), 1, 0, false);
    bench.server(&ServerFrame::Attached { tab, alias, next, n_seen, aside });
    bench.take();
    bench.open(2, ONE);
    assert_eq!(said(&bench), [1]);
}

#[test]
fn a_session_given_up_while_the_link_opens_begins_anew_for_its_tabs() {
    let mut bench = with_socket();
    bench.link_closed(1006);
    // Every dial fails until the session has been given up for half a minute.
    bench.sleep(Duration::from_millis(59_500));
    bench.take();
    bench.grant_and_open();
    bench.pass(Duration::from_millis(700));
    assert!(bench.posted(1).iter().any(|it| matches!(it, HubMessage::Lost { .. })));
    bench.server(&resumed(1, vec![listed(1, false)]));
    bench.take();
    bench.server(&attached(1, 2, 1));
    let gone = HubFrame::Gone { tab: TabId(1) }.to_bytes();
    assert!(bench.sent().contains(&gone), "the page counts from 1 again, and the server does not");
}

#[test]
fn what_is_posted_and_perhaps_not_heard_is_asked_for_again_after_a_break() {
    let mut bench = with_socket();
    bench.server(&data(1, ONE, "a"));
    break_link(&mut bench);
    let last = |bench: &Bench| {
        bench.sent().iter().find_map(|bytes| match HubFrame::decode(bytes) {
            Ok(HubFrame::Attach { last, .. }) => Some(last),
            _ => None,
        })
    };
    assert_eq!(last(&bench), Some(0), "the server forgets what ATTACH names");
}

#[test]
fn tabs_that_left_long_ago_do_not_keep_one_that_leaves_now_from_being_remembered() {
    let mut bench = two_tabs();
    for tab in 1_000..2_100 {
        bench.tab(tab, ATTACH);
        bench.tab(tab, TabMessage::Bye);
    }
    bench.link_closed(1006);
    bench.tab(2, TabMessage::Bye);
    bench.pass(Duration::from_secs(1));
    bench.take();
    bench.grant_and_open();
    bench.server(&resumed(1, vec![listed(1, false), listed(2, false)]));
    assert!(bench.sent().contains(&HubFrame::Gone { tab: TabId(2) }.to_bytes()));
}

#[test]
fn a_server_cannot_make_a_hub_remember_ever_more_topics() {
    let mut bench = taken_over();
    for number in 1..=1_100 {
        let (request, recovered, topic) = (0, true, TopicId(number));
        let name = format!("t{number}");
        let position = Position { epoch: 1, offset: 0 };
        let it = Subscribed { request, topic, recovered, position, name: &name };
        bench.server(&ServerFrame::Subscribed(it));
    }
    let is_gone = |it: &&Vec<u8>| matches!(HubFrame::decode(it), Ok(HubFrame::Unsubscribe { .. }));
    assert_eq!(bench.sent().iter().filter(is_gone).count(), 1_100 - 1_024);
}

#[test]
fn a_tab_that_attaches_when_more_came_than_is_kept_is_told_that_it_missed_something() {
    for acknowledged in [false, true] {
        let mut bench = taken_over();
        let text = "x".repeat(900);
        for _ in 0..400 {
            bench.server(&ServerFrame::Message { payload: Payload::Text(&text) });
        }
        if acknowledged {
            answer(&mut bench, 1);
            assert!(!acks(&bench).is_empty());
        }
        bench.take();
        let claim = bench.claims[&2].clone();
        bench.tab(2, TabMessage::Attach { claim: &claim, last0: 0, last: 0 });
        assert!(bench.posted(2).contains(&HubMessage::BrowserGap), "{acknowledged}");
    }
}

#[test]
fn a_tab_that_is_awaited_for_ever_does_not_hold_up_what_all_others_hear() {
    for breaks in [false, true] {
        let mut bench = taken_over();
        if breaks {
            break_link(&mut bench);
            bench.server(&resumed(1, vec![listed(1, false), listed(2, false)]));
            bench.server(&attached(1, 1, 0));
        }
        // Half of what the server allows unacknowledged.
        for _ in 0..140 {
            bench.server(&ServerFrame::Message { payload: Payload::Text(&"x".repeat(990)) });
        }
        // It is asked again at once, since so much came meanwhile.
        answer(&mut bench, 1);
        answer(&mut bench, 1);
        let lanes = acks(&bench).into_iter().find(|(lanes, _)| lanes.contains(&(0, 140)));
        assert_eq!(lanes, Some((vec![(0, 140)], vec![2])), "{breaks}");
    }
}

#[test]
fn a_tab_that_the_server_gave_up_hears_that_it_missed_something_before_it_hears_more() {
    let message = |text| ServerFrame::Message { payload: Payload::Text(text) };
    // It comes to a hub that works, or that is yet to dial, in which it may be parked meanwhile.
    for (dials, parks) in [(false, false), (true, false), (true, true)] {
        let mut bench = taken_over();
        let claim = bench.claims[&2].clone();
        let attach = TabMessage::Attach { claim: &claim, last0: 1, last: 0 };
        if dials {
            bench = Bench::new(Mode::Mux);
            bench.tab(2, attach.clone());
            bench.back(1, 0);
            bench.grant_and_open();
            if parks {
                bench.tab(2, TabMessage::Park);
            }
            bench.take();
            bench.server(&resumed(3, vec![listed(1, false)]));
        } else {
            bench.input(Input::TabLockGranted { tab: TabId(2) });
            bench.pass(Duration::from_secs(1));
            bench.server(&message("one"));
            bench.server(&message("two"));
            bench.take();
        }
        bench.server(&message("three"));
        if !dials || parks {
            bench.tab(2, attach);
        }
        let posted = bench.posted(2);
        let gap = posted.iter().position(|it| *it == HubMessage::BrowserGap);
        let more = posted.iter().position(|it| matches!(it, HubMessage::Browser { .. }));
        assert!(gap.is_some() && more.is_some() && gap < more, "{dials} {parks}: {posted:?}");
    }
}

#[test]
fn an_answer_from_before_a_tab_began_anew_says_nothing_of_its_new_lane() {
    let mut bench = with_socket();
    break_link(&mut bench);
    let session = tabmux_wire::SessionId([9; 16]);
    bench.server(&ServerFrame::Welcome(Welcome { session, ..welcome() }));
    bench.deaf = true;
    bench.server(&attached(1, 1, 0));
    bench.server(&data(1, ONE, "a"));
    bench.pass(Duration::from_secs(5));
    // It was asked before the break, when it had heard nine.
    bench.tab(1, TabMessage::Got { count0: 0, count: 9 });
    assert_eq!(acks(&bench), []);
    bench.tab(1, TabMessage::Got { count0: 0, count: 0 });
    bench.tab(1, TabMessage::Got { count0: 0, count: 1 });
    assert_eq!(acks(&bench), [(vec![(1, 1)], vec![])]);
}

#[test]
fn a_tab_is_not_asked_for_its_lane_before_the_server_has_named_that_again() {
    let mut bench = with_socket();
    bench.server(&data(1, ONE, "a"));
    break_link(&mut bench);
    bench.server(&resumed(1, vec![listed(1, false)]));
    bench.take();
    bench.pass(Duration::from_secs(5));
    let asked = |message: &HubMessage| matches!(message, HubMessage::Check { .. });
    assert!(!bench.posted(1).iter().any(asked));
    bench.server(&attached(1, 1, 1));
    bench.server(&opened(1, ONE));
    bench.server(&data(1, ONE, "a"));
    bench.pass(Duration::from_secs(5));
    answer(&mut bench, 1);
    assert_eq!(acks(&bench), [(vec![(1, 2)], vec![])]);
}

#[test]
fn what_a_frozen_tab_says_in_a_session_that_is_lost_by_then_is_not_said_in_the_next() {
    let mut bench = with_socket();
    bench.deaf = true;
    let welcome = |session| {
        let session = tabmux_wire::SessionId([session; 16]);
        ServerFrame::Welcome(Welcome { session, ..welcome() })
    };
    break_link(&mut bench);
    bench.server(&welcome(8));
    bench.server(&attached(1, 1, 0));
    bench.link_closed(1006);
    bench.sleep(Duration::from_secs(61));
    bench.grant_and_open();
    bench.server(&welcome(9));
    bench.server(&attached(1, 1, 0));
    bench.take();
    // It goes on, and hears of one after the other.
    for heard_of_all in [false, true] {
        bench.tab(1, TabMessage::Got { count0: 0, count: 0 });
        bench.tab(1, TabMessage::Open { n: 1, socket: ONE, path: "/", protocols: vec![] });
        assert_eq!(!said(&bench).is_empty(), heard_of_all);
    }
}

#[test]
fn a_tab_that_began_anew_missed_nothing_that_was_said_in_the_session_before() {
    let mut bench = with_socket();
    for _ in 0..3 {
        bench.server(&ServerFrame::Message { payload: Payload::Text("before") });
    }
    break_link(&mut bench);
    let session = tabmux_wire::SessionId([9; 16]);
    bench.server(&ServerFrame::Welcome(Welcome { session, ..welcome() }));
    bench.server(&attached(1, 1, 0));
    bench.take();
    bench.back(1, 0);
    assert!(!bench.posted(1).contains(&HubMessage::BrowserGap));
}

#[test]
fn a_parked_tab_is_told_what_it_missed_though_the_line_breaks_again_before_it_is_back() {
    let mut bench = two_tabs();
    bench.server(&ServerFrame::Message { payload: Payload::Text("one") });
    bench.tab(2, TabMessage::Park);
    bench.server(&ServerFrame::Fenced { term: Term(2) });
    bench.pass(Duration::from_secs(1));
    bench.grant_and_open();
    // Another hub got the second and third, and the server went on without tab 2.
    let aside = WelcomeTab { aside: true, ..listed(2, true) };
    bench.server(&resumed(4, vec![listed(1, false), aside]));
    break_link(&mut bench);
    bench.server(&resumed(4, vec![listed(1, false), aside]));
    let claim = bench.claims[&2].clone();
    bench.tab(2, TabMessage::Attach { claim: &claim, last0: 1, last: 0 });
    assert!(bench.posted(2).contains(&HubMessage::BrowserGap));
}

#[test]
fn a_topic_that_no_tab_wants_is_let_go_of_soon_after_the_last_tab_has_attached() {
    let mut bench = taken_over();
    let (topic, name, recovered) = (TopicId(3), "prices", true);
    let position = Position { epoch: 9, offset: 4 };
    let listed = Subscribed { request: 0, topic, recovered, position, name };
    bench.server(&ServerFrame::Subscribed(listed));
    bench.back(2, 0);
    bench.take();
    let unsubscribe = HubFrame::Unsubscribe { topic: name }.to_bytes();
    bench.pass(Duration::from_millis(1_900));
    assert!(!bench.sent().contains(&unsubscribe), "a tab may be about to ask for it");
    bench.pass(Duration::from_millis(200));
    assert!(bench.sent().contains(&unsubscribe));
}
