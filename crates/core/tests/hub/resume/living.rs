//! Tabs that live: slow, silent, elsewhere, or given up by mistake.

use super::*;

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
