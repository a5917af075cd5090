//! Tabs that live: slow, silent, elsewhere, or given up by mistake.

use super::*;

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
