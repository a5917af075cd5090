//! The decoder against a strict library: both hear the same messages, or both refuse.

use std::{
    io,
    pin::Pin,
    str::from_utf8,
    task::{Context, Poll, Waker},
};

use futures_util::StreamExt;
use proptest::{collection::vec, prelude::*};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_websockets::{Limits, ServerBuilder};

use super::{client, conversation};
use crate::{
    conformance::{Heard, hear},
    ws::{Accept, Fault},
};

/// Small, so that it is reached.
const LIMIT: usize = 400;

/// What either says of a client's bytes.
#[derive(Debug, PartialEq, Eq)]
struct Said {
    messages: Vec<Heard>,
    end: End,
}

#[derive(Debug, PartialEq, Eq)]
enum End {
    /// More may come.
    Open,
    Close(Option<(u16, String)>),
    /// The code of the refusal.
    Refused(u16),
}

fn ours(bytes: &[u8]) -> (Said, Option<Fault>) {
    let mut messages = hear(bytes, [], Accept { limit: LIMIT, deflate: false }).heard;
    let (end, fault) = match messages.pop() {
        Some(Heard::Close(close)) => (End::Close(close), None),
        Some(Heard::Fault(fault)) => (End::Refused(fault.code()), Some(fault)),
        last => {
            messages.extend(last);
            (End::Open, None)
        }
    };
    (Said { messages, end }, fault)
}

fn theirs(bytes: &[u8]) -> Said {
    let mut client = Client { said: bytes, answered: Vec::new() };
    let limits = Limits::default().max_payload_len(Some(LIMIT));
    let mut messages = Vec::new();
    let end = {
        let mut stream = ServerBuilder::new().limits(limits).serve(&mut client);
        let mut context = Context::from_waker(Waker::noop());
        let mut end = End::Open;
        loop {
            match stream.poll_next_unpin(&mut context) {
                Poll::Pending | Poll::Ready(None) => break end,
                Poll::Ready(Some(Ok(message))) => {
                    let payload = message.as_payload().to_vec();
                    if message.is_close() {
                        let close = message.as_close().filter(|_| !payload.is_empty());
                        let close = close.map(|(code, reason)| (code.into(), reason.to_owned()));
                        end = End::Close(close);
                        break end;
                    }
                    messages.push(if message.is_text() {
                        Heard::Text(payload)
                    } else if message.is_binary() {
                        Heard::Binary(payload)
                    } else if message.is_ping() {
                        Heard::Ping(payload)
                    } else {
                        Heard::Pong
                    });
                }
                // The next poll sends the close.
                Poll::Ready(Some(Err(_))) => end = End::Refused(0),
            }
        }
    };
    let end = if end == End::Refused(0) { End::Refused(client.close_code()) } else { end };
    Said { messages, end }
}

/// A client that has said all it will say, and keeps what is answered.
struct Client<'a> {
    said: &'a [u8],
    answered: Vec<u8>,
}

impl Client<'_> {
    /// The code of the close that ends what was answered.
    fn close_code(&self) -> u16 {
        let mut rest = self.answered.as_slice();
        // Behind pongs, which are short.
        while let [first, len, payload @ ..] = rest {
            if *first == 0x88 {
                return u16::from_be_bytes([payload[0], payload[1]]);
            }
            rest = &payload[usize::from(*len)..];
        }
        panic!("no close: {:?}", self.answered)
    }
}

impl AsyncRead for Client<'_> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.said.is_empty() {
            return Poll::Pending;
        }
        let (now, later) = self.said.split_at(self.said.len().min(buffer.remaining()));
        buffer.put_slice(now);
        self.said = later;
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Client<'_> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.answered.extend_from_slice(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// Compares, but for where they may differ.
fn compare(mut bytes: Vec<u8>) -> Result<(), TestCaseError> {
    let refused = |said: &Said| matches!(said.end, End::Refused(_));
    if refused(&ours(&bytes).0) || refused(&theirs(&bytes)) {
        // Either looks at some things earlier than the other: at the latest, when all is there.
        bytes.resize(bytes.len() + LIMIT + 14, 0);
    }
    let ((ours, fault), theirs) = (ours(&bytes), theirs(&bytes));
    let broken = |heard: &Heard| matches!(heard, Heard::Text(text) if from_utf8(text).is_err());
    if let Some(at) = theirs.messages.iter().position(broken) {
        // It lets a text end within a character if its last frame is empty.
        prop_assert_eq!(fault, Some(Fault::Utf8));
        prop_assert_eq!(&ours.messages, &theirs.messages[..at]);
        return Ok(());
    }
    prop_assert_eq!(&ours.messages, &theirs.messages);
    match (fault, &theirs.end) {
        // To the library such a length is a large one.
        (Some(Fault::Protocol("a length had its highest bit set")), End::Refused(1009)) => {}
        // It looks into the frame that makes a message too large.
        (Some(Fault::TooBig), End::Refused(1007)) => {}
        _ => prop_assert_eq!(&ours.end, &theirs.end, "{:?}", fault),
    }
    Ok(())
}

/// One damage to a stream.
#[derive(Clone, Debug)]
enum Damage {
    Flip(u8),
    Insert(Vec<u8>),
    Remove(usize),
    Repeat(usize),
}

fn damage() -> impl Strategy<Value = (prop::sample::Index, Damage)> {
    let damage = prop_oneof![
        3 => (1..=u8::MAX).prop_map(Damage::Flip),
        1 => vec(any::<u8>(), 1..6).prop_map(Damage::Insert),
        1 => (1..20_usize).prop_map(Damage::Remove),
        1 => (1..40_usize).prop_map(Damage::Repeat),
    ];
    (any::<prop::sample::Index>(), damage)
}

fn apply(bytes: &mut Vec<u8>, at: prop::sample::Index, damage: Damage) {
    let at = at.index(bytes.len() + 1);
    let until = |len: usize| bytes.len().min(at + len);
    match damage {
        Damage::Flip(bits) => {
            if let Some(byte) = bytes.get_mut(at) {
                *byte ^= bits;
            }
        }
        Damage::Insert(new) => drop(bytes.splice(at..at, new)),
        Damage::Remove(len) => drop(bytes.drain(at..until(len))),
        Damage::Repeat(len) => {
            let again = bytes[at..until(len)].to_vec();
            drop(bytes.splice(at..at, again));
        }
    }
}

/// Any frame, right or wrong by itself or where it stands.
fn frame() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![8 => 0..3_u8, 2 => 8..11_u8, 1 => 0..16_u8];
    let first = (opcode, prop_oneof![9 => Just(0), 1 => 0..8_u8], any::<bool>());
    let payload = prop_oneof![
        2 => vec(any::<u8>(), 0..140),
        4 => "[a-zé€😀]{0,20}".prop_map(String::into_bytes),
        // A character in parts.
        2 => ("[é€😀]{1,2}", 0..3_usize, 0..3_usize).prop_map(|(text, begin, end)| {
            let bytes = text.as_bytes();
            bytes[begin.min(1)..bytes.len().max(end + 1) - end].to_vec()
        }),
        2 => (prop_oneof![1000..1020_u16, 2990..5002_u16], "[aé]{0,9}")
            .prop_map(|(code, reason)| [&code.to_be_bytes(), reason.as_bytes()].concat()),
    ];
    (first, payload).prop_map(|((opcode, reserved, fin), payload)| {
        client(u8::from(fin) << 7 | reserved << 4 | opcode, &payload)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn a_strict_library_hears_the_same_of_what_is_right((bytes, _) in conversation()) {
        compare(bytes)?;
    }

    #[test]
    fn a_strict_library_hears_the_same_of_what_is_damaged(
        (mut bytes, _) in conversation(),
        close in prop::option::of((990..1020_u16, "[a-zé]{0,60}")),
        damages in vec(damage(), 1..4),
    ) {
        if let Some((code, reason)) = &close {
            let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
            bytes.extend(client(0x88, &payload[..payload.len().min(125)]));
        }
        for (at, damage) in damages {
            apply(&mut bytes, at, damage);
        }
        compare(bytes)?;
    }

    #[test]
    fn a_strict_library_hears_the_same_of_any_frames(frames in vec(frame(), 1..8)) {
        compare(frames.concat())?;
    }
}
