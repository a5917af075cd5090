//! UTF-8 that comes in parts.

use std::str::from_utf8;

/// Checks a text part by part, and refuses at the first byte that no text could have.
#[derive(Default)]
pub(super) struct Utf8 {
    /// The beginning of a character whose end has not come.
    held: [u8; 4],
    len: usize,
}

impl Utf8 {
    /// Takes a part; `false` when the text cannot become UTF-8 any more.
    pub(super) fn push(&mut self, mut bytes: &[u8]) -> bool {
        while let (1.., Some((&first, rest))) = (self.len, bytes.split_first()) {
            self.held[self.len] = first;
            self.len += 1;
            bytes = rest;
            match from_utf8(&self.held[..self.len]) {
                Ok(_) => self.len = 0,
                Err(error) if error.error_len().is_some() => return false,
                // Four bytes are a character or an error, so `held` is not overrun.
                Err(_) => {}
            }
        }
        let Err(error) = from_utf8(bytes) else {
            return true;
        };
        let tail = &bytes[error.valid_up_to()..];
        if error.error_len().is_some() {
            return false;
        }
        self.held[..tail.len()].copy_from_slice(tail);
        self.len = tail.len();
        true
    }

    /// Whether the text may end here.
    pub(super) const fn is_whole(&self) -> bool {
        self.len == 0
    }
}
