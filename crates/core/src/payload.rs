//! What an application sends, owned.

use tabmux_wire::Payload;

/// Text or bytes, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnedPayload {
    /// Text.
    Text(String),
    /// Bytes.
    Binary(Vec<u8>),
}

impl OwnedPayload {
    /// Its length in bytes.
    pub const fn len(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Binary(bytes) => bytes.len(),
        }
    }

    /// Whether it has no bytes.
    pub const fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The same, borrowed.
    pub fn as_payload(&self) -> Payload<'_> {
        match self {
            Self::Text(text) => Payload::Text(text),
            Self::Binary(bytes) => Payload::Binary(bytes),
        }
    }
}

impl From<Payload<'_>> for OwnedPayload {
    fn from(payload: Payload<'_>) -> Self {
        match payload {
            Payload::Text(text) => Self::Text(text.to_owned()),
            Payload::Binary(bytes) => Self::Binary(bytes.to_owned()),
        }
    }
}

impl From<String> for OwnedPayload {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<&str> for OwnedPayload {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<Vec<u8>> for OwnedPayload {
    fn from(bytes: Vec<u8>) -> Self {
        Self::Binary(bytes)
    }
}
