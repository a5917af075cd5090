//! One frame: its header read, its bytes written.

use super::{Fault, Opcode};

/// The longest header of a client's frame.
pub(super) const MAX_HEADER: usize = 14;
/// The longest payload of a control frame.
const MAX_CONTROL: u64 = 125;
/// The bit of the first byte that marks a deflated message.
const DEFLATED: u8 = 0x40;

/// The header of a client's frame.
#[derive(Clone, Copy)]
pub(super) struct Header {
    pub(super) fin: bool,
    /// It begins a message that is deflated.
    pub(super) deflated: bool,
    pub(super) opcode: Opcode,
    pub(super) mask: [u8; 4],
    /// Bytes of the payload.
    pub(super) len: u64,
    /// Bytes of the header itself.
    pub(super) size: usize,
}

impl Header {
    /// Reads a header; `None` when more bytes must come. Refuses as early as it can. `deflate`:
    /// whether messages may be deflated.
    pub(super) fn parse(bytes: &[u8], deflate: bool) -> Result<Option<Self>, Fault> {
        let Some(&first) = bytes.first() else {
            return Ok(None);
        };
        if first & 0x30 != 0 || first & DEFLATED != 0 && !deflate {
            return Err(Fault::Protocol("a reserved bit of a frame was set"));
        }
        let (fin, opcode) = (first & 0x80 != 0, opcode(first & 0x0f)?);
        let deflated = first & DEFLATED != 0;
        if deflated && !matches!(opcode, Opcode::Text | Opcode::Binary) {
            return Err(Fault::Protocol("a frame that begins no message was marked as deflated"));
        }
        if opcode.is_control() && !fin {
            return Err(Fault::Protocol("a control frame was fragmented"));
        }
        let Some(&second) = bytes.get(1) else {
            return Ok(None);
        };
        if second & 0x80 == 0 {
            return Err(Fault::Protocol("a frame was not masked"));
        }
        let Some((len, at)) = length(second & 0x7f, &bytes[2..])? else {
            return Ok(None);
        };
        if opcode.is_control() && len > MAX_CONTROL {
            return Err(Fault::Protocol("a control frame was longer than 125 bytes"));
        }
        let mask = bytes.get(2 + at..).and_then(<[u8]>::first_chunk::<4>);
        Ok(mask.map(|&mask| Self { fin, deflated, opcode, mask, len, size: 2 + at + 4 }))
    }
}

fn opcode(number: u8) -> Result<Opcode, Fault> {
    Ok(match number {
        0 => Opcode::Continuation,
        1 => Opcode::Text,
        2 => Opcode::Binary,
        8 => Opcode::Close,
        9 => Opcode::Ping,
        10 => Opcode::Pong,
        _ => return Err(Fault::Protocol("a frame had a reserved opcode")),
    })
}

/// The payload's length, and how many bytes tell it beyond the seven bits given.
fn length(short: u8, rest: &[u8]) -> Result<Option<(u64, usize)>, Fault> {
    let (len, size, least) = match short {
        126 => (rest.first_chunk().map(|&bytes| u64::from(u16::from_be_bytes(bytes))), 2, 126),
        127 => (rest.first_chunk().map(|&bytes| u64::from_be_bytes(bytes)), 8, 1 << 16),
        _ => (Some(u64::from(short)), 0, 0),
    };
    match len {
        Some(len) if len < least => Err(Fault::Protocol("a length was not in its shortest form")),
        Some(len) if len >> 63 != 0 => Err(Fault::Protocol("a length had its highest bit set")),
        len => Ok(len.map(|len| (len, size))),
    }
}

/// Appends a frame as a server sends it, whole and without a mask.
pub(crate) fn put_frame(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let len = payload.len();
    out.reserve(len + MAX_HEADER - 4);
    out.push(0x80 | opcode as u8);
    match (u8::try_from(len), u16::try_from(len)) {
        (Ok(short @ ..=125), _) => out.push(short),
        (_, Ok(medium)) => {
            out.push(126);
            out.extend_from_slice(&medium.to_be_bytes());
        }
        _ => {
            out.push(127);
            out.extend_from_slice(&(len as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(payload);
}

/// Appends a message whose payload is deflated.
pub(crate) fn put_deflated(out: &mut Vec<u8>, opcode: Opcode, payload: &[u8]) {
    let at = out.len();
    put_frame(out, opcode, payload);
    out[at] |= DEFLATED;
}

/// Appends a close frame. The code must be one that may be sent; a reason longer than 123 bytes
/// is cut.
pub(crate) fn put_close(out: &mut Vec<u8>, code: u16, reason: &str) {
    let reason = &reason[..reason.floor_char_boundary(123)];
    let payload = [&code.to_be_bytes(), reason.as_bytes()].concat();
    put_frame(out, Opcode::Close, &payload);
}
