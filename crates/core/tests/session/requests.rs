//! Requests of tabs: replies, refusals, CANCEL, and what bounds them.

use std::time::Duration;

use tabmux_core::{
    OwnedPayload,
    session::{
        Answer, AnswerError, Ask, AskId, Denial, Output, SendError, SessionConfig, SocketRef,
    },
    wire::{
        Alias, ErrorCode, Feature, Hello, HubFrame, Payload, Rejected, Reply, Request, ServerFrame,
        SocketId, TabId, Upstream,
    },
};

use super::support::{Server, attach, close, frame, frames, hello, open, resume};

const TAB: Alias = Alias(1);

/// A server that takes requests.
fn server() -> Server {
    Server::with(SessionConfig { requests: true, ..SessionConfig::default() })
}

fn request(n: u64, number: u32, input: &str) -> HubFrame<'_> {
    HubFrame::Request(Request {
        up: Upstream { tab: TAB, n },
        socket: SocketId(number),
        credit: 100,
        method: "add",
        key: "",
        payload: Payload::Text(input),
    })
}

fn cancel(n: u64, number: u32) -> HubFrame<'static> {
    HubFrame::Cancel { up: Upstream { tab: TAB, n }, socket: SocketId(number) }
}

fn asked(outputs: &[Output]) -> AskId {
    let asked = outputs.iter().find_map(|output| match output {
        Output::Ask { ask, .. } => Some(*ask),
        _ => None,
    });
    asked.unwrap_or_else(|| panic!("nothing is asked: {outputs:?}"))
}

fn reply(server: &mut Server, ask: AskId, text: &str, last: bool) -> Result<(), AnswerError> {
    server.registry.answer(server.now, ask, Answer::Reply { payload: Payload::Text(text), last })
}

fn rejected(outputs: &[Output]) -> Rejected<'_> {
    match frame(outputs) {
        ServerFrame::Rejected(rejected) => rejected,
        other => panic!("not rejected: {other:?}"),
    }
}

#[test]
fn welcome_lists_requests_only_if_they_are_taken() {
    let (welcome, _) = server().hello(1, &hello());
    assert_eq!(welcome.tail.unwrap().features, [Feature::Requests]);
    let (welcome, _) = Server::new().hello(1, &hello());
    assert_eq!(welcome.tail.unwrap().features, []);
}

#[test]
fn a_server_that_takes_no_requests_counts_one_and_does_nothing() {
    let mut server = Server::new();
    server.attached(1);
    assert_eq!(server.say(1, &request(1, 1, "2")), []);
    assert!(!server.say(1, &open(2, 2)).is_empty(), "the next frame has the next number");
}

#[test]
fn a_request_is_a_question_with_method_and_input() {
    let mut server = server();
    let session = server.attached(1);
    let outputs = server.say(1, &request(1, 7, "[1,2]"));
    let Output::Ask { what, .. } = &outputs[0] else { panic!("{outputs:?}") };
    let request = SocketRef { session, tab: TAB, socket: SocketId(7) };
    let (method, key) = ("add".to_owned(), String::new());
    let payload = OwnedPayload::Text("[1,2]".to_owned());
    assert_eq!(*what, Ask::Request { request, tab: TabId(1), method, key, payload });
}

#[test]
fn replies_come_in_the_lane_of_the_tab_and_the_last_one_ends_the_question() {
    let mut server = server();
    server.attached(1);
    let ask = asked(&server.say(1, &request(1, 1, "2")));
    for (text, last) in [("1", false), ("2", true)] {
        reply(&mut server, ask, text, last).unwrap();
        let (tab, socket, payload) = (TAB, SocketId(1), Payload::Text(text));
        let outputs = server.drain();
        assert_eq!(frame(&outputs), ServerFrame::Reply(Reply { tab, socket, last, payload }));
    }
    assert_eq!(reply(&mut server, ask, "3", true), Err(AnswerError::Late));
    assert_eq!(server.registry.stats().asks.open, 0);
}

#[test]
fn a_refusal_ends_the_request_with_its_code() {
    let mut server = server();
    server.attached(1);
    let ask = asked(&server.say(1, &request(1, 1, "2")));
    let denial = Denial { code: ErrorCode::Failed.into(), message: "divided by zero", retry: None };
    server.registry.answer(server.now, ask, Answer::Deny(denial)).unwrap();
    let outputs = server.drain();
    let Rejected { code, message, .. } = rejected(&outputs);
    assert_eq!((code, message), (11, "divided by zero"));
}

#[test]
fn a_request_survives_link_and_hub() {
    let mut server = server();
    let (welcome, _) = server.hello(1, &hello());
    server.say(1, &attach(1));
    let ask = asked(&server.say(1, &request(1, 1, "2")));
    server.cut(1);
    reply(&mut server, ask, "4", true).unwrap();
    server.hello(2, &resume(&welcome, 10, None));
    let outputs = server.say(2, &attach(1));
    let is_reply = |frame: &ServerFrame<'_>| matches!(frame, ServerFrame::Reply(_));
    assert!(frames(&outputs).iter().any(is_reply), "{outputs:?}");
}

#[test]
fn cancel_withdraws_the_question_and_is_answered() {
    let mut server = server();
    server.attached(1);
    let ask = asked(&server.say(1, &request(1, 1, "2")));
    let outputs = server.say(1, &cancel(2, 1));
    assert!(outputs.contains(&Output::Withdrawn(ask)));
    assert_eq!(rejected(&outputs).code, 9);
    assert_eq!(reply(&mut server, ask, "4", true), Err(AnswerError::Late));
    assert_eq!(server.say(1, &cancel(3, 1)), [], "an unknown number is ignored");
}

#[test]
fn a_socket_is_not_cancelled_and_a_request_is_not_closed() {
    let mut server = server();
    server.socket(1);
    assert_eq!(server.say(1, &cancel(2, 1)), []);
    let ask = asked(&server.say(1, &request(3, 2, "2")));
    assert_eq!(server.say(1, &close(4, 2, 1000, "")), []);
    assert_eq!(reply(&mut server, ask, "4", true), Ok(()));
    assert_eq!(server.registry.stats().sockets.open, 1);
}

#[test]
fn a_tab_that_goes_withdraws_its_requests() {
    let mut server = server();
    server.attached(1);
    let ask = asked(&server.say(1, &request(1, 1, "2")));
    let outputs = server.say(1, &HubFrame::Gone { tab: TabId(1) });
    assert!(outputs.contains(&Output::Withdrawn(ask)));
    assert_eq!(server.registry.stats().charged.asks, 0);
}

#[test]
fn a_request_that_nobody_answers_in_time_is_refused() {
    let mut server = server();
    server.attached(1);
    let ask = asked(&server.say(1, &request(1, 1, "2")));
    let outputs = server.pass(Duration::from_secs(30));
    assert!(outputs.contains(&Output::Withdrawn(ask)));
    assert_eq!(rejected(&outputs).code, 10);
}

#[test]
fn a_reply_without_credit_is_not_sent_and_the_question_stays_open() {
    let mut server = server();
    let session = server.attached(1);
    let ask = asked(&server.say(1, &request(1, 1, "2")));
    let socket = SocketRef { session, tab: TAB, socket: SocketId(1) };
    // A reply costs its bytes and 64, so the second one overdraws.
    reply(&mut server, ask, "1", false).unwrap();
    reply(&mut server, ask, "2", false).unwrap();
    let unsent = Err(AnswerError::Unsent(SendError::Full));
    assert_eq!(reply(&mut server, ask, "3", true), unsent);
    server.drain();
    let up = Upstream { tab: TAB, n: 2 };
    let outputs = server.say(1, &HubFrame::Credit { up, socket: SocketId(1), bytes: 1_000 });
    assert!(outputs.contains(&Output::SocketWritable { socket }), "{outputs:?}");
    assert_eq!(reply(&mut server, ask, "3", true), Ok(()));
}

#[test]
fn more_requests_than_may_wait_are_refused() {
    let config = SessionConfig { requests: true, asks: 2, ..SessionConfig::default() };
    let mut server = Server::with(config);
    server.attached(1);
    server.say(1, &request(1, 1, "2"));
    server.say(1, &request(2, 2, "2"));
    let outputs = server.say(1, &request(3, 3, "2"));
    let Rejected { socket, code, retry_ms, .. } = rejected(&outputs);
    assert_eq!((socket, code, retry_ms), (SocketId(3), 8, Some(5_000)));
    assert_eq!(server.registry.stats().asks.refused, 1);
}

#[test]
fn more_bytes_of_requests_than_may_wait_are_refused() {
    let config = SessionConfig { requests: true, ask_bytes: 20, ..SessionConfig::default() };
    let mut server = Server::with(config);
    server.attached(1);
    let ask = asked(&server.say(1, &request(1, 1, "0123456789")));
    let outputs = server.say(1, &request(2, 2, "0123456789"));
    assert_eq!(rejected(&outputs).code, 8);
    reply(&mut server, ask, "1", true).unwrap();
    server.drain();
    asked(&server.say(1, &request(3, 3, "0123456789")));
}

#[test]
fn the_answer_to_another_kind_of_question_is_not_taken() {
    let mut server = server();
    server.attached(1);
    let ask = asked(&server.say(1, &request(1, 1, "2")));
    let accept = Answer::Open { protocol: "" };
    assert_eq!(server.registry.answer(server.now, ask, accept), Err(AnswerError::Unfit));
    let ask = asked(&server.say(1, &open(2, 2)));
    assert_eq!(reply(&mut server, ask, "4", true), Err(AnswerError::Unfit));
}

#[test]
fn a_request_of_a_hub_of_version_1_is_counted_and_ignored() {
    let mut server = server();
    server.open(1);
    let HubFrame::Hello(hello) = hello() else { unreachable!() };
    server.say(1, &HubFrame::Hello(Hello { max_version: 1, ..hello }));
    server.say(1, &attach(1));
    assert_eq!(server.say(1, &request(1, 1, "2")), []);
    assert!(!server.say(1, &open(2, 2)).is_empty(), "the next frame has the next number");
}

#[test]
fn a_reply_gives_the_next_one_as_long_as_it_had() {
    let mut server = server();
    server.attached(1);
    let ask = asked(&server.say(1, &request(1, 1, "2")));
    server.pass(Duration::from_secs(29));
    reply(&mut server, ask, "1", false).unwrap();
    server.drain();
    assert!(!server.pass(Duration::from_secs(29)).contains(&Output::Withdrawn(ask)));
    let outputs = server.pass(Duration::from_secs(1));
    assert!(outputs.contains(&Output::Withdrawn(ask)), "{outputs:?}");
}
