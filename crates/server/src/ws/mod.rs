//! RFC 6455 and RFC 7692 in the server's role, without IO: the upgrade, frames to messages,
//! messages to frames.
//!
//! Nothing here is held by a link that is idle. A message that comes whole is unmasked where the
//! caller read it and handed out from there; only one that comes in parts is put together on the
//! heap, and given back when it was handed out.

mod decoder;
mod deflate;
mod extension;
mod frame;
mod mask;
#[cfg(test)]
mod tests;
pub(crate) mod upgrade;
mod utf8;

use std::fmt;

pub(crate) use self::{
    decoder::{Accept, Decoder, Event},
    deflate::{Deflater, Inflater},
    extension::Agreed,
    frame::{put_close, put_deflated, put_frame},
};

/// What a frame is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Opcode {
    Continuation = 0,
    Text = 1,
    Binary = 2,
    Close = 8,
    Ping = 9,
    Pong = 10,
}

/// The two kinds of messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Text,
    Binary,
}

/// What a peer did that ends the connection. Nothing that follows can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It broke the protocol.
    Protocol(&'static str),
    /// A text was not UTF-8.
    Utf8,
    /// A message was larger than the limit.
    TooBig,
    /// What was said to be deflated was not.
    Deflate,
}

impl Opcode {
    pub(crate) const fn is_control(self) -> bool {
        matches!(self, Self::Close | Self::Ping | Self::Pong)
    }
}

impl Kind {
    pub(crate) const fn opcode(self) -> Opcode {
        match self {
            Self::Text => Opcode::Text,
            Self::Binary => Opcode::Binary,
        }
    }
}

impl Fault {
    /// The code to close with.
    pub(crate) const fn code(self) -> u16 {
        match self {
            Self::Protocol(_) => 1002,
            Self::Utf8 | Self::Deflate => 1007,
            Self::TooBig => 1009,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Protocol(what) => what,
            Self::Utf8 => "a text was not UTF-8",
            Self::TooBig => "a message was larger than the limit",
            Self::Deflate => "a message could not be inflated",
        })
    }
}
