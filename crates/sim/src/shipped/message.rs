//! Messages that cross a WebSocket.

use std::fmt;

/// A message of a WebSocket.
#[derive(Clone, PartialEq, Eq)]
pub enum Message {
    /// A text message, in UTF-8.
    Text(String),
    /// A binary message of any bytes.
    Bytes(Vec<u8>),
}

impl From<String> for Message {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<u8>> for Message {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Bytes(bytes)
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => write!(f, "{text:?}"),
            Self::Bytes(bytes) => write!(f, "{bytes:02x?}"),
        }
    }
}

impl Message {
    /// Returns the text of the message, whether it was sent as text or as bytes.
    pub fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Bytes(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        }
    }

    /// Returns the size of the message in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::Text(text) => text.len() as u64,
            Self::Bytes(bytes) => bytes.len() as u64,
        }
    }
}
