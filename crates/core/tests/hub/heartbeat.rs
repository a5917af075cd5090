//! A link that says nothing is asked, and given up.

use std::{collections::VecDeque, time::Duration};

use tabmux_core::{
    hub::{HubConfig, Input, LinkState, Mode, Output, WakeReason},
    session::SessionConfig,
};
use tabmux_wire::{HubFrame, HubId, IdentityTag, LaneCount, ServerFrame, WelcomeTail};

use crate::support::{ATTACH, Bench, ONE, opened, welcome};

/// A hub with one tab on a link of version 2, whose server has the limits of a real one.
fn connected() -> Bench {
    let mut bench = Bench::new(Mode::Mux);
    bench.tab(1, ATTACH);
    let mut welcome = welcome();
    welcome.tail = Some(WelcomeTail { identity: IdentityTag::NoUsers, features: Vec::new() });
    welcome.limits.message_bytes = (1 << 20) + 100;
    bench.connect_by(welcome);
    bench
}

#[test]
fn a_quiet_link_is_pinged_at_the_interval_the_server_asked_for() {
    let mut bench = connected();
    bench.pass(Duration::from_millis(24_999));
    assert!(bench.sent().is_empty());
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.sent(), [HubFrame::Ping { nonce: 1 }.to_bytes()]);
}

#[test]
fn a_server_that_talks_all_the_time_is_pinged_all_the_same() {
    let mut bench = connected();
    for _ in 0..26 {
        bench.pass(Duration::from_secs(1));
        bench.server(&ServerFrame::Unknown { code: 0x7f, lane: None, body: b"tick" });
    }
    assert_eq!(bench.sent(), [HubFrame::Ping { nonce: 1 }.to_bytes()]);
}

#[test]
fn a_server_that_answers_keeps_its_link() {
    let mut bench = connected();
    for nonce in 1..10 {
        bench.pass(Duration::from_secs(25));
        bench.server(&ServerFrame::Pong { nonce });
    }
    assert_eq!(bench.hub.state(), LinkState::Connected);
}

#[test]
fn a_server_that_does_not_answer_loses_its_link() {
    let mut bench = connected();
    bench.pass(Duration::from_secs(25));
    bench.take();
    bench.pass(Duration::from_millis(9_999));
    assert_eq!(bench.hub.state(), LinkState::Connected);
    bench.pass(Duration::from_millis(1));
    let closed = |output: &Output| matches!(output, Output::CloseLink { code: 4009, .. });
    assert!(bench.outputs.iter().any(closed));
}

#[test]
fn a_server_of_version_1_has_thirty_seconds_since_it_announces_no_long_frames() {
    let mut bench = Bench::connected();
    bench.pass(Duration::from_millis(54_999));
    assert_eq!(bench.hub.state(), LinkState::Connected);
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.hub.state(), LinkState::Backoff);
}

#[test]
fn after_a_long_sleep_the_server_is_asked_before_it_is_given_up() {
    let mut bench = connected();
    bench.pass(Duration::from_secs(25));
    bench.take();
    // Timers do not run while the laptop sleeps: one wake-up, an hour late.
    bench.sleep(Duration::from_secs(3600));
    assert_eq!(bench.hub.state(), LinkState::Connected);
    assert_eq!(bench.sent(), [HubFrame::Ping { nonce: 2 }.to_bytes()]);
}

#[test]
fn the_network_coming_back_makes_the_hub_ask_at_once() {
    let mut bench = connected();
    bench.input(Input::NetworkChanged { online: true });
    assert_eq!(bench.sent(), [HubFrame::Ping { nonce: 1 }.to_bytes()]);
    assert_eq!(bench.wakes_for(), Some(WakeReason::Heartbeat));
}

/// A hub on a link of version 2 whose tab has an open socket.
fn with_socket() -> Bench {
    let mut bench = connected();
    bench.open(1, ONE);
    bench.server(&opened(1, ONE));
    // What was said so far is acknowledged.
    bench.pass(Duration::from_secs(3));
    bench.server(&ServerFrame::Pong { nonce: 1 });
    bench.take();
    bench
}

#[test]
fn a_ping_goes_before_all_that_waits() {
    let mut bench = with_socket();
    bench.pass(Duration::from_secs(20));
    for _ in 0..3000 {
        bench.send(1, ONE, &"x".repeat(900));
    }
    let attempt = bench.attempt;
    bench.take();
    bench.input(Input::NetworkChanged { online: true });
    bench.input(Input::LinkBuffered { attempt, bytes: 0 });
    assert!(matches!(HubFrame::decode(&bench.sent()[0]), Ok(HubFrame::Ping { .. })));
}

#[test]
fn what_is_not_acknowledged_after_three_seconds_makes_the_hub_ask() {
    let mut bench = with_socket();
    bench.send(1, ONE, "hello");
    bench.take();
    bench.pass(Duration::from_millis(2_999));
    assert!(bench.sent().is_empty());
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.sent(), [HubFrame::Ping { nonce: 2 }.to_bytes()]);
    bench.server(&ServerFrame::Pong { nonce: 2 });
    bench.take();
    bench.pass(Duration::from_millis(24_999));
    assert!(bench.sent().is_empty(), "all is acknowledged");
}

#[test]
fn a_link_on_which_something_waits_is_dead_after_ten_seconds_without_a_word() {
    let mut bench = with_socket();
    bench.send(1, ONE, "is anybody there?");
    bench.pass(Duration::from_millis(9_999));
    assert_eq!(bench.hub.state(), LinkState::Connected);
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.hub.state(), LinkState::Backoff);
}

#[test]
fn each_8_kb_that_are_not_acknowledged_give_a_link_a_second_more() {
    let mut bench = with_socket();
    bench.send(1, ONE, &"x".repeat(80_000));
    bench.pass(Duration::from_millis(19_999));
    assert_eq!(bench.hub.state(), LinkState::Connected);
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.hub.state(), LinkState::Backoff);
}

#[test]
fn each_8_kb_that_the_server_announced_give_a_link_a_second_more() {
    let mut bench = with_socket();
    bench.send(1, ONE, "more");
    bench.server(&ServerFrame::Coming { bytes: 80_000 });
    bench.pass(Duration::from_millis(19_999));
    assert_eq!(bench.hub.state(), LinkState::Connected);
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.hub.state(), LinkState::Backoff);
    // No more than what one message may have.
    let mut bench = with_socket();
    bench.send(1, ONE, "more");
    bench.server(&ServerFrame::Coming { bytes: u64::MAX });
    bench.pass(Duration::from_secs(10 + (1 << 20) / 8_000 + 2));
    assert_ne!(bench.hub.state(), LinkState::Connected);
}

#[test]
fn anything_that_comes_gives_a_link_ten_seconds_more() {
    let mut bench = with_socket();
    bench.send(1, ONE, "hello");
    for _ in 0..10 {
        bench.pass(Duration::from_millis(9_900));
        bench.server(&ServerFrame::Unknown { code: 0x7f, lane: None, body: b"tick" });
    }
    assert_eq!(bench.hub.state(), LinkState::Connected);
}

#[test]
fn a_link_takes_no_more_than_a_window_before_the_server_acknowledges() {
    let mut bench = with_socket();
    let window = HubConfig::new(Mode::Mux, HubId(1), "").link_bytes as usize;
    for _ in 0..3000 {
        bench.send(1, ONE, &"x".repeat(900));
        let attempt = bench.attempt;
        bench.input(Input::LinkBuffered { attempt, bytes: 0 });
    }
    let handed: usize = bench.sent().iter().map(Vec::len).sum();
    assert!(handed > window && handed < window + 2_000, "{handed}");
    let is_ping = |bytes: &Vec<u8>| matches!(HubFrame::decode(bytes), Ok(HubFrame::Ping { .. }));
    let pings = bench.sent().iter().filter(|bytes| is_ping(bytes)).count();
    assert_eq!(pings, 2, "one for each half of it");
    bench.take();
    bench.server(&ServerFrame::Pong { nonce: 2 });
    assert!(bench.sent().len() > 100, "there is room again");
}

/// A line of so many bytes a second each way, and a server that answers PINGs and acknowledges.
struct SlowLine {
    bench: Bench,
    bytes_per_s: u64,
    up: VecDeque<(Vec<u8>, u64)>,
    down: VecDeque<(Vec<u8>, u64)>,
    /// Bytes of data that the server has received.
    received: usize,
}

impl SlowLine {
    fn new(bytes_per_s: u64) -> Self {
        let (up, down) = (VecDeque::new(), VecDeque::new());
        Self { bench: with_socket(), bytes_per_s, up, down, received: 0 }
    }

    fn server_says(&mut self, frame: &ServerFrame<'_>) {
        let bytes = frame.to_bytes();
        let len = bytes.len() as u64;
        self.down.push_back((bytes, len));
    }

    /// Lets a tenth of a second pass.
    fn pass(&mut self) {
        self.up.extend(self.bench.sent().into_iter().map(|bytes| {
            let len = bytes.len() as u64;
            (bytes, len)
        }));
        self.bench.take();
        for bytes in arrived(&mut self.up, self.bytes_per_s / 10) {
            match HubFrame::decode(&bytes).expect("a frame of the hub") {
                HubFrame::Ping { nonce } => self.server_says(&ServerFrame::Pong { nonce }),
                HubFrame::Data { up, payload, .. } => {
                    self.received += payload.len();
                    let lanes = vec![LaneCount { lane: up.tab.0, count: up.n }];
                    self.server_says(&ServerFrame::Ack { lanes });
                }
                _ => {}
            }
        }
        for bytes in arrived(&mut self.down, self.bytes_per_s / 10) {
            self.bench.link(tabmux_wire::Payload::Binary(&bytes));
        }
        let attempt = self.bench.attempt;
        let bytes = self.up.iter().map(|(_, rest)| rest).sum();
        self.bench.input(Input::LinkBuffered { attempt, bytes });
        self.bench.pass(Duration::from_millis(100));
        assert_eq!(self.bench.hub.state(), LinkState::Connected, "at {:?}", self.bench.now);
    }
}

/// The messages that have come whole after so many more bytes.
fn arrived(line: &mut VecDeque<(Vec<u8>, u64)>, mut room: u64) -> Vec<Vec<u8>> {
    let mut whole = Vec::new();
    while let Some((_, rest)) = line.front_mut() {
        let taken = room.min(*rest);
        (*rest, room) = (*rest - taken, room - taken);
        if *rest > 0 {
            break;
        }
        whole.extend(line.pop_front().map(|(bytes, _)| bytes));
    }
    whole
}

#[test]
fn a_mebibyte_goes_up_a_line_of_16_kb_a_second_on_one_link() {
    for pieces in [1_usize, 64, 1024] {
        let mut line = SlowLine::new(16_000);
        for _ in 0..pieces {
            line.bench.send(1, ONE, &"x".repeat((1 << 20) / pieces));
        }
        for _ in 0..900 {
            line.pass();
        }
        assert_eq!(line.received, 1 << 20, "in {pieces} pieces");
    }
}

#[test]
fn a_mebibyte_comes_down_a_line_of_16_kb_a_second_on_one_link() {
    let mut line = SlowLine::new(16_000);
    let body = vec![0; 1 << 20];
    let payload = tabmux_wire::Payload::Binary(&body);
    let message = ServerFrame::Message { payload };
    line.server_says(&ServerFrame::Coming { bytes: message.to_bytes().len() as u64 });
    line.server_says(&message);
    for _ in 0..900 {
        line.pass();
    }
    assert!(line.down.is_empty());
}

#[test]
fn a_mebibyte_goes_both_ways_at_once_at_16_kb_a_second_on_one_link() {
    let mut line = SlowLine::new(16_000);
    let body = vec![0; 1 << 20];
    let message = ServerFrame::Message { payload: tabmux_wire::Payload::Binary(&body) };
    line.server_says(&ServerFrame::Coming { bytes: message.to_bytes().len() as u64 });
    line.server_says(&message);
    line.bench.send(1, ONE, &"x".repeat(1 << 20));
    for _ in 0..900 {
        line.pass();
    }
    assert_eq!((line.received, line.down.len()), (1 << 20, 0));
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
fn a_dead_link_on_which_nothing_waits_is_noticed_within_35_seconds() {
    let mut bench = connected();
    pass_on_a_link_that_takes_everything(&mut bench, 35);
    assert_eq!(bench.hub.state(), LinkState::Backoff);
}

#[test]
fn messages_that_left_the_browser_do_not_keep_a_dead_link() {
    let mut bench = with_socket();
    for _ in 0..2 {
        bench.send(1, ONE, "is anybody there?");
        pass_on_a_link_that_takes_everything(&mut bench, 5);
    }
    assert_eq!(bench.hub.state(), LinkState::Backoff);
}

#[test]
fn a_link_that_stands_still_with_much_to_send_is_given_up() {
    let mut bench = with_socket();
    for _ in 0..1000 {
        bench.send(1, ONE, &"x".repeat(900));
    }
    let window = HubConfig::new(Mode::Mux, HubId(1), "").link_bytes;
    bench.pass(Duration::from_secs(10 + window / 8_000 + 1));
    assert_ne!(bench.hub.state(), LinkState::Connected);
}

#[test]
fn after_a_sleep_a_link_that_does_not_answer_is_given_up_within_three_seconds() {
    // The sleep begins before the PING is due, and while its answer is awaited.
    for awake in [20, 30] {
        let mut bench = connected();
        bench.pass(Duration::from_secs(awake));
        bench.sleep(Duration::from_secs(70));
        assert_eq!(bench.hub.state(), LinkState::Connected, "the answer may wait to be read");
        bench.pass(Duration::from_millis(2_999));
        assert_eq!(bench.hub.state(), LinkState::Connected, "awake for {awake} s before the sleep");
        bench.pass(Duration::from_millis(1));
        assert_eq!(bench.hub.state(), LinkState::Backoff, "awake for {awake} s before the sleep");
    }
}

#[test]
fn a_reason_for_doubt_gives_a_silent_link_three_seconds_and_one_for_each_8_kb() {
    for (bytes, seconds) in [(10, 3), (40_000, 8)] {
        let mut bench = with_socket();
        bench.send(1, ONE, &"x".repeat(bytes));
        bench.input(Input::NetworkChanged { online: true });
        // Asked again, it does not begin anew.
        bench.pass(Duration::from_secs(1));
        bench.input(Input::NetworkChanged { online: true });
        bench.pass(Duration::from_secs(seconds - 1) - Duration::from_millis(1));
        assert_eq!(bench.hub.state(), LinkState::Connected, "{bytes} bytes");
        bench.pass(Duration::from_millis(1));
        assert_eq!(bench.hub.state(), LinkState::Backoff, "{bytes} bytes");
    }
}

#[test]
fn a_hub_that_was_told_there_is_no_network_dials_again_when_there_is_one() {
    let mut bench = connected();
    bench.input(Input::NetworkChanged { online: false });
    bench.link_closed(1006);
    bench.take();
    bench.pass(Duration::from_secs(100));
    assert!(!bench.take().iter().any(|it| matches!(it, Output::OpenLink { .. })));
    assert_eq!(bench.hub.state(), LinkState::Backoff);
    bench.input(Input::NetworkChanged { online: true });
    bench.pass(Duration::from_millis(500));
    assert!(bench.take().iter().any(|it| matches!(it, Output::OpenLink { .. })));
}

#[test]
fn a_hub_whose_tabs_are_all_parked_asks_nothing() {
    let mut bench = connected();
    bench.tab(1, tabmux_core::hub::TabMessage::Park);
    bench.take();
    bench.pass(Duration::from_secs(60));
    assert!(bench.sent().is_empty(), "a PING would lift the suspension");
}

#[test]
fn a_session_outlives_the_detection_of_a_dead_link_and_the_next_dial() {
    let hub = HubConfig::new(Mode::Mux, HubId(1), "wss://example.org/");
    let session = SessionConfig::default();
    let second = Duration::from_secs(1);
    // Nothing waits: the next PING is not answered.
    let idle = session.heartbeat + hub.pong_timeout;
    assert_eq!(idle, 35 * second);
    // Much waits: a window that is full but for one byte, and the largest message.
    let on_its_way = hub.link_bytes + session.message_bytes as u64;
    let busy = hub.pong_timeout + Duration::from_secs(on_its_way / 8_000);
    let dial = hub.backoff_first + hub.dial_timeout + hub.handshake_timeout;
    let longest = idle.max(busy) + dial;
    assert!(session.detached > longest, "{longest:?}");
    // A session whose server has not said so is believed in as long.
    assert!(session.detached < longest + 10 * second, "{longest:?}: no longer than needed");
}
