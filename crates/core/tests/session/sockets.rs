//! Virtual sockets: open, messages, close.

use tabmux_core::{
    OwnedPayload,
    session::{Answer, AnswerError, Ask, DenialCode, Output, SendError},
    wire::{Alias, ErrorCode, Payload, Rejected, ServerFrame, SocketId, TabId},
};

use super::support::{Server, close, closed, frame, frames, open, text};

#[test]
fn open_asks_the_application() {
    let mut server = Server::new();
    server.attached(1);
    let outputs = server.say(1, &open(1, 7));
    let [Output::Ask { what: Ask::Open { socket, tab, path, protocols }, .. }] = &outputs[..]
    else {
        panic!("not asked: {outputs:?}")
    };
    assert_eq!((socket.tab, socket.socket, *tab), (Alias(1), SocketId(7), TabId(1)));
    assert_eq!(
        (path.as_str(), &protocols[..]),
        ("/echo?x=1", &["a".to_owned(), "b".to_owned()][..])
    );
}

#[test]
fn an_accepted_socket_is_opened_with_its_protocol() {
    let mut server = Server::new();
    let socket = server.opening(1);
    server.accept(socket, "b");
    let outputs = server.drain();
    let (tab, socket) = (Alias(1), SocketId(1));
    let opened = ServerFrame::Opened { tab, socket, credit: 256 << 10, protocol: "b" };
    assert_eq!(frame(&outputs), opened);
}

#[test]
fn accepting_twice_opens_once() {
    let mut server = Server::new();
    let socket = server.socket(1);
    server.accept(socket, "");
    server.reject(socket, ErrorCode::Rejected, "late");
    assert_eq!(server.drain(), []);
}

#[test]
fn a_rejected_socket_fails_with_the_message() {
    let mut server = Server::new();
    let socket = server.opening(1);
    server.reject(socket, ErrorCode::NoRoute, "no handler at /nowhere");
    let outputs = server.drain();
    let rejected = Rejected {
        tab: Alias(1),
        socket: SocketId(1),
        code: ErrorCode::NoRoute.byte().into(),
        retry_ms: None,
        message: "no handler at /nowhere",
    };
    assert_eq!(frame(&outputs), ServerFrame::Rejected(rejected));
    assert_eq!(outputs.len(), 1, "the application knows that it rejected the socket");
    assert_eq!(server.registry.stats().sockets.open, 0);
}

#[test]
fn a_refusal_carries_the_code_of_the_application() {
    // Codes up to 255 are the protocol's.
    for (own, expected) in [(256, 256), (4403, 4403), (65_535, 65_535), (255, 2), (7, 2)] {
        let mut server = Server::new();
        let socket = server.opening(1);
        server.reject_with(socket, DenialCode::Application(own), "no");
        let outputs = server.drain();
        let ServerFrame::Rejected(Rejected { code, message, .. }) = frame(&outputs) else {
            panic!("{outputs:?}")
        };
        assert_eq!((code, message), (expected, "no"));
    }
}

#[test]
fn messages_go_both_ways() {
    let mut server = Server::new();
    let socket = server.socket(1);
    let outputs = server.say(1, &text(2, 1, "up"));
    let payload = OwnedPayload::Text("up".to_owned());
    assert_eq!(outputs, [Output::SocketMessage { socket, payload }]);
    let payload = Payload::Binary(&[0, 255]);
    server.registry.send(server.now, socket, payload).unwrap();
    let outputs = server.drain();
    assert_eq!(frame(&outputs), ServerFrame::Data { tab: Alias(1), socket: SocketId(1), payload });
    let stats = server.registry.stats();
    assert_eq!((stats.messages.received, stats.messages.sent), (1, 1));
}

#[test]
fn a_message_before_accept_or_after_close_is_ignored() {
    let mut server = Server::new();
    let socket = server.opening(1);
    assert_eq!(server.say(1, &text(2, 1, "early")), []);
    server.accept(socket, "");
    server.registry.close(server.now, socket, 1000, "").unwrap();
    server.drain();
    assert_eq!(server.say(1, &text(3, 1, "late")), []);
    assert_eq!(server.say(1, &close(4, 1, 1000, "crossed")), []);
    assert_eq!(server.registry.stats().messages.received, 0);
}

#[test]
fn a_tab_that_closes_gets_its_own_code_back() {
    let mut server = Server::new();
    let socket = server.socket(1);
    let outputs = server.say(1, &close(2, 1, 4001, "done"));
    let told = Output::SocketClosed { socket, code: 4001, reason: "done".to_owned(), clean: true };
    assert_eq!(outputs[0], told);
    let (tab, socket) = (Alias(1), SocketId(1));
    assert_eq!(frame(&outputs), ServerFrame::Close { tab, socket, code: 4001, reason: "done" });
}

#[test]
fn a_close_without_a_code_is_1005() {
    let mut server = Server::new();
    server.socket(1);
    let outputs = server.say(1, &close(2, 1, 0, ""));
    assert!(matches!(outputs[0], Output::SocketClosed { code: 1005, clean: true, .. }));
    assert!(matches!(frame(&outputs), ServerFrame::Close { code: 1005, .. }));
}

#[test]
fn a_socket_closed_before_it_was_accepted_fails() {
    let mut server = Server::new();
    let socket = server.opening(1);
    let outputs = server.say(1, &close(2, 1, 1000, ""));
    assert!(matches!(outputs[0], Output::Withdrawn(_)));
    assert!(matches!(frame(&outputs), ServerFrame::Close { code: 1006, .. }));
    assert_eq!(outputs.len(), 2, "the application had not accepted it");
    assert_eq!(server.answer(socket, Answer::Open { protocol: "" }), Err(AnswerError::Late));
    assert_eq!(server.drain(), []);
}

#[test]
fn the_application_closes_without_a_code_or_as_if_the_connection_broke() {
    for (code, clean, reason) in [(1005, true, "unseen"), (1006, false, "")] {
        let mut server = Server::new();
        let socket = server.socket(1);
        server.registry.close(server.now, socket, code, reason).unwrap();
        let outputs = server.drain();
        let (tab, number, reason) = (Alias(1), SocketId(1), "");
        assert_eq!(frame(&outputs), ServerFrame::Close { tab, socket: number, code, reason });
        let told = Output::SocketClosed { socket, code, reason: String::new(), clean };
        assert!(outputs.contains(&told), "{outputs:?}");
    }
}

#[test]
fn a_connection_that_broke_for_a_reason_is_an_error_before_its_close() {
    let mut server = Server::new();
    let socket = server.socket(1);
    server.registry.close(server.now, socket, 1006, "broke the rules").unwrap();
    let outputs = server.drain();
    let (tab, number) = (Alias(1), SocketId(1));
    let [error, close] = &frames(&outputs)[..] else { panic!("{outputs:?}") };
    let ServerFrame::Error { socket, message, .. } = error else { panic!("{error:?}") };
    assert_eq!((*socket, *message), (Some(number), "broke the rules"));
    assert_eq!(*close, ServerFrame::Close { tab, socket: number, code: 1006, reason: "" });
}

#[test]
fn the_application_closes_with_code_and_reason() {
    let mut server = Server::new();
    let socket = server.socket(1);
    server.registry.close(server.now, socket, 4002, "enough").unwrap();
    let outputs = server.drain();
    let (tab, number) = (Alias(1), SocketId(1));
    let close = ServerFrame::Close { tab, socket: number, code: 4002, reason: "enough" };
    assert_eq!(frame(&outputs), close);
    let told =
        Output::SocketClosed { socket, code: 4002, reason: "enough".to_owned(), clean: true };
    assert_eq!(outputs[1], told);
    assert_eq!(server.registry.close(server.now, socket, 1000, ""), Err(SendError::Closed));
}

#[test]
fn a_socket_that_is_not_open_sends_nothing() {
    let mut server = Server::new();
    let socket = server.opening(1);
    let payload = Payload::Text("early");
    assert_eq!(server.registry.send(server.now, socket, payload), Err(SendError::Closed));
    assert_eq!(server.registry.close(server.now, socket, 1000, ""), Err(SendError::Closed));
    assert_eq!(server.drain(), []);
}

#[test]
fn an_open_of_a_number_in_use_is_ignored_and_counted() {
    let mut server = Server::new();
    server.socket(1);
    assert_eq!(server.say(1, &open(2, 1)), []);
    assert_eq!(received(&server.say(1, &text(3, 1, "still open"))), "still open");
    assert_eq!(server.registry.stats().sockets.bad_opens, 1);
}

fn received(outputs: &[Output]) -> &str {
    match outputs {
        [Output::SocketMessage { payload: tabmux_core::OwnedPayload::Text(text), .. }] => text,
        other => panic!("not one text: {other:?}"),
    }
}

#[test]
fn a_close_code_no_websocket_carries_closes_the_link() {
    let mut server = Server::new();
    server.socket(1);
    let outputs = server.say(1, &close(2, 1, 70, ""));
    assert_eq!(closed(&outputs).1, 1002);
}

#[test]
fn a_long_close_reason_is_cut_at_a_character() {
    let mut server = Server::new();
    let socket = server.socket(1);
    let reason = "é".repeat(100);
    server.registry.close(server.now, socket, 1000, &reason).unwrap();
    let outputs = server.drain();
    let ServerFrame::Close { reason, .. } = frame(&outputs) else { panic!("{outputs:?}") };
    assert_eq!(reason, "é".repeat(61));
}
