//! The codec against itself in all cuts, against a strict library, and at its limits.

use proptest::{collection::vec, prelude::*};
use tungstenite::{
    Message, WebSocket,
    protocol::{Role, WebSocketConfig},
};

use super::{Decoder, Fault, Opcode, put_close, put_frame, upgrade};
use crate::conformance::{self, Heard, Hearing};

const LIMIT: usize = 1 << 20;

/// A client's frame, as it says, right or wrong.
fn client(first: u8, payload: &[u8]) -> Vec<u8> {
    let mask = [0x1f, 0xa2, 0x33, 0x84];
    let mut bytes = Vec::new();
    put_frame(&mut bytes, Opcode::Binary, payload);
    let header = bytes.len() - payload.len();
    bytes[0] = first;
    bytes[1] |= 0x80;
    bytes.splice(header..header, mask);
    for (byte, mask) in bytes[header + 4..].iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    bytes
}

/// What a client says in pieces of these lengths, the rest at once.
fn hear(bytes: &[u8], cuts: &[usize]) -> Vec<Heard> {
    conformance::hear(bytes, cuts.iter().copied(), LIMIT).heard
}

fn whole(bytes: &[u8]) -> Vec<Heard> {
    let at_once = hear(bytes, &[]);
    let by_bytes = hear(bytes, &vec![1; bytes.len()]);
    assert_eq!(at_once, by_bytes);
    at_once
}

fn protocol(bytes: &[u8]) -> bool {
    matches!(whole(bytes).as_slice(), [Heard::Fault(Fault::Protocol(_))])
}

#[test]
fn messages_of_every_length_form() {
    for len in [0, 1, 125, 126, 127, 65_535, 65_536, LIMIT] {
        let payload = vec![b'x'; len];
        assert_eq!(hear(&client(0x82, &payload), &[]), [Heard::Binary(payload.clone())]);
        assert_eq!(hear(&client(0x81, &payload), &[3, 50]), [Heard::Text(payload)]);
    }
}

#[test]
fn control_frames_come_between_fragments() {
    let bytes = [
        client(0x01, "hé".as_bytes()),
        client(0x89, b"ping"),
        client(0x00, "l\u{1f600}".as_bytes()),
        client(0x8a, b""),
        client(0x80, b"o"),
        client(0x88, &[0x03, 0xe8, b'b', b'y', b'e']),
    ]
    .concat();
    let expected = [
        Heard::Ping(b"ping".to_vec()),
        Heard::Pong,
        Heard::Text("hél\u{1f600}o".as_bytes().to_vec()),
        Heard::Close(Some((1000, "bye".to_owned()))),
    ];
    assert_eq!(whole(&bytes), expected);
}

#[test]
fn what_the_protocol_forbids_is_refused_however_it_is_cut() {
    assert!(protocol(&client(0xc2, b"")), "a reserved bit");
    assert!(protocol(&client(0x83, b"")), "a reserved opcode");
    assert!(protocol(&client(0x8b, b"")), "a reserved control opcode");
    assert!(protocol(&client(0x09, b"")), "a fragmented ping");
    assert!(protocol(&client(0x89, &[0; 126])), "a long ping");
    assert!(protocol(&client(0x80, b"x")), "a continuation of nothing");
    assert!(protocol(&[client(0x02, b""), client(0x82, b"")].concat()), "a message in a message");
    assert!(protocol(&[0x82, 0x00]), "no mask");
    assert!(protocol(&[0x82, 0xfe, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0]), "a long form of 5");
    assert!(protocol(&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff]), "a longer form of 65535");
    assert!(protocol(&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0]), "the highest bit");
    assert!(protocol(&client(0x88, &[3])), "half a code");
    for code in [0, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535_u16] {
        assert!(protocol(&client(0x88, &code.to_be_bytes())), "close code {code}");
    }
}

#[test]
fn a_text_fails_at_its_first_impossible_byte() {
    for bad in [&b"\xce\xba\xf4\x90\x80\x80"[..], b"\xff", b"a\xed\xa0\x80", b"\xc0\xaf"] {
        assert_eq!(whole(&client(0x81, bad)), [Heard::Fault(Fault::Utf8)]);
        // The frame is not over, and the message is not either.
        let unended = client(0x01, &[bad, &[b'x'; 50]].concat());
        let cut = &unended[..unended.len() - 40];
        assert_eq!(whole(cut), [Heard::Fault(Fault::Utf8)]);
    }
    let half = client(0x81, &"é".as_bytes()[..1]);
    assert_eq!(whole(&half), [Heard::Fault(Fault::Utf8)]);
    assert_eq!(whole(&client(0x88, &[0x03, 0xe8, 0xff])), [Heard::Fault(Fault::Utf8)]);
}

#[test]
fn what_is_too_big_is_refused_by_its_header() {
    let large = [0x82, 0xff, 0, 0, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4];
    assert_eq!(whole(&large), [Heard::Fault(Fault::TooBig)]);
    let fragments = [client(0x02, &[0; 60]), client(0x80, &[0; 41])].concat();
    assert_eq!(conformance::hear(&fragments, [], 100).heard, [Heard::Fault(Fault::TooBig)]);
    assert_eq!(conformance::hear(&fragments, [], 101).heard, [Heard::Binary(vec![0; 101])]);
}

#[test]
fn nothing_is_kept_once_all_is_heard() {
    let bytes = [client(0x02, &[1; 70_000]), client(0x89, b"p"), client(0x80, b"x")].concat();
    let mut hearing = Hearing::new(LIMIT);
    assert!(bytes.chunks(999).all(|piece| hearing.take(piece)));
    assert_eq!((hearing.heard.len(), hearing.held()), (2, 0));
    assert_eq!(size_of::<Decoder>(), size_of::<usize>());
}

/// A conversation that is right, and what must be heard of it.
fn conversation() -> impl Strategy<Value = (Vec<u8>, Vec<Heard>)> {
    let message = (any::<bool>(), vec(any::<u8>(), 0..300), "\\PC{0,90}", vec(0..90_usize, 0..4));
    let message = (message, prop::option::of(vec(any::<u8>(), 0..=125)));
    vec(message, 0..8).prop_map(|messages| {
        let (mut bytes, mut heard) = (Vec::new(), Vec::new());
        for ((is_text, data, text, cuts), ping) in messages {
            let payload = if is_text { text.into_bytes() } else { data };
            let (mut rest, mut first) = (payload.as_slice(), if is_text { 1 } else { 2 });
            for cut in cuts {
                let (piece, after) = rest.split_at(cut.min(rest.len()));
                bytes.extend(client(first, piece));
                (rest, first) = (after, 0);
            }
            if let Some(ping) = ping {
                bytes.extend(client(0x89, &ping));
                heard.push(Heard::Ping(ping));
            }
            bytes.extend(client(0x80 | first, rest));
            heard.push(if is_text { Heard::Text(payload) } else { Heard::Binary(payload) });
        }
        (bytes, heard)
    })
}

/// The same bytes, as a strict library hears them: `None` where it found a fault.
fn strict(bytes: &[u8]) -> Vec<Option<Heard>> {
    let config = WebSocketConfig::default().max_message_size(Some(LIMIT));
    let stream = Duplex { input: bytes, at: 0 };
    let mut socket = WebSocket::from_raw_socket(stream, Role::Server, Some(config));
    let mut heard = Vec::new();
    loop {
        heard.push(match socket.read() {
            Ok(Message::Text(text)) => Some(Heard::Text(text.as_bytes().to_vec())),
            Ok(Message::Binary(bytes)) => Some(Heard::Binary(bytes.to_vec())),
            Ok(Message::Ping(bytes)) => Some(Heard::Ping(bytes.to_vec())),
            Ok(Message::Pong(_)) => Some(Heard::Pong),
            Ok(Message::Close(close)) => {
                let close = close.map(|close| (close.code.into(), close.reason.to_string()));
                heard.push(Some(Heard::Close(close)));
                return heard;
            }
            Ok(Message::Frame(_)) => continue,
            Err(tungstenite::Error::Io(_)) => return heard,
            Err(_) => {
                heard.push(None);
                return heard;
            }
        });
    }
}

/// A client that has said all it will say.
struct Duplex<'a> {
    input: &'a [u8],
    at: usize,
}

impl std::io::Read for Duplex<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let rest = &self.input[self.at..];
        if rest.is_empty() {
            return Err(std::io::ErrorKind::WouldBlock.into());
        }
        let len = rest.len().min(buffer.len());
        buffer[..len].copy_from_slice(&rest[..len]);
        self.at += len;
        Ok(len)
    }
}

impl std::io::Write for Duplex<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

proptest! {
    #[test]
    fn what_is_said_is_heard_however_it_is_cut(
        (bytes, expected) in conversation(),
        cuts in vec(0..400_usize, 0..60),
    ) {
        prop_assert_eq!(hear(&bytes, &cuts), expected);
    }

    #[test]
    fn noise_is_heard_the_same_however_it_is_cut(
        bytes in vec(any::<u8>(), 0..200),
        cuts in vec(0..20_u8, 0..60),
    ) {
        conformance::check(&bytes, &cuts, 100);
    }

    /// One byte of a right conversation is damaged. Left out: what the library lets pass.
    #[test]
    fn a_strict_library_hears_the_same(
        (mut bytes, _) in conversation(),
        at in any::<prop::sample::Index>(),
        damage in prop::option::of(any::<u8>()),
        close in prop::option::of((1000..=1003_u16, "\\PC{0,20}")),
    ) {
        if let Some((code, reason)) = &close {
            let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
            bytes.extend(client(0x88, &payload[..payload.len().min(125)]));
        }
        if let (Some(damage), false) = (damage, bytes.is_empty()) {
            let at = at.index(bytes.len());
            bytes[at] ^= damage;
        }
        let ours = hear(&bytes, &[]);
        let lenient = ["shortest form", "may not be sent", "highest bit"];
        let passes = |heard: &Heard| match heard {
            Heard::Fault(Fault::Protocol(text)) => lenient.iter().any(|part| text.contains(part)),
            // It looks at the opcode before the limit, and sees a text when its frame is whole.
            Heard::Fault(Fault::TooBig | Fault::Utf8) => true,
            Heard::Close(Some((code, _))) => matches!(code, 1012..=1014),
            _ => false,
        };
        if !ours.iter().any(passes) {
            if let Some(Heard::Fault(_)) = ours.last() {
                // The library looks at a frame when all of it is there.
                bytes.resize(bytes.len() + (1 << 16) + 200, 0);
            }
            let fault = |heard| if matches!(heard, Heard::Fault(_)) { None } else { Some(heard) };
            let ours = ours.into_iter().map(fault).collect::<Vec<_>>();
            prop_assert_eq!(ours, strict(&bytes));
        }
    }

    #[test]
    fn what_a_server_says_a_strict_client_hears(payload in vec(any::<u8>(), 0..70_000)) {
        let mut bytes = Vec::new();
        put_frame(&mut bytes, Opcode::Binary, &payload);
        put_close(&mut bytes, 4321, &"é".repeat(100));
        let stream = Duplex { input: &bytes, at: 0 };
        let mut socket = WebSocket::from_raw_socket(stream, Role::Client, None);
        prop_assert_eq!(socket.read().unwrap(), Message::binary(payload));
        let Message::Close(Some(close)) = socket.read().unwrap() else { panic!("no close") };
        prop_assert_eq!(u16::from(close.code), 4321);
        prop_assert_eq!(close.reason.as_str(), "é".repeat(61));
    }
}

const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";

fn head(lines: &[&str]) -> String {
    format!("GET /tabmux/ws HTTP/1.1\r\n{}\r\n\r\n", lines.join("\r\n"))
}

/// The status of the answer.
fn status(text: &str) -> u16 {
    match upgrade::parse(text.as_bytes(), 0) {
        Some(Ok(_)) => 101,
        Some(Err(refusal)) => refusal.status,
        None => panic!("not whole: {text:?}"),
    }
}

/// The headers that a handshake needs.
fn full() -> Vec<String> {
    let lines = ["Host: a", "Upgrade: websocket", "Connection: Upgrade"].map(str::to_owned);
    let mut lines = lines.to_vec();
    lines.push(format!("Sec-WebSocket-Key: {KEY}"));
    lines.push("Sec-WebSocket-Version: 13".to_owned());
    lines
}

fn with(change: impl FnOnce(&mut Vec<String>)) -> u16 {
    let mut lines = full();
    change(&mut lines);
    status(&head(&lines.iter().map(String::as_str).collect::<Vec<_>>()))
}

#[test]
fn the_example_of_the_rfc() {
    let lines = full();
    let text = head(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    let bytes = [text.as_bytes(), b"pipelined"].concat();
    let (offer, len) = upgrade::parse(&bytes, 0).unwrap().unwrap();
    assert_eq!(offer.accept, "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    assert_eq!(&bytes[len..], b"pipelined");
    for seen in 0..text.len() {
        assert_eq!(upgrade::parse(&bytes[..seen], seen.saturating_sub(1)), None);
    }
}

#[test]
fn names_in_any_case_and_lists_in_any_number() {
    assert_eq!(with(|lines| lines.iter_mut().for_each(|line| line.make_ascii_uppercase())), 101);
    let lower = |line: &mut String| {
        let (name, value) = line.split_once(':').unwrap();
        *line = format!("{}:{value}", name.to_ascii_lowercase());
    };
    assert_eq!(with(|lines| lines.iter_mut().for_each(lower)), 101);
    assert_eq!(with(|lines| lines[2] = "Connection: keep-alive, Upgrade".to_owned()), 101);
    assert_eq!(with(|lines| lines.push("Connection: keep-alive".to_owned())), 101);
    assert_eq!(with(|lines| lines[1] = "Upgrade: h2c, WebSocket".to_owned()), 101);
    assert_eq!(with(|lines| lines.push("Content-Length: 0".to_owned())), 101);
}

#[test]
fn what_is_missing_doubled_or_wrong_is_told() {
    for (missing, expected) in [(0, 400), (1, 426), (2, 426), (3, 400), (4, 426)] {
        assert_eq!(with(|lines| drop(lines.remove(missing))), expected, "{}", full()[missing]);
    }
    for doubled in [0, 3, 4] {
        assert_eq!(with(|lines| lines.push(lines[doubled].clone())), 400, "{}", full()[doubled]);
    }
    assert_eq!(with(|lines| lines.extend(["Origin: a".to_owned(), "Origin: a".to_owned()])), 400);
    assert_eq!(with(|lines| lines[3] = "Sec-WebSocket-Key: c2hvcnQ=".to_owned()), 400);
    assert_eq!(with(|lines| lines[4] = "Sec-WebSocket-Version: 8".to_owned()), 426);
    assert_eq!(with(|lines| lines.push("Content-Length: 5".to_owned())), 400);
    assert_eq!(with(|lines| lines.push("Transfer-Encoding: chunked".to_owned())), 400);
    assert_eq!(with(|lines| lines.push("no header".to_owned())), 400);
    assert_eq!(with(|lines| lines.extend((0..64).map(|n| format!("X-{n}: 1")))), 431);
    let lines = full();
    let text = head(&lines.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(status(&text.replace("HTTP/1.1", "HTTP/1.0")), 400);
    assert_eq!(status(&text.replace("GET", "POST")), 405);
    let endless = format!("GET /tabmux/ws HTTP/1.1\r\nCookie: {}", "x".repeat(9_000));
    assert_eq!(status(&endless), 431);
}
