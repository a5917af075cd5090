//! Why bytes are no frame. The fault is always the sender's.

use std::fmt;

/// Why [`HubFrame::decode`](crate::HubFrame::decode) or
/// [`ServerFrame::decode`](crate::ServerFrame::decode) refused a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DecodeError {
    /// The message ended inside a field.
    Truncated,
    /// Bytes were left after the last field.
    TrailingBytes,
    /// A varint was longer than it needs to be, or larger than its field.
    BadVarint,
    /// The type belongs to the other direction, or is none: `0x00`, `0x40`, `0x80`, `0xc0`.
    BadType(u8),
    /// HELLO or WELCOME without the magic bytes: the sender is no tabmux peer.
    NotTabmux,
    /// HELLO or WELCOME of versions this peer does not speak.
    UnsupportedVersion {
        /// The oldest version the sender speaks.
        min: u32,
        /// The newest version the sender speaks.
        max: u32,
    },
    /// A text field was not UTF-8.
    BadText,
    /// A field held a value that has no meaning; the text names the field.
    BadValue(&'static str),
    /// A field was longer than the format allows; the text names the field.
    TooLong(&'static str),
}

impl DecodeError {
    /// Returns what is wrong, without the numbers and names of it, for those to whom the code of
    /// `Display` is too large.
    pub const fn summary(&self) -> &'static str {
        match self {
            Self::Truncated => "the message ended inside a field",
            Self::TrailingBytes => "bytes were left after the last field",
            Self::BadVarint => "a varint was not minimal or out of range",
            Self::BadType(_) => "no frame of this direction has its type",
            Self::NotTabmux => "the magic bytes of tabmux were missing",
            Self::UnsupportedVersion { .. } => "it speaks other versions",
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
