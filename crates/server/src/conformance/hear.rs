//! What a client's bytes come to, however they are cut: for tests and for fuzzing.

use crate::ws::{Accept, Decoder, Event, Fault, Inflater, Kind};

/// What came of a client's bytes, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Heard {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong,
    /// Nothing after it is heard, nor after a fault.
    Close(Option<(u16, String)>),
    Fault(Fault),
}

/// Hears one client.
pub(crate) struct Hearing {
    decoder: Decoder,
    inflater: Inflater,
    accept: Accept,
    pub(crate) heard: Vec<Heard>,
}

impl Hearing {
    pub(crate) fn new(accept: Accept) -> Self {
        let (decoder, inflater) = (Decoder::default(), Inflater::default());
        Self { decoder, inflater, accept, heard: Vec::new() }
    }

    /// Takes what came; whether more can be heard after it.
    pub(crate) fn take(&mut self, bytes: &[u8]) -> bool {
        let mut bytes = bytes.to_vec();
        let mut input = bytes.as_mut_slice();
        loop {
            let event = match self.decoder.next(&mut input, self.accept) {
                Ok(Some(Event::Deflated(kind, bytes))) => {
                    let bytes = self.inflater.inflate(kind, bytes, self.accept.limit);
                    bytes.map(|bytes| Some(Event::Message(kind, bytes)))
                }
                event => event,
            };
            self.heard.push(match event {
                // Inflated above.
                Ok(Some(Event::Deflated(..))) => continue,
                Ok(None) => return true,
                Ok(Some(Event::Message(Kind::Text, bytes))) => Heard::Text(bytes.to_vec()),
                Ok(Some(Event::Message(Kind::Binary, bytes))) => Heard::Binary(bytes.to_vec()),
                Ok(Some(Event::Ping(bytes))) => Heard::Ping(bytes.to_vec()),
                Ok(Some(Event::Pong)) => Heard::Pong,
                Ok(Some(Event::Close(close))) => {
                    let close = close.map(|(code, reason)| (code, reason.to_owned()));
                    self.heard.push(Heard::Close(close));
                    return false;
                }
                Err(fault) => {
                    self.heard.push(Heard::Fault(fault));
                    return false;
                }
            });
        }
    }

    /// Bytes on the heap.
    pub(crate) fn held(&self) -> usize {
        self.decoder.held()
    }
}

/// What a client says in pieces of these lengths, the rest at once.
pub(crate) fn hear(bytes: &[u8], cuts: impl IntoIterator<Item = usize>, accept: Accept) -> Hearing {
    let (mut hearing, mut rest) = (Hearing::new(accept), bytes);
    for cut in cuts {
        let (piece, after) = rest.split_at(cut.min(rest.len()));
        rest = after;
        if !hearing.take(piece) {
            return hearing;
        }
    }
    hearing.take(rest);
    hearing
}

/// Checks what must hold for any bytes in any cuts, with messages that may be deflated or not.
///
/// # Panics
/// When something does not hold.
pub fn check(bytes: &[u8], cuts: &[u8], limit: usize, deflate: bool) {
    let accept = Accept { limit, deflate };
    let whole = hear(bytes, [], accept);
    let (mut pieces, mut rest) = (Hearing::new(accept), bytes);
    // An end of the cuts is the end of the pieces: the rest comes at once.
    for cut in cuts.iter().map(|&cut| usize::from(cut)).chain([usize::MAX]) {
        let (piece, after) = rest.split_at(cut.min(rest.len()));
        rest = after;
        let more = pieces.take(piece);
        // A buffer may be twice what is in it.
        assert!(pieces.held() <= 2 * limit + 512, "{} bytes for a limit of {limit}", pieces.held());
        if !more {
            break;
        }
    }
    assert_eq!(pieces.heard, whole.heard);
    for heard in &whole.heard {
        match heard {
            Heard::Text(text) => assert!(text.len() <= limit && str::from_utf8(text).is_ok()),
            Heard::Binary(bytes) => assert!(bytes.len() <= limit),
            Heard::Ping(bytes) => assert!(bytes.len() <= 125),
            Heard::Pong | Heard::Close(_) | Heard::Fault(_) => {}
        }
    }
    if !matches!(whole.heard.last(), Some(Heard::Close(_) | Heard::Fault(_))) && is_over(bytes) {
        assert_eq!((whole.held(), pieces.held()), (0, 0), "an idle link holds memory");
    }
}

/// Whether no frame and no message is in parts after these bytes, which have no fault.
fn is_over(mut bytes: &[u8]) -> bool {
    let mut within = false;
    while let [first, second, rest @ ..] = bytes {
        let (size, len) = match second & 0x7f {
            126 => (2, rest.first_chunk().map(|&len| u64::from(u16::from_be_bytes(len)))),
            127 => (8, rest.first_chunk().map(|&len| u64::from_be_bytes(len))),
            len => (0, Some(u64::from(len))),
        };
        let end = len.and_then(|len| usize::try_from(len).ok()?.checked_add(size + 4));
        let Some(after) = end.and_then(|end| rest.get(end..)) else {
            return false;
        };
        if first & 0x0f < 8 {
            within = first & 0x80 == 0;
        }
        bytes = after;
    }
    bytes.is_empty() && !within
}
