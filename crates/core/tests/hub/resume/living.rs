//! Tabs that live: slow, silent, elsewhere, or given up by mistake.

use super::*;

#[test]
fn a_page_that_lives_and_does_not_come_is_not_awaited_for_ever() {
    let mut bench = taken_over();
    let gone = HubFrame::Gone { tab: TabId(2) }.to_bytes();
    let answered = |bench: &mut Bench, seconds| {
        bench.pass(Duration::from_secs(seconds));
        bench.server(&ServerFrame::Pong { nonce: 1 });
        assert_eq!(bench.hub.state(), LinkState::Connected);
    };
    for _ in 0..29 {
        answered(&mut bench, 20);
    }
    assert!(!bench.sent().contains(&gone), "it may be frozen");
    answered(&mut bench, 20);
    assert!(bench.sent().contains(&gone));
}

#[test]
fn a_tab_whose_lock_was_stolen_loses_nothing_if_it_says_at_once_that_it_lives() {
    let mut bench = with_socket();
    let gone = HubFrame::Gone { tab: TabId(1) }.to_bytes();
    let goes_on = |bench: &Bench| {
        bench.all_posted(1).iter().find_map(|message| match message {
            HubMessage::Resume { continues, .. } => Some(*continues),
            _ => None,
        })
    };
    bench.input(Input::TabLockGranted { tab: TabId(1) });
    bench.tab(1, TabMessage::Park);
    bench.back(1, 1);
    bench.server(&attached(1, 2, 1));
    bench.pass(Duration::from_secs(1));
    assert!(!bench.sent().contains(&gone));
    assert_eq!(goes_on(&bench), Some(true));
    // One that does not is given up, and told so when it speaks: it begins anew.
    bench.take();
    bench.input(Input::TabLockGranted { tab: TabId(1) });
    bench.pass(Duration::from_secs(1));
    assert!(bench.sent().contains(&gone));
    bench.send(1, ONE, "hello");
    assert_eq!(bench.posted(1), [HubMessage::Resync]);
    bench.back(1, 1);
    let (tab, alias, next, n_seen, aside) = (TabId(1), Alias(2), 1, 0, false);
    bench.server(&ServerFrame::Attached { tab, alias, next, n_seen, aside });
    assert_eq!(goes_on(&bench), Some(false));
}

#[test]
fn what_a_tab_has_heard_does_not_wait_behind_what_it_sends_on_a_slow_line() {
    let mut bench = with_socket();
    let attempt = bench.attempt;
    bench.input(Input::LinkBuffered { attempt, bytes: 2 << 20 });
    bench.send(1, ONE, "waits");
    bench.server(&data(1, ONE, "a"));
    bench.server(&ServerFrame::Message { payload: Payload::Text("all") });
    bench.pass(Duration::from_secs(5));
    answer(&mut bench, 1);
    bench.input(Input::NetworkChanged { online: true });
    bench.input(Input::LinkBuffered { attempt, bytes: 0 });
    let sent = bench.sent();
    let place = |is: fn(&HubFrame<'_>) -> bool| {
        sent.iter().position(|bytes| HubFrame::decode(bytes).is_ok_and(|frame| is(&frame)))
    };
    let acknowledged = place(|it| matches!(it, HubFrame::Ack { lanes, .. } if lanes[0].lane == 1));
    let ping = place(|it| matches!(it, HubFrame::Ping { nonce: 2 }));
    let said = place(|it| matches!(it, HubFrame::Data { .. }));
    let all = place(|it| matches!(it, HubFrame::Ack { lanes, .. } if lanes[0].lane == 0));
    assert!([acknowledged, ping, said, all].is_sorted(), "{sent:?}");
    assert!(acknowledged.is_some());
}

#[test]
fn a_tab_is_not_asked_for_what_it_had_of_another_lane() {
    let mut bench = with_socket();
    let elsewhere = bench.claims[&1].replacen("01", "09", 1);
    bench.tab(1, TabMessage::Attach { claim: &elsewhere, last0: 0, last: 43 });
    bench.server(&ServerFrame::Message { payload: Payload::Text("all") });
    bench.pass(Duration::from_secs(5));
    let asked = bench.posted(1).into_iter().find_map(|message| match message {
        HubMessage::Check { count0, count } => Some((count0, count)),
        _ => None,
    });
    assert_eq!(asked, Some((1, 0)), "its page would take the first 43 of the new one for old");
}

#[test]
fn two_hubs_that_take_a_session_from_each_other_do_so_less_and_less_often() {
    let mut bench = with_socket();
    let began = bench.now;
    for round in 1..=8 {
        bench.server(&ServerFrame::Fenced { term: Term(2 * round) });
        bench.take();
        while !bench.outputs.contains(&Output::RequestLinkLock) {
            bench.pass(Duration::from_millis(100));
        }
        bench.grant_and_open();
        let term = Term(2 * round + 1);
        bench.server(&ServerFrame::Welcome(Welcome { resumed: true, term, ..welcome() }));
        bench.server(&attached(1, 2, 1));
    }
    let took = bench.now.saturating_since(began);
    assert!(took > Duration::from_secs(8), "never more than 500 ms each: {took:?}");
}

#[test]
fn a_tab_that_answers_late_is_asked_for_what_came_meanwhile() {
    let mut bench = with_socket();
    bench.server(&data(1, ONE, "a"));
    bench.pass(Duration::from_secs(5));
    let asked = bench.take();
    // It is frozen, and its lane fills up: the server sends nothing more.
    bench.pass(Duration::from_secs(10));
    bench.server(&data(1, ONE, "b"));
    bench.pass(Duration::from_secs(20));
    bench.outputs = asked;
    answer(&mut bench, 1);
    bench.take();
    bench.pass(Duration::from_secs(5));
    answer(&mut bench, 1);
    assert_eq!(acks(&bench), [(vec![(1, 3)], vec![])]);
}

#[test]
fn a_tab_that_answers_when_much_more_came_is_asked_again_at_once() {
    let mut bench = with_socket();
    let large = "x".repeat(40 << 10);
    // A burst that is in the link already: the tab's answer comes after all of it.
    for _ in 0..4 {
        bench.server(&data(1, ONE, &large));
    }
    let checks = |bench: &Bench| {
        let posted = bench.all_posted(1);
        posted.into_iter().filter(|it| matches!(it, HubMessage::Check { .. })).count()
    };
    assert_eq!(checks(&bench), 1);
    bench.take();
    bench.tab(1, TabMessage::Got { count0: 0, count: 2 });
    // The server waits for half of its lane, and says nothing until then.
    assert_eq!(checks(&bench), 1);
}

#[test]
fn a_tab_that_answers_late_does_not_hold_up_the_lane_of_another() {
    let mut bench = two_tabs();
    for tab in [1, 2] {
        bench.open(tab, ONE);
        bench.server(&opened(tab, ONE));
    }
    bench.server(&data(2, ONE, "small"));
    let large = "x".repeat(40 << 10);
    for _ in 0..4 {
        bench.server(&data(1, ONE, &large));
    }
    // Tab 2 is busy for a second; tab 1 is not, and its lane is half full.
    answer(&mut bench, 1);
    bench.pass(Duration::from_secs(1));
    let lanes: Vec<_> = acks(&bench).into_iter().flat_map(|(lanes, _)| lanes).collect();
    assert!(lanes.iter().any(|(lane, _)| *lane == 1), "{lanes:?}");
}
