//! A link that says nothing is asked, and given up.

use std::time::Duration;

use tabmux_core::{
    hub::{HubConfig, Input, LinkState, Mode, Output, WakeReason},
    session::SessionConfig,
};
use tabmux_wire::{HubFrame, HubId, ServerFrame};

use crate::support::{Bench, ONE, opened};

#[test]
fn a_quiet_link_is_pinged_at_the_interval_the_server_asked_for() {
    let mut bench = Bench::connected();
    bench.pass(Duration::from_millis(24_999));
    assert!(bench.sent().is_empty());
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.sent(), [HubFrame::Ping { nonce: 1 }.to_bytes()]);
}

#[test]
fn a_server_that_talks_all_the_time_is_pinged_all_the_same() {
    let mut bench = Bench::connected();
    for _ in 0..26 {
        bench.pass(Duration::from_secs(1));
        bench.server(&ServerFrame::Unknown { code: 0x7f, lane: None, body: b"tick" });
    }
    assert_eq!(bench.sent(), [HubFrame::Ping { nonce: 1 }.to_bytes()]);
}

#[test]
fn a_server_that_answers_keeps_its_link() {
    let mut bench = Bench::connected();
    for nonce in 1..10 {
        bench.pass(Duration::from_secs(25));
        bench.server(&ServerFrame::Pong { nonce });
    }
    assert_eq!(bench.hub.state(), LinkState::Connected);
}

#[test]
fn a_server_that_does_not_answer_loses_its_link() {
    let mut bench = Bench::connected();
    bench.pass(Duration::from_secs(25));
    bench.take();
    bench.pass(Duration::from_secs(30));
    let closed = |output: &Output| matches!(output, Output::CloseLink { code: 4009, .. });
    assert!(bench.outputs.iter().any(closed));
}

#[test]
fn after_a_long_sleep_the_server_is_asked_before_it_is_given_up() {
    let mut bench = Bench::connected();
    bench.pass(Duration::from_secs(25));
    bench.take();
    // Timers do not run while the laptop sleeps: one wake-up, an hour late.
    bench.sleep(Duration::from_secs(3600));
    assert_eq!(bench.hub.state(), LinkState::Connected);
    assert_eq!(bench.sent(), [HubFrame::Ping { nonce: 2 }.to_bytes()]);
}

#[test]
fn the_network_coming_back_makes_the_hub_ask_at_once() {
    let mut bench = Bench::connected();
    bench.input(Input::NetworkChanged { online: true });
    assert_eq!(bench.sent(), [HubFrame::Ping { nonce: 1 }.to_bytes()]);
    assert_eq!(bench.wakes_for(), Some(WakeReason::Heartbeat));
}

#[test]
fn a_ping_goes_before_all_that_waits() {
    let mut bench = Bench::connected();
    bench.open(1, ONE);
    bench.server(&opened(1, ONE));
    bench.pass(Duration::from_millis(24_990));
    for _ in 0..3000 {
        bench.send(1, ONE, &"x".repeat(900));
    }
    let attempt = bench.attempt;
    bench.take();
    bench.pass(Duration::from_millis(10));
    bench.input(Input::LinkBuffered { attempt, bytes: 0 });
    assert_eq!(bench.sent()[0], HubFrame::Ping { nonce: 1 }.to_bytes());
}

#[test]
fn a_slow_line_is_not_taken_for_a_dead_one() {
    let mut bench = Bench::connected();
    bench.open(1, ONE);
    bench.server(&opened(1, ONE));
    for _ in 0..5000 {
        bench.send(1, ONE, &"x".repeat(900));
    }
    let mut buffered = 0_u64;
    for _ in 0..1000 {
        for bytes in bench.sent() {
            buffered += bytes.len() as u64;
        }
        bench.take();
        // 40 kB/s.
        buffered = buffered.saturating_sub(4000);
        let attempt = bench.attempt;
        bench.input(Input::LinkBuffered { attempt, bytes: buffered });
        bench.pass(Duration::from_millis(100));
        assert_eq!(bench.hub.state(), LinkState::Connected);
    }
}

#[test]
fn a_message_that_arrives_slowly_is_not_taken_for_silence() {
    let mut bench = Bench::connected();
    bench.pass(Duration::from_secs(24));
    // A mebibyte at 80 kB/s.
    bench.pass(Duration::from_secs(13));
    assert_eq!(bench.hub.state(), LinkState::Connected);
}

/// Lets `seconds` pass second by second, over a link that takes all it is given at once.
fn pass_on_a_link_that_takes_everything(bench: &mut Bench, seconds: u64) {
    for _ in 0..seconds {
        let attempt = bench.attempt;
        bench.input(Input::LinkBuffered { attempt, bytes: 0 });
        bench.pass(Duration::from_secs(1));
    }
}

#[test]
fn a_ping_that_left_the_browser_does_not_keep_a_dead_link() {
    let mut bench = Bench::connected();
    pass_on_a_link_that_takes_everything(&mut bench, 55);
    assert_eq!(bench.hub.state(), LinkState::Backoff);
}

#[test]
fn messages_that_left_the_browser_do_not_keep_a_dead_link() {
    let mut bench = Bench::connected();
    bench.open(1, ONE);
    bench.server(&opened(1, ONE));
    for _ in 0..11 {
        bench.send(1, ONE, "is anybody there?");
        pass_on_a_link_that_takes_everything(&mut bench, 5);
    }
    assert_eq!(bench.hub.state(), LinkState::Backoff);
}

#[test]
fn a_link_that_stands_still_with_much_to_send_is_given_up() {
    let mut bench = Bench::connected();
    bench.open(1, ONE);
    bench.server(&opened(1, ONE));
    for _ in 0..1000 {
        bench.send(1, ONE, &"x".repeat(900));
    }
    let mut handed = 0;
    for _ in 0..55 {
        handed += bench.sent().iter().map(|bytes| bytes.len() as u64).sum::<u64>();
        bench.take();
        let (attempt, bytes) = (bench.attempt, handed - 400_000);
        bench.input(Input::LinkBuffered { attempt, bytes });
        bench.pass(Duration::from_secs(1));
    }
    assert_eq!(bench.hub.state(), LinkState::Backoff);
}

#[test]
fn after_a_sleep_a_link_that_does_not_answer_is_given_up_within_ten_seconds() {
    // The sleep begins before the PING is due, and while its answer is awaited.
    for awake in [20, 30] {
        let mut bench = Bench::connected();
        bench.pass(Duration::from_secs(awake));
        bench.sleep(Duration::from_secs(70));
        assert_eq!(bench.hub.state(), LinkState::Connected, "the answer may wait to be read");
        bench.pass(Duration::from_secs(10));
        assert_eq!(bench.hub.state(), LinkState::Backoff, "awake for {awake} s before the sleep");
    }
}

#[test]
fn a_session_outlives_the_detection_of_a_dead_link_and_the_next_dial() {
    let hub = HubConfig::new(Mode::Mux, HubId(1), "wss://example.org/");
    let session = SessionConfig::default();
    let detection = session.heartbeat + hub.pong_timeout;
    // A link that takes its last bytes after the PING is given one more chance.
    let detection = detection + hub.pong_timeout;
    let dial = hub.backoff_first + hub.dial_timeout + hub.handshake_timeout;
    assert!(session.detached > detection + dial, "{:?}", detection + dial);
}
