//! Reasons why a message is not a frame. The fault is always the sender's.

use std::fmt;

/// The reason why [`HubFrame::decode`](crate::HubFrame::decode) or
/// [`ServerFrame::decode`](crate::ServerFrame::decode) refused a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The message ended inside a field.
    Truncated,
    /// Bytes were left after the last field.
    TrailingBytes,
    /// A varint was longer than necessary, or larger than its field allows.
    BadVarint,
    /// The type belongs to the other direction, or is one of the invalid bytes `0x00`, `0x40`,
    /// `0x80` and `0xc0`.
    BadType(u8),
    /// The magic bytes of HELLO or WELCOME are missing. The sender is no tabmux peer.
    NotTabmux,
    /// HELLO or WELCOME names no version that this peer speaks.
    UnsupportedVersion {
        /// The oldest version that the sender speaks.
        min: u32,
        /// The newest version that the sender speaks.
        max: u32,
    },
    /// A text field was not UTF-8.
    BadText,
    /// A field held a value that has no meaning. The text names the field.
    BadValue(&'static str),
    /// A field was longer than the format allows. The text names the field.
    TooLong(&'static str),
}

impl DecodeError {
    /// Returns what is wrong, without the numbers and field names that `Display` adds. The hub in
    /// WebAssembly uses it, because the code of `Display` would make its module larger.
    pub const fn summary(&self) -> &'static str {
        match self {
            Self::Truncated => "the message ended inside a field",
            Self::TrailingBytes => "bytes were left after the last field",
            Self::BadVarint => "a varint was not minimal or out of range",
            Self::BadType(_) => "no frame of this direction has its type",
            Self::NotTabmux => "the magic bytes of tabmux were missing",
            Self::UnsupportedVersion { .. } => "the peer speaks other versions",
            Self::BadText => "a text field was not UTF-8",
            Self::BadValue(_) => "a field held a value that has no meaning",
            Self::TooLong(_) => "a field was longer than allowed",
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadType(code) => write!(f, "no frame of this direction has type {code:#04x}"),
            Self::UnsupportedVersion { min, max } => {
                let (oldest, newest) = (crate::OLDEST_VERSION, crate::NEWEST_VERSION);
                write!(f, "the peer speaks versions {min} to {max}, not {oldest} to {newest}")
            }
            Self::BadValue(field) => write!(f, "{field} held a value that has no meaning"),
            Self::TooLong(field) => write!(f, "{field} was longer than allowed"),
            Self::Truncated
            | Self::TrailingBytes
            | Self::BadVarint
            | Self::NotTabmux
            | Self::BadText => f.write_str(self.summary()),
        }
    }
}

impl std::error::Error for DecodeError {}
