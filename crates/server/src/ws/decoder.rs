//! Bytes of a client to its messages.

use std::str::from_utf8;

use super::{
    Fault, Kind, Opcode,
    frame::{Header, MAX_HEADER},
    mask::unmask,
    utf8::Utf8,
};

/// What came from a client.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Event<'a> {
    /// A message. A text is UTF-8.
    Message(Kind, &'a [u8]),
    /// A message that is to be inflated; a text is not looked at before.
    Deflated(Kind, &'a [u8]),
    /// A ping; a pong with the same bytes is due.
    Ping(&'a [u8]),
    /// A pong.
    Pong,
    /// A close with code and reason, if it had any. Nothing after it is to be read.
    Close(Option<(u16, &'a str)>),
}

/// What is taken from a client.
#[derive(Clone, Copy)]
pub(crate) struct Accept {
    /// The largest message.
    pub(crate) limit: usize,
    /// Whether messages may be deflated.
    pub(crate) deflate: bool,
}

/// Reads what one client sends. Eight bytes while no frame or message is in parts.
#[derive(Default)]
pub(crate) struct Decoder {
    parts: Option<Box<Parts>>,
}

/// What has come of a header, a frame and a message that are not whole.
#[derive(Default)]
struct Parts {
    header: [u8; MAX_HEADER],
    header_len: usize,
    frame: Option<Frame>,
    control: Vec<u8>,
    message: Option<Growing>,
    /// What the last event was made of and the next call gives back.
    handed_out: Option<Opcode>,
}

/// A frame whose payload is coming.
struct Frame {
    header: Header,
    taken: u64,
}

/// A message that is put together.
struct Growing {
    kind: Kind,
    deflated: bool,
    bytes: Vec<u8>,
    utf8: Utf8,
}

/// What can be handed out.
enum Ready {
    /// The frame at the beginning of the input, to be unmasked there.
    InPlace(Header),
    /// The message or control frame in the parts.
    Parts(Opcode),
}

impl Decoder {
    /// Takes bytes from the front of the input up to the next event; `None` when the input is
    /// used up. A message above the limit is refused before room is made for it.
    pub(crate) fn next<'s, 'i: 's>(
        &'s mut self,
        input: &mut &'i mut [u8],
        accept: Accept,
    ) -> Result<Option<Event<'s>>, Fault> {
        self.give_back();
        match self.advance(input, accept)? {
            None => Ok(None),
            Some(Ready::InPlace(header)) => {
                // `advance` saw that the whole frame is there, so its length is a usize.
                let (frame, rest) =
                    std::mem::take(input).split_at_mut(header.size + header.len as usize);
                *input = rest;
                let payload = &mut frame[header.size..];
                unmask(payload, header.mask, 0);
                if header.opcode == Opcode::Text && !header.deflated && from_utf8(payload).is_err()
                {
                    return Err(Fault::Utf8);
                }
                event(header.opcode, header.deflated, payload).map(Some)
            }
            Some(Ready::Parts(opcode)) => {
                let parts = self.parts.get_or_insert_default();
                parts.handed_out = Some(opcode);
                let (deflated, payload) = match &parts.message {
                    Some(message) if !opcode.is_control() => (message.deflated, &message.bytes),
                    _ => (false, &parts.control),
                };
                event(opcode, deflated, payload).map(Some)
            }
        }
    }

    /// Bytes on the heap.
    pub(crate) fn held(&self) -> usize {
        let Some(parts) = &self.parts else {
            return 0;
        };
        let message = parts.message.as_ref().map_or(0, |message| message.bytes.capacity());
        size_of::<Parts>() + parts.control.capacity() + message
    }

    /// Frees what the last event showed.
    fn give_back(&mut self) {
        let Some(parts) = &mut self.parts else {
            return;
        };
        match parts.handed_out.take() {
            Some(opcode) if opcode.is_control() => parts.control = Vec::new(),
            Some(_) => parts.message = None,
            None => {}
        }
        if parts.header_len == 0 && parts.frame.is_none() && parts.message.is_none() {
            self.parts = None;
        }
    }

    fn advance(&mut self, input: &mut &mut [u8], accept: Accept) -> Result<Option<Ready>, Fault> {
        while !input.is_empty() {
            if let Some(parts) = &mut self.parts
                && parts.frame.is_some()
            {
                if let Some(opcode) = parts.take_payload(input)? {
                    return Ok(Some(Ready::Parts(opcode)));
                }
                continue;
            }
            let held = self.parts.as_ref().map_or(0, |parts| parts.header_len);
            let parsed = match &mut self.parts {
                Some(parts) if held > 0 => parts.take_header(input, accept.deflate)?,
                _ => Header::parse(input, accept.deflate)?,
            };
            let Some(header) = parsed else {
                if held == 0 {
                    self.parts.get_or_insert_default().hold_header(input);
                }
                return Ok(None);
            };
            self.check(&header, accept.limit)?;
            let whole = header.len <= (input.len().saturating_sub(header.size)) as u64;
            let alone = header.opcode != Opcode::Continuation && header.fin;
            if held == 0 && whole && alone {
                return Ok(Some(Ready::InPlace(header)));
            }
            let parts = self.parts.get_or_insert_default();
            if held == 0 {
                *input = &mut std::mem::take(input)[header.size..];
            }
            if let Some(opcode) = parts.begin(header)? {
                return Ok(Some(Ready::Parts(opcode)));
            }
        }
        Ok(None)
    }

    /// Whether a frame may come now, and fits.
    fn check(&self, header: &Header, limit: usize) -> Result<(), Fault> {
        let growing = self.parts.as_ref().and_then(|parts| parts.message.as_ref());
        match (header.opcode, growing) {
            (Opcode::Continuation, None) => {
                return Err(Fault::Protocol("a continuation came without a beginning"));
            }
            (Opcode::Text | Opcode::Binary, Some(_)) => {
                return Err(Fault::Protocol("a message began inside of another"));
            }
            _ => {}
        }
        let before = growing.map_or(0, |message| message.bytes.len()) as u64;
        let limit = if growing.map_or(header.deflated, |message| message.deflated) {
            // What cannot be made smaller gets a little larger.
            limit + limit / 256 + 64
        } else {
            limit
        };
        if !header.opcode.is_control() && before.saturating_add(header.len) > limit as u64 {
            return Err(Fault::TooBig);
        }
        Ok(())
    }
}

impl Parts {
    /// Keeps the beginning of a header.
    fn hold_header(&mut self, input: &mut &mut [u8]) {
        let bytes = std::mem::take(input);
        self.header[..bytes.len()].copy_from_slice(bytes);
        self.header_len = bytes.len();
    }

    /// Completes the header that was kept, if the input has its end.
    fn take_header(
        &mut self,
        input: &mut &mut [u8],
        deflate: bool,
    ) -> Result<Option<Header>, Fault> {
        let held = self.header_len;
        let more = input.len().min(MAX_HEADER - held);
        self.header[held..held + more].copy_from_slice(&input[..more]);
        let parsed = Header::parse(&self.header[..held + more], deflate)?;
        let used = parsed.map_or(more, |header| header.size - held);
        self.header_len = if parsed.is_some() { 0 } else { held + more };
        *input = &mut std::mem::take(input)[used..];
        Ok(parsed)
    }

    /// Begins a frame; its opcode if it was empty and something is whole now.
    fn begin(&mut self, header: Header) -> Result<Option<Opcode>, Fault> {
        match header.opcode {
            Opcode::Text => self.message = Some(Growing::new(Kind::Text, header.deflated)),
            Opcode::Binary => self.message = Some(Growing::new(Kind::Binary, header.deflated)),
            Opcode::Continuation | Opcode::Close | Opcode::Ping | Opcode::Pong => {}
        }
        self.frame = Some(Frame { header, taken: 0 });
        if header.len == 0 { self.end() } else { Ok(None) }
    }

    /// Takes what the input has of the frame's payload.
    fn take_payload(&mut self, input: &mut &mut [u8]) -> Result<Option<Opcode>, Fault> {
        let Some(Frame { header, taken }) = &mut self.frame else {
            return Ok(None);
        };
        let missing = usize::try_from(header.len - *taken).unwrap_or(usize::MAX);
        let come = missing.min(input.len());
        let (bytes, rest) = std::mem::take(input).split_at_mut(come);
        *input = rest;
        unmask(bytes, header.mask, *taken);
        *taken += bytes.len() as u64;
        let done = *taken == header.len;
        match &mut self.message {
            Some(message) if !header.opcode.is_control() => message.push(bytes)?,
            _ => self.control.extend_from_slice(bytes),
        }
        if done { self.end() } else { Ok(None) }
    }

    /// Ends a frame; what became whole with it.
    fn end(&mut self) -> Result<Option<Opcode>, Fault> {
        let Some(Frame { header, .. }) = self.frame.take() else {
            return Ok(None);
        };
        if header.opcode.is_control() {
            return Ok(Some(header.opcode));
        }
        match &self.message {
            Some(message) if header.fin => {
                let whole = message.kind == Kind::Binary || message.utf8.is_whole();
                if whole { Ok(Some(message.kind.opcode())) } else { Err(Fault::Utf8) }
            }
            _ => Ok(None),
        }
    }
}

impl Growing {
    fn new(kind: Kind, deflated: bool) -> Self {
        Self { kind, deflated, bytes: Vec::new(), utf8: Utf8::default() }
    }

    fn push(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        if self.kind == Kind::Text && !self.deflated && !self.utf8.push(bytes) {
            return Err(Fault::Utf8);
        }
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }
}

fn event(opcode: Opcode, deflated: bool, payload: &[u8]) -> Result<Event<'_>, Fault> {
    Ok(match opcode {
        Opcode::Text if deflated => Event::Deflated(Kind::Text, payload),
        Opcode::Binary if deflated => Event::Deflated(Kind::Binary, payload),
        Opcode::Text => Event::Message(Kind::Text, payload),
        Opcode::Binary | Opcode::Continuation => Event::Message(Kind::Binary, payload),
        Opcode::Ping => Event::Ping(payload),
        Opcode::Pong => Event::Pong,
        Opcode::Close => Event::Close(close(payload)?),
    })
}

fn close(payload: &[u8]) -> Result<Option<(u16, &str)>, Fault> {
    if payload.is_empty() {
        return Ok(None);
    }
    let Some((&code, reason)) = payload.split_first_chunk() else {
        return Err(Fault::Protocol("a close had half a code"));
    };
    let code = u16::from_be_bytes(code);
    if !matches!(code, 1000..=1003 | 1007..=1014 | 3000..=4999) {
        return Err(Fault::Protocol("a close had a code that may not be sent"));
    }
    let reason = from_utf8(reason).map_err(|_| Fault::Utf8)?;
    Ok(Some((code, reason)))
}
