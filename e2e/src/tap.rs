//! Reads one direction of a proxy's connection: a head of HTTP, then messages.

use std::io::Cursor;

use tungstenite::protocol::frame::{
    FrameHeader,
    coding::{Control, Data, OpCode},
};

use crate::Result;

/// Splits the bytes of a connection into items.
#[derive(Debug, Default)]
pub(crate) struct Tap {
    /// Bytes that are not a whole item yet.
    bytes: Vec<u8>,
    /// Number of bytes that were taken out of `bytes`.
    taken: u64,
    is_past_head: bool,
}

/// One item of what an end of a connection sent.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Item {
    /// The head of the request, or of the answer to it.
    Head(String),
    /// A binary message of the WebSocket.
    Message(Vec<u8>),
    /// The close of the WebSocket.
    Close,
}

/// Largest message that either end of a link sends, in bytes.
const LONGEST: u64 = 4 << 20;

impl Tap {
    /// Adds bytes that have arrived, in pieces of any size.
    pub(crate) fn hear(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Returns how many bytes have arrived in all.
    pub(crate) fn heard(&self) -> u64 {
        self.taken + self.bytes.len() as u64
    }

    /// Returns the next whole item, and how many bytes came before it. Bytes that cannot be read
    /// are an error, because a check that understands nothing would find no fault.
    pub(crate) fn next(&mut self) -> Result<Option<(u64, Item)>> {
        let at = self.taken;
        let next = if self.is_past_head { self.frame()? } else { self.head() };
        Ok(next.map(|item| (at, item)))
    }

    fn head(&mut self) -> Option<Item> {
        let end = self.bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let head = String::from_utf8_lossy(&self.bytes[..end]).into_owned();
        self.take(end);
        self.is_past_head = true;
        Some(Item::Head(head))
    }

    fn frame(&mut self) -> Result<Option<Item>> {
        let mut cursor = Cursor::new(&self.bytes);
        let header = FrameHeader::parse(&mut cursor).map_err(|error| error.to_string())?;
        let Some((header, length)) = header else { return Ok(None) };
        if header.rsv1 || header.rsv2 || header.rsv3 {
            return Err("a compressed message".into());
        }
        if !header.is_final || length > LONGEST {
            return Err(format!("a message in pieces, or of {length} bytes"));
        }
        let start = cursor.position() as usize;
        let end = start + length as usize;
        let Some(payload) = self.bytes.get(start..end) else { return Ok(None) };
        let mask = header.mask.unwrap_or_default();
        let payload = payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        let item = match header.opcode {
            OpCode::Data(Data::Binary) => Item::Message(payload.collect()),
            OpCode::Control(Control::Close) => Item::Close,
            other @ (OpCode::Data(_) | OpCode::Control(_)) => {
                return Err(format!("a frame of the type {other}"));
            }
        };
        self.take(end);
        Ok(Some(item))
    }

    fn take(&mut self, end: usize) {
        self.bytes.drain(..end);
        self.taken += end as u64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(tap: &mut Tap) -> Vec<(u64, Item)> {
        std::iter::from_fn(|| tap.next().unwrap()).collect()
    }

    #[test]
    fn items_come_whole_however_their_bytes_come() {
        let head = "HTTP/1.1 101 Switching Protocols\r\n\r\n";
        // The bytes are `hi`, the same masked, and a close.
        let frames = [0x82, 2, b'h', b'i', 0x82, 0x82, 1, 2, 3, 4, b'h' ^ 1, b'i' ^ 2, 0x88, 0];
        let bytes = [head.as_bytes(), &frames].concat();
        let hi = || Item::Message(b"hi".to_vec());
        let wanted = [(0, Item::Head(head.into())), (36, hi()), (40, hi()), (48, Item::Close)];
        for size in 1..=bytes.len() {
            let mut tap = Tap::default();
            let mut items = Vec::new();
            for part in bytes.chunks(size) {
                tap.hear(part);
                items.extend(all(&mut tap));
            }
            assert_eq!(items, wanted, "in parts of {size}");
            assert_eq!(tap.heard(), bytes.len() as u64);
        }
    }

    #[test]
    fn bytes_that_cannot_be_read_are_an_error() {
        let (compressed, piece, text, ping) = ([0xc2, 0], [0x02, 0], [0x81, 0], [0x89, 0]);
        for bytes in [compressed, piece, text, ping, [0x83, 0]] {
            let mut tap = Tap::default();
            tap.hear(b"GET / HTTP/1.1\r\n\r\n");
            tap.hear(&bytes);
            assert!(tap.next().unwrap().is_some());
            assert!(tap.next().is_err(), "{bytes:x?}");
        }
    }
}
