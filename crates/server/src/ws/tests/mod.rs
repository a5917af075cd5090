//! The codec against itself in all cuts, and at its limits.

mod deflate;
mod differential;
mod handshake;

use proptest::{collection::vec, prelude::*};
use tungstenite::{Message, WebSocket, protocol::Role};

use super::{Accept, Decoder, Fault, Opcode, put_close, put_frame};
use crate::conformance::{self, Heard, Hearing};

const LIMIT: usize = 1 << 20;
const PLAIN: Accept = Accept { limit: LIMIT, deflate: false };

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
    conformance::hear(bytes, cuts.iter().copied(), PLAIN).heard
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
    assert_eq!(
        conformance::hear(&fragments, [], Accept { limit: 100, ..PLAIN }).heard,
        [Heard::Fault(Fault::TooBig)]
    );
    assert_eq!(
        conformance::hear(&fragments, [], Accept { limit: 101, ..PLAIN }).heard,
        [Heard::Binary(vec![0; 101])]
    );
}

#[test]
fn nothing_is_kept_once_all_is_heard() {
    let bytes = [client(0x02, &[1; 70_000]), client(0x89, b"p"), client(0x80, b"x")].concat();
    let mut hearing = Hearing::new(PLAIN);
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
        conformance::check(&bytes, &cuts, 100, false);
        conformance::check(&bytes, &cuts, 100, true);
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
