//! permessage-deflate: what is offered and agreed, the examples of RFC 7692, bombs, round trips.

use proptest::{collection::vec, prelude::*};

use super::{LIMIT, client, whole};
use crate::{
    conformance::{Heard, check, hear},
    ws::{Accept, Agreed, Deflater, Fault, Inflater, Kind, Opcode, put_deflated},
};

const DEFLATE: Accept = Accept { limit: LIMIT, deflate: true };
/// "Hello" as section 7.2.3.1 deflates it.
const HELLO: [u8; 7] = [0xf2, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00];

fn agreed(headers: &[&str]) -> Agreed {
    Agreed::of(headers.iter().map(|header| header.as_bytes()))
}

/// What is heard of frames, in one piece and byte by byte.
fn heard(bytes: &[u8]) -> Vec<Heard> {
    let at_once = hear(bytes, [], DEFLATE).heard;
    assert_eq!(hear(bytes, vec![1; bytes.len()], DEFLATE).heard, at_once);
    at_once
}

fn text(text: &str) -> Vec<Heard> {
    vec![Heard::Text(text.as_bytes().to_vec())]
}

#[test]
fn what_is_offered_and_what_is_agreed() {
    for offer in [
        "permessage-deflate",
        "Permessage-Deflate",
        "permessage-deflate; client_max_window_bits",
        "permessage-deflate; client_max_window_bits=10",
        "permessage-deflate;client_max_window_bits=\"8\"",
        "permessage-deflate; client_no_context_takeover; server_no_context_takeover",
        "permessage-deflate ; CLIENT_NO_CONTEXT_TAKEOVER ;client_max_window_bits = 15",
        "x-webkit-deflate-frame, permessage-deflate",
        "other; text=\"a, permessage-deflate; b\\\"\", permessage-deflate",
        // Section 7.1.3: the second choice.
        "permessage-deflate; client_max_window_bits; server_max_window_bits=10, \
         permessage-deflate; client_max_window_bits",
        "permessage-deflate; unknown=1, permessage-deflate",
    ] {
        assert_eq!(agreed(&[offer]), Agreed::Deflate, "{offer}");
    }
    for offer in [
        "permessage-deflate; server_max_window_bits=15",
        "permessage-deflate; server_max_window_bits=\"15\"; server_no_context_takeover",
    ] {
        assert_eq!(agreed(&[offer]), Agreed::FullWindow, "{offer}");
    }
    for offer in [
        "",
        "permessage-bzip2",
        "permessage-deflate-frame",
        "other; text=\"permessage-deflate\"",
        "other; text=\", permessage-deflate",
        // A smaller window would need another compressor.
        "permessage-deflate; server_max_window_bits=10",
        "permessage-deflate; server_max_window_bits=8",
        // Section 7.1: what is unknown, said twice, or has a wrong value.
        "permessage-deflate; unknown",
        "permessage-deflate; server_max_window_bits",
        "permessage-deflate; server_max_window_bits=16",
        "permessage-deflate; server_max_window_bits=015",
        "permessage-deflate; client_max_window_bits=7",
        "permessage-deflate; client_max_window_bits=16",
        "permessage-deflate; client_max_window_bits=08",
        "permessage-deflate; client_max_window_bits=",
        "permessage-deflate; client_no_context_takeover=1",
        "permessage-deflate; server_no_context_takeover=",
        "permessage-deflate; client_no_context_takeover; client_no_context_takeover",
        "permessage-deflate; client_max_window_bits; client_max_window_bits=10",
        "permessage-deflate;",
    ] {
        assert_eq!(agreed(&[offer]), Agreed::Nothing, "{offer}");
    }
    assert_eq!(agreed(&[]), Agreed::Nothing);
    assert_eq!(agreed(&["other", "permessage-deflate"]), Agreed::Deflate);
    assert_eq!(agreed(&["permessage-deflate"]).only_if(false), Agreed::Nothing);
}

#[test]
fn no_context_is_taken_over() {
    assert_eq!(Agreed::Nothing.header(), None);
    for agreed in [Agreed::Deflate, Agreed::FullWindow] {
        let header = agreed.header().unwrap();
        let both = "permessage-deflate; server_no_context_takeover; client_no_context_takeover";
        assert!(header.starts_with(both));
        let named = header.ends_with("; server_max_window_bits=15");
        assert_eq!(named, agreed == Agreed::FullWindow);
    }
}

#[test]
fn the_examples_of_the_rfc() {
    assert_eq!(heard(&client(0xc1, &HELLO)), text("Hello"));
    let fragments = [client(0x41, &HELLO[..3]), client(0x89, b"p"), client(0x80, &HELLO[3..])];
    assert_eq!(heard(&fragments.concat())[1..], text("Hello"));
    let stored = [0, 5, 0, 0xfa, 0xff, b'H', b'e', b'l', b'l', b'o', 0];
    assert_eq!(heard(&client(0xc1, &stored)), text("Hello"));
    let last = [0xf3, 0x48, 0xcd, 0xc9, 0xc9, 0x07, 0x00, 0x00];
    assert_eq!(heard(&client(0xc1, &last)), text("Hello"));
    let two = [0xf2, 0x48, 0x05, 0, 0, 0, 0xff, 0xff, 0xca, 0xc9, 0xc9, 0x07, 0];
    assert_eq!(heard(&client(0xc1, &two)), text("Hello"));
    assert_eq!(heard(&client(0xc1, &[0])), text(""));
    // Not of the RFC: a last block with nothing behind it, and nothing at all.
    assert_eq!(heard(&client(0xc1, &last[..7])), text("Hello"));
    assert_eq!(heard(&client(0xc1, &[])), text(""));
}

#[test]
fn a_message_knows_nothing_of_the_one_before() {
    // Section 7.2.3.2: "Hello" again, as a reference to the first.
    let again = [client(0xc1, &HELLO), client(0xc1, &[0xf2, 0x00, 0x11, 0x00, 0x00])].concat();
    assert_eq!(heard(&again)[1], Heard::Fault(Fault::Deflate));
}

#[test]
fn messages_are_deflated_or_not_as_the_client_likes() {
    let bytes = [client(0x81, b"plain"), client(0xc1, &HELLO), client(0x82, &HELLO)].concat();
    let expected = [
        Heard::Text(b"plain".to_vec()),
        Heard::Text(b"Hello".to_vec()),
        Heard::Binary(HELLO.to_vec()),
    ];
    assert_eq!(heard(&bytes), expected);
}

#[test]
fn the_mark_stands_on_the_first_frame_of_a_message_that_may_be_deflated() {
    let refused = |bytes: &[u8]| {
        let heard = heard(bytes);
        matches!(heard.last(), Some(Heard::Fault(Fault::Protocol(_))))
    };
    assert!(refused(&[client(0x41, &HELLO[..3]), client(0xc0, &HELLO[3..])].concat()));
    assert!(refused(&client(0xc9, b"")), "a ping");
    assert!(refused(&client(0xca, b"")), "a pong");
    assert!(refused(&client(0xc8, b"")), "a close");
    assert!(refused(&client(0xa1, &HELLO)), "the second reserved bit");
    assert!(refused(&client(0xd1, &HELLO)), "the third reserved bit");
    // Without an agreement.
    assert!(matches!(whole(&client(0xc1, &HELLO))[..], [Heard::Fault(Fault::Protocol(_))]));
}

#[test]
fn what_is_not_deflated_is_refused() {
    let refused = |payload: &[u8]| heard(&client(0xc2, payload)) == [Heard::Fault(Fault::Deflate)];
    assert!(refused(&[0xff]), "a reserved kind of block");
    assert!(refused(&[0, 5, 0, 0, 0, b'H']), "a stored block whose lengths differ");
    assert!(refused(&HELLO[..6]), "an end within a block");
    assert!(refused(&HELLO[..3]), "an end within a block");
    assert!(refused(&[&HELLO[..], &[0]].concat()), "half an empty block behind it");
    assert!(refused(&[0x03, 0x00].repeat(9)), "end behind end");
    let not_utf8 = deflate(0, b"a\xff").unwrap();
    assert_eq!(heard(&client(0xc1, &not_utf8)), [Heard::Fault(Fault::Utf8)]);
}

fn deflate(threshold: usize, payload: &[u8]) -> Option<Vec<u8>> {
    Deflater::new(threshold).deflate(payload).map(<[u8]>::to_vec)
}

#[test]
fn a_bomb_is_refused_at_the_limit() {
    let zeros = vec![0; 64 << 20];
    let bomb = deflate(0, &zeros).unwrap();
    assert!(bomb.len() < LIMIT / 10, "{} bytes", bomb.len());
    assert_eq!(heard(&client(0xc2, &bomb)), [Heard::Fault(Fault::TooBig)]);
    let mut inflater = Inflater::default();
    assert_eq!(inflater.inflate(Kind::Binary, &bomb, LIMIT), Err(Fault::TooBig));
    assert!(inflater.held() <= 2 * LIMIT, "{} bytes held", inflater.held());
    let exact = deflate(0, &zeros[..LIMIT]).unwrap();
    assert_eq!(inflater.inflate(Kind::Binary, &exact, LIMIT).unwrap().len(), LIMIT);
    let over = deflate(0, &zeros[..=LIMIT]).unwrap();
    assert_eq!(inflater.inflate(Kind::Binary, &over, LIMIT), Err(Fault::TooBig));
    // The room for an unusual message goes with the next one.
    assert_eq!(inflater.inflate(Kind::Text, &HELLO, LIMIT), Ok(&b"Hello"[..]));
    assert!(inflater.held() <= 128 << 10, "{} bytes held", inflater.held());
    // What is deflated may be a little larger than what is not, and no more.
    let noise = client(0xc2, &vec![0; LIMIT + LIMIT / 128]);
    assert_eq!(heard(&noise), [Heard::Fault(Fault::TooBig)]);
}

#[test]
fn what_is_short_or_does_not_get_shorter_is_sent_as_it_is() {
    let words = "all work and no play ".repeat(50);
    assert_eq!(deflate(words.len() + 1, words.as_bytes()), None);
    let deflated = deflate(words.len(), words.as_bytes()).unwrap();
    assert!(deflated.len() < words.len() / 5);
    assert_eq!(deflate(1, b"short"), None);
    // Section 7.2.3.6.
    assert_eq!((deflate(1, b""), deflate(0, b"")), (None, Some(vec![0])));
    let mut frame = Vec::new();
    put_deflated(&mut frame, Opcode::Text, &HELLO);
    assert_eq!(frame, [&[0xc1, 7][..], &HELLO].concat());
}

proptest! {
    #[test]
    fn what_was_deflated_is_inflated(
        (word, times) in (vec(any::<u8>(), 0..300), 0..200_usize),
        next in vec(any::<u8>(), 0..70_000),
        cuts in vec(0..400_usize, 0..9),
    ) {
        let (mut deflater, mut bytes) = (Deflater::new(0), Vec::new());
        let messages = [word.repeat(times), next];
        for message in &messages {
            bytes.extend(client(0xc2, deflater.deflate(message).unwrap()));
        }
        let expected = messages.map(Heard::Binary).to_vec();
        prop_assert_eq!(hear(&bytes, cuts, DEFLATE).heard, expected);
    }

    #[test]
    fn damage_is_heard_the_same_however_it_is_cut(
        word in vec(any::<u8>(), 0..40),
        (at, damage) in (any::<prop::sample::Index>(), any::<u8>()),
        cuts in vec(0..20_u8, 0..60),
    ) {
        let mut bytes = client(0xc2, &deflate(0, &word.repeat(5)).unwrap());
        let at = at.index(bytes.len());
        bytes[at] ^= damage;
        check(&bytes, &cuts, 150, true);
    }
}
